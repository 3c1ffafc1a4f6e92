//! A running proxy: where it listens, and how it is told to end.
//!
//! Owns: the threads' handles and the order of shutdown (ISTIO.md I11, I13, I14).
//! Never: ends before its drain has, or later than its deadline.
//! Called by: cli, tests.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::cold::Cold;
use crate::drain::Drain;
use crate::model::{ListenAddr, ListenerKind};
use crate::publish::{Report, Request};
use crate::telemetry::{AccessLog, Metrics, Status};
use crate::worker::Worker;

/// Every address that is really bound.
#[derive(Clone, Debug, Default)]
pub struct Bound {
    /// Listeners for traffic.
    pub listeners: Vec<(ListenerKind, ListenAddr)>,
    /// The admin port, if there is one.
    pub admin: Option<SocketAddr>,
    /// The status ports, in the order asked for.
    pub status: Vec<SocketAddr>,
}

/// How somebody asked for the end, from inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Nobody did.
    No,
    /// At once.
    Now,
}

/// How often shutdown looks whether the last guard is gone.
const LOOK: Duration = Duration::from_millis(10);
/// How long the last lines of the access log may take.
const FLUSH: Duration = Duration::from_secs(2);

/// A running proxy. Dropping it without [`Running::stop`] leaves its threads to the process.
pub struct Running {
    pub(super) bound: Arc<Mutex<Bound>>,
    pub(super) drain: Drain,
    pub(super) metrics: Arc<Metrics>,
    pub(super) drain_time: Duration,
    pub(super) drain_until_idle: bool,
    pub(super) drain_timeout: Duration,
    pub(super) status: Arc<Status>,
    pub(super) reload: mpsc::Sender<Request>,
    pub(super) access_log: Option<Arc<AccessLog>>,
    pub(super) workers: Arc<Vec<Worker>>,
    pub(super) stop: watch::Sender<bool>,
    pub(super) cold: Cold,
    pub(super) ended: watch::Receiver<Ended>,
}

impl Running {
    /// Every address that is bound now.
    pub fn bound(&self) -> Bound {
        self.bound
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Looks at every file now (R18). Blocks until it is done; `None` where the loop is gone.
    pub fn reload(&self) -> Option<Report> {
        if let Some(log) = &self.access_log {
            log.reopen();
        }
        let (report, answer) = oneshot::channel();
        self.reload.blocking_send(report).ok()?;
        answer.blocking_recv().ok()
    }

    /// Not ready any more, and no new connections; what is under way goes on.
    pub fn drain(&self) {
        self.status.hold("drain", "draining");
        self.drain.start();
    }

    /// Not ready any more, and nobody new comes in; the application may still call out (ISTIO.md
    /// I11).
    pub fn retire(&self) {
        self.status.hold("drain", "draining");
        self.drain.close_inbound();
    }

    /// True while every thread of the proxy runs.
    pub fn is_whole(&self) -> bool {
        self.cold.is_alive() && self.workers.iter().all(Worker::is_alive)
    }

    /// Readiness and remarks.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Turns when the admin port was told to end the process.
    pub fn ended(&self) -> watch::Receiver<Ended> {
        self.ended.clone()
    }

    /// Drains, first the inbound side and then all (I11), waits for the last request or the
    /// deadline, and ends every thread. True where nothing was cut off.
    pub fn stop(self) -> bool {
        self.stop_unless(|| {
            std::thread::sleep(LOOK);
            false
        })
    }

    /// The same, but ends at once when `hurry`, which is asked again and again and may wait a
    /// little, says so.
    pub fn stop_unless(self, mut hurry: impl FnMut() -> bool) -> bool {
        let begun = Instant::now();
        let deadline = begun + self.drain_timeout;
        let mut hurried = false;
        let mut wait = |goes_on: &dyn Fn() -> bool| {
            while !hurried && goes_on() && Instant::now() < deadline {
                hurried = hurry();
            }
        };
        self.status.hold("drain", "draining");
        self.drain.leave();
        // Whoever was told to drain before has drained (I13).
        wait(&|| !self.drain.has_closed_inbound() && begun.elapsed() < self.drain_time);
        self.drain.close_inbound();
        // What is still being answered may need the application to call out (I11).
        wait(&|| self.drain.held_inbound() > 0);
        // I12: as long as anybody is connected, where that is asked for.
        let connections = &self.metrics.downstream.connections;
        wait(&|| self.drain_until_idle && connections.value() > 0);
        self.drain.start();
        wait(&|| self.drain.held() > 0);
        let cut_off = self.drain.held();
        if cut_off > 0 {
            tracing::warn!(
                connections = cut_off,
                "the drain is over after at most {:?}; what is left is cut off",
                self.drain_timeout,
            );
        }
        self.end();
        cut_off == 0
    }

    /// Ends at once.
    pub fn kill(self) {
        self.drain();
        self.end();
    }

    fn end(self) {
        let Running {
            stop,
            cold,
            workers,
            access_log,
            reload,
            ..
        } = self;
        stop.send_replace(true);
        drop(reload);
        cold.join();
        // The reload loop held the other handle and is gone.
        if let Some(workers) = Arc::into_inner(workers) {
            workers.into_iter().for_each(Worker::join);
        }
        if let Some(log) = access_log
            && !log.flush(FLUSH)
        {
            tracing::warn!("the last lines of the access log could not be written");
        }
    }
}
