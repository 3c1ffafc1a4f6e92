//! Files and Secrets to credentials, and the last good one kept.
//!
//! Owns: reading PEM, the store, its problems.
//! Never: makes a TLS configuration.
//! Called by: publish, admin.

mod backoff;
mod entry;
mod expiry;
mod generation;
mod names;
mod pem;
mod pieces;
mod problem;
mod read;
mod rows;
mod say;
mod secret;
mod store;
mod system;
#[cfg(test)]
pub(crate) mod testing {
    pub(crate) use super::secret::tests::data;
    pub(crate) use super::tests::{Ca, Leaf, NOW, at};
}
#[cfg(test)]
pub(crate) mod tests;

pub use problem::{CredentialProblem, ProblemReason};
pub use rows::{CredentialRow, RowKind, RowProblem};
pub use store::{CertStore, Checked, CredentialState, Credentials};
