//! Istio's and Kubernetes' documents to a configuration (ISTIO.md).
//!
//! Owns: one file for each kind (what it may hold, and how it is read), and below [`lower()`] what the
//! kinds mean together.
//! Never: opens a file: Secrets and certificates are named, not read.
//! Called by: load.
//!
//! Two steps. [`read()`] takes documents apart, one by one, and refuses what is wrong with one alone
//! (U1 to U5). [`lower()`] looks at all of them: registry (E, H), policies (D, T), routes (V, O).

mod destination_rule;
mod gateway;
mod kinds;
mod lower;
mod manifests;
mod mesh;
mod meta;
mod peer_authentication;
mod read;
mod reading;
mod secret;
mod service;
mod service_entry;
mod shape;
mod sidecar;
mod tables;
#[cfg(test)]
mod tests;
mod virtual_service;
mod workload;

pub use lower::lower;
pub use manifests::Manifests;
pub use read::read;
