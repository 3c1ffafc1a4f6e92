//! Files to credentials, and the last good one kept.
//!
//! Owns: reading PEM, the store, its problems.
//! Never: makes a TLS configuration.
//! Called by: publish, admin.

mod problem;
mod rows;
mod store;

pub use problem::{CredentialProblem, ProblemReason};
pub use rows::{CredentialRow, RowKind, RowProblem};
pub use store::{CertStore, Checked, CredentialState, Credentials};
