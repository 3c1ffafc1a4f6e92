//! The application beside us: who may reach which of its ports, and how (ISTIO.md P1, P2, P5 to P13).
//!
//! Owns: inbound listeners (X14), and the entrance of each of the workload's ports, with the upstream
//! behind it.
//! Never: decides what a client infers (that is `auto_mtls`).
//! Called by: lower.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use http::header::CONTENT_TYPE;

use super::auto_mtls::{Mode, Servers, Workload};
use super::credential::{self, Credentials};
use super::gateway_tls::Maker;
use super::inbound_ingress as ingress;
use super::inbound_ports::{OwnPort, OwnPorts, carries};
use super::inbound_refused;
use super::inbound_say as say;
use super::scope::{Mesh, Scope};
use crate::config::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::config::istio::Manifests;
use crate::config::istio::peer_authentication::MtlsMode;
use crate::config::istio::service_entry::Protocol;
use crate::config::istio::sidecar::DefaultEndpoint;
use crate::config::options::LoadOptions;
use crate::model::{
    Action, Carries, ClientCertificates, Config, DialSource, DownstreamTls, EndpointSpec,
    EntranceAt, EntranceSpec, HeaderMatch, Host, HostPattern, HostRoutes, HttpChoice, ListenerKind,
    ListenerSpec, MatchSpec, MeshIdentity, Outlier, Place, PoolLimits, ProxyFacts, Reason, Reasons,
    Resolution, Retries, RuleSpec, ServerTlsSpec, ServiceLabels, StreamMatch, StreamRoute,
    StringMatch, UpstreamSpec, Weighted,
};

/// The upstream of every port that nobody declares (P13).
const PASSTHROUGH: &str = "InboundPassthroughCluster";

/// Adds the listeners, the entrances, and the upstreams that lead to the application. Nothing without
/// `--inbound`.
pub fn lower(
    manifests: &Manifests,
    scope: &Scope,
    options: &LoadOptions,
    config: &mut Config,
    out: &mut Diagnostics,
) {
    let sidecar = scope.sidecar().filter(|one| !one.ingress.is_empty());
    if options.inbound.is_empty() {
        return sidecar
            .into_iter()
            .for_each(|one| out.push(say::no_listener(one)));
    }
    listeners(&options.inbound, config, out);
    let facts = &*options.facts;
    let mut own = OwnPorts::new(manifests, facts, out);
    if let Some(sidecar) = sidecar {
        ingress::listeners(sidecar, &options.inbound, config, out);
        own = own.replaced(sidecar);
    }
    let room = Room {
        facts,
        mesh: &scope.mesh,
        own: &own,
        servers: Servers::new(manifests, &scope.mesh),
        refused: inbound_refused::governing(manifests, facts),
    };
    let maker = Maker::new(Credentials::new(manifests, facts), &scope.mesh);
    let ways: Vec<Way<'_>> = room.ways();
    say::all(&ways, facts, out);
    say::no_labels(manifests, facts, out);
    for way in &ways {
        let upstream = room.upstream(way);
        let mut entrance = room.entrance(way, &upstream.name);
        ingress::end_tls(way, &maker, &mut entrance, out);
        config.entrances.push(entrance);
        let made = |one: &UpstreamSpec| one.name == upstream.name;
        if config.upstreams.iter().any(made) {
            continue;
        }
        if way.carries() == Carries::Either {
            config.upstreams.push(UpstreamSpec {
                name: grpc_name(&upstream.name),
                http: HttpChoice::Http2,
                ..upstream.clone()
            });
        }
        config.upstreams.push(upstream);
    }
}

impl Way<'_> {
    fn carries(&self) -> Carries {
        let declared = self.declared.map(|own| carries(own.protocol));
        declared.unwrap_or(Carries::Either)
    }
}

/// All requests to the application, each once: what it refuses the client may ask for again.
fn rule(upstream: &Arc<str>, place: &Place) -> RuleSpec {
    RuleSpec {
        name: Some("default".into()),
        retries: Retries {
            attempts: 0,
            ..Retries::default()
        },
        ..RuleSpec::new(
            Action::Forward(vec![Weighted::new(upstream, 1)]),
            place.clone(),
        )
    }
}

/// The same for gRPC alone, which HTTP/1.1 cannot carry. Istio speaks to a port of unknown protocol
/// in the version that the client speaks; of gRPC that is known without asking.
fn grpc(rule: RuleSpec) -> RuleSpec {
    let content = StringMatch::Regex(r"application/grpc([+;].*)?".to_owned());
    let is_grpc = MatchSpec {
        headers: vec![(CONTENT_TYPE, HeaderMatch::Value(content))],
        ..MatchSpec::default()
    };
    RuleSpec {
        matches: vec![is_grpc],
        ..rule
    }
}

fn grpc_name(upstream: &str) -> Arc<str> {
    match upstream.strip_suffix("||") {
        Some(port) => format!("{port}|grpc|").into(),
        None => format!("{upstream}|grpc").into(),
    }
}

/// X14. An address that is there already is refused by its name.
fn listeners(
    wanted: &[(SocketAddr, Option<SocketAddr>)],
    config: &mut Config,
    out: &mut Diagnostics,
) {
    for (address, to) in wanted {
        let mut there = config.listeners.iter();
        // Port 0 is another port every time.
        let first = there.find(|one| one.address == *address && address.port() > 0);
        if let Some(first) = first {
            out.push(twice(*address, &first.place));
            continue;
        }
        config.listeners.push(ListenerSpec {
            address: *address,
            kind: ListenerKind::Inbound(*to),
            place: Place::default(),
        });
    }
}

fn twice(address: SocketAddr, first: &Place) -> Diagnostic {
    let problem = format!("--inbound {address}: the address is listened on already, see {first}");
    let advice = "give each listener an address of its own";
    Diagnostic::whole(Place::default().file, Code::Twice, problem, advice)
}

/// What every entrance is made from.
struct Room<'a> {
    facts: &'a ProxyFacts,
    mesh: &'a Mesh,
    own: &'a OwnPorts,
    servers: Servers<'a>,
    /// X1: why nobody is let in.
    refused: Option<Arc<str>>,
}

/// One port of the workload, or all others, and what is said of it.
pub struct Way<'a> {
    pub port: Option<u16>,
    pub declared: Option<&'a OwnPort>,
    pub mode: Mode<'a>,
}

impl<'a> Room<'a> {
    /// Declared ports, ports that the workload's policy names, and the rest.
    fn ways(&self) -> Vec<Way<'a>> {
        let facts = self.facts;
        let policy = self.servers.selecting(&facts.namespace, &facts.labels);
        let named = policy.into_iter().flat_map(|policy| policy.ports.keys());
        let mut ports: BTreeMap<u16, Option<&OwnPort>> = named.map(|port| (*port, None)).collect();
        ports.extend(
            self.own
                .declared
                .iter()
                .map(|(port, own)| (*port, Some(own))),
        );
        let all = ports.into_iter().map(|(port, own)| (Some(port), own));
        all.chain([(None, None)])
            .map(|(port, declared)| Way {
                port,
                declared,
                mode: self.servers.of_workload(&Workload {
                    namespace: &facts.namespace,
                    labels: &facts.labels,
                    port,
                    names: &self.own.names,
                    service: None,
                }),
            })
            .collect()
    }

    fn entrance(&self, way: &Way<'_>, upstream: &Arc<str>) -> EntranceSpec {
        let (mode, by) = &way.mode;
        let to = || vec![Weighted::new(upstream, 1)];
        let mut place = Place::default();
        let mut object = None;
        if let Some(own) = way.declared {
            (object, place) = (Some(Arc::clone(&own.object)), own.place.clone());
        }
        if let Some((said, at)) = by {
            (object, place) = (Some(Arc::clone(said)), (*at).clone());
        }
        let carries = way.carries();
        let rules = match carries {
            Carries::Either => vec![
                grpc(rule(&grpc_name(upstream), &place)),
                rule(upstream, &place),
            ],
            Carries::Http | Carries::Opaque => vec![rule(upstream, &place)],
        };
        EntranceSpec {
            name: name(way.port),
            at: EntranceAt::Inbound(way.port),
            tls: self.tls(*mode),
            carries,
            hosts: vec![HostRoutes {
                hosts: vec![HostPattern::Any].into(),
                port: None,
                rules: rules.into(),
                object: None,
                place: place.clone(),
            }],
            streams: vec![StreamRoute {
                port: None,
                on: StreamMatch::Tcp {
                    destinations: Vec::new(),
                },
                sources: Vec::new(),
                to: to(),
                name: None,
                object: None,
                place: place.clone(),
            }],
            headers: self.mesh.headers.inbound(),
            service: Some(self.reported(way, upstream)),
            broken: self.refused.clone(),
            object,
            reasons: Reasons(self.reasons(way)),
            place,
        }
    }

    /// What comes in is reported as the application's own (ISTIO.md B3), though no Service tells
    /// what it is called.
    fn reported(&self, way: &Way<'_>, upstream: &Arc<str>) -> Arc<ServiceLabels> {
        let declared = way.declared.and_then(|own| self.labels(own));
        declared.unwrap_or_else(|| {
            Arc::new(ServiceLabels {
                host: Arc::clone(upstream),
                name: Arc::clone(upstream),
                namespace: None,
                principal: None,
            })
        })
    }

    /// With the name of the certificate that clients see, where it is known.
    fn labels(&self, own: &OwnPort) -> Option<Arc<ServiceLabels>> {
        let labels = own.labels.as_ref()?;
        let Some(account) = &self.facts.service_account else {
            return Some(Arc::clone(labels));
        };
        let mut names = self.mesh.spiffe(&self.facts.namespace, account);
        Some(Arc::new(ServiceLabels {
            principal: names.next().map(Arc::from),
            ..ServiceLabels::clone(labels)
        }))
    }

    fn tls(&self, mode: MtlsMode) -> DownstreamTls {
        let spec = || {
            let credential = credential::mesh(&identity(self.facts));
            let mut spec = ServerTlsSpec::new(credential, ClientCertificates::Required);
            spec.trust_domains = self.mesh.trust_domains().collect();
            Box::new(spec)
        };
        match mode {
            MtlsMode::Disable => DownstreamTls::Disable,
            MtlsMode::Permissive => DownstreamTls::Permissive(spec()),
            MtlsMode::Strict => DownstreamTls::Strict(spec()),
        }
    }

    fn reasons(&self, way: &Way<'_>) -> Vec<Reason> {
        let (mode, by) = &way.mode;
        let reason = |what, how: String, by: Option<(&Arc<str>, &Place)>| Reason {
            what,
            how,
            object: by.map_or_else(|| "".into(), |(object, _)| Arc::clone(object)),
            place: by.map(|(_, place)| place.clone()),
        };
        let by = by.as_ref().map(|(object, place)| (object, *place));
        let mut reasons = vec![reason("tls", say::mode_name(*mode).to_owned(), by)];
        if *mode != MtlsMode::Disable {
            let files = identity(self.facts);
            let how = format!("{}, {}", files.certificate.display(), files.key.display());
            reasons.push(reason("credential", how, None));
            reasons.push(reason("ca", files.ca.display().to_string(), None));
            let domains: Vec<_> = self.mesh.trust_domains().collect();
            let how = format!("a SPIFFE name of trust domain {}", domains.join(" or "));
            reasons.push(reason("names", how, None));
        }
        let protocol = match way.declared {
            Some(own) => reason(
                "protocol",
                say::protocol_name(own.protocol).to_owned(),
                Some((&own.object, &own.place)),
            ),
            None => reason("protocol", "told by the first bytes".to_owned(), None),
        };
        reasons.push(protocol);
        reasons
    }

    fn upstream(&self, way: &Way<'_>) -> UpstreamSpec {
        let name: Arc<str> = match (way.port, way.declared) {
            (Some(port), Some(_)) => format!("inbound|{port}||").into(),
            _ => PASSTHROUGH.into(),
        };
        let mut spec = UpstreamSpec::new(&name);
        spec.resolution = match way.declared.map(|own| own.to) {
            Some(DefaultEndpoint::Own(port)) => Resolution::OriginalDst { port: Some(port) },
            Some(DefaultEndpoint::Loopback(to)) => {
                let host = Host::parse(&to.ip().to_string()).ok();
                let endpoint = host.map(|host| EndpointSpec::new(host, to.port()));
                spec.endpoints.extend(endpoint);
                Resolution::Static
            }
            Some(DefaultEndpoint::Dialled) | None => Resolution::OriginalDst { port: None },
        };
        spec.source = DialSource::Inbound;
        spec.connect_timeout = self.mesh.connect_timeout;
        spec.http = match way.declared.map(|own| own.protocol) {
            Some(Protocol::Http2 | Protocol::Grpc | Protocol::GrpcWeb) => HttpChoice::Http2,
            _ => HttpChoice::Http1,
        };
        spec.pool = PoolLimits {
            max_connections: usize::MAX,
            max_requests: usize::MAX,
            ..PoolLimits::default()
        };
        spec.outlier = Outlier {
            consecutive_failures: 0,
            ..Outlier::default()
        };
        if let Some(own) = way.declared {
            spec.service = self.labels(own);
            spec.place = own.place.clone();
        }
        spec
    }
}

fn name(port: Option<u16>) -> Arc<str> {
    match port {
        Some(port) => format!("inbound|{port}").into(),
        None => "inbound|*".into(),
    }
}

/// The files of what we show to clients (T14, T16). Where none were given and none were found, those
/// where Istio puts them: every handshake fails until they are there, and what may be clear text is
/// served meanwhile.
fn identity(facts: &ProxyFacts) -> MeshIdentity {
    let given = facts.server_identity.as_ref().or(facts.identity.as_ref());
    given.cloned().unwrap_or_else(|| MeshIdentity {
        certificate: PathBuf::from("/etc/certs/cert-chain.pem"),
        key: PathBuf::from("/etc/certs/key.pem"),
        ca: PathBuf::from("/etc/certs/root-cert.pem"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::istio::lower::testing::Lab;
    use crate::model::IdentitySource;

    /// A Service of the workload `app: n` in namespace `s`, whose HTTP port 80 leads to 8080 and
    /// whose TCP port 81 to 81.
    const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: {name: n, namespace: s}
spec:
  selector: {app: n}
  ports:
  - {port: 80, name: http, targetPort: 8080}
  - {port: 81, name: tcp-x}
---
";

    fn lab(more: &str) -> Lab {
        let lab = Lab::new(&format!("{SERVICE}{more}")).identity();
        let lab = lab.options(|options| {
            options.inbound = vec![("127.0.0.1:15006".parse().unwrap(), None)];
        });
        lab.facts(|facts| {
            facts.namespace = "s".into();
            facts.labels = [("app", "n"), ("v", "1")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into();
        })
    }

    fn peers(name: &str, namespace: &str, spec: &str) -> String {
        format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: {name}, \
             namespace: {namespace}}}\nspec: {spec}\n---\n"
        )
    }

    fn legacy(kind: &str, name: &str, spec: &str) -> String {
        let namespace = match kind {
            "Policy" => ", namespace: s",
            _ => "",
        };
        format!(
            "apiVersion: authentication.istio.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}\
             {namespace}}}\nspec: {spec}\n---\n"
        )
    }

    /// `8080 STRICT Http, ...`: every entrance, the one for the rest as `*`.
    fn ways(lab: &Lab) -> String {
        let (config, _) = lab.config();
        let all = config.entrances.iter().map(|one| {
            let port = one.name.strip_prefix("inbound|").unwrap();
            let mode = match (&one.broken, &one.tls) {
                (Some(_), _) => "BROKEN",
                (None, DownstreamTls::Disable) => "DISABLE",
                (None, DownstreamTls::Permissive(_)) => "PERMISSIVE",
                (None, DownstreamTls::Strict(_)) => "STRICT",
                (None, DownstreamTls::PassThrough { .. }) => "PASSTHROUGH",
            };
            format!("{port} {mode} {:?}", one.carries)
        });
        all.collect::<Vec<_>>().join(", ")
    }

    /// The modes of ports 8080 and 81 and of the rest.
    fn modes(more: &str) -> [String; 3] {
        let text = ways(&lab(more));
        let mode = |port: &str| {
            let mut all = text.split(", ");
            let found = all.find(|one| one.split(' ').next() == Some(port));
            found.unwrap().split(' ').nth(1).unwrap().to_owned()
        };
        [mode("8080"), mode("81"), mode("*")]
    }

    #[test]
    fn p1_a_policy_for_labels_that_nobody_gave_is_told() {
        let strict = peers(
            "p",
            "s",
            "{selector: {matchLabels: {app: n}}, mtls: {mode: STRICT}}",
        );
        let said = |given: bool| {
            let lab = lab(&strict).facts(|facts| {
                if !given {
                    facts.labels.clear();
                }
            });
            let (_, said) = lab.config();
            let told = |line: &&String| line.contains("IST0127") && line.contains("was given none");
            said.iter().filter(told).count()
        };
        assert_eq!((said(false), said(true)), (1, 0));
    }

    #[test]
    fn x14_without_an_inbound_listener_there_is_no_inbound_side() {
        let strict = peers("p", "s", "{mtls: {mode: STRICT}}");
        let lab = lab(&strict).options(|options| options.inbound.clear());
        let (config, said) = lab.config();
        assert!(config.entrances.is_empty() && config.listeners.is_empty());
        assert!(
            config
                .upstreams
                .iter()
                .all(|one| one.source == DialSource::Any)
        );
        assert_eq!(said, Vec::<String>::new());
    }

    #[test]
    fn x14_each_inbound_address_is_a_listener_and_none_is_one_twice() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let app = Some(at("127.0.0.1:80"));
        let lab = lab("").options(|options| {
            options.inbound = vec![
                (at("0.0.0.0:15006"), None),
                (at("127.0.0.1:8080"), app),
                (at("0.0.0.0:15006"), app),
            ];
        });
        let (config, said) = lab.config();
        let kinds: Vec<_> = config.listeners.iter().map(|one| one.kind).collect();
        assert_eq!(
            kinds,
            [ListenerKind::Inbound(None), ListenerKind::Inbound(app)]
        );
        let twice = said.iter().find(|line| line.contains("SRT0201")).unwrap();
        assert!(twice.contains("--inbound 0.0.0.0:15006"), "{twice}");
    }

    #[test]
    fn p1_without_any_document_everything_is_permissive() {
        let lab = Lab::new("").options(|options| {
            options.inbound = vec![("127.0.0.1:15006".parse().unwrap(), None)];
        });
        assert_eq!(ways(&lab), "* PERMISSIVE Either");
    }

    #[test]
    fn p7_to_p9_what_a_port_carries_is_what_its_service_declares() {
        let more = "apiVersion: v1
kind: Service
metadata: {name: more, namespace: s}
spec:
  selector: {app: n}
  ports:
  - {port: 1, name: https}
  - {port: 2, name: grpc}
  - {port: 3, name: any}
  - {port: 4, name: udp, protocol: UDP}
---
";
        assert_eq!(
            ways(&lab(more)),
            "1 PERMISSIVE Opaque, 2 PERMISSIVE Http, 3 PERMISSIVE Either, 81 PERMISSIVE Opaque, \
             8080 PERMISSIVE Http, * PERMISSIVE Either"
        );
        let (config, _) = lab(more).config();
        let http = |name: &str| {
            let found = config.upstreams.iter().find(|one| &*one.name == name);
            found.unwrap().http
        };
        assert_eq!(http("inbound|2||"), HttpChoice::Http2);
        assert_eq!(http("inbound|8080||"), HttpChoice::Http1);
    }

    #[test]
    fn p2_ports_are_the_workloads_and_a_service_of_others_declares_none() {
        let others = SERVICE.replace("8080", "9090");
        for other in [
            others.replace("namespace: s", "namespace: t"),
            others
                .replace("name: n,", "name: m,")
                .replace("app: n", "app: m"),
        ] {
            let text = ways(&lab(&other));
            assert!(text.starts_with("81 ") && !text.contains("9090"), "{text}");
        }
    }

    #[test]
    fn e8_a_named_target_port_is_the_containers() {
        let service = SERVICE
            .replace("8080", "web")
            .replace("name: n,", "name: w,");
        let pod = "apiVersion: apps/v1
kind: Deployment
metadata: {name: w, namespace: s}
spec: {template: {metadata: {labels: {app: n}}, spec: {containers: [{name: c, ports: [{name: web, \
containerPort: 7070}]}]}}}
---
";
        let text = ways(&lab(&format!("{service}{pod}")));
        assert!(text.contains("7070 PERMISSIVE Http"), "{text}");
        let (_, said) = lab(&service).config();
        let lost = said.iter().filter(|line| line.contains("SRT0514"));
        assert_eq!(lost.count(), 1, "{said:?}");
    }

    #[test]
    fn p1_the_workload_beats_the_namespace_which_beats_the_mesh() {
        let mesh = |mode: &str| peers("m", "istio-system", &format!("{{mtls: {{mode: {mode}}}}}"));
        let own = |mode: &str| peers("n", "s", &format!("{{mtls: {{mode: {mode}}}}}"));
        let selected = |labels: &str, mode: &str| {
            let spec =
                format!("{{selector: {{matchLabels: {{{labels}}}}}, mtls: {{mode: {mode}}}}}");
            peers("w", "s", &spec)
        };
        for (policies, mode) in [
            (String::new(), "PERMISSIVE"),
            (mesh("STRICT"), "STRICT"),
            (mesh("DISABLE"), "DISABLE"),
            (mesh("UNSET"), "PERMISSIVE"),
            (mesh("STRICT") + &own("DISABLE"), "DISABLE"),
            (mesh("STRICT") + &own("UNSET"), "STRICT"),
            (
                own("STRICT") + &selected("app: n", "PERMISSIVE"),
                "PERMISSIVE",
            ),
            (own("STRICT") + &selected("app: n", "UNSET"), "STRICT"),
            (own("DISABLE") + &selected("app: n", "STRICT"), "STRICT"),
            (own("DISABLE") + &selected("app: m", "STRICT"), "DISABLE"),
            (
                own("STRICT") + &selected("app: n, v: '2'", "DISABLE"),
                "STRICT",
            ),
            // Of two of one level the older one.
            (
                selected("app: n", "STRICT")
                    + &selected("v: '1'", "DISABLE").replace("name: w", "name: x"),
                "STRICT",
            ),
            (
                own("STRICT") + &own("DISABLE").replace("name: n", "name: x"),
                "STRICT",
            ),
            // Of another namespace.
            (peers("o", "t", "{mtls: {mode: STRICT}}"), "PERMISSIVE"),
            // A selector in the root namespace makes no policy of the mesh.
            (
                peers(
                    "r",
                    "istio-system",
                    "{selector: {matchLabels: {app: n}}, mtls: {mode: STRICT}}",
                ),
                "PERMISSIVE",
            ),
        ] {
            assert_eq!(modes(&policies), [mode; 3], "{policies}");
        }
    }

    #[test]
    fn p2_modes_of_ports_are_of_workload_ports_and_inherit_where_they_are_unset() {
        let policy = |mode: &str, ports: &str| {
            let spec = format!(
                "{{selector: {{matchLabels: {{app: n}}}}, mtls: {{mode: {mode}}}, portLevelMtls: \
                 {{{ports}}}}}"
            );
            peers("w", "s", &spec)
        };
        for (policies, expected) in [
            (
                policy("STRICT", "8080: {mode: DISABLE}"),
                ["DISABLE", "STRICT", "STRICT"],
            ),
            // 80 is the Service's port.
            (
                policy("STRICT", "80: {mode: DISABLE}"),
                ["STRICT", "STRICT", "STRICT"],
            ),
            (
                policy("STRICT", "81: {mode: UNSET}"),
                ["STRICT", "STRICT", "STRICT"],
            ),
            (
                policy("UNSET", "81: {mode: STRICT}"),
                ["PERMISSIVE", "STRICT", "PERMISSIVE"],
            ),
            (
                policy("UNSET", "81: {mode: DISABLE}") + &peers("n", "s", "{mtls: {mode: STRICT}}"),
                ["STRICT", "DISABLE", "STRICT"],
            ),
        ] {
            assert_eq!(modes(&policies), expected, "{policies}");
        }
        // P13: a port that no Service declares has its own mode all the same.
        let text = ways(&lab(&policy("STRICT", "9999: {mode: DISABLE}")));
        assert!(text.contains("9999 DISABLE Either"), "{text}");
    }

    #[test]
    fn p5_legacy_targets_are_services_and_their_ports_lead_to_the_workloads() {
        let strict = "peers: [{mtls: {}}]";
        let mesh = legacy("MeshPolicy", "default", &format!("{{{strict}}}"));
        let namespace = legacy("Policy", "default", "{peers: [{mtls: {mode: PERMISSIVE}}]}");
        let target = |ports: &str, more: &str| {
            let spec = format!("{{targets: [{{name: n{ports}}}]{more}}}");
            legacy("Policy", "n", &spec)
        };
        let strictly = format!(", {strict}");
        for (policies, expected) in [
            (mesh.clone(), ["STRICT"; 3]),
            (mesh.clone() + &namespace, ["PERMISSIVE"; 3]),
            (target("", &strictly), ["STRICT"; 3]),
            // P6: a target without peers is DISABLE.
            (mesh.clone() + &target("", ""), ["DISABLE"; 3]),
            (
                target(", ports: [{number: 80}]", &strictly),
                ["STRICT", "PERMISSIVE", "PERMISSIVE"],
            ),
            (
                target(", ports: [{name: tcp-x}]", &strictly),
                ["PERMISSIVE", "STRICT", "PERMISSIVE"],
            ),
            (
                target(", ports: [{number: 8080}]", &strictly),
                ["PERMISSIVE"; 3],
            ),
            // A PeerAuthentication beats every legacy policy.
            (
                mesh + &target("", "") + &peers("p", "s", "{mtls: {mode: PERMISSIVE}}"),
                ["PERMISSIVE"; 3],
            ),
        ] {
            assert_eq!(modes(&policies), expected, "{policies}");
        }
    }

    #[test]
    fn p5_what_is_demanded_of_a_port_of_unknown_number_is_demanded_of_all() {
        let service = SERVICE
            .replace("8080", "web")
            .replace("name: n,", "name: w,");
        let policy = |peers: &str| {
            let spec = format!("{{targets: [{{name: w, ports: [{{number: 80}}]}}]{peers}}}");
            legacy("Policy", "w", &spec)
        };
        let strict = format!("{service}{}", policy(", peers: [{mtls: {}}]"));
        assert_eq!(modes(&strict), ["STRICT"; 3]);
        assert_eq!(
            modes(&format!("{service}{}", policy(""))),
            ["PERMISSIVE"; 3]
        );
    }

    #[test]
    fn p12_clients_show_a_certificate_of_the_trust_domain_or_an_alias() {
        let mesh = "apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
metadata: {name: mesh}
spec: {meshConfig: {trustDomain: a@b, trustDomainAliases: [old.example]}}
";
        let (config, _) = lab(mesh).config();
        let spec = config.entrances[0].tls.spec().unwrap();
        assert_eq!(spec.clients, ClientCertificates::Required);
        let domains: Vec<&str> = spec.trust_domains.iter().map(AsRef::as_ref).collect();
        assert_eq!(domains, ["a.b", "old.example"]);
        let identity = credential::mesh(&MeshIdentity {
            certificate: "/id/cert.pem".into(),
            key: "/id/key.pem".into(),
            ca: "/id/root.pem".into(),
        });
        assert_eq!(spec.credential, identity);
    }

    #[test]
    fn t14_inbound_connections_are_shown_the_servers_own_files() {
        let own = MeshIdentity {
            certificate: "/s/c".into(),
            key: "/s/k".into(),
            ca: "/s/r".into(),
        };
        let lab = lab("").facts(|facts| facts.server_identity = Some(own.clone()));
        let (config, _) = lab.config();
        let spec = config.entrances[0].tls.spec().unwrap();
        assert_eq!(spec.credential, credential::mesh(&own));
    }

    #[test]
    fn t16_without_an_identity_tls_waits_for_the_files_and_it_is_said_once() {
        let none = |more: &str| lab(more).facts(|facts| facts.identity = None).config();
        let (config, said) = none("");
        let spec = config.entrances[0].tls.spec().unwrap();
        assert!(format!("{:?}", spec.credential).contains("/etc/certs/cert-chain.pem"));
        let told: Vec<_> = said
            .iter()
            .filter(|one| one.contains("inbound connections"))
            .collect();
        assert_eq!(told.len(), 1, "{said:?}");
        assert!(
            told[0].ends_with("until then clear text alone is let in"),
            "{told:?}"
        );
        assert!(told[0].contains("--identity"), "{told:?}");
        let (_, said) = none(&peers("p", "s", "{mtls: {mode: STRICT}}"));
        let told: Vec<_> = said
            .iter()
            .filter(|one| one.contains("inbound connections"))
            .collect();
        assert!(told[0].contains("PeerAuthentication s/p"), "{told:?}");
        assert!(told[0].ends_with("until then nobody is let in"), "{told:?}");
        let (_, said) = none(&peers("p", "s", "{mtls: {mode: DISABLE}}"));
        assert!(
            !said.iter().any(|one| one.contains("inbound connections")),
            "{said:?}"
        );
    }

    #[test]
    fn p13_the_application_is_reached_where_the_connection_was_going() {
        let (config, _) = lab("").config();
        let all = config.upstreams.iter();
        let inbound: Vec<_> = all
            .filter(|one| one.source == DialSource::Inbound)
            .collect();
        let names: Vec<&str> = inbound.iter().map(|one| &*one.name).collect();
        assert_eq!(
            names,
            [
                "inbound|81||",
                "inbound|8080||",
                "InboundPassthroughCluster|grpc",
                "InboundPassthroughCluster"
            ]
        );
        for upstream in inbound {
            assert_eq!(upstream.resolution, Resolution::OriginalDst { port: None });
        }
        let led = config.entrances.iter().map(|entrance| {
            let rule = entrance.hosts[0].rules.last().unwrap();
            let Action::Forward(to) = &rule.action else {
                panic!("{:?}", entrance.hosts);
            };
            assert_eq!(entrance.streams[0].to, *to);
            assert_eq!(rule.retries.attempts, 0);
            to[0].upstream.to_string()
        });
        let expected = [
            "inbound|81||",
            "inbound|8080||",
            "InboundPassthroughCluster",
        ];
        assert_eq!(led.collect::<Vec<_>>(), expected);
        let service = config.entrances[1].service.clone().unwrap();
        assert_eq!(&*service.host, "n.s.svc.cluster.local");
        let others = config.entrances[2].service.clone().unwrap();
        assert_eq!((&*others.host, &*others.name), (PASSTHROUGH, PASSTHROUGH));
        assert_eq!((&others.namespace, &others.principal), (&None, &None));
    }

    #[test]
    fn p9_grpc_on_a_port_of_unknown_protocol_is_http2_to_the_application_and_the_rest_is_not() {
        let more = SERVICE
            .replace("name: n,", "name: m,")
            .replace("81, name: tcp-x", "82, name: any");
        let (config, _) = lab(&more).config();
        let of = |name: &str| {
            let found = config.entrances.iter().find(|one| &*one.name == name);
            let rules = found.unwrap().hosts[0].rules.iter();
            let to = rules.map(|rule| match &rule.action {
                Action::Forward(to) => (to[0].upstream.to_string(), rule.matches.len()),
                other => panic!("{other:?}"),
            });
            to.collect::<Vec<_>>()
        };
        let both = [
            ("inbound|82|grpc|".to_owned(), 1),
            ("inbound|82||".to_owned(), 0),
        ];
        assert_eq!(of("inbound|82"), both);
        assert_eq!(of("inbound|8080"), [("inbound|8080||".to_owned(), 0)]);
        let http = |name: &str| {
            let found = config.upstreams.iter().find(|one| &*one.name == name);
            found.unwrap().http
        };
        assert_eq!(http("inbound|82|grpc|"), HttpChoice::Http2);
        assert_eq!(http("inbound|82||"), HttpChoice::Http1);
    }

    const SIDECAR: &str = "apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: s}
spec:
  ingress:
  - {port: {number: 8080, name: http, protocol: HTTP}, defaultEndpoint: '127.0.0.1:9090'}
  - {port: {number: 7000, name: tcp, protocol: TCP}, defaultEndpoint: '0.0.0.0:7001', bind: 10.0.0.1}
  - {port: {number: 7002, name: grpc, protocol: GRPC}, captureMode: NONE}
---
";

    #[test]
    fn x14_the_ports_of_a_sidecars_ingress_are_the_declared_ones() {
        let lab = lab(SIDECAR);
        assert_eq!(
            ways(&lab),
            "7000 PERMISSIVE Opaque, 7002 PERMISSIVE Http, 8080 PERMISSIVE Http, \
             * PERMISSIVE Either"
        );
        let (config, _) = lab.config();
        let upstream = |name: &str| {
            let found = config.upstreams.iter().find(|one| &*one.name == name);
            found.unwrap()
        };
        let http = upstream("inbound|8080||");
        assert_eq!(http.resolution, Resolution::Static);
        let to = &http.endpoints[0];
        assert_eq!(
            (to.host.to_string(), to.port),
            ("127.0.0.1".to_owned(), 9090)
        );
        assert_eq!(http.service.as_ref().map(|one| &*one.name), Some("n"));
        let own = Resolution::OriginalDst { port: Some(7001) };
        assert_eq!(upstream("inbound|7000||").resolution, own);
        let dialled = Resolution::OriginalDst { port: None };
        assert_eq!(upstream("inbound|7002||").resolution, dialled);
        let strict = peers(
            "w",
            "s",
            "{selector: {matchLabels: {app: n}}, portLevelMtls: {7000: {mode: STRICT}}}",
        );
        let text = ways(&self::lab(&format!("{SIDECAR}{strict}")));
        assert!(
            text.starts_with("7000 STRICT Opaque, 7002 PERMISSIVE"),
            "{text}"
        );
    }

    #[test]
    fn x14_ingress_listens_by_itself_where_it_says_so_or_nothing_is_captured() {
        let listening = |direct: bool| {
            let lab = lab(SIDECAR).options(|options| {
                if direct {
                    options.inbound[0].1 = Some("127.0.0.1:80".parse().unwrap());
                }
            });
            let (config, _) = lab.config();
            let own = config.listeners[1..].iter();
            own.map(|one| one.address.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(listening(false), ["0.0.0.0:7002"]);
        assert_eq!(listening(true), ["10.0.0.1:7000", "0.0.0.0:7002"]);
        let (_, said) = lab(SIDECAR)
            .options(|options| options.inbound.clear())
            .config();
        let told = said.iter().filter(|line| line.contains("SRT0507"));
        assert_eq!(told.count(), 1, "{said:?}");
    }

    #[test]
    fn x14_the_tls_of_an_ingress_listener_ends_where_mutual_tls_is_switched_off() {
        let sidecar = |port: &str, tls: &str| {
            format!(
                "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: d, namespace: \
                 s}}\nspec: {{ingress: [{{port: {{number: 8443, name: p, protocol: {port}}}, \
                 defaultEndpoint: '127.0.0.1:80', tls: {{{tls}}}}}]}}\n---\n"
            )
        };
        let off = peers(
            "w",
            "s",
            "{selector: {matchLabels: {app: n}}, portLevelMtls: {8443: {mode: DISABLE}}}",
        );
        let files = "serverCertificate: /c, privateKey: /k";
        let simple = sidecar("HTTPS", &format!("mode: SIMPLE, {files}"));
        let mutual = format!("mode: MUTUAL, {files}, caCertificates: /ca");
        for (document, carries, clients) in [
            (&simple, Carries::Http, ClientCertificates::Unasked),
            (
                &sidecar("TLS", &mutual),
                Carries::Opaque,
                ClientCertificates::Required,
            ),
        ] {
            let (config, said) = lab(&format!("{document}{off}")).config();
            assert_eq!(config.refused, [], "{said:?}");
            let entrance = &config.entrances[0];
            let DownstreamTls::Strict(spec) = &entrance.tls else {
                panic!("{:?}", entrance.tls);
            };
            assert_eq!((entrance.carries, spec.clients), (carries, clients));
            assert!(spec.trust_domains.is_empty());
            let identity = IdentitySource::Files("/c".into(), "/k".into());
            assert_eq!(spec.credential.identity, Some(identity));
        }
        // The mesh's own TLS is spoken: the block is told to have no effect.
        let (config, said) = lab(&simple).config();
        assert!(matches!(
            config.entrances[0].tls,
            DownstreamTls::Permissive(_)
        ));
        assert_eq!(config.entrances[0].carries, Carries::Opaque);
        let told: Vec<_> = said
            .iter()
            .filter(|line| line.contains("SRT0507"))
            .collect();
        assert!(told[0].contains("8443: {mode: DISABLE}"), "{said:?}");
        for wrong in [
            sidecar("HTTPS", "mode: ISTIO_MUTUAL"),
            sidecar("HTTPS", "mode: PASSTHROUGH"),
            sidecar("HTTP", &format!("mode: SIMPLE, {files}")),
            sidecar("HTTPS", "mode: SIMPLE"),
        ] {
            let (config, said) = lab(&wrong).config();
            assert_eq!(config.refused.len(), 1, "{wrong} {said:?}");
            assert!(
                config.entrances.iter().all(|one| one.broken.is_some()),
                "{wrong}"
            );
        }
    }

    #[test]
    fn x14_an_endpoint_elsewhere_and_a_unix_socket_are_refused() {
        for endpoint in ["10.0.0.9:80", "unix:///run/app", "127.0.0.1", "127.0.0.1:0"] {
            let sidecar = SIDECAR.replace("127.0.0.1:9090", endpoint);
            let (config, said) = lab(&sidecar).config();
            assert_eq!(config.refused.len(), 1, "{endpoint} {said:?}");
            assert!(
                config.entrances.iter().all(|one| one.broken.is_some()),
                "{endpoint}"
            );
        }
    }

    #[test]
    fn x1_a_refused_policy_that_may_govern_the_workload_lets_nobody_in() {
        let bad = "mtls: {mode: STRICTEST}";
        let of = |namespace: &str, more: &str| peers("bad", namespace, &format!("{{{bad}{more}}}"));
        let selecting = |labels: &str| format!(", selector: {{matchLabels: {{{labels}}}}}");
        let authorization = |namespace: &str, selector: &str| {
            format!(
                "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: a, \
                 namespace: {namespace}}}\nspec: {{action: DENY{selector}}}\n---\n"
            )
        };
        for (document, broken) in [
            (of("s", ""), true),
            (of("istio-system", ""), true),
            (of("t", ""), false),
            (of("s", &selecting("app: n")), true),
            (of("s", &selecting("app: m")), false),
            (of("istio-system", &selecting("app: n")), false),
            (legacy("Policy", "default", "{peers: [{jwt: {}}]}"), true),
            (
                legacy("MeshPolicy", "default", "{peers: [{jwt: {}}]}"),
                true,
            ),
            (authorization("s", ""), true),
            (authorization("s", &selecting("app: m")), false),
            (authorization("istio-system", ""), true),
            (authorization("t", ""), false),
        ] {
            let (config, said) = lab(&document).config();
            assert_eq!(config.refused.len(), 1, "{document} {said:?}");
            for one in &config.entrances {
                assert_eq!(one.broken.is_some(), broken, "{document}");
            }
        }
        // Without labels nobody can say whom a selector means.
        let other = of("s", &selecting("app: m"));
        let nameless = lab(&other).facts(|facts| facts.labels.clear());
        let (config, _) = nameless.config();
        assert!(config.entrances.iter().all(|one| one.broken.is_some()));
        let (config, _) = lab(&of("s", "")).config();
        let reason = config.entrances[0].broken.clone().unwrap();
        assert!(reason.starts_with("t.yaml:"), "{reason}");
        assert!(
            reason.contains("PeerAuthentication s/bad was refused"),
            "{reason}"
        );
    }

    #[test]
    fn x1_a_legacy_policy_for_a_refused_service_lets_nobody_in() {
        let service = SERVICE
            .replace("name: n,", "name: w,")
            .replace("port: 81", "port: 99999");
        let policy = legacy("Policy", "w", "{targets: [{name: w}], peers: [{mtls: {}}]}");
        let (config, said) = lab(&format!("{service}{policy}")).config();
        assert!(
            config.entrances.iter().all(|one| one.broken.is_some()),
            "{said:?}"
        );
    }

    #[test]
    fn p11_a_server_that_speaks_first_is_warned_of_where_bytes_are_waited_for() {
        let service = SERVICE
            .replace("name: n,", "name: db,")
            .replace("81, name: tcp-x", "3306, name: tcp-x");
        let told = |policy: &str| {
            let (_, said) = lab(&format!("{service}{policy}")).config();
            said.iter().filter(|line| line.contains("SRT0515")).count()
        };
        assert_eq!(told(""), 1);
        for mode in ["STRICT", "DISABLE"] {
            let policy = peers("p", "s", &format!("{{mtls: {{mode: {mode}}}}}"));
            assert_eq!(told(&policy), 0, "{mode}");
        }
    }
}
