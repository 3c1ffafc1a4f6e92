//! Three hosts with the rules of `sortie capture` on the middle one: what is captured, and what is not.
//!
//! nginx is the service and the application, curl their client. What sortie has no route for it
//! answers 502; so a plain answer proves that a connection went past it.

use crate::harness::{CLIENT, Hosts, POD, PROXY, SERVICE, SERVICE_TOO, SOMEBODY, eventually};

/// An address that is nowhere, of each family.
const NOWHERE: [&str; 2] = ["203.0.113.10", "2001:db8:0:bad::10"];

fn literal(address: &str) -> String {
    match address.contains(':') {
        true => format!("[{address}]"),
        false => address.to_owned(),
    }
}

/// What the client, the application or the proxy gets from there.
fn url(address: &str, port: u16) -> String {
    format!("http://{}:{port}/", literal(address))
}

#[test]
fn c2_what_the_application_sends_leaves_in_mutual_tls_and_what_the_proxy_sends_leaves_as_it_is() {
    let Some(mut hosts) = Hosts::new() else {
        return;
    };
    hosts.sortie();
    hosts.pod.captured(&["apply"]);
    for (host, nowhere, service) in [
        ("bank.example", NOWHERE[0], SERVICE[0]),
        ("bank6.example", NOWHERE[1], SERVICE[1]),
    ] {
        let known = format!("{host}:80:{}", literal(nowhere));
        let bank = format!("http://{host}/");
        let (code, text) = hosts.pod.curl(SOMEBODY, &["--resolve", &known, &bank]);
        assert_eq!((code, &*text), (0, &*format!("mtls {host} CN=shop\n\n200")));
        let (_, text) = hosts.pod.curl(SOMEBODY, &[&url(service, 80)]);
        assert!(text.ends_with("\n502"), "captured, and no route: {text}");
        let (_, text) = hosts.pod.curl(PROXY, &[&url(service, 80)]);
        assert!(text.starts_with("service sees"), "not captured: {text}");
    }
    hosts.pod.captured(&["remove"]);
    for service in SERVICE {
        let (_, text) = hosts.pod.curl(SOMEBODY, &[&url(service, 80)]);
        assert!(
            text.starts_with("service sees"),
            "no longer captured: {text}"
        );
    }
}

#[test]
fn c2_excluded_ports_and_ranges_leave_directly_and_of_included_ones_only_these_are_captured() {
    let Some(mut hosts) = Hosts::new() else {
        return;
    };
    hosts.sortie();
    let (one, too) = (SERVICE.join(","), SERVICE_TOO.join(","));
    let some = [format!("-x={too}"), "-o=8080".to_owned()];
    let only = [format!("-i={one}"), "-q=8080".to_owned()];
    let none = ["-i=".to_owned(), "-b=".to_owned()];
    let nobody = ["-c=eth1".to_owned(), "--ipv6=on".to_owned()];
    // Flags, and whether 80 and 8080 of the first address, and the same of the second, are captured.
    for (flags, captured) in [
        (some, [true, false, false, false]),
        (only, [true, true, false, true]),
        (none, [false, false, false, false]),
        (nobody, [false, false, false, false]),
    ] {
        hosts.pod.captured(&["apply", &flags[0], &flags[1]]);
        for family in [0, 1] {
            let places = [
                url(SERVICE[family], 80),
                url(SERVICE[family], 8080),
                url(SERVICE_TOO[family], 80),
                url(SERVICE_TOO[family], 8080),
            ];
            for (place, captured) in places.iter().zip(captured) {
                let (code, text) = hosts.pod.curl(SOMEBODY, &[place]);
                assert_eq!(code, 0, "{flags:?} {place}: {text}");
                assert_eq!(
                    text.ends_with("\n502"),
                    captured,
                    "{flags:?} {place}: {text}"
                );
                assert_eq!(
                    text.starts_with("service"),
                    !captured,
                    "{flags:?} {place}: {text}"
                );
            }
        }
    }
}

#[test]
fn c2_what_comes_in_reaches_the_application_by_the_proxy_and_excluded_ports_directly() {
    let Some(mut hosts) = Hosts::new() else {
        return;
    };
    hosts.sortie();
    for (flags, ports) in [
        (&["apply", "-d=9000"][..], [true, false]),
        (&["apply", "-b=9000"], [false, true]),
        (&["apply", "-b="], [false, false]),
    ] {
        hosts.pod.captured(flags);
        for (family, proxy) in [(0, "127.0.0.6"), (1, "::6")] {
            for (port, captured) in [8000, 9000].into_iter().zip(ports) {
                let (_, text) = hosts.client.curl(0, &[&url(POD[family], port)]);
                let seen = if captured { proxy } else { CLIENT[family] };
                assert_eq!(text, format!("app sees {seen}\n\n200"), "{flags:?} {port}");
            }
        }
    }
}

#[test]
fn c2_calls_to_oneself_do_not_go_round() {
    let Some(mut hosts) = Hosts::new() else {
        return;
    };
    hosts.sortie();
    hosts.pod.captured(&["apply"]);
    for (family, proxy) in [(0, "127.0.0.6"), (1, "::6")] {
        // Rule 4: the application to itself is let be.
        let (_, text) = hosts.pod.curl(SOMEBODY, &[&url(POD[family], 8000)]);
        assert_eq!(text, format!("app sees {}\n\n200", POD[family]));
        // Rule 3: the proxy to its own pod comes in as another would, once.
        let before = hosts.served("app");
        let (_, text) = hosts.pod.curl(PROXY, &[&url(POD[family], 8000)]);
        assert_eq!(text, format!("app sees {proxy}\n\n200"));
        assert_eq!(hosts.served("app"), before + 1);
        // Rule 7: who means this machine gets it.
        let local = ["127.0.0.1", "::1"][family];
        let (_, text) = hosts.pod.curl(SOMEBODY, &[&url(local, 8000)]);
        assert_eq!(text, format!("app sees {local}\n\n200"));
    }
    // A service whose only endpoint is this very pod.
    let before = hosts.served("app");
    let known = format!("itself.example:80:{}", NOWHERE[0]);
    let itself = ["--resolve", &known, "http://itself.example/"];
    let (_, text) = hosts.pod.curl(SOMEBODY, &itself);
    assert_eq!(text, "app sees 127.0.0.6\n\n200");
    assert_eq!(hosts.served("app"), before + 1);
}

#[test]
fn c2_who_calls_the_proxys_own_ports_from_outside_starts_no_loop() {
    let Some(mut hosts) = Hosts::new() else {
        return;
    };
    hosts.sortie();
    hosts.pod.captured(&["apply"]);
    for port in [15001, 15006] {
        for pod in POD {
            let (code, text) = hosts.client.curl(0, &["--max-time", "5", &url(pod, port)]);
            assert_ne!(code, 28, "it ends by itself: {text}");
            assert!(!text.ends_with("\n200"), "{text}");
        }
    }
    // Each of the four is one connection in, and at most one of the proxy to itself.
    eventually("no connection is left", || {
        let open = hosts
            .pod
            .shell("ss -Htn state established '( sport = :15001 or sport = :15006 )'");
        open.is_empty().then_some(())
    });
    let new = hosts
        .pod
        .shell("cat /proc/net/snmp | awk '/^Tcp/ {print $6}' | tail -1");
    let opened: usize = new.trim().parse().unwrap();
    assert!(opened < 40, "{opened} connections were opened");
    assert_eq!(hosts.served("app"), 0);
}

#[test]
fn c4_by_tproxy_the_application_sees_its_client_and_nobody_gets_past_a_proxy_that_is_gone() {
    let Some(mut hosts) = Hosts::new() else {
        return;
    };
    hosts.sortie_by_tproxy();
    hosts
        .pod
        .captured(&["apply", "--interception=TPROXY", "-d=9000"]);
    for (family, host) in [(0, "bank.example"), (1, "bank6.example")] {
        let (_, text) = hosts.client.curl(0, &[&url(POD[family], 8000)]);
        assert_eq!(text, format!("app sees {}\n\n200", CLIENT[family]));
        let (_, text) = hosts.pod.curl(SOMEBODY, &[&url(POD[family], 8000)]);
        assert_eq!(text, format!("app sees {}\n\n200", POD[family]));
        // Outbound stays redirected.
        let known = format!("{host}:80:{}", literal(NOWHERE[family]));
        let bank = format!("http://{host}/");
        let (_, text) = hosts.pod.curl(SOMEBODY, &["--resolve", &known, &bank]);
        assert_eq!(text, format!("mtls {host} CN=shop\n\n200"));
    }
    hosts.end_sortie();
    for pod in POD {
        let (code, _) = hosts.client.curl(0, &["--max-time", "1", &url(pod, 8000)]);
        assert_eq!(
            code, 28,
            "thrown away, as iptables does, and not let through"
        );
        let (_, text) = hosts.client.curl(0, &[&url(pod, 9000)]);
        assert!(text.ends_with("\n200"), "not captured: {text}");
    }
    hosts.pod.captured(&["remove"]);
    let (_, text) = hosts.client.curl(0, &[&url(POD[0], 8000)]);
    assert_eq!(text, format!("app sees {}\n\n200", CLIENT[0]));
}

#[test]
fn c2_by_iptables_the_same_is_captured() {
    let Some(mut hosts) = Hosts::new() else {
        return;
    };
    hosts.sortie();
    hosts
        .pod
        .captured(&["apply", "--backend=iptables", "-o=8080"]);
    for (family, proxy) in [(0, "127.0.0.6"), (1, "::6")] {
        let (_, text) = hosts.pod.curl(SOMEBODY, &[&url(SERVICE[family], 80)]);
        assert!(text.ends_with("\n502"), "captured: {text}");
        for (user, port) in [(PROXY, 80), (SOMEBODY, 8080)] {
            let (_, text) = hosts.pod.curl(user, &[&url(SERVICE[family], port)]);
            assert!(text.starts_with("service sees"), "not captured: {text}");
        }
        let (_, text) = hosts.client.curl(0, &[&url(POD[family], 8000)]);
        assert_eq!(text, format!("app sees {proxy}\n\n200"));
    }
}
