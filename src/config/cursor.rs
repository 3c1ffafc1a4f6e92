//! A place in a document while it is being read: the value, and how one got there.
//!
//! Owns: [`At`]: field paths, typed reading, and reporting a mistake at the right line.
//! Never: judges a value by itself (that is `validate`): what cannot be read is simply `None`.
//! Called by: validate, and every part's lowering.
//!
//! Why a chain of borrows: 100,000 routes are read without building one path that no message needs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::model::Place;

use super::diagnostic::{Code, Diagnostic, Diagnostics};
use super::document::Document;
use super::left::{LEFT_OUT_OF, Left, Line};
use super::node::{Entry, Mark, Node, ScalarKind, Value, push_key};
use super::units;

/// The file that a document came from.
#[derive(Clone, Debug)]
pub struct Source {
    /// As the user named it.
    pub file: Arc<str>,
    /// Where relative file names in it start.
    pub folder: PathBuf,
}

/// One value of a document.
#[derive(Clone, Copy)]
pub struct At<'a> {
    source: &'a Source,
    node: &'a Node,
    step: Step<'a>,
    parent: Option<&'a At<'a>>,
}

/// One item of a list, as [`At::each`] gives it.
pub enum Item<'i, 'a> {
    /// It was read and checked with its document; and the one before it, where that was read too.
    Read(&'i At<'a>, Option<&'i Node>),
    /// The one read last once more: lines like it follow, which were left for later.
    Model(&'i At<'a>),
    /// One of them, which is there for the time of this call. Nobody has checked it.
    Late(&'i At<'a>),
    /// The same of one that says what the model says, but for this word, a plain scalar; and its line.
    Word(&'i str, u32),
}

#[derive(Clone, Copy)]
enum Step<'a> {
    /// With the lines that its list of routes was read without.
    Root(&'a [Left]),
    Key(&'a str),
    Item(usize),
}

impl<'a> At<'a> {
    /// The whole document, read as it stands.
    pub fn root(source: &'a Source, node: &'a Node) -> At<'a> {
        At {
            source,
            node,
            step: Step::Root(&[]),
            parent: None,
        }
    }

    /// The whole document. Of its list of routes see [`At::each`].
    pub fn of(document: &'a Document) -> At<'a> {
        At {
            step: Step::Root(&document.left),
            ..At::root(&document.source, &document.root)
        }
    }

    /// The value.
    pub fn node(&self) -> &'a Node {
        self.node
    }

    /// The keys, where it is a mapping.
    pub fn entries(&self) -> &'a [Entry] {
        match &self.node.value {
            Value::Map(entries) => entries,
            Value::Scalar(_) | Value::List(_) => &[],
        }
    }

    /// The value of one entry.
    pub fn value<'p>(&'p self, entry: &'p Entry) -> At<'p> {
        self.child(&entry.value, Step::Key(&entry.key))
    }

    /// The value of a key, where it is there.
    pub fn key(&self, name: &str) -> Option<At<'_>> {
        let entry = self.entry(name)?;
        Some(self.value(entry))
    }

    /// True where the key is there.
    pub fn has(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    fn entry(&self, name: &str) -> Option<&'a Entry> {
        self.entries()
            .iter()
            .find(|entry| entry.key.as_ref() == name)
    }

    /// The items, where it is a list.
    pub fn items(&self) -> impl Iterator<Item = At<'_>> {
        let items: &[Node] = match &self.node.value {
            Value::List(items) => items,
            Value::Scalar(_) | Value::Map(_) => &[],
        };
        let child = |(n, node)| self.child(node, Step::Item(n));
        items.iter().enumerate().map(child)
    }

    /// What was left out of the list, where it is a document's list of routes.
    fn left(&self) -> &'a [Left] {
        match (self.step, self.parent.map(|parent| parent.step)) {
            (Step::Key(LEFT_OUT_OF), Some(Step::Root(left))) => left,
            _ => &[],
        }
    }

    /// The items of a list that were read, each with its own number: how a document is gone through but for what
    /// was left for later.
    pub fn each_read(&self) -> impl Iterator<Item = At<'_>> {
        let mut left = self.left().iter().peekable();
        let mut late = 0;
        self.items().enumerate().map(move |(index, item)| {
            let number = index + late;
            if let Some(lines) = left.next_if(|left| left.after == index) {
                late += lines.count;
            }
            At {
                step: Step::Item(number),
                ..item
            }
        })
    }

    /// Every item of a list in its turn, those among them that were not read yet. How a document's list of routes is to
    /// be read. `but`: the key of items in whose value alone most of them differ. `see` says by false that it wants
    /// more than the word.
    pub fn each(&self, but: &str, mut see: impl FnMut(Item<'_, '_>) -> bool) {
        let mut left = self.left().iter().peekable();
        let mut before = None;
        for (index, item) in self.each_read().enumerate() {
            see(Item::Read(&item, before));
            before = Some(item.node);
            let (Some(lines), Step::Item(read)) =
                (left.next_if(|left| left.after == index), item.step)
            else {
                continue;
            };
            before = None;
            see(Item::Model(&item));
            let but = item.entry(but).map(|entry| &entry.value);
            let mut number = read;
            lines.each(item.node, but, |line| match line {
                Line::Word(word, line) => {
                    let taken = see(Item::Word(word, line));
                    number += usize::from(taken);
                    taken
                }
                Line::Item(node) => {
                    number += 1;
                    see(Item::Late(&self.child(node, Step::Item(number))))
                }
            });
        }
    }

    /// How many items [`At::each`] gives.
    pub fn count(&self) -> usize {
        let left: usize = self.left().iter().map(|left| left.count).sum();
        self.items().count() + left
    }

    /// The items of a list, or the value itself where it is none.
    pub fn one_or_many(&self) -> impl Iterator<Item = At<'_>> {
        let list = matches!(self.node.value, Value::List(_));
        let itself = (!list).then_some(*self);
        itself.into_iter().chain(self.items())
    }

    fn child<'p>(&'p self, node: &'p Node, step: Step<'p>) -> At<'p> {
        At {
            source: self.source,
            node,
            step,
            parent: Some(self),
        }
    }

    /// Its text, where it is text.
    pub fn as_text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar(s) if s.kind() == ScalarKind::Text => Some(&s.text),
            _ => None,
        }
    }

    /// Its text, whatever kind of scalar it is: for words such as `1.1` and `true`.
    pub fn as_word(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar(s) if s.kind() != ScalarKind::Null => Some(&s.text),
            _ => None,
        }
    }

    /// Its number, where it is a whole one.
    pub fn as_whole(&self) -> Option<u64> {
        match &self.node.value {
            Value::Scalar(s) if s.kind() == ScalarKind::Number => {
                let digits = s.text.bytes().all(|b| b.is_ascii_digit());
                digits.then(|| s.text.parse().ok()).flatten()
            }
            _ => None,
        }
    }

    /// The text of a key.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.entry_at(name)?.as_text()
    }

    /// The word of a key, see [`At::as_word`].
    pub fn word(&self, name: &str) -> Option<&'a str> {
        self.entry_at(name)?.as_word()
    }

    /// The number of a key, where it fits.
    pub fn whole<T: TryFrom<u64>>(&self, name: &str) -> Option<T> {
        T::try_from(self.entry_at(name)?.as_whole()?).ok()
    }

    /// The duration of a key.
    pub fn duration(&self, name: &str) -> Option<Duration> {
        units::duration(self.text(name)?).ok()
    }

    /// The size of a key, in bytes.
    pub fn size<T: TryFrom<u64>>(&self, name: &str) -> Option<T> {
        let at = self.entry_at(name)?;
        let bytes = at.as_whole().or_else(|| units::size(at.as_text()?))?;
        T::try_from(bytes).ok()
    }

    /// The percentage of a key.
    pub fn percent(&self, name: &str) -> Option<u32> {
        let at = self.entry_at(name)?;
        let value = at.as_whole().or_else(|| units::percent(at.as_text()?))?;
        u32::try_from(value).ok()
    }

    /// The file of a key: a relative name starts at the folder of the document.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.text(name).map(|text| self.source.folder.join(text))
    }

    /// The same as [`At::key`] with the long lifetime, but no way up: for reading values alone.
    fn entry_at(&self, name: &str) -> Option<At<'a>> {
        let node = &self.entry(name)?.value;
        Some(At {
            node,
            parent: None,
            ..*self
        })
    }

    /// Where it stands, for the model.
    pub fn place(&self) -> Place {
        Place {
            file: Arc::clone(&self.source.file),
            line: self.node.at.line,
        }
    }

    /// How one gets here, such as `routes[0].host`.
    pub fn field(&self) -> String {
        let mut path = self.parent.map(At::field).unwrap_or_default();
        match self.step {
            Step::Root(_) => {}
            Step::Key(key) => push_key(&mut path, key),
            Step::Item(n) => path.push_str(&format!("[{n}]")),
        }
        path
    }

    /// A mistake in this value.
    pub fn report(&self, out: &mut Diagnostics, code: Code, problem: String, advice: &str) {
        out.push(self.wrong(code, problem, advice));
    }

    /// A mistake in a key of this mapping: there, or missing.
    pub fn report_key(
        &self,
        out: &mut Diagnostics,
        key: &str,
        code: Code,
        problem: String,
        advice: &str,
    ) {
        out.push(self.wrong_key(key, code, problem, advice));
    }

    /// What [`At::report`] reports.
    pub fn wrong(&self, code: Code, problem: String, advice: &str) -> Diagnostic {
        self.diagnostic(self.node.at, self.field(), code, problem, advice)
    }

    /// What [`At::report_key`] reports.
    pub fn wrong_key(&self, key: &str, code: Code, problem: String, advice: &str) -> Diagnostic {
        let at = self.entry(key).map_or(self.node.at, |entry| entry.key_at);
        let mut field = self.field();
        push_key(&mut field, key);
        self.diagnostic(at, field, code, problem, advice)
    }

    fn diagnostic(
        &self,
        at: Mark,
        field: String,
        code: Code,
        problem: String,
        advice: &str,
    ) -> Diagnostic {
        Diagnostic {
            file: Arc::clone(&self.source.file),
            line: at.line,
            column: at.column,
            field,
            object: None,
            code,
            severity: code.severity(),
            problem,
            advice: advice.to_owned(),
        }
    }
}
