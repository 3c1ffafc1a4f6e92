//! `ingress` of a Sidecar (ISTIO.md X14, 1.2).
//!
//! Owns: reading it, and what is wrong with one listener.
//! Never: opens a listener.
//! Called by: sidecar.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use crate::config::cursor::At;
use crate::config::format::quote;
use crate::config::istio::service_entry::Protocol;
use crate::config::istio::sidecar::{CaptureMode, DefaultEndpoint, IngressListener};
use crate::config::istio::tables::sidecar::CAPTURE;

use super::context::Reading;
use super::{service_entry, value};

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
        place: at.place(),
    })
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
