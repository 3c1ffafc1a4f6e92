//! The credentials that the configuration names, each as its last good generation.
//!
//! Owns: what is loaded, what is wrong, and when to look again.
//! Never: watches a path (that is `watch`) or swaps the snapshot (that is `publish`).
//! Called by: `publish::reload`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::problem::CredentialProblem;
use super::rows::CredentialRow;
use crate::model::CredentialSpec;
use crate::tls::Credential;

/// Reads files into credentials and keeps the last good ones. Blocking; for the cold thread.
#[derive(Default)]
pub struct CertStore {
    current: Arc<Credentials>,
}

/// What [`CertStore::check`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Resources whose content is another than before, first loads included (R18). Sorted.
    pub changed: Vec<String>,
    /// A problem came, went or changed its words: [`CertStore::current`] is another.
    pub problems_changed: bool,
    /// Look again after this, because of a failure that may heal (R12).
    pub retry_after: Option<Duration>,
}

/// Every credential at one moment. Never changes.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    states: BTreeMap<CredentialSpec, CredentialState>,
}

/// One credential at one moment.
#[derive(Clone, Debug, Default)]
pub struct CredentialState {
    /// The last good generation; `None`: never was one, so what needs it fails closed (T17).
    pub current: Option<Arc<Credential>>,
    /// Why the files now are not what `current` says.
    pub problem: Option<CredentialProblem>,
}

impl CertStore {
    /// An empty store.
    pub fn new() -> CertStore {
        CertStore::default()
    }

    /// Says what must be loaded from the next [`check`](CertStore::check) on; drops the others.
    pub fn set(&mut self, specs: Vec<CredentialSpec>) {
        let _ = specs;
    }

    /// Reads everything and swaps what is whole and better (R10 to R15, R17).
    pub fn check(&mut self, now: SystemTime) -> Checked {
        let _ = now;
        Checked::default()
    }

    /// An immutable view.
    pub fn current(&self) -> Arc<Credentials> {
        Arc::clone(&self.current)
    }

    /// The files to watch.
    pub fn paths(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

impl Credentials {
    /// The state of one credential; `None` where it is not in the configuration.
    pub fn find(&self, spec: &CredentialSpec) -> Option<&CredentialState> {
        self.states.get(spec)
    }

    /// The rows of the table (ISTIO.md B12), sorted, each resource once.
    pub fn rows(&self) -> Vec<CredentialRow> {
        Vec::new()
    }
}
