//! Mutual TLS as the peers see it: nginx, which demands a certificate, and our own recording server.

use crate::harness::{Authority, Lab, Nginx, Origin, Process, Sortie, curl, eventually, get};

/// curl as the application: plain HTTP to `http://bank.example/`, which is sortie.
fn application(sortie: &Sortie, path: &str) -> String {
    let to = format!("bank.example:80:{}", sortie.address());
    curl(
        0,
        &[
            "--include",
            "--connect-to",
            &to,
            &format!("http://bank.example{path}"),
        ],
    )
}

#[test]
fn nginx_sees_our_certificate_and_the_name_of_the_host() {
    let lab = Lab::new();
    let server = lab.servers.server(&["bank.example"]);
    for protocol in ["TLSv1.2", "TLSv1.3"] {
        let Some(nginx) = Nginx::start(&server, &lab.clients, protocol) else {
            return;
        };
        let sortie = lab.sortie(nginx.port());
        let said = application(&sortie, "/");
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
        for header in [
            "x-verify: SUCCESS",
            "x-dn: CN=shop",
            "x-sni: bank.example",
            &format!("x-protocol: {protocol}"),
            "hello from nginx",
        ] {
            assert!(said.contains(header), "{header} is missing: {said}");
        }
    }
}

#[test]
fn nginx_refuses_us_where_the_configuration_names_no_certificate() {
    let lab = Lab::new();
    let server = lab.servers.server(&["bank.example"]);
    let Some(nginx) = Nginx::start(&server, &lab.clients, "TLSv1.3") else {
        return;
    };
    let simple = lab.config(nginx.port()).replace(
        &lab.mutual(),
        &format!("{{mode: simple, ca: {}/ca.crt}}", lab.path().display()),
    );
    let sortie = Sortie::start(&simple);
    // nginx finishes the handshake and says so in HTTP, hence 400 and not 503.
    let said = application(&sortie, "/");
    assert!(said.starts_with("HTTP/1.1 400"), "{said}");
    assert!(
        said.contains("No required SSL certificate was sent"),
        "{said}"
    );
}

#[test]
fn a_server_of_another_ca_is_refused_and_sees_no_request() {
    let lab = Lab::new();
    let impostor = Authority::new("impostor CA").server(&["bank.example"]);
    let Some(nginx) = Nginx::start(&impostor, &lab.clients, "TLSv1.2 TLSv1.3") else {
        return;
    };
    let sortie = lab.sortie(nginx.port());
    let said = application(&sortie, "/secret");
    assert!(said.starts_with("HTTP/1.1 503"), "{said}");
    let ca = lab.path().join("ca.crt").display().to_string();
    assert!(
        said.contains("upstream connect error or disconnect/reset before headers"),
        "{said}"
    );
    assert!(
        said.contains(&ca),
        "the body does not name the CA file {ca}: {said}"
    );
    sortie.logged(&[" 503 UF ", "/secret"]);
    assert!(
        !nginx.log().iter().any(|line| line.contains("/secret")),
        "{:?}",
        nginx.log()
    );
}

#[test]
fn a_server_of_another_name_is_refused_and_sees_no_request() {
    let lab = Lab::new();
    let other = lab.servers.server(&["other.example"]);
    let Some(nginx) = Nginx::start(&other, &lab.clients, "TLSv1.3") else {
        return;
    };
    let sortie = lab.sortie(nginx.port());
    let said = application(&sortie, "/secret");
    assert!(said.starts_with("HTTP/1.1 503"), "{said}");
    assert!(
        said.contains("bank.example"),
        "what was expected is missing: {said}"
    );
    assert!(
        said.contains("other.example"),
        "what came is missing: {said}"
    );
    sortie.logged(&[" 503 UF ", "/secret"]);
    assert!(
        !nginx.log().iter().any(|line| line.contains("/secret")),
        "{:?}",
        nginx.log()
    );
}

#[test]
fn t8_a_wildcard_certificate_fits_one_label_and_not_two() {
    let lab = Lab::new();
    let wide = lab.servers.server(&["*.bank.example"]);
    let bank = lab.bank().identity(&wide).start();
    let config = lab.config(bank.port());
    let asking = |host: &str| {
        let config = config.replace("host: bank.example", &format!("host: {host}"));
        Sortie::start(&config).get(host, "/")
    };
    asking("eu.bank.example").expect(200);
    for host in ["bank.example", "a.eu.bank.example"] {
        asking(host).expect(503).says(&[host, "*.bank.example"]);
    }
}

#[test]
fn an_expired_server_certificate_is_refused_and_called_expired() {
    let lab = Lab::new();
    let old = lab.servers.expired("bank.example", &["bank.example"]);
    let bank = lab.bank().identity(&old).start();
    let sortie = lab.sortie(bank.port());
    sortie
        .get("bank.example", "/")
        .expect(503)
        .says(&["expired"]);
    assert_eq!(bank.asked().len(), 0);
}

#[test]
fn a_server_that_refuses_our_certificate_is_named_as_that_under_tls_1_2() {
    let lab = Lab::new();
    let strangers = Authority::new("an authority that never heard of us");
    let bank = lab.bank().demands(&strangers).tls12().start();
    let sortie = lab.sortie(bank.port());
    sortie
        .get("bank.example", "/")
        .expect(503)
        .says(&["refused our client certificate"]);
    sortie.logged(&[" 503 UF "]);
    assert_eq!(bank.asked().len(), 0);
}

#[test]
fn a_server_that_refuses_our_certificate_is_named_as_that_under_tls_1_3() {
    // There our handshake finishes first, and the refusal comes with the first read (section 5.6).
    let lab = Lab::new();
    let strangers = Authority::new("an authority that never heard of us");
    let bank = lab.bank().demands(&strangers).tls13().start();
    let sortie = lab.sortie(bank.port());
    for _ in 0..5 {
        sortie
            .get("bank.example", "/")
            .expect(503)
            .says(&["refused our client certificate"]);
    }
    sortie.logged(&[" 503 UC"]);
    assert_eq!(bank.asked().len(), 0);
}

#[test]
fn a_server_that_misses_our_certificate_under_tls_1_3_is_named_as_that() {
    let lab = Lab::new();
    let bank = lab.bank().tls13().start();
    let simple = format!("{{mode: simple, ca: {}/ca.crt}}", lab.path().display());
    let sortie = Sortie::start(&lab.config(bank.port()).replace(&lab.mutual(), &simple));
    sortie
        .get("bank.example", "/")
        .expect(503)
        .says(&["client certificate"]);
}

#[test]
fn a_chain_is_sent_whole_and_a_chain_of_the_server_is_followed() {
    let lab = Lab::new();
    let identity = lab
        .clients
        .intermediate("client intermediate")
        .client("branch");
    identity.write(lab.path(), "client");
    let server = lab
        .servers
        .intermediate("server intermediate")
        .server(&["bank.example"]);
    let bank = lab.bank().identity(&server).start();
    let sortie = lab.sortie(bank.port());
    sortie.get("bank.example", "/").expect(200);
    let seen = bank.only();
    assert_eq!((seen.client.as_deref(), seen.chain), (Some("CN=branch"), 2));
}

#[test]
fn t10_an_intermediate_alone_is_anchor_enough() {
    let lab = Lab::new();
    let middle = lab.servers.intermediate("server intermediate");
    std::fs::write(lab.path().join("ca.crt"), &middle.pem).unwrap();
    let bank = lab
        .bank()
        .identity(&middle.server(&["bank.example"]))
        .start();
    lab.sortie(bank.port()).get("bank.example", "/").expect(200);
}

#[test]
fn t7_named_alternatives_replace_the_host_as_the_expected_name() {
    let lab = Lab::new();
    let id = "spiffe://bank/ns/pay/sa/api";
    let bank = lab.bank().identity(&lab.servers.server(&[id])).start();
    let config = lab.config(bank.port());
    let expecting = |name: &str| {
        let tls = lab
            .mutual()
            .replace('}', &format!(", subjectAltNames: [\"{name}\"]}}"));
        Sortie::start(&config.replace(&lab.mutual(), &tls))
    };
    expecting(id).get("bank.example", "/").expect(200);
    let other = expecting("spiffe://bank/ns/pay/sa/other");
    other
        .get("bank.example", "/")
        .expect(503)
        .says(&["spiffe://bank/ns/pay/sa/other", id]);
    assert_eq!(bank.asked().len(), 1);
}

#[test]
fn a_revoked_server_certificate_is_refused_and_another_is_not() {
    let lab = Lab::new();
    let revoked = lab.servers.server(&["bank.example"]);
    std::fs::write(lab.path().join("crl.pem"), lab.servers.crl(&[&revoked])).unwrap();
    let crl = format!(", crl: {}/crl.pem}}", lab.path().display());
    let tls = lab.mutual().replace('}', &crl);
    let good = lab.bank().start();
    let bad = lab.bank().identity(&revoked).start();
    let config = |port| lab.config(port).replace(&lab.mutual(), &tls);
    Sortie::start(&config(good.port()))
        .get("bank.example", "/")
        .expect(200);
    Sortie::start(&config(bad.port()))
        .get("bank.example", "/")
        .expect(503)
        .says(&["revoked"]);
}

#[test]
fn t17_missing_key_material_fails_its_own_upstream_alone_and_names_the_file() {
    let lab = Lab::new();
    let (bank, other) = (lab.bank().start(), Origin::plain().named("other").start());
    let config = format!(
        "{}  - host: other.example\n    upstream: other\n",
        lab.config(bank.port()).replace(
            "routes:",
            &format!(
                "  - {{name: other, endpoints: [\"{}\"], tls: {{mode: disable}}}}\nroutes:",
                other.address
            )
        )
    );
    let key = lab.path().join("client.key");
    let kept = std::fs::read(&key).unwrap();
    let foreign = lab.clients.client("somebody else").key;
    let locked =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let broken: [(&str, Option<&str>); 4] = [
        ("missing", None),
        ("garbage", Some("this is no key")),
        ("another's", Some(&foreign)),
        ("encrypted", Some(locked)),
    ];
    for (what, content) in broken {
        match content {
            None => std::fs::remove_file(&key).unwrap(),
            Some(content) => std::fs::write(&key, content).unwrap(),
        }
        let sortie = Sortie::start(&config);
        let answer = sortie.get("bank.example", "/").expect(503);
        answer.says(&["no healthy upstream", &key.display().to_string()]);
        sortie.logged(&[" 503 UH "]);
        sortie.get("other.example", "/").expect(200);
        assert_eq!(
            bank.seen().len(),
            0,
            "{what}: nothing may be sent, least of all in plaintext"
        );
    }
    // It recovers by itself once the key is there.
    let sortie = Sortie::start(&config.replace("upstreams:", "rotation: {poll: 1s}\nupstreams:"));
    std::fs::write(&key, kept).unwrap();
    eventually("the upstream works once its key is there", || {
        (sortie.get("bank.example", "/").status == 200).then_some(())
    });
}

#[test]
fn r17_an_expired_certificate_of_ours_is_not_offered_and_the_reason_is_told() {
    let lab = Lab::new();
    lab.clients.expired("shop", &[]).write(lab.path(), "client");
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    sortie
        .get("bank.example", "/")
        .expect(503)
        .says(&["expired", "client.crt"]);
    assert_eq!(bank.asked().len(), 0);
}

#[test]
fn nothing_that_asked_for_tls_ever_goes_out_in_plaintext() {
    let lab = Lab::new();
    let plain = Origin::plain().start();
    let sortie = lab.sortie(plain.port());
    sortie.get("bank.example", "/").expect(503);
    assert_eq!(plain.asked().len(), 0);
}

#[test]
fn the_post_quantum_hybrid_is_offered() {
    const X25519MLKEM768: u16 = 0x11ec;
    let lab = Lab::new();
    let bank = lab.bank().start();
    lab.sortie(bank.port()).get("bank.example", "/").expect(200);
    let groups = bank.only().groups;
    assert!(groups.contains(&X25519MLKEM768), "{groups:04x?}");
}

#[test]
fn a_second_connection_resumes_the_session_of_the_first() {
    let lab = Lab::new();
    let bank = lab.bank().closes_after(1).start();
    let sortie = Sortie::builder(&lab.config(bank.port()))
        .with(|o| o.workers = Some(1))
        .start();
    for _ in 0..3 {
        sortie.get("bank.example", "/").expect(200);
        eventually("the bank has closed", || (bank.open() == 0).then_some(()));
    }
    let resumed: Vec<bool> = bank.seen().iter().map(|seen| seen.resumed).collect();
    assert_eq!(resumed, [false, true, true]);
}

#[test]
fn t9_without_a_named_ca_the_roots_of_the_system_decide() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let at = lab.path().display();
    let tls = format!("{{mode: mutual, certificate: {at}/client.crt, key: {at}/client.key}}");
    let config = lab.config(bank.port()).replace(&lab.mutual(), &tls);
    Sortie::start(&config).get("bank.example", "/").expect(503);
    assert_eq!(bank.asked().len(), 0);
    // The same, where the system's store is our CA.
    let file = lab.path().join("sortie.yaml");
    std::fs::write(&file, config).unwrap();
    let process = Process::run(&file, &format!("export SSL_CERT_FILE={at}/ca.crt"), &[]);
    get(process.address, "bank.example", "/").expect(200);
}

#[test]
fn t7_checks_are_off_only_where_the_configuration_says_so_in_so_many_words() {
    let lab = Lab::new();
    let other = lab.servers.server(&["other.example"]);
    let stranger = Authority::new("a stranger's CA").server(&["bank.example"]);
    let misnamed = lab.bank().identity(&other).start();
    let unknown = lab.bank().identity(&stranger).start();
    let status = |port, more: &str| {
        let tls = lab.mutual().replace('}', &format!("{more}}}"));
        let config = lab.config(port).replace(&lab.mutual(), &tls);
        Sortie::start(&config).get("bank.example", "/").status
    };
    for (more, wrong_name, wrong_ca) in [
        ("", 503, 503),
        (", nameCheck: enforce", 503, 503),
        (", nameCheck: warn", 200, 503),
        (", nameCheck: off", 200, 503),
    ] {
        assert_eq!(
            status(misnamed.port(), more),
            wrong_name,
            "wrong name{more}"
        );
        assert_eq!(status(unknown.port(), more), wrong_ca, "wrong CA{more}");
    }
    let at = lab.path().display();
    let blind = format!(
        "{{mode: mutual, certificate: {at}/client.crt, key: {at}/client.key, verify: insecure-skip}}"
    );
    let config = lab.config(unknown.port()).replace(&lab.mutual(), &blind);
    Sortie::start(&config).get("bank.example", "/").expect(200);
}

#[test]
fn a_server_below_the_least_version_is_refused_and_the_version_named() {
    let lab = Lab::new();
    let bank = lab.bank().tls12().start();
    let tls = lab.mutual().replace('}', ", minVersion: \"1.3\"}");
    let sortie = Sortie::start(&lab.config(bank.port()).replace(&lab.mutual(), &tls));
    sortie.get("bank.example", "/").expect(503).says(&["1.3"]);
    assert_eq!(bank.asked().len(), 0);
}
