//! One TLS server configuration for each entrance and credential generation.
//!
//! Owns: [`ServerTls`]: our certificates, whom of the clients we accept, sessions to be resumed.
//! Never: reads a file.
//! Called by: publish (makes one per entrance), listener (shakes hands with it, see `tls::accept`).
//!
//! Why one object per generation: a session of an old generation cannot be resumed under a new one
//! when the tickets' keys are gone with their owner (ISTIO.md R16).

use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::client_config::provider;
use super::credential::{Credential, Generation};
use crate::model::{ClientCertificates, OnExpired, ServerAlpn, ServerTlsSpec};

/// Everything needed to speak TLS with the clients of one entrance.
pub struct ServerTls {
    pub(super) spec: ServerTlsSpec,
    pub(super) credential: Arc<Credential>,
    pub(super) more: Vec<Arc<Credential>>,
    pub(super) on_expired: OnExpired,
    /// For clients that offer something that we speak by ALPN.
    pub(super) config: Arc<ServerConfig>,
    /// The same without ALPN, for those that do not: their handshake goes on (ISTIO.md P11).
    pub(super) silent: Arc<ServerConfig>,
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
    /// The library refuses the combination.
    #[error("TLS cannot be set up: {0}")]
    Library(#[source] rustls::Error),
    /// Clients cannot be verified.
    #[error("clients cannot be verified: {0}")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
}

impl ServerTls {
    /// Builds the configuration.
    ///
    /// # Errors
    /// See [`ServerTlsError`].
    pub fn new(
        spec: &ServerTlsSpec,
        credential: Arc<Credential>,
        more: Vec<Arc<Credential>>,
        on_expired: OnExpired,
    ) -> Result<ServerTls, ServerTlsError> {
        let identity = credential.identity.as_ref();
        let identity = identity.ok_or(ServerTlsError::NoIdentity)?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(ServerTlsError::Library)?;
        let builder = match spec.clients {
            ClientCertificates::Unasked => builder.with_no_client_auth(),
            ClientCertificates::Optional | ClientCertificates::Required => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(credential.roots.certificates.iter().cloned());
                if roots.is_empty() {
                    return Err(ServerTlsError::NoRoots);
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
                let verifier = match spec.clients {
                    ClientCertificates::Optional => verifier.allow_unauthenticated(),
                    ClientCertificates::Required | ClientCertificates::Unasked => verifier,
                };
                builder
                    .with_client_cert_verifier(verifier.build().map_err(ServerTlsError::Verifier)?)
            }
        };
        let resolver = rustls::sign::SingleCertAndKey::from((*identity.certified).clone());
        let silent = builder.with_cert_resolver(Arc::new(resolver));
        let mut config = silent.clone();
        if spec.alpn == ServerAlpn::Http {
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        }
        Ok(ServerTls {
            spec: spec.clone(),
            credential,
            more,
            on_expired,
            config: Arc::new(config),
            silent: Arc::new(silent),
        })
    }

    /// What it was built from.
    pub fn spec(&self) -> &ServerTlsSpec {
        &self.spec
    }

    /// The generations of its credentials: others make another one.
    pub fn generations(&self) -> impl Iterator<Item = Generation> {
        let all = std::iter::once(&self.credential).chain(&self.more);
        all.map(|credential| credential.generation)
    }
}
