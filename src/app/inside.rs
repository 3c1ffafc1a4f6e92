//! What the admin port is shown and what it may ask for.
//!
//! Owns: the answers to `admin::Inside`, and the carrying out of its commands.
//! Never: formats anything.
//! Called by: `app::start`.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};

use super::running::{Bound, Ended};
use crate::admin::{Command, EndpointHealth, Inside, ReloadReport, UpstreamHealth};
use crate::certs::CredentialRow;
use crate::drain::Drain;
use crate::explain::{Explanation, Known, Question, explain};
use crate::model::{Config, ListenAddr, ListenerKind};
use crate::publish::{Report, Request, Shared};
use crate::snapshot::{ServerSide, SnapshotCell};
use crate::telemetry::{AccessLog, Status};
use crate::upstream::UpstreamTls;

/// The proxy as the admin port sees it.
pub(super) struct View {
    pub(super) shared: Shared,
    pub(super) cell: Arc<SnapshotCell>,
    pub(super) sources: Vec<PathBuf>,
    pub(super) bound: Arc<Mutex<Bound>>,
}

impl Inside for View {
    fn config(&self) -> Option<Arc<Config>> {
        Some(self.shared.config())
    }

    fn sources(&self) -> Vec<PathBuf> {
        self.sources.clone()
    }

    fn listeners(&self) -> Vec<(ListenAddr, ListenerKind)> {
        let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        bound
            .listeners
            .iter()
            .map(|(kind, address)| (*address, *kind))
            .collect()
    }

    fn certificates(&self) -> Vec<CredentialRow> {
        self.shared.credentials().rows()
    }

    fn upstream(&self, name: &str) -> UpstreamHealth {
        let snapshot = self.cell.peek();
        let Some(upstream) = snapshot.upstreams.get(name) else {
            return UpstreamHealth::default();
        };
        let unavailable = match upstream.tls() {
            UpstreamTls::Unavailable(reason) => Some(reason.clone()),
            UpstreamTls::Plain | UpstreamTls::Tls(_) => None,
        };
        let endpoints = upstream
            .endpoints()
            .into_iter()
            .map(|endpoint| EndpointHealth {
                address: endpoint.address.0,
                name: endpoint.name.to_string(),
                ejected_for: endpoint.ejected_for.map(|left| left.as_secs()),
                failures: endpoint.failures,
                active: endpoint.active,
            });
        UpstreamHealth {
            unavailable,
            endpoints: endpoints.collect(),
        }
    }

    fn entrance(&self, name: &str) -> Option<String> {
        let snapshot = self.cell.peek();
        match snapshot.entrances.named(name)?.tls.server()? {
            ServerSide::Ready(_) => None,
            ServerSide::Unavailable(reason) => Some(reason.to_string()),
        }
    }

    fn explain(&self, question: &Question) -> Explanation {
        explained(self, question)
    }
}

/// Why a request goes where it goes, in the running proxy.
fn explained(view: &View, question: &Question) -> Explanation {
    let known = Known {
        snapshot: &view.cell.peek(),
        config: &view.shared.config(),
        files_are_elsewhere: false,
    };
    explain(question, &known)
}

/// What the commands act on.
pub(super) struct Levers {
    pub(super) reload: mpsc::Sender<Request>,
    pub(super) drain: Drain,
    pub(super) status: Arc<Status>,
    pub(super) ended: watch::Sender<Ended>,
    pub(super) access_log: Option<Arc<AccessLog>>,
}

impl Levers {
    /// Carries out commands until nobody can send one any more.
    pub(super) async fn obey(self, mut commands: mpsc::Receiver<Command>) {
        while let Some(command) = commands.recv().await {
            match command {
                Command::Reload(answer) => {
                    if let Some(log) = &self.access_log {
                        log.reopen();
                    }
                    let (ask, report) = oneshot::channel();
                    let asked = self.reload.send(ask).await.is_ok();
                    let report = if asked { report.await.ok() } else { None };
                    let _ = answer.send(report.map_or_else(gone, shown));
                }
                Command::Drain(answer) => {
                    self.status.hold("drain", "draining");
                    // I13: the end comes with SIGTERM, and until then the application may call out.
                    self.drain.close_inbound();
                    tracing::info!("told to drain: nobody new comes in; SIGTERM ends the process");
                    let _ = answer.send(());
                }
                Command::Quit(answer) => {
                    let _ = answer.send(());
                    self.ended.send_replace(Ended::Now);
                }
            }
        }
    }
}

fn shown(report: Report) -> ReloadReport {
    let Report {
        version,
        changed,
        problems,
    } = report;
    ReloadReport {
        version,
        changed,
        problems,
    }
}

fn gone() -> ReloadReport {
    ReloadReport {
        problems: vec!["the reload loop has ended".to_owned()],
        ..Default::default()
    }
}
