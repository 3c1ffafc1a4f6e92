//! What every document has, and messages that several kinds share.
//!
//! Owns: `metadata`, selectors, ports, the frame of a document.
//! Never: names a kind.
//! Called by: the tables of the kinds.

use crate::config::istio::shape::{Field, Kind, LABELS, Table, silent, yes};

/// `metadata` of an Istio document.
pub static METADATA: Table = Table::new(&[
    yes("name", Kind::Text),
    yes("namespace", Kind::Text),
    yes("labels", LABELS),
    yes("annotations", LABELS),
    yes("creationTimestamp", Kind::Text),
    silent("generateName", Kind::Any),
    silent("generation", Kind::Any),
    silent("resourceVersion", Kind::Any),
    silent("uid", Kind::Any),
    silent("selfLink", Kind::Any),
    silent("clusterName", Kind::Any),
    silent("managedFields", Kind::Any),
    silent("ownerReferences", Kind::Any),
    silent("finalizers", Kind::Any),
    silent("initializers", Kind::Any),
    silent("deletionTimestamp", Kind::Any),
    silent("deletionGracePeriodSeconds", Kind::Any),
]);

/// `metadata` of a Kubernetes document.
pub static OPEN_METADATA: Table = Table::open(&[
    yes("name", Kind::Text),
    yes("namespace", Kind::Text),
    yes("labels", LABELS),
    yes("annotations", LABELS),
    yes("creationTimestamp", Kind::Text),
]);

/// The frame of an Istio document, around its `spec`.
macro_rules! document {
    ($(#[$doc:meta])* $name:ident = $spec:expr) => {
        $(#[$doc])*
        pub static $name: Table = Table::new(&[
            silent("apiVersion", Kind::Text),
            silent("kind", Kind::Text),
            yes("metadata", Kind::Object(&crate::config::istio::tables::common::METADATA)),
            yes("spec", Kind::Object(&$spec)),
            silent("status", Kind::Any),
        ]);
    };
}
pub(super) use document;

/// `workloadSelector.labels`.
pub static WORKLOAD_SELECTOR: Table = Table::new(&[yes("labels", LABELS)]);
/// `workloadSelector.matchLabels`, `selector.matchLabels`.
pub static MATCH_LABELS: Table = Table::new(&[yes("matchLabels", LABELS)]);

const PORT_FIELDS: &[Field] = &[
    yes("number", Kind::Port),
    yes("name", Kind::Text),
    yes("protocol", Kind::Text),
    yes("targetPort", Kind::Whole(0, 65_535)),
];
/// A port with protocol and name.
pub static PORT: Table = Table::new(PORT_FIELDS);
/// `port.number`.
pub static PORT_NUMBER: Table = Table::new(&[yes("number", Kind::Port)]);
