//! YAML text to a small tree that remembers where everything stands.
//!
//! Owns: parsing, duplicate keys, aliases, and the bounds on what one file may cost: bytes, depth,
//! values.
//! Never: knows what a document means.
//! Called by: load.

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::alike::Short;
use super::diagnostic::Code;
use super::left::{LEFT_OUT_OF, Left};
use super::node::{Entry, Mark, Node, Scalar, ScalarKind, Value, push_key};
pub use super::parsed::{Mistake, Parsed};
use super::parsed::{indented_by_tab, mark};

/// Bytes of one file. 100,000 hosts need about 5 MiB.
pub const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Levels of nesting. The native format needs 10, a Kubernetes pod about 15.
pub const MAX_DEPTH: usize = 64;
/// Keys and values of one file, aliases counted as often as they are used: a file of a few lines
/// can otherwise stand for billions of values.
pub const MAX_NODES: usize = 4_000_000;
/// Mistakes of the YAML itself that are kept of one file.
const MAX_MISTAKES: usize = 100;
/// From this many keys on, a mapping is indexed to find duplicates.
const INDEX_FROM: usize = 16;

/// Parses every document of `text`. A byte order mark is skipped. Linear in the length of `text`
/// and of what its aliases stand for.
pub fn parse(text: &str) -> Parsed {
    parse_as(text, None)
}

/// The same, but that lines of a document's list of routes may be left for later, where they are alike.
pub fn parse_shared(text: &Arc<String>) -> Parsed {
    parse_as(text, Some(text))
}

fn parse_as(text: &str, later: Option<&Arc<String>>) -> Parsed {
    let read = text.strip_prefix('\u{feff}').unwrap_or(text);
    let later = later.map(|whole| (Arc::clone(whole), text.len() - read.len()));
    let text = read;
    let mut builder = Builder::default();
    if text.len() > MAX_BYTES {
        builder.mistake(
            Mark::default(),
            Code::TooLarge,
            format!("the file has {} bytes, more than {MAX_BYTES}", text.len()),
            "split it: every file of a folder is read",
        );
        return builder.out;
    }
    let short = Short::of(text).and_then(|short| parse_short(short, later));
    short.unwrap_or_else(|| parse_whole(text, builder))
}

/// Reads every line.
fn parse_whole(text: &str, mut builder: Builder<'_>) -> Parsed {
    let mut parser: Parser<'_, StrInput<'_>> = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        match event {
            Ok((event, span)) => {
                if builder.event(event, span).is_break() {
                    break;
                }
            }
            Err(error) => {
                builder.syntax(text, &error);
                break;
            }
        }
    }
    builder.out
}

/// The same of a text without most of its lines; `None` where it is not plain sailing.
fn parse_short(mut short: Short<'_>, later: Option<(Arc<String>, usize)>) -> Option<Parsed> {
    let text = std::mem::take(&mut short.text);
    let mut builder = Builder {
        short: Some(short),
        later,
        ..Builder::default()
    };
    let mut parser: Parser<'_, StrInput<'_>> = Parser::new_from_str(&text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.ok()?;
        if builder.event(event, span).is_break() {
            return None;
        }
    }
    let whole = builder.short.is_some_and(|short| short.is_whole());
    (whole && builder.out.mistakes.is_empty()).then_some(builder.out)
}

type Flow = std::ops::ControlFlow<()>;
const GO_ON: Flow = Flow::Continue(());
const STOP: Flow = Flow::Break(());

/// A list or mapping that is not complete yet.
enum Frame {
    List {
        at: Mark,
        anchor: usize,
        items: Vec<Node>,
    },
    Map {
        at: Mark,
        anchor: usize,
        entries: Vec<Entry>,
        /// The key whose value comes next.
        key: Option<(Box<str>, Mark)>,
        /// Position of each key, once there are many.
        index: HashMap<Box<str>, usize>,
    },
}

#[derive(Default)]
struct Builder<'t> {
    out: Parsed,
    /// Where lines were left out of the text.
    short: Option<Short<'t>>,
    /// Where they may stay out: the text, and where in it what is read begins.
    later: Option<(Arc<String>, usize)>,
    /// Those of this document that do.
    left: Vec<Left>,
    stack: Vec<Frame>,
    /// Complete anchored values of this document, with their sizes.
    anchors: HashMap<usize, (Node, usize)>,
    /// Keys and values so far.
    nodes: usize,
    root: Option<Node>,
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, span: Span) -> Flow {
        let mut at = mark(&span.start);
        if let Some(short) = &self.short {
            at.line = short.line(at.line);
        }
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd => GO_ON,
            Event::DocumentStart(_) => {
                self.anchors.clear();
                self.root = None;
                GO_ON
            }
            Event::DocumentEnd => {
                self.document();
                GO_ON
            }
            Event::Alias(id) => self.alias(id, at),
            Event::Scalar(text, style, anchor, tag) => {
                let text: Box<str> = text.into();
                let quoted = self.tag(at, tag.as_deref());
                let plain = style == ScalarStyle::Plain && !quoted;
                let value = Value::Scalar(Scalar { text, plain });
                self.place(Node { at, value }, anchor, 1)
            }
            Event::SequenceStart(anchor, tag) => {
                self.tag(at, tag.as_deref());
                let items = Vec::new();
                self.open(at, Frame::List { at, anchor, items })
            }
            Event::MappingStart(anchor, tag) => {
                self.tag(at, tag.as_deref());
                self.open(
                    at,
                    Frame::Map {
                        at,
                        anchor,
                        entries: Vec::new(),
                        key: None,
                        index: HashMap::new(),
                    },
                )
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
        }
    }

    fn document(&mut self) {
        let left = std::mem::take(&mut self.left);
        if let Some(root) = self.root.take() {
            let empty = matches!(&root.value, Value::Scalar(s) if s.kind() == ScalarKind::Null);
            if !empty {
                self.out.documents.push(root);
                self.out.left.push(left);
            }
        }
    }

    /// True where the tag makes a plain scalar text.
    fn tag(&mut self, at: Mark, tag: Option<&Tag>) -> bool {
        let Some(tag) = tag else { return false };
        let core = tag.is_yaml_core_schema();
        match tag.suffix.as_str() {
            "str" if core => true,
            "map" | "seq" | "int" | "float" | "bool" | "null" if core => false,
            _ => {
                let problem = format!("the tag {:?} is not supported", tag.to_string());
                self.mistake(at, Code::YamlFeature, problem, "write the value without it");
                false
            }
        }
    }

    fn open(&mut self, at: Mark, frame: Frame) -> Flow {
        if self.needs_key() {
            return self.key_is_not_text(at);
        }
        if self.stack.len() >= MAX_DEPTH {
            self.too_deep(at);
            return STOP;
        }
        self.stack.push(frame);
        GO_ON
    }

    fn close(&mut self) -> Flow {
        match self.stack.pop() {
            Some(Frame::List { at, anchor, items }) => {
                let value = Value::List(items);
                self.place(Node { at, value }, anchor, 1)
            }
            Some(Frame::Map {
                at,
                anchor,
                entries,
                ..
            }) => {
                let value = Value::Map(entries);
                self.place(Node { at, value }, anchor, 1)
            }
            None => STOP,
        }
    }

    fn alias(&mut self, id: usize, at: Mark) -> Flow {
        match self.anchors.get(&id) {
            Some((node, size)) if self.nodes + size <= MAX_NODES => {
                let (node, size) = (node.clone(), *size);
                self.place(node, 0, size)
            }
            Some(_) => self.too_many(at),
            None => {
                let problem = "the alias stands for nothing that is complete here".to_owned();
                let advice = "anchors are known in their own document, from their end on";
                self.mistake(at, Code::YamlFeature, problem, advice);
                STOP
            }
        }
    }

    /// Puts a complete value where it belongs: a key, a value of a key, an item, or the root.
    fn place(&mut self, mut node: Node, anchor: usize, size: usize) -> Flow {
        self.nodes += size;
        if anchor > 0 {
            let size = node.count();
            // The copy is counted as well, as it takes memory as well.
            self.nodes += size;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        if self.nodes > MAX_NODES {
            return self.too_many(node.at);
        }
        if self.needs_key() {
            return self.key(node);
        }
        let later = self
            .later
            .as_ref()
            .filter(|_| is_left_for_later(&self.stack));
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Frame::List { items, .. }) => {
                items.push(node);
                if let Some(middle) = self.short.as_mut().and_then(|short| short.next(items))
                    && let Some(item) = items.last()
                {
                    // They stand for as much as if they had been read.
                    self.nodes += middle.count * item.count();
                    match later {
                        Some((text, offset)) => {
                            self.left.push(middle.later(items.len() - 1, text, *offset));
                        }
                        None => items.append(&mut middle.items(item)),
                    }
                }
            }
            Some(Frame::Map { entries, key, .. }) => {
                if let Some((key, key_at)) = key.take() {
                    if matches!(&node.value, Value::Scalar(s) if s.plain && s.text.is_empty()) {
                        node.at = key_at;
                    }
                    entries.push(Entry {
                        key,
                        key_at,
                        value: node,
                    });
                }
            }
        }
        GO_ON
    }

    fn needs_key(&self) -> bool {
        matches!(self.stack.last(), Some(Frame::Map { key: None, .. }))
    }

    fn key(&mut self, node: Node) -> Flow {
        let at = node.at;
        let Value::Scalar(scalar) = node.value else {
            return self.key_is_not_text(at);
        };
        if scalar.plain && scalar.text.as_ref() == "<<" {
            let problem = "the merge key \"<<\" is not part of YAML 1.2".to_owned();
            self.mistake(at, Code::YamlFeature, problem, "repeat the keys");
        }
        if let Some(first) = self.first_of(&scalar.text) {
            let problem = format!(
                "the key {:?} stands twice; the first is at line {}",
                scalar.text, first.line
            );
            let advice = "keep one of the two";
            let field = self.path(Some(&scalar.text));
            self.mistake_in(field, at, Code::DuplicateKey, problem, advice);
        }
        if let Some(Frame::Map { key, .. }) = self.stack.last_mut() {
            *key = Some((scalar.text, at));
        }
        GO_ON
    }

    /// Where this key stands already in the innermost mapping.
    fn first_of(&mut self, text: &str) -> Option<Mark> {
        let Some(Frame::Map { entries, index, .. }) = self.stack.last_mut() else {
            return None;
        };
        if entries.len() < INDEX_FROM {
            return entries
                .iter()
                .find(|entry| entry.key.as_ref() == text)
                .map(|entry| entry.key_at);
        }
        for (n, entry) in entries.iter().enumerate().skip(index.len()) {
            index.entry(entry.key.clone()).or_insert(n);
        }
        let n = *index.get(text)?;
        entries.get(n).map(|entry| entry.key_at)
    }

    fn key_is_not_text(&mut self, at: Mark) -> Flow {
        let problem = "a list or mapping stands where a key is expected".to_owned();
        let advice = "write a word as key; text that holds braces needs quotes";
        self.mistake(at, Code::YamlFeature, problem, advice);
        STOP
    }

    fn too_deep(&mut self, at: Mark) {
        let problem = format!("it is nested more than {MAX_DEPTH} levels deep");
        self.mistake(at, Code::TooComplex, problem, "write it flatter");
    }

    fn too_many(&mut self, at: Mark) -> Flow {
        let problem = format!("the file stands for more than {MAX_NODES} values");
        let advice = "split it, and use fewer aliases: every file of a folder is read";
        self.mistake(at, Code::TooComplex, problem, advice);
        STOP
    }

    fn syntax(&mut self, text: &str, error: &ScanError) {
        let at = mark(error.marker());
        if let Some(tab) = indented_by_tab(text, at, error.info()) {
            let problem = "a tab indents this line, and YAML allows spaces alone".to_owned();
            self.mistake(
                tab,
                Code::Syntax,
                problem,
                "write spaces instead of the tab",
            );
            return;
        }
        if error.info().contains("recursion limit") {
            self.too_deep(at);
            return;
        }
        let problem = format!("this is not YAML: {}", error.info());
        let advice = "look at this line and the one before it: indentation, a missing colon, \
                      quote or bracket";
        self.mistake(at, Code::Syntax, problem, advice);
    }

    fn mistake(&mut self, at: Mark, code: Code, problem: String, advice: &'static str) {
        let field = self.path(None);
        self.mistake_in(field, at, code, problem, advice);
    }

    fn mistake_in(
        &mut self,
        field: String,
        at: Mark,
        code: Code,
        problem: String,
        advice: &'static str,
    ) {
        if self.out.mistakes.len() < MAX_MISTAKES {
            self.out.mistakes.push(Mistake {
                at,
                code,
                field,
                problem,
                advice,
            });
        }
    }

    /// Where the builder is, as `routes[0].host`.
    fn path(&self, last: Option<&str>) -> String {
        let mut path = String::new();
        for frame in &self.stack {
            match frame {
                Frame::List { items, .. } => path.push_str(&format!("[{}]", items.len())),
                Frame::Map { key: None, .. } => {}
                Frame::Map {
                    key: Some((key, _)),
                    ..
                } => push_key(&mut path, key),
            }
        }
        if let Some(key) = last {
            push_key(&mut path, key);
        }
        path
    }
}

/// True in a document's list of routes. One that an alias may repeat is read as it stands.
fn is_left_for_later(stack: &[Frame]) -> bool {
    match stack {
        [
            Frame::Map {
                anchor: 0,
                key: Some((key, _)),
                ..
            },
            Frame::List { anchor: 0, .. },
        ] => **key == *LEFT_OUT_OF,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is read of `text`, and whether lines of it were left out.
    fn both_ways(text: &str) -> bool {
        let short = Short::of(text).and_then(|short| parse_short(short, None));
        let whole = parse_whole(text, Builder::default());
        if let Some(short) = &short {
            assert_eq!(short.documents, whole.documents, "{text}");
            assert_eq!(short.mistakes, whole.mistakes, "{text}");
        }
        short.is_some()
    }

    fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
        (0..count).map(|n| line(n) + "\n").collect()
    }

    #[test]
    fn long_runs_of_lines_that_are_alike_are_copied_and_stand_where_they_were_written() {
        let hosts = lines(50, |n| format!("  - h{n}.example"));
        let routes = lines(40, |n| {
            let port = "8".repeat(n % 4 + 1);
            format!("- {{host: h{n}.example, hosts: [a{n}, b], port: {port}, deep: {{at: x{n}}}}}")
        });
        for text in [
            format!("hosts:\n{hosts}"),
            format!("a: 1\nhosts:\n{hosts}more:\n{hosts}end: {{a: 1}}\n---\nhosts:\n{hosts}"),
            format!("hosts:\n{hosts}  - the last one\n  - 'quoted'\n"),
            routes.clone(),
            format!("routes:\n{routes}hosts:\n{hosts}"),
            format!("hosts:\n{hosts}# a remark\n{hosts}"),
            format!("list:\n- host: a\n  hosts:\n{hosts}- host: b\n  hosts:\n{hosts}"),
            lines(40, |n| format!("- name: x{n}")),
            hosts.trim_end().to_owned(),
        ] {
            assert!(both_ways(&text), "{text}");
        }
    }

    #[test]
    fn lines_that_are_alike_and_no_items_of_a_list_are_read_one_by_one() {
        let hosts = lines(40, |n| format!("  - h{n}"));
        for text in [
            format!("a: |\n{hosts}"),
            format!("a: >\n{hosts}b: 1\n"),
            format!("a: text\n{hosts}"),
            format!("a: 'text\n{hosts}'\n"),
            format!("a: [\n{hosts}]\n"),
            format!("hosts:\n{hosts}    goes on\n") + &hosts + "a: |\n" + &hosts,
            lines(40, |n| format!("- a{n},b")),
            lines(40, |n| format!("- {{a: 1, a: {n}}}")),
            lines(40, |_| "- {a: }".to_owned()),
            lines(40, |n| format!("- {{a: 1, b: {n}")),
        ] {
            assert!(!both_ways(&text), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn lines_left_out_make_no_difference(
            lines in proptest::collection::vec(("[ ]{0,2}", "(- [a-c.:-]{1,3}|- \\{a: [a-c]{1,2}, b: c\\}|a: [|]|b:|a: b|#|'|- |)"), 1..5),
            times in proptest::collection::vec(30_usize..40, 5),
        ) {
            let text: String = lines
                .iter()
                .zip(times)
                .flat_map(|((indent, line), times)| {
                    let times = if line.starts_with("- ") { times } else { 1 };
                    std::iter::repeat_n(format!("{indent}{line}\n"), times)
                })
                .collect();
            both_ways(&text);
        }
    }

    fn only(text: &str) -> Node {
        let parsed = parse(text);
        assert_eq!(parsed.mistakes, [], "{text}");
        parsed.documents.into_iter().next().expect("one document")
    }

    fn mistakes(text: &str) -> Vec<String> {
        parse(text)
            .mistakes
            .iter()
            .map(|m| {
                format!(
                    "{}:{} {} {}: {}",
                    m.at.line, m.at.column, m.code, m.field, m.problem
                )
            })
            .collect()
    }

    /// A compact form that shows kinds: text in quotes, the rest bare.
    fn show(node: &Node) -> String {
        match &node.value {
            Value::Scalar(s) => match s.kind() {
                ScalarKind::Text => format!("{:?}", s.text),
                ScalarKind::Null => "null".to_owned(),
                _ => s.text.to_string(),
            },
            Value::List(items) => {
                let items: Vec<_> = items.iter().map(show).collect();
                format!("[{}]", items.join(","))
            }
            Value::Map(entries) => {
                let entries: Vec<_> = entries
                    .iter()
                    .map(|e| format!("{}:{}", e.key, show(&e.value)))
                    .collect();
                format!("{{{}}}", entries.join(","))
            }
        }
    }

    #[test]
    fn a_quoted_number_stays_text_and_a_plain_one_does_not() {
        let node = only("a: 80\nb: \"80\"\nc: '80'\nd: |\n  80\ne: !!str 80\nf: yes\ng: 1e3\n");
        assert_eq!(
            show(&node),
            r#"{a:80,b:"80",c:"80",d:"80\n",e:"80",f:"yes",g:1e3}"#
        );
    }

    #[test]
    fn json_is_yaml() {
        let text = "{\n\t\"a\": [1, true, null, \"x\\n\\u00e4\"],\n\t\"b\": {}\n}\n";
        assert_eq!(show(&only(text)), "{a:[1,true,null,\"x\\nä\"],b:{}}");
    }

    #[test]
    fn every_key_and_value_knows_its_place() {
        let node = only("routes:\n  - host: a\n    port:\n");
        let Value::Map(entries) = &node.value else {
            panic!()
        };
        let Value::List(items) = &entries[0].value.value else {
            panic!()
        };
        let Value::Map(route) = &items[0].value else {
            panic!()
        };
        let at = |line, column| Mark { line, column };
        assert_eq!((entries[0].key_at, items[0].at), (at(1, 1), at(2, 5)));
        assert_eq!((route[0].key_at, route[0].value.at), (at(2, 5), at(2, 11)));
        assert_eq!(
            route[1].value.at,
            at(3, 5),
            "no value: the place of its key"
        );
    }

    #[test]
    fn a_file_may_hold_many_documents_and_the_empty_ones_do_not_count() {
        let parsed = parse("---\n---\na: 1\n---\n# nothing\n---\nb: 2\n...\n");
        let shown: Vec<_> = parsed.documents.iter().map(show).collect();
        assert_eq!(
            (shown.join(" ").as_str(), parsed.mistakes.len()),
            ("{a:1} {b:2}", 0)
        );
    }

    #[test]
    fn a_byte_order_mark_and_windows_line_ends_do_no_harm() {
        assert_eq!(
            show(&only("\u{feff}a: 1\r\nb:\r\n  - x\r\n")),
            "{a:1,b:[\"x\"]}"
        );
    }

    #[test]
    fn x1_a_key_that_stands_twice_is_a_mistake_even_in_a_large_mapping() {
        assert_eq!(
            mistakes("a:\n  - b: 1\n    c: 2\n    b: 3\n"),
            ["4:5 SRT0005 a[0].b: the key \"b\" stands twice; the first is at line 2"]
        );
        let many: String = (0..100).map(|n| format!("k{n}: 1\n")).collect();
        assert_eq!(mistakes(&many).len(), 0);
        assert_eq!(
            mistakes(&(many.clone() + "k3: 1\nk99: 2\nk3: 1\n")),
            [
                "101:1 SRT0005 k3: the key \"k3\" stands twice; the first is at line 4",
                "102:1 SRT0005 k99: the key \"k99\" stands twice; the first is at line 100",
                "103:1 SRT0005 k3: the key \"k3\" stands twice; the first is at line 4",
            ]
        );
    }

    #[test]
    fn an_alias_stands_for_its_anchor() {
        let node = only("a: &x {k: 1}\nb: *x\nc: [*x, &y 5, *y]\n");
        assert_eq!(show(&node), "{a:{k:1},b:{k:1},c:[{k:1},5,5]}");
    }

    #[test]
    fn an_alias_does_not_reach_into_itself_or_another_document() {
        assert!(mistakes("a: &x [*x]\n")[0].contains("SRT0007"), "itself");
        assert_eq!(
            mistakes("a: &x 1\n---\nb: *x\n").len(),
            1,
            "another document"
        );
        assert_eq!(mistakes("b: *nowhere\n").len(), 1);
    }

    #[test]
    fn a_billion_laughs_are_cut_short() {
        let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for n in 1..12 {
            let row = vec![format!("*a{}", n - 1); 10].join(",");
            text.push_str(&format!("a{n}: &a{n} [{row}]\n"));
        }
        let got = mistakes(&text);
        assert_eq!(got.len(), 1, "{got:?}");
        assert!(got[0].contains("SRT0006") && got[0].contains("more than 4000000 values"));
    }

    #[test]
    fn nesting_has_a_bound() {
        let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert_eq!(mistakes(&deep(MAX_DEPTH)).len(), 0);
        for text in [
            deep(MAX_DEPTH + 1),
            "[".repeat(500_000),
            "- ".repeat(500_000),
        ] {
            let got = mistakes(&text);
            assert!(got.len() == 1 && got[0].contains("SRT0006"), "{got:?}");
        }
    }

    #[test]
    fn a_tab_is_named_where_it_indents() {
        for text in [
            "a:\n\tb: 1\n",
            "a:\n  b: 1\n\tc: 2\n",
            "a:\n  - b\n  \t- c: d\n",
        ] {
            let got = mistakes(text);
            assert!(
                got.len() == 1 && got[0].contains("a tab indents"),
                "{text:?} {got:?}"
            );
        }
    }

    #[test]
    fn what_is_not_yaml_is_a_mistake_and_what_came_before_it_is_kept() {
        for text in [
            "a: [1, 2\n",
            "a: \"x\n",
            "a: b: c\n",
            "}\n",
            "a: 1\n  b: 2\n",
            "@x\n",
        ] {
            let got = mistakes(text);
            assert!(
                got.len() == 1 && got[0].contains("SRT0004"),
                "{text:?} {got:?}"
            );
        }
        let parsed = parse("a: 1\n---\nb: ]\n");
        assert_eq!((parsed.documents.len(), parsed.mistakes.len()), (1, 1));
    }

    #[test]
    fn what_yaml_has_and_sortie_does_not_read_is_named() {
        for (text, what) in [
            ("a: !Ref x\n", "tag"),
            ("a: !!binary x\n", "tag"),
            ("<<: {a: 1}\n", "merge key"),
            ("? [a]\n: 1\n", "where a key is expected"),
            ("{{ .Values.host }}: 1\n", "where a key is expected"),
        ] {
            let got = mistakes(text);
            assert!(
                got[0].contains("SRT0007") && got[0].contains(what),
                "{text:?} {got:?}"
            );
        }
    }
}
