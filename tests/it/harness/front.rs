//! sortie as what clients of TLS meet: the inbound side of a sidecar, or a gateway, on this
//! machine's loopback address.
//!
//! It is a process of its own, so that its log can be read.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::client::{Wire, get};
use super::eventually::eventually;
use super::mesh::Mesh;
use super::openssl::{Told, s_client};
use super::pki::Identity;
use super::process::{Process, free_address};

/// A running one. Its folder is the certificates' too.
pub struct Front {
    process: Process,
    folder: TempDir,
    ports: BTreeMap<u16, SocketAddr>,
}

/// How it is to be.
pub struct FrontBuilder {
    folder: TempDir,
    arguments: Vec<String>,
    ports: BTreeMap<u16, SocketAddr>,
}

impl FrontBuilder {
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes an identity as `NAME.crt` and `NAME.key`, for clients or for file fields.
    pub fn pair(&self, name: &str, identity: &Identity) {
        identity.write(self.path(), name);
    }

    pub fn file(&self, name: &str, content: &str) {
        let file = self.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    }

    /// Who it is in the mesh.
    pub fn identity(mut self, mesh: &Mesh, identity: &Identity) -> Self {
        mesh.write(&self.path().join("identity"), identity);
        let folder = self.path().join("identity").display().to_string();
        self.arguments.extend(["--identity".into(), folder]);
        self
    }

    pub fn with(mut self, arguments: &[&str]) -> Self {
        let more = arguments.iter().map(ToString::to_string);
        self.arguments.extend(more);
        self
    }

    /// Takes connections that are addressed to it in place of `app`.
    pub fn inbound(mut self, app: SocketAddr) -> Self {
        let address = free_address();
        self.ports.insert(app.port(), address);
        self.arguments
            .extend(["--inbound".into(), format!("{address}={app}")]);
        self
    }

    /// Serves these ports of Gateway documents, each somewhere on the loopback address.
    pub fn gateway(mut self, numbers: &[u16]) -> Self {
        self = self.with(&["--role", "gateway", "--gateway-bind", "127.0.0.1"]);
        for number in numbers {
            let address = free_address();
            self.ports.insert(*number, address);
            let pair = format!("{number}={}", address.port());
            self.arguments.extend(["--gateway-port".into(), pair]);
        }
        self
    }

    /// With these documents; `$DIR` in them is its folder.
    #[track_caller]
    pub fn start(self, manifests: &str) -> Front {
        let config = self.folder.path().join("manifests.yaml");
        let here = self.folder.path().display().to_string();
        std::fs::write(&config, manifests.replace("$DIR", &here)).unwrap();
        let log = self.folder.path().join("access.log").display().to_string();
        let mut arguments = vec!["--access-log", &log, "--workers", "1"];
        arguments.extend(self.arguments.iter().map(String::as_str));
        Front {
            process: Process::run(&config, "", &arguments),
            folder: self.folder,
            ports: self.ports,
        }
    }
}

impl Front {
    pub fn builder() -> FrontBuilder {
        FrontBuilder {
            folder: tempfile::tempdir().unwrap(),
            arguments: Vec::new(),
            ports: BTreeMap::new(),
        }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where a gateway's port, or the application's, is served.
    pub fn at(&self, number: u16) -> SocketAddr {
        self.ports[&number]
    }

    pub fn wire(&self, number: u16) -> Wire {
        Wire::connect(self.at(number))
    }

    /// Replaces the documents and has them read.
    #[track_caller]
    pub fn configure(&self, manifests: &str) {
        let here = self.folder.path().display().to_string();
        let next = self.folder.path().join(".next");
        std::fs::write(&next, manifests.replace("$DIR", &here)).unwrap();
        std::fs::rename(next, self.folder.path().join("manifests.yaml")).unwrap();
        let mut wire = Wire::connect(self.process.admin);
        let head = "POST /reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
        wire.send(head).answer().expect(200);
    }

    /// The sum of a metric's lines that have all of these words; 0 where there is none.
    #[track_caller]
    pub fn metric(&self, words: &[&str]) -> f64 {
        let text = get(self.process.admin, "localhost", "/metrics")
            .expect(200)
            .text();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .filter(|line| words.iter().all(|word| line.contains(word)))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Waits until a metric has this value: it is counted when all is over, and the client knows
    /// before.
    #[track_caller]
    pub fn counts(&self, words: &[&str], value: f64) {
        eventually(&format!("{words:?} at {value}"), || {
            (self.metric(words) == value).then_some(())
        });
    }

    /// The lines of its log that have all of these words.
    pub fn said(&self, words: &[&str]) -> Vec<String> {
        let said = self.process.said();
        let lines = said.lines();
        lines
            .filter(|line| words.iter().all(|word| line.contains(word)))
            .map(str::to_owned)
            .collect()
    }

    /// The first line of its log that has all of these words, once it is there.
    #[track_caller]
    pub fn says(&self, words: &[&str]) -> String {
        eventually(&format!("a line of the log with {words:?}"), || {
            self.said(words).into_iter().next()
        })
    }

    /// The first line of its access log that has all of these words, once it is there.
    #[track_caller]
    pub fn logged(&self, words: &[&str]) -> String {
        let file = self.folder.path().join("access.log");
        eventually(&format!("a line of the access log with {words:?}"), || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let mut lines = text.lines();
            let found = lines.find(|line| words.iter().all(|word| line.contains(word)));
            found.map(str::to_owned)
        })
    }

    /// curl to `url`, whose host and port are found at a gateway's port or the application's: exit
    /// code, and the body with the status behind it.
    pub fn curl(&self, number: u16, url: &str, more: &[&str]) -> (i32, String) {
        let mut command = Command::new("curl");
        for variable in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
            command
                .env_remove(variable)
                .env_remove(variable.to_uppercase());
        }
        let output = command
            .current_dir(self.path())
            .args(["--disable", "--silent", "--show-error", "--max-time", "20"])
            .args(["--write-out", "\n%{http_code}", "--connect-to"])
            .arg(format!("::{}", self.at(number)))
            .args(more)
            .arg(url)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.code().unwrap_or(-1), text)
    }

    /// `openssl s_client` to a port.
    pub fn s_client(&self, number: u16, arguments: &[&str], input: &str) -> Option<Told> {
        s_client(self.at(number), arguments, input)
    }
}
