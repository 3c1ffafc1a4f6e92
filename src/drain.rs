//! One shutdown signal and one deadline; whoever must finish holds a guard.
//!
//! Owns: the signal, and the count of guards.
//! Never: decides how long to wait (that is `app`).
//! Called by: listener and proxy (hold guards, watch the signal), app and admin (start it, wait).

use std::sync::Arc;

use tokio::sync::watch;

/// Starts a drain and waits for it.
#[derive(Clone)]
pub struct Drain {
    started: Arc<watch::Sender<bool>>,
    alive: Arc<watch::Sender<()>>,
}

/// Held by whoever must finish before the process may end.
pub struct DrainGuard {
    started: watch::Receiver<bool>,
    _alive: watch::Receiver<()>,
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl Drain {
    /// A drain that has not started.
    pub fn new() -> Self {
        Drain {
            started: Arc::new(watch::Sender::new(false)),
            alive: Arc::new(watch::Sender::new(())),
        }
    }

    /// The same drain with a signal of its own, which somebody has to pass on. For one worker:
    /// waiting for a signal takes its lock with every poll, and connections are polled for every
    /// request.
    pub fn local(&self) -> Drain {
        Drain {
            started: Arc::new(watch::Sender::new(self.has_started())),
            alive: Arc::clone(&self.alive),
        }
    }

    /// Starts it. Doing so twice is the same as once.
    pub fn start(&self) {
        self.started.send_replace(true);
    }

    /// True once it has started.
    pub fn has_started(&self) -> bool {
        *self.started.borrow()
    }

    /// A guard; the drain is over when the last one is dropped.
    pub fn guard(&self) -> DrainGuard {
        DrainGuard {
            started: self.started.subscribe(),
            _alive: self.alive.subscribe(),
        }
    }

    /// How many guards are held.
    pub fn held(&self) -> usize {
        self.alive.receiver_count()
    }

    /// Returns when the last guard has been dropped.
    pub async fn finished(&self) {
        self.alive.closed().await;
    }

    /// Returns when the drain starts.
    pub async fn started(&self) {
        let mut started = self.started.subscribe();
        // The sender is ours and alive, so waiting cannot fail.
        let _ = started.wait_for(|on| *on).await;
    }
}

impl DrainGuard {
    /// Returns when the drain starts.
    pub async fn started(&mut self) {
        if self.started.wait_for(|on| *on).await.is_err() {
            // The drain itself is gone, so nobody will ever start it.
            std::future::pending::<()>().await;
        }
    }

    /// True once the drain has started.
    pub fn has_started(&self) -> bool {
        *self.started.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drain_ends_when_the_last_guard_is_gone() {
        let drain = Drain::new();
        let mut guard = drain.guard();
        drain.start();
        guard.started().await;
        drop(guard);
        drain.finished().await;
    }

    #[tokio::test]
    async fn a_local_drain_has_its_own_signal_and_the_guards_of_the_whole() {
        let drain = Drain::new();
        let local = drain.local();
        let guard = local.guard();
        drain.start();
        assert!(!guard.has_started());
        assert_eq!(drain.held(), 1);
        local.start();
        assert!(guard.has_started());
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_does_not_end_while_a_guard_is_held() {
        let drain = Drain::new();
        let _guard = drain.guard();
        drain.start();
        let late = tokio::time::timeout(std::time::Duration::from_secs(60), drain.finished());
        assert!(late.await.is_err());
    }
}
