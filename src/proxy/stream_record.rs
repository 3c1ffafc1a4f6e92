//! What is remembered of one opaque connection, and how it is told: counters, and one log line.
//!
//! Owns: the promise that each connection is told once, also when it is dropped (ISTIO.md B1, B7).
//! Never: decides anything.
//! Called by: `proxy::stream`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::context::ProxyContext;
use super::downstream::Arrived;
use super::identity::Identity;
use super::refusal::Refusal;
use super::relay::Meter;
use crate::model::{EndpointAddr, OriginalDst, PeerAddr};
use crate::telemetry::{AccessEntry, Captured, Flags, Tcp, UpstreamStats};

/// One opaque connection, until it is told.
pub(super) struct StreamRecord {
    context: Arc<ProxyContext>,
    stats: Option<Arc<UpstreamStats>>,
    identity: Identity,
    start: SystemTime,
    began: Instant,
    peer: PeerAddr,
    /// Where the client meant to connect.
    to: SocketAddr,
    server_name: Option<Box<str>>,
    route: Option<Arc<str>>,
    received: u64,
    sent: u64,
    pub(super) flags: Flags,
    /// Why it was ended, as one word.
    pub(super) termination: &'static str,
    /// Envoy's words for how it was refused (ISTIO.md B9).
    details: &'static str,
    /// The same in words.
    pub(super) failure: String,
    /// Why TLS with the client failed, in words.
    downstream_failure: String,
    pub(super) endpoint: Option<EndpointAddr>,
    pub(super) upstream_local: Option<SocketAddr>,
    told: bool,
}

impl StreamRecord {
    pub(super) fn new(context: &Arc<ProxyContext>, arrived: &Arrived) -> Self {
        let to = arrived.original_dst.map(|OriginalDst(to)| to);
        StreamRecord {
            context: Arc::clone(context),
            stats: None,
            identity: Identity::default(),
            start: SystemTime::now(),
            began: Instant::now(),
            peer: arrived.peer,
            to: to.unwrap_or(arrived.local),
            server_name: None,
            route: None,
            received: 0,
            sent: 0,
            flags: Flags::NONE,
            termination: "",
            details: "",
            failure: String::new(),
            downstream_failure: String::new(),
            endpoint: None,
            upstream_local: None,
            told: false,
        }
    }

    /// Who the client is.
    pub(super) fn comes_from(&mut self, identity: Identity) {
        self.identity = identity;
    }

    /// The name that the client's TLS asks for.
    pub(super) fn asks_for(&mut self, name: Option<Box<str>>) {
        self.server_name = name;
    }

    /// It goes to the upstream with these counters, and is counted from here on: there, or under
    /// those of its own (ISTIO.md B3).
    pub(super) fn counted(&mut self, stats: Arc<UpstreamStats>, route: Option<Arc<str>>) {
        self.stats = Some(stats);
        self.route = route;
        self.count(Tcp::Opened);
    }

    fn count(&self, what: Tcp) {
        let Some(stats) = &self.stats else { return };
        self.identity
            .reported
            .as_ref()
            .unwrap_or(stats)
            .stream(what);
    }

    /// It was refused before a byte of it went on.
    pub(super) fn refused(&mut self, refusal: &Refusal) {
        let told = refusal.told();
        self.details = told.details;
        match refusal {
            Refusal::Handshake(_, words) => {
                self.downstream_failure = words.to_string();
                self.ends(told.flags, told.label, String::new());
            }
            _ => self.ends(told.flags, told.label, refusal.to_string()),
        }
    }

    /// It ends so.
    pub(super) fn ends(&mut self, flags: Flags, termination: &'static str, failure: String) {
        self.flags |= flags;
        self.termination = termination;
        self.failure = failure;
    }

    /// How long it has been open.
    pub(super) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Tells it.
    pub(super) fn tell(mut self) {
        self.told = true;
        self.write();
    }

    fn write(&self) {
        self.count(Tcp::Closed(self.flags));
        let Some(log) = &self.context.access_log else {
            return;
        };
        log.write(&AccessEntry {
            start: self.start,
            method: "",
            path: "",
            protocol: "",
            code: 0,
            flags: self.flags,
            details: self.details,
            termination_details: self.termination,
            upstream_failure: &self.failure,
            bytes_received: self.received,
            bytes_sent: self.sent,
            duration: self.age(),
            upstream_service_time: None,
            xff: b"",
            user_agent: b"",
            request_id: b"",
            authority: b"",
            upstream_host: self.endpoint,
            upstream_cluster: self.stats.as_ref().map_or("", |stats| stats.name()),
            upstream_local: self.upstream_local,
            downstream_local: self.to,
            downstream_remote: self.peer,
            requested_server_name: self
                .identity
                .server_name()
                .or(self.server_name.as_deref())
                .unwrap_or_default(),
            downstream_tls: self.identity.tls.as_deref(),
            downstream_failure: &self.downstream_failure,
            route_name: self.route.as_deref().unwrap_or_default(),
            request_headers: &Captured::NONE,
            response_headers: &Captured::NONE,
        });
    }
}

impl Meter for StreamRecord {
    fn received(&mut self, bytes: usize) {
        self.received += bytes as u64;
        self.count(Tcp::Received(bytes as u64));
    }

    fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
        self.count(Tcp::Sent(bytes as u64));
    }
}

impl Drop for StreamRecord {
    fn drop(&mut self) {
        if !self.told {
            // Its task was dropped: the drain's deadline passed.
            self.termination = "drain_deadline";
            self.write();
        }
    }
}
