//! The server's side of the handshake: from an accepted socket to plain bytes and what is known of
//! the client.
//!
//! Owns: [`ServerTls::accept`], [`Accepted`], [`AcceptFacts`], [`AcceptError`].
//! Never: keeps a deadline (the caller does), or chooses the entrance.
//! Called by: `listener::handshake`.

use std::sync::Arc;

use bytes::Bytes;
use rustls::{HandshakeKind, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use super::connect::{Alpn, iana};
use super::facts::{CertFacts, San};
use super::server_config::ServerTls;
use super::server_stream::{Rewound, ServerStream};
use crate::model::TlsVersion;

/// What a ClientHello says, as far as the configuration depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Offered<'a> {
    /// SNI in normal form, if there is one.
    pub server_name: Option<&'a str>,
    /// The protocols offered by ALPN, each behind its length (RFC 7301 section 3.1).
    pub alpn: &'a [u8],
}

/// An open TLS connection with a client.
pub struct Accepted<S> {
    /// Plain bytes in, plain bytes out.
    pub stream: ServerStream<S>,
    /// What was agreed.
    pub facts: Arc<AcceptFacts>,
}

/// What a finished handshake with a client agreed on.
#[derive(Clone, Debug)]
pub struct AcceptFacts {
    /// Protocol version.
    pub version: TlsVersion,
    /// IANA name of the cipher suite.
    pub cipher: &'static str,
    /// The protocol chosen.
    pub alpn: Alpn,
    /// An earlier session was resumed.
    pub resumed: bool,
    /// The SNI that came, in normal form.
    pub server_name: Option<Box<str>>,
    /// The first URI among the names of our certificate (`By`, ISTIO.md P15).
    pub ours: Option<Box<str>>,
    /// The client's certificate, verified; `None` where it showed none.
    pub client: Option<ClientCertificate>,
}

/// A client's certificate, verified.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// What it says.
    pub facts: CertFacts,
    /// SHA-256 of its DER form.
    pub hash: [u8; 32],
    /// It, and what the client sent behind it, as DER.
    pub chain: Vec<rustls::pki_types::CertificateDer<'static>>,
}

impl ClientCertificate {
    /// Its SPIFFE name: the first URI among its names (ISTIO.md P14).
    pub fn uri(&self) -> Option<&str> {
        self.facts.sans.iter().find_map(uri)
    }
}

fn uri(san: &San) -> Option<&str> {
    match san {
        San::Uri(uri) => Some(uri),
        San::Dns(_) | San::Ip(_) | San::Email(_) => None,
    }
}

/// A handshake with a client that failed. `Display` is one line in words, without its address.
#[derive(Debug, thiserror::Error)]
#[error("{words}")]
pub struct AcceptError {
    /// A word for metrics; part of their public contract.
    pub label: &'static str,
    words: String,
}

/// A client that was not let in, with its socket.
pub struct Rejected<S> {
    /// Why.
    pub error: AcceptError,
    /// The alert has been written to it.
    pub stream: S,
}

impl ServerTls {
    /// Shakes hands. `first`: what was read of the client already, its whole ClientHello at least.
    ///
    /// # Errors
    /// One line in words, and a label; the alert that RFC 8446 has for it has gone to the client,
    /// and the socket is given back, so that closing it does not overtake the alert.
    pub async fn accept<S>(
        &self,
        offered: Offered<'_>,
        first: Bytes,
        stream: S,
    ) -> Result<Accepted<S>, Rejected<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let known = |ours: &Vec<u8>| names(offered.alpn).any(|theirs| theirs == ours.as_slice());
        let config = match self.config.alpn_protocols.iter().any(known) {
            true => &self.config,
            false => &self.silent,
        };
        let acceptor = TlsAcceptor::from(Arc::clone(config));
        let tls = acceptor.accept(Rewound::new(first, stream));
        let tls = tls.into_fallible().await.map_err(|(error, stream)| {
            let error = AcceptError {
                label: "handshake",
                words: error.to_string(),
            };
            let stream = stream.into_inner();
            Rejected { error, stream }
        })?;
        let stream = ServerStream::new(tls);
        let facts = Arc::new(self.facts(&stream, offered));
        Ok(Accepted { stream, facts })
    }

    fn facts<S>(&self, stream: &ServerStream<S>, offered: Offered<'_>) -> AcceptFacts {
        let session = stream.session();
        let suite = session.negotiated_cipher_suite();
        let chain = session.peer_certificates().unwrap_or_default();
        let client = chain.first().and_then(|leaf| {
            Some(ClientCertificate {
                facts: CertFacts::read(leaf).ok()?,
                hash: sha256(leaf),
                chain: chain.to_vec(),
            })
        });
        let identity = self.credential.identity.as_ref();
        AcceptFacts {
            version: match session.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => TlsVersion::Tls13,
                _ => TlsVersion::Tls12,
            },
            cipher: suite.map_or("", |suite| iana(suite.suite())),
            alpn: match session.alpn_protocol() {
                Some(b"h2") => Alpn::Http2,
                Some(_) => Alpn::Http1,
                None => Alpn::None,
            },
            resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
            server_name: offered.server_name.map(Into::into),
            ours: identity
                .and_then(|identity| identity.leaf.sans.iter().find_map(uri))
                .map(Into::into),
            client,
        }
    }
}

/// The names of an ALPN offer.
pub(super) fn names(mut offer: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = offer.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(*length))?;
        offer = rest;
        Some(name)
    })
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut hash = [0; 32];
    hash.iter_mut()
        .zip(digest.as_ref())
        .for_each(|(to, from)| *to = *from);
    hash
}
