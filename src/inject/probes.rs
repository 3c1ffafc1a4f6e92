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

/// What the proxy takes of a probe: seconds, and headers.
const LONGEST: u64 = 3600;
const MOST_HEADERS: usize = 100;

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
    readable(handler, action)?;
    let mut action = action.clone();
    action.insert("port".to_owned(), json!(port));
    let mut original = json!({ kind: action });
    if let (Some(timeout), Some(fields)) = (handler.get("timeoutSeconds"), original.as_object_mut())
    {
        fields.insert("timeoutSeconds".to_owned(), timeout.clone());
    }
    Ok(Some(original))
}

/// What the proxy would not take would keep it from starting.
fn readable(handler: &Fields, action: &Fields) -> Result<(), String> {
    let timeout = handler.get("timeoutSeconds").and_then(Value::as_u64);
    if let Some(timeout) = timeout.filter(|timeout| *timeout > LONGEST) {
        return Err(format!("its timeout of {timeout} s is more than {LONGEST}"));
    }
    let headers = action.get("httpHeaders").and_then(Value::as_array);
    let headers = headers.map_or(&[][..], Vec::as_slice);
    let text = |header: &Value| {
        let value = header.get("value").and_then(Value::as_str);
        !value.is_some_and(|value| value.contains(|c: char| c.is_control() && c != '\t'))
    };
    match headers.len() <= MOST_HEADERS && headers.iter().all(text) {
        true => Ok(()),
        false => Err(format!(
            "its headers are more than {MOST_HEADERS}, or one has control characters"
        )),
    }
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

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::super::testing::{
        annotated, container, injected, injected_with, settings, warned, with_app,
    };
    use super::*;

    /// What the proxy is told.
    fn told(pod: &Value) -> Option<Value> {
        let env = container(pod, "sortie-proxy")["env"].as_array().unwrap();
        let variable = env.iter().find(|one| one["name"] == "SORTIE_APP_PROBES")?;
        let text = variable["value"].as_str().unwrap().replace("$$", "$");
        Some(serde_json::from_str(&text).unwrap())
    }

    fn through(path: &str) -> Value {
        json!({"path": path, "port": 15020, "scheme": "HTTP"})
    }

    #[test]
    fn i8_every_kind_of_probe_goes_through_the_proxy_which_knows_what_it_was() {
        let headers = json!([{"name": "Host", "value": "shop.example"}]);
        let pod = injected(&with_app(json!({
            "ports": [{"name": "web", "containerPort": 8080}],
            "livenessProbe": {
                "httpGet": {"path": "/live?x=$(A)", "port": "web", "httpHeaders": headers},
                "timeoutSeconds": 7, "periodSeconds": 3,
            },
            "readinessProbe": {"tcpSocket": {"port": 5432}},
            "startupProbe": {"failureThreshold": 9, "grpc": {"port": 9000, "service": "s"}},
        })));
        let app = container(&pod, "app");
        let expected = json!({
            "httpGet": through("/app-health/app/livez"),
            "timeoutSeconds": 7, "periodSeconds": 3,
        });
        assert_eq!(app["livenessProbe"], expected);
        assert_eq!(
            app["readinessProbe"],
            json!({"httpGet": through("/app-health/app/readyz")})
        );
        let expected =
            json!({"failureThreshold": 9, "httpGet": through("/app-health/app/startupz")});
        assert_eq!(app["startupProbe"], expected);
        let live = json!({"path": "/live?x=$(A)", "port": 8080, "httpHeaders": headers});
        let expected = json!({
            "/app-health/app/livez": {"httpGet": live, "timeoutSeconds": 7},
            "/app-health/app/readyz": {"tcpSocket": {"port": 5432}},
            "/app-health/app/startupz": {"grpc": {"port": 9000, "service": "s"}},
        });
        assert_eq!(told(&pod), Some(expected));
    }

    #[test]
    fn i8_hooks_that_ask_over_http_are_rewritten_and_others_are_not() {
        let pod = injected(&with_app(json!({"lifecycle": {
            "preStop": {"httpGet": {"path": "/stop", "port": 8080, "scheme": "HTTPS"}},
            "postStart": {"exec": {"command": ["true"]}},
        }})));
        let lifecycle = &container(&pod, "app")["lifecycle"];
        let stop = "/app-lifecycle/app/prestopz";
        assert_eq!(lifecycle["preStop"], json!({"httpGet": through(stop)}));
        assert_eq!(
            lifecycle["postStart"],
            json!({"exec": {"command": ["true"]}})
        );
        let get = json!({"path": "/stop", "port": 8080, "scheme": "HTTPS"});
        assert_eq!(told(&pod), Some(json!({stop: {"httpGet": get}})));
    }

    #[test]
    fn i8_sidecars_of_the_users_own_are_probed_through_the_proxy_too() {
        let mut pod = annotated(&[]);
        pod["spec"]["initContainers"] = json!([{
            "name": "db", "restartPolicy": "Always",
            "startupProbe": {"tcpSocket": {"port": 5432}},
        }]);
        let pod = injected(&pod);
        let probe = &container(&pod, "db")["startupProbe"];
        assert_eq!(
            *probe,
            json!({"httpGet": through("/app-health/db/startupz")})
        );
    }

    #[test]
    fn i8_what_does_not_ask_over_the_network_stays() {
        let exec = json!({"exec": {"command": ["pg_isready"]}});
        let pod = injected(&with_app(json!({"livenessProbe": exec})));
        assert_eq!(container(&pod, "app")["livenessProbe"], exec);
        assert_eq!(told(&pod), None);
    }

    #[test]
    fn i8_who_opts_out_is_asked_directly_and_so_is_who_is_not_captured() {
        let probe = json!({"httpGet": {"path": "/", "port": 80}});
        let app = with_app(json!({"readinessProbe": probe}));
        for (key, value) in [
            ("sidecar.istio.io/rewriteAppHTTPProbers", "false"),
            ("status.sidecar.istio.io/port", "0"),
            ("traffic.sidecar.istio.io/includeInboundPorts", ""),
        ] {
            let mut pod = app.clone();
            pod["metadata"]["annotations"][key] = json!(value);
            let pod = injected(&pod);
            assert_eq!(container(&pod, "app")["readinessProbe"], probe, "{key}");
            assert_eq!(told(&pod), None, "{key}");
        }
        let off = Settings {
            rewrite_probes: false,
            ..settings()
        };
        let mut pod = app;
        assert_eq!(told(&injected_with(&off, &pod)), None);
        pod["metadata"]["annotations"]["sidecar.istio.io/rewriteAppHTTPProbers"] = json!("true");
        assert!(
            told(&injected_with(&off, &pod)).is_some(),
            "the pod's own word wins"
        );
    }

    #[test]
    fn i8_a_probe_that_cannot_be_rewritten_stays_and_that_is_said() {
        let probes = json!({
            "livenessProbe": {"httpGet": {"path": "/", "port": "web"}},
            "readinessProbe": {"tcpSocket": {"port": 80, "host": "db.example"}},
        });
        let pod = with_app(probes.clone());
        assert_eq!(
            warned(&pod),
            [
                "spec.containers[0].livenessProbe: the container has no port \"web\": the probe \
                 stays as it is",
                "spec.containers[0].readinessProbe: it asks the host \"db.example\", not the pod: \
                 the probe stays as it is",
            ]
        );
        let after = injected(&pod);
        for key in ["livenessProbe", "readinessProbe"] {
            assert_eq!(container(&after, "app")[key], probes[key]);
        }
    }

    #[test]
    fn i8_a_probe_that_would_keep_the_proxy_from_starting_stays() {
        let get = json!({"port": 80, "httpHeaders": [{"name": "A", "value": "a\nb"}]});
        for probe in [
            json!({"tcpSocket": {"port": 80}, "timeoutSeconds": 3601}),
            json!({"httpGet": get}),
        ] {
            let pod = with_app(json!({"livenessProbe": probe}));
            assert_eq!(warned(&pod).len(), 1, "{probe}");
            assert_eq!(container(&injected(&pod), "app")["livenessProbe"], probe);
        }
    }

    #[test]
    fn i8_a_probe_of_the_proxys_own_port_stays() {
        let probe = json!({"httpGet": {"path": "/healthz/ready", "port": 15021}});
        let pod = injected(&with_app(json!({"readinessProbe": probe})));
        assert_eq!(container(&pod, "app")["readinessProbe"], probe);
    }

    #[test]
    fn i8_another_status_port_is_where_probes_go_and_is_not_captured() {
        let mut pod = with_app(json!({"readinessProbe": {"httpGet": {"path": "/", "port": 80}}}));
        pod["metadata"]["annotations"]["status.sidecar.istio.io/port"] = json!("15099");
        let pod = injected(&pod);
        assert_eq!(
            container(&pod, "app")["readinessProbe"]["httpGet"]["port"],
            15099
        );
        let args = super::super::testing::args(&pod, "sortie-init");
        assert_eq!(args, ["capture", "apply", "--exclude-inbound-ports=15099"]);
        let args = super::super::testing::args(&pod, "sortie-proxy");
        assert!(args.contains(&"--status=[::]:15099"), "{args:?}");
        assert_eq!(
            pod["metadata"]["annotations"]["prometheus.io/port"],
            "15099"
        );
    }
}
