//! When to look again after a failure: 100 ms, doubling to 10 s, then only at each poll (R12).
//!
//! Owns: the schedule, as a pure function of the times at which it is asked.
//! Never: sleeps.
//! Called by: `certs::store`.

use std::time::{Duration, SystemTime};

const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(10);

/// How often it has failed so far, and when to try again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    /// `None`: over, the poll will do.
    wait: Option<Duration>,
    since: SystemTime,
}

impl Backoff {
    /// The first failure, at `now`.
    pub(super) fn start(now: SystemTime) -> Backoff {
        Backoff {
            wait: Some(FIRST),
            since: now,
        }
    }

    /// It failed again at `now`. Being asked early does not count as a try.
    pub(super) fn again(&mut self, now: SystemTime) {
        let Some(wait) = self.wait.filter(|_| self.left(now) == Some(Duration::ZERO)) else {
            return;
        };
        self.wait = (wait < LAST).then(|| (wait * 2).min(LAST));
        self.since = now;
    }

    /// What is left of the pause; `None` when the schedule is over.
    pub(super) fn left(&self, now: SystemTime) -> Option<Duration> {
        let wait = self.wait?;
        // A clock that was set back must not stretch the pause.
        let waited = now.duration_since(self.since).unwrap_or(wait);
        Some(wait.saturating_sub(waited))
    }

    /// True once the schedule is over.
    pub(super) fn is_over(&self) -> bool {
        self.wait.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r12_a_failure_is_tried_again_at_growing_pauses_and_then_left_to_the_poll() {
        let mut now = SystemTime::UNIX_EPOCH;
        let mut backoff = Backoff::start(now);
        let mut pauses = Vec::new();
        while let Some(left) = backoff.left(now) {
            pauses.push(left.as_millis());
            now += left;
            backoff.again(now);
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 10_000]);
        assert!(backoff.is_over());
    }

    #[test]
    fn r12_a_check_before_its_time_does_not_use_up_a_try() {
        let start = SystemTime::UNIX_EPOCH;
        let mut backoff = Backoff::start(start);
        backoff.again(start + Duration::from_millis(40));
        let left = backoff.left(start + Duration::from_millis(40));
        assert_eq!(left, Some(Duration::from_millis(60)));
    }

    #[test]
    fn r12_a_clock_that_was_set_back_does_not_stretch_the_pause() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(3600);
        let backoff = Backoff::start(start);
        let left = backoff.left(SystemTime::UNIX_EPOCH);
        assert_eq!(left, Some(Duration::ZERO));
    }
}
