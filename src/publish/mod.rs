//! Config and credentials become a snapshot, or nothing changes.
//!
//! Owns: building and swapping.
//! Never: serves a request.
//! Called by: app.

mod build;
mod entrances;
mod fingerprint;
mod identity;
mod overrides;
mod refused;
mod reload;
mod secrets;

pub use build::build;
pub use overrides::{Overrides, Sockets};
pub use reload::{
    FirstLoad, LoadError, Parts, Reloader, Report, Request, Shared, Unopened, first_load,
};
