//! Ports that carry no HTTP.

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
        let loaded = load(&(entry("bank", "bank.example", &["443/TLS"]) + &vs("a", &rules(on))));
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
