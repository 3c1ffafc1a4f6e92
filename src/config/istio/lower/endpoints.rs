//! A service's endpoints to those of one upstream: by port, by subset (ISTIO.md E2, E4, D7).
//!
//! Owns: which endpoints serve a port and subset, and how they become addresses.
//! Never: decides what is spoken to them.
//! Called by: clusters.

use std::sync::Arc;

use super::dangling::Failed;
use super::registry::{Endpoint, HasSidecar, Known};
use super::services::headless_target;
use crate::config::istio::meta::{Labels, selects};
use crate::config::istio::service_entry::{
    EntryResolution, Location, Protocol, ServicePort, TargetPort,
};
use crate::config::istio::workload::WorkloadAddress;
use crate::model::{EndpointSpec, Host, HostPattern, Place, Reason, Resolution};

/// How the endpoints of `port` become addresses.
pub fn resolution(known: &Known, port: &ServicePort) -> Resolution {
    let target = match &port.target {
        Some(TargetPort::Number(number)) => Some(*number),
        Some(TargetPort::Name(_)) | None => None,
    };
    match known.resolution {
        EntryResolution::None if known.kubernetes => Resolution::OriginalDst {
            port: headless_target(port),
        },
        EntryResolution::None => Resolution::OriginalDst { port: target },
        EntryResolution::Static => Resolution::Static,
        EntryResolution::Dns => Resolution::Dns,
        EntryResolution::DnsRoundRobin => Resolution::DnsOne,
        EntryResolution::DynamicDns => Resolution::RequestHost { port: target },
    }
}

/// The endpoints that serve the port at `at` and have the subset's labels. None, where they are
/// told by the connection or the request.
///
/// # Errors
/// Where nobody serves it (D7).
pub fn chosen<'a>(
    known: &'a Known,
    at: usize,
    labels: Option<&Labels>,
    subset: &str,
) -> Result<Vec<&'a Endpoint>, Failed> {
    if matches!(
        known.resolution,
        EntryResolution::None | EntryResolution::DynamicDns
    ) {
        return Ok(Vec::new());
    }
    let serves = |endpoint: &&Endpoint| endpoint.ports.get(at).copied().flatten().is_some();
    let all: Vec<&Endpoint> = known.endpoints.iter().filter(serves).collect();
    let (object, place) = (&known.object, &known.place);
    if all.is_empty() {
        return Err(Failed::unhealthy(format!(
            "{object} at {place} has no endpoint for this port"
        )));
    }
    let Some(labels) = labels else {
        return Ok(all);
    };
    let count = all.len();
    let mut found = all;
    found.retain(|endpoint| selects(labels, &endpoint.labels));
    if found.is_empty() {
        let wanted: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        return Err(Failed::unhealthy(format!(
            "subset {subset:?} wants endpoints labelled {}, and none of the {count} of {object} at \
             {place} is",
            wanted.join(",")
        )));
    }
    Ok(found)
}

/// The same, as an upstream has them.
///
/// # Errors
/// Where one of them is a Unix socket, which sortie does not dial.
pub fn specs(endpoints: &[&Endpoint], at: usize) -> Result<Vec<EndpointSpec>, Failed> {
    let mut found = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        let Some(port) = endpoint.ports.get(at).copied().flatten() else {
            continue;
        };
        match &endpoint.address {
            WorkloadAddress::Host(host) => found.push(EndpointSpec {
                weight: endpoint.weight.max(1),
                ..EndpointSpec::new(host.clone(), port)
            }),
            WorkloadAddress::Unix(path) => {
                return Err(Failed::unhealthy(format!(
                    "the endpoint unix://{path} at {} is a Unix socket, which sortie does not \
                     dial: write an IP address and a port",
                    endpoint.place
                )));
            }
        }
    }
    Ok(found)
}

/// For `explain`: where an upstream leads.
pub fn reason(known: &Known, endpoints: &[EndpointSpec], resolution: Resolution) -> Reason {
    let port = |port: Option<u16>| port.map_or(String::new(), |port| format!(", at port {port}"));
    let how = match resolution {
        Resolution::OriginalDst { port: to } => format!("where the client meant to go{}", port(to)),
        Resolution::RequestHost { port: to } => format!("the request's host{}", port(to)),
        Resolution::Static | Resolution::Dns | Resolution::DnsOne => {
            let all = endpoints
                .iter()
                .map(|one| format!("{}:{}", one.host, one.port));
            all.collect::<Vec<_>>().join(", ")
        }
    };
    Reason {
        what: "endpoints",
        how,
        object: Arc::clone(&known.object),
        place: Some(known.place.clone()),
    }
}

/// What stands for a Service that no document declares: its name, looked up by DNS.
pub fn undeclared(host: &Host, namespace: &str, port: u16, place: &Place) -> Known {
    let name = host.as_str().split('.').next().unwrap_or_default();
    let endpoint = Endpoint {
        address: WorkloadAddress::Host(host.clone()),
        labels: Labels::new(),
        weight: 1,
        service_accounts: Vec::new(),
        ports: vec![Some(port)],
        sidecar: HasSidecar::Unknown,
        place: place.clone(),
    };
    Known {
        host: HostPattern::Exact(host.clone()),
        object: "".into(),
        place: place.clone(),
        name: name.into(),
        namespace: namespace.into(),
        kubernetes: true,
        aliases: Vec::new(),
        addresses: Vec::new(),
        ports: vec![ServicePort {
            number: port,
            name: "".into(),
            protocol: Protocol::Sniff,
            target: None,
            place: place.clone(),
        }],
        location: Location::Internal,
        resolution: EntryResolution::Dns,
        endpoints: vec![endpoint],
        subject_alt_names: Vec::new(),
    }
}
