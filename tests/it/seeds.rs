//! The setups of the articles, as they were published: manifests, addresses, paths, commands.
//!
//! Each runs in a machine of its own: nginx is the external service, curl the application, and the
//! kernel redirects what curl sends into sortie. Nothing of the manifests is changed.

use std::path::PathBuf;

use crate::harness::{Authority, Cell, Kind, demanding, fields, seed};

/// The mesh's CA and a workload's identity, where sortie looks for it (T16).
fn mesh_identity(cell: &Cell, mesh: &Authority, account: &str) {
    let workload = mesh.server(&[&format!("spiffe://cluster.local/ns/default/sa/{account}")]);
    cell.put("certs/cert-chain.pem", &workload.chain);
    cell.put("certs/key.pem", &workload.key);
    cell.put("certs/root-cert.pem", &mesh.pem);
}

/// The article's manifests of the external service, and a way to it without the gateway.
fn second_hop(article: &str, without: &str) -> [PathBuf; 3] {
    let folder = seed(article);
    [
        folder.join("service-entry.yaml"),
        folder.join("destination-rules.yaml"),
        seed(&format!("without-gateway/{without}.yaml")),
    ]
}

/// Mesh configuration: REGISTRY_ONLY, and an access log.
const MESH: &str = "mesh-registry-only";

const WELCOME: &str = "<title>Welcome to nginx!</title>";

#[test]
fn seed_000_common_ca_plain_http_becomes_mutual_tls_with_the_mesh_identity() {
    let Some(cell) = Cell::new(&["10.1.1.4"]) else {
        return;
    };
    // The mesh's CA is an intermediate of the enterprise's root, which the service trusts.
    let root = Authority::new("enterprise root");
    let mesh = root.intermediate("istio intermediate");
    mesh_identity(&cell, &mesh, "curl");
    cell.put("certs/root-cert.pem", &root.pem);
    let server = root.server(&["nginx-mtls.common-ca.local"]);
    let block = demanding(&cell, "10.1.1.4:8443", "common", &server, &root.pem);
    let _nginx = cell.nginx(&block, "10.1.1.4:8443");
    cell.redirect(Some("80,8443"), 15001);
    let _sortie = cell.sortie(&[&seed("000-common-ca"), &seed(MESH)], &[]);
    let (code, text) = cell.curl(&[
        "--resolve",
        "nginx-mtls.common-ca.local:80:10.1.1.4",
        "http://nginx-mtls.common-ca.local",
    ]);
    assert_eq!((code, text.trim()), (0, WELCOME), "{}", cell.said());
    let seen = cell.saw(1);
    let seen = fields(&seen[0]);
    assert_eq!(
        seen[0], "SUCCESS",
        "the client chain with its intermediate was accepted"
    );
    assert_eq!(seen[2], "outbound_.80_._.nginx-mtls.common-ca.local", "T5");
    assert_eq!(
        seen[3], "http/1.1",
        "T11: what nginx chose of istio-http/1.1, istio, http/1.1"
    );
    assert_eq!(seen[6], "nginx-mtls.common-ca.local");
}

#[test]
fn seed_000_common_ca_the_applications_own_tls_passes_untouched_and_fails_as_published() {
    let Some(cell) = Cell::new(&["10.1.1.4"]) else {
        return;
    };
    let root = Authority::new("enterprise root");
    mesh_identity(&cell, &root, "curl");
    let server = root.server(&["nginx-mtls.common-ca.local"]);
    let block = demanding(&cell, "10.1.1.4:8443", "common", &server, &root.pem);
    let _nginx = cell.nginx(&block, "10.1.1.4:8443");
    cell.redirect(Some("80,8443"), 15001);
    let client = root.client("the application itself");
    cell.put("app/ca.crt", &root.pem);
    cell.put("app/tls.crt", &client.chain);
    cell.put("app/tls.key", &client.key);
    for (nth, folder) in ["000-common-ca-before", "000-common-ca"].iter().enumerate() {
        let _sortie = cell.sortie(&[&seed(folder), &seed(MESH)], &[]);
        let known = ["--resolve", "nginx-mtls.common-ca.local:8443:10.1.1.4"];
        let url = "https://nginx-mtls.common-ca.local:8443";
        // The article's command: curl does not know the enterprise's CA, and has no certificate.
        let (code, text) = cell.curl(&[&known[..], &[url]].concat());
        assert!([35, 60].contains(&code), "{code} {text}");
        // With the CA the server's own refusal is what arrives.
        let ca = ["--cacert", "/etc/app/ca.crt"];
        let (_, text) = cell.curl(&[&known[..], &ca, &[url]].concat());
        assert!(
            text.contains("No required SSL certificate was sent"),
            "{text}"
        );
        let pair = ["--cert", "/etc/app/tls.crt", "--key", "/etc/app/tls.key"];
        let (code, text) = cell.curl(&[&known[..], &ca, &pair, &[url]].concat());
        assert_eq!((code, text.trim()), (0, WELCOME), "{}", cell.said());
        // Two requests each time: without a certificate and with one.
        let seen = cell.saw(2 * (nth + 1));
        let last = fields(seen.last().unwrap());
        assert_eq!(
            last[1], "CN=the application itself",
            "its own certificate, not ours"
        );
        assert_eq!(last[2], "nginx-mtls.common-ca.local", "its own SNI");
    }
}

#[test]
fn seed_000_under_registry_only_a_host_without_a_service_entry_is_refused() {
    let Some(cell) = Cell::new(&["10.1.1.4"]) else {
        return;
    };
    let root = Authority::new("enterprise root");
    mesh_identity(&cell, &root, "curl");
    let server = root.server(&["nginx-mtls.common-ca.local"]);
    let block = demanding(&cell, "10.1.1.4:8443", "common", &server, &root.pem);
    let _nginx = cell.nginx(&block, "10.1.1.4:8443");
    cell.redirect(None, 15001);
    let _sortie = cell.sortie(&[&seed("000-common-ca"), &seed(MESH)], &[]);
    // O2: a known HTTP port.
    let (code, text) = cell.curl(&[
        "--resolve",
        "unknown.example:80:10.1.1.4",
        "--write-out",
        "%{http_code}",
        "http://unknown.example",
    ]);
    assert_eq!(code, 0);
    assert!(text.ends_with("502"), "{text}");
    // O3: TLS for a name that nobody declared.
    let (code, text) = cell.curl(&[
        "--resolve",
        "unknown.example:8443:10.1.1.4",
        "https://unknown.example:8443",
    ]);
    assert_eq!(code, 35, "{text}");
    // O3: a port that nobody declared.
    let (code, text) = cell.curl(&["http://10.1.1.4:8081"]);
    assert!([52, 56].contains(&code), "{code} {text}");
    assert_eq!(cell.seen().len(), 0, "nothing left");
    cell.logged("BlackHoleCluster");
}

#[test]
fn seed_000_egress_gateway_hop_1_goes_to_the_gateway_with_the_mesh_identity_and_the_hosts_sni() {
    let Some(cell) = Cell::new(&["10.1.1.4", "10.96.0.7"]) else {
        return;
    };
    let mesh = Authority::new("istio ca");
    mesh_identity(&cell, &mesh, "curl");
    // The gateway's Service exists in the cluster, and in none of the manifests.
    cell.name(
        "10.96.0.7",
        "istio-egressgateway.istio-system.svc.cluster.local",
    );
    let account = "spiffe://cluster.local/ns/istio-system/sa/istio-egressgateway-service-account";
    let gateway = mesh.server(&[account]);
    let block = demanding(&cell, "10.96.0.7:443", "gateway", &gateway, &mesh.pem);
    let _nginx = cell.nginx(&block, "10.96.0.7:443");
    cell.redirect(Some("80"), 15001);
    let _sortie = cell.sortie(&[&seed("000-egress-gateway"), &seed(MESH)], &[]);
    let (code, text) = cell.curl(&[
        "--resolve",
        "nginx-mtls.diff-ca.local:80:10.1.1.4",
        "http://nginx-mtls.diff-ca.local",
    ]);
    assert_eq!((code, text.trim()), (0, WELCOME), "{}", cell.said());
    let seen = cell.saw(1);
    let seen = fields(&seen[0]);
    assert_eq!((seen[0], seen[2]), ("SUCCESS", "nginx-mtls.diff-ca.local"));
    assert_eq!(seen[6], "nginx-mtls.diff-ca.local", "the Host travels on");
    assert!(
        cell.said().contains("IST0101"),
        "the gateway is declared nowhere: {}",
        cell.said()
    );
}

#[test]
fn seed_000_unique_certificate_is_mutual_tls_with_the_mounted_files() {
    let Some(cell) = Cell::new(&["10.1.1.4"]) else {
        return;
    };
    let enterprise = Authority::new("enterprise ca");
    let client = enterprise.client("app-client");
    cell.put("certs/tls.crt", &client.chain);
    cell.put("certs/tls.key", &client.key);
    cell.put("certs/ca.crt", &enterprise.pem);
    let server = enterprise.server(&["nginx-mtls.diff-ca.local"]);
    let block = demanding(&cell, "10.1.1.4:9443", "diff", &server, &enterprise.pem);
    let _nginx = cell.nginx(&block, "10.1.1.4:9443");
    cell.redirect(Some("80"), 15001);
    let _sortie = cell.sortie(&[&seed("000-unique-certificate"), &seed(MESH)], &[]);
    let command = [
        "--resolve",
        "nginx-mtls.diff-ca.local:80:10.1.1.4",
        "http://nginx-mtls.diff-ca.local",
    ];
    let (code, text) = cell.curl(&command);
    assert_eq!((code, text.trim()), (0, WELCOME), "{}", cell.said());
    let seen = cell.saw(1);
    let seen = fields(&seen[0]);
    assert_eq!(seen[1], "CN=app-client");
    assert_eq!(
        seen[2], "nginx-mtls.diff-ca.local",
        "T6: SNI is the host, which no manifest says"
    );
    assert_eq!(seen[3], "-", "T11: MUTUAL offers no ALPN for HTTP/1");
    // The table that the article ends with.
    let output = cell
        .command(crate::harness::PROGRAM)
        .arg("certs")
        .output()
        .unwrap();
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    for row in [
        "file-cert:/etc/certs/tls.crt~/etc/certs/tls.key",
        "file-root:/etc/certs/ca.crt",
    ] {
        assert!(table.contains(row), "{row} in {table}");
    }
}

#[test]
fn seed_000_unique_certificate_a_server_with_another_name_is_not_spoken_to() {
    let Some(cell) = Cell::new(&["10.1.1.4"]) else {
        return;
    };
    let enterprise = Authority::new("enterprise ca");
    let client = enterprise.client("app-client");
    cell.put("certs/tls.crt", &client.chain);
    cell.put("certs/tls.key", &client.key);
    cell.put("certs/ca.crt", &enterprise.pem);
    // T7 c: no sni is set, so the certificate must have the request's host.
    let server = enterprise.server(&["other.local"]);
    let block = demanding(&cell, "10.1.1.4:9443", "diff", &server, &enterprise.pem);
    let _nginx = cell.nginx(&block, "10.1.1.4:9443");
    cell.redirect(Some("80"), 15001);
    let _sortie = cell.sortie(&[&seed("000-unique-certificate")], &[]);
    let (_, text) = cell.curl(&[
        "--resolve",
        "nginx-mtls.diff-ca.local:80:10.1.1.4",
        "--write-out",
        "%{http_code}",
        "http://nginx-mtls.diff-ca.local",
    ]);
    assert!(
        text.ends_with("503") && text.contains("other.local"),
        "{text}"
    );
    assert_eq!(cell.seen().len(), 0);
}

#[test]
fn seed_001_cluster_a_rsa_certificates_subset_and_dns() {
    let Some(cell) = Cell::new(&["10.2.0.1"]) else {
        return;
    };
    // `step certificate create ... --kty RSA`, one root for both clusters.
    let root = Authority::of(Kind::Rsa, "a-b-root-ca");
    let client = root.leaf("cluster-a-client", &["helloworld.zufar.io"], |_| {});
    let server = root.leaf("cluster-b-server", &["helloworld.zufar.io"], |_| {});
    cell.put("cluster-a-client/cluster-a-client-cert.pem", &client.chain);
    cell.put("cluster-a-client/cluster-a-client-key.pem", &client.key);
    cell.put("cluster-a-client/root-cert.pem", &root.pem);
    cell.name("10.2.0.1", "helloworld.zufar.io");
    let block = demanding(&cell, "10.2.0.1:443", "b", &server, &root.pem);
    let _nginx = cell.nginx(&block, "10.2.0.1:443");
    cell.redirect(Some("80,443"), 15001);
    let log = ["--access-log", "access.log"];
    let more = [&log[..], &["--namespace", "client"]].concat();
    let _sortie = cell.sortie(&[&seed("001-cluster-a")], &more);
    let (code, text) = cell.curl(&["http://helloworld.zufar.io"]);
    assert_eq!((code, text.trim()), (0, WELCOME), "{}", cell.said());
    let seen = cell.saw(1);
    let seen = fields(&seen[0]);
    assert_eq!((seen[0], seen[1]), ("SUCCESS", "CN=cluster-a-client"));
    assert_eq!((seen[2], seen[3]), ("helloworld.zufar.io", "-"));
    cell.logged("outbound|443|tls-origination|helloworld.zufar.io");
}

#[test]
fn seed_001_without_its_mounted_files_the_request_fails_and_heals() {
    let Some(cell) = Cell::new(&["10.2.0.1"]) else {
        return;
    };
    let root = Authority::of(Kind::Rsa, "a-b-root-ca");
    let client = root.leaf("cluster-a-client", &["helloworld.zufar.io"], |_| {});
    let server = root.leaf("cluster-b-server", &["helloworld.zufar.io"], |_| {});
    cell.name("10.2.0.1", "helloworld.zufar.io");
    let block = demanding(&cell, "10.2.0.1:443", "b", &server, &root.pem);
    let _nginx = cell.nginx(&block, "10.2.0.1:443");
    cell.redirect(Some("80"), 15001);
    let _sortie = cell.sortie(&[&seed("001-cluster-a")], &["--namespace", "client"]);
    let command = ["--write-out", "%{http_code}", "http://helloworld.zufar.io"];
    let (_, text) = cell.curl(&command);
    assert!(text.ends_with("503"), "{text}");
    assert!(
        text.contains("/etc/cluster-a-client/cluster-a-client-cert.pem"),
        "{text}"
    );
    cell.put("cluster-a-client/root-cert.pem", &root.pem);
    cell.put("cluster-a-client/cluster-a-client-key.pem", &client.key);
    cell.put("cluster-a-client/cluster-a-client-cert.pem", &client.chain);
    crate::harness::eventually("the mounted files are taken up", || {
        cell.curl(&command).1.ends_with("200").then_some(())
    });
    assert_eq!(cell.saw(1).len(), 1, "nothing went out before");
}

#[test]
fn seed_002_hop_1_goes_to_the_egress_gateway() {
    let Some(cell) = Cell::new(&["10.96.0.7", "10.5.0.1"]) else {
        return;
    };
    let mesh = Authority::new("istio ca");
    mesh_identity(&cell, &mesh, "sleep");
    cell.name(
        "10.96.0.7",
        "istio-egressgateway.istio-system.svc.cluster.local",
    );
    cell.name("10.5.0.1", "external-service.apps.e5dd.opentlc.com");
    let gateway = mesh.server(&["spiffe://cluster.local/ns/istio-system/sa/istio-egressgateway"]);
    let block = demanding(&cell, "10.96.0.7:443", "gateway", &gateway, &mesh.pem);
    let _nginx = cell.nginx(&block, "10.96.0.7:443");
    cell.redirect(Some("80"), 15001);
    let _sortie = cell.sortie(&[&seed("002-openshift"), &seed(MESH)], &[]);
    let (code, text) = cell.curl(&["http://external-service.apps.e5dd.opentlc.com"]);
    assert_eq!((code, text.trim()), (0, WELCOME), "{}", cell.said());
    let seen = cell.saw(1);
    let seen = fields(&seen[0]);
    assert_eq!(
        (seen[0], seen[2]),
        ("SUCCESS", "external-service.apps.e5dd.opentlc.com")
    );
}

#[test]
fn seed_000_hop_2_is_mutual_tls_with_the_secret_and_an_unchecked_name_that_is_said() {
    let Some(cell) = Cell::new(&["10.1.1.4"]) else {
        return;
    };
    let enterprise = Authority::new("enterprise root");
    // `kubectl -n istio-system create secret generic nginx-mtls-external --from-file=tls.key=...`
    let client = enterprise.client("the cluster");
    let secret = "secrets/istio-system/nginx-mtls-external";
    cell.put(&format!("{secret}/tls.crt"), &client.chain);
    cell.put(&format!("{secret}/tls.key"), &client.key);
    cell.put(&format!("{secret}/ca.crt"), &enterprise.pem);
    // T7 d: the sni is explicit, and so another name passes in Istio.
    let server = enterprise.server(&["other.local"]);
    let block = demanding(&cell, "10.1.1.4:9443", "diff", &server, &enterprise.pem);
    let _nginx = cell.nginx(&block, "10.1.1.4:9443");
    cell.redirect(Some("80"), 15001);
    // As the gateway sees it: its namespace is that of the Secret (S2).
    let hop = second_hop("000-egress-gateway", "000");
    let hop = hop.each_ref().map(PathBuf::as_path);
    let gateway = [
        "--namespace",
        "istio-system",
        "--default-namespace",
        "default",
    ];
    let more = [&gateway[..], &["--credentials", "/etc/secrets"]].concat();
    let sortie = cell.sortie(&hop, &more);
    let command = [
        "--resolve",
        "nginx-mtls.diff-ca.local:80:10.1.1.4",
        "--write-out",
        "%{http_code}",
        "http://nginx-mtls.diff-ca.local",
    ];
    let (_, text) = cell.curl(&command);
    assert!(text.ends_with("200"), "{text} {}", cell.said());
    let seen = cell.saw(1);
    let seen = fields(&seen[0]);
    assert_eq!(
        (seen[1], seen[2]),
        ("CN=the cluster", "nginx-mtls.diff-ca.local")
    );
    assert!(
        cell.said().contains("other.local"),
        "it is logged: {}",
        cell.said()
    );
    let (_, metrics) = cell.admin("/metrics");
    let counted = metrics.lines().any(|line| {
        line.starts_with("sortie_upstream_name_unchecked_total") && line.ends_with(" 1")
    });
    assert!(counted, "it is counted");
    drop(sortie);
    // And where it is asked for, it is checked.
    let more = [&more[..], &["--name-check", "enforce"]].concat();
    let _sortie = cell.sortie(&hop, &more);
    let (_, text) = cell.curl(&command);
    assert!(
        text.ends_with("503") && text.contains("other.local"),
        "{text}"
    );
}

#[test]
fn seed_002_hop_2_an_intermediate_in_the_bundle_and_an_rsa_chain() {
    let Some(cell) = Cell::new(&["10.5.0.1"]) else {
        return;
    };
    // mtls-go-example: 1_root signs 2_intermediate, which signs the server and the client.
    let root = Authority::of(Kind::Rsa, "1_root");
    let intermediate = root.intermediate("2_intermediate");
    let bundle = format!("{}{}", intermediate.pem, root.pem);
    let client = intermediate.client("4_client");
    cell.put("nginx-client-certs/tls.crt", &client.chain);
    cell.put("nginx-client-certs/tls.key", &client.key);
    cell.put("nginx-ca-certs/ca-chain.cert.pem", &bundle);
    cell.name("10.5.0.1", "external-service.apps.e5dd.opentlc.com");
    let server = intermediate.server(&["external-service.apps.e5dd.opentlc.com"]);
    let block = demanding(&cell, "10.5.0.1:443", "nginx", &server, &bundle);
    let _nginx = cell.nginx(&block, "10.5.0.1:443");
    cell.redirect(Some("80"), 15001);
    let hop = second_hop("002-openshift", "002");
    let hop = hop.each_ref().map(PathBuf::as_path);
    let _sortie = cell.sortie(&hop, &[]);
    let (code, text) = cell.curl(&["http://external-service.apps.e5dd.opentlc.com"]);
    assert_eq!((code, text.trim()), (0, WELCOME), "{}", cell.said());
    let seen = cell.saw(1);
    let seen = fields(&seen[0]);
    assert_eq!((seen[0], seen[1]), ("SUCCESS", "CN=4_client"));
    assert_eq!(seen[2], "external-service.apps.e5dd.opentlc.com");
}

#[test]
fn seed_001s_secret_of_cert_key_and_cacert_is_a_clients_credential_too() {
    let Some(cell) = Cell::new(&["10.1.1.4"]) else {
        return;
    };
    // `--from-file=key=... --from-file=cert=... --from-file=cacert=...`, with RSA keys.
    let root = Authority::of(Kind::Rsa, "a-b-root-ca");
    let client = root.client("the cluster");
    let secret = "secrets/nginx-mtls-external";
    cell.put(&format!("{secret}/cert"), &client.chain);
    cell.put(&format!("{secret}/key"), &client.key);
    cell.put(&format!("{secret}/cacert"), &root.pem);
    let server = root.server(&["nginx-mtls.diff-ca.local"]);
    let block = demanding(&cell, "10.1.1.4:9443", "diff", &server, &root.pem);
    let _nginx = cell.nginx(&block, "10.1.1.4:9443");
    cell.redirect(Some("80"), 15001);
    let hop = second_hop("000-egress-gateway", "000");
    let hop = hop.each_ref().map(PathBuf::as_path);
    let _sortie = cell.sortie(&hop, &["--credentials", "/etc/secrets"]);
    let (code, text) = cell.curl(&[
        "--resolve",
        "nginx-mtls.diff-ca.local:80:10.1.1.4",
        "http://nginx-mtls.diff-ca.local",
    ]);
    assert_eq!((code, text.trim()), (0, WELCOME), "{}", cell.said());
    let seen = cell.saw(1);
    let seen = fields(&seen[0]);
    assert_eq!((seen[0], seen[1]), ("SUCCESS", "CN=the cluster"));
}
