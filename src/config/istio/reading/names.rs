//! Hosts as documents write them: short, whole, with a star (ISTIO.md H1, H3).
//!
//! Owns: expansion of short names, hosts as patterns, addresses as networks.
//! Never: looks a host up.
//! Called by: the kinds, read (what a refused object governs), lower.

use std::borrow::Cow;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::cursor::At;
use crate::config::diagnostic::Code;
use crate::config::format::{Format, quote};
use crate::model::HostPattern;

use super::context::Reading;

/// H3: a name without any dot is a Service of `namespace`. Wildcards and addresses stay.
pub fn expand<'h>(host: &'h str, namespace: &str, domain: &str) -> Cow<'h, str> {
    let short = !host.is_empty() && !host.contains(['.', ':', '*']);
    match short {
        true => Cow::Owned(format!("{host}.{namespace}.svc.{domain}")),
        false => Cow::Borrowed(host),
    }
}

/// The text of `at`, where it has this format; else that is reported.
pub fn formatted<'a>(at: &At<'a>, format: Format, r: &mut Reading<'_>) -> Option<&'a str> {
    let text = at.as_text()?;
    match format.check(text) {
        Ok(()) => Some(text),
        Err(wrong) => {
            let advice = match wrong.advice.is_empty() {
                true => format!("write {}", format.expected()),
                false => wrong.advice,
            };
            r.error(at.wrong(code(wrong.code), wrong.problem, &advice));
            None
        }
    }
}

/// What Istio has a word for is called by it.
pub fn code(code: Code) -> Code {
    match code {
        Code::BadRegex | Code::ForbiddenHeader => code,
        _ => Code::SchemaError,
    }
}

/// The text of a key, where it is there, not empty, and has this format.
pub fn formatted_key<'a>(
    at: &'a At<'_>,
    key: &str,
    format: Format,
    r: &mut Reading<'_>,
) -> Option<&'a str> {
    let at = at.key(key)?;
    match at.as_text() {
        Some("") | None => None,
        Some(_) => formatted(&at, format, r),
    }
}

/// `subjectAltNames`.
pub fn alt_names(at: &At<'_>, r: &mut Reading<'_>) -> Vec<String> {
    let list = at.key("subjectAltNames");
    let items = list.iter().flat_map(At::items);
    let mut names = Vec::new();
    for item in items {
        names.extend(formatted(&item, Format::San, r).map(str::to_owned));
    }
    names
}

/// A host of a document, as pattern.
pub fn pattern(at: &At<'_>, r: &mut Reading<'_>) -> Option<HostPattern> {
    HostPattern::parse(formatted(at, Format::HostPattern, r)?).ok()
}

/// An address, or a network in CIDR notation.
pub fn network(at: &At<'_>, r: &mut Reading<'_>) -> Option<IpNet> {
    let text = at.as_text()?;
    let parsed = parse_network(text);
    if parsed.is_none() {
        let problem = format!("{} is not an IP address or a network", quote(text));
        r.wrong(at, problem, "write it as 10.1.2.3 or 10.1.0.0/16");
    }
    parsed
}

/// The same, from a text.
pub fn parse_network(text: &str) -> Option<IpNet> {
    let single = text.parse::<IpAddr>().map(IpNet::from).ok();
    single.or_else(|| text.parse::<IpNet>().map(|net| net.trunc()).ok())
}

/// True where one of the patterns means a host that the other means as well.
pub fn overlap(a: &HostPattern, b: &HostPattern) -> bool {
    match (a, b) {
        (HostPattern::Any, _) | (_, HostPattern::Any) => true,
        (HostPattern::Exact(a), HostPattern::Exact(b)) => a == b,
        (HostPattern::Exact(host), wide) | (wide, HostPattern::Exact(host)) => {
            wide.matches(host.as_str())
        }
        (HostPattern::Suffix(a), HostPattern::Suffix(b)) => {
            let inside = |deep: &str, wide: &str| {
                let rest = deep.strip_suffix(wide);
                rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            };
            inside(a.as_str(), b.as_str()) || inside(b.as_str(), a.as_str())
        }
    }
}

/// True where every host of `narrow` is one of `wide`.
pub fn covers(wide: &HostPattern, narrow: &HostPattern) -> bool {
    match (wide, narrow) {
        (HostPattern::Any, _) => true,
        (_, HostPattern::Any) => false,
        (_, HostPattern::Exact(host)) => wide.matches(host.as_str()),
        (HostPattern::Exact(_), HostPattern::Suffix(_)) => false,
        (HostPattern::Suffix(wide), HostPattern::Suffix(deep)) => {
            let rest = deep.as_str().strip_suffix(wide.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        }
    }
}
