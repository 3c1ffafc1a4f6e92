//! A throw-away PKI and a TLS server that says what it saw, for the tests of this room.
//!
//! Owns: [`Ca`], [`Leaf`], [`Server`], and short cuts to credentials and policies.
//! Never: part of the product.
//! Called by: tests.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::model::{CaSource, CredentialSpec, HttpChoice, IdentitySource, OnExpired, TlsSpec};

pub(super) const HOST: &str = "bank.example";

/// A certificate authority.
pub(super) struct Ca {
    pub(super) der: CertificateDer<'static>,
    pub(super) issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
pub(super) struct Leaf {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: Vec<u8>,
}

impl Leaf {
    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.clone()).unwrap()
    }

    pub(super) fn followed_by(mut self, ca: &Ca) -> Leaf {
        self.chain.push(ca.der.clone());
        self
    }
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Ca {
    pub(super) fn new(name: &str) -> Ca {
        Ca::with(name, |_| ())
    }

    pub(super) fn with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Ca {
        let key = KeyPair::generate().unwrap();
        let mut params = ca_params(name);
        change(&mut params);
        let der = params.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        Ca { der, issuer }
    }

    pub(super) fn below(&self, name: &str) -> Ca {
        self.below_with(name, |_| ())
    }

    pub(super) fn below_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Ca {
        let key = KeyPair::generate().unwrap();
        let mut params = ca_params(name);
        params.serial_number = Some(SerialNumber::from_slice(&[77]));
        change(&mut params);
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        Ca { der, issuer }
    }

    pub(super) fn leaf(&self, name: &str) -> Leaf {
        self.leaf_with(name, |_| ())
    }

    pub(super) fn leaf_with(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let mut params = leaf_params(name);
        change(&mut params);
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Leaf {
            chain: vec![der],
            key: key.serialize_der(),
        }
    }

    /// With a key of this kind.
    pub(super) fn leaf_of(&self, kind: &'static rcgen::SignatureAlgorithm, name: &str) -> Leaf {
        let key = KeyPair::generate_for(kind).unwrap();
        let cert = leaf_params(name).signed_by(&key, &self.issuer).unwrap();
        Leaf {
            chain: vec![cert.der().clone()],
            key: key.serialize_der(),
        }
    }

    pub(super) fn crl(&self, revoked: &[u8]) -> CertificateRevocationListDer<'static> {
        self.crl_until(revoked, 4000)
    }

    pub(super) fn crl_until(
        &self,
        revoked: &[u8],
        year: i32,
    ) -> CertificateRevocationListDer<'static> {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2000, 1, 1),
            next_update: date_time_ymd(year, 1, 1),
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from_slice(&[*serial]),
                    revocation_time: date_time_ymd(2001, 1, 1),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().der().clone()
    }
}

fn leaf_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from_slice(&[42]));
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params
}

/// The same certificate as X.509 version 1, which rcgen does not write: without the version and
/// without extensions, and signed anew.
pub(super) fn version_1(ca: &Ca, leaf: &Leaf) -> Leaf {
    use rcgen::SigningKey as _;
    let der = &leaf.chain[0];
    let certificate = facts::parse(der).unwrap();
    let tbs = certificate.tbs_certificate.as_ref();
    // Behind the outer header `[0] version` is five bytes, and the key is the last field kept.
    let header = if tbs[1] == 0x82 { 4 } else { 3 };
    let key = certificate.public_key().raw;
    let end = tbs.windows(key.len()).position(|part| part == key).unwrap() + key.len();
    let fields = &tbs[header + 5..end];
    let tbs = wrap(0x30, fields);
    let mut bits = vec![0];
    bits.extend(ca.issuer.key().sign(&tbs).unwrap());
    // ecdsa-with-SHA256
    let algorithm = wrap(0x30, &wrap(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]));
    let whole = wrap(0x30, &[tbs, algorithm, wrap(3, &bits)].concat());
    Leaf {
        chain: vec![whole.into()],
        key: leaf.key.clone(),
    }
}

/// One DER value; lengths below 64 KiB.
fn wrap(tag: u8, inside: &[u8]) -> Vec<u8> {
    let length = inside.len();
    let [high, low] = u16::try_from(length).unwrap().to_be_bytes();
    let head = match length {
        0..0x80 => vec![tag, low],
        0x80..0x100 => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [head, inside.to_vec()].concat()
}

pub(super) fn self_signed(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
    let key = KeyPair::generate().unwrap();
    let mut params = leaf_params(name);
    change(&mut params);
    Leaf {
        chain: vec![params.self_signed(&key).unwrap().der().clone()],
        key: key.serialize_der(),
    }
}

/// The policy that most tests start from.
pub(super) fn spec() -> TlsSpec {
    TlsSpec::new(CredentialSpec {
        identity: Some(IdentitySource::Files(
            PathBuf::from("/etc/client.pem"),
            PathBuf::from("/etc/client.key"),
        )),
        ca: CaSource::File(PathBuf::from("/etc/ca.pem")),
        crl: None,
    })
}

pub(super) fn credential(
    identity: Option<&Leaf>,
    roots: &[&CertificateDer<'static>],
    crls: &[CertificateRevocationListDer<'static>],
) -> Arc<Credential> {
    let parts = CredentialParts {
        name: "file-cert:/etc/client.pem~/etc/client.key".to_owned(),
        identity: identity.map(|leaf| (leaf.chain.clone(), leaf.key())),
        roots: Some(Roots {
            name: "file-root:/etc/ca.pem".to_owned(),
            certificates: Arc::new(roots.iter().map(|der| (*der).clone()).collect()),
        }),
        crls: crls.to_vec(),
        generation: Generation([0; 32]),
        uses: crate::model::Uses::CLIENT,
    };
    Arc::new(Credential::new(parts).unwrap())
}

pub(super) fn client_tls(spec: &TlsSpec, credential: &Arc<Credential>) -> ClientTls {
    ClientTls::new(
        spec,
        HttpChoice::Auto,
        Arc::clone(credential),
        OnExpired::Fail,
    )
    .unwrap()
}

/// A client that shows nothing and trusts `ca`.
pub(super) fn trusting(ca: &Ca) -> ClientTls {
    client_tls(&spec(), &credential(None, &[&ca.der], &[]))
}

/// What the server saw.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) sni: Option<String>,
    pub(super) client: Vec<CertificateDer<'static>>,
}

/// A TLS server.
pub(super) struct Server {
    pub(super) config: ServerConfig,
}

impl Server {
    pub(super) fn new(leaf: &Leaf) -> Server {
        Server::with(leaf, rustls::ALL_VERSIONS, None)
    }

    /// With client certificates of `ca` demanded where there is one.
    pub(super) fn with(
        leaf: &Leaf,
        versions: &[&'static SupportedProtocolVersion],
        ca: Option<&Ca>,
    ) -> Server {
        Server::on(provider(), leaf, versions, ca)
    }

    pub(super) fn on(
        provider: Arc<CryptoProvider>,
        leaf: &Leaf,
        versions: &[&'static SupportedProtocolVersion],
        ca: Option<&Ca>,
    ) -> Server {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .unwrap();
        let builder = match ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                roots.add(ca.der.clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&leaf.key()).unwrap();
        let certified = rustls::sign::CertifiedKey::new(leaf.chain.clone(), key);
        let mut config =
            builder.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = ServerSessionMemoryCache::new(32);
        Server { config }
    }

    /// One connection: a handshake, one byte read and given back, and the end.
    pub(super) fn serve(&self, stream: DuplexStream) -> impl Future<Output = io::Result<Seen>> {
        let acceptor = TlsAcceptor::from(Arc::new(self.config.clone()));
        async move {
            let mut stream = acceptor.accept(stream).await?;
            let session = stream.get_ref().1;
            let seen = Seen {
                sni: session.server_name().map(str::to_owned),
                client: session.peer_certificates().unwrap_or_default().to_vec(),
            };
            let mut byte = [0];
            stream.read_exact(&mut byte).await?;
            stream.write_all(&byte).await?;
            stream.shutdown().await?;
            Ok(seen)
        }
    }

    /// Client and server at once. After the handshake the client sends a byte and reads it back.
    pub(super) async fn meet(
        &self,
        tls: &ClientTls,
        host: &str,
    ) -> (Result<Met, HandshakeError>, io::Result<Seen>) {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let client = async {
            let mut connected = tls.connect(host, near).await?;
            let mut byte = [7];
            let echo = async {
                connected.stream.write_all(&byte).await?;
                connected.stream.flush().await?;
                connected.stream.read_exact(&mut byte).await?;
                // Tickets come with or before the byte; the end is read so that none is lost.
                connected.stream.read(&mut byte).await.map(drop)
            };
            let echo = echo.await;
            Ok(Met {
                facts: connected.facts,
                echo,
            })
        };
        tokio::join!(client, self.serve(far))
    }

    /// The error in words, its class, and the alert that the server saw.
    pub(super) async fn refusal(&self, tls: &ClientTls) -> (String, HandshakeReason, String) {
        let (client, server) = self.meet(tls, HOST).await;
        let error = client.expect_err("the handshake must fail");
        let alert = alert::alert_in(&server.unwrap_err()).map(alert::name);
        (error.to_string(), error.reason, alert.unwrap_or_default())
    }
}

/// A handshake that succeeded, and what came of the byte sent after it.
#[derive(Debug)]
pub(super) struct Met {
    pub(super) facts: Arc<HandshakeFacts>,
    pub(super) echo: io::Result<()>,
}
