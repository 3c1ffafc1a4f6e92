//! The articles' setups from end to end: application, sidecar, gateway, external service, each in a
//! machine of its own, and nothing between them but sortie.
//!
//! The manifests are those of the articles, unchanged, and the same folder for both proxies. Each
//! hop is judged by what its far end saw: nginx's log, the gateway's log, and the
//! X-Forwarded-Client-Cert that the gateway writes of the client that it met.

use std::path::Path;
use std::sync::LazyLock;

use crate::harness::{
    Authority, Cell, Hub, Identity, Inmate, Kind, Mesh, closing, demanding, eventually, fields,
    seed,
};

/// Mesh configuration: REGISTRY_ONLY, and an access log.
const MESH: &str = "mesh-registry-only";
const POD: &str = "10.0.1.1";
const GATEWAY: &str = "10.96.0.7";
const GATEWAY_NAME: &str = "istio-egressgateway.istio-system.svc.cluster.local";
const GATEWAY_ACCOUNT: &str = "istio-egressgateway-service-account";

/// Who an egress gateway is, when its documents lie beside those of `default`.
const EGRESS: &[&str] = &[
    "--role",
    "gateway",
    "--labels",
    "istio=egressgateway",
    "--namespace",
    "istio-system",
    "--default-namespace",
    "default",
    "--credentials",
    "/etc/secrets",
];

/// An application and its sidecar, an egress gateway, and what is outside of the mesh.
struct Egress {
    pod: Cell,
    gateway: Cell,
    outside: Cell,
    mesh: Mesh,
    _hub: Hub,
}

impl Egress {
    /// With the external service at this address.
    fn new(outside: &str) -> Option<Egress> {
        let hub = Hub::new()?;
        let egress = Egress {
            pod: Cell::on(&hub, &[POD])?,
            gateway: Cell::on(&hub, &[GATEWAY])?,
            outside: Cell::on(&hub, &[outside])?,
            mesh: Mesh::new(),
            _hub: hub,
        };
        // The gateway's Service exists in the cluster, and in none of the manifests.
        egress.pod.name(GATEWAY, GATEWAY_NAME);
        egress.pod.redirect(Some("80"), 15001);
        egress
            .mesh
            .employ(&egress.gateway, "istio-system", GATEWAY_ACCOUNT);
        Some(egress)
    }

    /// Both proxies, with the article's folder.
    #[track_caller]
    fn start(&self, article: &str) -> (Inmate, Inmate) {
        let (article, mesh) = (seed(article), seed(MESH));
        let folders: [&Path; 2] = [&article, &mesh];
        let gateway = self.gateway.sortie(&folders, EGRESS);
        (self.pod.sortie(&folders, &[]), gateway)
    }

    /// A Secret, mounted at the gateway as the kubelet would.
    fn secret(&self, name: &str, files: &[(&str, &str)]) {
        for (key, content) in files {
            let file = format!("secrets/istio-system/{name}/{key}");
            self.gateway.put(&file, content);
        }
    }

    /// What the application gets: the status, and the body.
    fn ask(&self, host: &str, at: &str) -> (u16, String) {
        let known = format!("{host}:80:{at}");
        let url = format!("http://{host}/path?query");
        let options = ["--write-out", "\n%{http_code}", "--resolve", &known, &url];
        let (code, text) = self.pod.curl(&options);
        assert_eq!(code, 0, "{text}");
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    fn said(&self) -> String {
        format!(
            "the sidecar said:\n{}\nthe gateway said:\n{}",
            self.pod.said(),
            self.gateway.said()
        )
    }
}

/// nginx as the external service: it tells what the gateway told it.
fn external(cell: &Cell, address: &str, server: &Identity, clients: &str) -> Inmate {
    let block = demanding(cell, address, "external", server, clients).replace(
        "to nginx!</title>",
        "to nginx!</title>$http_x_forwarded_client_cert",
    );
    cell.nginx(&block, address)
}

const DIFF: &str = "nginx-mtls.diff-ca.local";
const DIFF_AT: &str = "10.1.1.4";

/// Seed 000's external service, its own CA, and the Secret that the article makes of it.
fn diff_ca() -> Option<(Egress, Authority, Inmate)> {
    let egress = Egress::new(DIFF_AT)?;
    let enterprise = Authority::new("enterprise root");
    let server = enterprise.server(&[DIFF]);
    let nginx = external(&egress.outside, "10.1.1.4:9443", &server, &enterprise.pem);
    Some((egress, enterprise, nginx))
}

fn give_secret(egress: &Egress, client: &Identity, ca: &Authority) {
    egress.secret(
        "nginx-mtls-external",
        &[
            ("tls.crt", &client.chain),
            ("tls.key", &client.key),
            ("ca.crt", &ca.pem),
        ],
    );
}

#[test]
fn seed_000_plain_http_goes_by_the_egress_gateway_in_two_hops_of_mutual_tls() {
    let Some((egress, enterprise, _nginx)) = diff_ca() else {
        return;
    };
    egress.mesh.employ(&egress.pod, "default", "curl");
    // The client's certificate comes from an intermediate, which it must send along.
    let intermediate = enterprise.intermediate("enterprise issuing");
    give_secret(&egress, &intermediate.client("the cluster"), &enterprise);
    let _proxies = egress.start("000-egress-gateway");
    let (status, body) = egress.ask(DIFF, DIFF_AT);
    assert_eq!(status, 200, "{body}\n{}", egress.said());
    assert!(body.contains("<title>Welcome to nginx!</title>"), "{body}");
    // Hop 2, as the external service saw it.
    let seen = egress.outside.saw(1);
    let seen = fields(&seen[0]);
    assert_eq!(seen[..2], ["SUCCESS", "CN=the cluster"], "the Secret's");
    assert_eq!(seen[2], DIFF, "the DestinationRule's sni");
    assert_eq!(seen[3], "-", "T11: MUTUAL offers no ALPN for HTTP/1");
    assert_eq!(seen[6..], [DIFF, "GET /path?query HTTP/1.1"]);
    // Hop 1, as the gateway saw it (G12, P15): the sidecar's identity, and the gateway's own.
    assert!(
        body.contains("URI=spiffe://cluster.local/ns/default/sa/curl"),
        "{body}"
    );
    let by = format!("By=spiffe://cluster.local/ns/istio-system/sa/{GATEWAY_ACCOUNT};Hash=");
    assert!(body.contains(&by), "{body}");
    // SNI, the Host, and where it went next.
    let line = egress
        .gateway
        .logged("outbound|9443||nginx-mtls.diff-ca.local");
    assert!(
        line.contains(&format!(" \"{DIFF}\" \"10.1.1.4:9443\" ")),
        "{line}"
    );
    assert!(line.contains(&format!(" {GATEWAY}:443 {POD}:")), "{line}");
    assert!(line.contains(&format!(" {DIFF} ")), "SNI in {line}");
    // And the sidecar's own line says where the first hop ended.
    let line = egress
        .pod
        .logged(&format!("outbound|443|nginx-mtls|{GATEWAY_NAME}"));
    assert!(line.contains(&format!("\"{GATEWAY}:443\"")), "{line}");
}

#[test]
fn seed_000_without_its_secret_the_gateway_answers_503_and_serves_once_it_is_mounted() {
    let Some((egress, enterprise, _nginx)) = diff_ca() else {
        return;
    };
    egress.mesh.employ(&egress.pod, "default", "curl");
    let _proxies = egress.start("000-egress-gateway");
    let (status, body) = egress.ask(DIFF, DIFF_AT);
    assert_eq!(status, 503, "{body}");
    assert!(body.starts_with("no healthy upstream"), "T17: {body}");
    assert!(
        body.contains("istio-system/nginx-mtls-external"),
        "S5: which Secret: {body}"
    );
    assert_eq!(egress.outside.seen().len(), 0, "nothing left the mesh");
    give_secret(&egress, &enterprise.client("the cluster"), &enterprise);
    egress.gateway.reload();
    let (status, body) = egress.ask(DIFF, DIFF_AT);
    assert_eq!(status, 200, "{body}\n{}", egress.said());
}

#[test]
fn seed_000_a_client_certificate_that_the_external_service_does_not_trust_is_its_own_400() {
    let Some((egress, enterprise, _nginx)) = diff_ca() else {
        return;
    };
    egress.mesh.employ(&egress.pod, "default", "curl");
    let stranger = Authority::new("stranger").client("the cluster");
    give_secret(&egress, &stranger, &enterprise);
    let _proxies = egress.start("000-egress-gateway");
    let (status, body) = egress.ask(DIFF, DIFF_AT);
    assert_eq!(status, 400, "{body}");
    assert!(
        body.contains("The SSL certificate error"),
        "nginx's: {body}"
    );
    let seen = egress.outside.saw(1);
    assert!(fields(&seen[0])[0].starts_with("FAILED"), "{seen:?}");
}

#[test]
fn seed_000_a_sidecar_without_an_identity_reaches_nobody() {
    let Some((egress, enterprise, _nginx)) = diff_ca() else {
        return;
    };
    give_secret(&egress, &enterprise.client("the cluster"), &enterprise);
    let _proxies = egress.start("000-egress-gateway");
    let (status, body) = egress.ask(DIFF, DIFF_AT);
    assert_eq!(status, 503, "{body}");
    assert!(body.starts_with("no healthy upstream"), "T17: {body}");
    assert!(body.contains("identity"), "why: {body}");
    assert_eq!(egress.outside.seen().len(), 0);
    assert_eq!(egress.gateway.metric(&["istio_requests_total"]), 0.0);
}

#[test]
fn seed_000_a_sidecar_of_another_mesh_is_not_let_in_by_the_gateway() {
    let Some((egress, enterprise, _nginx)) = diff_ca() else {
        return;
    };
    give_secret(&egress, &enterprise.client("the cluster"), &enterprise);
    // The sidecar would take the gateway's word, and the gateway does not take the sidecar's.
    let other = Mesh::new();
    egress
        .mesh
        .employ_as(&egress.pod, &other.identity("default", "curl"));
    let _proxies = egress.start("000-egress-gateway");
    let (status, body) = egress.ask(DIFF, DIFF_AT);
    assert_eq!(status, 503, "5.6: {body}");
    assert!(body.starts_with("upstream connect error"), "{body}");
    assert_eq!(egress.outside.seen().len(), 0);
    let failures = "sortie_downstream_handshake_failures_total";
    eventually("the failed handshake is counted", || {
        (egress.gateway.metric(&[failures]) > 0.0).then_some(())
    });
    assert!(egress.gateway.said().contains(POD), "{}", egress.said());
}

const OPENSHIFT: &str = "external-service.apps.e5dd.opentlc.com";

#[test]
fn seed_002_the_gateway_speaks_by_files_on_both_sides() {
    let Some(egress) = Egress::new("10.5.0.1") else {
        return;
    };
    egress.mesh.employ(&egress.pod, "default", "sleep");
    // mtls-go-example: 1_root signs 2_intermediate, which signs the server and the client.
    let root = Authority::of(Kind::Rsa, "1_root");
    let intermediate = root.intermediate("2_intermediate");
    let bundle = format!("{}{}", intermediate.pem, root.pem);
    let client = intermediate.client("4_client");
    egress
        .gateway
        .put("nginx-client-certs/tls.crt", &client.chain);
    egress
        .gateway
        .put("nginx-client-certs/tls.key", &client.key);
    egress
        .gateway
        .put("nginx-ca-certs/ca-chain.cert.pem", &bundle);
    egress.pod.name("10.5.0.1", OPENSHIFT);
    egress.gateway.name("10.5.0.1", OPENSHIFT);
    let server = intermediate.server(&[OPENSHIFT]);
    let _nginx = external(&egress.outside, "10.5.0.1:443", &server, &bundle);
    let _proxies = egress.start("002-openshift");
    let (status, body) = egress.ask(OPENSHIFT, "10.5.0.1");
    assert_eq!(status, 200, "{body}\n{}", egress.said());
    let seen = egress.outside.saw(1);
    let seen = fields(&seen[0]);
    assert_eq!(seen[..3], ["SUCCESS", "CN=4_client", OPENSHIFT]);
    // G5, G12: MUTUAL by files met the sidecar.
    assert!(
        body.contains("URI=spiffe://cluster.local/ns/default/sa/sleep"),
        "{body}"
    );
    let line = egress.gateway.logged(&format!("outbound|443||{OPENSHIFT}"));
    assert!(line.contains(&format!(" {GATEWAY}:443 {POD}:")), "{line}");
}

const HELLO: &str = "helloworld.zufar.io";
const INGRESS: &str = "10.2.0.1";

/// What `step certificate create ... --kty RSA` makes, with an issuing CA as step-ca has one.
struct StepCa {
    root: String,
    client: Identity,
    server: Identity,
}

/// Made once: keys of RSA take their time.
static STEP_CA: LazyLock<StepCa> = LazyLock::new(|| {
    let root = Authority::of(Kind::Rsa, "a-b-root-ca");
    let issuing = root.intermediate("a-b-issuing-ca");
    StepCa {
        client: issuing.leaf("cluster-a-client", &[HELLO], |_| {}),
        // As large as some like them.
        server: issuing.large("cluster-b-server", &[HELLO]),
        root: root.pem,
    }
});

/// Cluster A's pod, cluster B's ingress gateway and application, and the CA that both agreed on.
struct Clusters {
    a: Cell,
    gateway: Cell,
    app: Cell,
    _hub: Hub,
}

impl Clusters {
    fn new() -> Option<Clusters> {
        let hub = Hub::new()?;
        let clusters = Clusters {
            a: Cell::on(&hub, &["10.9.0.1"])?,
            gateway: Cell::on(&hub, &[INGRESS])?,
            app: Cell::on(&hub, &["10.2.5.1"])?,
            _hub: hub,
        };
        let StepCa {
            root,
            client,
            server,
        } = &*STEP_CA;
        // `kubectl create -n istio-system secret generic cluster-b-server-cert --from-file=key=...`
        let secret = "secrets/istio-system/cluster-b-server-cert";
        let gateway = &clusters.gateway;
        gateway.put(&format!("{secret}/key"), &server.key);
        gateway.put(&format!("{secret}/cert"), &server.chain);
        gateway.put(&format!("{secret}/cacert"), root);
        gateway.name("10.2.5.1", "helloworld.service.svc.cluster.local");
        clusters.a.name(INGRESS, HELLO);
        for (file, content) in [
            ("cluster-a-client-cert.pem", &client.chain),
            ("cluster-a-client-key.pem", &client.key),
            ("root-cert.pem", root),
        ] {
            clusters.a.put(&format!("cluster-a-client/{file}"), content);
        }
        Some(clusters)
    }

    #[track_caller]
    fn start_b(&self) -> (Inmate, Inmate) {
        let app = "server { listen 10.2.5.1:5000; location / { return 200 \
                   'Hello version: v1, $http_host $http_x_forwarded_proto\\n'; } }";
        let app = self.app.nginx(app, "10.2.5.1:5000");
        let ingress = [
            ["--role", "gateway"],
            ["--labels", "istio=ingressgateway"],
            ["--namespace", "istio-system"],
            ["--credentials", "/etc/secrets"],
            ["--access-log", "access.log"],
        ];
        let gateway = self
            .gateway
            .sortie(&[&seed("001-cluster-b")], &ingress.concat());
        (app, gateway)
    }

    /// curl with the files of cluster A, and with its certificate where it is to show one.
    fn curl(&self, with_certificate: bool, more: &[&str]) -> (i32, String) {
        let at = "/etc/cluster-a-client";
        let ca = format!("{at}/root-cert.pem");
        let cert = format!("{at}/cluster-a-client-cert.pem");
        let key = format!("{at}/cluster-a-client-key.pem");
        let mut all = vec!["--cacert", &ca, "--write-out", "%{http_code}"];
        if with_certificate {
            all.extend(["--cert", &cert, "--key", &key]);
        }
        self.a.curl(&[&all[..], more].concat())
    }
}

#[test]
fn seed_001_two_meshes_that_share_a_third_root_ca() {
    let Some(clusters) = Clusters::new() else {
        return;
    };
    let _b = clusters.start_b();
    clusters.a.redirect(Some("80"), 15001);
    let _a = clusters
        .a
        .sortie(&[&seed("001-cluster-a")], &["--namespace", "client"]);
    let (code, text) = clusters.a.curl(&["http://helloworld.zufar.io/hello"]);
    assert_eq!(
        (code, text.trim()),
        (0, "Hello version: v1, helloworld.zufar.io https"),
        "{}\n{}",
        clusters.a.said(),
        clusters.gateway.said()
    );
    let seen = clusters.app.saw(1);
    assert_eq!(
        fields(&seen[0])[7],
        "GET /hello HTTP/1.1",
        "plain to the app"
    );
    let line = clusters
        .gateway
        .logged("helloworld.service.svc.cluster.local");
    assert!(line.contains(&format!(" {HELLO} ")), "T6: its SNI: {line}");
}

#[test]
fn seed_001_any_client_with_a_certificate_is_let_in_by_any_name_or_none() {
    let Some(clusters) = Clusters::new() else {
        return;
    };
    let _b = clusters.start_b();
    let url = "https://helloworld.zufar.io/";
    for version in ["1.2", "1.3"] {
        let (code, text) = clusters.curl(true, &["--tls-max", version, url]);
        assert_eq!((code, &text[text.len() - 3..]), (0, "200"), "{text}");
    }
    // Istio 1.6 sent no SNI at all (T6): `hosts: "*"` lets it in (G8).
    let at = "/etc/cluster-a-client";
    let (cert, key) = (
        format!("{at}/cluster-a-client-cert.pem"),
        format!("{at}/cluster-a-client-key.pem"),
    );
    let names = [vec!["-noservername"], vec!["-servername", "other.example"]];
    for name in names {
        let pair = ["-cert", &cert, "-cert_chain", &cert, "-key", &key];
        let all = [&pair[..], &name].concat();
        let input = closing(HELLO, "/");
        let Some(told) = clusters.a.s_client("10.2.0.1:443", &all, &input) else {
            return;
        };
        told.says("HTTP/1.1 200").says("Hello version: v1");
        assert_eq!(told.subject(), Some("CN = cluster-b-server"));
    }
}

#[test]
fn seed_001_a_client_without_a_certificate_gets_an_alert_and_port_80_leads_to_https() {
    let Some(clusters) = Clusters::new() else {
        return;
    };
    let _b = clusters.start_b();
    let url = "https://helloworld.zufar.io/";
    // 5.6: under TLS 1.2 the handshake fails, under TLS 1.3 the first read does.
    for (version, expected) in [("1.2", 35), ("1.3", 56)] {
        let (code, text) = clusters.curl(false, &["--tls-max", version, url]);
        assert_eq!(code, expected, "TLS {version}: {text}");
        assert!(text.contains("alert"), "TLS {version}: {text}");
    }
    let input = closing(HELLO, "/");
    if let Some(told) = clusters.a.s_client("10.2.0.1:443", &["-tls1_3"], &input) {
        // certificate_required, RFC 8446 section 6.2.
        assert_eq!(told.alert(), Some(116), "{told:?}");
    }
    assert_eq!(clusters.app.seen().len(), 0, "nobody was served");
    // G10.
    let write = "%{http_code} %{redirect_url} %{exitcode}";
    let url = "http://helloworld.zufar.io/hello?a=b";
    let (_, text) = clusters.a.curl(&["--write-out", write, url]);
    assert_eq!(text, "301 https://helloworld.zufar.io/hello?a=b 0");
}
