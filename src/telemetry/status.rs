//! What the process says of itself: whether it is ready, and how the last reload went.
//!
//! Owns: the reasons for not being ready, and what was refused since when.
//! Never: decides what is a reason.
//! Called by: app and publish (write it), admin (shows it).
//!
//! Why it lives this low: publish reports here and admin reads here, and neither may import the
//! other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use super::shard::lock;

/// Shared by all that have something to say about readiness.
#[derive(Debug, Default)]
pub struct Status(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    holds: BTreeMap<&'static str, Vec<String>>,
    notes: BTreeMap<&'static str, Vec<String>>,
    version: u64,
    loaded: Option<SystemTime>,
    refusal: Option<Refusal>,
}

/// A configuration that was refused, while the one before it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// When the first of the refused attempts in a row was made: what runs is stale since then.
    pub since: SystemTime,
    /// What is wrong with the latest attempt, one line each.
    pub diagnostics: Vec<String>,
}

impl Status {
    /// Ready, as far as anybody has said.
    pub fn new() -> Arc<Status> {
        Arc::default()
    }

    /// Not ready for the reason `why`, until [`Status::release`] with the same `what`. A `what`,
    /// such as `listeners`, has one reason at a time (I14).
    pub fn hold(&self, what: &'static str, why: impl Into<String>) {
        self.hold_all(what, vec![why.into()]);
    }

    /// The same for several reasons at once, instead of those of the same `what`; none of them
    /// releases it (ISTIO.md X1).
    pub fn hold_all(&self, what: &'static str, why: Vec<String>) {
        let mut state = lock(&self.0);
        match why.is_empty() {
            true => state.holds.remove(what),
            false => state.holds.insert(what, why),
        };
    }

    /// `what` no longer stands against being ready.
    pub fn release(&self, what: &'static str) {
        lock(&self.0).holds.remove(what);
    }

    /// Remarks that are shown beside readiness and do not change it, such as an expired
    /// certificate of ours (R17). Replaces those of the same `what`; empty removes them.
    pub fn note(&self, what: &'static str, lines: Vec<String>) {
        let mut state = lock(&self.0);
        match lines.is_empty() {
            true => state.notes.remove(what),
            false => state.notes.insert(what, lines),
        };
    }

    /// A configuration was published as `version` at `now`.
    pub fn accepted(&self, version: u64, now: SystemTime) {
        let mut state = lock(&self.0);
        state.version = version;
        state.loaded = Some(now);
        state.refusal = None;
    }

    /// A configuration was refused at `now`; the one before stays (X2).
    pub fn refused(&self, diagnostics: Vec<String>, now: SystemTime) {
        let mut state = lock(&self.0);
        let since = state.refusal.as_ref().map_or(now, |refusal| refusal.since);
        state.refusal = Some(Refusal { since, diagnostics });
    }

    /// Why the process is not ready, as `what: why`; empty where it is.
    pub fn reasons(&self) -> Vec<String> {
        let state = lock(&self.0);
        let holds = state.holds.iter();
        holds
            .flat_map(|(what, lines)| lines.iter().map(move |line| format!("{what}: {line}")))
            .collect()
    }

    /// The remarks, as `what: line`.
    pub fn notes(&self) -> Vec<String> {
        let state = lock(&self.0);
        let notes = state.notes.iter();
        notes
            .flat_map(|(what, lines)| lines.iter().map(move |line| format!("{what}: {line}")))
            .collect()
    }

    /// The version of the published configuration and when it was published.
    pub fn loaded(&self) -> (u64, Option<SystemTime>) {
        let state = lock(&self.0);
        (state.version, state.loaded)
    }

    /// What was refused since the last configuration that was not.
    pub fn refusal(&self) -> Option<Refusal> {
        lock(&self.0).refusal.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn i14_every_hold_must_be_released_before_it_is_ready() {
        let status = Status::new();
        status.hold("configuration", "not yet loaded");
        status.hold("listeners", "not yet bound");
        status.release("configuration");
        assert_eq!(status.reasons(), ["listeners: not yet bound"]);
        status.release("listeners");
        assert!(status.reasons().is_empty());
    }

    #[test]
    fn x1_every_refused_object_is_a_reason_until_none_is_left() {
        let status = Status::new();
        status.hold_all(
            "refused",
            vec!["a.yaml:1: one".into(), "b.yaml:2: two".into()],
        );
        assert_eq!(
            status.reasons(),
            ["refused: a.yaml:1: one", "refused: b.yaml:2: two"]
        );
        status.hold_all("refused", Vec::new());
        assert!(status.reasons().is_empty());
    }

    #[test]
    fn r17_a_note_does_not_change_readiness() {
        let status = Status::new();
        status.note("certificates", vec!["a.crt has expired".into()]);
        assert!(status.reasons().is_empty());
        assert_eq!(status.notes(), ["certificates: a.crt has expired"]);
        status.note("certificates", Vec::new());
        assert!(status.notes().is_empty());
    }

    #[test]
    fn x2_it_is_stale_since_the_first_refusal_until_one_is_accepted() {
        let status = Status::new();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        status.accepted(1, at(1));
        status.refused(vec!["first".into()], at(2));
        status.refused(vec!["second".into()], at(3));
        let refusal = status.refusal().unwrap();
        assert_eq!(
            (refusal.since, refusal.diagnostics),
            (at(2), vec!["second".to_owned()])
        );
        status.accepted(2, at(4));
        assert_eq!(
            (status.refusal(), status.loaded()),
            (None, (2, Some(at(4))))
        );
    }
}
