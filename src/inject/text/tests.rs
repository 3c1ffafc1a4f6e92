//! Texts before and after, and random texts under random changes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::op::{Op, Path, Step};
use super::stream::{EditError, Stream};

fn path(text: &str) -> Path {
    let mut path = Path::default();
    for step in text.split('/').filter(|step| !step.is_empty()) {
        path = match step.parse() {
            Ok(nth) => path.item(nth),
            Err(_) => path.key(step),
        };
    }
    path
}

fn put(at: &str, value: Value) -> Op {
    Op::Put {
        at: path(at),
        value,
    }
}

fn insert(list: &str, index: usize, value: Value) -> Op {
    Op::Insert {
        list: path(list),
        index,
        value,
    }
}

fn remove(at: &str) -> Op {
    Op::Remove { at: path(at) }
}

fn edited(text: &str, ops: &[Op]) -> Result<String, EditError> {
    let mut stream = Stream::new(text).unwrap();
    stream.edit(0, &Path::default(), ops)?;
    stream.finish()
}

#[track_caller]
fn check(before: &str, ops: &[Op], after: &str) {
    let got = edited(before, ops).unwrap();
    assert_eq!(got, after, "\n--- got\n{got}\n--- expected\n{after}");
}

#[test]
fn a_text_without_changes_is_the_same_byte_for_byte() {
    let text = "\u{feff}# c\r\n%YAML 1.2\n---\na:   [ 1,2 ] # d\n...\n\n---\n--- {b: 'é'}\n";
    let text = text.replace("# c\r\n", "");
    let stream = Stream::new(&text).unwrap();
    assert_eq!(stream.finish().unwrap(), text);
    assert_eq!(
        stream.values(),
        [json!({"a": [1, 2]}), json!(null), json!({"b": "é"})]
    );
}

#[test]
fn a_new_key_comes_after_the_last_one_and_its_comments() {
    check(
        "a:\n  b: 1 # one\n  # c: 2\n# next\nd: 3\n",
        &[put("a/x", json!("yes"))],
        "a:\n  b: 1 # one\n  # c: 2\n  x: \"yes\"\n# next\nd: 3\n",
    );
    check("a: 1", &[put("b/c", json!([1]))], "a: 1\nb:\n  c:\n  - 1");
}

#[test]
fn a_new_item_comes_between_the_others_in_their_style() {
    let text = "c:\n  # the first\n  - k: a\n    v: 1\n\n  # the second\n  - k: b\nd: 1\n";
    check(
        text,
        &[insert("c", 0, json!({"k": "x", "l": ["z"]}))],
        "c:\n  - k: x\n    l:\n      - z\n  # the first\n  - k: a\n    v: 1\n\n  # the second\n  \
         - k: b\nd: 1\n",
    );
    check(
        text,
        &[insert("c", 1, json!({"k": "x"}))],
        "c:\n  # the first\n  - k: a\n    v: 1\n  - k: x\n\n  # the second\n  - k: b\nd: 1\n",
    );
    check(
        "c:\n-   k: a\n    v: 1\n",
        &[insert("c", 1, json!({"k": "x", "v": {"w": 1}}))],
        "c:\n-   k: a\n    v: 1\n-   k: x\n    v:\n      w: 1\n",
    );
    check(
        "- - a\n  - b\n",
        &[insert("0", 0, json!(1))],
        "- - 1\n  - a\n  - b\n",
    );
}

#[test]
fn windows_line_ends_stay_and_a_missing_one_at_the_end_too() {
    check(
        "a:\r\n  b: é\r\n",
        &[put("a/c", json!({"d": 1}))],
        "a:\r\n  b: é\r\n  c:\r\n    d: 1\r\n",
    );
    check(
        "a:\r\n  b: 1",
        &[put("a/c", json!(2))],
        "a:\r\n  b: 1\r\n  c: 2",
    );
    check("a: 1\nb: 2", &[remove("b")], "a: 1");
}

#[test]
fn nothing_and_empty_braces_become_lines() {
    for nothing in ["", " ", " # why", " null # why", " {}", " ~"] {
        let before = format!("a:{nothing}\nb: 1\n");
        let got = edited(&before, &[put("a/x", json!(1))]).unwrap();
        assert!(got.starts_with("a:"), "{got}");
        assert!(got.ends_with("\n  x: 1\nb: 1\n"), "{got}");
        assert_eq!(got.contains("# why"), before.contains("# why"), "{got}");
    }
    check("a: []\n", &[insert("a", 0, json!("x"))], "a:\n- x\n");
    check(
        "a:\n- b: {}\n",
        &[put("a/0/b/c", json!(1))],
        "a:\n- b:\n    c: 1\n",
    );
}

#[test]
fn braces_stay_braces() {
    check(
        "c: [{name: a}, {name: b, }] # d\n",
        &[
            insert("c", 1, json!({"name": "x,y"})),
            put("c/2/p", json!(1)),
            put("c/0/args", json!(["no"])),
        ],
        "c: [{name: a, args: [\"no\"]}, {name: \"x,y\"}, {name: b, p: 1, }] # d\n",
    );
    check(
        "c: {a: , b: [x]}\n",
        &[
            put("c/a/q", json!(1)),
            remove("c/b"),
            insert("c/z", 0, json!(2)),
        ],
        "c: {a: {q: 1}, z: [2]}\n",
    );
    check(
        "c: {\n  a: 1, # one\n  b: 2 # two\n}\n",
        &[put("c/x", json!(1)), put("c/z", json!(2))],
        "c: {\n  a: 1, # one\n  b: 2, # two\n  x: 1,\n  z: 2\n}\n",
    );
}

#[test]
fn json_stays_json() {
    let before = "{\n    \"a\": [\n        \"x\"\n    ],\n    \"b\": {}\n}\n";
    let ops = [insert("a", 1, json!({"k": null})), put("b/c", json!("yes"))];
    let after = edited(before, &ops).unwrap();
    let expected = "{\n    \"a\": [\n        \"x\",\n        {\n            \"k\": null\n        \
                    }\n    ],\n    \"b\": {\n        \"c\": \"yes\"\n    }\n}\n";
    assert_eq!(after, expected);
    assert!(serde_json::from_str::<Value>(&after).is_ok());
    check(
        "{\"a\":[1]}",
        &[put("b", json!({"c": 1}))],
        "{\"a\":[1], \"b\": {\"c\": 1}}",
    );
    check(
        "{\n\t\"a\": 1\n}",
        &[put("b", json!([1]))],
        "{\n\t\"a\": 1,\n\t\"b\": [\n\t\t1\n\t]\n}",
    );
}

#[test]
fn of_a_value_that_changes_what_is_the_same_stays() {
    check(
        "p:\n  httpGet: {path: /x, port: 80} # here\n  periodSeconds: 3 # why\n",
        &[put(
            "p",
            json!({"httpGet": {"path": "/y", "port": 80}, "periodSeconds": 3}),
        )],
        "p:\n  httpGet: {path: /y, port: 80} # here\n  periodSeconds: 3 # why\n",
    );
    check(
        "p:\n  exec:\n    command: [a]\n  t: 1\n",
        &[put("p", json!({"httpGet": {"port": 1}, "t": 1}))],
        "p:\n  t: 1\n  httpGet:\n    port: 1\n",
    );
}

#[test]
fn what_is_removed_takes_its_lines_and_no_others() {
    check(
        "a:\n  # about b\n  b:\n  - 1\n  # about c\n  c: |\n    x\n\n  d: 1\n",
        &[remove("a/c")],
        "a:\n  # about b\n  b:\n  - 1\n  # about c\n\n  d: 1\n",
    );
    check(
        "l:\n- a: 1 # x\n  b: 2\n",
        &[remove("l/0/a")],
        "l:\n- # x\n  b: 2\n",
    );
    check("l:\n- a: 1\nm: 1\n", &[remove("l/0")], "l: []\nm: 1\n");
    check(
        "l: {a: 1, b: 2, c: 3}\n",
        &[remove("l/c"), remove("l/b")],
        "l: {a: 1}\n",
    );
}

#[test]
fn an_alias_in_the_way_is_written_out_and_its_anchor_stays() {
    check(
        "s: &l\n  app: x\nt:\n  labels: *l\n",
        &[put("t/labels/tls", json!("on"))],
        "s: &l\n  app: x\nt:\n  labels:\n    app: x\n    tls: \"on\"\n",
    );
}

#[test]
fn an_anchor_that_changes_does_not_change_its_aliases() {
    check(
        "t: &l\n  app: x\ns: *l\nu: 1\n",
        &[put("t/tls", json!("a"))],
        "t: &l\n  app: x\n  tls: a\ns:\n  app: x\nu: 1\n",
    );
    check(
        "t: &l 5\ns: [*l, *l]\n",
        &[put("t", json!(6))],
        "t: 6\ns: [5, 5]\n",
    );
}

#[test]
fn texts_over_several_lines_are_not_disturbed() {
    let text = "a:\n  c: |+\n    x\n\n\nb: >-\n  y\n  z # no comment\n\n# end\n";
    check(
        text,
        &[put("a/d", json!(1)), put("w", json!(2))],
        "a:\n  c: |+\n    x\n\n\n  d: 1\nb: >-\n  y\n  z # no comment\nw: 2\n\n# end\n",
    );
    check(
        "a: 'it''s # no\n  comment'  # c\nb: \"\\\"\\\n  x\"\nc: p\n  q\n",
        &[put("d", json!(1))],
        "a: 'it''s # no\n  comment'  # c\nb: \"\\\"\\\n  x\"\nc: p\n  q\nd: 1\n",
    );
}

#[test]
fn only_the_document_that_is_meant_changes() {
    let text = "# one\na: 1\n---\n# two\nb: 1\n... # end\n---\n{c: 1}\n";
    let mut stream = Stream::new(text).unwrap();
    stream
        .edit(1, &Path::default(), &[put("x", json!(1))])
        .unwrap();
    stream
        .edit(2, &Path::default(), &[put("x", json!(1))])
        .unwrap();
    assert_eq!(
        stream.finish().unwrap(),
        "# one\na: 1\n---\n# two\nb: 1\nx: 1\n... # end\n---\n{c: 1, x: 1}\n"
    );
}

#[test]
fn a_place_is_told_in_lines_and_columns() {
    let stream = Stream::new("\u{feff}é: 1\n---\nö: {ä: [1, b]}\n").unwrap();
    assert_eq!(stream.place(0, &path("é")), (1, 1));
    assert_eq!(stream.place(1, &path("ö/ä")), (3, 5));
    assert_eq!(stream.place(1, &path("ö/ä/1")), (3, 12));
    assert_eq!(stream.place(1, &path("ö/nowhere/x")), (3, 1));
}

#[test]
fn what_is_written_oddly_is_refused_where_it_would_change_and_kept_elsewhere() {
    let text = "? a\n: b\nc:\n  d: [e: f]\n";
    let mut stream = Stream::new(text).unwrap();
    assert_eq!(stream.finish().unwrap(), text);
    stream
        .edit(0, &Path::default(), &[put("c/x", json!(1))])
        .unwrap();
    assert!(matches!(stream.finish(), Err(EditError::Stuck(0, _))));
}

/// A random number generator that is the same everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Writes values in every style that YAML has.
struct Author {
    dice: Dice,
    step: usize,
    anchors: Vec<(Value, usize)>,
    comments: usize,
    /// A comment would be part of the text before it.
    quiet: bool,
    out: String,
}

impl Author {
    fn new(seed: u64) -> Author {
        let mut dice = Dice(seed);
        let step = 1 + dice.below(4);
        Author {
            dice,
            step,
            anchors: Vec::new(),
            comments: 0,
            quiet: false,
            out: String::new(),
        }
    }

    fn comment(&mut self) -> String {
        self.comments += 1;
        format!("# comment {} 'é' {{", self.comments)
    }

    fn line(&mut self, column: usize) {
        if std::mem::take(&mut self.quiet) {
            self.out.push('\n');
            self.out.push_str(&" ".repeat(column));
            return;
        }
        if self.dice.one_in(6) {
            let comment = self.comment();
            self.out.push_str(&format!(" {comment}"));
        }
        self.out.push('\n');
        while self.dice.one_in(6) {
            if self.dice.one_in(2) {
                let (indent, comment) = (" ".repeat(self.dice.below(9)), self.comment());
                self.out.push_str(&format!("{indent}{comment}\n"));
            } else {
                self.out.push('\n');
            }
        }
        self.out.push_str(&" ".repeat(column));
    }

    fn word(&mut self, value: &Value, flow: bool) {
        let text = match value {
            Value::String(text) => {
                let plain = text.chars().all(|c| c.is_ascii_alphabetic()) && !text.is_empty();
                match self.dice.below(3) {
                    0 if plain && !["null", "true", "yes"].contains(&text.as_str()) => text.clone(),
                    1 if !text.contains('\n') => format!("'{}'", text.replace('\'', "''")),
                    _ => json!(text).to_string(),
                }
            }
            Value::Null if self.dice.one_in(2) => "~".to_owned(),
            Value::Array(_) if !flow || self.dice.one_in(2) => "[]".to_owned(),
            other => other.to_string(),
        };
        self.out.push_str(&text);
    }

    /// After `key:` or `-`; true where the value was written.
    fn head(&mut self, value: &Value) -> bool {
        let known = self
            .anchors
            .iter()
            .rev()
            .find(|(v, _)| v == value)
            .map(|(_, id)| *id);
        if let Some(id) = known
            && self.dice.one_in(3)
        {
            self.out.push_str(&format!(" *a{id}"));
            return true;
        }
        false
    }

    fn anchor(&mut self, value: &Value) -> Option<usize> {
        if !self.dice.one_in(5) {
            return None;
        }
        let id = self.dice.below(1000) * 1000 + self.anchors.len();
        self.out.push_str(&format!(" &a{id}"));
        let _ = value;
        Some(id)
    }

    fn value(&mut self, value: &Value, column: usize, after_dash: bool) {
        if self.head(value) {
            return;
        }
        let anchor = self.anchor(value);
        match value {
            Value::Null if self.dice.one_in(2) => {}
            Value::String(text) if text.ends_with('\n') && !text.starts_with([' ', '\n']) => {
                self.literal(text, column);
            }
            Value::Object(entries) if !entries.is_empty() && !self.dice.one_in(4) => {
                let inner = column + self.step;
                let compact = after_dash && anchor.is_none() && self.dice.one_in(2);
                match compact {
                    true => self.out.push_str(&" ".repeat(self.step.max(2) - 1)),
                    false => self.line(inner),
                }
                let inner = if compact {
                    column + self.step.max(2)
                } else {
                    inner
                };
                for (nth, (key, value)) in entries.iter().enumerate() {
                    if nth > 0 {
                        self.line(inner);
                    }
                    self.entry(key, value, inner);
                }
            }
            Value::Array(items) if !items.is_empty() && !self.dice.one_in(4) => {
                let flat = !after_dash && self.dice.one_in(2);
                let inner = if flat { column } else { column + self.step };
                for item in items {
                    self.line(inner);
                    self.out.push('-');
                    self.value(item, inner, true);
                }
            }
            value => {
                self.out.push(' ');
                let lines = self.dice.one_in(3).then_some(column + self.step);
                self.flow(value, lines);
            }
        }
        if let Some(id) = anchor {
            self.anchors.push((value.clone(), id));
        }
    }

    fn literal(&mut self, text: &str, column: usize) {
        let body = text.trim_end_matches('\n');
        let more = text.len() - body.len() - 1;
        let keep = more > 0;
        self.quiet = true;
        self.out.push_str(if keep { " |+" } else { " |" });
        if self.dice.one_in(4) {
            let comment = self.comment();
            self.out.push_str(&format!(" {comment}"));
        }
        for line in body.split('\n') {
            self.out.push('\n');
            if !line.is_empty() {
                self.out.push_str(&" ".repeat(column + self.step));
                self.out.push_str(line);
            }
        }
        self.out.push_str(&"\n".repeat(more));
    }

    fn entry(&mut self, key: &str, value: &Value, column: usize) {
        match self.dice.below(3) {
            0 => self.out.push_str(&format!("\"{key}\"")),
            1 => self.out.push_str(&format!("'{key}'")),
            _ => self.out.push_str(key),
        }
        self.out.push(':');
        self.value(value, column, false);
    }

    fn flow(&mut self, value: &Value, lines: Option<usize>) {
        let (open, close) = match value {
            Value::Object(entries) if !entries.is_empty() => ('{', '}'),
            Value::Array(items) if !items.is_empty() => ('[', ']'),
            word => return self.word(word, true),
        };
        let parts: Vec<(Option<&String>, &Value)> = match value {
            Value::Object(entries) => entries.iter().map(|(key, v)| (Some(key), v)).collect(),
            Value::Array(items) => items.iter().map(|v| (None, v)).collect(),
            _ => Vec::new(),
        };
        self.out.push(open);
        for (nth, (key, value)) in parts.iter().enumerate() {
            if nth > 0 {
                self.out.push(',');
            }
            match lines {
                Some(column) => self.line(column),
                None => self.out.push_str(&" ".repeat(self.dice.below(2))),
            }
            if let Some(key) = key {
                self.out.push_str(&format!("{key}: "));
            }
            self.flow(value, lines.map(|column| column + 1));
        }
        if self.dice.one_in(3) {
            self.out.push_str(" ,");
        }
        if let Some(column) = lines {
            self.line(column);
        }
        self.out.push(close);
    }

    fn document(mut self, root: &serde_json::Map<String, Value>) -> String {
        for (nth, (key, value)) in root.iter().enumerate() {
            if nth > 0 {
                self.line(0);
            }
            self.entry(key, value, 0);
        }
        let keep = self.out.ends_with('\n');
        if keep || !self.dice.one_in(3) || self.out.contains('|') {
            self.out.push('\n');
        }
        if self.dice.one_in(4) {
            self.out = self.out.replace('\n', "\r\n");
        }
        self.out
    }
}

fn word() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-c]{0,3}".prop_map(Value::from),
        "[ -~éß\u{85}\u{2028}😀]{0,8}".prop_map(Value::from),
        prop_oneof![
            Just("yes"),
            Just("1e3"),
            Just("# x"),
            Just("a: b"),
            Just("x\ny\n"),
            Just("x\n\n"),
            Just("{\"a\": 'b'}"),
            Just("- a"),
            Just(""),
        ]
        .prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    word().prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            map(inner).prop_map(Value::Object),
        ]
    })
}

fn map(
    inner: impl Strategy<Value = Value>,
) -> impl Strategy<Value = serde_json::Map<String, Value>> {
    proptest::collection::btree_map("[a-e]{1,2}", inner, 0..4)
        .prop_map(|map| map.into_iter().collect())
}

fn root() -> impl Strategy<Value = serde_json::Map<String, Value>> {
    proptest::collection::btree_map("[a-h]", value(), 1..5)
        .prop_map(|map| map.into_iter().collect())
}

/// A change that fits `document`.
fn change(document: &Value, dice: &mut Dice, new: &Value, additive: bool) -> Op {
    let mut path = Path::default();
    let mut at = document;
    loop {
        let deeper = !dice.one_in(3);
        match at {
            Value::Object(entries) if !entries.is_empty() && deeper => {
                let (key, value) = entries.iter().nth(dice.below(entries.len())).unwrap();
                (path, at) = (path.key(key), value);
            }
            Value::Array(items) if !items.is_empty() && deeper => {
                let nth = dice.below(items.len());
                (path, at) = (path.item(nth), &items[nth]);
            }
            Value::Object(_) | Value::Null if !additive || !at.is_null() => {
                let key = if dice.one_in(2) || additive {
                    "new key"
                } else {
                    "a"
                };
                let at = path.key(key).key("deep");
                let at = if dice.one_in(2) { path.key(key) } else { at };
                let shallow = document.pointer("").is_some() && dice.one_in(4);
                if shallow && !additive && !path.0.is_empty() {
                    return Op::Remove { at: path };
                }
                let fits = Op::Put {
                    at,
                    value: new.clone(),
                };
                return match fits.apply(&mut document.clone()) {
                    Ok(()) => fits,
                    Err(_) => Op::Put {
                        at: path.key("other"),
                        value: new.clone(),
                    },
                };
            }
            Value::Array(items) => {
                let index = dice.below(items.len() + 1);
                return Op::Insert {
                    list: path,
                    index,
                    value: new.clone(),
                };
            }
            _ => {
                let removable = !additive && !path.0.is_empty();
                if removable && (dice.one_in(2) || matches!(path.0.last(), Some(Step::Item(_)))) {
                    return Op::Remove { at: path };
                }
                let top = Path::default();
                return Op::Put {
                    at: top.key(&format!("z{}", dice.below(9))),
                    value: new.clone(),
                };
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn any_text_means_after_any_changes_what_they_say(
        root in root(), news in proptest::collection::vec(value(), 1..5), seed: u64,
    ) {
        let text = Author::new(seed).document(&root);
        let mut document = Value::Object(root);
        let mut stream = Stream::new(&text).expect(&text);
        prop_assert_eq!(&stream.values()[0], &document, "{}", text);
        prop_assert_eq!(stream.finish().unwrap(), text.clone());
        let mut dice = Dice(seed);
        let mut ops = Vec::new();
        for new in &news {
            let op = change(&document, &mut dice, new, false);
            op.apply(&mut document).unwrap();
            stream.edit(0, &Path::default(), std::slice::from_ref(&op)).unwrap();
            ops.push(op);
        }
        prop_assert_eq!(&stream.values()[0], &document);
        let out = stream.finish();
        // After a text that keeps its empty lines nothing can go away without becoming part of it.
        let refused = matches!(out, Err(EditError::Differs(0))) && text.contains("|+");
        prop_assert!(out.is_ok() || refused, "{:?}\n{:?}\n{:#?}\n{}", out, text, ops, stream.debug());
    }

    #[test]
    fn what_is_added_costs_no_comment_and_no_line(
        root in root(), news in proptest::collection::vec(value(), 1..4), seed: u64,
    ) {
        let text = Author::new(seed).document(&root);
        let mut document = Value::Object(root);
        let mut stream = Stream::new(&text).unwrap();
        let mut dice = Dice(seed);
        for new in &news {
            let op = change(&document, &mut dice, new, true);
            op.apply(&mut document).unwrap();
            stream.edit(0, &Path::default(), std::slice::from_ref(&op)).unwrap();
        }
        let out = stream.finish().unwrap();
        let mut rest = out.as_str();
        for comment in text.match_indices("# comment").map(|(at, _)| text[at..].lines().next()) {
            let comment = comment.unwrap();
            let found = rest.find(comment);
            prop_assert!(found.is_some(), "{}\n{}\n{}", comment, text, out);
            rest = &rest[found.unwrap() + comment.len()..];
        }
    }
}
