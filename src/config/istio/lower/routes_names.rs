//! Names as documents write them to names as the registry knows them (ISTIO.md H3, V2).
//!
//! Owns: the expansion of short names, and of a VirtualService's references to gateways.
//! Never: looks a name up in the registry.
//! Called by: routes and its parts, streams, refusals.

use std::collections::HashSet;

use super::names;
use crate::config::istio::Manifests;
use crate::model::{Host, HostPattern, ProxyFacts};

/// The gateway that means sidecars (V1).
pub const MESH: &str = "mesh";

/// What names are expanded with.
pub struct Names<'a> {
    domain: &'a str,
    namespace: &'a str,
    /// Namespace and name of every Service.
    services: HashSet<(&'a str, &'a str)>,
}

impl<'a> Names<'a> {
    pub fn new(manifests: &'a Manifests, facts: &'a ProxyFacts) -> Names<'a> {
        let services = manifests.services.iter();
        Names {
            domain: &facts.cluster_domain,
            namespace: &facts.namespace,
            services: services
                .map(|service| (&*service.meta.namespace, &*service.meta.name))
                .collect(),
        }
    }

    /// The full name that `written` means in an object of `namespace` (H3); `None` where it is no
    /// name at all.
    pub fn expand(&self, written: &str, namespace: &str) -> Option<HostPattern> {
        names::expand(written, namespace, self.domain).ok()
    }

    /// The Service that a name with one dot looks like, as it should have been written (H3).
    pub fn dotted(&self, written: &str) -> Option<String> {
        let (name, namespace) = written.split_once('.')?;
        self.services
            .contains(&(namespace, name))
            .then(|| format!("{name}.{namespace}.svc.{}", self.domain))
    }

    /// The other names of a Service whose full name is `host` (H4); none for any other host.
    pub fn aliases(&self, host: &HostPattern) -> Vec<HostPattern> {
        let HostPattern::Exact(host) = host else {
            return Vec::new();
        };
        let Some((name, namespace)) = self.service(host) else {
            return Vec::new();
        };
        let mut names = vec![
            format!("{name}.{namespace}.svc"),
            format!("{name}.{namespace}"),
        ];
        if namespace == self.namespace {
            names.push(name.to_owned());
        }
        let hosts = names.iter().filter_map(|name| Host::parse(name).ok());
        hosts.map(HostPattern::Exact).collect()
    }

    /// Name and namespace of the Service whose full name is `host`.
    fn service<'h>(&self, host: &'h Host) -> Option<(&'h str, &'h str)> {
        let rest = host.as_str().strip_suffix(self.domain)?;
        let (name, namespace) = rest.strip_suffix(".svc.")?.split_once('.')?;
        (!namespace.contains('.')).then_some((name, namespace))
    }
}

/// Namespace and name of the Gateway that a VirtualService in `namespace` means (V2).
pub fn gateway<'w>(written: &'w str, namespace: &'w str) -> (&'w str, &'w str) {
    if let Some((before, name)) = written.split_once('/') {
        let before = if before == "." { namespace } else { before };
        return (before, name);
    }
    // `name.ns.svc.cluster.local`, from before `ns/name` was there.
    match written.split_once('.') {
        Some((name, rest)) => (rest.split('.').next().unwrap_or(rest), name),
        None => (namespace, written),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(written: &str) -> Option<String> {
        let (manifests, facts) = (Manifests::default(), ProxyFacts::default());
        let names = Names::new(&manifests, &facts);
        let found = names.expand(written, "foo");
        found.map(|host| host.to_string())
    }

    #[test]
    fn h3_only_a_name_without_a_dot_gets_the_namespace_of_its_object() {
        for (written, full) in [
            ("reviews", "reviews.foo.svc.cluster.local"),
            ("Reviews", "reviews.foo.svc.cluster.local"),
            ("reviews.prod", "reviews.prod"),
            ("bank.example.", "bank.example"),
            ("*.shop.example", "*.shop.example"),
            ("*", "*"),
            ("10.0.0.1", "10.0.0.1"),
            ("2001:DB8::1", "2001:db8::1"),
        ] {
            assert_eq!(expanded(written).as_deref(), Some(full), "{written}");
        }
    }

    #[test]
    fn h3_what_is_no_name_is_not_made_into_one() {
        for written in ["", "a b", "x*.example"] {
            assert_eq!(expanded(written), None, "{written}");
        }
    }

    #[test]
    fn h4_a_service_is_also_asked_for_by_its_short_names() {
        let (manifests, mut facts) = (Manifests::default(), ProxyFacts::default());
        facts.namespace = "foo".into();
        let names = Names::new(&manifests, &facts);
        let aliases = |host: &str| {
            let host = HostPattern::parse(host).unwrap();
            let names = names.aliases(&host);
            names.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            aliases("reviews.foo.svc.cluster.local"),
            ["reviews.foo.svc", "reviews.foo", "reviews"]
        );
        assert_eq!(
            aliases("reviews.bar.svc.cluster.local"),
            ["reviews.bar.svc", "reviews.bar"]
        );
        assert_eq!(aliases("bank.example"), Vec::<String>::new());
        assert_eq!(aliases("svc.cluster.local"), Vec::<String>::new());
    }

    #[test]
    fn v2_a_gateway_is_named_in_four_ways() {
        for written in ["ns/edge", "./edge", "edge", "edge.ns.svc.cluster.local"] {
            assert_eq!(gateway(written, "ns"), ("ns", "edge"), "{written}");
        }
        assert_eq!(gateway("other/edge", "ns"), ("other", "edge"));
        assert_eq!(gateway("edge.other", "ns"), ("other", "edge"));
    }
}
