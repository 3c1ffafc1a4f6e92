//! One request on one connection, HTTP/1 or HTTP/2, and what became of it.
//!
//! Owns: the [`Lease`] under which a request uses a connection, [`Under`], by which it is counted, and
//! the causes of failures.
//! Never: picks or opens a connection, or moves a byte (that is `http1`, and `http2`).
//! Called by: `Upstream` (sends), `body` (tells why an answer stopped).

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use http::StatusCode;
use http::uri::Scheme;

use super::adapt;
use super::balance::Seat;
use super::body::{RequestBody, ResponseBody};
use super::error::{BodyError, Closed, UpstreamError};
use super::http1::{self, Begun, Fault, Http1, Tunnel, Unanswered};
use super::http2::{self, Stream};
use super::pool::Slot;
use super::wire::Link;
use crate::http2::Inflow;
use crate::message::{Request, Response};
use crate::telemetry::Level;

/// A request under way: counted until it ends, or is dropped.
pub(super) struct Under {
    pub(super) slot: Arc<Slot>,
    seat: Option<Arc<Seat>>,
    /// It has a place under the limit of requests.
    limited: bool,
    /// It is counted no more.
    ended: bool,
}

impl Under {
    /// The slot's request quota was taken by the caller; its end gives it back.
    pub(super) fn way(slot: Arc<Slot>) -> Under {
        let mut under = Under::unlimited(slot);
        under.limited = true;
        under
    }

    /// A connection whose bytes nobody looks at is no request: only connections are limited then.
    pub(super) fn unlimited(slot: Arc<Slot>) -> Under {
        slot.core.stats.raise(Level::ActiveRequests);
        let mut under = Under::past(slot);
        under.ended = false;
        under
    }

    /// One that has ended, or is counted elsewhere.
    fn past(slot: Arc<Slot>) -> Under {
        Under {
            slot,
            seat: None,
            limited: false,
            ended: true,
        }
    }

    /// Where it goes; `None` where endpoints are not balanced.
    pub(super) fn seat(&self) -> Option<&Seat> {
        self.seat.as_deref()
    }

    /// It goes to `seat`.
    pub(super) fn sit(&mut self, seat: Arc<Seat>) {
        seat.active.fetch_add(1, Relaxed);
        if let Some(before) = self.seat.replace(seat) {
            before.active.fetch_sub(1, Relaxed);
        }
    }

    /// It has ended.
    pub(super) fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        if let Some(seat) = &self.seat {
            seat.active.fetch_sub(1, Relaxed);
        }
        if self.limited {
            self.slot.core.requests.give(self.slot.index);
        }
        self.slot.core.stats.lower(Level::ActiveRequests);
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        self.end();
    }
}

/// A connection lent to one request.
pub(super) enum Held {
    Http1(Http1),
    Http2(Stream),
}

/// A connection while a request uses it. Dropped before the answer's end, an HTTP/1 connection is
/// closed; an HTTP/2 stream is reset.
pub(super) struct Lease {
    held: Held,
    under: Under,
    reused: bool,
}

/// Why a request on a connection has no answer.
pub(super) struct Failed {
    pub(super) error: UpstreamError,
    /// The request, where not one byte of it was sent.
    pub(super) request: Option<Request<RequestBody>>,
    /// The count of the request under way, for another connection.
    pub(super) under: Option<Under>,
}

impl Lease {
    /// Lends `held` to the request that `under` counts.
    pub(super) fn new(mut held: Held, under: Under) -> Lease {
        let reused = match &mut held {
            Held::Http1(http1) => {
                http1.serve();
                http1.served() > 1
            }
            Held::Http2(stream) => stream.http2.load.answered.load(Relaxed),
        };
        Lease {
            held,
            under,
            reused,
        }
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        match &self.held {
            Held::Http1(http1) => http1.link(),
            Held::Http2(stream) => &stream.http2.link,
        }
    }

    /// The connection had served before.
    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }

    /// Sends `request` and waits for the answer's head. `upgrade`: only HTTP/1.1 can carry it.
    pub(super) async fn exchange(
        self,
        request: Request<RequestBody>,
        scheme: Scheme,
        upgrade: bool,
    ) -> Result<Response<ResponseBody>, Box<Failed>> {
        let Lease {
            held,
            under,
            reused,
        } = self;
        match held {
            Held::Http1(http1) => over_http1(http1, under, reused, request, upgrade).await,
            Held::Http2(stream) => {
                let sending = over_http2(stream, under, reused, request, scheme, upgrade);
                // Larger than the other by far.
                Box::pin(sending).await
            }
        }
    }
}

async fn over_http1(
    mut http1: Http1,
    under: Under,
    reused: bool,
    request: Request<RequestBody>,
    upgrade: bool,
) -> Result<Response<ResponseBody>, Box<Failed>> {
    if let Some(error) = ended_before(&mut http1, reused) {
        return Err(Box::new(Failed {
            error,
            request: Some(request),
            under: Some(under),
        }));
    }
    let mark = http1.link().received();
    let (http1, unanswered) = match http1::ask(http1, request, upgrade).await {
        Ok(begun) => return Ok(receive(begun, under)),
        Err(unanswered) => unanswered,
    };
    let link = Arc::clone(http1.link());
    let (error, request) = match unanswered {
        Unanswered::Unsendable(request, problem) => {
            under.slot.check_in(http1);
            let endpoint = link.endpoint;
            let error = UpstreamError::Unsendable { endpoint, problem };
            (error, Some(*request))
        }
        Unanswered::Broken(Fault::Body(error)) => (UpstreamError::BodyFromClient(error), None),
        Unanswered::Broken(Fault::Malformed(words)) => {
            let endpoint = link.endpoint;
            let problem = not_http(words, &link);
            (UpstreamError::Garbage { endpoint, problem }, None)
        }
        Unanswered::Broken(fault) => (closed(&fault.to_string(), &link, reused, mark), None),
    };
    Err(Box::new(Failed {
        error,
        request,
        under: None,
    }))
}

/// What the server did before anything was asked of it, on a connection that nobody has used; or
/// that another thread has closed the connection.
fn ended_before(http1: &mut Http1, reused: bool) -> Option<UpstreamError> {
    if reused && !http1.link().is_closing() || !reused && http1.is_quiet_at_first() {
        return None;
    }
    let link = http1.link();
    if !reused && link.received() > 0 {
        return Some(spoke_first(link));
    }
    Some(closed("connection closed", link, reused, link.received()))
}

fn spoke_first(link: &Link) -> UpstreamError {
    UpstreamError::Garbage {
        endpoint: link.endpoint,
        problem: format!("it spoke before it was asked: \"{}\"", link.sample()),
    }
}

fn receive(begun: Begun, under: Under) -> Response<ResponseBody> {
    let Begun {
        response,
        answering,
    } = begun;
    let body = if response.status == StatusCode::SWITCHING_PROTOCOLS {
        // The connection is a tunnel's now: it is never pooled, and counts until it is closed.
        let past = Under::past(Arc::clone(&under.slot));
        let (http1, rest) = answering.switch();
        ResponseBody::switched(Tunnel::new(http1, rest, Box::new(under)), past)
    } else {
        ResponseBody::http1(answering, under)
    };
    Response::from_parts(response, body)
}

async fn over_http2(
    mut stream: Stream,
    under: Under,
    reused: bool,
    request: Request<RequestBody>,
    scheme: Scheme,
    upgrade: bool,
) -> Result<Response<ResponseBody>, Box<Failed>> {
    let link = Arc::clone(&stream.http2.link);
    let endpoint = link.endpoint;
    let unsendable = |request, problem| {
        Err(Box::new(Failed {
            error: UpstreamError::Unsendable { endpoint, problem },
            request: Some(request),
            under: None,
        }))
    };
    if upgrade {
        return unsendable(request, "HTTP/2 cannot carry an upgrade");
    }
    let mark = link.received();
    if let Err(error) = stream.begin().await {
        let failed = (error, Some(request));
        return Err(Box::new(explain(failed, &link, under, reused, mark)));
    }
    let (head, body) = request.into_parts();
    let message = match adapt::to_http2(head, &body, scheme) {
        Ok(message) => message,
        Err((head, problem)) => return unsendable(Request::from_parts(head, body), problem),
    };
    let mut answer = match stream.ask(message, body).await {
        Ok(answer) => answer,
        Err(http2::Unanswered::Broken(error)) => {
            let failed = (error, None);
            return Err(Box::new(explain(failed, &link, under, reused, mark)));
        }
        Err(http2::Unanswered::Body(error)) => {
            return Err(Box::new(Failed {
                error: UpstreamError::BodyFromClient(error),
                request: None,
                under: None,
            }));
        }
    };
    let status = answer.status();
    if let Err(problem) = adapt::check_answer(status, answer.headers_mut()) {
        let problem = problem.to_owned();
        return Err(Box::new(Failed {
            error: UpstreamError::Garbage { endpoint, problem },
            request: None,
            under: None,
        }));
    }
    stream.http2.load.answered.store(true, Relaxed);
    let (head, incoming) = answer.into_parts();
    let incoming = Inflow::new(incoming, &head.headers);
    let body = ResponseBody::http2(incoming, stream, under);
    Ok(http::Response::from_parts(head, body).into())
}

fn explain(
    (error, request): (h2::Error, Option<Request<RequestBody>>),
    link: &Link,
    under: Under,
    reused: bool,
    mark: u64,
) -> Failed {
    // An HTTP/2 server speaks first by rights, but it says SETTINGS and not a status line.
    let spoke = request.is_some() && !reused && link.sample().starts_with("HTTP/");
    Failed {
        error: match spoke {
            true => spoke_first(link),
            false => http2::classify(&error, link, reused, mark),
        },
        request,
        under: Some(under),
    }
}

/// The connection ended before the answer's head. `words`: how, where nothing better is known.
pub(super) fn closed(words: &str, link: &Link, reused: bool, mark: u64) -> UpstreamError {
    let trouble = link.trouble();
    UpstreamError::Closed(Box::new(Closed {
        endpoint: link.endpoint,
        reused,
        answer_begun: link.received() > mark,
        explained: trouble
            .as_ref()
            .and_then(|trouble| trouble.explained.clone()),
        detail: Some(trouble.map_or_else(|| words.to_owned(), |trouble| trouble.detail)),
    }))
}

/// What came is not HTTP.
pub(super) fn not_http(problem: &str, link: &Link) -> String {
    let sample = link.sample();
    // A TLS record of type alert or handshake, version 3.x (RFC 8446 section 5.1).
    if sample.starts_with("\\x15\\x03") || sample.starts_with("\\x16\\x03") {
        return format!("{problem}; it speaks TLS, and the configuration says plaintext");
    }
    format!("{problem}; what came last begins with \"{sample}\"")
}

/// An answer's body stopped before its end, because of `source`, which is `words`.
pub(super) fn cut_off(
    words: String,
    source: Box<dyn std::error::Error + Send + Sync>,
    link: &Link,
) -> BodyError {
    let trouble = link.trouble();
    let explained = trouble.map(|trouble| trouble.explained.unwrap_or(trouble.detail));
    BodyError::CutOff {
        explained: explained.unwrap_or(words),
        source,
    }
}
