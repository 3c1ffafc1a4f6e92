//! Annotations of Istio's and ours: unknown, misplaced, or of no use to sortie (ISTIO.md I10, B13).
//!
//! Owns: the list of them, IST0107 and IST0108 of one pod.
//! Never: reads a value.
//! Called by: plan, and cli for the object around a pod template.

use serde_json::Value;

use super::pod::{Pod, annotation_path, field};
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

/// Annotations of a pod that stand on what makes the pod: a Deployment's own `metadata`, where they
/// have no effect.
pub(super) fn misplaced(metadata: &Value) -> Vec<Warning> {
    let keys = field(metadata, "annotations").and_then(Value::as_object);
    let keys = keys.into_iter().flat_map(|all| all.keys());
    let of_pod =
        |key: &&String| FOLLOWED.contains(&key.as_str()) || NOT_FOLLOWED.contains(&key.as_str());
    let warning = |key: &String| {
        let message = "it has no effect here: write it in the pod's metadata, which is \
                       spec.template.metadata of a Deployment";
        Warning::new(annotation_path(key), message).coded("IST0107")
    };
    keys.filter(of_pod).map(warning).collect()
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{annotated, warned};
    use super::*;

    fn said(key: &str) -> Vec<String> {
        warned(&annotated(&[(key, "x")]))
    }

    #[test]
    fn ist0108_an_annotation_that_there_is_not_is_said_with_the_one_that_was_meant() {
        for (key, meant) in [
            (
                "sidecar.istio.io/userVolumes",
                "; did you mean sidecar.istio.io/userVolume?",
            ),
            (
                "sidecar.istio.io/excludeOutboundPorts",
                "; did you mean traffic.sidecar.istio.io/excludeOutboundPorts?",
            ),
            ("brand.istio.io/new", "; check its spelling"),
        ] {
            let expected = format!(
                "[IST0108] metadata.annotations[\"{key}\"]: Istio has no such annotation{meant}"
            );
            assert_eq!(said(key), [expected]);
        }
        let ours = "metadata.annotations[\"sortie/credential\"]: sortie has no such annotation; did \
                    you mean sortie/credentials?";
        assert_eq!(said("sortie/credential"), [ours]);
    }

    #[test]
    fn i10_an_annotation_that_changes_nothing_is_said_and_a_followed_one_is_not() {
        let key = "sidecar.istio.io/componentLogLevel";
        let expected =
            format!("metadata.annotations[\"{key}\"]: sortie does not follow this annotation");
        assert_eq!(said(key), [expected]);
        for key in [
            "sortie/config",
            "istio.io/rev",
            "example.org/unknown",
            "plain",
            "operator.istio.io/x",
        ] {
            assert_eq!(said(key), Vec::<String>::new(), "{key}");
        }
    }

    #[test]
    fn ist0107_what_belongs_elsewhere_is_said() {
        let elsewhere = said("networking.istio.io/exportTo");
        let expected = "[IST0107] metadata.annotations[\"networking.istio.io/exportTo\"]: it has no \
                        effect here: it is an annotation of a Service";
        assert_eq!(elsewhere, [expected]);
        assert!(
            said("security.istio.io/tlsMode")[0].ends_with("as an annotation it has no effect")
        );
        let mut pod = annotated(&[]);
        pod["metadata"]["labels"]["sidecar.istio.io/proxyCPU"] = json!("1");
        assert!(warned(&pod)[0].ends_with("as a label it has no effect"));
    }

    #[test]
    fn ist0107_annotations_of_a_pod_on_its_deployment_are_said() {
        let metadata = json!({"annotations": {"sidecar.istio.io/inject": "false", "a": "b"}});
        let said: Vec<String> = misplaced(&metadata)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(said.len(), 1);
        assert!(said[0].starts_with("[IST0107] metadata.annotations[\"sidecar.istio.io/inject\"]"));
        assert_eq!(misplaced(&json!({"name": "d"})), []);
    }
}
