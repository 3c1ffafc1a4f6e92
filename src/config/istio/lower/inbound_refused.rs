//! Refused documents that may have governed connections to this proxy's own workload (ISTIO.md X1).
//!
//! Owns: the reason why nobody is let in.
//! Never: refuses a document.
//! Called by: inbound.

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

fn reaches(reach: Option<&Reach>, facts: &ProxyFacts) -> bool {
    reach.is_some_and(|reach| {
        let near = reach
            .namespace
            .as_ref()
            .is_none_or(|one| *one == facts.namespace);
        near && selects(&reach.labels, &facts.labels)
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
