//! What a proxy knows of itself: what Istio takes from the API server and sortie must be told.
//!
//! Owns: [`ProxyFacts`] and its defaults (ISTIO.md Z1, X12).
//! Never: reads a flag, a variable or a file (that is `cli`).
//! Called by: config (which documents apply), telemetry (labels of the source).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Who this proxy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyFacts {
    /// Sidecar or gateway.
    pub role: Role,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// The namespace of documents that name none; `None`: [`ProxyFacts::namespace`].
    pub default_namespace: Option<Arc<str>>,
    /// The labels of its pod.
    pub labels: BTreeMap<String, String>,
    /// Its service account.
    pub service_account: Option<Arc<str>>,
    /// The trust domain of its identity.
    pub trust_domain: Arc<str>,
    /// Where mesh-wide documents live.
    pub root_namespace: Arc<str>,
    /// What cluster-local names end in.
    pub cluster_domain: Arc<str>,
    /// Chain, key and root of the mesh identity (ISTIO.md T14, T16); `None`: there is none.
    pub identity: Option<MeshIdentity>,
    /// It was named by ISTIO_META_TLS_CLIENT_* variables, and so it stands in for every client
    /// certificate inside the mesh (T14).
    pub mounted_identity: bool,
    /// The same for what inbound connections are shown, where it is another one (T14).
    pub server_identity: Option<MeshIdentity>,
    /// Folders of mounted Secrets (ISTIO.md S2).
    pub credentials: Arc<[PathBuf]>,
}

/// Sidecar or gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Beside one application.
    #[default]
    Sidecar,
    /// Alone, for many.
    Gateway,
}

/// The files of the mesh identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshIdentity {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The roots of the mesh.
    pub ca: PathBuf,
}

impl Default for ProxyFacts {
    /// ISTIO.md X12.
    fn default() -> Self {
        ProxyFacts {
            role: Role::Sidecar,
            namespace: "default".into(),
            default_namespace: None,
            labels: BTreeMap::new(),
            service_account: None,
            trust_domain: "cluster.local".into(),
            root_namespace: "istio-system".into(),
            cluster_domain: "cluster.local".into(),
            identity: None,
            mounted_identity: false,
            server_identity: None,
            credentials: Arc::new([]),
        }
    }
}

impl ProxyFacts {
    /// The namespace of a document that names none (ISTIO.md Z1).
    pub fn default_namespace(&self) -> &Arc<str> {
        self.default_namespace.as_ref().unwrap_or(&self.namespace)
    }
}
