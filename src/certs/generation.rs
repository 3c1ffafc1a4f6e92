//! One credential from its files, all read as of one moment.
//!
//! Owns: which file holds what, its bound, and what a failure is called (ISTIO.md R10, R11).
//! Never: compares with the old generation, beyond "the same bytes" (that is the store).
//! Called by: `certs::store`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;

use super::pem::{self, PemError};
use super::problem::ProblemReason;
use super::read::{Content, ReadError, Wanted, read_together};
use super::rows::SYSTEM;
use super::system::SystemRoots;
use crate::model::{CaSource, CredentialSpec, CrlSource, IdentitySource};
use crate::tls::{Credential, CredentialError, CredentialParts, Generation, Roots};

/// Bound on certificate and key files, in bytes.
const PAIR_LIMIT: u64 = 1 << 20;
/// Bound on CA and CRL files, in bytes; lists of large CAs have some megabytes.
const BUNDLE_LIMIT: u64 = 16 << 20;

/// The resources that a credential is made of (ISTIO.md R1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    /// `file-cert:CERT~KEY`.
    pub identity: Option<String>,
    /// `file-root:CA` or `file-root:system`.
    pub roots: String,
    /// `file-crl:CRL`.
    pub crl: Option<String>,
}

impl Names {
    pub(super) fn of(spec: &CredentialSpec) -> Names {
        let pair = spec.identity_files();
        Names {
            identity: pair.map(|(c, k)| format!("file-cert:{}~{}", c.display(), k.display())),
            roots: match &spec.ca {
                CaSource::System => SYSTEM.to_owned(),
                CaSource::File(ca) => format!("file-root:{}", ca.display()),
                CaSource::Secret(secret) => secret.resource.to_string(),
                CaSource::Nothing => "none".to_owned(),
            },
            crl: spec.crl_file().map(|p| format!("file-crl:{}", p.display())),
        }
    }

    /// The credential as a whole goes by its identity, or by its roots where it has none.
    pub(super) fn whole(&self) -> &str {
        self.identity.as_deref().unwrap_or(&self.roots)
    }

    pub(super) fn part(&self, part: Part) -> &str {
        match part {
            Part::Identity => self.whole(),
            Part::Roots => &self.roots,
            Part::Crl => self.crl.as_deref().unwrap_or(self.whole()),
        }
    }
}

/// A part of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Identity,
    Roots,
    Crl,
}

/// What a reading came to.
pub(super) enum Outcome {
    /// The bytes that the store knows already.
    Known,
    /// Others, whole and checked.
    New(Box<Credential>),
}

/// Why a credential was not loaded.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub(super) struct LoadError {
    /// Which part is at fault.
    pub part: Part,
    /// Which file.
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
    #[error("Secrets cannot be read yet; name files instead")]
    SecretUnread,
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
            LoadCause::Read(ReadError::Missing { .. }) => ProblemReason::Missing,
            LoadCause::Read(ReadError::Unreadable { .. }) => ProblemReason::Unreadable,
            LoadCause::Read(ReadError::NotAFile { .. }) => ProblemReason::NotAFile,
            LoadCause::Read(ReadError::TooLarge { .. }) => ProblemReason::TooLarge,
            LoadCause::Read(ReadError::Unstable { .. }) => ProblemReason::Unstable,
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
            LoadCause::SecretUnread => ProblemReason::Missing,
            LoadCause::Expired { .. } => ProblemReason::Expired,
            LoadCause::NotYetValid { .. } => ProblemReason::NotYetValid,
        }
    }
}

/// Reads the files of `spec` together and makes a credential of them. `system` is used where the
/// CA is the operating system's.
pub(super) fn load(
    spec: &CredentialSpec,
    names: &Names,
    system: &SystemRoots,
    known: Option<Generation>,
) -> Result<Outcome, LoadError> {
    let files = files_of(spec);
    let wanted: Vec<_> = files.iter().map(|(_, wanted)| *wanted).collect();
    let read = read_together(&wanted, |contents| {
        known == Some(generation(contents, spec, system))
    });
    let contents = read.map_err(|error| {
        let file = error.path().to_owned();
        let part = files.iter().find(|(_, wanted)| wanted.path == file);
        LoadError {
            part: part.map_or(Part::Identity, |(part, _)| *part),
            file,
            cause: Box::new(LoadCause::Read(error)),
            generation: None,
        }
    })?;
    let generation = generation(&contents, spec, system);
    if known == Some(generation) {
        return Ok(Outcome::Known);
    }
    build(spec, names, system, &contents, generation)
        .map_err(|(part, file, cause)| LoadError {
            part,
            file: file.into(),
            cause: Box::new(cause),
            generation: Some(generation),
        })
        .map(|credential| Outcome::New(Box::new(credential)))
}

type Failed<'a> = (Part, &'a Path, LoadCause);

fn build<'a>(
    spec: &'a CredentialSpec,
    names: &Names,
    system: &SystemRoots,
    contents: &[Content],
    generation: Generation,
) -> Result<Credential, Failed<'a>> {
    // In the order of `files_of`. A file that were missing here would be empty, hence an error.
    let mut contents = contents.iter();
    let mut next = || {
        contents
            .next()
            .map_or((&[][..], 0), |c| (&c.bytes[..], c.mode))
    };
    let secret = matches!(spec.identity, Some(IdentitySource::Secret(_)));
    if secret || matches!(spec.crl, Some(CrlSource::Secret(_))) {
        // Never a handshake without the certificate that was asked for.
        let part = if secret { Part::Identity } else { Part::Crl };
        return Err((part, Path::new("secret"), LoadCause::SecretUnread));
    }
    let pair = spec
        .identity_files()
        .map(|(certificate, key)| (certificate.as_path(), next(), key.as_path(), next()));
    let mut warnings = Vec::new();
    let certificates = match &spec.ca {
        CaSource::System => {
            warnings.extend(system.errors.iter().cloned());
            Arc::clone(&system.certificates)
        }
        CaSource::Secret(_) | CaSource::Nothing => {
            let cause = LoadCause::NoSystemRoots { first: None };
            return Err((Part::Roots, Path::new("secret"), cause));
        }
        CaSource::File(ca) => {
            let (bytes, _) = next();
            let (found, skipped) = pem::bundle(ca, bytes).map_err(in_pem(Part::Roots, ca))?;
            warnings.extend(skipped);
            Arc::new(found)
        }
    };
    if certificates.is_empty() && spec.ca == CaSource::System {
        let first = system.errors.first().cloned();
        let cause = LoadCause::NoSystemRoots { first };
        return Err((Part::Roots, Path::new("system"), cause));
    }
    let crls = match spec.crl_file() {
        None => Vec::new(),
        Some(file) => {
            let (bytes, _) = next();
            pem::crls(file, bytes).map_err(in_pem(Part::Crl, file))?
        }
    };
    let mut identity = None;
    if let Some((certificate, (chain, _), key, (secret, mode))) = pair {
        let chain =
            pem::certificates(certificate, chain).map_err(in_pem(Part::Identity, certificate))?;
        warnings.extend(too_open(key, mode));
        // Last, so that nothing can fail between here and the place that wipes it.
        let key = pem::key(key, secret).map_err(in_pem(Part::Identity, key))?;
        identity = Some((chain, key));
    }
    let parts = CredentialParts {
        name: names.whole().to_owned(),
        identity,
        roots: Roots {
            name: names.roots.clone(),
            certificates,
        },
        crls,
        generation,
    };
    let mut credential = Credential::new(parts).map_err(|error| in_parts(spec, error))?;
    credential.warnings.extend(warnings);
    Ok(credential)
}

fn in_pem<'a>(part: Part, file: &'a Path) -> impl FnOnce(PemError) -> Failed<'a> {
    move |error| (part, file, LoadCause::Pem(error))
}

/// Which files a failed check speaks of.
fn in_parts(spec: &CredentialSpec, source: CredentialError) -> Failed<'_> {
    let none = Path::new("");
    let (certificate, key) = spec
        .identity_files()
        .map_or((none, none), |(certificate, key)| (certificate, key));
    let ca = match &spec.ca {
        CaSource::System => Path::new("system"),
        CaSource::File(ca) => ca,
        CaSource::Secret(_) | CaSource::Nothing => none,
    };
    let (part, file) = match &source {
        CredentialError::Certificate { .. } | CredentialError::NoCertificate => {
            (Part::Identity, certificate)
        }
        CredentialError::KeyMismatch { .. } | CredentialError::UnsupportedKey(_) => {
            (Part::Identity, key)
        }
        CredentialError::NoRoots { .. } | CredentialError::NoSelfIssuedRoot => (Part::Roots, ca),
        CredentialError::Crl(_) => (Part::Crl, spec.crl_file().map_or(none, PathBuf::as_path)),
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
fn too_open(key: &Path, mode: u32) -> Option<String> {
    (mode & 0o022 != 0).then(|| {
        format!(
            "the key file {} can be written by its group or by others (mode {:04o}): chmod go-w",
            key.display(),
            mode & 0o7777
        )
    })
}

fn files_of(spec: &CredentialSpec) -> Vec<(Part, Wanted<'_>)> {
    let file = |part, role, path, limit| (part, Wanted { role, path, limit });
    let mut files = Vec::with_capacity(4);
    if let Some((certificate, key)) = spec.identity_files() {
        files.push(file(
            Part::Identity,
            "certificate",
            certificate.as_path(),
            PAIR_LIMIT,
        ));
        files.push(file(Part::Identity, "key", key.as_path(), PAIR_LIMIT));
    }
    if let CaSource::File(ca) = &spec.ca {
        files.push(file(Part::Roots, "CA", ca.as_path(), BUNDLE_LIMIT));
    }
    if let Some(crl) = spec.crl_file() {
        files.push(file(Part::Crl, "CRL", crl.as_path(), BUNDLE_LIMIT));
    }
    files
}

/// SHA-256 over all that a credential is made of, lengths included so that no two can run together.
fn generation(contents: &[Content], spec: &CredentialSpec, system: &SystemRoots) -> Generation {
    let mut hash = digest::Context::new(&digest::SHA256);
    for content in contents {
        hash.update(&content.bytes.len().to_be_bytes());
        hash.update(&content.bytes);
        // A key file that becomes writable by others is to be warned of, once.
        hash.update(&[u8::from(content.mode & 0o022 != 0)]);
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
