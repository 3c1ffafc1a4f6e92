//! Labels and annotations by which the mesh, Prometheus and kubectl know the pod (ISTIO.md I2).
//!
//! Owns: which there are, and that what the user has set stays.
//! Never: writes down what was put in (that is `status`).
//! Called by: plan.

use super::Owner;
use super::containers::READY_PORT;
use super::pod::Pod;
use super::wishes::Wishes;

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
    // Callers with automatic mTLS take it for a promise to accept TLS.
    if wishes.captures_inbound() {
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
