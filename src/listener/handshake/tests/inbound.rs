//! Connections for the application: who is let in by which mode.

use super::*;

#[tokio::test]
async fn p7_a_sidecar_is_let_in_and_its_request_reaches_the_port_that_it_was_for() {
    let mesh = Mesh::new();
    let (app, there) = origin().await;
    let config = inbound(mesh.strict(), Carries::Http);
    let bench = Bench::with(&config, &mesh.credentials());
    let client = to_app(&bench, there).await;
    let mut client = mesh.sidecar(client).await;
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let seen = served(&mut client, "httpbin.foo:8000", &app).await;
    assert!(seen.contains("\r\nHost: httpbin.foo:8000\r\n"), "{seen}");
    assert_eq!(bench.context.metrics.downstream.handshakes.value(), 1);
}

#[tokio::test]
async fn p7_plaintext_at_a_port_of_tls_is_reset_and_named() {
    let mesh = Mesh::new();
    for (bytes, words) in [
        (
            &b"GET / HTTP/1.1\r\n"[..],
            "speaks plaintext HTTP to a TLS port",
        ),
        (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "speaks plaintext HTTP to a TLS port",
        ),
        (
            b"\0\x01\x02",
            "speaks no TLS to a TLS port, and no HTTP either",
        ),
    ] {
        let (app, there) = origin().await;
        let config = inbound(mesh.strict(), Carries::Either);
        let bench = Bench::with(&config, &mesh.credentials());
        let mut client = to_app(&bench, there).await;
        client.write_all(bytes).await.unwrap();
        is_reset(&mut client).await;
        untouched(&app);
        assert_eq!(bench.rejected("plaintext_on_tls"), 1);
        let line = bench.line().await;
        assert!(
            line.starts_with("\"- - -\" 0 NR filter_chain_not_found plaintext_on_tls "),
            "{line}"
        );
        assert!(line.contains(words), "{line}");
    }
}

#[tokio::test]
async fn p7_a_client_without_a_certificate_hears_an_alert_and_is_not_served() {
    let mesh = Mesh::new();
    let (app, there) = origin().await;
    let config = inbound(mesh.strict(), Carries::Http);
    let bench = Bench::with(&config, &mesh.credentials());
    let client = to_app(&bench, there).await;
    let connector = mesh.client(false, SIDECAR);
    // TLS 1.3: the client's side is done before the server has looked.
    let mut client = connector.connect(name("a.example"), client).await.unwrap();
    let error = client.read_u8().await.unwrap_err();
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
    drop(client);
    untouched(&app);
    let failures = bench.context.metrics.downstream.handshake_failures.values();
    assert_eq!(failures.iter().map(|(_, count)| count).sum::<u64>(), 1);
    let line = bench.line().await;
    assert!(
        line.starts_with("\"- - -\" 0 DPE - no_certificate "),
        "{line}"
    );
    assert!(line.ends_with(" a.example -"), "{line}");
}

#[tokio::test]
async fn p8_a_permissive_port_serves_clear_text_and_sidecars() {
    let mesh = Mesh::new();
    for carries in [Carries::Http, Carries::Either] {
        let (app, there) = origin().await;
        let config = inbound(mesh.permissive(), carries);
        let bench = Bench::with(&config, &mesh.credentials());
        let mut client = to_app(&bench, there).await;
        served(&mut client, "a", &app).await;
        let client = to_app(&bench, there).await;
        served(&mut mesh.sidecar(client).await, "a", &app).await;
        assert_eq!(bench.context.metrics.downstream.handshakes.value(), 1);
    }
}

#[tokio::test]
async fn p8_tls_of_others_is_closed_where_http_is_carried_and_p9_passed_on_elsewhere() {
    let mesh = Mesh::new();
    let hello = client_hello(Some("a.example"), &["h2", "http/1.1"]);
    for carries in [Carries::Http, Carries::Either, Carries::Opaque] {
        let (app, there) = origin().await;
        let config = inbound(mesh.permissive(), carries);
        let bench = Bench::with(&config, &mesh.credentials());
        let mut client = to_app(&bench, there).await;
        client.write_all(&hello).await.unwrap();
        if carries == Carries::Http {
            assert_eq!(rest(&mut client).await, b"");
            untouched(&app);
            assert_eq!(bench.rejected("foreign_tls"), 1);
            let line = bench.line().await;
            assert!(
                line.contains("the client's TLS is not a sidecar's"),
                "{line}"
            );
        } else {
            exactly(&mut accept(&app).await, &hello).await;
        }
    }
}

#[tokio::test]
async fn p10_tls_at_a_port_of_clear_text_is_named_and_passed_on_where_nobody_reads() {
    let hello = client_hello(Some("a.example"), &[]);
    for carries in [Carries::Http, Carries::Either, Carries::Opaque] {
        let (app, there) = origin().await;
        let config = inbound(DownstreamTls::Disable, carries);
        let bench = Bench::with(&config, &Credentials::default());
        let mut client = to_app(&bench, there).await;
        client.write_all(&hello).await.unwrap();
        if carries == Carries::Http {
            assert_eq!(rest(&mut client).await, b"");
            untouched(&app);
            assert_eq!(bench.rejected("tls_on_plaintext"), 1);
            let line = bench.line().await;
            assert!(line.contains("speaks TLS to a plaintext port"), "{line}");
        } else {
            exactly(&mut accept(&app).await, &hello).await;
        }
    }
}

#[tokio::test]
async fn p11_a_server_that_speaks_first_is_heard_where_no_byte_decides() {
    let mesh = Mesh::new();
    for secured in [false, true] {
        let (app, there) = origin().await;
        let policy = match secured {
            true => mesh.strict(),
            false => DownstreamTls::Disable,
        };
        let config = inbound(policy, Carries::Opaque);
        let bench = Bench::with(&config, &mesh.credentials());
        let mut client = to_app(&bench, there).await;
        let greeting = b"5.7.1-greeting";
        if secured {
            let mut client = mesh.sidecar(client).await;
            accept(&app).await.write_all(greeting).await.unwrap();
            exactly(&mut client, greeting).await;
        } else {
            accept(&app).await.write_all(greeting).await.unwrap();
            exactly(&mut client, greeting).await;
        }
    }
}

#[tokio::test]
async fn p7_a_sidecar_that_offers_no_http_brings_bytes_and_others_are_looked_at() {
    let mesh = Mesh::new();
    let (app, there) = origin().await;
    let config = inbound(mesh.strict(), Carries::Either);
    let bench = Bench::with(&config, &mesh.credentials());
    // No byte is waited for.
    let client = to_app(&bench, there).await;
    let connector = mesh.client(true, &["istio"]);
    let mut client = connector.connect(name("a.example"), client).await.unwrap();
    accept(&app).await.write_all(b"hello").await.unwrap();
    exactly(&mut client, b"hello").await;
    // ALPN is not required (P7): bytes tell.
    for (bytes, is_http) in [
        (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], true),
        (b"\0\x01", false),
    ] {
        let client = to_app(&bench, there).await;
        let connector = mesh.client(true, &[]);
        let mut client = connector.connect(name("a.example"), client).await.unwrap();
        client.write_all(bytes).await.unwrap();
        let mut served = accept(&app).await;
        match is_http {
            // We say how the client spoke.
            true => assert!(
                head(&mut served)
                    .await
                    .contains("\r\nx-forwarded-proto: https\r\n")
            ),
            false => exactly(&mut served, bytes).await,
        }
    }
}

#[tokio::test]
async fn x1_what_a_refused_document_governs_lets_nobody_in_and_says_why() {
    let mesh = Mesh::new();
    let (app, there) = origin().await;
    let mut config = inbound(mesh.permissive(), Carries::Http);
    config.entrances[0].broken = Some("pa.yaml:3: no such mode".into());
    let bench = Bench::with(&config, &mesh.credentials());
    let mut client = to_app(&bench, there).await;
    let answer = answered(&mut client, "a").await;
    assert!(
        answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
        "{answer}"
    );
    assert!(answer.contains("pa.yaml:3: no such mode"), "{answer}");
    let mut client = to_app(&bench, there).await;
    client
        .write_all(&client_hello(None, SIDECAR))
        .await
        .unwrap();
    assert_eq!(rest(&mut client).await, b"");
    assert_eq!(bench.rejected("entrance_broken"), 1);
    untouched(&app);
}

#[tokio::test]
async fn t17_without_a_certificate_nobody_is_let_in_and_the_reason_is_told() {
    let mesh = Mesh::new();
    let (app, there) = origin().await;
    std::fs::remove_file(mesh.folder.path().join("key.pem")).unwrap();
    let bench = Bench::with(&inbound(mesh.strict(), Carries::Http), &mesh.credentials());
    let mut client = to_app(&bench, there).await;
    client
        .write_all(&client_hello(None, SIDECAR))
        .await
        .unwrap();
    assert_eq!(rest(&mut client).await, b"");
    untouched(&app);
    let line = bench.line().await;
    assert!(
        line.contains("there is no certificate to show to clients: "),
        "{line}"
    );
    assert!(line.contains("key.pem"), "{line}");
}

#[tokio::test]
async fn tls_in_tls_is_named_where_http_is_carried_and_passed_on_elsewhere() {
    let mesh = Mesh::new();
    let hello = client_hello(Some("inner.example"), &[]);
    for carries in [Carries::Http, Carries::Opaque] {
        let (app, there) = origin().await;
        let bench = Bench::with(&inbound(mesh.strict(), carries), &mesh.credentials());
        let client = to_app(&bench, there).await;
        let mut client = mesh.sidecar(client).await;
        client.write_all(&hello).await.unwrap();
        if carries == Carries::Http {
            let _ = client.read(&mut [0; 1]).await;
            untouched(&app);
            assert_eq!(bench.rejected("tls_on_plaintext"), 1);
            drop(client);
            let line = bench.line().await;
            assert!(line.contains("speaks TLS again in the TLS"), "{line}");
        } else {
            exactly(&mut accept(&app).await, &hello).await;
        }
    }
}

#[tokio::test]
async fn o5_what_was_redirected_on_its_way_to_the_inbound_port_itself_is_closed() {
    let config = inbound(DownstreamTls::Disable, Carries::Opaque);
    let bench = Bench::with(&config, &Credentials::default());
    let mut client = bench.arrive(ListenerKind::Inbound(None), Some).await;
    assert_eq!(rest(&mut client).await, b"");
    assert_eq!(bench.rejected("own_listener"), 1);
}

#[tokio::test]
async fn x14_a_direct_inbound_listener_leads_to_the_application_that_it_stands_for() {
    let (app, there) = origin().await;
    let config = inbound(DownstreamTls::Disable, Carries::Http);
    let bench = Bench::with(&config, &Credentials::default());
    let kind = ListenerKind::Inbound(Some(there));
    let mut client = bench.arrive(kind, |_| None).await;
    served(&mut client, "whatever.example", &app).await;
}
