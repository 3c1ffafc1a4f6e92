//! How far a request's body has come, for whoever waits for its end or its progress.
//!
//! Owns: counts and one notification; shared by a body, its record and the request's clock.
//! Never: holds a byte of the body.
//! Called by: `proxy::body` (tells), `record` and `send` (ask).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;
use tokio::time::Instant;

/// How far a request's body has come; shared with whoever waits for its end.
#[derive(Default)]
pub(super) struct Received {
    /// Bytes of it that went by.
    pub(super) bytes: AtomicU64,
    /// Messages of it that began, where it is gRPC.
    pub(super) messages: AtomicU64,
    /// Frames that went by, of the answer too: where one direction moves, the other may be silent.
    moves: AtomicU64,
    ended_at: OnceLock<Instant>,
    ended: Notify,
}

impl Received {
    /// Returns when the whole body has been read, or will never be.
    pub(super) async fn ended(&self) {
        let ended = self.ended.notified();
        if self.ended_at.get().is_none() {
            ended.await;
        }
    }

    /// It was read whole, or will never be.
    pub(super) fn end(&self, now: Instant) {
        let _ = self.ended_at.set(now);
        self.ended.notify_waiters();
    }

    /// When it ended; `None` while it goes on.
    pub(super) fn ended_at(&self) -> Option<Instant> {
        self.ended_at.get().copied()
    }

    /// Something of the request or of its answer went by.
    pub(super) fn moved(&self) {
        self.moves.fetch_add(1, Ordering::Relaxed);
    }

    /// Changes whenever something of the request or of its answer went by.
    pub(super) fn moves(&self) -> u64 {
        self.moves.load(Ordering::Relaxed)
    }
}
