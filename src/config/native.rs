//! sortie's own documents to a configuration.
//!
//! Owns: the top level of the format, and the order in which its parts are lowered.
//! Never: opens a file.
//! Called by: load, schema.

use crate::model::Config;

use super::cursor::At;
use super::diagnostic::{Code, Diagnostics};
use super::document::Document;
use super::listeners::{LISTENER, Listeners};
use super::routes::{ROUTE, Routes};
use super::settings::{LIMITS, ROTATION, Settings, UNKNOWN_HOSTS};
use super::shape::{Field, Shape, Table};
use super::upstreams::{UPSTREAM, Upstreams};
use super::validate;

/// A whole document.
pub static DOCUMENT: Table = Table::new(
    "document",
    "Configuration of sortie: plain HTTP in, mutual TLS out.",
    &[
        Field::optional(
            "listeners",
            "Addresses on which applications connect; flags add to them.",
            Shape::List(&Shape::Object(&LISTENER)),
        ),
        Field::optional(
            "upstreams",
            "The named destinations.",
            Shape::List(&Shape::Object(&UPSTREAM)),
        ),
        Field::optional(
            "routes",
            "Which host goes where.",
            Shape::List(&Shape::Object(&ROUTE)),
        ),
        Field::optional(
            "unknownHosts",
            "What becomes of a host that no route names.",
            UNKNOWN_HOSTS,
        )
        .default("refuse"),
        Field::optional(
            "rotation",
            "Certificate rotation.",
            Shape::Object(&ROTATION),
        ),
        Field::optional("limits", "Bounds on clients.", Shape::Object(&LIMITS)),
    ],
);

static DOCUMENT_SHAPE: Shape = Shape::Object(&DOCUMENT);

/// All documents as one configuration. It is of use only where `out` has no error afterwards.
pub fn lower(documents: &[Document], out: &mut Diagnostics) -> Config {
    let (mut listeners, mut settings) = (Listeners::default(), Settings::default());
    let (mut upstreams, mut routes) = (Upstreams::default(), Routes::default());
    let roots = || documents.iter().map(At::of);
    for root in roots() {
        validate::check(&root, &DOCUMENT_SHAPE, out);
        settings.lower(&root, out);
        each(&root, "listeners", |at| listeners.lower(at, out));
        each(&root, "upstreams", |at| upstreams.lower(at, out));
    }
    // Only now are all names known.
    let lists = || roots().filter_map(|root| Some(root.key("routes")?.count()));
    routes.expect(lists().sum());
    for root in roots() {
        if let Some(list) = root.key("routes") {
            routes.read(&list, &mut upstreams, out);
        }
    }
    if !out.has_errors() {
        for root in roots() {
            each(&root, "upstreams", |at| upstreams.unused(at, out));
        }
        if let (Some(root), true) = (roots().next(), routes.list.is_empty()) {
            let problem = "there is no route, so that every host is unknown".to_owned();
            let advice = "write routes: [{host: NAME, upstream: NAME}]";
            root.report(out, Code::NoRoutes, problem, advice);
        }
    }
    Config {
        listeners: listeners.list,
        upstreams: upstreams.list,
        hosts: routes.list,
        unknown_hosts: settings.unknown_hosts,
        unknown_captured: settings.unknown_hosts,
        rotation: settings.rotation,
        limits: settings.limits,
        ..Config::default()
    }
}

/// True where one of the documents says `unknownHosts`, be it the default.
pub fn says_unknown_hosts(documents: &[Document]) -> bool {
    let mut roots = documents.iter().map(At::of);
    roots.any(|root| root.has("unknownHosts"))
}

fn each(root: &At<'_>, section: &str, mut lower: impl FnMut(&At<'_>)) {
    if let Some(list) = root.key(section) {
        list.each_read().for_each(|at| lower(&at));
    }
}

/// A document that says everything that can be said, for the tests of this room.
#[cfg(test)]
pub(super) const FULL: &str = r#"
listeners:
  - {address: 127.0.0.1:8080}
  - {address: "[::1]:15001", capture: true}
upstreams:
  - name: bank
    endpoints: [bank.example:443, 10.0.0.1:8443]
    resolution: dns
    balance: least-request
    connectTimeout: 5s
    http: 1.1
    pool: {maxConnections: 10, maxRequests: 20, maxIdle: 3, idleTimeout: 1.5s, maxRequestsPerConnection: 1000}
    outlier: {consecutiveFailures: 7, ejectFor: 2m, maxEjectedPercent: 10%}
    tls:
      mode: mutual
      certificate: client.crt
      key: client.key
      ca: ca.crt
      crl: revoked.pem
      serverName: Bank.Example
      subjectAltNames: [bank.example, spiffe://td/ns/a/sa/b]
      nameCheck: warn
      verify: true
      minVersion: 1.3
  - name: any
    resolution: original-destination
    tls: {mode: simple, verify: insecure-skip}
  - name: plain
    endpoints: 10.0.0.2:80
    tls: {mode: disable}
routes:
  - host: bank.example
    port: 80
    upstream: bank
  - hosts: ["*.shop.example", "*"]
    rules:
      - name: v1
        match: [{path: {prefix: /v1}, method: [GET, POST], headers: {x-version: {exact: "2"}, x-old: absent}}]
        upstreams: [{name: bank, weight: 90}, {name: plain, weight: 10}]
        rewrite: {host: internal.example, path: /v2}
        requestHeaders: {add: {x-a: "1"}, set: {x-b: "2"}, remove: [x-c]}
        responseHeaders: {remove: server}
        timeout: 15s
        retries:
          attempts: 3
          on: [connect-failure, refused-stream, reset, gateway-error, unavailable, cancelled, 429]
          perTryTimeout: 5s
          backoff: 10ms
          budget: {percent: 30, min: 5}
      - match: {path: {exact: /old}}
        redirect: {status: 308, scheme: https, host: new.example, path: /new}
      - match: {path: {regex: "/r/[0-9]+"}, headers: {a: {prefix: b}, c: {regex: d}, e: present}}
        upstream: any
        rewrite: {path: {regex: "^/r/(.*)", substitution: '/\1'}}
        retries: 0
      - respond: {status: 404, body: "no such thing"}
unknownHosts: pass-through
rotation: {poll: 1s, maxConnectionAge: 10m, onExpired: use}
limits:
  maxConnections: 100
  maxHeadBytes: 32KiB
  maxHeaders: 50
  headTimeout: 5s
  idleTimeout: 1m
  streamIdleTimeout: 30s
  maxStreams: 10
"#;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::config::cursor::Source;
    use crate::config::load::load_texts;
    use crate::config::node::{Entry, Node, Scalar, Value};
    use crate::config::yaml;
    use crate::model::*;

    fn full() -> Config {
        load_texts(&[("conf/a.yaml", FULL)]).expect("valid").config
    }

    #[test]
    fn every_key_of_an_upstream_arrives_in_the_model() {
        let config = full();
        let host = |text| Host::parse(text).unwrap();
        let place = |line| Place {
            file: "conf/a.yaml".into(),
            line,
        };
        assert_eq!(
            config.upstreams[0],
            UpstreamSpec {
                name: "bank".into(),
                endpoints: vec![
                    EndpointSpec::new(host("bank.example"), 443),
                    EndpointSpec::new(host("10.0.0.1"), 8443),
                ],
                resolution: Resolution::Dns,
                balance: Balance::LeastRequest,
                connect_timeout: Duration::from_secs(5),
                http: HttpChoice::Http1,
                pool: PoolLimits {
                    max_connections: 10,
                    max_requests: 20,
                    max_idle: 3,
                    idle_timeout: Duration::from_millis(1500),
                    max_requests_per_connection: 1000,
                },
                outlier: Outlier {
                    consecutive_failures: 7,
                    eject_for: Duration::from_secs(120),
                    max_ejected_percent: 10,
                },
                tls: TlsPolicy::Tls(Box::new(TlsSpec {
                    credential: CredentialSpec {
                        identity: Some(IdentitySource::Files(
                            "conf/client.crt".into(),
                            "conf/client.key".into()
                        )),
                        ca: CaSource::File("conf/ca.crt".into()),
                        crl: Some(CrlSource::File("conf/revoked.pem".into())),
                    },
                    server_name: Some(host("bank.example")),
                    subject_alt_names: vec!["bank.example".into(), "spiffe://td/ns/a/sa/b".into()],
                    also_host: false,
                    expected_name: None,
                    alpn: AlpnOffer::Http,
                    allow_tls_in_tls: false,
                    name_check: NameCheck::Warn,
                    verify_chain: true,
                    min_version: TlsVersion::Tls13,
                })),
                place: place(6),
                ..UpstreamSpec::new("bank")
            }
        );
        let any = &config.upstreams[1];
        assert_eq!(any.resolution, Resolution::OriginalDst { port: None });
        assert!(matches!(&any.tls, TlsPolicy::Tls(tls) if !tls.verify_chain
            && tls.credential.identity.is_none() && tls.credential.ca == CaSource::Nothing));
        let plain = UpstreamSpec {
            endpoints: vec![EndpointSpec::new(host("10.0.0.2"), 80)],
            resolution: Resolution::Static,
            place: place(28),
            ..UpstreamSpec::new("plain")
        };
        assert_eq!(
            config.upstreams[2], plain,
            "defaults, and plaintext as it was asked for"
        );
    }

    #[test]
    fn every_key_of_a_route_arrives_in_the_model() {
        let config = full();
        let shown = format!("{:#?}", config.hosts[1].rules[0]);
        let [bank, shop] = config.hosts.as_slice() else {
            panic!()
        };
        assert_eq!((bank.port, bank.place.line), (Some(80), 32));
        assert_eq!(*bank.hosts, [HostPattern::parse("bank.example").unwrap()]);
        assert!(bank.rules[0].matches.is_empty() && bank.rules[0].timeout.is_none());
        assert_eq!(
            *shop.hosts,
            [
                HostPattern::parse("*.shop.example").unwrap(),
                HostPattern::Any
            ]
        );
        let rule = &shop.rules[0];
        assert_eq!(rule.name.as_deref(), Some("v1"), "{shown}");
        assert_eq!(
            rule.matches[0].path,
            Some(StringMatch::Prefix("/v1".into()))
        );
        assert_eq!(
            rule.matches[0].methods,
            [http::Method::GET, http::Method::POST]
        );
        let headers = &rule.matches[0].headers;
        assert_eq!(
            headers[0].1,
            HeaderMatch::Value(StringMatch::Exact("2".into()))
        );
        assert_eq!(
            (headers[1].0.as_str(), &headers[1].1),
            ("x-old", &HeaderMatch::Absent)
        );
        let Action::Forward(split) = &rule.action else {
            panic!()
        };
        let share = |name: &str, weight| Weighted::new(name, weight);
        assert_eq!(*split, [share("bank", 90), share("plain", 10)]);
        assert_eq!(
            rule.rewrite,
            Rewrite {
                host: Some("internal.example".into()),
                path: Some(PathRewrite::Replace("/v2".into())),
            }
        );
        let pair = |name: &'static str, value: &'static str| {
            let name = http::HeaderName::from_static(name);
            (name, http::HeaderValue::from_static(value).into())
        };
        assert_eq!(
            rule.request_headers,
            HeaderOps {
                remove: vec![http::HeaderName::from_static("x-c")],
                set: vec![pair("x-b", "2")],
                add: vec![pair("x-a", "1")],
            }
        );
        assert_eq!(rule.response_headers.remove, [http::header::SERVER]);
        assert_eq!(
            (rule.timeout, rule.place.line),
            (Some(Duration::from_secs(15)), 37)
        );
    }

    #[test]
    fn every_kind_of_action_and_retry_arrives_in_the_model() {
        let config = full();
        let rules = &config.hosts[1].rules;
        assert_eq!(
            rules[0].retries,
            Retries {
                attempts: 3,
                on: RetryOn {
                    connect_failure: true,
                    refused_stream: true,
                    reset: true,
                    gateway_error: true,
                    grpc_unavailable: true,
                    grpc_cancelled: true,
                    statuses: vec![429],
                    ..RetryOn::default()
                },
                per_try_timeout: Some(Duration::from_secs(5)),
                backoff: Duration::from_millis(10),
                budget_percent: 30,
                budget_min: 5,
            }
        );
        let Action::Redirect(redirect) = &rules[1].action else {
            panic!()
        };
        assert_eq!(
            *redirect,
            Redirect {
                status: 308,
                scheme: Some("https".into()),
                authority: Some("new.example".into()),
                path: Some(RedirectPath::Whole("/new".into())),
                port: None,
            }
        );
        assert_eq!(
            rules[2].rewrite.path,
            Some(PathRewrite::Regex {
                pattern: "^/r/(.*)".into(),
                substitution: "/\\1".into()
            })
        );
        assert_eq!(rules[2].retries.attempts, 0);
        let Action::Respond(respond) = &rules[3].action else {
            panic!()
        };
        assert_eq!(
            (respond.status, respond.body.as_ref()),
            (404, &b"no such thing"[..])
        );
    }

    #[test]
    fn every_setting_arrives_in_the_model() {
        let config = full();
        let shown: Vec<_> = config
            .listeners
            .iter()
            .map(|l| (l.address.port(), l.kind))
            .collect();
        assert_eq!(
            shown,
            [(8080, ListenerKind::Direct), (15001, ListenerKind::Capture)]
        );
        assert_eq!(config.unknown_hosts, UnknownHosts::PassThrough);
        assert_eq!(
            config.rotation,
            Rotation {
                poll: Duration::from_secs(1),
                max_connection_age: Duration::from_secs(600),
                on_expired: OnExpired::Use,
            }
        );
        assert_eq!(
            config.limits,
            Limits {
                max_connections: 100,
                max_head_bytes: 32 * 1024,
                max_headers: 50,
                head_timeout: Duration::from_secs(5),
                idle_timeout: Duration::from_secs(60),
                stream_idle_timeout: Duration::from_secs(30),
                max_streams: 10,
            }
        );
    }

    /// Every `table.key` that can be written.
    fn keys_of(table: &'static Table, into: &mut BTreeSet<String>) {
        fn walk(shape: &'static Shape, into: &mut BTreeSet<String>) {
            match shape {
                Shape::Object(table) => keys_of(table, into),
                Shape::List(of) | Shape::Many(of) | Shape::Map(_, of) => walk(of, into),
                Shape::Either(all) => all.iter().for_each(|of| walk(of, into)),
                _ => {}
            }
        }
        for field in table.fields {
            into.insert(format!("{}.{}", table.name, field.name));
            walk(&field.shape, into);
        }
    }

    /// Every `table.key` that a document writes.
    fn keys_in(node: &Node, shape: &'static Shape, into: &mut BTreeSet<String>) {
        match (shape, &node.value) {
            (Shape::Object(table), Value::Map(entries)) => {
                for entry in entries {
                    let field = table.field(&entry.key).expect("a known key");
                    into.insert(format!("{}.{}", table.name, field.name));
                    keys_in(&entry.value, &field.shape, into);
                }
            }
            (Shape::Map(_, of), Value::Map(entries)) => {
                entries
                    .iter()
                    .for_each(|entry| keys_in(&entry.value, of, into));
            }
            (Shape::List(of) | Shape::Many(of), Value::List(items)) => {
                items.iter().for_each(|item| keys_in(item, of, into));
            }
            (Shape::Many(of), _) => keys_in(node, of, into),
            (Shape::Either(all), _) => all.iter().for_each(|of| keys_in(node, of, into)),
            _ => {}
        }
    }

    #[test]
    fn the_full_document_writes_every_key_that_there_is() {
        let (mut all, mut written) = (BTreeSet::new(), BTreeSet::new());
        keys_of(&DOCUMENT, &mut all);
        keys_in(
            &yaml::parse(FULL).documents[0],
            &DOCUMENT_SHAPE,
            &mut written,
        );
        assert_eq!(all.difference(&written).collect::<Vec<_>>(), [""; 0]);
    }

    /// The paths of all mappings with known keys.
    fn mappings(node: &mut Node, visit: &mut dyn FnMut(&mut Vec<Entry>)) {
        match &mut node.value {
            Value::Scalar(_) => {}
            Value::List(items) => items.iter_mut().for_each(|item| mappings(item, visit)),
            Value::Map(entries) => {
                visit(entries);
                entries
                    .iter_mut()
                    .for_each(|entry| mappings(&mut entry.value, visit));
            }
        }
    }

    fn lowered(root: Node) -> Diagnostics {
        let source = Source {
            file: "a.yaml".into(),
            folder: "".into(),
        };
        let mut out = Diagnostics::new();
        let left = Vec::new();
        lower(&[Document { source, root, left }], &mut out);
        out
    }

    #[test]
    fn an_unknown_key_is_an_error_wherever_it_stands() {
        let sound = yaml::parse(FULL).documents.remove(0);
        let mut count = 0;
        mappings(&mut sound.clone(), &mut |_| count += 1);
        assert!(count > 40);
        for wanted in 0..count {
            let (mut broken, mut n) = (sound.clone(), 0);
            mappings(&mut broken, &mut |entries| {
                if n == wanted {
                    let entry = entries[0].clone();
                    entries.push(Entry {
                        key: "no such key".into(),
                        ..entry
                    });
                }
                n += 1;
            });
            assert!(lowered(broken).has_errors(), "mapping {wanted}");
        }
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_an_error_wherever_it_stands() {
        fn values(node: &mut Node, visit: &mut dyn FnMut(&mut Node)) {
            visit(node);
            match &mut node.value {
                Value::Scalar(_) => {}
                Value::List(items) => items.iter_mut().for_each(|item| values(item, visit)),
                Value::Map(entries) => {
                    entries
                        .iter_mut()
                        .for_each(|entry| values(&mut entry.value, visit));
                }
            }
        }
        let sound = yaml::parse(FULL).documents.remove(0);
        let mut count = 0;
        values(&mut sound.clone(), &mut |_| count += 1);
        let null = Scalar {
            text: "".into(),
            plain: true,
        };
        for kind in [
            Value::Scalar(null),
            Value::Map(Vec::new()),
            Value::List(Vec::new()),
        ] {
            for wanted in 0..count {
                let (mut broken, mut n) = (sound.clone(), 0);
                values(&mut broken, &mut |node| {
                    if n == wanted {
                        node.value = kind.clone();
                    }
                    n += 1;
                });
                // A block in which everything has a default may say nothing, as may a document.
                let empty = matches!(kind, Value::Map(_));
                let allowed = empty && (wanted == 0 || may_be_empty(&sound, wanted));
                assert!(lowered(broken).has_errors() || allowed, "value {wanted}");
            }
        }
    }

    /// Blocks in which every key has a default.
    fn may_be_empty(root: &Node, wanted: usize) -> bool {
        fn find<'n>(node: &'n Node, key: &'n str, n: &mut usize, wanted: usize) -> Option<&'n str> {
            if *n == wanted {
                return Some(key);
            }
            *n += 1;
            match &node.value {
                Value::Scalar(_) => None,
                Value::List(items) => items.iter().find_map(|item| find(item, key, n, wanted)),
                Value::Map(entries) => entries
                    .iter()
                    .find_map(|e| find(&e.value, &e.key, n, wanted)),
            }
        }
        let key = find(root, "", &mut 0, wanted);
        ["pool", "outlier", "rotation", "limits", "budget"].contains(&key.unwrap_or_default())
    }

    #[test]
    fn what_silence_means_is_what_the_tables_say_it_means() {
        let short = "upstreams: [{name: a, endpoints: 'a:1', tls: {mode: simple}}]\nroutes: [{host: \
                     a, rules: [{upstream: a, retries: {attempts: 2}}]}, {host: b, rules: \
                     [{redirect: {path: /}}, {respond: {status: 200}}]}]\nlisteners: [{address: \
                     '0.0.0.0:0'}]\n";
        let block = |table: &Table| {
            let fields = table.fields.iter();
            let keys = fields.filter_map(|f| Some(format!("{}: {}", f.name, f.default?)));
            keys.collect::<Vec<_>>().join(", ")
        };
        let table_of = |name: &str| {
            let mut found = None;
            tables(&DOCUMENT, &mut |table| {
                if table.name == name {
                    found = Some(table);
                }
            });
            found.expect(name)
        };
        let long = format!(
            "upstreams: [{{name: a, endpoints: 'a:1', {}, pool: {{{}}}, outlier: {{{}}}, tls: {{mode: \
             simple, {}}}}}]\nroutes: [{{host: a, rules: [{{upstream: a, retries: {{{}, budget: \
             {{{}}}}}}}]}}, {{host: b, rules: [{{redirect: {{path: /, {}}}}}, {{respond: {{status: \
             200, {}}}}}]}}]\nlisteners: [{{address: '0.0.0.0:0', {}}}]\nunknownHosts: \
             refuse\nrotation: {{{}}}\nlimits: {{{}}}\n",
            block(table_of("upstream")),
            block(table_of("pool")),
            block(table_of("outlier")),
            block(table_of("tls")),
            block(table_of("retries")),
            block(table_of("budget")),
            block(table_of("redirect")),
            block(table_of("respond")),
            block(table_of("listener")),
            block(table_of("rotation")),
            block(table_of("limits")),
        );
        let shown = |text: &str| {
            let loaded = load_texts(&[("a.yaml", text)]);
            format!("{:#?}", loaded.unwrap_or_else(|all| panic!("{all}")).config)
        };
        assert_eq!(shown(short), shown(&long));
    }

    fn tables(table: &'static Table, visit: &mut dyn FnMut(&'static Table)) {
        fn walk(shape: &'static Shape, visit: &mut dyn FnMut(&'static Table)) {
            match shape {
                Shape::Object(table) => tables(table, visit),
                Shape::List(of) | Shape::Many(of) | Shape::Map(_, of) => walk(of, visit),
                Shape::Either(all) => all.iter().for_each(|of| walk(of, visit)),
                _ => {}
            }
        }
        visit(table);
        for field in table.fields {
            walk(&field.shape, visit);
        }
    }

    #[test]
    fn no_two_tables_share_a_name() {
        let mut seen: std::collections::HashMap<&str, *const Table> = Default::default();
        tables(&DOCUMENT, &mut |table| {
            let first = *seen.entry(table.name).or_insert(table);
            assert!(std::ptr::eq(first, table), "{}", table.name);
        });
    }
}
