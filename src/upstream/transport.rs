//! The bytes of a connection, in TLS or not.
//!
//! Owns: [`Transport`], and [`Chunks`], how HTTP/1 reads from it.
//! Never: decides which of the two it is (that is `connect`).
//! Called by: `connect`, `stream`, `http1`.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::scratch;
use crate::tls::Stream;

/// A stream that keeps no buffer for what it reads.
pub(super) trait Chunks: AsyncRead + AsyncWrite + Send + Unpin {
    /// Bytes as they come; empty at the end.
    ///
    /// # Errors
    /// Those of reading.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<Bytes>>;

    /// The same just before the first write: it sends nothing, where waiting to read would.
    ///
    /// # Errors
    /// Those of reading.
    fn poll_look(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<Bytes>> {
        self.poll_chunk(cx)
    }

    /// Says what has to be said before the socket is closed, and leaves that to its drop.
    ///
    /// # Errors
    /// Those of writing.
    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(self).poll_shutdown(cx)
    }
}

/// TLS or, where the configuration says so, none.
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<Stream<TcpStream>>),
}

impl Transport {
    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Transport::Plain(stream) => stream,
            Transport::Tls(stream) => stream.socket(),
        }
    }
}

impl Chunks for Transport {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<Bytes>> {
        match self {
            Transport::Plain(stream) => scratch::poll_read(stream, cx),
            Transport::Tls(stream) => stream.poll_chunk(cx),
        }
    }

    fn poll_look(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<Bytes>> {
        match self {
            Transport::Plain(stream) => scratch::poll_read(stream, cx),
            Transport::Tls(stream) => stream.poll_look(cx),
        }
    }

    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self {
            Transport::Plain(_) => Poll::Ready(Ok(())),
            Transport::Tls(stream) => stream.poll_farewell(cx),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
