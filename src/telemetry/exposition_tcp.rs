//! The metrics of opaque connections: their names, help texts and labels (ISTIO.md B1, B2).
//!
//! Owns: those names: a public contract.
//! Never: counts.
//! Called by: exposition.

use std::fmt;
use std::sync::Arc;

use super::exposition_page::{Labels, Page};
use super::flags::Flags;
use super::labels::{Parties, request_labels};
use super::tcp_stats::TcpSums;
use super::upstream_stats::{Grpc, SeriesKey, Sums};

type Pick = fn(&TcpSums) -> u64;

impl Page<'_> {
    /// B1. Flags are known at a connection's end alone: elsewhere they are `-`.
    pub(super) fn streams(&mut self, upstreams: &[(Arc<str>, Sums)]) -> fmt::Result {
        let used = || upstreams.iter().filter(|(_, sums)| sums.tcp.opened > 0);
        let counters: [(&str, &str, Pick); 3] = [
            (
                "istio_tcp_connections_opened",
                "Opaque connections of clients that began",
                |tcp| tcp.opened,
            ),
            (
                "istio_tcp_received_bytes",
                "Bytes that came from clients in opaque connections",
                |tcp| tcp.received,
            ),
            (
                "istio_tcp_sent_bytes",
                "Bytes that went to clients in opaque connections",
                |tcp| tcp.sent,
            ),
        ];
        for (name, help, pick) in counters {
            let rows = used()
                .map(|(name, sums)| (labels(name, &sums.parties, Flags::NONE), pick(&sums.tcp)));
            self.counter(name, help, rows)?;
        }
        let closed = used().flat_map(|(name, sums)| {
            let closed = sums.tcp.closed.iter();
            closed.map(move |(flags, count)| (labels(name, &sums.parties, *flags), *count))
        });
        let help = "Opaque connections of clients that ended";
        self.counter("istio_tcp_connections_closed", help, closed)
    }
}

/// Those of a request, without what only a request has (B2).
fn labels<'a>(upstream: &'a str, parties: &'a Parties, flags: Flags) -> Labels<'a> {
    let key = SeriesKey {
        code: 0,
        grpc: Grpc::No,
        flags,
    };
    let mut labels = request_labels(upstream, parties, key);
    labels.retain(|(name, _)| *name != "response_code");
    for (name, value) in &mut labels {
        if *name == "request_protocol" {
            *value = "tcp".into();
        }
    }
    labels
}
