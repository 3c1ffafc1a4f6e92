//! HTTP/1 as clients speak it to us: bytes in, requests; answers, bytes out.
//!
//! Owns: heads, bodies and their framing on the wire, the order of requests and answers, the
//! deadlines of one connection, its end.
//! Never: looks at what a request asks for (that is `forward`), or judges a byte (that is `strict`).
//! Called by: `proxy::serve`.
//!
//! Why our own: a connection that waits keeps no buffer, a request passes no channel and no task of
//! its own, and the head of an answer leaves in one write with what is there of its body.

mod batch;
mod content;
mod encode;
mod exchange;
mod head;
mod leaving;
mod parking;
mod server;
mod wire;

pub(super) use content::Content;
pub(super) use server::serve;
