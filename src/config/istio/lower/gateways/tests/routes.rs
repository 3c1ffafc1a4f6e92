//! Whose routes a server of a gateway has.

use super::*;

#[test]
fn g2_the_more_specific_of_the_two_hosts_is_served() {
    let serves = |server_host: &str, host: &str| {
        let gateway = gateway("edge", &server(HTTP, server_host, ""));
        let vs = vs(
            "a",
            &format!("hosts: [{host}], gateways: [edge], {}", to("bank.example")),
        );
        entrances(&lab(&[BANK, &gateway, &vs])).get(1).cloned()
    };
    let to = |host: &str| Some(format!("  {host} > outbound|80||bank.example"));
    assert_eq!(serves("'*.example'", "bank.example"), to("bank.example"));
    assert_eq!(serves("bank.example", "'*.example'"), to("bank.example"));
    assert_eq!(serves("'*'", "'*.example'"), to("*.example"));
    assert_eq!(serves("shop.example", "bank.example"), None);
}

#[test]
fn g2_a_namespace_before_the_host_is_that_of_the_virtual_service() {
    let serves = |server_host: &str| {
        let gateway = gateway("edge", &server(HTTP, server_host, ""));
        let vs = vs(
            "a",
            &format!(
                "hosts: [bank.example], gateways: [edge], {}",
                to("bank.example")
            ),
        );
        entrances(&lab(&[BANK, &gateway, &vs])).len() > 1
    };
    for host in [
        "default/bank.example",
        "./bank.example",
        "'*/bank.example'",
        "bank.example",
    ] {
        assert!(serves(host), "{host}");
    }
    assert!(!serves("far/bank.example"));
}

#[test]
fn v1_v2_a_virtual_service_is_on_the_gateways_that_it_names() {
    let serves = |gateways: &str| {
        let gateway = gateway("edge", &server(HTTP, "'*'", ""));
        let vs = vs(
            "a",
            &format!("hosts: [bank.example], {gateways} {}", to("bank.example")),
        );
        entrances(&lab(&[BANK, &gateway, &vs])).len() > 1
    };
    for named in [
        "edge",
        "default/edge",
        "./edge",
        "edge.default.svc.cluster.local",
    ] {
        assert!(serves(&format!("gateways: [mesh, {named}],")), "{named}");
    }
    for named in ["", "gateways: [mesh],", "gateways: [far/edge],"] {
        assert!(!serves(named), "{named}");
    }
}

#[test]
fn v8_matches_are_for_the_gateway_and_for_the_port_of_its_document() {
    let rules = "hosts: [bank.example], gateways: [edge, mesh], http: [
      {match: [{gateways: [mesh], port: 443}], route: [{destination: {host: shop.example, port: {number: 80}}}]},
      {match: [{gateways: [edge], port: 80}], route: [{destination: {host: shop.example, port: {number: 80}}}]},
      {match: [{gateways: [edge], port: 443, sourceLabels: {not: mine}}], route: [{destination: {host: bank.example, port: {number: 80}}}]}]";
    let gateway = gateway("edge", &server(HTTPS, "'*'", "mode: ISTIO_MUTUAL"));
    let lab = lab(&[BANK, &gateway, &vs("a", rules)]).options(|options| {
        options.gateway_ports.insert(443, 8443);
    });
    assert_eq!(
        entrances(&lab),
        [
            "gateway|443|default/edge|https [*] Required",
            "  bank.example > outbound|80||bank.example"
        ]
    );
    assert_eq!(
        listeners(&lab),
        ["[::]:8443 443"],
        "G11: it is bound elsewhere"
    );
}

#[test]
fn v5_routes_of_several_virtual_services_are_joined_and_what_takes_all_goes_last() {
    let route =
        |host: &str| format!("route: [{{destination: {{host: {host}, port: {{number: 80}}}}}}]");
    let first = format!(
        "hosts: [bank.example], gateways: [edge], http: [{{match: [{{uri: {{exact: /a}}}}, {{uri: {{prefix: /}}}}], {}}}, {{match: [{{uri: {{exact: /lost}}}}], {}}}]",
        route("bank.example"),
        route("bank.example")
    );
    let second = format!(
        "hosts: [bank.example], gateways: [edge], http: [{{match: [{{uri: {{prefix: /b}}}}], {}}}, {{{}}}]",
        route("shop.example"),
        route("shop.example")
    );
    let gateway = gateway("edge", &server(HTTP, "'*'", ""));
    let lab = lab(&[BANK, &gateway, &vs("a", &first), &vs("b", &second)]);
    assert_eq!(
        entrances(&lab),
        [
            "gateway|80|http [] clear",
            "  bank.example =/a > outbound|80||bank.example",
            "  bank.example /b* > outbound|80||shop.example",
            "  bank.example /* > outbound|80||bank.example",
            "  bank.example > outbound|80||shop.example",
        ]
    );
}

#[test]
fn h5_a_virtual_service_that_is_not_exported_here_does_not_exist() {
    let gateway = gateway("edge", &server(HTTP, "'*'", ""));
    for (export, seen) in [("'*'", true), ("far", false), ("'.'", true)] {
        let spec = format!(
            "hosts: [bank.example], exportTo: [{export}], gateways: [edge], {}",
            to("bank.example")
        );
        let lab = lab(&[BANK, &gateway, &vs("a", &spec)]);
        assert_eq!(entrances(&lab).len() > 1, seen, "{export}");
    }
}

#[test]
fn g9_each_server_with_tls_has_the_hosts_of_its_own_virtual_services_alone() {
    let one = gateway(
        "one",
        &server(HTTPS, "bank.example", "mode: SIMPLE, credentialName: a"),
    );
    let two = gateway(
        "two",
        &server(HTTPS, "shop.example", "mode: MUTUAL, credentialName: b"),
    );
    let bank = vs(
        "a",
        &format!(
            "hosts: [bank.example], gateways: [one], {}",
            to("bank.example")
        ),
    );
    let shop = vs(
        "b",
        &format!(
            "hosts: [shop.example], gateways: [two], {}",
            to("shop.example")
        ),
    );
    assert_eq!(
        entrances(&lab(&[BANK, &one, &two, &bank, &shop])),
        [
            "gateway|443|default/one|https [bank.example] Unasked",
            "  bank.example > outbound|80||bank.example",
            "gateway|443|default/two|https [shop.example] Required",
            "  shop.example > outbound|80||shop.example",
        ]
    );
}

#[test]
fn g9_a_server_without_any_virtual_service_has_an_empty_table() {
    let gateway = gateway("edge", &server(HTTP, "'*'", ""));
    assert_eq!(entrances(&lab(&[&gateway])), ["gateway|80|http [] clear"]);
}

#[test]
fn g10_https_redirect_is_for_every_host_of_the_server_routed_or_not() {
    let redirected = server(HTTP, "'*.example'", "httpsRedirect: true");
    let plain = server(
        "port: {number: 80, name: other, protocol: HTTP}",
        "a.test",
        "",
    );
    let gateway = gateway("edge", &(redirected + &plain));
    let rules = |host: &str| format!("hosts: [{host}], gateways: [edge], {}", to("bank.example"));
    let lab = lab(&[
        BANK,
        &gateway,
        &vs("a", &rules("bank.example")),
        &vs("b", &rules("a.test")),
    ]);
    assert_eq!(
        entrances(&lab),
        [
            "gateway|80|http [] clear",
            "  bank.example any > 301 https",
            "  bank.example > outbound|80||bank.example",
            "  *.example any > 301 https",
            "  a.test > outbound|80||bank.example",
        ]
    );
    let (config, _) = lab.config();
    let when = &config.entrances[0].hosts[0].rules[0].matches[0];
    let http = StringMatch::Exact("http".to_owned());
    assert_eq!(
        when.scheme,
        Some(http),
        "not what a trusted proxy had by https"
    );
}

#[test]
fn ist0131_a_match_for_where_a_port_is_bound_never_holds() {
    let rules = |port: u16| {
        let spec = format!(
            "hosts: [bank.example], gateways: [edge], http: [{{match: [{{gateways: [edge], port: \
             {port}}}], route: [{{destination: {{host: bank.example, port: {{number: 80}}}}}}]}}]"
        );
        let text = gateway("edge", &server(HTTPS, "'*'", "mode: ISTIO_MUTUAL"));
        lab(&[BANK, &text, &vs("a", &spec)]).options(|options| {
            options.gateway_ports.insert(443, 8443);
        })
    };
    let bound = rules(8443);
    let told = said(&bound, "IST0131");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("the Gateway default/edge has servers on 443: it never holds"),
        "{told:?}"
    );
    assert_eq!(entrances(&bound).len(), 1);
    assert_eq!(said(&rules(443), "IST0131"), Vec::<String>::new());
}
