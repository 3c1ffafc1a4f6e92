//! Counters that no two workers write on the same cache line.
//!
//! Owns: the number of the shard that a thread writes to, and the sharded cells.
//! Never: knows what is counted.
//! Called by: every part of telemetry; worker (`set_shard`).
//!
//! Why shards: one atomic for all cores costs each request a cache miss as soon as two cores count.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Says that this thread is worker `index`, from 0, so that it writes to a shard of its own. A
/// thread that never says so shares the last shard with all the others of its kind.
pub fn set_shard(index: usize) {
    SHARD.set(index);
}

/// Two cache lines: the prefetcher of x86-64 fetches them in pairs.
#[repr(align(128))]
#[derive(Debug, Default)]
pub(super) struct Padded<T>(pub(super) T);

/// One `T` for each worker, and one for all other threads.
#[derive(Debug)]
pub(super) struct Shards<T> {
    cells: Box<[Padded<T>]>,
    others: Padded<T>,
}

impl<T: Default> Shards<T> {
    /// One cell for each of `workers`, and one more.
    pub(super) fn new(workers: usize) -> Self {
        Shards {
            cells: (0..workers).map(|_| Padded::default()).collect(),
            others: Padded::default(),
        }
    }
}

impl<T> Shards<T> {
    /// This thread's cell.
    pub(super) fn mine(&self) -> &T {
        let cell = self.cells.get(SHARD.get()).unwrap_or(&self.others);
        &cell.0
    }

    /// Every cell.
    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        let others = std::iter::once(&self.others);
        self.cells.iter().chain(others).map(|cell| &cell.0)
    }
}

/// Takes a lock that a panic elsewhere cannot spoil: what it guards is only ever counted up.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number that only grows, one cell a worker.
#[derive(Debug)]
pub struct Counter(Shards<AtomicU64>);

impl Counter {
    /// Zero, with a cell for each of `workers`.
    pub fn new(workers: usize) -> Self {
        Counter(Shards::new(workers))
    }

    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// `by` more.
    pub fn add(&self, by: u64) {
        self.0.mine().fetch_add(by, Ordering::Relaxed);
    }

    /// The sum over all cells.
    pub fn value(&self) -> u64 {
        let cells = self.0.all().map(|cell| cell.load(Ordering::Relaxed));
        cells.fold(0, u64::wrapping_add)
    }
}

/// A number that goes up and down, one cell a worker. It may go up on one worker and down on
/// another: only the sum means anything.
#[derive(Debug)]
pub struct Gauge(Shards<AtomicI64>);

impl Gauge {
    /// Zero, with a cell for each of `workers`.
    pub fn new(workers: usize) -> Self {
        Gauge(Shards::new(workers))
    }

    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// One less.
    pub fn dec(&self) {
        self.add(-1);
    }

    /// `by` more; a negative number makes it less.
    pub fn add(&self, by: i64) {
        self.0.mine().fetch_add(by, Ordering::Relaxed);
    }

    /// The sum over all cells.
    pub fn value(&self) -> i64 {
        let cells = self.0.all().map(|cell| cell.load(Ordering::Relaxed));
        cells.fold(0, i64::wrapping_add)
    }
}

/// One `T` for each thread that has asked for it, made then: most upstreams of a large table are
/// never used by most workers.
#[derive(Debug)]
pub(super) struct LazyShards<T>(Box<[OnceLock<Box<Padded<T>>>]>);

impl<T: Default> LazyShards<T> {
    /// Room for `workers` and one more; nothing is made yet.
    pub(super) fn new(workers: usize) -> Self {
        LazyShards((0..=workers).map(|_| OnceLock::new()).collect())
    }

    /// This thread's cell. `None` only if there were no cells at all, which `new` rules out.
    pub(super) fn mine(&self) -> Option<&T> {
        let (others, workers) = self.0.split_last()?;
        let cell = workers.get(SHARD.get()).unwrap_or(others);
        Some(&cell.get_or_init(Box::default).0)
    }

    /// Every cell that was made.
    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().filter_map(|cell| Some(&cell.get()?.0))
    }
}

/// Counts by a key of which only a few values are ever seen.
#[derive(Debug)]
pub(super) struct Few<K>(Vec<(K, u64)>);

impl<K> Default for Few<K> {
    fn default() -> Self {
        Few(Vec::new())
    }
}

impl<K: Copy + Ord> Few<K> {
    /// One more for `key`. Allocates only when the key is new.
    pub(super) fn inc(&mut self, key: K) {
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some((_, count)) => *count += 1,
            None => self.0.push((key, 1)),
        }
    }

    /// Adds these counts to `sums`.
    pub(super) fn add_to(&self, sums: &mut BTreeMap<K, u64>) {
        for (key, count) in &self.0 {
            *sums.entry(*key).or_insert(0) += count;
        }
    }
}

/// Counts by a label that the source code writes, so that there are only so many of them.
#[derive(Debug)]
pub struct ReasonCounter(Shards<Mutex<Few<&'static str>>>);

impl ReasonCounter {
    /// Empty, with a cell for each of `workers`.
    pub fn new(workers: usize) -> Self {
        ReasonCounter(Shards::new(workers))
    }

    /// One more for `reason`, a word such as `refused`.
    pub fn inc(&self, reason: &'static str) {
        lock(self.0.mine()).inc(reason);
    }

    /// The sums by reason, in alphabetical order.
    pub fn values(&self) -> Vec<(&'static str, u64)> {
        let mut sums = BTreeMap::new();
        self.0.all().for_each(|cell| lock(cell).add_to(&mut sums));
        sums.into_iter().collect()
    }

    /// The sum for `reason`.
    pub fn value(&self, reason: &str) -> u64 {
        let all = self.values();
        let found = all.iter().find(|(known, _)| *known == reason);
        found.map_or(0, |(_, count)| *count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_counter_sums_what_every_shard_and_every_other_thread_counted() {
        let counter = Arc::new(Counter::new(2));
        let gauge = Arc::new(Gauge::new(2));
        let threads: Vec<_> = (0..5)
            .map(|index| {
                let (counter, gauge) = (Arc::clone(&counter), Arc::clone(&gauge));
                std::thread::spawn(move || {
                    if index < 3 {
                        set_shard(index);
                    }
                    (0..1000).for_each(|_| counter.inc());
                    gauge.add(if index == 0 { 10 } else { -1 });
                })
            })
            .collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert_eq!((counter.value(), gauge.value()), (5000, 6));
    }

    #[test]
    fn a_worker_does_not_write_to_the_cell_of_another() {
        let counter = Arc::new(Counter::new(2));
        for index in [0, 1] {
            let counter = Arc::clone(&counter);
            let worker = std::thread::spawn(move || {
                set_shard(index);
                counter.add(7);
            });
            worker.join().unwrap();
        }
        let cells: Vec<u64> = counter.0.all().map(|c| c.load(Ordering::Relaxed)).collect();
        assert_eq!(cells, [7, 7, 0]);
        assert_eq!(align_of::<Padded<AtomicU64>>(), 128);
    }

    #[test]
    fn reasons_are_counted_each_for_itself() {
        let rejected = ReasonCounter::new(1);
        ["head", "smuggling", "head"]
            .into_iter()
            .for_each(|reason| rejected.inc(reason));
        assert_eq!(rejected.values(), [("head", 2), ("smuggling", 1)]);
        assert_eq!((rejected.value("head"), rejected.value("other")), (2, 0));
    }
}
