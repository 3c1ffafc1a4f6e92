//! The status port: what a kubelet and Prometheus are told, and what nobody can do there.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use socket2::{Domain, Socket, Type};

use crate::harness::{Lab, Origin, Process, Sortie, Wire, curl, eventually, get, program};

fn served(lab: &Lab, bank: &Origin) -> Sortie {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    Sortie::builder(&lab.config(bank.port()))
        .with(|options| options.status = vec![any])
        .start()
}

/// A connection from another address of this host.
fn from(source: &str, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let source: SocketAddr = format!("{source}:0").parse().unwrap();
    socket.bind(&source.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

#[test]
fn i5_curl_as_the_kubelet_finds_it_ready_and_alive() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = served(&lab, &bank);
    for path in ["/healthz/ready", "/ready", "/livez"] {
        let url = format!("http://{}{path}", sortie.status());
        let out = curl(0, &["--fail", "-A", "kube-probe/1.33", &url]);
        assert_eq!(out, "LIVE\n", "{path}");
    }
    let mut wire = Wire::connect(sortie.status());
    wire.send("HEAD /healthz/ready HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(wire.answer_to("HEAD").status, 200);
}

#[test]
fn i14_readiness_ends_with_the_first_step_of_the_drain_and_life_does_not() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = served(&lab, &bank);
    get(sortie.status(), "a", "/healthz/ready").expect(200);
    sortie.drain();
    let answer = get(sortie.status(), "a", "/healthz/ready").expect(503);
    answer.says(&["drain: draining"]);
    get(sortie.status(), "a", "/livez").expect(200);
}

#[test]
fn the_status_port_has_prometheus_metrics() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = served(&lab, &bank);
    sortie.get("bank.example", "/").expect(200);
    eventually("the request is counted", || {
        let page = get(sortie.status(), "a", "/stats/prometheus").expect(200);
        let text = page.text();
        let mut lines = text.lines();
        lines
            .any(|line| line.starts_with("istio_requests_total{") && line.ends_with(" 1"))
            .then_some(())
    });
    get(sortie.status(), "a", "/metrics")
        .expect(200)
        .says(&["sortie_config_version"]);
}

#[test]
fn the_status_port_changes_nothing_and_tells_nothing_of_what_is_loaded() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = served(&lab, &bank);
    for path in [
        "/",
        "/quitquitquit",
        "/drain",
        "/reload",
        "/logging?level=trace",
        "/config",
        "/certs",
        "/routes",
        "/explain",
    ] {
        let answer = get(sortie.status(), "localhost", path).expect(404);
        answer.says(&["on the status port, which has /healthz/ready"]);
        let mut wire = Wire::connect(sortie.status());
        let post = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(wire.send(post).answer().status, 405, "{path}");
    }
    sortie.admin_get("/ready").expect(200);
}

#[test]
fn clients_that_say_nothing_do_not_keep_a_kubelet_from_its_answer() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = served(&lab, &bank);
    let silent: Vec<TcpStream> = (0..400)
        .map(|_| from("127.0.0.2", sortie.status()))
        .collect();
    for _ in 0..20 {
        get(sortie.status(), "a", "/healthz/ready").expect(200);
    }
    drop(silent);
}

#[test]
fn a_peer_with_one_connection_is_not_cut_off_for_one_that_has_many() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = served(&lab, &bank);
    let mut slow = Wire::connect(sortie.status());
    slow.send("GET /livez HTTP/1.1\r\n");
    let greedy: Vec<TcpStream> = (0..400)
        .map(|_| from("127.0.0.2", sortie.status()))
        .collect();
    get(sortie.status(), "a", "/livez").expect(200);
    slow.send("Host: a\r\n\r\n").answer().expect(200);
    drop(greedy);
}

#[test]
fn a_status_port_that_is_taken_is_named_at_the_start() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap();
    let config = lab.path().join("sortie.yaml");
    std::fs::write(&config, lab.config(bank.port())).unwrap();
    let config = config.to_str().unwrap();
    let start = |more: &[&str]| {
        let given = ["run", "--config", config, "--listen", "127.0.0.1:0"];
        let (code, _, err) = program(&[&given, more].concat());
        (code, err)
    };
    let at = taken.to_string();
    let (code, err) = start(&["--no-admin", "--status", &at]);
    assert_eq!(code, 1, "{err}");
    let named = format!("--status: cannot listen on {at}");
    assert!(
        err.contains(&named) && err.contains("another process has this port"),
        "{err}"
    );

    drop(other);
    let (code, err) = start(&["--admin", &at, "--status", &at]);
    assert_eq!(code, 64, "{err}");
    assert!(
        err.contains(&format!("--admin {at} has it; give each a port of its own")),
        "{err}"
    );
}

#[test]
fn both_of_istios_status_ports_are_served_on_both_families() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let config = lab.path().join("sortie.yaml");
    std::fs::write(&config, lab.config(bank.port())).unwrap();
    let (one, two) = (
        crate::harness::free_address().port(),
        crate::harness::free_address().port(),
    );
    let ports = format!("[::]:{one},[::]:{two}");
    let process = Process::run(&config, "", &["--status", &ports]);
    for port in [one, two] {
        for host in ["127.0.0.1", "[::1]"] {
            let at: SocketAddr = format!("{host}:{port}").parse().unwrap();
            get(at, "a", "/healthz/ready").expect(200);
        }
    }
    drop(process);
}

/// What an application of a test was asked, in order.
type Seen<T> = Arc<Mutex<Vec<T>>>;

/// What an application answers, by its path.
fn app(address: &str) -> (SocketAddr, Seen<(SocketAddr, String)>) {
    let listener = TcpListener::bind(address).unwrap();
    let at = listener.local_addr().unwrap();
    let seen: Seen<(SocketAddr, String)> = Arc::default();
    let told = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, told) = (stream.unwrap(), Arc::clone(&told));
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
                    head.extend(byte);
                }
                let head = String::from_utf8(head).unwrap();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                told.lock()
                    .unwrap()
                    .push((stream.peer_addr().unwrap(), head));
                let answer = match path.as_str() {
                    "/hang" => return drop(stream.read(&mut byte)),
                    "/garbage" => "SSH-2.0-OpenSSH\r\n\r\n".to_owned(),
                    "/here" => "HTTP/1.1 302 Found\r\nLocation: /ok?x\r\n\r\n".to_owned(),
                    "/there" => {
                        "HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\n\r\n".to_owned()
                    }
                    "/round" => "HTTP/1.1 302 Found\r\nLocation: /round\r\n\r\n".to_owned(),
                    "/large" => format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(10 << 20)),
                    "/ill" => "HTTP/1.1 500 Oh\r\nContent-Length: 6\r\n\r\nsecret".to_owned(),
                    _ => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
                };
                let _ = stream.write_all(answer.as_bytes());
            });
        }
    });
    (at, seen)
}

/// A sortie that knows these probes of `web`, asked at an address of this host that is not 127.0.0.1.
fn probing(lab: &Lab, bank: &Origin, pod: &str, probes: &str) -> Sortie {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let probes = ::sortie::probe::read(probes).unwrap();
    Sortie::builder(&lab.config(bank.port()))
        .with(|options| {
            options.status = vec![any];
            options.app_probes = probes;
            options.pod_ip = Some(pod.parse().unwrap());
        })
        .start()
}

fn http_probe(port: u16, path: &str) -> String {
    format!(r#"{{"/app-health/web/livez": {{"httpGet": {{"path": "{path}", "port": {port}}}}}}}"#)
}

#[test]
fn i8_the_application_hears_the_probe_as_from_a_kubelet_and_by_a_way_that_is_not_captured() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let (app, seen) = app("127.0.0.9:0");
    let probes = format!(
        r#"{{"/app-health/web/livez": {{"httpGet": {{"path": "/ok?a=b", "port": {}, "httpHeaders":
        [{{"name": "Host", "value": "shop.example"}}, {{"name": "X-Probe", "value": "1"}}]}}}},
        "/app-health/web/readyz": {{"httpGet": {{"port": {}}}}}}}"#,
        app.port(),
        app.port()
    );
    let sortie = probing(&lab, &bank, "127.0.0.9", &probes);
    let mut wire = Wire::connect(sortie.status());
    wire.send(
        "GET /app-health/web/livez HTTP/1.1\r\nHost: 10.0.0.1:15020\r\nUser-Agent: kube-probe/1.33\r\n\
         Accept: */*\r\nAuthorization: mine\r\nX-Forwarded-Client-Cert: mine\r\n\r\n",
    );
    wire.answer().expect(200);
    let (peer, head) = seen.lock().unwrap()[0].clone();
    assert_eq!(peer.ip().to_string(), "127.0.0.6", "P13");
    let head = head.to_lowercase();
    for line in [
        "get /ok?a=b http/1.1\r\n",
        "\r\nhost: shop.example\r\n",
        "\r\nx-probe: 1\r\n",
        "\r\nuser-agent: kube-probe/1.33\r\n",
        "\r\naccept: */*\r\n",
        "\r\nconnection: close\r\n",
    ] {
        assert!(head.contains(line), "{line:?}: {head}");
    }
    assert!(
        !head.contains("mine"),
        "what else the asker said is not passed on: {head}"
    );
    get(sortie.status(), "10.0.0.1:15020", "/app-health/web/readyz").expect(200);
    let (_, head) = seen.lock().unwrap()[1].clone();
    let host = format!("host: 127.0.0.9:{}\r\n", app.port());
    assert!(head.to_lowercase().contains(&host), "{head}");
}

#[test]
fn i8_the_status_is_the_applications_and_its_words_are_not_passed_on() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let (app, seen) = app("127.0.0.9:0");
    for (path, status, words) in [
        ("/ok", 200, "/ok answered 200\n"),
        ("/ill", 500, "/ill answered 500\n"),
        ("/here", 200, "/ok?x answered 200\n"),
        ("/there", 302, "/there answered 302\n"),
        ("/round", 502, "redirected more than 10 times"),
        ("/garbage", 502, "/garbage: "),
        ("/large", 200, "/large answered 200\n"),
        ("/hang", 504, "did not answer within 1s\n"),
    ] {
        let probes = http_probe(app.port(), path);
        let sortie = probing(&lab, &bank, "127.0.0.9", &probes);
        let answer = get(sortie.status(), "a", "/app-health/web/livez").expect(status);
        let answer = answer.says(&[words]);
        assert!(!answer.text().contains("secret"), "{answer:?}");
        assert_eq!(answer.header("location"), None);
    }
    let asked = seen.lock().unwrap();
    assert_eq!(
        asked
            .iter()
            .filter(|(_, head)| head.contains("/round"))
            .count(),
        11
    );
}

#[test]
fn i8_an_application_that_is_not_there_is_not_well_and_a_port_of_our_own_is_no_application() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let nobody = crate::harness::free_address().port();
    let sortie = probing(&lab, &bank, "127.0.0.9", &http_probe(nobody, "/"));
    let answer = get(sortie.status(), "a", "/app-health/web/livez").expect(503);
    answer.says(&["connection refused"]);
    let answer = get(sortie.status(), "a", "/app-health/web/readyz").expect(404);
    answer.says(&[
        "No probe is known as",
        "known by SORTIE_APP_PROBES: /app-health/web/livez",
    ]);

    let status = crate::harness::free_address();
    let probes = ::sortie::probe::read(&http_probe(status.port(), "/livez")).unwrap();
    let sortie = Sortie::builder(&lab.config(bank.port()))
        .with(|options| {
            options.status = vec![status];
            options.app_probes = probes;
        })
        .start();
    let answer = get(sortie.status(), "a", "/app-health/web/livez").expect(503);
    answer.says(&["one of our own listeners"]);
}

#[test]
fn i8_a_hook_with_a_secret_is_asked_by_those_who_know_it_and_told_to_nobody() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let (app, seen) = app("127.0.0.9:0");
    let secret = "/app-lifecycle/web/prestopz/6f1c0b7e9d2a4c58";
    let hook = format!(
        r#"{{"{secret}": {{"httpGet": {{"path": "/ok", "port": {}}}}}}}"#,
        app.port()
    );
    let sortie = probing(&lab, &bank, "127.0.0.9", &hook);
    for path in [
        "/app-lifecycle/web/prestopz",
        "/app-lifecycle/web/prestopz/",
        "/app-health/a/livez",
    ] {
        let answer = get(sortie.status(), "a", path).expect(404);
        assert!(!answer.text().contains("6f1c0b7e9d2a4c58"), "{answer:?}");
    }
    assert!(seen.lock().unwrap().is_empty());
    get(sortie.status(), "a", secret).expect(200);
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[test]
fn i8_a_tcp_probe_connects_and_says_nothing() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let listener = TcpListener::bind("127.0.0.9:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let probes = format!(r#"{{"/app-health/db/readyz": {{"tcpSocket": {{"port": {port}}}}}}}"#);
    let sortie = probing(&lab, &bank, "127.0.0.9", &probes);
    get(sortie.status(), "a", "/app-health/db/readyz").expect(200);
    let (mut stream, _) = listener.accept().unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).unwrap();
    assert_eq!(said, b"");
    drop((stream, listener));
    get(sortie.status(), "a", "/app-health/db/readyz").expect(503);
}

#[test]
fn i8_an_https_probe_looks_at_no_certificate() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let Some(openssl) = crate::harness::needs("openssl") else {
        return;
    };
    let at = crate::harness::free_address();
    let (cert, key) = (lab.path().join("client.crt"), lab.path().join("client.key"));
    let mut server = Command::new(openssl)
        .args(["s_server", "-quiet", "-www", "-accept", &at.to_string()])
        .arg("-cert")
        .arg(cert)
        .arg("-key")
        .arg(key)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("openssl listens", || {
        TcpStream::connect(at).is_ok().then_some(())
    });
    let get_of = |scheme: &str| {
        let probes = format!(
            r#"{{"/app-health/web/livez": {{"httpGet": {{"port": {}, "scheme": "{scheme}"}}}}}}"#,
            at.port()
        );
        let sortie = probing(&lab, &bank, "127.0.0.1", &probes);
        get(sortie.status(), "a", "/app-health/web/livez").status
    };
    assert_eq!((get_of("HTTPS"), get_of("HTTP")), (200, 502));
    server.kill().unwrap();
    server.wait().unwrap();
}

/// `grpc.health.v1.Health` that answers with this message and status, and says what it was asked.
fn health(message: &'static [u8], code: &'static str) -> (u16, Seen<(String, Bytes)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen: Seen<(String, Bytes)> = Arc::default();
    let told = Arc::clone(&seen);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let serve = async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        while let Ok((stream, _)) = listener.accept().await {
            let told = Arc::clone(&told);
            let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
                let told = Arc::clone(&told);
                async move {
                    let path = request.uri().path().to_owned();
                    let body = request.into_body().collect().await?.to_bytes();
                    told.lock().unwrap().push((path, body));
                    let mut trailers = hyper::HeaderMap::new();
                    trailers.insert("grpc-status", code.parse().unwrap());
                    let frames = [
                        Ok::<_, hyper::Error>(Frame::data(Bytes::from_static(message))),
                        Ok(Frame::trailers(trailers)),
                    ];
                    let body = StreamBody::new(futures_util::stream::iter(frames));
                    let answer =
                        hyper::Response::builder().header("content-type", "application/grpc");
                    Ok::<_, hyper::Error>(answer.body(body).unwrap())
                }
            });
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(serving.serve_connection(TokioIo::new(stream), service));
        }
    };
    std::thread::spawn(move || runtime.block_on(serve));
    (port, seen)
}

#[test]
fn i8_a_grpc_probe_asks_for_the_service_and_only_serving_is_well() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    for (message, code, status, words) in [
        (&b"\0\0\0\0\x02\x08\x01"[..], "0", 200, "is SERVING"),
        (b"\0\0\0\0\x02\x08\x02", "0", 503, "is NOT_SERVING"),
        (b"\0\0\0\0\0", "0", 503, "is UNKNOWN"),
        (b"", "12", 502, "gRPC status 12"),
        (b"\0\0\0\0\x02\x08", "0", 502, "no HealthCheckResponse"),
    ] {
        let (port, seen) = health(message, code);
        let probes = format!(
            r#"{{"/app-health/web/startupz": {{"grpc": {{"port": {port}, "service": "shop"}}}}}}"#
        );
        let sortie = probing(&lab, &bank, "127.0.0.1", &probes);
        get(sortie.status(), "a", "/app-health/web/startupz")
            .expect(status)
            .says(&[words]);
        let asked = seen.lock().unwrap().clone();
        let question = Bytes::from_static(b"\0\0\0\0\x06\x0a\x04shop");
        assert_eq!(
            asked,
            [("/grpc.health.v1.Health/Check".to_owned(), question)]
        );
    }
}

#[test]
fn i8_malformed_probes_are_refused_at_the_start_with_their_path() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let config = lab.path().join("sortie.yaml");
    std::fs::write(&config, lab.config(bank.port())).unwrap();
    let probes = lab.path().join("probes.json");
    std::fs::write(&probes, http_probe(0, "/")).unwrap();
    let at = format!("@{}", probes.display());
    for given in [at.as_str(), &http_probe(0, "/")] {
        let flags = [
            "run",
            "--config",
            config.to_str().unwrap(),
            "--app-probes",
            given,
        ];
        let (code, _, error) = program(&flags);
        let expected = "sortie: --app-probes: /app-health/web/livez: httpGet.port: expected a number \
                        from 1 to 65535, got 0\n";
        assert_eq!((code, error.as_str()), (64, expected));
    }
}

#[test]
fn i5_probes_by_the_hundred_are_answered_and_leave_no_line_in_the_log() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let config = lab.path().join("sortie.yaml");
    std::fs::write(&config, lab.config(bank.port())).unwrap();
    let (app, _) = app("127.0.0.1:0");
    let (status, log) = (
        crate::harness::free_address(),
        lab.path().join("access.log"),
    );
    let (at, probes) = (status.to_string(), http_probe(app.port(), "/ok"));
    let flags = ["--status", &at, "--app-probes", &probes, "--access-log"];
    let process = Process::run(
        &config,
        "",
        &[&flags[..], &[log.to_str().unwrap()]].concat(),
    );
    let before = eventually("the last line of the start", || {
        Some(process.said()).filter(|said| said.contains("admin port"))
    });
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for path in ["/healthz/ready", "/app-health/web/livez", "/metrics"].repeat(20) {
                    get(status, "a", path).expect(200);
                }
            });
        }
    });
    assert_eq!(process.said(), before);
    assert_eq!(std::fs::read_to_string(&log).unwrap_or_default(), "");
}
