//! An open TLS connection with a client: plain bytes to the caller, TLS records to the socket.
//!
//! Owns: [`ServerStream`]; [`Rewound`] below it, which gives bytes back that were read before.
//! Never: decides anything.
//! Called by: `tls::accept` (makes it), proxy (reads and writes it).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

/// The server side of an open TLS connection over `S`.
pub struct ServerStream<S> {
    tls: TlsStream<Rewound<S>>,
}

impl<S> ServerStream<S> {
    pub(super) fn new(mut tls: TlsStream<Rewound<S>>) -> Self {
        tls.get_mut().0.shaking = false;
        ServerStream { tls }
    }

    /// The socket below.
    pub fn socket(&self) -> &S {
        &self.tls.get_ref().0.inner
    }

    pub(super) fn session(&self) -> &ServerConnection {
        self.tls.get_ref().1
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ServerStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tls).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ServerStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tls).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tls).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tls).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tls).poll_shutdown(cx)
    }
}

/// The alert `certificate_required` before anything is encrypted. That is TLS 1.2, which has no such
/// alert (RFC 5246 section 7.2): there a client that must show a certificate and shows none is told
/// `handshake_failure` (section 7.4.6). rustls sends the alert of TLS 1.3 in both.
const CERTIFICATE_REQUIRED: [u8; 7] = [21, 3, 3, 0, 2, 2, 116];
const HANDSHAKE_FAILURE: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];

/// A socket from which some bytes were read before.
pub(super) struct Rewound<S> {
    first: Bytes,
    inner: S,
    /// The handshake is not over.
    shaking: bool,
    /// Something was written.
    wrote: bool,
}

impl<S> Rewound<S> {
    pub(super) fn new(first: Bytes, inner: S) -> Self {
        Rewound {
            first,
            inner,
            shaking: true,
            wrote: false,
        }
    }

    /// The socket; what was not read again is gone.
    pub(super) fn into_inner(self) -> S {
        self.inner
    }

    /// True where the client has been sent anything.
    pub(super) fn wrote(&self) -> bool {
        self.wrote
    }
}

/// What is said during the handshake in place of `record`.
fn said(record: &[u8]) -> &[u8] {
    match record == CERTIFICATE_REQUIRED {
        true => &HANDSHAKE_FAILURE,
        false => record,
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.first.has_remaining() {
            let take = this.first.len().min(buf.remaining());
            buf.put_slice(&this.first.split_to(take));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.wrote = true;
        let buf = if this.shaking { said(buf) } else { buf };
        Pin::new(&mut this.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.wrote = true;
        if !this.shaking {
            return Pin::new(&mut this.inner).poll_write_vectored(cx, bufs);
        }
        let bufs: Vec<_> = bufs.iter().map(|buf| IoSlice::new(said(buf))).collect();
        Pin::new(&mut this.inner).poll_write_vectored(cx, &bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::ServerName;
    use rustls::version::{TLS12, TLS13};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::super::testing::*;
    use super::super::testing_client::*;
    use super::super::{Offered, ServerTls};
    use super::*;
    use crate::model::ClientCertificates;

    type Ours = ServerStream<DuplexStream>;
    type Theirs = tokio_rustls::client::TlsStream<DuplexStream>;

    /// An open connection of this version, and a second one, of the other version.
    async fn open() -> Vec<(Theirs, Ours)> {
        let ca = Ca::new("Our CA");
        let spec = server_spec(ClientCertificates::Unasked);
        let tls = entrance(&spec, &ca.leaf(HOST), &ca);
        let mut all = Vec::new();
        for version in [&TLS12, &TLS13] {
            let client = Client::with(&ca, None, &[version]);
            all.push(connect(&client, &tls).await);
        }
        all
    }

    async fn connect(client: &Client, tls: &ServerTls) -> (Theirs, Ours) {
        let (near, far) = tokio::io::duplex(1 << 20);
        let connector =
            tokio_rustls::TlsConnector::from(std::sync::Arc::new(client.config.clone()));
        let offered = Offered {
            server_name: Some(HOST),
            alpn: &[],
        };
        let name = ServerName::try_from(HOST).unwrap();
        let (theirs, ours) = tokio::join!(
            connector.connect(name, near),
            tls.accept(offered, Bytes::new(), far)
        );
        (theirs.unwrap(), ours.ok().unwrap().stream)
    }

    #[tokio::test]
    async fn an_end_that_was_announced_is_one_and_an_abrupt_end_is_an_error() {
        for (mut theirs, mut ours) in open().await {
            theirs.write_all(b"all").await.unwrap();
            theirs.shutdown().await.unwrap();
            let mut text = String::new();
            assert_eq!(ours.read_to_string(&mut text).await.unwrap(), 3);
        }
        for (mut theirs, mut ours) in open().await {
            theirs.write_all(b"cut").await.unwrap();
            theirs.flush().await.unwrap();
            drop(theirs.into_inner());
            let mut text = String::new();
            let error = ours.read_to_string(&mut text).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[tokio::test]
    async fn a_client_that_ends_its_half_still_gets_the_whole_answer() {
        for (mut theirs, mut ours) in open().await {
            theirs.shutdown().await.unwrap();
            assert_eq!(ours.read(&mut [0]).await.unwrap(), 0);
            let answer = vec![7; 300_000];
            ours.write_all(&answer).await.unwrap();
            ours.shutdown().await.unwrap();
            let mut came = Vec::new();
            theirs.read_to_end(&mut came).await.unwrap();
            assert_eq!(came, answer);
        }
    }

    #[tokio::test]
    async fn a_record_that_cannot_be_read_is_an_error_and_no_end() {
        for (theirs, mut ours) in open().await {
            let (mut socket, _) = theirs.into_inner();
            socket.write_all(&[23, 3, 3, 0, 1, 0]).await.unwrap();
            let error = ours.read(&mut [0]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert_eq!(ServerTls::explain_late(&error), None);
        }
    }

    #[test]
    fn an_alert_after_the_handshake_is_told_in_words() {
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateUnknown);
        let error = io::Error::new(io::ErrorKind::InvalidData, alert);
        assert_eq!(
            ServerTls::explain_late(&error).unwrap(),
            "the client ended the connection with the alert certificate_unknown: it gives no \
             closer reason"
        );
    }

    #[tokio::test]
    async fn vectored_writes_stay_vectored() {
        for (mut theirs, mut ours) in open().await {
            assert!(ours.is_write_vectored());
            let parts = [IoSlice::new(b"he"), IoSlice::new(b"llo")];
            assert_eq!(ours.write_vectored(&parts).await.unwrap(), 5);
            ours.shutdown().await.unwrap();
            let mut text = String::new();
            theirs.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "hello");
        }
    }

    #[tokio::test]
    async fn bytes_that_were_read_before_come_first() {
        let (near, mut far) = tokio::io::duplex(64);
        far.write_all(b"world").await.unwrap();
        drop(far);
        let mut socket = Rewound::new(Bytes::from_static(b"hello "), near);
        let mut text = String::new();
        socket.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello world");
    }
}
