//! The egress side of the five tutorials, and every rule of registry, policies and TLS.

use std::time::{Duration, Instant};

use super::registry::Registry;
use super::testing::{Lab, Told};
use crate::config::options::LoadOptions;
use crate::model::{
    AlpnOffer, Balance, CaSource, HttpChoice, IdentitySource, NameCheck, Resolution, Role, TlsSpec,
};

/// Seed 000, with a common CA.
const COMMON: &str = "
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: nginx-mtls-common-ca}
spec:
  host: nginx-mtls.common-ca.local
  trafficPolicy:
    portLevelSettings:
    - port: {number: 80}
      tls: {mode: ISTIO_MUTUAL}
---
apiVersion: networking.istio.io/v1beta1
kind: ServiceEntry
metadata: {name: nginx-mtls-common-ca}
spec:
  hosts: [nginx-mtls.common-ca.local]
  location: MESH_EXTERNAL
  ports:
  - {number: 80, name: http-port, protocol: HTTP, targetPort: 8443}
  - {number: 8443, name: https, protocol: TLS}
  resolution: STATIC
  endpoints:
  - address: 10.1.1.4
";

/// Seed 000, with an egress gateway.
const GATEWAY: &str = "
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: egressgateway-for-nginx-mtls}
spec:
  host: istio-egressgateway.istio-system.svc.cluster.local
  subsets:
  - name: nginx-mtls
    trafficPolicy:
      portLevelSettings:
      - port: {number: 443}
        tls: {mode: ISTIO_MUTUAL, sni: nginx-mtls.diff-ca.local}
---
apiVersion: networking.istio.io/v1beta1
kind: ServiceEntry
metadata: {name: nginx-mtls-diff-ca}
spec:
  hosts: [nginx-mtls.diff-ca.local]
  location: MESH_EXTERNAL
  ports:
  - {number: 9443, name: https, protocol: TLS}
  resolution: STATIC
  endpoints:
  - address: 10.1.1.4
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: originate-tls-for-nginx-mtls, namespace: istio-system}
spec:
  host: nginx-mtls.diff-ca.local
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    portLevelSettings:
    - port: {number: 9443}
      tls:
        mode: MUTUAL
        credentialName: nginx-mtls-external
        sni: nginx-mtls.diff-ca.local
---
apiVersion: v1
kind: Secret
metadata: {name: nginx-mtls-external, namespace: istio-system}
type: Opaque
stringData: {tls.key: k, tls.crt: c, ca.crt: a}
";

fn gateway() -> Lab {
    Lab::new(GATEWAY).facts(|facts| {
        facts.role = Role::Gateway;
        facts.namespace = "istio-system".into();
        facts.default_namespace = Some("default".into());
    })
}

fn files(tls: &TlsSpec) -> (String, String) {
    let identity = match &tls.credential.identity {
        None => "none".to_owned(),
        Some(IdentitySource::Files(certificate, key)) => {
            format!("{} {}", certificate.display(), key.display())
        }
        Some(IdentitySource::Secret(secret)) => secret.resource.to_string(),
    };
    let ca = match &tls.credential.ca {
        CaSource::System => "system".to_owned(),
        CaSource::File(path) => path.display().to_string(),
        CaSource::Secret(secret) => secret.resource.to_string(),
        CaSource::Nothing => "nothing".to_owned(),
    };
    (identity, ca)
}

fn sni(told: &Told) -> &str {
    let name = told.tls().server_name.as_ref();
    name.map_or("the request's host", |name| name.as_str())
}

#[test]
fn seed_000_the_common_ca_is_istio_mutual_to_the_target_port() {
    let told = Lab::new(COMMON)
        .identity()
        .refer("nginx-mtls.common-ca.local", 80, "");
    assert_eq!(&*told.spec.name, "outbound|80||nginx-mtls.common-ca.local");
    assert_eq!(told.broken(), "not broken");
    assert_eq!(told.endpoints(), ["10.1.1.4:8443"]);
    assert_eq!(told.spec.resolution, Resolution::Static);
    assert_eq!(sni(&told), "outbound_.80_._.nginx-mtls.common-ca.local");
    assert_eq!(told.tls().alpn, AlpnOffer::Istio);
    assert_eq!(told.tls().name_check, NameCheck::Warn);
    assert!(told.tls().verify_chain && told.tls().subject_alt_names.is_empty());
    assert_eq!(
        files(told.tls()),
        ("/id/cert.pem /id/key.pem".into(), "/id/root.pem".into())
    );
    assert_eq!(told.spec.http, HttpChoice::Http1);
    assert_eq!(
        told.reason("tls"),
        "ISTIO_MUTUAL by \"DestinationRule default/nginx-mtls-common-ca\" at t.yaml:10"
    );
    // No service account is known, and so any workload of the mesh may answer.
    assert_eq!((told.said.len(), told.said("SRT0501").len()), (1, 1));
}

#[test]
fn seed_000_the_port_without_a_policy_passes_the_applications_tls_through() {
    let told = Lab::new(COMMON)
        .identity()
        .refer("nginx-mtls.common-ca.local", 8443, "");
    assert!(told.is_plaintext());
    assert_eq!(told.endpoints(), ["10.1.1.4:8443"]);
}

#[test]
fn seed_000_hop_one_is_istio_mutual_to_the_gateway_with_the_servers_sni() {
    let host = "istio-egressgateway.istio-system.svc.cluster.local";
    let told = Lab::new(GATEWAY).identity().refer(host, 443, "nginx-mtls");
    assert_eq!(&*told.spec.name, &format!("outbound|443|nginx-mtls|{host}"));
    assert_eq!(told.endpoints(), [format!("{host}:443")]);
    assert_eq!(told.spec.resolution, Resolution::Dns);
    assert_eq!(sni(&told), "nginx-mtls.diff-ca.local");
    assert_eq!(files(told.tls()).0, "/id/cert.pem /id/key.pem");
    assert_eq!(
        told.said("IST0101"),
        [format!(
            "vs.yaml:99: warning[IST0101] VirtualService default/test: {host} is declared in no \
             document; as it has the form of a Service's name, it is looked up by DNS and dialled \
             at port 443; load the Service's document too, and its ports, labels and accounts are \
             known"
        )]
    );
}

#[test]
fn seed_000_hop_two_takes_the_secret_of_the_proxys_namespace() {
    let told = gateway().refer("nginx-mtls.diff-ca.local", 9443, "");
    assert_eq!(told.broken(), "not broken");
    assert_eq!(told.endpoints(), ["10.1.1.4:9443"]);
    // D5: the port's entry replaces ROUND_ROBIN too, and the default is least request.
    assert_eq!(told.spec.balance, Balance::LeastRequest);
    assert_eq!(sni(&told), "nginx-mtls.diff-ca.local");
    assert_eq!(told.tls().name_check, NameCheck::Warn);
    let secret = "kubernetes://nginx-mtls-external".to_owned();
    assert_eq!(files(told.tls()), (secret.clone(), secret));
    let Some(IdentitySource::Secret(secret)) = &told.tls().credential.identity else {
        panic!("no secret");
    };
    assert_eq!(&*secret.namespace, "istio-system");
    assert!(secret.document.is_some() && secret.ca_document.is_none());
    assert_eq!(
        told.said("SRT0501"),
        [
            "t.yaml:36: warning[SRT0501] DestinationRule istio-system/originate-tls-for-nginx-mtls: \
          sni is set to nginx-mtls.diff-ca.local and no subjectAltNames are, and so the server's \
          certificate may have any name that its CA signs; write subjectAltNames, or run with \
          --name-check enforce"
        ]
    );
    assert_eq!(told.said("IST0101"), Vec::<&str>::new());
}

#[test]
fn seed_000_files_without_sni_check_the_requests_host() {
    let told = Lab::new(
        "
apiVersion: networking.istio.io/v1beta1
kind: ServiceEntry
metadata: {name: nginx-mtls-diff-ca}
spec:
  hosts: [nginx-mtls.diff-ca.local]
  location: MESH_EXTERNAL
  ports: [{number: 9443, name: https, protocol: HTTPS}]
  resolution: STATIC
  endpoints: [{address: 10.1.1.4}]
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: nginx-mtls-diff-ca}
spec:
  host: nginx-mtls.diff-ca.local
  trafficPolicy:
    portLevelSettings:
    - port: {number: 9443}
      tls:
        mode: MUTUAL
        clientCertificate: /etc/certs/tls.crt
        privateKey: /etc/certs/tls.key
        caCertificates: /etc/certs/ca.crt
",
    )
    .refer("nginx-mtls.diff-ca.local", 9443, "");
    assert_eq!(told.endpoints(), ["10.1.1.4:9443"]);
    assert_eq!(sni(&told), "the request's host");
    assert_eq!(told.tls().name_check, NameCheck::Enforce);
    assert_eq!(told.tls().alpn, AlpnOffer::Http2Only);
    let pair = "/etc/certs/tls.crt /etc/certs/tls.key";
    assert_eq!(files(told.tls()), (pair.into(), "/etc/certs/ca.crt".into()));
    // D8: an application that speaks TLS to that port itself is told.
    assert_eq!((told.said.len(), told.said("SRT0505").len()), (1, 1));
}

#[test]
fn seed_001_a_subset_without_labels_originates_to_the_host_itself() {
    let lab = Lab::new(
        "
apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata: {name: helloworld-zufar-io-se, namespace: client}
spec:
  hosts: [helloworld.zufar.io]
  ports: [{number: 443, name: https-port-for-tls-origination, protocol: HTTPS}]
  resolution: DNS
  location: MESH_EXTERNAL
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: helloworld-zufar-io-dr, namespace: client}
spec:
  host: helloworld.zufar.io
  subsets:
  - name: tls-origination
    trafficPolicy:
      portLevelSettings:
      - port: {number: 443}
        tls:
          mode: MUTUAL
          clientCertificate: /etc/cluster-a-client/cluster-a-client-cert.pem
          privateKey: /etc/cluster-a-client/cluster-a-client-key.pem
          caCertificates: /etc/cluster-a-client/root-cert.pem
",
    )
    .facts(|facts| facts.namespace = "client".into());
    let told = lab.refer("helloworld.zufar.io", 443, "tls-origination");
    assert_eq!(
        &*told.spec.name,
        "outbound|443|tls-origination|helloworld.zufar.io"
    );
    assert_eq!(told.endpoints(), ["helloworld.zufar.io:443"]);
    assert_eq!(told.spec.resolution, Resolution::Dns);
    assert_eq!(
        (sni(&told), told.tls().name_check),
        ("the request's host", NameCheck::Enforce)
    );
    assert_eq!(files(told.tls()).1, "/etc/cluster-a-client/root-cert.pem");
    // D7: the policy is the subset's alone.
    assert!(lab.refer("helloworld.zufar.io", 443, "").is_plaintext());
}

#[test]
fn seed_001_cluster_b_reaches_the_service_in_plaintext() {
    let lab = Lab::new(
        "
apiVersion: v1
kind: Service
metadata: {name: helloworld, namespace: service, labels: {app: helloworld}}
spec:
  ports: [{port: 5000, name: http}]
  selector: {app: helloworld}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: helloworld-v1, namespace: service}
spec:
  replicas: 1
  selector: {matchLabels: {app: helloworld}}
  template:
    metadata: {labels: {app: helloworld, version: v1}}
    spec:
      containers: [{name: helloworld, image: x, ports: [{containerPort: 5000}]}]
",
    )
    .facts(|facts| {
        facts.role = Role::Gateway;
        facts.namespace = "istio-system".into();
    });
    let host = "helloworld.service.svc.cluster.local";
    let told = lab.refer(host, 5000, "");
    assert!(told.is_plaintext());
    assert_eq!(told.endpoints(), [format!("{host}:5000")]);
    assert_eq!(
        (told.spec.http, told.spec.resolution),
        (HttpChoice::Http1, Resolution::Dns)
    );
    let told = lab.refer("helloworld.service.svc", 5000, "");
    assert_eq!(told.endpoints(), [format!("{host}:5000")]);
}

#[test]
fn seed_002_both_hops_by_files_with_sni() {
    let lab = Lab::new(
        "
apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata: {name: nginx}
spec:
  hosts: [external-service.apps.e5dd.opentlc.com]
  ports: [{number: 443, name: https, protocol: HTTPS}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: originate-mtls-for-nginx}
spec:
  host: external-service.apps.e5dd.opentlc.com
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    portLevelSettings:
    - port: {number: 443}
      tls:
        mode: MUTUAL
        clientCertificate: /etc/nginx-client-certs/tls.crt
        privateKey: /etc/nginx-client-certs/tls.key
        caCertificates: /etc/nginx-ca-certs/ca-chain.cert.pem
        sni: external-service.apps.e5dd.opentlc.com
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: egressgateway-for-external-service}
spec:
  host: istio-egressgateway.istio-system.svc.cluster.local
  subsets:
  - name: nginx
    trafficPolicy:
      loadBalancer: {simple: ROUND_ROBIN}
      portLevelSettings:
      - port: {number: 443}
        tls: {mode: ISTIO_MUTUAL, sni: external-service.apps.e5dd.opentlc.com}
",
    )
    .identity();
    let told = lab.refer(
        "istio-egressgateway.istio-system.svc.cluster.local",
        443,
        "nginx",
    );
    assert_eq!(sni(&told), "external-service.apps.e5dd.opentlc.com");
    assert_eq!(files(told.tls()).1, "/id/root.pem");
    let told = lab.refer("external-service.apps.e5dd.opentlc.com", 443, "");
    assert_eq!(
        told.endpoints(),
        ["external-service.apps.e5dd.opentlc.com:443"]
    );
    assert_eq!(sni(&told), "external-service.apps.e5dd.opentlc.com");
    assert_eq!(told.tls().name_check, NameCheck::Warn);
    assert_eq!(files(told.tls()).1, "/etc/nginx-ca-certs/ca-chain.cert.pem");
}

/// Seed 003: a Service with one pod that has a sidecar and one that has none.
fn httpbin(more: &str) -> Lab {
    let services = ["full", "partial", "legacy"].map(|ns| {
        format!(
            "
apiVersion: v1
kind: Service
metadata: {{name: httpbin, namespace: {ns}}}
spec:
  ports: [{{name: http, port: 8000, targetPort: 80}}]
  selector: {{app: httpbin}}
---
apiVersion: v1
kind: Endpoints
metadata: {{name: httpbin, namespace: {ns}}}
subsets:
- addresses: [{{ip: 10.0.0.1}}, {{ip: 10.0.0.2}}]
  ports: [{{name: http, port: 80}}]
---
"
        )
    });
    let pod = |namespace: &str, name: &str, ip: &str, more: &str| {
        format!(
            "
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: {namespace}
  labels: {{app: httpbin{more}}}
spec: {{serviceAccountName: httpbin, containers: []}}
status: {{podIP: {ip}, podIPs: [{{ip: {ip}}}]}}
---
"
        )
    };
    let mtls = ", security.istio.io/tlsMode: istio";
    // Addresses are unique in a cluster: each namespace gets its own.
    let mut text = String::new();
    for (n, namespace) in ["full", "partial", "legacy"].iter().enumerate() {
        let own = services[n].replace("10.0.0.", &format!("10.0.{n}."));
        text.push_str(&own);
        let first = if *namespace == "legacy" { "" } else { mtls };
        let second = if *namespace == "full" { mtls } else { "" };
        text.push_str(&pod(namespace, "a", &format!("10.0.{n}.1"), first));
        text.push_str(&pod(namespace, "b", &format!("10.0.{n}.2"), second));
    }
    Lab::new(&format!("{text}{more}")).identity()
}

fn policy(peers: &str) -> String {
    format!(
        "
apiVersion: authentication.istio.io/v1alpha1
kind: Policy
metadata: {{name: httpbin, namespace: full}}
spec:
  targets: [{{name: httpbin}}]
{peers}"
    )
}

#[test]
fn seed_003_mutual_tls_goes_to_workloads_with_a_sidecar_and_to_no_other() {
    for peers in ["", "  peers: [{mtls: {}}]\n"] {
        let more = if peers.is_empty() {
            String::new()
        } else {
            policy(peers)
        };
        let lab = httpbin(&more);
        let full = lab.refer("httpbin.full.svc.cluster.local", 8000, "");
        assert_eq!(full.endpoints(), ["10.0.0.1:80", "10.0.0.2:80"]);
        assert_eq!(
            sni(&full),
            "outbound_.8000_._.httpbin.full.svc.cluster.local"
        );
        let spiffe = "spiffe://cluster.local/ns/full/sa/httpbin";
        assert_eq!(full.tls().subject_alt_names, [spiffe]);
        assert_eq!(full.tls().name_check, NameCheck::Enforce);
        let labels = full.spec.service.as_ref().unwrap();
        assert_eq!(labels.principal.as_deref(), Some(spiffe));
        let partial = lab.refer("httpbin.partial.svc.cluster.local", 8000, "");
        assert_eq!(partial.endpoints(), ["10.0.1.1:80", "10.0.1.2:80!"]);
        assert_eq!(
            sni(&partial),
            "outbound_.8000_._.httpbin.partial.svc.cluster.local"
        );
        let legacy = lab.refer("httpbin.legacy.svc.cluster.local", 8000, "");
        assert!(legacy.is_plaintext());
    }
}

#[test]
fn seed_003_a_target_without_peers_is_plaintext_until_a_rule_says_otherwise() {
    let disabled = httpbin(&policy(""));
    let full = disabled.refer("httpbin.full.svc.cluster.local", 8000, "");
    assert!(full.is_plaintext());
    let rule = "
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: httpbin-full-mtls, namespace: full}
spec:
  host: httpbin.full.svc.cluster.local
  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}
";
    let told =
        httpbin(&format!("{}{rule}", policy(""))).refer("httpbin.full.svc.cluster.local", 8000, "");
    // T13: an explicit mode wins for every endpoint, even where it is wrong.
    assert_eq!(told.endpoints(), ["10.0.0.1:80", "10.0.0.2:80"]);
    assert_eq!(told.tls().alpn, AlpnOffer::Istio);
}

#[test]
fn ten_thousand_service_entries_load_in_well_under_a_second() {
    let mut text = String::new();
    for n in 0..10_000 {
        text.push_str(&format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: se-{n}}}\n\
             spec: {{hosts: [h{n}.example], ports: [{{number: 443, name: tls, protocol: TLS}}], \
             resolution: DNS}}\n"
        ));
    }
    let lab = Lab::new(&text);
    let (manifests, mut out) = lab.read();
    let began = Instant::now();
    let registry = Registry::build(&manifests, &LoadOptions::default(), &mut out);
    let took = began.elapsed();
    assert_eq!(registry.services.len(), 10_000);
    assert!(registry.find("h9999.example").is_some());
    // Well under a second where it is built to be fast; slack for an unoptimised build on a busy
    // machine.
    assert!(took < Duration::from_secs(2), "{took:?}");
}
