//! Labels and annotations by which the mesh, Prometheus and kubectl know the pod (ISTIO.md I2).
//!
//! Owns: which there are, and that what the user has set stays.
//! Never: writes down what was put in (that is `status`).
//! Called by: plan.

use super::containers::READY_PORT;
use super::pod::Pod;
use super::wishes::Wishes;
use super::{Owner, Path, Warning};

/// Every label that may be put in.
pub(super) const LABELS: [&str; 3] = [TLS_MODE, NAME, REVISION];
/// Every annotation, but for `sortie/status`.
pub(super) const ANNOTATIONS: [&str; 4] = [DEFAULT_CONTAINER, SCRAPE, PORT, PATH];

const TLS_MODE: &str = "security.istio.io/tlsMode";
const NAME: &str = "service.istio.io/canonical-name";
const REVISION: &str = "service.istio.io/canonical-revision";
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
const SCRAPE: &str = "prometheus.io/scrape";
const PORT: &str = "prometheus.io/port";
const PATH: &str = "prometheus.io/path";
/// Characters of a label's value.
const LONGEST: usize = 63;

/// Key and value of each.
type Pairs = Vec<(&'static str, String)>;

/// The labels that the pod does not have.
pub(super) fn labels(pod: Pod<'_>, owner: &Owner, wishes: &Wishes) -> Pairs {
    let first = |keys: [&str; 2]| keys.into_iter().find_map(|key| pod.label(key));
    let name = first(["app.kubernetes.io/name", "app"]).unwrap_or(&owner.name);
    let revision = first(["app.kubernetes.io/version", "version"]).unwrap_or("latest");
    let mut all = Vec::new();
    // Callers with automatic mTLS take it for a promise to accept TLS, which needs a certificate.
    if wishes.captures_inbound() && wishes.has_identity() {
        all.push((TLS_MODE, "istio".to_owned()));
    }
    let name = label_value(name);
    if !name.is_empty() {
        all.push((NAME, name));
    }
    all.push((REVISION, label_value(revision)));
    all.retain(|(key, _)| pod.label(key).is_none());
    all
}

/// Callers that are not told to speak TLS, and what would change that.
pub(super) fn clear_text(pod: Pod<'_>, wishes: &Wishes) -> Option<Warning> {
    let quiet = !wishes.captures_inbound() || wishes.has_identity();
    if quiet || pod.label(TLS_MODE).is_some() {
        return None;
    }
    let path = Path::default().key("metadata").key("labels").key(TLS_MODE);
    let message = "it is not set, as the proxy has no mesh identity: callers speak clear text to \
                   this pod; name a Secret with the annotation sortie/identity, or set the label if \
                   there is an identity otherwise";
    Some(Warning::new(path, message))
}

/// The annotations that the pod does not have.
pub(super) fn annotations(pod: Pod<'_>, wishes: &Wishes) -> Pairs {
    let mut all = Vec::new();
    let first = pod.containers_of("containers").next();
    if let Some(first) = first {
        all.push((DEFAULT_CONTAINER, first.name.to_owned()));
    }
    // Who has set one of the three wants the application scraped, not the proxy.
    let own = [SCRAPE, PORT, PATH]
        .iter()
        .any(|key| pod.annotation(key).is_some());
    if wishes.prometheus && !own {
        let port = wishes.status_port.unwrap_or(READY_PORT);
        all.push((SCRAPE, "true".to_owned()));
        all.push((PORT, port.to_string()));
        all.push((PATH, "/stats/prometheus".to_owned()));
    }
    all.retain(|(key, _)| pod.annotation(key).is_none());
    all
}

/// The name of an object may be longer than a label's value.
fn label_value(text: &str) -> String {
    let short: String = text.chars().take(LONGEST).collect();
    let edge = |c: char| !c.is_ascii_alphanumeric();
    short.trim_matches(edge).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{
        annotated, injected, injected_with, meshed, planned, settings, with_app,
    };
    use super::super::{Outcome, Settings, plan};
    use super::*;

    fn label(pod: &Value, key: &str) -> Option<String> {
        pod["metadata"]["labels"][key].as_str().map(str::to_owned)
    }

    fn annotation(pod: &Value, key: &str) -> Option<String> {
        pod["metadata"]["annotations"][key]
            .as_str()
            .map(str::to_owned)
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn i2_a_pod_that_takes_tls_says_so_and_one_that_does_not_does_not() {
        let mode = |pod: &Value| label(&injected_with(&meshed(), pod), TLS_MODE);
        assert_eq!(mode(&annotated(&[])), some("istio"));
        for (key, value) in [
            ("sidecar.istio.io/interceptionMode", "NONE"),
            ("traffic.sidecar.istio.io/includeInboundPorts", ""),
        ] {
            assert_eq!(mode(&annotated(&[(key, value)])), None, "{key}");
        }
    }

    #[test]
    fn i2_without_a_certificate_to_show_no_tls_is_promised_and_that_is_said() {
        let said = |pod: &Value| {
            let said = planned(&settings(), pod).warnings;
            (label(&injected(pod), TLS_MODE), said.len())
        };
        assert_eq!(said(&annotated(&[])), (None, 1));
        let metadata = "proxyMetadata: {ISTIO_META_TLS_SERVER_CERT_CHAIN: /c/chain.pem}";
        for (key, value) in [
            ("sortie/identity", "mesh"),
            ("proxy.istio.io/config", metadata),
        ] {
            assert_eq!(
                said(&annotated(&[(key, value)])),
                (some("istio"), 0),
                "{key}"
            );
        }
        let mounted = |path: &str| {
            annotated(&[
                (
                    "sidecar.istio.io/userVolume",
                    r#"{"v":{"csi":{"driver":"d"}}}"#,
                ),
                (
                    "sidecar.istio.io/userVolumeMount",
                    &format!(r#"{{"v":{{"mountPath":"{path}"}}}}"#),
                ),
            ])
        };
        let spiffe = mounted("/var/run/secrets/workload-spiffe-credentials");
        assert_eq!(said(&spiffe), (some("istio"), 0));
        let one_hosts = mounted("/etc/certs");
        assert_eq!(said(&one_hosts), (None, 1));
        let flag = Settings {
            proxy_args: vec!["--identity=/var/run/mesh".to_owned()],
            ..settings()
        };
        let after = injected_with(&flag, &annotated(&[]));
        assert_eq!(label(&after, TLS_MODE), some("istio"));
    }

    #[test]
    fn i2_the_canonical_name_comes_from_the_first_label_else_from_the_owner() {
        let named = |labels: Value| {
            let mut pod = annotated(&[]);
            pod["metadata"]["labels"] = labels;
            let pod = injected(&pod);
            (label(&pod, NAME).unwrap(), label(&pod, REVISION).unwrap())
        };
        let said = |name: &str, revision: &str| (name.to_owned(), revision.to_owned());
        let both = json!({"app.kubernetes.io/name": "shop", "app": "web", "version": "v2"});
        assert_eq!(named(both), said("shop", "v2"));
        assert_eq!(named(json!({"app": "web"})), said("web", "latest"));
        assert_eq!(named(json!({})), said("curl", "latest"));
        let own = json!({NAME: "mine", REVISION: "r1", "app": "web", "version": "v2"});
        assert_eq!(named(own), said("mine", "r1"));
    }

    #[test]
    fn i2_an_owners_name_that_is_no_label_is_cut_to_one() {
        let owner = Owner {
            name: format!("{}.-x", "n".repeat(61)),
            ..Owner::default()
        };
        let mut pod = annotated(&[]);
        pod["metadata"]["labels"] = json!(null);
        let Outcome::Inject(plan) = plan(&settings(), &owner, &pod).unwrap() else {
            panic!("it is injected");
        };
        let after = super::super::testing::applied(&pod, &plan.ops);
        assert_eq!(label(&after, NAME), Some("n".repeat(61)));
    }

    #[test]
    fn i2_kubectl_looks_at_the_application_also_where_the_proxy_is_first() {
        let hold = Settings {
            hold_until_ready: true,
            ..settings()
        };
        let pod = injected_with(&hold, &annotated(&[]));
        assert_eq!(annotation(&pod, DEFAULT_CONTAINER), some("app"));
        let pod = injected(&annotated(&[(DEFAULT_CONTAINER, "other")]));
        assert_eq!(annotation(&pod, DEFAULT_CONTAINER), some("other"));
    }

    #[test]
    fn i2_prometheus_is_told_where_the_metrics_are_unless_somebody_has_told_it() {
        let pod = injected(&annotated(&[]));
        let said = [SCRAPE, PORT, PATH].map(|key| annotation(&pod, key).unwrap());
        assert_eq!(said, ["true", "15020", "/stats/prometheus"]);
        let pod = injected(&annotated(&[(PORT, "9090")]));
        let said = [SCRAPE, PORT, PATH].map(|key| annotation(&pod, key));
        assert_eq!(said, [None, some("9090"), None]);
        let pod = injected(&annotated(&[(
            "prometheus.istio.io/merge-metrics",
            "false",
        )]));
        assert_eq!(annotation(&pod, SCRAPE), None);
    }

    #[test]
    fn i2_labels_and_annotations_of_the_users_stay_as_they_are() {
        let mut pod = with_app(json!({}));
        pod["metadata"]["labels"][TLS_MODE] = json!("disabled");
        assert_eq!(
            label(&injected_with(&meshed(), &pod), TLS_MODE),
            some("disabled")
        );
        assert_eq!(planned(&settings(), &pod).warnings, [], "who sets it knows");
    }
}
