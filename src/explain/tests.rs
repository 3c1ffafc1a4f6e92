//! Whole explanations of small configurations, each put to the table that would serve it.

use std::sync::Arc;
use std::time::SystemTime;

use super::*;
use crate::certs::CertStore;
use crate::config::{LoadOptions, load};
use crate::model::{
    Broken, BrokenKind, Config, EndpointSpec, Host, Place, Reason, Resolution, StreamMatch,
    UnknownHosts, UpstreamSpec,
};
use crate::publish::build;
use crate::telemetry::Metrics;
use crate::upstream::{OwnAddrs, Resolver, UpstreamContext};

/// Files of certificates that are not there are told, and are no failure.
pub(super) fn ask(config: &Config, asked: &Asked) -> Explanation {
    let metrics = Metrics::new(1);
    let mut store = CertStore::new(Arc::clone(&metrics));
    store.set(config.credentials());
    store.check(SystemTime::now());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let _inside = runtime.enter();
    let context = UpstreamContext {
        workers: 1,
        resolver: Resolver::system(runtime.handle().clone()),
        own: OwnAddrs::new(),
        metrics,
    };
    let snapshot = build(config, &store.current(), None, &context, 1).unwrap();
    let known = Known {
        snapshot: &snapshot,
        config,
        files_are_elsewhere: true,
    };
    explain(&Question::parse(asked).unwrap(), &known)
}

fn get(config: &Config, url: &str) -> Explanation {
    let asked = Asked {
        url: url.to_owned(),
        ..Asked::default()
    };
    ask(config, &asked)
}

fn read(text: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    std::fs::write(&file, text).unwrap();
    load(&[file], &LoadOptions::default()).unwrap().config
}

/// `what: how` of every step, those of the destinations behind.
pub(super) fn steps(explanation: &Explanation) -> Vec<String> {
    let branches = explanation
        .destinations
        .iter()
        .flat_map(|branch| &branch.steps);
    let all = explanation.steps.iter().chain(branches);
    all.map(|step| format!("{}: {}", step.what, step.how))
        .collect()
}

fn lines(explanation: &Explanation, what: &str) -> Vec<u32> {
    let branches = explanation
        .destinations
        .iter()
        .flat_map(|branch| &branch.steps);
    let all = explanation.steps.iter().chain(branches);
    all.filter(|step| step.what == what)
        .filter_map(|step| step.line)
        .collect()
}

const NATIVE: &str = "\
upstreams:
- name: bank
  endpoints: bank.internal:8443
  tls: {mode: simple}
- name: spare
  endpoints: 10.0.0.9:80
  tls: {mode: disable}
routes:
- host: '*.bank.example'
  port: 80
  rules:
  - match: {path: {exact: /admin}, method: POST}
    respond: {status: 403}
  - match: {path: {prefix: /old}}
    redirect: {path: /new}
  - match: {path: {prefix: /v1}}
    name: v1
    timeout: 3s
    rewrite: {host: inner.example, path: /v2}
    upstreams: [{name: bank, weight: 3}, {name: spare, weight: 1}]
";

#[test]
fn every_step_is_told_with_the_line_that_decided_it() {
    let got = get(&read(NATIVE), "http://a.bank.example/v1/x");
    assert_eq!(
        steps(&got),
        [
            "listener: port 80, plain HTTP, addressed by the client",
            "virtual host: *.bank.example, port 80",
            "passed over: rule 1: the method is GET, wanted POST, the path is /v1/x, wanted /admin",
            "passed over: rule 2: the path is /v1/x, wanted /old*",
            "rule: 3 of 3 \"v1\": /v1*",
            "rewrite: the host becomes inner.example, the path /v1/x becomes /v2/x",
            "timeout: 3 s",
            "destination: 75% to bank",
            "endpoints: bank.internal:8443 (DNS)",
            "tls: SIMPLE: no client certificate",
            "sni: inner.example, the request's host",
            "alpn: h2, http/1.1",
            "credential: none",
            "ca: the operating system's store",
            "names: the certificate must name inner.example (the request's host)",
            "destination: 25% to spare",
            "endpoints: 10.0.0.9:80 (STATIC)",
            "tls: plaintext, HTTP/1.1",
        ]
    );
    assert_eq!(lines(&got, "virtual host"), [9]);
    assert_eq!(lines(&got, "passed over"), [12, 14]);
    assert_eq!(lines(&got, "rule"), [16]);
    assert_eq!(lines(&got, "tls"), [2, 5]);
    assert_eq!(
        got.outcome.to_string(),
        "75% TLS to bank.internal:8443; 25% plaintext to 10.0.0.9:80"
    );
    assert!(got.outcome.served);
}

#[test]
fn a_rule_that_answers_by_itself_is_an_outcome() {
    let config = read(NATIVE);
    let got = get(&config, "http://a.bank.example/old/y?q");
    let words = "301: redirected to http://a.bank.example/new?q";
    assert_eq!(
        (got.outcome.to_string().as_str(), got.outcome.served),
        (words, true)
    );
    let post = Asked {
        url: "http://a.bank.example/admin".to_owned(),
        method: "POST".to_owned(),
        ..Asked::default()
    };
    assert_eq!(ask(&config, &post).outcome.status, Some(403));
}

#[test]
fn v7_no_rule_is_404_and_every_rule_says_why() {
    let got = get(&read(NATIVE), "http://a.bank.example/v3");
    let outcome = &got.outcome;
    assert_eq!(
        (outcome.served, outcome.status, outcome.flag.as_deref()),
        (false, Some(404), Some("NR"))
    );
    assert_eq!(lines(&got, "passed over"), [12, 14, 16]);
}

#[test]
fn o2_an_unknown_host_is_502_and_the_ports_on_which_it_is_known_are_told() {
    let got = get(&read(NATIVE), "http://a.bank.example:8080/v1");
    assert_eq!((got.outcome.served, got.outcome.status), (false, Some(502)));
    assert!(
        steps(&got).contains(&"known: a.bank.example on port 80".to_owned()),
        "{got:?}"
    );
    assert_eq!(lines(&got, "known"), [9]);
    let got = get(&read(NATIVE), "http://bank.example/");
    assert_eq!(
        (got.outcome.status, lines(&got, "known")),
        (Some(502), vec![])
    );
}

#[test]
fn o4_an_unknown_host_of_a_captured_connection_passes_through_where_the_policy_says_so() {
    let mut config = read(NATIVE);
    let captured = Asked {
        url: "http://other.example/".to_owned(),
        captured: Some("192.0.2.7".to_owned()),
        ..Asked::default()
    };
    assert_eq!(ask(&config, &captured).outcome.status, Some(502));
    config.unknown_captured = UnknownHosts::PassThrough;
    let got = ask(&config, &captured);
    assert!(
        got.outcome.served && got.outcome.words.contains("plaintext to 192.0.2.7:80"),
        "{got:?}"
    );
    // The other policy is not asked.
    assert_eq!(
        get(&config, "http://other.example/").outcome.status,
        Some(502)
    );
}

#[test]
fn a_request_that_names_two_hosts_is_400_as_it_would_be() {
    let twice = Asked {
        url: "http://a.bank.example/".to_owned(),
        headers: vec!["Host: a".to_owned(), "Host: b".to_owned()],
        ..Asked::default()
    };
    let got = ask(&read(NATIVE), &twice);
    assert_eq!((got.outcome.served, got.outcome.status), (false, Some(400)));
}

fn reason(what: &'static str, how: &str, line: Option<u32>) -> Reason {
    Reason {
        what,
        how: how.to_owned(),
        object: "DestinationRule default/bank".into(),
        place: line.map(|line| Place {
            file: "dr.yaml".into(),
            line,
        }),
    }
}

fn with_reasons(change: impl FnOnce(&mut UpstreamSpec)) -> Config {
    let mut config = read(NATIVE);
    let mut bank = UpstreamSpec::new("outbound|443|v2|bank.example");
    bank.resolution = Resolution::Static;
    bank.endpoints = vec![EndpointSpec::new(Host::parse("10.1.1.4").unwrap(), 8443)];
    bank.reasons.0 = vec![
        reason("policy", "portLevelSettings[443]", Some(9)),
        reason("subset", "v2", Some(20)),
        reason("endpoints", "10.1.1.4:8443", Some(4)),
        reason("tls", "DISABLE", None),
    ];
    change(&mut bank);
    config.upstreams.push(bank);
    config.hosts[0].object = Some("VirtualService default/bank".into());
    let mut rule = config.hosts[0].rules[0].clone();
    rule.matches.clear();
    rule.action = crate::model::Action::Forward(vec![crate::model::Weighted::new(
        "outbound|443|v2|bank.example",
        0,
    )]);
    config.hosts[0].rules = vec![rule].into();
    config
}

#[test]
fn what_documents_decided_about_an_upstream_is_told_with_the_object() {
    let got = get(&with_reasons(|_| ()), "http://a.bank.example/");
    let told = steps(&got);
    let from = told
        .iter()
        .position(|step| step.starts_with("destination"))
        .unwrap();
    assert_eq!(
        told[from..],
        [
            "destination: bank.example port 443, subset v2",
            "policy: portLevelSettings[443]",
            "subset: v2",
            "endpoints: 10.1.1.4:8443 (STATIC)",
            "tls: DISABLE: plaintext, HTTP/1.1",
        ]
    );
    assert_eq!(lines(&got, "endpoints"), [4]);
    assert_eq!(lines(&got, "tls"), [0; 0], "nobody wrote it");
    let objects: Vec<_> = got.destinations[0]
        .steps
        .iter()
        .map(|s| s.object.as_deref())
        .collect();
    assert!(
        objects.contains(&Some("DestinationRule default/bank")),
        "{objects:?}"
    );
    assert_eq!(
        got.steps[1].object.as_deref(),
        Some("VirtualService default/bank")
    );
}

#[test]
fn x1_what_is_broken_is_503_with_the_reason() {
    for (kind, flag) in [(BrokenKind::NoCluster, "NC"), (BrokenKind::Unhealthy, "UH")] {
        let config = with_reasons(|bank| {
            bank.broken = Some(Broken {
                kind,
                reason: "dr.yaml:9: no subset v2".into(),
            });
        });
        let got = get(&config, "http://a.bank.example/");
        assert!(!got.outcome.served);
        assert_eq!(
            got.outcome.to_string(),
            format!("503 {flag}: dr.yaml:9: no subset v2")
        );
    }
}

#[test]
fn what_is_split_is_served_only_where_every_part_is() {
    let mut config = read(NATIVE);
    config.upstreams[1].broken = Some(Broken {
        kind: BrokenKind::NoCluster,
        reason: "gone".into(),
    });
    let got = get(&config, "http://a.bank.example/v1");
    assert!(!got.outcome.served);
    assert_eq!(
        got.outcome.words,
        "75% TLS to bank.internal:8443; 25% 503 NC: gone"
    );
}

#[test]
fn t17_a_certificate_that_is_missing_here_is_told_and_in_the_proxy_it_is_the_outcome() {
    let config = read(&NATIVE.replace(
        "tls: {mode: simple}",
        "tls: {mode: mutual, certificate: /no/such.crt, key: /no/such.key}",
    ));
    let got = get(&config, "http://a.bank.example/v1");
    assert!(
        got.outcome.served && got.outcome.words.contains("not from this machine"),
        "{got:?}"
    );
    assert!(steps(&got).contains(&"credential: /no/such.crt, key /no/such.key".to_owned()));
}

#[test]
fn an_explanation_is_the_same_after_a_journey_as_json() {
    let got = get(&read(NATIVE), "http://a.bank.example/v1");
    let text = serde_json::to_string(&got).unwrap();
    assert_eq!(serde_json::from_str::<Explanation>(&text).unwrap(), got);
}

/// TLS for `bank.example` on port 443, bytes to 10.9.0.0/16 on port 3306, and an upstream with TLS.
fn with_streams() -> Config {
    let mut config = read(NATIVE);
    let mut raw = UpstreamSpec::new("outbound|443||bank.example");
    raw.endpoints = vec![EndpointSpec::new(Host::parse("10.1.1.4").unwrap(), 9443)];
    config.upstreams.push(raw);
    let route = |port, on, to: &str, line| crate::model::StreamRoute {
        port: Some(port),
        on,
        sources: Vec::new(),
        to: vec![crate::model::Weighted::new(to, 1)],
        name: None,
        object: Some("ServiceEntry default/bank".into()),
        place: Place {
            file: "se.yaml".into(),
            line,
        },
    };
    let tls = |name: &str| StreamMatch::Tls {
        names: vec![crate::model::HostPattern::parse(name).unwrap()],
        destinations: Vec::new(),
    };
    let database = StreamMatch::Tcp {
        destinations: vec!["10.9.0.0/16".parse().unwrap()],
    };
    config.streams = vec![
        route(443, tls("*.bank.example"), "outbound|443||bank.example", 5),
        route(443, tls("twice.example"), "bank", 9),
        route(3306, database, "outbound|443||bank.example", 12),
    ];
    config
}

fn captured(url: &str, to: &str) -> Asked {
    Asked {
        url: url.to_owned(),
        captured: Some(to.to_owned()),
        ..Asked::default()
    }
}

#[test]
fn v17_tls_of_the_application_goes_by_its_server_name_and_untouched() {
    let got = ask(
        &with_streams(),
        &captured("https://a.bank.example/", "192.0.2.7"),
    );
    assert_eq!(
        steps(&got),
        [
            "listener: port 443, TLS of the application's own, captured on its way to 192.0.2.7:443",
            "stream route: TLS for *.bank.example on port 443",
            "destination: bank.example port 443",
            "endpoints: 10.1.1.4:9443 (DNS)",
            "tls: none is added",
        ]
    );
    assert_eq!(lines(&got, "stream route"), [5]);
    assert_eq!(
        got.outcome.to_string(),
        "bytes as they come to 10.1.1.4:9443"
    );
}

#[test]
fn d8_tls_in_tls_is_closed_with_the_reason_and_so_is_tls_to_a_host_of_plain_http() {
    let got = ask(
        &with_streams(),
        &captured("https://twice.example/", "192.0.2.7"),
    );
    assert!(
        !got.outcome.served && got.outcome.words.contains("TLS in TLS"),
        "{got:?}"
    );
    assert_eq!(
        (got.outcome.status, got.outcome.flag.as_deref()),
        (None, Some("NR"))
    );
    let got = ask(
        &with_streams(),
        &captured("https://a.bank.example:80/", "192.0.2.7"),
    );
    assert!(
        got.outcome.words.contains("sortie adds TLS itself"),
        "{got:?}"
    );
}

#[test]
fn v18_bytes_go_by_their_address_and_what_nobody_takes_follows_the_policy() {
    let mut config = with_streams();
    let got = ask(&config, &captured("tcp://10.9.1.1:3306", "10.9.1.1"));
    assert_eq!(
        steps(&got)[1],
        "stream route: connections to 10.9.0.0/16 on port 3306; nothing is read before it is connected"
    );
    assert!(got.outcome.served && lines(&got, "stream route") == [12]);
    let elsewhere = captured("tcp://10.8.1.1:3306", "10.8.1.1");
    let got = ask(&config, &elsewhere);
    assert_eq!(
        (got.outcome.served, got.outcome.flag.as_deref()),
        (false, Some("UH"))
    );
    config.unknown_captured = UnknownHosts::PassThrough;
    let got = ask(&config, &elsewhere);
    assert!(
        got.outcome.served && got.outcome.words.contains("to 10.8.1.1:3306"),
        "{got:?}"
    );
}

#[test]
fn tls_to_a_listener_of_plain_http_is_closed_and_other_bytes_are_400() {
    let config = read(NATIVE);
    let got = get(&config, "https://a.bank.example/");
    assert!(
        !got.outcome.served && got.outcome.words.contains("http:// here"),
        "{got:?}"
    );
    assert_eq!(
        get(&config, "tcp://a.bank.example:80").outcome.status,
        Some(400)
    );
}
