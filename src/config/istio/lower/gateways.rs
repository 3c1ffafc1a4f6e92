//! Gateway documents to listeners and entrances (ISTIO.md G, X13).
//!
//! Owns: which Gateways are for this proxy (G1), and what each of their servers becomes.
//! Never: makes an upstream (that is `clusters`).
//! Called by: routes.

use std::collections::HashMap;
use std::sync::Arc;

use super::credential::Credentials;
use super::gateway_ports::{Offer, Ports};
use super::gateway_routes::{Bound, Claimed};
use super::gateway_tls::{self as tls, Secured};
use super::inbound_refused;
use super::routes_claims::Active;
use super::routes_rules::Ground;
use super::{gateway_routes as routes, gateway_say as say, gateway_streams as streams};
use crate::config::istio::Manifests;
use crate::config::istio::gateway::ServerKind;
use crate::config::options::LoadOptions;
use crate::model::{
    Carries, Config, DownstreamTls, EntranceAt, EntranceHeaders, EntranceSpec, GatewayPort,
    HostRoutes, ListenerKind, ListenerSpec, Reasons, StreamRoute,
};

/// Adds what the Gateways that are for this proxy open. `visible` are the VirtualServices that name
/// any Gateway, the oldest first; `checked`: those of the mesh were found fault with already.
pub fn lower<'a>(
    manifests: &'a Manifests,
    (visible, checked): (&[Active<'a>], bool),
    options: &LoadOptions,
    ground: &mut Ground<'_, 'a>,
    config: &mut Config,
) {
    let ports = Ports::assign(manifests, options, ground.out);
    if ports.is_empty() {
        config.no_gateway = say::none_selected(manifests, ground.facts, ground.out);
        return;
    }
    let mesh = &ground.registry.scope.mesh;
    let tls = tls::Maker::new(Credentials::new(manifests, ground.facts), mesh);
    let claimed = Claimed::new(manifests, visible);
    let mut entrances = Vec::new();
    for (port, group) in ports.groups() {
        config.listeners.push(ListenerSpec {
            address: group.address,
            kind: ListenerKind::Gateway(port),
            place: group.place.clone(),
        });
        let (clear, secure): (Vec<&Offer<'_>>, Vec<_>) = group
            .offers
            .iter()
            .partition(|offer| !offer.server.kind.is_secure());
        entrances.extend(in_the_clear(port, &clear, &claimed, ground));
        for offer in secure {
            let bound = claimed.bound(offer);
            entrances.push(secured(port, offer, &bound, &tls, ground));
        }
    }
    say::check(&ports, &claimed, checked, ground);
    claimed.broken_upstreams(&ports, config);
    let refused = inbound_refused::governing_gateways(manifests, ground.facts);
    for entrance in &mut entrances {
        entrance.headers = mesh.headers.gateway();
        entrance.broken = entrance.broken.take().or_else(|| refused.clone());
    }
    name_apart(&mut entrances);
    config.entrances.extend(entrances);
}

/// The one entrance of all clear-text servers on a port.
fn in_the_clear(
    port: GatewayPort,
    offers: &[&Offer<'_>],
    claimed: &Claimed<'_, '_>,
    ground: &mut Ground<'_, '_>,
) -> Option<EntranceSpec> {
    let first = offers.first()?;
    let at = EntranceAt::Gateway(port, Vec::new());
    if matches!(first.server.kind, ServerKind::Tcp) {
        let bound = claimed.bound(first);
        let carried = Carried {
            tls: DownstreamTls::Disable,
            carries: Carries::Opaque,
            hosts: Vec::new(),
            streams: streams::tcp(first, &bound, ground),
        };
        let broken = first.closed(&bound);
        return Some(entrance(name(port, first), at, first, carried, broken));
    }
    let bound: Vec<_> = offers
        .iter()
        .map(|offer| (*offer, claimed.bound(offer)))
        .collect();
    let carried = Carried {
        tls: DownstreamTls::Disable,
        carries: Carries::Http,
        hosts: routes::hosts(&bound, ground),
        streams: Vec::new(),
    };
    let name = format!("gateway|{}|http", words(port)).into();
    Some(entrance(name, at, first, carried, None))
}

/// The entrance of one server whose clients speak TLS.
fn secured(
    port: GatewayPort,
    offer: &Offer<'_>,
    bound: &Bound<'_, '_>,
    maker: &tls::Maker<'_>,
    ground: &mut Ground<'_, '_>,
) -> EntranceSpec {
    let mut names = offer.names();
    let closed = || Carried {
        // Nothing is spoken, and nothing passes, whatever becomes of the reason.
        tls: DownstreamTls::PassThrough { mesh_only: false },
        carries: Carries::Opaque,
        hosts: Vec::new(),
        streams: Vec::new(),
    };
    let broken = offer.closed(bound);
    let (carried, broken) = match (&offer.server.kind, broken) {
        (_, Some(broken)) => (closed(), Some(broken)),
        (ServerKind::Https(tls) | ServerKind::Tls(tls), None) => {
            match maker.make(offer, tls, ground.out) {
                Secured::Ready(spec) => (ended(offer, bound, spec, ground), None),
                Secured::Never(reason) => (closed(), Some(reason)),
            }
        }
        (ServerKind::AutoPassThrough, None) => {
            let streams = streams::automatic(offer, ground);
            let carried = Carried {
                tls: DownstreamTls::PassThrough { mesh_only: true },
                streams,
                ..closed()
            };
            names = streams::names(&carried.streams);
            (carried, None)
        }
        (ServerKind::PassThrough | ServerKind::Http(_) | ServerKind::Tcp, None) => {
            let streams = streams::by_name(offer, bound, ground);
            for name in streams::names(&streams) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            let carried = Carried {
                streams,
                ..closed()
            };
            (carried, None)
        }
    };
    if names.is_empty() {
        // Without a name it would be an entrance of clear text.
        names = offer.names();
    }
    let at = EntranceAt::Gateway(port, names);
    entrance(name(port, offer), at, offer, carried, broken)
}

/// TLS that ends here.
fn ended(
    offer: &Offer<'_>,
    bound: &Bound<'_, '_>,
    spec: Box<crate::model::ServerTlsSpec>,
    ground: &mut Ground<'_, '_>,
) -> Carried {
    let tls = DownstreamTls::Strict(spec);
    match &offer.server.kind {
        ServerKind::Https(_) => Carried {
            tls,
            carries: Carries::Http,
            hosts: routes::hosts(&[(offer, bound.clone())], ground),
            streams: Vec::new(),
        },
        _ => Carried {
            tls,
            carries: Carries::Opaque,
            hosts: Vec::new(),
            streams: streams::tcp(offer, bound, ground),
        },
    }
}

/// What comes in by an entrance, and where it goes.
struct Carried {
    tls: DownstreamTls,
    carries: Carries,
    hosts: Vec<HostRoutes>,
    streams: Vec<StreamRoute>,
}

fn entrance(
    name: Arc<str>,
    at: EntranceAt,
    offer: &Offer<'_>,
    carried: Carried,
    broken: Option<Arc<str>>,
) -> EntranceSpec {
    EntranceSpec {
        name,
        at,
        tls: carried.tls,
        carries: carried.carries,
        hosts: carried.hosts,
        streams: carried.streams,
        headers: EntranceHeaders::gateway(),
        service: None,
        broken,
        object: Some(offer.gateway.meta.object()),
        reasons: Reasons(vec![offer.reason()]),
        place: offer.server.place.clone(),
    }
}

/// `443`, or with an address of its own `10.0.0.1:443`.
fn words(port: GatewayPort) -> String {
    match port.bind {
        Some(ip) => std::net::SocketAddr::new(ip, port.number).to_string(),
        None => port.number.to_string(),
    }
}

fn name(port: GatewayPort, offer: &Offer<'_>) -> Arc<str> {
    let meta = &offer.gateway.meta;
    let (namespace, name) = (&meta.namespace, &meta.name);
    let port_name = &offer.server.port_name;
    format!("gateway|{}|{namespace}/{name}|{port_name}", words(port)).into()
}

/// Ports of refused documents may have the same name, or none.
fn name_apart(entrances: &mut [EntranceSpec]) {
    let mut seen: HashMap<Arc<str>, usize> = HashMap::new();
    for entrance in entrances {
        let count = seen.entry(Arc::clone(&entrance.name)).or_default();
        *count += 1;
        if *count > 1 {
            entrance.name = format!("{}|{count}", entrance.name).into();
        }
    }
}

#[cfg(test)]
mod tests;
