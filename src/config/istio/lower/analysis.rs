//! What is odd about services and DestinationRules, whether or not anything uses them (ISTIO.md B13).
//!
//! Owns: IST0118, IST0127, IST0134, IST0173, IST0174, IST0177, and SRT0502 of DestinationRules.
//! Never: changes what is served.
//! Called by: lower, once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::auto_mtls;
use super::mtls_analysis;
use super::names;
use super::registry::{Known, Registry};
use super::report;
use super::workloads::Workloads;
use crate::config::diagnostic::{Code, Diagnostics};
use crate::config::istio::Manifests;
use crate::config::istio::destination_rule::DestinationRule;
use crate::config::istio::manifests::Governs;
use crate::config::istio::meta::{Labels, Meta, selects};
use crate::config::istio::service_entry::{EntryResolution, Protocol, TargetPort};
use crate::config::options::LoadOptions;
use crate::model::{HostPattern, Place};

/// Says all of it.
pub fn check(
    manifests: &Manifests,
    registry: &Registry,
    options: &LoadOptions,
    out: &mut Diagnostics,
) {
    port_names(manifests, out);
    tcp_ports(manifests, out);
    conflicts(registry, out);
    merged_ports(manifests, out);
    selectors(manifests, options, out);
    for rule in &manifests.destination_rules {
        rule_for(rule, manifests, registry, options, out);
    }
    auto_mtls::unknown_targets(manifests, out);
    mtls_analysis::check(manifests, registry, options, out);
}

/// IST0118: a Service's port whose name says nothing of the protocol.
fn port_names(manifests: &Manifests, out: &mut Diagnostics) {
    for service in &manifests.services {
        for port in &service.ports {
            if port.protocol == Protocol::Sniff && service.external_name.is_none() {
                let problem = format!(
                    "port {} is named {:?}, which says nothing of its protocol: the first bytes of \
                     each connection are looked at",
                    port.number, port.name
                );
                let advice = "begin the name with http-, http2-, grpc-, https-, tls- or tcp-, or \
                              write appProtocol";
                let object = service.meta.object();
                let code = Code::PortNameWithoutProtocol;
                out.push(report::at(&object, &port.place, code, problem, advice));
            }
        }
    }
}

/// IST0134: a TCP port of a ServiceEntry without addresses is that port of every address (V20).
fn tcp_ports(manifests: &Manifests, out: &mut Diagnostics) {
    for entry in &manifests.service_entries {
        if !entry.addresses.is_empty() {
            continue;
        }
        for port in &entry.ports {
            if port.protocol == Protocol::Tcp {
                let problem = format!(
                    "port {} is TCP and the entry has no addresses, and so it takes every \
                     connection to port {}, wherever it goes",
                    port.number, port.number
                );
                let advice = "write addresses, or protocol TLS if the bytes are TLS";
                let object = entry.meta.object();
                let code = Code::TcpWithoutAddresses;
                out.push(report::at(&object, &port.place, code, problem, advice));
            }
        }
    }
}

/// What a protocol means for a port that services share.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Http,
    Opaque,
}

fn class(protocol: Protocol) -> Option<Class> {
    match protocol {
        Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::GrpcWeb => Some(Class::Http),
        Protocol::Tcp => Some(Class::Opaque),
        // TLS is told from both by its first bytes, and nothing is known of the others.
        Protocol::Tls | Protocol::Udp | Protocol::Sniff => None,
    }
}

/// IST0177: one port of every address, HTTP to one ServiceEntry and TCP to another (V20).
fn conflicts(registry: &Registry, out: &mut Diagnostics) {
    let mut first: HashMap<u16, (Class, &Known, &Place)> = HashMap::new();
    let entries = registry.services.iter().filter(|known| !known.kubernetes);
    for known in entries.filter(|known| known.addresses.is_empty()) {
        for port in &known.ports {
            let Some(class) = class(port.protocol) else {
                continue;
            };
            let held = *first
                .entry(port.number)
                .or_insert((class, known, &port.place));
            let (other, by, place) = held;
            if other != class {
                let problem = format!(
                    "port {} of {} is {}, and {} at {place} declares it {} for every address",
                    port.number,
                    known.host,
                    class.name(),
                    by.object,
                    other.name(),
                );
                let advice = "give the TCP service addresses, or another port";
                let code = Code::ProtocolsConflict;
                out.push(report::at(
                    &known.object,
                    &port.place,
                    code,
                    problem,
                    advice,
                ));
            }
        }
    }
}

impl Class {
    fn name(self) -> &'static str {
        match self {
            Class::Http => "HTTP",
            Class::Opaque => "TCP",
        }
    }
}

/// IST0177: ServiceEntries of one host and namespace that disagree about a port.
fn merged_ports(manifests: &Manifests, out: &mut Diagnostics) {
    type Key<'a> = (&'a HostPattern, &'a str, u16);
    let mut first: HashMap<Key<'_>, (Protocol, &Meta)> = HashMap::new();
    for entry in &manifests.service_entries {
        for host in &entry.hosts {
            for port in &entry.ports {
                let key = (&host.value, entry.meta.namespace.as_ref(), port.number);
                let held = first.entry(key).or_insert((port.protocol, &entry.meta));
                if held.0 != port.protocol {
                    let problem = format!(
                        "port {} of {} has another protocol in {} ({})",
                        port.number, host.value, held.1, held.1.place
                    );
                    let advice = "declare the port once, or with the same protocol";
                    let object = entry.meta.object();
                    let code = Code::ProtocolsConflict;
                    out.push(report::at(&object, &port.place, code, problem, advice));
                }
            }
        }
    }
}

/// IST0127: selectors that match no workload, where any workload of the namespace is known.
fn selectors(manifests: &Manifests, options: &LoadOptions, out: &mut Diagnostics) {
    let workloads = Workloads::new(manifests);
    let facts = &options.facts;
    let mut check = |meta: &Meta, labels: Option<&Labels>, always: bool| {
        let Some(labels) = labels.filter(|labels| !labels.is_empty()) else {
            return;
        };
        let namespace = meta.namespace.as_ref();
        let itself = meta.namespace == facts.namespace && selects(labels, &facts.labels);
        let found = itself
            || workloads.entries(namespace, labels).next().is_some()
            || workloads.pods(namespace, labels).next().is_some();
        if !found && (always || workloads.knows(namespace)) {
            let wanted: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let problem = format!(
                "its selector {} matches no workload of namespace {namespace:?}",
                wanted.join(",")
            );
            let advice = "correct the labels, or load the workloads' documents too";
            out.push(report::about(
                meta,
                Code::SelectsNoWorkload,
                problem,
                advice,
            ));
        }
    };
    for entry in &manifests.service_entries {
        check(&entry.meta, entry.selector.as_ref(), true);
    }
    let endpoints = manifests.endpoints.iter();
    let declared: HashSet<(&str, &str)> = endpoints
        .map(|one| (one.meta.namespace.as_ref(), one.service.as_ref()))
        .collect();
    for service in &manifests.services {
        let meta = &service.meta;
        if !declared.contains(&(meta.namespace.as_ref(), meta.name.as_ref())) {
            check(meta, Some(&service.selector), false);
        }
    }
    for policy in &manifests.peer_authentications {
        check(&policy.meta, policy.selector.as_ref(), false);
    }
    for sidecar in &manifests.sidecars {
        check(&sidecar.meta, sidecar.selector.as_ref(), false);
    }
    for rule in &manifests.destination_rules {
        check(&rule.meta, rule.selector.as_ref(), false);
    }
}

fn rule_for(
    rule: &DestinationRule,
    manifests: &Manifests,
    registry: &Registry,
    options: &LoadOptions,
    out: &mut Diagnostics,
) {
    let domain = &options.facts.cluster_domain;
    let written = &rule.host;
    let Ok(host) = names::expand(&written.value, &rule.meta.namespace, domain) else {
        return;
    };
    let object = rule.meta.object();
    if let Some(known) = registry.destination(&host) {
        if known.host != host {
            let problem = format!(
                "{host} is another name of {}, whose rules apply",
                known.host
            );
            let advice = format!("write {}: the rule has no effect", known.host);
            let code = Code::RuleForUnknownHost;
            return out.push(report::at(&object, &written.place, code, problem, advice));
        }
        ports(rule, known, out);
        return subsets(rule, known, out);
    }
    if let Some(full) = dotted(&written.value, manifests, domain) {
        let problem = format!(
            "host {:?} has a dot, and so it is no short name: it does not mean {full}",
            written.value
        );
        let advice = format!("write {full}");
        let code = Code::DottedShortName;
        out.push(report::at(&object, &written.place, code, problem, advice));
        return;
    }
    if !may_apply(&host, manifests, registry, domain) {
        let problem = format!("no service that this proxy sees has the host {host}");
        let advice = "declare it in a ServiceEntry, or correct the host: the rule has no effect";
        let code = Code::RuleForUnknownHost;
        out.push(report::at(&object, &written.place, code, problem, advice));
    }
}

/// A wildcard of some service, a name that only the cluster's DNS knows, or what was refused.
fn may_apply(host: &HostPattern, manifests: &Manifests, registry: &Registry, domain: &str) -> bool {
    let by_dns = match host {
        HostPattern::Exact(name) => names::cluster_local(name.as_str(), domain).is_some(),
        HostPattern::Suffix(_) | HostPattern::Any => {
            let mut services = registry.services.iter();
            services.any(|known| host.matches(&known.host.to_string()))
        }
    };
    let mut refused = manifests.refused.iter();
    by_dns
        || refused.any(|object| match &object.governs {
            Governs::Hosts(hosts) => hosts.contains(host),
            Governs::Nothing | Governs::Entries(..) | Governs::Unknown => false,
        })
}

/// H3: `X.Y` where there is a Service X in namespace Y.
fn dotted(written: &str, manifests: &Manifests, domain: &str) -> Option<String> {
    let (name, namespace) = written.split_once('.')?;
    let mut services = manifests.services.iter();
    let meant = |meta: &Meta| *meta.name == *name && *meta.namespace == *namespace;
    services
        .any(|service| meant(&service.meta))
        .then(|| format!("{name}.{namespace}.svc.{domain}"))
}

/// IST0133: entries for ports that the service does not have (D4).
fn ports(rule: &DestinationRule, known: &Known, out: &mut Diagnostics) {
    let of_subsets = rule.subsets.iter().filter_map(|one| one.policy.as_ref());
    let policies = rule.policy.iter().chain(of_subsets);
    for entry in policies.flat_map(|policy| &policy.ports) {
        if known.port(entry.port).is_some() {
            continue;
        }
        let target = Some(TargetPort::Number(entry.port));
        let mut declared = known.ports.iter();
        let meant = declared.find(|port| port.target == target);
        let problem = format!(
            "portLevelSettings for port {}, which is no port of {}: it has no effect",
            entry.port, known.object
        );
        let advice = match meant {
            Some(port) => format!(
                "write {}: {} is its targetPort, and service ports are what counts here",
                port.number, entry.port
            ),
            None => "write one of the service's ports".to_owned(),
        };
        let object = rule.meta.object();
        out.push(report::at(
            &object,
            &entry.place,
            Code::SchemaWarning,
            problem,
            advice,
        ));
    }
}

/// IST0173: subsets that select nothing.
fn subsets(rule: &DestinationRule, known: &Known, out: &mut Diagnostics) {
    if matches!(
        known.resolution,
        EntryResolution::None | EntryResolution::DynamicDns
    ) {
        return;
    }
    for subset in &rule.subsets {
        let mut endpoints = known.endpoints.iter();
        if endpoints.any(|endpoint| selects(&subset.labels, &endpoint.labels)) {
            continue;
        }
        let wanted: Vec<String> = subset
            .labels
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        let problem = format!(
            "subset {:?} wants endpoints labelled {}, and none of the {} of {} is",
            subset.name,
            wanted.join(","),
            known.endpoints.len(),
            known.object
        );
        let advice = "correct the labels, or load the documents of the pods that have them";
        let object: Arc<str> = rule.meta.object();
        let code = Code::SubsetSelectsNothing;
        out.push(report::at(&object, &subset.place, code, problem, advice));
    }
}

#[cfg(test)]
mod tests {
    use crate::config::istio::lower::testing::Lab;

    /// What is said with `code`.
    fn said(code: &str, text: &str) -> Vec<String> {
        let (_, said) = Lab::new(text).registry();
        let wanted = format!("[{code}]");
        said.into_iter()
            .filter(|line| line.contains(&wanted))
            .collect()
    }

    fn entry(name: &str, spec: &str) -> String {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\n\
             spec: {{hosts: [{name}.example], {spec}}}\n"
        )
    }

    fn port(number: u16, protocol: &str) -> String {
        format!("ports: [{{number: {number}, name: p, protocol: {protocol}}}], resolution: DNS")
    }

    #[test]
    fn ist0118_a_port_name_that_says_nothing_of_its_protocol() {
        let service = |port: &str| {
            format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: n}}\nspec: {{ports: [{{port: 80{port}}}]}}\n"
            )
        };
        assert_eq!(said("IST0118", &service(", name: web")).len(), 1);
        assert_eq!(
            said("IST0118", &service(", name: http-web")),
            Vec::<String>::new()
        );
        let declared = service(", name: web, appProtocol: http");
        assert_eq!(said("IST0118", &declared), Vec::<String>::new());
    }

    #[test]
    fn ist0134_tcp_without_addresses_takes_the_whole_port() {
        assert_eq!(
            said("IST0134", &entry("a", &port(5432, "TCP"))),
            [
                "t.yaml:5: warning[IST0134] ServiceEntry default/a: port 5432 is TCP and the entry \
              has no addresses, and so it takes every connection to port 5432, wherever it goes; \
              write addresses, or protocol TLS if the bytes are TLS"
            ]
        );
        let with = format!("{}, addresses: [10.0.0.1]", port(5432, "TCP"));
        assert_eq!(said("IST0134", &entry("a", &with)), Vec::<String>::new());
        assert_eq!(
            said("IST0134", &entry("a", &port(443, "TLS"))),
            Vec::<String>::new()
        );
    }

    #[test]
    fn ist0177_http_and_tcp_on_one_port_of_every_address() {
        let two = |a: &str, b: &str| entry("a", &port(80, a)) + &entry("b", &port(80, b));
        assert_eq!(said("IST0177", &two("HTTP", "TCP")).len(), 1);
        assert_eq!(said("IST0177", &two("HTTP", "GRPC")), Vec::<String>::new());
        assert_eq!(said("IST0177", &two("TCP", "TLS")), Vec::<String>::new());
    }

    #[test]
    fn ist0177_two_entries_of_one_host_that_disagree() {
        let two = |b: &str| {
            let second = entry("b", &port(80, b)).replace("b.example", "a.example");
            entry("a", &port(80, "HTTP")) + &second
        };
        assert_eq!(said("IST0177", &two("TLS")).len(), 1);
        assert_eq!(said("IST0177", &two("HTTP")), Vec::<String>::new());
    }

    #[test]
    fn ist0127_a_selector_that_matches_nobody() {
        let spec = "ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, \
                    workloadSelector: {labels: {app: a}}";
        let workload = |app: &str| {
            format!(
                "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: w}}\n\
                 spec: {{address: 10.0.0.1, labels: {{app: {app}}}}}\n"
            )
        };
        assert_eq!(said("IST0127", &entry("a", spec)).len(), 1);
        let with = entry("a", spec) + &workload("a");
        assert_eq!(said("IST0127", &with), Vec::<String>::new());
        let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: n}\nspec: {selector: \
                       {app: a}, ports: [{port: 80, name: http}]}\n";
        // Nothing is known of the namespace's workloads, and so nothing can be said.
        assert_eq!(said("IST0127", service), Vec::<String>::new());
        let unmatched = format!("{service}{}", workload("b"));
        assert_eq!(said("IST0127", &unmatched).len(), 1);
    }

    fn rule(host: &str, more: &str) -> String {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: r}}\n\
             spec: {{host: '{host}'{more}}}\n"
        )
    }

    #[test]
    fn ist0173_a_subset_that_selects_nothing() {
        let spec = format!(
            "{}, endpoints: [{{address: 10.0.0.1, labels: {{v: one}}}}]",
            port(80, "HTTP")
        );
        let subset = |labels: &str| {
            let subset = format!(", subsets: [{{name: s, labels: {{{labels}}}}}]");
            said(
                "IST0173",
                &(entry("a", &spec) + &rule("a.example", &subset)),
            )
        };
        assert_eq!(
            subset("v: two"),
            [
                "t.yaml:10: warning[IST0173] DestinationRule default/r: subset \"s\" wants endpoints \
              labelled v=two, and none of the 1 of ServiceEntry default/a is; correct the labels, \
              or load the documents of the pods that have them"
            ]
        );
        assert_eq!(subset("v: one"), Vec::<String>::new());
        assert_eq!(subset(""), Vec::<String>::new());
    }

    #[test]
    fn ist0174_a_rule_for_a_host_that_nobody_knows() {
        let with = |host: &str| {
            let all = entry("a", &port(80, "HTTP")) + &rule(host, "");
            said("IST0174", &all).len()
        };
        assert_eq!(with("b.example"), 1);
        assert_eq!(with("*.other"), 1);
        for known in ["a.example", "*.example", "*", "x.ns.svc.cluster.local"] {
            assert_eq!(with(known), 0, "{known}");
        }
    }

    #[test]
    fn d4_settings_of_a_port_that_the_service_does_not_have_are_told() {
        let ports =
            "ports: [{number: 80, name: p, protocol: HTTP, targetPort: 8443}], resolution: DNS";
        let told = |port: u16| {
            let more = format!(
                ", trafficPolicy: {{portLevelSettings: [{{port: {{number: {port}}}, tls: {{mode: \
                 SIMPLE}}}}]}}"
            );
            said("IST0133", &(entry("a", ports) + &rule("a.example", &more)))
        };
        assert_eq!(told(80), Vec::<String>::new());
        assert_eq!(
            told(8443),
            [
                "t.yaml:10: warning[IST0133] DestinationRule default/r: portLevelSettings for port \
              8443, which is no port of ServiceEntry default/a: it has no effect; write 80: 8443 \
              is its targetPort, and service ports are what counts here"
            ]
        );
    }

    #[test]
    fn e9_a_rule_for_another_name_of_a_service_is_told() {
        let services = "apiVersion: v1
kind: Service
metadata: {name: alias}
spec: {type: ExternalName, externalName: real.prod.svc.cluster.local, ports: [{port: 80, name: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: real, namespace: prod}
spec: {ports: [{port: 80, name: http}]}
";
        let told = |host: &str| said("IST0174", &format!("{services}{}", rule(host, ""))).len();
        assert_eq!((told("alias"), told("real.prod.svc.cluster.local")), (1, 0));
    }

    #[test]
    fn srt0502_a_dotted_name_is_no_short_name() {
        let text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: reviews, namespace: prod}}\nspec: {{ports: \
             [{{port: 80, name: http}}]}}\n{}",
            rule("reviews.prod", "")
        );
        assert_eq!(
            said("SRT0502", &text),
            [
                "t.yaml:9: warning[SRT0502] DestinationRule default/r: host \"reviews.prod\" has a dot, \
              and so it is no short name: it does not mean reviews.prod.svc.cluster.local; write \
              reviews.prod.svc.cluster.local"
            ]
        );
        assert_eq!(said("IST0174", &text), Vec::<String>::new());
    }
}
