//! One TLS client configuration for each policy and credential generation.
//!
//! Owns: the crypto provider, and [`ClientTls`] with its own session store.
//! Never: reads a file, or decides whether a certificate is good (that is `verify`).
//! Called by: publish (makes one per upstream), upstream (connects with it).
//!
//! Why one object per generation: a ticket of an old identity cannot be resumed by a new one when
//! the store that holds it is gone with its owner (ISTIO.md R16).

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

use super::Credential;
use crate::model::{HttpChoice, OnExpired, TlsSpec};

/// Everything needed to speak TLS to one upstream under one credential generation.
pub struct ClientTls {
    pub(super) spec: TlsSpec,
    pub(super) http: HttpChoice,
    pub(super) credential: Arc<Credential>,
    pub(super) on_expired: OnExpired,
}

/// Why a policy and a credential make no configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsConfigError {
    /// Not one certificate of the bundle can serve as a trust anchor.
    #[error("{0} holds no certificate that can serve as a CA")]
    NoRoots(String),
}

/// The one crypto provider: aws-lc-rs.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

impl ClientTls {
    /// Builds the configuration.
    pub fn new(
        spec: &TlsSpec,
        http: HttpChoice,
        credential: Arc<Credential>,
        on_expired: OnExpired,
    ) -> Result<ClientTls, TlsConfigError> {
        Ok(ClientTls {
            spec: spec.clone(),
            http,
            credential,
            on_expired,
        })
    }

    /// The credential that it was built with.
    pub fn credential(&self) -> &Arc<Credential> {
        &self.credential
    }
}
