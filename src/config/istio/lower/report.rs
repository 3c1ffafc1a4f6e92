//! Diagnostics about objects, in few words.
//!
//! Owns: how a finding of this floor becomes a [`Diagnostic`].
//! Never: finds anything.
//! Called by: every file of `lower`.

use std::sync::Arc;

use crate::config::diagnostic::{Code, Diagnostic};
use crate::config::istio::meta::Meta;
use crate::model::Place;

/// About the object as a whole, as bad as the code says.
pub fn about(meta: &Meta, code: Code, problem: String, advice: impl Into<String>) -> Diagnostic {
    at(&meta.object(), &meta.place, code, problem, advice)
}

/// About a place in `object`.
pub fn at(
    object: &Arc<str>,
    place: &Place,
    code: Code,
    problem: String,
    advice: impl Into<String>,
) -> Diagnostic {
    Diagnostic {
        file: Arc::clone(&place.file),
        line: place.line,
        column: 0,
        field: String::new(),
        object: Some(Arc::clone(object)),
        code,
        severity: code.severity(),
        problem,
        advice: advice.into(),
    }
}
