//! The VirtualServices of a Gateway's server, and its hosts (ISTIO.md G2, G9, G10, V2, V5, V8).
//!
//! Owns: [`Claimed`], [`Bound`]: who is on which server with which hosts; the hosts of its table.
//! Never: lowers one rule (that is `routes_rules`).
//! Called by: gateways.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::gateway_ports::{Offer, Ports};
use super::routes_claims::{Active, Side};
use super::routes_names::{MESH, gateway};
use super::routes_rules::Ground;
use crate::config::istio::Manifests;
use crate::config::istio::manifests::OnGateways;
use crate::config::istio::reading::names::covers;
use crate::model::{
    Action, Broken, BrokenKind, Config, HostPattern, HostRoutes, MatchSpec, Place, Redirect,
    Refused, RuleSpec, StringMatch, UpstreamSpec, Weighted,
};

/// Namespace and name of a Gateway.
type Key<'k> = (&'k str, &'k str);

/// VirtualServices by the Gateways that they name.
pub struct Claimed<'v, 'a> {
    visible: &'v [Active<'a>],
    by_gateway: HashMap<Key<'v>, Vec<usize>>,
    /// Those that were refused (X1).
    refused: HashMap<Key<'a>, Vec<RefusedRoutes<'a>>>,
}

/// A VirtualService that was refused.
#[derive(Clone, Copy)]
struct RefusedRoutes<'a> {
    refused: &'a Refused,
    namespace: &'a str,
    /// `None`: they cannot be told.
    hosts: Option<&'a [HostPattern]>,
}

/// What VirtualServices say of one server.
#[derive(Clone)]
pub struct Bound<'v, 'a> {
    /// By age, each with those of its hosts that the server has (G2).
    pub routes: Vec<(&'v Active<'a>, Vec<HostPattern>)>,
    /// Hosts that nobody serves, as the one who would was refused, and how they fail.
    pub refused: Vec<(Fails, Vec<HostPattern>)>,
    /// Nobody is served, as a refused one may be for any host.
    pub closed: Option<Fails>,
}

/// The upstream that has nothing behind it, for what a refused document governs (X1).
#[derive(Clone)]
pub struct Fails {
    pub upstream: Arc<str>,
    pub object: Arc<str>,
    pub place: Place,
    /// In words.
    pub reason: Arc<str>,
}

impl Fails {
    pub fn of(refused: &Refused) -> Fails {
        Fails {
            upstream: format!("refused|{}", refused.object).into(),
            object: Arc::clone(&refused.object),
            place: refused.place.clone(),
            reason: refused.to_string().into(),
        }
    }
}

impl<'v, 'a> Claimed<'v, 'a> {
    pub fn new(manifests: &'a Manifests, visible: &'v [Active<'a>]) -> Claimed<'v, 'a> {
        let mut claimed = Claimed {
            visible,
            by_gateway: HashMap::new(),
            refused: HashMap::new(),
        };
        for (index, one) in visible.iter().enumerate() {
            let written = one.vs.gateways.iter().filter(|one| one.value != MESH);
            for written in written {
                let key = gateway(&written.value, &one.vs.meta.namespace);
                let list = claimed.by_gateway.entry(key).or_default();
                if list.last() != Some(&index) {
                    list.push(index);
                }
            }
        }
        for one in &manifests.refused {
            let OnGateways::Hosts { gateways, hosts } = &one.on_gateways else {
                continue;
            };
            for written in gateways {
                let key = gateway(written, &one.meta.namespace);
                claimed.refused.entry(key).or_default().push(RefusedRoutes {
                    refused: &one.refused,
                    namespace: &one.meta.namespace,
                    hosts: hosts.as_deref(),
                });
            }
        }
        claimed
    }

    /// Those that name this Gateway, whatever their hosts.
    pub fn of(&self, key: Key<'_>) -> Vec<&'v Active<'a>> {
        let indexes = self.by_gateway.get(&key).map_or(&[][..], Vec::as_slice);
        let found = indexes.iter().filter_map(|index| self.visible.get(*index));
        found.collect()
    }

    /// Those of one server (G2, V2).
    pub fn bound(&self, offer: &Offer<'_>) -> Bound<'v, 'a> {
        let key = offer.gateway.key();
        let mut routes = Vec::new();
        for one in self.of(key) {
            let namespace = &one.vs.meta.namespace;
            let hosts = one.hosts.iter().map(|(host, _)| host);
            let hosts = shared(offer, hosts, namespace);
            if !hosts.is_empty() {
                routes.push((one, hosts));
            }
        }
        let mut bound = Bound {
            routes,
            refused: Vec::new(),
            closed: None,
        };
        for one in self.refused.get(&key).into_iter().flatten() {
            let mut served = offer.server.hosts.iter();
            if !served.any(|host| host.value.is_for(one.namespace)) {
                continue;
            }
            let Some(hosts) = one.hosts else {
                bound.closed.get_or_insert_with(|| Fails::of(one.refused));
                continue;
            };
            let hosts = shared(offer, hosts.iter(), one.namespace);
            if !hosts.is_empty() {
                bound.refused.push((Fails::of(one.refused), hosts));
            }
        }
        bound
    }

    /// Adds the upstreams that stand for refused documents, where they are not there yet.
    pub fn broken_upstreams(&self, ports: &Ports<'_>, config: &mut Config) {
        let served: HashSet<Key<'_>> = ports.offers().map(|offer| offer.gateway.key()).collect();
        let routes = self.refused.iter().filter(|(key, _)| served.contains(*key));
        let routes = routes.flat_map(|(_, list)| list).map(|one| one.refused);
        let routes = routes.map(Fails::of);
        let servers = ports.offers().filter_map(|offer| offer.fails.clone());
        for fails in routes.chain(servers) {
            if config
                .upstreams
                .iter()
                .any(|one| one.name == fails.upstream)
            {
                continue;
            }
            let mut upstream = UpstreamSpec::new(&fails.upstream);
            upstream.broken = Some(Broken {
                kind: BrokenKind::Unhealthy,
                reason: fails.reason,
            });
            upstream.place = fails.place;
            config.upstreams.push(upstream);
        }
    }
}

/// G2: where one of the hosts that the server has for VirtualServices of `namespace` and one of these
/// cover each other, the more specific one.
fn shared<'h>(
    offer: &Offer<'_>,
    hosts: impl Iterator<Item = &'h HostPattern>,
    namespace: &str,
) -> Vec<HostPattern> {
    let mut found = Vec::new();
    for host in hosts {
        for served in offer.server.hosts.iter().map(|served| &served.value) {
            if served.is_for(namespace)
                && let Some(host) = narrower(host, &served.host)
                && !found.contains(&host)
            {
                found.push(host);
            }
        }
    }
    found
}

/// The more specific of two patterns, where one covers the other.
pub fn narrower(a: &HostPattern, b: &HostPattern) -> Option<HostPattern> {
    if covers(a, b) {
        return Some(b.clone());
    }
    covers(b, a).then(|| a.clone())
}

/// One host while its table is made.
#[derive(Default)]
struct Host {
    /// Server and VirtualService, by their positions, in the order of the servers.
    routes: Vec<(usize, usize)>,
    /// The server that redirects it (G10).
    redirect: Option<usize>,
    /// Who would have had it, by its position.
    fails: Option<usize>,
}

/// What hosts have in common that share their rules.
type Same = (Option<usize>, Option<usize>, Vec<(usize, usize)>);

/// The hosts of all of these servers, which share one table: those on a clear-text port, or a
/// single one whose TLS ends here (G9).
pub fn hosts(
    servers: &[(&Offer<'_>, Bound<'_, '_>)],
    ground: &mut Ground<'_, '_>,
) -> Vec<HostRoutes> {
    let mut table = Table::default();
    for (server, (offer, bound)) in servers.iter().enumerate() {
        table.add(server, offer, bound, ground);
    }
    let mut groups: BTreeMap<usize, (Same, Vec<HostPattern>)> = BTreeMap::new();
    let mut first: HashMap<Same, usize> = HashMap::new();
    for (index, (name, host)) in table.hosts.into_iter().enumerate() {
        let same: Same = (host.fails, host.redirect, host.routes);
        let at = *first.entry(same.clone()).or_insert(index);
        groups.entry(at).or_insert((same, Vec::new())).1.push(name);
    }
    let groups = groups.into_values();
    groups
        .filter_map(|(same, names)| group(same, names, servers, &table.fails, &table.rules))
        .collect()
}

/// Rules of a VirtualService for a server, by their positions.
type Rules = HashMap<(usize, usize), Vec<RuleSpec>>;

#[derive(Default)]
struct Table {
    hosts: Vec<(HostPattern, Host)>,
    index: HashMap<HostPattern, usize>,
    fails: Vec<Fails>,
    rules: Rules,
}

impl Table {
    fn host(&mut self, name: &HostPattern) -> Option<&mut Host> {
        let next = self.hosts.len();
        let at = *self.index.entry(name.clone()).or_insert(next);
        if at == next {
            self.hosts.push((name.clone(), Host::default()));
        }
        self.hosts.get_mut(at).map(|(_, host)| host)
    }

    fn add(
        &mut self,
        server: usize,
        offer: &Offer<'_>,
        bound: &Bound<'_, '_>,
        ground: &mut Ground<'_, '_>,
    ) {
        let redirects = matches!(
            offer.server.kind,
            crate::config::istio::gateway::ServerKind::Http(Some(_))
        );
        // X1: whatever would have been served by it, be it by a more specific name.
        if let Some(fails) = offer.fails.as_ref().or(bound.closed.as_ref()) {
            let mut hosts = offer.names();
            hosts.extend(bound.routes.iter().flat_map(|(_, hosts)| hosts).cloned());
            return self.fail(fails.clone(), &hosts);
        }
        let (namespace, name) = offer.gateway.key();
        let side = Side::Gateway(namespace, name);
        for (nth, (one, hosts)) in bound.routes.iter().enumerate() {
            let rules = ground.rules(one, offer.server.number, side);
            let rules = until_catch_all(rules);
            // Without a rule it has no say on its hosts here, and a wider one may.
            if rules.is_empty() {
                continue;
            }
            self.rules.insert((server, nth), rules);
            for name in hosts {
                if let Some(host) = self.host(name) {
                    host.routes.push((server, nth));
                    if redirects {
                        host.redirect.get_or_insert(server);
                    }
                }
            }
        }
        if redirects {
            for name in offer.names() {
                if let Some(host) = self.host(&name) {
                    host.redirect.get_or_insert(server);
                }
            }
        }
        for (fails, hosts) in &bound.refused {
            self.fail(fails.clone(), hosts);
        }
    }

    fn fail(&mut self, fails: Fails, hosts: &[HostPattern]) {
        let index = self.fails.len();
        self.fails.push(fails);
        for name in hosts {
            if let Some(host) = self.host(name) {
                host.fails.get_or_insert(index);
            }
        }
    }
}

/// The rules that hosts share.
fn group(
    (fails, redirect, routes): Same,
    names: Vec<HostPattern>,
    servers: &[(&Offer<'_>, Bound<'_, '_>)],
    failing: &[Fails],
    rules: &Rules,
) -> Option<HostRoutes> {
    if let Some(fails) = fails.and_then(|index| failing.get(index)) {
        let action = Action::Forward(vec![Weighted::new(&fails.upstream, 1)]);
        return Some(HostRoutes {
            hosts: names.into(),
            port: None,
            rules: vec![RuleSpec {
                object: Some(Arc::clone(&fails.object)),
                ..RuleSpec::new(action, fails.place.clone())
            }]
            .into(),
            object: Some(Arc::clone(&fails.object)),
            place: fails.place.clone(),
        });
    }
    let redirect = redirect.and_then(|server| servers.get(server));
    let redirect = redirect.map(|(offer, _)| to_https(offer));
    let found = routes.iter().filter_map(|at| rules.get(at));
    let found = sunk(found);
    let owner = routes.first().and_then(|(server, nth)| {
        let (_, bound) = servers.get(*server)?;
        let (one, _) = bound.routes.get(*nth)?;
        Some((Arc::clone(&one.object), one.vs.meta.place.clone()))
    });
    let of_redirect = || {
        let rule = redirect.as_ref()?;
        Some((rule.object.clone()?, rule.place.clone()))
    };
    let (object, place) = owner.or_else(of_redirect)?;
    Some(HostRoutes {
        hosts: names.into(),
        port: None,
        rules: redirect.into_iter().chain(found).collect::<Vec<_>>().into(),
        object: Some(object),
        place,
    })
}

/// G10: every request, whatever VirtualServices say; but for those that came to a proxy before us,
/// which is believed, in https.
fn to_https(offer: &Offer<'_>) -> RuleSpec {
    let place = match &offer.server.kind {
        crate::config::istio::gateway::ServerKind::Http(Some(place)) => place.clone(),
        _ => offer.server.place.clone(),
    };
    let redirect = Redirect {
        status: 301,
        scheme: Some("https".to_owned()),
        authority: None,
        path: None,
        port: None,
    };
    RuleSpec {
        name: Some("https-redirect".into()),
        matches: vec![MatchSpec {
            scheme: Some(StringMatch::Exact("http".into())),
            ..MatchSpec::default()
        }],
        object: Some(offer.gateway.meta.object()),
        ..RuleSpec::new(Action::Redirect(redirect), place)
    }
}

/// V7: what follows a rule that always holds is never asked, nor is it after another
/// VirtualService's rules were put between.
fn until_catch_all(rules: Vec<RuleSpec>) -> Vec<RuleSpec> {
    let mut kept = Vec::with_capacity(rules.len());
    for mut rule in rules {
        let at = rule.matches.iter().position(is_catch_all);
        let is_last = at.is_some() || rule.matches.is_empty();
        if let Some(at) = at {
            rule.matches.truncate(at + 1);
        }
        kept.push(rule);
        if is_last {
            break;
        }
    }
    kept
}

/// V5: the rules of several VirtualServices in the order of their age, and behind them all that
/// always hold. Of a rule with several conditions the one that always holds goes there alone.
fn sunk<'r>(all: impl Iterator<Item = &'r Vec<RuleSpec>>) -> Vec<RuleSpec> {
    let (mut rules, mut last) = (Vec::new(), Vec::new());
    for rule in all.flatten() {
        let catches = rule.matches.is_empty() || rule.matches.iter().any(is_catch_all);
        if !catches {
            rules.push(rule.clone());
            continue;
        }
        let (all, some): (Vec<MatchSpec>, Vec<_>) =
            rule.matches.iter().cloned().partition(is_catch_all);
        if !some.is_empty() {
            rules.push(RuleSpec {
                matches: some,
                ..rule.clone()
            });
        }
        last.push(RuleSpec {
            matches: all,
            ..rule.clone()
        });
    }
    rules.append(&mut last);
    rules
}

/// V5: no condition but that the path begins with a slash.
fn is_catch_all(one: &MatchSpec) -> bool {
    let every_path = match &one.path {
        None => true,
        Some(StringMatch::Prefix(path)) => path == "/",
        Some(StringMatch::Exact(_) | StringMatch::Regex(_)) => false,
    };
    every_path
        && one.methods.is_empty()
        && one.method.is_none()
        && one.scheme.is_none()
        && one.authority.is_none()
        && one.headers.is_empty()
        && one.query.is_empty()
}
