//! `metadata`: name, namespace, labels and age (ISTIO.md Z1).
//!
//! Owns: reading it, and `exportTo`, which compares itself with it (H5).
//! Never: reads a `spec`.
//! Called by: read, the kinds.

use std::sync::Arc;

use crate::config::cursor::At;
use crate::config::istio::meta::{ExportTo, Labels, Meta};
use crate::config::options::LoadOptions;

use super::context::Reading;
use super::value;

/// What every object has. `order` is its position among all.
pub fn read(
    root: &At<'_>,
    kind: &'static str,
    namespaced: bool,
    order: usize,
    options: &LoadOptions,
) -> Meta {
    let meta = root.key("metadata");
    let text = |key| meta.as_ref().and_then(|meta| value::text(meta, key));
    let labels = |key| meta.as_ref().and_then(|meta| value::labels(meta, key));
    let namespace: Arc<str> = match (namespaced, text("namespace")) {
        (false, _) => "".into(),
        (true, Some(namespace)) => namespace.into(),
        (true, None) => Arc::clone(options.facts.default_namespace()),
    };
    Meta {
        kind,
        name: text("name").unwrap_or_default().into(),
        namespace,
        labels: labels("labels").unwrap_or_default(),
        annotations: labels("annotations").unwrap_or_default(),
        created: text("creationTimestamp").and_then(seconds),
        order,
        place: root.place(),
    }
}

/// Reports what is wrong with it alone.
pub fn check(root: &At<'_>, r: &mut Reading<'_>) {
    let Some(meta) = root.key("metadata") else {
        let advice = "write metadata with a name";
        return r.wrong_key(root, "metadata", "there is no metadata".to_owned(), advice);
    };
    if value::text(&meta, "name").is_none() {
        let advice = "write metadata.name";
        r.wrong_key(&meta, "name", "the object has no name".to_owned(), advice);
    }
    if let Some(stamp) = meta.key("creationTimestamp")
        && let Some(text) = stamp.as_text()
        && seconds(text).is_none()
    {
        let problem = format!("{text:?} is not a time");
        r.wrong(
            &stamp,
            problem,
            "write it as 2024-05-01T12:00:00Z, or leave it out",
        );
    }
}

/// RFC 3339 to seconds since 1970; parts of a second are cut off.
pub fn seconds(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let mut parts = date.splitn(3, '-');
    let (year, month, day) = (
        digits(parts.next()?, 4)?,
        digits(parts.next()?, 2)?,
        digits(parts.next()?, 2)?,
    );
    let (clock, offset) = match time.find(['Z', 'z', '+', '-']) {
        Some(at) => time.split_at(at),
        None => return None,
    };
    let clock = clock.split_once('.').map_or(clock, |(whole, _)| whole);
    let mut parts = clock.splitn(3, ':');
    let (hour, minute, second) = (
        digits(parts.next()?, 2)?,
        digits(parts.next()?, 2)?,
        digits(parts.next()?, 2)?,
    );
    let real = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !real {
        return None;
    }
    Some(days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - shift(offset)?)
}

fn digits(text: &str, most: usize) -> Option<i64> {
    let sound = text.len() == most && text.bytes().all(|b| b.is_ascii_digit());
    sound.then(|| text.parse().ok()).flatten()
}

/// Seconds that an offset such as `+02:00` is ahead.
fn shift(offset: &str) -> Option<i64> {
    let sign = match offset.get(..1)? {
        "Z" | "z" if offset.len() == 1 => return Some(0),
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    Some(sign * (digits(hours, 2)? * 3600 + digits(minutes, 2)? * 60))
}

/// Days from 1970-01-01 in the Gregorian calendar (civil from days, reversed).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// `exportTo` of a spec (H5, 1.4).
pub fn export_to(spec: &At<'_>, r: &mut Reading<'_>) -> ExportTo {
    let Some(list) = spec.key("exportTo") else {
        return ExportTo::All;
    };
    let texts = value::strings(spec, "exportTo");
    for (n, text) in texts.iter().enumerate() {
        if texts.iter().take(n).any(|other| other == text) {
            r.wrong(
                &list,
                format!("{text:?} stands twice"),
                "keep one of the two",
            );
        }
    }
    for (alone, means) in [("*", "every namespace"), ("~", "no namespace")] {
        if texts.len() > 1 && texts.iter().any(|text| text == alone) {
            let problem = format!("{alone:?} stands beside others");
            r.wrong(
                &list,
                problem,
                &format!("{alone:?} is {means}: write it alone"),
            );
        }
    }
    of_namespaces(&texts, &r.namespace)
}

/// What a list of namespaces means for an object in `own`.
pub fn of_namespaces(texts: &[String], own: &Arc<str>) -> ExportTo {
    if texts.is_empty() || texts.iter().any(|text| text == "*") {
        return ExportTo::All;
    }
    if texts.iter().all(|text| text == "~") {
        return ExportTo::Nobody;
    }
    let name = |text: &String| match text.as_str() {
        "." => Arc::clone(own),
        name => name.into(),
    };
    let named = texts.iter().filter(|text| *text != "~");
    ExportTo::Namespaces(named.map(name).collect())
}

/// A selector's labels: a warning where there are none (1.4, warnings only).
pub fn selector(spec: &At<'_>, key: &str, labels: &str, r: &mut Reading<'_>) -> Option<Labels> {
    let at = spec.key(key)?;
    let found = value::labels(&at, labels).unwrap_or_default();
    if found.is_empty() {
        let problem = "the selector is empty: it selects every workload of its namespace";
        r.odd(
            &at,
            problem.to_owned(),
            "write labels, or leave the selector out",
        );
    }
    Some(found)
}
