//! Sidecar (ISTIO.md H7, O1, X8).
//!
//! Owns: reading it; `ingress` is read in a file of its own.
//! Never: chooses one (that is `lower::scope`).
//! Called by: read, mesh (the mode).

use std::sync::Arc;

use crate::config::cursor::At;
use crate::config::format::quote;
use crate::config::istio::meta::Meta;
use crate::config::istio::sidecar::{
    EgressListener, OutboundMode, Sidecar, VisibleHost, VisibleNamespace,
};
use crate::config::istio::tables::sidecar::OUTBOUND_MODE;
use crate::model::HostPattern;

use super::context::Reading;
use super::{metadata, sidecar_ingress, value};

/// A Sidecar.
pub fn read(root: &At<'_>, meta: Meta, r: &mut Reading<'_>) -> Option<Sidecar> {
    let spec = root.key("spec")?;
    let says = [
        "egress",
        "ingress",
        "outboundTrafficPolicy",
        "inboundConnectionPool",
    ];
    if !says.iter().any(|key| spec.has(key)) {
        let problem = "the Sidecar says nothing".to_owned();
        r.wrong(
            &spec,
            problem,
            "write egress with hosts, or outboundTrafficPolicy",
        );
    }
    let selector = metadata::selector(&spec, "workloadSelector", "labels", r);
    let egress = spec.key("egress").map(|list| {
        let listeners = list.items().map(|item| listener(&item, r));
        listeners.collect::<Vec<_>>()
    });
    Some(Sidecar {
        meta,
        selector,
        egress: egress.filter(|listeners| !listeners.is_empty()),
        ingress: sidecar_ingress::read(&spec, r),
        // Nothing said in it is the first of the words: REGISTRY_ONLY.
        outbound: spec
            .key("outboundTrafficPolicy")
            .map(|at| mode(&at).unwrap_or(OutboundMode::RegistryOnly)),
    })
}

/// `mode` of an `outboundTrafficPolicy`.
pub fn mode(policy: &At<'_>) -> Option<OutboundMode> {
    Some(match value::word(policy, "mode", OUTBOUND_MODE)? {
        "ALLOW_ANY" => OutboundMode::AllowAny,
        "ALLOW_ANY_DYNAMIC_DNS" => OutboundMode::AllowAnyDynamicDns,
        _ => OutboundMode::RegistryOnly,
    })
}

fn listener(at: &At<'_>, r: &mut Reading<'_>) -> EgressListener {
    let list = at.key("hosts");
    let mut hosts = Vec::new();
    for item in list.iter().flat_map(At::items) {
        hosts.extend(visible(&item, r));
    }
    if list.iter().flat_map(At::items).next().is_none() {
        let problem = "there are no hosts".to_owned();
        r.wrong_key(
            at,
            "hosts",
            problem,
            "write hosts: [\"*/*\"] for all, or [\"~/*\"] for none",
        );
    }
    if let Some(port) = at.key("port")
        && !port.has("number")
    {
        let problem = "the port has no number".to_owned();
        r.wrong_key(
            &port,
            "number",
            problem,
            "write number: 80 or whichever it is",
        );
    }
    EgressListener {
        port: at.key("port").and_then(|port| value::port(&port, "number")),
        hosts,
    }
}

/// `namespace/dnsName`.
fn visible(at: &At<'_>, r: &mut Reading<'_>) -> Option<VisibleHost> {
    let text = at.as_text()?;
    let Some((namespace, host)) = text.split_once('/') else {
        let problem = format!("{} has no namespace", quote(text));
        r.wrong(
            at,
            problem,
            "write namespace/host, ./host for its own, or */host for all",
        );
        return None;
    };
    let host = match HostPattern::parse(host) {
        Ok(host) => host,
        Err(error) => {
            let problem = format!("{} is not a host: {error}", quote(host));
            r.wrong(at, problem, "write a name, *.suffix or * behind the slash");
            return None;
        }
    };
    let namespace = match namespace {
        "*" => VisibleNamespace::Any,
        "~" => VisibleNamespace::Nothing,
        "." => VisibleNamespace::Named(Arc::clone(&r.namespace)),
        "" => {
            let problem = format!("{} has no namespace", quote(text));
            r.wrong(
                at,
                problem,
                "write namespace/host, ./host for its own, or */host for all",
            );
            return None;
        }
        name => VisibleNamespace::Named(name.into()),
    };
    Some(VisibleHost { namespace, host })
}
