//! From YAML to the table: what VirtualServices and services make of hosts, rules and streams.

use std::sync::Arc;
use std::time::Duration;

use crate::config::load::load_texts_with;
use crate::config::{Code, LoadOptions, Loaded};
use crate::model::*;

mod any_documents;
mod hosts;
mod refused;
mod rules;
mod seeds;
mod streams_of;
mod unknown;

/// A proxy in the namespace `default` with the label `app: shop`.
fn options() -> LoadOptions {
    let mut facts = ProxyFacts::default();
    facts.labels.insert("app".into(), "shop".into());
    LoadOptions {
        facts: Arc::new(facts),
        ..LoadOptions::default()
    }
}

#[test]
fn x13_a_gateway_has_mesh_routes_only_where_a_listener_would_carry_them() {
    let text = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: bank}\n\
                spec: {hosts: [bank.example], resolution: DNS, ports: [{number: 80, name: http, \
                protocol: HTTP}]}\n";
    let hosts = |role, mesh_listeners| {
        let facts = ProxyFacts {
            role,
            ..ProxyFacts::default()
        };
        let options = LoadOptions {
            facts: Arc::new(facts),
            mesh_listeners,
            ..LoadOptions::default()
        };
        let loaded = load_texts_with(&[("a.yaml", text)], &options).unwrap();
        loaded.config.hosts.len()
    };
    assert_eq!(hosts(Role::Gateway, false), 0);
    assert_eq!(hosts(Role::Gateway, true), 1);
    assert_eq!(hosts(Role::Sidecar, false), 1);
}

#[track_caller]
fn load(text: &str) -> Loaded {
    load_files(&[("a.yaml", text)])
}

#[track_caller]
fn load_files(files: &[(&str, &str)]) -> Loaded {
    match load_texts_with(files, &options()) {
        Ok(loaded) => loaded,
        Err(all) => panic!("{all}"),
    }
}

/// The table: `hosts:port matches > what`, one line for each rule.
fn table(loaded: &Loaded) -> Vec<String> {
    let groups = loaded.config.hosts.iter();
    let lines = groups.flat_map(|group| {
        let hosts: Vec<String> = group.hosts.iter().map(ToString::to_string).collect();
        let port = group.port.map_or("*".to_owned(), |port| port.to_string());
        let head = format!("{}:{port}", hosts.join(","));
        group
            .rules
            .iter()
            .map(move |rule| format!("{head} {}", rule_text(rule)))
    });
    lines.collect()
}

fn rule_text(rule: &RuleSpec) -> String {
    let paths: Vec<String> = rule.matches.iter().map(match_text).collect();
    let what = match &rule.action {
        Action::Forward(to) => to_text(to),
        Action::Redirect(redirect) => format!("redirect {}", redirect.status),
        Action::Respond(respond) => format!("respond {}", respond.status),
    };
    match paths.is_empty() {
        true => format!("> {what}"),
        false => format!("{} > {what}", paths.join(" or ")),
    }
}

fn match_text(one: &MatchSpec) -> String {
    match &one.path {
        Some(StringMatch::Exact(text)) => format!("={text}"),
        Some(StringMatch::Prefix(text)) => format!("{text}*"),
        Some(StringMatch::Regex(text)) => format!("~{text}"),
        None => "any".to_owned(),
    }
}

fn to_text(to: &[Weighted]) -> String {
    let one = |one: &Weighted| match to.len() {
        1 => one.upstream.to_string(),
        _ => format!("{}={}", one.upstream, one.weight),
    };
    to.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// The streams: `port tls names|tcp nets|other nets > where`.
fn streams(loaded: &Loaded) -> Vec<String> {
    let text = |nets: &[ipnet::IpNet]| {
        let nets: Vec<String> = nets.iter().map(ToString::to_string).collect();
        nets.join(",")
    };
    let lines = loaded.config.streams.iter().map(|stream| {
        let port = stream.port.map_or("*".to_owned(), |port| port.to_string());
        let on = match &stream.on {
            StreamMatch::Tls {
                names,
                destinations,
            } => {
                let names: Vec<String> = names.iter().map(ToString::to_string).collect();
                format!("tls {} {}", names.join(","), text(destinations))
            }
            StreamMatch::Tcp { destinations } => format!("tcp {}", text(destinations)),
            StreamMatch::Sniffed { destinations } => format!("other {}", text(destinations)),
        };
        let from = match stream.sources.is_empty() {
            true => String::new(),
            false => format!(" from {}", text(&stream.sources)),
        };
        format!("{port} {}{from} > {}", on.trim_end(), to_text(&stream.to))
    });
    lines.collect()
}

/// What is said with one of these codes.
fn said(loaded: &Loaded, codes: &[Code]) -> Vec<String> {
    let found = loaded.warnings.iter();
    let found = found.filter(|one| codes.contains(&one.code));
    found.map(ToString::to_string).collect()
}

/// A ServiceEntry of these hosts with these `number/PROTOCOL` ports.
fn entry(name: &str, hosts: &str, ports: &[&str]) -> String {
    let ports: Vec<String> = ports
        .iter()
        .map(|port| {
            let (number, protocol) = port.split_once('/').unwrap();
            format!("{{number: {number}, name: p{number}, protocol: {protocol}}}")
        })
        .collect();
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\n\
         spec: {{hosts: [{hosts}], resolution: STATIC, endpoints: [{{address: 192.0.2.1}}], ports: \
         [{}]}}\n",
        ports.join(", ")
    )
}

/// A VirtualService of `default` with `spec` as it stands.
fn vs(name: &str, spec: &str) -> String {
    let spec = spec.trim_start_matches('\n');
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\n\
         spec:\n{spec}\n"
    )
}

/// `http` that sends everything to `host` on 443.
fn all_to(host: &str) -> String {
    format!("[{{route: [{{destination: {{host: {host}, port: {{number: 443}}}}}}]}}]")
}

fn service(name: &str, namespace: &str, ports: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{clusterIP: 10.0.0.9, selector: {{app: {name}}}, ports: [{ports}]}}\n"
    )
}

const MESH_REFERENCES: &[Code] = &[Code::ReferenceNotFound];

/// The table can be built: no host twice, and every rule compiles.
#[track_caller]
fn compiles(loaded: &Loaded) {
    use std::collections::{HashMap, HashSet};
    let names: HashSet<_> = loaded
        .config
        .upstreams
        .iter()
        .map(|one| &one.name)
        .collect();
    let mut seen: HashMap<(String, Option<u16>), usize> = HashMap::new();
    for group in &loaded.config.hosts {
        assert!(!group.hosts.is_empty());
        for host in &group.hosts {
            *seen.entry((host.to_string(), group.port)).or_default() += 1;
        }
        for rule in &group.rules {
            if let Action::Forward(to) = &rule.action {
                assert!(!to.is_empty());
                assert!(to.iter().all(|one| names.contains(&one.upstream)), "{to:?}");
            }
        }
    }
    let twice: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    for stream in &loaded.config.streams {
        assert!(
            stream.to.iter().all(|one| names.contains(&one.upstream)),
            "{stream:?}"
        );
    }
}

#[test]
fn srt0506_a_rule_that_sends_requests_to_a_tls_port_in_plaintext_is_told() {
    let rules = format!(
        "  hosts: [bank.example]\n  http: {}",
        all_to("bank.example")
    );
    let text = entry("bank", "bank.example", &["443/TLS"]) + &vs("a", &rules);
    let found = said(&load(&text), &[Code::PlainToHttpsPort]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("VirtualService default/a"), "{found:?}");
    let rule = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: \
                d}\nspec: {host: bank.example, trafficPolicy: {tls: {mode: SIMPLE}}}\n";
    let found = said(&load(&(text + rule)), &[Code::PlainToHttpsPort]);
    assert_eq!(found, Vec::<String>::new());
}

/// A big table is lowered by look-ups and not by going through it for each of its parts.
#[test]
fn ten_thousand_services_with_their_rules_load_in_time() {
    use std::fmt::Write;
    let mut text = String::new();
    for n in 0..10_000 {
        let host = format!("h{n}.example");
        write!(
            text,
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: \
             s{n}}}\nspec: {{hosts: [{host}], resolution: DNS, ports: [{{number: 443, name: tls, \
             protocol: TLS}}]}}\n---\napiVersion: networking.istio.io/v1\nkind: \
             VirtualService\nmetadata: {{name: v{n}}}\nspec: {{hosts: [{host}], http: [{{match: \
             [{{port: 80}}], route: [{{destination: {{host: {host}, port: {{number: \
             443}}}}}}]}}]}}\n---\napiVersion: networking.istio.io/v1\nkind: \
             DestinationRule\nmetadata: {{name: d{n}}}\nspec: {{host: {host}, trafficPolicy: {{tls: \
             {{mode: SIMPLE, caCertificates: /ca.pem, sni: {host}}}}}}}\n"
        )
        .unwrap();
    }
    let began = std::time::Instant::now();
    let loaded = load(&text);
    let took = began.elapsed();
    assert_eq!(loaded.config.hosts.len(), 10_000);
    assert_eq!(loaded.config.streams.len(), 10_000);
    assert_eq!(loaded.config.upstreams.len(), 10_000);
    compiles(&loaded);
    // A hundred times what it takes; going through all for each would take longer still.
    assert!(took < Duration::from_secs(60), "{took:?}");
    println!("{} bytes in {took:?}", text.len());
}
