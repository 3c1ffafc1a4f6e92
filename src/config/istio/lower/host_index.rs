//! Things by host, found in a few look-ups however many there are.
//!
//! Owns: [`HostIndex`]: exact hosts first, then the longest wildcard (ISTIO.md H1, H2).
//! Never: knows what it holds.
//! Called by: registry (services), policy (DestinationRules), clusters (what was refused).

use std::collections::HashMap;

use crate::model::{Host, HostPattern};

/// Values by host pattern.
#[derive(Clone, Debug)]
pub struct HostIndex<T> {
    exact: HashMap<Host, T>,
    suffixes: HashMap<Host, T>,
    any: Option<T>,
}

impl<T> Default for HostIndex<T> {
    fn default() -> Self {
        HostIndex {
            exact: HashMap::new(),
            suffixes: HashMap::new(),
            any: None,
        }
    }
}

impl<T> HostIndex<T> {
    /// What is held for this very pattern, made where there is nothing yet.
    pub fn entry(&mut self, pattern: &HostPattern) -> &mut T
    where
        T: Default,
    {
        match pattern {
            HostPattern::Exact(host) => self.exact.entry(host.clone()).or_default(),
            HostPattern::Suffix(host) => self.suffixes.entry(host.clone()).or_default(),
            HostPattern::Any => self.any.get_or_insert_default(),
        }
    }

    /// What is held for this very pattern.
    pub fn exactly(&self, pattern: &HostPattern) -> Option<&T> {
        match pattern {
            HostPattern::Exact(host) => self.exact.get(host),
            HostPattern::Suffix(host) => self.suffixes.get(host),
            HostPattern::Any => self.any.as_ref(),
        }
    }

    /// What is held for this host, or for the longest wildcard that covers it.
    pub fn most_specific(&self, pattern: &HostPattern) -> Option<&T> {
        self.covering(pattern).next()
    }

    /// All that is held for patterns which cover this one, the most specific first.
    pub fn covering<'a, 'b>(
        &'a self,
        pattern: &'b HostPattern,
    ) -> impl Iterator<Item = &'a T> + use<'a, 'b, T> {
        let text = match pattern {
            HostPattern::Exact(host) | HostPattern::Suffix(host) => host.as_str(),
            HostPattern::Any => "",
        };
        // The text itself is the suffix of a pattern, and never that of a name.
        let own = match pattern {
            HostPattern::Suffix(_) => Some(text),
            HostPattern::Exact(_) | HostPattern::Any => None,
        };
        let dots = text
            .match_indices('.')
            .filter_map(|(at, _)| text.get(at + 1..));
        let suffixes = own.into_iter().chain(dots);
        let exact = match pattern {
            HostPattern::Exact(host) => self.exact.get(host),
            HostPattern::Suffix(_) | HostPattern::Any => None,
        };
        exact
            .into_iter()
            .chain(suffixes.filter_map(|suffix| self.suffixes.get(suffix)))
            .chain(&self.any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(patterns: &[&str]) -> HostIndex<String> {
        let mut index = HostIndex::default();
        for text in patterns {
            *index.entry(&HostPattern::parse(text).unwrap()) = (*text).to_owned();
        }
        index
    }

    #[test]
    fn h2_exact_comes_first_and_then_the_longest_wildcard() {
        let index = index(&["*", "*.com", "*.foo.com", "a.foo.com"]);
        for (asked, found) in [
            ("a.foo.com", "a.foo.com"),
            ("b.foo.com", "*.foo.com"),
            ("x.b.foo.com", "*.foo.com"),
            ("foo.com", "*.com"),
            ("com", "*"),
            ("*.foo.com", "*.foo.com"),
            ("*.b.foo.com", "*.foo.com"),
            ("*.bar.com", "*.com"),
            ("*", "*"),
        ] {
            let pattern = HostPattern::parse(asked).unwrap();
            assert_eq!(index.most_specific(&pattern).unwrap(), found, "{asked}");
        }
    }

    #[test]
    fn h1_a_wildcard_does_not_cover_its_own_suffix_or_a_wider_wildcard() {
        let index = index(&["*.foo.com"]);
        for asked in ["foo.com", "xfoo.com", "*.com", "*", "com"] {
            let pattern = HostPattern::parse(asked).unwrap();
            assert_eq!(index.most_specific(&pattern), None, "{asked}");
        }
        let pattern = HostPattern::parse("a.foo.com").unwrap();
        assert_eq!(index.exactly(&pattern), None);
    }
}
