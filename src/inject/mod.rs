//! A pod in, the same pod with the sidecar out (ISTIO.md 6.2).
//!
//! Owns: what is added to a pod, as [`Op`]s, and how they are applied.
//! Never: talks to an API server, or reads a certificate.
//! Called by: cli (`sortie inject`), webhook.

mod bypass;
mod capture;
mod checks;
mod containers;
mod diff;
mod files;
mod identity;
mod known;
mod mounts;
mod op;
mod outcome;
mod plan;
mod pod;
mod probes;
mod proxy_config;
mod quantity;
mod resources;
mod said;
mod settings;
mod status;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod text;
mod volumes;
mod who;
mod wishes;

pub use op::{Op, OpError, Path, Step};
pub use outcome::{LeftAlone, Outcome, Plan, Refusal, Warning};
pub use plan::plan;
pub use settings::{Owner, Policy, Resources, Settings};
pub use who::{asks, unmet};
