//! Automatic mutual TLS: what a client infers of servers that say nothing to it (ISTIO.md P3 to P6).
//!
//! Owns: [`Servers`]: PeerAuthentications and legacy Policies, as seen from the client's side.
//! Never: overrides a DestinationRule's `tls` (T13).
//! Called by: clusters.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::registry::{Endpoint, HasSidecar, Known};
use super::report;
use super::scope::Mesh;
use super::workloads::target_of;
use crate::config::diagnostic::{Code, Diagnostic, Diagnostics, Severity};
use crate::config::istio::Manifests;
use crate::config::istio::meta::{Labels, Meta, selects};
use crate::config::istio::peer_authentication::{
    LegacyPolicy, LegacyPort, MtlsMode, PeerAuthentication,
};
use crate::config::istio::service::Service;
use crate::config::istio::service_entry::{EntryResolution, Location, ServicePort, TargetPort};
use crate::model::Place;

/// A mode and who says it; `None`: the default.
pub type Mode<'a> = (MtlsMode, Option<(Arc<str>, &'a Place)>);

/// What servers accept, as far as a client may know.
#[derive(Default)]
pub struct Servers<'a> {
    /// The oldest of each namespace without a selector, and of the root namespace for the mesh.
    namespaces: HashMap<&'a str, &'a PeerAuthentication>,
    root: &'a str,
    /// Those with a selector, the oldest first; none of the root namespace (P1).
    workloads: HashMap<&'a str, Vec<&'a PeerAuthentication>>,
    legacy_mesh: Option<&'a LegacyPolicy>,
    legacy_namespaces: HashMap<&'a str, &'a LegacyPolicy>,
    legacy_targets: HashMap<&'a str, Vec<Target<'a>>>,
    /// Namespaces of policies that were turned away: what they demanded is not known (X1).
    unsure: HashSet<&'a str>,
}

/// A target of a legacy Policy with the Service that it names (P5).
struct Target<'a> {
    policy: &'a LegacyPolicy,
    service: &'a Service,
    ports: &'a [LegacyPort],
}

/// One workload, as a policy looks at it.
pub struct Workload<'a> {
    pub namespace: &'a str,
    pub labels: &'a Labels,
    /// Where it listens (P2).
    pub port: Option<u16>,
    /// The numbers of its named ports, as far as they are known.
    pub names: &'a BTreeMap<String, u16>,
    /// The Service that it is reached by, where it is one of Kubernetes, and its port.
    pub service: Option<(&'a str, &'a ServicePort)>,
}

impl<'a> Servers<'a> {
    /// Those of `manifests`.
    pub fn new(manifests: &'a Manifests, mesh: &'a Mesh) -> Servers<'a> {
        let mut servers = Servers {
            root: &mesh.root_namespace,
            ..Servers::default()
        };
        let mut policies: Vec<_> = manifests.peer_authentications.iter().collect();
        policies.sort_by(|a, b| a.meta.by_age(&b.meta));
        for policy in policies {
            let namespace = policy.meta.namespace.as_ref();
            if policy.selector.as_ref().is_none_or(Labels::is_empty) {
                servers.namespaces.entry(namespace).or_insert(policy);
            } else if namespace != servers.root {
                servers.workloads.entry(namespace).or_default().push(policy);
            }
        }
        let mut legacy: Vec<_> = manifests.legacy_policies.iter().collect();
        legacy.sort_by(|a, b| a.meta.by_age(&b.meta));
        let services = by_name(manifests);
        for policy in legacy {
            servers.legacy(policy, &services);
        }
        for object in &manifests.refused {
            match object.meta.kind {
                "PeerAuthentication" | "Policy" => {
                    servers.unsure.insert(&object.meta.namespace);
                }
                "MeshPolicy" => {
                    servers.unsure.insert(servers.root);
                }
                _ => {}
            }
        }
        servers
    }

    fn legacy(
        &mut self,
        policy: &'a LegacyPolicy,
        services: &HashMap<(&'a str, &'a str), &'a Service>,
    ) {
        let namespace = policy.meta.namespace.as_ref();
        if policy.mesh {
            self.legacy_mesh.get_or_insert(policy);
        } else if policy.targets.is_empty() {
            self.legacy_namespaces.entry(namespace).or_insert(policy);
        }
        for (name, ports) in &policy.targets {
            if let Some(service) = services.get(&(namespace, name.as_ref())) {
                let targets = self.legacy_targets.entry(namespace).or_default();
                targets.push(Target {
                    policy,
                    service,
                    ports,
                });
            }
        }
    }

    /// P3: what the namespace and the mesh say; policies of workloads are not looked at.
    pub fn of_namespace(&self, namespace: &str) -> Mode<'a> {
        self.peers(namespace).unwrap_or_else(|| {
            let own = self.legacy_namespaces.get(namespace).copied();
            match own.or(self.legacy_mesh) {
                Some(legacy) => said(legacy.mode, &legacy.meta),
                None => (MtlsMode::Permissive, None),
            }
        })
    }

    /// What the PeerAuthentications of the namespace and the mesh say, if they say anything (P1).
    fn peers(&self, namespace: &str) -> Option<Mode<'a>> {
        [namespace, self.root].into_iter().find_map(|namespace| {
            let policy = self.namespaces.get(namespace)?;
            Some(said(policy.mode?, &policy.meta))
        })
    }

    /// The PeerAuthentication whose selector means these workloads: the oldest (P1).
    pub fn selecting(&self, namespace: &str, labels: &Labels) -> Option<&'a PeerAuthentication> {
        let policies = self.workloads.get(namespace);
        let mut policies = policies.into_iter().flatten();
        let found = policies.find(|policy| {
            let selector = policy.selector.as_ref();
            selector.is_some_and(|selector| selects(selector, labels))
        });
        found.copied()
    }

    /// P1, P2, P5: what holds for one workload and port. Legacy policies count where no
    /// PeerAuthentication says anything, as in the releases that knew both.
    pub fn of_workload(&self, workload: &Workload<'_>) -> Mode<'a> {
        let policy = self.selecting(workload.namespace, workload.labels);
        if let Some(policy) = policy {
            let on_port = workload.port.and_then(|port| policy.ports.get(&port));
            if let Some(mode) = on_port.copied().flatten().or(policy.mode) {
                return said(mode, &policy.meta);
            }
        }
        if let Some(mode) = self.peers(workload.namespace) {
            return mode;
        }
        let targets = self.legacy_targets.get(workload.namespace);
        let mut targets = targets.into_iter().flatten();
        match targets.find(|target| policy.is_none() && target.means(workload)) {
            Some(target) => said(target.policy.mode, &target.policy.meta),
            None => self.of_namespace(workload.namespace),
        }
    }

    /// T13, P4: what is spoken to each of `endpoints`; `None` where it is plaintext for all.
    pub fn infer(
        &self,
        known: &Known,
        at: usize,
        port: &ServicePort,
        endpoints: &[&Endpoint],
    ) -> Option<Inferred<'a>> {
        if known.location == Location::External {
            return None;
        }
        let (mode, by) = self.of_namespace(&known.namespace);
        let mut places = [known.namespace.as_ref(), self.root].into_iter();
        let unsure = places.any(|namespace| self.unsure.contains(namespace));
        if mode == MtlsMode::Disable && !unsure {
            return None;
        }
        let dialled = known.resolution == EntryResolution::None;
        let all = |endpoint: &Endpoint| endpoint.sidecar == HasSidecar::Yes;
        if dialled && (known.endpoints.is_empty() || !known.endpoints.iter().all(all)) {
            return None;
        }
        let unknown = BTreeMap::new();
        let each: Vec<(bool, MtlsMode)> = endpoints
            .iter()
            .map(|endpoint| {
                let (mode, _) = self.of_workload(&Workload {
                    namespace: &known.namespace,
                    labels: &endpoint.labels,
                    port: endpoint.ports.get(at).copied().flatten(),
                    names: &unknown,
                    service: known.kubernetes.then_some((&*known.name, port)),
                });
                // A policy that was turned away may have been STRICT: never plaintext by mistake.
                let mode = if unsure { MtlsMode::Strict } else { mode };
                (takes(endpoint.sidecar, mode), mode)
            })
            .collect();
        let any = dialled || each.iter().any(|(mutual, _)| *mutual);
        any.then(|| Inferred {
            plaintext: each.iter().map(|(mutual, _)| !mutual).collect(),
            strict: each
                .iter()
                .any(|(mutual, mode)| *mutual && *mode == MtlsMode::Strict),
            by,
        })
    }
}

/// What automatic mutual TLS does.
pub struct Inferred<'a> {
    /// For each endpoint, whether it is spoken to in plaintext all the same.
    pub plaintext: Vec<bool>,
    /// One of the others accepts nothing but mutual TLS.
    pub strict: bool,
    /// Who says so.
    pub by: Option<(Arc<str>, &'a Place)>,
}

/// P4. Of a workload that no document describes, STRICT is taken at its word.
fn takes(sidecar: HasSidecar, mode: MtlsMode) -> bool {
    match (sidecar, mode) {
        (_, MtlsMode::Disable) | (HasSidecar::No, _) => false,
        (HasSidecar::Yes, _) | (HasSidecar::Unknown, MtlsMode::Strict) => true,
        (HasSidecar::Unknown, MtlsMode::Permissive) => false,
    }
}

impl Target<'_> {
    /// True where the workload is one of the Service's, on one of the ports that are named.
    fn means(&self, workload: &Workload<'_>) -> bool {
        let selector = &self.service.selector;
        let reached_by = workload
            .service
            .filter(|(name, _)| *name == self.service.meta.name.as_ref());
        if let Some((_, port)) = reached_by {
            return self.names(port);
        }
        if selector.is_empty() || !selects(selector, workload.labels) {
            return false;
        }
        let mut ports = self.service.ports.iter();
        let meant = |port: &ServicePort| match (&port.target, target_of(port, workload.names)) {
            (_, Some(number)) => workload.port == Some(number),
            // Which port it is is not known: what is demanded of it is demanded of all.
            (Some(TargetPort::Name(_)), None) => self.policy.mode == MtlsMode::Strict,
            (_, None) => false,
        };
        self.ports.is_empty() || ports.any(|port| self.names(port) && meant(port))
    }

    fn names(&self, port: &ServicePort) -> bool {
        let is = |named: &LegacyPort| match named {
            LegacyPort::Number(number) => *number == port.number,
            LegacyPort::Name(name) => *name == port.name,
        };
        self.ports.is_empty() || self.ports.iter().any(is)
    }
}

/// A mode and who says it.
fn said(mode: MtlsMode, meta: &Meta) -> Mode<'_> {
    (mode, Some((meta.object(), &meta.place)))
}

fn by_name(manifests: &Manifests) -> HashMap<(&str, &str), &Service> {
    let services = manifests.services.iter();
    services
        .map(|service| {
            let meta = &service.meta;
            ((meta.namespace.as_ref(), meta.name.as_ref()), service)
        })
        .collect()
}

/// P6: targets of legacy Policies whose Service no document declares have no effect.
pub fn unknown_targets(manifests: &Manifests, out: &mut Diagnostics) {
    let services = by_name(manifests);
    for policy in &manifests.legacy_policies {
        let namespace = policy.meta.namespace.as_ref();
        for (name, _) in &policy.targets {
            if !services.contains_key(&(namespace, name.as_ref())) {
                let problem = format!(
                    "the target {name:?} is no Service of namespace {namespace:?}, and so the \
                     policy has no effect on it"
                );
                let advice = "load the Service's document too, or correct the name";
                let code = Code::ReferenceNotFound;
                out.push(Diagnostic {
                    severity: Severity::Warning,
                    ..report::about(&policy.meta, code, problem, advice)
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::istio::lower::testing::{Lab, Told};

    const HOST: &str = "n.s.svc.cluster.local";

    /// A Service with one WorkloadEntry of these labels, and more documents.
    fn lab(labels: &str, more: &str) -> Lab {
        Lab::new(&format!(
            "apiVersion: v1
kind: Service
metadata: {{name: n, namespace: s}}
spec: {{selector: {{app: n}}, ports: [{{port: 80, name: http, targetPort: 8080}}]}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: vm, namespace: s}}
spec: {{address: 10.0.0.1, labels: {{app: n{labels}}}}}
---
{more}"
        ))
        .identity()
    }

    const ISTIO: &str = ", security.istio.io/tlsMode: istio";

    fn refer(labels: &str, more: &str) -> Told {
        lab(labels, more).refer(HOST, 80, "")
    }

    fn peers(name: &str, namespace: &str, spec: &str) -> String {
        format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: {name}, \
             namespace: {namespace}}}\nspec: {spec}\n---\n"
        )
    }

    #[test]
    fn p4_a_workload_with_the_label_takes_mutual_tls_and_another_does_not() {
        assert!(!refer(ISTIO, "").is_plaintext());
        assert!(refer("", "").is_plaintext());
        assert!(refer(", security.istio.io/tlsMode: disabled", "").is_plaintext());
        let mesh = refer(ISTIO, "");
        assert_eq!(
            mesh.reason("tls"),
            "ISTIO_MUTUAL, by automatic mutual TLS by \"\""
        );
    }

    #[test]
    fn p4_a_workload_entry_with_a_service_account_counts_as_labelled() {
        let more = "apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: second, namespace: s}
spec: {address: 10.0.0.2, labels: {app: n}, serviceAccount: sa}
";
        let told = refer("", more);
        assert_eq!(told.endpoints(), ["10.0.0.1:8080!", "10.0.0.2:8080"]);
        assert_eq!(
            told.tls().subject_alt_names,
            ["spiffe://cluster.local/ns/s/sa/sa"]
        );
    }

    #[test]
    fn p3_a_namespace_or_mesh_that_disables_it_is_plaintext_and_workloads_are_not_asked() {
        let strict = "{selector: {matchLabels: {app: n}}, mtls: {mode: STRICT}}";
        for (policies, plaintext) in [
            (peers("d", "s", "{mtls: {mode: DISABLE}}"), true),
            (peers("d", "istio-system", "{mtls: {mode: DISABLE}}"), true),
            (peers("d", "other", "{mtls: {mode: DISABLE}}"), false),
            (
                peers("d", "s", "{mtls: {mode: DISABLE}}") + &peers("w", "s", strict),
                true,
            ),
            (
                peers("d", "istio-system", "{mtls: {mode: DISABLE}}")
                    + &peers("n", "s", "{mtls: {mode: STRICT}}"),
                false,
            ),
            (
                peers("d", "istio-system", "{mtls: {mode: DISABLE}}")
                    + &peers("n", "s", "{mtls: {mode: UNSET}}"),
                true,
            ),
        ] {
            assert_eq!(
                refer(ISTIO, &policies).is_plaintext(),
                plaintext,
                "{policies}"
            );
        }
    }

    #[test]
    fn p4_a_workload_that_disables_it_is_plaintext_on_that_port() {
        let all = "{selector: {matchLabels: {app: n}}, mtls: {mode: DISABLE}}";
        assert!(refer(ISTIO, &peers("w", "s", all)).is_plaintext());
        let port = |port: u16| {
            format!(
                "{{selector: {{matchLabels: {{app: n}}}}, mtls: {{mode: STRICT}}, portLevelMtls: \
                 {{{port}: {{mode: DISABLE}}}}}}"
            )
        };
        // P2: workload ports.
        assert!(refer(ISTIO, &peers("w", "s", &port(8080))).is_plaintext());
        assert!(!refer(ISTIO, &peers("w", "s", &port(80))).is_plaintext());
        // P1: a selector in the root namespace makes no policy of the mesh.
        assert!(!refer(ISTIO, &peers("w", "istio-system", all)).is_plaintext());
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

    #[test]
    fn p5_a_target_beats_the_namespace_which_beats_the_mesh() {
        let mesh_off = legacy("MeshPolicy", "default", "{peers: []}");
        let mesh_on = legacy("MeshPolicy", "default", "{peers: [{mtls: {}}]}");
        let namespace_on = legacy("Policy", "default", "{peers: [{mtls: {mode: PERMISSIVE}}]}");
        let target_off = legacy("Policy", "n", "{targets: [{name: n}]}");
        for (policies, plaintext) in [
            (mesh_off.clone(), true),
            (mesh_on, false),
            (mesh_off + &namespace_on, false),
            (namespace_on + &target_off, true),
        ] {
            assert_eq!(
                refer(ISTIO, &policies).is_plaintext(),
                plaintext,
                "{policies}"
            );
        }
    }

    #[test]
    fn p5_ports_of_a_target_are_service_ports_by_number_or_name() {
        for (port, plaintext) in [
            ("number: 80", true),
            ("name: http", true),
            ("number: 8080", false),
            ("name: other", false),
        ] {
            let spec = format!("{{targets: [{{name: n, ports: [{{{port}}}]}}]}}");
            let told = refer(ISTIO, &legacy("Policy", "n", &spec));
            assert_eq!(told.is_plaintext(), plaintext, "{port}");
        }
    }

    #[test]
    fn p6_a_target_without_a_service_is_said_and_has_no_effect() {
        let told = refer(ISTIO, &legacy("Policy", "p", "{targets: [{name: nobody}]}"));
        assert!(!told.is_plaintext());
        assert_eq!(told.said("IST0101").len(), 1);
        assert!(told.said("IST0101")[0].contains("warning[IST0101] Policy s/p: the target"));
    }

    #[test]
    fn t13_an_explicit_mode_a_switched_off_mesh_and_an_external_service_infer_nothing() {
        let rule = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: n, namespace: s}
spec: {host: n, trafficPolicy: {tls: {mode: DISABLE}}}
";
        assert!(refer(ISTIO, rule).is_plaintext());
        let mesh = "apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
metadata: {name: mesh}
spec: {meshConfig: {enableAutoMtls: false}}
";
        assert!(refer(ISTIO, mesh).is_plaintext());
        for (location, plaintext) in [("MESH_EXTERNAL", true), ("MESH_INTERNAL", false)] {
            let entry = format!(
                "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: e}}
spec:
  hosts: [e.example]
  location: {location}
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: 10.0.0.9, serviceAccount: sa}}]
"
            );
            let told = lab("", &entry).refer("e.example", 80, "");
            assert_eq!(told.is_plaintext(), plaintext, "{location}");
        }
    }

    #[test]
    fn t16_without_an_identity_a_workload_with_a_sidecar_fails_closed() {
        let lab = lab(ISTIO, "").facts(|facts| facts.identity = None);
        let told = lab.refer(HOST, 80, "");
        assert_eq!(
            told.broken(),
            "Unhealthy: n.s.svc.cluster.local: its workloads have sidecars, and automatic mutual \
             TLS speaks TLS to them, but a mesh identity is needed, and none was given: name the \
             folder of cert-chain.pem, key.pem and root-cert.pem with --identity"
        );
        assert_eq!(told.said("SRT0512").len(), 1);
        let none = self::lab("", "").facts(|facts| facts.identity = None);
        assert!(none.refer(HOST, 80, "").is_plaintext());
    }

    #[test]
    fn t16_lenient_sends_plaintext_only_where_the_servers_permit_it() {
        for (mode, plaintext) in [("PERMISSIVE", true), ("STRICT", false)] {
            let policy = peers("p", "s", &format!("{{mtls: {{mode: {mode}}}}}"));
            let lab = lab(ISTIO, &policy).facts(|facts| facts.identity = None);
            let told = lab
                .options(|options| options.lenient = true)
                .refer(HOST, 80, "");
            assert_eq!(told.is_plaintext(), plaintext, "{mode}");
            assert_eq!(told.spec.broken.is_some(), !plaintext, "{mode}");
            assert_eq!(told.said("SRT0512").len(), 1, "{mode}");
        }
    }

    #[test]
    fn x1_a_refused_policy_is_never_taken_for_a_permissive_one() {
        let service = "apiVersion: v1
kind: Service
metadata: {name: n, namespace: s}
spec: {ports: [{port: 80, name: http}]}
---
";
        let off = peers("off", "istio-system", "{mtls: {mode: DISABLE}}");
        for (namespace, plaintext) in [("s", false), ("istio-system", false), ("other", true)] {
            let bad = peers("bad", namespace, "{mtls: {mode: STRICTEST}}");
            for more in ["", off.as_str()] {
                let lab = Lab::new(&format!("{service}{bad}{more}")).identity();
                let told = lab.refer(HOST, 80, "");
                assert_eq!(told.is_plaintext(), plaintext, "{namespace} {more}");
            }
        }
    }

    #[test]
    fn strict_is_taken_at_its_word_for_a_service_that_no_document_describes_further() {
        let service = "apiVersion: v1
kind: Service
metadata: {name: n, namespace: s}
spec: {ports: [{port: 80, name: http}]}
---
";
        for (mode, plaintext) in [("PERMISSIVE", true), ("STRICT", false)] {
            let policy = peers("p", "s", &format!("{{mtls: {{mode: {mode}}}}}"));
            let told = Lab::new(&format!("{service}{policy}"))
                .identity()
                .refer(HOST, 80, "");
            assert_eq!(told.is_plaintext(), plaintext, "{mode}");
        }
    }
}
