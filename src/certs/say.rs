//! What the log says of credentials: one line per event.
//!
//! Owns: the wording and the level.
//! Never: decides whether something is worth a line.
//! Called by: `certs::store`, `certs::entry`.

use super::expiry::{Stage, rough};
use super::generation::LoadError;
use super::names::Part;
use super::rows::serial;
use super::store::Ending;
use crate::telemetry::rfc3339_seconds;
use crate::tls::Credential;

/// A threshold of R17 is passed.
pub(super) fn ending(ending: &Ending, stage: Stage, now: i64) {
    let Ending {
        resource,
        what,
        serial,
        to,
        ..
    } = ending;
    let end = rfc3339_seconds(*to);
    match stage {
        Stage::Fine => {}
        Stage::Ending(_) => tracing::warn!(
            resource,
            serial,
            "the {what} ends in {} ({end})",
            rough(to.saturating_sub(now))
        ),
        Stage::Expired => tracing::error!(resource, serial, "the {what} has expired ({end})"),
    }
}

/// A part has new content.
pub(super) fn taken(resource: &str, part: Part, again: bool, new: &Credential, now: i64) {
    let verb = if again { "rotated" } else { "loaded" };
    match (&new.identity, part) {
        (Some(identity), Part::Identity) => {
            let leaf = &identity.leaf;
            let (subject, end) = (leaf.called(), rfc3339_seconds(leaf.not_after));
            let serial = serial(leaf);
            tracing::info!(
                resource,
                serial,
                "certificate {verb}: {subject}, until {end}"
            );
            if leaf.not_before > now {
                tracing::warn!(
                    resource,
                    serial,
                    "the certificate {subject} is not valid before {}",
                    rfc3339_seconds(leaf.not_before)
                );
            }
        }
        (_, Part::Crl) => tracing::info!(resource, "revocation lists {verb}: {}", new.crls.len()),
        _ => tracing::info!(
            resource,
            "CA certificates {verb}: {}",
            new.roots.certificates.len()
        ),
    }
}

/// One line per problem, with file and reason (R12, R14, T17).
pub(super) fn failed(resource: &str, error: &LoadError, kept: Option<&Credential>) {
    let (file, reason) = (error.file.display(), error.reason().label());
    match kept.map(|kept| kept.identity.as_ref().map(|i| serial(&i.leaf))) {
        Some(Some(serial)) => tracing::warn!(
            resource, %file, reason,
            "{error}; the certificate loaded before (serial {serial}) stays in use"
        ),
        Some(None) => tracing::warn!(
            resource, %file, reason,
            "{error}; what was loaded before stays in use"
        ),
        None => tracing::error!(
            resource, %file, reason,
            "{error}; what needs it answers 503 until it is there"
        ),
    }
}
