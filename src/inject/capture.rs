//! What is captured of a pod (ISTIO.md I10, C2 to C4).
//!
//! Owns: the annotations of `traffic.sidecar.istio.io` and the interception mode, and what two of
//! them cannot say together.
//! Never: writes a flag (that is `model::CaptureSpec`).
//! Called by: wishes.
//!
//! Why contradictions are refused here: `sortie capture` refuses them too, but only when the pod
//! starts, and then it starts for ever.

use std::fmt::Display;
use std::str::FromStr;

use super::Refusal;
use super::pod::annotation_path;
use super::said::{Said, refused};
use crate::model::{
    CaptureSpec, Chosen, Interception, LOCAL_PORTS, ListError, Listed, TUNNEL_PORT, list,
};

/// Their domain.
const TRAFFIC: &str = "traffic.sidecar.istio.io";
/// How connections are redirected.
pub(super) const INTERCEPTION: &str = "sidecar.istio.io/interceptionMode";
/// The newer name of `kubevirtInterfaces`.
const VIRTUAL: &str = "istio.io/reroute-virtual-interfaces";

/// `spec` with what the pod says in its place.
///
/// # Errors
/// A list with a word that does not fit.
pub(super) fn capture(said: &mut Said<'_>, mut spec: CaptureSpec) -> Result<CaptureSpec, Refusal> {
    if let Some(mode) = read(said, INTERCEPTION, Interception::from_str)? {
        spec.interception = mode;
    }
    let ranges = "includeOutboundIPRanges";
    replace(said, ranges, Chosen::from_str, &mut spec.outbound_ranges)?;
    let ports = "includeInboundPorts";
    replace(said, ports, Chosen::from_str, &mut spec.inbound_ports)?;
    listed(
        said,
        "excludeOutboundIPRanges",
        &mut spec.exclude_outbound_ranges,
    )?;
    listed(said, "includeOutboundPorts", &mut spec.outbound_ports)?;
    listed(
        said,
        "excludeOutboundPorts",
        &mut spec.exclude_outbound_ports,
    )?;
    listed(said, "excludeInboundPorts", &mut spec.exclude_inbound_ports)?;
    listed(said, "excludeInterfaces", &mut spec.exclude_interfaces)?;
    listed(said, "kubevirtInterfaces", &mut spec.virtual_interfaces)?;
    if let Some(interfaces) = read(said, VIRTUAL, list)? {
        spec.virtual_interfaces = interfaces;
    }
    Ok(spec)
}

fn listed<T: Listed>(said: &Said<'_>, name: &str, out: &mut Vec<T>) -> Result<(), Refusal> {
    replace(said, name, list, out)
}

fn replace<T>(
    said: &Said<'_>,
    name: &str,
    parse: impl FnOnce(&str) -> Result<T, ListError>,
    out: &mut T,
) -> Result<(), Refusal> {
    if let Some(value) = read(said, &format!("{TRAFFIC}/{name}"), parse)? {
        *out = value;
    }
    Ok(())
}

fn read<T>(
    said: &Said<'_>,
    key: &str,
    parse: impl FnOnce(&str) -> Result<T, ListError>,
) -> Result<Option<T>, Refusal> {
    let Some(text) = said.text(key) else {
        return Ok(None);
    };
    match parse(text) {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(Refusal {
            problem: error.to_string(),
            ..refused(
                key,
                text,
                "a list such as that of istio-iptables, or * for all",
            )
        }),
    }
}

/// # Errors
/// Something is both captured and not.
pub(super) fn consistent(spec: &CaptureSpec, status_port: Option<u16>) -> Result<(), Refusal> {
    if spec.interception == Interception::Off {
        return Ok(());
    }
    let own = |port: &&u16| {
        LOCAL_PORTS.contains(port) || **port == TUNNEL_PORT || status_port == Some(**port)
    };
    let inbound = chosen(&spec.inbound_ports);
    if let Some(port) = inbound.iter().find(own) {
        let problem = format!("{port} is answered by the proxy itself, and is never captured");
        let path = annotation_path(&format!("{TRAFFIC}/includeInboundPorts"));
        return Err(Refusal::new(path, problem, "take it out of the list"));
    }
    apart(
        inbound,
        &spec.exclude_inbound_ports,
        ["includeInboundPorts", "excludeInboundPorts"],
    )?;
    let ports = ["includeOutboundPorts", "excludeOutboundPorts"];
    apart(&spec.outbound_ports, &spec.exclude_outbound_ports, ports)?;
    let ranges = ["includeOutboundIPRanges", "excludeOutboundIPRanges"];
    apart(
        chosen(&spec.outbound_ranges),
        &spec.exclude_outbound_ranges,
        ranges,
    )?;
    let interfaces = ["kubevirtInterfaces", "excludeInterfaces"];
    apart(
        &spec.virtual_interfaces,
        &spec.exclude_interfaces,
        interfaces,
    )
}

fn chosen<T>(words: &Chosen<T>) -> &[T] {
    match words {
        Chosen::All => &[],
        Chosen::Only(words) => words,
    }
}

/// Nothing is in both lists.
fn apart<T: PartialEq + Display>(
    included: &[T],
    excluded: &[T],
    [include, exclude]: [&str; 2],
) -> Result<(), Refusal> {
    let Some(word) = included.iter().find(|word| excluded.contains(word)) else {
        return Ok(());
    };
    let path = annotation_path(&format!("{TRAFFIC}/{exclude}"));
    let problem = format!("{word} is in {TRAFFIC}/{include} as well");
    Err(Refusal::new(path, problem, "take it out of one of them"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{annotated, args, injected, names, refused};

    /// What `sortie-init` is told for one annotation.
    fn told(name: &str, value: &str) -> Vec<String> {
        let pod = injected(&annotated(&[(
            &format!("traffic.sidecar.istio.io/{name}"),
            value,
        )]));
        let args = args(&pod, "sortie-init");
        args.iter().map(|arg| (*arg).to_owned()).collect()
    }

    #[test]
    fn i10_every_annotation_of_traffic_becomes_its_flag() {
        for (name, value, flag) in [
            (
                "includeOutboundIPRanges",
                "10.1.0.0/16",
                "--outbound-ranges=10.1.0.0/16",
            ),
            (
                "excludeOutboundIPRanges",
                "10.1.2.3",
                "--exclude-outbound-ranges=10.1.2.3/32",
            ),
            ("includeOutboundPorts", "80, 443", "--outbound-ports=80,443"),
            (
                "excludeOutboundPorts",
                "3306",
                "--exclude-outbound-ports=3306",
            ),
            ("includeInboundPorts", "8080", "--inbound-ports=8080"),
            ("excludeInboundPorts", "22", "--exclude-inbound-ports=22"),
            (
                "excludeInterfaces",
                "eth1,net1",
                "--exclude-interfaces=eth1,net1",
            ),
            ("kubevirtInterfaces", "vnet0", "--virtual-interfaces=vnet0"),
        ] {
            assert_eq!(told(name, value), ["capture", "apply", flag], "{name}");
        }
    }

    #[test]
    fn i10_a_star_is_all_and_an_empty_list_is_none() {
        assert_eq!(told("includeOutboundIPRanges", "*"), ["capture", "apply"]);
        let none = ["capture", "apply", "--outbound-ranges="];
        assert_eq!(told("includeOutboundIPRanges", ""), none);
        assert_eq!(told("includeInboundPorts", "*"), ["capture", "apply"]);
        assert_eq!(
            told("includeInboundPorts", ""),
            ["capture", "apply", "--inbound-ports="]
        );
    }

    #[test]
    fn i10_a_list_with_another_word_is_refused_by_the_annotations_name() {
        let pod = annotated(&[(
            "traffic.sidecar.istio.io/excludeOutboundPorts",
            "3306,mysql",
        )]);
        assert_eq!(
            refused(&pod).to_string(),
            "metadata.annotations[\"traffic.sidecar.istio.io/excludeOutboundPorts\"]: \"mysql\" is \
             not a port, 1 to 65535; expected a list such as that of istio-iptables, or * for all"
        );
    }

    #[test]
    fn i10_what_is_both_captured_and_not_is_refused_before_the_pod_starts() {
        let pod = annotated(&[
            ("traffic.sidecar.istio.io/includeInboundPorts", "80,22"),
            ("traffic.sidecar.istio.io/excludeInboundPorts", "22"),
        ]);
        assert_eq!(
            refused(&pod).problem,
            "22 is in traffic.sidecar.istio.io/includeInboundPorts as well"
        );
        let pod = annotated(&[
            ("traffic.sidecar.istio.io/includeInboundPorts", "80,15099"),
            ("status.sidecar.istio.io/port", "15099"),
        ]);
        let problem = "15099 is answered by the proxy itself, and is never captured";
        assert_eq!(refused(&pod).problem, problem);
    }

    #[test]
    fn i10_tproxy_runs_the_proxy_as_root_of_its_own_group_and_redirect_does_not() {
        let mode = "sidecar.istio.io/interceptionMode";
        let pod = injected(&annotated(&[(mode, "TPROXY")]));
        let rights = |pod| {
            let context = &super::super::testing::container(pod, "sortie-proxy")["securityContext"];
            let ids = ["runAsUser", "runAsGroup"].map(|key| context[key].as_u64().unwrap());
            (
                ids,
                context["capabilities"].to_string(),
                context["runAsNonRoot"].clone(),
            )
        };
        let net_admin = r#"{"add":["NET_ADMIN"],"drop":["ALL"]}"#.to_owned();
        assert_eq!(rights(&pod), ([0, 1337], net_admin, false.into()));
        assert!(args(&pod, "sortie-proxy").contains(&"--interception=TPROXY"));
        assert_eq!(
            args(&pod, "sortie-init").last(),
            Some(&"--interception=TPROXY")
        );
        let pod = injected(&annotated(&[(mode, "REDIRECT")]));
        assert_eq!(
            rights(&pod),
            ([1337, 1337], r#"{"drop":["ALL"]}"#.to_owned(), true.into())
        );
        assert!(!args(&pod, "sortie-proxy").contains(&"--interception=TPROXY"));
    }

    #[test]
    fn c9_without_capture_the_proxy_listens_and_nothing_else_is_done() {
        let pod = injected(&annotated(&[("sidecar.istio.io/interceptionMode", "NONE")]));
        assert_eq!(names(&pod, "initContainers"), Vec::<&str>::new());
        let args = args(&pod, "sortie-proxy");
        assert!(args.contains(&"--listen=127.0.0.1:80"), "{args:?}");
        assert!(
            !args
                .iter()
                .any(|arg| arg.starts_with("--capture") || arg.starts_with("--inbound"))
        );
        assert!(
            pod["metadata"]["labels"]
                .get("security.istio.io/tlsMode")
                .is_none()
        );
        let sysctl = r#"{"sysctls":[{"name":"net.ipv4.ip_unprivileged_port_start","value":"0"}]}"#;
        assert_eq!(pod["spec"]["securityContext"].to_string(), sysctl);
    }
}
