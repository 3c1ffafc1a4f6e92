//! A workload of a mesh with sortie as its sidecar: the inbound side, addressed in place of the
//! application.

use std::net::SocketAddr;

use super::front::Front;
use super::mesh::Mesh;
use super::pki::Identity;

/// The namespace and the account of the application.
pub const SHOP: &str = "shop";
pub const WEB: &str = "web";

/// The Service of the application, and a policy for its namespace.
pub fn guarded(app: SocketAddr, protocol: &str, mode: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop}}\n\
         spec:\n  selector: {{app: web}}\n  ports: [{{name: {protocol}, port: 80, targetPort: {}}}]\n\
         ---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
         metadata: {{name: default, namespace: shop}}\nspec: {{mtls: {{mode: {mode}}}}}\n",
        app.port()
    )
}

/// A workload with its sidecar, and the mesh that it belongs to.
pub struct Sidecar {
    pub front: Front,
    pub mesh: Mesh,
    app: SocketAddr,
}

impl Sidecar {
    pub fn new(app: SocketAddr, protocol: &str, mode: &str) -> Sidecar {
        Sidecar::with(app, &guarded(app, protocol, mode))
    }

    pub fn with(app: SocketAddr, manifests: &str) -> Sidecar {
        let mesh = Mesh::new();
        let builder = Front::builder();
        builder.pair("sleep", &mesh.identity("full", "sleep"));
        builder.file("root.pem", &mesh.root.pem);
        let labels = ["--labels", "app=web", "--service-account", WEB];
        let front = builder
            .identity(&mesh, &mesh.identity(SHOP, WEB))
            .with(&["--namespace", SHOP])
            .with(&labels)
            .inbound(app)
            .start(manifests);
        Sidecar { front, mesh, app }
    }

    pub fn port(&self) -> u16 {
        self.app.port()
    }

    /// Writes a client's pair as `NAME.crt` and `NAME.key`.
    pub fn client(&self, name: &str, identity: &Identity) {
        identity.write(self.front.path(), name);
    }

    /// curl in TLS, with that pair if it is one.
    pub fn curl(&self, pair: &str, more: &[&str]) -> (i32, String) {
        let (cert, key) = (format!("{pair}.crt"), format!("{pair}.key"));
        // Its SPIFFE id is no name that curl could check: the chain is looked at by openssl below.
        let mut all = vec!["--insecure"];
        if !pair.is_empty() {
            all.extend(["--cert", &cert, "--key", &key]);
        }
        self.front
            .curl(self.port(), "https://web.shop/", &[&all[..], more].concat())
    }

    pub fn plain(&self, more: &[&str]) -> (i32, String) {
        self.front.curl(self.port(), "http://web.shop/", more)
    }

    /// Handshakes that failed for this reason.
    pub fn failures(&self, reason: &str) -> f64 {
        self.front.metric(&[FAILURES, &labelled(reason)])
    }

    /// Waits until there are so many.
    #[track_caller]
    pub fn fails(&self, reason: &str, times: f64) {
        self.front.counts(&[FAILURES, &labelled(reason)], times);
    }

    /// Waits until so many connections were turned away for this reason.
    #[track_caller]
    pub fn rejects(&self, reason: &str, times: f64) {
        self.front.counts(&[REJECTED, &labelled(reason)], times);
    }
}

const FAILURES: &str = "sortie_downstream_handshake_failures_total";
const REJECTED: &str = "sortie_downstream_rejected_requests_total";

fn labelled(reason: &str) -> String {
    format!("reason=\"{reason}\"")
}
