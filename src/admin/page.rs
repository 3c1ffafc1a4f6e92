//! Which pages there are, and what each one answers.
//!
//! Owns: paths, methods, and the words of every answer.
//! Never: changes anything on a GET, or for a web page that a browser shows.
//! Called by: the server of this room.
//!
//! Why Host and Origin are looked at: any page in an operator's browser can post to 127.0.0.1, or
//! give 127.0.0.1 a name of its own (DNS rebinding). No tool that operators use does either.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::Full;
use tokio::sync::oneshot;

use super::state::{AdminState, Command};
use super::view::{ConfigView, RoutesView};
use crate::drain::Drain;
use crate::explain::{Asked, Question, decoded};
use crate::model::{Destination, Host};
use crate::telemetry::Status;

/// A command that has not been answered after this is reported as still running.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) type Answer = Response<Full<Bytes>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Index,
    Ready,
    Live,
    Metrics,
    Config,
    Certs,
    Routes,
    Explain,
    Logging,
    Reload,
    Drain,
    Quit,
}

/// Path, page, whether it changes something, and a line for the index.
const PAGES: &[(&str, Page, bool, &str)] = &[
    ("/", Page::Index, false, "this list"),
    (
        "/ready",
        Page::Ready,
        false,
        "200 LIVE, or 503 and the reasons, one a line",
    ),
    (
        "/live",
        Page::Live,
        false,
        "200 as long as the process runs",
    ),
    ("/metrics", Page::Metrics, false, "Prometheus metrics"),
    ("/stats/prometheus", Page::Metrics, false, "the same"),
    (
        "/config",
        Page::Config,
        false,
        "version, sources, listeners, limits, and what was refused",
    ),
    (
        "/certs",
        Page::Certs,
        false,
        "certificates that are loaded, and what is wrong with them",
    ),
    (
        "/routes",
        Page::Routes,
        false,
        "routes and upstreams; ?host=NAME for one host",
    ),
    (
        "/explain",
        Page::Explain,
        false,
        "why a request goes where it goes; ?url=URL&method=M&header=K:V&captured=IP&from=IP",
    ),
    (
        "/logging",
        Page::Logging,
        true,
        "the log filter; ?level=debug sets it",
    ),
    (
        "/reload",
        Page::Reload,
        true,
        "check every file now; answers what changed",
    ),
    (
        "/drain",
        Page::Drain,
        true,
        "not ready any more, and nobody new comes in; SIGTERM then ends without a delay",
    ),
    ("/quitquitquit", Page::Quit, true, "end now"),
];

/// Answers one request. The body is not looked at.
pub(super) async fn answer(state: &AdminState, request: &Parts) -> Answer {
    let path = request.uri.path();
    let found = PAGES.iter().find(|(known, ..)| *known == path);
    let Some((_, page, changes, _)) = found else {
        return text(
            StatusCode::NOT_FOUND,
            format!("There is no {path:?} here; / lists what is.\n"),
        );
    };
    if let Some(refusal) = refuse_method(&request.method, *changes) {
        return refusal;
    }
    if *changes && let Some(refusal) = refuse_browser(&request.headers) {
        return refusal;
    }
    match page {
        Page::Index => index(),
        Page::Ready => ready(state),
        Page::Live => text(StatusCode::OK, "LIVE\n".to_owned()),
        Page::Metrics => metrics(state, &request.headers),
        Page::Config => json(StatusCode::OK, &ConfigView::new(state)),
        Page::Certs => {
            let rows = state.inside.certificates();
            json(StatusCode::OK, &serde_json::json!({ "certificates": rows }))
        }
        Page::Routes => routes(state, request.uri.query()),
        Page::Explain => explain(state, request.uri.query()),
        Page::Logging => logging(state, request.uri.query()),
        Page::Reload => reload(state).await,
        Page::Drain => match ask(state, Command::Drain).await {
            Ok(()) => text(StatusCode::OK, "draining\n".to_owned()),
            Err(problem) => problem,
        },
        Page::Quit => match ask(state, Command::Quit).await {
            Ok(()) => text(StatusCode::OK, "OK\n".to_owned()),
            Err(problem) => problem,
        },
    }
}

/// B11: the words are Envoy's.
pub(super) fn refuse_method(method: &Method, changes: bool) -> Option<Answer> {
    let (right, wanted, allow) = match changes {
        true => (method == Method::POST, "POST", "POST"),
        false => (
            method == Method::GET || method == Method::HEAD,
            "GET",
            "GET, HEAD",
        ),
    };
    if right {
        return None;
    }
    let words = format!("Method {method} not allowed, {wanted} required.\n");
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, words);
    answer
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(allow));
    Some(answer)
}

fn refuse_browser(headers: &HeaderMap) -> Option<Answer> {
    if headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site") {
        let words = "A web page may not change anything here: this request has an Origin.\n";
        return Some(text(StatusCode::FORBIDDEN, words.to_owned()));
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    let known = host
        .and_then(|host| Destination::parse(host, 80).ok())
        .is_some_and(|at| at.host == "localhost" || at.host.parse::<IpAddr>().is_ok());
    if known && hosts.next().is_none() {
        return None;
    }
    let words = "To change anything here, name an IP address or localhost in the Host header.\n";
    Some(text(StatusCode::FORBIDDEN, words.to_owned()))
}

fn index() -> Answer {
    let mut lines = String::from("sortie's admin port\n\n");
    for (path, _, changes, about) in PAGES {
        let method = if *changes { "POST" } else { "GET" };
        lines.push_str(&format!("{method:<5} {path:<20} {about}\n"));
    }
    text(StatusCode::OK, lines)
}

/// I14: not ready from the first step of a drain on.
fn ready(state: &AdminState) -> Answer {
    readiness(&state.status, &state.drain, state.status.notes())
}

/// `notes`: lines behind the reasons that do not change the answer.
pub(super) fn readiness(status: &Status, drain: &Drain, notes: Vec<String>) -> Answer {
    let mut reasons = status.reasons();
    let said = reasons.iter().any(|reason| reason.starts_with("drain: "));
    if drain.has_started() && !said {
        reasons.insert(0, "draining".to_owned());
    }
    let (status, mut lines) = match reasons.is_empty() {
        true => (StatusCode::OK, vec!["LIVE".to_owned()]),
        false => (StatusCode::SERVICE_UNAVAILABLE, reasons),
    };
    lines.extend(notes);
    // One line each, whatever an error message holds.
    let lines = lines
        .iter()
        .map(|line| line.replace(['\r', '\n'], " ") + "\n");
    text(status, lines.collect())
}

fn metrics(state: &AdminState, headers: &HeaderMap) -> Answer {
    let open_metrics = wants_open_metrics(headers);
    let page = match open_metrics {
        true => state.metrics.encode(),
        false => state.metrics.encode_plain(),
    };
    build(StatusCode::OK, metrics_type(open_metrics), page)
}

pub(super) fn wants_open_metrics(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT).iter();
    accepted.any(|value| {
        value
            .to_str()
            .is_ok_and(|value| value.contains("application/openmetrics-text"))
    })
}

pub(super) fn metrics_type(open_metrics: bool) -> &'static str {
    match open_metrics {
        true => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        false => "text/plain; version=0.0.4; charset=utf-8",
    }
}

fn routes(state: &AdminState, query: Option<&str>) -> Answer {
    let wanted = parameter(query, "host");
    let host = match wanted.as_deref().map(Host::normalise) {
        None => None,
        Some(Ok(host)) => Some(host.into_owned()),
        Some(Err(error)) => return text(StatusCode::BAD_REQUEST, format!("host: {error}\n")),
    };
    let config = state.inside.config().unwrap_or_default();
    let health = |name: &str| state.inside.upstream(name);
    let unavailable = |name: &str| state.inside.entrance(name);
    let view = RoutesView::new(&config, host.as_deref(), health, unavailable);
    json(StatusCode::OK, &view)
}

fn explain(state: &AdminState, query: Option<&str>) -> Answer {
    let asked = Asked::from_query(query.unwrap_or_default());
    match Question::parse(&asked) {
        Ok(question) => json(StatusCode::OK, &state.inside.explain(&question)),
        Err(problem) => text(StatusCode::BAD_REQUEST, format!("{problem}\n")),
    }
}

fn logging(state: &AdminState, query: Option<&str>) -> Answer {
    let Some(log) = &state.log else {
        let words = "The log was not set up by this proxy, so it cannot be changed here.\n";
        return text(StatusCode::NOT_IMPLEMENTED, words.to_owned());
    };
    if let Some(level) = parameter(query, "level")
        && let Err(error) = log.set(&level)
    {
        return text(StatusCode::BAD_REQUEST, format!("{error}\n"));
    }
    text(StatusCode::OK, format!("{}\n", log.current()))
}

/// R18.
async fn reload(state: &AdminState) -> Answer {
    match ask(state, Command::Reload).await {
        Ok(report) if report.problems.is_empty() => json(StatusCode::OK, &report),
        Ok(report) => json(StatusCode::UNPROCESSABLE_ENTITY, &report),
        Err(problem) => problem,
    }
}

async fn ask<T>(
    state: &AdminState,
    command: impl FnOnce(oneshot::Sender<T>) -> Command,
) -> Result<T, Answer> {
    let (sender, receiver) = oneshot::channel();
    let asked = async {
        state.commands.send(command(sender)).await.ok()?;
        receiver.await.ok()
    };
    match tokio::time::timeout(COMMAND_TIMEOUT, asked).await {
        Ok(Some(reply)) => Ok(reply),
        Ok(None) => {
            let words = "The proxy is ending and takes no more commands.\n";
            Err(text(StatusCode::SERVICE_UNAVAILABLE, words.to_owned()))
        }
        Err(_) => {
            let words = "The proxy has not answered yet; the command may still be running.\n";
            Err(text(StatusCode::GATEWAY_TIMEOUT, words.to_owned()))
        }
    }
}

/// The value of `name` in a query, percent-decoded; `None` where it is not there.
fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let mut pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| *key == name)?;
    Some(decoded(value))
}

pub(super) fn text(status: StatusCode, body: String) -> Answer {
    build(status, "text/plain; charset=utf-8", body)
}

fn json(status: StatusCode, body: &impl serde::Serialize) -> Answer {
    match serde_json::to_string_pretty(body) {
        Ok(text) => build(status, "application/json", text + "\n"),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

pub(super) fn build(status: StatusCode, kind: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    answer
}
