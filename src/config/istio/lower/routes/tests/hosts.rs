//! Which hosts a table has, and whose rules they get.

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
        gateway.to_owned() + &entry("bank", "bank.example", &["443/TLS"]) + &vs("a", &rules(named))
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
    let loaded =
        load(&(wild.to_owned() + &entry("bank", "bank.example", &["443/TLS"]) + &vs("a", &rules)));
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
    assert!(lines[0].starts_with("hello.default.svc.cluster.local:80 > outbound|5000||hello.def"));
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
    let rules = "  hosts: [hello.other]\n  http: [{route: [{destination: {host: hello.other}}]}]";
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
    assert!(!routed("'.'", "other") && !routed("other", "default") && !routed("'~'", "default"));
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
