//! The listeners that are open, and how that changes with the configuration.
//!
//! Owns: which address is bound, and the handle that closes it.
//! Never: accepts (that is `worker`).
//! Called by: `app::start`, and `publish::reload` through its `Sockets`.
//!
//! Why in two steps: a port that is taken must refuse the whole reload before anything changes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::running::Bound;
use crate::listener;
use crate::model::{ListenAddr, ListenerKind, ListenerSpec};
use crate::publish::Sockets;
use crate::upstream::OwnAddrs;
use crate::worker::{Serve, Worker};

/// What a listener is known by: what was asked for, not what was bound.
type Key = (SocketAddr, ListenerKind);

fn key(spec: &ListenerSpec) -> Key {
    (spec.address, spec.kind)
}

struct Open {
    kind: ListenerKind,
    address: ListenAddr,
    closed: watch::Sender<bool>,
}

/// Every open listener.
pub(super) struct OpenListeners {
    workers: Arc<Vec<Worker>>,
    own: OwnAddrs,
    open: BTreeMap<Key, Open>,
    prepared: Vec<(Key, listener::Bound)>,
    wanted: Vec<Key>,
    /// What everybody else may know.
    shown: Arc<Mutex<Bound>>,
    admin: Option<SocketAddr>,
}

impl OpenListeners {
    pub(super) fn new(
        workers: Arc<Vec<Worker>>,
        own: OwnAddrs,
        shown: Arc<Mutex<Bound>>,
        admin: Option<SocketAddr>,
    ) -> Self {
        OpenListeners {
            workers,
            own,
            open: BTreeMap::new(),
            prepared: Vec::new(),
            wanted: Vec::new(),
            shown,
            admin,
        }
    }

    /// True where the port is one of ours already, under whatever address.
    fn has_port(&self, port: u16) -> bool {
        let open = self.open.values().map(|open| open.address);
        let prepared = self.prepared.iter().map(|(_, bound)| bound.address);
        port != 0 && open.chain(prepared).any(|address| address.0.port() == port)
    }

    fn show(&self) {
        let listeners: Vec<_> = self
            .open
            .values()
            .map(|open| (open.kind, open.address))
            .collect();
        let own = listeners.iter().map(|(_, address)| *address);
        self.own
            .set(own.chain(self.admin.map(ListenAddr)).collect());
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.listeners = listeners;
    }
}

impl Sockets for OpenListeners {
    fn prepare(&mut self, wanted: &[ListenerSpec]) -> Result<(), Vec<String>> {
        self.prepared.clear();
        self.wanted = wanted.iter().map(key).collect();
        let mut errors = Vec::new();
        for spec in wanted {
            let known = self.open.contains_key(&key(spec))
                || self
                    .prepared
                    .iter()
                    .any(|(prepared, _)| *prepared == key(spec));
            if known {
                continue;
            }
            let ours = self.has_port(spec.address.port());
            match listener::bind(spec, self.workers.len(), ours) {
                Ok(bound) => self.prepared.push((key(spec), bound)),
                Err(error) => errors.push(error.to_string()),
            }
        }
        if errors.is_empty() {
            return Ok(());
        }
        self.prepared.clear();
        Err(errors)
    }

    fn commit(&mut self) {
        for (key, bound) in std::mem::take(&mut self.prepared) {
            let closed = watch::Sender::new(false);
            tracing::info!(address = %bound.address, kind = %bound.kind, "listening");
            for (worker, socket) in self.workers.iter().zip(bound.sockets) {
                worker.serve(Serve {
                    socket,
                    kind: bound.kind,
                    closed: closed.subscribe(),
                });
            }
            self.open.insert(
                key,
                Open {
                    kind: bound.kind,
                    address: bound.address,
                    closed,
                },
            );
        }
        let wanted = &self.wanted;
        self.open.retain(|key, open| {
            let stays = wanted.contains(key);
            if !stays {
                tracing::info!(address = %open.address, "no longer listening");
                open.closed.send_replace(true);
            }
            stays
        });
        self.show();
    }
}
