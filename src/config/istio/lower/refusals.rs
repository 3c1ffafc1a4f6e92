//! What refused documents would have governed fails, and nothing else does (ISTIO.md X1).
//!
//! Owns: [`Governed`], the broken upstreams behind it, `Config.refused`.
//! Never: refuses a document (that is whoever found its mistake).
//! Called by: routes, streams.
//!
//! Why a host of its own is spared: where another document names the very host, the refused one, for
//! a wildcard, would have had no say on it. Why hosts are taken out of all that is left of the table: a table without a document is another
//! table, and it would serve in plaintext, or from elsewhere, what the document meant to secure.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ipnet::IpNet;

use super::host_index::HostIndex;
use super::registry::{Known, Registry};
use super::routes_claims::Active;
use super::routes_names::Names;
use crate::config::istio::Manifests;
use crate::config::istio::manifests::{Governs, RefusedObject};
use crate::config::istio::virtual_service::VirtualService;
use crate::model::{
    Action, Broken, BrokenKind, Config, Host, HostPattern, HostRoutes, Place, RuleSpec,
    StreamMatch, StreamRoute, UpstreamSpec, Weighted,
};

/// Names the hosts of routes of the Gateway API whose parents are ServiceEntries. Where one of these
/// is not there, or was refused itself, there is nothing to serve.
pub fn resolve(manifests: &mut Manifests) {
    for one in &mut manifests.refused {
        let Governs::Entries(hosts, parents) = &one.governs else {
            continue;
        };
        let mut hosts = hosts.clone();
        for (namespace, name) in parents {
            let entries = manifests.service_entries.iter();
            let parent = entries
                .filter(|entry| entry.meta.namespace == *namespace && entry.meta.name == *name);
            let found = parent.flat_map(|entry| &entry.hosts);
            hosts.extend(found.map(|host| host.value.clone()));
        }
        one.governs = Governs::Hosts(hosts);
    }
}

/// Hosts, addresses and ports of refused documents, and the broken upstream of each.
#[derive(Default)]
pub struct Governed {
    hosts: HostIndex<Vec<usize>>,
    ports: HashMap<u16, usize>,
    documents: Vec<Refusal>,
    spared: Spared,
}

/// What of a host is asked about: a document may have a say on one and none on another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    Http,
    Tls,
    Tcp,
}

/// One refused document that governs hosts.
struct Refusal {
    upstream: UpstreamSpec,
    object: Arc<str>,
    kind: &'static str,
    namespace: Arc<str>,
    place: Place,
    /// Hosts that it alone, or it first, governs.
    hosts: Vec<HostPattern>,
    addresses: Vec<IpNet>,
    ports: Vec<u16>,
}

/// Hosts that have a document of their own, which a refused one for a wildcard above them would not
/// have replaced (H2): they are served.
#[derive(Default)]
struct Spared {
    /// By VirtualServices.
    http: HashSet<HostPattern>,
    tls: HashSet<HostPattern>,
    tcp: HashSet<HostPattern>,
    /// By ServiceEntries and Services.
    services: HashSet<HostPattern>,
    /// By DestinationRules, with their namespaces (D1).
    rules: HashMap<HostPattern, Vec<Arc<str>>>,
    /// The proxy's namespace.
    namespace: Arc<str>,
}

impl Governed {
    /// Of all refused documents, with the other names of the services that they mean (H4).
    pub fn new(
        manifests: &Manifests,
        active: &[Active<'_>],
        registry: &Registry,
        names: &Names<'_>,
    ) -> Governed {
        let mut governed = Governed::default();
        for one in &manifests.refused {
            let Governs::Hosts(hosts) = &one.governs else {
                continue;
            };
            let index = governed.documents.len();
            governed.documents.push(Refusal::new(one));
            for host in reached(one, hosts, registry) {
                let aliases = names.aliases(&host);
                governed.add(host, index);
                for alias in aliases {
                    governed.add(alias, index);
                }
            }
            for address in one.addresses.iter().filter_map(address) {
                governed.add(address, index);
            }
            for port in &one.ports {
                governed.ports.entry(*port).or_insert(index);
            }
        }
        if !governed.documents.is_empty() {
            governed.spared = Spared::new(manifests, active, registry, names);
            for service in &registry.services {
                governed.add_service(service);
            }
        }
        governed
    }

    fn add(&mut self, host: HostPattern, index: usize) {
        let list = self.hosts.entry(&host);
        if list.contains(&index) {
            return;
        }
        list.push(index);
        if list.len() == 1
            && let Some(document) = self.documents.get_mut(index)
        {
            document.hosts.push(host);
        }
    }

    /// A service that is governed is so under every name and address.
    fn add_service(&mut self, service: &Known) {
        if let Some(index) = self.find(&service.host, Traffic::Http) {
            for alias in &service.aliases {
                self.add(HostPattern::Exact(alias.clone()), index);
            }
        }
        let index = self.find(&service.host, Traffic::Tcp);
        if let Some(document) = index.and_then(|index| self.documents.get_mut(index)) {
            document.addresses.extend(&service.addresses);
        }
    }

    /// Which document governs all of `host`.
    fn find(&self, host: &HostPattern, traffic: Traffic) -> Option<usize> {
        let exactly = self.hosts.exactly(host).and_then(|list| list.first());
        if let Some(index) = exactly {
            return Some(*index);
        }
        let mut wider = self.hosts.covering(host).flatten();
        wider
            .find(|index| {
                let document = self.documents.get(**index);
                document.is_some_and(|document| !self.spared.is_so(host, document, traffic))
            })
            .copied()
    }

    /// Where connections to `service` go instead, if it is governed: by its host, or as one without
    /// addresses by its port.
    pub fn broken(&self, service: &Known, port: u16, traffic: Traffic) -> Option<Vec<Weighted>> {
        let whole_port = service.addresses.is_empty();
        let by_port = || match whole_port {
            true => self.ports.get(&port).copied(),
            false => None,
        };
        let index = self.find(&service.host, traffic).or_else(by_port)?;
        Some(self.documents.get(index)?.to())
    }

    /// Takes what is governed out of the table, and puts it back with nothing behind it.
    pub fn apply(self, config: &mut Config) {
        if self.documents.is_empty() {
            return;
        }
        for group in &mut config.hosts {
            // A native route for the host itself is none of a wildcard document's business.
            let is_own = |host: &HostPattern| match group.object {
                Some(_) => self.find(host, Traffic::Http).is_none(),
                None => self.hosts.exactly(host).is_none_or(Vec::is_empty),
            };
            group.hosts.retain(is_own);
        }
        config.hosts.retain(|group| !group.hosts.is_empty());
        for stream in &mut config.streams {
            if let StreamMatch::Tls { names, .. } = &mut stream.on {
                names.retain(|name| self.find(name, Traffic::Tls).is_none());
            }
        }
        config.streams.retain(|stream| match &stream.on {
            StreamMatch::Tls { names, .. } => !names.is_empty(),
            StreamMatch::Tcp { .. } | StreamMatch::Sniffed { .. } => true,
        });
        let mut made = HashSet::new();
        for document in self.documents {
            // Two documents of one name: the first says why.
            if made.insert(Arc::clone(&document.upstream.name)) {
                config.upstreams.push(document.upstream.clone());
            }
            document.apply(config);
        }
    }
}

impl Spared {
    fn new(
        manifests: &Manifests,
        active: &[Active<'_>],
        registry: &Registry,
        names: &Names<'_>,
    ) -> Spared {
        let named = |has: fn(&VirtualService) -> bool| {
            let having = active.iter().filter(move |one| has(one.vs));
            let hosts = having.flat_map(|one| &one.hosts);
            hosts.map(|(host, _)| host.clone()).collect()
        };
        let mut rules: HashMap<HostPattern, Vec<Arc<str>>> = HashMap::new();
        let namespace = &registry.scope.namespace;
        for rule in &manifests.destination_rules {
            let host = names.expand(&rule.host.value, &rule.meta.namespace);
            let is_ours = rule.selector.is_none() && rule.export_to.is_visible_in(namespace);
            if let (Some(host), true) = (host, is_ours) {
                rules
                    .entry(host)
                    .or_default()
                    .push(Arc::clone(&rule.meta.namespace));
            }
        }
        Spared {
            http: named(|vs| !vs.http.is_empty()),
            tls: named(|vs| !vs.tls.is_empty()),
            tcp: named(|vs| !vs.tcp.is_empty()),
            services: registry
                .services
                .iter()
                .map(|known| known.host.clone())
                .collect(),
            rules,
            namespace: Arc::clone(namespace),
        }
    }

    /// True where `document`, which is for a wildcard above `host`, has no say on it.
    fn is_so(&self, host: &HostPattern, document: &Refusal, traffic: Traffic) -> bool {
        match (document.kind, traffic) {
            ("VirtualService", Traffic::Http) => self.http.contains(host),
            ("VirtualService", Traffic::Tls) => self.tls.contains(host),
            ("VirtualService", Traffic::Tcp) => self.tcp.contains(host),
            ("ServiceEntry", _) => self.services.contains(host),
            ("DestinationRule", _) => self.rules.get(host).is_some_and(|namespaces| {
                let mut all = namespaces.iter();
                all.any(|one| *one == document.namespace || *one == self.namespace)
            }),
            _ => false,
        }
    }
}

impl Refusal {
    fn new(one: &RefusedObject) -> Refusal {
        let refused = &one.refused;
        let mut upstream = UpstreamSpec::new(&format!("refused|{}", refused.object));
        upstream.broken = Some(Broken {
            kind: BrokenKind::Unhealthy,
            reason: refused.to_string().into(),
        });
        upstream.place = refused.place.clone();
        Refusal {
            upstream,
            object: Arc::clone(&refused.object),
            kind: one.meta.kind,
            namespace: Arc::clone(&one.meta.namespace),
            place: refused.place.clone(),
            hosts: Vec::new(),
            addresses: one.addresses.clone(),
            ports: one.ports.clone(),
        }
    }

    fn to(&self) -> Vec<Weighted> {
        vec![Weighted::new(&self.upstream.name, 1)]
    }

    fn apply(self, config: &mut Config) {
        let to = self.to();
        let stream = |port, on| StreamRoute {
            port,
            on,
            sources: Vec::new(),
            to: to.clone(),
            name: None,
            object: Some(Arc::clone(&self.object)),
            place: self.place.clone(),
        };
        if !self.addresses.is_empty() {
            let destinations = self.addresses.clone();
            let on = StreamMatch::Sniffed { destinations };
            config.streams.push(stream(None, on));
        }
        for port in &self.ports {
            let destinations = Vec::new();
            let on = StreamMatch::Sniffed { destinations };
            config.streams.push(stream(Some(*port), on));
        }
        let hosts = self.hosts;
        if !hosts.is_empty() {
            let on = StreamMatch::Tls {
                names: hosts.clone(),
                destinations: Vec::new(),
            };
            config.streams.push(stream(None, on));
            let action = Action::Forward(to.clone());
            config.hosts.push(HostRoutes {
                hosts: hosts.into(),
                port: None,
                rules: vec![RuleSpec {
                    object: Some(Arc::clone(&self.object)),
                    ..RuleSpec::new(action, self.place.clone())
                }]
                .into(),
                object: Some(Arc::clone(&self.object)),
                place: self.place.clone(),
            });
        }
    }
}

/// The hosts that `one` would have governed for this proxy. A DestinationRule of a namespace that is
/// neither the proxy's nor the root's is for the services of its own namespace alone (D1).
fn reached(one: &RefusedObject, hosts: &[HostPattern], registry: &Registry) -> Vec<HostPattern> {
    let scope = &registry.scope;
    let namespace = &one.meta.namespace;
    let everywhere = [&scope.namespace, &scope.mesh.root_namespace].contains(&namespace);
    if everywhere || one.meta.kind != "DestinationRule" {
        return hosts.to_vec();
    }
    let covers = |host: &HostPattern| {
        let mut hosts = hosts.iter();
        hosts.any(|one| one == host || one.matches(&host.to_string()))
    };
    let services = registry.services.iter();
    let own = services.filter(|service| service.namespace == *namespace && covers(&service.host));
    own.map(|service| service.host.clone()).collect()
}

/// A single address as a host.
fn address(net: &IpNet) -> Option<HostPattern> {
    let is_single = net.prefix_len() == net.max_prefix_len();
    let host = Host::parse(&net.addr().to_string()).ok()?;
    is_single.then_some(HostPattern::Exact(host))
}
