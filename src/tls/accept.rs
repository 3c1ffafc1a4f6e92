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
use super::explain::{self, Cause, HandshakeReason, clean};
use super::explain_accept::{self, AcceptError, Failure};
use super::facts::{CertFacts, sha256};
use super::notes::{Noted, Notes};
use super::server_cert::uri;
use super::server_config::ServerTls;
use super::server_stream::{Rewound, ServerStream};
use crate::model::{ClientCertificates, Host, TlsVersion};

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
    /// The subject of our certificate, RFC 4514 text.
    pub our_subject: Box<str>,
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
        self.accepted(Some(offered), first, stream).await
    }

    /// The same where nothing was chosen by what the client asks for, and nothing read of it.
    ///
    /// # Errors
    /// As [`ServerTls::accept`].
    pub async fn accept_any<S>(&self, stream: S) -> Result<Accepted<S>, Rejected<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        self.accepted(None, Bytes::new(), stream).await
    }

    async fn accepted<S>(
        &self,
        offered: Option<Offered<'_>>,
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
        offered: Option<Offered<'_>>,
        mut socket: Rewound<S>,
    ) -> Result<TlsStream<Rewound<S>>, (Refused, Rewound<S>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let begun = LazyConfigAcceptor::new(Acceptor::default(), &mut socket).await;
        let accepted = match begun {
            Ok(start) => start.accepted,
            Err(error) => {
                // rustls has no alert for what is not even a record of TLS.
                if error.kind() == io::ErrorKind::InvalidData && !socket.wrote() {
                    let alert = plain_alert(AlertDescription::DecodeError);
                    let _ = socket.write_all(&alert).await;
                }
                return Err((Refused::Within(error), socket));
            }
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
        offered: Option<Offered<'_>>,
        hello: &ClientHello<'_>,
    ) -> Result<(), (Failure, AlertDescription)> {
        if let Some((until, now)) = self.certificates.ended() {
            let failure = Failure::Common(Cause::OwnExpired { until, now });
            return Err((failure, AlertDescription::InternalError));
        }
        match offered.and_then(|offered| two_readings(offered, hello)) {
            Some(failure) => Err((failure, AlertDescription::IllegalParameter)),
            None => Ok(()),
        }
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
        offered: Option<Offered<'_>>,
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
            server_name: match offered {
                Some(offered) => offered.server_name.map(Into::into),
                None => session.server_name().map(Into::into),
            },
            ours: notes
                .ours
                .and_then(|at| self.certificates.uri(at))
                .map(Into::into),
            our_subject: notes
                .ours
                .and_then(|at| self.certificates.subject(at))
                .unwrap_or_default()
                .into(),
            client: self.client(session.peer_certificates().unwrap_or_default()),
        }
    }

    fn client(&self, chain: &[CertificateDer<'static>]) -> Option<Arc<ClientCertificate>> {
        let leaf = chain.first()?;
        let last = || {
            let last = self.last_client.lock();
            last.unwrap_or_else(PoisonError::into_inner)
        };
        // The lock is not held while anything is read: other cores shake hands too.
        let known = last().clone();
        if let Some(known) = known.filter(|known| known.chain == chain) {
            return Some(known);
        }
        let client = Arc::new(ClientCertificate {
            // The verifier accepts none that cannot be read.
            facts: CertFacts::read(leaf).ok()?,
            hash: sha256(leaf),
            chain: chain.to_vec(),
        });
        *last() = Some(Arc::clone(&client));
        Some(client)
    }

    /// Whether a client that came in by another configuration would come in by this one.
    pub fn would_admit(&self, facts: &AcceptFacts) -> bool {
        let shown = facts.client.as_ref().map(|client| client.chain.as_slice());
        match (&self.verifier, shown.and_then(<[_]>::split_first)) {
            (None, _) => true,
            (Some(verifier), Some((leaf, sent))) => verifier.accepts(leaf, sent),
            (Some(_), None) => self.spec.clients != ClientCertificates::Required,
        }
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

/// What rustls reads in the ClientHello otherwise than whoever chose the entrance by it. Both read
/// the same bytes, so an honest client never comes here.
fn two_readings(offered: Offered<'_>, hello: &ClientHello<'_>) -> Option<Failure> {
    let read = hello.server_name().map(Host::normalise);
    let same = match (&read, offered.server_name) {
        (Some(Ok(read)), Some(chosen)) => **read == *chosen,
        (None, None) => true,
        _ => false,
    };
    if !same {
        let quoted = |name: Option<&str>| match name {
            Some(name) => format!("\"{}\"", clean(name)),
            None => "none".to_owned(),
        };
        return Some(Failure::TwoReadings {
            reason: HandshakeReason::ServerName,
            what: "the server name",
            chosen: quoted(offered.server_name),
            read: quoted(hello.server_name()),
        });
    }
    let read = || hello.alpn().into_iter().flatten();
    if names(offered.alpn).eq(read()) {
        return None;
    }
    let listed = |name: &[u8]| name.escape_ascii().to_string();
    Some(Failure::TwoReadings {
        reason: HandshakeReason::Protocol,
        what: "the protocols",
        chosen: names(offered.alpn)
            .map(listed)
            .collect::<Vec<_>>()
            .join(", "),
        read: read().map(listed).collect::<Vec<_>>().join(", "),
    })
}

/// The names of an ALPN offer.
fn names(mut offer: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = offer.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(*length))?;
        offer = rest;
        Some(name)
    })
}

/// An alert before anything is encrypted (RFC 8446 sections 5.1 and 6).
fn plain_alert(alert: AlertDescription) -> [u8; 7] {
    const FATAL: u8 = 2;
    [21, 3, 3, 0, 2, FATAL, u8::from(alert)]
}

#[cfg(test)]
mod tests {
    use rustls::version::{TLS12, TLS13};
    use std::pin::Pin;
    use std::task::{Context, Poll, ready};
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, DuplexStream, ReadBuf};

    use super::super::ServerTls;
    use super::super::sessions::{now, tests::LATER};
    use super::super::testing::*;
    use super::super::testing_client::*;
    use super::*;
    use crate::certs::tests::pem;
    use crate::model::{ClientCertificates, OnExpired, ServerAlpn, ServerTlsSpec};

    /// An entrance that asks for certificates of `ca`, and shows one of it.
    fn asking(ca: &Ca, clients: ClientCertificates) -> ServerTls {
        entrance(&server_spec(clients), &ca.leaf(HOST), ca)
    }

    fn open() -> (Ca, ServerTls) {
        let ca = Ca::new("CA");
        let tls = asking(&ca, ClientCertificates::Unasked);
        (ca, tls)
    }

    fn workload(ca: &Ca, name: &str) -> Leaf {
        let uri = format!("spiffe://cluster.local/ns/shop/sa/{name}");
        ca.leaf_with(HOST, |params| {
            let uri = rcgen::SanType::URI(uri.as_str().try_into().unwrap());
            params.subject_alt_names.push(uri);
        })
    }

    #[tokio::test]
    async fn a_handshake_with_both_certificates_tells_what_was_agreed() {
        let ca = Ca::new("CA");
        let spec = server_spec(ClientCertificates::Required);
        let tls = entrance(&spec, &workload(&ca, "bank"), &ca);
        let theirs = workload(&ca, "shop").followed_by(&ca);
        for (version, expected, cipher) in [
            (
                &TLS12,
                TlsVersion::Tls12,
                "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            ),
            (&TLS13, TlsVersion::Tls13, "TLS_AES_256_GCM_SHA384"),
        ] {
            let client = Client::with(&ca, Some(&theirs), &[version]);
            let facts = client.meet(&tls).await.facts();
            assert_eq!((facts.version, facts.cipher), (expected, cipher));
            assert_eq!(facts.alpn, Alpn::None);
            assert!(!facts.resumed);
            assert_eq!(facts.server_name.as_deref(), Some(HOST));
            assert_eq!(
                facts.ours.as_deref(),
                Some("spiffe://cluster.local/ns/shop/sa/bank")
            );
            let shown = facts.client.as_ref().unwrap();
            assert_eq!(shown.uri(), Some("spiffe://cluster.local/ns/shop/sa/shop"));
            assert_eq!(shown.facts.subject, "CN=bank.example");
            assert_eq!(shown.hash, sha256(&theirs.chain[0]));
            assert_eq!(shown.chain, theirs.chain);
        }
    }

    #[tokio::test]
    async fn the_facts_of_two_clients_in_turn_do_not_mix() {
        let ca = Ca::new("CA");
        let tls = asking(&ca, ClientCertificates::Optional);
        let clients = ["a", "b"].map(|name| Client::new(&ca, Some(&workload(&ca, name))));
        for (at, name) in [(0, "a"), (1, "b"), (0, "a")] {
            let facts = clients[at].meet(&tls).await.facts();
            let uri = facts.client.as_ref().unwrap().uri().unwrap();
            assert!(uri.ends_with(&format!("/sa/{name}")), "{uri}");
        }
        assert!(
            Client::new(&ca, None)
                .meet(&tls)
                .await
                .facts()
                .client
                .is_none()
        );
    }

    #[tokio::test]
    async fn g4_a_client_is_asked_as_the_policy_says() {
        let (ca, other) = (Ca::new("CA"), Ca::new("Other CA"));
        let (good, bad) = (ca.leaf("shop.example"), other.leaf("shop.example"));
        for (clients, shown, verified) in [
            (ClientCertificates::Unasked, Some(&bad), Some(false)),
            (ClientCertificates::Unasked, None, Some(false)),
            (ClientCertificates::Optional, Some(&good), Some(true)),
            (ClientCertificates::Optional, None, Some(false)),
            (ClientCertificates::Optional, Some(&bad), None),
            (ClientCertificates::Required, Some(&good), Some(true)),
            (ClientCertificates::Required, None, None),
            (ClientCertificates::Required, Some(&bad), None),
        ] {
            let tls = asking(&ca, clients);
            for version in [&TLS12, &TLS13] {
                let met = Client::with(&ca, shown, &[version]).meet(&tls).await;
                let found = met.server.ok().map(|facts| facts.client.is_some());
                assert_eq!(found, verified, "{clients:?} {}", shown.is_some());
            }
        }
    }

    #[tokio::test]
    async fn p11_what_is_offered_and_not_spoken_is_left_unanswered_and_the_handshake_goes_on() {
        let (ca, tls) = open();
        let mut opaque = server_spec(ClientCertificates::Unasked);
        opaque.alpn = ServerAlpn::None;
        let opaque = entrance(&opaque, &ca.leaf(HOST), &ca);
        for (offered, chosen) in [
            (&["h2", "http/1.1"][..], Some("h2")),
            (&["http/1.1", "h2"], Some("h2")),
            (&["http/1.1"], Some("http/1.1")),
            (&["istio-http/1.1", "istio", "http/1.1"], Some("http/1.1")),
            (&["istio-h2", "istio", "h2"], Some("h2")),
            (&["istio-peer-exchange", "istio", "h2"], Some("h2")),
            (&["istio-peer-exchange", "istio"], None),
            (&["istio-h2", "istio"], None),
            (&["istio-http/1.0", "istio", "http/1.0"], None),
            (&["spdy/3"], None),
            (&[], None),
        ] {
            for version in [&TLS12, &TLS13] {
                let client = Client::with(&ca, None, &[version]).offering(offered);
                let met = client.meet(&tls).await;
                let answered = met.client.as_ref().unwrap().as_deref();
                assert_eq!(answered, chosen.map(str::as_bytes), "{offered:?}");
                let expected = match chosen {
                    Some("h2") => Alpn::Http2,
                    Some(_) => Alpn::Http1,
                    None => Alpn::None,
                };
                assert_eq!(met.facts().alpn, expected);
                let met = client.meet(&opaque).await;
                assert_eq!(met.client.as_ref().unwrap(), &None);
                assert_eq!(met.facts().alpn, Alpn::None);
            }
        }
    }

    #[tokio::test]
    async fn r16_a_session_is_resumed_with_the_clients_certificate() {
        let ca = Ca::new("CA");
        let tls = asking(&ca, ClientCertificates::Required);
        let theirs = workload(&ca, "shop");
        for version in [&TLS12, &TLS13] {
            let client = Client::with(&ca, Some(&theirs), &[version]);
            for resumed in [false, true, true] {
                let facts = client.meet(&tls).await.facts();
                assert_eq!(facts.resumed, resumed, "{version:?}");
                assert_eq!(facts.client.as_ref().unwrap().chain, theirs.chain);
            }
            // The variant that answers by ALPN shares the sessions.
            let facts = client.offering(&["h2"]).meet(&tls).await.facts();
            assert_eq!((facts.resumed, facts.alpn), (true, Alpn::Http2));
        }
    }

    #[tokio::test]
    async fn r16_a_session_of_another_generation_or_entrance_or_name_is_not_resumed() {
        let ca = Ca::new("CA");
        let spec = server_spec(ClientCertificates::Required);
        let leaf = ca.leaf_with(HOST, |params| {
            let name = rcgen::SanType::DnsName("other.example".try_into().unwrap());
            params.subject_alt_names.push(name);
        });
        // The very same policy and certificate: what differs is the object.
        let (tls, another) = (entrance(&spec, &leaf, &ca), entrance(&spec, &leaf, &ca));
        for version in [&TLS12, &TLS13] {
            let client = Client::with(&ca, Some(&ca.leaf("shop.example")), &[version]);
            let client = client.mixing_names();
            assert!(!client.meet(&tls).await.facts().resumed);
            assert!(!client.meet(&another).await.facts().resumed);
            assert!(client.meet(&another).await.facts().resumed);
            let other = client.clone().asking_for("other.example");
            assert!(!other.meet(&another).await.facts().resumed);
            assert!(other.meet(&another).await.facts().resumed);
        }
    }

    #[tokio::test]
    async fn r16_a_session_ends_with_the_clients_certificate() {
        let ca = Ca::new("CA");
        let tls = asking(&ca, ClientCertificates::Required);
        let end = u64::try_from(now() + 3600).unwrap();
        let end = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(end);
        let theirs = ca.leaf_with("shop.example", |params| params.not_after = end);
        for version in [&TLS12, &TLS13] {
            let client = Client::with(&ca, Some(&theirs), &[version]);
            client.meet(&tls).await.facts();
            assert!(client.meet(&tls).await.facts().resumed);
            LATER.set(3601);
            // rustls' own clock has not moved, so the certificate itself is good.
            assert!(!client.meet(&tls).await.facts().resumed, "{version:?}");
            LATER.set(0);
        }
    }

    #[tokio::test]
    async fn r17_our_certificate_is_not_shown_once_it_has_ended_unless_asked_for() {
        let ca = Ca::new("CA");
        let old = ca.leaf_with(HOST, |params| {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        });
        let spec = server_spec(ClientCertificates::Unasked);
        let made = |leaves: &[&Leaf], on_expired| {
            let mut all = leaves
                .iter()
                .map(|leaf| credential(Some(leaf), &[&ca.der], &[]));
            let first = all.next().unwrap();
            ServerTls::new(&spec, first, all.collect(), on_expired).unwrap()
        };
        let client = Client::new(&ca, None);
        let (words, label, alert) = client.meet(&made(&[&old], OnExpired::Fail)).await.refusal();
        assert!(
            words.starts_with(
                "our server certificate (\"CN=bank.example\", /etc/server.pem) expired at \
                 2020-01-01T00:00:00Z, and it is 2"
            ),
            "{words}"
        );
        assert_eq!((label, alert.as_str()), ("own_expired", "internal_error"));
        // It is looked at by handshake.
        let tls = asking(&ca, ClientCertificates::Unasked);
        assert!(client.meet(&tls).await.server.is_ok());
        LATER.set(4000 * 366 * 86400);
        assert!(client.meet(&tls).await.server.is_err());
        LATER.set(0);
        // One that is still good is shown in its place.
        let tls = made(&[&old, &ca.leaf(HOST)], OnExpired::Fail);
        client.meet(&tls).await.facts();
        let (words, label, _) = client.meet(&made(&[&old], OnExpired::Use)).await.refusal();
        assert_eq!(label, "refused_by_peer", "{words}");
        assert!(
            words.starts_with(
                "the client refused our certificate (\"CN=bank.example\", /etc/server.pem): alert \
                 certificate_expired"
            ),
            "{words}"
        );
    }

    /// A client that verifies signatures of RSA alone.
    fn rsa_only() -> Arc<rustls::crypto::CryptoProvider> {
        let mut provider = (*super::super::provider()).clone();
        let all = provider.signature_verification_algorithms;
        let rsa = all.mapping.iter().copied();
        let rsa = rsa.filter(|(scheme, _)| format!("{scheme:?}").starts_with("RSA"));
        provider.signature_verification_algorithms.mapping = rsa.collect::<Vec<_>>().leak();
        Arc::new(provider)
    }

    #[tokio::test]
    async fn a_client_gets_the_certificate_whose_kind_it_can_use() {
        let ca = Ca::new("CA");
        let spec = server_spec(ClientCertificates::Unasked);
        let kinds = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_RSA_SHA256];
        let [ec, rsa] = kinds.map(|kind| ca.leaf_of(kind, HOST));
        let [ec, rsa] = [ec, rsa].map(|leaf| credential(Some(&leaf), &[&ca.der], &[]));
        let both = ServerTls::new(&spec, Arc::clone(&ec), vec![rsa], OnExpired::Fail).unwrap();
        let single = ServerTls::new(&spec, ec, Vec::new(), OnExpired::Fail).unwrap();
        for version in [&TLS12, &TLS13] {
            let old = Client::on(rsa_only(), &ca, None, &[version]);
            old.meet(&both).await.facts();
            let new = Client::with(&ca, None, &[version]);
            let facts = new.meet(&both).await.facts();
            assert!(version != &TLS12 || facts.cipher.contains("ECDHE_ECDSA"));
            let (words, label, alert) = old.meet(&single).await.refusal();
            assert_eq!(
                (label, alert.as_str()),
                ("incompatible", "handshake_failure")
            );
            assert!(words.contains("(ECDSA)"), "{words}");
        }
    }

    #[tokio::test]
    async fn a_client_that_does_not_trust_our_ca_is_told_of_as_that() {
        let (_, tls) = open();
        let (words, label, _) = {
            let met = Client::new(&Ca::new("Other CA"), None).meet(&tls).await;
            let error = met.server.err().unwrap();
            (error.to_string(), error.label, met.client.is_err())
        };
        assert_eq!(label, "refused_by_peer");
        assert_eq!(
            words,
            "the client refused our certificate (\"CN=bank.example\", /etc/server.pem): alert \
             unknown_ca: it does not trust the CA that signed it (\"CN=CA\"); give the client that \
             CA (curl --cacert), or put what is missing between the two behind our certificate"
        );
    }

    #[tokio::test]
    async fn versions_that_do_not_meet_are_told_with_what_to_do() {
        use TlsVersion::{Tls12, Tls13};
        let ca = Ca::new("CA");
        for (min, max, version, end) in [
            (
                Tls13,
                Tls13,
                &TLS12,
                "and the client speaks 1.2 at most; lower its least version",
            ),
            (
                Tls12,
                Tls12,
                &TLS13,
                "and the client demands 1.3; raise its greatest version",
            ),
        ] {
            let mut spec = server_spec(ClientCertificates::Unasked);
            (spec.min_version, spec.max_version) = (min, max);
            let tls = entrance(&spec, &ca.leaf(HOST), &ca);
            let (words, label, alert) = Client::with(&ca, None, &[version])
                .meet(&tls)
                .await
                .refusal();
            assert_eq!(
                (label, alert.as_str()),
                ("incompatible", "protocol_version")
            );
            assert!(words.ends_with(end), "{words}");
            assert!(Client::new(&ca, None).meet(&tls).await.server.is_ok());
        }
        let mut spec = server_spec(ClientCertificates::Unasked);
        (spec.min_version, spec.max_version) = (Tls13, Tls12);
        let words = refused(&spec, &ca);
        assert_eq!(
            words,
            "no version of TLS is left: the least is 1.3 and the greatest is 1.2"
        );
    }

    /// Why there is no entrance of this policy.
    fn refused(spec: &ServerTlsSpec, ca: &Ca) -> String {
        let credential = credential(Some(&ca.leaf(HOST)), &[&ca.der], &[]);
        let made = ServerTls::new(spec, credential, Vec::new(), OnExpired::Fail);
        made.err().unwrap().to_string()
    }

    #[tokio::test]
    async fn x10_only_the_suites_that_are_named_are_spoken() {
        let ca = Ca::new("CA");
        let mut spec = server_spec(ClientCertificates::Unasked);
        let named = |names: &[&str]| names.iter().map(|&name| name.into()).collect();
        spec.cipher_suites = named(&[
            "AES128-SHA",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        ]);
        let tls = entrance(&spec, &ca.leaf(HOST), &ca);
        let old = Client::with(&ca, None, &[&TLS12]);
        let expected = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256";
        assert_eq!(old.meet(&tls).await.facts().cipher, expected);
        let new = Client::with(&ca, None, &[&TLS13]);
        assert_eq!(
            new.meet(&tls).await.facts().cipher,
            "TLS_AES_256_GCM_SHA384"
        );
        spec.cipher_suites = named(&["ECDHE-RSA-AES128-GCM-SHA256"]);
        let (words, label, alert) = old
            .meet(&entrance(&spec, &ca.leaf(HOST), &ca))
            .await
            .refusal();
        assert_eq!(
            (label, alert.as_str()),
            ("incompatible", "handshake_failure")
        );
        assert!(
            words.contains("no cipher suite among those that this entrance names"),
            "{words}"
        );
        spec.cipher_suites = named(&["AES128-SHA", "DES-CBC3-SHA"]);
        assert_eq!(
            refused(&spec, &ca),
            "no cipher suite of TLS 1.2 is left, as none of AES128-SHA, DES-CBC3-SHA is known; \
             name one that is, or demand TLS 1.3"
        );
    }

    #[test]
    fn nobody_to_trust_is_told_before_the_first_client_comes() {
        let ca = Ca::new("CA");
        let parts = |identity: Option<&Leaf>| crate::tls::CredentialParts {
            name: "none".to_owned(),
            identity: identity.map(|leaf| (leaf.chain.clone(), leaf.key())),
            roots: None,
            crls: Vec::new(),
            generation: crate::tls::Generation([0; 32]),
            uses: crate::model::Uses::SERVER,
        };
        let made = |clients, identity: Option<&Leaf>| {
            let credential = crate::tls::Credential::new(parts(identity)).unwrap();
            let spec = server_spec(clients);
            let made = ServerTls::new(&spec, Arc::new(credential), Vec::new(), OnExpired::Fail);
            made.err().map(|error| error.to_string())
        };
        let leaf = ca.leaf(HOST);
        assert_eq!(made(ClientCertificates::Unasked, Some(&leaf)), None);
        for clients in [ClientCertificates::Optional, ClientCertificates::Required] {
            let words = made(clients, Some(&leaf)).unwrap();
            assert_eq!(words, "there is no CA to verify clients with; name one");
        }
        let words = made(ClientCertificates::Unasked, None).unwrap();
        assert_eq!(
            words,
            "there is no certificate to show to clients; name one"
        );
    }

    /// Accepts whoever is at the other end of the pipe.
    async fn accept<S: AsyncRead + AsyncWrite + Unpin + Send>(
        tls: &ServerTls,
        server_name: Option<&str>,
        first: &[u8],
        far: S,
    ) -> Result<Accepted<S>, Rejected<S>> {
        let offered = Offered {
            server_name,
            alpn: &[],
        };
        tls.accept(offered, Bytes::copy_from_slice(first), far)
            .await
    }

    #[tokio::test]
    async fn a_hello_that_can_be_read_in_two_ways_is_refused() {
        let (ca, tls) = open();
        for (chosen, quoted) in [(Some("other.example"), "\"other.example\""), (None, "none")] {
            let (near, far) = tokio::io::duplex(64 * 1024);
            let client = Client::new(&ca, None).config;
            let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
            let name = rustls::pki_types::ServerName::try_from(HOST).unwrap();
            let (client, ours) = tokio::join!(
                connector.connect(name, near),
                accept(&tls, chosen, b"", far)
            );
            let error = ours.err().unwrap().error;
            assert_eq!(error.label, "server_name");
            assert_eq!(
                error.to_string(),
                format!(
                    "its ClientHello can be read in two ways: the entrance was chosen for the \
                     server name {quoted}, and the handshake would be for \"bank.example\""
                )
            );
            let alert = super::super::alert::alert_in(&client.err().unwrap());
            assert_eq!(alert, Some(AlertDescription::IllegalParameter));
        }
        let (near, far) = tokio::io::duplex(64 * 1024);
        let client = Client::new(&ca, None).offering(&["h2"]).config;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
        let name = rustls::pki_types::ServerName::try_from(HOST).unwrap();
        let offered = Offered {
            server_name: Some(HOST),
            alpn: b"\x05istio\x02h2",
        };
        let accepting = tls.accept(offered, Bytes::new(), far);
        let (_, ours) = tokio::join!(connector.connect(name, near), accepting);
        let error = ours.err().unwrap().error;
        assert_eq!(error.label, "protocol");
        assert!(
            error
                .to_string()
                .ends_with("chosen for the protocols istio, h2, and the handshake would be for h2"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn what_is_no_tls_is_told_as_that_and_answered_with_an_alert() {
        let (_, tls) = open();
        for (sent, label, words) in [
            (
                &b"GET / HTTP/1.1\r\n\r\n"[..],
                "not_tls",
                "the client does not speak TLS: it sent \"GET / HTTP/1.1\\r\\n\\r\\n\"",
            ),
            (
                &[22, 3, 1, 0, 4, 9, 9, 9, 9],
                "protocol",
                "the client broke the rules of TLS: ",
            ),
            (
                &[22, 3, 1, 0x40],
                "closed",
                "the client closed the connection in the middle of the handshake; it may not \
                 accept our certificate (\"CN=bank.example\", /etc/server.pem)",
            ),
        ] {
            let (mut near, far) = tokio::io::duplex(64 * 1024);
            near.shutdown().await.unwrap();
            let rejected = accept(&tls, None, sent, far).await.err().unwrap();
            assert_eq!(rejected.error.label, label);
            let text = rejected.error.to_string();
            assert!(text.starts_with(words), "{text}");
            drop(rejected.stream);
            let mut answer = Vec::new();
            near.read_to_end(&mut answer).await.unwrap();
            // An alert record, fatal.
            let told = matches!(answer[..], [21, 3, _, 0, 2, 2, _]);
            assert_eq!(told, label != "closed", "{answer:?}");
        }
    }

    #[tokio::test]
    async fn garbage_after_the_hello_ends_the_handshake_and_a_silent_client_none() {
        let (ca, tls) = open();
        let config = Arc::new(Client::new(&ca, None).config);
        let name = rustls::pki_types::ServerName::try_from(HOST).unwrap();
        let mut hello = Vec::new();
        let mut client = rustls::ClientConnection::new(config, name).unwrap();
        client.write_tls(&mut hello).unwrap();
        let (near, far) = tokio::io::duplex(64 * 1024);
        {
            let waiting = accept(&tls, Some(HOST), &hello, far);
            // The deadline is the caller's.
            let waited = tokio::time::timeout(Duration::from_millis(50), waiting).await;
            assert!(waited.is_err());
        }
        drop(near);
        let (mut near, far) = tokio::io::duplex(64 * 1024);
        near.write_all(&[0x7f; 600]).await.unwrap();
        let error = accept(&tls, Some(HOST), &hello, far)
            .await
            .err()
            .unwrap()
            .error;
        assert_eq!(error.label, "protocol", "{error}");
    }

    #[tokio::test]
    async fn a_handshake_byte_by_byte_succeeds() {
        let ca = Ca::new("CA");
        let tls = asking(&ca, ClientCertificates::Required);
        let client = Client::new(&ca, Some(&ca.leaf("shop.example")));
        let (near, far) = tokio::io::duplex(64 * 1024);
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client.config));
        let name = rustls::pki_types::ServerName::try_from(HOST).unwrap();
        let (client, ours) = tokio::join!(
            connector.connect(name, near),
            accept(&tls, Some(HOST), b"", Trickle(far))
        );
        assert!(client.is_ok() && ours.is_ok());
    }

    /// Gives one byte at a time.
    struct Trickle(DuplexStream);

    impl AsyncRead for Trickle {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let mut byte = [0];
            let mut one = ReadBuf::new(&mut byte);
            ready!(Pin::new(&mut self.0).poll_read(cx, &mut one))?;
            buf.put_slice(one.filled());
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Trickle {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, buf)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    /// `openssl s_client` with these arguments against the entrance: what it says, and what the
    /// entrance says. It sends a line and gets one.
    async fn openssl(
        tls: &ServerTls,
        arguments: &[&str],
    ) -> (String, Result<Arc<AcceptFacts>, AcceptError>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut command = std::process::Command::new("openssl");
        command
            .args(["s_client", "-connect", &address, "-servername", HOST])
            .args(arguments)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let client = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            // It may have been refused already.
            let _ = io::Write::write_all(&mut stdin, b"hello\n");
            let output = child.wait_with_output().unwrap();
            drop(stdin);
            let text = [output.stdout, output.stderr].concat();
            String::from_utf8_lossy(&text).into_owned()
        });
        let (socket, _) = listener.accept().await.unwrap();
        let offered = Offered {
            server_name: Some(HOST),
            alpn: b"\x0eistio-http/1.1\x05istio\x08http/1.1",
        };
        let server = match tls.accept(offered, Bytes::new(), socket).await {
            Ok(mut accepted) => {
                let mut line = [0; 6];
                accepted.stream.read_exact(&mut line).await.unwrap();
                accepted.stream.write_all(b"welcome\n").await.unwrap();
                accepted.stream.shutdown().await.unwrap();
                Ok(accepted.facts)
            }
            Err(mut rejected) => {
                // As the listener does: the alert is not to be overtaken by a reset.
                rejected.stream.shutdown().await.unwrap();
                let _ = rejected.stream.read_to_end(&mut Vec::new()).await;
                Err(rejected.error)
            }
        };
        (client.await.unwrap(), server)
    }

    #[tokio::test]
    async fn openssl_is_let_in_with_a_certificate_and_told_why_not_without() {
        let ca = Ca::new("CA");
        let tls = asking(&ca, ClientCertificates::Required);
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let good = ca.leaf("shop.example");
        let bad = Ca::new("Other CA").leaf("shop.example");
        let ca = file("ca.pem", pem("CERTIFICATE", &ca.der));
        let shown = |name: &str, leaf: &Leaf| {
            let certificate = file(&format!("{name}.pem"), pem("CERTIFICATE", &leaf.chain[0]));
            let key = file(&format!("{name}.key"), pem("PRIVATE KEY", &leaf.key));
            ["-cert".to_owned(), certificate, "-key".to_owned(), key]
        };
        let (good, bad) = (shown("good", &good), shown("bad", &bad));
        for (version, mine, label, words) in [
            ("-tls1_2", &good[..], None, "Verify return code: 0 (ok)"),
            ("-tls1_3", &good, None, "Verify return code: 0 (ok)"),
            (
                "-tls1_2",
                &[],
                Some("no_certificate"),
                "SSL alert number 40",
            ),
            (
                "-tls1_3",
                &[],
                Some("no_certificate"),
                "SSL alert number 116",
            ),
            ("-tls1_2", &bad, Some("unknown_ca"), "SSL alert number 48"),
            ("-tls1_3", &bad, Some("unknown_ca"), "SSL alert number 48"),
        ] {
            let mut arguments = vec![version, "-CAfile", &ca, "-verify_return_error"];
            arguments.extend(["-alpn", "istio-http/1.1,istio,http/1.1"]);
            arguments.extend(mine.iter().map(String::as_str));
            let (text, server) = openssl(&tls, &arguments).await;
            assert!(text.contains(words), "{version} {label:?}: {text}");
            match label {
                None => {
                    let facts = server.unwrap();
                    assert_eq!(facts.alpn, Alpn::Http1);
                    assert_eq!(
                        facts.client.as_ref().unwrap().facts.subject,
                        "CN=shop.example"
                    );
                    assert!(text.contains("welcome"), "{text}");
                }
                Some(label) => assert_eq!(server.unwrap_err().label, label),
            }
        }
    }
}
