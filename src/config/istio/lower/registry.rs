//! Every service that this proxy knows: ServiceEntries and Services, merged (ISTIO.md E, H).
//!
//! Owns: [`Registry`], [`Known`]: who wins a host (H6), its aliases (H4), endpoints (E4, E11).
//! Never: decides how a service is spoken to (that is `clusters`).
//! Called by: lower, routes, clusters.

use std::sync::Arc;

use ipnet::IpNet;

use super::host_index::HostIndex;
use super::owners::{self, Owned};
use super::scope::Scope;
use super::services::Cluster;
use super::workloads::Workloads;
use crate::config::diagnostic::Diagnostics;
use crate::config::istio::Manifests;
use crate::config::istio::meta::Labels;
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
    /// What the Sidecar does not list: no request asks for it, but a VirtualService may lead to it.
    hidden: Vec<Known>,
    by_host: HostIndex<Option<Slot>>,
}

/// Where a service is kept.
#[derive(Clone, Copy, Debug)]
enum Slot {
    Listed(usize),
    Hidden(usize),
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
}

/// One endpoint of a service, before subset and port are known.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub address: WorkloadAddress,
    pub labels: Labels,
    pub weight: u32,
    /// Service accounts of the service's namespace that it may run as (T12).
    pub service_accounts: Vec<Arc<str>>,
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
        let scope = Scope::build(manifests, options, out);
        let workloads = Workloads::new(manifests);
        let domain = &options.facts.cluster_domain;
        let cluster = Cluster::new(manifests, &workloads, domain, &scope.namespace);
        let owned = owners::settle(manifests, &scope, &workloads, &cluster, out);
        Registry::index(owned, scope)
    }

    fn index(owned: Owned, scope: Scope) -> Registry {
        let mut by_host: HostIndex<Option<Slot>> = HostIndex::default();
        for (n, known) in owned.services.iter().enumerate() {
            *by_host.entry(&known.host) = Some(Slot::Listed(n));
        }
        for (n, known) in owned.hidden.iter().enumerate() {
            by_host.entry(&known.host).get_or_insert(Slot::Hidden(n));
        }
        for (alias, target) in owned.aliases {
            let slot = by_host.exactly(&target).copied().flatten();
            *by_host.entry(&HostPattern::Exact(alias)) = slot;
        }
        Registry {
            services: owned.services,
            scope,
            hidden: owned.hidden,
            by_host,
        }
    }

    /// The service that `host` names: exactly, or by the most specific wildcard (H2). `host` is
    /// expanded (H3) and in normal form. What the Sidecar does not list is not there (H7).
    pub fn find(&self, host: &str) -> Option<&Known> {
        let pattern = HostPattern::parse(host).ok()?;
        let mut slots = self.by_host.covering(&pattern);
        slots.find_map(|slot| match slot {
            Some(Slot::Listed(n)) => self.services.get(*n),
            Some(Slot::Hidden(_)) | None => None,
        })
    }

    /// The service of exactly this host, as a VirtualService's destination names it: what the
    /// Sidecar does not list is there (H7), and the other names of a service (E9).
    pub fn destination(&self, host: &HostPattern) -> Option<&Known> {
        match self.by_host.exactly(host)?.as_ref()? {
            Slot::Listed(n) => self.services.get(*n),
            Slot::Hidden(n) => self.hidden.get(*n),
        }
    }
}

impl Known {
    /// Leaves the ports out that `keep` does not, one flag for each.
    pub fn keep_ports(&mut self, keep: &[bool]) {
        retain(&mut self.ports, keep);
        for endpoint in &mut self.endpoints {
            retain(&mut endpoint.ports, keep);
        }
    }

    /// Its port of this number, and where in [`Known::ports`] it stands.
    pub fn port(&self, number: u16) -> Option<(usize, &ServicePort)> {
        let mut ports = self.ports.iter().enumerate();
        ports.find(|(_, port)| port.number == number)
    }
}

fn retain<T>(list: &mut Vec<T>, keep: &[bool]) {
    let mut flags = keep.iter();
    list.retain(|_| flags.next().copied().unwrap_or(false));
}
