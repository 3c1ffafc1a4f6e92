//! Bytes both ways until either side ends.
//!
//! Owns: a connection after `101 Switching Protocols`: idle bound, half-close, its line in the log.
//! Never: looks at a byte.
//! Called by: `proxy::forward`.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::AnswerBody;
use super::connection::Connection;
use super::headers;
use super::record::{Record, chain};
use super::retire::{Admitted, expulsion};
use crate::drain::Side;
use crate::message::Response;
use crate::telemetry::Flags;
use crate::upstream::{ResponseBody, Switched};

/// A tunnel that moves no byte for this long ends (ISTIO.md T15).
const IDLE: Duration = Duration::from_secs(3600);

/// Passes the 101 on and joins the two sides as soon as both have switched.
pub(super) fn upgraded(
    connection: &Arc<Connection>,
    response: Response<ResponseBody>,
    protocol: HeaderValue,
    (client, upstream): (Switched, Switched),
    mut record: Record,
) -> Response<AnswerBody> {
    let guard = connection.context.drain.guard(Side::Outbound);
    let (mut parts, body) = response.into_parts();
    parts.version = http::Version::HTTP_11;
    headers::remove_hop_by_hop(&mut parts.headers);
    headers::set_upgrade(&mut parts.headers, protocol);
    record.answers(parts.status, &mut parts.headers);
    let connection = Arc::clone(connection);
    tokio::spawn(async move {
        // The drain waits for the tunnel, up to its deadline.
        let _guard = guard;
        let lease = body;
        match tokio::try_join!(client, upstream) {
            Ok((client, upstream)) => {
                let (up, down) = (Arc::default(), Arc::default());
                let mut client = Metered::new(client, &up);
                let mut upstream = Metered::new(upstream, &down);
                let admitted = Admitted {
                    entrance: connection.entrance.as_ref(),
                    secured: connection.secured.as_deref(),
                    made_with: connection.made_with.as_ref(),
                    own_tls: false,
                };
                tokio::select! {
                    copied = tokio::io::copy_bidirectional(&mut client, &mut upstream) => {
                        if let Err(error) = copied {
                            record.broke(Flags::UC, "tunnel_ended", chain(&error));
                        }
                    }
                    () = idle(&up, &down) => {
                        let words = format!("no byte for {IDLE:?}");
                        record.broke(Flags::UC, "tunnel_ended", words);
                    }
                    error = expulsion(&connection.context, &admitted) => {
                        record.broke(error.verdict().flags, "policy_changed", error.to_string());
                    }
                }
                let bytes = |count: &AtomicU64| count.load(Ordering::Relaxed);
                record.tunnelled(bytes(&up), bytes(&down));
            }
            Err(error) => record.broke(Flags::UC, "upgrade_failed", chain(&*error)),
        }
        record.tell(Some(lease.stats()));
    });
    Response::from_parts(parts, AnswerBody::own(Bytes::new()))
}

/// Returns when no byte moved for [`IDLE`].
async fn idle(up: &AtomicU64, down: &AtomicU64) {
    let moved = || (up.load(Ordering::Relaxed), down.load(Ordering::Relaxed));
    let mut before = moved();
    loop {
        tokio::time::sleep(IDLE).await;
        let now = moved();
        if now == before {
            return;
        }
        before = now;
    }
}

/// Counts the bytes that are read from one side.
struct Metered<S> {
    inner: S,
    moved: Arc<AtomicU64>,
}

impl<S> Metered<S> {
    fn new(inner: S, moved: &Arc<AtomicU64>) -> Self {
        Metered {
            inner,
            moved: Arc::clone(moved),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, buf);
        let read = buf.filled().len().saturating_sub(before);
        self.moved.fetch_add(read as u64, Ordering::Relaxed);
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
