//! Whole pods: what comes out, once and twice. `pods/NAME.out.json` is what `pods/NAME.json`
//! becomes; SORTIE_WRITE_GOLDENS=1 writes them anew, for their reader to compare.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::testing::*;
use super::*;

/// A pod as it is read from a file in this room, and what it becomes.
fn golden(name: &str, pod: &str, expected: &str) {
    let pod: Value = serde_json::from_str(pod).unwrap();
    let after = serde_json::to_string_pretty(&injected(&pod)).unwrap() + "\n";
    if std::env::var_os("SORTIE_WRITE_GOLDENS").is_some() {
        std::fs::write(format!("src/inject/pods/{name}.out.json"), &after).unwrap();
        return;
    }
    assert_eq!(after, expected, "{name}");
}

#[test]
fn i4_a_pod_with_a_client_certificate_compared_whole() {
    golden(
        "curl",
        include_str!("pods/curl.json"),
        include_str!("pods/curl.out.json"),
    );
}

#[test]
fn i6_a_database_with_a_native_sidecar_compared_whole() {
    golden(
        "database",
        include_str!("pods/database.json"),
        include_str!("pods/database.out.json"),
    );
}

#[test]
fn i7_a_shop_that_waits_for_its_proxy_compared_whole() {
    golden(
        "shop",
        include_str!("pods/shop.json"),
        include_str!("pods/shop.out.json"),
    );
}

#[test]
fn c4_a_legacy_pod_behind_tproxy_compared_whole() {
    golden(
        "legacy",
        include_str!("pods/legacy.json"),
        include_str!("pods/legacy.out.json"),
    );
}

#[test]
fn i8_no_change_lies_within_a_container_whose_probes_stay() {
    let pod: Value = serde_json::from_str(include_str!("pods/curl.json")).unwrap();
    let ops = planned(&settings(), &pod).ops;
    let places: Vec<String> = ops
        .iter()
        .map(|op| match op {
            Op::Put { at, .. } | Op::Remove { at } => at.to_string(),
            Op::Insert { list, index, .. } => format!("{list} {index}"),
        })
        .collect();
    let annotation = |key: &str| format!("metadata.annotations[\"{key}\"]");
    let label = |key: &str| format!("metadata.labels[\"{key}\"]");
    let expected = [
        label("service.istio.io/canonical-name"),
        label("service.istio.io/canonical-revision"),
        annotation("kubectl.kubernetes.io/default-container"),
        annotation("prometheus.io/scrape"),
        annotation("prometheus.io/port"),
        annotation("prometheus.io/path"),
        annotation("sortie/status"),
        "spec.containers 1".to_owned(),
        "spec.volumes 0".to_owned(),
        "spec.volumes 1".to_owned(),
        "spec.volumes 2".to_owned(),
        "spec.initContainers 0".to_owned(),
    ];
    assert_eq!(places, expected);
}

/// Any JSON, with the words that this room looks for.
fn anything() -> impl Strategy<Value = Value> {
    let words = "(name|spec|metadata|containers|sortie-proxy|httpGet|true|80|a)";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0_u32..70_000).prop_map(Value::from),
        words.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        let key = "(name|env|ports|port|lifecycle|livenessProbe|httpGet|securityContext|\
                   volumeMounts|sysctls|containerPort|a)";
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            proptest::collection::btree_map(key, inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn probe() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({"httpGet": {"path": "/$(x)", "port": "web"}, "periodSeconds": 3})),
        Just(json!({"timeoutSeconds": 2, "httpGet": {"port": 8080, "scheme": "HTTPS"}})),
        Just(json!({"tcpSocket": {"port": 5432}})),
        Just(json!({"grpc": {"port": 9000}})),
        Just(json!({"exec": {"command": ["true"]}})),
        Just(json!({"httpGet": {"path": "/", "port": "none"}})),
        Just(json!({"httpGet": {"path": "/", "port": 80, "host": "example.org"}})),
    ]
}

/// A container with some of what the injector looks at, and something that it does not.
fn containers(prefix: &'static str, least: usize) -> impl Strategy<Value = Vec<Value>> {
    let parts = (
        proptest::option::of(probe()),
        proptest::option::of(probe()),
        proptest::option::of(probe()),
        proptest::option::of(0_u32..2000),
        any::<bool>(),
    );
    let one = parts.prop_map(|(live, ready, stop, user, web)| {
        let mut one = json!({"image": "a:1", "command": ["a", "b"]});
        if web {
            one["ports"] = json!([{"name": "web", "containerPort": 8080}]);
            one["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
        }
        let probes = [("livenessProbe", live), ("readinessProbe", ready)];
        for (key, probe) in probes {
            if let Some(probe) = probe {
                one[key] = probe;
            }
        }
        if let Some(stop) = stop {
            one["lifecycle"] = json!({"preStop": stop});
        }
        if let Some(user) = user {
            one["securityContext"] = json!({"runAsUser": user});
        }
        one
    });
    proptest::collection::vec(one, least..3).prop_map(move |all| {
        let named = all.into_iter().enumerate().map(|(nth, mut one)| {
            one["name"] = json!(format!("{prefix}{nth}"));
            one
        });
        named.collect()
    })
}

/// Annotations that each make another sidecar.
const WISHES: [(&str, &str); 12] = [
    ("sidecar.istio.io/nativeSidecar", "true"),
    ("sidecar.istio.io/interceptionMode", "NONE"),
    ("sidecar.istio.io/proxyCPU", "1"),
    (
        "sidecar.istio.io/userVolume",
        r#"{"own":{"emptyDir":{}},"data":{"emptyDir":{}}}"#,
    ),
    (
        "sidecar.istio.io/userVolumeMount",
        r#"[{"name":"data","mountPath":"/d"}]"#,
    ),
    ("sidecar.istio.io/rewriteAppHTTPProbers", "false"),
    ("traffic.sidecar.istio.io/includeInboundPorts", ""),
    ("traffic.sidecar.istio.io/excludeOutboundPorts", "3306"),
    ("status.sidecar.istio.io/port", "15099"),
    (
        "proxy.istio.io/config",
        "{holdApplicationUntilProxyStarts: true}",
    ),
    ("prometheus.io/port", "9090"),
    ("sortie/credentials", "a,b"),
];

fn pods() -> impl Strategy<Value = Value> {
    let wishes = proptest::sample::subsequence(WISHES.to_vec(), 0..WISHES.len());
    let inits = containers("init", 0);
    (containers("app", 1), inits, wishes, any::<bool>()).prop_map(|(apps, inits, wishes, bare)| {
        let annotations: serde_json::Map<_, _> = wishes
            .into_iter()
            .map(|(key, value)| (key.to_owned(), json!(value)))
            .collect();
        let mut pod = json!({
            "metadata": {"labels": {"version": "v1"}, "annotations": annotations},
            "spec": {"nodeName": "n", "containers": apps},
        });
        pod["spec"]["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
        if !inits.is_empty() {
            pod["spec"]["initContainers"] = json!(inits);
        }
        if bare && pod["metadata"]["annotations"] == json!({}) {
            pod["metadata"] = Value::Null;
        }
        pod
    })
}

/// A container without what I8 rewrites.
fn without_probes(container: &Value) -> Value {
    let mut container = container.clone();
    for key in ["livenessProbe", "readinessProbe", "lifecycle"] {
        container.as_object_mut().unwrap().shift_remove(key);
    }
    container
}

proptest! {
    /// The changes fit, twice is once ([`injected`]), and what is the application's stays.
    #[test]
    fn i8_nothing_of_the_applications_changes_but_its_probes(pod in pods()) {
        let after = injected(&pod);
        for list in ["containers", "initContainers"] {
            let ours = |one: &&Value| one["name"].as_str().unwrap().starts_with("sortie-");
            let now = after["spec"][list].as_array().into_iter().flatten();
            let now: Vec<Value> = now.filter(|one| !ours(one)).map(without_probes).collect();
            let was = pod["spec"][list].as_array().into_iter().flatten();
            prop_assert_eq!(now, was.map(without_probes).collect::<Vec<_>>());
        }
        let was = pod["spec"]["volumes"].as_array().unwrap();
        prop_assert_eq!(&after["spec"]["volumes"].as_array().unwrap()[..was.len()], &was[..]);
        for kind in ["labels", "annotations"] {
            let was = pod["metadata"][kind].as_object().into_iter().flatten();
            for (key, value) in was {
                prop_assert_eq!(&after["metadata"][kind][key], value);
            }
        }
    }

    /// Whatever somebody sends: an answer, and where it is changes, changes that fit.
    #[test]
    fn a_pod_of_any_shape_is_answered(metadata in anything(), spec in anything(), app in anything()) {
        let mut all = vec![json!({"metadata": metadata, "spec": spec}), metadata, spec];
        let mut pod = annotated(&[]);
        if let Some(fields) = app.as_object() {
            pod["spec"]["containers"][0].as_object_mut().unwrap().extend(fields.clone());
            pod["spec"]["containers"][0]["name"] = json!("app");
        }
        pod["spec"]["securityContext"] = app;
        all.push(pod);
        for pod in all {
            if let Ok(Outcome::Inject(_)) = plan(&settings(), &owner(), &pod) {
                injected(&pod);
            }
        }
    }
}
