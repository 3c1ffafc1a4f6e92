//! What is odd about the inbound side, in words.
//!
//! Owns: the findings SRT0512, SRT0515 and IST0127 of the inbound side, and the names of modes.
//! Never: changes what is served.
//! Called by: inbound.

use super::credential::NO_IDENTITY;
use super::inbound::Way;
use super::report;
use crate::config::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::config::istio::Manifests;
use crate::config::istio::peer_authentication::MtlsMode;
use crate::config::istio::service_entry::Protocol;
use crate::config::istio::sidecar::Sidecar;
use crate::model::{Carries, Place, ProxyFacts};

/// Ports of protocols in which the server speaks first: FTP, SSH, Telnet, SMTP, POP3, IMAP,
/// submission, MySQL, VNC.
const SERVER_FIRST: [u16; 9] = [21, 22, 23, 25, 110, 143, 587, 3306, 5900];

/// Says all of it.
pub fn all(ways: &[Way<'_>], facts: &ProxyFacts, out: &mut Diagnostics) {
    if facts.server_identity.is_none() && facts.identity.is_none() {
        no_identity(ways, out);
    }
    for way in ways {
        speaks_first(way, out);
    }
}

/// P1, Z1: a selector asks for labels that nobody gave, and what the document demands is not demanded
/// here.
pub fn no_labels(manifests: &Manifests, facts: &ProxyFacts, out: &mut Diagnostics) {
    if !facts.labels.is_empty() {
        return;
    }
    let selecting = manifests.peer_authentications.iter().filter(|one| {
        let selector = one.selector.as_ref();
        selector.is_some_and(|labels| !labels.is_empty())
            && one.meta.namespace != facts.root_namespace
    });
    let targeted = manifests.legacy_policies.iter();
    let targeted = targeted.filter(|one| !one.targets.is_empty());
    let metas = selecting.map(|one| &one.meta);
    let metas = metas.chain(targeted.map(|one| &one.meta));
    for meta in metas.filter(|meta| meta.namespace == facts.namespace) {
        let problem = "it is for workloads with certain labels, and this one was given none: what \
            it demands of clients is not demanded here"
            .to_owned();
        let advice = "run with --labels-file (the downward API's labels) or --labels";
        let code = Code::SelectsNoWorkload;
        out.push(report::about(meta, code, problem, advice));
    }
}

/// T16: once for each document that asks for TLS, or once for the default.
fn no_identity(ways: &[Way<'_>], out: &mut Diagnostics) {
    let mut said = Vec::new();
    for (mode, by) in ways.iter().map(|way| &way.mode) {
        let object = by.as_ref().map(|(object, _)| object);
        if *mode == MtlsMode::Disable || said.contains(&object) {
            continue;
        }
        said.push(object);
        let problem = format!(
            "inbound connections may be mutual TLS ({}), but {NO_IDENTITY}",
            mode_name(*mode)
        );
        let advice = match mode {
            MtlsMode::Strict => "until then nobody is let in",
            MtlsMode::Permissive | MtlsMode::Disable => "until then clear text alone is let in",
        };
        let code = Code::NoMeshIdentity;
        let finding = match by {
            Some((object, place)) => report::at(object, place, code, problem, advice),
            None => {
                let place = Place::default();
                let mut finding = report::at(&"".into(), &place, code, problem, advice);
                finding.object = None;
                finding
            }
        };
        out.push(finding);
    }
}

/// P11: neither side says anything, each waiting for the other.
fn speaks_first(way: &Way<'_>, out: &mut Diagnostics) {
    let Some(own) = way.declared else { return };
    let mut numbers = way.port.into_iter().chain([own.service_port]);
    let Some(number) = numbers.find(|number| SERVER_FIRST.contains(number)) else {
        return;
    };
    let mode = way.mode.0;
    let sniffed = super::inbound_ports::carries(own.protocol) == Carries::Either;
    let waits = match mode {
        MtlsMode::Permissive => true,
        MtlsMode::Disable => sniffed,
        MtlsMode::Strict => false,
    };
    if !waits {
        return;
    }
    let problem = format!(
        "on port {number} servers speak first, and in mode {} the client's first bytes are waited \
         for: both sides wait for ever",
        mode_name(mode)
    );
    let advice = "declare the port as TCP, and give it mode STRICT or DISABLE with portLevelMtls";
    out.push(report::at(
        &own.object,
        &own.place,
        Code::SpeaksFirst,
        problem,
        advice,
    ));
}

/// X14.
pub fn no_listener(sidecar: &Sidecar) -> Diagnostic {
    let problem = "it has ingress, and no inbound connections are taken".to_owned();
    let advice = "run with --inbound ADDR, where inbound connections are redirected to";
    report::about(&sidecar.meta, Code::FieldWithoutEffect, problem, advice)
}

/// As it is written.
pub fn mode_name(mode: MtlsMode) -> &'static str {
    match mode {
        MtlsMode::Disable => "DISABLE",
        MtlsMode::Permissive => "PERMISSIVE",
        MtlsMode::Strict => "STRICT",
    }
}

/// As it is written, most often.
pub fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "HTTP",
        Protocol::Http2 => "HTTP2",
        Protocol::Grpc => "GRPC",
        Protocol::GrpcWeb => "GRPC-WEB",
        Protocol::Tls => "TLS",
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sniff => "told by the first bytes",
    }
}
