//! What a request's head becomes where it enters, and what metrics and the access log tell of its
//! client. Clients are curl and openssl; the application says what it was sent.

use std::net::SocketAddr;
use std::process::Command;

use crate::harness::{
    Authority, Front, Mesh, Origin, SHOP, Sidecar, WEB, capitals, closing, guarded, needs, spiffe,
};

const XFCC: &str = "x-forwarded-client-cert";

/// SHA-256 of a certificate file, as openssl has it.
fn fingerprint(front: &Front, file: &str) -> String {
    let output = Command::new("openssl")
        .current_dir(front.path())
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in", file])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, hash) = text.trim().split_once('=').unwrap();
    hash.replace(':', "").to_lowercase()
}

#[test]
fn p16_a_sidecar_tells_the_application_who_calls_behind_what_came() {
    if needs("openssl").is_none() {
        return;
    }
    let app = Origin::plain().named("web").start();
    let sidecar = Sidecar::new(app.address, "http", "STRICT");
    let headers = [
        "--header",
        "X-Forwarded-Client-Cert: Hash=1;URI=a",
        "--header",
        "X-Forwarded-Client-Cert: Hash=2",
    ];
    let more = [&headers[..], &["--include"]].concat();
    let (code, answer) = sidecar.curl("sleep", &more);
    assert_eq!((code, answer.contains("\n200")), (0, true), "{answer}");
    assert!(answer.contains("server: istio-envoy"), "{answer}");
    let asked = &app.asked()[0];
    let theirs = spiffe("full", "sleep");
    let expected = format!(
        "Hash=1;URI=a,Hash=2,By={};Hash={};Subject=\"CN={theirs}\";URI={theirs}",
        spiffe(SHOP, WEB),
        fingerprint(&sidecar.front, "sleep.crt"),
    );
    assert_eq!(asked.one(XFCC), Some(expected.as_str()));
    assert_eq!(asked.one("x-forwarded-proto"), Some("https"));
    assert_eq!(asked.one("x-forwarded-for"), None);
    assert_eq!(asked.one("x-request-id").map(str::len), Some(36));
    assert_eq!(asked.one("host"), Some("web.shop"));
}

#[test]
fn p16_in_clear_text_a_client_cannot_claim_a_certificate() {
    let app = Origin::plain().named("web").start();
    let sidecar = Sidecar::new(app.address, "http", "PERMISSIVE");
    let headers = [
        "--header",
        "X-Forwarded-Client-Cert: Hash=1;URI=spiffe://cluster.local/ns/admin/sa/admin",
        "--header",
        "X-Request-Id: 7",
        // Naming a header here has it taken away by some proxies.
        "--header",
        "Connection: x-forwarded-proto",
    ];
    let (code, answer) = sidecar.plain(&headers);
    assert_eq!((code, answer.contains("\n200")), (0, true), "{answer}");
    let asked = &app.asked()[0];
    assert_eq!(asked.one(XFCC), None);
    assert_eq!(asked.one("x-request-id"), Some("7"));
    assert_eq!(asked.one("x-forwarded-proto"), Some("http"));
}

/// What makes openssl show a good certificate.
fn pair(sidecar: &Sidecar) -> [String; 4] {
    let at = |end: &str| {
        let file = sidecar.front.path().join(format!("sleep.{end}"));
        file.display().to_string()
    };
    ["-cert".into(), at("crt"), "-key".into(), at("key")]
}

#[test]
fn b3_requests_to_the_application_are_reported_by_the_destination() {
    let app = Origin::plain().named("web").start();
    let sidecar = Sidecar::new(app.address, "http", "PERMISSIVE");
    let arguments = pair(&sidecar);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let arguments = [&arguments[..], &["-alpn", "istio"]].concat();
    for _ in 0..2 {
        let input = closing("web.shop", "/");
        let Some(told) = sidecar.front.s_client(sidecar.port(), &arguments, &input) else {
            return;
        };
        told.says("200 OK");
    }
    assert_eq!(sidecar.plain(&[]).0, 0);
    let common = [
        "istio_requests_total",
        "reporter=\"destination\"",
        "destination_service=\"web.shop.svc.cluster.local\"",
        "destination_service_name=\"web\"",
        "destination_service_namespace=\"shop\"",
        "destination_workload_namespace=\"shop\"",
        "destination_app=\"web\"",
        "request_protocol=\"http\"",
        "response_code=\"200\"",
        "response_flags=\"-\"",
    ];
    let theirs = format!("source_principal=\"{}\"", spiffe("full", "sleep"));
    let ours = format!("destination_principal=\"{}\"", spiffe(SHOP, WEB));
    let mutual = [
        "connection_security_policy=\"mutual_tls\"",
        "source_workload_namespace=\"full\"",
        &theirs,
        &ours,
    ];
    let clear = [
        "connection_security_policy=\"none\"",
        "source_workload_namespace=\"unknown\"",
        "source_principal=\"unknown\"",
        "destination_principal=\"unknown\"",
    ];
    let front = &sidecar.front;
    front.counts(&[&common[..], &mutual].concat(), 2.0);
    front.counts(&[&common[..], &clear].concat(), 1.0);
    assert_eq!(front.metric(&["istio_requests_total"]), 3.0);
    // The upstream's own counters go on counting under the upstream.
    let upstream = ["sortie_upstream_connects_total", "upstream=\"inbound|"];
    assert!(front.metric(&upstream) >= 1.0);
}

#[test]
fn b3_opaque_connections_to_the_application_are_reported_by_the_destination() {
    let app = capitals("");
    let sidecar = Sidecar::new(app, "tcp", "STRICT");
    let arguments = pair(&sidecar);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let Some(told) = sidecar
        .front
        .s_client(sidecar.port(), &arguments, "word\nover\n")
    else {
        return;
    };
    told.says("WORD");
    let theirs = format!("source_principal=\"{}\"", spiffe("full", "sleep"));
    let labels = [
        "reporter=\"destination\"",
        "request_protocol=\"tcp\"",
        "connection_security_policy=\"mutual_tls\"",
        "destination_service_name=\"web\"",
        &theirs,
    ];
    for (metric, value) in [
        ("istio_tcp_connections_opened_total", 1.0),
        ("istio_tcp_connections_closed_total", 1.0),
        ("istio_tcp_received_bytes_total", 10.0),
        ("istio_tcp_sent_bytes_total", 10.0),
    ] {
        sidecar
            .front
            .counts(&[&[metric][..], &labels].concat(), value);
        assert_eq!(sidecar.front.metric(&[metric]), value, "{metric}");
    }
}

#[test]
fn the_access_log_tells_the_client_and_why_others_were_turned_away() {
    let app = Origin::plain().named("web").start();
    let mesh = Mesh::new();
    let builder = Front::builder();
    builder.pair("sleep", &mesh.identity("full", "sleep"));
    let front = builder
        .identity(&mesh, &mesh.identity(SHOP, WEB))
        .with(&["--namespace", SHOP, "--labels", "app=web"])
        .with(&["--access-log-format", "json"])
        .inbound(app.address)
        .start(&guarded(app.address, "http", "STRICT"));
    let port = app.address.port();
    let pair = ["--insecure", "--cert", "sleep.crt", "--key", "sleep.key"];
    let served = front.curl(port, "https://web.shop/known", &pair);
    assert_eq!(served.0, 0, "{}", served.1);
    let nameless = front.curl(port, "https://web.shop/", &["--insecure"]);
    assert_ne!(nameless.0, 0);
    let clear = front.curl(port, "http://web.shop/", &[]);
    assert_eq!(clear.0, 56, "{}", clear.1);

    let read = |words: &[&str]| -> serde_json::Value {
        serde_json::from_str(&front.logged(words)).unwrap()
    };
    let line = read(&["/known"]);
    assert_eq!(line["downstream_peer_uri_san"], spiffe("full", "sleep"));
    assert_eq!(line["downstream_tls_version"], "TLSv1.3");
    assert_eq!(line["requested_server_name"], "web.shop");
    assert_eq!(line["response_code"], 200);

    let line = read(&["filter_chain_not_found"]);
    assert_eq!(line["response_code"], 0);
    assert_eq!(line["response_flags"], "NR");
    assert_eq!(line["connection_termination_details"], "plaintext_on_tls");
    assert!(line["downstream_tls_version"].is_null(), "{line}");

    let line = read(&["downstream_transport_failure_reason"]);
    assert_eq!(line["response_code"], 0);
    let words = line["downstream_transport_failure_reason"].as_str();
    assert!(words.unwrap().contains("certificate"), "{line}");
    assert!(line.get("downstream_peer_uri_san").is_none(), "{line}");
}

/// A gateway to one service in clear text; `tls` of its server for HTTP.
fn edge(bank: SocketAddr, tls: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: bank}}\n\
         spec:\n  hosts: [bank.example]\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n  \
         resolution: STATIC\n  endpoints: [{{address: 127.0.0.1, ports: {{http: {}}}}}]\n\
         ---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\n\
         spec:\n  selector: {{istio: edge}}\n  servers:\n  \
         - {{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['*']{tls}}}\n  \
         - port: {{number: 443, name: https, protocol: HTTPS}}\n    hosts: ['*']\n    \
         tls: {{mode: MUTUAL, serverCertificate: $DIR/server.crt, privateKey: $DIR/server.key, \
         caCertificates: $DIR/root.pem}}\n\
         ---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: bank}}\n\
         spec:\n  hosts: [bank.example]\n  gateways: [edge]\n  http: [{{route: [{{destination: \
         {{host: bank.example, port: {{number: 80}}}}}}]}}]\n",
        bank.port()
    )
}

/// Proxies before the gateway are believed.
const TRUSTED: &str = "---\napiVersion: v1\nkind: ConfigMap\n\
    metadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |-\n    defaultConfig:\n      \
    gatewayTopology: {numTrustedProxies: 1}\n";

fn gateway(bank: SocketAddr, tls: &str) -> Front {
    let root = Authority::new("edge root");
    let builder = Front::builder();
    builder.pair("server", &root.server(&["bank.example"]));
    builder.pair("client", &root.client("front"));
    builder.file("root.pem", &root.pem);
    builder
        .gateway(&[80, 443])
        .with(&["--labels", "istio=edge"])
        .start(&edge(bank, tls))
}

#[test]
fn g12_a_gateway_tells_where_a_request_came_from_and_how() {
    let bank = Origin::plain().named("bank").start();
    let front = gateway(bank.address, "");
    let forged = [
        "--header",
        "X-Forwarded-For: 10.0.0.1, 10.0.0.2",
        "--header",
        "X-Forwarded-Proto: ftp",
        "--header",
        "X-Forwarded-Client-Cert: Hash=1",
        "--header",
        "X-Envoy-Internal: true",
        "--include",
    ];
    let (code, answer) = front.curl(80, "http://bank.example/", &forged);
    assert_eq!((code, answer.contains("\n200")), (0, true), "{answer}");
    assert!(answer.contains("server: istio-envoy"), "{answer}");
    let asked = &bank.asked()[0];
    let all = "10.0.0.1, 10.0.0.2,127.0.0.1";
    assert_eq!(asked.one("x-forwarded-for"), Some(all));
    assert_eq!(asked.one("x-forwarded-proto"), Some("http"));
    assert_eq!(asked.one("x-envoy-internal"), None);
    assert_eq!(asked.one(XFCC), None);

    let pair = ["--cacert", "root.pem", "--cert", "client.crt", "--key"];
    let more = [&pair[..], &["client.key"], &forged].concat();
    let (code, answer) = front.curl(443, "https://bank.example/", &more);
    assert_eq!((code, answer.contains("\n200")), (0, true), "{answer}");
    let asked = &bank.asked()[1];
    assert_eq!(asked.one("x-forwarded-proto"), Some("https"));
    let element = asked.one(XFCC).unwrap();
    assert!(element.starts_with("Hash="), "{element}");
    let begin = ";Cert=\"-----BEGIN%20CERTIFICATE-----%0A";
    assert!(element.contains(begin), "{element}");
    let end = "%0A-----END%20CERTIFICATE-----%0A\";Subject=\"CN=front\";URI=";
    assert!(element.ends_with(end), "{element}");
    front.counts(&["istio_requests_total", "reporter=\"source\""], 2.0);
    assert_eq!(front.metric(&["reporter=\"destination\""]), 0.0);
}

#[test]
fn g12_a_path_reaches_rules_and_servers_in_its_normal_form() {
    let bank = Origin::plain().named("bank").start();
    let front = gateway(bank.address, "");
    let url = "http://bank.example/a/../b/%2e%2e/%7Ec%2Fd/./e?x=/../%41";
    let (code, answer) = front.curl(80, url, &["--path-as-is"]);
    assert_eq!((code, answer.contains("\n200")), (0, true), "{answer}");
    assert_eq!(bank.asked()[0].target, "/~c%2Fd/e?x=/../%41");
    for path in ["/a%00", "/%zz"] {
        let mut wire = front.wire(80);
        let answer = wire.get("bank.example", path);
        assert_eq!(answer.status, 400, "{answer:?}");
        assert_eq!(answer.header("server"), Some("istio-envoy"));
        front.logged(&[path, " 400 - path_normalization_failed "]);
    }
    assert_eq!(bank.asked().len(), 1);
}

#[test]
fn g10_https_redirect_believes_a_trusted_proxy_alone() {
    let bank = Origin::plain().named("bank").start();
    let redirect = ", tls: {httpsRedirect: true}";
    let front = gateway(bank.address, redirect);
    let head = "GET /x?y=1 HTTP/1.1\r\nHost: bank.example:8080\r\nX-Forwarded-Proto: https\r\n\r\n";
    let mut wire = front.wire(80);
    let answer = wire.send(head).answer().expect(301);
    let location = answer.header("location");
    assert_eq!(location, Some("https://bank.example:8080/x?y=1"));
    assert_eq!(answer.header("server"), Some("istio-envoy"));
    // On the same connection: the rules are those of the day.
    front.configure(&(edge(bank.address, redirect) + TRUSTED));
    wire.send(head).answer().expect(200);
    assert_eq!(bank.asked()[0].one("x-forwarded-proto"), Some("https"));
    let answer = wire.get("bank.example", "/").expect(301);
    assert_eq!(answer.header("location"), Some("https://bank.example/"));
}
