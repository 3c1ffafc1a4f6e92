//! VirtualServices and the registry to hosts and streams of the table (ISTIO.md V).
//!
//! Owns: the order of the steps.
//! Never: makes an upstream (that is `clusters`).
//! Called by: lower.

use super::clusters::Clusters;
use super::gateways;
use super::outbound;
use super::refusals::Governed;
use super::registry::Registry;
use super::routes_claims::{self as claims, Active, Claims};
use super::routes_hosts as hosts;
use super::routes_names::Names;
use super::routes_reach as reach;
use super::routes_rules::Ground;
use super::streams::{self, StreamClaims};
use crate::config::diagnostic::Diagnostics;
use crate::config::istio::Manifests;
use crate::config::istio::virtual_service::VirtualService;
use crate::config::options::LoadOptions;
use crate::model::{Config, ListenerKind, Role};

/// Adds the hosts, the streams and what becomes of everything else.
pub fn lower<'a>(
    manifests: &'a Manifests,
    registry: &'a Registry,
    clusters: &mut Clusters<'a>,
    options: &'a LoadOptions,
    config: &mut Config,
    out: &mut Diagnostics,
) {
    let facts = &options.facts;
    let names = Names::new(manifests, facts);
    let scope = &registry.scope;
    let visible = claims::visible(manifests, &names, scope, out);
    claims::check_gateways(manifests, &visible, out);
    reach::check_destinations(&visible, &names, registry, out);
    let at_gateways = visible.iter().filter(|one| one.is_for_gateways());
    let at_gateways: Vec<_> = at_gateways.cloned().collect();
    let refused = manifests.refused.iter().map(|one| one.refused.clone());
    config.refused.extend(refused);
    let is_mesh = serves_mesh(options, config);
    if is_mesh {
        let active: Vec<_> = visible.into_iter().filter(Active::is_for_mesh).collect();
        let mut ground = Ground {
            registry,
            clusters,
            names: &names,
            facts,
            out,
        };
        mesh(manifests, &active, &mut ground, config);
    }
    outbound::lower(manifests, scope.outbound(), facts, config);
    let mut ground = Ground {
        registry,
        clusters,
        names: &names,
        facts,
        out,
    };
    gateways::lower(
        manifests,
        (&at_gateways, is_mesh),
        options,
        &mut ground,
        config,
    );
}

/// X13: a gateway carries mesh traffic only on listeners that it is given for it; without one, what
/// is for sidecars alone is neither built nor found fault with.
fn serves_mesh(options: &LoadOptions, config: &Config) -> bool {
    let is_mesh = |kind| matches!(kind, ListenerKind::Direct | ListenerKind::Capture);
    let mut written = config.listeners.iter();
    options.facts.role == Role::Sidecar
        || options.mesh_listeners
        || written.any(|listener| is_mesh(listener.kind))
}

/// Hosts and streams of the mesh's listeners.
fn mesh<'a>(
    manifests: &'a Manifests,
    active: &[Active<'a>],
    ground: &mut Ground<'_, 'a>,
    config: &mut Config,
) {
    let (registry, names, facts) = (ground.registry, ground.names, ground.facts);
    let out = &mut *ground.out;
    let http = claimed(active, |vs| !vs.http.is_empty(), "HTTP", out);
    let stream_claims = StreamClaims {
        tls: claimed(active, |vs| !vs.tls.is_empty(), "TLS", out),
        tcp: claimed(active, |vs| !vs.tcp.is_empty(), "TCP", out),
    };
    let governed = Governed::new(manifests, active, registry, names);
    let (hosts, ports) = hosts::lower(active, &http, &config.hosts, ground);
    let streams = streams::lower(active, &stream_claims, &governed, ground);
    reach::check(active, &ports, registry, facts, ground.out);
    config.hosts.extend(hosts);
    config.streams.extend(streams);
    governed.apply(config);
}

fn claimed(
    active: &[Active<'_>],
    has: impl Fn(&VirtualService) -> bool + Copy,
    kind: &str,
    out: &mut Diagnostics,
) -> Claims {
    let claims = Claims::new(active, has);
    claims::claimed_twice(active, &claims, has, kind, out);
    claims
}

#[cfg(test)]
mod tests;
