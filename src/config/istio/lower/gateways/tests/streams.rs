//! Ports of a gateway that carry no HTTP.

use super::*;

#[test]
fn g3_passthrough_goes_by_server_name_to_what_tls_rules_say() {
    let servers = server(
        "port: {number: 443, name: tls, protocol: TLS}",
        "'*.example'",
        "mode: PASSTHROUGH",
    );
    let rules = "hosts: [bank.example, shop.test], gateways: [edge], tls: [
      {match: [{port: 443, sniHosts: [bank.example, shop.test]}], route: [{destination: {host: bank.example, port: {number: 443}}}]},
      {match: [{port: 444, sniHosts: [bank.example]}], route: [{destination: {host: shop.example, port: {number: 443}}}]}]";
    let lab = lab(&[BANK, &gateway("edge", &servers), &vs("a", rules)]);
    assert_eq!(
        entrances(&lab),
        [
            "gateway|443|default/edge|tls [*.example bank.example] pass through, mesh false",
            "  bank.example > outbound|443||bank.example",
        ]
    );
}

#[test]
fn g3_tls_without_a_mode_is_passed_through() {
    let servers = server(HTTPS, "bank.example", "minProtocolVersion: TLSV1_2");
    assert_eq!(
        entrances(&lab(&[&gateway("edge", &servers)])),
        ["gateway|443|default/edge|https [bank.example] pass through, mesh false"]
    );
}

#[test]
fn g3_bytes_go_to_the_first_tcp_rule_that_fits_in_the_clear_and_out_of_tls() {
    let clear = server("port: {number: 3306, name: db, protocol: TCP}", "'*'", "");
    let tls = server(
        "port: {number: 443, name: tls, protocol: TLS}",
        "'*'",
        "mode: ISTIO_MUTUAL",
    );
    let rules = "hosts: [bank.example], gateways: [edge], tcp: [
      {match: [{port: 443}], route: [{destination: {host: shop.example, port: {number: 443}}}]},
      {route: [{destination: {host: bank.example, port: {number: 443}}}]}]";
    let lab = lab(&[BANK, &gateway("edge", &(clear + &tls)), &vs("a", rules)]);
    assert_eq!(
        entrances(&lab),
        [
            "gateway|443|default/edge|tls [*] Required",
            "  bytes[] > outbound|443||shop.example",
            "gateway|3306|default/edge|db [] clear",
            "  bytes[] > outbound|443||bank.example",
        ]
    );
    let (config, _) = lab.config();
    assert_eq!(config.entrances[0].carries, Carries::Opaque);
    assert_eq!(
        config.entrances[0].tls.spec().unwrap().alpn,
        ServerAlpn::None
    );
}

#[test]
fn g3_auto_passthrough_leads_to_every_service_of_the_mesh_untouched() {
    let mesh = "---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.9.0.1, ports: [{port: 80, name: http}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: web}
subsets: [{addresses: [{ip: 10.0.0.1}], ports: [{name: http, port: 8080}]}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web}
spec: {host: web, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}, subsets: [{name: v1}]}
";
    let text = |hosts: &str| {
        let port = "port: {number: 15443, name: tls, protocol: TLS}";
        gateway("edge", &server(port, hosts, "mode: AUTO_PASSTHROUGH"))
    };
    let lab = |hosts: &str| lab(&[mesh, BANK, &text(hosts)]).facts(|facts| facts.identity = None);
    let (one, two) = (
        "outbound_.80_._.web.default.svc.cluster.local",
        "outbound_.80_.v1_.web.default.svc.cluster.local",
    );
    assert_eq!(
        entrances(&lab("'*.local'")),
        [
            format!("gateway|15443|default/edge|tls [{one} {two}] pass through, mesh true"),
            format!("  {one} > {one}"),
            format!("  {two} > {two}"),
        ]
    );
    let (config, _) = lab("'*.local'").config();
    let upstream = config
        .upstreams
        .iter()
        .find(|one| &*one.name == two)
        .unwrap();
    assert_eq!(
        (&upstream.tls, &upstream.broken),
        (&TlsPolicy::Disable, &None)
    );
    assert_eq!(
        entrances(&lab("'*.far'")),
        ["gateway|15443|default/edge|tls [*.far] pass through, mesh true"]
    );
}
