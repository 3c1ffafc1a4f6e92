//! The destinations of one rule or route: one branch for each upstream that can be chosen.
//!
//! Owns: shares, what is changed for one upstream alone, and what comes of all together.
//! Never: chooses (that is `route::Split`).
//! Called by: `explain::request`, `explain::stream`.

use super::answer::{Branch, Outcome, Step};
use super::destination::{Bytes, Target, branch};
use super::request::Known;
use super::words;
use crate::model::Weighted;
use crate::route::Split;

/// What all branches of one request share.
pub(super) struct Way<'a> {
    /// The host after the rule's rewrite; `None` for a connection that carries no HTTP.
    pub(super) host: Option<&'a str>,
    /// What is sent there.
    pub(super) bytes: Bytes,
    /// Where the client meant to go.
    pub(super) meant: String,
}

/// One branch for each upstream that can be chosen (ISTIO.md V10). `shares` are those written.
pub(super) fn branches(
    split: &Split,
    shares: &[Weighted],
    way: &Way<'_>,
    known: &Known<'_>,
) -> Vec<Branch> {
    let whole: u64 = split.all().map(|(_, part)| part).sum();
    let written = shares
        .iter()
        .filter(|one| shares.len() == 1 || one.weight > 0);
    let written = written.map(Some).chain(std::iter::repeat(None));
    split
        .all()
        .zip(written)
        .map(|((choice, part), written)| {
            let own = choice.own.as_ref().and_then(|own| own.authority.as_ref());
            let target = Target {
                upstream: &choice.upstream.spec().name,
                share: words::part(part, whole),
                host: own.map(|new| new.host.as_str()).or(way.host),
                bytes: way.bytes,
                meant: &way.meant,
            };
            let mut branch = branch(&target, known);
            let place = 1.min(branch.steps.len());
            let own = written.into_iter().flat_map(own_changes);
            branch.steps.splice(place..place, own);
            branch
        })
        .collect()
}

/// What is changed for one upstream alone, before the rule's changes (ISTIO.md V11, V12).
fn own_changes(one: &Weighted) -> Vec<Step> {
    let host = one
        .host
        .as_ref()
        .map(|host| format!("the host becomes {host}"));
    [
        ("rewrite", host),
        ("request headers", words::header_ops(&one.request_headers)),
        ("answer headers", words::header_ops(&one.response_headers)),
    ]
    .into_iter()
    .filter_map(|(what, how)| Some(Step::new(what, how?)))
    .collect()
}

/// What comes of several destinations: served only where each is.
pub(super) fn sum(branches: &[Branch]) -> Outcome {
    match branches {
        [] => Outcome::failed(503, "NC", "the rule names no upstream"),
        [one] => one.outcome.clone(),
        several => {
            let each = several
                .iter()
                .map(|one| format!("{} {}", one.share, one.outcome));
            Outcome {
                served: several.iter().all(|one| one.outcome.served),
                words: each.collect::<Vec<_>>().join("; "),
                ..Outcome::default()
            }
        }
    }
}
