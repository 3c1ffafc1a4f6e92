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
    fields.insert("env".to_owned(), env(probes));
    fields.insert("resources".to_owned(), wishes.resources.to_json());
    fields.insert("securityContext".to_owned(), rights);
    if wishes.hold && !wishes.native {
        let wait = json!({"postStart": {"exec": {"command": ["/sortie", "wait"]}}});
        fields.insert("lifecycle".to_owned(), wait);
    }
    fields.insert("startupProbe".to_owned(), probe(0, 1, 600));
    let ready = wishes.readiness;
    let readiness = probe(ready.initial_delay, ready.period, ready.failures);
    fields.insert("readinessProbe".to_owned(), readiness);
    fields.insert("volumeMounts".to_owned(), mounts::mounts(wishes).into());
    fields.into()
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
    let ports = wishes.status_port.into_iter().chain([READY_PORT]);
    args.extend(ports.map(|port| format!("--status=[::]:{port}")));
    args.push(format!("--labels-file={}/labels", mounts::POD));
    if wishes.identity.is_some() {
        args.push(format!("--identity={}", mounts::IDENTITY));
    }
    if !wishes.credentials.is_empty() {
        args.push(format!("--credentials={}", mounts::CREDENTIALS));
    }
    args.push(format!("--drain-timeout={}", wishes.drain.as_secs()));
    if let Some(level) = &wishes.log_level {
        args.push(format!("--log-level={level}"));
    }
    if let Some(workers) = wishes.workers {
        args.push(format!("--workers={workers}"));
    }
    args.extend(settings.proxy_args.iter().cloned());
    args
}

/// Those that others may call.
fn ports(wishes: &Wishes) -> Value {
    let port =
        |name: &str, port: u16| json!({"name": name, "containerPort": port, "protocol": "TCP"});
    let status = wishes
        .status_port
        .map(|number| port("sortie-status", number));
    let all = status.into_iter().chain([port("sortie-ready", READY_PORT)]);
    all.collect()
}

fn env(probes: &Originals) -> Value {
    let of_pod = |name: &str, field: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": field}}});
    let mut all = vec![
        of_pod("SORTIE_NAMESPACE", "metadata.namespace"),
        of_pod("SORTIE_SERVICE_ACCOUNT", "spec.serviceAccountName"),
        of_pod("SORTIE_POD_IP", "status.podIP"),
    ];
    if !probes.is_empty() {
        // Kubernetes replaces $(NAME) in values, and $$ by $.
        let text = Value::from(probes.clone()).to_string().replace('$', "$$");
        all.push(json!({"name": APP_PROBES, "value": text}));
    }
    all.into()
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
