//! One TLS client configuration for each policy and credential generation.
//!
//! Owns: the crypto provider, [`ClientTls`] with its own session store, our certificate's resolver.
//! Never: reads a file, or decides whether a certificate is good (that is `verify`).
//! Called by: publish (makes one per upstream), upstream (connects with it).
//!
//! Why one object per generation: a ticket of an old identity cannot be resumed by a new one when
//! the store that holds it is gone with its owner (ISTIO.md R16).

use std::sync::{Arc, Mutex, OnceLock};

use rustls::client::{ClientConfig, ResolvesClientCert, Resumption, Tls12Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{SignatureScheme, SupportedProtocolVersion, version};

use super::credential::Credential;
use super::facts::{CertFacts, parse};
use super::hkdf::with_own_hkdf;
use super::notes;
use super::sessions::Sessions;
use super::verify::{Verifier, is_nameless};
use crate::model::{AlpnOffer, CaSource, Host, HttpChoice, OnExpired, TlsSpec, TlsVersion};

/// Everything needed to speak TLS to one upstream under one credential generation.
pub struct ClientTls {
    pub(super) spec: TlsSpec,
    pub(super) http: HttpChoice,
    pub(super) credential: Arc<Credential>,
    pub(super) on_expired: OnExpired,
    pub(super) config: Arc<ClientConfig>,
    pub(super) verifier: Arc<Verifier>,
    /// The name that the policy sets instead of the request's host (ISTIO.md T6).
    pub(super) fixed_name: Option<ServerName<'static>>,
    /// What `connect_http1` offers.
    pub(super) http1_offer: Vec<Vec<u8>>,
    /// What `connect_opaque` offers.
    pub(super) opaque_offer: Vec<Vec<u8>>,
    /// The peer's certificate seen last and its facts, as it hardly ever changes.
    pub(super) last_peer: Mutex<Option<(CertificateDer<'static>, Arc<CertFacts>)>>,
    /// The CAs that the server asked for last, where none of them issued our certificate.
    pub(super) wanted: Mutex<Arc<[Vec<u8>]>>,
}

/// Why a policy and a credential make no configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsConfigError {
    /// The server name of the policy cannot be one.
    #[error("the server name \"{name}\" cannot be sent as SNI: {source}")]
    ServerName {
        /// As configured.
        name: String,
        /// The parser's words.
        source: InvalidDnsNameError,
    },
    /// The server name of the policy is the address that means none.
    #[error("\"{0}\" is the address that means none; no server has it")]
    Unspecified(String),
    /// The policy verifies the server, and the credential trusts nobody.
    #[error("there is no CA to verify the server with; name one")]
    NoRoots,
    /// Both the request's host and another name are to be verified, and only one name is known to
    /// the sessions that are resumed.
    #[error(
        "the request's host cannot be verified where the server name is \"{0}\"; leave one out"
    )]
    HostBesideName(String),
    /// The library refuses the combination.
    #[error("TLS cannot be set up: {0}")]
    Library(#[source] rustls::Error),
}

/// The one crypto provider: aws-lc-rs with its default suites, X25519MLKEM768 first among the
/// groups; keys are derived by `hkdf`. It is passed along; no process-wide default is set.
///
/// Random numbers come from the operating system's generator alone, as in ring, BoringSSL and Go:
/// the build sets `AWS_LC_SYS_NO_JITTER_ENTROPY=1` (`.cargo/config.toml`), since the jitter source
/// that aws-lc would add costs 29 ms of CPU before the first handshake.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let make = || Arc::new(with_own_hkdf(rustls::crypto::aws_lc_rs::default_provider()));
    Arc::clone(PROVIDER.get_or_init(make))
}

impl ClientTls {
    /// Builds the configuration. Cheap: roots and lists were parsed with the credential.
    ///
    /// # Errors
    /// See [`TlsConfigError`].
    pub fn new(
        spec: &TlsSpec,
        http: HttpChoice,
        credential: Arc<Credential>,
        on_expired: OnExpired,
    ) -> Result<ClientTls, TlsConfigError> {
        if spec.verify_chain && credential.roots.certificates.is_empty() {
            return Err(TlsConfigError::NoRoots);
        }
        if let (true, Some(name)) = (spec.also_host, &spec.server_name) {
            return Err(TlsConfigError::HostBesideName(name.to_string()));
        }
        let fixed_name = spec.server_name.as_ref().map(as_server_name).transpose()?;
        let expected = spec
            .expected_name
            .as_ref()
            .map(as_server_name)
            .transpose()?;
        let provider = provider();
        let sessions = Arc::new(Sessions::default());
        let verifier = Arc::new(Verifier::new(
            spec,
            expected,
            Arc::clone(&credential),
            provider.signature_verification_algorithms,
            Arc::clone(&sessions),
        ));
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions(spec.min_version))
            .map_err(TlsConfigError::Library)?;
        let mut config = Arc::clone(&verifier)
            .install(builder)
            .with_client_cert_resolver(Arc::new(Resolver::new(&credential)));
        config.alpn_protocols = alpn(spec.alpn, http);
        config.resumption =
            Resumption::store(sessions).tls12_resumption(Tls12Resumption::SessionIdOrTickets);
        Ok(ClientTls {
            spec: spec.clone(),
            http,
            on_expired,
            config: Arc::new(config),
            verifier,
            fixed_name,
            http1_offer: alpn(spec.alpn, HttpChoice::Http1),
            opaque_offer: match spec.alpn {
                AlpnOffer::Http | AlpnOffer::Http2Only => Vec::new(),
                AlpnOffer::Istio => vec![b"istio".to_vec()],
            },
            last_peer: Mutex::new(None),
            wanted: Mutex::new(Arc::new([])),
            credential,
        })
    }

    /// The credential that it was built with.
    pub fn credential(&self) -> &Arc<Credential> {
        &self.credential
    }
}

fn versions(least: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
    const NEW: &[&SupportedProtocolVersion] = &[&version::TLS13];
    match least {
        TlsVersion::Tls12 => BOTH,
        TlsVersion::Tls13 => NEW,
    }
}

fn as_server_name(host: &Host) -> Result<ServerName<'static>, TlsConfigError> {
    let name = host.as_str().to_owned();
    match ServerName::try_from(name.clone()) {
        Ok(parsed) if is_nameless(&parsed) => Err(TlsConfigError::Unspecified(name)),
        Ok(parsed) => Ok(parsed),
        Err(source) => Err(TlsConfigError::ServerName { name, source }),
    }
}

/// What is offered, best first (ISTIO.md T11). `istio-peer-exchange` never is: it obliges to a
/// preamble within the stream.
fn alpn(offer: AlpnOffer, http: HttpChoice) -> Vec<Vec<u8>> {
    let names: &[&str] = match (offer, http) {
        (AlpnOffer::Http, HttpChoice::Auto) => &["h2", "http/1.1"],
        (AlpnOffer::Http, HttpChoice::Http1) => &["http/1.1"],
        (AlpnOffer::Http | AlpnOffer::Http2Only, HttpChoice::Http2) => &["h2"],
        (AlpnOffer::Http2Only, HttpChoice::Auto | HttpChoice::Http1) => &[],
        (AlpnOffer::Istio, HttpChoice::Auto | HttpChoice::Http1) => {
            &["istio-http/1.1", "istio", "http/1.1"]
        }
        (AlpnOffer::Istio, HttpChoice::Http2) => &["istio-h2", "istio", "h2"],
    };
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

/// The place of the trust anchors, for messages.
pub(super) fn ca_name(ca: &CaSource) -> String {
    match ca {
        CaSource::System => "the operating system's CA store".to_owned(),
        CaSource::File(path) => path.display().to_string(),
        CaSource::Secret(secret) => secret.ca_resource().into_owned(),
        CaSource::Nothing => "no CA at all".to_owned(),
    }
}

/// Shows our certificate, and notes that the server asked.
#[derive(Debug)]
struct Resolver {
    certified: Option<Arc<CertifiedKey>>,
    /// The issuers in our chain, as DER names.
    issuers: Vec<Vec<u8>>,
}

impl Resolver {
    fn new(credential: &Credential) -> Self {
        let certified = credential
            .identity
            .as_ref()
            .map(|i| Arc::clone(&i.certified));
        let chain = certified.iter().flat_map(|certified| &certified.cert);
        let issuers = chain
            .filter_map(|der| parse(der).ok().map(|c| c.issuer().as_raw().to_vec()))
            .collect();
        Resolver { certified, issuers }
    }
}

impl ResolvesClientCert for Resolver {
    /// The CAs that the server names are a hint only: as OpenSSL does, what we have is shown.
    fn resolve(&self, wanted: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        /// Names kept for the message.
        const MOST: usize = 8;
        let usable = self
            .certified
            .as_ref()
            .filter(|certified| certified.key.choose_scheme(schemes).is_some());
        let ours = wanted
            .iter()
            .any(|name| self.issuers.iter().any(|issuer| issuer == name));
        notes::write(|notes| {
            notes.asked = true;
            notes.shown = usable.is_some();
            if !ours {
                notes.wanted = wanted.iter().take(MOST).map(|name| name.to_vec()).collect();
            }
        });
        usable.cloned()
    }

    fn has_certs(&self) -> bool {
        self.certified.is_some()
    }
}
