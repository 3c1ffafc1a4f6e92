//! What lowering has to say of one object.
//!
//! Owns: [`Say`], which fills in a diagnostic's place, object and field.
//! Never: decides what is wrong.
//! Called by: routes and its parts, streams.

use std::sync::Arc;

use super::report;
use crate::config::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::config::istio::meta::Meta;
use crate::model::Place;

/// Something to say of one object.
pub struct Say<'a> {
    object: Arc<str>,
    place: &'a Place,
    field: String,
}

impl<'a> Say<'a> {
    pub fn of(meta: &Meta, place: &'a Place) -> Say<'a> {
        Say::about(meta.object(), place)
    }

    pub fn about(object: Arc<str>, place: &'a Place) -> Say<'a> {
        Say {
            object,
            place,
            field: String::new(),
        }
    }

    pub fn field(mut self, field: &str) -> Say<'a> {
        field.clone_into(&mut self.field);
        self
    }

    /// Adds it to `out`, as bad as `code` is. An error of this kind refuses nothing: what is
    /// dangling fails by itself (ISTIO.md 1.3).
    pub fn push(self, out: &mut Diagnostics, code: Code, problem: String, advice: &str) {
        out.push(Diagnostic {
            field: self.field,
            ..report::at(&self.object, self.place, code, problem, advice)
        });
    }
}
