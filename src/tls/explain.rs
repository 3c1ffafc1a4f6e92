//! A failed handshake in words: which check, what was expected, what came, what to do.
//!
//! Owns: [`HandshakeError`] and [`HandshakeReason`], and the line that people read.
//! Never: verifies anything.
//! Called by: `tls::connect`.
//!
//! Why the words are made at once: they name files and certificates of the generation under which
//! the handshake failed, and a moment later there may be another.

use std::error::Error;
use std::fmt;
use std::io;

use rustls::pki_types::InvalidDnsNameError;
use rustls::{AlertDescription, PeerIncompatible};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use super::alert;
use super::chain::{Check, Peer, Refusal};
use super::client_config::ClientTls;
use super::connect::Alpn;
use super::explain_certificate::{self, Ground};
use super::facts::rfc4514;
use super::notes::Notes;

use crate::model::TlsVersion;

/// Why a handshake failed. `Display` is one line in words, without the peer's address.
#[derive(Debug)]
pub struct HandshakeError {
    /// The failure's class, for metrics and for the decision to try again.
    pub reason: HandshakeReason,
    words: String,
    cause: Cause,
}

/// The classes of handshake failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HandshakeReason {
    /// The server's certificate is for another name (ISTIO.md T7).
    San,
    /// It does not lead to a CA that we trust.
    UnknownCa,
    /// It, or one of its chain, has ended.
    Expired,
    /// It, or one of its chain, has not begun.
    NotYetValid,
    /// It is revoked.
    Revoked,
    /// Whether it is revoked cannot be told.
    RevocationUnknown,
    /// It cannot be used: its form, its purpose, a signature.
    BadCertificate,
    /// The client's certificate is not pinned (ISTIO.md G6).
    Pin,
    /// The client is of another mesh (ISTIO.md P12).
    TrustDomain,
    /// The client showed no certificate, and one is demanded.
    NoCertificate,
    /// Our own certificate has ended (R17).
    OwnExpired,
    /// The server refused our certificate, or its absence.
    RefusedByPeer,
    /// The server does not speak TLS on this port.
    NotTls,
    /// No version, cipher suite, group or protocol in common.
    Incompatible,
    /// Another alert from the server.
    Alert,
    /// The server broke the rules of TLS.
    Protocol,
    /// The host cannot be a server name.
    ServerName,
    /// The connection ended.
    Closed,
}

impl HandshakeReason {
    /// Every reason, for metrics that start at zero.
    pub const ALL: [HandshakeReason; 18] = [
        HandshakeReason::San,
        HandshakeReason::UnknownCa,
        HandshakeReason::Expired,
        HandshakeReason::NotYetValid,
        HandshakeReason::Revoked,
        HandshakeReason::RevocationUnknown,
        HandshakeReason::BadCertificate,
        HandshakeReason::Pin,
        HandshakeReason::TrustDomain,
        HandshakeReason::NoCertificate,
        HandshakeReason::OwnExpired,
        HandshakeReason::RefusedByPeer,
        HandshakeReason::NotTls,
        HandshakeReason::Incompatible,
        HandshakeReason::Alert,
        HandshakeReason::Protocol,
        HandshakeReason::ServerName,
        HandshakeReason::Closed,
    ];

    /// A word for metrics; part of their public contract.
    pub fn label(self) -> &'static str {
        match self {
            HandshakeReason::San => "san",
            HandshakeReason::UnknownCa => "unknown_ca",
            HandshakeReason::Expired => "expired",
            HandshakeReason::NotYetValid => "not_yet_valid",
            HandshakeReason::Revoked => "revoked",
            HandshakeReason::RevocationUnknown => "revocation_unknown",
            HandshakeReason::BadCertificate => "bad_certificate",
            HandshakeReason::Pin => "pin",
            HandshakeReason::TrustDomain => "trust_domain",
            HandshakeReason::NoCertificate => "no_certificate",
            HandshakeReason::OwnExpired => "own_expired",
            HandshakeReason::RefusedByPeer => "refused_by_peer",
            HandshakeReason::NotTls => "not_tls",
            HandshakeReason::Incompatible => "incompatible",
            HandshakeReason::Alert => "alert",
            HandshakeReason::Protocol => "protocol",
            HandshakeReason::ServerName => "server_name",
            HandshakeReason::Closed => "closed",
        }
    }

    /// True where a check failed and would fail again, so that nothing is retried (ISTIO.md X5);
    /// false where the transport failed.
    pub fn is_check(self) -> bool {
        !matches!(self, HandshakeReason::Closed | HandshakeReason::Alert)
    }

    /// True where a certificate was refused, by either side (RFC 9209: `tls_certificate_error`).
    pub fn is_certificate(self) -> bool {
        match self {
            HandshakeReason::San
            | HandshakeReason::UnknownCa
            | HandshakeReason::Expired
            | HandshakeReason::NotYetValid
            | HandshakeReason::Revoked
            | HandshakeReason::RevocationUnknown
            | HandshakeReason::BadCertificate
            | HandshakeReason::Pin
            | HandshakeReason::TrustDomain
            | HandshakeReason::NoCertificate
            | HandshakeReason::OwnExpired
            | HandshakeReason::RefusedByPeer => true,
            HandshakeReason::NotTls
            | HandshakeReason::Incompatible
            | HandshakeReason::Alert
            | HandshakeReason::Protocol
            | HandshakeReason::ServerName
            | HandshakeReason::Closed => false,
        }
    }
}

/// What happened, typed.
#[derive(Debug)]
pub(super) enum Cause {
    /// A check of the server's certificate failed.
    Refused(Box<Refusal>),
    /// The server's proof that it holds its certificate's key does not fit.
    KeyProof(rustls::Error),
    /// Our certificate ended at this second.
    OwnExpired { until: i64, now: i64 },
    /// The server sent an alert.
    Alert(rustls::Error, AlertDescription),
    /// What came is not TLS.
    NotTls { head: Vec<u8> },
    /// Nothing in common.
    Incompatible(rustls::Error, PeerIncompatible),
    /// HTTP/2 is demanded and the server chose otherwise.
    NotHttp2(Alpn),
    /// The server broke a rule.
    Protocol(rustls::Error),
    /// The host is no server name.
    ServerName(InvalidDnsNameError),
    /// The host is the address that means none.
    Unspecified,
    /// The connection ended; `silent` where not one byte had come.
    Closed { source: io::Error, silent: bool },
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl Error for HandshakeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            Cause::Refused(refusal) => match &refusal.check {
                Check::Unreadable(source)
                | Check::RevocationListUnusable(source)
                | Check::Rule(source) => Some(source),
                _ => None,
            },
            Cause::KeyProof(source)
            | Cause::Alert(source, _)
            | Cause::Incompatible(source, _)
            | Cause::Protocol(source) => Some(source),
            Cause::ServerName(source) => Some(source),
            Cause::Closed { source, .. } => Some(source),
            Cause::OwnExpired { .. }
            | Cause::NotTls { .. }
            | Cause::NotHttp2(_)
            | Cause::Unspecified => None,
        }
    }
}

/// Sorts what the handshake returned; `head` is what the peer sent first.
pub(super) fn sort(error: io::Error, notes: &mut Notes, head: Vec<u8>) -> Cause {
    use rustls::Error as Tls;
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Tls>());
    let not_tls = !head.is_empty() && !begins_a_record(&head);
    match inner.cloned() {
        Some(Tls::InvalidCertificate(certificate)) => match notes.refusal.take() {
            Some(refusal) => Cause::Refused(refusal),
            None => Cause::KeyProof(certificate.into()),
        },
        Some(Tls::AlertReceived(alert)) => Cause::Alert(Tls::AlertReceived(alert), alert),
        Some(_) if not_tls => Cause::NotTls { head },
        Some(Tls::PeerIncompatible(what)) => Cause::Incompatible(what.clone().into(), what),
        Some(other) => Cause::Protocol(other),
        None if not_tls => Cause::NotTls { head },
        None => Cause::Closed {
            source: error,
            silent: head.is_empty(),
        },
    }
}

/// RFC 8446 section 5.1: a content type from 20 to 24, and a major version of 3.
fn begins_a_record(head: &[u8]) -> bool {
    head.first().is_none_or(|kind| (20..=24).contains(kind))
        && head.get(1).is_none_or(|version| *version == 3)
}

/// Makes the error: its class and its words. `server` is the name that was expected.
pub(super) fn error(tls: &ClientTls, server: &str, notes: &Notes, cause: Cause) -> HandshakeError {
    let (reason, words) = match &cause {
        Cause::Refused(refusal) => {
            let (reason, what) = explain_certificate::words(tls.ground(), refusal);
            (reason, format!("server certificate of {server}: {what}"))
        }
        Cause::KeyProof(error) => (
            HandshakeReason::BadCertificate,
            format!(
                "{server} could not prove that it holds the key of the certificate that it shows \
                 ({error}); certificate and key of that server do not belong together"
            ),
        ),
        Cause::OwnExpired { until, now } => (
            HandshakeReason::OwnExpired,
            explain_certificate::own_expired(tls.ground(), *until, *now),
        ),
        Cause::Alert(_, alert) => of_alert(tls, server, notes, *alert),
        Cause::NotTls { head } => (HandshakeReason::NotTls, not_tls(server, head)),
        Cause::Incompatible(error, what) => (
            HandshakeReason::Incompatible,
            format!(
                "{server} and this upstream have no TLS in common: {}",
                common(tls, error, what)
            ),
        ),
        Cause::NotHttp2(chosen) => (HandshakeReason::Incompatible, not_http2(server, *chosen)),
        Cause::Protocol(error) => (
            HandshakeReason::Protocol,
            format!(
                "{server} broke the rules of TLS: {}",
                clean(&error.to_string())
            ),
        ),
        Cause::ServerName(error) => (
            HandshakeReason::ServerName,
            format!(
                "\"{}\" cannot be a server name ({error}); set the server name of this upstream",
                clean(server)
            ),
        ),
        Cause::Unspecified => (
            HandshakeReason::ServerName,
            format!("\"{server}\" is the address that means none; no server has it"),
        ),
        Cause::Closed { source, silent } => (
            HandshakeReason::Closed,
            closed(server, notes, source, *silent),
        ),
    };
    HandshakeError {
        reason,
        words,
        cause,
    }
}

fn not_tls(server: &str, head: &[u8]) -> String {
    let line = head.split(|byte| matches!(byte, b'\r' | b'\n')).next();
    let line = line.unwrap_or_default().escape_ascii();
    let what = match head {
        [b'H', b'T', b'T', b'P', ..] => format!("it answered in plain HTTP: \"{line}\""),
        _ => format!("it sent \"{line}\""),
    };
    format!(
        "the peer does not speak TLS on this port: {what}; use the TLS port of {server}, or set \
         TLS mode disable if plaintext is meant"
    )
}

fn not_http2(server: &str, chosen: Alpn) -> String {
    let chosen = match chosen {
        Alpn::Http1 => "chose http/1.1",
        Alpn::None | Alpn::Http2 => "chose nothing, so it speaks HTTP/1.1",
    };
    format!(
        "this upstream demands HTTP/2 and {server} {chosen} when ALPN offered h2; let the upstream \
         speak HTTP/1.1 as well"
    )
}

fn common(tls: &ClientTls, error: &rustls::Error, what: &PeerIncompatible) -> String {
    use PeerIncompatible as P;
    match what {
        P::ServerDoesNotSupportTls12Or13 => {
            "the server speaks TLS 1.1 or older, which sortie does not (RFC 8996)".to_owned()
        }
        P::ServerTlsVersionIsDisabledByOurConfig | P::SupportedVersionsExtensionRequired
            if tls.spec.min_version == TlsVersion::Tls13 =>
        {
            "this upstream demands TLS 1.3 and the server speaks 1.2 at most; lower its least \
             version"
                .to_owned()
        }
        _ => clean(&error.to_string()),
    }
}

fn closed(server: &str, notes: &Notes, source: &io::Error, silent: bool) -> String {
    let how = match source.kind() {
        io::ErrorKind::UnexpectedEof => "closed the connection".to_owned(),
        io::ErrorKind::ConnectionReset => "reset the connection".to_owned(),
        _ => format!("was lost ({source})"),
    };
    let when = if silent {
        "before it had sent a byte: it may not speak TLS on this port, or not serve this name"
    } else if notes.asked && !notes.shown {
        "after it had asked for a client certificate, and none was shown"
    } else if notes.asked {
        "after it had asked for our client certificate: it may not accept it"
    } else {
        "in the middle of the handshake"
    };
    format!("{server} {how} {when}")
}

fn of_alert(
    tls: &ClientTls,
    server: &str,
    notes: &Notes,
    alert: AlertDescription,
) -> (HandshakeReason, String) {
    use AlertDescription as A;
    let of_ours = notes.asked && (alert == A::HandshakeFailure && !notes.shown)
        || alert::about_certificate(alert).is_some();
    if of_ours {
        let shown = if notes.asked {
            notes.shown
        } else {
            tls.credential.identity.is_some()
        };
        return (
            HandshakeReason::RefusedByPeer,
            refused(tls, alert, shown, &notes.wanted),
        );
    }
    let reason = match alert {
        A::HandshakeFailure
        | A::ProtocolVersion
        | A::InsufficientSecurity
        | A::UnrecognisedName
        | A::MissingExtension
        | A::NoApplicationProtocol => HandshakeReason::Incompatible,
        _ => HandshakeReason::Alert,
    };
    let name = alert::name(alert);
    let mut words = format!(
        "{server} ended the handshake with the alert {name}: {}",
        alert::meaning(alert)
    );
    if alert == A::ProtocolVersion && tls.spec.min_version == TlsVersion::Tls13 {
        words.push_str("; this upstream demands 1.3");
    }
    (reason, words)
}

/// The server's refusal of our certificate, or of its absence.
fn refused(tls: &ClientTls, alert: AlertDescription, shown: bool, wanted: &[Vec<u8>]) -> String {
    let name = alert::name(alert);
    let identity = tls.credential.identity.as_ref();
    let mut words = match (identity, &tls.spec.credential.identity) {
        (Some(identity), Some(file)) if shown => {
            let meaning = alert::about_certificate(alert).unwrap_or_else(|| alert::meaning(alert));
            let mut words = format!(
                "the server refused our client certificate (\"{}\", {}): alert {name}: {meaning}",
                identity.leaf.called(),
                file
            );
            if alert == AlertDescription::UnknownCA {
                words.push_str(&format!(" (\"{}\")", identity.leaf.issuer));
            }
            words
        }
        (Some(_), Some(file)) => format!(
            "the server demands a client certificate (alert {name}), and it accepts no signature \
             that the key of {} can make",
            file
        ),
        _ => format!(
            "the server demands a client certificate (alert {name}), and this upstream has none; \
             set its certificate and key (TLS mode mutual)"
        ),
    };
    let wanted: Vec<String> = wanted.iter().filter_map(|name| name_text(name)).collect();
    if !wanted.is_empty() {
        words.push_str(&format!(
            "; it asked for one issued by \"{}\"",
            wanted.join("\" or \"")
        ));
    }
    words
}

fn name_text(der: &[u8]) -> Option<String> {
    X509Name::from_der(der).ok().map(|(_, name)| rfc4514(&name))
}

impl ClientTls {
    pub(super) fn ground(&self) -> Ground<'_> {
        Ground {
            credential: &self.credential,
            sources: &self.spec.credential,
            peer: Peer::Server,
        }
    }

    /// A failure that came after our side of the handshake was done, in words, where it is an
    /// alert: in TLS 1.3 a server refuses our certificate only then (ISTIO.md 5.6). Walks the
    /// sources of `error`; `None` where no alert is among them.
    pub fn explain_late(&self, error: &(dyn Error + 'static)) -> Option<String> {
        let alert = alert::alert_in(error).filter(|a| *a != AlertDescription::CloseNotify)?;
        if alert::about_certificate(alert).is_some() {
            let wanted = self.wanted.lock();
            let wanted = wanted.map_or_else(|p| p.into_inner().clone(), |wanted| wanted.clone());
            return Some(refused(
                self,
                alert,
                self.credential.identity.is_some(),
                &wanted,
            ));
        }
        Some(format!(
            "the server ended the connection with the alert {}: {}",
            alert::name(alert),
            alert::meaning(alert)
        ))
    }
}

/// Text of the peer, fit for one line of a log.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::version::{TLS12, TLS13};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::provider;
    use super::super::testing::*;
    use super::*;

    /// Connects to a peer that reads our hello, answers with `answer` and closes.
    async fn against(answer: &'static [u8]) -> HandshakeError {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let tls = trusting(&Ca::new("My CA"));
        let peer = async {
            let mut hello = [0; 512];
            far.read_exact(&mut hello).await.unwrap();
            far.write_all(answer).await.unwrap();
            drop(far);
        };
        let (client, ()) = tokio::join!(tls.connect(HOST, near), peer);
        client.err().unwrap()
    }

    #[tokio::test]
    async fn plaintext_where_tls_was_expected_is_shown() {
        let error = against(b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n").await;
        assert_eq!(
            error.to_string(),
            "the peer does not speak TLS on this port: it answered in plain HTTP: \"HTTP/1.1 400 \
             Bad Request\"; use the TLS port of bank.example, or set TLS mode disable if plaintext \
             is meant"
        );
        assert_eq!(error.reason, HandshakeReason::NotTls);
        for (answer, words) in [
            (
                &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
                "it sent \"SSH-2.0-OpenSSH_9.2\"",
            ),
            (
                b"220 mail\x07\x1b[31m\n",
                "it sent \"220 mail\\x07\\x1b[31m\"",
            ),
            (b"no", "it sent \"no\""),
        ] {
            let error = against(answer).await;
            assert!(error.to_string().contains(words), "{error}");
            assert!(error.reason.is_check() && !error.reason.is_certificate());
        }
    }

    #[tokio::test]
    async fn a_peer_that_closes_is_told_with_the_moment() {
        let error = against(b"").await;
        assert_eq!(
            error.to_string(),
            "bank.example closed the connection before it had sent a byte: it may not speak TLS on \
             this port, or not serve this name"
        );
        assert_eq!(error.reason, HandshakeReason::Closed);
        assert!(!error.reason.is_check());
        assert!(error.source().is_some());
        let error = against(&[22, 3, 3, 0, 80, 2]).await;
        let words = "bank.example closed the connection in the middle of the handshake";
        assert_eq!(error.to_string(), words);
    }

    #[tokio::test]
    async fn alerts_are_given_their_name_and_meaning() {
        for (alert, words, label) in [
            (
                40,
                "the alert handshake_failure: it has no cipher suite",
                "incompatible",
            ),
            (
                70,
                "the alert protocol_version: it speaks no TLS version that",
                "incompatible",
            ),
            (
                112,
                "the alert unrecognized_name: it does not know the server",
                "incompatible",
            ),
            (
                80,
                "the alert internal_error: it failed for a reason of its own",
                "alert",
            ),
            (213, "the alert number 213: its log may know more", "alert"),
        ] {
            let answer: &[u8] = Box::leak(Box::new([21, 3, 3, 0, 2, 2, alert]));
            let error = against(answer).await;
            assert!(error.to_string().contains(words), "{error}");
            assert!(
                error
                    .to_string()
                    .starts_with("bank.example ended the handshake with")
            );
            assert_eq!(error.reason.label(), label);
        }
    }

    #[tokio::test]
    async fn a_server_without_a_common_version_is_told() {
        let ca = Ca::new("My CA");
        let mut spec = spec();
        spec.min_version = TlsVersion::Tls13;
        let tls = client_tls(&spec, &credential(None, &[&ca.der], &[]));
        let (words, reason, _) = Server::with(&ca.leaf(HOST), &[&TLS12], None)
            .refusal(&tls)
            .await;
        assert_eq!(reason, HandshakeReason::Incompatible);
        assert!(words.ends_with("this upstream demands 1.3"), "{words}");
        // An old ServerHello: TLS 1.1 with a suite of that time.
        let hello: &[u8] = &[
            22, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
            16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 0, 0, 47, 0,
        ];
        let error = against(hello).await;
        let words = "the server speaks TLS 1.1 or older, which sortie does not (RFC 8996)";
        assert!(error.to_string().ends_with(words), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_wants_another_group_gets_it_in_a_second_hello() {
        let ca = Ca::new("My CA");
        let mut other = (*provider()).clone();
        other.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::SECP384R1];
        let server = Server::on(Arc::new(other), &ca.leaf(HOST), &[&TLS13], None);
        let met = server.meet(&trusting(&ca), HOST).await.0.unwrap();
        assert_eq!(met.facts.group, Some("secp384r1"));
    }

    /// TLS 1.2 tells during the handshake, TLS 1.3 after ours is done; the words are the same.
    async fn refused_by(server_ca: &Ca, client: Option<&Leaf>) -> [(String, Option<String>); 2] {
        let ca = Ca::new("My CA");
        let mut words = Vec::new();
        for version in [&TLS12, &TLS13] {
            let tls = client_tls(&spec(), &credential(client, &[&ca.der], &[]));
            let server = Server::with(&ca.leaf(HOST), &[version], Some(server_ca));
            let (met, seen) = server.meet(&tls, HOST).await;
            assert!(seen.is_err());
            match met {
                Err(error) => {
                    assert_eq!(error.reason, HandshakeReason::RefusedByPeer);
                    words.push((error.to_string(), None));
                }
                Ok(met) => {
                    let late = tls.explain_late(&met.echo.unwrap_err());
                    words.push((late.unwrap(), met.facts.shown.clone()));
                }
            }
        }
        words.try_into().unwrap()
    }

    #[tokio::test]
    async fn a_refused_certificate_of_ours_is_told_in_tls_1_2_and_after_the_handshake_in_1_3() {
        let wanted = Ca::new("Partner CA");
        let client = Ca::new("Shop CA").leaf("shop.example");
        let begin = "the server refused our client certificate (\"CN=shop.example\", \
                     /etc/client.pem): alert unknown_ca: it does not trust the CA that signed it \
                     (\"CN=Shop CA\"); it asked for one issued by \"CN=Partner CA\"";
        let [old, new] = refused_by(&wanted, Some(&client)).await;
        assert_eq!(old, (begin.to_owned(), None));
        assert_eq!(new, (begin.to_owned(), Some("CN=shop.example".to_owned())));
    }

    #[tokio::test]
    async fn a_missing_certificate_of_ours_is_told_in_both_versions() {
        for (words, shown) in refused_by(&Ca::new("Partner CA"), None).await {
            assert!(words.starts_with("the server demands a client certificate (alert "));
            assert!(
                words.ends_with(
                    "), and this upstream has none; set its certificate and key (TLS mode \
                     mutual); it asked for one issued by \"CN=Partner CA\""
                ),
                "{words}"
            );
            assert_eq!(shown, None);
        }
    }

    #[tokio::test]
    async fn an_end_that_is_no_alert_is_not_explained() {
        let tls = trusting(&Ca::new("My CA"));
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(tls.explain_late(&reset), None);
        let close = rustls::Error::AlertReceived(AlertDescription::CloseNotify);
        assert_eq!(tls.explain_late(&close), None);
        let other = rustls::Error::AlertReceived(AlertDescription::InternalError);
        let words = "the server ended the connection with the alert internal_error";
        assert!(tls.explain_late(&other).unwrap().starts_with(words));
    }

    #[test]
    fn labels_are_told_apart() {
        let labels = HandshakeReason::ALL.map(HandshakeReason::label);
        let all: std::collections::BTreeSet<_> = labels.into_iter().collect();
        assert_eq!(all.len(), HandshakeReason::ALL.len());
    }
}
