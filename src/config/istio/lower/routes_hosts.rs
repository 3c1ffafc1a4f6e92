//! The hosts of the table: who has which host on which port (ISTIO.md V3, V4, V5, V6, H4).
//!
//! Owns: virtual hosts from VirtualServices and from services alone, and that no host and port is
//! there twice.
//! Never: lowers a rule (that is `routes_rules`).
//! Called by: routes.
//!
//! Who has a host, where several would: what native documents say, then the VirtualService or
//! service that has it as its own name, then a service with it as an alias or address.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::clusters::Wanted;
use super::registry::Known;
use super::routes_claims::{Active, Claims, Side};
use super::routes_rules::Ground;
use super::routes_say::Say;
use crate::config::diagnostic::{Code, Diagnostics};
use crate::model::{Action, HostPattern, HostRoutes, Place, ProxyFacts, RuleSpec, Weighted};

/// V4: the one port on which a VirtualService needs no service.
const PLAIN_HTTP: u16 = 80;

/// Who gets a host: rules of a VirtualService by its position, or the default route of a service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Rules(usize),
    Default(usize),
}

/// Somebody who would like to have a host.
struct Owner<'a> {
    object: &'a Arc<str>,
    place: &'a Place,
}

/// Who has a host: on which port, in which object, where.
type Taken = HashMap<HostPattern, Vec<(Option<u16>, Arc<str>, Place)>>;

/// The hosts given out so far.
struct Given<'a> {
    groups: BTreeMap<(Source, u16), Vec<HostPattern>>,
    taken: Taken,
    out: &'a mut Diagnostics,
}

/// The hosts that `active` and the registry make, `native` being there already. Gives also the ports
/// that each of `active` routes.
pub fn lower(
    active: &[Active<'_>],
    claims: &Claims,
    native: &[HostRoutes],
    ground: &mut Ground<'_, '_>,
) -> (Vec<HostRoutes>, Vec<Vec<u16>>) {
    let services = &ground.registry.services;
    let mut given = Given {
        groups: BTreeMap::new(),
        taken: taken(native),
        out: ground.out,
    };
    let slots = slots(active, claims, services, ground.facts);
    own_names(active, claims, services, ground.facts, &mut given);
    for (service, port, source) in &slots {
        given.own(&service.host, *port, *source, &owner(service));
    }
    for (service, port, source) in &slots {
        for alias in &service.aliases {
            let alias = HostPattern::Exact(alias.clone());
            given.other(alias, *port, *source, &owner(service));
        }
    }
    let groups = given.groups;
    let mut ports = vec![Vec::new(); active.len()];
    let mut hosts = Vec::with_capacity(groups.len());
    for ((source, port), names) in groups {
        let group = match source {
            Source::Rules(index) => {
                if let Some(ports) = ports.get_mut(index) {
                    ports.push(port);
                }
                active.get(index).map(|one| HostRoutes {
                    hosts: names.into(),
                    port: Some(port),
                    rules: ground.rules(one, port, Side::Mesh).into(),
                    object: Some(Arc::clone(&one.object)),
                    place: one.vs.meta.place.clone(),
                })
            }
            Source::Default(index) => services
                .get(index)
                .map(|service| default_route(service, port, names, ground)),
        };
        hosts.extend(group);
    }
    (hosts, ports)
}

fn owner(service: &Known) -> Owner<'_> {
    Owner {
        object: &service.object,
        place: &service.place,
    }
}

/// What native documents have: their entries are not touched, whatever else wants the host.
fn taken(native: &[HostRoutes]) -> Taken {
    let mut taken = Taken::new();
    for group in native {
        for host in &group.hosts {
            let owner = (group.port, Arc::from("a route"), group.place.clone());
            taken.entry(host.clone()).or_default().push(owner);
        }
    }
    taken
}

/// V3, V6: every port of every service that may carry HTTP, and who answers there.
fn slots<'r>(
    active: &[Active<'_>],
    claims: &Claims,
    services: &'r [Known],
    facts: &ProxyFacts,
) -> Vec<(&'r Known, u16, Source)> {
    let mut slots = Vec::with_capacity(services.len());
    for (index, service) in services.iter().enumerate() {
        let candidates: Vec<usize> = claims.of(&service.host).collect();
        for port in service
            .ports
            .iter()
            .filter(|one| one.protocol.may_be_http())
        {
            let routes = |index: &&usize| {
                let one = active.get(**index);
                one.is_some_and(|one| one.routes_http_on(port.number, facts))
            };
            let source = match candidates.iter().find(routes) {
                Some(index) => Source::Rules(*index),
                None => Source::Default(index),
            };
            slots.push((service, port.number, source));
        }
    }
    slots
}

/// V4: a host without a service on port 80 has that port all the same.
fn own_names(
    active: &[Active<'_>],
    claims: &Claims,
    services: &[Known],
    facts: &ProxyFacts,
    given: &mut Given<'_>,
) {
    let on_80 = |service: &&Known| service.ports.iter().any(|one| one.number == PLAIN_HTTP);
    let with_80: HashMap<&HostPattern, ()> = services
        .iter()
        .filter(on_80)
        .map(|service| (&service.host, ()))
        .collect();
    for (index, one) in active.iter().enumerate() {
        if one.vs.http.is_empty() || !one.routes_http_on(PLAIN_HTTP, facts) {
            continue;
        }
        for (host, place) in &one.hosts {
            // V5: the oldest that has rules for the port.
            let routes = |index: &&usize| {
                let one = active.get(**index);
                one.is_some_and(|one| one.routes_http_on(PLAIN_HTTP, facts))
            };
            let first = claims.exactly(host).iter().find(routes);
            if with_80.contains_key(host) || first != Some(&index) {
                continue;
            }
            let owner = Owner {
                object: &one.object,
                place,
            };
            given.own(host, PLAIN_HTTP, Source::Rules(index), &owner);
        }
    }
}

/// V6: to the service itself, without a timeout.
fn default_route(
    service: &Known,
    port: u16,
    hosts: Vec<HostPattern>,
    ground: &mut Ground<'_, '_>,
) -> HostRoutes {
    let host = service.host.to_string();
    let wanted = Wanted {
        host: &host,
        port,
        subset: "",
    };
    let upstream = ground.refer(wanted, &service.object, &service.place);
    let action = Action::Forward(vec![Weighted::new(&upstream, 1)]);
    HostRoutes {
        hosts: hosts.into(),
        port: Some(port),
        rules: vec![RuleSpec {
            name: Some("default".into()),
            object: Some(Arc::clone(&service.object)),
            ..RuleSpec::new(action, service.place.clone())
        }]
        .into(),
        object: Some(Arc::clone(&service.object)),
        place: service.place.clone(),
    }
}

impl Given<'_> {
    /// `host` is the owner's own name.
    fn own(&mut self, host: &HostPattern, port: u16, source: Source, owner: &Owner<'_>) {
        let Some((object, place)) = self.take(host, port, owner) else {
            self.add(host.clone(), port, source);
            return;
        };
        let problem = format!(
            "the host {host} on port {port} is routed by {object} at {place} already, which decides \
             alone"
        );
        let advice = "take the host out of one of the two";
        Say::about(Arc::clone(owner.object), owner.place).push(
            self.out,
            Code::HostTwice,
            problem,
            advice,
        );
    }

    /// `host` is an alias of the owner: a short name, or an address.
    fn other(&mut self, host: HostPattern, port: u16, source: Source, owner: &Owner<'_>) {
        let Some((object, place)) = self.take(&host, port, owner) else {
            self.add(host, port, source);
            return;
        };
        if object == *owner.object {
            return;
        }
        let problem = format!(
            "its other name {host} on port {port} belongs to {object} at {place}, which gets the requests"
        );
        Say::about(Arc::clone(owner.object), owner.place).push(
            self.out,
            Code::SeveralOwners,
            problem,
            "",
        );
    }

    fn add(&mut self, host: HostPattern, port: u16, source: Source) {
        self.groups.entry((source, port)).or_default().push(host);
    }

    /// Takes the host for the owner; gives who has it where it is taken.
    fn take(
        &mut self,
        host: &HostPattern,
        port: u16,
        owner: &Owner<'_>,
    ) -> Option<(Arc<str>, Place)> {
        let mine = || (Some(port), Arc::clone(owner.object), owner.place.clone());
        let Some(list) = self.taken.get_mut(host) else {
            self.taken.insert(host.clone(), vec![mine()]);
            return None;
        };
        let first = list.iter().find(|(on, ..)| on.is_none_or(|on| on == port));
        match first {
            Some((_, object, place)) => Some((Arc::clone(object), place.clone())),
            None => {
                list.push(mine());
                None
            }
        }
    }
}
