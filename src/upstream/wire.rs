//! The byte stream of one connection, watched.
//!
//! Owns: [`Link`], what is known of an open connection, and [`Wire`], which tells it.
//! Never: parses HTTP.
//! Called by: `connect` (makes them), `http1`, `connection` (asks the link why something failed).
//!
//! Why writes that fail are held back: a server that refuses our certificate under TLS 1.3 sends
//! an alert and closes; our next write may then fail before the alert was read, and the alert is
//! the cause worth telling (ISTIO.md 5.6). The same holds for an early answer such as 413.

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Wake, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

use super::lane::Ends;
use super::transport::Chunks;
use crate::model::EndpointAddr;
use crate::tls::HandshakeFacts;

/// How long a failed write waits for the peer's last words.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// How many bytes of them are kept.
const MAX_STASH: usize = 64 * 1024;

/// Says of an error, where it can, that it is a late refusal of our certificate.
pub(super) type Explain = Arc<dyn Fn(&(dyn Error + 'static)) -> Option<String> + Send + Sync>;

/// What is known of one open connection. Shared by its task, its pool entry and its answers.
pub(super) struct Link {
    /// Unique within its slot.
    pub(super) id: u64,
    /// Who answered.
    pub(super) endpoint: EndpointAddr,
    /// What the pool files it under: the address that was picked, which may have lost the race
    /// to `endpoint`, and the name that the server proved.
    pub(super) filed: (Ends, Arc<str>),
    pub(super) local: Option<SocketAddr>,
    pub(super) facts: Option<Arc<HandshakeFacts>>,
    /// Bytes read so far, without TLS.
    received: AtomicU64,
    /// The first eight bytes of the latest read, for messages about answers that are not HTTP.
    sample: AtomicU64,
    trouble: Mutex<Option<Trouble>>,
    closing: AtomicBool,
    waker: AtomicWaker,
    /// Where it is told that something happened while it was idle.
    stir: Arc<Stir>,
    stirred: AtomicBool,
}

/// Idle connections on which something happened, until the slot's sweeper looks at them.
#[derive(Default)]
pub(super) struct Stir {
    /// Weak: a link knows where it tells, and may end before anybody looks.
    links: Mutex<Vec<Weak<Link>>>,
    pub(super) told: Notify,
}

impl Stir {
    /// Takes them all.
    pub(super) fn take(&self) -> Vec<Arc<Link>> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let taken: Vec<_> = links.drain(..).filter_map(|link| link.upgrade()).collect();
        for link in &taken {
            link.stirred.store(false, Ordering::Release);
        }
        taken
    }

    fn add(&self, link: &Arc<Link>) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.push(Arc::downgrade(link));
        drop(links);
        self.told.notify_one();
    }
}

/// The waker of an idle connection: no task waits for it.
impl Wake for Link {
    fn wake(self: Arc<Self>) {
        if !self.stirred.swap(true, Ordering::AcqRel) {
            self.stir.add(&self);
        }
    }
}

/// The first error that reading met.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    /// A late TLS alert, in words.
    pub(super) explained: Option<String>,
    pub(super) detail: String,
}

impl Link {
    pub(super) fn new(
        id: u64,
        endpoint: EndpointAddr,
        filed: (Ends, Arc<str>),
        local: Option<SocketAddr>,
        facts: Option<Arc<HandshakeFacts>>,
        stir: Arc<Stir>,
    ) -> Link {
        Link {
            id,
            endpoint,
            filed,
            local,
            facts,
            received: AtomicU64::new(0),
            sample: AtomicU64::new(0),
            trouble: Mutex::new(None),
            closing: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            stir,
            stirred: AtomicBool::new(false),
        }
    }

    /// Bytes read so far.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// The beginning of what was read last, printable.
    pub(super) fn sample(&self) -> String {
        let bytes = self.sample.load(Ordering::Relaxed).to_be_bytes();
        let read = usize::try_from(self.received().min(8)).unwrap_or(0);
        bytes
            .iter()
            .take(read)
            .flat_map(|byte| byte.escape_ascii())
            .map(char::from)
            .collect()
    }

    /// Why reading failed, if it did.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// It was asked for a sign of life, and gave none.
    pub(super) fn fell_silent(&self, patience: Duration) {
        self.remember(Trouble {
            explained: None,
            detail: format!("it gave no sign of life for {patience:?}"),
        });
    }

    /// Closes it, from any thread. What is under way on it fails.
    pub(super) fn close(self: &Arc<Self>) {
        self.closing.store(true, Ordering::Release);
        self.waker.wake();
        // It may be idle.
        Arc::clone(self).wake();
    }

    /// It was closed by us, and its end may not have been seen yet.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Something may have happened while it was idle.
    pub(super) fn is_stirred(&self) -> bool {
        self.stirred.load(Ordering::Acquire)
    }

    fn remember(&self, trouble: Trouble) {
        let mut slot = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert(trouble);
    }

    fn saw(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut sample = [0; 8];
        for (to, from) in sample.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.sample
            .store(u64::from_be_bytes(sample), Ordering::Relaxed);
        // Only its one reader writes it.
        let received = self.received().saturating_add(bytes.len() as u64);
        self.received.store(received, Ordering::Relaxed);
    }
}

/// Runs when the connection's socket is gone.
pub(super) type AtEnd = Box<dyn FnOnce() + Send>;

/// A stream that tells its [`Link`] what happens on it.
pub(super) struct Wire<S> {
    stream: S,
    link: Arc<Link>,
    explain: Option<Explain>,
    broken: Option<Box<Broken>>,
    /// Nobody reads for the one who writes any more.
    tunnel: bool,
    /// A task may be registered with the link.
    registered: bool,
    at_end: Option<AtEnd>,
}

/// A write has failed; what the peer still said is read before that is told.
struct Broken {
    kind: io::ErrorKind,
    text: String,
    until: Pin<Box<Sleep>>,
    stash: Vec<u8>,
    /// What reading ended with, after the stash.
    end: Option<io::Result<()>>,
}

impl<S> Wire<S> {
    pub(super) fn new(
        stream: S,
        link: Arc<Link>,
        explain: Option<Explain>,
        at_end: AtEnd,
    ) -> Wire<S> {
        Wire {
            stream,
            link,
            explain,
            broken: None,
            tunnel: false,
            registered: false,
            at_end: Some(at_end),
        }
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// From now on two sides may read and write it apart: nothing is polled for the other any more.
    pub(super) fn become_tunnel(&mut self) {
        self.tunnel = true;
    }
}

impl<S> Drop for Wire<S> {
    fn drop(&mut self) {
        if let Some(at_end) = self.at_end.take() {
            at_end();
        }
    }
}

fn closed_by_us() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "closed by us: the connection's certificate or configuration was replaced",
    )
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    fn remember(&self, error: &io::Error) {
        self.link.remember(Trouble {
            explained: self.explain.as_ref().and_then(|explain| explain(error)),
            detail: error.to_string(),
        });
    }

    fn is_closing(&self) -> bool {
        self.link.is_closing()
    }

    /// A write failed with `error`: wait a little for the peer's last words.
    fn broke(&mut self, cx: &mut Context<'_>, error: io::Error) -> Poll<io::Error> {
        if self.tunnel {
            return Poll::Ready(error);
        }
        self.broken = Some(Box::new(Broken {
            kind: error.kind(),
            text: error.to_string(),
            until: Box::pin(tokio::time::sleep(LAST_WORDS)),
            stash: Vec::new(),
            end: None,
        }));
        self.poll_broken(cx)
    }

    /// Reads what the peer still said, for the reader or, where it is an error, for the message.
    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some(broken) = &mut self.broken else {
            return Poll::Pending;
        };
        let mut fresh = false;
        let mut trouble = None;
        while broken.end.is_none() && broken.stash.len() < MAX_STASH {
            let mut chunk = [0; 4096];
            let mut buf = ReadBuf::new(&mut chunk);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
                Poll::Pending => break,
                Poll::Ready(Ok(())) if buf.filled().is_empty() => broken.end = Some(Ok(())),
                Poll::Ready(Ok(())) => {
                    fresh = true;
                    broken.stash.extend_from_slice(buf.filled());
                }
                Poll::Ready(Err(error)) => {
                    trouble = Some(io::Error::new(error.kind(), error.to_string()));
                    broken.end = Some(Err(error));
                }
            }
        }
        if fresh {
            broken.until.as_mut().reset(Instant::now() + LAST_WORDS);
            // The reader is this same task: it must come back for the stash.
            cx.waker().wake_by_ref();
        }
        let waited = broken.until.as_mut().poll(cx).is_ready();
        let over = broken.stash.is_empty() && broken.end.is_some();
        let told = (waited || over).then(|| io::Error::new(broken.kind, broken.text.clone()));
        if trouble.is_some()
            && let Some(Err(error)) = self.broken.as_ref().and_then(|broken| broken.end.as_ref())
        {
            self.remember(error);
        }
        told.map_or(Poll::Pending, Poll::Ready)
    }

    /// What reading gives after a write has failed: at most so many bytes.
    fn read_broken(&mut self, most: usize) -> Option<io::Result<Bytes>> {
        let broken = self.broken.as_mut()?;
        if broken.stash.is_empty() {
            return broken.end.take().map(|end| end.map(|()| Bytes::new()));
        }
        let rest = broken.stash.split_off(broken.stash.len().min(most));
        let bytes = std::mem::replace(&mut broken.stash, rest);
        self.link.saw(&bytes);
        broken.until.as_mut().reset(Instant::now() + LAST_WORDS);
        Some(Ok(bytes.into()))
    }

    /// Reading has to wait: closing must wake the reader.
    fn pending<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.link.waker.register(cx.waker());
        self.registered = true;
        // It may have been closed between the check before and this registration.
        match self.is_closing() {
            true => Poll::Ready(Err(closed_by_us())),
            false => Poll::Pending,
        }
    }

    fn write_with<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.is_closing() {
            return Poll::Ready(Err(closed_by_us()));
        }
        if self.broken.is_some() {
            return self.poll_broken(cx).map(Err);
        }
        match ready!(write(Pin::new(&mut self.stream), cx)) {
            Ok(done) => Poll::Ready(Ok(done)),
            Err(error) => self.broke(cx, error).map(Err),
        }
    }
}

impl<S: Chunks> Wire<S> {
    /// Bytes as they come; empty at the end.
    ///
    /// # Errors
    /// Those of reading, which the link remembers.
    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        match self.poll_stream(cx, S::poll_chunk) {
            Poll::Pending => self.pending(cx),
            read => read,
        }
    }

    /// The same while the connection is idle: its link needs no waker to be told of its close.
    pub(super) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        if std::mem::take(&mut self.registered) {
            // A waker keeps its task's memory for as long as it is kept.
            drop(self.link.waker.take());
        }
        self.poll_stream(cx, S::poll_chunk)
    }

    /// The same of a connection that nobody has used, just before its first request is written.
    pub(super) fn poll_look(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        self.poll_stream(cx, S::poll_look)
    }

    /// Says what has to be said before the socket is closed.
    ///
    /// # Errors
    /// Those of writing.
    pub(super) fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_farewell(cx)
    }

    fn poll_stream(
        &mut self,
        cx: &mut Context<'_>,
        read: impl FnOnce(&mut S, &mut Context<'_>) -> Poll<io::Result<Bytes>>,
    ) -> Poll<io::Result<Bytes>> {
        if self.is_closing() {
            return Poll::Ready(Err(closed_by_us()));
        }
        if let Some(read) = self.read_broken(MAX_STASH) {
            return Poll::Ready(read);
        }
        let read = ready!(read(&mut self.stream, cx));
        match &read {
            Ok(bytes) => self.link.saw(bytes),
            Err(error) => self.remember(error),
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_closing() {
            return Poll::Ready(Err(closed_by_us()));
        }
        if let Some(read) = this.read_broken(buf.remaining()) {
            return Poll::Ready(read.map(|bytes| buf.put_slice(&bytes)));
        }
        let before = buf.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                this.link
                    .saw(buf.filled().get(before..).unwrap_or_default());
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                this.remember(&error);
                Poll::Ready(Err(error))
            }
            Poll::Pending => this.pending(cx),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut()
            .write_with(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut()
            .write_with(cx, |stream, cx| stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut()
            .write_with(cx, |stream, cx| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What cannot be said any more need not be waited for.
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Reads as scripted, with pauses in milliseconds before each; every write fails.
    struct Scripted {
        reads: VecDeque<(u64, io::Result<&'static [u8]>)>,
        pause: Option<Pin<Box<Sleep>>>,
    }

    impl AsyncRead for Scripted {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let Some((pause, _)) = self.reads.front() else {
                return Poll::Pending;
            };
            let pause = Duration::from_millis(*pause);
            let sleep = self
                .pause
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            ready!(sleep.as_mut().poll(cx));
            self.pause = None;
            let (_, read) = self.reads.pop_front().unwrap();
            Poll::Ready(read.map(|bytes| buf.put_slice(bytes)))
        }
    }

    impl AsyncWrite for Scripted {
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

    fn wire(reads: Vec<(u64, io::Result<&'static [u8]>)>) -> (Wire<Scripted>, Arc<Link>) {
        let endpoint = EndpointAddr("192.0.2.1:443".parse().unwrap());
        let ends = Ends {
            to: endpoint,
            from: None,
        };
        let link = Arc::new(Link::new(
            1,
            endpoint,
            (ends, "".into()),
            None,
            None,
            Arc::default(),
        ));
        let scripted = Scripted {
            reads: reads.into(),
            pause: None,
        };
        let explain: Explain = Arc::new(|error| {
            error
                .to_string()
                .contains("alert")
                .then(|| "refused our certificate".to_owned())
        });
        let at_end = Box::new(|| {});
        (
            Wire::new(scripted, Arc::clone(&link), Some(explain), at_end),
            link,
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_alert_is_told_although_the_write_failed_first() {
        let alert = io::Error::new(io::ErrorKind::InvalidData, "alert");
        let (mut wire, link) = wire(vec![(50, Err(alert))]);
        let error = wire.write_all(b"GET /").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        let trouble = link.trouble().unwrap();
        assert_eq!(
            trouble.explained.as_deref(),
            Some("refused our certificate")
        );
        let error = wire.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.to_string(), "alert");
    }

    #[tokio::test(start_paused = true)]
    async fn an_alert_that_does_not_come_is_not_waited_for_long() {
        let (mut wire, link) = wire(vec![(5000, Ok(b""))]);
        let begin = Instant::now();
        wire.write_all(b"GET /").await.unwrap_err();
        assert_eq!(begin.elapsed(), LAST_WORDS);
        assert!(link.trouble().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_early_answer_is_read_although_the_write_failed_first() {
        let (mut wire, link) = wire(vec![
            (10, Ok(b"HTTP/1.1 413 ")),
            (5, Ok(b"no\r\n\r\n")),
            (1, Ok(b"")),
        ]);
        // One task polls the reader and then the writer.
        let mut answer = Vec::new();
        let error = std::future::poll_fn(|cx| {
            let mut chunk = [0; 16];
            let mut buf = ReadBuf::new(&mut chunk);
            while let Poll::Ready(Ok(())) = Pin::new(&mut wire).poll_read(cx, &mut buf) {
                if buf.filled().is_empty() {
                    break;
                }
                answer.extend_from_slice(buf.filled());
                buf.clear();
            }
            Pin::new(&mut wire).poll_write(cx, b"body")
        });
        error.await.unwrap_err();
        assert_eq!(answer, b"HTTP/1.1 413 no\r\n\r\n");
        assert_eq!(link.received(), 19);
    }

    #[tokio::test(start_paused = true)]
    async fn closing_wakes_the_reader() {
        let (mut wire, link) = wire(vec![]);
        let reading = tokio::spawn(async move { wire.read(&mut [0; 8]).await });
        tokio::task::yield_now().await;
        link.close();
        let error = reading.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_is_told_when_the_wire_is_dropped() {
        let (ended, end) = tokio::sync::oneshot::channel();
        let (mut wire, _) = wire(vec![]);
        wire.at_end = Some(Box::new(move || ended.send(()).unwrap()));
        drop(wire);
        end.await.unwrap();
    }
}
