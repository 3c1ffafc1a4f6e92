//! Whether a chain of certificates is good, whoever shows it: issuer, validity, purpose, revocation.
//!
//! Owns: [`Rules`], [`Check`] and [`Refusal`], the rules of ISTIO.md T10 for both sides, and the alert that a
//! refusal sends.
//! Never: knows what a peer should be called (that is `verify` and `verify_client`), or puts a
//! refusal into words (that is `explain_certificate`).
//! Called by: `tls::verify`, `tls::verify_client`.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct};
use webpki::{EndEntityCert, Error, KeyUsage, RawPublicKeyEntity};

use super::credential::Credential;
use super::facts::{CertFacts, San, parse};
use super::known::{Good, Key, Known};
use super::notes;
use super::trust::{Trust, seconds};

/// Who shows the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// A server, to us as its client.
    Server,
    /// A client, to us as its server.
    Client,
}

/// A refused certificate.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The check that failed.
    pub(super) check: Check,
    /// The peer's certificate, where it can be read.
    pub(super) leaf: Option<CertFacts>,
    /// The certificates that the peer sent behind it, as far as they can be read.
    pub(super) sent: Vec<CertFacts>,
}

/// The checks that a certificate can fail.
#[derive(Debug)]
pub(super) enum Check {
    /// It is not a certificate that webpki can read.
    Unreadable(Error),
    /// A certificate of the chain is of X.509 version 1 (ISTIO.md W1).
    Version1,
    /// A CA certificate is shown as the peer's own (W3).
    CaAsLeaf,
    /// No chain leads to an anchor.
    UnknownIssuer,
    /// A signature in the chain does not fit the issuer's key.
    Signature,
    /// A certificate of the chain, or its anchor, ended at this second.
    Expired { until: i64, now: i64 },
    /// A certificate of the chain, or its anchor, begins at this second.
    NotYetValid { from: i64, now: i64 },
    /// A list names a certificate of the chain: its subject.
    Revoked { subject: Option<String> },
    /// No list covers a certificate of the chain: its issuer.
    NoRevocationList { issuer: Option<String> },
    /// The certificate is itself listed as trusted, and then no list can cover it.
    ListedUnderRevocation,
    /// The list that would cover the chain ended at this second.
    RevocationListExpired { until: i64, now: i64 },
    /// The list that would cover the chain cannot be used.
    RevocationListUnusable(Error),
    /// Extended key usage does not allow a TLS peer of this kind.
    Purpose,
    /// Another name.
    Name(WrongName),
    /// Neither its key nor itself is pinned (ISTIO.md G6): their SHA-256.
    Pin { spki: [u8; 32], hash: [u8; 32] },
    /// No SPIFFE name in one of these trust domains (ISTIO.md P12).
    TrustDomain { expected: Vec<Arc<str>> },
    /// Any other rule of RFC 5280.
    Rule(Error),
}

/// A name that the certificate lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WrongName {
    /// Any one of these would have done.
    pub(super) expected: Vec<String>,
    /// True where they come from `subject_alt_names` and not from the host.
    pub(super) configured: bool,
}

/// Whom one verifier accepts, names aside. Nothing of it changes, what is remembered apart.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) credential: Arc<Credential>,
    pub(super) peer: Peer,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    known: Known,
}

impl Rules {
    pub(super) fn new(
        credential: Arc<Credential>,
        peer: Peer,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Rules {
        Rules {
            credential,
            peer,
            algorithms,
            known: Known::default(),
        }
    }

    /// Whether `leaf` is good for such a peer, its name aside. `sent` came behind it. Tells when
    /// `leaf` ends, where that is known without reading it again.
    pub(super) fn check(
        &self,
        leaf: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Option<i64>, Check> {
        let at = seconds(now);
        // What is revoked is looked at every time.
        let key = (!self.credential.trust.has_crls()).then(|| Key::of(leaf, sent));
        if let Some(until) = key.and_then(|key| self.known.find(key, at)) {
            return Ok(Some(until));
        }
        let good = self.check_chain(leaf, sent, now)?;
        if let (Some(key), Some(good)) = (key, good) {
            self.known.remember(key, good, at);
        }
        Ok(good.map(|good| good.leaf_until))
    }

    fn check_chain(
        &self,
        leaf: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Option<Good>, Check> {
        let trust = &self.credential.trust;
        let listed = self.credential.roots.certificates.contains(leaf);
        if listed && !trust.has_crls() {
            return check_listed(leaf, self.peer, seconds(now)).map(|()| None);
        }
        let certificate = EndEntityCert::try_from(leaf).map_err(unreadable)?;
        let usage = match self.peer {
            Peer::Server => KeyUsage::server_auth(),
            Peer::Client => KeyUsage::client_auth(),
        };
        trust
            .check_chain(&certificate, sent, now, usage, self.algorithms.all)
            .map_err(|error| match error {
                Error::UnknownIssuer | Error::CaUsedAsEndEntity if listed => {
                    Check::ListedUnderRevocation
                }
                error => classify(trust, error, leaf, sent),
            })
    }
}

fn classify(
    trust: &Trust,
    error: Error,
    leaf: &CertificateDer<'_>,
    sent: &[CertificateDer<'_>],
) -> Check {
    let chain = || std::iter::once(leaf).chain(sent);
    let facts = |der: &CertificateDer<'_>| CertFacts::read(der).ok();
    match error {
        Error::UnsupportedCertVersion => Check::Version1,
        Error::CaUsedAsEndEntity => Check::CaAsLeaf,
        Error::UnknownIssuer => Check::UnknownIssuer,
        Error::InvalidSignatureForPublicKey => Check::Signature,
        Error::CertExpired { time, not_after } => Check::Expired {
            until: seconds(not_after),
            now: seconds(time),
        },
        Error::CertNotValidYet { time, not_before } => Check::NotYetValid {
            from: seconds(not_before),
            now: seconds(time),
        },
        Error::CertRevoked => Check::Revoked {
            subject: trust.revoked(chain()).and_then(facts).map(|f| f.subject),
        },
        Error::UnknownRevocationStatus => Check::NoRevocationList {
            issuer: trust.uncovered(chain()).and_then(facts).map(|f| f.issuer),
        },
        Error::CrlExpired { time, next_update } => Check::RevocationListExpired {
            until: seconds(next_update),
            now: seconds(time),
        },
        Error::InvalidCrlSignatureForPublicKey
        | Error::IssuerNotCrlSigner
        | Error::UnsupportedCrlSignatureAlgorithmContext(_)
        | Error::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_) => {
            Check::RevocationListUnusable(error)
        }
        Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => Check::Purpose,
        error => Check::Rule(error),
    }
}

/// A certificate that the bundle lists itself needs no issuer (T10), but must be good otherwise.
fn check_listed(leaf: &CertificateDer<'_>, peer: Peer, now: i64) -> Result<(), Check> {
    let certificate = parse(leaf).map_err(|_| Check::Unreadable(Error::BadDer))?;
    let facts = CertFacts::of(&certificate);
    if now < facts.not_before {
        let from = facts.not_before;
        return Err(Check::NotYetValid { from, now });
    }
    if now > facts.not_after {
        let until = facts.not_after;
        return Err(Check::Expired { until, now });
    }
    match certificate.extended_key_usage() {
        Ok(Some(usage)) => match peer {
            Peer::Server if usage.value.server_auth => Ok(()),
            Peer::Client if usage.value.client_auth => Ok(()),
            Peer::Server | Peer::Client => Err(Check::Purpose),
        },
        Ok(None) => Ok(()),
        Err(_) => Err(Check::Rule(Error::MalformedExtensions)),
    }
}

fn unreadable(error: Error) -> Check {
    match error {
        Error::UnsupportedCertVersion => Check::Version1,
        error => Check::Unreadable(error),
    }
}

/// Names of all kinds compare literally, DNS names without regard to case (RFC 9525 section 6.3).
pub(super) fn is_literally(san: &San, wanted: &str) -> bool {
    match san {
        San::Dns(name) => name.eq_ignore_ascii_case(wanted),
        San::Uri(text) | San::Email(text) => text == wanted,
        San::Ip(ip) => wanted.parse() == Ok(*ip),
    }
}

/// Notes the refusal for `explain`, and gives the error that makes rustls send its alert.
pub(super) fn refuse(
    check: Check,
    peer: Peer,
    leaf: &CertificateDer<'_>,
    sent: &[CertificateDer<'_>],
) -> rustls::Error {
    let alert = alert(&check, peer);
    let facts = |der: &CertificateDer<'_>| CertFacts::read(der).ok();
    let refusal = Refusal {
        check,
        leaf: facts(leaf),
        sent: sent.iter().filter_map(facts).collect(),
    };
    notes::write(|notes| notes.refusal = Some(Box::new(refusal)));
    alert.into()
}

/// The error that makes rustls send the alert of RFC 8446 section 6.2 for this check. A client
/// whose certificate is good, but not one of those that are let in, gets `access_denied`: "a valid
/// certificate was received, but when access control was applied, the sender decided not to
/// proceed".
fn alert(check: &Check, peer: Peer) -> CertificateError {
    match check {
        Check::UnknownIssuer | Check::ListedUnderRevocation => CertificateError::UnknownIssuer,
        Check::Signature => CertificateError::BadSignature,
        Check::Expired { .. } => CertificateError::Expired,
        Check::NotYetValid { .. } => CertificateError::NotValidYet,
        Check::Revoked { .. } => CertificateError::Revoked,
        Check::NoRevocationList { .. }
        | Check::RevocationListExpired { .. }
        | Check::RevocationListUnusable(_) => CertificateError::UnknownRevocationStatus,
        Check::Version1 | Check::CaAsLeaf | Check::Purpose => CertificateError::InvalidPurpose,
        Check::Name(_) if peer == Peer::Server => CertificateError::NotValidForName,
        Check::Name(_) | Check::Pin { .. } | Check::TrustDomain { .. } => {
            CertificateError::ApplicationVerificationFailure
        }
        Check::Unreadable(_) | Check::Rule(_) => CertificateError::BadEncoding,
    }
}

/// The proof of TLS 1.2 that the peer holds its key.
pub(super) fn check_proof12(
    algorithms: &WebPkiSupportedAlgorithms,
    message: &[u8],
    leaf: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    match version1_key(leaf) {
        Some(key) => check_with_key(algorithms, message, &key, signed),
        None => verify_tls12_signature(message, leaf, signed, algorithms),
    }
}

/// The proof of TLS 1.3 that the peer holds its key.
pub(super) fn check_proof13(
    algorithms: &WebPkiSupportedAlgorithms,
    message: &[u8],
    leaf: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    match version1_key(leaf) {
        Some(key) => verify_tls13_signature_with_raw_key(message, &key, signed, algorithms),
        None => verify_tls13_signature(message, leaf, signed, algorithms),
    }
}

/// TLS 1.2 with a bare key: every algorithm that the scheme may mean is tried.
fn check_with_key(
    algorithms: &WebPkiSupportedAlgorithms,
    message: &[u8],
    key: &SubjectPublicKeyInfoDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let bad = || rustls::Error::from(CertificateError::BadSignature);
    let key = RawPublicKeyEntity::try_from(key).map_err(|_| bad())?;
    let mapping = algorithms.mapping.iter();
    let algorithms = mapping.filter(|(scheme, _)| *scheme == signed.scheme);
    algorithms
        .flat_map(|(_, algorithms)| algorithms.iter())
        .find(|algorithm| {
            key.verify_signature(**algorithm, message, signed.signature())
                .is_ok()
        })
        .map(|_| HandshakeSignatureValid::assertion())
        .ok_or_else(bad)
}

/// The key of a version 1 certificate, which webpki does not read. It comes here only where the
/// chain is not verified, or where the certificate is listed itself.
fn version1_key(leaf: &CertificateDer<'_>) -> Option<SubjectPublicKeyInfoDer<'static>> {
    if !matches!(
        EndEntityCert::try_from(leaf),
        Err(Error::UnsupportedCertVersion)
    ) {
        return None;
    }
    let certificate = parse(leaf).ok()?;
    Some(certificate.public_key().raw.to_vec().into())
}
