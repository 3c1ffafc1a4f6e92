//! Whether a request is one that a rule means, and which entry is the more specific one.
//!
//! Owns: compiled conditions and the precedence of hosts and ports.
//! Never: looks a host up (that is `table`).
//! Called by: `table`.
//!
//! Why some conditions are boxed: method expressions, schemes, authorities and queries are rare,
//! and a table may hold 100,000 rules without them.
//!
//! Why precedence is an `Ord` and not an if-chain: [`Specificity`] says it once; the table's
//! look-up is a quick way to the greatest, and a test holds the two against each other.

use std::borrow::Cow;
use std::fmt;

use http::{HeaderName, Method};

use super::redirect::Scheme;
use super::text::{RegexError, Regexes, TextMatch};
use crate::message::{Fields, Known, RequestHead, Value};
use crate::model::{HeaderMatch, HostPattern, MatchSpec, QueryMatch, StringMatch};

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
    rare: Option<Box<Rare>>,
}

/// Conditions that few rules have.
#[derive(Debug)]
struct Rare {
    method: Option<TextMatch>,
    scheme: Option<TextMatch>,
    authority: Option<TextMatch>,
    query: Box<[(Box<str>, QueryTest)]>,
}

#[derive(Debug)]
enum QueryTest {
    Present,
    Value(TextMatch),
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
            Some(path) if spec.path_ignores_case => {
                Some(TextMatch::compile(path, regexes)?.any_case())
            }
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
            rare: Rare::compile(spec, regexes)?.map(Box::new),
        })
    }

    /// What matched, or `None`. The path is compared without its query.
    pub(super) fn test(&self, parts: &RequestHead, scheme: Scheme) -> Option<Matched> {
        let matched = match &self.path {
            None => Matched::default(),
            Some(text) => {
                if !text.matches(parts.uri.path().as_bytes()) {
                    return None;
                }
                Matched {
                    prefix: text.prefix(),
                }
            }
        };
        let method = self.methods.is_empty() || self.methods.contains(&parts.method);
        let holds = method
            && self
                .headers
                .iter()
                .all(|(name, test)| test.holds(name, &parts.headers))
            && self
                .rare
                .as_ref()
                .is_none_or(|rare| rare.holds(parts, scheme));
        holds.then_some(matched)
    }
}

impl Rare {
    fn compile(spec: &MatchSpec, regexes: &mut Regexes) -> Result<Option<Rare>, RegexError> {
        let mut text = |spec: &Option<StringMatch>| {
            let compiled = spec.as_ref().map(|one| TextMatch::compile(one, regexes));
            compiled.transpose()
        };
        let (method, scheme) = (text(&spec.method)?, text(&spec.scheme)?);
        let authority = match &spec.authority {
            Some(StringMatch::Regex(pattern)) => {
                Some(TextMatch::Regex(regexes.whole_any_case(pattern)?))
            }
            other => text(other)?.map(TextMatch::any_case),
        };
        let query = spec
            .query
            .iter()
            .map(|(name, test)| {
                let test = match test {
                    QueryMatch::Present => QueryTest::Present,
                    QueryMatch::Value(text) => QueryTest::Value(TextMatch::compile(text, regexes)?),
                };
                Ok((name.as_str().into(), test))
            })
            .collect::<Result<Box<[_]>, RegexError>>()?;
        let none = method.is_none() && scheme.is_none() && authority.is_none() && query.is_empty();
        let rare = Rare {
            method,
            scheme,
            authority,
            query,
        };
        Ok((!none).then_some(rare))
    }

    fn holds(&self, parts: &RequestHead, scheme: Scheme) -> bool {
        let is = |test: &Option<TextMatch>, text: &[u8]| {
            test.as_ref().is_none_or(|test| test.matches(text))
        };
        is(&self.method, parts.method.as_str().as_bytes())
            && is(&self.scheme, scheme.as_str().as_bytes())
            && is(&self.authority, authority(parts))
            && self
                .query
                .iter()
                .all(|(name, test)| test.holds(name, parts.uri.query()))
    }
}

/// The authority as the client wrote it (RFC 9112 section 3.2.2); empty where there is none.
fn authority(parts: &RequestHead) -> &[u8] {
    match parts.uri.authority() {
        Some(authority) => authority.as_str().as_bytes(),
        None => parts
            .headers
            .get(Known::Host)
            .map(Value::as_bytes)
            .unwrap_or_default(),
    }
}

impl QueryTest {
    /// Of several values the first counts; nothing is decoded (ISTIO.md V9).
    fn holds(&self, name: &str, query: Option<&str>) -> bool {
        let mut pairs = query.unwrap_or_default().split('&');
        let value = pairs.find_map(|pair| match pair.split_once('=') {
            Some((key, value)) => (key == name).then_some(value),
            None => (pair == name).then_some(""),
        });
        match (self, value) {
            (_, None) => false,
            (QueryTest::Present, Some(_)) => true,
            (QueryTest::Value(text), Some(value)) => text.matches(value.as_bytes()),
        }
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
    fn holds(&self, name: &HeaderName, headers: &Fields) -> bool {
        match self {
            HeaderTest::Present => headers.contains_key(name),
            HeaderTest::Absent => !headers.contains_key(name),
            HeaderTest::Value(text) => headers
                .get_all(name)
                .any(|value| text.matches(value.as_bytes())),
            HeaderTest::Joined(text) => headers
                .get(name)
                .is_some_and(|_| text.matches(&joined(name, headers))),
            HeaderTest::NotJoined(text) => !text.matches(&joined(name, headers)),
        }
    }
}

/// All values of a header as one (RFC 9110 section 5.3); empty where there is none.
fn joined<'a>(name: &'a HeaderName, headers: &'a Fields) -> Cow<'a, [u8]> {
    let mut values = headers.get_all(name).map(Value::as_bytes);
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
        if let Some(rare) = &self.rare {
            write!(f, "{gap}{rare}")?;
            gap = " ";
        }
        if gap.is_empty() {
            f.write_str("always")?;
        }
        Ok(())
    }
}

impl fmt::Display for Rare {
    /// `:method=P* :scheme=http :authority=a.example ?name=value ?there`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut gap = "";
        let named = [
            (":method", &self.method),
            (":scheme", &self.scheme),
            (":authority", &self.authority),
        ];
        for (name, test) in named {
            if let Some(test) = test {
                write!(f, "{gap}{name}={test}")?;
                gap = " ";
            }
        }
        for (name, test) in &self.query {
            match test {
                QueryTest::Present => write!(f, "{gap}?{name}")?,
                QueryTest::Value(text) => write!(f, "{gap}?{name}={text}")?,
            }
            gap = " ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::parts;
    use super::*;
    use crate::model::StringMatch;

    fn test(spec: &MatchSpec, parts: &RequestHead) -> Option<Matched> {
        Matcher::compile(spec, &mut Regexes::default())
            .unwrap()
            .test(parts, Scheme::Http)
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
    fn v9_a_path_may_ignore_case_and_still_tells_what_it_matched() {
        let spec = MatchSpec {
            path_ignores_case: true,
            ..path(StringMatch::Prefix("/Foo".into()))
        };
        let got = test(&spec, &parts("GET", "/fOObar", &[]));
        assert_eq!(got, Some(Matched { prefix: Some(4) }));
        assert_eq!(test(&spec, &parts("GET", "/fo", &[])), None);
        let sensitive = path(StringMatch::Prefix("/Foo".into()));
        assert_eq!(test(&sensitive, &parts("GET", "/foobar", &[])), None);
    }

    #[test]
    fn v9_a_method_may_be_a_text_to_match() {
        let spec = MatchSpec {
            method: Some(StringMatch::Regex("P(U|OS)T".into())),
            ..MatchSpec::default()
        };
        assert!(test(&spec, &parts("PUT", "/", &[])).is_some());
        assert!(test(&spec, &parts("POST", "/", &[])).is_some());
        assert!(test(&spec, &parts("PATCH", "/", &[])).is_none());
        assert!(test(&spec, &parts("put", "/", &[])).is_none());
    }

    #[test]
    fn v9_a_scheme_is_how_the_client_spoke_to_us() {
        let scheme = |text: &str| MatchSpec {
            scheme: Some(StringMatch::Exact(text.into())),
            ..MatchSpec::default()
        };
        assert!(test(&scheme("http"), &parts("GET", "/", &[])).is_some());
        assert!(test(&scheme("https"), &parts("GET", "/", &[])).is_none());
        let compiled = Matcher::compile(&scheme("https"), &mut Regexes::default()).unwrap();
        let secured = compiled.test(&parts("GET", "/", &[]), Scheme::Https);
        assert!(secured.is_some());
    }

    #[test]
    fn v9_an_authority_is_compared_as_the_client_wrote_it_but_for_case() {
        let authority = |text: StringMatch| MatchSpec {
            authority: Some(text),
            ..MatchSpec::default()
        };
        let exact = authority(StringMatch::Exact("Bank.example:8080".into()));
        let regex = authority(StringMatch::Regex(r"bank\.EXAMPLE(:\d+)?".into()));
        let prefix = authority(StringMatch::Prefix("bank.".into()));
        for spec in [&exact, &regex, &prefix] {
            let host = [("host", "BANK.example:8080")];
            assert!(test(spec, &parts("GET", "/", &host)).is_some());
            // The absolute form wins over the header (RFC 9112 section 3.2.2).
            let other = [("host", "other.example")];
            let absolute = parts("GET", "http://bank.example:8080/", &other);
            assert!(test(spec, &absolute).is_some());
            assert!(test(spec, &parts("GET", "/", &other)).is_none());
            assert!(test(spec, &parts("GET", "/", &[])).is_none());
        }
        let no_port = parts("GET", "/", &[("host", "bank.example")]);
        assert!(test(&exact, &no_port).is_none());
        assert!(test(&regex, &no_port).is_some());
    }

    #[test]
    fn v9_of_a_query_the_first_value_counts_as_it_stands() {
        let query = |name: &str, test: QueryMatch| MatchSpec {
            query: vec![(name.into(), test)],
            ..MatchSpec::default()
        };
        let value = |text: &str| QueryMatch::Value(StringMatch::Exact(text.into()));
        let holds = |spec: &MatchSpec, uri: &str| test(spec, &parts("GET", uri, &[])).is_some();
        let is = query("a", value("x%20y"));
        assert!(holds(&is, "/?b=1&a=x%20y&a=2"));
        assert!(!holds(&is, "/?a=2&a=x%20y"));
        assert!(!holds(&is, "/?a=x+y") && !holds(&is, "/?A=x%20y") && !holds(&is, "/"));
        let there = query("a", QueryMatch::Present);
        assert!(holds(&there, "/?a") && holds(&there, "/?a=") && holds(&there, "/?b&a=1"));
        assert!(!holds(&there, "/?ab=1") && !holds(&there, "/?b=a") && !holds(&there, "/a"));
        assert!(holds(&query("a", value("")), "/?a"));
        let (prefix, regex) = (
            query("a", QueryMatch::Value(StringMatch::Prefix("v1".into()))),
            query("a", QueryMatch::Value(StringMatch::Regex("v[0-9]".into()))),
        );
        assert!(holds(&prefix, "/?a=v12") && !holds(&regex, "/?a=v12"));
    }

    #[test]
    fn v9_headers_are_compared_joined_and_an_absent_one_is_no_empty_text() {
        let joined = header("x-a", HeaderMatch::Joined(StringMatch::Exact("1,2".into())));
        assert!(test(&joined, &parts("GET", "/", &[("x-a", "1"), ("x-a", "2")])).is_some());
        assert!(test(&joined, &parts("GET", "/", &[("x-a", "1,2")])).is_some());
        assert!(test(&joined, &parts("GET", "/", &[("x-a", "1")])).is_none());
        let any = header("x-a", HeaderMatch::Joined(StringMatch::Prefix("".into())));
        assert!(test(&any, &parts("GET", "/", &[("x-a", "")])).is_some());
        assert!(test(&any, &parts("GET", "/", &[])).is_none());
    }

    #[test]
    fn v9_without_headers_holds_where_the_header_is_absent_or_different() {
        let not = |text: &str| {
            header(
                "x-a",
                HeaderMatch::NotJoined(StringMatch::Exact(text.into())),
            )
        };
        assert!(test(&not("1"), &parts("GET", "/", &[])).is_some());
        assert!(test(&not("1"), &parts("GET", "/", &[("x-a", "2")])).is_some());
        assert!(test(&not("1"), &parts("GET", "/", &[("x-a", "1")])).is_none());
        // Absent counts as empty text.
        assert!(test(&not(""), &parts("GET", "/", &[])).is_none());
    }

    #[test]
    fn conditions_are_shown_in_words() {
        let rare = MatchSpec {
            method: Some(StringMatch::Prefix("P".into())),
            authority: Some(StringMatch::Regex("a|b".into())),
            query: vec![
                ("q".into(), QueryMatch::Present),
                (
                    "v".into(),
                    QueryMatch::Value(StringMatch::Exact("1".into())),
                ),
            ],
            path_ignores_case: true,
            ..path(StringMatch::Exact("/A".into()))
        };
        let compiled = Matcher::compile(&rare, &mut Regexes::default()).unwrap();
        assert_eq!(
            compiled.to_string(),
            "/A (any case) :method=P* :authority=~a|b ?q ?v=1"
        );
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
