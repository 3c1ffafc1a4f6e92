//! Changes in braces and brackets, JSON among them.
//!
//! Owns: commas, and where a part is put that has a line of its own.
//! Never: turns braces into lines.
//! Called by: splice.

use super::splice::{Around, Stuck, Writer};
use super::tree::{Kind, Node, Now, Style};
use super::write;

/// A key with its value, or an item, as it was read or as it is to be written.
struct Part<'a> {
    start: usize,
    end: usize,
    now: &'a Now,
    /// What is to be written, where it is new.
    new: Option<String>,
}

impl Writer<'_> {
    /// The changes in `node`, which is in braces or brackets and of which something stays.
    pub fn flow(&mut self, node: &Node) -> Result<(), Stuck> {
        let first = match &node.kind {
            Kind::Map(_, entries) => entries
                .iter()
                .find(|e| e.now.old().is_some())
                .map(|e| e.start),
            Kind::List(_, items) => items
                .iter()
                .find(|i| i.now.old().is_some())
                .map(|i| i.start),
            _ => None,
        };
        let Some(first) = first else { return Ok(()) };
        let lines = self.layout.breaks(node.start, first);
        let column = lines.then(|| self.layout.indent(first));
        let around = Around::Flow { lines };
        let parts: Vec<Part<'_>> = match &node.kind {
            Kind::Map(Style::Flow, entries) => {
                for entry in entries {
                    self.now(&entry.now, entry.colon, around)?;
                }
                let part = |entry| self.entry(entry, column);
                entries.iter().map(part).collect()
            }
            Kind::List(Style::Flow, items) => {
                for item in items {
                    self.now(&item.now, Some(item.start), around)?;
                }
                let new = |now: &Now| match now {
                    Now::Added(value) => Some(write::flow(self.format, value, column)),
                    _ => None,
                };
                let part = |item: &'_ super::tree::Item| (item.start, item.end(), new(&item.now));
                let with = items.iter().map(|item| (part(item), &item.now));
                with.map(|((start, end, new), now)| Part {
                    start,
                    end,
                    now,
                    new,
                })
                .collect()
            }
            _ => Vec::new(),
        };
        self.add(&parts, column);
        self.remove(&parts);
        Ok(())
    }

    fn entry<'n>(&self, entry: &'n super::tree::Entry, column: Option<usize>) -> Part<'n> {
        let new = match &entry.now {
            Now::Added(value) => Some(write::flow_entry(self.format, &entry.key, value, column)),
            _ => None,
        };
        Part {
            start: entry.start,
            end: entry.end(),
            now: &entry.now,
            new,
        }
    }

    fn add(&mut self, parts: &[Part<'_>], column: Option<usize>) {
        let mut between = ",".to_owned();
        match column {
            Some(column) => write::flow_line(&mut between, self.format, column),
            None => between.push(' '),
        }
        let mut above: Option<usize> = None;
        let mut nth = 0;
        while let Some(part) = parts.get(nth) {
            let run = parts.iter().skip(nth).map_while(|part| part.new.clone());
            let new: Vec<String> = run.collect();
            nth += new.len().max(1);
            if part.now.stays() {
                above = Some(nth - 1);
            }
            if new.is_empty() {
                continue;
            }
            let new = new.join(&between);
            let Some(above) = above else {
                let first = parts.iter().find(|part| part.now.stays());
                let at = first.map_or(0, |part| part.start);
                self.put(at, at, format!("{new}{between}"));
                continue;
            };
            let end = parts.get(above).map_or(0, |part| part.end);
            let next = parts
                .iter()
                .skip(above + 1)
                .find(|part| part.now.old().is_some());
            if !self.below_comment(end, next, &new, column) {
                self.put(end, end, format!("{between}{new}"));
            }
        }
    }

    /// Adds `new` below the line of `end`, where that line ends in a comment on what stands there.
    fn below_comment(
        &mut self,
        end: usize,
        next: Option<&Part<'_>>,
        new: &str,
        column: Option<usize>,
    ) -> bool {
        let Some(column) = column else { return false };
        let line_end = self.layout.line_end(end);
        let rest = self.layout.slice(end, line_end).trim_start();
        let (comma, rest) = match rest.strip_prefix(',') {
            Some(rest) => (true, rest.trim_start()),
            None => (false, rest),
        };
        let gone = next.is_some_and(|part| part.now.is_gone());
        if !rest.starts_with('#') || gone {
            return false;
        }
        if !comma {
            self.put(end, end, ",".to_owned());
        }
        let mut text = String::new();
        write::flow_line(&mut text, self.format, column);
        text.push_str(new);
        text.push_str(if next.is_some() { "," } else { "" });
        self.put(line_end, line_end, text);
        true
    }

    fn remove(&mut self, parts: &[Part<'_>]) {
        let read: Vec<&Part<'_>> = parts.iter().filter(|part| part.new.is_none()).collect();
        for (nth, part) in read.iter().enumerate() {
            if !part.now.is_gone() {
                continue;
            }
            let later = read.iter().skip(nth + 1).any(|part| part.now.stays());
            let next = read.get(nth + 1).filter(|_| later);
            let before = nth.checked_sub(1).and_then(|before| read.get(before));
            match (next, before) {
                (Some(next), _) => self.put(part.start, next.start, String::new()),
                (None, Some(before)) => self.put(before.end, part.end, String::new()),
                (None, None) => self.put(part.start, part.end, String::new()),
            }
        }
    }
}
