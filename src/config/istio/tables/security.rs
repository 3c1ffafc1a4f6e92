//! PeerAuthentication, Policy and MeshPolicy (K2, K3).
//!
//! Owns: their messages.
//! Never: reads a document.
//! Called by: read, reading.

use super::common::{MATCH_LABELS, document};
use crate::config::istio::shape::{Kind, LABELS, Table, Words, refused, silent, warned, yes};

/// `mtls.mode`.
pub const MODE: Words = &[
    ("UNSET", 0),
    ("DISABLE", 1),
    ("PERMISSIVE", 2),
    ("STRICT", 3),
];
/// `mtls.mode` of a legacy peer.
pub const LEGACY_MODE: Words = &[("STRICT", 0), ("PERMISSIVE", 1)];

static MTLS: Table = Table::new(&[yes("mode", Kind::Enum(MODE))]);

static PEERS: Table = Table::new(&[
    yes("selector", Kind::Object(&MATCH_LABELS)),
    yes("mtls", Kind::Object(&MTLS)),
    yes("portLevelMtls", Kind::Map(&Kind::Object(&MTLS))),
]);

document!(
    /// PeerAuthentication.
    PEER_AUTHENTICATION = PEERS
);

static LEGACY_PORT: Table = Table::new(&[yes("number", Kind::Port), yes("name", Kind::Text)])
    .exclusive(&[&["number", "name"]]);

static TARGET: Table = Table::new(&[
    yes("name", Kind::Text),
    yes("ports", Kind::List(&Kind::Object(&LEGACY_PORT))),
    refused(
        "labels",
        LABELS,
        "write a PeerAuthentication with a selector",
    ),
]);

static LEGACY_MTLS: Table = Table::new(&[
    yes("allowTls", Kind::Bool),
    yes("mode", Kind::Enum(LEGACY_MODE)),
]);

static PEER: Table = Table::new(&[
    yes("mtls", Kind::Presence(&LEGACY_MTLS)),
    refused(
        "jwt",
        Kind::Any,
        "sortie does not check request tokens: remove it",
    ),
])
.exclusive(&[&["mtls", "jwt"]]);

static LEGACY: Table = Table::new(&[
    yes("targets", Kind::List(&Kind::Object(&TARGET))),
    yes("peers", Kind::List(&Kind::Object(&PEER))),
    warned(
        "peerIsOptional",
        Kind::Bool,
        "write mtls: {mode: PERMISSIVE} for the same",
    ),
    refused(
        "origins",
        Kind::Any,
        "sortie does not check request tokens: remove it",
    ),
    silent("originIsOptional", Kind::Bool),
    silent("principalBinding", Kind::Any),
]);

document!(
    /// Policy and MeshPolicy.
    LEGACY_POLICY = LEGACY
);
