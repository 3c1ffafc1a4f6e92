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
        ..MatchSpec::default()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::{load_texts, said};

    fn matched(block: &str) -> Result<Vec<MatchSpec>, Vec<String>> {
        let text = format!(
            "routes:\n- host: a\n  rules:\n  - respond: {{status: 200}}\n    match: {block}\n"
        );
        match load_texts(&[("a.yaml", &text)]) {
            Ok(loaded) => Ok(loaded.config.hosts[0].rules[0].matches.clone()),
            Err(_) => Err(said(&text)
                .iter()
                .map(|line| line.replace(" routes[0].rules[0].match", ""))
                .collect()),
        }
    }

    #[test]
    fn one_entry_or_many_are_taken() {
        let one = matched("{path: {exact: /a}, method: GET, headers: {X-A: absent, x-b: present}}")
            .unwrap();
        assert_eq!(one[0].path, Some(StringMatch::Exact("/a".into())));
        assert_eq!(one[0].methods, [Method::GET]);
        let names: Vec<_> = one[0]
            .headers
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(names, ["x-a", "x-b"]);
        let many =
            matched("[{method: [GET, PUT]}, {headers: {a: {regex: 'b+'}}}, {path: {prefix: /}}]")
                .unwrap();
        assert_eq!((many.len(), many[0].methods.len()), (3, 2));
        assert_eq!(
            many[1].headers[0].1,
            HeaderMatch::Value(StringMatch::Regex("b+".into()))
        );
        assert!(is_always(&many[2]) && !is_always(&many[1]));
    }

    #[test]
    fn a_condition_that_says_nothing_or_too_much_is_an_error() {
        for (block, expected) in [
            (
                "{}",
                "a.yaml:5:12: error[SRT0209]: this block says nothing; write one of path, method, headers, or leave it out",
            ),
            (
                "[]",
                "a.yaml:5:12: error[SRT0209]: the list is empty; write at least one item, or leave the key out",
            ),
            (
                "{path: /a}",
                "a.yaml:5:19: error[SRT0103].path: text stands here; write a mapping with the keys exact, prefix, regex",
            ),
            (
                "{path: {}}",
                "a.yaml:5:19: error[SRT0102].path: one of the keys exact, prefix, regex must be there; write exactly one of them",
            ),
            (
                "{path: {exact: /a, prefix: /b}}",
                "a.yaml:5:31: error[SRT0203].path.prefix: \"prefix\" cannot stand beside \"exact\"; keep one of the two",
            ),
            (
                "{path: {exact: a}}",
                "a.yaml:5:27: error[SRT0106].path.exact: the path \"a\" does not begin with \"/\"; write \"/a\"",
            ),
            (
                "{path: {regex: '('}}",
                "a.yaml:5:27: error[SRT0107].path.regex: \"(\" is not a regular expression: unclosed group; write RE2 syntax: no look-around, no back-references",
            ),
            (
                "{path: {regex: '(x{999}){999}'}}",
                "a.yaml:5:27: error[SRT0107].path.regex: the regular expression needs more than 983040 bytes once compiled; repeat less: {1000} makes a thousand copies",
            ),
            (
                "{headers: {}}",
                "a.yaml:5:22: error[SRT0209].headers: the mapping is empty; write at least one key, or leave it out",
            ),
            (
                "{headers: {a: 5}}",
                "a.yaml:5:26: error[SRT0104].headers.a: \"5\" is not allowed here; write one of present, absent, or a mapping with the keys exact, prefix, regex",
            ),
            (
                "{headers: {a: {exact: 5}}}",
                "a.yaml:5:34: error[SRT0103].headers.a.exact: a number stands here, and text is expected; put it in quotes",
            ),
            (
                "{headers: {X-a: absent, x-A: present}}",
                "a.yaml:5:36: error[SRT0201].headers.x-A: \"x-A\" is the same header as \"X-a\"; keep one of the two",
            ),
            (
                "{headers: {Host: absent}}",
                "a.yaml:5:23: error[SRT0108].headers.Host: \"Host\" is not an ordinary header; write the host under \"host\" of the route",
            ),
        ] {
            assert_eq!(matched(block).unwrap_err(), [expected]);
        }
    }
}
