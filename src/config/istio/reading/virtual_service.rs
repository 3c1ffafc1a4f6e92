//! VirtualService: hosts and gateways (ISTIO.md V1, V2, 1.4).
//!
//! Owns: reading them, and what must fit together.
//! Never: looks at one route (those are `http_route` and `streams`).
//! Called by: read.

use crate::config::cursor::At;
use crate::config::format::quote;
use crate::config::istio::meta::{Meta, Written};
use crate::config::istio::virtual_service::VirtualService;
use crate::model::HostPattern;

use super::context::Reading;
use super::{http_route, metadata, names, streams, value};

/// A VirtualService.
pub fn read(root: &At<'_>, meta: Meta, r: &mut Reading<'_>) -> Option<VirtualService> {
    let spec = root.key("spec")?;
    let gateways = value::texts(&spec, "gateways");
    let patterns = hosts(&spec, &gateways, r);
    let kinds = ["http", "tls", "tcp"];
    let any = kinds.iter().any(|key| {
        spec.key(key)
            .is_some_and(|list| list.items().next().is_some())
    });
    if !any {
        let problem = "there is none of http, tls and tcp".to_owned();
        r.wrong(&spec, problem, "write http: with at least one route");
    }
    Some(VirtualService {
        hosts: value::texts(&spec, "hosts"),
        gateways,
        http: http_route::read(&spec, r),
        tls: streams::tls(&spec, &patterns, r),
        tcp: streams::tcp(&spec, r),
        export_to: metadata::export_to(&spec, r),
        meta,
    })
}

/// The hosts, expanded (H3).
fn hosts(spec: &At<'_>, gateways: &[Written<String>], r: &mut Reading<'_>) -> Vec<HostPattern> {
    let Some(list) = spec
        .key("hosts")
        .filter(|list| list.items().next().is_some())
    else {
        // Only another VirtualService can refer to it (X8).
        if spec.has("gateways") {
            let problem = "gateways are named, and no host".to_owned();
            r.wrong_key(spec, "hosts", problem, "write hosts: [name]");
        } else {
            let problem = "there are no hosts: it serves only as a delegate, and sortie does not \
                           follow delegates";
            r.odd(
                spec,
                problem.to_owned(),
                "write hosts: [name], or remove the document",
            );
        }
        return Vec::new();
    };
    let mesh = gateways.is_empty() || gateways.iter().any(|gateway| gateway.value == "mesh");
    let mut patterns: Vec<HostPattern> = Vec::new();
    for item in list.items() {
        let Some(pattern) = names::pattern(&item, r) else {
            continue;
        };
        if pattern == HostPattern::Any && mesh {
            let problem = "\"*\" would take every host of the mesh".to_owned();
            r.wrong(
                &item,
                problem,
                "name the hosts, or name a gateway under gateways",
            );
        }
        let pattern = expanded(&pattern, r);
        if patterns.iter().any(|other| names::overlap(other, &pattern)) {
            let problem = format!(
                "{} overlaps with a host before it",
                quote(&pattern.to_string())
            );
            r.wrong(&item, problem, "keep the wider of the two");
        }
        patterns.push(pattern);
    }
    patterns
}

fn expanded(pattern: &HostPattern, r: &Reading<'_>) -> HostPattern {
    let HostPattern::Exact(host) = pattern else {
        return pattern.clone();
    };
    let whole = names::expand(host.as_str(), &r.namespace, &r.options.facts.cluster_domain);
    HostPattern::parse(&whole).unwrap_or_else(|_| pattern.clone())
}
