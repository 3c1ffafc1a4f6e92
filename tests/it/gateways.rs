//! Every mode of a Gateway's servers, to clients that are no relatives: curl, openssl, bare TCP.
//!
//! One gateway serves them all, each mode on a port of its own, as its operator would mount them.

use std::net::{Shutdown, SocketAddr};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::harness::{
    Authority, Front, FrontBuilder, Identity, Mesh, Origin, Told, capitals, closing, spiffe,
};

/// A ServiceEntry for a server on this machine.
fn entry(host: &str, number: u16, protocol: &str, at: SocketAddr) -> String {
    let name = host.replace('.', "-");
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\n\
         spec:\n  hosts: [{host}]\n  location: MESH_EXTERNAL\n  resolution: STATIC\n\
         \x20 ports: [{{number: {number}, name: it, protocol: {protocol}, targetPort: {}}}]\n\
         \x20 endpoints: [{{address: {}}}]\n",
        at.port(),
        at.ip()
    )
}

/// A Gateway with these servers: name, protocol, hosts, and the `tls` block.
fn gateway(name: &str, port: u16, servers: &[(&str, &str, &str, &str)]) -> String {
    let head = format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\n\
         spec:\n  selector: {{istio: edge}}\n  servers:\n"
    );
    let server = |(name, protocol, hosts, tls): &(&str, &str, &str, &str)| {
        let tls = match *tls {
            "" => String::new(),
            tls => format!("    tls: {tls}\n"),
        };
        format!(
            "  - port: {{number: {port}, name: {name}, protocol: {protocol}}}\n\
             \x20   hosts: [{hosts}]\n{tls}"
        )
    };
    head + &servers.iter().map(server).collect::<String>()
}

/// A VirtualService that leads hosts of a gateway to a service.
fn leads(name: &str, gateway: &str, hosts: &str, to: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\n\
         spec:\n  gateways: [{gateway}]\n  hosts: [{hosts}]\n\
         \x20 http: [{{route: [{{destination: {{host: {to}}}}}]}}]\n"
    )
}

/// What is mounted at the gateway, what clients have, and an application behind.
struct Ground {
    builder: FrontBuilder,
    servers: Authority,
    clients: Authority,
    app: Origin,
}

impl Ground {
    fn new() -> Ground {
        let ground = Ground {
            builder: Front::builder(),
            servers: Authority::new("server CA"),
            clients: Authority::new("client CA"),
            app: Origin::plain().named("app").start(),
        };
        let Ground {
            builder,
            servers,
            clients,
            ..
        } = &ground;
        builder.file("ca.pem", &servers.pem);
        builder.file("clients.pem", &clients.pem);
        builder.pair("good", &clients.client("good"));
        builder.pair("stranger", &Authority::new("stranger CA").client("good"));
        builder.pair("expired", &clients.expired("good", &[]));
        builder.pair("b", &servers.server(&["b.wild.example", "*.edge.example"]));
        // S3, S4: each form in which a Secret may name its parts.
        ground.secret("a-cert", ["tls.crt", "tls.key"], "a.example");
        ground.secret("wild-cert", ["cert", "key"], "*.wild.example");
        for name in ["m1-cert", "m2-cert", "m3-cert"] {
            ground.secret(name, ["tls.crt", "tls.key"], "*.edge.example");
        }
        ground
            .builder
            .file(&secret("m1-cert-cacert", "cacert"), &clients.pem);
        ground
            .builder
            .file(&secret("m2-cert", "ca.crt"), &clients.pem);
        ground
            .builder
            .file(&secret("m3-cert", "cacert"), &clients.pem);
        ground
    }

    fn secret(&self, name: &str, keys: [&str; 2], host: &str) {
        let identity = self.servers.server(&[host]);
        self.builder.file(&secret(name, keys[0]), &identity.chain);
        self.builder.file(&secret(name, keys[1]), &identity.key);
    }

    /// A gateway that serves these ports; `app.internal` is the application.
    #[track_caller]
    fn start(self, ports: &[u16], manifests: &str) -> Edge {
        let text = manifests.to_owned() + &entry("app.internal", 80, "HTTP", self.app.address);
        let secrets = self.builder.path().join("secrets").display().to_string();
        let front = self
            .builder
            .with(&["--labels", "istio=edge", "--namespace", "istio-system"])
            .with(&["--credentials", &secrets])
            .gateway(ports)
            .start(&text);
        Edge {
            front,
            app: self.app,
        }
    }
}

fn secret(name: &str, key: &str) -> String {
    format!("secrets/istio-system/{name}/{key}")
}

struct Edge {
    front: Front,
    app: Origin,
}

impl Edge {
    /// curl by https with the servers' CA and, where it is named, a pair: exit code and status.
    fn https(&self, port: u16, host: &str, pair: &str, more: &[&str]) -> (i32, String) {
        let (cert, key) = (format!("{pair}.crt"), format!("{pair}.key"));
        let mut all = vec!["--cacert", "ca.pem"];
        if !pair.is_empty() {
            all.extend(["--cert", &cert, "--key", &key]);
        }
        let url = format!("https://{host}/path");
        self.front.curl(port, &url, &[&all[..], more].concat())
    }

    #[track_caller]
    fn serves(&self, port: u16, host: &str, pair: &str) {
        let (code, text) = self.https(port, host, pair, &[]);
        assert_eq!(
            (code, status(&text)),
            (0, 200),
            "{host} as \"{pair}\": {text}"
        );
        assert!(text.contains("hello from app"), "{text}");
    }

    /// The connection fails in the handshake, or at the first read under TLS 1.3 (5.6). For one
    /// alert curl has an exit code of its own.
    #[track_caller]
    fn refuses(&self, port: u16, host: &str, pair: &str, reason: &str) {
        let served = self.app.asked().len();
        let before = self.failures(reason);
        let handshake = if reason == "expired" { 60 } else { 35 };
        for (version, expected) in [("1.2", handshake), ("1.3", 56)] {
            let (code, text) = self.https(port, host, pair, &["--tls-max", version]);
            assert_eq!(
                code, expected,
                "{host} as \"{pair}\" in TLS {version}: {text}"
            );
        }
        self.fails(reason, before + 2.0);
        assert_eq!(self.app.asked().len(), served);
    }

    fn failures(&self, reason: &str) -> f64 {
        self.front.metric(&[FAILURES, &labelled(reason)])
    }

    /// Waits until so many handshakes have failed for this reason.
    #[track_caller]
    fn fails(&self, reason: &str, times: f64) {
        self.front.counts(&[FAILURES, &labelled(reason)], times);
    }

    fn file(&self, name: &str) -> String {
        self.front.path().join(name).display().to_string()
    }

    /// openssl as this pair.
    fn openssl(&self, port: u16, host: &str, pair: &str, more: &[&str]) -> Option<Told> {
        let (cert, key) = (
            self.file(&format!("{pair}.crt")),
            self.file(&format!("{pair}.key")),
        );
        let mut all = vec!["-servername", host];
        if !pair.is_empty() {
            all.extend(["-cert", &cert, "-key", &key]);
        }
        all.extend(more);
        self.front.s_client(port, &all, &closing(host, "/"))
    }
}

const FAILURES: &str = "sortie_downstream_handshake_failures_total";

fn labelled(reason: &str) -> String {
    format!("reason=\"{reason}\"")
}

fn status(text: &str) -> u16 {
    let mut lines = text.lines().rev();
    let found = lines.find_map(|line| line.parse().ok());
    found.unwrap_or_default()
}

/// Two gateways' worth of SIMPLE servers on one port.
fn simple() -> Edge {
    let files = "{mode: SIMPLE, serverCertificate: $DIR/b.crt, privateKey: $DIR/b.key}";
    let servers = [
        (
            "a",
            "HTTPS",
            "a.example",
            "{mode: SIMPLE, credentialName: a-cert}",
        ),
        (
            "wild",
            "HTTPS",
            "'*.wild.example'",
            "{mode: SIMPLE, credentialName: wild-cert}",
        ),
        ("b", "HTTPS", "b.wild.example", files),
    ];
    let manifests = gateway("simple", 443, &servers)
        + &gateway(
            "clear",
            80,
            &[("http", "HTTP", "'*'", "{httpsRedirect: true}")],
        )
        + &gateway("open", 8080, &[("http", "HTTP", "a.example", "")])
        + &leads("a", "simple, open", "a.example", "app.internal")
        + &leads("wild", "simple", "'*.wild.example'", "app.internal")
        + &leads("b", "simple", "b.wild.example", "app.internal");
    Ground::new().start(&[443, 80, 8080], &manifests)
}

#[test]
fn g8_the_certificate_is_that_of_the_server_whose_hosts_match_best() {
    let edge = simple();
    // curl checks each name: a.example by tls.crt, the wildcard by cert, b by the old file fields.
    for host in ["a.example", "x.wild.example", "b.wild.example"] {
        edge.serves(443, host, "");
    }
    for (host, subject) in [
        ("a.example", "CN = a.example"),
        ("X.WILD.example", "CN = *.wild.example"),
        ("b.wild.example", "CN = b.wild.example"),
    ] {
        let Some(told) = edge.openssl(443, host, "", &[]) else {
            return;
        };
        assert_eq!(told.subject(), Some(subject), "{host}");
    }
    // G12: who speaks TLS without a certificate is told of to nobody.
    let asked = edge.app.asked();
    assert_eq!(asked[0].one("x-forwarded-client-cert"), None);
    assert_eq!(asked[0].one("x-forwarded-proto"), Some("https"));
    assert_eq!(asked[0].one("x-forwarded-for"), Some("127.0.0.1"));
}

#[test]
fn g8_an_unknown_name_or_none_is_closed_without_a_certificate() {
    let edge = simple();
    let (code, text) = edge.https(443, "unknown.example", "", &[]);
    assert_eq!(code, 35, "{text}");
    for more in [&["-servername", "unknown.example"][..], &["-noservername"]] {
        let Some(told) = edge.front.s_client(443, more, "") else {
            return;
        };
        assert!(
            told.text.contains("no peer certificate available"),
            "{told:?}"
        );
    }
    let line = edge
        .front
        .logged(&["filter_chain_not_found", "unknown.example"]);
    assert!(line.contains(" NR "), "{line}");
}

#[test]
fn g9_a_host_of_another_server_is_421_and_a_host_of_nobody_is_404() {
    let edge = simple();
    for version in ["--http1.1", "--http2"] {
        let ask = |host: &str| {
            let header = format!("Host: {host}");
            let more = [version, "--header", &header];
            edge.https(443, "a.example", "", &more)
        };
        let (code, text) = ask("b.wild.example");
        assert_eq!((code, status(&text)), (0, 421), "{version}: {text}");
        let (code, text) = ask("nobody.example");
        assert_eq!((code, status(&text)), (0, 404), "{version}: {text}");
        let (code, text) = ask("a.example");
        assert_eq!((code, status(&text)), (0, 200), "{version}: {text}");
    }
    assert_eq!(edge.app.asked().len(), 2);
    let line = edge.front.logged(&["nobody.example"]);
    assert!(line.contains(" 404 NR "), "{line}");
}

#[test]
fn g10_https_redirect_is_301_for_every_request_and_clear_text_is_served_where_nothing_says_so() {
    let edge = simple();
    for (url, location) in [
        ("http://a.example/x?y=z", "https://a.example/x?y=z"),
        ("http://nobody.example:80/", "https://nobody.example/"),
    ] {
        let write = ["--write-out", "\n%{http_code} %{redirect_url}"];
        let (code, text) = edge.front.curl(80, url, &write);
        assert_eq!(code, 0, "{text}");
        assert!(text.contains(&format!("\n301 {location}")), "{text}");
    }
    let mut wire = edge.front.wire(80);
    let answer = wire.get("a.example:8080", "/x").expect(301);
    assert_eq!(answer.header("location"), Some("https://a.example:8080/x"));
    let (code, text) = edge.front.curl(8080, "http://a.example/", &[]);
    assert_eq!((code, status(&text)), (0, 200), "{text}");
    let (code, text) = edge.front.curl(8080, "http://nobody.example/", &[]);
    assert_eq!((code, status(&text)), (0, 404), "{text}");
    // TLS to a plaintext port, and plaintext to a TLS port: each named as that.
    let (code, text) = edge.https(8080, "a.example", "", &[]);
    assert_eq!(code, 35, "{text}");
    edge.front.says(&["TLS to a plaintext port"]);
    let (code, text) = edge.front.curl(443, "http://a.example/", &[]);
    assert!([52, 56].contains(&code), "{code} {text}");
    edge.front.says(&["plaintext HTTP to a TLS port"]);
}

#[test]
fn p11_alpn_never_ends_a_handshake() {
    let edge = simple();
    for (offer, chosen) in [
        ("foo", None),
        ("h2,http/1.1", Some("h2")),
        ("http/1.1", Some("http/1.1")),
        ("istio,foo", None),
    ] {
        let told = edge.openssl(443, "a.example", "", &["-alpn", offer]);
        let Some(told) = told else { return };
        assert!(told.subject().is_some(), "{offer}: {told:?}");
        assert_eq!(told.alpn(), chosen, "{offer}");
        if chosen != Some("h2") {
            told.says("HTTP/1.1 200");
        }
    }
}

/// `openssl x509 -pubkey | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64`
/// and `openssl x509 -fingerprint -sha256`.
fn pins(identity: &Identity) -> (String, String) {
    let leaf = CertificateDer::from_pem_slice(identity.chain.as_bytes()).unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&leaf).unwrap();
    let sha256 = |bytes: &[u8]| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
        digest.as_ref().to_vec()
    };
    let hex: Vec<String> = sha256(&leaf).iter().map(|b| format!("{b:02x}")).collect();
    (base64(&sha256(parsed.public_key().raw)), hex.concat())
}

fn base64(bytes: &[u8]) -> String {
    const WORDS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three
            .iter()
            .fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - three.len()));
        for nth in 0..4 {
            text.push(match nth <= three.len() {
                true => char::from(WORDS[(bits >> (18 - 6 * nth) & 63) as usize]),
                false => '=',
            });
        }
    }
    text
}

/// MUTUAL in each of its forms, on one port.
fn mutual() -> Edge {
    let ground = Ground::new();
    let id = spiffe("full", "sleep");
    ground.builder.pair("named", &ground.clients.server(&[&id]));
    let pinned = ground.clients.client("pinned");
    ground.builder.pair("pinned", &pinned);
    let revoked = ground.clients.client("revoked");
    ground.builder.pair("revoked", &revoked);
    ground
        .builder
        .file("crl.pem", &ground.clients.crl(&[&revoked]));
    let (spki, hash) = pins(&pinned);
    let files = |more: &str| {
        format!(
            "{{mode: MUTUAL, serverCertificate: $DIR/b.crt, privateKey: $DIR/b.key, \
             caCertificates: $DIR/clients.pem, {more}}}"
        )
    };
    let named = |name: &str| format!("{{mode: MUTUAL, credentialName: {name}}}");
    let servers = [
        ("m1", named("m1-cert")),
        ("m2", named("m2-cert")),
        ("m3", named("'kubernetes://m3-cert'")),
        ("san", files(&format!("subjectAltNames: ['{id}']"))),
        ("spki", files(&format!("verifyCertificateSpki: ['{spki}']"))),
        ("hash", files(&format!("verifyCertificateHash: ['{hash}']"))),
        ("crl", files("caCrl: $DIR/crl.pem")),
        (
            "optional",
            "{mode: OPTIONAL_MUTUAL, credentialName: m1-cert}".to_owned(),
        ),
        ("missing", named("no-such-cert")),
    ];
    let hosts = servers
        .each_ref()
        .map(|(name, _)| format!("{name}.edge.example"));
    let servers: Vec<_> = servers
        .iter()
        .zip(&hosts)
        .map(|((name, tls), host)| (*name, "HTTPS", host.as_str(), tls.as_str()))
        .collect();
    let manifests = gateway("mutual", 443, &servers)
        + &leads("m", "mutual", "'*.edge.example'", "app.internal");
    ground.start(&[443], &manifests)
}

#[test]
fn g4_mutual_takes_clients_of_its_ca_whichever_way_the_secret_names_it() {
    let edge = mutual();
    for host in ["m1.edge.example", "m2.edge.example", "m3.edge.example"] {
        edge.serves(443, host, "good");
    }
    // G12, P16: the client's certificate is told, and what it says of itself is not believed.
    let forged = "X-Forwarded-Client-Cert: URI=spiffe://cluster.local/ns/x/sa/admin";
    edge.https(443, "m1.edge.example", "good", &["--header", forged]);
    let asked = edge.app.asked();
    let told = asked
        .last()
        .unwrap()
        .one("x-forwarded-client-cert")
        .unwrap();
    assert!(
        told.contains("Subject=\"CN=good\"") && !told.contains("admin"),
        "{told}"
    );
}

#[test]
fn g4_mutual_refuses_no_certificate_another_ca_and_an_expired_one() {
    let edge = mutual();
    edge.refuses(443, "m1.edge.example", "", "no_certificate");
    edge.refuses(443, "m1.edge.example", "stranger", "unknown_ca");
    edge.refuses(443, "m1.edge.example", "expired", "expired");
    for (pair, alert) in [("", 116), ("stranger", 48), ("expired", 45)] {
        let Some(told) = edge.openssl(443, "m1.edge.example", pair, &["-tls1_3"]) else {
            return;
        };
        assert_eq!(told.alert(), Some(alert), "\"{pair}\": {told:?}");
    }
    edge.serves(443, "m1.edge.example", "good");
}

#[test]
fn g4_optional_mutual_verifies_a_certificate_only_if_there_is_one() {
    let edge = mutual();
    edge.serves(443, "optional.edge.example", "");
    edge.serves(443, "optional.edge.example", "good");
    edge.refuses(443, "optional.edge.example", "stranger", "unknown_ca");
    let asked = edge.app.asked();
    assert_eq!(asked[0].one("x-forwarded-client-cert"), None);
    let told = asked[1].one("x-forwarded-client-cert").unwrap();
    assert!(
        told.starts_with("Hash=") || told.starts_with("By="),
        "{told}"
    );
}

#[test]
fn g6_names_pins_and_revocation_lists_decide_who_gets_in() {
    let edge = mutual();
    edge.serves(443, "san.edge.example", "named");
    edge.refuses(443, "san.edge.example", "good", "san");
    for host in ["spki.edge.example", "hash.edge.example"] {
        edge.serves(443, host, "pinned");
        edge.refuses(443, host, "good", "pin");
    }
    edge.serves(443, "crl.edge.example", "good");
    edge.refuses(443, "crl.edge.example", "revoked", "revoked");
    let Some(told) = edge.openssl(443, "crl.edge.example", "revoked", &["-tls1_3"]) else {
        return;
    };
    assert_eq!(told.alert(), Some(44), "certificate_revoked: {told:?}");
    edge.front.says(&["handshake", "revoked"]);
    edge.front.says(&["handshake", &spiffe("full", "sleep")]);
}

#[test]
fn t17_a_server_whose_secret_is_missing_lets_nobody_in_and_the_others_run() {
    let edge = mutual();
    let (code, text) = edge.https(443, "missing.edge.example", "good", &[]);
    assert_eq!(code, 35, "S8: {text}");
    edge.front.says(&["istio-system/no-such-cert"]);
    edge.serves(443, "m1.edge.example", "good");
}

/// A gateway with an identity: the mesh's TLS, and TLS that it does not end.
fn mesh_edge(mesh: &Mesh, servers: &Origin) -> Edge {
    let ground = Ground::new();
    ground
        .builder
        .pair("sleep", &mesh.identity("full", "sleep"));
    ground.builder.file("ca.pem", &mesh.root.pem);
    let name = "web.shop.svc.cluster.local";
    let manifests = [
        gateway(
            "inner",
            443,
            &[("m", "HTTPS", "mesh.example", "{mode: ISTIO_MUTUAL}")],
        ),
        leads("inner", "inner", "mesh.example", "app.internal"),
        gateway(
            "pass",
            8443,
            &[("p", "TLS", "'*.bank.example'", "{mode: PASSTHROUGH}")],
        ),
        gateway(
            "auto",
            15443,
            &[("a", "TLS", "'*.local'", "{mode: AUTO_PASSTHROUGH}")],
        ),
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: pass}\n\
         spec:\n  gateways: [pass]\n  hosts: ['*.bank.example']\n\
         \x20 tls:\n  - match: [{sniHosts: [pay.bank.example]}]\n\
         \x20   route: [{destination: {host: bank.internal}}]\n"
            .to_owned(),
        entry("bank.internal", 443, "TLS", servers.address),
        entry(name, 80, "HTTP", servers.address)
            .replace("MESH_EXTERNAL", "MESH_INTERNAL")
            .replace(
                "{name: web-shop-svc-cluster-local}",
                "{name: web, namespace: shop}",
            ),
    ];
    let identity = mesh.identity("istio-system", "edge");
    let ground = Ground {
        builder: ground.builder.identity(mesh, &identity),
        ..ground
    };
    ground.start(&[443, 8443, 15443], &manifests.concat())
}

#[test]
fn g3_istio_mutual_takes_the_meshs_own_and_shows_its_identity() {
    let mesh = Mesh::new();
    let bank = Origin::tls(&mesh.identity("shop", "web")).start();
    let edge = mesh_edge(&mesh, &bank);
    let Some(told) = edge.openssl(443, "mesh.example", "sleep", &["-alpn", "istio"]) else {
        return;
    };
    told.says("HTTP/1.1 200");
    let asked = edge.app.asked();
    let told = asked[0].one("x-forwarded-client-cert").unwrap();
    let by = format!("By={};Hash=", spiffe("istio-system", "edge"));
    assert!(told.starts_with(&by), "{told}");
    assert!(
        told.contains(&format!("URI={}", spiffe("full", "sleep"))),
        "{told}"
    );
    for (pair, alert, reason) in [("", 116, "no_certificate"), ("good", 48, "unknown_ca")] {
        let told = edge
            .openssl(443, "mesh.example", pair, &["-tls1_3"])
            .unwrap();
        assert_eq!(told.alert(), Some(alert), "\"{pair}\": {told:?}");
        edge.fails(reason, 1.0);
    }
    assert_eq!(edge.app.asked().len(), 1);
}

#[test]
fn g3_passthrough_hands_on_the_clients_own_tls_by_its_name() {
    let mesh = Mesh::new();
    let bank = Origin::tls(&mesh.root.server(&["pay.bank.example"]))
        .named("bank")
        .demands(&mesh.root)
        .start();
    let edge = mesh_edge(&mesh, &bank);
    let (code, text) = edge.https(8443, "pay.bank.example", "sleep", &[]);
    assert_eq!((code, status(&text)), (0, 200), "{text}");
    assert!(text.contains("hello from bank"), "{text}");
    let seen = bank.only();
    assert_eq!(seen.sni.as_deref(), Some("pay.bank.example"));
    assert_eq!(seen.alpn, ["h2", "http/1.1"], "curl's");
    assert!(seen.client.is_some(), "its own certificate");
    // A name that the server has and no route: closed.
    let (code, text) = edge.https(8443, "other.bank.example", "sleep", &[]);
    assert_eq!(code, 35, "{text}");
    assert_eq!(bank.seen().len(), 1);
    let line = edge.front.logged(&["outbound|443||bank.internal"]);
    assert!(line.contains(" pay.bank.example "), "{line}");
}

#[test]
fn g3_auto_passthrough_is_for_sidecars_and_leads_by_the_name_that_they_ask_for() {
    let mesh = Mesh::new();
    let web = Origin::tls(&mesh.identity("shop", "web"))
        .named("web")
        .demands(&mesh.root)
        .start();
    let edge = mesh_edge(&mesh, &web);
    let name = "outbound_.80_._.web.shop.svc.cluster.local";
    let sidecar = ["-alpn", "istio-http/1.1,istio,http/1.1"];
    let Some(told) = edge.openssl(15443, name, "sleep", &sidecar) else {
        return;
    };
    told.says("HTTP/1.1 200").says("hello from web");
    let seen = web.only();
    assert_eq!(seen.sni.as_deref(), Some(name));
    assert_eq!(seen.alpn, ["istio-http/1.1", "istio", "http/1.1"]);
    // Not the TLS of a sidecar; and a service that nobody knows.
    let told = edge
        .openssl(15443, name, "sleep", &["-alpn", "h2"])
        .unwrap();
    assert!(
        told.text.contains("no peer certificate available"),
        "{told:?}"
    );
    let unknown = "outbound_.80_._.nobody.shop.svc.cluster.local";
    let told = edge.openssl(15443, unknown, "sleep", &sidecar).unwrap();
    assert!(
        told.text.contains("no peer certificate available"),
        "{told:?}"
    );
    assert_eq!(web.seen().len(), 1);
}

fn opaque(bytes: SocketAddr) -> String {
    let tls = "{mode: SIMPLE, credentialName: a-cert}";
    let route = |name: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n\
             metadata: {{name: {name}}}\nspec:\n  gateways: [{name}]\n  hosts: ['*']\n\
             \x20 tcp: [{{route: [{{destination: {{host: bytes.internal}}}}]}}]\n"
        )
    };
    gateway("tcp", 3306, &[("t", "TCP", "'*'", "")])
        + &gateway("tls", 6443, &[("t", "TLS", "a.example", tls)])
        + &route("tcp")
        + &route("tls")
        + &entry("bytes.internal", 9000, "TCP", bytes)
}

#[test]
fn g3_tcp_by_a_gateway_is_half_closed_and_counted() {
    let edge = Ground::new().start(&[3306, 6443], &opaque(capitals("")));
    let mut wire = edge.front.wire(3306);
    wire.send("hello bytes");
    wire.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(wire.bytes(11), b"HELLO BYTES", "an answer to a closed half");
    assert!(wire.is_closed());
    let line = edge
        .front
        .logged(&["\"- - -\" 0 - ", "outbound|9000||bytes.internal"]);
    assert!(line.contains(" 11 11 "), "bytes both ways: {line}");
    let service = "destination_service=\"bytes.internal\"";
    for name in [
        "istio_tcp_received_bytes_total",
        "istio_tcp_sent_bytes_total",
    ] {
        edge.front.counts(&[name, service], 11.0);
    }
    for name in [
        "istio_tcp_connections_opened_total",
        "istio_tcp_connections_closed_total",
    ] {
        edge.front.counts(&[name, service], 1.0);
    }
}

#[test]
fn g3_tls_is_ended_and_bytes_go_on() {
    let edge = Ground::new().start(&[3306, 6443], &opaque(capitals("")));
    let ca = edge.file("ca.pem");
    let all = [
        "-servername",
        "a.example",
        "-CAfile",
        &ca,
        "-verify_return_error",
    ];
    let Some(told) = edge.front.s_client(6443, &all, "over\n") else {
        return;
    };
    told.says("OVER");
    let line = edge
        .front
        .logged(&["\"- - -\" 0 - ", "outbound|9000||bytes.internal"]);
    assert!(line.contains(" 5 5 "), "{line}");
    assert!(line.contains(" a.example "), "its SNI: {line}");
    let received = ["istio_tcp_received_bytes_total", "bytes.internal"];
    edge.front.counts(&received, 5.0);
    assert_eq!(edge.app.seen().len(), 0);
}
