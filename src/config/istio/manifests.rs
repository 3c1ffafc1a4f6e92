//! All objects that were understood, by kind, and those that were refused.
//!
//! Owns: [`Manifests`], [`RefusedObject`].
//! Never: looks at two objects at once (that is `lower`).
//! Called by: read (fills it), lower.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ipnet::IpNet;

use super::destination_rule::DestinationRule;
use super::gateway::Gateway;
use super::mesh::MeshConfig;
use super::meta::{Labels, Meta};
use super::peer_authentication::{LegacyPolicy, PeerAuthentication};
use super::secret::{ConfigMap, Secret};
use super::service::{Endpoints, Service};
use super::service_entry::ServiceEntry;
use super::sidecar::Sidecar;
use super::virtual_service::VirtualService;
use super::workload::{Pod, WorkloadEntry};
use crate::config::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::model::{HostPattern, Place, Refused, UnknownHosts};

/// Everything that a set of documents says, each list in the order of loading.
#[derive(Debug, Default)]
pub struct Manifests {
    pub service_entries: Vec<ServiceEntry>,
    pub virtual_services: Vec<VirtualService>,
    pub destination_rules: Vec<DestinationRule>,
    pub gateways: Vec<Gateway>,
    pub sidecars: Vec<Sidecar>,
    pub workload_entries: Vec<WorkloadEntry>,
    pub peer_authentications: Vec<PeerAuthentication>,
    pub legacy_policies: Vec<LegacyPolicy>,
    pub services: Vec<Service>,
    /// Endpoints and EndpointSlices.
    pub endpoints: Vec<Endpoints>,
    /// That they exist is all that is kept of them.
    pub namespaces: Vec<Meta>,
    pub service_accounts: Vec<Meta>,
    /// Pods, and the pod templates of Deployments, StatefulSets and DaemonSets.
    pub pods: Vec<Pod>,
    pub secrets: Vec<Secret>,
    pub config_maps: Vec<ConfigMap>,
    /// Of IstioOperator documents and of the ConfigMap `istio` (K7), the last one counts.
    pub mesh: Option<MeshConfig>,
    /// Turned away (U1, U3, U5).
    pub refused: Vec<RefusedObject>,
    /// Kinds that mean nothing to sortie, with how many there are (U4), and where the first is.
    pub ignored: BTreeMap<String, (usize, Place)>,
    /// Where each object stands first.
    pub seen: HashMap<Arc<str>, Place>,
    /// How many objects were read.
    pub read: usize,
    /// `unknownHosts` of a native document, which decides before any document of Istio's (X15).
    pub native_unknown: Option<UnknownHosts>,
}

impl Manifests {
    /// How many objects were understood, by kind; those that govern requests come first.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, usize)> {
        [
            ("ServiceEntry", self.service_entries.len()),
            ("VirtualService", self.virtual_services.len()),
            ("DestinationRule", self.destination_rules.len()),
            ("Gateway", self.gateways.len()),
            ("Sidecar", self.sidecars.len()),
            ("WorkloadEntry", self.workload_entries.len()),
            ("PeerAuthentication", self.peer_authentications.len()),
            ("Policy", self.legacy_policies.len()),
            ("Service", self.services.len()),
            ("Endpoints", self.endpoints.len()),
            ("Namespace", self.namespaces.len()),
            ("ServiceAccount", self.service_accounts.len()),
            ("Pod", self.pods.len()),
            ("Secret", self.secrets.len()),
            ("ConfigMap", self.config_maps.len()),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
    }

    /// The position of the next object.
    pub fn next(&mut self) -> usize {
        self.read += 1;
        self.read
    }

    /// One more document of a kind that means nothing to sortie.
    pub fn ignore(&mut self, kind: &str, place: Place) {
        let entry = self.ignored.entry(kind.to_owned());
        entry.or_insert((0, place)).0 += 1;
    }

    /// Says what was ignored: one line for each kind (U4).
    pub fn report_ignored(&self, out: &mut Diagnostics) {
        for (kind, (count, place)) in &self.ignored {
            let (documents, mean) = match count {
                1 => ("document", "means"),
                _ => ("documents", "mean"),
            };
            out.push(Diagnostic {
                file: Arc::clone(&place.file),
                line: place.line,
                column: 0,
                field: String::new(),
                object: None,
                code: Code::IgnoredKind,
                severity: Code::IgnoredKind.severity(),
                problem: format!("{count} {documents} of kind {kind} {mean} nothing to sortie"),
                advice: String::new(),
            });
        }
    }
}

/// An object that was refused, and what it would have governed (ISTIO.md X1).
#[derive(Clone, Debug)]
pub struct RefusedObject {
    pub meta: Meta,
    /// Its first mistake, in words.
    pub refused: Refused,
    pub governs: Governs,
    /// Whose inbound connections it would have governed; `None`: nobody's.
    pub inbound: Option<Reach>,
    /// Virtual addresses that it would have claimed, as far as they can be read: `addresses` of a
    /// ServiceEntry, cluster IPs of a Service. Connections to them fail.
    pub addresses: Vec<IpNet>,
    /// Ports that it would have claimed for every address: those of a ServiceEntry without
    /// `addresses` that are not declared HTTP (V20). What is not HTTP there fails.
    pub ports: Vec<u16>,
    pub on_gateways: OnGateways,
}

/// What a refused object would have governed on gateway listeners.
#[derive(Clone, Debug, Default)]
pub enum OnGateways {
    #[default]
    Nothing,
    /// A Gateway, as far as it can be read.
    Servers(Box<Gateway>),
    /// A VirtualService.
    Hosts {
        /// As written (V2).
        gateways: Vec<String>,
        /// `None` where they cannot be told: every host of these Gateways.
        hosts: Option<Vec<HostPattern>>,
    },
}

/// Workloads that a refused object spoke to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// `None`: of every namespace.
    pub namespace: Option<Arc<str>>,
    /// The labels that they have; empty: whichever.
    pub labels: Labels,
}

/// What a refused object would have governed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Governs {
    /// Nothing that the outbound side of this proxy serves: a Gateway, an AuthorizationPolicy, a
    /// Secret (whose users fail for want of it), what is for gateways or other namespaces alone.
    Nothing,
    /// These hosts, on every port: ServiceEntry, VirtualService, Service, DestinationRule.
    Hosts(Vec<HostPattern>),
    /// The same, and the hosts of these ServiceEntries, by namespace and name: a route of the Gateway
    /// API. Known only when everything is read.
    Entries(Vec<HostPattern>, Vec<(Arc<str>, Arc<str>)>),
    /// What becomes of unknown hosts, and which hosts are known: Sidecar, mesh configuration.
    Unknown,
}
