//! Clients that take their time, by weakness or by intent: bounded, and in nobody's way.

use std::time::{Duration, Instant};

use crate::harness::{Lab, Sortie, Wire, eventually};

/// Far above every bound below, far below a test that hangs.
const SOON: Duration = Duration::from_secs(8);

fn bounded(lab: &Lab, port: u16) -> Sortie {
    let limits = "limits: {headTimeout: 500ms, idleTimeout: 1s, streamIdleTimeout: 700ms}\n";
    Sortie::start(&(limits.to_string() + &lab.config(port)))
}

#[test]
fn a_head_that_comes_byte_by_byte_is_bounded_as_a_whole() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = bounded(&lab, bank.port());
    let mut wire = sortie.wire();
    let began = Instant::now();
    wire.send("GET / HTTP/1.1\r\n");
    // Each byte comes well within any bound between two bytes.
    let heard = loop {
        wire.send("X");
        let heard = wire.hears(Duration::from_millis(50));
        if !heard.is_empty() || closed(&wire) {
            break heard;
        }
        assert!(began.elapsed() < SOON, "the head has no bound");
    };
    let heard = String::from_utf8_lossy(&heard);
    assert!(
        heard.is_empty() || heard.starts_with("HTTP/1.1 408"),
        "{heard}"
    );
    assert_eq!(bank.seen().len(), 0);
}

fn closed(wire: &Wire) -> bool {
    let mut byte = [0];
    wire.stream.set_nonblocking(true).unwrap();
    let peeked = wire.stream.peek(&mut byte);
    wire.stream.set_nonblocking(false).unwrap();
    match peeked {
        Ok(read) => read == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = bounded(&lab, bank.port());
    let (mut silent, mut used) = (sortie.wire(), sortie.wire());
    used.get("bank.example", "/").expect(200);
    let began = Instant::now();
    assert!(silent.is_closed() && used.is_closed());
    assert!(began.elapsed() < SOON);
}

#[test]
fn a_body_that_stops_coming_ends_the_request() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = bounded(&lab, bank.port());
    let mut wire = sortie.wire();
    wire.send("POST /count HTTP/1.1\r\nHost: bank.example\r\nContent-Length: 100\r\n\r\nhalf");
    let answer = wire.answer();
    assert!(matches!(answer.status, 400 | 408 | 504), "{answer:?}");
    assert!(wire.is_closed());
    eventually("the bank is rid of it", || (bank.open() == 0).then_some(()));
}

#[test]
fn a_body_that_keeps_coming_is_not_ended() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = bounded(&lab, bank.port());
    let mut wire = sortie.wire();
    wire.send("POST /count HTTP/1.1\r\nHost: bank.example\r\nContent-Length: 10\r\n\r\n");
    for _ in 0..10 {
        assert!(wire.hears(Duration::from_millis(150)).is_empty());
        wire.send("x");
    }
    assert_eq!(wire.answer().expect(200).text(), "10");
}

#[test]
fn an_answer_that_nobody_reads_is_given_up() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = bounded(&lab, bank.port());
    let mut wire = sortie.wire();
    wire.send("GET /stream/500000000 HTTP/1.1\r\nHost: bank.example\r\n\r\n");
    eventually("the bank is rid of it", || {
        (!bank.seen().is_empty() && bank.open() == 0).then_some(())
    });
}

#[test]
fn nor_does_a_short_idle_time_keep_it() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let limits = "limits: {idleTimeout: 500ms, streamIdleTimeout: 700ms}\n";
    let sortie = Sortie::start(&(limits.to_string() + &lab.config(bank.port())));
    let mut wire = sortie.wire();
    wire.send("GET /stream/500000000 HTTP/1.1\r\nHost: bank.example\r\n\r\n");
    eventually("the bank is rid of it", || {
        (!bank.seen().is_empty() && bank.open() == 0).then_some(())
    });
}

#[test]
fn an_answer_that_stops_coming_is_cut_off() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = bounded(&lab, bank.port());
    let mut wire = sortie.wire();
    let answer = wire.get("bank.example", "/drip/2/60000");
    assert_eq!(answer.ended, crate::harness::Ended::CutOff, "{answer:?}");
    assert_eq!(answer.text(), "line 0\n");
}

#[test]
fn many_unfinished_heads_are_in_nobodys_way() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    let mut held: Vec<Wire> = (0..300).map(|_| sortie.wire()).collect();
    for wire in &mut held {
        wire.send("GET / HTTP/1.1\r\nHost: bank.exam");
    }
    let began = Instant::now();
    for _ in 0..10 {
        sortie.get("bank.example", "/").expect(200);
    }
    assert!(began.elapsed() < SOON);
    assert_eq!(bank.asked().len(), 10);
}

#[test]
fn an_http_2_client_that_stops_after_its_preface_is_closed() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = bounded(&lab, bank.port());
    let mut wire = sortie.wire();
    wire.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let began = Instant::now();
    wire.rest();
    assert!(began.elapsed() < SOON);
}

#[test]
fn an_http_2_client_that_takes_no_byte_of_its_answer_is_let_go() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = bounded(&lab, bank.port());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(sortie.address())
            .await
            .unwrap();
        let mut builder = h2::client::Builder::new();
        // It answers every ping, and never gives its stream a window.
        let (mut sender, driving) = builder
            .initial_window_size(0)
            .handshake::<_, bytes::Bytes>(stream)
            .await
            .unwrap();
        let driving = tokio::spawn(driving);
        let request = http::Request::get("http://bank.example/stream/500000000")
            .body(())
            .unwrap();
        let (answer, _) = sender.send_request(request, true).unwrap();
        let _held = answer.await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(15), driving).await;
        ended.expect("it is let go").ok();
    });
    eventually("the bank is rid of it", || (bank.open() == 0).then_some(()));
}
