//! Requests that are broken, or made to be read in two ways: refused, closed, and not passed on.

use std::time::Duration;

use crate::harness::{Lab, Origin, Sortie, Wire};

/// Requests that must be refused with 400.
const REFUSED: &[(&str, &str)] = &[
    (
        "both lengths",
        "POST / HTTP/1.1\r\nHost: bank.example\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "both lengths, other order",
        "POST / HTTP/1.1\r\nHost: bank.example\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    (
        "two lengths that differ",
        "POST / HTTP/1.1\r\nHost: bank.example\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    ),
    (
        "two lengths in one header",
        "POST / HTTP/1.1\r\nHost: bank.example\r\nContent-Length: 5, 6\r\n\r\nhello!",
    ),
    (
        "a negative length",
        "POST / HTTP/1.1\r\nHost: bank.example\r\nContent-Length: -5\r\n\r\nhello",
    ),
    (
        "a length with a plus",
        "POST / HTTP/1.1\r\nHost: bank.example\r\nContent-Length: +5\r\n\r\nhello",
    ),
    (
        "a length in hex",
        "POST / HTTP/1.1\r\nHost: bank.example\r\nContent-Length: 0x5\r\n\r\nhello",
    ),
    (
        "a length too long for any number",
        "POST / HTTP/1.1\r\nHost: bank.example\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    ),
    (
        "an empty length",
        "POST / HTTP/1.1\r\nHost: bank.example\r\nContent-Length:\r\n\r\nhello",
    ),
    (
        "a coding that is not chunked",
        "POST / HTTP/1.1\r\nHost: bank.example\r\nTransfer-Encoding: identity\r\n\r\nhello",
    ),
    (
        "chunked that is not last",
        "POST / HTTP/1.1\r\nHost: bank.example\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked twice",
        "POST / HTTP/1.1\r\nHost: bank.example\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked misspelt",
        "POST / HTTP/1.1\r\nHost: bank.example\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked with a vertical tab",
        "POST / HTTP/1.1\r\nHost: bank.example\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked in HTTP/1.0",
        "POST / HTTP/1.0\r\nHost: bank.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a space before the colon",
        "POST / HTTP/1.1\r\nHost: bank.example\r\nContent-Length : 5\r\n\r\nhello",
    ),
    (
        "a header without a name",
        "GET / HTTP/1.1\r\nHost: bank.example\r\n: x\r\n\r\n",
    ),
    (
        "a header without a colon",
        "GET / HTTP/1.1\r\nHost: bank.example\r\nnothing\r\n\r\n",
    ),
    (
        "an obsolete fold",
        "GET / HTTP/1.1\r\nHost: bank.example\r\nX: a\r\n b\r\n\r\n",
    ),
    (
        "a fold before the first header",
        "GET / HTTP/1.1\r\n X: a\r\nHost: bank.example\r\n\r\n",
    ),
    (
        "a bare LF after a header",
        "GET / HTTP/1.1\r\nHost: bank.example\nX: a\r\n\r\n",
    ),
    (
        "a bare LF after the request line",
        "GET / HTTP/1.1\nHost: bank.example\r\n\r\n",
    ),
    (
        "a bare CR in a value",
        "GET / HTTP/1.1\r\nHost: bank.example\r\nX: a\rb\r\n\r\n",
    ),
    (
        "a bare CR before a colon",
        "GET / HTTP/1.1\r\nHost: bank.example\r\nX\r: a\r\n\r\n",
    ),
    (
        "a NUL in a value",
        "GET / HTTP/1.1\r\nHost: bank.example\r\nX: a\0b\r\n\r\n",
    ),
    (
        "a control byte in a value",
        "GET / HTTP/1.1\r\nHost: bank.example\r\nX: a\x01b\r\n\r\n",
    ),
    (
        "DEL in a value",
        "GET / HTTP/1.1\r\nHost: bank.example\r\nX: a\x7fb\r\n\r\n",
    ),
    (
        "a control byte in a name",
        "GET / HTTP/1.1\r\nHost: bank.example\r\nX\x01: a\r\n\r\n",
    ),
    (
        "a control byte in the target",
        "GET /\x01 HTTP/1.1\r\nHost: bank.example\r\n\r\n",
    ),
    (
        "two Hosts",
        "GET / HTTP/1.1\r\nHost: bank.example\r\nHost: bank.example\r\n\r\n",
    ),
    (
        "two Hosts that differ",
        "GET / HTTP/1.1\r\nHost: bank.example\r\nHost: other.example\r\n\r\n",
    ),
    ("no Host in HTTP/1.1", "GET / HTTP/1.1\r\nX: a\r\n\r\n"),
    (
        "a Host that is none",
        "GET / HTTP/1.1\r\nHost: bank.example/evil\r\n\r\n",
    ),
    (
        "a Host with user info",
        "GET / HTTP/1.1\r\nHost: me@bank.example\r\n\r\n",
    ),
    (
        "a Host with a space",
        "GET / HTTP/1.1\r\nHost: bank .example\r\n\r\n",
    ),
    (
        "a Host with a bad port",
        "GET / HTTP/1.1\r\nHost: bank.example:99999\r\n\r\n",
    ),
    (
        "three spaces in the request line",
        "GET / x HTTP/1.1\r\nHost: bank.example\r\n\r\n",
    ),
    (
        "two spaces after the method",
        "GET  / HTTP/1.1\r\nHost: bank.example\r\n\r\n",
    ),
    (
        "a method that is no token",
        "G(T / HTTP/1.1\r\nHost: bank.example\r\n\r\n",
    ),
    (
        "a version that is none",
        "GET / HTTP/x\r\nHost: bank.example\r\n\r\n",
    ),
    ("no version", "GET /\r\nHost: bank.example\r\n\r\n"),
    ("not HTTP", "hello, is anybody there?\r\n\r\n"),
];

/// Bodies in chunks that break off the rules, after a head that is fine.
const BAD_CHUNKS: &[(&str, &str)] = &[
    ("a size that is no number", "xyz\r\nhello\r\n0\r\n\r\n"),
    ("a size with 0x", "0x5\r\nhello\r\n0\r\n\r\n"),
    ("a negative size", "-5\r\nhello\r\n0\r\n\r\n"),
    (
        "a size too long for any number",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    ),
    ("an empty size", "\r\nhello\r\n0\r\n\r\n"),
    ("a size followed by a bare LF", "5\nhello\r\n0\r\n\r\n"),
    ("data longer than its size", "5\r\nhello!\r\n0\r\n\r\n"),
    ("data followed by a bare LF", "5\r\nhello\n0\r\n\r\n"),
    ("a bare CR in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
    ("a bare LF in an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
    (
        "a control byte in a trailer",
        "5\r\nhello\r\n0\r\nX: a\0\r\n\r\n",
    ),
];

fn sortie_before(bank: &Origin, lab: &Lab) -> Sortie {
    Sortie::builder(&lab.config(bank.port()))
        .with(|options| options.workers = Some(1))
        .start()
}

#[test]
fn a_request_that_can_be_read_in_two_ways_is_refused_and_nothing_reaches_the_server() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = sortie_before(&bank, &lab);
    let mut wrong = Vec::new();
    for (what, request) in REFUSED {
        let mut wire = sortie.wire();
        // A request behind it would be the smuggled one.
        let behind = "GET /smuggled HTTP/1.1\r\nHost: bank.example\r\n\r\n";
        let answer = wire.send(format!("{request}{behind}")).answer();
        if answer.status != 400 {
            wrong.push(format!("{what}: {} {}", answer.status, answer.text()));
        } else if !wire.is_closed() {
            wrong.push(format!("{what}: the connection went on"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let reached = bank.asked();
    assert!(reached.is_empty(), "{reached:#?}");
    sortie.logged(&[" 400 DPE "]);
}

#[test]
fn a_refused_request_is_told_what_is_wrong_with_it() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = sortie_before(&bank, &lab);
    for (what, word) in [("two Hosts", "Host"), ("both lengths", "Transfer-Encoding")] {
        let (_, request) = REFUSED.iter().find(|(name, _)| *name == what).unwrap();
        let answer = sortie.wire().send(request).answer();
        let text = answer.text();
        assert!(
            text.to_lowercase().contains(&word.to_lowercase()),
            "{what}: {text}"
        );
    }
}

#[test]
fn a_body_whose_chunks_break_the_rules_ends_the_request_and_the_connection() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = sortie_before(&bank, &lab);
    let mut wrong = Vec::new();
    for (what, body) in BAD_CHUNKS {
        let mut wire = sortie.wire();
        let head =
            "POST /count HTTP/1.1\r\nHost: bank.example\r\nTransfer-Encoding: chunked\r\n\r\n";
        let behind = "GET /smuggled HTTP/1.1\r\nHost: bank.example\r\n\r\n";
        let answer = wire.send(format!("{head}{body}{behind}")).answer();
        if answer.status != 400 {
            wrong.push(format!("{what}: {} {}", answer.status, answer.text()));
        } else if !wire.is_closed() {
            wrong.push(format!("{what}: the connection went on"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // A head may have left before its body broke; but no server may ever take the body for whole,
    // and what came behind it is no request.
    assert!(
        !bank
            .asked()
            .iter()
            .any(|asked| asked.target.contains("smuggled"))
    );
    assert!(
        !sortie
            .access_log()
            .iter()
            .any(|line| line.contains("/count") && line.contains(" 200 "))
    );
}

#[test]
fn an_oversized_head_is_431_and_closed() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = sortie_before(&bank, &lab);
    let long = format!("X: {}\r\n", "a".repeat(70 * 1024));
    let many: String = (0..200).map(|n| format!("X-{n}: a\r\n")).collect();
    let target = "a".repeat(70 * 1024);
    for head in [
        format!("GET / HTTP/1.1\r\nHost: bank.example\r\n{long}\r\n"),
        format!("GET / HTTP/1.1\r\nHost: bank.example\r\n{many}\r\n"),
        format!("GET /{target} HTTP/1.1\r\nHost: bank.example\r\n\r\n"),
    ] {
        let mut wire = sortie.wire();
        let answer = wire.send(&head).answer();
        assert_eq!(answer.status, 431, "{answer:?}");
        assert!(wire.is_closed());
    }
    assert_eq!(bank.seen().len(), 0);
}

#[test]
fn a_head_without_end_is_431_as_soon_as_it_is_too_long() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = sortie_before(&bank, &lab);
    let mut wire = sortie.wire();
    wire.send("GET / HTTP/1.1\r\nHost: bank.example\r\n");
    for _ in 0..100 {
        wire.send(format!("X: {}\r\n", "a".repeat(1000)));
    }
    assert_eq!(wire.answer().status, 431);
    assert_eq!(bank.seen().len(), 0);
}

#[test]
fn a_head_just_below_the_bounds_passes() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = sortie_before(&bank, &lab);
    let big = format!("X: {}\r\n", "a".repeat(8 * 1024));
    let head = format!("GET / HTTP/1.1\r\nHost: bank.example\r\n{big}\r\n");
    sortie.wire().send(head).answer().expect(200);
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_body_never_makes_a_whole_request() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = sortie_before(&bank, &lab);
    let bodies = [
        "Content-Length: 100\r\n\r\nhalf",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ];
    for body in bodies {
        let mut wire: Wire = sortie.wire();
        wire.send(format!(
            "POST /count HTTP/1.1\r\nHost: bank.example\r\n{body}"
        ));
        wire.stream.shutdown(std::net::Shutdown::Write).unwrap();
        let got = wire.hears(Duration::from_millis(500));
        let got = String::from_utf8_lossy(&got);
        assert!(!got.contains(" 200 "), "{got}");
    }
    assert!(
        !sortie
            .access_log()
            .iter()
            .any(|line| line.contains(" 200 "))
    );
    // What had come was passed on as it came, and no more than that.
    assert!(bank.taken() <= 8, "{}", bank.taken());
}

#[test]
fn empty_lines_before_a_request_are_passed_over() {
    // RFC 9112 section 2.2: at least one; old clients send it behind a body.
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = sortie_before(&bank, &lab);
    let mut wire = sortie.wire();
    wire.send("\r\nGET / HTTP/1.1\r\nHost: bank.example\r\n\r\n")
        .answer()
        .expect(200);
}

#[test]
fn tabs_and_bytes_beyond_ascii_in_a_value_are_passed_on() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = sortie_before(&bank, &lab);
    let head = "GET / HTTP/1.1\r\nHost: bank.example\r\nX-A: a\tb\r\nX-B: grün\r\n\r\n";
    sortie.wire().send(head).answer().expect(200);
    let asked = &bank.asked()[0];
    assert_eq!(
        (asked.one("x-a"), asked.one("x-b")),
        (Some("a\tb"), Some("grün"))
    );
}
