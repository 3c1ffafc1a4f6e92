//! Ending politely: what is under way is finished, nothing new is begun, and there is a deadline.

use std::time::{Duration, Instant};

use crate::harness::{Ended, Lab, Process, Sortie, Wire, eventually, free_address, get, program};

#[test]
fn a_request_under_way_is_finished_and_its_connection_closed() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    let mut wire = sortie.wire();
    wire.send("GET /drip/5/100 HTTP/1.1\r\nHost: bank.example\r\n\r\n")
        .head();
    sortie.drain();
    std::thread::scope(|scope| {
        scope.spawn(|| sortie.stop());
        let rest = String::from_utf8(wire.bytes(0)).unwrap();
        let mut all = rest;
        all += &String::from_utf8(wire.hears(Duration::from_secs(3))).unwrap();
        assert!(
            all.contains("line 4") && all.ends_with("0\r\n\r\n"),
            "{all:?}"
        );
    });
}

#[test]
fn a_request_that_waits_for_its_answer_gets_it_with_connection_close() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    let mut wire = sortie.wire();
    wire.send("GET /slow/500 HTTP/1.1\r\nHost: bank.example\r\n\r\n");
    eventually("the bank has the request", || {
        (bank.asked().len() == 1).then_some(())
    });
    sortie.drain();
    let answer = wire.answer().expect(200);
    assert_eq!(
        answer
            .header("connection")
            .map(str::to_lowercase)
            .as_deref(),
        Some("close")
    );
    assert!(wire.is_closed());
}

#[test]
fn i14_readiness_ends_first_and_no_new_connection_is_taken() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    assert_eq!(sortie.admin_get("/ready").status, 200);
    let mut busy = sortie.wire();
    busy.send("GET /slow/1500 HTTP/1.1\r\nHost: bank.example\r\n\r\n");
    let mut idle = sortie.wire();
    idle.get("bank.example", "/").expect(200);
    eventually("the bank has the request", || {
        (bank.asked().len() == 2).then_some(())
    });
    sortie.drain();
    eventually("readiness ends", || {
        (sortie.admin_get("/ready").status == 503).then_some(())
    });
    assert!(idle.is_closed(), "an idle connection is closed at once");
    eventually("the listener is closed", || {
        std::net::TcpStream::connect(sortie.address())
            .is_err()
            .then_some(())
    });
    busy.answer().expect(200);
}

#[test]
fn the_deadline_ends_what_does_not_end_by_itself() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = Sortie::builder(&lab.config(bank.port()))
        .with(|options| options.drain_timeout = Duration::from_millis(300))
        .start();
    let mut wire = sortie.wire();
    wire.send("GET /hang HTTP/1.1\r\nHost: bank.example\r\n\r\n");
    eventually("the bank has the request", || {
        (bank.asked().len() == 1).then_some(())
    });
    let began = Instant::now();
    sortie.stop();
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    wire.rest();
}

#[test]
fn sigterm_finishes_the_request_under_way_and_exits_with_0() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let config = lab.path().join("sortie.yaml");
    std::fs::write(&config, lab.config(bank.port())).unwrap();
    let mut process = Process::run(&config, "", &["--drain-timeout", "10"]);
    let address = process.address;
    let answer = std::thread::spawn(move || get(address, "bank.example", "/slow/700"));
    eventually("the bank has the request", || {
        (bank.asked().len() == 1).then_some(())
    });
    process.signal("TERM");
    let status = process.ends_within(Duration::from_secs(8));
    assert_eq!(status.code(), Some(0), "{}", process.said());
    assert_eq!(answer.join().unwrap().expect(200).text(), "late");
}

#[test]
fn i13_quitquitquit_ends_the_process_with_0() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let config = lab.path().join("sortie.yaml");
    std::fs::write(&config, lab.config(bank.port())).unwrap();
    let mut process = Process::run(&config, "", &[]);
    let mut wire = Wire::connect(process.admin);
    wire.send("POST /quitquitquit HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(wire.answer().status, 200);
    let status = process.ends_within(Duration::from_secs(8));
    assert_eq!(status.code(), Some(0), "{}", process.said());
}

#[test]
fn a_second_signal_ends_the_drain_at_once() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let config = lab.path().join("sortie.yaml");
    std::fs::write(&config, lab.config(bank.port())).unwrap();
    let mut process = Process::run(&config, "", &["--drain-timeout", "600"]);
    let mut wire = Wire::connect(process.address);
    wire.send("GET /hang HTTP/1.1\r\nHost: bank.example\r\n\r\n");
    eventually("the bank has the request", || {
        (bank.asked().len() == 1).then_some(())
    });
    process.signal("TERM");
    eventually("it drains", || {
        process.said().contains("draining").then_some(())
    });
    process.signal("INT");
    let status = process.ends_within(Duration::from_secs(8));
    assert_eq!(status.code(), Some(0), "{}", process.said());
}

#[test]
fn what_the_deadline_cuts_off_never_looks_complete() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = Sortie::builder(&lab.config(bank.port()))
        .with(|options| options.drain_timeout = Duration::from_millis(300))
        .start();
    let mut wire = sortie.wire();
    // HTTP/1.0 has no chunks: the end of the connection is the end of the answer.
    wire.send("GET /drip/100/100 HTTP/1.0\r\nHost: bank.example\r\n\r\n")
        .head();
    sortie.stop();
    assert!(
        wire.rest() == Ended::CutOff,
        "a close would look like the end of the answer"
    );
}

/// An application that answers every request on every connection, as they come.
fn application() -> std::net::SocketAddr {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                while stream.read(&mut bytes).is_ok_and(|read| read > 0) {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\napp");
                }
            });
        }
    });
    address
}

#[test]
fn i11_the_application_still_calls_out_while_its_own_clients_are_sent_away() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let config = lab.path().join("sortie.yaml");
    std::fs::write(&config, lab.config(bank.port())).unwrap();
    let (inbound, status) = (free_address(), free_address());
    let more = [
        &format!("--inbound={inbound}={}", application()),
        &format!("--status={status}"),
        "--drain-time=4",
    ];
    let mut process = Process::run(&config, "", &more);
    let mut client = Wire::connect(inbound);
    assert_eq!(
        client.get("app", "/").expect(200).header("connection"),
        None
    );
    let mut outbound = Wire::connect(process.address);
    outbound.get("bank.example", "/").expect(200);
    process.signal("TERM");
    let told = eventually("readiness says why it ends", || {
        let answer = get(status, "localhost", "/healthz/ready");
        (answer.status == 503).then(|| answer.text())
    });
    assert!(told.contains("draining"), "{told}");
    assert!(client.is_closed(), "an idle client is sent away at once");
    let late = get(inbound, "app", "/").expect(200);
    assert_eq!(
        late.header("connection"),
        Some("close"),
        "who does not know yet is served"
    );
    let kept = outbound.get("bank.example", "/").expect(200);
    assert_eq!(
        kept.header("connection"),
        None,
        "the application keeps its connection"
    );
    get(process.address, "bank.example", "/").expect(200);
    let ended = process.ends_within(Duration::from_secs(10));
    assert_eq!(ended.code(), Some(0), "{}", process.said());
}

#[test]
fn i11_a_second_signal_does_not_wait_for_the_least_time() {
    let lab = Lab::new();
    let config = lab.path().join("sortie.yaml");
    std::fs::write(&config, lab.config(9)).unwrap();
    let more = ["--drain-time=600", "--drain-timeout=600"];
    let mut process = Process::run(&config, "", &more);
    process.signal("TERM");
    eventually("the drain has begun", || {
        process.said().contains("draining").then_some(())
    });
    process.signal("TERM");
    let ended = process.ends_within(Duration::from_secs(5));
    assert_eq!(ended.code(), Some(0), "{}", process.said());
}

#[test]
fn a_least_time_that_is_longer_than_the_most_is_refused() {
    let (code, _, said) = program(&["run", "--config=x", "--drain-time=31", "--drain-timeout=30"]);
    assert_eq!(code, 64);
    assert!(
        said.contains("--drain-time 31 is longer than --drain-timeout 30"),
        "{said}"
    );
}

#[test]
fn i13_a_drain_that_was_asked_for_lets_nobody_in_and_the_process_waits_for_its_signal() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let config = lab.path().join("sortie.yaml");
    std::fs::write(&config, lab.config(bank.port())).unwrap();
    let inbound = free_address();
    let way = format!("{inbound}=127.0.0.1:{}", bank.port());
    let mut process = Process::run(&config, "", &["--inbound", &way, "--drain-time", "30"]);
    let told = program(&["drain", "--admin", &process.admin.to_string()]);
    assert_eq!(told, (0, String::new(), String::new()));
    eventually("the listener is closed", || {
        std::net::TcpStream::connect(inbound).is_err().then_some(())
    });
    assert_eq!(get(process.admin, "localhost", "/ready").status, 503);
    get(process.address, "bank.example", "/").expect(200);
    process.signal("TERM");
    let status = process.ends_within(Duration::from_secs(8));
    assert_eq!(status.code(), Some(0), "{}", process.said());
}

#[test]
fn i12_the_application_calls_out_until_no_connection_is_left() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let config = lab.path().join("sortie.yaml");
    std::fs::write(&config, lab.config(bank.port())).unwrap();
    let flags = ["--drain-until-idle", "--drain-timeout", "600"];
    let mut process = Process::run(&config, "", &flags);
    let mut kept = Wire::connect(process.address);
    kept.get("bank.example", "/").expect(200);
    process.signal("TERM");
    eventually("it is not ready", || {
        (get(process.admin, "localhost", "/ready").status == 503).then_some(())
    });
    // The connection that was there, and a new one.
    kept.get("bank.example", "/").expect(200);
    get(process.address, "bank.example", "/").expect(200);
    assert!(process.child.try_wait().unwrap().is_none());
    drop(kept);
    let status = process.ends_within(Duration::from_secs(8));
    assert_eq!(status.code(), Some(0), "{}", process.said());
}

#[test]
fn i13_a_proxy_that_is_not_there_cannot_be_told_to_drain() {
    let admin = free_address().to_string();
    let (code, _, error) = program(&["drain", "--admin", &admin]);
    assert!(
        code == 1 && error.contains(&admin) && error.contains("refused"),
        "{error}"
    );
}
