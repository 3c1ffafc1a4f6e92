//! What is seen from outside: log, metrics, access log, readiness.
//!
//! Owns: names that are a public contract.
//! Never: decides anything.
//! Called by: every room.

mod access_entry;
mod access_format;
mod access_log;
mod access_operator;
mod access_sink;
mod exposition;
mod exposition_page;
mod exposition_tcp;
mod flags;
mod header_format;
mod labels;
mod logging;
mod metrics;
mod shard;
mod status;
mod tcp_stats;
#[cfg(test)]
pub(crate) mod testing;
mod timestamp;
mod upstream_stats;

pub use access_entry::{AccessEntry, Captured, PeerFacts, TlsFacts};
pub use access_format::{AccessFormat, FormatError};
pub use access_log::AccessLog;
pub use access_sink::AccessLogError;
pub use flags::Flags;
pub use header_format::FormatSet;
pub use labels::Caller;
pub use logging::{LogControl, LogError, LogFormat};
pub use metrics::{
    AccessLogMetrics, BLACK_HOLE, CertExpiry, CertMetrics, ConfigMetrics, DownstreamMetrics, GRACE,
    MOST_CALLERS, Metrics, PASSTHROUGH, UNKNOWN,
};
pub use shard::{Counter, Gauge, ReasonCounter, set_shard};
pub use status::{Refusal, Status};
pub use tcp_stats::Tcp;
pub use timestamp::{rfc3339_millis, rfc3339_seconds};
pub use upstream_stats::{
    BUCKETS, Event, Handshake, Level, RequestProtocol, RequestRecord, UpstreamStats,
};
