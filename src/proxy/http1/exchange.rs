//! An answer on its way to the client.
//!
//! Owns: the pace of it: its body is asked for more only once what it gave has been taken.
//! Never: reads what the client sends.
//! Called by: `server`.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::io::AsyncWrite;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::batch::{Batch, poll_left};
use super::encode::{Coder, Length};
use super::wire::{Wire, lock};
use crate::proxy::alarm::Alarm;
use crate::proxy::body::AnswerBody;
use crate::proxy::guarded::Guarded;
use crate::upstream::BodyError;

/// Whom to give the connection once its protocol has changed.
pub(super) type Switch = Option<oneshot::Sender<Guarded>>;

/// An answer that is being sent.
pub(super) struct Answering {
    /// `None`: all of it has been taken from its source.
    body: Option<AnswerBody>,
    coder: Coder,
    takes_trailers: bool,
    /// The connection ends after it.
    pub(super) last: bool,
    pub(super) switch: Switch,
}

/// The answer, or what carries it, broke off.
pub(super) struct Cut;

enum Gathered {
    /// There may be more at once.
    More,
    Waiting,
    Ended,
    Cut,
}

/// What a body says of its length.
pub(super) fn length_of(body: &AnswerBody) -> Length {
    match (body.is_end_stream(), body.size_hint().exact()) {
        (true, _) => Length::None,
        (false, Some(length)) => Length::Known(length),
        (false, None) => Length::Unknown,
    }
}

impl Answering {
    /// `body` is dropped where nothing of it is to follow.
    pub(super) fn new(
        (body, coder): (AnswerBody, Coder),
        takes_trailers: bool,
        last: bool,
        switch: Switch,
    ) -> Self {
        Answering {
            body: Some(body).filter(|_| !coder.is_over()),
            coder,
            takes_trailers,
            last,
            switch,
        }
    }

    /// Sends what can be sent now. `batch`: what goes before the body.
    pub(super) fn poll(
        &mut self,
        batch: &mut Batch,
        (out, wire): (&mut Out, &Mutex<Wire>),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Cut>> {
        loop {
            let gathered = self.gather(batch, cx);
            let sent = out.poll_send(batch, wire, cx)?;
            match gathered {
                Gathered::Cut => return Poll::Ready(Err(Cut)),
                Gathered::More if sent.is_ready() => {}
                Gathered::Ended => return sent.map(Ok),
                Gathered::More | Gathered::Waiting => return Poll::Pending,
            }
        }
    }

    fn gather(&mut self, batch: &mut Batch, cx: &mut Context<'_>) -> Gathered {
        while let Some(body) = &mut self.body {
            if batch.is_full() {
                return Gathered::More;
            }
            let frame = match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => return Gathered::Waiting,
                Poll::Ready(frame) => frame,
            };
            let ended = body.is_end_stream();
            if !self.append(batch, frame, ended) {
                return Gathered::Cut;
            }
        }
        Gathered::Ended
    }

    /// False where the answer cannot be whole any more.
    fn append(
        &mut self,
        batch: &mut Batch,
        frame: Option<Result<Frame<Bytes>, BodyError>>,
        ended: bool,
    ) -> bool {
        let trailers = match frame.map(|frame| frame.map(Frame::into_data)) {
            Some(Err(_)) => return false,
            Some(Ok(Ok(data))) => {
                self.coder.data(batch, data);
                if !ended && !self.coder.is_over() {
                    return true;
                }
                None
            }
            Some(Ok(Err(other))) => other.into_trailers().ok().filter(|_| self.takes_trailers),
            None => None,
        };
        self.body = None;
        self.coder.end(batch, trailers.as_ref())
    }
}

/// What the client has not taken yet.
pub(super) struct Out {
    left: VecDeque<Bytes>,
    /// TLS may hold what it took.
    unflushed: bool,
    /// How long the client may take nothing.
    stall: Duration,
    blocked: Option<Instant>,
    alarm: Alarm,
}

impl Out {
    pub(super) fn new(stall: Duration) -> Self {
        Out {
            left: VecDeque::new(),
            unflushed: false,
            stall,
            blocked: None,
            alarm: Alarm::default(),
        }
    }

    /// To be sent before anything else.
    pub(super) fn push(&mut self, bytes: Bytes) {
        self.left.push_back(bytes);
        self.unflushed = true;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// How long the client may take nothing.
    pub(super) fn stall(&self) -> Duration {
        self.stall
    }

    /// Sends what was left, then the batch. Pending: some of it is left.
    pub(super) fn poll_send(
        &mut self,
        batch: &mut Batch,
        wire: &Mutex<Wire>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Cut>> {
        let mut wire = lock(wire);
        let Some(socket) = &mut wire.socket else {
            return Poll::Ready(Err(Cut));
        };
        let mut moved = false;
        if !self.left.is_empty() {
            let (wrote, left) = poll_left(socket, cx, &mut self.left);
            moved = wrote;
            if left.map_err(|_| Cut)?.is_pending() {
                batch.leave(&mut self.left);
            }
        }
        if self.left.is_empty() {
            match batch.write(socket, cx, &mut self.left) {
                Ok(wrote) => moved |= wrote,
                Err(_) => return Poll::Ready(Err(Cut)),
            }
            self.unflushed |= moved;
        }
        if !self.left.is_empty() {
            // The waker must be known to the socket.
            let (wrote, left) = poll_left(socket, cx, &mut self.left);
            moved |= wrote;
            if left.map_err(|_| Cut)?.is_pending() {
                return self.poll_stall(moved, cx);
            }
        }
        if self.unflushed {
            match Pin::new(socket).poll_flush(cx) {
                Poll::Pending => return self.poll_stall(moved, cx),
                Poll::Ready(flushed) => flushed.map_err(|_| Cut)?,
            }
            self.unflushed = false;
        }
        self.blocked = None;
        Poll::Ready(Ok(()))
    }

    /// Says that nothing follows, once all has left.
    pub(super) fn poll_end(
        &mut self,
        wire: &Mutex<Wire>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Cut>> {
        let mut wire = lock(wire);
        let Some(socket) = &mut wire.socket else {
            return Poll::Ready(Err(Cut));
        };
        match Pin::new(socket).poll_shutdown(cx) {
            Poll::Pending => self.poll_stall(false, cx),
            ended => ended.map_err(|_: io::Error| Cut),
        }
    }

    /// A client that takes nothing for too long is let go.
    fn poll_stall(&mut self, moved: bool, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        if moved {
            self.blocked = None;
        }
        let blocked = *self.blocked.get_or_insert_with(Instant::now);
        self.alarm.poll(blocked + self.stall, cx).map(|()| Err(Cut))
    }
}
