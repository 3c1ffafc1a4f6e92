//! Text to trees: one for each document, with the bytes of every key, value, colon and dash.
//!
//! Owns: where each value begins and ends, and the separators between them.
//! Never: judges syntax: the configuration's reader has done that before, bounds included.
//! Called by: stream.
//!
//! Why the places are looked up in the text: the parser's spans are made for messages. A quoted
//! scalar's span runs into the comment after it, a block scalar's begins after its header, and a
//! dash has none at all.

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};
use serde_json::Value;

use super::scan::Scan;
use super::tree::{Anchors, Entry, Item, Kind, Node, Now, Style, plain};

/// One document.
#[derive(Debug)]
pub(super) struct Document {
    /// Its root; null where the document is empty.
    pub root: Node,
    /// The values of its anchors.
    pub anchors: Anchors,
}

/// The documents of `text`, empty ones included. None where the text is not what the
/// configuration's reader accepts, or where the parser and the text do not agree.
pub(super) fn parse(text: &str) -> Option<Vec<Document>> {
    let bare = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder {
        text,
        scan: Scan::new(text, text.len() - bare.len()),
        cursor: text.len() - bare.len(),
        stack: Vec::new(),
        anchors: Anchors::new(),
        root: None,
        out: Vec::new(),
    };
    let mut parser: Parser<'_, StrInput<'_>> = Parser::new_from_str(bare);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.ok()?;
        builder.event(event, span)?;
    }
    Some(builder.out)
}

/// A collection that is not complete.
enum Frame {
    Map {
        head: Head,
        style: Style,
        entries: Vec<Entry>,
        key: Option<Key>,
    },
    List {
        head: Head,
        style: Style,
        items: Vec<Item>,
        dash: Option<usize>,
    },
}

/// Where a value begins, and its anchor.
#[derive(Clone, Copy)]
struct Head {
    lead: usize,
    start: usize,
    anchor: usize,
}

struct Key {
    text: String,
    start: usize,
    end: usize,
    colon: Option<usize>,
}

struct Builder<'a> {
    text: &'a str,
    scan: Scan<'a>,
    /// After all that has been read.
    cursor: usize,
    stack: Vec<Frame>,
    anchors: Anchors,
    root: Option<Node>,
    out: Vec<Document>,
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, span: Span) -> Option<()> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd => {}
            Event::DocumentStart(explicit) => {
                if explicit {
                    self.cursor = self.scan.byte(&span.start) + "---".len();
                }
            }
            Event::DocumentEnd => {
                let end = self.cursor;
                let empty = Node {
                    lead: end,
                    start: end,
                    end,
                    anchor: 0,
                    kind: Kind::Scalar(Value::Null),
                };
                let root = self.root.take().unwrap_or(empty);
                let at = self.scan.blank(end);
                if self.text.get(at..)?.starts_with("...") {
                    self.cursor = at + "...".len();
                }
                let anchors = std::mem::take(&mut self.anchors);
                self.out.push(Document { root, anchors });
            }
            Event::Alias(id) => {
                self.dash()?;
                let head = self.head(0, None);
                self.cursor = self.scan.byte(&span.end);
                self.place(self.node(head, Kind::Alias(id)))?;
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.scalar(&text, style, anchor, tag.as_deref(), &span)?;
            }
            Event::SequenceStart(anchor, tag) => {
                self.dash()?;
                let head = self.head(anchor, tag.as_deref());
                let style = self.open('[');
                let items = Vec::new();
                self.stack.push(Frame::List {
                    head,
                    style,
                    items,
                    dash: None,
                });
            }
            Event::MappingStart(anchor, tag) => {
                self.dash()?;
                let head = self.head(anchor, tag.as_deref());
                let style = self.open('{');
                let entries = Vec::new();
                self.stack.push(Frame::Map {
                    head,
                    style,
                    entries,
                    key: None,
                });
            }
            Event::SequenceEnd | Event::MappingEnd => self.close()?,
        }
        Some(())
    }

    /// Where the next value begins. Its anchor and tag are read, and nothing after them.
    fn head(&mut self, anchor: usize, tag: Option<&Tag>) -> Head {
        let before = self.cursor;
        let at = self.scan.blank(before);
        let mut head = Head {
            lead: before,
            start: at,
            anchor,
        };
        let properties = usize::from(anchor > 0) + usize::from(tag.is_some());
        let mut from = at;
        for _ in 0..properties {
            from = self.scan.blank(from);
            let rest = self.text.get(from..).unwrap_or_default();
            if !rest.starts_with(['&', '!']) {
                break;
            }
            let separator = |c: char| c.is_ascii_whitespace() || matches!(c, ',' | ']' | '}');
            from += rest.find(separator).unwrap_or(rest.len());
            head.lead = from;
            self.cursor = from;
        }
        head
    }

    /// Reads a bracket or brace, if one opens here.
    fn open(&mut self, bracket: char) -> Style {
        let at = self.scan.blank(self.cursor);
        if self
            .text
            .get(at..)
            .is_some_and(|rest| rest.starts_with(bracket))
        {
            self.cursor = at + 1;
            return Style::Flow;
        }
        match self.in_flow() {
            true => Style::Odd,
            false => Style::Block(self.scan.column(at)),
        }
    }

    fn in_flow(&self) -> bool {
        let flow = |frame: &Frame| {
            let (Frame::Map { style, .. } | Frame::List { style, .. }) = frame;
            *style == Style::Flow
        };
        self.stack.iter().any(flow)
    }

    /// Before an item of a list: its dash is read, or the comma before it.
    fn dash(&mut self) -> Option<()> {
        let at = self.scan.blank(self.cursor);
        let rest = self.text.get(at..)?;
        let Some(Frame::List { style, dash, .. }) = self.stack.last_mut() else {
            return Some(());
        };
        match style {
            Style::Block(_) => {
                rest.starts_with('-').then_some(())?;
                *dash = Some(at);
                self.cursor = at + 1;
            }
            Style::Flow | Style::Odd => {
                let comma = usize::from(rest.starts_with(','));
                let at = self.scan.blank(at + comma);
                let Some(Frame::List { dash, .. }) = self.stack.last_mut() else {
                    return None;
                };
                *dash = Some(at);
                self.cursor = at;
            }
        }
        Some(())
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        span: &Span,
    ) -> Option<()> {
        if matches!(self.stack.last(), Some(Frame::Map { key: None, .. })) {
            return self.key(text, style, span);
        }
        self.dash()?;
        let mut head = self.head(anchor, tag);
        let at = self.scan.blank(self.cursor);
        match style {
            ScalarStyle::Plain if text.is_empty() => {
                if anchor == 0 && tag.is_none() {
                    head.start = head.lead;
                }
            }
            ScalarStyle::Plain => self.cursor = self.scan.byte(&span.end),
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => {
                self.cursor = self.scan.quoted(at)?
            }
            ScalarStyle::Literal | ScalarStyle::Folded => {
                self.cursor = self.scan.block_scalar(at, self.scan.byte(&span.end))?;
            }
        }
        let text_tag = tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
        let value = match style {
            ScalarStyle::Plain if !text_tag => plain(text),
            _ => Value::String(text.to_owned()),
        };
        let node = self.node(head, Kind::Scalar(value));
        self.place(node)
    }

    fn key(&mut self, text: &str, style: ScalarStyle, span: &Span) -> Option<()> {
        let mut at = self.scan.blank(self.cursor);
        let mut odd = false;
        let flow = self.in_flow();
        if flow && self.text.get(at..)?.starts_with(',') {
            at = self.scan.blank(at + 1);
        }
        if self.text.get(at..)?.starts_with("? ") {
            (odd, at) = (true, self.scan.blank(at + 1));
        }
        let start = at;
        // An anchor or a tag of the key is part of it.
        if self.text.get(at..)?.starts_with(['&', '!']) {
            odd = true;
        }
        let end = match style {
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted if !odd => {
                self.scan.quoted(at)?
            }
            ScalarStyle::Plain if text.is_empty() => {
                odd = true;
                at
            }
            _ => self.scan.byte(&span.end),
        };
        let colon = self.scan.blank(end);
        let colon = self
            .text
            .get(colon..)?
            .starts_with(':')
            .then_some(colon + 1);
        self.cursor = colon.unwrap_or(end);
        let Some(Frame::Map { style, key, .. }) = self.stack.last_mut() else {
            return None;
        };
        if odd || (colon.is_none() && !flow) {
            *style = Style::Odd;
        }
        *key = Some(Key {
            text: text.to_owned(),
            start,
            end,
            colon,
        });
        Some(())
    }

    fn node(&self, head: Head, kind: Kind) -> Node {
        let Head {
            lead,
            start,
            anchor,
        } = head;
        let end = self.cursor.max(start);
        Node {
            lead,
            start,
            end,
            anchor,
            kind,
        }
    }

    fn close(&mut self) -> Option<()> {
        let (head, kind, style) = match self.stack.pop()? {
            Frame::Map {
                head,
                style,
                entries,
                ..
            } => (head, Kind::Map(style, entries), style),
            Frame::List {
                head, style, items, ..
            } => (head, Kind::List(style, items), style),
        };
        if style == Style::Flow || self.closes(head, &kind) {
            let mut at = self.scan.blank(self.cursor);
            if self.text.get(at..)?.starts_with(',') {
                at = self.scan.blank(at + 1);
            }
            self.text.get(at..)?.starts_with([']', '}']).then_some(())?;
            self.cursor = at + 1;
        }
        let node = self.node(head, kind);
        self.place(node)
    }

    /// True for braces in which something is odd: they must be closed all the same.
    fn closes(&self, head: Head, kind: &Kind) -> bool {
        let at = self.scan.blank(head.lead);
        let opened = self
            .text
            .get(at..)
            .is_some_and(|rest| rest.starts_with('{'));
        opened && matches!(kind, Kind::Map(Style::Odd, _))
    }

    fn place(&mut self, node: Node) -> Option<()> {
        if node.anchor > 0 {
            let value = node.value(&self.anchors);
            self.anchors.insert(node.anchor, value);
        }
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Frame::List { items, dash, .. }) => {
                items.push(Item {
                    start: dash.take()?,
                    now: Now::Kept(node),
                });
            }
            Some(Frame::Map { entries, key, .. }) => {
                let Key {
                    text,
                    start,
                    end,
                    colon,
                } = key.take()?;
                entries.push(Entry {
                    key: text,
                    start,
                    key_end: end,
                    colon,
                    now: Now::Kept(node),
                });
            }
        }
        Some(())
    }
}
