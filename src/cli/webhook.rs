//! `sortie webhook`: sidecars for new pods, when Kubernetes asks.
//!
//! Owns: its flags, their variables, and the signals.
//! Never: knows what a review is.
//! Called by: cli.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::command::USAGE;
use super::inject_settings::SidecarArgs;
use crate::telemetry::{LogControl, LogFormat};
use crate::webhook::{self, Files, Options, Running};

/// Put sidecars into new pods, as a mutating admission webhook of Kubernetes
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the API server calls: HTTPS, POST /mutate and /mutate/namespace
    #[arg(
        long,
        value_name = "ADDR",
        env = "SORTIE_WEBHOOK_LISTEN",
        default_value = "[::]:8443"
    )]
    listen: SocketAddr,
    /// Its certificate chain, PEM; read again when it changes
    #[arg(long, value_name = "FILE", env = "SORTIE_WEBHOOK_CERT")]
    cert: PathBuf,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", env = "SORTIE_WEBHOOK_KEY")]
    key: PathBuf,
    /// Whoever calls must show a certificate of this CA [default: nobody is asked]
    #[arg(long, value_name = "FILE", env = "SORTIE_WEBHOOK_CLIENT_CA")]
    client_ca: Option<PathBuf>,
    /// Readiness and metrics: plain HTTP
    #[arg(
        long,
        value_name = "ADDR",
        env = "SORTIE_STATUS",
        default_value = "[::]:15021"
    )]
    status: SocketAddr,
    /// How long what was asked may take to be answered after SIGTERM, in seconds
    #[arg(
        long,
        value_name = "SECONDS",
        env = "SORTIE_DRAIN_TIMEOUT",
        default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(0..=600)
    )]
    drain_timeout: u64,
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
    #[command(flatten)]
    sidecar: SidecarArgs,
}

/// Runs until SIGTERM or SIGINT; exit code 0, or 1 where an address cannot be had.
pub fn run(args: Args) -> ExitCode {
    if let Err(error) = LogControl::install(&args.log_level, args.log_format) {
        eprintln!("sortie: --log-level: {error}");
        return ExitCode::from(USAGE);
    }
    let most = Duration::from_secs(args.drain_timeout);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let served = runtime
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(serve(options(args), most)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sortie: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options(args: Args) -> Options {
    Options {
        listen: args.listen,
        status: Some(args.status),
        files: Files {
            certificate: args.cert,
            key: args.key,
            client_ca: args.client_ca,
        },
        settings: args.sidecar.settings(),
    }
}

async fn serve(options: Options, most: Duration) -> Result<(), String> {
    // Before anything else: a signal that comes during the start is not lost.
    let listen = |kind| signal(kind).map_err(|error| format!("cannot wait for signals: {error}"));
    let (mut terminate, mut interrupt) = (
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
    );
    let started = webhook::start(options).await;
    let running: Running = started.map_err(|error| error.to_string())?;
    tracing::info!(address = %running.listen, "webhook listening");
    if let Some(address) = running.status {
        tracing::info!(%address, "status port");
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("draining; a second signal ends at once");
    tokio::select! {
        whole = running.stop(most) => {
            if !whole {
                tracing::warn!("the drain is over after {most:?}; what is left is cut off");
            }
        }
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
