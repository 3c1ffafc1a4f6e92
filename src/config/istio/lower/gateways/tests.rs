//! From Gateway documents to listeners and entrances, rule by rule.

use super::super::testing::Lab;
use crate::model::*;

/// A service outside, in clear text on port 80.
const BANK: &str = "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bank}
spec:
  hosts: [bank.example, shop.example]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}]
  resolution: DNS
";

fn gateway(name: &str, servers: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\n\
         spec:\n  selector: {{istio: edge}}\n  servers:\n{servers}"
    )
}

fn vs(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\n\
         spec: {{{spec}}}\n"
    )
}

/// An `http` rule for everything to `host`, port 80.
fn to(host: &str) -> String {
    format!("http: [{{route: [{{destination: {{host: {host}, port: {{number: 80}}}}}}]}}]")
}

const HTTP: &str = "port: {number: 80, name: http, protocol: HTTP}";
const HTTPS: &str = "port: {number: 443, name: https, protocol: HTTPS}";

fn server(port: &str, hosts: &str, tls: &str) -> String {
    let tls = match tls {
        "" => String::new(),
        tls => format!(", tls: {{{tls}}}"),
    };
    format!("  - {{{port}, hosts: [{hosts}]{tls}}}\n")
}

/// A gateway with the label `istio: edge` in the namespace `default`.
fn lab(texts: &[&str]) -> Lab {
    Lab::new(&texts.concat()).identity().facts(|facts| {
        facts.role = Role::Gateway;
        facts.labels.insert("istio".into(), "edge".into());
    })
}

/// Each entrance: `name [names] tls`, then a line for each of its rules and streams.
fn entrances(lab: &Lab) -> Vec<String> {
    let (config, _) = lab.config();
    config.entrances.iter().flat_map(lines).collect()
}

fn lines(entrance: &EntranceSpec) -> Vec<String> {
    let names = match &entrance.at {
        EntranceAt::Gateway(_, names) => names.iter().map(ToString::to_string).collect(),
        EntranceAt::Inbound(_) => vec!["inbound".to_owned()],
    };
    let tls = match &entrance.tls {
        DownstreamTls::Disable => "clear".to_owned(),
        DownstreamTls::Strict(spec) => format!("{:?}", spec.clients),
        DownstreamTls::Permissive(_) => "permissive".to_owned(),
        DownstreamTls::PassThrough { mesh_only } => format!("pass through, mesh {mesh_only}"),
    };
    let mut lines = vec![format!("{} [{}] {tls}", entrance.name, names.join(" "))];
    for group in &entrance.hosts {
        assert_eq!(group.port, None, "the port was decided while lowering");
        let hosts: Vec<String> = group.hosts.iter().map(ToString::to_string).collect();
        let hosts = hosts.join(",");
        lines.extend(group.rules.iter().map(|rule| {
            let matches: Vec<String> = rule.matches.iter().map(path).collect();
            format!("  {hosts} {}> {}", matches.concat(), action(&rule.action))
        }));
    }
    for stream in &entrance.streams {
        let on = match &stream.on {
            StreamMatch::Tls { names, .. } => {
                let names: Vec<String> = names.iter().map(ToString::to_string).collect();
                names.join(",")
            }
            StreamMatch::Tcp { destinations } => format!("bytes{destinations:?}"),
            StreamMatch::Sniffed { .. } => "sniffed".to_owned(),
        };
        lines.push(format!("  {on} > {}", shares(&stream.to)));
    }
    if let Some(broken) = &entrance.broken {
        lines.push(format!("  broken: {broken}"));
    }
    lines
}

fn path(on: &MatchSpec) -> String {
    match &on.path {
        Some(StringMatch::Exact(text)) => format!("={text} "),
        Some(StringMatch::Prefix(text)) => format!("{text}* "),
        Some(StringMatch::Regex(text)) => format!("~{text} "),
        None => "any ".to_owned(),
    }
}

fn action(action: &Action) -> String {
    match action {
        Action::Forward(to) => shares(to),
        Action::Redirect(to) => format!("{} {}", to.status, to.scheme.as_deref().unwrap()),
        Action::Respond(respond) => respond.status.to_string(),
    }
}

fn shares(to: &[Weighted]) -> String {
    let names: Vec<&str> = to.iter().map(|one| one.upstream.as_ref()).collect();
    names.join(" ")
}

fn listeners(lab: &Lab) -> Vec<String> {
    let (config, _) = lab.config();
    let line = |one: &ListenerSpec| match one.kind {
        ListenerKind::Gateway(port) => format!("{} {}", one.address, port.number),
        other => format!("{} {other:?}", one.address),
    };
    config.listeners.iter().map(line).collect()
}

fn said(lab: &Lab, code: &str) -> Vec<String> {
    let (_, said) = lab.config();
    let wanted = format!("[{code}]");
    said.into_iter()
        .filter(|line| line.contains(&wanted))
        .collect()
}

/// The TLS of the only entrance.
#[track_caller]
fn tls(lab: &Lab) -> ServerTlsSpec {
    let (config, said) = lab.config();
    let [entrance] = &config.entrances[..] else {
        panic!("{:?} {said:?}", config.entrances)
    };
    assert_eq!(entrance.broken, None);
    entrance.tls.spec().unwrap().clone()
}

#[test]
fn g1_a_gateway_is_for_the_proxies_that_have_all_of_its_labels_in_any_namespace() {
    let text = gateway("edge", &server(HTTP, "'*'", ""))
        .replace("{name: edge}", "{name: edge, namespace: far}");
    assert_eq!(listeners(&lab(&[&text])), ["[::]:80 80"]);
    let other = lab(&[&text]).facts(|facts| facts.labels.clear());
    assert_eq!(listeners(&other), Vec::<String>::new());
    let two = text.replace("istio: edge}", "istio: edge, app: x}");
    assert_eq!(listeners(&lab(&[&two])), Vec::<String>::new());
}

#[test]
fn x13_a_sidecar_with_the_labels_opens_it_too_but_not_one_that_selects_everybody() {
    let text = gateway("edge", &server(HTTP, "'*'", ""));
    let sidecar = |text: &str| lab(&[text]).facts(|facts| facts.role = Role::Sidecar);
    assert_eq!(listeners(&sidecar(&text)), ["[::]:80 80"]);
    let empty = text.replace("{istio: edge}", "{}");
    assert_eq!(listeners(&sidecar(&empty)), Vec::<String>::new());
    assert_eq!(listeners(&lab(&[&empty])), ["[::]:80 80"]);
}

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
fn g4_simple_asks_clients_for_nothing_and_mutual_for_a_certificate() {
    let files = "serverCertificate: /c/tls.crt, privateKey: /c/tls.key, caCertificates: /c/ca.crt";
    let of = |mode: &str| {
        let gateway = gateway(
            "edge",
            &server(HTTPS, "'*'", &format!("mode: {mode}, {files}")),
        );
        tls(&lab(&[&gateway]))
    };
    let simple = of("SIMPLE");
    assert_eq!(simple.clients, ClientCertificates::Unasked);
    assert_eq!(simple.credential.ca, CaSource::Nothing);
    let pair = IdentitySource::Files("/c/tls.crt".into(), "/c/tls.key".into());
    assert_eq!(simple.credential.identity, Some(pair));
    for (mode, clients) in [
        ("MUTUAL", ClientCertificates::Required),
        ("OPTIONAL_MUTUAL", ClientCertificates::Optional),
    ] {
        let spec = of(mode);
        assert_eq!(spec.clients, clients, "{mode}");
        assert_eq!(
            spec.credential.ca,
            CaSource::File("/c/ca.crt".into()),
            "{mode}"
        );
        assert_eq!(
            spec.trust_domains,
            Vec::<std::sync::Arc<str>>::new(),
            "{mode}"
        );
    }
}

#[test]
fn g4_istio_mutual_is_the_mesh_identity_and_the_trust_domains() {
    let mesh = "---
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
metadata: {name: mesh}
spec: {meshConfig: {trustDomain: corp.example, trustDomainAliases: [old@corp]}}
";
    let text = "mode: ISTIO_MUTUAL, caCrl: /id/crl.pem";
    let gateway = gateway("edge", &server(HTTPS, "'*'", text));
    let spec = tls(&lab(&[mesh, &gateway]));
    let crl = CrlSource::File("/id/crl.pem".into());
    assert_eq!(spec.credential.crl, Some(crl), "G6");
    let pair = IdentitySource::Files("/id/cert.pem".into(), "/id/key.pem".into());
    assert_eq!(spec.credential.identity, Some(pair));
    assert_eq!(spec.credential.ca, CaSource::File("/id/root.pem".into()));
    assert_eq!(spec.clients, ClientCertificates::Required);
    let domains: Vec<&str> = spec.trust_domains.iter().map(AsRef::as_ref).collect();
    assert_eq!(domains, ["corp.example", "old.corp"]);
}

#[test]
fn t16_istio_mutual_without_an_identity_lets_nobody_in_and_says_why() {
    let gateway = gateway("edge", &server(HTTPS, "'*'", "mode: ISTIO_MUTUAL"));
    let lab = lab(&[&gateway]).facts(|facts| facts.identity = None);
    let lines = entrances(&lab);
    assert_eq!(
        lines[0],
        "gateway|443|default/edge|https [*] pass through, mesh false"
    );
    assert!(
        lines[1].starts_with("  broken: t.yaml:8: Gateway default/edge: a mesh identity is needed"),
        "{lines:?}"
    );
    assert_eq!(said(&lab, "SRT0512").len(), 1);
}

#[test]
fn g7_versions_and_pins_are_those_of_the_document() {
    let pin = "00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF";
    let spki = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let text = format!(
        "mode: MUTUAL, credentialName: a, minProtocolVersion: TLSV1_3, subjectAltNames: [a.example], \
         verifyCertificateHash: ['{pin}', {}], verifyCertificateSpki: [{spki}]",
        "'".to_owned() + &pin.replace(':', "") + "'"
    );
    let spec = tls(&lab(&[&gateway("edge", &server(HTTPS, "'*'", &text))]));
    assert_eq!(
        (spec.min_version, spec.max_version),
        (TlsVersion::Tls13, TlsVersion::Tls13)
    );
    assert_eq!(spec.subject_alt_names, ["a.example"]);
    assert_eq!(spec.hash_pins.len(), 2);
    assert_eq!(spec.hash_pins[0], spec.hash_pins[1]);
    assert_eq!(spec.hash_pins[0][..3], [0x00, 0x11, 0x22]);
    assert_eq!(
        spec.spki_pins,
        [std::array::from_fn(|n| u8::try_from(n).unwrap())]
    );
}

#[test]
fn g5_several_certificates_are_the_first_one_and_more() {
    let names = "mode: MUTUAL, credentialNames: [rsa, ecdsa]";
    let spec = tls(&lab(&[&gateway("edge", &server(HTTPS, "'*'", names))]));
    let Some(IdentitySource::Secret(first)) = &spec.credential.identity else {
        panic!("{spec:?}")
    };
    assert_eq!(&*first.resource, "kubernetes://rsa");
    assert!(matches!(&spec.credential.ca, CaSource::Secret(ca) if &*ca.name == "rsa"));
    let [second] = &spec.more[..] else {
        panic!("{spec:?}")
    };
    assert!(matches!(&second.identity, Some(IdentitySource::Secret(one)) if &*one.name == "ecdsa"));
    assert_eq!((&second.ca, &second.crl), (&CaSource::Nothing, &None));
    let files = "mode: SIMPLE, tlsCertificates: [{serverCertificate: /a, privateKey: /b}, \
                 {serverCertificate: /c, privateKey: /d}]";
    let spec = tls(&lab(&[&gateway("edge", &server(HTTPS, "'*'", files))]));
    let pair = |a: &str, b: &str| Some(IdentitySource::Files(a.into(), b.into()));
    assert_eq!(spec.credential.identity, pair("/a", "/b"));
    assert_eq!(spec.more[0].identity, pair("/c", "/d"));
}

const SECRETS: &str = "---
apiVersion: v1
kind: Secret
metadata: {name: pair}
stringData: {tls.crt: c, tls.key: k}
---
apiVersion: v1
kind: Secret
metadata: {name: clients}
stringData: {cacert: a}
---
apiVersion: v1
kind: Secret
metadata: {name: far, namespace: far}
stringData: {tls.crt: c, tls.key: k}
";

#[test]
fn s2_a_servers_secret_is_in_the_proxies_namespace_and_no_other() {
    let gateway = |name: &str| {
        let tls = format!("mode: SIMPLE, credentialName: '{name}'");
        gateway("edge", &server(HTTPS, "'*'", &tls))
    };
    for name in [
        "pair",
        "kubernetes://pair",
        "kubernetes-gateway://default/pair",
    ] {
        let lab = lab(&[SECRETS, &gateway(name)]);
        let spec = tls(&lab);
        let Some(IdentitySource::Secret(secret)) = spec.credential.identity else {
            panic!("{name}")
        };
        assert!(secret.document.is_some(), "{name}");
        assert_eq!(said(&lab, "IST0101"), Vec::<String>::new(), "{name}");
    }
    let lab = lab(&[SECRETS, &gateway("kubernetes-gateway://far/far")]);
    let lines = entrances(&lab);
    assert!(
        lines[1].contains("broken: ") && lines[1].contains("is in namespace \"far\""),
        "{lines:?}"
    );
}

#[test]
fn s4_the_ca_of_clients_may_have_a_name_of_its_own() {
    let text = "mode: MUTUAL, credentialName: pair, caCertCredentialName: clients";
    let lab = lab(&[SECRETS, &gateway("edge", &server(HTTPS, "'*'", text))]);
    let spec = tls(&lab);
    assert!(matches!(&spec.credential.ca, CaSource::Secret(ca) if &*ca.name == "clients"));
    assert!(matches!(&spec.credential.crl, Some(CrlSource::Secret(ca)) if &*ca.name == "clients"));
    assert_eq!(said(&lab, "IST0161"), Vec::<String>::new());
}

#[test]
fn ist0101_ist0161_a_secret_that_is_missing_or_lacks_a_key_is_told() {
    let of = |tls: &str| lab(&[SECRETS, &gateway("edge", &server(HTTPS, "'*'", tls))]);
    let missing = of("mode: SIMPLE, credentialName: nowhere");
    assert_eq!(said(&missing, "IST0101").len(), 1);
    let mounted = of("mode: SIMPLE, credentialName: nowhere")
        .facts(|facts| facts.credentials = [std::path::PathBuf::from("/secrets")].into());
    assert_eq!(said(&mounted, "IST0101"), Vec::<String>::new());
    let no_ca = said(&of("mode: MUTUAL, credentialName: pair"), "IST0161");
    assert!(
        no_ca[0].contains("default/pair has neither cacert nor ca.crt"),
        "{no_ca:?}"
    );
    let no_pair = said(&of("mode: SIMPLE, credentialName: clients"), "IST0161");
    assert!(
        no_pair[0].contains("default/clients has neither cert and key nor tls.crt"),
        "{no_pair:?}"
    );
    assert_eq!(
        said(&of("mode: SIMPLE, credentialName: pair"), "IST0161"),
        Vec::<String>::new()
    );
}

#[test]
fn g8_a_host_that_has_a_certificate_on_the_port_already_keeps_it_and_the_later_server_goes() {
    let tls = |name: &str| format!("mode: SIMPLE, credentialName: {name}");
    let one = gateway("one", &server(HTTPS, "a.example, b.example", &tls("a")));
    let two = gateway("two", &server(HTTPS, "b.example", &tls("b")));
    let lab = lab(&[&one, &two]);
    assert_eq!(
        entrances(&lab),
        ["gateway|443|default/one|https [a.example b.example] Unasked"]
    );
    assert_eq!(
        said(&lab, "IST0145"),
        [
            "t.yaml:16: error[IST0145] Gateway default/two: the server \"https\" on port 443 serves \
             the host b.example, which has its certificate there: Gateway default/one at t.yaml:8 \
             came first, and this server is not served ([::]:443); give it another port, bind or \
             hosts, or put both into one server"
        ]
    );
    let apart = two.replace("hosts:", "bind: 10.0.0.1, hosts:");
    let lab = super::tests::lab(&[&one, &apart]);
    assert_eq!(listeners(&lab), ["[::]:443 443", "10.0.0.1:443 443"]);
    assert_eq!(said(&lab, "IST0145"), Vec::<String>::new());
}

#[test]
fn ist0145_protocols_that_contradict_each_other_on_a_port_are_not_mixed() {
    let tls = server(
        "port: {number: 80, name: x, protocol: HTTPS}",
        "'*'",
        "mode: ISTIO_MUTUAL",
    );
    let bytes = server("port: {number: 80, name: y, protocol: TCP}", "'*'", "");
    let first = gateway("one", &server(HTTP, "'*'", ""));
    let lab = lab(&[&first, &gateway("two", &(tls + &bytes))]);
    assert_eq!(entrances(&lab), ["gateway|80|http [] clear"]);
    let said = said(&lab, "IST0145");
    assert_eq!(said.len(), 2);
    assert!(
        said[0].contains("is TLS, and HTTP in the clear there"),
        "{said:?}"
    );
}

#[test]
fn ist0145_two_numbers_are_not_bound_to_one_port() {
    let two = server(
        "port: {number: 8443, name: x, protocol: HTTPS}",
        "'*'",
        "mode: ISTIO_MUTUAL",
    );
    let text = gateway("one", &(server(HTTPS, "'*'", "mode: ISTIO_MUTUAL") + &two));
    let lab = lab(&[&text]).options(|options| {
        options.gateway_ports.insert(443, 8443);
    });
    assert_eq!(listeners(&lab), ["[::]:8443 443"]);
    assert_eq!(said(&lab, "IST0145").len(), 1);
}

#[test]
fn g11_the_service_of_the_gateway_says_where_a_port_is_bound() {
    let service = "---
apiVersion: v1
kind: Service
metadata: {name: edge}
spec:
  selector: {istio: edge}
  ports: [{port: 443, name: https, targetPort: 8443}, {port: 80, name: http, targetPort: web}]
---
apiVersion: v1
kind: Pod
metadata: {name: edge, labels: {istio: edge}}
spec: {containers: [{name: a, ports: [{name: web, containerPort: 8080}]}]}
";
    let more = server("port: {number: 9000, name: x, protocol: HTTP}", "'*'", "");
    let servers = server(HTTPS, "'*'", "mode: ISTIO_MUTUAL") + &server(HTTP, "'*'", "") + &more;
    let lab = lab(&[service, &gateway("edge", &servers)]);
    assert_eq!(
        listeners(&lab),
        ["[::]:8080 80", "[::]:8443 443", "[::]:9000 9000"]
    );
    let said = said(&lab, "IST0162");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("port 9000 is none of the ports of the gateway's Service default/edge")
    );
    let everywhere = server(HTTP, "'*'", "").replace("hosts:", "bind: 0.0.0.0, hosts:");
    let lab_of = |text: &str| super::tests::lab(&[text]);
    assert_eq!(
        listeners(&lab_of(&gateway("edge", &everywhere))),
        ["[::]:80 80"]
    );
    let bound = lab.options(|options| options.gateway_bind = Some([127, 0, 0, 2].into()));
    assert_eq!(listeners(&bound)[0], "127.0.0.2:8080 80");
}

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

#[test]
fn p16_g10_the_mesh_configuration_says_what_becomes_of_headers() {
    let mesh = |config: &str| {
        format!(
            "---\napiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {{name: mesh}}\n\
             spec: {{meshConfig: {{defaultConfig: {{{config}}}}}}}\n"
        )
    };
    let headers = |config: &str| {
        let lab = lab(&[&mesh(config), &gateway("edge", &server(HTTP, "'*'", ""))]);
        let (config, said) = lab.config();
        assert_eq!(said, Vec::<String>::new());
        config.entrances[0].headers.clone()
    };
    assert_eq!(headers("concurrency: 2"), EntranceHeaders::gateway());
    let topology =
        "gatewayTopology: {numTrustedProxies: 2, forwardClientCertDetails: APPEND_FORWARD}";
    assert_eq!(
        headers(topology),
        EntranceHeaders {
            trusted_hops: 2,
            client_cert: ForwardClientCert::AppendForward,
            ..EntranceHeaders::gateway()
        }
    );
    let own = "proxyHeaders: {forwardedClientCert: SANITIZE, setCurrentClientCertDetails: {chain: \
               true, dns: false}, requestId: {disabled: true}, server: {value: edge}}";
    assert_eq!(
        headers(&format!("{topology}, {own}")),
        EntranceHeaders {
            trusted_hops: 2,
            client_cert: ForwardClientCert::AppendForward,
            request_id: false,
            server: Some("edge".into()),
            ..EntranceHeaders::gateway()
        }
    );
    let (registry, _) = Lab::new(&mesh(&format!("{topology}, {own}"))).registry();
    assert_eq!(
        registry.scope.mesh.headers.inbound(),
        EntranceHeaders {
            client_cert: ForwardClientCert::Sanitize,
            details: ClientCertDetails {
                subject: true,
                chain: true,
                uri: true,
                ..ClientCertDetails::default()
            },
            request_id: false,
            server: Some("edge".into()),
            ..EntranceHeaders::inbound()
        }
    );
}

#[test]
fn x13_a_gateway_that_no_document_selects_is_told_which_labels_they_want() {
    let text = gateway("edge", &server(HTTP, "'*'", ""));
    let words = |lab: Lab| lab.config().0.no_gateway;
    let other = lab(&[&text]).facts(|facts| {
        facts.labels.clear();
        facts.labels.insert("app".into(), "x".into());
    });
    assert_eq!(
        words(other).as_deref(),
        Some(
            "no Gateway selects this proxy by its labels (app=x): Gateway default/edge at t.yaml:2 \
             wants istio=edge; give --labels, or the Gateway's document"
        )
    );
    assert_eq!(words(lab(&[&text])), None);
    let sidecar = lab(&[]).facts(|facts| facts.role = Role::Sidecar);
    assert_eq!(words(sidecar), None);
}

#[test]
fn x10_suites_that_the_library_lacks_are_told_and_none_left_is_refused() {
    let text = |suites: &str| {
        let tls = format!("mode: SIMPLE, credentialName: pair, cipherSuites: [{suites}]");
        gateway("edge", &server(HTTPS, "'*'", &tls))
    };
    let some = lab(&[&text("ECDHE-RSA-AES128-GCM-SHA256, AES128-SHA")]);
    let suites = tls(&some).cipher_suites;
    assert_eq!(suites, ["ECDHE-RSA-AES128-GCM-SHA256".into()]);
    let said = said(&some, "IST0133");
    assert!(
        said[0].contains("the TLS library does not have \"AES128-SHA\": not spoken"),
        "{said:?}"
    );
    let none = lab(&[&text("AES128-SHA")]);
    let lines = entrances(&none);
    assert!(
        lines[1].contains("Gateway default/edge was refused: "),
        "{lines:?}"
    );
    assert!(lines[1].contains("no suite is left"), "{lines:?}");
}

#[test]
fn ist0138_one_certificate_for_servers_of_different_hosts_is_told_and_two_are_not() {
    let of = |name: &str, host: &str, credential: &str| {
        let tls = format!("mode: SIMPLE, credentialName: {credential}");
        gateway(name, &server(HTTPS, host, &tls))
    };
    let one = of("one", "a.example", "same");
    let shared = said(&lab(&[&one, &of("two", "b.example", "same")]), "IST0138");
    assert_eq!(shared.len(), 1);
    assert!(
        shared[0].contains("the certificate same is also shown by Gateway default/one"),
        "{shared:?}"
    );
    let apart = said(&lab(&[&one, &of("two", "b.example", "other")]), "IST0138");
    assert_eq!(apart, Vec::<String>::new());
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
