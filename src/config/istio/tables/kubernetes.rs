//! Kubernetes' own kinds, as far as they are looked at (K4 to K6).
//!
//! Owns: their messages; what is not listed is not looked at.
//! Never: reads a document.
//! Called by: read, reading.

use super::common::OPEN_METADATA;
use crate::config::istio::shape::{COUNT, Kind, LABELS, TEXTS, Table, yes};

const METADATA: Kind = Kind::Object(&OPEN_METADATA);

/// Namespace and ServiceAccount: that they are there.
pub static NAMED: Table = Table::open(&[yes("metadata", METADATA)]);

/// Secret.
pub static SECRET: Table = Table::open(&[
    yes("metadata", METADATA),
    yes("type", Kind::Text),
    yes("data", LABELS),
    yes("stringData", LABELS),
]);

/// ConfigMap.
pub static CONFIG_MAP: Table = Table::open(&[
    yes("metadata", METADATA),
    yes("data", LABELS),
    yes("binaryData", LABELS),
]);

static SERVICE_PORT: Table = Table::open(&[
    yes("name", Kind::Text),
    yes("port", Kind::Port),
    yes("protocol", Kind::Text),
    yes("appProtocol", Kind::Text),
]);

static SERVICE_SPEC: Table = Table::open(&[
    yes("ports", Kind::List(&Kind::Object(&SERVICE_PORT))),
    yes("selector", LABELS),
    yes("clusterIP", Kind::Text),
    yes("clusterIPs", TEXTS),
    yes("type", Kind::Text),
    yes("externalName", Kind::Text),
]);

/// Service.
pub static SERVICE: Table = Table::open(&[
    yes("metadata", METADATA),
    yes("spec", Kind::Object(&SERVICE_SPEC)),
]);

static REFERENCE: Table = Table::open(&[yes("kind", Kind::Text), yes("name", Kind::Text)]);
static ADDRESS: Table = Table::open(&[
    yes("ip", Kind::Text),
    yes("targetRef", Kind::Object(&REFERENCE)),
]);
static ENDPOINT_PORT: Table = Table::open(&[yes("name", Kind::Text), yes("port", Kind::Port)]);
static ENDPOINT_SUBSET: Table = Table::open(&[
    yes("addresses", Kind::List(&Kind::Object(&ADDRESS))),
    yes("ports", Kind::List(&Kind::Object(&ENDPOINT_PORT))),
]);

/// Endpoints.
pub static ENDPOINTS: Table = Table::open(&[
    yes("metadata", METADATA),
    yes("subsets", Kind::List(&Kind::Object(&ENDPOINT_SUBSET))),
]);

static CONDITIONS: Table = Table::open(&[
    yes("ready", Kind::Bool),
    yes("serving", Kind::Bool),
    yes("terminating", Kind::Bool),
]);
static SLICE_ENDPOINT: Table = Table::open(&[
    yes("addresses", TEXTS),
    yes("conditions", Kind::Object(&CONDITIONS)),
    yes("targetRef", Kind::Object(&REFERENCE)),
]);

/// EndpointSlice.
pub static ENDPOINT_SLICE: Table = Table::open(&[
    yes("metadata", METADATA),
    yes("addressType", Kind::Text),
    yes("endpoints", Kind::List(&Kind::Object(&SLICE_ENDPOINT))),
    yes("ports", Kind::List(&Kind::Object(&ENDPOINT_PORT))),
]);

static CONTAINER_PORT: Table =
    Table::open(&[yes("name", Kind::Text), yes("containerPort", Kind::Port)]);
static CONTAINER: Table = Table::open(&[
    yes("name", Kind::Text),
    yes("ports", Kind::List(&Kind::Object(&CONTAINER_PORT))),
]);
static POD_SPEC: Table = Table::open(&[
    yes("serviceAccountName", Kind::Text),
    yes("serviceAccount", Kind::Text),
    yes("containers", Kind::List(&Kind::Object(&CONTAINER))),
]);
static POD_IP: Table = Table::open(&[yes("ip", Kind::Text)]);
static POD_STATUS: Table = Table::open(&[
    yes("podIP", Kind::Text),
    yes("podIPs", Kind::List(&Kind::Object(&POD_IP))),
]);

/// Pod.
pub static POD: Table = Table::open(&[
    yes("metadata", METADATA),
    yes("spec", Kind::Object(&POD_SPEC)),
    yes("status", Kind::Object(&POD_STATUS)),
]);

static TEMPLATE: Table = Table::open(&[
    yes("metadata", METADATA),
    yes("spec", Kind::Object(&POD_SPEC)),
]);
static WORKLOAD_SPEC: Table = Table::open(&[
    yes("replicas", COUNT),
    yes("template", Kind::Object(&TEMPLATE)),
]);

/// Deployment, StatefulSet, DaemonSet, ReplicaSet.
pub static TEMPLATED: Table = Table::open(&[
    yes("metadata", METADATA),
    yes("spec", Kind::Object(&WORKLOAD_SPEC)),
]);
