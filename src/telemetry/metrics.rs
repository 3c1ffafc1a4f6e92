//! Everything that is counted, under names that are a public contract.
//!
//! Owns: one set of counters for each instance of the proxy; nothing is global.
//! Never: makes a label of what a client sends. Upstreams come from the configuration only.
//! Called by: every room that counts; admin (`encode`).
//!
//! Why counters of vanished upstreams stay for a while: the last scrape has yet to come. After
//! [`GRACE`] they go, so that generated names cannot fill the memory over a year of reloads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant, SystemTime};

use prometheus_client::registry::Registry;

use super::shard::{Counter, Gauge, ReasonCounter, lock};
use super::upstream_stats::UpstreamStats;

/// An upstream that no configuration names any more is shown for this long.
pub const GRACE: Duration = Duration::from_secs(15 * 60);

/// B4: the name under which requests for refused unknown hosts are counted.
pub const BLACK_HOLE: &str = "BlackHoleCluster";
/// B4: the name under which requests for unknown hosts that pass through are counted.
pub const PASSTHROUGH: &str = "PassthroughCluster";
/// The name under which requests are counted that no upstream was found for.
pub const UNKNOWN: &str = "unknown";

/// All counters of one proxy.
#[derive(Debug)]
pub struct Metrics {
    /// The clients' side.
    pub downstream: DownstreamMetrics,
    /// Configuration and its reloads.
    pub config: ConfigMetrics,
    /// Credentials.
    pub certs: CertMetrics,
    /// The access log itself.
    pub access_log: AccessLogMetrics,
    /// When this instance was made, as good as the process's start.
    pub(super) started: SystemTime,
    pub(super) upstreams: Mutex<BTreeMap<Arc<str>, Tracked>>,
    workers: usize,
    registry: Registry,
}

/// Counts of the clients' side.
#[derive(Debug)]
pub struct DownstreamMetrics {
    /// Open connections.
    pub connections: Gauge,
    /// Connections accepted.
    pub accepted: Counter,
    /// `accept` failed.
    pub accept_errors: Counter,
    /// Requests that were refused before they were routed, by reason: `malformed`, `head_too_large`,
    /// `timeout`, ...
    pub rejected: ReasonCounter,
}

/// Counts of the access log.
#[derive(Debug)]
pub struct AccessLogMetrics {
    /// Lines dropped because the queue was full.
    pub dropped: Counter,
    /// Writes that failed.
    pub write_errors: Counter,
}

/// Outcomes of loading the configuration.
#[derive(Debug, Default)]
pub struct ConfigMetrics(Mutex<ConfigState>);

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConfigState {
    pub(super) accepted: u64,
    pub(super) refused: u64,
    pub(super) version: u64,
    pub(super) last_success: Option<SystemTime>,
}

impl ConfigMetrics {
    /// A configuration was published as `version` at `now`.
    pub fn accepted(&self, version: u64, now: SystemTime) {
        let mut state = lock(&self.0);
        state.accepted += 1;
        state.version = version;
        state.last_success = Some(now);
    }

    /// A configuration was refused; the one before stays.
    pub fn refused(&self) {
        lock(&self.0).refused += 1;
    }

    pub(super) fn state(&self) -> ConfigState {
        *lock(&self.0)
    }
}

/// When one certificate of a credential ends (R17).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CertExpiry {
    /// Resource name, such as `file-cert:a.crt~a.key`.
    pub resource: String,
    /// Lower-case hexadecimal.
    pub serial: String,
    /// `client` for what we show, `ca` for whom we trust.
    pub usage: &'static str,
    /// Seconds since 1970.
    pub not_after: i64,
}

/// Counts and gauges of credentials.
#[derive(Debug, Default)]
pub struct CertMetrics(Mutex<CertState>);

#[derive(Clone, Debug, Default)]
pub(super) struct CertState {
    pub(super) expiry: Vec<CertExpiry>,
    pub(super) failures: BTreeMap<(String, &'static str), u64>,
    pub(super) rotations: BTreeMap<String, u64>,
}

impl CertMetrics {
    /// All certificates that are loaded now. Rows of an older generation vanish.
    pub fn set_expiry(&self, mut rows: Vec<CertExpiry>) {
        rows.sort();
        rows.dedup_by(|a, b| {
            (&a.resource, &a.serial, a.usage) == (&b.resource, &b.serial, b.usage)
        });
        lock(&self.0).expiry = rows;
    }

    /// A credential could not be loaded again (R12); `reason` is a word such as `key_mismatch`.
    pub fn failed(&self, resource: &str, reason: &'static str) {
        let key = (resource.to_owned(), reason);
        *lock(&self.0).failures.entry(key).or_insert(0) += 1;
    }

    /// A new generation was taken.
    pub fn rotated(&self, resource: &str) {
        let mut state = lock(&self.0);
        *state.rotations.entry(resource.to_owned()).or_insert(0) += 1;
    }

    /// Drops the counters of every resource that `keep` does not hold to be in use.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        let mut state = lock(&self.0);
        state.failures.retain(|(resource, _), _| keep(resource));
        state.rotations.retain(|resource, _| keep(resource));
        state.expiry.retain(|row| keep(&row.resource));
    }

    pub(super) fn state(&self) -> CertState {
        lock(&self.0).clone()
    }
}

/// An upstream's counters, and since when nobody else has held them.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) stats: Arc<UpstreamStats>,
    unused_since: Option<Instant>,
}

impl Metrics {
    /// Everything at zero, for `workers` workers (see [`super::set_shard`]) and all other threads.
    pub fn new(workers: usize) -> Arc<Metrics> {
        Arc::new_cyclic(|this: &Weak<Metrics>| {
            let mut registry = Registry::default();
            registry.register_collector(Box::new(super::exposition::Exposition(Weak::clone(this))));
            Metrics {
                downstream: DownstreamMetrics {
                    connections: Gauge::new(workers),
                    accepted: Counter::new(workers),
                    accept_errors: Counter::new(workers),
                    rejected: ReasonCounter::new(workers),
                },
                config: ConfigMetrics::default(),
                certs: CertMetrics::default(),
                access_log: AccessLogMetrics {
                    dropped: Counter::new(workers),
                    write_errors: Counter::new(workers),
                },
                started: SystemTime::now(),
                upstreams: Mutex::default(),
                workers,
                registry,
            }
        })
    }

    /// How many workers have a shard of their own.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// The counters of the upstream `name`: the same ones as long as anybody holds them, and for
    /// [`GRACE`] after that. For requests without an upstream there are [`BLACK_HOLE`],
    /// [`PASSTHROUGH`] and [`UNKNOWN`]. Not for the request path: hold what it returns.
    pub fn upstream(&self, name: &str) -> Arc<UpstreamStats> {
        let mut upstreams = lock(&self.upstreams);
        if let Some(tracked) = upstreams.get_mut(name) {
            tracked.unused_since = None;
            return Arc::clone(&tracked.stats);
        }
        let name: Arc<str> = name.into();
        let stats = Arc::new(UpstreamStats::new(Arc::clone(&name), self.workers));
        let tracked = Tracked {
            stats: Arc::clone(&stats),
            unused_since: None,
        };
        upstreams.insert(name, tracked);
        stats
    }

    /// Everything in OpenMetrics text.
    pub fn encode(&self) -> String {
        self.sweep(Instant::now());
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }

    /// Drops the upstreams that nobody has held for [`GRACE`].
    fn sweep(&self, now: Instant) {
        lock(&self.upstreams).retain(|_, tracked| {
            if Arc::strong_count(&tracked.stats) > 1 {
                tracked.unused_since = None;
                return true;
            }
            let since = *tracked.unused_since.get_or_insert(now);
            now.saturating_duration_since(since) < GRACE
        });
    }
}
