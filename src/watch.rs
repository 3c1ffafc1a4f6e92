//! "One of these paths changed": parent folders, symlink swaps, debounce, and a poll behind it.
//!
//! Owns: the inotify watches, which are hints, and the poll, which alone is enough (R9).
//! Never: reads what changed.
//! Called by: `publish::reload`.
