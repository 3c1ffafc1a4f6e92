//! What `--set` changes of a gateway.
//!
//! Owns: [`GatewaySettings`], and the table of its keys with their defaults.
//! Never: makes a document.
//! Called by: gateway, gateway_documents, cli.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::ports::{self, Port};
use super::setting::{Key, keys};
use super::words::{
    Taken, annotations, choice, count, flag, folder, image, label_name, label_value, labels, list,
    network, object_name, quantity, text, variable,
};

/// What every workload of ours has; see the table for each.
#[derive(Debug, Default)]
pub struct Workload {
    pub name: String,
    pub image: String,
    pub pull_policy: &'static str,
    pub pull_secrets: Vec<String>,
    pub replicas: u32,
    pub max_unavailable: u32,
    pub requests: [Option<String>; 2],
    pub limits: [Option<String>; 2],
    pub pod_annotations: BTreeMap<String, String>,
    pub node_selector: BTreeMap<String, String>,
    pub priority_class: Option<String>,
    pub user: u32,
    pub network_policy: bool,
    pub create_namespace: Option<bool>,
    pub log_level: String,
    pub log_format: &'static str,
    pub env: Vec<(String, String)>,
}

/// What a gateway is like.
#[derive(Debug, Default)]
pub struct GatewaySettings {
    pub(super) workload: Workload,
    /// The label `istio`, by which Gateway documents select it.
    pub(super) istio: String,
    pub(super) labels: BTreeMap<String, String>,
    /// A ConfigMap that exists, in place of files.
    pub config: Option<String>,
    /// `None`: those that the configuration opens.
    pub(super) ports: Option<Vec<Port>>,
    pub(super) listen: Vec<Port>,
    /// `None`: those that the configuration names.
    pub(super) credentials: Option<Vec<String>>,
    pub(super) identity: Option<String>,
    pub(super) identity_format: &'static str,
    /// Secrets, and the folders that they are mounted at.
    pub(super) mounts: Vec<(String, String)>,
    pub(super) autoscaling: bool,
    pub(super) max_replicas: u32,
    pub(super) cpu_target: u32,
    pub(super) drain_timeout: u32,
    pub(super) pre_stop: u32,
    pub(super) service_type: &'static str,
    pub(super) service_annotations: BTreeMap<String, String>,
    pub(super) traffic_policy: &'static str,
    pub(super) clients: Clients,
    pub(super) egress: Vec<IpNet>,
    pub(super) egress_except: Vec<IpNet>,
    pub(super) access_log: bool,
    pub(super) trust_domain: Option<String>,
}

/// Who may call a gateway, for its NetworkPolicy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Clients {
    /// Pods of the gateway's namespace; anybody, where the Service is for others too.
    #[default]
    Auto,
    /// Anybody.
    Any,
    /// Pods of the cluster.
    Cluster,
    /// Pods of the gateway's namespace.
    Namespace,
    /// Pods of namespaces with these labels.
    Labelled(BTreeMap<String, String>),
}

fn clients(value: &str) -> Taken<Clients> {
    Ok(match value {
        "auto" => Clients::Auto,
        "any" => Clients::Any,
        "cluster" => Clients::Cluster,
        "namespace" => Clients::Namespace,
        _ if value.contains('=') => Clients::Labelled(labels(value)?),
        _ => {
            return Err("expected any, cluster, namespace, or labels of namespaces".to_owned());
        }
    })
}

fn mount(value: &str) -> Taken<(String, String)> {
    let (secret, path) = value.split_once(':').unwrap_or((value, ""));
    Ok((object_name(secret)?, folder(path)?))
}

/// A variable behind those that were said before.
pub(super) fn with(before: &[(String, String)], one: (String, String)) -> Vec<(String, String)> {
    before.iter().cloned().chain([one]).collect()
}

/// Every key of a gateway.
pub const GATEWAY: &[Key<GatewaySettings>] = keys! {
    "name" ["sortie-egressgateway"] "name of all objects"
        => |s, v| s.workload.name, label_name(v);
    "istio" ["egressgateway"] "label istio of the pods, by which Gateway documents select them"
        => |s, v| s.istio, label_value(v);
    "labels" [""] "more labels of the pods: K=V,K=V"
        => |s, v| s.labels, labels(v);
    "image" [concat!("sortie:", env!("CARGO_PKG_VERSION"))] "image"
        => |s, v| s.workload.image, image(v);
    "image.pullPolicy" ["IfNotPresent"] "Always, IfNotPresent or Never"
        => |s, v| s.workload.pull_policy, choice(v, &["Always", "IfNotPresent", "Never"]);
    "image.pullSecrets" [""] "Secrets for the registry: A,B"
        => |s, v| s.workload.pull_secrets, list(v, object_name);
    "createNamespace" [""] "print the Namespace too [true for sortie-system]"
        => |s, v| s.workload.create_namespace, flag(v).map(Some);
    "config" [""] "a ConfigMap that exists, in place of --config"
        => |s, v| s.config, object_name(v).map(Some);
    "ports" [""] "NAME:PORT[:CONTAINERPORT],.. [those that the configuration opens]"
        => |s, v| s.ports, list(v, ports::said).map(Some);
    "listen" [""] "ports for plain HTTP, as for HTTP_PROXY: 8080,.."
        => |s, v| s.listen, list(v, ports::listen);
    "credentials" [""] "Secrets for credentialName: A,B [those that the configuration names]"
        => |s, v| s.credentials, list(v, object_name).map(Some);
    "identity" [""] "Secret with the mesh identity"
        => |s, v| s.identity, object_name(v).map(Some);
    "identity.format" ["istio"]
        "istio: cert-chain.pem, key.pem, root-cert.pem; tls: tls.crt, tls.key, ca.crt"
        => |s, v| s.identity_format, choice(v, &["istio", "tls"]);
    "mounts" [""] "Secrets whose files the configuration names: SECRET:/FOLDER,.."
        => |s, v| s.mounts, list(v, mount);
    "replicas" ["2"] "pods; with autoscaling the least"
        => |s, v| s.workload.replicas, count(v, 1, 1000);
    "autoscaling" ["true"] "a HorizontalPodAutoscaler"
        => |s, v| s.autoscaling, flag(v);
    "autoscaling.maxReplicas" ["10"] "the most pods"
        => |s, v| s.max_replicas, count(v, 1, 1000);
    "autoscaling.targetCPU" ["80"] "percent of requests.cpu"
        => |s, v| s.cpu_target, count(v, 1, 1000);
    "maxUnavailable" ["1"] "of the PodDisruptionBudget"
        => |s, v| s.workload.max_unavailable, count(v, 1, 1000);
    "requests.cpu" ["100m"] ""
        => |s, v| s.workload.requests[0], quantity(v);
    "requests.memory" ["64Mi"] ""
        => |s, v| s.workload.requests[1], quantity(v);
    "limits.cpu" ["none"] ""
        => |s, v| s.workload.limits[0], quantity(v);
    "limits.memory" ["512Mi"] ""
        => |s, v| s.workload.limits[1], quantity(v);
    "drainTimeout" ["30"] "seconds that requests under way may take at the end"
        => |s, v| s.drain_timeout, count(v, 0, 3600);
    "preStop" ["5"] "seconds before that, in which others learn of it; 0 for Kubernetes < 1.30"
        => |s, v| s.pre_stop, count(v, 0, 600);
    "service.type" ["ClusterIP"] "ClusterIP, NodePort or LoadBalancer"
        => |s, v| s.service_type, choice(v, &["ClusterIP", "NodePort", "LoadBalancer"]);
    "service.annotations" [""] "K=V,K=V"
        => |s, v| s.service_annotations, annotations(v);
    "service.externalTrafficPolicy" ["Cluster"] "Cluster, or Local, which keeps client addresses"
        => |s, v| s.traffic_policy, choice(v, &["Cluster", "Local"]);
    "networkPolicy" ["true"] "a NetworkPolicy"
        => |s, v| s.workload.network_policy, flag(v);
    "networkPolicy.clients" ["auto"]
        "any, cluster, namespace, or labels of namespaces; auto: namespace, any for other Services"
        => |s, v| s.clients, clients(v);
    "networkPolicy.egress" ["0.0.0.0/0,::/0"] "networks that it may call"
        => |s, v| s.egress, list(v, network);
    "networkPolicy.egressExcept" ["169.254.0.0/16,fe80::/10"]
        "and those that it may not: clouds' metadata"
        => |s, v| s.egress_except, list(v, network);
    "nodeSelector" [""] "K=V,K=V"
        => |s, v| s.workload.node_selector, labels(v);
    "podAnnotations" [""] "K=V,K=V"
        => |s, v| s.workload.pod_annotations, annotations(v);
    "priorityClass" [""] ""
        => |s, v| s.workload.priority_class, object_name(v).map(Some);
    "runAsUser" ["1337"] "user and group"
        => |s, v| s.workload.user, count(v, 1, u32::MAX >> 1);
    "accessLog" ["true"] "one line per request on standard output"
        => |s, v| s.access_log, flag(v);
    "logLevel" ["info"] "as --log-level"
        => |s, v| s.workload.log_level, text(v);
    "logFormat" ["json"] "text or json"
        => |s, v| s.workload.log_format, choice(v, &["text", "json"]);
    "trustDomain" [""] "as --trust-domain"
        => |s, v| s.trust_domain, object_name(v).map(Some);
    "env" [""] "NAME=VALUE, such as SORTIE_NAME_CHECK=enforce; repeatable"
        => |s, v| s.workload.env, variable(v).map(|one| with(&s.workload.env, one));
};

#[cfg(test)]
mod tests {
    use super::super::setting::fill;
    use super::*;

    #[test]
    fn every_default_is_a_value_that_its_key_takes() {
        let settings = fill(GATEWAY, &[]).unwrap();
        assert_eq!(settings.workload.name, "sortie-egressgateway");
        assert_eq!(settings.workload.limits, [None, Some("512Mi".to_owned())]);
        assert_eq!(settings.ports, None);
        assert_eq!(settings.workload.user, 1337);
    }

    #[test]
    fn no_key_stands_twice() {
        let names: std::collections::BTreeSet<_> = GATEWAY.iter().map(|key| key.name).collect();
        assert_eq!(names.len(), GATEWAY.len());
    }

    #[test]
    fn values_that_mean_nothing_are_refused_with_what_was_expected() {
        for (set, expected) in [
            ("replicas=0", "a whole number from 1 to 1000"),
            ("mounts=bank", "an absolute path"),
            ("networkPolicy.clients=all", "any, cluster, namespace"),
            ("istio=a,b=c", "expected 1 to 63"),
            ("image.pullPolicy=never", "Always, IfNotPresent, Never"),
        ] {
            let mistakes = fill(GATEWAY, &[set.to_owned()]).unwrap_err();
            assert!(mistakes[0].contains(expected), "{mistakes:?}");
        }
    }
}
