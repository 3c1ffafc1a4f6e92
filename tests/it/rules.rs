//! What the rules of a VirtualService do to requests, as servers and clients see it.

use std::time::Duration;

use sortie::model::ProxyFacts;

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

#[test]
fn v9_every_condition_of_a_match_decides_where_a_request_goes() {
    let ([one, two], yaml) = servers(["one", "two"]);
    let matches = [
        "uri: {prefix: /Case}, ignoreUriCase: true",
        "authority: {exact: \"shop.example:80\"}",
        "queryParams: {v: {regex: \"[0-9]+\"}}",
        "method: {regex: \"P.*\"}",
        "headers: {x-tags: {exact: \"a,b\"}}",
        "scheme: {exact: http}, headers: {x-scheme: {}}",
        "uri: {exact: /without}, withoutHeaders: {x-no: {prefix: y}}",
    ];
    let first: String = matches.map(|one| format!("    - {{{one}}}\n")).concat();
    let to_two = "route: [{destination: {host: two.example}}]";
    let sortie = shop(
        &yaml,
        &format!("  - match:\n{first}    {TO_ONE}\n  - {to_two}\n"),
    );
    let mut wire = sortie.wire();
    let mut whose = |first: &str, more: &str| {
        let host = if more.contains("Host:") {
            ""
        } else {
            "Host: shop.example\r\n"
        };
        let request = format!("{first} HTTP/1.1\r\n{host}{more}\r\n");
        let method = first.split(' ').next().unwrap();
        let answer = wire.send(request).answer_to(method).expect(200);
        answer.header("x-origin").unwrap().to_owned()
    };
    for (first, more) in [
        ("GET /cASEs", ""),
        ("GET /", "Host: SHOP.example:80\r\n"),
        ("GET /?a&v=12&v=x", ""),
        ("PUT /", "Content-Length: 0\r\n"),
        ("GET /", "X-Tags: a\r\nX-Tags: b\r\n"),
        ("GET /", "X-Scheme: any\r\n"),
        ("GET /without", "X-No: no\r\n"),
        ("GET /without", ""),
    ] {
        assert_eq!(whose(first, more), "one", "{first} {more}");
    }
    for (first, more) in [
        ("GET /cas", ""),
        ("GET /?v=x&v=12", ""),
        ("GET /", "X-Tags: a\r\n"),
        ("GET /without", "X-No: yes\r\n"),
        ("GET /", ""),
    ] {
        assert_eq!(whose(first, more), "two", "{first} {more}");
    }
    assert_eq!((one.asked().len(), two.asked().len()), (8, 5));
}

#[test]
fn v14_5xx_retries_answers_and_lost_connections_and_says_when_they_are_used_up() {
    let fails = |nth: usize, head: &str| match (head.contains("/cut"), nth) {
        (true, _) => vec![Step::Cut],
        (false, 0 | 1) => vec![Step::send("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")],
        (false, _) => vec![Step::send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")],
    };
    let one = Origin::plain().script(fails).start();
    let retries = |attempts: u32| {
        let yaml = entry("one", one.port());
        let retries = format!("retries: {{attempts: {attempts}, retryOn: 5xx, backoff: 1ms}}");
        Sortie::builder(&format!(
            "{yaml}{}",
            rules(&format!("  - {retries}\n    {TO_ONE}\n"))
        ))
        .with(|options| options.workers = Some(1))
        .start()
    };
    retries(2).get("shop.example", "/").expect(200);
    assert_eq!(one.asked().len(), 3);
    let sortie = retries(1);
    sortie.get("shop.example", "/").expect(500);
    sortie.logged(&[" 500 URX via_upstream "]);
    assert_eq!(one.asked().len(), 5);
    let sortie = retries(2);
    sortie.get("shop.example", "/cut").expect(503);
    sortie.logged(&["/cut", " 503 UC,URX "]);
    assert_eq!(one.asked().len(), 8);
}

#[test]
fn x5_urx_is_said_only_where_retries_were_made() {
    let dead = crate::harness::free_address().port();
    let yaml = entry("one", dead);
    let sortie = shop(
        &yaml,
        &format!("  - retries: {{attempts: 0}}\n    {TO_ONE}\n"),
    );
    sortie.get("shop.example", "/").expect(503);
    sortie.logged(&[" 503 UF upstream_reset"]);
    let sortie = shop(&yaml, &format!("  - {TO_ONE}\n"));
    sortie.get("shop.example", "/").expect(503);
    sortie.logged(&[" 503 UF,URX upstream_reset"]);
    assert_eq!(
        sortie.metric(&["sortie_upstream_retries_total", "one.example"]),
        2.0
    );
}

#[test]
fn b2_requests_carry_the_labels_of_both_sides() {
    let ([_one], yaml) = servers(["one"]);
    let rules = rules(&format!("  - name: pay\n    {TO_ONE}\n"));
    let labels = [
        ("app", "till"),
        ("version", "v2"),
        ("service.istio.io/canonical-name", "till"),
    ];
    let facts = ProxyFacts {
        namespace: "default".into(),
        labels: labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        service_account: Some("cashier".into()),
        ..ProxyFacts::default()
    };
    let sortie = Sortie::builder(&format!("{yaml}{rules}"))
        .with(|options| options.load.facts = facts.into())
        .start();
    sortie.get("shop.example", "/").expect(200);
    sortie.get("nowhere.example", "/").expect(502);
    let common = [
        "istio_requests_total",
        "reporter=\"source\"",
        "source_app=\"till\"",
        "source_canonical_service=\"till\"",
        "source_canonical_revision=\"v2\"",
        "source_version=\"v2\"",
        "source_workload_namespace=\"default\"",
        "source_principal=\"spiffe://cluster.local/ns/default/sa/cashier\"",
        "request_protocol=\"http\"",
        "connection_security_policy=\"unknown\"",
    ];
    for own in [
        [
            "destination_service=\"one.example\"",
            "response_code=\"200\"",
        ],
        [
            "destination_service_name=\"BlackHoleCluster\"",
            "response_code=\"502\"",
        ],
    ] {
        let words: Vec<_> = common.iter().chain(&own).copied().collect();
        assert_eq!(sortie.metric(&words), 1.0, "{own:?}");
    }
    let line = sortie.logged(&["outbound|80||one.example"]);
    assert!(line.ends_with(" pay"), "{line}");
    // B4, O2: the name of the route that refuses.
    let line = sortie.logged(&["nowhere.example"]);
    assert!(
        line.contains(" BlackHoleCluster ") && line.ends_with(" block_all"),
        "{line}"
    );
}

#[test]
fn b1_bytes_of_requests_and_answers_include_their_heads() {
    let ([_one], yaml) = servers(["one"]);
    let sortie = shop(&yaml, &format!("  - {TO_ONE}\n"));
    let head = "POST /count HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 5\r\n\r\n";
    let answer = sortie
        .wire()
        .send(format!("{head}12345"))
        .answer()
        .expect(200);
    let request = sortie.metric(&["istio_request_bytes_sum", "one.example"]);
    assert_eq!(request, (head.len() + 5) as f64);
    let lines = answer
        .headers
        .iter()
        .map(|(name, value)| name.len() + value.len() + 4);
    let whole = "HTTP/1.1 200 OK\r\n\r\n".len() + lines.sum::<usize>() + answer.body.len();
    let sent = sortie.metric(&["istio_response_bytes_sum", "one.example"]);
    assert_eq!(sent, whole as f64);
}

#[test]
fn v12_an_answer_of_the_rule_itself_may_carry_formats() {
    let ([_one], yaml) = servers(["one"]);
    let sortie = shop(
        &yaml,
        "  - match: [{uri: {prefix: /move}}]\n    redirect: {uri: /new}\n    \
         headers: {response: {set: {x-said: \"%REQ(x-id)% %PROTOCOL%\"}}}\n  \
         - directResponse: {status: 418, body: {string: tea}}\n    \
         headers: {response: {add: {x-said: \"%RESPONSE_CODE%\"}}}\n",
    );
    let answer = sortie
        .wire()
        .send("GET /move HTTP/1.1\r\nHost: shop.example\r\nX-Id: 7\r\n\r\n")
        .answer()
        .expect(301);
    assert_eq!(answer.header("x-said"), Some("7 HTTP/1.1"));
    let answer = sortie.get("shop.example", "/").expect(418);
    assert_eq!(
        (answer.header("x-said"), answer.text().as_str()),
        (Some("418"), "tea")
    );
}

#[test]
fn v16_a_request_that_switches_protocols_is_not_mirrored() {
    let ([one, two], yaml) = servers(["one", "two"]);
    let sortie = shop(
        &yaml,
        &format!("  - mirrors: [{{destination: {{host: two.example}}}}]\n    {TO_ONE}\n"),
    );
    let mut wire = sortie.wire();
    wire.send(
        "GET /upgrade HTTP/1.1\r\nHost: shop.example\r\nConnection: upgrade\r\n\
         Upgrade: websocket\r\n\r\n",
    );
    assert_eq!(wire.head().status, 101);
    assert_eq!(wire.send("ping").bytes(4), b"ping");
    assert_eq!((one.asked().len(), two.asked().len()), (1, 0));
}

#[test]
fn b1_grpc_messages_are_counted_both_ways() {
    let ([_one], yaml) = servers(["one"]);
    let sortie = shop(&yaml, &format!("  - {TO_ONE}\n"));
    let request =
        http::Request::post("http://shop.example/echo").header("content-type", "application/grpc");
    let two = b"\0\0\0\0\x03abc\0\0\0\0\0";
    let (first, second) = two.split_at(4);
    let body = [first, second].map(bytes::Bytes::from_static).to_vec();
    assert_eq!(h2(sortie.address(), request, body, None).body, two);
    sortie.get("shop.example", "/").expect(200);
    for name in [
        "istio_request_messages_total",
        "istio_response_messages_total",
    ] {
        let words = [name, "destination_service=\"one.example\"", "\"grpc\""];
        assert_eq!(sortie.metric(&words), 2.0, "{name}");
    }
}
