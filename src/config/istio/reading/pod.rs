//! Pods, and the pod templates of Deployments and their kin (K6).
//!
//! Owns: reading labels, identity, addresses and named ports.
//! Never: decides which service a pod belongs to.
//! Called by: read.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::config::cursor::At;
use crate::config::format::quote;
use crate::config::istio::meta::{Labels, Meta};
use crate::config::istio::workload::Pod;

use super::context::Reading;
use super::value;

/// A Pod.
pub fn read(root: &At<'_>, meta: Meta, r: &mut Reading<'_>) -> Option<Pod> {
    let spec = root.key("spec")?;
    Some(Pod {
        labels: meta.labels.clone(),
        annotations: meta.annotations.clone(),
        ips: ips(root, r),
        meta,
        service_account: account(&spec),
        ports: ports(&spec),
    })
}

/// The template of a Deployment, StatefulSet, DaemonSet or ReplicaSet.
pub fn template(root: &At<'_>, meta: Meta) -> Option<Pod> {
    let spec = root.key("spec")?;
    let template = spec.key("template")?;
    let inner = template.key("spec");
    Some(Pod {
        meta,
        labels: texts(&template, "labels"),
        annotations: texts(&template, "annotations"),
        service_account: inner.as_ref().and_then(account),
        ips: Vec::new(),
        ports: inner.as_ref().map(ports).unwrap_or_default(),
    })
}

fn texts(template: &At<'_>, key: &str) -> Labels {
    let meta = template.key("metadata");
    meta.and_then(|meta| value::labels(&meta, key))
        .unwrap_or_default()
}

fn account(spec: &At<'_>) -> Option<std::sync::Arc<str>> {
    let name = value::text(spec, "serviceAccountName");
    // What Kubernetes gives a pod that names none.
    let name = name
        .or_else(|| value::text(spec, "serviceAccount"))
        .unwrap_or("default");
    Some(name.into())
}

fn ips(root: &At<'_>, r: &mut Reading<'_>) -> Vec<IpAddr> {
    let Some(status) = root.key("status") else {
        return Vec::new();
    };
    let mut ips = Vec::new();
    let mut add = |at: At<'_>| {
        let Some(text) = at.as_text().filter(|text| !text.is_empty()) else {
            return;
        };
        match text.parse() {
            Ok(ip) if ips.contains(&ip) => {}
            Ok(ip) => ips.push(ip),
            Err(_) => {
                let problem = format!("{} is not an IP address", quote(text));
                r.wrong(&at, problem, "write the pod's address");
            }
        }
    };
    if let Some(at) = status.key("podIP") {
        add(at);
    }
    let several = status.key("podIPs");
    for item in several.iter().flat_map(At::items) {
        if let Some(at) = item.key("ip") {
            add(at);
        }
    }
    ips
}

fn ports(spec: &At<'_>) -> BTreeMap<String, u16> {
    let containers = spec.key("containers");
    let mut ports = BTreeMap::new();
    for container in containers.iter().flat_map(At::items) {
        let list = container.key("ports");
        for port in list.iter().flat_map(At::items) {
            if let (Some(name), Some(number)) = (
                value::text(&port, "name"),
                value::port(&port, "containerPort"),
            ) {
                ports.insert(name.to_owned(), number);
            }
        }
    }
    ports
}
