//! What becomes of the rules of a VirtualService.

use super::*;

const BANK: &[&str] = &["80/HTTP", "8080/HTTP", "443/TLS"];

/// The rules of `bank.example` with `http` as it stands, and two more services.
#[track_caller]
fn with(http: &str) -> Loaded {
    let rules = format!("  hosts: [bank.example]\n  http:\n{http}");
    load(
        &(entry("bank", "bank.example", BANK)
            + &entry("one", "one.example", &["9000/HTTP"])
            + &entry("two", "two.example", &["1/HTTP", "2/HTTP"])
            + &vs("a", &rules)),
    )
}

/// What is left of them on `port`.
fn on(loaded: &Loaded, port: u16) -> Vec<String> {
    let hosts = loaded.config.hosts.iter();
    let mut hosts = hosts.filter(|group| {
        group.port == Some(port) && group.hosts.iter().any(|host| host.matches("bank.example"))
    });
    let group = hosts.next().expect("routed");
    assert!(hosts.next().is_none());
    group.rules.iter().map(rule_text).collect()
}

fn first(loaded: &Loaded) -> &RuleSpec {
    &loaded.config.hosts[0].rules[0]
}

const TO_ONE: &str = "route: [{destination: {host: one.example}}]";
const TO_TWO: &str = "route: [{destination: {host: two.example, port: {number: 2}}}]";

#[test]
fn v7_rules_keep_their_order_and_a_catch_all_ends_them() {
    let loaded = with(&format!(
        "  - match: [{{uri: {{prefix: /a}}}}, {{uri: {{exact: /b}}}}]\n    {TO_ONE}\n  - \
         {TO_TWO}\n  - match: [{{uri: {{prefix: /c}}}}]\n    {TO_ONE}"
    ));
    assert_eq!(
        on(&loaded, 80),
        [
            "/a* or =/b > outbound|9000||one.example",
            "> outbound|2||two.example",
        ]
    );
    assert_eq!(
        said(&loaded, &[Code::UnreachableRule]),
        [
            "a.yaml:26: warning[IST0130] VirtualService default/a: spec.http[2]: the rule is \
             never reached: what it matches is taken by a.yaml:25 before; put it before that \
             rule, or take it out"
        ]
    );
}

#[test]
fn v7_a_match_without_conditions_is_a_catch_all_as_well() {
    let loaded = with(&format!(
        "  - match: [{{uri: {{prefix: /a}}}}, {{port: 80}}, {{uri: {{prefix: /b}}}}]\n    \
         {TO_ONE}\n  - {TO_TWO}"
    ));
    assert_eq!(on(&loaded, 80), ["/a* or any > outbound|9000||one.example"]);
    assert_eq!(
        on(&loaded, 8080),
        [
            "/a* or /b* > outbound|9000||one.example",
            "> outbound|2||two.example",
        ]
    );
    let both = [Code::UnreachableRule, Code::MatchWithoutEffect];
    assert_eq!(said(&loaded, &both), Vec::<String>::new());
}

#[test]
fn ist0131_a_match_that_an_earlier_rule_takes_has_no_effect() {
    let loaded = with(&format!(
        "  - match: [{{uri: {{prefix: /a}}}}]\n    {TO_ONE}\n  - match:\n    - uri: {{prefix: \
         /b}}\n    - uri: {{prefix: /a}}\n      port: 80\n    {TO_TWO}\n  - match: [{{uri: \
         {{prefix: /b}}}}]\n    {TO_ONE}"
    ));
    let both = [Code::UnreachableRule, Code::MatchWithoutEffect];
    assert_eq!(
        said(&loaded, &both),
        [
            "a.yaml:27: warning[IST0131] VirtualService default/a: spec.http[1].match: the match \
             has no effect: a.yaml:23 takes the same before; take it out",
            "a.yaml:30: warning[IST0130] VirtualService default/a: spec.http[2]: the rule is \
             never reached: what it matches is taken by a.yaml:26 before; put it before that \
             rule, or take it out",
        ]
    );
}

#[test]
fn ist0130_a_match_for_one_port_hides_nothing_on_another() {
    let loaded = with(&format!(
        "  - match: [{{port: 80}}]\n    {TO_ONE}\n  - match: [{{port: 8080}}]\n    {TO_TWO}\n  \
         - match: [{{gateways: [mesh], uri: {{prefix: /a}}}}]\n    {TO_ONE}"
    ));
    let both = [Code::UnreachableRule, Code::MatchWithoutEffect];
    assert_eq!(said(&loaded, &both), Vec::<String>::new());
}

#[test]
fn v8_a_match_is_for_its_port_alone() {
    let loaded = with(&format!(
        "  - match: [{{port: 80}}]\n    {TO_ONE}\n  - match: [{{port: 8080}}]\n    {TO_TWO}"
    ));
    assert_eq!(on(&loaded, 80), ["> outbound|9000||one.example"]);
    assert_eq!(on(&loaded, 8080), ["> outbound|2||two.example"]);
    // Nothing is left on 80: the service's own route.
    let loaded = with(&format!("  - match: [{{port: 8080}}]\n    {TO_TWO}"));
    assert_eq!(on(&loaded, 80), ["> outbound|80||bank.example"]);
}

#[test]
fn v8_the_sender_decides_unless_gateways_are_written() {
    let routed = |conditions: &str| {
        let loaded = with(&format!("  - match: [{{{conditions}}}]\n    {TO_ONE}"));
        on(&loaded, 80) == ["> outbound|9000||one.example"]
    };
    assert!(routed("sourceLabels: {app: shop}"));
    assert!(!routed("sourceLabels: {app: other}"));
    assert!(!routed("sourceLabels: {app: shop, version: v1}"));
    assert!(routed("sourceNamespace: default"));
    assert!(!routed("sourceNamespace: other"));
    assert!(!routed(
        "sourceNamespace: default, sourceLabels: {app: other}"
    ));
    assert!(routed(
        "gateways: [mesh], sourceLabels: {app: other}, sourceNamespace: other"
    ));
    assert!(!routed("gateways: [edge]"));
}

#[test]
fn ist0131_a_match_for_a_gateway_that_is_not_named_never_holds() {
    let loaded = with(&format!(
        "  - match: [{{gateways: [edge]}}]\n    {TO_ONE}\n  - {TO_TWO}"
    ));
    assert_eq!(
        said(&loaded, &[Code::MatchWithoutEffect]),
        ["a.yaml:23: warning[IST0131] VirtualService default/a: \
             spec.http[].match[].gateways: the match is for the gateway edge, which is not \
             among the gateways of the VirtualService, and so it never holds; add it to \
             spec.gateways"]
    );
}

#[test]
fn v9_conditions_arrive_as_they_are() {
    let loaded = with(&format!(
        "  - match:\n    - uri: {{prefix: /A}}\n      ignoreUriCase: true\n      method: {{exact: \
         GET}}\n      scheme: {{exact: http}}\n      authority: {{prefix: bank}}\n      headers: \
         {{x-a: {{exact: b}}}}\n      withoutHeaders: {{x-c: {{exact: d}}}}\n      queryParams: \
         {{q: {{exact: '1'}}}}\n    - method: {{prefix: P}}\n    {TO_ONE}"
    ));
    let spec = &first(&loaded).matches[0];
    let exact = |text: &str| StringMatch::Exact(text.to_owned());
    assert_eq!(spec.path, Some(StringMatch::Prefix("/A".into())));
    assert!(spec.path_ignores_case);
    assert_eq!(
        (&spec.methods[..], &spec.method),
        (&[http::Method::GET][..], &None)
    );
    assert_eq!(spec.scheme, Some(exact("http")));
    assert_eq!(spec.authority, Some(StringMatch::Prefix("bank".into())));
    assert_eq!(
        spec.headers,
        [
            (
                http::HeaderName::from_static("x-a"),
                HeaderMatch::Joined(exact("b"))
            ),
            (
                http::HeaderName::from_static("x-c"),
                HeaderMatch::NotJoined(exact("d"))
            ),
        ]
    );
    assert_eq!(
        spec.query,
        [("q".to_owned(), QueryMatch::Value(exact("1")))]
    );
    let second = &first(&loaded).matches[1];
    assert_eq!(second.method, Some(StringMatch::Prefix("P".into())));
    assert!(second.methods.is_empty());
}

#[test]
fn v10_without_a_port_the_only_one_of_the_service_is_meant_else_the_one_asked_for() {
    let to = |host: &str| format!("  - route: [{{destination: {{host: {host}}}}}]");
    let loaded = with(&to("one.example"));
    assert_eq!(on(&loaded, 8080), ["> outbound|9000||one.example"]);
    let loaded = with(&to("two.example"));
    assert_eq!(on(&loaded, 8080), ["> outbound|8080||two.example"]);
    assert_eq!(
        said(&loaded, &[Code::DestinationNeedsPort]),
        ["a.yaml:23: error[IST0112] VirtualService default/a: \
             spec.http[0].route[0].destination.port: two.example has the ports 1, 2, and the \
             destination names none: the port that the client asked for is taken; write port: \
             {number: ...}"]
    );
    compiles(&loaded);
    let broken = loaded.config.upstreams.iter();
    let mut broken = broken.filter(|one| &*one.name == "outbound|8080||two.example");
    let broken = broken.next().and_then(|one| one.broken.as_ref()).unwrap();
    assert_eq!(broken.kind, BrokenKind::NoCluster);
}

#[test]
fn v10_one_destination_ignores_its_weight_and_of_several_0_is_left_out() {
    let one = with("  - route: [{destination: {host: one.example}, weight: 0}]");
    assert_eq!(on(&one, 80), ["> outbound|9000||one.example"]);
    let several = with(
        "  - route:\n    - {destination: {host: one.example}, weight: 90}\n    - {destination: \
         {host: bank.example, port: {number: 443}}, weight: 0}\n    - {destination: {host: \
         two.example, subset: v2, port: {number: 2}}, weight: 10}",
    );
    assert_eq!(
        on(&several, 80),
        ["> outbound|9000||one.example=90 outbound|2|v2|two.example=10"]
    );
}

#[test]
fn v10_an_unknown_host_fails_alone() {
    let loaded = with(&format!(
        "  - match: [{{uri: {{prefix: /a}}}}]\n    route: [{{destination: {{host: \
         nobody.example, port: {{number: 80}}}}}}]\n  - {TO_ONE}"
    ));
    assert_eq!(
        on(&loaded, 80),
        [
            "/a* > outbound|80||nobody.example",
            "> outbound|9000||one.example",
        ]
    );
    let found = said(&loaded, &[Code::ReferenceNotFound]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("nobody.example"), "{found:?}");
    assert!(loaded.config.refused.is_empty());
    compiles(&loaded);
}

#[test]
fn v11_the_rules_authority_beats_that_of_a_destination() {
    let rule = |rewrite: &str| {
        with(&format!(
            "  - {rewrite}route: [{{destination: {{host: one.example}}, headers: {{request: \
             {{set: {{host: inner.example}}}}}}}}]"
        ))
    };
    let host = |loaded: &Loaded| match &first(loaded).action {
        Action::Forward(to) => to[0].host.clone(),
        _ => panic!("it forwards"),
    };
    let plain = rule("");
    assert_eq!(host(&plain).as_deref(), Some("inner.example"));
    let rewritten = rule("rewrite: {authority: outer.example, uri: /x}\n    ");
    assert_eq!(host(&rewritten), None);
    let rewrite = &first(&rewritten).rewrite;
    assert_eq!(rewrite.host.as_deref(), Some("outer.example"));
    assert_eq!(rewrite.path, Some(PathRewrite::Replace("/x".into())));
}

#[test]
fn v12_header_changes_stay_with_their_destination() {
    let loaded = with(
        "  - headers: {response: {set: {x-rule: a}}}\n    route: [{destination: {host: \
         one.example}, headers: {request: {remove: [x-old], add: {x-new: b}}}}]",
    );
    let rule = first(&loaded);
    let name = http::HeaderName::from_static;
    let text = |text: &'static str| HeaderText::Literal(http::HeaderValue::from_static(text));
    assert_eq!(rule.response_headers.set, [(name("x-rule"), text("a"))]);
    assert_eq!(rule.request_headers, HeaderOps::default());
    let Action::Forward(to) = &rule.action else {
        panic!("it forwards");
    };
    assert_eq!(to[0].request_headers.remove, [name("x-old")]);
    assert_eq!(to[0].request_headers.add, [(name("x-new"), text("b"))]);
    assert_eq!(to[0].response_headers, HeaderOps::default());
}

#[test]
fn v13_a_timeout_of_0_is_none() {
    let timeout = |text: &str| first(&with(&format!("  - {text}{TO_ONE}"))).timeout;
    assert_eq!(
        timeout("timeout: 1.5s\n    "),
        Some(Duration::from_millis(1500))
    );
    assert_eq!(timeout("timeout: 0s\n    "), None);
    assert_eq!(timeout(""), None);
}

#[test]
fn v14_retries_have_a_default_and_can_be_said() {
    let retries = |text: &str| first(&with(&format!("  - {text}{TO_ONE}"))).retries.clone();
    assert_eq!(retries(""), Retries::default());
    assert_eq!(retries("retries: {attempts: 0}\n    ").attempts, 0);
    let said = retries("retries: {attempts: 5, perTryTimeout: 2s, retryOn: '5xx,reset'}\n    ");
    assert_eq!(
        (said.attempts, said.per_try_timeout),
        (5, Some(Duration::from_secs(2)))
    );
    assert!(said.on.server_error && said.on.reset && !said.on.connect_failure);
}

#[test]
fn v15_redirects_and_answers_need_no_upstream() {
    let loaded = with(
        "  - match: [{uri: {prefix: /r}}]\n    redirect: {authority: new.example, redirectCode: \
         308}\n  - directResponse: {status: 418, body: {string: tea}}",
    );
    assert_eq!(on(&loaded, 80), ["/r* > redirect 308", "> respond 418"]);
    let Action::Respond(respond) = &loaded.config.hosts[0].rules[1].action else {
        panic!("it answers");
    };
    assert_eq!(&respond.body[..], b"tea");
}

#[test]
fn v16_mirrors_and_faults_arrive_and_a_mirror_of_nothing_does_not() {
    let loaded = with(
        "  - fault: {delay: {fixedDelay: 5s, percentage: {value: 10}}, abort: {httpStatus: \
         500}}\n    mirror: {host: two.example, port: {number: 1}}\n    mirrorPercentage: {value: \
         50}\n    route: [{destination: {host: one.example}}]",
    );
    let rule = first(&loaded);
    let mirror = Mirror {
        upstream: "outbound|1||two.example".into(),
        share: Share(500_000),
    };
    assert_eq!(rule.mirrors, [mirror]);
    assert_eq!(
        rule.fault.delay,
        Some((Duration::from_secs(5), Share(100_000)))
    );
    assert_eq!(rule.fault.abort, Some((Abort::Http(500), Share(0))));
    compiles(&loaded);
    let none = with(
        "  - mirror: {host: two.example, port: {number: 1}}\n    mirrorPercentage: {value: 0}\n    \
         route: [{destination: {host: one.example}}]",
    );
    assert!(first(&none).mirrors.is_empty());
}

#[test]
fn a_match_with_a_name_is_told_in_the_log() {
    let loaded = with(&format!(
        "  - name: r\n    match: [{{name: m, uri: {{prefix: /a}}}}, {{uri: {{prefix: /b}}}}]\n    \
         {TO_ONE}\n  - name: last\n    {TO_TWO}"
    ));
    let names = loaded.config.hosts[0].rules.iter();
    let names: Vec<_> = names.map(|rule| rule.name.as_deref()).collect();
    assert_eq!(names, [Some("r.m"), Some("r"), Some("last")]);
    assert_eq!(
        on(&loaded, 80),
        [
            "/a* > outbound|9000||one.example",
            "/b* > outbound|9000||one.example",
            "> outbound|2||two.example",
        ]
    );
}

#[test]
fn v17_a_rule_for_a_port_without_http_is_told() {
    let loaded = with(&format!(
        "  - match: [{{port: 443}}]\n    {TO_ONE}\n  - match: [{{port: 9999}}]\n    {TO_TWO}"
    ));
    assert_eq!(
        said(&loaded, &[Code::MatchWithoutEffect]),
        [
            "a.yaml:23: warning[IST0131] VirtualService default/a: spec.http[].match[].port: \
             port 443 is declared TLS at a.yaml:5, and http rules have no effect on it; declare \
             the port HTTP, or use the rules for its protocol",
            "a.yaml:25: warning[IST0131] VirtualService default/a: spec.http[].match[].port: \
             none of its hosts has port 9999, and so the match never holds; declare the port in \
             the ServiceEntry or Service, or take out the match",
        ]
    );
    assert_eq!(on(&loaded, 80), ["> outbound|80||bank.example"]);
}
