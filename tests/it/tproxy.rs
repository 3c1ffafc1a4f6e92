//! The application sees its clients' own addresses: inbound connections by TPROXY (ISTIO.md C4).
//!
//! Hosts of one network: two clients, and a pod of nginx behind sortie with real rules between them.
//! nginx says who its client is, and which of its connections a request came by.

use tempfile::TempDir;

use crate::harness::{Cell, Hub, Inmate, Mesh, guarded};

/// The pod, and its clients.
const POD: [&str; 2] = ["10.5.0.1", "fd53:5::1"];
const ANNA: [&str; 2] = ["10.5.0.8", "fd53:5::8"];
const BERT: [&str; 2] = ["10.5.0.9", "fd53:5::9"];

/// As whom sortie runs, which the rules know it by: user 0, and the group of C2.
const PROXY: [&str; 4] = ["setpriv", "--regid", "1337", "--clear-groups"];

/// What nginx answers: `ADDRESS CONNECTION XFCC`.
const SAYS: &str = "return 200 '$remote_addr $connection $http_x_forwarded_client_cert';";

struct Pod {
    pod: Cell,
    anna: Cell,
    bert: Cell,
    mesh: Mesh,
    folder: TempDir,
    inmates: Vec<Inmate>,
    _hub: Hub,
}

impl Pod {
    fn new(mode: &str) -> Option<Pod> {
        let hub = Hub::new()?;
        let cell = |[v4, v6]: [&str; 2]| {
            let cell = Cell::on(&hub, &[v4])?;
            run(&cell, &format!("ip addr add {v6}/64 dev eth0 nodad"));
            Some(cell)
        };
        let folder = tempfile::tempdir().unwrap();
        let app = "127.0.0.1:8080".parse().unwrap();
        std::fs::write(folder.path().join("web.yaml"), guarded(app, "http", mode)).unwrap();
        let mut pod = Pod {
            pod: cell(POD)?,
            anna: cell(ANNA)?,
            bert: cell(BERT)?,
            mesh: Mesh::new(),
            folder,
            inmates: Vec::new(),
            _hub: hub,
        };
        pod.mesh.employ(&pod.pod, "shop", "web");
        let listen = "listen 8080; listen [::]:8080;";
        let server =
            format!("server {{ {listen} keepalive_timeout 60s; location / {{ {SAYS} }} }}");
        let nginx = pod.pod.nginx(&server, "127.0.0.1:8080");
        pod.inmates.push(nginx);
        for (tables, all, loopback) in [
            ("iptables", "0.0.0.0/0", "127.0.0.1/32"),
            ("ip6tables", "::/0", "::1/128"),
        ] {
            pod.capture(tables, all, loopback);
        }
        Some(pod)
    }

    /// The rules of C4.
    fn capture(&self, tables: &str, all: &str, loopback: &str) {
        let family = if tables == "ip6tables" { "-6" } else { "-4" };
        let from = if family == "-6" {
            "::6/128"
        } else {
            "127.0.0.6/32"
        };
        for rule in [
            "-N ISTIO_DIVERT".to_owned(),
            "-N ISTIO_TPROXY".to_owned(),
            "-N ISTIO_INBOUND".to_owned(),
            "-A ISTIO_DIVERT -j MARK --set-mark 1337".to_owned(),
            "-A ISTIO_DIVERT -j ACCEPT".to_owned(),
            format!(
                "-A ISTIO_TPROXY ! -d {loopback} -p tcp -j TPROXY --tproxy-mark 1337/0xffffffff \
                 --on-port 15006"
            ),
            "-A PREROUTING -p tcp -j ISTIO_INBOUND".to_owned(),
            "-A ISTIO_INBOUND -p tcp -m mark --mark 1337 -j RETURN".to_owned(),
            format!("-A ISTIO_INBOUND -p tcp -s {from} -i lo -j RETURN"),
            "-A ISTIO_INBOUND -p tcp -i lo -m mark ! --mark 1338 -j RETURN".to_owned(),
            "-A ISTIO_INBOUND -p tcp -m conntrack --ctstate RELATED,ESTABLISHED -j ISTIO_DIVERT"
                .to_owned(),
            "-A ISTIO_INBOUND -p tcp -j ISTIO_TPROXY".to_owned(),
            "-A PREROUTING -p tcp -m mark --mark 1337 -j CONNMARK --save-mark".to_owned(),
            "-A OUTPUT -p tcp -o lo -m mark --mark 1337 -j RETURN".to_owned(),
            format!(
                "-A OUTPUT ! -d {loopback} -p tcp -o lo -m owner --gid-owner 1337 -j MARK \
                 --set-mark 1338"
            ),
            "-A OUTPUT -p tcp -m connmark --mark 1337 -j CONNMARK --restore-mark".to_owned(),
        ] {
            run(&self.pod, &format!("{tables} -w -t mangle {rule}"));
        }
        run(
            &self.pod,
            &format!("ip {family} rule add fwmark 1337 lookup 133"),
        );
        run(
            &self.pod,
            &format!("ip {family} route add local {all} dev lo table 133"),
        );
    }

    fn start(&mut self) {
        let who = [
            "--namespace",
            "shop",
            "--service-account",
            "web",
            "--labels",
            "app=web",
        ];
        let how = ["--inbound", "[::]:15006", "--interception", "TPROXY"];
        let more = [&who[..], &how, &["--access-log", "access.log"]].concat();
        let sortie = self.pod.sortie_by(&PROXY, &[self.folder.path()], &more);
        self.inmates.push(sortie);
    }
}

/// Runs it inside, as root.
#[track_caller]
fn run(cell: &Cell, line: &str) {
    let mut words = line.split_whitespace();
    let mut command = cell.command(words.next().unwrap());
    let output = command.args(words).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {error}");
}

fn url(scheme: &str, pod: &str) -> String {
    match pod.contains(':') {
        true => format!("{scheme}://[{pod}]:8080/"),
        false => format!("{scheme}://{pod}:8080/"),
    }
}

/// The words of nginx's answer.
#[track_caller]
fn seen(cell: &Cell, arguments: &[&str], pod: &Cell) -> Vec<String> {
    let (code, text) = cell.curl(arguments);
    assert_eq!(code, 0, "{text}\n{}", pod.said());
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn c4_the_application_sees_its_clients_own_address_in_both_families() {
    let Some(mut pod) = Pod::new("PERMISSIVE") else {
        return;
    };
    pod.start();
    for family in [0, 1] {
        let url = url("http", POD[family]);
        for (client, address) in [(&pod.anna, ANNA[family]), (&pod.bert, BERT[family])] {
            let words = seen(client, &[&url], &pod.pod);
            assert_eq!(words[0], address, "{words:?}\n{}", pod.pod.said());
        }
    }
}
