//! Conditions of an HTTP route (ISTIO.md V8, V9).
//!
//! Owns: reading them.
//! Never: compares anything with a request.
//! Called by: http_route, streams.

use std::collections::HashMap;

use http::HeaderName;

use crate::config::cursor::At;
use crate::config::diagnostic::Code;
use crate::config::format::{Format, quote};
use crate::config::istio::virtual_service::{HttpMatch, MatchOn};
use crate::model::{HeaderMatch, QueryMatch, StringMatch};

use super::context::Reading;
use super::{names, value};

/// One set of conditions.
pub fn read(at: &At<'_>, r: &mut Reading<'_>) -> HttpMatch {
    let mut headers = headers(at, "headers", r);
    headers.extend(self::headers(at, "withoutHeaders", r));
    HttpMatch {
        name: value::text(at, "name").map(Into::into),
        uri: text_match(at, "uri", r),
        ignore_uri_case: value::flag(at, "ignoreUriCase").unwrap_or_default(),
        scheme: text_match(at, "scheme", r),
        method: text_match(at, "method", r),
        authority: text_match(at, "authority", r),
        headers,
        query: query(at, r),
        on: http_on(at, r),
        place: at.place(),
    }
}

/// What does not depend on the request.
pub fn on(at: &At<'_>) -> MatchOn {
    let gateways = at.has("gateways").then(|| value::texts(at, "gateways"));
    MatchOn {
        port: value::port(at, "port"),
        gateways: gateways.filter(|list| !list.is_empty()),
        source_labels: value::labels(at, "sourceLabels").unwrap_or_default(),
        source_namespace: value::text(at, "sourceNamespace").map(Into::into),
    }
}

/// V8: in a match of HTTP, `gateways` puts out of force where a request comes from.
fn http_on(at: &At<'_>, r: &mut Reading<'_>) -> MatchOn {
    let on = on(at);
    for key in ["sourceLabels", "sourceNamespace"] {
        if on.gateways.is_some() && at.has(key) {
            let problem = format!("{key} has no effect beside gateways");
            let advice = "leave one of the two out";
            r.warning(at.wrong_key(key, Code::MatchWithoutEffect, problem, advice));
        }
    }
    on
}

/// A condition on a text that is always there; `None` where it says nothing.
fn text_match(at: &At<'_>, key: &str, r: &mut Reading<'_>) -> Option<StringMatch> {
    let found = string_match(&at.key(key)?, r)?;
    (found != StringMatch::Prefix(String::new())).then_some(found)
}

/// `exact`, `prefix` or `regex`.
fn string_match(at: &At<'_>, r: &mut Reading<'_>) -> Option<StringMatch> {
    let text = |key| at.text(key).map(str::to_owned);
    text("exact")
        .map(StringMatch::Exact)
        .or_else(|| text("prefix").map(StringMatch::Prefix))
        .or_else(|| {
            let regex = at.key("regex")?;
            let pattern = names::formatted(&regex, Format::Regex, r)?;
            Some(StringMatch::Regex(pattern.to_owned()))
        })
}

/// The same, or `None` where any value will do: no text, or the expression `*` (V9).
fn value_match(at: &At<'_>, r: &mut Reading<'_>) -> Option<StringMatch> {
    let says = |key: &str| at.text(key).is_some_and(|text| !text.is_empty());
    let any = !["exact", "prefix", "regex"].into_iter().any(says) || at.text("regex") == Some("*");
    if any { None } else { string_match(at, r) }
}

fn headers(at: &At<'_>, key: &str, r: &mut Reading<'_>) -> Vec<(HeaderName, HeaderMatch)> {
    let Some(map) = at.key(key) else {
        return Vec::new();
    };
    let without = key == "withoutHeaders";
    let (mut list, mut seen) = (Vec::new(), HashMap::new());
    for entry in map.entries() {
        let Some(name) = header_name(&map, &entry.key, r) else {
            continue;
        };
        if let Some(first) = seen.insert(name.clone(), entry.key.clone()) {
            let problem = format!("\"{}\" is the same header as \"{first}\"", entry.key);
            r.wrong_key(&map, &entry.key, problem, "keep one of the two");
        }
        let matched = value_match(&map.value(entry), r);
        let condition = match (matched, without) {
            (None, false) => HeaderMatch::Present,
            (None, true) => HeaderMatch::Absent,
            (Some(text), false) => HeaderMatch::Joined(text),
            (Some(text), true) => HeaderMatch::NotJoined(text),
        };
        list.push((name, condition));
    }
    list
}

fn header_name(map: &At<'_>, key: &str, r: &mut Reading<'_>) -> Option<HeaderName> {
    if key.starts_with("@request.auth.") {
        let problem = "sortie does not check request tokens, so a condition on their claims never \
                       holds";
        let advice = "match on a header instead";
        r.error(map.wrong_key(key, Code::Unsupported, problem.to_owned(), advice));
        return None;
    }
    match HeaderName::from_bytes(key.as_bytes()) {
        Ok(name) if name != http::header::HOST => Some(name),
        _ => {
            let advice = match key.to_ascii_lowercase().as_str() {
                "host" | ":authority" => "write authority: in the match",
                ":path" => "write uri: in the match",
                ":method" => "write method: in the match",
                ":scheme" => "write scheme: in the match",
                _ => "write letters, digits and \"-\", such as x-version",
            };
            let problem = format!("{} is not an ordinary header", quote(key));
            r.error(map.wrong_key(key, Code::ForbiddenHeader, problem, advice));
            None
        }
    }
}

fn query(at: &At<'_>, r: &mut Reading<'_>) -> Vec<(String, QueryMatch)> {
    let Some(map) = at.key("queryParams") else {
        return Vec::new();
    };
    let mut list = Vec::new();
    for entry in map.entries() {
        let condition = match value_match(&map.value(entry), r) {
            None => QueryMatch::Present,
            Some(text) => QueryMatch::Value(text),
        };
        list.push((entry.key.to_string(), condition));
    }
    list
}
