//! The two containers that are put in: the one that captures, and the proxy (ISTIO.md I3 to I7).
//!
//! Owns: their names, flags, environment, rights and probes.
//! Never: decides what is captured or where they stand among the others.
//! Called by: plan.
//!
//! Why no NET_RAW, which istio-init has: iptables' tools open raw sockets, and `sortie capture`
//! speaks netlink, for which NET_ADMIN is enough.

use serde_json::{Map, Value, json};

use super::pod::Fields;
use super::probes::Originals;
use super::wishes::Wishes;
use super::{Settings, mounts};
use crate::model::{Interception, PROXY_ID};

/// The container that captures.
pub(super) const INIT: &str = "sortie-init";
/// The proxy.
pub(super) const PROXY: &str = "sortie-proxy";
/// Its admin port, on loopback alone (C1).
pub(super) const ADMIN_PORT: u16 = 15000;
/// Where it says whether it is ready (C1).
pub(super) const READY_PORT: u16 = 15021;
/// The variable with what the proxy is to know of the application's probes.
pub(super) const APP_PROBES: &str = "SORTIE_APP_PROBES";

/// `sortie-init`, which ends as soon as the rules are there.
pub(super) fn init(settings: &Settings, wishes: &Wishes) -> Value {
    let mut args = vec!["capture".to_owned(), "apply".to_owned()];
    args.extend(wishes.capture.to_args());
    let mut fields = head(INIT, settings, wishes, args);
    fields.insert("resources".to_owned(), wishes.resources.to_json());
    fields.insert("securityContext".to_owned(), rights(0, 0, &["NET_ADMIN"]));
    fields.into()
}

/// `sortie-proxy`.
pub(super) fn proxy(settings: &Settings, wishes: &Wishes, probes: &Originals) -> Value {
    let tproxy = wishes.capture.interception == Interception::Tproxy;
    let mut fields = head(PROXY, settings, wishes, args(settings, wishes));
    let rights = match tproxy {
        // C4: the owner rules know it by its group.
        true => rights(0, PROXY_ID, &["NET_ADMIN"]),
        false => rights(PROXY_ID, PROXY_ID, &[]),
    };
    if wishes.native {
        fields.insert("restartPolicy".to_owned(), json!("Always"));
    }
    fields.insert("ports".to_owned(), ports(wishes));
    fields.insert("env".to_owned(), env(wishes, probes));
    fields.insert("resources".to_owned(), wishes.resources.to_json());
    fields.insert("securityContext".to_owned(), rights);
    if let Some(hooks) = hooks(wishes) {
        fields.insert("lifecycle".to_owned(), hooks);
    }
    fields.insert("startupProbe".to_owned(), probe(0, 1, 600));
    let ready = wishes.readiness;
    let readiness = probe(ready.initial_delay, ready.period, ready.failures);
    fields.insert("readinessProbe".to_owned(), readiness);
    fields.insert("volumeMounts".to_owned(), mounts::mounts(wishes).into());
    fields.into()
}

/// I7: the containers after it wait. I6: Kubernetes ends a native sidecar after the application, and
/// its preStop comes first of all: from then on nobody new is let in, and the way out stays open.
fn hooks(wishes: &Wishes) -> Option<Value> {
    let run = |word: &str| json!({"exec": {"command": ["/sortie", word]}});
    match (wishes.native, wishes.hold) {
        (true, _) => Some(json!({"preStop": run("drain")})),
        (false, true) => Some(json!({"postStart": run("wait")})),
        (false, false) => None,
    }
}

/// What both begin with.
fn head(name: &str, settings: &Settings, wishes: &Wishes, args: Vec<String>) -> Fields {
    let mut fields = Map::new();
    fields.insert("name".to_owned(), json!(name));
    fields.insert("image".to_owned(), json!(wishes.image));
    if let Some(policy) = &settings.image_pull_policy {
        fields.insert("imagePullPolicy".to_owned(), json!(policy));
    }
    fields.insert("args".to_owned(), json!(args));
    fields
}

/// No more than they need.
fn rights(user: u32, group: u32, capabilities: &[&str]) -> Value {
    let mut set = json!({"drop": ["ALL"]});
    if let (false, Some(set)) = (capabilities.is_empty(), set.as_object_mut()) {
        set.shift_insert(0, "add".to_owned(), json!(capabilities));
    }
    json!({
        "allowPrivilegeEscalation": false,
        "capabilities": set,
        "privileged": false,
        "readOnlyRootFilesystem": true,
        "runAsGroup": group,
        "runAsNonRoot": user != 0,
        "runAsUser": user,
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

fn args(settings: &Settings, wishes: &Wishes) -> Vec<String> {
    let mut args = vec!["run".to_owned(), format!("--config={}", mounts::CONFIG)];
    if wishes.captures() {
        args.push(format!("--capture=[::]:{}", wishes.capture.outbound_port));
        args.push(format!("--inbound=[::]:{}", wishes.capture.inbound_port));
    } else {
        args.push(format!("--listen={}", settings.listen));
    }
    if wishes.capture.interception == Interception::Tproxy {
        args.push("--interception=TPROXY".to_owned());
    }
    args.push(format!("--admin=127.0.0.1:{ADMIN_PORT}"));
    let ports = status(wishes).map(|port| format!("--status=[::]:{port}"));
    args.extend(ports.chain([format!("--status=[::]:{READY_PORT}")]));
    args.push(format!("--labels-file={}/labels", mounts::POD));
    if wishes.identity.is_some() {
        args.push(format!("--identity={}", mounts::IDENTITY));
    }
    if !wishes.credentials.is_empty() {
        args.push(format!("--credentials={}", mounts::CREDENTIALS));
    }
    args.push(format!("--drain-time={}", wishes.drain_least));
    args.push(format!("--drain-timeout={}", wishes.drain_most));
    if wishes.drain_until_idle {
        args.push("--drain-until-idle".to_owned());
    }
    if let Some(level) = &wishes.log_level {
        args.push(format!("--log-level={level}"));
    }
    if let Some(workers) = wishes.workers {
        args.push(format!("--workers={workers}"));
    }
    args.extend(settings.proxy_args.iter().cloned());
    args
}

/// The status port, unless it is the one for readiness too.
fn status(wishes: &Wishes) -> impl Iterator<Item = u16> {
    let port = wishes.status_port.filter(|port| *port != READY_PORT);
    port.into_iter()
}

/// Those that others may call.
fn ports(wishes: &Wishes) -> Value {
    let port =
        |name: &str, port: u16| json!({"name": name, "containerPort": port, "protocol": "TCP"});
    let status = status(wishes).map(|number| port("sortie-status", number));
    status.chain([port("sortie-ready", READY_PORT)]).collect()
}

fn env(wishes: &Wishes, probes: &Originals) -> Value {
    let of_pod = |name: &str, field: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": field}}});
    let mut all = vec![
        of_pod("SORTIE_NAMESPACE", "metadata.namespace"),
        of_pod("SORTIE_SERVICE_ACCOUNT", "spec.serviceAccountName"),
        of_pod("SORTIE_POD_IP", "status.podIP"),
    ];
    let said = wishes.env.iter();
    all.extend(said.map(|(name, value)| json!({"name": name, "value": literal(value)})));
    if !probes.is_empty() {
        let text = literal(&Value::from(probes.clone()).to_string());
        all.push(json!({"name": APP_PROBES, "value": text}));
    }
    all.into()
}

/// Kubernetes replaces $(NAME) in values, and $$ by $.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

/// I5.
fn probe(delay: u32, period: u32, failures: u32) -> Value {
    let get = json!({"path": "/healthz/ready", "port": READY_PORT, "scheme": "HTTP"});
    let mut probe = json!({
        "httpGet": get,
        "periodSeconds": period,
        "timeoutSeconds": 3,
        "failureThreshold": failures,
    });
    if let (true, Some(fields)) = (delay > 0, probe.as_object_mut()) {
        fields.insert("initialDelaySeconds".to_owned(), json!(delay));
    }
    probe
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        annotated, args, container, injected, injected_with, names, settings,
    };
    use super::*;

    fn pod_with_inits() -> Value {
        let mut pod = annotated(&[]);
        pod["spec"]["initContainers"] = json!([{"name": "migrate"}, {"name": "warm"}]);
        pod["spec"]["containers"] = json!([{"name": "app"}, {"name": "helper"}]);
        pod
    }

    #[test]
    fn i3_capture_has_one_capability_and_is_not_privileged() {
        let pod = injected(&annotated(&[]));
        let context = &container(&pod, INIT)["securityContext"];
        let expected = json!({"add": ["NET_ADMIN"], "drop": ["ALL"]});
        assert_eq!(context["capabilities"], expected);
        let ids = ["runAsUser", "runAsGroup", "runAsNonRoot", "privileged"];
        let ids = ids.map(|key| context[key].clone());
        assert_eq!(ids, [json!(0), json!(0), json!(false), json!(false)]);
    }

    #[test]
    fn i3_a_pod_that_forbids_root_has_it_for_the_init_container_alone() {
        let mut pod = annotated(&[]);
        let context = json!({"runAsNonRoot": true, "runAsUser": 1000, "fsGroup": 2000});
        pod["spec"]["securityContext"] = context.clone();
        let pod = injected(&pod);
        assert_eq!(
            pod["spec"]["securityContext"], context,
            "the pod's own stays"
        );
        let user = |name| {
            let context = &container(&pod, name)["securityContext"];
            (
                context["runAsUser"].clone(),
                context["runAsNonRoot"].clone(),
            )
        };
        assert_eq!(user(INIT), (json!(0), json!(false)));
        assert_eq!(user(PROXY), (json!(1337), json!(true)));
    }

    #[test]
    fn i7_as_a_container_the_proxy_is_last_and_capture_is_the_last_of_the_inits() {
        let pod = injected(&pod_with_inits());
        assert_eq!(names(&pod, "initContainers"), ["migrate", "warm", INIT]);
        assert_eq!(names(&pod, "containers"), ["app", "helper", PROXY]);
        assert!(container(&pod, PROXY).get("lifecycle").is_none());
    }

    #[test]
    fn i7_to_hold_the_application_the_proxy_is_first_and_waits() {
        let text = "holdApplicationUntilProxyStarts: true";
        for config in [text, "{\"holdApplicationUntilProxyStarts\": true}"] {
            let mut pod = pod_with_inits();
            pod["metadata"]["annotations"]["proxy.istio.io/config"] = json!(config);
            let pod = injected(&pod);
            assert_eq!(names(&pod, "containers"), [PROXY, "app", "helper"]);
            let hook = json!({"postStart": {"exec": {"command": ["/sortie", "wait"]}}});
            assert_eq!(container(&pod, PROXY)["lifecycle"], hook);
        }
        let hold = Settings {
            hold_until_ready: true,
            ..settings()
        };
        let mut pod = pod_with_inits();
        assert_eq!(names(&injected_with(&hold, &pod), "containers")[0], PROXY);
        let no = json!("holdApplicationUntilProxyStarts: false");
        pod["metadata"]["annotations"]["proxy.istio.io/config"] = no;
        assert_eq!(names(&injected_with(&hold, &pod), "containers")[0], "app");
    }

    #[test]
    fn i6_a_native_sidecar_is_there_before_the_applications_own_inits() {
        let mut pod = pod_with_inits();
        pod["metadata"]["annotations"]["sidecar.istio.io/nativeSidecar"] = json!("true");
        let pod = injected(&pod);
        assert_eq!(
            names(&pod, "initContainers"),
            [INIT, PROXY, "migrate", "warm"]
        );
        assert_eq!(names(&pod, "containers"), ["app", "helper"]);
        assert_eq!(container(&pod, PROXY)["restartPolicy"], "Always");
        let hook = json!({"preStop": {"exec": {"command": ["/sortie", "drain"]}}});
        assert_eq!(container(&pod, PROXY)["lifecycle"], hook);
        assert!(container(&pod, INIT).get("restartPolicy").is_none());
    }

    #[test]
    fn i6_the_settings_choose_the_form_and_the_pod_has_the_last_word() {
        let native = Settings {
            native_sidecar: true,
            ..settings()
        };
        let pod = injected_with(&native, &annotated(&[]));
        assert_eq!(names(&pod, "initContainers"), [INIT, PROXY]);
        let no = annotated(&[("sidecar.istio.io/nativeSidecar", "false")]);
        let pod = injected_with(&native, &no);
        assert_eq!(names(&pod, "containers"), ["app", PROXY]);
    }

    #[test]
    fn i4_secrets_that_the_pod_names_are_mounted_and_given_to_the_proxy() {
        let pod = injected(&annotated(&[
            ("sortie/config", "shop-mesh"),
            ("sortie/identity", "shop-cert"),
            ("sortie/credentials", "bank, post.example,bank"),
        ]));
        let volume = |nth: usize| pod["spec"]["volumes"][nth].clone();
        assert_eq!(volume(0)["configMap"]["name"], "shop-mesh");
        assert_eq!(volume(2)["secret"]["secretName"], "shop-cert");
        assert_eq!(volume(4)["secret"]["secretName"], "post.example");
        assert_eq!(
            pod["spec"]["volumes"].as_array().unwrap().len(),
            5,
            "bank once"
        );
        let mounts = container(&pod, PROXY)["volumeMounts"].as_array().unwrap();
        let paths: Vec<&str> = mounts
            .iter()
            .map(|one| one["mountPath"].as_str().unwrap())
            .collect();
        let below = [
            "config",
            "pod",
            "identity",
            "credentials/bank",
            "credentials/post.example",
        ];
        assert_eq!(paths, below.map(|path| format!("/etc/sortie/{path}")));
        let args = args(&pod, PROXY);
        for arg in [
            "--identity=/etc/sortie/identity",
            "--credentials=/etc/sortie/credentials",
        ] {
            assert!(args.contains(&arg), "{args:?}");
        }
    }

    #[test]
    fn i10_what_else_a_pod_may_say_of_its_proxy() {
        let pod = injected(&annotated(&[
            ("sidecar.istio.io/proxyImage", "example.org/sortie@sha256:0"),
            ("sidecar.istio.io/logLevel", "warning"),
            ("readiness.status.sidecar.istio.io/initialDelaySeconds", "5"),
            ("readiness.status.sidecar.istio.io/periodSeconds", "2"),
            ("readiness.status.sidecar.istio.io/failureThreshold", "30"),
            (
                "proxy.istio.io/config",
                "concurrency: 2\nterminationDrainDuration: 8s\n\
                 proxyMetadata: {EXIT_ON_ZERO_ACTIVE_CONNECTIONS: true}",
            ),
        ]));
        let proxy = container(&pod, PROXY);
        assert_eq!(proxy["image"], "example.org/sortie@sha256:0");
        let numbers = ["initialDelaySeconds", "periodSeconds", "failureThreshold"];
        let numbers = numbers.map(|key| proxy["readinessProbe"][key].as_u64().unwrap());
        assert_eq!(numbers, [5, 2, 30]);
        let args = args(&pod, PROXY);
        assert!(
            args.ends_with(&[
                "--drain-time=8",
                "--drain-timeout=25",
                "--drain-until-idle",
                "--log-level=warn",
                "--workers=2",
            ]),
            "{args:?}"
        );
    }

    #[test]
    fn i11_a_drain_ends_before_kubernetes_kills() {
        let drain = |grace: u64| {
            let mut pod = annotated(&[]);
            pod["spec"]["terminationGracePeriodSeconds"] = json!(grace);
            let pod = injected(&pod);
            args(&pod, PROXY).last().map(|arg| (*arg).to_owned())
        };
        assert_eq!(drain(600).as_deref(), Some("--drain-timeout=595"));
        assert_eq!(drain(0).as_deref(), Some("--drain-timeout=1"));
    }
}
