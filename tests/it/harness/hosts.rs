//! Hosts: network namespaces, each with its own addresses and rules.

use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use super::eventually::eventually;
use super::lab::Lab;
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

    /// A command inside, as another user. It reads what root does: the program under test may lie in
    /// a folder of root's.
    pub fn user(&self, id: u32, program: &str) -> Command {
        let mut command = self.command("setpriv");
        let id = id.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
        command.args(["--inh-caps", "+dac_read_search"]);
        command.args(["--ambient-caps", "+dac_read_search", program]);
        command
    }

    /// curl as that user: exit code, and the body with the status behind it.
    pub fn curl(&self, id: u32, arguments: &[&str]) -> (i32, String) {
        let mut command = self.user(id, "curl");
        command.args(["--disable", "--silent", "--show-error", "--max-time", "20"]);
        command.args(["--noproxy", "*", "--write-out", "\n%{http_code}"]);
        let (code, out, error) = told(command.args(arguments).output().unwrap());
        (code, out + &error)
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

/// Where the application and its proxy are reached by the client, and by the service.
pub const POD: [&str; 2] = ["198.18.2.2", "fd53:2::2"];
/// The external service. It has two addresses of each family.
pub const SERVICE: [&str; 2] = ["198.18.1.1", "fd53:1::1"];
pub const SERVICE_TOO: [&str; 2] = ["198.18.1.9", "fd53:1::9"];
/// Who calls the application.
pub const CLIENT: [&str; 2] = ["198.18.2.1", "fd53:2::1"];
/// Whom the application may be.
pub const SOMEBODY: u32 = 65534;
/// Whom the proxy is.
pub const PROXY: u32 = 1337;

/// Three hosts: the pod between an external service and a client. nginx is the service, which
/// demands a client certificate on port 443, and the application, on ports 8000 and 9000.
pub struct Hosts {
    running: Vec<Child>,
    pub pod: Namespace,
    pub client: Namespace,
    pub service: Namespace,
    pub lab: Lab,
}

impl Hosts {
    pub fn new() -> Option<Hosts> {
        needs("nginx")?;
        let (pod, client, service) = (Namespace::new()?, Namespace::new()?, Namespace::new()?);
        for (near, far, name, net) in [(&pod, &service, "eth1", 1), (&pod, &client, "eth0", 2)] {
            let (near, far) = (&near.name, &far.name);
            for line in [
                format!("-n {near} link add {name} type veth peer name eth0 netns {far}"),
                format!("-n {near} addr add 198.18.{net}.2/24 dev {name}"),
                format!("-n {near} addr add fd53:{net}::2/64 dev {name} nodad"),
                format!("-n {near} link set {name} up"),
                format!("-n {far} addr add 198.18.{net}.1/24 dev eth0"),
                format!("-n {far} addr add fd53:{net}::1/64 dev eth0 nodad"),
                format!("-n {far} link set eth0 up"),
            ] {
                ip(&line).unwrap();
            }
        }
        for line in [
            format!("-n {} addr add 198.18.1.9/24 dev eth0", service.name),
            format!("-n {} addr add fd53:1::9/64 dev eth0 nodad", service.name),
            // What is nowhere would go by here, if it went.
            format!("-n {} route add default via 198.18.1.1", pod.name),
            format!("-n {} -6 route add default via fd53:1::1", pod.name),
        ] {
            ip(&line).unwrap();
        }
        let mut hosts = Hosts {
            running: Vec::new(),
            pod,
            client,
            service,
            lab: Lab::new(),
        };
        // The proxy is not root, and reads its files.
        hosts
            .service
            .shell(&format!("chmod -R a+rX {}", hosts.lab.path().display()));
        hosts.serve();
        Some(hosts)
    }

    /// The service, and the application.
    fn serve(&mut self) {
        let at = self.lab.path().display();
        let names = ["bank.example", "bank6.example"];
        self.lab
            .servers
            .server(&names)
            .write(self.lab.path(), "server");
        std::fs::write(self.lab.path().join("clients.crt"), &self.lab.clients.pem).unwrap();
        let service = format!(
            "server {{\n  listen 443 ssl;\n  listen [::]:443 ssl;\n\
             ssl_certificate {at}/server.crt;\n  ssl_certificate_key {at}/server.key;\n\
             ssl_client_certificate {at}/clients.crt;\n  ssl_verify_client on;\n\
             location / {{ return 200 \"mtls $ssl_server_name $ssl_client_s_dn\\n\"; }}\n}}\n{}",
            plain("service", &[80, 8080])
        );
        let app = plain("app", &[8000, 9000]);
        for (host, name, ports, servers) in [
            (&self.service, "service", &[443, 80][..], service),
            (&self.pod, "app", &[8000, 9000], app),
        ] {
            let file = self.lab.path().join(format!("{name}.conf"));
            std::fs::write(&file, settings(&at.to_string(), name, &servers)).unwrap();
            let mut command = host.command("nginx");
            command.arg("-c").arg(&file).args(["-e", "stderr"]);
            self.running.push(command.spawn().unwrap());
            for port in ports {
                eventually(&format!("{name} listens on {port}"), || {
                    let listens = host.shell(&format!("ss -Hltn sport = :{port}"));
                    (!listens.is_empty()).then_some(())
                });
            }
        }
    }

    /// sortie in the pod, as a user of its own, on the ports that rules lead to.
    pub fn sortie(&mut self) {
        let command = self.pod.user(PROXY, PROGRAM);
        self.start(command, &[]);
    }

    /// The same as root, which TPROXY needs, and known by its group.
    pub fn sortie_by_tproxy(&mut self) {
        let mut command = self.pod.command("setpriv");
        command.args(["--regid", &PROXY.to_string(), "--clear-groups", PROGRAM]);
        self.start(command, &["--interception", "TPROXY"]);
    }

    /// Kills what was started last.
    pub fn end_sortie(&mut self) {
        let mut sortie = self.running.pop().unwrap();
        sortie.kill().unwrap();
        sortie.wait().unwrap();
    }

    fn start(&mut self, mut command: Command, more: &[&str]) {
        let file = self.lab.path().join("sortie.yaml");
        let tls = self.lab.mutual();
        let (four, six) = (SERVICE[0], SERVICE[1]);
        let config = format!(
            "upstreams:\n  - {{name: bank, endpoints: [\"{four}:443\"], tls: {tls}}}\n  \
             - {{name: bank6, endpoints: [\"[{six}]:443\"], tls: {tls}}}\n  \
             - {{name: itself, endpoints: [\"{}:8000\"], tls: {{mode: disable}}}}\n\
             routes:\n  - {{host: bank.example, rules: [{{upstream: bank}}]}}\n  \
             - {{host: bank6.example, rules: [{{upstream: bank6}}]}}\n  \
             - {{host: itself.example, rules: [{{upstream: itself}}]}}\n",
            POD[0]
        );
        std::fs::write(&file, config).unwrap();
        command.arg("run").arg("--config").arg(&file);
        command.args(["--capture", "[::]:15001", "--inbound", "[::]:15006"]);
        command.args(["--admin", "127.0.0.1:15000", "--workers", "1"]);
        command.args(more);
        let log = std::fs::File::create(self.lab.path().join("sortie.log")).unwrap();
        command.stdout(Stdio::null()).stderr(log);
        self.running.push(command.spawn().unwrap());
        let pod = &self.pod;
        let log = self.lab.path().join("sortie.log");
        eventually("sortie is ready in its pod", || {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            assert!(!said.contains("error["), "{said}");
            let ready = pod.curl(PROXY, &["http://127.0.0.1:15000/ready"]);
            (ready.0 == 0 && ready.1.contains("\n200")).then_some(())
        });
    }

    /// Requests that the application, or the service, has had.
    pub fn served(&self, name: &str) -> usize {
        let log = self.lab.path().join(format!("{name}.log"));
        std::fs::read_to_string(log)
            .unwrap_or_default()
            .lines()
            .count()
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn settings(at: &str, name: &str, servers: &str) -> String {
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("{what}_temp_path {at}/{name}.{what};\n"))
        .concat();
    format!(
        "daemon off;\nmaster_process off;\npid {at}/{name}.pid;\nevents {{}}\nhttp {{\n\
         access_log {at}/{name}.log;\n{paths}{servers}\n}}\n"
    )
}

/// Says who it is, and whom it sees.
fn plain(name: &str, ports: &[u16]) -> String {
    let listens: String = ports
        .iter()
        .map(|port| format!("listen {port};\nlisten [::]:{port};\n"))
        .collect();
    format!(
        "server {{\n{listens}location / {{ return 200 \"{name} sees $remote_addr\\n\"; }}\n}}\n"
    )
}
