//! A connection that has changed its protocol.
//!
//! Owns: [`Tunnel`]: the bytes that came behind the answer's head, then those of the connection.
//! Never: looks at a byte.
//! Called by: `body` (makes it), proxy (through `upstream::switched`).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::client::Http1;
use crate::upstream::transport::{Chunks, Transport};
use crate::upstream::wire::Wire;

/// A connection after 101.
pub(in crate::upstream) struct Tunnel<S: Chunks = Transport> {
    http1: Http1<S>,
    /// What came behind the head.
    rest: Bytes,
    /// What ends with it: the count of a request under way.
    _kept: Box<dyn Send>,
}

impl<S: Chunks> Tunnel<S> {
    pub(in crate::upstream) fn new(
        mut http1: Http1<S>,
        rest: Bytes,
        kept: Box<dyn Send>,
    ) -> Tunnel<S> {
        http1.wire().become_tunnel();
        Tunnel {
            http1,
            rest,
            _kept: kept,
        }
    }

    fn wire(self: Pin<&mut Self>) -> Pin<&mut Wire<S>> {
        Pin::new(self.get_mut().http1.wire())
    }
}

impl<S: Chunks> AsyncRead for Tunnel<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rest.is_empty() {
            return self.wire().poll_read(cx, buf);
        }
        let count = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl<S: Chunks> AsyncWrite for Tunnel<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.wire().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.wire().poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire().poll_shutdown(cx)
    }
}
