//! The application sees its clients' own addresses: inbound connections by TPROXY (ISTIO.md C4).
//!
//! Hosts of one network: two clients, and a pod of nginx behind sortie with real rules between them.
//! nginx says who its client is, and which of its connections a request came by.

use tempfile::TempDir;

use crate::harness::{Cell, Hub, Inmate, Mesh, PROGRAM, guarded, spiffe};

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
        let server = format!(
            "server {{ {listen} location / {{ {SAYS} }} location /big {{ alias /etc/big; }} }}"
        );
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
        self.start_with(&[]);
    }

    fn start_with(&mut self, capture: &[&str]) {
        let who = [
            "--namespace",
            "shop",
            "--service-account",
            "web",
            "--labels",
            "app=web",
        ];
        let how = ["--inbound", "[::]:15006", "--interception", "TPROXY"];
        let more = [&who[..], &how, &["--access-log", "access.log"], capture].concat();
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

#[test]
fn c4_two_clients_never_share_a_connection_to_the_application_and_one_keeps_its_own() {
    let Some(mut pod) = Pod::new("PERMISSIVE") else {
        return;
    };
    pod.start();
    for to in POD {
        let url = url("http", to);
        let connection = |client: &Cell| seen(client, &[&url], &pod.pod)[1].clone();
        let (anna, bert) = (connection(&pod.anna), connection(&pod.bert));
        assert_ne!(anna, bert);
        // Each curl is a connection to sortie of its own.
        assert_eq!(connection(&pod.anna), anna);
        assert_eq!(connection(&pod.bert), bert);
    }
}

#[test]
fn c4_long_answers_come_back_whole() {
    let Some(mut pod) = Pod::new("PERMISSIVE") else {
        return;
    };
    pod.pod.put("big", &"0123456789abcdef".repeat(256 * 1024));
    pod.start();
    for to in POD {
        let url = format!("{}big", url("http", to));
        let (code, text) = pod
            .anna
            .curl(&["-o", "/dev/null", "-w", "%{size_download}", &url]);
        assert_eq!((code, text.as_str()), (0, "4194304"), "{}", pod.pod.said());
    }
}

#[test]
fn c4_mutual_tls_comes_in_by_tproxy_and_plaintext_does_not() {
    let Some(mut pod) = Pod::new("STRICT") else {
        return;
    };
    pod.mesh.employ(&pod.anna, "full", "sleep");
    pod.start();
    let pair = [
        "--cert",
        "/etc/certs/cert-chain.pem",
        "--key",
        "/etc/certs/key.pem",
    ];
    for (nth, to) in POD.into_iter().enumerate() {
        // Its SPIFFE id is no name that curl could check.
        let secure = url("https", to);
        let words = seen(&pod.anna, &[&pair[..], &["-k", &secure]].concat(), &pod.pod);
        assert_eq!(words[0], ANNA[nth], "{words:?}");
        assert!(words[2].contains(&spiffe("full", "sleep")), "{words:?}");
        let (code, text) = pod.bert.curl(&[&url("http", to)]);
        assert_eq!(code, 56, "{text}");
    }
    assert_eq!(
        pod.pod.saw(2).len(),
        2,
        "what never got in was never served"
    );
}

#[test]
fn c4_the_proxy_calling_its_own_pod_comes_in_once_and_the_application_itself_goes_straight() {
    let Some(mut pod) = Pod::new("STRICT") else {
        return;
    };
    let entry = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: web, namespace: \
         shop}}\nspec:\n  hosts: [own.example]\n  location: MESH_INTERNAL\n  ports: [{{number: 80, \
         name: http, protocol: HTTP, targetPort: 8080}}]\n  resolution: STATIC\n  endpoints: \
         [{{address: {}, labels: {{security.istio.io/tlsMode: istio}}}}]\n",
        POD[0]
    );
    std::fs::write(pod.folder.path().join("own.yaml"), entry).unwrap();
    let out =
        "-A OUTPUT -p tcp --dport 80 -m owner ! --gid-owner 1337 -j REDIRECT --to-ports 15001";
    run(&pod.pod, &format!("iptables -w -t nat {out}"));
    pod.start_with(&["--capture", "127.0.0.1:15001"]);
    let known = [
        "--resolve",
        "own.example:80:10.96.5.1",
        "http://own.example/",
    ];
    let words = seen(&pod.pod, &known, &pod.pod);
    assert_eq!(words[0], POD[0], "{words:?}");
    assert!(words[2].contains(&spiffe("shop", "web")), "{words:?}");
    let lines = pod.pod.saw(1);
    assert_eq!(lines.len(), 1, "{lines:?}");
    // The rules let what an application sends to itself alone (C2).
    let words = seen(&pod.pod, &[&url("http", POD[0])], &pod.pod);
    assert_eq!(words.len(), 2, "no certificate was shown: {words:?}");
}

#[test]
fn c6_by_tproxy_the_listener_itself_is_no_way_in() {
    let Some(mut pod) = Pod::new("PERMISSIVE") else {
        return;
    };
    pod.start();
    for to in POD {
        let direct = url("http", to).replace("8080", "15006");
        let (code, text) = pod.anna.curl(&[&direct]);
        assert!([52, 56].contains(&code), "{code} {text}");
    }
    let rejected = [
        "sortie_downstream_rejected_requests_total",
        "not_redirected",
    ];
    assert_eq!(
        pod.pod.metric(&rejected),
        2.0,
        "{}",
        pod.pod.admin("/metrics").1
    );
    assert!(pod.pod.seen().is_empty());
}

#[test]
fn c4_without_the_capability_one_line_says_which() {
    let Some(pod) = Pod::new("PERMISSIVE") else {
        return;
    };
    // Either of the two is enough for a kernel of these years.
    let without = "-net_admin,-net_raw";
    let output = pod
        .pod
        .command("setpriv")
        .args(["--bounding-set", without, "--inh-caps", without])
        .args(["timeout", "20", PROGRAM, "run", "--config"])
        .arg(pod.folder.path())
        .args(["--inbound", "[::]:15006", "--interception", "TPROXY"])
        .args(["--log-level", "error"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    for word in ["[::]:15006", "CAP_NET_ADMIN", "--interception REDIRECT"] {
        assert!(said.contains(word), "{said}");
    }
}
