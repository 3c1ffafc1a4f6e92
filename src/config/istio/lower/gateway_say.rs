//! What is odd about the Gateways of this proxy and their VirtualServices (ISTIO.md G9, G11, B13).
//!
//! Owns: IST0127 of a gateway that nobody wants, IST0138; of VirtualServices that are for gateways
//! alone IST0130, and IST0131 for ports that no server has.
//! Never: changes what is served.
//! Called by: gateways.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::gateway_ports::{Offer, Ports};
use super::gateway_routes::Claimed;
use super::report;
use super::routes_claims::{Active, Side};
use super::routes_reach;
use super::routes_rules::Ground;
use super::routes_say::Say;
use crate::config::diagnostic::{Code, Diagnostics};
use crate::config::istio::Manifests;
use crate::config::istio::gateway::{Certificates, ServerKind};
use crate::config::istio::meta::Labels;
use crate::config::istio::virtual_service::MatchOn;
use crate::model::{Place, ProxyFacts, Role};

/// Gateways that a message names.
const NAMED: usize = 8;

/// Says all of it. `checked`: VirtualServices of the mesh were looked at already.
pub fn check(
    ports: &Ports<'_>,
    claimed: &Claimed<'_, '_>,
    checked: bool,
    ground: &mut Ground<'_, '_>,
) {
    for (_, group) in ports.groups() {
        shared_certificates(&group.offers, ground.out);
    }
    let mut numbers: BTreeMap<(&str, &str), BTreeSet<u16>> = BTreeMap::new();
    for offer in ports.offers() {
        let own = numbers.entry(offer.gateway.key()).or_default();
        own.insert(offer.server.number);
    }
    let mut seen = HashSet::new();
    for ((namespace, name), numbers) in &numbers {
        let side = Side::Gateway(namespace, name);
        for one in claimed.of((namespace, name)) {
            let was = checked && one.is_for_mesh();
            if !was && seen.insert(one.object.clone()) {
                routes_reach::shadowed(one, ground.out);
            }
            for (kind, on, place) in matches(one) {
                let here = match kind {
                    "http" => one.takes_http(on, side, ground.facts),
                    _ => one.takes_stream(on, side, ground.facts),
                };
                if let Some(port) = on.port
                    && on.gateways.is_some()
                    && here
                    && !numbers.contains(&port)
                {
                    no_such_server(
                        one,
                        kind,
                        port,
                        place,
                        (namespace, name),
                        numbers,
                        ground.out,
                    );
                }
            }
        }
    }
}

/// Every match, with the list that it stands in.
fn matches<'v>(one: &Active<'v>) -> impl Iterator<Item = (&'static str, &'v MatchOn, &'v Place)> {
    let http = one.vs.http.iter().flat_map(|rule| &rule.matches);
    let tls = one.vs.tls.iter().flat_map(|rule| &rule.matches);
    let tcp = one.vs.tcp.iter().flat_map(|rule| &rule.matches);
    let http = http.map(|one| ("http", &one.on, &one.place));
    let tls = tls.map(|one| ("tls", &one.on, &one.place));
    http.chain(tls)
        .chain(tcp.map(|one| ("tcp", &one.on, &one.place)))
}

/// IST0131: of a port the Gateway's `port.number` is what counts, and not where it is bound (G11).
fn no_such_server(
    one: &Active<'_>,
    kind: &str,
    port: u16,
    place: &Place,
    (namespace, name): (&str, &str),
    numbers: &BTreeSet<u16>,
    out: &mut Diagnostics,
) {
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    let problem = format!(
        "the match is for port {port}, and the Gateway {namespace}/{name} has servers on {}: it \
         never holds there",
        numbers.join(", ")
    );
    let advice = "write the port.number of one of its servers, or take out the port";
    let field = format!("spec.{kind}[].match[].port");
    let say = Say::of(&one.vs.meta, place).field(&field);
    say.push(out, Code::MatchWithoutEffect, problem, advice);
}

/// IST0138: an HTTP/2 client that has a connection to one server asks it for the hosts of the other,
/// where one certificate is good for both, and is turned away (G9).
fn shared_certificates(offers: &[Offer<'_>], out: &mut Diagnostics) {
    let mut first: HashMap<&str, &Offer<'_>> = HashMap::new();
    for offer in offers {
        let ServerKind::Https(tls) = &offer.server.kind else {
            continue;
        };
        let names: Vec<&str> = match &tls.certificates {
            Certificates::Names(names) => names.iter().map(|name| name.value.as_str()).collect(),
            Certificates::Files(pairs) => pairs.iter().map(|(chain, _)| chain.as_str()).collect(),
            // Sidecars keep a connection for each server name.
            Certificates::Mesh => continue,
        };
        for name in names {
            let held = *first.entry(name).or_insert(offer);
            if std::ptr::eq(held.server, offer.server) {
                continue;
            }
            let problem = format!(
                "the certificate {name} is also shown by {} at {} on this port, for other hosts: \
                 HTTP/2 clients that use one connection for both are answered 421 or 404",
                held.gateway.meta, held.server.place
            );
            let advice = "put the hosts of both into one server, or give each its own certificate";
            let object = offer.gateway.meta.object();
            let code = Code::DuplicateCertificate;
            out.push(report::at(&object, &tls.place, code, problem, advice));
        }
    }
}

/// Where this is a gateway: why no document opens anything here, with the labels that it has and
/// those that Gateways ask for (G1).
pub fn none_selected(
    manifests: &Manifests,
    facts: &ProxyFacts,
    out: &mut Diagnostics,
) -> Option<Arc<str>> {
    if facts.role != Role::Gateway {
        return None;
    }
    let own = match facts.labels.is_empty() {
        true => "none are given".to_owned(),
        false => labels(&facts.labels),
    };
    let gateways = &manifests.gateways;
    let wanted = gateways.iter().take(NAMED).map(|one| {
        let (meta, wanted) = (&one.meta, labels(&one.selector));
        format!("{meta} at {} wants {wanted}", meta.place)
    });
    let refused = manifests.refused.iter();
    let refused = refused.filter(|one| one.meta.kind == "Gateway").take(NAMED);
    let refused = refused.map(|one| format!("{} was refused at {}", one.meta, one.refused.place));
    let mut all: Vec<String> = wanted.chain(refused).collect();
    if gateways.len() > NAMED {
        all.push(format!("and {} more", gateways.len() - NAMED));
    }
    let all = match all.is_empty() {
        true => "there is none among the documents".to_owned(),
        false => all.join("; "),
    };
    let problem = format!("no Gateway selects this proxy by its labels ({own}): {all}");
    let advice = "give --labels, or the Gateway's document";
    if let Some(first) = gateways.first() {
        let code = Code::SelectsNoWorkload;
        out.push(report::about(&first.meta, code, problem.clone(), advice));
    }
    Some(format!("{problem}; {advice}").into())
}

fn labels(all: &Labels) -> String {
    let all = all.iter().map(|(key, value)| format!("{key}={value}"));
    all.collect::<Vec<_>>().join(",")
}
