//! The handshake: from an open socket to a TLS stream and what is known of the peer.
//!
//! Owns: [`ClientTls::connect`] and [`HandshakeFacts`].
//! Never: opens a socket or keeps a deadline (the caller does).
//! Called by: `upstream`.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::client_config::ClientTls;
use super::explain::{HandshakeError, HandshakeReason};
use super::stream::Stream;
use super::{CertFacts, Credential};
use crate::model::TlsVersion;

/// An open TLS connection and what its handshake showed.
pub struct Connected<S> {
    /// Plain bytes in, plain bytes out.
    pub stream: Stream<S>,
    /// What was agreed.
    pub facts: Arc<HandshakeFacts>,
}

/// The protocol that ALPN chose (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// The server ignored the offer: HTTP/1.1.
    None,
    /// `http/1.1`.
    Http1,
    /// `h2`.
    Http2,
}

/// What a finished handshake agreed on.
#[derive(Clone, Debug)]
pub struct HandshakeFacts {
    /// Protocol version.
    pub version: TlsVersion,
    /// IANA name of the cipher suite, such as `TLS13_AES_256_GCM_SHA384`.
    pub cipher: &'static str,
    /// Key exchange group, such as `X25519MLKEM768`.
    pub group: Option<&'static str>,
    /// The protocol chosen.
    pub alpn: Alpn,
    /// True where an earlier session was resumed: no certificates travelled.
    pub resumed: bool,
    /// The SNI that was sent; `None` for an IP address (ISTIO.md T6).
    pub server_name: Option<String>,
    /// The server's certificate; of the session's first handshake where it was resumed.
    pub peer: Option<Arc<CertFacts>>,
    /// Subject of our certificate; `None` where the server did not ask for one.
    pub shown: Option<String>,
    /// What is wrong with the server's name, where the policy only warns of it (ISTIO.md T7).
    pub name_warning: Option<String>,
}

impl ClientTls {
    /// Shakes hands over `stream`. `host` is the request's host after rewriting, in normal form,
    /// without port; the policy may name another. The caller puts a deadline around it.
    ///
    /// # Errors
    /// See [`HandshakeReason`].
    pub async fn connect<S>(&self, _host: &str, _stream: S) -> Result<Connected<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        Err(HandshakeError {
            reason: HandshakeReason::Closed,
        })
    }

    /// A failure that came after our side of the handshake was done, in words, where it is the
    /// server's refusal of our certificate (TLS 1.3; ISTIO.md 5.6). Walks the sources of `error`.
    pub fn explain_late(&self, _error: &(dyn std::error::Error + 'static)) -> Option<String> {
        let _: &Arc<Credential> = self.credential();
        None
    }
}
