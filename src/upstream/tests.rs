//! The room against real sockets: hyper and hand-written servers, in plaintext and in TLS.
//!
//! Owns: promises that take more than one file of the room.
//! Never: sleeps to wait for something.
//! Called by: `cargo test`.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::model::{
    Broken, BrokenKind, CaSource, CredentialSpec, EndpointSpec, Host, HttpChoice, ListenAddr,
    OnExpired, Resolution, TlsPolicy, TlsSpec, UpstreamSpec,
};
use crate::telemetry::{Event, Level, Metrics};
use crate::tls::{Alpn, ClientTls, Credential, CredentialParts, Generation, Roots, provider};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn context(own: OwnAddrs) -> UpstreamContext {
    UpstreamContext {
        workers: 1,
        resolver: Resolver::system(Handle::current()),
        own,
        metrics: Metrics::new(1),
    }
}

pub(super) fn spec(to: SocketAddr) -> UpstreamSpec {
    let mut spec = UpstreamSpec::new("bank");
    spec.resolution = Resolution::Static;
    spec.endpoints = vec![EndpointSpec::new(
        Host::parse(&to.ip().to_string()).unwrap(),
        to.port(),
    )];
    spec
}

pub(super) fn plain(spec: UpstreamSpec) -> Arc<Upstream> {
    Upstream::new(spec, UpstreamTls::Plain, &context(OwnAddrs::new()))
}

fn ask(host: &str) -> Ask<'_> {
    Ask {
        worker: 0,
        host,
        port: 80,
        original_dst: None,
        from: None,
        avoid: &[],
        fresh: false,
    }
}

fn request(host: &str) -> Request<RequestBody> {
    let request = Request::builder().uri("/x").header("host", host);
    request.body(RequestBody::Empty).unwrap()
}

async fn get(upstream: &Arc<Upstream>, host: &str) -> Result<Answer, SendFailure> {
    upstream.send(&ask(host), request(host).into()).await
}

async fn read(answer: Answer) -> Result<String, BodyError> {
    let body = answer.response.body.collect().await?;
    Ok(String::from_utf8(body.to_bytes().to_vec()).unwrap())
}

async fn fetch(upstream: &Arc<Upstream>, host: &str) -> (bool, String) {
    let answer = get(upstream, host)
        .await
        .unwrap_or_else(|f| panic!("{}", f.error));
    (answer.reused, read(answer).await.unwrap())
}

fn failed(result: Result<Answer, SendFailure>) -> SendFailure {
    match result {
        Ok(answer) => panic!("it answered {}", answer.response.status()),
        Err(failure) => failure,
    }
}

/// Yields until `holds`; the runtime does its other work meanwhile.
async fn until(holds: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(
            std::time::Instant::now() < deadline,
            "it never came to hold"
        );
        tokio::task::yield_now().await;
    }
}

/// A server that handles each connection by hand.
async fn by_hand<F, Fut>(handle: F) -> (SocketAddr, Arc<AtomicUsize>)
where
    F: Fn(usize, TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let handled = handle(count.fetch_add(1, Ordering::Relaxed), stream);
            tokio::spawn(handled);
        }
    });
    (address, accepted)
}

/// Reads one request head; false at the end of the stream.
async fn head(stream: &mut (impl AsyncReadExt + Unpin)) -> bool {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => seen.push(byte),
            Err(_) => return false,
        }
    }
    true
}

/// Answers every request on a connection with `answer`, then hangs up where `once`.
async fn answering(answer: &'static str, once: bool) -> (SocketAddr, Arc<AtomicUsize>) {
    by_hand(move |_, mut stream| async move {
        while head(&mut stream).await {
            stream.write_all(answer.as_bytes()).await.unwrap();
            if once {
                return;
            }
        }
    })
    .await
}

struct Pki {
    ca: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Pki {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap().der().clone();
        Pki {
            ca,
            issuer: Issuer::new(params, key),
        }
    }

    /// A server of these names, with HTTP/2 offered; it demands a client certificate where told.
    fn server(&self, names: &[&str], demand: bool) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if demand {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.ca.clone()).unwrap();
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
                Arc::new(roots),
                provider(),
            );
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = builder.with_single_cert(vec![leaf], key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }

    /// An upstream that trusts this CA, shows no certificate, and takes the name from the request.
    fn upstream(&self, mut spec: UpstreamSpec) -> Arc<Upstream> {
        let tls = TlsSpec::new(CredentialSpec {
            identity: None,
            ca: CaSource::File("/etc/ca.pem".into()),
            crl: None,
        });
        let parts = CredentialParts {
            name: "file-root:/etc/ca.pem".to_owned(),
            identity: None,
            roots: Some(Roots {
                name: "file-root:/etc/ca.pem".to_owned(),
                certificates: Arc::new(vec![self.ca.clone()]),
            }),
            crls: Vec::new(),
            generation: Generation([0; 32]),
            uses: crate::model::Uses::CLIENT,
        };
        let credential = Arc::new(Credential::new(parts).unwrap());
        let client = ClientTls::new(&tls, spec.http, credential, OnExpired::Fail).unwrap();
        spec.tls = TlsPolicy::Tls(Box::new(tls));
        let tls = UpstreamTls::Tls(Arc::new(client));
        Upstream::new(spec, tls, &context(OwnAddrs::new()))
    }
}

/// A hyper server over TLS, HTTP/1 or HTTP/2 by ALPN, that answers with the request's version.
async fn tls_origin(config: Arc<ServerConfig>) -> (SocketAddr, Arc<AtomicUsize>) {
    by_hand(move |_, stream| {
        let acceptor = TlsAcceptor::from(Arc::clone(&config));
        async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service = service_fn(|request: Request<Incoming>| async move {
                let text = format!("{:?} {:?}", request.version(), request.uri().host());
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
            });
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let io = TokioIo::new(stream);
            if http2 {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(io, service).await;
            } else {
                let server = hyper::server::conn::http1::Builder::new();
                let _ = server.serve_connection(io, service).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_connection_is_kept_and_used_again() {
    let (address, accepted) = answering(OK, false).await;
    let upstream = plain(spec(address));
    assert_eq!(fetch(&upstream, "a").await, (false, "ok".to_owned()));
    for _ in 0..20 {
        assert_eq!(fetch(&upstream, "a").await, (true, "ok".to_owned()));
    }
    assert_eq!(accepted.load(Ordering::Relaxed), 1);
    assert_eq!(upstream.stats().level(Level::Idle), 1);
    assert_eq!(upstream.stats().level(Level::ActiveRequests), 0);
    assert_eq!(upstream.stats().counted(Event::Reuse), 20);
}

#[tokio::test]
async fn a_connection_that_said_close_is_not_used_again() {
    let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
    let (address, accepted) = answering(answer, false).await;
    let upstream = plain(spec(address));
    for _ in 0..3 {
        assert_eq!(fetch(&upstream, "a").await, (false, "ok".to_owned()));
    }
    assert_eq!(accepted.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_connection_is_retired_after_so_many_requests() {
    let (address, accepted) = answering(OK, false).await;
    let mut spec = spec(address);
    spec.pool.max_requests_per_connection = 2;
    let upstream = plain(spec);
    for _ in 0..6 {
        fetch(&upstream, "a").await;
    }
    assert_eq!(accepted.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn t6_the_pool_does_not_cross_server_names() {
    let pki = Pki::new();
    let (address, accepted) = tls_origin(pki.server(&["a.test", "b.test"], false)).await;
    let mut spec = spec(address);
    spec.http = HttpChoice::Http1;
    let upstream = pki.upstream(spec);
    for host in ["a.test", "b.test", "a.test", "b.test"] {
        let answer = get(&upstream, host)
            .await
            .unwrap_or_else(|f| panic!("{}", f.error));
        let facts = answer.facts.clone().unwrap();
        assert_eq!(facts.server_name.as_deref(), Some(host));
        read(answer).await.unwrap();
    }
    assert_eq!(accepted.load(Ordering::Relaxed), 2);
    let failure = failed(get(&upstream, "c.test").await);
    assert!(
        matches!(failure.error, UpstreamError::Handshake { .. }),
        "{}",
        failure.error
    );
    assert!(failure.request.is_some());
}

#[tokio::test]
async fn a_warm_connection_that_the_server_has_closed_is_replaced_without_a_failure() {
    let (address, accepted) = answering(OK, true).await;
    let upstream = plain(spec(address));
    for n in 1..5 {
        assert_eq!(fetch(&upstream, "a").await, (false, "ok".to_owned()));
        assert_eq!(accepted.load(Ordering::Relaxed), n);
        until(|| upstream.stats().level(Level::Connections) == 0).await;
        assert_eq!(upstream.stats().level(Level::Idle), 0);
    }
}

#[tokio::test]
async fn a_warm_connection_that_speaks_unasked_is_closed_and_one_that_is_silent_is_not() {
    let told = Arc::new(tokio::sync::Notify::new());
    let tell = Arc::clone(&told);
    let (address, accepted) = by_hand(move |_, mut stream| {
        let told = Arc::clone(&told);
        async move {
            while head(&mut stream).await {
                stream.write_all(OK.as_bytes()).await.unwrap();
                told.notified().await;
                stream
                    .write_all(b"HTTP/1.1 408 Slow\r\n\r\n")
                    .await
                    .unwrap();
            }
        }
    })
    .await;
    let upstream = plain(spec(address));
    for n in 1..4 {
        assert_eq!(fetch(&upstream, "a").await, (false, "ok".to_owned()));
        assert_eq!(upstream.stats().level(Level::Idle), 1);
        assert_eq!(upstream.stats().level(Level::Connections), 1);
        tell.notify_one();
        until(|| upstream.stats().level(Level::Connections) == 0).await;
        assert_eq!(upstream.stats().level(Level::Idle), 0);
        assert_eq!(accepted.load(Ordering::Relaxed), n);
    }
}

#[tokio::test]
async fn the_tickets_of_a_tls_server_do_not_end_an_idle_connection() {
    let pki = Pki::new();
    let config = pki.server(&["a.test"], false);
    let (address, accepted) = by_hand(move |_, stream| {
        let acceptor = TlsAcceptor::from(Arc::clone(&config));
        async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            while head(&mut stream).await {
                stream.write_all(OK.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
                // A change of keys is no more an answer than a ticket is.
                stream.get_mut().1.refresh_traffic_keys().unwrap();
                stream.flush().await.unwrap();
            }
        }
    })
    .await;
    let mut spec = spec(address);
    spec.http = HttpChoice::Http1;
    let upstream = pki.upstream(spec);
    for n in 0..5 {
        assert_eq!(fetch(&upstream, "a.test").await.0, n > 0);
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        assert_eq!(upstream.stats().level(Level::Idle), 1);
    }
    assert_eq!(accepted.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_connection_that_another_thread_closes_is_not_used_again() {
    let (address, accepted) = answering(OK, false).await;
    let upstream = plain(spec(address));
    fetch(&upstream, "a").await;
    let slot = upstream.slot(0).unwrap().clone();
    std::thread::spawn(move || slot.close_all()).join().unwrap();
    assert_eq!(fetch(&upstream, "a").await, (false, "ok".to_owned()));
    assert_eq!(accepted.load(Ordering::Relaxed), 2);
    until(|| upstream.stats().level(Level::Connections) == 1).await;
}

#[tokio::test]
async fn a_warm_connection_that_closes_on_the_request_says_that_it_was_warm() {
    let (address, _) = by_hand(|_, mut stream| async move {
        head(&mut stream).await;
        stream.write_all(OK.as_bytes()).await.unwrap();
        head(&mut stream).await;
    })
    .await;
    let upstream = plain(spec(address));
    fetch(&upstream, "a").await;
    let failure = failed(get(&upstream, "a").await);
    let UpstreamError::Closed(closed) = &failure.error else {
        panic!("{}", failure.error);
    };
    assert!(closed.reused && !closed.answer_begun && failure.reused);
    assert!(failure.request.is_none(), "it was sent");
    let mut fresh = ask("a");
    fresh.fresh = true;
    let answer = upstream
        .send(&fresh, request("a").into())
        .await
        .unwrap_or_else(|f| panic!("{}", f.error));
    assert!(!answer.reused);
}

#[tokio::test]
async fn what_is_not_http_is_named() {
    for (bytes, words) in [
        ("220 mail.example ESMTP\r\n\r\n", "220 mail"),
        ("\x15\x03\x01\x00\x02\x02\x46", "it speaks TLS"),
        ("HTTP/1.1 200 OK\r\nbad header: x\r\n\r\n", "header"),
        ("HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n", "header"),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
            "ontent-",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            "both",
        ),
        (
            "HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            "101",
        ),
    ] {
        let (address, _) = answering(bytes, true).await;
        let failure = failed(get(&plain(spec(address)), "a").await);
        let words_of = failure.error.to_string();
        assert!(
            matches!(failure.error, UpstreamError::Garbage { .. }),
            "{bytes:?}: {words_of}"
        );
        assert!(words_of.contains(words), "{bytes:?}: {words_of}");
    }
}

#[tokio::test]
async fn an_answers_head_is_bounded() {
    let (address, _) = by_hand(|_, mut stream| async move {
        head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await;
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    })
    .await;
    let failure = failed(get(&plain(spec(address)), "a").await);
    assert!(
        matches!(failure.error, UpstreamError::Garbage { .. }),
        "{}",
        failure.error
    );
}

#[tokio::test]
async fn bytes_behind_an_answer_end_the_connection() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\
                  content-length: 4\r\n\r\nevil";
    let (address, accepted) = answering(answer, false).await;
    let upstream = plain(spec(address));
    for n in 1..4 {
        assert_eq!(fetch(&upstream, "a").await, (false, "ok".to_owned()));
        assert_eq!(accepted.load(Ordering::Relaxed), n);
    }
}

#[tokio::test]
async fn an_answer_that_was_cut_off_never_looks_complete() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nok",
    ] {
        let (address, _) = answering(answer, true).await;
        let upstream = plain(spec(address));
        let answered = get(&upstream, "a")
            .await
            .unwrap_or_else(|f| panic!("{}", f.error));
        let error = read(answered).await.unwrap_err();
        assert!(
            matches!(error, BodyError::CutOff { .. }),
            "{answer:?}: {error}"
        );
        until(|| upstream.stats().level(Level::Connections) == 0).await;
    }
}

#[tokio::test]
async fn a_tls_answer_without_length_is_complete_only_with_close_notify() {
    let pki = Pki::new();
    let config = pki.server(&["a.test"], false);
    for polite in [true, false] {
        let config = Arc::clone(&config);
        let (address, _) = by_hand(move |_, stream| {
            let acceptor = TlsAcceptor::from(Arc::clone(&config));
            async move {
                let mut stream = acceptor.accept(stream).await.unwrap();
                head(&mut stream).await;
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\n\r\nall")
                    .await
                    .unwrap();
                stream.flush().await.unwrap();
                if polite {
                    stream.shutdown().await.unwrap();
                }
            }
        })
        .await;
        let mut spec = spec(address);
        spec.http = HttpChoice::Http1;
        let answer = get(&pki.upstream(spec), "a.test").await;
        let answer = answer.unwrap_or_else(|f| panic!("{}", f.error));
        assert_eq!(read(answer).await.is_ok(), polite);
    }
}

#[tokio::test]
async fn trailers_of_an_answer_pass() {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: sum\r\n\r\n\
                  2\r\nok\r\n0\r\nsum: 7\r\n\r\n";
    let (address, accepted) = answering(answer, false).await;
    let upstream = plain(spec(address));
    for _ in 0..2 {
        let answer = get(&upstream, "a")
            .await
            .unwrap_or_else(|f| panic!("{}", f.error));
        let body = answer.response.body.collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["sum"], "7");
    }
    assert_eq!(accepted.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_answer_that_nobody_reads_on_closes_its_connection() {
    let (closed, close) = oneshot::channel();
    let closed = std::sync::Mutex::new(Some(closed));
    let (address, _) = by_hand(move |_, mut stream| {
        let closed = closed.lock().unwrap().take();
        async move {
            head(&mut stream).await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok")
                .await
                .unwrap();
            let _ = stream.read(&mut [0; 8]).await;
            let _ = closed.unwrap().send(());
        }
    })
    .await;
    let upstream = plain(spec(address));
    let answer = get(&upstream, "a")
        .await
        .unwrap_or_else(|f| panic!("{}", f.error));
    drop(answer);
    close.await.unwrap();
    until(|| upstream.stats().level(Level::Connections) == 0).await;
    assert_eq!(upstream.stats().level(Level::ActiveRequests), 0);
}

#[tokio::test]
async fn http2_by_alpn_carries_many_requests_on_one_connection() {
    let pki = Pki::new();
    let (address, accepted) = tls_origin(pki.server(&["a.test"], false)).await;
    let upstream = pki.upstream(spec(address));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let upstream = Arc::clone(&upstream);
        tasks.spawn(async move { fetch(&upstream, "a.test").await.1 });
    }
    while let Some(text) = tasks.join_next().await {
        assert_eq!(text.unwrap(), "HTTP/2.0 Some(\"a.test\")");
    }
    assert_eq!(accepted.load(Ordering::Relaxed), 1);
    assert!(fetch(&upstream, "a.test").await.0);
}

#[tokio::test]
async fn where_alpn_chooses_http1_those_who_waited_get_their_own() {
    let pki = Pki::new();
    let mut config = (*pki.server(&["a.test"], false)).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let (address, _) = tls_origin(Arc::new(config)).await;
    let upstream = pki.upstream(spec(address));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let upstream = Arc::clone(&upstream);
        tasks.spawn(async move { fetch(&upstream, "a.test").await.1 });
    }
    while let Some(text) = tasks.join_next().await {
        assert_eq!(text.unwrap(), "HTTP/1.1 None");
    }
}

#[tokio::test]
async fn http2_with_prior_knowledge_opens_a_second_connection_when_the_first_is_full() {
    let (address, accepted) = by_hand(|_, stream| async move {
        let service = service_fn(|request: Request<Incoming>| async move {
            // Ends when the client has sent its body, so that the test says when.
            let _ = request.into_body().collect().await;
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("done"))))
        });
        let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        server.max_concurrent_streams(2);
        let _ = server.serve_connection(TokioIo::new(stream), service).await;
    })
    .await;
    let mut spec = spec(address);
    spec.http = HttpChoice::Http2;
    let upstream = plain(spec);
    // The limit is known once the server's SETTINGS came.
    assert_eq!(fetch(&upstream, "a").await.1, "done");
    let mut held = Vec::new();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (frames, body) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, BodyError>>(1);
        held.push(frames);
        let upstream = Arc::clone(&upstream);
        tasks.spawn(async move {
            let stream = futures_util::stream::unfold(body, |mut body| async move {
                body.recv().await.map(|frame| (frame, body))
            });
            let body = RequestBody::Stream(Box::pin(StreamBody::new(stream)));
            let request = Request::post("/x").header("host", "a").body(body).unwrap();
            let answer = upstream.send(&ask("a"), request.into()).await;
            read(answer.unwrap_or_else(|f| panic!("{}", f.error)))
                .await
                .unwrap()
        });
    }
    until(|| accepted.load(Ordering::Relaxed) == 2).await;
    drop(held);
    while let Some(text) = tasks.join_next().await {
        assert_eq!(text.unwrap(), "done");
    }
    assert_eq!(accepted.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn http2_is_not_spoken_to_a_server_that_answers_in_http1() {
    let (address, _) = answering(
        "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
        true,
    )
    .await;
    let mut spec = spec(address);
    spec.http = HttpChoice::Http2;
    let failure = failed(get(&plain(spec), "a").await);
    let text = failure.error.to_string();
    assert!(
        matches!(failure.error, UpstreamError::Garbage { .. }),
        "{text}"
    );
    assert!(text.contains("HTTP/1.1"), "{text}");
}

#[tokio::test]
async fn an_upgrade_gets_http1_from_a_server_that_prefers_http2() {
    let pki = Pki::new();
    let config = pki.server(&["a.test"], false);
    let (address, _) = by_hand(move |_, stream| {
        let acceptor = TlsAcceptor::from(Arc::clone(&config));
        async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
            head(&mut stream).await;
            let answer = b"HTTP/1.1 101 S\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\nhi";
            stream.write_all(answer).await.unwrap();
            let mut got = [0; 4];
            stream.read_exact(&mut got).await.unwrap();
            stream.write_all(&got).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    })
    .await;
    let upstream = pki.upstream(spec(address));
    let mut request = request("a.test");
    request
        .headers_mut()
        .insert("connection", "upgrade".parse().unwrap());
    request
        .headers_mut()
        .insert("upgrade", "echo".parse().unwrap());
    let answer = upstream.send(&ask("a.test"), request.into()).await;
    let mut answer = answer.unwrap_or_else(|f| panic!("{}", f.error));
    assert_eq!(answer.response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(answer.facts.as_ref().unwrap().alpn, Alpn::Http1);
    let mut tunnel = switched(&mut answer.response).await.unwrap();
    assert_eq!(
        upstream.stats().level(Level::ActiveRequests),
        1,
        "a tunnel counts"
    );
    tunnel.write_all(b"ping").await.unwrap();
    let mut got = String::new();
    tunnel.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "hiping");
    drop(tunnel);
    until(|| upstream.stats().level(Level::Connections) == 0).await;
    assert_eq!(upstream.stats().level(Level::ActiveRequests), 0);
}

#[tokio::test]
async fn r15_retiring_closes_what_is_idle_at_once() {
    let (address, accepted) = answering(OK, false).await;
    let upstream = plain(spec(address));
    fetch(&upstream, "a").await;
    upstream.retire(Duration::from_secs(3600));
    until(|| upstream.stats().level(Level::Connections) == 0).await;
    // Requests of an older snapshot are served, and leave nothing behind.
    assert_eq!(fetch(&upstream, "a").await, (false, "ok".to_owned()));
    until(|| upstream.stats().level(Level::Connections) == 0).await;
    assert_eq!(accepted.load(Ordering::Relaxed), 2);
    assert_eq!(upstream.stats().level(Level::Idle), 0);
}

#[tokio::test]
async fn r16_a_busy_connection_is_closed_at_the_age_limit_and_not_before() {
    let (address, _) = answering("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", false).await;
    let upstream = plain(spec(address));
    let answer = get(&upstream, "a")
        .await
        .unwrap_or_else(|f| panic!("{}", f.error));
    let mut body = answer.response.body;
    assert!(body.frame().await.unwrap().is_ok());
    upstream.retire(Duration::from_secs(100));
    drop(upstream);
    tokio::time::pause();
    let early = tokio::time::timeout(Duration::from_secs(99), body.frame()).await;
    assert!(early.is_err(), "it still lives");
    let late = tokio::time::timeout(Duration::from_secs(2), body.frame()).await;
    assert!(late.unwrap().unwrap().is_err());
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time() {
    let (address, _) = answering(OK, false).await;
    let mut spec = spec(address);
    spec.pool.idle_timeout = Duration::from_secs(30);
    let upstream = plain(spec);
    fetch(&upstream, "a").await;
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert_eq!(upstream.stats().level(Level::Idle), 1);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(upstream.stats().level(Level::Idle), 0);
    until(|| upstream.stats().level(Level::Connections) == 0).await;
}

#[tokio::test]
async fn at_the_limit_an_idle_connection_makes_room_for_one_that_is_needed() {
    let pki = Pki::new();
    let (address, _) = tls_origin(pki.server(&["a.test", "b.test"], false)).await;
    let mut spec = spec(address);
    spec.http = HttpChoice::Http1;
    spec.pool.max_connections = 1;
    let upstream = pki.upstream(spec);
    fetch(&upstream, "a.test").await;
    let busy = get(&upstream, "b.test")
        .await
        .unwrap_or_else(|f| panic!("{}", f.error));
    until(|| upstream.stats().level(Level::Connections) == 1).await;
    let _ = read(busy).await;
}

#[tokio::test]
async fn more_connections_than_allowed_are_an_overflow() {
    let (address, _) = answering("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", false).await;
    let mut spec = spec(address);
    spec.pool.max_connections = 1;
    let upstream = plain(spec);
    let busy = get(&upstream, "a")
        .await
        .unwrap_or_else(|f| panic!("{}", f.error));
    let failure = failed(get(&upstream, "a").await);
    let UpstreamError::Overflow { what, limit, .. } = failure.error else {
        panic!("{}", failure.error);
    };
    assert_eq!((what, limit), (Limit::Connections, 1));
    assert!(failure.request.is_some());
    assert_eq!(upstream.stats().counted(Event::Overflow), 1);
    drop(busy);
    assert!(get(&upstream, "a").await.is_ok());
}

#[tokio::test]
async fn more_requests_than_allowed_are_an_overflow() {
    let (address, _) = answering("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", false).await;
    let mut spec = spec(address);
    spec.pool.max_requests = 1;
    let upstream = plain(spec);
    let busy = get(&upstream, "a")
        .await
        .unwrap_or_else(|f| panic!("{}", f.error));
    let failure = failed(get(&upstream, "a").await);
    assert!(
        matches!(
            failure.error,
            UpstreamError::Overflow {
                what: Limit::Requests,
                ..
            }
        ),
        "{}",
        failure.error
    );
    drop(busy);
    assert!(get(&upstream, "a").await.is_ok());
}

#[tokio::test]
async fn t15_the_connect_deadline_covers_the_handshake() {
    let (address, accepted) = by_hand(|_, mut stream| async move {
        let mut sink = Vec::new();
        let _ = stream.read_to_end(&mut sink).await;
    })
    .await;
    let upstream = Pki::new().upstream(spec(address));
    let asking = Arc::clone(&upstream);
    let waiting = tokio::spawn(async move { failed(get(&asking, "a.test").await).error });
    until(|| accepted.load(Ordering::Relaxed) == 1).await;
    tokio::time::pause();
    let error = waiting.await.unwrap();
    let UpstreamError::Connect {
        failure: ConnectFailure::Timeout { stage, after },
        ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!((stage, after), (Stage::Tls, Duration::from_secs(10)));
}

#[tokio::test]
async fn a_refusal_of_our_certificate_after_the_handshake_is_named_as_that() {
    let pki = Pki::new();
    for http in [HttpChoice::Http1, HttpChoice::Auto] {
        let (address, _) = tls_origin(pki.server(&["a.test"], true)).await;
        let mut spec = spec(address);
        spec.http = http;
        let failure = failed(get(&pki.upstream(spec), "a.test").await);
        let UpstreamError::Closed(closed) = &failure.error else {
            panic!("{}", failure.error);
        };
        assert!(closed.explained.is_some(), "{}", failure.error);
        assert!(!closed.reused);
    }
}

#[tokio::test]
async fn an_early_answer_is_heard_while_the_request_is_still_being_sent() {
    let (address, _) = by_hand(|_, mut stream| async move {
        head(&mut stream).await;
        let answer = b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno";
        stream.write_all(answer).await.unwrap();
    })
    .await;
    let chunk = Ok::<_, BodyError>(Frame::data(Bytes::from(vec![b'x'; 65536])));
    let endless = futures_util::stream::repeat_with(move || match &chunk {
        Ok(frame) => Ok(Frame::data(frame.data_ref().unwrap().clone())),
        Err(_) => unreachable!(),
    });
    let body = RequestBody::Stream(Box::pin(StreamBody::new(endless)));
    let request = Request::post("/x").header("host", "a").body(body).unwrap();
    let answer = plain(spec(address)).send(&ask("a"), request.into()).await;
    let answer = answer.unwrap_or_else(|f| panic!("{}", f.error));
    assert_eq!(answer.response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(read(answer).await.unwrap(), "no");
}

#[tokio::test]
async fn a_failure_of_the_clients_body_is_not_blamed_on_the_upstream() {
    let (address, _) = by_hand(|_, mut stream| async move {
        let mut sink = Vec::new();
        let _ = stream.read_to_end(&mut sink).await;
    })
    .await;
    for http in [HttpChoice::Http1, HttpChoice::Http2] {
        let broken = futures_util::stream::iter([
            Ok(Frame::data(Bytes::from("begin"))),
            Err(BodyError::Client("the client went away".into())),
        ]);
        let body = RequestBody::Stream(Box::pin(StreamBody::new(broken)));
        let request = Request::post("/x").header("host", "a").body(body).unwrap();
        let mut spec = spec(address);
        spec.http = http;
        let upstream = plain(spec);
        let failure = failed(upstream.send(&ask("a"), request.into()).await);
        assert!(
            matches!(failure.error, UpstreamError::BodyFromClient(_)),
            "{}",
            failure.error
        );
        assert_eq!(upstream.endpoints()[0].failures, 0);
    }
}

#[tokio::test]
async fn t17_what_cannot_have_tls_fails_and_nothing_is_sent() {
    let (address, accepted) = answering(OK, false).await;
    let tls = UpstreamTls::Unavailable("/etc/client.pem is missing".to_owned());
    let upstream = Upstream::new(spec(address), tls, &context(OwnAddrs::new()));
    let failure = failed(get(&upstream, "a").await);
    assert!(
        failure
            .error
            .to_string()
            .contains("/etc/client.pem is missing")
    );
    assert!(failure.request.is_some());
    assert_eq!(accepted.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_loop_to_ourselves_is_refused() {
    let (address, _) = answering(OK, false).await;
    let own = OwnAddrs::new();
    own.set(vec![ListenAddr(address)]);
    let upstream = Upstream::new(spec(address), UpstreamTls::Plain, &context(own));
    let failure = failed(get(&upstream, "a").await);
    assert!(
        matches!(failure.error, UpstreamError::Loop { .. }),
        "{}",
        failure.error
    );
}

#[tokio::test]
async fn localhost_is_reached_at_whichever_family_answers() {
    let (address, _) = answering(OK, false).await;
    let mut spec = UpstreamSpec::new("bank");
    spec.endpoints = vec![EndpointSpec::new(
        Host::parse("localhost").unwrap(),
        address.port(),
    )];
    let upstream = plain(spec);
    for _ in 0..6 {
        let answer = get(&upstream, "a")
            .await
            .unwrap_or_else(|f| panic!("{}", f.error));
        assert_eq!(answer.endpoint.0, address);
        read(answer).await.unwrap();
    }
}

#[tokio::test]
async fn e2_an_original_destination_is_where_it_goes_and_a_host_stands_in_for_it() {
    let (address, _) = answering(OK, false).await;
    let mut spec = UpstreamSpec::new("PassthroughCluster");
    spec.resolution = Resolution::OriginalDst { port: None };
    let upstream = plain(spec);
    let mut captured = ask("elsewhere.example");
    captured.original_dst = Some(crate::model::OriginalDst(address));
    let answer = upstream
        .send(&captured, request("elsewhere.example").into())
        .await;
    assert_eq!(
        answer.unwrap_or_else(|f| panic!("{}", f.error)).endpoint.0,
        address
    );
    let mut direct = ask("localhost");
    direct.port = address.port();
    let answer = upstream.send(&direct, request("localhost").into()).await;
    assert_eq!(
        answer.unwrap_or_else(|f| panic!("{}", f.error)).endpoint.0,
        address
    );
}

#[tokio::test]
async fn an_endpoint_that_keeps_failing_is_shunned_and_the_other_serves() {
    let (good, _) = answering(OK, false).await;
    let (bad, asked) = answering("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", false).await;
    let mut spec = spec(good);
    spec.endpoints.push(EndpointSpec::new(
        Host::parse(&bad.ip().to_string()).unwrap(),
        bad.port(),
    ));
    let upstream = plain(spec);
    let mut statuses = Vec::new();
    for _ in 0..30 {
        let answer = get(&upstream, "a")
            .await
            .unwrap_or_else(|f| panic!("{}", f.error));
        statuses.push(answer.response.status().as_u16());
        read(answer).await.unwrap();
    }
    assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 5);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    let shunned = upstream
        .endpoints()
        .into_iter()
        .find(|e| e.address.0 == bad)
        .unwrap();
    assert!(shunned.ejected_for.is_some());
    assert_eq!(upstream.stats().level(Level::Ejected), 1);
}

#[tokio::test]
async fn those_who_waited_for_one_attempt_share_its_failure() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let mut spec = spec(address);
    spec.http = HttpChoice::Http2;
    let upstream = plain(spec);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let upstream = Arc::clone(&upstream);
        tasks.spawn(async move { failed(get(&upstream, "a").await) });
    }
    while let Some(failure) = tasks.join_next().await {
        let failure = failure.unwrap();
        assert!(
            matches!(failure.error, UpstreamError::Connect { .. }),
            "{}",
            failure.error
        );
        assert!(failure.request.is_some());
    }
    assert_eq!(
        upstream.endpoints()[0].failures,
        1,
        "one attempt is one failure"
    );
}

#[tokio::test]
async fn a_shared_attempt_outlives_the_request_that_began_it() {
    let pki = Pki::new();
    let (address, accepted) = tls_origin(pki.server(&["a.test"], false)).await;
    let upstream = pki.upstream(spec(address));
    let first = tokio::time::timeout(Duration::ZERO, get(&upstream, "a.test")).await;
    assert!(first.is_err(), "it was given up");
    assert_eq!(
        fetch(&upstream, "a.test").await.1,
        "HTTP/2.0 Some(\"a.test\")"
    );
    assert_eq!(accepted.load(Ordering::Relaxed), 1);
    assert_eq!(upstream.stats().level(Level::ActiveRequests), 0);
}

#[tokio::test]
async fn x1_a_broken_upstream_connects_nowhere_and_gives_its_reason() {
    for (kind, words) in [
        (
            BrokenKind::NoCluster,
            "there is no upstream \"bank\": b.yaml:3: no subset v9",
        ),
        (
            BrokenKind::Unhealthy,
            "upstream \"bank\" serves nothing: b.yaml:3: no subset v9",
        ),
    ] {
        let (address, accepted) = by_hand(|_, _| async {}).await;
        let mut spec = spec(address);
        let reason = "b.yaml:3: no subset v9".into();
        spec.broken = Some(Broken { kind, reason });
        let failure = failed(get(&plain(spec), "bank.example").await);
        assert_eq!(failure.error.to_string(), words);
        assert!(failure.request.is_some() && failure.endpoint.is_none());
        assert_eq!(accepted.load(Ordering::Relaxed), 0);
    }
}

/// A server that notes the first byte of each connection, and speaks what that byte says.
async fn listening(pki: &Pki) -> (SocketAddr, Arc<std::sync::Mutex<Vec<u8>>>) {
    let firsts = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (config, seen) = (pki.server(&["bank.example"], false), Arc::clone(&firsts));
    let (address, _) = by_hand(move |_, stream| {
        let (config, seen) = (Arc::clone(&config), Arc::clone(&seen));
        async move {
            let mut first = [0];
            if stream.peek(&mut first).await.unwrap() == 0 {
                return;
            }
            seen.lock().unwrap().push(first[0]);
            let service = service_fn(|_: Request<Incoming>| async move {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("ok"))))
            });
            let server = hyper::server::conn::http1::Builder::new();
            if first[0] == TLS_RECORD {
                let Ok(stream) = TlsAcceptor::from(config).accept(stream).await else {
                    return;
                };
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            } else {
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            }
        }
    })
    .await;
    (address, firsts)
}

/// What a TLS handshake begins with (RFC 8446 section 5.1).
const TLS_RECORD: u8 = 22;

#[tokio::test]
async fn p4_a_marked_endpoint_is_spoken_to_in_plaintext_and_no_other_ever_is() {
    let pki = Pki::new();
    let (workload, plaintext) = listening(&pki).await;
    let (sidecar, encrypted) = listening(&pki).await;
    let mut spec = spec(workload);
    spec.http = HttpChoice::Http1;
    spec.endpoints[0].plaintext = true;
    spec.endpoints.push(EndpointSpec::new(
        Host::parse(&sidecar.ip().to_string()).unwrap(),
        sidecar.port(),
    ));
    let upstream = pki.upstream(spec);
    for _ in 0..20 {
        let answer = get(&upstream, "bank.example").await.ok().unwrap();
        let tls = answer.facts.is_some();
        assert_eq!(tls, answer.endpoint.0 == sidecar, "{}", answer.endpoint);
        read(answer).await.unwrap();
    }
    let fresh = Ask {
        fresh: true,
        ..ask("bank.example")
    };
    for _ in 0..20 {
        let answer = upstream.send(&fresh, request("bank.example").into()).await;
        read(answer.ok().unwrap()).await.unwrap();
    }
    let (plaintext, encrypted) = (plaintext.lock().unwrap(), encrypted.lock().unwrap());
    assert!(plaintext.len() > 5 && plaintext.iter().all(|first| *first == b'G'));
    assert!(encrypted.len() > 5 && encrypted.iter().all(|first| *first == TLS_RECORD));
}

#[tokio::test]
async fn p4_bytes_that_nobody_reads_follow_the_mark_as_well() {
    let pki = Pki::new();
    for marked in [true, false] {
        let (address, firsts) = listening(&pki).await;
        let mut spec = spec(address);
        spec.endpoints[0].plaintext = marked;
        let upstream = pki.upstream(spec);
        let mut opened = upstream.open_stream(&ask("")).await.ok().unwrap();
        opened.write_all(b"G").await.unwrap();
        opened.flush().await.unwrap();
        let first = || firsts.lock().unwrap().first().copied();
        until(|| first().is_some()).await;
        assert_eq!(first(), Some(if marked { b'G' } else { TLS_RECORD }));
        assert_eq!(opened.facts.is_none(), marked);
    }
}

#[tokio::test]
async fn p4_connections_in_plaintext_are_pooled_under_a_name_that_no_host_has() {
    use super::balance::Endpoint;
    let upstream = Pki::new().upstream(spec("127.0.0.1:1".parse().unwrap()));
    let (slot, _under) = upstream.admit(0).unwrap();
    let endpoint = |plaintext| {
        let address = crate::model::EndpointAddr("127.0.0.1:1".parse().unwrap());
        Endpoint::new(address, "x".into(), Arc::default()).marked(1, plaintext)
    };
    let name = |endpoint: &Endpoint| slot.core.key_name("bank.example", Some(endpoint));
    assert_eq!(name(&endpoint(false)), "bank.example");
    assert!(Host::parse(name(&endpoint(true))).is_err());
}

#[tokio::test]
async fn e12_a_host_that_leads_back_to_us_is_refused() {
    let (address, accepted) = answering(OK, false).await;
    let own = OwnAddrs::new();
    let mut spec = UpstreamSpec::new("any");
    spec.resolution = Resolution::RequestHost {
        port: Some(address.port()),
    };
    let upstream = Upstream::new(spec, UpstreamTls::Plain, &context(own.clone()));
    assert_eq!(fetch(&upstream, "localhost").await.1, "ok");
    own.set(vec![ListenAddr(SocketAddr::new(
        [0, 0, 0, 0].into(),
        address.port(),
    ))]);
    let fresh = Ask {
        fresh: true,
        ..ask("localhost")
    };
    let failure = failed(upstream.send(&fresh, request("localhost").into()).await);
    assert!(
        matches!(failure.error, UpstreamError::Loop { .. }),
        "{}",
        failure.error
    );
    assert_eq!(accepted.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn t7_a_wrong_name_that_passes_is_said_once_for_each_certificate() {
    let upstream = plain(spec("127.0.0.1:1".parse().unwrap()));
    let (slot, _under) = upstream.admit(0).unwrap();
    let lines = crate::telemetry::testing::logged(|| {
        for certificate in ["it names DNS:a", "it names DNS:b", "it names DNS:a"] {
            let endpoint = crate::model::EndpointAddr("127.0.0.1:1".parse().unwrap());
            slot.core.warn_of_name(endpoint, certificate);
        }
    });
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(
        lines[1].contains("DNS:b") && lines[1].contains("upstream=bank"),
        "{lines:#?}"
    );
}
