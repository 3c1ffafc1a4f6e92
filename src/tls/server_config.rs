//! One TLS server configuration for each entrance and credential generation.
//!
//! Owns: [`ServerTls`]: our certificates, whom of the clients we accept, sessions to be resumed.
//! Never: reads a file.
//! Called by: publish (makes one per entrance), listener (shakes hands with it, see `tls::accept`).
//!
//! Why one object per generation: a session of an old generation cannot be resumed under a new one
//! when the tickets' keys are gone with their owner (ISTIO.md R16).

use std::sync::{Arc, Mutex};

use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, WantsServerCert};
use rustls::{
    ConfigBuilder, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion, version,
};

use super::accept::ClientCertificate;
use super::client_config::provider;
use super::credential::{Credential, Generation, Identity};
use super::facts::CertFacts;
use super::server_cert::OurCertificates;
use super::tickets::Tickets;
use super::verify_client::ClientVerifier;
use crate::model::{
    ClientCertificates, OnExpired, ServerAlpn, ServerTlsSpec, TlsVersion, known_cipher_suite,
};

/// Everything needed to speak TLS with the clients of one entrance.
pub struct ServerTls {
    pub(super) spec: ServerTlsSpec,
    pub(super) credential: Arc<Credential>,
    pub(super) more: Vec<Arc<Credential>>,
    pub(super) certificates: Arc<OurCertificates>,
    /// `None`: clients are not asked for a certificate.
    pub(super) verifier: Option<Arc<ClientVerifier>>,
    /// For clients that offer something that we speak by ALPN.
    pub(super) config: Arc<ServerConfig>,
    /// The same without ALPN, for those that do not: their handshake goes on (ISTIO.md P11).
    pub(super) silent: Arc<ServerConfig>,
    /// The client's certificate seen last, as many connections come from few clients.
    pub(super) last_client: Mutex<Option<Arc<ClientCertificate>>>,
}

/// Why a policy and its credentials make no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ServerTlsError {
    /// There is no certificate to show.
    #[error("there is no certificate to show to clients; name one")]
    NoIdentity,
    /// Clients are to be verified, and nobody is trusted.
    #[error("there is no CA to verify clients with; name one")]
    NoRoots,
    /// No version lies between the least and the greatest.
    #[error("no version of TLS is left: the least is 1.3 and the greatest is 1.2")]
    NoVersion,
    /// None of the suites that are named is there.
    #[error(
        "no cipher suite of TLS 1.2 is left, as none of {0} is known; name one that is, or demand \
         TLS 1.3"
    )]
    NoCipherSuite(String),
    /// The library refuses the combination.
    #[error("TLS cannot be set up: {0}")]
    Library(#[source] rustls::Error),
}

impl ServerTls {
    /// Builds the configuration. Of `more` only the certificates and keys count: for clients that
    /// cannot use those of `credential`.
    ///
    /// # Errors
    /// See [`ServerTlsError`].
    pub fn new(
        spec: &ServerTlsSpec,
        credential: Arc<Credential>,
        more: Vec<Arc<Credential>>,
        on_expired: OnExpired,
    ) -> Result<ServerTls, ServerTlsError> {
        let certificates = Arc::new(certificates(&credential, &more, on_expired)?);
        let verifier = verifier(spec, &credential)?;
        let builder = builder(spec, verifier.clone())?;
        let mut silent = builder.with_cert_resolver(Arc::clone(&certificates) as _);
        silent.ticketer = Arc::new(Tickets::new().map_err(ServerTlsError::Library)?);
        silent.session_storage = Arc::new(NoServerSessionStorage {});
        // Whoever lists suites lists the best one first, as in Envoy.
        silent.ignore_client_order = !spec.cipher_suites.is_empty();
        let mut config = silent.clone();
        if spec.alpn == ServerAlpn::Http {
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        }
        Ok(ServerTls {
            spec: spec.clone(),
            credential,
            more,
            certificates,
            verifier,
            config: Arc::new(config),
            silent: Arc::new(silent),
            last_client: Mutex::new(None),
        })
    }

    /// What it was built from.
    pub fn spec(&self) -> &ServerTlsSpec {
        &self.spec
    }

    /// What our certificate says.
    pub fn leaf(&self) -> Option<&CertFacts> {
        let identity = self.credential.identity.as_ref();
        identity.map(|identity| &identity.leaf)
    }

    /// The generations of its credentials: others make another one.
    pub fn generations(&self) -> impl Iterator<Item = Generation> {
        let all = std::iter::once(&self.credential).chain(&self.more);
        all.map(|credential| credential.generation)
    }
}

fn certificates(
    credential: &Credential,
    more: &[Arc<Credential>],
    on_expired: OnExpired,
) -> Result<OurCertificates, ServerTlsError> {
    let more = more.iter().map(AsRef::as_ref);
    let identities = std::iter::once(credential)
        .chain(more)
        .map(|credential| credential.identity.as_ref())
        .collect::<Option<Vec<&Identity>>>();
    let identities = identities.ok_or(ServerTlsError::NoIdentity)?;
    Ok(OurCertificates::new(identities.into_iter(), on_expired))
}

/// Whom of the clients we accept, where they show a certificate.
fn verifier(
    spec: &ServerTlsSpec,
    credential: &Arc<Credential>,
) -> Result<Option<Arc<ClientVerifier>>, ServerTlsError> {
    match spec.clients {
        ClientCertificates::Unasked => Ok(None),
        ClientCertificates::Optional | ClientCertificates::Required => {
            if !credential.trust.has_anchors() {
                return Err(ServerTlsError::NoRoots);
            }
            let algorithms = provider().signature_verification_algorithms;
            let verifier = ClientVerifier::new(spec, Arc::clone(credential), algorithms);
            Ok(Some(Arc::new(verifier)))
        }
    }
}

/// Versions and cipher suites, with the verifier.
fn builder(
    spec: &ServerTlsSpec,
    verifier: Option<Arc<ClientVerifier>>,
) -> Result<ConfigBuilder<ServerConfig, WantsServerCert>, ServerTlsError> {
    let builder = ServerConfig::builder_with_provider(suites(spec)?)
        .with_protocol_versions(versions(spec)?)
        .map_err(ServerTlsError::Library)?;
    Ok(match verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    })
}

fn versions(
    spec: &ServerTlsSpec,
) -> Result<&'static [&'static SupportedProtocolVersion], ServerTlsError> {
    use TlsVersion::{Tls12, Tls13};
    const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
    const OLD: &[&SupportedProtocolVersion] = &[&version::TLS12];
    const NEW: &[&SupportedProtocolVersion] = &[&version::TLS13];
    match (spec.min_version, spec.max_version) {
        (Tls12, Tls13) => Ok(BOTH),
        (Tls12, Tls12) => Ok(OLD),
        (Tls13, Tls13) => Ok(NEW),
        (Tls13, Tls12) => Err(ServerTlsError::NoVersion),
    }
}

/// The provider with those suites of TLS 1.2 alone that are named, in that order. Those of TLS 1.3
/// are all there (ISTIO.md G7); names that nobody knows are passed over (X10).
fn suites(spec: &ServerTlsSpec) -> Result<Arc<CryptoProvider>, ServerTlsError> {
    let all = provider();
    if spec.cipher_suites.is_empty() || spec.min_version == TlsVersion::Tls13 {
        return Ok(all);
    }
    let named = |name: &Arc<str>| {
        let name = known_cipher_suite(name)?;
        let mut suites = all.cipher_suites.iter();
        suites.find(|suite| suite.suite().as_str() == Some(name))
    };
    let named: Vec<SupportedCipherSuite> = spec
        .cipher_suites
        .iter()
        .filter_map(named)
        .copied()
        .collect();
    if named.is_empty() {
        return Err(ServerTlsError::NoCipherSuite(spec.cipher_suites.join(", ")));
    }
    let newer = all
        .cipher_suites
        .iter()
        .filter(|suite| suite.tls13().is_some());
    Ok(Arc::new(CryptoProvider {
        cipher_suites: newer.copied().chain(named).collect(),
        ..(*all).clone()
    }))
}
