//! One shutdown signal in steps, and one deadline; whoever must finish holds a guard.
//!
//! Owns: the steps, and the count of guards of either side.
//! Never: decides how long to wait (that is `app`).
//! Called by: listener and proxy (hold guards, watch the signal), app and admin (start it, wait).
//!
//! Why in steps: an application that is told to end still finishes what others asked of it, and for
//! that it may have to call out (ISTIO.md I11).

use std::sync::Arc;

use tokio::sync::watch;

/// How far it is. Each step includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    #[default]
    Serving,
    /// Inbound connections end after their request; new ones still come, as those who send them may
    /// not know yet.
    Leaving,
    /// No new inbound connections.
    InboundClosed,
    /// No new connections, and all end after their request.
    Closing,
}

/// Whose connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What others open to the application, or to a gateway.
    Inbound,
    /// What the application opens.
    Outbound,
}

/// Starts a drain and waits for it.
#[derive(Clone)]
pub struct Drain {
    step: Arc<watch::Sender<Step>>,
    inbound: Arc<watch::Sender<()>>,
    outbound: Arc<watch::Sender<()>>,
}

/// Held by whoever must finish before the process may end.
pub struct DrainGuard {
    signal: Signal,
    _alive: watch::Receiver<()>,
}

/// Says when somebody is to end; nobody waits for its holder.
#[derive(Clone)]
pub struct Signal {
    step: watch::Receiver<Step>,
    /// From here on he is to end.
    ends_at: Step,
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
            step: Arc::default(),
            inbound: Arc::new(watch::Sender::new(())),
            outbound: Arc::new(watch::Sender::new(())),
        }
    }

    /// The same drain with a signal of its own, which somebody has to pass on with
    /// [`Drain::follow`]. For one worker: waiting for a signal takes its lock with every poll, and
    /// connections are polled for every request.
    pub fn local(&self) -> Drain {
        Drain {
            step: Arc::new(watch::Sender::new(*self.step.borrow())),
            ..self.clone()
        }
    }

    /// Takes every step that `other` takes, until the last.
    pub async fn follow(&self, other: &Drain) {
        let mut steps = other.step.subscribe();
        loop {
            let step = *steps.borrow_and_update();
            self.to(step);
            if step == Step::Closing || steps.changed().await.is_err() {
                return;
            }
        }
    }

    /// Tells inbound connections to end after their request, and takes new ones still.
    pub fn leave(&self) {
        self.to(Step::Leaving);
    }

    /// No new inbound connections; the application may go on calling out.
    pub fn close_inbound(&self) {
        self.to(Step::InboundClosed);
    }

    /// No new connections at all. Doing so twice is the same as once.
    pub fn start(&self) {
        self.to(Step::Closing);
    }

    fn to(&self, step: Step) {
        self.step.send_if_modified(|now| {
            let later = *now < step;
            *now = step.max(*now);
            later
        });
    }

    /// True once there are no new inbound connections.
    pub fn has_closed_inbound(&self) -> bool {
        *self.step.borrow() >= Step::InboundClosed
    }

    /// True from its first step on.
    pub fn has_started(&self) -> bool {
        *self.step.borrow() > Step::Serving
    }

    /// A guard for a connection; the drain is over when the last one is dropped.
    pub fn guard(&self, side: Side) -> DrainGuard {
        let ends_at = match side {
            Side::Inbound => Step::Leaving,
            Side::Outbound => Step::Closing,
        };
        self.guard_until(side, ends_at)
    }

    /// A guard for whoever takes new connections.
    pub fn door(&self, side: Side) -> DrainGuard {
        let ends_at = match side {
            Side::Inbound => Step::InboundClosed,
            Side::Outbound => Step::Closing,
        };
        self.guard_until(side, ends_at)
    }

    fn guard_until(&self, side: Side, ends_at: Step) -> DrainGuard {
        let alive = match side {
            Side::Inbound => &self.inbound,
            Side::Outbound => &self.outbound,
        };
        DrainGuard {
            signal: Signal {
                step: self.step.subscribe(),
                ends_at,
            },
            _alive: alive.subscribe(),
        }
    }

    /// How many guards are held.
    pub fn held(&self) -> usize {
        self.held_inbound() + self.outbound.receiver_count()
    }

    /// How many of them are of the inbound side.
    pub fn held_inbound(&self) -> usize {
        self.inbound.receiver_count()
    }

    /// Returns when the last guard has been dropped.
    pub async fn finished(&self) {
        self.inbound.closed().await;
        self.outbound.closed().await;
    }
}

impl DrainGuard {
    /// Returns when its holder is to end.
    pub async fn started(&mut self) {
        self.signal.wait().await;
    }

    /// True once its holder is to end.
    pub fn has_started(&self) -> bool {
        self.signal.has_started()
    }

    /// When its holder is to end, for whoever waits in his stead.
    pub fn signal(&self) -> Signal {
        self.signal.clone()
    }
}

impl Signal {
    /// Returns then.
    pub async fn started(mut self) {
        self.wait().await;
    }

    /// True from then on.
    pub fn has_started(&self) -> bool {
        *self.step.borrow() >= self.ends_at
    }

    async fn wait(&mut self) {
        let ends_at = self.ends_at;
        if self.step.wait_for(|step| *step >= ends_at).await.is_err() {
            // The drain itself is gone, so nobody will ever start it.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drain_ends_when_the_last_guard_is_gone() {
        let drain = Drain::new();
        let mut guard = drain.guard(Side::Outbound);
        drain.start();
        guard.started().await;
        drop(guard);
        drain.finished().await;
    }

    #[tokio::test]
    async fn a_local_drain_has_its_own_signal_and_the_guards_of_the_whole() {
        let drain = Drain::new();
        let local = drain.local();
        let guard = local.guard(Side::Outbound);
        drain.start();
        assert!(!guard.has_started());
        assert_eq!(drain.held(), 1);
        local.start();
        assert!(guard.has_started());
    }

    #[tokio::test]
    async fn i11_the_inbound_side_ends_first_and_takes_new_connections_a_while() {
        let drain = Drain::new();
        let ended = |guard: &DrainGuard| guard.has_started();
        let guards = [
            drain.guard(Side::Inbound),
            drain.door(Side::Inbound),
            drain.guard(Side::Outbound),
            drain.door(Side::Outbound),
        ];
        drain.leave();
        assert_eq!(guards.each_ref().map(ended), [true, false, false, false]);
        drain.close_inbound();
        drain.leave();
        assert_eq!(guards.each_ref().map(ended), [true, true, false, false]);
        assert_eq!((drain.held_inbound(), drain.held()), (2, 4));
        drain.start();
        assert_eq!(guards.each_ref().map(ended), [true; 4]);
    }

    #[tokio::test]
    async fn a_follower_takes_every_step_and_ends_with_the_last() {
        let drain = Drain::new();
        let local = drain.local();
        let (follower, leader) = (local.clone(), drain.clone());
        let following = tokio::spawn(async move { follower.follow(&leader).await });
        let mut inbound = local.guard(Side::Inbound);
        drain.leave();
        inbound.started().await;
        assert!(!local.guard(Side::Outbound).has_started());
        drain.start();
        following.await.unwrap();
        assert!(local.guard(Side::Outbound).has_started());
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_does_not_end_while_a_guard_is_held() {
        let drain = Drain::new();
        let _guard = drain.guard(Side::Outbound);
        drain.start();
        let late = tokio::time::timeout(std::time::Duration::from_secs(60), drain.finished());
        assert!(late.await.is_err());
    }
}
