//! How a text is laid out: lines, comments, indentation.
//!
//! Owns: [`Layout`], and how a document's [`Format`] is told from what is written.
//! Never: changes anything.
//! Called by: splice, flow.

use super::tree::{Kind, Node, Style};
use super::write::Format;

/// The widest indentation that is taken over.
const WIDEST: usize = 8;

/// Questions to a text. All places are bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout<'a> {
    pub text: &'a str,
}

impl<'a> Layout<'a> {
    pub fn slice(self, from: usize, to: usize) -> &'a str {
        self.text.get(from..to).unwrap_or_default()
    }

    /// The end of the line of `at`, before its line break.
    pub fn line_end(self, at: usize) -> usize {
        let rest = self.slice(at, self.text.len());
        match rest.find('\n') {
            None => self.text.len(),
            Some(0) => at,
            Some(length) => {
                at + length - usize::from(rest.as_bytes().get(length - 1) == Some(&b'\r'))
            }
        }
    }

    /// The first byte of the line of `at`.
    pub fn line_start(self, at: usize) -> usize {
        self.slice(0, at).rfind('\n').map_or(0, |line| line + 1)
    }

    /// The first byte of the next line; the end of the text where there is none.
    pub fn next_line(self, at: usize) -> usize {
        let rest = self.slice(at, self.text.len());
        rest.find('\n')
            .map_or(self.text.len(), |length| at + length + 1)
    }

    /// True where only spaces stand before `at` on its line.
    pub fn is_first(self, at: usize) -> bool {
        self.slice(self.line_start(at), at)
            .bytes()
            .all(|byte| byte == b' ')
    }

    /// Columns of white space before the line of `at`.
    pub fn indent(self, at: usize) -> usize {
        let line = self.slice(self.line_start(at), self.text.len());
        line.len() - line.trim_start_matches([' ', '\t']).len()
    }

    /// True where `to` is on a later line than `from`.
    pub fn breaks(self, from: usize, to: usize) -> bool {
        self.slice(from, to).contains('\n')
    }

    /// The end of the line of `at`, or of the last of the lines below that hold but a comment in
    /// column `column` or further right.
    pub fn after_comments(self, at: usize, column: usize) -> usize {
        let mut end = self.line_end(at);
        loop {
            let next = self.next_line(end);
            let line = self.slice(next, self.line_end(next));
            let body = line.trim_start_matches(' ');
            if next == end || !body.starts_with('#') || line.len() - body.len() < column {
                return end;
            }
            end = self.line_end(next);
        }
    }

    /// The same, comments after empty lines included.
    pub fn after_all_comments(self, at: usize, column: usize) -> usize {
        let mut end = self.after_comments(at, column);
        let mut line = end;
        while line < self.text.len() {
            line = self.line_end(self.next_line(line));
            let start = self.line_start(line);
            match self.slice(start, line).trim_start().chars().next() {
                None if line < self.text.len() => {}
                Some('#') if self.indent(start) >= column => end = line,
                _ => break,
            }
        }
        end
    }

    /// The format of the document with this root.
    pub fn format(self, root: &Node) -> Format {
        let flow = matches!(
            root.kind,
            Kind::Map(Style::Flow, _) | Kind::List(Style::Flow, _)
        );
        let json = flow && self.has_quoted_key(root);
        let mut found = Found::default();
        match flow {
            true => found.step = self.flow_step(root),
            false => found.look(root, self),
        }
        let step = found.step.unwrap_or(2);
        Format {
            eol: self.eol(),
            step,
            dashes: found.dashes.unwrap_or(0),
            gap: found.gap.unwrap_or(2),
            fill: if flow && self.text.contains("\n\t") {
                '\t'
            } else {
                ' '
            },
            json,
        }
    }

    fn eol(self) -> &'static str {
        let first = self.text.find('\n');
        let before = first.and_then(|at| at.checked_sub(1));
        match before.and_then(|at| self.text.as_bytes().get(at)) {
            Some(b'\r') => "\r\n",
            _ => "\n",
        }
    }

    fn has_quoted_key(self, root: &Node) -> bool {
        let Kind::Map(_, entries) = &root.kind else {
            return true;
        };
        let first = entries.iter().find(|entry| entry.now.old().is_some());
        first.is_none_or(|entry| self.slice(entry.start, entry.key_end).starts_with('"'))
    }

    fn flow_step(self, root: &Node) -> Option<usize> {
        let Kind::Map(_, entries) = &root.kind else {
            return None;
        };
        let first = entries.iter().find(|entry| entry.now.old().is_some())?;
        let step = self
            .indent(first.start)
            .checked_sub(self.indent(root.start))?;
        (self.breaks(root.start, first.start) && (1..=WIDEST).contains(&step)).then_some(step)
    }

    /// Columns from the dash at `dash` to the mapping on its line.
    pub fn gap(self, dash: usize, item: &Node) -> Option<usize> {
        let Kind::Map(Style::Block(_), _) = &item.kind else {
            return None;
        };
        let gap = item.start.checked_sub(dash)?;
        (!self.breaks(dash, item.start) && (2..=WIDEST).contains(&gap)).then_some(gap)
    }
}

/// What the first of its kind in a document looks like.
#[derive(Default)]
struct Found {
    step: Option<usize>,
    dashes: Option<usize>,
    gap: Option<usize>,
}

impl Found {
    fn look(&mut self, node: &Node, layout: Layout<'_>) {
        if self.step.is_some() && self.dashes.is_some() && self.gap.is_some() {
            return;
        }
        match &node.kind {
            Kind::Map(Style::Block(column), entries) => {
                for child in entries.iter().filter_map(|entry| entry.now.old()) {
                    self.below(*column, child);
                    self.look(child, layout);
                }
            }
            Kind::List(_, items) => {
                for item in items {
                    let Some(child) = item.now.old() else {
                        continue;
                    };
                    if self.gap.is_none() {
                        self.gap = layout.gap(item.start, child);
                    }
                    self.look(child, layout);
                }
            }
            _ => {}
        }
    }

    fn below(&mut self, column: usize, child: &Node) {
        match child.kind {
            Kind::Map(Style::Block(inner), _) if self.step.is_none() => {
                self.step = inner
                    .checked_sub(column)
                    .filter(|step| (1..=WIDEST).contains(step));
            }
            Kind::List(Style::Block(inner), _) if self.dashes.is_none() => {
                self.dashes = inner.checked_sub(column).filter(|dashes| *dashes <= WIDEST);
            }
            _ => {}
        }
    }
}
