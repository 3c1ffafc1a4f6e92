//! Files to credentials, and the last good one kept.
//!
//! Owns: reading PEM, the store, its problems.
//! Never: makes a TLS configuration.
//! Called by: publish, admin.
