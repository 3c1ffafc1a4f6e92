//! Waiting for a fact instead of for a time.

use std::time::{Duration, Instant};

/// How long a fact may take on a slow machine before it counts as false.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Looks until `fact` is there, and returns it; fails with `what` if it never comes.
#[track_caller]
pub fn eventually<T>(what: &str, fact: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, fact)
}

/// The same with a bound of one's own.
#[track_caller]
pub fn within<T>(bound: Duration, what: &str, mut fact: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = fact() {
            return found;
        }
        assert!(began.elapsed() < bound, "not within {bound:?}: {what}");
        std::thread::sleep(PAUSE);
    }
}
