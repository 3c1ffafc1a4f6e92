//! A pod template, looked at: labels, annotations, containers, each with its path.
//!
//! Owns: [`Pod`], and the shape that the rest of this room may rely on.
//! Never: changes anything.
//! Called by: the rest of this room.

use serde_json::{Map, Value};

use super::{Path, Refusal};

/// A mapping of the template.
pub(super) type Fields = Map<String, Value>;

/// Items of one list: more is no pod that Kubernetes could run.
const MAX_ITEMS: usize = 1000;

/// The two lists of containers.
pub(super) const CONTAINERS: [&str; 2] = ["initContainers", "containers"];

/// `{metadata, spec}` whose shape has been looked at.
#[derive(Clone, Copy)]
pub(super) struct Pod<'a> {
    root: &'a Value,
}

/// One container of either list.
#[derive(Clone)]
pub(super) struct Container<'a> {
    pub path: Path,
    pub name: &'a str,
    pub fields: &'a Fields,
}

/// `spec.KEY`.
pub(super) fn spec_path(key: &str) -> Path {
    Path::default().key("spec").key(key)
}

/// `metadata.annotations["KEY"]`.
pub(super) fn annotation_path(key: &str) -> Path {
    Path::default().key("metadata").key("annotations").key(key)
}

impl<'a> Pod<'a> {
    /// Without looking at its shape: what has another is not there.
    pub fn loosely(root: &'a Value) -> Pod<'a> {
        Pod { root }
    }

    /// # Errors
    /// The first part that is not what Kubernetes takes.
    pub fn read(root: &'a Value) -> Result<Pod<'a>, Refusal> {
        let at = Path::default();
        mapping(root, &at)?;
        if let Some(metadata) = field(root, "metadata") {
            let at = at.key("metadata");
            mapping(metadata, &at)?;
            for key in ["labels", "annotations"] {
                texts(metadata, key, &at)?;
            }
        }
        let at = at.key("spec");
        let Some(spec) = field(root, "spec") else {
            return Err(Refusal::new(at, "it is missing", "expected a pod's spec"));
        };
        mapping(spec, &at)?;
        for key in ["initContainers", "containers", "volumes"] {
            named_items(spec, key, &at)?;
        }
        if let Some(context) = field(spec, "securityContext") {
            mapping(context, &at.key("securityContext"))?;
        }
        let pod = Pod { root };
        if pod.containers_of("containers").next().is_none() {
            let at = at.key("containers");
            return Err(Refusal::new(at, "there is none", "a pod has at least one"));
        }
        Ok(pod)
    }

    /// `spec.KEY`, if it is there and not null.
    pub fn spec(self, key: &str) -> Option<&'a Value> {
        field(field(self.root, "spec")?, key)
    }

    /// A label.
    pub fn label(self, key: &str) -> Option<&'a str> {
        self.meta("labels")?.get(key)?.as_str()
    }

    /// An annotation.
    pub fn annotation(self, key: &str) -> Option<&'a str> {
        self.meta("annotations")?.get(key)?.as_str()
    }

    /// `metadata.labels` or `metadata.annotations`.
    pub fn meta(self, key: &str) -> Option<&'a Fields> {
        field(field(self.root, "metadata")?, key)?.as_object()
    }

    /// Init containers, then containers.
    pub fn containers(self) -> impl Iterator<Item = Container<'a>> {
        CONTAINERS
            .into_iter()
            .flat_map(move |list| self.containers_of(list))
    }

    /// Those of one list.
    pub fn containers_of(self, list: &'static str) -> impl Iterator<Item = Container<'a>> {
        let items = self.named(list);
        items.map(move |(nth, name, fields)| Container {
            path: spec_path(list).item(nth),

            name,
            fields,
        })
    }

    /// The pod's volumes: position, name, fields.
    pub fn volumes(self) -> impl Iterator<Item = (usize, &'a str, &'a Fields)> {
        self.named("volumes")
    }

    fn named(self, key: &str) -> impl Iterator<Item = (usize, &'a str, &'a Fields)> {
        let items = self.spec(key).and_then(Value::as_array);
        let items = items.map_or(&[][..], Vec::as_slice).iter().enumerate();
        items.filter_map(|(nth, item)| {
            let fields = item.as_object()?;
            Some((nth, fields.get("name")?.as_str()?, fields))
        })
    }
}

/// `value.key`, if it is there and not null.
pub(super) fn field<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    value.get(key).filter(|value| !value.is_null())
}

/// What a value is, for a message.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

fn mapping<'a>(value: &'a Value, at: &Path) -> Result<&'a Fields, Refusal> {
    value
        .as_object()
        .ok_or_else(|| wrong(at, value, "a mapping"))
}

fn wrong(at: &Path, value: &Value, expected: &str) -> Refusal {
    let problem = format!("it is {}", kind_of(value));
    Refusal::new(at.clone(), problem, format!("expected {expected}"))
}

fn texts(metadata: &Value, key: &str, at: &Path) -> Result<(), Refusal> {
    let Some(value) = field(metadata, key) else {
        return Ok(());
    };
    let at = at.key(key);
    for (key, value) in mapping(value, &at)? {
        if !value.is_string() {
            return Err(wrong(&at.key(key), value, "text: write it in quotes"));
        }
    }
    Ok(())
}

fn named_items(spec: &Value, key: &str, at: &Path) -> Result<(), Refusal> {
    let Some(value) = field(spec, key) else {
        return Ok(());
    };
    let at = at.key(key);
    let items = value
        .as_array()
        .ok_or_else(|| wrong(&at, value, "a list"))?;
    if items.len() > MAX_ITEMS {
        let problem = format!("{} items are more than {MAX_ITEMS}", items.len());
        return Err(Refusal::new(at, problem, "no pod needs as many"));
    }
    let mut names = std::collections::HashSet::new();
    for (nth, item) in items.iter().enumerate() {
        let at = at.item(nth);
        let name = mapping(item, &at)?.get("name").unwrap_or(&Value::Null);
        let at = at.key("name");
        let name = name.as_str().ok_or_else(|| wrong(&at, name, "a name"))?;
        if !names.insert(name) {
            let problem = format!("{name} is the name of another item of {key}");
            return Err(Refusal::new(at, problem, "give each its own"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{annotated, injected, refused};

    #[test]
    fn a_pod_of_another_shape_is_refused_with_the_path() {
        for (key, value, error) in [
            (
                "containers",
                json!({}),
                "spec.containers: it is a mapping; expected a list",
            ),
            (
                "containers",
                json!([]),
                "spec.containers: there is none; a pod has at least one",
            ),
            (
                "containers",
                json!(["a"]),
                "spec.containers[0]: it is text; expected a mapping",
            ),
            (
                "containers",
                json!([{}]),
                "spec.containers[0].name: it is nothing; expected a name",
            ),
            (
                "containers",
                json!([{"name": "a"}, {"name": "a"}]),
                "spec.containers[1].name: a is the name of another item of containers; give each its own",
            ),
            (
                "volumes",
                json!([1]),
                "spec.volumes[0]: it is a number; expected a mapping",
            ),
            (
                "securityContext",
                json!([]),
                "spec.securityContext: it is a list; expected a mapping",
            ),
        ] {
            let mut pod = annotated(&[]);
            pod["spec"][key] = value;
            assert_eq!(refused(&pod).to_string(), error);
        }
        let mut pod = annotated(&[]);
        pod["metadata"]["annotations"]["a"] = json!(1);
        let error = "metadata.annotations.a: it is a number; expected text: write it in quotes";
        assert_eq!(refused(&pod).to_string(), error);
        assert_eq!(
            refused(&json!([])).to_string(),
            "the pod: it is a list; expected a mapping"
        );
        let error = "spec: it is missing; expected a pod's spec";
        assert_eq!(refused(&json!({"metadata": null})).to_string(), error);
    }

    #[test]
    fn a_pod_without_metadata_or_with_empty_parts_is_a_pod() {
        let spec = json!({"containers": [{"name": "a"}], "volumes": null, "initContainers": []});
        let pod = injected(&json!({"spec": spec}));
        assert_eq!(
            pod["metadata"]["labels"]["service.istio.io/canonical-name"],
            "curl"
        );
        injected(&json!({"metadata": null, "spec": {"containers": [{"name": "a"}]}}));
        injected(&json!({"metadata": {"labels": null}, "spec": {"containers": [{"name": "a"}]}}));
    }
}
