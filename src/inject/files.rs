//! Files that the proxy is given and could not read, or not read again (ISTIO.md I9).
//!
//! Owns: what modes of volumes mean to user 1337, and that Kubernetes never updates a `subPath`.
//! Never: refuses one: another user or group may be in play that a template does not show.
//! Called by: plan.

use serde_json::Value;

use super::Warning;
use super::pod::{Pod, annotation_path, field};
use super::volumes::{MOUNTS, UserVolumes, VOLUMES};
use crate::model::PROXY_ID;

/// Whether others than owner and group may read.
const OTHERS_READ: u64 = 0o004;

/// About every volume that `user` mounts.
pub(super) fn warnings(pod: Pod<'_>, user: &UserVolumes) -> Vec<Warning> {
    let context = pod.spec("securityContext");
    let grouped = context.is_some_and(|context| field(context, "fsGroup").is_some());
    let mut found = Vec::new();
    for mount in &user.mounts {
        let name = text(mount, "name");
        let own = user
            .volumes
            .iter()
            .find(|volume| text(volume, "name") == name);
        let (volume, key) = match own {
            Some(volume) => (volume.as_object(), VOLUMES),
            None => {
                let mut all = pod.volumes();
                let pods = all.find(|(_, own, _)| *own == name);
                (pods.map(|(_, _, fields)| fields), MOUNTS)
            }
        };
        let closed = volume.is_some_and(|volume| volume.values().any(closed));
        if closed && !grouped {
            let message = format!(
                "the proxy, user {PROXY_ID}, cannot read the files of {name:?} with these modes; \
                 leave defaultMode and mode out, or set spec.securityContext.fsGroup"
            );
            found.push(Warning::new(annotation_path(key), message));
        }
        if ["subPath", "subPathExpr"]
            .iter()
            .any(|key| field(mount, key).is_some())
        {
            let message = format!(
                "the mount of {name:?} has a subPath, which Kubernetes never updates: the proxy \
                 would not see a new certificate; mount the whole volume"
            );
            found.push(Warning::new(annotation_path(MOUNTS), message));
        }
    }
    found
}

/// A source some of whose files others may not read: `defaultMode`, or `mode` of an item.
fn closed(source: &Value) -> bool {
    match source {
        Value::Object(fields) => fields.iter().any(|(key, value)| match key.as_str() {
            "defaultMode" | "mode" => value.as_u64().is_some_and(|mode| mode & OTHERS_READ == 0),
            _ => closed(value),
        }),
        Value::Array(items) => items.iter().any(closed),
        _ => false,
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{annotated, warned};
    use super::*;

    fn pod(volume: &Value, mount: &str) -> Value {
        annotated(&[
            (VOLUMES, &json!({"c": volume}).to_string()),
            (MOUNTS, &format!(r#"{{"c":{{{mount}}}}}"#)),
        ])
    }

    #[test]
    fn i9_files_that_the_proxys_user_cannot_read_are_said() {
        let mount = r#""mountPath":"/c""#;
        for volume in [
            json!({"secret": {"secretName": "c", "defaultMode": 0o400}}),
            json!({"secret": {"secretName": "c", "items": [{"key": "k", "path": "k", "mode": 0o440}]}}),
            json!({"projected": {"sources": [{"secret": {"items": [{"path": "k", "mode": 0o600}]}}]}}),
        ] {
            let mut pod = pod(&volume, mount);
            let said = warned(&pod);
            assert!(
                said[0].contains("cannot read the files of \"c\""),
                "{volume}: {said:?}"
            );
            pod["spec"]["securityContext"] = json!({"fsGroup": 1337});
            assert_eq!(warned(&pod), Vec::<String>::new());
        }
        let open = json!({"secret": {"secretName": "c", "defaultMode": 0o444}});
        assert_eq!(warned(&pod(&open, mount)), Vec::<String>::new());
    }

    #[test]
    fn i9_a_volume_of_the_pods_own_is_looked_at_too() {
        let mut pod = annotated(&[(MOUNTS, r#"{"own":{"mountPath":"/c"}}"#)]);
        let secret = json!({"secretName": "c", "defaultMode": 0o400});
        pod["spec"]["volumes"] = json!([{"name": "own", "secret": secret}]);
        let said = warned(&pod);
        assert!(
            said[0].contains("cannot read the files of \"own\""),
            "{said:?}"
        );
    }

    #[test]
    fn r18_a_mount_that_is_never_updated_is_said() {
        let volume = json!({"secret": {"secretName": "c"}});
        let said = warned(&pod(&volume, r#""mountPath":"/c","subPath":"k""#));
        assert!(
            said[0].contains("has a subPath, which Kubernetes never updates"),
            "{said:?}"
        );
    }
}
