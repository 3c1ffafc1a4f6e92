//! A machine of its own in miniature: a network namespace with its own addresses, ports and `/etc`.
//!
//! What a manifest says of addresses, ports and files under `/etc` can be done as it is written,
//! side by side with other tests, and without a trace on the machine.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use tempfile::TempDir;

use super::eventually::eventually;
use super::hub::{Hub, ip};
use super::needs::{needs, skip};
use super::openssl::{Told, talk};
use super::process::PROGRAM;

/// The admin port of sortie inside.
const ADMIN: &str = "127.0.0.1:15000";

/// The namespace and its files; both are gone when dropped, with what runs inside.
pub struct Cell {
    name: String,
    folder: TempDir,
}

/// A program inside; it is killed when dropped.
pub struct Inmate(Child);

impl Drop for Inmate {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Cell {
    /// With these addresses on its loopback device. `None` where this machine allows none, and may.
    pub fn new(addresses: &[&str]) -> Option<Cell> {
        let cell = Cell::bare()?;
        let more = addresses
            .iter()
            .try_for_each(|address| ip(&format!("-n {} addr add {address}/32 dev lo", cell.name)));
        cell.or_skip(more)
    }

    /// One of several on a network, with these addresses there.
    pub fn on(hub: &Hub, addresses: &[&str]) -> Option<Cell> {
        let cell = Cell::bare()?;
        let joined = hub.join(&cell.name, addresses);
        cell.or_skip(joined)
    }

    fn bare() -> Option<Cell> {
        static COUNT: AtomicU8 = AtomicU8::new(0);
        for program in ["ip", "iptables", "curl", "setpriv", "nginx"] {
            needs(program)?;
        }
        let nth = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sc{}-{nth}", std::process::id() % 50_000);
        let cell = Cell {
            name: name.clone(),
            folder: tempfile::tempdir().unwrap(),
        };
        cell.furnish();
        let up = [
            format!("netns add {name}"),
            format!("-n {name} link set lo up"),
            // What is redirected must first have a way to go.
            format!("-n {name} route add default dev lo"),
        ];
        let up = up.iter().try_for_each(|line| ip(line));
        let cell = cell.or_skip(up)?;
        let mounted = cell.command("true").output().unwrap();
        if !mounted.status.success() {
            let error = String::from_utf8_lossy(&mounted.stderr);
            skip(&format!(
                "a mount namespace needs root and the kernel's leave: {error}"
            ));
            return None;
        }
        Some(cell)
    }

    fn or_skip(self, done: Result<(), String>) -> Option<Cell> {
        if let Err(error) = done {
            skip(&format!(
                "network namespaces need root and the kernel's leave: {error}"
            ));
            return None;
        }
        Some(self)
    }

    /// What programs look for in `/etc`.
    fn furnish(&self) {
        let etc = self.etc();
        std::fs::create_dir_all(etc.join("ssl/certs")).unwrap();
        std::fs::create_dir_all(etc.join("alternatives")).unwrap();
        for file in [
            "passwd",
            "group",
            "nsswitch.conf",
            "ld.so.cache",
            "ssl/openssl.cnf",
            "ssl/certs/ca-certificates.crt",
        ] {
            let _ = std::fs::copy(Path::new("/etc").join(file), etc.join(file));
        }
        // Where Debian's iptables is found.
        let links = std::fs::read_dir("/etc/alternatives")
            .into_iter()
            .flatten()
            .flatten();
        for link in links {
            let to = etc.join("alternatives").join(link.file_name());
            let _ = std::fs::read_link(link.path()).map(|at| std::os::unix::fs::symlink(at, to));
        }
        std::fs::write(etc.join("hosts"), "127.0.0.1 localhost\n").unwrap();
        // Nobody answers there: a name is in the file above, or is not.
        std::fs::write(
            etc.join("resolv.conf"),
            "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
        )
        .unwrap();
    }

    fn etc(&self) -> PathBuf {
        self.folder.path().join("etc")
    }

    /// Gives a name an address, for whoever asks inside.
    pub fn name(&self, address: &str, name: &str) {
        let file = self.etc().join("hosts");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, format!("{text}{address} {name}\n")).unwrap();
    }

    /// Writes a file below `/etc`, as `certs/tls.crt`.
    pub fn put(&self, file: &str, content: &str) {
        let file = self.etc().join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    }

    /// A command inside, as root.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.name, "sh", "-c"])
            .arg("mount --bind \"$0\" /etc && exec \"$@\"")
            .arg(self.etc())
            .arg(program);
        command
            .env_remove("RUST_LOG")
            .current_dir(self.folder.path());
        command
    }

    /// What the application gets from curl, as another user than sortie: exit code and output.
    pub fn curl(&self, arguments: &[&str]) -> (i32, String) {
        let output = self
            .command("setpriv")
            .args(["--reuid", "65534", "--clear-groups", "curl", "--disable"])
            .args([
                "--silent",
                "--show-error",
                "--max-time",
                "20",
                "--noproxy",
                "*",
            ])
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.code().unwrap_or(-1), text)
    }

    /// Sends what the application connects to on these ports, or on all, into sortie. sortie itself
    /// runs as root here, and the application does not.
    pub fn redirect(&self, ports: Option<&str>, to: u16) {
        let ports = ports.map(|ports| format!(" -m multiport --dports {ports}"));
        self.rule(&format!(
            "OUTPUT -p tcp{} -m owner ! --uid-owner 0 -j REDIRECT --to-ports {to}",
            ports.unwrap_or_default()
        ));
    }

    /// Sends what arrives for the application on these ports into sortie (ISTIO.md C2).
    pub fn receive(&self, ports: &str, to: u16) {
        self.rule(&format!(
            "PREROUTING -p tcp -m multiport --dports {ports} -j REDIRECT --to-ports {to}"
        ));
    }

    #[track_caller]
    fn rule(&self, rule: &str) {
        let done = self
            .command("iptables")
            .args("-w -t nat -A".split(' '))
            .args(rule.split(' '))
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    }

    /// `sortie run --config FOLDER` with captured connections on port 15001, once it is ready.
    #[track_caller]
    pub fn sortie(&self, config: &[&Path], more: &[&str]) -> Inmate {
        let inmate = self.start_sortie(config, more);
        eventually("sortie is ready inside", || {
            (self.admin("/ready").0 == 200).then_some(())
        });
        inmate
    }

    /// The same, started by another program: `setpriv --regid 1337 --clear-groups`.
    #[track_caller]
    pub fn sortie_by(&self, by: &[&str], config: &[&Path], more: &[&str]) -> Inmate {
        let inmate = self.start_by(by, config, more);
        eventually("sortie is ready inside", || {
            (self.admin("/ready").0 == 200).then_some(())
        });
        inmate
    }

    /// The same, for a sortie that does not become ready.
    #[track_caller]
    pub fn start_sortie(&self, config: &[&Path], more: &[&str]) -> Inmate {
        self.start_by(&[], config, more)
    }

    #[track_caller]
    fn start_by(&self, by: &[&str], config: &[&Path], more: &[&str]) -> Inmate {
        let log = std::fs::File::create(self.folder.path().join("sortie.log")).unwrap();
        let words: Vec<&str> = by.iter().copied().chain([PROGRAM, "run"]).collect();
        let mut command = self.command(words[0]);
        command.args(&words[1..]);
        for path in config {
            command.arg("--config").arg(path);
        }
        let child = command
            // Tests of missing secrets are about requests.
            .env("SORTIE_SECRETS_TIMEOUT", "0")
            // The rest is as it is by default: captured connections on 15001, the admin port on 15000.
            .args(["--workers", "1"])
            .args(more)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let inmate = Inmate(child);
        eventually("sortie answers inside", || {
            (self.admin("/ready").0 > 0).then_some(())
        });
        inmate
    }

    /// GET on sortie's admin port: status (0 for none) and body.
    pub fn admin(&self, path: &str) -> (u16, String) {
        let output = self
            .command("curl")
            .args(["--disable", "-s", "-w", "\n%{http_code}", "--noproxy", "*"])
            .arg(format!("http://{ADMIN}{path}"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap_or_default();
        (status.parse().unwrap_or_default(), body.to_owned())
    }

    /// Has sortie read every file again, and fails unless it takes what it finds.
    #[track_caller]
    pub fn reload(&self) {
        let output = self
            .command("curl")
            .args(["--disable", "-sS", "--fail-with-body", "-X", "POST"])
            .args(["--noproxy", "*"])
            .arg(format!("http://{ADMIN}/reload"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
    }

    /// `openssl s_client` inside.
    pub fn s_client(&self, to: &str, arguments: &[&str], input: &str) -> Option<Told> {
        needs("openssl")?;
        Some(talk(self.command("timeout"), to, arguments, input))
    }

    /// The sum of a metric's lines that have all of these words; 0 where there is none.
    pub fn metric(&self, words: &[&str]) -> f64 {
        let (_, text) = self.admin("/metrics");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .filter(|line| words.iter().all(|word| line.contains(word)))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// What sortie has said on its standard error.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("sortie.log")).unwrap_or_default()
    }

    /// The first line of sortie's access log that has this, once it is there.
    #[track_caller]
    pub fn logged(&self, word: &str) -> String {
        let file = self.folder.path().join("access.log");
        let mut last = String::new();
        eventually(&format!("a line of the access log with {word}"), || {
            last = std::fs::read_to_string(&file).unwrap_or_default();
            let line = last.lines().find(|line| line.contains(word));
            line.map(str::to_owned)
        })
    }

    /// nginx inside, with these `server` blocks; it listens when it is back. Its log has a line for
    /// each request: [`Cell::seen`].
    #[track_caller]
    pub fn nginx(&self, servers: &str, address: &str) -> Inmate {
        let root = self.folder.path().display();
        let conf = self.folder.path().join("nginx.conf");
        std::fs::write(&conf, settings(&root.to_string(), servers)).unwrap();
        let child = self
            .command("nginx")
            .arg("-p")
            .arg(self.folder.path())
            .arg("-c")
            .arg(&conf)
            .args(["-e", "nginx-error.log"])
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let inmate = Inmate(child);
        eventually("nginx listens inside", || {
            let tried = self
                .command("curl")
                .args(["--disable", "-s", "-o", "/dev/null", "--noproxy", "*"])
                .arg(format!("telnet://{address}"))
                .stdin(Stdio::null())
                .args(["--max-time", "1"])
                .status();
            // 7: cannot connect.
            (tried.unwrap().code() != Some(7)).then_some(())
        });
        inmate
    }

    /// The same, once there are so many lines: nginx writes them when it has answered.
    #[track_caller]
    pub fn saw(&self, lines: usize) -> Vec<String> {
        eventually(&format!("{lines} lines of nginx's log"), || {
            Some(self.seen()).filter(|seen| seen.len() >= lines)
        })
    }

    /// What nginx saw, a line for each request: `VERIFY|DN|SNI|ALPN|PORT|STATUS|HOST|REQUEST`.
    pub fn seen(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("nginx-access.log"));
        text.unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .output();
    }
}

fn settings(root: &str, servers: &str) -> String {
    format!(
        r#"
daemon off;
master_process off;
user root;
pid {root}/nginx.pid;
error_log {root}/nginx-error.log info;
events {{ worker_connections 1024; }}
http {{
    log_format seen '$ssl_client_verify|$ssl_client_s_dn|$ssl_server_name|$ssl_alpn_protocol|$server_port|$status|$http_host|$request';
    access_log {root}/nginx-access.log seen;
    client_body_temp_path {root}/body;
    proxy_temp_path {root}/proxy;
    fastcgi_temp_path {root}/fastcgi;
    uwsgi_temp_path {root}/uwsgi;
    scgi_temp_path {root}/scgi;
    {servers}
}}
"#
    )
}
