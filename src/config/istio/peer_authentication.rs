//! PeerAuthentication and the legacy Policy and MeshPolicy: what servers accept (K2, K3).
//!
//! Owns: these kinds, as the client's side must know them for automatic mTLS (P3 to P6).
//! Never: infers a mode (that is `lower::auto_mtls`).
//! Called by: read, lower.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::meta::{Labels, Meta};

/// A PeerAuthentication.
#[derive(Clone, Debug)]
pub struct PeerAuthentication {
    pub meta: Meta,
    /// `selector.matchLabels`; `None` or empty: the namespace's, or the mesh's in the root one.
    pub selector: Option<Labels>,
    /// `None` for UNSET.
    pub mode: Option<MtlsMode>,
    /// `portLevelMtls`: workload ports.
    pub ports: BTreeMap<u16, Option<MtlsMode>>,
}

/// What a server accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MtlsMode {
    Disable,
    Permissive,
    Strict,
}

/// A Policy (namespaced) or MeshPolicy.
#[derive(Clone, Debug)]
pub struct LegacyPolicy {
    pub meta: Meta,
    /// True for a MeshPolicy.
    pub mesh: bool,
    /// Service short names with their service ports, by number or name; empty: the namespace.
    pub targets: Vec<(Arc<str>, Vec<LegacyPort>)>,
    pub mode: MtlsMode,
}

/// A port of a legacy target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LegacyPort {
    Number(u16),
    Name(Arc<str>),
}
