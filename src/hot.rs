//! The hot half as a crate of its own: what requests pass, and what that stands on.
//!
//! Owns: the list of its rooms; `lib.rs` describes them.
//! Never: knows a room of the cold half. That the compiler sees to it is the second use of this crate.
//! Called by: `lib.rs`, which gives the rooms their names again.
//!
//! Why: the compiler takes one level for a crate, and requests want another than manifests do: speed, where those want
//! to be small (`Cargo.toml`, profiles). The crate is called sortie too, for the log's sake: `sortie::tls=debug`.

pub mod drain;
pub mod http2;
pub mod listener;
pub mod message;
pub mod model;
pub mod proxy;
pub mod route;
pub mod scratch;
pub mod snapshot;
pub mod telemetry;
pub mod tls;
pub mod upstream;
pub mod worker;
