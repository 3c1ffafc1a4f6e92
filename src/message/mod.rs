//! What a message of HTTP says before its content: its request or status line, and its fields.
//!
//! Owns: the words in which proxy, route and upstream speak of a message, whatever its version.
//! Never: knows what a field means.
//! Called by: telemetry, upstream, route, proxy, explain.
//!
//! Why not `http::HeaderMap`: a proxy passes nearly every field on as it came. A map takes each of
//! them apart, hashes and allocates its name and counts references to its value, only for the next
//! hop's bytes to be put together again.

mod fields;
mod head;
mod known;
mod plain;
mod value;

pub use fields::{Field, Fields, Key};
pub use head::{Request, RequestHead, Response, ResponseHead};
pub use known::{Known, Set};
pub use plain::{Plain, is_token, is_value, plain_bytes};
pub use value::Value;
