//! Istio's labels: who asked whom, how, and with which outcome (ISTIO.md B2 to B4).
//!
//! Owns: their names and order: a public contract.
//! Never: makes a label of what a client sends, or is asked while a request runs.
//! Called by: metrics (what is known of the proxy), exposition (writes them).

use std::sync::Arc;

use super::exposition_page::Labels;
use super::flags::Flags;
use super::metrics::{BLACK_HOLE, PASSTHROUGH, UNKNOWN};
use super::upstream_stats::{Grpc, SeriesKey};
use crate::model::{ProxyFacts, ServiceLabels};

/// The revision of what names none.
const LATEST: &str = "latest";
/// What the name of an upstream begins with that stands for host and port of Istio's registry.
const OUTBOUND: &str = "outbound|";

/// What is known of this proxy: the labels `source_*` of what it sends, and `destination_*` of what
/// it lets in (ISTIO.md B2, B3).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OwnLabels {
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
    /// This proxy.
    pub(super) own: Arc<OwnLabels>,
    /// The service that is asked.
    pub(super) service: Option<Arc<ServiceLabels>>,
    /// Who asks, where that is not this proxy: it is then the service's (`reporter` is
    /// `destination`).
    pub(super) caller: Option<Arc<Caller>>,
}

/// Who asks the application beside us, as far as the connection tells (ISTIO.md B3).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Caller {
    /// The client showed a certificate that was verified.
    pub mutual: bool,
    /// Its SPIFFE name, as a whole URI.
    pub principal: Option<Arc<str>>,
    /// The SPIFFE name that we showed.
    pub own: Option<Arc<str>>,
}

impl Default for OwnLabels {
    fn default() -> Self {
        OwnLabels::of(&ProxyFacts {
            namespace: UNKNOWN.into(),
            ..ProxyFacts::default()
        })
    }
}

impl OwnLabels {
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
        OwnLabels {
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
    pub(super) fn labels<'a>(&'a self, upstream: &'a str) -> Labels<'a> {
        let own = Side::of(&self.own);
        match self.caller.as_deref() {
            None => {
                let principal = self.service.as_ref().and_then(|s| s.principal.as_deref());
                let service = Side {
                    principal: principal.unwrap_or(UNKNOWN),
                    ..Side::UNKNOWN
                };
                self.both("source", own, service, upstream)
            }
            Some(caller) => {
                let principal = caller.principal.as_deref().unwrap_or(UNKNOWN);
                let client = Side {
                    principal,
                    namespace: namespace_of(principal).unwrap_or(UNKNOWN),
                    ..Side::UNKNOWN
                };
                let own = Side {
                    principal: caller.own.as_deref().unwrap_or(UNKNOWN),
                    ..own
                };
                self.both("destination", client, own, upstream)
            }
        }
    }

    fn both<'a>(
        &'a self,
        reporter: &'static str,
        source: Side<'a>,
        destination: Side<'a>,
        upstream: &'a str,
    ) -> Labels<'a> {
        let service = self.service.as_deref();
        let namespace = service.and_then(|service| service.namespace.as_deref());
        let (host, name) = match service {
            Some(service) => (service.host.as_ref(), service.name.as_ref()),
            None => match upstream {
                BLACK_HOLE | PASSTHROUGH => (UNKNOWN, upstream),
                name => (host_of(name), host_of(name)),
            },
        };
        let labels = [
            ("reporter", reporter),
            ("source_workload", source.workload),
            ("source_canonical_service", source.service),
            ("source_canonical_revision", source.revision),
            ("source_workload_namespace", source.namespace),
            ("source_principal", source.principal),
            ("source_app", source.app),
            ("source_version", source.version),
            ("source_cluster", UNKNOWN),
            ("destination_workload", destination.workload),
            ("destination_workload_namespace", destination.namespace),
            ("destination_principal", destination.principal),
            ("destination_app", destination.app),
            ("destination_version", destination.version),
            ("destination_service", host),
            ("destination_canonical_service", destination.service),
            ("destination_canonical_revision", destination.revision),
            ("destination_service_name", name),
            (
                "destination_service_namespace",
                namespace.unwrap_or(UNKNOWN),
            ),
            ("destination_cluster", UNKNOWN),
        ];
        let labels = labels.into_iter();
        labels.map(|(name, text)| (name, text.into())).collect()
    }

    /// `connection_security_policy`: only the destination knows (ISTIO.md B3).
    pub(super) fn policy(&self) -> &'static str {
        match self.caller.as_deref() {
            None => UNKNOWN,
            Some(Caller { mutual: true, .. }) => "mutual_tls",
            Some(Caller { mutual: false, .. }) => "none",
        }
    }
}

/// The labels of one of the two parties.
#[derive(Clone, Copy)]
struct Side<'a> {
    workload: &'a str,
    namespace: &'a str,
    principal: &'a str,
    app: &'a str,
    version: &'a str,
    service: &'a str,
    revision: &'a str,
}

impl Side<'static> {
    /// Of whom nothing is known.
    const UNKNOWN: Side<'static> = Side {
        workload: UNKNOWN,
        namespace: UNKNOWN,
        principal: UNKNOWN,
        app: UNKNOWN,
        version: UNKNOWN,
        service: UNKNOWN,
        revision: LATEST,
    };
}

impl<'a> Side<'a> {
    fn of(own: &'a OwnLabels) -> Side<'a> {
        Side {
            workload: &own.workload,
            namespace: &own.namespace,
            principal: &own.principal,
            app: &own.app,
            version: &own.version,
            service: &own.service,
            revision: &own.revision,
        }
    }
}

/// The namespace in `spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT` (ISTIO.md P14).
fn namespace_of(principal: &str) -> Option<&str> {
    let path = principal.strip_prefix("spiffe://")?;
    let mut parts = path.split('/').skip(1);
    match (
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
    ) {
        (Some("ns"), Some(namespace), Some("sa"), Some(_), None) if !namespace.is_empty() => {
            Some(namespace)
        }
        _ => None,
    }
}

/// `outbound|80|v1|bank.example` stands for `bank.example` where the registry does not know it.
fn host_of(upstream: &str) -> &str {
    let rest = upstream.strip_prefix(OUTBOUND);
    rest.and_then(|rest| rest.rsplit('|').next())
        .unwrap_or(upstream)
}

/// B2. What sortie cannot know is `unknown`, as it is in Istio. `shared`: what all series of the
/// parties have in common.
pub(super) fn request_labels<'a>(
    shared: &Labels<'a>,
    policy: &'static str,
    key: SeriesKey,
) -> Labels<'a> {
    let code = match key.code {
        class @ 1..=9 => format!("{class}xx"),
        code => code.to_string(),
    };
    let protocol = if key.grpc == Grpc::No { "http" } else { "grpc" };
    let mut labels = shared.clone();
    labels.push(("request_protocol", protocol.into()));
    labels.push(("response_code", code.into()));
    match key.grpc {
        Grpc::No => {}
        Grpc::Unknown => labels.push(("grpc_response_status", UNKNOWN.into())),
        Grpc::Status(status) => labels.push(("grpc_response_status", status.to_string().into())),
    }
    labels.push(("response_flags", key.flags.to_string().into()));
    labels.push(("connection_security_policy", policy.into()));
    labels
}

/// Labels of gRPC messages, which are counted whatever becomes of their request.
pub(super) fn message_labels<'a>(shared: &Labels<'a>, policy: &'static str) -> Labels<'a> {
    let mut labels = shared.clone();
    labels.push(("request_protocol", "grpc".into()));
    labels.push(("connection_security_policy", policy.into()));
    labels
}

/// Labels of opaque connections (B1); their flags are known at the end alone.
pub(super) fn stream_labels<'a>(
    shared: &Labels<'a>,
    policy: &'static str,
    flags: Flags,
) -> Labels<'a> {
    let mut labels = shared.clone();
    labels.push(("request_protocol", "tcp".into()));
    labels.push(("response_flags", flags.to_string().into()));
    labels.push(("connection_security_policy", policy.into()));
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let labels = request_labels(&parties.labels(upstream), parties.policy(), KEY);
        let found = labels.into_iter().find(|(name, _)| *name == label);
        found.unwrap().1.into_owned()
    }

    fn from(facts: &ProxyFacts) -> Parties {
        Parties {
            own: Arc::new(OwnLabels::of(facts)),
            ..Parties::default()
        }
    }

    #[test]
    fn b2_every_label_of_istio_is_there_in_its_order() {
        let parties = Parties::default();
        let names: Vec<_> = request_labels(&parties.labels("bank"), parties.policy(), KEY)
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

    /// What is said of an application in namespace `shop` that is asked by `caller`.
    fn asked_by(caller: Caller) -> Parties {
        let mut facts = facts(&[("app", "till"), ("version", "v2")]);
        facts.service_account = Some("cashier".into());
        let service = ServiceLabels {
            host: "till.shop.svc.cluster.local".into(),
            name: "till".into(),
            namespace: Some("shop".into()),
            principal: None,
        };
        Parties {
            service: Some(Arc::new(service)),
            caller: Some(Arc::new(caller)),
            ..from(&facts)
        }
    }

    #[test]
    fn b3_the_destination_reports_who_the_client_is_and_itself_as_the_destination() {
        let parties = asked_by(Caller {
            mutual: true,
            principal: Some("spiffe://corp/ns/web/sa/front".into()),
            own: Some("spiffe://corp/ns/shop/sa/cashier".into()),
        });
        for (label, expected) in [
            ("reporter", "destination"),
            ("connection_security_policy", "mutual_tls"),
            ("source_principal", "spiffe://corp/ns/web/sa/front"),
            ("source_workload_namespace", "web"),
            ("source_workload", "unknown"),
            ("source_app", "unknown"),
            ("source_canonical_revision", "latest"),
            ("destination_principal", "spiffe://corp/ns/shop/sa/cashier"),
            ("destination_workload_namespace", "shop"),
            ("destination_app", "till"),
            ("destination_version", "v2"),
            ("destination_canonical_service", "till"),
            ("destination_canonical_revision", "v2"),
            ("destination_service", "till.shop.svc.cluster.local"),
            ("destination_service_name", "till"),
            ("destination_service_namespace", "shop"),
        ] {
            assert_eq!(value(&parties, "inbound|80", label), expected, "{label}");
        }
    }

    #[test]
    fn b3_a_client_in_clear_text_has_no_principal_and_neither_have_we() {
        let parties = asked_by(Caller::default());
        for (label, expected) in [
            ("reporter", "destination"),
            ("connection_security_policy", "none"),
            ("source_principal", "unknown"),
            ("source_workload_namespace", "unknown"),
            ("destination_principal", "unknown"),
            ("destination_workload_namespace", "shop"),
        ] {
            assert_eq!(value(&parties, "inbound|80", label), expected, "{label}");
        }
    }

    #[test]
    fn p14_only_istios_form_of_a_spiffe_name_has_a_namespace() {
        assert_eq!(namespace_of("spiffe://corp/ns/web/sa/front"), Some("web"));
        for other in [
            "unknown",
            "spiffe://corp/ns//sa/front",
            "spiffe://corp/ns/web",
            "spiffe://corp/ns/web/sa/front/x",
            "https://corp/ns/web/sa/front",
            "spiffe://corp/x/web/sa/front",
        ] {
            assert_eq!(namespace_of(other), None, "{other}");
        }
    }
}
