//! What is not plain HTTP: TLS of the application's own, and TCP, through a real redirection.
//!
//! The namespace is the pod, curl the application; what the application speaks reaches the far side
//! byte for byte, or is closed with a reason in the log.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use crate::harness::{Inside, Lab, Origin, Pod, Sortie, curl, free_address};

/// An address that is nowhere: where the application believes the bank to be.
const NOWHERE: &str = "203.0.113.10";

/// A ServiceEntry: its host, the port's number and protocol, and the lines that say where it is.
fn entry(host: &str, port: u16, protocol: &str, more: &str) -> String {
    let name = host.trim_start_matches("*.").replace('.', "-");
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
         metadata: {{name: {name}-{port}}}\nspec:\n  hosts: ['{host}']\n\
         \x20 ports: [{{number: {port}, name: it, protocol: {protocol}}}]\n{more}"
    )
}

/// Behind that address, whatever the application looked up.
fn at(address: SocketAddr) -> String {
    format!(
        "\x20 resolution: STATIC\n  endpoints: [{{address: '{}', ports: {{it: {}}}}}]\n",
        address.ip(),
        address.port()
    )
}

fn origination(host: &str, tls: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: it}}\n\
         spec: {{host: '{host}', trafficPolicy: {{tls: {tls}}}}}\n"
    )
}

fn write(lab: &Lab, manifests: &str) -> PathBuf {
    let file = lab.path().join("sortie.yaml");
    std::fs::write(&file, manifests).unwrap();
    file
}

/// curl's options for the lab's CA, and for the client's own certificate.
fn files(folder: &Path) -> [String; 6] {
    let file = |name: &str| folder.join(name).display().to_string();
    [
        "--cacert".to_owned(),
        file("ca.crt"),
        "--cert".to_owned(),
        file("client.crt"),
        "--key".to_owned(),
        file("client.key"),
    ]
}

fn with<'a>(files: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    let files = files.iter().map(String::as_str);
    files.chain(more.iter().copied()).collect()
}

fn readable(lab: &Lab) {
    use std::os::unix::fs::PermissionsExt;
    // The application is another user.
    for name in ["client.key", "."] {
        let mode = if name == "." { 0o755 } else { 0o644 };
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(lab.path().join(name), mode).unwrap();
    }
}

#[test]
fn v17_tls_of_the_application_reaches_the_server_untouched_with_its_own_certificate() {
    let lab = Lab::new();
    let Some(pod) = Pod::new() else { return };
    readable(&lab);
    let bank = lab.bank().on(&format!("{}:0", pod.outside)).start();
    let manifests = entry("bank.example", 443, "TLS", &at(bank.address));
    let file = write(&lab, &manifests);
    let Some(()) = pod.redirect("iptables", "443", 15001) else {
        return;
    };
    let _sortie = pod.sortie_with(&file, 15001, &["--outbound-policy", "registry-only"]);
    let files = files(lab.path());
    let known = format!("bank.example:443:{NOWHERE}");
    let get = ["--resolve", &known, "https://bank.example/pay"];
    let (code, text) = pod.application(&with(&files, &get));
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("hello from bank"), "{text}");
    let seen = bank.only();
    assert_eq!(seen.sni.as_deref(), Some("bank.example"));
    assert_eq!(seen.client.as_deref(), Some("CN=shop"));
    // What curl offers, and not what sortie would.
    assert_eq!(seen.alpn, ["h2", "http/1.1"]);
    let line = Inside::logged(&file, &["\"- - -\" 0 - - "]);
    assert!(line.contains(" outbound|443||bank.example "), "{line}");
    assert!(line.contains(" bank.example "), "{line}");
    assert!(line.contains(&format!("\"{}\"", bank.address)), "{line}");
    assert!(line.contains(&format!(" {NOWHERE}:443 ")), "{line}");
}

#[test]
fn v18_a_server_that_speaks_first_is_heard_at_once() {
    let lab = Lab::new();
    let Some(pod) = Pod::new() else { return };
    let listener = TcpListener::bind((pod.outside, 0)).unwrap();
    let manifests = entry(
        "mysql.example",
        3306,
        "TCP",
        &at(listener.local_addr().unwrap()),
    ) + &format!("\x20 addresses: ['{NOWHERE}']\n");
    let file = write(&lab, &manifests);
    let Some(()) = pod.redirect("iptables", "3306", 15001) else {
        return;
    };
    let _sortie = pod.sortie_with(&file, 15001, &["--outbound-policy", "registry-only"]);
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"5.7.1 greeting\n").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        rest
    });
    let (_, text) = pod.application(&[&format!("telnet://{NOWHERE}:3306")]);
    assert!(text.contains("5.7.1 greeting"), "{text}");
    assert_eq!(serving.join().unwrap(), b"");
    Inside::logged(&file, &["\"- - -\" 0 - ", "outbound|3306||mysql.example"]);
}

#[test]
fn o3_what_the_registry_does_not_know_is_closed_with_curls_exit_codes() {
    let lab = Lab::new();
    let Some(pod) = Pod::new() else { return };
    let bank = lab.bank().on(&format!("{}:0", pod.outside)).start();
    let manifests = entry("bank.example", 443, "TLS", &at(bank.address))
        + &entry("web.example", 80, "HTTP", &at(bank.address));
    let file = write(&lab, &manifests);
    let Some(()) = pod.redirect("iptables", "80,443,8080", 15001) else {
        return;
    };
    let _sortie = pod.sortie_with(&file, 15001, &["--outbound-policy", "registry-only"]);
    let ask = |host: &str, port: u16, url: &str| {
        pod.application(&[
            "--insecure",
            "--resolve",
            &format!("{host}:{port}:{NOWHERE}"),
            url,
        ])
    };
    let (code, text) = ask("evil.example", 443, "https://evil.example/");
    assert_eq!(code, 35, "{text}");
    let line = Inside::logged(&file, &["\"- - -\" 0 UH ", " evil.example "]);
    assert!(line.contains(" BlackHoleCluster "), "{line}");
    let (code, text) = ask("evil.example", 8080, "http://evil.example:8080/");
    assert!([52, 56].contains(&code), "{code} {text}");
    Inside::logged(&file, &["\"- - -\" 0 UH ", &format!(" {NOWHERE}:8080 ")]);
    // On a port of HTTP there is an answer instead (O2).
    let (code, text) = ask("evil.example", 80, "http://evil.example/");
    assert!(code == 0 && text.contains("\n502"), "{code} {text}");
    assert_eq!(bank.seen().len(), 0);
}

#[test]
fn o4_what_the_registry_does_not_know_goes_where_it_was_going_under_allow_any() {
    let lab = Lab::new();
    let Some(pod) = Pod::new() else { return };
    readable(&lab);
    let known = entry(
        "known.example",
        443,
        "TLS",
        &at("127.0.0.1:9".parse().unwrap()),
    );
    let file = write(&lab, &known);
    let bank = lab.bank().on(&format!("{}:0", pod.outside)).start();
    let plain = Origin::plain()
        .named("plain")
        .on(&format!("{}:0", pod.outside))
        .start();
    let ports = format!("443,{},{}", bank.port(), plain.port());
    let Some(()) = pod.redirect("iptables", &ports, 15001) else {
        return;
    };
    // Nothing says otherwise, so that anything goes (O1, X15).
    let _sortie = pod.sortie(&file, 15001);
    let files = files(lab.path());
    let there = format!("bank.example:{}:{}", bank.port(), pod.outside);
    let url = format!("https://bank.example:{}/", bank.port());
    let (code, text) = pod.application(&with(&files, &["--resolve", &there, &url]));
    assert!(
        code == 0 && text.contains("hello from bank"),
        "{code} {text}"
    );
    assert_eq!(bank.only().client.as_deref(), Some("CN=shop"));
    let (code, text) = pod.application(&[&format!("http://{}/", plain.address)]);
    assert!(
        code == 0 && text.contains("hello from plain"),
        "{code} {text}"
    );
    let line = Inside::logged(&file, &["\"- - -\" 0 - ", "PassthroughCluster"]);
    assert!(line.contains(" PassthroughCluster "), "{line}");
}

#[test]
fn e12_a_wildcard_host_goes_to_the_original_address_by_the_name_that_tls_asks_for() {
    let lab = Lab::new();
    let Some(pod) = Pod::new() else { return };
    readable(&lab);
    let bank = Origin::tls(&lab.servers.server(&["a.wild.example", "b.tame.example"]))
        .on(&format!("{}:0", pod.outside))
        .start();
    let port = bank.port();
    let file = write(
        &lab,
        &entry("*.wild.example", port, "TLS", "\x20 resolution: NONE\n"),
    );
    let Some(()) = pod.redirect("iptables", &port.to_string(), 15001) else {
        return;
    };
    let _sortie = pod.sortie_with(&file, 15001, &["--outbound-policy", "registry-only"]);
    let files = files(lab.path());
    let get = |host: &str| {
        let there = format!("{host}:{port}:{}", pod.outside);
        let url = format!("https://{host}:{port}/");
        pod.application(&with(&files, &["--resolve", &there, &url]))
    };
    let (code, text) = get("a.wild.example");
    assert_eq!(code, 0, "{text}");
    assert_eq!(bank.only().sni.as_deref(), Some("a.wild.example"));
    assert_eq!(get("b.tame.example").0, 35);
    assert_eq!(bank.seen().len(), 1);
}

#[test]
fn d8_tls_in_tls_is_refused_with_a_reason() {
    let lab = Lab::new();
    let Some(pod) = Pod::new() else { return };
    let bank = lab.bank().on(&format!("{}:0", pod.outside)).start();
    let manifests = entry("bank.example", 443, "HTTPS", &at(bank.address))
        + &origination("bank.example", "{mode: SIMPLE}");
    let file = write(&lab, &manifests);
    let Some(()) = pod.redirect("iptables", "443", 15001) else {
        return;
    };
    let _sortie = pod.sortie(&file, 15001);
    let known = format!("bank.example:443:{NOWHERE}");
    let get = ["--insecure", "--resolve", &known, "https://bank.example/"];
    let (code, text) = pod.application(&get);
    assert_eq!(code, 35, "{text}");
    let line = Inside::logged(&file, &["tls_in_tls"]);
    assert!(line.contains("that would be TLS in TLS"), "{line}");
    assert_eq!(bank.seen().len(), 0);
}

#[test]
fn t6_plain_tcp_gets_its_tls_from_us_without_a_name_and_without_alpn_and_d8_holds() {
    let lab = Lab::new();
    let Some(pod) = Pod::new() else { return };
    let bank = lab.bank().on(&format!("{}:0", pod.outside)).start();
    let at_files = lab.path().display();
    let tls = format!(
        "{{mode: MUTUAL, clientCertificate: {at_files}/client.crt, privateKey: \
         {at_files}/client.key, caCertificates: {at_files}/ca.crt}}"
    );
    let manifests =
        entry("db.example", 5432, "TCP", &at(bank.address)) + &origination("db.example", &tls);
    let file = write(&lab, &manifests);
    let Some(()) = pod.redirect("iptables", "5432", 15001) else {
        return;
    };
    let _sortie = pod.sortie(&file, 15001);
    // Any bytes would do; those of HTTP are the ones that the far side answers.
    let (code, text) = pod.application(&[&format!("http://{NOWHERE}:5432/")]);
    assert!(
        code == 0 && text.contains("hello from bank"),
        "{code} {text}"
    );
    let seen = bank.only();
    assert_eq!((seen.sni, seen.alpn), (None, Vec::new()));
    assert_eq!(seen.client.as_deref(), Some("CN=shop"));
    // The server may speak first here, so that TLS is only seen once it is connected.
    let (code, text) = pod.application(&["--insecure", &format!("https://{NOWHERE}:5432/")]);
    assert_eq!(code, 35, "{text}");
    Inside::logged(&file, &["tls_in_tls"]);
    assert_eq!(bank.seen().len(), 2);
    assert_eq!(bank.asked().len(), 1);
}

#[test]
fn x15_a_listener_on_the_services_port_passes_tls_on_without_any_capture() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let here = free_address();
    let manifests = entry("bank.example", here.port(), "TLS", &at(bank.address));
    let sortie = Sortie::builder(&manifests)
        .with(|options| options.listen = vec![here])
        .start();
    let files = files(lab.path());
    let get = |code: i32, host: &str| {
        let to = format!("{host}:443:{}:{}", here.ip(), here.port());
        let url = format!("https://{host}/");
        curl(code, &with(&files, &["--connect-to", &to, &url]))
    };
    assert!(get(0, "bank.example").contains("hello from bank"));
    assert_eq!(bank.only().client.as_deref(), Some("CN=shop"));
    get(35, "evil.example");
    let reason = "reason=\"tls_on_plain_listener\"";
    assert_eq!(
        sortie.metric(&["sortie_downstream_rejected_requests_total", reason]),
        1.0
    );
}
