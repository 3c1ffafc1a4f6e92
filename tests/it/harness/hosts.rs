//! Hosts: network namespaces, each with its own addresses and rules.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicU8, Ordering};

use super::needs::{needs, skip};
use super::process::PROGRAM;

/// A network namespace; it is gone when dropped.
pub struct Namespace {
    pub name: String,
}

impl Namespace {
    /// One with nothing but its loopback. `None` where this machine allows none, and it may.
    pub fn new() -> Option<Namespace> {
        static COUNT: AtomicU8 = AtomicU8::new(0);
        for program in ["ip", "nft", "iptables", "ip6tables", "curl", "setpriv"] {
            needs(program)?;
        }
        let nth = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sh{}-{nth}", std::process::id());
        if let Err(error) = ip(&format!("netns add {name}")) {
            skip(&format!(
                "network namespaces need root and the kernel's leave: {error}"
            ));
            return None;
        }
        let made = Namespace { name };
        ip(&format!("-n {} link set lo up", made.name)).unwrap();
        Some(made)
    }

    /// A command inside.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// What a line of shell says inside; it must succeed.
    #[track_caller]
    pub fn shell(&self, line: &str) -> String {
        let output = self.command("sh").args(["-c", line]).output().unwrap();
        let (code, out, error) = told(output);
        assert_eq!(code, 0, "{line}: {out}{error}");
        out
    }

    /// `sortie capture` inside: exit code, standard output, standard error.
    pub fn capture(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = self.command(PROGRAM);
        command.arg("capture").args(arguments);
        told(command.output().unwrap())
    }

    /// The same, which must succeed.
    #[track_caller]
    pub fn captured(&self, arguments: &[&str]) -> String {
        let (code, out, error) = self.capture(arguments);
        assert_eq!(code, 0, "{arguments:?}: {out}{error}");
        out
    }

    /// All rules of nf_tables.
    pub fn rules(&self) -> String {
        self.shell("nft list ruleset")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&format!("netns del {}", self.name));
    }
}

/// Exit code, standard output, standard error.
pub fn told(output: Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap_or(-1),
        text(&output.stdout),
        text(&output.stderr),
    )
}

pub fn ip(line: &str) -> Result<(), String> {
    let output = Command::new("ip").args(line.split_whitespace()).output();
    let output = output.map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}
