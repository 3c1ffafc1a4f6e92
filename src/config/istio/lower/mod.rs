//! What all objects mean together, for this one proxy: registry, policies, routes.
//!
//! Owns: the order of the steps.
//! Never: reads a document again, or a file.
//! Called by: load.

mod analysis;
mod auto_mtls;
mod client_tls;
mod clusters;
mod credential;
mod dangling;
mod endpoints;
mod entries;
mod host_index;
mod names;
mod outbound;
mod owners;
mod policy;
mod reasons;
mod refusals;
mod registry;
mod report;
mod routes;
mod routes_claims;
mod routes_hosts;
mod routes_names;
mod routes_reach;
mod routes_rules;
mod routes_say;
mod scope;
mod services;
mod settings;
mod streams;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod traffic;
mod workloads;

use super::Manifests;
use crate::config::diagnostic::Diagnostics;
use crate::config::options::LoadOptions;
use crate::model::Config;

use clusters::Clusters;
use registry::Registry;

/// Adds to `config` what the manifests say to the proxy that `options` describes.
pub fn lower(
    manifests: &mut Manifests,
    options: &LoadOptions,
    config: &mut Config,
    out: &mut Diagnostics,
) {
    traffic::refuse(manifests, options, out);
    let manifests = &*manifests;
    let registry = Registry::build(manifests, options, out);
    analysis::check(manifests, &registry, options, out);
    let mut clusters = Clusters::new(manifests, &registry, options);
    routes::lower(manifests, &registry, &mut clusters, options, config, out);
    config.upstreams.extend(clusters.into_upstreams());
}
