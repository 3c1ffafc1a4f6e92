//! Where the connections of a ServiceEntry go: by weight, to one address of a name, or to the host
//! that a request asks for (ISTIO.md E2 to E5).

use std::collections::BTreeMap;

use crate::harness::{Origin, Sortie};

fn service_entry(host: &str, rest: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: bank}}\n\
         spec:\n  hosts: [\"{host}\"]\n{rest}"
    )
}

#[test]
fn e3_weights_of_endpoints_are_shares_of_the_requests() {
    let (heavy, light) = (
        Origin::plain().named("heavy").start(),
        Origin::plain().named("light").start(),
    );
    let documents = service_entry(
        "bank.example",
        &format!(
            "  resolution: STATIC\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n  \
             endpoints:\n  - {{address: 127.0.0.1, weight: 3, ports: {{http: {}}}}}\n  \
             - {{address: 127.0.0.1, weight: 1, ports: {{http: {}}}}}\n---\n\
             apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: bank}}\n\
             spec:\n  host: bank.example\n  trafficPolicy: {{loadBalancer: {{simple: ROUND_ROBIN}}}}\n",
            heavy.port(),
            light.port()
        ),
    );
    let sortie = Sortie::builder(&documents)
        .with(|options| options.workers = Some(1))
        .start();
    let mut met = BTreeMap::new();
    for _ in 0..40 {
        let answer = sortie.get("bank.example", "/").expect(200);
        *met.entry(answer.header("x-origin").unwrap().to_owned())
            .or_insert(0) += 1;
    }
    assert_eq!(
        met,
        BTreeMap::from([("heavy".into(), 30), ("light".into(), 10)])
    );
}

#[test]
fn e3_a_name_with_one_address_in_use_is_reached() {
    let bank = Origin::plain().start();
    let documents = service_entry(
        "localhost",
        &format!(
            "  resolution: DNS_ROUND_ROBIN\n  ports:\n  \
             - {{number: 80, name: http, protocol: HTTP, targetPort: {}}}\n",
            bank.port()
        ),
    );
    let sortie = Sortie::start(&documents);
    for _ in 0..3 {
        sortie.get("localhost", "/").expect(200);
    }
    assert_eq!(bank.asked().len(), 3);
}

#[test]
fn e12_a_wildcard_with_dynamic_dns_goes_to_the_host_that_is_asked_for() {
    let bank = Origin::plain().start();
    let documents = service_entry(
        "*.localhost",
        &format!(
            "  resolution: DYNAMIC_DNS\n  ports:\n  \
             - {{number: 80, name: http, protocol: HTTP, targetPort: {}}}\n",
            bank.port()
        ),
    );
    let sortie = Sortie::start(&documents);
    sortie.get("one.localhost", "/").expect(200);
    sortie.get("two.localhost", "/").expect(200);
    let hosts: Vec<_> = bank
        .asked()
        .iter()
        .map(|asked| asked.one("host").unwrap().to_owned())
        .collect();
    assert_eq!(hosts, ["one.localhost", "two.localhost"]);
    let other = sortie.get("localhost", "/");
    assert_ne!(other.status, 200, "the suffix itself is not covered (H1)");
    let text = sortie.get("no-such-name.localhost.invalid", "/");
    assert_ne!(text.status, 200);
}

#[test]
fn e2_without_resolution_and_without_capture_the_requests_host_is_looked_up() {
    let bank = Origin::plain().start();
    let documents = service_entry(
        "localhost",
        &format!(
            "  ports:\n  - {{number: 80, name: http, protocol: HTTP, targetPort: {}}}\n",
            bank.port()
        ),
    );
    let sortie = Sortie::start(&documents);
    sortie.get("localhost", "/").expect(200);
    assert_eq!(bank.asked().len(), 1);
}
