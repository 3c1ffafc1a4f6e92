//! The handshake: from an open socket to a TLS stream and what is known of the peer.
//!
//! Owns: [`ClientTls::connect`] and [`HandshakeFacts`].
//! Never: opens a socket or keeps a deadline (the caller does).
//! Called by: `upstream`.

use std::borrow::Cow;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, PoisonError};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CipherSuite, HandshakeKind, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};

use super::chain::Peer;
use super::client_config::ClientTls;
use super::explain::{self, Cause, HandshakeError};
use super::explain_certificate::wrong_name;
use super::facts::CertFacts;
use super::notes::{Noted, Notes};
use super::session::Session;
use super::sessions::now;
use super::stream::{Shaking, Stream};
use super::verify::{is_nameless, nameless};
use crate::model::{AlpnOffer, HttpChoice, NameCheck, OnExpired, TlsVersion};

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
    /// The server ignored the offer, or there was none.
    None,
    /// `http/1.1`, or Istio's `istio-http/1.1`.
    Http1,
    /// `h2`, or Istio's `istio-h2`.
    Http2,
}

/// What is offered by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offer {
    /// What the upstream's choice of HTTP version allows.
    Choice,
    /// HTTP/1.1 alone.
    Http1,
    /// Nothing of HTTP: bytes that nobody here reads.
    Opaque,
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
        self.shake(host, stream, Offer::Choice, false).await
    }

    /// The same, or that of [`ClientTls::connect_http1`], for one who writes at once: our last flight
    /// leaves with the first write, which saves a packet and a wake-up of the server. It leaves by
    /// itself where one reads and has to wait, flushes or shuts down.
    ///
    /// # Errors
    /// Those of [`ClientTls::connect`].
    pub async fn connect_to_write<S>(
        &self,
        host: &str,
        stream: S,
        http1: bool,
    ) -> Result<Connected<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let offer = match http1 {
            true => Offer::Http1,
            false => Offer::Choice,
        };
        // Where the protocol may be the wrong one, the server is to see a handshake nevertheless.
        let hold = self.http != HttpChoice::Http2;
        self.shake(host, stream, offer, hold).await
    }

    /// The same, but offers the server HTTP/1.1 alone: for a request that HTTP/2 cannot carry, such
    /// as one with `Upgrade` (RFC 9113 section 8.6).
    ///
    /// # Errors
    /// Those of [`ClientTls::connect`].
    pub async fn connect_http1<S>(
        &self,
        host: &str,
        stream: S,
    ) -> Result<Connected<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        self.shake(host, stream, Offer::Http1, false).await
    }

    /// The same for bytes that nobody here reads: no HTTP is offered, as what follows is none
    /// (ISTIO.md T11). `host` is empty where nobody named one; without a server name of the policy
    /// no SNI is sent then, and no name but those of `subject_alt_names` is verified (T6, T7).
    ///
    /// # Errors
    /// Those of [`ClientTls::connect`].
    pub async fn connect_opaque<S>(
        &self,
        host: &str,
        stream: S,
    ) -> Result<Connected<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        self.shake(host, stream, Offer::Opaque, false).await
    }

    async fn shake<S>(
        &self,
        host: &str,
        stream: S,
        offer: Offer,
        hold: bool,
    ) -> Result<Connected<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let name = self.prepare(host)?;
        let offered = match offer {
            Offer::Choice => &self.config.alpn_protocols,
            Offer::Http1 => &self.http1_offer,
            Offer::Opaque => &self.opaque_offer,
        };
        let failed = |error, notes: &mut Notes, head| {
            let cause = explain::sort(error, notes, head);
            explain::error(self, &called(&name), notes, cause)
        };
        let session = Session::new(&self.config, name.clone(), offered.clone())
            .map_err(|e| failed(io::Error::other(e), &mut Notes::default(), Vec::new()))?;
        let mut shaking = Shaking::new(session, stream, hold);
        let (result, mut notes) = Noted::new(poll_fn(|cx| shaking.poll(cx))).await;
        match result {
            Ok(()) => self.finish(shaking.into_stream(), &name, notes, offer),
            Err(error) => Err(failed(error, &mut notes, shaking.into_head())),
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
        if let Some(name) = &self.fixed_name {
            return Ok(name.clone());
        }
        if host.is_empty() {
            return Ok(nameless());
        }
        match ServerName::try_from(host.to_owned()) {
            Ok(name) if is_nameless(&name) => Err(error(Cause::Unspecified)),
            Ok(name) => Ok(name),
            Err(problem) => Err(error(Cause::ServerName(problem))),
        }
    }

    fn finish<S>(
        &self,
        stream: Stream<S>,
        name: &ServerName<'static>,
        notes: Notes,
        offer: Offer,
    ) -> Result<Connected<S>, HandshakeError> {
        let session = stream.state();
        let http2 = self.http == HttpChoice::Http2;
        let alpn = match session.alpn_protocol() {
            Some(b"h2" | b"istio-h2") => Alpn::Http2,
            // A sidecar's word for whatever the two have agreed on otherwise.
            Some(b"istio") if http2 && offer == Offer::Choice => Alpn::Http2,
            // rustls lets nothing through that was not offered.
            Some(_) => Alpn::Http1,
            None => Alpn::None,
        };
        // Istio speaks HTTP/2 where a port says so, whether or not the server knows ALPN.
        let agreed = match alpn {
            Alpn::Http2 => true,
            Alpn::Http1 => false,
            Alpn::None => self.spec.alpn != AlpnOffer::Http,
        };
        if http2 && !agreed && offer != Offer::Opaque {
            let cause = Cause::NotHttp2(alpn);
            return Err(explain::error(self, &called(name), &notes, cause));
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
            shown: identity.map(|identity| identity.leaf.called()),
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
        let server = called(name);
        Some(format!(
            "server certificate of {server}: {}",
            wrong_name(Peer::Server, &wrong, facts)
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

/// What messages call the server.
fn called<'a>(name: &'a ServerName<'_>) -> Cow<'a, str> {
    match is_nameless(name) {
        true => Cow::Borrowed("a server without a name"),
        false => name.to_str(),
    }
}

/// rustls calls the suites of TLS 1.3 otherwise than IANA does.
pub(super) fn iana(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str().unwrap_or(""),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustls::version::{TLS12, TLS13};

    use super::super::explain::HandshakeReason;
    use super::super::testing::*;
    use super::*;

    #[tokio::test]
    async fn a_handshake_with_both_certificates_tells_what_was_agreed() {
        let ca = Ca::new("Bank CA");
        let client = ca.leaf("shop.example");
        let tls = client_tls(&spec(), &credential(Some(&client), &[&ca.der], &[]));
        let server = Server::with(&ca.leaf(HOST), &[&TLS13], Some(&ca));
        let (met, seen) = server.meet(&tls, HOST).await;
        let (facts, seen) = (met.unwrap().facts, seen.unwrap());
        assert_eq!(seen.sni.as_deref(), Some(HOST));
        assert_eq!(seen.client, client.chain);
        assert_eq!(facts.version, TlsVersion::Tls13);
        assert_eq!(facts.cipher, "TLS_AES_256_GCM_SHA384");
        assert_eq!(facts.group, Some("X25519MLKEM768"));
        assert_eq!(facts.alpn, Alpn::Http2);
        assert!(!facts.resumed);
        assert_eq!(facts.server_name.as_deref(), Some(HOST));
        assert_eq!(facts.peer.as_ref().unwrap().serial, "2a");
        assert_eq!(facts.shown.as_deref(), Some("CN=shop.example"));
        assert_eq!(facts.name_warning, None);
    }

    #[tokio::test]
    async fn nothing_is_shown_to_a_server_that_does_not_ask() {
        let ca = Ca::new("Bank CA");
        let client = ca.leaf("shop.example");
        let tls = client_tls(&spec(), &credential(Some(&client), &[&ca.der], &[]));
        let (met, seen) = Server::new(&ca.leaf(HOST)).meet(&tls, HOST).await;
        assert_eq!(met.unwrap().facts.shown, None);
        assert!(seen.unwrap().client.is_empty());
    }

    #[tokio::test]
    async fn t6_the_policy_names_the_server_in_place_of_the_host() {
        let ca = Ca::new("Bank CA");
        let mut spec = spec();
        spec.server_name = Some(crate::model::Host::parse("front.example").unwrap());
        let tls = client_tls(&spec, &credential(None, &[&ca.der], &[]));
        let server = Server::new(&ca.leaf("front.example"));
        let (met, seen) = server.meet(&tls, HOST).await;
        assert_eq!(seen.unwrap().sni.as_deref(), Some("front.example"));
        assert_eq!(
            met.unwrap().facts.server_name.as_deref(),
            Some("front.example")
        );
    }

    #[tokio::test]
    async fn t6_an_ip_host_sends_no_sni_and_must_be_among_the_ip_names() {
        let ca = Ca::new("Bank CA");
        let (met, seen) = Server::new(&ca.leaf("10.0.0.1"))
            .meet(&trusting(&ca), "10.0.0.1")
            .await;
        assert_eq!(seen.unwrap().sni, None);
        assert_eq!(met.unwrap().facts.server_name, None);
        let (met, _) = Server::new(&ca.leaf("10.0.0.2"))
            .meet(&trusting(&ca), "10.0.0.1")
            .await;
        let words = met.unwrap_err().to_string();
        assert!(
            words.contains("expected \"10.0.0.1\", and it names IP:10.0.0.2"),
            "{words}"
        );
    }

    #[tokio::test]
    async fn t11_alpn_follows_the_upstream() {
        let ca = Ca::new("Bank CA");
        let credential = credential(None, &[&ca.der], &[]);
        let mut server = Server::new(&ca.leaf(HOST));
        for (http, offered, expected) in [
            (HttpChoice::Auto, &["h2", "http/1.1"][..], Ok(Alpn::Http2)),
            (HttpChoice::Auto, &["http/1.1"], Ok(Alpn::Http1)),
            (HttpChoice::Auto, &[], Ok(Alpn::None)),
            (HttpChoice::Http1, &["h2", "http/1.1"], Ok(Alpn::Http1)),
            (HttpChoice::Http1, &[], Ok(Alpn::None)),
            (HttpChoice::Http2, &["h2"], Ok(Alpn::Http2)),
            (
                HttpChoice::Http2,
                &[],
                Err("chose nothing, so it speaks HTTP/1.1"),
            ),
            (
                HttpChoice::Http2,
                &["http/1.1"],
                Err("alert no_application_protocol"),
            ),
        ] {
            server.config.alpn_protocols = offered.iter().map(|p| p.as_bytes().to_vec()).collect();
            let tls = ClientTls::new(&spec(), http, Arc::clone(&credential), OnExpired::Fail);
            let (met, _) = server.meet(&tls.unwrap(), HOST).await;
            match (met, expected) {
                (Ok(met), Ok(alpn)) => assert_eq!(met.facts.alpn, alpn),
                (Err(error), Err(words)) => {
                    assert!(error.to_string().contains(words), "{error}");
                    assert_eq!(error.reason.label(), "incompatible");
                }
                (met, expected) => panic!("{http:?} {offered:?}: {met:?}, not {expected:?}"),
            }
        }
    }

    /// SNI and ALPN of the hello that we send, by `kind` of connection.
    async fn hello(tls: &ClientTls, host: &str, kind: Offer) -> (Option<String>, Vec<String>) {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let accepting =
            tokio_rustls::LazyConfigAcceptor::new(rustls::server::Acceptor::default(), far);
        let server = async {
            let start = accepting.await.unwrap();
            let hello = start.client_hello();
            let alpn = hello.alpn().into_iter().flatten();
            let alpn = alpn.map(|name| String::from_utf8(name.to_vec()).unwrap());
            (hello.server_name().map(str::to_owned), alpn.collect())
        };
        let client = async {
            match kind {
                Offer::Choice => tls.connect(host, near).await.is_err(),
                Offer::Http1 => tls.connect_http1(host, near).await.is_err(),
                Offer::Opaque => tls.connect_opaque(host, near).await.is_err(),
            }
        };
        tokio::join!(server, client).0
    }

    #[tokio::test]
    async fn t11_what_is_offered_follows_policy_version_and_use_and_is_never_peer_exchange() {
        use AlpnOffer::{Http, Http2Only, Istio};
        use HttpChoice::{Auto, Http1, Http2};
        let ca = Ca::new("Bank CA");
        let credential = credential(None, &[&ca.der], &[]);
        let istio = &["istio-http/1.1", "istio", "http/1.1"][..];
        for (alpn, http, kind, expected) in [
            (Http, Auto, Offer::Choice, &["h2", "http/1.1"][..]),
            (Http, Auto, Offer::Http1, &["http/1.1"]),
            (Http, Auto, Offer::Opaque, &[]),
            (Http2Only, Http1, Offer::Choice, &[]),
            (Http2Only, Auto, Offer::Choice, &[]),
            (Http2Only, Http2, Offer::Choice, &["h2"]),
            (Http2Only, Http2, Offer::Http1, &[]),
            (Http2Only, Http1, Offer::Opaque, &[]),
            (Istio, Http1, Offer::Choice, istio),
            (Istio, Auto, Offer::Choice, istio),
            (Istio, Http2, Offer::Choice, &["istio-h2", "istio", "h2"]),
            (Istio, Http2, Offer::Http1, istio),
            (Istio, Http1, Offer::Opaque, &["istio"]),
        ] {
            let mut spec = spec();
            spec.alpn = alpn;
            let tls = ClientTls::new(&spec, http, Arc::clone(&credential), OnExpired::Fail);
            let (_, offered) = hello(&tls.unwrap(), HOST, kind).await;
            assert_eq!(offered, expected, "{alpn:?} {http:?} {kind:?}");
        }
    }

    #[tokio::test]
    async fn t11_the_servers_choice_among_istios_names_is_a_version_of_http() {
        let ca = Ca::new("Bank CA");
        let credential = credential(None, &[&ca.der], &[]);
        let mut server = Server::new(&ca.leaf(HOST));
        for (alpn, http, known, expected) in [
            (
                AlpnOffer::Istio,
                HttpChoice::Http1,
                "istio-http/1.1",
                Alpn::Http1,
            ),
            (AlpnOffer::Istio, HttpChoice::Http1, "istio", Alpn::Http1),
            (AlpnOffer::Istio, HttpChoice::Http1, "http/1.1", Alpn::Http1),
            (AlpnOffer::Istio, HttpChoice::Http2, "istio-h2", Alpn::Http2),
            (AlpnOffer::Istio, HttpChoice::Http2, "istio", Alpn::Http2),
            (AlpnOffer::Istio, HttpChoice::Http2, "h2", Alpn::Http2),
            (AlpnOffer::Istio, HttpChoice::Http2, "", Alpn::None),
            (AlpnOffer::Http2Only, HttpChoice::Http1, "h2", Alpn::None),
            (AlpnOffer::Http2Only, HttpChoice::Http2, "h2", Alpn::Http2),
            (AlpnOffer::Http2Only, HttpChoice::Http2, "", Alpn::None),
        ] {
            let mut spec = spec();
            spec.alpn = alpn;
            let known = Some(known).filter(|name| !name.is_empty());
            server.config.alpn_protocols =
                known.map(|p| p.as_bytes().to_vec()).into_iter().collect();
            let tls = ClientTls::new(&spec, http, Arc::clone(&credential), OnExpired::Fail);
            let met = server.meet(&tls.unwrap(), HOST).await.0.unwrap();
            assert_eq!(met.facts.alpn, expected, "{alpn:?} {http:?} {known:?}");
        }
    }

    #[tokio::test]
    async fn t5_istios_server_name_with_underscores_is_sent_as_it_is() {
        let ca = Ca::new("Mesh CA");
        let mut spec = spec();
        let name = "outbound_.80_._.nginx-mtls.common-ca.local";
        spec.server_name = Some(crate::model::Host::parse(name).unwrap());
        spec.name_check = NameCheck::Off;
        let tls = client_tls(&spec, &credential(None, &[&ca.der], &[]));
        let server = Server::new(&ca.leaf("other.example"));
        let (met, seen) = server.meet(&tls, HOST).await;
        assert_eq!(seen.unwrap().sni.as_deref(), Some(name));
        assert_eq!(met.unwrap().facts.server_name.as_deref(), Some(name));
    }

    #[tokio::test]
    async fn t6_a_stream_without_a_host_sends_no_sni_and_is_held_to_configured_names_alone() {
        let ca = Ca::new("Bank CA");
        let server = Server::new(&ca.leaf("other.example"));
        let (met, seen) = server.meet(&trusting(&ca), "").await;
        assert_eq!(seen.unwrap().sni, None);
        assert_eq!(met.unwrap().facts.server_name, None);
        let stranger = Server::new(&Ca::new("Other CA").leaf("other.example"));
        let error = stranger.meet(&trusting(&ca), "").await.0.unwrap_err();
        assert_eq!(error.reason, HandshakeReason::UnknownCa);
        assert!(
            error
                .to_string()
                .starts_with("server certificate of a server without a name: ")
        );
        let mut spec = spec();
        for (name, good) in [("other.example", true), ("bank.example", false)] {
            spec.subject_alt_names = vec![name.to_owned()];
            let tls = client_tls(&spec, &credential(None, &[&ca.der], &[]));
            assert_eq!(server.meet(&tls, "").await.0.is_ok(), good, "{name}");
        }
    }

    #[tokio::test]
    async fn t6_a_host_that_is_the_address_of_nobody_is_not_taken_for_no_host() {
        let ca = Ca::new("Bank CA");
        let (near, _far) = tokio::io::duplex(1024);
        let error = trusting(&ca).connect("::", near).await.err().unwrap();
        assert_eq!(error.reason, HandshakeReason::ServerName);
        let server = Server::new(&ca.leaf("other.example"));
        assert!(server.meet(&trusting(&ca), "0.0.0.0").await.0.is_err());
        let mut spec = spec();
        spec.server_name = Some(crate::model::Host::parse("[::]").unwrap());
        let credential = credential(None, &[&ca.der], &[]);
        let made = ClientTls::new(&spec, HttpChoice::Auto, credential, OnExpired::Fail);
        assert!(made.is_err());
    }

    #[tokio::test]
    async fn the_second_connection_resumes_in_both_versions() {
        for version in [&TLS12, &TLS13] {
            let ca = Ca::new("Bank CA");
            let client = ca.leaf("shop.example");
            let tls = client_tls(&spec(), &credential(Some(&client), &[&ca.der], &[]));
            let server = Server::with(&ca.leaf(HOST), &[version], Some(&ca));
            let first = server.meet(&tls, HOST).await.0.unwrap().facts;
            let second = server.meet(&tls, HOST).await.0.unwrap().facts;
            assert!(!first.resumed && second.resumed, "{:?}", version.version);
            assert_eq!(first.peer, second.peer);
            let other = server.meet(&tls, HOST).await;
            assert!(other.0.unwrap().facts.resumed);
        }
    }

    #[tokio::test]
    async fn r16_a_session_does_not_cross_to_another_generation() {
        for version in [&TLS12, &TLS13] {
            let ca = Ca::new("Bank CA");
            let credential = credential(None, &[&ca.der], &[]);
            let server = Server::with(&ca.leaf(HOST), &[version], None);
            let old = client_tls(&spec(), &credential);
            assert!(!server.meet(&old, HOST).await.0.unwrap().facts.resumed);
            let new = client_tls(&spec(), &credential);
            assert!(!server.meet(&new, HOST).await.0.unwrap().facts.resumed);
            assert!(server.meet(&old, HOST).await.0.unwrap().facts.resumed);
        }
    }

    #[tokio::test]
    async fn a_session_is_not_resumed_under_another_name() {
        let ca = Ca::new("Bank CA");
        let tls = trusting(&ca);
        let leaf = ca.leaf_with(HOST, |params| {
            let other = "other.example".try_into().unwrap();
            params
                .subject_alt_names
                .push(rcgen::SanType::DnsName(other));
        });
        let server = Server::new(&leaf);
        assert!(!server.meet(&tls, HOST).await.0.unwrap().facts.resumed);
        assert!(
            !server
                .meet(&tls, "other.example")
                .await
                .0
                .unwrap()
                .facts
                .resumed
        );
        assert!(
            server
                .meet(&tls, "other.example")
                .await
                .0
                .unwrap()
                .facts
                .resumed
        );
    }

    #[tokio::test]
    async fn t7_a_name_that_is_only_warned_of_is_told_on_resumed_connections_too() {
        let ca = Ca::new("Bank CA");
        let mut spec = spec();
        spec.name_check = NameCheck::Warn;
        let tls = client_tls(&spec, &credential(None, &[&ca.der], &[]));
        let server = Server::new(&ca.leaf("other.example"));
        for resumed in [false, true] {
            let facts = server.meet(&tls, HOST).await.0.unwrap().facts;
            assert_eq!(facts.resumed, resumed);
            let warning = facts.name_warning.as_deref().unwrap();
            assert!(
                warning.starts_with(
                    "server certificate of bank.example: it is for another name: \
                     expected \"bank.example\", and it names DNS:other.example"
                ),
                "{warning}"
            );
        }
    }

    #[tokio::test]
    async fn r17_an_expired_certificate_of_ours_fails_before_a_byte_is_sent() {
        let ca = Ca::new("Bank CA");
        let client = ca.leaf_with("shop.example", |params| {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        });
        let credential = credential(Some(&client), &[&ca.der], &[]);
        let tls = client_tls(&spec(), &credential);
        let (near, mut far) = tokio::io::duplex(1024);
        let error = tls.connect(HOST, near).await.err().unwrap();
        assert_eq!(error.reason, HandshakeReason::OwnExpired);
        let words = error.to_string();
        assert!(
            words.starts_with(
                "our client certificate (\"CN=shop.example\", /etc/client.pem) \
                 expired at 2020-01-01T00:00:00Z, and it is 2"
            ),
            "{words}"
        );
        let mut sent = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut far, &mut sent)
            .await
            .unwrap();
        assert!(sent.is_empty());
    }

    #[tokio::test]
    async fn r17_an_expired_certificate_of_ours_is_offered_where_the_policy_says_so() {
        let ca = Ca::new("Bank CA");
        let client = ca.leaf_with("shop.example", |params| {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        });
        let credential = credential(Some(&client), &[&ca.der], &[]);
        let tls = ClientTls::new(&spec(), HttpChoice::Auto, credential, OnExpired::Use).unwrap();
        let server = Server::with(&ca.leaf(HOST), &[&TLS13], Some(&ca));
        let met = server.meet(&tls, HOST).await.0.unwrap();
        let late = tls.explain_late(&met.echo.unwrap_err()).unwrap();
        assert_eq!(
            late,
            "the server refused our client certificate (\"CN=shop.example\", /etc/client.pem): \
             alert certificate_expired: it holds it for expired or not yet valid"
        );
    }

    #[tokio::test]
    async fn a_host_that_is_no_name_is_told_before_anything_is_sent() {
        let ca = Ca::new("Bank CA");
        let (near, _far) = tokio::io::duplex(1024);
        let error = trusting(&ca)
            .connect("-.example", near)
            .await
            .err()
            .unwrap();
        assert_eq!(error.reason, HandshakeReason::ServerName);
        assert!(
            error
                .to_string()
                .starts_with("\"-.example\" cannot be a server name")
        );
    }

    #[tokio::test]
    async fn many_handshakes_on_one_thread_do_not_mix_their_reasons() {
        let ca = Ca::new("Bank CA");
        let tls = trusting(&ca);
        let failed = AtomicUsize::new(0);
        let one = |n: usize| {
            let name = if n.is_multiple_of(2) {
                HOST.to_owned()
            } else {
                format!("host-{n}.example")
            };
            let server = Server::new(&ca.leaf(&name));
            let (tls, failed) = (&tls, &failed);
            async move {
                if let Err(error) = server.meet(tls, HOST).await.0 {
                    let words = error.to_string();
                    assert!(words.contains(&format!("DNS:host-{n}.example")), "{words}");
                    failed.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        futures_util::future::join_all((0..20).map(one)).await;
        assert_eq!(failed.into_inner(), 10);
    }
}
