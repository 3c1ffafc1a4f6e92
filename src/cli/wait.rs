//! `sortie wait`: until the proxy beside us is ready.
//!
//! Owns: its flags, and what a person sees meanwhile.
//! Never: starts a proxy, or a runtime.
//! Called by: cli.
//!
//! Why: as a postStart hook it holds the application until the proxy is ready (ISTIO.md I7); with
//! no time to wait it is a health check where there is no shell and no curl.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::command::USAGE;
use super::readiness::{self, Heard, Place};

/// Wait until the proxy is ready
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Asked are the status port 127.0.0.1:15021 and then the admin port \
                        127.0.0.1:15000, unless a flag says otherwise; the first that answers counts."
)]
pub struct Args {
    /// How long, in seconds; 0 looks once
    #[arg(long, short, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    timeout: u64,
    /// Ask the admin port at ADDR
    #[arg(long, value_name = "ADDR", env = "SORTIE_ADMIN")]
    admin: Option<String>,
    /// Ask the status port at ADDR; repeatable
    #[arg(
        long,
        value_name = "ADDR",
        env = "SORTIE_STATUS",
        value_delimiter = ','
    )]
    status: Vec<SocketAddr>,
    /// Ask this URL and nothing else
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

/// From here on a person is told what it waits for.
const SILENCE: Duration = Duration::from_secs(2);

/// 0 as soon as it is ready, 1 where it is not in time.
pub fn run(args: Args) -> ExitCode {
    let places = match places(&args) {
        Ok(places) => places,
        Err(error) => {
            eprintln!("sortie: --url: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let mut progress = Progress::new();
    let heard = readiness::until_ready(
        &places,
        Duration::from_secs(args.timeout),
        |heard, pause| {
            progress.tell(heard);
            std::thread::sleep(pause);
            true
        },
    );
    if heard == Heard::Ready {
        progress.done();
        return ExitCode::SUCCESS;
    }
    let waited = match args.timeout {
        0 => String::new(),
        seconds => format!(" after {seconds} s"),
    };
    eprint!("sortie: not ready{waited}: {}", heard.told());
    ExitCode::FAILURE
}

fn places(args: &Args) -> Result<Vec<Place>, String> {
    if let Some(url) = &args.url {
        return Ok(vec![Place::url(url)?]);
    }
    let status = args.status.iter().copied().map(Place::status);
    Ok(match &args.admin {
        Some(admin) => status.chain([Place::admin(admin)]).collect(),
        None => Place::usual(&args.status),
    })
}

/// What a person at a terminal sees: nothing at first, then each reason once.
pub(super) struct Progress {
    began: Instant,
    terminal: bool,
    last: String,
}

impl Progress {
    pub(super) fn new() -> Progress {
        Progress {
            began: Instant::now(),
            terminal: std::io::stderr().is_terminal(),
            last: String::new(),
        }
    }

    pub(super) fn tell(&mut self, heard: &Heard) {
        let reason = heard.first();
        if self.terminal && self.began.elapsed() >= SILENCE && reason != self.last {
            eprintln!("sortie: waiting: {reason}");
            self.last = reason.to_owned();
        }
    }

    pub(super) fn done(&self) {
        if !self.last.is_empty() {
            eprintln!(
                "sortie: ready after {:.1} s",
                self.began.elapsed().as_secs_f64()
            );
        }
    }
}
