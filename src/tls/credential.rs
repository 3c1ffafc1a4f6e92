//! A chain, a key and roots that belong together, checked when made.
//!
//! Owns: the checks that a credential must pass (ISTIO.md R11), and the facts of its certificates.
//! Never: reads a file (that is `certs`), or looks at the clock (the store compares with the old).
//! Called by: `certs::store` (makes them), `tls::client_config` (uses them).
//!
//! Why some oddities only warn: the peer judges them, and Istio serves such pairs (S7).

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use x509_parser::certificate::X509Certificate;
use zeroize::Zeroize;

use super::facts::{CertFacts, CertificateError, parse};
use super::trust::Trust;

/// What a credential is made of, read but not yet checked.
pub struct CredentialParts {
    /// Resource name for logs and tables, such as `file-cert:a.crt~a.key` (ISTIO.md R1).
    pub name: String,
    /// Leaf first, and its key; `None` for a credential that only says whom to trust.
    pub identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    /// Whom to trust.
    pub roots: Roots,
    /// Revocation lists; empty: revocation is not checked.
    pub crls: Vec<CertificateRevocationListDer<'static>>,
    /// SHA-256 over all the bytes read.
    pub generation: Generation,
}

/// Hash of every byte that a credential was made from: two equal ones are the same credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Generation(pub [u8; 32]);

/// Trust anchors.
#[derive(Clone)]
pub struct Roots {
    /// `file-root:PATH` or `file-root:system` (ISTIO.md R1, T9).
    pub name: String,
    /// The certificates; intermediates and leaves count as anchors too (T10).
    pub certificates: Arc<Vec<CertificateDer<'static>>>,
}

/// Our own side of a handshake.
pub struct Identity {
    /// Chain and signing key.
    pub certified: Arc<CertifiedKey>,
    /// Facts of the leaf.
    pub leaf: CertFacts,
    /// Facts of the certificates behind the leaf, in the chain's order.
    pub issuers: Vec<CertFacts>,
}

/// One generation of chain, key, roots and revocation lists.
pub struct Credential {
    /// Resource name, see [`CredentialParts::name`].
    pub name: String,
    /// Hash of what it was made from.
    pub generation: Generation,
    /// What we show, if anything.
    pub identity: Option<Identity>,
    /// Whom we trust: only certificates that can be used as anchors.
    pub roots: Roots,
    /// Facts of the trust anchors that could be read, in the bundle's order.
    pub root_facts: Vec<CertFacts>,
    /// Revocation lists.
    pub crls: Vec<CertificateRevocationListDer<'static>>,
    /// What is odd but not refused (R11), in words, for the log.
    pub warnings: Vec<String>,
    /// Roots and revocation lists, parsed once for every upstream that shares the credential.
    pub(super) trust: Trust,
}

/// Why parts do not make a credential.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A certificate of our own chain cannot be read.
    #[error("certificate {index} of the chain cannot be read: {source}")]
    Certificate {
        /// Position in the file, from 1.
        index: usize,
        /// What is wrong with it.
        source: CertificateError,
    },
    /// The key does not belong to the leaf.
    #[error(
        "the key does not match the certificate (subject {subject}){}",
        match .elsewhere { Some(n) => format!("; it matches certificate {n} of the chain, and the leaf must come first"), None => String::new() }
    )]
    KeyMismatch {
        /// The first certificate's subject.
        subject: String,
        /// Position, from 1, of a later certificate that the key does match.
        elsewhere: Option<usize>,
    },
    /// The key is of a kind that cannot sign.
    #[error(
        "the key cannot be used ({0}); RSA of 2048 bits or more, ECDSA P-256, P-384, P-521 and Ed25519 can"
    )]
    UnsupportedKey(#[source] rustls::Error),
    /// No certificate in the chain.
    #[error("there is no certificate in it")]
    NoCertificate,
    /// No usable trust anchor.
    #[error("there is no usable CA certificate in it{}", match .refused { 0 => String::new(), n => format!(": all {n} were refused") })]
    NoRoots {
        /// How many there were that cannot be used.
        refused: usize,
    },
    /// A revocation list cannot be used.
    #[error("the revocation list cannot be used: {0}")]
    Crl(#[source] webpki::Error),
}

impl Credential {
    /// Checks that the parts belong together (R11). The key's bytes are wiped, whatever comes out.
    ///
    /// # Errors
    /// See [`CredentialError`]: an unreadable chain, a key of a wrong kind or of another
    /// certificate, no usable root, a revocation list that rustls cannot use.
    pub fn new(parts: CredentialParts) -> Result<Credential, CredentialError> {
        let mut warnings = Vec::new();
        let identity = parts
            .identity
            .map(|(chain, key)| identity(chain, key, &mut warnings));
        let identity = identity.transpose()?;
        let (roots, root_facts) = usable(parts.roots, &mut warnings)?;
        // A list that cannot be used must fail here, where the old generation can stay.
        let trust = Trust::new(&roots.certificates, &parts.crls).map_err(CredentialError::Crl)?;
        Ok(Credential {
            trust,
            name: parts.name,
            generation: parts.generation,
            identity,
            roots,
            root_facts,
            crls: parts.crls,
            warnings,
        })
    }

    /// True where both show, trust and revoke the same, however the files were written (R13).
    pub fn is_same_as(&self, other: &Credential) -> bool {
        let chain = |credential: &Credential| {
            let identity = credential.identity.as_ref();
            identity.map(|identity| identity.certified.cert.clone())
        };
        chain(self) == chain(other)
            && self.roots.certificates == other.roots.certificates
            && self.crls == other.crls
    }
}

impl fmt::Debug for Credential {
    /// Names and facts, never the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("name", &self.name)
            .field("leaf", &self.identity.as_ref().map(|i| &i.leaf))
            .field("roots", &self.roots)
            .field("crls", &self.crls.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Roots {
    /// The name and how many, since a bundle is long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.certificates.len())
    }
}

fn identity(
    chain: Vec<CertificateDer<'static>>,
    mut key: PrivateKeyDer<'static>,
    warnings: &mut Vec<String>,
) -> Result<Identity, CredentialError> {
    let signing = aws_lc_rs::sign::any_supported_type(&key);
    key.zeroize();
    let parsed = chain
        .iter()
        .enumerate()
        .map(|(at, der)| {
            parse(der).map_err(|source| CredentialError::Certificate {
                index: at + 1,
                source,
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let Some((leaf, issuers)) = parsed.split_first() else {
        return Err(CredentialError::NoCertificate);
    };
    let signing = signing.map_err(CredentialError::UnsupportedKey)?;
    let facts = CertFacts::of(leaf);
    if !belongs(signing.as_ref(), leaf) {
        let elsewhere = issuers.iter().position(|c| belongs(signing.as_ref(), c));
        return Err(CredentialError::KeyMismatch {
            subject: facts.subject,
            elsewhere: elsewhere.map(|at| at + 2),
        });
    }
    warn_of_leaf(leaf, &facts, warnings);
    warn_of_order(&parsed, warnings);
    let issuers = issuers.iter().map(CertFacts::of).collect();
    Ok(Identity {
        // Not `from_der`: it asks webpki, which refuses version 1 where the peer may not (W1).
        certified: Arc::new(CertifiedKey::new(chain, signing)),
        leaf: facts,
        issuers,
    })
}

fn belongs(key: &dyn SigningKey, certificate: &X509Certificate<'_>) -> bool {
    key.public_key()
        .is_some_and(|public| public.as_ref() == certificate.public_key().raw)
}

fn warn_of_leaf(leaf: &X509Certificate<'_>, facts: &CertFacts, warnings: &mut Vec<String>) {
    let subject = &facts.subject;
    if facts.version < 3 {
        warnings.push(format!(
            "the certificate (subject {subject}) is X.509 version {}, which strict servers refuse; \
             issue it again with extensions (openssl x509 -req -extfile FILE)",
            facts.version
        ));
    }
    if facts.is_ca {
        warnings.push(format!(
            "the certificate (subject {subject}) is marked as a CA, which strict servers refuse \
             as a client certificate"
        ));
    }
    if let Ok(Some(usage)) = leaf.extended_key_usage()
        && !(usage.value.client_auth || usage.value.any)
    {
        warnings.push(format!(
            "the extended key usage of the certificate (subject {subject}) does not contain \
             clientAuth, so servers will likely refuse it as a client certificate"
        ));
    }
}

fn warn_of_order(chain: &[X509Certificate<'_>], warnings: &mut Vec<String>) {
    for (at, pair) in chain.windows(2).enumerate() {
        let [below, above] = pair else { continue };
        if below.issuer().as_raw() != above.subject().as_raw() {
            warnings.push(format!(
                "certificate {} of the chain is not the issuer of certificate {}: write the leaf \
                 first, then each one's issuer",
                at + 2,
                at + 1
            ));
        }
    }
}

/// Keeps what webpki takes as an anchor (R5, T10; version 1 too), and says what it does not.
fn usable(
    roots: Roots,
    warnings: &mut Vec<String>,
) -> Result<(Roots, Vec<CertFacts>), CredentialError> {
    let mut kept = Vec::with_capacity(roots.certificates.len());
    let mut facts = Vec::with_capacity(roots.certificates.len());
    for (at, der) in roots.certificates.iter().enumerate() {
        match RootCertStore::empty().add(der.clone()) {
            Ok(()) => {
                facts.extend(CertFacts::read(der).ok());
                kept.push(der.clone());
            }
            Err(error) => warnings.push(format!(
                "certificate {} of {} is skipped: {error}",
                at + 1,
                roots.name
            )),
        }
    }
    let refused = roots.certificates.len() - kept.len();
    if kept.is_empty() {
        return Err(CredentialError::NoRoots { refused });
    }
    let certificates = match refused {
        0 => roots.certificates,
        _ => Arc::new(kept),
    };
    let name = roots.name;
    Ok((Roots { name, certificates }, facts))
}
