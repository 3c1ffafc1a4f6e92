//! The server's side of the handshake: from an accepted socket to plain bytes and what is known of
//! the client.
//!
//! Owns: [`ServerTls::accept`], [`Accepted`], [`AcceptFacts`].
//! Never: keeps the handshake's deadline (the caller does), or chooses the entrance.
//! Called by: `listener::handshake`.

use std::io;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use rustls::pki_types::CertificateDer;
use rustls::server::{Acceptor, ClientHello};
use rustls::{AlertDescription, HandshakeKind, ProtocolVersion, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

use super::connect::{Alpn, iana};
use super::explain::{self, Cause, clean};
use super::explain_accept::{self, AcceptError, Failure};
use super::facts::{CertFacts, sha256};
use super::notes::{Noted, Notes};
use super::server_cert::uri;
use super::server_config::ServerTls;
use super::server_stream::{Rewound, ServerStream};
use crate::model::{Host, TlsVersion};

/// How many of the client's first bytes an explanation may show.
const HEAD: usize = 48;

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
    pub client: Option<Arc<ClientCertificate>>,
}

/// A client's certificate, verified.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// What it says.
    pub facts: CertFacts,
    /// SHA-256 of its DER form.
    pub hash: [u8; 32],
    /// It, and what the client sent behind it, as DER.
    pub chain: Vec<CertificateDer<'static>>,
}

impl ClientCertificate {
    /// Its SPIFFE name: the first URI among its names (ISTIO.md P14).
    pub fn uri(&self) -> Option<&str> {
        self.facts.sans.iter().find_map(uri)
    }
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
        let head = first.slice(..first.len().min(HEAD));
        let shaking = Box::pin(self.shake(offered, Rewound::new(first, stream)));
        let (result, mut notes) = Noted::new(shaking).await;
        match result {
            Ok(tls) => {
                let stream = ServerStream::new(tls);
                let facts = Arc::new(self.facts(&stream, offered, &notes));
                Ok(Accepted { stream, facts })
            }
            Err((refused, socket)) => {
                let failure = match refused {
                    Refused::Before(failure) => failure,
                    Refused::Within(error) => sort(error, &mut notes, head.to_vec()),
                };
                Err(Rejected {
                    error: explain_accept::error(self, &failure),
                    stream: socket.into_inner(),
                })
            }
        }
    }

    async fn shake<S>(
        &self,
        offered: Offered<'_>,
        mut socket: Rewound<S>,
    ) -> Result<TlsStream<Rewound<S>>, (Refused, Rewound<S>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let begun = LazyConfigAcceptor::new(Acceptor::default(), &mut socket).await;
        let accepted = match begun {
            Ok(start) => start.accepted,
            Err(error) => return Err((Refused::Within(error), socket)),
        };
        let config = match self.may_begin(offered, &accepted.client_hello()) {
            Ok(()) => Arc::clone(self.config_for(accepted.client_hello().alpn())),
            Err((failure, alert)) => {
                // Whether or not it arrives, the handshake is over.
                let _ = socket.write_all(&plain_alert(alert)).await;
                return Err((Refused::Before(failure), socket));
            }
        };
        let start = StartHandshake::from_parts(accepted, socket);
        let shaking = start.into_stream(config).into_fallible();
        shaking
            .await
            .map_err(|(error, socket)| (Refused::Within(error), socket))
    }

    /// All that can fail between the ClientHello and our answer, with the alert.
    fn may_begin(
        &self,
        offered: Offered<'_>,
        hello: &ClientHello<'_>,
    ) -> Result<(), (Failure, AlertDescription)> {
        if let Some((until, now)) = self.certificates.ended() {
            let failure = Failure::Common(Cause::OwnExpired { until, now });
            return Err((failure, AlertDescription::InternalError));
        }
        let read = hello.server_name().map(Host::normalise);
        let same = match (&read, offered.server_name) {
            (Some(Ok(read)), Some(chosen)) => **read == *chosen,
            (None, None) => true,
            _ => false,
        };
        if same {
            return Ok(());
        }
        let quoted = |name: Option<&str>| match name {
            Some(name) => format!("\"{}\"", clean(name)),
            None => "none".to_owned(),
        };
        let failure = Failure::OtherName {
            chosen: quoted(offered.server_name),
            read: quoted(hello.server_name()),
        };
        Err((failure, AlertDescription::IllegalParameter))
    }

    /// The variant that answers by ALPN if anything that was offered is spoken here, and else the
    /// one that does not: rustls would end the handshake (ISTIO.md P11). Of Istio's own names none
    /// is answered; a client that offers nothing beside them is told nothing, and what it speaks
    /// shows in its first bytes.
    fn config_for<'a>(
        &self,
        offered: Option<impl Iterator<Item = &'a [u8]>>,
    ) -> &Arc<ServerConfig> {
        let ours = &self.config.alpn_protocols;
        let spoken = |theirs: &[u8]| ours.iter().any(|ours| ours == theirs);
        match offered.into_iter().flatten().any(spoken) {
            true => &self.config,
            false => &self.silent,
        }
    }

    fn facts<S>(
        &self,
        stream: &ServerStream<S>,
        offered: Offered<'_>,
        notes: &Notes,
    ) -> AcceptFacts {
        let session = stream.session();
        let suite = session.negotiated_cipher_suite();
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
            ours: notes
                .ours
                .and_then(|at| self.certificates.uri(at))
                .map(Into::into),
            client: self.client(session.peer_certificates().unwrap_or_default()),
        }
    }

    fn client(&self, chain: &[CertificateDer<'static>]) -> Option<Arc<ClientCertificate>> {
        let leaf = chain.first()?;
        let mut last = self
            .last_client
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = last.as_ref().filter(|last| last.chain == chain) {
            return Some(Arc::clone(last));
        }
        let client = Arc::new(ClientCertificate {
            // The verifier accepts none that cannot be read.
            facts: CertFacts::read(leaf).ok()?,
            hash: sha256(leaf),
            chain: chain.to_vec(),
        });
        *last = Some(Arc::clone(&client));
        Some(client)
    }
}

/// A handshake that is not to be.
enum Refused {
    /// We did not even begin.
    Before(Failure),
    /// rustls says why.
    Within(io::Error),
}

fn sort(error: io::Error, notes: &mut Notes, head: Vec<u8>) -> Failure {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::NoCertificatesPresented) => Failure::NoCertificate,
        _ => Failure::Common(explain::sort(error, notes, head)),
    }
}

/// An alert before anything is encrypted (RFC 8446 sections 5.1 and 6).
fn plain_alert(alert: AlertDescription) -> [u8; 7] {
    const FATAL: u8 = 2;
    [21, 3, 3, 0, 2, FATAL, u8::from(alert)]
}
