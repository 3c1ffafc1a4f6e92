//! Connections that the kernel redirects: real iptables rules in a network namespace, as in a pod.
//!
//! The namespace is the pod: curl as the application, sortie with `--capture`, and a REDIRECT rule.
//! A veth pair leads to this side, where the external service listens.

use std::net::{IpAddr, SocketAddr};

use crate::harness::{Lab, Origin, Pod};

/// Where the application believes the bank to be: an address that is nowhere.
const BANK: &str = "203.0.113.10";
const BANK6: &str = "2001:db8:0:bad::10";

/// A bank that listens on this side of the pair, and a configuration that leads to it.
fn outside(lab: &Lab, address: IpAddr) -> (Origin, String) {
    let bank = lab
        .bank()
        .on(&SocketAddr::new(address, 0).to_string())
        .start();
    let here = format!("127.0.0.1:{}", bank.port());
    let config = lab
        .config(bank.port())
        .replace(&here, &bank.address.to_string());
    (bank, config)
}

#[test]
fn c6_a_redirected_connection_reaches_the_service_in_mutual_tls() {
    let lab = Lab::new();
    let Some(pod) = Pod::new() else { return };
    for (address, bank_at, tables) in [
        (pod.outside, BANK, "iptables"),
        (pod.outside6, BANK6, "ip6tables"),
    ] {
        let (bank, config) = outside(&lab, address);
        let file = lab.path().join("sortie.yaml");
        std::fs::write(&file, config).unwrap();
        let Some(()) = pod.redirect(tables, "80,8080", 15001) else {
            return;
        };
        let sortie = pod.sortie(&file, 15001);
        let literal = if bank_at.contains(':') {
            format!("[{bank_at}]")
        } else {
            bank_at.into()
        };
        let known = format!("bank.example:80:{literal}");
        let (code, text) = pod.application(&["--resolve", &known, "http://bank.example/pay"]);
        assert_eq!(code, 0, "{text}");
        assert!(
            text.contains("hello from bank") && text.contains("200"),
            "{text}"
        );
        let seen = bank.only();
        assert_eq!(seen.sni.as_deref(), Some("bank.example"));
        assert_eq!(seen.client.as_deref(), Some("CN=shop"));
        drop(sortie);
    }
}

#[test]
fn a_redirected_connection_takes_its_port_from_where_it_was_going() {
    // The Host names no port, and 8080 was meant: the route for 80 must not be taken.
    let lab = Lab::new();
    let Some(pod) = Pod::new() else { return };
    let (_bank, config) = outside(&lab, pod.outside);
    let config = config.replace(
        "host: bank.example\n",
        "host: bank.example\n    port: 8080\n",
    );
    let file = lab.path().join("sortie.yaml");
    std::fs::write(&file, config).unwrap();
    let Some(()) = pod.redirect("iptables", "80,8080", 15001) else {
        return;
    };
    let _sortie = pod.sortie(&file, 15001);
    let known = format!("bank.example:8080:{BANK}");
    let host = ["--header", "Host: bank.example", "--resolve", &known];
    let (_, text) = pod.application(&[&host[..], &["http://bank.example:8080/"]].concat());
    assert!(text.contains("hello from bank"), "{text}");
    let known = format!("bank.example:80:{BANK}");
    let (code, text) = pod.application(&["--resolve", &known, "http://bank.example/"]);
    // Nothing is on port 80: closed after it was accepted (ISTIO.md O3).
    assert!(
        [52, 56].contains(&code) && text.contains("\n000"),
        "{code} {text}"
    );
}

#[test]
fn unknown_traffic_passes_through_to_where_it_was_going_where_that_is_asked_for() {
    let lab = Lab::new();
    let Some(pod) = Pod::new() else { return };
    let plain = Origin::plain()
        .named("plain")
        .on(&format!("{}:0", pod.outside))
        .start();
    let (_bank, config) = outside(&lab, pod.outside);
    let file = lab.path().join("sortie.yaml");
    std::fs::write(&file, format!("unknownHosts: pass-through\n{config}")).unwrap();
    let ports = plain.port().to_string();
    let Some(()) = pod.redirect("iptables", &ports, 15001) else {
        return;
    };
    let _sortie = pod.sortie(&file, 15001);
    let (_, text) = pod.application(&[&format!("http://{}/", plain.address)]);
    assert!(text.contains("hello from plain"), "{text}");
}

#[test]
fn o5_a_connection_that_was_not_redirected_is_refused_instead_of_going_round() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let config = format!("unknownHosts: pass-through\n{}", lab.config(bank.port()));
    let sortie = crate::harness::Sortie::builder(&config)
        .with(|o| o.capture = vec![any])
        .start();
    let listeners = sortie.listeners();
    let kind = ::sortie::model::ListenerKind::Capture;
    let (_, captured) = listeners.iter().find(|(k, _)| *k == kind).unwrap();
    let answer = crate::harness::get(*captured, "bank.example", "/");
    assert_eq!(answer.status, 508, "{answer:?}");
    assert_eq!(bank.seen().len(), 0);
}
