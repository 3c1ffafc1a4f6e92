//! Changes of a tree as changes of its text.
//!
//! Owns: [`Splice`], and how block style is edited: whole lines come and go, what else stands on a
//! line stays.
//! Never: touches a byte outside of what changes, or decides what changes.
//! Called by: stream.
//!
//! Why comments below an item go with it, if they are further right than its dash: a line that was
//! commented out belongs to the item above, and what is added comes after both.

use serde_json::Value;

use super::layout::Layout;
use super::tree::{Anchors, Entry, Item, Kind, Node, Now, Style};
use super::write::{self, Format, has_lines};

/// New text in place of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Splice {
    pub start: usize,
    pub end: usize,
    pub text: String,
}

/// A place that cannot be edited as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stuck {
    /// The byte.
    pub at: usize,
    pub problem: &'static str,
}

/// The changes of one document, in no order.
pub(super) fn splices(
    layout: Layout<'_>,
    root: &Node,
    anchors: &Anchors,
) -> Result<Vec<Splice>, Stuck> {
    let format = layout.format(root);
    let mut writer = Writer {
        layout,
        anchors,
        format,
        out: Vec::new(),
    };
    match root.is_changed() && is_emptied(root) {
        true => {
            let value = root.value(anchors);
            writer.put(root.start, root.end, write::flow(format, &value, None));
        }
        false => writer.node(root, Around::Root)?,
    }
    Ok(writer.out)
}

/// `text` with all of `splices`; none where two of them overlap.
pub(super) fn apply(text: &str, mut splices: Vec<Splice>) -> Option<String> {
    // Stable: what comes first at one place was added first.
    splices.sort_by_key(|splice| (splice.start, splice.end));
    let mut out = String::with_capacity(text.len() + text.len() / 4);
    let mut at = 0;
    for splice in &splices {
        // What goes away may go away twice.
        let start = match splice.text.is_empty() {
            true => splice.start.max(at),
            false => splice.start,
        };
        out.push_str(text.get(at..start)?);
        out.push_str(&splice.text);
        at = splice.end.max(at);
    }
    out.push_str(text.get(at..)?);
    Some(out)
}

/// What a value stands in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Around {
    Root,
    /// After a key in this column.
    Key(usize),
    /// After a dash in this column.
    Dash(usize),
    /// In braces or brackets; parts with a line of their own in those with one.
    Flow {
        lines: bool,
    },
}

pub(super) struct Writer<'a> {
    pub layout: Layout<'a>,
    pub anchors: &'a Anchors,
    pub format: Format,
    pub out: Vec<Splice>,
}

impl Writer<'_> {
    pub fn put(&mut self, start: usize, end: usize, text: String) {
        self.out.push(Splice { start, end, text });
    }

    fn node(&mut self, node: &Node, around: Around) -> Result<(), Stuck> {
        if !node.is_changed() {
            return Ok(());
        }
        match &node.kind {
            Kind::Scalar(_) | Kind::Alias(_) => Ok(()),
            Kind::Map(Style::Odd, _) | Kind::List(Style::Odd, _) => {
                let problem = "what is written with \"?\", or in brackets without braces, is read \
                               and not edited";
                Err(Stuck {
                    at: node.start,
                    problem,
                })
            }
            Kind::Map(Style::Block(column), entries) => self.block_map(entries, *column, around),
            Kind::List(Style::Block(column), items) => {
                self.block_list(node, items, *column, around)
            }
            Kind::Map(Style::Flow, _) | Kind::List(Style::Flow, _) => self.flow(node),
        }
    }

    /// What becomes of the value after `after`, where its colon, dash or separator ends.
    pub fn now(&mut self, now: &Now, after: Option<usize>, around: Around) -> Result<(), Stuck> {
        match now {
            Now::Kept(node) if node.is_changed() && is_emptied(node) => {
                self.replace(node, &node.value(self.anchors), after, around)
            }
            Now::Kept(node) => self.node(node, around),
            Now::Changed(node, value) => self.replace(node, value, after, around),
            Now::Added(_) | Now::Gone(_) => Ok(()),
        }
    }

    fn replace(
        &mut self,
        old: &Node,
        value: &Value,
        after: Option<usize>,
        around: Around,
    ) -> Result<(), Stuck> {
        let problem = "there is no colon after this key";
        let nowhere = Stuck {
            at: old.start,
            problem,
        };
        match around {
            Around::Root => {
                self.put(old.start, old.end, write::flow(self.format, value, None));
            }
            Around::Flow { lines } => {
                let column = lines.then(|| self.layout.indent(old.start));
                let text = write::flow(self.format, value, column);
                match (old.start == old.end, after) {
                    (false, _) => self.put(old.start, old.end, text),
                    (true, Some(after)) => self.put(after, after, format!(" {text}")),
                    (true, None) => self.put(old.start, old.start, format!(": {text}")),
                }
            }
            Around::Key(column) => self.after_key(old, value, after.ok_or(nowhere)?, column),
            Around::Dash(column) => {
                let after = after.ok_or(nowhere)?;
                let gap = " ".repeat(self.format.gap - 1);
                let text = write::compact(self.format, value, column + self.format.gap);
                self.put(after, old.end, gap + &text);
            }
        }
        Ok(())
    }

    fn after_key(&mut self, old: &Node, value: &Value, after: usize, column: usize) {
        if !has_lines(value) {
            let word = write::compact(self.format, value, column);
            self.put(after, old.end, format!(" {word}"));
            return;
        }
        let below = write::below(self.format, value, column);
        let line_end = self.layout.line_end(after);
        if old.start > line_end {
            self.put(line_end, old.end, below);
            return;
        }
        if old.end > after {
            self.put(after, old.end, String::new());
        }
        let end = self.layout.line_end(old.end);
        self.put(end, end, below);
    }

    fn block_map(&mut self, entries: &[Entry], column: usize, around: Around) -> Result<(), Stuck> {
        for entry in entries {
            match &entry.now {
                Now::Gone(_) => self.cut(entry.start, entry.end()),
                now => self.now(now, entry.colon, Around::Key(column))?,
            }
        }
        let Some(last) = entries.iter().rfind(|entry| entry.now.stays()) else {
            return Ok(());
        };
        let root = matches!(around, Around::Root);
        let at = self
            .layout
            .after_comments(last.tail(), column + usize::from(root));
        for entry in entries {
            if let Now::Added(value) = &entry.now {
                let lines = write::entry(self.format, &entry.key, value, column);
                self.add_below(at, column, &lines);
            }
        }
        Ok(())
    }

    fn block_list(
        &mut self,
        node: &Node,
        items: &[Item],
        column: usize,
        around: Around,
    ) -> Result<(), Stuck> {
        let before = self.format;
        let staying = || items.iter().filter(|item| item.now.stays());
        let gap = |item: &Item| self.layout.gap(item.start, item.now.old()?);
        self.format.gap = staying().find_map(gap).unwrap_or(2);
        for item in items {
            match &item.now {
                Now::Gone(_) => self.cut(item.start, item.end()),
                now => self.now(now, Some(item.start + 1), Around::Dash(column))?,
            }
        }
        let last = staying().next_back().map(Item::tail);
        let mut above: Option<&Item> = None;
        for item in items {
            if item.now.stays() {
                above = Some(item);
            }
            let Now::Added(value) = &item.now else {
                continue;
            };
            let lines = write::item(self.format, value, column);
            match above {
                Some(above) => {
                    // At the end of a list that is further right than its key, comments in the
                    // column of the dashes are the list's.
                    let nested = !matches!(around, Around::Key(key) if key == column);
                    let own = nested && column > 0 && last == Some(above.tail());
                    let at = self
                        .layout
                        .after_comments(above.tail(), column + usize::from(!own));
                    self.add_below(at, column, &lines);
                }
                None => self.add_first(node, items, column, &lines),
            }
        }
        self.format = before;
        Ok(())
    }

    /// Before all items that stay: below the line on which the list was announced.
    fn add_first(&mut self, node: &Node, items: &[Item], column: usize, lines: &str) {
        let first = items.iter().find(|item| item.now.stays());
        let Some(first) = first.map(|item| item.start) else {
            return;
        };
        let announced = self.layout.line_start(node.lead) < node.lead;
        if announced && self.layout.breaks(node.lead, node.start) {
            self.add_below(self.layout.line_end(node.lead), column, lines);
        } else {
            let indent = " ".repeat(column);
            self.put(first, first, format!("{lines}{}{indent}", self.format.eol));
        }
    }

    fn add_below(&mut self, at: usize, column: usize, lines: &str) {
        let indent = " ".repeat(column);
        self.put(at, at, format!("{}{indent}{lines}", self.format.eol));
    }

    /// Takes away the lines from `start` to `end`, and the comments below that are further right;
    /// after a dash, what stands there.
    fn cut(&mut self, start: usize, end: usize) {
        let layout = self.layout;
        if !layout.is_first(start) {
            let before = layout.slice(0, start).trim_end_matches(' ').len();
            self.put(before, end, String::new());
            return;
        }
        let from = layout.line_start(start);
        let to = layout.after_all_comments(end, start - from + 1);
        let next = layout.next_line(to);
        if next == to && from > 0 {
            // The last line has no line break: the one before it goes.
            let before = layout.slice(0, from);
            let before = before.strip_suffix('\n').unwrap_or(before);
            let before = before.strip_suffix('\r').unwrap_or(before);
            self.put(before.len(), to, String::new());
        } else {
            self.put(from, next, String::new());
        }
    }
}

/// True where nothing stays of what the text says of a collection.
fn is_emptied(node: &Node) -> bool {
    match &node.kind {
        Kind::Scalar(_) | Kind::Alias(_) => false,
        Kind::Map(_, entries) => !entries.iter().any(|entry| entry.now.stays()),
        Kind::List(_, items) => !items.iter().any(|item| item.now.stays()),
    }
}
