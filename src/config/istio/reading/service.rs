//! Service, Endpoints, EndpointSlice (ISTIO.md E8 to E10, K4, K5).
//!
//! Owns: reading them, and the protocol of a Service's port.
//! Never: joins a Service with its endpoints (that is `lower::registry`).
//! Called by: read.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::config::cursor::At;
use crate::config::format::{Format, quote};
use crate::config::istio::meta::{ExportTo, Meta};
use crate::config::istio::service::{EndpointAddress, Endpoints, Service};
use crate::config::istio::service_entry::{Protocol, ServicePort, TargetPort};
use crate::model::Host;

use super::context::Reading;
use super::{metadata, names, service_entry, value};

/// A Service.
pub fn read(root: &At<'_>, meta: Meta, r: &mut Reading<'_>) -> Option<Service> {
    let spec = root.key("spec")?;
    let mut ips: Vec<IpAddr> = Vec::new();
    let single = spec.key("clusterIP");
    let several = spec.key("clusterIPs");
    let listed = several.iter().flat_map(At::items).chain(single);
    let mut headless = false;
    for at in listed {
        match at.as_text() {
            Some("None") => headless = true,
            Some("") | None => {}
            Some(text) => match text.parse() {
                Ok(ip) if ips.contains(&ip) => {}
                Ok(ip) => ips.push(ip),
                Err(_) => {
                    let problem = format!("{} is not an IP address", quote(text));
                    r.wrong(
                        &at,
                        problem,
                        "write the address, or None for a headless Service",
                    );
                }
            },
        }
    }
    let external = value::text(&spec, "type") == Some("ExternalName");
    let external_name = match external {
        true => external_name(&spec, r),
        false => None,
    };
    Some(Service {
        ports: ports(&spec, r),
        selector: value::labels(&spec, "selector").unwrap_or_default(),
        cluster_ips: ips,
        headless,
        external_name,
        export_to: export_to(&meta),
        service_accounts: service_accounts(&meta, &r.options.facts.trust_domain),
        meta,
    })
}

fn external_name(spec: &At<'_>, r: &mut Reading<'_>) -> Option<Host> {
    let text = names::formatted_key(spec, "externalName", Format::Host, r);
    if text.is_none() && !spec.has("externalName") {
        let problem = "type: ExternalName needs a name".to_owned();
        r.wrong_key(
            spec,
            "externalName",
            problem,
            "write externalName: name.example.com",
        );
    }
    Host::parse(text?).ok()
}

fn export_to(meta: &Meta) -> ExportTo {
    let Some(text) = meta.annotations.get("networking.istio.io/exportTo") else {
        return ExportTo::All;
    };
    let texts: Vec<String> = listed(text).map(str::to_owned).collect();
    metadata::of_namespaces(&texts, &meta.namespace)
}

/// Names that the annotations give: whole ones, and accounts of the Service's own namespace.
fn service_accounts(meta: &Meta, trust_domain: &str) -> Vec<String> {
    let of = |key: &str| {
        let text = meta.annotations.get(key);
        listed(text.map(String::as_str).unwrap_or_default())
    };
    let whole = of("alpha.istio.io/canonical-serviceaccounts").map(str::to_owned);
    let short = of("alpha.istio.io/kubernetes-serviceaccounts");
    let named = |name: &str| format!("spiffe://{trust_domain}/ns/{}/sa/{name}", meta.namespace);
    whole.chain(short.map(named)).collect()
}

fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|text| !text.is_empty())
}

fn ports(spec: &At<'_>, r: &mut Reading<'_>) -> Vec<ServicePort> {
    let list = spec.key("ports");
    let mut ports = Vec::new();
    for item in list.iter().flat_map(At::items) {
        if !item.has("port") {
            let problem = "the port has no number".to_owned();
            r.wrong_key(&item, "port", problem, "write port: 80 or whichever it is");
        }
        let Some(number) = value::port(&item, "port") else {
            continue;
        };
        let name = value::text(&item, "name").unwrap_or_default();
        ports.push(ServicePort {
            number,
            name: name.into(),
            protocol: protocol(
                number,
                name,
                value::text(&item, "protocol"),
                value::text(&item, "appProtocol"),
            ),
            target: target(&item, r),
            place: item.place(),
        });
    }
    ports
}

fn target(item: &At<'_>, r: &mut Reading<'_>) -> Option<TargetPort> {
    let at = item.key("targetPort")?;
    if let Some(number) = value::as_whole(&at).filter(|_| at.as_text().is_none()) {
        let port = u16::try_from(number).ok().filter(|port| *port > 0);
        if port.is_none() && number > 0 {
            r.wrong(
                &at,
                format!("{number} is not a port"),
                "write a port from 1 to 65535, or its name",
            );
        }
        return port.map(TargetPort::Number);
    }
    match at.as_text() {
        Some(name) if !name.is_empty() => Some(TargetPort::Name(name.into())),
        _ => None,
    }
}

/// E8: `appProtocol`, else the name before its `-`, else a few well-known numbers.
fn protocol(number: u16, name: &str, transport: Option<&str>, app: Option<&str>) -> Protocol {
    match transport.map(str::to_ascii_uppercase).as_deref() {
        None | Some("TCP") => {}
        Some(_) => return Protocol::Udp,
    }
    let known = |text: &str| {
        Some(match text.to_ascii_lowercase().as_str() {
            "kubernetes.io/h2c" => Protocol::Http2,
            "kubernetes.io/ws" => Protocol::Http,
            "kubernetes.io/wss" => Protocol::Tls,
            text => service_entry::protocol(text)?,
        })
    };
    if let Some(protocol) = app.and_then(known) {
        return protocol;
    }
    let lower = name.to_ascii_lowercase();
    let prefix = lower.split('-').next().unwrap_or_default();
    // Its own `-` belongs to the protocol.
    let prefix = match lower == "grpc-web" || lower.starts_with("grpc-web-") {
        true => "grpc-web",
        false => prefix,
    };
    match service_entry::protocol(prefix) {
        Some(protocol) => protocol,
        None if [25, 53, 3306, 27_017].contains(&number) => Protocol::Tcp,
        None => Protocol::Sniff,
    }
}

/// Endpoints: each of its subsets is one, as each has its own ports.
pub fn endpoints(root: &At<'_>, meta: &Meta, r: &mut Reading<'_>) -> Vec<Endpoints> {
    let subsets = root.key("subsets");
    let mut all = Vec::new();
    for subset in subsets.iter().flat_map(At::items) {
        let list = subset.key("addresses");
        let mut addresses = Vec::new();
        for item in list.iter().flat_map(At::items) {
            let Some(at) = item.key("ip") else { continue };
            addresses.extend(address(&at, pod(&item), r));
        }
        all.push(Endpoints {
            service: Arc::clone(&meta.name),
            addresses,
            ports: endpoint_ports(&subset),
            place: subset.place(),
            meta: meta.clone(),
        });
    }
    all
}

/// An EndpointSlice: its ready addresses.
pub fn slice(root: &At<'_>, meta: Meta, r: &mut Reading<'_>) -> Option<Endpoints> {
    let Some(service) = meta.labels.get("kubernetes.io/service-name") else {
        let problem =
            "the label kubernetes.io/service-name is missing, so it belongs to no Service";
        r.odd(
            root,
            problem.to_owned(),
            "write the label with the Service's name",
        );
        return None;
    };
    let list = root.key("endpoints");
    let mut addresses = Vec::new();
    let names = value::text(root, "addressType") == Some("FQDN");
    for item in list.iter().flat_map(At::items).filter(|_| !names) {
        let conditions = item.key("conditions");
        // Nothing said counts as ready.
        let ready = conditions
            .and_then(|at| value::flag(&at, "ready"))
            .unwrap_or(true);
        let texts = item.key("addresses");
        for at in texts.iter().flat_map(At::items).filter(|_| ready) {
            addresses.extend(address(&at, pod(&item), r));
        }
    }
    Some(Endpoints {
        service: service.as_str().into(),
        addresses,
        ports: endpoint_ports(root),
        place: root.place(),
        meta,
    })
}

fn pod(item: &At<'_>) -> Option<Arc<str>> {
    let target = item.key("targetRef")?;
    let kind = value::text(&target, "kind")?;
    (kind == "Pod").then(|| value::text(&target, "name").map(Into::into))?
}

fn address(at: &At<'_>, pod: Option<Arc<str>>, r: &mut Reading<'_>) -> Option<EndpointAddress> {
    let text = at.as_text()?;
    match text.parse() {
        Ok(ip) => Some(EndpointAddress { ip, pod }),
        Err(_) => {
            let problem = format!("{} is not an IP address", quote(text));
            r.wrong(at, problem, "write the address of the endpoint");
            None
        }
    }
}

fn endpoint_ports(at: &At<'_>) -> BTreeMap<String, u16> {
    let list = at.key("ports");
    let items = list.iter().flat_map(At::items);
    let pair = |item: At<'_>| {
        let name = value::text(&item, "name").unwrap_or_default().to_owned();
        Some((name, value::port(&item, "port")?))
    };
    items.filter_map(pair).collect()
}
