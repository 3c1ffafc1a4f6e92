//! Bytes both ways between two open connections, until both directions have ended.
//!
//! Owns: half-close, the idle bound, and which side an end is due to.
//! Never: looks at a byte, but for the first few where TLS in TLS must be told (ISTIO.md D8).
//! Called by: `proxy::stream`.
//!
//! Why a failed write does not end the other direction: a server that refuses a client says so and
//! closes. Its last words lie in our socket while the client's next write already fails.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, sleep_until};

/// What one direction reads at once.
const CHUNK: usize = 16 * 1024;

/// How a relay ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// Both sides said that they were done.
    Done,
    /// No byte moved for too long.
    Idle,
    /// The client's connection failed.
    Client(io::Error),
    /// The upstream's connection failed.
    Upstream(io::Error),
    /// The client's first bytes are TLS, which must not be wrapped; none of them was passed on.
    TlsInTls,
}

/// Bytes that moved so far; told as they move.
pub(super) trait Meter {
    fn received(&mut self, bytes: usize);
    fn sent(&mut self, bytes: usize);
}

/// What a relay is told besides its two ends.
pub(super) struct Terms {
    /// What was read of the client already; goes first.
    pub(super) first: Bytes,
    /// The longest silence.
    pub(super) idle: Duration,
    /// The client's first bytes are held back until they are known not to be TLS.
    pub(super) no_tls: bool,
}

/// Copies until both directions have ended, or one side has failed.
pub(super) async fn relay<C, U>(
    client: &mut C,
    upstream: &mut U,
    terms: Terms,
    meter: &mut impl Meter,
) -> Ended
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let mut up = Direction::new(terms.first, terms.no_tls);
    let mut down = Direction::new(Bytes::new(), false);
    meter.received(up.waiting.len());
    let mut moved = Instant::now();
    let mut timer = pin!(sleep_until(moved + terms.idle));
    poll_fn(|cx| {
        let mut progress = 0;
        let went_up = up.poll(cx, client, upstream, |read| {
            progress += read;
            meter.received(read);
        });
        if let Poll::Ready(Some(end)) = went_up {
            return Poll::Ready(match end {
                Stop::Read(error) => Ended::Client(error),
                Stop::Tls => Ended::TlsInTls,
            });
        }
        let went_down = down.poll(cx, upstream, client, |read| {
            progress += read;
            meter.sent(read);
        });
        if let Poll::Ready(Some(Stop::Read(error))) = went_down {
            return Poll::Ready(Ended::Upstream(error));
        }
        if went_up.is_ready() && went_down.is_ready() {
            return Poll::Ready(match (down.failed.take(), up.failed.take()) {
                (Some(error), _) => Ended::Client(error),
                (None, Some(error)) => Ended::Upstream(error),
                (None, None) => Ended::Done,
            });
        }
        if progress > 0 {
            moved = Instant::now();
        }
        // The timer is moved only when it fires: not for every byte.
        while timer.as_mut().poll(cx).is_ready() {
            if moved + terms.idle <= Instant::now() {
                return Poll::Ready(Ended::Idle);
            }
            timer.as_mut().reset(moved + terms.idle);
        }
        Poll::Pending
    })
    .await
}

/// What ends a relay at once.
enum Stop {
    Read(io::Error),
    Tls,
}

enum State {
    Reading,
    Closing,
    Closed,
}

/// One direction.
struct Direction {
    /// Read and not yet written. Empty while nothing moves, and then it holds no memory.
    waiting: BytesMut,
    state: State,
    unflushed: bool,
    /// Nothing is written until the first bytes are known not to be TLS.
    held: bool,
    /// Writing failed: what is read from here on goes nowhere, so nothing is read.
    failed: Option<io::Error>,
}

impl Direction {
    fn new(first: Bytes, held: bool) -> Self {
        Direction {
            waiting: first.into(),
            state: State::Reading,
            unflushed: false,
            held,
            failed: None,
        }
    }

    /// Ready once the direction has ended; with a reason where the whole relay has.
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        mut moved: impl FnMut(usize),
    ) -> Poll<Option<Stop>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            match self.state {
                State::Closed => return Poll::Ready(None),
                State::Closing => {
                    // A side that is gone needs no goodbye.
                    let _ = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                    self.state = State::Closed;
                }
                State::Reading => {
                    if self.held {
                        match is_tls(&self.waiting) {
                            Some(true) => return Poll::Ready(Some(Stop::Tls)),
                            Some(false) => self.held = false,
                            None => {}
                        }
                    }
                    if !self.held && self.waiting.has_remaining() {
                        if let Err(error) = ready!(self.poll_write(cx, to)) {
                            self.failed = Some(error);
                            self.state = State::Closed;
                        }
                        continue;
                    }
                    match self.poll_read(cx, from) {
                        Poll::Pending => return self.poll_rest(cx, to),
                        Poll::Ready(Ok(0)) if self.held => self.held = false,
                        Poll::Ready(Ok(0)) => self.state = State::Closing,
                        Poll::Ready(Ok(read)) => moved(read),
                        Poll::Ready(Err(error)) => return Poll::Ready(Some(Stop::Read(error))),
                    }
                }
            }
        }
    }

    fn poll_read<R>(&mut self, cx: &mut Context<'_>, from: &mut R) -> Poll<io::Result<usize>>
    where
        R: AsyncRead + Unpin,
    {
        self.waiting.reserve(CHUNK);
        let read = pin!(from.read_buf(&mut self.waiting)).poll(cx);
        if read.is_pending() && self.waiting.is_empty() {
            self.waiting = BytesMut::new();
        }
        read
    }

    fn poll_write<W>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Unpin,
    {
        while self.waiting.has_remaining() {
            match ready!(Pin::new(&mut *to).poll_write(cx, self.waiting.chunk()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.waiting.advance(written),
            }
            self.unflushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing more to read for now: what was written must not stay in a buffer.
    fn poll_rest<W>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<Option<Stop>>
    where
        W: AsyncWrite + Unpin,
    {
        if self.unflushed {
            match ready!(Pin::new(to).poll_flush(cx)) {
                Ok(()) => self.unflushed = false,
                Err(error) => {
                    self.failed = Some(error);
                    self.state = State::Closed;
                    return Poll::Ready(None);
                }
            }
        }
        Poll::Pending
    }
}

/// Whether these bytes begin a TLS connection: a handshake record with a ClientHello in it.
/// `None`: more bytes are needed to tell.
fn is_tls(bytes: &[u8]) -> Option<bool> {
    let fits = |place, byte: u8| match place {
        0 => byte == 22,
        1 => byte == 3,
        2 => byte <= 4,
        5 => byte == 1,
        _ => true,
    };
    let mut begun = bytes.iter().take(6).enumerate();
    match begun.all(|(place, byte)| fits(place, *byte)) {
        false => Some(false),
        true if bytes.len() >= 6 => Some(true),
        true => None,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    #[derive(Default)]
    struct Counted(usize, usize);

    impl Meter for Counted {
        fn received(&mut self, bytes: usize) {
            self.0 += bytes;
        }

        fn sent(&mut self, bytes: usize) {
            self.1 += bytes;
        }
    }

    const IDLE: Duration = Duration::from_secs(3600);

    /// The far ends of a relay, and the relay.
    fn between(
        first: &'static [u8],
        no_tls: bool,
    ) -> (
        DuplexStream,
        DuplexStream,
        tokio::task::JoinHandle<(Ended, Counted)>,
    ) {
        let (client, mut near) = duplex(64 * 1024);
        let (upstream, mut far) = duplex(64 * 1024);
        let terms = Terms {
            first: Bytes::from_static(first),
            idle: IDLE,
            no_tls,
        };
        let relaying = tokio::spawn(async move {
            let mut counted = Counted::default();
            let ended = relay(&mut near, &mut far, terms, &mut counted).await;
            (ended, counted)
        });
        (client, upstream, relaying)
    }

    async fn read_all(stream: &mut DuplexStream) -> Vec<u8> {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        all
    }

    #[tokio::test]
    async fn every_byte_goes_both_ways_in_order_what_was_read_first_first() {
        let (mut client, mut upstream, relaying) = between(b"first ", false);
        let long: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let sending = long.clone();
        let client = tokio::spawn(async move {
            client.write_all(b"second ").await.unwrap();
            client.write_all(&sending).await.unwrap();
            client.shutdown().await.unwrap();
            read_all(&mut client).await
        });
        let seen = read_all(&mut upstream).await;
        assert_eq!(seen, [b"first second ", &long[..]].concat());
        upstream.write_all(b"answer").await.unwrap();
        drop(upstream);
        assert_eq!(client.await.unwrap(), b"answer");
        let (ended, Counted(received, sent)) = relaying.await.unwrap();
        assert!(matches!(ended, Ended::Done), "{ended:?}");
        assert_eq!((received, sent), (seen.len(), 6));
    }

    #[tokio::test]
    async fn a_side_that_is_done_still_hears_the_other() {
        let (mut client, mut upstream, relaying) = between(b"", false);
        client.shutdown().await.unwrap();
        assert_eq!(read_all(&mut upstream).await, b"");
        upstream.write_all(b"late answer").await.unwrap();
        upstream.shutdown().await.unwrap();
        assert_eq!(read_all(&mut client).await, b"late answer");
        assert!(matches!(relaying.await.unwrap().0, Ended::Done));

        let (mut client, mut upstream, relaying) = between(b"", false);
        upstream.write_all(b"banner").await.unwrap();
        upstream.shutdown().await.unwrap();
        assert_eq!(read_all(&mut client).await, b"banner");
        client.write_all(b"late words").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(read_all(&mut upstream).await, b"late words");
        assert!(matches!(relaying.await.unwrap().0, Ended::Done));
    }

    /// A side whose reading half still has something while its writing half is dead.
    struct HalfDead<S>(S);

    impl<S: AsyncRead + Unpin> AsyncRead for HalfDead<S> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut tokio::io::ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    impl<S: Unpin> AsyncWrite for HalfDead<S> {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn the_last_words_of_a_side_that_takes_no_more_are_still_passed_on() {
        let (mut client, mut near) = duplex(1024);
        let (mut server, far) = duplex(1024);
        client.write_all(b"request").await.unwrap();
        let relaying = tokio::spawn(async move {
            let terms = Terms {
                first: Bytes::new(),
                idle: IDLE,
                no_tls: false,
            };
            relay(
                &mut near,
                &mut HalfDead(far),
                terms,
                &mut Counted::default(),
            )
            .await
        });
        // The relay has met its failed write before the server speaks.
        tokio::task::yield_now().await;
        server.write_all(b"alert").await.unwrap();
        drop(server);
        assert_eq!(read_all(&mut client).await, b"alert");
        let ended = relaying.await.unwrap();
        assert!(matches!(ended, Ended::Upstream(_)), "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn t15_an_hour_of_silence_ends_it_and_a_byte_in_time_does_not() {
        let (mut client, mut upstream, relaying) = between(b"", false);
        let began = Instant::now();
        let mut byte = [0];
        for _ in 0..3 {
            tokio::time::advance(IDLE - Duration::from_secs(1)).await;
            upstream.write_all(b"x").await.unwrap();
            client.read_exact(&mut byte).await.unwrap();
        }
        let (ended, counted) = relaying.await.unwrap();
        assert!(matches!(ended, Ended::Idle), "{ended:?}");
        let lasted = began.elapsed();
        let expected = 4 * IDLE - Duration::from_secs(3);
        assert!(lasted >= expected && lasted < expected + Duration::from_secs(1));
        assert_eq!(counted.1, 3);
    }

    #[tokio::test]
    async fn d8_tls_that_must_not_be_wrapped_is_told_before_a_byte_of_it_is_passed_on() {
        for step in [1, 3, 100] {
            let (mut client, mut upstream, relaying) = between(b"", true);
            for piece in [22, 3, 1, 2, 0, 1, 0, 1].chunks(step) {
                // The last pieces may find the relay gone.
                let _ = client.write_all(piece).await;
                tokio::task::yield_now().await;
            }
            let (ended, _) = relaying.await.unwrap();
            assert!(matches!(ended, Ended::TlsInTls), "{ended:?}");
            assert_eq!(read_all(&mut upstream).await, b"");
        }
    }

    #[tokio::test]
    async fn d8_what_only_begins_like_tls_is_passed_on_and_so_is_a_server_that_speaks_first() {
        for sent in [
            &b"\x16\x03\x00\x01\x85\xa6\xff"[..],
            b"\x16",
            b"\x16\x03\x03",
            b"hello",
        ] {
            let (mut client, mut upstream, relaying) = between(b"", true);
            upstream.write_all(b"banner").await.unwrap();
            let mut banner = [0; 6];
            client.read_exact(&mut banner).await.unwrap();
            for byte in sent {
                client.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.shutdown().await.unwrap();
            assert_eq!(read_all(&mut upstream).await, sent);
            drop((client, upstream));
            assert!(matches!(relaying.await.unwrap().0, Ended::Done));
        }
    }
}
