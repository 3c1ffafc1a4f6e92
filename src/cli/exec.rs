//! `sortie exec -- COMMAND`: an application under the proxy.
//!
//! Owns: its flags, and the order: proxy ready, command, end of the command, end of the proxy.
//! Never: runs the command where the proxy is not ready.
//! Called by: cli.
//!
//! Why: an application that starts first fails its first calls, and a Job whose proxy never ends
//! never ends either. Neither needs a change of the application.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::client::{self, Ask};
use super::command::USAGE;
use super::proxy_args::ProxyArgs;
use super::readiness::{self, Heard, Place};
use super::run;
use super::wait::Progress;
use super::ward::{self, Event, Signals, Ward};
use crate::app::{Ended, Running};
use crate::model::ListenerKind;

/// Run a command under the proxy
#[derive(Debug, clap::Args)]
#[command(
    after_help = "With --config the proxy runs in this process. Without it the one beside us \
                        is used, at --admin, and told to end when the command has ended.\n\n\
                        Exit code: the command's; 128+N where signal N ended it; 127 where there is \
                        no such command and 126 where it cannot be run; 1 where the proxy is not \
                        ready, and then the command does not run."
)]
pub struct Args {
    /// Configuration: a file, or a folder of *.yaml, *.yml and *.json; repeatable
    #[arg(
        long,
        short,
        value_name = "PATH",
        env = "SORTIE_CONFIG",
        value_delimiter = ','
    )]
    config: Vec<PathBuf>,
    /// How long to wait until the proxy is ready, in seconds
    #[arg(long, value_name = "SECONDS", env = "SORTIE_READY_TIMEOUT", default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    ready_timeout: u64,
    /// Tell the command of the proxy by http_proxy, HTTP_PROXY and no_proxy
    #[arg(long, env = "SORTIE_PROXY_ENV")]
    proxy_env: bool,
    #[command(flatten)]
    proxy: ProxyArgs,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// How often the proxy is looked at while nothing happens.
const LOOK: Duration = Duration::from_millis(500);
/// The same while it is waited for, and while it drains.
const MOMENT: Duration = Duration::from_millis(10);
/// For the proxy beside us, to take the word that it may end.
const PARTING: Duration = Duration::from_secs(5);

/// The command's exit code, or why it did not run.
pub fn run(args: Args) -> ExitCode {
    let signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("sortie: cannot wait for signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    let timeout = Duration::from_secs(args.ready_timeout);
    match args.config.is_empty() {
        false => own(args, signals, timeout),
        true => joined(args, signals, timeout),
    }
}

/// With the proxy in this process.
fn own(args: Args, mut signals: Signals, timeout: Duration) -> ExitCode {
    let running = match run::start(args.config, args.proxy) {
        Ok(running) => running,
        Err(code) => return code,
    };
    if let Err(code) = ready(&running, &mut signals, timeout) {
        running.kill();
        return code;
    }
    let variables = match args.proxy_env.then(|| direct(&running)) {
        None => Vec::new(),
        Some(Some(listener)) => variables(listener),
        Some(None) => {
            running.kill();
            return no_listener();
        }
    };
    let mut ward = match Ward::start(&args.command, variables) {
        Ok(ward) => ward,
        Err(code) => {
            running.kill();
            return code;
        }
    };
    let code = beside(&running, &mut ward, &mut signals);
    running.stop_unless(|| match signals.next(MOMENT) {
        Event::Signal(signal) => ward::asks_to_end(signal),
        Event::Child => {
            ward::reap();
            false
        }
        Event::Nothing => false,
    });
    code
}

/// Waits until the proxy in this process is ready.
fn ready(running: &Running, signals: &mut Signals, timeout: Duration) -> Result<(), ExitCode> {
    let deadline = Instant::now() + timeout;
    let mut progress = Progress::new();
    loop {
        let reasons = running.status().reasons();
        if reasons.is_empty() {
            progress.done();
            return Ok(());
        }
        let heard = Heard::NotReady("the proxy".to_owned(), reasons);
        if Instant::now() >= deadline {
            not_ready(timeout, &heard);
            return Err(ExitCode::FAILURE);
        }
        progress.tell(&heard);
        interrupted(signals, MOMENT)?;
    }
}

fn not_ready(timeout: Duration, heard: &Heard) {
    let seconds = timeout.as_secs();
    let told = heard.told();
    eprint!("sortie: the command does not run: not ready after {seconds} s: {told}");
}

/// Lets `moment` pass; a signal that asks for an end ends all, as there is no command yet.
fn interrupted(signals: &mut Signals, moment: Duration) -> Result<(), ExitCode> {
    match signals.next(moment) {
        Event::Signal(signal) if ward::asks_to_end(signal) => Err(ward::ended_by(signal)),
        Event::Child => {
            ward::reap();
            Ok(())
        }
        Event::Signal(_) | Event::Nothing => Ok(()),
    }
}

/// Until the command ends. The proxy serves on meanwhile: once the command is told to end, clients
/// are no longer let in, and the command may still call out (ISTIO.md I11).
fn beside(running: &Running, ward: &mut Ward, signals: &mut Signals) -> ExitCode {
    let told = running.ended();
    let (mut quits, mut lost) = (false, false);
    loop {
        match signals.next(LOOK) {
            Event::Signal(signal) => {
                if signal == Signal::TERM {
                    running.retire();
                }
                ward.pass(signal);
            }
            Event::Child | Event::Nothing => {}
        }
        if let Some(code) = ward.ended() {
            return if lost { ExitCode::FAILURE } else { code };
        }
        if !quits && *told.borrow() == Ended::Now {
            quits = true;
            tracing::info!("told to quit: the command gets SIGTERM");
            ward.pass(Signal::TERM);
        }
        if !lost && !running.is_whole() {
            lost = true;
            eprintln!(
                "sortie: the proxy has lost a thread and cannot go on: the command gets SIGTERM"
            );
            ward.pass(Signal::TERM);
        }
    }
}

/// The first plain listener, as a process beside us reaches it.
fn direct(running: &Running) -> Option<SocketAddr> {
    let listeners = running.bound().listeners;
    let mut direct = listeners
        .iter()
        .filter(|(kind, _)| *kind == ListenerKind::Direct);
    direct.next().map(|(_, address)| address.0)
}

fn no_listener() -> ExitCode {
    eprintln!(
        "sortie: --proxy-env: the proxy has no plain listener; give it one, such as \
         --listen 127.0.0.1:8080"
    );
    ExitCode::from(USAGE)
}

fn variables(mut listener: SocketAddr) -> Vec<(&'static str, String)> {
    if listener.ip().is_unspecified() {
        listener.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let proxy = format!("http://{listener}");
    let near = "localhost,127.0.0.1,::1";
    let near = match std::env::var("no_proxy").or_else(|_| std::env::var("NO_PROXY")) {
        Ok(before) if !before.is_empty() => format!("{near},{before}"),
        _ => near.to_owned(),
    };
    vec![
        ("http_proxy", proxy.clone()),
        ("HTTP_PROXY", proxy),
        ("no_proxy", near.clone()),
        ("NO_PROXY", near),
    ]
}

/// With the proxy that runs beside us.
fn joined(args: Args, mut signals: Signals, timeout: Duration) -> ExitCode {
    let Some(admin) = args.proxy.admin_address().map(|admin| admin.to_string()) else {
        eprintln!("sortie: without --config the proxy beside us is asked, at --admin");
        return ExitCode::from(USAGE);
    };
    if args.proxy.has_listeners() {
        eprintln!(
            "sortie: without --config no proxy is started here, so nothing can listen: give \
             --config, or leave --listen, --capture, --inbound and --status out"
        );
        return ExitCode::from(USAGE);
    }
    if let Err(code) = joined_ready(&admin, &mut signals, timeout) {
        return code;
    }
    let variables = match args.proxy_env.then(|| direct_of(&admin)) {
        None => Vec::new(),
        Some(Some(listener)) => variables(listener),
        Some(None) => return no_listener(),
    };
    let mut ward = match Ward::start(&args.command, variables) {
        Ok(ward) => ward,
        Err(code) => return code,
    };
    let code = loop {
        if let Event::Signal(signal) = signals.next(LOOK) {
            ward.pass(signal);
        }
        if let Some(code) = ward.ended() {
            break code;
        }
    };
    let quit = Ask {
        method: "POST",
        address: &admin,
        path: "/quitquitquit",
    };
    match client::ask(&quit, PARTING) {
        Ok(reply) if reply.status != 200 => {
            let words = reply.body.lines().next().unwrap_or_default();
            eprintln!("sortie: the proxy at {admin} does not end: {words}");
        }
        // It has ended before: what the command did counts.
        Ok(_) | Err(_) => {}
    }
    code
}

fn joined_ready(admin: &str, signals: &mut Signals, timeout: Duration) -> Result<(), ExitCode> {
    let mut progress = Progress::new();
    let mut ended = None;
    let heard = readiness::until_ready(&[Place::admin(admin)], timeout, |heard, pause| {
        progress.tell(heard);
        ended = interrupted(signals, pause).err();
        ended.is_none()
    });
    match (heard, ended) {
        (Heard::Ready, _) => {
            progress.done();
            Ok(())
        }
        (_, Some(code)) => Err(code),
        (heard, None) => {
            not_ready(timeout, &heard);
            Err(ExitCode::FAILURE)
        }
    }
}

/// The first plain listener of the proxy beside us.
fn direct_of(admin: &str) -> Option<SocketAddr> {
    let page = client::fetch(admin, "/config").ok()?;
    let page: serde_json::Value = serde_json::from_str(&page).ok()?;
    let listeners = page.get("listeners")?.as_array()?;
    let direct =
        |one: &&serde_json::Value| one.get("kind").and_then(|kind| kind.as_str()) == Some("direct");
    let listener = listeners.iter().find(direct)?;
    listener.get("address")?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_reached_on_loopback() {
        let all = variables("[::]:8080".parse().unwrap());
        assert_eq!(all[0], ("http_proxy", "http://127.0.0.1:8080".to_owned()));
        let one = variables("10.0.0.1:80".parse().unwrap());
        assert_eq!(one[1], ("HTTP_PROXY", "http://10.0.0.1:80".to_owned()));
        assert!(one[2].1.starts_with("localhost,127.0.0.1,::1"));
    }
}
