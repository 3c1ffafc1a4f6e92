//! Every service that this proxy knows: ServiceEntries and Services, merged (ISTIO.md E, H).
//!
//! Owns: [`Registry`], [`Known`]: who wins a host (H6), its aliases (H4), endpoints (E4, E11).
//! Never: decides how a service is spoken to (that is `clusters`).
//! Called by: lower, routes, clusters.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::scope::Scope;
use crate::config::diagnostic::Diagnostics;
use crate::config::istio::Manifests;
use crate::config::istio::meta::{ExportTo, Labels};
use crate::config::istio::service_entry::{EntryResolution, Location, ServicePort};
use crate::config::istio::workload::WorkloadAddress;
use crate::config::options::LoadOptions;
use crate::model::{Host, HostPattern, Place};

/// Every service that this proxy sees.
#[derive(Debug)]
pub struct Registry {
    /// One for each host, in the order of the winners' age.
    pub services: Vec<Known>,
    /// What this proxy sees, for VirtualServices too.
    pub scope: Scope,
}

/// One service.
#[derive(Clone, Debug)]
pub struct Known {
    /// The host of the registry: `name.ns.svc.cluster.local`, or a ServiceEntry's.
    pub host: HostPattern,
    /// `ServiceEntry ns/name` or `Service ns/name`: the winner, or the first of those merged.
    pub object: Arc<str>,
    pub place: Place,
    pub name: Arc<str>,
    pub namespace: Arc<str>,
    /// True for a Service of Kubernetes.
    pub kubernetes: bool,
    /// Names under which requests may ask for it, its host not included, single addresses included
    /// (H4).
    pub aliases: Vec<Host>,
    /// Cluster IPs, or `addresses` of a ServiceEntry; never `0.0.0.0`.
    pub addresses: Vec<IpNet>,
    pub ports: Vec<ServicePort>,
    pub location: Location,
    /// `None` for a Service with `headless`, too: to the address that was dialled (E10).
    pub resolution: EntryResolution,
    pub endpoints: Vec<Endpoint>,
    /// SPIFFE names and others that the service may have (T12, X9).
    pub subject_alt_names: Vec<String>,
    pub export_to: ExportTo,
}

/// One endpoint of a service, before subset and port are known.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub address: WorkloadAddress,
    pub labels: Labels,
    pub weight: u32,
    pub service_account: Option<Arc<str>>,
    /// Workload port for each service port, in the order of [`Known::ports`] (E4); `None` where it
    /// does not serve that port.
    pub ports: Vec<Option<u16>>,
    pub sidecar: HasSidecar,
    pub place: Place,
}

/// Whether a workload has a sidecar, and so takes mutual TLS (P4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HasSidecar {
    /// `security.istio.io/tlsMode: istio`, or a WorkloadEntry with a service account.
    Yes,
    No,
    /// No document says anything of the workload itself.
    Unknown,
}

impl Registry {
    /// Merges what `manifests` say, as the proxy of `options` sees it.
    pub fn build(manifests: &Manifests, options: &LoadOptions, out: &mut Diagnostics) -> Registry {
        Registry {
            services: Vec::new(),
            scope: Scope::build(manifests, options, out),
        }
    }

    /// The service that `host` names: exactly, or by the most specific wildcard (H2). `host` is
    /// expanded (H3) and in normal form.
    pub fn find(&self, host: &str) -> Option<&Known> {
        self.services
            .iter()
            .find(|known| known.host.to_string() == host)
    }

    /// The service that has this virtual address.
    pub fn at(&self, address: IpAddr) -> Option<&Known> {
        self.services
            .iter()
            .find(|known| known.addresses.iter().any(|net| net.contains(&address)))
    }
}
