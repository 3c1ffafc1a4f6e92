//! What is counted of one upstream: its requests, connections and handshakes. Also what is counted of
//! one caller of the application beside us, which has requests and opaque connections alone.
//!
//! Owns: the counts, one shard a worker, made when that worker first uses the upstream.
//! Never: takes a label from a client. Codes are folded into classes when there are too many.
//! Called by: upstream (connections, handshakes), proxy (`record`), exposition (sums).
//!
//! Why a lock on the request path: each worker has its own, so nobody ever waits for it but the
//! admin thread, and only for as long as copying the counts takes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::flags::Flags;
use super::labels::{Caller, Parties};
use super::shard::{Few, LazyShards, lock};
use super::tcp_stats::{Tcp, TcpCounts, TcpSums};
use crate::model::ServiceLabels;

/// Upper bounds of all histograms: Envoy's (ISTIO.md B1), in milliseconds or in bytes.
pub const BUCKETS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1000.0,
    2500.0,
    5000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// The same bounds in thousandths: microseconds, or thousandths of a byte. Whole numbers compare
/// without rounding.
const BOUNDS: [u64; 19] = [
    500,
    1_000,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    600_000_000,
    1_800_000_000,
    3_600_000_000,
];

/// Different outcomes that one worker keeps apart for one upstream; further ones are counted under
/// the class of their code (`599` as `5xx`), so that no server can grow the table at will.
const MAX_SERIES: usize = 200;

/// Something that happened once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A TCP connection was made, before any handshake.
    Connect,
    /// A request was sent on a connection that had served before.
    Reuse,
    /// A request was tried again.
    Retry,
    /// A request was refused because a limit was reached (UO).
    Overflow,
    /// An endpoint was shunned.
    Ejection,
    /// A connection was used although the server's name is not the expected one: Istio would not
    /// have looked (ISTIO.md T7).
    NameUnchecked,
}

/// Something of which there are so many now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Open connections, busy and idle.
    Connections,
    /// Idle connections.
    Idle,
    /// Requests under way.
    ActiveRequests,
    /// Endpoints that are shunned.
    Ejected,
}

const EVENTS: usize = Event::NameUnchecked as usize + 1;
const LEVELS: usize = Level::Ejected as usize + 1;

/// A handshake that succeeded. Every text is one of a few that the source code writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Handshake {
    /// True where the session was resumed.
    pub resumed: bool,
    /// `simple` or `mutual`: what the configuration asks for.
    pub mode: &'static str,
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// What was verified: `name` (chain and name), `chain` (the name was not held to), or `none`.
    pub verified: &'static str,
}

/// The `request_protocol` of B2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestProtocol {
    /// Any HTTP request that is not gRPC.
    Http,
    /// gRPC, with the `grpc-status` where one came.
    Grpc(Option<u32>),
}

/// One request that has ended.
#[derive(Clone, Copy, Debug)]
pub struct RequestRecord {
    /// Status sent to the client; 0 where none was (DC).
    pub code: u16,
    /// Why it ended as it did.
    pub flags: Flags,
    /// HTTP or gRPC.
    pub protocol: RequestProtocol,
    /// From the request's first byte to the answer's last.
    pub duration: Duration,
    /// Bytes of the request, as far as known with its head.
    pub request_bytes: u64,
    /// Bytes of the answer, as far as known with its head.
    pub response_bytes: u64,
    /// gRPC messages of the request and of its answer.
    pub messages: (u64, u64),
}

/// Counts of one upstream.
#[derive(Debug)]
pub struct UpstreamStats {
    name: Arc<str>,
    /// Read when the page is written, never by a request.
    service: Mutex<Option<Arc<ServiceLabels>>>,
    /// Whose requests are counted, where they are for the application beside us.
    caller: Option<Arc<Caller>>,
    shards: LazyShards<Shard>,
}

#[derive(Debug, Default)]
struct Shard {
    events: [AtomicU64; EVENTS],
    levels: [AtomicI64; LEVELS],
    requests: Mutex<Requests>,
    tcp: TcpCounts,
    rare: Mutex<Rare>,
}

#[derive(Debug, Default)]
struct Rare {
    connect_failures: Few<&'static str>,
    dns_failures: Few<&'static str>,
    handshake_failures: Few<&'static str>,
    handshakes: Few<Handshake>,
}

/// Outcomes in the order of their first appearance; `keys` stand apart so that a look-up reads few
/// cache lines.
#[derive(Debug, Default)]
struct Requests {
    keys: Vec<SeriesKey>,
    series: Vec<Series>,
    last: usize,
}

/// What the series of one upstream differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SeriesKey {
    /// A status, or 1 to 9 for the class where there were too many statuses.
    pub(super) code: u16,
    pub(super) grpc: Grpc,
    pub(super) flags: Flags,
}

/// The protocol, and the status as far as it can be a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Grpc {
    No,
    /// No status, or one that gRPC does not know.
    Unknown,
    Status(u8),
}

/// Counts of requests that ended alike.
#[derive(Clone, Debug, Default)]
pub(super) struct Series {
    pub(super) duration: Histogram,
    pub(super) request_bytes: Histogram,
    pub(super) response_bytes: Histogram,
    pub(super) messages: (u64, u64),
}

/// Observations by size. `sum` is in thousandths, as the bounds are.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    pub(super) buckets: [u64; BUCKETS.len() + 1],
    pub(super) sum: u64,
}

impl Histogram {
    fn observe(&mut self, thousandths: u64) {
        let place = BOUNDS.partition_point(|bound| *bound < thousandths);
        if let Some(bucket) = self.buckets.get_mut(place) {
            *bucket += 1;
        }
        self.sum = self.sum.saturating_add(thousandths);
    }

    /// How many were observed.
    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    fn merge(&mut self, other: &Histogram) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }
}

impl Series {
    fn tell_messages(&mut self, (asked, answered): (u64, u64)) {
        self.messages.0 = self.messages.0.saturating_add(asked);
        self.messages.1 = self.messages.1.saturating_add(answered);
    }

    pub(super) fn merge(&mut self, other: &Series) {
        self.duration.merge(&other.duration);
        self.request_bytes.merge(&other.request_bytes);
        self.response_bytes.merge(&other.response_bytes);
        self.tell_messages(other.messages);
    }
}

impl SeriesKey {
    fn of(record: &RequestRecord) -> SeriesKey {
        let grpc = match record.protocol {
            RequestProtocol::Http => Grpc::No,
            RequestProtocol::Grpc(Some(status @ 0..=16)) => {
                u8::try_from(status).map_or(Grpc::Unknown, Grpc::Status)
            }
            RequestProtocol::Grpc(_) => Grpc::Unknown,
        };
        SeriesKey {
            code: record.code,
            grpc,
            flags: record.flags,
        }
    }

    fn folded(self) -> SeriesKey {
        let grpc = match self.grpc {
            Grpc::No => Grpc::No,
            Grpc::Unknown | Grpc::Status(_) => Grpc::Unknown,
        };
        SeriesKey {
            code: self.code / 100,
            grpc,
            ..self
        }
    }
}

impl Requests {
    fn series(&mut self, key: SeriesKey) -> Option<&mut Series> {
        if self.keys.get(self.last) == Some(&key) {
            return self.series.get_mut(self.last);
        }
        let place = self.place(key);
        self.last = place;
        self.series.get_mut(place)
    }

    fn place(&mut self, key: SeriesKey) -> usize {
        let known = |keys: &[SeriesKey], key| keys.iter().position(|known| *known == key);
        if let Some(place) = known(&self.keys, key) {
            return place;
        }
        let key = match self.keys.len() < MAX_SERIES {
            true => key,
            false => key.folded(),
        };
        known(&self.keys, key).unwrap_or_else(|| {
            self.keys.push(key);
            self.series.push(Series::default());
            self.keys.len() - 1
        })
    }
}

/// The sums over all workers.
#[derive(Debug, Default)]
pub(super) struct Sums {
    /// Whose requests these are; what is known of this proxy is for the reader to fill in.
    pub(super) parties: Parties,
    events: [u64; EVENTS],
    levels: [i64; LEVELS],
    pub(super) series: BTreeMap<SeriesKey, Series>,
    pub(super) tcp: TcpSums,
    pub(super) connect_failures: BTreeMap<&'static str, u64>,
    pub(super) dns_failures: BTreeMap<&'static str, u64>,
    pub(super) handshake_failures: BTreeMap<&'static str, u64>,
    pub(super) handshakes: BTreeMap<Handshake, u64>,
}

impl Sums {
    pub(super) fn event(&self, event: Event) -> u64 {
        self.events.get(event as usize).copied().unwrap_or(0)
    }

    pub(super) fn level(&self, level: Level) -> i64 {
        self.levels.get(level as usize).copied().unwrap_or(0)
    }
}

impl UpstreamStats {
    /// Nothing counted yet.
    pub(super) fn new(name: Arc<str>, caller: Option<Caller>, workers: usize) -> Self {
        UpstreamStats {
            name,
            service: Mutex::default(),
            caller: caller.map(Arc::new),
            shards: LazyShards::new(workers),
        }
    }

    /// The upstream's name, as in the configuration.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Says which service the upstream is a part of, from now on.
    pub(super) fn describe(&self, service: Option<&Arc<ServiceLabels>>) {
        *lock(&self.service) = service.map(Arc::clone);
    }

    /// Counts `event` once.
    pub fn count(&self, event: Event) {
        let cell = self.shards.mine();
        if let Some(cell) = cell.and_then(|shard| shard.events.get(event as usize)) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One more of `level`.
    pub fn raise(&self, level: Level) {
        self.change(level, 1);
    }

    /// One less of `level`.
    pub fn lower(&self, level: Level) {
        self.change(level, -1);
    }

    fn change(&self, level: Level, by: i64) {
        let cell = self.shards.mine();
        if let Some(cell) = cell.and_then(|shard| shard.levels.get(level as usize)) {
            cell.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// A TCP connection could not be made; `reason` is a word such as `refused` or `timeout`.
    pub fn connect_failed(&self, reason: &'static str) {
        self.rare(|rare| rare.connect_failures.inc(reason));
    }

    /// A name could not be looked up; `reason` is a word such as `no_such_host` or `timeout`.
    pub fn dns_failed(&self, reason: &'static str) {
        self.rare(|rare| rare.dns_failures.inc(reason));
    }

    /// A handshake succeeded.
    pub fn handshake(&self, handshake: Handshake) {
        self.rare(|rare| rare.handshakes.inc(handshake));
    }

    /// A handshake failed; `reason` is a word such as `expired` or `unknown_ca`.
    pub fn handshake_failed(&self, reason: &'static str) {
        self.rare(|rare| rare.handshake_failures.inc(reason));
    }

    fn rare(&self, change: impl FnOnce(&mut Rare)) {
        if let Some(shard) = self.shards.mine() {
            change(&mut lock(&shard.rare));
        }
    }

    /// Counts a request that has ended. Allocates nothing once this worker has seen the outcome.
    pub fn record(&self, record: &RequestRecord) {
        let Some(shard) = self.shards.mine() else {
            return;
        };
        let micros = u64::try_from(record.duration.as_micros()).unwrap_or(u64::MAX);
        let mut requests = lock(&shard.requests);
        if let Some(series) = requests.series(SeriesKey::of(record)) {
            series.duration.observe(micros);
            let thousandths = |bytes: u64| bytes.saturating_mul(1000);
            series
                .request_bytes
                .observe(thousandths(record.request_bytes));
            series
                .response_bytes
                .observe(thousandths(record.response_bytes));
            series.tell_messages(record.messages);
        }
    }

    /// Something of an opaque connection happened.
    pub fn stream(&self, what: Tcp) {
        if let Some(shard) = self.shards.mine() {
            shard.tcp.count(what);
        }
    }

    /// How often `event` has happened.
    pub fn counted(&self, event: Event) -> u64 {
        let cells = self
            .shards
            .all()
            .filter_map(|shard| shard.events.get(event as usize));
        cells.map(|cell| cell.load(Ordering::Relaxed)).sum()
    }

    /// How many there are now.
    pub fn level(&self, level: Level) -> i64 {
        let cells = self
            .shards
            .all()
            .filter_map(|shard| shard.levels.get(level as usize));
        cells.map(|cell| cell.load(Ordering::Relaxed)).sum()
    }

    /// The sums over all workers; `None` where none has used the upstream.
    pub(super) fn sums(&self) -> Option<Sums> {
        let mut shards = self.shards.all().peekable();
        shards.peek()?;
        let mut sums = Sums::default();
        sums.parties.service = lock(&self.service).clone();
        sums.parties.caller.clone_from(&self.caller);
        for shard in shards {
            for (sum, cell) in sums.events.iter_mut().zip(&shard.events) {
                *sum += cell.load(Ordering::Relaxed);
            }
            for (sum, cell) in sums.levels.iter_mut().zip(&shard.levels) {
                *sum += cell.load(Ordering::Relaxed);
            }
            let requests = lock(&shard.requests);
            for (key, series) in requests.keys.iter().zip(&requests.series) {
                sums.series.entry(*key).or_default().merge(series);
            }
            drop(requests);
            shard.tcp.add_to(&mut sums.tcp);
            let rare = lock(&shard.rare);
            rare.connect_failures.add_to(&mut sums.connect_failures);
            rare.dns_failures.add_to(&mut sums.dns_failures);
            rare.handshake_failures.add_to(&mut sums.handshake_failures);
            rare.handshakes.add_to(&mut sums.handshakes);
        }
        Some(sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::set_shard;

    fn stats() -> Arc<UpstreamStats> {
        Arc::new(UpstreamStats::new("bank".into(), None, 2))
    }

    fn record(code: u16, millis: u64) -> RequestRecord {
        RequestRecord {
            code,
            flags: Flags::NONE,
            protocol: RequestProtocol::Http,
            duration: Duration::from_millis(millis),
            request_bytes: 100,
            response_bytes: 2000,
            messages: (0, 0),
        }
    }

    #[test]
    fn requests_of_all_workers_are_summed_by_outcome() {
        let stats = stats();
        for index in 0..3 {
            let stats = Arc::clone(&stats);
            let worker = std::thread::spawn(move || {
                set_shard(index);
                stats.record(&record(200, 3));
                stats.record(&record(503, 3));
                stats.record(&record(200, 3));
                stats.count(Event::Reuse);
                stats.raise(Level::Idle);
            });
            worker.join().unwrap();
        }
        stats.lower(Level::Idle);
        let sums = stats.sums().unwrap();
        let counts: Vec<_> = sums
            .series
            .iter()
            .map(|(k, s)| (k.code, s.duration.count()))
            .collect();
        assert_eq!(counts, [(200, 6), (503, 3)]);
        assert_eq!(
            (stats.counted(Event::Reuse), stats.level(Level::Idle)),
            (3, 2)
        );
    }

    #[test]
    fn an_upstream_that_nobody_used_has_no_sums() {
        assert!(stats().sums().is_none());
    }

    #[test]
    fn b1_an_observation_falls_into_the_bucket_whose_bound_it_does_not_pass() {
        let mut histogram = Histogram::default();
        for micros in [0, 500, 501, 1_000, 5_000_000, 3_600_000_001] {
            histogram.observe(micros);
        }
        assert_eq!(histogram.buckets[0], 2);
        assert_eq!(histogram.buckets[1], 2);
        assert_eq!(histogram.buckets[11], 1);
        assert_eq!((histogram.buckets[19], histogram.count()), (1, 6));
        for (bound, thousandths) in BUCKETS.iter().zip(BOUNDS) {
            assert_eq!((bound * 1000.0) as u64, thousandths);
        }
    }

    #[test]
    fn a_server_cannot_make_more_series_than_there_is_room_for() {
        let stats = stats();
        for code in 100..1000 {
            for status in 0..100 {
                let protocol = RequestProtocol::Grpc(Some(status));
                stats.record(&RequestRecord {
                    protocol,
                    ..record(code, 1)
                });
            }
        }
        let sums = stats.sums().unwrap();
        assert!(
            sums.series.len() <= MAX_SERIES + 10,
            "{}",
            sums.series.len()
        );
        let all: u64 = sums
            .series
            .values()
            .map(|series| series.duration.count())
            .sum();
        assert_eq!(all, 900 * 100);
    }

    #[test]
    fn a_grpc_status_that_grpc_does_not_know_is_not_a_label_of_its_own() {
        let of = |status| {
            let protocol = RequestProtocol::Grpc(status);
            SeriesKey::of(&RequestRecord {
                protocol,
                ..record(200, 1)
            })
            .grpc
        };
        assert_eq!(
            (of(Some(14)), of(Some(17)), of(None)),
            (Grpc::Status(14), Grpc::Unknown, Grpc::Unknown)
        );
    }
}
