//! `sortie demo`: the main job on embedded parts, from nothing, in one command.
//!
//! Owns: the demo's course: certificates, service, proxy, one request, then serving and rotating.
//! Never: replaces a part of the proxy: it is started as `run` starts it, from a file.
//! Called by: cli.

mod pki;
mod service;
mod story;

use std::io::{self, BufRead, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use self::pki::{Pki, PkiError, SERVICE};
use self::service::{Saw, Service, ServiceError};
use self::story::{Story, Told};
use crate::app::{self, RunOptions, Running, StartError};

/// See it work: a throw-away CA, an HTTPS service that demands a client certificate, and the proxy
#[derive(Debug, clap::Args)]
pub struct Args {
    /// End after the first request, with exit code 0 if it went through
    #[arg(long)]
    once: bool,
}

/// How long one request of the demo may take.
const REQUEST: Duration = Duration::from_secs(5);
/// How often the demo looks whether the client certificate was written anew.
const LOOK: Duration = Duration::from_millis(50);
/// After so long a new certificate should be in use.
const LIVE: Duration = Duration::from_secs(15);

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error("the proxy does not start: {0}")]
    Start(#[from] StartError),
    #[error("the proxy opened no listener")]
    NoListener,
    #[error("the request through {proxy} failed: {source}")]
    Request {
        proxy: SocketAddr,
        source: io::Error,
    },
    #[error("the request was answered with {status}: {body}")]
    Answer { status: u16, body: String },
    #[error("cannot wait for signals: {0}")]
    Signals(#[source] io::Error),
}

/// Runs the demo; exit code 0, or 1 where something failed.
pub fn run(args: Args) -> ExitCode {
    match demo(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sortie: {error}");
            ExitCode::FAILURE
        }
    }
}

fn demo(args: &Args) -> Result<(), DemoError> {
    let pki = Pki::new()?;
    let service = Service::start(pki.server()?)?;
    pki.write("sortie.yaml", &config(&pki, service.address))?;
    let running = app::start(options(&pki))?;
    let result = show(args, &pki, &service, &running);
    running.stop();
    result
}

/// The native configuration, as an operator would write it. JSON strings are YAML strings.
fn config(pki: &Pki, service: SocketAddr) -> String {
    let file = |name: &str| serde_json::Value::from(pki.path(name).display().to_string());
    format!(
        "upstreams:\n\
         - name: bank\n\
        \x20 endpoints: \"{service}\"\n\
        \x20 tls:\n\
        \x20   mode: mutual\n\
        \x20   certificate: {}\n\
        \x20   key: {}\n\
        \x20   ca: {}\n\
         routes:\n\
         - host: {SERVICE}\n\
        \x20 upstream: bank\n",
        file("client.pem"),
        file("client.key"),
        file("ca.pem"),
    )
}

fn options(pki: &Pki) -> RunOptions {
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    RunOptions {
        config: vec![pki.path("sortie.yaml")],
        listen: vec![free],
        admin: Some(free),
        workers: Some(1),
        drain_timeout: Duration::from_secs(1),
        ..RunOptions::default()
    }
}

fn show(args: &Args, pki: &Pki, service: &Service, running: &Running) -> Result<(), DemoError> {
    let bound = running.bound();
    let Some((_, proxy)) = bound.listeners.first() else {
        return Err(DemoError::NoListener);
    };
    let proxy = proxy.0;
    let story = Story::new();
    let began = Instant::now();
    let (status, saw) = ask(proxy)?;
    story.request(&Told {
        proxy,
        service: service.address,
        folder: pki.as_ref(),
        saw: &saw,
        status,
        took: began.elapsed(),
    });
    if args.once {
        return Ok(());
    }
    story.invite(proxy, bound.admin);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(DemoError::Signals)?;
    runtime.block_on(serve(Watcher::new(pki, proxy, &story, &saw)))
}

/// One plain HTTP request through the proxy.
fn ask(proxy: SocketAddr) -> Result<(u16, Saw), DemoError> {
    let answer = exchange(proxy).map_err(|source| DemoError::Request { proxy, source })?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .unwrap_or((answer.as_str(), ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.unwrap_or_default();
    match serde_json::from_str(body) {
        Ok(saw) if status == 200 => Ok((status, saw)),
        _ => {
            let body = body.trim().to_owned();
            Err(DemoError::Answer { status, body })
        }
    }
}

fn exchange(proxy: SocketAddr) -> io::Result<String> {
    let mut socket = TcpStream::connect_timeout(&proxy, REQUEST)?;
    socket.set_read_timeout(Some(REQUEST))?;
    socket.set_write_timeout(Some(REQUEST))?;
    let request = format!("GET /hello HTTP/1.1\r\nHost: {SERVICE}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes())?;
    let mut answer = String::new();
    // The service's answers are small; whatever else is there is not from it.
    socket.take(1 << 20).read_to_string(&mut answer)?;
    Ok(answer)
}

/// Serves until a signal, and issues the client certificate anew when asked.
async fn serve(mut watcher: Watcher<'_>) -> Result<(), DemoError> {
    let on = |kind| signal(kind).map_err(DemoError::Signals);
    let mut interrupt: Signal = on(SignalKind::interrupt())?;
    let mut terminate = on(SignalKind::terminate())?;
    let mut hangup = on(SignalKind::hangup())?;
    let mut enter = lines();
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            _ = hangup.recv() => watcher.rotate()?,
            Some(()) = enter.recv() => watcher.rotate()?,
            _ = look.tick() => watcher.look(),
        }
    }
}

/// Lines of standard input. At its end, or where there is none, nothing comes any more.
fn lines() -> mpsc::Receiver<()> {
    let (tell, told) = mpsc::channel(1);
    // Reading blocks, so it has a thread, which ends with the process.
    let reading = std::thread::Builder::new().name("keyboard".to_owned());
    let spawned = reading.spawn(move || {
        for _ in io::stdin().lock().lines().map_while(Result::ok) {
            if tell.blocking_send(()).is_err() {
                return;
            }
        }
    });
    // Without the thread `kill -HUP` is left.
    drop(spawned);
    told
}

/// Notices a new client certificate, whoever wrote it, and tells when it is in use.
struct Watcher<'a> {
    pki: &'a Pki,
    proxy: SocketAddr,
    story: &'a Story,
    serial: String,
    /// The file's bytes when it was last looked at.
    seen: Vec<u8>,
    /// When another was first seen that is not in use yet.
    since: Option<Instant>,
}

impl<'a> Watcher<'a> {
    fn new(pki: &'a Pki, proxy: SocketAddr, story: &'a Story, saw: &Saw) -> Self {
        let mut watcher = Watcher {
            pki,
            proxy,
            story,
            serial: saw
                .client
                .as_ref()
                .map(|c| c.serial.clone())
                .unwrap_or_default(),
            seen: Vec::new(),
            since: None,
        };
        watcher.seen = watcher.file();
        watcher
    }

    fn file(&self) -> Vec<u8> {
        // A file that is away for a moment is being written.
        std::fs::read(self.pki.path("client.pem")).unwrap_or_default()
    }

    fn rotate(&self) -> Result<(), DemoError> {
        Ok(self.pki.issue_client()?)
    }

    fn look(&mut self) {
        let now = self.file();
        if now != self.seen && !now.is_empty() {
            self.seen = now;
            self.since.get_or_insert_with(Instant::now);
        }
        let Some(since) = self.since else {
            return;
        };
        // Each look is a request: it goes over a new connection once the old identity is retired.
        let serial = ask(self.proxy)
            .ok()
            .and_then(|(_, saw)| saw.client)
            .map(|c| c.serial);
        if let Some(serial) = serial.filter(|serial| *serial != self.serial) {
            self.story.rotated(&self.serial, &serial, since.elapsed());
            self.serial = serial;
            self.since = None;
        } else if since.elapsed() > LIVE {
            let what = "client.pem was written, but the certificate of before stays in use; \
                        /certs on the admin port says why";
            self.story.trouble(what);
            self.since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_goes_through_with_both_certificates() {
        let pki = Pki::new().unwrap();
        let service = Service::start(pki.server().unwrap()).unwrap();
        pki.write("sortie.yaml", &config(&pki, service.address))
            .unwrap();
        let running = app::start(options(&pki)).unwrap();
        let proxy = running.bound().listeners[0].1.0;
        let (status, saw) = ask(proxy).unwrap();
        assert_eq!(status, 200);
        assert_eq!(saw.tls.sni.as_deref(), Some(SERVICE));
        assert_eq!(saw.tls.group, "X25519MLKEM768");
        let first = saw.client.unwrap();
        assert_eq!(first.subject, "CN=shop.example");
        // Issued anew and looked at: the service sees the new one.
        pki.issue_client().unwrap();
        running.reload().unwrap();
        let second = ask(proxy).unwrap().1.client.unwrap();
        assert_ne!(first.serial, second.serial);
        running.stop();
    }

    #[test]
    fn the_configuration_has_no_warnings() {
        let pki = Pki::new().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 443));
        pki.write("sortie.yaml", &config(&pki, address)).unwrap();
        let loaded = crate::config::load(
            &[pki.path("sortie.yaml")],
            &crate::config::LoadOptions::default(),
        )
        .unwrap();
        assert_eq!(loaded.warnings.to_string(), "");
    }
}
