//! One object while it is being read: what it is called, and what is wrong with it so far.
//!
//! Owns: [`Reading`]: who is told of a mistake, and whether the object is refused for it.
//! Never: looks at a value.
//! Called by: every file of this room.

use std::sync::Arc;

use crate::config::cursor::At;
use crate::config::diagnostic::{Code, Diagnostic, Diagnostics, Severity};
use crate::config::istio::meta::Meta;
use crate::config::options::LoadOptions;
use crate::model::{Place, Refused};

/// One object while it is being read.
pub struct Reading<'a> {
    /// `DestinationRule ns/name`.
    pub object: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// What flags say.
    pub options: &'a LoadOptions,
    out: &'a mut Diagnostics,
    first: Option<Refused>,
}

impl<'a> Reading<'a> {
    /// Nothing is wrong with it so far.
    pub fn new(meta: &Meta, options: &'a LoadOptions, out: &'a mut Diagnostics) -> Reading<'a> {
        Reading {
            object: meta.object(),
            namespace: Arc::clone(&meta.namespace),
            options,
            out,
            first: None,
        }
    }

    /// Why the object is refused, where it is.
    pub fn refused(&self) -> Option<&Refused> {
        self.first.as_ref()
    }

    /// The same, at the end.
    pub fn into_refused(self) -> Option<Refused> {
        self.first
    }

    /// A value that the object is refused for (U5).
    pub fn wrong(&mut self, at: &At<'_>, problem: String, advice: &str) {
        self.error(at.wrong(Code::SchemaError, problem, advice));
    }

    /// A key, there or missing, that the object is refused for (U5).
    pub fn wrong_key(&mut self, at: &At<'_>, key: &str, problem: String, advice: &str) {
        self.error(at.wrong_key(key, Code::SchemaError, problem, advice));
    }

    /// What Istio would let pass without a word: refused, or a warning with `--lenient`.
    pub fn strict(&mut self, diagnostic: Diagnostic) {
        match self.options.lenient {
            true => self.warning(diagnostic),
            false => self.error(diagnostic),
        }
    }

    /// What is odd, and allowed (IST0133).
    pub fn odd(&mut self, at: &At<'_>, problem: String, advice: &str) {
        self.warning(at.wrong(Code::SchemaWarning, problem, advice));
    }

    /// The object is refused.
    pub fn error(&mut self, mut diagnostic: Diagnostic) {
        diagnostic.severity = Severity::Error;
        diagnostic.object = Some(Arc::clone(&self.object));
        if self.first.is_none() {
            self.first = Some(Refused {
                object: Arc::clone(&self.object),
                place: Place {
                    file: Arc::clone(&diagnostic.file),
                    line: diagnostic.line,
                },
                reason: in_words(&diagnostic).into(),
            });
        }
        self.out.push(diagnostic);
    }

    /// The object is kept.
    pub fn warning(&mut self, mut diagnostic: Diagnostic) {
        diagnostic.severity = Severity::Warning;
        diagnostic.object = Some(Arc::clone(&self.object));
        self.out.push(diagnostic);
    }
}

/// A mistake without file and object, which are told apart from it.
fn in_words(diagnostic: &Diagnostic) -> String {
    let mut text = String::new();
    if !diagnostic.field.is_empty() && !diagnostic.problem.contains(&diagnostic.field) {
        text.push_str(&diagnostic.field);
        text.push_str(": ");
    }
    text.push_str(&diagnostic.problem);
    if !diagnostic.advice.is_empty() {
        text.push_str("; ");
        text.push_str(&diagnostic.advice);
    }
    text
}
