//! Documents to objects: each kind taken apart by its table, and read into its type.
//!
//! Owns: one file for each kind, and what they share: [`Reading`], values, names.
//! Never: looks at two objects at once.
//! Called by: read.

mod check;
mod context;
mod destination_rule;
mod duration;
mod gateway;
mod gateway_tls;
mod governs;
mod governs_inbound;
mod header_format;
mod http_headers;
mod http_match;
mod http_route;
mod http_traffic;
mod mesh;
mod metadata;
pub mod names;
mod peers;
mod pod;
mod secret;
mod service;
mod service_entry;
mod sidecar;
mod sidecar_ingress;
mod streams;
#[cfg(test)]
mod tests;
mod value;
mod virtual_service;
mod workload;

pub use check::{check, normalised};
pub use context::Reading;
pub use destination_rule::read as destination_rule;
pub use gateway::read as gateway;
pub use governs::{claimed_addresses, claimed_ports, governs, on_gateways};
pub use governs_inbound::governs_inbound;
pub use mesh::{config_map as mesh_of_config_map, operator as mesh_of_operator};
pub use metadata::{check as check_meta, read as meta};

pub use peers::{legacy as legacy_policy, read as peer_authentication};
pub use pod::{read as pod, template};
pub use secret::{config_map, read as secret};
pub use service::{endpoints, read as service, slice};
pub use service_entry::read as service_entry;
pub use sidecar::read as sidecar;
pub use virtual_service::read as virtual_service;
pub use workload::read as workload_entry;
