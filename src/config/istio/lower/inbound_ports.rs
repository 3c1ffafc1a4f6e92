//! Which ports of the application beside us are declared, and as what (ISTIO.md P2, E8, E11).
//!
//! Owns: [`OwnPorts`]: Services and ServiceEntries that select this proxy's own workload.
//! Never: decides who may connect (that is `inbound`).
//! Called by: inbound.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::report;
use super::workloads::{Workloads, entry_labels, target_of};
use crate::config::diagnostic::{Code, Diagnostics};
use crate::config::istio::Manifests;
use crate::config::istio::meta::{Labels, Meta, selects};
use crate::config::istio::service_entry::{Protocol, ServicePort, TargetPort};
use crate::config::istio::sidecar::{DefaultEndpoint, IngressTls, Sidecar};
use crate::model::{Carries, Place, ProxyFacts, ServiceLabels};

/// The ports of this proxy's own workload.
pub struct OwnPorts {
    /// By workload port. Of several Services that lead to one the oldest decides.
    pub declared: BTreeMap<u16, OwnPort>,
    /// The numbers of the containers' named ports, as far as documents say.
    pub names: BTreeMap<String, u16>,
    /// The same of a WorkloadEntry, by the names of service ports (E4).
    entry: BTreeMap<String, u16>,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct OwnPort {
    pub protocol: Protocol,
    /// The port by which the service is reached.
    pub service_port: u16,
    /// `None`: an ingress listener whose port no Service leads to.
    pub labels: Option<Arc<ServiceLabels>>,
    pub to: DefaultEndpoint,
    /// What clients outside the mesh speak, where mutual TLS is switched off.
    pub tls: Option<IngressTls>,
    /// `Service ns/name`, `Sidecar ns/name`.
    pub object: Arc<str>,
    pub place: Place,
}

/// A service that selects workloads.
pub struct Service<'a> {
    pub meta: &'a Meta,
    pub selector: &'a Labels,
    host: Arc<str>,
    name: Arc<str>,
    pub ports: &'a [ServicePort],
}

impl OwnPorts {
    /// Those that `manifests` declare.
    pub fn new(manifests: &Manifests, facts: &ProxyFacts, out: &mut Diagnostics) -> OwnPorts {
        let workloads = Workloads::new(manifests);
        let services = selecting(manifests, facts);
        let mut own = OwnPorts {
            declared: BTreeMap::new(),
            names: names(manifests, &workloads, &services, facts),
            entry: entry_ports(manifests, facts),
        };
        for service in &services {
            for port in service.ports {
                if port.protocol != Protocol::Udp {
                    own.declare(service, port, out);
                }
            }
        }
        own
    }

    /// X14: the listeners of a Sidecar are what is declared, in place of the Services.
    pub fn replaced(mut self, sidecar: &Sidecar) -> OwnPorts {
        let object = sidecar.meta.object();
        let mut services = std::mem::take(&mut self.declared);
        for one in &sidecar.ingress {
            let service = services.remove(&one.number);
            let port = OwnPort {
                protocol: one.protocol,
                service_port: service.as_ref().map_or(one.number, |own| own.service_port),
                labels: service.and_then(|own| own.labels),
                to: one.to,
                tls: one.tls.clone(),
                object: Arc::clone(&object),
                place: one.place.clone(),
            };
            self.declared.insert(one.number, port);
        }
        self
    }

    fn declare(&mut self, service: &Service<'_>, port: &ServicePort, out: &mut Diagnostics) {
        let object = service.meta.object();
        let entry = self.entry.get(port.name.as_ref()).copied();
        let Some(number) = entry.or_else(|| target_of(port, &self.names)) else {
            return out.push(nameless(&object, port));
        };
        let labels = ServiceLabels {
            host: Arc::clone(&service.host),
            name: Arc::clone(&service.name),
            namespace: Some(Arc::clone(&service.meta.namespace)),
            principal: None,
        };
        let found = OwnPort {
            protocol: port.protocol,
            service_port: port.number,
            labels: Some(Arc::new(labels)),
            to: DefaultEndpoint::Dialled,
            tls: None,
            object,
            place: port.place.clone(),
        };
        let first = self.declared.entry(number).or_insert_with(|| found.clone());
        if carries(first.protocol) != carries(found.protocol) {
            let problem = format!(
                "port {} leads to port {number} of the workload, which {} ({}) declares with \
                 another protocol, and it is older",
                port.number, first.object, first.place
            );
            let advice = "declare the port with one protocol in all Services of the workload";
            let code = Code::ProtocolsConflict;
            out.push(report::at(
                &found.object,
                &found.place,
                code,
                problem,
                advice,
            ));
        }
    }
}

/// What connections to a port of this protocol carry (P7 to P9). TLS that the port is declared for is
/// the application's own.
pub fn carries(protocol: Protocol) -> Carries {
    match protocol {
        Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::GrpcWeb => Carries::Http,
        Protocol::Tls | Protocol::Tcp | Protocol::Udp => Carries::Opaque,
        Protocol::Sniff => Carries::Either,
    }
}

/// Those that select this proxy's own workload, the older first.
fn selecting<'a>(manifests: &'a Manifests, facts: &ProxyFacts) -> Vec<Service<'a>> {
    let all = with_selectors(manifests, &facts.cluster_domain);
    let ours = |one: &Service<'_>| {
        one.meta.namespace == facts.namespace && selects(one.selector, &facts.labels)
    };
    let mut found: Vec<_> = all.filter(ours).collect();
    found.sort_by(|a, b| a.meta.by_age(b.meta));
    found
}

/// Services and ServiceEntries that select workloads.
pub fn with_selectors<'a>(
    manifests: &'a Manifests,
    domain: &str,
) -> impl Iterator<Item = Service<'a>> {
    let services = manifests.services.iter();
    let services = services.filter(|one| one.external_name.is_none());
    let services = services.map(move |one| Service {
        meta: &one.meta,
        selector: &one.selector,
        host: format!("{}.{}.svc.{domain}", one.meta.name, one.meta.namespace).into(),
        name: Arc::clone(&one.meta.name),
        ports: &one.ports,
    });
    let entries = manifests.service_entries.iter();
    let entries = entries.filter_map(|one| {
        let host: Arc<str> = one.hosts.first()?.value.to_string().into();
        Some(Service {
            meta: &one.meta,
            selector: one.selector.as_ref()?,
            name: Arc::clone(&host),
            host,
            ports: &one.ports,
        })
    });
    let all = services.chain(entries);
    all.filter(|one| !one.selector.is_empty())
}

/// True where a document is of this very workload: it has no label that the workload has not.
fn is_own(meta: &Meta, labels: &Labels, facts: &ProxyFacts) -> bool {
    meta.namespace == facts.namespace && !labels.is_empty() && selects(labels, &facts.labels)
}

fn entry_ports(manifests: &Manifests, facts: &ProxyFacts) -> BTreeMap<String, u16> {
    let mut entries = manifests.workload_entries.iter();
    let own = entries.find(|one| is_own(&one.meta, entry_labels(one), facts));
    own.map(|own| own.workload.ports.clone())
        .unwrap_or_default()
}

/// From the workload's own Pod or pod template; where there is none, from those that a service of its
/// selects.
fn names(
    manifests: &Manifests,
    workloads: &Workloads<'_>,
    services: &[Service<'_>],
    facts: &ProxyFacts,
) -> BTreeMap<String, u16> {
    let pods = manifests.pods.iter();
    let pods = pods.filter(|one| is_own(&one.meta, &one.labels, facts));
    let mut found: Vec<_> = pods.map(|pod| &pod.ports).collect();
    if found.is_empty() {
        for service in services {
            let pods = workloads.pods(&facts.namespace, service.selector);
            found.extend(pods.map(|pod| &pod.ports));
        }
    }
    let mut names = BTreeMap::new();
    for (name, number) in found.into_iter().flatten() {
        names.entry(name.clone()).or_insert(*number);
    }
    names
}

fn nameless(object: &Arc<str>, port: &ServicePort) -> crate::config::diagnostic::Diagnostic {
    let name = match &port.target {
        Some(TargetPort::Name(name)) => name.as_ref(),
        Some(TargetPort::Number(_)) | None => "",
    };
    let problem = format!(
        "targetPort {name:?} of port {} is a name, and no document says which port of this \
         workload has it: what is declared of the port is not known on the inbound side",
        port.number
    );
    let advice = "write its number, or load the Pod's or Deployment's document too";
    report::at(
        object,
        &port.place,
        Code::TargetPortUnknown,
        problem,
        advice,
    )
}
