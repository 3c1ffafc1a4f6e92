//! DestinationRules by host: which one a host gets, and what those of one host say together.
//!
//! Owns: [`Policies`]: D1 (namespaces), D2 (workloadSelector), D3 (merge by age).
//! Never: merges the levels of one rule (that is `traffic`).
//! Called by: clusters, analysis, lower.

use std::collections::HashMap;

use super::host_index::HostIndex;
use super::names;
use super::scope::Scope;
use crate::config::istio::Manifests;
use crate::config::istio::destination_rule::{DestinationRule, Subset, TrafficPolicy};
use crate::config::istio::manifests::{Governs, RefusedObject};
use crate::config::istio::meta::{ExportTo, Labels, Meta, selects};
use crate::model::HostPattern;

/// What all DestinationRules of one host in one namespace say (D3).
#[derive(Clone, Debug)]
pub struct Merged<'a> {
    /// The oldest of them.
    pub meta: &'a Meta,
    /// Of the oldest that has one.
    pub policy: Option<(&'a TrafficPolicy, &'a DestinationRule)>,
    /// Each name once, of the oldest that has it.
    pub subsets: Vec<(&'a Subset, &'a DestinationRule)>,
    /// The host that it was found under: the service's own, or a wildcard.
    pub host: HostPattern,
    /// A rule that belongs here was turned away: nothing of the rest may be served (X1).
    pub refused: Option<&'a RefusedObject>,
    /// They select this proxy (D2).
    selecting: bool,
}

impl<'a> Merged<'a> {
    /// The subset of this name.
    pub fn subset(&self, name: &str) -> Option<(&'a Subset, &'a DestinationRule)> {
        let mut subsets = self.subsets.iter().copied();
        subsets.find(|(subset, _)| subset.name.as_ref() == name)
    }
}

/// DestinationRules that may apply to this proxy, by namespace and host.
#[derive(Default)]
pub struct Policies<'a> {
    /// Of the proxy's own namespace. In the root namespace: those that are not exported at all.
    own: HostIndex<Option<Merged<'a>>>,
    /// Those that each namespace exports to the proxy's.
    exported: HashMap<&'a str, HostIndex<Option<Merged<'a>>>>,
    root: &'a str,
}

impl<'a> Policies<'a> {
    /// Those of `manifests` that this proxy sees, merged.
    pub fn build(
        manifests: &'a Manifests,
        scope: &'a Scope,
        labels: &Labels,
        domain: &str,
    ) -> Policies<'a> {
        let mut sorted: Vec<&DestinationRule> = manifests.destination_rules.iter().collect();
        sorted.sort_by(|a, b| a.meta.by_age(&b.meta));
        // D2: those that select this proxy come first, and keep the others out.
        let selecting = |rule: &&&DestinationRule| rule.selector.is_some();
        let chosen = sorted.iter().filter(selecting);
        let rest = sorted.iter().filter(|rule| rule.selector.is_none());
        let mut policies = Policies {
            root: &scope.mesh.root_namespace,
            ..Policies::default()
        };
        let own_is_root = scope.namespace == scope.mesh.root_namespace;
        for rule in chosen.chain(rest).copied() {
            let namespace = rule.meta.namespace.as_ref();
            let own = rule.meta.namespace == scope.namespace;
            let applies = match &rule.selector {
                Some(selector) => own && selects(selector, labels),
                None => true,
            };
            if !applies || !rule.export_to.is_visible_in(&scope.namespace) {
                continue;
            }
            let Ok(host) = names::expand(&rule.host.value, namespace, domain) else {
                continue;
            };
            let private = is_private(&rule.export_to, namespace);
            if own && (!own_is_root || private) {
                add(policies.own.entry(&host), rule, &host);
            }
            if !own || (own_is_root && !private) {
                let of = policies.exported.entry(namespace).or_default();
                add(of.entry(&host), rule, &host);
            }
        }
        for refused in &manifests.refused {
            policies.refuse(refused, scope);
        }
        policies
    }

    /// X1: a rule that was turned away holds its place all the same. Whom it selects and who sees it
    /// is not known, and so it is taken to apply.
    fn refuse(&mut self, refused: &'a RefusedObject, scope: &Scope) {
        let Governs::Hosts(hosts) = &refused.governs else {
            return;
        };
        if refused.meta.kind != "DestinationRule" {
            return;
        }
        for host in hosts {
            let namespace = refused.meta.namespace.as_ref();
            if refused.meta.namespace == scope.namespace {
                hold(self.own.entry(host), refused, host);
            }
            let of = self.exported.entry(namespace).or_default();
            hold(of.entry(host), refused, host);
        }
    }

    /// D1: the rule for `host`, which is a service of `namespace`: the proxy's own namespace, then
    /// the service's, then the root namespace; inside each the exact host, then the longest
    /// wildcard. The first namespace that has any decides.
    pub fn find(&self, host: &HostPattern, namespace: Option<&str>) -> Option<&Merged<'a>> {
        if let Some(Some(found)) = self.own.most_specific(host) {
            return Some(found);
        }
        let places = [namespace, Some(self.root)];
        places.into_iter().flatten().find_map(|namespace| {
            let of = self.exported.get(namespace)?;
            of.most_specific(host)?.as_ref()
        })
    }
}

/// `exportTo: ["."]`: for the own namespace alone.
fn is_private(export_to: &ExportTo, namespace: &str) -> bool {
    match export_to {
        ExportTo::Namespaces(list) => list.iter().all(|one| one.as_ref() == namespace),
        ExportTo::All | ExportTo::Nobody => false,
    }
}

/// D3: one more rule, younger than those before it.
fn add<'a>(slot: &mut Option<Merged<'a>>, rule: &'a DestinationRule, host: &HostPattern) {
    let selecting = rule.selector.is_some();
    let merged = slot.get_or_insert_with(|| Merged {
        meta: &rule.meta,
        policy: None,
        subsets: Vec::new(),
        host: host.clone(),
        refused: None,
        selecting,
    });
    // A rule that selects the proxy beats one that does not, as a whole.
    if merged.selecting != selecting {
        return;
    }
    if merged.policy.is_none() {
        merged.policy = rule.policy.as_ref().map(|policy| (policy, rule));
    }
    for subset in &rule.subsets {
        if merged.subset(&subset.name).is_none() {
            merged.subsets.push((subset, rule));
        }
    }
}

fn hold<'a>(slot: &mut Option<Merged<'a>>, refused: &'a RefusedObject, host: &HostPattern) {
    let merged = slot.get_or_insert_with(|| Merged {
        meta: &refused.meta,
        policy: None,
        subsets: Vec::new(),
        host: host.clone(),
        refused: None,
        selecting: false,
    });
    merged.refused.get_or_insert(refused);
}
