//! Config and credentials become a snapshot, or nothing changes.
//!
//! Owns: building and swapping.
//! Never: serves a request.
//! Called by: app.
