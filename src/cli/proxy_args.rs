//! The flags of a proxy, for the commands that run one.
//!
//! Owns: the flags, and their `SORTIE_*` variables.
//! Never: starts anything.
//! Called by: `cli::run`, `cli::exec`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::facts::FactsArgs;
use crate::app::RunOptions;
use crate::model::Interception;
use crate::probe::{self, AppProbes};
use crate::telemetry::{LogControl, LogFormat};

/// Everything but the configuration.
#[derive(Debug, clap::Args)]
pub(super) struct ProxyArgs {
    /// Listen for plain HTTP; repeatable. Port 80 is the usual one
    #[arg(
        long,
        short,
        value_name = "ADDR",
        env = "SORTIE_LISTEN",
        value_delimiter = ','
    )]
    pub(super) listen: Vec<SocketAddr>,
    /// Listen for connections that the kernel redirects here; repeatable
    #[arg(
        long,
        value_name = "ADDR",
        env = "SORTIE_CAPTURE",
        value_delimiter = ','
    )]
    pub(super) capture: Vec<SocketAddr>,
    /// How connections to --inbound are captured: REDIRECT, or TPROXY, by which the application sees
    /// its clients' own addresses
    #[arg(
        long,
        value_name = "HOW",
        env = "SORTIE_INTERCEPTION",
        default_value = "REDIRECT",
        value_parser = interception
    )]
    interception: Interception,
    /// The admin port: readiness, metrics, what is loaded
    #[arg(
        long,
        value_name = "ADDR",
        env = "SORTIE_ADMIN",
        default_value = "127.0.0.1:15000"
    )]
    pub(super) admin: SocketAddr,
    /// No admin port
    #[arg(long, env = "SORTIE_NO_ADMIN", conflicts_with = "admin")]
    no_admin: bool,
    /// Readiness and metrics for the network, where nothing can be changed; repeatable
    #[arg(
        long,
        value_name = "ADDR",
        env = "SORTIE_STATUS",
        value_delimiter = ','
    )]
    pub(super) status: Vec<SocketAddr>,
    /// Worker threads [default: the cores that the cgroup grants]
    #[arg(long, value_name = "N", env = "SORTIE_WORKERS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// Write one line per request to this file, or to standard output with -
    #[arg(long, value_name = "PATH", env = "SORTIE_ACCESS_LOG")]
    access_log: Option<PathBuf>,
    /// text (Envoy's default line), json, or a format string of Envoy's operators
    #[arg(
        long,
        value_name = "FORMAT",
        env = "SORTIE_ACCESS_LOG_FORMAT",
        default_value = "text"
    )]
    access_log_format: String,
    /// error, warn, info, debug, trace, or directives such as info,sortie::tls=debug
    #[arg(
        long,
        value_name = "LEVEL",
        env = "SORTIE_LOG_LEVEL",
        default_value = "info"
    )]
    pub(super) log_level: String,
    /// How the log on standard error looks
    #[arg(
        long,
        value_name = "FORMAT",
        env = "SORTIE_LOG_FORMAT",
        default_value = "text"
    )]
    pub(super) log_format: LogFormat,
    /// Error answers carry Envoy's fixed text alone, not the reason in words
    #[arg(long, env = "SORTIE_TERSE_ERRORS")]
    terse_errors: bool,
    /// How long new connections are still taken after SIGTERM, in seconds: those who send them may
    /// not know yet, and the application may have to call out to finish
    #[arg(long, value_name = "SECONDS", env = "SORTIE_DRAIN_TIME", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    drain_time: u64,
    /// The application's own probes, as JSON or @FILE: what a status port asks for /app-health/..
    #[arg(long, value_name = "JSON", env = "SORTIE_APP_PROBES")]
    app_probes: Option<String>,
    /// Where those ask [default: loopback]
    #[arg(long, value_name = "IP", env = "SORTIE_POD_IP")]
    pod_ip: Option<IpAddr>,
    /// The application may call out until no connection is left, or --drain-timeout
    #[arg(long, env = "SORTIE_DRAIN_UNTIL_IDLE")]
    drain_until_idle: bool,
    /// How long requests under way may take to finish after SIGTERM, in seconds
    #[arg(long, value_name = "SECONDS", env = "SORTIE_DRAIN_TIMEOUT", default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    drain_timeout: u64,
    /// How long missing secrets keep the proxy from being ready at the start, in seconds
    #[arg(long, value_name = "SECONDS", env = "SORTIE_SECRETS_TIMEOUT", default_value_t = 15, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    secrets_timeout: u64,
    /// Who the proxy is
    #[command(flatten)]
    facts: FactsArgs,
}

/// Bytes of a file of probes.
const MAX_PROBES: u64 = 256 * 1024;

impl ProxyArgs {
    /// The admin port; `None`: there is to be none.
    pub(super) fn admin_address(&self) -> Option<SocketAddr> {
        (!self.no_admin).then_some(self.admin)
    }

    /// True where something is to be listened on besides the admin port.
    pub(super) fn has_listeners(&self) -> bool {
        let none = self.listen.is_empty()
            && self.capture.is_empty()
            && self.status.is_empty()
            && self.facts.inbound.is_empty();
        !none
    }

    fn probes(&self) -> Result<AppProbes, String> {
        let Some(text) = &self.app_probes else {
            return Ok(AppProbes::new());
        };
        let fail = |error: String| format!("--app-probes: {error}");
        let read = match text.strip_prefix('@') {
            Some(path) => probe::read(&file(path).map_err(|why| fail(format!("{path}: {why}")))?),
            None => probe::read(text),
        };
        read.map_err(|error| fail(error.to_string()))
    }

    /// Sets up the log.
    ///
    /// # Errors
    /// In words, with the flag.
    pub(super) fn log(&self) -> Result<LogControl, String> {
        LogControl::install(&self.log_level, self.log_format)
            .map_err(|error| format!("--log-level: {error}"))
    }

    /// What the flags say.
    ///
    /// # Errors
    /// In words: the flag, what came and what was expected.
    pub(super) fn options(self, config: Vec<PathBuf>) -> Result<RunOptions, String> {
        let app_probes = self.probes()?;
        let args = self;
        if args.drain_time > args.drain_timeout {
            return Err(format!(
                "--drain-time {} is longer than --drain-timeout {}, which ends the drain; give a \
                 longer --drain-timeout",
                args.drain_time, args.drain_timeout
            ));
        }
        let mut load = args.facts.options()?;
        load.mesh_listeners = !(args.listen.is_empty() && args.capture.is_empty());
        Ok(RunOptions {
            load,
            config,
            listen: args.listen,
            capture: args.capture,
            interception: args.interception,
            admin: (!args.no_admin).then_some(args.admin),
            status: args.status,
            workers: args.workers.map(usize::from),
            access_log: args.access_log,
            access_log_format: args.access_log_format,
            terse_errors: args.terse_errors,
            drain_time: Duration::from_secs(args.drain_time),
            app_probes,
            pod_ip: args.pod_ip,
            drain_until_idle: args.drain_until_idle,
            drain_timeout: Duration::from_secs(args.drain_timeout),
            secrets_timeout: Duration::from_secs(args.secrets_timeout),
        })
    }
}

fn interception(text: &str) -> Result<Interception, String> {
    match text.parse() {
        Ok(how @ (Interception::Redirect | Interception::Tproxy)) => Ok(how),
        _ => Err(format!("\"{text}\" is not REDIRECT or TPROXY")),
    }
}

fn file(path: &str) -> Result<String, String> {
    let meta = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !meta.is_file() || meta.len() > MAX_PROBES {
        return Err(format!("expected a file of at most {MAX_PROBES} bytes"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}
