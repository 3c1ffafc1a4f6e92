//! The compiled routing table: built once, then only read.
//!
//! Owns: every host pattern and port with its rules.
//! Never: answers a request itself, or changes after it was built.
//! Called by: publish (`build`), `proxy::forward` (`find`), admin (`entries`).
//!
//! Why hashing and not a list: a find costs one look-up for an exact host, one for each label that
//! a wildcard could end at, and nothing for the hosts that do not match, be they ten or 100,000.

use std::collections::HashMap;
use std::sync::Arc;

use http::request::Parts;

use super::matcher::{Matched, Specificity};
use super::rule::{Compiler, Route, Rule, RuleProblem};
use crate::model::{Destination, HostPattern, HostRoutes, Place};
use crate::upstream::Upstream;

/// Which rule a request meets. Immutable.
#[derive(Default)]
pub struct RouteTable {
    exact: HashMap<Box<str>, Ports>,
    /// Keyed by what follows `*.`.
    suffix: HashMap<Box<str>, Ports>,
    /// Lengths that a key of `suffix` has, so that no other length is ever hashed.
    suffix_lengths: Lengths,
    any: Ports,
}

/// The rules of one host pattern, by destination port.
#[derive(Default)]
struct Ports {
    any: Option<Arc<HostRules>>,
    /// Sorted by port once the table is built.
    exact: Vec<(u16, Arc<HostRules>)>,
}

/// The rules of one group of hosts, shared by its patterns.
struct HostRules {
    rules: Box<[Rule]>,
    place: Place,
}

/// A set of lengths from 0 to 255: a host has at most 253 bytes.
#[derive(Default)]
struct Lengths([u64; 4]);

/// What a find gives.
pub enum Found<'a> {
    /// The rule's route, and what a rewrite must know of the match.
    Route(&'a Route, Matched),
    /// The host is known, and none of its rules holds: 404 NR (ISTIO.md V7).
    NoRule,
    /// No entry for this host and port.
    UnknownHost,
}

/// One entry of the table, for people.
pub struct Entry<'a> {
    /// `name`, `*.suffix` or `*`.
    pub host: String,
    /// The port, where it is for one alone.
    pub port: Option<u16>,
    /// In the order tried.
    pub rules: &'a [Rule],
    /// Where its group was written.
    pub place: &'a Place,
}

/// Why a table cannot be built.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct RouteError {
    /// Where.
    pub place: Place,
    /// What.
    #[source]
    pub problem: RouteProblem,
}

/// What is wrong with an entry or a rule.
#[derive(Debug, thiserror::Error)]
pub enum RouteProblem {
    /// Two entries mean the same host and port.
    #[error("the host {host} on {} is already routed at {first}", on(*port))]
    Duplicate {
        /// The host pattern.
        host: String,
        /// The port; `None`: any.
        port: Option<u16>,
        /// Where it was written first.
        first: Place,
    },
    /// A group for no host.
    #[error("no host is named")]
    NoHost,
    /// One of the rules.
    #[error(transparent)]
    Rule(#[from] RuleProblem),
}

fn on(port: Option<u16>) -> String {
    port.map_or_else(|| "any port".to_owned(), |port| format!("port {port}"))
}

impl RouteTable {
    /// Compiles `hosts`. Every mistake is reported, not the first alone.
    ///
    /// Takes time and memory in proportion to what is written; hosts of one group share its rules.
    pub fn build(
        hosts: &[HostRoutes],
        upstreams: &HashMap<Arc<str>, Arc<Upstream>>,
    ) -> Result<RouteTable, Vec<RouteError>> {
        let mut compiler = Compiler::new(upstreams);
        let mut table = RouteTable::default();
        let mut errors = Vec::new();
        for group in hosts {
            let rules = Arc::new(compile_group(group, &mut compiler, &mut errors));
            for host in &group.hosts {
                if let Some(first) = table.insert(host, group.port, &rules) {
                    errors.push(RouteError {
                        place: group.place.clone(),
                        problem: RouteProblem::Duplicate {
                            host: host.to_string(),
                            port: group.port,
                            first: first.place.clone(),
                        },
                    });
                }
            }
        }
        if errors.is_empty() {
            table.exact.shrink_to_fit();
            Ok(table)
        } else {
            Err(errors)
        }
    }

    /// Adds an entry; gives the one that was there already.
    fn insert(
        &mut self,
        host: &HostPattern,
        port: Option<u16>,
        rules: &Arc<HostRules>,
    ) -> Option<Arc<HostRules>> {
        let ports = match host {
            HostPattern::Exact(name) => self.exact.entry(name.as_str().into()).or_default(),
            HostPattern::Suffix(suffix) => {
                self.suffix_lengths.insert(suffix.as_str().len());
                self.suffix.entry(suffix.as_str().into()).or_default()
            }
            HostPattern::Any => &mut self.any,
        };
        ports.insert(port, rules)
    }

    /// The route of a request for `destination`. Allocates nothing.
    ///
    /// Of the entries that match host and port the one of the greatest [`Specificity`] decides
    /// alone: where none of its rules holds, no other entry is asked (ISTIO.md V7).
    pub fn find(&self, destination: &Destination<'_>, parts: &Parts) -> Found<'_> {
        let Some(group) = self.entry(&destination.host, destination.port) else {
            return Found::UnknownHost;
        };
        for rule in &group.rules {
            if let Some(matched) = rule.test(parts) {
                return Found::Route(rule.route(), matched);
            }
        }
        Found::NoRule
    }

    fn entry(&self, host: &str, port: u16) -> Option<&HostRules> {
        let exact = self.exact.get(host).and_then(|ports| ports.find(port));
        exact
            .or_else(|| self.suffix_entry(host, port))
            .or_else(|| self.any.find(port))
    }

    /// Strips labels from the left, so that the longest suffix comes first (ISTIO.md H2).
    fn suffix_entry(&self, host: &str, port: u16) -> Option<&HostRules> {
        if self.suffix.is_empty() {
            return None;
        }
        let mut rest = host;
        while let Some((_, shorter)) = rest.split_once('.') {
            rest = shorter;
            if self.suffix_lengths.contains(rest.len())
                && let Some(found) = self.suffix.get(rest).and_then(|ports| ports.find(port))
            {
                return Some(found);
            }
        }
        None
    }

    /// Every entry, the most specific first, then by name. For people; costs a sort.
    pub fn entries(&self) -> Vec<Entry<'_>> {
        let exact = self
            .exact
            .iter()
            .map(|(host, ports)| (host.to_string(), ports));
        let suffix = self
            .suffix
            .iter()
            .map(|(host, ports)| (format!("*.{host}"), ports));
        let any = std::iter::once(("*".to_owned(), &self.any));
        let mut entries: Vec<_> = exact
            .chain(suffix)
            .chain(any)
            .flat_map(|(host, ports)| {
                ports
                    .all()
                    .map(move |(port, group)| (host.clone(), port, group))
            })
            .map(|(host, port, group)| Entry {
                host,
                port,
                rules: &group.rules,
                place: &group.place,
            })
            .collect();
        entries.sort_by_cached_key(|entry| {
            let rank = HostPattern::parse(&entry.host)
                .map(|host| Specificity::of(&host, entry.port))
                .ok();
            (std::cmp::Reverse(rank), entry.host.clone(), entry.port)
        });
        entries
    }
}

fn compile_group(
    group: &HostRoutes,
    compiler: &mut Compiler<'_>,
    errors: &mut Vec<RouteError>,
) -> HostRules {
    if group.hosts.is_empty() {
        errors.push(RouteError {
            place: group.place.clone(),
            problem: RouteProblem::NoHost,
        });
    }
    let mut rules = Vec::with_capacity(group.rules.len());
    for spec in &group.rules {
        match compiler.rule(spec) {
            Ok(rule) => rules.push(rule),
            Err(problem) => errors.push(RouteError {
                place: spec.place.clone(),
                problem: problem.into(),
            }),
        }
    }
    HostRules {
        rules: rules.into(),
        place: group.place.clone(),
    }
}

impl Ports {
    fn insert(&mut self, port: Option<u16>, rules: &Arc<HostRules>) -> Option<Arc<HostRules>> {
        let Some(port) = port else {
            return match &self.any {
                Some(first) => Some(Arc::clone(first)),
                None => {
                    self.any = Some(Arc::clone(rules));
                    None
                }
            };
        };
        match self.exact.binary_search_by_key(&port, |(port, _)| *port) {
            Ok(index) => self.exact.get(index).map(|(_, first)| Arc::clone(first)),
            Err(index) => {
                if self.exact.is_empty() {
                    // Mostly it stays the only one.
                    self.exact.reserve_exact(1);
                }
                self.exact.insert(index, (port, Arc::clone(rules)));
                None
            }
        }
    }

    /// An entry with the port beats one without.
    fn find(&self, port: u16) -> Option<&HostRules> {
        let exact = self.exact.binary_search_by_key(&port, |(port, _)| *port);
        let exact = exact.ok().and_then(|index| self.exact.get(index));
        exact
            .map(|(_, rules)| rules)
            .or(self.any.as_ref())
            .map(Arc::as_ref)
    }

    fn all(&self) -> impl Iterator<Item = (Option<u16>, &HostRules)> {
        let exact = self.exact.iter().map(|(port, rules)| (Some(*port), rules));
        let any = self.any.iter().map(|rules| (None, rules));
        exact.chain(any).map(|(port, rules)| (port, rules.as_ref()))
    }
}

impl Lengths {
    fn insert(&mut self, length: usize) {
        if let Some(word) = self.0.get_mut(length / 64) {
            *word |= 1 << (length % 64);
        }
    }

    fn contains(&self, length: usize) -> bool {
        self.0
            .get(length / 64)
            .is_some_and(|word| word & (1 << (length % 64)) != 0)
    }
}
