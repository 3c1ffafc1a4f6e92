//! Connections that carry no plain HTTP: by server name, by address, by port (ISTIO.md V17, V18, V20).
//!
//! Owns: the stream routes of every port that is not declared HTTP.
//! Never: makes an upstream (that is `clusters`), or reads a byte of a connection.
//! Called by: routes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ipnet::IpNet;

use super::clusters::Wanted;
use super::refusals::{Governed, Traffic};
use super::registry::Known;
use super::routes_claims::{Active, Claims, is_on};
use super::routes_rules::Ground;
use crate::config::istio::service_entry::{Protocol, ServicePort};
use crate::config::istio::virtual_service::{StreamDestination, TcpMatch, TlsMatch};
use crate::model::{HostPattern, Place, StreamMatch, StreamRoute, Weighted};

/// What claims hosts for TLS and for TCP.
pub struct StreamClaims {
    pub tls: Claims,
    pub tcp: Claims,
}

/// The stream routes of all services, in the order they are tried.
pub fn lower(
    active: &[Active<'_>],
    claims: &StreamClaims,
    governed: &Governed,
    ground: &mut Ground<'_, '_>,
) -> Vec<StreamRoute> {
    let services = &ground.registry.services;
    let mut streams = Streams {
        active,
        claims,
        governed,
        shared: SharedPorts::of(services),
        done: HashSet::new(),
        ruled: Vec::new(),
        plain: Vec::new(),
    };
    for (index, service) in services.iter().enumerate() {
        for port in &service.ports {
            match port.protocol {
                Protocol::Tls => streams.tls(service, port, ground),
                Protocol::Tcp => streams.tcp(index, service, port, ground),
                Protocol::Sniff => streams.sniffed(service, port, ground),
                Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::GrpcWeb => {}
                Protocol::Udp => {}
            }
        }
    }
    let mut list = streams.ruled;
    list.append(&mut streams.plain);
    list
}

struct Streams<'s, 'a> {
    active: &'s [Active<'a>],
    claims: &'s StreamClaims,
    governed: &'s Governed,
    shared: SharedPorts,
    /// VirtualService, rule, match and port: one is shared by all services that it is for.
    done: HashSet<(usize, usize, usize, u16)>,
    /// What VirtualServices say, before ...
    ruled: Vec<StreamRoute>,
    /// ... what services say by themselves.
    plain: Vec<StreamRoute>,
}

impl Streams<'_, '_> {
    /// V17: the `tls` rules of VirtualServices, or the service's own name.
    fn tls(&mut self, service: &Known, port: &ServicePort, ground: &mut Ground<'_, '_>) {
        let mut has_match = false;
        for index in self.claims.tls.of(&service.host) {
            let Some(one) = self.active.get(index) else {
                continue;
            };
            for (rule, route) in one.vs.tls.iter().enumerate() {
                for (number, on) in route.matches.iter().enumerate() {
                    if !is_on(&on.on, port.number) || !Active::stream_is_for(&on.on, ground.facts) {
                        continue;
                    }
                    has_match = true;
                    if self.done.insert((index, rule, number, port.number)) {
                        let to = destinations(one, &route.route, port.number, ground);
                        self.ruled.push(tls_route(one, on, port.number, to));
                    }
                }
            }
        }
        if has_match {
            return;
        }
        let to = self.own(service, port, ground);
        self.named(service, port, &to);
        // With an address of its own the service is known without its name.
        if !service.addresses.is_empty() {
            let destinations = service.addresses.clone();
            let on = StreamMatch::Tcp { destinations };
            self.plain
                .push(route(port.number, on, to, &service.object, &service.place));
        }
    }

    /// By the service's names.
    fn named(&mut self, service: &Known, port: &ServicePort, to: &[Weighted]) {
        let aliases = service.aliases.iter().filter(|alias| alias.ip().is_none());
        let aliases = aliases.cloned().map(HostPattern::Exact);
        let on = StreamMatch::Tls {
            names: std::iter::once(service.host.clone())
                .chain(aliases)
                .collect(),
            destinations: Vec::new(),
        };
        self.plain.push(route(
            port.number,
            on,
            to.to_vec(),
            &service.object,
            &service.place,
        ));
    }

    /// V18: the `tcp` rules of VirtualServices, then the service's addresses, or the port (V20).
    fn tcp(
        &mut self,
        index: usize,
        service: &Known,
        port: &ServicePort,
        ground: &mut Ground<'_, '_>,
    ) {
        let looks_first = service.addresses.is_empty() && self.shared.looks_first(index, port);
        if self.tcp_rules(service, port, looks_first, ground) {
            return;
        }
        let to = self.own(service, port, ground);
        let on = bytes(service.addresses.clone(), looks_first);
        self.plain
            .push(route(port.number, on, to, &service.object, &service.place));
    }

    /// E7: what is neither HTTP nor anything else that is known.
    fn sniffed(&mut self, service: &Known, port: &ServicePort, ground: &mut Ground<'_, '_>) {
        if self.tcp_rules(service, port, true, ground) {
            return;
        }
        let to = self.own(service, port, ground);
        self.named(service, port, &to);
        let on = bytes(service.addresses.clone(), true);
        self.plain
            .push(route(port.number, on, to, &service.object, &service.place));
    }

    /// True where one of them takes everything that comes to the service.
    fn tcp_rules(
        &mut self,
        service: &Known,
        port: &ServicePort,
        looks_first: bool,
        ground: &mut Ground<'_, '_>,
    ) -> bool {
        for index in self.claims.tcp.of(&service.host) {
            let Some(one) = self.active.get(index) else {
                continue;
            };
            for rule in &one.vs.tcp {
                let is_for = |on: &&TcpMatch| {
                    is_on(&on.on, port.number) && Active::stream_is_for(&on.on, ground.facts)
                };
                let matches: Vec<_> = rule.matches.iter().filter(is_for).collect();
                if matches.is_empty() && !rule.matches.is_empty() {
                    continue;
                }
                let to = match self.governed.broken(service, port.number, Traffic::Tcp) {
                    Some(broken) => broken,
                    None => destinations(one, &rule.route, port.number, ground),
                };
                let takes_all =
                    |on: &&TcpMatch| on.destinations.is_empty() && on.sources.is_empty();
                for on in &matches {
                    let nets = match on.destinations.is_empty() {
                        true => service.addresses.clone(),
                        false => on.destinations.clone(),
                    };
                    let on_bytes = bytes(nets, looks_first);
                    self.ruled.push(StreamRoute {
                        sources: on.sources.clone(),
                        ..route(port.number, on_bytes, to.clone(), &one.object, &on.place)
                    });
                    if takes_all(on) {
                        return true;
                    }
                }
                if rule.matches.is_empty() {
                    let on = bytes(service.addresses.clone(), looks_first);
                    self.ruled
                        .push(route(port.number, on, to, &one.object, &rule.place));
                    return true;
                }
            }
        }
        false
    }

    /// To the service itself.
    fn own(
        &self,
        service: &Known,
        port: &ServicePort,
        ground: &mut Ground<'_, '_>,
    ) -> Vec<Weighted> {
        let traffic = match port.protocol {
            Protocol::Tls => Traffic::Tls,
            _ => Traffic::Tcp,
        };
        if let Some(broken) = self.governed.broken(service, port.number, traffic) {
            return broken;
        }
        let host = service.host.to_string();
        let wanted = Wanted {
            host: &host,
            port: port.number,
            subset: "",
        };
        let upstream = ground.refer(wanted, &service.object, &service.place);
        vec![Weighted::new(&upstream, 1)]
    }
}

/// V10 for streams: one destination ignores its weight, of several those of weight 0 are left out.
pub fn destinations(
    one: &Active<'_>,
    to: &[StreamDestination],
    port: u16,
    ground: &mut Ground<'_, '_>,
) -> Vec<Weighted> {
    let is_alone = to.len() == 1;
    let chosen = to.iter().filter(|to| is_alone || to.weight > 0);
    let chosen = chosen.map(|to| {
        let upstream = ground.upstream(one, &to.destination, port);
        Weighted::new(&upstream, if is_alone { 1 } else { to.weight })
    });
    chosen.collect()
}

fn tls_route(one: &Active<'_>, on: &TlsMatch, port: u16, to: Vec<Weighted>) -> StreamRoute {
    let names = on.sni_hosts.iter().map(|name| name.value.clone());
    let tls = StreamMatch::Tls {
        names: names.collect(),
        destinations: on.destinations.clone(),
    };
    StreamRoute {
        sources: on.sources.clone(),
        ..route(port, tls, to, &one.object, &on.place)
    }
}

fn bytes(destinations: Vec<IpNet>, looks_first: bool) -> StreamMatch {
    match looks_first {
        true => StreamMatch::Sniffed { destinations },
        false => StreamMatch::Tcp { destinations },
    }
}

fn route(
    port: u16,
    on: StreamMatch,
    to: Vec<Weighted>,
    object: &Arc<str>,
    place: &Place,
) -> StreamRoute {
    StreamRoute {
        port: Some(port),
        on,
        sources: Vec::new(),
        to,
        name: None,
        object: Some(Arc::clone(object)),
        place: place.clone(),
    }
}

/// V20: what else is on a port that a service without addresses would have for itself.
struct SharedPorts {
    /// By port: the oldest service whose connections are looked at first.
    http: HashMap<u16, usize>,
    /// Ports with TLS that is told by its server name.
    tls: HashSet<u16>,
}

impl SharedPorts {
    fn of(services: &[Known]) -> SharedPorts {
        let mut shared = SharedPorts {
            http: HashMap::new(),
            tls: HashSet::new(),
        };
        for (index, service) in services.iter().enumerate() {
            for port in &service.ports {
                if port.protocol.may_be_http() {
                    shared.http.entry(port.number).or_insert(index);
                }
                if port.protocol == Protocol::Tls {
                    shared.tls.insert(port.number);
                }
            }
        }
        shared
    }

    /// True where bytes must be looked at before the service without addresses may have them:
    /// there is TLS on the port too, or an older service with HTTP.
    fn looks_first(&self, index: usize, port: &ServicePort) -> bool {
        let older = self
            .http
            .get(&port.number)
            .is_some_and(|first| *first < index);
        older || self.tls.contains(&port.number)
    }
}
