//! Probes and hooks of the application that ask over the network: through the proxy (ISTIO.md I8).
//!
//! Owns: which are rewritten, what the proxy is told about them, and how they are put back.
//! Never: asks anybody anything.
//! Called by: plan, status.
//!
//! Why: the kubelet has no client certificate, so a strict sidecar would turn it away, and a
//! captured `tcpSocket` probe would find the proxy alive, not the application.

use serde_json::{Map, Value, json};

use super::Warning;
use super::pod::{CONTAINERS, Container, Fields, Pod, field};

/// Field of a container, last part of the path (Istio's words).
const PROBES: [(&str, &str); 3] = [
    ("livenessProbe", "livez"),
    ("readinessProbe", "readyz"),
    ("startupProbe", "startupz"),
];
const HOOKS: [(&str, &str); 2] = [("preStop", "prestopz"), ("postStart", "poststartz")];
/// What asks over the network.
const NETWORK: [&str; 3] = ["httpGet", "tcpSocket", "grpc"];

/// Every probe and hook that goes through the proxy: its path there, and what it was.
pub(super) type Originals = Map<String, Value>;

/// Where a handler is in a container: the fields down to it, and its path at the proxy.
fn places(container: &str) -> impl Iterator<Item = (Vec<&'static str>, String)> {
    let probes = PROBES.map(|(key, last)| (vec![key], format!("/app-health/{container}/{last}")));
    let hooks = HOOKS.map(|(key, last)| {
        let path = format!("/app-lifecycle/{container}/{last}");
        (vec!["lifecycle", key], path)
    });
    probes.into_iter().chain(hooks)
}

/// What the proxy is to know, and what stays as it is although it asks over the network.
pub(super) fn originals(pod: Pod<'_>, own_ports: &[u16]) -> (Originals, Vec<Warning>) {
    let (mut found, mut warnings) = (Originals::new(), Vec::new());
    for container in pod.containers() {
        for (keys, path) in places(container.name) {
            let Some(handler) = down(container.fields, &keys) else {
                continue;
            };
            match original(&container, handler, own_ports) {
                Ok(Some(original)) => {
                    found.insert(path, original);
                }
                Ok(None) => {}
                Err(why) => {
                    let at = keys
                        .iter()
                        .fold(container.path.clone(), |at, key| at.key(key));
                    let message = format!("{why}: the probe stays as it is");
                    warnings.push(Warning::new(at, message));
                }
            }
        }
    }
    (found, warnings)
}

/// The handler as the proxy needs it, ports as numbers; `None`: it is nothing to rewrite.
fn original(
    container: &Container<'_>,
    handler: &Fields,
    own_ports: &[u16],
) -> Result<Option<Value>, String> {
    let kind = NETWORK
        .iter()
        .find(|kind| handler.get(**kind).is_some_and(Value::is_object));
    let Some((kind, Value::Object(action))) =
        kind.and_then(|kind| Some((*kind, handler.get(*kind)?)))
    else {
        return Ok(None);
    };
    let port = port(container, action.get("port"))?;
    if own_ports.contains(&port) {
        return Ok(None);
    }
    if let Some(host) = action.get("host").and_then(Value::as_str) {
        return Err(format!("it asks the host {host:?}, not the pod"));
    }
    let mut action = action.clone();
    action.insert("port".to_owned(), json!(port));
    let mut original = json!({ kind: action });
    if let (Some(timeout), Some(fields)) = (handler.get("timeoutSeconds"), original.as_object_mut())
    {
        fields.insert("timeoutSeconds".to_owned(), timeout.clone());
    }
    Ok(Some(original))
}

/// A number, or the name of a port of the same container.
fn port(container: &Container<'_>, port: Option<&Value>) -> Result<u16, String> {
    let number = |value: &Value| {
        let number = value.as_u64().and_then(|number| u16::try_from(number).ok());
        number.filter(|number| *number > 0)
    };
    let name = match port {
        Some(Value::String(name)) => name,
        Some(value) => return number(value).ok_or_else(|| format!("{value} is no port")),
        None => return Err("it has no port".to_owned()),
    };
    let ports = container.fields.get("ports").and_then(Value::as_array);
    let named = |one: &&Value| one.get("name").and_then(Value::as_str) == Some(name);
    let found = ports.and_then(|ports| ports.iter().find(named));
    let found = found.and_then(|one| number(one.get("containerPort")?));
    found.ok_or_else(|| format!("the container has no port {name:?}"))
}

/// Sends the probes of `originals` to the proxy.
pub(super) fn rewrite(pod: &mut Value, originals: &Originals, port: u16) {
    each_handler(pod, |handler, path| {
        if originals.contains_key(path) {
            let to = json!({"path": path, "port": port, "scheme": "HTTP"});
            replace(handler, "httpGet", to);
        }
    });
}

/// Puts back what `originals` hold, where a probe still goes to the proxy.
pub(super) fn restore(pod: &mut Value, originals: &Originals) {
    each_handler(pod, |handler, path| {
        let asks = handler.get("httpGet").and_then(|get| field(get, "path"));
        let ours = asks.and_then(Value::as_str) == Some(path);
        let original = originals.get(path).and_then(Value::as_object);
        let Some(original) = original.filter(|_| ours) else {
            return;
        };
        for kind in NETWORK {
            if let Some(action) = original.get(kind) {
                replace(handler, kind, action.clone());
            }
        }
    });
}

/// The one action of a handler becomes another, at the same place.
fn replace(handler: &mut Fields, kind: &str, action: Value) {
    let was = std::mem::take(handler);
    for (key, value) in was {
        match NETWORK.contains(&key.as_str()) {
            true => handler.insert(kind.to_owned(), action.clone()),
            false => handler.insert(key, value),
        };
    }
}

fn each_handler(pod: &mut Value, mut change: impl FnMut(&mut Fields, &str)) {
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    for list in CONTAINERS {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let Some(fields) = container.as_object_mut() else {
                continue;
            };
            let name = fields
                .get("name")
                .and_then(Value::as_str)
                .map(str::to_owned);
            for (keys, path) in places(&name.unwrap_or_default()) {
                let mut at = Some(&mut *fields);
                for key in keys {
                    at = at.and_then(|at| at.get_mut(key)?.as_object_mut());
                }
                if let Some(handler) = at {
                    change(handler, &path);
                }
            }
        }
    }
}

fn down<'a>(fields: &'a Fields, keys: &[&str]) -> Option<&'a Fields> {
    keys.iter()
        .try_fold(fields, |at, key| at.get(*key)?.as_object())
}
