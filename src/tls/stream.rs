//! An open TLS connection to a server, from which the reason of its end is not lost.
//!
//! Owns: [`Stream`], plain bytes to the caller and TLS records to the socket; [`Tap`] below it.
//! Never: decides anything.
//! Called by: `tls::connect` (makes it), upstream (reads and writes it).
//!
//! Why a failed write reads: a server that refuses our certificate sends an alert and closes. When
//! our next write fails because of that, the alert lies unread in the socket, and it is the cause
//! that people need to see (ISTIO.md 5.6).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use rustls::{AlertDescription, ClientConnection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use super::alert::alert_in;
use crate::scratch;

/// How many of the peer's first bytes are kept during the handshake, for the explanation.
const HEAD: usize = 48;
/// What may be read ahead while looking for an alert; an early answer is not lost.
const RESCUE: usize = 64 * 1024;

/// The client side of an open TLS connection over `S`.
pub struct Stream<S> {
    tls: TlsStream<Tap<S>>,
    /// Plain bytes that were read while looking for an alert, and how many were taken since.
    rescued: Vec<u8>,
    taken: usize,
}

impl<S> Stream<S> {
    pub(super) fn new(mut tls: TlsStream<Tap<S>>) -> Self {
        tls.get_mut().0.head = None;
        Stream {
            tls,
            rescued: Vec::new(),
            taken: 0,
        }
    }

    /// The socket below.
    pub fn socket(&self) -> &S {
        &self.tls.get_ref().0.inner
    }

    pub(super) fn session(&self) -> &ClientConnection {
        self.tls.get_ref().1
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    /// Plain bytes as they come; empty at the end.
    ///
    /// # Errors
    /// Those of reading.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        scratch::poll_read(self, cx)
    }

    /// The alert that explains `error`, where one has arrived; else `error` itself.
    fn cause(&mut self, cx: &mut Context<'_>, error: io::Error) -> io::Error {
        if !is_gone(&error) || alert_in(&error).is_some() {
            return error;
        }
        let mut chunk = [0; 4096];
        while self.rescued.len() < RESCUE {
            let mut buf = ReadBuf::new(&mut chunk);
            match Pin::new(&mut self.tls).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    self.rescued.extend_from_slice(buf.filled());
                }
                Poll::Ready(Err(found)) if alert_in(&found).is_some_and(is_fatal) => return found,
                Poll::Ready(_) | Poll::Pending => break,
            }
        }
        error
    }
}

fn is_fatal(alert: AlertDescription) -> bool {
    alert != AlertDescription::CloseNotify
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected
    )
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(left) = this
            .rescued
            .get(this.taken..)
            .filter(|left| !left.is_empty())
        {
            let part = left.get(..left.len().min(buf.remaining())).unwrap_or(left);
            buf.put_slice(part);
            this.taken += part.len();
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.tls).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.tls).poll_write(cx, buf);
        polled.map_err(|error| this.cause(cx, error))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.tls).poll_write_vectored(cx, bufs);
        polled.map_err(|error| this.cause(cx, error))
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.tls).poll_flush(cx);
        polled.map_err(|error| this.cause(cx, error))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tls).poll_shutdown(cx)
    }
}

/// The socket, with the peer's first bytes remembered until the handshake is over.
pub(super) struct Tap<S> {
    inner: S,
    /// `None` once the handshake is over.
    head: Option<Vec<u8>>,
    /// A write failed during the handshake; the next write after it reports it.
    broken: Option<io::Error>,
}

impl<S> Tap<S> {
    pub(super) fn new(inner: S) -> Self {
        Tap {
            inner,
            head: Some(Vec::with_capacity(HEAD)),
            broken: None,
        }
    }

    /// The peer's first bytes.
    pub(super) fn into_head(self) -> Vec<u8> {
        self.head.unwrap_or_default()
    }

    /// During the handshake a lost connection is reported by reading, since an alert may be there.
    fn hold(&mut self, error: io::Error, length: usize) -> Poll<io::Result<usize>> {
        if self.head.is_none() || !is_gone(&error) {
            return Poll::Ready(Err(error));
        }
        self.broken = Some(error);
        Poll::Ready(Ok(length))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.inner).poll_read(cx, buf);
        if let Some(head) = &mut this.head
            && let Some(came) = buf.filled().get(before..)
        {
            head.extend(came.iter().take(HEAD.saturating_sub(head.len())));
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(error) = this.broken.take() {
            return this.hold(error, buf.len());
        }
        match Pin::new(&mut this.inner).poll_write(cx, buf) {
            Poll::Ready(Err(error)) => this.hold(error, buf.len()),
            polled => polled,
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let length = || bufs.iter().map(|buf| buf.len()).sum();
        if let Some(error) = this.broken.take() {
            return this.hold(error, length());
        }
        match Pin::new(&mut this.inner).poll_write_vectored(cx, bufs) {
            Poll::Ready(Err(error)) => this.hold(error, length()),
            polled => polled,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.inner).poll_flush(cx) {
            Poll::Ready(Err(error)) => this.hold(error, 0).map_ok(|_| ()),
            polled => polled,
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use rustls::version::TLS13;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::super::testing::*;
    use super::*;

    /// A socket that takes so many writes and no more.
    struct Half {
        inner: tokio::io::DuplexStream,
        writes_left: usize,
    }

    impl AsyncRead for Half {
        fn poll_read(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.get_mut().inner).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Half {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            let this = self.get_mut();
            if this.writes_left == 0 {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            this.writes_left -= 1;
            Pin::new(&mut this.inner).poll_write(cx, buf)
        }

        fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_write_that_fails_after_a_refusal_gives_the_alert() {
        let ca = Ca::new("Bank CA");
        let client = Ca::new("Shop CA").leaf("shop.example");
        let tls = client_tls(&spec(), &credential(Some(&client), &[&ca.der], &[]));
        let server = Server::with(&ca.leaf(HOST), &[&TLS13], Some(&ca));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap());
        let (near, far) = tokio::join!(socket, listener.accept());
        let config = std::sync::Arc::new(server.config);
        let acceptor = tokio_rustls::TlsAcceptor::from(config);
        let (near, far) = (near.unwrap(), far.unwrap().0);
        let refusing = async { drop(acceptor.accept(far).await.unwrap_err()) };
        let (connected, ()) = tokio::join!(tls.connect(HOST, near), refusing);
        let mut stream = connected.unwrap().stream;
        let error = loop {
            if let Err(error) = stream.write_all(&[0; 16 * 1024]).await {
                break error;
            }
            // Lets the reset arrive.
            tokio::task::yield_now().await;
        };
        assert_eq!(
            alert_in(&error),
            Some(AlertDescription::UnknownCA),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_write_that_fails_for_another_reason_keeps_it_and_loses_no_answer() {
        let ca = Ca::new("Bank CA");
        let tls = trusting(&ca);
        let server = Server::with(&ca.leaf(HOST), &[&TLS13], None);
        let (near, far) = tokio::io::duplex(64 * 1024);
        let near = Half {
            inner: near,
            writes_left: usize::MAX,
        };
        let client = async {
            let mut stream = tls.connect(HOST, near).await.unwrap().stream;
            stream.write_all(&[7]).await.unwrap();
            stream.flush().await.unwrap();
            stream
        };
        let (mut stream, seen) = tokio::join!(client, server.serve(far));
        seen.unwrap();
        stream.tls.get_mut().0.inner.writes_left = 0;
        let error = stream.write_all(&[0; 100]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, [7]);
    }

    #[tokio::test]
    async fn during_the_handshake_a_lost_connection_does_not_hide_the_alert() {
        let ca = Ca::new("Bank CA");
        let (near, mut far) = tokio::io::duplex(1024);
        // The server refused before it read: its alert is there, and our hello cannot be sent.
        far.write_all(&[21, 3, 3, 0, 2, 2, 112]).await.unwrap();
        let near = Half {
            inner: near,
            writes_left: 0,
        };
        let error = trusting(&ca).connect(HOST, near).await.err().unwrap();
        assert!(error.to_string().contains("unrecognized_name"), "{error}");
    }
}
