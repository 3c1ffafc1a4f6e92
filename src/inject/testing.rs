//! Pods, and what became of them, for the tests of this room.
//!
//! Owns: the pods and the helpers that several files' tests use.
//! Never: part of the product.
//! Called by: tests.

use serde_json::{Value, json};

use super::{LeftAlone, Op, Outcome, Owner, Path, Plan, Refusal, Settings, plan};

/// A pod of one container, `app`, with these annotations.
pub(super) fn annotated(annotations: &[(&str, &str)]) -> Value {
    let mut pod = json!({
        "metadata": {"labels": {"app": "app"}, "annotations": {}},
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    });
    for (key, value) in annotations {
        pod["metadata"]["annotations"][key] = json!(value);
    }
    pod
}

/// The same with fields of its container.
pub(super) fn with_app(fields: Value) -> Value {
    let mut pod = annotated(&[]);
    let app = pod["spec"]["containers"][0].as_object_mut().unwrap();
    app.extend(fields.as_object().unwrap().clone());
    pod
}

pub(super) fn owner() -> Owner {
    Owner {
        kind: "Deployment".to_owned(),
        name: "curl".to_owned(),
        namespace: "shop".to_owned(),
        ..Owner::default()
    }
}

pub(super) fn settings() -> Settings {
    Settings {
        image: "sortie:test".to_owned(),
        ..Settings::default()
    }
}

/// The same with a mesh identity, about which there is then nothing to say.
pub(super) fn meshed() -> Settings {
    Settings {
        identity: Some("mesh".to_owned()),
        ..settings()
    }
}

/// The changes to a pod that gets a sidecar.
pub(super) fn planned(settings: &Settings, pod: &Value) -> Plan {
    match plan(settings, &owner(), pod) {
        Ok(Outcome::Inject(plan)) => plan,
        other => panic!("{other:?}"),
    }
}

/// The pod afterwards, which stays as it is when it is planned again.
pub(super) fn injected_with(settings: &Settings, pod: &Value) -> Value {
    let after = applied(pod, &planned(settings, pod).ops);
    let again = plan(settings, &owner(), &after);
    assert_eq!(
        again,
        Ok(Outcome::LeftAlone(LeftAlone::Same)),
        "twice is once"
    );
    after
}

/// The same with the usual settings.
pub(super) fn injected(pod: &Value) -> Value {
    injected_with(&settings(), pod)
}

/// What is said along the way.
pub(super) fn warned(pod: &Value) -> Vec<String> {
    let warnings = planned(&meshed(), pod).warnings;
    warnings.iter().map(ToString::to_string).collect()
}

/// Why the pod cannot have a sidecar.
pub(super) fn refused(pod: &Value) -> Refusal {
    plan(&settings(), &owner(), pod).unwrap_err()
}

pub(super) fn applied(pod: &Value, ops: &[Op]) -> Value {
    let mut pod = pod.clone();
    for op in ops {
        op.apply(&mut pod).unwrap();
    }
    pod
}

/// The container of this name in either list.
pub(super) fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let lists = ["initContainers", "containers"].map(|list| &pod["spec"][list]);
    let mut all = lists.into_iter().filter_map(Value::as_array).flatten();
    all.find(|one| one["name"] == name).unwrap()
}

/// Names of a list's items.
pub(super) fn names<'a>(pod: &'a Value, list: &str) -> Vec<&'a str> {
    let items = pod["spec"][list].as_array();
    let items = items.into_iter().flatten();
    items.map(|item| item["name"].as_str().unwrap()).collect()
}

/// Arguments of a container.
pub(super) fn args<'a>(pod: &'a Value, name: &str) -> Vec<&'a str> {
    let args = container(pod, name)["args"].as_array().unwrap();
    args.iter().map(|arg| arg.as_str().unwrap()).collect()
}

/// `metadata.annotations["key"]`.
pub(super) fn at(key: &str) -> Path {
    Path::default().key("metadata").key("annotations").key(key)
}
