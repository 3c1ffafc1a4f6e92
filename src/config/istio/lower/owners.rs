//! Who has a host: every owner that this proxy sees, the winner, and what merges with it.
//!
//! Owns: visibility (ISTIO.md H5, H7), the winner (H6), aliases of ExternalName Services (E9).
//! Never: says what is behind a service (that is `entries`, `services`).
//! Called by: registry.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::entries;
use super::registry::Known;
use super::report;
use super::scope::Scope;
use super::services::Cluster;
use super::workloads::Workloads;
use crate::config::diagnostic::{Code, Diagnostics};
use crate::config::istio::Manifests;
use crate::config::istio::meta::Meta;
use crate::config::istio::service::Service;
use crate::config::istio::service_entry::ServiceEntry;
use crate::model::{Host, HostPattern};

/// One object that claims a host.
#[derive(Clone, Copy)]
enum Owner<'a> {
    Entry(&'a ServiceEntry),
    Service(&'a Service),
}

impl<'a> Owner<'a> {
    fn meta(self) -> &'a Meta {
        match self {
            Owner::Entry(entry) => &entry.meta,
            Owner::Service(service) => &service.meta,
        }
    }

    fn kubernetes(self) -> bool {
        matches!(self, Owner::Service(_))
    }
}

/// Every service, and the other names of some.
#[derive(Default)]
pub struct Owned {
    /// What requests may ask for, in the order of age.
    pub services: Vec<Known>,
    /// What the Sidecar does not list, and only a VirtualService leads to (H7).
    pub hidden: Vec<Known>,
    /// ExternalName Services that stand for another service: their host and the other's (E9).
    pub aliases: Vec<(Host, HostPattern)>,
}

/// Finds the winner of every host.
pub fn settle(
    manifests: &Manifests,
    scope: &Scope,
    workloads: &Workloads<'_>,
    cluster: &Cluster<'_>,
    out: &mut Diagnostics,
) -> Owned {
    let mut claims = Claims::default();
    for entry in &manifests.service_entries {
        if entry.export_to.is_visible_in(&scope.namespace) {
            for host in &entry.hosts {
                claims.add(host.value.clone(), Owner::Entry(entry));
            }
        }
    }
    for service in &manifests.services {
        if service.export_to.is_visible_in(&scope.namespace)
            && let Some(host) = cluster.host(service)
        {
            claims.add(HostPattern::Exact(host), Owner::Service(service));
        }
    }
    let mut won = winners(claims.list, scope, out);
    won.sort_by(|a, b| oldest_of(a).by_age(oldest_of(b)));
    let mut owned = Owned::default();
    let mut external = BTreeMap::new();
    for claim in won {
        let Some(known) = build(&claim, workloads, cluster) else {
            continue;
        };
        if let Some(Owner::Service(service)) = claim.owners.first()
            && let Some(target) = &service.external_name
            && let HostPattern::Exact(host) = &known.host
        {
            external.insert(host.clone(), (target.clone(), *service));
        }
        match listed(&known, scope) {
            Some(listed) => owned.services.push(listed),
            None => owned.hidden.push(known),
        }
    }
    resolve(&mut owned, external, cluster);
    owned
}

/// One host with those of its owners that count, the winner first.
struct Claim<'a> {
    host: HostPattern,
    owners: Vec<Owner<'a>>,
}

/// Claims in the order in which their hosts were first named.
#[derive(Default)]
struct Claims<'a> {
    list: Vec<Claim<'a>>,
    by_host: HashMap<HostPattern, usize>,
}

impl<'a> Claims<'a> {
    fn add(&mut self, host: HostPattern, owner: Owner<'a>) {
        let next = self.list.len();
        let at = *self.by_host.entry(host.clone()).or_insert(next);
        match self.list.get_mut(at) {
            Some(claim) => claim.owners.push(owner),
            None => self.list.push(Claim {
                host,
                owners: vec![owner],
            }),
        }
    }
}

fn oldest_of<'a>(claim: &Claim<'a>) -> &'a Meta {
    // A claim is made of at least one owner.
    #[expect(clippy::indexing_slicing, reason = "claims are never empty")]
    claim.owners[0].meta()
}

/// H6: what the Sidecar lists before what it does not, Services before ServiceEntries, the proxy's
/// own namespace before others, the oldest before the rest.
fn winners<'a>(claims: Vec<Claim<'a>>, scope: &Scope, out: &mut Diagnostics) -> Vec<Claim<'a>> {
    let mut won = Vec::with_capacity(claims.len());
    for Claim { host, mut owners } in claims {
        let text = host.to_string();
        owners.sort_by(|a, b| {
            let rank = |owner: &Owner<'_>| {
                let meta = owner.meta();
                (
                    !scope.sees_any_port(&meta.namespace, &text),
                    !owner.kubernetes(),
                    meta.namespace != scope.namespace,
                )
            };
            rank(a).cmp(&rank(b)).then(a.meta().by_age(b.meta()))
        });
        let Some(winner) = owners.first().copied() else {
            continue;
        };
        let all = owners.len();
        let every: Vec<String> = owners.iter().map(|owner| named(owner.meta())).collect();
        owners.retain(|owner| match (winner, *owner) {
            (Owner::Entry(first), Owner::Entry(other)) => entries::belong_together(first, other),
            (Owner::Service(first), Owner::Service(other)) => std::ptr::eq(first, other),
            _ => false,
        });
        if owners.len() < all {
            let problem = format!(
                "{host} has {all} owners, {}, and {} has it alone",
                every.join(", "),
                owners_named(&owners),
            );
            let advice = "only ServiceEntries of one namespace with the same resolution, location, \
                          labels, selector and exportTo are merged: make them equal, or keep one";
            let meta = winner.meta();
            out.push(report::about(meta, Code::SeveralOwners, problem, advice));
        }
        won.push(Claim { host, owners });
    }
    won
}

fn named(meta: &Meta) -> String {
    format!("{meta} ({})", meta.place)
}

fn owners_named(owners: &[Owner<'_>]) -> String {
    let names = owners.iter().map(|owner| owner.meta().to_string());
    names.collect::<Vec<_>>().join(" with ")
}

fn build(claim: &Claim<'_>, workloads: &Workloads<'_>, cluster: &Cluster<'_>) -> Option<Known> {
    let mut merged: Option<Known> = None;
    for owner in &claim.owners {
        let known = match (owner, &claim.host) {
            (Owner::Entry(entry), host) => entries::known(entry, host, workloads),
            (Owner::Service(service), HostPattern::Exact(host)) => cluster.known(service, host),
            (Owner::Service(_), HostPattern::Suffix(_) | HostPattern::Any) => continue,
        };
        match &mut merged {
            None => merged = Some(known),
            Some(first) => entries::merge(first, known),
        }
    }
    merged
}

/// The service with the ports that the Sidecar lists; `None` where it lists none of them (H7).
fn listed(known: &Known, scope: &Scope) -> Option<Known> {
    if scope.sidecar().is_none() {
        return Some(known.clone());
    }
    let host = known.host.to_string();
    let keep: Vec<bool> = known
        .ports
        .iter()
        .map(|port| scope.sees_service(&known.namespace, &host, port.number))
        .collect();
    if !keep.contains(&true) {
        return None;
    }
    let mut listed = known.clone();
    listed.keep_ports(&keep);
    Some(listed)
}

/// E9: an ExternalName Service whose target is a service of the registry is another name of that
/// one. A chain that leads back to itself is nothing at all.
fn resolve(owned: &mut Owned, external: BTreeMap<Host, (Host, &Service)>, cluster: &Cluster<'_>) {
    if external.is_empty() {
        return;
    }
    let known: HashMap<HostPattern, usize> = owned
        .services
        .iter()
        .enumerate()
        .map(|(n, known)| (known.host.clone(), n))
        .collect();
    let mut vanish = HashSet::new();
    for (alias, (target, service)) in &external {
        let mut at = target;
        let mut steps = 0;
        while let Some((next, _)) = external.get(at) {
            at = next;
            steps += 1;
            if steps > external.len() {
                break;
            }
        }
        let own = HostPattern::Exact(alias.clone());
        if steps > external.len() {
            vanish.insert(own);
            continue;
        }
        let concrete = HostPattern::Exact(at.clone());
        let target = known
            .get(&concrete)
            .and_then(|n| owned.services.get_mut(*n));
        if let Some(target) = target {
            target.aliases.push(alias.clone());
            target.aliases.extend(cluster.aliases(service));
            owned.aliases.push((alias.clone(), concrete));
            vanish.insert(own);
        } else if steps > 0 {
            // A chain that ends outside the registry: its last name is looked up.
            let found = known.get(&own).and_then(|n| owned.services.get_mut(*n));
            for endpoint in found.into_iter().flat_map(|known| &mut known.endpoints) {
                let host = at.clone();
                endpoint.address = crate::config::istio::workload::WorkloadAddress::Host(host);
            }
        }
    }
    owned.services.retain(|known| !vanish.contains(&known.host));
}

#[cfg(test)]
mod tests {
    use crate::config::istio::lower::testing::Lab;

    fn entry(namespace: &str, name: &str, rest: &str) -> String {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, \
             namespace: {namespace}}}\nspec: {{hosts: [a.example], {rest}}}\n"
        )
    }

    const PORT: &str = "ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC";

    fn with(address: &str) -> String {
        format!("{PORT}, endpoints: [{{address: {address}}}]")
    }

    #[test]
    fn h6_the_proxys_own_namespace_beats_older_owners() {
        let text = [
            entry("one", "x", &with("10.0.0.1")),
            entry("default", "y", &with("10.0.0.2")),
        ];
        let told = Lab::new(&text.concat()).refer("a.example", 80, "");
        assert_eq!(told.endpoints(), ["10.0.0.2:80"]);
        assert_eq!(
            told.said("SRT0509"),
            [
                "t.yaml:7: warning[SRT0509] ServiceEntry default/y: a.example has 2 owners, \
              ServiceEntry default/y (t.yaml:7), ServiceEntry one/x (t.yaml:2), and ServiceEntry \
              default/y has it alone; only ServiceEntries of one namespace with the same \
              resolution, location, labels, selector and exportTo are merged: make them equal, or \
              keep one"
            ]
        );
    }

    #[test]
    fn h6_else_the_oldest_has_it() {
        let text = [
            entry("two", "x", &with("10.0.0.1")),
            entry("one", "y", &with("10.0.0.2")),
        ];
        let told = Lab::new(&text.concat()).refer("a.example", 80, "");
        assert_eq!(told.endpoints(), ["10.0.0.1:80"]);
        let dated = text.concat().replace(
            "name: y, namespace: one}",
            "name: y, namespace: one, creationTimestamp: '2020-01-01T00:00:00Z'}",
        );
        let dated = dated.replace(
            "name: x, namespace: two}",
            "name: x, namespace: two, creationTimestamp: '2021-01-01T00:00:00Z'}",
        );
        let told = Lab::new(&dated).refer("a.example", 80, "");
        assert_eq!(told.endpoints(), ["10.0.0.2:80"]);
    }

    #[test]
    fn h6_a_service_beats_a_service_entry() {
        let text = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: x}
spec: {hosts: [n.s.svc.cluster.local], ports: [{number: 80, name: http, protocol: HTTP}], \
resolution: STATIC, endpoints: [{address: 10.0.0.9}]}
---
apiVersion: v1
kind: Service
metadata: {name: n, namespace: s}
spec: {ports: [{port: 80, name: http}]}
";
        let told = Lab::new(text).refer("n.s.svc.cluster.local", 80, "");
        assert_eq!(told.endpoints(), ["n.s.svc.cluster.local:80"]);
        assert_eq!(told.said("SRT0509").len(), 1);
    }

    #[test]
    fn h6_service_entries_of_one_namespace_merge_their_ports_and_endpoints() {
        let more = "ports: [{number: 81, name: http-b, protocol: HTTP}, {number: 80, name: dup, \
                    protocol: HTTP}], resolution: STATIC, endpoints: [{address: 10.0.0.2}]";
        let text = [
            entry("one", "x", &with("10.0.0.1")),
            entry("one", "y", more),
        ]
        .concat();
        let lab = Lab::new(&text);
        assert_eq!(lab.refer("a.example", 80, "").endpoints(), ["10.0.0.1:80"]);
        let second = lab.refer("a.example", 81, "");
        assert_eq!(second.endpoints(), ["10.0.0.2:81"]);
        assert_eq!(second.said("SRT0509"), Vec::<&str>::new());
    }

    #[test]
    fn h6_service_entries_that_differ_or_are_of_two_namespaces_do_not_merge() {
        let more = "ports: [{number: 81, name: http-b, protocol: HTTP}], resolution: DNS";
        for namespace in ["one", "two"] {
            let more = match namespace {
                "one" => more.to_owned(),
                _ => more.replace("DNS", "STATIC, endpoints: [{address: 10.0.0.2}]"),
            };
            let text = [
                entry("one", "x", &with("10.0.0.1")),
                entry(namespace, "y", &more),
            ];
            let told = Lab::new(&text.concat()).refer("a.example", 81, "");
            assert!(
                told.broken()
                    .starts_with("NoCluster: a.example has no port 81")
            );
            assert_eq!(told.said("SRT0509").len(), 1);
        }
    }

    #[test]
    fn e9_an_external_name_is_another_name_of_the_service_that_it_points_to() {
        let text = "
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: default}
spec: {type: ExternalName, externalName: real.prod.svc.cluster.local, ports: [{port: 80, name: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: real, namespace: prod}
spec: {ports: [{port: 80, name: http}]}
";
        let lab = Lab::new(text);
        let told = lab.refer("alias.default.svc.cluster.local", 80, "");
        assert_eq!(&*told.spec.name, "outbound|80||real.prod.svc.cluster.local");
        let (registry, _) = lab.registry();
        let aliases: Vec<String> = registry.services[0]
            .aliases
            .iter()
            .map(|a| a.to_string())
            .collect();
        assert_eq!(
            aliases,
            [
                "real.prod",
                "real.prod.svc",
                "alias.default.svc.cluster.local",
                "alias",
                "alias.default",
                "alias.default.svc"
            ]
        );
        assert_eq!(registry.services.len(), 1);
    }

    #[test]
    fn e9_an_external_name_outside_the_registry_is_looked_up_and_a_loop_is_nothing() {
        let text = "
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: default}
spec: {type: ExternalName, externalName: bank.example, ports: [{port: 80, name: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: x, namespace: default}
spec: {type: ExternalName, externalName: y.default.svc.cluster.local, ports: [{port: 80, name: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: y, namespace: default}
spec: {type: ExternalName, externalName: x.default.svc.cluster.local, ports: [{port: 80, name: http}]}
";
        let lab = Lab::new(text);
        let told = lab.refer("alias.default.svc.cluster.local", 80, "");
        assert_eq!(told.endpoints(), ["bank.example:80"]);
        assert!(told.is_plaintext());
        assert!(
            lab.registry()
                .0
                .find("x.default.svc.cluster.local")
                .is_none()
        );
    }
}
