//! Gateway (ISTIO.md G1 to G5, 1.4).
//!
//! Owns: what is wrong with one alone, and its name and hosts.
//! Never: opens a listener.
//! Called by: read.

use crate::config::cursor::At;
use crate::config::diagnostic::Code;
use crate::config::format::quote;
use crate::config::istio::manifests::GatewayName;
use crate::config::istio::meta::{Meta, Written};
use crate::config::istio::tables::gateway::MODE;
use crate::model::HostPattern;

use super::context::Reading;
use super::value;

/// A Gateway.
pub fn read(root: &At<'_>, meta: Meta, r: &mut Reading<'_>) -> Option<GatewayName> {
    let spec = root.key("spec")?;
    if value::labels(&spec, "selector")
        .unwrap_or_default()
        .is_empty()
    {
        let problem = "the selector is empty: it selects every gateway".to_owned();
        r.odd(
            &spec,
            problem,
            "write selector: with the labels of the gateway's pods",
        );
    }
    let list = spec
        .key("servers")
        .filter(|list| list.items().next().is_some());
    let Some(list) = list else {
        let problem = "a Gateway needs at least one server".to_owned();
        r.wrong_key(
            &spec,
            "servers",
            problem,
            "write servers: with port and hosts",
        );
        return None;
    };
    let (mut hosts, mut names) = (Vec::new(), Vec::<String>::new());
    for server in list.items() {
        hosts.extend(server_hosts(&server, r));
        if let Some(name) = port(&server, r) {
            if names.contains(&name) {
                let problem = format!("two ports are called {}", quote(&name));
                r.wrong_key(&server, "port", problem, "give each port its own name");
            }
            names.push(name);
        }
        tls(&server, r);
    }
    Some(GatewayName { meta, hosts })
}

fn server_hosts(server: &At<'_>, r: &mut Reading<'_>) -> Vec<Written<String>> {
    let list = server.key("hosts");
    let mut hosts = Vec::new();
    for item in list.iter().flat_map(At::items) {
        let Some(text) = item.as_text() else { continue };
        let host = text.split_once('/').map_or(text, |(_, host)| host);
        if let Err(error) = HostPattern::parse(host) {
            let problem = format!("{} is not a host: {error}", quote(host));
            r.wrong(
                &item,
                problem,
                "write a name, *.suffix or *, perhaps behind namespace/",
            );
            continue;
        }
        let (value, place) = (text.to_owned(), item.place());
        hosts.push(Written { value, place });
    }
    if list.iter().flat_map(At::items).next().is_none() {
        let problem = "the server has no hosts".to_owned();
        r.wrong_key(
            server,
            "hosts",
            problem,
            "write hosts: [\"*\"] for every host",
        );
    }
    hosts
}

/// Checks the port; its name.
fn port(server: &At<'_>, r: &mut Reading<'_>) -> Option<String> {
    let Some(port) = server.key("port") else {
        let problem = "the server has no port".to_owned();
        r.wrong_key(
            server,
            "port",
            problem,
            "write port: {number: 443, name: https, protocol: HTTPS}",
        );
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
    value::text(&port, "name").map(str::to_owned)
}

fn tls(server: &At<'_>, r: &mut Reading<'_>) {
    let port = server.key("port");
    let protocol =
        port.and_then(|port| value::text(&port, "protocol").map(str::to_ascii_uppercase));
    let Some(protocol) = protocol else { return };
    let secure = match protocol.as_str() {
        "HTTPS" | "TLS" => true,
        "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" | "TCP" | "MONGO" => false,
        other => {
            let problem = format!("{} is not a protocol of a gateway", quote(other));
            let advice = "write one of HTTP, HTTPS, GRPC, HTTP2, TCP, TLS";
            return r.wrong_key(server, "port", problem, advice);
        }
    };
    let Some(tls) = server.key("tls") else {
        if secure {
            let problem = format!("a server of protocol {protocol} needs tls");
            r.wrong_key(
                server,
                "tls",
                problem,
                "write tls: {mode: SIMPLE, credentialName: NAME}",
            );
        }
        return;
    };
    let redirect = value::flag(&tls, "httpsRedirect") == Some(true);
    if redirect && protocol != "HTTP" {
        let problem = format!("httpsRedirect has no effect on a server of protocol {protocol}");
        let advice = "write it at the server of protocol HTTP";
        r.warning(tls.wrong_key("httpsRedirect", Code::SchemaWarning, problem, advice));
    }
    // TCP may be terminated TLS (G3); clear HTTP knows the redirect alone (G4).
    let plain = !secure && protocol != "TCP" && protocol != "MONGO";
    let beside = |entry: &crate::config::node::Entry| entry.key.as_ref() != "httpsRedirect";
    let more = tls.entries().iter().any(beside);
    if plain && more {
        let problem = format!("a server of protocol {protocol} speaks no TLS");
        return r.wrong_key(
            server,
            "tls",
            problem,
            "write protocol: HTTPS, or tls: {httpsRedirect: true}",
        );
    }
    if !plain {
        certificates(&tls, r);
    }
}

/// G4, G5, and CRLs (1.4).
fn certificates(tls: &At<'_>, r: &mut Reading<'_>) {
    let there = |key: &str| match tls.key(key) {
        Some(at) => at.as_text() != Some(""),
        None => false,
    };
    let mode = value::word(tls, "mode", MODE).unwrap_or("PASSTHROUGH");
    let pair = there("serverCertificate") || there("privateKey");
    let named = there("credentialName");
    let ways = [
        pair,
        named,
        there("credentialNames"),
        there("tlsCertificates"),
    ];
    let count = ways.iter().filter(|way| **way).count();
    let keys = [
        "serverCertificate",
        "privateKey",
        "caCertificates",
        "credentialName",
        "credentialNames",
        "tlsCertificates",
    ];
    match mode {
        "ISTIO_MUTUAL" => {
            for key in keys.iter().filter(|key| there(key)) {
                let problem = format!("ISTIO_MUTUAL uses the mesh identity, and {key} is given");
                r.error(tls.wrong_key(key, Code::TlsMode, problem, "leave it out"));
            }
        }
        "SIMPLE" | "MUTUAL" | "OPTIONAL_MUTUAL" if count != 1 => {
            let problem = match count {
                0 => format!("{mode} needs a certificate, and none is named"),
                _ => "certificates are named in more than one way".to_owned(),
            };
            let advice = "write credentialName, or serverCertificate and privateKey";
            r.error(tls.wrong_key("mode", Code::TlsMode, problem, advice));
        }
        "SIMPLE" | "MUTUAL" | "OPTIONAL_MUTUAL" if pair => {
            let both = ["serverCertificate", "privateKey"];
            for key in both.iter().filter(|key| !there(key)) {
                let problem = format!("{key} is missing beside the other");
                r.error(tls.wrong_key(key, Code::TlsMode, problem, "write the file of it"));
            }
            if mode != "SIMPLE" && !there("caCertificates") && !there("caCertCredentialName") {
                let problem = format!("{mode} checks clients, and no CA is named");
                let advice = "write caCertificates";
                r.error(tls.wrong_key("caCertificates", Code::TlsMode, problem, advice));
            }
        }
        _ => {}
    }
    if there("caCrl") && (named || mode == "SIMPLE") {
        let why = if named {
            "credentialName brings its own"
        } else {
            "SIMPLE checks no client"
        };
        let problem = format!("caCrl has no use: {why}");
        r.error(tls.wrong_key("caCrl", Code::TlsMode, problem, "leave it out"));
    }
}
