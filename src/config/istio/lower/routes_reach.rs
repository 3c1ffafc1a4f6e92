//! What of a VirtualService can never take effect, and what it leaves open (ISTIO.md V7, V10, H3, V17).
//!
//! Owns: IST0112, IST0130, IST0131 and SRT0502 of VirtualServices.
//! Never: changes what is served.
//! Called by: routes.

use std::collections::{BTreeSet, HashMap};

use super::registry::{Known, Registry};
use super::routes_claims::Active;
use super::routes_names::Names;
use super::routes_rules::is_always;
use super::routes_say::Say;
use crate::config::diagnostic::{Code, Diagnostics};
use crate::config::istio::service_entry::{Protocol, ServicePort};
use crate::config::istio::virtual_service::{Destination, HttpAction, HttpMatch, MatchOn};
use crate::model::{HostPattern, Place, ProxyFacts};

/// SRT0502 of every name, and IST0112 of every destination without a port.
pub fn check_destinations(
    visible: &[Active<'_>],
    names: &Names<'_>,
    registry: &Registry,
    out: &mut Diagnostics,
) {
    for one in visible {
        for host in &one.vs.hosts {
            dotted(one, "spec.hosts", &host.value, &host.place, names, out);
        }
        for (field, destination) in destinations(one) {
            let host = &destination.host;
            dotted(one, &field, host, &destination.place, names, out);
            if destination.port.is_none() {
                needs_port(one, &field, destination, names, registry, out);
            }
        }
    }
}

/// Every destination, with the field that it stands in.
fn destinations<'a>(one: &Active<'a>) -> Vec<(String, &'a Destination)> {
    let mut list = Vec::new();
    for (index, rule) in one.vs.http.iter().enumerate() {
        if let HttpAction::Route(to) = &rule.action {
            for (number, to) in to.iter().enumerate() {
                let field = format!("spec.http[{index}].route[{number}].destination");
                list.push((field, &to.destination));
            }
        }
        for (mirror, _) in &rule.mirrors {
            list.push((format!("spec.http[{index}].mirrors"), mirror));
        }
    }
    let tls = one.vs.tls.iter().map(|rule| (&rule.route, "tls"));
    let tcp = one.vs.tcp.iter().map(|rule| (&rule.route, "tcp"));
    for (route, kind) in tls.chain(tcp) {
        let field = format!("spec.{kind}[].route[].destination");
        list.extend(route.iter().map(|to| (field.clone(), &to.destination)));
    }
    list
}

/// H3: a name with one dot that means a Service to its author, and another host to Istio.
fn dotted(
    one: &Active<'_>,
    field: &str,
    host: &str,
    place: &Place,
    names: &Names<'_>,
    out: &mut Diagnostics,
) {
    if let Some(full) = names.dotted(host) {
        let problem = format!(
            "{host} is taken as a full name, because it has a dot; it is not the Service {full}"
        );
        let advice = format!("write {full} if the Service is meant");
        Say::of(&one.vs.meta, place).field(field).push(
            out,
            Code::DottedShortName,
            problem,
            &advice,
        );
    }
}

/// IST0112: which of several ports is meant depends on the port that the client asked for (V10).
fn needs_port(
    one: &Active<'_>,
    field: &str,
    destination: &Destination,
    names: &Names<'_>,
    registry: &Registry,
    out: &mut Diagnostics,
) {
    let host = names.expand(&destination.host, &one.vs.meta.namespace);
    let Some(host) = host else {
        return;
    };
    let Some(known) = registry.destination(&host) else {
        return;
    };
    let ports = known
        .ports
        .iter()
        .filter(|one| one.protocol != Protocol::Udp);
    let ports: Vec<String> = ports.map(|port| port.number.to_string()).collect();
    if ports.len() < 2 {
        return;
    }
    let problem = format!(
        "{host} has the ports {}, and the destination names none: the port that the client asked \
         for is taken",
        ports.join(", ")
    );
    Say::of(&one.vs.meta, &destination.place)
        .field(&format!("{field}.port"))
        .push(
            out,
            Code::DestinationNeedsPort,
            problem,
            "write port: {number: ...}",
        );
}

/// IST0130 and IST0131 of those that this proxy follows; `ports` are those that each one routes.
pub fn check(
    active: &[Active<'_>],
    ports: &[Vec<u16>],
    registry: &Registry,
    facts: &ProxyFacts,
    out: &mut Diagnostics,
) {
    let by_host: HashMap<&HostPattern, &Known> = registry
        .services
        .iter()
        .map(|known| (&known.host, known))
        .collect();
    for (one, ports) in active.iter().zip(ports) {
        shadowed(one, out);
        no_such_protocol(one, &by_host, facts, out);
        let declared = |port: u16| declared(one, port, &by_host);
        for rule in &one.vs.http {
            for on in &rule.matches {
                if let Some(port) = on.on.port
                    && !ports.contains(&port)
                    && Active::http_is_for(&on.on, facts)
                {
                    let found = declared(port);
                    let is_http = found.is_some_and(|found| found.protocol.may_be_http());
                    if !is_http {
                        no_such_port(one, "http", port, &on.place, found, out);
                    }
                }
            }
        }
        let tls = one.vs.tls.iter().flat_map(|rule| &rule.matches);
        let here = |on: &MatchOn| Active::stream_is_for(on, facts);
        for (on, place) in tls.map(|on| (&on.on, &on.place)).filter(|(on, _)| here(on)) {
            stream_port(one, "tls", on, place, &declared, out);
        }
        let tcp = one.vs.tcp.iter().flat_map(|rule| &rule.matches);
        for (on, place) in tcp.map(|on| (&on.on, &on.place)).filter(|(on, _)| here(on)) {
            stream_port(one, "tcp", on, place, &declared, out);
        }
    }
}

/// IST0131: TLS or TCP rules for hosts that have no port of the kind (V17, V18).
fn no_such_protocol(
    one: &Active<'_>,
    by_host: &HashMap<&HostPattern, &Known>,
    facts: &ProxyFacts,
    out: &mut Diagnostics,
) {
    let is_exact = |(host, _): &(HostPattern, &Place)| matches!(host, HostPattern::Exact(_));
    if !one.hosts.iter().all(is_exact) {
        return;
    }
    let has = |fits: fn(Protocol) -> bool| {
        let known = one.hosts.iter().filter_map(|(host, _)| by_host.get(host));
        let mut ports = known.flat_map(|known| &known.ports);
        ports.any(|port| fits(port.protocol))
    };
    let here = |on: &MatchOn| Active::stream_is_for(on, facts);
    let mut tls = one.vs.tls.iter();
    let tls = tls.find(|rule| rule.matches.iter().any(|one| here(&one.on)));
    let mut tcp = one.vs.tcp.iter();
    let tcp =
        tcp.find(|rule| rule.matches.is_empty() || rule.matches.iter().any(|one| here(&one.on)));
    let tls = tls.filter(|_| !has(is_tls));
    let tcp = tcp.filter(|_| !has(is_bytes));
    let tls = tls.map(|rule| ("tls", &rule.place));
    let tcp = tcp.map(|rule| ("tcp", &rule.place));
    for (kind, place) in tls.into_iter().chain(tcp) {
        let problem = format!(
            "none of its hosts has a port that is declared {}, and so no {kind} rule has an effect",
            kind.to_ascii_uppercase()
        );
        Say::of(&one.vs.meta, place)
            .field(&format!("spec.{kind}"))
            .push(
                out,
                Code::MatchWithoutEffect,
                problem,
                "declare the port in a ServiceEntry or Service",
            );
    }
}

fn is_tls(protocol: Protocol) -> bool {
    protocol == Protocol::Tls
}

fn is_bytes(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Tcp | Protocol::Sniff)
}

/// The port of one of its hosts, where the registry has it. A wildcard may mean any service.
fn declared<'r>(
    one: &Active<'_>,
    port: u16,
    by_host: &HashMap<&HostPattern, &'r Known>,
) -> Option<&'r ServicePort> {
    let known = one.hosts.iter().filter_map(|(host, _)| by_host.get(host));
    known
        .flat_map(|known| &known.ports)
        .find(|declared| declared.number == port)
}

fn stream_port<'r>(
    one: &Active<'_>,
    kind: &str,
    on: &MatchOn,
    place: &Place,
    declared: &impl Fn(u16) -> Option<&'r ServicePort>,
    out: &mut Diagnostics,
) {
    let Some(port) = on.port else {
        return;
    };
    let found = declared(port);
    let fits = found.is_some_and(|found| match kind {
        "tls" => is_tls(found.protocol),
        _ => is_bytes(found.protocol),
    });
    let has_wildcard = |(host, _): &(HostPattern, &Place)| !matches!(host, HostPattern::Exact(_));
    if !fits && !one.hosts.iter().any(has_wildcard) {
        no_such_port(one, kind, port, place, found, out);
    }
}

/// IST0131: a match for a port on which nothing of its kind can arrive (V17).
fn no_such_port(
    one: &Active<'_>,
    kind: &str,
    port: u16,
    place: &Place,
    found: Option<&ServicePort>,
    out: &mut Diagnostics,
) {
    let (problem, advice) = match found {
        Some(found) => (
            format!(
                "port {port} is declared {} at {}, and {kind} rules have no effect on it",
                spelled(found.protocol),
                found.place
            ),
            format!(
                "declare the port {}, or use the rules for its protocol",
                match kind {
                    "http" => "HTTP",
                    "tls" => "TLS",
                    _ => "TCP",
                }
            ),
        ),
        None => (
            format!("none of its hosts has port {port}, and so the match never holds"),
            "declare the port in the ServiceEntry or Service, or take out the match".to_owned(),
        ),
    };
    Say::of(&one.vs.meta, place)
        .field(&format!("spec.{kind}[].match[].port"))
        .push(out, Code::MatchWithoutEffect, problem, &advice);
}

fn spelled(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "HTTP",
        Protocol::Http2 => "HTTP2",
        Protocol::Grpc => "GRPC",
        Protocol::GrpcWeb => "GRPC-WEB",
        Protocol::Tls => "TLS",
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sniff => "without a protocol",
    }
}

/// What decides before, as text, and where it stands.
type Seen<'a> = HashMap<(String, Option<u16>), &'a Place>;

/// IST0130 and IST0131: rules and matches behind one that takes all they could get (V7).
pub fn shadowed(one: &Active<'_>, out: &mut Diagnostics) {
    let alternatives = one.vs.http.iter().map(|rule| rule.matches.len().max(1));
    if alternatives.sum::<usize>() < 2 {
        return;
    }
    let mut seen: Seen<'_> = HashMap::new();
    let mut all: Option<&Place> = None;
    for (index, rule) in one.vs.http.iter().enumerate() {
        let mut by: BTreeSet<String> = BTreeSet::new();
        let mut lost = Vec::new();
        for on in &rule.matches {
            let earlier = all.or_else(|| find(&seen, on));
            match earlier {
                Some(place) => {
                    by.insert(place.to_string());
                    lost.push((on, place));
                }
                None => remember(&mut seen, on),
            }
        }
        if rule.matches.is_empty() {
            let taken = all.or_else(|| seen.get(&(join("", ""), None)).copied());
            if let Some(place) = taken {
                by.insert(place.to_string());
            } else {
                all = Some(&rule.place);
            }
        }
        let is_whole = !by.is_empty() && lost.len() == rule.matches.len();
        let field = format!("spec.http[{index}]");
        if is_whole {
            let by: Vec<String> = by.into_iter().collect();
            let problem = format!(
                "the rule is never reached: what it matches is taken by {} before",
                by.join(" and ")
            );
            Say::of(&one.vs.meta, &rule.place).field(&field).push(
                out,
                Code::UnreachableRule,
                problem,
                "put it before that rule, or take it out",
            );
            continue;
        }
        for (on, place) in lost {
            let problem = format!("the match has no effect: {place} takes the same before");
            Say::of(&one.vs.meta, &on.place)
                .field(&format!("{field}.match"))
                .push(out, Code::MatchWithoutEffect, problem, "take it out");
        }
    }
}

/// What came before `on` and takes all of it: with the same conditions or none, for the same
/// senders or all, for the same port or all.
fn find<'a>(seen: &Seen<'a>, on: &HttpMatch) -> Option<&'a Place> {
    let (request, from) = (request(on), senders(&on.on));
    let keys = [
        join("", ""),
        join("", &from),
        join(&request, ""),
        join(&request, &from),
    ];
    keys.iter().find_map(|key| {
        let on_any = seen.get(&(key.clone(), None));
        let on_port = || {
            on.on
                .port
                .and_then(|port| seen.get(&(key.clone(), Some(port))))
        };
        on_any.or_else(on_port).copied()
    })
}

fn remember<'a>(seen: &mut Seen<'a>, on: &'a HttpMatch) {
    let key = join(&request(on), &senders(&on.on));
    seen.entry((key, on.on.port)).or_insert(&on.place);
}

fn join(request: &str, senders: &str) -> String {
    format!("{request}\n{senders}")
}

/// The conditions on the request as text; empty where there is none.
fn request(on: &HttpMatch) -> String {
    if is_always(on) {
        return String::new();
    }
    let (uri, scheme, method) = (&on.uri, &on.scheme, &on.method);
    let (authority, headers, query) = (&on.authority, &on.headers, &on.query);
    format!(
        "{uri:?}{}{scheme:?}{method:?}{authority:?}{headers:?}{query:?}",
        on.ignore_uri_case
    )
}

/// The conditions on who sends it as text; empty where there is none.
fn senders(on: &MatchOn) -> String {
    let gateways = on.gateways.iter().flatten();
    let mut gateways: Vec<&str> = gateways.map(|one| one.value.as_str()).collect();
    gateways.sort_unstable();
    match (&gateways[..], &on.source_namespace) {
        ([], None) if on.source_labels.is_empty() => String::new(),
        // V8: with gateways the rest is out of force.
        ([_, ..], _) => format!("{gateways:?}"),
        (_, namespace) => format!("{:?}{namespace:?}", on.source_labels),
    }
}
