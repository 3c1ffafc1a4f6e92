//! DestinationRule (ISTIO.md D, T1 to T3, X7).
//!
//! Owns: reading it, and what must fit together in one level of it.
//! Never: merges two levels (that is `lower::policy`).
//! Called by: read.

use crate::config::cursor::At;
use crate::config::diagnostic::Code;
use crate::config::format::{Format, quote};
use crate::config::istio::destination_rule::{
    ConnectionPool, DestinationRule, LoadBalancer, OutlierDetection, PortPolicy, Subset, TlsMode,
    TlsSettings, TrafficPolicy,
};
use crate::config::istio::meta::{ExportTo, Meta, Written};
use crate::config::istio::tables::destination_rule::{H2_UPGRADE, SIMPLE, TLS_MODE};
use crate::model::{Balance, Host};

use super::context::Reading;
use super::service_entry::label;
use super::{metadata, names, value};

/// A DestinationRule; `None` where it has no readable host.
pub fn read(root: &At<'_>, meta: Meta, r: &mut Reading<'_>) -> Option<DestinationRule> {
    let spec = root.key("spec")?;
    let host = match spec.key("host").filter(|at| at.as_text() != Some("")) {
        Some(at) => names::pattern(&at, r).and_then(|_| {
            let value = at.as_text()?.to_owned();
            let place = at.place();
            Some(Written { value, place })
        }),
        None => {
            let problem = "a DestinationRule needs a host".to_owned();
            r.wrong_key(
                &spec,
                "host",
                problem,
                "write host: name.ns.svc.cluster.local",
            );
            None
        }
    };
    let export_to = metadata::export_to(&spec, r);
    let selector = metadata::selector(&spec, "workloadSelector", "matchLabels", r);
    let own = matches!(&export_to, ExportTo::Namespaces(list) if list.iter().all(|ns| *ns == meta.namespace));
    if selector.is_some() && spec.has("exportTo") && !own {
        let problem = "a rule with a workloadSelector is for its own namespace alone".to_owned();
        r.wrong_key(
            &spec,
            "exportTo",
            problem,
            "write exportTo: [\".\"], or leave it out",
        );
    }
    let policy = spec
        .key("trafficPolicy")
        .map(|at| policy(&at, Level::Top, r));
    let subsets = subsets(&spec, r);
    Some(DestinationRule {
        meta,
        host: host?,
        policy,
        subsets,
        selector,
        export_to,
    })
}

/// Whether `portLevelSettings` may stand here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Top,
    Port,
}

fn subsets(spec: &At<'_>, r: &mut Reading<'_>) -> Vec<Subset> {
    let list = spec.key("subsets");
    let mut subsets: Vec<Subset> = Vec::new();
    for item in list.iter().flat_map(At::items) {
        let Some(name) = value::text(&item, "name") else {
            let problem = "the subset has no name".to_owned();
            r.wrong_key(
                &item,
                "name",
                problem,
                "write name: v1 or whatever routes call it",
            );
            continue;
        };
        if let Some(at) = item.key("name") {
            label(&at, r);
        }
        if let Some(first) = subsets.iter().find(|subset| subset.name.as_ref() == name) {
            let problem = format!(
                "two subsets are called {}; the first is at line {}",
                quote(name),
                first.place.line
            );
            r.wrong_key(&item, "name", problem, "give each subset its own name");
        }
        subsets.push(Subset {
            name: name.into(),
            labels: value::labels(&item, "labels").unwrap_or_default(),
            policy: item
                .key("trafficPolicy")
                .map(|at| policy(&at, Level::Top, r)),
            place: item.place(),
        });
    }
    subsets
}

fn policy(at: &At<'_>, level: Level, r: &mut Reading<'_>) -> TrafficPolicy {
    let ports = match level {
        Level::Top => ports(at, r),
        Level::Port => Vec::new(),
    };
    let outside_port = |entry: &&crate::config::node::Entry| entry.key.as_ref() != "port";
    if at.entries().iter().find(outside_port).is_none() {
        let (problem, advice) = match level {
            Level::Top => (
                "the traffic policy says nothing",
                "write tls, loadBalancer, connectionPool or outlierDetection, or leave it out",
            ),
            Level::Port => (
                "the entry says nothing but its port",
                "write tls, loadBalancer, connectionPool or outlierDetection, or leave it out",
            ),
        };
        r.wrong(at, problem.to_owned(), advice);
    }
    TrafficPolicy {
        load_balancer: at.key("loadBalancer").and_then(|at| balance(&at)),
        connection_pool: at.key("connectionPool").map(|at| connection_pool(&at)),
        outlier: at.key("outlierDetection").map(|at| outlier(&at)),
        tls: at.key("tls").map(|at| tls(&at, r)),
        ports,
        place: at.place(),
    }
}

fn ports(at: &At<'_>, r: &mut Reading<'_>) -> Vec<PortPolicy> {
    let list = at.key("portLevelSettings");
    let mut ports: Vec<PortPolicy> = Vec::new();
    for item in list.iter().flat_map(At::items) {
        let number = item
            .key("port")
            .and_then(|port| value::port(&port, "number"));
        let policy = policy(&item, Level::Port, r);
        let Some(port) = number else {
            let there = item.key("port").is_some_and(|port| port.has("number"));
            if !there {
                let problem = "the entry names no port".to_owned();
                r.wrong_key(
                    &item,
                    "port",
                    problem,
                    "write port: {number: 443}, a service port",
                );
            }
            continue;
        };
        if ports.iter().any(|other| other.port == port) {
            let problem = format!("port {port} stands twice");
            r.wrong_key(&item, "port", problem, "keep one of the two");
        }
        ports.push(PortPolicy {
            port,
            policy,
            place: item.place(),
        });
    }
    ports
}

fn balance(at: &At<'_>) -> Option<LoadBalancer> {
    match value::word(at, "simple", SIMPLE)? {
        "LEAST_CONN" | "LEAST_REQUEST" => Some(LoadBalancer::Among(Balance::LeastRequest)),
        "RANDOM" => Some(LoadBalancer::Among(Balance::Random)),
        "ROUND_ROBIN" => Some(LoadBalancer::Among(Balance::RoundRobin)),
        "PASSTHROUGH" => Some(LoadBalancer::Dialled),
        _ => None,
    }
}

fn connection_pool(at: &At<'_>) -> ConnectionPool {
    let (tcp, http) = (at.key("tcp"), at.key("http"));
    let (tcp, http) = (tcp.as_ref(), http.as_ref());
    // 0 is Istio's word for "no bound".
    let bound =
        |at: Option<&At<'_>>, key| at.and_then(|at| value::whole(at, key)).filter(|n| *n > 0);
    ConnectionPool {
        connect_timeout: tcp.and_then(|tcp| value::duration(tcp, "connectTimeout")),
        max_connections: bound(tcp, "maxConnections"),
        max_requests: bound(http, "http2MaxRequests"),
        max_requests_per_connection: http
            .and_then(|http| value::whole(http, "maxRequestsPerConnection")),
        idle_timeout: http.and_then(|http| value::duration(http, "idleTimeout")),
        upgrade_to_http2: match http
            .and_then(|http| value::word(http, "h2UpgradePolicy", H2_UPGRADE))
        {
            Some("UPGRADE") => Some(true),
            Some("DO_NOT_UPGRADE") => Some(false),
            _ => None,
        },
    }
}

fn outlier(at: &At<'_>) -> OutlierDetection {
    let consecutive = [
        "consecutiveGatewayErrors",
        "consecutive5xxErrors",
        "consecutiveErrors",
    ];
    OutlierDetection {
        consecutive: consecutive.iter().find_map(|key| value::whole(at, key)),
        base_ejection: value::duration(at, "baseEjectionTime"),
        max_percent: value::whole(at, "maxEjectionPercent"),
    }
}

fn tls(at: &At<'_>, r: &mut Reading<'_>) -> TlsSettings {
    let mode = match value::word(at, "mode", TLS_MODE) {
        Some("SIMPLE") => TlsMode::Simple,
        Some("MUTUAL") => TlsMode::Mutual,
        Some("ISTIO_MUTUAL") => TlsMode::IstioMutual,
        _ => TlsMode::Disable,
    };
    if !at.has("mode") {
        let problem = "tls without a mode is DISABLE to Istio: plaintext".to_owned();
        let advice =
            "write mode: SIMPLE, MUTUAL or ISTIO_MUTUAL, or DISABLE where plaintext is meant";
        let wrong = at.wrong_key("mode", Code::TlsMode, problem, advice);
        // Whoever writes certificates or names has asked for TLS, and lenient is not plaintext.
        match at.entries().is_empty() {
            true => r.strict(wrong),
            false => r.error(wrong),
        }
    }
    let file = |key: &str, r: &mut Reading<'_>| {
        names::formatted_key(at, key, Format::File, r).map(str::to_owned)
    };
    let settings = TlsSettings {
        mode,
        client_certificate: file("clientCertificate", r),
        private_key: file("privateKey", r),
        ca_certificates: file("caCertificates", r),
        ca_crl: file("caCrl", r),
        credential_name: credential_name(at, r),
        sni: names::formatted_key(at, "sni", Format::Host, r).and_then(|sni| Host::parse(sni).ok()),
        subject_alt_names: names::alt_names(at, r),
        insecure_skip_verify: value::flag(at, "insecureSkipVerify").unwrap_or_default(),
        place: at.place(),
    };
    fits(at, &settings, r);
    settings
}

fn credential_name(at: &At<'_>, r: &mut Reading<'_>) -> Option<Written<String>> {
    let name = at.key("credentialName")?;
    let text = name.as_text().filter(|text| !text.is_empty())?;
    if let Err(advice) = check_credential(text) {
        let problem = format!("{} does not name a credential", quote(text));
        r.wrong(&name, problem, advice);
    }
    let place = name.place();
    Some(Written {
        value: text.to_owned(),
        place,
    })
}

/// S1.
///
/// # Errors
/// What to write instead.
pub fn check_credential(text: &str) -> Result<(), &'static str> {
    let word = |text: &str| {
        !text.is_empty()
            && text.len() <= 253
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
    };
    let both = |rest: &str| {
        rest.split_once('/')
            .is_some_and(|(ns, name)| word(ns) && word(name))
    };
    let Some((scheme, rest)) = text.split_once("://") else {
        return match word(text) {
            true => Ok(()),
            false => Err("write the name of a Secret, or kubernetes://namespace/name"),
        };
    };
    match scheme {
        "kubernetes" if both(rest) || word(rest) => Ok(()),
        "kubernetes-gateway" | "configmap" if both(rest) => Ok(()),
        "builtin" | "sds" | "invalid" => Ok(()),
        "kubernetes" => Err("write kubernetes://namespace/name"),
        "kubernetes-gateway" | "configmap" => {
            Err("write the namespace and the name after it: configmap://namespace/name")
        }
        _ => Err(
            "write the name of a Secret, kubernetes://namespace/name or \
                  configmap://namespace/name",
        ),
    }
}

/// T2, T3, X7.
fn fits(at: &At<'_>, tls: &TlsSettings, r: &mut Reading<'_>) {
    let files = ["clientCertificate", "privateKey", "caCertificates", "caCrl"];
    let mut wrong = |key: &str, problem: String, advice: &str| {
        r.error(at.wrong_key(key, Code::TlsMode, problem, advice));
    };
    let there = |key: &str| match at.key(key) {
        Some(at) => at.as_text() != Some(""),
        None => false,
    };
    match tls.mode {
        TlsMode::IstioMutual => {
            for key in files
                .iter()
                .chain(&["credentialName"])
                .filter(|key| there(key))
            {
                let problem = format!("ISTIO_MUTUAL uses the mesh identity, and {key} is given");
                wrong(key, problem, "leave it out, or write mode: MUTUAL");
            }
        }
        TlsMode::Simple | TlsMode::Mutual if there("credentialName") => {
            for key in files.iter().filter(|key| there(key)) {
                let problem = format!("credentialName and {key} both say where certificates are");
                wrong(key, problem, "keep one of the two");
            }
        }
        TlsMode::Mutual => {
            for key in ["clientCertificate", "privateKey"]
                .iter()
                .filter(|key| !there(key))
            {
                let problem = format!("MUTUAL needs a certificate of ours, and there is no {key}");
                wrong(
                    key,
                    problem,
                    "write clientCertificate and privateKey, or credentialName",
                );
            }
        }
        TlsMode::Simple | TlsMode::Disable => {}
    }
    if tls.insecure_skip_verify {
        for key in ["caCertificates", "subjectAltNames"]
            .iter()
            .filter(|key| there(key))
        {
            let problem =
                format!("insecureSkipVerify checks nothing, and {key} says what to check");
            wrong(key, problem, "keep one of the two");
        }
        if tls.mode == TlsMode::Simple && there("credentialName") {
            let problem = "insecureSkipVerify checks nothing, and with SIMPLE credentialName is \
                           the CA to check with";
            wrong("credentialName", problem.to_owned(), "keep one of the two");
        }
    }
    without_effect(at, tls, &there, r);
}

/// What is allowed, and means nothing.
fn without_effect(
    at: &At<'_>,
    tls: &TlsSettings,
    there: &dyn Fn(&str) -> bool,
    r: &mut Reading<'_>,
) {
    let idle: &[&str] = match tls.mode {
        TlsMode::Disable => &[
            "clientCertificate",
            "privateKey",
            "caCertificates",
            "caCrl",
            "credentialName",
            "sni",
            "subjectAltNames",
            "insecureSkipVerify",
        ],
        TlsMode::Simple => &["clientCertificate", "privateKey"],
        TlsMode::Mutual | TlsMode::IstioMutual => &[],
    };
    let written = at.has("mode");
    for key in idle.iter().filter(|key| written && there(key)) {
        let mode = if tls.mode == TlsMode::Simple {
            "SIMPLE"
        } else {
            "DISABLE"
        };
        let problem = format!("{key} has no effect with mode: {mode}");
        let advice = "leave it out, or write mode: MUTUAL";
        r.warning(at.wrong_key(key, Code::SchemaWarning, problem, advice));
    }
}
