//! Hosts, ports and subsets to upstreams, named as Istio names clusters: `outbound|80||host`.
//!
//! Owns: [`Clusters`]: each made when a route first names it.
//! Never: decides which route names what.
//! Called by: lower, routes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::registry::Registry;
use crate::config::diagnostic::Diagnostics;
use crate::config::istio::Manifests;
use crate::config::options::LoadOptions;
use crate::model::UpstreamSpec;

/// Who asks for a cluster: for messages about what is dangling (IST0101).
#[derive(Clone, Debug)]
pub struct Referrer {
    /// `VirtualService ns/name`.
    pub object: Arc<str>,
    pub place: crate::model::Place,
}

/// Which cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted<'a> {
    /// Expanded (H3), in normal form; a wildcard as `*.suffix`.
    pub host: &'a str,
    /// A service port.
    pub port: u16,
    /// Empty for none.
    pub subset: &'a str,
}

/// The upstreams made so far.
pub struct Clusters<'a> {
    _manifests: &'a Manifests,
    _registry: &'a Registry,
    _options: &'a LoadOptions,
    made: BTreeMap<Arc<str>, UpstreamSpec>,
}

impl<'a> Clusters<'a> {
    pub fn new(
        manifests: &'a Manifests,
        registry: &'a Registry,
        options: &'a LoadOptions,
    ) -> Clusters<'a> {
        Clusters {
            _manifests: manifests,
            _registry: registry,
            _options: options,
            made: BTreeMap::new(),
        }
    }

    /// The name of the upstream for `wanted`, which is made on first use. What is not in the
    /// registry becomes a broken upstream (V10, D7), and is reported once (IST0101).
    pub fn refer(
        &mut self,
        wanted: Wanted<'_>,
        _referrer: &Referrer,
        _out: &mut Diagnostics,
    ) -> Arc<str> {
        format!("outbound|{}|{}|{}", wanted.port, wanted.subset, wanted.host).into()
    }

    /// All of them, by name.
    pub fn into_upstreams(self) -> impl Iterator<Item = UpstreamSpec> {
        self.made.into_values()
    }
}
