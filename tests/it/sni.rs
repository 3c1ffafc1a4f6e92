//! The server name that the peer reads in the hello, and the name that its certificate must have.

use crate::harness::{Lab, Sortie};

#[test]
fn t6_the_server_name_is_the_host_of_the_request_without_its_port() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    sortie.get("Bank.Example:80", "/").expect(200);
    assert_eq!(bank.only().sni.as_deref(), Some("bank.example"));
}

#[test]
fn t6_the_server_name_follows_a_rewritten_host() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let config = lab.config_with(bank.port(), "", "rewrite: {host: bank.example}");
    let sortie = Sortie::start(&config.replace("host: bank.example\n", "host: alias.internal\n"));
    sortie.get("alias.internal", "/").expect(200);
    let seen = bank.only();
    assert_eq!(seen.sni.as_deref(), Some("bank.example"));
    assert_eq!(seen.requests[0].one("host"), Some("bank.example"));
}

#[test]
fn an_explicit_server_name_is_sent_and_expected_while_the_host_stays() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let tls = lab.mutual().replace('}', ", serverName: bank.example}");
    let config = lab.config(bank.port()).replace(&lab.mutual(), &tls);
    let sortie = Sortie::start(&config.replace("host: bank.example", "host: pay.internal"));
    sortie.get("pay.internal", "/").expect(200);
    let seen = bank.only();
    assert_eq!(seen.sni.as_deref(), Some("bank.example"));
    assert_eq!(seen.requests[0].one("host"), Some("pay.internal"));
}

#[test]
fn an_explicit_server_name_that_the_certificate_lacks_is_refused() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let tls = lab.mutual().replace('}', ", serverName: vault.example}");
    let sortie = Sortie::start(&lab.config(bank.port()).replace(&lab.mutual(), &tls));
    sortie
        .get("bank.example", "/")
        .expect(503)
        .says(&["vault.example", "bank.example"]);
    assert_eq!(bank.only().sni.as_deref(), Some("vault.example"));
}

#[test]
fn a_host_that_is_an_address_sends_no_server_name_and_is_checked_as_an_address() {
    let lab = Lab::new();
    let bank = lab
        .bank()
        .identity(&lab.servers.server(&["127.0.0.1"]))
        .start();
    let config = lab
        .config(bank.port())
        .replace("host: bank.example", "host: 127.0.0.1");
    Sortie::start(&config).get("127.0.0.1", "/").expect(200);
    assert_eq!(bank.only().sni, None);

    let named = lab.bank().start();
    let config = lab
        .config(named.port())
        .replace("host: bank.example", "host: 127.0.0.1");
    Sortie::start(&config)
        .get("127.0.0.1", "/")
        .expect(503)
        .says(&["127.0.0.1"]);
}

#[test]
fn t6_hosts_that_share_an_upstream_share_no_connection_of_another_name() {
    let lab = Lab::new();
    let bank = lab
        .bank()
        .identity(&lab.servers.server(&["a.example", "b.example"]))
        .start();
    let config = lab
        .config(bank.port())
        .replace("host: bank.example", "host: \"*.example\"");
    let sortie = Sortie::builder(&config)
        .with(|options| options.workers = Some(1))
        .start();
    for host in ["a.example", "b.example", "a.example", "b.example"] {
        sortie.get(host, "/").expect(200);
    }
    for seen in bank.seen() {
        for request in &seen.requests {
            assert_eq!(request.one("host"), seen.sni.as_deref());
        }
    }
    assert_eq!(bank.seen().len(), 2, "{:#?}", bank.seen());
}

#[test]
fn alpn_offers_both_versions_of_http_and_the_peer_chooses() {
    let lab = Lab::new();
    let (one, two) = (
        lab.bank().start(),
        lab.bank().alpn(&["h2", "http/1.1"]).start(),
    );
    for (bank, version) in [(one, "HTTP/1.1"), (two, "HTTP/2.0")] {
        lab.sortie(bank.port()).get("bank.example", "/").expect(200);
        let seen = bank.only();
        assert_eq!(seen.alpn, ["h2", "http/1.1"]);
        assert_eq!(seen.requests[0].version, version);
    }
}
