//! Istio documents that are refused: what they govern fails, nothing else does, and everybody is told.

use crate::harness::{Origin, Sortie, eventually};

/// A ServiceEntry that has `host` on port 80, behind which is that port of this machine.
fn entry(name: &str, host: &str, port: u16) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\n\
         spec:\n  hosts: ['{host}']\n  resolution: STATIC\n  ports: [{{number: 80, name: http, \
         protocol: HTTP, targetPort: {port}}}]\n  endpoints: [{{address: 127.0.0.1}}]\n"
    )
}

/// A DestinationRule whose `tls` has `more` beside the mode DISABLE.
fn rule(host: &str, more: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: bank}}\n\
         spec:\n  host: '{host}'\n  trafficPolicy: {{tls: {{mode: DISABLE{more}}}}}\n"
    )
}

const TYPO: &str = ", clientCert: x";

#[test]
fn x1_a_start_with_a_refused_object_serves_all_that_it_does_not_govern_and_is_not_ready() {
    let (bank, shop) = (Origin::plain().start(), Origin::plain().start());
    let text = |more: &str| {
        entry("bank", "bank.example", bank.port())
            + &entry("shop", "shop.example", shop.port())
            + &rule("bank.example", more)
    };
    let sortie = Sortie::start(&text(TYPO));
    sortie.get("shop.example", "/").expect(200);
    sortie.get("bank.example", "/").expect(503).says(&[
        "no healthy upstream: ",
        "sortie.yaml:25: DestinationRule default/bank was refused: ",
        "clientCert",
    ]);
    sortie.get("bank.example:8080", "/").expect(503);
    sortie.logged(&["bank.example", "503 UH"]);
    assert_eq!(bank.asked().len(), 0, "what is governed was reached");
    let ready = sortie.admin_get("/ready").expect(503).text();
    let lines: Vec<&str> = ready.lines().collect();
    let [line] = &lines[..] else {
        panic!("one object, one line: {ready}");
    };
    assert!(line.starts_with("refused: "), "{line}");
    assert!(line.contains("sortie.yaml:25: DestinationRule default/bank was refused: "));
    assert!(line.contains("clientCert"), "{line}");
    for page in ["/routes", "/config"] {
        let page = sortie.admin_get(page).expect(200).text();
        assert!(
            page.contains("\"object\": \"DestinationRule default/bank\""),
            "{page}"
        );
    }

    // Once it is whole, it is ready, and the host is served.
    sortie.configure(&text(""));
    eventually("it is ready", || {
        (sortie.admin_get("/ready").status == 200).then_some(())
    });
    sortie.get("bank.example", "/").expect(200);
    let page = sortie.admin_get("/routes").expect(200).text();
    assert!(page.contains("\"refused\": []"), "{page}");
}

#[test]
fn x1_a_refused_wildcard_governs_every_host_below_it() {
    let origin = Origin::plain().start();
    let text = entry("a", "a.shop.example", origin.port())
        + &entry("b", "shop.example", origin.port())
        + &rule("*.shop.example", TYPO);
    let sortie = Sortie::start(&text);
    sortie.get("a.shop.example", "/").expect(503);
    sortie.get("unknown.shop.example", "/").expect(503);
    sortie.get("shop.example", "/").expect(200);
    sortie.get("other.example", "/").expect(502);
}

#[test]
fn x2_a_reload_with_one_refused_object_changes_nothing_and_is_told() {
    let (bank, shop) = (
        Origin::plain().named("bank").start(),
        Origin::plain().start(),
    );
    let good = entry("bank", "bank.example", bank.port());
    let sortie = Sortie::start(&good);
    sortie.get("bank.example", "/").expect(200);
    let failures = sortie.metric(&["sortie_config_reloads_total", "refused"]);

    let more = entry("shop", "shop.example", shop.port());
    sortie.configure(&(good.clone() + &more + &rule("bank.example", TYPO)));
    eventually("the refusal is counted", || {
        (sortie.metric(&["sortie_config_reloads_total", "refused"]) > failures).then_some(())
    });
    sortie.get("bank.example", "/").expect(200);
    sortie.get("shop.example", "/").expect(502);
    assert_eq!(sortie.admin_get("/ready").status, 200, "what runs is whole");
    let page = sortie.admin_get("/config").expect(200).text();
    for word in [
        "stale_since",
        "sortie.yaml:",
        "DestinationRule default/bank",
        "clientCert",
    ] {
        assert!(page.contains(word), "{word}: {page}");
    }
    let said = sortie.admin_post("/reload").expect(422).text();
    assert!(said.contains("DestinationRule default/bank"), "{said}");

    sortie.configure(&(good + &more));
    eventually("the good table is used", || {
        (sortie.get("shop.example", "/").status == 200).then_some(())
    });
    let page = sortie.admin_get("/config").expect(200).text();
    assert!(page.contains("\"diagnostics\": []"), "{page}");
}

#[test]
fn x2_what_was_refused_at_the_start_stays_so_until_a_whole_set_comes() {
    let (bank, shop) = (Origin::plain().start(), Origin::plain().start());
    let entries =
        entry("bank", "bank.example", bank.port()) + &entry("shop", "shop.example", shop.port());
    let sortie = Sortie::start(&(entries.clone() + &rule("bank.example", TYPO)));
    let failures = sortie.metric(&["sortie_config_reloads_total", "refused"]);
    // The mistake moves to another host: what runs is still the first table.
    sortie.configure(&(entries + &rule("shop.example", TYPO)));
    eventually("the refusal is counted", || {
        (sortie.metric(&["sortie_config_reloads_total", "refused"]) > failures).then_some(())
    });
    sortie.get("bank.example", "/").expect(503);
    sortie.get("shop.example", "/").expect(200);
    let ready = sortie.admin_get("/ready").expect(503).text();
    assert!(ready.contains("DestinationRule default/bank"), "{ready}");
}

#[test]
fn x2_a_dangling_reference_refuses_nothing_and_fails_alone() {
    let bank = Origin::plain().start();
    let good = entry("bank", "bank.example", bank.port());
    let sortie = Sortie::start(&good);
    sortie.get("bank.example", "/").expect(200);
    let rules = "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: \
                 v}\nspec:\n  hosts: [bank.example]\n  http:\n  - match: [{uri: {prefix: /new}}]\n    \
                 route: [{destination: {host: nobody.example, port: {number: 80}}}]\n  - route: \
                 [{destination: {host: bank.example}}]\n";
    sortie.configure(&(good + rules));
    eventually("the new table is used", || {
        (sortie.get("bank.example", "/new").status == 503).then_some(())
    });
    sortie.get("bank.example", "/").expect(200);
    sortie.logged(&["/new", "503 NC"]);
    assert_eq!(sortie.admin_get("/ready").status, 200);
    let page = sortie.admin_get("/config").expect(200).text();
    assert!(page.contains("\"diagnostics\": []"), "{page}");
}
