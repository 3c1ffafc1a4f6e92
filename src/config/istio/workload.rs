//! Workloads: endpoints of a ServiceEntry, WorkloadEntries, Pods and pod templates.
//!
//! Owns: [`Workload`], [`WorkloadEntry`], [`Pod`].
//! Never: decides which service a workload belongs to (that is `lower::registry`).
//! Called by: read, lower.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::meta::{Labels, Meta};
use crate::model::{Host, Place};

/// Somewhere that a service may be served from.
#[derive(Clone, Debug)]
pub struct Workload {
    pub address: WorkloadAddress,
    /// Port name to number (E4).
    pub ports: BTreeMap<String, u16>,
    pub labels: Labels,
    /// At least 1.
    pub weight: u32,
    pub service_account: Option<Arc<str>>,
    pub place: Place,
}

/// Where a workload is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkloadAddress {
    /// An IP address or a name.
    Host(Host),
    /// `unix://` and a path: understood, and refused (U3).
    Unix(String),
}

/// A WorkloadEntry.
#[derive(Clone, Debug)]
pub struct WorkloadEntry {
    pub meta: Meta,
    pub workload: Workload,
}

/// A Pod, or the template of a Deployment (K6): labels and identity of endpoints.
#[derive(Clone, Debug)]
pub struct Pod {
    pub meta: Meta,
    /// The pod's own labels: those of the template where it is one.
    pub labels: Labels,
    /// The same of annotations.
    pub annotations: BTreeMap<String, String>,
    pub service_account: Option<Arc<str>>,
    /// `status.podIPs`; a template has none.
    pub ips: Vec<std::net::IpAddr>,
    /// Container ports by name, for a Service's named `targetPort`.
    pub ports: BTreeMap<String, u16>,
}
