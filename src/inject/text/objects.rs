//! Which objects a document holds, and where each has its pod.
//!
//! Owns: the kinds with a pod template, and the path to it.
//! Never: looks into a pod.
//! Called by: manifest.
//!
//! Why group and kind, and no version: `extensions/v1beta1` had a Deployment with the same template
//!, and whoever still has one wants it injected.

use serde_json::Value;

use crate::config::Code;

use super::super::op::Path;
use super::super::pod::kind_of;

/// Lists in lists that are entered.
const DEEPEST: usize = 8;

/// Kind, group, keys from the object to the template. A `Pod` is a template itself.
const TEMPLATES: &[(&str, &str, &[&str])] = &[
    ("Pod", "", &[]),
    ("PodTemplate", "", &["template"]),
    ("ReplicationController", "", TEMPLATE),
    ("Deployment", "apps", TEMPLATE),
    ("Deployment", "extensions", TEMPLATE),
    ("StatefulSet", "apps", TEMPLATE),
    ("DaemonSet", "apps", TEMPLATE),
    ("DaemonSet", "extensions", TEMPLATE),
    ("ReplicaSet", "apps", TEMPLATE),
    ("ReplicaSet", "extensions", TEMPLATE),
    ("Job", "batch", TEMPLATE),
    (
        "CronJob",
        "batch",
        &["spec", "jobTemplate", "spec", "template"],
    ),
    ("DeploymentConfig", "apps.openshift.io", TEMPLATE),
    ("DeploymentConfig", "", TEMPLATE),
    ("Rollout", "argoproj.io", TEMPLATE),
];

const TEMPLATE: &[&str] = &["spec", "template"];

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    /// Where it is in its document.
    pub at: Path,
    pub kind: String,
    /// Or the beginning of a generated one, with `*`.
    pub name: String,
    /// Empty where it says none.
    pub namespace: String,
    /// Where its pod template is, from the document's root.
    pub template: Option<Path>,
}

/// What keeps a document from being a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub path: Path,
    pub code: Code,
    pub problem: String,
    pub advice: &'static str,
}

/// The objects of a document, lists entered, and all that is wrong with them.
pub(super) fn objects(document: &Value) -> (Vec<Object>, Vec<Wrong>) {
    let mut found = Found {
        objects: Vec::new(),
        wrong: Vec::new(),
    };
    found.enter(document, &Path::default(), None, 0);
    (found.objects, found.wrong)
}

struct Found {
    objects: Vec<Object>,
    wrong: Vec<Wrong>,
}

impl Found {
    /// `of`: kind and apiVersion of the list that this is in, for items that do not say theirs.
    fn enter(&mut self, value: &Value, at: &Path, of: Option<(&str, &str)>, depth: usize) {
        let Value::Object(fields) = value else {
            let problem = format!("{} stands here, and an object is expected", kind_of(value));
            let advice = "write one object with apiVersion, kind and metadata, or a List of them";
            self.wrong(at, Code::WrongKind, problem, advice);
            return;
        };
        let kind = self.word(value, at, "kind", of.map(|(kind, _)| kind));
        let version = self.word(value, at, "apiVersion", of.map(|(_, version)| version));
        let (Some(kind), Some(version)) = (kind, version) else {
            return;
        };
        match (kind.strip_suffix("List"), fields.get("items")) {
            (Some(item), Some(Value::Array(items))) => {
                let of = (!item.is_empty()).then_some((item, version));
                if depth >= DEEPEST {
                    let problem = format!("lists are nested more than {DEEPEST} deep");
                    self.wrong(at, Code::TooComplex, problem, "write the objects flatter");
                    return;
                }
                for (nth, item) in items.iter().enumerate() {
                    self.enter(item, &at.key("items").item(nth), of, depth + 1);
                }
            }
            (Some(_), Some(Value::Null)) => {}
            (Some(_), Some(items)) => {
                let problem = format!("{} stands here, and a list is expected", kind_of(items));
                self.wrong(
                    &at.key("items"),
                    Code::WrongKind,
                    problem,
                    "write a list of objects",
                );
            }
            _ => self.object(value, at, kind, version),
        }
    }

    fn object(&mut self, value: &Value, at: &Path, kind: &str, version: &str) {
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let known = TEMPLATES.iter().find(|(k, g, _)| *k == kind && *g == group);
        let template = known.and_then(|(.., keys)| self.template(value, at, kind, keys));
        let meta = |key: &str| {
            let text = value.get("metadata").and_then(|meta| meta.get(key));
            text.and_then(Value::as_str).unwrap_or_default()
        };
        let name = match (meta("name"), meta("generateName")) {
            ("", "") => String::new(),
            ("", generated) => format!("{generated}*"),
            (name, _) => name.to_owned(),
        };
        self.objects.push(Object {
            at: at.clone(),
            kind: kind.to_owned(),
            name,
            namespace: meta("namespace").to_owned(),
            template,
        });
    }

    /// Where the template is; none where the object has none, which may be wrong.
    fn template(&mut self, value: &Value, at: &Path, kind: &str, keys: &[&str]) -> Option<Path> {
        let mut place = at.clone();
        let mut here = Some(value);
        for key in keys {
            place = place.key(key);
            here = here.and_then(|value| value.get(key));
        }
        let whole = here.is_some_and(Value::is_object);
        // Argo's Rollout may name a Deployment in place of a template.
        let named = value
            .get("spec")
            .is_some_and(|spec| spec.get("workloadRef").is_some());
        if !whole && kind == "Rollout" && named {
            return None;
        }
        if !whole {
            let problem = match here {
                None => format!("the {kind} has no pod template here"),
                Some(value) => format!(
                    "{} stands here, and a pod template is expected",
                    kind_of(value)
                ),
            };
            let code = if here.is_none() {
                Code::MissingKey
            } else {
                Code::WrongKind
            };
            self.wrong(
                &place,
                code,
                problem,
                "write a mapping with metadata and spec",
            );
            return None;
        }
        let spec = here.and_then(|template| template.get("spec"));
        if !spec.is_some_and(Value::is_object) {
            let problem = match spec {
                None => "the pod has no spec".to_owned(),
                Some(value) => format!(
                    "{} stands here, and a pod's spec is expected",
                    kind_of(value)
                ),
            };
            let code = if spec.is_none() {
                Code::MissingKey
            } else {
                Code::WrongKind
            };
            self.wrong(
                &place.key("spec"),
                code,
                problem,
                "write a mapping with containers",
            );
            return None;
        }
        Some(place)
    }

    fn word<'v>(
        &mut self,
        value: &'v Value,
        at: &Path,
        key: &'static str,
        otherwise: Option<&'v str>,
    ) -> Option<&'v str> {
        let (code, problem) = match (value.get(key), otherwise) {
            (Some(Value::String(text)), _) if !text.is_empty() => return Some(text),
            (None, Some(text)) => return Some(text),
            (None, None) => (Code::MissingKey, format!("there is no {key}")),
            (Some(value), _) => (
                Code::WrongKind,
                format!("{} stands here, and a word is expected", kind_of(value)),
            ),
        };
        let advice = "every object of Kubernetes has apiVersion and kind, as apiVersion: apps/v1 \
                      and kind: Deployment";
        self.wrong(&at.key(key), code, problem, advice);
        None
    }

    fn wrong(&mut self, path: &Path, code: Code, problem: String, advice: &'static str) {
        self.wrong.push(Wrong {
            path: path.clone(),
            code,
            problem,
            advice,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Value {
        json!({"metadata": {}, "spec": {"containers": []}})
    }

    fn templates(document: &Value) -> Vec<String> {
        let (objects, wrong) = objects(document);
        assert_eq!(wrong, []);
        let path = |one: Object| one.template.map_or("-".to_owned(), |path| path.to_string());
        objects.into_iter().map(path).collect()
    }

    #[test]
    fn every_kind_with_a_pod_is_known_in_every_version() {
        for (version, kind, path) in [
            ("v1", "ReplicationController", "spec.template"),
            ("apps/v1", "Deployment", "spec.template"),
            ("extensions/v1beta1", "Deployment", "spec.template"),
            ("apps/v1beta2", "StatefulSet", "spec.template"),
            ("apps/v1", "DaemonSet", "spec.template"),
            ("apps/v1", "ReplicaSet", "spec.template"),
            ("batch/v1", "Job", "spec.template"),
            ("apps.openshift.io/v1", "DeploymentConfig", "spec.template"),
            ("argoproj.io/v1alpha1", "Rollout", "spec.template"),
        ] {
            let object = json!({"apiVersion": version, "kind": kind, "spec": {"template": pod()}});
            assert_eq!(templates(&object), [path], "{kind}");
        }
        let cron = json!({"apiVersion": "batch/v1beta1", "kind": "CronJob", "spec":
            {"jobTemplate": {"spec": {"template": pod()}}}});
        assert_eq!(templates(&cron), ["spec.jobTemplate.spec.template"]);
        let mut single = pod();
        single["apiVersion"] = json!("v1");
        single["kind"] = json!("Pod");
        assert_eq!(templates(&single), [""]);
    }

    #[test]
    fn what_has_no_pod_is_no_mistake() {
        for object in [
            json!({"apiVersion": "v1", "kind": "Service", "spec": {"template": 5}}),
            json!({"apiVersion": "example.com/v1", "kind": "Deployment", "spec": {}}),
            json!({"apiVersion": "argoproj.io/v1", "kind": "Rollout",
                   "spec": {"workloadRef": {"name": "a"}}}),
        ] {
            assert_eq!(templates(&object), ["-"]);
        }
        let empty = json!({"apiVersion": "v1", "kind": "List", "items": null});
        assert!(templates(&empty).is_empty());
    }

    #[test]
    fn lists_are_entered_and_their_items_may_have_the_kind_of_the_list() {
        let document = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "ConfigMap"},
            {"apiVersion": "v1", "kind": "PodList", "items": [pod()]}]});
        assert_eq!(templates(&document), ["-", "items[1].items[0]"]);
    }

    fn wrong(document: &Value) -> Vec<String> {
        let wrong = objects(document).1.into_iter();
        wrong
            .map(|one| format!("{} {}: {}", one.code, one.path, one.problem))
            .collect()
    }

    #[test]
    fn what_is_no_object_is_named_with_its_path() {
        assert_eq!(
            wrong(&json!({"kind": "Pod"})),
            ["SRT0102 apiVersion: there is no apiVersion"]
        );
        assert_eq!(
            wrong(&json!([1])),
            ["SRT0103 : a list stands here, and an object is expected"]
        );
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [{"kind": 5}]});
        assert_eq!(
            wrong(&list),
            [
                "SRT0103 items[0].kind: a number stands here, and a word is expected",
                "SRT0102 items[0].apiVersion: there is no apiVersion"
            ]
        );
    }

    #[test]
    fn a_workload_without_its_pod_is_named_with_its_path() {
        let job = |spec| json!({"apiVersion": "batch/v1", "kind": "Job", "spec": spec});
        assert_eq!(
            wrong(&job(json!({}))),
            ["SRT0102 spec.template: the Job has no pod template here"]
        );
        assert_eq!(
            wrong(&job(json!({"template": [pod()]}))),
            ["SRT0103 spec.template: a list stands here, and a pod template is expected"]
        );
        assert_eq!(
            wrong(&job(json!({"template": {"metadata": {}}}))),
            ["SRT0102 spec.template.spec: the pod has no spec"]
        );
    }
}
