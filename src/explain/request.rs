//! The decision for one request, in the order in which the proxy makes it.
//!
//! Owns: the steps up to the choice of a destination.
//! Never: decides: destination, entry, rule and rewrite are those that `proxy::forward` finds.
//! Called by: admin, cli.

use super::answer::{Explanation, Outcome, Step};
use super::destination::Bytes;
use super::passed_over::{holds, why_not};
use super::question::{Door, Question, Speaks};
use super::shares::{Way, branches, sum};
use super::unknown::nobody;
use super::{entrance, stream, words};
use std::net::{IpAddr, SocketAddr};

use crate::model::{
    Abort, Action, Config, Destination, HostPattern, HostRoutes, ListenerKind, MatchSpec,
    OriginalDst, PeerAddr, Place, Respond, RuleSpec, Share, Weighted,
};
use crate::proxy::{self, Arrived, Foreseen, Spoken};
use crate::route::{self, Entry, Found, Matched, Route, RouteAction, RouteTable, Scheme, Split};
use crate::snapshot::{Entrance, Snapshot};

/// What is asked.
pub struct Known<'a> {
    /// The tables that requests meet.
    pub snapshot: &'a Snapshot,
    /// What they were built from, with the places.
    pub config: &'a Config,
    /// The certificates are where the proxy will run and not here: one that is missing is told, and
    /// is no failure.
    pub files_are_elsewhere: bool,
}

/// Why the request goes where it goes.
pub fn explain(question: &Question, known: &Known<'_>) -> Explanation {
    let method = match question.speaks {
        Speaks::Http => question.parts.method.to_string(),
        Speaks::Tls => "TLS".to_owned(),
        Speaks::Tcp => "TCP".to_owned(),
    };
    let mut it = Explanation {
        url: question.url.clone(),
        method,
        ..Explanation::default()
    };
    it.steps.push(listener(question));
    if let Some(door) = question.door {
        entrance::steps(question, door, known, &mut it);
        return it;
    }
    let name = (question.host.parse::<IpAddr>().is_err()).then_some(question.host.as_str());
    let spoken = match question.speaks {
        Speaks::Http => Spoken::Http,
        Speaks::Tls => Spoken::Tls(name),
        Speaks::Tcp => Spoken::Other,
    };
    let to = question.original_dst;
    let arrived = Arrived {
        kind: kind(question),
        original_dst: to,
        // Which port captures is of no account: nobody asks about connections to it.
        local: SocketAddr::new(question.from, to.map_or(question.port, |_| 0)),
        peer: PeerAddr(SocketAddr::new(question.from, 0)),
    };
    match proxy::foresee(known.snapshot, &arrived, spoken) {
        Foreseen::Http if question.speaks == Speaks::Http => {
            request(question, &mesh(question, known), known, &mut it);
        }
        Foreseen::Http => {
            let words = "this port takes plain HTTP alone, and these bytes are none";
            it.outcome = Outcome::failed(400, "DPE", words);
        }
        foreseen => stream::steps(question, foreseen, known, &mut it),
    }
    it
}

fn listener(question: &Question) -> Step {
    let bytes = match question.speaks {
        Speaks::Http => "plain HTTP",
        Speaks::Tls if question.door.is_some() => "TLS as a sidecar speaks it",
        Speaks::Tls => "TLS of the application's own",
        Speaks::Tcp => "bytes of any kind",
    };
    let (port, how) = match (question.door, question.original_dst) {
        (Some(Door::Gateway(port)), _) => (port, "of a Gateway".to_owned()),
        (Some(Door::Inbound(port)), _) => (port, "for the application beside us".to_owned()),
        (None, Some(to)) => (to.0.port(), format!("captured on its way to {to}")),
        (None, None) => (question.port, "addressed by the client".to_owned()),
    };
    Step::new("listener", format!("port {port}, {bytes}, {how}"))
}

fn kind(question: &Question) -> ListenerKind {
    match question.original_dst {
        Some(_) => ListenerKind::Capture,
        None => ListenerKind::Direct,
    }
}

/// The tables that a request is looked up in.
pub(super) struct Tables<'a> {
    pub(super) table: &'a RouteTable,
    /// What it was built from.
    pub(super) groups: &'a [HostRoutes],
    pub(super) scheme: Scheme,
    pub(super) kind: ListenerKind,
    pub(super) original_dst: Option<OriginalDst>,
    /// `None`: the mesh's.
    pub(super) entrance: Option<&'a Entrance>,
}

fn mesh<'a>(question: &Question, known: &Known<'a>) -> Tables<'a> {
    Tables {
        table: &known.snapshot.table,
        groups: &known.config.hosts,
        scheme: Scheme::Http,
        kind: kind(question),
        original_dst: question.original_dst,
        entrance: None,
    }
}

pub(super) fn request(
    question: &Question,
    tables: &Tables<'_>,
    known: &Known<'_>,
    it: &mut Explanation,
) {
    let learnt = proxy::destination_of(&question.parts, tables.kind, tables.original_dst);
    let destination = match learnt {
        Ok(destination) => destination,
        Err((status, words)) => {
            it.outcome = Outcome::failed(status, "", words);
            return;
        }
    };
    let table = tables.table;
    let Some(entry) = table.decides(&destination) else {
        nobody(question, tables, &destination, known, it);
        return;
    };
    let group = group_of(&entry, tables.groups);
    it.steps.push(virtual_host(&entry, group));
    let specs: &[RuleSpec] = group.map(|group| &*group.rules).unwrap_or_default();
    let below = group.map_or(0, |group| group.rules.below());
    match table.find(&destination, &question.parts, tables.scheme) {
        Found::UnknownHost => nobody(question, tables, &destination, known, it),
        Found::NoRule => {
            it.steps.extend(passed_over(specs, below, question));
            let words = format!("no rule of {destination} matches this request");
            it.outcome = Outcome::failed(404, "NR", words);
        }
        Found::Route(found, matched) => {
            let route = found.route;
            let index = entry
                .rules
                .iter()
                .position(|rule| std::ptr::eq(rule.route(), route));
            let index = index.unwrap_or_default();
            it.steps.extend(passed_over(
                specs.get(..index).unwrap_or_default(),
                below,
                question,
            ));
            let met = Met {
                question,
                tables,
                destination,
                route,
                matched,
                spec: specs.get(index),
                place: specs
                    .get(index)
                    .map_or_else(|| found.place(), |spec| spec.place.below(below)),
            };
            it.steps.push(rule(&met, index, entry.rules.len()));
            follow(&met, known, it);
        }
    }
}

/// A rule that holds, and for what.
struct Met<'a> {
    question: &'a Question,
    tables: &'a Tables<'a>,
    destination: Destination<'a>,
    route: &'a Route,
    matched: Matched,
    spec: Option<&'a RuleSpec>,
    /// Where the rule was written.
    place: Place,
}

/// The group that the entry was built from.
fn group_of<'a>(entry: &Entry<'_>, groups: &'a [HostRoutes]) -> Option<&'a HostRoutes> {
    let host = HostPattern::parse(&entry.host).ok()?;
    let mut groups = groups.iter();
    groups.find(|group| group.port == entry.port && group.hosts.contains(&host))
}

fn virtual_host(entry: &Entry<'_>, group: Option<&HostRoutes>) -> Step {
    let port = match entry.port {
        Some(port) => format!("port {port}"),
        None => "any port".to_owned(),
    };
    let object = group.and_then(|group| group.object.as_deref());
    let place = group.map_or(&entry.place, |group| &group.place);
    Step::new("virtual host", format!("{}, {port}", entry.host)).by(object, Some(place))
}

/// `below`: by how many lines the rules stand below the places that they name.
fn passed_over(specs: &[RuleSpec], below: u32, question: &Question) -> Vec<Step> {
    let numbered = specs.iter().enumerate();
    let one = |(index, spec): (usize, &RuleSpec)| {
        let why = why_not(&spec.matches, &question.parts);
        let how = format!("rule {}: {why}", index + 1);
        let place = spec.place.below(below);
        Step::new("passed over", how).by(spec.object.as_deref(), Some(&place))
    };
    numbered.map(one).collect()
}

fn rule(met: &Met<'_>, index: usize, all: usize) -> Step {
    let matches: &[MatchSpec] = met
        .spec
        .map(|spec| spec.matches.as_slice())
        .unwrap_or_default();
    let why = match holds(matches, &met.question.parts) {
        None => "always".to_owned(),
        Some((_, condition)) if matches.len() == 1 => condition,
        Some((nth, condition)) => format!("match {nth} of {}, {condition}", matches.len()),
    };
    let name = match &met.route.name {
        Some(name) => format!(" \"{name}\""),
        None => String::new(),
    };
    let object = met.spec.and_then(|spec| spec.object.as_deref());
    let how = format!("{} of {all}{name}: {why}", index + 1);
    Step::new("rule", how).by(object, Some(&met.place))
}

fn follow(met: &Met<'_>, known: &Known<'_>, it: &mut Explanation) {
    let response = met
        .spec
        .and_then(|spec| words::header_ops(&spec.response_headers));
    match &met.route.action {
        RouteAction::Respond(respond) => {
            it.steps
                .extend(response.map(|how| Step::new("answer headers", how)));
            it.outcome = responded(respond);
        }
        RouteAction::Redirect(redirect) => {
            it.steps
                .extend(response.map(|how| Step::new("answer headers", how)));
            let (parts, scheme) = (&met.question.parts, met.tables.scheme);
            let from = match proxy::has_entrances(met.tables.kind) {
                true => &proxy::as_written(parts, scheme, &met.destination),
                false => &met.destination,
            };
            let location = route::location(redirect, scheme, from, met.matched, &parts.uri);
            it.outcome = match location {
                Ok(location) => {
                    let location = String::from_utf8_lossy(location.as_bytes()).into_owned();
                    let status = redirect.status.as_u16();
                    Outcome::answered(status, format!("redirected to {location}"))
                }
                Err(error) => Outcome::failed(500, "", error.to_string()),
            };
        }
        RouteAction::Forward(split) => forward(met, split, known, it),
    }
}

fn responded(respond: &Respond) -> Outcome {
    let words = format!("the rule answers by itself, {} bytes", respond.body.len());
    Outcome::answered(respond.status, words)
}

fn forward(met: &Met<'_>, split: &Split, known: &Known<'_>, it: &mut Explanation) {
    let applied = match route::apply(&met.route.rewrite, met.matched, &met.question.parts.uri) {
        Ok(applied) => applied,
        Err(error) => {
            it.outcome = Outcome::failed(500, "", error.to_string());
            return;
        }
    };
    let mut rewritten = Vec::new();
    if let Some(new) = applied.authority {
        rewritten.push(format!("the host becomes {}", new.authority));
    }
    if let Some(path) = &applied.path {
        let old = &met.question.parts.uri;
        rewritten.push(format!("the path {old} becomes {path}"));
    }
    if !rewritten.is_empty() {
        it.steps.push(Step::new("rewrite", rewritten.join(", ")));
    }
    it.steps.extend(met.spec.into_iter().flat_map(changes));
    let host = match applied.authority {
        Some(new) => new.host.as_str().to_owned(),
        None => met.destination.host.as_ref().to_owned(),
    };
    let shares: &[Weighted] = match met.spec.map(|spec| &spec.action) {
        Some(Action::Forward(shares)) => shares,
        Some(Action::Redirect(_) | Action::Respond(_)) | None => &[],
    };
    let way = Way {
        host: Some(host.as_str()),
        bytes: Bytes::Http,
        meant: meant(met.tables.original_dst, &met.destination),
    };
    it.destinations = branches(split, shares, &way, known);
    it.outcome = sum(&it.destinations);
    let always = met.spec.and_then(|spec| spec.fault.abort);
    if let Some((abort, Share::ALL)) = always {
        let status = match abort {
            Abort::Http(status) => status,
            Abort::Grpc(_) => 200,
        };
        let words = "every request is aborted on purpose";
        it.outcome = Outcome {
            flag: Some("FI".to_owned()),
            ..Outcome::answered(status, words)
        };
    }
}

/// Where an upstream without endpoints connects to (ISTIO.md E2).
fn meant(original_dst: Option<OriginalDst>, destination: &Destination<'_>) -> String {
    match original_dst {
        Some(to) => format!("the original destination {to}"),
        None => format!("{destination}, looked up"),
    }
}

/// What the rule changes besides host and path.
fn changes(spec: &RuleSpec) -> Vec<Step> {
    let headers = words::header_ops(&spec.request_headers);
    let answer = words::header_ops(&spec.response_headers);
    let mirrors = spec
        .mirrors
        .iter()
        .map(|mirror| format!("{} to {}", words::share(mirror.share), mirror.upstream));
    let mirrors: Vec<String> = mirrors.collect();
    [
        ("request headers", headers),
        ("answer headers", answer),
        ("fault", words::fault(&spec.fault)),
        ("mirror", (!mirrors.is_empty()).then(|| mirrors.join(", "))),
        ("timeout", spec.timeout.map(words::duration)),
        ("retries", words::retries(&spec.retries)),
    ]
    .into_iter()
    .filter_map(|(what, how)| Some(Step::new(what, how?)))
    .collect()
}
