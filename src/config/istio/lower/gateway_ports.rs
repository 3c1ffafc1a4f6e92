//! Which server of which Gateway gets which port (ISTIO.md G1, G8, G11, X13).
//!
//! Owns: [`Ports`], [`Offer`]: who is chosen, where ports are bound, and who has to give way.
//! Never: looks at a route.
//! Called by: gateways.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::gateway_routes::{Bound, Fails};
use super::report;
use super::workloads::{Workloads, target_of};
use crate::config::diagnostic::{Code, Diagnostics};
use crate::config::istio::Manifests;
use crate::config::istio::gateway::{Gateway, Server, ServerKind};
use crate::config::istio::manifests::OnGateways;
use crate::config::istio::meta::selects;
use crate::config::istio::service::Service;
use crate::config::options::LoadOptions;
use crate::model::{GatewayPort, HostPattern, Place, ProxyFacts, Reason, Refused, Role};

/// A server that is served here.
#[derive(Clone)]
pub struct Offer<'a> {
    pub gateway: &'a Gateway,
    pub server: &'a Server,
    /// Its document was refused, and this is how its hosts fail (X1).
    pub fails: Option<Fails>,
}

impl Offer<'_> {
    /// The names of its hosts, each once.
    pub fn names(&self) -> Vec<HostPattern> {
        let mut names = Vec::with_capacity(self.server.hosts.len());
        for host in &self.server.hosts {
            if !names.contains(&host.value.host) {
                names.push(host.value.host.clone());
            }
        }
        names
    }

    /// Why nobody is let in: its document was refused, or one that may be for any host of it (X1).
    pub fn closed(&self, bound: &Bound<'_, '_>) -> Option<Arc<str>> {
        let fails = self.fails.as_ref().or(bound.closed.as_ref());
        fails.map(|fails| Arc::clone(&fails.reason))
    }

    /// For `explain`: what the server does.
    pub fn reason(&self) -> Reason {
        let how = match &self.server.kind {
            ServerKind::Http(None) => "clear text",
            ServerKind::Http(Some(_)) => "clear text, redirected to https",
            ServerKind::Tcp => "bytes in the clear",
            ServerKind::Https(tls) | ServerKind::Tls(tls) => tls.mode.name(),
            ServerKind::PassThrough => "PASSTHROUGH",
            ServerKind::AutoPassThrough => "AUTO_PASSTHROUGH",
        };
        Reason {
            what: "tls",
            how: how.to_owned(),
            object: self.gateway.meta.object(),
            place: Some(self.server.place.clone()),
        }
    }
}

/// Every gateway port of this proxy.
pub struct Ports<'a> {
    groups: BTreeMap<GatewayPort, Group<'a>>,
}

/// The servers of one port, where it is bound, and who said so first.
pub struct Group<'a> {
    pub address: SocketAddr,
    pub place: Place,
    pub offers: Vec<Offer<'a>>,
}

/// What can share a port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Http,
    Tcp,
    Tls,
}

impl<'a> Ports<'a> {
    /// Asks the Gateways in the order of their age, and their servers as written: whoever comes
    /// first has the port.
    pub fn assign(
        manifests: &'a Manifests,
        options: &LoadOptions,
        out: &mut Diagnostics,
    ) -> Ports<'a> {
        let chosen = chosen(manifests, &options.facts);
        let places = Places::new(manifests, options);
        let mut ports = Ports {
            groups: BTreeMap::new(),
        };
        let mut bound: HashMap<SocketAddr, GatewayPort> = HashMap::new();
        let mut names: HashMap<(GatewayPort, HostPattern), Offer<'a>> = HashMap::new();
        for (gateway, refused) in chosen {
            for server in &gateway.servers {
                let offer = Offer {
                    gateway,
                    server,
                    fails: refused.map(Fails::of),
                };
                let port = GatewayPort {
                    bind: own_address(server, options),
                    number: server.number,
                };
                let address = places.address(port, gateway, server, out);
                let other = *bound.entry(address).or_insert(port);
                if let Some(first) = ports.taken(other, &offer, &names) {
                    out.push(conflict(&offer, &first, address));
                    continue;
                }
                if offer.server.kind.is_secure() {
                    for name in offer.names() {
                        names.entry((port, name)).or_insert_with(|| offer.clone());
                    }
                }
                let group = ports.groups.entry(other).or_insert_with(|| Group {
                    address,
                    place: server.place.clone(),
                    offers: Vec::new(),
                });
                group.offers.push(offer);
            }
        }
        ports
    }

    /// Who has the port, or a name on it, where that leaves no room for `offer`, and in words what.
    fn taken(
        &self,
        port: GatewayPort,
        offer: &Offer<'_>,
        names: &HashMap<(GatewayPort, HostPattern), Offer<'a>>,
    ) -> Option<(Offer<'a>, String)> {
        let first = self.groups.get(&port)?.offers.first()?;
        let (had, class) = (class(first.server), class(offer.server));
        let number = offer.server.number;
        if first.server.number != number {
            let words = format!("is bound where port {} is", first.server.number);
            return Some((first.clone(), words));
        }
        if had != class {
            let words = format!("is {}, and {} there", class.words(), had.words());
            return Some((first.clone(), words));
        }
        if class == Class::Tcp {
            let words = "is for bytes in the clear, which only one server of a port can have";
            return Some((first.clone(), words.to_owned()));
        }
        offer.names().into_iter().find_map(|name| {
            let words = format!("serves the host {name}, which has its certificate there");
            let other = names.get(&(port, name))?;
            Some((other.clone(), words))
        })
    }

    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub fn groups(&self) -> impl Iterator<Item = (GatewayPort, &Group<'a>)> {
        self.groups.iter().map(|(port, group)| (*port, group))
    }

    /// All servers that are served.
    pub fn offers(&self) -> impl Iterator<Item = &Offer<'a>> {
        self.groups.values().flat_map(|group| &group.offers)
    }
}

impl Class {
    fn words(self) -> &'static str {
        match self {
            Class::Http => "HTTP in the clear",
            Class::Tcp => "bytes in the clear",
            Class::Tls => "TLS",
        }
    }
}

fn class(server: &Server) -> Class {
    match server.kind {
        ServerKind::Http(_) => Class::Http,
        ServerKind::Tcp => Class::Tcp,
        ServerKind::Https(_)
        | ServerKind::Tls(_)
        | ServerKind::PassThrough
        | ServerKind::AutoPassThrough => Class::Tls,
    }
}

/// IST0145: the older of two decides, and the other one's server is not served.
fn conflict(
    offer: &Offer<'_>,
    (first, words): &(Offer<'_>, String),
    address: SocketAddr,
) -> crate::config::diagnostic::Diagnostic {
    let number = offer.server.number;
    let problem = format!(
        "the server {:?} on port {number} {words}: {} at {} came first, and this server is not \
         served ({address})",
        &*offer.server.port_name, first.gateway.meta, first.server.place
    );
    let advice = "give it another port, bind or hosts, or put both into one server";
    let object = offer.gateway.meta.object();
    let code = Code::GatewaysConflict;
    report::at(&object, &offer.server.place, code, problem, advice)
}

/// `bind`, where it is another address than that of gateways without one. Every address is every
/// one of both families, however it is written: two sockets would part them.
fn own_address(server: &Server, options: &LoadOptions) -> Option<IpAddr> {
    let bind = server.bind?;
    let default = match options.gateway_bind {
        Some(ip) => bind == ip,
        None => bind.is_unspecified(),
    };
    (!default).then_some(bind)
}

/// G1: the Gateways that are for this proxy, the oldest first; of those that were refused, what
/// could be read (X1).
fn chosen<'a>(
    manifests: &'a Manifests,
    facts: &ProxyFacts,
) -> Vec<(&'a Gateway, Option<&'a Refused>)> {
    let whole = manifests.gateways.iter().map(|one| (one, None));
    let refused = manifests
        .refused
        .iter()
        .filter_map(|one| match &one.on_gateways {
            OnGateways::Servers(gateway) => Some((&**gateway, Some(&one.refused))),
            OnGateways::Nothing | OnGateways::Hosts { .. } => None,
        });
    let mut chosen: Vec<_> = whole
        .chain(refused)
        .filter(|(gateway, _)| is_for(gateway, facts))
        .collect();
    chosen.sort_by(|(a, _), (b, _)| a.meta.by_age(&b.meta));
    chosen
}

/// G1, X13: all labels; without any, every proxy that is a gateway.
fn is_for(gateway: &Gateway, facts: &ProxyFacts) -> bool {
    match gateway.selector.is_empty() {
        true => facts.role == Role::Gateway,
        false => selects(&gateway.selector, &facts.labels),
    }
}

/// Where ports are bound (G11, X13).
struct Places<'a> {
    options: &'a LoadOptions,
    /// The Services that lead to this proxy.
    services: Vec<&'a Service>,
    workloads: Workloads<'a>,
}

impl<'a> Places<'a> {
    fn new(manifests: &'a Manifests, options: &'a LoadOptions) -> Places<'a> {
        let facts = &options.facts;
        let leads_here = |service: &&Service| {
            service.meta.namespace == facts.namespace
                && !service.selector.is_empty()
                && selects(&service.selector, &facts.labels)
        };
        Places {
            options,
            services: manifests.services.iter().filter(leads_here).collect(),
            workloads: Workloads::new(manifests),
        }
    }

    fn address(
        &self,
        port: GatewayPort,
        gateway: &Gateway,
        server: &Server,
        out: &mut Diagnostics,
    ) -> SocketAddr {
        let everywhere = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let ip = port.bind.or(self.options.gateway_bind);
        let number = match self.options.gateway_ports.get(&port.number) {
            Some(number) => *number,
            None => self.target(port.number, gateway, server, out),
        };
        SocketAddr::new(ip.unwrap_or(everywhere), number)
    }

    /// The `targetPort` of a Service that leads here, else the number itself (IST0162).
    fn target(
        &self,
        number: u16,
        gateway: &Gateway,
        server: &Server,
        out: &mut Diagnostics,
    ) -> u16 {
        for service in &self.services {
            let mut ports = service.ports.iter();
            let Some(port) = ports.find(|port| port.number == number) else {
                continue;
            };
            let facts = &self.options.facts;
            let pods = self.workloads.pods(&facts.namespace, &service.selector);
            let named = pods.filter_map(|pod| target_of(port, &pod.ports));
            let none = BTreeMap::new();
            let own = target_of(port, &none);
            return own.or_else(|| named.into_iter().next()).unwrap_or(number);
        }
        if let Some(service) = self.services.first() {
            let ports: HashSet<u16> = self
                .services
                .iter()
                .flat_map(|service| &service.ports)
                .map(|port| port.number)
                .collect();
            let mut ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
            ports.sort();
            let problem = format!(
                "port {number} is none of the ports of the gateway's {} at {}: {}; it is bound as \
                 {number}",
                service.meta,
                service.meta.place,
                ports.join(", ")
            );
            let advice = "add the port to the Service, or nobody outside reaches it";
            let object = gateway.meta.object();
            let code = Code::PortNotOnService;
            out.push(report::at(&object, &server.place, code, problem, advice));
        }
        number
    }
}
