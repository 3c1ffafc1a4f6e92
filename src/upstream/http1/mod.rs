//! HTTP/1 as its client speaks it: one connection, one request at a time, no task of its own.
//!
//! Owns: the bytes of requests and answers (RFC 9112), and what an idle connection costs: no buffer.
//! Never: picks a connection, or knows a pool's limits.
//! Called by: `connection`, `pool`, `lane`, `connect`, `body`, `seam`.
//!
//! Why not hyper's client: it drives each connection by a task, so that every request passes three
//! channels and every idle connection keeps 16 KiB. Here the one who waits for the answer moves its
//! bytes.

mod client;
mod decode;
mod encode;
mod exchange;
mod fault;
mod head;
mod request;
mod tunnel;

#[cfg(test)]
mod tests;

pub(super) use client::Http1;
pub(super) use exchange::{Answering, Begun, Spent, Unanswered, ask};
pub(super) use fault::Fault;
pub(super) use tunnel::Tunnel;
