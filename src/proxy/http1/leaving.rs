//! Whether a connection is to end after the request under way.
//!
//! Owns: the guard that the drain waits for, for as long as the connection lives.
//! Never: ends anything.
//! Called by: `server`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::drain::{DrainGuard, Signal};
use crate::proxy::connection::Connection;
use crate::proxy::retire::retirement;

/// See the file's head.
pub(super) struct Leaving {
    /// `None`: given away.
    guard: Option<DrainGuard>,
    /// `None`: nothing was waited for yet.
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    told: bool,
}

impl Leaving {
    pub(super) fn new(guard: DrainGuard) -> Self {
        Leaving {
            guard: Some(guard),
            waiting: None,
            told: false,
        }
    }

    /// Ready once it is to end: the drain has begun, or the connection's time is over.
    pub(super) fn poll(&mut self, connection: &Arc<Connection>, cx: &mut Context<'_>) -> Poll<()> {
        if self.told {
            return Poll::Ready(());
        }
        let Some(guard) = &self.guard else {
            return Poll::Pending;
        };
        // It is waited for already, by the same task.
        if self.waiting.is_some() && connection.entrance.is_none() && !guard.has_started() {
            return Poll::Pending;
        }
        let waiting = self.waiting.get_or_insert_with(|| {
            let signal = guard.signal();
            match connection.entrance {
                None => Box::pin(signal.started()),
                Some(_) => Box::pin(either(signal, Arc::clone(connection))),
            }
        });
        let over = waiting.as_mut().poll(cx);
        self.told = over.is_ready();
        over
    }

    /// Gives the guard away: who has it waits from now on.
    pub(super) fn take_guard(&mut self) -> Option<DrainGuard> {
        self.guard.take()
    }

    /// Whether it is, while a request is under way. Connections of the mesh have no time that could be
    /// over meanwhile.
    pub(super) fn is_due(&mut self, connection: &Arc<Connection>, cx: &mut Context<'_>) -> bool {
        match connection.entrance {
            None => self.guard.as_ref().is_some_and(DrainGuard::has_started),
            Some(_) => self.poll(connection, cx).is_ready(),
        }
    }
}

async fn either(signal: Signal, connection: Arc<Connection>) {
    tokio::select! {
        () = signal.started() => {}
        () = retirement(&connection) => {}
    }
}
