//! The client's socket under guard: strict framing as bytes pass, deadlines, and an honest end.
//!
//! Owns: the bytes that sniffing read, the strictness check, the idle and head deadlines, and how
//! the socket is closed when an answer was cut off.
//! Never: understands a request beyond its framing.
//! Called by: `proxy::serve`, which hands it to hyper.
//!
//! Why a poison byte: hyper accepts some heads that we refuse. A violation is found before its
//! head is complete, and what hyper reads from there on is a NUL, which no parser accepts; hyper's
//! own 400 is then replaced by one that says why.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::control::{Control, Fault};
use super::socket::Socket;
use super::strict::{Strict, Verdict};
use crate::model::Limits;

/// hyper's own refusal is no longer than this: a status line, a length of nothing, and close.
const BARE: usize = 90;

/// What hyper reads once the client has broken the rules.
const POISON: u8 = 0;
const DOSE: &[u8] = &[POISON; 4096];

/// The socket as hyper sees it.
pub(super) struct Guarded {
    stream: Socket,
    first: Bytes,
    strict: Option<Strict>,
    poisoned: bool,
    control: Arc<Control>,
    deadlines: Deadlines,
    /// Our own refusal, while it is written in place of hyper's.
    refusal: Option<Bytes>,
    terse: bool,
}

struct Deadlines {
    head: Duration,
    idle: Duration,
    stall: Duration,
    /// When the last byte came, or the last write went on.
    moved: Instant,
    head_began: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
    /// Since when the client takes nothing of what is written.
    blocked: Option<Instant>,
    /// Another timer, so that waiting to write does not put off a deadline of reading.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Guarded {
    /// `strict`: for HTTP/1; HTTP/2 has its own framing.
    pub(super) fn new(
        stream: Socket,
        first: Bytes,
        strict: Option<Strict>,
        limits: &Limits,
        terse: bool,
        control: Arc<Control>,
    ) -> Self {
        let deadlines = Deadlines {
            head: limits.head_timeout,
            idle: limits.idle_timeout,
            stall: limits.stream_idle_timeout,
            moved: Instant::now(),
            head_began: None,
            sleep: None,
            blocked: None,
            stalled: None,
        };
        Guarded {
            stream,
            first,
            strict,
            poisoned: false,
            control,
            deadlines,
            refusal: None,
            terse,
        }
    }

    /// Reads away what the client still sends, so that closing does not reset the connection.
    pub(super) async fn discard(mut self) {
        let mut waste = [0_u8; 4096];
        while matches!(self.stream.read(&mut waste).await, Ok(1..)) {}
    }

    /// Looks at what was just read; from a violation on there is poison instead.
    fn inspect(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let Some(strict) = &mut self.strict else {
            return;
        };
        if self.control.is_opaque() {
            self.strict = None;
            return;
        }
        let Some(fresh) = buf.filled_mut().get_mut(before..) else {
            return;
        };
        match strict.inspect(fresh) {
            Verdict::Clean => {
                let in_head = strict.in_head();
                self.deadlines.head_began = match (in_head, self.deadlines.head_began) {
                    (true, None) => Some(self.deadlines.moved),
                    (true, began) => began,
                    (false, _) => None,
                };
            }
            Verdict::Refuse { at, reason } => {
                self.control.set_fault(Fault::Violation(reason));
                self.poisoned = true;
                if let Some(byte) = fresh.get_mut(at) {
                    *byte = POISON;
                }
                buf.set_filled(before.saturating_add(at).saturating_add(1));
            }
        }
    }

    /// Nothing came: is a deadline over?
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Late> {
        let deadlines = &mut self.deadlines;
        if self.control.is_opaque() {
            // What came early looked like a head; a tunnel has none.
            deadlines.head_began = None;
        }
        loop {
            let (due, late) = match deadlines.head_began {
                Some(began) => (began + deadlines.head, Late::Head),
                None => (deadlines.moved + deadlines.idle, Late::Idle),
            };
            let sleep = deadlines
                .sleep
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            // The timer is moved only when it fires or must fire earlier: not for every request.
            if sleep.deadline() > due {
                sleep.as_mut().reset(due);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if Instant::now() >= due {
                let busy = deadlines.blocked.is_some()
                    || self.control.in_flight.load(Ordering::Relaxed) > 0;
                if late == Late::Idle && busy {
                    deadlines.moved = Instant::now();
                    continue;
                }
                deadlines.sleep = None;
                return Poll::Ready(late);
            }
            sleep.as_mut().reset(due);
        }
    }

    /// hyper's bare refusal becomes one that says why.
    fn replace_refusal(&mut self, head: &[u8]) -> bool {
        if self.refusal.is_some() {
            return true;
        }
        // An answer to an earlier request is not hyper's refusal, whatever its status.
        let refuses = head.len() <= BARE || self.control.was_told();
        if !self.poisoned || !refuses || !head.starts_with(b"HTTP/1.1 4") {
            return false;
        }
        let Some(fault) = self.control.fault() else {
            return false;
        };
        self.refusal = Some(super::answer::refusal(&fault, self.terse));
        true
    }

    fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(bytes) = self.refusal.as_mut().filter(|bytes| bytes.has_remaining()) {
            match Pin::new(&mut self.stream).poll_write(cx, bytes) {
                Poll::Pending => return self.poll_stall(cx).map_ok(|_| ()),
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(sent)) => bytes.advance(sent),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
            self.deadlines.blocked = None;
        }
        Poll::Ready(Ok(()))
    }

    /// A client that takes nothing for too long is let go.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let deadlines = &mut self.deadlines;
        let due = *deadlines.blocked.get_or_insert_with(Instant::now) + deadlines.stall;
        let sleep = deadlines
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        loop {
            std::task::ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= due {
                break;
            }
            // It was set for an earlier wait: it is moved only when it fires.
            sleep.as_mut().reset(due);
        }
        self.control.set_reset();
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client took no byte of its answer for too long",
        )))
    }

    fn wrote(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match result {
            Poll::Pending => self.poll_stall(cx),
            ready => {
                self.deadlines.moved = Instant::now();
                self.deadlines.blocked = None;
                ready
            }
        }
    }

    /// TLS takes what is written into a buffer of its own, so that it is here that it waits for the
    /// client: a flush or an end that takes too long is as bad as a write.
    fn went_out(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        match result {
            Poll::Pending => self.poll_stall(cx).map_ok(drop),
            ready => {
                self.deadlines.blocked = None;
                ready
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Late {
    Head,
    Idle,
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        if this.poisoned {
            // Plenty of it: where hyper skips bytes up to a bound, it meets that bound at once.
            let dose = buf.remaining().min(DOSE.len());
            buf.put_slice(DOSE.get(..dose).unwrap_or(DOSE));
            return Poll::Ready(Ok(()));
        }
        if this.first.is_empty() {
            match Pin::new(&mut this.stream).poll_read(cx, buf) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    return match std::task::ready!(this.poll_deadline(cx)) {
                        // An end of file: hyper closes the idle connection politely.
                        Late::Idle => Poll::Ready(Ok(())),
                        Late::Head => {
                            this.control
                                .set_fault(Fault::HeadTimeout(this.deadlines.head));
                            this.poisoned = true;
                            buf.put_slice(&[POISON]);
                            Poll::Ready(Ok(()))
                        }
                    };
                }
            }
        } else {
            let take = this.first.len().min(buf.remaining());
            buf.put_slice(&this.first.split_to(take));
        }
        let read = buf.filled().len().saturating_sub(before);
        if read > 0 {
            this.deadlines.moved = Instant::now();
            this.control
                .received
                .fetch_add(read as u64, Ordering::Relaxed);
            this.inspect(buf, before);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.replace_refusal(data) {
            std::task::ready!(this.poll_refusal(cx))?;
            return Poll::Ready(Ok(data.len()));
        }
        let result = Pin::new(&mut this.stream).poll_write(cx, data);
        this.wrote(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if slices
            .first()
            .is_some_and(|first| this.replace_refusal(first))
        {
            std::task::ready!(this.poll_refusal(cx))?;
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.wrote(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_refusal(cx))?;
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.went_out(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.control.is_reset() {
            // A clean end of file would make a cut-off answer look complete (RFC 9112 section 8).
            return Poll::Ready(Ok(()));
        }
        let ended = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.went_out(cx, ended)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // Whoever drops it in the middle of an answer, as the end of a drain does, cuts that off.
        let control = &self.control;
        let cut_off = control.is_http1()
            && !control.is_opaque()
            && (self.deadlines.blocked.is_some() || control.in_flight.load(Ordering::Relaxed) > 0);
        if cut_off || control.is_reset() {
            // Closing with a linger of zero sends RST instead of FIN.
            self.stream.reset();
        }
    }
}
