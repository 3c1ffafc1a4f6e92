//! A connection arrives: where it was going, and what it speaks.
//!
//! Owns: bound sockets and their accept loops.
//! Never: reads a request (that is `proxy`).
//! Called by: worker (accept loops), app (binds).

mod accept;
mod connection;
mod handshake;
mod hello;
mod original_dst;
mod sniff;
#[cfg(test)]
mod tests;

pub use accept::{BindError, Bound, bind, bind_transparent, run};
pub use original_dst::{KernelOriginalDst, OriginalDestination};
