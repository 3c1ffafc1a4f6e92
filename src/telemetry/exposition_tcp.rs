//! The metrics of opaque connections: their names, help texts and labels (ISTIO.md B1, B2).
//!
//! Owns: those names: a public contract.
//! Never: counts.
//! Called by: exposition.

use std::fmt;

use super::exposition::Row;
use super::exposition_page::Page;
use super::flags::Flags;
use super::labels::stream_labels;
use super::tcp_stats::TcpSums;

type Pick = fn(&TcpSums) -> u64;

impl Page<'_> {
    /// B1. Flags are known at a connection's end alone: elsewhere they are `-`.
    pub(super) fn streams(&mut self, rows: &[Row<'_>]) -> fmt::Result {
        let used = || rows.iter().filter(|row| row.tcp.opened > 0);
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
            let rows = used().map(|row| {
                let labels = stream_labels(&row.labels, row.policy, Flags::NONE);
                (labels, pick(&row.tcp))
            });
            self.counter(name, help, rows)?;
        }
        let closed = used().flat_map(|row| {
            let closed = row.tcp.closed.iter();
            closed
                .map(move |(flags, count)| (stream_labels(&row.labels, row.policy, *flags), *count))
        });
        let help = "Opaque connections of clients that ended";
        self.counter("istio_tcp_connections_closed", help, closed)
    }
}
