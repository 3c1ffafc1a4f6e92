//! A mesh: one root, and an identity for each workload of it.

use std::path::Path;

use super::cell::Cell;
use super::pki::{Authority, Identity};

/// The trust domain of every mesh here.
pub const TRUST_DOMAIN: &str = "cluster.local";

/// The SPIFFE id of a service account (ISTIO.md P14).
pub fn spiffe(namespace: &str, account: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}/ns/{namespace}/sa/{account}")
}

/// Who signs the mesh's identities.
pub struct Mesh {
    pub root: Authority,
}

impl Mesh {
    pub fn new() -> Mesh {
        Mesh {
            root: Authority::new("mesh root"),
        }
    }

    /// An account's certificate: its SPIFFE id, and nothing else.
    pub fn identity(&self, namespace: &str, account: &str) -> Identity {
        self.root.server(&[&spiffe(namespace, account)])
    }

    /// Puts an account's files where sortie looks for them (ISTIO.md T16).
    pub fn employ(&self, cell: &Cell, namespace: &str, account: &str) {
        self.employ_as(cell, &self.identity(namespace, account));
    }

    /// The same with a certificate of one's own.
    pub fn employ_as(&self, cell: &Cell, identity: &Identity) {
        cell.put("certs/cert-chain.pem", &identity.chain);
        cell.put("certs/key.pem", &identity.key);
        cell.put("certs/root-cert.pem", &self.root.pem);
    }

    /// Writes the three files into a folder, for `--identity`.
    pub fn write(&self, folder: &Path, identity: &Identity) {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("cert-chain.pem"), &identity.chain).unwrap();
        std::fs::write(folder.join("key.pem"), &identity.key).unwrap();
        std::fs::write(folder.join("root-cert.pem"), &self.root.pem).unwrap();
    }
}
