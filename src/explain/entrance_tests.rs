//! Explanations of what comes in by gateways and for the application, put to the tables that serve.

use super::tests::{ask, steps};
use super::*;
use crate::model::{
    Action, CaSource, Carries, ClientCertificates, Config, CredentialSpec, DownstreamTls,
    EndpointSpec, EntranceAt, EntranceHeaders, EntranceSpec, GatewayPort, Host, HostPattern,
    HostRoutes, IdentitySource, Place, Reasons, RuleSpec, ServerTlsSpec, UpstreamSpec, Weighted,
};

fn routes(host: &str) -> HostRoutes {
    let action = Action::Forward(vec![Weighted::new("bank", 1)]);
    HostRoutes {
        hosts: vec![HostPattern::parse(host).unwrap()].into(),
        port: None,
        rules: vec![RuleSpec::new(action, Place::default())].into(),
        object: Some("VirtualService default/bank".into()),
        place: Place::default(),
    }
}

fn mutual() -> DownstreamTls {
    let credential = CredentialSpec {
        identity: Some(IdentitySource::Files("a.crt".into(), "a.key".into())),
        ca: CaSource::File("ca.crt".into()),
        crl: None,
    };
    let spec = ServerTlsSpec::new(credential, ClientCertificates::Required);
    DownstreamTls::Strict(Box::new(spec))
}

fn entrance(name: &str, at: EntranceAt, tls: DownstreamTls, host: &str) -> EntranceSpec {
    EntranceSpec {
        name: name.into(),
        at,
        tls,
        carries: Carries::Http,
        hosts: vec![routes(host)],
        streams: Vec::new(),
        headers: EntranceHeaders::gateway(),
        service: None,
        broken: None,
        object: Some("Gateway default/edge".into()),
        reasons: Reasons::default(),
        place: Place {
            file: "gw.yaml".into(),
            line: 7,
        },
    }
}

/// Clear text on 80, two servers on 443, and the application's port 8080.
fn config() -> Config {
    let port = |number| GatewayPort { bind: None, number };
    let secure = |name: &str| {
        let names = vec![HostPattern::parse(name).unwrap()];
        EntranceAt::Gateway(port(443), names)
    };
    let mut bank = UpstreamSpec::new("bank");
    let endpoint = EndpointSpec::new(Host::parse("127.0.0.1").unwrap(), 9443);
    bank.endpoints.push(endpoint);
    let clear = EntranceAt::Gateway(port(80), Vec::new());
    Config {
        upstreams: vec![bank],
        entrances: vec![
            entrance("clear", clear, DownstreamTls::Disable, "bank.example"),
            entrance("bank", secure("bank.example"), mutual(), "bank.example"),
            entrance("shop", secure("*.shop.example"), mutual(), "*"),
            entrance(
                "inbound|8080",
                EntranceAt::Inbound(Some(8080)),
                DownstreamTls::Disable,
                "*",
            ),
        ],
        ..Config::default()
    }
}

fn at_gateway(port: &str, url: &str, headers: &[&str]) -> Explanation {
    let asked = Asked {
        url: url.to_owned(),
        gateway: Some(port.to_owned()),
        headers: headers.iter().map(|one| (*one).to_owned()).collect(),
        ..Asked::default()
    };
    ask(&config(), &asked)
}

#[test]
fn x13_a_request_to_a_gateway_goes_by_the_tables_of_its_entrance() {
    let told = at_gateway("80", "http://bank.example/", &[]);
    assert!(told.outcome.served, "{told:?}");
    let all = steps(&told).join("\n");
    assert!(
        all.contains("listener: port 80, plain HTTP, of a Gateway"),
        "{all}"
    );
    assert!(all.contains("entrance: clear text, HTTP"), "{all}");
    assert!(
        all.contains("virtual host: bank.example, any port"),
        "{all}"
    );
    let nobody = at_gateway("80", "http://other.example/", &[]).outcome;
    assert_eq!(
        (nobody.status, nobody.flag.as_deref()),
        (Some(404), Some("NR"))
    );
}

#[test]
fn t17_tls_without_its_certificate_is_closed_and_says_who_would_be_let_in() {
    let told = at_gateway("443", "https://bank.example/", &[]);
    assert!(
        !told.outcome.served && told.outcome.status.is_none(),
        "{told:?}"
    );
    let all = steps(&told).join("\n");
    assert!(
        all.contains("entrance: server for bank.example, HTTP"),
        "{all}"
    );
    assert!(all.contains("clients: must show a certificate"), "{all}");
    assert!(all.contains("ca: ca.crt"), "{all}");
}

#[test]
fn g8_a_server_name_that_nobody_has_is_closed_without_a_certificate() {
    let told = at_gateway("443", "https://other.example/", &[]);
    assert!(
        !told.outcome.served && told.outcome.status.is_none(),
        "{told:?}"
    );
    assert_eq!(told.outcome.flag.as_deref(), Some("NR"));
}

#[test]
fn a_port_that_no_gateway_has_is_told_with_those_that_there_are() {
    let told = at_gateway("8443", "https://bank.example/", &[]).outcome;
    assert!(!told.served);
    assert!(
        told.words.ends_with("has port 8443; there are 80, 443"),
        "{}",
        told.words
    );
}

#[test]
fn p10_a_request_for_the_application_goes_to_its_port() {
    let asked = Asked {
        url: "http://anything.example/".to_owned(),
        inbound: Some("8080".to_owned()),
        ..Asked::default()
    };
    let told = ask(&config(), &asked);
    assert!(told.outcome.served, "{told:?}");
    let all = steps(&told).join("\n");
    assert!(
        all.contains("entrance: the application's port 8080, HTTP"),
        "{all}"
    );
    assert!(all.contains("tls: DISABLE: clear text"), "{all}");
    let refused = Asked {
        url: "https://anything.example/".to_owned(),
        ..asked
    };
    assert!(!ask(&config(), &refused).outcome.served);
}
