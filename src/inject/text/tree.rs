//! A document as a tree that knows the bytes of everything in it, and what is to change.
//!
//! Owns: [`Node`], and the JSON value that a tree stands for, changes included.
//! Never: reads or writes text.
//! Called by: parse (makes it), edit (changes it), splice (turns changes into text).
//!
//! Why a second tree beside the configuration's: that one remembers where a value begins, for
//! messages; whoever edits text must know where it ends, and where its colon and its dash are.

use std::collections::HashMap;

use serde_json::{Map, Number, Value};

/// Anchored values of a document, by the parser's number for the anchor.
pub(super) type Anchors = HashMap<usize, Value>;

/// A value as it stands in the text. All places are bytes of the whole text.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// After the colon, dash or separator before it, or after its own anchor and tag.
    pub lead: usize,
    /// Its first byte, anchor and tag included; `lead` where nothing is written.
    pub start: usize,
    /// After its last byte.
    pub end: usize,
    /// The parser's number for its anchor, 0 for none.
    pub anchor: usize,
    /// What it is.
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Scalar(Value),
    /// The number of the anchor that is meant.
    Alias(usize),
    Map(Style, Vec<Entry>),
    List(Style, Vec<Item>),
}

/// How a collection is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// A line for each entry, whose first byte stands in this column (from 0).
    Block(usize),
    /// In braces or brackets.
    Flow,
    /// In a way that is read, but not edited: `? key`, or `[key: value]` without braces.
    Odd,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: String,
    /// First byte of the key; without meaning where the entry is new.
    pub start: usize,
    /// After the key's last byte.
    pub key_end: usize,
    /// After the colon, where there is one.
    pub colon: Option<usize>,
    pub now: Now,
}

#[derive(Clone, Debug)]
pub(super) struct Item {
    /// The dash, or in brackets the first byte.
    pub start: usize,
    pub now: Now,
}

/// What becomes of the value at a place.
#[derive(Clone, Debug)]
pub(super) enum Now {
    /// It stays, though something in it may change.
    Kept(Node),
    /// Another one takes its place.
    Changed(Node, Value),
    /// The place is new.
    Added(Value),
    /// The place goes away.
    Gone(Node),
}

impl Now {
    /// The value that was read here.
    pub fn old(&self) -> Option<&Node> {
        match self {
            Now::Kept(node) | Now::Changed(node, _) | Now::Gone(node) => Some(node),
            Now::Added(_) => None,
        }
    }

    /// After the last byte of what stays of it.
    fn tail(&self) -> Option<usize> {
        match self {
            Now::Kept(node) => Some(node.tail()),
            other => other.old().map(|node| node.end),
        }
    }

    /// True where what was read here stays, changed or not.
    pub fn stays(&self) -> bool {
        matches!(self, Now::Kept(_) | Now::Changed(..))
    }

    pub fn is_gone(&self) -> bool {
        matches!(self, Now::Gone(_))
    }

    /// True where the text here, or somewhere in it, is to change.
    pub fn is_changed(&self) -> bool {
        match self {
            Now::Kept(node) => node.is_changed(),
            Now::Changed(..) | Now::Added(_) | Now::Gone(_) => true,
        }
    }

    /// The value here from now on; none where the place goes away.
    pub fn value(&self, anchors: &Anchors) -> Option<Value> {
        match self {
            Now::Kept(node) => Some(node.value(anchors)),
            Now::Changed(_, value) | Now::Added(value) => Some(value.clone()),
            Now::Gone(_) => None,
        }
    }
}

impl Entry {
    /// After the last byte of what stays of the entry.
    pub fn tail(&self) -> usize {
        let value = self.now.tail().unwrap_or(0);
        value.max(self.colon.unwrap_or(self.key_end))
    }

    /// After the last byte of the entry as it was read.
    pub fn end(&self) -> usize {
        let value = self.now.old().map_or(0, |node| node.end);
        value.max(self.colon.unwrap_or(self.key_end))
    }
}

impl Item {
    /// After the last byte of what stays of the item.
    pub fn tail(&self) -> usize {
        self.now.tail().unwrap_or(self.start)
    }

    /// After the last byte of the item as it was read.
    pub fn end(&self) -> usize {
        self.now.old().map_or(self.start, |node| node.end)
    }
}

impl Node {
    pub fn is_changed(&self) -> bool {
        match &self.kind {
            Kind::Scalar(_) | Kind::Alias(_) => false,
            Kind::Map(_, entries) => entries.iter().any(|entry| entry.now.is_changed()),
            Kind::List(_, items) => items.iter().any(|item| item.now.is_changed()),
        }
    }

    /// What the tree stands for, changes included.
    pub fn value(&self, anchors: &Anchors) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::Alias(id) => anchors.get(id).cloned().unwrap_or_default(),
            Kind::Map(_, entries) => {
                let pair = |entry: &Entry| Some((entry.key.clone(), entry.now.value(anchors)?));
                Value::Object(entries.iter().filter_map(pair).collect::<Map<_, _>>())
            }
            Kind::List(_, items) => Value::Array(
                items
                    .iter()
                    .filter_map(|item| item.now.value(anchors))
                    .collect(),
            ),
        }
    }

    /// After the last byte of what stays: whole lines below it may go away.
    fn tail(&self) -> usize {
        let last = match &self.kind {
            Kind::Map(Style::Block(_), entries) => entries
                .iter()
                .rfind(|entry| entry.now.stays())
                .map(Entry::tail),
            Kind::List(Style::Block(_), items) => {
                items.iter().rfind(|item| item.now.stays()).map(Item::tail)
            }
            _ => None,
        };
        last.unwrap_or(self.end)
    }
}

/// The value of a plain word, as YAML 1.2's core schema reads it. A number that JSON cannot hold
/// (`.inf`, `.nan`) stays text: nobody computes with it here.
pub(super) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    match number(text) {
        Some(number) => Value::Number(number),
        None => Value::String(text.to_owned()),
    }
}

fn number(text: &str) -> Option<Number> {
    let radix = |digits: &str, radix| {
        let signed = digits.starts_with(['+', '-']);
        let value = (!signed).then(|| u64::from_str_radix(digits, radix).ok());
        value.flatten().map(Number::from)
    };
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8);
    }
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digit = |b: u8| b.is_ascii_digit();
    let starts = body.bytes().next().is_some_and(|b| digit(b) || b == b'.');
    let allowed = |b: u8| digit(b) || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-');
    if !starts || !body.bytes().any(digit) || !body.bytes().all(allowed) {
        return None;
    }
    if let Ok(whole) = text.parse::<i64>() {
        return Some(whole.into());
    }
    if let Ok(whole) = text.parse::<u64>() {
        return Some(whole.into());
    }
    Number::from_f64(text.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_plain_word_has_the_value_that_yaml_1_2_gives_it() {
        for (text, value) in [
            ("", json!(null)),
            ("~", json!(null)),
            ("True", json!(true)),
            ("yes", json!("yes")),
            ("80", json!(80)),
            ("-1.5", json!(-1.5)),
            ("1e3", json!(1000.0)),
            ("0x1f", json!(31)),
            ("0o17", json!(15)),
            (".5", json!(0.5)),
            (".inf", json!(".inf")),
            ("1.2.3", json!("1.2.3")),
            ("100m", json!("100m")),
            ("18446744073709551615", json!(u64::MAX)),
            ("-", json!("-")),
            (".", json!(".")),
        ] {
            assert_eq!(plain(text), value, "{text}");
        }
    }
}
