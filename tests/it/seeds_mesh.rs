//! The articles on automatic mTLS (003) and on migration (004), as the client's sidecar sees them.
//!
//! nginx stands for the servers: with TLS and a demanded certificate for a workload with a sidecar,
//! without for one that has none. What they are told apart by is what is asserted.

use std::path::PathBuf;

use crate::harness::{Authority, Cell, Inmate, seed};

/// A workload with a sidecar in STRICT mode: TLS alone, and plain HTTP is closed without a word.
fn strict(address: &str) -> String {
    format!(
        "server {{
            listen {address} ssl;
            ssl_certificate /etc/servers/httpbin.crt;
            ssl_certificate_key /etc/servers/httpbin.key;
            ssl_client_certificate /etc/servers/ca.crt;
            ssl_verify_client on;
            ssl_verify_depth 3;
            error_page 497 @close;
            location @close {{ return 444; }}
            location / {{ return 200 'mTLS $ssl_client_verify'; }}
        }}"
    )
}

/// A workload without a sidecar.
fn plain(address: &str) -> String {
    format!("server {{ listen {address}; location / {{ return 200 'plaintext'; }} }}")
}

/// Mesh identities on both sides.
fn identities(cell: &Cell, namespace: &str, account: &str) -> Authority {
    let mesh = Authority::new("istio ca");
    let client = mesh.server(&[&format!("spiffe://cluster.local/ns/{namespace}/sa/sleep")]);
    cell.put("certs/cert-chain.pem", &client.chain);
    cell.put("certs/key.pem", &client.key);
    cell.put("certs/root-cert.pem", &mesh.pem);
    let server = mesh.server(&[&format!(
        "spiffe://cluster.local/ns/{namespace}/sa/{account}"
    )]);
    cell.put("servers/httpbin.crt", &server.chain);
    cell.put("servers/httpbin.key", &server.key);
    cell.put("servers/ca.crt", &mesh.pem);
    mesh
}

/// `curl http://httpbin.NS:8000/headers` from sleep.full: the status, and what the server said.
fn ask(cell: &Cell, namespace: &str) -> (u16, String) {
    let url = format!("http://httpbin.{namespace}:8000/headers");
    let known = format!("httpbin.{namespace}:8000:10.96.3.1");
    let (_, text) = cell.curl(&["--write-out", "\n%{http_code}", "--resolve", &known, &url]);
    let (body, status) = text.rsplit_once('\n').unwrap_or_default();
    (status.parse().unwrap_or_default(), body.to_owned())
}

/// The servers of the three namespaces. `full` says how httpbin.full is served.
fn httpbins(full: fn(&str) -> String) -> Option<(Cell, Inmate)> {
    let cell = Cell::new(&["10.3.1.1", "10.3.2.1", "10.3.2.2", "10.3.3.1"])?;
    identities(&cell, "full", "httpbin");
    let servers = [
        full("10.3.1.1:80"),
        plain("10.3.2.1:80"),
        // httpbin.partial has the same account in another namespace.
        strict("10.3.2.2:80").replace("httpbin.", "partial."),
        plain("10.3.3.1:80"),
    ];
    let mesh = identities(&cell, "full", "httpbin");
    let partial = mesh.server(&["spiffe://cluster.local/ns/partial/sa/httpbin"]);
    cell.put("servers/partial.crt", &partial.chain);
    cell.put("servers/partial.key", &partial.key);
    let nginx = cell.nginx(&servers.join("\n"), "10.3.1.1:80");
    cell.redirect(Some("8000"), 15001);
    Some((cell, nginx))
}

const FULL: &[&str] = &["--namespace", "full"];

#[test]
fn seed_003_permissive_mtls_goes_to_workloads_with_a_sidecar_and_plaintext_to_the_others() {
    let Some((cell, _nginx)) = httpbins(strict) else {
        return;
    };
    let _sortie = cell.sortie(&[&seed("003-automatic-mtls")], FULL);
    assert_eq!(
        ask(&cell, "full"),
        (200, "mTLS SUCCESS".into()),
        "{}",
        cell.said()
    );
    assert_eq!(ask(&cell, "legacy"), (200, "plaintext".into()));
    // One upstream mixes both kinds (P4): ten requests meet each.
    let answers: Vec<_> = (0..10).map(|_| ask(&cell, "partial")).collect();
    assert!(
        answers.iter().all(|(status, _)| *status == 200),
        "{answers:?}"
    );
    for kind in ["mTLS SUCCESS", "plaintext"] {
        assert!(
            answers.iter().any(|(_, body)| body == kind),
            "{kind} in {answers:?}"
        );
    }
}

#[test]
fn seed_003_strict_changes_nothing_for_a_client_with_a_sidecar() {
    let Some((cell, _nginx)) = httpbins(strict) else {
        return;
    };
    let folders = [seed("003-automatic-mtls"), seed("003-strict")];
    let _sortie = cell.sortie(&[&folders[0], &folders[1]], FULL);
    assert_eq!(
        ask(&cell, "full"),
        (200, "mTLS SUCCESS".into()),
        "{}",
        cell.said()
    );
    assert_eq!(ask(&cell, "legacy"), (200, "plaintext".into()));
}

#[test]
fn seed_003_a_policy_without_peers_disables_and_the_client_speaks_plaintext() {
    let Some((cell, _nginx)) = httpbins(plain) else {
        return;
    };
    let folders = [seed("003-automatic-mtls"), seed("003-disabled")];
    let _sortie = cell.sortie(&[&folders[0], &folders[1]], FULL);
    assert_eq!(
        ask(&cell, "full"),
        (200, "plaintext".into()),
        "{}",
        cell.said()
    );
}

#[test]
fn seed_003_an_explicit_destination_rule_overrides_and_fails_against_plaintext() {
    let Some((cell, _nginx)) = httpbins(plain) else {
        return;
    };
    let folders = ["003-automatic-mtls", "003-disabled", "003-override"].map(seed);
    let folders: Vec<_> = folders.iter().map(PathBuf::as_path).collect();
    let _sortie = cell.sortie(&folders, FULL);
    let (status, body) = ask(&cell, "full");
    assert_eq!(status, 503, "{body}");
    let seen: Vec<_> = cell.seen();
    assert!(
        seen.iter().all(|line| !line.contains("/headers")),
        "no request left: {seen:?}"
    );
    assert_eq!(
        ask(&cell, "legacy"),
        (200, "plaintext".into()),
        "the others go on"
    );
}

#[test]
fn seed_003_a_server_with_another_identity_is_not_spoken_to() {
    let Some((cell, _nginx)) = httpbins(strict) else {
        return;
    };
    // T12: the pods of httpbin.full run as `httpbin`; this certificate is somebody else's.
    cell.put("certs/root-cert.pem", "");
    identities(&cell, "full", "thief");
    drop(_nginx);
    let _nginx = cell.nginx(&strict("10.3.1.1:80"), "10.3.1.1:80");
    let _sortie = cell.sortie(&[&seed("003-automatic-mtls")], FULL);
    let (status, body) = ask(&cell, "full");
    assert_eq!(status, 503, "{body}");
    assert!(
        body.contains("spiffe://cluster.local/ns/full/sa/httpbin"),
        "expected: {body}"
    );
    assert!(
        body.contains("spiffe://cluster.local/ns/full/sa/thief"),
        "presented: {body}"
    );
}

fn preference(cell: &Cell) -> (u16, String) {
    let known = "preference:8080:10.96.4.1";
    let arguments = ["--write-out", "\n%{http_code}", "--resolve", known];
    let (_, text) = cell.curl(&[&arguments[..], &["http://preference:8080"]].concat());
    let (body, status) = text.rsplit_once('\n').unwrap_or_default();
    (status.parse().unwrap_or_default(), body.to_owned())
}

#[test]
fn seed_004_a_strict_service_answers_the_customer_once_a_destination_rule_says_istio_mutual() {
    let Some(cell) = Cell::new(&["10.4.0.1"]) else {
        return;
    };
    identities(&cell, "tutorial", "default");
    let _nginx = cell.nginx(&strict("10.4.0.1:8080"), "10.4.0.1:8080");
    cell.redirect(Some("8080"), 15001);
    let base = seed("004-migration");
    let tutorial: &[&str] = &["--namespace", "tutorial"];
    // The customer "tries to send traffic, but does not know yet to use mTLS": automatic mTLS is off.
    let before = seed("004-without-automatic-mtls");
    let sortie = cell.sortie(&[&base, &seed("004-strict"), &before], tutorial);
    let (status, body) = preference(&cell);
    assert_eq!(status, 503, "{body}");
    assert!(
        body.starts_with("upstream connect error or disconnect/reset before headers"),
        "5.6: {body}"
    );
    drop(sortie);
    for policy in ["004-strict", "004-permissive"] {
        let folders = [base.clone(), seed(policy), seed("004-rule"), before.clone()];
        let folders: Vec<_> = folders.iter().map(PathBuf::as_path).collect();
        let sortie = cell.sortie(&folders, tutorial);
        assert_eq!(
            preference(&cell),
            (200, "mTLS SUCCESS".into()),
            "{}",
            cell.said()
        );
        drop(sortie);
    }
    // With it, STRICT alone is enough.
    let _sortie = cell.sortie(&[&base, &seed("004-strict")], tutorial);
    assert_eq!(preference(&cell).0, 200, "{}", cell.said());
}
