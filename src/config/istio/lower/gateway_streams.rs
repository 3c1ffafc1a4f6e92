//! What a Gateway's server carries that is not HTTP, or not to be looked into (ISTIO.md G3, V17, V18).
//!
//! Owns: the stream routes of PASSTHROUGH, of AUTO_PASSTHROUGH and of bytes.
//! Never: makes an upstream (that is `clusters`).
//! Called by: gateways.

use std::sync::Arc;

use super::clusters::{Referrer, Wanted};
use super::gateway_ports::Offer;
use super::gateway_routes::{Bound, Fails, narrower};
use super::registry::Known;
use super::routes_claims::{Active, Side, is_on};
use super::routes_rules::Ground;
use super::streams::destinations;
use crate::config::istio::reading::names::covers;
use crate::config::istio::service_entry::{Location, Protocol};
use crate::config::istio::virtual_service::MatchOn;
use crate::model::{Host, HostPattern, Place, StreamMatch, StreamRoute, Weighted};

/// PASSTHROUGH: the `tls` rules of VirtualServices, by server name (V17).
pub fn by_name(
    offer: &Offer<'_>,
    bound: &Bound<'_, '_>,
    ground: &mut Ground<'_, '_>,
) -> Vec<StreamRoute> {
    let mut streams: Vec<StreamRoute> = bound
        .refused
        .iter()
        .map(|(fails, hosts)| failing(fails, on_names(hosts.clone())))
        .collect();
    let port = offer.server.number;
    for (one, _) in &bound.routes {
        for rule in &one.vs.tls {
            for on in &rule.matches {
                if !takes(offer, one, &on.on, ground) {
                    continue;
                }
                let names = on.sni_hosts.iter().map(|name| &name.value);
                let names = served(offer, one, names);
                if names.is_empty() {
                    continue;
                }
                let to = destinations(one, &rule.route, port, ground);
                streams.push(StreamRoute {
                    sources: on.sources.clone(),
                    ..route(on_names(names), to, &one.object, &on.place)
                });
            }
        }
    }
    streams
}

/// Bytes, in the clear or out of TLS: the first `tcp` rule that fits takes them (V18).
pub fn tcp(
    offer: &Offer<'_>,
    bound: &Bound<'_, '_>,
    ground: &mut Ground<'_, '_>,
) -> Vec<StreamRoute> {
    if let Some((fails, _)) = bound.refused.first() {
        return vec![failing(fails, on_bytes())];
    }
    let port = offer.server.number;
    let mut streams = Vec::new();
    for (one, _) in &bound.routes {
        for rule in &one.vs.tcp {
            let fits = rule.matches.iter();
            let fits: Vec<_> = fits
                .filter(|on| takes(offer, one, &on.on, ground))
                .collect();
            if fits.is_empty() && !rule.matches.is_empty() {
                continue;
            }
            let to = destinations(one, &rule.route, port, ground);
            let route = |place| route(on_bytes(), to.clone(), &one.object, place);
            for on in &fits {
                streams.push(StreamRoute {
                    sources: on.sources.clone(),
                    ..route(&on.place)
                });
            }
            if rule.matches.is_empty() {
                streams.push(route(&rule.place));
            }
            if streams.last().is_some_and(|last| last.sources.is_empty()) {
                return streams;
            }
        }
    }
    streams
}

/// AUTO_PASSTHROUGH: every service of the mesh on the server's hosts, on every port and for every
/// subset, by the server name that sidecars send (T5).
pub fn automatic(offer: &Offer<'_>, ground: &mut Ground<'_, '_>) -> Vec<StreamRoute> {
    let registry = ground.registry;
    let object = offer.gateway.meta.object();
    let place = &offer.server.place;
    let mut streams = Vec::new();
    for service in &registry.services {
        let HostPattern::Exact(host) = &service.host else {
            continue;
        };
        if service.location == Location::External || !is_served(offer, service) {
            continue;
        }
        let mut subsets = vec![String::new()];
        subsets.extend(ground.clusters.subsets(service));
        let ports = service.ports.iter();
        for port in ports.filter(|port| port.protocol != Protocol::Udp) {
            for subset in &subsets {
                let number = port.number;
                let text = format!("outbound_.{number}_.{subset}_.{host}");
                // What is too long to be a name is sent by nobody.
                let Ok(name) = Host::parse(&text) else {
                    continue;
                };
                let wanted = Wanted {
                    host: host.as_str(),
                    port: number,
                    subset,
                };
                let referrer = Referrer {
                    object: Arc::clone(&object),
                    place: place.clone(),
                };
                let to = ground.clusters.untouched(wanted, &referrer, ground.out);
                let on = on_names(vec![HostPattern::Exact(name)]);
                streams.push(route(on, vec![Weighted::new(&to, 1)], &object, place));
            }
        }
    }
    streams
}

/// Every server name that streams ask for, each once.
pub fn names(streams: &[StreamRoute]) -> Vec<HostPattern> {
    let mut seen = std::collections::HashSet::new();
    let all = streams.iter().flat_map(|stream| match &stream.on {
        StreamMatch::Tls { names, .. } => names.as_slice(),
        StreamMatch::Tcp { .. } | StreamMatch::Sniffed { .. } => &[],
    });
    all.filter(|name| seen.insert((*name).clone()))
        .cloned()
        .collect()
}

fn is_served(offer: &Offer<'_>, service: &Known) -> bool {
    let mut hosts = offer.server.hosts.iter().map(|host| &host.value);
    hosts.any(|host| host.is_for(&service.namespace) && covers(&host.host, &service.host))
}

/// V8, with `port.number` of the server.
fn takes(offer: &Offer<'_>, one: &Active<'_>, on: &MatchOn, ground: &Ground<'_, '_>) -> bool {
    let (namespace, name) = offer.gateway.key();
    let side = Side::Gateway(namespace, name);
    is_on(on, offer.server.number) && one.takes_stream(on, side, ground.facts)
}

/// Those of `names` that the server has, as far as it has them.
fn served<'n>(
    offer: &Offer<'_>,
    one: &Active<'_>,
    names: impl Iterator<Item = &'n HostPattern>,
) -> Vec<HostPattern> {
    let namespace = &one.vs.meta.namespace;
    let mut found = Vec::new();
    for name in names {
        for host in offer.server.hosts.iter().map(|host| &host.value) {
            if host.is_for(namespace)
                && let Some(name) = narrower(name, &host.host)
                && !found.contains(&name)
            {
                found.push(name);
            }
        }
    }
    found
}

fn on_names(names: Vec<HostPattern>) -> StreamMatch {
    StreamMatch::Tls {
        names,
        destinations: Vec::new(),
    }
}

/// Whoever comes addressed us: networks say nothing.
fn on_bytes() -> StreamMatch {
    StreamMatch::Tcp {
        destinations: Vec::new(),
    }
}

fn failing(fails: &Fails, on: StreamMatch) -> StreamRoute {
    let to = vec![Weighted::new(&fails.upstream, 1)];
    route(on, to, &fails.object, &fails.place)
}

fn route(on: StreamMatch, to: Vec<Weighted>, object: &Arc<str>, place: &Place) -> StreamRoute {
    StreamRoute {
        port: None,
        on,
        sources: Vec::new(),
        to,
        name: None,
        object: Some(Arc::clone(object)),
        place: place.clone(),
    }
}
