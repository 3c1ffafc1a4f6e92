//! What a refused document makes fail, and what it spares (ISTIO.md X1).

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
    let text =
        entry("all", "all.example", &["443/TLS"]) + &vs("wide", &rules) + &bad_rule("bank.example");
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
