//! `sortie/status`: what was put into a pod, and the pod without it.
//!
//! Owns: the annotation's shape; which of a pod's parts are ours; what Kubernetes has added to them.
//! Never: trusts the annotation with what is not sortie's: it names labels and annotations of a
//! fixed list, and volumes that nobody else mounts.
//! Called by: plan.
//!
//! Why: a pod with a sidecar is planned as the pod without it. So twice is once, an older sidecar is
//! replaced, and what the user has changed since counts.

use serde_json::{Map, Value, json};

use super::containers::{APP_PROBES, INIT, PROXY};
use super::identity::{ANNOTATIONS, LABELS};
use super::pod::{CONTAINERS, Fields, Pod, annotation_path};
use super::{Refusal, mounts, probes};

/// The annotation.
pub(super) const STATUS: &str = "sortie/status";
/// What was done for a listener on a low port where nothing is captured.
pub(super) const SYSCTL: &str = "net.ipv4.ip_unprivileged_port_start";
/// Bytes of the annotation: it names some dozens of things.
const LONGEST: usize = 64 * 1024;

/// What was put in, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Put {
    pub init_containers: Vec<String>,
    pub containers: Vec<String>,
    pub volumes: Vec<String>,
    pub labels: Vec<String>,
    pub annotations: Vec<String>,
    pub sysctls: Vec<String>,
}

impl Put {
    /// As the annotation says it; what is empty is left out.
    pub fn to_text(&self) -> String {
        let mut fields = Map::new();
        fields.insert("version".to_owned(), json!(env!("CARGO_PKG_VERSION")));
        let lists = [
            ("initContainers", &self.init_containers),
            ("containers", &self.containers),
            ("volumes", &self.volumes),
            ("labels", &self.labels),
            ("annotations", &self.annotations),
            ("sysctls", &self.sysctls),
        ];
        for (key, names) in lists.into_iter().filter(|(_, names)| !names.is_empty()) {
            fields.insert(key.to_owned(), json!(names));
        }
        Value::from(fields).to_string()
    }

    fn read(pod: Pod<'_>) -> Result<Option<Put>, Refusal> {
        let Some(text) = pod.annotation(STATUS) else {
            return Ok(None);
        };
        let fields = match text.len() <= LONGEST {
            true => serde_json::from_str::<Fields>(text).ok(),
            false => None,
        };
        let read = fields.and_then(|fields| {
            let names = |key: &str| match fields.get(key) {
                Some(value) => serde_json::from_value::<Vec<String>>(value.clone()).ok(),
                None => Some(Vec::new()),
            };
            Some(Put {
                init_containers: names("initContainers")?,
                containers: names("containers")?,
                volumes: names("volumes")?,
                labels: names("labels")?,
                annotations: names("annotations")?,
                sysctls: names("sysctls")?,
            })
        });
        read.map(Some).ok_or_else(|| {
            let problem = "this is not what sortie has written";
            let advice = "take the annotation away, with the containers sortie-init and \
                          sortie-proxy and their volumes; sortie puts them in again";
            Refusal::new(annotation_path(STATUS), problem, advice)
        })
    }
}

/// The pod as it was, and what was taken away, by list and name.
pub(super) struct Stripped {
    pub original: Value,
    pub taken: Vec<(&'static str, Value)>,
}

/// The pod without its sidecar; without `sortie/status` it is the pod as it is.
///
/// # Errors
/// The annotation is not one of ours.
pub(super) fn stripped(template: &Value) -> Result<Stripped, Refusal> {
    let pod = Pod::loosely(template);
    let (mut original, mut taken) = (template.clone(), Vec::new());
    let Some(put) = Put::read(pod)? else {
        return Ok(Stripped { original, taken });
    };
    probes::restore(&mut original, &told(pod));
    for list in CONTAINERS {
        let ours = |item: &Value| matches!(name(item), Some(INIT | PROXY));
        take(&mut original, list, ours, &mut taken);
    }
    let mounted = mounted(&original);
    let ours = |item: &Value| {
        name(item).is_some_and(|name| {
            let listed = put.volumes.iter().any(|volume| volume == name);
            name.starts_with(mounts::PREFIX) || (listed && !mounted.iter().any(|one| one == name))
        })
    };
    take(&mut original, "volumes", ours, &mut taken);
    forget(&mut original, "labels", &put.labels, &LABELS);
    forget(&mut original, "annotations", &put.annotations, &ANNOTATIONS);
    forget(
        &mut original,
        "annotations",
        &[STATUS.to_owned()],
        &[STATUS],
    );
    close_ports(&mut original, &put);
    Ok(Stripped { original, taken })
}

/// What the proxy that is in it knows of the application's probes.
fn told(pod: Pod<'_>) -> probes::Originals {
    let proxy = pod.containers().find(|one| one.name == PROXY);
    let env = proxy.and_then(|proxy| proxy.fields.get("env")?.as_array());
    let variable = env.and_then(|env| env.iter().find(|one| name(one) == Some(APP_PROBES)));
    let text = variable.and_then(|variable| variable.get("value")?.as_str());
    let text = text.map(|text| text.replace("$$", "$"));
    text.and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default()
}

fn take(
    pod: &mut Value,
    list: &'static str,
    ours: impl Fn(&Value) -> bool,
    taken: &mut Vec<(&'static str, Value)>,
) {
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let Some(items) = spec.get_mut(list).and_then(Value::as_array_mut) else {
        return;
    };
    let before = items.len();
    let all = std::mem::take(items).into_iter();
    let (gone, kept): (Vec<Value>, Vec<Value>) = all.partition(|item| ours(item));
    *items = kept;
    if items.is_empty() && before > 0 {
        spec.shift_remove(list);
    }
    taken.extend(gone.into_iter().map(|item| (list, item)));
}

/// Names of the volumes that remaining containers mount.
fn mounted(pod: &Value) -> Vec<String> {
    let pod = Pod::loosely(pod);
    let mounts = pod.containers().filter_map(|one| {
        let mounts = one.fields.get("volumeMounts")?.as_array()?;
        Some(mounts.iter().filter_map(name).map(str::to_owned))
    });
    mounts.flatten().collect()
}

fn forget(pod: &mut Value, kind: &str, keys: &[String], allowed: &[&str]) {
    let Some(metadata) = pod.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    let Some(pairs) = metadata.get_mut(kind).and_then(Value::as_object_mut) else {
        return;
    };
    let before = pairs.len();
    pairs.retain(|key, _| !(keys.contains(key) && allowed.contains(&key.as_str())));
    if pairs.is_empty() && before > 0 {
        metadata.shift_remove(kind);
    }
}

fn close_ports(pod: &mut Value, put: &Put) {
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let Some(context) = spec
        .get_mut("securityContext")
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    let Some(sysctls) = context.get_mut("sysctls").and_then(Value::as_array_mut) else {
        return;
    };
    if !put.sysctls.iter().any(|sysctl| sysctl == SYSCTL) {
        return;
    }
    sysctls.retain(|sysctl| name(sysctl) != Some(SYSCTL));
    if sysctls.is_empty() {
        context.shift_remove("sysctls");
        if context.is_empty() {
            spec.shift_remove("securityContext");
        }
    }
}

fn name(item: &Value) -> Option<&str> {
    item.get("name")?.as_str()
}

/// Fields that an API server fills in, where their container or volume does not say them.
const FILLED_IN: [&str; 6] = [
    "apiVersion",
    "defaultMode",
    "imagePullPolicy",
    "successThreshold",
    "terminationMessagePath",
    "terminationMessagePolicy",
];
/// Where an API server mounts the service account's token into every container.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// What Kubernetes has added to a sidecar that is in a pod stays with the one in its place: else a
/// pod that the API server gives back would be planned again and again.
pub(super) fn carry(was: &Value, becomes: &mut Value) {
    match (was, becomes) {
        (Value::Object(was), Value::Object(becomes)) => {
            for (key, value) in was {
                match becomes.get_mut(key) {
                    Some(becomes) => carry(value, becomes),
                    None if FILLED_IN.contains(&key.as_str()) => {
                        becomes.insert(key.clone(), value.clone());
                    }
                    None => {}
                }
            }
        }
        (Value::Array(was), Value::Array(becomes)) => {
            for item in was {
                let same = becomes.iter_mut().find(|one| alike(one, item));
                match same {
                    Some(same) => carry(item, same),
                    None if item.get("mountPath").and_then(Value::as_str) == Some(TOKEN) => {
                        becomes.push(item.clone());
                    }
                    None => {}
                }
            }
        }
        _ => {}
    }
}

/// Items of one name, or of one path in a downward volume.
fn alike(one: &Value, other: &Value) -> bool {
    let key = |item: &Value, key: &str| item.get(key).and_then(Value::as_str).map(str::to_owned);
    let keys = ["mountPath", "name", "path"];
    let first = keys.iter().find(|name| key(one, name).is_some());
    first.is_some_and(|name| key(one, name) == key(other, name))
}
