//! HTTP/2 to an upstream, whose frames h2 reads and writes: a connection, how busy it is, and its errors.
//!
//! Owns: [`Http2`], [`Load`], how a request gets its stream, and what h2's errors mean to us.
//! Never: picks or opens a connection.
//! Called by: `pool` (keeps them), `connect` (makes them), `connection` (sends on them), `body`.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Response};
use http_body::Body;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::body::RequestBody;
use super::connection::{closed, not_http};
use super::error::{BodyError, UpstreamError};
use super::pool::{Permit, Slot};
use super::wire::Link;
use crate::http2::{Outflow, Reset, Stopped, reason};

/// A connection for many requests. Clones are the same connection.
#[derive(Clone)]
pub(super) struct Http2 {
    sender: SendRequest<Bytes>,
    pub(super) link: Arc<Link>,
    pub(super) load: Arc<Load>,
}

/// How busy an HTTP/2 connection is.
pub(super) struct Load {
    active: AtomicUsize,
    /// Of the active ones, those that have a stream.
    begun: AtomicUsize,
    served: AtomicU64,
    /// It has brought an answer: from then on the server may close it as idle.
    pub(super) answered: AtomicBool,
    max_streams: AtomicUsize,
    /// A stream has ended, or the connection.
    room: Notify,
    ended: AtomicBool,
    /// Milliseconds of the upstream's clock.
    idle_since: AtomicU64,
    _permit: Permit,
}

impl Load {
    /// `max_streams`: what is assumed until the server's SETTINGS came.
    pub(super) fn new(max_streams: usize, now: u64, permit: Permit) -> Load {
        Load {
            active: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            served: AtomicU64::new(0),
            answered: AtomicBool::new(false),
            max_streams: AtomicUsize::new(max_streams),
            room: Notify::new(),
            ended: AtomicBool::new(false),
            idle_since: AtomicU64::new(now),
            _permit: permit,
        }
    }

    /// The server allows so many streams at once (RFC 9113 section 6.5.2).
    pub(super) fn allows(&self, max_streams: usize) {
        if self.max_streams.load(Relaxed) != max_streams {
            self.max_streams.store(max_streams, Relaxed);
            self.room.notify_waiters();
        }
    }

    /// The connection is at its end.
    pub(super) fn end(&self) {
        self.ended.store(true, Relaxed);
        self.room.notify_waiters();
    }

    pub(super) fn has_room(&self) -> bool {
        self.active.load(Relaxed) < self.max_streams.load(Relaxed)
    }

    /// Whether a request is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.active.load(Relaxed) > 0
    }

    /// Since when there has been no stream; `None` while there is one.
    pub(super) fn idle_since(&self) -> Option<u64> {
        (!self.is_busy()).then(|| self.idle_since.load(Relaxed))
    }

    /// Takes a place and returns how many requests came before.
    pub(super) fn enter(&self) -> u64 {
        self.active.fetch_add(1, Relaxed);
        self.served.fetch_add(1, Relaxed)
    }

    /// Takes one of the streams that the server allows; true at the connection's end too.
    fn begin(&self) -> bool {
        let room = self.begun.load(Relaxed) < self.max_streams.load(Relaxed);
        let may = room || self.ended.load(Relaxed);
        if may {
            self.begun.fetch_add(1, Relaxed);
        }
        may
    }

    /// The same once there is one.
    async fn begun(&self) {
        loop {
            let mut room = pin!(self.room.notified());
            // Registered before it looks, so that no stream's end is missed.
            room.as_mut().enable();
            if self.begin() {
                return;
            }
            room.await;
        }
    }
}

impl Http2 {
    /// An open connection, which somebody drives.
    pub(super) fn new(sender: SendRequest<Bytes>, link: Arc<Link>, load: Arc<Load>) -> Http2 {
        Http2 { sender, link, load }
    }

    /// No request can be sent on it any more.
    pub(super) fn is_closed(&mut self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        matches!(self.sender.poll_ready(&mut nobody), Poll::Ready(Err(_)))
    }
}

/// A request's place on a connection, taken by [`Load::enter`] and left when this is dropped.
pub(super) struct Stream {
    pub(super) http2: Http2,
    slot: Arc<Slot>,
    begun: bool,
}

/// Why there is no answer.
pub(super) enum Unanswered {
    /// The request's body broke off.
    Body(Arc<BodyError>),
    /// The stream or its connection ended.
    Broken(h2::Error),
}

impl Stream {
    pub(super) fn entered(http2: Http2, slot: &Arc<Slot>) -> Stream {
        Stream {
            http2,
            slot: Arc::clone(slot),
            begun: false,
        }
    }

    /// Waits until the server allows one more stream.
    ///
    /// # Errors
    /// Where the connection takes no more requests.
    pub(super) async fn begin(&mut self) -> Result<(), h2::Error> {
        if !self.http2.load.begin() {
            // Boxed, as it is rare.
            Box::pin(self.http2.load.begun()).await;
        }
        self.begun = true;
        let mut nobody = Context::from_waker(Waker::noop());
        match self.http2.sender.poll_ready(&mut nobody) {
            Poll::Ready(ready) => ready,
            // Only where this clone had sent a request before.
            Poll::Pending => Ok(()),
        }
    }

    /// Sends `head` and `body`, and waits for the answer's head. What is left of the body is sent
    /// beside the answer. Dropped, both are.
    pub(super) async fn ask(
        &mut self,
        head: Request<()>,
        body: RequestBody,
    ) -> Result<Response<h2::RecvStream>, Unanswered> {
        let is_whole = body.is_end_stream();
        let (answer, stream) = match self.http2.sender.send_request(head, is_whole) {
            Ok(sent) => sent,
            Err(error) => return Err(Unanswered::Broken(error)),
        };
        let mut rest = Rest(None);
        if !is_whole {
            let mut out = Outflow::new(stream, body);
            let begun = std::future::poll_fn(|cx| Poll::Ready(out.poll_send(cx))).await;
            match begun {
                Poll::Ready(Err(Stopped::Body(error))) => return Err(Unanswered::Body(error)),
                // What the stream ended with the answer tells, which may have come before that.
                Poll::Ready(_) => {}
                Poll::Pending => rest = Rest(Some(tokio::spawn(out.send()))),
            }
        }
        match answer.await {
            Ok(answer) => {
                rest.0 = None;
                Ok(answer)
            }
            Err(error) => Err(match rest.failure().await {
                Some(body) => Unanswered::Body(body),
                None => Unanswered::Broken(error),
            }),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let load = &self.http2.load;
        if self.begun {
            load.begun.fetch_sub(1, Relaxed);
            load.room.notify_one();
        }
        if load.active.fetch_sub(1, Relaxed) == 1 {
            load.idle_since.store(self.slot.core.clock.now(), Relaxed);
            self.slot.sweep();
        }
    }
}

/// What sends the rest of a body, ended with the request that waits for its answer.
struct Rest(Option<JoinHandle<Result<(), Stopped<Arc<BodyError>>>>>);

impl Rest {
    /// Why the body itself broke off, if it did.
    async fn failure(&mut self) -> Option<Arc<BodyError>> {
        let sending = self.0.as_mut().filter(|sending| sending.is_finished())?;
        match sending.await {
            Ok(Err(Stopped::Body(error))) => Some(error),
            _ => None,
        }
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        if let Some(sending) = &self.0 {
            sending.abort();
        }
    }
}

impl Reset for BodyError {
    fn reason(&self) -> h2::Reason {
        reason(self)
    }
}

impl Reset for Arc<BodyError> {
    fn reason(&self) -> h2::Reason {
        reason(&**self)
    }
}

pub(super) fn classify(error: &h2::Error, link: &Link, reused: bool, mark: u64) -> UpstreamError {
    let endpoint = link.endpoint;
    match error.reason().map(name_of) {
        Some("REFUSED_STREAM") if error.is_reset() => {
            let how = "REFUSED_STREAM";
            UpstreamError::RefusedStream { endpoint, how }
        }
        // Streams above the last one that it names were not processed (RFC 9113 6.8).
        Some("NO_ERROR") if error.is_go_away() && error.is_remote() => {
            let how = "GOAWAY";
            UpstreamError::RefusedStream { endpoint, how }
        }
        Some(code) if error.is_reset() && error.is_remote() => {
            UpstreamError::StreamReset { endpoint, code }
        }
        Some(_) if error.is_library() => UpstreamError::Garbage {
            endpoint,
            problem: not_http(&error.to_string(), link),
        },
        _ => closed(&error.to_string(), link, reused, mark),
    }
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
pub(super) fn cut_off(error: h2::Error, link: &Link) -> BodyError {
    if let Some(code) = error
        .reason()
        .filter(|_| error.is_reset() && error.is_remote())
    {
        return BodyError::Reset {
            code: name_of(code),
        };
    }
    super::connection::cut_off(error.to_string(), Box::new(error), link)
}
