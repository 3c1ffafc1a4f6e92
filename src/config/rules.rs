//! One rule: when, what, and with which changes.
//!
//! Owns: its tables and its lowering.
//! Never: looks at other rules (that is `routes`).
//! Called by: routes.

use std::collections::HashMap;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use crate::model::{
    Action, Destination, HeaderOps, PathRewrite, Redirect, Respond, Rewrite, RuleSpec, Weighted,
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
        action: action(at, upstreams, out)?,
        rewrite: rewrite.unwrap_or_default(),
        request_headers,
        response_headers,
        timeout: at.duration("timeout"),
        retries: retries.unwrap_or_default(),
        place: at.place(),
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
        return Some(Action::Forward(vec![Weighted {
            upstream,
            weight: 1,
        }]));
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
        split.push(Weighted { upstream, weight });
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
        path: at.text("path").map(str::to_owned),
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

fn header_pairs(map: &At<'_>, out: &mut Diagnostics) -> Vec<(HeaderName, HeaderValue)> {
    let mut seen = HashMap::new();
    let mut list = Vec::new();
    for entry in map.entries() {
        let Ok(name) = HeaderName::from_bytes(entry.key.as_bytes()) else {
            continue;
        };
        matching::once(map, &mut seen, &name, &entry.key, out);
        let text = map.value(entry).as_text();
        if let Some(value) = text.and_then(|text| HeaderValue::from_str(text).ok()) {
            list.push((name, value));
        }
    }
    list
}
