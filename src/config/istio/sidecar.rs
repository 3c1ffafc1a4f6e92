//! Sidecar: what a proxy sees, and what becomes of unknown hosts (ISTIO.md H7, O1).
//!
//! Owns: [`Sidecar`].
//! Never: chooses one (that is `lower::scope`).
//! Called by: read, lower.

use std::sync::Arc;

use super::meta::{Labels, Meta};
use crate::model::HostPattern;

/// A Sidecar, its outbound side.
#[derive(Clone, Debug)]
pub struct Sidecar {
    pub meta: Meta,
    /// `workloadSelector.labels`; `None`: every workload of its namespace.
    pub selector: Option<Labels>,
    /// `None` where there is no `egress`: everything is visible.
    pub egress: Option<Vec<EgressListener>>,
    pub outbound: Option<OutboundMode>,
}

/// One of `egress`.
#[derive(Clone, Debug)]
pub struct EgressListener {
    /// `None`: every port.
    pub port: Option<u16>,
    pub hosts: Vec<VisibleHost>,
}

/// One `namespace/dnsName`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisibleHost {
    pub namespace: VisibleNamespace,
    /// `None` for `~`: nothing.
    pub host: HostPattern,
}

/// The part before the slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VisibleNamespace {
    /// `*`.
    Any,
    /// `.`, replaced by the Sidecar's own, or a name.
    Named(Arc<str>),
    /// `~`.
    Nothing,
}

/// O1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboundMode {
    RegistryOnly,
    AllowAny,
    /// ALLOW_ANY_DYNAMIC_DNS.
    AllowAnyDynamicDns,
}
