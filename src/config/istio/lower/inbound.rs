//! The application beside us: who may reach which of its ports, and how (ISTIO.md P1, P2, P5 to P13).
//!
//! Owns: inbound listeners (X14), and the entrance of each of the workload's ports.
//! Never: decides what a client infers (that is `auto_mtls`).
//! Called by: lower.

use crate::config::options::LoadOptions;
use crate::model::{Config, ListenerKind, ListenerSpec, Place};

/// Adds the listeners, the entrances, and the upstreams that lead to the application.
pub fn lower(options: &LoadOptions, config: &mut Config) {
    let listeners = options.inbound.iter().map(|(address, to)| ListenerSpec {
        address: *address,
        kind: ListenerKind::Inbound(*to),
        place: Place::default(),
    });
    config.listeners.extend(listeners);
}
