//! The application sees its clients' own addresses: inbound connections by TPROXY (ISTIO.md C4).

use crate::harness::captured::{ANNA, BERT, Captured, POD, run, url};
use crate::harness::{Cell, PROGRAM, spiffe};

/// How sortie and the rules are told.
const TPROXY: [&str; 2] = ["--interception", "TPROXY"];

fn pod(mode: &str) -> Option<Captured> {
    let pod = Captured::new(mode)?;
    pod.capture(&TPROXY.join(" "));
    Some(pod)
}

#[test]
fn c4_the_application_sees_its_clients_own_address_in_both_families() {
    let Some(mut pod) = pod("PERMISSIVE") else {
        return;
    };
    pod.start(&TPROXY);
    for family in [0, 1] {
        let url = url("http", POD[family], 8080);
        for (client, address) in [(&pod.anna, ANNA[family]), (&pod.bert, BERT[family])] {
            let words = pod.seen(client, &[&url]);
            assert_eq!(words[0], address, "{words:?}\n{}", pod.pod.said());
        }
    }
}

#[test]
fn c4_two_clients_never_share_a_connection_to_the_application_and_one_keeps_its_own() {
    let Some(mut pod) = pod("PERMISSIVE") else {
        return;
    };
    pod.start(&TPROXY);
    for to in POD {
        let url = url("http", to, 8080);
        let connection = |client: &Cell| pod.seen(client, &[&url])[1].clone();
        let (anna, bert) = (connection(&pod.anna), connection(&pod.bert));
        assert_ne!(anna, bert);
        // Each curl is a connection to sortie of its own.
        assert_eq!(connection(&pod.anna), anna);
        assert_eq!(connection(&pod.bert), bert);
    }
}

#[test]
fn c4_long_answers_come_back_whole() {
    let Some(mut pod) = pod("PERMISSIVE") else {
        return;
    };
    pod.pod.put("big", &"0123456789abcdef".repeat(256 * 1024));
    pod.start(&TPROXY);
    for to in POD {
        let url = format!("{}big", url("http", to, 8080));
        let (code, text) = pod
            .anna
            .curl(&["-o", "/dev/null", "-w", "%{size_download}", &url]);
        assert_eq!((code, text.as_str()), (0, "4194304"), "{}", pod.pod.said());
    }
}

#[test]
fn c4_mutual_tls_comes_in_by_tproxy_and_plaintext_does_not() {
    let Some(mut pod) = pod("STRICT") else {
        return;
    };
    pod.mesh.employ(&pod.anna, "full", "sleep");
    pod.start(&TPROXY);
    let pair = [
        "--cert",
        "/etc/certs/cert-chain.pem",
        "--key",
        "/etc/certs/key.pem",
    ];
    for (nth, to) in POD.into_iter().enumerate() {
        // Its SPIFFE id is no name that curl could check.
        let secure = url("https", to, 8080);
        let words = pod.seen(&pod.anna, &[&pair[..], &["-k", &secure]].concat());
        assert_eq!(words[0], ANNA[nth], "{words:?}");
        assert!(words[2].contains(&spiffe("full", "sleep")), "{words:?}");
        let (code, text) = pod.bert.curl(&[&url("http", to, 8080)]);
        assert_eq!(code, 56, "{text}");
    }
    assert_eq!(
        pod.pod.saw(2).len(),
        2,
        "what never got in was never served"
    );
}

#[test]
fn c4_the_proxy_calling_its_own_pod_comes_in_once_and_the_application_itself_goes_straight() {
    let Some(mut pod) = pod("STRICT") else {
        return;
    };
    pod.name_the_pod();
    pod.start(&[&TPROXY[..], &["--capture", "127.0.0.1:15001"]].concat());
    let known = [
        "--resolve",
        "own.example:80:10.96.5.1",
        "http://own.example/",
    ];
    let words = pod.seen(&pod.pod, &known);
    assert_eq!(words[0], POD[0], "{words:?}");
    assert!(words[2].contains(&spiffe("shop", "web")), "{words:?}");
    let lines = pod.pod.saw(1);
    assert_eq!(lines.len(), 1, "{lines:?}");
    // The rules let what an application sends to itself alone (C2).
    let words = pod.seen(&pod.pod, &[&url("http", POD[0], 8080)]);
    assert_eq!(words.len(), 2, "no certificate was shown: {words:?}");
}

#[test]
fn c6_by_tproxy_the_listener_itself_is_no_way_in() {
    let Some(mut pod) = pod("PERMISSIVE") else {
        return;
    };
    pod.start(&TPROXY);
    for to in POD {
        let direct = url("http", to, 15006);
        let (code, text) = pod.anna.curl(&[&direct]);
        assert!([52, 56].contains(&code), "{code} {text}");
    }
    let rejected = [
        "sortie_downstream_rejected_requests_total",
        "not_redirected",
    ];
    assert_eq!(
        pod.pod.metric(&rejected),
        2.0,
        "{}",
        pod.pod.admin("/metrics").1
    );
    assert!(pod.pod.seen().is_empty());
}

#[test]
fn c4_without_the_capability_one_line_says_which() {
    let Some(pod) = pod("PERMISSIVE") else {
        return;
    };
    // Either of the two is enough for a kernel of these years.
    let without = "-net_admin,-net_raw";
    let output = pod
        .pod
        .command("setpriv")
        .args(["--bounding-set", without, "--inh-caps", without])
        .args(["timeout", "20", PROGRAM, "run", "--config"])
        .arg(pod.folder.path())
        .args(["--inbound", "[::]:15006", "--interception", "TPROXY"])
        .args(["--log-level", "error"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    for word in ["[::]:15006", "CAP_NET_ADMIN", "--interception REDIRECT"] {
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn c4_of_many_clients_those_who_are_here_keep_their_connection_and_no_more_are_kept_than_may() {
    /// As many idle connections as one worker keeps for an upstream, and some more.
    const CLIENTS: usize = 300;
    const KEPT: f64 = 256.0;
    let Some(mut pod) = pod("PERMISSIVE") else {
        return;
    };
    pod.start(&TPROXY);
    let address = |nth: usize| format!("10.6.{}.{}", nth / 250, 1 + nth % 250);
    let batch = (0..CLIENTS).map(|nth| format!("addr add {}/8 dev eth0\n", address(nth)));
    pod.anna.put("batch", &batch.collect::<String>());
    run(&pod.anna, "ip -batch /etc/batch");
    let to = url("http", POD[0], 8080);
    let ask = |clients: &[usize]| -> Vec<String> {
        let mut arguments = Vec::new();
        for nth in clients {
            arguments.extend(["--next", "-w", "\n", "--interface"].map(str::to_owned));
            arguments.extend([address(*nth), to.clone()]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (code, text) = pod.anna.curl(&arguments);
        assert_eq!(code, 0, "{text}\n{}", pod.pod.said());
        text.lines().map(|line| line.trim().to_owned()).collect()
    };
    let all: Vec<usize> = (0..CLIENTS).collect();
    let first = ask(&all);
    for (nth, line) in first.iter().enumerate() {
        assert!(line.starts_with(&format!("{} ", address(nth))), "{line}");
    }
    let idle = ["sortie_upstream_connections_idle", "inbound|8080||"];
    assert_eq!(
        pod.pod.metric(&idle),
        KEPT,
        "{}",
        pod.pod.admin("/metrics").1
    );
    let again = ask(&[CLIENTS - 1, 0]);
    assert_eq!(again[0], first[CLIENTS - 1], "kept");
    assert_ne!(again[1], first[0], "closed for those who came later");
}
