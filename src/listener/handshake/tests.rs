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

mod gateways;
mod inbound;
mod times;

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
        hosts: vec![HostPattern::parse(name).unwrap()].into(),
        port: None,
        rules: vec![RuleSpec::new(action, Place::default())].into(),
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
