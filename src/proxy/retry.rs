//! Whether a failed try is worth another one, and when.
//!
//! Owns: the decision (ISTIO.md V14, X5), the pause before a retry, and the copy of a request that a
//! retry needs.
//! Never: sends anything.
//! Called by: `proxy::forward`.

use std::time::Duration;

use http::{Method, StatusCode, Uri};

use super::record::grpc_status;
use crate::message::{Fields, Request, RequestHead};
use crate::model::Retries;
use crate::upstream::{ConnectFailure, RequestBody, SendFailure, Stage, UpstreamError};

/// gRPC status codes that rules can name.
const GRPC_CANCELLED: u32 = 1;
const GRPC_DEADLINE_EXCEEDED: u32 = 4;
const GRPC_RESOURCE_EXHAUSTED: u32 = 8;
const GRPC_INTERNAL: u32 = 13;
const GRPC_UNAVAILABLE: u32 = 14;
/// The pause never grows beyond this many times the first one.
const MAX_GROWTH: u32 = 10;

/// A request without a body, so that it can be sent again.
pub(super) struct Replay {
    method: Method,
    uri: Uri,
    headers: Fields,
}

impl Replay {
    pub(super) fn of(parts: &RequestHead) -> Self {
        Replay {
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            headers: parts.headers.clone(),
        }
    }

    pub(super) fn request(&self) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::Empty);
        request.head.method = self.method.clone();
        request.head.uri = self.uri.clone();
        request.head.headers = self.headers.clone();
        request
    }

    /// RFC 9110 section 9.2.2.
    pub(super) fn is_idempotent(&self) -> bool {
        self.method.is_idempotent()
    }
}

/// What to do after a failed try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// Give up.
    No,
    /// At once, on a new connection, and without counting: a warm connection turned out dead.
    Fresh,
    /// As one of the rule's attempts.
    Counted,
}

/// `replayable`: the request has no body and may be sent again as it is; `idempotent`: doing it
/// twice is the same as once.
pub(super) fn after_failure(
    failure: &SendFailure,
    retries: &Retries,
    replayable: bool,
    idempotent: bool,
) -> Again {
    let unsent = failure.request.is_some();
    let died_warm = matches!(
        &failure.error,
        UpstreamError::Closed(closed) if closed.reused && !closed.answer_begun
    );
    if died_warm && (unsent || (replayable && idempotent)) {
        return Again::Fresh;
    }
    if !unsent && !replayable {
        return Again::No;
    }
    let on = &retries.on;
    // Envoy takes a try without an answer for the 503 that the client would get.
    let any = on.server_error || on.gateway_error;
    let connect = on.connect_failure || any;
    let wanted = match &failure.error {
        UpstreamError::Connect { failure, .. } => connect && of_the_network(failure),
        UpstreamError::Handshake { source, .. } => connect && !source.reason.is_check(),
        UpstreamError::RefusedStream { .. } => on.refused_stream || any,
        UpstreamError::Closed(_) | UpstreamError::StreamReset { .. } => on.reset || any,
        UpstreamError::Broken { .. }
        | UpstreamError::NoEndpoint { .. }
        | UpstreamError::Dns(_)
        | UpstreamError::TlsUnavailable { .. }
        | UpstreamError::Overflow { .. }
        | UpstreamError::Loop { .. }
        | UpstreamError::Garbage { .. }
        | UpstreamError::Unsendable { .. }
        | UpstreamError::BodyFromClient(_) => false,
    };
    if wanted { Again::Counted } else { Again::No }
}

/// Refused, reset and late TCP connects (ISTIO.md X5).
fn of_the_network(failure: &ConnectFailure) -> bool {
    match failure {
        ConnectFailure::Refused
        | ConnectFailure::Reset
        | ConnectFailure::Unreachable(_)
        | ConnectFailure::Io(_)
        | ConnectFailure::Timeout {
            stage: Stage::Tcp, ..
        } => true,
        ConnectFailure::Timeout {
            stage: Stage::Tls | Stage::Http2,
            ..
        }
        | ConnectFailure::Exhausted(_) => false,
    }
}

/// Whether an answer's head is one that the rule tries again.
pub(super) fn after_answer(status: StatusCode, headers: &Fields, retries: &Retries) -> bool {
    let on = &retries.on;
    let code = status.as_u16();
    (on.gateway_error && matches!(code, 502..=504))
        || (on.server_error && matches!(code, 500..=599))
        || on.statuses.contains(&code)
        || match grpc_status(headers) {
            Some(GRPC_CANCELLED) => on.grpc_cancelled,
            Some(GRPC_DEADLINE_EXCEEDED) => on.grpc_deadline_exceeded,
            Some(GRPC_RESOURCE_EXHAUSTED) => on.grpc_resource_exhausted,
            Some(GRPC_INTERNAL) => on.grpc_internal,
            Some(GRPC_UNAVAILABLE) => on.grpc_unavailable,
            _ => false,
        }
}

/// Whether a try that took longer than its own bound is worth another. The server may have done
/// what was asked, so only rules that accept this for a lost connection, or that name the 504 which
/// the client would get, say yes; Envoy decides likewise.
pub(super) fn after_timeout(retries: &Retries) -> bool {
    let on = &retries.on;
    on.reset || on.gateway_error || on.server_error || on.statuses.contains(&504)
}

/// The pause before retry number `retry`, from 1: between nothing and the full step, so that
/// clients of one failed endpoint do not come back in step (ISTIO.md V14).
pub(super) fn pause(retries: &Retries, retry: u32, chance: u32) -> Duration {
    let growth = 1_u32
        .checked_shl(retry.saturating_sub(1))
        .unwrap_or(MAX_GROWTH)
        .min(MAX_GROWTH);
    let step = retries.backoff.saturating_mul(growth);
    step.mul_f64(f64::from(chance) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EndpointAddr, RetryOn};

    #[test]
    fn v14_the_pause_grows_to_ten_times_its_base_and_no_further() {
        let retries = Retries::default();
        let most = |retry| pause(&retries, retry, u32::MAX);
        assert_eq!(most(1), Duration::from_millis(25));
        assert_eq!(most(3), Duration::from_millis(100));
        assert_eq!(most(40), Duration::from_millis(250));
        assert_eq!(pause(&retries, 3, 0), Duration::ZERO);
    }

    #[test]
    fn v14_a_status_is_tried_again_only_where_the_rule_says_so() {
        let mut retries = Retries::default();
        let headers = Fields::new();
        assert!(!after_answer(
            StatusCode::SERVICE_UNAVAILABLE,
            &headers,
            &retries
        ));
        retries.on.statuses.push(503);
        assert!(after_answer(
            StatusCode::SERVICE_UNAVAILABLE,
            &headers,
            &retries
        ));
        assert!(!after_answer(StatusCode::OK, &headers, &retries));
    }

    #[test]
    fn v14_a_try_that_is_late_is_tried_again_only_where_the_rule_accepts_a_second_doing() {
        let mut retries = Retries::default();
        assert!(!after_timeout(&retries));
        retries.on.gateway_error = true;
        assert!(after_timeout(&retries));
    }

    #[test]
    fn v14_5xx_means_every_5xx_and_every_try_without_an_answer() {
        let on = |change: fn(&mut RetryOn)| {
            let mut on = RetryOn {
                connect_failure: false,
                refused_stream: false,
                ..RetryOn::default()
            };
            change(&mut on);
            Retries {
                on,
                ..Retries::default()
            }
        };
        let failures = || {
            let endpoint = EndpointAddr(([127, 0, 0, 1], 1).into());
            [
                UpstreamError::Connect {
                    endpoint,
                    failure: ConnectFailure::Refused,
                },
                UpstreamError::StreamReset {
                    endpoint,
                    code: "INTERNAL_ERROR",
                },
                UpstreamError::RefusedStream {
                    endpoint,
                    how: "GOAWAY",
                },
            ]
        };
        let again = |retries: &Retries, error| {
            let failure = SendFailure {
                error,
                request: None,
                endpoint: None,
                reused: false,
            };
            after_failure(&failure, retries, true, true)
        };
        for (retries, expected) in [
            (on(|on| on.server_error = true), Again::Counted),
            (on(|on| on.gateway_error = true), Again::Counted),
            (on(|_| ()), Again::No),
        ] {
            for error in failures() {
                assert_eq!(again(&retries, error), expected);
            }
            let nothing = UpstreamError::Broken {
                upstream: "bank".into(),
                kind: crate::model::BrokenKind::NoCluster,
                reason: "no such host".into(),
            };
            assert_eq!(again(&retries, nothing), Again::No);
        }
        let (any, none) = (on(|on| on.server_error = true), on(|_| ()));
        let headers = Fields::new();
        assert!(after_answer(
            StatusCode::INTERNAL_SERVER_ERROR,
            &headers,
            &any
        ));
        assert!(!after_answer(StatusCode::NOT_FOUND, &headers, &any));
        assert!(!after_answer(
            StatusCode::INTERNAL_SERVER_ERROR,
            &headers,
            &none
        ));
        assert!(after_timeout(&any) && !after_timeout(&none));
    }

    #[test]
    fn v14_each_grpc_status_is_tried_again_only_where_the_rule_names_it() {
        type Word = fn(&mut RetryOn) -> &mut bool;
        let words: [(u32, Word); 5] = [
            (1, |on| &mut on.grpc_cancelled),
            (4, |on| &mut on.grpc_deadline_exceeded),
            (8, |on| &mut on.grpc_resource_exhausted),
            (13, |on| &mut on.grpc_internal),
            (14, |on| &mut on.grpc_unavailable),
        ];
        for (status, named) in words {
            for (other, _) in words {
                let mut retries = Retries::default();
                retries.on.grpc_cancelled = false;
                retries.on.grpc_unavailable = false;
                *named(&mut retries.on) = true;
                let mut headers = Fields::new();
                headers.insert(http::HeaderName::from_static("grpc-status"), other.into());
                let again = after_answer(StatusCode::OK, &headers, &retries);
                assert_eq!(again, other == status, "{status} {other}");
            }
        }
    }

    #[test]
    fn v14_grpc_unavailable_is_tried_again_by_default() {
        let headers = Fields::from_iter([("grpc-status", "14")]);
        assert!(after_answer(StatusCode::OK, &headers, &Retries::default()));
        let headers = Fields::from_iter([("grpc-status", "13")]);
        assert!(!after_answer(StatusCode::OK, &headers, &Retries::default()));
    }
}
