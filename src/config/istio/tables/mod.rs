//! The messages of Istio's kinds, and of Kubernetes' as far as they are looked at (ISTIO.md 1.2).
//!
//! Owns: one file for each family of kinds.
//! Never: reads a document.
//! Called by: read, reading.

pub mod common;
pub mod destination_rule;
pub mod gateway;
pub mod kubernetes;
pub mod mesh;
pub mod security;
pub mod service_entry;
pub mod sidecar;
pub mod virtual_service;
