//! Connections of the application that would leave without the proxy (ISTIO.md C9, I10).
//!
//! Owns: which settings let everything, or port 80, go out as the application sends it.
//! Never: refuses them: each is legal, and may be meant.
//! Called by: plan.

use std::net::IpAddr;

use serde_json::Value;

use super::capture::INTERCEPTION;
use super::pod::{Pod, annotation_path, field};
use super::wishes::Wishes;
use super::{Settings, Warning};
use crate::model::Chosen;

/// The port of what is sent in clear text.
const PLAIN: u16 = 80;

/// What goes past the proxy.
pub(super) fn warnings(pod: Pod<'_>, settings: &Settings, wishes: &Wishes) -> Vec<Warning> {
    let traffic = |name: &str| annotation_path(&format!("traffic.sidecar.istio.io/{name}"));
    let mut found = Vec::new();
    if !wishes.captures() {
        if !finds_the_proxy(pod) {
            let message = format!(
                "nothing is captured: the application reaches the proxy only by \
                 HTTP_PROXY=http://{0}, or by hostAliases of the hosts that it calls to the address \
                 of {0}",
                settings.listen
            );
            found.push(Warning::new(annotation_path(INTERCEPTION), message));
        }
        return found;
    }
    let capture = &wishes.capture;
    let no_ranges = capture.outbound_ranges == Chosen::Only(Vec::new());
    if no_ranges && capture.outbound_ports.is_empty() {
        let message = "nothing that the application opens is captured: it leaves as it is sent";
        found.push(Warning::new(traffic("includeOutboundIPRanges"), message));
    }
    for range in capture
        .exclude_outbound_ranges
        .iter()
        .filter(|range| range.prefix_len() == 0)
    {
        let message = format!("{range} is every address: nothing that it has is captured");
        found.push(Warning::new(traffic("excludeOutboundIPRanges"), message));
    }
    if capture.exclude_outbound_ports.contains(&PLAIN) {
        let message = "port 80 is not captured: plain HTTP leaves in plain text";
        found.push(Warning::new(traffic("excludeOutboundPorts"), message));
    }
    found
}

/// The application is told of a proxy, or of names that are this pod's.
fn finds_the_proxy(pod: Pod<'_>) -> bool {
    let aliases = pod.spec("hostAliases").and_then(Value::as_array);
    let loopback = |alias: &Value| {
        let ip = field(alias, "ip").and_then(Value::as_str);
        ip.and_then(|ip| ip.parse::<IpAddr>().ok())
            .is_some_and(|ip| ip.is_loopback())
    };
    let variable = |one: &Value| {
        let name = field(one, "name").and_then(Value::as_str);
        name.is_some_and(|name| name.eq_ignore_ascii_case("http_proxy"))
    };
    let told = pod.containers().any(|container| {
        let env = container.fields.get("env").and_then(Value::as_array);
        env.is_some_and(|env| env.iter().any(variable))
    });
    told || aliases.is_some_and(|aliases| aliases.iter().any(loopback))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{annotated, warned};
    use super::*;

    #[test]
    fn c9_a_proxy_that_nothing_reaches_is_said_and_one_that_is_found_is_not() {
        let none = annotated(&[(INTERCEPTION, "NONE")]);
        let said = warned(&none);
        let part = "nothing is captured: the application reaches the proxy only by HTTP_PROXY=";
        assert!(said.len() == 1 && said[0].contains(part), "{said:?}");
        let mut told = none.clone();
        told["spec"]["containers"][0]["env"] = json!([{"name": "http_proxy", "value": "x"}]);
        assert_eq!(warned(&told), Vec::<String>::new());
        let mut alias = none;
        alias["spec"]["hostAliases"] = json!([{"ip": "127.0.0.1", "hostnames": ["bank.example"]}]);
        assert_eq!(warned(&alias), Vec::<String>::new());
    }

    #[test]
    fn i10_what_goes_past_the_proxy_as_a_whole_is_said_and_a_part_is_not() {
        let said = |name: &str, value: &str| {
            let key = format!("traffic.sidecar.istio.io/{name}");
            warned(&annotated(&[(&key, value)])).len()
        };
        assert_eq!(said("includeOutboundIPRanges", ""), 1);
        assert_eq!(said("includeOutboundIPRanges", "10.0.0.0/8"), 0);
        assert_eq!(said("excludeOutboundIPRanges", "0.0.0.0/0"), 1);
        assert_eq!(said("excludeOutboundIPRanges", "10.0.0.0/8"), 0);
        assert_eq!(said("excludeOutboundPorts", "443,80"), 1);
        assert_eq!(said("excludeOutboundPorts", "3306"), 0);
    }
}
