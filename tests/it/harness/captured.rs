//! A pod whose connections real rules capture, and two hosts beside it on one network.
//!
//! In the pod: nginx, which says who its client is and which of its connections a request came by,
//! and sortie as user 0 and group 1337, which the rules know it by.

use tempfile::TempDir;

use super::cell::{Cell, Inmate};
use super::hub::Hub;
use super::mesh::Mesh;
use super::process::PROGRAM;
use super::sidecar::guarded;

/// The pod, and its clients: an address of each family.
pub const POD: [&str; 2] = ["10.5.0.1", "fd53:5::1"];
pub const ANNA: [&str; 2] = ["10.5.0.8", "fd53:5::8"];
pub const BERT: [&str; 2] = ["10.5.0.9", "fd53:5::9"];

/// As whom sortie runs.
const PROXY: [&str; 4] = ["setpriv", "--regid", "1337", "--clear-groups"];

/// What nginx answers: `ADDRESS CONNECTION XFCC`.
const SAYS: &str = "return 200 '$remote_addr $connection $http_x_forwarded_client_cert';";

pub struct Captured {
    pub pod: Cell,
    pub anna: Cell,
    pub bert: Cell,
    pub mesh: Mesh,
    pub folder: TempDir,
    inmates: Vec<Inmate>,
    _hub: Hub,
}

impl Captured {
    /// The application runs, under that policy; sortie does not yet, and there is no rule.
    pub fn new(mode: &str) -> Option<Captured> {
        let hub = Hub::new()?;
        let cell = |[v4, v6]: [&str; 2]| {
            let cell = Cell::on(&hub, &[v4])?;
            run(&cell, &format!("ip addr add {v6}/64 dev eth0 nodad"));
            Some(cell)
        };
        let folder = tempfile::tempdir().unwrap();
        let app = "127.0.0.1:8080".parse().unwrap();
        std::fs::write(folder.path().join("web.yaml"), guarded(app, "http", mode)).unwrap();
        let mut pod = Captured {
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
        Some(pod)
    }

    /// `sortie capture apply` in the pod.
    #[track_caller]
    pub fn capture(&self, more: &str) {
        run(&self.pod, &format!("{PROGRAM} capture apply {more}"));
    }

    /// sortie in the pod, with its inbound listener on 15006 of both families.
    #[track_caller]
    pub fn start(&mut self, more: &[&str]) {
        self.start_by(&PROXY, more);
    }

    /// The same, as somebody else.
    #[track_caller]
    pub fn start_by(&mut self, by: &[&str], more: &[&str]) {
        let who = ["--namespace", "shop", "--service-account", "web"];
        let what = ["--labels", "app=web", "--inbound", "[::]:15006"];
        let log = ["--access-log", "access.log"];
        let all = [&who[..], &what, &log, more].concat();
        let sortie = self.pod.sortie_by(by, &[self.folder.path()], &all);
        self.inmates.push(sortie);
    }

    /// A host of the mesh, whose one address is the pod's: `http://own.example/` is its application.
    pub fn name_the_pod(&self) {
        let entry = format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: own, \
             namespace: shop}}\nspec:\n  hosts: [own.example]\n  location: MESH_INTERNAL\n  ports: \
             [{{number: 80, name: http, protocol: HTTP, targetPort: 8080}}]\n  resolution: STATIC\n  \
             endpoints: [{{address: {}, labels: {{security.istio.io/tlsMode: istio}}}}]\n",
            POD[0]
        );
        std::fs::write(self.folder.path().join("own.yaml"), entry).unwrap();
    }

    /// The words of nginx's answer to curl in that cell.
    #[track_caller]
    pub fn seen(&self, cell: &Cell, arguments: &[&str]) -> Vec<String> {
        let (code, text) = cell.curl(arguments);
        assert_eq!(code, 0, "{text}\n{}", self.pod.said());
        text.split_whitespace().map(str::to_owned).collect()
    }
}

/// Runs it inside, as root.
#[track_caller]
pub fn run(cell: &Cell, line: &str) {
    let mut words = line.split_whitespace();
    let mut command = cell.command(words.next().unwrap());
    let output = command.args(words).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {error}");
}

/// The application's address, or another port of its host's.
pub fn url(scheme: &str, host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("{scheme}://[{host}]:{port}/"),
        false => format!("{scheme}://{host}:{port}/"),
    }
}
