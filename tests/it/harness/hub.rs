//! A network for several cells: a switch in a namespace of its own.
//!
//! Each cell on it has its own addresses out of 10.0.0.0/8, and reaches the others' as they are
//! written in the manifests: the application's pod, the gateway's, the external service.

use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use super::needs::{needs, skip};

/// The switch; it is gone when dropped, and with it the cables.
pub struct Hub {
    name: String,
    ports: AtomicU8,
}

impl Hub {
    /// `None` where this machine allows none, and may.
    pub fn new() -> Option<Hub> {
        static COUNT: AtomicU8 = AtomicU8::new(0);
        needs("ip")?;
        let nth = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sh{}-{nth}", std::process::id() % 50_000);
        let hub = Hub {
            name: name.clone(),
            ports: AtomicU8::new(0),
        };
        for line in [
            format!("netns add {name}"),
            format!("-n {name} link add hub type bridge"),
            format!("-n {name} link set hub up"),
        ] {
            if let Err(error) = ip(&line) {
                skip(&format!(
                    "a network of namespaces needs root and the kernel's leave: {error}"
                ));
                return None;
            }
        }
        Some(hub)
    }

    /// Leads a cable from the switch into that namespace, where it is `eth0`.
    pub(super) fn join(&self, cell: &str, addresses: &[&str]) -> Result<(), String> {
        let hub = &self.name;
        let port = format!("port{}", self.ports.fetch_add(1, Ordering::Relaxed));
        ip(&format!(
            "-n {hub} link add {port} type veth peer name eth0 netns {cell}"
        ))?;
        ip(&format!("-n {hub} link set {port} master hub"))?;
        ip(&format!("-n {hub} link set {port} up"))?;
        ip(&format!("-n {cell} link set eth0 up"))?;
        for address in addresses {
            ip(&format!("-n {cell} addr add {address}/8 dev eth0"))?;
        }
        Ok(())
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = ip(&format!("netns del {}", self.name));
    }
}

/// `ip` with these words.
pub(super) fn ip(line: &str) -> Result<(), String> {
    let output = Command::new("ip").args(line.split_whitespace()).output();
    let output = output.map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}
