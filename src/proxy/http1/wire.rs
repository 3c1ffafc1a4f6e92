//! The client's socket, and how far its bytes are read.
//!
//! Owns: the socket, the bytes that were read and not used, the check on all of them; content and
//! trailers taken out of their framing; `100 Continue`.
//! Never: parses a request's head, or knows its answer.
//! Called by: `server`, and `content` while there is a body to read.
//!
//! Why it is shared: whoever sends a request on reads its body straight from here, in a task of its
//! own or not, with no channel between.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use http_body::Frame;
use tokio::io::AsyncWrite;

use super::head::read_trailers;
use crate::proxy::control::{Control, Fault};
use crate::proxy::socket::Socket;
use crate::proxy::strict::{Piece, Strict};

/// What is said to a client that waits to be asked for its body (RFC 9110 section 10.1.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A wire that a connection shares with the body of its request.
pub(super) type Shared = Arc<Mutex<Wire>>;

/// The wire, for a moment. No panic leaves it half changed.
pub(super) fn lock(wire: &Mutex<Wire>) -> MutexGuard<'_, Wire> {
    wire.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See the file's head.
pub(super) struct Wire {
    /// `None`: it belongs to another protocol, or the connection has ended.
    pub(super) socket: Option<Socket>,
    /// Bytes that were read and not looked at.
    pub(super) rest: Bytes,
    pub(super) strict: Strict,
    control: Arc<Control>,
    /// Bytes read so far.
    pub(super) received: u64,
    /// What is not yet said of [`CONTINUE`] to a client that waits for it.
    interim: &'static [u8],
    trailers: BytesMut,
    /// Somebody may still read the body.
    held: bool,
    /// The body's end will never come.
    pub(super) broken: bool,
    /// Woken when the body has ended, or nobody reads it any more.
    waker: Option<Waker>,
}

impl Wire {
    pub(super) fn new(socket: Socket, first: Bytes, strict: Strict, control: Arc<Control>) -> Self {
        Wire {
            socket: Some(socket),
            received: first.len() as u64,
            rest: first,
            strict,
            control,
            interim: b"",
            trailers: BytesMut::new(),
            held: false,
            broken: false,
            waker: None,
        }
    }

    /// Reads once, when nothing is left; false at the end of the stream.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let Some(socket) = &mut self.socket else {
            return Poll::Ready(Ok(false));
        };
        self.rest = ready!(socket.poll_chunk(cx))?;
        self.received += self.rest.len() as u64;
        Poll::Ready(Ok(!self.rest.is_empty()))
    }

    /// A body begins, which somebody has in hand. `expects`: only when it is read does its client
    /// begin to send it.
    pub(super) fn begin(&mut self, expects: bool) {
        self.held = true;
        self.interim = if expects { CONTINUE } else { b"" };
    }

    /// Nobody reads the body any more.
    pub(super) fn let_go(&mut self) {
        self.held = false;
        self.wake();
    }

    /// True while somebody else reads from the socket.
    pub(super) fn is_lent(&self) -> bool {
        self.held && self.strict.in_body()
    }

    /// Wakes the connection once the body has ended. For as long as `waker` is `None` it looks
    /// itself.
    pub(super) fn tell(&mut self, waker: Option<&Waker>) {
        match (&mut self.waker, waker) {
            (Some(old), Some(new)) => old.clone_from(new),
            (slot, waker) => *slot = waker.cloned(),
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// An answer begins: who was not asked for his body until now will not be. Gives what is left
    /// of having asked him, which comes first.
    pub(super) fn answers(&mut self) -> &'static [u8] {
        match std::mem::take(&mut self.interim) {
            whole if whole.len() == CONTINUE.len() => b"",
            left => left,
        }
    }

    /// Reads away what is here of a body that nobody reads; true where that was all of it.
    pub(super) fn poll_drained(&mut self, cx: &mut Context<'_>) -> bool {
        self.interim = b"";
        while self.strict.in_body() && !self.broken {
            if self.poll_body(cx).is_pending() {
                return false;
            }
        }
        !self.broken
    }

    /// The next frame of the body.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        while self.strict.in_body() && !self.broken {
            ready!(self.poll_interim(cx)?);
            if self.rest.is_empty() {
                match ready!(self.poll_fill(cx)) {
                    Ok(true) => {}
                    Ok(false) => return self.broke(BodyFault::Left),
                    Err(error) => return self.broke(BodyFault::Socket(error)),
                }
            }
            match self.step() {
                Ok(None) => {}
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Err(fault) => {
                    let words = fault.words();
                    self.control.set_fault(fault);
                    return self.broke(BodyFault::Rules(words));
                }
            }
        }
        Poll::Ready(None)
    }

    /// Takes bytes of one kind.
    fn step(&mut self) -> Result<Option<Frame<Bytes>>, Fault> {
        let (piece, count) = self.strict.next(&self.rest).map_err(Fault::Violation)?;
        let bytes = self.rest.split_to(count);
        if !self.strict.in_body() {
            self.wake();
        }
        match piece {
            Piece::Data => return Ok(Some(Frame::data(bytes))),
            Piece::Trailers => {
                self.trailers.extend_from_slice(&bytes);
                if !self.strict.in_body() {
                    let trailers = read_trailers(&self.trailers.split().freeze())?;
                    return Ok(trailers.map(Frame::trailers));
                }
            }
            Piece::Between | Piece::Head | Piece::HeadEnd(_) => {}
        }
        Ok(None)
    }

    fn broke<T>(&mut self, fault: BodyFault) -> Poll<Option<Result<T, BodyFault>>> {
        self.broken = true;
        self.wake();
        Poll::Ready(Some(Err(fault)))
    }

    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyFault>> {
        let Some(socket) = self.socket.as_mut().filter(|_| !self.interim.is_empty()) else {
            return Poll::Ready(Ok(()));
        };
        let mut socket = Pin::new(socket);
        while !self.interim.is_empty() {
            let sent = ready!(socket.as_mut().poll_write(cx, self.interim));
            match sent.map_err(BodyFault::Socket)? {
                0 => return Poll::Ready(Err(BodyFault::Left)),
                sent => self.interim.advance(sent),
            }
        }
        // Where it cannot leave at once, it leaves with the answer.
        let _ = socket.poll_flush(cx);
        Poll::Ready(Ok(()))
    }
}

/// Why a body's end will never come.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyFault {
    /// The client's end came first.
    #[error("the client left before the end of its body")]
    Left,
    #[error("the client's connection broke: {0}")]
    Socket(#[source] io::Error),
    /// Its framing is against the rules.
    #[error("{0}")]
    Rules(String),
}
