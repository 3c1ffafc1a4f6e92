//! How one text is compared with what a rule says (ISTIO.md V9).
//!
//! Owns: compiled comparisons, and regular expressions compiled once each.
//! Never: compiles anything while a request waits.
//! Called by: `matcher` and `rewrite`.
//!
//! Why bytes: a header value may hold bytes beyond ASCII (RFC 9110 section 5.5).

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};

use crate::model::{REGEX_SIZE_LIMIT, StringMatch};

/// Bytes that one expression's lazy automaton may take per thread.
const REGEX_CACHE_LIMIT: usize = 1 << 19;

/// What is put around an expression that must match the whole text.
const WHOLE: (&str, &str) = (r"\A(?:", r")\z");

/// What is put before an expression that does not regard case.
const ANY_CASE: &str = "(?i)";

/// Why a regular expression cannot be used (ISTIO.md X8).
#[derive(Debug, thiserror::Error)]
#[error("the regular expression {pattern:?} cannot be used")]
pub struct RegexError {
    /// As written.
    pub pattern: String,
    /// What the compiler says.
    #[source]
    pub source: regex::Error,
}

/// A compiled comparison.
#[derive(Debug)]
pub(super) enum TextMatch {
    /// The same bytes.
    Exact(Box<[u8]>),
    /// Begins with these bytes; `/foo` also matches `/foobar` (ISTIO.md V9).
    Prefix(Box<[u8]>),
    /// `Exact`, ASCII letters compared without regard to case.
    ExactAnyCase(Box<[u8]>),
    /// `Prefix`, likewise.
    PrefixAnyCase(Box<[u8]>),
    /// The whole text matches.
    Regex(Arc<Regex>),
}

impl TextMatch {
    /// Compiles `spec`, sharing equal expressions.
    pub(super) fn compile(
        spec: &StringMatch,
        regexes: &mut Regexes,
    ) -> Result<TextMatch, RegexError> {
        Ok(match spec {
            StringMatch::Exact(text) => TextMatch::Exact(text.as_bytes().into()),
            StringMatch::Prefix(text) => TextMatch::Prefix(text.as_bytes().into()),
            StringMatch::Regex(pattern) => TextMatch::Regex(regexes.whole(pattern)?),
        })
    }

    /// The same without regard to case; an expression says that itself (ISTIO.md V9).
    pub(super) fn any_case(self) -> TextMatch {
        match self {
            TextMatch::Exact(text) => TextMatch::ExactAnyCase(text),
            TextMatch::Prefix(text) => TextMatch::PrefixAnyCase(text),
            other => other,
        }
    }

    /// Bytes of the prefix that it looks for; `None` where it is not by prefix.
    pub(super) fn prefix(&self) -> Option<usize> {
        match self {
            TextMatch::Prefix(prefix) | TextMatch::PrefixAnyCase(prefix) => Some(prefix.len()),
            TextMatch::Exact(_) | TextMatch::ExactAnyCase(_) | TextMatch::Regex(_) => None,
        }
    }

    /// True where `text` is what the rule means.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        match self {
            TextMatch::ExactAnyCase(expected) => text.eq_ignore_ascii_case(expected),
            TextMatch::PrefixAnyCase(prefix) => text
                .get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix)),
            TextMatch::Exact(expected) => text == expected.as_ref(),
            TextMatch::Prefix(prefix) => text.starts_with(prefix),
            TextMatch::Regex(regex) => regex.is_match(text),
        }
    }
}

impl fmt::Display for TextMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TextMatch::Exact(text) => f.write_str(&String::from_utf8_lossy(text)),
            TextMatch::Prefix(text) => write!(f, "{}*", String::from_utf8_lossy(text)),
            TextMatch::ExactAnyCase(text) => {
                write!(f, "{} (any case)", String::from_utf8_lossy(text))
            }
            TextMatch::PrefixAnyCase(text) => {
                write!(f, "{}* (any case)", String::from_utf8_lossy(text))
            }
            TextMatch::Regex(regex) => {
                let whole = regex.as_str();
                let whole = whole.strip_prefix(ANY_CASE).unwrap_or(whole);
                let inner = whole
                    .strip_prefix(WHOLE.0)
                    .and_then(|t| t.strip_suffix(WHOLE.1));
                write!(f, "~{}", inner.unwrap_or(whole))
            }
        }
    }
}

/// Every expression of one table, compiled once however often it is written.
#[derive(Default)]
pub(super) struct Regexes {
    whole: HashMap<Box<str>, Arc<Regex>>,
    whole_any_case: HashMap<Box<str>, Arc<Regex>>,
    within: HashMap<Box<str>, Arc<Regex>>,
}

impl Regexes {
    /// An expression that must match the whole text (ISTIO.md V9).
    pub(super) fn whole(&mut self, pattern: &str) -> Result<Arc<Regex>, RegexError> {
        intern(&mut self.whole, pattern, |pattern| {
            // Alone first, so that `a)|(b` cannot pass as a part of what is put around it.
            compile(pattern)?;
            compile(&[WHOLE.0, pattern, WHOLE.1].concat())
        })
    }

    /// The same without regard to case.
    pub(super) fn whole_any_case(&mut self, pattern: &str) -> Result<Arc<Regex>, RegexError> {
        intern(&mut self.whole_any_case, pattern, |pattern| {
            compile(pattern)?;
            compile(&[ANY_CASE, WHOLE.0, pattern, WHOLE.1].concat())
        })
    }

    /// An expression that is looked for anywhere in the text.
    pub(super) fn within(&mut self, pattern: &str) -> Result<Arc<Regex>, RegexError> {
        intern(&mut self.within, pattern, compile)
    }
}

fn intern(
    known: &mut HashMap<Box<str>, Arc<Regex>>,
    pattern: &str,
    compile: impl FnOnce(&str) -> Result<Regex, regex::Error>,
) -> Result<Arc<Regex>, RegexError> {
    if let Some(regex) = known.get(pattern) {
        return Ok(Arc::clone(regex));
    }
    let regex = compile(pattern).map_err(|source| RegexError {
        pattern: pattern.to_owned(),
        source,
    })?;
    let regex = Arc::new(regex);
    known.insert(pattern.into(), Arc::clone(&regex));
    Ok(regex)
}

fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern)
        .size_limit(REGEX_SIZE_LIMIT)
        .dfa_size_limit(REGEX_CACHE_LIMIT)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(spec: StringMatch, text: &str) -> bool {
        TextMatch::compile(&spec, &mut Regexes::default())
            .unwrap()
            .matches(text.as_bytes())
    }

    #[test]
    fn v9_a_prefix_is_a_plain_string_prefix() {
        assert!(matches(StringMatch::Prefix("/foo".into()), "/foobar"));
        assert!(!matches(StringMatch::Prefix("/foo".into()), "/fo"));
        assert!(!matches(StringMatch::Exact("/foo".into()), "/foobar"));
    }

    #[test]
    fn v9_ignoring_case_is_for_exact_and_prefix_and_never_for_a_regex() {
        let any_case = |spec: StringMatch, text: &str| {
            let compiled = TextMatch::compile(&spec, &mut Regexes::default()).unwrap();
            compiled.any_case().matches(text.as_bytes())
        };
        assert!(any_case(StringMatch::Exact("/Foo".into()), "/fOO"));
        assert!(!any_case(StringMatch::Exact("/Foo".into()), "/fOOd"));
        assert!(any_case(StringMatch::Prefix("/Foo".into()), "/fOOd"));
        assert!(!any_case(StringMatch::Prefix("/Foo".into()), "/fO"));
        assert!(!any_case(StringMatch::Regex("/Foo".into()), "/foo"));
        let mut regexes = Regexes::default();
        let host = TextMatch::Regex(regexes.whole_any_case("A|ab").unwrap());
        assert!(host.matches(b"AB") && !host.matches(b"abc"));
        assert_eq!(host.to_string(), "~A|ab");
    }

    #[test]
    fn v9_a_regex_matches_the_whole_text() {
        let regex = |pattern: &str| StringMatch::Regex(pattern.into());
        assert!(matches(regex("a|ab"), "ab"));
        assert!(matches(regex("/v[0-9]+/.*"), "/v12/x"));
        assert!(!matches(regex("/v[0-9]+"), "/v12/x"));
        assert!(!matches(regex("b"), "abc"));
        assert!(!matches(regex("(?m)^a$"), "a\nb"));
    }

    #[test]
    fn x8_a_regex_that_does_not_compile_or_is_too_large_is_refused() {
        for pattern in ["(", "a)|(b", r"(\w{500}){500}", "a{99999}"] {
            assert!(Regexes::default().whole(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn equal_regexes_are_compiled_once() {
        let mut regexes = Regexes::default();
        let first = regexes.whole("/a.*").unwrap();
        assert!(Arc::ptr_eq(&first, &regexes.whole("/a.*").unwrap()));
        assert!(!Arc::ptr_eq(&first, &regexes.whole("/b.*").unwrap()));
    }
}
