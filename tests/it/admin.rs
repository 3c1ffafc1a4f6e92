//! The admin port: what it shows, what it changes, and what it never tells.

use crate::harness::{Lab, Wire};

#[test]
fn b11_ready_and_live_answer_with_200() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    sortie.admin_get("/ready").expect(200);
    sortie.admin_get("/live").expect(200);
    sortie.admin_get("/nonsense").expect(404);
}

#[test]
fn metrics_count_requests_by_code_and_tls_by_outcome() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    for path in ["/", "/", "/status/404"] {
        sortie.get("bank.example", path);
    }
    sortie.get("nowhere.example", "/");
    let ok = sortie.metric(&["istio_requests_total", "response_code=\"200\""]);
    let missing = sortie.metric(&["istio_requests_total", "response_code=\"404\""]);
    let refused = sortie.metric(&["istio_requests_total", "response_code=\"502\""]);
    assert_eq!((ok, missing, refused), (2.0, 1.0, 1.0));
    let text = sortie.admin_get("/metrics").expect(200).text();
    for name in [
        "istio_request_duration_milliseconds_bucket",
        "sortie_cert_expiry_timestamp_seconds",
        "sortie_upstream_tls",
    ] {
        assert!(text.contains(name), "{name} is missing:\n{text}");
    }
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\
                   Accept: application/openmetrics-text\r\n\r\n";
    let open = Wire::connect(sortie.admin())
        .send(request)
        .answer()
        .expect(200)
        .text();
    assert!(open.ends_with("# EOF\n"), "{open}");
}

#[test]
fn b12_certs_shows_serial_dates_and_state_and_no_key() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    let text = sortie.admin_get("/certs").expect(200).text();
    let serial: String = lab
        .client
        .serial()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert!(
        text.to_lowercase().contains(&serial),
        "serial {serial} is missing: {text}"
    );
    assert!(
        text.contains("ACTIVE") && text.contains("client.crt"),
        "{text}"
    );
    let routes = sortie.admin_get("/routes").expect(200).text();
    assert!(routes.contains("bank.example"), "{routes}");
    let config = sortie.admin_get("/config").expect(200).text();
    assert!(config.contains("sortie.yaml"), "{config}");
    let secret = lab.client.key.lines().nth(1).unwrap();
    for text in [text, routes, config] {
        assert!(
            !text.contains("PRIVATE KEY") && !text.contains(secret),
            "a key was shown"
        );
    }
}

#[test]
fn b11_what_changes_something_is_done_by_post_alone() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    for path in ["/reload", "/drain", "/quitquitquit"] {
        let answer = sortie.admin_get(path).expect(405);
        assert_eq!(answer.header("allow"), Some("POST"), "{path}");
    }
    sortie.get("bank.example", "/").expect(200);
    sortie.admin_get("/ready").expect(200);
}

#[test]
fn r18_a_reload_says_what_changed() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let config = "rotation: {poll: 1h}\n".to_string() + &lab.config(bank.port());
    let sortie = crate::harness::Sortie::start(&config);
    let nothing = sortie.admin_post("/reload").expect(200).text();
    assert!(!nothing.contains("client.crt"), "{nothing}");
    lab.clients.client("next").write(lab.path(), "client");
    let mut said = String::new();
    // The file watch may have been faster than this request, and then nothing is left to say.
    crate::harness::eventually("the change is taken", || {
        said += &sortie.admin_post("/reload").expect(200).text();
        let taken = sortie.admin_get("/certs").text();
        let fresh = std::fs::read_to_string(lab.path().join("client.crt")).unwrap();
        let fresh = crate::harness::Identity {
            chain: fresh,
            key: lab.client.key.clone(),
        };
        let serial: String = fresh
            .serial()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        taken.to_lowercase().contains(&serial).then_some(())
    });
}

#[test]
fn a_page_of_the_browser_cannot_command_the_admin_port() {
    // DNS rebinding and cross-site posts come with a Host or an Origin that is not ours.
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    let post = "POST /drain HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\
                Content-Length: 0\r\n\r\n";
    let answer = Wire::connect(sortie.admin()).send(post).answer();
    assert_eq!(answer.status, 403, "{answer:?}");
    sortie.admin_get("/ready").expect(200);
}
