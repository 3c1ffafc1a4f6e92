//! Secrets that have not come yet: until they have, the process is not ready.
//!
//! Owns: that reason (ISTIO.md I14), until the first time that none is missing.
//! Never: makes a request wait: what lacks a secret answers 503 (T17).
//! Called by: `publish::reload`.
//!
//! Why only at first, and for a time: a pod is not sent requests, nor its application started,
//! before the secrets that were promised are there. But one upstream's trouble is no reason to lose
//! all the others: Envoy as well gives a secret 15 s (initial_fetch_timeout) and then goes on.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::DownstreamTls;
use crate::snapshot::{ServerSide, Snapshot};
use crate::telemetry::Status;
use crate::upstream::UpstreamTls;

/// What readiness calls them.
const SECRETS: &str = "secrets";
/// So many are told.
const MOST: usize = 20;

/// Whether the first complete set is still awaited.
#[derive(Debug)]
pub(super) struct Awaited {
    until: Option<Instant>,
}

impl Awaited {
    /// For as long as `patience`, from now on.
    pub(super) fn new(patience: Duration) -> Awaited {
        Awaited {
            until: Some(Instant::now() + patience),
        }
    }

    /// Looks at what `snapshot` lacks.
    pub(super) fn look(&mut self, snapshot: &Snapshot, status: &Status) {
        let Some(until) = self.until else {
            return;
        };
        let mut missing = missing(snapshot);
        if until <= Instant::now() {
            for line in missing.drain(..) {
                tracing::warn!("ready without a secret: {line}");
            }
        }
        if missing.is_empty() {
            self.until = None;
        }
        status.hold_all(SECRETS, missing);
    }

    /// Returns when it has been long enough; never where nothing is awaited.
    pub(super) fn expired(&self) -> impl Future<Output = ()> + Send + use<> {
        let until = self.until;
        async move {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        }
    }
}

/// Upstreams that cannot speak TLS, and ways in that let nobody in without. An inbound port that
/// takes clear text too is open as it is.
fn missing(snapshot: &Snapshot) -> Vec<String> {
    let upstreams = snapshot.upstreams.values();
    let upstreams = upstreams.filter_map(|upstream| match upstream.tls() {
        UpstreamTls::Unavailable(why) => Some(format!("upstream {}: {why}", upstream.spec().name)),
        UpstreamTls::Plain | UpstreamTls::Tls(_) => None,
    });
    let entrances = snapshot.entrances.all().iter();
    let entrances = entrances.filter_map(|entrance| match entrance.tls.server()? {
        ServerSide::Unavailable(why) if matches!(entrance.spec.tls, DownstreamTls::Strict(_)) => {
            Some(format!("entrance {}: {why}", entrance.spec.name))
        }
        ServerSide::Unavailable(_) | ServerSide::Ready(_) => None,
    });
    let mut lines: Vec<String> = upstreams.chain(entrances).take(MOST).collect();
    lines.sort();
    lines
}
