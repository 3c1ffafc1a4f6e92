//! The webhook's own certificate: read, watched, renewed under open connections.
//!
//! Owns: the loop from a changed file to the configuration of new connections.
//! Never: shakes hands.
//! Called by: run.
//!
//! Why the last good one stays: a certificate that is half written must not stop every new pod.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::counts::Counts;
use crate::certs::CertStore;
use crate::model::{
    CaSource, ClientCertificates, CredentialSpec, CredentialUse, IdentitySource, OnExpired,
    ServerTlsSpec, Uses,
};
use crate::telemetry::{Metrics, Status};
use crate::tls::{Generation, ServerTls};
use crate::watch::Watch;

/// Every file is read again this often, whatever the watch says (R9).
const POLL: Duration = Duration::from_secs(10);
/// By which the status names it.
const WHAT: &str = "certificate";

/// The files.
#[derive(Clone, Debug)]
pub struct Files {
    /// Our chain, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// Who vouches for API servers; `None`: they are not asked for a certificate.
    pub client_ca: Option<PathBuf>,
}

/// Keeps the configuration what the files say.
pub(super) struct Keeper {
    spec: ServerTlsSpec,
    store: CertStore,
    status: Arc<Status>,
    counts: Arc<Counts>,
    made: Option<Vec<Generation>>,
    current: watch::Sender<Option<Arc<ServerTls>>>,
}

impl Keeper {
    /// Reads the files once; that they are not whole yet is no error.
    pub(super) fn new(files: Files, status: Arc<Status>, counts: Arc<Counts>) -> Keeper {
        let (ca, clients) = match files.client_ca {
            Some(path) => (CaSource::File(path), ClientCertificates::Required),
            None => (CaSource::Nothing, ClientCertificates::Unasked),
        };
        let credential = CredentialSpec {
            identity: Some(IdentitySource::Files(files.certificate, files.key)),
            ca,
            crl: None,
        };
        let mut store = CertStore::new(Metrics::new(1));
        store.set([CredentialUse {
            spec: credential.clone(),
            uses: Uses::SERVER,
        }]);
        let mut keeper = Keeper {
            spec: ServerTlsSpec::new(credential, clients),
            store,
            status,
            counts,
            made: None,
            current: watch::Sender::new(None),
        };
        keeper.look();
        keeper
    }

    /// What new connections are to use.
    pub(super) fn current(&self) -> watch::Receiver<Option<Arc<ServerTls>>> {
        self.current.subscribe()
    }

    /// Looks whenever something changed. Never returns.
    pub(super) async fn keep(mut self) {
        let mut watch = Watch::new(POLL);
        watch.set_paths(&self.store.paths());
        let mut again = self.look();
        loop {
            let soon = tokio::time::sleep(again.unwrap_or(POLL));
            tokio::select! {
                _ = watch.changed() => {}
                () = soon => {}
            }
            again = self.look();
        }
    }

    /// How soon to look again, because of a failure that may heal.
    fn look(&mut self) -> Option<Duration> {
        let checked = self.store.check(SystemTime::now());
        let credentials = self.store.current();
        let state = credentials.find(&self.spec.credential);
        let current = state.and_then(|state| state.current.clone());
        let problem = state.and_then(|state| state.problem.as_ref());
        match (current, problem) {
            (Some(credential), problem) => {
                let told = problem.map(|problem| problem.words.to_string());
                self.status.note(WHAT, told.into_iter().collect());
                self.make(credential);
            }
            (None, problem) => {
                let words = problem.map(|problem| problem.words.to_string());
                self.status
                    .hold(WHAT, words.unwrap_or_else(|| "not loaded yet".to_owned()));
            }
        }
        checked.retry_after
    }

    fn make(&mut self, credential: Arc<crate::tls::Credential>) {
        let generations = Some(vec![credential.generation]);
        if self.made == generations {
            return;
        }
        match ServerTls::new(&self.spec, credential, Vec::new(), OnExpired::Fail) {
            Ok(tls) => {
                let ends = tls.leaf().map_or(0, |leaf| leaf.not_after);
                self.counts.certificate_ends.store(ends, Ordering::Relaxed);
                self.made = generations;
                self.current.send_replace(Some(Arc::new(tls)));
                self.status.release(WHAT);
            }
            Err(error) if self.made.is_none() => self.status.hold(WHAT, error.to_string()),
            Err(error) => tracing::warn!("the new certificate is not used: {error}"),
        }
    }
}
