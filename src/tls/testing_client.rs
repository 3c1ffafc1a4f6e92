//! TLS clients that are no relatives of ours, and what either side says of a handshake, for the
//! tests of this room.
//!
//! Owns: [`Client`], [`Meeting`], and short cuts to entrances.
//! Never: part of the product.
//! Called by: tests.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::{RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::testing::{Ca, HOST, Leaf, credential, spec};
use super::*;
use crate::model::{ClientCertificates, IdentitySource, OnExpired, ServerTlsSpec};

/// The policy of an entrance that most tests start from.
pub(super) fn server_spec(clients: ClientCertificates) -> ServerTlsSpec {
    let mut spec = spec();
    let files = ["/etc/server.pem", "/etc/server.key"].map(PathBuf::from);
    let [certificate, key] = files;
    spec.credential.identity = Some(IdentitySource::Files(certificate, key));
    ServerTlsSpec::new(spec.credential, clients)
}

/// An entrance that shows `leaf` and trusts `ca`.
pub(super) fn entrance(spec: &ServerTlsSpec, leaf: &Leaf, ca: &Ca) -> ServerTls {
    let credential = credential(Some(leaf), &[&ca.der], &[]);
    ServerTls::new(spec, credential, Vec::new(), OnExpired::Fail).unwrap()
}

/// A TLS client that is no relative of ours: rustls' own, which accepts any certificate of `ca`.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) config: rustls::ClientConfig,
    pub(super) name: String,
}

impl Client {
    /// Trusts `ca` and shows `leaf`.
    pub(super) fn new(ca: &Ca, leaf: Option<&Leaf>) -> Client {
        Client::with(ca, leaf, rustls::ALL_VERSIONS)
    }

    pub(super) fn with(
        ca: &Ca,
        leaf: Option<&Leaf>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Client {
        Client::on(provider(), ca, leaf, versions)
    }

    pub(super) fn on(
        provider: Arc<CryptoProvider>,
        ca: &Ca,
        leaf: Option<&Leaf>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(ca.der.clone()).unwrap();
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match leaf {
            None => builder.with_no_client_auth(),
            Some(leaf) => {
                let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&leaf.key()).unwrap();
                let certified = rustls::sign::CertifiedKey::new(leaf.chain.clone(), key);
                let resolver = rustls::sign::SingleCertAndKey::from(certified);
                builder.with_client_cert_resolver(Arc::new(resolver))
            }
        };
        Client {
            config,
            name: HOST.to_owned(),
        }
    }

    pub(super) fn offering(mut self, protocols: &[&str]) -> Client {
        let protocols = protocols.iter().map(|p| p.as_bytes().to_vec());
        self.config.alpn_protocols = protocols.collect();
        self
    }

    /// Offers its sessions whatever the server's name, which rustls' client would not.
    pub(super) fn mixing_names(mut self) -> Client {
        let store = rustls::client::ClientSessionMemoryCache::new(32);
        self.config.resumption = rustls::client::Resumption::store(Arc::new(OneName(store)));
        self
    }

    pub(super) fn asking_for(mut self, name: &str) -> Client {
        self.name = name.to_owned();
        self
    }

    /// Client and entrance at once. The client says a byte and reads it back.
    pub(super) async fn meet(&self, tls: &ServerTls) -> Meeting {
        let (near, far) = tokio::io::duplex(256 * 1024);
        let connector = tokio_rustls::TlsConnector::from(Arc::new(self.config.clone()));
        let name = rustls::pki_types::ServerName::try_from(self.name.clone()).unwrap();
        let sni = matches!(name, rustls::pki_types::ServerName::DnsName(_));
        let client = async {
            let mut stream = connector.connect(name, near).await?;
            let mut byte = [7];
            stream.write_all(&byte).await?;
            stream.flush().await?;
            stream.read_exact(&mut byte).await?;
            let alpn = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
            stream.shutdown().await?;
            // Tickets come with or before the byte; the end is read so that none is lost.
            stream.read_to_end(&mut Vec::new()).await?;
            Ok(alpn)
        };
        let protocols = self.config.alpn_protocols.iter();
        let wire = |name: &Vec<u8>| [&[u8::try_from(name.len()).unwrap()], &name[..]].concat();
        let alpn: Vec<u8> = protocols.flat_map(wire).collect();
        let offered = Offered {
            server_name: Some(self.name.as_str()).filter(|_| sni),
            alpn: &alpn,
        };
        let server = async {
            let mut accepted = tls.accept(offered, bytes::Bytes::new(), far).await?;
            let mut byte = [0];
            let echo = async {
                accepted.stream.read_exact(&mut byte).await?;
                accepted.stream.write_all(&byte).await?;
                accepted.stream.shutdown().await?;
                accepted.stream.read(&mut byte).await
            };
            // A client that has judged our certificate only now sends no byte.
            let _ = echo.await;
            Ok(accepted.facts)
        };
        // A refused socket stays open until the client has read its alert.
        let (client, server) = tokio::join!(client, server);
        let server = server.map_err(|rejected: Rejected<DuplexStream>| rejected.error);
        Meeting { client, server }
    }
}

/// Sessions of all servers under one name.
#[derive(Debug)]
struct OneName(rustls::client::ClientSessionMemoryCache);

fn one_name() -> rustls::pki_types::ServerName<'static> {
    HOST.try_into().unwrap()
}

impl rustls::client::ClientSessionStore for OneName {
    fn set_kx_hint(&self, _: rustls::pki_types::ServerName<'static>, group: rustls::NamedGroup) {
        self.0.set_kx_hint(one_name(), group);
    }

    fn kx_hint(&self, _: &rustls::pki_types::ServerName<'_>) -> Option<rustls::NamedGroup> {
        self.0.kx_hint(&one_name())
    }

    fn set_tls12_session(
        &self,
        _: rustls::pki_types::ServerName<'static>,
        value: rustls::client::Tls12ClientSessionValue,
    ) {
        self.0.set_tls12_session(one_name(), value);
    }

    fn tls12_session(
        &self,
        _: &rustls::pki_types::ServerName<'_>,
    ) -> Option<rustls::client::Tls12ClientSessionValue> {
        self.0.tls12_session(&one_name())
    }

    fn remove_tls12_session(&self, _: &rustls::pki_types::ServerName<'static>) {
        self.0.remove_tls12_session(&one_name());
    }

    fn insert_tls13_ticket(
        &self,
        _: rustls::pki_types::ServerName<'static>,
        value: rustls::client::Tls13ClientSessionValue,
    ) {
        self.0.insert_tls13_ticket(one_name(), value);
    }

    fn take_tls13_ticket(
        &self,
        _: &rustls::pki_types::ServerName<'static>,
    ) -> Option<rustls::client::Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&one_name())
    }
}

/// What either side says of one connection.
#[derive(Debug)]
pub(super) struct Meeting {
    /// What ALPN chose, as the client heard it.
    pub(super) client: io::Result<Option<Vec<u8>>>,
    pub(super) server: Result<Arc<AcceptFacts>, AcceptError>,
}

impl Meeting {
    /// What was agreed.
    pub(super) fn facts(self) -> Arc<AcceptFacts> {
        self.client.unwrap();
        self.server.unwrap()
    }

    /// The error in words, its label, and the alert that the client saw.
    pub(super) fn refusal(self) -> (String, &'static str, String) {
        let error = self.server.expect_err("the handshake must fail");
        let alert = alert::alert_in(&self.client.unwrap_err()).map(alert::name);
        (error.to_string(), error.label, alert.unwrap_or_default())
    }
}
