//! Manifests as text: the same text with a pod's changes in it.
//!
//! Owns: what is kept byte for byte, and what the changed text must mean.
//! Never: decides what changes, or opens a file.
//! Called by: the rest of this room, cli (`sortie inject`).

mod edit;
mod flow;
mod layout;
mod manifest;
mod objects;
mod parse;
mod scalar;
mod scan;
mod splice;
mod stream;
#[cfg(test)]
mod tests;
mod tree;
mod write;

pub use manifest::{Done, Fate, Injected, Source, inject};
