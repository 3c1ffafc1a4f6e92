//! Gateway.
//!
//! Owns: its messages.
//! Never: reads a document.
//! Called by: read, reading.

use super::common::{PORT, document};
use crate::config::istio::shape::{Kind, LABELS, TEXTS, Table, Words, silent, yes};

/// `tls.mode` of a server.
pub const MODE: Words = &[
    ("PASSTHROUGH", 0),
    ("SIMPLE", 1),
    ("MUTUAL", 2),
    ("AUTO_PASSTHROUGH", 3),
    ("ISTIO_MUTUAL", 4),
    ("OPTIONAL_MUTUAL", 5),
];
/// `tls.minProtocolVersion` and `maxProtocolVersion`.
pub const VERSION: Words = &[
    ("TLS_AUTO", 0),
    ("TLSV1_0", 1),
    ("TLSV1_1", 2),
    ("TLSV1_2", 3),
    ("TLSV1_3", 4),
];

static CERTIFICATE: Table = Table::new(&[
    yes("serverCertificate", Kind::Text),
    yes("privateKey", Kind::Text),
    yes("caCertificates", Kind::Text),
]);

/// `tls` of a server.
pub static SERVER_TLS: Table = Table::new(&[
    yes("httpsRedirect", Kind::Bool),
    yes("mode", Kind::Enum(MODE)),
    yes("serverCertificate", Kind::Text),
    yes("privateKey", Kind::Text),
    yes("caCertificates", Kind::Text),
    yes("caCrl", Kind::Text),
    yes("credentialName", Kind::Text),
    yes("credentialNames", TEXTS),
    yes("caCertCredentialName", Kind::Text),
    yes("tlsCertificates", Kind::List(&Kind::Object(&CERTIFICATE))),
    yes("subjectAltNames", TEXTS),
    yes("verifyCertificateSpki", TEXTS),
    yes("verifyCertificateHash", TEXTS),
    yes("minProtocolVersion", Kind::Enum(VERSION)),
    yes("maxProtocolVersion", Kind::Enum(VERSION)),
    yes("cipherSuites", TEXTS),
]);

static SERVER: Table = Table::new(&[
    yes("port", Kind::Object(&PORT)),
    yes("bind", Kind::Text),
    yes("hosts", TEXTS),
    yes("tls", Kind::Object(&SERVER_TLS)),
    yes("name", Kind::Text),
    silent("defaultEndpoint", Kind::Text),
]);

static SPEC: Table = Table::new(&[
    yes("servers", Kind::List(&Kind::Object(&SERVER))),
    yes("selector", LABELS),
]);

document!(
    /// Gateway.
    GATEWAY = SPEC
);
