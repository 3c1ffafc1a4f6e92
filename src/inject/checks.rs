//! What in a pod cannot go together with a sidecar, and what gets around it (ISTIO.md C1, C8).
//!
//! Owns: names and ports that are taken, users that are not captured.
//! Never: looks at annotations.
//! Called by: plan.

use serde_json::Value;

use super::containers::{ADMIN_PORT, INIT, PROXY, READY_PORT};
use super::pod::{Container, Pod, field};
use super::settings::Settings;
use super::wishes::Wishes;
use super::{Path, Refusal, Warning, mounts};
use crate::model::{LOCAL_PORTS, PROXY_ID, TUNNEL_PORT};

/// # Errors
/// A container or volume has a name of ours.
pub(super) fn names(pod: Pod<'_>) -> Result<(), Refusal> {
    let advice = "give it another name; or, if an older sortie has put it in, take it away with \
                  its annotation sortie/status";
    if let Some(one) = pod
        .containers()
        .find(|one| [INIT, PROXY].contains(&one.name))
    {
        let problem = format!(
            "{} is the name of a container that sortie puts in",
            one.name
        );
        return Err(Refusal::new(one.path.key("name"), problem, advice));
    }
    let volume = pod
        .volumes()
        .find(|(_, name, _)| name.starts_with(mounts::PREFIX));
    match volume {
        None => Ok(()),
        Some((nth, name, _)) => {
            let path = super::pod::spec_path("volumes").item(nth).key("name");
            let problem = format!("{name} begins like the volumes that sortie puts in");
            Err(Refusal::new(path, problem, advice))
        }
    }
}

/// Ports of the proxy in this pod, and what for.
fn taken(settings: &Settings, wishes: &Wishes) -> Vec<(u16, &'static str)> {
    let mut all = vec![
        (ADMIN_PORT, "the proxy's admin port"),
        (READY_PORT, "the proxy's readiness port"),
    ];
    all.extend(
        wishes
            .status_port
            .map(|port| (port, "the proxy's status port")),
    );
    match wishes.captures() {
        true => {
            let capture = &wishes.capture;
            all.push((
                capture.outbound_port,
                "where outbound connections are redirected to",
            ));
            all.push((
                capture.inbound_port,
                "where inbound connections are redirected to",
            ));
            let open = LOCAL_PORTS.into_iter().chain([TUNNEL_PORT]);
            all.extend(open.map(|port| (port, "never captured, so nothing would protect it")));
        }
        false => {
            let port = settings
                .listen
                .rsplit(':')
                .next()
                .and_then(|port| port.parse().ok());
            all.extend(port.map(|port| (port, "where the proxy listens for the application")));
        }
    }
    all
}

/// # Errors
/// A container has a port of the proxy's.
pub(super) fn ports(pod: Pod<'_>, settings: &Settings, wishes: &Wishes) -> Result<(), Refusal> {
    let taken = taken(settings, wishes);
    for container in pod.containers() {
        let ports = container.fields.get("ports").and_then(Value::as_array);
        for (nth, port) in ports.into_iter().flatten().enumerate() {
            let protocol = field(port, "protocol").and_then(Value::as_str);
            if protocol.is_some_and(|protocol| protocol != "TCP") {
                continue;
            }
            // A hostPort is the node's: it meets nothing in the pod.
            let number = field(port, "containerPort").and_then(Value::as_u64);
            let found = taken
                .iter()
                .find(|(taken, _)| Some(u64::from(*taken)) == number);
            if let Some((number, what)) = found {
                let path = container.path.key("ports").item(nth);
                let path = path.key("containerPort");
                return Err(conflict(&container, path, *number, what));
            }
        }
    }
    Ok(())
}

fn conflict(container: &Container<'_>, path: Path, number: u16, what: &str) -> Refusal {
    let problem = format!(
        "the container {} has the port {number}, which is {what}",
        container.name
    );
    Refusal::new(path, problem, "let the application listen on another port")
}

/// IST0144: what the proxy's own user and group send is let go.
pub(super) fn users(pod: Pod<'_>, wishes: &Wishes) -> Vec<Warning> {
    let id = u64::from(PROXY_ID);
    let mut found = Vec::new();
    if !wishes.captures() {
        return found;
    }
    let context = pod.spec("securityContext");
    for container in pod.containers() {
        let own = container.fields.get("securityContext");
        for key in ["runAsUser", "runAsGroup"] {
            let said = |context: Option<&Value>| field(context?, key)?.as_u64();
            let (path, user) = match said(own) {
                Some(user) => (container.path.key("securityContext"), Some(user)),
                None => (super::pod::spec_path("securityContext"), said(context)),
            };
            if user == Some(id) {
                let message = format!(
                    "the container {} runs as {PROXY_ID}, as the proxy does: what it sends is not \
                     captured; give it another one",
                    container.name
                );
                found.push(Warning::new(path.key(key), message).coded("IST0144"));
            }
        }
    }
    found
}

/// Init containers that run before there is a proxy (C8), and sidecars of the pod's own among them,
/// whose connections are older than the rules.
pub(super) fn early(pod: Pod<'_>, wishes: &Wishes) -> Option<Warning> {
    if !wishes.captures() || wishes.native {
        return None;
    }
    let first = pod.containers_of("initContainers").next()?;
    let message = format!(
        "the init container {} begins before the proxy: what it opens until then is not captured; \
         a native sidecar (sidecar.istio.io/nativeSidecar: \"true\") would be there before it",
        first.name
    );
    Some(Warning::new(first.path, message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{annotated, injected, refused, warned, with_app};

    #[test]
    fn c1_a_port_of_the_proxys_is_refused_with_container_and_port() {
        for port in [15000, 15001, 15006, 15008, 15020, 15021, 15090] {
            let ports = json!([{"containerPort": 80}, {"containerPort": port}]);
            let error = refused(&with_app(json!({"ports": ports}))).to_string();
            let begin = format!(
                "spec.containers[0].ports[1].containerPort: the container app has the port {port}, \
                 which is "
            );
            assert!(error.starts_with(&begin), "{error}");
            let end = "; let the application listen on another port";
            assert!(error.ends_with(end), "{error}");
        }
    }

    #[test]
    fn c1_a_port_that_is_not_the_proxys_is_the_applications() {
        injected(&with_app(json!({"ports": [{"containerPort": 15002}]})));
        injected(&with_app(
            json!({"ports": [{"containerPort": 8080, "hostPort": 15021}]}),
        ));
        injected(&with_app(
            json!({"ports": [{"containerPort": 15001, "protocol": "UDP"}]}),
        ));
        // Without capture there are neither listeners nor rules.
        let mut pod = with_app(json!({"ports": [{"containerPort": 15001}]}));
        pod["metadata"]["annotations"] = json!({"sidecar.istio.io/interceptionMode": "NONE"});
        injected(&pod);
        pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80}]);
        let problem = "the container app has the port 80, which is where the proxy listens for the \
                       application";
        assert_eq!(refused(&pod).problem, problem);
    }

    #[test]
    fn i3_a_name_of_sorties_own_is_refused_where_sortie_has_not_put_it() {
        for name in ["sortie-proxy", "sortie-init"] {
            let mut pod = annotated(&[]);
            pod["spec"]["initContainers"] = json!([{"name": name}]);
            let error = refused(&pod).to_string();
            let begin = format!("spec.initContainers[0].name: {name} is the name of a container");
            assert!(error.starts_with(&begin), "{error}");
        }
        let mut pod = annotated(&[]);
        pod["spec"]["volumes"] = json!([{"name": "sortie-config", "emptyDir": {}}]);
        assert!(
            refused(&pod)
                .to_string()
                .starts_with("spec.volumes[0].name: sortie-config begins")
        );
    }

    #[test]
    fn c8_an_application_that_runs_as_the_proxy_is_said_and_another_is_not() {
        let said = warned(&with_app(json!({"securityContext": {"runAsUser": 1337}})));
        let expected = "[IST0144] spec.containers[0].securityContext.runAsUser: the container app \
                        runs as 1337, as the proxy does: what it sends is not captured; give it \
                        another one";
        assert_eq!(said, [expected]);
        let mut pod = with_app(json!({"securityContext": {"runAsUser": 1000}}));
        pod["spec"]["securityContext"] = json!({"runAsUser": 1337, "runAsGroup": 1337});
        let said = warned(&pod);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].starts_with("[IST0144] spec.securityContext.runAsGroup: "),
            "{said:?}"
        );
    }

    #[test]
    fn c8_an_init_container_before_the_proxy_is_said_and_beside_a_native_one_not() {
        let mut pod = annotated(&[]);
        for container in [
            json!({"name": "m"}),
            json!({"name": "m", "restartPolicy": "Always"}),
        ] {
            pod["spec"]["initContainers"] = json!([container]);
            let said = warned(&pod);
            let begin = "spec.initContainers[0]: the init container m begins before the proxy";
            assert!(said[0].starts_with(begin), "{said:?}");
        }
        pod["metadata"]["annotations"]["sidecar.istio.io/nativeSidecar"] = json!("true");
        assert_eq!(warned(&pod), Vec::<String>::new());
    }
}
