//! Hosts that the tables do not know: what becomes of them, and where they are known after all.
//!
//! Owns: the words for that.
//! Never: decides (the policy of the snapshot does, and `proxy::not_here` at an entrance).
//! Called by: `explain::request`.

use super::answer::{Explanation, Outcome, Step};
use super::question::{Question, Speaks};
use super::request::{Known, Tables};
use crate::model::{Config, Destination, HostRoutes, UnknownHosts};
use crate::proxy;

/// So many other ports of a host are listed.
const MOST_PORTS: usize = 8;

/// A host that nobody has there.
pub(super) fn nobody(
    question: &Question,
    tables: &Tables<'_>,
    destination: &Destination<'_>,
    known: &Known<'_>,
    it: &mut Explanation,
) {
    let Some(entrance) = tables.entrance else {
        return unknown(question, tables, destination, known, it);
    };
    let host = &destination.host;
    it.steps.push(Step::new(
        "virtual host",
        format!("none: no VirtualService has {host} there"),
    ));
    let asked = (question.speaks == Speaks::Tls).then_some(question.host.as_str());
    let (status, words) =
        proxy::not_here(known.snapshot, (tables.kind, asked), entrance, destination);
    it.outcome = Outcome::failed(status, "NR", words);
}

/// A host that the table does not know (ISTIO.md O2, O4, O6).
fn unknown(
    question: &Question,
    tables: &Tables<'_>,
    destination: &Destination<'_>,
    known: &Known<'_>,
    it: &mut Explanation,
) {
    let none = format!("none: no document names {destination}");
    it.steps.push(Step::new("virtual host", none));
    it.steps.extend(elsewhere(destination, known.config));
    it.outcome = match (known.snapshot.unknown(tables.kind), question.original_dst) {
        (UnknownHosts::Refuse, _) => {
            let words = format!("{destination} is in no document, and unknown hosts are refused");
            Outcome::failed(502, "", words)
        }
        (UnknownHosts::PassThrough, Some(to)) => Outcome::served(format!(
            "passed through in plaintext to {to}, where it was going"
        )),
        (UnknownHosts::PassThrough, None) => Outcome::served(format!(
            "passed through in plaintext to {destination}, looked up"
        )),
    };
}

/// The ports on which the host is known after all: the usual reason why it is not on this one.
fn elsewhere(destination: &Destination<'_>, config: &Config) -> Vec<Step> {
    let named = |group: &&HostRoutes| {
        let mut hosts = group.hosts.iter();
        group.port.is_some() && hosts.any(|host| host.matches(&destination.host))
    };
    let groups = config.hosts.iter().filter(named).take(MOST_PORTS);
    groups
        .map(|group| {
            let port = group.port.unwrap_or_default();
            let how = format!("{} on port {port}", destination.host);
            Step::new("known", how).by(group.object.as_deref(), Some(&group.place))
        })
        .collect()
}
