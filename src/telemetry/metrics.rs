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

use super::labels::{Caller, OwnLabels};
use super::shard::{Counter, Gauge, ReasonCounter, lock};
use super::upstream_stats::UpstreamStats;
use crate::model::{ProxyFacts, ServiceLabels};

/// An upstream that no configuration names any more is shown for this long.
pub const GRACE: Duration = Duration::from_secs(15 * 60);

/// Callers of one entrance that are told apart at a time. A caller is known by the SPIFFE name in a
/// certificate that was verified, so that only the mesh's own CA can make more.
pub const MOST_CALLERS: usize = 1000;

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
    upstreams: Mutex<BTreeMap<Arc<str>, Tracked>>,
    /// By the entrance's name. Locked once for each connection, never by a request.
    entrances: Mutex<BTreeMap<Arc<str>, BTreeMap<Caller, Tracked>>>,
    own: Mutex<Arc<OwnLabels>>,
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
    /// Requests and connections that were refused before they were routed, by reason: `malformed`,
    /// `timeout`, `tls_in_tls`, ...
    pub rejected: ReasonCounter,
    /// TLS handshakes with clients that succeeded.
    pub handshakes: Counter,
    /// Those that failed, by the label of the tls room's `AcceptError`, or a word of the listener's.
    pub handshake_failures: ReasonCounter,
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
    /// `client` for what we show, `ca` for whom we trust, `crl` for lists (next update).
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
struct Tracked {
    stats: Arc<UpstreamStats>,
    unused_since: Option<Instant>,
}

impl Tracked {
    fn new(name: &Arc<str>, caller: Option<Caller>, workers: usize) -> Self {
        Tracked {
            stats: Arc::new(UpstreamStats::new(Arc::clone(name), caller, workers)),
            unused_since: None,
        }
    }

    /// The counters, for somebody who will hold them.
    fn take(&mut self) -> Arc<UpstreamStats> {
        self.unused_since = None;
        Arc::clone(&self.stats)
    }

    /// False once nobody has held the counters for [`GRACE`].
    fn stays(&mut self, now: Instant) -> bool {
        if Arc::strong_count(&self.stats) > 1 {
            self.unused_since = None;
            return true;
        }
        let since = *self.unused_since.get_or_insert(now);
        now.saturating_duration_since(since) < GRACE
    }
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
                    handshakes: Counter::new(workers),
                    handshake_failures: ReasonCounter::new(workers),
                },
                config: ConfigMetrics::default(),
                certs: CertMetrics::default(),
                access_log: AccessLogMetrics {
                    dropped: Counter::new(workers),
                    write_errors: Counter::new(workers),
                },
                started: SystemTime::now(),
                upstreams: Mutex::default(),
                entrances: Mutex::default(),
                own: Mutex::default(),
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
            return tracked.take();
        }
        let name: Arc<str> = name.into();
        let tracked = Tracked::new(&name, None, self.workers);
        upstreams.entry(name).or_insert(tracked).take()
    }

    /// The counters of what `caller` asks of `service`, the application beside us, by the entrance of
    /// this name (ISTIO.md B3). An entrance has counters for [`MOST_CALLERS`] at a time; whoever
    /// comes after that is counted as a caller whose principal is unknown. Not for the request path:
    /// hold what it returns for as long as the connection lives.
    pub fn entrance(
        &self,
        name: &Arc<str>,
        service: &Arc<ServiceLabels>,
        mut caller: Caller,
    ) -> Arc<UpstreamStats> {
        let mut entrances = lock(&self.entrances);
        let callers = entrances.entry(Arc::clone(name)).or_default();
        if callers.len() >= MOST_CALLERS && !callers.contains_key(&caller) {
            caller.principal = None;
            caller.own = None;
        }
        let tracked = callers
            .entry(caller)
            .or_insert_with_key(|caller| Tracked::new(name, Some(caller.clone()), self.workers));
        tracked.stats.describe(Some(service));
        tracked.take()
    }

    /// The same for an upstream of which is known what service it is a part of, for Istio's labels
    /// (ISTIO.md B2). The last one to say so is believed.
    pub fn upstream_of(
        &self,
        name: &str,
        service: Option<&Arc<ServiceLabels>>,
    ) -> Arc<UpstreamStats> {
        let stats = self.upstream(name);
        stats.describe(service);
        stats
    }

    /// Says who this proxy is, for Istio's labels, from now on.
    pub fn describe_source(&self, facts: &ProxyFacts) {
        let labels = OwnLabels::of(facts);
        let mut own = lock(&self.own);
        if **own != labels {
            *own = Arc::new(labels);
        }
    }

    pub(super) fn own(&self) -> Arc<OwnLabels> {
        Arc::clone(&lock(&self.own))
    }

    pub(super) fn all_upstreams(&self) -> Vec<Arc<UpstreamStats>> {
        let upstreams = lock(&self.upstreams);
        upstreams
            .values()
            .map(|one| Arc::clone(&one.stats))
            .collect()
    }

    pub(super) fn all_entrances(&self) -> Vec<Arc<UpstreamStats>> {
        let entrances = lock(&self.entrances);
        let callers = entrances.values().flat_map(BTreeMap::values);
        callers.map(|one| Arc::clone(&one.stats)).collect()
    }

    /// Everything in OpenMetrics text.
    pub fn encode(&self) -> String {
        self.sweep(Instant::now());
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }

    /// The same as `text/plain; version=0.0.4`, for readers that do not ask for OpenMetrics.
    pub fn encode_plain(&self) -> String {
        super::exposition_page::plain_text(&self.encode())
    }

    /// Drops the counters that nobody has held for [`GRACE`].
    fn sweep(&self, now: Instant) {
        lock(&self.upstreams).retain(|_, tracked| tracked.stays(now));
        lock(&self.entrances).retain(|_, callers| {
            callers.retain(|_, tracked| tracked.stays(now));
            !callers.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Event, Flags, Handshake, Level, RequestProtocol, RequestRecord, Tcp};
    use std::collections::{HashMap, HashSet};

    fn filled() -> Arc<Metrics> {
        let metrics = Metrics::new(2);
        let bank = metrics.upstream("bank \"north\"\\");
        let record = RequestRecord {
            code: 200,
            flags: Flags::NONE,
            protocol: RequestProtocol::Http,
            duration: Duration::from_micros(7_500),
            request_bytes: 120,
            response_bytes: 4096,
            messages: (0, 0),
        };
        bank.record(&record);
        bank.record(&RequestRecord {
            code: 503,
            flags: Flags::UF | Flags::URX,
            ..record
        });
        bank.record(&RequestRecord {
            protocol: RequestProtocol::Grpc(Some(14)),
            messages: (3, 5),
            ..record
        });
        metrics.upstream(BLACK_HOLE).record(&RequestRecord {
            code: 502,
            ..record
        });
        bank.count(Event::Retry);
        bank.raise(Level::Connections);
        bank.connect_failed("refused");
        bank.dns_failed("timeout");
        let (mode, version, verified) = ("mutual", "TLSv1.3", "name");
        bank.handshake(Handshake {
            resumed: false,
            mode,
            version,
            verified,
        });
        bank.handshake(Handshake {
            resumed: true,
            mode,
            version,
            verified,
        });
        bank.handshake_failed("expired");
        metrics.downstream.rejected.inc("malformed");
        metrics.downstream.handshakes.inc();
        metrics.downstream.handshake_failures.inc("unknown_ca");
        metrics.config.accepted(
            3,
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        );
        metrics.config.refused();
        let row = |serial: &str| CertExpiry {
            resource: "file-cert:a.crt~a.key".into(),
            serial: serial.into(),
            usage: "client",
            not_after: 1_900_000_000,
        };
        metrics
            .certs
            .set_expiry(vec![row("0a"), row("0a"), row("0b")]);
        metrics
            .certs
            .failed("file-cert:a.crt~a.key", "key_mismatch");
        metrics.certs.rotated("file-cert:a.crt~a.key");
        metrics
    }

    /// Reads `name{a="b"} value` and panics where the line is not of that shape.
    fn sample(line: &str) -> (String, Vec<(String, String)>, f64) {
        let name_end = line.find(['{', ' ']).expect(line);
        let (name, mut rest) = line.split_at(name_end);
        assert!(
            name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'),
            "{line}"
        );
        let mut labels = Vec::new();
        if let Some(inside) = rest.strip_prefix('{') {
            rest = inside;
            while !rest.starts_with('}') {
                let (key, value) = rest.split_once("=\"").expect(line);
                let mut text = String::new();
                let mut chars = value.char_indices();
                let end = loop {
                    match chars.next().expect(line) {
                        (_, '\\') => text.push(chars.next().expect(line).1),
                        (end, '"') => break end,
                        (_, c) => text.push(c),
                    }
                };
                labels.push((key.to_owned(), text));
                rest = &value[end + 1..];
                rest = rest.strip_prefix(',').unwrap_or(rest);
            }
            rest = &rest[1..];
        }
        let value = rest.strip_prefix(' ').expect(line).parse().expect(line);
        labels.sort();
        (name.to_owned(), labels, value)
    }

    /// Checks a page line by line and returns its samples.
    fn check(text: &str, open_metrics: bool) -> HashMap<(String, Vec<(String, String)>), f64> {
        let (mut samples, mut families, mut kind) = (HashMap::new(), HashSet::new(), ("", ""));
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                kind = rest.split_once(' ').expect(line);
                assert!(families.insert(kind.0), "twice: {line}");
            } else if line == "# EOF" {
                assert!(open_metrics && text.ends_with("\n# EOF\n"));
            } else if !line.starts_with("# HELP ") {
                let (name, labels, value) = sample(line);
                let suffix = name.strip_prefix(kind.0).expect(line);
                let allowed: &[&str] = match kind.1 {
                    "counter" if open_metrics => &["_total"],
                    "histogram" => &["_sum", "_count", "_bucket"],
                    "gauge" | "counter" | "unknown" | "untyped" => &[""],
                    other => panic!("{other}"),
                };
                assert!(allowed.contains(&suffix), "{line}");
                let keys: HashSet<_> = labels.iter().map(|(key, _)| key).collect();
                assert_eq!(keys.len(), labels.len(), "{line}");
                assert!(
                    samples.insert((name, labels), value).is_none(),
                    "twice: {line}"
                );
            }
        }
        samples
    }

    fn pairs(labels: &[(&str, &str)]) -> Vec<(String, String)> {
        let pairs = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        sorted(pairs.collect())
    }

    fn sorted(mut labels: Vec<(String, String)>) -> Vec<(String, String)> {
        labels.sort();
        labels
    }

    #[test]
    fn every_line_is_of_the_exposition_format_and_none_comes_twice() {
        let metrics = filled();
        let open = check(&metrics.encode(), true);
        let plain = check(&metrics.encode_plain(), false);
        assert_eq!(open, plain);
        assert!(metrics.encode().contains("\nsortie_config_version 3\n"));
        let name = "bank \"north\"\\";
        for (metric, labels, value) in [
            (
                "sortie_upstream_retries_total",
                &[("upstream", name)][..],
                1.0,
            ),
            ("sortie_upstream_connections", &[("upstream", name)], 1.0),
            (
                "sortie_config_reloads_total",
                &[("outcome", "refused")],
                1.0,
            ),
            ("sortie_config_version", &[], 3.0),
            (
                "sortie_config_last_success_timestamp_seconds",
                &[],
                1_800_000_000.0,
            ),
            (
                "sortie_downstream_rejected_requests_total",
                &[("reason", "malformed")],
                1.0,
            ),
            ("sortie_downstream_handshakes_total", &[], 1.0),
            (
                "sortie_downstream_handshake_failures_total",
                &[("reason", "unknown_ca")],
                1.0,
            ),
            (
                "sortie_upstream_tls",
                &[
                    ("upstream", name),
                    ("mode", "mutual"),
                    ("version", "TLSv1.3"),
                    ("verified", "name"),
                ],
                2.0,
            ),
            (
                "sortie_upstream_handshakes_total",
                &[
                    ("upstream", name),
                    ("outcome", "failed"),
                    ("reason", "expired"),
                ],
                1.0,
            ),
        ] {
            let key = (metric.to_owned(), pairs(labels));
            assert_eq!(open.get(&key), Some(&value), "{metric}");
        }
    }

    #[test]
    fn b1_requests_have_istios_names_and_labels() {
        let samples = check(&filled().encode(), true);
        let labels = |service, name, protocol, code, flags| {
            let mut labels = pairs(&[
                ("reporter", "source"),
                ("source_canonical_revision", "latest"),
                ("destination_canonical_revision", "latest"),
                ("destination_service", service),
                ("destination_service_name", name),
                ("request_protocol", protocol),
                ("response_code", code),
                ("response_flags", flags),
                ("connection_security_policy", "unknown"),
            ]);
            for unknown in [
                "source_workload",
                "source_canonical_service",
                "source_workload_namespace",
                "source_principal",
                "source_app",
                "source_version",
                "source_cluster",
                "destination_workload",
                "destination_workload_namespace",
                "destination_principal",
                "destination_app",
                "destination_version",
                "destination_canonical_service",
                "destination_service_namespace",
                "destination_cluster",
            ] {
                labels.push((unknown.to_owned(), "unknown".to_owned()));
            }
            sorted(labels)
        };
        let bank = "bank \"north\"\\";
        let failed = labels(bank, bank, "http", "503", "UF,URX");
        assert_eq!(samples[&("istio_requests_total".to_owned(), failed)], 1.0);
        let unknown = labels("unknown", BLACK_HOLE, "http", "502", "-");
        assert_eq!(samples[&("istio_requests_total".to_owned(), unknown)], 1.0);
        let mut grpc = labels(bank, bank, "grpc", "200", "-");
        grpc.push(("grpc_response_status".to_owned(), "14".to_owned()));
        assert_eq!(
            samples[&("istio_requests_total".to_owned(), sorted(grpc))],
            1.0
        );
        for (name, count) in [("request", 3.0), ("response", 5.0)] {
            let mut labels = labels(bank, bank, "grpc", "200", "-");
            let of_the_end = ["response_code", "response_flags"];
            labels.retain(|(name, _)| !of_the_end.contains(&name.as_str()));
            let name = format!("istio_{name}_messages_total");
            assert_eq!(samples[&(name, labels)], count);
        }
        let good = labels(bank, bank, "http", "200", "-");
        let bucket = |bound: &str| {
            let mut labels = good.clone();
            labels.push(("le".to_owned(), bound.to_owned()));
            samples[&(
                "istio_request_duration_milliseconds_bucket".to_owned(),
                sorted(labels),
            )]
        };
        assert_eq!(
            (bucket("5.0"), bucket("10.0"), bucket("+Inf")),
            (0.0, 1.0, 1.0)
        );
        let sum = (
            "istio_request_duration_milliseconds_sum".to_owned(),
            good.clone(),
        );
        assert_eq!(samples[&sum], 7.5);
        let sum = ("istio_response_bytes_sum".to_owned(), good);
        assert_eq!(samples[&sum], 4096.0);
    }

    #[test]
    fn b2_a_reload_with_other_facts_and_services_changes_the_labels_and_not_the_counts() {
        let metrics = Metrics::new(1);
        let record = RequestRecord {
            code: 200,
            flags: Flags::NONE,
            protocol: RequestProtocol::Http,
            duration: Duration::from_millis(1),
            request_bytes: 1,
            response_bytes: 1,
            messages: (0, 0),
        };
        let name = "outbound|80||bank.example";
        let described = |namespace: &str, service: &str| {
            metrics.describe_source(&ProxyFacts {
                namespace: namespace.into(),
                ..ProxyFacts::default()
            });
            let service = Arc::new(ServiceLabels {
                host: service.into(),
                name: service.into(),
                ..ServiceLabels::default()
            });
            metrics.upstream_of(name, Some(&service)).record(&record);
            let page = metrics.encode();
            let lines = page
                .lines()
                .filter(|line| line.starts_with("istio_requests_total"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        for (round, namespace, service) in [(1, "shop", "bank"), (2, "store", "bourse")] {
            let lines = described(namespace, service);
            assert_eq!(lines.len(), 1, "{lines:?}");
            let words = [
                format!("source_workload_namespace=\"{namespace}\""),
                format!("destination_service=\"{service}\""),
                format!("}} {round}"),
            ];
            assert!(
                words.iter().all(|word| lines[0].contains(word)),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn b1_opaque_connections_have_istios_names_and_no_status() {
        let metrics = Metrics::new(1);
        let mysql = metrics.upstream("mysql");
        for what in [Tcp::Opened, Tcp::Opened, Tcp::Received(7), Tcp::Sent(11)] {
            mysql.stream(what);
        }
        mysql.stream(Tcp::Closed(Flags::UF | Flags::URX));
        let samples = check(&metrics.encode(), true);
        let has = |flags, labels: &[(String, String)]| {
            let expected = pairs(&[
                ("reporter", "source"),
                ("destination_service", "mysql"),
                ("request_protocol", "tcp"),
                ("response_flags", flags),
                ("connection_security_policy", "unknown"),
            ]);
            let lacks = ["response_code", "grpc_response_status"];
            expected.iter().all(|pair| labels.contains(pair))
                && !labels
                    .iter()
                    .any(|(name, _)| lacks.contains(&name.as_str()))
        };
        for (name, flags, value) in [
            ("istio_tcp_connections_opened_total", "-", 2.0),
            ("istio_tcp_received_bytes_total", "-", 7.0),
            ("istio_tcp_sent_bytes_total", "-", 11.0),
            ("istio_tcp_connections_closed_total", "UF,URX", 1.0),
        ] {
            let fit = samples
                .iter()
                .filter(|((of, labels), _)| of == name && has(flags, labels));
            let found: Vec<f64> = fit.map(|(_, value)| *value).collect();
            assert_eq!(found, [value], "{name}");
        }
        let requests = |(name, _): &&(String, _)| name.starts_with("istio_requests");
        assert_eq!(samples.keys().filter(requests).count(), 0);
    }

    #[test]
    fn r17_expiry_rows_vanish_with_the_old_generation() {
        let metrics = filled();
        assert_eq!(
            metrics
                .encode()
                .matches("sortie_cert_expiry_timestamp_seconds{")
                .count(),
            2
        );
        metrics.certs.set_expiry(Vec::new());
        assert!(
            !metrics
                .encode()
                .contains("sortie_cert_expiry_timestamp_seconds{")
        );
        metrics.certs.retain(|_| false);
        assert!(!metrics.encode().contains("sortie_cert_rotations_total"));
    }

    #[test]
    fn an_upstream_that_vanished_is_shown_for_a_while_and_then_forgotten() {
        let metrics = Metrics::new(1);
        let held = metrics.upstream("held");
        held.count(Event::Connect);
        metrics.upstream("gone").count(Event::Connect);
        let start = Instant::now();
        let names = || lock(&metrics.upstreams).keys().cloned().collect::<Vec<_>>();
        metrics.sweep(start);
        metrics.sweep(start + GRACE - Duration::from_secs(1));
        assert_eq!(names(), ["gone".into(), "held".into()]);
        metrics.sweep(start + GRACE);
        assert_eq!(names(), ["held".into()]);
    }

    #[test]
    fn an_upstream_that_comes_back_in_time_goes_on_counting() {
        let metrics = Metrics::new(1);
        metrics.upstream("bank").count(Event::Connect);
        let start = Instant::now();
        metrics.sweep(start);
        let again = metrics.upstream("bank");
        metrics.sweep(start + GRACE * 2);
        assert_eq!(again.counted(Event::Connect), 1);
        assert!(Arc::ptr_eq(&again, &metrics.upstream("bank")));
    }

    /// The values of `istio_requests_total` by principal of the source and security.
    fn callers(metrics: &Metrics) -> Vec<(String, String, f64)> {
        let samples = check(&metrics.encode(), true);
        let mut found: Vec<_> = samples
            .into_iter()
            .filter(|((name, labels), _)| {
                let reporter = ("reporter".to_owned(), "destination".to_owned());
                name == "istio_requests_total" && labels.contains(&reporter)
            })
            .map(|((_, labels), value)| {
                let label = |name: &str| {
                    let found = labels.iter().find(|(label, _)| label == name);
                    found.unwrap().1.clone()
                };
                let policy = label("connection_security_policy");
                (label("source_principal"), policy, value)
            })
            .collect();
        found.sort_by(|a, b| a.partial_cmp(b).unwrap());
        found
    }

    fn caller(principal: &str) -> Caller {
        Caller {
            mutual: true,
            principal: Some(principal.into()),
            own: None,
        }
    }

    const GOOD: RequestRecord = RequestRecord {
        code: 200,
        flags: Flags::NONE,
        protocol: RequestProtocol::Http,
        duration: Duration::from_millis(1),
        request_bytes: 1,
        response_bytes: 1,
        messages: (0, 0),
    };

    fn till() -> (Arc<str>, Arc<ServiceLabels>) {
        let service = ServiceLabels {
            host: "till".into(),
            name: "till".into(),
            ..ServiceLabels::default()
        };
        ("inbound|80".into(), Arc::new(service))
    }

    #[test]
    fn b3_callers_of_an_entrance_are_counted_each_for_itself() {
        let metrics = Metrics::new(1);
        let (name, service) = till();
        for (caller, times) in [
            (caller("spiffe://td/ns/a/sa/b"), 2),
            (caller("spiffe://td/ns/a/sa/c"), 1),
            (Caller::default(), 3),
        ] {
            for _ in 0..times {
                let stats = metrics.entrance(&name, &service, caller.clone());
                stats.record(&GOOD);
            }
        }
        let of = |name: &str, policy: &str, count| (name.to_owned(), policy.to_owned(), count);
        assert_eq!(
            callers(&metrics),
            [
                of("spiffe://td/ns/a/sa/b", "mutual_tls", 2.0),
                of("spiffe://td/ns/a/sa/c", "mutual_tls", 1.0),
                of("unknown", "none", 3.0),
            ]
        );
        let page = metrics.encode();
        assert!(!page.contains("upstream=\"inbound|80\""), "{page}");
    }

    #[test]
    fn b3_so_many_callers_are_told_apart_and_the_rest_is_unknown() {
        let metrics = Metrics::new(1);
        let (name, service) = till();
        for index in 0..MOST_CALLERS + 7 {
            let caller = caller(&format!("spiffe://td/ns/a/sa/{index}"));
            metrics.entrance(&name, &service, caller).record(&GOOD);
        }
        let known = caller("spiffe://td/ns/a/sa/0");
        metrics.entrance(&name, &service, known).record(&GOOD);
        let found = callers(&metrics);
        assert_eq!(found.len(), MOST_CALLERS + 1);
        let value = |name: &str| found.iter().find(|row| row.0 == name).unwrap().2;
        assert_eq!(
            (value("unknown"), value("spiffe://td/ns/a/sa/0")),
            (7.0, 2.0)
        );
    }

    #[test]
    fn a_caller_who_left_is_shown_for_a_while_and_then_forgotten() {
        let metrics = Metrics::new(1);
        let (name, service) = till();
        let held = metrics.entrance(&name, &service, caller("spiffe://td/ns/a/sa/held"));
        drop(metrics.entrance(&name, &service, caller("spiffe://td/ns/a/sa/gone")));
        let start = Instant::now();
        metrics.sweep(start);
        metrics.sweep(start + GRACE - Duration::from_secs(1));
        assert_eq!(metrics.all_entrances().len(), 2);
        metrics.sweep(start + GRACE);
        let left = metrics.all_entrances();
        assert!(matches!(&left[..], [one] if Arc::ptr_eq(one, &held)));
        drop((left, held));
        metrics.sweep(start + GRACE);
        metrics.sweep(start + GRACE * 2);
        assert!(lock(&metrics.entrances).is_empty());
    }

    #[test]
    fn b2_two_upstreams_of_one_service_are_one_series() {
        let metrics = Metrics::new(1);
        let (_, service) = till();
        for name in ["outbound|80||till", "outbound|80|v1|till"] {
            let stats = metrics.upstream_of(name, Some(&service));
            stats.record(&GOOD);
            [Tcp::Opened, Tcp::Sent(5), Tcp::Closed(Flags::NONE)]
                .into_iter()
                .for_each(|what| stats.stream(what));
        }
        let samples = check(&metrics.encode(), true);
        for (metric, value) in [
            ("istio_requests_total", 2.0),
            ("istio_request_duration_milliseconds_count", 2.0),
            ("istio_tcp_sent_bytes_total", 10.0),
            ("istio_tcp_connections_closed_total", 2.0),
        ] {
            let found = samples.iter().filter(|((name, _), _)| name == metric);
            let found: Vec<_> = found.map(|(_, value)| *value).collect();
            assert_eq!(found, [value], "{metric}");
        }
    }
}
