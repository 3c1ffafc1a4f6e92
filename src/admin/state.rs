//! What the admin room must be given, and what it may ask for.
//!
//! Owns: the trait that shows the proxy's inside, and the commands that change it.
//! Never: carries out a command (that is `app`).
//! Called by: app (fills it), every endpoint of this room.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::certs::CredentialRow;
use crate::drain::Drain;
use crate::explain::{Explanation, Question};
use crate::model::{Config, ListenAddr, ListenerKind};
use crate::telemetry::{LogControl, Metrics, Status};

/// Everything that the endpoints show or change.
pub struct AdminState {
    /// `/metrics`.
    pub metrics: Arc<Metrics>,
    /// `/ready`, and what `/config` says of reloads.
    pub status: Arc<Status>,
    /// Not ready as soon as it has started (I14).
    pub drain: Drain,
    /// `/logging`; `None` where somebody else set up the log.
    pub log: Option<LogControl>,
    /// `/reload`, `/drain`, `/quitquitquit`.
    pub commands: mpsc::Sender<Command>,
    /// `/config`, `/certs`, `/routes`, `/explain`.
    pub inside: Box<dyn Inside>,
}

/// A look at what is in force now. Called on the admin's thread, once per request.
pub trait Inside: Send + Sync + 'static {
    /// The published configuration; `None` before the first.
    fn config(&self) -> Option<Arc<Config>>;
    /// The files and folders that it was read from.
    fn sources(&self) -> Vec<PathBuf>;
    /// Every listener that is bound.
    fn listeners(&self) -> Vec<(ListenAddr, ListenerKind)>;
    /// Every certificate that is loaded, and every one that should be.
    fn certificates(&self) -> Vec<CredentialRow>;
    /// How the upstream `name` is doing.
    fn upstream(&self, name: &str) -> UpstreamHealth;
    /// Why TLS cannot be spoken with clients at the entrance `name`; `None` where it can.
    fn entrance(&self, name: &str) -> Option<String>;
    /// Why a request goes where it goes.
    fn explain(&self, question: &Question) -> Explanation;
}

/// How one upstream is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamHealth {
    /// Why it cannot be used at all, such as a credential that is missing.
    pub unavailable: Option<String>,
    /// Its addresses, as far as they are known.
    pub endpoints: Vec<EndpointHealth>,
}

/// How one endpoint is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointHealth {
    /// The address that is dialled.
    pub address: SocketAddr,
    /// The name that it was resolved from, or the address again.
    pub name: String,
    /// How many seconds more it is shunned; `None` where it is not.
    pub ejected_for: Option<u64>,
    /// Failures in a row.
    pub failures: u32,
    /// Requests under way.
    pub active: u64,
}

/// What an operator asks for. The answer goes into the sender.
#[derive(Debug)]
pub enum Command {
    /// Check every file now (R18).
    Reload(oneshot::Sender<ReloadReport>),
    /// Let nobody new in, and finish what came in (I13). Answered once it has begun.
    Drain(oneshot::Sender<()>),
    /// End now with exit code 0 (I13). Answered once it has begun.
    Quit(oneshot::Sender<()>),
}

/// What a reload found (R18).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// The version in force afterwards.
    pub version: u64,
    /// What is different from before, one name each; empty where nothing changed.
    pub changed: Vec<String>,
    /// Why nothing was taken, or which credential was not; empty where all is well.
    pub problems: Vec<String>,
}
