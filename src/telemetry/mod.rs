//! What is seen from outside: log, metrics, access log.
//!
//! Owns: names that are a public contract.
//! Never: decides anything.
//! Called by: every room.
