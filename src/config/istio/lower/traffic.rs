//! The levels of DestinationRules to the settings of one port and subset (ISTIO.md D4 to D6, X3).
//!
//! Owns: [`Settings`], and the refusal of entries that drop TLS without saying so.
//! Never: chooses among DestinationRules (that is `policy`).
//! Called by: clusters; lower, which refuses before anything is built.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::names;
use super::policy::Merged;
use super::report;
use crate::config::diagnostic::{Code, Diagnostic, Diagnostics, Severity};
use crate::config::istio::Manifests;
use crate::config::istio::destination_rule::{
    ConnectionPool, DestinationRule, LoadBalancer, OutlierDetection, PortPolicy, TlsMode,
    TlsSettings, TrafficPolicy,
};
use crate::config::istio::manifests::{Governs, OnGateways, RefusedObject};
use crate::config::istio::meta::{Labels, selects};
use crate::config::options::LoadOptions;
use crate::model::{HostPattern, Place, Refused};

/// One setting, with the rule that says it.
#[derive(Debug)]
pub struct Said<'a, T> {
    pub value: &'a T,
    pub rule: &'a DestinationRule,
    pub place: &'a Place,
    /// It stands in `portLevelSettings`.
    pub on_port: bool,
}

impl<T> Clone for Said<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Said<'_, T> {}

/// What DestinationRules say of one port and subset. `None`: nothing, and so the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings<'a> {
    pub balance: Option<Said<'a, LoadBalancer>>,
    pub pool: Option<Said<'a, ConnectionPool>>,
    pub outlier: Option<Said<'a, OutlierDetection>>,
    pub tls: Option<Said<'a, TlsSettings>>,
}

/// One level as it stands: the rule's, a subset's, or one port's.
#[derive(Clone, Copy)]
struct Level<'a> {
    policy: &'a TrafficPolicy,
    rule: &'a DestinationRule,
    on_port: bool,
}

impl<'a> Settings<'a> {
    /// What `merged` says of `port` (a service port, D4), with `subset`'s own policy over it.
    pub fn of(
        merged: &Merged<'a>,
        subset: Option<(&'a TrafficPolicy, &'a DestinationRule)>,
        port: u16,
    ) -> Settings<'a> {
        let base = merged.policy.map(|found| narrowed(found, port));
        let base = base.map(Settings::alone).unwrap_or_default();
        match subset.map(|found| narrowed(found, port)) {
            None => base,
            Some(level) if level.on_port => Settings::alone(level),
            Some(level) => base.under(Settings::alone(level)),
        }
    }

    /// What one level says, and nothing else.
    fn alone(level: Level<'a>) -> Settings<'a> {
        let policy = level.policy;
        Settings {
            balance: said(policy.load_balancer.as_ref(), level, &policy.place),
            pool: said(policy.connection_pool.as_ref(), level, &policy.place),
            outlier: said(policy.outlier.as_ref(), level, &policy.place),
            tls: policy
                .tls
                .as_ref()
                .and_then(|tls| said(Some(tls), level, &tls.place)),
        }
    }

    /// What `over` says wins (D6).
    fn under(self, over: Settings<'a>) -> Settings<'a> {
        Settings {
            balance: over.balance.or(self.balance),
            pool: over.pool.or(self.pool),
            outlier: over.outlier.or(self.outlier),
            tls: over.tls.or(self.tls),
        }
    }
}

fn said<'a, T>(value: Option<&'a T>, level: Level<'a>, place: &'a Place) -> Option<Said<'a, T>> {
    value.map(|value| Said {
        value,
        rule: level.rule,
        place,
        on_port: level.on_port,
    })
}

/// D5: the entry for `port` stands for the whole level.
fn narrowed<'a>((policy, rule): (&'a TrafficPolicy, &'a DestinationRule), port: u16) -> Level<'a> {
    let entry = policy.ports.iter().find(|entry| entry.port == port);
    Level {
        policy: entry.map_or(policy, |entry| &entry.policy),
        rule,
        on_port: entry.is_some(),
    }
}

/// A port-level entry that drops the TLS of the level above.
struct Dropped<'a> {
    /// Where among all rules it stands.
    index: usize,
    rule: &'a DestinationRule,
    entry: &'a PortPolicy,
    /// The level whose TLS is lost.
    above: Said<'a, TlsSettings>,
    subset: Option<&'a str>,
}

/// X3: takes the DestinationRules out of `manifests` that drop TLS on a port without saying so, and
/// refuses them. `--lenient` follows Istio, with a warning.
pub fn refuse(manifests: &mut Manifests, options: &LoadOptions, out: &mut Diagnostics) {
    let mut refused: BTreeSet<usize> = BTreeSet::new();
    let mut objects = Vec::new();
    for dropped in dropped(&manifests.destination_rules, options) {
        let finding = describe(&dropped, options.lenient);
        if !options.lenient && refused.insert(dropped.index) {
            objects.push(object(&dropped, &finding, options));
        }
        out.push(finding);
    }
    let mut index = 0..;
    let keep = |_: &DestinationRule| index.next().is_none_or(|at| !refused.contains(&at));
    manifests.destination_rules.retain(keep);
    manifests.refused.extend(objects);
}

fn dropped<'a>(rules: &'a [DestinationRule], options: &LoadOptions) -> Vec<Dropped<'a>> {
    let facts = &options.facts;
    let domain = &facts.cluster_domain;
    let applies = |rule: &DestinationRule| {
        let selector = rule.selector.as_ref();
        selector.is_none_or(|selector| selects(selector, &facts.labels))
    };
    let all = rules.iter().enumerate();
    let mut sorted: Vec<(usize, &DestinationRule)> =
        all.filter(|(_, rule)| applies(rule)).collect();
    sorted.sort_by(|(_, a), (_, b)| a.meta.by_age(&b.meta));
    // D3: the policy above a subset may be that of an older rule for the same host.
    let mut policies: HashMap<Key<'_>, (&TrafficPolicy, &DestinationRule)> = HashMap::new();
    for (_, rule) in &sorted {
        if let Some(policy) = &rule.policy {
            let first = policies.entry(key(rule, domain));
            first.or_insert((policy, rule));
        }
    }
    let mut found = Vec::new();
    for (index, rule) in sorted {
        if let Some(policy) = &rule.policy {
            found.extend(lost((index, rule), policy, None, |_| None));
        }
        let above = policies.get(&key(rule, domain)).copied();
        for subset in &rule.subsets {
            let Some(policy) = &subset.policy else {
                continue;
            };
            let base = |port| above.and_then(|above| Settings::alone(narrowed(above, port)).tls);
            found.extend(lost((index, rule), policy, Some(&subset.name), base));
        }
    }
    found
}

type Key<'a> = (&'a str, Option<HostPattern>, Option<&'a Labels>);

fn key<'a>(rule: &'a DestinationRule, domain: &str) -> Key<'a> {
    let namespace = rule.meta.namespace.as_ref();
    let host = names::expand(&rule.host.value, namespace, domain).ok();
    (namespace, host, rule.selector.as_ref())
}

/// Entries of `policy` without TLS although the level above has it: `policy` itself, or `base`.
fn lost<'a>(
    (index, rule): (usize, &'a DestinationRule),
    policy: &'a TrafficPolicy,
    subset: Option<&'a str>,
    base: impl Fn(u16) -> Option<Said<'a, TlsSettings>>,
) -> Vec<Dropped<'a>> {
    let level = Level {
        policy,
        rule,
        on_port: false,
    };
    let own = Settings::alone(level).tls;
    let without = policy
        .ports
        .iter()
        .filter(|entry| entry.policy.tls.is_none());
    let above = without.filter_map(|entry| Some((entry, own.or_else(|| base(entry.port))?)));
    above
        .filter(|(_, above)| above.value.mode != TlsMode::Disable)
        .map(|(entry, above)| Dropped {
            index,
            rule,
            entry,
            above,
            subset,
        })
        .collect()
}

fn describe(dropped: &Dropped<'_>, lenient: bool) -> Diagnostic {
    let port = dropped.entry.port;
    let whose = match dropped.subset {
        Some(subset) => format!("of subset {subset:?} "),
        None => String::new(),
    };
    let mode = mode_name(dropped.above.value.mode);
    let problem = format!(
        "the portLevelSettings entry {whose}for port {port} has no tls, and so the tls of mode \
         {mode} at {} does not apply to that port: plaintext would be sent",
        dropped.above.place
    );
    let advice = format!(
        "repeat the tls block in the entry for port {port}, or write \"tls: {{mode: DISABLE}}\" \
         there if plaintext is meant"
    );
    let code = Code::PortLevelDropsTls;
    let object = dropped.rule.meta.object();
    let finding = report::at(&object, &dropped.entry.place, code, problem, advice);
    match lenient {
        true => Diagnostic {
            severity: Severity::Warning,
            ..finding
        },
        false => finding,
    }
}

/// What a mode is called in documents.
pub fn mode_name(mode: TlsMode) -> &'static str {
    match mode {
        TlsMode::Disable => "DISABLE",
        TlsMode::Simple => "SIMPLE",
        TlsMode::Mutual => "MUTUAL",
        TlsMode::IstioMutual => "ISTIO_MUTUAL",
    }
}

fn object(dropped: &Dropped<'_>, finding: &Diagnostic, options: &LoadOptions) -> RefusedObject {
    let meta = &dropped.rule.meta;
    let domain = &options.facts.cluster_domain;
    let host = names::expand(&dropped.rule.host.value, &meta.namespace, domain).ok();
    RefusedObject {
        meta: meta.clone(),
        refused: Refused {
            object: meta.object(),
            place: dropped.entry.place.clone(),
            reason: Arc::from(format!("{}; {}", finding.problem, finding.advice)),
        },
        governs: host.map_or(Governs::Nothing, |host| Governs::Hosts(vec![host])),
        inbound: None,
        addresses: Vec::new(),
        ports: Vec::new(),
        on_gateways: OnGateways::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use crate::config::istio::lower::testing::{Lab, Told};
    use crate::model::Balance;

    /// With a rule whose `spec` is this, besides the host.
    fn lab(spec: &str) -> Lab {
        Lab::new(&format!(
            "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: a}}
spec:
  hosts: [a.example]
  ports:
  - {{number: 80, name: http, protocol: HTTP, targetPort: 8443}}
  - {{number: 81, name: b, protocol: HTTP}}
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: a}}
spec:
  host: a.example
{spec}"
        ))
    }

    fn sni(told: &Told) -> String {
        match told.is_plaintext() {
            true => "plaintext".to_owned(),
            false => told.tls().server_name.as_ref().unwrap().to_string(),
        }
    }

    #[test]
    fn d4_ports_are_service_ports_and_never_target_ports() {
        let on = |port: u16| {
            let tls = "tls: {mode: SIMPLE, sni: x}";
            lab(&format!(
                "  trafficPolicy: {{portLevelSettings: [{{port: {{number: {port}}}, {tls}}}]}}\n"
            ))
        };
        assert_eq!(sni(&on(80).refer("a.example", 80, "")), "x");
        assert_eq!(sni(&on(8443).refer("a.example", 80, "")), "plaintext");
        assert_eq!(sni(&on(80).refer("a.example", 81, "")), "plaintext");
    }

    #[test]
    fn d5_a_port_level_entry_replaces_the_whole_level() {
        let lab = lab("  trafficPolicy:
    loadBalancer: {simple: RANDOM}
    connectionPool: {tcp: {maxConnections: 7}}
    outlierDetection: {consecutiveGatewayErrors: 3}
    tls: {mode: SIMPLE, sni: whole}
    portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE, sni: port}}]
");
        let port = lab.refer("a.example", 80, "").spec;
        let found = (port.balance, port.pool.max_connections);
        assert_eq!(found, (Balance::LeastRequest, usize::MAX));
        assert_eq!(port.outlier.consecutive_failures, 0);
        assert_eq!(sni(&lab.refer("a.example", 80, "")), "port");
        let whole = lab.refer("a.example", 81, "").spec;
        let found = (whole.balance, whole.pool.max_connections);
        assert_eq!(found, (Balance::Random, 7));
        let outlier = whole.outlier;
        assert_eq!(
            (outlier.consecutive_failures, outlier.max_ejected_percent),
            (3, 10)
        );
        assert_eq!(sni(&lab.refer("a.example", 81, "")), "whole");
    }

    #[test]
    fn d6_a_subset_overrides_what_it_says_and_a_port_of_it_replaces_everything() {
        let lab = lab("  trafficPolicy:
    loadBalancer: {simple: RANDOM}
    tls: {mode: SIMPLE, sni: rule}
  subsets:
  - {name: silent}
  - {name: balanced, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}
  - {name: own, trafficPolicy: {tls: {mode: SIMPLE, sni: own}}}
  - name: port
    trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE, sni: port}}]}
");
        for (subset, port, balance, name) in [
            ("silent", 80, Balance::Random, "rule"),
            ("balanced", 80, Balance::RoundRobin, "rule"),
            ("own", 80, Balance::Random, "own"),
            ("port", 80, Balance::LeastRequest, "port"),
            ("port", 81, Balance::Random, "rule"),
        ] {
            let told = lab.refer("a.example", port, subset);
            assert_eq!(
                (told.spec.balance, sni(&told).as_str()),
                (balance, name),
                "{subset}"
            );
        }
    }

    #[test]
    fn d7_a_subsets_policy_is_for_those_who_name_it() {
        let lab = lab("  subsets: [{name: x, trafficPolicy: {tls: {mode: SIMPLE, sni: x}}}]\n");
        assert_eq!(sni(&lab.refer("a.example", 80, "x")), "x");
        assert_eq!(sni(&lab.refer("a.example", 80, "")), "plaintext");
        let told = lab.refer("a.example", 80, "y");
        assert!(
            told.broken()
                .starts_with("NoCluster: a.example has no subset \"y\"")
        );
    }

    const DROPS: &str = "  trafficPolicy:
    tls: {mode: SIMPLE, sni: rule}
    portLevelSettings:
    - port: {number: 80}
      loadBalancer: {simple: RANDOM}
";

    #[test]
    fn x3_a_port_level_entry_that_drops_tls_is_refused_and_its_host_fails_on_every_port() {
        let lab = lab(DROPS);
        let told = lab.refer("a.example", 80, "");
        assert_eq!(
            told.said("SRT0503"),
            [
                "t.yaml:19: error[SRT0503] DestinationRule default/a: the portLevelSettings entry for \
              port 80 has no tls, and so the tls of mode SIMPLE at t.yaml:17 does not apply to \
              that port: plaintext would be sent; repeat the tls block in the entry for port 80, \
              or write \"tls: {mode: DISABLE}\" there if plaintext is meant"
            ]
        );
        let start = "Unhealthy: t.yaml:19: DestinationRule default/a was refused: the \
                     portLevelSettings entry for port 80 has no tls";
        assert!(told.broken().starts_with(start), "{}", told.broken());
        assert!(lab.refer("a.example", 81, "").spec.broken.is_some());
        let (manifests, _) = lab.read();
        assert!(manifests.destination_rules.is_empty());
        assert_eq!(manifests.refused.len(), 1);
    }

    #[test]
    fn x3_lenient_follows_istio_with_a_warning() {
        let lab = lab(DROPS).options(|options| options.lenient = true);
        let told = lab.refer("a.example", 80, "");
        assert!(told.is_plaintext());
        assert_eq!(told.spec.balance, Balance::Random);
        let said = told.said("SRT0503");
        assert_eq!(said.len(), 1);
        assert!(
            said[0].starts_with("t.yaml:19: warning[SRT0503]"),
            "{said:?}"
        );
    }

    #[test]
    fn x3_a_port_that_says_disable_or_has_nothing_to_lose_is_not_refused() {
        let alone = "  trafficPolicy:
    portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]
";
        for spec in [
            DROPS.replace("loadBalancer: {simple: RANDOM}", "tls: {mode: DISABLE}"),
            DROPS.replace("{mode: SIMPLE, sni: rule}", "{mode: DISABLE}"),
            alone.to_owned(),
        ] {
            let told = lab(&spec).refer("a.example", 80, "");
            assert!(told.is_plaintext(), "{}", told.broken());
            assert_eq!(told.said("SRT0503"), Vec::<&str>::new());
        }
    }

    #[test]
    fn x3_looks_at_subsets_and_at_the_level_above_them() {
        let entry = "portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]";
        let with_tls = format!("tls: {{mode: SIMPLE, sni: x}}, {entry}");
        let on = |port: u16| {
            let tls = "tls: {mode: SIMPLE, sni: x}";
            format!("portLevelSettings: [{{port: {{number: {port}}}, {tls}}}]")
        };
        for (policy, subset, refused) in [
            ("tls: {mode: SIMPLE, sni: x}", entry, true),
            ("loadBalancer: {simple: RANDOM}", entry, false),
            ("loadBalancer: {simple: RANDOM}", &with_tls, true),
            (&on(80), entry, true),
            (&on(81), entry, false),
        ] {
            let subset = format!("[{{name: s, trafficPolicy: {{{subset}}}}}]");
            let spec = format!("  trafficPolicy: {{{policy}}}\n  subsets: {subset}\n");
            let told = lab(&spec).refer("a.example", 80, "s");
            assert_eq!(told.said("SRT0503").len(), usize::from(refused), "{spec}");
            assert_eq!(told.spec.broken.is_some(), refused, "{spec}");
        }
    }

    #[test]
    fn x3_looks_at_the_older_rule_whose_policy_a_subset_is_under() {
        let spec = "  trafficPolicy: {tls: {mode: SIMPLE, sni: x}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: later}
spec:
  host: a.example
  subsets:
  - name: s
    trafficPolicy:
      portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]
";
        let told = lab(spec).refer("a.example", 80, "s");
        assert_eq!(told.said("SRT0503").len(), 1);
        assert!(
            told.broken()
                .contains("DestinationRule default/later was refused")
        );
    }
}
