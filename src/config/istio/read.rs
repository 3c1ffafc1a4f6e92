//! One document to one object of [`Manifests`], or the reasons why it is refused.
//!
//! Owns: which kind goes to which file, `List` and JSON, kinds that are ignored (K10, K11, U4).
//! Never: looks at a second object.
//! Called by: load, once for each document that has a `kind` or an `apiVersion`.

use super::Manifests;
use crate::config::diagnostic::Diagnostics;
use crate::config::document::Document;
use crate::config::options::LoadOptions;

/// Reads `document`, which is the `order`th of all.
pub fn read(
    _document: &Document,
    _order: usize,
    _options: &LoadOptions,
    _manifests: &mut Manifests,
    _out: &mut Diagnostics,
) {
}
