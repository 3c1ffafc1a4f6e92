//! The status port of the webhook: plain HTTP, read only.
//!
//! Owns: `/healthz/ready`, `/livez`, `/metrics` and their like.
//! Never: changes anything.
//! Called by: run.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::counts::Counts;
use super::exchange::{Answer, reply, text};
use super::open::{Activity, Open};
use crate::drain::Drain;
use crate::telemetry::Status;

/// Connections at once.
const CONNECTIONS: usize = 64;
/// From a connection's start to its end: each has one request.
const WHOLE: Duration = Duration::from_secs(10);
/// Bytes of a head.
const MOST_HEAD: usize = 16 * 1024;
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What is shown.
pub(super) struct Shown {
    pub(super) status: Arc<Status>,
    pub(super) counts: Arc<Counts>,
    pub(super) drain: Drain,
}

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, shown: Arc<Shown>) {
    let mut open = Open::new(CONNECTIONS);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let shown = Arc::clone(&shown);
                open.start(|activity| connection(stream, shown, activity))
                    .await;
            }
            Err(error) => {
                tracing::warn!("the status port cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, shown: Arc<Shown>, activity: Arc<Activity>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (shown, activity) = (Arc::clone(&shown), Arc::clone(&activity));
        async move { Ok::<_, Infallible>(activity.during(async { shown.answer(&request) }).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(WHOLE)
        .max_buf_size(MOST_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = timeout(WHOLE, served).await {
        tracing::debug!("a connection to the status port ended early: {error}");
    }
}

impl Shown {
    fn answer(&self, request: &Request<Incoming>) -> Answer {
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "expected GET");
        }
        match request.uri().path() {
            "/healthz/ready" | "/ready" | "/readyz" => self.ready(),
            "/livez" | "/live" | "/healthz" => text(StatusCode::OK, "LIVE"),
            "/metrics" | "/stats/prometheus" => {
                let kind = "text/plain; version=0.0.4; charset=utf-8";
                reply(StatusCode::OK, kind, self.counts.text())
            }
            _ => text(
                StatusCode::NOT_FOUND,
                "there are /healthz/ready, /livez and /metrics",
            ),
        }
    }

    /// I14.
    fn ready(&self) -> Answer {
        if self.drain.has_started() {
            return text(StatusCode::SERVICE_UNAVAILABLE, "draining");
        }
        let reasons = self.status.reasons();
        match reasons.is_empty() {
            true => text(StatusCode::OK, "LIVE"),
            false => text(StatusCode::SERVICE_UNAVAILABLE, &reasons.join("\n")),
        }
    }
}
