//! Ending politely: what is under way is finished, nothing new is begun, and there is a deadline.

use std::time::{Duration, Instant};

use crate::harness::{Ended, Lab, Process, Sortie, eventually, get};

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
    let mut wire = crate::harness::Wire::connect(process.admin);
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
    let mut wire = crate::harness::Wire::connect(process.address);
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
