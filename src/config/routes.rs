//! `routes`: which rules belong to which host and port.
//!
//! Owns: its table, its lowering, and the rule that a host and port stand once.
//! Never: finds a route for a request (that is `route`).
//! Called by: native.

use std::sync::Arc;

use crate::model::{
    Action, Host, HostPattern, HostRoutes, Hosts, NameMap, NamePlaces, Place, RuleSpec, Rules,
    Weighted,
};

use super::cursor::{At, Item};
use super::diagnostic::{Code, Diagnostics};
use super::format::Format;
use super::matching;
use super::node::{Node, ScalarKind, kind_of_plain};
use super::rules::{self, RULE};
use super::shape::{Field, PORT, Shape, Table};
use super::upstreams::Upstreams;
use super::validate;

/// Rules for a set of hosts.
pub static ROUTE: Table = Table::new(
    "route",
    "Where requests for a host go.",
    &[
        Field::optional(
            "host",
            "An exact name, *.suffix for every deeper name, or * for all.",
            Shape::Text(Format::HostPattern),
        ),
        Field::optional(
            "hosts",
            "Several hosts with the same rules.",
            Shape::List(&Shape::Text(Format::HostPattern)),
        ),
        Field::optional(
            "port",
            "The port that the request asks for. Absent: any.",
            PORT,
        ),
        Field::optional(
            "upstream",
            "Everything goes to this upstream.",
            Shape::Text(Format::Name),
        ),
        Field::optional(
            "rules",
            "Tried in order; the first that holds decides. Where none does: 404.",
            Shape::List(&Shape::Object(&RULE)),
        ),
    ],
)
.one_of(&[&["host", "hosts"], &["upstream", "rules"]]);

static ROUTE_SHAPE: Shape = Shape::Object(&ROUTE);

/// Routes of all documents.
#[derive(Default)]
pub struct Routes {
    /// In the order in which they were written.
    pub list: Vec<HostRoutes>,
    /// Every host and port so far; see `stands`.
    places: NamePlaces,
    stands: Vec<Stands>,
    /// The last route of the short form for each upstream that routes of a file lead to.
    short: NameMap<Arc<str>, Short>,
    /// The position of the route that those which are told by their host are like.
    like: Option<usize>,
}

/// Where a host stands, of which the route has pattern and port.
struct Stands {
    route: u32,
    /// Which of its hosts.
    host: u32,
    line: u32,
}

/// A route that says where everything goes, and no more.
struct Short {
    rules: Rules,
    place: Place,
}

impl Routes {
    /// Makes room for so many routes: growing step by step, the list would keep room that none needs.
    pub fn expect(&mut self, count: usize) {
        self.list.reserve_exact(count);
        self.stands.reserve_exact(count);
        self.places = NamePlaces::with_capacity(count);
    }

    /// The routes of one document.
    pub fn read(&mut self, list: &At<'_>, upstreams: &mut Upstreams, out: &mut Diagnostics) {
        let mut quiet = false;
        let told = |out: &Diagnostics| out.error_count() + out.warning_count();
        list.each("host", |item| {
            match item {
                Item::Read(at, before) => {
                    let before = before.filter(|_| quiet);
                    let said = told(out);
                    let known = before.and_then(|before| self.same_rules(at.node(), before));
                    self.lower(at, known, upstreams, out);
                    quiet = told(out) == said;
                }
                Item::Model(at) => self.like = if quiet { self.model(at) } else { None },
                Item::Word(word, line) => return self.again(word, line).is_some(),
                Item::Late(at) => {
                    validate::check(at, &ROUTE_SHAPE, out);
                    self.lower(at, None, upstreams, out);
                }
            }
            true
        });
    }

    /// The position of the route just read, where others may be told by their host alone.
    fn model(&self, at: &At<'_>) -> Option<usize> {
        let mut wrong = Diagnostics::new();
        validate::check(at, &ROUTE_SHAPE, &mut wrong);
        let one = |last: &&HostRoutes| matches!(last.hosts, Hosts::One(_));
        self.list.last().filter(one).filter(|_| wrong.is_empty())?;
        self.list.len().checked_sub(1)
    }

    /// The route of the model for another host: a plain scalar, on another line. `None` where there is more to say than
    /// that it is a host in normal form which stands nowhere else.
    fn again(&mut self, host: &str, line: u32) -> Option<()> {
        let like = self.list.get(self.like?)?;
        let (place, port) = (like.place.clone(), like.port);
        let rules = like.rules.further_down(line.checked_sub(place.line)?);
        if kind_of_plain(host) != ScalarKind::Text {
            return None;
        }
        let host = HostPattern::Exact(Host::plain(host)?);
        if self.stands(&host, port, &[], line).is_some() {
            return None;
        }
        self.list.push(HostRoutes {
            hosts: Hosts::One(host),
            port,
            rules,
            object: None,
            place: Place { line, ..place },
        });
        Some(())
    }

    /// The rules of the route just read, which is `before`, where `node` says the same ones and nothing is to be said of
    /// them.
    fn same_rules(&self, node: &Node, before: &Node) -> Option<Rules> {
        let lines = node.at.line.checked_sub(before.at.line)?;
        let own = node.key("rules")?;
        let same = own.is_below(before.key("rules")?, lines)
            && node.key("upstream").is_none()
            && before.key("upstream").is_none();
        let last = self.list.last().filter(|_| same)?;
        Some(last.rules.further_down(lines))
    }

    /// One more route; `known`: its rules.
    fn lower(
        &mut self,
        at: &At<'_>,
        known: Option<Rules>,
        upstreams: &mut Upstreams,
        out: &mut Diagnostics,
    ) {
        let place = at.place();
        let mut route = HostRoutes {
            hosts: Vec::new().into(),
            port: at.whole("port"),
            rules: known.unwrap_or_else(|| self.rules(at, &place, upstreams, out)),
            object: None,
            place,
        };
        match (at.key("host"), at.key("hosts")) {
            (Some(host), None) => {
                if let Some(host) = self.host(&host, &route, &[], out) {
                    route.hosts = Hosts::One(host);
                }
            }
            (one, list) => {
                let many = list.as_ref().map_or(0, |list| list.items().count());
                let mut hosts = Vec::with_capacity(many + 1);
                for host in one.into_iter().chain(list.iter().flat_map(At::items)) {
                    let host = self.host(&host, &route, &hosts, out);
                    hosts.extend(host);
                }
                route.hosts = hosts.into();
            }
        }
        self.list.push(route);
    }

    /// What a route does: what one before it does, where all that both say is the same upstream.
    fn rules(
        &mut self,
        at: &At<'_>,
        place: &Place,
        upstreams: &mut Upstreams,
        out: &mut Diagnostics,
    ) -> Rules {
        let list = at.key("rules");
        let upstream = at.key("upstream");
        let name = upstream.as_ref().and_then(At::as_text);
        if let (None, Some(above)) = (&list, name.and_then(|name| self.short.get(name)))
            && above.place.file == place.file
            && let Some(lines) = place.line.checked_sub(above.place.line)
        {
            return above.rules.further_down(lines);
        }
        let mut rules = Vec::new();
        let upstream = upstream.and_then(|name| upstreams.refer(&name, out));
        if let Some(upstream) = &upstream {
            rules = vec![all_to(Arc::clone(upstream), place.clone())];
        }
        if let Some(list) = &list {
            let lower = |rule: At<'_>| rules::lower(&rule, upstreams, out);
            rules.extend(list.items().filter_map(lower));
            unreachable(list, &rules, out);
        }
        let rules = Rules::from(rules);
        if let (None, Some(upstream)) = (list, upstream) {
            let (rules, place) = (rules.clone(), place.clone());
            self.short.insert(upstream, Short { rules, place });
        }
        rules
    }

    /// A host of `route`, of which those in `before` are read already; `None` where it stands twice.
    fn host(
        &mut self,
        at: &At<'_>,
        route: &HostRoutes,
        before: &[HostPattern],
        out: &mut Diagnostics,
    ) -> Option<HostPattern> {
        let host = at
            .as_text()
            .and_then(|text| HostPattern::parse(text).ok())?;
        let port = route.port;
        let Some(place) = self.stands(&host, port, before, at.node().at.line) else {
            return Some(host);
        };
        let stands = self.stands.get(place)?;
        let there = self.list.get(stands.route as usize).unwrap_or(route);
        let first = Place {
            file: Arc::clone(&there.place.file),
            line: stands.line,
        };
        let port = match port {
            Some(port) => format!("port {port}"),
            None => "any port".to_owned(),
        };
        let problem = format!("{host}, {port}, is routed already at {first}");
        let advice = "keep one of the two, with all the rules of that host";
        at.report(out, Code::HostTwice, problem, advice);
        None
    }

    /// Where in `stands` a host of the next route stands already; `before`: those of its hosts that are noted. Where it
    /// does not, it stands on `line` from now on.
    fn stands(
        &mut self,
        host: &HostPattern,
        port: Option<u16>,
        before: &[HostPattern],
        line: u32,
    ) -> Option<usize> {
        let (stands, list) = (&self.stands, &self.list);
        let is = |place: usize| {
            let Some(stands) = stands.get(place) else {
                return false;
            };
            let there = list.get(stands.route as usize);
            let (hosts, on) = there.map_or((before, port), |there| (&there.hosts, there.port));
            on == port && hosts.get(stands.host as usize) == Some(host)
        };
        let found = self.places.find_or_insert(&(host, port), stands.len(), is);
        if found.is_none() {
            let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
            self.stands.push(Stands {
                route: number(list.len()),
                host: number(before.len()),
                line,
            });
        }
        found
    }
}

/// The rule of the short form.
fn all_to(upstream: Arc<str>, place: Place) -> RuleSpec {
    RuleSpec::new(Action::Forward(vec![Weighted::of(upstream, 1)]), place)
}

/// Warns of what stands behind a rule or condition that always holds.
fn unreachable(list: &At<'_>, rules: &[RuleSpec], out: &mut Diagnostics) {
    // A rule that was refused is missing here, and then there are errors to mend first.
    if list.items().count() != rules.len() {
        return;
    }
    let mut decided: Option<&RuleSpec> = None;
    for (at, rule) in list.items().zip(rules) {
        if let Some(earlier) = decided {
            let place = &earlier.place;
            let problem = format!("this rule is never reached: the one at {place} always holds");
            let advice = "move it before that one, or remove it";
            at.report(out, Code::Unreachable, problem, advice);
            continue;
        }
        let always = rule.matches.iter().position(matching::is_always);
        if let Some(n) = always {
            let matches = at.key("match");
            let later = matches
                .iter()
                .flat_map(|m| m.one_or_many().skip(n + 1).map(|e| e.field()));
            let later: Vec<String> = later.collect();
            if let (Some(matches), false) = (at.key("match"), later.is_empty()) {
                let problem = format!("conditions after number {} are never reached", n + 1);
                let advice = "remove them: that one always holds";
                matches.report(out, Code::Unreachable, problem, advice);
            }
        }
        if rule.matches.is_empty() || always.is_some() {
            decided = Some(rule);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::config::load::{load_texts, said};

    fn respond(routes: &str) -> Vec<String> {
        said(&format!("routes:\n{routes}"))
    }

    #[test]
    fn a_host_and_port_stand_once_and_the_message_names_both_places() {
        let route = |host: &str| {
            format!("routes:\n- {{host: {host}, rules: [respond: {{status: 200}}]}}\n")
        };
        let files = [
            ("a.yaml", route("A.example")),
            ("b.yaml", route("a.example.")),
        ];
        let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
        assert_eq!(
            load_texts(&files).unwrap_err().to_string(),
            "b.yaml:2:10: error[SRT0206] routes[0].host: a.example, any port, is routed already at \
             a.yaml:2; keep one of the two, with all the rules of that host"
        );
        assert_eq!(
            respond("- {hosts: ['*', '*'], port: 80, rules: [respond: {status: 200}]}\n"),
            [
                "a.yaml:2:17: error[SRT0206] routes[0].hosts[1]: *, port 80, is routed already at \
                 a.yaml:2; keep one of the two, with all the rules of that host"
            ]
        );
    }

    #[test]
    fn the_same_host_may_stand_once_for_each_port_and_once_for_any() {
        let route =
            |rest: &str| format!("- {{host: a, {rest}rules: [respond: {{status: 200}}]}}\n");
        let all = [route(""), route("port: 80, "), route("port: 81, ")].concat();
        assert_eq!(respond(&all), [""; 0]);
    }

    #[test]
    fn a_route_says_one_host_form_and_one_target_form() {
        assert_eq!(
            respond(
                "- {host: a, hosts: [b], rules: [respond: {status: 200}]}\n- {host: c}\n- {rules: []}\n"
            ),
            [
                "a.yaml:2:13: error[SRT0203] routes[0].hosts: \"hosts\" cannot stand beside \"host\"; \
                 keep one of the two",
                "a.yaml:3:3: error[SRT0102] routes[1]: one of the keys upstream, rules must be there; \
                 write exactly one of them",
                "a.yaml:4:3: error[SRT0102] routes[2]: one of the keys host, hosts must be there; \
                 write exactly one of them",
                "a.yaml:4:11: error[SRT0209] routes[2].rules: the list is empty; write at least one \
                 item, or leave the key out",
            ]
        );
    }

    #[test]
    fn ist0130_what_stands_behind_a_rule_that_always_holds_is_never_reached() {
        let rules = "- host: a\n  rules:\n  - {match: {method: GET}, respond: {status: 200}}\n  - {match: \
                     [{method: PUT}, {path: {prefix: /}}, {method: POST}], respond: {status: 200}}\n  - \
                     {match: {method: PUT}, respond: {status: 200}}\n";
        assert_eq!(
            respond(rules),
            [
                "a.yaml:5:13: warning[SRT0301] routes[0].rules[1].match: conditions after number 2 are \
                 never reached; remove them: that one always holds",
                "a.yaml:6:5: warning[SRT0301] routes[0].rules[2]: this rule is never reached: the one \
                 at a.yaml:5 always holds; move it before that one, or remove it",
            ]
        );
    }

    #[test]
    fn a_rule_with_conditions_hides_nothing() {
        let rules = "- host: a\n  rules:\n  - {match: {path: {prefix: /a}}, respond: {status: 200}}\n  - \
                     {match: {path: {prefix: /}, method: GET}, respond: {status: 200}}\n  - {respond: \
                     {status: 200}}\n";
        assert_eq!(respond(rules), [""; 0]);
    }

    /// The rules of each route by number, in the order in which they are seen first, with their lines.
    fn rules_of(routes: &str) -> Vec<(usize, u32)> {
        let upstream = |name| format!("{{name: {name}, endpoints: 'a:1', tls: {{mode: disable}}}}");
        let upstreams = format!("upstreams: [{}, {}]\n", upstream("a"), upstream("b"));
        let text = format!("{upstreams}routes:\n{routes}");
        let config = load_texts(&[("a.yaml", &text)]).unwrap().config;
        let mut seen = Vec::new();
        let numbered = config.hosts.iter().map(|group| {
            let id = group.rules.id();
            let known = seen.iter().position(|one| *one == id);
            let number = known.unwrap_or(seen.len());
            if known.is_none() {
                seen.push(id);
            }
            (number, group.rules.place(&group.rules[0]).line)
        });
        numbered.collect()
    }

    #[test]
    fn routes_that_only_say_the_same_upstream_share_a_rule_and_keep_their_lines() {
        let routes = "- {host: x, upstream: a}\n\n- {host: y, port: 80, upstream: a}\n- host: z\n  \
                      upstream: a\n";
        assert_eq!(rules_of(routes), [(0, 3), (0, 5), (0, 6)]);
    }

    #[test]
    fn routes_that_say_another_upstream_or_more_share_no_rule() {
        let routes = "- {host: w, upstream: a}\n- {host: x, upstream: b}\n- {host: y, rules: \
                      [{upstream: b}]}\n- {host: z, upstream: b}\n";
        assert_eq!(rules_of(routes), [(0, 3), (1, 4), (2, 5), (1, 6)]);
    }

    #[test]
    fn routes_to_several_upstreams_in_turn_share_the_rules_of_each() {
        let routes = "- {host: w, upstream: a}\n- {host: x, upstream: b}\n- {host: y, upstream: a}\n- \
                      {host: z, upstream: b}\n";
        assert_eq!(rules_of(routes), [(0, 3), (1, 4), (0, 5), (1, 6)]);
    }

    #[test]
    fn routes_that_say_the_same_rules_one_below_the_other_share_them_and_keep_their_lines() {
        let rules = |to| {
            format!("rules:\n  - {{match: {{method: GET}}, upstream: {to}}}\n  - upstream: b\n")
        };
        let route = |host, to| format!("- host: {host}\n  {}", rules(to));
        let text = [
            route("w", "a"),
            route("x", "a"),
            route("y", "b"),
            route("z", "b"),
        ]
        .concat();
        assert_eq!(rules_of(&text), [(0, 5), (0, 9), (1, 13), (1, 17)]);
        // In other columns, or on other lines of the route, they would be told at the wrong place.
        let text = [
            route("w", "a"),
            format!("- port: 80\n  host: x\n  {}", rules("a")),
            format!("-  host: y\n   {}", rules("a").replace("  -", "   -")),
        ];
        assert_eq!(rules_of(&text.concat()), [(0, 5), (1, 10), (2, 14)]);
    }

    #[test]
    fn what_is_wrong_with_rules_that_several_routes_say_is_said_of_each() {
        let rules = "  rules:\n  - respond: {status: 200}\n  - respond: {status: 404}\n";
        let text: String = (0..3).map(|n| format!("- host: h{n}\n{rules}")).collect();
        let said = respond(&text);
        let lines = said
            .iter()
            .map(|line| line.split(':').nth(1).unwrap_or_default());
        assert_eq!(lines.collect::<Vec<_>>(), ["5", "9", "13"], "{said:?}");
        let unknown = text.replace("respond: {status: 200}", "upstream: nobody");
        assert_eq!(
            respond(&unknown).len(),
            3,
            "an error hides what comes behind"
        );
    }

    /// So many lines that most are left for later.
    fn alike(line: impl Fn(usize) -> String) -> String {
        (0..40).map(|n| line(n) + "\n").collect()
    }

    #[test]
    fn lines_that_are_alike_share_all_that_they_do() {
        let rules = "[{match: {method: GET}, upstream: a}, {upstream: b}]";
        let found = rules_of(&alike(|n| {
            format!("- {{host: h{n}, port: 80, rules: {rules}}}")
        }));
        // Those that were read are the first two and the last.
        assert!(found[2..39].iter().all(|(set, _)| *set == found[1].0));
        let lines = found.iter().map(|(_, line)| *line);
        assert!(lines.eq(3..43));
    }

    #[test]
    fn what_is_wrong_with_the_line_that_others_are_like_is_said_of_each() {
        for (line, code) in [
            (
                "{host: HOST, port: 0, rules: [{respond: {status: 200}}]}",
                "SRT0105",
            ),
            ("{host: HOST, upstream: nobody}", "SRT0202"),
            ("{host: HOST}", "SRT0102"),
            (
                "{host: HOST, rules: [{respond: {status: 200}}, {respond: {status: 404}}]}",
                "SRT0301",
            ),
        ] {
            let text = alike(|n| format!("- {}", line.replace("HOST", &format!("h{n}"))));
            let said = respond(&text);
            let each = said.iter().zip(2..).filter(|(said, line)| {
                said.starts_with(&format!("a.yaml:{line}:")) && said.contains(code)
            });
            assert_eq!(each.count(), 40, "{said:?}");
        }
    }

    #[test]
    fn a_host_among_lines_that_are_alike_is_read_as_any_other() {
        let said = respond(&alike(|n| match n {
            10 => "- {host: true, rules: [{respond: {status: 200}}]}".to_owned(),
            11 => "- {host: 1.5, rules: [{respond: {status: 200}}]}".to_owned(),
            12 => "- {host: H9, rules: [{respond: {status: 200}}]}".to_owned(),
            13 => "- {host: a..b, rules: [{respond: {status: 200}}]}".to_owned(),
            14 => "- {host: null, rules: [{respond: {status: 200}}]}".to_owned(),
            15 => "- {host: 10.0.0.1, rules: [{respond: {status: 200}}]}".to_owned(),
            n => format!("- {{host: h{n}, rules: [{{respond: {{status: 200}}}}]}}"),
        }));
        let starts: Vec<_> = said
            .iter()
            .map(|line| &line[..27.min(line.len())])
            .collect();
        assert_eq!(
            starts,
            [
                "a.yaml:12:10: error[SRT0103",
                "a.yaml:13:10: error[SRT0103",
                "a.yaml:14:10: error[SRT0206",
                "a.yaml:15:10: error[SRT0106",
                "a.yaml:16:10: error[SRT0103",
            ]
        );
    }

    /// All that a text means, or all that is wrong with it.
    fn meaning(text: &str) -> Vec<String> {
        match load_texts(&[("a.yaml", text)]) {
            Ok(loaded) => {
                let warnings = loaded.warnings.iter().map(ToString::to_string);
                let routes = loaded.config.hosts.iter().map(|group| {
                    let rule = |rule| (group.rules.place(rule).line, format!("{:?}", rule.action));
                    let rules: Vec<_> = group.rules.iter().map(rule).collect();
                    format!(
                        "{:?} {:?} {} {rules:?}",
                        group.hosts, group.port, group.place
                    )
                });
                warnings.chain(routes).collect()
            }
            Err(all) => all.iter().map(ToString::to_string).collect(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn lines_that_are_alike_mean_what_they_mean_one_by_one(
            port in "(, port: (80|81))?",
            changes in proptest::collection::vec((0_usize..40, "(true|H9|h2|a..b|10.0.0.1|x, port: 80|x.y)", "(a|other|unknown)"), 0..4),
        ) {
            let lines = |end: &str| {
                alike(|n| match changes.iter().find(|(at, ..)| *at == n) {
                    Some((_, host, upstream)) => format!("- {{host: {host}, upstream: {upstream}}}{end}"),
                    None => format!("- {{host: h{n}{port}, upstream: a}}{end}"),
                })
            };
            let upstream = |name| format!("{{name: {name}, endpoints: 'a:1', tls: {{mode: disable}}}}");
            let upstreams = format!("upstreams: [{}, {}]\n", upstream("a"), upstream("other"));
            let text = |end| format!("{upstreams}routes:\n{}", lines(end));
            // A remark behind each line keeps it from being taken for one of many.
            prop_assert_eq!(meaning(&text("")), meaning(&text(" # one")));
        }
    }

    #[test]
    fn routes_of_another_file_share_no_rule() {
        let route = |host: &str| format!("routes: [{{host: {host}, upstream: a}}]\n");
        let upstream = "upstreams: [{name: a, endpoints: 'a:1', tls: {mode: disable}}]\n";
        let (one, two) = (upstream.to_owned() + &route("x"), route("y"));
        let config = load_texts(&[("a.yaml", &one), ("b.yaml", &two)])
            .unwrap()
            .config;
        assert_ne!(config.hosts[0].rules.id(), config.hosts[1].rules.id());
        let place = config.hosts[1].rules.place(&config.hosts[1].rules[0]);
        assert_eq!(place.to_string(), "b.yaml:1");
    }

    #[test]
    fn no_route_at_all_is_a_warning() {
        assert_eq!(
            said("unknownHosts: refuse\n"),
            [
                "a.yaml:1:1: warning[SRT0305] there is no route, so that every host is unknown; write \
                 routes: [{host: NAME, upstream: NAME}]"
            ]
        );
    }
}
