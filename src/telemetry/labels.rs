//! Istio's labels: who asked whom, how, and with which outcome (ISTIO.md B2 to B4).
//!
//! Owns: their names and order: a public contract.
//! Never: makes a label of what a client sends, or is asked while a request runs.
//! Called by: metrics (what is known of the proxy), exposition (writes them).

use std::borrow::Cow;
use std::sync::Arc;

use super::exposition_page::Labels;
use super::metrics::{BLACK_HOLE, PASSTHROUGH, UNKNOWN};
use super::upstream_stats::{Grpc, SeriesKey};
use crate::model::{ProxyFacts, ServiceLabels};

/// The revision of what names none.
const LATEST: &str = "latest";
/// What the name of an upstream begins with that stands for host and port of Istio's registry.
const OUTBOUND: &str = "outbound|";

/// What is known of this proxy, for the labels `source_*`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SourceLabels {
    workload: String,
    namespace: String,
    principal: String,
    app: String,
    version: String,
    service: String,
    revision: String,
}

/// Who asks, and whom.
#[derive(Clone, Debug, Default)]
pub(super) struct Parties {
    pub(super) source: Arc<SourceLabels>,
    pub(super) service: Option<Arc<ServiceLabels>>,
}

impl Default for SourceLabels {
    fn default() -> Self {
        SourceLabels::of(&ProxyFacts {
            namespace: UNKNOWN.into(),
            ..ProxyFacts::default()
        })
    }
}

impl SourceLabels {
    /// From the pod's labels, as Istio's injector sets them. Names that nobody wrote stay unknown.
    pub(super) fn of(facts: &ProxyFacts) -> Self {
        let first = |names: &[&str], default: &str| {
            let found = names.iter().find_map(|name| facts.labels.get(*name));
            found.map_or_else(|| default.to_owned(), Clone::clone)
        };
        let principal = match &facts.service_account {
            Some(account) => {
                let (domain, namespace) = (facts.trust_domain.replace('@', "."), &facts.namespace);
                format!("spiffe://{domain}/ns/{namespace}/sa/{account}")
            }
            None => UNKNOWN.to_owned(),
        };
        SourceLabels {
            workload: first(&["service.istio.io/workload-name"], UNKNOWN),
            namespace: facts.namespace.to_string(),
            principal,
            app: first(&["app"], UNKNOWN),
            version: first(&["version"], UNKNOWN),
            service: first(
                &[
                    "service.istio.io/canonical-name",
                    "app.kubernetes.io/name",
                    "app",
                ],
                UNKNOWN,
            ),
            revision: first(
                &[
                    "service.istio.io/canonical-revision",
                    "app.kubernetes.io/version",
                    "version",
                ],
                LATEST,
            ),
        }
    }
}

impl Parties {
    /// The labels that all series of the upstream share, in Istio's order.
    fn labels<'a>(&'a self, upstream: &'a str) -> Labels<'a> {
        let source = &*self.source;
        let service = self.service.as_deref();
        let known =
            |value: Option<&'a Arc<str>>| Cow::Borrowed(value.map_or(UNKNOWN, AsRef::as_ref));
        let (host, name) = match service {
            Some(service) => (service.host.as_ref(), service.name.as_ref()),
            None => match upstream {
                BLACK_HOLE | PASSTHROUGH => (UNKNOWN, upstream),
                name => (host_of(name), host_of(name)),
            },
        };
        let unknown = || Cow::Borrowed(UNKNOWN);
        let text = |text: &'a String| Cow::Borrowed(text.as_str());
        vec![
            ("reporter", "source".into()),
            ("source_workload", text(&source.workload)),
            ("source_canonical_service", text(&source.service)),
            ("source_canonical_revision", text(&source.revision)),
            ("source_workload_namespace", text(&source.namespace)),
            ("source_principal", text(&source.principal)),
            ("source_app", text(&source.app)),
            ("source_version", text(&source.version)),
            ("source_cluster", unknown()),
            ("destination_workload", unknown()),
            ("destination_workload_namespace", unknown()),
            (
                "destination_principal",
                known(service.and_then(|service| service.principal.as_ref())),
            ),
            ("destination_app", unknown()),
            ("destination_version", unknown()),
            ("destination_service", host.into()),
            ("destination_canonical_service", unknown()),
            ("destination_canonical_revision", LATEST.into()),
            ("destination_service_name", name.into()),
            (
                "destination_service_namespace",
                known(service.and_then(|service| service.namespace.as_ref())),
            ),
            ("destination_cluster", unknown()),
        ]
    }
}

/// `outbound|80|v1|bank.example` stands for `bank.example` where the registry does not know it.
fn host_of(upstream: &str) -> &str {
    let rest = upstream.strip_prefix(OUTBOUND);
    rest.and_then(|rest| rest.rsplit('|').next())
        .unwrap_or(upstream)
}

/// B2. What sortie cannot know is `unknown`, as it is in Istio. B3: so is, at the source, whether
/// the connection was secure.
pub(super) fn request_labels<'a>(
    upstream: &'a str,
    parties: &'a Parties,
    key: SeriesKey,
) -> Labels<'a> {
    let code = match key.code {
        class @ 1..=9 => format!("{class}xx"),
        code => code.to_string(),
    };
    let protocol = if key.grpc == Grpc::No { "http" } else { "grpc" };
    let mut labels = parties.labels(upstream);
    labels.push(("request_protocol", protocol.into()));
    labels.push(("response_code", code.into()));
    match key.grpc {
        Grpc::No => {}
        Grpc::Unknown => labels.push(("grpc_response_status", UNKNOWN.into())),
        Grpc::Status(status) => labels.push(("grpc_response_status", status.to_string().into())),
    }
    labels.push(("response_flags", key.flags.to_string().into()));
    labels.push(("connection_security_policy", UNKNOWN.into()));
    labels
}

/// Labels of gRPC messages, which are counted whatever becomes of their request.
pub(super) fn message_labels<'a>(upstream: &'a str, parties: &'a Parties) -> Labels<'a> {
    let mut labels = parties.labels(upstream);
    labels.push(("request_protocol", "grpc".into()));
    labels.push(("connection_security_policy", UNKNOWN.into()));
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Flags;

    const KEY: SeriesKey = SeriesKey {
        code: 200,
        grpc: Grpc::Status(14),
        flags: Flags::NONE,
    };

    fn facts(labels: &[(&str, &str)]) -> ProxyFacts {
        let pairs = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        ProxyFacts {
            namespace: "shop".into(),
            labels: pairs.collect(),
            ..ProxyFacts::default()
        }
    }

    fn value(parties: &Parties, upstream: &str, label: &str) -> String {
        let labels = request_labels(upstream, parties, KEY);
        let found = labels.into_iter().find(|(name, _)| *name == label);
        found.unwrap().1.into_owned()
    }

    fn from(facts: &ProxyFacts) -> Parties {
        Parties {
            source: Arc::new(SourceLabels::of(facts)),
            service: None,
        }
    }

    #[test]
    fn b2_every_label_of_istio_is_there_in_its_order() {
        let parties = Parties::default();
        let names: Vec<_> = request_labels("bank", &parties, KEY)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(
            names.join(" "),
            "reporter source_workload source_canonical_service source_canonical_revision \
             source_workload_namespace source_principal source_app source_version source_cluster \
             destination_workload destination_workload_namespace destination_principal \
             destination_app destination_version destination_service \
             destination_canonical_service destination_canonical_revision \
             destination_service_name destination_service_namespace destination_cluster \
             request_protocol response_code grpc_response_status response_flags \
             connection_security_policy"
        );
    }

    #[test]
    fn b2_the_source_is_what_the_pods_labels_say() {
        let mut facts = facts(&[
            ("app", "till"),
            ("version", "v2"),
            ("service.istio.io/canonical-name", "till-service"),
            ("service.istio.io/canonical-revision", "r7"),
            ("service.istio.io/workload-name", "till-v2"),
        ]);
        facts.service_account = Some("cashier".into());
        facts.trust_domain = "corp@example".into();
        let parties = from(&facts);
        for (label, expected) in [
            ("source_workload", "till-v2"),
            ("source_canonical_service", "till-service"),
            ("source_canonical_revision", "r7"),
            ("source_workload_namespace", "shop"),
            (
                "source_principal",
                "spiffe://corp.example/ns/shop/sa/cashier",
            ),
            ("source_app", "till"),
            ("source_version", "v2"),
        ] {
            assert_eq!(value(&parties, "bank", label), expected, "{label}");
        }
    }

    #[test]
    fn b2_what_nobody_wrote_is_unknown_and_a_revision_latest() {
        let parties = from(&facts(&[("app.kubernetes.io/name", "till")]));
        for (label, expected) in [
            ("source_workload", "unknown"),
            ("source_canonical_service", "till"),
            ("source_canonical_revision", "latest"),
            ("source_principal", "unknown"),
            ("source_app", "unknown"),
            ("source_version", "unknown"),
            ("destination_principal", "unknown"),
            ("destination_service_namespace", "unknown"),
            ("connection_security_policy", "unknown"),
        ] {
            assert_eq!(value(&parties, "bank", label), expected, "{label}");
        }
    }

    #[test]
    fn b2_the_destination_is_the_service_that_the_upstream_is_a_part_of() {
        let service = ServiceLabels {
            host: "bank.example".into(),
            name: "bank".into(),
            namespace: Some("finance".into()),
            principal: Some("spiffe://corp/ns/finance/sa/bank".into()),
        };
        let parties = Parties {
            service: Some(Arc::new(service)),
            ..Parties::default()
        };
        for (label, expected) in [
            ("destination_service", "bank.example"),
            ("destination_service_name", "bank"),
            ("destination_service_namespace", "finance"),
            ("destination_principal", "spiffe://corp/ns/finance/sa/bank"),
        ] {
            let got = value(&parties, "outbound|80||bank.example", label);
            assert_eq!(got, expected, "{label}");
        }
    }

    #[test]
    fn b4_requests_without_a_service_are_named_after_their_cluster() {
        let parties = Parties::default();
        for (upstream, service, name) in [
            (BLACK_HOLE, "unknown", BLACK_HOLE),
            (PASSTHROUGH, "unknown", PASSTHROUGH),
            (
                "outbound|80|v9|gone.example",
                "gone.example",
                "gone.example",
            ),
            ("bank", "bank", "bank"),
        ] {
            assert_eq!(value(&parties, upstream, "destination_service"), service);
            assert_eq!(value(&parties, upstream, "destination_service_name"), name);
        }
    }
}
