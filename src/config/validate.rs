//! A document against the tables: everything that one value can get wrong by itself.
//!
//! Owns: unknown, missing and exclusive keys, kinds, bounds, words; "did you mean".
//! Never: compares two values with each other (that is each part's lowering).
//! Called by: native.

use super::cursor::At;
use super::diagnostic::{Code, Diagnostics};
use super::format::{Format, quote};
use super::node::{Node, ScalarKind, Value};
use super::shape::{Choice, Field, Shape, Table};
use super::units::{self, DurationError};

/// Reports everything in `at` that `shape` does not allow, but for lines of a list that were left for later.
pub fn check(at: &At<'_>, shape: &Shape, out: &mut Diagnostics) {
    if at.node().is_null() {
        let advice = format!("write {}, or leave the key out", shape.expected());
        at.report(out, Code::WrongKind, "it has no value".to_owned(), &advice);
        return;
    }
    match shape {
        Shape::Text(format) => text(at, *format, out),
        Shape::Bool => boolean(at, out),
        Shape::Whole { min, max } => whole(at, shape, (*min, *max), out),
        Shape::Duration { .. } => duration(at, shape, out),
        Shape::Size { min, max } => match scalar_text(at) {
            Some(text) => match at.as_whole().or_else(|| units::size(text)) {
                Some(bytes) => bounds(at, shape, bytes, (*min, *max), out),
                None => malformed(at, shape, &format!("{} is not a size", quote(text)), out),
            },
            None => wrong_kind(at, shape, out),
        },
        Shape::Percent => match scalar_text(at) {
            Some(text) => match at.as_whole().or_else(|| units::percent(text)) {
                Some(value) => bounds(at, shape, value, (0, 100), out),
                None => malformed(at, shape, &format!("{} is no percentage", quote(text)), out),
            },
            None => wrong_kind(at, shape, out),
        },
        Shape::Choice(choices) => choice(at, choices, shape, out),
        Shape::Object(table) => object(at, table, shape, out),
        Shape::List(of) => list(at, of, shape, out),
        Shape::Many(of) => match &at.node().value {
            Value::List(_) => list(at, of, shape, out),
            Value::Scalar(_) | Value::Map(_) => check(at, of, out),
        },
        Shape::Map(keys, of) => map(at, *keys, of, shape, out),
        Shape::Either(shapes) => either(at, shapes, shape, out),
    }
}

/// The candidate that was probably meant.
pub fn did_you_mean<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    // The distance costs the product of both lengths; and no number is a misspelt other one.
    if word.len() > 64 || !word.contains(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let plain = |text: &str| text.replace(['-', '_'], "").to_ascii_lowercase();
    let wanted = plain(word);
    let allowed = (wanted.chars().count() / 3).max(1);
    let distance = |candidate: &str| match candidate.len() {
        ..=64 => strsim::damerau_levenshtein(&wanted, &plain(candidate)),
        _ => usize::MAX,
    };
    candidates
        .into_iter()
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        // Of equally close ones the first by name: candidates come in no order.
        .min()
        .map(|(_, candidate)| candidate)
}

/// What came, in words that do not show the value: it may be a secret.
fn came(node: &Node) -> &'static str {
    match &node.value {
        Value::List(_) => "a list",
        Value::Map(_) => "a mapping",
        Value::Scalar(s) => match s.kind() {
            ScalarKind::Null => "nothing",
            ScalarKind::Bool(_) => "true or false",
            ScalarKind::Number => "a number",
            ScalarKind::Text => "text",
        },
    }
}

fn scalar_text<'a>(at: &At<'a>) -> Option<&'a str> {
    match &at.node().value {
        Value::Scalar(s) => Some(&s.text),
        Value::List(_) | Value::Map(_) => None,
    }
}

fn wrong_kind(at: &At<'_>, shape: &Shape, out: &mut Diagnostics) {
    let problem = format!("{} stands here", came(at.node()));
    let advice = format!("write {}", shape.expected());
    at.report(out, Code::WrongKind, problem, &advice);
}

fn malformed(at: &At<'_>, shape: &Shape, problem: &str, out: &mut Diagnostics) {
    let advice = format!("write {}", shape.expected());
    at.report(out, Code::Malformed, problem.to_owned(), &advice);
}

fn bounds(at: &At<'_>, shape: &Shape, value: u64, (min, max): (u64, u64), out: &mut Diagnostics) {
    if (min..=max).contains(&value) {
        return;
    }
    let shown = match shape {
        Shape::Size { .. } => units::show_size(value),
        _ => value.to_string(),
    };
    too(at, shape, &shown, value < min, out);
}

fn too(at: &At<'_>, shape: &Shape, shown: &str, small: bool, out: &mut Diagnostics) {
    let problem = format!("{shown} is too {}", if small { "small" } else { "large" });
    let advice = format!("write {}", shape.expected());
    at.report(out, Code::OutOfBounds, problem, &advice);
}

fn text(at: &At<'_>, format: Format, out: &mut Diagnostics) {
    let Value::Scalar(scalar) = &at.node().value else {
        return wrong_kind(at, &Shape::Text(format), out);
    };
    if scalar.kind() != ScalarKind::Text {
        let problem = format!("{} stands here, and text is expected", came(at.node()));
        at.report(out, Code::WrongKind, problem, "put it in quotes");
        return;
    }
    report_wrong(at, format, &scalar.text, out);
}

fn report_wrong(at: &At<'_>, format: Format, text: &str, out: &mut Diagnostics) {
    let Err(wrong) = format.check(text) else {
        return;
    };
    let advice = match wrong.advice.is_empty() {
        true => format!("write {}", format.expected()),
        false => wrong.advice,
    };
    at.report(out, wrong.code, wrong.problem, &advice);
}

fn boolean(at: &At<'_>, out: &mut Diagnostics) {
    match &at.node().value {
        Value::Scalar(s) if matches!(s.kind(), ScalarKind::Bool(_)) => {}
        Value::Scalar(s) => {
            let problem = format!("{} is neither true nor false", quote(&s.text));
            at.report(
                out,
                Code::WrongKind,
                problem,
                "write true or false, without quotes",
            );
        }
        Value::List(_) | Value::Map(_) => wrong_kind(at, &Shape::Bool, out),
    }
}

fn whole(at: &At<'_>, shape: &Shape, range: (u64, u64), out: &mut Diagnostics) {
    let Some(text) = scalar_text(at) else {
        return wrong_kind(at, shape, out);
    };
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match at.as_whole() {
        Some(value) => bounds(at, shape, value, range, out),
        None if digits && at.as_text().is_some() => {
            let problem = format!("{} is text, and a number is expected", quote(text));
            at.report(
                out,
                Code::WrongKind,
                problem,
                &format!("write {} without quotes", shorten(text)),
            );
        }
        // Digits that fit no 64 bits, or a sign before them.
        None if digits => too(at, shape, shorten(text), false, out),
        None => malformed(
            at,
            shape,
            &format!("{} is not a whole number", quote(text)),
            out,
        ),
    }
}

fn shorten(text: &str) -> &str {
    text.get(..24).unwrap_or(text)
}

fn duration(at: &At<'_>, shape: &Shape, out: &mut Diagnostics) {
    let Shape::Duration { min, max } = shape else {
        return;
    };
    let Some(text) = scalar_text(at) else {
        return wrong_kind(at, shape, out);
    };
    match units::duration(text) {
        Ok(value) if value < *min => too(at, shape, shorten(text), true, out),
        Ok(value) if value > *max => too(at, shape, shorten(text), false, out),
        Ok(_) => {}
        Err(DurationError::NoUnit) => {
            let problem = format!("the duration {} has no unit", quote(text));
            let advice = format!(
                "write {0}s for seconds or {0}ms for milliseconds",
                shorten(text)
            );
            at.report(out, Code::Malformed, problem, &advice);
        }
        Err(DurationError::TooFine) => {
            let problem = format!("the duration {} has parts of a millisecond", quote(text));
            malformed(at, shape, &problem, out);
        }
        Err(DurationError::Malformed) => {
            malformed(
                at,
                shape,
                &format!("{} is not a duration", quote(text)),
                out,
            );
        }
    }
}

fn choice(at: &At<'_>, choices: &[Choice], shape: &Shape, out: &mut Diagnostics) {
    match at.as_word() {
        Some(word) if choices.iter().any(|choice| choice.word == word) => {}
        Some(word) => not_a_choice(at, word, choices, shape, out),
        None => wrong_kind(at, shape, out),
    }
}

fn not_a_choice(at: &At<'_>, word: &str, choices: &[Choice], shape: &Shape, out: &mut Diagnostics) {
    let problem = format!("{} is not allowed here", quote(word));
    let expected = shape.expected();
    let advice = match did_you_mean(word, choices.iter().map(|choice| choice.word)) {
        Some(meant) => format!("did you mean {meant}? Allowed: {expected}"),
        None => format!("write {expected}"),
    };
    at.report(out, Code::NotAChoice, problem, &advice);
}

fn object(at: &At<'_>, table: &'static Table, shape: &Shape, out: &mut Diagnostics) {
    if !matches!(at.node().value, Value::Map(_)) {
        return wrong_kind(at, shape, out);
    }
    for entry in at.entries() {
        match table.field(&entry.key) {
            Some(field) => check(&at.value(entry), &field.shape, out),
            None => unknown_key(at, &entry.key, table, out),
        }
    }
    for field in table.fields {
        if field.required && !at.has(field.name) {
            missing_key(at, field, out);
        }
    }
    if !table.any_of.is_empty() && !table.any_of.iter().any(|key| at.has(key)) {
        let advice = format!("write one of {}, or leave it out", table.any_of.join(", "));
        at.report(
            out,
            Code::SaysNothing,
            "this block says nothing".to_owned(),
            &advice,
        );
    }
    for group in table.one_of {
        exactly_one(at, group, out);
    }
}

fn missing_key(at: &At<'_>, field: &Field, out: &mut Diagnostics) {
    match field.missing {
        Some(words) => {
            let problem = words.problem.to_owned();
            at.report_key(out, field.name, words.code, problem, words.advice);
        }
        None => {
            let problem = "this key is missing".to_owned();
            let advice = format!("write {}", field.shape.expected());
            at.report_key(out, field.name, Code::MissingKey, problem, &advice);
        }
    }
}

fn unknown_key(at: &At<'_>, key: &str, table: &'static Table, out: &mut Diagnostics) {
    let keys = || table.fields.iter().map(|field| field.name);
    let advice = match did_you_mean(key, keys()) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => format!(
            "the keys here are {}",
            keys().collect::<Vec<_>>().join(", ")
        ),
    };
    let problem = format!("the key {} is not known", quote(key));
    at.report_key(out, key, Code::UnknownKey, problem, &advice);
}

fn exactly_one(at: &At<'_>, group: &[&str], out: &mut Diagnostics) {
    let mut there = group.iter().filter(|key| at.has(key));
    let Some(first) = there.next() else {
        let problem = format!("one of the keys {} must be there", group.join(", "));
        at.report(out, Code::MissingKey, problem, "write exactly one of them");
        return;
    };
    for other in there {
        let problem = format!("\"{other}\" cannot stand beside \"{first}\"");
        at.report_key(out, other, Code::Conflict, problem, "keep one of the two");
    }
}

fn list(at: &At<'_>, of: &Shape, shape: &Shape, out: &mut Diagnostics) {
    let Value::List(items) = &at.node().value else {
        return wrong_kind(at, shape, out);
    };
    if items.is_empty() {
        let advice = "write at least one item, or leave the key out";
        at.report(
            out,
            Code::SaysNothing,
            "the list is empty".to_owned(),
            advice,
        );
    }
    // Lines that are left for later are checked by whoever reads them.
    for item in at.each_read() {
        check(&item, of, out);
    }
}

fn map(at: &At<'_>, keys: Format, of: &Shape, shape: &Shape, out: &mut Diagnostics) {
    if !matches!(at.node().value, Value::Map(_)) {
        return wrong_kind(at, shape, out);
    }
    if at.entries().is_empty() {
        let advice = "write at least one key, or leave it out";
        at.report(
            out,
            Code::SaysNothing,
            "the mapping is empty".to_owned(),
            advice,
        );
    }
    for entry in at.entries() {
        if let Err(wrong) = keys.check(&entry.key) {
            let advice = match wrong.advice.is_empty() {
                true => format!("write {}", keys.expected()),
                false => wrong.advice,
            };
            at.report_key(out, &entry.key, wrong.code, wrong.problem, &advice);
        }
        check(&at.value(entry), of, out);
    }
}

fn either(at: &At<'_>, shapes: &'static [Shape], shape: &Shape, out: &mut Diagnostics) {
    if let Some(fitting) = shapes.iter().find(|shape| fits(shape, at)) {
        return check(at, fitting, out);
    }
    let choices = shapes.iter().find_map(|shape| match shape {
        Shape::Choice(choices) => Some(*choices),
        _ => None,
    });
    match (choices, at.as_word()) {
        (Some(choices), Some(word)) => not_a_choice(at, word, choices, shape, out),
        _ => wrong_kind(at, shape, out),
    }
}

/// Whether the value is of the kind that the shape means: then its message is the useful one.
fn fits(shape: &Shape, at: &At<'_>) -> bool {
    match (shape, &at.node().value) {
        (Shape::Choice(choices), Value::Scalar(s)) => {
            choices.iter().any(|choice| choice.word == s.text.as_ref())
        }
        (Shape::Whole { .. }, Value::Scalar(s)) => s.kind() == ScalarKind::Number,
        (Shape::Bool, Value::Scalar(s)) => matches!(s.kind(), ScalarKind::Bool(_)),
        (Shape::Text(_) | Shape::Duration { .. } | Shape::Size { .. } | Shape::Percent, v) => {
            matches!(v, Value::Scalar(_))
        }
        (Shape::Object(_) | Shape::Map(..), Value::Map(_)) => true,
        (Shape::List(_) | Shape::Many(_), Value::List(_)) => true,
        (Shape::Many(of), _) => fits(of, at),
        (Shape::Either(shapes), _) => shapes.iter().any(|shape| fits(shape, at)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::said;

    #[test]
    fn an_unknown_key_is_an_error_with_a_suggestion_where_there_is_one() {
        assert_eq!(
            said(
                "listners: []\nlimits: {max_streams: 1, foo: 2, <bar>: 3}\nunknown-hosts: refuse\n"
            ),
            [
                "a.yaml:1:1: error[SRT0101] listners: the key \"listners\" is not known; did you mean \
                 \"listeners\"?",
                "a.yaml:2:10: error[SRT0101] limits.max_streams: the key \"max_streams\" is not known; \
                 did you mean \"maxStreams\"?",
                "a.yaml:2:26: error[SRT0101] limits.foo: the key \"foo\" is not known; the keys here \
                 are maxConnections, maxHeadBytes, maxHeaders, headTimeout, idleTimeout, \
                 streamIdleTimeout, maxStreams",
                "a.yaml:2:34: error[SRT0101] limits[\"<bar>\"]: the key \"<bar>\" is not known; the keys \
                 here are maxConnections, maxHeadBytes, maxHeaders, headTimeout, idleTimeout, \
                 streamIdleTimeout, maxStreams",
                "a.yaml:3:1: error[SRT0101] unknown-hosts: the key \"unknown-hosts\" is not known; did \
                 you mean \"unknownHosts\"?",
            ]
        );
    }

    #[test]
    fn a_value_of_another_kind_is_an_error() {
        assert_eq!(
            said(
                "limits:\n  maxStreams: '80'\n  maxHeaders: [1]\n  headTimeout: 10\n  idleTimeout:\n  \
                 maxConnections: 1.5\nrotation: [a]\nlisteners: {a: b}\nunknownHosts: Refuse\n"
            ),
            [
                "a.yaml:2:15: error[SRT0103] limits.maxStreams: \"80\" is text, and a number is \
                 expected; write 80 without quotes",
                "a.yaml:3:15: error[SRT0103] limits.maxHeaders: a list stands here; write a whole \
                 number from 1 to 10000",
                "a.yaml:4:16: error[SRT0106] limits.headTimeout: the duration \"10\" has no unit; write \
                 10s for seconds or 10ms for milliseconds",
                "a.yaml:5:3: error[SRT0103] limits.idleTimeout: it has no value; write a duration from \
                 1ms to 24h, such as 250ms, 1.5s, 10s, 2m or 1h, or leave the key out",
                "a.yaml:6:19: error[SRT0106] limits.maxConnections: \"1.5\" is not a whole number; \
                 write a whole number from 1 to 10000000",
                "a.yaml:7:11: error[SRT0103] rotation: a list stands here; write a mapping with the \
                 keys poll, maxConnectionAge, onExpired",
                "a.yaml:8:12: error[SRT0103] listeners: a mapping stands here; write a list, of which \
                 each item is a mapping with the keys address, capture",
                "a.yaml:9:15: error[SRT0104] unknownHosts: \"Refuse\" is not allowed here; did you mean \
                 refuse? Allowed: one of refuse, pass-through",
            ]
        );
    }

    #[test]
    fn a_value_outside_its_bounds_is_an_error() {
        assert_eq!(
            said(
                "limits:\n  maxStreams: 0\n  maxHeaders: 99999999999999999999\n  headTimeout: 0s\n  \
                 idleTimeout: 25h\n  streamIdleTimeout: 1.5ms\n  maxHeadBytes: 1KiB\n"
            ),
            [
                "a.yaml:2:15: error[SRT0105] limits.maxStreams: 0 is too small; write a whole number \
                 from 1 to 100000",
                "a.yaml:3:15: error[SRT0105] limits.maxHeaders: 99999999999999999999 is too large; \
                 write a whole number from 1 to 10000",
                "a.yaml:4:16: error[SRT0105] limits.headTimeout: 0s is too small; write a duration \
                 from 1ms to 24h, such as 250ms, 1.5s, 10s, 2m or 1h",
                "a.yaml:5:16: error[SRT0105] limits.idleTimeout: 25h is too large; write a duration \
                 from 1ms to 24h, such as 250ms, 1.5s, 10s, 2m or 1h",
                "a.yaml:6:22: error[SRT0106] limits.streamIdleTimeout: the duration \"1.5ms\" has parts \
                 of a millisecond; write a duration from 1ms to 24h, such as 250ms, 1.5s, 10s, 2m or \
                 1h",
                "a.yaml:7:17: error[SRT0105] limits.maxHeadBytes: 1KiB is too small; write a size from \
                 8KiB to 1MiB, such as 64KiB",
            ]
        );
    }

    #[test]
    fn a_document_that_is_no_mapping_is_an_error() {
        for text in ["- a\n", "just text\n", "5\n"] {
            let said = said(text);
            assert!(said.len() == 1 && said[0].contains("SRT0103"), "{said:?}");
        }
    }

    #[test]
    fn a_suggestion_is_close_to_what_was_written_or_is_not_made() {
        let words = ["certificate", "key", "ca", "crl", "verify"];
        let meant = |word| did_you_mean(word, words);
        assert_eq!(meant("clientCertificate"), None);
        assert_eq!(meant("certficate"), Some("certificate"));
        assert_eq!(meant("CA"), Some("ca"));
        assert_eq!(
            (meant("5"), meant(""), meant(&"x".repeat(1000))),
            (None, None, None)
        );
        for words in [["bank", "bonk"], ["bonk", "bank"]] {
            assert_eq!(
                did_you_mean("bink", words),
                Some("bank"),
                "whatever the order"
            );
        }
    }
}
