//! The client's socket under guard, where others read from it: deadlines, and an honest end.
//!
//! Owns: the bytes that were read before, the idle deadline, and how the socket is closed when an
//! answer was cut off.
//! Never: understands a byte.
//! Called by: `proxy::http2`, which hands it to h2; `proxy::http1`, for what follows a
//! switch of protocols.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::alarm::Alarm;
use super::control::Control;
use super::socket::Socket;

/// The socket as others see it.
pub(super) struct Guarded {
    stream: Socket,
    first: Bytes,
    control: Arc<Control>,
    /// How long nothing may be said.
    idle: Duration,
    /// How long the client may take nothing.
    stall: Duration,
    opened: Instant,
    /// When the last byte came, or the last write went on.
    moved: Instant,
    silent: Alarm,
    /// Since when the client takes nothing of what is written.
    blocked: Option<Instant>,
    /// Another timer, so that waiting to write does not put off a deadline of reading.
    stalled: Alarm,
}

impl Guarded {
    /// `first`: bytes that come before what the socket holds; `bounds`: how long nothing may be said
    /// while no request is under way, and how long the client may take nothing.
    pub(super) fn new(
        stream: Socket,
        first: Bytes,
        bounds: (Duration, Duration),
        control: Arc<Control>,
    ) -> Self {
        let opened = Instant::now();
        Guarded {
            stream,
            first,
            control,
            idle: bounds.0,
            stall: bounds.1,
            opened,
            moved: opened,
            silent: Alarm::default(),
            blocked: None,
            stalled: Alarm::default(),
        }
    }

    /// Since when it is guarded.
    pub(super) fn opened(&self) -> Instant {
        self.opened
    }

    /// Nothing came: is that for too long?
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.silent.poll(self.moved + self.idle, cx));
            let busy = self.blocked.is_some() || self.control.in_flight.load(Ordering::Relaxed) > 0;
            if !busy {
                return Poll::Ready(());
            }
            self.moved = Instant::now();
        }
    }

    /// A client that takes nothing for too long is let go.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let blocked = *self.blocked.get_or_insert_with(Instant::now);
        ready!(self.stalled.poll(blocked + self.stall, cx));
        self.control.set_reset();
        Poll::Ready(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client took no byte of its answers for too long",
        ))
    }

    /// TLS takes what is written into a buffer of its own, so that it may be in a flush or an end
    /// that it waits for the client: one that takes too long is as bad as a write.
    fn went_out<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_pending() {
            return self.poll_stall(cx).map(Err);
        }
        self.blocked = None;
        result
    }

    fn wrote(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if result.is_ready() {
            self.moved = Instant::now();
        }
        self.went_out(cx, result)
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.first.is_empty() {
            let take = this.first.len().min(buf.remaining());
            buf.put_slice(&this.first.split_to(take));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            // An end of file: the idle connection is closed politely.
            Poll::Pending => this.poll_silence(cx).map(Ok),
            Poll::Ready(Ok(())) => {
                if buf.filled().len() > before {
                    this.moved = Instant::now();
                    this.control.hear(this.moved - this.opened);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, data);
        self.wrote(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.went_out(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.control.is_reset() {
            // A clean end of file would make what was cut off look complete.
            return Poll::Ready(Ok(()));
        }
        let ended = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.went_out(cx, ended)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if self.control.is_reset() {
            // Closing with a linger of zero sends RST instead of FIN.
            self.stream.reset();
        }
    }
}
