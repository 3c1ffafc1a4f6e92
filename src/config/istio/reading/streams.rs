//! `tls` and `tcp` of a VirtualService (ISTIO.md V17, V18, 1.4).
//!
//! Owns: reading them.
//! Never: looks a destination up.
//! Called by: virtual_service.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::cursor::At;
use crate::config::format::quote;
use crate::config::istio::meta::Written;
use crate::config::istio::virtual_service::{
    StreamDestination, TcpMatch, TcpRoute, TlsMatch, TlsRoute,
};
use crate::model::HostPattern;

use super::context::Reading;
use super::{http_match, http_route, names};

/// All of `tls`; `hosts` are the VirtualService's.
pub fn tls(spec: &At<'_>, hosts: &[HostPattern], r: &mut Reading<'_>) -> Vec<TlsRoute> {
    let list = spec.key("tls");
    let mut routes = Vec::new();
    for item in list.iter().flat_map(At::items) {
        let entries = item.key("match");
        let matches: Vec<_> = entries
            .iter()
            .flat_map(At::items)
            .map(|entry| tls_match(&entry, hosts, r))
            .collect();
        if matches.is_empty() {
            let problem = "a tls route needs a match".to_owned();
            r.wrong_key(
                &item,
                "match",
                problem,
                "write match: with sniHosts: [name]",
            );
        }
        routes.push(TlsRoute {
            matches,
            route: destinations(&item, r),
            place: item.place(),
        });
    }
    routes
}

/// All of `tcp`.
pub fn tcp(spec: &At<'_>, r: &mut Reading<'_>) -> Vec<TcpRoute> {
    let list = spec.key("tcp");
    let mut routes = Vec::new();
    for item in list.iter().flat_map(At::items) {
        let entries = item.key("match");
        let entry = |at: At<'_>| TcpMatch {
            destinations: networks(&at, r),
            sources: source(&at, r),
            on: http_match::on(&at),
            place: at.place(),
        };
        routes.push(TcpRoute {
            matches: entries.iter().flat_map(At::items).map(entry).collect(),
            route: destinations(&item, r),
            place: item.place(),
        });
    }
    routes
}

fn tls_match(at: &At<'_>, hosts: &[HostPattern], r: &mut Reading<'_>) -> TlsMatch {
    let list = at
        .key("sniHosts")
        .filter(|list| list.items().next().is_some());
    if list.is_none() {
        let problem = "a tls match needs sniHosts".to_owned();
        r.wrong_key(at, "sniHosts", problem, "write sniHosts: [name]");
    }
    let mut sni_hosts = Vec::new();
    for item in list.iter().flat_map(At::items) {
        let Some(value) = names::pattern(&item, r) else {
            continue;
        };
        let text = item.as_text().unwrap_or_default();
        if text.parse::<IpAddr>().is_ok() {
            let problem = format!(
                "{} is an address, and no client sends one as server name",
                quote(text)
            );
            r.odd(
                &item,
                problem,
                "write the name that clients send, or a tcp route",
            );
        }
        if !hosts.is_empty() && !hosts.iter().any(|host| names::covers(host, &value)) {
            let problem = format!(
                "{} is not among the hosts of the VirtualService",
                quote(text)
            );
            r.wrong(&item, problem, "write it under spec.hosts as well");
        }
        let place = item.place();
        sni_hosts.push(Written { value, place });
    }
    TlsMatch {
        sni_hosts,
        destinations: networks(at, r),
        sources: source(at, r),
        on: http_match::on(at),
        place: at.place(),
    }
}

fn networks(at: &At<'_>, r: &mut Reading<'_>) -> Vec<IpNet> {
    let list = at.key("destinationSubnets");
    let items = list.iter().flat_map(At::items);
    items.filter_map(|item| names::network(&item, r)).collect()
}

fn source(at: &At<'_>, r: &mut Reading<'_>) -> Vec<IpNet> {
    let subnet = at.key("sourceSubnet").filter(|at| at.as_text() != Some(""));
    subnet
        .and_then(|at| names::network(&at, r))
        .into_iter()
        .collect()
}

fn destinations(at: &At<'_>, r: &mut Reading<'_>) -> Vec<StreamDestination> {
    let list = at.key("route");
    let several = list.iter().flat_map(At::items).count() > 1;
    let mut all = Vec::new();
    for item in list.iter().flat_map(At::items) {
        if let Some(destination) = http_route::destination_of(&item, r) {
            let weight = http_route::weight(&item, several);
            all.push(StreamDestination {
                destination,
                weight,
            });
        }
    }
    if list.iter().flat_map(At::items).next().is_none() {
        let problem = "there is no destination".to_owned();
        r.wrong_key(
            at,
            "route",
            problem,
            "write route: with at least one destination",
        );
    }
    http_route::check_weights(at, several, all.iter().map(|one| one.weight), r);
    all
}
