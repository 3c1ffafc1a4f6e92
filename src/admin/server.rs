//! The small HTTP server of the admin port and of the status port.
//!
//! Owns: its connections and their bounds: how many, how long, how large a head.
//! Never: runs on a worker.
//! Called by: app.
//!
//! Why one request a connection: a scraper comes every few seconds, and a connection that ends is
//! one that nobody can hold on to.
//!
//! Why the peer with the most connections makes room: whoever opens many and says nothing then
//! closes his own, and a kubelet that comes with one is always answered.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, Id, JoinSet};

use super::page::{self, Answer};
use super::state::AdminState;
use super::status::StatusState;

/// Bytes of a request's head.
const MAX_HEAD: usize = 16 * 1024;
/// Pause after a failed accept, such as one without a free file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What is answered, and to how many.
pub(super) trait Pages: Send + Sync + 'static {
    /// In messages: `admin port`.
    const NAME: &'static str;
    /// Connections at once; for the next one another is broken off.
    const CONNECTIONS: usize;
    /// From a connection's start to the end of the head.
    const HEAD: Duration;

    /// From a connection's start to the end of the answer.
    fn whole(&self) -> Duration;

    /// Answers one request. The body is not looked at.
    fn answer(&self, head: &Parts) -> impl Future<Output = Answer> + Send;
}

impl Pages for AdminState {
    const NAME: &'static str = "admin port";
    const CONNECTIONS: usize = 64;
    const HEAD: Duration = Duration::from_secs(10);

    /// Enough for a large table on a slow line.
    fn whole(&self) -> Duration {
        Duration::from_secs(60)
    }

    async fn answer(&self, head: &Parts) -> Answer {
        page::answer(self, head).await
    }
}

/// Serves the admin port until it is dropped, and then breaks off what is under way. For the cold
/// runtime.
pub async fn serve(listener: TcpListener, state: Arc<AdminState>) {
    run(listener, state).await;
}

/// The same for the status port.
pub async fn serve_status(listener: TcpListener, state: Arc<StatusState>) {
    run(listener, state).await;
}

async fn run<P: Pages>(listener: TcpListener, pages: Arc<P>) {
    let mut open = Open::default();
    let mut failing = false;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                failing = false;
                open.make_room(P::CONNECTIONS).await;
                let pages = Arc::clone(&pages);
                open.spawn(peer.ip().to_canonical(), connection(stream, pages));
            }
            Err(error) => {
                if !failing {
                    tracing::warn!("the {} cannot accept a connection: {error}", P::NAME);
                }
                failing = true;
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The connections that are open, oldest first.
#[derive(Default)]
struct Open {
    tasks: JoinSet<()>,
    peers: Vec<(Id, IpAddr, AbortHandle)>,
}

impl Open {
    fn spawn(&mut self, peer: IpAddr, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.tasks.spawn(task);
        self.peers.push((handle.id(), peer, handle));
    }

    /// Breaks one off where there are `most` or more: the oldest of the peer that has the most.
    async fn make_room(&mut self, most: usize) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.forget(ended.map_or_else(|error| error.id(), |(id, ())| id));
        }
        while self.peers.len() >= most {
            if let Some(handle) = self.greediest() {
                handle.abort();
            }
            match self.tasks.join_next_with_id().await {
                Some(ended) => self.forget(ended.map_or_else(|error| error.id(), |(id, ())| id)),
                None => self.peers.clear(),
            }
        }
    }

    fn greediest(&self) -> Option<&AbortHandle> {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for (_, peer, _) in &self.peers {
            *counts.entry(*peer).or_default() += 1;
        }
        let most = counts.values().max().copied()?;
        let mut peers = self.peers.iter();
        let found = peers.find(|(_, peer, _)| counts.get(peer) == Some(&most));
        found.map(|(_, _, handle)| handle)
    }

    fn forget(&mut self, id: Id) {
        self.peers.retain(|(known, ..)| *known != id);
    }
}

async fn connection<P: Pages>(stream: TcpStream, pages: Arc<P>) {
    let whole = pages.whole();
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let pages = Arc::clone(&pages);
        async move {
            let (head, _body) = request.into_parts();
            Ok::<_, Infallible>(pages.answer(&head).await)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(P::HEAD)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(whole, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("a connection to the {} ended early: {error}", P::NAME),
        Err(_) => tracing::debug!("a connection to the {} took too long", P::NAME),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{Command, Inside, ReloadReport, UpstreamHealth};
    use crate::certs::CredentialRow;
    use crate::drain::Drain;
    use crate::explain::{Explanation, Question};
    use crate::model::{Config, ListenAddr, ListenerKind};
    use crate::telemetry::{Metrics, Status};
    use std::net::SocketAddr;
    use std::path::PathBuf;
    use std::time::SystemTime;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::mpsc;

    struct Nothing;

    impl Inside for Nothing {
        fn config(&self) -> Option<Arc<Config>> {
            Some(Arc::default())
        }

        fn sources(&self) -> Vec<PathBuf> {
            vec!["routes.yaml".into()]
        }

        fn listeners(&self) -> Vec<(ListenAddr, ListenerKind)> {
            let address = ListenAddr(SocketAddr::from(([127, 0, 0, 1], 80)));
            vec![(address, ListenerKind::Direct)]
        }

        fn certificates(&self) -> Vec<CredentialRow> {
            Vec::new()
        }

        fn upstream(&self, _: &str) -> UpstreamHealth {
            UpstreamHealth::default()
        }

        fn entrance(&self, _: &str) -> Option<String> {
            None
        }

        fn explain(&self, _: &Question) -> Explanation {
            Explanation::default()
        }
    }

    struct Running {
        address: SocketAddr,
        state: Arc<AdminState>,
        commands: mpsc::Receiver<Command>,
        _server: tokio::task::JoinHandle<()>,
    }

    async fn start() -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, commands) = mpsc::channel(1);
        let state = Arc::new(AdminState {
            metrics: Metrics::new(1),
            status: Status::new(),
            drain: Drain::new(),
            log: None,
            commands: sender,
            inside: Box::new(Nothing),
        });
        let server = tokio::spawn(serve(listener, Arc::clone(&state)));
        Running {
            address,
            state,
            commands,
            _server: server,
        }
    }

    impl Running {
        async fn raw(&self, request: &str) -> String {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer).await;
            answer
        }

        async fn ask(&self, method: &str, path: &str) -> (u16, String) {
            let host = self.address;
            let answer = self
                .raw(&format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
                .await;
            let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
            (head[9..12].parse().unwrap(), body.to_owned())
        }
    }

    #[tokio::test]
    async fn i14_ready_gives_every_reason_until_there_is_none_and_ends_with_the_drain() {
        let admin = start().await;
        admin.state.status.hold("configuration", "not yet loaded");
        admin
            .state
            .status
            .hold("listeners", "127.0.0.1:80 is taken");
        let reasons = "configuration: not yet loaded\nlisteners: 127.0.0.1:80 is taken\n";
        assert_eq!(admin.ask("GET", "/ready").await, (503, reasons.to_owned()));
        admin.state.status.release("configuration");
        admin.state.status.release("listeners");
        assert_eq!(admin.ask("GET", "/ready").await, (200, "LIVE\n".to_owned()));
        admin.state.drain.start();
        assert_eq!(
            admin.ask("GET", "/ready").await,
            (503, "draining\n".to_owned())
        );
        assert_eq!(admin.ask("GET", "/live").await.0, 200);
    }

    #[tokio::test]
    async fn pages_answer_with_what_they_show() {
        let admin = start().await;
        admin.state.status.accepted(3, SystemTime::UNIX_EPOCH);
        admin
            .state
            .status
            .refused(vec!["a.yaml:1: error".into()], SystemTime::UNIX_EPOCH);
        let json = async |path| {
            let (status, body) = admin.ask("GET", path).await;
            assert_eq!(status, 200, "{path}");
            serde_json::from_str::<serde_json::Value>(&body).unwrap()
        };
        let config = json("/config").await;
        assert_eq!(
            (&config["version"], &config["sources"][0]),
            (&3.into(), &"routes.yaml".into())
        );
        assert_eq!(config["listeners"][0]["kind"], "direct");
        assert_eq!(config["stale_since"], "1970-01-01T00:00:00.000Z");
        assert_eq!(config["diagnostics"][0], "a.yaml:1: error");
        assert_eq!(json("/certs").await["certificates"], serde_json::json!([]));
        assert_eq!(
            json("/routes?host=Bank.Example").await["unknown_hosts"],
            "refuse"
        );
        assert!(admin.ask("GET", "/").await.1.contains("POST  /reload"));
        assert!(
            admin
                .ask("GET", "/metrics")
                .await
                .1
                .contains("\nsortie_config_version 0\n")
        );
        assert_eq!(admin.ask("GET", "/routes?host=a%20b").await.0, 400);
        let explained = json("/explain?url=http://bank.example/&header=a:%20b").await;
        assert!(explained["steps"].is_array(), "{explained}");
        let (status, body) = admin.ask("GET", "/explain?url=ftp://a").await;
        assert!(status == 400 && body.contains("none of http"), "{body}");
        let (status, body) = admin.ask("GET", "/nothing").await;
        assert!(status == 404 && body.contains("/ lists"), "{body}");
    }

    #[tokio::test]
    async fn metrics_are_open_metrics_for_those_who_ask() {
        let admin = start().await;
        let asked = "GET /metrics HTTP/1.1\r\nHost: a\r\n\
            Accept: application/openmetrics-text; version=1.0.0\r\n\r\n";
        let open = admin.raw(asked).await;
        assert!(open.contains("application/openmetrics-text") && open.ends_with("# EOF\n"));
        let plain = admin.raw("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(plain.contains("text/plain; version=0.0.4") && !plain.contains("# EOF"));
    }

    #[tokio::test]
    async fn b11_a_get_changes_nothing_and_is_told_to_post() {
        let mut admin = start().await;
        for path in ["/reload", "/drain", "/quitquitquit", "/logging?level=trace"] {
            let answer = admin
                .raw(&format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"))
                .await;
            assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
            assert!(answer.contains("allow: POST\r\n"), "{answer}");
            assert!(
                answer.ends_with("Method GET not allowed, POST required.\n"),
                "{answer}"
            );
        }
        assert!(admin.commands.try_recv().is_err());
        assert_eq!(admin.ask("POST", "/ready").await.0, 405);
    }

    #[tokio::test]
    async fn r18_a_reload_answers_what_changed_or_what_is_wrong() {
        let mut admin = start().await;
        for (report, status) in [
            (
                ReloadReport {
                    version: 2,
                    changed: vec!["upstream bank".into()],
                    problems: vec![],
                },
                200,
            ),
            (
                ReloadReport {
                    version: 2,
                    changed: vec![],
                    problems: vec!["a.yaml:3: no".into()],
                },
                422,
            ),
        ] {
            let mut commands = std::mem::replace(&mut admin.commands, mpsc::channel(1).1);
            let reply = report.clone();
            let proxy = tokio::spawn(async move {
                if let Some(Command::Reload(sender)) = commands.recv().await {
                    sender.send(reply).unwrap();
                }
                commands
            });
            let (got, body) = admin.ask("POST", "/reload").await;
            assert_eq!(got, status);
            assert_eq!(serde_json::from_str::<ReloadReport>(&body).unwrap(), report);
            admin.commands = proxy.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_command_that_nobody_takes_any_more_is_answered() {
        let mut admin = start().await;
        admin.commands.close();
        let (status, body) = admin.ask("POST", "/drain").await;
        assert!(status == 503 && body.contains("is ending"), "{body}");
    }

    #[tokio::test]
    async fn a_web_page_or_a_rebound_name_may_not_change_anything() {
        let mut admin = start().await;
        for headers in [
            "Host: evil.example\r\n",
            "Host: 127.0.0.1.evil.example:15000\r\n",
            "Host: localhost\r\nHost: evil.example\r\n",
            "Host: 127.0.0.1\r\nOrigin: http://evil.example\r\n",
            "Host: 127.0.0.1\r\nSec-Fetch-Site: cross-site\r\n",
        ] {
            let answer = admin
                .raw(&format!("POST /quitquitquit HTTP/1.1\r\n{headers}\r\n"))
                .await;
            assert!(!answer.starts_with("HTTP/1.1 2"), "{headers}: {answer}");
        }
        assert!(admin.commands.try_recv().is_err());
        let quit = tokio::spawn(async move {
            match admin.commands.recv().await {
                Some(Command::Quit(sender)) => sender.send(()).is_ok(),
                _ => false,
            }
        });
        let mut stream = TcpStream::connect(admin.address).await.unwrap();
        let request = "POST /quitquitquit HTTP/1.1\r\nHost: [::1]:15000\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("OK\n") && quit.await.unwrap(), "{answer}");
    }

    #[tokio::test]
    async fn a_head_without_bounds_is_refused() {
        let admin = start().await;
        let padding = "x".repeat(MAX_HEAD);
        let answer = admin
            .raw(&format!(
                "GET / HTTP/1.1\r\nHost: a\r\nX: {padding}\r\n\r\n"
            ))
            .await;
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    }
}
