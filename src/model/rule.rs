//! What becomes of a request: rules, and what a rule may do.
//!
//! Owns: conditions, actions, rewrites, header changes, retries, faults and mirrors, as values.
//! Never: compiles or matches anything (that is `route`).
//! Called by: config (makes it), route (compiles it).

use std::sync::Arc;
use std::time::Duration;

use super::config::Place;

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
    /// What is done wrong on purpose (ISTIO.md V16).
    pub fault: Fault,
    /// Who gets a copy of the request, and whose answers nobody waits for (ISTIO.md V16).
    pub mirrors: Vec<Mirror>,
    /// From the whole request read to the whole answer begun (ISTIO.md V13); `None`: no bound.
    pub timeout: Option<Duration>,
    /// What is tried again, and how often.
    pub retries: Retries,
    /// Kind, namespace and name of the document that says it: `VirtualService ns/name`; `None`: one of
    /// sortie's own.
    pub object: Option<Arc<str>>,
    /// Where it was written.
    pub place: Place,
}

impl RuleSpec {
    /// A rule that does `action` and has every default.
    pub fn new(action: Action, place: Place) -> Self {
        RuleSpec {
            name: None,
            matches: Vec::new(),
            action,
            rewrite: Rewrite::default(),
            request_headers: HeaderOps::default(),
            response_headers: HeaderOps::default(),
            fault: Fault::default(),
            mirrors: Vec::new(),
            timeout: None,
            retries: Retries::default(),
            object: None,
            place,
        }
    }
}

/// Conditions that must all hold (ISTIO.md V9).
#[derive(Clone, Debug, Default)]
pub struct MatchSpec {
    /// The path, without the query.
    pub path: Option<StringMatch>,
    /// `path` compares without regard to case; never for a regular expression.
    pub path_ignores_case: bool,
    /// Any one of these methods; empty: every method.
    pub methods: Vec<http::Method>,
    /// The method as text, where one of a list is not enough.
    pub method: Option<StringMatch>,
    /// `http` or `https`: how the client spoke to us.
    pub scheme: Option<StringMatch>,
    /// The authority as the client wrote it, with its port.
    pub authority: Option<StringMatch>,
    /// Every one of these headers.
    pub headers: Vec<(http::HeaderName, HeaderMatch)>,
    /// Every one of these parameters of the query; of several values the first counts.
    pub query: Vec<(String, QueryMatch)>,
}

/// What a parameter of the query must be like.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum QueryMatch {
    /// There at all.
    Present,
    /// Its value matches, as it stands in the query: nothing is decoded.
    Value(StringMatch),
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
    /// All its values, joined by commas (RFC 9110 section 5.3), match: Istio's way.
    Joined(StringMatch),
    /// All its values, joined by commas, do not match. A header that is not there is empty text
    /// (`withoutHeaders`, ISTIO.md V9).
    NotJoined(StringMatch),
}

/// What is done wrong on purpose (ISTIO.md V16).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// So long is waited before the request is sent; flag DI.
    pub delay: Option<(Duration, Share)>,
    /// The request is answered so instead; flag FI.
    pub abort: Option<(Abort, Share)>,
}

/// How a request is aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abort {
    /// With this status, 200 to 599.
    Http(u16),
    /// With 200 and this `grpc-status`.
    Grpc(u32),
}

/// A share of all requests, in millionths: 0 is never, 1,000,000 is always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(pub u32);

impl Share {
    /// Every request.
    pub const ALL: Share = Share(1_000_000);
}

/// Who gets a copy of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Name of an upstream in [`super::Config::upstreams`].
    pub upstream: Arc<str>,
    /// Of how many requests.
    pub share: Share,
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
    /// Name of an upstream in [`super::Config::upstreams`].
    pub upstream: Arc<str>,
    /// Relative; 0 is never chosen.
    pub weight: u32,
    /// The authority for this upstream alone; it beats the rule's (ISTIO.md V11).
    pub host: Option<String>,
    /// Changes to the request's headers for this upstream alone, before the rule's (V12).
    pub request_headers: HeaderOps,
    /// Changes to the answer's headers of this upstream alone, before the rule's.
    pub response_headers: HeaderOps,
}

impl Weighted {
    /// An upstream with a share and no changes of its own.
    pub fn new(upstream: &str, weight: u32) -> Self {
        Weighted::of(upstream.into(), weight)
    }

    /// The same, sharing the name.
    pub fn of(upstream: Arc<str>, weight: u32) -> Self {
        Weighted {
            upstream,
            weight,
            host: None,
            request_headers: HeaderOps::default(),
            response_headers: HeaderOps::default(),
        }
    }
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
    /// The new path.
    pub path: Option<RedirectPath>,
    /// The new port; a scheme's default port is left out.
    pub port: Option<RedirectPort>,
}

/// How a redirect changes the path; the query stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedirectPath {
    /// Instead of the whole one.
    Whole(String),
    /// Instead of the prefix that matched; of the whole one where the match was not by prefix.
    Prefix(String),
}

/// The port of a redirect (ISTIO.md V15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectPort {
    /// This one.
    Number(u16),
    /// The default of the redirect's scheme (FROM_PROTOCOL_DEFAULT).
    OfScheme,
    /// The one that the request came in on (FROM_REQUEST_PORT).
    OfRequest,
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
    pub set: Vec<(http::HeaderName, HeaderText)>,
    /// Added behind what is there.
    pub add: Vec<(http::HeaderName, HeaderText)>,
}

/// The value of a header that a rule writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderText {
    /// As it stands.
    Literal(http::HeaderValue),
    /// A format string of Envoy's operators, such as `%REQ(x-id)%`; it was checked (ISTIO.md V12).
    Format(String),
}

impl From<http::HeaderValue> for HeaderText {
    fn from(value: http::HeaderValue) -> Self {
        HeaderText::Literal(value)
    }
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
    /// 502, 503 and 504 from the upstream, or no answer at all, which Envoy takes for a 503.
    pub gateway_error: bool,
    /// Any 5xx from the upstream, or no answer at all: reset, connect failure, time-out of a try.
    pub server_error: bool,
    /// gRPC status `deadline-exceeded` in the answer's head.
    pub grpc_deadline_exceeded: bool,
    /// gRPC status `internal` in the answer's head.
    pub grpc_internal: bool,
    /// gRPC status `resource-exhausted` in the answer's head.
    pub grpc_resource_exhausted: bool,
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
            server_error: false,
            grpc_deadline_exceeded: false,
            grpc_internal: false,
            grpc_resource_exhausted: false,
            grpc_unavailable: true,
            grpc_cancelled: true,
            statuses: Vec::new(),
        }
    }
}
