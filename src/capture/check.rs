//! Are the rules there, exactly?
//!
//! Owns: the comparison of what is wanted with what there is.
//! Never: changes anything.
//! Called by: cli (`sortie capture check`), `apply` (what is there already is left alone).

use super::expression::expressions;
use super::nftables::{self, hook, name};
use super::rules::{Family, Listed, Ruleset, TABLE};
use super::wire::Found;
use super::words::words;

/// What is between the rules that are wanted and those that are there.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// Wanted, and not there.
    pub missing: Vec<String>,
    /// There, and not wanted.
    pub extra: Vec<String>,
}

impl Difference {
    /// True where the rules are there exactly.
    pub fn is_none(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty()
    }

    /// Puts another behind this one.
    pub fn and(&mut self, other: Difference) {
        self.missing.extend(other.missing);
        self.extra.extend(other.extra);
    }
}

/// Compares our table of one family with what the kernel has of it.
pub fn difference(wanted: &Ruleset, found: &[Found]) -> Difference {
    let mut difference = Difference::default();
    for listed in &wanted.chains {
        let called = name(listed.table, listed.chain);
        match found.iter().find(|chain| chain.name == called) {
            None => difference
                .missing
                .push(format!("chain {}", place(wanted.family, called))),
            Some(chain) => difference.and(of_chain(wanted.family, listed, chain)),
        }
    }
    for chain in found {
        let known = |one: &&Listed| name(one.table, one.chain) == chain.name;
        if wanted.chains.iter().find(known).is_none() {
            let extra = format!("chain {}", place(wanted.family, &chain.name));
            difference.extra.push(extra);
        }
    }
    difference
}

fn place(family: Family, chain: &str) -> String {
    format!("{} {TABLE} {chain}", family.word())
}

fn of_chain(family: Family, listed: &Listed, chain: &Found) -> Difference {
    let mut difference = Difference::default();
    let at = place(family, &chain.name);
    let hook = hook(listed.table, listed.chain);
    let hook = hook.map(|hook| (hook.kind.to_owned(), hook.number, hook.priority));
    if hook != chain.hook {
        difference.missing.push(format!("chain {at}: its hook"));
    }
    let wanted = listed.rules.iter().map(|rule| {
        let said = format!("{at}: {}", nftables::rule(rule, family));
        (expressions(rule, family), said)
    });
    let there = chain.rules.iter().map(|steps| {
        let said = format!("{at}: {}", words(steps, family));
        (steps.clone(), said)
    });
    difference.and(compared(wanted.collect(), there.collect(), &at));
    difference
}

/// Lists in which each entry has its words: what only one has, and whether the order is another.
pub fn compared<T: PartialEq>(
    wanted: Vec<(T, String)>,
    there: Vec<(T, String)>,
    at: &str,
) -> Difference {
    let same = wanted.len() == there.len()
        && wanted
            .iter()
            .zip(&there)
            .all(|(one, other)| one.0 == other.0);
    if same {
        return Difference::default();
    }
    let mut left = there;
    let mut missing = Vec::new();
    for (value, words) in wanted {
        match left.iter().position(|(other, _)| *other == value) {
            Some(found) => drop(left.remove(found)),
            None => missing.push(words),
        }
    }
    let extra: Vec<String> = left.into_iter().map(|(_, words)| words).collect();
    if missing.is_empty() && extra.is_empty() {
        missing.push(format!("{at}: the order of its rules"));
    }
    Difference { missing, extra }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Vec<(String, String)> {
        let pair = |word: &&str| ((*word).to_owned(), format!("rule {word}"));
        words.iter().map(pair).collect()
    }

    #[test]
    fn c10_the_same_rules_differ_in_nothing() {
        assert!(compared(of(&["a", "b", "a"]), of(&["a", "b", "a"]), "chain").is_none());
    }

    #[test]
    fn c10_one_of_two_like_rules_is_missed() {
        let difference = compared(of(&["a", "b", "a"]), of(&["a", "c"]), "chain");
        assert_eq!(difference.missing, ["rule b", "rule a"]);
        assert_eq!(difference.extra, ["rule c"]);
    }

    #[test]
    fn c10_another_order_is_a_difference() {
        let difference = compared(of(&["a", "b"]), of(&["b", "a"]), "chain x");
        assert_eq!(difference.missing, ["chain x: the order of its rules"]);
    }
}
