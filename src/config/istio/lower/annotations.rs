//! Annotations of Istio's: unknown, misplaced or with a value that they cannot have.
//!
//! Owns: IST0107, IST0108, IST0125 (B13), and the annotations that there are (I9, I10).
//! Never: follows one: sortie takes its settings from flags.
//! Called by: lower.

use std::collections::BTreeMap;

use super::report;
use crate::config::diagnostic::{Code, Diagnostics};
use crate::config::istio::Manifests;
use crate::config::istio::meta::Meta;

/// What an annotation may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    Any,
    Bool,
    Port,
    Capture,
}

/// Annotations of a pod, by domain.
const POD: &[(&str, &[(&str, Value)])] = &[
    (
        "sidecar.istio.io",
        &[
            ("inject", Value::Bool),
            ("interceptionMode", Value::Capture),
            ("rewriteAppHTTPProbers", Value::Bool),
            ("nativeSidecar", Value::Bool),
            ("enableCoreDump", Value::Bool),
            ("userVolume", Value::Any),
            ("userVolumeMount", Value::Any),
            ("proxyCPU", Value::Any),
            ("proxyMemory", Value::Any),
            ("proxyCPULimit", Value::Any),
            ("proxyMemoryLimit", Value::Any),
            ("proxyImage", Value::Any),
            ("proxyImageType", Value::Any),
            ("logLevel", Value::Any),
            ("componentLogLevel", Value::Any),
            ("agentLogLevel", Value::Any),
            ("statsInclusionPrefixes", Value::Any),
            ("statsInclusionSuffixes", Value::Any),
            ("statsInclusionRegexps", Value::Any),
            ("statsHistogramBuckets", Value::Any),
            ("statsCompression", Value::Any),
            ("extraStatTags", Value::Any),
            ("bootstrapOverride", Value::Any),
            ("discoveryAddress", Value::Any),
            ("controlPlaneAuthPolicy", Value::Any),
            ("status", Value::Any),
        ],
    ),
    ("status.sidecar.istio.io", &[("port", Value::Port)]),
    (
        "readiness.status.sidecar.istio.io",
        &[
            ("applicationPorts", Value::Any),
            ("failureThreshold", Value::Any),
            ("initialDelaySeconds", Value::Any),
            ("periodSeconds", Value::Any),
        ],
    ),
    (
        "traffic.sidecar.istio.io",
        &[
            ("includeOutboundIPRanges", Value::Any),
            ("excludeOutboundIPRanges", Value::Any),
            ("includeOutboundPorts", Value::Any),
            ("excludeOutboundPorts", Value::Any),
            ("includeInboundPorts", Value::Any),
            ("excludeInboundPorts", Value::Any),
            ("excludeInterfaces", Value::Any),
            ("kubevirtInterfaces", Value::Any),
        ],
    ),
    (
        "proxy.istio.io",
        &[("config", Value::Any), ("overrides", Value::Any)],
    ),
    ("inject.istio.io", &[("templates", Value::Any)]),
    ("prometheus.istio.io", &[("merge-metrics", Value::Bool)]),
    ("ambient.istio.io", &[("redirection", Value::Any)]),
    ("istio.io", &[("rev", Value::Any)]),
];

/// Annotations of a Service.
const SERVICE: &[(&str, &[(&str, Value)])] = &[
    (
        "networking.istio.io",
        &[
            ("exportTo", Value::Any),
            ("traffic-distribution", Value::Any),
        ],
    ),
    (
        "alpha.istio.io",
        &[
            ("kubernetes-serviceaccounts", Value::Any),
            ("canonical-serviceaccounts", Value::Any),
        ],
    ),
];

/// Domains that are nobody's business here: written by Istio's own tools.
const TOOLS: &[&str] = &[
    "install.operator.istio.io",
    "operator.istio.io",
    "galley.istio.io",
    "internal.istio.io",
];

/// Looks at the annotations of pods, pod templates, Services and namespaces.
pub fn check(manifests: &Manifests, out: &mut Diagnostics) {
    for pod in &manifests.pods {
        judge(&pod.meta, &pod.annotations, POD, out);
        if pod.meta.kind != "Pod" {
            judge(&pod.meta, &pod.meta.annotations, &[], out);
        }
    }
    for service in &manifests.services {
        judge(&service.meta, &service.meta.annotations, SERVICE, out);
    }
    for namespace in &manifests.namespaces {
        judge(namespace, &namespace.annotations, &[], out);
    }
}

fn judge(
    meta: &Meta,
    annotations: &BTreeMap<String, String>,
    here: &[(&str, &[(&str, Value)])],
    out: &mut Diagnostics,
) {
    for (key, value) in annotations {
        let Some((domain, name)) = key.split_once('/') else {
            continue;
        };
        let istio = domain == "istio.io" || domain.ends_with(".istio.io");
        if !istio || TOOLS.contains(&domain) {
            continue;
        }
        let finding = if let Some(kind) = find(here, domain, name) {
            let Some(expected) = wrong(kind, value) else {
                continue;
            };
            let problem = format!("the annotation {key} has the value {value:?}");
            let advice = format!("write {expected}");
            report::about(meta, Code::BadAnnotation, problem, advice)
        } else if find(POD, domain, name).is_some() {
            let problem = format!("the annotation {key} has no effect here");
            let advice = "write it in the pod's metadata: spec.template.metadata of a Deployment";
            report::about(meta, Code::MisplacedAnnotation, problem, advice)
        } else if find(SERVICE, domain, name).is_some() {
            let problem = format!("the annotation {key} has no effect here");
            let advice = "write it in the Service's metadata";
            report::about(meta, Code::MisplacedAnnotation, problem, advice)
        } else {
            let problem = format!("there is no annotation {key} in Istio");
            report::about(meta, Code::UnknownAnnotation, problem, "check its spelling")
        };
        out.push(finding);
    }
}

fn find(table: &[(&str, &[(&str, Value)])], domain: &str, name: &str) -> Option<Value> {
    let (_, names) = table.iter().find(|(known, _)| *known == domain)?;
    let found = names.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| *value)
}

/// What would have been right, where `value` is not.
fn wrong(kind: Value, value: &str) -> Option<&'static str> {
    let (right, expected) = match kind {
        Value::Any => return None,
        Value::Bool => (matches!(value, "true" | "false"), "\"true\" or \"false\""),
        Value::Port => (value.parse::<u16>().is_ok(), "a port, or 0 for none"),
        Value::Capture => (
            matches!(value, "REDIRECT" | "TPROXY" | "NONE"),
            "REDIRECT, TPROXY or NONE",
        ),
    };
    (!right).then_some(expected)
}

#[cfg(test)]
mod tests {
    use crate::config::load::said;

    fn pod(annotations: &str) -> Vec<String> {
        let text = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: d}}\nspec: {{template: \
             {{metadata: {{labels: {{app: d}}, annotations: {{{annotations}}}}}, spec: {{}}}}}}\n"
        );
        said(&text)
    }

    #[test]
    fn ist0108_an_annotation_that_istio_does_not_know_is_said_and_a_known_one_is_not() {
        assert_eq!(
            pod("sidecar.istio.io/userVolumes: '[]'"),
            [
                "a.yaml:1: warning[IST0108] Deployment default/d: there is no annotation \
                 sidecar.istio.io/userVolumes in Istio; check its spelling"
            ]
        );
        assert_eq!(
            pod("sidecar.istio.io/userVolume: '[]'"),
            Vec::<String>::new()
        );
        assert_eq!(pod("example.org/userVolumes: '[]'"), Vec::<String>::new());
    }

    #[test]
    fn ist0125_a_value_that_an_annotation_cannot_have_is_said() {
        assert_eq!(
            pod("sidecar.istio.io/inject: 'yes'"),
            [
                "a.yaml:1: warning[IST0125] Deployment default/d: the annotation \
                 sidecar.istio.io/inject has the value \"yes\"; write \"true\" or \"false\""
            ]
        );
        assert_eq!(pod("sidecar.istio.io/inject: 'true'"), Vec::<String>::new());
    }

    #[test]
    fn ist0107_an_annotation_of_a_pod_on_its_deployment_is_said() {
        let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, annotations: \
                    {sidecar.istio.io/inject: 'true'}}\nspec: {template: {metadata: {labels: \
                    {app: d}}, spec: {}}}\n";
        assert_eq!(
            said(text),
            [
                "a.yaml:1: warning[IST0107] Deployment default/d: the annotation \
                 sidecar.istio.io/inject has no effect here; write it in the pod's metadata: \
                 spec.template.metadata of a Deployment"
            ]
        );
    }
}
