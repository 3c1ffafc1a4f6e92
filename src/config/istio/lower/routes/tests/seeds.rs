//! The routes of the seeds, as their articles mean them.

use super::*;

const COMMON_CA: &str = r"
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata:
  name: nginx-mtls-common-ca
spec:
  host: nginx-mtls.common-ca.local
  trafficPolicy:
    portLevelSettings:
    - port:
        number: 80
      tls:
        mode: ISTIO_MUTUAL
---
apiVersion: networking.istio.io/v1beta1
kind: ServiceEntry
metadata:
  name: nginx-mtls-common-ca
spec:
  hosts:
  - nginx-mtls.common-ca.local
  location: MESH_EXTERNAL
  ports:
  - number: 80
    name: http-port
    protocol: HTTP
    targetPort: 8443
  - number: 8443
    name: https
    protocol: TLS
  resolution: STATIC
  endpoints:
  - address: 10.1.1.4
";

const GATEWAY: &str = r"
apiVersion: networking.istio.io/v1alpha3
kind: Gateway
metadata:
  name: istio-egressgateway
spec:
  selector:
    istio: egressgateway
  servers:
  - port:
      number: 443
      name: https
      protocol: HTTPS
    hosts:
    - nginx-mtls.diff-ca.local
    tls:
        mode: ISTIO_MUTUAL
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata:
  name: egressgateway-for-nginx-mtls
spec:
  host: istio-egressgateway.istio-system.svc.cluster.local
  subsets:
  - name: nginx-mtls
    trafficPolicy:
      portLevelSettings:
      - port:
          number: 443
        tls:
          mode: ISTIO_MUTUAL
          sni: nginx-mtls.diff-ca.local
---
apiVersion: networking.istio.io/v1beta1
kind: ServiceEntry
metadata:
  name: nginx-mtls-diff-ca
spec:
  hosts:
  - nginx-mtls.diff-ca.local
  location: MESH_EXTERNAL
  ports:
  - number: 9443
    name: https
    protocol: TLS
  resolution: STATIC
  endpoints:
  - address: 10.1.1.4
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata:
  name: direct-nginx-mtls-through-egress-gateway
spec:
  hosts:
  - nginx-mtls.diff-ca.local
  gateways:
  - istio-egressgateway
  - mesh
  http:
  - match:
    - gateways:
      - mesh
      port: 80
    route:
    - destination:
        host: istio-egressgateway.istio-system.svc.cluster.local
        subset: nginx-mtls
        port:
          number: 443
  - match:
    - gateways:
      - istio-egressgateway
      port: 443
    route:
    - destination:
        host: nginx-mtls.diff-ca.local
        port:
          number: 9443
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata:
  name: originate-tls-for-nginx-mtls
  namespace: istio-system
spec:
  host: nginx-mtls.diff-ca.local
  trafficPolicy:
    loadBalancer:
      simple: ROUND_ROBIN
    portLevelSettings:
    - port:
        number: 9443
      tls:
        mode: MUTUAL
        credentialName: nginx-mtls-external
        sni: nginx-mtls.diff-ca.local
";

const UNIQUE: &str = r"
apiVersion: networking.istio.io/v1beta1
kind: ServiceEntry
metadata:
  name: nginx-mtls-diff-ca
spec:
  hosts:
  - nginx-mtls.diff-ca.local
  location: MESH_EXTERNAL
  ports:
  - number: 9443
    name: https
    protocol: HTTPS
  resolution: STATIC
  endpoints:
  - address: 10.1.1.4
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata:
  name: nginx-mtls-diff-ca
spec:
  hosts:
  - nginx-mtls.diff-ca.local
  http:
  - match:
    - port: 80
    route:
    - destination:
        host: nginx-mtls.diff-ca.local
        port:
          number: 9443
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata:
  name: nginx-mtls-diff-ca
spec:
  host: nginx-mtls.diff-ca.local
  trafficPolicy:
    portLevelSettings:
    - port:
        number: 9443
      tls:
        mode: MUTUAL
        clientCertificate: /etc/certs/tls.crt
        privateKey: /etc/certs/tls.key
        caCertificates: /etc/certs/ca.crt
";

const HELLO: &str = r"
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata:
  name: helloworld-zufar-io-vs
  namespace: client
spec:
  hosts:
  - helloworld.zufar.io
  http:
  - match:
    - port: 80
    route:
    - destination:
        host: helloworld.zufar.io
        subset: tls-origination
        port:
          number: 443
---
apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata:
  name: helloworld-zufar-io-se
  namespace: client
spec:
  hosts:
  - helloworld.zufar.io
  ports:
  - number: 443
    name: https-port-for-tls-origination
    protocol: HTTPS
  resolution: DNS
  location: MESH_EXTERNAL
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata:
  name: helloworld-zufar-io-dr
  namespace: client
spec:
  host: helloworld.zufar.io
  subsets:
  - name: tls-origination
    trafficPolicy:
      portLevelSettings:
      - port:
          number: 443
        tls:
          mode: MUTUAL
          clientCertificate: /etc/cluster-a-client/cluster-a-client-cert.pem
          privateKey: /etc/cluster-a-client/cluster-a-client-key.pem
          caCertificates: /etc/cluster-a-client/root-cert.pem
";

fn identity() -> LoadOptions {
    let mut options = options();
    let facts = Arc::make_mut(&mut options.facts);
    facts.identity = Some(MeshIdentity {
        certificate: "/etc/certs/cert-chain.pem".into(),
        key: "/etc/certs/key.pem".into(),
        ca: "/etc/certs/root-cert.pem".into(),
    });
    options
}

#[track_caller]
fn seed(text: &str, namespace: &str) -> Loaded {
    let mut options = identity();
    Arc::make_mut(&mut options.facts).namespace = namespace.into();
    match load_texts_with(&[("a.yaml", text)], &options) {
        Ok(loaded) => loaded,
        Err(all) => panic!("{all}"),
    }
}

/// How the upstream of a name is spoken to: endpoint, mode, server name.
#[track_caller]
fn wire(loaded: &Loaded, name: &str) -> String {
    let mut found = loaded
        .config
        .upstreams
        .iter()
        .filter(|one| &*one.name == name);
    let spec = found.next().expect(name);
    assert_eq!(spec.broken, None, "{name}");
    let to = &spec.endpoints[0];
    let tls = match &spec.tls {
        TlsPolicy::Disable => "plain".to_owned(),
        TlsPolicy::Tls(tls) => {
            let mode = match tls.credential.identity.is_some() {
                true => "mutual",
                false => "simple",
            };
            let name = tls.server_name.as_ref();
            let name = name.map_or("the request's host".to_owned(), ToString::to_string);
            format!("{mode} as {name}")
        }
    };
    format!("{}:{} {tls}", to.host, to.port)
}

#[test]
fn seed_000_common_ca_is_http_on_80_and_tls_by_name_on_8443() {
    let loaded = seed(COMMON_CA, "default");
    let upstream = "outbound|80||nginx-mtls.common-ca.local";
    assert_eq!(
        table(&loaded),
        [format!("nginx-mtls.common-ca.local:80 > {upstream}")]
    );
    let to = "10.1.1.4:8443 mutual as outbound_.80_._.nginx-mtls.common-ca.local";
    assert_eq!(wire(&loaded, upstream), to);
    let direct = "outbound|8443||nginx-mtls.common-ca.local";
    assert_eq!(
        streams(&loaded),
        [format!("8443 tls nginx-mtls.common-ca.local > {direct}")]
    );
    assert_eq!(wire(&loaded, direct), "10.1.1.4:8443 plain");
    compiles(&loaded);
}

#[test]
fn seed_000_egress_gateway_hop_1_is_made_from_the_virtual_service() {
    let loaded = seed(GATEWAY, "default");
    let upstream = "outbound|443|nginx-mtls|istio-egressgateway.istio-system.svc.cluster.local";
    assert_eq!(
        table(&loaded),
        [format!("nginx-mtls.diff-ca.local:80 > {upstream}")]
    );
    assert_eq!(
        wire(&loaded, upstream),
        "istio-egressgateway.istio-system.svc.cluster.local:443 mutual as \
         nginx-mtls.diff-ca.local"
    );
    assert!(loaded.config.refused.is_empty());
    let codes = [
        Code::HostNotInGateway,
        Code::MatchWithoutEffect,
        Code::UnreachableRule,
    ];
    assert_eq!(said(&loaded, &codes), Vec::<String>::new());
    compiles(&loaded);
}

#[test]
fn seed_000_unique_certificate_is_made_from_the_virtual_service() {
    let loaded = seed(UNIQUE, "default");
    let upstream = "outbound|9443||nginx-mtls.diff-ca.local";
    assert_eq!(
        table(&loaded),
        [format!("nginx-mtls.diff-ca.local:80 > {upstream}")]
    );
    assert_eq!(
        wire(&loaded, upstream),
        "10.1.1.4:9443 mutual as the request's host"
    );
    assert_eq!(
        streams(&loaded),
        [format!("9443 tls nginx-mtls.diff-ca.local > {upstream}")]
    );
    compiles(&loaded);
}

#[test]
fn seed_001_cluster_a_originates_tls_on_443_for_port_80() {
    let loaded = seed(HELLO, "client");
    let upstream = "outbound|443|tls-origination|helloworld.zufar.io";
    assert_eq!(
        table(&loaded),
        [format!("helloworld.zufar.io:80 > {upstream}")]
    );
    assert_eq!(
        wire(&loaded, upstream),
        "helloworld.zufar.io:443 mutual as the request's host"
    );
    let direct = "outbound|443||helloworld.zufar.io";
    assert_eq!(
        streams(&loaded),
        [format!("443 tls helloworld.zufar.io > {direct}")]
    );
    assert_eq!(wire(&loaded, direct), "helloworld.zufar.io:443 plain");
    compiles(&loaded);
}

#[test]
fn seed_002_hop_1_is_made_from_the_virtual_service() {
    let text = GATEWAY
        .replace("nginx-mtls.diff-ca.local", "external-service.apps.example")
        .replace("nginx-mtls\n", "nginx\n")
        .replace("number: 9443", "number: 443");
    let loaded = seed(&text, "default");
    let upstream = "outbound|443|nginx|istio-egressgateway.istio-system.svc.cluster.local";
    assert_eq!(
        table(&loaded),
        [format!("external-service.apps.example:80 > {upstream}")]
    );
    assert_eq!(
        wire(&loaded, upstream),
        "istio-egressgateway.istio-system.svc.cluster.local:443 mutual as \
         external-service.apps.example"
    );
    compiles(&loaded);
}
