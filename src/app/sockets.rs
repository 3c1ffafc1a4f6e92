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

use super::doors::{Door, taken};
use super::running::Bound;
use crate::listener::{self, BindError};
use crate::model::{Interception, ListenAddr, ListenerKind, ListenerSpec};
use crate::publish::Sockets;
use crate::upstream::OwnAddrs;
use crate::worker::{Serve, Worker};

/// What a listener is known by: what was asked for, not what was bound.
type Key = (SocketAddr, ListenerKind);

fn key(spec: &ListenerSpec) -> Key {
    (spec.address, spec.kind)
}

/// Two listeners of one address are opened by the kernel without a word, and each gets half of the
/// connections: which half, nobody chose.
fn twice(wanted: &[ListenerSpec]) -> Vec<String> {
    let mut errors = Vec::new();
    for (nth, spec) in wanted.iter().enumerate() {
        let mut before = wanted.iter().take(nth);
        let same = |other: &&ListenerSpec| {
            other.address == spec.address && other.kind != spec.kind && spec.address.port() != 0
        };
        if let Some(first) = before.find(same) {
            errors.push(format!(
                "cannot listen on {} ({}, {}): the address is taken by another listener of ours \
                 ({}, {}); give each an address of its own",
                spec.address, spec.kind, spec.place, first.kind, first.place
            ));
        }
    }
    errors
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
    doors: Vec<Door>,
    interception: Interception,
}

impl OpenListeners {
    pub(super) fn new(
        workers: Arc<Vec<Worker>>,
        own: OwnAddrs,
        shown: Arc<Mutex<Bound>>,
        doors: Vec<Door>,
        interception: Interception,
    ) -> Self {
        OpenListeners {
            workers,
            own,
            open: BTreeMap::new(),
            prepared: Vec::new(),
            wanted: Vec::new(),
            shown,
            doors,
            interception,
        }
    }

    /// Of connections that are captured, inbound ones alone can come by TPROXY (ISTIO.md C4).
    fn bind(&self, spec: &ListenerSpec, ours: bool) -> Result<listener::Bound, BindError> {
        let workers = self.workers.len();
        match (self.interception, spec.kind) {
            (Interception::Tproxy, ListenerKind::Inbound(None)) => {
                listener::bind_transparent(spec, workers, ours)
            }
            _ => listener::bind(spec, workers, ours),
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
        let doors = self.doors.iter().map(|door| ListenAddr(door.address));
        self.own.set(own.chain(doors).collect());
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.listeners = listeners;
    }
}

impl Sockets for OpenListeners {
    fn prepare(&mut self, wanted: &[ListenerSpec]) -> Result<(), Vec<String>> {
        self.prepared.clear();
        self.wanted = wanted.iter().map(key).collect();
        let mut errors = twice(wanted);
        for spec in wanted {
            let known = self.open.contains_key(&key(spec))
                || self
                    .prepared
                    .iter()
                    .any(|(prepared, _)| *prepared == key(spec));
            if known {
                continue;
            }
            if let Some(door) = self.doors.iter().find(|door| door.clashes(spec.address)) {
                let (kind, place) = (spec.kind, &spec.place);
                errors.push(format!("{kind}, {place}: {}", taken(spec.address, door)));
                continue;
            }
            let ours = self.has_port(spec.address.port());
            match self.bind(spec, ours) {
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
                    transparent: bound.transparent,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Place;

    fn listener(address: &str, kind: ListenerKind) -> ListenerSpec {
        ListenerSpec {
            address: address.parse().unwrap(),
            kind,
            place: Place::default(),
        }
    }

    #[test]
    fn x14_an_address_is_one_listeners_and_port_0_is_another_port_each_time() {
        let inbound = ListenerKind::Inbound(None);
        let errors = twice(&[
            listener("127.0.0.1:80", ListenerKind::Direct),
            listener("127.0.0.1:80", inbound),
        ]);
        assert_eq!(
            errors,
            [
                "cannot listen on 127.0.0.1:80 (inbound, command line): the address is taken by \
                 another listener of ours (direct, command line); give each an address of its own"
            ]
        );
        for (a, b) in [
            ("127.0.0.1:80", "127.0.0.2:80"),
            ("127.0.0.1:80", "0.0.0.0:80"),
            ("127.0.0.1:0", "127.0.0.1:0"),
        ] {
            let both = [listener(a, ListenerKind::Direct), listener(b, inbound)];
            assert_eq!(twice(&both), Vec::<String>::new(), "{a} {b}");
        }
        // Said twice by a flag and a document, and meant once.
        let same = listener("127.0.0.1:80", ListenerKind::Direct);
        assert_eq!(twice(&[same.clone(), same]), Vec::<String>::new());
    }
}
