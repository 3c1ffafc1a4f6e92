//! What the parts of a credential are called in logs, metrics and tables (ISTIO.md R1, B12).
//!
//! Owns: [`Names`] and [`Part`].
//! Never: reads anything.
//! Called by: the rest of this room.

use super::rows::{NOTHING, SYSTEM};
use crate::model::{CaSource, CredentialSpec, CrlSource, IdentitySource};

/// The resources that a credential is made of (ISTIO.md R1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    /// `file-cert:CERT~KEY` or `kubernetes://name`.
    pub identity: Option<String>,
    /// `file-root:CA`, `file-root:system`, `kubernetes://name-cacert`, `configmap://ns/name`, or
    /// `none` where nothing is verified.
    pub roots: String,
    /// `file-crl:CRL`, or the Secret that has the CA.
    pub crl: Option<String>,
}

/// A part of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Identity,
    Roots,
    Crl,
}

impl Names {
    pub(super) fn of(spec: &CredentialSpec) -> Names {
        Names {
            identity: spec.identity.as_ref().map(|identity| match identity {
                IdentitySource::Files(certificate, key) => {
                    format!("file-cert:{}~{}", certificate.display(), key.display())
                }
                IdentitySource::Secret(secret) => secret.resource.to_string(),
            }),
            roots: match &spec.ca {
                CaSource::System => SYSTEM.to_owned(),
                CaSource::File(ca) => format!("file-root:{}", ca.display()),
                CaSource::Secret(secret) => secret.ca_resource().into_owned(),
                CaSource::Nothing => NOTHING.to_owned(),
            },
            crl: spec.crl.as_ref().map(|crl| match crl {
                CrlSource::File(list) => format!("file-crl:{}", list.display()),
                CrlSource::Secret(secret) => secret.ca_resource().into_owned(),
            }),
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

    /// True where the roots are a resource of their own.
    pub(super) fn has_roots(&self) -> bool {
        self.roots != NOTHING
    }
}
