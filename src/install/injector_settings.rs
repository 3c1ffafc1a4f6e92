//! What `--set` changes of the injector.
//!
//! Owns: [`InjectorSettings`], and the table of its keys with their defaults.
//! Never: makes a document.
//! Called by: injector, cli.

use super::gateway_settings::{Workload, with};
use super::setting::{Key, keys};
use super::words::{
    Taken, annotations, choice, count, flag, image, label_name, label_value, labels, list,
    object_name, quantity, text, variable,
};
use crate::tls::base64;

/// Bytes of a CA bundle.
const MOST_BUNDLE: usize = 256 * 1024;

/// What the injector is like.
#[derive(Debug, Default)]
pub struct InjectorSettings {
    /// What every workload has.
    pub(super) workload: Workload,
    /// PEM in base64.
    pub(super) ca_bundle: Option<String>,
    pub(super) issuer: Option<Issuer>,
    pub(super) secret: String,
    pub(super) failure_policy: &'static str,
    pub(super) timeout: u32,
    pub(super) revision: Option<String>,
    pub(super) exclude: Vec<String>,
    pub(super) drain_timeout: u32,
    pub(super) pre_stop: u32,
    /// Variables of `sortie webhook`, in the order of the table.
    pub(super) sidecar: Vec<(&'static str, String)>,
}

/// Who makes the certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Issuer {
    /// An issuer of our own that signs nothing but this.
    SelfSigned,
    /// Kind and name.
    Named(&'static str, String),
}

fn issuer(value: &str) -> Taken<Issuer> {
    if value == "selfSigned" {
        return Ok(Issuer::SelfSigned);
    }
    let (kind, name) = value.split_once('/').unwrap_or((value, ""));
    let kind = choice(kind, &["Issuer", "ClusterIssuer"])
        .map_err(|_| "expected selfSigned, Issuer/NAME or ClusterIssuer/NAME".to_owned())?;
    Ok(Issuer::Named(kind, object_name(name)?))
}

/// PEM of the CA that signed the webhook's certificate, as the API server wants it.
fn bundle(value: &str) -> Taken<String> {
    let pem = value.contains("-----BEGIN CERTIFICATE-----");
    if value.contains("PRIVATE KEY") {
        return Err("there is a private key in it; expected certificates of CAs alone".to_owned());
    }
    match pem && value.len() <= MOST_BUNDLE {
        true => Ok(base64(value.as_bytes())),
        false => Err("expected certificates in PEM: caBundle=@FILE".to_owned()),
    }
}

/// The same variable a second time replaces the first.
fn set(
    before: &[(&'static str, String)],
    name: &'static str,
    value: impl ToString,
) -> Vec<(&'static str, String)> {
    let others = before.iter().filter(|(other, _)| *other != name).cloned();
    others.chain([(name, value.to_string())]).collect()
}

/// Every key of the injector.
pub const INJECTOR: &[Key<InjectorSettings>] = keys! {
    "name" ["sortie-injector"] "name of all objects"
        => |s, v| s.workload.name, label_name(v);
    "image" [concat!("sortie:", env!("CARGO_PKG_VERSION"))] "image of the injector"
        => |s, v| s.workload.image, image(v);
    "image.pullPolicy" ["IfNotPresent"] "Always, IfNotPresent or Never"
        => |s, v| s.workload.pull_policy, choice(v, &["Always", "IfNotPresent", "Never"]);
    "image.pullSecrets" [""] "Secrets for the registry: A,B"
        => |s, v| s.workload.pull_secrets, list(v, object_name);
    "createNamespace" [""] "print the Namespace too [true for sortie-system]"
        => |s, v| s.workload.create_namespace, flag(v).map(Some);
    "certManager" [""] "who makes the certificate: selfSigned, Issuer/NAME or ClusterIssuer/NAME"
        => |s, v| s.issuer, issuer(v).map(Some);
    "caBundle" [""] "instead: the CA of the certificate in the Secret, PEM; @FILE reads one"
        => |s, v| s.ca_bundle, bundle(v).map(Some);
    "certificate" ["sortie-injector-cert"] "Secret with tls.crt and tls.key"
        => |s, v| s.secret, object_name(v);
    "failurePolicy" ["Fail"]
        "Fail: pods that asked are not made without a sidecar; Ignore: they are"
        => |s, v| s.failure_policy, choice(v, &["Fail", "Ignore"]);
    "timeoutSeconds" ["10"] "how long the API server waits"
        => |s, v| s.timeout, count(v, 1, 30);
    "revision" [""] "namespaces with istio.io/rev=REVISION, instead of istio-injection=enabled"
        => |s, v| s.revision, label_value(v).map(Some);
    "excludeNamespaces" ["kube-system,kube-public,kube-node-lease"]
        "whose pods are never looked at, beside the injector's own"
        => |s, v| s.exclude, list(v, object_name);
    "replicas" ["2"] "pods"
        => |s, v| s.workload.replicas, count(v, 1, 100);
    "maxUnavailable" ["1"] "of the PodDisruptionBudget"
        => |s, v| s.workload.max_unavailable, count(v, 1, 100);
    "requests.cpu" ["50m"] ""
        => |s, v| s.workload.requests[0], quantity(v);
    "requests.memory" ["32Mi"] ""
        => |s, v| s.workload.requests[1], quantity(v);
    "limits.cpu" ["none"] ""
        => |s, v| s.workload.limits[0], quantity(v);
    "limits.memory" ["256Mi"] ""
        => |s, v| s.workload.limits[1], quantity(v);
    "drainTimeout" ["10"] "seconds that what was asked may take at the end"
        => |s, v| s.drain_timeout, count(v, 0, 600);
    "preStop" ["5"]
        "seconds before that, in which the API server learns of it; 0 for Kubernetes < 1.30"
        => |s, v| s.pre_stop, count(v, 0, 600);
    "networkPolicy" ["true"] "a NetworkPolicy"
        => |s, v| s.workload.network_policy, flag(v);
    "nodeSelector" [""] "K=V,K=V"
        => |s, v| s.workload.node_selector, labels(v);
    "podAnnotations" [""] "K=V,K=V"
        => |s, v| s.workload.pod_annotations, annotations(v);
    "priorityClass" [""] ""
        => |s, v| s.workload.priority_class, object_name(v).map(Some);
    "runAsUser" ["1337"] "user and group"
        => |s, v| s.workload.user, count(v, 1, u32::MAX >> 1);
    "logLevel" ["info"] "as --log-level"
        => |s, v| s.workload.log_level, text(v);
    "logFormat" ["json"] "text or json"
        => |s, v| s.workload.log_format, choice(v, &["text", "json"]);
    "sidecar.image" [concat!("sortie:", env!("CARGO_PKG_VERSION"))] "image of the sidecars"
        => |s, v| s.sidecar, image(v).map(|v| set(&s.sidecar, "SORTIE_INJECT_IMAGE", v));
    "sidecar.config" ["sortie-config"] "ConfigMap with their configuration, in each namespace"
        => |s, v| s.sidecar, object_name(v).map(|v| set(&s.sidecar, "SORTIE_INJECT_CONFIG_MAP", v));
    "sidecar.identity" [""] "Secret with the mesh identity, in each namespace"
        => |s, v| s.sidecar, object_name(v).map(|v| set(&s.sidecar, "SORTIE_INJECT_IDENTITY", v));
    "sidecar.credentials" [""] "Secrets for credentialName, in each namespace: A,B"
        => |s, v| s.sidecar, list(v, object_name)
            .map(|v| set(&s.sidecar, "SORTIE_INJECT_CREDENTIALS", v.join(",")));
    "sidecar.native" ["false"]
        "as an init container that goes on running: Kubernetes 1.29 and newer"
        => |s, v| s.sidecar, flag(v).map(|v| set(&s.sidecar, "SORTIE_INJECT_NATIVE_SIDECAR", v));
    "sidecar.holdUntilReady" ["false"] "the application starts once the proxy is ready"
        => |s, v| s.sidecar, flag(v).map(|v| set(&s.sidecar, "SORTIE_INJECT_HOLD_UNTIL_READY", v));
    "sidecar.interception" ["REDIRECT"] "REDIRECT, TPROXY or NONE"
        => |s, v| s.sidecar, choice(v, &["REDIRECT", "TPROXY", "NONE"])
            .map(|v| set(&s.sidecar, "SORTIE_INJECT_INTERCEPTION", v));
    "sidecar.resources" ["100m,128Mi,2,1Gi"] "requested cpu and memory, and their limits"
        => |s, v| s.sidecar, text(v).map(|v| set(&s.sidecar, "SORTIE_INJECT_RESOURCES", v));
    "env" [""] "NAME=VALUE for the injector; repeatable"
        => |s, v| s.workload.env, variable(v).map(|one| with(&s.workload.env, one));
};

#[cfg(test)]
mod tests {
    use super::super::setting::fill;
    use super::*;

    #[test]
    fn every_default_is_a_value_that_its_key_takes() {
        let settings = fill(INJECTOR, &[]).unwrap();
        assert_eq!(settings.failure_policy, "Fail");
        assert_eq!(
            settings.sidecar[1],
            ("SORTIE_INJECT_CONFIG_MAP", "sortie-config".to_owned())
        );
    }

    #[test]
    fn a_ca_bundle_is_pem_without_a_key() {
        let pem = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
        assert_eq!(bundle(pem), Ok(base64(pem.as_bytes())));
        assert!(bundle("AA==").unwrap_err().contains("@FILE"));
        let key = format!("{pem}-----BEGIN PRIVATE KEY-----\n");
        assert!(bundle(&key).unwrap_err().contains("private key"));
    }

    #[test]
    fn issuers_are_those_that_cert_manager_has() {
        assert_eq!(issuer("selfSigned"), Ok(Issuer::SelfSigned));
        let named = Issuer::Named("ClusterIssuer", "ca".to_owned());
        assert_eq!(issuer("ClusterIssuer/ca"), Ok(named));
        for bad in ["", "ca", "Issuer/", "Secret/ca"] {
            assert!(issuer(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_set_twice_counts_once() {
        let sets = [
            "sidecar.native=true".to_owned(),
            "sidecar.native=false".to_owned(),
        ];
        let settings = fill(INJECTOR, &sets).unwrap();
        let native = |(name, _): &&(&str, String)| *name == "SORTIE_INJECT_NATIVE_SIDECAR";
        let found: Vec<_> = settings.sidecar.iter().filter(native).collect();
        assert_eq!(
            found,
            [&("SORTIE_INJECT_NATIVE_SIDECAR", "false".to_owned())]
        );
    }
}
