//! AdmissionReview, `admission.k8s.io/v1` and `v1beta1`: what the API server asks, what it is told.
//!
//! Owns: reading a review, writing its answer.
//! Never: decides anything.
//! Called by: exchange.

use serde_json::{Map, Value, json};

use super::decide::Verdict;
use crate::tls::base64;

/// Versions of the protocol; an answer has that of its question.
const VERSIONS: [&str; 2] = ["admission.k8s.io/v1", "admission.k8s.io/v1beta1"];
/// Bytes of a `uid`: they are UUIDs.
const MOST_UID: usize = 256;
/// Characters of one warning: the API server cuts what is longer.
const MOST_WARNING: usize = 256;

/// A question.
#[derive(Debug)]
pub struct Review {
    version: &'static str,
    uid: String,
    /// What it is about.
    pub subject: Subject,
}

/// What a question is about.
#[derive(Debug)]
pub enum Subject {
    /// A pod that is to be made.
    Pod(Box<NewPod>),
    /// Anything else: in words what.
    Other(String),
}

/// A pod that is to be made.
#[derive(Debug)]
pub struct NewPod {
    /// Where; the pod itself may not say.
    pub namespace: String,
    /// `{metadata, spec}`, and whatever else there is.
    pub pod: Value,
    /// Nothing is to be kept. The answer is the same: there are no side effects.
    pub dry_run: bool,
}

impl NewPod {
    /// `namespace/name`, or the beginning of a name that is still to be made.
    pub fn name(&self) -> String {
        let metadata = |key: &str| self.pod.get("metadata")?.get(key)?.as_str();
        let name = match (metadata("name"), metadata("generateName")) {
            (Some(name), _) if !name.is_empty() => name.to_owned(),
            (_, Some(begins)) => format!("{begins}?"),
            (_, None) => "?".to_owned(),
        };
        format!("{}/{name}", self.namespace)
    }
}

impl Review {
    /// Reads a review.
    ///
    /// # Errors
    /// In words what was expected: it is no review.
    pub fn read(body: &[u8]) -> Result<Review, String> {
        let review: Value = serde_json::from_slice(body).map_err(|error| {
            format!("the body is not JSON: {error}; expected an AdmissionReview")
        })?;
        let version = review.get("apiVersion").and_then(Value::as_str);
        let version = VERSIONS.into_iter().find(|known| version == Some(known));
        if review.get("kind").and_then(Value::as_str) != Some("AdmissionReview") {
            return Err("expected kind: AdmissionReview".to_owned());
        }
        let version =
            version.ok_or_else(|| format!("expected apiVersion: {}", VERSIONS.join(" or ")))?;
        let request = review.get("request").filter(|request| request.is_object());
        let request = request.ok_or("expected request: there is none")?;
        let uid = request.get("uid").and_then(Value::as_str);
        let uid = uid.filter(|uid| !uid.is_empty() && uid.len() <= MOST_UID);
        let uid = uid.ok_or("expected request.uid: a text that is not empty")?;
        Ok(Review {
            version,
            uid: uid.to_owned(),
            subject: subject(request)?,
        })
    }

    /// The answer.
    pub fn answer(&self, verdict: &Verdict) -> Value {
        let mut response = Map::new();
        let mut put = |key: &str, value: Value| response.insert(key.to_owned(), value);
        put("uid", json!(self.uid));
        put("allowed", json!(!matches!(verdict, Verdict::Refused(_))));
        let warnings = match verdict {
            Verdict::Patched { patch, warnings } => {
                put("patchType", json!("JSONPatch"));
                put("patch", json!(base64(json!(patch).to_string().as_bytes())));
                warnings.as_slice()
            }
            Verdict::Unchanged { warnings, .. } => warnings.as_slice(),
            Verdict::Refused(message) => {
                let status = json!({"code": 422, "reason": "Invalid", "message": message});
                put("status", status);
                &[]
            }
        };
        if !warnings.is_empty() {
            put(
                "warnings",
                warnings
                    .iter()
                    .map(|warning| json!(shortened(warning)))
                    .collect(),
            );
        }
        json!({"apiVersion": self.version, "kind": "AdmissionReview", "response": response})
    }
}

/// # Errors
/// A pod is to be made and is not there.
fn subject(request: &Value) -> Result<Subject, String> {
    let text = |key: &str| request.get(key).and_then(Value::as_str).unwrap_or_default();
    let kind = |key: &str| {
        let kind = request.get("kind").and_then(|kind| kind.get(key));
        kind.and_then(Value::as_str).unwrap_or_default()
    };
    let (group, version, kind) = (kind("group"), kind("version"), kind("kind"));
    if (group, version, kind) != ("", "v1", "Pod") {
        return Ok(Subject::Other(format!("kind {group}/{version} {kind}")));
    }
    if text("operation") != "CREATE" || !text("subResource").is_empty() {
        let what = format!("{} {}", text("operation"), text("subResource"));
        return Ok(Subject::Other(what.trim_end().to_owned()));
    }
    let pod = request.get("object").filter(|pod| pod.is_object());
    let pod = pod.ok_or("expected request.object: a pod is to be made, and there is none")?;
    let dry_run = request.get("dryRun").and_then(Value::as_bool);
    Ok(Subject::Pod(Box::new(NewPod {
        namespace: text("namespace").to_owned(),
        pod: pod.clone(),
        dry_run: dry_run.unwrap_or_default(),
    })))
}

fn shortened(warning: &str) -> String {
    match warning.char_indices().nth(MOST_WARNING - 1) {
        None => warning.to_owned(),
        Some((end, _)) => format!("{}…", warning.get(..end).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(more: Value) -> Vec<u8> {
        let mut request = json!({
            "uid": "u-1",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "operation": "CREATE",
            "namespace": "shop",
            "object": {"metadata": {"generateName": "web-"}, "spec": {}},
            "somethingNew": {"a": 1},
        });
        for (key, value) in more.as_object().unwrap() {
            request[key] = value.clone();
        }
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
            .to_string()
            .into_bytes()
    }

    #[test]
    fn i1_a_new_pod_is_read_with_its_namespace_from_the_request() {
        let review = Review::read(&request(json!({"dryRun": true}))).unwrap();
        let Subject::Pod(pod) = &review.subject else {
            panic!("{review:?}");
        };
        assert_eq!((pod.name().as_str(), pod.dry_run), ("shop/web-?", true));
    }

    #[test]
    fn other_kinds_operations_and_subresources_are_not_our_business() {
        for more in [
            json!({"kind": {"group": "apps", "version": "v1", "kind": "Deployment"}}),
            json!({"kind": "Pod"}),
            json!({"operation": "UPDATE"}),
            json!({"operation": "DELETE", "object": null}),
            json!({"subResource": "ephemeralcontainers"}),
        ] {
            let review = Review::read(&request(more.clone())).unwrap();
            assert!(matches!(review.subject, Subject::Other(_)), "{more}");
        }
    }

    #[test]
    fn what_is_no_review_is_refused_in_words() {
        let text = |bytes: &[u8]| Review::read(bytes).unwrap_err();
        assert!(text(b"{").contains("not JSON"));
        assert!(text(b"[]").contains("AdmissionReview"));
        assert!(text(&b"[".repeat(10_000)).contains("recursion limit"));
        assert!(
            text(br#"{"kind": "AdmissionReview", "apiVersion": "v2"}"#)
                .contains("admission.k8s.io/v1")
        );
        let bare = br#"{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}"#;
        assert!(text(bare).contains("request"));
        assert!(text(&request(json!({"uid": ""}))).contains("uid"));
        assert!(text(&request(json!({"object": null}))).contains("request.object"));
    }

    #[test]
    fn the_answer_has_the_version_and_uid_of_its_question() {
        let old = String::from_utf8(request(json!({})))
            .unwrap()
            .replace("io/v1\"", "io/v1beta1\"");
        let review = Review::read(old.as_bytes()).unwrap();
        let patch = vec![json!({"op": "add", "path": "/a", "value": 1})];
        let answer = review.answer(&Verdict::Patched {
            patch,
            warnings: vec!["ä".repeat(300)],
        });
        assert_eq!(answer["apiVersion"], "admission.k8s.io/v1beta1");
        let response = &answer["response"];
        assert_eq!(
            (&response["uid"], &response["allowed"]),
            (&json!("u-1"), &json!(true))
        );
        assert_eq!(
            response["patch"],
            base64(br#"[{"op":"add","path":"/a","value":1}]"#)
        );
        assert_eq!(
            response["warnings"][0].as_str().unwrap().chars().count(),
            256
        );
        let refused = review.answer(&Verdict::Refused("why".to_owned()));
        assert_eq!(refused["response"]["allowed"], false);
        assert_eq!(refused["response"]["status"]["message"], "why");
        assert_eq!(refused["response"].get("patch"), None);
    }
}
