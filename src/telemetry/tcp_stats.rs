//! What is counted of connections whose bytes nobody here reads (ISTIO.md B1).
//!
//! Owns: [`TcpCounts`], one for each worker and upstream, and their sums.
//! Never: names a metric (that is `exposition_tcp`).
//! Called by: upstream_stats.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::flags::Flags;
use super::shard::{Few, lock};

/// The counts of one worker.
#[derive(Debug, Default)]
pub(super) struct TcpCounts {
    opened: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    closed: Mutex<Few<Flags>>,
}

/// Something of an opaque connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tcp {
    /// A client's connection, before its upstream was connected.
    Opened,
    /// It ended so.
    Closed(Flags),
    /// Bytes came from the client.
    Received(u64),
    /// Bytes went to the client.
    Sent(u64),
}

impl TcpCounts {
    pub(super) fn count(&self, what: Tcp) {
        match what {
            Tcp::Opened => drop(self.opened.fetch_add(1, Ordering::Relaxed)),
            Tcp::Closed(flags) => lock(&self.closed).inc(flags),
            Tcp::Received(bytes) => drop(self.received.fetch_add(bytes, Ordering::Relaxed)),
            Tcp::Sent(bytes) => drop(self.sent.fetch_add(bytes, Ordering::Relaxed)),
        }
    }

    pub(super) fn add_to(&self, sums: &mut TcpSums) {
        sums.opened += self.opened.load(Ordering::Relaxed);
        sums.received += self.received.load(Ordering::Relaxed);
        sums.sent += self.sent.load(Ordering::Relaxed);
        lock(&self.closed).add_to(&mut sums.closed);
    }
}

/// The sums over all workers.
#[derive(Debug, Default)]
pub(super) struct TcpSums {
    pub(super) opened: u64,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) closed: BTreeMap<Flags, u64>,
}

impl TcpSums {
    pub(super) fn merge(&mut self, other: &TcpSums) {
        self.opened += other.opened;
        self.received += other.received;
        self.sent += other.sent;
        for (flags, count) in &other.closed {
            *self.closed.entry(*flags).or_insert(0) += count;
        }
    }
}
