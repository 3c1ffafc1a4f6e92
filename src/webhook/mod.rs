//! The mutating admission webhook: Kubernetes asks about every new pod, and gets the changes that
//! put the sidecar in (ISTIO.md I1).
//!
//! Owns: the protocol with the API server, its HTTPS port, its own certificate, its status port.
//! Never: decides what a sidecar is (that is `inject`), or asks the API server for anything.
//! Called by: cli (`sortie webhook`).

mod certificate;
mod counts;
mod decide;
mod exchange;
mod open;
mod owner;
mod patch;
mod review;
mod run;
mod server;
mod status;

pub use run::{Files, Options, RunError, Running, start};
