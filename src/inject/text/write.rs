//! New values as YAML or JSON text.
//!
//! Owns: lines, indentation and order of what is added.
//! Never: knows what is around it, but for [`Format`].
//! Called by: splice.

use serde_json::{Map, Value};

use super::scalar::{Place, number, text};

/// How the text around is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    /// The end of a line.
    pub eol: &'static str,
    /// Columns from a mapping to the one in it.
    pub step: usize,
    /// Columns from a key to the dashes of its list: 0, or `step`.
    pub dashes: usize,
    /// Columns from a dash to what it precedes.
    pub gap: usize,
    /// What indents a line in braces: a space or a tab.
    pub fill: char,
    /// Braces and quotes of JSON.
    pub json: bool,
}

impl Format {
    fn flow(self) -> Place {
        match self.json {
            true => Place::Json,
            false => Place::Flow,
        }
    }
}

/// True where `value` has lines of its own in block style.
pub(super) fn has_lines(value: &Value) -> bool {
    match value {
        Value::Object(entries) => !entries.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

/// `key: value`, at `column`; without the line break before and after.
pub(super) fn entry(format: Format, key: &str, value: &Value, column: usize) -> String {
    let mut out = String::new();
    block_entry(&mut out, format, key, value, column);
    out
}

/// `- value`, its dash at `column`; without the line break before and after.
pub(super) fn item(format: Format, value: &Value, column: usize) -> String {
    let mut out = String::new();
    block_item(&mut out, format, value, column);
    out
}

/// A value with lines of its own after its key at `column`, a line break before each line.
pub(super) fn below(format: Format, value: &Value, column: usize) -> String {
    let mut out = String::new();
    match value {
        Value::Object(entries) => {
            let column = column + format.step;
            for (key, value) in entries {
                line(&mut out, format, column);
                block_entry(&mut out, format, key, value, column);
            }
        }
        Value::Array(items) => {
            let column = column + format.dashes;
            for value in items {
                line(&mut out, format, column);
                block_item(&mut out, format, value, column);
            }
        }
        _ => {}
    }
    out
}

/// A value on the line that has begun at `column`, and on lines below.
pub(super) fn compact(format: Format, value: &Value, column: usize) -> String {
    let mut out = String::new();
    block_compact(&mut out, format, value, column);
    out
}

fn line(out: &mut String, format: Format, column: usize) {
    out.push_str(format.eol);
    out.extend(std::iter::repeat_n(' ', column));
}

fn block_entry(out: &mut String, format: Format, key: &str, value: &Value, column: usize) {
    out.push_str(&text(key, Place::Block));
    out.push(':');
    match has_lines(value) {
        true => out.push_str(&below(format, value, column)),
        false => {
            out.push(' ');
            out.push_str(&word(value, Place::Block));
        }
    }
}

fn block_item(out: &mut String, format: Format, value: &Value, column: usize) {
    out.push('-');
    out.extend(std::iter::repeat_n(' ', format.gap - 1));
    block_compact(out, format, value, column + format.gap);
}

fn block_compact(out: &mut String, format: Format, value: &Value, column: usize) {
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            for (nth, (key, value)) in entries.iter().enumerate() {
                if nth > 0 {
                    line(out, format, column);
                }
                block_entry(out, format, key, value, column);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (nth, value) in items.iter().enumerate() {
                if nth > 0 {
                    line(out, format, column);
                }
                block_item(out, format, value, column);
            }
        }
        value => out.push_str(&word(value, Place::Block)),
    }
}

/// A value in braces and brackets. `column`: of the line that has begun, where each part is to
/// have a line of its own.
pub(super) fn flow(format: Format, value: &Value, column: Option<usize>) -> String {
    let mut out = String::new();
    flow_value(&mut out, format, value, column);
    out
}

/// `key: value` in braces.
pub(super) fn flow_entry(
    format: Format,
    key: &str,
    value: &Value,
    column: Option<usize>,
) -> String {
    let mut out = String::new();
    flow_pair(&mut out, format, key, value, column);
    out
}

fn flow_pair(out: &mut String, format: Format, key: &str, value: &Value, column: Option<usize>) {
    out.push_str(&text(key, format.flow()));
    out.push_str(": ");
    flow_value(out, format, value, column);
}

fn flow_value(out: &mut String, format: Format, value: &Value, column: Option<usize>) {
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            out.push('{');
            flow_parts(out, format, entries, column);
            out.push('}');
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('[');
            let inside = column.map(|column| column + format.step);
            for (nth, item) in items.iter().enumerate() {
                flow_break(out, format, nth, inside);
                flow_value(out, format, item, inside);
            }
            flow_end(out, format, column);
            out.push(']');
        }
        value => out.push_str(&word(value, format.flow())),
    }
}

fn flow_parts(
    out: &mut String,
    format: Format,
    entries: &Map<String, Value>,
    column: Option<usize>,
) {
    let inside = column.map(|column| column + format.step);
    for (nth, (key, value)) in entries.iter().enumerate() {
        flow_break(out, format, nth, inside);
        flow_pair(out, format, key, value, inside);
    }
    flow_end(out, format, column);
}

/// A new line in braces.
pub(super) fn flow_line(out: &mut String, format: Format, column: usize) {
    out.push_str(format.eol);
    out.extend(std::iter::repeat_n(format.fill, column));
}

/// Before the `nth` part.
fn flow_break(out: &mut String, format: Format, nth: usize, inside: Option<usize>) {
    if nth > 0 {
        out.push(',');
    }
    match inside {
        Some(column) => flow_line(out, format, column),
        None if nth > 0 => out.push(' '),
        None => {}
    }
}

fn flow_end(out: &mut String, format: Format, column: Option<usize>) {
    if let Some(column) = column {
        flow_line(out, format, column);
    }
}

/// A value of one word.
fn word(value: &Value, place: Place) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) if place == Place::Json => value.to_string(),
        Value::Number(value) => number(value),
        Value::String(value) => text(value, place),
        Value::Array(_) => "[]".to_owned(),
        Value::Object(_) => "{}".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const FORMAT: Format = Format {
        eol: "\n",
        step: 2,
        dashes: 0,
        gap: 2,
        fill: ' ',
        json: false,
    };

    fn sample() -> Value {
        json!({"name": "a", "args": ["run", "--x=[::]:1"], "env": [{"name": "A", "value": "1"}],
               "e": {}, "m": [[1, 2], null], "s": {"t": {"u": true}}})
    }

    #[test]
    fn lists_and_mappings_are_written_as_kubectl_writes_them() {
        let expected = "\
- name: a
  args:
  - run
  - --x=[::]:1
  env:
  - name: A
    value: \"1\"
  e: {}
  m:
  - - 1
    - 2
  - null
  s:
    t:
      u: true";
        assert_eq!(item(FORMAT, &sample(), 0), expected);
    }

    #[test]
    fn indentation_is_that_of_the_text_around() {
        let wide = Format {
            eol: "\r\n",
            step: 4,
            dashes: 4,
            gap: 4,
            fill: ' ',
            json: false,
        };
        let value = json!({"a": [{"b": {"c": 1}, "d": 2}]});
        let expected = "x:\r\n      a:\r\n          -   b:\r\n                  c: 1\r\n\
                        \x20             d: 2";
        assert_eq!(entry(wide, "x", &value, 2), expected);
    }

    #[test]
    fn braces_stand_on_one_line_or_have_one_for_each_part() {
        let value = json!({"a": [1, "x"], "b": {}});
        assert_eq!(flow(FORMAT, &value, None), "{a: [1, x], b: {}}");
        let json = Format {
            json: true,
            ..FORMAT
        };
        let expected = "{\n    \"a\": [\n      1,\n      \"x\"\n    ],\n    \"b\": {}\n  }";
        assert_eq!(flow(json, &value, Some(2)), expected);
    }
}
