//! DestinationRule.
//!
//! Owns: its messages.
//! Never: reads a document.
//! Called by: read, reading.

use super::common::{MATCH_LABELS, PORT_NUMBER, document};
use crate::config::istio::shape::{
    COUNT, Kind, LABELS, TEXTS, Table, Words, refused, silent, warned, yes,
};

/// `tls.mode` (T1).
pub const TLS_MODE: Words = &[
    ("DISABLE", 0),
    ("SIMPLE", 1),
    ("MUTUAL", 2),
    ("ISTIO_MUTUAL", 3),
];
/// `loadBalancer.simple`.
pub const SIMPLE: Words = &[
    ("UNSPECIFIED", 0),
    ("LEAST_CONN", 1),
    ("RANDOM", 2),
    ("PASSTHROUGH", 3),
    ("ROUND_ROBIN", 4),
    ("LEAST_REQUEST", 5),
];
/// `connectionPool.http.h2UpgradePolicy`.
pub const H2_UPGRADE: Words = &[("DEFAULT", 0), ("DO_NOT_UPGRADE", 1), ("UPGRADE", 2)];

/// `tls` of a traffic policy.
pub static TLS: Table = Table::new(&[
    yes("mode", Kind::Enum(TLS_MODE)),
    yes("clientCertificate", Kind::Text),
    yes("privateKey", Kind::Text),
    yes("caCertificates", Kind::Text),
    yes("caCrl", Kind::Text),
    yes("credentialName", Kind::Text),
    yes("subjectAltNames", TEXTS),
    yes("sni", Kind::Text),
    yes("insecureSkipVerify", Kind::Bool),
]);

static COOKIE: Table = Table::new(&[
    silent("name", Kind::Text),
    silent("path", Kind::Text),
    silent("ttl", Kind::DurationOrZero),
    silent("attributes", Kind::Any),
]);
static RING_HASH: Table = Table::new(&[silent("minimumRingSize", COUNT)]);
static MAGLEV: Table = Table::new(&[silent("tableSize", COUNT)]);

static CONSISTENT_HASH: Table = Table::new(&[
    silent("httpHeaderName", Kind::Text),
    silent("httpCookie", Kind::Object(&COOKIE)),
    silent("useSourceIp", Kind::Bool),
    silent("httpQueryParameterName", Kind::Text),
    silent("ringHash", Kind::Object(&RING_HASH)),
    silent("maglev", Kind::Object(&MAGLEV)),
    silent("minimumRingSize", COUNT),
]);

static DISTRIBUTE: Table =
    Table::new(&[silent("from", Kind::Text), silent("to", Kind::Map(&COUNT))]);
static FAILOVER: Table = Table::new(&[silent("from", Kind::Text), silent("to", Kind::Text)]);
static LOCALITY: Table = Table::new(&[
    silent("distribute", Kind::List(&Kind::Object(&DISTRIBUTE))),
    silent("failover", Kind::List(&Kind::Object(&FAILOVER))),
    silent("failoverPriority", TEXTS),
    silent("enabled", Kind::Bool),
]);
static WARMUP: Table = Table::new(&[
    silent("duration", Kind::Duration),
    silent("minimumPercent", Kind::Percent),
    silent("aggression", Kind::Number),
]);

static LOAD_BALANCER: Table = Table::new(&[
    yes("simple", Kind::Enum(SIMPLE)),
    warned(
        "consistentHash",
        Kind::Object(&CONSISTENT_HASH),
        "the endpoints are taken in turn; write simple: ROUND_ROBIN, LEAST_REQUEST or RANDOM",
    ),
    warned(
        "localityLbSetting",
        Kind::Object(&LOCALITY),
        "endpoints of every locality are the same to sortie; leave it out",
    ),
    warned(
        "warmupDurationSecs",
        Kind::Duration,
        "a new endpoint gets its share at once",
    ),
    warned(
        "warmup",
        Kind::Object(&WARMUP),
        "a new endpoint gets its share at once",
    ),
])
.exclusive(&[&["simple", "consistentHash"]]);

static KEEPALIVE: Table = Table::new(&[
    silent("probes", COUNT),
    silent("time", Kind::Duration),
    silent("interval", Kind::Duration),
]);

static TCP_POOL: Table = Table::new(&[
    yes("maxConnections", COUNT),
    yes("connectTimeout", Kind::Duration),
    warned(
        "tcpKeepalive",
        Kind::Object(&KEEPALIVE),
        "sortie keeps its connections alive by its own settings",
    ),
    warned(
        "maxConnectionDuration",
        Kind::Duration,
        "connections are retired by http.idleTimeout and http.maxRequestsPerConnection",
    ),
    warned(
        "idleTimeout",
        Kind::DurationOrZero,
        "write http.idleTimeout for HTTP",
    ),
]);

static HTTP_POOL: Table = Table::new(&[
    warned(
        "http1MaxPendingRequests",
        COUNT,
        "no request waits for a connection: the bound is tcp.maxConnections",
    ),
    yes("http2MaxRequests", COUNT),
    yes("maxRequestsPerConnection", COUNT),
    warned(
        "maxRetries",
        COUNT,
        "retries are bounded by a share of the requests under way",
    ),
    yes("idleTimeout", Kind::Duration),
    yes("h2UpgradePolicy", Kind::Enum(H2_UPGRADE)),
    warned(
        "useClientProtocol",
        Kind::Bool,
        "write h2UpgradePolicy: UPGRADE or DO_NOT_UPGRADE",
    ),
    warned(
        "maxConcurrentStreams",
        COUNT,
        "the upstream says how many it takes",
    ),
]);

/// `connectionPool`.
pub static CONNECTION_POOL: Table = Table::new(&[
    yes("tcp", Kind::Object(&TCP_POOL)),
    yes("http", Kind::Object(&HTTP_POOL)),
]);

static OUTLIER: Table = Table::new(&[
    yes("consecutiveErrors", COUNT),
    yes("consecutiveGatewayErrors", COUNT),
    yes("consecutive5xxErrors", COUNT),
    silent("splitExternalLocalOriginErrors", Kind::Bool),
    silent("consecutiveLocalOriginFailures", COUNT),
    silent("interval", Kind::Duration),
    yes("baseEjectionTime", Kind::Duration),
    yes("maxEjectionPercent", Kind::Whole(0, 100)),
    silent("minHealthPercent", Kind::Whole(0, 100)),
]);

const OTHER_BYTES: &str = "it changes the bytes on the wire: remove it, and route to a proxy that \
    does it";
static TUNNEL: Table = Table::new(&[
    silent("protocol", Kind::Text),
    silent("targetHost", Kind::Text),
    silent("targetPort", Kind::Port),
]);
static PROXY_PROTOCOL: Table = Table::new(&[silent("version", Kind::Any)]);
static RETRY_BUDGET: Table = Table::new(&[
    silent("percent", Kind::Percent),
    silent("minRetryConcurrency", COUNT),
]);

static PORT_POLICY: Table = Table::new(&[
    yes("port", Kind::Object(&PORT_NUMBER)),
    yes("loadBalancer", Kind::Object(&LOAD_BALANCER)),
    yes("connectionPool", Kind::Object(&CONNECTION_POOL)),
    yes("outlierDetection", Kind::Object(&OUTLIER)),
    yes("tls", Kind::Object(&TLS)),
]);

static TRAFFIC_POLICY: Table = Table::new(&[
    yes("loadBalancer", Kind::Object(&LOAD_BALANCER)),
    yes("connectionPool", Kind::Object(&CONNECTION_POOL)),
    yes("outlierDetection", Kind::Object(&OUTLIER)),
    yes("tls", Kind::Object(&TLS)),
    yes("portLevelSettings", Kind::List(&Kind::Object(&PORT_POLICY))),
    refused("tunnel", Kind::Object(&TUNNEL), OTHER_BYTES),
    refused("proxyProtocol", Kind::Object(&PROXY_PROTOCOL), OTHER_BYTES),
    warned(
        "retryBudget",
        Kind::Object(&RETRY_BUDGET),
        "retries are bounded by a fifth of the requests under way, and at least three",
    ),
]);

static SUBSET: Table = Table::new(&[
    yes("name", Kind::Text),
    yes("labels", LABELS),
    yes("trafficPolicy", Kind::Object(&TRAFFIC_POLICY)),
]);

static SPEC: Table = Table::new(&[
    yes("host", Kind::Text),
    yes("trafficPolicy", Kind::Object(&TRAFFIC_POLICY)),
    yes("subsets", Kind::List(&Kind::Object(&SUBSET))),
    yes("exportTo", TEXTS),
    yes("workloadSelector", Kind::Object(&MATCH_LABELS)),
]);

document!(
    /// DestinationRule.
    DESTINATION_RULE = SPEC
);
