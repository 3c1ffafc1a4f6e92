//! A pod in, the same pod with the sidecar out (ISTIO.md 6.2).
//!
//! Owns: what is added to a pod, as [`Op`]s, and how they are applied.
//! Never: talks to an API server, or reads a certificate.
//! Called by: cli (`sortie inject`), webhook.

mod op;

pub use op::{Op, OpError, Path, Step};
