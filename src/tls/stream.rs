//! An open TLS connection to a server, from which the reason of its end is not lost.
//!
//! Owns: [`Stream`], plain bytes to the caller and TLS records to the socket; [`Shaking`] before it.
//! Never: decides anything.
//! Called by: `tls::connect` (makes it), upstream (reads and writes it).
//!
//! Why a failed write reads: a server that refuses our certificate sends an alert and closes. When
//! our next write fails because of that, the alert lies unread in the socket, and it is the cause
//! that people need to see (ISTIO.md 5.6).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use rustls::{AlertDescription, CommonState};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::alert::alert_in;
use super::buffers::{Buffer, Output};
use super::session::Session;

/// How many of the peer's first bytes are kept during the handshake, for the explanation.
const HEAD: usize = 48;
/// What may be read ahead while looking for an alert; an early answer is not lost.
const RESCUE: usize = 64 * 1024;
/// Reads in a row that may bring no plain byte before others have their turn.
const FRUITLESS: usize = 16;

/// The client side of an open TLS connection over `S`.
pub struct Stream<S> {
    socket: S,
    session: Session,
    /// Plain bytes that were read and not yet taken.
    plain: Bytes,
    /// The socket has ended.
    eof: bool,
    /// The server was told that nothing more is sent.
    closed: bool,
    /// A write failed during the handshake; the next write reports it.
    broken: Option<io::Error>,
    /// Our last flight of the handshake waits for the first write, so that both leave as one.
    held: bool,
}

impl<S> Stream<S> {
    /// The socket below.
    pub fn socket(&self) -> &S {
        &self.socket
    }

    /// What the handshake agreed on.
    pub(super) fn state(&self) -> &CommonState {
        self.session.state()
    }

    /// Bytes that the connection owns: of a record that is not whole, or that wait for someone.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.session.kept() + self.plain.len()
    }

    /// What reading gives once all that came is taken.
    fn end(&self) -> Option<io::Result<()>> {
        if self.session.has_ended() {
            return Some(Ok(()));
        }
        if let Some(failure) = self.session.failure() {
            return Some(Err(failure));
        }
        self.eof.then(|| {
            Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the peer closed the connection without a TLS close_notify",
            ))
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    /// Plain bytes as they come, 128 KiB at most; empty at the end.
    ///
    /// # Errors
    /// Those of reading.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        if !self.plain.is_empty() {
            return Poll::Ready(Ok(std::mem::take(&mut self.plain)));
        }
        let read = ready!(self.poll_fill(cx))?;
        Poll::Ready(Ok(read.map_or(Bytes::new(), |read| read.into_plain(0))))
    }

    /// The same just before the first write: what is held back for that stays so.
    ///
    /// # Errors
    /// Those of reading.
    pub fn poll_look(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let held = std::mem::take(&mut self.held);
        let looked = self.poll_chunk(cx);
        self.held = held && !self.session.waiting().is_empty();
        looked
    }

    /// Tells the server that nothing more is sent (RFC 8446 section 6.1), for one who then closes the
    /// socket.
    ///
    /// # Errors
    /// Those of writing.
    pub fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closed {
            self.closed = true;
            self.session.close();
        }
        self.poll_send(cx)
    }

    /// Reads until there are plain bytes. `None` at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Buffer>>> {
        for _ in 0..FRUITLESS {
            if let Some(end) = self.end() {
                return Poll::Ready(end.map(|()| None));
            }
            let buffer = ready!(self.poll_once(cx, |_| ()))?;
            if !buffer.plain().is_empty() {
                return Poll::Ready(Ok(Some(buffer)));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads once, shows `saw` what came, and decrypts it.
    fn poll_once(
        &mut self,
        cx: &mut Context<'_>,
        saw: impl FnOnce(&[u8]),
    ) -> Poll<io::Result<Buffer>> {
        let mut buffer = Buffer::empty();
        let mut came = ReadBuf::new(buffer.behind(self.session.rest()));
        let read = Pin::new(&mut self.socket).poll_read(cx, &mut came);
        if read.is_pending() && self.held {
            self.let_go(cx);
        }
        ready!(read)?;
        let length = came.filled().len();
        if length == 0 {
            self.eof = true;
            return Poll::Ready(Ok(buffer));
        }
        saw(came.filled());
        self.session.open(&mut buffer, length);
        if self.session.failure().is_some() {
            // The alert that says why, if the socket takes it at once.
            let _ = self.poll_send(cx);
        }
        Poll::Ready(Ok(buffer))
    }

    /// Sends what waits.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Err(error));
        }
        while !self.session.waiting().is_empty() {
            let waiting = self.session.waiting();
            let sent = ready!(Pin::new(&mut self.socket).poll_write(cx, waiting))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.session.sent(sent);
        }
        self.held = false;
        Poll::Ready(Ok(()))
    }

    /// Sends what is held back: nobody writes, and the server may wait for it. That it cannot be
    /// sent is told by the next write; reading may find out why.
    fn let_go(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            self.held = false;
            self.session.give_up();
            self.broken = Some(error);
        }
    }

    /// Encrypts and sends what one write takes. What the socket does not take waits, and then the
    /// next write does.
    fn poll_seal(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let held = self.held && self.broken.is_none();
        if !held {
            ready!(self.poll_send(cx))?;
        }
        if slices.iter().all(|slice| slice.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        Output::with(|output| {
            let taken = self.session.seal(slices, output)?;
            self.held = false;
            // What TLS itself had to say comes first.
            let before = self.session.waiting();
            let (mut records, mut sent) = (output.records(), 0);
            let written = match before.is_empty() {
                true => Pin::new(&mut self.socket).poll_write(cx, records),
                false if held => {
                    let both = [IoSlice::new(before), IoSlice::new(records)];
                    Pin::new(&mut self.socket).poll_write_vectored(cx, &both)
                }
                false => Poll::Pending,
            };
            if let Poll::Ready(written) = written {
                sent = written?;
            }
            let first = sent.min(before.len());
            self.session.sent(first);
            records = records.get(sent - first..).unwrap_or_default();
            self.session.wait(records);
            Poll::Ready(Ok(taken))
        })
    }

    /// The alert that explains `error`, where one has arrived; else `error` itself.
    fn cause(&mut self, cx: &mut Context<'_>, error: io::Error) -> io::Error {
        if !is_gone(&error) || alert_in(&error).is_some() {
            return error;
        }
        while self.plain.len() < RESCUE {
            match self.poll_fill(cx) {
                Poll::Ready(Ok(Some(buffer))) => self.keep(&buffer),
                Poll::Ready(Err(found)) if alert_in(&found).is_some_and(is_fatal) => return found,
                Poll::Ready(_) | Poll::Pending => break,
            }
        }
        error
    }

    /// Puts what was read behind what was read before.
    fn keep(&mut self, read: &Buffer) {
        if !read.plain().is_empty() {
            self.plain = [&*self.plain, read.plain()].concat().into();
        }
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
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if this.plain.is_empty() {
            if let Some(read) = ready!(this.poll_fill(cx))? {
                let taken = read.plain().len().min(buf.remaining());
                buf.put_slice(read.plain().get(..taken).unwrap_or_default());
                if taken < read.plain().len() {
                    this.plain = read.into_plain(taken);
                }
            }
            return Poll::Ready(Ok(()));
        }
        let taken = this.plain.len().min(buf.remaining());
        buf.put_slice(&this.plain.copy_to_bytes(taken));
        if this.plain.is_empty() {
            this.plain = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    /// As few records as the slices fit in, sent with one call; 64 KiB at most.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = this.poll_seal(cx, bufs);
        polled.map_err(|error| this.cause(cx, error))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = match this.poll_send(cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut this.socket).poll_flush(cx),
            polled => polled,
        };
        polled.map_err(|error| this.cause(cx, error))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_farewell(cx))?;
        match ready!(Pin::new(&mut this.socket).poll_shutdown(cx)) {
            // What is not connected need not be closed.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            done => Poll::Ready(done),
        }
    }
}

/// A handshake under way.
pub(super) struct Shaking<S> {
    stream: Stream<S>,
    /// Our last flight is to wait for the first write.
    hold: bool,
    /// The peer's first bytes.
    head: Vec<u8>,
}

impl<S> Shaking<S> {
    /// Of a session whose first message waits to be sent.
    pub(super) fn new(session: Session, socket: S, hold: bool) -> Self {
        let stream = Stream {
            socket,
            session,
            plain: Bytes::new(),
            eof: false,
            closed: false,
            broken: None,
            held: false,
        };
        Shaking {
            stream,
            hold,
            head: Vec::with_capacity(HEAD),
        }
    }

    /// The open connection.
    pub(super) fn into_stream(self) -> Stream<S> {
        self.stream
    }

    /// The peer's first bytes.
    pub(super) fn into_head(self) -> Vec<u8> {
        self.head
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Shaking<S> {
    /// Ready when the handshake is over and our part of it is sent, or held back.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.hold && !self.stream.state().is_handshaking() {
                self.stream.held = !self.stream.session.waiting().is_empty();
                return Poll::Ready(Ok(()));
            }
            let sent = self.poll_send(cx)?;
            if !self.stream.state().is_handshaking() {
                ready!(sent);
                return self.poll_flush(cx);
            }
            let head = &mut self.head;
            let missing = HEAD.saturating_sub(head.len());
            let saw = |came: &[u8]| head.extend(came.iter().take(missing));
            let buffer = ready!(self.stream.poll_once(cx, saw))?;
            if self.stream.eof {
                let words = "tls handshake eof";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, words)));
            }
            if let Some(failure) = self.stream.session.failure() {
                return Poll::Ready(Err(failure));
            }
            self.stream.keep(&buffer);
        }
    }

    /// A lost connection is reported by reading, since an alert may be there.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        if self.stream.broken.is_some() {
            self.stream.session.give_up();
            return Ok(Poll::Ready(()));
        }
        match self.stream.poll_send(cx) {
            Poll::Ready(Err(error)) if is_gone(&error) => {
                self.stream.session.give_up();
                self.stream.broken = Some(error);
                Ok(Poll::Ready(()))
            }
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) => Ok(Poll::Ready(())),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.stream.socket).poll_flush(cx)) {
            Err(error) if is_gone(&error) => {
                self.stream.broken = Some(error);
                Poll::Ready(Ok(()))
            }
            flushed => Poll::Ready(flushed),
        }
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
        stream.socket.writes_left = 0;
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
