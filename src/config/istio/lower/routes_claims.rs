//! Which VirtualServices this proxy follows, and which hosts each of them has (ISTIO.md V1, V3, V5).
//!
//! Owns: [`Active`], [`Claims`], and what there is to say of references and of hosts claimed twice.
//! Never: lowers a rule.
//! Called by: routes, streams.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::host_index::HostIndex;
use super::routes_names::{MESH, Names, gateway};
use super::routes_say::Say;
use super::scope::Scope;
use crate::config::diagnostic::{Code, Diagnostics};
use crate::config::istio::Manifests;
use crate::config::istio::gateway::{Gateway, ServerHost};
use crate::config::istio::meta::{Meta, Written, selects};
use crate::config::istio::virtual_service::{MatchOn, VirtualService};
use crate::model::{HostPattern, Place, ProxyFacts};

/// A VirtualService that this proxy follows.
#[derive(Clone)]
pub struct Active<'a> {
    pub vs: &'a VirtualService,
    /// The Sidecar lists it, which is of no concern to gateways (H7).
    listed: bool,
    /// What messages call it.
    pub object: Arc<str>,
    /// Expanded (H3), in the order written.
    pub hosts: Vec<(HostPattern, &'a Place)>,
}

/// For whom rules are lowered (V1, V8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side<'s> {
    /// The clients of the mesh's side.
    Mesh,
    /// Those of a server of this Gateway: namespace and name.
    Gateway(&'s str, &'s str),
}

impl Side<'_> {
    /// True where one of `gateways`, written in an object of `namespace`, means it.
    pub fn is_named<'w>(
        self,
        mut gateways: impl Iterator<Item = &'w str>,
        namespace: &str,
    ) -> bool {
        match self {
            Side::Mesh => gateways.any(|one| one == MESH),
            Side::Gateway(of, name) => {
                gateways.any(|one| one != MESH && gateway(one, namespace) == (of, name))
            }
        }
    }
}

/// The VirtualServices that this proxy sees (H5), on the mesh's side as far as the Sidecar lists
/// them (H7), the oldest first.
pub fn visible<'a>(
    manifests: &'a Manifests,
    names: &Names<'_>,
    scope: &Scope,
    out: &mut Diagnostics,
) -> Vec<Active<'a>> {
    let mut list: Vec<_> = manifests.virtual_services.iter().collect();
    list.sort_by(|a, b| a.meta.by_age(&b.meta));
    let mut seen = Vec::with_capacity(list.len());
    for vs in list {
        let hosts = hosts(vs, names, out);
        let patterns = hosts.iter().map(|(host, _)| host);
        let listed = scope.sees_routes(&vs.meta.namespace, &vs.export_to, patterns);
        let one = Active {
            object: vs.meta.object(),
            listed,
            hosts,
            vs,
        };
        let exported = || vs.export_to.is_visible_in(&scope.namespace);
        if listed || exported() && one.is_for_gateways() {
            seen.push(one);
        }
    }
    seen
}

/// V1: nothing written means the mesh.
fn names_mesh(gateways: &[Written<String>]) -> bool {
    gateways.is_empty() || gateways.iter().any(|one| one.value == MESH)
}

fn hosts<'a>(
    vs: &'a VirtualService,
    names: &Names<'_>,
    out: &mut Diagnostics,
) -> Vec<(HostPattern, &'a Place)> {
    let mut list = Vec::with_capacity(vs.hosts.len());
    for host in &vs.hosts {
        match names.expand(&host.value, &vs.meta.namespace) {
            Some(pattern) => list.push((pattern, &host.place)),
            None => Say::of(&vs.meta, &host.place).field("spec.hosts").push(
                out,
                Code::SchemaError,
                format!("{:?} is no host", host.value),
                "write a name, *.suffix or *",
            ),
        }
    }
    list
}

impl Active<'_> {
    /// V1: it is for the mesh, among others perhaps.
    pub fn is_for_mesh(&self) -> bool {
        self.listed && names_mesh(&self.vs.gateways)
    }

    /// It names a Gateway, which may be there or not.
    pub fn is_for_gateways(&self) -> bool {
        self.vs.gateways.iter().any(|one| one.value != MESH)
    }

    /// V8 for HTTP, on either side.
    pub fn takes_http(&self, on: &MatchOn, side: Side<'_>, facts: &ProxyFacts) -> bool {
        match (&on.gateways, side) {
            (_, Side::Mesh) => Active::http_is_for(on, facts),
            (Some(gateways), side) if !gateways.is_empty() => self.names(gateways, side),
            _ => is_from(on, facts),
        }
    }

    /// V8 for TLS and TCP, on either side.
    pub fn takes_stream(&self, on: &MatchOn, side: Side<'_>, facts: &ProxyFacts) -> bool {
        match (&on.gateways, side) {
            (_, Side::Mesh) => Active::stream_is_for(on, facts),
            (Some(gateways), side) if !gateways.is_empty() => {
                self.names(gateways, side) && is_from(on, facts)
            }
            _ => is_from(on, facts),
        }
    }

    fn names(&self, gateways: &[Written<String>], side: Side<'_>) -> bool {
        let written = gateways.iter().map(|one| one.value.as_str());
        side.is_named(written, &self.vs.meta.namespace)
    }

    /// V8 for HTTP: `gateways` on a match puts `sourceLabels` and `sourceNamespace` out of force.
    pub fn http_is_for(on: &MatchOn, facts: &ProxyFacts) -> bool {
        match &on.gateways {
            Some(gateways) => names_mesh(gateways),
            None => is_from(on, facts),
        }
    }

    /// V8 for TLS and TCP: all of them must hold.
    pub fn stream_is_for(on: &MatchOn, facts: &ProxyFacts) -> bool {
        on.gateways.as_deref().is_none_or(names_mesh) && is_from(on, facts)
    }

    /// True where it has an HTTP rule for `port`.
    pub fn routes_http_on(&self, port: u16, facts: &ProxyFacts) -> bool {
        self.vs.http.iter().any(|rule| {
            let is_for = |on: &MatchOn| is_on(on, port) && Active::http_is_for(on, facts);
            rule.matches.is_empty() || rule.matches.iter().any(|one| is_for(&one.on))
        })
    }
}

/// True where a match does not ask for another port.
pub fn is_on(on: &MatchOn, port: u16) -> bool {
    on.port.is_none_or(|wanted| wanted == port)
}

fn is_from(on: &MatchOn, facts: &ProxyFacts) -> bool {
    let here = |namespace: &Arc<str>| *namespace == facts.namespace;
    selects(&on.source_labels, &facts.labels) && on.source_namespace.as_ref().is_none_or(here)
}

/// Which VirtualServices, by their position, claim a host for one kind of traffic.
#[derive(Default)]
pub struct Claims(HostIndex<Vec<usize>>);

impl Claims {
    /// Of those that `has` rules for this kind of traffic; the rest claims nothing.
    pub fn new(active: &[Active<'_>], has: impl Fn(&VirtualService) -> bool) -> Claims {
        let mut claims = Claims::default();
        for (index, one) in active.iter().enumerate().filter(|(_, one)| has(one.vs)) {
            for (host, _) in &one.hosts {
                let list = claims.0.entry(host);
                if list.last() != Some(&index) {
                    list.push(index);
                }
            }
        }
        claims
    }

    /// Those that claim `host`: by its very name, then by the most specific wildcard (V3), the
    /// older first.
    pub fn of(&self, host: &HostPattern) -> impl Iterator<Item = usize> {
        let levels = match self.0.exactly(host) {
            Some(_) => 2,
            None => 1,
        };
        let found: Vec<&Vec<usize>> = self.0.covering(host).take(levels).collect();
        found.into_iter().flatten().copied()
    }

    /// Those that name `host` itself.
    pub fn exactly(&self, host: &HostPattern) -> &[usize] {
        self.0.exactly(host).map(Vec::as_slice).unwrap_or_default()
    }
}

/// IST0109: the older of two VirtualServices decides alone on every port that it routes (V5).
pub fn claimed_twice(
    active: &[Active<'_>],
    claims: &Claims,
    has: impl Fn(&VirtualService) -> bool,
    kind: &str,
    out: &mut Diagnostics,
) {
    for (index, one) in active.iter().enumerate().filter(|(_, one)| has(one.vs)) {
        for (host, place) in &one.hosts {
            let first = claims.exactly(host).first().copied();
            let Some(first) = first.filter(|first| *first != index) else {
                continue;
            };
            let Some(older) = active.get(first) else {
                continue;
            };
            let problem = format!(
                "the host {host} is claimed by {} at {} as well, for {kind}; the older one decides \
                 alone on every port that it routes, and here {} is ignored there",
                older.object, older.vs.meta.place, one.object
            );
            let advice = "put the rules of both into one VirtualService";
            Say::of(&one.vs.meta, place).field("spec.hosts").push(
                out,
                Code::HostClaimedTwice,
                problem,
                advice,
            );
        }
    }
}

/// IST0101, IST0131 and IST0132 of all references to Gateways (V2).
pub fn check_gateways(manifests: &Manifests, visible: &[Active<'_>], out: &mut Diagnostics) {
    let gateways = manifests.gateways.iter();
    let known: HashMap<_, &Gateway> = gateways.map(|one| (one.key(), one)).collect();
    let refused = manifests.refused.iter().map(|one| &one.meta);
    let refused: HashSet<_> = refused
        .filter(|meta| meta.kind == "Gateway")
        .map(key)
        .collect();
    for vs in visible.iter().map(|one| one.vs) {
        for written in vs.gateways.iter().filter(|one| one.value != MESH) {
            let (namespace, name) = gateway(&written.value, &vs.meta.namespace);
            match known.get(&(namespace, name)) {
                Some(gateway) => check_hosts(vs, written, gateway, out),
                None if refused.contains(&(namespace, name)) => {}
                None => Say::of(&vs.meta, &written.place)
                    .field("spec.gateways")
                    .push(
                        out,
                        Code::ReferenceNotFound,
                        format!("there is no Gateway {namespace}/{name}"),
                        "add the Gateway's document, or take it out of gateways",
                    ),
            }
        }
        check_match_gateways(vs, out);
    }
}

fn key(meta: &Meta) -> (&str, &str) {
    (&meta.namespace, &meta.name)
}

/// IST0132: at least one host of the VirtualService must be the Gateway's.
fn check_hosts(
    vs: &VirtualService,
    written: &Written<String>,
    gateway: &Gateway,
    out: &mut Diagnostics,
) {
    let served = || gateway.servers.iter().flat_map(|server| &server.hosts);
    let serves = |served: &Written<ServerHost>| {
        let host = served.value.host.to_string();
        served.value.is_for(&vs.meta.namespace)
            && vs.hosts.iter().any(|one| overlap(&one.value, &host))
    };
    if served().any(serves) {
        return;
    }
    let hosts: Vec<&str> = served().map(|one| one.value.text.as_ref()).collect();
    let problem = format!(
        "none of its hosts is one that the Gateway {} serves: {}",
        written.value,
        hosts.join(", ")
    );
    let advice = "name the host in the Gateway's server, or take the Gateway out of gateways";
    Say::of(&vs.meta, &written.place)
        .field("spec.gateways")
        .push(out, Code::HostNotInGateway, problem, advice);
}

/// H1: two patterns match where one covers the other.
fn overlap(a: &str, b: &str) -> bool {
    let covers = |wide: &str, narrow: &str| match wide.strip_prefix('*') {
        Some(suffix) => narrow.strip_prefix('*').unwrap_or(narrow).ends_with(suffix),
        None => wide == narrow,
    };
    covers(a, b) || covers(b, a)
}

/// IST0131: a match for a gateway that the VirtualService does not name.
fn check_match_gateways(vs: &VirtualService, out: &mut Diagnostics) {
    let http = vs.http.iter().flat_map(|rule| &rule.matches);
    let http = http.map(|one| (&one.on, "http"));
    let tls = vs.tls.iter().flat_map(|rule| &rule.matches);
    let tls = tls.map(|one| (&one.on, "tls"));
    let tcp = vs.tcp.iter().flat_map(|rule| &rule.matches);
    let tcp = tcp.map(|one| (&one.on, "tcp"));
    for (on, kind) in http.chain(tls).chain(tcp) {
        for written in on.gateways.iter().flatten() {
            let is_named = match vs.gateways.is_empty() {
                true => written.value == MESH,
                false => vs.gateways.iter().any(|one| same(&one.value, written, vs)),
            };
            if !is_named {
                let problem = format!(
                    "the match is for the gateway {}, which is not among the gateways of the \
                     VirtualService, and so it never holds",
                    written.value
                );
                Say::of(&vs.meta, &written.place)
                    .field(&format!("spec.{kind}[].match[].gateways"))
                    .push(
                        out,
                        Code::MatchWithoutEffect,
                        problem,
                        "add it to spec.gateways",
                    );
            }
        }
    }
}

fn same(one: &str, written: &Written<String>, vs: &VirtualService) -> bool {
    let namespace = &vs.meta.namespace;
    one == written.value || gateway(one, namespace) == gateway(&written.value, namespace)
}
