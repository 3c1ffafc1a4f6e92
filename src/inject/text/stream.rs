//! A file of many documents, some of which change.
//!
//! Owns: [`Stream`], and the proof that the changed text means what the operations say.
//! Never: knows what a document is about, or opens a file.
//! Called by: manifest.
//!
//! Why the text is read again in the end: it is the only proof that does not rest on how it was
//! made. Whatever the reader of YAML and this editor disagree about, it ends in an error and not
//! in a manifest that says something else.

use serde_json::Value;

use super::super::op::{Op, OpError, Path, Step};
use super::edit::edit;
use super::layout::Layout;
use super::parse::{Document, parse};
use super::splice::{Stuck, apply, splices};
use super::tree::Node;

/// A text, as documents.
#[derive(Debug)]
pub(super) struct Stream<'a> {
    text: &'a str,
    documents: Vec<Document>,
    /// What each document must mean in the end.
    wanted: Vec<Value>,
}

/// Why the text cannot be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EditError {
    /// An operation does not fit its document.
    Op(OpError),
    /// This byte is written in a way that is not edited.
    Stuck(usize, &'static str),
    /// The changed text would not mean what it must: the document's number.
    Differs(usize),
}

impl<'a> Stream<'a> {
    /// The documents of `text`, in which the configuration's reader found no mistake. None where
    /// the places in it cannot be told.
    pub fn new(text: &'a str) -> Option<Stream<'a>> {
        let documents = parse(text)?;
        let value = |one: &Document| one.root.value(&one.anchors);
        let wanted = documents.iter().map(value).collect();
        Some(Stream {
            text,
            documents,
            wanted,
        })
    }

    /// What each document means, with the changes so far.
    pub fn values(&self) -> &[Value] {
        &self.wanted
    }

    /// Line and column, both from 1, of what is at `path` of a document, or of what is nearest
    /// to it.
    pub fn place(&self, document: usize, path: &Path) -> (u32, u32) {
        let Some(document) = self.documents.get(document) else {
            return (0, 0);
        };
        let mut node = &document.root;
        let mut at = node.start;
        for step in &path.0 {
            let Some((place, next)) = child(node, step) else {
                break;
            };
            (at, node) = (place, next);
        }
        self.line_and_column(at)
    }

    /// Line and column of a byte, both from 1.
    pub fn line_and_column(&self, at: usize) -> (u32, u32) {
        let before = self.text.get(..at).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let last = before.rsplit('\n').next().unwrap_or_default();
        let last = last.trim_start_matches('\u{feff}');
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        (small(line), small(last.chars().count() + 1))
    }

    /// Applies `ops` to what is at `at` of a document.
    ///
    /// # Errors
    /// An operation does not fit.
    pub fn edit(&mut self, document: usize, at: &Path, ops: &[Op]) -> Result<(), EditError> {
        let nth = document;
        let documents = self.documents.get_mut(nth).zip(self.wanted.get_mut(nth));
        let (document, wanted) = documents.ok_or(EditError::Differs(nth))?;
        let mut within = Some(wanted);
        for step in &at.0 {
            within = match (within, step) {
                (Some(value), Step::Key(key)) => value.get_mut(key),
                (Some(value), Step::Item(item)) => value.get_mut(item),
                (None, _) => None,
            };
        }
        let within = within.ok_or(EditError::Differs(nth))?;
        for op in ops {
            op.apply(within).map_err(EditError::Op)?;
            edit(document, at, op).map_err(EditError::Op)?;
        }
        Ok(())
    }

    /// The changed text.
    ///
    /// # Errors
    /// A change cannot be written, or what was written does not mean what it must.
    pub fn finish(&self) -> Result<String, EditError> {
        let layout = Layout { text: self.text };
        let mut all = Vec::new();
        for document in &self.documents {
            let stuck = |Stuck { at, problem }| EditError::Stuck(at, problem);
            all.extend(splices(layout, &document.root, &document.anchors).map_err(stuck)?);
        }
        let out = apply(self.text, all).ok_or(EditError::Differs(0))?;
        let again = Stream::new(&out).ok_or(EditError::Differs(0))?;
        let pairs = self.wanted.iter().zip(&again.wanted);
        if let Some(differs) = pairs.enumerate().position(|(_, (a, b))| a != b) {
            return Err(EditError::Differs(differs));
        }
        match self.wanted.len() == again.wanted.len() {
            true => Ok(out),
            false => Err(EditError::Differs(0)),
        }
    }
}

/// Where a step leads, and the byte of its key or item.
fn child<'a>(node: &'a Node, step: &Step) -> Option<(usize, &'a Node)> {
    use super::tree::{Kind, Now};
    let kept = |now: &'a Now| match now {
        Now::Kept(node) => Some(node),
        _ => None,
    };
    match (&node.kind, step) {
        (Kind::Map(_, entries), Step::Key(key)) => {
            let entry = entries.iter().find(|entry| entry.key == *key)?;
            Some((entry.start, kept(&entry.now)?))
        }
        (Kind::List(_, items), Step::Item(nth)) => {
            let node = kept(&items.get(*nth)?.now)?;
            Some((node.start, node))
        }
        _ => None,
    }
}

#[cfg(test)]
impl Stream<'_> {
    /// The changed text, whatever it means.
    pub fn debug(&self) -> String {
        let layout = Layout { text: self.text };
        let each = |one: &Document| splices(layout, &one.root, &one.anchors).unwrap_or_default();
        let all = self.documents.iter().flat_map(each).collect();
        apply(self.text, all).unwrap_or_default()
    }
}
