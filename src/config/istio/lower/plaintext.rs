//! Plaintext where TLS may have been meant: to a port of TLS, or beside a rule that asks for it.
//!
//! Owns: SRT0506 and SRT0513, and why a DestinationRule that asks for TLS does not apply (D1 to D4).
//! Never: changes what is spoken.
//! Called by: clusters.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::host_index::HostIndex;
use super::names;
use super::policy::Merged;
use super::registry::Known;
use super::report;
use super::scope::Scope;
use crate::config::diagnostic::{Code, Diagnostic};
use crate::config::istio::Manifests;
use crate::config::istio::destination_rule::{DestinationRule, TlsMode, TrafficPolicy};
use crate::config::istio::meta::{Labels, selects};
use crate::config::istio::service_entry::{Protocol, ServicePort, TargetPort};
use crate::config::options::LoadOptions;
use crate::model::{Place, ProxyFacts};

const ADVICE: &str = "write a DestinationRule with tls for this port";

/// What is known of upstreams that are spoken to in plaintext.
pub struct Plaintext<'a> {
    /// DestinationRules that ask for TLS, of every namespace.
    rules: HostIndex<Vec<&'a DestinationRule>>,
    /// Ports of TLS, by upstream, in words: as is right for TLS that is passed through, and a mistake
    /// for HTTP.
    opaque: BTreeMap<Arc<str>, String>,
    scope: &'a Scope,
    facts: &'a ProxyFacts,
}

/// One upstream that nobody asked plaintext for.
pub struct Silent<'k, 'a> {
    pub name: &'k Arc<str>,
    pub known: &'k Known,
    pub port: &'k ServicePort,
    pub merged: Option<&'k Merged<'a>>,
}

impl<'a> Plaintext<'a> {
    /// Of these documents.
    pub fn new(manifests: &'a Manifests, scope: &'a Scope, options: &'a LoadOptions) -> Self {
        let mut rules: HostIndex<Vec<&DestinationRule>> = HostIndex::default();
        let domain = &options.facts.cluster_domain;
        for rule in &manifests.destination_rules {
            let asks = rule.policy.as_ref().is_some_and(|policy| {
                secures(policy) || policy.ports.iter().any(|entry| secures(&entry.policy))
            });
            let host = names::expand(&rule.host.value, &rule.meta.namespace, domain);
            if let Ok(host) = host
                && asks
            {
                rules.entry(&host).push(rule);
            }
        }
        Plaintext {
            rules,
            opaque: BTreeMap::new(),
            scope,
            facts: &options.facts,
        }
    }

    /// Where a rule sends HTTP to the upstream `name`, which is of TLS.
    pub fn carries_http(&self, name: &str, object: &Arc<str>, place: &Place) -> Option<Diagnostic> {
        let port = self.opaque.get(name)?;
        let problem = format!(
            "requests are sent in plaintext to {port}, because no DestinationRule asks for TLS there"
        );
        let code = Code::PlainToHttpsPort;
        Some(report::at(object, place, code, problem, ADVICE))
    }

    /// What there is to say without knowing what a route carries.
    pub fn of(&mut self, silent: &Silent<'_, '_>) -> Option<Diagnostic> {
        let Silent {
            name, known, port, ..
        } = silent;
        let whole = format!("port {} of {}", port.number, known.host);
        let sniffed = port.protocol == Protocol::Sniff && meant_for_tls(port);
        if port.protocol == Protocol::Tls || sniffed {
            let whole = format!("{whole}, which is meant for TLS ({})", port.place);
            self.opaque.insert(Arc::clone(name), whole);
            return None;
        }
        if !port.protocol.may_be_http() {
            return None;
        }
        self.unheeded(silent, &whole)
            .or_else(|| by_name(silent, &whole))
    }

    /// SRT0513: a rule asks for TLS, and does not apply.
    fn unheeded(&self, silent: &Silent<'_, '_>, whole: &str) -> Option<Diagnostic> {
        let rules = self.rules.covering(&silent.known.host).flatten().copied();
        let mut whys = rules.filter_map(|rule| Some((rule, self.why(rule, silent)?)));
        let (rule, (why, advice)) = whys.next()?;
        let problem = format!(
            "plaintext is sent to {whole}, although this rule asks for TLS: it does not apply, \
             because {why}"
        );
        let code = Code::TlsNotApplied;
        Some(report::about(&rule.meta, code, problem, advice))
    }

    /// Why a rule does not apply, and what to do; `None` where it asks for no TLS on this port.
    fn why(&self, rule: &DestinationRule, silent: &Silent<'_, '_>) -> Option<(String, String)> {
        let Silent { known, port, .. } = silent;
        let policy = rule.policy.as_ref()?;
        let entry = policy.ports.iter().find(|entry| entry.port == port.number);
        let stray = policy
            .ports
            .iter()
            .find(|entry| secures(&entry.policy) && known.port(entry.port).is_none());
        let asks = match entry {
            Some(entry) => secures(&entry.policy),
            None => secures(policy),
        };
        if !asks && stray.is_none() {
            return None;
        }
        let elsewhere = self.elsewhere(rule, silent);
        match (elsewhere, stray) {
            (Some(why), _) => Some(why),
            (None, Some(stray)) if !asks => {
                let ports: Vec<String> = known
                    .ports
                    .iter()
                    .map(|one| one.number.to_string())
                    .collect();
                let why = format!(
                    "its portLevelSettings name port {}, and {} has {}: ports of the service \
                     count, not target ports",
                    stray.port,
                    known.host,
                    ports.join(", ")
                );
                let advice = format!("write port: {{number: {}}} there", port.number);
                Some((why, advice))
            }
            (None, _) => None,
        }
    }

    /// D1, D2, H5: a rule that is not for this proxy, or not the one that decides.
    fn elsewhere(
        &self,
        rule: &DestinationRule,
        silent: &Silent<'_, '_>,
    ) -> Option<(String, String)> {
        let own = &self.scope.namespace;
        let namespace = &rule.meta.namespace;
        let root = &self.scope.mesh.root_namespace;
        if let Some(selector) = &rule.selector
            && namespace == own
            && !selects(selector, &self.facts.labels)
        {
            let labels = labels(selector);
            let why = format!("its workloadSelector {labels} does not select this proxy");
            return Some((why, format!("run sortie with --labels {labels}")));
        }
        let here = [own, &silent.known.namespace, root].contains(&namespace);
        if !here || (rule.selector.is_some() && namespace != own) {
            let why = format!(
                "its namespace {namespace} is not this proxy's ({own}), nor the service's ({}), \
                 nor the root namespace ({root})",
                silent.known.namespace
            );
            let advice = "move it there, or run sortie with the --namespace that is meant";
            return Some((why, advice.to_owned()));
        }
        if !rule.export_to.is_visible_in(own) {
            let why = format!("its exportTo does not name this proxy's namespace {own}");
            return Some((why, format!("add {own} to exportTo")));
        }
        let decides = silent.merged.map(|merged| merged.meta)?;
        if decides.order == rule.meta.order {
            return None;
        }
        let why = format!("{decides} at {} decides for this host", decides.place);
        Some((why, "write the tls block there too".to_owned()))
    }
}

/// SRT0506: the port is meant for TLS by its name or number.
fn by_name(silent: &Silent<'_, '_>, whole: &str) -> Option<Diagnostic> {
    let Silent { known, port, .. } = silent;
    let problem = format!(
        "{whole} ({:?}, to port {}) is meant for TLS by its name or number, and plaintext is sent \
         to it, because no DestinationRule asks for TLS there",
        port.name,
        target(port)
    );
    let code = Code::PlainToHttpsPort;
    meant_for_tls(port).then(|| report::at(&known.object, &port.place, code, problem, ADVICE))
}

fn target(port: &ServicePort) -> u16 {
    match port.target {
        Some(TargetPort::Number(number)) => number,
        Some(TargetPort::Name(_)) | None => port.number,
    }
}

fn meant_for_tls(port: &ServicePort) -> bool {
    let named = port.name.as_ref();
    named.starts_with("https") || named.starts_with("tls") || target(port) == 443
}

fn secures(policy: &TrafficPolicy) -> bool {
    let tls = policy.tls.as_ref();
    tls.is_some_and(|tls| tls.mode != TlsMode::Disable)
}

fn labels(labels: &Labels) -> String {
    let pairs = labels.iter().map(|(key, value)| format!("{key}={value}"));
    pairs.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use crate::config::istio::lower::testing::Lab;

    const ENTRY: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a, namespace: svc}
spec:
  hosts: [a.example]
  resolution: DNS
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8443}]
";

    fn said(rules: &[(&str, &str)]) -> Vec<String> {
        let mut text = ENTRY.to_owned();
        for (meta, spec) in rules {
            text += &format!(
                "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: \
                 {{{meta}}}\nspec: {{host: a.example, {spec}}}\n"
            );
        }
        let told = Lab::new(&text).refer("a.example", 80, "");
        assert!(told.is_plaintext() || told.said("SRT0513").is_empty());
        told.said("SRT0513")
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    const TLS: &str = "trafficPolicy: {tls: {mode: SIMPLE}}";

    #[test]
    fn d4_a_rule_for_the_target_port_is_told_where_plaintext_is_sent() {
        let ports = |number: u16| {
            format!(
                "trafficPolicy: {{portLevelSettings: [{{port: {{number: {number}}}, tls: {{mode: SIMPLE}}}}]}}"
            )
        };
        assert_eq!(
            said(&[("name: r", &ports(8443))]),
            [
                "t.yaml:9: warning[SRT0513] DestinationRule default/r: plaintext is sent to port 80 \
              of a.example, although this rule asks for TLS: it does not apply, because its \
              portLevelSettings name port 8443, and a.example has 80: ports of the service count, \
              not target ports; write port: {number: 80} there"
            ]
        );
        assert!(said(&[("name: r", &ports(80))]).is_empty());
    }

    #[test]
    fn d1_d2_a_rule_that_is_not_for_this_proxy_is_told_where_plaintext_is_sent() {
        let selecting = format!("workloadSelector: {{matchLabels: {{app: shop}}}}, {TLS}");
        let exported = format!("exportTo: [x], {TLS}");
        for (meta, spec, why) in [
            (
                "name: r, namespace: other",
                TLS,
                "its namespace other is not this proxy's",
            ),
            (
                "name: r",
                selecting.as_str(),
                "its workloadSelector app=shop does not select",
            ),
            (
                "name: r, namespace: svc",
                exported.as_str(),
                "its exportTo does not name",
            ),
        ] {
            let said = said(&[(meta, spec)]);
            assert_eq!(said.len(), 1, "{meta} {spec}");
            assert!(said[0].contains(why), "{said:?}");
        }
        assert!(said(&[("name: r, namespace: svc", TLS)]).is_empty());
    }

    #[test]
    fn d1_a_nearer_rule_without_tls_is_told_and_one_that_asks_for_plaintext_is_not() {
        let nearer = "trafficPolicy: {loadBalancer: {simple: RANDOM}}";
        let said_of = said(&[("name: far, namespace: svc", TLS), ("name: near", nearer)]);
        assert_eq!(said_of.len(), 1);
        let why = "because DestinationRule default/near at t.yaml:14 decides for this host";
        assert!(said_of[0].contains(why), "{said_of:?}");
        let disable = "trafficPolicy: {tls: {mode: DISABLE}}";
        assert!(said(&[("name: far, namespace: svc", TLS), ("name: near", disable)]).is_empty());
    }

    #[test]
    fn an_undeclared_service_on_443_is_told_of_http_and_not_of_tls() {
        let told = Lab::new("").refer("gw.istio-system.svc.cluster.local", 443, "");
        assert_eq!(
            told.said("SRT0506"),
            [
                "vs.yaml:99: warning[SRT0506] VirtualService default/test: requests are sent in \
              plaintext to port 443 of gw.istio-system.svc.cluster.local, which is meant for TLS \
              (vs.yaml:99), because no DestinationRule asks for TLS there; write a DestinationRule with \
              tls for this port"
            ]
        );
        let http = Lab::new("").refer("gw.istio-system.svc.cluster.local", 80, "");
        assert!(http.said("SRT0506").is_empty());
    }
}
