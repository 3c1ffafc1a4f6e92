//! `routes`: which rules belong to which host and port.
//!
//! Owns: its table, its lowering, and the rule that a host and port stand once.
//! Never: finds a route for a request (that is `route`).
//! Called by: native.

use std::collections::hash_map::Entry as Slot;
use std::sync::Arc;

use crate::model::{Action, HostPattern, HostRoutes, NameMap, Place, RuleSpec, Weighted};

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
    /// Where each of them stands: which of `files`, and the line.
    seen: NameMap<(HostPattern, Option<u16>), (usize, u32)>,
    files: Vec<Arc<str>>,
}

impl Routes {
    /// One more route.
    pub fn lower(&mut self, at: &At<'_>, upstreams: &mut Upstreams, out: &mut Diagnostics) {
        let port: Option<u16> = at.whole("port");
        // Neither list grows step by step: of 100,000 routes each would keep room that none needs.
        let (one, list) = (at.key("host"), at.key("hosts"));
        let count = list.as_ref().map_or(1, |list| list.items().count());
        let mut hosts = Vec::with_capacity(count);
        self.seen.reserve(count);
        if let Some(host) = one {
            self.host(&host, port, &mut hosts, out);
        }
        if let Some(list) = list {
            for host in list.items() {
                self.host(&host, port, &mut hosts, out);
            }
        }
        let mut rules = Vec::new();
        if let Some(name) = at.key("upstream")
            && let Some(upstream) = upstreams.refer(&name, out)
        {
            rules = vec![all_to(upstream, at.place())];
        }
        if let Some(list) = at.key("rules") {
            let lower = |rule: At<'_>| rules::lower(&rule, upstreams, out);
            rules.extend(list.items().filter_map(lower));
            unreachable(&list, &rules, out);
        }
        self.list.push(HostRoutes {
            hosts,
            port,
            rules,
            object: None,
            place: at.place(),
        });
    }

    fn host(
        &mut self,
        at: &At<'_>,
        port: Option<u16>,
        hosts: &mut Vec<HostPattern>,
        out: &mut Diagnostics,
    ) {
        let Some(host) = at.as_text().and_then(|text| HostPattern::parse(text).ok()) else {
            return;
        };
        let Place { file, line } = at.place();
        match self.seen.entry((host.clone(), port)) {
            Slot::Occupied(seen) => {
                let (file, line) = *seen.get();
                let file = self.files.get(file).map(Arc::clone);
                let first = Place {
                    file: file.unwrap_or_default(),
                    line,
                };
                let port = match port {
                    Some(port) => format!("port {port}"),
                    None => "any port".to_owned(),
                };
                let problem = format!("{host}, {port}, is routed already at {first}");
                let advice = "keep one of the two, with all the rules of that host";
                at.report(out, Code::HostTwice, problem, advice);
            }
            Slot::Vacant(slot) => {
                if self.files.last().is_none_or(|last| *last != file) {
                    self.files.push(file);
                }
                slot.insert((self.files.len() - 1, line));
                hosts.push(host);
            }
        }
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
