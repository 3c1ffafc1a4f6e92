//! Bodies on their way through: counted, bounded in time, and never taken for whole when they are
//! not.
//!
//! Owns: [`AnswerBody`], what the client is sent, and [`Inbound`], what the upstream is sent.
//! Never: holds more than the frame in hand.
//! Called by: `proxy::forward`.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::connection::Connection;
use super::control::Control;
use super::grpc::Messages;
use super::http1::Content;
use super::received::Received;
use super::record::{Record, chain, grpc_status_in};
use crate::telemetry::Flags;
use crate::upstream::{BodyError, ResponseBody};

/// The body of an answer.
pub(super) enum AnswerBody {
    /// Made by sortie.
    Own(Option<Bytes>),
    /// An upstream's, as it comes.
    Upstream(Box<Relayed>),
}

/// An upstream's answer on its way to the client.
pub(super) struct Relayed {
    body: ResponseBody,
    record: Record,
    /// Counts messages, where it is gRPC.
    messages: Option<Messages>,
    /// The rule's timeout covers the whole answer (ISTIO.md V13).
    deadline: Option<Deadline>,
    idle: IdleTimer,
    done: bool,
}

/// Bounds an answer from the request's end on, which may come after the answer's head.
struct Deadline {
    /// When the request began; its end too, where it has no body.
    began: Instant,
    bound: Duration,
    /// Only once the answer has to be waited for.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    fn poll(&mut self, received: Option<&Received>, cx: &mut Context<'_>) -> Poll<()> {
        let from = match received {
            None => Some(self.began),
            Some(received) => received.ended_at(),
        };
        let Some(from) = from else {
            return Poll::Pending;
        };
        self.sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(from + self.bound)))
            .as_mut()
            .poll(cx)
    }
}

impl AnswerBody {
    pub(super) fn own(bytes: Bytes) -> Self {
        AnswerBody::Own((!bytes.is_empty()).then_some(bytes))
    }

    /// `deadline`: when the request began, and how long after its end the answer may be whole.
    pub(super) fn relay(
        body: ResponseBody,
        record: Record,
        deadline: Option<(Instant, Duration)>,
    ) -> Self {
        let idle = IdleTimer::new(record.connection().stream_idle, record.received.clone());
        let deadline = deadline.map(|(began, bound)| Deadline {
            began,
            bound,
            sleep: None,
        });
        let mut relayed = Box::new(Relayed {
            messages: record.is_grpc().then(Messages::default),
            body,
            record,
            deadline,
            idle,
            done: false,
        });
        // RFC 9110 sections 15.3.5 and 15.4.5: these have no content, even where HTTP/2 says the end
        // in a frame of its own.
        let bare = matches!(relayed.record.code, 204 | 304);
        if bare || relayed.body.is_end_stream() || relayed.is_enough() {
            relayed.finish();
        }
        AnswerBody::Upstream(relayed)
    }
}

impl Relayed {
    fn finish(&mut self) {
        self.done = true;
        self.record.tell(Some(self.body.stats()));
    }

    fn broke(&mut self, flag: Flags, details: &'static str, why: String) -> BodyError {
        let error = BodyError::Client(why.clone().into());
        // The client must not take what it has for the whole answer.
        self.record.connection().control.set_reset();
        tracing::warn!(
            peer = %self.record.connection().peer,
            upstream = %self.body.stats().name(),
            "an answer was cut off: {why}",
        );
        self.record.broke(flag, details, why);
        self.finish();
        error
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let received = self.record.received.as_deref();
        if let Some(deadline) = &mut self.deadline
            && deadline.poll(received, cx).is_ready()
        {
            let bound = deadline.bound;
            let why = format!("the answer was not complete after {bound:?}");
            return Poll::Ready(self.broke(Flags::UT, "response_timeout", why));
        }
        ready!(self.idle.poll(cx));
        let why = format!("no byte came from the upstream for {:?}", self.idle.bound);
        Poll::Ready(self.broke(Flags::SI, "stream_idle_timeout", why))
    }

    /// An HTTP/2 upstream may say the end in a frame of its own, for which HTTP/1 never asks once it
    /// has what `Content-Length` promised.
    fn is_enough(&self) -> bool {
        self.record.connection().control.is_http1() && self.body.size_hint().exact() == Some(0)
    }

    fn poll_relay(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.done {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => self.poll_late(cx).map(|error| Some(Err(error))),
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.idle.moved();
                self.record.connection().control.moved();
                if let Some(data) = frame.data_ref() {
                    self.record.sent += data.remaining() as u64;
                    if let Some(messages) = &mut self.messages {
                        self.record.messages += messages.feed(data);
                    }
                }
                if let Some(trailers) = frame.trailers_ref() {
                    self.record.grpc_status(grpc_status_in(trailers));
                }
                // Nothing follows trailers, and nobody asks once more.
                if frame.is_trailers() || self.body.is_end_stream() {
                    self.finish();
                } else if self.is_enough() {
                    // Takes the end where it is here already; else the stream is cancelled, which
                    // no longer matters to anybody.
                    let _ = Pin::new(&mut self.body).poll_frame(cx);
                    self.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                let why = chain(&error);
                Poll::Ready(Some(Err(self.broke(
                    Flags::UC,
                    "upstream_reset_after_response_started{connection_termination}",
                    why,
                ))))
            }
        }
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        // Nobody takes a body for a HEAD: that is its end.
        if !self.done && self.record.is_head() {
            self.finish();
        }
        if !self.done {
            self.record
                .broke(Flags::DC, "downstream_remote_disconnect", String::new());
            self.finish();
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            AnswerBody::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            AnswerBody::Upstream(relayed) => relayed.poll_relay(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            AnswerBody::Own(bytes) => bytes.is_none(),
            AnswerBody::Upstream(relayed) => relayed.done,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            AnswerBody::Own(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            AnswerBody::Upstream(relayed) => relayed.body.size_hint(),
        }
    }
}

/// A request's body on its way to the upstream.
pub(super) struct Inbound {
    body: Content,
    control: Arc<Control>,
    received: Arc<Received>,
    /// Counts messages, where it is gRPC.
    messages: Option<Messages>,
    idle: IdleTimer,
}

impl Drop for Inbound {
    fn drop(&mut self) {
        self.received.end(Instant::now());
    }
}

impl Inbound {
    pub(super) fn new(
        body: Content,
        received: Arc<Received>,
        is_grpc: bool,
        connection: &Connection,
    ) -> Self {
        let idle = IdleTimer::new(connection.stream_idle, Some(Arc::clone(&received)));
        Inbound {
            body,
            control: Arc::clone(&connection.control),
            received,
            messages: is_grpc.then(Messages::default),
            idle,
        }
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Pending => {
                ready!(this.idle.poll(cx));
                let why = format!(
                    "the client sent no byte of its body for {:?}",
                    this.idle.bound
                );
                Poll::Ready(Some(Err(BodyError::Client(why.into()))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Ok(frame))) => {
                this.idle.moved();
                this.control.moved();
                if let Some(data) = frame.data_ref() {
                    this.received
                        .bytes
                        .fetch_add(data.remaining() as u64, Ordering::Relaxed);
                    if let Some(messages) = &mut this.messages {
                        let begun = messages.feed(data);
                        this.received.messages.fetch_add(begun, Ordering::Relaxed);
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(BodyError::Client(error)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Fires when nothing moved for `bound`, or a little longer. Costs nothing until something has to be
/// waited for, and is moved only when it fires.
struct IdleTimer {
    bound: Duration,
    /// Where the other direction tells of itself; `None` where there is none.
    both: Option<Arc<Received>>,
    /// Since when this direction is waited for, and what had moved by then.
    since: Option<(Instant, u64)>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl IdleTimer {
    fn new(bound: Duration, both: Option<Arc<Received>>) -> Self {
        IdleTimer {
            bound,
            both,
            since: None,
            sleep: None,
        }
    }

    fn moved(&mut self) {
        self.since = None;
        if let Some(both) = &self.both {
            both.moved();
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let moves = self.both.as_deref().map_or(0, Received::moves);
        let (since, mut before) = *self.since.get_or_insert_with(|| (Instant::now(), moves));
        let mut due = since + self.bound;
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        loop {
            ready!(sleep.as_mut().poll(cx));
            let now = Instant::now();
            if now >= due {
                if moves == before {
                    return Poll::Ready(());
                }
                // The other direction went on meanwhile.
                before = moves;
                self.since = Some((now, moves));
                due = now + self.bound;
            }
            sleep.as_mut().reset(due);
        }
    }
}
