//! Mesh configuration, in an IstioOperator or in the ConfigMap `istio` (K7).
//!
//! Owns: reading it, and the YAML inside of YAML.
//! Never: overrides a flag.
//! Called by: read.

use crate::config::cursor::{At, Source};
use crate::config::diagnostic::Code;
use crate::config::istio::mesh::{MeshConfig, ProxyHeaders};
use crate::config::istio::tables::mesh::{CONFIG_MAP, FORWARD_CLIENT_CERT};
use crate::config::node::{Node, Value};
use crate::config::yaml;
use crate::model::{AccessLogSpec, ClientCertDetails, ForwardClientCert};

use super::check::{check, normalised};
use super::context::Reading;
use super::{sidecar, value};

/// `spec.meshConfig` of an IstioOperator, where it is there.
pub fn operator(root: &At<'_>) -> Option<MeshConfig> {
    let spec = root.key("spec")?;
    let mesh = spec.key("meshConfig")?;
    Some(read(&mesh))
}

/// The key `mesh` of the ConfigMap `istio`, where it is there.
pub fn config_map(root: &Node, source: &Source, r: &mut Reading<'_>) -> Option<MeshConfig> {
    let root = unfolded(root, source, r)?;
    let root = normalised(root, &CONFIG_MAP);
    let at = At::root(source, &root);
    check(&at, &CONFIG_MAP, r);
    let data = at.key("data")?;
    let mesh = data.key("mesh")?;
    Some(read(&mesh))
}

/// The document with the text of `data.mesh` replaced by what it says.
fn unfolded(root: &Node, source: &Source, r: &mut Reading<'_>) -> Option<Node> {
    let mut root = root.clone();
    let mesh = entry(entry(&mut root, "data")?, "mesh")?;
    let Value::Scalar(scalar) = &mesh.value else {
        return None;
    };
    let parsed = yaml::parse(&scalar.text);
    // A block begins where its first line does.
    let above = mesh.at.line.saturating_sub(1);
    for mistake in &parsed.mistakes {
        let here = Node {
            at: mesh.at,
            value: Value::List(Vec::new()),
        };
        let at = At::root(source, &here);
        let problem = format!("data.mesh, line {}: {}", mistake.at.line, mistake.problem);
        r.error(at.wrong(Code::SchemaError, problem, mistake.advice));
    }
    if !parsed.mistakes.is_empty() {
        return None;
    }
    let mut inner = parsed.documents.into_iter().next()?;
    moved(&mut inner, above);
    *mesh = inner;
    Some(root)
}

fn entry<'n>(node: &'n mut Node, key: &str) -> Option<&'n mut Node> {
    let Value::Map(entries) = &mut node.value else {
        return None;
    };
    let found = entries.iter_mut().find(|entry| entry.key.as_ref() == key);
    found.map(|entry| &mut entry.value)
}

/// Lines as they are in the file; the columns are not known.
fn moved(node: &mut Node, above: u32) {
    node.at.line += above;
    node.at.column = 0;
    match &mut node.value {
        Value::Scalar(_) => {}
        Value::List(items) => items.iter_mut().for_each(|item| moved(item, above)),
        Value::Map(entries) => {
            for entry in entries {
                entry.key_at.line += above;
                entry.key_at.column = 0;
                moved(&mut entry.value, above);
            }
        }
    }
}

/// B6: off where no file is named; JSON has operators of its own, and no format string here.
fn access_log(at: &At<'_>) -> Option<AccessLogSpec> {
    let file = value::text(at, "accessLogFile").filter(|file| !file.is_empty())?;
    let json = at
        .word("accessLogEncoding")
        .is_some_and(|word| word == "JSON" || word == "1");
    let format = value::text(at, "accessLogFormat").filter(|format| !format.is_empty());
    Some(AccessLogSpec {
        file: file.to_owned(),
        format: match (json, format) {
            (true, _) => "json".to_owned(),
            (false, Some(format)) => format.to_owned(),
            (false, None) => "text".to_owned(),
        },
        place: at.place(),
    })
}

fn read(at: &At<'_>) -> MeshConfig {
    MeshConfig {
        outbound: at
            .key("outboundTrafficPolicy")
            .and_then(|at| sidecar::mode(&at)),
        auto_mtls: value::flag(at, "enableAutoMtls"),
        trust_domain: value::text(at, "trustDomain").map(Into::into),
        trust_domain_aliases: value::strings(at, "trustDomainAliases")
            .iter()
            .map(|alias| alias.as_str().into())
            .collect(),
        root_namespace: value::text(at, "rootNamespace").map(Into::into),
        connect_timeout: value::duration(at, "connectTimeout"),
        headers: headers(at),
        access_log: access_log(at),
    }
}

/// G12, P16.
fn headers(at: &At<'_>) -> ProxyHeaders {
    let mut headers = ProxyHeaders::default();
    let Some(config) = at.key("defaultConfig") else {
        return headers;
    };
    if let Some(topology) = config.key("gatewayTopology") {
        headers.trusted_hops = value::whole(&topology, "numTrustedProxies").unwrap_or_default();
        headers.gateway_client_cert = client_cert(&topology, "forwardClientCertDetails");
    }
    let Some(said) = config.key("proxyHeaders") else {
        return headers;
    };
    headers.inbound_client_cert = client_cert(&said, "forwardedClientCert");
    headers.inbound_details = said.key("setCurrentClientCertDetails").map(|at| {
        let is = |key: &str, default: bool| value::flag(&at, key).unwrap_or(default);
        ClientCertDetails {
            subject: is("subject", true),
            cert: is("cert", false),
            chain: is("chain", false),
            dns: is("dns", true),
            uri: is("uri", true),
        }
    });
    let request_id = said.key("requestId");
    headers.no_request_id = request_id.is_some_and(|at| value::flag(&at, "disabled") == Some(true));
    headers.server = said.key("server").and_then(|at| {
        let disabled = value::flag(&at, "disabled") == Some(true);
        match (disabled, value::text(&at, "value")) {
            (true, _) => Some(None),
            // What is no header's value is as if it were not there.
            (false, Some(text)) if http::HeaderValue::from_str(text).is_ok() => {
                Some(Some(text.into()))
            }
            (false, _) => None,
        }
    });
    headers
}

fn client_cert(at: &At<'_>, key: &str) -> Option<ForwardClientCert> {
    match value::word(at, key, FORWARD_CLIENT_CERT)? {
        "SANITIZE" => Some(ForwardClientCert::Sanitize),
        "FORWARD_ONLY" => Some(ForwardClientCert::ForwardOnly),
        "APPEND_FORWARD" => Some(ForwardClientCert::AppendForward),
        "SANITIZE_SET" => Some(ForwardClientCert::SanitizeSet),
        "ALWAYS_FORWARD_ONLY" => Some(ForwardClientCert::AlwaysForwardOnly),
        _ => None,
    }
}
