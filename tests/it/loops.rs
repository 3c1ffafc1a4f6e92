//! What is captured comes in once: calls to one's own pod, to sortie's own ports, and no capture at
//! all (ISTIO.md C6, C7, C9, P13), under the rules that `sortie capture apply` makes.

use crate::harness::captured::{ANNA, Captured, POD, run, url};
use crate::harness::spiffe;

/// The listener for what the application opens.
const OUT: [&str; 2] = ["--capture", "[::]:15001"];

/// `ip` with these words takes the address away.
const WITHOUT_6: [&str; 6] = ["-6", "addr", "del", "::6/128", "dev", "lo"];

/// Requests refused because they would come back to us.
const LOOPS: [&str; 2] = ["sortie_upstream_connect_failures_total", "reason=\"loop\""];
/// Connections closed because they were addressed to a port for redirected ones.
const ADDRESSED: [&str; 2] = [
    "sortie_downstream_rejected_requests_total",
    "reason=\"not_redirected\"",
];

#[test]
fn p13_the_application_is_dialled_from_127_0_0_6_and_from_6() {
    let Some(mut pod) = Captured::new("PERMISSIVE") else {
        return;
    };
    pod.capture("");
    pod.start(&[]);
    // Without the address nothing may reach the application: it could be captured again.
    let _ = pod.pod.command("ip").args(WITHOUT_6).output();
    let (_, text) = pod
        .anna
        .curl(&["-w", " %{http_code}", &url("http", POD[1], 8080)]);
    assert!(text.ends_with(" 503"), "{text}");
    assert!(text.contains("ip -6 addr add ::6/128 dev lo"), "{text}");
    run(&pod.pod, "ip -6 addr add ::6/128 dev lo");
    for (to, from) in [(POD[0], "127.0.0.6"), (POD[1], "::6")] {
        let words = pod.seen(&pod.anna, &[&url("http", to, 8080)]);
        assert_eq!(words[0], from, "{words:?}");
    }
    assert_eq!(pod.pod.saw(2).len(), 2);
}

#[test]
fn c2_the_proxy_calling_its_own_pod_comes_in_once_and_the_application_itself_goes_straight() {
    let Some(mut pod) = Captured::new("STRICT") else {
        return;
    };
    pod.name_the_pod();
    pod.capture("--uid=0");
    pod.start(&OUT);
    let known = [
        "--resolve",
        "own.example:80:10.96.5.1",
        "http://own.example/",
    ];
    let words = pod.seen(&pod.pod, &known);
    assert_eq!(words[0], "127.0.0.6", "{words:?}");
    assert!(words[2].contains(&spiffe("shop", "web")), "{words:?}");
    assert_eq!(pod.pod.saw(1).len(), 1);
    // The application's own calls to its pod are not captured: no certificate, and its own address.
    for to in POD {
        let words = pod.seen(&pod.pod, &[&url("http", to, 8080)]);
        assert_eq!((words.len(), words[0].as_str()), (2, to), "{words:?}");
    }
    let words = pod.seen(&pod.pod, &[&url("http", "127.0.0.1", 8080)]);
    assert_eq!(words[0], "127.0.0.1");
    // Others need the certificate.
    assert_eq!(pod.anna.curl(&[&url("http", POD[0], 8080)]).0, 56);
}

#[test]
fn c6_a_connection_straight_to_a_capture_port_is_refused_in_words_and_counted() {
    let Some(mut pod) = Captured::new("PERMISSIVE") else {
        return;
    };
    pod.start(&OUT);
    for to in [POD[0], POD[1], "127.0.0.1", "[::1]"] {
        let to = to.trim_matches(['[', ']']);
        let outbound = ["-w", " %{http_code}", &url("http", to, 15001)];
        let (_, text) = pod.pod.curl(&outbound);
        assert!(text.ends_with(" 508"), "{to}: {text}");
        assert!(text.contains("redirect"), "{to}: {text}");
        // Who talks to the inbound side is not told; the log and the count are.
        let (code, text) = pod.pod.curl(&[&url("http", to, 15006)]);
        assert!([52, 56].contains(&code), "{to}: {code} {text}");
    }
    assert!(
        pod.pod.metric(&ADDRESSED) >= 4.0,
        "{}",
        pod.pod.admin("/metrics").1
    );
    assert!(pod.pod.seen().is_empty());
}

#[test]
fn c6_an_original_destination_that_is_a_listener_of_ours_is_refused_and_counted() {
    let Some(mut pod) = Captured::new("PERMISSIVE") else {
        return;
    };
    run(&pod.pod, "ip -6 addr add ::6/128 dev lo");
    // Rules that somebody made wrongly: the application's calls to our own ports are captured.
    for tables in ["iptables", "ip6tables"] {
        let ports = "-p tcp -m multiport --dports 15006,15021 -m owner --uid-owner 65534";
        let to = "-j REDIRECT --to-ports 15001";
        run(
            &pod.pod,
            &format!("{tables} -w -t nat -A OUTPUT {ports} {to}"),
        );
        let ports = "-p tcp -m multiport --dports 15001,15021";
        let to = "-j REDIRECT --to-ports 15006";
        run(
            &pod.pod,
            &format!("{tables} -w -t nat -A PREROUTING {ports} {to}"),
        );
    }
    pod.start(&[&OUT[..], &["--status", "[::]:15021"]].concat());
    let mut loops = 0.0;
    for to in POD {
        for port in [15006, 15021] {
            let (code, text) = pod.pod.curl(&[&url("http", to, port)]);
            assert!([0, 52, 56].contains(&code), "{to} {port}: {code} {text}");
            assert!(
                !text.contains("::") && !text.contains("127.0.0.6"),
                "{text}"
            );
            loops += 1.0;
            assert_eq!(pod.pod.metric(&LOOPS), loops, "outbound, {to} {port}");
        }
        for port in [15001, 15021] {
            let asked = ["-w", " %{http_code}", &url("http", to, port)];
            let (_, text) = pod.anna.curl(&asked);
            assert!(text.ends_with(" 508"), "{to} {port}: {text}");
            loops += 1.0;
            assert_eq!(pod.pod.metric(&LOOPS), loops, "inbound, {to} {port}");
        }
    }
    assert!(pod.pod.seen().is_empty());
}

#[test]
fn x13_every_address_is_that_of_ipv4_where_ipv6_is_switched_off() {
    let Some(mut pod) = Captured::new("PERMISSIVE") else {
        return;
    };
    for all in ["all", "default", "lo", "eth0"] {
        let key = format!("net.ipv6.conf.{all}.disable_ipv6=1");
        run(&pod.pod, &format!("sysctl -qw {key}"));
    }
    pod.capture("");
    pod.start(&[&OUT[..], &["--status", "[::]:15021"]].concat());
    let words = pod.seen(&pod.anna, &[&url("http", POD[0], 8080)]);
    assert_eq!(words[0], "127.0.0.6");
    let (code, text) = pod
        .anna
        .curl(&[&format!("{}healthz/ready", url("http", POD[0], 15021))]);
    assert_eq!(code, 0, "{text}");
}

#[test]
fn c9_without_any_rule_a_direct_listener_on_port_80_serves_and_connect_is_refused_in_words() {
    let Some(mut pod) = Captured::new("STRICT") else {
        return;
    };
    pod.name_the_pod();
    pod.mesh.employ(&pod.anna, "full", "sleep");
    pod.capture("");
    pod.start(&[]);
    // No capability at all: what a container has that may do nothing.
    run(
        &pod.anna,
        "sysctl -qw net.ipv4.ip_unprivileged_port_start=0",
    );
    let none = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"];
    let who = ["--namespace", "full", "--service-account", "sleep"];
    let how = [&who[..], &["--listen", "127.0.0.1:80"]].concat();
    let _sortie = pod.anna.sortie_by(&none, &[pod.folder.path()], &how);
    pod.anna.name("127.0.0.1", "own.example");
    let proxy = ["--noproxy", "", "--proxy", "http://127.0.0.1:80"];
    let with = |more: &[&'static str]| [&proxy[..], more].concat();
    for arguments in [vec!["http://own.example/"], with(&["http://own.example/"])] {
        let words = pod.seen(&pod.anna, &arguments);
        assert_eq!(words[0], "127.0.0.6", "{words:?}");
        assert!(words[2].contains(&spiffe("full", "sleep")), "{words:?}");
    }
    let connect = with(&["--include", "--proxytunnel", "http://own.example/"]);
    let (code, text) = pod.anna.curl(&connect);
    assert_ne!(code, 0);
    assert!(text.contains("405"), "{text}");
    assert_eq!(pod.pod.saw(2).len(), 2, "{}", ANNA[0]);
}

/// A server of bytes beside the pod, which no document names, and what the application gets of it.
fn stranger(pod: &Captured) -> (crate::harness::Inmate, (i32, String)) {
    let server = pod.anna.nginx(
        "server { listen 9000; return 200 '$remote_addr'; }",
        "127.0.0.1:9000",
    );
    let got = pod.pod.curl(&[&url("http", ANNA[0], 9000)]);
    (server, got)
}

#[test]
fn c8_a_connection_of_our_own_that_is_captured_ends_at_the_first_turn_and_says_who_we_are() {
    let Some(mut pod) = Captured::new("PERMISSIVE") else {
        return;
    };
    pod.capture("");
    pod.start_by(&["setpriv", "--regid", "2000", "--clear-groups"], &OUT);
    let (_server, (code, text)) = stranger(&pod);
    assert!([52, 56].contains(&code), "{code} {text}");
    let said = pod.pod.said();
    let errors: Vec<&str> = said.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(errors.len(), 1, "{said}");
    for word in [
        "user 0 and group 2000",
        "sortie capture apply --uid 0 --gid 2000",
    ] {
        assert!(errors[0].contains(word), "{}", errors[0]);
    }
    let rejected = [
        "sortie_downstream_rejected_requests_total",
        "own_connection",
    ];
    let closed = pod.pod.metric(&rejected);
    let accepted = pod
        .pod
        .metric(&["sortie_downstream_connections_accepted_total"]);
    // The application's, and ours that came back; one more where another worker was quicker.
    assert!((1.0..=2.0).contains(&closed), "{closed}");
    assert!(
        (2.0..=3.0).contains(&accepted),
        "{}",
        pod.pod.admin("/metrics").1
    );
}

#[test]
fn c8_a_connection_of_our_own_that_the_rules_let_go_goes_out() {
    let Some(mut pod) = Captured::new("PERMISSIVE") else {
        return;
    };
    pod.capture("");
    pod.start(&OUT);
    let (_server, got) = stranger(&pod);
    assert_eq!(got, (0, POD[0].to_owned()), "{}", pod.pod.said());
    assert!(!pod.pod.said().contains("ERROR"), "{}", pod.pod.said());
}
