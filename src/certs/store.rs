//! The credentials that the configuration names, each as its last good generation.
//!
//! Owns: the set of credentials, the view that others read, and the expiry gauges.
//! Never: watches a path (that is `watch`) or swaps the snapshot (that is `publish`).
//! Called by: `publish::reload`.
//!
//! Why the store is told the time: every threshold is then a test without a clock.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::entry::{Entry, Round};
use super::expiry::{self, Stage, seconds};
use super::names::{Names, Part};
use super::problem::CredentialProblem;
use super::rows::{self, CredentialRow, SYSTEM};
use super::say;
use super::secret;
use super::system::{SystemRoots, SystemStore};
use crate::model::{CaSource, CredentialSpec, CredentialUse, Uses};
use crate::telemetry::{CertExpiry, Metrics};
use crate::tls::{CertFacts, Credential};

/// Reads files into credentials and keeps the last good ones. Blocking; for the cold thread.
pub struct CertStore {
    metrics: Arc<Metrics>,
    /// By what names them: the content of Secret documents is no part of the key, so that a new
    /// one is the next generation of the same credential.
    entries: BTreeMap<CredentialSpec, Entry>,
    /// What the last [`set`](CertStore::set) dropped, should the next one name it again.
    dropped: BTreeMap<CredentialSpec, Entry>,
    system: SystemStore,
    /// Up to which stage the end of a certificate was spoken of.
    told: HashMap<Told, Stage>,
    current: Arc<Credentials>,
}

/// Resource, serial number and end: the same one in the next generation is no news.
type Told = (String, String, i64);

/// Something that ends.
pub(super) struct Ending {
    pub(super) resource: String,
    usage: &'static str,
    /// For the log.
    pub(super) what: String,
    pub(super) serial: String,
    from: i64,
    pub(super) to: i64,
}

/// What [`CertStore::check`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Resources whose content is another than before, first loads included (R18). Sorted.
    pub changed: Vec<String>,
    /// A problem came, went or changed its words: [`CertStore::current`] is another.
    pub problems_changed: bool,
    /// Look again after this, because of a failure that may heal (R12). At most 10 s.
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
    pub fn new(metrics: Arc<Metrics>) -> CertStore {
        CertStore::with(metrics, SystemStore::new())
    }

    pub(super) fn with(metrics: Arc<Metrics>, system: SystemStore) -> CertStore {
        CertStore {
            metrics,
            entries: BTreeMap::new(),
            dropped: BTreeMap::new(),
            system,
            told: HashMap::new(),
            current: Arc::default(),
        }
    }

    /// Says what must be loaded from the next [`check`](CertStore::check) on; drops the others.
    /// What is loaded already stays loaded, and so does what only the call before this one
    /// dropped: a configuration that is refused must not cost the last good generation.
    pub fn set(&mut self, named: impl IntoIterator<Item: Into<CredentialUse>>) {
        let mut old = std::mem::take(&mut self.entries);
        for named in named {
            let named = named.into();
            let key = named.spec.without_documents();
            let entry = match old.remove(&key).or_else(|| self.dropped.remove(&key)) {
                Some(mut entry) => {
                    entry.follow(named);
                    entry
                }
                None => Entry::new(named),
            };
            self.entries.insert(key, entry);
        }
        self.dropped = old;
        let live: BTreeSet<_> = self.resources().collect();
        self.metrics
            .certs
            .retain(|resource| live.contains(resource));
        self.told
            .retain(|(resource, ..), _| live.contains(resource));
        self.renew_view();
    }

    /// Reads everything and swaps what is whole and no worse (R10 to R15), warns of what ends
    /// soon (R17). `now` is the wall clock.
    ///
    /// Blocks for as long as the disk does; a few kilobytes for each credential.
    pub fn check(&mut self, now: SystemTime) -> Checked {
        let mut round = Round::default();
        let nothing = SystemRoots::default();
        let wants_system = self.entries.keys().any(|spec| spec.ca == CaSource::System);
        let system = match wants_system {
            true => self.system.roots(now),
            false => &nothing,
        };
        for entry in self.entries.values_mut() {
            entry.check(system, now, &self.metrics, &mut round);
        }
        self.tell_of_expiry(now);
        if round.problems_changed || round.taken {
            self.renew_view();
        }
        Checked {
            changed: round.changed.into_iter().collect(),
            problems_changed: round.problems_changed,
            retry_after: round.retry_after,
        }
    }

    /// An immutable view of the last check.
    pub fn current(&self) -> Arc<Credentials> {
        Arc::clone(&self.current)
    }

    /// The files and folders to watch. They need not exist.
    pub fn paths(&self) -> Vec<PathBuf> {
        let mut paths = BTreeSet::new();
        for spec in self.entries.values().map(Entry::spec) {
            if let Some((certificate, key)) = spec.identity_files() {
                paths.extend([certificate.clone(), key.clone()]);
            }
            match &spec.ca {
                CaSource::System => paths.extend(SystemStore::paths()),
                CaSource::File(ca) => paths.extend([ca.clone()]),
                CaSource::Secret(_) | CaSource::Nothing => {}
            }
            paths.extend(spec.crl_file().cloned());
            paths.extend(spec.secrets().flat_map(secret::paths));
        }
        paths.into_iter().collect()
    }

    fn resources(&self) -> impl Iterator<Item = String> {
        self.entries.values().flat_map(|entry| {
            let Names {
                identity,
                roots,
                crl,
            } = entry.names.clone();
            let roots = Some(roots).filter(|_| entry.names.has_roots());
            identity.into_iter().chain(roots).chain(crl)
        })
    }

    fn renew_view(&mut self) {
        let states = self
            .entries
            .iter()
            .map(|(spec, entry)| (spec.clone(), entry.state.clone()));
        self.current = Arc::new(Credentials {
            states: states.collect(),
        });
    }

    /// Logs each threshold once per generation, and sets the gauges (R17).
    fn tell_of_expiry(&mut self, now: SystemTime) {
        let now = seconds(now);
        let mut gauges = Vec::new();
        let mut live = HashMap::new();
        for entry in self.entries.values() {
            let Some(credential) = &entry.state.current else {
                continue;
            };
            for ending in endings(&entry.names, credential, entry.uses()) {
                let stage = expiry::stage((ending.from, ending.to), now);
                let before = live.get(&ending.told()).or(self.told.get(&ending.told()));
                let before = before.copied().unwrap_or(Stage::Fine);
                if stage > before {
                    say::ending(&ending, stage, now);
                }
                // A clock that was set back must not make us say it all again.
                live.insert(ending.told(), before.max(stage));
                gauges.push(CertExpiry {
                    resource: ending.resource,
                    serial: ending.serial,
                    usage: ending.usage,
                    not_after: ending.to,
                });
            }
        }
        self.told = live;
        self.metrics.certs.set_expiry(gauges);
    }
}

/// All whose end matters: our certificates, the anchors of files, and revocation lists. Whoever
/// looks after the operating system's store looks after its dates too.
fn endings(names: &Names, credential: &Credential, uses: Uses) -> Vec<Ending> {
    let usages = [(uses.client, "client"), (uses.server, "server")];
    let usages = usages.into_iter().filter(|(shown, _)| *shown);
    let ours = credential.identity.iter().flat_map(|identity| {
        let all = std::iter::once(&identity.leaf).chain(&identity.issuers);
        all.flat_map(|facts| {
            let usages = usages.clone();
            usages.map(|(_, usage)| Ending::of(names.whole(), usage, facts))
        })
    });
    let anchors = credential.root_facts.iter();
    let anchors = anchors
        .filter(|_| names.roots != SYSTEM)
        .map(|facts| Ending::of(&names.roots, "ca", facts));
    // One gauge for each file: without any one of its lists the handshakes fail.
    let lists = credential.crl_facts.iter();
    let first = lists
        .filter_map(|list| Some((list, list.next_update?)))
        .min_by_key(|(_, end)| *end)
        .map(|(list, to)| Ending {
            resource: names.part(Part::Crl).to_owned(),
            usage: "crl",
            what: format!("revocation list of {}", list.issuer),
            serial: String::new(),
            from: list.this_update,
            to,
        });
    ours.chain(anchors).chain(first).collect()
}

impl Ending {
    fn of(resource: &str, usage: &'static str, facts: &CertFacts) -> Ending {
        Ending {
            resource: resource.to_owned(),
            usage,
            what: format!("certificate {}", facts.called()),
            serial: rows::serial(facts),
            from: facts.not_before,
            to: facts.not_after,
        }
    }

    fn told(&self) -> Told {
        (self.resource.clone(), self.serial.clone(), self.to)
    }
}

impl Credentials {
    /// The state of one credential; `None` where it is not in the configuration.
    pub fn find(&self, spec: &CredentialSpec) -> Option<&CredentialState> {
        match spec.secrets().next() {
            None => self.states.get(spec),
            Some(_) => self.states.get(&spec.without_documents()),
        }
    }

    /// The rows of the table (ISTIO.md B12) now; see [`rows_at`](Credentials::rows_at).
    pub fn rows(&self) -> Vec<CredentialRow> {
        self.rows_at(SystemTime::now())
    }

    /// The rows of the table (ISTIO.md B12) as of `now`: sorted, what several credentials share
    /// once. One row for each leaf, each anchor of a CA file, each CRL file, and the whole
    /// system store.
    pub fn rows_at(&self, now: SystemTime) -> Vec<CredentialRow> {
        let states = self.states.iter();
        rows::rows(
            states.map(|(spec, state)| (Names::of(spec), state)),
            seconds(now),
        )
    }
}
