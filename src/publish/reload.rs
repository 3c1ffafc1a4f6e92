//! The one loop: a change, then load, check, build, publish; or keep what runs and say so.
//!
//! Owns: what was loaded last, the credential store, the version number.
//! Never: publishes half of anything. A failure changes nothing but a log line for each
//! diagnostic, a metric, and what the admin port says (ISTIO.md X2, R12).
//! Called by: app.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};

use super::build::build;
use super::fingerprint::fingerprint;
use super::identity;
use super::overrides::{Overrides, Sockets};
use super::refused::{log, refusals, show};
use super::secrets::Awaited;
use crate::certs::{CertStore, Checked, CredentialRow, Credentials};
use crate::config::{self, Diagnostics, LoadOptions};
use crate::model::{Config, Rotation};
use crate::route::RouteError;
use crate::snapshot::{Snapshot, SnapshotCell};
use crate::telemetry::{Metrics, Status};
use crate::upstream::{Upstream, UpstreamContext, UpstreamTls};
use crate::watch::Watch;

/// A connection of an old identity is closed this long before the identity ends (R16).
const BEFORE_EXPIRY: Duration = Duration::from_secs(60);

/// What a reload did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The version that runs now.
    pub version: u64,
    /// Resources with new content, and `configuration` where the documents changed.
    pub changed: Vec<String>,
    /// Why something was refused, one line each.
    pub problems: Vec<String>,
}

/// What others may see of the cold half: the configuration that runs, and its credentials.
#[derive(Clone, Default)]
pub struct Shared(Arc<Mutex<(Arc<Config>, Arc<Credentials>)>>);

impl Shared {
    /// The configuration that runs.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner).0)
    }

    /// The credentials that run, with their problems.
    pub fn credentials(&self) -> Arc<Credentials> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner).1)
    }

    fn set(&self, config: Arc<Config>, credentials: Arc<Credentials>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (config, credentials);
    }
}

/// Why the first load failed: there is nothing to keep running.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The documents.
    #[error("{0}")]
    Config(Diagnostics),
    /// The routing table, one line for each rule that cannot be compiled.
    #[error("{}", lines(.0))]
    Routes(Vec<RouteError>),
}

fn lines(errors: &[RouteError]) -> String {
    errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Where the parts of the process meet the reload loop.
pub struct Parts {
    /// Files and folders.
    pub sources: Vec<PathBuf>,
    /// How they are read.
    pub load: LoadOptions,
    /// What flags add.
    pub overrides: Overrides,
    /// For new upstreams.
    pub context: UpstreamContext,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Readiness and the last refusal.
    pub status: Arc<Status>,
    /// What others may see.
    pub shared: Shared,
    /// How long missing secrets keep the process from being ready.
    pub secrets_timeout: Duration,
}

/// The first load, not yet serving.
pub struct FirstLoad {
    state: State,
    config: Arc<Config>,
    snapshot: Snapshot,
}

/// Loads for the first time. Missing credentials are no error: their upstreams fail closed and
/// heal (ISTIO.md T17). Blocking.
///
/// # Errors
/// Everything that is wrong with the documents.
pub fn first_load(parts: Parts) -> Result<FirstLoad, LoadError> {
    let print = fingerprint(&parts.sources);
    let mut loaded = config::load(&parts.sources, &parts.load).map_err(LoadError::Config)?;
    log(&loaded.warnings);
    parts.overrides.apply(&mut loaded.config);
    let config = Arc::new(loaded.config);
    let mut store = CertStore::new(Arc::clone(&parts.metrics));
    store.set(config.credentials());
    let checked = store.check(SystemTime::now());
    let snapshot =
        build(&config, &store.current(), None, &parts.context, 1).map_err(LoadError::Routes)?;
    let awaited = Awaited::new(parts.secrets_timeout);
    let state = State {
        parts,
        store,
        print,
        files: loaded.files,
        retry_after: checked.retry_after,
        version: 1,
        awaited,
    };
    Ok(FirstLoad {
        state,
        config,
        snapshot,
    })
}

impl FirstLoad {
    /// What it says.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Turns the load into the pointer that workers read, and the loop that keeps it fresh.
    pub fn publish(self) -> (Arc<SnapshotCell>, Unopened) {
        let FirstLoad {
            mut state,
            config,
            snapshot,
        } = self;
        state.awaited.look(&snapshot, &state.parts.status);
        let cell = Arc::new(SnapshotCell::new(snapshot));
        state
            .parts
            .shared
            .set(Arc::clone(&config), state.store.current());
        state.accepted(&config);
        (
            Arc::clone(&cell),
            Unopened {
                state,
                config,
                cell,
            },
        )
    }
}

/// A published configuration whose listeners are not open yet.
pub struct Unopened {
    state: State,
    config: Arc<Config>,
    cell: Arc<SnapshotCell>,
}

impl Unopened {
    /// Opens the listeners; from here on requests come.
    ///
    /// # Errors
    /// Every listener that cannot be opened, in words.
    pub fn open(self, mut sockets: Box<dyn Sockets>) -> Result<Reloader, Vec<String>> {
        sockets.prepare(&self.config.listeners)?;
        sockets.commit();
        let Unopened {
            state,
            config,
            cell,
        } = self;
        Ok(Reloader {
            state,
            config,
            cell,
            sockets,
            old: Vec::new(),
        })
    }
}

struct State {
    parts: Parts,
    store: CertStore,
    print: [u8; 32],
    files: Vec<PathBuf>,
    retry_after: Option<Duration>,
    version: u64,
    awaited: Awaited,
}

impl State {
    fn accepted(&self, config: &Config) {
        let now = SystemTime::now();
        show(config, &self.parts.status);
        identity::compare(config, &self.store.current());
        self.parts.metrics.config.accepted(self.version, now);
        self.parts.status.accepted(self.version, now);
    }

    /// What is wrong with credentials, one line each.
    fn problems(&self) -> Vec<String> {
        let current = self.store.current();
        let rows = current.rows().into_iter();
        rows.filter_map(|row| Some(format!("{}: {}", row.resource, row.problem?.words)))
            .collect()
    }

    /// Problems, and certificates of ours that have ended: detail of readiness, no more (R17).
    fn note_problems(&self) {
        let current = self.store.current();
        let ended = current.rows().into_iter().filter(CredentialRow::has_ended);
        let ended = ended.map(|row| format!("{}: the certificate has expired", row.resource));
        let lines = self.problems().into_iter().chain(ended);
        self.parts.status.note("credentials", lines.collect());
    }
}

/// The cold loop.
pub struct Reloader {
    state: State,
    config: Arc<Config>,
    cell: Arc<SnapshotCell>,
    sockets: Box<dyn Sockets>,
    /// Snapshots that a worker may still hold: a large table is dropped here and not on a worker.
    old: Vec<Arc<Snapshot>>,
}

/// A request to look at everything now (R18); the answer says what changed.
pub type Request = oneshot::Sender<Report>;

impl Reloader {
    /// Runs until every sender of `requests` is gone.
    pub async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut rotation = self.config.rotation.clone();
        let mut watch = Watch::new(rotation.poll);
        watch.set_paths(&self.paths());
        self.state.note_problems();
        loop {
            let asked = tokio::select! {
                _ = watch.changed() => None,
                () = after(self.state.retry_after) => None,
                () = self.state.awaited.expired() => None,
                asked = requests.recv() => match asked {
                    Some(asked) => Some(asked),
                    None => return,
                },
            };
            let forced = asked.is_some();
            // Reading files and compiling tables blocks, and the admin port must go on meanwhile.
            let status = Arc::clone(&self.state.parts.status);
            let done = tokio::task::spawn_blocking(move || {
                let report = self.look(forced);
                (self, report)
            });
            let Ok((back, report)) = done.await else {
                tracing::error!("the reload loop ended in a panic; restart sortie");
                status.hold("reload", "the reload loop ended in a panic; restart sortie");
                return;
            };
            self = back;
            if self.config.rotation != rotation {
                rotation = self.config.rotation.clone();
                watch = Watch::new(rotation.poll);
            }
            watch.set_paths(&self.paths());
            if let Some(asked) = asked {
                let _ = asked.send(report);
            }
        }
    }

    fn paths(&self) -> Vec<PathBuf> {
        let mut paths = self.state.files.clone();
        paths.extend(self.state.parts.sources.iter().cloned());
        paths.extend(self.state.store.paths());
        paths
    }

    /// Looks at every file, and takes what is whole and new.
    fn look(&mut self, forced: bool) -> Report {
        self.old.retain(|old| Arc::strong_count(old) > 1);
        let mut report = Report::default();
        let print = fingerprint(&self.state.parts.sources);
        let documents_changed = print != self.state.print;
        let candidate = if documents_changed || (forced && self.is_refused()) {
            self.state.print = print;
            self.load(&mut report)
        } else {
            None
        };
        let wanted = candidate.as_ref().unwrap_or(&self.config);
        self.state.store.set(wanted.credentials());
        let checked = self.state.store.check(SystemTime::now());
        self.state.retry_after = checked.retry_after;
        let Checked {
            changed,
            problems_changed,
            ..
        } = checked;
        let news = problems_changed || !changed.is_empty();
        if candidate.is_some() {
            if !self.publish(candidate, &mut report) {
                self.go_back(news, &mut report);
            }
        } else if news {
            self.publish(None, &mut report);
        }
        report.changed.extend(changed);
        self.state.note_problems();
        let snapshot = self.cell.peek();
        self.state.awaited.look(&snapshot, &self.state.parts.status);
        if forced {
            report.problems.extend(self.state.problems());
        }
        report.version = self.state.version;
        report
    }

    /// The documents are refused. The credentials go back to what the running ones name, and
    /// those that rotated at the same time are taken all the same: the store has them already
    /// and will not report them again.
    fn go_back(&mut self, news: bool, report: &mut Report) {
        self.state.store.set(self.config.credentials());
        let checked = self.state.store.check(SystemTime::now());
        self.state.retry_after = checked.retry_after;
        if news || checked.problems_changed || !checked.changed.is_empty() {
            self.publish(None, report);
        }
        report.changed.extend(checked.changed);
    }

    fn is_refused(&self) -> bool {
        self.state.parts.status.refusal().is_some()
    }

    fn load(&mut self, report: &mut Report) -> Option<Arc<Config>> {
        match config::load(&self.state.parts.sources, &self.state.parts.load) {
            Ok(mut loaded) => {
                self.state.files = std::mem::take(&mut loaded.files);
                let refused = refusals(&loaded);
                if !refused.is_empty() {
                    self.refuse(refused, report);
                    return None;
                }
                log(&loaded.warnings);
                self.state.parts.overrides.apply(&mut loaded.config);
                Some(Arc::new(loaded.config))
            }
            Err(diagnostics) => {
                let lines = diagnostics.errors().map(ToString::to_string).collect();
                self.refuse(lines, report);
                None
            }
        }
    }

    /// Builds and swaps; on any failure what ran goes on, and the answer is false.
    fn publish(&mut self, candidate: Option<Arc<Config>>, report: &mut Report) -> bool {
        let old = self.cell.peek();
        let config = candidate
            .clone()
            .unwrap_or_else(|| Arc::clone(&self.config));
        let credentials = self.state.store.current();
        let version = self.state.version.saturating_add(1);
        let context = &self.state.parts.context;
        let built = build(&config, &credentials, Some(&old), context, version);
        let snapshot = match built {
            Ok(snapshot) => snapshot,
            Err(errors) => {
                let lines = errors.iter().map(ToString::to_string).collect();
                self.refuse(lines, report);
                return false;
            }
        };
        if let Err(lines) = self.sockets.prepare(&config.listeners) {
            self.refuse(lines, report);
            return false;
        }
        let gone = gone(&old, &snapshot);
        // Shown first: nothing is in use that the admin port does not know of.
        self.state
            .parts
            .shared
            .set(Arc::clone(&config), credentials);
        self.cell.publish(snapshot);
        self.sockets.commit();
        retire(&gone, &config.rotation);
        self.old.push(old);
        self.config = config;
        self.state.version = version;
        if candidate.is_some() {
            report.changed.push("configuration".to_owned());
            self.state.accepted(&self.config);
            tracing::info!(version, "the new configuration is in use");
        }
        true
    }

    fn refuse(&self, lines: Vec<String>, report: &mut Report) {
        tracing::error!(
            problems = lines.len(),
            "the new configuration is refused; version {} goes on",
            self.state.version,
        );
        for line in &lines {
            tracing::error!("{line}");
        }
        self.state.parts.metrics.config.refused();
        self.state
            .parts
            .status
            .refused(lines.clone(), SystemTime::now());
        report.problems.extend(lines);
    }
}

async fn after(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

/// Upstreams of the old snapshot that the new one has no more, or has anew.
fn gone(old: &Snapshot, new: &Snapshot) -> Vec<Arc<Upstream>> {
    let replaced = |upstream: &&Arc<Upstream>| {
        new.upstreams
            .get(&upstream.spec().name)
            .is_none_or(|now| !Arc::ptr_eq(now, upstream))
    };
    old.upstreams.values().filter(replaced).cloned().collect()
}

/// Idle connections go at once, busy ones when they are done, and all before the identity ends
/// (R15, R16).
fn retire(gone: &[Arc<Upstream>], rotation: &Rotation) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    for upstream in gone {
        let ends = match upstream.tls() {
            UpstreamTls::Tls(client) => client.credential().identity.as_ref(),
            UpstreamTls::Plain | UpstreamTls::Unavailable(_) => None,
        };
        let left = ends.map(|identity| {
            let end = u64::try_from(identity.leaf.not_after).unwrap_or_default();
            Duration::from_secs(end)
                .saturating_sub(now)
                .saturating_sub(BEFORE_EXPIRY)
        });
        let age = left.map_or(rotation.max_connection_age, |left| {
            left.min(rotation.max_connection_age)
        });
        upstream.retire(age);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::certs::tests::{Ca, Leaf};
    use crate::model::ListenerSpec;
    use crate::upstream::{OwnAddrs, Resolver};

    /// Sockets that exist in the mind only.
    #[derive(Clone, Default)]
    struct Ports {
        taken: Arc<AtomicBool>,
    }

    impl Sockets for Ports {
        fn prepare(&mut self, _: &[ListenerSpec]) -> Result<(), Vec<String>> {
            // Whoever takes the port lets it go after one look.
            match self.taken.swap(false, Ordering::Relaxed) {
                true => Err(vec!["the port is taken".to_owned()]),
                false => Ok(()),
            }
        }

        fn commit(&mut self) {}
    }

    struct Bench {
        folder: tempfile::TempDir,
        ca: Ca,
        ports: Ports,
        reloader: Reloader,
        _runtime: tokio::runtime::Runtime,
    }

    impl Bench {
        fn new() -> Bench {
            let folder = tempfile::tempdir().unwrap();
            let ca = Ca::new("ca");
            fs::write(folder.path().join("ca.crt"), &ca.pem).unwrap();
            rotate(folder.path(), &ca, 1);
            configure(folder.path(), "tls", "");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            let metrics = Metrics::new(1);
            let first = first_load(Parts {
                sources: vec![folder.path().join("sortie.yaml")],
                load: LoadOptions::default(),
                overrides: Overrides::default(),
                context: UpstreamContext {
                    workers: 1,
                    resolver: Resolver::system(runtime.handle().clone()),
                    own: OwnAddrs::new(),
                    metrics: Arc::clone(&metrics),
                },
                metrics,
                status: Status::new(),
                shared: Shared::default(),
                secrets_timeout: Duration::ZERO,
            });
            let ports = Ports::default();
            let (_, unopened) = first.unwrap().publish();
            let reloader = unopened.open(Box::new(ports.clone())).unwrap();
            Bench {
                folder,
                ca,
                ports,
                reloader,
                _runtime: runtime,
            }
        }

        fn upstream(&self) -> Arc<Upstream> {
            Arc::clone(&self.reloader.cell.peek().upstreams["bank"])
        }

        /// Serial number that requests are sent under.
        fn serial(&self) -> Option<String> {
            let upstream = self.upstream();
            let UpstreamTls::Tls(client) = upstream.tls() else {
                return None;
            };
            let identity = client.credential().identity.as_ref()?;
            Some(identity.leaf.serial.clone())
        }
    }

    fn rotate(folder: &Path, ca: &Ca, serial: u64) {
        let pair = ca.leaf(Leaf {
            serial,
            // The year 2100: this test lives by the real clock.
            to: 4_102_444_800,
            ..Leaf::default()
        });
        fs::write(folder.join("tls.crt"), pair.cert).unwrap();
        fs::write(folder.join("tls.key"), pair.key).unwrap();
    }

    fn configure(folder: &Path, pair: &str, more: &str) {
        let text = format!(
            "upstreams:\n  - name: bank\n    endpoints: 127.0.0.1:1\n    tls: {{mode: mutual, \
             certificate: {pair}.crt, key: {pair}.key, ca: ca.crt}}\nroutes:\n  - host: \
             bank.example\n    upstream: bank\n{more}"
        );
        fs::write(folder.join("sortie.yaml"), text).unwrap();
    }

    #[test]
    fn r18_a_forced_look_tells_what_changed_and_what_is_wrong() {
        let mut bench = Bench::new();
        assert_eq!(bench.reloader.look(true).changed, Vec::<String>::new());
        rotate(bench.folder.path(), &bench.ca, 2);
        let report = bench.reloader.look(true);
        assert!(matches!(&report.changed[..], [one] if one.starts_with("file-cert:")));
        assert_eq!((report.problems, report.version), (Vec::new(), 2));
        assert_eq!(bench.serial().as_deref(), Some("02"));
        fs::write(bench.folder.path().join("tls.key"), "").unwrap();
        let report = bench.reloader.look(true);
        assert!(report.problems[0].ends_with("tls.key is empty"));
        assert_eq!(bench.serial().as_deref(), Some("02"));
    }

    #[test]
    fn r13_a_look_without_news_keeps_the_very_upstream() {
        let mut bench = Bench::new();
        let before = bench.upstream();
        rotate(bench.folder.path(), &bench.ca, 2);
        bench.reloader.look(false);
        let after = bench.upstream();
        assert!(!Arc::ptr_eq(&before, &after));
        bench.reloader.look(false);
        assert!(Arc::ptr_eq(&after, &bench.upstream()));
    }

    #[test]
    fn x2_what_is_refused_is_told_and_what_is_merely_odd_is_not_called_a_problem() {
        let mut bench = Bench::new();
        let odd = "---\napiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: b}\n\
                   spec: {selector: {app: a}, ports: [{port: 1, name: other}]}\n";
        configure(bench.folder.path(), "tls", odd);
        assert_eq!(bench.reloader.look(false).problems, Vec::<String>::new());
        let broken = format!("{odd}---\nkind: [Service\n");
        configure(bench.folder.path(), "tls", &broken);
        let problems = bench.reloader.look(false).problems;
        assert!(
            matches!(&problems[..], [one] if one.contains("error[SRT0004]")),
            "{problems:?}"
        );
    }

    #[test]
    fn x2_a_refused_configuration_does_not_hide_a_rotation() {
        let mut bench = Bench::new();
        rotate(bench.folder.path(), &bench.ca, 2);
        configure(bench.folder.path(), "tls", "# more\n");
        bench.ports.taken.store(true, Ordering::Relaxed);
        let report = bench.reloader.look(false);
        assert_eq!(report.problems, ["the port is taken"]);
        assert!(bench.reloader.is_refused());
        assert_eq!(bench.serial().as_deref(), Some("02"));
    }

    #[test]
    fn x2_a_refused_configuration_does_not_cost_the_last_good_credential() {
        let mut bench = Bench::new();
        let before = bench.upstream();
        configure(bench.folder.path(), "moved", "");
        for name in ["crt", "key"] {
            let at = |stem: &str| bench.folder.path().join(format!("{stem}.{name}"));
            fs::rename(at("tls"), at("moved")).unwrap();
        }
        bench.ports.taken.store(true, Ordering::Relaxed);
        bench.reloader.look(false);
        bench.reloader.look(false);
        assert!(Arc::ptr_eq(&before, &bench.upstream()));
        assert_eq!(bench.serial().as_deref(), Some("01"));
    }
}
