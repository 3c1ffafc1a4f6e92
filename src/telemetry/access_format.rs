//! One request as one line of text or JSON (ISTIO.md B6 to B9).
//!
//! Owns: Envoy's format strings, and how foreign text is made harmless.
//! Never: writes a file (that is `access_log`).
//! Called by: access_log; proxy fills an [`AccessEntry`].

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::flags::Flags;
use crate::model::{EndpointAddr, PeerAddr};

/// What the access log may say of one request. Empty texts and `None` are written as `-`.
#[derive(Clone, Copy, Debug)]
pub struct AccessEntry<'a> {
    /// When the request began.
    pub start: SystemTime,
    /// Empty for a connection without requests.
    pub method: &'a str,
    /// Path and query as the client sent them, before any rewrite.
    pub path: &'a str,
    /// `HTTP/1.0`, `HTTP/1.1`, `HTTP/2`; empty for a connection without requests.
    pub protocol: &'a str,
    /// Status sent to the client; 0 where none was.
    pub code: u16,
    /// Why it ended as it did.
    pub flags: Flags,
    /// B9: `via_upstream`, `route_not_found`, ... Spaces are written as `_`.
    pub details: &'a str,
    /// Why the connection was ended; mostly empty.
    pub termination_details: &'a str,
    /// Why the connection to the upstream failed, in words.
    pub upstream_failure: &'a str,
    /// Bytes of the request's body.
    pub bytes_received: u64,
    /// Bytes of the answer's body.
    pub bytes_sent: u64,
    /// From the request's first byte to the answer's last.
    pub duration: Duration,
    /// From the request sent to the head of the answer.
    pub upstream_service_time: Option<Duration>,
    /// `X-Forwarded-For` as the client sent it.
    pub xff: &'a [u8],
    /// `User-Agent`.
    pub user_agent: &'a [u8],
    /// `X-Request-Id`.
    pub request_id: &'a [u8],
    /// The authority as the client sent it.
    pub authority: &'a [u8],
    /// The endpoint that the last try went to.
    pub upstream_host: Option<EndpointAddr>,
    /// The upstream's name.
    pub upstream_cluster: &'a str,
    /// Our side of the connection to the endpoint.
    pub upstream_local: Option<SocketAddr>,
    /// Where the client connected to (the original destination, where there is one).
    pub downstream_local: SocketAddr,
    /// Who the client is.
    pub downstream_remote: PeerAddr,
    /// SNI of the client's own TLS, where it was seen.
    pub requested_server_name: &'a str,
    /// The rule's name.
    pub route_name: &'a str,
    /// Headers that a custom format asks for, see [`super::AccessLog::capture_request`].
    pub request_headers: &'a Captured,
    /// The same of the answer, see [`super::AccessLog::capture_response`].
    pub response_headers: &'a Captured,
}

/// Values of the headers that a format names, in the format's order. Costs nothing where the
/// format names none, as the default does not.
#[derive(Clone, Debug, Default)]
pub struct Captured(Vec<Option<HeaderValue>>);

impl Captured {
    /// Nothing captured.
    pub const NONE: Captured = Captured(Vec::new());

    /// The values of `names` in `headers`.
    pub(super) fn of(names: &[HeaderName], headers: &HeaderMap) -> Captured {
        Captured(
            names
                .iter()
                .map(|name| headers.get(name).cloned())
                .collect(),
        )
    }
}

/// How lines look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    /// Envoy's default line (B6).
    Text,
    /// An object with the keys of B7.
    Json,
    /// A format string of Envoy's.
    Custom(Vec<()>),
}

/// Why a format cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Neither a known word nor a format string.
    #[error(
        "the access log format \"{0}\" is not known; write text, json, or an Envoy format string with operators such as %RESPONSE_CODE%"
    )]
    Word(String),
}

impl AccessFormat {
    /// `text`, `json`, or a format string, told by a `%` in it.
    pub fn parse(text: &str) -> Result<AccessFormat, FormatError> {
        match text {
            "text" => Ok(AccessFormat::Text),
            "json" => Ok(AccessFormat::Json),
            _ => Err(FormatError::Word(text.to_owned())),
        }
    }
}
