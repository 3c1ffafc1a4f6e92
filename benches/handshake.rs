//! What a mutual TLS handshake costs, full and resumed, with plain rustls beside it as the control.
//!
//! Owns: the promise that our verifier, our words for failures and our bookkeeping add little.
//! Never: measures a network: both ends are in memory, on one thread, so a figure is both ends' work.
//! Called by: `cargo bench --bench handshake`.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot start must say so"
)]

use std::path::PathBuf;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, ServerConfig};
use sortie::model::{CaSource, CredentialSpec, HttpChoice, IdentitySource, OnExpired, TlsSpec};
use sortie::tls::{ClientTls, Credential, CredentialParts, Generation, Roots, provider};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio_rustls::{TlsAcceptor, TlsConnector};

const NAME: &str = "bank.example";
/// Holds the longest flight of either side.
const PIPE: usize = 64 * 1024;

struct Leaf {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

struct Pki {
    ca: CertificateDer<'static>,
    server: Leaf,
    client: Leaf,
}

fn pki() -> Pki {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap().der().clone();
    let issuer = Issuer::new(params, key);
    let leaf = |names: Vec<String>| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        Leaf {
            chain: vec![certificate.der().clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        }
    };
    Pki {
        server: leaf(vec![NAME.into()]),
        client: leaf(Vec::new()),
        ca,
    }
}

fn roots(pki: &Pki) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(pki.ca.clone()).unwrap();
    roots
}

/// A server that demands our certificate. `resumes`: whether it hands out tickets.
fn server(pki: &Pki, resumes: bool) -> TlsAcceptor {
    let roots = Arc::new(roots(pki));
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(pki.server.chain.clone(), pki.server.key.clone_key())
        .unwrap();
    if resumes {
        // Without it the server remembers 256 sessions and forgets the others.
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    } else {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

fn sortie(pki: &Pki) -> ClientTls {
    let parts = CredentialParts {
        name: "bench".into(),
        identity: Some((pki.client.chain.clone(), pki.client.key.clone_key())),
        roots: Some(Roots {
            name: "bench".into(),
            certificates: Arc::new(vec![pki.ca.clone()]),
        }),
        crls: Vec::new(),
        generation: Generation([0; 32]),
        uses: sortie::model::Uses::CLIENT,
    };
    let spec = TlsSpec::new(CredentialSpec {
        identity: Some(IdentitySource::Files(
            PathBuf::from("client.crt"),
            PathBuf::from("client.key"),
        )),
        ca: CaSource::File("ca.crt".into()),
        crl: None,
    });
    let credential = Arc::new(Credential::new(parts).unwrap());
    ClientTls::new(&spec, HttpChoice::Http1, credential, OnExpired::Fail).unwrap()
}

fn control(pki: &Pki) -> TlsConnector {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(pki))
        .with_client_auth_cert(pki.client.chain.clone(), pki.client.key.clone_key())
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::in_memory_sessions(32);
    TlsConnector::from(Arc::new(config))
}

/// The server's half: a byte behind the handshake, which carries its tickets to the client.
async fn serve(acceptor: &TlsAcceptor, pipe: tokio::io::DuplexStream) -> bool {
    let mut stream = acceptor.accept(pipe).await.unwrap();
    let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
    stream.write_all(b"x").await.unwrap();
    stream.flush().await.unwrap();
    resumed
}

async fn with_sortie(client: &ClientTls, acceptor: &TlsAcceptor) -> bool {
    let (near, far) = tokio::io::duplex(PIPE);
    let ours = async {
        let mut connected = client.connect(NAME, near).await.ok().unwrap();
        connected.stream.read_u8().await.unwrap();
    };
    tokio::join!(ours, serve(acceptor, far)).1
}

async fn with_rustls(client: &TlsConnector, acceptor: &TlsAcceptor) -> bool {
    let (near, far) = tokio::io::duplex(PIPE);
    let ours = async {
        let name = ServerName::try_from(NAME).unwrap();
        let mut stream = client.connect(name, near).await.unwrap();
        stream.read_u8().await.unwrap();
    };
    tokio::join!(ours, serve(acceptor, far)).1
}

fn handshake(c: &mut Criterion) {
    let runtime: Runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let pki = pki();
    let mut bench = c.benchmark_group("handshake");
    for (name, resumes) in [("full", false), ("resumed", true)] {
        let acceptor = server(&pki, resumes);
        let (ours, theirs) = (sortie(&pki), control(&pki));
        // The first handshake brings the ticket; what is measured afterwards must be what it says.
        for _ in 0..2 {
            let kinds = runtime.block_on(async {
                let ours = with_sortie(&ours, &acceptor).await;
                (ours, with_rustls(&theirs, &acceptor).await)
            });
            assert!(
                resumes || kinds == (false, false),
                "a full handshake resumed"
            );
        }
        bench.bench_function(format!("{name}/sortie"), |b| {
            b.iter(|| assert_eq!(runtime.block_on(with_sortie(&ours, &acceptor)), resumes));
        });
        bench.bench_function(format!("{name}/rustls"), |b| {
            b.iter(|| assert_eq!(runtime.block_on(with_rustls(&theirs, &acceptor)), resumes));
        });
    }
    bench.finish();
}

criterion_group!(benches, handshake);
criterion_main!(benches);
