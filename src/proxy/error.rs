//! Everything that can go wrong with one request, and the only translation to an answer.
//!
//! Owns: [`ProxyError`] and its one exhaustive table (DESIGN: errors know their side, status, flag
//! and whether to retry).
//! Never: has a catch-all arm; a new cause does not compile until it is placed.
//! Called by: `proxy::forward`, `proxy::answer`.

use std::sync::Arc;
use std::time::Duration;

use super::normal_path::PathError;
use crate::model::BrokenKind;
use crate::route::RewriteError;
use crate::telemetry::Flags;
use crate::upstream::{ConnectFailure, UpstreamError};

/// Why a request was not answered by an upstream.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyError {
    /// No entry of the table names the host (ISTIO.md O2).
    #[error(
        "no route names {0}; declare it (a route or a ServiceEntry), or let unknown destinations pass (--outbound-policy allow-any)"
    )]
    UnknownHost(String),
    /// The host is known, but none of its rules matches (ISTIO.md V7).
    #[error("no rule of {0} matches this request")]
    NoRule(String),
    /// The request cannot be understood.
    #[error("{0}")]
    BadRequest(String),
    /// The path has no normal form (ISTIO.md G12).
    #[error(transparent)]
    Path(PathError),
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
    /// No route of the gateway's server names the host (ISTIO.md G9).
    #[error("no route of {entrance} names {host}")]
    NoHost {
        /// The entrance.
        entrance: Box<str>,
        /// What the request asks for.
        host: String,
    },
    /// The host belongs to another server of the gateway's port than the connection (ISTIO.md G9).
    #[error(
        "{host} is served by {other}, and this connection was opened for {server_name}; open one for {host}"
    )]
    Misdirected {
        /// What the request asks for.
        host: String,
        /// The entrance that it belongs to.
        other: Box<str>,
        /// SNI of the connection.
        server_name: Box<str>,
    },
    /// The entrance is in the configuration no more.
    #[error("the entrance of this connection is in the configuration no more; connect again")]
    EntranceGone,
    /// A document that governs the entrance was refused (ISTIO.md X1).
    #[error("a document that decides who may come in was refused: {0}")]
    EntranceBroken(Arc<str>),
    /// The policy has changed, and the connection would not be let in today.
    #[error(
        "connections like this one are let in no more: the downstream TLS policy has changed; connect again"
    )]
    NotAdmitted,
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
#[derive(Clone, Copy)]
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
/// One row: side, status, flag, details, Envoy's text, RFC 9209 word. Not a function, so that a row
/// stays on a line and the table reads as one.
macro_rules! row {
    ($side:ident $status:literal $flag:ident $details:literal, $lead:expr, $word:literal) => {
        Verdict {
            side: Side::$side,
            status: $status,
            flags: Flags::$flag,
            details: $details,
            lead: $lead,
            word: $word,
        }
    };
    // A try that ended before the answer's head.
    ($side:ident $status:literal $flag:ident before $details:literal, $reason:literal, $word:literal) => {
        Verdict {
            side: Side::$side,
            status: $status,
            flags: Flags::$flag,
            details: concat!("upstream_reset_before_response_started{", $details, "}"),
            lead: concat!(
                "upstream connect error or disconnect/reset before headers. reset reason: ",
                $reason
            ),
            word: $word,
        }
    };
}

impl ProxyError {
    /// The table.
    #[rustfmt::skip]
    pub(super) fn verdict(&self) -> Verdict {
        use ProxyError as E;
        match self {
            E::UnknownHost(_)  => row!(Downstream 502 NONE "direct_response", "", "destination_not_found"),
            E::NoRule(_)       => row!(Downstream 404 NR   "route_not_found", "", "destination_not_found"),
            E::Path(_)         => row!(Downstream 400 NONE "path_normalization_failed", "Bad Request", "http_request_error"),
            E::BadRequest(_)   => row!(Downstream 400 DPE  "http1.codec_error", "Bad Request", "http_request_error"),
            E::Connect         => row!(Downstream 405 NONE "direct_response", "", "http_request_denied"),
            E::Expectation     => row!(Downstream 417 NONE "direct_response", "", "http_request_error"),
            E::NotRedirected   => row!(Internal   508 NONE "direct_response", "", "proxy_loop_detected"),
            E::Loop            => row!(Internal   508 NONE "direct_response", "", "proxy_loop_detected"),
            E::Rewrite { .. }  => row!(Internal   500 NONE "direct_response", "", "proxy_configuration_error"),
            E::Timeout(_)      => row!(Upstream   504 UT   "upstream_response_timeout", "upstream request timeout", "http_response_timeout"),
            E::StreamIdle(_)   => row!(Upstream   504 SI   "stream_idle_timeout", "stream timeout", "http_response_timeout"),
            E::UnaskedUpgrade  => row!(Upstream   502 UPE  before "protocol_error", "protocol error", "http_protocol_error"),
            E::NoHost { .. }      => row!(Downstream 404 NR "route_not_found", "", "destination_not_found"),
            E::Misdirected { .. } => row!(Downstream 421 NR "route_not_found", "", "destination_not_found"),
            E::EntranceGone       => row!(Internal   503 UH "no_healthy_upstream", NO_HEALTHY, "proxy_configuration_error"),
            E::EntranceBroken(_)  => row!(Internal   503 UH "no_healthy_upstream", NO_HEALTHY, "proxy_configuration_error"),
            E::NotAdmitted        => row!(Internal   503 UH "no_healthy_upstream", NO_HEALTHY, "proxy_configuration_error"),
            E::Upstream(error) => of_upstream(error),
        }
    }

    /// The connection is of no more use after the answer.
    pub(super) fn ends_connection(&self) -> bool {
        matches!(self, ProxyError::EntranceGone | ProxyError::NotAdmitted)
    }
}

/// The rows of failures on the way to an upstream.
#[rustfmt::skip]
fn of_upstream(error: &UpstreamError) -> Verdict {
    use {ConnectFailure as C, UpstreamError as E};
    match error {
        E::Broken { kind: BrokenKind::NoCluster, .. } =>
                                    row!(Upstream 503 NC "cluster_not_found", "", "destination_not_found"),
        E::Broken { kind: BrokenKind::Unhealthy, .. } =>
                                    row!(Upstream 503 UH "no_healthy_upstream", NO_HEALTHY, "destination_unavailable"),
        E::NoEndpoint { .. }     => row!(Upstream 503 UH "no_healthy_upstream", NO_HEALTHY, "destination_unavailable"),
        E::Dns(_)                => row!(Upstream 503 UH "no_healthy_upstream", NO_HEALTHY, "dns_error"),
        E::TlsUnavailable { .. } => row!(Upstream 503 UH "no_healthy_upstream", NO_HEALTHY, "tls_certificate_error"),
        E::Connect { failure, .. } => match failure {
            C::Refused | C::Reset    => row!(Upstream 503 UF before "remote_connection_failure", "remote connection failure", "connection_refused"),
            C::Timeout { .. }        => row!(Upstream 503 UF before "connection_timeout", "connection timeout", "connection_timeout"),
            C::Unreachable(_)        => row!(Upstream 503 UF before "remote_connection_failure", "remote connection failure", "destination_ip_unroutable"),
            C::Exhausted(_) | C::Io(_) => row!(Upstream 503 UF before "local_connection_failure", "local connection failure", "proxy_internal_error"),
        },
        E::Handshake { source, .. } if source.reason.is_certificate() =>
                                    row!(Upstream 503 UF before "remote_connection_failure", "remote connection failure, transport failure reason", "tls_certificate_error"),
        E::Handshake { .. }      => row!(Upstream 503 UF before "remote_connection_failure", "remote connection failure, transport failure reason", "tls_protocol_error"),
        E::Overflow { .. }       => row!(Upstream 503 UO before "overflow", "overflow", "connection_limit_reached"),
        E::Loop { .. }           => row!(Internal 508 NONE "direct_response", "", "proxy_loop_detected"),
        E::Closed(_)             => row!(Upstream 503 UC before "connection_termination", "connection termination", "connection_terminated"),
        E::RefusedStream { .. }  => row!(Upstream 503 UR before "remote_reset", "remote reset", "connection_terminated"),
        E::StreamReset { .. }    => row!(Upstream 503 UR before "remote_reset", "remote reset", "connection_terminated"),
        E::Garbage { .. }        => row!(Upstream 502 UPE before "protocol_error", "protocol error", "http_protocol_error"),
        E::Unsendable { .. }     => row!(Downstream 400 DPE "http1.codec_error", "Bad Request", "http_request_error"),
        E::BodyFromClient(_)     => row!(Downstream 400 DPE "http1.codec_error", "Bad Request", "http_request_error"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(kind: BrokenKind) -> Verdict {
        let error = UpstreamError::Broken {
            upstream: "outbound|80|v9|bank.example".into(),
            kind,
            reason: "no such subset".into(),
        };
        ProxyError::from(error).verdict()
    }

    #[test]
    fn v10_an_upstream_that_is_not_there_is_503_nc_with_an_empty_text_of_envoys() {
        let verdict = broken(BrokenKind::NoCluster);
        assert_eq!((verdict.status, verdict.flags), (503, Flags::NC));
        assert_eq!((verdict.details, verdict.lead), ("cluster_not_found", ""));
    }

    #[test]
    fn x1_an_upstream_of_a_refused_document_is_503_uh_without_healthy_upstream() {
        let verdict = broken(BrokenKind::Unhealthy);
        assert_eq!((verdict.status, verdict.flags), (503, Flags::UH));
        assert_eq!(
            (verdict.details, verdict.lead),
            ("no_healthy_upstream", "no healthy upstream")
        );
    }
}
