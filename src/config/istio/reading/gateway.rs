//! Gateway (ISTIO.md G1 to G5, 1.4).
//!
//! Owns: selector, servers, ports and hosts, and what is wrong with one document alone.
//! Never: opens a listener.
//! Called by: read.

use std::net::IpAddr;
use std::sync::Arc;

use crate::config::cursor::At;
use crate::config::diagnostic::Diagnostics;
use crate::config::format::quote;
use crate::config::istio::gateway::{Gateway, Server, ServerHost};
use crate::config::istio::meta::{Meta, Written};
use crate::config::options::LoadOptions;
use crate::model::HostPattern;

use super::context::Reading;
use super::{gateway_tls, value};

/// What a port's `protocol` may be, and what a server of it speaks.
const PROTOCOLS: &[(&str, Spoken)] = &[
    ("HTTP", Spoken::Http),
    ("HTTP2", Spoken::Http),
    ("GRPC", Spoken::Http),
    ("GRPC-WEB", Spoken::Http),
    ("HTTPS", Spoken::Https),
    ("TLS", Spoken::Tls),
    ("TCP", Spoken::Tcp),
    ("MONGO", Spoken::Tcp),
];

/// What a server's port says that it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    Http,
    Https,
    Tls,
    /// With `tls` it is the same as [`Spoken::Tls`].
    Tcp,
}

/// A Gateway. Of one that is refused, what can be read of it.
pub fn read(root: &At<'_>, meta: Meta, r: &mut Reading<'_>) -> Option<Gateway> {
    let spec = root.key("spec")?;
    let selector = value::labels(&spec, "selector").unwrap_or_default();
    if selector.is_empty() {
        let problem = "the selector is empty: it selects every gateway".to_owned();
        let advice = "write selector: with the labels of the gateway's pods";
        r.odd(&spec, problem, advice);
    }
    let list = spec.key("servers");
    if list.iter().flat_map(At::items).next().is_none() {
        let problem = "a Gateway needs at least one server".to_owned();
        let advice = "write servers: with port and hosts";
        r.wrong_key(&spec, "servers", problem, advice);
    }
    let (mut servers, mut names) = (Vec::new(), Vec::<String>::new());
    for item in list.iter().flat_map(At::items) {
        let port = port(&item, r);
        if let Some(name) = item.key("port").and_then(|port| value::text(&port, "name")) {
            if names.iter().any(|other| other == name) {
                let problem = format!("two ports are called {}", quote(name));
                r.wrong_key(&item, "port", problem, "give each port its own name");
            }
            names.push(name.to_owned());
        }
        let hosts = hosts(&item, r);
        let bind = bind(&item, r);
        let kind = port
            .as_ref()
            .and_then(|port| gateway_tls::kind(&item, port.spoken, port.protocol, r));
        if let (Some(port), Some(kind)) = (port, kind) {
            servers.push(Server {
                number: port.number,
                port_name: port.name,
                bind,
                hosts,
                kind,
                place: item.place(),
            });
        }
    }
    Some(Gateway {
        meta,
        selector,
        servers,
    })
}

/// What a Gateway that was refused would have opened, as far as it can be read (X1).
pub fn claimed(root: &At<'_>, meta: &Meta, options: &LoadOptions) -> Option<Gateway> {
    // Its mistakes were said when it was read.
    let mut said = Diagnostics::new();
    let mut r = Reading::new(meta, options, &mut said);
    read(root, meta.clone(), &mut r)
}

/// A port that can be read.
struct Port {
    number: u16,
    name: Arc<str>,
    protocol: &'static str,
    spoken: Spoken,
}

fn port(server: &At<'_>, r: &mut Reading<'_>) -> Option<Port> {
    let Some(port) = server.key("port") else {
        let problem = "the server has no port".to_owned();
        let advice = "write port: {number: 443, name: https, protocol: HTTPS}";
        r.wrong_key(server, "port", problem, advice);
        return None;
    };
    for (key, advice) in [
        ("number", "write number: 443 or whichever it is"),
        ("name", "write a name such as https"),
        (
            "protocol",
            "write one of HTTP, HTTPS, GRPC, HTTP2, TCP, TLS",
        ),
    ] {
        let empty = port.key(key).is_none_or(|at| at.as_text() == Some(""));
        if empty {
            r.wrong_key(&port, key, format!("the port has no {key}"), advice);
        }
    }
    if port.has("targetPort") {
        let problem = "targetPort has no effect: the port of the gateway's Service decides";
        let advice = "leave it out, or run with --gateway-port";
        let code = crate::config::diagnostic::Code::SchemaWarning;
        r.warning(port.wrong_key("targetPort", code, problem.to_owned(), advice));
    }
    let protocol = port.text("protocol").filter(|text| !text.is_empty())?;
    let known = PROTOCOLS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(protocol));
    let Some((protocol, spoken)) = known else {
        let upper = protocol.to_ascii_uppercase();
        let problem = format!("{} is not a protocol of a gateway", quote(&upper));
        let advice = "write one of HTTP, HTTPS, GRPC, HTTP2, TCP, TLS";
        r.wrong_key(server, "port", problem, advice);
        return None;
    };
    Some(Port {
        number: value::port(&port, "number")?,
        name: port.text("name").unwrap_or_default().into(),
        protocol,
        spoken: *spoken,
    })
}

fn hosts(server: &At<'_>, r: &mut Reading<'_>) -> Vec<Written<ServerHost>> {
    let list = server.key("hosts");
    let mut hosts = Vec::new();
    for item in list.iter().flat_map(At::items) {
        if let Some(value) = host(&item, r) {
            let place = item.place();
            hosts.push(Written { value, place });
        }
    }
    if list.iter().flat_map(At::items).next().is_none() {
        let problem = "the server has no hosts".to_owned();
        let advice = "write hosts: [\"*\"] for every host";
        r.wrong_key(server, "hosts", problem, advice);
    }
    hosts
}

/// G2.
fn host(at: &At<'_>, r: &mut Reading<'_>) -> Option<ServerHost> {
    let text = at.as_text()?;
    let advice = "write a name, *.suffix or *, perhaps behind namespace/";
    let (namespace, name) = match text.split_once('/') {
        Some(("*", name)) => (None, name),
        Some((".", name)) => (Some(Arc::clone(&r.namespace)), name),
        Some(("", _)) => {
            let problem = format!("{} has no namespace before the slash", quote(text));
            r.wrong(at, problem, advice);
            return None;
        }
        Some((namespace, name)) => (Some(namespace.into()), name),
        None => (None, text),
    };
    match HostPattern::parse(name) {
        Ok(host) => Some(ServerHost {
            namespace,
            host,
            text: text.into(),
        }),
        Err(error) => {
            let problem = format!("{} is not a host: {error}", quote(name));
            r.wrong(at, problem, advice);
            None
        }
    }
}

/// `bind`: an address. A Unix socket is understood, and refused (U3).
fn bind(server: &At<'_>, r: &mut Reading<'_>) -> Option<IpAddr> {
    let at = server.key("bind")?;
    let text = at.as_text().filter(|text| !text.is_empty())?;
    if text.starts_with("unix://") {
        let problem = format!(
            "{} is a Unix socket, and sortie listens on TCP alone",
            quote(text)
        );
        let code = crate::config::diagnostic::Code::Unsupported;
        r.error(at.wrong(code, problem, "write an IP address, or leave bind out"));
        return None;
    }
    let parsed = text.parse().ok();
    if parsed.is_none() {
        let problem = format!("{} is not an IP address", quote(text));
        let advice = "write an address of this machine, or leave bind out";
        r.wrong(&at, problem, advice);
    }
    parsed
}
