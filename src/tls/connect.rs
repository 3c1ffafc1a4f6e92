//! The handshake: from an open socket to a TLS stream and what is known of the peer.
//!
//! Owns: [`ClientTls::connect`] and [`HandshakeFacts`].
//! Never: opens a socket or keeps a deadline (the caller does).
//! Called by: `upstream`.

use std::sync::{Arc, PoisonError};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CipherSuite, HandshakeKind, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::client_config::ClientTls;
use super::explain::{self, Cause, HandshakeError};
use super::explain_certificate::wrong_name;
use super::facts::CertFacts;
use super::notes::{Noted, Notes};
use super::sessions::now;
use super::stream::{Stream, Tap};
use crate::model::{HttpChoice, NameCheck, OnExpired, TlsVersion};

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeFacts {
    /// Protocol version.
    pub version: TlsVersion,
    /// IANA name of the cipher suite, such as `TLS_AES_256_GCM_SHA384`.
    pub cipher: &'static str,
    /// Key exchange group, such as `X25519MLKEM768`; none where TLS 1.2 resumed a session.
    pub group: Option<&'static str>,
    /// The protocol chosen.
    pub alpn: Alpn,
    /// True where an earlier session was resumed: no certificates travelled.
    pub resumed: bool,
    /// The SNI that was sent; `None` for an IP address (ISTIO.md T6).
    pub server_name: Option<String>,
    /// The server's certificate; that of the session's first handshake where it was resumed.
    pub peer: Option<Arc<CertFacts>>,
    /// Subject of the certificate that we showed; `None` where the server did not ask for one.
    pub shown: Option<String>,
    /// What is wrong with the server's name, where the policy only warns of it (ISTIO.md T7).
    pub name_warning: Option<String>,
}

impl ClientTls {
    /// Shakes hands over `stream`. `host` is the request's host after rewriting, in normal form,
    /// without port; the policy may name another. The caller puts a deadline around it.
    ///
    /// # Errors
    /// One line in words, and a class; see [`HandshakeError`]. Whatever fails, no byte of a
    /// request has been sent, and the alert that RFC 8446 has for it has gone to the server.
    pub async fn connect<S>(&self, host: &str, stream: S) -> Result<Connected<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let name = self.prepare(host)?;
        let connecting = TlsConnector::from(Arc::clone(&self.config))
            .connect(name.clone(), Tap::new(stream))
            .into_fallible();
        let (result, mut notes) = Noted::new(connecting).await;
        match result {
            Ok(tls) => self.finish(Stream::new(tls), &name, notes),
            Err((error, tap)) => {
                let cause = explain::sort(error, &mut notes, tap.into_head());
                Err(explain::error(self, &name.to_str(), &notes, cause))
            }
        }
    }

    /// All that can fail before the first byte.
    fn prepare(&self, host: &str) -> Result<ServerName<'static>, HandshakeError> {
        let error = |cause| explain::error(self, host, &Notes::default(), cause);
        if self.on_expired == OnExpired::Fail
            && let Some(identity) = &self.credential.identity
        {
            let (until, now) = (identity.leaf.not_after, now());
            if until < now {
                return Err(error(Cause::OwnExpired { until, now }));
            }
        }
        match &self.fixed_name {
            Some(name) => Ok(name.clone()),
            None => ServerName::try_from(host.to_owned()).map_err(|e| error(Cause::ServerName(e))),
        }
    }

    fn finish<S>(
        &self,
        stream: Stream<S>,
        name: &ServerName<'static>,
        notes: Notes,
    ) -> Result<Connected<S>, HandshakeError> {
        let session = stream.session();
        let alpn = match session.alpn_protocol() {
            Some(b"h2") => Alpn::Http2,
            // rustls lets nothing through that was not offered.
            Some(_) => Alpn::Http1,
            None => Alpn::None,
        };
        if self.http == HttpChoice::Http2 && alpn != Alpn::Http2 {
            let cause = Cause::NotHttp2(alpn);
            return Err(explain::error(self, &name.to_str(), &notes, cause));
        }
        let leaf = session.peer_certificates().and_then(<[_]>::first);
        let peer = leaf.and_then(|leaf| self.facts_of(leaf));
        let suite = session.negotiated_cipher_suite();
        let group = session.negotiated_key_exchange_group();
        let identity = self.credential.identity.as_ref().filter(|_| notes.shown);
        let facts = HandshakeFacts {
            version: match session.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => TlsVersion::Tls13,
                _ => TlsVersion::Tls12,
            },
            cipher: suite.map_or("", |suite| iana(suite.suite())),
            group: group.and_then(|group| group.name().as_str()),
            alpn,
            resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
            server_name: match name {
                ServerName::DnsName(name) => Some(name.as_ref().to_owned()),
                _ => None,
            },
            shown: identity.map(|identity| identity.leaf.subject.clone()),
            name_warning: leaf.and_then(|leaf| self.name_warning(leaf, peer.as_deref(), name)),
            peer,
        };
        // In TLS 1.3 the server judges our certificate only now; its wish is kept for that case.
        if notes.asked {
            let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            if **wanted != *notes.wanted {
                *wanted = notes.wanted.into();
            }
        }
        let facts = Arc::new(facts);
        Ok(Connected { stream, facts })
    }

    /// Resumption checks no certificate, so a name that is only warned of is looked at here.
    fn name_warning(
        &self,
        leaf: &CertificateDer<'_>,
        facts: Option<&CertFacts>,
        name: &ServerName<'_>,
    ) -> Option<String> {
        if self.spec.name_check != NameCheck::Warn || !self.spec.verify_chain {
            return None;
        }
        let wrong = self.verifier.wrong_name(leaf, name)?;
        let server = name.to_str();
        Some(format!(
            "server certificate of {server}: {}",
            wrong_name(&wrong, facts)
        ))
    }

    fn facts_of(&self, leaf: &CertificateDer<'static>) -> Option<Arc<CertFacts>> {
        let mut last = self
            .last_peer
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((der, facts)) = last.as_ref()
            && der == leaf
        {
            return Some(Arc::clone(facts));
        }
        let facts = Arc::new(CertFacts::read(leaf).ok()?);
        *last = Some((leaf.clone(), Arc::clone(&facts)));
        Some(facts)
    }
}

/// rustls calls the suites of TLS 1.3 otherwise than IANA does.
fn iana(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str().unwrap_or(""),
    }
}
