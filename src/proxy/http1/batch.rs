//! What leaves in one write: the head of an answer, and what is there of its body.
//!
//! Owns: one buffer of text per thread, the frames between, and what a socket did not take.
//! Never: knows what the bytes mean.
//! Called by: `exchange`, `encode`.
//!
//! Why per thread: nothing waits in it. What a slow client leaves of a write is kept for its
//! connection alone, and for no longer than it takes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

/// Frames that one write takes. Each may have a line before it and one behind.
const MOST_FRAMES: usize = 16;
const MOST_SLICES: usize = 2 * MOST_FRAMES + 4;
/// Bytes after which no further frame is asked for.
const ENOUGH: usize = 128 * 1024;
/// A buffer that had to grow beyond this is not kept.
const KEPT: usize = 64 * 1024;

thread_local! {
    static SPARE: RefCell<Batch> = RefCell::default();
}

/// Pieces in their order.
#[derive(Default)]
pub(super) struct Batch {
    text: Vec<u8>,
    /// Where the text begins that is in no piece yet.
    open: usize,
    pieces: Vec<Piece>,
    frames: usize,
    bytes: usize,
}

enum Piece {
    /// Up to here in the text, from where the last one ended.
    Text(usize),
    Frame(Bytes),
}

impl Batch {
    /// This thread's, empty.
    pub(super) fn take() -> Batch {
        SPARE.take()
    }

    /// Gives it back.
    pub(super) fn keep(mut self) {
        if self.text.capacity() <= KEPT {
            self.clear();
            SPARE.set(self);
        }
    }

    fn clear(&mut self) {
        self.text.clear();
        self.pieces.clear();
        (self.open, self.frames, self.bytes) = (0, 0, 0);
    }

    /// Where text is appended.
    pub(super) fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// Appends bytes that are somebody else's.
    pub(super) fn frame(&mut self, bytes: Bytes) {
        self.close_text();
        self.frames += 1;
        self.bytes += bytes.len();
        self.pieces.push(Piece::Frame(bytes));
    }

    fn close_text(&mut self) {
        let end = self.text.len();
        if end > self.open {
            self.bytes += end - self.open;
            self.open = end;
            self.pieces.push(Piece::Text(end));
        }
    }

    /// True where it is to leave before more is asked for.
    pub(super) fn is_full(&self) -> bool {
        self.frames >= MOST_FRAMES || self.bytes >= ENOUGH
    }

    /// Writes once, and keeps in `left` what the socket did not take. True where anything was
    /// written.
    pub(super) fn write<S: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
        left: &mut VecDeque<Bytes>,
    ) -> io::Result<bool> {
        self.close_text();
        if self.pieces.is_empty() {
            return Ok(false);
        }
        let mut slices = [IoSlice::new(&[]); MOST_SLICES];
        let mut count = 0;
        let mut begin = 0;
        for (slot, piece) in slices.iter_mut().zip(&self.pieces) {
            *slot = IoSlice::new(piece.bytes(&self.text, &mut begin));
            count += 1;
        }
        let slices = slices.get(..count).unwrap_or_default();
        let sent = match Pin::new(socket).poll_write_vectored(cx, slices) {
            Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(sent) => sent?,
            Poll::Pending => 0,
        };
        if sent < self.bytes {
            self.leave_from(sent, left);
        }
        self.clear();
        Ok(sent > 0)
    }

    /// Writes nothing, and keeps everything in `left`.
    pub(super) fn leave(&mut self, left: &mut VecDeque<Bytes>) {
        self.close_text();
        self.leave_from(0, left);
        self.clear();
    }

    fn leave_from(&self, mut sent: usize, left: &mut VecDeque<Bytes>) {
        let mut begin = 0;
        for piece in &self.pieces {
            let bytes = piece.bytes(&self.text, &mut begin);
            let skip = sent.min(bytes.len());
            sent -= skip;
            let rest = match piece {
                Piece::Frame(frame) => frame.slice(skip..),
                Piece::Text(_) => Bytes::copy_from_slice(bytes.get(skip..).unwrap_or_default()),
            };
            if !rest.is_empty() {
                left.push_back(rest);
            }
        }
    }
}

impl Piece {
    /// Its bytes; `begin`: where the next text begins.
    fn bytes<'a>(&'a self, text: &'a [u8], begin: &mut usize) -> &'a [u8] {
        match self {
            Piece::Frame(frame) => frame,
            Piece::Text(end) => {
                let bytes = text.get(*begin..*end).unwrap_or_default();
                *begin = *end;
                bytes
            }
        }
    }
}

/// Writes what was left. True where anything was written; pending while there is more.
pub(super) fn poll_left<S: AsyncWrite + Unpin>(
    socket: &mut S,
    cx: &mut Context<'_>,
    left: &mut VecDeque<Bytes>,
) -> (bool, Poll<io::Result<()>>) {
    let mut wrote = false;
    while !left.is_empty() {
        let mut slices = [IoSlice::new(&[]); MOST_SLICES];
        let mut count = 0;
        for (slot, bytes) in slices.iter_mut().zip(left.iter()) {
            *slot = IoSlice::new(bytes);
            count += 1;
        }
        let slices = slices.get(..count).unwrap_or_default();
        let mut sent = match Pin::new(&mut *socket).poll_write_vectored(cx, slices) {
            Poll::Pending => return (wrote, Poll::Pending),
            Poll::Ready(Ok(0)) => {
                return (wrote, Poll::Ready(Err(io::ErrorKind::WriteZero.into())));
            }
            Poll::Ready(Err(error)) => return (wrote, Poll::Ready(Err(error))),
            Poll::Ready(Ok(sent)) => sent,
        };
        wrote = true;
        while let Some(first) = left.front_mut().filter(|_| sent > 0) {
            let here = sent.min(first.len());
            first.advance(here);
            sent -= here;
            if first.is_empty() {
                left.pop_front();
            }
        }
    }
    *left = VecDeque::new();
    (wrote, Poll::Ready(Ok(())))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn what_a_socket_does_not_take_is_kept_and_leaves_in_its_order() {
        for room in 1..40 {
            let (mut near, mut far) = tokio::io::duplex(room);
            let mut left = VecDeque::new();
            let mut batch = Batch::default();
            batch.text().extend_from_slice(b"head ");
            batch.frame(Bytes::from_static(b"first "));
            batch.text().extend_from_slice(b"between ");
            batch.frame(Bytes::from_static(b"second "));
            batch.text().extend_from_slice(b"end");
            let mut got = Vec::new();
            std::future::poll_fn(|cx| {
                batch.write(&mut near, cx, &mut left).unwrap();
                Poll::Ready(())
            })
            .await;
            let sending = std::future::poll_fn(|cx| poll_left(&mut near, cx, &mut left).1);
            let reading = async {
                while got.len() < 29 {
                    far.read_buf(&mut got).await.unwrap();
                }
            };
            let (sent, ()) = tokio::join!(sending, reading);
            sent.unwrap();
            assert_eq!(got, b"head first between second end");
        }
    }
}
