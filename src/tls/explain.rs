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
use super::client_config::ClientTls;
use super::connect::Alpn;
use super::explain_certificate;
use super::facts::rfc4514;
use super::notes::Notes;
use super::verify::{Check, Refusal};
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
    pub const ALL: [HandshakeReason; 15] = [
        HandshakeReason::San,
        HandshakeReason::UnknownCa,
        HandshakeReason::Expired,
        HandshakeReason::NotYetValid,
        HandshakeReason::Revoked,
        HandshakeReason::RevocationUnknown,
        HandshakeReason::BadCertificate,
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
            Cause::OwnExpired { .. } | Cause::NotTls { .. } | Cause::NotHttp2(_) => None,
        }
    }
}

/// Sorts what tokio-rustls returned; `head` is what the peer sent first.
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
        Cause::Refused(refusal) => explain_certificate::words(tls, server, refusal),
        Cause::KeyProof(error) => (
            HandshakeReason::BadCertificate,
            format!(
                "{server} could not prove that it holds the key of the certificate that it shows \
                 ({error}); certificate and key of that server do not belong together"
            ),
        ),
        Cause::OwnExpired { until, now } => (
            HandshakeReason::OwnExpired,
            explain_certificate::own_expired(tls, *until, *now),
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
        (Some(identity), Some((file, _))) if shown => {
            let meaning = alert::about_certificate(alert).unwrap_or_else(|| alert::meaning(alert));
            let mut words = format!(
                "the server refused our client certificate (\"{}\", {}): alert {name}: {meaning}",
                identity.leaf.subject,
                file.display()
            );
            if alert == AlertDescription::UnknownCA {
                words.push_str(&format!(" (\"{}\")", identity.leaf.issuer));
            }
            words
        }
        (Some(_), Some((file, _))) => format!(
            "the server demands a client certificate (alert {name}), and it accepts no signature \
             that the key of {} can make",
            file.display()
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
