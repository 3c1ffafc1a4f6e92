//! The validated configuration: what every front end lowers its documents to.
//!
//! Owns: listeners, hosts with their rules, upstreams, TLS policies, where credentials come from.
//! Never: refers to YAML, to Istio, or to a file that it does not merely name.
//! Called by: config (makes it), publish (builds a snapshot of it), upstream and tls (their part).
//!
//! Why defaults live here: two front ends must not disagree on what silence means.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::host::{Host, HostPattern};

/// Bytes that one compiled regular expression may take: what loads must also compile when built.
pub const REGEX_SIZE_LIMIT: usize = 1 << 20;

/// All that a set of documents says.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Listeners named in documents; flags add to them.
    pub listeners: Vec<ListenerSpec>,
    /// Named destinations. Names are unique.
    pub upstreams: Vec<UpstreamSpec>,
    /// The routing table, in the order it was written.
    pub hosts: Vec<HostRoutes>,
    /// What becomes of a host that no entry names.
    pub unknown_hosts: UnknownHosts,
    /// How certificate rotation behaves.
    pub rotation: Rotation,
    /// Bounds on what a client may hold.
    pub limits: Limits,
}

/// Where in the documents a thing was written, for every message about it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file as the user named it.
    pub file: Arc<str>,
    /// Line, from 1. 0 where a flag said it.
    pub line: u32,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

impl Default for Place {
    fn default() -> Self {
        Place {
            file: "command line".into(),
            line: 0,
        }
    }
}

/// One address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenerSpec {
    /// Address and port; port 0 lets the kernel choose.
    pub address: SocketAddr,
    /// How the destination of a connection is learnt.
    pub kind: ListenerKind,
    /// Where it was written.
    pub place: Place,
}

/// How a listener learns the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListenerKind {
    /// The authority of each request.
    Direct,
    /// The kernel redirected the connection: SO_ORIGINAL_DST (ISTIO.md C6).
    Capture,
}

/// What becomes of a host that the table does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownHosts {
    /// 502 (ISTIO.md O2). The default.
    #[default]
    Refuse,
    /// Forward in plaintext to where the client meant to go. Opt-in.
    PassThrough,
}

/// Rules for a set of hosts.
#[derive(Clone, Debug)]
pub struct HostRoutes {
    /// At least one.
    pub hosts: Vec<HostPattern>,
    /// The destination port it is for; `None`: any.
    pub port: Option<u16>,
    /// Tried in order, the first match decides (ISTIO.md V7).
    pub rules: Vec<RuleSpec>,
    /// Where it was written.
    pub place: Place,
}

/// One rule: when, what, and with which changes.
#[derive(Clone, Debug)]
pub struct RuleSpec {
    /// A name for logs (`%ROUTE_NAME%`), if any.
    pub name: Option<Arc<str>>,
    /// Any one of them must hold; empty: always.
    pub matches: Vec<MatchSpec>,
    /// What to do.
    pub action: Action,
    /// Changes before the request is sent. Only for [`Action::Forward`].
    pub rewrite: Rewrite,
    /// Changes to the request's headers.
    pub request_headers: HeaderOps,
    /// Changes to the answer's headers.
    pub response_headers: HeaderOps,
    /// From the whole request read to the whole answer begun (ISTIO.md V13); `None`: no bound.
    pub timeout: Option<Duration>,
    /// What is tried again, and how often.
    pub retries: Retries,
    /// Where it was written.
    pub place: Place,
}

/// Conditions that must all hold.
#[derive(Clone, Debug, Default)]
pub struct MatchSpec {
    /// The path, without the query.
    pub path: Option<StringMatch>,
    /// Any one of these methods; empty: every method.
    pub methods: Vec<http::Method>,
    /// Every one of these headers.
    pub headers: Vec<(http::HeaderName, HeaderMatch)>,
}

/// How a text is compared. `Prefix` is a plain string prefix (ISTIO.md V9).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StringMatch {
    /// The same bytes.
    Exact(String),
    /// Begins with these bytes.
    Prefix(String),
    /// The whole text matches this regular expression.
    Regex(String),
}

/// What a header must be like.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HeaderMatch {
    /// There at all.
    Present,
    /// Not there.
    Absent,
    /// One of its values matches.
    Value(StringMatch),
}

/// What a rule does.
#[derive(Clone, Debug)]
pub enum Action {
    /// To one of these upstreams, by weight. At least one; the weights' sum is over 0.
    Forward(Vec<Weighted>),
    /// Answer with a redirect.
    Redirect(Redirect),
    /// Answer as written.
    Respond(Respond),
}

/// An upstream and its share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weighted {
    /// Name of an upstream in [`Config::upstreams`].
    pub upstream: Arc<str>,
    /// Relative; 0 is never chosen.
    pub weight: u32,
}

/// A redirect (ISTIO.md V15). What is `None` stays as the request has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// Host, or host and port.
    pub authority: Option<String>,
    /// The new path, instead of the whole one.
    pub path: Option<String>,
}

/// An answer that needs no upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Respond {
    /// 200 to 599.
    pub status: u16,
    /// The body, at most 1 MiB.
    pub body: bytes::Bytes,
}

/// Changes of host and path on the way out (ISTIO.md V11).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// The new authority: host, or host and port. It is what SNI and the name check then use (T6).
    pub host: Option<String>,
    /// The new path.
    pub path: Option<PathRewrite>,
}

/// How a path is changed; the query stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRewrite {
    /// The prefix that matched becomes this; the whole path where the match was not by prefix.
    Replace(String),
    /// Every match of the expression becomes the substitution.
    Regex {
        /// What is looked for.
        pattern: String,
        /// What is put there; `\1` is the first group.
        substitution: String,
    },
}

/// Header changes: `remove` first, then `set`, then `add` (ISTIO.md V12).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderOps {
    /// Names to drop.
    pub remove: Vec<http::HeaderName>,
    /// Replaces every value of that name.
    pub set: Vec<(http::HeaderName, http::HeaderValue)>,
    /// Added behind what is there.
    pub add: Vec<(http::HeaderName, http::HeaderValue)>,
}

/// What is tried again (ISTIO.md V14, X5).
#[derive(Clone, Debug, PartialEq)]
pub struct Retries {
    /// Tries beyond the first.
    pub attempts: u32,
    /// On what.
    pub on: RetryOn,
    /// Bound on each try; `None`: only the rule's timeout.
    pub per_try_timeout: Option<Duration>,
    /// Least pause before a retry; doubles each time, with jitter, to ten times itself.
    pub backoff: Duration,
    /// Retries in flight may be this share of the requests in flight, in percent ...
    pub budget_percent: u32,
    /// ... but this many are always allowed.
    pub budget_min: u32,
}

impl Default for Retries {
    fn default() -> Self {
        Retries {
            attempts: 2,
            on: RetryOn::default(),
            per_try_timeout: None,
            backoff: Duration::from_millis(25),
            budget_percent: 20,
            budget_min: 3,
        }
    }
}

/// The causes that a rule retries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryOn {
    /// TCP refused, reset or late before anything was sent.
    pub connect_failure: bool,
    /// HTTP/2 REFUSED_STREAM.
    pub refused_stream: bool,
    /// The connection ended before the answer's head came.
    pub reset: bool,
    /// 502, 503 and 504 from the upstream.
    pub gateway_error: bool,
    /// gRPC status `unavailable` in the answer's head.
    pub grpc_unavailable: bool,
    /// gRPC status `cancelled` in the answer's head.
    pub grpc_cancelled: bool,
    /// These statuses from the upstream.
    pub statuses: Vec<u16>,
}

impl Default for RetryOn {
    fn default() -> Self {
        RetryOn {
            connect_failure: true,
            refused_stream: true,
            reset: false,
            gateway_error: false,
            grpc_unavailable: true,
            grpc_cancelled: true,
            statuses: Vec::new(),
        }
    }
}

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
    /// Where it was written.
    pub place: Place,
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
            place: Place::default(),
        }
    }
}

/// Host and port of an endpoint, before resolution.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndpointSpec {
    /// A name or an IP address.
    pub host: Host,
    /// TCP port.
    pub port: u16,
}

/// How endpoints become addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resolution {
    /// Every endpoint is an IP address.
    Static,
    /// Names are looked up (TTL honoured); IP addresses stand for themselves.
    Dns,
    /// The connection's original destination (ISTIO.md E2).
    OriginalDst,
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

/// Whether an upstream is spoken to in TLS (ISTIO.md T1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TlsPolicy {
    /// Plaintext, asked for in so many words.
    Disable,
    /// TLS; with a client certificate where the credential has one.
    Tls(Box<TlsSpec>),
}

/// How TLS is spoken to an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsSpec {
    /// Files of certificate, key, CA and CRL.
    pub credential: CredentialSpec,
    /// SNI and the expected name; `None`: the request's host after rewriting (ISTIO.md T6).
    pub server_name: Option<Host>,
    /// Any one must be in the certificate, instead of the server name (T7 b, T8).
    pub subject_alt_names: Vec<String>,
    /// What a wrong name means.
    pub name_check: NameCheck,
    /// False only where the configuration says so in so many words: no chain, no name (T7 a).
    pub verify_chain: bool,
    /// The least version.
    pub min_version: TlsVersion,
}

/// What a certificate with another name means (ISTIO.md T7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NameCheck {
    /// The handshake fails. The default.
    #[default]
    Enforce,
    /// Logged and counted.
    Warn,
    /// Not looked at.
    Off,
}

/// A TLS version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// The files that make up one credential. Equal specs are one resource and one watch (R1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CredentialSpec {
    /// Certificate chain and key, both or neither.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Who vouches for the server.
    pub ca: CaSource,
    /// Revoked certificates.
    pub crl: Option<PathBuf>,
}

/// Where the trust anchors come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CaSource {
    /// The operating system's store (`file-root:system`, ISTIO.md T9).
    System,
    /// A PEM bundle.
    File(PathBuf),
}

/// Certificate rotation (ISTIO.md R9 to R17).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Every file is read again this often, whatever the watch says (R9).
    pub poll: Duration,
    /// A busy connection of an old identity is retired after this; the default is the lesser of
    /// 1 h and the old leaf's end less 60 s (R16).
    pub max_connection_age: Duration,
    /// What becomes of requests under an expired certificate of ours (R17).
    pub on_expired: OnExpired,
}

impl Default for Rotation {
    fn default() -> Self {
        Rotation {
            poll: Duration::from_secs(10),
            max_connection_age: Duration::from_secs(3600),
            on_expired: OnExpired::Fail,
        }
    }
}

/// What an expired certificate of ours means (R17).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnExpired {
    /// 503 UF with the reason: the peer would refuse it anyway.
    #[default]
    Fail,
    /// It is offered all the same.
    Use,
}

/// Bounds on what a client may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Downstream connections of the whole process; over it, accepting pauses.
    pub max_connections: usize,
    /// Bytes of a request head; over it: 431.
    pub max_head_bytes: usize,
    /// Headers of a request; over it: 431.
    pub max_headers: usize,
    /// From a head's first byte to its last.
    pub head_timeout: Duration,
    /// A connection without a request is closed after this.
    pub idle_timeout: Duration,
    /// A body that moves no byte in either direction for this long ends the request.
    pub stream_idle_timeout: Duration,
    /// HTTP/2 streams of one connection at once.
    pub max_streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_connections: 65_536,
            max_head_bytes: 64 * 1024,
            max_headers: 100,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(3600),
            stream_idle_timeout: Duration::from_secs(300),
            max_streams: 256,
        }
    }
}

impl Config {
    /// Every credential that an upstream names, each once.
    pub fn credentials(&self) -> Vec<CredentialSpec> {
        let specs = self
            .upstreams
            .iter()
            .filter_map(|upstream| match &upstream.tls {
                TlsPolicy::Disable => None,
                TlsPolicy::Tls(tls) => Some((tls.credential.clone(), ())),
            });
        specs.collect::<BTreeMap<_, _>>().into_keys().collect()
    }
}
