//! Wiring, floor by floor; opens and drains listeners; returns every bound address.
//!
//! Owns: start and stop of the whole.
//! Never: serves a request itself.
//! Called by: cli, and tests, which start as many as they like in one process.

mod cold;
mod doors;
mod inside;
mod options;
mod running;
mod sockets;
mod start;

pub use options::RunOptions;
pub use running::{Bound, Ended, Running};
pub use start::{StartError, start, start_with};
