//! The admin port: readiness, metrics, what is loaded.
//!
//! Owns: its own listener on the cold thread.
//! Never: prints a key.
//! Called by: app.

mod server;
mod state;

pub use server::serve;
pub use state::{AdminState, Command, EndpointHealth, Inside, ReloadReport, UpstreamHealth};
