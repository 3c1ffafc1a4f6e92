//! The proxy's volumes and where it sees them.
//!
//! Owns: their names and paths.
//! Never: knows what is in them.
//! Called by: containers, plan.
//!
//! Why the files of Secrets keep Kubernetes' mode 0644: user 1337 has to read what root owns, and
//! an fsGroup would change the owner of the application's own volumes. Nobody but the proxy's
//! container mounts them.

use serde_json::{Value, json};

use super::wishes::Wishes;

/// What the volumes' names begin with.
pub(super) const PREFIX: &str = "sortie-";
/// Paths in the proxy's container.
pub(super) const CONFIG: &str = "/etc/sortie/config";
pub(super) const POD: &str = "/etc/sortie/pod";
pub(super) const IDENTITY: &str = "/etc/sortie/identity";
pub(super) const CREDENTIALS: &str = "/etc/sortie/credentials";

/// The pod's new volumes, but for the user's.
pub(super) fn volumes(wishes: &Wishes) -> Vec<Value> {
    let field = |name: &str| {
        let path = format!("metadata.{name}");
        json!({"path": name, "fieldRef": {"fieldPath": path}})
    };
    let secret =
        |name: String, secret: &str| json!({"name": name, "secret": {"secretName": secret}});
    let mut volumes = vec![
        json!({"name": "sortie-config", "configMap": {"name": wishes.config_map}}),
        json!({"name": "sortie-podinfo", "downwardAPI": {
            "items": [field("labels"), field("annotations")],
        }}),
    ];
    if let Some(name) = &wishes.identity {
        volumes.push(secret("sortie-identity".to_owned(), name));
    }
    let credentials = wishes.credentials.iter().enumerate();
    volumes.extend(credentials.map(|(nth, name)| secret(credential(nth), name)));
    volumes
}

/// Everything that the proxy mounts.
pub(super) fn mounts(wishes: &Wishes) -> Vec<Value> {
    let mount = |name: &str, path: &str| json!({"name": name, "mountPath": path, "readOnly": true});
    let mut mounts = vec![mount("sortie-config", CONFIG), mount("sortie-podinfo", POD)];
    if wishes.identity.is_some() {
        mounts.push(mount("sortie-identity", IDENTITY));
    }
    for (nth, name) in wishes.credentials.iter().enumerate() {
        mounts.push(mount(&credential(nth), &format!("{CREDENTIALS}/{name}")));
    }
    mounts.extend(wishes.user.mounts.iter().cloned());
    mounts
}

fn credential(nth: usize) -> String {
    format!("sortie-credentials-{nth}")
}
