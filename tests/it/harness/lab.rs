//! The usual set-up: a bank that demands client certificates, and the files to call it with.

use std::path::Path;

use tempfile::TempDir;

use super::origin::{Origin, OriginBuilder};
use super::pki::{Authority, Identity};
use super::sortie::Sortie;

/// Two authorities that know nothing of each other, and a client's files.
pub struct Lab {
    pub folder: TempDir,
    /// Vouches for servers; in `ca.crt`.
    pub servers: Authority,
    /// Vouches for clients.
    pub clients: Authority,
    /// In `client.crt` and `client.key`.
    pub client: Identity,
}

impl Lab {
    pub fn new() -> Lab {
        let folder = tempfile::tempdir().unwrap();
        let (servers, clients) = (Authority::new("server CA"), Authority::new("client CA"));
        let client = clients.client("shop");
        client.write(folder.path(), "client");
        std::fs::write(folder.path().join("ca.crt"), &servers.pem).unwrap();
        Lab {
            folder,
            servers,
            clients,
            client,
        }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A server for `bank.example` that demands a client certificate.
    pub fn bank(&self) -> OriginBuilder {
        Origin::tls(&self.servers.server(&["bank.example"]))
            .named("bank")
            .demands(&self.clients)
    }

    /// The `tls` block of mutual TLS with the lab's files.
    pub fn mutual(&self) -> String {
        let at = self.path().display();
        format!(
            "{{mode: mutual, certificate: {at}/client.crt, key: {at}/client.key, ca: {at}/ca.crt}}"
        )
    }

    /// A configuration that sends `bank.example` to that port of this machine, in mutual TLS.
    pub fn config(&self, port: u16) -> String {
        self.config_with(port, "", "")
    }

    /// The same, with more keys in the upstream and in the route's only rule, a line each.
    pub fn config_with(&self, port: u16, upstream: &str, rule: &str) -> String {
        format!(
            "upstreams:\n  - name: bank\n    endpoints: [\"127.0.0.1:{port}\"]\n    tls: {}\n{}\
             routes:\n  - host: bank.example\n    rules:\n      - upstream: bank\n{}",
            self.mutual(),
            indent(4, upstream),
            indent(8, rule)
        )
    }

    /// sortie in front of that port.
    #[track_caller]
    pub fn sortie(&self, port: u16) -> Sortie {
        Sortie::start(&self.config(port))
    }
}

fn indent(by: usize, lines: &str) -> String {
    lines
        .lines()
        .map(|line| format!("{:by$}{line}\n", ""))
        .collect()
}
