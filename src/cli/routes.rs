//! `sortie routes`: the routing table and its upstreams.
//!
//! Owns: its arguments and the two tables.
//! Never: decides where a request goes.
//! Called by: cli.

use std::process::ExitCode;

use super::origin::{Origin, Source, printed, unreadable};
use super::table::{Table, bold, print};
use crate::admin::{EndpointHealth, RoutesView, UpstreamHealth, UpstreamView};
use crate::model::Host;

/// List routes and upstreams of a running proxy or of configuration files
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which proxy to ask, or which files to read
    #[command(flatten)]
    pub origin: Origin,
    /// Only what could concern this host
    #[arg(long, value_name = "NAME", value_parser = Host::parse)]
    pub host: Option<Host>,
}

/// Prints the tables; exit code 0, 1 (the proxy does not answer), or 64 (the files are refused).
pub fn run(args: Args) -> ExitCode {
    let host = args.host.as_ref().map(Host::as_str);
    let path = match host {
        Some(host) => format!("/routes?host={host}"),
        None => "/routes".to_owned(),
    };
    let view = match args.origin.read(&path) {
        Err(code) => return code,
        Ok(Source::Page(page)) => match serde_json::from_str::<RoutesView>(&page) {
            Ok(view) => view,
            Err(error) => return unreadable(&error),
        },
        Ok(Source::Files(loaded)) => {
            let health = |_: &str| UpstreamHealth::default();
            RoutesView::new(&loaded.config, host, health, |_| None)
        }
    };
    if args.origin.json {
        return match serde_json::to_string_pretty(&view) {
            Ok(text) => printed(print(&(text + "\n"))),
            Err(error) => unreadable(&error),
        };
    }
    printed(print(&tables(&view, bold())))
}

fn tables(view: &RoutesView, bold: bool) -> String {
    let routes = routes(view, bold);
    let upstreams = upstreams(view, bold);
    let streams = match view.streams.is_empty() {
        true => String::new(),
        false => streams(view, bold) + "\n",
    };
    let entrances = match view.entrances.is_empty() {
        true => String::new(),
        false => entrances(view, bold) + "\n",
    };
    let mut text = format!(
        "{entrances}{routes}\n{streams}{upstreams}\nunknown hosts: {}\n",
        view.unknown_hosts
    );
    if view.unknown_captured != view.unknown_hosts && !view.unknown_captured.is_empty() {
        text.push_str(&format!("unknown captured: {}\n", view.unknown_captured));
    }
    for one in &view.refused {
        text.push_str(&format!(
            "refused: {} ({}): {}\n",
            one.object, one.place, one.reason
        ));
    }
    text
}

/// Who comes in where.
fn entrances(view: &RoutesView, bold: bool) -> String {
    let mut table = Table::new(&[
        "ENTRANCE",
        "PORT",
        "SERVER NAME",
        "TLS",
        "CLIENTS",
        "CARRIES",
        "CERTIFICATE",
        "CLIENT CA",
        "STATE",
        "PLACE",
    ]);
    for one in &view.entrances {
        let state = match &one.unavailable {
            Some(why) => format!("unavailable: {why}"),
            None => "open".to_owned(),
        };
        table.row([
            one.name.clone(),
            one.port.map_or("*".to_owned(), |port| port.to_string()),
            one.server_names.join(","),
            one.tls.clone(),
            one.clients.clone(),
            one.carries.clone(),
            one.certificate.clone().unwrap_or_default(),
            one.client_ca.clone().unwrap_or_default(),
            state,
            one.place.clone(),
        ]);
    }
    table.render(bold)
}

/// What the mesh's listeners are called where there are others.
const MESH: &str = "mesh";

fn routes(view: &RoutesView, bold: bool) -> String {
    let mut columns = vec![
        "HOST", "PORT", "MATCH", "ACTION", "TARGET", "REWRITE", "PLACE",
    ];
    if !view.entrances.is_empty() {
        columns.push("ENTRANCE");
    }
    let mut table = Table::new(&columns);
    for entry in &view.routes {
        let port = entry.port.map_or("*".to_owned(), |port| port.to_string());
        let entrance = entry.entrance.as_deref().unwrap_or(MESH);
        for rule in &entry.rules {
            let matches = match rule.matches.is_empty() {
                true => "*".to_owned(),
                false => rule.matches.join(" or "),
            };
            table.row([
                entry.hosts.join(","),
                port.clone(),
                matches,
                rule.action.clone(),
                rule.target.clone(),
                rule.rewrite.clone().unwrap_or_default(),
                rule.place.clone(),
                entrance.to_owned(),
            ]);
        }
    }
    table.render(bold)
}

/// What is not plain HTTP.
fn streams(view: &RoutesView, bold: bool) -> String {
    let mut columns = vec!["STREAM", "PORT", "NAME", "TO", "FROM", "TARGET", "PLACE"];
    if !view.entrances.is_empty() {
        columns.push("ENTRANCE");
    }
    let mut table = Table::new(&columns);
    let any = |list: &[String]| match list {
        [] => "*".to_owned(),
        some => some.join(","),
    };
    for stream in &view.streams {
        table.row([
            stream.kind.clone(),
            stream.port.map_or("*".to_owned(), |port| port.to_string()),
            stream.names.join(","),
            any(&stream.destinations),
            any(&stream.sources),
            stream.target.clone(),
            stream.place.clone(),
            stream.entrance.as_deref().unwrap_or(MESH).to_owned(),
        ]);
    }
    table.render(bold)
}

fn upstreams(view: &RoutesView, bold: bool) -> String {
    let mut table = Table::new(&[
        "UPSTREAM",
        "TLS",
        "SERVER NAME",
        "HTTP",
        "ENDPOINT",
        "ADDRESS",
        "STATE",
        "ACTIVE",
    ]);
    for upstream in &view.upstreams {
        for row in upstream_rows(upstream) {
            table.row(row);
        }
    }
    table.render(bold)
}

fn upstream_rows(upstream: &UpstreamView) -> Vec<Vec<String>> {
    let server_name = match (&upstream.server_name, upstream.tls.as_str()) {
        (Some(name), _) => name.clone(),
        (None, "disable") => String::new(),
        (None, _) => "(the request's host)".to_owned(),
    };
    let row = |endpoint: String, address: String, state: String, active: String| {
        let (name, tls) = (upstream.name.clone(), upstream.tls.clone());
        let http = upstream.http.clone();
        vec![
            name,
            tls,
            server_name.clone(),
            http,
            endpoint,
            address,
            state,
            active,
        ]
    };
    if upstream.endpoints.is_empty() {
        let state = upstream
            .unavailable
            .as_ref()
            .map(|why| format!("unavailable: {why}"));
        let state = state.unwrap_or_default();
        let endpoints = match (upstream.configured.as_slice(), upstream.resolution.as_str()) {
            ([], "static" | "dns" | "") => String::new(),
            ([], resolution) => format!("({resolution})"),
            (some, _) => some.join(","),
        };
        return vec![row(endpoints, String::new(), state, String::new())];
    }
    let known = upstream.endpoints.iter();
    known
        .map(|endpoint| {
            let state = match &upstream.unavailable {
                Some(why) => format!("unavailable: {why}"),
                None => state(endpoint),
            };
            let (address, active) = (endpoint.address.to_string(), endpoint.active.to_string());
            row(endpoint.name.clone(), address, state, active)
        })
        .collect()
}

fn state(endpoint: &EndpointHealth) -> String {
    match (endpoint.ejected_for, endpoint.failures) {
        (Some(seconds), _) => format!("shunned for {seconds} s more"),
        (None, 0) => "healthy".to_owned(),
        (None, 1) => "1 failure".to_owned(),
        (None, failures) => format!("{failures} failures in a row"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{HostView, RuleView};

    fn view() -> RoutesView {
        let endpoint = |last, ejected_for| EndpointHealth {
            address: std::net::SocketAddr::from(([192, 0, 2, last], 443)),
            name: "bank.example".to_owned(),
            ejected_for,
            failures: 0,
            active: 3,
        };
        RoutesView {
            unknown_hosts: "refuse".into(),
            unknown_captured: "pass through".into(),
            refused: vec![crate::admin::RefusedView {
                object: "DestinationRule ns/bank".into(),
                place: "dr.yaml:3".into(),
                reason: "the mode is none".into(),
            }],
            routes: vec![HostView {
                hosts: vec!["bank.example".into(), "*.bank.example".into()],
                port: Some(80),
                entrance: None,
                object: None,
                place: "a.yaml:3".into(),
                rules: vec![RuleView {
                    action: "forward".into(),
                    target: "bank".into(),
                    place: "a.yaml:5".into(),
                    ..RuleView::default()
                }],
            }],
            streams: vec![crate::admin::StreamView {
                kind: "tls".into(),
                port: Some(443),
                names: vec!["bank.example".into()],
                target: "outbound|443||bank.example".into(),
                place: "se.yaml:4".into(),
                ..Default::default()
            }],
            entrances: Vec::new(),
            upstreams: vec![
                UpstreamView {
                    name: "bank".into(),
                    tls: "mutual".into(),
                    http: "auto".into(),
                    endpoints: vec![endpoint(1, None), endpoint(2, Some(12))],
                    ..UpstreamView::default()
                },
                UpstreamView {
                    name: "broken".into(),
                    tls: "simple".into(),
                    http: "http1".into(),
                    configured: vec!["b:443".into()],
                    unavailable: Some("ca.crt is missing".into()),
                    ..UpstreamView::default()
                },
            ],
        }
    }

    #[test]
    fn x1_what_was_refused_stands_below_the_tables() {
        let text = tables(&view(), false);
        let end = "unknown hosts: refuse\nunknown captured: pass through\n\
                   refused: DestinationRule ns/bank (dr.yaml:3): the mode is none\n";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn v17_streams_have_a_table_of_their_own_where_there_are_any() {
        let text = tables(&view(), false);
        let row = text.lines().find(|line| line.starts_with("tls ")).unwrap();
        let words: Vec<_> = row.split_whitespace().collect();
        let expected = ["tls", "443", "bank.example", "*", "*"];
        assert_eq!(&words[..5], expected);
        let mut none = view();
        none.streams.clear();
        let text = tables(&none, false);
        assert!(
            !text.lines().any(|line| line.starts_with("STREAM")),
            "{text}"
        );
    }

    #[test]
    fn entrances_come_first_and_their_routes_name_them_where_there_are_any() {
        assert!(!tables(&view(), false).contains("ENTRANCE"));
        let mut with = view();
        with.entrances = vec![crate::admin::EntranceView {
            name: "inbound|80".into(),
            kind: "inbound".into(),
            port: Some(80),
            tls: "strict".into(),
            clients: "required".into(),
            carries: "http".into(),
            unavailable: Some("key.pem is missing".into()),
            place: "pa.yaml:2".into(),
            ..Default::default()
        }];
        with.routes.push(HostView {
            hosts: vec!["*".into()],
            entrance: Some("inbound|80".into()),
            rules: vec![RuleView::default()],
            ..HostView::default()
        });
        let text = tables(&with, false);
        assert!(text.starts_with("ENTRANCE "), "{text}");
        let has = |parts: &[&str]| {
            text.lines()
                .any(|line| parts.iter().all(|part| line.contains(part)))
        };
        assert!(has(&[
            "inbound|80",
            "strict",
            "required",
            "unavailable: key.pem is missing"
        ]));
        assert!(has(&["bank.example,*.bank.example", "mesh"]), "{text}");
        let own = text.lines().filter(|line| line.ends_with("inbound|80"));
        assert_eq!(own.count(), 1, "{text}");
    }

    #[test]
    fn each_rule_and_each_endpoint_is_a_row() {
        let text = tables(&view(), false);
        let has = |parts: &[&str]| {
            text.lines()
                .any(|line| parts.iter().all(|part| line.contains(part)))
        };
        assert!(
            has(&[
                "bank.example,*.bank.example",
                "80",
                "*",
                "forward",
                "bank",
                "a.yaml:5"
            ]),
            "{text}"
        );
        assert!(
            has(&[
                "bank",
                "mutual",
                "(the request's host)",
                "192.0.2.1:443",
                "healthy",
                "3"
            ]),
            "{text}"
        );
        assert!(has(&["192.0.2.2:443", "shunned for 12 s more"]), "{text}");
        assert!(
            has(&["broken", "b:443", "unavailable: ca.crt is missing"]),
            "{text}"
        );
        assert!(text.contains("\nunknown hosts: refuse\n"));
    }
}
