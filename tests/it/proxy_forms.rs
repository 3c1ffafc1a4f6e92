//! The ways in which an application may speak to sortie.

use std::time::Duration;

use crate::harness::{Lab, Wire, curl};

#[test]
fn an_application_with_http_proxy_set_needs_no_change() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    let proxy = format!("http://{}", sortie.address());
    let said = curl(
        0,
        &[
            "--include",
            "--proxy",
            &proxy,
            "http://bank.example/pay?x=1",
        ],
    );
    assert!(
        said.contains("200") && said.contains("hello from bank"),
        "{said}"
    );
    let asked = &bank.asked()[0];
    assert_eq!(
        (asked.target.as_str(), asked.one("host")),
        ("/pay?x=1", Some("bank.example"))
    );
    assert!(asked.all("proxy-connection").is_empty(), "{asked:?}");
}

#[test]
fn the_authority_of_an_absolute_form_wins_over_host() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    let request = "GET http://bank.example/x HTTP/1.1\r\nHost: other.example\r\n\r\n";
    sortie.wire().send(request).answer().expect(200);
    assert_eq!(bank.asked()[0].one("host"), Some("bank.example"));
}

#[test]
fn connect_is_refused_with_what_to_do_instead() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    let request = "CONNECT bank.example:443 HTTP/1.1\r\nHost: bank.example:443\r\n\r\n";
    let answer = sortie.wire().send(request).answer();
    assert_eq!(answer.status, 405, "{answer:?}");
    answer.says(&["http://"]);
    assert_eq!(bank.seen().len(), 0);
}

#[test]
fn http_1_0_is_answered_in_its_own_way() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    // No chunks, as it does not know them; the end is the end of the connection.
    let mut wire = sortie.wire();
    let answer = wire
        .send("GET /stream/100000 HTTP/1.0\r\nHost: bank.example\r\n\r\n")
        .answer();
    let answer = answer.expect(200);
    assert_eq!(answer.header("transfer-encoding"), None, "{answer:?}");
    assert_eq!(answer.body.len(), 100_000);
    assert!(wire.is_closed());
    assert_eq!(answer.version, "HTTP/1.0");
    // With keep-alive asked for and a length known, the connection stays.
    let mut wire = sortie.wire();
    for _ in 0..2 {
        let ask = "GET /bytes/10 HTTP/1.0\r\nHost: bank.example\r\nConnection: keep-alive\r\n\r\n";
        assert_eq!(wire.send(ask).answer().expect(200).body.len(), 10);
    }
    assert_eq!(bank.asked()[0].version, "HTTP/1.1");
}

#[test]
fn http_1_0_without_a_host_is_refused_and_says_why() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    sortie
        .wire()
        .send("GET / HTTP/1.0\r\n\r\n")
        .answer()
        .expect(400)
        .says(&["Host"]);
    assert_eq!(bank.seen().len(), 0);
}

#[test]
fn http_2_with_prior_knowledge_comes_in_on_the_same_port() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    let to = format!("bank.example:80:{}", sortie.address());
    let url = "http://bank.example/echo";
    let said = curl(
        0,
        &[
            "--http2-prior-knowledge",
            "--include",
            "--connect-to",
            &to,
            "--data",
            "over two",
            url,
        ],
    );
    assert!(
        said.starts_with("HTTP/2 200") && said.ends_with("over two"),
        "{said}"
    );
    assert_eq!(bank.asked()[0].one("host"), Some("bank.example"));
}

#[test]
fn an_upgrade_to_http_2_in_clear_is_answered_in_http_1() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    let to = format!("bank.example:80:{}", sortie.address());
    let said = curl(
        0,
        &[
            "--http2",
            "--include",
            "--connect-to",
            &to,
            "http://bank.example/",
        ],
    );
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    let asked = &bank.asked()[0];
    assert!(
        asked.all("upgrade").is_empty() && asked.all("http2-settings").is_empty(),
        "{asked:?}"
    );
}

#[test]
fn an_application_that_speaks_tls_to_the_plain_listener_is_closed_at_once() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    let mut wire = sortie.wire();
    wire.send([0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0]);
    wire.rest();
    assert_eq!(bank.seen().len(), 0);
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    let mut wire = sortie.wire();
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: bank.example\r\n\r\n");
    wire.send(ask("/slow/200") + &ask("/bytes/3") + &ask("/"));
    assert_eq!(wire.answer().expect(200).text(), "late");
    assert_eq!(wire.answer().expect(200).text(), "xxx");
    assert_eq!(wire.answer().expect(200).text(), "hello from bank");
}

#[test]
fn what_concerns_one_hop_is_not_passed_on() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    let request = "GET / HTTP/1.1\r\nHost: bank.example\r\nConnection: x-one, keep-alive\r\n\
                   X-One: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
                   Proxy-Authorization: Basic eDp5\r\nTE: gzip\r\nTrailer: x\r\nX-Two: 2\r\n\r\n";
    sortie.wire().send(request).answer().expect(200);
    let asked = &bank.asked()[0];
    for gone in [
        "x-one",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "connection",
    ] {
        assert!(
            asked.all(gone).is_empty(),
            "{gone} was passed on: {asked:#?}"
        );
    }
    assert_eq!(asked.one("x-two"), Some("2"));
}

#[test]
fn an_ordinary_request_arrives_with_its_headers_as_they_were() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    let request = "GET /a%2Fb/../c;d?q=%20+&&e HTTP/1.1\r\nHost: bank.example\r\n\
                   Accept: */*\r\nX-Twice: one\r\nX-Twice: two\r\nX-Empty:\r\n\
                   Cookie: a=b; c=\"d\"\r\nAuthorization: Bearer abc.def\r\n\r\n";
    sortie.wire().send(request).answer().expect(200);
    let asked = &bank.asked()[0];
    assert_eq!(
        asked.target, "/a%2Fb/../c;d?q=%20+&&e",
        "a path is passed on byte for byte"
    );
    assert_eq!(asked.all("x-twice"), ["one", "two"]);
    assert_eq!(asked.one("x-empty"), Some(""));
    assert_eq!(asked.one("cookie"), Some("a=b; c=\"d\""));
    assert_eq!(asked.one("authorization"), Some("Bearer abc.def"));
}

#[test]
fn a_connection_stays_open_between_requests() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    let mut wire: Wire = sortie.wire();
    for _ in 0..3 {
        wire.get("bank.example", "/").expect(200);
    }
    assert!(wire.hears(Duration::from_millis(50)).is_empty());
    wire.get("bank.example", "/").expect(200);
}
