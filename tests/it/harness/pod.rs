//! A pod: a network namespace with an application, sortie as its sidecar, and iptables between them.
//!
//! A veth pair leads to this side, where external services listen.

use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use super::eventually::eventually;
use super::needs::{needs, skip};
use super::process::PROGRAM;

/// A network namespace with a veth pair; both are gone when dropped.
pub struct Pod {
    name: String,
    /// This side of the veth pair.
    pub outside: IpAddr,
    pub outside6: IpAddr,
}

impl Pod {
    /// `None` where this machine allows none, and it may.
    pub fn new() -> Option<Pod> {
        static COUNT: AtomicU8 = AtomicU8::new(0);
        for program in ["ip", "iptables", "ip6tables", "curl"] {
            needs(program)?;
        }
        let id = std::process::id() % 50_000;
        let nth = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("st{id}-{nth}");
        if let Err(error) = ip(&format!("netns add {name}")) {
            skip(&format!(
                "network namespaces need root and the kernel's leave: {error}"
            ));
            return None;
        }
        // A /30 of the block for benchmarks, and a /126 of a private one.
        let net = format!("198.18.{}.{}", id % 250, nth * 4);
        let (base, last) = net.rsplit_once('.').unwrap();
        let last: u8 = last.parse().unwrap();
        let (outside, inside) = (
            format!("{base}.{}", last + 1),
            format!("{base}.{}", last + 2),
        );
        let (outside6, inside6) = (
            format!("fd53:{id:x}:{nth}::1"),
            format!("fd53:{id:x}:{nth}::2"),
        );
        let pod = Pod {
            outside: outside.parse().unwrap(),
            outside6: outside6.parse().unwrap(),
            name: name.clone(),
        };
        for line in [
            format!("link add {name}o type veth peer name eth0 netns {name}"),
            format!("addr add {outside}/30 dev {name}o"),
            format!("addr add {outside6}/126 dev {name}o nodad"),
            format!("link set {name}o up"),
            format!("-n {name} addr add {inside}/30 dev eth0"),
            format!("-n {name} addr add {inside6}/126 dev eth0 nodad"),
            format!("-n {name} link set lo up"),
            format!("-n {name} link set eth0 up"),
            format!("-n {name} route add default via {outside}"),
            format!("-n {name} -6 route add default via {outside6}"),
        ] {
            if let Err(error) = ip(&line) {
                skip(&format!("ip {line}: {error}"));
                return None;
            }
        }
        Some(pod)
    }

    /// A command inside.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Sends what the application's ports lead to into sortie, except what root itself (as which
    /// sortie runs here) sends: the application is another user.
    #[track_caller]
    pub fn redirect(&self, tables: &str, ports: &str, to: u16) -> Option<()> {
        let rule = format!(
            "-t nat -A OUTPUT -p tcp -m multiport --dports {ports} -m owner ! --uid-owner 0 \
             -j REDIRECT --to-ports {to}"
        );
        let output = self
            .command(tables)
            .args(rule.split_whitespace())
            .output()
            .unwrap();
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            skip(&format!("{tables} {rule}: {error}"));
            return None;
        }
        Some(())
    }

    /// What the application gets: the status and the body of a request by curl, as another user.
    pub fn application(&self, arguments: &[&str]) -> (i32, String) {
        let user = [
            "-c",
            "exec setpriv --reuid 65534 --clear-groups \"$@\"",
            "sh",
        ];
        let output = self
            .command("sh")
            .args(user)
            .args([
                "curl",
                "--disable",
                "--silent",
                "--show-error",
                "--max-time",
                "20",
            ])
            .args(["--noproxy", "*", "--write-out", "\n%{http_code}"])
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.code().unwrap_or(-1), text)
    }

    /// sortie inside, capturing on this port of both families; ready when it returns.
    pub fn sortie(&self, config: &std::path::Path, port: u16) -> Inside {
        self.sortie_with(config, port, &[])
    }

    /// The same with more arguments. Its access log is `access.log` beside the configuration.
    pub fn sortie_with(&self, config: &std::path::Path, port: u16, more: &[&str]) -> Inside {
        let log = config.with_file_name("access.log");
        let child = self
            .command(PROGRAM)
            .arg("run")
            .arg("--config")
            .arg(config)
            .args(["--capture", &format!("[::]:{port}")])
            .args(["--admin", "127.0.0.1:15000", "--workers", "1"])
            .arg("--access-log")
            .arg(&log)
            .args(more)
            .env("SORTIE_SECRETS_TIMEOUT", "0")
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let inside = Inside(child);
        eventually("sortie is ready in its namespace", || {
            let ready = self
                .command("curl")
                .args(["-sf", "-o", "/dev/null", "http://127.0.0.1:15000/ready"])
                .status()
                .unwrap();
            ready.success().then_some(())
        });
        inside
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = ip(&format!("link del {}o", self.name));
        let _ = ip(&format!("netns del {}", self.name));
    }
}

/// A sortie inside; it is killed when dropped.
pub struct Inside(std::process::Child);

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Inside {
    /// The first line of its access log that has all of these words, once it is there.
    #[track_caller]
    pub fn logged(config: &std::path::Path, words: &[&str]) -> String {
        let log = config.with_file_name("access.log");
        eventually(&format!("a line of the access log with {words:?}"), || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let mut lines = text.lines();
            let found = lines.find(|line| words.iter().all(|word| line.contains(word)));
            found.map(str::to_owned)
        })
    }
}

fn ip(line: &str) -> Result<(), String> {
    let output = Command::new("ip").args(line.split_whitespace()).output();
    let output = output.map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}
