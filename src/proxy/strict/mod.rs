//! Watches what a client sends on an HTTP/1 connection, and says what is wrong before it counts.
//!
//! Owns: one pure machine, byte by byte, message after message: head, body, trailers.
//! Never: does I/O, changes a byte, or judges HTTP/2.
//! Called by: `proxy::http1`, for which it finds where heads, content and trailers end.
//!
//! Why beside a parser that exists: parsers accept bare LF, or drop a Content-Length that stands
//! next to a Transfer-Encoding, and the like. Whatever two parsers read in two ways is how requests
//! are smuggled, so only what can be read in one way is let through.

mod chunked;
mod cursor;
mod field;
mod head;
mod lines;
mod machine;
#[cfg(test)]
mod tests;
mod violation;

pub use head::Framing;
pub use lines::{Lines, RequestLine};
pub use machine::{Piece, Strict, StrictLimits, Verdict};
pub use violation::Violation;
