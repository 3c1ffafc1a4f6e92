//! What this proxy sees: `exportTo`, the one Sidecar that applies, and mesh-wide settings.
//!
//! Owns: [`Scope`] (H5, H7), [`Mesh`] (what flags and mesh configuration say together).
//! Never: looks at a service's ports or endpoints (that is `registry`).
//! Called by: registry (which services there are), routes (which VirtualServices), clusters.

use std::sync::Arc;
use std::time::Duration;

use super::report;
use crate::config::diagnostic::{Code, Diagnostics};
use crate::config::istio::Manifests;
use crate::config::istio::mesh::ProxyHeaders;
use crate::config::istio::meta::{ExportTo, selects};
use crate::config::istio::sidecar::{EgressListener, OutboundMode, Sidecar, VisibleNamespace};
use crate::config::options::LoadOptions;
use crate::model::{HostPattern, ProxyFacts, Role};

/// Mesh-wide settings: flags where they were given, else the mesh configuration, else defaults.
#[derive(Clone, Debug)]
pub struct Mesh {
    pub trust_domain: Arc<str>,
    /// Other names of the trust domain (T12).
    pub trust_domain_aliases: Vec<Arc<str>>,
    pub root_namespace: Arc<str>,
    /// `enableAutoMtls` (T13).
    pub auto_mtls: bool,
    /// Of upstreams whose DestinationRule says none (T15).
    pub connect_timeout: Duration,
    /// What is changed in heads that come in.
    pub headers: ProxyHeaders,
    /// Of the mesh configuration alone; [`Scope::outbound`] looks at the Sidecar first.
    outbound: Option<OutboundMode>,
}

/// What this proxy sees.
#[derive(Clone, Debug)]
pub struct Scope {
    pub mesh: Mesh,
    /// The proxy's own namespace.
    pub namespace: Arc<str>,
    sidecar: Option<Sidecar>,
}

impl Mesh {
    fn build(manifests: &Manifests, facts: &ProxyFacts) -> Mesh {
        let defaults = ProxyFacts::default();
        let config = manifests.mesh.as_ref();
        let pick = |flag: &Arc<str>, default: &Arc<str>, said: Option<&Arc<str>>| match said {
            Some(said) if flag == default => Arc::clone(said),
            Some(_) | None => Arc::clone(flag),
        };
        Mesh {
            trust_domain: pick(
                &facts.trust_domain,
                &defaults.trust_domain,
                config.and_then(|mesh| mesh.trust_domain.as_ref()),
            ),
            trust_domain_aliases: config
                .map(|mesh| mesh.trust_domain_aliases.clone())
                .unwrap_or_default(),
            root_namespace: pick(
                &facts.root_namespace,
                &defaults.root_namespace,
                config.and_then(|mesh| mesh.root_namespace.as_ref()),
            ),
            auto_mtls: config.and_then(|mesh| mesh.auto_mtls).unwrap_or(true),
            connect_timeout: config
                .and_then(|mesh| mesh.connect_timeout)
                .unwrap_or(Duration::from_secs(10)),
            headers: config.map(|mesh| mesh.headers.clone()).unwrap_or_default(),
            outbound: config.and_then(|mesh| mesh.outbound),
        }
    }

    /// The SPIFFE names of a service account: one for the trust domain and one for each of its
    /// aliases (ISTIO.md P14, T12).
    pub fn spiffe(&self, namespace: &str, account: &str) -> impl Iterator<Item = String> {
        let domains = self.trust_domains();
        domains.map(move |domain| format!("spiffe://{domain}/ns/{namespace}/sa/{account}"))
    }

    /// The trust domain and its aliases, as SPIFFE names have them (ISTIO.md P12, P14).
    pub fn trust_domains(&self) -> impl Iterator<Item = Arc<str>> {
        let domains = std::iter::once(&self.trust_domain).chain(&self.trust_domain_aliases);
        domains.map(|domain| domain.replace('@', ".").into())
    }
}

impl Scope {
    /// Chooses the Sidecar (H7): one that selects this proxy, else its namespace's own, else the
    /// root namespace's; the oldest where there are several. A gateway has none.
    pub fn build(manifests: &Manifests, options: &LoadOptions, out: &mut Diagnostics) -> Scope {
        let facts = &options.facts;
        let mesh = Mesh::build(manifests, facts);
        let sidecar = match facts.role {
            Role::Sidecar => choose(&manifests.sidecars, facts, &mesh, out).cloned(),
            Role::Gateway => None,
        };
        Scope {
            mesh,
            namespace: Arc::clone(&facts.namespace),
            sidecar,
        }
    }

    /// The Sidecar that applies to this proxy.
    pub fn sidecar(&self) -> Option<&Sidecar> {
        self.sidecar.as_ref()
    }

    /// What becomes of unknown hosts: the Sidecar's word, else the mesh's; `None` where neither
    /// says anything (ISTIO.md O1).
    pub fn outbound(&self) -> Option<OutboundMode> {
        let own = self.sidecar.as_ref().and_then(|sidecar| sidecar.outbound);
        own.or(self.mesh.outbound)
    }

    /// True where a VirtualService of `namespace` for one of `hosts` exists for this proxy (H7).
    pub fn sees_routes<'h>(
        &self,
        namespace: &str,
        export_to: &ExportTo,
        hosts: impl Iterator<Item = &'h HostPattern> + Clone,
    ) -> bool {
        export_to.is_visible_in(&self.namespace)
            && self.egress().is_none_or(|all| {
                all.iter().flat_map(|one| &one.hosts).any(|visible| {
                    namespace_is(&visible.namespace, namespace)
                        && hosts.clone().any(|host| overlap(&visible.host, host))
                })
            })
    }

    /// True where the Sidecar lists this service on this port (H7). An egress listener that names
    /// the port decides alone; the ones without a port decide for all others.
    pub fn sees_service(&self, namespace: &str, host: &str, port: u16) -> bool {
        let Some(egress) = self.egress() else {
            return true;
        };
        let own = egress.iter().any(|one| one.port == Some(port));
        let wanted = own.then_some(port);
        egress
            .iter()
            .filter(|one| one.port == wanted)
            .flat_map(|one| &one.hosts)
            .any(|visible| {
                namespace_is(&visible.namespace, namespace) && visible.host.matches(host)
            })
    }

    /// True where the Sidecar lists this service on any port.
    pub fn sees_any_port(&self, namespace: &str, host: &str) -> bool {
        self.egress().is_none_or(|egress| {
            egress.iter().flat_map(|one| &one.hosts).any(|visible| {
                namespace_is(&visible.namespace, namespace) && visible.host.matches(host)
            })
        })
    }

    fn egress(&self) -> Option<&[EgressListener]> {
        self.sidecar.as_ref()?.egress.as_deref()
    }
}

fn namespace_is(visible: &VisibleNamespace, namespace: &str) -> bool {
    match visible {
        VisibleNamespace::Any => true,
        VisibleNamespace::Named(name) => name.as_ref() == namespace,
        VisibleNamespace::Nothing => false,
    }
}

/// True where one of the two patterns covers the other (H1).
fn overlap(a: &HostPattern, b: &HostPattern) -> bool {
    a == b || a.matches(&b.to_string()) || b.matches(&a.to_string())
}

fn choose<'a>(
    sidecars: &'a [Sidecar],
    facts: &ProxyFacts,
    mesh: &Mesh,
    out: &mut Diagnostics,
) -> Option<&'a Sidecar> {
    let own = |sidecar: &&Sidecar| sidecar.meta.namespace == facts.namespace;
    let selecting = sidecars.iter().filter(own).filter(|sidecar| {
        let labels = sidecar.selector.as_ref();
        labels.is_some_and(|labels| selects(labels, &facts.labels))
    });
    if let Some(found) = oldest(selecting, Code::SidecarsOverlap, out) {
        return Some(found);
    }
    let bare = |sidecar: &&Sidecar| sidecar.selector.is_none();
    if let Some(found) = oldest(
        sidecars.iter().filter(own).filter(bare),
        Code::SeveralDefaultSidecars,
        out,
    ) {
        return Some(found);
    }
    let root = sidecars
        .iter()
        .filter(|sidecar| sidecar.meta.namespace == mesh.root_namespace)
        .filter(bare);
    oldest(root, Code::SeveralDefaultSidecars, out)
}

/// The oldest of `found`, with a word about the others (IST0110, IST0111).
fn oldest<'a>(
    found: impl Iterator<Item = &'a Sidecar>,
    code: Code,
    out: &mut Diagnostics,
) -> Option<&'a Sidecar> {
    let mut found: Vec<&Sidecar> = found.collect();
    found.sort_by(|a, b| a.meta.by_age(&b.meta));
    let (first, others) = found.split_first()?;
    for other in others {
        let (kind, advice) = match code {
            Code::SidecarsOverlap => (
                "selects this proxy as well",
                "make the selectors exclude each other",
            ),
            _ => (
                "has no workloadSelector either",
                "keep one of them, or give the other a workloadSelector",
            ),
        };
        let problem = format!(
            "it {kind} as {} ({}), which is older and applies alone",
            first.meta, first.meta.place
        );
        out.push(report::about(&other.meta, code, problem, advice));
    }
    Some(first)
}

#[cfg(test)]
mod tests {
    use crate::config::istio::lower::testing::Lab;

    const ENTRIES: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a, namespace: one}
spec: {hosts: [a.example], ports: [{number: 80, name: http, protocol: HTTP}, {number: 81, name: \
http-b, protocol: HTTP}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: b, namespace: two}
spec: {hosts: [b.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}
---
";

    fn sidecar(name: &str, namespace: &str, spec: &str) -> String {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: {name}, namespace: \
             {namespace}}}\nspec: {spec}\n---\n"
        )
    }

    fn listed(sidecars: &str) -> (Vec<String>, Vec<String>) {
        let lab = Lab::new(&format!("{ENTRIES}{sidecars}"));
        let lab = lab.facts(|facts| {
            facts.labels.insert("app".into(), "me".into());
        });
        let (registry, said) = lab.registry();
        let hosts = registry.services.iter().map(|known| {
            let ports: Vec<String> = known.ports.iter().map(|p| p.number.to_string()).collect();
            format!("{}:{}", known.host, ports.join(","))
        });
        (hosts.collect(), said)
    }

    #[test]
    fn h7_without_a_sidecar_everything_is_seen() {
        assert_eq!(listed("").0, ["a.example:80,81", "b.example:80"]);
        let bare = sidecar("s", "default", "{outboundTrafficPolicy: {mode: ALLOW_ANY}}");
        assert_eq!(listed(&bare).0, ["a.example:80,81", "b.example:80"]);
    }

    #[test]
    fn h7_the_sidecar_that_selects_the_proxy_beats_its_namespaces_and_the_roots() {
        let mine = "{workloadSelector: {labels: {app: me}}, egress: [{hosts: [one/*]}]}";
        let other = "{workloadSelector: {labels: {app: you}}, egress: [{hosts: ['~/*']}]}";
        let all = [
            sidecar("root", "istio-system", "{egress: [{hosts: ['~/*']}]}"),
            sidecar("bare", "default", "{egress: [{hosts: [two/*]}]}"),
            sidecar("other", "default", other),
            sidecar("mine", "default", mine),
        ];
        assert_eq!(listed(&all.concat()).0, ["a.example:80,81"]);
        assert_eq!(listed(&all[..3].concat()).0, ["b.example:80"]);
        assert_eq!(listed(&all[..1].concat()).0, Vec::<String>::new());
        let elsewhere = sidecar("bare", "two", "{egress: [{hosts: ['~/*']}]}");
        assert_eq!(listed(&elsewhere).0, ["a.example:80,81", "b.example:80"]);
    }

    #[test]
    fn h7_an_egress_listener_with_a_port_decides_alone_for_that_port() {
        let spec = "{egress: [{port: {number: 81, name: http, protocol: HTTP}, hosts: ['one/*']}, \
                    {hosts: ['*/b.example']}]}";
        assert_eq!(
            listed(&sidecar("s", "default", spec)).0,
            ["a.example:81", "b.example:80"]
        );
    }

    #[test]
    fn h7_what_the_sidecar_does_not_list_is_still_a_destination_and_no_host() {
        let spec = "{egress: [{hosts: ['two/*']}]}";
        let text = format!("{ENTRIES}{}", sidecar("s", "default", spec));
        let (registry, _) = Lab::new(&text).registry();
        assert!(registry.find("a.example").is_none());
        let told = Lab::new(&text).refer("a.example", 80, "");
        assert_eq!(told.endpoints(), ["a.example:80"]);
    }

    #[test]
    fn ist0110_and_ist0111_several_sidecars_are_told_and_the_oldest_applies() {
        let selecting = "{workloadSelector: {labels: {app: me}}, egress: [{hosts: [one/*]}]}";
        let both = [
            sidecar("first", "default", selecting),
            sidecar("second", "default", &selecting.replace("one", "two")),
        ];
        let (hosts, said) = listed(&both.concat());
        assert_eq!(hosts, ["a.example:80,81"]);
        assert_eq!(
            said,
            [
                "t.yaml:17: warning[IST0110] Sidecar default/second: it selects this proxy as well as \
              Sidecar default/first (t.yaml:12), which is older and applies alone; make the \
              selectors exclude each other"
            ]
        );
        let bare = [
            sidecar("first", "default", "{egress: [{hosts: [one/*]}]}"),
            sidecar("second", "default", "{egress: [{hosts: [two/*]}]}"),
        ];
        let (hosts, said) = listed(&bare.concat());
        assert_eq!(hosts, ["a.example:80,81"]);
        assert_eq!(said.len(), 1);
        assert!(
            said[0].contains("error[IST0111] Sidecar default/second: it has no"),
            "{said:?}"
        );
    }

    #[test]
    fn h5_what_is_not_exported_to_the_proxy_does_not_exist() {
        for (export_to, seen) in [
            ("['*']", true),
            ("[default]", true),
            ("[other, default]", true),
            ("[.]", false),
            ("[other]", false),
            ("['~']", false),
        ] {
            let text = ENTRIES.replace(
                "resolution: DNS}",
                &format!("resolution: DNS, exportTo: {export_to}}}"),
            );
            let (registry, _) = Lab::new(&text).registry();
            assert_eq!(registry.find("a.example").is_some(), seen, "{export_to}");
            let told = Lab::new(&text).refer("a.example", 80, "");
            assert_eq!(told.spec.broken.is_none(), seen, "{export_to}");
        }
    }

    #[test]
    fn the_mesh_configuration_applies_where_a_flag_was_left_at_its_default() {
        let mesh = "
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
metadata: {name: mesh}
spec:
  meshConfig:
    trustDomain: corp.example
    rootNamespace: root
    connectTimeout: 3s
    enableAutoMtls: false
";
        let (registry, _) = Lab::new(mesh).registry();
        let own = &registry.scope.mesh;
        assert_eq!(
            (&*own.trust_domain, &*own.root_namespace),
            ("corp.example", "root")
        );
        assert_eq!((own.connect_timeout.as_secs(), own.auto_mtls), (3, false));
        let flags = Lab::new(mesh).facts(|facts| facts.trust_domain = "flag.example".into());
        assert_eq!(&*flags.registry().0.scope.mesh.trust_domain, "flag.example");
    }
}
