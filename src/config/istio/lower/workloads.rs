//! Who serves: WorkloadEntries and Pods, by namespace, labels, name and address (ISTIO.md E11, P4).
//!
//! Owns: [`Workloads`], and what a workload says of its sidecar.
//! Never: knows a service.
//! Called by: entries, services, analysis.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::registry::HasSidecar;
use crate::config::istio::Manifests;
use crate::config::istio::meta::{Labels, selects};
use crate::config::istio::service_entry::{ServicePort, TargetPort};
use crate::config::istio::workload::{Pod, Workload, WorkloadEntry};

/// The label by which a workload says that it takes mutual TLS.
pub const TLS_MODE: &str = "security.istio.io/tlsMode";

/// The service account of a Pod that names none: Kubernetes fills it in.
const DEFAULT_ACCOUNT: &str = "default";

/// All workloads, for fast look-ups.
pub struct Workloads<'a> {
    entries: Labelled<'a, WorkloadEntry>,
    pods: Labelled<'a, Pod>,
    /// By namespace: pods of the host's network share its address.
    by_ip: HashMap<(&'a str, IpAddr), &'a Pod>,
    by_name: HashMap<(&'a str, &'a str), &'a Pod>,
}

/// Things with their labels.
type List<'a, T> = Vec<(&'a T, &'a Labels)>;

/// Things by namespace, and by each of their labels: a selector looks at few of many.
struct Labelled<'a, T> {
    all: HashMap<&'a str, List<'a, T>>,
    /// By namespace, key and value.
    by_label: HashMap<(&'a str, &'a str, &'a str), List<'a, T>>,
}

impl<'a, T> Labelled<'a, T> {
    fn new(things: impl Iterator<Item = (&'a T, &'a str, &'a Labels)>) -> Labelled<'a, T> {
        let mut labelled = Labelled {
            all: HashMap::new(),
            by_label: HashMap::new(),
        };
        for (thing, namespace, labels) in things {
            let all = labelled.all.entry(namespace).or_default();
            all.push((thing, labels));
            for (key, value) in labels {
                let label = (namespace, key.as_str(), value.as_str());
                let held = labelled.by_label.entry(label).or_default();
                held.push((thing, labels));
            }
        }
        labelled
    }

    /// Those of `namespace` that have all of `wanted`, in the order of loading.
    fn find<'b>(
        &'b self,
        namespace: &'b str,
        wanted: &'b Labels,
    ) -> impl Iterator<Item = &'a T> + use<'a, 'b, T> {
        let lists = wanted.iter().map(|(key, value)| {
            let label = (namespace, key.as_str(), value.as_str());
            self.by_label.get(&label).map_or(&[][..], Vec::as_slice)
        });
        let fewest = lists.min_by_key(|list| list.len());
        let candidates = match fewest {
            Some(list) => list,
            None => self.all.get(namespace).map_or(&[][..], Vec::as_slice),
        };
        let found = candidates.iter().copied();
        found
            .filter(move |(_, labels)| selects(wanted, labels))
            .map(|(thing, _)| thing)
    }
}

impl<'a> Workloads<'a> {
    /// Those of `manifests`.
    pub fn new(manifests: &'a Manifests) -> Workloads<'a> {
        let entries = manifests.workload_entries.iter();
        let pods = manifests.pods.iter();
        let mut all = Workloads {
            entries: Labelled::new(
                entries.map(|one| (one, one.meta.namespace.as_ref(), entry_labels(one))),
            ),
            pods: Labelled::new(pods.map(|one| (one, one.meta.namespace.as_ref(), &one.labels))),
            by_ip: HashMap::new(),
            by_name: HashMap::new(),
        };
        for pod in &manifests.pods {
            for ip in &pod.ips {
                let key = (pod.meta.namespace.as_ref(), *ip);
                all.by_ip.entry(key).or_insert(pod);
            }
            if pod.meta.kind == "Pod" {
                let name = (pod.meta.namespace.as_ref(), pod.meta.name.as_ref());
                all.by_name.entry(name).or_insert(pod);
            }
        }
        all
    }

    /// The WorkloadEntries of `namespace` that have these labels.
    pub fn entries<'b>(
        &'b self,
        namespace: &'b str,
        labels: &'b Labels,
    ) -> impl Iterator<Item = &'a WorkloadEntry> + use<'a, 'b> {
        self.entries.find(namespace, labels)
    }

    /// The Pods and pod templates of `namespace` that have these labels.
    pub fn pods<'b>(
        &'b self,
        namespace: &'b str,
        labels: &'b Labels,
    ) -> impl Iterator<Item = &'a Pod> + use<'a, 'b> {
        self.pods.find(namespace, labels)
    }

    /// True where any workload of `namespace` is known at all.
    pub fn knows(&self, namespace: &str) -> bool {
        self.entries.all.contains_key(namespace) || self.pods.all.contains_key(namespace)
    }

    /// The Pod of this name, else the one that has this address.
    pub fn pod(&self, namespace: &str, name: Option<&str>, ip: IpAddr) -> Option<&'a Pod> {
        let named = name.and_then(|name| self.by_name.get(&(namespace, name)));
        named.or_else(|| self.by_ip.get(&(namespace, ip))).copied()
    }
}

/// The labels of a WorkloadEntry: those of its `spec`, else its own.
pub fn entry_labels(entry: &WorkloadEntry) -> &Labels {
    match entry.workload.labels.is_empty() {
        true => &entry.meta.labels,
        false => &entry.workload.labels,
    }
}

/// The service account that a Pod runs as.
pub fn account(pod: &Pod) -> Arc<str> {
    match &pod.service_account {
        Some(account) => Arc::clone(account),
        None => DEFAULT_ACCOUNT.into(),
    }
}

/// P4 for a WorkloadEntry or an endpoint of a ServiceEntry.
pub fn workload_sidecar(labels: &Labels, account: Option<&Arc<str>>) -> HasSidecar {
    match labels.get(TLS_MODE) {
        Some(mode) if mode == "istio" => HasSidecar::Yes,
        Some(_) => HasSidecar::No,
        None if account.is_some() => HasSidecar::Yes,
        None => HasSidecar::No,
    }
}

/// P4 for a Pod. A template gets its label when the sidecar is injected, and says nothing without.
pub fn pod_sidecar(pod: &Pod) -> HasSidecar {
    match pod.labels.get(TLS_MODE) {
        Some(mode) if mode == "istio" => HasSidecar::Yes,
        Some(_) => HasSidecar::No,
        None if pod.ips.is_empty() && pod.meta.kind != "Pod" => HasSidecar::Unknown,
        None => HasSidecar::No,
    }
}

/// The workload's port for a service port: by its name, else its `targetPort`, else its number
/// (E4). `None` where the target is a name that the workload does not have.
pub fn port_of(port: &ServicePort, names: &std::collections::BTreeMap<String, u16>) -> Option<u16> {
    match names.get(port.name.as_ref()) {
        Some(number) => Some(*number),
        None => target_of(port, names),
    }
}

/// The same for a Pod, whose container ports answer to the names of `targetPort` alone.
pub fn target_of(
    port: &ServicePort,
    names: &std::collections::BTreeMap<String, u16>,
) -> Option<u16> {
    match &port.target {
        Some(TargetPort::Number(number)) => Some(*number),
        Some(TargetPort::Name(name)) => names.get(name.as_ref()).copied(),
        None => Some(port.number),
    }
}

/// The port of a `Workload` for each of the service's.
pub fn ports_of(ports: &[ServicePort], workload: &Workload) -> Vec<Option<u16>> {
    ports
        .iter()
        .map(|port| port_of(port, &workload.ports))
        .collect()
}
