//! The handshake: which certificate we show, whom we accept, and in words why not.
//!
//! Owns: everything that touches rustls.
//! Never: opens a socket or a file.
//! Called by: upstream (connect), publish and certs (make credentials and configurations).

mod credential;
mod facts;

pub use credential::{Credential, CredentialError, CredentialParts, Generation, Identity, Roots};
pub use facts::{CertFacts, CertificateError, San};
