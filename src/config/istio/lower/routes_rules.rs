//! The rules of a VirtualService for one port (ISTIO.md V7 to V16).
//!
//! Owns: which rules and matches are left on a port, and what each becomes.
//! Never: decides which hosts get them.
//! Called by: routes_hosts, streams (destinations).

use std::sync::Arc;

use super::clusters::{Clusters, Referrer, Wanted};
use super::registry::Registry;
use super::routes_claims::{Active, Side, is_on};
use super::routes_names::Names;
use crate::config::diagnostic::Diagnostics;
use crate::config::istio::service_entry::Protocol;
use crate::config::istio::virtual_service::{
    Destination, HttpAction, HttpDestination, HttpMatch, HttpRoute, MatchOn,
};
use crate::model::{
    Action, HostPattern, MatchSpec, Mirror, Place, ProxyFacts, Rewrite, RuleSpec, StringMatch,
    Weighted,
};

/// What every part of the routes is lowered with.
pub struct Ground<'l, 'a> {
    pub registry: &'a Registry,
    pub clusters: &'l mut Clusters<'a>,
    pub names: &'l Names<'a>,
    pub facts: &'l ProxyFacts,
    pub out: &'l mut Diagnostics,
}

impl Ground<'_, '_> {
    /// The rules of `active` for requests of `side` to `port`, up to the first that always holds
    /// (V7).
    pub fn rules(&mut self, active: &Active<'_>, port: u16, side: Side<'_>) -> Vec<RuleSpec> {
        let mut rules = Vec::with_capacity(active.vs.http.len());
        for route in &active.vs.http {
            let here = |on: &MatchOn| is_on(on, port) && active.takes_http(on, side, self.facts);
            let Some((matches, is_last)) = matches_on(route, here) else {
                continue;
            };
            let spec = self.rule(active, route, port);
            name_rules(route, &matches, spec, &mut rules);
            if is_last {
                break;
            }
        }
        rules
    }

    /// One rule, its matches apart.
    fn rule(&mut self, active: &Active<'_>, route: &HttpRoute, port: u16) -> RuleSpec {
        let action = match &route.action {
            HttpAction::Route(to) => Action::Forward(self.weighted(active, route, to, port)),
            HttpAction::Redirect(redirect) => Action::Redirect(redirect.clone()),
            HttpAction::Respond(respond) => Action::Respond(respond.clone()),
        };
        let mirrors = route.mirrors.iter().filter(|(_, share)| share.0 > 0);
        let mirrors = mirrors.map(|(destination, share)| Mirror {
            upstream: self.http_upstream(active, destination, port),
            share: *share,
        });
        RuleSpec {
            name: route.name.clone(),
            rewrite: Rewrite {
                host: route.rewrite_authority.clone(),
                path: route.rewrite_path.clone(),
            },
            request_headers: route.request_headers.clone(),
            response_headers: route.response_headers.clone(),
            fault: route.fault.clone(),
            mirrors: mirrors.collect(),
            // V13: 0 is none.
            timeout: route.timeout.filter(|timeout| !timeout.is_zero()),
            retries: route.retries.clone().unwrap_or_default(),
            object: Some(Arc::clone(&active.object)),
            ..RuleSpec::new(action, route.place.clone())
        }
    }

    /// V10: one destination ignores its weight, of several those of weight 0 are left out.
    fn weighted(
        &mut self,
        active: &Active<'_>,
        route: &HttpRoute,
        to: &[HttpDestination],
        port: u16,
    ) -> Vec<Weighted> {
        let is_alone = to.len() == 1;
        let chosen = to.iter().filter(|one| is_alone || one.weight > 0);
        let chosen = chosen.map(|one| Weighted {
            upstream: self.http_upstream(active, &one.destination, port),
            weight: if is_alone { 1 } else { one.weight },
            // V11: the authority of the rule beats that of a destination.
            host: match route.rewrite_authority {
                Some(_) => None,
                None => one.authority.clone(),
            },
            request_headers: one.request_headers.clone(),
            response_headers: one.response_headers.clone(),
        });
        chosen.collect()
    }

    /// The same as [`Ground::upstream`], with a word where HTTP would go in plaintext to a port that
    /// is declared for TLS.
    fn http_upstream(
        &mut self,
        active: &Active<'_>,
        destination: &Destination,
        port: u16,
    ) -> Arc<str> {
        let name = self.upstream(active, destination, port);
        let referrer = Referrer {
            object: Arc::clone(&active.object),
            place: destination.place.clone(),
        };
        self.clusters.carries_http(&name, &referrer, self.out);
        name
    }

    /// The upstream that `destination` names, where the client asked for `port` (V10).
    pub fn upstream(
        &mut self,
        active: &Active<'_>,
        destination: &Destination,
        port: u16,
    ) -> Arc<str> {
        let namespace = &active.vs.meta.namespace;
        let host = self.names.expand(&destination.host, namespace);
        let only = || self.only_port(host.as_ref()?);
        let port = destination.port.or_else(only).unwrap_or(port);
        let host = match &host {
            Some(host) => host.to_string(),
            None => destination.host.clone(),
        };
        let wanted = Wanted {
            host: &host,
            port,
            subset: destination.subset.as_deref().unwrap_or_default(),
        };
        self.refer(wanted, &active.object, &destination.place)
    }

    /// The upstream for `wanted`, which is made on first use.
    pub fn refer(&mut self, wanted: Wanted<'_>, object: &Arc<str>, place: &Place) -> Arc<str> {
        let referrer = Referrer {
            object: Arc::clone(object),
            place: place.clone(),
        };
        self.clusters.refer(wanted, &referrer, self.out)
    }

    fn only_port(&self, host: &HostPattern) -> Option<u16> {
        let known = self.registry.destination(host)?;
        let mut ports = known
            .ports
            .iter()
            .filter(|one| one.protocol != Protocol::Udp);
        match (ports.next(), ports.next()) {
            (Some(only), None) => Some(only.number),
            _ => None,
        }
    }
}

/// The matches of `route` that are for `here`, and whether one of them always holds. `None` where
/// the whole rule is not for this port or this proxy (V8).
fn matches_on(
    route: &HttpRoute,
    here: impl Fn(&MatchOn) -> bool,
) -> Option<(Vec<&HttpMatch>, bool)> {
    if route.matches.is_empty() {
        return Some((Vec::new(), true));
    }
    let mut left = Vec::with_capacity(route.matches.len());
    for one in &route.matches {
        if here(&one.on) {
            left.push(one);
            if is_always(one) {
                return Some((left, true));
            }
        }
    }
    (!left.is_empty()).then_some((left, false))
}

/// True where nothing of the request can make it fail.
pub fn is_always(one: &HttpMatch) -> bool {
    one.uri.is_none()
        && one.scheme.is_none()
        && one.method.is_none()
        && one.authority.is_none()
        && one.headers.is_empty()
        && one.query.is_empty()
}

/// `spec` with its matches. A match with a name of its own makes a rule of its own, so that the log
/// can tell `rule.match`, as Istio does.
fn name_rules(
    route: &HttpRoute,
    matches: &[&HttpMatch],
    spec: RuleSpec,
    rules: &mut Vec<RuleSpec>,
) {
    let is_catch_all = |one: &&HttpMatch| is_always(one);
    let only_catch_all = matches.len() == 1 && matches.iter().all(is_catch_all);
    if matches.iter().all(|one| one.name.is_none()) {
        let conditions = matches.iter().map(|one| conditions(one));
        rules.push(RuleSpec {
            matches: match only_catch_all {
                true => Vec::new(),
                false => conditions.collect(),
            },
            ..spec
        });
        return;
    }
    for one in matches {
        let name = match (&route.name, &one.name) {
            (Some(rule), Some(name)) => Some(format!("{rule}.{name}").into()),
            (rule, name) => name.clone().or_else(|| rule.clone()),
        };
        rules.push(RuleSpec {
            name,
            matches: match is_always(one) {
                true => Vec::new(),
                false => vec![conditions(one)],
            },
            ..spec.clone()
        });
    }
}

/// V9: what of a match depends on the request.
fn conditions(one: &HttpMatch) -> MatchSpec {
    // A list of methods is cheaper to compare than text.
    let methods: Vec<_> = match &one.method {
        Some(StringMatch::Exact(method)) => http::Method::from_bytes(method.as_bytes())
            .into_iter()
            .collect(),
        _ => Vec::new(),
    };
    MatchSpec {
        path: one.uri.clone(),
        path_ignores_case: one.ignore_uri_case,
        method: match methods.is_empty() {
            true => one.method.clone(),
            false => None,
        },
        methods,
        scheme: one.scheme.clone(),
        authority: one.authority.clone(),
        headers: one.headers.clone(),
        query: one.query.clone(),
    }
}
