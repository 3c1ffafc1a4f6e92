//! One rule: when, what, and with which changes.
//!
//! Owns: its tables and its lowering.
//! Never: looks at other rules (that is `routes`).
//! Called by: routes.

use std::collections::HashMap;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use crate::model::{
    Action, Destination, HeaderOps, HeaderText, PathRewrite, Redirect, RedirectPath, Respond,
    Rewrite, RuleSpec, Weighted,
};

use super::cursor::At;
use super::diagnostic::{Code, Diagnostics};
use super::format::{self, Format};
use super::matching::{self, MATCH};
use super::retries::{self, RETRIES};
use super::shape::{Choice, DURATION, Field, Shape, Table};
use super::upstreams::Upstreams;

const MAX_WEIGHT: u64 = 1_000_000;

static WEIGHTED: Table = Table::new(
    "weighted",
    "An upstream and its share.",
    &[
        Field::required("name", "The upstream.", Shape::Text(Format::Name)),
        Field::optional(
            "weight",
            "Its share, relative to the others; 0: never chosen.",
            Shape::Whole {
                min: 0,
                max: MAX_WEIGHT,
            },
        )
        .default("1"),
    ],
);

static PATH_REWRITE: Table = Table::new(
    "pathRewrite",
    "Replaces every match of an expression in the path.",
    &[
        Field::required("regex", "What is looked for.", Shape::Text(Format::Regex)),
        Field::required(
            "substitution",
            "What is put there; \\1 is the first group, \\0 the whole match.",
            Shape::Text(Format::Substitution),
        ),
    ],
);

static REWRITE: Table = Table::new(
    "rewrite",
    "Changes of host and path before the request is sent.",
    &[
        Field::optional(
            "host",
            "The new host, or host:port; SNI and the name check use it.",
            Shape::Text(Format::Authority),
        ),
        Field::optional(
            "path",
            "What the matched prefix becomes (the whole path where the match was not by prefix), \
             or a regular expression with its substitution. The query stays.",
            Shape::Either(&[Shape::Object(&PATH_REWRITE), Shape::Text(Format::NewPath)]),
        ),
    ],
)
.any_of(&["host", "path"]);

static HEADERS: Table = Table::new(
    "headers",
    "Header changes: remove first, then set, then add.",
    &[
        Field::optional(
            "remove",
            "Headers to drop.",
            Shape::Many(&Shape::Text(Format::HeaderChanged)),
        ),
        Field::optional(
            "set",
            "Replaces every value of that header.",
            Shape::Map(Format::HeaderChanged, &Shape::Text(Format::HeaderValue)),
        ),
        Field::optional(
            "add",
            "Added behind the values that are there.",
            Shape::Map(Format::HeaderChanged, &Shape::Text(Format::HeaderValue)),
        ),
    ],
)
.any_of(&["remove", "set", "add"]);

const REDIRECT_STATUS: Shape = Shape::Choice(&[
    Choice {
        word: "301",
        doc: "Moved permanently.",
    },
    Choice {
        word: "302",
        doc: "Found.",
    },
    Choice {
        word: "303",
        doc: "See other.",
    },
    Choice {
        word: "307",
        doc: "Temporary, same method.",
    },
    Choice {
        word: "308",
        doc: "Permanent, same method.",
    },
]);

static REDIRECT: Table = Table::new(
    "redirect",
    "Answers with a redirect; what is left out stays as the request has it.",
    &[
        Field::optional("status", "The status.", REDIRECT_STATUS).default("301"),
        Field::optional(
            "scheme",
            "The new scheme.",
            Shape::Choice(&[
                Choice {
                    word: "http",
                    doc: "Plaintext.",
                },
                Choice {
                    word: "https",
                    doc: "TLS.",
                },
            ]),
        ),
        Field::optional(
            "host",
            "The new host, or host:port.",
            Shape::Text(Format::Authority),
        ),
        Field::optional(
            "path",
            "The new path, instead of the whole one.",
            Shape::Text(Format::NewPath),
        ),
    ],
)
.any_of(&["scheme", "host", "path"]);

static RESPOND: Table = Table::new(
    "respond",
    "Answers by itself, without an upstream.",
    &[
        Field::required("status", "The status.", Shape::Whole { min: 200, max: 599 }),
        Field::optional("body", "The body.", Shape::Text(Format::Body)).default("\"\""),
    ],
);

/// One rule.
pub static RULE: Table = Table::new(
    "rule",
    "When it holds, what is done, and with which changes. The first rule that holds decides.",
    &[
        Field::optional("name", "Shown in the access log.", Shape::Text(Format::Name)),
        Field::optional(
            "match",
            "Any one of these must hold. Absent: always.",
            Shape::Many(&Shape::Object(&MATCH)),
        ),
        Field::optional(
            "upstream",
            "Forward to this upstream.",
            Shape::Text(Format::Name),
        ),
        Field::optional(
            "upstreams",
            "Forward to one of these upstreams, by weight.",
            Shape::List(&Shape::Object(&WEIGHTED)),
        ),
        Field::optional("redirect", "Redirect.", Shape::Object(&REDIRECT)),
        Field::optional("respond", "Answer as written.", Shape::Object(&RESPOND)),
        Field::optional(
            "rewrite",
            "Changes of host and path.",
            Shape::Object(&REWRITE),
        ),
        Field::optional(
            "requestHeaders",
            "Changes of the request's headers.",
            Shape::Object(&HEADERS),
        ),
        Field::optional(
            "responseHeaders",
            "Changes of the answer's headers.",
            Shape::Object(&HEADERS),
        ),
        Field::optional(
            "timeout",
            "From the whole request read to the whole answer begun; over it: 504. Absent: no bound.",
            DURATION,
        ),
        Field::optional(
            "retries",
            "What is tried again; a number stands for attempts.",
            Shape::Either(&[retries::ATTEMPTS, Shape::Object(&RETRIES)]),
        ),
    ],
)
.one_of(&[&["upstream", "upstreams", "redirect", "respond"]]);

/// What one rule says; `None` where it was reported.
pub fn lower(at: &At<'_>, upstreams: &mut Upstreams, out: &mut Diagnostics) -> Option<RuleSpec> {
    let matches = at.key("match").map(|list| {
        let entries = list.one_or_many();
        entries.map(|entry| matching::lower(&entry, out)).collect()
    });
    let ops = |key, out: &mut Diagnostics| {
        let ops = at.key(key).map(|block| header_ops(&block, out));
        ops.unwrap_or_default()
    };
    let request_headers = ops("requestHeaders", out);
    let response_headers = ops("responseHeaders", out);
    let rewrite = at.key("rewrite").map(|block| rewrite(&block, out));
    let retries = at.key("retries").map(|block| retries::lower(&block, out));
    Some(RuleSpec {
        name: at.text("name").map(Into::into),
        matches: matches.unwrap_or_default(),
        rewrite: rewrite.unwrap_or_default(),
        request_headers,
        response_headers,
        timeout: at.duration("timeout"),
        retries: retries.unwrap_or_default(),
        ..RuleSpec::new(action(at, upstreams, out)?, at.place())
    })
}

fn action(at: &At<'_>, upstreams: &mut Upstreams, out: &mut Diagnostics) -> Option<Action> {
    if let Some(block) = at.key("redirect") {
        only_forward(at, "redirect", out);
        return Some(Action::Redirect(redirect(&block)));
    }
    if let Some(block) = at.key("respond") {
        only_forward(at, "respond", out);
        return respond(&block, out).map(Action::Respond);
    }
    if let Some(name) = at.key("upstream") {
        let upstream = upstreams.refer(&name, out)?;
        return Some(Action::Forward(vec![Weighted::new(&upstream, 1)]));
    }
    let list = at.key("upstreams")?;
    split(&list, upstreams, out).map(Action::Forward)
}

/// Changes that a rule which answers by itself cannot make.
fn only_forward(at: &At<'_>, action: &str, out: &mut Diagnostics) {
    for key in ["rewrite", "requestHeaders", "timeout", "retries"] {
        if at.has(key) {
            let problem =
                format!("\"{key}\" means nothing beside \"{action}\": no request is sent");
            at.report_key(out, key, Code::Conflict, problem, "leave it out");
        }
    }
}

fn split(list: &At<'_>, upstreams: &mut Upstreams, out: &mut Diagnostics) -> Option<Vec<Weighted>> {
    let mut split: Vec<Weighted> = Vec::new();
    let mut sum = 0u64;
    let mut complete = true;
    for item in list.items() {
        let weight: u32 = match item.has("weight") {
            true => item.whole("weight").unwrap_or(1),
            false => 1,
        };
        sum += u64::from(weight);
        let upstream = item
            .key("name")
            .and_then(|name| upstreams.refer(&name, out));
        let Some(upstream) = upstream else {
            complete = false;
            continue;
        };
        if split.iter().any(|other| other.upstream == upstream) {
            let problem = format!("the upstream \"{upstream}\" stands here twice");
            item.report_key(
                out,
                "name",
                Code::Twice,
                problem,
                "add up its weights in one item",
            );
        }
        split.push(Weighted::new(&upstream, weight));
    }
    if sum == 0 && list.items().next().is_some() {
        let problem = "the weights add up to 0, so that no upstream is ever chosen".to_owned();
        let advice = "give one of them a weight over 0";
        list.report(out, Code::NoWeight, problem, advice);
        return None;
    }
    complete.then_some(split)
}

fn redirect(at: &At<'_>) -> Redirect {
    Redirect {
        status: at
            .word("status")
            .and_then(|word| word.parse().ok())
            .unwrap_or(301),
        scheme: at.word("scheme").map(str::to_owned),
        authority: at.text("host").map(authority),
        path: at
            .text("path")
            .map(|path| RedirectPath::Whole(path.to_owned())),
        port: None,
    }
}

fn respond(at: &At<'_>, out: &mut Diagnostics) -> Option<Respond> {
    let status: u16 = at.whole("status")?;
    let body = at.text("body").unwrap_or_default();
    if matches!(status, 204 | 205 | 304) && !body.is_empty() {
        let problem = format!("an answer with status {status} has no body (RFC 9110 section 15)");
        at.report_key(out, "body", Code::Conflict, problem, "leave it out");
    }
    Some(Respond {
        status,
        body: Bytes::copy_from_slice(body.as_bytes()),
    })
}

fn rewrite(at: &At<'_>, out: &mut Diagnostics) -> Rewrite {
    Rewrite {
        host: at.text("host").map(authority),
        path: at.key("path").and_then(|path| path_rewrite(&path, out)),
    }
}

/// Normal form, IPv6 in brackets, the port only where it is written.
fn authority(text: &str) -> String {
    match Destination::parse(text, 0) {
        Ok(destination) if destination.port > 0 => destination.to_string(),
        Ok(destination) if destination.host.contains(':') => format!("[{}]", destination.host),
        Ok(destination) => destination.host.into_owned(),
        Err(_) => text.to_owned(),
    }
}

fn path_rewrite(at: &At<'_>, out: &mut Diagnostics) -> Option<PathRewrite> {
    if let Some(path) = at.as_text() {
        return Some(PathRewrite::Replace(path.to_owned()));
    }
    let (pattern, substitution) = (at.text("regex")?, at.text("substitution")?);
    // A pattern that does not compile is reported already.
    let groups = format::compile(pattern).ok()?.captures_len() - 1;
    if let Err(problem) = references(substitution, groups) {
        let advice =
            "write \\1 to \\9 for the groups, \\0 for the whole match, \\\\ for a backslash";
        let field = at.key("substitution")?;
        field.report(out, Code::Malformed, problem, advice);
    }
    Some(PathRewrite::Regex {
        pattern: pattern.to_owned(),
        substitution: substitution.to_owned(),
    })
}

/// Every backslash is followed by a backslash or by the number of a group that exists.
fn references(substitution: &str, groups: usize) -> Result<(), String> {
    let mut chars = substitution.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            continue;
        }
        match chars.next() {
            Some('\\') => {}
            Some(digit) if digit.is_ascii_digit() => {
                let number = digit.to_digit(10).map_or(0, |n| n as usize);
                if number > groups {
                    return Err(format!(
                        "\\{number} stands for a group that is not there: the expression has {groups}"
                    ));
                }
            }
            Some(other) => return Err(format!("\\{other} means nothing")),
            None => return Err("a backslash at the end means nothing".to_owned()),
        }
    }
    Ok(())
}

fn header_ops(at: &At<'_>, out: &mut Diagnostics) -> HeaderOps {
    let remove = at.key("remove").map(|list| {
        let texts = list.one_or_many().filter_map(|item| item.as_text());
        texts
            .filter_map(|text| HeaderName::from_bytes(text.as_bytes()).ok())
            .collect()
    });
    let pairs = |key, out: &mut Diagnostics| {
        let pairs = at.key(key).map(|map| header_pairs(&map, out));
        pairs.unwrap_or_default()
    };
    HeaderOps {
        remove: remove.unwrap_or_default(),
        set: pairs("set", out),
        add: pairs("add", out),
    }
}

fn header_pairs(map: &At<'_>, out: &mut Diagnostics) -> Vec<(HeaderName, HeaderText)> {
    let mut seen = HashMap::new();
    let mut list = Vec::new();
    for entry in map.entries() {
        let Ok(name) = HeaderName::from_bytes(entry.key.as_bytes()) else {
            continue;
        };
        matching::once(map, &mut seen, &name, &entry.key, out);
        let text = map.value(entry).as_text();
        if let Some(value) = text.and_then(|text| HeaderValue::from_str(text).ok()) {
            list.push((name, value.into()));
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::{load_texts, said};

    const UPSTREAMS: &str = "upstreams:\n- {name: a, endpoints: a:1, tls: {mode: disable}}\n- {name: b, \
                             endpoints: b:1, tls: {mode: disable}}\n";

    fn text(rule: &str) -> String {
        format!("{UPSTREAMS}routes:\n- host: a\n  rules:\n  - {rule}\n")
    }

    fn read(rule: &str) -> RuleSpec {
        let config = load_texts(&[("a.yaml", &text(rule))]).unwrap().config;
        config.hosts[0].rules[0].clone()
    }

    fn errors(rule: &str) -> Vec<String> {
        let said = said(&text(rule)).into_iter();
        let errors = said.filter(|line| line.contains("error"));
        errors
            .map(|line| line.replace(" routes[0].rules[0]", ""))
            .collect()
    }

    #[test]
    fn an_authority_is_kept_in_normal_form_with_its_port() {
        for (text, expected) in [
            ("A.Example", "a.example"),
            ("a.example.:8080", "a.example:8080"),
            ("'[::1]'", "[::1]"),
            ("'[::1]:80'", "[::1]:80"),
            ("10.0.0.1", "10.0.0.1"),
        ] {
            let rule = read(&format!("{{upstream: a, rewrite: {{host: {text}}}}}"));
            assert_eq!(rule.rewrite.host.as_deref(), Some(expected));
        }
    }

    #[test]
    fn v11_a_path_becomes_a_text_or_a_substitution() {
        assert_eq!(
            read("{upstream: a, rewrite: {path: /x}}").rewrite.path,
            Some(PathRewrite::Replace("/x".into()))
        );
        let rule =
            r"{upstream: a, rewrite: {path: {regex: '^/(a)/(b)', substitution: '/\2/\1\\\0'}}}";
        assert!(matches!(
            read(rule).rewrite.path,
            Some(PathRewrite::Regex { .. })
        ));
    }

    #[test]
    fn v15_a_redirect_keeps_what_it_does_not_name() {
        let Action::Redirect(redirect) = read("{redirect: {scheme: https}}").action else {
            panic!()
        };
        assert_eq!(
            redirect,
            Redirect {
                status: 301,
                scheme: Some("https".into()),
                authority: None,
                path: None,
                port: None,
            }
        );
    }

    #[test]
    fn x8_a_rule_that_contradicts_itself_is_an_error() {
        for (rule, expected) in [
            (
                "{}",
                "a.yaml:7:5: error[SRT0102]: one of the keys upstream, upstreams, redirect, respond must be there; write exactly one of them",
            ),
            (
                "{upstream: a, respond: {status: 200}}",
                "a.yaml:7:19: error[SRT0203].respond: \"respond\" cannot stand beside \"upstream\"; keep one of the two",
            ),
            (
                "{redirect: {path: /a}, rewrite: {host: b}}",
                "a.yaml:7:28: error[SRT0203].rewrite: \"rewrite\" means nothing beside \"redirect\": no request is sent; leave it out",
            ),
            (
                "{respond: {status: 200}, retries: 2}",
                "a.yaml:7:30: error[SRT0203].retries: \"retries\" means nothing beside \"respond\": no request is sent; leave it out",
            ),
            (
                "{redirect: {status: 300, path: /a}}",
                "a.yaml:7:25: error[SRT0104].redirect.status: \"300\" is not allowed here; write one of 301, 302, 303, 307, 308",
            ),
            (
                "{redirect: {status: 301}}",
                "a.yaml:7:16: error[SRT0209].redirect: this block says nothing; write one of scheme, host, path, or leave it out",
            ),
            (
                "{redirect: {scheme: ftp}}",
                "a.yaml:7:25: error[SRT0104].redirect.scheme: \"ftp\" is not allowed here; write one of http, https",
            ),
            (
                "{respond: {status: 204, body: x}}",
                "a.yaml:7:29: error[SRT0203].respond.body: an answer with status 204 has no body (RFC 9110 section 15); leave it out",
            ),
            (
                "{respond: {status: 101}}",
                "a.yaml:7:24: error[SRT0105].respond.status: 101 is too small; write a whole number from 200 to 599",
            ),
            (
                "{upstream: a, rewrite: {}}",
                "a.yaml:7:28: error[SRT0209].rewrite: this block says nothing; write one of host, path, or leave it out",
            ),
            (
                "{upstream: a, timeout: 0s}",
                "a.yaml:7:28: error[SRT0105].timeout: 0s is too small; write a duration from 1ms to 24h, such as 250ms, 1.5s, 10s, 2m or 1h",
            ),
            (
                r"{upstream: a, rewrite: {path: {regex: '(a)', substitution: '\2'}}}",
                "a.yaml:7:64: error[SRT0106].rewrite.path.substitution: \\2 stands for a group that is not there: the expression has 1; write \\1 to \\9 for the groups, \\0 for the whole match, \\\\ for a backslash",
            ),
            (
                r"{upstream: a, rewrite: {path: {regex: '(a)', substitution: 'x\'}}}",
                "a.yaml:7:64: error[SRT0106].rewrite.path.substitution: a backslash at the end means nothing; write \\1 to \\9 for the groups, \\0 for the whole match, \\\\ for a backslash",
            ),
        ] {
            assert_eq!(errors(rule), [expected], "{rule}");
        }
    }

    #[test]
    fn v10_weights_need_a_sum_over_zero() {
        let Action::Forward(split) = read("{upstreams: [{name: a, weight: 0}, {name: b}]}").action
        else {
            panic!()
        };
        let shares: Vec<_> = split
            .iter()
            .map(|w| (w.upstream.as_ref(), w.weight))
            .collect();
        assert_eq!(shares, [("a", 0), ("b", 1)]);
        assert_eq!(
            errors("{upstreams: [{name: a, weight: 0}, {name: b, weight: 0}]}"),
            [
                "a.yaml:7:17: error[SRT0208].upstreams: the weights add up to 0, so that no upstream is ever chosen; give one of them a weight over 0"
            ]
        );
        assert_eq!(
            errors("{upstreams: [{name: a}, {name: a}]}"),
            [
                "a.yaml:7:30: error[SRT0201].upstreams[1].name: the upstream \"a\" stands here twice; add up its weights in one item"
            ]
        );
    }

    #[test]
    fn v12_headers_are_read_and_those_that_frame_a_message_are_refused() {
        let rule =
            read("{upstream: a, requestHeaders: {remove: X-A, set: {x-b: b}, add: {x-c: ''}}}");
        let ops = rule.request_headers;
        assert_eq!((ops.remove.len(), ops.set.len(), ops.add.len()), (1, 1, 1));
        assert_eq!(
            errors("{upstream: a, requestHeaders: {set: {Host: b}}}"),
            [
                "a.yaml:7:42: error[SRT0108].requestHeaders.set.Host: a rule may not change \"Host\": it decides where the request goes and which name is checked; write rewrite: {host: ...}"
            ]
        );
        for name in [
            "content-length",
            "Transfer-Encoding",
            "connection",
            "te",
            "upgrade",
            "':path'",
        ] {
            for (block, value) in [("set", "x"), ("add", "x")] {
                let rule =
                    format!("{{upstream: a, responseHeaders: {{{block}: {{{name}: {value}}}}}}}");
                assert!(errors(&rule)[0].contains("SRT0108"), "{rule}");
            }
            let rule = format!("{{upstream: a, requestHeaders: {{remove: [{name}]}}}}");
            assert!(errors(&rule)[0].contains("SRT0108"), "{rule}");
        }
    }

    #[test]
    fn a_header_value_that_may_be_a_secret_is_never_repeated() {
        for value in ["\"Bearer s3cret\\n\"", "[s3cret]", "{a: s3cret}"] {
            let rule =
                format!("{{upstream: a, requestHeaders: {{set: {{authorization: {value}}}}}}}");
            let errors = errors(&rule);
            assert!(
                errors.len() == 1 && !errors[0].contains("s3cret"),
                "{errors:?}"
            );
        }
    }
}
