//! What is read of sound documents, and that no document, however broken, costs more than its length.

use std::time::{Duration, Instant};

use crate::config::istio::Manifests;
use crate::config::istio::destination_rule::TlsMode;
use crate::config::istio::read::read_text;
use crate::config::istio::virtual_service::{HttpAction, HttpRoute};
use crate::config::load_text;
use crate::config::options::LoadOptions;
use crate::model::{
    Abort, HeaderMatch, HeaderText, PathRewrite, QueryMatch, RedirectPath, RedirectPort, Share,
    StringMatch,
};

const REGISTRY: &str = include_str!("../../../../fuzz/seeds/manifests/registry.yaml");
const ROUTES: &str = include_str!("../../../../fuzz/seeds/manifests/routes.yaml");
const POLICIES: &str = include_str!("../../../../fuzz/seeds/manifests/policies.yaml");
const SECRETS: &str = include_str!("../../../../fuzz/seeds/manifests/secrets.yaml");

fn sound(text: &str) -> Manifests {
    let (all, said) = read_text(text, &LoadOptions::default());
    let errors: Vec<_> = said.iter().filter(|line| line.contains("error")).collect();
    assert_eq!(errors, Vec::<&String>::new());
    assert!(all.refused.is_empty());
    all
}

fn counts(all: &Manifests) -> Vec<(&'static str, usize)> {
    all.counts().collect()
}

#[test]
fn every_kind_of_a_sound_document_is_read() {
    assert_eq!(
        counts(&sound(REGISTRY)),
        [
            ("ServiceEntry", 3),
            ("WorkloadEntry", 1),
            ("Service", 3),
            ("Endpoints", 2),
            ("Namespace", 1),
            ("ServiceAccount", 1),
            ("Pod", 2),
        ]
    );
    assert_eq!(
        counts(&sound(ROUTES)),
        [("VirtualService", 1), ("Gateway", 1), ("Sidecar", 1)]
    );
    assert_eq!(
        counts(&sound(POLICIES)),
        [
            ("DestinationRule", 2),
            ("PeerAuthentication", 2),
            ("Policy", 2)
        ]
    );
    let all = sound(SECRETS);
    assert_eq!(counts(&all), [("Secret", 1), ("ConfigMap", 2)]);
    assert_eq!(all.mesh.unwrap().trust_domain_aliases, ["old.local".into()]);
}

fn routes() -> Vec<HttpRoute> {
    sound(ROUTES).virtual_services.remove(0).http
}

#[test]
fn v8_v9_conditions_are_read_as_istio_means_them() {
    let matched = routes().remove(0).matches.remove(0);
    assert_eq!(matched.uri, Some(StringMatch::Prefix("/v1/".into())));
    assert!(matched.ignore_uri_case);
    let headers: Vec<_> = matched
        .headers
        .iter()
        .map(|(name, condition)| (name.as_str(), condition.clone()))
        .collect();
    assert_eq!(
        headers,
        [
            (
                "x-user",
                HeaderMatch::Joined(StringMatch::Exact("jason".into()))
            ),
            ("x-any", HeaderMatch::Present),
            ("x-re", HeaderMatch::Joined(StringMatch::Regex("a+".into()))),
            (
                "x-no",
                HeaderMatch::NotJoined(StringMatch::Prefix("b".into()))
            ),
        ]
    );
    assert_eq!(
        matched.query,
        [
            (
                "q".into(),
                QueryMatch::Value(StringMatch::Exact("1".into()))
            ),
            (
                "r".into(),
                QueryMatch::Value(StringMatch::Regex("\\d+".into()))
            ),
        ]
    );
    assert_eq!(matched.on.port, Some(80));
    assert_eq!(matched.on.source_namespace.as_deref(), Some("shop"));
}

#[test]
fn v9_a_condition_without_text_means_that_there_is_a_value_at_all() {
    for (condition, expected) in [
        ("{}", HeaderMatch::Present),
        ("{exact: ''}", HeaderMatch::Present),
        ("{prefix: ''}", HeaderMatch::Present),
        ("{regex: '*'}", HeaderMatch::Present),
    ] {
        let all = route(&format!("match: [{{headers: {{x: {condition}}}}}]"));
        assert_eq!(all.matches[0].headers[0].1, expected, "{condition}");
    }
    let all = route("match: [{withoutHeaders: {x: {}}}]");
    assert_eq!(all.matches[0].headers[0].1, HeaderMatch::Absent);
    let all = route("match: [{uri: {prefix: ''}}]");
    assert_eq!(all.matches[0].uri, None);
}

/// One route to `c` with this beside it.
fn route(beside: &str) -> HttpRoute {
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: n}}\nspec:\n  \
         hosts: [a.b]\n  http:\n  - route: [{{destination: {{host: c}}}}]\n    {beside}\n"
    );
    sound(&text).virtual_services.remove(0).http.remove(0)
}

#[test]
fn v10_to_v16_what_a_route_does_is_read() {
    let routes = routes();
    let first = &routes[0];
    assert_eq!(first.timeout, Some(Duration::from_millis(1500)));
    assert_eq!(first.rewrite_authority.as_deref(), Some("new.bank.example"));
    assert_eq!(
        first.rewrite_path,
        Some(PathRewrite::Replace("/v2/".into()))
    );
    let retries = first.retries.as_ref().unwrap();
    assert_eq!(
        (retries.attempts, retries.backoff),
        (3, Duration::from_millis(10))
    );
    assert!(retries.on.server_error && retries.on.connect_failure && !retries.on.refused_stream);
    assert_eq!(retries.on.statuses, [503]);
    assert_eq!(
        first.fault.delay,
        Some((Duration::from_secs(5), Share(1000)))
    );
    assert_eq!(first.fault.abort, Some((Abort::Http(503), Share(125_000))));
    assert_eq!(first.mirrors[0].1, Share(500_000));
    let set = &first.request_headers.set[0];
    assert_eq!(set.1, HeaderText::Format("%REQ(x-b)%".into()));
    let add = &first.request_headers.add[0];
    assert_eq!(
        add.1,
        HeaderText::Literal(http::HeaderValue::from_static("100%"))
    );
    let HttpAction::Route(destinations) = &first.action else {
        panic!("{:?}", first.action);
    };
    assert_eq!(
        destinations[0].authority.as_deref(),
        Some("other.bank.example")
    );
    assert_eq!((destinations[0].weight, destinations[1].weight), (90, 10));
    assert_eq!(destinations[0].destination.port, Some(80));
    let HttpAction::Redirect(redirect) = &routes[1].action else {
        panic!("{:?}", routes[1].action);
    };
    assert_eq!(redirect.path, Some(RedirectPath::Whole("/new".into())));
    assert_eq!(redirect.port, Some(RedirectPort::Number(8443)));
    let HttpAction::Respond(respond) = &routes[3].action else {
        panic!("{:?}", routes[3].action);
    };
    assert_eq!((respond.status, respond.body.as_ref()), (418, &b"tea"[..]));
}

#[test]
fn v10_one_destination_has_everything_whatever_its_weight() {
    let text = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: n}\nspec:\n  \
                hosts: [a.b]\n  http: [{route: [{destination: {host: c}, weight: 0}]}]\n";
    let HttpAction::Route(one) = sound(text).virtual_services.remove(0).http.remove(0).action
    else {
        panic!("not a route");
    };
    assert_eq!(one[0].weight, 1);
}

#[test]
fn v13_a_timeout_of_0_is_none_and_v14_retries_without_attempts_are_off() {
    assert_eq!(route("timeout: 0s").timeout, None);
    assert_eq!(route("timeout: 1s").timeout, Some(Duration::from_secs(1)));
    assert_eq!(route("retries: {attempts: 0}").retries.unwrap().attempts, 0);
    assert_eq!(
        route("retries: {backoff: 5ms}").retries.unwrap().attempts,
        0
    );
    assert!(
        route("name: x").retries.is_none(),
        "the default is the lowering's"
    );
    let on = route("retries: {attempts: 1}").retries.unwrap().on;
    assert!(on.connect_failure && on.grpc_unavailable && !on.server_error);
}

#[test]
fn v16_a_fault_without_a_percentage_never_happens_and_the_old_percent_counts_for_delays() {
    assert_eq!(
        route("fault: {delay: {fixedDelay: 1s, percent: 50}}")
            .fault
            .delay,
        Some((Duration::from_secs(1), Share(500_000)))
    );
    assert_eq!(
        route("fault: {delay: {fixedDelay: 1s}}").fault.delay,
        Some((Duration::from_secs(1), Share(0)))
    );
    assert_eq!(
        route("fault: {abort: {grpcStatus: UNAVAILABLE, percentage: {value: 100}}}")
            .fault
            .abort,
        Some((Abort::Grpc(14), Share::ALL))
    );
    assert_eq!(route("mirror: {host: x}").mirrors[0].1, Share::ALL);
    assert!(
        route("mirror: {host: x}\n    mirrorPercent: 0")
            .mirrors
            .is_empty()
    );
}

#[test]
fn v11_the_authority_is_what_rewrite_set_or_add_say() {
    for beside in [
        "rewrite: {authority: x.y}",
        "headers: {request: {set: {Host: x.y}}}",
        "headers: {request: {add: {':authority': x.y}}}",
    ] {
        let route = route(beside);
        assert_eq!(route.rewrite_authority.as_deref(), Some("x.y"), "{beside}");
        assert!(route.request_headers.set.is_empty() && route.request_headers.add.is_empty());
    }
}

#[test]
fn t1_settings_of_tls_are_read_at_every_level() {
    let rule = sound(POLICIES).destination_rules.remove(0);
    let policy = rule.policy.unwrap();
    let tls = policy.tls.unwrap();
    assert_eq!(tls.mode, TlsMode::Simple);
    assert_eq!(tls.sni.unwrap().as_str(), "api.bank.example");
    let port = &policy.ports[0];
    let tls = port.policy.tls.as_ref().unwrap();
    assert_eq!((port.port, tls.mode), (80, TlsMode::Mutual));
    assert_eq!(tls.credential_name.as_ref().unwrap().value, "bank");
    assert_eq!(tls.subject_alt_names, ["api.bank.example"]);
    let subset = rule.subsets[1].policy.as_ref().unwrap();
    let tls = subset.tls.as_ref().unwrap();
    assert_eq!(tls.client_certificate.as_deref(), Some("/c.pem"));
    let pool = policy.connection_pool.unwrap();
    assert_eq!(pool.idle_timeout, Some(Duration::from_secs(90)));
    assert_eq!(pool.upgrade_to_http2, Some(true));
}

#[test]
fn v12_values_are_what_the_access_log_takes_as_well() {
    use crate::telemetry::AccessFormat;
    for text in [
        "%START_TIME%",
        "%PROTOCOL%",
        "%RESPONSE_CODE%",
        "%UPSTREAM_HOST%",
        "%UPSTREAM_REMOTE_ADDRESS%",
        "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        "%DOWNSTREAM_DIRECT_REMOTE_PORT%",
        "%REQUESTED_SERVER_NAME%",
        "%ROUTE_NAME%",
        "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
        "%DOWNSTREAM_TLS_VERSION%",
        "%DOWNSTREAM_TLS_CIPHER%",
        "%DOWNSTREAM_LOCAL_URI_SAN%",
        "%DOWNSTREAM_LOCAL_SUBJECT%",
        "%DOWNSTREAM_PEER_URI_SAN%",
        "%DOWNSTREAM_PEER_DNS_SAN%",
        "%DOWNSTREAM_PEER_IP_SAN%",
        "%DOWNSTREAM_PEER_SUBJECT%",
        "%DOWNSTREAM_PEER_ISSUER%",
        "%DOWNSTREAM_PEER_SERIAL%",
        "%DOWNSTREAM_PEER_FINGERPRINT_256%",
        "%DOWNSTREAM_PEER_CERT_V_START%",
        "%DOWNSTREAM_PEER_CERT_V_END%",
        "%DOWNSTREAM_PEER_CERT_V_END(%s)%",
        "%DOWNSTREAM_TLS_SESSION_ID%",
        "%REQ(X-A)%",
        "%REQ(X-A?:PATH):12%",
        "%RESP(:STATUS)%",
        "a %% b %PROTOCOL%",
        "%FOO%",
        "%REQ%",
        "%REQ()%",
        "%REQ(X)Y%",
        "%REQ(X):a%",
        "%REQ(:STATUS)%",
        "%RESP(:PATH)%",
        "%PROTOCOL(a)%",
        "%PROTOCOL",
        "%req(x)%",
    ] {
        let ours = super::header_format::parse(text).is_ok();
        assert_eq!(ours, AccessFormat::parse(text).is_ok(), "{text}");
    }
}

#[test]
fn base64_is_strict() {
    use super::secret::base64;
    for (text, bytes) in [
        ("", &b""[..]),
        ("aGk=", b"hi"),
        ("aGkh", b"hi!"),
        ("aA==", b"h"),
        ("aG\nkh\n", b"hi!"),
        ("//79", b"\xff\xfe\xfd"),
    ] {
        assert_eq!(base64(text).as_deref(), Some(bytes), "{text:?}");
    }
    for text in [
        "a", "aGk", "aGk==", "aGl=", "aG=k", "aGk=aGk=", "a-_=", "====", "aA=", "é",
    ] {
        assert_eq!(base64(text), None, "{text:?}");
    }
}

#[test]
fn z1_a_timestamp_is_seconds_since_1970() {
    use super::metadata::seconds;
    for (text, expected) in [
        ("1970-01-01T00:00:00Z", Some(0)),
        ("2024-05-01T12:00:00Z", Some(1_714_564_800)),
        ("2024-02-29T23:59:59.999Z", Some(1_709_251_199)),
        ("2024-05-01T12:00:00+02:00", Some(1_714_557_600)),
        ("1969-12-31T23:59:59Z", Some(-1)),
        ("2024-05-01", None),
        ("2024-05-01T12:00:00", None),
        ("2024-13-01T12:00:00Z", None),
        ("2024-05-01T25:00:00Z", None),
        ("yesterday", None),
    ] {
        assert_eq!(seconds(text), expected, "{text}");
    }
}

#[test]
fn h3_only_names_without_any_dot_are_expanded() {
    use super::names::expand;
    for (host, expected) in [
        ("reviews", "reviews.ns.svc.cluster.local"),
        ("reviews.prod", "reviews.prod"),
        ("*.foo", "*.foo"),
        ("*", "*"),
        ("10.0.0.1", "10.0.0.1"),
        ("::1", "::1"),
    ] {
        assert_eq!(expand(host, "ns", "cluster.local"), expected);
    }
}

/// A small generator, so that a failure can be repeated (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n.max(1) as u64) as usize
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

/// What stands instead of a value.
const VALUES: &[&str] = &[
    "~",
    "''",
    "0",
    "-1",
    "65536",
    "1e9",
    "99999999999999999999",
    "true",
    "[]",
    "{}",
    "[[]]",
    "{a: b}",
    "'*'",
    "'*.'",
    "'.'",
    "'a..b'",
    "1.5ms",
    "999999999999999h",
    "0.0000001s",
    "'('",
    "'%'",
    "'%REQ('",
    "'kubernetes://'",
    "'unix://'",
    "'a/b/c'",
    "10.0.0.0/99",
    "'::'",
    "é",
    "\"\\u0000\"",
    "'@'",
    "100.5",
];

/// One change: of a value, of a line, or of some bytes.
fn mutate(text: &mut String, other: &str, dice: &mut Dice) {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let n = dice.below(lines.len());
    match dice.below(6) {
        0 => {
            lines.remove(n);
        }
        1 => {
            let line = lines[n].clone();
            lines.insert(n, line);
        }
        2 => {
            let all: Vec<_> = other.lines().collect();
            lines[n] = dice.pick(&all).to_owned();
        }
        3 => {
            let colons: Vec<_> = lines[n].match_indices(": ").map(|(at, _)| at + 2).collect();
            if !colons.is_empty() {
                let from = colons[dice.below(colons.len())];
                let rest = &lines[n][from..];
                let end = rest
                    .find([',', '}', ']'])
                    .map_or(lines[n].len(), |end| from + end);
                lines[n].replace_range(from..end, dice.pick(VALUES));
            }
        }
        4 => {
            let letters: Vec<_> = lines[n].char_indices().map(|(at, _)| at).collect();
            if !letters.is_empty() {
                let at = letters[dice.below(letters.len())];
                lines[n].insert_str(
                    at,
                    dice.pick(&["_", " ", "x", "{", "}", "[", "]", ":", "&a ", "*a"]),
                );
            }
        }
        _ => {
            let shift = dice.below(4);
            lines[n].insert_str(0, &" ".repeat(shift));
        }
    }
    *text = lines.join("\n") + "\n";
}

#[test]
fn no_mutation_of_a_manifest_makes_the_loader_panic_or_hang() {
    let seeds = [REGISTRY, ROUTES, POLICIES, SECRETS];
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    let begin = Instant::now();
    let mut rounds = 0;
    while begin.elapsed() < Duration::from_secs(2) && rounds < 2000 {
        let mut text = seeds[rounds % seeds.len()].to_owned();
        let other = seeds[dice.below(seeds.len())];
        for _ in 0..=dice.below(4) {
            mutate(&mut text, other, &mut dice);
        }
        let options = LoadOptions {
            lenient: rounds % 3 == 0,
            ..LoadOptions::default()
        };
        let one = Instant::now();
        let _ = load_text("a.yaml", &text, &options);
        assert!(one.elapsed() < Duration::from_secs(5), "{text}");
        rounds += 1;
    }
    assert!(rounds > 20, "{rounds} rounds were made");
}

#[test]
fn a_thousand_aliases_and_ten_thousand_fields_cost_what_they_say() {
    let mut text =
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: n}\n\
                    spec:\n  hosts: [a.b]\n  http:\n"
            .to_owned();
    for n in 0..10_000 {
        text.push_str(&format!(
            "  - {{route: [{{destination: {{host: h{n}.c}}}}], foo{n}: 1}}\n"
        ));
    }
    let begin = Instant::now();
    let (all, said) = read_text(&text, &LoadOptions::default());
    assert_eq!(
        (all.refused.len(), said.len()),
        (1, crate::config::MAX_DIAGNOSTICS)
    );
    // Generous: a build without optimisation on a busy machine.
    assert!(begin.elapsed() < Duration::from_secs(60));
}
