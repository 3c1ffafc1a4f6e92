//! The access log: formatted on the worker, written by a thread of its own.
//!
//! Owns: the queue between the two, and the file.
//! Never: makes a request wait.
//! Called by: proxy (`write`), app (`open`, `reopen`, `flush`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::access_format::{AccessEntry, AccessFormat, Captured};
use super::metrics::Metrics;

/// Why an access log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// The file cannot be opened for appending.
    #[error("the access log {} cannot be opened: {source}", path.display())]
    Open {
        /// As given.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// The writing thread cannot be started.
    #[error("the thread that writes the access log cannot be started: {0}")]
    Thread(#[source] std::io::Error),
}

/// An open access log.
pub struct AccessLog {}

impl AccessLog {
    /// Opens `target`, a path or `-` for standard output, and starts the thread that writes to it.
    /// The file is appended to and, where it is new, made with mode 0640.
    pub fn open(
        _target: &str,
        _format: AccessFormat,
        _workers: usize,
        _metrics: &Arc<Metrics>,
    ) -> Result<AccessLog, AccessLogError> {
        Ok(AccessLog {})
    }

    /// Keeps what the format needs of a request's head until the line is written.
    pub fn capture_request(&self, _headers: &HeaderMap) -> Captured {
        Captured::NONE
    }

    /// Keeps what the format needs of an answer's head until the line is written.
    pub fn capture_response(&self, _headers: &HeaderMap) -> Captured {
        Captured::NONE
    }

    /// Queues one line. Never waits: where the queue is full the line is dropped and counted.
    pub fn write(&self, _entry: &AccessEntry<'_>) {}

    /// Opens the path again, after logrotate has moved the file away. Returns at once.
    pub fn reopen(&self) {}

    /// Waits until everything queued so far is written, but no longer than `within`. True where it
    /// is. Blocks the thread: for shutdown only.
    pub fn flush(&self, _within: Duration) -> bool {
        true
    }
}
