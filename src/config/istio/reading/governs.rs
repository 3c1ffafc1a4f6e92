//! What a refused object would have governed (ISTIO.md X1).
//!
//! Owns: telling it from what can still be read.
//! Never: guesses: where hosts cannot be told, nothing may be served.
//! Called by: read.

use ipnet::IpNet;

use crate::config::cursor::At;
use crate::config::istio::manifests::{Governs, OnGateways};
use crate::config::istio::meta::Meta;
use crate::config::istio::service_entry::Protocol;
use crate::config::options::LoadOptions;
use crate::model::{HostPattern, ProxyFacts};

use super::{gateway, names, service_entry, value};

/// `None` where the hosts cannot be told.
pub fn governs(root: &At<'_>, meta: &Meta, options: &LoadOptions) -> Option<Governs> {
    let spec = root.key("spec");
    let domain = options.facts.cluster_domain.as_ref();
    let of_spec = |key: &str, short: bool| hosts(spec.as_ref()?, key, short, meta, domain);
    let named = |name: &str| match meta.name.is_empty() {
        true => None,
        false => one(&format!("{name}.{}.svc.{domain}", meta.namespace)),
    };
    let facts = &options.facts;
    // Where a document of this namespace speaks to this proxy at all.
    let ours = meta.namespace == facts.namespace || meta.namespace == facts.root_namespace;
    let proxy = |ours: bool| {
        if ours {
            Governs::Unknown
        } else {
            Governs::Nothing
        }
    };
    if spec
        .as_ref()
        .is_some_and(|at| is_elsewhere(at, meta, facts))
    {
        return Some(Governs::Nothing);
    }
    match meta.kind {
        "ServiceEntry" => of_spec("hosts", false),
        // V1: one for gateways alone has no say on the mesh's side.
        "VirtualService" if is_for_gateways_alone(spec.as_ref()) => Some(Governs::Nothing),
        "VirtualService" => of_spec("hosts", true),
        "DestinationRule" => of_spec("host", true),
        "Service" | "Endpoints" => named(&meta.name),
        "EndpointSlice" => match meta.labels.get("kubernetes.io/service-name") {
            Some(name) => named(name),
            None => Some(Governs::Nothing),
        },
        // Whether a server takes mTLS: of a namespace, or of the mesh.
        "PeerAuthentication" | "Policy" | "MeshPolicy" => {
            let mesh = meta.namespace.is_empty() || meta.namespace == facts.root_namespace;
            match mesh {
                true => one(&format!("*.svc.{domain}")),
                false => one(&format!("*.{}.svc.{domain}", meta.namespace)),
            }
        }
        // Whether workloads have sidecars: without it, plaintext would be inferred for mTLS (T13).
        "Pod" | "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" => {
            one(&format!("*.{}.svc.{domain}", meta.namespace))
        }
        "ConfigMap" => {
            let ours = ours || &meta.namespace == facts.default_namespace();
            Some(proxy(meta.name.as_ref() == "istio" && ours))
        }
        "IstioOperator" => Some(Governs::Unknown),
        "Sidecar" | "EnvoyFilter" => Some(proxy(ours)),
        "HTTPRoute" | "TLSRoute" | "TCPRoute" | "UDPRoute" | "GRPCRoute" => {
            route(spec.as_ref(), meta, domain)
        }
        _ => Some(Governs::Nothing),
    }
}

/// True where it names gateways, each of them can be read, and `mesh` is not among them.
fn is_for_gateways_alone(spec: Option<&At<'_>>) -> bool {
    let Some(gateways) = spec.and_then(|spec| spec.key("gateways")) else {
        return false;
    };
    let mut named = gateways
        .items()
        .map(|item| item.as_text().map(str::to_owned))
        .peekable();
    named.peek().is_some() && named.all(|name| name.is_some_and(|name| name != "mesh"))
}

fn one(text: &str) -> Option<Governs> {
    Some(Governs::Hosts(vec![HostPattern::parse(text).ok()?]))
}

/// A host, or a list of them.
fn hosts(spec: &At<'_>, key: &str, short: bool, meta: &Meta, domain: &str) -> Option<Governs> {
    let list = spec.key(key)?;
    let mut hosts = Vec::new();
    for item in list.one_or_many() {
        let text = item.as_text()?;
        let whole = match short {
            true => names::expand(text, &meta.namespace, domain),
            false => text.into(),
        };
        hosts.push(HostPattern::parse(&whole).ok()?);
    }
    (!hosts.is_empty()).then_some(Governs::Hosts(hosts))
}

/// True where an object is for other namespaces alone (H5), whatever is wrong with the rest of it.
/// What cannot be read is taken to be for this proxy.
fn is_elsewhere(spec: &At<'_>, meta: &Meta, facts: &ProxyFacts) -> bool {
    let exported = matches!(
        meta.kind,
        "ServiceEntry" | "VirtualService" | "DestinationRule"
    );
    let unseen = |to: &str| match to {
        "." => meta.namespace != facts.namespace,
        "~" => true,
        // A wildcard is for everybody, whatever it was meant to be.
        other => !other.contains('*') && other != facts.namespace.as_ref(),
    };
    exported && all(spec, "exportTo", unseen)
}

/// True where the list under `key` has items, and `holds` of each.
fn all(spec: &At<'_>, key: &str, holds: impl Fn(&str) -> bool) -> bool {
    let Some(list) = spec.key(key) else {
        return false;
    };
    let mut items = list.items().peekable();
    items.peek().is_some() && items.all(|item| item.as_text().is_some_and(&holds))
}

/// A route of the Gateway API: to the mesh where a parent of it is a Service or a ServiceEntry.
fn route(spec: Option<&At<'_>>, meta: &Meta, domain: &str) -> Option<Governs> {
    let parents = spec.and_then(|spec| spec.key("parentRefs"));
    let (mut services, mut entries) = (Vec::new(), Vec::new());
    for parent in parents.iter().flat_map(At::items) {
        let kind = value::text(&parent, "kind");
        if !matches!(kind, Some("ServiceEntry" | "Service")) {
            continue;
        }
        let namespace = value::text(&parent, "namespace").unwrap_or(&meta.namespace);
        let name = value::text(&parent, "name")?;
        match kind {
            Some("ServiceEntry") => entries.push((namespace.into(), name.into())),
            _ => {
                services.push(HostPattern::parse(&format!("{name}.{namespace}.svc.{domain}")).ok()?)
            }
        }
    }
    Some(match (services.is_empty(), entries.is_empty()) {
        (true, true) => Governs::Nothing,
        (false, true) => Governs::Hosts(services),
        (_, false) => Governs::Entries(services, entries),
    })
}

/// What it would have governed on gateway listeners, as far as it can be read.
pub fn on_gateways(root: &At<'_>, meta: &Meta, options: &LoadOptions) -> OnGateways {
    let Some(spec) = root.key("spec") else {
        return OnGateways::Nothing;
    };
    let facts = &options.facts;
    match meta.kind {
        "Gateway" => match gateway::claimed(root, meta, options) {
            Some(gateway) => OnGateways::Servers(Box::new(gateway)),
            None => OnGateways::Nothing,
        },
        "VirtualService" if !is_elsewhere(&spec, meta, facts) => {
            let mut gateways = value::strings(&spec, "gateways");
            gateways.retain(|name| name != "mesh");
            if gateways.is_empty() {
                return OnGateways::Nothing;
            }
            let hosts = match hosts(&spec, "hosts", true, meta, &facts.cluster_domain) {
                Some(Governs::Hosts(hosts)) => Some(hosts),
                _ => None,
            };
            OnGateways::Hosts { gateways, hosts }
        }
        _ => OnGateways::Nothing,
    }
}

/// Virtual addresses that a ServiceEntry or Service would have claimed, as far as they can be read.
pub fn claimed_addresses(root: &At<'_>, meta: &Meta) -> Vec<IpNet> {
    let Some(spec) = root.key("spec") else {
        return Vec::new();
    };
    let keys: &[&str] = match meta.kind {
        "ServiceEntry" => &["addresses"],
        "Service" => &["clusterIP", "clusterIPs"],
        _ => &[],
    };
    let mut all = Vec::new();
    for list in keys.iter().filter_map(|key| spec.key(key)) {
        for text in list.one_or_many().filter_map(|item| item.as_text()) {
            all.extend(names::parse_network(text).filter(|net| !all.contains(net)));
        }
    }
    all
}

/// Ports that a ServiceEntry without addresses would have claimed for every address (V20).
pub fn claimed_ports(root: &At<'_>, meta: &Meta) -> Vec<u16> {
    let Some(spec) = root.key("spec").filter(|_| meta.kind == "ServiceEntry") else {
        return Vec::new();
    };
    let addresses = spec.key("addresses");
    if addresses.iter().flat_map(At::items).next().is_some() {
        return Vec::new();
    }
    let http = |port: &At<'_>| {
        let protocol = value::text(port, "protocol").and_then(service_entry::protocol);
        protocol.is_some_and(|protocol| protocol.may_be_http() && protocol != Protocol::Sniff)
    };
    let ports = spec.key("ports");
    let ports = ports.iter().flat_map(At::items).filter(|port| !http(port));
    ports
        .filter_map(|port| value::port(&port, "number"))
        .collect()
}
