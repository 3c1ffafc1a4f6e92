//! Connections at entrances, from the accepted socket to the upstream's: policies built of values,
//! certificates made on the spot, real sockets on both sides.
//!
//! Owns: promises of who is let in, and what the others see on the wire.
//! Never: sleeps to wait for something.
//! Called by: `cargo test`.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::hello::tests::client_hello;
use super::super::tests::{Bench, accept, exactly, origin, rest};
use crate::certs::{CertStore, Credentials};
use crate::model::{
    Action, CaSource, Carries, ClientCertificates, Config, CredentialSpec, DownstreamTls,
    EntranceAt, EntranceHeaders, EntranceSpec, GatewayPort, HostPattern, HostRoutes,
    IdentitySource, ListenerKind, Place, Resolution, RuleSpec, ServerTlsSpec, StreamMatch,
    StreamRoute, UpstreamSpec, Weighted,
};
use crate::telemetry::Metrics;

const SIDECAR: &[&str] = &["istio-http/1.1", "istio", "http/1.1"];
/// The year 4000, in seconds since 1970.
const FOR_EVER: u64 = 64_060_588_800;
const GATEWAY: GatewayPort = GatewayPort {
    bind: None,
    number: 443,
};

/// A mesh: a root, our certificate below it, and a client's.
struct Mesh {
    folder: tempfile::TempDir,
    root: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    spec: CredentialSpec,
}

impl Mesh {
    fn new() -> Mesh {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("root.pem"), root.pem()).unwrap();
        let spec = CredentialSpec {
            identity: Some(IdentitySource::Files(path("cert.pem"), path("key.pem"))),
            ca: CaSource::File(path("root.pem")),
            crl: None,
        };
        let mesh = Mesh {
            root: root.der().clone(),
            issuer: Issuer::new(params, key),
            spec,
            folder,
        };
        mesh.renew();
        mesh
    }

    /// Gives us a new certificate.
    fn renew(&self) {
        let (cert, key) = self.leaf("spiffe://cluster.local/ns/foo/sa/httpbin");
        std::fs::write(self.folder.path().join("cert.pem"), cert).unwrap();
        std::fs::write(self.folder.path().join("key.pem"), key).unwrap();
    }

    fn leaf(&self, uri: &str) -> (String, String) {
        self.leaf_until(uri, FOR_EVER)
    }

    fn leaf_until(&self, uri: &str, until: u64) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names = ["a.example", "b.example", "*.wild.example"];
        let names = names.map(str::to_owned).to_vec();
        let mut params = CertificateParams::new(names).unwrap();
        let uri = SanType::URI(uri.try_into().unwrap());
        params.subject_alt_names.push(uri);
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(until);
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        (cert.pem(), key.serialize_pem())
    }

    fn credentials(&self) -> Arc<Credentials> {
        let mut store = CertStore::new(Metrics::new(1));
        store.set(vec![self.spec.clone()]);
        store.check(SystemTime::now());
        store.current()
    }

    fn server(&self, clients: ClientCertificates) -> Box<ServerTlsSpec> {
        Box::new(ServerTlsSpec::new(self.spec.clone(), clients))
    }

    fn strict(&self) -> DownstreamTls {
        DownstreamTls::Strict(self.server(ClientCertificates::Required))
    }

    fn simple(&self) -> DownstreamTls {
        DownstreamTls::Strict(self.server(ClientCertificates::Unasked))
    }

    fn permissive(&self) -> DownstreamTls {
        DownstreamTls::Permissive(self.server(ClientCertificates::Required))
    }

    /// A client that trusts the mesh, with a certificate of it or without.
    fn client(&self, certificate: bool, alpn: &[&str]) -> TlsConnector {
        self.client_until(certificate.then_some(FOR_EVER), alpn)
    }

    fn client_until(&self, until: Option<u64>, alpn: &[&str]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(crate::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match until {
            None => builder.with_no_client_auth(),
            Some(until) => {
                let name = "spiffe://cluster.local/ns/full/sa/sleep";
                let (cert, key) = self.leaf_until(name, until);
                let cert = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![cert], key).unwrap()
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    /// A sidecar shakes hands on `stream`.
    async fn sidecar(&self, stream: TcpStream) -> TlsStream<TcpStream> {
        let connector = self.client(true, SIDECAR);
        connector.connect(name("a.example"), stream).await.unwrap()
    }
}

fn name(text: &str) -> ServerName<'static> {
    ServerName::try_from(text.to_owned()).unwrap()
}

/// An entrance that leads `to`, whatever it is asked for.
fn entrance(at: EntranceAt, tls: DownstreamTls, carries: Carries, to: &str) -> EntranceSpec {
    let hosts = match carries {
        Carries::Opaque => Vec::new(),
        Carries::Http | Carries::Either => vec![host("*", to)],
    };
    let everything = StreamMatch::Tcp {
        destinations: Vec::new(),
    };
    let streams = match carries {
        Carries::Http => Vec::new(),
        Carries::Opaque | Carries::Either => vec![stream(everything, to)],
    };
    EntranceSpec {
        name: format!("{at:?}").into(),
        at,
        tls,
        carries,
        hosts,
        streams,
        headers: EntranceHeaders::inbound(),
        service: None,
        broken: None,
        object: None,
        reasons: Default::default(),
        place: Place::default(),
    }
}

fn host(name: &str, to: &str) -> HostRoutes {
    let action = Action::Forward(vec![Weighted::new(to, 1)]);
    HostRoutes {
        hosts: vec![HostPattern::parse(name).unwrap()],
        port: None,
        rules: vec![RuleSpec::new(action, Place::default())],
        object: None,
        place: Place::default(),
    }
}

fn stream(on: StreamMatch, to: &str) -> StreamRoute {
    StreamRoute {
        port: None,
        on,
        sources: Vec::new(),
        to: vec![Weighted::new(to, 1)],
        name: None,
        object: None,
        place: Place::default(),
    }
}

/// The application's port.
fn inbound(tls: DownstreamTls, carries: Carries) -> Config {
    let mut to = UpstreamSpec::new("app");
    to.resolution = Resolution::OriginalDst { port: None };
    Config {
        upstreams: vec![to],
        entrances: vec![entrance(EntranceAt::Inbound(None), tls, carries, "app")],
        ..Config::default()
    }
}

/// A server of the gateway for these names; without names, of clear text.
fn server(names: &[&str], tls: DownstreamTls, carries: Carries) -> EntranceSpec {
    let patterns = names.iter().map(|name| HostPattern::parse(name).unwrap());
    let at = EntranceAt::Gateway(GATEWAY, patterns.collect());
    let mut spec = entrance(at, tls, carries, "there");
    spec.name = format!("gateway|443|{}", names.join(",")).into();
    if carries == Carries::Http {
        let named = match names {
            [] => &["a.example"][..],
            names => names,
        };
        spec.hosts = named.iter().map(|name| host(name, "there")).collect();
    }
    spec
}

/// A gateway with these servers before an upstream.
fn gateway(there: SocketAddr, entrances: Vec<EntranceSpec>) -> Config {
    let mut to = UpstreamSpec::new("there");
    to.resolution = Resolution::Static;
    let ip = crate::model::Host::parse(&there.ip().to_string()).unwrap();
    to.endpoints = vec![crate::model::EndpointSpec::new(ip, there.port())];
    Config {
        upstreams: vec![to],
        entrances,
        ..Config::default()
    }
}

async fn to_app(bench: &Bench, app: SocketAddr) -> TcpStream {
    let kind = ListenerKind::Inbound(None);
    bench.arrive(kind, |_| Some(app)).await
}

async fn to_gateway(bench: &Bench) -> TcpStream {
    bench.arrive(ListenerKind::Gateway(GATEWAY), |_| None).await
}

/// Reads one head.
async fn head<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await.unwrap_or_else(|error| {
            panic!("{error} after {:?}", String::from_utf8_lossy(&seen));
        });
        seen.push(byte);
    }
    String::from_utf8(seen).unwrap()
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// One request for `host`, served by whoever listens there; gives the head that he saw.
async fn served<S>(client: &mut S, host: &str, app: &TcpListener) -> String
where
    S: AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let request = format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut served = accept(app).await;
    let seen = head(&mut served).await;
    served.write_all(OK).await.unwrap();
    let answer = head(client).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    exactly(client, b"ok").await;
    seen
}

/// One request that nobody serves; gives the answer.
async fn answered<S>(client: &mut S, host: &str) -> String
where
    S: AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let answer = head(client).await;
    let length = answer.to_ascii_lowercase();
    let length = length.split("content-length: ").nth(1).unwrap();
    let length = length.split("\r\n").next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    client.read_exact(&mut body).await.unwrap();
    answer + &String::from_utf8(body).unwrap()
}

/// The client's connection is reset, without a byte.
async fn is_reset(client: &mut TcpStream) {
    let error = client.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

/// Nobody has connected.
fn untouched(app: &TcpListener) {
    let waker = std::task::Waker::noop();
    let mut cx = std::task::Context::from_waker(waker);
    assert!(app.poll_accept(&mut cx).is_pending());
}

#[tokio::test]
async fn p7_a_sidecar_is_let_in_and_its_request_reaches_the_port_that_it_was_for() {
    let mesh = Mesh::new();
    let (app, there) = origin().await;
    let config = inbound(mesh.strict(), Carries::Http);
    let bench = Bench::with(&config, &mesh.credentials());
    let client = to_app(&bench, there).await;
    let mut client = mesh.sidecar(client).await;
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let seen = served(&mut client, "httpbin.foo:8000", &app).await;
    assert!(seen.contains("\r\nhost: httpbin.foo:8000\r\n"), "{seen}");
    assert_eq!(bench.context.metrics.downstream.handshakes.value(), 1);
}

#[tokio::test]
async fn p7_plaintext_at_a_port_of_tls_is_reset_and_named() {
    let mesh = Mesh::new();
    for (bytes, words) in [
        (
            &b"GET / HTTP/1.1\r\n"[..],
            "speaks plaintext HTTP to a TLS port",
        ),
        (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "speaks plaintext HTTP to a TLS port",
        ),
        (
            b"\0\x01\x02",
            "speaks no TLS to a TLS port, and no HTTP either",
        ),
    ] {
        let (app, there) = origin().await;
        let config = inbound(mesh.strict(), Carries::Either);
        let bench = Bench::with(&config, &mesh.credentials());
        let mut client = to_app(&bench, there).await;
        client.write_all(bytes).await.unwrap();
        is_reset(&mut client).await;
        untouched(&app);
        assert_eq!(bench.rejected("plaintext_on_tls"), 1);
        let line = bench.line().await;
        assert!(
            line.starts_with("\"- - -\" 0 NR filter_chain_not_found plaintext_on_tls "),
            "{line}"
        );
        assert!(line.contains(words), "{line}");
    }
}

#[tokio::test]
async fn p7_a_client_without_a_certificate_hears_an_alert_and_is_not_served() {
    let mesh = Mesh::new();
    let (app, there) = origin().await;
    let config = inbound(mesh.strict(), Carries::Http);
    let bench = Bench::with(&config, &mesh.credentials());
    let client = to_app(&bench, there).await;
    let connector = mesh.client(false, SIDECAR);
    // TLS 1.3: the client's side is done before the server has looked.
    let mut client = connector.connect(name("a.example"), client).await.unwrap();
    let error = client.read_u8().await.unwrap_err();
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
    drop(client);
    untouched(&app);
    let failures = bench.context.metrics.downstream.handshake_failures.values();
    assert_eq!(failures.iter().map(|(_, count)| count).sum::<u64>(), 1);
    let line = bench.line().await;
    assert!(
        line.starts_with("\"- - -\" 0 DPE - no_certificate "),
        "{line}"
    );
    assert!(line.ends_with(" a.example -"), "{line}");
}

#[tokio::test]
async fn p8_a_permissive_port_serves_clear_text_and_sidecars() {
    let mesh = Mesh::new();
    for carries in [Carries::Http, Carries::Either] {
        let (app, there) = origin().await;
        let config = inbound(mesh.permissive(), carries);
        let bench = Bench::with(&config, &mesh.credentials());
        let mut client = to_app(&bench, there).await;
        served(&mut client, "a", &app).await;
        let client = to_app(&bench, there).await;
        served(&mut mesh.sidecar(client).await, "a", &app).await;
        assert_eq!(bench.context.metrics.downstream.handshakes.value(), 1);
    }
}

#[tokio::test]
async fn p8_tls_of_others_is_closed_where_http_is_carried_and_p9_passed_on_elsewhere() {
    let mesh = Mesh::new();
    let hello = client_hello(Some("a.example"), &["h2", "http/1.1"]);
    for carries in [Carries::Http, Carries::Either, Carries::Opaque] {
        let (app, there) = origin().await;
        let config = inbound(mesh.permissive(), carries);
        let bench = Bench::with(&config, &mesh.credentials());
        let mut client = to_app(&bench, there).await;
        client.write_all(&hello).await.unwrap();
        if carries == Carries::Http {
            assert_eq!(rest(&mut client).await, b"");
            untouched(&app);
            assert_eq!(bench.rejected("foreign_tls"), 1);
            let line = bench.line().await;
            assert!(
                line.contains("the client's TLS is not a sidecar's"),
                "{line}"
            );
        } else {
            exactly(&mut accept(&app).await, &hello).await;
        }
    }
}

#[tokio::test]
async fn p10_tls_at_a_port_of_clear_text_is_named_and_passed_on_where_nobody_reads() {
    let hello = client_hello(Some("a.example"), &[]);
    for carries in [Carries::Http, Carries::Either, Carries::Opaque] {
        let (app, there) = origin().await;
        let config = inbound(DownstreamTls::Disable, carries);
        let bench = Bench::with(&config, &Credentials::default());
        let mut client = to_app(&bench, there).await;
        client.write_all(&hello).await.unwrap();
        if carries == Carries::Http {
            assert_eq!(rest(&mut client).await, b"");
            untouched(&app);
            assert_eq!(bench.rejected("tls_on_plaintext"), 1);
            let line = bench.line().await;
            assert!(line.contains("speaks TLS to a plaintext port"), "{line}");
        } else {
            exactly(&mut accept(&app).await, &hello).await;
        }
    }
}

#[tokio::test]
async fn p11_a_server_that_speaks_first_is_heard_where_no_byte_decides() {
    let mesh = Mesh::new();
    for secured in [false, true] {
        let (app, there) = origin().await;
        let policy = match secured {
            true => mesh.strict(),
            false => DownstreamTls::Disable,
        };
        let config = inbound(policy, Carries::Opaque);
        let bench = Bench::with(&config, &mesh.credentials());
        let mut client = to_app(&bench, there).await;
        let greeting = b"5.7.1-greeting";
        if secured {
            let mut client = mesh.sidecar(client).await;
            accept(&app).await.write_all(greeting).await.unwrap();
            exactly(&mut client, greeting).await;
        } else {
            accept(&app).await.write_all(greeting).await.unwrap();
            exactly(&mut client, greeting).await;
        }
    }
}

#[tokio::test]
async fn p7_a_sidecar_that_offers_no_http_brings_bytes_and_others_are_looked_at() {
    let mesh = Mesh::new();
    let (app, there) = origin().await;
    let config = inbound(mesh.strict(), Carries::Either);
    let bench = Bench::with(&config, &mesh.credentials());
    // No byte is waited for.
    let client = to_app(&bench, there).await;
    let connector = mesh.client(true, &["istio"]);
    let mut client = connector.connect(name("a.example"), client).await.unwrap();
    accept(&app).await.write_all(b"hello").await.unwrap();
    exactly(&mut client, b"hello").await;
    // ALPN is not required (P7): bytes tell.
    for (bytes, is_http) in [
        (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], true),
        (b"\0\x01", false),
    ] {
        let client = to_app(&bench, there).await;
        let connector = mesh.client(true, &[]);
        let mut client = connector.connect(name("a.example"), client).await.unwrap();
        client.write_all(bytes).await.unwrap();
        let mut served = accept(&app).await;
        match is_http {
            // As it is written by us.
            true => assert!(head(&mut served).await.contains("\r\nhost: a\r\n")),
            false => exactly(&mut served, bytes).await,
        }
    }
}

#[tokio::test]
async fn g3_each_side_may_end_first_through_tls() {
    let mesh = Mesh::new();
    let (listener, there) = origin().await;
    let servers = vec![server(&["a.example"], mesh.simple(), Carries::Opaque)];
    let bench = Bench::with(&gateway(there, servers), &mesh.credentials());
    let client = to_gateway(&bench).await;
    let connector = mesh.client(false, &[]);
    let mut client = connector.connect(name("a.example"), client).await.unwrap();
    client.write_all(b"all I have").await.unwrap();
    client.shutdown().await.unwrap();
    let mut served = accept(&listener).await;
    assert_eq!(rest(&mut served).await, b"all I have");
    served.write_all(b"the answer").await.unwrap();
    drop(served);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"the answer");
    drop(client);
    let line = bench.line().await;
    assert!(line.starts_with("\"- - -\" 0 - - - \"-\" 10 10 "), "{line}");
}

#[tokio::test]
async fn g8_the_server_name_chooses_the_server_and_an_unknown_one_is_shown_no_certificate() {
    let mesh = Mesh::new();
    let (listener, there) = origin().await;
    let servers = vec![
        server(&["a.example"], mesh.simple(), Carries::Http),
        server(&["*.wild.example"], mesh.simple(), Carries::Http),
    ];
    let config = gateway(there, servers);
    let bench = Bench::with(&config, &mesh.credentials());
    for host in ["a.example", "x.wild.example"] {
        let client = to_gateway(&bench).await;
        let connector = mesh.client(false, &["http/1.1"]);
        let mut client = connector.connect(name(host), client).await.unwrap();
        served(&mut client, host, &listener).await;
    }
    for unknown in [Some("b.example"), None] {
        let bench = Bench::with(&config, &mesh.credentials());
        let mut client = to_gateway(&bench).await;
        client.write_all(&client_hello(unknown, &[])).await.unwrap();
        assert_eq!(rest(&mut client).await, b"");
        let line = bench.line().await;
        assert!(
            line.starts_with("\"- - -\" 0 NR filter_chain_not_found filter_chain_not_found "),
            "{line}"
        );
    }
}

#[tokio::test]
async fn g9_a_host_of_another_server_is_421_and_one_of_none_is_404() {
    let mesh = Mesh::new();
    let (listener, there) = origin().await;
    let servers = vec![
        server(&["a.example"], mesh.simple(), Carries::Http),
        server(&["b.example"], mesh.simple(), Carries::Http),
    ];
    let bench = Bench::with(&gateway(there, servers), &mesh.credentials());
    let client = to_gateway(&bench).await;
    let connector = mesh.client(false, &["http/1.1"]);
    let mut client = connector.connect(name("a.example"), client).await.unwrap();
    let answer = answered(&mut client, "b.example").await;
    assert!(
        answer.starts_with("HTTP/1.1 421 Misdirected Request\r\n"),
        "{answer}"
    );
    let answer = answered(&mut client, "c.example").await;
    assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
    untouched(&listener);
    // The connection is still good for what it was opened for.
    served(&mut client, "a.example:8443", &listener).await;
}

#[tokio::test]
async fn g9_who_came_in_by_a_wildcard_reaches_no_host_whose_own_server_demands_a_certificate() {
    let mesh = Mesh::new();
    for (own, reached) in [(mesh.strict(), false), (mesh.simple(), true)] {
        let (listener, there) = origin().await;
        // The routes of both servers name b.example.
        let servers = vec![
            server(&["*.example"], mesh.simple(), Carries::Http),
            server(&["b.example"], own, Carries::Http),
        ];
        let bench = Bench::with(&gateway(there, servers), &mesh.credentials());
        let client = to_gateway(&bench).await;
        let connector = mesh.client(false, &["http/1.1"]);
        let mut client = connector.connect(name("a.example"), client).await.unwrap();
        if reached {
            served(&mut client, "b.example", &listener).await;
            continue;
        }
        for host in ["b.example", "B.example.:8443"] {
            let answer = answered(&mut client, host).await;
            assert!(
                answer.starts_with("HTTP/1.1 421 Misdirected Request\r\n"),
                "{answer}"
            );
        }
        untouched(&listener);
        served(&mut client, "a.example", &listener).await;
    }
}

#[tokio::test]
async fn g8_clear_text_where_tls_alone_is_served_is_reset_and_tls_on_a_clear_port_is_closed() {
    let mesh = Mesh::new();
    let (listener, there) = origin().await;
    let servers = vec![server(&["*"], mesh.simple(), Carries::Http)];
    let bench = Bench::with(&gateway(there, servers), &mesh.credentials());
    let mut client = to_gateway(&bench).await;
    client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    is_reset(&mut client).await;
    assert_eq!(bench.rejected("plaintext_on_tls"), 1);

    let servers = vec![server(&[], DownstreamTls::Disable, Carries::Http)];
    let bench = Bench::with(&gateway(there, servers), &mesh.credentials());
    let mut client = to_gateway(&bench).await;
    let hello = client_hello(Some("a.example"), &[]);
    client.write_all(&hello).await.unwrap();
    assert_eq!(rest(&mut client).await, b"");
    assert_eq!(bench.rejected("tls_on_plaintext"), 1);
    untouched(&listener);
    let mut client = to_gateway(&bench).await;
    served(&mut client, "a.example", &listener).await;
}

#[tokio::test]
async fn g3_tls_passes_through_untouched_and_auto_only_where_a_sidecar_speaks() {
    for mesh_only in [false, true] {
        for alpn in [&["istio"][..], &["h2"]] {
            let (listener, there) = origin().await;
            let policy = DownstreamTls::PassThrough { mesh_only };
            let mut through = server(&["*.example"], policy, Carries::Opaque);
            let on = StreamMatch::Tls {
                names: vec![HostPattern::parse("*.example").unwrap()],
                destinations: Vec::new(),
            };
            through.streams = vec![stream(on, "there")];
            let bench = Bench::with(&gateway(there, vec![through]), &Credentials::default());
            let mut client = to_gateway(&bench).await;
            let hello = client_hello(Some("a.example"), alpn);
            client.write_all(&hello).await.unwrap();
            if mesh_only && alpn == ["h2"] {
                assert_eq!(rest(&mut client).await, b"");
                assert_eq!(bench.rejected("foreign_tls"), 1);
                untouched(&listener);
            } else {
                exactly(&mut accept(&listener).await, &hello).await;
            }
        }
    }
}

#[tokio::test]
async fn x1_what_a_refused_document_governs_lets_nobody_in_and_says_why() {
    let mesh = Mesh::new();
    let (app, there) = origin().await;
    let mut config = inbound(mesh.permissive(), Carries::Http);
    config.entrances[0].broken = Some("pa.yaml:3: no such mode".into());
    let bench = Bench::with(&config, &mesh.credentials());
    let mut client = to_app(&bench, there).await;
    let answer = answered(&mut client, "a").await;
    assert!(
        answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
        "{answer}"
    );
    assert!(answer.contains("pa.yaml:3: no such mode"), "{answer}");
    let mut client = to_app(&bench, there).await;
    client
        .write_all(&client_hello(None, SIDECAR))
        .await
        .unwrap();
    assert_eq!(rest(&mut client).await, b"");
    assert_eq!(bench.rejected("entrance_broken"), 1);
    untouched(&app);
}

#[tokio::test]
async fn t17_without_a_certificate_nobody_is_let_in_and_the_reason_is_told() {
    let mesh = Mesh::new();
    let (app, there) = origin().await;
    std::fs::remove_file(mesh.folder.path().join("key.pem")).unwrap();
    let bench = Bench::with(&inbound(mesh.strict(), Carries::Http), &mesh.credentials());
    let mut client = to_app(&bench, there).await;
    client
        .write_all(&client_hello(None, SIDECAR))
        .await
        .unwrap();
    assert_eq!(rest(&mut client).await, b"");
    untouched(&app);
    let line = bench.line().await;
    assert!(
        line.contains("there is no certificate to show to clients: "),
        "{line}"
    );
    assert!(line.contains("key.pem"), "{line}");
}

#[tokio::test]
async fn g12_a_handshake_has_its_time_and_a_silent_client_as_much() {
    let mesh = Mesh::new();
    let mut config = inbound(mesh.strict(), Carries::Http);
    config.limits.idle_timeout = Duration::from_millis(50);
    config.limits.head_timeout = Duration::from_millis(50);
    let hello = client_hello(None, SIDECAR);
    let half = &hello[..hello.len() / 2];
    let garbage = &b"\x16\x03\x01\0\x05xxxxx"[..];
    for (bytes, label) in [
        (half, "malformed_hello"),
        (garbage, "malformed_hello"),
        (b"", "silent"),
    ] {
        let (app, there) = origin().await;
        let bench = Bench::with(&config, &mesh.credentials());
        let mut client = to_app(&bench, there).await;
        client.write_all(bytes).await.unwrap();
        assert_eq!(rest(&mut client).await, b"");
        assert_eq!(bench.rejected(label), 1, "{label}");
        untouched(&app);
    }
    // Its hello is whole and good, and nothing follows.
    let (app, there) = origin().await;
    let bench = Bench::with(&config, &mesh.credentials());
    let mut client = to_app(&bench, there).await;
    let connector = mesh.client(true, SIDECAR);
    let mut session =
        rustls::ClientConnection::new(Arc::clone(connector.config()), name("a.example")).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    client.write_all(&hello).await.unwrap();
    // Our half of the handshake, and the end.
    assert_eq!(rest(&mut client).await.first(), Some(&22));
    untouched(&app);
    let failures = &bench.context.metrics.downstream.handshake_failures;
    assert_eq!(failures.value("timeout"), 1);
    let line = bench.line().await;
    assert!(line.starts_with("\"- - -\" 0 DPE - timeout "), "{line}");
}

#[tokio::test]
async fn a_client_whose_certificate_expires_meanwhile_is_let_go() {
    let mesh = Mesh::new();
    let (app, there) = origin().await;
    let config = inbound(mesh.strict(), Carries::Http);
    let bench = Bench::with(&config, &mesh.credentials());
    let client = to_app(&bench, there).await;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let soon = now.unwrap().as_secs() + 2;
    let connector = mesh.client_until(Some(soon), SIDECAR);
    let mut client = connector.connect(name("a.example"), client).await.unwrap();
    served(&mut client, "a", &app).await;
    // Politely: TLS says that it ends. Others stay.
    let other = to_app(&bench, there).await;
    let mut other = mesh.sidecar(other).await;
    served(&mut other, "a", &app).await;
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
    served(&mut other, "a", &app).await;
}

#[tokio::test]
async fn e2_a_gateway_goes_to_no_original_destination_and_not_where_a_client_says() {
    let (listener, there) = origin().await;
    let mut config = gateway(
        there,
        vec![server(&[], DownstreamTls::Disable, Carries::Http)],
    );
    let port = Some(there.port());
    config.entrances[0].hosts = vec![host("*", "there")];
    config.upstreams[0].endpoints.clear();
    for by_name in [false, true] {
        config.upstreams[0].resolution = match by_name {
            false => Resolution::OriginalDst { port },
            true => Resolution::RequestHost { port },
        };
        let bench = Bench::with(&config, &Credentials::default());
        let mut client = to_gateway(&bench).await;
        if by_name {
            served(&mut client, "localhost", &listener).await;
        } else {
            let answer = answered(&mut client, "localhost").await;
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            assert!(answer.contains("no healthy upstream: "), "{answer}");
            assert!(answer.contains("no original destination"), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_hello_that_comes_byte_by_byte_is_as_good_as_any() {
    let mesh = Mesh::new();
    let (app, there) = origin().await;
    let bench = Bench::with(&inbound(mesh.strict(), Carries::Http), &mesh.credentials());
    let mut outer = to_app(&bench, there).await;
    let (inner, mut ours) = tokio::io::duplex(1 << 16);
    let drip = async {
        let mut up = [0; 1];
        let (mut from, mut to) = outer.split();
        let (mut read, mut write) = tokio::io::split(&mut ours);
        let up = async {
            while read.read(&mut up).await.unwrap() > 0 {
                to.write_all(&up).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let down = tokio::io::copy(&mut from, &mut write);
        let _ = tokio::join!(up, down);
    };
    let talk = async {
        let connector = mesh.client(true, SIDECAR);
        let mut client = connector.connect(name("a.example"), inner).await.unwrap();
        served(&mut client, "a", &app).await;
    };
    tokio::select! {
        () = drip => panic!("the connection ended"),
        () = talk => {}
    }
}

#[tokio::test]
async fn r16_a_connection_made_with_a_replaced_certificate_ends_after_its_age_and_no_other_does() {
    let mesh = Mesh::new();
    let (app, there) = origin().await;
    let mut config = inbound(mesh.strict(), Carries::Http);
    config.rotation.max_connection_age = Duration::from_millis(30);
    let bench = Bench::with(&config, &mesh.credentials());
    let client = to_app(&bench, there).await;
    let mut client = mesh.sidecar(client).await;
    served(&mut client, "a", &app).await;
    // The same again: nothing is replaced.
    bench.reload(&config, &mesh.credentials());
    let quiet = tokio::time::timeout(Duration::from_millis(150), client.read_u8()).await;
    assert!(quiet.is_err());
    mesh.renew();
    bench.reload(&config, &mesh.credentials());
    // It was idle, and is closed politely: TLS says so.
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn r16_a_busy_connection_ends_behind_its_answer() {
    let mesh = Mesh::new();
    let (app, there) = origin().await;
    let mut config = inbound(mesh.strict(), Carries::Http);
    config.rotation.max_connection_age = Duration::from_millis(30);
    let bench = Bench::with(&config, &mesh.credentials());
    let client = to_app(&bench, there).await;
    let mut client = mesh.sidecar(client).await;
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    client.write_all(request).await.unwrap();
    let mut served = accept(&app).await;
    head(&mut served).await;
    mesh.renew();
    bench.reload(&config, &mesh.credentials());
    let quiet = tokio::time::timeout(Duration::from_millis(300), client.read_u8()).await;
    assert!(quiet.is_err());
    served.write_all(OK).await.unwrap();
    let answer = head(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    exactly(&mut client, b"ok").await;
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn tls_in_tls_is_named_where_http_is_carried_and_passed_on_elsewhere() {
    let mesh = Mesh::new();
    let hello = client_hello(Some("inner.example"), &[]);
    for carries in [Carries::Http, Carries::Opaque] {
        let (app, there) = origin().await;
        let bench = Bench::with(&inbound(mesh.strict(), carries), &mesh.credentials());
        let client = to_app(&bench, there).await;
        let mut client = mesh.sidecar(client).await;
        client.write_all(&hello).await.unwrap();
        if carries == Carries::Http {
            let _ = client.read(&mut [0; 1]).await;
            untouched(&app);
            assert_eq!(bench.rejected("tls_on_plaintext"), 1);
            drop(client);
            let line = bench.line().await;
            assert!(line.contains("speaks TLS again in the TLS"), "{line}");
        } else {
            exactly(&mut accept(&app).await, &hello).await;
        }
    }
}

#[tokio::test]
async fn r16_a_client_that_a_new_policy_would_refuse_is_let_go_and_no_other_is() {
    let mesh = Mesh::new();
    let (app, there) = origin().await;
    let only = |name: Option<&str>| {
        let mut tls = mesh.server(ClientCertificates::Required);
        tls.subject_alt_names = name.into_iter().map(str::to_owned).collect();
        let mut config = inbound(DownstreamTls::Strict(tls), Carries::Http);
        // It looks as often as an hour lets it.
        config.rotation.max_connection_age = Duration::from_secs(3600);
        config
    };
    let bench = Bench::with(&only(None), &mesh.credentials());
    let client = to_app(&bench, there).await;
    let mut client = mesh.sidecar(client).await;
    served(&mut client, "a", &app).await;
    tokio::time::pause();
    for (name, stays) in [
        ("spiffe://cluster.local/ns/full/sa/sleep", true),
        ("spiffe://cluster.local/ns/full/sa/other", false),
    ] {
        bench.reload(&only(Some(name)), &mesh.credentials());
        let read = tokio::time::timeout(Duration::from_secs(100), client.read_u8()).await;
        assert_eq!(read.is_err(), stays, "{name}");
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_let_go_in_tls_too() {
    let mesh = Mesh::new();
    let (app, there) = origin().await;
    let mut config = inbound(mesh.strict(), Carries::Http);
    config.limits.stream_idle_timeout = Duration::from_millis(200);
    // However much the sockets hold, the rest of one of these answers lies in TLS, whole.
    for length in [48 * 1024, 100 * 1024] {
        let bench = Bench::with(&config, &mesh.credentials());
        let narrow = |socket: socket2::SockRef<'_>| {
            socket.set_recv_buffer_size(2048).unwrap();
            socket.set_send_buffer_size(2048).unwrap();
        };
        let kind = ListenerKind::Inbound(None);
        let client = bench.arrive_by(kind, |_| Some(there), narrow).await;
        let mut client = mesh.sidecar(client).await;
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        client.write_all(request).await.unwrap();
        let mut served = accept(&app).await;
        head(&mut served).await;
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        served.write_all(answer.as_bytes()).await.unwrap();
        served.write_all(&vec![b'x'; length]).await.unwrap();
        bench.drain.start();
        let ended = tokio::time::timeout(Duration::from_secs(20), bench.drain.finished());
        assert!(ended.await.is_ok(), "{length}");
        let error = client.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn r16_what_is_not_http_ends_too_once_the_port_is_strict_and_in_tls_it_goes_on() {
    let mesh = Mesh::new();
    let (app, there) = origin().await;
    let config = |tls| {
        let mut config = inbound(tls, Carries::Opaque);
        config.rotation.max_connection_age = Duration::from_millis(30);
        config
    };
    let bench = Bench::with(&config(mesh.permissive()), &mesh.credentials());
    let mut client = to_app(&bench, there).await;
    client.write_all(b"plain").await.unwrap();
    let mut there_plain = accept(&app).await;
    exactly(&mut there_plain, b"plain").await;
    let secured = to_app(&bench, there).await;
    let mut secured = mesh.sidecar(secured).await;
    secured.write_all(b"tls").await.unwrap();
    let mut there_secured = accept(&app).await;
    exactly(&mut there_secured, b"tls").await;
    bench.reload(&config(mesh.strict()), &mesh.credentials());
    is_reset(&mut client).await;
    is_reset(&mut there_plain).await;
    there_secured.write_all(b"on").await.unwrap();
    exactly(&mut secured, b"on").await;
}

#[tokio::test]
async fn r16_a_connection_that_switched_protocols_ends_once_the_port_is_strict() {
    let mesh = Mesh::new();
    let (app, there) = origin().await;
    let config = |tls| {
        let mut config = inbound(tls, Carries::Http);
        config.rotation.max_connection_age = Duration::from_millis(30);
        config
    };
    let bench = Bench::with(&config(mesh.permissive()), &mesh.credentials());
    let mut client = to_app(&bench, there).await;
    let switch = "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{switch}");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut served = accept(&app).await;
    head(&mut served).await;
    let answer = format!("HTTP/1.1 101 Switching Protocols\r\n{switch}");
    served.write_all(answer.as_bytes()).await.unwrap();
    let answer = head(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    // Longer than the time after which it looks.
    let quiet = tokio::time::timeout(Duration::from_millis(150), client.read_u8()).await;
    assert!(quiet.is_err());
    bench.reload(&config(mesh.strict()), &mesh.credentials());
    assert!(matches!(client.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    assert!(matches!(served.read(&mut [0; 1]).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn r16_an_open_connection_of_clear_text_is_refused_once_the_port_is_strict() {
    let mesh = Mesh::new();
    let (app, there) = origin().await;
    let permissive = inbound(mesh.permissive(), Carries::Http);
    let bench = Bench::with(&permissive, &mesh.credentials());
    let mut client = to_app(&bench, there).await;
    let plain = to_app(&bench, there).await;
    let mut secured = mesh.sidecar(plain).await;
    served(&mut client, "a", &app).await;
    served(&mut secured, "a", &app).await;
    let strict = inbound(mesh.strict(), Carries::Http);
    bench.reload(&strict, &mesh.credentials());
    let answer = answered(&mut client, "a").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert_eq!(rest(&mut client).await, b"");
    // One in TLS goes on.
    served(&mut secured, "a", &app).await;
    let gone = Config {
        entrances: Vec::new(),
        ..strict
    };
    bench.reload(&gone, &mesh.credentials());
    let answer = answered(&mut secured, "a").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("connect again"), "{answer}");
}

#[tokio::test]
async fn o5_what_was_redirected_on_its_way_to_the_inbound_port_itself_is_closed() {
    let config = inbound(DownstreamTls::Disable, Carries::Opaque);
    let bench = Bench::with(&config, &Credentials::default());
    let mut client = bench.arrive(ListenerKind::Inbound(None), Some).await;
    assert_eq!(rest(&mut client).await, b"");
    assert_eq!(bench.rejected("own_listener"), 1);
}

#[tokio::test]
async fn x14_a_direct_inbound_listener_leads_to_the_application_that_it_stands_for() {
    let (app, there) = origin().await;
    let config = inbound(DownstreamTls::Disable, Carries::Http);
    let bench = Bench::with(&config, &Credentials::default());
    let kind = ListenerKind::Inbound(Some(there));
    let mut client = bench.arrive(kind, |_| None).await;
    served(&mut client, "whatever.example", &app).await;
}

#[tokio::test]
async fn g7_http_2_is_agreed_on_by_alpn_and_its_streams_are_answered_one_by_one() {
    let mesh = Mesh::new();
    let (_listener, there) = origin().await;
    let mut one = server(&["a.example"], mesh.simple(), Carries::Http);
    let respond = Action::Respond(crate::model::Respond {
        status: 200,
        body: b"a"[..].into(),
    });
    one.hosts[0].rules = vec![RuleSpec::new(respond, Place::default())];
    let two = server(&["b.example"], mesh.simple(), Carries::Http);
    let config = gateway(there, vec![one, two]);
    let bench = Bench::with(&config, &mesh.credentials());
    let client = to_gateway(&bench).await;
    let connector = mesh.client(false, &["h2", "http/1.1"]);
    let client = connector.connect(name("a.example"), client).await.unwrap();
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let executor = hyper_util::rt::TokioExecutor::new();
    let io = hyper_util::rt::TokioIo::new(client);
    let (mut send, connection) = hyper::client::conn::http2::handshake(executor, io)
        .await
        .unwrap();
    let ended = tokio::spawn(connection);
    for (host, status) in [("a.example", 200), ("b.example", 421), ("c.example", 404)] {
        let request = http::Request::get(format!("https://{host}/"));
        let request = request.body(http_body_util::Empty::<bytes::Bytes>::new());
        let answer = send.send_request(request.unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "{host}");
    }
    // The entrance goes: one more answer, and GOAWAY.
    bench.reload(&gateway(there, Vec::new()), &mesh.credentials());
    let request = http::Request::get("https://a.example/");
    let request = request.body(http_body_util::Empty::<bytes::Bytes>::new());
    let answer = send.send_request(request.unwrap()).await.unwrap();
    assert_eq!(answer.status(), 503);
    drop(answer);
    ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn v9_the_scheme_is_https_where_tls_ended_here_and_http_in_clear_text() {
    let mesh = Mesh::new();
    let (_listener, there) = origin().await;
    let rules = || {
        let respond = |status| {
            let body = bytes::Bytes::new();
            Action::Respond(crate::model::Respond { status, body })
        };
        let mut secured = RuleSpec::new(respond(204), Place::default());
        secured.matches = vec![crate::model::MatchSpec {
            scheme: Some(crate::model::StringMatch::Exact("https".into())),
            ..Default::default()
        }];
        vec![secured, RuleSpec::new(respond(202), Place::default())]
    };
    let mut secured = server(&["a.example"], mesh.simple(), Carries::Http);
    let mut clear = server(&[], DownstreamTls::Disable, Carries::Http);
    (secured.hosts[0].rules, clear.hosts[0].rules) = (rules(), rules());
    let config = gateway(there, vec![secured, clear]);
    let bench = Bench::with(&config, &mesh.credentials());
    let request = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
    let mut client = to_gateway(&bench).await;
    client.write_all(request).await.unwrap();
    let answer = head(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    let client = to_gateway(&bench).await;
    let connector = mesh.client(false, &[]);
    let mut client = connector.connect(name("a.example"), client).await.unwrap();
    // A client may name the scheme itself.
    for request in [
        &request[..],
        b"GET https://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
    ] {
        client.write_all(request).await.unwrap();
        let answer = head(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    }
}

#[tokio::test]
async fn g10_what_a_trusted_proxy_took_in_https_is_https_and_what_others_say_is_not() {
    let (_listener, there) = origin().await;
    for (trusted_hops, status) in [(1, 202), (0, 301)] {
        let mut clear = server(&[], DownstreamTls::Disable, Carries::Http);
        clear.headers = EntranceHeaders::gateway();
        clear.headers.trusted_hops = trusted_hops;
        let to = crate::model::Redirect {
            status: 301,
            scheme: Some("https".to_owned()),
            authority: None,
            path: None,
            port: None,
        };
        let mut redirect = RuleSpec::new(Action::Redirect(to), Place::default());
        redirect.matches = vec![crate::model::MatchSpec {
            scheme: Some(crate::model::StringMatch::Exact("http".into())),
            ..Default::default()
        }];
        let respond = Action::Respond(crate::model::Respond {
            status: 202,
            body: bytes::Bytes::new(),
        });
        let rules = vec![redirect, RuleSpec::new(respond, Place::default())];
        clear.hosts[0].rules = rules;
        let bench = Bench::with(&gateway(there, vec![clear]), &Credentials::default());
        let mut client = to_gateway(&bench).await;
        // Its own port is what the client knows (G11).
        let request = "GET /x?y HTTP/1.1\r\nHost: a.example:8080\r\nX-Forwarded-Proto: ";
        for (told, status) in [("https", status), ("http", 301)] {
            let request = format!("{request}{told}\r\n\r\n");
            client.write_all(request.as_bytes()).await.unwrap();
            let answer = head(&mut client).await;
            let line = format!("HTTP/1.1 {status} ");
            assert!(answer.starts_with(&line), "{trusted_hops} {told}: {answer}");
            if status == 301 {
                let location = "\r\nlocation: https://a.example:8080/x?y\r\n";
                assert!(answer.contains(location), "{answer}");
            }
        }
    }
}
