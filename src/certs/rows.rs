//! Credentials as rows of a table (ISTIO.md B12).
//!
//! Owns: the columns, their text, and the field names of the JSON form.
//! Never: shows a key.
//! Called by: admin (`/certs`), cli (`sortie certs`).

use std::collections::BTreeSet;

use serde::Serialize;

use super::expiry::seconds;
use super::names::{Names, Part};
use super::problem::CredentialProblem;
use super::store::CredentialState;
use crate::telemetry::rfc3339_seconds;
use crate::tls::{CertFacts, Credential, CrlFacts};

/// One certificate, or one resource that has none yet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct CredentialRow {
    /// `file-cert:CERT~KEY`, `file-root:CA`, `file-root:system`, `file-crl:CRL`; of a Secret
    /// `kubernetes://name` and `kubernetes://name-cacert`.
    pub resource: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: RowKind,
    /// `ACTIVE`, `ACTIVE (reload failed: key mismatch)`, `WARMING (file missing)`.
    pub status: String,
    /// By time; `None` where there is no certificate.
    pub valid: Option<bool>,
    /// `%032x`, as Istio prints it.
    pub serial: Option<String>,
    /// RFC 3339, UTC.
    pub not_after: Option<String>,
    /// RFC 3339, UTC.
    pub not_before: Option<String>,
    /// RFC 4514.
    pub subject: Option<String>,
    /// RFC 4514.
    pub issuer: Option<String>,
    /// Such as `DNS:a.example`.
    pub sans: Vec<String>,
    /// How many certificates the resource holds; over one only for `file-root:system`.
    pub certificates: usize,
    /// What is wrong with the files now.
    pub problem: Option<RowProblem>,
    /// What is odd about the credential in use; on the row of its identity, where it has one.
    pub warnings: Vec<String>,
}

/// The TYPE column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum RowKind {
    /// What we show.
    #[serde(rename = "Cert Chain")]
    CertChain,
    /// Whom we trust.
    #[serde(rename = "CA")]
    Ca,
    /// What is revoked.
    #[serde(rename = "CRL")]
    Crl,
}

/// A problem as JSON.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct RowProblem {
    /// The file at fault.
    pub file: String,
    /// The metric's label.
    pub reason: String,
    /// One sentence.
    pub words: String,
    /// RFC 3339, UTC.
    pub since: String,
}

impl RowKind {
    /// The column's text.
    pub fn as_str(self) -> &'static str {
        match self {
            RowKind::CertChain => "Cert Chain",
            RowKind::Ca => "CA",
            RowKind::Crl => "CRL",
        }
    }
}

/// The rows of some credentials at `now` (seconds since 1970): sorted, equal ones once.
pub(super) fn rows<'a>(
    states: impl Iterator<Item = (Names, &'a CredentialState)>,
    now: i64,
) -> Vec<CredentialRow> {
    let mut all = BTreeSet::new();
    for (names, state) in states {
        let parts = [
            (names.identity.is_some(), Part::Identity),
            (names.has_roots(), Part::Roots),
            (names.crl.is_some(), Part::Crl),
        ];
        for (_, part) in parts.into_iter().filter(|(there, _)| *there) {
            all.extend(part_rows(&names, part, state, now));
        }
    }
    // Of two credentials that share a file one may have loaded it while the other waits for its
    // certificate; the file itself is then loaded (ISTIO.md R1).
    let loaded: BTreeSet<(RowKind, String)> = all
        .iter()
        .filter(|row| row.status.starts_with(ACTIVE))
        .map(|row| (row.kind, row.resource.clone()))
        .collect();
    all.retain(|row| row.status != WARMING || !loaded.contains(&(row.kind, row.resource.clone())));
    all.into_iter().collect()
}

fn part_rows(names: &Names, part: Part, state: &CredentialState, now: i64) -> Vec<CredentialRow> {
    let resource = names.part(part);
    let problem = state.problem.as_ref().filter(|p| p.resource == resource);
    let empty = CredentialRow {
        resource: resource.to_owned(),
        kind: match part {
            Part::Identity => RowKind::CertChain,
            Part::Roots => RowKind::Ca,
            Part::Crl => RowKind::Crl,
        },
        status: status(state, problem),
        valid: None,
        serial: None,
        not_after: None,
        not_before: None,
        subject: None,
        issuer: None,
        sans: Vec::new(),
        certificates: 0,
        problem: problem.map(RowProblem::from),
        warnings: Vec::new(),
    };
    let Some(credential) = &state.current else {
        let optional = part == Part::Crl && names.crl.as_ref() == Some(&names.roots);
        return if optional { Vec::new() } else { vec![empty] };
    };
    match part {
        Part::Identity => {
            let leaf = credential.identity.iter().map(|identity| &identity.leaf);
            leaf.map(|leaf| CredentialRow {
                certificates: 1 + credential.identity.as_ref().map_or(0, |i| i.issuers.len()),
                warnings: credential.warnings.clone(),
                ..empty.clone().of(leaf, now)
            })
            .collect()
        }
        Part::Roots => root_rows(&empty, credential, now),
        // A Secret need not have one (ISTIO.md S4).
        Part::Crl if names.crl.as_ref() == Some(&names.roots) && credential.crls.is_empty() => {
            Vec::new()
        }
        Part::Crl if credential.crl_facts.is_empty() => vec![empty],
        Part::Crl => {
            let lists = credential.crl_facts.iter();
            lists.map(|list| empty.clone().of_list(list, now)).collect()
        }
    }
}

/// One row for each anchor of a file; one in all for the operating system's hundred and more.
fn root_rows(empty: &CredentialRow, credential: &Credential, now: i64) -> Vec<CredentialRow> {
    let warnings = match credential.identity {
        Some(_) => Vec::new(),
        None => credential.warnings.clone(),
    };
    let count = credential.roots.certificates.len();
    if credential.roots.name == SYSTEM || credential.root_facts.is_empty() {
        return vec![CredentialRow {
            certificates: count,
            warnings,
            ..empty.clone()
        }];
    }
    let facts = credential.root_facts.iter();
    facts
        .map(|facts| CredentialRow {
            certificates: 1,
            warnings: warnings.clone(),
            ..empty.clone().of(facts, now)
        })
        .collect()
}

/// The resource of the operating system's store (ISTIO.md R1).
pub(super) const SYSTEM: &str = "file-root:system";
/// In place of a resource where nothing is verified.
pub(super) const NOTHING: &str = "none";

/// The STATUS column, before what went wrong.
const ACTIVE: &str = "ACTIVE";
const WARMING: &str = "WARMING";

fn status(state: &CredentialState, problem: Option<&CredentialProblem>) -> String {
    match (&state.current, problem) {
        (Some(_), None) => ACTIVE.to_owned(),
        (Some(_), Some(p)) => format!("{ACTIVE} (reload failed: {})", p.reason.words()),
        (None, None) => WARMING.to_owned(),
        (None, Some(p)) => format!("{WARMING} ({})", p.reason.words()),
    }
}

/// `%032x`, as Istio prints serial numbers.
pub(super) fn serial(facts: &CertFacts) -> String {
    format!("{:0>32}", facts.serial)
}

impl CredentialRow {
    /// True for a certificate that we show and that is over or has not begun (R17).
    pub fn has_ended(&self) -> bool {
        self.kind == RowKind::CertChain && self.valid == Some(false)
    }

    fn of(mut self, facts: &CertFacts, now: i64) -> CredentialRow {
        self.valid = Some(facts.is_valid_at(now));
        self.serial = Some(serial(facts));
        self.not_after = Some(rfc3339_seconds(facts.not_after));
        self.not_before = Some(rfc3339_seconds(facts.not_before));
        self.subject = Some(facts.subject.clone());
        self.issuer = Some(facts.issuer.clone());
        self.sans = facts.sans.iter().map(ToString::to_string).collect();
        self
    }

    fn of_list(mut self, list: &CrlFacts, now: i64) -> CredentialRow {
        let end = list.next_update;
        self.valid = Some(list.this_update <= now && end.is_none_or(|end| now <= end));
        self.not_after = end.map(rfc3339_seconds);
        self.not_before = Some(rfc3339_seconds(list.this_update));
        self.issuer = Some(list.issuer.clone());
        self
    }
}

impl From<&CredentialProblem> for RowProblem {
    fn from(problem: &CredentialProblem) -> Self {
        RowProblem {
            file: problem.file.display().to_string(),
            reason: problem.reason.label().to_owned(),
            words: problem.words.clone(),
            since: rfc3339_seconds(seconds(problem.since)),
        }
    }
}
