//! What the one who injects says, and whose pod it is.
//!
//! Owns: [`Settings`] and their defaults, [`Policy`], [`Owner`], [`Resources`].
//! Never: reads a flag or an annotation.
//! Called by: cli and webhook (make them), the rest of this room.

use std::collections::BTreeMap;

use crate::model::CaptureSpec;

/// What holds for every pod that does not say otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The image of both containers.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`; `None`: Kubernetes decides by the image's tag.
    pub image_pull_policy: Option<String>,
    /// Who is injected (I1).
    pub policy: Policy,
    /// Namespaces whose pods are never injected (I1).
    pub system_namespaces: Vec<String>,
    /// The ConfigMap with the proxy's configuration, in the pod's namespace.
    pub config_map: String,
    /// The Secret with the mesh identity: `cert-chain.pem`, `key.pem`, `root-cert.pem`, or
    /// `tls.crt`, `tls.key`, `ca.crt`.
    pub identity: Option<String>,
    /// Secrets for `credentialName`.
    pub credentials: Vec<String>,
    /// An init container that goes on running, in place of a container beside the others (I6).
    /// Kubernetes 1.29 and later.
    pub native_sidecar: bool,
    /// The application's containers start after the proxy is ready (I7). A native sidecar always
    /// does that.
    pub hold_until_ready: bool,
    /// Probes of the application go through the proxy (I8).
    pub rewrite_probes: bool,
    /// Pods say to Prometheus where the proxy's metrics are (I2).
    pub prometheus: bool,
    /// What is captured.
    pub capture: CaptureSpec,
    /// Where the application finds the proxy if nothing is captured (C9).
    pub listen: String,
    /// `--log-level` of the proxy.
    pub log_level: Option<String>,
    /// What the containers may use.
    pub resources: Resources,
    /// Further flags of `sortie run`, such as `--trust-domain=example.org`.
    pub proxy_args: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        let names = ["kube-system", "kube-public", "kube-node-lease"];
        Settings {
            image: concat!("sortie:", env!("CARGO_PKG_VERSION")).to_owned(),
            image_pull_policy: None,
            policy: Policy::Asked,
            system_namespaces: names.map(str::to_owned).to_vec(),
            config_map: "sortie-config".to_owned(),
            identity: None,
            credentials: Vec::new(),
            native_sidecar: false,
            hold_until_ready: false,
            rewrite_probes: true,
            prometheus: true,
            capture: CaptureSpec::default(),
            listen: "127.0.0.1:80".to_owned(),
            log_level: None,
            resources: Resources::default(),
            proxy_args: Vec::new(),
        }
    }
}

/// Who is injected (I1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Somebody named this manifest: every pod that does not say no.
    #[default]
    Asked,
    /// As Istio's webhook: a no of pod or namespace wins, then a yes of either.
    Labels {
        /// Where neither says anything.
        otherwise: bool,
    },
}

/// Kubernetes quantities; `None` says nothing. The defaults are Istio's (I4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resources {
    /// `requests.cpu`.
    pub cpu: Option<String>,
    /// `requests.memory`.
    pub memory: Option<String>,
    /// `limits.cpu`.
    pub cpu_limit: Option<String>,
    /// `limits.memory`.
    pub memory_limit: Option<String>,
}

impl Default for Resources {
    fn default() -> Self {
        let some = |text: &str| Some(text.to_owned());
        Resources {
            cpu: some("100m"),
            memory: some("128Mi"),
            cpu_limit: some("2"),
            memory_limit: some("1Gi"),
        }
    }
}

/// Whose pod it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// `Deployment`, `Job`, `Pod`, ..
    pub kind: String,
    /// Its name; may be empty where it is generated.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The labels of that namespace, as far as they are known.
    pub namespace_labels: BTreeMap<String, String>,
}
