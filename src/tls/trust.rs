//! Whom a credential trusts, parsed once for all upstreams that share the credential.
//!
//! Owns: trust anchors, the certificates that may stand between, and the revocation lists.
//! Never: decides about a peer (that is `chain`).
//! Called by: `tls::credential` (makes it), `tls::chain` (asks it).
//!
//! Why fewer anchors where there are revocation lists: a certificate is not checked for revocation
//! once it counts as an anchor. With lists every certificate of a chain must be covered
//! (CHECK_ALL, ISTIO.md T10), so only self-issued ones stay anchors then, and the others of the
//! bundle help to build the chain.

use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, SignatureVerificationAlgorithm, TrustAnchor,
    UnixTime,
};
use webpki::{
    CertRevocationList, EndEntityCert, Error, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
    anchor_from_trusted_cert,
};

use super::facts::CertFacts;
use super::known::{Good, Span};

/// Anchors and revocation lists of one credential.
pub(super) struct Trust {
    anchors: Vec<TrustAnchor<'static>>,
    /// From and until when each anchor is valid, in the anchors' order.
    validity: Vec<(i64, i64)>,
    /// Certificates of the bundle that are not anchors.
    between: Vec<CertificateDer<'static>>,
    crls: Vec<CertRevocationList<'static>>,
}

impl Trust {
    /// Parses both. Certificates that cannot serve are skipped (ISTIO.md R5).
    ///
    /// # Errors
    /// A revocation list that cannot be read: without it nothing would be known of revocation.
    pub(super) fn new(
        bundle: &[CertificateDer<'static>],
        crls: &[CertificateRevocationListDer<'static>],
    ) -> Result<Trust, Error> {
        let crls = crls
            .iter()
            .map(|der| OwnedCertRevocationList::from_der(der).map(CertRevocationList::from))
            .collect::<Result<Vec<_>, _>>()?;
        let mut trust = Trust {
            anchors: Vec::with_capacity(bundle.len()),
            validity: Vec::with_capacity(bundle.len()),
            between: Vec::new(),
            crls,
        };
        for der in bundle {
            trust.add(der);
        }
        Ok(trust)
    }

    fn add(&mut self, der: &CertificateDer<'static>) {
        let facts = CertFacts::read(der).ok();
        let self_issued = facts.as_ref().is_none_or(|f| f.subject == f.issuer);
        if !self_issued && self.has_crls() {
            return self.between.push(der.clone());
        }
        let Ok(anchor) = anchor_from_trusted_cert(der) else {
            return;
        };
        self.anchors.push(anchor.to_owned());
        let validity = facts.map_or((i64::MIN, i64::MAX), |f| (f.not_before, f.not_after));
        self.validity.push(validity);
    }

    /// True where revocation is checked.
    pub(super) fn has_crls(&self) -> bool {
        !self.crls.is_empty()
    }

    /// True where any chain could be good.
    pub(super) fn has_anchors(&self) -> bool {
        !self.anchors.is_empty()
    }

    /// Checks chain, validity, purpose and revocation of `leaf`; not its name. Anchors must be
    /// valid now as well, as in OpenSSL and Go. An expired list is as none (fails closed).
    /// Where it is good and no list has a say, tells when the path that was found is valid.
    ///
    /// # Errors
    /// webpki's most specific one over all the paths that it tried.
    pub(super) fn check_chain(
        &self,
        leaf: &EndEntityCert<'_>,
        sent: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
        algorithms: &[&dyn SignatureVerificationAlgorithm],
    ) -> Result<Option<Good>, Error> {
        let lists: Vec<&CertRevocationList<'_>> = self.crls.iter().collect();
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
            options
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(UnknownStatusPolicy::Deny)
                .with_expiration_policy(ExpirationPolicy::Enforce)
                .build()
        });
        let joined;
        let sent = if self.between.is_empty() {
            sent
        } else {
            let refer = |der: &CertificateDer<'_>| CertificateDer::from(der.to_vec());
            joined = sent
                .iter()
                .chain(&self.between)
                .map(refer)
                .collect::<Vec<_>>();
            &joined
        };
        let anchor_is_valid = |path: &VerifiedPath<'_>| self.check_anchor(path.anchor(), now);
        leaf.verify_for_usage(
            algorithms,
            &self.anchors,
            sent,
            now,
            usage,
            revocation,
            Some(&anchor_is_valid),
        )
        .map(|path| self.valid(&path))
    }

    /// When all of `path` is valid; `None` where that cannot be told, or where lists may change it.
    fn valid(&self, path: &VerifiedPath<'_>) -> Option<Good> {
        if self.has_crls() {
            return None;
        }
        let leaf = Span::of(&path.end_entity().der())?;
        let (from, until) = *self.validity.get(self.position(path.anchor())?)?;
        let mut whole = leaf.within(Span { from, until });
        for between in path.intermediate_certificates() {
            whole = whole.within(Span::of(&between.der())?);
        }
        Some(Good {
            path: whole,
            leaf_until: leaf.until,
        })
    }

    fn position(&self, anchor: &TrustAnchor<'_>) -> Option<usize> {
        self.anchors.iter().position(|a| std::ptr::eq(a, anchor))
    }

    fn check_anchor(&self, anchor: &TrustAnchor<'_>, time: UnixTime) -> Result<(), Error> {
        let now = seconds(time);
        let at = self.position(anchor);
        match at.and_then(|at| self.validity.get(at)) {
            Some((from, _)) if now < *from => Err(Error::CertNotValidYet {
                time,
                not_before: unix(*from),
            }),
            Some((_, until)) if now > *until => Err(Error::CertExpired {
                time,
                not_after: unix(*until),
            }),
            _ => Ok(()),
        }
    }

    /// The first of `chain` that a list names.
    pub(super) fn revoked<'a, 'b>(
        &self,
        chain: impl IntoIterator<Item = &'a CertificateDer<'b>>,
    ) -> Option<&'a CertificateDer<'b>>
    where
        'b: 'a,
    {
        chain.into_iter().find(|der| {
            EndEntityCert::try_from(*der).is_ok_and(|certificate| {
                let mut lists = self.lists_of(certificate.issuer());
                lists.any(|list| matches!(list.find_serial(certificate.serial()), Ok(Some(_))))
            })
        })
    }

    /// The first of `chain` whose issuer has no list here.
    pub(super) fn uncovered<'a, 'b>(
        &self,
        chain: impl IntoIterator<Item = &'a CertificateDer<'b>>,
    ) -> Option<&'a CertificateDer<'b>>
    where
        'b: 'a,
    {
        chain.into_iter().find(|der| {
            EndEntityCert::try_from(*der)
                .is_ok_and(|certificate| self.lists_of(certificate.issuer()).next().is_none())
        })
    }

    fn lists_of<'a>(
        &'a self,
        issuer: &'a [u8],
    ) -> impl Iterator<Item = &'a CertRevocationList<'static>> {
        self.crls.iter().filter(move |list| list.issuer() == issuer)
    }
}

/// Seconds since 1970.
pub(super) fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

fn unix(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(
        u64::try_from(seconds).unwrap_or(0),
    ))
}
