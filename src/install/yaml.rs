//! Values as YAML that people read: block style, comments, texts quoted only where they must be.
//!
//! Owns: how a manifest looks.
//! Never: reads YAML.
//! Called by: the documents of this room.
//!
//! A key that begins with `#` is a comment on what follows it: `json!({"#": "why", "a": 1})`. No
//! setting can make such a key: names of labels, annotations and files are checked before.
//!
//! Why so careful with plain words: `kubectl` reads YAML 1.1, where `on`, `no`, `1_0` and `12:30`
//! are no texts.

use std::fmt::Write;

use serde_json::{Map, Value};

/// Words that are no texts in YAML 1.1 or 1.2, in small letters.
const RESERVED: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
/// Where a comment goes on to the next line.
const WIDTH: usize = 110;

/// Every document, each behind `---`.
pub fn documents(all: &[Value]) -> String {
    let mut out = String::new();
    for document in all {
        out.push_str("---\n");
        if let Value::Object(entries) = document {
            mapping(&mut out, entries, 0);
        }
    }
    out
}

fn is_comment(key: &str) -> bool {
    key.starts_with('#')
}

/// The entries one by one, the first at the place where `out` stands.
fn mapping(out: &mut String, entries: &Map<String, Value>, depth: usize) {
    for (key, value) in entries {
        if is_comment(key) {
            comment(out, value, depth);
            continue;
        }
        indent(out, depth);
        scalar(out, key);
        out.push(':');
        nested(out, value, depth);
    }
}

fn comment(out: &mut String, value: &Value, depth: usize) {
    let mut line = String::new();
    for word in value.as_str().unwrap_or_default().split_whitespace() {
        if !line.is_empty() && depth * 2 + line.len() + word.len() > WIDTH {
            indent(out, depth);
            let _ = writeln!(out, "#{line}");
            line.clear();
        }
        line.push(' ');
        line.push_str(word);
    }
    indent(out, depth);
    let _ = writeln!(out, "#{line}");
}

/// What stands behind a key's colon, line end included.
fn nested(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            out.push('\n');
            mapping(out, entries, depth + 1);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            sequence(out, items, depth);
        }
        Value::String(text) if is_block(text) => block(out, text, depth + 1),
        other => {
            out.push(' ');
            inline(out, other);
            out.push('\n');
        }
    }
}

fn sequence(out: &mut String, items: &[Value], depth: usize) {
    for item in items {
        match item {
            Value::Object(entries) if entries.keys().any(|key| !is_comment(key)) => {
                // What is said of an item stands before its dash.
                let told = entries.iter().take_while(|(key, _)| is_comment(key));
                told.for_each(|(_, text)| comment(out, text, depth));
                let said = entries.iter().skip_while(|(key, _)| is_comment(key));
                let rest = said.map(|(key, value)| (key.clone(), value.clone()));
                let mut inner = String::new();
                mapping(&mut inner, &rest.collect(), depth + 1);
                indent(out, depth);
                out.push_str("- ");
                out.push_str(inner.trim_start_matches(' '));
            }
            other => {
                indent(out, depth);
                out.push_str("- ");
                inline(out, other);
                out.push('\n');
            }
        }
    }
}

fn inline(out: &mut String, value: &Value) {
    match value {
        Value::String(text) => scalar(out, text),
        // Lists and mappings come here where they are empty, or inside a list of lists.
        other => out.push_str(&other.to_string()),
    }
}

fn scalar(out: &mut String, text: &str) {
    match is_plain(text) {
        true => out.push_str(text),
        false => quoted(out, text),
    }
}

fn is_plain(text: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '/';
    let rest = |b: u8| b.is_ascii_alphanumeric() || b"-_./:=@+%".contains(&b);
    // Flags too: two dashes and a letter are neither an item nor the end of a document.
    text.strip_prefix("--").unwrap_or(text).starts_with(first)
        && text.bytes().all(rest)
        && !text.ends_with(':')
        && !RESERVED.contains(&text.to_ascii_lowercase().as_str())
}

fn quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if is_printable(c) => out.push(c),
            c => {
                let _ = write!(out, "\\U{:08X}", u32::from(c));
            }
        }
    }
    out.push('"');
}

/// What YAML lets stand as it is (YAML 1.2 section 5.1), less what breaks lines in 1.1.
fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~' | '\u{a0}'..='\u{2027}' | '\u{202a}'..='\u{d7ff}'
        | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}' | '\u{10000}'..)
}

/// True for lines that a literal block holds without any change.
fn is_block(text: &str) -> bool {
    let fits = |c: char| is_printable(c) || c == '\n' || c == '\t';
    let starts_well = !text.starts_with([' ', '\t', '\n']);
    text.trim_end_matches('\n').contains('\n') && starts_well && text.chars().all(fits)
}

fn block(out: &mut String, text: &str, depth: usize) {
    let kept = text.trim_end_matches('\n');
    let chomping = match text.len() - kept.len() {
        0 => "-",
        1 => "",
        _ => "+",
    };
    let _ = writeln!(out, " |{chomping}");
    let ends = text.strip_suffix('\n').unwrap_or(text);
    for line in ends.split('\n') {
        if !line.is_empty() {
            indent(out, depth);
            out.push_str(line);
        }
        out.push('\n');
    }
}

fn indent(out: &mut String, depth: usize) {
    for _ in 0..depth {
        out.push_str("  ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(value: Value) -> String {
        documents(&[value])
    }

    #[test]
    fn a_document_is_written_in_block_style_with_comments_before_what_they_are_on() {
        let value = json!({
            "kind": "Pod",
            "#": "Why it is so.",
            "spec": {
                "list": [
                    {"#": "the first", "name": "a", "ports": [{"port": 1}]},
                    "plain",
                    {},
                ],
                "none": [],
                "empty": {},
            },
        });
        let expected = "\
---
kind: Pod
# Why it is so.
spec:
  list:
  # the first
  - name: a
    ports:
    - port: 1
  - plain
  - {}
  none: []
  empty: {}
";
        assert_eq!(text(value), expected);
    }

    #[test]
    fn what_another_reader_would_take_for_something_else_is_quoted() {
        for word in [
            "on", "No", "null", "1337", "1_0", "12:30", "", "a: b", "a #b", "- a", "~",
        ] {
            let written = text(json!({ "a": word }));
            assert_eq!(written, format!("---\na: {}\n", json!(word)), "{word}");
        }
        for word in ["--listen=[::]:80", "é"] {
            assert!(text(json!({ "a": word })).contains('"'), "{word}");
        }
        for word in [
            "sortie:0.1.0",
            "apps/v1",
            "--config=/etc/a",
            "/ready",
            "RuntimeDefault",
        ] {
            assert_eq!(text(json!({ "a": word })), format!("---\na: {word}\n"));
        }
        assert_eq!(
            text(json!({"a": "x\u{7f}\u{2028}\"\\"})),
            "---\na: \"x\\U0000007F\\U00002028\\\"\\\\\"\n"
        );
    }

    #[test]
    fn lines_are_a_literal_block_that_keeps_its_end() {
        assert_eq!(
            text(json!({"a": "b\n  c\n\nd\n"})),
            "---\na: |\n  b\n    c\n\n  d\n"
        );
        assert_eq!(text(json!({"a": "b\nc"})), "---\na: |-\n  b\n  c\n");
        assert_eq!(text(json!({"a": "b\nc\n\n"})), "---\na: |+\n  b\n  c\n\n");
        for odd in [" b\nc\n", "b\r\nc\n", "\nb\nc"] {
            assert!(
                text(json!({ "a": odd })).starts_with("---\na: \""),
                "{odd:?}"
            );
        }
    }

    #[test]
    fn a_long_comment_goes_on_in_the_next_line() {
        let written = text(json!({"#": "word ".repeat(40), "a": 1}));
        assert!(
            written.lines().all(|line| line.len() <= WIDTH + 2),
            "{written}"
        );
        assert_eq!(written.matches("word").count(), 40);
    }
}
