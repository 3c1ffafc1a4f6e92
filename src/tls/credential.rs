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

use super::facts::{CertFacts, CertificateError, CrlFacts, parse};
use super::trust::Trust;
use crate::model::Uses;

/// What a credential is made of, read but not yet checked.
pub struct CredentialParts {
    /// Resource name for logs and tables, such as `file-cert:a.crt~a.key` (ISTIO.md R1).
    pub name: String,
    /// Leaf first, and its key; `None` for a credential that only says whom to trust.
    pub identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    /// Whom to trust; `None` where the policy verifies nothing (T7 a).
    pub roots: Option<Roots>,
    /// Revocation lists; empty: revocation is not checked.
    pub crls: Vec<CertificateRevocationListDer<'static>>,
    /// SHA-256 over all the bytes read.
    pub generation: Generation,
    /// Whom the certificate is shown to: what is odd depends on it.
    pub uses: Uses,
}

/// Hash of every byte that a credential was made from: two equal ones are the same credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Generation(pub [u8; 32]);

/// Trust anchors.
#[derive(Clone, Default)]
pub struct Roots {
    /// `file-root:PATH`, `file-root:system` or `kubernetes://name-cacert` (ISTIO.md R1, T9).
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
    /// Whom we trust: only certificates that can be used as anchors. None at all where the policy
    /// verifies nothing; a policy that does verify accepts nobody then.
    pub roots: Roots,
    /// Facts of the trust anchors that could be read, in the bundle's order.
    pub root_facts: Vec<CertFacts>,
    /// Revocation lists.
    pub crls: Vec<CertificateRevocationListDer<'static>>,
    /// Facts of those lists that tell them, in the file's order.
    pub crl_facts: Vec<CrlFacts>,
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
    /// Where there are lists, only a certificate that issued itself is an anchor (T10).
    #[error(
        "with a revocation list a root is needed, that is a CA certificate that issued itself, \
         and there is none in it"
    )]
    NoSelfIssuedRoot,
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
            .map(|(chain, key)| identity(chain, key, parts.uses, &mut warnings));
        let identity = identity.transpose()?;
        let (roots, root_facts) = match parts.roots {
            Some(roots) => usable(roots, &mut warnings)?,
            None => (Roots::default(), Vec::new()),
        };
        let nothing = roots.certificates.is_empty();
        // A list that cannot be used must fail here, where the old generation can stay.
        let trust = Trust::new(&roots.certificates, &parts.crls).map_err(CredentialError::Crl)?;
        if !trust.has_anchors() && !nothing {
            return Err(CredentialError::NoSelfIssuedRoot);
        }
        Ok(Credential {
            trust,
            name: parts.name,
            generation: parts.generation,
            identity,
            roots,
            root_facts,
            crl_facts: parts.crls.iter().filter_map(CrlFacts::read).collect(),
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
    uses: Uses,
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
    warn_of_leaf(leaf, &facts, uses, warnings);
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

fn warn_of_leaf(
    leaf: &X509Certificate<'_>,
    facts: &CertFacts,
    uses: Uses,
    warnings: &mut Vec<String>,
) {
    let subject = &facts.subject;
    let peers = match (uses.client, uses.server) {
        (true, true) => "strict peers refuse",
        (false, true) => "strict clients refuse",
        (_, false) => "strict servers refuse",
    };
    if facts.version < 3 {
        warnings.push(format!(
            "the certificate (subject {subject}) is X.509 version {}, which {peers}; issue it \
             again with extensions (openssl x509 -req -extfile FILE)",
            facts.version
        ));
    }
    if facts.is_ca {
        let role = match (uses.client, uses.server) {
            (true, true) => "certificate of a client or a server",
            (false, true) => "server certificate",
            (_, false) => "client certificate",
        };
        warnings.push(format!(
            "the certificate (subject {subject}) is marked as a CA, which {peers} as a {role}"
        ));
    }
    let Ok(Some(usage)) = leaf.extended_key_usage() else {
        return;
    };
    for (shown, allowed, word, peers, role) in [
        (
            uses.client,
            usage.value.client_auth,
            "clientAuth",
            "servers",
            "client",
        ),
        (
            uses.server,
            usage.value.server_auth,
            "serverAuth",
            "clients",
            "server",
        ),
    ] {
        if shown && !(allowed || usage.value.any) {
            warnings.push(format!(
                "the extended key usage of the certificate (subject {subject}) does not contain \
                 {word}, so {peers} will likely refuse it as a {role} certificate"
            ));
        }
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

#[cfg(test)]
mod tests {
    use rcgen::ExtendedKeyUsagePurpose;
    use rustls::pki_types::{PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};

    use super::*;
    use crate::certs::tests::{Ca, Leaf, Pair};

    fn parts(chain: Vec<Vec<u8>>, key: PrivateKeyDer<'static>) -> CredentialParts {
        let ca = Ca::new("ca");
        CredentialParts {
            name: "file-cert:a~b".into(),
            identity: Some((chain.into_iter().map(CertificateDer::from).collect(), key)),
            roots: Some(roots(vec![ca.der()])),
            crls: Vec::new(),
            generation: Generation([0; 32]),
            uses: Uses::CLIENT,
        }
    }

    fn roots(certificates: Vec<Vec<u8>>) -> Roots {
        Roots {
            name: "file-root:ca".into(),
            certificates: Arc::new(certificates.into_iter().map(Into::into).collect()),
        }
    }

    fn pkcs8(pair: &Pair) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(pair.key_der.clone()).into()
    }

    fn made(chain: Vec<Vec<u8>>, pair: &Pair) -> Credential {
        Credential::new(parts(chain, pkcs8(pair))).unwrap()
    }

    /// One DER value: tag, content, what follows it.
    fn value(bytes: &[u8]) -> (u8, &[u8], &[u8]) {
        let (length, head) = match bytes[1] {
            short @ 0..=0x7f => (usize::from(short), 2),
            0x81 => (usize::from(bytes[2]), 3),
            _ => (usize::from(bytes[2]) << 8 | usize::from(bytes[3]), 4),
        };
        (
            bytes[0],
            &bytes[head..head + length],
            &bytes[head + length..],
        )
    }

    fn sequence(content: &[u8]) -> Vec<u8> {
        let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
        let head = match (high, low) {
            (0, 0x80..) => vec![0x30, 0x81, low],
            _ => vec![0x30, 0x82, high, low],
        };
        [&head, content].concat()
    }

    /// The same certificate without version and extensions; nobody looks at its signature.
    fn version_1(der: &[u8]) -> Vec<u8> {
        let (_, certificate, _) = value(der);
        let (_, mut tbs, signature) = value(certificate);
        let mut kept = Vec::new();
        while !tbs.is_empty() {
            let (tag, _, rest) = value(tbs);
            if tag < 0xa0 {
                kept.extend_from_slice(&tbs[..tbs.len() - rest.len()]);
            }
            tbs = rest;
        }
        sequence(&[&sequence(&kept), signature].concat())
    }

    /// The key inside a PKCS#8 wrapper (RFC 5958): version, algorithm, octet string.
    fn inner(pkcs8: &[u8]) -> Vec<u8> {
        let (_, wrapper, _) = value(pkcs8);
        let (_, _, rest) = value(wrapper);
        let (_, _, rest) = value(rest);
        value(rest).1.to_vec()
    }

    #[test]
    fn a_pair_that_belongs_together_is_taken_without_a_warning() {
        for key in [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ECDSA_P521_SHA512,
            &rcgen::PKCS_ED25519,
            &rcgen::PKCS_RSA_SHA256,
        ] {
            let pair = Ca::new("ca").leaf(Leaf {
                key,
                ..Leaf::default()
            });
            let credential = made(vec![pair.der.clone()], &pair);
            assert_eq!(credential.warnings, Vec::<String>::new());
            let identity = credential.identity.unwrap();
            identity.certified.keys_match().unwrap();
            assert_eq!(identity.leaf.subject, "O=Test,CN=client");
        }
    }

    #[test]
    fn w7_pkcs1_and_sec1_keys_are_taken() {
        let ca = Ca::new("ca");
        let rsa = ca.leaf(Leaf {
            key: &rcgen::PKCS_RSA_SHA256,
            ..Leaf::default()
        });
        let key = PrivatePkcs1KeyDer::from(inner(&rsa.key_der));
        Credential::new(parts(vec![rsa.der], key.into())).unwrap();
        let ec = ca.leaf(Leaf::default());
        let key = PrivateSec1KeyDer::from(inner(&ec.key_der));
        Credential::new(parts(vec![ec.der], key.into())).unwrap();
    }

    #[test]
    fn r11_a_key_of_another_pair_is_refused() {
        let ca = Ca::new("ca");
        let (a, b) = (ca.leaf(Leaf::default()), ca.leaf(Leaf::default()));
        let error = Credential::new(parts(vec![a.der], pkcs8(&b))).unwrap_err();
        let expected = "the key does not match the certificate (subject O=Test,CN=client)";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn r11_a_leaf_behind_its_issuer_is_pointed_out() {
        let ca = Ca::new("ca");
        let pair = ca.leaf(Leaf::default());
        let chain = vec![ca.der(), pair.der.clone()];
        let error = Credential::new(parts(chain, pkcs8(&pair))).unwrap_err();
        assert!(matches!(
            error,
            CredentialError::KeyMismatch {
                elsewhere: Some(2),
                ..
            }
        ));
    }

    #[test]
    fn r11_a_key_that_cannot_sign_is_refused_with_those_that_can() {
        let pair = Ca::new("ca").leaf(Leaf::default());
        let key = PrivatePkcs8KeyDer::from(vec![0x30, 0x00]);
        let error = Credential::new(parts(vec![pair.der], key.into())).unwrap_err();
        assert!(matches!(error, CredentialError::UnsupportedKey(_)));
        assert!(error.to_string().ends_with("Ed25519 can"));
    }

    #[test]
    fn r11_a_chain_that_is_no_certificate_is_refused_by_position() {
        let pair = Ca::new("ca").leaf(Leaf::default());
        let chain = vec![pair.der.clone(), b"garbage".to_vec()];
        let error = Credential::new(parts(chain, pkcs8(&pair))).unwrap_err();
        assert!(matches!(
            error,
            CredentialError::Certificate { index: 2, .. }
        ));
        let mut long = pair.der.clone();
        long.push(0);
        let error = Credential::new(parts(vec![long], pkcs8(&pair))).unwrap_err();
        assert!(error.to_string().ends_with("1 stray bytes follow it"));
        let error = Credential::new(parts(vec![], pkcs8(&pair))).unwrap_err();
        assert!(matches!(error, CredentialError::NoCertificate));
    }

    #[test]
    fn r11_oddities_that_the_peer_judges_are_warnings() {
        let ca = Ca::new("ca");
        let odd = ca.leaf(Leaf {
            is_ca: true,
            usage: vec![ExtendedKeyUsagePurpose::ServerAuth],
            ..Leaf::default()
        });
        let other = Ca::new("another");
        let credential = made(vec![odd.der.clone(), other.der(), ca.der()], &odd);
        let warnings = credential.warnings.join("\n");
        for words in [
            "marked as a CA",
            "does not contain clientAuth",
            "certificate 2 of the chain is not the issuer of certificate 1",
            "certificate 3 of the chain is not the issuer of certificate 2",
        ] {
            assert!(warnings.contains(words), "{words}: {warnings}");
        }
        assert_eq!(credential.warnings.len(), 4);
    }

    #[test]
    fn r11_a_certificate_is_warned_of_by_whom_it_is_shown_to() {
        use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
        let ca = Ca::new("ca");
        let both = Uses::CLIENT.and(Uses::SERVER);
        for (usage, uses, words) in [
            (ServerAuth, Uses::SERVER, &[][..]),
            (ClientAuth, Uses::CLIENT, &[]),
            (ServerAuth, Uses::CLIENT, &["clientAuth, so servers will"]),
            (ClientAuth, Uses::SERVER, &["serverAuth, so clients will"]),
            (ServerAuth, both, &["clientAuth, so servers will"]),
            (ClientAuth, both, &["serverAuth, so clients will"]),
        ] {
            let pair = ca.leaf(Leaf {
                usage: vec![usage],
                ..Leaf::default()
            });
            let mut parts = parts(vec![pair.der.clone()], pkcs8(&pair));
            parts.uses = uses;
            let warnings = Credential::new(parts).unwrap().warnings;
            assert_eq!(warnings.len(), words.len(), "{warnings:?}");
            for (warning, words) in warnings.iter().zip(words) {
                assert!(warning.contains(words), "{warning}");
            }
        }
    }

    #[test]
    fn w1_a_version_1_leaf_is_taken_and_named_as_such() {
        let pair = Ca::new("ca").leaf(Leaf::default());
        let credential = made(vec![version_1(&pair.der)], &pair);
        assert_eq!(credential.identity.unwrap().leaf.version, 1);
        let warning = &credential.warnings[0];
        assert!(warning.contains("X.509 version 1"), "{warning}");
    }

    #[test]
    fn w1_a_version_1_anchor_is_an_anchor() {
        let mut parts = parts(Vec::new(), PrivatePkcs8KeyDer::from(Vec::new()).into());
        parts.identity = None;
        parts.roots = Some(roots(vec![version_1(&Ca::new("old").der())]));
        let credential = Credential::new(parts).unwrap();
        assert_eq!(credential.roots.certificates.len(), 1);
        assert_eq!(credential.root_facts[0].version, 1);
    }

    #[test]
    fn r5_anchors_that_cannot_be_used_are_skipped_unless_none_is_left() {
        let pair = Ca::new("ca").leaf(Leaf::default());
        let with = |certificates| {
            let mut parts = parts(vec![pair.der.clone()], pkcs8(&pair));
            parts.roots = Some(roots(certificates));
            Credential::new(parts)
        };
        // A leaf is an anchor too (T10).
        let credential = with(vec![b"x".to_vec(), pair.der.clone()]).unwrap();
        assert_eq!(credential.roots.certificates.len(), 1);
        assert!(credential.warnings[0].starts_with("certificate 1 of file-root:ca is skipped"));
        let error = with(vec![b"x".to_vec()]).unwrap_err();
        assert!(matches!(error, CredentialError::NoRoots { refused: 1 }));
    }

    #[test]
    fn t10_a_revocation_list_without_a_root_is_refused_before_it_is_served() {
        let ca = Ca::new("ca");
        let pair = ca.leaf(Leaf::default());
        let mut parts = parts(vec![pair.der.clone()], pkcs8(&pair));
        parts.roots = Some(roots(vec![pair.der.clone()]));
        parts.crls = vec![ca.crl(1).der().clone()];
        let error = Credential::new(parts).unwrap_err();
        assert!(matches!(error, CredentialError::NoSelfIssuedRoot));
    }

    #[test]
    fn r19_debug_shows_names_and_never_a_key() {
        let pair = Ca::new("ca").leaf(Leaf::default());
        let text = format!("{:?}", made(vec![pair.der.clone()], &pair));
        assert!(text.contains("CN=client") && text.contains("file-root:ca (1)"));
        assert!(!text.contains("key"), "{text}");
    }
}
