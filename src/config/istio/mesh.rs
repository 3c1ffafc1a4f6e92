//! Mesh configuration: IstioOperator's `spec.meshConfig`, or key `mesh` of the ConfigMap `istio` (K7).
//!
//! Owns: [`MeshConfig`], as far as it is followed.
//! Never: overrides a flag (that is `load`).
//! Called by: read, lower.

use std::sync::Arc;
use std::time::Duration;

use super::sidecar::OutboundMode;
use crate::model::AccessLogSpec;

/// Mesh-wide settings; `None` where nothing is said.
#[derive(Clone, Debug)]
pub struct MeshConfig {
    pub outbound: Option<OutboundMode>,
    pub auto_mtls: Option<bool>,
    pub trust_domain: Option<Arc<str>>,
    pub trust_domain_aliases: Vec<Arc<str>>,
    pub root_namespace: Option<Arc<str>>,
    pub connect_timeout: Option<Duration>,
    /// `accessLogFile`, `accessLogEncoding`, `accessLogFormat`; `None` where the file is empty (B6).
    pub access_log: Option<AccessLogSpec>,
}
