//! `match` of a rule: conditions on path, method and headers.
//!
//! Owns: their tables and their lowering.
//! Never: compares anything with a request (that is `route`).
//! Called by: rules.

use std::collections::HashMap;

use http::{HeaderName, Method};

use crate::model::{HeaderMatch, MatchSpec, StringMatch};

use super::cursor::At;
use super::diagnostic::{Code, Diagnostics};
use super::format::Format;
use super::shape::{Choice, Field, Shape, Table};

/// How a path is compared.
pub static PATH_MATCH: Table = Table::new(
    "pathMatch",
    "How the path, without its query, is compared.",
    &[
        Field::optional("exact", "The same path.", Shape::Text(Format::Path)),
        Field::optional(
            "prefix",
            "Begins with this text: /foo matches /foobar as well.",
            Shape::Text(Format::Path),
        ),
        Field::optional(
            "regex",
            "The whole path matches this regular expression.",
            Shape::Text(Format::Regex),
        ),
    ],
)
.one_of(&[&["exact", "prefix", "regex"]]);

/// How a header's value is compared.
pub static VALUE_MATCH: Table = Table::new(
    "valueMatch",
    "How a header's value is compared.",
    &[
        Field::optional("exact", "The same text.", Shape::Text(Format::Comparand)),
        Field::optional(
            "prefix",
            "Begins with this text.",
            Shape::Text(Format::Comparand),
        ),
        Field::optional(
            "regex",
            "The whole value matches this regular expression.",
            Shape::Text(Format::Regex),
        ),
    ],
)
.one_of(&[&["exact", "prefix", "regex"]]);

/// One set of conditions.
pub static MATCH: Table = Table::new(
    "match",
    "Conditions that must all hold.",
    &[
        Field::optional("path", "What the path must be.", Shape::Object(&PATH_MATCH)),
        Field::optional(
            "method",
            "One of these methods.",
            Shape::Many(&Shape::Text(Format::Method)),
        ),
        Field::optional(
            "headers",
            "What each of these headers must be.",
            Shape::Map(Format::HeaderMatched, &HEADER_MATCH),
        ),
    ],
)
.any_of(&["path", "method", "headers"]);

static HEADER_MATCH: Shape = Shape::Either(&[
    Shape::Choice(&[
        Choice {
            word: "present",
            doc: "There, whatever its value.",
        },
        Choice {
            word: "absent",
            doc: "Not there.",
        },
    ]),
    Shape::Object(&VALUE_MATCH),
]);

/// The conditions of one entry.
pub fn lower(at: &At<'_>, out: &mut Diagnostics) -> MatchSpec {
    let methods = at.key("method").map(|method| {
        let texts = method.one_or_many().filter_map(|item| item.as_text());
        texts
            .filter_map(|text| Method::from_bytes(text.as_bytes()).ok())
            .collect()
    });
    MatchSpec {
        path: at.key("path").and_then(|path| string_match(&path)),
        methods: methods.unwrap_or_default(),
        headers: at
            .key("headers")
            .map(|map| headers(&map, out))
            .unwrap_or_default(),
    }
}

/// True where every request fulfils it: every path begins with `/`.
pub fn is_always(spec: &MatchSpec) -> bool {
    let path = match &spec.path {
        None => true,
        Some(StringMatch::Prefix(prefix)) => prefix == "/",
        Some(StringMatch::Exact(_) | StringMatch::Regex(_)) => false,
    };
    path && spec.methods.is_empty() && spec.headers.is_empty()
}

fn string_match(at: &At<'_>) -> Option<StringMatch> {
    let text = |key| at.text(key).map(str::to_owned);
    text("exact")
        .map(StringMatch::Exact)
        .or_else(|| text("prefix").map(StringMatch::Prefix))
        .or_else(|| text("regex").map(StringMatch::Regex))
}

fn headers(map: &At<'_>, out: &mut Diagnostics) -> Vec<(HeaderName, HeaderMatch)> {
    let mut seen = HashMap::new();
    let mut list = Vec::new();
    for entry in map.entries() {
        let at = map.value(entry);
        let Ok(name) = HeaderName::from_bytes(entry.key.as_bytes()) else {
            continue;
        };
        once(map, &mut seen, &name, &entry.key, out);
        let condition = match at.as_text() {
            Some("present") => Some(HeaderMatch::Present),
            Some("absent") => Some(HeaderMatch::Absent),
            Some(_) => None,
            None => string_match(&at).map(HeaderMatch::Value),
        };
        if let Some(condition) = condition {
            list.push((name, condition));
        }
    }
    list
}

/// Reports a header that stands twice, in different spelling.
pub fn once<'k>(
    map: &At<'_>,
    seen: &mut HashMap<HeaderName, &'k str>,
    name: &HeaderName,
    key: &'k str,
    out: &mut Diagnostics,
) {
    if let Some(first) = seen.insert(name.clone(), key) {
        let problem = format!("\"{key}\" is the same header as \"{first}\"");
        map.report_key(out, key, Code::Twice, problem, "keep one of the two");
    }
}
