//! A connection whose bytes nobody here reads: TCP, or TLS that is not ours.
//!
//! Owns: [`OpenStream`], and the tries that it takes to open one.
//! Never: pools it, or sends a byte of the client's before the upstream is reached.
//! Called by: `proxy::stream`.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connect::{Reached, open_transport};
use super::connection::Under;
use super::error::{ConnectFailure, UpstreamError};
use super::pool::Permit;
use super::seam::Ask;
use super::transport::Transport;
use super::upstream::Upstream;
use crate::model::EndpointAddr;
use crate::telemetry::{Event, Level, UpstreamStats};
use crate::tls::HandshakeFacts;

/// Endpoints that are tried for one connection: as many as a request would try (ISTIO.md V14, X5).
const TRIES: usize = 3;

/// An open connection to an upstream, counted until it is dropped.
pub struct OpenStream {
    transport: Transport,
    /// Who is at the other end.
    pub endpoint: EndpointAddr,
    /// Our end of it.
    pub local: Option<SocketAddr>,
    /// What the TLS handshake agreed on, where the upstream's policy has TLS.
    pub facts: Option<Arc<HandshakeFacts>>,
    under: Under,
    _permit: Permit,
}

/// Why there is no connection.
#[derive(Debug)]
pub struct StreamFailure {
    /// The last try's cause.
    pub error: UpstreamError,
    /// Whom it was tried with, where an endpoint was picked.
    pub endpoint: Option<EndpointAddr>,
    /// More than one endpoint was tried.
    pub retried: bool,
}

impl Upstream {
    /// Opens a connection for bytes that are not looked at. An endpoint that cannot be reached is
    /// replaced by another one, where there is one; a handshake that failed is not tried again (X5).
    ///
    /// `ask.host` is what is looked up where the upstream goes to original destinations and there
    /// is none (the SNI, ISTIO.md E2, E12). It is never sent: a TCP route has no SNI of its own (T6).
    ///
    /// # Errors
    /// [`StreamFailure`].
    pub async fn open_stream(self: &Arc<Self>, ask: &Ask<'_>) -> Result<OpenStream, StreamFailure> {
        let failure = |error, endpoint, retried| StreamFailure {
            error,
            endpoint,
            retried,
        };
        let slot = match self.slot(ask.worker) {
            Ok(slot) => slot,
            Err(error) => return Err(failure(error, None, false)),
        };
        let mut under = Under::unlimited(Arc::clone(slot));
        let mut tried: Vec<EndpointAddr> = Vec::new();
        let mut aim = match self.aim(slot, ask).await {
            Ok(aim) => aim,
            Err(error) => return Err(failure(error, None, false)),
        };
        loop {
            if let Some(seat) = &aim.seat {
                under.sit(Arc::clone(seat));
            }
            let mut target = self.target(ask, &aim, false);
            target.host = "".into();
            let error = match open_transport(slot, &target).await {
                Ok((reached, permit)) => return Ok(OpenStream::new(reached, permit, under)),
                Err(error) => error,
            };
            tried.push(aim.endpoint);
            let again = Ask {
                avoid: &tried,
                ..*ask
            };
            let last = Some(aim.endpoint);
            let worth = tried.len() < TRIES && is_worth_another(&error);
            match worth.then_some(self.aim(slot, &again)) {
                Some(next) => match next.await {
                    Ok(next) if !tried.contains(&next.endpoint) => aim = next,
                    // The same one would refuse again.
                    _ => return Err(failure(error, last, tried.len() > 1)),
                },
                None => return Err(failure(error, last, tried.len() > 1)),
            }
            slot.core.stats.count(Event::Retry);
        }
    }
}

/// Another endpoint may do better (X5): what failed is the way there, and nothing that was checked.
fn is_worth_another(error: &UpstreamError) -> bool {
    matches!(
        error,
        UpstreamError::Connect { failure, .. } if !matches!(failure, ConnectFailure::Exhausted(_))
    )
}

impl OpenStream {
    fn new(reached: Reached, permit: Permit, under: Under) -> OpenStream {
        // A peer that reads nothing for minutes is no dead one here: keepalive finds those, and
        // the idle bound of the connection ends the others (ISTIO.md T15).
        let _ = SockRef::from(reached.transport.socket()).set_tcp_user_timeout(None);
        under.slot.core.stats.raise(Level::Connections);
        if let Some(seat) = under.seat() {
            seat.endpoint.succeeded();
        }
        OpenStream {
            transport: reached.transport,
            endpoint: reached.endpoint,
            local: reached.local,
            facts: reached.facts,
            under,
            _permit: permit,
        }
    }

    /// The counters of its upstream.
    pub fn stats(&self) -> &UpstreamStats {
        &self.under.slot.core.stats
    }

    /// An error of the connection in words; a late refusal of our certificate is told as that.
    pub fn explain(&self, error: &(dyn std::error::Error + 'static)) -> String {
        let explain = self.under.slot.core.explain.as_ref();
        let late = explain.and_then(|explain| explain(error));
        late.unwrap_or_else(|| error.to_string())
    }

    /// Makes the end of the connection a reset: what came so far must not look complete.
    pub fn reset(&self) {
        let _ = SockRef::from(self.transport.socket()).set_linger(Some(Duration::ZERO));
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.under.slot.core.stats.lower(Level::Connections);
    }
}

impl AsyncRead for OpenStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_read(cx, buf)
    }
}

impl AsyncWrite for OpenStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().transport).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::runtime::Handle;

    use super::super::{OwnAddrs, Resolver, UpstreamContext, UpstreamTls};
    use super::*;
    use crate::model::{EndpointSpec, Host, Resolution, UpstreamSpec};
    use crate::telemetry::Metrics;

    fn upstream(to: &[SocketAddr], change: impl FnOnce(&mut UpstreamSpec)) -> Arc<Upstream> {
        let mut spec = UpstreamSpec::new("mysql");
        spec.resolution = Resolution::Static;
        let endpoint = |to: &SocketAddr| {
            EndpointSpec::new(Host::parse(&to.ip().to_string()).unwrap(), to.port())
        };
        spec.endpoints = to.iter().map(endpoint).collect();
        change(&mut spec);
        let context = UpstreamContext {
            workers: 1,
            resolver: Resolver::system(Handle::current()),
            own: OwnAddrs::new(),
            metrics: Metrics::new(1),
        };
        Upstream::new(spec, UpstreamTls::Plain, &context)
    }

    fn ask() -> Ask<'static> {
        Ask {
            worker: 0,
            host: "",
            port: 3306,
            original_dst: None,
            from: None,
            avoid: &[],
            fresh: false,
        }
    }

    /// An address at which nobody listens.
    async fn nobody() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    }

    async fn failed(upstream: &Arc<Upstream>) -> StreamFailure {
        match upstream.open_stream(&ask()).await {
            Ok(opened) => panic!("connected to {}", opened.endpoint),
            Err(failure) => failure,
        }
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_the_connection_is_counted_while_it_is_open() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = upstream(&[listener.local_addr().unwrap()], |_| {});
        let mut opened = upstream.open_stream(&ask()).await.ok().unwrap();
        let (mut served, peer) = listener.accept().await.unwrap();
        assert_eq!(opened.local, Some(peer));
        assert_eq!(upstream.stats().level(Level::Connections), 1);
        served.write_all(b"server first").await.unwrap();
        let mut seen = [0; 12];
        opened.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"server first");
        opened.shutdown().await.unwrap();
        assert_eq!(served.read(&mut seen).await.unwrap(), 0);
        drop(opened);
        assert_eq!(upstream.stats().level(Level::Connections), 0);
        assert_eq!(upstream.stats().level(Level::ActiveRequests), 0);
    }

    #[tokio::test]
    async fn x5_an_endpoint_that_refuses_is_replaced_by_another_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = listener.local_addr().unwrap();
        let upstream = upstream(&[nobody().await, nobody().await, there], |_| {});
        for _ in 0..6 {
            let opened = upstream.open_stream(&ask()).await.ok().unwrap();
            assert_eq!(opened.endpoint.0, there);
        }
    }

    #[tokio::test]
    async fn x5_the_only_endpoint_is_not_asked_twice() {
        let upstream = upstream(&[nobody().await], |_| {});
        let failure = failed(&upstream).await;
        assert!(!failure.retried);
        assert!(failure.endpoint.is_some());
        assert!(
            matches!(failure.error, UpstreamError::Connect { .. }),
            "{}",
            failure.error
        );
        assert_eq!(upstream.stats().counted(Event::Retry), 0);
        assert_eq!(upstream.stats().level(Level::ActiveRequests), 0);
    }

    #[tokio::test]
    async fn the_limit_of_connections_holds_for_opaque_ones_too() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let one = |spec: &mut UpstreamSpec| spec.pool.max_connections = 1;
        let upstream = upstream(&[listener.local_addr().unwrap()], one);
        let open = upstream.open_stream(&ask()).await.ok().unwrap();
        let failure = failed(&upstream).await;
        assert!(
            matches!(failure.error, UpstreamError::Overflow { .. }),
            "{}",
            failure.error
        );
        drop(open);
        assert!(upstream.open_stream(&ask()).await.is_ok());
    }

    #[tokio::test]
    async fn the_limit_of_requests_is_not_one_of_opaque_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let one = |spec: &mut UpstreamSpec| spec.pool.max_requests = 1;
        let upstream = upstream(&[listener.local_addr().unwrap()], one);
        let first = upstream.open_stream(&ask()).await.ok().unwrap();
        let second = upstream.open_stream(&ask()).await.ok().unwrap();
        // Nor do they take a request's place.
        let (_, request) = upstream.admit(0).ok().unwrap();
        assert!(upstream.admit(0).is_err());
        drop((first, second));
        assert!(upstream.admit(0).is_err());
        drop(request);
        assert!(upstream.admit(0).is_ok());
    }
}
