//! One request, one answer.
//!
//! Owns: the story of a request, and every answer that sortie makes itself.
//! Never: opens a connection (that is `upstream`).
//! Called by: listener.

pub mod headers;
pub mod strict;
