//! One thread, one current-thread runtime, its own accept loops and its own pools.
//!
//! Owns: the thread.
//! Never: shares a lock with another worker.
//! Called by: app.

use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::drain::Drain;
use crate::listener::{self, OriginalDestination};
use crate::model::ListenerKind;
use crate::proxy::ProxyContext;
use crate::telemetry;

/// A socket for a worker to accept from, until `closed` turns true.
pub struct Serve {
    /// Non-blocking, one of several on one port.
    pub socket: StdListener,
    /// How its connections learn their destination.
    pub kind: ListenerKind,
    /// TPROXY leads them here.
    pub transparent: bool,
    /// Turns true when the listener goes.
    pub closed: watch::Receiver<bool>,
}

/// A running worker. It ends when it is told to stop.
pub struct Worker {
    serve: mpsc::UnboundedSender<Serve>,
    thread: JoinHandle<()>,
}

impl Worker {
    /// Starts the thread.
    pub fn start(
        context: Arc<ProxyContext>,
        original_dst: Arc<dyn OriginalDestination>,
        drain: Drain,
        stop: watch::Receiver<bool>,
    ) -> io::Result<Worker> {
        let (serve, orders) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let name = format!("worker-{}", context.worker);
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            telemetry::set_shard(context.worker);
            runtime.block_on(work(context, original_dst, drain, orders, stop));
            // Whatever still runs is past its deadline.
            runtime.shutdown_background();
        })?;
        Ok(Worker { serve, thread })
    }

    /// Hands a socket over. Nothing happens where the worker is gone.
    pub fn serve(&self, order: Serve) {
        let _ = self.serve.send(order);
    }

    /// False where the thread has ended, which before [`Worker::join`] only a panic does.
    pub fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Waits for the thread's end.
    pub fn join(self) {
        drop(self.serve);
        if self.thread.join().is_err() {
            tracing::error!("a worker ended in a panic");
        }
    }
}

async fn work(
    context: Arc<ProxyContext>,
    original_dst: Arc<dyn OriginalDestination>,
    drain: Drain,
    mut orders: mpsc::UnboundedReceiver<Serve>,
    mut stop: watch::Receiver<bool>,
) {
    let local = drain.local();
    let follower = local.clone();
    tokio::spawn(async move {
        follower.follow(&drain).await;
    });
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let Some(Serve {
            socket,
            kind,
            transparent,
            closed,
        }) = order
        else {
            break;
        };
        match TcpListener::from_std(socket) {
            Ok(socket) => {
                let (context, original_dst) = (Arc::clone(&context), Arc::clone(&original_dst));
                let drain = local.clone();
                tokio::spawn(listener::run(
                    socket,
                    (kind, transparent),
                    context,
                    original_dst,
                    drain,
                    closed,
                ));
            }
            Err(error) => tracing::error!("a listening socket cannot be used: {error}"),
        }
    }
    // No more orders: the tasks go on until somebody says stop.
    let _ = stop.wait_for(|stop| *stop).await;
}
