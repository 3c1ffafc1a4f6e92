//! Everything that can go wrong with one request, and the only translation to an answer.
//!
//! Owns: [`ProxyError`] and its one exhaustive table (DESIGN: errors know their side, status, flag
//! and whether to retry).
//! Never: has a catch-all arm; a new cause does not compile until it is placed.
//! Called by: `proxy::forward`, `proxy::answer`.

use std::time::Duration;

use crate::route::RewriteError;
use crate::telemetry::Flags;
use crate::upstream::{ConnectFailure, UpstreamError};

/// Why a request was not answered by an upstream.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyError {
    /// No entry of the table names the host (ISTIO.md O2).
    #[error("no route names {0}; add it to the routing table, or set unknownHosts: pass-through")]
    UnknownHost(String),
    /// The host is known, but none of its rules matches (ISTIO.md V7).
    #[error("no rule of {0} matches this request")]
    NoRule(String),
    /// The request cannot be understood.
    #[error("{0}")]
    BadRequest(String),
    /// A tunnel was asked for.
    #[error(
        "CONNECT asks for a tunnel, whose TLS would be the application's own; \
         ask for http:// and sortie adds the TLS"
    )]
    Connect,
    /// A capture listener was reached without redirection (ISTIO.md C6, O5).
    #[error("this listener is for connections that the kernel redirects, and this one was not")]
    NotRedirected,
    /// Our own mark is on the request.
    #[error("the request has been through this sortie already")]
    Loop,
    /// A rewrite made something that is not a URI.
    #[error("the rule at {place} cannot be applied to this request")]
    Rewrite {
        /// The rule.
        place: String,
        /// What came out.
        #[source]
        source: RewriteError,
    },
    /// An expectation other than `100-continue` (RFC 9110 section 10.1.1).
    #[error("the request expects something that nobody defines; only 100-continue is known")]
    Expectation,
    /// 101 for a request that did not ask for it (RFC 9110 section 15.2.2).
    #[error("the upstream switched protocols without being asked to")]
    UnaskedUpgrade,
    /// The upstream did not answer in time (ISTIO.md V13).
    #[error("no answer after {0:?}")]
    Timeout(Duration),
    /// Nothing moved for too long.
    #[error("no byte came from the upstream for {0:?}")]
    StreamIdle(Duration),
    /// The way to the upstream failed.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Downstream,
    Upstream,
    Internal,
}

/// What becomes of an error: the row of the table.
pub(super) struct Verdict {
    pub(super) side: Side,
    pub(super) status: u16,
    pub(super) flags: Flags,
    /// ISTIO.md B9.
    pub(super) details: &'static str,
    /// Envoy's fixed text (ISTIO.md X4); empty where Envoy's body is.
    pub(super) lead: &'static str,
    /// RFC 9209 section 2.3.
    pub(super) word: &'static str,
}

const NO_HEALTHY: &str = "no healthy upstream";
/// Envoy's text and details for each way in which a try ends before an answer's head.
macro_rules! before_headers {
    ($text:ident = $reason:literal, $details:ident = $detail:literal) => {
        const $text: &str = concat!(
            "upstream connect error or disconnect/reset before headers. reset reason: ",
            $reason
        );
        const $details: &str = concat!("upstream_reset_before_response_started{", $detail, "}");
    };
}
before_headers!(
    REMOTE_FAILURE = "remote connection failure",
    REMOTE_FAILURE_DETAILS = "remote_connection_failure"
);
before_headers!(
    TERMINATION = "connection termination",
    TERMINATION_DETAILS = "connection_termination"
);
before_headers!(
    REMOTE_RESET = "remote reset",
    REMOTE_RESET_DETAILS = "remote_reset"
);
before_headers!(
    PROTOCOL = "protocol error",
    PROTOCOL_DETAILS = "protocol_error"
);
before_headers!(OVERFLOW = "overflow", OVERFLOW_DETAILS = "overflow");
/// ISTIO.md 5.6.
const TLS_FAILURE: &str = "upstream connect error or disconnect/reset before headers. \
                           reset reason: remote connection failure, transport failure reason";

impl ProxyError {
    /// The table.
    pub(super) fn verdict(&self) -> Verdict {
        let row = |side, status, flags, details, lead, word| Verdict {
            side,
            status,
            flags,
            details,
            lead,
            word,
        };
        match self {
            ProxyError::UnknownHost(_) => row(
                Side::Downstream,
                502,
                Flags::NONE,
                "direct_response",
                "",
                "destination_not_found",
            ),
            ProxyError::NoRule(_) => row(
                Side::Downstream,
                404,
                Flags::NR,
                "route_not_found",
                "",
                "destination_not_found",
            ),
            ProxyError::BadRequest(_) => row(
                Side::Downstream,
                400,
                Flags::DPE,
                "http1.codec_error",
                "Bad Request",
                "http_request_error",
            ),
            ProxyError::Connect => row(
                Side::Downstream,
                405,
                Flags::NONE,
                "direct_response",
                "",
                "http_request_denied",
            ),
            ProxyError::Expectation => row(
                Side::Downstream,
                417,
                Flags::NONE,
                "direct_response",
                "",
                "http_request_error",
            ),
            ProxyError::NotRedirected | ProxyError::Loop => row(
                Side::Internal,
                508,
                Flags::NONE,
                "direct_response",
                "",
                "proxy_loop_detected",
            ),
            ProxyError::Rewrite { .. } => row(
                Side::Internal,
                500,
                Flags::NONE,
                "direct_response",
                "",
                "proxy_configuration_error",
            ),
            ProxyError::Timeout(_) => row(
                Side::Upstream,
                504,
                Flags::UT,
                "upstream_response_timeout",
                "upstream request timeout",
                "http_response_timeout",
            ),
            ProxyError::StreamIdle(_) => row(
                Side::Upstream,
                504,
                Flags::SI,
                "stream_idle_timeout",
                "stream timeout",
                "http_response_timeout",
            ),
            ProxyError::UnaskedUpgrade => row(
                Side::Upstream,
                502,
                Flags::UPE,
                "upstream_reset_before_response_started{protocol_error}",
                "upstream connect error or disconnect/reset before headers. reset reason: protocol error",
                "http_protocol_error",
            ),
            ProxyError::Upstream(error) => of_upstream(error),
        }
    }
}

/// The rows of failures on the way to an upstream.
fn of_upstream(error: &UpstreamError) -> Verdict {
    let row = |status, flags, details, lead, word| Verdict {
        side: Side::Upstream,
        status,
        flags,
        details,
        lead,
        word,
    };
    match error {
        UpstreamError::NoEndpoint { .. } => row(
            503,
            Flags::UH,
            "no_healthy_upstream",
            NO_HEALTHY,
            "destination_unavailable",
        ),
        UpstreamError::Dns(_) => row(
            503,
            Flags::UH,
            "no_healthy_upstream",
            NO_HEALTHY,
            "dns_error",
        ),
        UpstreamError::TlsUnavailable { .. } => row(
            503,
            Flags::UH,
            "no_healthy_upstream",
            NO_HEALTHY,
            "tls_certificate_error",
        ),
        UpstreamError::Connect { failure, .. } => {
            let word = match failure {
                ConnectFailure::Refused | ConnectFailure::Reset => "connection_refused",
                ConnectFailure::Timeout { .. } => "connection_timeout",
                ConnectFailure::Unreachable(_) => "destination_ip_unroutable",
                ConnectFailure::Exhausted(_) | ConnectFailure::Io(_) => "proxy_internal_error",
            };
            row(503, Flags::UF, REMOTE_FAILURE_DETAILS, REMOTE_FAILURE, word)
        }
        UpstreamError::Handshake { source, .. } => {
            let certificate = source.reason.is_check();
            let word = if certificate {
                "tls_certificate_error"
            } else {
                "tls_protocol_error"
            };
            row(503, Flags::UF, REMOTE_FAILURE_DETAILS, TLS_FAILURE, word)
        }
        UpstreamError::Overflow { .. } => row(
            503,
            Flags::UO,
            OVERFLOW_DETAILS,
            OVERFLOW,
            "connection_limit_reached",
        ),
        UpstreamError::Loop { .. } => Verdict {
            side: Side::Internal,
            ..row(
                508,
                Flags::NONE,
                "direct_response",
                "",
                "proxy_loop_detected",
            )
        },
        UpstreamError::Closed(_) => row(
            503,
            Flags::UC,
            TERMINATION_DETAILS,
            TERMINATION,
            "connection_terminated",
        ),
        UpstreamError::RefusedStream { .. } | UpstreamError::StreamReset { .. } => row(
            503,
            Flags::UR,
            REMOTE_RESET_DETAILS,
            REMOTE_RESET,
            "connection_terminated",
        ),
        UpstreamError::Garbage { .. } => row(
            502,
            Flags::UPE,
            PROTOCOL_DETAILS,
            PROTOCOL,
            "http_protocol_error",
        ),
        UpstreamError::Unsendable { .. } => Verdict {
            side: Side::Downstream,
            ..row(
                400,
                Flags::DPE,
                "http1.codec_error",
                "Bad Request",
                "http_request_error",
            )
        },
        UpstreamError::BodyFromClient(_) => Verdict {
            side: Side::Downstream,
            ..row(
                400,
                Flags::DPE,
                "http1.codec_error",
                "Bad Request",
                "http_request_error",
            )
        },
    }
}
