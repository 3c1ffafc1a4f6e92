//! Sidecar.
//!
//! Owns: its messages.
//! Never: reads a document.
//! Called by: read, reading.

use super::common::{PORT, WORKLOAD_SELECTOR, document};
use super::destination_rule::CONNECTION_POOL;
use super::gateway::SERVER_TLS;
use super::virtual_service::DESTINATION;
use crate::config::istio::shape::{Kind, TEXTS, Table, Words, refused, silent, warned, yes};

/// `outboundTrafficPolicy.mode` (O1).
pub const OUTBOUND_MODE: Words = &[
    ("REGISTRY_ONLY", 0),
    ("ALLOW_ANY", 1),
    ("ALLOW_ANY_DYNAMIC_DNS", 2),
];
/// `captureMode`.
pub const CAPTURE: Words = &[("DEFAULT", 0), ("IPTABLES", 1), ("NONE", 2)];

static OUTBOUND: Table = Table::new(&[
    yes("mode", Kind::Enum(OUTBOUND_MODE)),
    refused(
        "egressProxy",
        Kind::Object(&DESTINATION),
        "write a VirtualService and a ServiceEntry for the hosts that the proxy is for",
    ),
]);

const LISTENERS: &str = "sortie listens where its flags say: write --listen or --capture";

static EGRESS: Table = Table::new(&[
    yes("port", Kind::Object(&PORT)),
    warned("bind", Kind::Text, LISTENERS),
    warned("captureMode", Kind::Enum(CAPTURE), LISTENERS),
    yes("hosts", TEXTS),
]);

static INGRESS: Table = Table::new(&[
    yes("port", Kind::Object(&PORT)),
    yes("bind", Kind::Text),
    yes("captureMode", Kind::Enum(CAPTURE)),
    yes("defaultEndpoint", Kind::Text),
    yes("tls", Kind::Object(&SERVER_TLS)),
    warned("connectionPool", Kind::Object(&CONNECTION_POOL), UNBOUNDED),
]);

const UNBOUNDED: &str = "connections to the application are not bounded";

static SPEC: Table = Table::new(&[
    yes("workloadSelector", Kind::Object(&WORKLOAD_SELECTOR)),
    yes("ingress", Kind::List(&Kind::Object(&INGRESS))),
    yes("egress", Kind::List(&Kind::Object(&EGRESS))),
    yes("outboundTrafficPolicy", Kind::Object(&OUTBOUND)),
    warned(
        "inboundConnectionPool",
        Kind::Object(&CONNECTION_POOL),
        UNBOUNDED,
    ),
]);

document!(
    /// Sidecar.
    SIDECAR = SPEC
);
