//! One receive buffer per thread, from which what was read is taken.
//!
//! Owns: the buffer and its size.
//! Never: looks at a byte.
//! Called by: listener, proxy, upstream, tls.
//!
//! Why not one per connection: most connections are idle most of the time, and what they kept then
//! would be most of the memory of a sidecar. Why short reads are copied: a piece keeps the whole
//! buffer alive for as long as a slow reader holds it.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

/// Bytes that one read may bring.
pub const SIZE: usize = 128 * 1024;
/// A read of fewer bytes than these is copied: nobody then holds more than 16 times what it has.
const COPIED: usize = 8 * 1024;

thread_local! {
    static SCRATCH: RefCell<BytesMut> = RefCell::default();
}

/// Reads once. Empty at the end of the stream.
///
/// # Errors
/// The stream's.
pub fn poll_read<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Bytes>> {
    // Taken out, so that a stream that reads by this function itself finds none and makes its own.
    let mut buffer = SCRATCH.take();
    buffer.reserve(SIZE);
    let read = poll_read_buf(Pin::new(stream), cx, &mut buffer);
    let bytes = match &read {
        Poll::Ready(Ok(COPIED..)) => buffer.split().freeze(),
        _ => Bytes::copy_from_slice(&buffer),
    };
    buffer.clear();
    SCRATCH.set(buffer);
    ready!(read)?;
    Poll::Ready(Ok(bytes))
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn read(mut from: &[u8]) -> Bytes {
        poll_fn(|cx| poll_read(&mut from, cx)).await.unwrap()
    }

    #[tokio::test]
    async fn what_was_read_stays_as_it_is_while_others_read() {
        let (small, large) = (vec![1; 10], vec![2; 3 * COPIED]);
        let first = (read(&small).await, read(&large).await);
        for other in [vec![3; 10], vec![4; SIZE], vec![5; 3 * COPIED]] {
            assert_eq!(read(&other).await, other);
        }
        assert_eq!(first, (small.into(), large.into()));
    }

    #[tokio::test]
    async fn a_long_stream_comes_in_pieces_of_the_buffers_size_and_ends_empty() {
        let mut rest = &vec![7; SIZE + 1][..];
        let mut lengths = Vec::new();
        for _ in 0..3 {
            let piece = poll_fn(|cx| poll_read(&mut rest, cx)).await.unwrap();
            lengths.push(piece.len());
        }
        assert_eq!(lengths, [SIZE, 1, 0]);
    }
}
