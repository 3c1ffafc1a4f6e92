//! Mesh configuration: IstioOperator's `spec.meshConfig`, or key `mesh` of the ConfigMap `istio` (K7).
//!
//! Owns: [`MeshConfig`], as far as it is followed, [`ProxyHeaders`].
//! Never: overrides a flag (that is `load`).
//! Called by: read, lower.

use std::sync::Arc;
use std::time::Duration;

use super::sidecar::OutboundMode;
use crate::model::{AccessLogSpec, ClientCertDetails, EntranceHeaders, ForwardClientCert};

/// Mesh-wide settings; `None` where nothing is said.
#[derive(Clone, Debug)]
pub struct MeshConfig {
    pub outbound: Option<OutboundMode>,
    pub auto_mtls: Option<bool>,
    pub trust_domain: Option<Arc<str>>,
    pub trust_domain_aliases: Vec<Arc<str>>,
    pub root_namespace: Option<Arc<str>>,
    pub connect_timeout: Option<Duration>,
    /// `defaultConfig.gatewayTopology` and `defaultConfig.proxyHeaders`.
    pub headers: ProxyHeaders,
    /// `accessLogFile`, `accessLogEncoding`, `accessLogFormat`; `None` where the file is empty (B6).
    pub access_log: Option<AccessLogSpec>,
}

/// What is changed in heads, besides what a sidecar or a gateway does anyway (G12, P16, B10).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyHeaders {
    /// `gatewayTopology.numTrustedProxies`: of gateways alone.
    pub trusted_hops: u32,
    /// `gatewayTopology.forwardClientCertDetails`: of gateways alone.
    pub gateway_client_cert: Option<ForwardClientCert>,
    /// `proxyHeaders.forwardedClientCert`: of sidecars alone, as gateways have the one above.
    pub inbound_client_cert: Option<ForwardClientCert>,
    /// `proxyHeaders.setCurrentClientCertDetails`: of sidecars alone.
    pub inbound_details: Option<ClientCertDetails>,
    /// `proxyHeaders.requestId.disabled`.
    pub no_request_id: bool,
    /// `proxyHeaders.server`; `Some(None)`: disabled, what the upstream says is kept.
    pub server: Option<Option<Arc<str>>>,
}

impl ProxyHeaders {
    /// On the inbound side of a sidecar.
    pub fn inbound(&self) -> EntranceHeaders {
        let mut headers = EntranceHeaders::inbound();
        headers.client_cert = self.inbound_client_cert.unwrap_or(headers.client_cert);
        headers.details = self.inbound_details.unwrap_or(headers.details);
        self.over(headers)
    }

    /// At a gateway.
    pub fn gateway(&self) -> EntranceHeaders {
        let mut headers = EntranceHeaders::gateway();
        headers.trusted_hops = self.trusted_hops;
        headers.client_cert = self.gateway_client_cert.unwrap_or(headers.client_cert);
        self.over(headers)
    }

    fn over(&self, mut headers: EntranceHeaders) -> EntranceHeaders {
        headers.request_id &= !self.no_request_id;
        if let Some(server) = &self.server {
            headers.server.clone_from(server);
        }
        headers
    }
}
