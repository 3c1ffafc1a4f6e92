//! Whether a server's certificate is accepted: chain, validity, purpose, revocation, name.
//!
//! Owns: [`Verifier`], the rules of ISTIO.md T7, T8, T10, and the alert that a refusal sends.
//! Never: puts a refusal into words (that is `explain`).
//! Called by: rustls during the handshake, `tls::connect` (names that are only warned of).
//!
//! Why not rustls' own verifier: it cannot leave the name to us, takes no certificate that is
//! listed itself (T10), lets an expired CA pass, and tells too little of a refusal.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, WantsClientCert};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{
    CertificateError, ConfigBuilder, DigitallySignedStruct, SignatureScheme, WantsVerifier,
};
use webpki::{EndEntityCert, Error, RawPublicKeyEntity};

use super::credential::Credential;
use super::facts::{CertFacts, San, parse};
use super::notes;
use super::sessions::Sessions;
use super::trust::seconds;
use crate::model::{NameCheck, TlsSpec};

/// The rules for the servers of one upstream.
#[derive(Debug)]
pub(super) struct Verifier {
    credential: Arc<Credential>,
    verify_chain: bool,
    name_check: NameCheck,
    alt_names: Vec<String>,
    algorithms: WebPkiSupportedAlgorithms,
    sessions: Arc<Sessions>,
}

/// A refused certificate.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The check that failed.
    pub(super) check: Check,
    /// The server's certificate, where it can be read.
    pub(super) leaf: Option<CertFacts>,
    /// The certificates that the server sent behind it, as far as they can be read.
    pub(super) sent: Vec<CertFacts>,
}

/// The checks that a certificate can fail.
#[derive(Debug)]
pub(super) enum Check {
    /// It is not a certificate that webpki can read.
    Unreadable(Error),
    /// A certificate of the chain is of X.509 version 1 (ISTIO.md W1).
    Version1,
    /// A CA certificate is shown as the server's own (W3).
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
    /// Extended key usage does not allow a TLS server.
    Purpose,
    /// Another name.
    Name(WrongName),
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

impl Verifier {
    pub(super) fn new(
        spec: &TlsSpec,
        credential: Arc<Credential>,
        algorithms: WebPkiSupportedAlgorithms,
        sessions: Arc<Sessions>,
    ) -> Verifier {
        Verifier {
            credential,
            verify_chain: spec.verify_chain,
            name_check: spec.name_check,
            alt_names: spec.subject_alt_names.clone(),
            algorithms,
            sessions,
        }
    }

    /// Puts the verifier into a configuration.
    pub(super) fn install(
        self: Arc<Self>,
        builder: ConfigBuilder<ClientConfig, WantsVerifier>,
    ) -> ConfigBuilder<ClientConfig, WantsClientCert> {
        builder.dangerous().with_custom_certificate_verifier(self)
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Check> {
        let trust = &self.credential.trust;
        let listed = self.credential.roots.certificates.contains(leaf);
        if listed && !trust.has_crls() {
            check_listed(leaf, seconds(now))?;
        } else {
            let certificate = EndEntityCert::try_from(leaf).map_err(unreadable)?;
            trust
                .check_chain(&certificate, sent, now, self.algorithms.all)
                .map_err(|error| match error {
                    Error::UnknownIssuer | Error::CaUsedAsEndEntity if listed => {
                        Check::ListedUnderRevocation
                    }
                    error => self.classify(error, leaf, sent),
                })?;
        }
        if self.name_check == NameCheck::Enforce
            && let Some(wrong) = self.wrong_name(leaf, name)
        {
            return Err(Check::Name(wrong));
        }
        Ok(())
    }

    fn classify(
        &self,
        error: Error,
        leaf: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
    ) -> Check {
        let chain = || std::iter::once(leaf).chain(sent);
        let facts = |der: &CertificateDer<'_>| CertFacts::read(der).ok();
        let trust = &self.credential.trust;
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

    /// What is wrong with the name of `leaf`, whatever the policy makes of it (T7 b to d, T8).
    pub(super) fn wrong_name(
        &self,
        leaf: &CertificateDer<'_>,
        name: &ServerName<'_>,
    ) -> Option<WrongName> {
        let certificate = EndEntityCert::try_from(leaf).ok();
        let names = |name: &ServerName<'_>| {
            certificate
                .as_ref()
                .is_some_and(|c| c.verify_is_valid_for_subject_name(name).is_ok())
        };
        if self.alt_names.is_empty() {
            return (!names(name)).then(|| WrongName {
                expected: vec![name.to_str().into_owned()],
                configured: false,
            });
        }
        let sans = parse(leaf).map(|c| CertFacts::of(&c).sans);
        let sans = sans.unwrap_or_default();
        let good = self.alt_names.iter().any(|wanted| {
            sans.iter().any(|san| is_literally(san, wanted))
                || ServerName::try_from(wanted.as_str()).is_ok_and(|name| names(&name))
        });
        (!good).then(|| WrongName {
            expected: self.alt_names.clone(),
            configured: true,
        })
    }
}

/// Names of all kinds compare literally, DNS names without regard to case (RFC 9525 section 6.3).
fn is_literally(san: &San, wanted: &str) -> bool {
    match san {
        San::Dns(name) => name.eq_ignore_ascii_case(wanted),
        San::Uri(text) | San::Email(text) => text == wanted,
        San::Ip(ip) => wanted.parse() == Ok(*ip),
    }
}

/// A certificate that the bundle lists itself needs no issuer (T10), but must be good otherwise.
fn check_listed(leaf: &CertificateDer<'_>, now: i64) -> Result<(), Check> {
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
        Ok(Some(usage)) if !usage.value.server_auth => Err(Check::Purpose),
        Ok(_) => Ok(()),
        Err(_) => Err(Check::Rule(Error::MalformedExtensions)),
    }
}

fn unreadable(error: Error) -> Check {
    match error {
        Error::UnsupportedCertVersion => Check::Version1,
        error => Check::Unreadable(error),
    }
}

/// The error that makes rustls send the alert of RFC 8446 section 6.2 for this check.
fn alert(check: &Check) -> CertificateError {
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
        Check::Name(_) => CertificateError::NotValidForName,
        Check::Unreadable(_) | Check::Rule(_) => CertificateError::BadEncoding,
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if !self.verify_chain {
            return Ok(ServerCertVerified::assertion());
        }
        if let Err(check) = self.check(leaf, sent, name, now) {
            let alert = alert(&check);
            let refusal = Refusal {
                check,
                leaf: CertFacts::read(leaf).ok(),
                sent: sent
                    .iter()
                    .filter_map(|der| CertFacts::read(der).ok())
                    .collect(),
            };
            notes::write(|notes| notes.refusal = Some(Box::new(refusal)));
            return Err(alert.into());
        }
        if let Ok(facts) = CertFacts::read(leaf) {
            self.sessions.accepted(name, facts.not_after);
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match version1_key(leaf) {
            Some(key) => self.check_with_key(message, &key, signed),
            None => verify_tls12_signature(message, leaf, signed, &self.algorithms),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match version1_key(leaf) {
            Some(key) => rustls::crypto::verify_tls13_signature_with_raw_key(
                message,
                &key,
                signed,
                &self.algorithms,
            ),
            None => verify_tls13_signature(message, leaf, signed, &self.algorithms),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl Verifier {
    /// TLS 1.2 with a bare key: every algorithm that the scheme may mean is tried.
    fn check_with_key(
        &self,
        message: &[u8],
        key: &SubjectPublicKeyInfoDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let bad = || rustls::Error::from(CertificateError::BadSignature);
        let key = RawPublicKeyEntity::try_from(key).map_err(|_| bad())?;
        let mapping = self.algorithms.mapping.iter();
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
