//! A document against its table: everything that one value can get wrong by itself.
//!
//! Owns: both spellings of a key, unknown fields (U1), fields without effect (U2), fields that are
//! not supported (U3), kinds of values and their bounds (U5).
//! Never: compares two values with each other (that is each kind's reading).
//! Called by: read.

use crate::config::cursor::At;
use crate::config::diagnostic::Code;
use crate::config::format::quote;
use crate::config::istio::shape::{Class, Field, Kind, Table, Words};
use crate::config::node::{Node, ScalarKind, Value};
use crate::config::validate::did_you_mean;

use super::context::Reading;
use super::duration::{self, DurationError};
use super::value;

/// Where a field without value is a mistake and not silence: what would be lost is who is trusted,
/// or where requests go.
const NEVER_EMPTY: &[&str] = &[
    "tls",
    "mtls",
    "mode",
    "hosts",
    "host",
    "destination",
    "subset",
    "sni",
    "credentialName",
    "clientCertificate",
    "privateKey",
    "caCertificates",
    "subjectAltNames",
];
/// Below these a typo stays an error with `--lenient` (ISTIO.md 1.3).
const GUARDED: &[&str] = &["tls", "mtls", "hosts", "destination"];

/// The document with every known key in camelCase, and without the keys that have no value.
pub fn normalised(mut root: Node, table: &'static Table) -> Node {
    object(&mut root, table);
    root
}

fn object(node: &mut Node, table: &'static Table) {
    let Value::Map(entries) = &mut node.value else {
        return;
    };
    for n in 0..entries.len() {
        let Some(entry) = entries.get(n).filter(|entry| entry.key.contains('_')) else {
            continue;
        };
        let camel = camel_case(&entry.key);
        let free = !entries.iter().any(|entry| entry.key.as_ref() == camel);
        // Of two spellings the second stays as it is, so that the check finds it.
        if let Some(entry) = entries
            .get_mut(n)
            .filter(|_| free && table.field(&camel).is_some())
        {
            entry.key = camel.into();
        }
    }
    entries.retain(|entry| !entry.value.is_null() || NEVER_EMPTY.contains(&entry.key.as_ref()));
    for entry in entries {
        if let Some(field) = table.field(&entry.key) {
            inside(&mut entry.value, &field.kind);
        }
    }
}

fn inside(node: &mut Node, kind: &Kind) {
    match kind {
        Kind::Object(table) | Kind::Presence(table) => object(node, table),
        Kind::List(of) => {
            if let Value::List(items) = &mut node.value {
                items.iter_mut().for_each(|item| inside(item, of));
            }
        }
        Kind::Map(of) => {
            if let Value::Map(entries) = &mut node.value {
                let values = entries.iter_mut().map(|entry| &mut entry.value);
                values.for_each(|value| inside(value, of));
            }
        }
        _ => {}
    }
}

/// `sni_hosts` as `sniHosts`.
fn camel_case(key: &str) -> String {
    let mut words = key.split('_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|c| c.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}

/// Reports everything in `at` that `table` does not allow.
pub fn check(at: &At<'_>, table: &'static Table, r: &mut Reading<'_>) {
    for entry in at.entries() {
        match table.field(&entry.key) {
            Some(field) => {
                classify(at, field, r);
                value_of(&at.value(entry), &field.kind, r);
            }
            None if table.open => {}
            None => unknown(at, &entry.key, table, r),
        }
    }
    for group in table.exclusive {
        let mut there = group.iter().filter(|key| at.has(key));
        let first = there.next();
        for other in there {
            let problem = format!(
                "\"{other}\" cannot stand beside \"{}\"",
                first.unwrap_or(other)
            );
            r.wrong_key(at, other, problem, "keep one of the two");
        }
    }
}

fn classify(at: &At<'_>, field: &Field, r: &mut Reading<'_>) {
    match field.class {
        Class::Followed | Class::Silent => {}
        Class::Warned(advice) => {
            let problem = "sortie reads this field and does not follow it".to_owned();
            r.warning(at.wrong_key(field.name, Code::FieldWithoutEffect, problem, advice));
        }
        Class::Refused(advice) => {
            let problem = "sortie does not support this field, and what is left without it is \
                           not what was meant";
            r.strict(at.wrong_key(field.name, Code::Unsupported, problem.to_owned(), advice));
        }
    }
}

/// U1.
fn unknown(at: &At<'_>, key: &str, table: &'static Table, r: &mut Reading<'_>) {
    let camel = camel_case(key);
    if camel != key && table.field(&camel).is_some() {
        let problem = format!(
            "{} and {camel} are the same field",
            quote(key).trim_matches('"')
        );
        return r.wrong_key(at, key, problem, "keep one of the two");
    }
    let mut wrong = at.wrong_key(key, Code::SchemaError, String::new(), "");
    let names = || table.fields.iter().map(|field| field.name);
    wrong.problem = match meant(key, names()) {
        Some(meant) => format!("unknown field {} (did you mean {meant}?)", wrong.field),
        None => format!("unknown field {}", wrong.field),
    };
    if !wrong.problem.ends_with(')') {
        wrong.advice = format!(
            "the fields here are {}",
            names().collect::<Vec<_>>().join(", ")
        );
    }
    let guarded = |step: &str| {
        let name = step.split('[').next().unwrap_or(step);
        GUARDED.contains(&name)
    };
    match wrong.field.split('.').any(guarded) {
        true => r.error(wrong),
        false => r.strict(wrong),
    }
}

/// The field that was probably meant: a letter away, or cut short, or drawn out.
fn meant<'c>(key: &str, names: impl Iterator<Item = &'c str> + Clone) -> Option<&'c str> {
    let lower = key.to_ascii_lowercase();
    let near = |name: &&str| {
        let name = name.to_ascii_lowercase();
        let shorter = name.len().min(lower.len());
        shorter >= 3 && (name.starts_with(&lower) || lower.starts_with(&name))
    };
    did_you_mean(key, names.clone()).or_else(|| names.clone().find(near))
}

fn value_of(at: &At<'_>, kind: &Kind, r: &mut Reading<'_>) {
    if at.node().is_null() && !matches!(kind, Kind::Any | Kind::Presence(_)) {
        let advice = format!("write {}, or leave the field out", kind.expected());
        return r.wrong(at, "it has no value".to_owned(), &advice);
    }
    match (kind, &at.node().value) {
        (Kind::Any, _) => {}
        (Kind::Presence(_), Value::Scalar(_)) if at.node().is_null() => {}
        (Kind::Object(table) | Kind::Presence(table), Value::Map(_)) => check(at, table, r),
        (Kind::List(of), Value::List(_)) => at.items().for_each(|item| value_of(&item, of, r)),
        (Kind::Map(of), Value::Map(_)) => {
            let entries = at.entries().iter();
            entries.for_each(|entry| value_of(&at.value(entry), of, r));
        }
        (Kind::Object(_) | Kind::List(_) | Kind::Map(_), _)
        | (_, Value::List(_) | Value::Map(_)) => {
            wrong_kind(at, kind, r);
        }
        (_, Value::Scalar(_)) => scalar(at, kind, r),
    }
}

fn scalar(at: &At<'_>, kind: &Kind, r: &mut Reading<'_>) {
    match kind {
        Kind::Text if at.as_text().is_none() => {
            let problem = format!("{} stands here, and text is expected", came(at));
            r.wrong(at, problem, "put it in quotes");
        }
        Kind::Bool if !matches!(scalar_kind(at), Some(ScalarKind::Bool(_))) => {
            let problem = format!("{} is neither true nor false", shown(at));
            r.wrong(at, problem, "write true or false, without quotes");
        }
        Kind::Whole(min, max) => whole(at, kind, (*min, *max), r),
        Kind::Port => whole(at, kind, (1, 65_535), r),
        Kind::Percent => match value::as_number(at) {
            Some(n) if (0.0..=100.0).contains(&n) => {}
            Some(_) => malformed(at, kind, "is not from 0 to 100", r),
            None => malformed(at, kind, "is not a number", r),
        },
        Kind::Number if value::as_number(at).is_none() => malformed(at, kind, "is not a number", r),
        Kind::Duration => duration(at, kind, false, r),
        Kind::DurationOrZero => duration(at, kind, true, r),
        Kind::Enum(words) => enumeration(at, kind, words, r),
        _ => {}
    }
}

fn scalar_kind(at: &At<'_>) -> Option<ScalarKind> {
    match &at.node().value {
        Value::Scalar(s) => Some(s.kind()),
        Value::List(_) | Value::Map(_) => None,
    }
}

/// What came, in words.
fn came(at: &At<'_>) -> &'static str {
    match (&at.node().value, scalar_kind(at)) {
        (Value::List(_), _) => "a list",
        (Value::Map(_), _) => "a mapping",
        (_, Some(ScalarKind::Bool(_))) => "true or false",
        (_, Some(ScalarKind::Number)) => "a number",
        (_, Some(ScalarKind::Null)) => "nothing",
        (_, Some(ScalarKind::Text) | None) => "text",
    }
}

fn shown(at: &At<'_>) -> String {
    quote(at.as_word().unwrap_or_default())
}

fn wrong_kind(at: &At<'_>, kind: &Kind, r: &mut Reading<'_>) {
    let problem = format!("{} stands here", came(at));
    r.wrong(at, problem, &format!("write {}", kind.expected()));
}

fn malformed(at: &At<'_>, kind: &Kind, what: &str, r: &mut Reading<'_>) {
    let problem = format!("{} {what}", shown(at));
    r.wrong(at, problem, &format!("write {}", kind.expected()));
}

fn whole(at: &At<'_>, kind: &Kind, (min, max): (u64, u64), r: &mut Reading<'_>) {
    match value::as_whole(at) {
        Some(n) if (min..=max).contains(&n) => {}
        Some(_) if matches!(kind, Kind::Port) => malformed(at, kind, "is not a port", r),
        Some(n) if n < min => malformed(at, kind, "is too small", r),
        Some(_) => malformed(at, kind, "is too large", r),
        None => malformed(at, kind, "is not a whole number", r),
    }
}

fn duration(at: &At<'_>, kind: &Kind, zero: bool, r: &mut Reading<'_>) {
    match duration::duration(at.as_word().unwrap_or_default()) {
        Ok(value) if value.is_zero() && !zero => malformed(at, kind, "is under 1ms", r),
        Ok(_) => {}
        Err(DurationError::NoUnit) => {
            let problem = format!("the duration {} has no unit", shown(at));
            r.wrong(
                at,
                problem,
                "write 3s for seconds or 250ms for milliseconds",
            );
        }
        Err(DurationError::TooFine) => malformed(at, kind, "is finer than a millisecond", r),
        Err(DurationError::TooLong) => malformed(at, kind, "is more than a year", r),
        Err(DurationError::Malformed) => malformed(at, kind, "is not a duration", r),
    }
}

fn enumeration(at: &At<'_>, kind: &Kind, words: Words, r: &mut Reading<'_>) {
    if value::as_word(at, words).is_some() {
        return;
    }
    let word = at.as_word().unwrap_or_default();
    let problem = format!("{} is not allowed here", quote(word));
    let expected = kind.expected();
    let advice = match did_you_mean(word, words.iter().map(|(word, _)| *word)) {
        Some(meant) => format!("did you mean {meant}? Allowed: {expected}"),
        None => format!("write {expected}"),
    };
    r.wrong(at, problem, &advice);
}
