//! One new pod: changed, left as it is, or refused.
//!
//! Owns: [`Verdict`]; whose mistakes are whose.
//! Never: reads or writes a review.
//! Called by: exchange.
//!
//! Why a pod that asked is refused where its sidecar cannot be planned: without it, what it takes
//! for mutual TLS would leave in plaintext. Why a pod that did not ask never is: it is not ours.

use serde_json::Value;

use super::owner::owner;
use super::patch::json_patch;
use super::review::NewPod;
use crate::inject::{LeftAlone, Outcome, Policy, Refusal, Settings, asks, plan, unmet};

/// Who asked for the sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The pod itself has to.
    Pod,
    /// Its namespace did; the pod may still say no.
    Namespace,
}

/// What becomes of a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It gets its sidecar.
    Patched {
        /// JSON Patch operations, at least one.
        patch: Vec<Value>,
        /// For whoever makes the pod.
        warnings: Vec<String>,
    },
    /// It stays as it is.
    Unchanged {
        /// Why; it ends the sentence "left alone: ..".
        why: String,
        /// For whoever makes the pod.
        warnings: Vec<String>,
    },
    /// It is not made: it asked for a sidecar and cannot have it. In words why.
    Refused(String),
}

/// Decides. Pure.
pub fn decide(settings: &Settings, asked: Asked, new: &NewPod) -> Verdict {
    let settings = Settings {
        policy: Policy::Labels {
            otherwise: asked == Asked::Namespace,
        },
        ..settings.clone()
    };
    let owner = owner(&new.namespace, &new.pod);
    let plan = match plan(&settings, &owner, &new.pod) {
        Ok(Outcome::Inject(plan)) => plan,
        Ok(Outcome::LeftAlone(why)) => return left_alone(new, &why),
        Err(refusal) => return refused(asked, new, &refusal),
    };
    let warnings = plan.warnings.iter().map(ToString::to_string).collect();
    match json_patch(&new.pod, &plan.ops) {
        Ok(patch) => Verdict::Patched { patch, warnings },
        Err(error) => Verdict::Refused(format!("the sidecar does not fit: {error}")),
    }
}

/// A pod that asks and gets nothing is told why: it may count on a sidecar.
fn left_alone(new: &NewPod, why: &LeftAlone) -> Verdict {
    let unmet = unmet(why, &new.pod);
    Verdict::Unchanged {
        why: why.to_string(),
        warnings: unmet.iter().map(ToString::to_string).collect(),
    }
}

fn refused(asked: Asked, new: &NewPod, refusal: &Refusal) -> Verdict {
    match asked == Asked::Namespace || asks(&new.pod) {
        true => Verdict::Refused(format!("the sidecar cannot be injected: {refusal}")),
        false => Verdict::Unchanged {
            why: "it did not ask for a sidecar".to_owned(),
            warnings: vec![format!("sortie injects nothing: {refusal}")],
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::patch::tests::patched;
    use super::*;
    use serde_json::json;

    fn new(metadata: Value) -> NewPod {
        NewPod {
            namespace: "shop".to_owned(),
            pod: json!({
                "metadata": metadata,
                "spec": {"containers": [{"name": "web", "image": "web"}]},
            }),
            dry_run: false,
        }
    }

    fn told(asked: Asked, metadata: Value) -> Verdict {
        decide(&Settings::default(), asked, &new(metadata))
    }

    #[test]
    fn i1_a_pod_that_asks_is_patched_and_asked_again_stays_as_it_is() {
        let mut pod = new(json!({"name": "web", "labels": {"sidecar.istio.io/inject": "true"}}));
        let Verdict::Patched { patch, .. } = decide(&Settings::default(), Asked::Pod, &pod) else {
            panic!("it is left alone");
        };
        pod.pod = patched(pod.pod, &patch);
        let names = pod.pod.to_string();
        assert!(
            names.contains("sortie-proxy") && names.contains("sortie-init"),
            "{names}"
        );
        let again = decide(&Settings::default(), Asked::Pod, &pod);
        assert!(matches!(again, Verdict::Unchanged { .. }), "{again:?}");
    }

    #[test]
    fn i1_a_pod_that_does_not_ask_is_patched_only_where_its_namespace_did() {
        assert!(matches!(
            told(Asked::Pod, json!({})),
            Verdict::Unchanged { .. }
        ));
        assert!(matches!(
            told(Asked::Namespace, json!({})),
            Verdict::Patched { .. }
        ));
        let no = json!({"labels": {"sidecar.istio.io/inject": "false"}});
        assert!(matches!(
            told(Asked::Namespace, no),
            Verdict::Unchanged { .. }
        ));
    }

    #[test]
    fn i9_an_annotation_that_cannot_be_read_refuses_a_pod_that_asked_by_its_name() {
        let broken = |label: &str| {
            json!({
                "labels": {"sidecar.istio.io/inject": label},
                "annotations": {"sidecar.istio.io/userVolume": "[{"},
            })
        };
        let Verdict::Refused(why) = told(Asked::Pod, broken("true")) else {
            panic!("it is let in without its sidecar");
        };
        assert!(why.contains("sidecar.istio.io/userVolume"), "{why}");
        assert!(matches!(
            told(Asked::Namespace, broken("")),
            Verdict::Refused(_)
        ));
        assert!(matches!(
            told(Asked::Pod, broken("false")),
            Verdict::Unchanged { .. }
        ));
        assert!(matches!(
            told(Asked::Pod, broken("")),
            Verdict::Unchanged { .. }
        ));
    }

    #[test]
    fn i1_a_pod_that_asks_and_is_left_alone_is_told_why() {
        let mut host = new(json!({"labels": {"sidecar.istio.io/inject": "true"}}));
        host.pod["spec"]["hostNetwork"] = json!(true);
        let Verdict::Unchanged { warnings, .. } = decide(&Settings::default(), Asked::Pod, &host)
        else {
            panic!("it is changed");
        };
        assert!(warnings[0].contains("hostNetwork"), "{warnings:?}");
        let silent = new(json!({}));
        let verdict = decide(&Settings::default(), Asked::Pod, &silent);
        assert!(matches!(verdict, Verdict::Unchanged { warnings, .. } if warnings.is_empty()));
    }

    #[test]
    fn a_pod_that_did_not_ask_is_never_blocked_whatever_its_shape() {
        for pod in [
            json!({}),
            json!({"metadata": null, "spec": null}),
            json!({"metadata": 1, "spec": []}),
            json!({"metadata": {"labels": {"sidecar.istio.io/inject": "maybe"}}}),
            json!({"metadata": {"labels": ["sidecar.istio.io/inject"]}, "spec": {"containers": 7}}),
        ] {
            let new = NewPod {
                pod: pod.clone(),
                ..new(json!({}))
            };
            let verdict = decide(&Settings::default(), Asked::Pod, &new);
            assert!(
                matches!(verdict, Verdict::Unchanged { .. }),
                "{pod}: {verdict:?}"
            );
        }
    }
}
