//! All that the hot half believes, and the one pointer to it.
//!
//! Owns: [`Snapshot`], immutable, and [`SnapshotCell`], which is swapped whole.
//! Never: builds one (that is `publish::build`).
//! Called by: proxy (`load`, once per request), publish (`publish`), admin (shows it).
//!
//! Why each worker holds its own handle: a reference count that two cores touch for every request
//! is a lock in disguise. A worker clones the shared pointer only when the version changes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::entrance::Entrances;
use crate::model::{Limits, ListenerKind, OnExpired, UnknownHosts};
use crate::route::{RouteTable, StreamTable};
use crate::upstream::Upstream;

/// Everything that a request may depend on. Never changes once published.
pub struct Snapshot {
    /// Counts up from 1 with every publish.
    pub version: u64,
    /// Where requests go.
    pub table: RouteTable,
    /// Where connections go that carry no plain HTTP.
    pub streams: StreamTable,
    /// What inbound and gateway listeners lead to; the tables above are the mesh's.
    pub entrances: Entrances,
    /// Every upstream by its name.
    pub upstreams: BTreeMap<Arc<str>, Arc<Upstream>>,
    /// What becomes of hosts that the table does not know, on a listener that clients address.
    pub unknown_hosts: UnknownHosts,
    /// The same of connections that were captured, whatever they carry (ISTIO.md O1, X15).
    pub unknown_captured: UnknownHosts,
    /// Bounds on clients.
    pub limits: Limits,
    /// What an expired certificate of ours means (ISTIO.md R17).
    pub on_expired: OnExpired,
    /// How long a connection goes on that was made with a certificate since replaced (R16).
    pub max_connection_age: Duration,
}

impl Snapshot {
    /// What becomes of what the tables do not know, on a listener of this kind.
    pub fn unknown(&self, kind: ListenerKind) -> UnknownHosts {
        match kind {
            ListenerKind::Direct => self.unknown_hosts,
            ListenerKind::Capture => self.unknown_captured,
            // What their tables do not know is nobody's (ISTIO.md G9, O6).
            ListenerKind::Inbound(_) | ListenerKind::Gateway(_) => UnknownHosts::Refuse,
        }
    }
}

/// The one pointer.
pub struct SnapshotCell {
    current: ArcSwap<Snapshot>,
}

/// A snapshot as one worker holds it: cloning it touches no count of another worker.
pub type Held = Arc<Arc<Snapshot>>;

thread_local! {
    static HELD: RefCell<Option<(usize, Held)>> = const { RefCell::new(None) };
}

impl SnapshotCell {
    /// A cell that holds `first`.
    pub fn new(first: Snapshot) -> Self {
        SnapshotCell {
            current: ArcSwap::from_pointee(first),
        }
    }

    /// The current snapshot, for the length of one request. Costs one atomic load that no other
    /// core writes, unless a new version was published.
    pub fn load(&self) -> Held {
        let current = self.current.load();
        let cell = std::ptr::from_ref(self) as usize;
        HELD.with_borrow_mut(|slot| match slot {
            Some((of, held)) if *of == cell && Arc::ptr_eq(held.as_ref(), &current) => {
                Arc::clone(held)
            }
            _ => {
                let held: Held = Arc::new(Arc::clone(&current));
                *slot = Some((cell, Arc::clone(&held)));
                held
            }
        })
    }

    /// The current snapshot for the cold half.
    pub fn peek(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Swaps the pointer. Requests under way keep the one that they began with.
    pub fn publish(&self, next: Snapshot) {
        self.current.store(Arc::new(next));
    }
}
