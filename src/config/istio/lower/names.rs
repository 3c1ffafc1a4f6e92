//! Hosts as objects write them: short names are expanded with the object's namespace (ISTIO.md H3).
//!
//! Owns: [`expand`], and what a name of the cluster looks like.
//! Never: looks a host up.
//! Called by: policy, clusters, routes.

use std::net::IpAddr;

use crate::model::{HostError, HostPattern};

/// The host that `text` means in an object of `namespace`: a name without any dot is a Service of
/// that namespace.
///
/// # Errors
/// Where it is no host and no wildcard.
pub fn expand(text: &str, namespace: &str, domain: &str) -> Result<HostPattern, HostError> {
    let short = !text.contains(['.', '*']) && text.parse::<IpAddr>().is_err();
    match short && !text.is_empty() {
        true => HostPattern::parse(&format!("{text}.{namespace}.svc.{domain}")),
        false => HostPattern::parse(text),
    }
}

/// The full name of a Service that is named as `name.ns.svc`; every other host as it is. The rules
/// for the full name are the ones that must apply.
pub fn full(host: HostPattern, domain: &str) -> HostPattern {
    let HostPattern::Exact(name) = &host else {
        return host;
    };
    let name = name.as_str();
    let short = name.ends_with(".svc") && cluster_local(name, domain).is_some();
    let whole = short.then(|| HostPattern::parse(&format!("{name}.{domain}")).ok());
    whole.flatten().unwrap_or(host)
}

/// The namespace of a name that only the cluster's DNS can know: `name.ns.svc.DOMAIN` or
/// `name.ns.svc`.
pub fn cluster_local<'a>(host: &'a str, domain: &str) -> Option<&'a str> {
    let rest = host
        .strip_suffix(domain)
        .and_then(|rest| rest.strip_suffix('.'));
    let rest = rest.unwrap_or(host).strip_suffix(".svc")?;
    let (name, namespace) = rest.rsplit_once('.')?;
    let whole = !name.is_empty() && !namespace.is_empty() && !name.starts_with('*');
    whole.then_some(namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h3_a_name_without_a_dot_is_a_service_of_the_objects_namespace() {
        for (text, host) in [
            ("reviews", "reviews.foo.svc.cluster.local"),
            ("Reviews", "reviews.foo.svc.cluster.local"),
            ("reviews.prod", "reviews.prod"),
            ("*.prod", "*.prod"),
            ("*", "*"),
            ("::1", "::1"),
        ] {
            let found = expand(text, "foo", "cluster.local").unwrap();
            assert_eq!(found.to_string(), host);
        }
        assert!(expand("", "foo", "cluster.local").is_err());
        assert!(expand("a b", "foo", "cluster.local").is_err());
    }

    #[test]
    fn a_service_named_without_the_clusters_domain_is_the_same_service() {
        let full =
            |text: &str| full(HostPattern::parse(text).unwrap(), "cluster.local").to_string();
        assert_eq!(full("hello.service.svc"), "hello.service.svc.cluster.local");
        for other in [
            "hello.svc",
            "hello.service",
            "a.b.svc.cluster.local",
            "*.b.svc",
        ] {
            assert_eq!(full(other), other);
        }
    }

    #[test]
    fn a_name_of_the_cluster_is_told_by_its_ending() {
        for (host, namespace) in [
            ("gw.istio-system.svc.cluster.local", Some("istio-system")),
            ("pod.name.ns.svc.cluster.local", Some("ns")),
            ("hello.service.svc", Some("service")),
            ("hello.svc", None),
            ("svc.cluster.local", None),
            ("a.b.cluster.local", None),
            ("bank.example", None),
            ("*.ns.svc.cluster.local", None),
            ("a.b.svc.other.domain", None),
        ] {
            assert_eq!(cluster_local(host, "cluster.local"), namespace, "{host}");
        }
    }
}
