//! One request, one answer.
//!
//! Owns: the story of a request, and every answer that sortie makes itself.
//! Never: opens a connection (that is `upstream`).
//! Called by: listener.

mod answer;
mod body;
mod changes;
mod connection;
mod context;
mod control;
mod destination;
mod downstream;
mod error;
mod fault;
mod forward;
mod guarded;
pub mod headers;
mod mirror;
mod ready;
mod received;
mod record;
mod retry;
mod send;
mod serve;
pub mod strict;
mod tee;
mod tunnel;

pub use context::{PassThrough, ProxyContext};
pub use destination::destination_of;
pub use downstream::{Downstream, Protocol};
pub use mirror::Mirrors;
pub use serve::serve;
