//! Kubernetes' registry: Service, Endpoints, EndpointSlice (K4, K5).
//!
//! Owns: these kinds as sortie needs them.
//! Never: joins a Service with its endpoints (that is `lower::registry`).
//! Called by: read, lower.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::meta::{ExportTo, Labels, Meta};
use super::service_entry::ServicePort;
use crate::model::{Host, Place};

/// A Service.
#[derive(Clone, Debug)]
pub struct Service {
    pub meta: Meta,
    pub ports: Vec<ServicePort>,
    pub selector: Labels,
    /// Empty for a headless one.
    pub cluster_ips: Vec<IpAddr>,
    /// `clusterIP: None` (E10).
    pub headless: bool,
    /// `type: ExternalName` (E9).
    pub external_name: Option<Host>,
    /// The annotation `networking.istio.io/exportTo`.
    pub export_to: ExportTo,
    /// `alpha.istio.io/kubernetes-serviceaccounts` and `alpha.istio.io/canonical-serviceaccounts`.
    pub service_accounts: Vec<String>,
}

/// An Endpoints or EndpointSlice object.
#[derive(Clone, Debug)]
pub struct Endpoints {
    pub meta: Meta,
    /// The Service that they are of, in the same namespace.
    pub service: Arc<str>,
    pub addresses: Vec<EndpointAddress>,
    /// Port name to number; a single port may have an empty name.
    pub ports: BTreeMap<String, u16>,
    pub place: Place,
}

/// One ready address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointAddress {
    pub ip: IpAddr,
    /// `targetRef` of kind Pod: its name.
    pub pod: Option<Arc<str>>,
}
