//! The demo's external service: HTTPS that demands a client certificate and says what it saw.
//!
//! Owns: one thread with its own runtime, and the JSON of the answer.
//! Never: part of the proxy; it plays the far side.
//! Called by: `cli::demo`.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, ProtocolVersion, RootCertStore, ServerConfig, ServerConnection};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use super::pki::ServerParts;
use crate::tls::{CertFacts, provider};

/// Why the service does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A socket or a thread.
    #[error("the embedded service cannot start: {0}")]
    Start(#[from] io::Error),
    /// Its TLS configuration.
    #[error("the embedded service cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// Its check of clients.
    #[error("the embedded service cannot set up its check of clients: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// What the service says of a request; the body of its answers.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Saw {
    pub(super) message: String,
    pub(super) request: String,
    pub(super) host: String,
    pub(super) tls: SawTls,
    pub(super) client: Option<SawClient>,
}

/// The connection as the service sees it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct SawTls {
    pub(super) version: String,
    pub(super) cipher: String,
    pub(super) group: String,
    pub(super) sni: Option<String>,
    pub(super) alpn: Option<String>,
    pub(super) resumed: bool,
}

/// The certificate that the client showed.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct SawClient {
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) serial: String,
}

/// The running service; it ends when dropped.
pub(super) struct Service {
    /// Where it listens.
    pub(super) address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl Service {
    /// Starts it on a free port of the loopback address.
    pub(super) fn start(parts: ServerParts) -> Result<Service, ServiceError> {
        let config = Arc::new(config(parts)?);
        let socket = std::net::TcpListener::bind("127.0.0.1:0")?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (tell, told) = mpsc::channel();
        thread::Builder::new()
            .name("service".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    let listener = TcpListener::from_std(socket);
                    let _ = tell.send(listener.as_ref().map(drop).map_err(|e| e.kind()));
                    if let Ok(listener) = listener {
                        tokio::select! {
                            // An error means that the owner is gone: the end as well.
                            _ = stopped => {}
                            () = accept(listener, TlsAcceptor::from(config)) => {}
                        }
                    }
                });
            })?;
        told.recv()
            .map_err(io::Error::other)?
            .map_err(io::Error::from)?;
        Ok(Service {
            address,
            _stop: stop,
        })
    }
}

fn config(parts: ServerParts) -> Result<ServerConfig, ServiceError> {
    let mut roots = RootCertStore::empty();
    roots.add(parts.ca)?;
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![parts.certificate], parts.key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor) {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                tokio::spawn(serve(socket, acceptor.clone()));
            }
            // Out of file descriptors, most likely: some may be given back meanwhile.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
    }
}

/// One connection. A client that breaks off is no affair of the demo.
async fn serve(socket: TcpStream, acceptor: TlsAcceptor) {
    // Without it the answers wait for the other side's delayed acknowledgement.
    let _ = socket.set_nodelay(true);
    let Ok(stream) = acceptor.accept(socket).await else {
        return;
    };
    let session = stream.get_ref().1;
    let saw = Arc::new((saw_tls(session), saw_client(session)));
    let http2 = session.alpn_protocol() == Some(b"h2");
    let answer = service_fn(move |request| answer(request, Arc::clone(&saw)));
    let io = TokioIo::new(stream);
    if http2 {
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = builder.serve_connection(io, answer).await;
    } else {
        let builder = hyper::server::conn::http1::Builder::new();
        let _ = builder.serve_connection(io, answer).await;
    }
}

async fn answer(
    mut request: Request<Incoming>,
    saw: Arc<(SawTls, Option<SawClient>)>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    // What is sent is taken and dropped, so that uploads can be tried as well.
    while let Some(Ok(_)) = request.body_mut().frame().await {}
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let host = host.or(request.uri().authority().map(http::uri::Authority::as_str));
    let saw = Saw {
        message: "hello over mutual TLS".to_owned(),
        request: format!(
            "{} {} {:?}",
            request.method(),
            request.uri().path(),
            request.version()
        ),
        host: host.unwrap_or_default().to_owned(),
        tls: saw.0.clone(),
        client: saw.1.clone(),
    };
    let mut body = serde_json::to_vec_pretty(&saw).unwrap_or_default();
    body.push(b'\n');
    let mut response = Response::new(Full::from(body));
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}

fn saw_tls(session: &ServerConnection) -> SawTls {
    let suite = session
        .negotiated_cipher_suite()
        .and_then(|suite| suite.suite().as_str());
    let group = session
        .negotiated_key_exchange_group()
        .and_then(|group| group.name().as_str());
    let alpn = session
        .alpn_protocol()
        .map(|alpn| String::from_utf8_lossy(alpn).into_owned());
    SawTls {
        version: match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLS 1.3".to_owned(),
            _ => "TLS 1.2".to_owned(),
        },
        // rustls writes TLS13_ where IANA writes TLS_.
        cipher: suite.unwrap_or_default().replacen("TLS13_", "TLS_", 1),
        group: group.unwrap_or_default().to_owned(),
        sni: session.server_name().map(str::to_owned),
        alpn,
        resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
    }
}

fn saw_client(session: &ServerConnection) -> Option<SawClient> {
    let leaf = session.peer_certificates()?.first()?;
    let facts = CertFacts::read(leaf).ok()?;
    Some(SawClient {
        subject: facts.subject,
        issuer: facts.issuer,
        serial: facts.serial,
    })
}
