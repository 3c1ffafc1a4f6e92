//! What the application and the operator are told of who came in: X-Forwarded-Client-Cert, labels.

use crate::harness::{Origin, SHOP, Sidecar, WEB, capitals, closing, spiffe};

fn xfcc(origin: &Origin) -> Option<String> {
    let asked = origin.asked();
    let last = asked.last().unwrap();
    last.one("x-forwarded-client-cert").map(str::to_owned)
}

#[test]
fn p7_a_strict_port_serves_mtls_and_tells_the_application_who_called() {
    let app = Origin::plain().named("web").start();
    let sidecar = Sidecar::new(app.address, "http", "STRICT");
    // P7: the ALPN of sidecars is not asked for, and any that is offered will do (P11).
    for alpn in ["istio-http/1.1,istio,http/1.1", "http/1.1", "foo", ""] {
        let (pair, ca) = (["-cert", "sleep.crt", "-key", "sleep.key"], "root.pem");
        let at = |file: &str| sidecar.front.path().join(file).display().to_string();
        let files = [at(pair[1]), at(pair[3]), at(ca)];
        let mut all = vec!["-cert", &files[0], "-key", &files[1], "-CAfile", &files[2]];
        all.extend(["-verify_return_error"]);
        if !alpn.is_empty() {
            all.extend(["-alpn", alpn]);
        }
        let input = closing("web.shop", "/");
        let Some(told) = sidecar.front.s_client(sidecar.port(), &all, &input) else {
            return;
        };
        assert_eq!(told.code, 0, "{alpn}: {told:?}");
        told.says("Verify return code: 0 (ok)").says("HTTP/1.1 200");
        let chosen = alpn.contains("http/1.1").then_some("http/1.1");
        assert_eq!(told.alpn(), chosen, "{alpn}");
    }
    let uri = format!("URI={}", spiffe("full", "sleep"));
    let by = format!("By={};Hash=", spiffe(SHOP, WEB));
    let told = xfcc(&app).unwrap();
    assert!(told.starts_with(&by) && told.contains(&uri), "P15: {told}");
    assert_eq!(app.asked()[0].one("host"), Some("web.shop"));
    // B2, B3.
    let words = [
        "istio_requests_total{",
        "reporter=\"destination\"",
        "connection_security_policy=\"mutual_tls\"",
        &format!("source_principal=\"{}\"", spiffe("full", "sleep")),
        &format!("destination_principal=\"{}\"", spiffe(SHOP, WEB)),
        "destination_service=\"web.shop.svc.cluster.local\"",
        "response_code=\"200\"",
    ];
    sidecar.front.counts(&words, 4.0);
}

#[test]
fn p16_what_a_client_says_of_its_own_certificate_is_appended_to_in_mtls_and_dropped_in_clear() {
    let app = Origin::plain().named("web").start();
    let sidecar = Sidecar::new(app.address, "http", "PERMISSIVE");
    let forged =
        "X-Forwarded-Client-Cert: By=spiffe://a/b;URI=spiffe://cluster.local/ns/x/sa/admin";
    let (code, text) = sidecar.plain(&["--header", forged]);
    assert_eq!((code, text.contains("\n200")), (0, true), "{text}");
    assert_eq!(xfcc(&app), None, "in clear text it is dropped");
    // P8: TLS of a sidecar, which curl cannot be: it cannot name Istio's protocols.
    let request =
        format!("GET / HTTP/1.1\r\nHost: web.shop\r\n{forged}\r\nConnection: close\r\n\r\n");
    let at = |file: &str| sidecar.front.path().join(file).display().to_string();
    let (cert, key) = (at("sleep.crt"), at("sleep.key"));
    let all = ["-cert", &cert, "-key", &key, "-alpn", "istio-http/1.1"];
    let Some(told) = sidecar.front.s_client(sidecar.port(), &all, &request) else {
        return;
    };
    told.says("HTTP/1.1 200");
    let told = xfcc(&app).unwrap();
    let (theirs, ours) = told.split_once(',').unwrap();
    assert!(theirs.ends_with("sa/admin"), "the hop before: {told}");
    assert!(
        ours.starts_with("By=") && ours.contains(&format!("URI={}", spiffe("full", "sleep"))),
        "{told}"
    );
    let none = [
        "istio_requests_total{",
        "connection_security_policy=\"none\"",
    ];
    sidecar.front.counts(&none, 1.0);
    // P8: the application's clients do not speak TLS of their own to an HTTP port.
    let (code, text) = sidecar.curl("sleep", &["--no-alpn"]);
    assert_eq!(code, 35, "{text}");
    sidecar.rejects("foreign_tls", 1.0);
    sidecar.front.says(&["is not a sidecar's"]);
    assert_eq!(app.asked().len(), 2, "what is refused is never served");
}

#[test]
fn p9_a_permissive_tcp_port_passes_bytes_half_closed_and_ends_the_tls_of_sidecars() {
    let sidecar = Sidecar::new(capitals(""), "tcp", "PERMISSIVE");
    let mut wire = sidecar.front.wire(sidecar.port());
    wire.send("in clear");
    wire.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(wire.bytes(8), b"IN CLEAR", "an answer to a closed half");
    assert!(wire.is_closed());
    let counts = |policy: &str, bytes: f64| {
        let policy = format!("connection_security_policy=\"{policy}\"");
        let words = ["istio_tcp_received_bytes_total", "reporter=\"destination\""];
        let all = [&words[..], &[&policy]].concat();
        sidecar.front.counts(&all, bytes);
    };
    sidecar.front.logged(&["\"- - -\" 0 - ", " 8 8 "]);
    counts("none", 8.0);
    let at = |file: &str| sidecar.front.path().join(file).display().to_string();
    let (cert, key) = (at("sleep.crt"), at("sleep.key"));
    let all = ["-cert", &cert, "-key", &key, "-alpn", "istio"];
    let Some(told) = sidecar.front.s_client(sidecar.port(), &all, "over\n") else {
        return;
    };
    told.says("OVER");
    sidecar.front.logged(&["\"- - -\" 0 - ", " 5 5 "]);
    counts("mutual_tls", 5.0);
    let principal = format!("source_principal=\"{}\"", spiffe("full", "sleep"));
    let words = ["istio_tcp_connections_closed_total", principal.as_str()];
    sidecar.front.counts(&words, 1.0);
}
