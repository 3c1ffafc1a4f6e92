//! Whole pods: what comes out, once and twice.

use serde_json::{Value, json};

use super::*;

/// The pod of seed 000: a client certificate for the proxy alone.
fn curl() -> Value {
    json!({
        "metadata": {
            "labels": {"app": "curl"},
            "annotations": {
                "sidecar.istio.io/userVolume":
                    r#"[{"name":"client-certs", "secret":{"secretName":"nginx-mtls-external"}}]"#,
                "sidecar.istio.io/userVolumeMount":
                    r#"[{"name":"client-certs", "mountPath":"/etc/certs", "readonly":true}]"#,
            },
        },
        "spec": {"containers": [
            {"name": "curl", "image": "curlimages/curl", "command": ["tail"], "args": ["-f", "/dev/null"]},
        ]},
    })
}

fn owner() -> Owner {
    Owner {
        kind: "Deployment".to_owned(),
        name: "curl".to_owned(),
        namespace: "shop".to_owned(),
        ..Owner::default()
    }
}

fn settings() -> Settings {
    Settings {
        image: "sortie:test".to_owned(),
        ..Settings::default()
    }
}

fn planned(settings: &Settings, pod: &Value) -> Plan {
    match plan(settings, &owner(), pod) {
        Ok(Outcome::Inject(plan)) => plan,
        other => panic!("{other:?}"),
    }
}

fn injected(settings: &Settings, pod: &Value) -> Value {
    let mut pod = pod.clone();
    for op in planned(settings, &pod).ops {
        op.apply(&mut pod).unwrap();
    }
    assert_eq!(
        plan(settings, &owner(), &pod),
        Ok(Outcome::LeftAlone(LeftAlone::Same)),
        "twice is once"
    );
    pod
}

#[test]
fn i4_a_pod_of_one_container_gets_capture_proxy_and_volumes() {
    let pod = injected(&settings(), &curl());
    let limits = json!({
        "requests": {"cpu": "100m", "memory": "128Mi"},
        "limits": {"cpu": "2", "memory": "1Gi"},
    });
    let of_pod = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let mount = |name: &str, path: &str| json!({"name": name, "mountPath": path, "readOnly": true});
    let ready = json!({"path": "/healthz/ready", "port": 15021, "scheme": "HTTP"});
    let status = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "initContainers": ["sortie-init"],
        "containers": ["sortie-proxy"],
        "volumes": ["sortie-config", "sortie-podinfo", "client-certs"],
        "labels": ["security.istio.io/tlsMode", "service.istio.io/canonical-name", "service.istio.io/canonical-revision"],
        "annotations": ["kubectl.kubernetes.io/default-container", "prometheus.io/scrape", "prometheus.io/port", "prometheus.io/path"],
    });
    let mut expected = curl();
    expected["metadata"]["labels"] = json!({
        "app": "curl",
        "security.istio.io/tlsMode": "istio",
        "service.istio.io/canonical-name": "curl",
        "service.istio.io/canonical-revision": "latest",
    });
    for (key, value) in [
        ("kubectl.kubernetes.io/default-container", "curl"),
        ("prometheus.io/scrape", "true"),
        ("prometheus.io/port", "15020"),
        ("prometheus.io/path", "/stats/prometheus"),
        ("sortie/status", &status.to_string()),
    ] {
        expected["metadata"]["annotations"][key] = json!(value);
    }
    expected["spec"]["volumes"] = json!([
        {"name": "sortie-config", "configMap": {"name": "sortie-config"}},
        {"name": "sortie-podinfo", "downwardAPI": {"items": [
            {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
            {"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}},
        ]}},
        {"name": "client-certs", "secret": {"secretName": "nginx-mtls-external"}},
    ]);
    expected["spec"]["initContainers"] = json!([{
        "name": "sortie-init",
        "image": "sortie:test",
        "args": ["capture", "apply"],
        "resources": limits,
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "runAsUser": 0,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }]);
    let proxy = json!({
        "name": "sortie-proxy",
        "image": "sortie:test",
        "args": [
            "run",
            "--config=/etc/sortie/config",
            "--capture=[::]:15001",
            "--inbound=[::]:15006",
            "--admin=127.0.0.1:15000",
            "--status=[::]:15020",
            "--status=[::]:15021",
            "--labels-file=/etc/sortie/pod/labels",
            "--drain-timeout=25",
        ],
        "ports": [
            {"name": "sortie-status", "containerPort": 15020, "protocol": "TCP"},
            {"name": "sortie-ready", "containerPort": 15021, "protocol": "TCP"},
        ],
        "env": [
            of_pod("SORTIE_NAMESPACE", "metadata.namespace"),
            of_pod("SORTIE_SERVICE_ACCOUNT", "spec.serviceAccountName"),
            of_pod("SORTIE_POD_IP", "status.podIP"),
        ],
        "resources": limits,
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": 1337,
            "runAsNonRoot": true,
            "runAsUser": 1337,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "startupProbe": {"httpGet": ready, "periodSeconds": 1, "timeoutSeconds": 3, "failureThreshold": 600},
        "readinessProbe": {"httpGet": ready, "periodSeconds": 15, "timeoutSeconds": 3, "failureThreshold": 4},
        "volumeMounts": [
            mount("sortie-config", "/etc/sortie/config"),
            mount("sortie-podinfo", "/etc/sortie/pod"),
            mount("client-certs", "/etc/certs"),
        ],
    });
    expected["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(proxy);
    assert_eq!(
        serde_json::to_string_pretty(&pod).unwrap(),
        serde_json::to_string_pretty(&expected).unwrap()
    );
}
