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

#[cfg(test)]
mod tests {
    use crate::config::istio::lower::testing::{Lab, Told};

    const ENTRY: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a, namespace: svc}
spec: {hosts: [a.b.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}
";

    /// A rule that is told by its SNI.
    fn rule(namespace: &str, name: &str, host: &str, more: &str) -> String {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, \
             namespace: {namespace}}}\nspec: {{host: '{host}', trafficPolicy: {{tls: {{mode: SIMPLE, \
             sni: {name}}}}}{more}}}\n"
        )
    }

    fn told(rules: &[String]) -> Told {
        Lab::new(&format!("{ENTRY}{}", rules.concat()))
            .facts(|facts| {
                facts.labels.insert("app".into(), "me".into());
            })
            .refer("a.b.example", 80, "")
    }

    fn sni(told: &Told) -> String {
        match told.is_plaintext() {
            true => "plaintext".to_owned(),
            false => told.tls().server_name.as_ref().unwrap().to_string(),
        }
    }

    #[test]
    fn d1_the_proxys_namespace_then_the_services_then_the_root() {
        let own = rule("default", "own", "a.b.example", "");
        let service = rule("svc", "service", "a.b.example", "");
        let root = rule("istio-system", "root", "a.b.example", "");
        let other = rule("other", "other", "a.b.example", "");
        let all = [root, service, own, other];
        assert_eq!(sni(&told(&all)), "own");
        assert_eq!(sni(&told(&all[..2])), "service");
        assert_eq!(sni(&told(&all[..1])), "root");
        assert_eq!(sni(&told(&all[3..])), "plaintext");
    }

    #[test]
    fn d1_inside_a_namespace_the_exact_host_then_the_longest_wildcard() {
        let any = rule("default", "any", "*", "");
        let wide = rule("default", "wide", "*.example", "");
        let long = rule("default", "long", "*.b.example", "");
        let exact = rule("default", "exact", "a.b.example", "");
        let all = [any, wide, long, exact];
        for (n, found) in ["any", "wide", "long", "exact"].iter().enumerate() {
            assert_eq!(sni(&told(&all[..=n])), *found);
        }
    }

    #[test]
    fn d1_the_first_namespace_that_has_any_decides_even_with_a_wildcard() {
        let wild = rule("default", "wild", "*.example", "");
        let exact = rule("svc", "exact", "a.b.example", "");
        assert_eq!(sni(&told(&[exact, wild])), "wild");
    }

    #[test]
    fn h5_a_rule_that_is_not_exported_to_the_proxy_does_not_apply() {
        for (namespace, export_to, applies) in [
            ("svc", "[.]", false),
            ("svc", "[default]", true),
            ("default", "[.]", true),
            ("default", "[svc]", false),
            ("default", "['~']", false),
            ("istio-system", "[.]", false),
        ] {
            let one = rule(
                namespace,
                "one",
                "a.b.example",
                &format!(", exportTo: {export_to}"),
            );
            let found = sni(&told(&[one]));
            assert_eq!(found == "one", applies, "{namespace} {export_to}");
        }
    }

    #[test]
    fn d1_in_the_root_namespace_only_unexported_rules_come_before_the_services() {
        let root = |more: &str| rule("istio-system", "root", "a.b.example", more);
        let service = rule("svc", "service", "a.b.example", "");
        let told = |rules: &[String]| {
            Lab::new(&format!("{ENTRY}{}", rules.concat()))
                .facts(|facts| facts.namespace = "istio-system".into())
                .refer("a.b.example", 80, "")
        };
        assert_eq!(sni(&told(&[root(""), service.clone()])), "service");
        assert_eq!(sni(&told(&[root(", exportTo: [.]"), service])), "root");
        assert_eq!(sni(&told(&[root("")])), "root");
    }

    #[test]
    fn d2_a_rule_that_selects_the_proxy_beats_an_older_one_that_selects_nobody() {
        let bare = rule("default", "bare", "a.b.example", "");
        let mine = rule(
            "default",
            "mine",
            "a.b.example",
            ", workloadSelector: {matchLabels: {app: me}}",
        );
        let other = rule(
            "default",
            "other",
            "a.b.example",
            ", workloadSelector: {matchLabels: {app: you}}",
        );
        let all = [bare, mine, other];
        assert_eq!(sni(&told(&all)), "mine");
        assert_eq!(sni(&told(&all[..1])), "bare");
        assert_eq!(sni(&told(&all[2..])), "plaintext");
        let elsewhere = rule(
            "svc",
            "far",
            "a.b.example",
            ", workloadSelector: {matchLabels: {app: me}}",
        );
        assert_eq!(sni(&told(&[elsewhere])), "plaintext");
    }

    #[test]
    fn d3_the_oldest_policy_counts_and_subsets_are_joined() {
        let text = "
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: first}
spec: {host: a.b.example, subsets: [{name: x, trafficPolicy: {tls: {mode: SIMPLE, sni: x-first}}}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: second}
spec:
  host: a.b.example
  trafficPolicy: {tls: {mode: SIMPLE, sni: second}}
  subsets: [{name: x, trafficPolicy: {tls: {mode: SIMPLE, sni: x-second}}}, {name: y}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: third}
spec: {host: a.b.example, trafficPolicy: {tls: {mode: SIMPLE, sni: third}}}
";
        let lab = Lab::new(&format!("{ENTRY}{text}"));
        for (subset, found) in [("", "second"), ("x", "x-first"), ("y", "second")] {
            assert_eq!(
                sni(&lab.refer("a.b.example", 80, subset)),
                found,
                "{subset}"
            );
        }
        let told = lab.refer("a.b.example", 80, "z");
        assert_eq!(
            told.broken(),
            "NoCluster: a.b.example has no subset \"z\": DestinationRule default/first at t.yaml:8 has x, y \
             (VirtualService default/test at vs.yaml:99)"
        );
        assert_eq!(told.said("IST0101").len(), 1);
    }

    #[test]
    fn x1_a_refused_rule_fails_every_upstream_that_it_would_have_governed() {
        let bad = "
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: bad, namespace: NS}
spec: {host: HOST, trafficPolicy: {tls: {mode: SIMPLEST}}}
";
        let exact = rule("default", "exact", "a.b.example", "");
        for (namespace, host, also, fails) in [
            ("default", "a.b.example", "", true),
            ("default", "'*.example'", "", true),
            ("svc", "a.b.example", "", true),
            ("other", "a.b.example", "", false),
            ("default", "c.b.example", "", false),
            // A more specific rule would have come first, refused or not.
            ("default", "'*.example'", exact.as_str(), false),
            ("default", "a.b.example", exact.as_str(), true),
        ] {
            let bad = bad.replace("NS", namespace).replace("HOST", host);
            let told = told(&[bad, also.to_owned()]);
            let broken = told.broken();
            assert_eq!(
                broken != "not broken",
                fails,
                "{namespace} {host} {also}: {broken}"
            );
            if fails {
                let start =
                    format!("Unhealthy: t.yaml:11: DestinationRule {namespace}/bad was refused: ");
                assert!(broken.starts_with(&start), "{broken}");
            }
        }
    }
}
