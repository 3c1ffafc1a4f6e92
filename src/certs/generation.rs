//! One credential from its pieces, all read as of one moment.
//!
//! Owns: what is made of which piece, and what a failure is called (ISTIO.md R10, R11).
//! Never: compares with the old generation, beyond "the same bytes" (that is the store).
//! Called by: `certs::store`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::names::{Names, Part};
use super::pem::{self, PemError};
use super::pieces::{self, Lack, Pieces};
use super::problem::ProblemReason;
use super::read::ReadError;
use super::secret::{Piece, SecretError};
use super::system::SystemRoots;
use crate::model::{CaSource, CredentialSpec, Uses};
use crate::tls::{Credential, CredentialError, CredentialParts, Generation, Roots};

/// What a reading came to.
pub(super) enum Outcome {
    /// The bytes that the store knows already.
    Known,
    /// Others, whole and checked.
    New {
        credential: Box<Credential>,
        /// What messages call its certificate.
        certificate: Option<PathBuf>,
    },
}

/// Why a credential was not loaded.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub(super) struct LoadError {
    /// Which part is at fault.
    pub part: Part,
    /// Which file, or which key of which Secret.
    pub file: PathBuf,
    /// What is wrong.
    #[source]
    pub cause: Box<LoadCause>,
    /// The bytes, where they could be read.
    pub generation: Option<Generation>,
}

/// What is wrong. Every text names the file.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadCause {
    #[error(transparent)]
    Read(ReadError),
    #[error(transparent)]
    Secret(SecretError),
    #[error(transparent)]
    Pem(PemError),
    #[error("{files}: {source}")]
    Parts {
        files: String,
        source: CredentialError,
    },
    #[error(
        "the operating system's CA store is empty{}; install ca-certificates, set SSL_CERT_FILE, or name a CA file",
        .first.as_ref().map(|error| format!(" ({error})")).unwrap_or_default()
    )]
    NoSystemRoots { first: Option<String> },
    #[error(
        "the new certificate in {} (subject {subject}) expired at {at} and the one in use is still valid",
        .file.display()
    )]
    Expired {
        file: PathBuf,
        subject: String,
        at: String,
    },
    #[error(
        "the new certificate in {} (subject {subject}) is not valid before {at} and the one in use is valid now",
        .file.display()
    )]
    NotYetValid {
        file: PathBuf,
        subject: String,
        at: String,
    },
}

impl LoadError {
    pub(super) fn reason(&self) -> ProblemReason {
        match &*self.cause {
            LoadCause::Read(error) => of_read(error),
            LoadCause::Pem(PemError::Encrypted { .. }) => ProblemReason::EncryptedKey,
            LoadCause::Pem(PemError::WrongKind { .. }) => ProblemReason::WrongKind,
            LoadCause::Pem(
                PemError::Empty { .. }
                | PemError::NoBlock { .. }
                | PemError::CutOff { .. }
                | PemError::Broken { .. },
            ) => ProblemReason::Pem,
            LoadCause::Parts { source, .. } => match source {
                CredentialError::Certificate { .. } | CredentialError::NoCertificate => {
                    ProblemReason::BadCertificate
                }
                CredentialError::KeyMismatch { .. } => ProblemReason::KeyMismatch,
                CredentialError::UnsupportedKey(_) => ProblemReason::UnsupportedKey,
                CredentialError::NoRoots { .. } | CredentialError::NoSelfIssuedRoot => {
                    ProblemReason::NoRoots
                }
                CredentialError::Crl(_) => ProblemReason::Crl,
            },
            LoadCause::NoSystemRoots { .. } => ProblemReason::NoRoots,
            LoadCause::Secret(SecretError::NotFound { .. }) => ProblemReason::SecretMissing,
            LoadCause::Secret(SecretError::Read(error)) => of_read(error),
            LoadCause::Secret(
                SecretError::EmptyPair { .. }
                | SecretError::NoPair { .. }
                | SecretError::Empty { .. }
                | SecretError::NoCa { .. }
                | SecretError::CaOnly { .. },
            ) => ProblemReason::SecretKeys,
            LoadCause::Expired { .. } => ProblemReason::Expired,
            LoadCause::NotYetValid { .. } => ProblemReason::NotYetValid,
        }
    }
}

fn of_read(error: &ReadError) -> ProblemReason {
    match error {
        ReadError::Missing { .. } => ProblemReason::Missing,
        ReadError::Unreadable { .. } => ProblemReason::Unreadable,
        ReadError::NotAFile { .. } => ProblemReason::NotAFile,
        ReadError::TooLarge { .. } => ProblemReason::TooLarge,
        ReadError::Unstable { .. } => ProblemReason::Unstable,
    }
}

/// Reads the pieces of `spec` together and makes a credential of them. `system` is used where the
/// CA is the operating system's.
pub(super) fn load(
    spec: &CredentialSpec,
    uses: Uses,
    names: &Names,
    system: &SystemRoots,
    known: Option<Generation>,
) -> Result<Outcome, LoadError> {
    let is_known = |pieces: &Pieces| known == Some(pieces.generation(spec, system));
    let pieces = pieces::read(spec, is_known).map_err(|(part, file, lack)| LoadError {
        part,
        file,
        cause: Box::new(match lack {
            Lack::Read(error) => LoadCause::Read(error),
            Lack::Secret(error) => LoadCause::Secret(error),
        }),
        generation: None,
    })?;
    let generation = pieces.generation(spec, system);
    if known == Some(generation) {
        return Ok(Outcome::Known);
    }
    match build((spec, uses), names, system, &pieces, generation) {
        Ok(credential) => Ok(Outcome::New {
            credential: Box::new(credential),
            certificate: pieces.identity.map(|(certificate, _)| certificate.name),
        }),
        Err((part, file, cause)) => Err(LoadError {
            part,
            file: file.into(),
            cause: Box::new(cause),
            generation: Some(generation),
        }),
    }
}

type Failed<'a> = (Part, &'a Path, LoadCause);

fn build<'a>(
    (spec, uses): (&CredentialSpec, Uses),
    names: &Names,
    system: &SystemRoots,
    pieces: &'a Pieces,
    generation: Generation,
) -> Result<Credential, Failed<'a>> {
    let mut warnings = Vec::new();
    let certificates = roots(spec, system, pieces, &mut warnings)?;
    let crls = match &pieces.lists {
        None => Vec::new(),
        Some(list) => pem::crls(&list.name, list.bytes()).map_err(in_pem(Part::Crl, &list.name))?,
    };
    let mut identity = None;
    if let Some((certificate, key)) = &pieces.identity {
        let chain = pem::certificates(&certificate.name, certificate.bytes())
            .map_err(in_pem(Part::Identity, &certificate.name))?;
        warnings.extend(too_open(key));
        // Last, so that nothing can fail between here and the place that wipes it.
        let key = pem::key(&key.name, key.bytes()).map_err(in_pem(Part::Identity, &key.name))?;
        identity = Some((chain, key));
    }
    let parts = CredentialParts {
        name: names.whole().to_owned(),
        identity,
        roots: certificates.map(|certificates| Roots {
            name: names.roots.clone(),
            certificates,
        }),
        crls,
        generation,
        uses,
    };
    let mut credential = Credential::new(parts).map_err(|error| in_parts(pieces, error))?;
    credential.warnings.extend(warnings);
    Ok(credential)
}

type Certificates = Arc<Vec<rustls::pki_types::CertificateDer<'static>>>;

/// The trust anchors; `None` where nothing is to be verified.
fn roots<'a>(
    spec: &CredentialSpec,
    system: &SystemRoots,
    pieces: &'a Pieces,
    warnings: &mut Vec<String>,
) -> Result<Option<Certificates>, Failed<'a>> {
    let empty = |first| {
        (
            Part::Roots,
            Path::new("system"),
            LoadCause::NoSystemRoots { first },
        )
    };
    match (&pieces.roots, &spec.ca) {
        (Some(ca), _) => {
            let (found, skipped) =
                pem::bundle(&ca.name, ca.bytes()).map_err(in_pem(Part::Roots, &ca.name))?;
            warnings.extend(skipped);
            Ok(Some(Arc::new(found)))
        }
        (None, CaSource::Nothing) => Ok(None),
        (None, CaSource::System) if system.certificates.is_empty() => {
            Err(empty(system.errors.first().cloned()))
        }
        (None, CaSource::System) => {
            warnings.extend(system.errors.iter().cloned());
            Ok(Some(Arc::clone(&system.certificates)))
        }
        // Not reached: these always have a piece. Never "nothing to verify" all the same.
        (None, CaSource::File(_) | CaSource::Secret(_)) => Err(empty(None)),
    }
}

fn in_pem<'a>(part: Part, file: &'a Path) -> impl FnOnce(PemError) -> Failed<'a> {
    move |error| (part, file, LoadCause::Pem(error))
}

/// Which files a failed check speaks of.
fn in_parts(pieces: &Pieces, source: CredentialError) -> Failed<'_> {
    fn name(piece: Option<&Piece>) -> &Path {
        piece.map_or(Path::new("system"), |piece| piece.name.as_path())
    }
    let pair = pieces.identity.as_ref();
    let (certificate, key) = (
        name(pair.map(|pair| &pair.0)),
        name(pair.map(|pair| &pair.1)),
    );
    let (part, file) = match &source {
        CredentialError::Certificate { .. } | CredentialError::NoCertificate => {
            (Part::Identity, certificate)
        }
        CredentialError::KeyMismatch { .. } | CredentialError::UnsupportedKey(_) => {
            (Part::Identity, key)
        }
        CredentialError::NoRoots { .. } | CredentialError::NoSelfIssuedRoot => {
            (Part::Roots, name(pieces.roots.as_ref()))
        }
        CredentialError::Crl(_) => (Part::Crl, name(pieces.lists.as_ref())),
    };
    let files = match &source {
        CredentialError::KeyMismatch { .. } => {
            format!("{} with {}", key.display(), certificate.display())
        }
        _ => file.display().to_string(),
    };
    (part, file, LoadCause::Parts { files, source })
}

/// Kubernetes mounts secrets 0644, so only being writable is worth a word (R19).
fn too_open(key: &Piece) -> Option<String> {
    let mode = key.mode();
    (mode & 0o022 != 0).then(|| {
        format!(
            "the key file {} can be written by its group or by others (mode {:04o}): chmod go-w",
            key.name.display(),
            mode & 0o7777
        )
    })
}
