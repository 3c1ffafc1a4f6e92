//! `routes`: which rules belong to which host and port.
//!
//! Owns: its table, its lowering, and the rule that a host and port stand once.
//! Never: finds a route for a request (that is `route`).
//! Called by: native.

use std::sync::Arc;

use crate::model::{
    Action, HostPattern, HostRoutes, Hosts, NamePlaces, Place, RuleSpec, Rules, Weighted,
};

use super::cursor::At;
use super::diagnostic::{Code, Diagnostics};
use super::format::Format;
use super::matching;
use super::rules::{self, RULE};
use super::shape::{Field, PORT, Shape, Table};
use super::upstreams::Upstreams;

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

/// Routes of all documents.
#[derive(Default)]
pub struct Routes {
    /// In the order in which they were written.
    pub list: Vec<HostRoutes>,
    /// Every host and port so far; see `stands`.
    places: NamePlaces,
    stands: Vec<Stands>,
    /// The route before, where it has the short form.
    last: Option<Short>,
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
    upstream: Arc<str>,
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

    /// One more route.
    pub fn lower(&mut self, at: &At<'_>, upstreams: &mut Upstreams, out: &mut Diagnostics) {
        let place = at.place();
        let mut route = HostRoutes {
            hosts: Vec::new().into(),
            port: at.whole("port"),
            rules: self.rules(at, &place, upstreams, out),
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

    /// What a route does: what the one before it does, where that is all it says.
    fn rules(
        &mut self,
        at: &At<'_>,
        place: &Place,
        upstreams: &mut Upstreams,
        out: &mut Diagnostics,
    ) -> Rules {
        let list = at.key("rules");
        let upstream = at.key("upstream");
        if let (None, Some(last)) = (&list, &self.last)
            && upstream.as_ref().and_then(At::as_text) == Some(&*last.upstream)
            && last.place.file == place.file
            && let Some(lines) = place.line.checked_sub(last.place.line)
        {
            return last.rules.further_down(lines);
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
            self.last = Some(Short {
                upstream,
                rules: rules.clone(),
                place: place.clone(),
            });
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
        let is = |place: usize| {
            let Some(stands) = self.stands.get(place) else {
                return false;
            };
            let there = self.list.get(stands.route as usize);
            let (hosts, on) = there.map_or((before, port), |there| (&there.hosts, there.port));
            on == port && hosts.get(stands.host as usize) == Some(&host)
        };
        if let Some(place) = self.places.find(&(&host, port), is) {
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
            return None;
        }
        self.places.insert(&(&host, port), self.stands.len());
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        self.stands.push(Stands {
            route: number(self.list.len()),
            host: number(before.len()),
            line: at.node().at.line,
        });
        Some(host)
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
