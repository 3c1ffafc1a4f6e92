//! Connections on which nothing is under way: a socket each, and what is known of it, watched by one
//! task of their worker.
//!
//! Owns: what is kept of such a connection; its return as a task when bytes come or the drain
//! begins, its end when it has been silent for too long.
//! Never: reads a byte.
//! Called by: `proxy::http1`, `listener::connection`.
//!
//! Why: most connections wait most of the time, and a task of theirs keeps room for all that a
//! request needs.

use std::any::Any;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::alarm::Alarm;
use super::context::ProxyContext;
use super::downstream::Downstream;
use super::socket::Socket;
use crate::drain::DrainGuard;
use crate::model::{ListenerKind, OriginalDst, PeerAddr};

/// A connection that is silent for so long is parked.
pub const PATIENCE: Duration = Duration::from_millis(50);
/// Those that are silent for too long are looked for no oftener than this.
const LEAST: Duration = Duration::from_millis(10);
/// So many places without a connection are put up with.
const LEFT_BEHIND: usize = 64;

/// How a connection goes on.
pub type Resume =
    fn(Downstream, Arc<ProxyContext>, DrainGuard) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// The parked connections of one worker.
#[derive(Default)]
pub struct Lot {
    queues: Arc<Mutex<Queues>>,
}

/// What waits for the task that watches.
#[derive(Default)]
struct Queues {
    fresh: Vec<Arc<Spot>>,
    ready: Vec<Arc<Spot>>,
    /// `None`: it runs, and will look.
    task: Option<Waker>,
    /// There is one.
    running: bool,
}

/// One place. The socket wakes it, and it the task.
struct Spot {
    queues: Arc<Mutex<Queues>>,
    queued: AtomicBool,
    kept: Mutex<Option<Parked>>,
}

/// What is kept of a connection of the mesh: as little as can be.
struct Parked {
    stream: TcpStream,
    peer: Compact,
    local: Compact,
    original_dst: Option<Compact>,
    shown: Option<Box<IpAddr>>,
    captured: bool,
    held: Box<dyn Any + Send + Sync>,
    guard: DrainGuard,
    until: Instant,
    resume: Resume,
}

/// An address in half the room.
enum Compact {
    V4(SocketAddrV4),
    V6(Box<SocketAddrV6>),
}

impl From<SocketAddr> for Compact {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Compact::V4(address),
            SocketAddr::V6(address) => Compact::V6(Box::new(address)),
        }
    }
}

impl Compact {
    fn whole(&self) -> SocketAddr {
        match self {
            Compact::V4(address) => (*address).into(),
            Compact::V6(address) => (**address).into(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// True for connections that can be parked: clear text of the mesh.
pub fn can_park(kind: ListenerKind, stream: &Socket) -> bool {
    let of_mesh = matches!(kind, ListenerKind::Direct | ListenerKind::Capture);
    of_mesh && matches!(stream, Socket::Plain(_))
}

impl Lot {
    /// Parks a connection for which [`can_park`] is true, until bytes come, the drain begins, or
    /// `until`, which ends it. It goes on by `resume`, in a task of its own.
    pub fn park(
        &self,
        downstream: Downstream,
        context: &Arc<ProxyContext>,
        guard: DrainGuard,
        (until, resume): (Instant, Resume),
    ) {
        let Socket::Plain(stream) = downstream.stream else {
            return;
        };
        let signal = guard.signal();
        let parked = Parked {
            stream,
            peer: downstream.peer.0.into(),
            local: downstream.local.into(),
            original_dst: downstream.original_dst.map(|OriginalDst(to)| to.into()),
            shown: downstream.shown.map(Box::new),
            captured: downstream.kind == ListenerKind::Capture,
            held: downstream.held,
            guard,
            until,
            resume,
        };
        let spot = Arc::new(Spot {
            queues: Arc::clone(&self.queues),
            queued: AtomicBool::new(false),
            kept: Mutex::new(Some(parked)),
        });
        let mut queues = lock(&self.queues);
        queues.fresh.push(spot);
        if std::mem::replace(&mut queues.running, true) {
            let task = queues.task.take();
            drop(queues);
            if let Some(task) = task {
                task.wake();
            }
            return;
        }
        drop(queues);
        let mut watch = Watch {
            queues: Arc::clone(&self.queues),
            context: Arc::clone(context),
            all: Vec::new(),
            live: 0,
            leaving: Box::pin(signal.started()),
            told: false,
            alarm: Alarm::default(),
            sweep_at: None,
        };
        tokio::spawn(std::future::poll_fn(move |cx| watch.poll(cx)));
    }
}

impl Wake for Spot {
    fn wake(self: Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let queues = Arc::clone(&self.queues);
        let mut queues = lock(&queues);
        queues.ready.push(self);
        let task = queues.task.take();
        drop(queues);
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl Parked {
    fn go_on(self, context: &Arc<ProxyContext>) {
        let downstream = Downstream {
            stream: Socket::Plain(self.stream),
            first: Bytes::new(),
            peer: PeerAddr(self.peer.whole()),
            local: self.local.whole(),
            kind: match self.captured {
                true => ListenerKind::Capture,
                false => ListenerKind::Direct,
            },
            original_dst: self.original_dst.map(|to| OriginalDst(to.whole())),
            shown: self.shown.map(|shown| *shown),
            entrance: None,
            secured: None,
            made_with: None,
            held: self.held,
        };
        tokio::spawn((self.resume)(downstream, Arc::clone(context), self.guard));
    }
}

/// The task.
struct Watch {
    queues: Arc<Mutex<Queues>>,
    context: Arc<ProxyContext>,
    /// Every spot, and some whose connection is gone.
    all: Vec<Arc<Spot>>,
    live: usize,
    leaving: Pin<Box<dyn Future<Output = ()> + Send>>,
    told: bool,
    alarm: Alarm,
    sweep_at: Option<Instant>,
}

impl Watch {
    /// Ready once nothing is parked any more.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.look_at_queues(cx);
            self.told = self.told || self.leaving.as_mut().poll(cx).is_ready();
            if self.told {
                for spot in std::mem::take(&mut self.all) {
                    self.resume(&spot);
                }
            }
            while let Some(at) = self.sweep_at
                && self.alarm.poll(at, cx).is_ready()
            {
                self.sweep();
            }
            if self.all.len() > 2 * self.live + LEFT_BEHIND {
                self.all.retain(|spot| lock(&spot.kept).is_some());
                self.all.shrink_to(2 * self.live);
            }
            if self.live > 0 {
                return Poll::Pending;
            }
            let mut queues = lock(&self.queues);
            if queues.fresh.is_empty() {
                queues.running = false;
                queues.ready = Vec::new();
                return Poll::Ready(());
            }
        }
    }

    fn look_at_queues(&mut self, cx: &Context<'_>) {
        loop {
            let mut queues = lock(&self.queues);
            let fresh = std::mem::take(&mut queues.fresh);
            let ready = std::mem::take(&mut queues.ready);
            queues.task = Some(cx.waker().clone());
            drop(queues);
            if fresh.is_empty() && ready.is_empty() {
                return;
            }
            for spot in fresh {
                self.live += 1;
                self.look(&spot);
                self.all.push(spot);
            }
            for spot in ready {
                spot.queued.store(false, Ordering::Release);
                self.look(&spot);
            }
        }
    }

    /// Goes on where bytes have come, or the end; else the socket will wake.
    fn look(&mut self, spot: &Arc<Spot>) {
        let kept = lock(&spot.kept);
        let Some(parked) = kept.as_ref() else {
            return;
        };
        let waker = Waker::from(Arc::clone(spot));
        let came = parked
            .stream
            .poll_read_ready(&mut Context::from_waker(&waker));
        let until = parked.until;
        drop(kept);
        match came {
            Poll::Ready(_) => self.resume(spot),
            Poll::Pending => {
                let at = self.sweep_at.get_or_insert(until);
                *at = until.min(*at);
            }
        }
    }

    fn resume(&mut self, spot: &Spot) {
        if let Some(parked) = lock(&spot.kept).take() {
            self.live -= 1;
            parked.go_on(&self.context);
        }
    }

    /// Ends what has been silent for too long.
    fn sweep(&mut self) {
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        for spot in &self.all {
            let mut kept = lock(&spot.kept);
            let Some(until) = kept.as_ref().map(|parked| parked.until) else {
                continue;
            };
            if until <= now {
                // Nothing is unread: closing says that it ends.
                *kept = None;
                self.live -= 1;
            } else {
                next = Some(next.map_or(until, |next| next.min(until)));
            }
        }
        self.sweep_at = next.map(|next| next.max(now + LEAST));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // A socket and its spot hold each other.
        let queues = {
            let mut queues = lock(&self.queues);
            std::mem::take(&mut *queues)
        };
        for spot in self.all.iter().chain(&queues.fresh) {
            *lock(&spot.kept) = None;
        }
    }
}
