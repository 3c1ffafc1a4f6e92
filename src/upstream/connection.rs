//! An open HTTP/1 or HTTP/2 connection, and one request on it.
//!
//! Owns: [`Http1`], [`Http2`] and the [`Lease`] under which a request uses one.
//! Never: picks or opens a connection.
//! Called by: `pool` (keeps them), `connect` (makes them), `Upstream` (sends on them).

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use http::uri::Scheme;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};

use super::adapt;
use super::balance::Seat;
use super::body::{RequestBody, ResponseBody};
use super::error::{BodyError, Closed, UpstreamError};
use super::pool::{Permit, Slot};
use super::wire::Link;
use crate::telemetry::Level;

/// A connection for one request at a time.
pub(super) struct Http1 {
    pub(super) sender: http1::SendRequest<RequestBody>,
    pub(super) link: Arc<Link>,
    /// Requests sent on it.
    pub(super) served: u64,
    pub(super) permit: Permit,
}

/// A connection for many requests. Clones are the same connection.
#[derive(Clone)]
pub(super) struct Http2 {
    pub(super) sender: http2::SendRequest<RequestBody>,
    pub(super) link: Arc<Link>,
    pub(super) load: Arc<Load>,
}

/// How busy an HTTP/2 connection is.
pub(super) struct Load {
    active: AtomicUsize,
    served: AtomicU64,
    /// It has brought an answer: from then on the server may close it as idle.
    answered: AtomicBool,
    max_streams: AtomicUsize,
    /// Milliseconds of the upstream's clock.
    idle_since: AtomicU64,
    _permit: Permit,
}

impl Load {
    /// `max_streams`: what is assumed until the server's SETTINGS came.
    pub(super) fn new(max_streams: usize, now: u64, permit: Permit) -> Load {
        Load {
            active: AtomicUsize::new(0),
            served: AtomicU64::new(0),
            answered: AtomicBool::new(false),
            max_streams: AtomicUsize::new(max_streams),
            idle_since: AtomicU64::new(now),
            _permit: permit,
        }
    }

    /// The server allows so many streams at once (RFC 9113 section 6.5.2).
    pub(super) fn allows(&self, max_streams: usize) {
        self.max_streams.store(max_streams, Relaxed);
    }

    pub(super) fn has_room(&self) -> bool {
        self.active.load(Relaxed) < self.max_streams.load(Relaxed)
    }

    /// Since when there has been no stream; `None` while there is one.
    pub(super) fn idle_since(&self) -> Option<u64> {
        (self.active.load(Relaxed) == 0).then(|| self.idle_since.load(Relaxed))
    }

    /// Takes a place and returns how many requests came before.
    pub(super) fn enter(&self) -> u64 {
        self.active.fetch_add(1, Relaxed);
        self.served.fetch_add(1, Relaxed)
    }
}

/// A request under way: counted until it is dropped.
pub(super) struct Under {
    pub(super) slot: Arc<Slot>,
    seat: Option<Arc<Seat>>,
    /// It has a place under the limit of requests.
    limited: bool,
}

impl Under {
    /// The slot's request quota was taken by the caller; dropping this gives it back.
    pub(super) fn way(slot: Arc<Slot>) -> Under {
        let mut under = Under::unlimited(slot);
        under.limited = true;
        under
    }

    /// A connection whose bytes nobody looks at is no request: only connections are limited then.
    pub(super) fn unlimited(slot: Arc<Slot>) -> Under {
        slot.core.stats.raise(Level::ActiveRequests);
        Under {
            slot,
            seat: None,
            limited: false,
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
}

impl Drop for Under {
    fn drop(&mut self) {
        if let Some(seat) = &self.seat {
            seat.active.fetch_sub(1, Relaxed);
        }
        if self.limited {
            self.slot.core.requests.give(self.slot.index);
        }
        self.slot.core.stats.lower(Level::ActiveRequests);
    }
}

/// A connection lent to one request.
pub(super) enum Held {
    Http1(Http1),
    Http2(Http2),
}

/// A connection while a request uses it. Dropped before the answer's end, an HTTP/1 connection is
/// closed; an HTTP/2 stream is reset by hyper.
pub(super) struct Lease {
    /// Both are there until the lease ends.
    held: Option<Held>,
    under: Option<Under>,
    link: Arc<Link>,
    slot: Arc<Slot>,
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
        let (link, reused) = match &mut held {
            Held::Http1(http1) => {
                http1.served += 1;
                (Arc::clone(&http1.link), http1.served > 1)
            }
            Held::Http2(http2) => {
                let answered = http2.load.answered.load(Relaxed);
                (Arc::clone(&http2.link), answered)
            }
        };
        Lease {
            held: Some(held),
            slot: Arc::clone(&under.slot),
            under: Some(under),
            link,
            reused,
        }
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    pub(super) fn is_http2(&self) -> bool {
        matches!(self.held, Some(Held::Http2(_)))
    }

    /// The connection had served before.
    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }

    /// Sends `request` and waits for the answer's head.
    pub(super) async fn exchange(
        mut self,
        mut request: Request<RequestBody>,
        scheme: Scheme,
    ) -> Result<Response<ResponseBody>, Box<Failed>> {
        let upgrade = adapt::needs_http1(request.headers());
        let fits = match &self.held {
            Some(Held::Http2(_)) if upgrade => Err("HTTP/2 cannot carry an upgrade"),
            Some(Held::Http2(_)) => adapt::to_http2(&mut request, scheme),
            _ => adapt::to_http1(&mut request),
        };
        if let Err(problem) = fits {
            let endpoint = self.link.endpoint;
            self.finish();
            return Err(Box::new(Failed {
                error: UpstreamError::Unsendable { endpoint, problem },
                request: Some(request),
                under: None,
            }));
        }
        let mark = self.link.received();
        let sent = match self.held.as_mut() {
            Some(Held::Http1(http1)) => Some(http1.sender.try_send_request(request).await),
            Some(Held::Http2(http2)) => Some(http2.sender.try_send_request(request).await),
            None => None,
        };
        match sent {
            Some(Ok(answer)) => self.receive(answer, upgrade),
            Some(Err(failure)) => Err(Box::new(self.explain(failure, mark))),
            None => Err(Box::new(
                self.refuse("the connection was given back before"),
            )),
        }
    }

    fn receive(
        self,
        mut answer: Response<Incoming>,
        upgrade: bool,
    ) -> Result<Response<ResponseBody>, Box<Failed>> {
        let status = answer.status();
        if let Err(problem) = adapt::check_answer(status, answer.headers_mut(), upgrade) {
            return Err(Box::new(self.refuse(problem)));
        }
        if let Some(Held::Http2(http2)) = &self.held {
            http2.load.answered.store(true, Relaxed);
        }
        let (link, slot) = (Arc::clone(&self.link), Arc::clone(&self.slot));
        let lease = match status {
            StatusCode::SWITCHING_PROTOCOLS => {
                self.become_tunnel();
                None
            }
            _ => Some(self),
        };
        Ok(answer.map(|body| ResponseBody::new(body, link, slot, lease)))
    }

    fn refuse(self, problem: &str) -> Failed {
        Failed {
            error: UpstreamError::Garbage {
                endpoint: self.link.endpoint,
                problem: problem.to_owned(),
            },
            request: None,
            under: None,
        }
    }

    /// The connection is a tunnel's now: it is never pooled, and counts until its socket closes.
    fn become_tunnel(mut self) {
        if let (Some(Held::Http1(http1)), under) = (self.held.take(), self.under.take()) {
            self.link.upgrade(Box::new((http1.permit, under)));
        }
    }

    fn explain(mut self, mut failure: TrySendError<Request<RequestBody>>, mark: u64) -> Failed {
        let link = &self.link;
        let request = failure.take_message();
        // An HTTP/2 server speaks first by rights, but it says SETTINGS and not a status line.
        let by_rights = self.is_http2() && !link.sample().starts_with("HTTP/");
        let spoke_first = request.is_some() && !self.reused && !by_rights && link.received() > 0;
        let error = if spoke_first {
            UpstreamError::Garbage {
                endpoint: link.endpoint,
                problem: format!("it spoke before it was asked: \"{}\"", link.sample()),
            }
        } else {
            classify(failure.error(), link, self.reused, mark)
        };
        self.close();
        Failed {
            error,
            request,
            under: self.under.take(),
        }
    }

    /// The answer has ended: the connection may serve again.
    pub(super) fn finish(mut self) {
        match self.held.take() {
            Some(Held::Http1(http1)) => self.slot.give_back(http1),
            Some(Held::Http2(http2)) => leave(&self.slot, &http2),
            None => {}
        }
    }

    fn close(&mut self) {
        match self.held.take() {
            Some(Held::Http1(http1)) => http1.link.close(),
            Some(Held::Http2(http2)) => leave(&self.slot, &http2),
            None => {}
        }
    }
}

fn leave(slot: &Arc<Slot>, http2: &Http2) {
    if http2.load.active.fetch_sub(1, Relaxed) == 1 {
        http2.load.idle_since.store(slot.core.clock.now(), Relaxed);
        slot.sweep();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.close();
    }
}

/// The first source of `error`, itself included, that is a `T`.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// `error` and its sources in one line, each thing said once.
fn in_words(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let more = source.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = source.source();
    }
    text
}

pub(super) fn classify(
    error: &hyper::Error,
    link: &Link,
    reused: bool,
    mark: u64,
) -> UpstreamError {
    let endpoint = link.endpoint;
    if let Some(body) = find::<Arc<BodyError>>(error) {
        return UpstreamError::BodyFromClient(Arc::clone(body));
    }
    if let Some(h2) = find::<h2::Error>(error) {
        let code = h2.reason().map(name_of);
        match code {
            Some("REFUSED_STREAM") if h2.is_reset() => {
                let how = "REFUSED_STREAM";
                return UpstreamError::RefusedStream { endpoint, how };
            }
            // Streams above the last one that it names were not processed (RFC 9113 6.8).
            Some("NO_ERROR") if h2.is_go_away() && h2.is_remote() => {
                let how = "GOAWAY";
                return UpstreamError::RefusedStream { endpoint, how };
            }
            Some(code) if h2.is_reset() && h2.is_remote() => {
                return UpstreamError::StreamReset { endpoint, code };
            }
            Some(_) if h2.is_library() => {
                return UpstreamError::Garbage {
                    endpoint,
                    problem: not_http(&in_words(h2), link),
                };
            }
            _ => {}
        }
    }
    if error.is_parse() {
        return UpstreamError::Garbage {
            endpoint,
            problem: not_http(&in_words(error), link),
        };
    }
    let trouble = link.trouble();
    UpstreamError::Closed(Box::new(Closed {
        endpoint,
        reused,
        answer_begun: link.received() > mark,
        explained: trouble
            .as_ref()
            .and_then(|trouble| trouble.explained.clone()),
        detail: Some(trouble.map_or_else(|| in_words(error), |trouble| trouble.detail)),
    }))
}

fn not_http(problem: &str, link: &Link) -> String {
    let sample = link.sample();
    // A TLS record of type alert or handshake, version 3.x (RFC 8446 section 5.1).
    if sample.starts_with("\\x15\\x03") || sample.starts_with("\\x16\\x03") {
        return format!("{problem}; it speaks TLS, and the configuration says plaintext");
    }
    format!("{problem}; what came last begins with \"{sample}\"")
}

/// Names of RFC 9113 section 7.
fn name_of(reason: h2::Reason) -> &'static str {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    let index = usize::try_from(u32::from(reason)).unwrap_or(usize::MAX);
    NAMES.get(index).copied().unwrap_or("unknown error code")
}

/// Why an answer's body stopped.
pub(super) fn cut_off(error: hyper::Error, link: &Link) -> BodyError {
    let reset = find::<h2::Error>(&error).filter(|h2| h2.is_reset() && h2.is_remote());
    if let Some(code) = reset.and_then(h2::Error::reason) {
        return BodyError::Reset {
            code: name_of(code),
        };
    }
    let trouble = link.trouble();
    let explained = trouble.map(|trouble| trouble.explained.unwrap_or(trouble.detail));
    BodyError::CutOff {
        explained: explained.unwrap_or_else(|| in_words(&error)),
        source: error,
    }
}
