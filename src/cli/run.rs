//! `sortie run`: the proxy.
//!
//! Owns: its flags, their `SORTIE_*` variables, and the signals.
//! Never: starts a thread itself (that is `app`).
//! Called by: cli.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::command::USAGE;
use super::facts::FactsArgs;
use crate::app::{self, Ended, RunOptions, Running};
use crate::listener::KernelOriginalDst;
use crate::telemetry::{LogControl, LogFormat};

/// Run the proxy
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration: a file, or a folder of *.yaml, *.yml and *.json; repeatable
    #[arg(
        long,
        short,
        value_name = "PATH",
        env = "SORTIE_CONFIG",
        value_delimiter = ',',
        required = true
    )]
    config: Vec<PathBuf>,
    /// Listen for plain HTTP; repeatable. Port 80 is the usual one
    #[arg(
        long,
        short,
        value_name = "ADDR",
        env = "SORTIE_LISTEN",
        value_delimiter = ','
    )]
    listen: Vec<SocketAddr>,
    /// Listen for connections that the kernel redirects here; repeatable
    #[arg(
        long,
        value_name = "ADDR",
        env = "SORTIE_CAPTURE",
        value_delimiter = ','
    )]
    capture: Vec<SocketAddr>,
    /// The admin port: readiness, metrics, what is loaded
    #[arg(
        long,
        value_name = "ADDR",
        env = "SORTIE_ADMIN",
        default_value = "127.0.0.1:15000"
    )]
    admin: SocketAddr,
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
    status: Vec<SocketAddr>,
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
    log_level: String,
    /// How the log on standard error looks
    #[arg(
        long,
        value_name = "FORMAT",
        env = "SORTIE_LOG_FORMAT",
        default_value = "text"
    )]
    log_format: LogFormat,
    /// Error answers carry Envoy's fixed text alone, not the reason in words
    #[arg(long, env = "SORTIE_TERSE_ERRORS")]
    terse_errors: bool,
    /// How long requests under way may take to finish after SIGTERM, in seconds
    #[arg(long, value_name = "SECONDS", env = "SORTIE_DRAIN_TIMEOUT", default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    drain_timeout: u64,
    /// Who the proxy is
    #[command(flatten)]
    facts: FactsArgs,
}

/// Runs until SIGTERM, SIGINT or the admin port say otherwise.
pub fn run(args: Args) -> ExitCode {
    let log = match LogControl::install(&args.log_level, args.log_format) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("sortie: --log-level: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let options = match options(args) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("sortie: {error}");
            return ExitCode::from(USAGE);
        }
    };
    match app::start_with(options, Arc::new(KernelOriginalDst), Some(log)) {
        Ok(running) => until_told(running),
        Err(error) => {
            eprintln!("sortie: {error}");
            ExitCode::from(if error.is_usage() { USAGE } else { 1 })
        }
    }
}

fn options(args: Args) -> Result<RunOptions, String> {
    let mut load = args.facts.options()?;
    load.mesh_listeners = !(args.listen.is_empty() && args.capture.is_empty());
    Ok(RunOptions {
        load,
        config: args.config,
        listen: args.listen,
        capture: args.capture,
        admin: (!args.no_admin).then_some(args.admin),
        status: args.status,
        workers: args.workers.map(usize::from),
        access_log: args.access_log,
        access_log_format: args.access_log_format,
        terse_errors: args.terse_errors,
        drain_timeout: Duration::from_secs(args.drain_timeout),
    })
}

/// How long a drain is looked away from at a time.
const MOMENT: Duration = Duration::from_millis(10);

/// What a signal or the admin port asks for.
enum Asked {
    Reload,
    Drain,
    Quit,
}

/// The signals, listened to from before the start: one that comes during a reload is not lost.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    ended: watch::Receiver<Ended>,
}

impl Signals {
    fn new(ended: watch::Receiver<Ended>) -> io::Result<Self> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            ended,
        })
    }

    /// Returns when somebody cannot wait for the drain.
    async fn hurry(&mut self) {
        let now = async {
            if self
                .ended
                .wait_for(|ended| *ended == Ended::Now)
                .await
                .is_err()
            {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = now => {}
        }
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Drain,
            _ = self.interrupt.recv() => Asked::Drain,
            told = told(&mut self.ended) => told,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}

fn until_told(running: Running) -> ExitCode {
    match Watchman::new(&running) {
        Ok(mut watchman) => match watchman.wait(&running) {
            Asked::Quit => running.kill(),
            Asked::Drain | Asked::Reload => {
                tracing::info!("draining; a second signal ends at once");
                running.stop_unless(|| watchman.is_in_a_hurry());
            }
        },
        Err(error) => {
            eprintln!("sortie: cannot wait for signals: {error}");
            running.kill();
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Waits for what the operator asks.
struct Watchman {
    runtime: Runtime,
    signals: Signals,
}

impl Watchman {
    fn new(running: &Running) -> io::Result<Watchman> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let signals = runtime.block_on(async { Signals::new(running.ended()) })?;
        Ok(Watchman { runtime, signals })
    }

    /// Returns when the process is to end.
    fn wait(&mut self, running: &Running) -> Asked {
        loop {
            match self.runtime.block_on(self.signals.next()) {
                Asked::Reload => {
                    tracing::info!("SIGHUP: looking at every file");
                    running.reload();
                }
                asked => return asked,
            }
        }
    }

    /// True where the operator asks again while a drain goes on; looks for a moment.
    fn is_in_a_hurry(&mut self) -> bool {
        let hurry = self.signals.hurry();
        self.runtime
            .block_on(async { tokio::time::timeout(MOMENT, hurry).await.is_ok() })
    }
}

/// Never returns where there is no admin port: its sender is then gone.
async fn told(ended: &mut watch::Receiver<Ended>) -> Asked {
    let value = ended
        .wait_for(|ended| *ended != Ended::No)
        .await
        .map(|ended| *ended);
    match value {
        Ok(Ended::Drain) => Asked::Drain,
        Ok(Ended::Now) => Asked::Quit,
        Ok(Ended::No) | Err(_) => std::future::pending().await,
    }
}
