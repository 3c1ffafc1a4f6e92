//! Changes of a document's tree.
//!
//! Owns: what an [`Op`] means for a tree, and what becomes of aliases when their anchor changes.
//! Never: reads or writes text; says what an operation means (that is `Op::apply`, against which
//! the text is held in the end).
//! Called by: stream.
//!
//! Why an alias in the way is replaced by what it stands for: `labels: *labels` of a template must
//! get a label that the selector of the same name must not.

use std::collections::HashSet;

use serde_json::Value;

use super::super::op::{Op, OpError, Path, Step};
use super::parse::Document;
use super::tree::{Anchors, Entry, Item, Kind, Node, Now};

/// Applies `op` to the tree. `at`: where the document of `op` is in this one.
///
/// # Errors
/// The tree has another shape than the operation says.
pub(super) fn edit(document: &mut Document, at: &Path, op: &Op) -> Result<(), OpError> {
    let (path, change) = match op {
        Op::Put { at, value } => (at, Change::Put(value)),
        Op::Insert { list, index, value } => (list, Change::Insert(*index, value)),
        Op::Remove { at } => (at, Change::Remove),
    };
    let steps: Vec<&Step> = at.0.iter().chain(&path.0).collect();
    let whole = || Path(steps.iter().copied().cloned().collect());
    let fail = |problem| OpError {
        path: whole(),
        problem,
    };
    if steps.is_empty() {
        return Err(fail("it is the root"));
    }
    let Document { root, anchors } = document;
    let mut walk = Walk {
        anchors,
        spoiled: HashSet::new(),
    };
    walk.node(root, &steps, &change)
        .map_err(|problem| match problem {
            Problem::Shape(problem) => fail(problem),
            Problem::Value(error) => error,
        })?;
    let Walk { anchors, spoiled } = walk;
    if !spoiled.is_empty() {
        expand(root, anchors, &spoiled);
    }
    Ok(())
}

enum Change<'a> {
    Put(&'a Value),
    Insert(usize, &'a Value),
    Remove,
}

enum Problem {
    Shape(&'static str),
    Value(OpError),
}

type Done = Result<(), Problem>;

const NO_MAP: Problem = Problem::Shape("no mapping is there");
const NO_LIST: Problem = Problem::Shape("no list is there");
const NOTHING: Problem = Problem::Shape("nothing is there");

struct Walk<'a> {
    anchors: &'a Anchors,
    /// Anchors whose aliases no longer stand for what is written there.
    spoiled: HashSet<usize>,
}

impl Walk<'_> {
    fn now(&mut self, now: &mut Now, steps: &[&Step], change: &Change<'_>) -> Done {
        if let Now::Kept(node) = now {
            if !is_plain_value(node) {
                return self.node(node, steps, change);
            }
            // What has no parts of its own is replaced as a whole.
            let mut value = node.value(self.anchors);
            apply(&mut value, steps, change)?;
            self.replace(now, value);
            return Ok(());
        }
        match now {
            Now::Changed(_, value) | Now::Added(value) => apply(value, steps, change),
            Now::Kept(_) | Now::Gone(_) => Err(NOTHING),
        }
    }

    fn node(&mut self, node: &mut Node, steps: &[&Step], change: &Change<'_>) -> Done {
        if node.anchor > 0 {
            self.spoiled.insert(node.anchor);
        }
        match (&mut node.kind, steps.split_first()) {
            (Kind::Map(_, entries), Some((Step::Key(key), rest))) => {
                self.entry(entries, key, rest, change)
            }
            (Kind::List(_, items), Some((Step::Item(nth), rest))) => {
                self.item(items, *nth, rest, change)
            }
            (Kind::List(_, items), None) => match change {
                Change::Insert(index, value) => insert(items, *index, value),
                Change::Put(_) | Change::Remove => Err(NOTHING),
            },
            (_, Some((Step::Key(_), _))) => Err(NO_MAP),
            _ => Err(NO_LIST),
        }
    }

    fn entry(
        &mut self,
        entries: &mut Vec<Entry>,
        key: &str,
        rest: &[&Step],
        change: &Change<'_>,
    ) -> Done {
        let live = |entry: &&mut Entry| entry.key == key && !entry.now.is_gone();
        let found = entries.iter_mut().find(live);
        match (found, change, rest.is_empty()) {
            (Some(entry), Change::Put(value), true) => {
                self.put(&mut entry.now, value);
                Ok(())
            }
            (Some(entry), Change::Remove, true) => {
                self.remove(&mut entry.now);
                entries.retain(|entry| !matches!(entry.now, Now::Added(_)) || entry.key != key);
                Ok(())
            }
            (Some(entry), ..) => self.now(&mut entry.now, rest, change),
            (None, Change::Remove, true) => Err(NOTHING),
            (None, ..) => {
                let mut value = Value::Null;
                match change {
                    Change::Put(new) if rest.is_empty() => value = (*new).clone(),
                    _ => apply(&mut value, rest, change)?,
                }
                entries.push(Entry {
                    key: key.to_owned(),
                    start: 0,
                    key_end: 0,
                    colon: None,
                    now: Now::Added(value),
                });
                Ok(())
            }
        }
    }

    fn item(
        &mut self,
        items: &mut Vec<Item>,
        nth: usize,
        rest: &[&Step],
        change: &Change<'_>,
    ) -> Done {
        let at = live(items).nth(nth).ok_or(NOTHING)?;
        let item = items.get_mut(at).ok_or(NOTHING)?;
        match (change, rest.is_empty()) {
            (Change::Put(_), true) => Err(Problem::Shape("expected a key")),
            (Change::Remove, true) => {
                self.remove(&mut item.now);
                if matches!(item.now, Now::Added(_)) {
                    items.remove(at);
                }
                Ok(())
            }
            _ => self.now(&mut item.now, rest, change),
        }
    }

    /// Another value, of which as much stays as it was as is the same.
    fn put(&mut self, now: &mut Now, value: &Value) {
        let Now::Kept(node) = now else {
            self.replace(now, value.clone());
            return;
        };
        if node.value(self.anchors) == *value {
            return;
        }
        let alike = match (&mut node.kind, value) {
            (Kind::Map(_, entries), Value::Object(new)) => {
                let left = |entry: &Entry| !entry.now.is_gone() && new.contains_key(&entry.key);
                !new.is_empty() && entries.iter().any(left)
            }
            (Kind::List(_, items), Value::Array(new)) => {
                !new.is_empty() && live(items).count() == new.len()
            }
            _ => false,
        };
        if !alike {
            self.replace(now, value.clone());
            return;
        }
        if node.anchor > 0 {
            self.spoiled.insert(node.anchor);
        }
        match (&mut node.kind, value) {
            (Kind::Map(_, entries), Value::Object(new)) => self.merge(entries, new),
            (Kind::List(_, items), Value::Array(new)) => {
                let kept = items.iter_mut().filter(|item| !item.now.is_gone());
                for (item, value) in kept.zip(new) {
                    self.put(&mut item.now, value);
                }
            }
            _ => {}
        }
    }

    fn merge(&mut self, entries: &mut Vec<Entry>, new: &serde_json::Map<String, Value>) {
        for entry in entries.iter_mut().filter(|entry| !entry.now.is_gone()) {
            match new.get(&entry.key) {
                Some(value) => self.put(&mut entry.now, value),
                None => self.remove(&mut entry.now),
            }
        }
        entries.retain(|entry| !matches!(entry.now, Now::Added(_)) || new.contains_key(&entry.key));
        for (key, value) in new {
            if !entries
                .iter()
                .any(|entry| entry.key == *key && !entry.now.is_gone())
            {
                entries.push(Entry {
                    key: key.clone(),
                    start: 0,
                    key_end: 0,
                    colon: None,
                    now: Now::Added(value.clone()),
                });
            }
        }
    }

    fn replace(&mut self, now: &mut Now, value: Value) {
        if let Some(node) = now.old() {
            self.spoil(node);
        }
        *now = match std::mem::replace(now, Now::Added(Value::Null)) {
            Now::Kept(node) | Now::Changed(node, _) | Now::Gone(node) => Now::Changed(node, value),
            Now::Added(_) => Now::Added(value),
        };
    }

    fn remove(&mut self, now: &mut Now) {
        if let Some(node) = now.old() {
            self.spoil(node);
        }
        *now = match std::mem::replace(now, Now::Added(Value::Null)) {
            Now::Kept(node) | Now::Changed(node, _) | Now::Gone(node) => Now::Gone(node),
            Now::Added(value) => Now::Added(value),
        };
    }

    /// Notes every anchor in what is no longer written.
    fn spoil(&mut self, node: &Node) {
        if node.anchor > 0 {
            self.spoiled.insert(node.anchor);
        }
        match &node.kind {
            Kind::Scalar(_) | Kind::Alias(_) => {}
            Kind::Map(_, entries) => {
                entries
                    .iter()
                    .filter_map(|entry| entry.now.old())
                    .for_each(|old| self.spoil(old));
            }
            Kind::List(_, items) => {
                items
                    .iter()
                    .filter_map(|item| item.now.old())
                    .for_each(|old| self.spoil(old));
            }
        }
    }
}

/// True for what is not a collection with parts that stay: words, aliases, `{}`, `[]`.
fn is_plain_value(node: &Node) -> bool {
    match &node.kind {
        Kind::Scalar(_) | Kind::Alias(_) => true,
        Kind::Map(_, entries) => entries.is_empty(),
        Kind::List(_, items) => items.is_empty(),
    }
}

/// The positions of the items that are there.
fn live(items: &[Item]) -> impl Iterator<Item = usize> {
    let there = items
        .iter()
        .enumerate()
        .filter(|(_, item)| !item.now.is_gone());
    there.map(|(at, _)| at)
}

fn insert(items: &mut Vec<Item>, index: usize, value: &Value) -> Done {
    let before = live(items).nth(index);
    let count = live(items).count();
    if index > count {
        return Err(Problem::Shape("the list is shorter"));
    }
    let at = before.unwrap_or(items.len());
    items.insert(
        at,
        Item {
            start: 0,
            now: Now::Added(value.clone()),
        },
    );
    Ok(())
}

/// The same change to a value that is not in the text.
fn apply(value: &mut Value, steps: &[&Step], change: &Change<'_>) -> Done {
    let path = Path(steps.iter().copied().cloned().collect());
    let op = match *change {
        Change::Put(value) => Op::Put {
            at: path,
            value: value.clone(),
        },
        Change::Insert(index, value) => Op::Insert {
            list: path,
            index,
            value: value.clone(),
        },
        Change::Remove => Op::Remove { at: path },
    };
    op.apply(value).map_err(Problem::Value)
}

/// Writes out every alias of these anchors.
fn expand(node: &mut Node, anchors: &Anchors, spoiled: &HashSet<usize>) {
    let each = |now: &mut Now| match now {
        Now::Kept(child) => match child.kind {
            Kind::Alias(id) if spoiled.contains(&id) => {
                let value = child.value(anchors);
                *now = Now::Changed(child.clone(), value);
            }
            _ => expand(child, anchors, spoiled),
        },
        Now::Changed(..) | Now::Added(_) | Now::Gone(_) => {}
    };
    match &mut node.kind {
        Kind::Scalar(_) | Kind::Alias(_) => {}
        Kind::Map(_, entries) => entries
            .iter_mut()
            .map(|entry| &mut entry.now)
            .for_each(each),
        Kind::List(_, items) => items.iter_mut().map(|item| &mut item.now).for_each(each),
    }
}
