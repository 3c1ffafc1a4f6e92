//! Chains of certificates whose signatures were verified before.
//!
//! Owns: [`Known`], which chains one verifier found good, and [`Span`], from and until when.
//! Never: verifies anything, or knows a name, a pin or a key: those are checked every time.
//! Called by: `tls::chain` (asks it, and tells it), `tls::trust` (says how long a path is valid).
//!
//! Why: a server shows the same chain on every connection, and to verify its signatures again was a
//! quarter of a full handshake.
//!
//! Why it is the same check: whether a chain is good depends on the certificates that came, on the
//! anchors, on the revocation lists, on purpose and algorithms, and on the time; on nothing else.
//! - The certificates are the key: a SHA-256 over the length and the bytes of each, in their order.
//!   Two chains with one key would be a collision of the hash that the signatures rest on as well.
//! - Anchors, purpose and algorithms never change in a verifier, and each has a memory of its own,
//!   which goes with it when certificates or configuration are replaced.
//! - Where there are revocation lists nothing is remembered, and nothing is asked.
//! - Time counts only as the validity of the certificates on the path that was found, its anchor
//!   among them: within the span that they share, that path is as good as it was. Outside of it the
//!   whole check is made, which finds another path, or says why there is none.
//!
//! Refusals are not remembered. That the peer holds the key of its certificate is proven on every
//! connection, by `chain::check_proof13` and its like.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use rustls::pki_types::CertificateDer;

use super::facts::parse;

/// Chains remembered; the one that came first makes room for a new one. One server has one, and
/// each pod of a mesh has its own.
const MOST: usize = 64;

/// Seconds since 1970, the first and the last of which are within.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: i64,
    pub(super) until: i64,
}

impl Span {
    /// When this certificate is valid; `None` where it cannot be read.
    pub(super) fn of(der: &CertificateDer<'_>) -> Option<Span> {
        let certificate = parse(der).ok()?;
        Some(Span {
            from: certificate.validity().not_before.timestamp(),
            until: certificate.validity().not_after.timestamp(),
        })
    }

    /// What it shares with `other`.
    pub(super) fn within(self, other: Span) -> Span {
        Span {
            from: self.from.max(other.from),
            until: self.until.min(other.until),
        }
    }

    fn holds(self, now: i64) -> bool {
        self.from <= now && now <= self.until
    }
}

/// Which chain it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key([u8; 32]);

impl Key {
    /// Of the certificates that came, in their order.
    pub(super) fn of(leaf: &CertificateDer<'_>, sent: &[CertificateDer<'_>]) -> Key {
        let mut hash = Context::new(&SHA256);
        for der in std::iter::once(leaf).chain(sent) {
            hash.update(&der.len().to_be_bytes());
            hash.update(der);
        }
        let mut key = [0; 32];
        for (to, from) in key.iter_mut().zip(hash.finish().as_ref()) {
            *to = *from;
        }
        Key(key)
    }
}

/// A path that was found good.
#[derive(Clone, Copy, Debug)]
pub(super) struct Good {
    /// When all of it is valid, its anchor included.
    pub(super) path: Span,
    /// When the leaf ends.
    pub(super) leaf_until: i64,
}

/// The chains that one verifier found good.
#[derive(Debug, Default)]
pub(super) struct Known {
    good: Mutex<VecDeque<(Key, Good)>>,
}

impl Known {
    /// When the leaf of this chain ends, where the chain is known to be good now.
    pub(super) fn find(&self, key: Key, now: i64) -> Option<i64> {
        let known = self.lock();
        let (_, good) = known.iter().find(|(known, _)| *known == key)?;
        good.path.holds(now).then_some(good.leaf_until)
    }

    /// This chain was verified, now.
    pub(super) fn remember(&self, key: Key, good: Good, now: i64) {
        // The two parsers must agree that it is valid.
        if !good.path.holds(now) {
            return;
        }
        let mut known = self.lock();
        known.retain(|(known, _)| *known != key);
        if known.len() >= MOST {
            known.pop_front();
        }
        known.push_back((key, good));
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Key, Good)>> {
        // Every change is whole by itself, so the state is good even after a panic elsewhere.
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
