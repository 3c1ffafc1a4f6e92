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
                    None if key == "volumeMounts" => {
                        let mut tokens = Value::Array(Vec::new());
                        carry(value, &mut tokens);
                        if tokens.as_array().is_some_and(|tokens| !tokens.is_empty()) {
                            becomes.insert(key.clone(), tokens);
                        }
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

#[cfg(test)]
mod tests {
    use super::super::testing::{
        annotated, at, container, injected, names, planned, refused, settings,
    };
    use super::super::testing::{applied, owner, with_app};
    use super::super::{LeftAlone, Outcome, plan};
    use super::*;

    fn same() -> Result<Outcome, Refusal> {
        Ok(Outcome::LeftAlone(LeftAlone::Same))
    }

    /// The pod without its sidecar.
    fn without(pod: &Value) -> Value {
        stripped(pod).unwrap().original
    }

    #[test]
    fn i2_the_status_says_what_was_put_in_and_by_which_version() {
        let pod = injected(&annotated(&[("sidecar.istio.io/nativeSidecar", "true")]));
        let text = pod["metadata"]["annotations"][STATUS].as_str().unwrap();
        let status: Value = serde_json::from_str(text).unwrap();
        assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(
            status["initContainers"],
            json!(["sortie-init", "sortie-proxy"])
        );
        assert!(status.get("containers").is_none());
        assert_eq!(
            status["volumes"],
            json!(["sortie-config", "sortie-podinfo"])
        );
    }

    #[test]
    fn without_its_sidecar_a_pod_is_what_it_was() {
        let mut pod = with_app(json!({
            "livenessProbe": {"httpGet": {"path": "/$$x", "port": 80}},
            "lifecycle": {"preStop": {"httpGet": {"path": "/", "port": 80}}},
        }));
        let annotations = &mut pod["metadata"]["annotations"];
        annotations["sidecar.istio.io/userVolume"] = json!(r#"{"v":{"emptyDir":{}}}"#);
        annotations["sidecar.istio.io/interceptionMode"] = json!("TPROXY");
        assert_eq!(without(&injected(&pod)), pod);
        pod["metadata"]["annotations"]["sidecar.istio.io/interceptionMode"] = json!("NONE");
        assert_eq!(without(&injected(&pod)), pod);
        assert_eq!(without(&pod), pod, "it has none");
    }

    #[test]
    fn an_older_sidecar_is_replaced_where_it_stands() {
        let pod = injected(&annotated(&[]));
        let mut old = pod.clone();
        let status = json!(
            r#"{"version":"0.0.1","initContainers":["sortie-init"],
            "containers":["sortie-proxy"],"volumes":["sortie-config","sortie-podinfo","sortie-old"]}"#
        );
        old["metadata"]["annotations"][STATUS] = status;
        old["spec"]["volumes"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "sortie-old", "emptyDir": {}}));
        let proxy = &mut old["spec"]["containers"][1];
        proxy["image"] = json!("sortie:0.0.1");
        proxy["env"] = json!([{"name": "OLD", "value": "1"}]);
        let mounts = proxy["volumeMounts"].as_array_mut().unwrap();
        mounts.push(json!({"name": "sortie-old", "mountPath": "/old"}));
        // What 0.0.1 did not list is the user's from now on, and stays.
        let ops = planned(&settings(), &old).ops;
        let new = applied(&old, &ops);
        assert_eq!(new["spec"], pod["spec"]);
        let whole = |op: &super::super::Op| op_at(op).to_string().ends_with("containers[1]");
        assert!(!ops.iter().any(whole), "changed in place: {ops:?}");
        assert_eq!(plan(&settings(), &owner(), &new), same());
    }

    fn op_at(op: &super::super::Op) -> super::super::Path {
        match op {
            super::super::Op::Put { at, .. } | super::super::Op::Remove { at } => at.clone(),
            super::super::Op::Insert { list, index, .. } => list.item(*index),
        }
    }

    #[test]
    fn what_the_user_changes_in_an_injected_file_counts() {
        let mut pod = injected(&with_app(
            json!({"livenessProbe": {"tcpSocket": {"port": 80}}}),
        ));
        pod["spec"]["containers"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "late"}));
        pod["spec"]["containers"][0]["livenessProbe"] = json!({"tcpSocket": {"port": 81}});
        pod["metadata"]["annotations"]["sidecar.istio.io/nativeSidecar"] = json!("true");
        let pod = injected(&pod);
        assert_eq!(names(&pod, "containers"), ["app", "late"]);
        assert_eq!(
            names(&pod, "initContainers"),
            ["sortie-init", "sortie-proxy"]
        );
        let env = container(&pod, "sortie-proxy")["env"].to_string();
        assert!(env.contains(r#"\"port\":81"#), "{env}");
    }

    #[test]
    fn what_an_api_server_fills_in_is_no_change() {
        let volume = (
            "sidecar.istio.io/userVolume",
            r#"{"v":{"secret":{"secretName":"s"}}}"#,
        );
        let mut pod = injected(&annotated(&[volume]));
        let token = json!({"name": "kube-api-access-x", "mountPath": TOKEN, "readOnly": true});
        for (list, nth) in [("containers", 0), ("containers", 1), ("initContainers", 0)] {
            let one = &mut pod["spec"][list][nth];
            one["terminationMessagePath"] = json!("/dev/termination-log");
            one["terminationMessagePolicy"] = json!("File");
            one["imagePullPolicy"] = json!("IfNotPresent");
            match one["volumeMounts"].as_array_mut() {
                Some(mounts) => mounts.push(token.clone()),
                None => one["volumeMounts"] = json!([token]),
            }
        }
        let proxy = &mut pod["spec"]["containers"][1];
        proxy["readinessProbe"]["successThreshold"] = json!(1);
        proxy["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] = json!("v1");
        let volumes = pod["spec"]["volumes"].as_array_mut().unwrap();
        volumes[0]["configMap"]["defaultMode"] = json!(420);
        volumes[1]["downwardAPI"]["items"][0]["fieldRef"]["apiVersion"] = json!("v1");
        volumes[2]["secret"]["defaultMode"] = json!(420);
        volumes.push(json!({"name": "kube-api-access-x", "projected": {"sources": []}}));
        assert_eq!(plan(&settings(), &owner(), &pod), same());
        pod["spec"]["containers"][1]["securityContext"]["privileged"] = json!(true);
        assert!(!planned(&settings(), &pod).ops.is_empty(), "that is one");
    }

    #[test]
    fn a_status_that_names_what_is_not_sorties_takes_nothing_away() {
        let mut pod = annotated(&[("a", "b")]);
        pod["spec"]["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/d"}]);
        let forged = json!({
            "version": "9", "containers": ["app"], "volumes": ["data"], "labels": ["app"],
            "annotations": ["sidecar.istio.io/inject"],
        });
        let mut claimed = pod.clone();
        claimed["metadata"]["annotations"][STATUS] = json!(forged.to_string());
        assert_eq!(without(&claimed), pod);
        assert!(
            !planned(&settings(), &claimed).ops.is_empty(),
            "nor is it taken for injected"
        );
    }

    #[test]
    fn a_status_that_is_not_sorties_is_refused() {
        for text in ["", "injected", "[]", r#"{"volumes":"all"}"#] {
            let error = refused(&annotated(&[(STATUS, text)]));
            assert_eq!(error.path, at(STATUS));
            assert_eq!(error.problem, "this is not what sortie has written");
        }
    }
}
