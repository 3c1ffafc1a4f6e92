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
            outbound: config.and_then(|mesh| mesh.outbound),
        }
    }

    /// The SPIFFE names of a service account: one for the trust domain and one for each of its
    /// aliases (ISTIO.md P14, T12).
    pub fn spiffe(&self, namespace: &str, account: &str) -> impl Iterator<Item = String> {
        let domains = std::iter::once(&self.trust_domain).chain(&self.trust_domain_aliases);
        domains.map(move |domain| {
            let domain = domain.replace('@', ".");
            format!("spiffe://{domain}/ns/{namespace}/sa/{account}")
        })
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

    /// True where an object of `namespace` with this `exportTo` exists for this proxy (H5), and the
    /// Sidecar lists any host of its namespace (H7).
    pub fn sees_object(&self, namespace: &str, export_to: &ExportTo) -> bool {
        export_to.is_visible_in(&self.namespace)
            && self
                .egress()
                .is_none_or(|all| all.iter().any(|one| lists_namespace(one, namespace)))
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

fn lists_namespace(listener: &EgressListener, namespace: &str) -> bool {
    let mut hosts = listener.hosts.iter();
    hosts.any(|visible| namespace_is(&visible.namespace, namespace))
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
