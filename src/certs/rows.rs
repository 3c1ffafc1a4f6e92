//! Credentials as rows of a table (ISTIO.md B12).
//!
//! Owns: the columns, their text, and the field names of the JSON form.
//! Never: shows a key.
//! Called by: admin (`/certs`), cli (`sortie certs`).

use serde::Serialize;

/// One certificate, or one resource that has none yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CredentialRow {
    /// `file-cert:CERT~KEY`, `file-root:CA`, `file-root:system` or `file-crl:CRL`.
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
    /// What is odd about the certificate in use.
    pub warnings: Vec<String>,
}

/// The TYPE column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
