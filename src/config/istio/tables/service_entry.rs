//! ServiceEntry and WorkloadEntry.
//!
//! Owns: their messages.
//! Never: reads a document.
//! Called by: read, reading.

use super::common::{PORT, WORKLOAD_SELECTOR, document};
use crate::config::istio::shape::{COUNT, Kind, LABELS, TEXTS, Table, Words, silent, yes};

/// `location` (E1).
pub const LOCATION: Words = &[("MESH_EXTERNAL", 0), ("MESH_INTERNAL", 1)];
/// `resolution` (E1 to E3).
pub const RESOLUTION: Words = &[
    ("NONE", 0),
    ("STATIC", 1),
    ("DNS", 2),
    ("DNS_ROUND_ROBIN", 3),
    ("DYNAMIC_DNS", 4),
];

/// One of `endpoints`, and the spec of a WorkloadEntry.
pub static WORKLOAD: Table = Table::new(&[
    yes("address", Kind::Text),
    yes("ports", Kind::Map(&Kind::Port)),
    yes("labels", LABELS),
    silent("network", Kind::Text),
    silent("locality", Kind::Text),
    yes("weight", COUNT),
    yes("serviceAccount", Kind::Text),
]);

static SPEC: Table = Table::new(&[
    yes("hosts", TEXTS),
    yes("addresses", TEXTS),
    yes("ports", Kind::List(&Kind::Object(&PORT))),
    yes("location", Kind::Enum(LOCATION)),
    yes("resolution", Kind::Enum(RESOLUTION)),
    yes("endpoints", Kind::List(&Kind::Object(&WORKLOAD))),
    yes("workloadSelector", Kind::Object(&WORKLOAD_SELECTOR)),
    yes("exportTo", TEXTS),
    yes("subjectAltNames", TEXTS),
]);

document!(
    /// ServiceEntry.
    SERVICE_ENTRY = SPEC
);
document!(
    /// WorkloadEntry.
    WORKLOAD_ENTRY = WORKLOAD
);
