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
use crate::config::istio::service_entry::{EntryResolution, Protocol, ServiceEntry};
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
    let mut known = Known {
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
    };
    let ports = entry.ports.iter();
    let keep: Vec<bool> = ports.map(|port| port.protocol != Protocol::Udp).collect();
    known.keep_ports(&keep);
    known
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

#[cfg(test)]
mod tests {
    use crate::config::istio::lower::testing::{Lab, Told};
    use crate::model::Resolution;

    fn told(rest: &str, port: u16) -> Told {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: a}}\nspec:\n  \
             hosts: [a.example]\n  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: \
             8080}}, {{number: 81, name: http-b, protocol: HTTP}}]\n  {rest}\n"
        );
        Lab::new(&text).refer("a.example", port, "")
    }

    #[test]
    fn e1_a_service_entry_that_says_nothing_goes_where_the_client_meant_to() {
        assert_eq!(
            told("", 81).spec.resolution,
            Resolution::OriginalDst { port: None }
        );
        let target = Resolution::OriginalDst { port: Some(8080) };
        assert_eq!(told("", 80).spec.resolution, target);
        assert!(told("", 80).is_plaintext());
    }

    #[test]
    fn e2_a_gateway_is_told_that_it_has_no_original_destination() {
        let text = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a}
spec: {hosts: [a.example], ports: [{number: 80, name: http, protocol: HTTP}]}
";
        let lab = Lab::new(text);
        assert_eq!(
            lab.refer("a.example", 80, "").said("SRT0511"),
            Vec::<&str>::new()
        );
        let lab = lab.facts(|facts| facts.role = crate::model::Role::Gateway);
        assert_eq!(lab.refer("a.example", 80, "").said("SRT0511").len(), 1);
    }

    #[test]
    fn e3_dns_looks_up_every_endpoint_or_the_host_itself() {
        let itself = told("resolution: DNS", 80);
        assert_eq!(itself.endpoints(), ["a.example:8080"]);
        assert_eq!(itself.spec.resolution, Resolution::Dns);
        let listed = told(
            "resolution: DNS\n  endpoints: [{address: x.example}, {address: 10.0.0.1}]",
            80,
        );
        assert_eq!(listed.endpoints(), ["x.example:8080", "10.0.0.1:8080"]);
        let one = told("resolution: DNS_ROUND_ROBIN", 81);
        assert_eq!(
            (one.endpoints(), one.spec.resolution),
            (vec!["a.example:81".into()], Resolution::DnsOne)
        );
    }

    #[test]
    fn e3_static_without_endpoints_has_none() {
        assert_eq!(
            told("resolution: STATIC", 80).broken(),
            "Unhealthy: ServiceEntry default/a at t.yaml:1 has no endpoint for this port"
        );
    }

    #[test]
    fn e4_an_endpoints_own_port_beats_the_target_port_which_beats_the_number() {
        let rest = "resolution: STATIC\n  endpoints: [{address: 10.0.0.1, ports: {http: 9000}}, \
                    {address: 10.0.0.2}]";
        assert_eq!(
            told(rest, 80).endpoints(),
            ["10.0.0.1:9000", "10.0.0.2:8080"]
        );
        assert_eq!(told(rest, 81).endpoints(), ["10.0.0.1:81", "10.0.0.2:81"]);
    }

    #[test]
    fn weights_of_endpoints_are_kept() {
        let rest = "resolution: STATIC\n  endpoints: [{address: 10.0.0.1, weight: 3}, {address: 10.0.0.2}]";
        let weights: Vec<u32> = told(rest, 80)
            .spec
            .endpoints
            .iter()
            .map(|one| one.weight)
            .collect();
        assert_eq!(weights, [3, 1]);
    }

    #[test]
    fn e11_a_selector_picks_workload_entries_and_pods_of_its_own_namespace() {
        let text = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a}
spec:
  hosts: [a.example]
  location: MESH_INTERNAL
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  resolution: STATIC
  workloadSelector: {labels: {app: a}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm}
spec: {address: 10.0.0.1, labels: {app: a}, ports: {http: 7000}, weight: 2}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: other}
spec: {address: 10.0.0.2, labels: {app: b}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: far, namespace: far}
spec: {address: 10.0.0.3, labels: {app: a}}
---
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: a}}
spec: {containers: []}
status: {podIP: 10.0.0.4, podIPs: [{ip: 10.0.0.4}]}
";
        let told = Lab::new(text).refer("a.example", 80, "");
        assert_eq!(told.endpoints(), ["10.0.0.1:7000", "10.0.0.4:8080"]);
    }

    #[test]
    fn e12_a_wildcard_is_found_by_the_hosts_that_it_covers_the_longest_first() {
        let text = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a}
spec: {hosts: ['*.foo.com', '*.b.foo.com'], ports: [{number: 443, name: tls, protocol: TLS}]}
";
        let lab = Lab::new(text);
        let (registry, _) = lab.registry();
        let found = |host: &str| registry.find(host).map(|known| known.host.to_string());
        assert_eq!(found("x.foo.com").as_deref(), Some("*.foo.com"));
        assert_eq!(found("x.b.foo.com").as_deref(), Some("*.b.foo.com"));
        assert_eq!(found("foo.com"), None);
        let told = lab.refer("*.foo.com", 443, "");
        assert_eq!(&*told.spec.name, "outbound|443||*.foo.com");
        assert_eq!(told.spec.resolution, Resolution::OriginalDst { port: None });
        // V10: a destination of its own is not what the wildcard declares.
        let told = lab.refer("x.foo.com", 443, "");
        assert!(
            told.broken()
                .starts_with("NoCluster: the destination x.foo.com is declared by no")
        );
        assert_eq!(told.said("IST0101").len(), 1);
    }

    #[test]
    fn dynamic_dns_looks_up_the_requests_host() {
        let text = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a}
spec: {hosts: ['*.foo.com'], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DYNAMIC_DNS}
";
        let told = Lab::new(text).refer("*.foo.com", 80, "");
        assert_eq!(told.spec.resolution, Resolution::RequestHost { port: None });
    }

    #[test]
    fn h4_the_addresses_of_an_entry_are_its_own_and_zero_is_not() {
        let text = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a}
spec: {hosts: [a.example], addresses: [10.5.5.5, 10.6.0.0/16, 0.0.0.0], ports: [{number: 80, name: tcp, \
protocol: TCP}], resolution: STATIC, endpoints: [{address: 10.0.0.1}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: b}
spec: {hosts: [b.example], addresses: [10.6.7.0/24], ports: [{number: 80, name: tcp, protocol: TCP}], \
resolution: STATIC, endpoints: [{address: 10.0.0.1}]}
";
        let (registry, _) = Lab::new(text).registry();
        let aliases: Vec<&str> = registry.services[0]
            .aliases
            .iter()
            .map(|a| a.as_str())
            .collect();
        assert_eq!(aliases, ["10.5.5.5"]);
        let addresses = |n: usize| {
            registry.services[n]
                .addresses
                .iter()
                .map(ToString::to_string)
        };
        assert_eq!(
            addresses(0).collect::<Vec<_>>(),
            ["10.5.5.5/32", "10.6.0.0/16"]
        );
        assert_eq!(addresses(1).collect::<Vec<_>>(), ["10.6.7.0/24"]);
    }
}
