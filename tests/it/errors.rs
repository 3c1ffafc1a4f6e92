//! What the client is told when something fails: status, flag in the access log, words in the body.

use std::net::TcpListener;

use crate::harness::{Ended, Lab, Origin, Sortie, Step, free_address};

const BEFORE_HEADERS: &str = "upstream connect error or disconnect/reset before headers";

/// A port on which nobody listens.
fn closed_port() -> u16 {
    free_address().port()
}

#[test]
fn o2_an_unknown_host_is_refused_with_502_and_no_flag() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    sortie
        .get("nowhere.example", "/")
        .expect(502)
        .says(&["nowhere.example"]);
    // X6: as in Envoy, `-` and direct_response.
    sortie.logged(&[" 502 - direct_response ", "nowhere.example"]);
    assert_eq!(bank.seen().len(), 0);
}

#[test]
fn a_refused_connection_is_503_uf_and_was_retried() {
    let lab = Lab::new();
    let sortie = lab.sortie(closed_port());
    let answer = sortie.get("bank.example", "/").expect(503);
    answer.says(&[BEFORE_HEADERS, "refused"]);
    // X5: URX where the retries were made and used up.
    sortie.logged(&[" 503 UF,URX "]);
}

#[test]
fn a_connect_that_takes_too_long_is_503_uf() {
    // The backlog of this listener is full, so that the next connect hangs.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(
        &"127.0.0.1:0"
            .parse::<std::net::SocketAddr>()
            .unwrap()
            .into(),
    )
    .unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let mut held = Vec::new();
    while let Ok(stream) =
        std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_millis(200))
    {
        held.push(stream);
    }
    let lab = Lab::new();
    let config = lab.config_with(address.port(), "connectTimeout: 200ms", "");
    let sortie = Sortie::start(&config);
    sortie
        .get("bank.example", "/")
        .expect(503)
        .says(&[BEFORE_HEADERS]);
    sortie.logged(&[" 503 UF"]);
}

#[test]
fn a_handshake_that_never_ends_is_bounded_by_the_connect_timeout() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let lab = Lab::new();
    let port = silent.local_addr().unwrap().port();
    let sortie = Sortie::start(&lab.config_with(port, "connectTimeout: 300ms", ""));
    sortie
        .get("bank.example", "/")
        .expect(503)
        .says(&[BEFORE_HEADERS]);
    sortie.logged(&[" 503 UF"]);
}

#[test]
fn a_server_that_speaks_no_tls_is_503_uf() {
    let lab = Lab::new();
    let plain = Origin::plain().script(|_, _| vec![Step::Close]).start();
    let sortie = lab.sortie(plain.port());
    sortie
        .get("bank.example", "/")
        .expect(503)
        .says(&[BEFORE_HEADERS, "TLS"]);
    sortie.logged(&[" 503 UF"]);
}

#[test]
fn a_server_that_closes_without_an_answer_is_503_uc() {
    let lab = Lab::new();
    for end in [Step::Close, Step::Cut] {
        let bank = lab.bank().script(move |_, _| vec![end.clone()]).start();
        let sortie = lab.sortie(bank.port());
        sortie
            .get("bank.example", "/")
            .expect(503)
            .says(&[BEFORE_HEADERS]);
        sortie.logged(&[" 503 UC"]);
    }
}

#[test]
fn a_server_that_closes_in_the_middle_of_its_head_is_an_error() {
    let lab = Lab::new();
    let bank = lab
        .bank()
        .script(|_, _| vec![Step::send("HTTP/1.1 200 OK\r\nConte"), Step::Cut]);
    let bank = bank.start();
    let sortie = lab.sortie(bank.port());
    let answer = sortie.get("bank.example", "/");
    assert!(matches!(answer.status, 502 | 503), "{answer:?}");
}

#[test]
fn garbage_from_the_server_is_502_and_none_of_it_reaches_the_client() {
    let lab = Lab::new();
    let garbage = [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/9.9 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\nContent-Length: minus\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\nX: \0\r\n\r\n",
        "\0\0\0\0\0\0\0\0\r\n\r\n",
    ];
    for bytes in garbage {
        let bank = lab
            .bank()
            .script(move |_, _| vec![Step::send(bytes), Step::Close])
            .start();
        let sortie = lab.sortie(bank.port());
        let answer = sortie.get("bank.example", "/");
        assert_eq!(
            answer.status,
            502,
            "{bytes:?}: {answer:?} {}",
            answer.text()
        );
        assert!(!answer.text().contains("abcd"), "{bytes:?}: {answer:?}");
        sortie.logged(&[" 502 UPE"]);
    }
}

#[test]
fn an_answer_with_both_lengths_is_never_passed_on_with_both() {
    let lab = Lab::new();
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n\
                3\r\nabc\r\n0\r\n\r\n";
    let bank = lab
        .bank()
        .script(move |_, _| vec![Step::send(both)])
        .start();
    let sortie = lab.sortie(bank.port());
    // RFC 9112 section 6.3: chunked wins and the length goes, or the answer is refused.
    let answer = sortie.get("bank.example", "/");
    match answer.status {
        200 => assert_eq!(
            (answer.text().as_str(), answer.ended),
            ("abc", Ended::Chunks)
        ),
        status => assert_eq!(status, 502),
    }
}

#[test]
fn an_answer_cut_off_before_its_length_never_looks_complete() {
    cut_off("Content-Length: 1000\r\n\r\nhalf of it", "HTTP/1.1");
}

#[test]
fn an_answer_cut_off_between_chunks_never_looks_complete() {
    cut_off(
        "Transfer-Encoding: chunked\r\n\r\na\r\nhalf of it\r\n",
        "HTTP/1.1",
    );
}

#[test]
fn an_answer_cut_off_inside_a_chunk_never_looks_complete() {
    cut_off(
        "Transfer-Encoding: chunked\r\n\r\nff\r\nhalf of it",
        "HTTP/1.1",
    );
}

#[test]
fn an_answer_that_ends_without_close_notify_never_looks_complete() {
    // Its length is told by the end of the connection alone, and anyone can cut a TCP connection.
    cut_off("Connection: close\r\n\r\nhalf of it", "HTTP/1.1");
}

#[test]
fn an_answer_cut_off_never_looks_complete_to_an_http_1_0_client_either() {
    // It has no chunks: only a reset tells it that the end was not the end.
    for head in [
        "Content-Length: 1000\r\n\r\nhalf of it",
        "Transfer-Encoding: chunked\r\n\r\na\r\nhalf of it\r\n",
        "Connection: close\r\n\r\nhalf of it",
    ] {
        cut_off(head, "HTTP/1.0");
    }
}

#[track_caller]
fn cut_off(rest: &str, version: &str) {
    let lab = Lab::new();
    let head = format!("HTTP/1.1 200 OK\r\n{rest}");
    let bank = lab.bank().script(move |_, _| {
        // The pause lets the head reach the client first, which is the hard case.
        let pause = std::time::Duration::from_millis(100);
        vec![Step::send(&head), Step::Wait(pause), Step::Cut]
    });
    let bank = bank.start();
    let sortie = lab.sortie(bank.port());
    let mut wire = sortie.wire();
    let answer = wire
        .send(format!("GET / {version}\r\nHost: bank.example\r\n\r\n"))
        .answer();
    assert_eq!(
        (answer.status, answer.ended),
        (200, Ended::CutOff),
        "{version} {rest:?} {answer:?}"
    );
    sortie.logged(&[" 200 UC"]);
}

#[test]
fn an_answer_that_ends_with_close_notify_is_complete() {
    let lab = Lab::new();
    let bank = lab.bank().script(|_, _| {
        vec![
            Step::send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it"),
            Step::Close,
        ]
    });
    let bank = bank.start();
    let sortie = lab.sortie(bank.port());
    for version in ["HTTP/1.1", "HTTP/1.0"] {
        let mut wire = sortie.wire();
        let ask = format!("GET / {version}\r\nHost: bank.example\r\n\r\n");
        assert_eq!(wire.send(ask).answer().expect(200).text(), "all of it");
    }
}

#[test]
fn v13_a_late_answer_is_504_ut() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = Sortie::start(&lab.config_with(bank.port(), "", "timeout: 200ms"));
    sortie
        .get("bank.example", "/hang")
        .expect(504)
        .says(&["upstream request timeout", "200ms"]);
    sortie.logged(&[" 504 UT "]);
    sortie.get("bank.example", "/slow/10").expect(200);
}

#[test]
fn x4_terse_errors_leave_envoys_text_alone() {
    let lab = Lab::new();
    let sortie = Sortie::builder(&lab.config(closed_port()));
    let sortie = sortie.with(|options| options.terse_errors = true).start();
    let text = sortie.get("bank.example", "/").expect(503).text();
    assert!(text.starts_with(BEFORE_HEADERS), "{text}");
    assert!(
        !text.contains("127.0.0.1") && text.lines().count() == 1,
        "{text}"
    );
    // O2: empty in Envoy, so empty here.
    assert_eq!(sortie.get("nowhere.example", "/").expect(502).text(), "");
}

#[test]
fn every_error_body_is_one_line() {
    let lab = Lab::new();
    let sortie = lab.sortie(closed_port());
    for host in ["bank.example", "nowhere.example"] {
        let answer = sortie.get(host, "/");
        assert_eq!(
            answer.text().trim_end().lines().count(),
            1,
            "{}",
            answer.text()
        );
        assert!(
            answer
                .header("content-type")
                .is_some_and(|kind| kind.starts_with("text/plain"))
        );
    }
}

#[test]
fn an_error_of_the_server_is_the_servers_and_passed_on_as_it_is() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    for status in [400, 404, 500, 503] {
        let answer = sortie
            .get("bank.example", &format!("/status/{status}"))
            .expect(status);
        assert_eq!(answer.text(), "as you wish");
        sortie.logged(&[&format!(" {status} - via_upstream ")]);
    }
}

#[test]
fn a_name_that_dns_does_not_know_is_503_and_named() {
    let lab = Lab::new();
    let config = lab
        .config(443)
        .replace("127.0.0.1:443", "no-such-name.invalid:443");
    let sortie = Sortie::start(&config);
    let answer = sortie.get("bank.example", "/").expect(503);
    answer.says(&["no healthy upstream", "no-such-name.invalid"]);
    sortie.logged(&[" 503 UH"]);
}

#[test]
fn a_request_that_comes_back_to_ourselves_is_refused_and_does_not_go_round() {
    // The upstream is sortie's own listener, known only after it has started.
    let lab = Lab::new();
    let sortie = Sortie::start(&lab.config(closed_port()));
    let own = sortie.address();
    sortie.configure(&format!(
        "upstreams:\n  - {{name: me, endpoints: [\"{own}\"], tls: {{mode: disable}}}}\n\
         routes:\n  - {{host: loop.example, upstream: me}}\n"
    ));
    sortie.reload();
    let answer = crate::harness::eventually("the new table is there", || {
        let answer = sortie.get("loop.example", "/");
        (answer.status != 502).then_some(answer)
    });
    answer.expect(508);
    let mine = sortie.access_log();
    let tries = mine.iter().filter(|line| line.contains(" 508 ")).count();
    assert!(tries <= 2, "{mine:#?}");
}

#[test]
fn an_answer_cut_off_never_looks_complete_over_http_2_either() {
    let lab = Lab::new();
    for rest in [
        "Content-Length: 1000\r\n\r\nhalf of it",
        "Transfer-Encoding: chunked\r\n\r\na\r\nhalf of it\r\n",
        "Connection: close\r\n\r\nhalf of it",
    ] {
        let head = format!("HTTP/1.1 200 OK\r\n{rest}");
        let bank = lab
            .bank()
            .script(move |_, _| vec![Step::send(&head), Step::Cut])
            .start();
        let sortie = lab.sortie(bank.port());
        let call = hyper::Request::get("http://bank.example/");
        let answer = crate::harness::h2(sortie.address(), call, Vec::new(), None);
        assert!(
            answer.broken.is_some() || answer.status == 503,
            "{rest:?}: {}",
            answer.status
        );
    }
}

#[test]
fn two_instances_in_a_row_are_no_loop() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let second = lab.sortie(bank.port());
    let first = Sortie::start(&format!(
        "upstreams:\n  - {{name: next, endpoints: [\"{}\"], tls: {{mode: disable}}}}\n\
         routes:\n  - {{host: bank.example, upstream: next}}\n",
        second.address()
    ));
    first.get("bank.example", "/").expect(200);
    assert_eq!(bank.asked().len(), 1);
}

#[test]
fn b7_the_access_log_in_json_is_one_object_a_line() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = Sortie::builder(&lab.config(bank.port()))
        .with(|options| options.access_log_format = "json".into())
        .start();
    let request = "GET /x?y=1 HTTP/1.1\r\nHost: bank.example\r\n\
                   User-Agent: \"quoted\" \\ and\ttab\r\n\r\n";
    sortie.wire().send(request).answer().expect(200);
    let line = sortie.logged(&["/x?y=1"]);
    let entry: serde_json::Value = serde_json::from_str(&line).expect("a line is JSON");
    assert_eq!(entry["response_code"], 200);
    assert_eq!(entry["authority"], "bank.example");
    assert_eq!(entry["user_agent"], "\"quoted\" \\ and\ttab");
    assert_eq!(entry["upstream_host"], bank.address.to_string());
}

#[test]
fn b6_a_line_of_the_access_log_cannot_be_forged_by_a_client() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    let request = "GET /\" HTTP/1.1\r\nHost: bank.example\r\nUser-Agent: a\" \"b\r\n\r\n";
    sortie.wire().send(request).answer();
    sortie.get("bank.example", "/after").expect(200);
    sortie.logged(&["/after"]);
    let lines = sortie.access_log();
    let quotes = |line: &String| line.matches('"').count();
    let usual = lines
        .iter()
        .find(|line| line.contains("/after"))
        .map(quotes);
    assert!(
        lines.iter().all(|line| Some(quotes(line)) == usual),
        "{lines:#?}"
    );
}
