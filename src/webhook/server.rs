//! The HTTPS port of the webhook: HTTP/1.1 and HTTP/2, TLS 1.2 and 1.3.
//!
//! Owns: its connections and their bounds: how many, how long a handshake and a head may take.
//! Never: decides what is answered.
//! Called by: run.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::exchange::Hook;
use super::open::{Activity, Open};
use crate::drain::{Drain, Side};
use crate::tls::{Alpn, ServerTls};

/// Connections at once: every API server has a few.
const CONNECTIONS: usize = 256;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// From an alert to the end of the connection.
const LINGER: Duration = Duration::from_secs(1);
/// From a connection's start, or the end of an answer, to the end of a head.
const HEAD: Duration = Duration::from_secs(60);
/// Bytes of a head.
const MOST_HEAD: usize = 16 * 1024;
/// Requests of one HTTP/2 connection at once.
const STREAMS: u32 = 100;
/// How often an HTTP/2 peer must show that it is there.
const PING: Duration = Duration::from_secs(30);
/// Pause after a failed accept, such as one without a free file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The configuration for new connections; `None` while there is no certificate.
pub(super) type Current = watch::Receiver<Option<Arc<ServerTls>>>;

/// Serves until the drain starts, and then to the end of what is under way.
pub(super) async fn serve(listener: TcpListener, hook: Arc<Hook>, current: Current, drain: Drain) {
    let mut open = Open::new(CONNECTIONS);
    let mut end = drain.guard(Side::Outbound);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = end.started() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (hook, drain) = (Arc::clone(&hook), drain.clone());
                let tls = current.borrow().clone();
                open.start(|activity| connection(stream, hook, tls, drain, activity))
                    .await;
            }
            Err(error) => {
                tracing::warn!("the webhook cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    open.ended().await;
}

async fn connection(
    stream: TcpStream,
    hook: Arc<Hook>,
    tls: Option<Arc<ServerTls>>,
    drain: Drain,
    activity: Arc<Activity>,
) {
    let counts = Arc::clone(&hook.counts);
    counts.connections.fetch_add(1, Ordering::Relaxed);
    // Also where the task is aborted.
    let _open = Leaves(Arc::clone(&counts));
    let Some(tls) = tls else {
        counts.handshake_failures.fetch_add(1, Ordering::Relaxed);
        return;
    };
    // Small answers to a peer that waits for each.
    let _ = stream.set_nodelay(true);
    let accepted = match timeout(HANDSHAKE, tls.accept_any(stream)).await {
        Ok(Ok(accepted)) => accepted,
        Ok(Err(rejected)) => {
            counts.handshake_failures.fetch_add(1, Ordering::Relaxed);
            tracing::warn!("a handshake failed: {}", rejected.error);
            linger(rejected.stream).await;
            return;
        }
        Err(_) => {
            counts.handshake_failures.fetch_add(1, Ordering::Relaxed);
            tracing::debug!("a handshake took more than {} s", HANDSHAKE.as_secs());
            return;
        }
    };
    let service = service_fn(move |request| {
        let (hook, activity) = (Arc::clone(&hook), Arc::clone(&activity));
        async move { Ok::<_, Infallible>(activity.during(hook.answer(request)).await) }
    });
    let io = TokioIo::new(accepted.stream);
    let served = match accepted.facts.alpn {
        Alpn::Http2 => {
            let served = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS)
                .max_header_list_size(MOST_HEAD as u32)
                .keep_alive_interval(PING)
                .keep_alive_timeout(HANDSHAKE)
                .serve_connection(io, service);
            gently(served, drain, |served| served.graceful_shutdown()).await
        }
        Alpn::Http1 | Alpn::None => {
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_buf_size(MOST_HEAD)
                .serve_connection(io, service);
            gently(served, drain, |served| served.graceful_shutdown()).await
        }
    };
    if let Err(error) = served {
        tracing::debug!("a connection ended early: {error}");
    }
}

/// Waits a moment for the client's end: closing on what it still writes would overtake the alert.
async fn linger(mut stream: TcpStream) {
    let _ = stream.shutdown().await;
    let mut forgotten = [0; 1024];
    let rest = async { while matches!(stream.read(&mut forgotten).await, Ok(read) if read > 0) {} };
    let _ = timeout(LINGER, rest).await;
}

/// Takes no new request once the drain has started, and answers those that are there.
async fn gently<C: Future>(
    served: C,
    drain: Drain,
    shut: impl FnOnce(std::pin::Pin<&mut C>),
) -> C::Output {
    let mut served = pin!(served);
    let mut end = drain.guard(Side::Outbound);
    tokio::select! {
        ended = &mut served => return ended,
        () = end.started() => {}
    }
    shut(served.as_mut());
    served.await
}

struct Leaves(Arc<super::counts::Counts>);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
