//! A limit of the whole process that workers do not contend for.
//!
//! Owns: [`Quota`]: how many may still be taken, and how many each worker holds in reserve.
//! Never: waits.
//! Called by: `slot` (connections and requests of one upstream).
//!
//! Why reserves: one shared counter would be written by every core for every request. A worker
//! takes a batch at a time; before anyone is refused, the reserves of the others are searched.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Keeps what it holds on cache lines of its own.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Padded<T>(T);

/// At most so many at once.
#[derive(Debug)]
pub(super) struct Quota {
    limit: usize,
    batch: usize,
    free: Padded<AtomicUsize>,
    reserves: Box<[Padded<AtomicUsize>]>,
}

impl Quota {
    /// A limit for `workers` workers.
    pub(super) fn new(limit: usize, workers: usize) -> Quota {
        let workers = workers.max(1);
        Quota {
            limit,
            batch: (limit / (workers * 8)).clamp(1, 64),
            free: Padded(AtomicUsize::new(limit)),
            reserves: (0..workers).map(|_| Padded::default()).collect(),
        }
    }

    /// The limit.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Takes one; false where none is left. In a race for the very last one, both may be refused.
    pub(super) fn take(&self, worker: usize) -> bool {
        let Some(Padded(reserve)) = self.reserves.get(worker) else {
            return take_some(&self.free.0, 1) == 1;
        };
        if take_some(reserve, 1) == 1 {
            return true;
        }
        match take_some(&self.free.0, self.batch) {
            0 => self
                .reserves
                .iter()
                .any(|Padded(other)| take_some(other, 1) == 1),
            taken => {
                reserve.fetch_add(taken - 1, Relaxed);
                true
            }
        }
    }

    /// Gives one back.
    pub(super) fn give(&self, worker: usize) {
        let Some(Padded(reserve)) = self.reserves.get(worker) else {
            self.free.0.fetch_add(1, Relaxed);
            return;
        };
        if reserve.fetch_add(1, Relaxed) + 1 > 2 * self.batch {
            let surplus = take_some(reserve, self.batch);
            self.free.0.fetch_add(surplus, Relaxed);
        }
    }
}

/// Takes up to `most` and says how many it got.
fn take_some(from: &AtomicUsize, most: usize) -> usize {
    let taken = from.fetch_update(Relaxed, Relaxed, |n| (n > 0).then(|| n - n.min(most)));
    taken.map_or(0, |before| before.min(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_can_be_reached_by_one_worker_alone() {
        for limit in [1, 3, 1000] {
            let quota = Quota::new(limit, 4);
            assert_eq!((0..2000).filter(|_| quota.take(2)).count(), limit);
            quota.give(2);
            assert!(quota.take(0));
        }
    }

    #[test]
    fn the_limit_is_not_passed_whoever_takes_and_gives() {
        let quota = Quota::new(500, 3);
        assert_eq!((0..3000).filter(|i| quota.take(i % 3)).count(), 500);
        assert!(!quota.take(0) && !quota.take(1) && !quota.take(7));
        for i in 0..500 {
            quota.give(i % 4);
        }
        assert_eq!((0..3000).filter(|i| quota.take(i % 3)).count(), 500);
    }
}
