//! Services of Kubernetes, joined with Endpoints, Pods and WorkloadEntries (ISTIO.md E8 to E11).
//!
//! Owns: what is behind a Service, and what is assumed where no document says so.
//! Never: chooses among owners (that is `owners`).
//! Called by: owners.
//!
//! Why a Service without Endpoints documents is its own DNS name: sortie asks no API server. The
//! cluster's DNS answers with the virtual address (or, headless, the pods'), at the service's port.

use std::collections::HashMap;
use std::sync::Arc;

use ipnet::IpNet;

use super::entries::single;
use super::registry::{Endpoint, HasSidecar, Known};
use super::workloads::{
    Workloads, account, entry_labels, pod_sidecar, ports_of, target_of, workload_sidecar,
};
use crate::config::istio::Manifests;
use crate::config::istio::meta::Labels;
use crate::config::istio::service::{EndpointAddress, Endpoints, Service};
use crate::config::istio::service_entry::{
    EntryResolution, Location, Protocol, ServicePort, TargetPort,
};
use crate::config::istio::workload::{Pod, WorkloadAddress};
use crate::model::{Host, HostPattern};

const SLICE: &str = "EndpointSlice";

/// Services and what serves them.
pub struct Cluster<'a> {
    endpoints: HashMap<(&'a str, &'a str), Vec<&'a Endpoints>>,
    workloads: &'a Workloads<'a>,
    domain: &'a str,
    /// The proxy's own namespace: short names are aliases there alone (H4).
    namespace: &'a str,
}

impl<'a> Cluster<'a> {
    /// With the Endpoints and EndpointSlices of `manifests`.
    pub fn new(
        manifests: &'a Manifests,
        workloads: &'a Workloads<'a>,
        domain: &'a str,
        namespace: &'a str,
    ) -> Cluster<'a> {
        let mut endpoints: HashMap<_, Vec<_>> = HashMap::new();
        for one in &manifests.endpoints {
            let key = (one.meta.namespace.as_ref(), one.service.as_ref());
            endpoints.entry(key).or_default().push(one);
        }
        Cluster {
            endpoints,
            workloads,
            domain,
            namespace,
        }
    }

    /// The host of a Service in the registry; `None` where its name cannot be one.
    pub fn host(&self, service: &Service) -> Option<Host> {
        let (name, namespace) = (&service.meta.name, &service.meta.namespace);
        Host::parse(&format!("{name}.{namespace}.svc.{}", self.domain)).ok()
    }

    /// The names besides its host under which a Service is asked for (H4).
    pub fn aliases(&self, service: &Service) -> Vec<Host> {
        let (name, namespace) = (&service.meta.name, &service.meta.namespace);
        let short = (namespace.as_ref() == self.namespace).then(|| name.to_string());
        let rest = [
            format!("{name}.{namespace}"),
            format!("{name}.{namespace}.svc"),
        ];
        let all = short.into_iter().chain(rest);
        all.filter_map(|alias| Host::parse(&alias).ok()).collect()
    }

    /// The service that `service` is, under `host`.
    pub fn known(&self, service: &Service, host: &Host) -> Known {
        let mut ports = service.ports.clone();
        ports.retain(|port| port.protocol != Protocol::Udp);
        let addresses: Vec<IpNet> = service
            .cluster_ips
            .iter()
            .copied()
            .map(IpNet::from)
            .collect();
        let mut aliases = self.aliases(service);
        aliases.extend(single(&addresses));
        let (resolution, location, endpoints) = self.behind(service, host, &ports);
        Known {
            host: HostPattern::Exact(host.clone()),
            object: service.meta.object(),
            place: service.meta.place.clone(),
            name: Arc::clone(&service.meta.name),
            namespace: Arc::clone(&service.meta.namespace),
            kubernetes: true,
            aliases,
            addresses,
            ports,
            location,
            resolution,
            endpoints,
            subject_alt_names: service.service_accounts.clone(),
        }
    }

    fn behind(
        &self,
        service: &Service,
        host: &Host,
        ports: &[ServicePort],
    ) -> (EntryResolution, Location, Vec<Endpoint>) {
        if let Some(target) = &service.external_name {
            let numbers = ports.iter().map(|port| Some(port.number)).collect();
            let endpoint = plain(service, target, numbers, HasSidecar::No);
            return (EntryResolution::Dns, Location::External, vec![endpoint]);
        }
        let mut endpoints = self.declared(service, ports);
        if endpoints.is_none() {
            let found = self.selected(service, ports);
            endpoints = (!found.is_empty()).then_some(found);
        }
        if service.headless {
            let endpoints = endpoints.unwrap_or_default();
            return (EntryResolution::None, Location::Internal, endpoints);
        }
        match endpoints {
            Some(found) => (addressing(&found), Location::Internal, found),
            None => {
                let itself = self.itself(service, host, ports);
                (EntryResolution::Dns, Location::Internal, vec![itself])
            }
        }
    }

    /// From Endpoints and EndpointSlices, with the WorkloadEntries that the selector picks; `None`
    /// where there is no such document.
    fn declared(&self, service: &Service, ports: &[ServicePort]) -> Option<Vec<Endpoint>> {
        let namespace = service.meta.namespace.as_ref();
        let key = (namespace, service.meta.name.as_ref());
        let documents = self.endpoints.get(&key)?;
        // K5: Kubernetes keeps both for one Service, and the slices are the newer.
        let slices = documents.iter().any(|one| one.meta.kind == SLICE);
        let mut found: Vec<Endpoint> = Vec::new();
        for document in documents {
            if slices && document.meta.kind != SLICE {
                continue;
            }
            for address in &document.addresses {
                found.extend(self.address(service, document, address, ports));
            }
        }
        found.extend(self.workload_entries(service, ports));
        Some(found)
    }

    fn address(
        &self,
        service: &Service,
        document: &Endpoints,
        address: &EndpointAddress,
        ports: &[ServicePort],
    ) -> Option<Endpoint> {
        let namespace = service.meta.namespace.as_ref();
        let pod = self
            .workloads
            .pod(namespace, address.pod.as_deref(), address.ip);
        let common = match pod {
            Some(pod) => Common::of(&[pod]),
            None => Common::of(&self.pods(service)),
        };
        let number = |port: &ServicePort| match document.ports.get(port.name.as_ref()) {
            Some(number) => Some(*number),
            // A Service with one port may leave it without a name.
            None if ports.len() == 1 && document.ports.len() == 1 => {
                document.ports.values().next().copied()
            }
            None => None,
        };
        Some(Endpoint {
            address: WorkloadAddress::Host(Host::parse(&address.ip.to_string()).ok()?),
            labels: common.labels,
            weight: 1,
            service_accounts: common.accounts,
            ports: ports.iter().map(number).collect(),
            sidecar: common.sidecar,
            place: document.place.clone(),
        })
    }

    /// Without Endpoints documents: Pods whose addresses are known, and WorkloadEntries.
    fn selected(&self, service: &Service, ports: &[ServicePort]) -> Vec<Endpoint> {
        let pods = self.pods(service).into_iter().filter_map(|pod| {
            let host = Host::parse(&pod.ips.first()?.to_string()).ok()?;
            let targets = ports.iter().map(|port| target_of(port, &pod.ports));
            Some(Endpoint {
                labels: pod.labels.clone(),
                service_accounts: vec![account(pod)],
                place: pod.meta.place.clone(),
                ..plain(service, &host, targets.collect(), pod_sidecar(pod))
            })
        });
        let mut found: Vec<Endpoint> = pods.collect();
        found.extend(self.workload_entries(service, ports));
        found
    }

    fn workload_entries<'b>(
        &'b self,
        service: &'b Service,
        ports: &'b [ServicePort],
    ) -> impl Iterator<Item = Endpoint> + 'b {
        let selector = (!service.selector.is_empty()).then_some(&service.selector);
        let namespace = service.meta.namespace.as_ref();
        let found = selector.map(|labels| self.workloads.entries(namespace, labels));
        found.into_iter().flatten().map(move |entry| {
            let labels = entry_labels(entry);
            let account = entry.workload.service_account.as_ref();
            Endpoint {
                address: entry.workload.address.clone(),
                labels: labels.clone(),
                weight: entry.workload.weight,
                service_accounts: account.into_iter().cloned().collect(),
                ports: ports_of(ports, &entry.workload),
                sidecar: workload_sidecar(labels, account),
                place: entry.workload.place.clone(),
            }
        })
    }

    /// The service's own name, looked up: all that is known of its pods is what they share.
    fn itself(&self, service: &Service, host: &Host, ports: &[ServicePort]) -> Endpoint {
        let common = Common::of(&self.pods(service));
        let numbers = ports.iter().map(|port| Some(port.number)).collect();
        Endpoint {
            labels: common.labels,
            service_accounts: common.accounts,
            ..plain(service, host, numbers, common.sidecar)
        }
    }

    /// Pods and pod templates that the selector picks.
    fn pods(&self, service: &Service) -> Vec<&Pod> {
        if service.selector.is_empty() {
            return Vec::new();
        }
        let namespace = service.meta.namespace.as_ref();
        self.workloads.pods(namespace, &service.selector).collect()
    }
}

/// The numeric target of a headless Service's port, to which names are dialled (E10).
pub fn headless_target(port: &ServicePort) -> Option<u16> {
    match &port.target {
        Some(TargetPort::Number(number)) if *number != port.number => Some(*number),
        Some(_) | None => None,
    }
}

fn plain(service: &Service, host: &Host, ports: Vec<Option<u16>>, sidecar: HasSidecar) -> Endpoint {
    Endpoint {
        address: WorkloadAddress::Host(host.clone()),
        labels: Labels::new(),
        weight: 1,
        service_accounts: Vec::new(),
        ports,
        sidecar,
        place: service.meta.place.clone(),
    }
}

/// Addresses stand for themselves; a WorkloadEntry may have a name, which is looked up.
fn addressing(endpoints: &[Endpoint]) -> EntryResolution {
    let numeric = |endpoint: &Endpoint| match &endpoint.address {
        WorkloadAddress::Host(host) => host.ip().is_some(),
        WorkloadAddress::Unix(_) => true,
    };
    match endpoints.iter().all(numeric) {
        true => EntryResolution::Static,
        false => EntryResolution::Dns,
    }
}

/// What several Pods have in common.
struct Common {
    labels: Labels,
    accounts: Vec<Arc<str>>,
    sidecar: HasSidecar,
}

impl Common {
    fn of(pods: &[&Pod]) -> Common {
        let Some((first, rest)) = pods.split_first() else {
            return Common {
                labels: Labels::new(),
                accounts: Vec::new(),
                sidecar: HasSidecar::Unknown,
            };
        };
        let mut labels = first.labels.clone();
        labels.retain(|key, value| rest.iter().all(|pod| pod.labels.get(key) == Some(value)));
        let mut accounts: Vec<Arc<str>> = pods.iter().map(|pod| account(pod)).collect();
        accounts.sort();
        accounts.dedup();
        let any = |wanted| pods.iter().any(|pod| pod_sidecar(pod) == wanted);
        let sidecar = match (any(HasSidecar::No), any(HasSidecar::Unknown)) {
            (true, _) => HasSidecar::No,
            (false, true) => HasSidecar::Unknown,
            (false, false) => HasSidecar::Yes,
        };
        Common {
            labels,
            accounts,
            sidecar,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::istio::lower::testing::Lab;
    use crate::model::{HttpChoice, Resolution};

    const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: n, namespace: s}
spec:
  clusterIP: 10.96.0.7
  selector: {app: n}
  ports:
  - {port: 80, name: http, targetPort: 8080}
  - {port: 81, name: grpc-x, targetPort: named}
---
";
    const HOST: &str = "n.s.svc.cluster.local";

    fn pod(name: &str, ip: &str, labels: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: s, labels: {{app: \
             n{labels}}}}}\nspec: {{containers: [{{name: c, image: i, ports: [{{name: named, \
             containerPort: 9090}}]}}]}}\nstatus: {{podIP: {ip}, podIPs: [{{ip: {ip}}}]}}\n---\n"
        )
    }

    #[test]
    fn without_endpoints_a_service_is_its_own_dns_name_at_its_own_port() {
        let told = Lab::new(SERVICE).refer(HOST, 80, "");
        assert_eq!(told.endpoints(), [format!("{HOST}:80")]);
        assert_eq!(told.spec.resolution, Resolution::Dns);
        let labels = told.spec.service.clone().unwrap();
        assert_eq!((&*labels.host, &*labels.name), (HOST, "n"));
        assert_eq!(labels.namespace.as_deref(), Some("s"));
    }

    #[test]
    fn e8_a_grpc_port_speaks_http2() {
        assert_eq!(
            Lab::new(SERVICE).refer(HOST, 81, "").spec.http,
            HttpChoice::Http2
        );
        assert_eq!(
            Lab::new(SERVICE).refer(HOST, 80, "").spec.http,
            HttpChoice::Http1
        );
    }

    #[test]
    fn h4_short_names_are_aliases_in_the_services_own_namespace_alone() {
        for (namespace, short) in [("s", true), ("default", false)] {
            let lab = Lab::new(SERVICE).facts(|facts| facts.namespace = namespace.into());
            let (registry, _) = lab.registry();
            let aliases: Vec<&str> = registry.services[0]
                .aliases
                .iter()
                .map(|alias| alias.as_str())
                .collect();
            assert_eq!(aliases.contains(&"n"), short);
            assert!(
                aliases.ends_with(&["n.s", "n.s.svc", "10.96.0.7"]),
                "{aliases:?}"
            );
        }
    }

    #[test]
    fn endpoints_documents_are_joined_with_pods_by_name_or_address() {
        let text = format!(
            "{SERVICE}{}{}
apiVersion: v1
kind: Endpoints
metadata: {{name: n, namespace: s}}
subsets:
- addresses: [{{ip: 10.0.0.1, targetRef: {{kind: Pod, name: a}}}}, {{ip: 10.0.0.2}}]
  ports: [{{name: http, port: 8080}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: n, namespace: s}}
spec:
  host: n
  subsets: [{{name: one, labels: {{v: '1'}}}}, {{name: two, labels: {{v: '2'}}}}]
",
            pod("a", "10.9.9.9", ", v: '1'"),
            pod("b", "10.0.0.2", ", v: '2'")
        );
        let lab = Lab::new(&text);
        assert_eq!(
            lab.refer(HOST, 80, "").endpoints(),
            ["10.0.0.1:8080", "10.0.0.2:8080"]
        );
        assert_eq!(lab.refer(HOST, 80, "").spec.resolution, Resolution::Static);
        assert_eq!(lab.refer(HOST, 80, "one").endpoints(), ["10.0.0.1:8080"]);
        assert_eq!(lab.refer(HOST, 80, "two").endpoints(), ["10.0.0.2:8080"]);
        // The Endpoints document does not serve the other port.
        let told = lab.refer(HOST, 81, "");
        assert_eq!(
            told.broken(),
            "Unhealthy: Service s/n at t.yaml:2 has no endpoint for this port"
        );
    }

    #[test]
    fn endpoint_slices_serve_like_endpoints() {
        let text = format!(
            "{SERVICE}
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: n-x, namespace: s, labels: {{kubernetes.io/service-name: n}}}}
addressType: IPv4
endpoints: [{{addresses: [10.0.0.3]}}]
ports: [{{name: http, port: 8080}}, {{name: grpc-x, port: 9090}}]
"
        );
        let lab = Lab::new(&text);
        assert_eq!(lab.refer(HOST, 80, "").endpoints(), ["10.0.0.3:8080"]);
        assert_eq!(lab.refer(HOST, 81, "").endpoints(), ["10.0.0.3:9090"]);
    }

    #[test]
    fn k5_endpoint_slices_replace_endpoints_of_the_same_service() {
        let text = format!(
            "{SERVICE}
apiVersion: v1
kind: Endpoints
metadata: {{name: n, namespace: s}}
subsets: [{{addresses: [{{ip: 10.0.0.9}}], ports: [{{name: http, port: 8080}}]}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: n-x, namespace: s, labels: {{kubernetes.io/service-name: n}}}}
addressType: IPv4
endpoints: [{{addresses: [10.0.0.3]}}]
ports: [{{name: http, port: 8080}}]
"
        );
        let told = Lab::new(&text).refer(HOST, 80, "");
        assert_eq!(told.endpoints(), ["10.0.0.3:8080"]);
    }

    #[test]
    fn a_pod_of_another_namespace_with_the_same_address_is_another_pod() {
        let elsewhere = pod("a", "10.0.0.3", ", security.istio.io/tlsMode: istio");
        let text = format!(
            "{SERVICE}{}
apiVersion: v1
kind: Endpoints
metadata: {{name: n, namespace: s}}
subsets: [{{addresses: [{{ip: 10.0.0.3}}], ports: [{{name: http, port: 8080}}]}}]
",
            elsewhere.replace("namespace: s", "namespace: t")
        );
        assert!(
            Lab::new(&text)
                .identity()
                .refer(HOST, 80, "")
                .is_plaintext()
        );
    }

    #[test]
    fn e11_a_service_picks_pods_and_workload_entries_by_its_selector() {
        let text = format!(
            "{SERVICE}{}
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: vm, namespace: s}}
spec: {{address: 10.0.0.7, labels: {{app: n}}, ports: {{grpc-x: 7777}}}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: other, namespace: s}}
spec: {{address: 10.0.0.8, labels: {{app: other}}}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: elsewhere, namespace: t}}
spec: {{address: 10.0.0.9, labels: {{app: n}}}}
",
            pod("a", "10.0.0.1", "")
        );
        let lab = Lab::new(&text);
        assert_eq!(
            lab.refer(HOST, 80, "").endpoints(),
            ["10.0.0.1:8080", "10.0.0.7:8080"]
        );
        assert_eq!(
            lab.refer(HOST, 81, "").endpoints(),
            ["10.0.0.1:9090", "10.0.0.7:7777"]
        );
    }

    #[test]
    fn e10_a_headless_service_leads_to_the_address_that_was_dialled() {
        let text = SERVICE.replace("10.96.0.7", "None");
        let told = Lab::new(&text).refer(HOST, 80, "");
        assert_eq!(
            told.spec.resolution,
            Resolution::OriginalDst { port: Some(8080) }
        );
        assert!(told.endpoints().is_empty() && told.is_plaintext());
        let sidecars = ", security.istio.io/tlsMode: istio";
        let both = |second: &str| {
            let pods = pod("a", "10.0.0.1", sidecars) + &pod("b", "10.0.0.2", second);
            Lab::new(&format!("{text}{pods}"))
                .identity()
                .refer(HOST, 80, "")
        };
        assert!(!both(sidecars).is_plaintext());
        assert!(both("").is_plaintext());
    }

    #[test]
    fn what_all_pods_share_holds_for_the_services_name() {
        let deployment = |version: &str| {
            format!(
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: n-{version}, namespace: \
                 s}}\nspec: {{template: {{metadata: {{labels: {{app: n, v: {version}, t: x}}}}, \
                 spec: {{serviceAccountName: sa-{version}, containers: []}}}}}}\n---\n"
            )
        };
        let rule = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: n, namespace: s}
spec:
  host: n
  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}
  subsets: [{name: x, labels: {t: x}}, {name: one, labels: {v: one}}]
";
        let text = format!("{SERVICE}{}{}{rule}", deployment("one"), deployment("two"));
        let lab = Lab::new(&text).identity();
        let told = lab.refer(HOST, 80, "x");
        assert_eq!(told.endpoints(), [format!("{HOST}:80")]);
        let spiffe = ["sa-one", "sa-two"].map(|sa| format!("spiffe://cluster.local/ns/s/sa/{sa}"));
        assert_eq!(told.tls().subject_alt_names, spiffe);
        // One name stands for both, and so neither of them alone can be chosen.
        let told = lab.refer(HOST, 80, "one");
        assert_eq!(
            told.broken(),
            "Unhealthy: subset \"one\" wants endpoints labelled v=one, and none of the 1 of \
             Service s/n at t.yaml:2 is"
        );
        assert_eq!(told.said("IST0173").len(), 1);
    }
}
