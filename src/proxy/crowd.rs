//! How many connections that have asked once may wait as tasks of their own.
//!
//! Owns: [`Crowd`], their number, and [`Member`], one of them.
//! Never: parks a connection.
//! Called by: `lot` (has one), `http1` (joins it).
//!
//! Why: whether a connection will ask again at once is known only afterwards. Of many that come together nearly all
//! will not, and what a task needs would stay with the process after all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// More than these are parked as soon as they wait.
const MOST: usize = 48;

/// Those of one worker.
#[derive(Default)]
pub(super) struct Crowd(Arc<AtomicUsize>);

/// A connection that waits as a task, and has not shown yet that it asks again soon.
pub(super) struct Member(Arc<AtomicUsize>);

impl Crowd {
    /// One more; `None` where there are too many.
    pub(super) fn join(&self) -> Option<Member> {
        let member = Member(Arc::clone(&self.0));
        let others = self.0.fetch_add(1, Ordering::Relaxed);
        (others < MOST).then_some(member)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_has_an_end_and_a_place_that_is_left_is_free_again() {
        let crowd = Crowd::default();
        let mut members: Vec<_> = std::iter::from_fn(|| crowd.join()).collect();
        assert_eq!(members.len(), MOST);
        assert!(crowd.join().is_none());
        members.pop();
        assert!(crowd.join().is_some());
        members.push(crowd.join().unwrap());
        assert!(crowd.join().is_none());
    }
}
