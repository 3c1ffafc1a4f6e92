//! Connections to a gateway: which server, which certificate, which host.

use super::*;

#[tokio::test]
async fn g3_each_side_may_end_first_through_tls() {
    let mesh = Mesh::new();
    let (listener, there) = origin().await;
    let servers = vec![server(&["a.example"], mesh.simple(), Carries::Opaque)];
    let bench = Bench::with(&gateway(there, servers), &mesh.credentials());
    let client = to_gateway(&bench).await;
    let connector = mesh.client(false, &[]);
    let mut client = connector.connect(name("a.example"), client).await.unwrap();
    client.write_all(b"all I have").await.unwrap();
    client.shutdown().await.unwrap();
    let mut served = accept(&listener).await;
    assert_eq!(rest(&mut served).await, b"all I have");
    served.write_all(b"the answer").await.unwrap();
    drop(served);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"the answer");
    drop(client);
    let line = bench.line().await;
    assert!(line.starts_with("\"- - -\" 0 - - - \"-\" 10 10 "), "{line}");
}

#[tokio::test]
async fn g8_the_server_name_chooses_the_server_and_an_unknown_one_is_shown_no_certificate() {
    let mesh = Mesh::new();
    let (listener, there) = origin().await;
    let servers = vec![
        server(&["a.example"], mesh.simple(), Carries::Http),
        server(&["*.wild.example"], mesh.simple(), Carries::Http),
    ];
    let config = gateway(there, servers);
    let bench = Bench::with(&config, &mesh.credentials());
    for host in ["a.example", "x.wild.example"] {
        let client = to_gateway(&bench).await;
        let connector = mesh.client(false, &["http/1.1"]);
        let mut client = connector.connect(name(host), client).await.unwrap();
        served(&mut client, host, &listener).await;
    }
    for unknown in [Some("b.example"), None] {
        let bench = Bench::with(&config, &mesh.credentials());
        let mut client = to_gateway(&bench).await;
        client.write_all(&client_hello(unknown, &[])).await.unwrap();
        assert_eq!(rest(&mut client).await, b"");
        let line = bench.line().await;
        assert!(
            line.starts_with("\"- - -\" 0 NR filter_chain_not_found filter_chain_not_found "),
            "{line}"
        );
    }
}

#[tokio::test]
async fn g9_a_host_of_another_server_is_421_and_one_of_none_is_404() {
    let mesh = Mesh::new();
    let (listener, there) = origin().await;
    let servers = vec![
        server(&["a.example"], mesh.simple(), Carries::Http),
        server(&["b.example"], mesh.simple(), Carries::Http),
    ];
    let bench = Bench::with(&gateway(there, servers), &mesh.credentials());
    let client = to_gateway(&bench).await;
    let connector = mesh.client(false, &["http/1.1"]);
    let mut client = connector.connect(name("a.example"), client).await.unwrap();
    let answer = answered(&mut client, "b.example").await;
    assert!(
        answer.starts_with("HTTP/1.1 421 Misdirected Request\r\n"),
        "{answer}"
    );
    let answer = answered(&mut client, "c.example").await;
    assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
    untouched(&listener);
    // The connection is still good for what it was opened for.
    served(&mut client, "a.example:8443", &listener).await;
}

#[tokio::test]
async fn g9_who_came_in_by_a_wildcard_reaches_no_host_whose_own_server_demands_a_certificate() {
    let mesh = Mesh::new();
    for (own, reached) in [(mesh.strict(), false), (mesh.simple(), true)] {
        let (listener, there) = origin().await;
        // The routes of both servers name b.example.
        let servers = vec![
            server(&["*.example"], mesh.simple(), Carries::Http),
            server(&["b.example"], own, Carries::Http),
        ];
        let bench = Bench::with(&gateway(there, servers), &mesh.credentials());
        let client = to_gateway(&bench).await;
        let connector = mesh.client(false, &["http/1.1"]);
        let mut client = connector.connect(name("a.example"), client).await.unwrap();
        if reached {
            served(&mut client, "b.example", &listener).await;
            continue;
        }
        for host in ["b.example", "B.example.:8443"] {
            let answer = answered(&mut client, host).await;
            assert!(
                answer.starts_with("HTTP/1.1 421 Misdirected Request\r\n"),
                "{answer}"
            );
        }
        untouched(&listener);
        served(&mut client, "a.example", &listener).await;
    }
}

#[tokio::test]
async fn g8_clear_text_where_tls_alone_is_served_is_reset_and_tls_on_a_clear_port_is_closed() {
    let mesh = Mesh::new();
    let (listener, there) = origin().await;
    let servers = vec![server(&["*"], mesh.simple(), Carries::Http)];
    let bench = Bench::with(&gateway(there, servers), &mesh.credentials());
    let mut client = to_gateway(&bench).await;
    client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    is_reset(&mut client).await;
    assert_eq!(bench.rejected("plaintext_on_tls"), 1);

    let servers = vec![server(&[], DownstreamTls::Disable, Carries::Http)];
    let bench = Bench::with(&gateway(there, servers), &mesh.credentials());
    let mut client = to_gateway(&bench).await;
    let hello = client_hello(Some("a.example"), &[]);
    client.write_all(&hello).await.unwrap();
    assert_eq!(rest(&mut client).await, b"");
    assert_eq!(bench.rejected("tls_on_plaintext"), 1);
    untouched(&listener);
    let mut client = to_gateway(&bench).await;
    served(&mut client, "a.example", &listener).await;
}

#[tokio::test]
async fn g3_tls_passes_through_untouched_and_auto_only_where_a_sidecar_speaks() {
    for mesh_only in [false, true] {
        for alpn in [&["istio"][..], &["h2"]] {
            let (listener, there) = origin().await;
            let policy = DownstreamTls::PassThrough { mesh_only };
            let mut through = server(&["*.example"], policy, Carries::Opaque);
            let on = StreamMatch::Tls {
                names: vec![HostPattern::parse("*.example").unwrap()],
                destinations: Vec::new(),
            };
            through.streams = vec![stream(on, "there")];
            let bench = Bench::with(&gateway(there, vec![through]), &Credentials::default());
            let mut client = to_gateway(&bench).await;
            let hello = client_hello(Some("a.example"), alpn);
            client.write_all(&hello).await.unwrap();
            if mesh_only && alpn == ["h2"] {
                assert_eq!(rest(&mut client).await, b"");
                assert_eq!(bench.rejected("foreign_tls"), 1);
                untouched(&listener);
            } else {
                exactly(&mut accept(&listener).await, &hello).await;
            }
        }
    }
}

#[tokio::test]
async fn e2_a_gateway_goes_to_no_original_destination_and_not_where_a_client_says() {
    let (listener, there) = origin().await;
    let mut config = gateway(
        there,
        vec![server(&[], DownstreamTls::Disable, Carries::Http)],
    );
    let port = Some(there.port());
    config.entrances[0].hosts = vec![host("*", "there")];
    config.upstreams[0].endpoints.clear();
    for by_name in [false, true] {
        config.upstreams[0].resolution = match by_name {
            false => Resolution::OriginalDst { port },
            true => Resolution::RequestHost { port },
        };
        let bench = Bench::with(&config, &Credentials::default());
        let mut client = to_gateway(&bench).await;
        if by_name {
            served(&mut client, "localhost", &listener).await;
        } else {
            let answer = answered(&mut client, "localhost").await;
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            assert!(answer.contains("no healthy upstream: "), "{answer}");
            assert!(answer.contains("no original destination"), "{answer}");
        }
    }
}

#[tokio::test]
async fn g7_http_2_is_agreed_on_by_alpn_and_its_streams_are_answered_one_by_one() {
    let mesh = Mesh::new();
    let (_listener, there) = origin().await;
    let mut one = server(&["a.example"], mesh.simple(), Carries::Http);
    let respond = Action::Respond(crate::model::Respond {
        status: 200,
        body: b"a"[..].into(),
    });
    one.hosts[0].rules = vec![RuleSpec::new(respond, Place::default())].into();
    let two = server(&["b.example"], mesh.simple(), Carries::Http);
    let config = gateway(there, vec![one, two]);
    let bench = Bench::with(&config, &mesh.credentials());
    let client = to_gateway(&bench).await;
    let connector = mesh.client(false, &["h2", "http/1.1"]);
    let client = connector.connect(name("a.example"), client).await.unwrap();
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let executor = hyper_util::rt::TokioExecutor::new();
    let io = hyper_util::rt::TokioIo::new(client);
    let (mut send, connection) = hyper::client::conn::http2::handshake(executor, io)
        .await
        .unwrap();
    let ended = tokio::spawn(connection);
    for (host, status) in [("a.example", 200), ("b.example", 421), ("c.example", 404)] {
        let request = http::Request::get(format!("https://{host}/"));
        let request = request.body(http_body_util::Empty::<bytes::Bytes>::new());
        let answer = send.send_request(request.unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "{host}");
    }
    // The entrance goes: one more answer, and GOAWAY.
    bench.reload(&gateway(there, Vec::new()), &mesh.credentials());
    let request = http::Request::get("https://a.example/");
    let request = request.body(http_body_util::Empty::<bytes::Bytes>::new());
    let answer = send.send_request(request.unwrap()).await.unwrap();
    assert_eq!(answer.status(), 503);
    drop(answer);
    ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn v9_the_scheme_is_https_where_tls_ended_here_and_http_in_clear_text() {
    let mesh = Mesh::new();
    let (_listener, there) = origin().await;
    let rules = || {
        let respond = |status| {
            let body = bytes::Bytes::new();
            Action::Respond(crate::model::Respond { status, body })
        };
        let mut secured = RuleSpec::new(respond(204), Place::default());
        secured.matches = vec![crate::model::MatchSpec {
            scheme: Some(crate::model::StringMatch::Exact("https".into())),
            ..Default::default()
        }];
        vec![secured, RuleSpec::new(respond(202), Place::default())]
    };
    let mut secured = server(&["a.example"], mesh.simple(), Carries::Http);
    let mut clear = server(&[], DownstreamTls::Disable, Carries::Http);
    (secured.hosts[0].rules, clear.hosts[0].rules) = (rules().into(), rules().into());
    let config = gateway(there, vec![secured, clear]);
    let bench = Bench::with(&config, &mesh.credentials());
    let request = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
    let mut client = to_gateway(&bench).await;
    client.write_all(request).await.unwrap();
    let answer = head(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    let client = to_gateway(&bench).await;
    let connector = mesh.client(false, &[]);
    let mut client = connector.connect(name("a.example"), client).await.unwrap();
    // A client may name the scheme itself.
    for request in [
        &request[..],
        b"GET https://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
    ] {
        client.write_all(request).await.unwrap();
        let answer = head(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    }
}

#[tokio::test]
async fn g10_what_a_trusted_proxy_took_in_https_is_https_and_what_others_say_is_not() {
    let (_listener, there) = origin().await;
    for (trusted_hops, status) in [(1, 202), (0, 301)] {
        let mut clear = server(&[], DownstreamTls::Disable, Carries::Http);
        clear.headers = EntranceHeaders::gateway();
        clear.headers.trusted_hops = trusted_hops;
        let to = crate::model::Redirect {
            status: 301,
            scheme: Some("https".to_owned()),
            authority: None,
            path: None,
            port: None,
        };
        let mut redirect = RuleSpec::new(Action::Redirect(to), Place::default());
        redirect.matches = vec![crate::model::MatchSpec {
            scheme: Some(crate::model::StringMatch::Exact("http".into())),
            ..Default::default()
        }];
        let respond = Action::Respond(crate::model::Respond {
            status: 202,
            body: bytes::Bytes::new(),
        });
        let rules = vec![redirect, RuleSpec::new(respond, Place::default())];
        clear.hosts[0].rules = rules.into();
        let bench = Bench::with(&gateway(there, vec![clear]), &Credentials::default());
        let mut client = to_gateway(&bench).await;
        // Its own port is what the client knows (G11).
        let request = "GET /x?y HTTP/1.1\r\nHost: a.example:8080\r\nX-Forwarded-Proto: ";
        for (told, status) in [("https", status), ("http", 301)] {
            let request = format!("{request}{told}\r\n\r\n");
            client.write_all(request.as_bytes()).await.unwrap();
            let answer = head(&mut client).await;
            let line = format!("HTTP/1.1 {status} ");
            assert!(answer.starts_with(&line), "{trusted_hops} {told}: {answer}");
            if status == 301 {
                let location = "\r\nlocation: https://a.example:8080/x?y\r\n";
                assert!(answer.contains(location), "{answer}");
            }
        }
    }
}
