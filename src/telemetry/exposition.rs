//! Every metric: its name, its help text, its labels, and where its numbers come from.
//!
//! Owns: those names and labels: a public contract.
//! Never: counts.
//! Called by: `Metrics::encode`, through prometheus-client's registry.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::exposition_page::{Labels, Page};
use super::labels::{message_labels, request_labels};
use super::metrics::{BLACK_HOLE, Metrics, UNKNOWN};
use super::tcp_stats::TcpSums;
use super::upstream_stats::{
    BUCKETS, Event, Grpc, Histogram, Level, Series, SeriesKey, Sums, UpstreamStats,
};

/// Reads the counters of one [`Metrics`] when asked.
#[derive(Debug)]
pub(super) struct Exposition(pub(super) Weak<Metrics>);

impl Collector for Exposition {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(metrics) = self.0.upgrade() else {
            return Ok(());
        };
        let mut page = Page(encoder);
        let upstreams = sums(&metrics, metrics.all_upstreams());
        let entrances = sums(&metrics, metrics.all_entrances());
        let rows = rows(upstreams.iter().chain(&entrances));
        page.process(&metrics)?;
        page.requests(&rows)?;
        page.messages(&rows)?;
        page.streams(&rows)?;
        page.downstream(&metrics)?;
        page.pools(&upstreams)?;
        page.failures(&upstreams)?;
        page.handshakes(&upstreams)?;
        page.config(&metrics)?;
        page.certs(&metrics)?;
        page.access_log(&metrics)
    }
}

/// What somebody has used of `all`, by name.
fn sums(metrics: &Metrics, all: Vec<Arc<UpstreamStats>>) -> Vec<(Arc<str>, Sums)> {
    let own = metrics.own();
    let used = all.iter().filter_map(|stats| {
        let mut sums = stats.sums()?;
        sums.parties.own = Arc::clone(&own);
        Some((Arc::clone(stats.name()), sums))
    });
    used.collect()
}

/// What Istio's metrics tell of one pair of parties.
pub(super) struct Row<'a> {
    /// Those that all its series share.
    pub(super) labels: Labels<'a>,
    /// `connection_security_policy`.
    pub(super) policy: &'static str,
    pub(super) series: BTreeMap<SeriesKey, Series>,
    pub(super) tcp: TcpSums,
}

/// One for each pair of parties: two upstreams, or two entrances, of which Istio's labels say the
/// same would else be the same series twice, which no reader takes.
fn rows<'a>(all: impl Iterator<Item = &'a (Arc<str>, Sums)>) -> Vec<Row<'a>> {
    let mut rows: BTreeMap<(Labels<'a>, &'static str), (BTreeMap<_, Series>, TcpSums)> =
        BTreeMap::new();
    for (name, sums) in all {
        let key = (sums.parties.labels(name), sums.parties.policy());
        let (series, tcp) = rows.entry(key).or_default();
        for (key, more) in &sums.series {
            series.entry(*key).or_default().merge(more);
        }
        tcp.merge(&sums.tcp);
    }
    let row = |((labels, policy), (series, tcp))| Row {
        labels,
        policy,
        series,
        tcp,
    };
    rows.into_iter().map(row).collect()
}

/// The upstreams that have connections: all but those that stand for "none".
fn real(upstreams: &[(Arc<str>, Sums)]) -> impl Iterator<Item = (&str, &Sums)> {
    let all = upstreams.iter().map(|(name, sums)| (name.as_ref(), sums));
    all.filter(|(name, _)| *name != BLACK_HOLE && *name != UNKNOWN)
}

type Pick = fn(&Series) -> &Histogram;

fn of<'a>(upstream: &'a str) -> Labels<'a> {
    vec![("upstream", upstream.into())]
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

impl Page<'_> {
    fn process(&mut self, metrics: &Metrics) -> fmt::Result {
        let version = vec![("version", env!("CARGO_PKG_VERSION").into())];
        self.gauge(
            "sortie_build_info",
            "Always 1; the labels say what runs",
            [(version, 1u64)],
        )?;
        self.gauge(
            "process_start_time_seconds",
            "When the process started, in seconds since 1970",
            [(Vec::new(), seconds(metrics.started))],
        )
    }

    /// B1, B2.
    fn requests(&mut self, rows: &[Row<'_>]) -> fmt::Result {
        let rows = || {
            rows.iter().flat_map(|row| {
                let labels = |key| request_labels(&row.labels, row.policy, key);
                let series = row.series.iter();
                series.map(move |(key, series)| (labels(*key), series))
            })
        };
        let counts = rows().map(|(labels, series)| (labels, series.duration.count()));
        self.counter("istio_requests", "Requests that have ended", counts)?;
        let histograms: [(&str, &str, Pick); 3] = [
            (
                "istio_request_duration_milliseconds",
                "From a request's first byte to its answer's last",
                |series| &series.duration,
            ),
            (
                "istio_request_bytes",
                "Bytes of a request, head and body",
                |series| &series.request_bytes,
            ),
            (
                "istio_response_bytes",
                "Bytes of an answer, head and body",
                |series| &series.response_bytes,
            ),
        ];
        for (name, help, pick) in histograms {
            let mut family = self
                .0
                .encode_descriptor(name, help, None, MetricType::Histogram)?;
            for (labels, series) in rows() {
                let histogram = pick(series);
                let bounds = BUCKETS.into_iter().chain([f64::INFINITY]);
                let buckets: Vec<_> = bounds.zip(histogram.buckets).collect();
                let sum = histogram.sum as f64 / 1000.0;
                let count = histogram.count();
                let mut row = family.encode_family(&labels)?;
                row.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
            }
        }
        Ok(())
    }

    /// B1. They are known when their request has ended.
    fn messages(&mut self, rows: &[Row<'_>]) -> fmt::Result {
        type Pick = fn((u64, u64)) -> u64;
        let families: [(&str, &str, Pick); 2] = [
            (
                "istio_request_messages",
                "gRPC messages of requests",
                |(asked, _)| asked,
            ),
            (
                "istio_response_messages",
                "gRPC messages of answers",
                |(_, answered)| answered,
            ),
        ];
        for (name, help, pick) in families {
            let rows = rows.iter().filter_map(|row| {
                let grpc = row.series.iter().filter(|(key, _)| key.grpc != Grpc::No);
                let counts = grpc.map(|(_, series)| pick(series.messages));
                let count = counts.reduce(u64::saturating_add)?;
                Some((message_labels(&row.labels, row.policy), count))
            });
            self.counter(name, help, rows)?;
        }
        Ok(())
    }

    fn downstream(&mut self, metrics: &Metrics) -> fmt::Result {
        let downstream = &metrics.downstream;
        self.gauge(
            "sortie_downstream_connections",
            "Open connections of clients",
            [(Vec::new(), downstream.connections.value())],
        )?;
        self.counter(
            "sortie_downstream_connections_accepted",
            "Connections of clients that were accepted",
            [(Vec::new(), downstream.accepted.value())],
        )?;
        self.counter(
            "sortie_downstream_accept_errors",
            "Times that accepting a connection failed",
            [(Vec::new(), downstream.accept_errors.value())],
        )?;
        let rejected = downstream.rejected.values().into_iter();
        self.counter(
            "sortie_downstream_rejected_requests",
            "Requests and connections that were refused before they were routed",
            rejected.map(|(reason, count)| (vec![("reason", reason.into())], count)),
        )?;
        self.counter(
            "sortie_downstream_handshakes",
            "TLS handshakes with clients that succeeded",
            [(Vec::new(), downstream.handshakes.value())],
        )?;
        let failed = downstream.handshake_failures.values().into_iter();
        self.counter(
            "sortie_downstream_handshake_failures",
            "TLS handshakes with clients that failed",
            failed.map(|(reason, count)| (vec![("reason", reason.into())], count)),
        )
    }

    fn pools(&mut self, upstreams: &[(Arc<str>, Sums)]) -> fmt::Result {
        for (level, name, help) in [
            (
                Level::Connections,
                "sortie_upstream_connections",
                "Open connections, busy and idle",
            ),
            (
                Level::Idle,
                "sortie_upstream_connections_idle",
                "Open connections that are idle",
            ),
            (
                Level::ActiveRequests,
                "sortie_upstream_requests_active",
                "Requests under way",
            ),
            (
                Level::Ejected,
                "sortie_upstream_endpoints_ejected",
                "Endpoints that are shunned",
            ),
        ] {
            let rows = real(upstreams).map(|(upstream, sums)| (of(upstream), sums.level(level)));
            self.gauge(name, help, rows)?;
        }
        for (event, name, help) in [
            (
                Event::Connect,
                "sortie_upstream_connects",
                "TCP connections that were made",
            ),
            (
                Event::Reuse,
                "sortie_upstream_connection_reuses",
                "Requests sent on a connection that had served before",
            ),
            (
                Event::Retry,
                "sortie_upstream_retries",
                "Requests that were tried again",
            ),
            (
                Event::Overflow,
                "sortie_upstream_overflows",
                "Requests that were refused because a limit was reached",
            ),
            (
                Event::Ejection,
                "sortie_upstream_ejections",
                "Times that an endpoint was shunned",
            ),
            (
                Event::NameUnchecked,
                "sortie_upstream_name_unchecked",
                "Connections used with a server whose name is wrong, as Istio does not check it",
            ),
        ] {
            let rows = real(upstreams).map(|(upstream, sums)| (of(upstream), sums.event(event)));
            self.counter(name, help, rows)?;
        }
        Ok(())
    }

    fn failures(&mut self, upstreams: &[(Arc<str>, Sums)]) -> fmt::Result {
        self.counter(
            "sortie_upstream_connect_failures",
            "TCP connections that could not be made",
            real(upstreams)
                .flat_map(|(upstream, sums)| by_reason(upstream, &sums.connect_failures)),
        )?;
        self.counter(
            "sortie_upstream_dns_failures",
            "Names that could not be looked up",
            real(upstreams).flat_map(|(upstream, sums)| by_reason(upstream, &sums.dns_failures)),
        )
    }

    /// B3: `sortie_upstream_tls` says what `connection_security_policy` does not.
    fn handshakes(&mut self, upstreams: &[(Arc<str>, Sums)]) -> fmt::Result {
        let outcome = |upstream, outcome: &'static str, reason: &'static str| {
            let mut labels = of(upstream);
            labels.extend([("outcome", outcome.into()), ("reason", reason.into())]);
            labels
        };
        let rows = real(upstreams).flat_map(|(upstream, sums)| {
            let resumed = |resumed| {
                let alike = sums
                    .handshakes
                    .iter()
                    .filter(move |(one, _)| one.resumed == resumed);
                alike.map(|(_, count)| count).sum()
            };
            let good = [("full", resumed(false)), ("resumed", resumed(true))];
            let good = good.into_iter().filter(|(_, count): &(_, u64)| *count > 0);
            let good = good.map(move |(word, count)| (outcome(upstream, word, "none"), count));
            let bad = sums.handshake_failures.iter();
            good.chain(bad.map(move |(reason, n)| (outcome(upstream, "failed", reason), *n)))
        });
        let help = "TLS handshakes by outcome";
        self.counter("sortie_upstream_handshakes", help, rows)?;
        let rows = real(upstreams).flat_map(|(upstream, sums)| {
            let mut kinds = BTreeMap::new();
            for (one, count) in &sums.handshakes {
                *kinds
                    .entry((one.mode, one.version, one.verified))
                    .or_insert(0u64) += count;
            }
            kinds
                .into_iter()
                .map(move |((mode, version, verified), count)| {
                    let mut labels = of(upstream);
                    labels.extend([
                        ("mode", mode.into()),
                        ("version", version.into()),
                        ("verified", verified.into()),
                    ]);
                    (labels, count)
                })
        });
        let help = "TLS handshakes that succeeded, by what they agreed on; only ever grows";
        self.plain("sortie_upstream_tls", help, MetricType::Unknown, rows)
    }

    fn config(&mut self, metrics: &Metrics) -> fmt::Result {
        let state = metrics.config.state();
        let outcomes = [("accepted", state.accepted), ("refused", state.refused)];
        self.counter(
            "sortie_config_reloads",
            "Configurations that were loaded, the first one included",
            outcomes.map(|(outcome, count)| (vec![("outcome", outcome.into())], count)),
        )?;
        let help = "Version of the configuration in force; 0 before the first";
        self.gauge("sortie_config_version", help, [(Vec::new(), state.version)])?;
        self.gauge(
            "sortie_config_last_success_timestamp_seconds",
            "When the configuration in force was taken, in seconds since 1970",
            state.last_success.map(|time| (Vec::new(), seconds(time))),
        )
    }

    fn certs(&mut self, metrics: &Metrics) -> fmt::Result {
        let state = metrics.certs.state();
        self.gauge(
            "sortie_cert_expiry_timestamp_seconds",
            "When a loaded certificate ends, in seconds since 1970",
            state.expiry.iter().map(|row| {
                let labels = vec![
                    ("resource", row.resource.as_str().into()),
                    ("serial", row.serial.as_str().into()),
                    ("usage", row.usage.into()),
                ];
                (labels, row.not_after)
            }),
        )?;
        self.counter(
            "sortie_cert_reload_failures",
            "Times that a credential could not be loaded and the one before was kept",
            state.failures.iter().map(|((resource, reason), count)| {
                let resource = ("resource", resource.as_str().into());
                (vec![resource, ("reason", (*reason).into())], *count)
            }),
        )?;
        self.counter(
            "sortie_cert_rotations",
            "New generations of a credential that were taken",
            state
                .rotations
                .iter()
                .map(|(resource, count)| (vec![("resource", resource.as_str().into())], *count)),
        )
    }

    fn access_log(&mut self, metrics: &Metrics) -> fmt::Result {
        self.counter(
            "sortie_access_log_dropped_lines",
            "Access log lines that were dropped because the queue was full",
            [(Vec::new(), metrics.access_log.dropped.value())],
        )?;
        self.counter(
            "sortie_access_log_write_errors",
            "Times that writing the access log failed",
            [(Vec::new(), metrics.access_log.write_errors.value())],
        )
    }
}

fn by_reason<'a>(
    upstream: &'a str,
    counts: &BTreeMap<&'static str, u64>,
) -> impl Iterator<Item = (Labels<'a>, u64)> {
    counts.iter().map(move |(reason, count)| {
        let mut labels = of(upstream);
        labels.push(("reason", (*reason).into()));
        (labels, *count)
    })
}
