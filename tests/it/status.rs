//! The status port: what a kubelet and Prometheus are told, and what nobody can do there.

use std::net::{SocketAddr, TcpListener, TcpStream};

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
