//! ServiceEntries to services: one for each host, and the union of those that belong together.
//!
//! Owns: endpoints of a ServiceEntry (ISTIO.md E1 to E4, E11, E12), and which of them merge (H6).
//! Never: chooses among owners (that is `owners`).
//! Called by: owners.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;

use super::registry::{Endpoint, HasSidecar, Known};
use super::workloads::{
    Workloads, account, entry_labels, pod_sidecar, port_of, ports_of, workload_sidecar,
};
use crate::config::istio::meta::Labels;
use crate::config::istio::service_entry::{EntryResolution, ServiceEntry};
use crate::config::istio::workload::{Workload, WorkloadAddress};
use crate::model::{Host, HostPattern};

/// The service that `entry` declares for `host`, which is one of its hosts.
pub fn known(entry: &ServiceEntry, host: &HostPattern, workloads: &Workloads<'_>) -> Known {
    let addresses: Vec<IpNet> = entry
        .addresses
        .iter()
        .filter(|net| !(net.addr().is_unspecified()))
        .copied()
        .collect();
    Known {
        host: host.clone(),
        object: entry.meta.object(),
        place: entry.meta.place.clone(),
        name: host.to_string().into(),
        namespace: Arc::clone(&entry.meta.namespace),
        kubernetes: false,
        aliases: single(&addresses),
        addresses,
        ports: entry.ports.clone(),
        location: entry.location,
        resolution: entry.resolution,
        endpoints: endpoints(entry, host, workloads),
        subject_alt_names: entry.subject_alt_names.clone(),
        export_to: entry.export_to.clone(),
    }
}

/// The single addresses among networks, as hosts that a request may name (H4).
pub fn single(addresses: &[IpNet]) -> Vec<Host> {
    addresses
        .iter()
        .filter(|net| net.prefix_len() == net.max_prefix_len())
        .filter_map(|net| Host::parse(&net.addr().to_string()).ok())
        .collect()
}

/// True where ServiceEntries of one namespace for one host are one service (H6).
pub fn belong_together(a: &ServiceEntry, b: &ServiceEntry) -> bool {
    a.meta.namespace == b.meta.namespace
        && a.resolution == b.resolution
        && a.location == b.location
        && a.meta.labels == b.meta.labels
        && a.selector == b.selector
        && a.export_to == b.export_to
}

/// Adds the ports of `other` that `known` does not have, with the endpoints that serve them.
pub fn merge(known: &mut Known, other: Known) {
    let before = known.ports.len();
    let new: Vec<bool> = other
        .ports
        .iter()
        .map(|port| {
            let mut mine = known.ports.iter();
            !mine.any(|own| own.number == port.number || own.name == port.name)
        })
        .collect();
    let fresh = other.ports.into_iter().zip(&new).filter(|(_, new)| **new);
    known.ports.extend(fresh.map(|(port, _)| port));
    let total = known.ports.len();
    for endpoint in &mut known.endpoints {
        endpoint.ports.resize(total, None);
    }
    if total > before {
        known
            .endpoints
            .extend(other.endpoints.into_iter().map(|mut endpoint| {
                let theirs = endpoint.ports.iter().zip(&new).filter(|(_, new)| **new);
                let theirs = theirs.map(|(port, _)| *port);
                endpoint.ports = std::iter::repeat_n(None, before).chain(theirs).collect();
                endpoint
            }));
    }
    for address in other.addresses {
        if !known.addresses.contains(&address) {
            known.addresses.push(address);
        }
    }
    for name in other.subject_alt_names {
        if !known.subject_alt_names.contains(&name) {
            known.subject_alt_names.push(name);
        }
    }
    known.aliases = single(&known.addresses);
}

fn endpoints(entry: &ServiceEntry, host: &HostPattern, workloads: &Workloads<'_>) -> Vec<Endpoint> {
    match (&entry.resolution, &entry.selector) {
        (EntryResolution::None | EntryResolution::DynamicDns, _) => Vec::new(),
        (_, Some(labels)) => selected(entry, labels, workloads),
        (_, None) if !entry.endpoints.is_empty() => {
            let listed = entry.endpoints.iter();
            listed
                .map(|workload| listed_endpoint(entry, workload))
                .collect()
        }
        (EntryResolution::Static, None) => Vec::new(),
        (EntryResolution::Dns | EntryResolution::DnsRoundRobin, None) => match host {
            HostPattern::Exact(name) => vec![itself(entry, name)],
            HostPattern::Suffix(_) | HostPattern::Any => Vec::new(),
        },
    }
}

/// E3: no endpoint is written, and so the host itself is looked up.
fn itself(entry: &ServiceEntry, name: &Host) -> Endpoint {
    let none = BTreeMap::new();
    Endpoint {
        address: WorkloadAddress::Host(name.clone()),
        labels: Labels::new(),
        weight: 1,
        service_accounts: Vec::new(),
        ports: entry
            .ports
            .iter()
            .map(|port| port_of(port, &none))
            .collect(),
        sidecar: HasSidecar::No,
        place: entry.meta.place.clone(),
    }
}

fn listed_endpoint(entry: &ServiceEntry, workload: &Workload) -> Endpoint {
    Endpoint {
        address: workload.address.clone(),
        labels: workload.labels.clone(),
        weight: workload.weight,
        service_accounts: workload.service_account.iter().cloned().collect(),
        ports: ports_of(&entry.ports, workload),
        sidecar: workload_sidecar(&workload.labels, workload.service_account.as_ref()),
        place: workload.place.clone(),
    }
}

/// E11: WorkloadEntries, and Pods whose addresses are known.
fn selected(entry: &ServiceEntry, labels: &Labels, workloads: &Workloads<'_>) -> Vec<Endpoint> {
    let namespace = &entry.meta.namespace;
    let entries = workloads.entries(namespace, labels).map(|found| Endpoint {
        labels: entry_labels(found).clone(),
        sidecar: workload_sidecar(entry_labels(found), found.workload.service_account.as_ref()),
        ..listed_endpoint(entry, &found.workload)
    });
    let pods = workloads.pods(namespace, labels).flat_map(|pod| {
        pod.ips.first().into_iter().filter_map(|ip| {
            let host = Host::parse(&ip.to_string()).ok()?;
            let ports = entry.ports.iter().map(|port| port_of(port, &pod.ports));
            Some(Endpoint {
                address: WorkloadAddress::Host(host),
                labels: pod.labels.clone(),
                weight: 1,
                service_accounts: vec![account(pod)],
                ports: ports.collect(),
                sidecar: pod_sidecar(pod),
                place: pod.meta.place.clone(),
            })
        })
    });
    entries.chain(pods).collect()
}
