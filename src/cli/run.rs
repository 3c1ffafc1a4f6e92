//! `sortie run`: the proxy.
//!
//! Owns: the configuration's flag, and the signals.
//! Never: starts a thread itself (that is `app`).
//! Called by: cli.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::command::USAGE;
use super::proxy_args::ProxyArgs;
use crate::app::{self, Ended, Running};
use crate::listener::KernelOriginalDst;

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
    #[command(flatten)]
    proxy: ProxyArgs,
}

/// Runs until SIGTERM, SIGINT or the admin port say otherwise.
pub fn run(args: Args) -> ExitCode {
    match start(args.config, args.proxy) {
        Ok(running) => until_told(running),
        Err(code) => code,
    }
}

/// Starts a proxy; what is in the way is said on standard error.
pub(super) fn start(config: Vec<PathBuf>, proxy: ProxyArgs) -> Result<Running, ExitCode> {
    let usage = |error: String| {
        eprintln!("sortie: {error}");
        ExitCode::from(USAGE)
    };
    let log = proxy.log().map_err(usage)?;
    let options = proxy.options(config).map_err(usage)?;
    app::start_with(options, Arc::new(KernelOriginalDst), Some(log)).map_err(|error| {
        eprintln!("sortie: {error}");
        ExitCode::from(if error.is_usage() { USAGE } else { 1 })
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
        Ok(Ended::Now) => Asked::Quit,
        Ok(Ended::No) | Err(_) => std::future::pending().await,
    }
}
