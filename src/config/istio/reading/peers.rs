//! PeerAuthentication, Policy and MeshPolicy (ISTIO.md P1, P2, P5, P6).
//!
//! Owns: reading them.
//! Never: infers a mode (that is `lower::auto_mtls`).
//! Called by: read.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::cursor::At;
use crate::config::diagnostic::Code;
use crate::config::format::quote;
use crate::config::istio::meta::Meta;
use crate::config::istio::peer_authentication::{
    LegacyPolicy, LegacyPort, MtlsMode, PeerAuthentication,
};
use crate::config::istio::tables::security::{LEGACY_MODE, MODE};

use super::context::Reading;
use super::{metadata, value};

/// A PeerAuthentication.
pub fn read(root: &At<'_>, meta: Meta, r: &mut Reading<'_>) -> Option<PeerAuthentication> {
    let spec = root.key("spec")?;
    let selector = metadata::selector(&spec, "selector", "matchLabels", r);
    let mut ports = BTreeMap::new();
    if let Some(map) = spec.key("portLevelMtls") {
        if selector.as_ref().is_none_or(BTreeMap::is_empty) {
            let problem = "ports have modes of their own, and no workload is selected".to_owned();
            r.wrong_key(
                &spec,
                "portLevelMtls",
                problem,
                "write selector: {matchLabels: {app: NAME}}",
            );
        }
        if map.entries().is_empty() {
            let problem = "portLevelMtls says nothing".to_owned();
            r.wrong(&map, problem, "write a port and a mode, or leave it out");
        }
        for entry in map.entries() {
            match entry.key.parse::<u16>() {
                Ok(port) if port > 0 => {
                    ports.insert(port, mode(&map.value(entry)));
                }
                _ => {
                    let problem = format!("{} is not a port", quote(&entry.key));
                    r.wrong_key(
                        &map,
                        &entry.key,
                        problem,
                        "write a workload port, 1 to 65535",
                    );
                }
            }
        }
    }
    Some(PeerAuthentication {
        meta,
        selector,
        mode: spec.key("mtls").and_then(|mtls| mode(&mtls)),
        ports,
    })
}

fn mode(mtls: &At<'_>) -> Option<MtlsMode> {
    match value::word(mtls, "mode", MODE)? {
        "DISABLE" => Some(MtlsMode::Disable),
        "PERMISSIVE" => Some(MtlsMode::Permissive),
        "STRICT" => Some(MtlsMode::Strict),
        _ => None,
    }
}

/// A Policy or MeshPolicy.
pub fn legacy(root: &At<'_>, meta: Meta, r: &mut Reading<'_>) -> Option<LegacyPolicy> {
    let spec = root.key("spec")?;
    let mesh = meta.kind == "MeshPolicy";
    let list = spec.key("targets");
    let mut targets = Vec::new();
    for item in list.iter().flat_map(At::items) {
        targets.extend(target(&item, r));
    }
    let aimed = list.iter().flat_map(At::items).next().is_some();
    if mesh && aimed {
        let problem = "a MeshPolicy is for the whole mesh, and targets are named".to_owned();
        r.wrong_key(
            &spec,
            "targets",
            problem,
            "write a Policy in the target's namespace",
        );
    }
    if !aimed && meta.name.as_ref() != "default" {
        let problem = format!(
            "without targets it must be called default, not {}",
            quote(&meta.name)
        );
        r.wrong(&spec, problem, "write metadata.name: default, or targets");
    }
    Some(LegacyPolicy {
        meta,
        mesh,
        targets,
        mode: legacy_mode(&spec, r),
    })
}

fn target(at: &At<'_>, r: &mut Reading<'_>) -> Option<(Arc<str>, Vec<LegacyPort>)> {
    let Some(name) = value::text(at, "name") else {
        let problem = "the target has no name".to_owned();
        r.wrong_key(at, "name", problem, "write the short name of a Service");
        return None;
    };
    let list = at.key("ports");
    let port = |item: At<'_>| {
        let number = value::port(&item, "number").map(LegacyPort::Number);
        number.or_else(|| value::text(&item, "name").map(|name| LegacyPort::Name(name.into())))
    };
    let ports = list.iter().flat_map(At::items).filter_map(port).collect();
    Some((name.into(), ports))
}

/// P6.
fn legacy_mode(spec: &At<'_>, r: &mut Reading<'_>) -> MtlsMode {
    let list = spec.key("peers");
    let mut found = MtlsMode::Disable;
    for peer in list.iter().flat_map(At::items) {
        let Some(mtls) = peer.key("mtls") else {
            if !peer.has("jwt") {
                let problem = "the peer says nothing".to_owned();
                r.wrong(&peer, problem, "write mtls: {mode: STRICT}");
            }
            continue;
        };
        let lax = value::flag(&mtls, "allowTls") == Some(true);
        if lax {
            let problem = "allowTls takes clients without a certificate, as PERMISSIVE does";
            let advice = "write mode: PERMISSIVE";
            r.warning(mtls.wrong_key("allowTls", Code::SchemaWarning, problem.to_owned(), advice));
        }
        found = match value::word(&mtls, "mode", LEGACY_MODE) {
            Some("PERMISSIVE") => MtlsMode::Permissive,
            _ if lax => MtlsMode::Permissive,
            _ => MtlsMode::Strict,
        };
    }
    found
}
