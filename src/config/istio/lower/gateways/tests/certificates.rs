//! What a server demands and shows.

use super::*;

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
    let lab = super::lab(&[&one, &apart]);
    assert_eq!(listeners(&lab), ["[::]:443 443", "10.0.0.1:443 443"]);
    assert_eq!(said(&lab, "IST0145"), Vec::<String>::new());
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
