//! From YAML to the table: what VirtualServices and services make of hosts, rules and streams.

use std::sync::Arc;
use std::time::Duration;

use crate::config::load::load_texts_with;
use crate::config::{Code, LoadOptions, Loaded};
use crate::model::*;

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

mod hosts {
    use super::*;

    #[test]
    fn v6_a_service_without_rules_is_routed_on_each_of_its_http_ports() {
        let loaded = load(&entry(
            "bank",
            "bank.example",
            &["80/HTTP", "8080/HTTP2", "443/TLS"],
        ));
        assert_eq!(
            table(&loaded),
            [
                "bank.example:80 > outbound|80||bank.example",
                "bank.example:8080 > outbound|8080||bank.example",
            ]
        );
        let rule = &loaded.config.hosts[0].rules[0];
        assert_eq!(rule.name.as_deref(), Some("default"));
        assert_eq!((rule.timeout, &rule.retries), (None, &Retries::default()));
        assert_eq!(rule.object.as_deref(), Some("ServiceEntry default/bank"));
    }

    #[test]
    fn v6_every_upstream_that_a_rule_names_is_there() {
        let loaded = load(
            &(entry("bank", "bank.example", &["80/HTTP", "443/TLS"])
                + &vs(
                    "a",
                    "  hosts: [other.example]\n  http: [{route: [{destination: {host: bank.example, subset: none, port: {number: 1}}}]}]",
                )),
        );
        let names: Vec<&str> = loaded
            .config
            .upstreams
            .iter()
            .map(|one| &*one.name)
            .collect();
        for line in table(&loaded).iter().chain(&streams(&loaded)) {
            let upstream = line.rsplit("> ").next().unwrap();
            assert!(
                names.contains(&upstream),
                "{upstream} is not among {names:?}"
            );
        }
    }

    #[test]
    fn v1_without_gateways_it_is_for_the_mesh_and_with_others_alone_it_is_not() {
        let spec = |gateways: &str| {
            let to = all_to("bank.example");
            let rules = format!("  hosts: [bank.example]\n{gateways}  http: {to}");
            load(&(entry("bank", "bank.example", &["443/TLS"]) + &vs("a", &rules)))
        };
        let routed = ["bank.example:80 > outbound|443||bank.example"];
        assert_eq!(table(&spec("")), routed);
        assert_eq!(table(&spec("  gateways: [edge, mesh]\n")), routed);
        assert_eq!(table(&spec("  gateways: [edge]\n")), Vec::<String>::new());
    }

    #[test]
    fn v2_a_gateway_that_is_not_there_is_told_and_one_that_is_is_not() {
        let gateway = "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: edge, \
                       namespace: istio-system}\nspec: {selector: {a: b}, servers: [{port: {number: \
                       80, name: http, protocol: HTTP}, hosts: ['*/bank.example']}]}\n";
        let rules = |named: &str| {
            let to = all_to("bank.example");
            format!("  hosts: [bank.example]\n  gateways: [mesh, {named}]\n  http: {to}")
        };
        let text = |named: &str| {
            gateway.to_owned()
                + &entry("bank", "bank.example", &["443/TLS"])
                + &vs("a", &rules(named))
        };
        for named in ["istio-system/edge", "edge.istio-system.svc.cluster.local"] {
            let loaded = load(&text(named));
            assert_eq!(said(&loaded, MESH_REFERENCES), Vec::<String>::new());
        }
        let loaded = load(&text("edge"));
        assert_eq!(
            said(&loaded, MESH_REFERENCES),
            [
                "a.yaml:17: error[IST0101] VirtualService default/a: spec.gateways: there is no \
                 Gateway default/edge; add the Gateway's document, or take it out of gateways"
            ]
        );
        assert_eq!(
            table(&loaded),
            ["bank.example:80 > outbound|443||bank.example"]
        );
        assert!(
            loaded.config.refused.is_empty(),
            "a reference refuses nothing"
        );
    }

    #[test]
    fn ist0132_the_gateway_must_serve_one_of_the_hosts() {
        let text = |hosts: &str| {
            let to = all_to("bank.example");
            let rules = format!("  hosts: [bank.example]\n  gateways: [edge]\n  http: {to}");
            format!(
                "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\nspec: \
                 {{selector: {{a: b}}, servers: [{{port: {{number: 80, name: http, protocol: \
                 HTTP}}, hosts: [{hosts}]}}]}}\n{}",
                vs("a", &rules)
            )
        };
        for hosts in [
            "bank.example",
            "'*.example'",
            "'*'",
            "./bank.example",
            "default/bank.example",
        ] {
            let loaded = load(&text(hosts));
            assert_eq!(
                said(&loaded, &[Code::HostNotInGateway]),
                Vec::<String>::new(),
                "{hosts}"
            );
        }
        for hosts in ["shop.example", "'*.bank.example'", "other/bank.example"] {
            let found = said(&load(&text(hosts)), &[Code::HostNotInGateway]);
            assert_eq!(found.len(), 1, "{hosts}: {found:?}");
            assert!(found[0].contains("none of its hosts is one that the Gateway edge serves"));
        }
    }

    #[test]
    fn v3_a_rule_is_for_every_http_port_of_its_host() {
        let rules = format!(
            "  hosts: [bank.example]\n  http: {}",
            all_to("bank.example")
        );
        let ports = ["80/HTTP", "8080/HTTP", "443/TLS"];
        let loaded = load(&(entry("bank", "bank.example", &ports) + &vs("a", &rules)));
        assert_eq!(
            table(&loaded),
            [
                "bank.example:80 > outbound|443||bank.example",
                "bank.example:8080 > outbound|443||bank.example",
            ]
        );
    }

    #[test]
    fn v3_an_exact_host_beats_a_wildcard_and_a_longer_wildcard_a_shorter() {
        let to = |host: &str, name: &str, to: &str| {
            let port = "match: [{port: 8080}], ";
            let http = all_to(to).replace("route:", &format!("{port}route:"));
            vs(name, &format!("  hosts: ['{host}']\n  http: {http}"))
        };
        let text = entry("x", "x.example", &["443/TLS"])
            + &entry("y", "y.example", &["443/TLS"])
            + &entry("z", "z.example", &["443/TLS"])
            + &entry("a", "a.shop.example", &["8080/HTTP"])
            + &entry("b", "b.shop.example", &["8080/HTTP"])
            + &entry("c", "c.example", &["8080/HTTP"])
            + &entry("d", "d.test", &["8080/HTTP"])
            + &to("*.example", "one", "x.example")
            + &to("*.shop.example", "two", "y.example")
            + &to("a.shop.example", "three", "z.example");
        assert_eq!(
            table(&load(&text)),
            [
                "c.example:8080 > outbound|443||x.example",
                "b.shop.example:8080 > outbound|443||y.example",
                "a.shop.example:8080 > outbound|443||z.example",
                "d.test:8080 > outbound|8080||d.test",
            ]
        );
    }

    #[test]
    fn v3_a_wildcard_service_and_a_wildcard_rule_meet() {
        let wild = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: w}\n\
                    spec: {hosts: ['*.shop.example'], ports: [{number: 8080, name: http, protocol: \
                    HTTP}]}\n";
        let rules = format!("  hosts: ['*.example']\n  http: {}", all_to("bank.example"));
        let loaded = load(
            &(wild.to_owned() + &entry("bank", "bank.example", &["443/TLS"]) + &vs("a", &rules)),
        );
        assert_eq!(
            table(&loaded),
            [
                "*.example:80 > outbound|443||bank.example",
                "*.shop.example:8080 > outbound|443||bank.example",
            ]
        );
    }

    #[test]
    fn v4_a_host_without_a_service_on_port_80_has_that_port() {
        let to = all_to("bank.example");
        let text = |on: &str| {
            let http = to.replace("route:", &format!("{on}route:"));
            entry("bank", "bank.example", &["443/TLS"])
                + &vs(
                    "a",
                    &format!("  hosts: [bank.example, new.example]\n  http: {http}"),
                )
        };
        let routed = ["bank.example,new.example:80 > outbound|443||bank.example"];
        assert_eq!(table(&load(&text(""))), routed);
        assert_eq!(table(&load(&text("match: [{port: 80}], "))), routed);
        let other = load(&text("match: [{port: 8080}], "));
        assert_eq!(
            table(&other),
            Vec::<String>::new(),
            "no other port is made up"
        );
    }

    #[test]
    fn v4_a_service_on_port_80_that_is_not_http_keeps_it() {
        let rules = format!(
            "  hosts: [bank.example]\n  http: {}",
            all_to("bank.example")
        );
        let text = entry("bank", "bank.example", &["80/TCP", "443/TLS"]) + &vs("a", &rules);
        assert_eq!(table(&load(&text)), Vec::<String>::new());
    }

    #[test]
    fn v5_of_two_for_one_host_the_older_decides_alone() {
        let rules = |to: &str| format!("  hosts: [bank.example]\n  http: {}", all_to(to));
        let text = entry("bank", "bank.example", &["443/TLS"])
            + &entry("shop", "shop.example", &["443/TLS"])
            + &vs("first", &rules("bank.example"))
            + &vs("second", &rules("shop.example"));
        let loaded = load(&text);
        assert_eq!(
            table(&loaded),
            ["bank.example:80 > outbound|443||bank.example"]
        );
        assert_eq!(
            said(&loaded, &[Code::HostClaimedTwice]),
            [
                "a.yaml:23: error[IST0109] VirtualService default/second: spec.hosts: the host \
                 bank.example is claimed by VirtualService default/first at a.yaml:12 as well, for \
                 HTTP; the older one decides alone on every port that it routes, and here \
                 VirtualService default/second is ignored there; put the rules of both into one \
                 VirtualService"
            ]
        );
        assert!(loaded.config.refused.is_empty());
    }

    #[test]
    fn v5_a_timestamp_says_which_is_older() {
        let rules = |to: &str| format!("  hosts: [bank.example]\n  http: {}", all_to(to));
        let stamp = |text: String, stamp: &str| {
            let named = format!(", creationTimestamp: '{stamp}'}}\nspec:");
            text.replacen("}\nspec:", &named, 1)
        };
        let text = entry("bank", "bank.example", &["443/TLS"])
            + &entry("shop", "shop.example", &["443/TLS"])
            + &stamp(vs("first", &rules("bank.example")), "2024-01-02T00:00:00Z")
            + &stamp(vs("second", &rules("shop.example")), "2024-01-01T00:00:00Z");
        assert_eq!(
            table(&load(&text)),
            ["bank.example:80 > outbound|443||shop.example"]
        );
    }

    #[test]
    fn v5_rules_for_http_and_for_tls_do_not_exclude_each_other() {
        let http = format!(
            "  hosts: [bank.example]\n  http: {}",
            all_to("bank.example")
        );
        let tls = "  hosts: [bank.example]\n  tls: [{match: [{sniHosts: [bank.example]}], route: \
                   [{destination: {host: shop.example, port: {number: 443}}}]}]";
        let text = entry("bank", "bank.example", &["443/TLS"])
            + &entry("shop", "shop.example", &["443/TLS"])
            + &vs("a", &http)
            + &vs("b", tls);
        let loaded = load(&text);
        assert_eq!(
            table(&loaded),
            ["bank.example:80 > outbound|443||bank.example"]
        );
        assert_eq!(
            streams(&loaded),
            [
                "443 tls bank.example > outbound|443||shop.example",
                "443 tls shop.example > outbound|443||shop.example",
            ]
        );
        assert_eq!(
            said(&loaded, &[Code::HostClaimedTwice]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn h4_a_service_is_asked_for_by_its_short_names_and_its_address() {
        let text = service("hello", "default", "{port: 5000, name: http}")
            + &service("far", "other", "{port: 80, name: http}").replace("10.0.0.9", "10.0.0.8");
        assert_eq!(
            table(&load(&text)),
            [
                "hello.default.svc.cluster.local,hello,hello.default,hello.default.svc,10.0.0.9:5000 \
                 > outbound|5000||hello.default.svc.cluster.local",
                "far.other.svc.cluster.local,far.other,far.other.svc,10.0.0.8:80 > \
                 outbound|80||far.other.svc.cluster.local",
            ]
        );
    }

    #[test]
    fn h4_two_services_of_one_address_do_not_clash() {
        let text = service("one", "default", "{port: 80, name: http}")
            + &service("two", "default", "{port: 80, name: http}");
        let loaded = load(&text);
        let lines = table(&loaded);
        assert!(lines[0].contains("10.0.0.9"), "{lines:?}");
        assert!(!lines[1].contains("10.0.0.9"), "{lines:?}");
        let found = said(&loaded, &[Code::SeveralOwners]);
        let words = "Service default/two: its other name 10.0.0.9 on port 80 belongs to Service \
                     default/one at a.yaml:2, which gets the requests";
        assert!(found.iter().any(|line| line.contains(words)), "{found:?}");
        compiles(&loaded);
    }

    #[test]
    fn h3_a_short_host_is_a_service_of_the_objects_namespace() {
        let rules = "  hosts: [hello]\n  http: [{route: [{destination: {host: hello}}]}]";
        let text = service("hello", "default", "{port: 5000, name: http}") + &vs("a", rules);
        let loaded = load(&text);
        let lines = table(&loaded);
        assert!(
            lines[0].starts_with("hello.default.svc.cluster.local:80 > outbound|5000||hello.def")
        );
        assert!(
            lines[1].starts_with("hello.default.svc.cluster.local,hello,"),
            "{lines:?}"
        );
        assert_eq!(
            said(&loaded, &[Code::DottedShortName]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn h3_a_dotted_name_that_looks_like_a_service_is_warned_about() {
        let rules =
            "  hosts: [hello.other]\n  http: [{route: [{destination: {host: hello.other}}]}]";
        let text = service("hello", "other", "{port: 80, name: http}") + &vs("a", rules);
        let found = said(&load(&text), &[Code::DottedShortName]);
        assert_eq!(
            found,
            [
                "a.yaml:11: warning[SRT0502] VirtualService default/a: spec.hosts: hello.other is \
                 taken as a full name, because it has a dot; it is not the Service \
                 hello.other.svc.cluster.local; write hello.other.svc.cluster.local if the Service \
                 is meant",
                "a.yaml:12: warning[SRT0502] VirtualService default/a: \
                 spec.http[0].route[0].destination: hello.other is taken as a full name, because it \
                 has a dot; it is not the Service hello.other.svc.cluster.local; write \
                 hello.other.svc.cluster.local if the Service is meant",
            ]
        );
    }

    #[test]
    fn h5_what_is_not_exported_to_this_proxy_is_not_there() {
        let to = all_to("bank.example");
        let text = |export: &str, namespace: &str| {
            let rules = format!("  hosts: [bank.example]\n  exportTo: [{export}]\n  http: {to}");
            let vs = vs("a", &rules);
            let named = format!("{{name: a, namespace: {namespace}}}");
            entry("bank", "bank.example", &["443/TLS"]) + &vs.replacen("{name: a}", &named, 1)
        };
        let routed = |export, namespace| !table(&load(&text(export, namespace))).is_empty();
        assert!(routed("'*'", "other") && routed("default", "other") && routed("'.'", "default"));
        assert!(
            !routed("'.'", "other") && !routed("other", "default") && !routed("'~'", "default")
        );
    }

    #[test]
    fn h7_a_sidecar_hides_the_rules_that_it_does_not_list() {
        let sidecar = |host: &str| {
            format!(
                "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: s}}\nspec: \
                 {{egress: [{{hosts: ['{host}']}}]}}\n"
            )
        };
        let rules = format!(
            "  hosts: [bank.example]\n  http: {}",
            all_to("bank.example")
        );
        let text = entry("bank", "bank.example", &["443/TLS"]) + &vs("a", &rules);
        let seen = load(&(text.clone() + &sidecar("./bank.example")));
        assert_eq!(
            table(&seen),
            ["bank.example:80 > outbound|443||bank.example"]
        );
        let hidden = load(&(text + &sidecar("./other.example")));
        assert_eq!(table(&hidden), Vec::<String>::new());
    }

    #[test]
    fn x13_a_native_route_and_a_document_for_one_host_do_not_clash() {
        let native = "upstreams: [{name: own, endpoints: ['127.0.0.1:1'], tls: {mode: \
                      disable}}]\nroutes: [{host: bank.example, upstream: own}]\n";
        let loaded = load_files(&[
            ("a.yaml", native),
            (
                "b.yaml",
                &entry("bank", "bank.example", &["80/HTTP", "443/TLS"]),
            ),
        ]);
        assert_eq!(table(&loaded), ["bank.example:* > own"]);
        assert_eq!(
            said(&loaded, &[Code::HostTwice]),
            [
                "b.yaml:2: error[SRT0206] ServiceEntry default/bank: the host bank.example on port \
                 80 is routed by a route at a.yaml:2 already, which decides alone; take the host \
                 out of one of the two"
            ]
        );
        compiles(&loaded);
    }
}

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

mod rules {
    use super::*;

    const BANK: &[&str] = &["80/HTTP", "8080/HTTP", "443/TLS"];

    /// The rules of `bank.example` with `http` as it stands, and two more services.
    #[track_caller]
    fn with(http: &str) -> Loaded {
        let rules = format!("  hosts: [bank.example]\n  http:\n{http}");
        load(
            &(entry("bank", "bank.example", BANK)
                + &entry("one", "one.example", &["9000/HTTP"])
                + &entry("two", "two.example", &["1/HTTP", "2/HTTP"])
                + &vs("a", &rules)),
        )
    }

    /// What is left of them on `port`.
    fn on(loaded: &Loaded, port: u16) -> Vec<String> {
        let hosts = loaded.config.hosts.iter();
        let mut hosts = hosts.filter(|group| {
            group.port == Some(port) && group.hosts.iter().any(|host| host.matches("bank.example"))
        });
        let group = hosts.next().expect("routed");
        assert!(hosts.next().is_none());
        group.rules.iter().map(rule_text).collect()
    }

    fn first(loaded: &Loaded) -> &RuleSpec {
        &loaded.config.hosts[0].rules[0]
    }

    const TO_ONE: &str = "route: [{destination: {host: one.example}}]";
    const TO_TWO: &str = "route: [{destination: {host: two.example, port: {number: 2}}}]";

    #[test]
    fn v7_rules_keep_their_order_and_a_catch_all_ends_them() {
        let loaded = with(&format!(
            "  - match: [{{uri: {{prefix: /a}}}}, {{uri: {{exact: /b}}}}]\n    {TO_ONE}\n  - \
             {TO_TWO}\n  - match: [{{uri: {{prefix: /c}}}}]\n    {TO_ONE}"
        ));
        assert_eq!(
            on(&loaded, 80),
            [
                "/a* or =/b > outbound|9000||one.example",
                "> outbound|2||two.example",
            ]
        );
        assert_eq!(
            said(&loaded, &[Code::UnreachableRule]),
            [
                "a.yaml:26: warning[IST0130] VirtualService default/a: spec.http[2]: the rule is \
                 never reached: what it matches is taken by a.yaml:25 before; put it before that \
                 rule, or take it out"
            ]
        );
    }

    #[test]
    fn v7_a_match_without_conditions_is_a_catch_all_as_well() {
        let loaded = with(&format!(
            "  - match: [{{uri: {{prefix: /a}}}}, {{port: 80}}, {{uri: {{prefix: /b}}}}]\n    \
             {TO_ONE}\n  - {TO_TWO}"
        ));
        assert_eq!(on(&loaded, 80), ["/a* or any > outbound|9000||one.example"]);
        assert_eq!(
            on(&loaded, 8080),
            [
                "/a* or /b* > outbound|9000||one.example",
                "> outbound|2||two.example",
            ]
        );
        let both = [Code::UnreachableRule, Code::MatchWithoutEffect];
        assert_eq!(said(&loaded, &both), Vec::<String>::new());
    }

    #[test]
    fn ist0131_a_match_that_an_earlier_rule_takes_has_no_effect() {
        let loaded = with(&format!(
            "  - match: [{{uri: {{prefix: /a}}}}]\n    {TO_ONE}\n  - match:\n    - uri: {{prefix: \
             /b}}\n    - uri: {{prefix: /a}}\n      port: 80\n    {TO_TWO}\n  - match: [{{uri: \
             {{prefix: /b}}}}]\n    {TO_ONE}"
        ));
        let both = [Code::UnreachableRule, Code::MatchWithoutEffect];
        assert_eq!(
            said(&loaded, &both),
            [
                "a.yaml:27: warning[IST0131] VirtualService default/a: spec.http[1].match: the match \
                 has no effect: a.yaml:23 takes the same before; take it out",
                "a.yaml:30: warning[IST0130] VirtualService default/a: spec.http[2]: the rule is \
                 never reached: what it matches is taken by a.yaml:26 before; put it before that \
                 rule, or take it out",
            ]
        );
    }

    #[test]
    fn ist0130_a_match_for_one_port_hides_nothing_on_another() {
        let loaded = with(&format!(
            "  - match: [{{port: 80}}]\n    {TO_ONE}\n  - match: [{{port: 8080}}]\n    {TO_TWO}\n  \
             - match: [{{gateways: [mesh], uri: {{prefix: /a}}}}]\n    {TO_ONE}"
        ));
        let both = [Code::UnreachableRule, Code::MatchWithoutEffect];
        assert_eq!(said(&loaded, &both), Vec::<String>::new());
    }

    #[test]
    fn v8_a_match_is_for_its_port_alone() {
        let loaded = with(&format!(
            "  - match: [{{port: 80}}]\n    {TO_ONE}\n  - match: [{{port: 8080}}]\n    {TO_TWO}"
        ));
        assert_eq!(on(&loaded, 80), ["> outbound|9000||one.example"]);
        assert_eq!(on(&loaded, 8080), ["> outbound|2||two.example"]);
        // Nothing is left on 80: the service's own route.
        let loaded = with(&format!("  - match: [{{port: 8080}}]\n    {TO_TWO}"));
        assert_eq!(on(&loaded, 80), ["> outbound|80||bank.example"]);
    }

    #[test]
    fn v8_the_sender_decides_unless_gateways_are_written() {
        let routed = |conditions: &str| {
            let loaded = with(&format!("  - match: [{{{conditions}}}]\n    {TO_ONE}"));
            on(&loaded, 80) == ["> outbound|9000||one.example"]
        };
        assert!(routed("sourceLabels: {app: shop}"));
        assert!(!routed("sourceLabels: {app: other}"));
        assert!(!routed("sourceLabels: {app: shop, version: v1}"));
        assert!(routed("sourceNamespace: default"));
        assert!(!routed("sourceNamespace: other"));
        assert!(!routed(
            "sourceNamespace: default, sourceLabels: {app: other}"
        ));
        assert!(routed(
            "gateways: [mesh], sourceLabels: {app: other}, sourceNamespace: other"
        ));
        assert!(!routed("gateways: [edge]"));
    }

    #[test]
    fn ist0131_a_match_for_a_gateway_that_is_not_named_never_holds() {
        let loaded = with(&format!(
            "  - match: [{{gateways: [edge]}}]\n    {TO_ONE}\n  - {TO_TWO}"
        ));
        assert_eq!(
            said(&loaded, &[Code::MatchWithoutEffect]),
            ["a.yaml:23: warning[IST0131] VirtualService default/a: \
                 spec.http[].match[].gateways: the match is for the gateway edge, which is not \
                 among the gateways of the VirtualService, and so it never holds; add it to \
                 spec.gateways"]
        );
    }

    #[test]
    fn v9_conditions_arrive_as_they_are() {
        let loaded = with(&format!(
            "  - match:\n    - uri: {{prefix: /A}}\n      ignoreUriCase: true\n      method: {{exact: \
             GET}}\n      scheme: {{exact: http}}\n      authority: {{prefix: bank}}\n      headers: \
             {{x-a: {{exact: b}}}}\n      withoutHeaders: {{x-c: {{exact: d}}}}\n      queryParams: \
             {{q: {{exact: '1'}}}}\n    - method: {{prefix: P}}\n    {TO_ONE}"
        ));
        let spec = &first(&loaded).matches[0];
        let exact = |text: &str| StringMatch::Exact(text.to_owned());
        assert_eq!(spec.path, Some(StringMatch::Prefix("/A".into())));
        assert!(spec.path_ignores_case);
        assert_eq!(
            (&spec.methods[..], &spec.method),
            (&[http::Method::GET][..], &None)
        );
        assert_eq!(spec.scheme, Some(exact("http")));
        assert_eq!(spec.authority, Some(StringMatch::Prefix("bank".into())));
        assert_eq!(
            spec.headers,
            [
                (
                    http::HeaderName::from_static("x-a"),
                    HeaderMatch::Joined(exact("b"))
                ),
                (
                    http::HeaderName::from_static("x-c"),
                    HeaderMatch::NotJoined(exact("d"))
                ),
            ]
        );
        assert_eq!(
            spec.query,
            [("q".to_owned(), QueryMatch::Value(exact("1")))]
        );
        let second = &first(&loaded).matches[1];
        assert_eq!(second.method, Some(StringMatch::Prefix("P".into())));
        assert!(second.methods.is_empty());
    }

    #[test]
    fn v10_without_a_port_the_only_one_of_the_service_is_meant_else_the_one_asked_for() {
        let to = |host: &str| format!("  - route: [{{destination: {{host: {host}}}}}]");
        let loaded = with(&to("one.example"));
        assert_eq!(on(&loaded, 8080), ["> outbound|9000||one.example"]);
        let loaded = with(&to("two.example"));
        assert_eq!(on(&loaded, 8080), ["> outbound|8080||two.example"]);
        assert_eq!(
            said(&loaded, &[Code::DestinationNeedsPort]),
            ["a.yaml:23: error[IST0112] VirtualService default/a: \
                 spec.http[0].route[0].destination.port: two.example has the ports 1, 2, and the \
                 destination names none: the port that the client asked for is taken; write port: \
                 {number: ...}"]
        );
        compiles(&loaded);
        let broken = loaded.config.upstreams.iter();
        let mut broken = broken.filter(|one| &*one.name == "outbound|8080||two.example");
        let broken = broken.next().and_then(|one| one.broken.as_ref()).unwrap();
        assert_eq!(broken.kind, BrokenKind::NoCluster);
    }

    #[test]
    fn v10_one_destination_ignores_its_weight_and_of_several_0_is_left_out() {
        let one = with("  - route: [{destination: {host: one.example}, weight: 0}]");
        assert_eq!(on(&one, 80), ["> outbound|9000||one.example"]);
        let several = with(
            "  - route:\n    - {destination: {host: one.example}, weight: 90}\n    - {destination: \
             {host: bank.example, port: {number: 443}}, weight: 0}\n    - {destination: {host: \
             two.example, subset: v2, port: {number: 2}}, weight: 10}",
        );
        assert_eq!(
            on(&several, 80),
            ["> outbound|9000||one.example=90 outbound|2|v2|two.example=10"]
        );
    }

    #[test]
    fn v10_an_unknown_host_fails_alone() {
        let loaded = with(&format!(
            "  - match: [{{uri: {{prefix: /a}}}}]\n    route: [{{destination: {{host: \
             nobody.example, port: {{number: 80}}}}}}]\n  - {TO_ONE}"
        ));
        assert_eq!(
            on(&loaded, 80),
            [
                "/a* > outbound|80||nobody.example",
                "> outbound|9000||one.example",
            ]
        );
        let found = said(&loaded, &[Code::ReferenceNotFound]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("nobody.example"), "{found:?}");
        assert!(loaded.config.refused.is_empty());
        compiles(&loaded);
    }

    #[test]
    fn v11_the_rules_authority_beats_that_of_a_destination() {
        let rule = |rewrite: &str| {
            with(&format!(
                "  - {rewrite}route: [{{destination: {{host: one.example}}, headers: {{request: \
                 {{set: {{host: inner.example}}}}}}}}]"
            ))
        };
        let host = |loaded: &Loaded| match &first(loaded).action {
            Action::Forward(to) => to[0].host.clone(),
            _ => panic!("it forwards"),
        };
        let plain = rule("");
        assert_eq!(host(&plain).as_deref(), Some("inner.example"));
        let rewritten = rule("rewrite: {authority: outer.example, uri: /x}\n    ");
        assert_eq!(host(&rewritten), None);
        let rewrite = &first(&rewritten).rewrite;
        assert_eq!(rewrite.host.as_deref(), Some("outer.example"));
        assert_eq!(rewrite.path, Some(PathRewrite::Replace("/x".into())));
    }

    #[test]
    fn v12_header_changes_stay_with_their_destination() {
        let loaded = with(
            "  - headers: {response: {set: {x-rule: a}}}\n    route: [{destination: {host: \
             one.example}, headers: {request: {remove: [x-old], add: {x-new: b}}}}]",
        );
        let rule = first(&loaded);
        let name = http::HeaderName::from_static;
        let text = |text: &'static str| HeaderText::Literal(http::HeaderValue::from_static(text));
        assert_eq!(rule.response_headers.set, [(name("x-rule"), text("a"))]);
        assert_eq!(rule.request_headers, HeaderOps::default());
        let Action::Forward(to) = &rule.action else {
            panic!("it forwards");
        };
        assert_eq!(to[0].request_headers.remove, [name("x-old")]);
        assert_eq!(to[0].request_headers.add, [(name("x-new"), text("b"))]);
        assert_eq!(to[0].response_headers, HeaderOps::default());
    }

    #[test]
    fn v13_a_timeout_of_0_is_none() {
        let timeout = |text: &str| first(&with(&format!("  - {text}{TO_ONE}"))).timeout;
        assert_eq!(
            timeout("timeout: 1.5s\n    "),
            Some(Duration::from_millis(1500))
        );
        assert_eq!(timeout("timeout: 0s\n    "), None);
        assert_eq!(timeout(""), None);
    }

    #[test]
    fn v14_retries_have_a_default_and_can_be_said() {
        let retries = |text: &str| first(&with(&format!("  - {text}{TO_ONE}"))).retries.clone();
        assert_eq!(retries(""), Retries::default());
        assert_eq!(retries("retries: {attempts: 0}\n    ").attempts, 0);
        let said = retries("retries: {attempts: 5, perTryTimeout: 2s, retryOn: '5xx,reset'}\n    ");
        assert_eq!(
            (said.attempts, said.per_try_timeout),
            (5, Some(Duration::from_secs(2)))
        );
        assert!(said.on.server_error && said.on.reset && !said.on.connect_failure);
    }

    #[test]
    fn v15_redirects_and_answers_need_no_upstream() {
        let loaded = with(
            "  - match: [{uri: {prefix: /r}}]\n    redirect: {authority: new.example, redirectCode: \
             308}\n  - directResponse: {status: 418, body: {string: tea}}",
        );
        assert_eq!(on(&loaded, 80), ["/r* > redirect 308", "> respond 418"]);
        let Action::Respond(respond) = &loaded.config.hosts[0].rules[1].action else {
            panic!("it answers");
        };
        assert_eq!(&respond.body[..], b"tea");
    }

    #[test]
    fn v16_mirrors_and_faults_arrive_and_a_mirror_of_nothing_does_not() {
        let loaded = with(
            "  - fault: {delay: {fixedDelay: 5s, percentage: {value: 10}}, abort: {httpStatus: \
             500}}\n    mirror: {host: two.example, port: {number: 1}}\n    mirrorPercentage: {value: \
             50}\n    route: [{destination: {host: one.example}}]",
        );
        let rule = first(&loaded);
        let mirror = Mirror {
            upstream: "outbound|1||two.example".into(),
            share: Share(500_000),
        };
        assert_eq!(rule.mirrors, [mirror]);
        assert_eq!(
            rule.fault.delay,
            Some((Duration::from_secs(5), Share(100_000)))
        );
        assert_eq!(rule.fault.abort, Some((Abort::Http(500), Share(0))));
        compiles(&loaded);
        let none = with(
            "  - mirror: {host: two.example, port: {number: 1}}\n    mirrorPercentage: {value: 0}\n    \
             route: [{destination: {host: one.example}}]",
        );
        assert!(first(&none).mirrors.is_empty());
    }

    #[test]
    fn a_match_with_a_name_is_told_in_the_log() {
        let loaded = with(&format!(
            "  - name: r\n    match: [{{name: m, uri: {{prefix: /a}}}}, {{uri: {{prefix: /b}}}}]\n    \
             {TO_ONE}\n  - name: last\n    {TO_TWO}"
        ));
        let names = loaded.config.hosts[0].rules.iter();
        let names: Vec<_> = names.map(|rule| rule.name.as_deref()).collect();
        assert_eq!(names, [Some("r.m"), Some("r"), Some("last")]);
        assert_eq!(
            on(&loaded, 80),
            [
                "/a* > outbound|9000||one.example",
                "/b* > outbound|9000||one.example",
                "> outbound|2||two.example",
            ]
        );
    }

    #[test]
    fn v17_a_rule_for_a_port_without_http_is_told() {
        let loaded = with(&format!(
            "  - match: [{{port: 443}}]\n    {TO_ONE}\n  - match: [{{port: 9999}}]\n    {TO_TWO}"
        ));
        assert_eq!(
            said(&loaded, &[Code::MatchWithoutEffect]),
            [
                "a.yaml:23: warning[IST0131] VirtualService default/a: spec.http[].match[].port: \
                 port 443 is declared TLS at a.yaml:5, and http rules have no effect on it; declare \
                 the port HTTP, or use the rules for its protocol",
                "a.yaml:25: warning[IST0131] VirtualService default/a: spec.http[].match[].port: \
                 none of its hosts has port 9999, and so the match never holds; declare the port in \
                 the ServiceEntry or Service, or take out the match",
            ]
        );
        assert_eq!(on(&loaded, 80), ["> outbound|80||bank.example"]);
    }
}

mod streams_of {
    use super::*;

    fn addressed(name: &str, host: &str, address: &str, ports: &[&str]) -> String {
        let addresses = format!("spec: {{addresses: [{address}], hosts:");
        entry(name, host, ports).replacen("spec: {hosts:", &addresses, 1)
    }

    #[test]
    fn v17_a_tls_port_without_rules_goes_by_its_own_name() {
        let loaded = load(&entry("bank", "bank.example", &["443/HTTPS", "8443/TLS"]));
        assert_eq!(
            streams(&loaded),
            [
                "443 tls bank.example > outbound|443||bank.example",
                "8443 tls bank.example > outbound|8443||bank.example",
            ]
        );
        assert_eq!(
            loaded.config.streams[0].object.as_deref(),
            Some("ServiceEntry default/bank")
        );
    }

    #[test]
    fn v17_tls_rules_replace_the_services_own_route() {
        let rules = "  hosts: [bank.example, shop.example]\n  tls:\n  - match: [{port: 443, \
                     sniHosts: [bank.example, '*.bank.example']}]\n    route:\n    - {destination: \
                     {host: bank.example, port: {number: 443}}, weight: 75}\n    - {destination: \
                     {host: shop.example, port: {number: 443}}, weight: 25}\n  - match: [{sniHosts: \
                     [shop.example], destinationSubnets: [10.1.0.0/16], sourceLabels: {app: \
                     shop}}]\n    route: [{destination: {host: shop.example}}]\n";
        let rules = rules.replace(
            "hosts: [bank.example,",
            "hosts: [bank.example, '*.bank.example',",
        );
        let loaded = load(
            &(entry("bank", "bank.example", &["443/TLS"])
                + &entry("shop", "shop.example", &["443/TLS"])
                + &vs("a", &rules)),
        );
        assert_eq!(
            streams(&loaded),
            [
                "443 tls bank.example,*.bank.example > outbound|443||bank.example=75 \
                 outbound|443||shop.example=25",
                "443 tls shop.example 10.1.0.0/16 > outbound|443||shop.example",
            ]
        );
        compiles(&loaded);
    }

    #[test]
    fn v17_tls_rules_for_others_leave_the_services_own_route() {
        let rules = |on: &str| {
            format!(
                "  hosts: [bank.example]\n  tls: [{{match: [{{sniHosts: [bank.example], {on}}}], \
                 route: [{{destination: {{host: shop.example}}}}]}}]"
            )
        };
        for on in [
            "port: 444",
            "sourceLabels: {app: other}",
            "gateways: [edge]",
        ] {
            let loaded =
                load(&(entry("bank", "bank.example", &["443/TLS"]) + &vs("a", &rules(on))));
            assert_eq!(
                streams(&loaded),
                ["443 tls bank.example > outbound|443||bank.example"]
            );
        }
    }

    #[test]
    fn v18_a_tcp_port_goes_by_its_address_or_has_the_whole_port() {
        let text = addressed("db", "db.example", "192.0.2.7", &["3306/TCP"])
            + &entry("mq", "mq.example", &["5672/TCP"]);
        assert_eq!(
            streams(&load(&text)),
            [
                "3306 tcp 192.0.2.7/32 > outbound|3306||db.example",
                "5672 tcp > outbound|5672||mq.example",
            ]
        );
    }

    #[test]
    fn v18_tcp_rules_come_in_order_and_one_for_everything_ends_them() {
        let rules = "  hosts: [db.example]\n  tcp:\n  - match: [{destinationSubnets: \
                     [10.1.0.0/16]}, {sourceLabels: {app: other}}]\n    route: [{destination: {host: \
                     mq.example}}]\n  - match: [{port: 3306, sourceSubnet: 172.16.0.0/12}]\n    \
                     route: [{destination: {host: mq.example}}]\n  - route: [{destination: {host: \
                     db.example}}]\n  - route: [{destination: {host: mq.example}}]";
        let text = addressed("db", "db.example", "192.0.2.7", &["3306/TCP"])
            + &entry("mq", "mq.example", &["5672/TCP"])
            + &vs("a", rules);
        let loaded = load(&text);
        assert_eq!(
            streams(&loaded),
            [
                "3306 tcp 10.1.0.0/16 > outbound|5672||mq.example",
                "3306 tcp 192.0.2.7/32 from 172.16.0.0/12 > outbound|5672||mq.example",
                "3306 tcp 192.0.2.7/32 > outbound|3306||db.example",
                "5672 tcp > outbound|5672||mq.example",
            ]
        );
        compiles(&loaded);
    }

    #[test]
    fn v18_tcp_rules_for_other_ports_leave_the_services_own_route() {
        let rules = "  hosts: [db.example]\n  tcp: [{match: [{port: 1}], route: [{destination: {host: \
                     mq.example}}]}]";
        let loaded = load(&(entry("db", "db.example", &["3306/TCP"]) + &vs("a", rules)));
        assert_eq!(streams(&loaded), ["3306 tcp > outbound|3306||db.example"]);
        assert_eq!(
            said(&loaded, &[Code::MatchWithoutEffect]),
            [
                "a.yaml:12: warning[IST0131] VirtualService default/a: spec.tcp[].match[].port: none \
                 of its hosts has port 1, and so the match never holds; declare the port in the \
                 ServiceEntry or Service, or take out the match"
            ]
        );
    }

    #[test]
    fn v17_tls_rules_for_a_host_without_a_tls_port_are_told() {
        let rules = "  hosts: [bank.example]\n  tls: [{match: [{sniHosts: [bank.example]}], route: \
                     [{destination: {host: bank.example}}]}]";
        let with = |ports: &[&str]| load(&(entry("bank", "bank.example", ports) + &vs("a", rules)));
        let loaded = with(&["443/HTTP"]);
        assert_eq!(
            said(&loaded, &[Code::MatchWithoutEffect]),
            [
                "a.yaml:12: warning[IST0131] VirtualService default/a: spec.tls: none of its hosts \
                 has a port that is declared TLS, and so no tls rule has an effect; declare the port \
                 in a ServiceEntry or Service"
            ]
        );
        assert_eq!(streams(&loaded), Vec::<String>::new());
        assert_eq!(
            said(&with(&["443/HTTPS"]), &[Code::MatchWithoutEffect]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn e7_a_port_without_a_protocol_is_http_first_and_then_the_services_own_stream() {
        let port = |text: String| text.replace(", protocol: NONE", "");
        let loaded = load(&port(addressed(
            "x",
            "x.example",
            "192.0.2.7",
            &["9000/NONE"],
        )));
        assert_eq!(
            table(&loaded),
            ["x.example,192.0.2.7:9000 > outbound|9000||x.example"]
        );
        assert_eq!(
            streams(&loaded),
            [
                "9000 tls x.example > outbound|9000||x.example",
                "9000 other 192.0.2.7/32 > outbound|9000||x.example",
            ]
        );
    }

    #[test]
    fn v20_a_tcp_service_without_address_lets_older_http_and_tls_be_looked_at_first() {
        let http_first =
            entry("web", "web.example", &["9000/HTTP"]) + &entry("db", "db.example", &["9000/TCP"]);
        assert_eq!(
            streams(&load(&http_first)),
            ["9000 other > outbound|9000||db.example"]
        );
        let tcp_first =
            entry("db", "db.example", &["9000/TCP"]) + &entry("web", "web.example", &["9000/HTTP"]);
        assert_eq!(
            streams(&load(&tcp_first)),
            ["9000 tcp > outbound|9000||db.example"]
        );
        let with_tls =
            entry("db", "db.example", &["443/TCP"]) + &entry("bank", "bank.example", &["443/TLS"]);
        assert_eq!(
            streams(&load(&with_tls)),
            [
                "443 other > outbound|443||db.example",
                "443 tls bank.example > outbound|443||bank.example",
            ]
        );
    }

    #[test]
    fn v17_a_tls_service_with_an_address_is_known_by_it_as_well() {
        let loaded = load(&addressed(
            "bank",
            "bank.example",
            "192.0.2.7",
            &["443/TLS"],
        ));
        assert_eq!(
            streams(&loaded),
            [
                "443 tls bank.example > outbound|443||bank.example",
                "443 tcp 192.0.2.7/32 > outbound|443||bank.example",
            ]
        );
    }
}

mod unknown {
    use super::*;

    fn mesh(mode: &str) -> String {
        format!(
            "---\napiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {{name: \
             i}}\nspec: {{meshConfig: {{outboundTrafficPolicy: {{mode: {mode}}}}}}}\n"
        )
    }

    fn sidecar(namespace: &str, policy: &str) -> String {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: s, \
             namespace: {namespace}}}\nspec: {{egress: [{{hosts: ['*/*']}}]{policy}}}\n"
        )
    }

    #[track_caller]
    fn captured(text: &str) -> UnknownHosts {
        let loaded = load(&(entry("bank", "bank.example", &["80/HTTP"]) + text));
        assert_eq!(loaded.config.unknown_hosts, Refuse, "direct listeners");
        loaded.config.unknown_captured
    }

    use UnknownHosts::{PassThrough, Refuse};

    #[test]
    fn o1_silence_allows_captured_connections_to_anywhere() {
        assert_eq!(captured(""), PassThrough);
        assert_eq!(captured(&sidecar("default", "")), PassThrough);
    }

    #[test]
    fn x15_a_secret_beside_native_documents_opens_nothing() {
        let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: YQ==}\n---\n\
                      apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\n";
        let loaded = load_files(&[("a.yaml", secret), ("b.yaml", "limits: {maxHeaders: 7}\n")]);
        assert_eq!(loaded.config.unknown_captured, Refuse);
    }

    #[test]
    fn o1_the_sidecar_decides_before_the_mesh() {
        assert_eq!(captured(&mesh("REGISTRY_ONLY")), Refuse);
        assert_eq!(captured(&mesh("ALLOW_ANY")), PassThrough);
        let only = ", outboundTrafficPolicy: {mode: REGISTRY_ONLY}";
        let any = ", outboundTrafficPolicy: {mode: ALLOW_ANY}";
        assert_eq!(captured(&sidecar("default", only)), Refuse);
        assert_eq!(
            captured(&(mesh("REGISTRY_ONLY") + &sidecar("default", any))),
            PassThrough
        );
        assert_eq!(
            captured(&(mesh("REGISTRY_ONLY") + &sidecar("default", ""))),
            Refuse
        );
        assert_eq!(
            captured(&sidecar("other", only)),
            PassThrough,
            "somebody else's Sidecar"
        );
        assert_eq!(
            captured(&sidecar("istio-system", only)),
            Refuse,
            "the mesh's own"
        );
        let empty = ", outboundTrafficPolicy: {}";
        assert_eq!(
            captured(&sidecar("default", empty)),
            Refuse,
            "mode 0 is REGISTRY_ONLY"
        );
    }

    #[test]
    fn x15_a_native_document_that_says_it_decides() {
        let both = |said: &str, mode: &str| {
            let istio = entry("bank", "bank.example", &["80/HTTP"]) + &mesh(mode);
            let native = format!("unknownHosts: {said}\n");
            let loaded = load_files(&[("a.yaml", &istio), ("b.yaml", &native)]);
            (loaded.config.unknown_hosts, loaded.config.unknown_captured)
        };
        assert_eq!(both("refuse", "ALLOW_ANY"), (Refuse, Refuse));
        assert_eq!(
            both("pass-through", "REGISTRY_ONLY"),
            (PassThrough, PassThrough)
        );
    }

    #[test]
    fn x15_a_flag_decides_before_all() {
        let mut options = options();
        options.unknown_hosts = Some(Refuse);
        let text = entry("bank", "bank.example", &["80/HTTP"]) + &mesh("ALLOW_ANY");
        let loaded = load_texts_with(&[("a.yaml", &text)], &options).unwrap();
        assert_eq!(loaded.config.unknown_captured, Refuse);
    }

    #[test]
    fn x1_a_refused_sidecar_of_ours_or_mesh_configuration_refuses_the_unknown() {
        let typo = |text: String| text.replacen("spec: {", "spec: {typo: 1, ", 1);
        let any = ", outboundTrafficPolicy: {mode: ALLOW_ANY}";
        let text = |more: &str| entry("bank", "bank.example", &["80/HTTP"]) + more;
        for refused in [
            typo(sidecar("default", any)),
            typo(sidecar("istio-system", any)),
        ] {
            assert_eq!(captured(&refused), Refuse);
            let loaded = load(&text(&refused));
            assert_eq!(loaded.config.refused.len(), 1);
            assert_eq!(
                table(&loaded),
                ["bank.example:80 > outbound|80||bank.example"]
            );
        }
        assert_eq!(captured(&typo(sidecar("other", any))), PassThrough);
        let native = ("b.yaml", "unknownHosts: pass-through\n");
        let loaded = load_files(&[("a.yaml", &text(&typo(sidecar("default", any)))), native]);
        let unknown = (loaded.config.unknown_hosts, loaded.config.unknown_captured);
        assert_eq!(unknown, (Refuse, Refuse));
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

mod refused {
    use super::*;

    /// A DestinationRule that U1 turns away.
    fn bad_rule(host: &str) -> String {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: \
             dr}}\nspec:\n  host: '{host}'\n  trafficPolicy: {{tls: {{mode: SIMPLE, sniHost: \
             x}}}}\n"
        )
    }

    const BROKEN: &str = "refused|DestinationRule default/dr";

    #[test]
    fn x1_every_port_of_a_governed_host_fails_and_no_other_host_does() {
        let rules = format!(
            "  hosts: [bank.example]\n  http: {}",
            all_to("bank.example")
        );
        let text = entry("bank", "bank.example", &["80/HTTP", "8080/HTTP", "443/TLS"])
            + &entry("shop", "shop.example", &["80/HTTP", "443/TLS"])
            + &vs("a", &rules)
            + &bad_rule("bank.example");
        let loaded = load(&text);
        assert_eq!(
            table(&loaded),
            [
                "shop.example:80 > outbound|80||shop.example".to_owned(),
                format!("bank.example:* > {BROKEN}"),
            ]
        );
        assert_eq!(
            streams(&loaded),
            [
                "443 tls shop.example > outbound|443||shop.example".to_owned(),
                format!("* tls bank.example > {BROKEN}"),
            ]
        );
        compiles(&loaded);
    }

    #[test]
    fn x1_a_rule_of_another_namespace_fails_the_services_of_that_namespace_alone() {
        let elsewhere = "metadata: {namespace: other, name: ";
        let text = entry("a", "a.shop.example", &["80/HTTP"])
            + &entry("b", "b.shop.example", &["80/HTTP"]).replace("metadata: {name: ", elsewhere)
            + &bad_rule("*.shop.example").replace("metadata: {name: ", elsewhere);
        let loaded = load(&text);
        assert_eq!(
            table(&loaded),
            [
                "a.shop.example:80 > outbound|80||a.shop.example",
                "b.shop.example:* > refused|DestinationRule other/dr",
            ]
        );
        compiles(&loaded);
    }

    #[test]
    fn x1_a_route_of_the_gateway_api_fails_the_hosts_of_its_service_entry() {
        let route = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: \
                     {name: r}\nspec: {parentRefs: [{kind: ServiceEntry, group: \
                     networking.istio.io, name: bank}]}\n";
        let text = entry("bank", "bank.example", &["80/HTTP"])
            + &entry("shop", "shop.example", &["80/HTTP"])
            + route;
        let loaded = load(&text);
        assert_eq!(
            table(&loaded),
            [
                "shop.example:80 > outbound|80||shop.example",
                "bank.example:* > refused|HTTPRoute default/r",
            ]
        );
        compiles(&loaded);
    }

    #[test]
    fn x1_the_reason_names_file_line_object_and_mistake() {
        let text = entry("bank", "bank.example", &["80/HTTP"]) + &bad_rule("bank.example");
        let loaded = load(&text);
        let upstreams = loaded.config.upstreams.iter();
        let mut broken = upstreams.filter(|one| &*one.name == BROKEN);
        let broken = broken.next().unwrap().broken.clone().unwrap();
        assert_eq!(broken.kind, BrokenKind::Unhealthy);
        let [refused] = &loaded.config.refused[..] else {
            panic!("{:?}", loaded.config.refused);
        };
        assert_eq!(&*refused.object, "DestinationRule default/dr");
        assert_eq!(*broken.reason, refused.to_string());
        let words = "DestinationRule default/dr was refused: ";
        assert!(broken.reason.contains(words), "{}", broken.reason);
        assert!(broken.reason.starts_with("a.yaml:"), "{}", broken.reason);
        assert!(broken.reason.contains("sniHost"), "{}", broken.reason);
    }

    #[test]
    fn x1_a_governed_wildcard_takes_everything_below_it() {
        let text = entry("a", "a.shop.example", &["80/HTTP", "443/TLS"])
            + &entry("b", "b.deep.shop.example", &["80/HTTP"])
            + &entry("c", "shop.example", &["80/HTTP", "443/TLS"])
            + &bad_rule("*.shop.example");
        let loaded = load(&text);
        assert_eq!(
            table(&loaded),
            [
                "shop.example:80 > outbound|80||shop.example".to_owned(),
                format!("*.shop.example:* > {BROKEN}"),
            ]
        );
        assert!(
            !streams(&loaded)
                .iter()
                .any(|line| line.contains("a.shop.example >"))
        );
        compiles(&loaded);
    }

    #[test]
    fn x1_a_refused_wildcard_spares_the_hosts_that_have_a_document_of_their_own() {
        let rule = |name: &str, namespace: &str, host: &str| {
            format!(
                "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: \
                 {name}, namespace: {namespace}}}\nspec: {{host: {host}}}\n"
            )
        };
        let text = entry("a", "a.shop.example", &["80/HTTP", "443/TLS"])
            + &entry("b", "b.shop.example", &["80/HTTP"])
            + &entry("c", "c.shop.example", &["80/HTTP"])
            + &rule("a", "default", "a.shop.example")
            + &rule("b", "other", "b.shop.example")
            + &bad_rule("*.shop.example");
        let loaded = load(&text);
        assert_eq!(
            table(&loaded),
            [
                "a.shop.example:80 > outbound|80||a.shop.example".to_owned(),
                format!("*.shop.example:* > {BROKEN}"),
            ]
        );
        let own = "443 tls a.shop.example > outbound|443||a.shop.example".to_owned();
        assert!(streams(&loaded).contains(&own));
        let broken = |name: &str| {
            let mut all = loaded.config.upstreams.iter();
            all.find(|one| &*one.name == name).unwrap().broken.is_some()
        };
        assert!(!broken("outbound|80||a.shop.example"));
    }

    #[test]
    fn x1_a_refused_wildcard_of_rules_spares_traffic_with_rules_of_its_own_alone() {
        let bad = format!(
            "  hosts: ['*.shop.example']\n  typo: 1\n  http: {}",
            all_to("x.example")
        );
        let own = format!(
            "  hosts: [a.shop.example]\n  http: {}",
            all_to("a.shop.example")
        );
        let text = entry("a", "a.shop.example", &["443/TLS"])
            + &entry("b", "b.shop.example", &["80/HTTP"])
            + &vs("own", &own)
            + &vs("bad", &bad);
        let loaded = load(&text);
        let broken = "refused|VirtualService default/bad";
        assert_eq!(
            table(&loaded),
            [
                "a.shop.example:80 > outbound|443||a.shop.example".to_owned(),
                format!("*.shop.example:* > {broken}"),
            ]
        );
        assert_eq!(
            streams(&loaded),
            [format!("* tls *.shop.example > {broken}")]
        );
    }

    #[test]
    fn x1_a_refused_wildcard_service_spares_a_native_route_and_another_service() {
        let wild = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: w}\n\
                    spec: {typo: 1, hosts: ['*.shop.example'], ports: [{number: 80, name: http, \
                    protocol: HTTP}]}\n";
        let native = "upstreams: [{name: own, endpoints: ['127.0.0.1:1'], tls: {mode: \
                      disable}}]\nroutes: [{host: b.shop.example, upstream: own}]\n";
        let text = wild.to_owned() + &entry("a", "a.shop.example", &["80/HTTP"]);
        let loaded = load_files(&[("a.yaml", &text), ("b.yaml", native)]);
        assert_eq!(
            table(&loaded),
            [
                "b.shop.example:* > own",
                "a.shop.example:80 > outbound|80||a.shop.example",
                "*.shop.example:* > refused|ServiceEntry default/w",
            ]
        );
    }

    #[test]
    fn x1_a_wildcard_above_does_not_serve_a_governed_host() {
        let rules = format!("  hosts: ['*.example']\n  http: {}", all_to("all.example"));
        let text = entry("all", "all.example", &["443/TLS"])
            + &vs("wide", &rules)
            + &bad_rule("bank.example");
        assert_eq!(
            table(&load(&text)),
            [
                "*.example:80 > outbound|443||all.example".to_owned(),
                format!("bank.example:* > {BROKEN}"),
            ]
        );
    }

    #[test]
    fn x1_a_native_route_does_not_serve_a_governed_host_either() {
        let native = "upstreams: [{name: own, endpoints: ['127.0.0.1:1'], tls: {mode: \
                      disable}}]\nroutes: [{hosts: [bank.example, other.example], upstream: own}]\n";
        let loaded = load_files(&[("a.yaml", &bad_rule("bank.example")), ("b.yaml", native)]);
        assert_eq!(
            table(&loaded),
            [
                "other.example:* > own".to_owned(),
                format!("bank.example:* > {BROKEN}")
            ]
        );
    }

    #[test]
    fn x1_a_governed_service_fails_under_its_other_names_and_its_address() {
        let text = service(
            "hello",
            "default",
            "{port: 5000, name: http}, {port: 3306, name: mysql}",
        ) + &bad_rule("hello");
        let loaded = load(&text);
        let lines = table(&loaded);
        let [line] = &lines[..] else {
            panic!("{lines:?}");
        };
        for name in [
            "hello.default.svc.cluster.local",
            "hello.default,",
            "hello,",
            "10.0.0.9",
        ] {
            assert!(line.contains(name), "{name}: {line}");
        }
        assert!(line.ends_with(BROKEN), "{line}");
        let found = streams(&loaded);
        assert!(found.iter().all(|line| line.ends_with(BROKEN)), "{found:?}");
        let address = format!("* other 10.0.0.9/32 > {BROKEN}");
        assert!(found.contains(&address), "{found:?}");
        compiles(&loaded);
    }

    #[test]
    fn x1_a_refused_service_entry_leaves_its_host_without_service() {
        let bad = entry("bank", "bank.example", &["80/HTTP", "3306/TCP"]).replacen(
            "resolution: STATIC",
            "resolution: STATIC, typo: 1",
            1,
        );
        let loaded = load(&(bad + &entry("shop", "shop.example", &["80/HTTP"])));
        assert_eq!(
            table(&loaded),
            [
                "shop.example:80 > outbound|80||shop.example",
                "bank.example:* > refused|ServiceEntry default/bank",
            ]
        );
        let found = streams(&loaded);
        let port = "3306 other > refused|ServiceEntry default/bank".to_owned();
        assert!(
            found.contains(&port),
            "what has no address has the port: {found:?}"
        );
    }

    #[test]
    fn x1_a_refused_virtual_service_does_not_leave_the_services_own_route() {
        let rules = format!(
            "  hosts: [bank.example]\n  typo: 1\n  http: {}",
            all_to("x.example")
        );
        let text = entry("bank", "bank.example", &["80/HTTP", "443/TLS"]) + &vs("a", &rules);
        assert_eq!(
            table(&load(&text)),
            ["bank.example:* > refused|VirtualService default/a"]
        );
    }

    #[test]
    fn x1_a_refused_virtual_service_of_gateways_alone_governs_nothing_of_the_mesh() {
        let text = |gateways: &str| {
            let rules = format!(
                "  hosts: [bank.example]\n  gateways: {gateways}\n  typo: 1\n  http: {}",
                all_to("x.example")
            );
            entry("bank", "bank.example", &["80/HTTP"]) + &vs("a", &rules)
        };
        let served = ["bank.example:80 > outbound|80||bank.example"];
        let broken = ["bank.example:* > refused|VirtualService default/a"];
        assert_eq!(table(&load(&text("[edge]"))), served);
        for gateways in ["[edge, mesh]", "[]", "[[edge]]", "[edge, 1]"] {
            assert_eq!(table(&load(&text(gateways))), broken, "{gateways}");
        }
    }

    #[test]
    fn ist0131_a_port_that_a_gateway_alone_listens_on_is_not_missed() {
        let rules = "  hosts: [bank.example]\n  gateways: [mesh, edge]\n  tcp:\n  - match: \
                     [{gateways: [GATEWAY], port: 31400}]\n    route: [{destination: {host: \
                     bank.example}}]";
        let told = |gateway: &str| {
            let text = entry("bank", "bank.example", &["9000/TCP"])
                + &vs("a", &rules.replace("GATEWAY", gateway));
            said(&load(&text), &[Code::MatchWithoutEffect]).len()
        };
        assert_eq!((told("edge"), told("mesh")), (0, 1));
    }

    #[test]
    fn x1_two_refused_documents_for_one_host_do_not_clash() {
        let rules = "  hosts: [bank.example]\n  typo: 1\n  http: []";
        let text = bad_rule("bank.example") + &vs("a", rules);
        let loaded = load(&text);
        assert_eq!(table(&loaded).len(), 1);
        assert_eq!(loaded.config.refused.len(), 2);
        compiles(&loaded);
    }
}

mod seeds {
    use super::*;

    const COMMON_CA: &str = r"
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata:
  name: nginx-mtls-common-ca
spec:
  host: nginx-mtls.common-ca.local
  trafficPolicy:
    portLevelSettings:
    - port:
        number: 80
      tls:
        mode: ISTIO_MUTUAL
---
apiVersion: networking.istio.io/v1beta1
kind: ServiceEntry
metadata:
  name: nginx-mtls-common-ca
spec:
  hosts:
  - nginx-mtls.common-ca.local
  location: MESH_EXTERNAL
  ports:
  - number: 80
    name: http-port
    protocol: HTTP
    targetPort: 8443
  - number: 8443
    name: https
    protocol: TLS
  resolution: STATIC
  endpoints:
  - address: 10.1.1.4
";

    const GATEWAY: &str = r"
apiVersion: networking.istio.io/v1alpha3
kind: Gateway
metadata:
  name: istio-egressgateway
spec:
  selector:
    istio: egressgateway
  servers:
  - port:
      number: 443
      name: https
      protocol: HTTPS
    hosts:
    - nginx-mtls.diff-ca.local
    tls:
        mode: ISTIO_MUTUAL
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata:
  name: egressgateway-for-nginx-mtls
spec:
  host: istio-egressgateway.istio-system.svc.cluster.local
  subsets:
  - name: nginx-mtls
    trafficPolicy:
      portLevelSettings:
      - port:
          number: 443
        tls:
          mode: ISTIO_MUTUAL
          sni: nginx-mtls.diff-ca.local
---
apiVersion: networking.istio.io/v1beta1
kind: ServiceEntry
metadata:
  name: nginx-mtls-diff-ca
spec:
  hosts:
  - nginx-mtls.diff-ca.local
  location: MESH_EXTERNAL
  ports:
  - number: 9443
    name: https
    protocol: TLS
  resolution: STATIC
  endpoints:
  - address: 10.1.1.4
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata:
  name: direct-nginx-mtls-through-egress-gateway
spec:
  hosts:
  - nginx-mtls.diff-ca.local
  gateways:
  - istio-egressgateway
  - mesh
  http:
  - match:
    - gateways:
      - mesh
      port: 80
    route:
    - destination:
        host: istio-egressgateway.istio-system.svc.cluster.local
        subset: nginx-mtls
        port:
          number: 443
  - match:
    - gateways:
      - istio-egressgateway
      port: 443
    route:
    - destination:
        host: nginx-mtls.diff-ca.local
        port:
          number: 9443
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata:
  name: originate-tls-for-nginx-mtls
  namespace: istio-system
spec:
  host: nginx-mtls.diff-ca.local
  trafficPolicy:
    loadBalancer:
      simple: ROUND_ROBIN
    portLevelSettings:
    - port:
        number: 9443
      tls:
        mode: MUTUAL
        credentialName: nginx-mtls-external
        sni: nginx-mtls.diff-ca.local
";

    const UNIQUE: &str = r"
apiVersion: networking.istio.io/v1beta1
kind: ServiceEntry
metadata:
  name: nginx-mtls-diff-ca
spec:
  hosts:
  - nginx-mtls.diff-ca.local
  location: MESH_EXTERNAL
  ports:
  - number: 9443
    name: https
    protocol: HTTPS
  resolution: STATIC
  endpoints:
  - address: 10.1.1.4
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata:
  name: nginx-mtls-diff-ca
spec:
  hosts:
  - nginx-mtls.diff-ca.local
  http:
  - match:
    - port: 80
    route:
    - destination:
        host: nginx-mtls.diff-ca.local
        port:
          number: 9443
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata:
  name: nginx-mtls-diff-ca
spec:
  host: nginx-mtls.diff-ca.local
  trafficPolicy:
    portLevelSettings:
    - port:
        number: 9443
      tls:
        mode: MUTUAL
        clientCertificate: /etc/certs/tls.crt
        privateKey: /etc/certs/tls.key
        caCertificates: /etc/certs/ca.crt
";

    const HELLO: &str = r"
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata:
  name: helloworld-zufar-io-vs
  namespace: client
spec:
  hosts:
  - helloworld.zufar.io
  http:
  - match:
    - port: 80
    route:
    - destination:
        host: helloworld.zufar.io
        subset: tls-origination
        port:
          number: 443
---
apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata:
  name: helloworld-zufar-io-se
  namespace: client
spec:
  hosts:
  - helloworld.zufar.io
  ports:
  - number: 443
    name: https-port-for-tls-origination
    protocol: HTTPS
  resolution: DNS
  location: MESH_EXTERNAL
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata:
  name: helloworld-zufar-io-dr
  namespace: client
spec:
  host: helloworld.zufar.io
  subsets:
  - name: tls-origination
    trafficPolicy:
      portLevelSettings:
      - port:
          number: 443
        tls:
          mode: MUTUAL
          clientCertificate: /etc/cluster-a-client/cluster-a-client-cert.pem
          privateKey: /etc/cluster-a-client/cluster-a-client-key.pem
          caCertificates: /etc/cluster-a-client/root-cert.pem
";

    fn identity() -> LoadOptions {
        let mut options = options();
        let facts = Arc::make_mut(&mut options.facts);
        facts.identity = Some(MeshIdentity {
            certificate: "/etc/certs/cert-chain.pem".into(),
            key: "/etc/certs/key.pem".into(),
            ca: "/etc/certs/root-cert.pem".into(),
        });
        options
    }

    #[track_caller]
    fn seed(text: &str, namespace: &str) -> Loaded {
        let mut options = identity();
        Arc::make_mut(&mut options.facts).namespace = namespace.into();
        match load_texts_with(&[("a.yaml", text)], &options) {
            Ok(loaded) => loaded,
            Err(all) => panic!("{all}"),
        }
    }

    /// How the upstream of a name is spoken to: endpoint, mode, server name.
    #[track_caller]
    fn wire(loaded: &Loaded, name: &str) -> String {
        let mut found = loaded
            .config
            .upstreams
            .iter()
            .filter(|one| &*one.name == name);
        let spec = found.next().expect(name);
        assert_eq!(spec.broken, None, "{name}");
        let to = &spec.endpoints[0];
        let tls = match &spec.tls {
            TlsPolicy::Disable => "plain".to_owned(),
            TlsPolicy::Tls(tls) => {
                let mode = match tls.credential.identity.is_some() {
                    true => "mutual",
                    false => "simple",
                };
                let name = tls.server_name.as_ref();
                let name = name.map_or("the request's host".to_owned(), ToString::to_string);
                format!("{mode} as {name}")
            }
        };
        format!("{}:{} {tls}", to.host, to.port)
    }

    #[test]
    fn seed_000_common_ca_is_http_on_80_and_tls_by_name_on_8443() {
        let loaded = seed(COMMON_CA, "default");
        let upstream = "outbound|80||nginx-mtls.common-ca.local";
        assert_eq!(
            table(&loaded),
            [format!("nginx-mtls.common-ca.local:80 > {upstream}")]
        );
        let to = "10.1.1.4:8443 mutual as outbound_.80_._.nginx-mtls.common-ca.local";
        assert_eq!(wire(&loaded, upstream), to);
        let direct = "outbound|8443||nginx-mtls.common-ca.local";
        assert_eq!(
            streams(&loaded),
            [format!("8443 tls nginx-mtls.common-ca.local > {direct}")]
        );
        assert_eq!(wire(&loaded, direct), "10.1.1.4:8443 plain");
        compiles(&loaded);
    }

    #[test]
    fn seed_000_egress_gateway_hop_1_is_made_from_the_virtual_service() {
        let loaded = seed(GATEWAY, "default");
        let upstream = "outbound|443|nginx-mtls|istio-egressgateway.istio-system.svc.cluster.local";
        assert_eq!(
            table(&loaded),
            [format!("nginx-mtls.diff-ca.local:80 > {upstream}")]
        );
        assert_eq!(
            wire(&loaded, upstream),
            "istio-egressgateway.istio-system.svc.cluster.local:443 mutual as \
             nginx-mtls.diff-ca.local"
        );
        assert!(loaded.config.refused.is_empty());
        let codes = [
            Code::HostNotInGateway,
            Code::MatchWithoutEffect,
            Code::UnreachableRule,
        ];
        assert_eq!(said(&loaded, &codes), Vec::<String>::new());
        compiles(&loaded);
    }

    #[test]
    fn seed_000_unique_certificate_is_made_from_the_virtual_service() {
        let loaded = seed(UNIQUE, "default");
        let upstream = "outbound|9443||nginx-mtls.diff-ca.local";
        assert_eq!(
            table(&loaded),
            [format!("nginx-mtls.diff-ca.local:80 > {upstream}")]
        );
        assert_eq!(
            wire(&loaded, upstream),
            "10.1.1.4:9443 mutual as the request's host"
        );
        assert_eq!(
            streams(&loaded),
            [format!("9443 tls nginx-mtls.diff-ca.local > {upstream}")]
        );
        compiles(&loaded);
    }

    #[test]
    fn seed_001_cluster_a_originates_tls_on_443_for_port_80() {
        let loaded = seed(HELLO, "client");
        let upstream = "outbound|443|tls-origination|helloworld.zufar.io";
        assert_eq!(
            table(&loaded),
            [format!("helloworld.zufar.io:80 > {upstream}")]
        );
        assert_eq!(
            wire(&loaded, upstream),
            "helloworld.zufar.io:443 mutual as the request's host"
        );
        let direct = "outbound|443||helloworld.zufar.io";
        assert_eq!(
            streams(&loaded),
            [format!("443 tls helloworld.zufar.io > {direct}")]
        );
        assert_eq!(wire(&loaded, direct), "helloworld.zufar.io:443 plain");
        compiles(&loaded);
    }

    #[test]
    fn seed_002_hop_1_is_made_from_the_virtual_service() {
        let text = GATEWAY
            .replace("nginx-mtls.diff-ca.local", "external-service.apps.example")
            .replace("nginx-mtls\n", "nginx\n")
            .replace("number: 9443", "number: 443");
        let loaded = seed(&text, "default");
        let upstream = "outbound|443|nginx|istio-egressgateway.istio-system.svc.cluster.local";
        assert_eq!(
            table(&loaded),
            [format!("external-service.apps.example:80 > {upstream}")]
        );
        assert_eq!(
            wire(&loaded, upstream),
            "istio-egressgateway.istio-system.svc.cluster.local:443 mutual as \
             external-service.apps.example"
        );
        compiles(&loaded);
    }
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

mod any_documents {
    use proptest::prelude::*;

    use super::*;

    const HOSTS: &[&str] = &[
        "a.shop.example",
        "b.shop.example",
        "shop.example",
        "'*.shop.example'",
        "'*.example'",
        "hello",
        "hello.default.svc.cluster.local",
        "hello.default",
    ];
    const PROTOCOLS: &[&str] = &["HTTP", "TLS", "TCP", "UNKNOWN", "HTTP2"];
    const PORTS: &[u16] = &[80, 443, 8080];

    fn host() -> impl Strategy<Value = &'static str> {
        prop::sample::select(HOSTS)
    }

    fn port() -> impl Strategy<Value = u16> {
        prop::sample::select(PORTS)
    }

    /// Kind, two hosts, port, protocol, with a virtual address, with a mistake, for some port alone.
    type Told = (u8, &'static str, &'static str, u16, usize, bool, bool, bool);

    fn told() -> impl Strategy<Value = Told> {
        let more = (any::<bool>(), prop::bool::weighted(0.2), any::<bool>());
        (0_u8..6, host(), host(), port(), 0..PROTOCOLS.len(), more).prop_map(
            |(kind, a, b, port, protocol, (vip, typo, on))| {
                (kind, a, b, port, protocol, vip, typo, on)
            },
        )
    }

    fn document(n: usize, told: &Told) -> String {
        let (kind, a, b, port, protocol, vip, typo, on) = *told;
        let typo = if typo { "typo: 1, " } else { "" };
        let head = |group: &str, kind: &str| {
            format!("---\napiVersion: {group}\nkind: {kind}\nmetadata: {{name: n{n}}}\nspec: ")
        };
        let istio = |kind: &str| head("networking.istio.io/v1", kind);
        let protocol = PROTOCOLS[protocol];
        let matched = if on {
            format!("match: [{{port: {port}}}], ")
        } else {
            String::new()
        };
        let to = format!("route: [{{destination: {{host: {b}, port: {{number: {port}}}}}}}]");
        let to = to.replace('*', "c").replace('\'', "");
        match kind {
            0 | 1 => {
                let addresses = if vip { "addresses: [192.0.2.9], " } else { "" };
                format!(
                    "{}{{{typo}{addresses}hosts: [{a}], ports: [{{number: {port}, name: p, \
                     protocol: {protocol}}}]}}\n",
                    istio("ServiceEntry")
                )
            }
            2 => format!(
                "{}{{{typo}hosts: [{a}], http: [{{{matched}{to}}}]}}\n",
                istio("VirtualService")
            ),
            3 => format!(
                "{}{{{typo}hosts: [{a}], tls: [{{match: [{{sniHosts: [{a}]}}], {to}}}], tcp: \
                 [{{{matched}{to}}}]}}\n",
                istio("VirtualService")
            ),
            4 => format!("{}{{{typo}host: {a}}}\n", istio("DestinationRule")),
            _ => format!(
                "{}{{{typo}clusterIP: 192.0.2.9, selector: {{a: b}}, ports: [{{port: {port}, name: \
                 http}}]}}\n",
                head("v1", "Service").replace(&format!("n{n}"), "hello")
            ),
        }
    }

    /// The entry that a request would meet: exact, then the longest wildcard; with its port first.
    fn meets<'l>(loaded: &'l Loaded, host: &str, port: u16) -> Option<&'l HostRoutes> {
        let entries = loaded.config.hosts.iter().flat_map(|group| {
            let fitting = group.hosts.iter().filter(|pattern| pattern.matches(host));
            fitting.map(move |pattern| (pattern, group))
        });
        let on_port = entries.filter(|(_, group)| group.port.is_none_or(|on| on == port));
        let best = on_port.max_by_key(|(pattern, group)| {
            let length = match pattern {
                HostPattern::Exact(_) => usize::MAX,
                HostPattern::Suffix(suffix) => suffix.as_str().len(),
                HostPattern::Any => 0,
            };
            (length, group.port)
        });
        best.map(|(_, group)| group)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        /// Whatever is declared: no host is there twice, every upstream is there, and what a
        /// refused document governs goes nowhere else.
        #[test]
        fn x1_the_table_is_whole_and_what_is_refused_is_nowhere_served(
            all in prop::collection::vec(told(), 1..9),
            native in prop::option::of((host(), prop::option::of(port()))),
        ) {
            let text: String = all.iter().enumerate().map(|(n, one)| document(n, one)).collect();
            let native = native.map_or(String::new(), |(host, port)| {
                let port = port.map_or(String::new(), |port| format!(", port: {port}"));
                format!(
                    "upstreams: [{{name: own, endpoints: ['127.0.0.1:1'], tls: {{mode: \
                     disable}}}}]\nroutes: [{{host: {host}{port}, upstream: own}}]\n"
                )
            });
            let files = [("a.yaml", text.as_str()), ("b.yaml", native.as_str())];
            let files = if native.is_empty() { &files[..1] } else { &files[..] };
            // A mistake of more than one object refuses everything: that is whole as well.
            let Ok(loaded) = load_texts_with(files, &options()) else {
                return Ok(());
            };
            compiles(&loaded);
            let refused = all.iter().filter(|(kind, .., typo, _)| *typo && *kind < 5);
            for (kind, host, ..) in refused {
                let host = host.trim_matches('\'').replace("*.", "deep.");
                let host = match host.as_str() {
                    // H3: a ServiceEntry's host is never short.
                    "hello" if *kind > 1 => "hello.default.svc.cluster.local",
                    host => host,
                };
                for port in PORTS {
                    let met = meets(&loaded, host, *port).expect("governed");
                    let Action::Forward(to) = &met.rules[0].action else {
                        panic!("it forwards");
                    };
                    prop_assert!(to[0].upstream.starts_with("refused|"), "{host}: {met:?}");
                }
                for stream in &loaded.config.streams {
                    if let StreamMatch::Tls { names, .. } = &stream.on {
                        let broken = stream.to.iter().all(|to| to.upstream.starts_with("refused|"));
                        let names_it = |name: &HostPattern| name.to_string() == host;
                        prop_assert!(broken || !names.iter().any(names_it), "{host}: {stream:?}");
                    }
                }
            }
        }
    }
}
