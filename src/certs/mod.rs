//! Files to credentials, and the last good one kept.
//!
//! Owns: reading PEM, the store, its problems.
//! Never: makes a TLS configuration.
//! Called by: publish, admin.

mod backoff;
mod entry;
mod expiry;
mod generation;
mod pem;
mod problem;
mod read;
mod rows;
mod say;
mod store;
mod system;
#[cfg(test)]
pub(crate) mod tests;

pub use problem::{CredentialProblem, ProblemReason};
pub use rows::{CredentialRow, RowKind, RowProblem};
pub use store::{CertStore, Checked, CredentialState, Credentials};
