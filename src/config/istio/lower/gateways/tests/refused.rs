//! What a refused document closes, and what it spares (ISTIO.md X1).

use super::*;

#[test]
fn x1_a_refused_gateway_lets_nobody_in_where_it_would_have_been() {
    let good = gateway("good", &server(HTTP, "'*'", ""));
    let bad = gateway(
        "bad",
        &(server(HTTP, "bank.example", "")
            + &server(HTTPS, "bank.example", "mode: SIMPLE")
            + "  - {port: {number: 81, name: x, protocol: FTP}, hosts: [a]}\n"),
    );
    let rules = vs(
        "a",
        &format!(
            "hosts: ['*.example'], gateways: [good], {}",
            to("shop.example")
        ),
    );
    let lab = lab(&[BANK, &good, &bad, &rules]);
    let lines = entrances(&lab);
    assert_eq!(
        lines[..4],
        [
            "gateway|80|http [] clear",
            "  *.example > outbound|80||shop.example",
            "  bank.example > refused|Gateway default/bad",
            "gateway|443|default/bad|https [bank.example] pass through, mesh false",
        ]
    );
    assert!(
        lines[4].contains("Gateway default/bad was refused: "),
        "{lines:?}"
    );
    assert_eq!(listeners(&lab), ["[::]:80 80", "[::]:443 443"]);
    let (config, _) = lab.config();
    let broken = config
        .upstreams
        .iter()
        .find(|one| &*one.name == "refused|Gateway default/bad");
    assert_eq!(
        broken.unwrap().broken.as_ref().unwrap().kind,
        BrokenKind::Unhealthy
    );
    assert_eq!(config.refused.len(), 1);
}

#[test]
fn x1_a_refused_virtual_service_fails_its_hosts_on_its_gateways_and_no_other() {
    let edge = gateway("edge", &server(HTTP, "'*'", ""));
    let wide = vs(
        "a",
        &format!(
            "hosts: ['*.example'], gateways: [edge], {}",
            to("shop.example")
        ),
    );
    let bad = vs(
        "b",
        "hosts: [bank.example], gateways: [edge], http: [{rout: []}]",
    );
    let lines = entrances(&lab(&[BANK, &edge, &wide, &bad]));
    assert_eq!(
        lines,
        [
            "gateway|80|http [] clear",
            "  *.example > outbound|80||shop.example",
            "  bank.example > refused|VirtualService default/b",
        ]
    );
    let elsewhere = bad.replace("[edge]", "[other]");
    let far = bad
        .replace("{name: b}", "{name: b, namespace: far}")
        .replace("[edge]", "[default/edge]");
    let own = edge.replace("'*'", "./*");
    assert_eq!(entrances(&lab(&[BANK, &own, &wide, &far])).len(), 2, "G2");
    assert_eq!(entrances(&lab(&[BANK, &edge, &wide, &elsewhere])).len(), 2);
}

#[test]
fn x1_a_refused_virtual_service_whose_hosts_cannot_be_told_closes_its_gateways() {
    let edge = gateway("edge", &server(HTTPS, "'*'", "mode: ISTIO_MUTUAL"));
    let bad = vs("b", "hosts: ['a b'], gateways: [edge], http: [{rout: []}]");
    let lines = entrances(&lab(&[&edge, &bad]));
    assert!(
        lines[1].contains("broken: t.yaml:") && lines[1].contains("VirtualService default/b"),
        "{lines:?}"
    );
}

#[test]
fn x1_what_only_a_refused_gateway_or_route_could_serve_in_clear_text_fails_by_every_name() {
    let good = gateway("good", &server(HTTP, "a.test", ""));
    let bad = gateway("bad", &server(HTTP, "'*.example'", ""))
        .replace("servers:", "serwers: 1\n  servers:");
    let on = |name: &str, gateway: &str, host: &str| {
        vs(
            name,
            &format!(
                "hosts: [{host}], gateways: [{gateway}], {}",
                to("shop.example")
            ),
        )
    };
    let lines = entrances(&lab(&[
        BANK,
        &good,
        &bad,
        &on("a", "bad", "bank.example"),
        &on("b", "good", "a.test"),
    ]));
    assert_eq!(
        lines,
        [
            "gateway|80|http [] clear",
            "  a.test > outbound|80||shop.example",
            "  *.example,bank.example > refused|Gateway default/bad",
        ]
    );
    let edge = gateway("edge", &server(HTTP, "'*'", ""));
    let unreadable = vs("b", "hosts: ['a b'], gateways: [edge], http: [{rout: []}]");
    let lines = entrances(&lab(&[
        BANK,
        &edge,
        &on("a", "edge", "bank.example"),
        &unreadable,
    ]));
    assert_eq!(
        lines[1],
        "  *,bank.example > refused|VirtualService default/b"
    );
    assert_eq!(lines.len(), 2);
}
