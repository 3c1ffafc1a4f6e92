//! What `/config` and `/routes` show: the configuration in plain words, with how upstreams do.
//!
//! Owns: the JSON of both pages, which `sortie routes` reads back.
//! Never: shows a key, or the content of a file.
//! Called by: the pages of this room, cli (`sortie routes`).

use std::collections::HashSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::state::{AdminState, EndpointHealth, UpstreamHealth};
use super::view_entrance::EntranceView;
use super::view_stream::StreamView;
use crate::explain;
use crate::model::{
    Action, Config, EntranceSpec, HostRoutes, HttpChoice, ListenerKind, Place, Resolution,
    RuleSpec, TlsPolicy, UnknownHosts, UpstreamSpec, Weighted,
};
use crate::telemetry::rfc3339_millis;

/// `/routes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutesView {
    /// `refuse` or `pass through`, for listeners that clients address.
    pub unknown_hosts: String,
    /// The same for captured connections.
    #[serde(default)]
    pub unknown_captured: String,
    /// Documents that were turned away: what they govern fails (ISTIO.md X1).
    #[serde(default)]
    pub refused: Vec<RefusedView>,
    /// In the order they were written.
    pub routes: Vec<HostView>,
    /// Connections that carry no plain HTTP, in the order they were written.
    #[serde(default)]
    pub streams: Vec<StreamView>,
    /// Inbound ports and gateway servers; their routes are among the others, with their names.
    #[serde(default)]
    pub entrances: Vec<EntranceView>,
    /// In the order they were written.
    pub upstreams: Vec<UpstreamView>,
}

/// A document that was turned away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedView {
    /// Kind, namespace and name.
    pub object: String,
    /// `file:line`.
    pub place: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Rules for some hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostView {
    /// Patterns: a name, `*.suffix` or `*`.
    pub hosts: Vec<String>,
    /// `None`: any.
    pub port: Option<u16>,
    /// The entrance that it is for; `None`: the mesh's listeners.
    #[serde(default)]
    pub entrance: Option<String>,
    /// The object that says it, where it is one of Istio's or Kubernetes'.
    #[serde(default)]
    pub object: Option<String>,
    /// `file:line`.
    pub place: String,
    /// The first one that matches decides.
    pub rules: Vec<RuleView>,
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleView {
    /// As in `%ROUTE_NAME%`.
    pub name: Option<String>,
    /// `file:line`.
    pub place: String,
    /// One text for each alternative; empty: always.
    pub matches: Vec<String>,
    /// `forward`, `redirect` or `respond`.
    pub action: String,
    /// To where, or with what.
    pub target: String,
    /// Changes of host and path, if any.
    pub rewrite: Option<String>,
    /// `None`: no bound.
    pub timeout_ms: Option<u64>,
    /// Tries beyond the first.
    pub retries: u32,
}

/// One upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamView {
    /// Unique.
    pub name: String,
    /// `file:line`.
    pub place: String,
    /// `disable`, `simple` or `mutual`.
    pub tls: String,
    /// What is sent as SNI and expected in the certificate; `None`: the request's host.
    pub server_name: Option<String>,
    /// `auto`, `http1` or `http2`.
    pub http: String,
    /// How endpoints become addresses: `static`, `dns`, `original destination` or `request's host`.
    #[serde(default)]
    pub resolution: String,
    /// Endpoints as the configuration names them.
    pub configured: Vec<String>,
    /// Why it cannot be used at all.
    pub unavailable: Option<String>,
    /// Endpoints as they are resolved now; empty where nobody has asked yet.
    pub endpoints: Vec<EndpointHealth>,
}

impl RoutesView {
    /// What `config` routes; `host`, in normal form, leaves only what could concern it. `health`
    /// says how an upstream does, `unavailable` why an entrance lets nobody in.
    pub fn new(
        config: &Config,
        host: Option<&str>,
        health: impl Fn(&str) -> UpstreamHealth,
        unavailable: impl Fn(&str) -> Option<String>,
    ) -> RoutesView {
        let concerned = |entry: &HostRoutes| {
            host.is_none_or(|host| entry.hosts.iter().any(|pattern| pattern.matches(host)))
        };
        let entrances = config.entrances.iter();
        let entrances: Vec<_> = entrances
            .filter(|spec| host.is_none_or(|host| EntranceView::concerns(spec, host)))
            .collect();
        let of = |spec: &EntranceSpec| Some(spec.name.to_string());
        let mesh = config.hosts.iter().map(|entry| (None, entry));
        let hosts = entrances
            .iter()
            .flat_map(|spec| spec.hosts.iter().map(|entry| (of(spec), entry)));
        let hosts: Vec<_> = mesh
            .chain(hosts)
            .filter(|(_, entry)| concerned(entry))
            .collect();
        let mesh = config.streams.iter().map(|route| (None, route));
        let mesh =
            mesh.filter(|(_, route)| host.is_none_or(|host| StreamView::concerns(route, host)));
        let streams = entrances
            .iter()
            .flat_map(|spec| spec.streams.iter().map(|route| (of(spec), route)));
        let streams: Vec<_> = mesh.chain(streams).collect();
        let opaque = streams.iter().flat_map(|(_, route)| &route.to);
        let opaque = opaque.map(|one| one.upstream.as_ref());
        let rules = hosts.iter().flat_map(|(_, entry)| entry.rules.iter());
        let reached: HashSet<&str> = rules.flat_map(targets).chain(opaque).collect();
        let upstreams = config.upstreams.iter();
        let upstreams =
            upstreams.filter(|spec| host.is_none() || reached.contains(spec.name.as_ref()));
        RoutesView {
            unknown_hosts: unknown_hosts(config.unknown_hosts).to_owned(),
            unknown_captured: unknown_hosts(config.unknown_captured).to_owned(),
            refused: refused(config),
            routes: hosts
                .into_iter()
                .map(|(entrance, entry)| HostView {
                    entrance,
                    ..host_view(entry)
                })
                .collect(),
            streams: streams
                .into_iter()
                .map(|(entrance, route)| StreamView {
                    entrance,
                    ..StreamView::new(route, shares(&route.to))
                })
                .collect(),
            entrances: entrances
                .into_iter()
                .map(|spec| EntranceView::new(spec, unavailable(&spec.name)))
                .collect(),
            upstreams: upstreams
                .map(|spec| upstream_view(spec, health(&spec.name)))
                .collect(),
        }
    }
}

fn refused(config: &Config) -> Vec<RefusedView> {
    let refused = config.refused.iter().map(|one| RefusedView {
        object: one.object.to_string(),
        place: one.place.to_string(),
        reason: one.reason.to_string(),
    });
    refused.collect()
}

fn targets(rule: &RuleSpec) -> impl Iterator<Item = &str> {
    let to = match &rule.action {
        Action::Forward(to) => to.as_slice(),
        Action::Redirect(_) | Action::Respond(_) => &[],
    };
    to.iter().map(|one| one.upstream.as_ref())
}

fn unknown_hosts(what: UnknownHosts) -> &'static str {
    match what {
        UnknownHosts::Refuse => "refuse",
        UnknownHosts::PassThrough => "pass through",
    }
}

fn host_view(entry: &HostRoutes) -> HostView {
    HostView {
        hosts: entry.hosts.iter().map(ToString::to_string).collect(),
        port: entry.port,
        entrance: None,
        object: entry.object.as_deref().map(str::to_owned),
        place: entry.place.to_string(),
        rules: entry
            .rules
            .iter()
            .map(|rule| rule_view(rule, &entry.rules.place(rule)))
            .collect(),
    }
}

fn rule_view(rule: &RuleSpec, place: &Place) -> RuleView {
    let (action, target) = action(&rule.action);
    RuleView {
        name: rule.name.as_deref().map(str::to_owned),
        place: place.to_string(),
        matches: rule.matches.iter().map(explain::condition).collect(),
        action: action.to_owned(),
        target,
        rewrite: explain::rewrite(&rule.rewrite),
        timeout_ms: rule
            .timeout
            .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        retries: rule.retries.attempts,
    }
}

fn action(action: &Action) -> (&'static str, String) {
    match action {
        Action::Forward(to) => ("forward", shares(to)),
        Action::Redirect(redirect) => ("redirect", explain::redirect(redirect)),
        Action::Respond(respond) => {
            let text = format!("{} with {} bytes", respond.status, respond.body.len());
            ("respond", text)
        }
    }
}

/// Upstreams with their shares.
fn shares(to: &[Weighted]) -> String {
    let whole: u64 = to.iter().map(|one| u64::from(one.weight)).sum();
    let part = |one: &Weighted| match to.len() {
        1 => one.upstream.to_string(),
        _ => format!("{} ({}/{whole})", one.upstream, one.weight),
    };
    let parts: Vec<String> = to.iter().map(part).collect();
    parts.join(", ")
}

fn upstream_view(spec: &UpstreamSpec, health: UpstreamHealth) -> UpstreamView {
    let (tls, server_name) = match &spec.tls {
        TlsPolicy::Disable => ("disable", None),
        TlsPolicy::Tls(tls) => {
            let mutual = tls.credential.identity.is_some();
            let name = tls.server_name.as_ref().map(ToString::to_string);
            (if mutual { "mutual" } else { "simple" }, name)
        }
    };
    let http = match spec.http {
        HttpChoice::Auto => "auto",
        HttpChoice::Http1 => "http1",
        HttpChoice::Http2 => "http2",
    };
    let written = spec
        .endpoints
        .iter()
        .map(|endpoint| match endpoint.host.ip() {
            Some(std::net::IpAddr::V6(ip)) => format!("[{ip}]:{}", endpoint.port),
            _ => format!("{}:{}", endpoint.host, endpoint.port),
        });
    UpstreamView {
        name: spec.name.to_string(),
        place: spec.place.to_string(),
        tls: tls.to_owned(),
        server_name,
        http: http.to_owned(),
        resolution: match spec.resolution {
            Resolution::Static => "static",
            Resolution::Dns | Resolution::DnsOne => "dns",
            Resolution::OriginalDst { .. } => "original destination",
            Resolution::RequestHost { .. } => "request's host",
        }
        .to_owned(),
        configured: written.collect(),
        unavailable: health.unavailable.or_else(|| {
            let broken = spec.broken.as_ref();
            broken.map(|broken| broken.reason.to_string())
        }),
        endpoints: health.endpoints,
    }
}

/// `/config`.
#[derive(Debug, Serialize)]
pub(super) struct ConfigView {
    version: u64,
    loaded_at: Option<String>,
    /// Since when what runs is not what the files say; `null` where it is.
    stale_since: Option<String>,
    /// Why the files were refused.
    diagnostics: Vec<String>,
    notes: Vec<String>,
    sources: Vec<PathBuf>,
    listeners: Vec<ListenerView>,
    unknown_hosts: Option<&'static str>,
    unknown_captured: Option<&'static str>,
    /// Documents of what runs that were turned away at the start.
    refused: Vec<RefusedView>,
    limits: Option<LimitsView>,
    rotation: Option<RotationView>,
    /// Of the mesh's listeners.
    routes: usize,
    entrances: usize,
    upstreams: usize,
}

#[derive(Debug, Serialize)]
struct ListenerView {
    address: String,
    kind: &'static str,
}

#[derive(Debug, Serialize)]
struct LimitsView {
    max_connections: usize,
    max_head_bytes: usize,
    max_headers: usize,
    head_timeout_seconds: f64,
    idle_timeout_seconds: f64,
    stream_idle_timeout_seconds: f64,
    max_streams: u32,
}

#[derive(Debug, Serialize)]
struct RotationView {
    poll_seconds: f64,
    max_connection_age_seconds: f64,
    on_expired: &'static str,
}

impl ConfigView {
    pub(super) fn new(state: &AdminState) -> ConfigView {
        let config = state.inside.config();
        let config = config.as_deref();
        let (version, loaded) = state.status.loaded();
        let refusal = state.status.refusal();
        let listeners = state.inside.listeners().into_iter();
        ConfigView {
            version,
            loaded_at: loaded.map(rfc3339_millis),
            stale_since: refusal
                .as_ref()
                .map(|refusal| rfc3339_millis(refusal.since)),
            diagnostics: refusal
                .map(|refusal| refusal.diagnostics)
                .unwrap_or_default(),
            notes: state.status.notes(),
            sources: state.inside.sources(),
            listeners: listeners
                .map(|(address, kind)| ListenerView {
                    address: address.to_string(),
                    kind: match kind {
                        ListenerKind::Direct => "direct",
                        ListenerKind::Capture => "capture",
                        ListenerKind::Inbound(_) => "inbound",
                        ListenerKind::Gateway(_) => "gateway",
                    },
                })
                .collect(),
            unknown_hosts: config.map(|config| unknown_hosts(config.unknown_hosts)),
            unknown_captured: config.map(|config| unknown_hosts(config.unknown_captured)),
            refused: config.map(refused).unwrap_or_default(),
            limits: config.map(limits),
            rotation: config.map(rotation),
            routes: config.map_or(0, |config| config.hosts.len()),
            entrances: config.map_or(0, |config| config.entrances.len()),
            upstreams: config.map_or(0, |config| config.upstreams.len()),
        }
    }
}

fn limits(config: &Config) -> LimitsView {
    let limits = &config.limits;
    LimitsView {
        max_connections: limits.max_connections,
        max_head_bytes: limits.max_head_bytes,
        max_headers: limits.max_headers,
        head_timeout_seconds: limits.head_timeout.as_secs_f64(),
        idle_timeout_seconds: limits.idle_timeout.as_secs_f64(),
        stream_idle_timeout_seconds: limits.stream_idle_timeout.as_secs_f64(),
        max_streams: limits.max_streams,
    }
}

fn rotation(config: &Config) -> RotationView {
    RotationView {
        poll_seconds: config.rotation.poll.as_secs_f64(),
        max_connection_age_seconds: config.rotation.max_connection_age.as_secs_f64(),
        on_expired: match config.rotation.on_expired {
            crate::model::OnExpired::Fail => "fail",
            crate::model::OnExpired::Use => "use",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        EndpointSpec, HeaderMatch, Host, HostPattern, MatchSpec, PathRewrite, Place, Rewrite,
        StreamMatch, StreamRoute, StringMatch,
    };
    use std::time::Duration;

    fn rule(action: Action) -> RuleSpec {
        let place = Place {
            file: "a.yaml".into(),
            line: 7,
        };
        RuleSpec {
            name: Some("accounts".into()),
            matches: vec![MatchSpec {
                path: Some(StringMatch::Prefix("/v1".into())),
                methods: vec![http::Method::GET, http::Method::POST],
                headers: vec![(http::HeaderName::from_static("x-old"), HeaderMatch::Absent)],
                ..MatchSpec::default()
            }],
            rewrite: Rewrite {
                host: Some("inner.example".into()),
                path: Some(PathRewrite::Replace("/v2".into())),
            },
            timeout: Some(Duration::from_secs(15)),
            ..RuleSpec::new(action, place)
        }
    }

    fn config() -> Config {
        let to = |name: &str, weight| Weighted::new(name, weight);
        let entry = |host: &str, action| HostRoutes {
            hosts: vec![HostPattern::parse(host).unwrap()].into(),
            port: None,
            rules: vec![rule(action)].into(),
            object: None,
            place: Place::default(),
        };
        let mut bank = UpstreamSpec::new("bank");
        bank.resolution = Resolution::Static;
        bank.endpoints = vec![EndpointSpec::new(Host::parse("::1").unwrap(), 8443)];
        let split = Action::Forward(vec![to("bank", 90), to("spare", 10)]);
        Config {
            upstreams: vec![bank, UpstreamSpec::new("spare"), UpstreamSpec::new("other")],
            hosts: vec![
                entry("bank.example", split),
                entry("*.shop.example", Action::Forward(vec![to("other", 1)])),
            ],
            ..Config::default()
        }
    }

    #[test]
    fn a_rule_is_shown_in_plain_words_with_its_place() {
        let view = RoutesView::new(&config(), None, |_| UpstreamHealth::default(), |_| None);
        let shown = &view.routes[0].rules[0];
        assert_eq!(shown.matches, ["GET|POST /v1* no x-old"]);
        assert_eq!(shown.target, "bank (90/100), spare (10/100)");
        assert_eq!(
            shown.rewrite.as_deref(),
            Some("host inner.example, path /v2")
        );
        assert_eq!(
            (shown.place.as_str(), shown.timeout_ms),
            ("a.yaml:7", Some(15_000))
        );
        assert_eq!((view.routes.len(), view.upstreams.len()), (2, 3));
        assert_eq!(view.upstreams[0].configured, ["[::1]:8443"]);
    }

    #[test]
    fn x1_what_was_refused_is_shown_with_its_place_and_reason() {
        let place = |line| Place {
            file: "dr.yaml".into(),
            line,
        };
        let mut config = config();
        config.unknown_captured = UnknownHosts::PassThrough;
        config.refused = vec![crate::model::Refused {
            object: "DestinationRule default/bank".into(),
            place: place(9),
            reason: "the mode is none".into(),
        }];
        let view = RoutesView::new(
            &config,
            Some("none.example"),
            |_| UpstreamHealth::default(),
            |_| None,
        );
        let shown = RefusedView {
            object: "DestinationRule default/bank".to_owned(),
            place: "dr.yaml:9".to_owned(),
            reason: "the mode is none".to_owned(),
        };
        assert_eq!(view.refused, [shown]);
        assert_eq!(
            (view.unknown_hosts.as_str(), view.unknown_captured.as_str()),
            ("refuse", "pass through")
        );
    }

    #[test]
    fn a_host_leaves_only_what_concerns_it() {
        let only = |host| {
            RoutesView::new(
                &config(),
                Some(host),
                |_| UpstreamHealth::default(),
                |_| None,
            )
        };
        let bank = only("bank.example");
        let names: Vec<_> = bank
            .upstreams
            .iter()
            .map(|upstream| upstream.name.as_str())
            .collect();
        assert_eq!((bank.routes.len(), names), (1, vec!["bank", "spare"]));
        assert_eq!(only("a.shop.example").upstreams[0].name, "other");
        assert_eq!(only("none.example").routes.len(), 0);
    }

    #[test]
    fn v17_what_is_not_http_is_shown_with_its_names_and_networks() {
        let route = |port, on, to: &[(&str, u32)]| StreamRoute {
            port,
            on,
            sources: Vec::new(),
            to: to
                .iter()
                .map(|(to, part)| Weighted::new(to, *part))
                .collect(),
            name: None,
            object: None,
            place: Place::default(),
        };
        let tls = StreamMatch::Tls {
            names: vec![HostPattern::parse("*.bank.example").unwrap()],
            destinations: Vec::new(),
        };
        let tcp = StreamMatch::Tcp {
            destinations: vec!["192.0.2.0/24".parse().unwrap()],
        };
        let mut config = config();
        config.streams = vec![
            route(Some(443), tls, &[("bank", 1), ("spare", 3)]),
            route(None, tcp, &[("outbound|3306||db.example", 1)]),
        ];
        let view = RoutesView::new(&config, None, |_| UpstreamHealth::default(), |_| None);
        let shown = &view.streams[0];
        assert_eq!((shown.kind.as_str(), shown.port), ("tls", Some(443)));
        assert_eq!(shown.names, ["*.bank.example"]);
        assert_eq!(shown.target, "bank (1/4), spare (3/4)");
        let shown = &view.streams[1];
        assert_eq!((shown.kind.as_str(), shown.port), ("tcp", None));
        assert_eq!(shown.destinations, ["192.0.2.0/24"]);
        for (host, kinds, upstreams) in [
            ("a.bank.example", &["tls"][..], 2),
            ("db.example", &["tcp"], 0),
            ("none.example", &[], 0),
        ] {
            let view =
                RoutesView::new(&config, Some(host), |_| UpstreamHealth::default(), |_| None);
            let shown: Vec<_> = view.streams.iter().map(|one| one.kind.as_str()).collect();
            assert_eq!(
                (&shown[..], view.upstreams.len()),
                (kinds, upstreams),
                "{host}"
            );
        }
    }

    #[test]
    fn the_page_can_be_read_back() {
        let view = RoutesView::new(&config(), None, |_| UpstreamHealth::default(), |_| None);
        let text = serde_json::to_string(&view).unwrap();
        assert_eq!(serde_json::from_str::<RoutesView>(&text).unwrap(), view);
    }
}
