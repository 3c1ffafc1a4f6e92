//! What the requests of a connection and its socket must tell each other.
//!
//! Owns: flags and counts of one connection, and what its client did wrong.
//! Never: touches the socket.
//! Called by: `proxy::http1` and `proxy::guarded` (the socket's side), `forward`, `record`, `tunnel` (the request's).

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use super::alarm::Alarm;
use super::strict::Violation;

/// What the request's story and its socket must tell each other. One per connection.
#[derive(Default)]
pub(super) struct Control {
    /// Requests under way: the idle deadline does not run.
    pub(super) in_flight: AtomicU32,
    /// False for HTTP/2, whose streams end one by one.
    http1: bool,
    /// An answer was cut off: the socket must be reset, so that no client takes it for whole.
    reset: AtomicBool,
    /// Frames of bodies that went by, either way: what moves is alive.
    moves: AtomicU64,
    /// Nanoseconds from the guard's beginning to the last byte that came (HTTP/2).
    heard: AtomicU64,
    /// The fault was told as part of a request.
    told: AtomicBool,
    /// The connection is to end, politely.
    retired: Notify,
    /// What the client did wrong.
    violation: Mutex<Option<Fault>>,
    /// Of whoever waits in the connection's own task (HTTP/1).
    alarm: Mutex<Alarm>,
}

/// Why sortie ended the conversation with a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The framing was wrong.
    Violation(Violation),
    /// A request head took too long.
    HeadTimeout(Duration),
    /// The target is longer than any that we can pass on.
    TargetTooLong,
}

impl Fault {
    /// 400, 408, 414 or 431.
    pub(super) fn status(&self) -> u16 {
        match self {
            Fault::Violation(violation) => violation.status(),
            Fault::HeadTimeout(_) => 408,
            Fault::TargetTooLong => 414,
        }
    }

    /// One line in words.
    pub(super) fn words(&self) -> String {
        match self {
            Fault::Violation(violation) => violation.to_string(),
            Fault::HeadTimeout(limit) => {
                format!("the request head was not complete after {limit:?}")
            }
            Fault::TargetTooLong => "the request target is too long".to_owned(),
        }
    }

    /// A short name for counters.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Fault::Violation(violation) => violation.label(),
            Fault::HeadTimeout(_) => "head_timeout",
            Fault::TargetTooLong => "target_too_long",
        }
    }
}

impl Control {
    /// `http1`: a cut-off answer can only be told by cutting the connection off.
    pub(super) fn new(http1: bool) -> Self {
        Control {
            http1,
            ..Control::default()
        }
    }

    /// A byte came, so long after the guard's beginning.
    pub(super) fn hear(&self, after: Duration) {
        let nanos = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        self.heard.store(nanos, Ordering::Relaxed);
    }

    /// How long after the guard's beginning the last byte came.
    pub(super) fn heard(&self) -> Duration {
        Duration::from_nanos(self.heard.load(Ordering::Relaxed))
    }

    /// A frame of some body went by.
    pub(super) fn moved(&self) {
        self.moves.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns when requests were under way and no body moved for `patience`, or up to twice that.
    pub(super) async fn stalled(&self, patience: Duration) {
        let mut before = None;
        loop {
            tokio::time::sleep(patience).await;
            let moves = self.moves.load(Ordering::Relaxed);
            let busy = self.in_flight.load(Ordering::Relaxed) > 0;
            if busy && before == Some(moves) {
                return;
            }
            before = busy.then_some(moves);
        }
    }

    /// The connection ends once the requests under way are done.
    pub(super) fn retire(&self) {
        self.retired.notify_one();
    }

    /// Returns when it is to end so.
    pub(super) async fn retired(&self) {
        self.retired.notified().await;
    }

    /// True where the socket must not close politely.
    pub(super) fn is_reset(&self) -> bool {
        self.reset.load(Ordering::Relaxed)
    }

    /// False for HTTP/2.
    pub(super) fn is_http1(&self) -> bool {
        self.http1
    }

    /// The answer under way will never be whole.
    pub(super) fn set_reset(&self) {
        self.reset.store(self.http1, Ordering::Relaxed);
    }

    /// A request's own record tells of the fault, if there is one.
    pub(super) fn set_told(&self) {
        self.told.store(true, Ordering::Relaxed);
    }

    /// True where a request told of the fault already.
    pub(super) fn was_told(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }

    /// What the client did wrong, if anything.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.violation
            .lock()
            .map(|fault| fault.clone())
            .unwrap_or_default()
    }

    /// The connection's timer, for whoever waits next in its task. HTTP/2 has none: each of its
    /// requests is a task.
    pub(super) fn take_alarm(&self) -> Alarm {
        let alarm = self.alarm.lock();
        alarm
            .map(|mut alarm| std::mem::take(&mut *alarm))
            .unwrap_or_default()
    }

    /// Gives it back, as it is set: to move it costs more than to be woken once in vain.
    pub(super) fn keep_alarm(&self, alarm: Alarm) {
        if self.http1
            && let Ok(mut slot) = self.alarm.lock()
        {
            *slot = alarm;
        }
    }

    /// The first fault stays.
    pub(super) fn set_fault(&self, fault: Fault) {
        if let Ok(mut slot) = self.violation.lock() {
            slot.get_or_insert(fault);
        }
    }
}
