//! What every connection of one worker shares.
//!
//! Owns: the worker's handles; one [`ProxyContext`] per worker, so that no count is contended.
//! Never: changes while requests run.
//! Called by: app (makes it), listener and the rest of this room (use it).

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::headers::Pseudonym;
use super::lot::Lot;
use super::mirror::Mirrors;
use crate::drain::Drain;
use crate::model::Retries;
use crate::route::RetryBudget;
use crate::snapshot::SnapshotCell;
use crate::telemetry::{AccessLog, Metrics, UpstreamStats};
use crate::upstream::Upstream;

/// One worker's view of the process.
pub struct ProxyContext {
    /// This worker's number, from 0: its slot in every pool.
    pub worker: usize,
    /// The one pointer.
    pub cell: Arc<SnapshotCell>,
    /// Counters of the process.
    pub metrics: Arc<Metrics>,
    /// Where a line per request goes, if anywhere.
    pub access_log: Option<Arc<AccessLog>>,
    /// Answers of ours carry Envoy's fixed text alone (`--terse-errors`).
    pub terse: bool,
    /// How we mark what passes through unrouted.
    pub pseudonym: Pseudonym,
    /// Tunnels hold a guard of it.
    pub drain: Drain,
    /// Downstream connections that this worker may hold, over all its listeners.
    pub places: Arc<Semaphore>,
    /// Downstream connections of this worker on which nothing is under way.
    pub lot: Lot,
    /// Copies of requests under way on this worker.
    pub mirrors: Arc<Mirrors>,
    /// Where unknown hosts go when pass-through is on.
    pub pass_through: PassThrough,
    /// Requests for hosts that the table does not know (ISTIO.md B4).
    pub black_hole: Arc<UpstreamStats>,
    /// Counts requests that end before an upstream is chosen: no rule, redirects, fixed answers.
    pub unrouted: Arc<UpstreamStats>,
}

/// The plaintext way out for unknown hosts: opt-in (ISTIO.md O4, O6).
pub struct PassThrough {
    /// An upstream whose endpoint is the original destination.
    pub upstream: Arc<Upstream>,
    /// Its retries (ISTIO.md V14).
    pub retries: Retries,
    /// Bounds them.
    pub budget: RetryBudget,
}
