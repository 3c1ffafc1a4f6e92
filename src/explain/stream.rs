//! The decision for a connection that carries no plain HTTP: TLS by its server name, TCP by address.
//!
//! Owns: the words for stream routes and for what none of them takes.
//! Never: decides (that is `proxy::foresee`).
//! Called by: `explain::request`.

use super::answer::{Explanation, Outcome, Step};
use super::destination::Bytes;
use super::question::{Question, Speaks};
use super::request::Known;
use super::shares::{Way, branches, sum};
use crate::model::{StreamMatch, StreamRoute, Weighted};
use crate::proxy::Foreseen;
use crate::route::StreamTarget;

/// So many names or networks of a route are listed.
const MOST_LISTED: usize = 4;

/// The steps of what is foreseen for such a connection.
pub(super) fn steps(
    question: &Question,
    foreseen: Foreseen<'_>,
    known: &Known<'_>,
    it: &mut Explanation,
) {
    match foreseen {
        Foreseen::Http => {}
        Foreseen::Route(target, unread) => {
            route(question, (target, unread), &known.config.streams, known, it);
        }
        Foreseen::PassThrough => {
            it.steps.push(Step::new("stream route", "none"));
            let to = question.original_dst.map(|to| to.to_string());
            let to = to.unwrap_or_default();
            let words = format!("passed through as they come to {to}, where they were going");
            it.outcome = Outcome::served(words);
        }
        Foreseen::Refuse(flag, words) => {
            it.steps.push(Step::new("stream route", "none"));
            it.outcome = Outcome::closed(&flag, words);
        }
    }
}

/// One that goes along a route of `routes`; the flag is true where nothing is read before.
pub(super) fn route(
    question: &Question,
    (target, unread): (&StreamTarget, bool),
    routes: &[StreamRoute],
    known: &Known<'_>,
    it: &mut Explanation,
) {
    let written = routes.iter().find(|route| is_of(route, target, question));
    let how = written.map_or(String::new(), |route| words(route, question));
    let how = match (unread, &target.name) {
        (true, _) => format!("{how}; nothing is read before it is connected"),
        (false, Some(name)) => format!("\"{name}\": {how}"),
        (false, None) => how,
    };
    let object = written.and_then(|route| route.object.as_deref());
    let place = written.map_or(&target.place, |route| &route.place);
    it.steps
        .push(Step::new("stream route", how).by(object, Some(place)));
    let way = Way {
        host: (question.speaks == Speaks::Tls).then_some(question.host.as_str()),
        bytes: match question.speaks {
            Speaks::Tls => Bytes::Tls,
            Speaks::Http | Speaks::Tcp => Bytes::Other,
        },
        meant: match question.original_dst {
            Some(to) => format!("the original destination {to}"),
            None => format!("{}:{}, looked up", question.host, question.port),
        },
    };
    let shares: &[Weighted] = written.map_or(&[], |route| route.to.as_slice());
    it.destinations = branches(target.split(), shares, &way, known);
    it.outcome = sum(&it.destinations);
}

/// The target was compiled from this route. Several of one document may stand at one place: then
/// port and upstreams tell them apart.
fn is_of(route: &StreamRoute, target: &StreamTarget, question: &Question) -> bool {
    let to = question.original_dst;
    let port = to.map_or(question.port, |to| to.0.port());
    let names = || route.to.iter().map(|one| one.upstream.as_ref());
    route.place == target.place
        && route.name == target.name
        && route.port.is_none_or(|only| only == port)
        && target
            .upstreams()
            .all(|upstream| names().any(|name| name == upstream.spec().name.as_ref()))
}

fn words(route: &StreamRoute, question: &Question) -> String {
    let port = match route.port {
        Some(port) => format!("on port {port}"),
        None => "on any port".to_owned(),
    };
    let to = |networks: &[ipnet::IpNet]| match networks {
        [] => "to any address".to_owned(),
        some => format!("to {}", listed(some)),
    };
    match &route.on {
        StreamMatch::Tls { names, .. } => {
            let named = names.iter().filter(|name| name.matches(&question.host));
            let named: Vec<&_> = named.collect();
            format!("TLS for {} {port}", listed(&named))
        }
        StreamMatch::Tcp { destinations } => format!("connections {} {port}", to(destinations)),
        StreamMatch::Sniffed { destinations } => {
            format!("connections {} {port} that are not HTTP", to(destinations))
        }
    }
}

fn listed<T: ToString>(all: &[T]) -> String {
    let some: Vec<String> = all
        .iter()
        .take(MOST_LISTED)
        .map(ToString::to_string)
        .collect();
    match all.len() {
        n if n > MOST_LISTED => format!("{} and {} more", some.join(", "), n - MOST_LISTED),
        _ => some.join(", "),
    }
}
