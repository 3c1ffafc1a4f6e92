//! Annotations of Istio's and ours: unknown, misplaced, or of no use to sortie (ISTIO.md I10, B13).
//!
//! Owns: the list of them, IST0107 and IST0108 of one pod.
//! Never: reads a value.
//! Called by: plan.

use super::pod::{Pod, annotation_path};
use super::{Path, Warning};
use crate::config::did_you_mean;

/// Annotations of a pod that this room follows, and those that `who` has looked at.
const FOLLOWED: &[&str] = &[
    "sidecar.istio.io/inject",
    "sidecar.istio.io/interceptionMode",
    "sidecar.istio.io/rewriteAppHTTPProbers",
    "sidecar.istio.io/nativeSidecar",
    "sidecar.istio.io/userVolume",
    "sidecar.istio.io/userVolumeMount",
    "sidecar.istio.io/proxyCPU",
    "sidecar.istio.io/proxyMemory",
    "sidecar.istio.io/proxyCPULimit",
    "sidecar.istio.io/proxyMemoryLimit",
    "sidecar.istio.io/proxyImage",
    "sidecar.istio.io/logLevel",
    "status.sidecar.istio.io/port",
    "readiness.status.sidecar.istio.io/initialDelaySeconds",
    "readiness.status.sidecar.istio.io/periodSeconds",
    "readiness.status.sidecar.istio.io/failureThreshold",
    "traffic.sidecar.istio.io/includeOutboundIPRanges",
    "traffic.sidecar.istio.io/excludeOutboundIPRanges",
    "traffic.sidecar.istio.io/includeOutboundPorts",
    "traffic.sidecar.istio.io/excludeOutboundPorts",
    "traffic.sidecar.istio.io/includeInboundPorts",
    "traffic.sidecar.istio.io/excludeInboundPorts",
    "traffic.sidecar.istio.io/excludeInterfaces",
    "traffic.sidecar.istio.io/kubevirtInterfaces",
    "istio.io/reroute-virtual-interfaces",
    "proxy.istio.io/config",
    "prometheus.istio.io/merge-metrics",
    "istio.io/rev",
    "sortie/config",
    "sortie/identity",
    "sortie/credentials",
    "sortie/status",
];

/// Annotations of a pod that change nothing here.
const NOT_FOLLOWED: &[&str] = &[
    "sidecar.istio.io/enableCoreDump",
    "sidecar.istio.io/proxyImageType",
    "sidecar.istio.io/componentLogLevel",
    "sidecar.istio.io/agentLogLevel",
    "sidecar.istio.io/statsInclusionPrefixes",
    "sidecar.istio.io/statsInclusionSuffixes",
    "sidecar.istio.io/statsInclusionRegexps",
    "sidecar.istio.io/statsHistogramBuckets",
    "sidecar.istio.io/statsCompression",
    "sidecar.istio.io/statsEvictionInterval",
    "sidecar.istio.io/extraStatTags",
    "sidecar.istio.io/bootstrapOverride",
    "sidecar.istio.io/discoveryAddress",
    "sidecar.istio.io/controlPlaneAuthPolicy",
    "sidecar.istio.io/status",
    "readiness.status.sidecar.istio.io/applicationPorts",
    "proxy.istio.io/overrides",
    "inject.istio.io/templates",
    "ambient.istio.io/redirection",
    "ambient.istio.io/bypass-inbound-capture",
    "ambient.istio.io/dns-capture",
];

/// Annotations of other objects, and of which.
const ELSEWHERE: &[(&str, &str)] = &[
    ("networking.istio.io/exportTo", "a Service"),
    ("networking.istio.io/traffic-distribution", "a Service"),
    ("alpha.istio.io/kubernetes-serviceaccounts", "a Service"),
    ("alpha.istio.io/canonical-serviceaccounts", "a Service"),
    ("topology.istio.io/controlPlaneClusters", "a Namespace"),
    ("istio.io/waypoint-for", "a Service"),
    ("istio.io/use-waypoint", "a Service or Namespace"),
];
/// Labels that are often written as annotations.
const LABELS: &[&str] = &[
    "security.istio.io/tlsMode",
    "service.istio.io/canonical-name",
    "service.istio.io/canonical-revision",
    "topology.istio.io/network",
    "topology.istio.io/cluster",
    "topology.istio.io/subzone",
    "istio.io/dataplane-mode",
];
/// Domains of Istio's own tools.
const TOOLS: &[&str] = &[
    "install.operator.istio.io",
    "operator.istio.io",
    "galley.istio.io",
    "internal.istio.io",
];

/// What is to be said about the keys of a pod's annotations.
pub(super) fn annotations(pod: Pod<'_>) -> Vec<Warning> {
    let keys = pod
        .meta("annotations")
        .into_iter()
        .flat_map(|all| all.keys());
    let mut found: Vec<Warning> = keys.filter_map(|key| judged(key)).collect();
    let labels = pod.meta("labels").into_iter().flat_map(|all| all.keys());
    // `istio.io/rev` and `sidecar.istio.io/inject` are both.
    let both = ["istio.io/rev", "sidecar.istio.io/inject"];
    found.extend(
        labels
            .filter(|key| !both.contains(&key.as_str()))
            .filter_map(|key| {
                let known =
                    FOLLOWED.contains(&key.as_str()) || NOT_FOLLOWED.contains(&key.as_str());
                let path = Path::default().key("metadata").key("labels").key(key);
                let message = "it is an annotation: as a label it has no effect";
                known.then(|| Warning::new(path, message).coded("IST0107"))
            }),
    );
    found
}

fn judged(key: &str) -> Option<Warning> {
    let (domain, name) = key.split_once('/')?;
    let istio = domain == "istio.io" || domain.ends_with(".istio.io");
    let ours = domain == "sortie";
    if !(istio || ours) || TOOLS.contains(&domain) || FOLLOWED.contains(&key) {
        return None;
    }
    let warning = |message: String| Warning::new(annotation_path(key), message);
    if NOT_FOLLOWED.contains(&key) {
        return Some(warning("sortie does not follow this annotation".to_owned()));
    }
    if let Some((_, whose)) = ELSEWHERE.iter().find(|(known, _)| *known == key) {
        let message = format!("it has no effect here: it is an annotation of {whose}");
        return Some(warning(message).coded("IST0107"));
    }
    if LABELS.contains(&key) {
        let message = "it is a label: as an annotation it has no effect".to_owned();
        return Some(warning(message).coded("IST0107"));
    }
    let whose = if istio { "Istio" } else { "sortie" };
    let message = match meant(domain, name) {
        Some(meant) => format!("{whose} has no such annotation; did you mean {meant}?"),
        None => format!("{whose} has no such annotation; check its spelling"),
    };
    Some(match istio {
        true => warning(message).coded("IST0108"),
        false => warning(message),
    })
}

/// The same name in another domain, else a name like it in the same.
fn meant(domain: &str, name: &str) -> Option<String> {
    let known = || {
        FOLLOWED
            .iter()
            .chain(NOT_FOLLOWED)
            .filter_map(|key| key.split_once('/'))
    };
    let elsewhere = known().find(|(_, other)| *other == name);
    let (domain, name) = elsewhere.or_else(|| {
        let names = known().filter(|(other, _)| *other == domain);
        Some((domain, did_you_mean(name, names.map(|(_, name)| name))?))
    })?;
    Some(format!("{domain}/{name}"))
}
