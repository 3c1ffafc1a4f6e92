//! Pieces that every manifest of ours shares: names, rights, probes, budgets.
//!
//! Owns: what "least privilege" means in a pod.
//! Never: knows a gateway from an injector.
//! Called by: the documents of this room.

use serde_json::{Map, Value, json};

use super::gateway_settings::Workload;

/// The status port: probes and metrics, nothing that changes state.
pub const STATUS: u16 = 15021;
/// The namespace that is nobody else's.
const OWN_NAMESPACE: &str = "sortie-system";

/// One object's name, namespace and labels.
pub fn metadata(workload: &Workload, namespace: &str) -> Value {
    json!({
        "name": workload.name,
        "namespace": namespace,
        "labels": labels(workload),
    })
}

/// By what our objects are found.
pub fn labels(workload: &Workload) -> Value {
    json!({
        "app.kubernetes.io/name": "sortie",
        "app.kubernetes.io/instance": workload.name,
        "app.kubernetes.io/version": env!("CARGO_PKG_VERSION"),
        "app.kubernetes.io/managed-by": "sortie-install",
    })
}

/// Where Prometheus finds its metrics, and what else somebody asked for.
pub fn annotations(workload: &Workload, metrics: &str) -> Value {
    let mut all = Map::new();
    all.insert("prometheus.io/scrape".to_owned(), json!("true"));
    all.insert("prometheus.io/port".to_owned(), json!(STATUS.to_string()));
    all.insert("prometheus.io/path".to_owned(), json!(metrics));
    let asked = workload.pod_annotations.iter();
    all.extend(asked.map(|(key, value)| (key.clone(), json!(value))));
    Value::Object(all)
}

/// The labels that never change: selectors cannot be changed once they are applied.
pub fn selector(workload: &Workload) -> Value {
    json!({ "app.kubernetes.io/instance": workload.name })
}

/// The namespace, where it is asked for.
pub fn namespace(workload: &Workload, name: &str) -> Option<Value> {
    let ours = workload.create_namespace.unwrap_or(name == OWN_NAMESPACE);
    ours.then(|| {
        json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": name,
                "labels": {
                    "#": "What follows satisfies the strictest Pod Security Standard.",
                    "pod-security.kubernetes.io/enforce": "restricted",
                },
            },
        })
    })
}

/// An account without any right.
pub fn service_account(workload: &Workload, namespace: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(workload, namespace),
        "#": "sortie asks no API server for anything: there is no Role, and no token in the pod.",
        "automountServiceAccountToken": false,
    })
}

/// Of the pod.
pub fn pod_security(workload: &Workload) -> Value {
    let user = workload.user;
    json!({
        "runAsNonRoot": true,
        "runAsUser": user,
        "runAsGroup": user,
        "#": "So that this user may read mounted Secrets, which are mode 0440.",
        "fsGroup": user,
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

/// Of the container.
pub fn container_security() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "privileged": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    })
}

/// Startup, readiness and liveness, on the status port.
pub fn probes(container: &mut Map<String, Value>) {
    let ask = |path: &str| json!({"path": path, "port": "status"});
    let probes = json!({
        "startupProbe": {
            "httpGet": ask("/healthz/ready"),
            "periodSeconds": 1,
            "timeoutSeconds": 3,
            "failureThreshold": 120,
        },
        "readinessProbe": {
            "httpGet": ask("/healthz/ready"),
            "periodSeconds": 5,
            "timeoutSeconds": 3,
            "failureThreshold": 2,
        },
        "livenessProbe": {
            "httpGet": ask("/livez"),
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
    });
    if let Value::Object(probes) = probes {
        container.extend(probes);
    }
}

/// Requests, and limits where there are any.
pub fn resources(workload: &Workload) -> Value {
    let of = |pair: &[Option<String>; 2]| -> Map<String, Value> {
        let named = ["cpu", "memory"].into_iter().zip(pair);
        let there =
            named.filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?))));
        there.collect()
    };
    let both = [
        ("requests", of(&workload.requests)),
        ("limits", of(&workload.limits)),
    ];
    let there = both.into_iter().filter(|(_, map)| !map.is_empty());
    let there = there.map(|(name, map)| (name.to_owned(), Value::Object(map)));
    Value::Object(there.collect())
}

/// Pods on different nodes and in different zones, where there are several.
pub fn spread(workload: &Workload) -> Value {
    let over = |topology: &str| {
        json!({
            "maxSkew": 1,
            "topologyKey": topology,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": selector(workload)},
        })
    };
    json!([
        over("kubernetes.io/hostname"),
        over("topology.kubernetes.io/zone")
    ])
}

/// What a pod has besides containers and volumes.
pub fn pod(workload: &Workload) -> Map<String, Value> {
    let mut spec = Map::new();
    let mut put = |key: &str, value: Value| spec.insert(key.to_owned(), value);
    put("serviceAccountName", json!(workload.name));
    put("automountServiceAccountToken", json!(false));
    put(
        "#links",
        json!("Variables that Kubernetes makes of Services' names could look like flags."),
    );
    put("enableServiceLinks", json!(false));
    put("securityContext", pod_security(workload));
    if !workload.pull_secrets.is_empty() {
        let named = |name: &String| json!({ "name": name });
        put(
            "imagePullSecrets",
            workload.pull_secrets.iter().map(named).collect(),
        );
    }
    if let Some(class) = &workload.priority_class {
        put("priorityClassName", json!(class));
    }
    if !workload.node_selector.is_empty() {
        put("nodeSelector", json!(workload.node_selector));
    }
    put("topologySpreadConstraints", spread(workload));
    spec
}

/// How many pods may be taken away at once by those who mean well.
pub fn disruption_budget(workload: &Workload, namespace: &str) -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(workload, namespace),
        "spec": {
            "maxUnavailable": workload.max_unavailable,
            "selector": {"matchLabels": selector(workload)},
        },
    })
}

/// An environment variable with the value of a field of the pod.
pub fn field(name: &str, path: &str) -> Value {
    json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}})
}

/// A volume of a Secret.
pub fn secret(volume: &str, name: &str, items: Option<Value>, optional: bool) -> Value {
    let mut source = json!({ "secretName": name, "#": "0440", "defaultMode": 0o440 });
    if let Value::Object(source) = &mut source {
        if let Some(items) = items {
            source.insert("items".to_owned(), items);
        }
        if optional {
            let why = "Until it is there, what needs it answers 503; it is read without a restart.";
            source.insert("#optional".to_owned(), json!(why));
            source.insert("optional".to_owned(), json!(true));
        }
    }
    json!({"name": volume, "secret": source})
}

/// Where a volume is to be seen.
pub fn mount(volume: &str, path: &str) -> Value {
    json!({"name": volume, "mountPath": path, "readOnly": true})
}
