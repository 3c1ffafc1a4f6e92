//! ServiceEntry: hosts outside the mesh, with ports and endpoints (ISTIO.md E, 1.4).
//!
//! Owns: [`ServiceEntry`], [`ServicePort`], [`Protocol`].
//! Never: merges two of them (that is `lower::registry`).
//! Called by: read, lower.

use std::sync::Arc;

use ipnet::IpNet;

use super::meta::{ExportTo, Labels, Meta, Written};
use super::workload::Workload;
use crate::model::{HostPattern, Place};

/// A ServiceEntry.
#[derive(Clone, Debug)]
pub struct ServiceEntry {
    pub meta: Meta,
    pub hosts: Vec<Written<HostPattern>>,
    /// Virtual addresses.
    pub addresses: Vec<IpNet>,
    pub ports: Vec<ServicePort>,
    pub location: Location,
    pub resolution: EntryResolution,
    pub endpoints: Vec<Workload>,
    /// `workloadSelector.labels`.
    pub selector: Option<Labels>,
    pub export_to: ExportTo,
    pub subject_alt_names: Vec<String>,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    pub number: u16,
    pub name: Arc<str>,
    pub protocol: Protocol,
    /// `targetPort`; a Service may name one of the container's ports.
    pub target: Option<TargetPort>,
    pub place: Place,
}

/// Where a service's port leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    Number(u16),
    Name(Arc<str>),
}

/// E7, E8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http,
    Http2,
    Grpc,
    GrpcWeb,
    /// HTTPS and TLS: by SNI, opaque.
    Tls,
    Tcp,
    /// UDP, SCTP: ignored.
    Udp,
    /// Unset: told by the first bytes.
    Sniff,
}

impl Protocol {
    /// True where requests on the port may be HTTP: declared, or to be told by the first bytes.
    pub fn may_be_http(self) -> bool {
        matches!(
            self,
            Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::GrpcWeb | Protocol::Sniff
        )
    }
}

/// E1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Location {
    #[default]
    External,
    Internal,
}

/// E1 to E3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EntryResolution {
    #[default]
    None,
    Static,
    Dns,
    DnsRoundRobin,
    DynamicDns,
}
