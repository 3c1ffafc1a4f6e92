//! The answers that sortie makes itself.
//!
//! Owns: status, one line of body in words, `Proxy-Status` (RFC 9209), and their gRPC form.
//! Never: hides a cause, unless told to be terse.
//! Called by: `proxy::forward`, `proxy::http1`.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, LOCATION};
use http::{HeaderValue, StatusCode, Version};

use super::body::AnswerBody;
use super::changes::Changes;
use super::control::Fault;
use super::error::{ProxyError, Side, Verdict};
use super::record::{Record, chain, grpc_status};
use crate::message::Response;
use crate::model::Abort;
use crate::telemetry::UpstreamStats;

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The answer for an error, told.
pub(super) fn error(
    error: &ProxyError,
    mut record: Record,
    stats: Option<&UpstreamStats>,
    retried: bool,
) -> Response<AnswerBody> {
    let mut verdict = error.verdict();
    if retried {
        verdict.flags |= crate::telemetry::Flags::URX;
    }
    let terse = record.connection().context.terse;
    let words = words(error, &verdict, terse);
    record.failed(error, &verdict, verdict.status);
    if error.ends_connection() {
        record.connection().control.retire();
    }
    log(error, &verdict, &record);
    let status = StatusCode::from_u16(verdict.status).unwrap_or(StatusCode::BAD_GATEWAY);
    if record.is_grpc() {
        // A failure of the way is UNAVAILABLE whatever its status, so that clients try again.
        let code = match grpc_code(verdict.status) {
            2 => 14,
            code => code,
        };
        let mut answer = trailers_only(code, &words);
        record.answers(answer.status(), answer.headers_mut());
        record.tell(stats);
        return answer;
    }
    let mut answer = plain(status, words, &mut record);
    if let Ok(value) = proxy_status(error, &verdict, terse) {
        answer.headers_mut().insert(PROXY_STATUS, value);
    }
    if matches!(error, ProxyError::Connect) {
        const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
        answer
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static(METHODS));
    }
    if verdict.status == 400 || error.ends_connection() {
        answer
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    record.answers(status, answer.headers_mut());
    record.tell(stats);
    answer
}

/// What a rule says instead of an upstream, told.
pub(super) fn direct(
    status: StatusCode,
    body: Bytes,
    changes: &Changes<'_>,
    location: Option<HeaderValue>,
    mut record: Record,
) -> Response<AnswerBody> {
    record.direct(status.as_u16(), body.len());
    let has_body = !body.is_empty();
    let mut answer = Response::new(AnswerBody::own(body));
    answer.head.status = status;
    let headers = answer.headers_mut();
    if has_body {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    if let Some(location) = location {
        headers.insert(LOCATION, location);
    }
    changes.to_answer(headers, &record, "");
    record.answers(status, headers);
    record.tell(None);
    answer
}

/// The answer of a request that is aborted on purpose, told (ISTIO.md V16).
pub(super) fn aborted(
    abort: Abort,
    mut record: Record,
    stats: &UpstreamStats,
) -> Response<AnswerBody> {
    const WORDS: &str = "fault filter abort";
    let mut answer = match abort {
        Abort::Grpc(code) => trailers_only(code, WORDS),
        Abort::Http(status) if record.is_grpc() => trailers_only(grpc_code(status), WORDS),
        Abort::Http(status) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
            plain(status, WORDS.to_owned(), &mut record)
        }
    };
    record.aborted(answer.status().as_u16(), grpc_status(answer.headers()));
    record.answers(answer.status(), answer.headers_mut());
    record.tell(Some(stats));
    answer
}

/// A short text as an answer. The record is not told yet.
fn plain(status: StatusCode, body: String, record: &mut Record) -> Response<AnswerBody> {
    record.sent = body.len() as u64;
    let mut answer = Response::new(AnswerBody::own(Bytes::from(body)));
    answer.head.status = status;
    answer.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    answer
}

/// Envoy's fixed text first, then the reason in words (ISTIO.md X4).
fn words(error: &ProxyError, verdict: &Verdict, terse: bool) -> String {
    let lead = verdict.lead;
    match (terse, lead.is_empty()) {
        (true, true) => String::new(),
        (true, false) => format!("{lead}\n"),
        (false, true) => format!("{}\n", one_line(&chain(error))),
        (false, false) => format!("{lead}: {}\n", one_line(&chain(error))),
    }
}

fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// RFC 9209: who failed and how, for machines.
fn proxy_status(
    error: &ProxyError,
    verdict: &Verdict,
    terse: bool,
) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
    let word = verdict.word;
    if terse {
        return HeaderValue::from_str(&format!("sortie; error={word}"));
    }
    // A structured-field string holds printable ASCII (RFC 8941 section 3.3.3).
    let details: String = chain(error)
        .chars()
        .map(|c| match c {
            '"' | '\\' => '\'',
            ' '..='~' => c,
            _ => '?',
        })
        .collect();
    HeaderValue::from_str(&format!("sortie; error={word}; details=\"{details}\""))
}

/// The gRPC status that a client is to see instead of an HTTP one ("HTTP to gRPC Status Code
/// Mapping"); 504 is the deadline that it is.
fn grpc_code(status: u16) -> u32 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        504 => 4,
        429 | 502 | 503 => 14,
        _ => 2,
    }
}

/// A failed call, as gRPC clients read no HTTP status (gRPC over HTTP/2, "Responses").
fn trailers_only(code: u32, words: &str) -> Response<AnswerBody> {
    let mut message = String::with_capacity(words.len());
    for byte in words.trim_end().bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => message.push(char::from(byte)),
            _ => message.push_str(&format!("%{byte:02X}")),
        }
    }
    let mut answer = Response::new(AnswerBody::own(Bytes::new()));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from(code));
    if let Ok(message) = HeaderValue::from_str(&message) {
        headers.insert(GRPC_MESSAGE, message);
    }
    answer
}

fn log(error: &ProxyError, verdict: &Verdict, record: &Record) {
    let peer = record.connection().peer;
    let (status, flags) = (verdict.status, verdict.flags);
    let words = || one_line(&chain(error));
    match verdict.side {
        Side::Upstream => match HUSH.with_borrow_mut(|hush| hush.may_speak(Instant::now())) {
            Some(0) => tracing::warn!(%peer, status, %flags, "request failed: {}", words()),
            Some(unsaid) => {
                tracing::warn!(%peer, status, %flags, unsaid, "request failed: {}", words());
            }
            None => tracing::debug!(%peer, status, %flags, "request failed: {}", words()),
        },
        Side::Internal | Side::Downstream => {
            tracing::debug!(%peer, status, %flags, "request refused: {}", words());
        }
    }
}

/// Failures that one worker tells of in a second; the access log and the counters have them all.
const TOLD_PER_SECOND: u32 = 10;

thread_local! {
    static HUSH: RefCell<Hush> = const { RefCell::new(Hush { second: None, told: 0, unsaid: 0 }) };
}

/// Keeps a failing upstream from making the log the bottleneck.
struct Hush {
    second: Option<Instant>,
    told: u32,
    unsaid: u64,
}

impl Hush {
    /// How many were not told of since the last one; `None`: neither is this one.
    fn may_speak(&mut self, now: Instant) -> Option<u64> {
        let second = *self.second.get_or_insert(now);
        if now.saturating_duration_since(second) >= Duration::from_secs(1) {
            self.second = Some(now);
            self.told = 0;
        }
        if self.told >= TOLD_PER_SECOND {
            self.unsaid = self.unsaid.saturating_add(1);
            return None;
        }
        self.told += 1;
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// The bytes of a refusal of a request that is not one.
pub(super) fn refusal(fault: &Fault, terse: bool) -> Bytes {
    let status = StatusCode::from_u16(fault.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let reason = status.canonical_reason().unwrap_or("Bad Request");
    let body = if terse {
        String::new()
    } else {
        format!("{reason}: {}\n", one_line(&fault.words()))
    };
    Bytes::from(format!(
        "{:?} {} {reason}\r\n{CONTENT_TYPE}: text/plain; charset=utf-8\r\n{CONTENT_LENGTH}: {}\r\n\
         {PROXY_STATUS}: sortie; error=http_request_error\r\n{CONNECTION}: close\r\n\r\n{body}",
        Version::HTTP_11,
        status.as_u16(),
        body.len(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_upstream_is_told_of_ten_times_a_second_and_the_rest_is_counted() {
        let mut hush = Hush {
            second: None,
            told: 0,
            unsaid: 0,
        };
        let start = Instant::now();
        let told = (0..100).filter(|_| hush.may_speak(start).is_some()).count();
        assert_eq!(told, 10);
        assert_eq!(hush.may_speak(start + Duration::from_secs(1)), Some(90));
    }

    #[test]
    fn an_error_in_words_never_breaks_its_line() {
        assert_eq!(one_line("a\r\nb\0c"), "a  b c");
    }
}
