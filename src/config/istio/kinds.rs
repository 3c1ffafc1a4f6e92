//! Which kinds there are, under which versions, and by which table they are checked (K1 to K11).
//!
//! Owns: [`KINDS`], and what becomes of a kind that is not among them.
//! Never: reads a document.
//! Called by: read.

use crate::config::validate::did_you_mean;

use super::shape::Table;
use super::tables::{
    destination_rule, gateway, kubernetes, mesh, security, service_entry, sidecar, virtual_service,
};

/// A kind that is read.
pub struct KindSpec {
    pub kind: &'static str,
    /// The part of `apiVersion` before the slash; empty for Kubernetes' core.
    pub group: &'static str,
    pub versions: &'static [&'static str],
    /// It lives in a namespace.
    pub namespaced: bool,
    pub table: &'static Table,
}

const NETWORKING: &str = "networking.istio.io";
const NETWORKING_VERSIONS: &[&str] = &["v1alpha3", "v1beta1", "v1"];
const APPS_VERSIONS: &[&str] = &["v1", "v1beta1", "v1beta2"];

const fn istio(kind: &'static str, table: &'static Table) -> KindSpec {
    KindSpec {
        kind,
        group: NETWORKING,
        versions: NETWORKING_VERSIONS,
        namespaced: true,
        table,
    }
}

const fn core(kind: &'static str, table: &'static Table) -> KindSpec {
    KindSpec {
        kind,
        group: "",
        versions: &["v1"],
        namespaced: true,
        table,
    }
}

const fn apps(
    kind: &'static str,
    group: &'static str,
    versions: &'static [&'static str],
) -> KindSpec {
    KindSpec {
        kind,
        group,
        versions,
        namespaced: true,
        table: &kubernetes::TEMPLATED,
    }
}

/// All of them.
pub static KINDS: &[KindSpec] = &[
    istio("ServiceEntry", &service_entry::SERVICE_ENTRY),
    istio("WorkloadEntry", &service_entry::WORKLOAD_ENTRY),
    istio("VirtualService", &virtual_service::VIRTUAL_SERVICE),
    istio("DestinationRule", &destination_rule::DESTINATION_RULE),
    istio("Gateway", &gateway::GATEWAY),
    istio("Sidecar", &sidecar::SIDECAR),
    KindSpec {
        kind: "PeerAuthentication",
        group: "security.istio.io",
        versions: &["v1beta1", "v1"],
        namespaced: true,
        table: &security::PEER_AUTHENTICATION,
    },
    KindSpec {
        kind: "Policy",
        group: "authentication.istio.io",
        versions: &["v1alpha1"],
        namespaced: true,
        table: &security::LEGACY_POLICY,
    },
    KindSpec {
        kind: "MeshPolicy",
        group: "authentication.istio.io",
        versions: &["v1alpha1"],
        namespaced: false,
        table: &security::LEGACY_POLICY,
    },
    KindSpec {
        kind: "IstioOperator",
        group: "install.istio.io",
        versions: &["v1alpha1"],
        namespaced: true,
        table: &mesh::ISTIO_OPERATOR,
    },
    core("Secret", &kubernetes::SECRET),
    core("ConfigMap", &kubernetes::CONFIG_MAP),
    core("Service", &kubernetes::SERVICE),
    core("Endpoints", &kubernetes::ENDPOINTS),
    core("ServiceAccount", &kubernetes::NAMED),
    core("Pod", &kubernetes::POD),
    KindSpec {
        kind: "Namespace",
        group: "",
        versions: &["v1"],
        namespaced: false,
        table: &kubernetes::NAMED,
    },
    KindSpec {
        kind: "EndpointSlice",
        group: "discovery.k8s.io",
        versions: &["v1", "v1beta1"],
        namespaced: true,
        table: &kubernetes::ENDPOINT_SLICE,
    },
    apps("Deployment", "apps", APPS_VERSIONS),
    apps("StatefulSet", "apps", APPS_VERSIONS),
    apps("DaemonSet", "apps", APPS_VERSIONS),
    apps("ReplicaSet", "apps", APPS_VERSIONS),
    apps("Deployment", "extensions", &["v1beta1"]),
    apps("DaemonSet", "extensions", &["v1beta1"]),
    apps("ReplicaSet", "extensions", &["v1beta1"]),
];

/// What becomes of a document.
pub enum Role {
    /// It is read.
    Known(&'static KindSpec),
    /// It is refused, as its loss would widen access or misroute (U3).
    Unsupported(&'static str),
    /// Its version, group or kind was probably meant otherwise. Holds what to write.
    Mistyped(String),
    /// It means nothing to sortie (K10, K11, U4).
    Ignored,
}

/// Kinds of security and routing that sortie does not follow (K8, K9, K11).
const UNSUPPORTED: &[(&str, &str)] = &[
    ("security.istio.io", "AuthorizationPolicy"),
    ("security.istio.io", "RequestAuthentication"),
    (NETWORKING, "EnvoyFilter"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "HTTPRoute"),
    ("gateway.networking.k8s.io", "TLSRoute"),
    ("gateway.networking.k8s.io", "TCPRoute"),
    ("gateway.networking.k8s.io", "UDPRoute"),
    ("gateway.networking.k8s.io", "GRPCRoute"),
    ("gateway.networking.k8s.io", "ReferenceGrant"),
    ("gateway.networking.k8s.io", "BackendTLSPolicy"),
];

/// True where a kind of this name is read, whatever its group.
pub fn is_known(kind: &str) -> bool {
    KINDS.iter().any(|spec| spec.kind == kind)
}

/// What becomes of a document of this kind.
pub fn role(group: &str, version: &str, kind: &str) -> Role {
    let of_kind = || KINDS.iter().filter(|spec| spec.kind == kind);
    let versions = of_kind().filter(|spec| spec.group == group);
    if let Some(spec) = versions
        .clone()
        .find(|spec| spec.versions.contains(&version))
    {
        return Role::Known(spec);
    }
    if let Some(spec) = versions.into_iter().next() {
        return Role::Mistyped(written(spec));
    }
    if let Some((_, kind)) = UNSUPPORTED.iter().find(|entry| **entry == (group, kind)) {
        return Role::Unsupported(kind);
    }
    // Other projects have kinds of the same names; a typo lies nearer.
    let near = |spec: &&KindSpec| {
        did_you_mean(group, [spec.group]).is_some()
            || spec.group.ends_with(".istio.io") && (group.is_empty() || group.contains("istio"))
    };
    if let Some(spec) = of_kind().find(near) {
        return Role::Mistyped(written(spec));
    }
    let of_group = KINDS.iter().filter(|spec| spec.group == group);
    match did_you_mean(kind, of_group.map(|spec| spec.kind)) {
        Some(meant) => Role::Mistyped(format!("did you mean kind: {meant}?")),
        None => Role::Ignored,
    }
}

fn written(spec: &KindSpec) -> String {
    let version = spec.versions.last().unwrap_or(&"v1");
    match spec.group {
        "" => format!("write apiVersion: {version}"),
        group => format!("write apiVersion: {group}/{version}"),
    }
}
