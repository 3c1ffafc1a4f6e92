//! The handshake: which certificate we show, whom we accept, and in words why not.
//!
//! Owns: everything that touches rustls.
//! Never: opens a socket or a file.
//! Called by: upstream (connect), publish and certs (make credentials and configurations).

mod accept;
mod alert;
mod buffers;
mod chain;
mod client_config;
mod connect;
mod credential;
mod explain;
mod explain_accept;
mod explain_certificate;
mod facts;
mod hkdf;
mod known;
mod notes;
mod server_cert;
mod server_config;
mod server_stream;
mod session;
mod sessions;
mod stream;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod testing_client;
mod tickets;
mod trust;
mod verify;
mod verify_client;

pub use accept::{AcceptFacts, Accepted, ClientCertificate, Offered, Rejected};
pub use client_config::{ClientTls, TlsConfigError, provider};
pub use connect::{Alpn, Connected, HandshakeFacts};
pub use credential::{Credential, CredentialError, CredentialParts, Generation, Identity, Roots};
pub use explain::{HandshakeError, HandshakeReason};
pub use explain_accept::AcceptError;
pub use facts::{CertFacts, CertificateError, CrlFacts, San, base64, hex};
pub use server_config::{ServerTls, ServerTlsError};
pub use server_stream::ServerStream;
pub use stream::Stream;
