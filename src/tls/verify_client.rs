//! Whether a client's certificate is accepted: its chain, and whether it is one of those let in.
//!
//! Owns: [`ClientVerifier`], and the rules of ISTIO.md G6 and P12.
//! Never: puts a refusal into words (that is `explain_accept`).
//! Called by: rustls during the handshake.
//!
//! Why not rustls' own verifier: it takes no certificate that is listed itself (T10), lets an
//! expired CA pass, knows nothing of names and pins, and tells too little of a refusal.

use std::sync::Arc;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use webpki::Error;

use super::chain::{self, Check, Peer, WrongName, is_literally};
use super::credential::Credential;
use super::facts::{CertFacts, San, parse, sha256};
use super::notes;
use crate::model::{CaSource, ClientCertificates, ServerTlsSpec};

/// Bytes of CA names that a client is told at most. A longer list is left out, which means "any"
/// (RFC 8446 section 4.3.2): the operating system's store would be a flight of its own.
const MOST_HINTS: usize = 8 * 1024;

/// The rules for the clients of one entrance.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    credential: Arc<Credential>,
    mandatory: bool,
    alt_names: Vec<String>,
    spki_pins: Vec<[u8; 32]>,
    hash_pins: Vec<[u8; 32]>,
    trust_domains: Vec<Arc<str>>,
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientVerifier {
    pub(super) fn new(
        spec: &ServerTlsSpec,
        credential: Arc<Credential>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> ClientVerifier {
        ClientVerifier {
            mandatory: spec.clients == ClientCertificates::Required,
            alt_names: spec.subject_alt_names.clone(),
            spki_pins: spec.spki_pins.clone(),
            hash_pins: spec.hash_pins.clone(),
            trust_domains: spec.trust_domains.clone(),
            hints: match spec.credential.ca {
                CaSource::System => Vec::new(),
                CaSource::File(_) | CaSource::Secret(_) | CaSource::Nothing => hints(&credential),
            },
            credential,
            algorithms,
        }
    }

    /// All checks; what the certificate says, where it is good.
    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<CertFacts, Check> {
        chain::check(
            &self.credential,
            Peer::Client,
            leaf,
            sent,
            now,
            &self.algorithms,
        )?;
        // What nobody can tell the application of must not get in.
        let certificate = parse(leaf).map_err(|_| Check::Unreadable(Error::BadDer))?;
        let facts = CertFacts::of(&certificate);
        self.check_names(&facts)?;
        self.check_pins(leaf, certificate.public_key().raw)?;
        Ok(facts)
    }

    fn check_names(&self, facts: &CertFacts) -> Result<(), Check> {
        let named = |wanted: &String| facts.sans.iter().any(|san| is_literally(san, wanted));
        if !self.alt_names.is_empty() && !self.alt_names.iter().any(named) {
            return Err(Check::Name(WrongName {
                expected: self.alt_names.clone(),
                configured: true,
            }));
        }
        let known = |san: &San| match san {
            San::Uri(uri) => trust_domain(uri)
                .is_some_and(|domain| self.trust_domains.iter().any(|known| **known == *domain)),
            San::Dns(_) | San::Ip(_) | San::Email(_) => false,
        };
        if !self.trust_domains.is_empty() && !facts.sans.iter().any(known) {
            let expected = self.trust_domains.clone();
            return Err(Check::TrustDomain { expected });
        }
        Ok(())
    }

    /// With both lists one of either will do, as in Envoy (ISTIO.md G6).
    fn check_pins(&self, leaf: &CertificateDer<'_>, key: &[u8]) -> Result<(), Check> {
        if self.spki_pins.is_empty() && self.hash_pins.is_empty() {
            return Ok(());
        }
        let (spki, hash) = (sha256(key), sha256(leaf));
        match self.spki_pins.contains(&spki) || self.hash_pins.contains(&hash) {
            true => Ok(()),
            false => Err(Check::Pin { spki, hash }),
        }
    }
}

/// The trust domain of a SPIFFE name that has a path, as every workload's has.
fn trust_domain(uri: &str) -> Option<&str> {
    let (domain, _) = uri.strip_prefix("spiffe://")?.split_once('/')?;
    Some(domain)
}

/// What clients are told of whom we trust, so that those with several certificates can choose.
/// Of a certificate that is trusted by itself (T10) its issuer is told as well: clients compare
/// the names with the issuers in their chains.
fn hints(credential: &Credential) -> Vec<DistinguishedName> {
    let mut names: Vec<DistinguishedName> = Vec::new();
    for der in credential.roots.certificates.iter() {
        let Ok(certificate) = parse(der) else {
            continue;
        };
        let issuer = (!certificate.is_ca()).then(|| certificate.issuer().as_raw());
        for name in [certificate.subject().as_raw()].into_iter().chain(issuer) {
            let name = DistinguishedName::from(name.to_vec());
            if !names.iter().any(|known| known.as_ref() == name.as_ref()) {
                names.push(name);
            }
        }
    }
    let size: usize = names.iter().map(|name| name.as_ref().len() + 2).sum();
    match size <= MOST_HINTS {
        true => names,
        false => Vec::new(),
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let facts = self
            .check(leaf, sent, now)
            .map_err(|check| chain::refuse(check, Peer::Client, leaf, sent))?;
        let lists = self.credential.crl_facts.iter();
        let until = lists.filter_map(|list| list.next_update).min();
        let until = facts.not_after.min(until.unwrap_or(i64::MAX));
        notes::write(|notes| notes.until = Some(until));
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        chain::check_proof12(&self.algorithms, message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        chain::check_proof13(&self.algorithms, message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
