//! What is seen from outside: log, metrics, access log, readiness.
//!
//! Owns: names that are a public contract.
//! Never: decides anything.
//! Called by: every room.
//!
//! # Who reports
//! Istio's metrics (`istio_*`, ISTIO.md B1 to B4) are told by one of two reporters.
//! - `source`: what leaves the application beside us, and all that goes through a gateway. The
//!   labels `source_*` are this proxy's own, `connection_security_policy` is `unknown`, as in Istio.
//! - `destination`: what comes in for the application beside us. The labels `destination_*` are this
//!   proxy's own. Of the source the client's certificate tells `source_principal` (the whole SPIFFE
//!   URI) and `source_workload_namespace` (the one in it); the rest is `unknown`.
//!   `connection_security_policy` is `mutual_tls` where the client showed a certificate, else `none`,
//!   and both principals are then `unknown`.
//!
//! Of one entrance [`MOST_CALLERS`] callers are told apart at a time, and one that left is kept for
//! [`GRACE`]; whoever comes when there is no room is counted under the principal `unknown`. Series
//! with equal labels are summed. `sortie_upstream_*` counts connections to upstreams, those to the
//! application too, whoever reports its requests.

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
