//! `ingress` of a Sidecar (ISTIO.md X14, 1.2).
//!
//! Owns: reading it, and what is wrong with one listener.
//! Never: opens a listener.
//! Called by: sidecar.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use crate::config::cursor::At;
use crate::config::format::quote;
use crate::config::istio::gateway::{ServerKind, ServerMode};
use crate::config::istio::service_entry::Protocol;
use crate::config::istio::sidecar::{CaptureMode, DefaultEndpoint, IngressListener, IngressTls};
use crate::config::istio::tables::sidecar::CAPTURE;

use super::context::Reading;
use super::gateway::Spoken;
use super::{gateway_tls, service_entry, value};

const ENDPOINTS: &str = "write 127.0.0.1:PORT, or 0.0.0.0:PORT for the workload's own address";

/// All of them.
pub fn read(spec: &At<'_>, r: &mut Reading<'_>) -> Vec<IngressListener> {
    let list = spec.key("ingress");
    let items = list.iter().flat_map(At::items);
    let found: Vec<_> = items.filter_map(|item| listener(&item, r)).collect();
    let mut seen = HashSet::new();
    for one in &found {
        if !seen.insert(one.number)
            && let Some(at) = &list
        {
            let problem = format!("two listeners have port {}", one.number);
            r.wrong(at, problem, "give each listener a port of its own");
        }
    }
    found
}

fn listener(at: &At<'_>, r: &mut Reading<'_>) -> Option<IngressListener> {
    let port = at.key("port");
    let number = port.as_ref().and_then(|port| value::port(port, "number"));
    let Some(number) = number else {
        let problem = "the listener has no port".to_owned();
        let advice = "write port: {number: 8080, name: http, protocol: HTTP}";
        r.wrong_key(at, "port", problem, advice);
        return None;
    };
    let protocol = port.as_ref().and_then(|port| value::text(port, "protocol"));
    let protocol = match protocol.map(|text| (text, service_entry::protocol(text))) {
        None => Protocol::Sniff,
        Some((_, Some(protocol))) => protocol,
        Some((text, None)) => {
            let problem = format!("{} is not a protocol", quote(text));
            let advice = "write one of HTTP, HTTP2, GRPC, GRPC-WEB, HTTPS, TLS, TCP";
            r.wrong_key(at, "port", problem, advice);
            return None;
        }
    };
    Some(IngressListener {
        number,
        protocol,
        bind: bind(at, r),
        capture: match value::word(at, "captureMode", CAPTURE) {
            Some("IPTABLES") => CaptureMode::Captured,
            Some("NONE") => CaptureMode::None,
            Some(_) | None => CaptureMode::Default,
        },
        to: endpoint(at, r),
        tls: tls(
            at,
            port.as_ref().and_then(|port| value::text(port, "protocol")),
            r,
        ),
        place: at.place(),
    })
}

/// As a Gateway's server has it, of the modes that end TLS here.
fn tls(at: &At<'_>, protocol: Option<&str>, r: &mut Reading<'_>) -> Option<IngressTls> {
    let block = at.key("tls")?;
    let protocol = protocol.unwrap_or_default().to_ascii_uppercase();
    let spoken = match protocol.as_str() {
        "HTTPS" => Spoken::Https,
        "TLS" => Spoken::Tls,
        _ => {
            let problem = "TLS ends at ports of protocol HTTPS or TLS alone".to_owned();
            r.wrong_key(
                at,
                "tls",
                problem,
                "write protocol: HTTPS, or leave tls out",
            );
            return None;
        }
    };
    let found = match gateway_tls::kind(at, spoken, &protocol, r)? {
        ServerKind::Https(server) => Some((server, true)),
        ServerKind::Tls(server) => Some((server, false)),
        _ => None,
    };
    let ends = |mode| matches!(mode, ServerMode::Simple | ServerMode::Mutual);
    let Some((server, http)) = found.filter(|(server, _)| ends(server.mode)) else {
        let problem = "the tls of an ingress listener is of mode SIMPLE or MUTUAL".to_owned();
        r.wrong_key(
            &block,
            "mode",
            problem,
            "write one of the two, or leave tls out",
        );
        return None;
    };
    Some(IngressTls { server, http })
}

fn bind(at: &At<'_>, r: &mut Reading<'_>) -> Option<IpAddr> {
    let text = value::text(at, "bind")?;
    let parsed = text.parse();
    if parsed.is_err() {
        let problem = format!("{} is not an IP address", quote(text));
        r.wrong_key(at, "bind", problem, "write one, such as 0.0.0.0");
    }
    parsed.ok()
}

fn endpoint(at: &At<'_>, r: &mut Reading<'_>) -> DefaultEndpoint {
    let Some(text) = value::text(at, "defaultEndpoint") else {
        return DefaultEndpoint::Dialled;
    };
    let key = "defaultEndpoint";
    if text.starts_with("unix://") {
        let problem = format!(
            "{} is a Unix socket, which sortie does not dial",
            quote(text)
        );
        r.wrong_key(at, key, problem, ENDPOINTS);
        return DefaultEndpoint::Dialled;
    }
    match text.parse::<SocketAddr>() {
        Ok(to) if to.port() > 0 && to.ip().is_unspecified() => DefaultEndpoint::Own(to.port()),
        Ok(to) if to.port() > 0 && is_localhost(to.ip()) => DefaultEndpoint::Loopback(to),
        Ok(_) | Err(_) => {
            let problem = format!("{} is neither this workload nor its loopback", quote(text));
            r.wrong_key(at, key, problem, ENDPOINTS);
            DefaultEndpoint::Dialled
        }
    }
}

fn is_localhost(ip: IpAddr) -> bool {
    ["127.0.0.1", "::1"].contains(&ip.to_string().as_str())
}
