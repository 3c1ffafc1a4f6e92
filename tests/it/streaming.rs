//! Bodies pass through as they come, both ways, at the pace of the slower side.

use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::{HeaderMap, Request};

use crate::harness::{Ended, Lab, Wire, chunked, eventually, h2};

const MIB: usize = 1024 * 1024;
/// More than every buffer on the way can hold: sockets of the kernel included.
const TOO_MUCH: usize = 256 * MIB;

fn post(path: &str, more: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: bank.example\r\n{more}\r\n")
}

#[test]
fn a_piece_of_the_request_is_answered_before_the_next_one_is_sent() {
    let lab = Lab::new();
    for alpn in [&["http/1.1"][..], &["h2"][..]] {
        let bank = lab.bank().alpn(alpn).start();
        let sortie = lab.sortie(bank.port());
        let mut wire = sortie.wire();
        wire.send(post("/echo", "Transfer-Encoding: chunked\r\n"));
        wire.send("5\r\nfirst\r\n");
        let head = wire.head();
        assert_eq!(head.status, 200);
        assert_eq!(head.header("transfer-encoding"), Some("chunked"));
        let heard = String::from_utf8(wire.bytes(10)).unwrap();
        assert_eq!(heard, "5\r\nfirst\r\n");
        wire.send("6\r\nsecond\r\n");
        assert_eq!(
            String::from_utf8(wire.bytes(11)).unwrap(),
            "6\r\nsecond\r\n"
        );
        wire.send("0\r\n\r\n");
        assert_eq!(String::from_utf8(wire.bytes(5)).unwrap(), "0\r\n\r\n");
    }
}

#[test]
fn a_big_body_goes_up_whole() {
    let lab = Lab::new();
    for alpn in [&["http/1.1"][..], &["h2"][..]] {
        let bank = lab.bank().alpn(alpn).start();
        let sortie = lab.sortie(bank.port());
        let mut wire = sortie.wire();
        wire.send(post("/count", &format!("Content-Length: {}\r\n", 32 * MIB)));
        let piece = vec![b'y'; MIB];
        for _ in 0..32 {
            wire.send(&piece);
        }
        assert_eq!(wire.answer().expect(200).text(), (32 * MIB).to_string());
        // The connection is fit for another request.
        wire.get("bank.example", "/").expect(200);
    }
}

#[test]
fn a_big_body_comes_down_whole_with_its_length_or_in_chunks() {
    let lab = Lab::new();
    for alpn in [&["http/1.1"][..], &["h2"][..]] {
        let bank = lab.bank().alpn(alpn).start();
        let sortie = lab.sortie(bank.port());
        let mut wire = sortie.wire();
        let answer = wire
            .get("bank.example", &format!("/bytes/{}", 32 * MIB))
            .expect(200);
        assert_eq!((answer.body.len(), answer.ended), (32 * MIB, Ended::Length));
        let answer = wire
            .get("bank.example", &format!("/stream/{}", 32 * MIB))
            .expect(200);
        assert_eq!((answer.body.len(), answer.ended), (32 * MIB, Ended::Chunks));
    }
}

#[test]
fn a_server_that_does_not_read_holds_the_client_back() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    let mut wire = sortie.wire();
    wire.send(post("/ignore", &format!("Content-Length: {TOO_MUCH}\r\n")));
    wire.stream
        .set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let piece = vec![b'y'; MIB];
    let mut sent = 0;
    let stopped = loop {
        match wire.stream.write(&piece) {
            Ok(written) => sent += written,
            Err(error) => break error.kind(),
        }
        assert!(
            sent < TOO_MUCH,
            "the whole body was taken although nobody reads it"
        );
    };
    assert!(
        matches!(stopped, ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{stopped}"
    );
}

#[test]
fn a_client_that_does_not_read_holds_the_server_back() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    let mut wire = sortie.wire();
    let answer = wire.send(format!(
        "GET /stream/{TOO_MUCH} HTTP/1.1\r\nHost: bank.example\r\n\r\n"
    ));
    assert_eq!(answer.head().status, 200);
    let mut before = bank.given();
    let settled = eventually("the server is held back", || {
        std::thread::sleep(Duration::from_millis(300));
        let now = bank.given();
        let same = now == before;
        before = now;
        same.then_some(now)
    });
    assert!(
        settled < TOO_MUCH,
        "all of it was given although nobody reads it"
    );
}

#[test]
fn trailers_of_an_answer_in_chunks_arrive() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    let request = "GET /trailers HTTP/1.1\r\nHost: bank.example\r\nTE: trailers\r\n\r\n";
    let answer = sortie.wire().send(request).answer().expect(200);
    assert_eq!(answer.text(), "body\n");
    assert_eq!(answer.trailers, [("x-sum".to_string(), "42".to_string())]);
    // The answer is whole with them, and the client did not go away.
    sortie.logged(&["/trailers", " 200 - via_upstream "]);
}

#[test]
fn a_grpc_call_passes_with_its_trailers_over_http_2_on_both_sides() {
    let lab = Lab::new();
    let bank = lab.bank().alpn(&["h2"]).start();
    let sortie = lab.sortie(bank.port());
    let call = Request::post("http://bank.example/grpc")
        .header("te", "trailers")
        .header("content-type", "application/grpc");
    let answer = h2(
        sortie.address(),
        call,
        vec![Bytes::from_static(b"\0\0\0\0\0")],
        None,
    );
    assert_eq!(
        (answer.status, answer.body.as_slice()),
        (200, &b"body\n"[..])
    );
    assert_eq!(answer.headers["content-type"], "application/grpc");
    assert_eq!(answer.trailers.unwrap()["grpc-status"], "0");
    sortie.logged(&[" 200 - via_upstream "]);
    let seen = bank.only();
    assert_eq!(seen.requests[0].version, "HTTP/2.0");
    assert_eq!(seen.requests[0].one("te"), Some("trailers"));
}

#[test]
fn trailers_of_a_request_arrive_and_come_back() {
    let lab = Lab::new();
    let bank = lab.bank().alpn(&["h2"]).start();
    let sortie = lab.sortie(bank.port());
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "7".parse().unwrap());
    let call = Request::post("http://bank.example/echo").header("te", "trailers");
    let body = vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")];
    let answer = h2(sortie.address(), call, body, Some(trailers));
    assert_eq!(
        (answer.status, answer.body.as_slice()),
        (200, &b"onetwo"[..])
    );
    assert_eq!(answer.trailers.unwrap()["x-sum"], "7");
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it_and_then_its_answer() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    let mut wire = sortie.wire();
    wire.send(post(
        "/echo",
        "Content-Length: 4\r\nExpect: 100-continue\r\n",
    ));
    assert_eq!(wire.head().status, 100);
    wire.send("body");
    assert_eq!(wire.answer().expect(200).text(), "body");
}

#[test]
fn a_client_that_waits_for_100_continue_learns_of_a_refusal_without_sending_its_body() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    let mut wire = sortie.wire();
    // Unknown to the table: nothing was read of the body, so the answer is the first thing that comes.
    let request = "POST /x HTTP/1.1\r\nHost: nowhere.example\r\nContent-Length: 4\r\n\
                   Expect: 100-continue\r\n\r\n";
    assert_eq!(wire.send(request).head().status, 502);
    assert_eq!(bank.seen().len(), 0);
}

#[test]
fn a_websocket_carries_bytes_both_ways_after_its_handshake() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    let mut wire = upgraded(&sortie.wire().stream);
    let mut sent = 0;
    for nth in 0..20 {
        let message = format!("message {nth} ").repeat(nth * 100 + 1);
        sent += message.len();
        wire.send(&message);
        assert_eq!(
            String::from_utf8(wire.bytes(message.len())).unwrap(),
            message
        );
    }
    let asked = &bank.asked()[0];
    assert_eq!(asked.one("upgrade"), Some("websocket"));
    assert_eq!(
        asked.one("sec-websocket-key"),
        Some("dGhlIHNhbXBsZSBub25jZQ==")
    );
    drop(wire);
    eventually("the bank sees the client leave", || {
        (bank.open() == 0).then_some(())
    });
    // The origin says every byte back.
    sortie.logged(&["/upgrade", &format!(" {sent} {sent} ")]);
}

#[test]
fn a_websocket_that_the_server_ends_is_ended_for_the_client() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    let mut wire = upgraded(&sortie.wire().stream);
    wire.send("x").bytes(1);
    bank.stop();
    assert!(wire.is_closed());
}

/// Performs the handshake of a WebSocket on a connection to sortie.
fn upgraded(stream: &std::net::TcpStream) -> Wire {
    let mut wire = Wire::connect(stream.peer_addr().unwrap());
    let request = "GET /upgrade HTTP/1.1\r\nHost: bank.example\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let answer = wire.send(request).answer();
    assert_eq!(answer.status, 101, "{answer:?}");
    assert_eq!(answer.header("upgrade"), Some("websocket"));
    wire
}

#[test]
fn an_answer_that_comes_before_the_body_is_passed_on_at_once() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    let mut wire = sortie.wire();
    wire.send(post("/refuse", "Content-Length: 1000000\r\n"));
    let began = Instant::now();
    assert_eq!(wire.head().status, 417);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn an_answer_without_a_body_has_none() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    let mut wire = sortie.wire();
    let head = "HEAD /bytes/1000 HTTP/1.1\r\nHost: bank.example\r\n\r\n";
    let answer = wire.send(head).answer_to("HEAD");
    assert_eq!(
        (answer.status, answer.header("content-length")),
        (200, Some("1000"))
    );
    for status in [204, 304] {
        let answer = wire.get("bank.example", &format!("/status/{status}"));
        assert_eq!(answer.status, status);
    }
    // Had one of them left a byte on the wire, this answer would be garbled.
    assert_eq!(
        wire.get("bank.example", "/").expect(200).text(),
        "hello from bank"
    );
}

#[test]
fn chunks_of_any_size_arrive_as_one_body() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    let mut wire = sortie.wire();
    let pieces: Vec<String> = (1..60).map(|n| "z".repeat(n * 7)).collect();
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    wire.send(post("/echo", "Transfer-Encoding: chunked\r\n") + &chunked(&pieces));
    assert_eq!(wire.answer().expect(200).text(), pieces.concat());
}
