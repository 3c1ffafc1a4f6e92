//! What a run is told besides its configuration files.
//!
//! Owns: the defaults of the flags.
//! Never: reads an environment variable (that is `cli`).
//! Called by: cli, tests.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::config::LoadOptions;
use crate::model::Interception;
use crate::probe::AppProbes;

/// Everything that the command line says.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Files and folders.
    pub config: Vec<PathBuf>,
    /// Plain HTTP listeners beside those of the files.
    pub listen: Vec<SocketAddr>,
    /// Listeners for redirected connections beside those of the files.
    pub capture: Vec<SocketAddr>,
    /// How connections for the application are captured.
    pub interception: Interception,
    /// The admin port; `None`: none.
    pub admin: Option<SocketAddr>,
    /// Status ports: readiness and metrics for the network.
    pub status: Vec<SocketAddr>,
    /// Worker threads; `None`: the cores that the cgroup grants.
    pub workers: Option<usize>,
    /// A path, or `-` for standard output.
    pub access_log: Option<PathBuf>,
    /// `text`, `json`, or a format string in Envoy's operators.
    pub access_log_format: String,
    /// Answers of ours say Envoy's fixed text alone.
    pub terse_errors: bool,
    /// How long a drain takes at least: so long new connections are taken (ISTIO.md I11).
    pub drain_time: Duration,
    /// The application's own probes, for the status ports to ask (ISTIO.md I8).
    pub app_probes: AppProbes,
    /// Where the application is asked; `None`: on loopback.
    pub pod_ip: Option<IpAddr>,
    /// The application may call out until no connection is left (ISTIO.md I12).
    pub drain_until_idle: bool,
    /// How long a drain may take.
    pub drain_timeout: Duration,
    /// How long secrets that are missing at the start keep it from being ready.
    pub secrets_timeout: Duration,
    /// Who the proxy is, and how documents are read.
    pub load: LoadOptions,
}

impl Default for RunOptions {
    fn default() -> Self {
        RunOptions {
            config: Vec::new(),
            listen: Vec::new(),
            capture: Vec::new(),
            interception: Interception::default(),
            admin: None,
            status: Vec::new(),
            workers: None,
            access_log: None,
            access_log_format: "text".to_owned(),
            terse_errors: false,
            drain_time: Duration::ZERO,
            app_probes: AppProbes::new(),
            pod_ip: None,
            drain_until_idle: false,
            drain_timeout: Duration::from_secs(30),
            secrets_timeout: Duration::from_secs(15),
            load: LoadOptions::default(),
        }
    }
}
