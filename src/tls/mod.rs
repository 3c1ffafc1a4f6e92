//! The handshake: which certificate we show, whom we accept, and in words why not.
//!
//! Owns: everything that touches rustls.
//! Never: opens a socket or a file.
//! Called by: upstream (connect), publish and certs (make credentials and configurations).

mod alert;
mod client_config;
mod connect;
mod credential;
mod explain;
mod explain_certificate;
mod facts;
mod notes;
mod sessions;
mod stream;
#[cfg(test)]
mod testing;
mod trust;
mod verify;

pub use client_config::{ClientTls, TlsConfigError, provider};
pub use connect::{Alpn, Connected, HandshakeFacts};
pub use credential::{Credential, CredentialError, CredentialParts, Generation, Identity, Roots};
pub use explain::{HandshakeError, HandshakeReason};
pub use facts::{CertFacts, CertificateError, CrlFacts, San};
pub use stream::Stream;
