//! Serves one connection: HTTP/1 by our own hand, HTTP/2 by hyper's.
//!
//! Owns: what all requests of a connection share; the settings of HTTP/2 towards clients, and the
//! drain of one such connection.
//! Never: looks at a request (that is `forward`).
//! Called by: `listener::connection`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::connection::Connection;
use super::context::ProxyContext;
use super::control::Control;
use super::downstream::{Downstream, Protocol};
use super::entering::Entering;
use super::forward::forward;
use super::guarded::Guarded;
use super::http1::{self, Content};
use super::identity::Identity;
use super::record;
use super::retire::retirement;
use super::socket::Socket;
use crate::drain::DrainGuard;
use crate::model::Limits;

/// HTTP/2: bytes that a client may send ahead of us, per stream and per connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// HTTP/2: a silent peer is asked for a sign of life this often, and given this long.
const PING: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));
/// HTTP/2: a connection on which no body moves is let go after so many times the idle bound of one
/// stream, which ends what waits for its upstream before.
const STALLS: u32 = 3;

/// Serves every request of one connection, until the client leaves, breaks the rules, or the drain
/// has begun and the requests under way are done.
pub async fn serve(
    downstream: Downstream,
    protocol: Protocol,
    context: Arc<ProxyContext>,
    guard: DrainGuard,
) {
    let snapshot = context.cell.load();
    let limits = snapshot.limits.clone();
    let key = downstream.entrance.as_ref();
    let entrance = key.and_then(|key| snapshot.entrances.find(key));
    let (peer, secured) = (downstream.peer, downstream.secured.as_deref());
    let identity = Identity::of(&context, entrance, secured);
    let rules = entrance.map(|entrance| &entrance.spec.headers);
    let entering = rules.map(|rules| Entering::new(rules, peer, secured));
    drop(snapshot);
    let control = Arc::new(Control::new(protocol == Protocol::Http1));
    let connection = Arc::new(Connection {
        context,
        control,
        peer,
        local: downstream.local,
        kind: downstream.kind,
        original_dst: downstream.original_dst,
        shown: downstream.shown,
        entrance: downstream.entrance,
        secured: downstream.secured,
        made_with: downstream.made_with,
        entering,
        identity,
        stream_idle: limits.stream_idle_timeout,
        held: downstream.held,
    });
    let bytes = (downstream.stream, downstream.first);
    match protocol {
        Protocol::Http1 => http1::serve(bytes, connection, &limits, guard).await,
        // Boxed, so that connections of HTTP/1 need not have room for it.
        Protocol::Http2 => Box::pin(serve_http2(bytes, connection, &limits, guard)).await,
    }
}

async fn serve_http2(
    (stream, first): (Socket, Bytes),
    connection: Arc<Connection>,
    limits: &Limits,
    mut guard: DrainGuard,
) {
    let bounds = (limits.idle_timeout, limits.stream_idle_timeout);
    let io = Guarded::new(stream, first, bounds, Arc::clone(&connection.control));
    let answering = Arc::clone(&connection);
    let service = service_fn(move |request: Request<Incoming>| {
        let connection = Arc::clone(&answering);
        let request = request.map(Content::from).into();
        async move { Ok::<_, Infallible>(forward(connection, request).await.into()) }
    });
    let serving = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(u32::try_from(limits.max_head_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(io), service);
    let mut serving = std::pin::pin!(serving);
    // Where no stream has window left hyper polls no body, and no timer of a body runs.
    let patience = connection.stream_idle.saturating_mul(STALLS);
    let leaving = async {
        tokio::select! {
            () = guard.started() => {}
            () = retirement(&connection) => {}
        }
    };
    let mut leaving = std::pin::pin!(leaving);
    let mut stalled = std::pin::pin!(connection.control.stalled(patience));
    let mut leaves = false;
    let ended = loop {
        tokio::select! {
            biased;
            ended = serving.as_mut() => break ended,
            () = leaving.as_mut(), if !leaves => {
                leaves = true;
                serving.as_mut().graceful_shutdown();
            }
            // Also of one that is to end: it may never.
            () = stalled.as_mut() => {
                tracing::info!(
                    peer = %connection.peer,
                    "an HTTP/2 client took no byte of its answers for {patience:?}; it is let go",
                );
                return;
            }
        }
    };
    if let Err(error) = ended {
        let open = connection.control.in_flight.load(Ordering::Relaxed);
        tracing::debug!(peer = %connection.peer, open, "connection ended: {}", record::chain(&error));
    }
}
