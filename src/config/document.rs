//! One document and the file that it came from.
//!
//! Owns: [`Document`].
//! Never: knows what a document means.
//! Called by: load (makes it), native and istio (read it).

use super::cursor::Source;
use super::left::Left;
use super::node::Node;

/// One document and its file.
pub struct Document {
    /// The file.
    pub source: Source,
    /// The tree.
    pub root: Node,
    /// Lines that its list of routes was read without; they are made into items as the list is gone through.
    pub left: Vec<Left>,
}
