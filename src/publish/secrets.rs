//! Secrets that have not come yet: until they have, the process is not ready.
//!
//! Owns: that reason (ISTIO.md I14), until the first time that none is missing.
//! Never: makes a request wait: what lacks a secret answers 503 (T17).
//! Called by: `publish::reload`.
//!
//! Why only at first: a pod is not sent requests, nor its application started, before the secrets
//! that were promised are there. Later one upstream's trouble is no reason to lose all the others.

use crate::model::DownstreamTls;
use crate::snapshot::{ServerSide, Snapshot};
use crate::telemetry::Status;
use crate::upstream::UpstreamTls;

/// What readiness calls them.
const SECRETS: &str = "secrets";
/// So many are told.
const MOST: usize = 20;

/// Whether the first complete set is still awaited.
#[derive(Debug, Default)]
pub(super) struct Awaited {
    over: bool,
}

impl Awaited {
    /// Looks at what `snapshot` lacks.
    pub(super) fn look(&mut self, snapshot: &Snapshot, status: &Status) {
        if self.over {
            return;
        }
        let missing = missing(snapshot);
        self.over = missing.is_empty();
        status.hold_all(SECRETS, missing);
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
