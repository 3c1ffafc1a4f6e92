//! Mesh configuration, and the IstioOperator around it (K7).
//!
//! Owns: their messages.
//! Never: reads a document.
//! Called by: read, reading.

use super::common::OPEN_METADATA;
use super::sidecar::OUTBOUND_MODE;
use crate::config::istio::shape::{COUNT, Kind, TEXTS, Table, Words, refused, silent, warned, yes};

static ENCODING: &[(&str, u64)] = &[("TEXT", 0), ("JSON", 1)];

static OUTBOUND: Table = Table::new(&[yes("mode", Kind::Enum(OUTBOUND_MODE))]);

const VISIBLE: &str = "write exportTo in each object";
const ELSEWHERE: &str = "sortie's TLS versions and suites are its own: remove it";

/// What becomes of `X-Forwarded-Client-Cert` (P16).
pub const FORWARD_CLIENT_CERT: Words = &[
    ("UNDEFINED", 0),
    ("SANITIZE", 1),
    ("FORWARD_ONLY", 2),
    ("APPEND_FORWARD", 3),
    ("SANITIZE_SET", 4),
    ("ALWAYS_FORWARD_ONLY", 5),
];

static TOPOLOGY: Table = Table::new(&[
    yes("numTrustedProxies", COUNT),
    yes("forwardClientCertDetails", Kind::Enum(FORWARD_CLIENT_CERT)),
    warned(
        "proxyProtocol",
        Kind::Any,
        "sortie does not read it: connections that begin with it fail",
    ),
]);

static SWITCH: Table = Table::open(&[yes("disabled", Kind::Bool)]);
static SERVER: Table = Table::new(&[yes("disabled", Kind::Bool), yes("value", Kind::Text)]);
static DETAILS: Table = Table::new(&[
    yes("subject", Kind::Bool),
    yes("cert", Kind::Bool),
    yes("chain", Kind::Bool),
    yes("dns", Kind::Bool),
    yes("uri", Kind::Bool),
]);
static HEADERS: Table = Table::new(&[
    yes("forwardedClientCert", Kind::Enum(FORWARD_CLIENT_CERT)),
    yes("setCurrentClientCertDetails", Kind::Object(&DETAILS)),
    yes("requestId", Kind::Object(&SWITCH)),
    yes("server", Kind::Object(&SERVER)),
    // Of headers that sortie never writes.
    silent("attemptCount", Kind::Any),
    silent("envoyDebugHeaders", Kind::Any),
    silent("metadataExchangeHeaders", Kind::Any),
    silent("xForwardedHost", Kind::Any),
    silent("xForwardedPort", Kind::Any),
    silent("preserveHttp1HeaderCase", Kind::Any),
]);

/// Most of it is about Envoy's process, and none of our business.
static PROXY_CONFIG: Table = Table::open(&[
    yes("gatewayTopology", Kind::Object(&TOPOLOGY)),
    yes("proxyHeaders", Kind::Object(&HEADERS)),
]);

/// Mesh configuration.
pub static MESH: Table = Table::new(&[
    yes("outboundTrafficPolicy", Kind::Object(&OUTBOUND)),
    yes("enableAutoMtls", Kind::Bool),
    yes("trustDomain", Kind::Text),
    yes("trustDomainAliases", TEXTS),
    yes("rootNamespace", Kind::Text),
    yes("connectTimeout", Kind::Duration),
    yes("accessLogFile", Kind::Text),
    yes("accessLogFormat", Kind::Text),
    yes("accessLogEncoding", Kind::Enum(ENCODING)),
    yes("defaultConfig", Kind::Object(&PROXY_CONFIG)),
    refused("defaultServiceExportTo", TEXTS, VISIBLE),
    refused("defaultVirtualServiceExportTo", TEXTS, VISIBLE),
    refused("defaultDestinationRuleExportTo", TEXTS, VISIBLE),
    refused("tlsDefaults", Kind::Any, ELSEWHERE),
    refused("meshMTLS", Kind::Any, ELSEWHERE),
    refused(
        "caCertificates",
        Kind::Any,
        "give the mesh's roots with the mesh identity",
    ),
    warned(
        "defaultHttpRetryPolicy",
        Kind::Any,
        "write retries in each route",
    ),
    warned(
        "h2UpgradePolicy",
        Kind::Any,
        "write h2UpgradePolicy in each DestinationRule",
    ),
    warned(
        "tcpKeepalive",
        Kind::Any,
        "sortie keeps its connections alive by its own settings",
    ),
    silent("proxyListenPort", Kind::Any),
    silent("proxyInboundListenPort", Kind::Any),
    silent("proxyHttpPort", Kind::Any),
    silent("ingressClass", Kind::Any),
    silent("ingressService", Kind::Any),
    silent("ingressSelector", Kind::Any),
    silent("ingressControllerMode", Kind::Any),
    silent("enableTracing", Kind::Any),
    silent("enableEnvoyAccessLogService", Kind::Any),
    silent("disableEnvoyListenerLog", Kind::Any),
    silent("inboundTrafficPolicy", Kind::Any),
    silent("configSources", Kind::Any),
    silent("localityLbSetting", Kind::Any),
    silent("dnsRefreshRate", Kind::Any),
    silent("inboundClusterStatName", Kind::Any),
    silent("outboundClusterStatName", Kind::Any),
    silent("certificates", Kind::Any),
    silent("thriftConfig", Kind::Any),
    silent("serviceSettings", Kind::Any),
    silent("enablePrometheusMerge", Kind::Any),
    silent("verifyCertificateAtClient", Kind::Any),
    silent("ca", Kind::Any),
    silent("extensionProviders", Kind::Any),
    silent("defaultProviders", Kind::Any),
    silent("discoverySelectors", Kind::Any),
    silent("pathNormalization", Kind::Any),
    silent("protocolDetectionTimeout", Kind::Any),
    silent("serviceScopeConfigs", Kind::Any),
    silent("hboneIdleTimeout", Kind::Any),
    silent("mixerCheckServer", Kind::Any),
    silent("mixerReportServer", Kind::Any),
    silent("policyCheckFailOpen", Kind::Any),
    silent("sidecarToTelemetrySessionAffinity", Kind::Any),
    silent("enableClientSidePolicyCheck", Kind::Any),
    silent("disablePolicyChecks", Kind::Any),
    silent("disableMixerHttpReports", Kind::Any),
    silent("disableReportBatch", Kind::Any),
    silent("reportBatchMaxEntries", Kind::Any),
    silent("reportBatchMaxTime", Kind::Any),
    silent("sdsUdsPath", Kind::Any),
    silent("sdsRefreshDelay", Kind::Any),
    silent("enableSdsTokenMount", Kind::Any),
    silent("sdsUseK8sSaJwt", Kind::Any),
    silent("authPolicy", Kind::Any),
    silent("mtlsExcludedServices", Kind::Any),
]);

static OPERATOR_SPEC: Table = Table::open(&[yes("meshConfig", Kind::Object(&MESH))]);

/// IstioOperator.
pub static ISTIO_OPERATOR: Table = Table::open(&[
    yes("metadata", Kind::Object(&OPEN_METADATA)),
    yes("spec", Kind::Object(&OPERATOR_SPEC)),
]);

static CONFIG_MAP_DATA: Table = Table::open(&[yes("mesh", Kind::Object(&MESH))]);
/// The ConfigMap `istio`, its text parsed.
pub static CONFIG_MAP: Table = Table::open(&[yes("data", Kind::Object(&CONFIG_MAP_DATA))]);
