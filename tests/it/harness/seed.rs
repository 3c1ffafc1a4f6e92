//! The articles' manifests, and the external service that they speak of.

use std::path::PathBuf;

use super::cell::Cell;
use super::pki::Identity;

/// A folder of an article's manifests.
pub fn seed(name: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/manifests/seeds");
    PathBuf::from(folder).join(name)
}

/// A `server` block of nginx that demands a client certificate.
pub fn demanding(
    cell: &Cell,
    address: &str,
    name: &str,
    server: &Identity,
    clients: &str,
) -> String {
    cell.put(&format!("nginx/{name}.crt"), &server.chain);
    cell.put(&format!("nginx/{name}.key"), &server.key);
    cell.put(&format!("nginx/{name}-clients.crt"), clients);
    format!(
        "server {{
            listen {address} ssl;
            server_name _;
            ssl_certificate /etc/nginx/{name}.crt;
            ssl_certificate_key /etc/nginx/{name}.key;
            ssl_client_certificate /etc/nginx/{name}-clients.crt;
            ssl_verify_client on;
            ssl_verify_depth 3;
            location / {{ return 200 '<title>Welcome to nginx!</title>\\n'; }}
        }}"
    )
}

/// A line of [`Cell::saw`] in its parts.
pub fn fields(line: &str) -> Vec<&str> {
    line.split('|').collect()
}
