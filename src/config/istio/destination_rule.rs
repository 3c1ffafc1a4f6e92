//! DestinationRule: how a host is spoken to, with subsets and ports (ISTIO.md D, T).
//!
//! Owns: [`DestinationRule`], [`TrafficPolicy`], [`TlsSettings`].
//! Never: decides which rule a host gets, or merges two levels (that is `lower::policy`).
//! Called by: read, lower.

use std::sync::Arc;
use std::time::Duration;

use super::meta::{ExportTo, Labels, Meta, Written};
use crate::model::{Balance, Host, Place};

/// A DestinationRule.
#[derive(Clone, Debug)]
pub struct DestinationRule {
    pub meta: Meta,
    /// As written: a short name is expanded with the rule's namespace (H3).
    pub host: Written<String>,
    pub policy: Option<TrafficPolicy>,
    pub subsets: Vec<Subset>,
    /// `workloadSelector.matchLabels` (D2).
    pub selector: Option<Labels>,
    pub export_to: ExportTo,
}

/// A named part of a host's endpoints.
#[derive(Clone, Debug)]
pub struct Subset {
    pub name: Arc<str>,
    pub labels: Labels,
    pub policy: Option<TrafficPolicy>,
    pub place: Place,
}

/// Settings of one level: the rule, a subset, or (without `ports`) a port.
#[derive(Clone, Debug)]
pub struct TrafficPolicy {
    pub load_balancer: Option<LoadBalancer>,
    pub connection_pool: Option<ConnectionPool>,
    pub outlier: Option<OutlierDetection>,
    pub tls: Option<TlsSettings>,
    /// `portLevelSettings`.
    pub ports: Vec<PortPolicy>,
    pub place: Place,
}

/// `loadBalancer.simple`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadBalancer {
    /// One of the endpoints.
    Among(Balance),
    /// PASSTHROUGH: the address that the client dialled, whatever the endpoints are.
    Dialled,
}

/// One entry of `portLevelSettings`; `policy.ports` is empty.
#[derive(Clone, Debug)]
pub struct PortPolicy {
    /// A service port (D4).
    pub port: u16,
    pub policy: TrafficPolicy,
    pub place: Place,
}

/// `connectionPool`, as far as it is followed.
#[derive(Clone, Debug, Default)]
pub struct ConnectionPool {
    /// `tcp.connectTimeout`.
    pub connect_timeout: Option<Duration>,
    /// `tcp.maxConnections`.
    pub max_connections: Option<usize>,
    /// `http.http2MaxRequests`.
    pub max_requests: Option<usize>,
    /// `http.maxRequestsPerConnection`.
    pub max_requests_per_connection: Option<u64>,
    /// `http.idleTimeout`.
    pub idle_timeout: Option<Duration>,
    /// `http.h2UpgradePolicy`: `Some(true)` for UPGRADE.
    pub upgrade_to_http2: Option<bool>,
}

/// `outlierDetection`, as far as it is followed.
#[derive(Clone, Debug, Default)]
pub struct OutlierDetection {
    /// `consecutiveGatewayErrors` or `consecutive5xxErrors`, or the old `consecutiveErrors`.
    pub consecutive: Option<u32>,
    /// `baseEjectionTime`.
    pub base_ejection: Option<Duration>,
    /// `maxEjectionPercent`.
    pub max_percent: Option<u32>,
}

/// `tls` of a traffic policy. What T2, T3 and X7 forbid was refused.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    pub mode: TlsMode,
    pub client_certificate: Option<String>,
    pub private_key: Option<String>,
    pub ca_certificates: Option<String>,
    pub ca_crl: Option<String>,
    /// S1 forms.
    pub credential_name: Option<Written<String>>,
    pub sni: Option<Host>,
    pub subject_alt_names: Vec<String>,
    pub insecure_skip_verify: bool,
    pub place: Place,
}

/// T1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    Disable,
    Simple,
    Mutual,
    IstioMutual,
}
