//! Whether a request is one that a rule means, and which entry is the more specific one.
//!
//! Owns: compiled conditions (path, methods, headers) and the precedence of hosts and ports.
//! Never: looks a host up (that is `table`).
//! Called by: `table`.
//!
//! Why precedence is an `Ord` and not an if-chain: [`Specificity`] says it once; the table's
//! look-up is a quick way to the greatest, and a test holds the two against each other.

use std::borrow::Cow;
use std::fmt;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::text::{RegexError, Regexes, TextMatch};
use crate::model::{HeaderMatch, HostPattern, MatchSpec};

/// How specific an entry of the table is; of the entries that match, the greatest wins.
///
/// The host comes first (ISTIO.md H2): exact, then the longest wildcard, then `*`. Only then does
/// an entry with a port beat one without. So `a.example` for any port beats `*.example` for
/// port 80: whoever writes a name means that name on every port that he does not take out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Specificity {
    // Fields compare in the order they are written in.
    host: HostRank,
    has_port: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum HostRank {
    Any,
    /// Bytes of the suffix.
    Suffix(usize),
    Exact,
}

impl Specificity {
    /// The rank of an entry for `host` and `port`.
    pub fn of(host: &HostPattern, port: Option<u16>) -> Specificity {
        let host = match host {
            HostPattern::Exact(_) => HostRank::Exact,
            HostPattern::Suffix(suffix) => HostRank::Suffix(suffix.as_str().len()),
            HostPattern::Any => HostRank::Any,
        };
        Specificity {
            host,
            has_port: port.is_some(),
        }
    }
}

/// What a rule matched, as far as a rewrite needs to know (ISTIO.md V11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Matched {
    /// Bytes of the path that a prefix condition matched; `None` where the whole path counts.
    pub prefix: Option<usize>,
}

/// Conditions that must all hold.
#[derive(Debug)]
pub(super) struct Matcher {
    path: Option<TextMatch>,
    methods: Box<[Method]>,
    headers: Box<[(HeaderName, HeaderTest)]>,
}

#[derive(Debug)]
enum HeaderTest {
    Present,
    Absent,
    Value(TextMatch),
    Joined(TextMatch),
    NotJoined(TextMatch),
}

impl Matcher {
    /// Compiles `spec`, sharing equal expressions.
    pub(super) fn compile(spec: &MatchSpec, regexes: &mut Regexes) -> Result<Matcher, RegexError> {
        let path = match &spec.path {
            Some(path) => Some(TextMatch::compile(path, regexes)?),
            None => None,
        };
        let headers = spec
            .headers
            .iter()
            .map(|(name, test)| Ok((name.clone(), HeaderTest::compile(test, regexes)?)))
            .collect::<Result<_, RegexError>>()?;
        Ok(Matcher {
            path,
            methods: spec.methods.clone().into(),
            headers,
        })
    }

    /// What matched, or `None`. The path is compared without its query.
    pub(super) fn test(&self, parts: &Parts) -> Option<Matched> {
        let matched = match &self.path {
            None => Matched::default(),
            Some(text) => {
                if !text.matches(parts.uri.path().as_bytes()) {
                    return None;
                }
                let prefix = match text {
                    TextMatch::Prefix(prefix) => Some(prefix.len()),
                    TextMatch::Exact(_) | TextMatch::Regex(_) => None,
                };
                Matched { prefix }
            }
        };
        let method = self.methods.is_empty() || self.methods.contains(&parts.method);
        let holds = method
            && self
                .headers
                .iter()
                .all(|(name, test)| test.holds(name, &parts.headers));
        holds.then_some(matched)
    }
}

impl HeaderTest {
    fn compile(spec: &HeaderMatch, regexes: &mut Regexes) -> Result<HeaderTest, RegexError> {
        Ok(match spec {
            HeaderMatch::Present => HeaderTest::Present,
            HeaderMatch::Absent => HeaderTest::Absent,
            HeaderMatch::Value(text) => HeaderTest::Value(TextMatch::compile(text, regexes)?),
            HeaderMatch::Joined(text) => HeaderTest::Joined(TextMatch::compile(text, regexes)?),
            HeaderMatch::NotJoined(text) => {
                HeaderTest::NotJoined(TextMatch::compile(text, regexes)?)
            }
        })
    }

    /// Of several values any one may match.
    fn holds(&self, name: &HeaderName, headers: &HeaderMap) -> bool {
        match self {
            HeaderTest::Present => headers.contains_key(name),
            HeaderTest::Absent => !headers.contains_key(name),
            HeaderTest::Value(text) => headers
                .get_all(name)
                .iter()
                .any(|value| text.matches(value.as_bytes())),
            HeaderTest::Joined(text) => headers
                .get(name)
                .is_some_and(|_| text.matches(&joined(name, headers))),
            HeaderTest::NotJoined(text) => !text.matches(&joined(name, headers)),
        }
    }
}

/// All values of a header as one (RFC 9110 section 5.3); empty where there is none.
fn joined<'a>(name: &HeaderName, headers: &'a HeaderMap) -> Cow<'a, [u8]> {
    let mut values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let first = values.next().unwrap_or_default();
    values.fold(Cow::Borrowed(first), |all, value| {
        let mut all = all.into_owned();
        all.push(b',');
        all.extend_from_slice(value);
        Cow::Owned(all)
    })
}

impl fmt::Display for Matcher {
    /// `GET|PUT /path* x-name=value`, with `~` before a regular expression.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut gap = "";
        for (index, method) in self.methods.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "|" })?;
            f.write_str(method.as_str())?;
            gap = " ";
        }
        if let Some(path) = &self.path {
            write!(f, "{gap}{path}")?;
            gap = " ";
        }
        for (name, test) in &self.headers {
            match test {
                HeaderTest::Present => write!(f, "{gap}{name}")?,
                HeaderTest::Absent => write!(f, "{gap}!{name}")?,
                HeaderTest::Value(text) | HeaderTest::Joined(text) => {
                    write!(f, "{gap}{name}={text}")?;
                }
                HeaderTest::NotJoined(text) => write!(f, "{gap}{name}!={text}")?,
            }
            gap = " ";
        }
        if gap.is_empty() {
            f.write_str("always")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::parts;
    use super::*;
    use crate::model::StringMatch;

    fn test(spec: &MatchSpec, parts: &Parts) -> Option<Matched> {
        Matcher::compile(spec, &mut Regexes::default())
            .unwrap()
            .test(parts)
    }

    fn path(path: StringMatch) -> MatchSpec {
        MatchSpec {
            path: Some(path),
            ..MatchSpec::default()
        }
    }

    fn header(name: &'static str, test: HeaderMatch) -> MatchSpec {
        MatchSpec {
            headers: vec![(HeaderName::from_static(name), test)],
            ..MatchSpec::default()
        }
    }

    #[test]
    fn h2_the_host_counts_before_the_port() {
        let rank = |host: &str, port| Specificity::of(&HostPattern::parse(host).unwrap(), port);
        let falling = [
            rank("a.b.example", Some(80)),
            rank("a.b.example", None),
            rank("*.b.example", Some(80)),
            rank("*.b.example", None),
            rank("*.example", Some(80)),
            rank("*", Some(80)),
            rank("*", None),
        ];
        assert!(falling.is_sorted_by(|a, b| a > b));
    }

    #[test]
    fn v9_the_query_is_no_part_of_the_path() {
        let spec = path(StringMatch::Exact("/a".into()));
        let got = test(&spec, &parts("GET", "/a?b=c", &[]));
        assert_eq!(got, Some(Matched { prefix: None }));
        assert_eq!(test(&spec, &parts("GET", "/a/?b", &[])), None);
    }

    #[test]
    fn a_prefix_tells_how_much_it_matched() {
        let spec = path(StringMatch::Prefix("/foo".into()));
        let got = test(&spec, &parts("GET", "/foobar", &[]));
        assert_eq!(got, Some(Matched { prefix: Some(4) }));
    }

    #[test]
    fn a_method_is_any_one_of_those_named() {
        let spec = MatchSpec {
            methods: vec![Method::GET, Method::from_bytes(b"PURGE").unwrap()],
            ..MatchSpec::default()
        };
        assert!(test(&spec, &parts("PURGE", "/", &[])).is_some());
        assert!(test(&spec, &parts("POST", "/", &[])).is_none());
        // RFC 9110 section 9.1: methods are case-sensitive.
        assert!(test(&spec, &parts("get", "/", &[])).is_none());
    }

    #[test]
    fn of_several_values_of_a_header_any_one_may_match() {
        let spec = header(
            "x-tier",
            HeaderMatch::Value(StringMatch::Prefix("gold".into())),
        );
        let both = parts("GET", "/", &[("x-tier", "tin"), ("x-tier", "golden")]);
        assert!(test(&spec, &both).is_some());
        assert!(test(&spec, &parts("GET", "/", &[("x-tier", "tin")])).is_none());
        assert!(test(&spec, &parts("GET", "/", &[])).is_none());
    }

    #[test]
    fn a_header_may_have_to_be_there_or_not_to_be_there() {
        let there = parts("GET", "/", &[("x-debug", "")]);
        let gone = parts("GET", "/", &[]);
        let present = header("x-debug", HeaderMatch::Present);
        let absent = header("x-debug", HeaderMatch::Absent);
        assert!(test(&present, &there).is_some() && test(&present, &gone).is_none());
        assert!(test(&absent, &gone).is_some() && test(&absent, &there).is_none());
    }

    #[test]
    fn conditions_are_shown_in_words() {
        let spec = MatchSpec {
            path: Some(StringMatch::Regex("/a.*".into())),
            methods: vec![Method::GET, Method::PUT],
            ..header("x-debug", HeaderMatch::Absent)
        };
        let compiled = Matcher::compile(&spec, &mut Regexes::default()).unwrap();
        assert_eq!(compiled.to_string(), "GET|PUT ~/a.* !x-debug");
        let compiled = Matcher::compile(&MatchSpec::default(), &mut Regexes::default()).unwrap();
        assert_eq!(compiled.to_string(), "always");
    }

    #[test]
    fn conditions_of_one_match_must_all_hold() {
        let spec = MatchSpec {
            path: Some(StringMatch::Prefix("/a".into())),
            methods: vec![Method::GET],
            ..header("x-debug", HeaderMatch::Present)
        };
        let headers = [("x-debug", "1")];
        assert!(test(&spec, &parts("GET", "/a", &headers)).is_some());
        assert!(test(&spec, &parts("PUT", "/a", &headers)).is_none());
        assert!(test(&spec, &parts("GET", "/b", &headers)).is_none());
        assert!(test(&spec, &parts("GET", "/a", &[])).is_none());
    }
}
