//! Wiring, floor by floor; opens and drains listeners; returns every bound address.
//!
//! Owns: start and stop of the whole.
//! Never: serves a request itself.
//! Called by: cli.
