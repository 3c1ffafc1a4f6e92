//! What is odd about PeerAuthentications, whether or not one governs this proxy (ISTIO.md P1, P2).
//!
//! Owns: SRT0516, modes of ports that no Service leads to, selectors that have no effect.
//! Never: changes what is served.
//! Called by: analysis.

use std::collections::{BTreeMap, HashMap};

use super::inbound_ports::{Service, with_selectors};
use super::registry::Registry;
use super::report;
use super::workloads::{Workloads, target_of};
use crate::config::diagnostic::{Code, Diagnostics};
use crate::config::istio::Manifests;
use crate::config::istio::meta::{Labels, selects};
use crate::config::istio::peer_authentication::PeerAuthentication;
use crate::config::options::LoadOptions;

/// Says all of it.
pub fn check(
    manifests: &Manifests,
    registry: &Registry,
    options: &LoadOptions,
    out: &mut Diagnostics,
) {
    let root = &registry.scope.mesh.root_namespace;
    let mut policies: Vec<_> = manifests.peer_authentications.iter().collect();
    policies.sort_by(|a, b| a.meta.by_age(&b.meta));
    let (effective, idle): (Vec<_>, Vec<_>) = policies
        .into_iter()
        .partition(|one| one.meta.namespace != *root || selector(one).is_none());
    for policy in idle {
        let problem = "it has a selector and is in the root namespace, where a selector makes no \
                       policy of the mesh: it has no effect"
            .to_owned();
        let advice = "put it into the namespace of the workloads, or leave the selector out";
        let code = Code::FieldWithoutEffect;
        out.push(report::about(&policy.meta, code, problem, advice));
    }
    overlaps(&effective, options, out);
    let services: Vec<_> = with_selectors(manifests, &options.facts.cluster_domain).collect();
    let workloads = Workloads::new(manifests);
    for policy in effective {
        ports(policy, &services, &workloads, out);
    }
}

fn selector(policy: &PeerAuthentication) -> Option<&Labels> {
    policy.selector.as_ref().filter(|labels| !labels.is_empty())
}

/// P1: of one level the oldest counts alone. That two selectors mean one workload is known where they
/// are the same, and of this proxy's own.
fn overlaps(policies: &[&PeerAuthentication], options: &LoadOptions, out: &mut Diagnostics) {
    let facts = &options.facts;
    let mut first: HashMap<(&str, Option<&Labels>), &PeerAuthentication> = HashMap::new();
    let mut own: Option<&PeerAuthentication> = None;
    for policy in policies.iter().copied() {
        let labels = selector(policy);
        let held = *first
            .entry((&policy.meta.namespace, labels))
            .or_insert(policy);
        let is_own = policy.meta.namespace == facts.namespace
            && labels.is_some_and(|labels| selects(labels, &facts.labels));
        let mut older = (held.meta.order != policy.meta.order).then_some(held);
        if is_own {
            let oldest = *own.get_or_insert(policy);
            older = older.or((oldest.meta.order != policy.meta.order).then_some(oldest));
        }
        let Some(older) = older else { continue };
        let problem = format!(
            "{} ({}) is for the same workloads and older: it counts alone",
            older.meta, older.meta.place
        );
        let advice = "keep one of them, or make the selectors exclude each other";
        let code = Code::PoliciesOverlap;
        out.push(report::about(&policy.meta, code, problem, advice));
    }
}

/// P2: keys of `portLevelMtls` are workload ports. Nothing is said where no Service is known for the
/// workloads, or one leads to a port of unknown number.
fn ports(
    policy: &PeerAuthentication,
    services: &[Service<'_>],
    workloads: &Workloads<'_>,
    out: &mut Diagnostics,
) {
    let Some(labels) = selector(policy) else {
        return;
    };
    let namespace = &policy.meta.namespace;
    let meant: Vec<_> = services
        .iter()
        .filter(|one| one.meta.namespace == *namespace)
        .filter(|one| selects(labels, one.selector) || selects(one.selector, labels))
        .collect();
    let mut targets = Vec::new();
    for service in &meant {
        let pods = workloads.pods(namespace, service.selector);
        let names: BTreeMap<String, u16> = pods.flat_map(|pod| pod.ports.clone()).collect();
        for port in service.ports {
            let Some(target) = target_of(port, &names) else {
                return;
            };
            targets.push((port.number, target, service.meta));
        }
    }
    for key in policy.ports.keys() {
        if targets.is_empty() || targets.iter().any(|(_, target, _)| target == key) {
            continue;
        }
        let mut dialled = targets.iter().filter(|(number, _, _)| number == key);
        let problem = format!(
            "portLevelMtls names port {key}, and no Service leads to this port of the workloads"
        );
        let advice = match dialled.next() {
            Some((_, target, service)) => format!(
                "write {target}: {service} leads from {key} to it, and the workload's port is what \
                 counts here"
            ),
            None => "write the workload's port: the targetPort of a Service".to_owned(),
        };
        let code = Code::SchemaWarning;
        out.push(report::about(&policy.meta, code, problem, advice));
    }
}

#[cfg(test)]
mod tests {
    use crate::config::istio::lower::testing::Lab;

    const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: {name: httpbin, namespace: foo}
spec: {selector: {app: httpbin}, ports: [{port: 8000, name: http, targetPort: 80}]}
---
";

    fn policy(name: &str, namespace: &str, spec: &str) -> String {
        format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: {name}, \
             namespace: {namespace}}}\nspec: {spec}\n---\n"
        )
    }

    fn said(code: &str, text: &str) -> Vec<String> {
        let (_, said) = Lab::new(text).registry();
        let wanted = format!("[{code}]");
        let found = said.into_iter().filter(|line| line.contains(&wanted));
        found.collect()
    }

    fn with_port(port: u16) -> String {
        let spec = format!(
            "{{selector: {{matchLabels: {{app: httpbin}}}}, portLevelMtls: {{{port}: {{mode: DISABLE}}}}}}"
        );
        policy("p", "foo", &spec)
    }

    #[test]
    fn p2_a_service_port_in_port_level_mtls_is_told_with_the_port_that_was_meant() {
        let told = said("IST0133", &format!("{SERVICE}{}", with_port(8000)));
        assert_eq!(
            told,
            [
                "t.yaml:6: warning[IST0133] PeerAuthentication foo/p: portLevelMtls names port 8000, \
              and no Service leads to this port of the workloads; write 80: Service foo/httpbin \
              leads from 8000 to it, and the workload's port is what counts here"
            ]
        );
        let told = said("IST0133", &format!("{SERVICE}{}", with_port(81)));
        assert!(told[0].ends_with("the targetPort of a Service"), "{told:?}");
    }

    #[test]
    fn p2_a_workload_port_or_one_of_unknown_services_is_not_told() {
        for text in [
            format!("{SERVICE}{}", with_port(80)),
            with_port(8000),
            format!("{}{}", SERVICE.replace("foo", "bar"), with_port(8000)),
            format!(
                "{}{}",
                SERVICE.replace("app: httpbin", "app: other"),
                with_port(8000)
            ),
            format!(
                "{}{}",
                SERVICE.replace("targetPort: 80", "targetPort: web"),
                with_port(8000)
            ),
        ] {
            assert_eq!(said("IST0133", &text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn p1_of_two_policies_of_one_level_the_younger_is_told() {
        let strict = "{mtls: {mode: STRICT}}";
        let selecting = "{selector: {matchLabels: {app: n}}, mtls: {mode: STRICT}}";
        for spec in [strict, selecting] {
            let both = policy("a", "s", spec) + &policy("b", "s", spec);
            let told = said("SRT0516", &both);
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(told[0].contains("PeerAuthentication s/b: PeerAuthentication s/a (t.yaml:1)"));
        }
        for both in [
            policy("a", "s", strict) + &policy("b", "t", strict),
            policy("a", "s", strict) + &policy("b", "s", selecting),
            policy("a", "s", selecting) + &policy("b", "s", &selecting.replace("app: n", "app: m")),
        ] {
            assert_eq!(said("SRT0516", &both), Vec::<String>::new(), "{both}");
        }
    }

    #[test]
    fn p1_two_selectors_that_mean_this_proxy_are_told() {
        let one = "{selector: {matchLabels: {app: n}}, mtls: {mode: STRICT}}";
        let both = policy("a", "s", one) + &policy("b", "s", &one.replace("app: n", "v: '1'"));
        let lab = Lab::new(&both).facts(|facts| {
            facts.namespace = "s".into();
            facts.labels = [("app", "n"), ("v", "1")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into();
        });
        let (_, told) = lab.registry();
        assert_eq!(
            told.iter().filter(|line| line.contains("SRT0516")).count(),
            1,
            "{told:?}"
        );
    }

    #[test]
    fn p1_a_selector_in_the_root_namespace_is_told_to_have_no_effect() {
        let one = "{selector: {matchLabels: {app: n}}, mtls: {mode: STRICT}}";
        assert_eq!(said("SRT0507", &policy("a", "istio-system", one)).len(), 1);
        assert_eq!(
            said("SRT0507", &policy("a", "s", one)),
            Vec::<String>::new()
        );
    }
}
