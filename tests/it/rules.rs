//! What the rules of a VirtualService do to requests, as servers and clients see it.

use std::time::Duration;

use crate::harness::{Origin, Sortie, Step, eventually, h2};

/// Plain servers of these names, each the one endpoint of `NAME.example:80`.
fn servers<const N: usize>(names: [&str; N]) -> ([Origin; N], String) {
    let servers = names.map(|name| Origin::plain().named(name).start());
    let mut yaml = String::new();
    for (name, server) in names.iter().zip(&servers) {
        yaml += &entry(name, server.port());
    }
    (servers, yaml)
}

fn entry(name: &str, port: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
         metadata: {{name: {name}, namespace: default}}\nspec:\n  hosts: [{name}.example]\n  \
         ports: [{{number: 80, name: http, protocol: HTTP}}]\n  resolution: STATIC\n  \
         endpoints: [{{address: 127.0.0.1, ports: {{http: {port}}}}}]\n---\n"
    )
}

/// The `http` list of a VirtualService for `shop.example`.
fn rules(http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{name: shop, namespace: default}}\nspec:\n  hosts: [shop.example]\n  http:\n{http}"
    )
}

/// sortie with these servers, and these rules for `shop.example`.
fn shop(yaml: &str, http: &str) -> Sortie {
    Sortie::start(&format!("{yaml}{}", rules(http)))
}

const TO_ONE: &str = "route: [{destination: {host: one.example}}]";

#[test]
fn v12_headers_of_the_chosen_destination_come_before_those_of_the_rule() {
    let ([one], yaml) = servers(["one"]);
    let sortie = shop(
        &yaml,
        "  - name: pay\n    headers:\n      request:\n        remove: [x-gone]\n        \
         set: {x-set: rule, x-path: \"%REQ(:METHOD)% %REQ(:PATH)% 100%%\", \
         x-forged: \"%REQ(x-none)%\"}\n        add: {x-add: rule}\n      response:\n        \
         set: {x-via: \"%RESP(x-origin)% %RESPONSE_CODE% %REQ(x-id)%\"}\n    route:\n    \
         - destination: {host: one.example}\n      headers:\n        request:\n          \
         set: {x-set: own, x-own: own}\n          add: {x-add: own}\n        response:\n          \
         add: {x-own: \"%UPSTREAM_CLUSTER% %ROUTE_NAME%\"}\n",
    );
    let answer = sortie
        .wire()
        .send(
            "GET /a?b=c HTTP/1.1\r\nHost: shop.example\r\nX-Id: 7\r\nX-Gone: 1\r\nX-Set: client\r\n\
             X-Add: client\r\nX-Forged: client\r\n\r\n",
        )
        .answer()
        .expect(200);
    let asked = &one.asked()[0];
    assert_eq!(asked.all("x-set"), ["rule"]);
    assert_eq!(asked.all("x-own"), ["own"]);
    assert_eq!(asked.all("x-add"), ["client", "own", "rule"]);
    assert_eq!(asked.one("x-path"), Some("GET /a?b=c 100%"));
    assert_eq!(asked.all("x-gone"), [""; 0]);
    // A format without a value leaves nothing of what the client wrote.
    assert_eq!(asked.all("x-forged"), [""; 0]);
    assert_eq!(answer.header("x-via"), Some("one 200 7"));
    assert_eq!(answer.header("x-own"), Some("outbound|80||one.example pay"));
}

#[test]
fn v11_a_destination_may_set_the_authority_where_the_rule_does_not() {
    let ([one], yaml) = servers(["one"]);
    let sortie = shop(
        &yaml,
        "  - match: [{uri: {prefix: /own}}]\n    route:\n    \
         - destination: {host: one.example}\n      headers: {request: {set: {host: own.example}}}\n  \
         - rewrite: {authority: rule.example}\n    route:\n    \
         - destination: {host: one.example}\n      headers: {request: {set: {host: own.example}}}\n",
    );
    sortie.get("shop.example", "/own").expect(200);
    sortie.get("shop.example", "/other").expect(200);
    let hosts: Vec<_> = one
        .asked()
        .iter()
        .map(|asked| asked.one("host").map(str::to_owned))
        .collect();
    assert_eq!(
        hosts,
        [Some("own.example".into()), Some("rule.example".into())]
    );
}

#[test]
fn v12_a_client_cannot_write_a_header_by_what_a_format_copies() {
    let ([one], yaml) = servers(["one"]);
    let sortie = shop(
        &yaml,
        &format!(
            "  - headers: {{request: {{set: {{x-client: \"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%\", \
             x-copy: \"<%REQ(x-in)%>\"}}}}}}\n    {TO_ONE}\n"
        ),
    );
    let request =
        b"GET / HTTP/1.1\r\nHost: shop.example\r\nX-In: a\xffb\tc\r\nX-Client: 6.6.6.6\r\n\r\n";
    sortie.wire().send(request).answer().expect(200);
    let asked = &one.asked()[0];
    assert_eq!(asked.all("x-client"), ["127.0.0.1"]);
    assert_eq!(asked.all("x-copy"), ["<a\u{fffd}b\tc>"]);
}

#[test]
fn v16_an_aborted_request_never_reaches_a_server() {
    let ([one], yaml) = servers(["one"]);
    let sortie = shop(
        &yaml,
        &format!(
            "  - match: [{{uri: {{prefix: /always}}}}]\n    \
             fault: {{abort: {{httpStatus: 418, percentage: {{value: 100}}}}}}\n    {TO_ONE}\n  \
             - match: [{{uri: {{prefix: /never}}}}]\n    \
             fault: {{abort: {{httpStatus: 418, percentage: {{value: 0}}}}}}\n    {TO_ONE}\n"
        ),
    );
    let answer = sortie.get("shop.example", "/always").expect(418);
    assert_eq!(answer.text(), "fault filter abort");
    assert!(one.asked().is_empty());
    sortie.logged(&[" 418 FI fault_filter_abort ", "outbound|80||one.example"]);
    sortie.get("shop.example", "/never").expect(200);
    assert_eq!(one.asked().len(), 1);
    let counted = sortie.metric(&[
        "istio_requests_total",
        "destination_service=\"one.example\"",
        "response_code=\"418\"",
        "response_flags=\"FI\"",
    ]);
    assert_eq!(counted, 1.0);
}

#[test]
fn v16_a_grpc_abort_is_200_with_its_status_in_the_head() {
    let ([one], yaml) = servers(["one"]);
    let sortie = shop(
        &yaml,
        &format!(
            "  - match: [{{uri: {{prefix: /grpc}}}}]\n    \
             fault: {{abort: {{grpcStatus: UNAVAILABLE, percentage: {{value: 100}}}}}}\n    {TO_ONE}\n  \
             - fault: {{abort: {{httpStatus: 404, percentage: {{value: 100}}}}}}\n    {TO_ONE}\n"
        ),
    );
    for (path, status) in [("/grpc", "14"), ("/http", "12")] {
        let request = http::Request::post(format!("http://shop.example{path}"))
            .header("content-type", "application/grpc");
        let answer = h2(sortie.address(), request, Vec::new(), None);
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{path}");
        assert_eq!(answer.headers["grpc-status"], status);
        assert_eq!(answer.headers["grpc-message"], "fault filter abort");
    }
    assert!(one.asked().is_empty());
}

#[test]
fn v16_a_delayed_request_arrives_late_and_both_faults_can_strike_one_request() {
    let ([one], yaml) = servers(["one"]);
    let delay = "delay: {fixedDelay: 150ms, percentage: {value: 100}}";
    let sortie = shop(
        &yaml,
        &format!(
            "  - match: [{{uri: {{prefix: /late}}}}]\n    fault: {{{delay}}}\n    {TO_ONE}\n  \
             - fault: {{{delay}, abort: {{httpStatus: 503, percentage: {{value: 100}}}}}}\n    {TO_ONE}\n"
        ),
    );
    let timed = |path: &str, status| {
        let began = std::time::Instant::now();
        sortie.get("shop.example", path).expect(status);
        began.elapsed()
    };
    let enough = Duration::from_millis(150);
    assert!(timed("/late", 200) >= enough);
    sortie.logged(&["/late", " 200 DI via_upstream "]);
    assert!(timed("/both", 503) >= enough);
    sortie.logged(&["/both", " 503 DI,FI fault_filter_abort "]);
    assert_eq!(one.asked().len(), 1);
}

#[test]
fn v16_a_delay_ends_when_the_client_leaves() {
    let ([one], yaml) = servers(["one"]);
    let sortie = shop(
        &yaml,
        &format!(
            "  - fault: {{delay: {{fixedDelay: 1h, percentage: {{value: 100}}}}}}\n    {TO_ONE}\n"
        ),
    );
    // A client that leaves before its request was looked at is no request at all: then once more.
    let line = eventually("the request is told of", || {
        let mut wire = sortie.wire();
        wire.send("GET /gone HTTP/1.1\r\nHost: shop.example\r\n\r\n");
        assert!(wire.hears(Duration::from_millis(100)).is_empty());
        drop(wire);
        sortie
            .access_log()
            .into_iter()
            .find(|line| line.contains("/gone"))
    });
    for words in [" 0 DI,DC downstream_remote_disconnect ", "one.example"] {
        assert!(line.contains(words), "{line}");
    }
    assert!(one.asked().is_empty());
}

#[test]
fn v15_redirects_know_prefixes_and_ports() {
    let ([_one], yaml) = servers(["one"]);
    let sortie = shop(
        &yaml,
        "  - match: [{uri: {prefix: /old}}]\n    redirect: {uri: /new, redirectCode: 308}\n  \
         - match: [{uri: {prefix: /port}}]\n    redirect: {authority: b.example, port: 8443, scheme: https}\n  \
         - match: [{uri: {prefix: /derive}}]\n    redirect: {authority: b.example, derivePort: FROM_REQUEST_PORT}\n",
    );
    for (path, status, location) in [
        ("/old/x?q=1", 308, "http://shop.example/new?q=1"),
        ("/port?q", 301, "https://b.example:8443/port?q"),
        ("/derive", 301, "http://b.example/derive"),
    ] {
        let answer = sortie.get("shop.example", path).expect(status);
        assert_eq!(answer.header("location"), Some(location), "{path}");
    }
}

#[test]
fn v10_a_destination_that_nobody_knows_is_503_nc_and_the_other_rules_work() {
    let ([one], yaml) = servers(["one"]);
    let sortie = shop(
        &yaml,
        &format!(
            "  - match: [{{uri: {{prefix: /gone}}}}]\n    \
             route: [{{destination: {{host: gone.example}}}}]\n  - {TO_ONE}\n"
        ),
    );
    let answer = sortie.get("shop.example", "/gone").expect(503);
    assert!(
        answer
            .header("proxy-status")
            .unwrap()
            .contains("destination_not_found")
    );
    answer.says(&["gone.example"]);
    sortie.logged(&["/gone", " 503 NC cluster_not_found "]);
    sortie.get("shop.example", "/").expect(200);
    assert_eq!(one.asked().len(), 1);
    assert_eq!(
        sortie.metric(&["sortie_upstream_retries_total", "gone.example"]),
        0.0
    );
    let counted = sortie.metric(&["istio_requests_total", "\"gone.example\"", "\"NC\""]);
    assert_eq!(counted, 1.0);
}

#[test]
fn v16_a_mirror_gets_the_same_request_and_body() {
    let ([one, two], yaml) = servers(["one", "two"]);
    let sortie = shop(
        &yaml,
        &format!(
            "  - rewrite: {{uri: /count}}\n    headers: {{request: {{set: {{x-rule: \"1\"}}}}}}\n    \
             mirrors: [{{destination: {{host: two.example}}}}]\n    {TO_ONE}\n"
        ),
    );
    let body = "x".repeat(70_000);
    let request = format!(
        "POST /pay?q=1 HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = sortie.wire().send(request).answer().expect(200);
    assert_eq!(
        (answer.text().as_str(), answer.header("x-origin")),
        ("70000", Some("one"))
    );
    let asked = eventually("the mirror has the request", || {
        two.asked().first().cloned()
    });
    assert_eq!(asked.target, "/count?q=1");
    // V16: the Host is the same, without `-shadow`.
    assert_eq!(asked.one("host"), Some("shop.example"));
    assert_eq!(asked.one("x-rule"), Some("1"));
    assert_eq!(asked.one("content-length"), Some("70000"));
    eventually("the mirror has the body", || {
        (two.taken() == 70_000).then_some(())
    });
    assert_eq!(one.taken(), 70_000);
    let counted = || {
        let words = [
            "istio_requests_total",
            "\"two.example\"",
            "response_code=\"200\"",
        ];
        (sortie.metric(&words) == 1.0).then_some(())
    };
    eventually("the mirror is counted", counted);
    // It is nobody's answer, and no line of the log.
    sortie.logged(&["/pay?q=1"]);
    assert_eq!(sortie.access_log().len(), 1);
}

#[test]
fn v16_a_mirror_with_a_share_of_nothing_gets_nothing() {
    let ([one, two], yaml) = servers(["one", "two"]);
    let sortie = shop(
        &yaml,
        &format!(
            "  - mirrors: [{{destination: {{host: two.example}}, percentage: {{value: 0}}}}]\n    {TO_ONE}\n"
        ),
    );
    let mut wire = sortie.wire();
    for _ in 0..50 {
        wire.get("shop.example", "/").expect(200);
    }
    assert_eq!((one.asked().len(), two.asked().len()), (50, 0));
}

#[test]
fn v16_a_mirror_that_hangs_or_is_not_there_neither_slows_nor_breaks_a_request() {
    let ([one], yaml) = servers(["one"]);
    // Takes the head and then nothing.
    let hangs = |_: usize, _: &str| vec![Step::Wait(Duration::from_secs(60))];
    let two = Origin::plain().script(hangs).start();
    let yaml = yaml + &entry("two", two.port());
    let dead = crate::harness::free_address().port();
    let yaml = yaml + &entry("dead", dead);
    let sortie = shop(
        &yaml,
        &format!(
            "  - mirrors:\n    - {{destination: {{host: two.example}}}}\n    \
             - {{destination: {{host: dead.example}}}}\n    {TO_ONE}\n"
        ),
    );
    // More than what may wait for a mirror and the kernel's buffers together.
    const PIECES: usize = 24;
    let body = "x".repeat(1 << 20);
    let mut wire = sortie.wire();
    wire.send("POST /count HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n");
    let answer = std::thread::scope(|scope| {
        let mut writer = wire.stream.try_clone().unwrap();
        scope.spawn(move || {
            for _ in 0..PIECES {
                let chunk = format!("{:x}\r\n{body}\r\n", body.len());
                std::io::Write::write_all(&mut writer, chunk.as_bytes()).unwrap();
            }
            std::io::Write::write_all(&mut writer, b"0\r\n\r\n").unwrap();
        });
        wire.answer().expect(200)
    });
    assert_eq!(answer.header("x-origin"), Some("one"));
    assert_eq!(answer.text(), (PIECES << 20).to_string());
    assert_eq!(one.taken(), PIECES << 20);
    let flagged = |host: &str, flag: &str| {
        let words = ["istio_requests_total", host, "response_code=\"503\"", flag];
        eventually(&format!("{host} failed with {flag}"), || {
            (sortie.metric(&words) == 1.0).then_some(())
        });
    };
    flagged("\"two.example\"", "\"UO\"");
    flagged("\"dead.example\"", "\"UF\"");
    sortie.logged(&[" 200 - via_upstream "]);
}

#[test]
fn v16_a_mirror_that_is_under_way_does_not_hold_up_the_end_for_long() {
    let ([_one, two], yaml) = servers(["one", "two"]);
    let sortie = shop(
        &yaml,
        &format!(
            "  - match: [{{uri: {{prefix: /hang}}}}]\n    rewrite: {{uri: /hang}}\n    \
             mirrors: [{{destination: {{host: two.example}}}}]\n    {TO_ONE}\n"
        ),
    );
    let mut wire = sortie.wire();
    wire.send("GET /hang HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    eventually("the mirror has the request", || {
        two.asked().first().cloned()
    });
    drop(wire);
    let began = std::time::Instant::now();
    sortie.stop();
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
}
