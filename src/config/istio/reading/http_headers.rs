//! `headers` of a route and of a destination, and who sets the authority (ISTIO.md V11, V12, X8).
//!
//! Owns: reading them.
//! Never: changes a header.
//! Called by: http_route.

use http::HeaderName;

use crate::config::cursor::At;
use crate::config::diagnostic::Code;
use crate::config::format::{Format, Wrong};
use crate::model::{HeaderOps, HeaderText};

use super::context::Reading;
use super::{header_format, names};

/// The authority, by whom it is set: at most one may (X8).
#[derive(Default)]
pub struct Authorities {
    found: Option<(&'static str, String)>,
}

impl Authorities {
    /// `rewrite.authority`.
    pub fn rewrite(&mut self, rewrite: &At<'_>, r: &mut Reading<'_>) {
        if let Some(at) = rewrite
            .key("authority")
            .filter(|at| at.as_text() != Some(""))
        {
            self.say("rewrite.authority", &at, r);
        }
    }

    /// What was said.
    pub fn chosen(self) -> Option<String> {
        self.found.map(|(_, authority)| authority)
    }

    fn say(&mut self, who: &'static str, at: &At<'_>, r: &mut Reading<'_>) {
        let Some(text) = names::formatted(at, Format::Authority, r) else {
            return;
        };
        if let Some((first, _)) = &self.found {
            let problem = format!("{who} and {first} both set the authority");
            r.wrong(at, problem, "keep one of the two");
            return;
        }
        self.found = Some((who, text.to_owned()));
    }
}

/// Changes of the request's headers; the authority goes its own way.
pub fn request(at: &At<'_>, authorities: &mut Authorities, r: &mut Reading<'_>) -> HeaderOps {
    HeaderOps {
        remove: remove(at, r),
        set: values(at, "set", Some((authorities, "headers.request.set")), r),
        add: values(at, "add", Some((authorities, "headers.request.add")), r),
    }
}

/// Changes of the answer's headers.
pub fn response(at: &At<'_>, r: &mut Reading<'_>) -> HeaderOps {
    HeaderOps {
        remove: remove(at, r),
        set: values(at, "set", None, r),
        add: values(at, "add", None, r),
    }
}

fn remove(at: &At<'_>, r: &mut Reading<'_>) -> Vec<HeaderName> {
    let list = at.key("remove");
    let mut names = Vec::new();
    for item in list.iter().flat_map(At::items) {
        let Some(name) = item.as_text() else { continue };
        if is_dropped(name) {
            r.odd(&item, dropped(name), DROPPED);
            continue;
        }
        match changed(name) {
            Ok(name) => names.push(name),
            Err(wrong) => {
                r.error(item.wrong(names::code(wrong.code), wrong.problem, &wrong.advice))
            }
        }
    }
    names
}

const DROPPED: &str = "leave it out; the authority is set by rewrite: {authority: ...}";

/// V12: what no rule changes outside the authority's own way, and Istio drops.
fn is_dropped(name: &str) -> bool {
    name.starts_with(':') || name.eq_ignore_ascii_case("host")
}

fn dropped(name: &str) -> String {
    format!("\"{name}\" is not changed here: Istio drops it, and so does sortie")
}

/// The name of a header that a rule may change.
fn changed(text: &str) -> Result<HeaderName, Wrong> {
    if let Err(mut wrong) = Format::HeaderChanged.check(text) {
        // In the words of this format.
        match text.to_ascii_lowercase().as_str() {
            "host" | ":authority" => wrong.advice = "write rewrite: {authority: ...}".to_owned(),
            ":path" => wrong.advice = "write rewrite: {uri: ...}".to_owned(),
            _ => {}
        }
        return Err(wrong);
    }
    HeaderName::from_bytes(text.as_bytes()).map_err(|error| Wrong {
        code: Code::SchemaError,
        problem: error.to_string(),
        advice: String::new(),
    })
}

fn values(
    at: &At<'_>,
    key: &str,
    mut authorities: Option<(&mut Authorities, &'static str)>,
    r: &mut Reading<'_>,
) -> Vec<(HeaderName, HeaderText)> {
    let Some(map) = at.key(key) else {
        return Vec::new();
    };
    let mut list: Vec<(HeaderName, HeaderText)> = Vec::new();
    for entry in map.entries() {
        let value = map.value(entry);
        let lower = entry.key.to_ascii_lowercase();
        if let Some((authorities, who)) = &mut authorities
            && matches!(lower.as_str(), "host" | ":authority")
        {
            authorities.say(who, &value, r);
            continue;
        }
        if is_dropped(&entry.key) {
            r.odd(&value, dropped(&entry.key), DROPPED);
            continue;
        }
        let name = match changed(&entry.key) {
            Ok(name) => name,
            Err(wrong) => {
                let code = names::code(wrong.code);
                r.error(map.wrong_key(&entry.key, code, wrong.problem, &wrong.advice));
                continue;
            }
        };
        if list.iter().any(|(other, _)| *other == name) {
            let problem = format!("\"{}\" stands twice, in different spelling", entry.key);
            r.wrong_key(&map, &entry.key, problem, "keep one of the two");
        }
        let Some(text) = value.as_text() else {
            continue;
        };
        if let Err(wrong) = Format::HeaderValue.check(text) {
            r.error(value.wrong(names::code(wrong.code), wrong.problem, &wrong.advice));
            continue;
        }
        match header_format::parse(text) {
            Ok(text) => list.push((name, text)),
            Err((problem, advice)) => r.wrong(&value, problem, &advice),
        }
    }
    list
}
