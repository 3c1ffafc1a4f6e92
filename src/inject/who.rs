//! Whether a pod gets a sidecar at all (ISTIO.md I1).
//!
//! Owns: the order of what forbids and what asks.
//! Never: looks at how.
//! Called by: plan.

use super::pod::{Pod, field};
use super::{LeftAlone, Owner, Path, Policy, Refusal, Settings, Warning};

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

/// What to say of a pod that asks for a sidecar itself and is left alone all the same: its
/// connections go out as the application makes them.
pub fn unmet(why: &LeftAlone, template: &serde_json::Value) -> Option<Warning> {
    let pod = Pod::loosely(template);
    let told = yes(pod).filter(|_| *why != LeftAlone::Same)?;
    let key = if told.what == "label" {
        "labels"
    } else {
        "annotations"
    };
    let path = Path::default().key("metadata").key(key).key(INJECT);
    let customised = match why {
        LeftAlone::Istio => "; settings of the proxy are annotations here, not a container",
        _ => "",
    };
    let message = format!("the pod asks for a sidecar and gets none: {why}{customised}");
    Some(Warning::new(path, message))
}

/// True where the pod says yes by itself.
pub fn asks(template: &serde_json::Value) -> bool {
    yes(Pod::loosely(template)).is_some()
}

fn yes(pod: Pod<'_>) -> Option<Told<'_>> {
    told(pod).ok().flatten().filter(|told| told.yes)
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{annotated, owner, settings};
    use super::*;

    fn by_labels(otherwise: bool) -> Settings {
        Settings {
            policy: Policy::Labels { otherwise },
            ..settings()
        }
    }

    fn labelled(value: &str) -> Value {
        let mut pod = annotated(&[]);
        pod["metadata"]["labels"][INJECT] = json!(value);
        pod
    }

    fn of(namespace_labels: &[(&str, &str)]) -> Owner {
        let labels = namespace_labels.iter();
        Owner {
            namespace_labels: labels
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            ..owner()
        }
    }

    fn why(settings: &Settings, owner: &Owner, pod: &Value) -> Option<LeftAlone> {
        left_alone(settings, owner, Pod::loosely(pod)).unwrap()
    }

    fn pod_says(what: &'static str, value: &str) -> Option<LeftAlone> {
        Some(LeftAlone::PodSaysNo(what, INJECT, value.to_owned()))
    }

    #[test]
    fn i1_a_manifest_that_somebody_names_is_injected_unless_it_says_no() {
        let asked = settings();
        assert_eq!(why(&asked, &owner(), &annotated(&[])), None);
        assert_eq!(
            why(&asked, &of(&[(NAMESPACE, "disabled")]), &annotated(&[])),
            None
        );
        assert_eq!(
            why(&asked, &owner(), &labelled("false")),
            pod_says("label", "false")
        );
        let pod = annotated(&[(INJECT, "no")]);
        assert_eq!(why(&asked, &owner(), &pod), pod_says("annotation", "no"));
    }

    #[test]
    fn i1_the_label_of_a_pod_beats_its_annotation() {
        let mut pod = annotated(&[(INJECT, "false")]);
        pod["metadata"]["labels"][INJECT] = json!("true");
        assert_eq!(why(&by_labels(false), &owner(), &pod), None);
        let mut pod = annotated(&[(INJECT, "true")]);
        pod["metadata"]["labels"][INJECT] = json!("false");
        assert_eq!(
            why(&by_labels(false), &owner(), &pod),
            pod_says("label", "false")
        );
    }

    #[test]
    fn i1_by_labels_either_the_pod_or_its_namespace_asks() {
        let quiet = annotated(&[]);
        let not_asked = Some(LeftAlone::NotAsked("shop".to_owned()));
        assert_eq!(why(&by_labels(false), &owner(), &quiet), not_asked);
        assert_eq!(why(&by_labels(true), &owner(), &quiet), None);
        for label in [(NAMESPACE, "enabled"), (REVISION, "1-30")] {
            assert_eq!(
                why(&by_labels(false), &of(&[label]), &quiet),
                None,
                "{label:?}"
            );
        }
        for value in ["true", "True", "yes", "on", "y"] {
            assert_eq!(
                why(&by_labels(false), &owner(), &labelled(value)),
                None,
                "{value}"
            );
        }
        // OpenShift's way, pod by pod.
        let pod = annotated(&[(INJECT, "true")]);
        assert_eq!(why(&by_labels(false), &owner(), &pod), None);
    }

    #[test]
    fn i1_by_labels_a_no_of_the_namespace_is_final() {
        let owner = of(&[(NAMESPACE, "disabled"), (REVISION, "1-30")]);
        let no = Some(LeftAlone::NamespaceSaysNo("shop".to_owned()));
        assert_eq!(why(&by_labels(true), &owner, &labelled("true")), no);
    }

    #[test]
    fn i1_the_hosts_network_system_namespaces_windows_and_istios_own_are_never_injected() {
        let mut host = labelled("true");
        host["spec"]["hostNetwork"] = json!(true);
        assert_eq!(
            why(&settings(), &owner(), &host),
            Some(LeftAlone::HostNetwork)
        );
        host["spec"]["hostNetwork"] = json!(false);
        assert_eq!(why(&settings(), &owner(), &host), None);
        for namespace in ["kube-system", "kube-public"] {
            let owner = Owner {
                namespace: namespace.to_owned(),
                ..owner()
            };
            let why = why(&settings(), &owner, &labelled("true"));
            assert_eq!(why, Some(LeftAlone::SystemNamespace(namespace.to_owned())));
        }
        let mut windows = labelled("true");
        windows["spec"]["nodeSelector"] = json!({"kubernetes.io/os": "windows"});
        assert_eq!(
            why(&settings(), &owner(), &windows),
            Some(LeftAlone::Windows)
        );
        for list in ["containers", "initContainers"] {
            let mut istio = labelled("true");
            istio["spec"][list] = json!([{"name": "istio-proxy"}]);
            assert_eq!(why(&settings(), &owner(), &istio), Some(LeftAlone::Istio));
        }
    }

    #[test]
    fn i1_a_pod_that_asks_and_gets_none_is_told_and_one_that_does_not_ask_is_not() {
        let said = |pod: &Value| unmet(&LeftAlone::HostNetwork, pod).map(|said| said.to_string());
        let expected = "metadata.labels[\"sidecar.istio.io/inject\"]: the pod asks for a sidecar and \
                        gets none: it has hostNetwork: true, and the node's traffic cannot be captured";
        assert_eq!(said(&labelled("true")).as_deref(), Some(expected));
        assert_eq!(said(&annotated(&[])), None);
        assert_eq!(said(&labelled("false")), None);
        assert_eq!(unmet(&LeftAlone::Same, &labelled("true")), None);
    }

    #[test]
    fn i1_a_word_that_is_neither_yes_nor_no_is_refused_by_name() {
        let error = left_alone(&settings(), &owner(), Pod::loosely(&labelled("enabled")));
        assert_eq!(
            error.unwrap_err().to_string(),
            "metadata.labels[\"sidecar.istio.io/inject\"]: \"enabled\" is neither yes nor no; \
             expected \"true\" or \"false\""
        );
        // Where the pod is none of our business, not even that is.
        let no = of(&[(NAMESPACE, "disabled")]);
        let namespace = Some(LeftAlone::NamespaceSaysNo("shop".to_owned()));
        assert_eq!(why(&by_labels(false), &no, &labelled("enabled")), namespace);
    }
}
