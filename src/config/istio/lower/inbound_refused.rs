//! Refused documents that may have governed connections to this proxy's own workload (ISTIO.md X1).
//!
//! Owns: the reason why nobody is let in, to the application or by a gateway's servers.
//! Never: refuses a document.
//! Called by: inbound, gateways.

use std::sync::Arc;

use crate::config::istio::Manifests;
use crate::config::istio::manifests::{Reach, RefusedObject};
use crate::config::istio::meta::selects;
use crate::model::ProxyFacts;

/// The first refused document that may have said who reaches this workload, in words.
pub fn governing(manifests: &Manifests, facts: &ProxyFacts) -> Option<Arc<str>> {
    let mut refused = manifests.refused.iter();
    let found = refused.find(|one| reaches(one.inbound.as_ref(), facts));
    let found = found.or_else(|| targeted(manifests, facts))?;
    Some(found.refused.to_string().into())
}

/// Kinds that speak of sidecars alone: servers of a gateway say themselves what clients must show.
const OF_SIDECARS: [&str; 4] = ["PeerAuthentication", "Policy", "MeshPolicy", "Sidecar"];

/// The same for what comes in by Gateway documents: an AuthorizationPolicy may deny it.
pub fn governing_gateways(manifests: &Manifests, facts: &ProxyFacts) -> Option<Arc<str>> {
    let mut refused = manifests.refused.iter();
    let found = refused.find(|one| {
        !OF_SIDECARS.contains(&one.meta.kind) && reaches(one.inbound.as_ref(), facts)
    })?;
    Some(found.refused.to_string().into())
}

fn reaches(reach: Option<&Reach>, facts: &ProxyFacts) -> bool {
    reach.is_some_and(|reach| {
        let near = reach
            .namespace
            .as_ref()
            .is_none_or(|one| *one == facts.namespace);
        // Nobody said which labels the workload has: it may be the one that was meant.
        near && (facts.labels.is_empty() || selects(&reach.labels, &facts.labels))
    })
}

/// A refused Service that a legacy policy is for: whom it selects is not known (P5).
fn targeted<'a>(manifests: &'a Manifests, facts: &ProxyFacts) -> Option<&'a RefusedObject> {
    let policies = manifests.legacy_policies.iter();
    let own = policies.filter(|policy| policy.meta.namespace == facts.namespace);
    let mut names = own.flat_map(|policy| &policy.targets);
    names.find_map(|(name, _)| {
        let mut refused = manifests.refused.iter();
        refused.find(|one| {
            one.meta.kind == "Service"
                && one.meta.namespace == facts.namespace
                && one.meta.name == *name
        })
    })
}

#[cfg(test)]
mod tests {
    use crate::config::istio::lower::testing::Lab;
    use crate::model::Role;

    #[test]
    fn x1_a_refused_policy_that_selects_a_gateway_lets_nobody_in_and_one_of_others_does() {
        let gateway = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: edge}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]
---
";
        let policy = |kind: &str, namespace: &str, spec: &str| {
            format!(
                "apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: p, namespace: \
                 {namespace}}}\nspec: {{{spec}}}\n"
            )
        };
        let own = "selector: {matchLabels: {istio: edge}}";
        let other = "selector: {matchLabels: {app: n}}";
        for (document, broken) in [
            (policy("AuthorizationPolicy", "default", own), true),
            (policy("AuthorizationPolicy", "default", ""), true),
            (policy("AuthorizationPolicy", "istio-system", ""), true),
            (policy("RequestAuthentication", "default", own), true),
            (policy("AuthorizationPolicy", "default", other), false),
            (policy("AuthorizationPolicy", "elsewhere", ""), false),
            // Mutual TLS of sidecars is none of a gateway's business.
            (
                policy("PeerAuthentication", "default", "mtls: {mode: NONSENSE}"),
                false,
            ),
        ] {
            let lab = Lab::new(&format!("{gateway}{document}")).facts(|facts| {
                facts.role = Role::Gateway;
                facts.labels.insert("istio".into(), "edge".into());
            });
            let (config, said) = lab.config();
            assert_eq!(config.refused.len(), 1, "{document} {said:?}");
            assert_eq!(config.entrances.len(), 1, "{document} {said:?}");
            let reason = config.entrances[0].broken.as_deref();
            assert_eq!(reason.is_some(), broken, "{document} {reason:?}");
        }
    }
}
