//! The status port: what a kubelet, a load balancer and Prometheus may see of the proxy.
//!
//! Owns: its paths, which of them are the application's, and the page of metrics while it is fresh.
//! Never: changes anything, or shows what only an operator may see: the network can reach it.
//! Called by: the server of this room.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use http::request::Parts;

use super::page::{
    Answer, build, metrics_type, readiness, refuse_method, text, wants_open_metrics,
};
use super::server::Pages;
use crate::drain::Drain;
use crate::probe::Prober;
use crate::telemetry::{Metrics, Status};

/// A page of metrics is given again for so many times as long as it took to make: whoever asks
/// without pause has a tenth of the cold thread.
const REUSE: u32 = 9;

/// Everything that the status port shows.
pub struct StatusState {
    metrics: Arc<Metrics>,
    status: Arc<Status>,
    drain: Drain,
    prober: Prober,
    /// Plain, and OpenMetrics.
    pages: [Mutex<Option<Page>>; 2],
}

/// A page of metrics.
struct Page {
    text: String,
    fresh_until: Instant,
}

impl StatusState {
    /// `drain`: not ready as soon as it has started (ISTIO.md I14). `prober`: for the application's
    /// own probes (I8).
    pub fn new(
        metrics: Arc<Metrics>,
        status: Arc<Status>,
        drain: Drain,
        prober: Prober,
    ) -> StatusState {
        StatusState {
            metrics,
            status,
            drain,
            prober,
            pages: [Mutex::new(None), Mutex::new(None)],
        }
    }

    fn page(&self, open_metrics: bool) -> String {
        let [plain, open] = &self.pages;
        let kept = if open_metrics { open } else { plain };
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some(page) = kept.as_ref()
            && now < page.fresh_until
        {
            return page.text.clone();
        }
        let text = match open_metrics {
            true => self.metrics.encode(),
            false => self.metrics.encode_plain(),
        };
        let took = now.elapsed();
        *kept = Some(Page {
            text: text.clone(),
            fresh_until: now + took * (REUSE + 1),
        });
        text
    }
}

impl Pages for StatusState {
    const NAME: &'static str = "status port";
    const CONNECTIONS: usize = 256;
    const HEAD: Duration = Duration::from_secs(5);

    fn whole(&self) -> Duration {
        self.prober.patience()
    }

    async fn answer(&self, head: &Parts) -> Answer {
        if let Some(refusal) = refuse_method(&head.method, false) {
            return refusal;
        }
        let path = head.uri.path();
        match path.starts_with("/app-health/") || path.starts_with("/app-lifecycle/") {
            true => self.application(path, head).await,
            false => self.say(path, head),
        }
    }
}

impl StatusState {
    /// I8.
    async fn application(&self, path: &str, head: &Parts) -> Answer {
        if let Some(verdict) = self.prober.ask(path, &head.headers).await {
            return text(verdict.status, verdict.words + "\n");
        }
        let known: Vec<&str> = self.prober.paths().collect();
        let known = match known.is_empty() {
            true => "none is".to_owned(),
            false => known.join(", "),
        };
        let words =
            format!("No probe is known as {path:?}; known by SORTIE_APP_PROBES: {known}.\n");
        text(StatusCode::NOT_FOUND, words)
    }

    fn say(&self, path: &str, head: &Parts) -> Answer {
        match path {
            "/healthz/ready" | "/ready" => readiness(&self.status, &self.drain, Vec::new()),
            "/livez" => text(StatusCode::OK, "LIVE\n".to_owned()),
            "/stats/prometheus" | "/metrics" => {
                let open = wants_open_metrics(&head.headers);
                build(StatusCode::OK, metrics_type(open), self.page(open))
            }
            _ => text(
                StatusCode::NOT_FOUND,
                format!(
                    "There is no {path:?} on the status port, which has /healthz/ready, /ready, \
                     /livez, /stats/prometheus, /metrics, /app-health and /app-lifecycle.\n"
                ),
            ),
        }
    }
}
