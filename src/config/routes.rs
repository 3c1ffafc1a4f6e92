//! `routes`: which rules belong to which host and port.
//!
//! Owns: its table, its lowering, and the rule that a host and port stand once.
//! Never: finds a route for a request (that is `route`).
//! Called by: native.

use std::collections::HashMap;

use crate::model::{
    Action, HeaderOps, HostPattern, HostRoutes, Place, Retries, Rewrite, RuleSpec, Weighted,
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
    seen: HashMap<(HostPattern, Option<u16>), Place>,
}

impl Routes {
    /// One more route.
    pub fn lower(&mut self, at: &At<'_>, upstreams: &mut Upstreams, out: &mut Diagnostics) {
        let port: Option<u16> = at.whole("port");
        let mut hosts = Vec::new();
        if let Some(host) = at.key("host") {
            self.host(&host, port, &mut hosts, out);
        }
        if let Some(list) = at.key("hosts") {
            for host in list.items() {
                self.host(&host, port, &mut hosts, out);
            }
        }
        let mut rules = Vec::new();
        if let Some(name) = at.key("upstream") {
            rules.extend(
                upstreams
                    .refer(&name, out)
                    .map(|upstream| all_to(upstream, at.place())),
            );
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
        let key = (host.clone(), port);
        match self.seen.get(&key) {
            Some(first) => {
                let port = match port {
                    Some(port) => format!("port {port}"),
                    None => "any port".to_owned(),
                };
                let problem = format!("{host}, {port}, is routed already at {first}");
                let advice = "keep one of the two, with all the rules of that host";
                at.report(out, Code::HostTwice, problem, advice);
            }
            None => {
                self.seen.insert(key, at.place());
                hosts.push(host);
            }
        }
    }
}

/// The rule of the short form.
fn all_to(upstream: std::sync::Arc<str>, place: Place) -> RuleSpec {
    RuleSpec {
        name: None,
        matches: Vec::new(),
        action: Action::Forward(vec![Weighted {
            upstream,
            weight: 1,
        }]),
        rewrite: Rewrite::default(),
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        timeout: None,
        retries: Retries::default(),
        place,
    }
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
