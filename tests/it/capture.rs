//! Connections that the kernel redirects: real iptables rules in a network namespace, as in a pod.
//!
//! The namespace is the pod: curl as the application, sortie with `--capture`, and a REDIRECT rule.
//! A veth pair leads to this side, where the external service listens.

use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use crate::harness::{Lab, Origin, PROGRAM, eventually, needs, skip};

/// Where the application believes the bank to be: an address that is nowhere.
const BANK: &str = "203.0.113.10";
const BANK6: &str = "2001:db8:0:bad::10";

/// A network namespace with a veth pair; both are gone when dropped.
struct Pod {
    name: String,
    /// This side of the veth pair.
    outside: IpAddr,
    outside6: IpAddr,
}

impl Pod {
    /// `None` where this machine allows none, and it may.
    fn new() -> Option<Pod> {
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
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Sends what the application's ports lead to into sortie, except what root itself (as which
    /// sortie runs here) sends: the application is another user.
    #[track_caller]
    fn redirect(&self, tables: &str, ports: &str, to: u16) -> Option<()> {
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
    fn application(&self, arguments: &[&str]) -> (i32, String) {
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
    fn sortie(&self, config: &std::path::Path, port: u16) -> Inside {
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

struct Inside(std::process::Child);

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
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

/// A bank that listens on this side of the pair, and a configuration that leads to it.
fn outside(lab: &Lab, address: IpAddr) -> (Origin, String) {
    let bank = lab
        .bank()
        .on(&SocketAddr::new(address, 0).to_string())
        .start();
    let here = format!("127.0.0.1:{}", bank.port());
    let config = lab
        .config(bank.port())
        .replace(&here, &bank.address.to_string());
    (bank, config)
}

#[test]
fn c6_a_redirected_connection_reaches_the_service_in_mutual_tls() {
    let lab = Lab::new();
    let Some(pod) = Pod::new() else { return };
    for (address, bank_at, tables) in [
        (pod.outside, BANK, "iptables"),
        (pod.outside6, BANK6, "ip6tables"),
    ] {
        let (bank, config) = outside(&lab, address);
        let file = lab.path().join("sortie.yaml");
        std::fs::write(&file, config).unwrap();
        let Some(()) = pod.redirect(tables, "80,8080", 15001) else {
            return;
        };
        let sortie = pod.sortie(&file, 15001);
        let literal = if bank_at.contains(':') {
            format!("[{bank_at}]")
        } else {
            bank_at.into()
        };
        let known = format!("bank.example:80:{literal}");
        let (code, text) = pod.application(&["--resolve", &known, "http://bank.example/pay"]);
        assert_eq!(code, 0, "{text}");
        assert!(
            text.contains("hello from bank") && text.contains("200"),
            "{text}"
        );
        let seen = bank.only();
        assert_eq!(seen.sni.as_deref(), Some("bank.example"));
        assert_eq!(seen.client.as_deref(), Some("CN=shop"));
        drop(sortie);
    }
}

#[test]
fn a_redirected_connection_takes_its_port_from_where_it_was_going() {
    // The Host names no port, and 8080 was meant: the route for 80 must not be taken.
    let lab = Lab::new();
    let Some(pod) = Pod::new() else { return };
    let (_bank, config) = outside(&lab, pod.outside);
    let config = config.replace(
        "host: bank.example\n",
        "host: bank.example\n    port: 8080\n",
    );
    let file = lab.path().join("sortie.yaml");
    std::fs::write(&file, config).unwrap();
    let Some(()) = pod.redirect("iptables", "80,8080", 15001) else {
        return;
    };
    let _sortie = pod.sortie(&file, 15001);
    let known = format!("bank.example:8080:{BANK}");
    let host = ["--header", "Host: bank.example", "--resolve", &known];
    let (_, text) = pod.application(&[&host[..], &["http://bank.example:8080/"]].concat());
    assert!(text.contains("hello from bank"), "{text}");
    let known = format!("bank.example:80:{BANK}");
    let (_, text) = pod.application(&["--resolve", &known, "http://bank.example/"]);
    assert!(text.ends_with("502"), "{text}");
}

#[test]
fn unknown_traffic_passes_through_to_where_it_was_going_where_that_is_asked_for() {
    let lab = Lab::new();
    let Some(pod) = Pod::new() else { return };
    let plain = Origin::plain()
        .named("plain")
        .on(&format!("{}:0", pod.outside))
        .start();
    let (_bank, config) = outside(&lab, pod.outside);
    let file = lab.path().join("sortie.yaml");
    std::fs::write(&file, format!("unknownHosts: pass-through\n{config}")).unwrap();
    let ports = plain.port().to_string();
    let Some(()) = pod.redirect("iptables", &ports, 15001) else {
        return;
    };
    let _sortie = pod.sortie(&file, 15001);
    let (_, text) = pod.application(&[&format!("http://{}/", plain.address)]);
    assert!(text.contains("hello from plain"), "{text}");
}

#[test]
fn o5_a_connection_that_was_not_redirected_is_refused_instead_of_going_round() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let config = format!("unknownHosts: pass-through\n{}", lab.config(bank.port()));
    let sortie = crate::harness::Sortie::builder(&config)
        .with(|o| o.capture = vec![any])
        .start();
    let listeners = sortie.listeners();
    let kind = ::sortie::model::ListenerKind::Capture;
    let (_, captured) = listeners.iter().find(|(k, _)| *k == kind).unwrap();
    let answer = crate::harness::get(*captured, "bank.example", "/");
    assert_eq!(answer.status, 508, "{answer:?}");
    assert_eq!(bank.seen().len(), 0);
}
