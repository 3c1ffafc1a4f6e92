//! The values of `--set`, each with its bounds: names, numbers, quantities, lists.
//!
//! Owns: what Kubernetes takes for a name, a label, a quantity (its API conventions).
//! Never: knows which key a value is for.
//! Called by: the tables of this room.

use std::collections::BTreeMap;
use std::str::FromStr;

use ipnet::IpNet;

/// Bytes of any one value.
const MOST: usize = 4096;
/// Items of any one list.
const MOST_ITEMS: usize = 64;

/// The result of taking a value, or what was expected.
pub type Taken<T> = Result<T, String>;

/// Text without line breaks and other controls.
pub fn text(value: &str) -> Taken<String> {
    match value.len() <= MOST && !value.chars().any(char::is_control) {
        true => Ok(value.to_owned()),
        false => Err(format!(
            "expected at most {MOST} bytes, no control characters"
        )),
    }
}

/// `true` or `false`.
pub fn flag(value: &str) -> Taken<bool> {
    let parsed = value.parse();
    parsed.map_err(|_| "expected true or false".to_owned())
}

/// A whole number within bounds.
pub fn count(value: &str, least: u32, most: u32) -> Taken<u32> {
    let parsed = value.parse().ok();
    parsed
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("expected a whole number from {least} to {most}"))
}

/// One of a few words.
pub fn choice(value: &str, words: &[&'static str]) -> Taken<&'static str> {
    let found = words.iter().find(|word| **word == value);
    found
        .copied()
        .ok_or_else(|| format!("expected one of {}", words.join(", ")))
}

/// A DNS label (RFC 1123), as Services have it: at most 63 characters, a letter first.
pub fn label_name(value: &str) -> Taken<String> {
    let letter = value.starts_with(|c: char| c.is_ascii_lowercase());
    match letter && value.len() <= 63 && is_dns_label(value) {
        true => Ok(value.to_owned()),
        false => Err("expected 1 to 63 of a-z, 0-9 and -, a letter first".to_owned()),
    }
}

/// A DNS subdomain (RFC 1123), as ConfigMaps and Secrets are called.
pub fn object_name(value: &str) -> Taken<String> {
    match value.len() <= 253 && value.split('.').all(is_dns_label) {
        true => Ok(value.to_owned()),
        false => Err("expected a name of a-z, 0-9, - and .".to_owned()),
    }
}

fn is_dns_label(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let edges = !text.starts_with('-') && !text.ends_with('-');
    !text.is_empty() && text.len() <= 63 && text.bytes().all(plain) && edges
}

/// Comma-separated items, each taken by `one`; none where the text is empty.
pub fn list<T>(value: &str, one: impl Fn(&str) -> Taken<T>) -> Taken<Vec<T>> {
    let items: Vec<&str> = match value.trim() {
        "" => Vec::new(),
        text => text.split(',').map(str::trim).collect(),
    };
    if items.len() > MOST_ITEMS {
        return Err(format!("expected at most {MOST_ITEMS} items"));
    }
    let taken = |item: &&str| one(item).map_err(|problem| format!("\"{item}\": {problem}"));
    items.iter().map(taken).collect()
}

/// `KEY=VALUE,KEY=VALUE` of labels.
pub fn labels(value: &str) -> Taken<BTreeMap<String, String>> {
    let pairs = list(value, |item| {
        let (key, value) = item.split_once('=').unwrap_or((item, ""));
        match is_qualified(key) && (value.is_empty() || is_label_value(value)) {
            true => Ok((key.to_owned(), value.to_owned())),
            false => Err("expected KEY=VALUE, as Kubernetes takes labels".to_owned()),
        }
    })?;
    Ok(pairs.into_iter().collect())
}

/// `KEY=VALUE,KEY=VALUE` of annotations, whose values are any text without a comma.
pub fn annotations(value: &str) -> Taken<BTreeMap<String, String>> {
    let pairs = list(value, |item| match item.split_once('=') {
        Some((key, value)) if is_qualified(key) => Ok((key.to_owned(), text(value)?)),
        Some(_) | None => Err("expected KEY=VALUE, as Kubernetes takes annotations".to_owned()),
    })?;
    Ok(pairs.into_iter().collect())
}

/// `[PREFIX/]NAME`.
fn is_qualified(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    prefix.is_none_or(|prefix| object_name(prefix).is_ok()) && is_label_value(name)
}

/// The value of a label.
pub fn label_value(value: &str) -> Taken<String> {
    match is_label_value(value) {
        true => Ok(value.to_owned()),
        false => Err("expected 1 to 63 of a-z, A-Z, 0-9, -, _ and .".to_owned()),
    }
}

fn is_label_value(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    text.len() <= 63
        && edge(text.chars().next())
        && edge(text.chars().last())
        && text.bytes().all(inner)
}

/// A quantity such as `100m`, `0.5` or `64Mi`; `none` says that there is no bound.
pub fn quantity(value: &str) -> Taken<Option<String>> {
    if value == "none" {
        return Ok(None);
    }
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = value.get(digits.len()..).unwrap_or_default();
    let units = ["", "m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"];
    let number = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && digits.parse::<f64>().is_ok_and(|number| number > 0.0);
    match number && units.contains(&unit) {
        true => Ok(Some(value.to_owned())),
        false => Err("expected a quantity such as 100m, 0.5 or 64Mi, or none".to_owned()),
    }
}

/// A port.
pub fn port(value: &str) -> Taken<u16> {
    let parsed = u16::from_str(value).ok().filter(|port| *port > 0);
    parsed.ok_or_else(|| "expected a port, 1 to 65535".to_owned())
}

/// A network, such as `10.0.0.0/8`.
pub fn network(value: &str) -> Taken<IpNet> {
    let parsed = value.parse::<IpNet>();
    parsed
        .map(|net| net.trunc())
        .map_err(|_| "expected a network such as 10.0.0.0/8 or fd00::/8".to_owned())
}

/// A name of an image, without blanks.
pub fn image(value: &str) -> Taken<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:@".contains(&b);
    let edges = value.starts_with(|c: char| c.is_ascii_alphanumeric());
    match edges && value.len() <= 512 && value.bytes().all(plain) {
        true => Ok(value.to_owned()),
        false => Err("expected an image such as registry.example/sortie:1.0".to_owned()),
    }
}

/// A folder inside the container: absolute, no `..`, no `:`.
pub fn folder(value: &str) -> Taken<String> {
    let steps = || value.split('/').skip(1);
    let plain = |step: &str| !step.is_empty() && step != "." && step != "..";
    let sound = value.starts_with('/') && value.len() <= MOST && steps().all(plain);
    match sound && !value.contains(':') && !value.chars().any(char::is_control) {
        true => Ok(value.to_owned()),
        false => Err("expected an absolute path without . and .., such as /etc/bank".to_owned()),
    }
}

/// `NAME=VALUE` of an environment variable.
pub fn variable(value: &str) -> Taken<(String, String)> {
    let (name, content) = value.split_once('=').unwrap_or((value, ""));
    let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    let letter = name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_');
    match value.contains('=') && letter && name.len() <= 256 && name.bytes().all(plain) {
        true => Ok((name.to_owned(), text(content)?)),
        false => Err("expected NAME=VALUE, such as SORTIE_NAME_CHECK=enforce".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_kubernetes_takes() {
        for good in ["a", "egress-1", &"a".repeat(63)] {
            assert!(label_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "A",
            "1a",
            "a.b",
            "a-",
            "-a",
            "a b",
            "ä",
            &"a".repeat(64),
        ] {
            assert!(label_name(bad).is_err(), "{bad}");
        }
        assert!(object_name("bank.credential-1").is_ok());
        for bad in ["", ".a", "a..b", "a/b", "../etc"] {
            assert!(object_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn labels_are_pairs_and_everything_else_is_named() {
        let taken = labels("istio=egressgateway, example.com/tier=a,empty=").unwrap();
        assert_eq!(taken["example.com/tier"], "a");
        assert_eq!(taken["empty"], "");
        assert_eq!(labels("").unwrap().len(), 0);
        for bad in ["a=b c", "=b", "a/b/c=d", "#=x", "a=b=c", "a=-"] {
            assert!(labels(bad).is_err(), "{bad}");
        }
        assert!(annotations("a=b c,d=e=f").is_ok());
        assert!(annotations("#=b").is_err());
    }

    #[test]
    fn quantities_are_numbers_with_a_unit_or_none() {
        for good in ["100m", "0.5", "2", "64Mi", "1G"] {
            assert_eq!(quantity(good).unwrap().as_deref(), Some(good));
        }
        assert_eq!(quantity("none"), Ok(None));
        for bad in ["", "-1", "0", "1 Gi", "Mi", "1Xi", "1e3", "1..2", "inf"] {
            assert!(quantity(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_folder_in_the_container_leads_nowhere_else() {
        assert!(folder("/etc/bank").is_ok());
        for bad in [
            "",
            "/",
            "etc",
            "/etc/../root",
            "/a//b",
            "/a:b",
            "/a/",
            "/a\n",
        ] {
            assert!(folder(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_words_and_networks_have_their_bounds() {
        assert_eq!(count("3", 1, 3), Ok(3));
        assert!(count("4", 1, 3).is_err() && count("-1", 0, 3).is_err());
        assert!(port("0").is_err() && port("65536").is_err());
        assert_eq!(network("10.1.2.3/8").unwrap().to_string(), "10.0.0.0/8");
        assert!(network("10.0.0.0").is_err());
        assert_eq!(choice("a", &["a", "b"]), Ok("a"));
        assert!(choice("c", &["a", "b"]).is_err());
        assert!(image("registry.example:5000/a/sortie@sha256:00ff").is_ok());
        assert!(image("a b").is_err() && image("-a").is_err() && image("").is_err());
        assert!(variable("SORTIE_X=a=b,c").is_ok());
        assert!(variable("lower=1").is_err() && variable("X").is_err());
        assert!(list(&"a,".repeat(100), text).is_err());
    }
}
