//! ServiceEntry (ISTIO.md E1 to E7, 1.4).
//!
//! Owns: reading it, and what must fit together in it.
//! Never: merges two of them (that is `lower::registry`).
//! Called by: read.

use ipnet::IpNet;

use crate::config::cursor::At;
use crate::config::format::quote;
use crate::config::istio::meta::{Meta, Written};
use crate::config::istio::service_entry::{
    EntryResolution, Location, Protocol, ServiceEntry, ServicePort, TargetPort,
};
use crate::config::istio::tables::service_entry::{LOCATION, RESOLUTION};
use crate::config::istio::workload::{Workload, WorkloadAddress};
use crate::model::HostPattern;

use super::context::Reading;
use super::{metadata, names, value, workload};

/// E6.
const MAX_HOSTS: usize = 256;

/// What a protocol may be called, for messages.
const PROTOCOLS: &str = "one of HTTP, HTTP2, GRPC, GRPC-WEB, HTTPS, TLS, TCP, MONGO, MYSQL, REDIS, \
    UDP, or leave it out to tell by the first bytes";

/// A ServiceEntry.
pub fn read(root: &At<'_>, meta: Meta, r: &mut Reading<'_>) -> Option<ServiceEntry> {
    let spec = root.key("spec")?;
    let hosts = hosts(&spec, r);
    let ports = ports(&spec, r);
    let resolution = match value::word(&spec, "resolution", RESOLUTION) {
        Some("STATIC") => EntryResolution::Static,
        Some("DNS") => EntryResolution::Dns,
        Some("DNS_ROUND_ROBIN") => EntryResolution::DnsRoundRobin,
        Some("DYNAMIC_DNS") => EntryResolution::DynamicDns,
        _ => EntryResolution::None,
    };
    let location = match value::word(&spec, "location", LOCATION) {
        Some("MESH_INTERNAL") => Location::Internal,
        _ => Location::External,
    };
    let entry = ServiceEntry {
        hosts,
        addresses: addresses(&spec, r),
        ports,
        location,
        resolution,
        endpoints: endpoints(&spec, r),
        selector: metadata::selector(&spec, "workloadSelector", "labels", r),
        export_to: metadata::export_to(&spec, r),
        subject_alt_names: names::alt_names(&spec, r),
        meta,
    };
    fits(&spec, &entry, r);
    fits_ports(&spec, &entry, r);
    Some(entry)
}

fn hosts(spec: &At<'_>, r: &mut Reading<'_>) -> Vec<Written<HostPattern>> {
    let list = spec.key("hosts");
    if list.iter().flat_map(At::one_or_many).next().is_none() {
        let problem = "a ServiceEntry needs at least one host".to_owned();
        r.wrong_key(spec, "hosts", problem, "write hosts: [name.example.com]");
    }
    let mut hosts = Vec::new();
    for item in list.iter().flat_map(At::items) {
        let Some(value) = names::pattern(&item, r) else {
            continue;
        };
        if value == HostPattern::Any {
            let advice = "write *.suffix or a whole name";
            r.wrong(&item, "\"*\" alone is every host".to_owned(), advice);
        }
        let place = item.place();
        hosts.push(Written { value, place });
    }
    if hosts.len() > MAX_HOSTS {
        let problem = format!("there are more than {MAX_HOSTS} hosts");
        r.wrong_key(spec, "hosts", problem, "write several ServiceEntries");
    }
    hosts
}

fn ports(spec: &At<'_>, r: &mut Reading<'_>) -> Vec<ServicePort> {
    let list = spec.key("ports");
    let mut ports: Vec<ServicePort> = Vec::new();
    for item in list.iter().flat_map(At::items) {
        let Some(port) = port(&item, r) else {
            continue;
        };
        if let Some(other) = ports.iter().find(|other| other.number == port.number) {
            let problem = format!(
                "port {} stands twice; the first is at line {}",
                port.number, other.place.line
            );
            r.wrong_key(&item, "number", problem, "keep one of the two");
        }
        if ports.iter().any(|other| other.name == port.name) {
            let problem = format!("two ports are called {:?}", port.name);
            r.wrong_key(&item, "name", problem, "give each port its own name");
        }
        ports.push(port);
    }
    ports
}

fn port(at: &At<'_>, r: &mut Reading<'_>) -> Option<ServicePort> {
    if !at.has("number") {
        let problem = "the port has no number".to_owned();
        r.wrong_key(
            at,
            "number",
            problem,
            "write number: 443 or whichever it is",
        );
    }
    match value::text(at, "name") {
        Some(_) => label(&at.key("name")?, r),
        None => {
            let problem = "the port has no name".to_owned();
            r.wrong_key(
                at,
                "name",
                problem,
                "write a name such as https or http-web",
            );
        }
    }
    let protocol = match value::text(at, "protocol") {
        None => Protocol::Sniff,
        Some(text) => protocol(text).unwrap_or_else(|| {
            let problem = format!("{} is not a protocol", quote(text));
            r.wrong_key(at, "protocol", problem, &format!("write {PROTOCOLS}"));
            Protocol::Sniff
        }),
    };
    Some(ServicePort {
        number: value::port(at, "number")?,
        name: value::text(at, "name").unwrap_or_default().into(),
        protocol,
        target: value::port(at, "targetPort").map(TargetPort::Number),
        place: at.place(),
    })
}

/// A DNS label (RFC 1123).
pub fn label(at: &At<'_>, r: &mut Reading<'_>) {
    let Some(text) = at.as_text() else { return };
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let edge = text.starts_with('-') || text.ends_with('-');
    if text.is_empty() || text.len() > 63 || edge || !text.bytes().all(allowed) {
        let problem = format!("{} is not a DNS label", quote(text));
        let advice =
            "write at most 63 lower-case letters, digits and \"-\", none of these at an end";
        r.wrong(at, problem, advice);
    }
}

/// E7; names are told apart without regard to case.
pub fn protocol(text: &str) -> Option<Protocol> {
    Some(match text.to_ascii_uppercase().as_str() {
        "HTTP" => Protocol::Http,
        "HTTP2" => Protocol::Http2,
        "GRPC" => Protocol::Grpc,
        "GRPC-WEB" => Protocol::GrpcWeb,
        "HTTPS" | "TLS" => Protocol::Tls,
        "TCP" | "MONGO" | "MYSQL" | "REDIS" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "UNKNOWN" => Protocol::Sniff,
        _ => return None,
    })
}

fn addresses(spec: &At<'_>, r: &mut Reading<'_>) -> Vec<IpNet> {
    let list = spec.key("addresses");
    let items = list.iter().flat_map(At::items);
    items.filter_map(|item| names::network(&item, r)).collect()
}

fn endpoints(spec: &At<'_>, r: &mut Reading<'_>) -> Vec<Workload> {
    let list = spec.key("endpoints");
    let items = list.iter().flat_map(At::items);
    items
        .filter_map(|item| workload::workload(&item, r))
        .collect()
}

/// What resolution, hosts and endpoints say of each other.
fn fits(spec: &At<'_>, entry: &ServiceEntry, r: &mut Reading<'_>) {
    if !entry.endpoints.is_empty() && entry.selector.is_some() {
        let problem = "endpoints and workloadSelector both say where the service is".to_owned();
        r.wrong_key(spec, "workloadSelector", problem, "keep one of the two");
    }
    if let Some((key, problem, advice)) = contradiction(entry) {
        r.wrong_key(spec, key, problem.to_owned(), advice);
    }
    let wide = |net: &IpNet| net.prefix_len() < net.max_prefix_len();
    let fixed = matches!(
        entry.resolution,
        EntryResolution::None | EntryResolution::Static
    );
    if !fixed && entry.addresses.iter().any(wide) {
        let problem = "a network can stand here only with resolution NONE or STATIC".to_owned();
        r.wrong_key(spec, "addresses", problem, "write single addresses");
    }
}

/// The key that does not fit the resolution, why, and what to write.
fn contradiction(entry: &ServiceEntry) -> Option<(&'static str, &'static str, &'static str)> {
    use EntryResolution::{Dns, DnsRoundRobin, DynamicDns, None as Original, Static};
    let exact = |host: &Written<HostPattern>| matches!(host.value, HostPattern::Exact(_));
    let (endpoints, hosts) = (&entry.endpoints, &entry.hosts);
    let named = |one: &Workload| match &one.address {
        WorkloadAddress::Host(host) => host.ip().is_none(),
        WorkloadAddress::Unix(_) => false,
    };
    match entry.resolution {
        Original if !endpoints.is_empty() => Some((
            "endpoints",
            "endpoints mean nothing with resolution NONE: the original address is used",
            "write resolution: STATIC or DNS",
        )),
        Static if endpoints.iter().any(named) => Some((
            "endpoints",
            "resolution STATIC needs IP addresses, and an endpoint is a name",
            "write resolution: DNS, or the address",
        )),
        DnsRoundRobin if endpoints.len() > 1 => Some((
            "endpoints",
            "DNS_ROUND_ROBIN has one endpoint at most",
            "write resolution: DNS, or keep one",
        )),
        DynamicDns if !endpoints.is_empty() || entry.selector.is_some() => Some((
            "resolution",
            "with DYNAMIC_DNS the request's own host is looked up, and endpoints are given",
            "write resolution: DNS, or leave the endpoints out",
        )),
        DynamicDns if hosts.iter().any(exact) => Some((
            "resolution",
            "DYNAMIC_DNS is for wildcard hosts alone",
            "write resolution: DNS",
        )),
        Dns | DnsRoundRobin if endpoints.is_empty() && !hosts.iter().all(exact) => Some((
            "resolution",
            "a wildcard host cannot be looked up, and there are no endpoints",
            "write endpoints, or resolution: DYNAMIC_DNS to look up each request's host",
        )),
        Dns | DnsRoundRobin if endpoints.iter().any(is_unix) => Some((
            "endpoints",
            "unix:// is no name to look up",
            "write resolution: STATIC",
        )),
        _ => None,
    }
}

fn is_unix(workload: &Workload) -> bool {
    matches!(workload.address, WorkloadAddress::Unix(_))
}

/// What ports, hosts and endpoints say of each other.
fn fits_ports(spec: &At<'_>, entry: &ServiceEntry, r: &mut Reading<'_>) {
    let declared = |name: &str| entry.ports.iter().any(|port| port.name.as_ref() == name);
    let unknown = entry
        .endpoints
        .iter()
        .flat_map(|workload| workload.ports.keys());
    for name in unknown.filter(|name| !declared(name)) {
        let problem =
            format!("an endpoint has a port {name:?} that the ServiceEntry does not declare");
        let advice = "write a name of spec.ports";
        r.wrong_key(spec, "endpoints", problem, advice);
    }
    if entry.ports.len() > 1 && entry.endpoints.iter().any(is_unix) {
        let problem = "a unix:// endpoint serves one port, and several are declared".to_owned();
        r.wrong_key(
            spec,
            "endpoints",
            problem,
            "write one port, or one ServiceEntry for each",
        );
    }
    if !spec.has("ports") {
        let problem = "there are no ports, so nothing leads to its hosts".to_owned();
        r.odd(spec, problem, "write ports with number, name and protocol");
    }
    let tcp = entry
        .ports
        .iter()
        .find(|port| port.protocol == Protocol::Tcp);
    let Some(tcp) = tcp else { return };
    if entry.hosts.len() > 1 && entry.resolution != EntryResolution::None {
        let problem = format!(
            "port {} is TCP, where connections name no host, and there are several hosts",
            tcp.number
        );
        r.wrong_key(
            spec,
            "hosts",
            problem,
            "write one ServiceEntry for each host, or resolution: NONE",
        );
    }
}
