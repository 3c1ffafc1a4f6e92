//! What becomes of captured connections to somewhere that nobody declared (ISTIO.md O1 to O6, X15).
//!
//! Owns: who decides it: native documents, then what the Sidecar or the mesh says, then ALLOW_ANY.
//! Never: overrides a flag (that is `load`).
//! Called by: routes.

use crate::config::istio::manifests::{Governs, Manifests};
use crate::config::istio::sidecar::OutboundMode;
use crate::model::{Config, ProxyFacts, UnknownHosts};

/// Says what becomes of unknown captured destinations. A direct listener refuses them unless a flag
/// or a native document says otherwise.
pub fn lower(
    manifests: &Manifests,
    said: Option<OutboundMode>,
    facts: &ProxyFacts,
    config: &mut Config,
) {
    if is_unknown_refused(manifests, facts) {
        config.unknown_hosts = UnknownHosts::Refuse;
        config.unknown_captured = UnknownHosts::Refuse;
        return;
    }
    if manifests.native_unknown.is_some() || !makes_a_mesh(manifests) {
        return;
    }
    config.unknown_captured = match said.unwrap_or(OutboundMode::AllowAny) {
        OutboundMode::RegistryOnly => UnknownHosts::Refuse,
        OutboundMode::AllowAny | OutboundMode::AllowAnyDynamicDns => UnknownHosts::PassThrough,
    };
}

/// True where there is a document of Istio's, or a Service. A Secret, or a pod, beside native
/// documents opens nothing.
fn makes_a_mesh(manifests: &Manifests) -> bool {
    manifests.mesh.is_some()
        || !manifests.service_entries.is_empty()
        || !manifests.virtual_services.is_empty()
        || !manifests.destination_rules.is_empty()
        || !manifests.gateways.is_empty()
        || !manifests.sidecars.is_empty()
        || !manifests.workload_entries.is_empty()
        || !manifests.peer_authentications.is_empty()
        || !manifests.legacy_policies.is_empty()
        || !manifests.services.is_empty()
}

/// X1: a refused document that may have said it for this proxy.
fn is_unknown_refused(manifests: &Manifests, facts: &ProxyFacts) -> bool {
    manifests.refused.iter().any(|one| {
        let namespace = &one.meta.namespace;
        let is_ours = one.meta.kind != "Sidecar"
            || *namespace == facts.namespace
            || *namespace == facts.root_namespace;
        one.governs == Governs::Unknown && is_ours
    })
}
