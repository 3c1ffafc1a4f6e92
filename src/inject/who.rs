//! Whether a pod gets a sidecar at all (ISTIO.md I1).
//!
//! Owns: the order of what forbids and what asks.
//! Never: looks at how.
//! Called by: plan.

use super::pod::{Pod, field};
use super::{LeftAlone, Owner, Path, Policy, Refusal, Settings};

/// The label, and the older annotation, by which a pod speaks for itself.
const INJECT: &str = "sidecar.istio.io/inject";
/// The label by which a namespace, or a pod, names the injector's version.
const REVISION: &str = "istio.io/rev";
/// The label by which a namespace speaks for its pods.
const NAMESPACE: &str = "istio-injection";

/// `Some`: it is left alone.
///
/// # Errors
/// The pod says something that is neither yes nor no.
pub(super) fn left_alone(
    settings: &Settings,
    owner: &Owner,
    pod: Pod<'_>,
) -> Result<Option<LeftAlone>, Refusal> {
    if let Some(never) = never(settings, owner, pod) {
        return Ok(Some(never));
    }
    let namespace_label = owner.namespace_labels.get(NAMESPACE).map(String::as_str);
    let by_labels = settings.policy != Policy::Asked;
    if by_labels && namespace_label == Some("disabled") {
        return Ok(Some(LeftAlone::NamespaceSaysNo(owner.namespace.clone())));
    }
    let told = told(pod)?;
    let asked = match (told, settings.policy) {
        (
            Some(Told {
                yes: false,
                what,
                value,
            }),
            _,
        ) => {
            return Ok(Some(LeftAlone::PodSaysNo(what, INJECT, value.to_owned())));
        }
        (Some(_), _) | (None, Policy::Asked) => true,
        (None, Policy::Labels { otherwise }) => {
            namespace_label == Some("enabled")
                || owner.namespace_labels.contains_key(REVISION)
                || pod.label(REVISION).is_some()
                || otherwise
        }
    };
    Ok((!asked).then(|| LeftAlone::NotAsked(owner.namespace.clone())))
}

/// What no label can change.
fn never(settings: &Settings, owner: &Owner, pod: Pod<'_>) -> Option<LeftAlone> {
    let is = |key: &str| pod.spec(key).and_then(serde_json::Value::as_bool) == Some(true);
    let text = |key: &str, inner: &str| field(pod.spec(key)?, inner)?.as_str();
    if is("hostNetwork") {
        return Some(LeftAlone::HostNetwork);
    }
    if settings.system_namespaces.contains(&owner.namespace) {
        return Some(LeftAlone::SystemNamespace(owner.namespace.clone()));
    }
    if pod.containers().any(|one| one.name == "istio-proxy") {
        return Some(LeftAlone::Istio);
    }
    let nodes = text("nodeSelector", "kubernetes.io/os");
    let windows = [text("os", "name"), nodes].contains(&Some("windows"));
    windows.then_some(LeftAlone::Windows)
}

struct Told<'a> {
    yes: bool,
    what: &'static str,
    value: &'a str,
}

/// What the pod says: its label, else its annotation.
fn told(pod: Pod<'_>) -> Result<Option<Told<'_>>, Refusal> {
    let (what, key, value) = match (pod.label(INJECT), pod.annotation(INJECT)) {
        (Some(value), _) => ("label", "labels", value),
        (None, Some(value)) => ("annotation", "annotations", value),
        (None, None) => return Ok(None),
    };
    // As Istio's injector: what YAML 1.1 takes for true or false.
    let yes = match value.to_ascii_lowercase().as_str() {
        "" => return Ok(None),
        "y" | "yes" | "true" | "on" => true,
        "n" | "no" | "false" | "off" => false,
        _ => {
            let path = Path::default().key("metadata").key(key).key(INJECT);
            let problem = format!("\"{value}\" is neither yes nor no");
            let advice = "expected \"true\" or \"false\"";
            return Err(Refusal::new(path, problem, advice));
        }
    };
    Ok(Some(Told { yes, what, value }))
}
