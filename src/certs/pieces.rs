//! The pieces of one credential, all as they were at one moment.
//!
//! Owns: which piece comes from where and how large it may be, and the generation over them (R10).
//! Never: understands PEM.
//! Called by: `certs::generation`.

use std::path::{Path, PathBuf};

use aws_lc_rs::digest;

use super::names::Part;
use super::read::{self, ReadError, Wanted, at_rest};
use super::secret::{self, Piece, SecretError};
use super::system::SystemRoots;
use crate::model::{CaSource, CredentialSpec, CrlSource, IdentitySource};
use crate::tls::Generation;

/// Bound on certificate and key files, in bytes.
const PAIR_LIMIT: u64 = 1 << 20;
/// Bound on CA and CRL files, in bytes; lists of large CAs have some megabytes.
const BUNDLE_LIMIT: u64 = 16 << 20;

/// What a credential is to be made of.
#[derive(PartialEq, Eq)]
pub(super) struct Pieces {
    /// Chain and key.
    pub(super) identity: Option<(Piece, Piece)>,
    /// `None` where the CA is the operating system's, or none is needed.
    pub(super) roots: Option<Piece>,
    pub(super) lists: Option<Piece>,
}

/// Why a piece is not there.
#[derive(Debug)]
pub(super) enum Lack {
    Read(ReadError),
    Secret(SecretError),
}

/// A piece that is not there, and what messages call it.
pub(super) type Lacking = (Part, PathBuf, Lack);

/// Reads all pieces together. `known` is a generation that is in use already.
///
/// # Errors
/// The first piece that cannot be had.
pub(super) fn read(
    spec: &CredentialSpec,
    known: impl Fn(&Pieces) -> bool,
) -> Result<Pieces, Lacking> {
    at_rest(|| gather(spec), known, is_same)
        .map_err(|failed| failed.unwrap_or_else(|| unrest(spec)))
}

fn gather(spec: &CredentialSpec) -> Result<Pieces, Lacking> {
    let file = |part, role, path: &Path, limit| {
        Piece::file(&Wanted { role, path, limit })
            .map_err(|error| (part, path.to_owned(), Lack::Read(error)))
    };
    let lacking = |part, of| move |error| of_secret(part, of, error);
    let identity = match &spec.identity {
        None => None,
        Some(IdentitySource::Files(certificate, key)) => Some((
            file(Part::Identity, "certificate", certificate, PAIR_LIMIT)?,
            file(Part::Identity, "key", key, PAIR_LIMIT)?,
        )),
        Some(IdentitySource::Secret(of)) => {
            Some(secret::pair(of, PAIR_LIMIT).map_err(lacking(Part::Identity, of))?)
        }
    };
    let roots = match &spec.ca {
        CaSource::System | CaSource::Nothing => None,
        CaSource::File(ca) => Some(file(Part::Roots, "CA", ca, BUNDLE_LIMIT)?),
        CaSource::Secret(of) => {
            Some(secret::authority(of, BUNDLE_LIMIT).map_err(lacking(Part::Roots, of))?)
        }
    };
    let lists = match &spec.crl {
        None => None,
        Some(CrlSource::File(crl)) => Some(file(Part::Crl, "CRL", crl, BUNDLE_LIMIT)?),
        Some(CrlSource::Secret(of)) => {
            secret::lists(of, BUNDLE_LIMIT).map_err(lacking(Part::Crl, of))?
        }
    };
    Ok(Pieces {
        identity,
        roots,
        lists,
    })
}

fn of_secret(part: Part, of: &crate::model::SecretRef, error: SecretError) -> Lacking {
    match error {
        SecretError::Read(error) => (part, error.path().to_owned(), Lack::Read(error)),
        error => (part, secret::title(of, "").into(), Lack::Secret(error)),
    }
}

fn is_same(a: &Lacking, b: &Lacking) -> bool {
    match (&a.2, &b.2) {
        (Lack::Read(a), Lack::Read(b)) => read::same(a, b),
        (Lack::Secret(a), Lack::Secret(b)) => a.to_string() == b.to_string(),
        (Lack::Read(_), Lack::Secret(_)) | (Lack::Secret(_), Lack::Read(_)) => false,
    }
}

/// It never came to rest. The first piece speaks for all.
fn unrest(spec: &CredentialSpec) -> Lacking {
    let (role, path) = match (&spec.identity, &spec.ca, &spec.crl) {
        (Some(IdentitySource::Files(certificate, _)), ..) => ("certificate", certificate.clone()),
        (Some(IdentitySource::Secret(of)), ..) => ("certificate", secret::title(of, "").into()),
        (None, CaSource::File(ca), _) => ("CA", ca.clone()),
        (None, CaSource::Secret(of), _) => ("CA", secret::title(of, "").into()),
        (None, _, Some(CrlSource::File(crl))) => ("CRL", crl.clone()),
        (None, _, Some(CrlSource::Secret(of))) => ("CRL", secret::title(of, "").into()),
        (None, CaSource::System | CaSource::Nothing, None) => ("CA", PathBuf::from("system")),
    };
    let lack = Lack::Read(ReadError::Unstable {
        role,
        path: path.clone(),
    });
    (Part::Identity, path, lack)
}

impl Pieces {
    /// SHA-256 over all that the credential is made of, with kinds and lengths so that no two can
    /// run together. Where the bytes came from does not count.
    pub(super) fn generation(&self, spec: &CredentialSpec, system: &SystemRoots) -> Generation {
        let mut hash = digest::Context::new(&digest::SHA256);
        let (chain, key) = match &self.identity {
            Some((chain, key)) => (Some(chain), Some(key)),
            None => (None, None),
        };
        let kinds = [b'c', b'k', b'a', b'r'];
        let pieces = [chain, key, self.roots.as_ref(), self.lists.as_ref()];
        for (kind, piece) in kinds.into_iter().zip(pieces) {
            let Some(piece) = piece else { continue };
            hash.update(&[kind]);
            hash.update(&piece.bytes().len().to_be_bytes());
            hash.update(piece.bytes());
            // A key file that becomes writable by others is to be warned of, once.
            hash.update(&[u8::from(piece.mode() & 0o022 != 0)]);
        }
        if spec.ca == CaSource::System {
            hash.update(&system.hash);
        }
        let mut bytes = [0; 32];
        for (to, from) in bytes.iter_mut().zip(hash.finish().as_ref()) {
            *to = *from;
        }
        Generation(bytes)
    }
}
