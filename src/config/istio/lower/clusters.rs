//! Hosts, ports and subsets to upstreams, named as Istio names clusters: `outbound|80||host`.
//!
//! Owns: [`Clusters`]: each made when a route first names it, whole, or broken with the reason.
//! Never: decides which route names what.
//! Called by: lower, routes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::auto_mtls::Servers;
use super::client_tls::{Context, Decided};
use super::credential::Credentials;
use super::dangling::{self, Failed};
use super::endpoints;
use super::host_index::HostIndex;
use super::names;
use super::plaintext::{Plaintext, Silent};
use super::policy::{Merged, Policies};
use super::registry::{Known, Registry};
use super::report;
use super::settings;
use super::spoken::{self, Once, Serving};
use super::traffic::{Said, Settings};
use crate::config::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::config::istio::Manifests;
use crate::config::istio::destination_rule::{LoadBalancer, TlsMode, TlsSettings};
use crate::config::istio::manifests::{Governs, RefusedObject};
use crate::config::istio::meta::Labels;
use crate::config::istio::service_entry::{EntryResolution, Protocol};
use crate::config::options::LoadOptions;
use crate::model::{
    AlpnOffer, Broken, HostPattern, Place, Reason, Reasons, Resolution, Role, ServiceLabels,
    TlsPolicy, UpstreamSpec,
};

/// Who asks for a cluster: for messages about what is dangling (IST0101).
#[derive(Clone, Debug)]
pub struct Referrer {
    /// `VirtualService ns/name`.
    pub object: Arc<str>,
    pub place: Place,
}

/// Which cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted<'a> {
    /// Expanded (H3), in normal form; a wildcard as `*.suffix`.
    pub host: &'a str,
    /// A service port.
    pub port: u16,
    /// Empty for none.
    pub subset: &'a str,
}

/// What is spoken to an upstream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speech {
    /// What policies say.
    AsDecided,
    /// What the client speaks, untouched.
    Untouched,
}

/// The upstreams made so far.
pub struct Clusters<'a> {
    registry: &'a Registry,
    options: &'a LoadOptions,
    policies: Policies<'a>,
    servers: Servers<'a>,
    credentials: Credentials<'a>,
    /// ServiceEntries and Services that were turned away, by the hosts that they claim (X1).
    turned_away: HostIndex<Vec<&'a RefusedObject>>,
    made: BTreeMap<Arc<str>, UpstreamSpec>,
    plaintext: Plaintext<'a>,
    /// What was said once.
    said: Once,
}

impl<'a> Clusters<'a> {
    pub fn new(
        manifests: &'a Manifests,
        registry: &'a Registry,
        options: &'a LoadOptions,
    ) -> Clusters<'a> {
        let facts = &options.facts;
        let scope = &registry.scope;
        let mut turned_away: HostIndex<Vec<&RefusedObject>> = HostIndex::default();
        for object in &manifests.refused {
            if let Governs::Hosts(hosts) = &object.governs
                && matches!(object.meta.kind, "ServiceEntry" | "Service")
            {
                for host in hosts {
                    turned_away.entry(host).push(object);
                }
            }
        }
        Clusters {
            registry,
            options,
            policies: Policies::build(manifests, scope, &facts.labels, &facts.cluster_domain),
            servers: Servers::new(manifests, &scope.mesh),
            credentials: Credentials::new(manifests, facts),
            turned_away,
            made: BTreeMap::new(),
            plaintext: Plaintext::new(manifests, scope, options),
            said: Once::default(),
        }
    }

    /// The name of the upstream for `wanted`, which is made on first use. What is not in the
    /// registry becomes a broken upstream (V10, D7), and is reported once (IST0101).
    pub fn refer(
        &mut self,
        wanted: Wanted<'_>,
        referrer: &Referrer,
        out: &mut Diagnostics,
    ) -> Arc<str> {
        let Wanted { host, port, subset } = wanted;
        let host = match HostPattern::parse(host) {
            Ok(host) => host,
            Err(error) => {
                let reason = format!("{host:?} is no host: {error}");
                let failed = Failed::unhealthy(reason);
                let name: Arc<str> = format!("outbound|{port}|{subset}|{host}").into();
                return self.broken(name, failed, &referrer.place, out);
            }
        };
        let host = names::full(host, &self.options.facts.cluster_domain);
        let known = self.registry.destination(&host);
        // An ExternalName Service is another name of its target (E9).
        let host = known.map_or(&host, |known| &known.host);
        let name: Arc<str> = format!("outbound|{port}|{subset}|{host}").into();
        if self.made.contains_key(&name) {
            return name;
        }
        let built = match self.governed(host, known) {
            Some(failed) => Err(failed),
            None => self.service(host, port, known, referrer, out),
        };
        let built = built.and_then(|known| {
            let wanted = (port, subset, Speech::AsDecided);
            self.build(&name, &known, wanted, referrer, out)
        });
        match built {
            Ok(spec) => {
                self.made.insert(Arc::clone(&name), spec);
                name
            }
            Err(failed) => self.broken(name, failed, &referrer.place, out),
        }
    }

    /// The upstream of `wanted` for connections whose TLS is passed on as it is, whatever
    /// DestinationRules say of TLS (AUTO_PASSTHROUGH, ISTIO.md G3). Its name is the server name that
    /// leads to it.
    pub fn untouched(
        &mut self,
        wanted: Wanted<'_>,
        referrer: &Referrer,
        out: &mut Diagnostics,
    ) -> Arc<str> {
        let Wanted { host, port, subset } = wanted;
        let name: Arc<str> = format!("outbound_.{port}_.{subset}_.{host}").into();
        if self.made.contains_key(&name) {
            return name;
        }
        let registry = self.registry;
        let host = HostPattern::parse(host).ok();
        let known = host.and_then(|host| registry.destination(&host));
        let built = match known {
            Some(known) => match self.governed(&known.host, Some(known)) {
                Some(failed) => Err(failed),
                None => self.build(
                    &name,
                    known,
                    (port, subset, Speech::Untouched),
                    referrer,
                    out,
                ),
            },
            None => Err(dangling::unknown_host(wanted.host, referrer, registry)),
        };
        match built {
            Ok(spec) => {
                self.made.insert(Arc::clone(&name), spec);
                name
            }
            Err(failed) => self.broken(name, failed, &referrer.place, out),
        }
    }

    /// The names of the subsets that DestinationRules give a service (D3).
    pub fn subsets(&self, known: &Known) -> Vec<String> {
        let merged = self.policies.find(&known.host, Some(&known.namespace));
        let subsets = merged.into_iter().flat_map(|merged| &merged.subsets);
        subsets.map(|(subset, _)| subset.name.to_string()).collect()
    }

    /// Says so where a rule sends HTTP to a port that is declared for TLS, in plaintext (SRT0506).
    pub fn carries_http(&mut self, name: &str, referrer: &Referrer, out: &mut Diagnostics) {
        let Referrer { object, place } = referrer;
        if let Some(finding) = self.plaintext.carries_http(name, object, place) {
            self.said.say(finding, out);
        }
    }

    /// All of them, by name.
    pub fn into_upstreams(self) -> impl Iterator<Item = UpstreamSpec> {
        self.made.into_values()
    }

    fn broken(
        &mut self,
        name: Arc<str>,
        failed: Failed,
        place: &Place,
        out: &mut Diagnostics,
    ) -> Arc<str> {
        if let Some(finding) = failed.finding {
            out.push(*finding);
        }
        let mut spec = UpstreamSpec::new(&name);
        spec.place = place.clone();
        spec.broken = Some(Broken {
            kind: failed.kind,
            reason: failed.reason.into(),
        });
        self.made.insert(Arc::clone(&name), spec);
        name
    }

    /// X1: the host is one that a refused ServiceEntry or Service claims. Exactly that host where it
    /// is known; where it is not, the refused one may have been what made it known.
    fn governed(&self, host: &HostPattern, known: Option<&Known>) -> Option<Failed> {
        let mut refused: Box<dyn Iterator<Item = &&RefusedObject>> = match known {
            Some(_) => Box::new(self.turned_away.exactly(host).into_iter().flatten()),
            None => Box::new(self.turned_away.covering(host).flatten()),
        };
        let kubernetes = known.is_some_and(|known| known.kubernetes);
        // A Service wins over a ServiceEntry, refused or not (H6).
        let found = refused.find(|object| !kubernetes || object.meta.kind == "Service")?;
        Some(Failed::unhealthy(dangling::turned_away(found)))
    }

    /// The service, or what stands for a name that only the cluster's DNS can know.
    fn service(
        &self,
        host: &HostPattern,
        port: u16,
        known: Option<&'a Known>,
        referrer: &Referrer,
        out: &mut Diagnostics,
    ) -> Result<Cow<'a, Known>, Failed> {
        if let Some(known) = known {
            return Ok(Cow::Borrowed(known));
        }
        let domain = &self.options.facts.cluster_domain;
        if let HostPattern::Exact(name) = host
            && let Some(namespace) = names::cluster_local(name.as_str(), domain)
        {
            out.push(dangling::looked_up(name, port, referrer));
            let known = endpoints::undeclared(name, namespace, port, &referrer.place);
            return Ok(Cow::Owned(known));
        }
        let text = host.to_string();
        Err(dangling::unknown_host(&text, referrer, self.registry))
    }

    fn build(
        &mut self,
        name: &Arc<str>,
        known: &Known,
        (port, subset, speech): (u16, &str, Speech),
        referrer: &Referrer,
        out: &mut Diagnostics,
    ) -> Result<UpstreamSpec, Failed> {
        let Some((at, declared)) = known.port(port) else {
            return Err(dangling::unknown_port(known, port, referrer));
        };
        let merged = self.policies.find(&known.host, Some(&known.namespace));
        let merged = merged.cloned();
        if let Some(refused) = merged.as_ref().and_then(|merged| merged.refused) {
            return Err(Failed::unhealthy(dangling::turned_away(refused)));
        }
        let (labels, traffic) = policy(known, merged.as_ref(), (port, subset), referrer)?;
        let known = &*dialled(known, &traffic);
        let mut reasons = super::reasons::policy(merged.as_ref(), (port, subset));
        let mut spec = UpstreamSpec::new(name);
        spec.place = known.place.clone();
        let mesh = &self.registry.scope.mesh;
        settings::apply(&mut spec, &traffic, declared.protocol, mesh);
        spec.resolution = endpoints::resolution(known, declared);
        let chosen = endpoints::chosen(known, at, labels, subset)?;
        spec.endpoints = endpoints::specs(&chosen, at)?;
        reasons.push(endpoints::reason(known, &spec.endpoints, spec.resolution));
        let serving = Serving {
            known,
            at,
            port: declared,
            subset,
            endpoints: &chosen,
        };
        let decided = match speech {
            Speech::AsDecided => self.tls(traffic.tls, &serving, &mut spec, &mut reasons, out)?,
            Speech::Untouched => None,
        };
        match decided {
            Some(decided) => {
                if let Some(said) = traffic.tls
                    && declared.protocol == Protocol::Tls
                    && !decided.spec.allow_tls_in_tls
                    // Inside the mesh applications leave TLS to their sidecars.
                    && decided.spec.alpn != AlpnOffer::Istio
                    && self.serves_applications()
                {
                    self.said.say(tls_in_tls(known, port, said), out);
                }
                reasons.extend(decided.reasons);
                spec.tls = TlsPolicy::Tls(Box::new(decided.spec));
            }
            // Whoever wrote DISABLE knows.
            None if traffic.tls.is_some() || speech == Speech::Untouched => {}
            None => {
                let merged = merged.as_ref();
                let port = declared;
                let silent = Silent {
                    name,
                    known,
                    port,
                    merged,
                };
                if let Some(finding) = self.plaintext.of(&silent) {
                    self.said.say(finding, out);
                }
            }
        }
        spec.service = Some(Arc::new(service_labels(known, &spec.tls)));
        spec.reasons = Reasons(reasons);
        self.by_host(known, &spec, out);
        Ok(spec)
    }

    /// What is spoken: as a DestinationRule says, else as automatic mutual TLS infers, else
    /// plaintext (`None`).
    fn tls(
        &mut self,
        said: Option<Said<'_, TlsSettings>>,
        serving: &Serving<'_>,
        spec: &mut UpstreamSpec,
        reasons: &mut Vec<Reason>,
        out: &mut Diagnostics,
    ) -> Result<Option<Decided>, Failed> {
        let context = Context {
            credentials: &self.credentials,
            mesh: &self.registry.scope.mesh,
            options: self.options,
            known: serving.known,
            port: serving.port.number,
            subset: serving.subset,
        };
        match said {
            None => spoken::automatic(&self.servers, &context, serving, spec, &mut self.said, out),
            Some(said) if said.value.mode == TlsMode::Disable => {
                reasons.push(Reason {
                    what: "tls",
                    how: "DISABLE".to_owned(),
                    object: said.rule.meta.object(),
                    place: Some(said.value.place.clone()),
                });
                Ok(None)
            }
            Some(said) => {
                let (decided, findings) = spoken::explicit(&context, said);
                for finding in findings {
                    self.said.say(finding, out);
                }
                decided.map(Some).map_err(Failed::unhealthy)
            }
        }
    }

    /// False for a gateway to which no application speaks: it has no listener for them (X13).
    fn serves_applications(&self) -> bool {
        self.options.facts.role == Role::Sidecar || self.options.mesh_listeners
    }

    /// E2: a gateway has no original destination.
    fn by_host(&mut self, known: &Known, spec: &UpstreamSpec, out: &mut Diagnostics) {
        let dialled = matches!(spec.resolution, Resolution::OriginalDst { .. });
        if dialled && self.options.facts.role == Role::Gateway {
            let problem = format!(
                "{} has resolution NONE, and a gateway has no original destination: the request's \
                 host is looked up by DNS instead",
                known.host
            );
            let advice = "write resolution DNS, or STATIC with endpoints";
            let code = Code::ResolvedByHost;
            let finding = report::at(&known.object, &known.place, code, problem, advice);
            self.said.say(finding, out);
        }
    }
}

/// PASSTHROUGH: the service as if it were one of `resolution: NONE` (E2, E10).
fn dialled<'k>(known: &'k Known, traffic: &Settings<'_>) -> Cow<'k, Known> {
    let said = traffic.balance.map(|said| *said.value);
    if said != Some(LoadBalancer::Dialled) || known.resolution == EntryResolution::None {
        return Cow::Borrowed(known);
    }
    Cow::Owned(Known {
        resolution: EntryResolution::None,
        ..known.clone()
    })
}

/// D6, D7: what applies to the port and subset, and the labels that endpoints must have.
fn policy<'b>(
    known: &Known,
    merged: Option<&Merged<'b>>,
    (port, subset): (u16, &str),
    referrer: &Referrer,
) -> Result<(Option<&'b Labels>, Settings<'b>), Failed> {
    let found = merged.and_then(|merged| merged.subset(subset));
    if !subset.is_empty() && found.is_none() {
        let host = &known.host;
        return Err(dangling::unknown_subset(host, merged, subset, referrer));
    }
    let Some(merged) = merged else {
        return Ok((None, Settings::default()));
    };
    let over = found.and_then(|(subset, rule)| Some((subset.policy.as_ref()?, rule)));
    let labels = found.map(|(subset, _)| &subset.labels);
    Ok((labels, Settings::of(merged, over, port)))
}

/// D8: what an application that speaks TLS to such a port itself will meet.
fn tls_in_tls(known: &Known, port: u16, said: Said<'_, TlsSettings>) -> Diagnostic {
    let problem = format!(
        "port {port} of {} is declared for TLS, and TLS is added to it: an application that speaks \
         TLS to it itself is refused",
        known.host
    );
    let advice = "let it use http:// on port 80, or run with --allow-tls-in-tls";
    let object = said.rule.meta.object();
    report::at(&object, &said.value.place, Code::TlsInTls, problem, advice)
}

/// B2. The principal, where exactly one is expected.
fn service_labels(known: &Known, tls: &TlsPolicy) -> ServiceLabels {
    let principal = match tls {
        TlsPolicy::Tls(tls) => match tls.subject_alt_names.as_slice() {
            [one] if one.starts_with("spiffe://") => Some(one.as_str().into()),
            _ => None,
        },
        TlsPolicy::Disable => None,
    };
    ServiceLabels {
        host: known.host.to_string().into(),
        name: Arc::clone(&known.name),
        namespace: Some(Arc::clone(&known.namespace)),
        principal,
    }
}

#[cfg(test)]
mod tests {
    use crate::config::istio::lower::testing::Lab;

    fn entry(port: &str) -> Lab {
        Lab::new(&format!(
            "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: a}}
spec: {{hosts: [a.example], ports: [{{{port}}}], resolution: DNS}}
"
        ))
    }

    const HTTP: &str = "number: 80, name: http, protocol: HTTP";

    #[test]
    fn v10_an_unknown_host_is_no_cluster_and_a_dangling_reference() {
        let told = entry(HTTP).refer("b.example", 80, "");
        assert_eq!(&*told.spec.name, "outbound|80||b.example");
        assert_eq!(
            told.broken(),
            "NoCluster: the destination b.example is not a service that this proxy sees \
             (VirtualService default/test at vs.yaml:99)"
        );
        assert_eq!(
            told.said,
            [
                "vs.yaml:99: error[IST0101] VirtualService default/test: the destination b.example is \
              not a service that this proxy sees; declare it in a ServiceEntry or Service, export \
              it to this proxy's namespace, or correct the name"
            ]
        );
    }

    #[test]
    fn v10_an_unknown_port_is_no_cluster() {
        let told = entry(HTTP).refer("a.example", 81, "");
        assert_eq!(
            told.broken(),
            "NoCluster: a.example has no port 81: ServiceEntry default/a at t.yaml:1 declares 80 \
             (VirtualService default/test at vs.yaml:99)"
        );
    }

    #[test]
    fn srt0506_plaintext_requests_to_a_port_that_is_declared_for_tls_are_told() {
        let tls = entry("number: 443, name: tls, protocol: TLS").refer("a.example", 443, "");
        assert_eq!(
            tls.said("SRT0506"),
            [
                "vs.yaml:99: warning[SRT0506] VirtualService default/test: requests are sent in \
              plaintext to port 443 of a.example, which is meant for TLS (t.yaml:4), because no \
              DestinationRule asks for TLS there; write a DestinationRule with tls for this port"
            ]
        );
        let named = entry("number: 80, name: http, protocol: HTTP, targetPort: 443");
        assert_eq!(named.refer("a.example", 80, "").said("SRT0506").len(), 1);
        let plain = entry(HTTP).refer("a.example", 80, "");
        assert_eq!(plain.said("SRT0506"), Vec::<&str>::new());
    }

    #[test]
    fn x1_a_refused_service_entry_fails_its_hosts_and_no_other() {
        let lab = entry(HTTP).more(
            "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bad}
spec: {hosts: [b.example], ports: [{number: 0, name: x, protocol: HTTP}], resolution: DNS}
",
        );
        let told = lab.refer("b.example", 80, "");
        let start = "Unhealthy: t.yaml:9: ServiceEntry default/bad was refused: ";
        assert!(told.broken().starts_with(start), "{}", told.broken());
        assert_eq!(lab.refer("a.example", 80, "").broken(), "not broken");
    }

    #[test]
    fn an_upstream_is_made_once_and_said_once() {
        let text = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a}
spec: {host: a.example, trafficPolicy: {tls: {mode: SIMPLE}}, subsets: [{name: x}, {name: y}]}
";
        let lab = entry(HTTP).more(&format!("---\n{text}"));
        for subset in ["", "x", "y"] {
            assert_eq!(lab.refer("a.example", 80, subset).said("IST0128").len(), 1);
        }
    }
}
