//! A chain, a key and roots that belong together, checked when made.
//!
//! Owns: the checks that a credential must pass, and the facts of its certificates.
//! Never: reads a file (that is `certs`).
//! Called by: `certs::store` (makes them), `tls::client_config` (uses them).

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// What a credential is made of, read but not yet checked.
pub struct CredentialParts {
    /// Resource name for logs and tables, such as `file-cert:a.crt~a.key` (ISTIO.md R1).
    pub name: String,
    /// Leaf first, and its key; `None` for a credential that only says whom to trust.
    pub identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    /// Whom to trust.
    pub roots: Roots,
    /// Revocation lists; empty: revocation is not checked.
    pub crls: Vec<CertificateRevocationListDer<'static>>,
    /// SHA-256 over all the bytes read.
    pub generation: Generation,
}

/// Hash of every byte that a credential was made from: two equal ones are the same credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Generation(pub [u8; 32]);

/// Trust anchors.
#[derive(Clone)]
pub struct Roots {
    /// `file-root:PATH` or `file-root:system` (ISTIO.md R1, T9).
    pub name: String,
    /// The certificates; intermediates and leaves count as anchors too (T10).
    pub certificates: Arc<Vec<CertificateDer<'static>>>,
}

/// Our own side of a handshake.
pub struct Identity {
    /// Chain and signing key.
    pub certified: Arc<CertifiedKey>,
    /// Facts of the leaf.
    pub leaf: CertFacts,
}

/// One generation of chain, key, roots and revocation lists.
pub struct Credential {
    /// Resource name, see [`CredentialParts::name`].
    pub name: String,
    /// Hash of what it was made from.
    pub generation: Generation,
    /// What we show, if anything.
    pub identity: Option<Identity>,
    /// Whom we trust.
    pub roots: Roots,
    /// Facts of the trust anchors that could be read, in the bundle's order.
    pub root_facts: Vec<CertFacts>,
    /// Revocation lists.
    pub crls: Vec<CertificateRevocationListDer<'static>>,
    /// What is odd but not refused (R11), in words, for the log.
    pub warnings: Vec<String>,
}

/// What people ask of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertFacts {
    /// RFC 4514 text.
    pub subject: String,
    /// RFC 4514 text.
    pub issuer: String,
    /// Lower-case hexadecimal, two digits a byte.
    pub serial: String,
    /// Subject alternative names.
    pub sans: Vec<San>,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
    /// Basic constraints say CA.
    pub is_ca: bool,
}

/// A subject alternative name (ISTIO.md T8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum San {
    /// `DNS:`, perhaps with a wildcard.
    Dns(String),
    /// `URI:`, a SPIFFE id for one.
    Uri(String),
    /// `IP:`.
    Ip(std::net::IpAddr),
    /// `email:`.
    Email(String),
}

impl fmt::Display for San {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            San::Dns(name) => write!(f, "DNS:{name}"),
            San::Uri(uri) => write!(f, "URI:{uri}"),
            San::Ip(ip) => write!(f, "IP:{ip}"),
            San::Email(mail) => write!(f, "email:{mail}"),
        }
    }
}

/// Why parts do not make a credential.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A certificate cannot be read.
    #[error("certificate {index} of the chain cannot be read: {reason}")]
    Certificate {
        /// Position in the file, from 1.
        index: usize,
        /// The parser's words.
        reason: String,
    },
    /// The key does not belong to the leaf.
    #[error("the key does not match the certificate (subject {subject})")]
    KeyMismatch {
        /// The leaf's subject.
        subject: String,
    },
    /// The key is of a kind that cannot sign.
    #[error("the key cannot be used: {0}")]
    UnsupportedKey(#[source] rustls::Error),
    /// No certificate in the chain.
    #[error("there is no certificate in it")]
    NoCertificate,
    /// No usable trust anchor.
    #[error("there is no usable CA certificate in it")]
    NoRoots,
}
