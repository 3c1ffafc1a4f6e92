//! Which of our certificates a client is shown.
//!
//! Owns: [`OurCertificates`]: one for each kind of key, the preferred one first.
//! Never: verifies anything.
//! Called by: rustls during the handshake, `tls::accept` (asks whether all have ended).

use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::credential::Identity;
use super::facts::San;
use super::notes;
use super::sessions::now;
use crate::model::OnExpired;

/// Certificates and keys of one entrance.
#[derive(Debug)]
pub(super) struct OurCertificates {
    all: Vec<Ours>,
    on_expired: OnExpired,
}

#[derive(Debug)]
struct Ours {
    certified: Arc<CertifiedKey>,
    /// The last second in which it is valid.
    until: i64,
    /// The first URI among its names.
    uri: Option<Box<str>>,
    subject: Box<str>,
}

impl OurCertificates {
    pub(super) fn new<'a>(
        identities: impl Iterator<Item = &'a Identity>,
        on_expired: OnExpired,
    ) -> OurCertificates {
        let ours = |identity: &Identity| Ours {
            certified: Arc::clone(&identity.certified),
            until: identity.leaf.not_after,
            uri: identity.leaf.sans.iter().find_map(uri).map(Into::into),
            subject: identity.leaf.subject.as_str().into(),
        };
        OurCertificates {
            all: identities.map(ours).collect(),
            on_expired,
        }
    }

    /// Those that may be shown at this second (ISTIO.md R17), with their positions.
    fn live(&self, now: i64) -> impl Iterator<Item = (usize, &Ours)> {
        let all = self.all.iter().enumerate();
        all.filter(move |(_, ours)| self.on_expired == OnExpired::Use || ours.until >= now)
    }

    /// When the preferred one ended and what time it is, where none may be shown any more.
    pub(super) fn ended(&self) -> Option<(i64, i64)> {
        let now = now();
        match self.live(now).next() {
            Some(_) => None,
            None => Some((self.all.first().map_or(now, |ours| ours.until), now)),
        }
    }

    /// The first URI among the names of the one at this position (ISTIO.md P15).
    pub(super) fn uri(&self, at: usize) -> Option<&str> {
        self.all.get(at)?.uri.as_deref()
    }

    /// The subject of the one at this position.
    pub(super) fn subject(&self, at: usize) -> Option<&str> {
        Some(&self.all.get(at)?.subject)
    }
}

/// The URI that a name is.
pub(super) fn uri(san: &San) -> Option<&str> {
    match san {
        San::Uri(uri) => Some(uri),
        San::Dns(_) | San::Ip(_) | San::Email(_) => None,
    }
}

impl ResolvesServerCert for OurCertificates {
    /// The first one whose key can sign as the client wants it. Where none can, the first one all
    /// the same: rustls then finds no common ground, and says so with the proper alert.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let now = now();
        let fits = |ours: &Ours| {
            let key = &ours.certified.key;
            key.choose_scheme(hello.signature_schemes()).is_some()
        };
        let fitting = self.live(now).find(|(_, ours)| fits(ours));
        let (at, ours) = fitting.or_else(|| self.live(now).next())?;
        notes::write(|notes| notes.ours = Some(at));
        Some(Arc::clone(&ours.certified))
    }
}
