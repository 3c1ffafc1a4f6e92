//! Host names and host patterns, parsed once, so that every comparison is a plain one.
//!
//! Owns: the normal form: lower case, no trailing dot, no port, IPv6 without brackets.
//! Never: resolves anything.
//! Called by: config (patterns), proxy (the request's host), route (look-up), tls (server name).

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// A host in normal form: a DNS name in lower case without trailing dot, or an IP address. Clones
/// share the text: the route table holds 100,000 of them beside the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(Arc<str>);

/// Why a text is not a host. `Display` says what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing there.
    #[error("the host is empty")]
    Empty,
    /// Longer than DNS allows (RFC 1035 section 2.3.4).
    #[error("the host has {0} bytes; 253 is the most that DNS allows")]
    TooLong(usize),
    /// A label is empty or longer than 63 bytes.
    #[error("the label \"{0}\" must have 1 to 63 characters")]
    Label(String),
    /// A character that no host name has.
    #[error("the character {0:?} cannot stand in a host name")]
    Character(char),
    /// A star that does not stand alone as the first label.
    #[error("a wildcard is \"*\" or \"*.suffix\"; a star elsewhere means nothing")]
    Star,
}

impl Host {
    /// Parses and normalises. Accepts bracketed and bare IPv6. Underscores are let through, as
    /// internal names use them.
    pub fn parse(text: &str) -> Result<Host, HostError> {
        Host::normalise(text).map(|host| Host(host.as_ref().into()))
    }

    /// The same of a name that [`Host::is_plain`]; `None` of any other text, which may be a host all the same.
    pub fn plain(name: &str) -> Option<Host> {
        Host::is_plain(name.as_bytes()).then(|| Host(name.into()))
    }

    /// The normal form of `text`, borrowed when it is normal already (the common case per request).
    pub fn normalise(text: &str) -> Result<Cow<'_, str>, HostError> {
        if Host::is_plain(text.as_bytes()) {
            return Ok(Cow::Borrowed(text));
        }
        if let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
            return match inner.parse::<std::net::Ipv6Addr>() {
                Ok(ip) => Ok(Cow::Owned(ip.to_string())),
                Err(_) => Err(HostError::Character('[')),
            };
        }
        // No name without a colon that begins with a letter is an address.
        if (text.starts_with(|c: char| c.is_ascii_digit()) || text.contains(':'))
            && let Ok(ip) = text.parse::<IpAddr>()
        {
            return Ok(Cow::Owned(ip.to_string()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        check_name(name)?;
        if name.bytes().any(|b| b.is_ascii_uppercase()) {
            Ok(Cow::Owned(name.to_ascii_lowercase()))
        } else {
            Ok(Cow::Borrowed(name))
        }
    }

    /// True of a name in normal form that begins with a letter, which most are: nothing more is to
    /// be known of it. One pass, as every request asks.
    pub fn is_plain(name: &[u8]) -> bool {
        let letter = name.first().is_some_and(u8::is_ascii_lowercase);
        let small = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        letter && name.len() <= MAX_NAME && is_sound(name, small)
    }

    /// The host as text, in normal form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address, where the host is one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.0.parse().ok()
    }
}

impl Borrow<str> for Host {
    /// So that a map by host is asked with text in normal form.
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Bytes of a name (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 253;

fn check_name(name: &str) -> Result<(), HostError> {
    if name.is_empty() {
        return Err(HostError::Empty);
    }
    if name.len() > MAX_NAME {
        return Err(HostError::TooLong(name.len()));
    }
    let ordinary = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if is_sound(name.as_bytes(), ordinary) {
        return Ok(());
    }
    // What is wrong with it is worth a second look.
    for label in name.split('.') {
        if label.is_empty() || label.len() > 63 {
            return Err(HostError::Label(label.to_owned()));
        }
        for c in label.chars() {
            if c == '*' {
                return Err(HostError::Star);
            }
            if !(c.is_ascii_alphanumeric() || c == '-' || c == '_') {
                return Err(HostError::Character(c));
            }
        }
    }
    Ok(())
}

/// True where every label has 1 to 63 bytes that it may have.
fn is_sound(name: &[u8], may: impl Fn(&u8) -> bool) -> bool {
    let mut length = 0_usize;
    let sound = name.iter().all(|b| {
        if *b == b'.' {
            return (1..=63).contains(&std::mem::take(&mut length));
        }
        length += 1;
        may(b)
    });
    sound && (1..=63).contains(&length)
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a route may say of hosts (ISTIO.md H1): one name, every deeper name, or all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This host alone.
    Exact(Host),
    /// `*.suffix`: any deeper name, at any depth, but not the suffix itself. Holds the suffix.
    Suffix(Host),
    /// `*`: every host.
    Any,
}

impl HostPattern {
    /// Parses `name`, `*.name` or `*`.
    pub fn parse(text: &str) -> Result<HostPattern, HostError> {
        match text.strip_prefix("*.") {
            Some(suffix) => Host::parse(suffix).map(HostPattern::Suffix),
            None if text == "*" => Ok(HostPattern::Any),
            None => Host::parse(text).map(HostPattern::Exact),
        }
    }

    /// True where `host`, in normal form, is one that the pattern means.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            HostPattern::Exact(name) => name.as_str() == host,
            HostPattern::Suffix(suffix) => host
                .strip_suffix(suffix.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            HostPattern::Any => true,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Exact(host) => host.fmt(f),
            HostPattern::Suffix(suffix) => write!(f, "*.{suffix}"),
            HostPattern::Any => f.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_normal_after_parsing() {
        for (text, normal) in [
            ("Bank.Example", "bank.example"),
            ("bank.example.", "bank.example"),
            ("[::1]", "::1"),
            ("10.0.0.1", "10.0.0.1"),
            ("a_b", "a_b"),
        ] {
            assert_eq!(Host::parse(text).unwrap().as_str(), normal);
        }
    }

    #[test]
    fn a_plain_name_is_the_host_that_parsing_gives_and_no_other_text_is_one() {
        for text in ["a", "bank.example", "a-1.b_2"] {
            assert_eq!(Host::plain(text), Host::parse(text).ok(), "{text}");
        }
        for text in ["", "A", "a.", "10.0.0.1", "::1", "a..b", "*", "a:80", "1a"] {
            assert_eq!(Host::plain(text), None, "{text}");
        }
    }

    #[test]
    fn a_label_has_63_bytes_at_most_wherever_it_stands() {
        let label = "a".repeat(63);
        for text in [label.clone(), format!("{label}.b"), format!("b.{label}")] {
            assert!(Host::parse(&text).is_ok(), "{text}");
            assert!(Host::parse(&text.replacen('a', "aa", 1)).is_err(), "{text}");
        }
    }

    #[test]
    fn only_what_is_an_address_is_taken_for_one() {
        for (text, normal) in [
            ("010.0.0.1", "010.0.0.1"),
            ("1.2.3", "1.2.3"),
            ("10.0.0.1.", "10.0.0.1"),
            ("fe80::A", "fe80::a"),
            ("::ffff:1.2.3.4", "::ffff:1.2.3.4"),
        ] {
            assert_eq!(Host::parse(text).unwrap().as_str(), normal);
        }
    }

    #[test]
    fn a_host_with_a_stray_character_is_refused() {
        for text in [
            "", ".", "a..b", "a b", "a/b", "a@b", "a:80", "*x.com", "ex*mple",
        ] {
            assert!(Host::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn h1_a_suffix_means_deeper_names_and_not_itself() {
        let pattern = HostPattern::parse("*.foo.com").unwrap();
        assert!(pattern.matches("a.foo.com") && pattern.matches("a.b.foo.com"));
        assert!(!pattern.matches("foo.com") && !pattern.matches("afoo.com"));
        assert!(!pattern.matches(".foo.com"));
    }
}
