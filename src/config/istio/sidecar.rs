//! Sidecar: what a proxy sees, what becomes of unknown hosts, and which ports of its application it
//! takes connections for (ISTIO.md H7, O1, X14).
//!
//! Owns: [`Sidecar`].
//! Never: chooses one (that is `lower::scope`).
//! Called by: read, lower.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::gateway::ServerTls;
use super::meta::{Labels, Meta};
use super::service_entry::Protocol;
use crate::model::{HostPattern, Place};

/// A Sidecar.
#[derive(Clone, Debug)]
pub struct Sidecar {
    pub meta: Meta,
    /// `workloadSelector.labels`; `None`: every workload of its namespace.
    pub selector: Option<Labels>,
    /// `None` where there is no `egress`: everything is visible.
    pub egress: Option<Vec<EgressListener>>,
    pub outbound: Option<OutboundMode>,
    /// In place of the ports that Services declare; empty: there is no `ingress`.
    pub ingress: Vec<IngressListener>,
}

/// One of `ingress`.
#[derive(Clone, Debug)]
pub struct IngressListener {
    /// `port.number`.
    pub number: u16,
    pub protocol: Protocol,
    /// An address of its own; `None`: wherever connections are captured.
    pub bind: Option<IpAddr>,
    pub capture: CaptureMode,
    /// `defaultEndpoint`.
    pub to: DefaultEndpoint,
    pub tls: Option<IngressTls>,
    pub place: Place,
}

/// `tls`: what clients outside the mesh speak, where mutual TLS is switched off.
#[derive(Clone, Debug)]
pub struct IngressTls {
    pub server: Box<ServerTls>,
    /// HTTPS: there is HTTP in it.
    pub http: bool,
}

/// `captureMode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CaptureMode {
    /// As the proxy is run.
    #[default]
    Default,
    Captured,
    /// Clients address the listener itself.
    None,
}

/// Where the connections of an ingress listener go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultEndpoint {
    /// Where they were going.
    Dialled,
    /// This port of the address where they were going: `0.0.0.0:PORT`.
    Own(u16),
    /// `127.0.0.1:PORT` or `[::1]:PORT`.
    Loopback(SocketAddr),
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
