//! What is seen from outside: log, metrics, access log, readiness.
//!
//! Owns: names that are a public contract.
//! Never: decides anything.
//! Called by: every room.

mod access_format;
mod access_log;
mod exposition;
mod flags;
mod logging;
mod metrics;
mod shard;
mod status;
mod timestamp;
mod upstream_stats;

pub use access_format::{AccessEntry, AccessFormat, Captured, FormatError};
pub use access_log::{AccessLog, AccessLogError};
pub use flags::Flags;
pub use logging::{LogControl, LogError, LogFormat};
pub use metrics::{
    AccessLogMetrics, BLACK_HOLE, CertExpiry, CertMetrics, ConfigMetrics, DownstreamMetrics, GRACE,
    Metrics, PASSTHROUGH, UNKNOWN,
};
pub use shard::{Counter, Gauge, ReasonCounter, set_shard};
pub use status::{Refusal, Status};
pub use timestamp::{rfc3339_millis, rfc3339_seconds};
pub use upstream_stats::{
    BUCKETS, Event, Handshake, Level, RequestProtocol, RequestRecord, UpstreamStats,
};
