//! VirtualServices and the registry to hosts of the table, with their rules (ISTIO.md V).
//!
//! Owns: which virtual hosts there are on which port (V3, V4, V6), and the rules of each.
//! Never: makes an upstream (that is `clusters`).
//! Called by: lower.

use super::clusters::Clusters;
use super::registry::Registry;
use crate::config::diagnostic::Diagnostics;
use crate::config::istio::Manifests;
use crate::config::options::LoadOptions;
use crate::model::Config;

/// Adds the hosts, the streams and what becomes of everything else.
pub fn lower(
    _manifests: &Manifests,
    _registry: &Registry,
    _clusters: &mut Clusters<'_>,
    _options: &LoadOptions,
    _config: &mut Config,
    _out: &mut Diagnostics,
) {
}
