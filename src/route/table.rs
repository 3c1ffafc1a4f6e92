//! The compiled routing table: built once, then only read.
//!
//! Owns: every host pattern and port with its rules.
//! Never: answers a request itself, or changes after it was built.
//! Called by: publish (`build`), `proxy::forward` (`find`), admin (`entries`).
//!
//! Why hashing and not a list: a find costs one look-up for an exact host, one for each label that
//! a wildcard could end at, and nothing for the hosts that do not match, be they ten or 100,000.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::groups::{Group, Groups, Hit, Making};
use super::hosts::{Exact, Lengths, Ports};
use super::matcher::{Matched, Specificity};
use super::redirect::Scheme;
use super::rule::{Rule, RuleProblem};
use crate::message::RequestHead;
use crate::model::{Destination, Host, HostPattern, HostRoutes, NameMap, Place};
use crate::upstream::Upstream;

/// Which rule a request meets. Immutable.
#[derive(Default)]
pub struct RouteTable {
    exact: Exact,
    /// Keyed by what follows `*.`.
    suffix: NameMap<Host, Ports>,
    /// Lengths that a key of `suffix` has, so that no other length is ever hashed.
    suffix_lengths: Lengths,
    any: Ports,
    /// Ports that an entry names, and whether one names none.
    ports: HashSet<u16>,
    any_port: bool,
    groups: Groups,
}

/// Whether HTTP is routed on a port (ISTIO.md V20).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostsOn {
    /// Some entry names this port.
    This,
    /// No entry names it, but some are for every port.
    Any,
    /// No entry.
    None,
}

/// What a find gives.
pub enum Found<'a> {
    /// The rule's route, and what a rewrite must know of the match.
    Route(Hit<'a>, Matched),
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
    pub place: Place,
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
        let exact = |host: &&HostPattern| matches!(host, HostPattern::Exact(_));
        let names = hosts.iter().flat_map(|group| &group.hosts).filter(exact);
        let mut table = RouteTable {
            exact: Exact::with_capacity(names.count()),
            groups: Groups::with_capacity(hosts.len()),
            ..RouteTable::default()
        };
        let mut making = Making::new(upstreams);
        for group in hosts {
            let number = table.groups.add(group, &mut making);
            for host in &group.hosts {
                if let Some(first) = table.insert(host, group.port, number) {
                    making.errors.push(RouteError {
                        place: group.place.clone(),
                        problem: RouteProblem::Duplicate {
                            host: host.to_string(),
                            port: group.port,
                            first: table.groups.place(first),
                        },
                    });
                }
            }
        }
        table.exact.shrink();
        table.groups.shrink();
        if making.errors.is_empty() {
            Ok(table)
        } else {
            Err(making.errors)
        }
    }

    /// Adds an entry; gives the one that was there already.
    fn insert(&mut self, host: &HostPattern, port: Option<u16>, group: u32) -> Option<u32> {
        match port {
            Some(port) => drop(self.ports.insert(port)),
            None => self.any_port = true,
        }
        let ports = match host {
            HostPattern::Exact(name) => return self.exact.insert(name, port, group),
            HostPattern::Suffix(suffix) => {
                self.suffix_lengths.insert(suffix.as_str().len());
                self.suffix.entry(suffix.clone()).or_default()
            }
            HostPattern::Any => &mut self.any,
        };
        ports.insert(port, group)
    }

    /// The route of a request for `destination`. Allocates nothing.
    ///
    /// Of the entries that match host and port the one of the greatest [`Specificity`] decides
    /// alone: where none of its rules holds, no other entry is asked (ISTIO.md V7). `scheme`: in
    /// what the request came.
    pub fn find(
        &self,
        destination: &Destination<'_>,
        parts: &RequestHead,
        scheme: Scheme,
    ) -> Found<'_> {
        let Some(group) = self.entry(&destination.host, destination.port) else {
            return Found::UnknownHost;
        };
        for (index, rule) in self.groups.rules(group).iter().enumerate() {
            if let Some(matched) = rule.test(parts, scheme) {
                return Found::Route(self.groups.hit(group, index, rule), matched);
            }
        }
        Found::NoRule
    }

    /// Whether there is any entry for requests on `port`.
    pub fn hosts_on(&self, port: u16) -> HostsOn {
        match (self.ports.contains(&port), self.any_port) {
            (true, _) => HostsOn::This,
            (false, true) => HostsOn::Any,
            (false, false) => HostsOn::None,
        }
    }

    /// The rules of requests for `host` (in normal form) on `port`, whatever they ask for.
    pub fn rules_of(&self, host: &str, port: u16) -> Option<&[Rule]> {
        Some(self.groups.rules(self.entry(host, port)?))
    }

    /// The entry that [`RouteTable::find`] asks for this destination. For people.
    pub fn decides(&self, destination: &Destination<'_>) -> Option<Entry<'_>> {
        let (host, port) = (destination.host.as_ref(), destination.port);
        let group = self.entry(host, port)?;
        let suffixes = host
            .match_indices('.')
            .filter_map(|(dot, _)| host.get(dot + 1..));
        let suffixes = suffixes.filter_map(|suffix| {
            let ports = self.suffix.get(suffix)?;
            Some((format!("*.{suffix}"), ports))
        });
        let exact = self.exact.get(host).map(|ports| (host.to_owned(), ports));
        let mut candidates = exact
            .into_iter()
            .chain(suffixes)
            .chain(std::iter::once(("*".to_owned(), &self.any)));
        candidates.find_map(|(host, ports)| {
            let found = self.groups.get(ports.find(port)?)?;
            std::ptr::eq(found, group).then(|| Entry {
                host,
                port: ports.has(port).then_some(port),
                rules: self.groups.rules(group),
                place: self.groups.place_of(group),
            })
        })
    }

    fn entry(&self, host: &str, port: u16) -> Option<&Group> {
        let exact = self.exact.get(host).and_then(|ports| ports.find(port));
        let number = exact
            .or_else(|| self.suffix_entry(host, port))
            .or_else(|| self.any.find(port));
        self.groups.get(number?)
    }

    /// Strips labels from the left, so that the longest suffix comes first (ISTIO.md H2).
    fn suffix_entry(&self, host: &str, port: u16) -> Option<u32> {
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
        let exact = self.exact.iter();
        let exact = exact.map(|(host, ports)| (host.to_string(), ports));
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
                    .into_iter()
                    .map(move |(port, group)| (host.clone(), port, group))
            })
            .filter_map(|(host, port, group)| {
                let group = self.groups.get(group)?;
                Some(Entry {
                    host,
                    port,
                    rules: self.groups.rules(group),
                    place: self.groups.place_of(group),
                })
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{parts, upstreams};
    use super::*;
    use crate::model::{Action, MatchSpec, Respond, RuleSpec, StringMatch};

    fn place(line: u32) -> Place {
        Place {
            file: "routes.yaml".into(),
            line,
        }
    }

    fn rule(name: &str, path: Option<&str>) -> RuleSpec {
        let matches = path.map(|path| MatchSpec {
            path: Some(StringMatch::Prefix(path.into())),
            ..MatchSpec::default()
        });
        let action = Action::Respond(Respond {
            status: 200,
            body: bytes::Bytes::new(),
        });
        RuleSpec {
            name: Some(name.into()),
            matches: matches.into_iter().collect(),
            ..RuleSpec::new(action, Place::default())
        }
    }

    /// A group whose one rule is named like the entry: `host:port`, or `host` for any port.
    fn entry(host: &str, port: Option<u16>, line: u32) -> HostRoutes {
        let name = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        HostRoutes {
            hosts: vec![HostPattern::parse(host).unwrap()].into(),
            port,
            rules: vec![rule(&name, None)].into(),
            object: None,
            place: place(line),
        }
    }

    fn table(entries: &[(&str, Option<u16>)]) -> RouteTable {
        let groups: Vec<_> = entries
            .iter()
            .map(|(host, port)| entry(host, *port, 1))
            .collect();
        RouteTable::build(&groups, &upstreams(&[])).unwrap_or_else(|_| panic!("must build"))
    }

    fn find<'a>(table: &'a RouteTable, authority: &str) -> Option<&'a str> {
        let destination = Destination::parse(authority, 80).unwrap();
        match table.find(&destination, &parts("GET", "/", &[]), Scheme::Http) {
            Found::Route(met, _) => met.route.name.as_deref(),
            Found::NoRule => Some("no rule"),
            Found::UnknownHost => None,
        }
    }

    #[test]
    fn h2_an_exact_host_beats_every_wildcard_and_the_longest_wildcard_the_others() {
        let table = table(&[
            ("*", None),
            ("*.example", None),
            ("*.b.example", None),
            ("a.b.example", None),
        ]);
        assert_eq!(find(&table, "a.b.example"), Some("a.b.example"));
        assert_eq!(find(&table, "z.b.example"), Some("*.b.example"));
        assert_eq!(find(&table, "y.z.b.example"), Some("*.b.example"));
        assert_eq!(find(&table, "c.example"), Some("*.example"));
        assert_eq!(find(&table, "other"), Some("*"));
    }

    #[test]
    fn the_entry_that_is_told_is_the_one_that_was_found() {
        let table = table(&[
            ("*", Some(80)),
            ("*.example", None),
            ("*.example", Some(81)),
            ("a.example", Some(80)),
        ]);
        for (authority, host, port) in [
            ("a.example", "a.example", Some(80)),
            ("a.example:81", "*.example", Some(81)),
            ("b.a.example:82", "*.example", None),
            ("other", "*", Some(80)),
        ] {
            let destination = Destination::parse(authority, 80).unwrap();
            let told = table.decides(&destination).unwrap();
            assert_eq!((told.host.as_str(), told.port), (host, port));
            let Found::Route(met, _) =
                table.find(&destination, &parts("GET", "/", &[]), Scheme::Http)
            else {
                panic!("{authority} has a route");
            };
            assert!(
                std::ptr::eq(told.rules[0].route(), met.route),
                "{authority}"
            );
        }
        let nowhere = Destination::parse("other:81", 80).unwrap();
        assert!(table.decides(&nowhere).is_none());
    }

    #[test]
    fn h1_a_suffix_does_not_mean_itself() {
        let table = table(&[("*.b.example", None), ("*.example", None)]);
        assert_eq!(find(&table, "b.example"), Some("*.example"));
        assert_eq!(find(&table, "example"), None);
        assert_eq!(find(&table, "ab.other"), None);
    }

    #[test]
    fn within_a_host_the_entry_with_the_port_wins() {
        let table = table(&[
            ("a", None),
            ("a", Some(8080)),
            ("a", Some(81)),
            ("*", Some(80)),
        ]);
        assert_eq!(find(&table, "a:8080"), Some("a:8080"));
        assert_eq!(find(&table, "a:81"), Some("a:81"));
        assert_eq!(find(&table, "a:9"), Some("a"));
    }

    #[test]
    fn h2_a_more_specific_host_beats_a_more_specific_port() {
        let table = table(&[("a.example", None), ("*.example", Some(80))]);
        assert_eq!(find(&table, "a.example:80"), Some("a.example"));
        assert_eq!(find(&table, "b.example:80"), Some("*.example:80"));
    }

    #[test]
    fn an_entry_for_another_port_does_not_hide_a_wildcard() {
        let table = table(&[("a.example", Some(443)), ("*.example", None)]);
        assert_eq!(find(&table, "a.example:443"), Some("a.example:443"));
        assert_eq!(find(&table, "a.example:80"), Some("*.example"));
    }

    #[test]
    fn a_host_that_nobody_wrote_is_unknown() {
        assert_eq!(find(&RouteTable::default(), "a"), None);
        assert_eq!(find(&table(&[("a", None), ("*.a", None)]), "b"), None);
        assert_eq!(find(&table(&[("a", Some(80))]), "a:81"), None);
    }

    #[test]
    fn v7_the_first_rule_that_holds_decides() {
        let mut group = entry("a", None, 1);
        group.rules = vec![
            rule("one", Some("/x")),
            rule("two", None),
            rule("three", None),
        ]
        .into();
        let table = RouteTable::build(&[group], &upstreams(&[])).ok().unwrap();
        let found = |uri| match table.find(
            &Destination::parse("a", 80).unwrap(),
            &parts("GET", uri, &[]),
            Scheme::Http,
        ) {
            Found::Route(met, matched) => (met.route.name.clone(), matched.prefix),
            Found::NoRule | Found::UnknownHost => panic!("nothing found"),
        };
        assert_eq!(found("/xy"), (Some("one".into()), Some(2)));
        assert_eq!(found("/y"), (Some("two".into()), None));
    }

    #[test]
    fn v7_a_host_without_a_rule_that_holds_does_not_ask_a_less_specific_one() {
        let mut group = entry("a.example", Some(80), 1);
        group.rules = vec![rule("one", Some("/x"))].into();
        let groups = [group, entry("a.example", None, 2), entry("*", None, 3)];
        let table = RouteTable::build(&groups, &upstreams(&[])).ok().unwrap();
        assert_eq!(find(&table, "a.example"), Some("no rule"));
    }

    #[test]
    fn hosts_of_one_group_share_their_rules() {
        let mut group = entry("a", None, 1);
        group.hosts = ["a", "*.a"]
            .map(|host| HostPattern::parse(host).unwrap())
            .to_vec()
            .into();
        let table = RouteTable::build(&[group], &upstreams(&[])).ok().unwrap();
        let get = |host| std::ptr::from_ref(table.entry(host, 80).unwrap());
        assert_eq!(get("a"), get("x.a"));
    }

    /// Two groups with one rule between them, at lines 3 and 10.
    fn sharing() -> [HostRoutes; 2] {
        let mut first = entry("a", None, 3);
        let mut rule = rule("shared", None);
        rule.place = place(4);
        first.rules = vec![rule].into();
        let mut second = entry("b", None, 10);
        second.rules = first.rules.further_down(7);
        [first, second]
    }

    fn met<'a>(table: &'a RouteTable, host: &str) -> Hit<'a> {
        let destination = Destination::parse(host, 80).unwrap();
        match table.find(&destination, &parts("GET", "/", &[]), Scheme::Http) {
            Found::Route(met, _) => met,
            Found::NoRule | Found::UnknownHost => panic!("{host} has a route"),
        }
    }

    #[test]
    fn groups_that_say_the_same_have_one_compiled_rule_and_places_of_their_own() {
        let table = RouteTable::build(&sharing(), &upstreams(&[])).ok().unwrap();
        let (a, b) = (met(&table, "a"), met(&table, "b"));
        assert!(std::ptr::eq(a.route, b.route));
        assert_eq!(a.place().to_string(), "routes.yaml:4");
        assert_eq!(b.place().to_string(), "routes.yaml:11");
        let places: Vec<_> = table.entries().iter().map(|one| one.place.line).collect();
        assert_eq!(places, [3, 10]);
    }

    #[test]
    fn groups_that_say_the_same_have_retry_budgets_of_their_own() {
        let table = RouteTable::build(&sharing(), &upstreams(&[])).ok().unwrap();
        let (a, b) = (met(&table, "a"), met(&table, "b"));
        let held: Vec<_> = std::iter::from_fn(|| a.budget.begin(&a.route.retries, || 1)).collect();
        assert_eq!(held.len(), 3);
        assert!(b.budget.begin(&b.route.retries, || 1).is_some());
        assert!(
            met(&table, "a")
                .budget
                .begin(&a.route.retries, || 1)
                .is_none()
        );
    }

    #[test]
    fn a_mistake_in_rules_that_are_shared_is_reported_once() {
        let [mut first, mut second] = sharing();
        let mut rules = first.rules.to_vec();
        rules[0].action = Action::Forward(Vec::new());
        first.rules = rules.into();
        second.rules = first.rules.further_down(7);
        let errors = RouteTable::build(&[first, second], &upstreams(&[]));
        assert_eq!(errors.err().unwrap().len(), 1);
    }

    #[test]
    fn two_entries_for_one_host_and_port_are_refused_with_both_places() {
        let twice = [
            entry("a", None, 3),
            entry("a", Some(80), 4),
            entry("a", None, 7),
        ];
        let errors = RouteTable::build(&twice, &upstreams(&[])).err().unwrap();
        let words: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            words,
            ["routes.yaml:7: the host a on any port is already routed at routes.yaml:3"]
        );
        for host in ["*", "*.a", "a"] {
            let twice = [entry(host, Some(80), 1), entry(host, Some(80), 2)];
            assert!(
                RouteTable::build(&twice, &upstreams(&[])).is_err(),
                "{host}"
            );
        }
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let mut bad = entry("a", None, 1);
        let mut rules = vec![rule("one", None), rule("two", None)];
        for rule in &mut rules {
            rule.action = Action::Forward(Vec::new());
        }
        bad.rules = rules.into();
        let mut empty = entry("b", None, 2);
        empty.hosts = Vec::new().into();
        let errors = RouteTable::build(&[bad, empty], &upstreams(&[]))
            .err()
            .unwrap();
        assert_eq!(errors.len(), 3);
    }

    #[test]
    fn entries_are_shown_in_the_order_of_precedence() {
        let table = table(&[
            ("*", None),
            ("b", None),
            ("*.z", None),
            ("*.long", None),
            ("a", None),
            ("a", Some(80)),
        ]);
        let shown: Vec<_> = table
            .entries()
            .into_iter()
            .map(|entry| (entry.host, entry.port))
            .collect();
        let expected = [
            ("a", Some(80)),
            ("a", None),
            ("b", None),
            ("*.long", None),
            ("*.z", None),
            ("*", None),
        ];
        let expected: Vec<_> = expected
            .iter()
            .map(|(host, port)| ((*host).to_owned(), *port))
            .collect();
        assert_eq!(shown, expected);
    }

    fn host() -> impl Strategy<Value = String> {
        let label = prop::sample::select(vec!["a", "b", "ab", "xn--c"]);
        prop::collection::vec(label, 1..5).prop_map(|labels| labels.join("."))
    }

    fn pattern() -> impl Strategy<Value = HostPattern> {
        let text = prop_oneof![
            3 => host(),
            3 => host().prop_map(|host| format!("*.{host}")),
            1 => Just("*".to_owned()),
        ];
        text.prop_map(|text| HostPattern::parse(&text).unwrap())
    }

    fn port() -> impl Strategy<Value = Option<u16>> {
        prop::sample::select(vec![None, Some(80), Some(443)])
    }

    proptest! {
        /// The look-up against the definition: of the entries that match, the most specific one.
        #[test]
        fn h2_a_find_gives_the_greatest_of_the_entries_that_match(
            entries in prop::collection::hash_map((pattern(), port()), 0..1_u8, 0..12),
            host in host(),
            port in prop::sample::select(vec![80_u16, 443, 8080]),
        ) {
            let groups: Vec<_> = entries
                .keys()
                .map(|(host, port)| entry(&host.to_string(), *port, 1))
                .collect();
            let table = RouteTable::build(&groups, &upstreams(&[])).ok().unwrap();
            let expected = entries
                .keys()
                .filter(|(pattern, _)| pattern.matches(&host))
                .filter(|(_, only)| only.is_none_or(|only| only == port))
                .max_by_key(|(pattern, port)| Specificity::of(pattern, *port))
                .map(|(pattern, port)| match port {
                    Some(port) => format!("{pattern}:{port}"),
                    None => pattern.to_string(),
                });
            let got = find(&table, &format!("{host}:{port}"));
            prop_assert_eq!(got.map(str::to_owned), expected);
        }
    }
}
