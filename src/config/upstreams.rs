//! `upstreams`: the named destinations.
//!
//! Owns: their tables and their lowering.
//! Never: resolves or connects.
//! Called by: native.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::model::{
    Balance, Destination, EndpointSpec, Host, HttpChoice, Outlier, Place, PoolLimits, Resolution,
    TlsPolicy, UpstreamSpec,
};

use super::cursor::At;
use super::diagnostic::{Code, Diagnostics};
use super::format::Format;
use super::settings::set;
use super::shape::{Choice, DURATION, Field, Shape, Table};
use super::tls::{self, TLS, TLS_MISSING};
use super::validate::did_you_mean;

/// How many unknown names get a "did you mean": each costs a look at every name.
const MAX_SUGGESTIONS: usize = 50;

const RESOLUTION: Shape = Shape::Choice(&[
    Choice {
        word: "static",
        doc: "Every endpoint is an IP address.",
    },
    Choice {
        word: "dns",
        doc: "Names are looked up, and again when their time to live is over.",
    },
    Choice {
        word: "original-destination",
        doc: "Where a captured connection was going; no endpoints.",
    },
]);

const BALANCE: Shape = Shape::Choice(&[
    Choice {
        word: "round-robin",
        doc: "In turn.",
    },
    Choice {
        word: "least-request",
        doc: "The less busy of two taken at random.",
    },
    Choice {
        word: "random",
        doc: "By chance.",
    },
]);

const HTTP: Shape = Shape::Choice(&[
    Choice {
        word: "auto",
        doc: "ALPN decides between HTTP/2 and HTTP/1.1; HTTP/1.1 in plaintext.",
    },
    Choice {
        word: "1.1",
        doc: "HTTP/1.1 alone.",
    },
    Choice {
        word: "2",
        doc: "HTTP/2 alone, with prior knowledge in plaintext.",
    },
]);

/// Bounds on connections.
pub static POOL: Table = Table::new(
    "pool",
    "Bounds on an upstream's connections.",
    &[
        Field::optional(
            "maxConnections",
            "Open connections, busy and idle; over it: 503.",
            Shape::Whole {
                min: 1,
                max: 1_000_000,
            },
        )
        .default("4096"),
        Field::optional(
            "maxRequests",
            "Requests under way; over it: 503.",
            Shape::Whole {
                min: 1,
                max: 10_000_000,
            },
        )
        .default("65536"),
        Field::optional(
            "maxIdle",
            "Idle connections that each worker keeps.",
            Shape::Whole {
                min: 0,
                max: 1_000_000,
            },
        )
        .default("256"),
        Field::optional(
            "idleTimeout",
            "An idle connection is closed after this; keep it below the server's own.",
            DURATION,
        )
        .default("55s"),
        Field::optional(
            "maxRequestsPerConnection",
            "A connection is retired after this many requests; 0: never.",
            Shape::Whole {
                min: 0,
                max: 1_000_000_000,
            },
        )
        .default("0"),
    ],
);

/// When an endpoint is shunned.
pub static OUTLIER: Table = Table::new(
    "outlier",
    "When an endpoint that keeps failing is shunned.",
    &[
        Field::optional(
            "consecutiveFailures",
            "Failures in a row; 0: never shunned.",
            Shape::Whole {
                min: 0,
                max: 1_000_000,
            },
        )
        .default("5"),
        Field::optional(
            "ejectFor",
            "The first time; each further time in a row lasts that much longer, to ten times.",
            DURATION,
        )
        .default("30s"),
        Field::optional(
            "maxEjectedPercent",
            "At most this share of the endpoints at once; one always stays.",
            Shape::Percent,
        )
        .default("50"),
    ],
);

/// One named destination.
pub static UPSTREAM: Table = Table::new(
    "upstream",
    "A named destination and how it is spoken to.",
    &[
        Field::required(
            "name",
            "Unique; rules refer to it, logs and metrics show it.",
            Shape::Text(Format::Name),
        ),
        Field::optional(
            "endpoints",
            "host:port, the host a DNS name or an IP address. Needed unless the resolution is \
             original-destination.",
            Shape::Many(&Shape::Text(Format::Endpoint)),
        ),
        Field::optional(
            "resolution",
            "How endpoints become addresses. Absent: dns where one of them is a name, else static.",
            RESOLUTION,
        ),
        Field::optional("balance", "How one endpoint is picked.", BALANCE).default("round-robin"),
        Field::optional(
            "connectTimeout",
            "Bound on the TCP connect and the TLS handshake together.",
            Shape::Duration {
                min: Duration::from_millis(1),
                max: Duration::from_secs(600),
            },
        )
        .default("10s"),
        Field::optional("http", "Which HTTP version is spoken.", HTTP).default("auto"),
        Field::optional("pool", "Bounds on connections.", Shape::Object(&POOL)),
        Field::optional(
            "outlier",
            "When an endpoint is shunned.",
            Shape::Object(&OUTLIER),
        ),
        Field::required(
            "tls",
            "Whether and how TLS is spoken. Must be there: plaintext is asked for with \
             mode: disable.",
            Shape::Object(&TLS),
        )
        .missing(&TLS_MISSING),
    ],
);

/// Upstreams of all documents, by name.
#[derive(Default)]
pub struct Upstreams {
    /// In the order in which they were written.
    pub list: Vec<UpstreamSpec>,
    /// Every name that was written, of refused upstreams too.
    names: HashMap<Arc<str>, Place>,
    used: HashSet<Arc<str>>,
    suggested: usize,
}

impl Upstreams {
    /// One more upstream.
    pub fn lower(&mut self, at: &At<'_>, out: &mut Diagnostics) {
        let Some(name) = at.text("name") else { return };
        let name: Arc<str> = name.into();
        if let Some(first) = self.names.get(&name) {
            let problem = format!("an upstream of the name \"{name}\" exists already, see {first}");
            at.report_key(out, "name", Code::Twice, problem, "choose another name");
        } else {
            self.names.insert(Arc::clone(&name), at.place());
        }
        let endpoints = endpoints(at, out);
        let resolution = resolution(at, &endpoints, out);
        let policy = at.key("tls").and_then(|tls| tls::lower(&tls, out));
        let Some(policy) = policy else { return };
        plain_to_tls_port(at, &policy, out);
        let mut spec = UpstreamSpec::new(&name);
        spec.endpoints = endpoints;
        spec.resolution = resolution;
        spec.tls = policy;
        spec.place = at.place();
        spec.balance = match at.word("balance") {
            Some("least-request") => Balance::LeastRequest,
            Some("random") => Balance::Random,
            _ => Balance::RoundRobin,
        };
        spec.http = match at.word("http") {
            Some("1.1") => HttpChoice::Http1,
            Some("2") => HttpChoice::Http2,
            _ => HttpChoice::Auto,
        };
        set(&mut spec.connect_timeout, at.duration("connectTimeout"));
        if let Some(pool) = at.key("pool") {
            lower_pool(&pool, &mut spec.pool);
        }
        if let Some(outlier) = at.key("outlier") {
            lower_outlier(&outlier, &mut spec.outlier);
        }
        self.list.push(spec);
    }

    /// A reference to an upstream, reported where there is none of that name.
    pub fn refer(&mut self, at: &At<'_>, out: &mut Diagnostics) -> Option<Arc<str>> {
        let name = at.as_text()?;
        if let Some((known, _)) = self.names.get_key_value(name) {
            let known = Arc::clone(known);
            self.used.insert(Arc::clone(&known));
            return Some(known);
        }
        let mut meant = None;
        if self.suggested < MAX_SUGGESTIONS {
            self.suggested += 1;
            meant = did_you_mean(name, self.names.keys().map(AsRef::as_ref));
        }
        let advice = match meant {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => "name one that stands under \"upstreams\" of any of the files".to_owned(),
        };
        let problem = format!("there is no upstream \"{name}\" (IST0101)");
        at.report(out, Code::UnknownUpstream, problem, &advice);
        None
    }

    /// Warns of an upstream that no rule refers to.
    pub fn unused(&self, at: &At<'_>, out: &mut Diagnostics) {
        if let Some(name) = at.text("name").filter(|name| !self.used.contains(*name)) {
            let problem = format!("no route leads to the upstream \"{name}\"");
            let advice = "name it in a route, or remove it";
            at.report_key(out, "name", Code::Unused, problem, advice);
        }
    }
}

fn endpoints(at: &At<'_>, out: &mut Diagnostics) -> Vec<EndpointSpec> {
    let mut list = Vec::new();
    let Some(endpoints) = at.key("endpoints") else {
        return list;
    };
    let mut seen = HashSet::new();
    for item in endpoints.one_or_many() {
        let Some(endpoint) = item.as_text().and_then(read_endpoint) else {
            continue;
        };
        if seen.insert(endpoint.clone()) {
            list.push(endpoint);
        } else {
            let problem = format!(
                "the endpoint {}:{} stands here twice",
                endpoint.host, endpoint.port
            );
            item.report(out, Code::Twice, problem, "keep one of the two");
        }
    }
    list
}

fn read_endpoint(text: &str) -> Option<EndpointSpec> {
    let destination = Destination::parse(text, 0).ok()?;
    let host = Host::parse(&destination.host).ok()?;
    Some(EndpointSpec::new(host, destination.port))
}

fn resolution(at: &At<'_>, endpoints: &[EndpointSpec], out: &mut Diagnostics) -> Resolution {
    let written = at.word("resolution");
    if written == Some("original-destination") {
        if at.has("endpoints") {
            let problem = "endpoints mean nothing with resolution: original-destination".to_owned();
            let advice = "leave them out: each connection goes where it was going";
            at.report_key(out, "endpoints", Code::Conflict, problem, advice);
        }
        return Resolution::OriginalDst { port: None };
    }
    if !at.has("endpoints") {
        let problem = "this key is missing".to_owned();
        let advice = "write a list of host:port, or resolution: original-destination";
        at.report_key(out, "endpoints", Code::MissingKey, problem, advice);
    }
    let name = endpoints
        .iter()
        .find(|endpoint| endpoint.host.ip().is_none());
    match (written, name) {
        (Some("static"), Some(name)) => {
            let problem = format!(
                "resolution: static needs IP addresses, and {} is a name",
                name.host
            );
            let advice = "write resolution: dns, or leave it out";
            at.report_key(out, "resolution", Code::Conflict, problem, advice);
            Resolution::Static
        }
        (Some("dns"), _) | (_, Some(_)) => Resolution::Dns,
        (_, None) => Resolution::Static,
    }
}

fn plain_to_tls_port(at: &At<'_>, policy: &TlsPolicy, out: &mut Diagnostics) {
    if *policy != TlsPolicy::Disable {
        return;
    }
    let Some(endpoints) = at.key("endpoints") else {
        return;
    };
    for item in endpoints.one_or_many() {
        let tls_port = |endpoint: &EndpointSpec| matches!(endpoint.port, 443 | 8443);
        if item
            .as_text()
            .and_then(read_endpoint)
            .as_ref()
            .is_some_and(tls_port)
        {
            let problem = "plaintext goes to a port that is meant for TLS".to_owned();
            let advice =
                "write tls: {mode: simple} or {mode: mutual, ...} if the server speaks TLS";
            item.report(out, Code::PlainToTlsPort, problem, advice);
        }
    }
}

fn lower_pool(at: &At<'_>, pool: &mut PoolLimits) {
    set(&mut pool.max_connections, at.whole("maxConnections"));
    set(&mut pool.max_requests, at.whole("maxRequests"));
    set(&mut pool.max_idle, at.whole("maxIdle"));
    set(&mut pool.idle_timeout, at.duration("idleTimeout"));
    set(
        &mut pool.max_requests_per_connection,
        at.whole("maxRequestsPerConnection"),
    );
}

fn lower_outlier(at: &At<'_>, outlier: &mut Outlier) {
    set(
        &mut outlier.consecutive_failures,
        at.whole("consecutiveFailures"),
    );
    set(&mut outlier.eject_for, at.duration("ejectFor"));
    set(
        &mut outlier.max_ejected_percent,
        at.percent("maxEjectedPercent"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::{load_texts, said};

    fn upstream(rest: &str) -> Result<UpstreamSpec, Vec<String>> {
        let text = format!("upstreams:\n- {{name: a, tls: {{mode: disable}}, {rest}}}\n");
        match load_texts(&[("a.yaml", &text)]) {
            Ok(mut loaded) => Ok(loaded.config.upstreams.remove(0)),
            Err(all) => Err(all.errors().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn the_resolution_follows_from_the_endpoints() {
        for (rest, resolution) in [
            ("endpoints: ['10.0.0.1:1', '[::1]:1']", Resolution::Static),
            ("endpoints: [b.example:1, '10.0.0.1:1']", Resolution::Dns),
            (
                "endpoints: ['10.0.0.1:1'], resolution: dns",
                Resolution::Dns,
            ),
            (
                "resolution: original-destination",
                Resolution::OriginalDst { port: None },
            ),
        ] {
            assert_eq!(upstream(rest).unwrap().resolution, resolution, "{rest}");
        }
    }

    #[test]
    fn the_resolution_does_not_contradict_the_endpoints() {
        assert_eq!(
            upstream("endpoints: [b.example:1], resolution: static").unwrap_err(),
            [
                "a.yaml:2:61: error[SRT0203] upstreams[0].resolution: resolution: static needs IP \
                 addresses, and b.example is a name; write resolution: dns, or leave it out"
            ]
        );
        assert_eq!(
            upstream("endpoints: [b.example:1], resolution: original-destination").unwrap_err(),
            [
                "a.yaml:2:35: error[SRT0203] upstreams[0].endpoints: endpoints mean nothing with \
                 resolution: original-destination; leave them out: each connection goes where it \
                 was going"
            ]
        );
        assert_eq!(
            upstream("balance: random").unwrap_err(),
            [
                "a.yaml:2:3: error[SRT0102] upstreams[0].endpoints: this key is missing; write a \
                 list of host:port, or resolution: original-destination"
            ]
        );
        assert_eq!(upstream("endpoints: []").unwrap_err().len(), 1);
    }

    #[test]
    fn an_endpoint_counts_once() {
        assert_eq!(
            upstream("endpoints: [B.example:1, b.example:1]").unwrap_err(),
            [
                "a.yaml:2:60: error[SRT0201] upstreams[0].endpoints[1]: the endpoint b.example:1 \
                 stands here twice; keep one of the two"
            ]
        );
    }

    #[test]
    fn names_are_unique_across_files_and_the_message_names_both_places() {
        let text = "upstreams:\n- {name: a, endpoints: a:1, tls: {mode: disable}}\n";
        let refused = load_texts(&[("a.yaml", text), ("b.yaml", text)]).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "b.yaml:2:4: error[SRT0201] upstreams[0].name: an upstream of the name \"a\" exists \
             already, see a.yaml:2; choose another name"
        );
    }

    #[test]
    fn a_rule_may_name_an_upstream_of_a_later_file() {
        let loaded = load_texts(&[
            ("a.yaml", "routes: [{host: a, upstream: a}]\n"),
            (
                "b.yaml",
                "upstreams: [{name: a, endpoints: a:1, tls: {mode: disable}}]\n",
            ),
        ]);
        assert!(loaded.unwrap().warnings.is_empty());
    }

    #[test]
    fn ist0101_a_rule_may_not_name_an_upstream_that_is_nowhere() {
        let text = "routes:\n- {host: a, upstream: bnk}\n- {host: b, rules: [{upstreams: [{name: \
                    zzz}]}]}\nupstreams: [{name: bank, endpoints: a:1, tls: {mode: disable}}]\n";
        assert_eq!(
            said(text),
            [
                "a.yaml:2:23: error[SRT0202] routes[0].upstream: there is no upstream \"bnk\" \
                 (IST0101); did you mean \"bank\"?",
                "a.yaml:3:41: error[SRT0202] routes[1].rules[0].upstreams[0].name: there is no \
                 upstream \"zzz\" (IST0101); name one that stands under \"upstreams\" of any of \
                 the files",
            ]
        );
    }

    #[test]
    fn what_is_probably_not_meant_is_a_warning() {
        let text = "routes: [{host: a, upstream: a}]\nupstreams:\n- {name: a, endpoints: a:443, \
                    tls: {mode: disable}}\n- {name: b, endpoints: a:80, tls: {mode: disable}}\n";
        assert_eq!(
            said(text),
            [
                "a.yaml:3:24: warning[SRT0304] upstreams[0].endpoints: plaintext goes to a port that \
                 is meant for TLS; write tls: {mode: simple} or {mode: mutual, ...} if the server \
                 speaks TLS",
                "a.yaml:4:4: warning[SRT0302] upstreams[1].name: no route leads to the upstream \
                 \"b\"; name it in a route, or remove it",
            ]
        );
    }
}
