//! Volumes that users give to the proxy (ISTIO.md I9).
//!
//! Owns: `userVolume` and `userVolumeMount`, both of their shapes, and whether they fit the pod.
//! Never: knows the volumes that the proxy has anyway, but where they are mounted.
//! Called by: wishes, plan.
//!
//! Why field names in any case: Go reads JSON so, and manifests that Istio takes say `readonly`.

use serde_json::{Map, Value};

use super::Refusal;
use super::pod::{Fields, Pod, kind_of, spec_path};
use super::said::Said;
use crate::config::did_you_mean;

/// The volumes.
pub(super) const VOLUMES: &str = "sidecar.istio.io/userVolume";
/// Where the proxy sees them.
pub(super) const MOUNTS: &str = "sidecar.istio.io/userVolumeMount";
/// Volumes or mounts of one pod.
const MOST: usize = 64;
/// What no mount may hide: the program, and what it is given.
const TAKEN: [&str; 2] = ["/sortie", "/etc/sortie"];

/// Fields of a mount.
const MOUNT_FIELDS: &[&str] = &[
    "name",
    "mountPath",
    "readOnly",
    "subPath",
    "subPathExpr",
    "mountPropagation",
    "recursiveReadOnly",
];
/// Fields of volumes and of their usual sources; others are kept as they are written.
const VOLUME_FIELDS: &[&str] = &[
    "name",
    "secret",
    "configMap",
    "emptyDir",
    "hostPath",
    "projected",
    "downwardAPI",
    "csi",
    "nfs",
    "persistentVolumeClaim",
    "ephemeral",
    "secretName",
    "items",
    "key",
    "path",
    "mode",
    "defaultMode",
    "optional",
    "medium",
    "sizeLimit",
    "claimName",
    "readOnly",
    "sources",
    "type",
    "serviceAccountToken",
    "audience",
    "expirationSeconds",
    "clusterTrustBundle",
    "signerName",
    "labelSelector",
    "driver",
    "fsType",
    "volumeAttributes",
    "nodePublishSecretRef",
    "fieldRef",
    "fieldPath",
    "apiVersion",
    "resourceFieldRef",
    "volumeClaimTemplate",
    "server",
    "image",
];
/// Mappings of the user's own words.
const FREE: &[&str] = &["volumeAttributes", "labelSelector", "volumeClaimTemplate"];

/// What the annotations say, names and fields in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct UserVolumes {
    /// Each with a `name`; of two of one name the last.
    pub volumes: Vec<Value>,
    /// Each with `name` and `mountPath`; of two at one path the last.
    pub mounts: Vec<Value>,
}

/// Reads both annotations.
///
/// # Errors
/// Not JSON, not one of the two shapes, or a field that cannot be.
pub(super) fn user_volumes(said: &Said<'_>) -> Result<UserVolumes, Refusal> {
    let mut out = UserVolumes::default();
    for fields in items(said, VOLUMES)? {
        let fields = spelled(fields, VOLUME_FIELDS);
        check_volume(&fields)?;
        keep_last(&mut out.volumes, fields, "name");
    }
    for fields in items(said, MOUNTS)? {
        let fields = spelled(fields, MOUNT_FIELDS);
        check_mount(&fields)?;
        keep_last(&mut out.mounts, fields, "mountPath");
    }
    Ok(out)
}

/// The items of either shape: `{"name": {..}}` or `[{"name": ..}]`.
fn items(said: &Said<'_>, key: &str) -> Result<Vec<Fields>, Refusal> {
    let Some(text) = said.text(key).filter(|text| !text.trim().is_empty()) else {
        return Ok(Vec::new());
    };
    let value: Value = serde_json::from_str(text)
        .map_err(|error| malformed(key, format!("it is not JSON: {error}")))?;
    let items: Vec<(Option<String>, Value)> = match value {
        Value::Null => Vec::new(),
        Value::Array(items) => items.into_iter().map(|item| (None, item)).collect(),
        Value::Object(items) => items
            .into_iter()
            .map(|(name, item)| (Some(name), item))
            .collect(),
        other => return Err(malformed(key, format!("it is {}", kind_of(&other)))),
    };
    if items.len() > MOST {
        let problem = format!("{} items are more than {MOST}", items.len());
        return Err(malformed(key, problem));
    }
    items
        .into_iter()
        .enumerate()
        .map(|(nth, (name, item))| named(key, nth, name, item))
        .collect()
}

/// An item with its name, which a map says as its key.
fn named(key: &str, nth: usize, name: Option<String>, item: Value) -> Result<Fields, Refusal> {
    let Value::Object(fields) = item else {
        let problem = format!("item {} is {}", nth + 1, kind_of(&item));
        return Err(malformed(key, problem));
    };
    let own = fields.keys().any(|key| key.eq_ignore_ascii_case("name"));
    match name.filter(|_| !own) {
        Some(name) => {
            let first = (String::from("name"), Value::from(name));
            Ok(std::iter::once(first).chain(fields).collect())
        }
        None => Ok(fields),
    }
}

/// The fields as Kubernetes spells them; of two that differ in case alone the last.
fn spelled(fields: Fields, known: &[&str]) -> Fields {
    let mut out = Map::with_capacity(fields.len());
    for (key, value) in fields {
        let right = known.iter().find(|known| known.eq_ignore_ascii_case(&key));
        let key = right.map_or(key, |right| (*right).to_owned());
        let value = match FREE.contains(&key.as_str()) {
            true => value,
            false => spelled_value(value, known),
        };
        out.insert(key, value);
    }
    out
}

fn spelled_value(value: Value, known: &[&str]) -> Value {
    match value {
        Value::Object(fields) => Value::Object(spelled(fields, known)),
        Value::Array(items) => items
            .into_iter()
            .map(|item| spelled_value(item, known))
            .collect(),
        other => other,
    }
}

fn check_volume(fields: &Fields) -> Result<(), Refusal> {
    let name = checked_name(VOLUMES, fields)?;
    if name.starts_with("sortie-") {
        let problem = format!("the volume {name:?} has a name of sortie's own");
        return Err(malformed(VOLUMES, problem));
    }
    let sources = fields.iter().filter(|(key, _)| *key != "name");
    let (mut objects, mut others) = (0, None);
    for (key, value) in sources {
        match value.is_object() {
            true => objects += 1,
            false => others = others.or(Some(key)),
        }
    }
    let problem = match (objects, others) {
        (1, None) => return Ok(()),
        (_, Some(key)) => format!("the volume {name:?} has {key:?}, which is no volume source"),
        (0, None) => format!("the volume {name:?} has no source"),
        (_, None) => format!("the volume {name:?} has {objects} sources"),
    };
    Err(malformed(VOLUMES, problem))
}

fn check_mount(fields: &Fields) -> Result<(), Refusal> {
    let name = checked_name(MOUNTS, fields)?;
    for (key, value) in fields {
        let right = match key.as_str() {
            "readOnly" => value.is_boolean(),
            _ => value.is_string(),
        };
        if !MOUNT_FIELDS.contains(&key.as_str()) {
            let meant = did_you_mean(key, MOUNT_FIELDS.iter().copied());
            let meant = meant.map_or(String::new(), |meant| format!(" (did you mean {meant}?)"));
            let problem = format!("the mount of {name:?} has no field {key:?}{meant}");
            return Err(malformed(MOUNTS, problem));
        }
        if !right {
            let problem = format!("{key} of the mount of {name:?} is {}", kind_of(value));
            return Err(malformed(MOUNTS, problem));
        }
    }
    let path = fields.get("mountPath").and_then(Value::as_str);
    match path {
        Some(path) if path.starts_with('/') && !path.contains(':') => unhidden(name, path),
        Some(path) => {
            let problem =
                format!("the mount of {name:?} has mountPath {path:?}, which is not absolute");
            Err(malformed(MOUNTS, problem))
        }
        None => Err(malformed(
            MOUNTS,
            format!("the mount of {name:?} has no mountPath"),
        )),
    }
}

/// Nothing that the proxy needs lies at, in or around the mount.
fn unhidden(name: &str, path: &str) -> Result<(), Refusal> {
    let mount = std::path::Path::new(path);
    let meets = |taken: &&&str| {
        let taken = std::path::Path::new(**taken);
        mount.starts_with(taken) || taken.starts_with(mount)
    };
    let Some(taken) = TAKEN.iter().find(meets) else {
        return Ok(());
    };
    let problem =
        format!("the mount of {name:?} at {path} would hide {taken}, which the proxy needs");
    Err(malformed(MOUNTS, problem))
}

/// The `name`, which is a DNS label.
fn checked_name<'a>(key: &str, fields: &'a Fields) -> Result<&'a str, Refusal> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    match fields.get("name") {
        None => Err(malformed(key, "an item has no name".to_owned())),
        Some(Value::String(name))
            if (1..=63).contains(&name.len())
                && name.bytes().all(fits)
                && !name.starts_with('-')
                && !name.ends_with('-') =>
        {
            Ok(name)
        }
        Some(other) => {
            let mut shown = other.to_string();
            shown.truncate(shown.floor_char_boundary(80));
            Err(malformed(
                key,
                format!("{shown} is no name: at most 63 of a-z, 0-9 and -"),
            ))
        }
    }
}

fn malformed(key: &str, problem: String) -> Refusal {
    let advice = match key {
        VOLUMES => {
            r#"expected [{"name":"certs","secret":{"secretName":"certs"}}] or {"certs":{"secret":{..}}}"#
        }
        _ => {
            r#"expected [{"name":"certs","mountPath":"/etc/certs"}] or {"certs":{"mountPath":..}}"#
        }
    };
    Refusal::new(super::pod::annotation_path(key), problem, advice)
}

fn keep_last(items: &mut Vec<Value>, fields: Fields, key: &str) {
    items.retain(|item| item.get(key) != fields.get(key));
    items.push(Value::Object(fields));
}

impl UserVolumes {
    /// The volumes that the pod does not have yet.
    ///
    /// # Errors
    /// The pod has another volume of that name, or no volume of a mount's name.
    pub fn missing(&self, pod: Pod<'_>) -> Result<Vec<Value>, Refusal> {
        let mut missing = Vec::new();
        for volume in &self.volumes {
            let name = text(volume, "name");
            let own = pod.volumes().find(|(_, own, _)| *own == name);
            match own {
                None => missing.push(volume.clone()),
                Some((_, _, fields)) if Some(fields) == volume.as_object() => {}
                Some((nth, _, _)) => {
                    let problem = format!(
                        "the volume {name:?} is another one than {}",
                        spec_path("volumes").item(nth)
                    );
                    let path = super::pod::annotation_path(VOLUMES);
                    return Err(Refusal::new(path, problem, "give it another name"));
                }
            }
        }
        for mount in &self.mounts {
            let name = text(mount, "name");
            let known = self.volumes.iter().any(|one| text(one, "name") == name);
            if !known && !pod.volumes().any(|(_, own, _)| own == name) {
                let problem = format!("there is no volume {name:?} to mount");
                let advice = format!("name it in {VOLUMES}, or in the pod's spec.volumes");
                let path = super::pod::annotation_path(MOUNTS);
                return Err(Refusal::new(path, problem, advice));
            }
        }
        Ok(missing)
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{annotated, at, container, injected, names, refused};
    use super::*;

    fn pod(volumes: &str, mounts: &str) -> Value {
        annotated(&[(VOLUMES, volumes), (MOUNTS, mounts)])
    }

    /// The volumes and mounts that are not sortie's own.
    fn users(pod: &Value) -> (Vec<Value>, Vec<Value>) {
        let others = |items: &Value| {
            let items = items.as_array().unwrap().iter();
            let own = |item: &&Value| !text(item, "name").starts_with("sortie-");
            items.filter(own).cloned().collect::<Vec<_>>()
        };
        let mounts = &container(pod, "sortie-proxy")["volumeMounts"];
        (others(&pod["spec"]["volumes"]), others(mounts))
    }

    fn expected() -> (Vec<Value>, Vec<Value>) {
        (
            vec![json!({"name": "certs", "secret": {"secretName": "c"}})],
            vec![json!({"name": "certs", "mountPath": "/etc/certs", "readOnly": true})],
        )
    }

    #[test]
    fn i9_a_map_and_a_list_say_the_same() {
        let list = pod(
            r#"[{"name":"certs","secret":{"secretName":"c"}}]"#,
            r#"[{"name":"certs","mountPath":"/etc/certs","readOnly":true}]"#,
        );
        assert_eq!(users(&injected(&list)), expected());
        let map = pod(
            r#"{"certs":{"secret":{"secretName":"c"}}}"#,
            r#"{"certs":{"mountPath":"/etc/certs","readOnly":true}}"#,
        );
        assert_eq!(users(&injected(&map)), expected());
    }

    #[test]
    fn i9_field_names_count_in_any_case_and_values_as_they_are() {
        let odd = pod(
            r#"[{"Name":"certs","SECRET":{"secretname":"c"}}]"#,
            r#"[{"name":"certs","mountpath":"/etc/certs","readonly":true}]"#,
        );
        assert_eq!(users(&injected(&odd)), expected());
        let csi = r#"{"driver":"d","volumeAttributes":{"secretname":"A"}}"#;
        let free = pod(&format!(r#"[{{"name":"v","csi":{csi}}}]"#), "");
        let volume = &users(&injected(&free)).0[0];
        assert_eq!(volume["csi"].to_string(), csi, "words of the user's own");
    }

    #[test]
    fn i9_a_source_that_is_not_known_is_kept() {
        let new = pod(r#"[{"name":"v","brandNew":{"someField":1}}]"#, "");
        let volume = &users(&injected(&new)).0[0];
        assert_eq!(*volume, json!({"name": "v", "brandNew": {"someField": 1}}));
    }

    #[test]
    fn i9_of_two_the_last_wins() {
        let twice = pod(
            r#"[{"name":"certs","emptyDir":{}},{"name":"certs","secret":{"secretName":"c"}}]"#,
            r#"[{"name":"x","mountPath":"/etc/certs"},
                {"name":"certs","mountPath":"/etc/certs","readonly":false,"readOnly":true}]"#,
        );
        assert_eq!(users(&injected(&twice)), expected());
    }

    #[test]
    fn i9_one_volume_may_be_mounted_twice_and_the_pods_own_too() {
        let mut pod = pod(
            "",
            r#"[{"name":"own","mountPath":"/a","subPath":"a"},{"name":"own","mountPath":"/b"}]"#,
        );
        pod["spec"]["volumes"] = json!([{"name": "own", "emptyDir": {}}]);
        let after = injected(&pod);
        assert_eq!(
            names(&after, "volumes"),
            ["own", "sortie-config", "sortie-podinfo"]
        );
        assert_eq!(users(&after).1.len(), 2);
    }

    #[test]
    fn i9_what_is_malformed_is_refused_by_the_annotations_name() {
        let volumes = [
            (
                "{",
                "it is not JSON: EOF while parsing an object at line 1 column 1",
            ),
            ("1", "it is a number"),
            ("[1]", "item 1 is a number"),
            (r#"[{"secret":{}}]"#, "an item has no name"),
            (
                r#"[{"name":"A b","secret":{}}]"#,
                "\"A b\" is no name: at most 63 of a-z, 0-9 and -",
            ),
            (r#"[{"name":"a"}]"#, "the volume \"a\" has no source"),
            (
                r#"{"a":{"secret":{},"emptyDir":{}}}"#,
                "the volume \"a\" has 2 sources",
            ),
            (
                r#"{"a":{"secret":"c"}}"#,
                "the volume \"a\" has \"secret\", which is no volume source",
            ),
            (
                r#"{"sortie-config":{"emptyDir":{}}}"#,
                "the volume \"sortie-config\" has a name of sortie's own",
            ),
        ];
        for (text, problem) in volumes {
            let error = refused(&pod(text, ""));
            assert_eq!((error.path, error.problem.as_str()), (at(VOLUMES), problem));
        }
        let mounts = [
            (r#"[{"name":"a"}]"#, "the mount of \"a\" has no mountPath"),
            (
                r#"{"a":{"mountPath":"certs"}}"#,
                "the mount of \"a\" has mountPath \"certs\", which is not absolute",
            ),
            (
                r#"{"a":{"mountPath":"/c","readOnly":"yes"}}"#,
                "readOnly of the mount of \"a\" is text",
            ),
            (
                r#"{"a":{"mountPth":"/c"}}"#,
                "the mount of \"a\" has no field \"mountPth\" (did you mean mountPath?)",
            ),
            (
                r#"{"a":{"mountPath":"/c"}}"#,
                "there is no volume \"a\" to mount",
            ),
        ];
        for (text, problem) in mounts {
            let error = refused(&pod("", text));
            assert_eq!((error.path, error.problem.as_str()), (at(MOUNTS), problem));
        }
    }

    #[test]
    fn i9_a_mount_that_hides_what_the_proxy_needs_is_refused_and_one_beside_it_is_not() {
        let mount = |path: &str| {
            let mounts = format!(r#"{{"a":{{"mountPath":"{path}"}}}}"#);
            pod(r#"{"a":{"emptyDir":{}}}"#, &mounts)
        };
        for path in ["/", "/etc", "/etc/sortie", "/etc/sortie/config", "/sortie"] {
            let problem = refused(&mount(path)).problem;
            assert!(
                problem.contains(&format!("at {path} would hide /")),
                "{problem}"
            );
        }
        for path in ["/etc/certs", "/etc/sortie-certs", "/sortie.d"] {
            injected(&mount(path));
        }
    }

    #[test]
    fn i9_a_name_of_another_volume_of_the_pods_is_refused_and_of_the_same_is_not() {
        let mut pod = pod(r#"{"data":{"secret":{"secretName":"c"}}}"#, "");
        pod["spec"]["volumes"] =
            json!([{"name": "x", "emptyDir": {}}, {"name": "data", "emptyDir": {}}]);
        let problem = "the volume \"data\" is another one than spec.volumes[1]";
        assert_eq!(refused(&pod).problem, problem);
        pod["spec"]["volumes"][1] = json!({"name": "data", "secret": {"secretName": "c"}});
        assert_eq!(names(&injected(&pod), "volumes").len(), 4);
    }
}
