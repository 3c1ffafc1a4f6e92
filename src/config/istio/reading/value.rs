//! Values of Istio's kinds, read once they were checked.
//!
//! Owns: numbers as text, enumerations by number, lists of texts, labels.
//! Never: reports anything: what cannot be read is `None`, and `check` has said why.
//! Called by: the kinds.

use std::time::Duration;

use crate::config::cursor::At;
use crate::config::istio::meta::{Labels, Written};
use crate::config::istio::shape::Words;
use crate::config::node::{ScalarKind, Value};

use super::duration;

/// Its whole number, written as number or as text.
pub fn as_whole(at: &At<'_>) -> Option<u64> {
    match &at.node().value {
        Value::Scalar(s) if matches!(s.kind(), ScalarKind::Number | ScalarKind::Text) => {
            let digits = !s.text.is_empty() && s.text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| s.text.parse().ok()).flatten()
        }
        _ => None,
    }
}

/// Its number, written as number or as text.
pub fn as_number(at: &At<'_>) -> Option<f64> {
    match &at.node().value {
        Value::Scalar(s) if matches!(s.kind(), ScalarKind::Number | ScalarKind::Text) => {
            s.text.parse().ok().filter(|n: &f64| n.is_finite())
        }
        _ => None,
    }
}

/// The name of what an enumeration says, by name or number.
pub fn as_word(at: &At<'_>, words: Words) -> Option<&'static str> {
    let text = at.as_word()?;
    let number = as_whole(at);
    let found = words
        .iter()
        .find(|(word, n)| *word == text || Some(*n) == number);
    found.map(|(word, _)| *word)
}

/// The whole number of a key, where it fits.
pub fn whole<T: TryFrom<u64>>(at: &At<'_>, key: &str) -> Option<T> {
    T::try_from(as_whole(&at.key(key)?)?).ok()
}

/// The port of a key; 0 is none.
pub fn port(at: &At<'_>, key: &str) -> Option<u16> {
    whole(at, key).filter(|port| *port > 0)
}

/// The number of a key.
pub fn number(at: &At<'_>, key: &str) -> Option<f64> {
    as_number(&at.key(key)?)
}

/// The duration of a key.
pub fn duration(at: &At<'_>, key: &str) -> Option<Duration> {
    duration::duration(at.text(key)?).ok()
}

/// True where the key says so.
pub fn flag(at: &At<'_>, key: &str) -> Option<bool> {
    match at.word(key)? {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// The text of a key; an empty one is none.
pub fn text<'a>(at: &At<'a>, key: &str) -> Option<&'a str> {
    at.text(key).filter(|text| !text.is_empty())
}

/// The word of an enumeration.
pub fn word(at: &At<'_>, key: &str, words: Words) -> Option<&'static str> {
    as_word(&at.key(key)?, words)
}

/// The texts of a list.
pub fn texts(at: &At<'_>, key: &str) -> Vec<Written<String>> {
    let list = at.key(key);
    let items = list.iter().flat_map(At::items);
    let written = |item: At<'_>| {
        let value = item.as_text()?.to_owned();
        let place = item.place();
        Some(Written { value, place })
    };
    items.filter_map(written).collect()
}

/// The texts of a list, without their places.
pub fn strings(at: &At<'_>, key: &str) -> Vec<String> {
    texts(at, key).into_iter().map(|text| text.value).collect()
}

/// Labels, where the key is there.
pub fn labels(at: &At<'_>, key: &str) -> Option<Labels> {
    let map = at.key(key)?;
    let pair = |entry: &crate::config::node::Entry| {
        let value = map.value(entry).as_text()?.to_owned();
        Some((entry.key.to_string(), value))
    };
    Some(map.entries().iter().filter_map(pair).collect())
}
