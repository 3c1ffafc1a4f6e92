//! The steps of this floor, in their order.
//!
//! Owns: [`lower`].
//! Never: does one of the steps.
//! Called by: load.

use super::clusters::Clusters;
use super::registry::Registry;
use super::{analysis, annotations, inbound, refusals, routes, traffic};
use crate::config::diagnostic::Diagnostics;
use crate::config::istio::Manifests;
use crate::config::options::LoadOptions;
use crate::model::Config;

/// Adds to `config` what the manifests say to the proxy that `options` describes.
pub fn lower(
    manifests: &mut Manifests,
    options: &LoadOptions,
    config: &mut Config,
    out: &mut Diagnostics,
) {
    traffic::refuse(manifests, options, out);
    refusals::resolve(manifests);
    let manifests = &*manifests;
    let registry = Registry::build(manifests, options, out);
    analysis::check(manifests, &registry, options, out);
    annotations::check(manifests, out);
    let mut clusters = Clusters::new(manifests, &registry, options);
    routes::lower(manifests, &registry, &mut clusters, options, config, out);
    inbound::lower(manifests, &registry.scope, options, config, out);
    config.upstreams.extend(clusters.into_upstreams());
    let mesh = manifests.mesh.as_ref();
    config.access_log = mesh.and_then(|mesh| mesh.access_log.clone());
}
