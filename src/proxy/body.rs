//! Bodies on their way through: counted, bounded in time, and never taken for whole when they are
//! not.
//!
//! Owns: [`AnswerBody`], what hyper sends to the client, and [`Inbound`], what the upstream is sent.
//! Never: holds more than the frame in hand.
//! Called by: `proxy::forward`.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

use super::record::{Record, chain};
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
    /// The rule's timeout covers the whole answer (ISTIO.md V13).
    deadline: Option<(Pin<Box<Sleep>>, Duration)>,
    idle: IdleTimer,
    done: bool,
}

impl AnswerBody {
    pub(super) fn own(bytes: Bytes) -> Self {
        AnswerBody::Own((!bytes.is_empty()).then_some(bytes))
    }

    /// `deadline`: when the whole answer must have come, and the bound that set it.
    pub(super) fn relay(
        body: ResponseBody,
        record: Record,
        deadline: Option<(Instant, Duration)>,
    ) -> Self {
        let idle = IdleTimer::new(record.connection().stream_idle);
        let deadline = deadline.map(|(at, bound)| (Box::pin(tokio::time::sleep_until(at)), bound));
        let mut relayed = Box::new(Relayed {
            body,
            record,
            deadline,
            idle,
            done: false,
        });
        if relayed.body.is_end_stream() {
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
        if let Some((deadline, bound)) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            let why = format!("the answer was not complete after {bound:?}");
            return Poll::Ready(self.broke(Flags::UT, "response_timeout", why));
        }
        ready!(self.idle.poll(cx));
        let why = format!("no byte came from the upstream for {:?}", self.idle.bound);
        Poll::Ready(self.broke(Flags::SI, "stream_idle_timeout", why))
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
                if let Some(data) = frame.data_ref() {
                    self.record.sent += data.remaining() as u64;
                }
                if let Some(trailers) = frame.trailers_ref() {
                    self.record.grpc_status(grpc_status(trailers));
                }
                if self.body.is_end_stream() {
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

/// gRPC's outcome, from an answer's head or trailers.
pub(super) fn grpc_status(headers: &http::HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

impl Drop for Relayed {
    fn drop(&mut self) {
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

/// How far a request's body has come; shared with whoever waits for its end.
#[derive(Default)]
pub(super) struct Received {
    /// Bytes of it that went by.
    pub(super) bytes: AtomicU64,
    done: AtomicBool,
    ended: Notify,
}

impl Received {
    /// Returns when the whole body has been read, or will never be.
    pub(super) async fn ended(&self) {
        let ended = self.ended.notified();
        if !self.done.load(Ordering::Relaxed) {
            ended.await;
        }
    }
}

/// A request's body on its way to the upstream.
pub(super) struct Inbound {
    body: Incoming,
    received: Arc<Received>,
    idle: IdleTimer,
}

impl Drop for Inbound {
    fn drop(&mut self) {
        self.received.done.store(true, Ordering::Relaxed);
        self.received.ended.notify_waiters();
    }
}

impl Inbound {
    pub(super) fn new(body: Incoming, received: Arc<Received>, idle: Duration) -> Self {
        Inbound {
            body,
            received,
            idle: IdleTimer::new(idle),
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
                if let Some(data) = frame.data_ref() {
                    this.received
                        .bytes
                        .fetch_add(data.remaining() as u64, Ordering::Relaxed);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(Some(Err(BodyError::Client(error.into()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Fires when nothing moved for `bound`. Costs nothing until something has to be waited for, and
/// is moved only when it fires.
struct IdleTimer {
    bound: Duration,
    last: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl IdleTimer {
    fn new(bound: Duration) -> Self {
        IdleTimer {
            bound,
            last: None,
            sleep: None,
        }
    }

    fn moved(&mut self) {
        self.last = None;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let due = *self.last.get_or_insert_with(Instant::now) + self.bound;
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        loop {
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
    }
}
