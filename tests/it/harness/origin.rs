//! A real HTTPS server that writes down what it saw of each connection and request.
//!
//! What it answers is chosen by the request's path, see `answers`; or byte by byte by a `Script`.

mod answers;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::server::{Acceptor, WebPkiClientVerifier};
use rustls::{ProtocolVersion, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::pki::{Authority, Identity};
use super::script::{self, Script};

/// One connection as the origin saw it. Answers carry its number, from 1, in `x-connection`.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Server name of the hello.
    pub sni: Option<String>,
    /// Protocols that the hello offered.
    pub alpn: Vec<String>,
    /// Key exchange groups that the hello offered, as their numbers.
    pub groups: Vec<u16>,
    /// `TLSv1.2`, `TLSv1.3`, or nothing where the connection is plain or the handshake failed.
    pub version: Option<String>,
    /// The subject of the client's certificate.
    pub client: Option<String>,
    /// How many certificates the client sent.
    pub chain: usize,
    /// Serial number of the client's certificate.
    pub serial: Vec<u8>,
    pub resumed: bool,
    /// Why the handshake failed.
    pub failed: Option<String>,
    /// The first lines of its requests, in order.
    pub requests: Vec<Asked>,
    pub open: bool,
}

/// One request as the origin saw it.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub method: String,
    pub target: String,
    pub version: String,
    /// In the order of the wire; over HTTP/2 the authority stands as `host`.
    pub headers: Vec<(String, String)>,
}

impl Asked {
    /// The values of one header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let same = self
            .headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.as_str()).collect()
    }

    /// The one value of a header.
    pub fn one(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} came more than once: {all:?}");
        all.first().copied()
    }
}

/// What is shared between a server and the test.
struct State {
    name: String,
    seen: Mutex<Vec<Seen>>,
    script: Option<Script>,
    /// After this many requests the connection is closed; 0: never.
    per_connection: usize,
    /// Bytes of request bodies that were read.
    taken: AtomicUsize,
    /// Bytes of streamed answers that were handed to the HTTP library.
    given: Arc<AtomicUsize>,
    http2: bool,
}

impl State {
    fn note(&self, connection: usize, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap()[connection - 1]);
    }
}

/// A running server; it stops when dropped.
pub struct Origin {
    pub address: SocketAddr,
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// How a server is to be.
pub struct OriginBuilder {
    name: String,
    bind: String,
    identity: Option<Identity>,
    client_ca: Option<String>,
    alpn: Vec<&'static str>,
    versions: Vec<&'static SupportedProtocolVersion>,
    script: Option<Script>,
    per_connection: usize,
}

impl OriginBuilder {
    /// Its name, which every answer carries in `x-origin`.
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// Listens on this address instead of 127.0.0.1:0.
    pub fn on(mut self, address: &str) -> Self {
        self.bind = address.into();
        self
    }

    /// Shows this certificate instead.
    pub fn identity(mut self, identity: &Identity) -> Self {
        self.identity = Some(identity.clone());
        self
    }

    /// Demands a client certificate of this authority.
    pub fn demands(mut self, authority: &Authority) -> Self {
        self.client_ca = Some(authority.pem.clone());
        self
    }

    /// Protocols by ALPN, best first. Without it: `http/1.1`.
    pub fn alpn(mut self, protocols: &[&'static str]) -> Self {
        self.alpn = protocols.to_vec();
        self
    }

    /// TLS 1.2 alone.
    pub fn tls12(mut self) -> Self {
        self.versions = vec![&rustls::version::TLS12];
        self
    }

    /// TLS 1.3 alone.
    pub fn tls13(mut self) -> Self {
        self.versions = vec![&rustls::version::TLS13];
        self
    }

    /// Answers by script.
    pub fn script(
        mut self,
        script: impl Fn(usize, &str) -> Vec<script::Step> + Send + Sync + 'static,
    ) -> Self {
        self.script = Some(Arc::new(script));
        self
    }

    /// Closes each connection after so many answers, without saying so beforehand.
    pub fn closes_after(mut self, answers: usize) -> Self {
        self.per_connection = answers;
        self
    }

    pub fn start(self) -> Origin {
        let tls = self.identity.as_ref().map(|identity| {
            Arc::new(server_config(
                identity,
                self.client_ca.as_deref(),
                &self.versions,
                &self.alpn,
            ))
        });
        let state = Arc::new(State {
            name: self.name,
            seen: Mutex::default(),
            script: self.script,
            per_connection: self.per_connection,
            taken: AtomicUsize::new(0),
            given: Arc::default(),
            http2: self.alpn.contains(&"h2"),
        });
        let listener = std::net::TcpListener::bind(&self.bind).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = accept(listener, tls, shared) => {}
                    _ = stopped => {}
                }
            });
        });
        Origin {
            address,
            state,
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Origin {
    /// A server in plaintext.
    pub fn plain() -> OriginBuilder {
        OriginBuilder {
            name: "origin".into(),
            bind: "127.0.0.1:0".into(),
            identity: None,
            client_ca: None,
            alpn: vec!["http/1.1"],
            versions: vec![&rustls::version::TLS13, &rustls::version::TLS12],
            script: None,
            per_connection: 0,
        }
    }

    /// A server in TLS that shows `identity`.
    pub fn tls(identity: &Identity) -> OriginBuilder {
        Origin::plain().identity(identity)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Every connection so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// The only connection so far.
    #[track_caller]
    pub fn only(&self) -> Seen {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "connections: {seen:#?}");
        seen.remove(0)
    }

    /// Every request so far, over all connections.
    pub fn asked(&self) -> Vec<Asked> {
        self.seen()
            .into_iter()
            .flat_map(|seen| seen.requests)
            .collect()
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.seen().iter().filter(|seen| seen.open).count()
    }

    /// Bytes of request bodies that were read so far.
    pub fn taken(&self) -> usize {
        self.state.taken.load(Ordering::Relaxed)
    }

    /// Bytes of streamed answers that were given away so far.
    pub fn given(&self) -> usize {
        self.state.given.load(Ordering::Relaxed)
    }

    /// Stops at once: every connection is cut, the port is free.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.end();
    }
}

fn server_config(
    identity: &Identity,
    client_ca: Option<&str>,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&str],
) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(versions).unwrap();
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            use rustls::pki_types::{CertificateDer, pem::PemObject};
            let mut roots = RootCertStore::empty();
            for ca in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                roots.add(ca.unwrap()).unwrap();
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let (chain, key) = identity.rustls();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

async fn accept(listener: TcpListener, tls: Option<Arc<ServerConfig>>, state: Arc<State>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        let connection = {
            let mut seen = state.seen.lock().unwrap();
            let connection = seen.len() + 1;
            seen.push(Seen {
                open: true,
                ..Seen::default()
            });
            connection
        };
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            match tls {
                None => serve(stream, connection, state.http2, &state).await,
                Some(tls) => handshake(stream, connection, tls, &state).await,
            }
            state.note(connection, |seen| seen.open = false);
        });
    }
}

async fn handshake(
    stream: TcpStream,
    connection: usize,
    tls: Arc<ServerConfig>,
    state: &Arc<State>,
) {
    let hello = tokio_rustls::LazyConfigAcceptor::new(Acceptor::default(), stream).await;
    let hello = match hello {
        Ok(hello) => hello,
        Err(error) => return state.note(connection, |seen| seen.failed = Some(error.to_string())),
    };
    state.note(connection, |seen| {
        let said = hello.client_hello();
        seen.sni = said.server_name().map(str::to_string);
        let offered = said.alpn().into_iter().flatten();
        seen.alpn = offered
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect();
        let groups = said.named_groups().unwrap_or_default();
        seen.groups = groups.iter().map(|group| u16::from(*group)).collect();
    });
    let stream = match hello.into_stream(tls).await {
        Ok(stream) => stream,
        Err(error) => return state.note(connection, |seen| seen.failed = Some(error.to_string())),
    };
    let (_, session) = stream.get_ref();
    let http2 = session.alpn_protocol() == Some(b"h2");
    state.note(connection, |seen| {
        seen.version = match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => Some("TLSv1.2".into()),
            Some(ProtocolVersion::TLSv1_3) => Some("TLSv1.3".into()),
            _ => None,
        };
        seen.resumed = session.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        let chain = session.peer_certificates().unwrap_or_default();
        seen.chain = chain.len();
        if let Some(leaf) = chain.first() {
            let (_, leaf) = x509_parser::parse_x509_certificate(leaf).unwrap();
            seen.client = Some(leaf.subject().to_string());
            seen.serial = leaf.raw_serial().to_vec();
        }
    });
    serve(stream, connection, http2, state).await;
}

async fn serve<S>(stream: S, connection: usize, http2: bool, state: &Arc<State>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if let Some(script) = state.script.clone() {
        let asked = |head: &str| {
            state.note(connection, |seen| seen.requests.push(asked_of(head)));
        };
        return script::run(stream, script, asked).await;
    }
    let answered = Arc::clone(state);
    let done = Arc::new(tokio::sync::Notify::new());
    let ending = Arc::clone(&done);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (state, done) = (Arc::clone(&answered), Arc::clone(&done));
        async move {
            let count = note_request(&state, connection, &request);
            if state.per_connection > 0 && count >= state.per_connection {
                done.notify_one();
            }
            if state.per_connection > 0 && count > state.per_connection {
                std::future::pending::<()>().await;
            }
            answers::answer(request, connection, state).await
        }
    });
    if http2 {
        let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service);
        let _ = serving.await;
        return;
    }
    let serving = hyper::server::conn::http1::Builder::new()
        .preserve_header_case(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        _ = &mut serving => {}
        () = ending.notified() => {
            // The last answer still leaves, without `Connection: close`; then the connection ends.
            let quiet = std::time::Duration::from_millis(30);
            let _ = tokio::time::timeout(quiet, &mut serving).await;
        }
    }
}

fn note_request(state: &State, connection: usize, request: &hyper::Request<Incoming>) -> usize {
    let mut asked = Asked {
        method: request.method().to_string(),
        target: request
            .uri()
            .path_and_query()
            .map_or_else(String::new, ToString::to_string),
        version: format!("{:?}", request.version()),
        headers: Vec::new(),
    };
    if let Some(authority) = request.uri().authority() {
        asked.headers.push(("host".into(), authority.to_string()));
    }
    for (name, value) in request.headers() {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        asked.headers.push((name.to_string(), value));
    }
    let mut count = 0;
    state.note(connection, |seen| {
        seen.requests.push(asked);
        count = seen.requests.len();
    });
    count
}

fn asked_of(head: &str) -> Asked {
    let mut lines = head.split("\r\n");
    let mut first = lines
        .next()
        .unwrap_or_default()
        .split(' ')
        .map(str::to_string);
    Asked {
        method: first.next().unwrap_or_default(),
        target: first.next().unwrap_or_default(),
        version: first.next().unwrap_or_default(),
        headers: lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_string(), value.trim().to_string()))
            .collect(),
    }
}
