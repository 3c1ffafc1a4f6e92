//! One named destination and how it is spoken to.
//!
//! Owns: [`UpstreamSpec`] and its parts, with every default.
//! Never: resolves a name or opens a socket (that is `upstream`).
//! Called by: config (makes it), upstream, publish.

use std::sync::Arc;
use std::time::Duration;

use super::config::Place;
use super::host::Host;
use super::tls::TlsPolicy;

/// One named destination and how it is spoken to.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamSpec {
    /// Unique; shown in logs and metrics.
    pub name: Arc<str>,
    /// At least one, unless the resolution is [`Resolution::OriginalDst`].
    pub endpoints: Vec<EndpointSpec>,
    /// How endpoints become addresses.
    pub resolution: Resolution,
    /// How one is picked.
    pub balance: Balance,
    /// TCP and TLS handshake together (ISTIO.md T15).
    pub connect_timeout: Duration,
    /// Which HTTP version is spoken.
    pub http: HttpChoice,
    /// Bounds on connections.
    pub pool: PoolLimits,
    /// When an endpoint is shunned.
    pub outlier: Outlier,
    /// Whether and how TLS is spoken.
    pub tls: TlsPolicy,
    /// From which address of ours it is dialled.
    pub source: DialSource,
    /// There is nothing behind the name, and every request fails so.
    pub broken: Option<Broken>,
    /// The service that it is a part of, for the labels of metrics (ISTIO.md B2).
    pub service: Option<Arc<ServiceLabels>>,
    /// Which document decided what, for `explain`. Never compared: it changes nothing on the wire.
    pub reasons: Reasons,
    /// Where it was written.
    pub place: Place,
}

/// Why an upstream that a rule names can serve nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Broken {
    /// How it fails.
    pub kind: BrokenKind,
    /// In words, with file and line where there is one.
    pub reason: Arc<str>,
}

/// How an upstream without substance fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BrokenKind {
    /// 503 NC: no such host, port or subset (ISTIO.md V10, D7).
    NoCluster,
    /// 503 UH: it is governed by a document that was refused (X1), or has no endpoint (D7).
    Unhealthy,
}

impl BrokenKind {
    /// What is the matter with the upstream of this name.
    pub fn words(self, upstream: &str) -> String {
        match self {
            BrokenKind::NoCluster => format!("there is no upstream \"{upstream}\""),
            BrokenKind::Unhealthy => format!("upstream \"{upstream}\" serves nothing"),
        }
    }
}

/// What Istio's metrics call an upstream (ISTIO.md B2, B4). `None`: unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServiceLabels {
    /// `destination_service`: the host of the registry.
    pub host: Arc<str>,
    /// `destination_service_name`.
    pub name: Arc<str>,
    /// `destination_service_namespace`.
    pub namespace: Option<Arc<str>>,
    /// `destination_principal`: the SPIFFE name, where exactly one is expected.
    pub principal: Option<Arc<str>>,
}

/// Which document decided what. Equal to every other, so that moving a line changes no upstream.
#[derive(Clone, Debug, Default)]
pub struct Reasons(pub Vec<Reason>);

impl PartialEq for Reasons {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// What was decided: `policy`, `subset`, `endpoints`, `tls`, `sni`, `credential`, `ca`, `names`.
    pub what: &'static str,
    /// In words: `MUTUAL`, `10.1.1.4:8443`.
    pub how: String,
    /// Kind and name: `DestinationRule ns/name`; empty for a default.
    pub object: Arc<str>,
    /// Where; `None` for a default.
    pub place: Option<Place>,
}

impl UpstreamSpec {
    /// An upstream with every default, in plaintext, without endpoints.
    pub fn new(name: &str) -> Self {
        UpstreamSpec {
            name: name.into(),
            endpoints: Vec::new(),
            resolution: Resolution::Dns,
            balance: Balance::RoundRobin,
            connect_timeout: Duration::from_secs(10),
            http: HttpChoice::Auto,
            pool: PoolLimits::default(),
            outlier: Outlier::default(),
            tls: TlsPolicy::Disable,
            source: DialSource::Any,
            broken: None,
            service: None,
            reasons: Reasons::default(),
            place: Place::default(),
        }
    }
}

/// From which address of ours an upstream is dialled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DialSource {
    /// The kernel's choice.
    #[default]
    Any,
    /// 127.0.0.6 or ::6, which the capturing rules exempt, where the endpoint is this very machine
    /// and not its loopback (ISTIO.md P13).
    Inbound,
}

/// Host and port of an endpoint, before resolution.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndpointSpec {
    /// A name or an IP address.
    pub host: Host,
    /// TCP port.
    pub port: u16,
    /// Its share among the endpoints; at least 1.
    pub weight: u32,
    /// It is spoken to in plaintext although its upstream speaks TLS: a workload without a sidecar,
    /// under automatic mTLS alone (ISTIO.md P4).
    pub plaintext: bool,
}

impl EndpointSpec {
    /// An endpoint like any other.
    pub fn new(host: Host, port: u16) -> Self {
        EndpointSpec {
            host,
            port,
            weight: 1,
            plaintext: false,
        }
    }
}

/// How endpoints become addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resolution {
    /// Every endpoint is an IP address.
    Static,
    /// Names are looked up (TTL honoured); IP addresses stand for themselves.
    Dns,
    /// Names are looked up, and one address is in use at a time; connections to the one before are
    /// kept (DNS_ROUND_ROBIN, ISTIO.md E3).
    DnsOne,
    /// The connection's original destination, or where there is none the request's host looked up
    /// (ISTIO.md E2).
    OriginalDst {
        /// Instead of the original port (`targetPort`).
        port: Option<u16>,
    },
    /// The request's host or the SNI, looked up (DYNAMIC_DNS).
    RequestHost {
        /// Instead of the request's port.
        port: Option<u16>,
    },
}

/// How one endpoint is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Balance {
    /// In turn.
    RoundRobin,
    /// The less busy of two taken at random.
    LeastRequest,
    /// By chance.
    Random,
}

/// Which HTTP version an upstream is spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HttpChoice {
    /// ALPN decides between HTTP/2 and HTTP/1.1; HTTP/1.1 in plaintext.
    Auto,
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2 alone, with prior knowledge in plaintext.
    Http2,
}

/// Bounds on an upstream's connections, for the whole process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolLimits {
    /// Open connections, busy and idle; over it: 503 UO.
    pub max_connections: usize,
    /// Requests under way; over it: 503 UO.
    pub max_requests: usize,
    /// Idle connections kept per worker.
    pub max_idle: usize,
    /// An idle connection is closed after this.
    pub idle_timeout: Duration,
    /// A connection is retired after this many requests; 0: never.
    pub max_requests_per_connection: u64,
}

impl Default for PoolLimits {
    fn default() -> Self {
        PoolLimits {
            max_connections: 4096,
            max_requests: 65_536,
            max_idle: 256,
            // Below the 60 s and 75 s after which common servers close, so that we close first.
            idle_timeout: Duration::from_secs(55),
            max_requests_per_connection: 0,
        }
    }
}

/// When an endpoint is shunned, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Outlier {
    /// Failures in a row (connect, handshake, reset, 502 to 504); 0: never shunned.
    pub consecutive_failures: u32,
    /// First ejection; each further one in a row lasts that much longer, to ten times.
    pub eject_for: Duration,
    /// At most this share of the endpoints at once, in percent; at least one always stays.
    pub max_ejected_percent: u32,
}

impl Default for Outlier {
    fn default() -> Self {
        Outlier {
            consecutive_failures: 5,
            eject_for: Duration::from_secs(30),
            max_ejected_percent: 50,
        }
    }
}
