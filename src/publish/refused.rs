//! Objects that were refused while the others are served: said in the log, and in readiness.
//!
//! Owns: what keeps a start from being ready, and what keeps a reload from being taken (ISTIO.md X1,
//! X2).
//! Never: makes what they govern fail (that is config).
//! Called by: `publish::reload`.

use std::collections::HashSet;
use std::sync::Arc;

use crate::config::{Diagnostic, Diagnostics, Loaded, Severity};
use crate::model::Config;
use crate::telemetry::Status;

/// What readiness calls them.
const REFUSED: &str = "refused";

/// Logs warnings, and errors of single objects.
pub(super) fn log(found: &Diagnostics) {
    for one in found.iter() {
        match one.severity {
            Severity::Error => tracing::error!("{one}"),
            Severity::Warning => tracing::warn!("{one}"),
        }
    }
}

/// Keeps the process from being ready until a configuration without any refusal is in use (X1).
pub(super) fn show(config: &Config, status: &Status) {
    let refused = config.refused.iter().map(ToString::to_string);
    status.hold_all(REFUSED, refused.collect());
}

/// Everything that is wrong with objects that were refused, one line each: on a reload one of them
/// is enough to keep what runs (X2).
pub(super) fn refusals(loaded: &Loaded) -> Vec<String> {
    let refused = &loaded.config.refused;
    let mut unsaid: HashSet<&Arc<str>> = refused.iter().map(|one| &one.object).collect();
    let objects = unsaid.clone();
    let is_refused = |one: &&Diagnostic| {
        let object = one.object.as_ref();
        one.severity == Severity::Error && object.is_some_and(|one| objects.contains(one))
    };
    let mut lines = Vec::new();
    for one in loaded.warnings.iter().filter(is_refused) {
        if let Some(object) = &one.object {
            unsaid.remove(object);
        }
        lines.push(one.to_string());
    }
    // The list of diagnostics is bounded, that of refused objects is not.
    let unsaid = refused.iter().filter(|one| unsaid.contains(&one.object));
    lines.extend(unsaid.map(ToString::to_string));
    lines
}
