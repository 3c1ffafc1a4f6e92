//! `proxy.istio.io/config`: Istio's ProxyConfig for one pod, in YAML or JSON (ISTIO.md I7, I10).
//!
//! Owns: the fields that are followed, and what is said about the others.
//! Never: lets another annotation win or lose (that is `wishes`).
//! Called by: wishes.

use std::str::FromStr;
use std::time::Duration;

use super::pod::annotation_path;
use super::said::Said;
use super::{Refusal, Warning};
use crate::config::{
    self,
    node::{Node, Scalar, Value},
};
use crate::model::Interception;

/// The annotation.
pub(super) const CONFIG: &str = "proxy.istio.io/config";

/// What of it is followed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ProxyConfig {
    pub hold: Option<bool>,
    pub interception: Option<Interception>,
    pub status_port: Option<u16>,
    pub workers: Option<u16>,
    /// The least time of a drain.
    pub drain: Option<Duration>,
    /// EXIT_ON_ZERO_ACTIVE_CONNECTIONS (I12).
    pub until_idle: bool,
    /// Variables of the proxy, of those that sortie knows.
    pub env: Vec<(String, String)>,
}

/// Fields that Istio has and sortie has no use for, as they are said elsewhere or of Envoy alone.
const OTHERS: &[&str] = &[
    "availabilityZone",
    "binaryPath",
    "caCertificatesPem",
    "configPath",
    "controlPlaneAuthPolicy",
    "customConfigFile",
    "discoveryAddress",
    "discoveryRefreshDelay",
    "drainDuration",
    "envoyAccessLogService",
    "envoyMetricsService",
    "envoyMetricsServiceAddress",
    "extraStatTags",
    "fileFlushInterval",
    "fileFlushMinSizeKb",
    "gatewayTopology",
    "image",
    "meshId",
    "parentShutdownDuration",
    "privateKeyProvider",
    "proxyAdminPort",
    "proxyBootstrapTemplatePath",
    "proxyHeaders",
    "proxyStatsMatcher",
    "readinessProbe",
    "runtimeValues",
    "sds",
    "serviceCluster",
    "statNameLength",
    "statsCompression",
    "statsdUdpAddress",
    "tracing",
    "tracingServiceName",
    "zipkinAddress",
];
const FOLLOWED: &[&str] = &[
    "holdApplicationUntilProxyStarts",
    "interceptionMode",
    "statusPort",
    "concurrency",
    "terminationDrainDuration",
    "proxyMetadata",
];
/// Variables of `proxyMetadata` that sortie reads (ISTIO.md T14).
const VARIABLES: &[&str] = &[
    "ISTIO_META_TLS_CLIENT_CERT_CHAIN",
    "ISTIO_META_TLS_CLIENT_KEY",
    "ISTIO_META_TLS_CLIENT_ROOT_CERT",
    "ISTIO_META_TLS_SERVER_CERT_CHAIN",
    "ISTIO_META_TLS_SERVER_KEY",
    "ISTIO_META_TLS_SERVER_ROOT_CERT",
];

/// Reads the annotation.
///
/// # Errors
/// No YAML, no mapping, or a value that a field cannot have.
pub(super) fn proxy_config(said: &mut Said<'_>) -> Result<ProxyConfig, Refusal> {
    let mut out = ProxyConfig::default();
    let Some(text) = said.text(CONFIG) else {
        return Ok(out);
    };
    let parsed = config::yaml::parse(text);
    if let Some(mistake) = parsed.mistakes.first() {
        let line = mistake.at.line;
        return Err(refuse(format!(
            "line {line} of its value: {}",
            mistake.problem
        )));
    }
    let Some(root) = parsed.documents.first().filter(|root| !root.is_null()) else {
        return Ok(out);
    };
    let Value::Map(entries) = &root.value else {
        return Err(refuse("its value is no mapping".to_owned()));
    };
    for entry in entries {
        match entry.key.as_ref() {
            "proxyMetadata" => metadata(&entry.value, said, &mut out)?,
            key => follow(key, &entry.value, &mut out)?,
        }
        if let Some(message) = not_followed(&entry.key) {
            let path = annotation_path(CONFIG).key(&entry.key);
            said.warnings.push(Warning::new(path, message));
        }
    }
    Ok(out)
}

fn follow(key: &str, value: &Node, out: &mut ProxyConfig) -> Result<(), Refusal> {
    match key {
        "holdApplicationUntilProxyStarts" => {
            let hold = |text: &str| text.parse().ok();
            out.hold = Some(parsed(key, value, "true or false", hold)?);
        }
        "interceptionMode" => {
            let mode = |text: &str| Interception::from_str(text).ok();
            let expected = "REDIRECT, TPROXY or NONE";
            out.interception = Some(parsed(key, value, expected, mode)?);
        }
        "statusPort" => {
            let port = |text: &str| text.parse().ok();
            out.status_port = Some(parsed(key, value, "a port, or 0 for none", port)?);
        }
        "concurrency" => {
            let workers = |text: &str| text.parse().ok().filter(|n| *n <= 1024);
            let workers = parsed(key, value, "a number up to 1024, 0 for all cores", workers)?;
            out.workers = Some(workers).filter(|n| *n > 0);
        }
        "terminationDrainDuration" => {
            let expected = "a duration from 0s to 24h, such as 5s";
            let drain = parsed(key, value, expected, |text| config::duration(text).ok())?;
            out.drain = out.drain.max(Some(drain));
        }
        _ => {}
    }
    Ok(())
}

/// I12: true where the variable was one of the two.
fn follow_drain(key: &str, value: &Node, out: &mut ProxyConfig) -> Result<bool, Refusal> {
    match key {
        "EXIT_ON_ZERO_ACTIVE_CONNECTIONS" => {
            out.until_idle = parsed(key, value, "true or false", |text| text.parse().ok())?;
        }
        "MINIMUM_DRAIN_DURATION" => {
            let expected = "a duration from 0s to 24h, such as 5s";
            let least = parsed(key, value, expected, |text| config::duration(text).ok())?;
            out.drain = out.drain.max(Some(least));
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// `proxyMetadata`: variables by name.
fn metadata(value: &Node, said: &mut Said<'_>, out: &mut ProxyConfig) -> Result<(), Refusal> {
    let path = annotation_path(CONFIG).key("proxyMetadata");
    let Value::Map(entries) = &value.value else {
        let problem = "it is no mapping";
        return Err(Refusal::new(path, problem, "expected names and values"));
    };
    for entry in entries {
        let path = path.key(&entry.key);
        if follow_drain(&entry.key, &entry.value, out)? {
            continue;
        }
        if !VARIABLES.contains(&entry.key.as_ref()) {
            let message = "sortie does not read this variable";
            said.warnings.push(Warning::new(path, message));
            continue;
        }
        match &entry.value.value {
            Value::Scalar(Scalar { text, .. }) if text.starts_with('/') => {
                out.env.push((entry.key.to_string(), text.to_string()));
            }
            _ => {
                let expected = "expected an absolute path in the proxy's container";
                return Err(Refusal::new(path, "it is no path", expected));
            }
        }
    }
    Ok(())
}

fn parsed<T>(
    key: &str,
    value: &Node,
    expected: &str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T, Refusal> {
    let value = match &value.value {
        Value::Scalar(Scalar { text, .. }) => read(text),
        _ => None,
    };
    value.ok_or_else(|| {
        let problem = format!("{key} is something else");
        let path = annotation_path(CONFIG).key(key);
        Refusal::new(path, problem, format!("expected {expected}"))
    })
}

fn not_followed(key: &str) -> Option<String> {
    if FOLLOWED.contains(&key) {
        return None;
    }
    if OTHERS.contains(&key) {
        return Some("sortie does not follow it".to_owned());
    }
    let known = FOLLOWED.iter().chain(OTHERS).copied();
    Some(match config::did_you_mean(key, known) {
        Some(meant) => format!("ProxyConfig has no such field; did you mean {meant}?"),
        None => "ProxyConfig has no such field".to_owned(),
    })
}

fn refuse(problem: String) -> Refusal {
    let expected = "expected ProxyConfig as YAML, such as holdApplicationUntilProxyStarts: true";
    Refusal::new(annotation_path(CONFIG), problem, expected)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{annotated, container, injected, refused, warned};
    use super::*;

    #[test]
    fn i7_a_field_with_another_value_is_refused_by_its_name() {
        for (text, field, advice) in [
            (
                "statusPort: often",
                "statusPort",
                "expected a port, or 0 for none",
            ),
            (
                "holdApplicationUntilProxyStarts: maybe",
                "holdApplicationUntilProxyStarts",
                "expected true or false",
            ),
            (
                "concurrency: [1]",
                "concurrency",
                "expected a number up to 1024, 0 for all cores",
            ),
        ] {
            let error = refused(&annotated(&[(CONFIG, text)]));
            assert_eq!(error.path, annotation_path(CONFIG).key(field));
            assert_eq!(error.advice, advice);
        }
    }

    #[test]
    fn i7_what_is_no_mapping_is_refused_with_the_annotations_name() {
        for text in ["[1]", "a: [", "just words"] {
            let error = refused(&annotated(&[(CONFIG, text)]));
            assert_eq!(error.path, annotation_path(CONFIG), "{text}: {error}");
        }
        assert_eq!(warned(&annotated(&[(CONFIG, "")])), Vec::<String>::new());
    }

    #[test]
    fn t14_variables_of_an_identity_reach_the_proxy_and_others_are_said() {
        let text = "proxyMetadata: {ISTIO_META_TLS_SERVER_KEY: /etc/certs/key.pem, OTHER: x}";
        let pod = annotated(&[(CONFIG, text)]);
        let path = "metadata.annotations[\"proxy.istio.io/config\"].proxyMetadata";
        let said = format!("{path}.OTHER: sortie does not read this variable");
        assert_eq!(warned(&pod), [said]);
        let pod = injected(&pod);
        let env = &container(&pod, "sortie-proxy")["env"];
        let expected = json!({"name": "ISTIO_META_TLS_SERVER_KEY", "value": "/etc/certs/key.pem"});
        assert!(env.as_array().unwrap().contains(&expected), "{env}");
        let text = "proxyMetadata: {ISTIO_META_TLS_SERVER_KEY: key.pem}";
        let error = refused(&annotated(&[(CONFIG, text)])).to_string();
        assert!(
            error.starts_with(&format!("{path}.ISTIO_META_TLS_SERVER_KEY: it is no path")),
            "{error}"
        );
    }

    #[test]
    fn i10_fields_that_are_not_followed_are_said() {
        let said = warned(&annotated(&[(
            CONFIG,
            "{tracing: {}, holdAplicationUntilProxyStarts: true}",
        )]));
        let path = "metadata.annotations[\"proxy.istio.io/config\"]";
        let meant = "ProxyConfig has no such field; did you mean holdApplicationUntilProxyStarts?";
        let expected = [
            format!("{path}.tracing: sortie does not follow it"),
            format!("{path}.holdAplicationUntilProxyStarts: {meant}"),
        ];
        assert_eq!(said, expected);
    }
}
