//! Whose pod it is, as far as the pod itself tells: the controllers are not asked.
//!
//! Owns: from the ReplicaSet to its Deployment, from the Job to its CronJob, by their names.
//! Never: asks the API server.
//! Called by: decide.

use serde_json::Value;

use crate::inject::Owner;

/// The workload behind a pod that is to be made in `namespace`.
pub fn owner(namespace: &str, pod: &Value) -> Owner {
    let metadata = pod.get("metadata").unwrap_or(&Value::Null);
    let text = |key: &str| metadata.get(key).and_then(Value::as_str);
    let (kind, name) = controller(metadata).unwrap_or_else(|| {
        let begins = text("generateName").unwrap_or_default();
        let named = text("name").filter(|name| !name.is_empty());
        ("Pod", named.unwrap_or(begins.trim_end_matches('-')))
    });
    let (kind, name) = match kind {
        "ReplicaSet" => above(metadata, name).map_or((kind, name), |name| ("Deployment", name)),
        "Job" => scheduled(name).map_or((kind, name), |name| ("CronJob", name)),
        _ => (kind, name),
    };
    Owner {
        kind: kind.to_owned(),
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        ..Owner::default()
    }
}

fn controller(metadata: &Value) -> Option<(&str, &str)> {
    let references = metadata.get("ownerReferences")?.as_array()?;
    let controls = |one: &&Value| one.get("controller").and_then(Value::as_bool) == Some(true);
    let one = references.iter().find(controls)?;
    Some((one.get("kind")?.as_str()?, one.get("name")?.as_str()?))
}

/// A Deployment's ReplicaSets are called by it and the hash that is also a label.
fn above<'a>(metadata: &Value, name: &'a str) -> Option<&'a str> {
    let hash = metadata.get("labels")?.get("pod-template-hash")?.as_str()?;
    name.strip_suffix(hash)?.strip_suffix('-')
}

/// A CronJob's Jobs end in the minute that they are for, since 1970.
fn scheduled(name: &str) -> Option<&str> {
    let (name, minute) = name.rsplit_once('-')?;
    let digits = minute.bytes().all(|b| b.is_ascii_digit());
    ((8..=10).contains(&minute.len()) && digits).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(pod: Value) -> (String, String) {
        let owner = owner("shop", &pod);
        assert_eq!(owner.namespace, "shop");
        (owner.kind, owner.name)
    }

    fn owned(kind: &str, name: &str) -> Value {
        json!({"metadata": {
            "labels": {"pod-template-hash": "7d4b9c"},
            "ownerReferences": [
                {"kind": "Other", "name": "x", "controller": false},
                {"kind": kind, "name": name, "controller": true},
            ],
        }})
    }

    #[test]
    fn i2_the_workload_is_found_by_the_names_of_what_it_owns() {
        for (kind, name, expected) in [
            ("ReplicaSet", "web-7d4b9c", ("Deployment", "web")),
            ("ReplicaSet", "web", ("ReplicaSet", "web")),
            ("Job", "nightly-28912345", ("CronJob", "nightly")),
            ("Job", "import-2", ("Job", "import-2")),
            ("StatefulSet", "db", ("StatefulSet", "db")),
        ] {
            let (kind, name) = of(owned(kind, name));
            assert_eq!((kind.as_str(), name.as_str()), expected);
        }
    }

    #[test]
    fn a_pod_of_its_own_is_its_own_workload() {
        let named = of(json!({"metadata": {"name": "curl"}}));
        assert_eq!(named, ("Pod".to_owned(), "curl".to_owned()));
        let generated = of(json!({"metadata": {"generateName": "curl-"}}));
        assert_eq!(generated.1, "curl");
        assert_eq!(of(json!({})).1, "");
    }
}
