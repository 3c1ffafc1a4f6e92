//! What time does to a connection: deadlines, expiry, certificates and policies replaced.

use super::*;

#[tokio::test]
async fn g12_a_handshake_has_its_time_and_a_silent_client_as_much() {
    let mesh = Mesh::new();
    let mut config = inbound(mesh.strict(), Carries::Http);
    config.limits.idle_timeout = Duration::from_millis(50);
    config.limits.head_timeout = Duration::from_millis(50);
    let hello = client_hello(None, SIDECAR);
    let half = &hello[..hello.len() / 2];
    let garbage = &b"\x16\x03\x01\0\x05xxxxx"[..];
    for (bytes, label) in [
        (half, "malformed_hello"),
        (garbage, "malformed_hello"),
        (b"", "silent"),
    ] {
        let (app, there) = origin().await;
        let bench = Bench::with(&config, &mesh.credentials());
        let mut client = to_app(&bench, there).await;
        client.write_all(bytes).await.unwrap();
        assert_eq!(rest(&mut client).await, b"");
        assert_eq!(bench.rejected(label), 1, "{label}");
        untouched(&app);
    }
    // Its hello is whole and good, and nothing follows.
    let (app, there) = origin().await;
    let bench = Bench::with(&config, &mesh.credentials());
    let mut client = to_app(&bench, there).await;
    let connector = mesh.client(true, SIDECAR);
    let mut session =
        rustls::ClientConnection::new(Arc::clone(connector.config()), name("a.example")).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    client.write_all(&hello).await.unwrap();
    // Our half of the handshake, and the end.
    assert_eq!(rest(&mut client).await.first(), Some(&22));
    untouched(&app);
    let failures = &bench.context.metrics.downstream.handshake_failures;
    assert_eq!(failures.value("timeout"), 1);
    let line = bench.line().await;
    assert!(line.starts_with("\"- - -\" 0 DPE - timeout "), "{line}");
}

#[tokio::test]
async fn a_client_whose_certificate_expires_meanwhile_is_let_go() {
    let mesh = Mesh::new();
    let (app, there) = origin().await;
    let config = inbound(mesh.strict(), Carries::Http);
    let bench = Bench::with(&config, &mesh.credentials());
    let client = to_app(&bench, there).await;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let soon = now.unwrap().as_secs() + 2;
    let connector = mesh.client_until(Some(soon), SIDECAR);
    let mut client = connector.connect(name("a.example"), client).await.unwrap();
    served(&mut client, "a", &app).await;
    // Politely: TLS says that it ends. Others stay.
    let other = to_app(&bench, there).await;
    let mut other = mesh.sidecar(other).await;
    served(&mut other, "a", &app).await;
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
    served(&mut other, "a", &app).await;
}

#[tokio::test]
async fn a_hello_that_comes_byte_by_byte_is_as_good_as_any() {
    let mesh = Mesh::new();
    let (app, there) = origin().await;
    let bench = Bench::with(&inbound(mesh.strict(), Carries::Http), &mesh.credentials());
    let mut outer = to_app(&bench, there).await;
    let (inner, mut ours) = tokio::io::duplex(1 << 16);
    let drip = async {
        let mut up = [0; 1];
        let (mut from, mut to) = outer.split();
        let (mut read, mut write) = tokio::io::split(&mut ours);
        let up = async {
            while read.read(&mut up).await.unwrap() > 0 {
                to.write_all(&up).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let down = tokio::io::copy(&mut from, &mut write);
        let _ = tokio::join!(up, down);
    };
    let talk = async {
        let connector = mesh.client(true, SIDECAR);
        let mut client = connector.connect(name("a.example"), inner).await.unwrap();
        served(&mut client, "a", &app).await;
    };
    tokio::select! {
        () = drip => panic!("the connection ended"),
        () = talk => {}
    }
}

#[tokio::test]
async fn r16_a_connection_made_with_a_replaced_certificate_ends_after_its_age_and_no_other_does() {
    let mesh = Mesh::new();
    let (app, there) = origin().await;
    let mut config = inbound(mesh.strict(), Carries::Http);
    config.rotation.max_connection_age = Duration::from_millis(30);
    let bench = Bench::with(&config, &mesh.credentials());
    let client = to_app(&bench, there).await;
    let mut client = mesh.sidecar(client).await;
    served(&mut client, "a", &app).await;
    // The same again: nothing is replaced.
    bench.reload(&config, &mesh.credentials());
    let quiet = tokio::time::timeout(Duration::from_millis(150), client.read_u8()).await;
    assert!(quiet.is_err());
    mesh.renew();
    bench.reload(&config, &mesh.credentials());
    // It was idle, and is closed politely: TLS says so.
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn r16_a_busy_connection_ends_behind_its_answer() {
    let mesh = Mesh::new();
    let (app, there) = origin().await;
    let mut config = inbound(mesh.strict(), Carries::Http);
    config.rotation.max_connection_age = Duration::from_millis(30);
    let bench = Bench::with(&config, &mesh.credentials());
    let client = to_app(&bench, there).await;
    let mut client = mesh.sidecar(client).await;
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    client.write_all(request).await.unwrap();
    let mut served = accept(&app).await;
    head(&mut served).await;
    mesh.renew();
    bench.reload(&config, &mesh.credentials());
    let quiet = tokio::time::timeout(Duration::from_millis(300), client.read_u8()).await;
    assert!(quiet.is_err());
    served.write_all(OK).await.unwrap();
    let answer = head(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    exactly(&mut client, b"ok").await;
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn r16_a_client_that_a_new_policy_would_refuse_is_let_go_and_no_other_is() {
    let mesh = Mesh::new();
    let (app, there) = origin().await;
    let only = |name: Option<&str>| {
        let mut tls = mesh.server(ClientCertificates::Required);
        tls.subject_alt_names = name.into_iter().map(str::to_owned).collect();
        let mut config = inbound(DownstreamTls::Strict(tls), Carries::Http);
        // It looks as often as an hour lets it.
        config.rotation.max_connection_age = Duration::from_secs(3600);
        config
    };
    let bench = Bench::with(&only(None), &mesh.credentials());
    let client = to_app(&bench, there).await;
    let mut client = mesh.sidecar(client).await;
    served(&mut client, "a", &app).await;
    tokio::time::pause();
    for (name, stays) in [
        ("spiffe://cluster.local/ns/full/sa/sleep", true),
        ("spiffe://cluster.local/ns/full/sa/other", false),
    ] {
        bench.reload(&only(Some(name)), &mesh.credentials());
        let read = tokio::time::timeout(Duration::from_secs(100), client.read_u8()).await;
        assert_eq!(read.is_err(), stays, "{name}");
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_let_go_in_tls_too() {
    let mesh = Mesh::new();
    let (app, there) = origin().await;
    let mut config = inbound(mesh.strict(), Carries::Http);
    config.limits.stream_idle_timeout = Duration::from_millis(200);
    // However much the sockets hold, the rest of one of these answers lies in TLS, whole.
    for length in [48 * 1024, 100 * 1024] {
        let bench = Bench::with(&config, &mesh.credentials());
        let narrow = |socket: socket2::SockRef<'_>| {
            socket.set_recv_buffer_size(2048).unwrap();
            socket.set_send_buffer_size(2048).unwrap();
        };
        let kind = ListenerKind::Inbound(None);
        let client = bench.arrive_by(kind, |_| Some(there), narrow).await;
        let mut client = mesh.sidecar(client).await;
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        client.write_all(request).await.unwrap();
        let mut served = accept(&app).await;
        head(&mut served).await;
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        served.write_all(answer.as_bytes()).await.unwrap();
        served.write_all(&vec![b'x'; length]).await.unwrap();
        bench.drain.start();
        let ended = tokio::time::timeout(Duration::from_secs(20), bench.drain.finished());
        assert!(ended.await.is_ok(), "{length}");
        let error = client.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn r16_what_is_not_http_ends_too_once_the_port_is_strict_and_in_tls_it_goes_on() {
    let mesh = Mesh::new();
    let (app, there) = origin().await;
    let config = |tls| {
        let mut config = inbound(tls, Carries::Opaque);
        config.rotation.max_connection_age = Duration::from_millis(30);
        config
    };
    let bench = Bench::with(&config(mesh.permissive()), &mesh.credentials());
    let mut client = to_app(&bench, there).await;
    client.write_all(b"plain").await.unwrap();
    let mut there_plain = accept(&app).await;
    exactly(&mut there_plain, b"plain").await;
    let secured = to_app(&bench, there).await;
    let mut secured = mesh.sidecar(secured).await;
    secured.write_all(b"tls").await.unwrap();
    let mut there_secured = accept(&app).await;
    exactly(&mut there_secured, b"tls").await;
    bench.reload(&config(mesh.strict()), &mesh.credentials());
    is_reset(&mut client).await;
    is_reset(&mut there_plain).await;
    there_secured.write_all(b"on").await.unwrap();
    exactly(&mut secured, b"on").await;
}

#[tokio::test]
async fn r16_a_connection_that_switched_protocols_ends_once_the_port_is_strict() {
    let mesh = Mesh::new();
    let (app, there) = origin().await;
    let config = |tls| {
        let mut config = inbound(tls, Carries::Http);
        config.rotation.max_connection_age = Duration::from_millis(30);
        config
    };
    let bench = Bench::with(&config(mesh.permissive()), &mesh.credentials());
    let mut client = to_app(&bench, there).await;
    let switch = "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{switch}");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut served = accept(&app).await;
    head(&mut served).await;
    let answer = format!("HTTP/1.1 101 Switching Protocols\r\n{switch}");
    served.write_all(answer.as_bytes()).await.unwrap();
    let answer = head(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    // Longer than the time after which it looks.
    let quiet = tokio::time::timeout(Duration::from_millis(150), client.read_u8()).await;
    assert!(quiet.is_err());
    bench.reload(&config(mesh.strict()), &mesh.credentials());
    assert!(matches!(client.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    assert!(matches!(served.read(&mut [0; 1]).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn r16_an_open_connection_of_clear_text_is_refused_once_the_port_is_strict() {
    let mesh = Mesh::new();
    let (app, there) = origin().await;
    let permissive = inbound(mesh.permissive(), Carries::Http);
    let bench = Bench::with(&permissive, &mesh.credentials());
    let mut client = to_app(&bench, there).await;
    let plain = to_app(&bench, there).await;
    let mut secured = mesh.sidecar(plain).await;
    served(&mut client, "a", &app).await;
    served(&mut secured, "a", &app).await;
    let strict = inbound(mesh.strict(), Carries::Http);
    bench.reload(&strict, &mesh.credentials());
    let answer = answered(&mut client, "a").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert_eq!(rest(&mut client).await, b"");
    // One in TLS goes on.
    served(&mut secured, "a", &app).await;
    let gone = Config {
        entrances: Vec::new(),
        ..strict
    };
    bench.reload(&gone, &mesh.credentials());
    let answer = answered(&mut secured, "a").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("connect again"), "{answer}");
}
