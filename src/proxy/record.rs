//! What is remembered of one request, and how it is told: one log line, one row of counters.
//!
//! Owns: the facts gathered on the way, and the promise that each request is told once, also when
//! its future or its body is dropped.
//! Never: decides anything.
//! Called by: `proxy::forward`, `proxy::body`, `proxy::http1`.

use std::error::Error;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};
use tokio::time::Instant;

use super::connection::Connection;
use super::control::Fault;
use super::entering::sign;
use super::error::{ProxyError, Verdict};
use super::received::Received;
use crate::message::{Fields, Known, RequestHead, Response};
use crate::model::EndpointAddr;
use crate::telemetry::{
    AccessEntry, Captured, Flags, RequestProtocol, RequestRecord, UpstreamStats,
};
use crate::upstream::{ResponseBody, UpstreamError};

pub(super) const XFF: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The request as the log shows it; gathered only where there is a log, or a format of a header.
struct Line {
    start: SystemTime,
    method: Method,
    uri: Uri,
    version: Version,
    host: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    forwarded_for: Option<HeaderValue>,
    request_id: Option<HeaderValue>,
    /// Copied: a count that all workers share would be touched for every request.
    route: Option<Box<str>>,
    server_name: Option<String>,
    request_headers: Captured,
    response_headers: Captured,
}

/// One request, until it is told. Boxed, as it goes through many hands.
pub(super) struct Record(Box<Facts>);

/// What is known of a request.
pub(super) struct Facts {
    connection: Arc<Connection>,
    began: Instant,
    line: Option<Box<Line>>,
    head: bool,
    protocol: RequestProtocol,
    /// The `Server` of the answer, where its entrance has a word for it.
    server: Option<HeaderValue>,
    /// Bytes of the two heads, as HTTP/1 writes them (ISTIO.md B1).
    heads: (u64, u64),
    /// Shared with the request's body, where there is one.
    pub(super) received: Option<Arc<Received>>,
    pub(super) sent: u64,
    /// Messages of the answer that began, where it is gRPC.
    pub(super) messages: u64,
    pub(super) code: u16,
    pub(super) flags: Flags,
    pub(super) details: &'static str,
    failure: String,
    service_time: Option<Duration>,
    endpoint: Option<EndpointAddr>,
    upstream_local: Option<SocketAddr>,
    told: bool,
}

impl Record {
    pub(super) fn new(connection: Arc<Connection>, parts: &RequestHead) -> Self {
        connection.control.in_flight.fetch_add(1, Ordering::Relaxed);
        let log = connection.context.access_log.as_ref();
        let line = log.map(|log| {
            let captured = log.capture_request(&parts.headers);
            Box::new(Line::of(parts, captured))
        });
        let protocol = match is_grpc(&parts.headers) {
            true => RequestProtocol::Grpc(None),
            false => RequestProtocol::Http,
        };
        Record(Box::new(Facts {
            connection,
            began: Instant::now(),
            line,
            head: parts.method == Method::HEAD,
            protocol,
            server: None,
            heads: (request_head(parts), 0),
            received: None,
            sent: 0,
            messages: 0,
            code: 0,
            flags: Flags::NONE,
            details: "",
            failure: String::new(),
            service_time: None,
            endpoint: None,
            upstream_local: None,
            told: false,
        }))
    }

    /// True where the answer has no body whatever its head says.
    pub(super) fn is_head(&self) -> bool {
        self.head
    }

    pub(super) fn is_grpc(&self) -> bool {
        matches!(self.protocol, RequestProtocol::Grpc(_))
    }

    /// When it came.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The answer is to say that this server gave it.
    pub(super) fn signed(&mut self, server: Option<HeaderValue>) {
        self.server = server;
    }

    /// This head goes to the client, signed.
    pub(super) fn answers(&mut self, status: StatusCode, headers: &mut Fields) {
        sign(self.server.as_ref(), headers);
        let reason = status.canonical_reason().unwrap_or_default().len() as u64;
        self.heads.1 = reason + 17 + headers.wire_size();
    }

    /// An upstream's answer begins.
    pub(super) fn answered(
        &mut self,
        answer: &Response<ResponseBody>,
        endpoint: EndpointAddr,
        local: Option<SocketAddr>,
        server_name: Option<&str>,
    ) {
        self.code = answer.status().as_u16();
        self.grpc_status(grpc_status(answer.headers()));
        self.details = "via_upstream";
        self.endpoint = Some(endpoint);
        self.upstream_local = local;
        let facts = &mut *self.0;
        if let Some(line) = &mut facts.line {
            facts.service_time = Some(facts.began.elapsed());
            line.server_name = server_name.map(str::to_owned);
            if let Some(log) = &facts.connection.context.access_log {
                line.response_headers = log.capture_response(answer.headers());
            }
        }
    }

    /// The route that was found.
    pub(super) fn routed(&mut self, name: Option<&str>) {
        if let Some(line) = &mut self.line {
            line.route = name.map(Box::from);
        }
    }

    /// Gathers what formats of headers need to know, also where there is no log.
    pub(super) fn remember(&mut self, parts: &RequestHead, route: Option<&Arc<str>>) {
        if self.line.is_none() {
            self.line = Some(Box::new(Line::of(parts, Captured::NONE)));
            self.routed(route.map(AsRef::as_ref));
        }
    }

    /// What is known so far, for the formats of headers; `captured` is what these name of the
    /// request and of the answer. `None` unless it is gathered: for the log, or by `remember`.
    pub(super) fn with_entry<T>(
        &self,
        upstream: &str,
        captured: (&Captured, &Captured),
        read: impl FnOnce(&AccessEntry<'_>) -> T,
    ) -> Option<T> {
        let line = self.line.as_deref()?;
        let entry = self.entry(line, upstream, captured);
        Some(read(&entry))
    }

    fn entry<'a>(
        &'a self,
        line: &'a Line,
        upstream_cluster: &'a str,
        (request_headers, response_headers): (&'a Captured, &'a Captured),
    ) -> AccessEntry<'a> {
        let identity = &self.connection.identity;
        AccessEntry {
            start: line.start,
            method: line.method.as_str(),
            path: line.uri.path_and_query().map_or("/", |path| path.as_str()),
            protocol: version(line.version),
            code: self.code,
            flags: self.flags,
            details: self.details,
            termination_details: "",
            upstream_failure: &self.failure,
            bytes_received: self.bytes_received(),
            bytes_sent: self.sent,
            duration: self.began.elapsed(),
            upstream_service_time: self.service_time,
            xff: text(&line.forwarded_for),
            user_agent: text(&line.user_agent),
            request_id: text(&line.request_id),
            authority: line
                .uri
                .authority()
                .map_or_else(|| text(&line.host), |a| a.as_str().as_bytes()),
            upstream_host: self.endpoint,
            upstream_cluster,
            upstream_local: self.upstream_local,
            downstream_local: self.connection.local,
            downstream_remote: self.connection.peer,
            requested_server_name: identity
                .server_name()
                .or(line.server_name.as_deref())
                .unwrap_or_default(),
            downstream_tls: identity.tls.as_deref(),
            downstream_failure: "",
            route_name: line.route.as_deref().unwrap_or_default(),
            request_headers,
            response_headers,
        }
    }

    fn bytes_received(&self) -> u64 {
        let received = self.received.as_ref();
        received.map_or(0, |received| received.bytes.load(Ordering::Relaxed))
    }

    /// sortie answers itself.
    pub(super) fn failed(&mut self, error: &ProxyError, verdict: &Verdict, code: u16) {
        self.code = code;
        self.flags |= verdict.flags;
        self.details = verdict.details;
        if matches!(
            error,
            ProxyError::Upstream(UpstreamError::BodyFromClient(_))
        ) {
            self.connection.control.set_told();
        }
        if let ProxyError::Upstream(error) = error {
            self.failure = chain(error);
            self.endpoint = error.endpoint().or(self.endpoint);
        }
    }

    /// So many bytes of a conversation that switched protocols went up and down.
    pub(super) fn tunnelled(&mut self, up: u64, down: u64) {
        self.sent = down;
        let received = self.received.get_or_insert_default();
        received.bytes.fetch_add(up, Ordering::Relaxed);
    }

    /// sortie answers as the table says, without an upstream.
    pub(super) fn direct(&mut self, code: u16, bytes: usize) {
        self.sent = bytes as u64;
        self.code = code;
        self.details = "direct_response";
    }

    /// The request is aborted on purpose (ISTIO.md V16).
    pub(super) fn aborted(&mut self, code: u16, grpc: Option<u32>) {
        self.code = code;
        self.grpc_status(grpc);
        self.flags |= Flags::FI;
        self.details = "fault_filter_abort";
    }

    /// The answer broke off, or its client left.
    pub(super) fn broke(&mut self, flag: Flags, details: &'static str, why: String) {
        self.flags |= flag;
        self.details = details;
        self.failure = why;
    }

    pub(super) fn grpc_status(&mut self, status: Option<u32>) {
        if let (RequestProtocol::Grpc(known), Some(_)) = (&mut self.protocol, status) {
            *known = status;
        }
    }

    /// Tells it, once. `stats`: those of its upstream, which has its name in the log; it is counted
    /// there too, unless its connection has counters of its own (ISTIO.md B3).
    pub(super) fn tell(&mut self, stats: Option<&UpstreamStats>) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        self.connection
            .control
            .in_flight
            .fetch_sub(1, Ordering::Relaxed);
        let reported = self.connection.identity.reported.as_deref();
        let unrouted = &self.connection.context.unrouted;
        let counted = reported.or(stats).unwrap_or(unrouted);
        let received = self.received.as_ref();
        let asked = received.map_or(0, |received| received.messages.load(Ordering::Relaxed));
        counted.record(&RequestRecord {
            code: self.code,
            flags: self.flags,
            protocol: self.protocol,
            duration: self.began.elapsed(),
            request_bytes: self.heads.0 + self.bytes_received(),
            response_bytes: self.heads.1 + self.sent,
            messages: (asked, self.messages),
        });
        let (Some(log), Some(line)) = (&self.connection.context.access_log, &self.line) else {
            return;
        };
        let upstream = stats.map_or("", |stats| stats.name());
        let captured = (&line.request_headers, &line.response_headers);
        log.write(&self.entry(line, upstream, captured));
    }
}

impl Deref for Record {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.0
    }
}

impl DerefMut for Record {
    fn deref_mut(&mut self) -> &mut Facts {
        &mut self.0
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // Whoever drops a record untold lost its client: nothing was answered.
        self.flags |= Flags::DC;
        self.details = "downstream_remote_disconnect";
        self.tell(None);
    }
}

impl Line {
    fn of(parts: &RequestHead, request_headers: Captured) -> Self {
        let header = |name: Known| parts.headers.value(name);
        Line {
            start: SystemTime::now(),
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            version: parts.version,
            host: header(Known::Host),
            user_agent: header(Known::UserAgent),
            forwarded_for: header(Known::ForwardedFor),
            request_id: header(Known::RequestId),
            route: None,
            server_name: None,
            request_headers,
            response_headers: Captured::NONE,
        }
    }
}

/// A request that was refused before it was one (ISTIO.md B8: DPE).
/// `began`: when its connection did; `received`: bytes of it.
pub(super) fn refused(connection: &Connection, fault: &Fault, began: Instant, received: u64) {
    connection
        .context
        .metrics
        .downstream
        .rejected
        .inc(fault.label());
    tracing::debug!(peer = %connection.peer, "refused a request: {}", fault.words());
    let Some(log) = &connection.context.access_log else {
        return;
    };
    let duration = began.elapsed();
    log.write(&AccessEntry {
        start: SystemTime::now() - duration,
        method: "",
        path: "",
        protocol: "HTTP/1.1",
        code: fault.status(),
        flags: Flags::DPE,
        details: "http1.codec_error",
        termination_details: fault.label(),
        upstream_failure: "",
        bytes_received: received,
        bytes_sent: 0,
        duration,
        upstream_service_time: None,
        xff: b"",
        user_agent: b"",
        request_id: b"",
        authority: b"",
        upstream_host: None,
        upstream_cluster: "",
        upstream_local: None,
        downstream_local: connection.local,
        downstream_remote: connection.peer,
        requested_server_name: connection.identity.server_name().unwrap_or_default(),
        downstream_tls: connection.identity.tls.as_deref(),
        downstream_failure: "",
        route_name: "",
        request_headers: &Captured::NONE,
        response_headers: &Captured::NONE,
    });
}

/// An error and its causes, each once, joined by colons.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !words.contains(&more) {
            words.push_str(": ");
            words.push_str(&more);
        }
        cause = error.source();
    }
    words
}

/// gRPC's outcome, from an answer's head.
pub(super) fn grpc_status(headers: &Fields) -> Option<u32> {
    headers.get(Known::GrpcStatus)?.to_str()?.parse().ok()
}

/// The same, from trailers.
pub(super) fn grpc_status_in(trailers: &HeaderMap) -> Option<u32> {
    trailers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// Bytes of the request's head: `GET /x HTTP/1.1`, the headers, and an empty line.
pub(super) fn request_head(parts: &RequestHead) -> u64 {
    let target = parts
        .uri
        .path_and_query()
        .map_or(1, |path| path.as_str().len());
    (parts.method.as_str().len() + target + 14) as u64 + parts.headers.wire_size()
}

/// RFC-less but universal: gRPC is told by its content type.
fn is_grpc(headers: &Fields) -> bool {
    headers
        .get(Known::ContentType)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn text(value: &Option<HeaderValue>) -> &[u8] {
    value
        .as_ref()
        .map(HeaderValue::as_bytes)
        .unwrap_or_default()
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}
