//! Smuggling attempts, and honest requests that look a little like them.
//!
//! Owns: the table of both, and the checks that every row goes through.
//! Never: is built outside tests.
//! Called by: `cargo test`.
//!
//! Each row is fed whole, byte by byte, and cut at every point, and then through hyper as it will
//! be used: cut off at the violation. What hyper then takes for complete must be what came before.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use super::{Strict, StrictLimits, Verdict, Violation};
use Violation::{
    BareCr, BareLf, BodyOfConnect, ChunkEnd, ChunkExtensions, ChunkSize, ControlByte, EmptyLines,
    Encoding, EncodingInHttp10, FieldName, Folding, HeadTooLarge, HostInvalid, HostMissing,
    HostRepeated, LengthAndEncoding, LengthInvalid, LengthRepeated, Method, RequestLine,
    SpaceBeforeColon, Target, TooManyHeaders, TrailerField, TrailersTooLarge, Version,
};

const LIMITS: StrictLimits = StrictLimits {
    max_head_bytes: 1024,
    max_headers: 20,
};

/// What a client sends, what is wrong with it, and how many requests are whole before that.
struct Bad {
    bytes: Vec<u8>,
    reason: Violation,
    whole: usize,
}

fn bad(bytes: impl AsRef<[u8]>, reason: Violation) -> Bad {
    after(0, bytes, reason)
}

fn after(whole: usize, bytes: impl AsRef<[u8]>, reason: Violation) -> Bad {
    Bad {
        bytes: bytes.as_ref().to_vec(),
        reason,
        whole,
    }
}

/// A POST with these header lines, and what follows its head.
fn post(lines: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n{body}")
}

/// A chunked POST with this body.
fn chunks(body: &str) -> String {
    post("Transfer-Encoding: chunked", body)
}

fn request_lines() -> Vec<Bad> {
    let line = |line: &str, reason| bad(format!("{line}\r\nHost: a\r\n\r\n"), reason);
    vec![
        line("GET  / HTTP/1.1", RequestLine),
        line("GET /  HTTP/1.1", RequestLine),
        line("GET / HTTP/1.1 ", RequestLine),
        line(" GET / HTTP/1.1", RequestLine),
        line("GET\t/ HTTP/1.1", RequestLine),
        line("GET /\tHTTP/1.1", RequestLine),
        line("GET / HTTP/1.1\t", RequestLine),
        line("GET /", RequestLine),
        line("GET", RequestLine),
        line("GET ", RequestLine),
        line("GET / ", RequestLine),
        line("GET / HTTP/", RequestLine),
        line("G(T / HTTP/1.1", Method),
        line("G\u{e9}T / HTTP/1.1", Method),
        line("GET:/ HTTP/1.1", Method),
        line("\0GET / HTTP/1.1", ControlByte),
        line("G\x0bT / HTTP/1.1", ControlByte),
        line("GET /a\x0b HTTP/1.1", ControlByte),
        line("GET /a\0b HTTP/1.1", ControlByte),
        line("GET /a\x7f HTTP/1.1", ControlByte),
        line("GET /a#b HTTP/1.1", Target),
        line("GET /\u{e9} HTTP/1.1", Target),
        line("GET /a\\b HTTP/1.1", Target),
        line("GET a HTTP/1.1", Target),
        line("GET * HTTP/1.1", Target),
        line("OPTIONS *a HTTP/1.1", Target),
        line("GET a:80 HTTP/1.1", Target),
        line("GET ftp://a/ HTTP/1.1", Target),
        line("GET http:/a HTTP/1.1", Target),
        line("GET http:///a HTTP/1.1", Target),
        line("GET http://u@a/ HTTP/1.1", Target),
        line("GET http://a:x/ HTTP/1.1", Target),
        line("GET http://a b/ HTTP/1.1", Version),
        line("GET http:// HTTP/1.1", Target),
        line("CONNECT / HTTP/1.1", Target),
        line("CONNECT a HTTP/1.1", Target),
        line("CONNECT a:0 HTTP/1.1", Target),
        line("CONNECT http://a/ HTTP/1.1", Target),
        line("CONNECT * HTTP/1.1", Target),
        line("GET / HTTP/2.0", Version),
        line("GET / HTTP/1.2", Version),
        line("GET / HTTP/0.9", Version),
        line("GET / HTTP/1.10", Version),
        line("GET / HTTP/01.1", Version),
        line("GET / http/1.1", Version),
        line("GET / HTTP/1.1a", Version),
        bad("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Target),
        bad("GET /\r\n\r\n", RequestLine),
        bad(
            "\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            EmptyLines,
        ),
        bad("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", BareLf),
        bad("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", BareCr),
        bad("\x16\x03\x01\x02\x00", ControlByte),
    ]
}

fn lines() -> Vec<Bad> {
    let get = |rest: &str, reason| bad(format!("GET / HTTP/1.1\r\nHost: a\r\n{rest}"), reason);
    vec![
        bad("GET / HTTP/1.1\nHost: a\r\n\r\n", BareLf),
        bad("GET / HTTP/1.1\r\nHost: a\n\r\n", BareLf),
        bad("GET / HTTP/1.1\r\nHost: a\n\n", BareLf),
        bad("GET / HTTP/1.1\rHost: a\r\n\r\n", BareCr),
        bad("GET / HTTP/1.1\r\n\nHost: a\r\n\r\n", BareLf),
        get("\n", BareLf),
        get("\r\r\n", BareCr),
        get("X: a\rb\r\n\r\n", BareCr),
        get("X: a\r\r\n\r\n", BareCr),
        get("X: a\nY: b\r\n\r\n", BareLf),
        get("X: a\r\n\rGET", BareCr),
        get("X: a\0b\r\n\r\n", ControlByte),
        get("X: a\x08b\r\n\r\n", ControlByte),
        get("X: a\x7fb\r\n\r\n", ControlByte),
        get("X\0: a\r\n\r\n", ControlByte),
        get("X: a\r\n b\r\n\r\n", Folding),
        get("X: a\r\n\tb\r\n\r\n", Folding),
        get("X: a\r\n \r\n\r\n", Folding),
        bad("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Folding),
        bad("GET / HTTP/1.1\r\n\tX: a\r\nHost: a\r\n\r\n", Folding),
        get("X : a\r\n\r\n", SpaceBeforeColon),
        get("X\t: a\r\n\r\n", SpaceBeforeColon),
        get("Content-Length : 5\r\n\r\n", SpaceBeforeColon),
        get("Transfer-Encoding : chunked\r\n\r\n", SpaceBeforeColon),
        get("Transfer Encoding: chunked\r\n\r\n", SpaceBeforeColon),
        get(": a\r\n\r\n", FieldName),
        get("X\r\n\r\n", FieldName),
        get("Content-Length\r\n\r\n", FieldName),
        get("X(Y): a\r\n\r\n", FieldName),
        get("\u{e9}: a\r\n\r\n", FieldName),
        get("\"X\": a\r\n\r\n", FieldName),
        get("Host\n: b\r\n\r\n", BareLf),
    ]
}

fn hosts() -> Vec<Bad> {
    let host = |value: &str| {
        bad(
            format!("GET / HTTP/1.1\r\nHost: {value}\r\n\r\n"),
            HostInvalid,
        )
    };
    vec![
        bad("GET / HTTP/1.1\r\n\r\n", HostMissing),
        bad("GET http://a/ HTTP/1.1\r\n\r\n", HostMissing),
        bad(
            "GET / HTTP/1.1\r\nHosts: a\r\nX-Host: a\r\n\r\n",
            HostMissing,
        ),
        bad("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", HostRepeated),
        bad("GET / HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n", HostRepeated),
        bad(
            "GET / HTTP/1.0\r\nHost: a\r\nX: y\r\nHost: b\r\n\r\n",
            HostRepeated,
        ),
        host(""),
        host("  "),
        host("a b"),
        host("a, b"),
        host("a\tb"),
        host("\ta"),
        host("a/b"),
        host("u@a"),
        host("a:80:80"),
        host("a:"),
        host("a:65536"),
        host("a:-1"),
        host("[::1"),
        host("::1"),
        host("a%00"),
        host("b\u{e9}"),
        host(&"a".repeat(300)),
    ]
}

fn encodings() -> Vec<Bad> {
    let line = |line: &str, reason| bad(post(line, "0\r\n\r\n"), reason);
    let smuggled = "0\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n";
    vec![
        // CL.TE and TE.CL, either way round.
        bad(
            post("Content-Length: 6\r\nTransfer-Encoding: chunked", smuggled),
            LengthAndEncoding,
        ),
        bad(
            post("Transfer-Encoding: chunked\r\nContent-Length: 6", smuggled),
            LengthAndEncoding,
        ),
        line(
            "Content-Length: 0\r\nTransfer-Encoding: chunked",
            LengthAndEncoding,
        ),
        line(
            "Content-Length: 5\r\nTransfer-Encoding: identity",
            LengthAndEncoding,
        ),
        line(
            "Transfer-Encoding: chunked\r\nX: y\r\ncontent-LENGTH: 5",
            LengthAndEncoding,
        ),
        // TE.TE: one of the two readers must not see it.
        line("Transfer-Encoding: xchunked", Encoding),
        line("Transfer-Encoding: chunkedx", Encoding),
        line("Transfer-Encoding: chunke", Encoding),
        line("Transfer-Encoding: x", Encoding),
        line("Transfer-Encoding:", Encoding),
        line("Transfer-Encoding: \tchunked", Encoding),
        line("Transfer-Encoding:\tchunked", Encoding),
        line("Transfer-Encoding: chunked\t", Encoding),
        line("Transfer-Encoding: \x0bchunked", ControlByte),
        line("Transfer-Encoding:\x0cchunked", ControlByte),
        line("Transfer-Encoding: chunked\x0b", ControlByte),
        line("Transfer-Encoding: \0chunked", ControlByte),
        line("Transfer-Encoding: \u{a0}chunked", Encoding),
        line("Transfer-Encoding: \"chunked\"", Encoding),
        line("Transfer-Encoding: 'chunked'", Encoding),
        line("Transfer-Encoding: chunked, identity", Encoding),
        line("Transfer-Encoding: identity, chunked", Encoding),
        line("Transfer-Encoding: chunked, chunked", Encoding),
        line("Transfer-Encoding: gzip, chunked", Encoding),
        line("Transfer-Encoding: chunked;q=1", Encoding),
        line("Transfer-Encoding: ,chunked", Encoding),
        line("Transfer-Encoding: identity", Encoding),
        line(
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            Encoding,
        ),
        line(
            "Transfer-Encoding: chunked\r\nTransfer-encoding: cow",
            Encoding,
        ),
        line(
            "Transfer-Encoding: cow\r\nTransfer-Encoding: chunked",
            Encoding,
        ),
        line(
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            Encoding,
        ),
        line("Transfer-Encoding:\r\n chunked", Encoding),
        line("X: y\r\n Transfer-Encoding: chunked", Folding),
        line("X: y\nTransfer-Encoding: chunked", BareLf),
        line("X: y\rTransfer-Encoding: chunked", BareCr),
        line(
            &format!("Transfer-Encoding: {}chunked", "x".repeat(300)),
            Encoding,
        ),
        bad(
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            EncodingInHttp10,
        ),
    ]
}

fn lengths() -> Vec<Bad> {
    let line = |line: &str, reason| bad(post(line, "0\r\n\r\n"), reason);
    vec![
        line("Content-Length: 5\r\nContent-Length: 6", LengthRepeated),
        line("Content-Length: 5\r\nContent-Length: 5", LengthRepeated),
        line("Content-Length: 0\r\nContent-Length: 5", LengthRepeated),
        line("Content-Length: 5, 5", LengthInvalid),
        line("Content-Length: 5,6", LengthInvalid),
        line("Content-Length: +5", LengthInvalid),
        line("Content-Length: -5", LengthInvalid),
        line("Content-Length: 0x5", LengthInvalid),
        line("Content-Length: 5 5", LengthInvalid),
        line("Content-Length: 5\t", LengthInvalid),
        line("Content-Length: 5a", LengthInvalid),
        line("Content-Length: 5.0", LengthInvalid),
        line("Content-Length: ", LengthInvalid),
        line("Content-Length: \u{ff15}", LengthInvalid),
        line("Content-Length: 18446744073709551616", LengthInvalid),
        line("Content-Length: 18446744073709551615", LengthInvalid),
        line("Content-Length: 99999999999999999999999999", LengthInvalid),
        line(
            &format!("Content-Length: {}", "0".repeat(300)),
            LengthInvalid,
        ),
        bad(
            "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 5\r\n\r\n",
            BodyOfConnect,
        ),
        bad(
            "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nTransfer-Encoding: chunked\r\n\r\n",
            BodyOfConnect,
        ),
        // A length that is too small makes a second request of the rest, which must be judged too.
        after(
            1,
            post("Content-Length: 3", "abcG@T / HTTP/1.1\r\n"),
            Method,
        ),
        after(1, post("Content-Length: 1", "a\0"), ControlByte),
        after(
            2,
            "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\n",
            BareLf,
        ),
    ]
}

fn bodies() -> Vec<Bad> {
    vec![
        bad(chunks("0\n\n"), BareLf),
        bad(chunks("0\r\n\n"), BareLf),
        bad(chunks("0\n\r\n"), BareLf),
        bad(chunks("0\r\r\n\r\n"), BareCr),
        bad(chunks("1\nA\r\n0\r\n\r\n"), BareLf),
        bad(chunks("\r\n0\r\n\r\n"), ChunkSize),
        bad(chunks(";a\r\n\r\n"), ChunkSize),
        bad(chunks("g\r\n"), ChunkSize),
        bad(chunks("0x1\r\na\r\n0\r\n\r\n"), ChunkSize),
        bad(chunks("+1\r\na\r\n0\r\n\r\n"), ChunkSize),
        bad(chunks("-1\r\na\r\n0\r\n\r\n"), ChunkSize),
        bad(chunks(" 1\r\na\r\n0\r\n\r\n"), ChunkSize),
        bad(chunks("1 \r\na\r\n0\r\n\r\n"), ChunkSize),
        bad(chunks("1\t\r\na\r\n0\r\n\r\n"), ChunkSize),
        bad(chunks("1 ;a\r\na\r\n0\r\n\r\n"), ChunkSize),
        bad(chunks("1,a\r\na\r\n0\r\n\r\n"), ChunkSize),
        bad(chunks("1_0\r\na\r\n0\r\n\r\n"), ChunkSize),
        bad(chunks("10000000000000000\r\n"), ChunkSize),
        bad(chunks("00000000000000001\r\na\r\n0\r\n\r\n"), ChunkSize),
        bad(chunks("fffffffffffffffff\r\n"), ChunkSize),
        bad(chunks("1\0\r\n"), ControlByte),
        // Extensions: a reader that ends the line at LF sees another size than one that does not.
        bad(chunks("1;a\nb\r\na\r\n0\r\n\r\n"), BareLf),
        bad(chunks("2;\nxx\r\n4c\r\n0\r\n\r\n"), BareLf),
        bad(chunks("1;a\rb\r\na\r\n0\r\n\r\n"), BareCr),
        bad(chunks("1;a\0\r\na\r\n0\r\n\r\n"), ControlByte),
        bad(
            chunks(&format!("1;{}\r\n", "a".repeat(9000))),
            ChunkExtensions,
        ),
        // The sum over the body counts, and not one line.
        bad(
            chunks(&format!("1;{}\r\na\r\n", "a".repeat(90)).repeat(100)),
            ChunkExtensions,
        ),
        // Data that is longer or shorter than its size said.
        bad(chunks("1\r\nab\r\n0\r\n\r\n"), ChunkEnd),
        bad(chunks("1\r\na0\r\n\r\n"), ChunkEnd),
        bad(chunks("3\r\na\r\n0\r\n\r\n"), ChunkEnd),
        bad(chunks("1\r\na\n0\r\n\r\n"), ChunkEnd),
        bad(chunks("1\r\na\rb0\r\n\r\n"), ChunkEnd),
        bad(chunks("1\r\na\r\n\r\n0\r\n\r\n"), ChunkSize),
        // Trailers.
        bad(chunks("0\r\nContent-Length: 5\r\n\r\n"), TrailerField),
        bad(
            chunks("0\r\ntransfer-encoding: chunked\r\n\r\n"),
            TrailerField,
        ),
        bad(chunks("0\r\nHost: b\r\n\r\n"), TrailerField),
        bad(chunks("0\r\nAuthorization: x\r\n\r\n"), TrailerField),
        bad(chunks("0\r\nX-Ok: 1\r\nCookie: a\r\n\r\n"), TrailerField),
        bad(chunks("0\r\nX: a\r\n b\r\n\r\n"), Folding),
        bad(chunks("0\r\nX : a\r\n\r\n"), SpaceBeforeColon),
        bad(chunks("0\r\nX: a\n\r\n"), BareLf),
        bad(chunks("0\r\nX: a\r\n\n"), BareLf),
        bad(chunks("0\r\nGET / HTTP/1.1\r\n\r\n"), SpaceBeforeColon),
        bad(chunks("0\r\nX\r\n\r\n"), FieldName),
        bad(
            chunks(&format!("0\r\n{}\r\n", "X: a\r\n".repeat(21))),
            TooManyHeaders,
        ),
        bad(
            chunks(&format!("0\r\nX: {}\r\n\r\n", "a".repeat(9000))),
            TrailersTooLarge,
        ),
        after(1, chunks("0\r\n\r\nX\n"), BareLf),
    ]
}

fn sizes() -> Vec<Bad> {
    let host = "GET / HTTP/1.1\r\nHost: a\r\n";
    vec![
        bad(
            format!("GET /{} HTTP/1.1\r\n", "a".repeat(1100)),
            HeadTooLarge,
        ),
        bad("G".repeat(1100), HeadTooLarge),
        bad(
            format!("{host}X: {}\r\n\r\n", "a".repeat(1000)),
            HeadTooLarge,
        ),
        bad(
            format!("{host}{}: a\r\n\r\n", "a".repeat(1000)),
            HeadTooLarge,
        ),
        bad(
            format!("{host}{}: a\r\n\r\n", "c".repeat(1000)),
            HeadTooLarge,
        ),
        bad(
            format!("{host}{}\r\n", "X: a\r\n".repeat(20)),
            TooManyHeaders,
        ),
        after(
            1,
            format!("{host}\r\n{host}X: {}", "a".repeat(1000)),
            HeadTooLarge,
        ),
    ]
}

fn all_bad() -> Vec<Bad> {
    let groups = [
        request_lines(),
        lines(),
        hosts(),
        encodings(),
        lengths(),
        bodies(),
        sizes(),
    ];
    groups.into_iter().flatten().collect()
}

/// What is honest, and how many requests it is.
fn clean() -> Vec<(Vec<u8>, usize)> {
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let rows: Vec<(String, usize)> = vec![
        (get.into(), 1),
        (get.repeat(3), 3),
        (format!("\r\n\r\n{get}\r\n{get}"), 2),
        ("GET / HTTP/1.0\r\n\r\n".into(), 1),
        (
            "GET http://a.example:8080/b?c HTTP/1.1\r\nHost: a.example:8080\r\n\r\n".into(),
            1,
        ),
        ("GET HTTPS://a HTTP/1.1\r\nHost: a\r\n\r\n".into(), 1),
        ("GET http://a?b HTTP/1.1\r\nHost: a\r\n\r\n".into(), 1),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".into(), 1),
        ("OPTIONS /a HTTP/1.1\r\nHost: a\r\n\r\n".into(), 1),
        (
            "M-SEARCH /a%20b\"{c}\"?d={e}|f&g[]=~ HTTP/1.1\r\nHost: [::1]:80\r\n\r\n".into(),
            1,
        ),
        ("GET / HTTP/1.1\r\nHost:a_b.example.\r\n\r\n".into(), 1),
        (
            "GET / HTTP/1.1\r\nHost:   a   \r\nX:\r\nY:  \r\nZ: a \t b\t\r\n\r\n".into(),
            1,
        ),
        (
            "GET / HTTP/1.1\r\nX: \u{e9}\u{80}\r\nHost: a\r\n\r\n".into(),
            1,
        ),
        (
            "GET / HTTP/1.1\r\n!#$%&'*+-.^_`|~: 1\r\nHost: a\r\n\r\n".into(),
            1,
        ),
        (format!("{}{get}", post("Content-Length: 5", "ab\n\0c")), 2),
        (format!("{}{get}", post("content-length: 0", "")), 2),
        (
            format!("{}{get}", post("Content-Length:   0005  ", "abcde")),
            2,
        ),
        (format!("{}{get}", chunks("0\r\n\r\n")), 2),
        (
            format!(
                "{}{get}",
                chunks("5\r\nab\r\n\0\r\n1;a=\"b\"\r\nc\r\n00\r\n\r\n")
            ),
            2,
        ),
        (
            format!(
                "{}{get}",
                post("TRANSFER-ENCODING: CHUNKED", "A\r\n0123456789\r\n0\r\n\r\n")
            ),
            2,
        ),
        (format!("{}{get}", chunks("0\r\nX-Sum: 1\r\nY:\r\n\r\n")), 2),
        (format!("{}{get}", chunks("0;last\r\nX-Sum: 1\r\n\r\n")), 2),
        (
            chunks(&("1;abc\r\na\r\n".repeat(200) + "0\r\n\r\n")) + get,
            2,
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: a\r\n".repeat(19)),
            1,
        ),
        (
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
                "a".repeat(1024 - 32)
            ),
            1,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encodin: x\r\nTransfer-Encoding-: x\r\n\
             Content_Length: 5\r\nX-Transfer-Encoding: chunked\r\nTE: trailers\r\n\r\n"
                .into(),
            1,
        ),
    ];
    rows.into_iter()
        .map(|(text, whole)| (text.into_bytes(), whole))
        .collect()
}

/// Feeds `pieces` one after the other; where and why it refused, counted from the first byte.
fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<(usize, Violation)> {
    let mut strict = Strict::new(LIMITS);
    let mut before = 0;
    for piece in pieces {
        match strict.inspect(piece) {
            Verdict::Clean => before += piece.len(),
            Verdict::Refuse { at, reason } => {
                assert!(at < piece.len());
                return Some((before + at, reason));
            }
        }
    }
    None
}

/// The verdict, which must be the same however the bytes are cut.
fn judge(bytes: &[u8]) -> Option<(usize, Violation)> {
    let whole = feed([bytes]);
    assert_eq!(
        feed(bytes.chunks(1)),
        whole,
        "byte by byte: {}",
        bytes.escape_ascii()
    );
    // Every point, but for the rows that are long only to be too long.
    for cut in (0..bytes.len()).step_by(1 + bytes.len() / 1200) {
        let (left, right) = bytes.split_at(cut);
        assert_eq!(
            feed([left, right]),
            whole,
            "cut at {cut}: {}",
            bytes.escape_ascii()
        );
    }
    whole
}

/// How many requests hyper takes for whole, body included, where `bytes` are all it is given.
async fn hyper_reads(bytes: &[u8]) -> usize {
    let whole = Arc::new(AtomicUsize::new(0));
    let service = service_fn(|request: Request<Incoming>| {
        let whole = Arc::clone(&whole);
        async move {
            if request.into_body().collect().await.is_ok() {
                whole.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let (mut client, server) = tokio::io::duplex(1 << 20);
    client.write_all(bytes).await.unwrap();
    client.shutdown().await.unwrap();
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.half_close(true);
    // How it ends is not the question; what it took for whole is.
    let _ = builder
        .serve_connection(TokioIo::new(server), service)
        .await;
    drop(client);
    whole.load(Ordering::Relaxed)
}

#[test]
fn a_smuggling_attempt_is_refused_however_it_is_cut() {
    let rows = all_bad();
    assert!(rows.len() >= 60, "{}", rows.len());
    for row in rows {
        let shown = row.bytes.escape_ascii().to_string();
        let got = judge(&row.bytes);
        assert_eq!(got.map(|(_, reason)| reason), Some(row.reason), "{shown}");
    }
}

#[tokio::test]
async fn a_smuggling_attempt_is_refused_before_hyper_can_believe_it() {
    for row in all_bad() {
        let shown = row.bytes.escape_ascii().to_string();
        let (at, _) = feed([row.bytes.as_slice()]).unwrap();
        let passed = &row.bytes[..at];
        assert_eq!(hyper_reads(passed).await, row.whole, "cut off: {shown}");
        let poisoned = [passed, b"\0\0\0"].concat();
        assert_eq!(hyper_reads(&poisoned).await, row.whole, "poisoned: {shown}");
    }
}

#[test]
fn an_honest_request_stays_clean_however_it_is_cut() {
    for (bytes, _) in clean() {
        assert_eq!(judge(&bytes), None, "{}", bytes.escape_ascii());
    }
}

#[tokio::test]
async fn an_honest_request_is_read_by_hyper_as_it_was_judged() {
    for (bytes, whole) in clean() {
        assert_eq!(hyper_reads(&bytes).await, whole, "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_refusal_is_final() {
    let mut strict = Strict::new(LIMITS);
    let first = strict.inspect(b"GET / HTTP/1.1\n");
    let reason = BareLf;
    assert_eq!(first, Verdict::Refuse { at: 14, reason });
    let next = strict.inspect(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(next, Verdict::Refuse { at: 0, reason });
}

#[test]
fn after_a_switch_everything_passes() {
    let mut strict = Strict::new(LIMITS);
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(strict.inspect(head), Verdict::Clean);
    strict.opaque();
    assert_eq!(strict.inspect(b"\0\n\xff anything"), Verdict::Clean);
}

#[test]
fn without_a_switch_nothing_else_passes() {
    let mut strict = Strict::new(LIMITS);
    assert_eq!(
        strict.inspect(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"),
        Verdict::Clean
    );
    assert!(matches!(
        strict.inspect(b"\x16\x03\x01"),
        Verdict::Refuse { at: 0, .. }
    ));
}

#[test]
fn a_body_is_skipped_by_count_and_not_by_what_it_says() {
    let mut strict = Strict::new(LIMITS);
    let head = post("Content-Length: 1000000", "");
    assert_eq!(strict.inspect(head.as_bytes()), Verdict::Clean);
    for _ in 0..1000 {
        assert_eq!(strict.inspect(&[b'\n'; 1000]), Verdict::Clean);
    }
    let refused = strict.inspect(b"\n");
    assert_eq!(
        refused,
        Verdict::Refuse {
            at: 0,
            reason: BareLf
        }
    );
}

#[test]
fn every_violation_has_its_own_label_and_a_status() {
    let mut labels: Vec<_> = all_bad().iter().map(|row| row.reason.label()).collect();
    labels.sort_unstable();
    labels.dedup();
    let mut words: Vec<_> = all_bad().iter().map(|row| row.reason.to_string()).collect();
    words.sort_unstable();
    words.dedup();
    assert_eq!(labels.len(), words.len());
    assert_eq!(HeadTooLarge.status(), 431);
    assert_eq!(LengthAndEncoding.status(), 400);
}

/// Bytes that are nearly requests: rows of the tables, cut up, joined, and sprinkled.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let rows: Vec<Vec<u8>> = all_bad()
        .into_iter()
        .map(|row| row.bytes)
        .chain(clean().into_iter().map(|(bytes, _)| bytes))
        .filter(|bytes| bytes.len() < 300)
        .collect();
    let row = prop::sample::select(rows);
    let odd = prop::sample::select(b"\r\n\0\t :;,0aG/\x7f\xe9".to_vec());
    let sprinkled = (
        row,
        prop::collection::vec((any::<prop::sample::Index>(), odd), 0..3),
    );
    let sprinkled = sprinkled.prop_map(|(mut bytes, marks)| {
        for (index, byte) in marks {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    });
    prop::collection::vec(sprinkled, 1..3).prop_map(|rows| rows.concat())
}

proptest! {
    #[test]
    fn the_verdict_does_not_depend_on_how_the_bytes_are_cut(
        bytes in prop_oneof![nearly(), prop::collection::vec(any::<u8>(), 1..200)],
        sizes in prop::collection::vec(1..40_usize, 1..20),
    ) {
        let mut pieces = Vec::new();
        let mut rest = bytes.as_slice();
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, more) = rest.split_at(rest.len().min(*size));
            pieces.push(piece);
            rest = more;
        }
        prop_assert_eq!(feed(pieces), feed([bytes.as_slice()]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever passes is read by hyper as exactly the requests that the machine saw.
    #[test]
    fn what_is_cut_off_is_never_whole(bytes in nearly()) {
        let passed = match feed([bytes.as_slice()]) {
            Some((at, _)) => &bytes[..at],
            None => bytes.as_slice(),
        };
        let mut strict = Strict::new(LIMITS);
        prop_assert_eq!(strict.inspect(passed), Verdict::Clean);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let read = runtime.block_on(hyper_reads(passed)) as u64;
        prop_assert!(read <= strict.requests(), "{} of {}", read, strict.requests());
    }
}
