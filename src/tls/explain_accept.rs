//! A failed handshake with a client in words: which check, what was expected, what came, what to do.
//!
//! Owns: [`AcceptError`], and the line that people read.
//! Never: verifies anything.
//! Called by: `tls::accept`.
//!
//! Why the words are made at once: they name files and certificates of the generation under which
//! the handshake failed, and a moment later there may be another.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, PeerIncompatible};

use super::alert;
use super::chain::Peer;
use super::explain::{Cause, HandshakeReason, clean};
use super::explain_certificate::{self, Ground};
use super::server_config::ServerTls;
use crate::model::TlsVersion;

/// A handshake with a client that failed. `Display` is one line in words, without its address.
#[derive(Debug, thiserror::Error)]
#[error("{words}")]
pub struct AcceptError {
    /// A word for metrics; part of their public contract. See [`HandshakeReason::label`].
    pub label: &'static str,
    words: String,
}

/// What happened, typed.
#[derive(Debug)]
pub(super) enum Failure {
    /// What a server's handshake can fail of as well.
    Common(Cause),
    /// The client showed no certificate, and one is demanded.
    NoCertificate,
    /// The ClientHello says another thing to rustls than it did when the entrance was chosen.
    TwoReadings {
        reason: HandshakeReason,
        what: &'static str,
        chosen: String,
        read: String,
    },
}

/// Makes the error: its label and its words.
pub(super) fn error(tls: &ServerTls, failure: &Failure) -> AcceptError {
    let (reason, words) = match failure {
        Failure::NoCertificate => (HandshakeReason::NoCertificate, no_certificate(tls)),
        Failure::TwoReadings {
            reason,
            what,
            chosen,
            read,
        } => (
            *reason,
            format!(
                "its ClientHello can be read in two ways: the entrance was chosen for {what} \
                 {chosen}, and the handshake would be for {read}"
            ),
        ),
        Failure::Common(cause) => common(tls, cause),
    };
    AcceptError {
        label: reason.label(),
        words,
    }
}

fn common(tls: &ServerTls, cause: &Cause) -> (HandshakeReason, String) {
    match cause {
        Cause::Refused(refusal) => {
            let (reason, what) = explain_certificate::words(tls.ground(), refusal);
            let whose = refusal.leaf.as_ref().map(|leaf| leaf.called());
            let whose = whose.map_or(String::new(), |subject| format!(" \"{subject}\""));
            (reason, format!("client certificate{whose}: {what}"))
        }
        Cause::KeyProof(error) => (
            HandshakeReason::BadCertificate,
            format!(
                "the client could not prove that it holds the key of the certificate that it shows \
                 ({error}); its certificate and its key do not belong together"
            ),
        ),
        Cause::OwnExpired { until, now } => (
            HandshakeReason::OwnExpired,
            explain_certificate::own_expired(tls.ground(), *until, *now),
        ),
        Cause::Alert(_, alert) => of_alert(tls, *alert),
        Cause::NotTls { head } => (
            HandshakeReason::NotTls,
            format!(
                "the client does not speak TLS: it sent \"{}\"",
                head.escape_ascii()
            ),
        ),
        Cause::Incompatible(error, what) => (
            HandshakeReason::Incompatible,
            format!(
                "the client and this entrance have no TLS in common: {}",
                in_common(tls, error, what)
            ),
        ),
        Cause::Closed { source, .. } => (HandshakeReason::Closed, closed(tls, source)),
        Cause::Protocol(error) => (HandshakeReason::Protocol, broke_rules(error)),
        // Not reached: only a client of ours can fail so.
        Cause::NotHttp2(_) | Cause::ServerName(_) | Cause::Unspecified => {
            (HandshakeReason::Protocol, "the handshake failed".to_owned())
        }
    }
}

fn broke_rules(error: &rustls::Error) -> String {
    format!(
        "the client broke the rules of TLS: {}",
        clean(&error.to_string())
    )
}

fn no_certificate(tls: &ServerTls) -> String {
    format!(
        "the client showed no certificate, and this entrance demands one that a CA in {} issued{}; \
         give the client one (TLS mode mutual, curl --cert), or let clients in without one",
        explain_certificate::ca(tls.ground()),
        explain_certificate::holds(tls.ground())
    )
}

fn in_common(tls: &ServerTls, error: &rustls::Error, what: &PeerIncompatible) -> String {
    use PeerIncompatible as P;
    use TlsVersion::{Tls12, Tls13};
    let named = match tls.spec.cipher_suites.is_empty() {
        true => "",
        false => " among those that this entrance names",
    };
    match (what, tls.spec.min_version, tls.spec.max_version) {
        (P::Tls12NotOffered | P::SupportedVersionsExtensionRequired, Tls13, _)
        | (P::Tls12NotOfferedOrEnabled, Tls13, _) => {
            "this entrance demands TLS 1.3 and the client speaks 1.2 at most; lower its least \
             version"
                .to_owned()
        }
        (P::Tls12NotOfferedOrEnabled, _, Tls12) => {
            "this entrance speaks TLS 1.2 at most and the client demands 1.3; raise its greatest \
             version"
                .to_owned()
        }
        (
            P::Tls12NotOffered
            | P::Tls12NotOfferedOrEnabled
            // TLS 1.1 knows no such extension.
            | P::SignatureAlgorithmsExtensionRequired,
            Tls12,
            _,
        ) => {
            "the client speaks TLS 1.1 or older, which sortie does not (RFC 8996)".to_owned()
        }
        (P::NoCipherSuitesInCommon, ..) => format!(
            "no cipher suite{named} that suits the key of our certificate ({}); sortie speaks \
             those with ECDHE and authenticated encryption",
            tls.kinds()
        ),
        (P::NoSignatureSchemesInCommon, ..) => format!(
            "it accepts no signature that the key of our certificate ({}) can make; give this \
             entrance a certificate of another kind as well",
            tls.kinds()
        ),
        (P::NoKxGroupsInCommon, ..) => {
            "no group for the key exchange (sortie has X25519MLKEM768, X25519, P-256 and P-384)"
                .to_owned()
        }
        _ => clean(&error.to_string()),
    }
}

fn closed(tls: &ServerTls, source: &io::Error) -> String {
    let how = match source.kind() {
        io::ErrorKind::UnexpectedEof => "closed the connection".to_owned(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            "reset the connection".to_owned()
        }
        _ => format!("was lost ({source})"),
    };
    format!(
        "the client {how} in the middle of the handshake; it may not accept our certificate ({})",
        tls.ours()
    )
}

fn of_alert(tls: &ServerTls, alert: AlertDescription) -> (HandshakeReason, String) {
    use AlertDescription as A;
    let name = alert::name(alert);
    let Some(meaning) = alert::about_certificate(alert).filter(|_| is_of_ours(alert)) else {
        let reason = match alert {
            A::HandshakeFailure | A::ProtocolVersion | A::InsufficientSecurity => {
                HandshakeReason::Incompatible
            }
            _ => HandshakeReason::Alert,
        };
        return (
            reason,
            format!(
                "the client ended the handshake with the alert {name}: {}",
                alert::client_means(alert)
            ),
        );
    };
    let mut words = format!(
        "the client refused our certificate ({}): alert {name}: {meaning}",
        tls.ours()
    );
    let leaf = tls.credential.identity.as_ref().map(|i| &i.leaf);
    match (alert, leaf) {
        (A::UnknownCA, Some(leaf)) => words.push_str(&format!(
            " (\"{}\"); give the client that CA (curl --cacert), or put what is missing between \
             the two behind our certificate",
            leaf.issuer
        )),
        // Clients that find another name than they asked for have no alert of their own for it.
        (A::BadCertificate | A::CertificateUnknown, Some(leaf)) => {
            let names: Vec<_> = leaf.sans.iter().take(5).map(ToString::to_string).collect();
            words.push_str(&format!(
                "; or it meant another name than those in it: {}",
                clean(&names.join(", "))
            ));
        }
        _ => {}
    }
    (HandshakeReason::RefusedByPeer, words)
}

/// A client demands no certificate of ours: we show one anyway.
fn is_of_ours(alert: AlertDescription) -> bool {
    !matches!(
        alert,
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate
    )
}

impl ServerTls {
    pub(super) fn ground(&self) -> Ground<'_> {
        Ground {
            credential: &self.credential,
            sources: &self.spec.credential,
            peer: Peer::Client,
        }
    }

    /// Subject and source of the certificate that we prefer to show.
    fn ours(&self) -> String {
        let identity = self.credential.identity.as_ref();
        let subject = identity.map(|identity| identity.leaf.called());
        let source = self.spec.credential.identity.as_ref();
        format!(
            "\"{}\", {}",
            subject.unwrap_or_default(),
            source.map_or_else(|| "-".to_owned(), ToString::to_string)
        )
    }

    /// The kinds of our keys.
    fn kinds(&self) -> String {
        let all = std::iter::once(&self.credential).chain(&self.more);
        let identities = all.filter_map(|credential| credential.identity.as_ref());
        let kinds: Vec<_> = identities
            .map(|identity| format!("{:?}", identity.certified.key.algorithm()))
            .collect();
        kinds.join(", ")
    }

    /// A failure that came after the handshake, in words, where the client sent an alert: it walks
    /// the sources of `error`; `None` where no alert is among them.
    pub fn explain_late(error: &(dyn Error + 'static)) -> Option<String> {
        let alert = alert::alert_in(error).filter(|a| *a != AlertDescription::CloseNotify)?;
        let meaning = alert::about_certificate(alert).filter(|_| is_of_ours(alert));
        Some(format!(
            "the client ended the connection with the alert {}: {}",
            alert::name(alert),
            meaning.unwrap_or_else(|| alert::client_means(alert))
        ))
    }
}

#[cfg(test)]
mod tests {
    use rcgen::date_time_ymd;
    use rustls::version::{TLS12, TLS13};

    use super::super::testing::*;
    use super::super::testing_client::*;
    use crate::model::{ClientCertificates, ServerTlsSpec};

    /// Both versions: words begin so, end so, the label, and the alert that the client saw.
    async fn refuses(
        spec: &ServerTlsSpec,
        trusted: &Ca,
        client: Option<&Leaf>,
        (begin, end): (&str, &str),
        (label, alert): (&str, &str),
    ) {
        let ours = Ca::new("Our CA");
        let tls = entrance(spec, &ours.leaf(HOST), trusted);
        for version in [&TLS12, &TLS13] {
            let meeting = Client::with(&ours, client, &[version]).meet(&tls).await;
            let (words, found, came) = meeting.refusal();
            assert!(words.starts_with(begin), "{words}");
            assert!(words.ends_with(end), "{words}");
            assert!(!words.contains('\n'), "{words}");
            assert_eq!((found, came.as_str()), (label, alert), "{words}");
        }
    }

    fn required() -> ServerTlsSpec {
        server_spec(ClientCertificates::Required)
    }

    #[tokio::test]
    async fn a_client_of_another_ca_is_refused_in_words() {
        let ca = Ca::new("Client CA");
        let stranger = Ca::new("Other CA").leaf("shop.example");
        let begin = "client certificate \"CN=shop.example\": no chain to a CA in /etc/ca.pem; it was \
                     issued by \"CN=Other CA\"; the client sent no intermediate certificate; it \
                     holds \"CN=Client CA\"; put the issuer's";
        let words = (begin, "into that file");
        refuses(
            &required(),
            &ca,
            Some(&stranger),
            words,
            ("unknown_ca", "unknown_ca"),
        )
        .await;
    }

    #[tokio::test]
    async fn a_client_whose_certificate_has_ended_is_refused_in_words() {
        let ca = Ca::new("Client CA");
        let old = ca.leaf_with("shop.example", |params| {
            params.not_after = date_time_ymd(2020, 1, 1);
        });
        let begin = "client certificate \"CN=shop.example\": \"CN=shop.example\" expired at \
                     2020-01-01T00:00:00Z, and it is 2";
        let words = (begin, "a new one is needed there");
        refuses(
            &required(),
            &ca,
            Some(&old),
            words,
            ("expired", "certificate_expired"),
        )
        .await;
    }
}
