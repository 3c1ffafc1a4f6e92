//! Whose inbound connections a refused object would have governed (ISTIO.md X1).
//!
//! Owns: telling it from what can still be read of its selector.
//! Never: guesses: a selector that cannot be read is one that selects everything.
//! Called by: read.

use crate::config::cursor::At;
use crate::config::istio::manifests::Reach;
use crate::config::istio::meta::{Labels, Meta};
use crate::config::options::LoadOptions;

use super::value;

/// `None`: nobody's.
pub fn governs_inbound(root: &At<'_>, meta: &Meta, options: &LoadOptions) -> Option<Reach> {
    let spec = root.key("spec");
    let labels = |block: &str, key: &str| {
        let block = spec.as_ref().and_then(|spec| spec.key(block));
        let labels = block.and_then(|block| value::labels(&block, key));
        labels.unwrap_or_default()
    };
    let has = |key: &str| spec.as_ref().is_some_and(|spec| spec.has(key));
    let root_namespace = meta.namespace == options.facts.root_namespace;
    let in_namespace = |labels| Reach {
        namespace: (!root_namespace).then(|| meta.namespace.clone()),
        labels,
    };
    let everywhere = Reach {
        namespace: None,
        labels: Labels::new(),
    };
    match meta.kind {
        "PeerAuthentication" => {
            let labels = labels("selector", "matchLabels");
            // P1: of the root namespace, one with a selector is nobody's.
            (labels.is_empty() || !root_namespace).then(|| in_namespace(labels))
        }
        // Which workloads its targets are is known to their Services alone.
        "Policy" => Some(Reach {
            namespace: Some(meta.namespace.clone()),
            labels: Labels::new(),
        }),
        "MeshPolicy" | "IstioOperator" => Some(everywhere),
        "ConfigMap" => {
            let ours = root_namespace || &meta.namespace == options.facts.default_namespace();
            (ours && meta.name.as_ref() == "istio").then_some(everywhere)
        }
        // Of what is attached to others by name, nothing is for a sidecar.
        "AuthorizationPolicy" | "RequestAuthentication" => {
            let attached = has("targetRef") || has("targetRefs");
            (!attached).then(|| in_namespace(labels("selector", "matchLabels")))
        }
        "EnvoyFilter" => {
            let attached = has("targetRefs");
            (!attached).then(|| in_namespace(labels("workloadSelector", "labels")))
        }
        // H7: the root namespace's own is for all; one with a selector is for its namespace.
        "Sidecar" if has("ingress") => {
            let labels = labels("workloadSelector", "labels");
            Some(match labels.is_empty() {
                true => in_namespace(labels),
                false => Reach {
                    namespace: Some(meta.namespace.clone()),
                    labels,
                },
            })
        }
        _ => None,
    }
}
