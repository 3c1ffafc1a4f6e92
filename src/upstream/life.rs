//! Drives an HTTP/2 connection, and asks a silent one for a sign of life.
//!
//! Owns: [`Life`], how long a connection may be silent, and what its end is called.
//! Never: opens or closes a stream.
//! Called by: `connect`, which gives it a task.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::Connection;
use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep};

use super::http2::Load;
use super::wire::Link;

/// A silent connection with open streams is asked for a sign of life after so many times so long. gRPC
/// servers close the connection of a client that asks more often than every five minutes.
const SILENCE: (u32, Duration) = (5, Duration::from_secs(62));
/// How long the sign may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The life of one connection.
pub(super) struct Life {
    link: Arc<Link>,
    load: Arc<Load>,
    /// When it is looked at next.
    look: Pin<Box<Sleep>>,
    /// Bytes that had come when it was looked at last, and how often there were no more.
    received: u64,
    silent: u32,
    /// It was asked.
    asked: bool,
}

impl Life {
    pub(super) fn new(link: Arc<Link>, load: Arc<Load>) -> Life {
        Life {
            link,
            load,
            look: Box::pin(sleep(SILENCE.1)),
            received: 0,
            silent: 0,
            asked: false,
        }
    }

    /// Drives the connection to its end, and notes how many streams the server allows.
    pub(super) async fn drive<T>(mut self, mut connection: Connection<T, Bytes>)
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let mut pings = connection.ping_pong();
        let driven = poll_fn(|cx| {
            // First, so that a sign that is here is not missed. What it ends with is told to its streams.
            let polled = Pin::new(&mut connection).poll(cx);
            self.load.allows(connection.max_concurrent_send_streams());
            match &mut pings {
                Some(pings) if polled.is_pending() => self.poll_silence(pings, cx),
                _ => polled.map(drop),
            }
        });
        driven.await;
        drop(connection);
        self.load.end();
    }

    /// Ready when it was asked and said nothing.
    fn poll_silence(&mut self, pings: &mut PingPong, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.look.as_mut().poll(cx));
            let received = self.link.received();
            let spoke = received != std::mem::replace(&mut self.received, received);
            if spoke || !self.load.is_busy() {
                self.silent = 0;
            } else if self.asked {
                self.link.fell_silent(PATIENCE);
                return Poll::Ready(());
            } else {
                self.silent += 1;
            }
            if std::mem::take(&mut self.asked) {
                // The sign that came is taken, so that it can be asked again.
                let _ = pings.poll_pong(cx);
            }
            let mut next = SILENCE.1;
            if self.silent >= SILENCE.0 {
                self.silent = 0;
                self.asked = pings.send_ping(Ping::opaque()).is_ok();
                next = PATIENCE;
            }
            self.look.as_mut().reset(Instant::now() + next);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Request;
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};

    use super::super::http2::Http2;
    use super::super::lane::Ends;
    use super::super::tests::{plain, spec};
    use super::super::wire::{Stir, Wire};
    use super::*;
    use crate::model::EndpointAddr;

    /// A connection over `stream` on which a request is under way, and what becomes of that.
    async fn asking(stream: DuplexStream) -> String {
        let address = "192.0.2.1:443".parse().unwrap();
        let upstream = plain(spec(address));
        let slot = upstream.slot(0).unwrap();
        let endpoint = EndpointAddr(address);
        let ends = Ends {
            to: endpoint,
            from: None,
        };
        let stir = Arc::new(Stir::default());
        let link = Arc::new(Link::new(0, endpoint, (ends, "a".into()), None, None, stir));
        let wire = Wire::new(stream, Arc::clone(&link), None, Box::new(|| ()));
        let (sender, connection) = h2::client::handshake(wire).await.unwrap();
        let load = Arc::new(Load::new(100, 0, slot.permit().unwrap()));
        load.enter();
        let life = Life::new(Arc::clone(&link), Arc::clone(&load));
        let driven = tokio::spawn(life.drive(connection));
        let http2 = Http2::new(sender, Arc::clone(&link), load);
        let mut stream = super::super::http2::Stream::entered(http2, slot);
        stream.begin().await.unwrap();
        let request = Request::get("http://a/").body(()).unwrap();
        let asked = stream.ask(request, super::super::RequestBody::Empty);
        let ended = tokio::time::timeout(Duration::from_secs(3600), asked).await;
        let trouble = link
            .trouble()
            .map_or(String::new(), |trouble| trouble.detail);
        driven.abort();
        match ended {
            Err(_) => "it waits".to_owned(),
            Ok(Err(_)) => trouble,
            Ok(Ok(_)) => "answered".to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_there_may_think_for_as_long_as_it_likes() {
        let (near, far) = duplex(64 * 1024);
        let server = async {
            let mut server = h2::server::handshake(far).await.unwrap();
            let asked = server.accept().await;
            // Answers nothing but pings.
            drop(server.accept().await);
            drop(asked);
        };
        let (told, ()) = tokio::join!(asking(near), server);
        assert_eq!(told, "it waits");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_gone_without_a_word_is_noticed_within_minutes() {
        let (near, mut far) = duplex(64 * 1024);
        let began = Instant::now();
        let server = async {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            all
        };
        let (told, said) = tokio::join!(asking(near), server);
        assert_eq!(told, "it gave no sign of life for 20s");
        assert!(began.elapsed() < Duration::from_secs(400));
        // A PING that is no ACK.
        let pings = said.windows(5).filter(|frame| frame[..] == [0, 0, 8, 6, 0]);
        assert_eq!(pings.count(), 1);
    }
}
