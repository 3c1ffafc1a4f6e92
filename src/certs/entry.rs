//! One credential over time: its last good generation, and what is wrong with the files now.
//!
//! Owns: the decision to take, keep or refuse (ISTIO.md R10 to R14), and the retries (R12).
//! Never: reads a file itself.
//! Called by: `certs::store`.
//!
//! Why one failing part holds the whole credential back: certificate, key, CA and CRL are one
//! generation, and half of a new one is nobody's intention (R10).

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::backoff::Backoff;
use super::expiry::seconds;
use super::generation::{LoadCause, LoadError, Outcome, load};
use super::names::{Names, Part};
use super::problem::{CredentialProblem, ProblemReason};
use super::say;
use super::store::CredentialState;
use super::system::SystemRoots;
use crate::model::{CredentialSpec, CredentialUse, Uses};
use crate::telemetry::{Metrics, rfc3339_seconds};
use crate::tls::{Credential, Generation};

/// A certificate that becomes valid within this is taken all the same (R11), in seconds.
const SKEW: i64 = 60;

/// One credential and its history.
pub(super) struct Entry {
    /// With the documents of today: another content of a Secret is a rotation, as of a file.
    spec: CredentialSpec,
    uses: Uses,
    pub(super) names: Names,
    pub(super) state: CredentialState,
    /// The bytes that `state.current` stands for. They may differ from those it was made of in
    /// what does not matter, such as a comment.
    seen: Option<Generation>,
    failure: Option<Failure>,
}

struct Failure {
    backoff: Backoff,
    /// The bytes that failed, where they could be read.
    generation: Option<Generation>,
}

/// What one check gathers over all entries.
#[derive(Default)]
pub(super) struct Round {
    pub(super) changed: BTreeSet<String>,
    /// A generation was taken, even if it has no resource to name.
    pub(super) taken: bool,
    pub(super) problems_changed: bool,
    pub(super) retry_after: Option<Duration>,
    /// Counted and logged already: a resource may be part of several credentials.
    said: BTreeSet<(String, ProblemReason)>,
    warned: BTreeSet<String>,
}

impl Entry {
    pub(super) fn new(named: CredentialUse) -> Entry {
        Entry {
            names: Names::of(&named.spec),
            spec: named.spec,
            uses: named.uses,
            state: CredentialState::default(),
            seen: None,
            failure: None,
        }
    }

    /// What it is made of.
    pub(super) fn spec(&self) -> &CredentialSpec {
        &self.spec
    }

    /// Whom its certificate is shown to.
    pub(super) fn uses(&self) -> Uses {
        self.uses
    }

    /// Takes up the documents of `named`, which names the same sources, and its uses.
    pub(super) fn follow(&mut self, named: CredentialUse) {
        self.spec = named.spec;
        if self.uses != named.uses {
            self.uses = named.uses;
            // Another use is to be warned of otherwise, so it is looked at anew.
            self.seen = None;
        }
    }

    /// Reads the files and decides.
    pub(super) fn check(
        &mut self,
        system: &SystemRoots,
        now: SystemTime,
        metrics: &Metrics,
        round: &mut Round,
    ) {
        let read = load(&self.spec, self.uses, &self.names, system, self.seen);
        let result = read.and_then(|outcome| match outcome {
            Outcome::Known => Ok(None),
            Outcome::New {
                credential,
                certificate,
            } => match (&self.state.current, certificate) {
                (Some(old), Some(file)) => {
                    refuse(&file, old, &credential, now).map(|()| Some(credential))
                }
                (Some(_), None) | (None, _) => Ok(Some(credential)),
            },
        });
        match result {
            Ok(new) => {
                if let Some(new) = new {
                    self.take(*new, now, metrics, round);
                }
                self.heal(round);
            }
            Err(error) => self.fail(&error, now, metrics, round),
        }
    }

    /// Takes a new generation, unless it only looks new (R13).
    fn take(&mut self, new: Credential, now: SystemTime, metrics: &Metrics, round: &mut Round) {
        self.seen = Some(new.generation);
        let old = self.state.current.as_deref();
        let known = old.map_or(&[][..], |old| &old.warnings);
        for warning in new.warnings.iter().filter(|w| !known.contains(w)) {
            if round.warned.insert(warning.clone()) {
                tracing::warn!(resource = new.name, "{warning}");
            }
        }
        if let Some(old) = old.filter(|old| old.is_same_as(&new)) {
            if old.generation == new.generation && old.warnings != new.warnings {
                round.taken = true;
                self.state.current = Some(Arc::new(new));
            }
            return;
        }
        for part in changed_parts(&self.names, old, &new) {
            let resource = self.names.part(part).to_owned();
            // Several credentials may share it; it is one rotation all the same (R1).
            if round.changed.insert(resource.clone()) {
                say::taken(&resource, part, old.is_some(), &new, seconds(now));
                if old.is_some() {
                    metrics.certs.rotated(&resource);
                }
            }
        }
        round.taken = true;
        self.state.current = Some(Arc::new(new));
    }

    fn heal(&mut self, round: &mut Round) {
        self.failure = None;
        if let Some(problem) = self.state.problem.take() {
            round.problems_changed = true;
            tracing::info!(
                resource = problem.resource,
                "the problem is over: {}",
                problem.words
            );
        }
    }

    /// Keeps what there is, and says so once (R12).
    fn fail(&mut self, error: &LoadError, now: SystemTime, metrics: &Metrics, round: &mut Round) {
        let reason = error.reason();
        let resource = self.names.part(error.part).to_owned();
        let words = error.to_string();
        let old = self.state.problem.as_ref();
        let same = old.filter(|old| {
            (old.reason, &old.file, &old.resource) == (reason, &error.file, &resource)
        });
        let other_bytes = |failure: &Failure| {
            failure.generation != error.generation && error.generation.is_some()
        };
        let failure = match (&mut self.failure, same) {
            // Other bytes with the same fault while we still retry: the writer is not done yet.
            // After that they are another attempt of his, which deserves a word of its own.
            (Some(failure), Some(_)) if !other_bytes(failure) || !failure.backoff.is_over() => {
                match other_bytes(failure) {
                    true => failure.backoff = Backoff::start(now),
                    false => failure.backoff.again(now),
                }
                failure.generation = error.generation;
                failure
            }
            (slot, _) => {
                if round.said.insert((resource.clone(), reason)) {
                    metrics.certs.failed(&resource, reason.label());
                    say::failed(&resource, error, self.state.current.as_deref());
                }
                slot.insert(Failure {
                    backoff: Backoff::start(now),
                    generation: error.generation,
                })
            }
        };
        if let Some(left) = failure.backoff.left(now) {
            round.retry_after = Some(round.retry_after.map_or(left, |least| least.min(left)));
        }
        round.problems_changed |= same.is_none_or(|old| old.words != words);
        self.state.problem = Some(CredentialProblem {
            since: same.map_or(now, |old| old.since),
            resource,
            file: error.file.clone(),
            reason,
            words,
        });
    }
}

/// A new leaf that is worse than the old one, by time alone (R11).
fn refuse(
    file: &Path,
    old: &Credential,
    new: &Credential,
    now: SystemTime,
) -> Result<(), LoadError> {
    let (Some(old), Some(leaf)) = (&old.identity, &new.identity) else {
        return Ok(());
    };
    let (old, leaf, now) = (&old.leaf, &leaf.leaf, seconds(now));
    if !old.is_valid_at(now) {
        return Ok(());
    }
    let file = file.to_owned();
    let subject = leaf.called();
    let cause = if leaf.not_after < now {
        LoadCause::Expired {
            file: file.clone(),
            subject,
            at: rfc3339_seconds(leaf.not_after),
        }
    } else if leaf.not_before > now.saturating_add(SKEW) {
        LoadCause::NotYetValid {
            file: file.clone(),
            subject,
            at: rfc3339_seconds(leaf.not_before),
        }
    } else {
        return Ok(());
    };
    Err(LoadError {
        part: Part::Identity,
        file,
        cause: Box::new(cause),
        generation: Some(new.generation),
    })
}

fn changed_parts(names: &Names, old: Option<&Credential>, new: &Credential) -> Vec<Part> {
    let chain = |credential: &Credential| {
        let identity = credential.identity.as_ref();
        identity.map(|identity| identity.certified.cert.clone())
    };
    let changed = [
        (
            Part::Identity,
            names.identity.is_some() && old.is_none_or(|old| chain(old) != chain(new)),
        ),
        (
            Part::Roots,
            names.has_roots()
                && old.is_none_or(|old| old.roots.certificates != new.roots.certificates),
        ),
        (
            Part::Crl,
            names.crl.is_some() && old.map_or(&[][..], |old| &old.crls) != new.crls,
        ),
    ];
    changed
        .into_iter()
        .filter_map(|(part, changed)| changed.then_some(part))
        .collect()
}
