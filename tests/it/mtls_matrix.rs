//! Automatic mTLS with real sidecars on both sides: the reachability matrix of article 003.
//!
//! Five machines as the article has pods: each server is nginx, with or without sortie before it,
//! and says what X-Forwarded-Client-Cert it was sent. The modes follow each other in the article's
//! order while all proxies run. `tests/system/mtls-matrix` prints the table.

use std::path::Path;

use crate::harness::{Cell, Hub, Inmate, Mesh, eventually, seed, spiffe};

/// Pods of the manifests.
const FULL: &str = "10.3.1.1";
const PARTIAL: [&str; 2] = ["10.3.2.1", "10.3.2.2"];
const LEGACY: &str = "10.3.3.1";
/// The ClusterIP that every name is given; what the client's sidecar makes of it is its business.
const VIRTUAL: &str = "10.96.3.1";

/// The article's modes, and the manifests that each is made of.
const MODES: [(&str, &[&str]); 4] = [
    ("permissive", &[]),
    ("strict", &["003-strict"]),
    ("disabled", &["003-disabled"]),
    ("override", &["003-disabled", "003-override"]),
];

/// Requests of one field of the table.
const REQUESTS: usize = 3;
/// Requests at most until both pods of `partial` have been met: which one it is, is chance.
const UNTIL_BOTH: usize = 60;

struct Pods {
    sleep_full: Cell,
    sleep_legacy: Cell,
    httpbin_full: Cell,
    httpbin_plain: [Cell; 2],
    httpbin_partial: Cell,
    inmates: Vec<Inmate>,
    _hub: Hub,
}

impl Pods {
    fn new() -> Option<Pods> {
        let hub = Hub::new()?;
        let pods = Pods {
            sleep_full: Cell::on(&hub, &["10.3.1.9"])?,
            sleep_legacy: Cell::on(&hub, &["10.3.3.9"])?,
            httpbin_full: Cell::on(&hub, &[FULL])?,
            httpbin_plain: [Cell::on(&hub, &[PARTIAL[0]])?, Cell::on(&hub, &[LEGACY])?],
            httpbin_partial: Cell::on(&hub, &[PARTIAL[1]])?,
            inmates: Vec::new(),
            _hub: hub,
        };
        Some(pods)
    }

    /// Everything that runs, with the manifests in `folder`.
    fn start(&mut self, folder: &Path) {
        let mesh = Mesh::new();
        mesh.employ(&self.sleep_full, "full", "sleep");
        mesh.employ(&self.httpbin_full, "full", "httpbin");
        mesh.employ(&self.httpbin_partial, "partial", "httpbin");
        let servers = [&self.httpbin_full, &self.httpbin_partial];
        for cell in servers.into_iter().chain(&self.httpbin_plain) {
            let block = "server { listen 80; location / { \
                         return 200 '$http_x_forwarded_client_cert\\n'; } }";
            self.inmates.push(cell.nginx(block, "127.0.0.1:80"));
        }
        for (cell, namespace) in servers.into_iter().zip(["full", "partial"]) {
            cell.receive("80", 15006);
            let mut who = vec!["--inbound", "0.0.0.0:15006", "--labels", "app=httpbin"];
            who.extend(["--namespace", namespace, "--service-account", "httpbin"]);
            self.inmates.push(cell.sortie(&[folder], &who));
        }
        self.sleep_full.redirect(Some("8000"), 15001);
        let who = ["--namespace", "full", "--service-account", "sleep"];
        self.inmates.push(self.sleep_full.sortie(&[folder], &who));
    }

    fn reload(&self) {
        for cell in [&self.sleep_full, &self.httpbin_full, &self.httpbin_partial] {
            cell.reload();
        }
    }

    /// `curl http://httpbin.TO:8000/headers` from the pod with a sidecar, and from the one without.
    fn ask(&self, from: &str, to: &str) -> Field {
        let mixed = (from, to) == ("full", "partial");
        let most = if mixed { UNTIL_BOTH } else { REQUESTS };
        let mut field = Field::default();
        for nth in 0..most {
            let answer = match from {
                "full" => self.by_sidecar(to),
                _ => self.by_itself(to, nth),
            };
            if !field.0.contains(&answer) {
                field.0.push(answer);
            }
            if mixed && field.0.len() > 1 {
                break;
            }
        }
        field.0.sort();
        field
    }

    fn by_sidecar(&self, to: &str) -> Answer {
        let known = format!("httpbin.{to}:8000:{VIRTUAL}");
        once(&self.sleep_full, &["--resolve", &known], to)
    }

    /// To what kube-proxy makes of the ClusterIP.
    fn by_itself(&self, to: &str, nth: usize) -> Answer {
        let pod = match to {
            "full" => FULL,
            "partial" => PARTIAL[nth % 2],
            _ => LEGACY,
        };
        let there = format!("httpbin.{to}:8000:{pod}:80");
        once(&self.sleep_legacy, &["--connect-to", &there], to)
    }

    fn said(&self) -> String {
        [&self.sleep_full, &self.httpbin_full, &self.httpbin_partial]
            .map(Cell::said)
            .join("\n")
    }
}

fn once(cell: &Cell, how: &[&str], to: &str) -> Answer {
    let url = format!("http://httpbin.{to}:8000/headers");
    let (exit, text) = cell.curl(&[how, &["--write-out", "\n%{http_code}\n", &url]].concat());
    let mut lines = text.lines();
    let code = lines
        .clone()
        .find(|line| line.len() == 3 && line.parse::<u16>().is_ok());
    let uri = lines.find_map(|line| line.split_once("URI="));
    Answer {
        exit,
        code: code.unwrap_or("none").to_owned(),
        identity: uri.map(|(_, uri)| uri.split([';', ',']).next().unwrap().to_owned()),
    }
}

/// What one request came to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Answer {
    code: String,
    exit: i32,
    /// The client as the server was told of it: there is one where mTLS was spoken.
    identity: Option<String>,
}

/// Every outcome that one client had with one server, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Field(Vec<Answer>);

/// The table's columns: status, curl's exit code, and who the server was told the client is.
impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let identity = match (&self.identity, self.code.as_str()) {
            (Some(uri), _) => uri,
            (None, "200") => "none: plaintext",
            (None, _) => "-",
        };
        write!(f, "{:<5} {:<5} {identity}", self.code, self.exit)
    }
}

/// 200 in mTLS as sleep.full.
fn mutual() -> Answer {
    Answer {
        code: "200".to_owned(),
        exit: 0,
        identity: Some(spiffe("full", "sleep")),
    }
}

fn without(code: &str, exit: i32) -> Answer {
    Answer {
        code: code.to_owned(),
        exit,
        identity: None,
    }
}

/// What the article shows, and 5.6.
fn expected(mode: &str, from: &str, to: &str) -> Field {
    let plain = without("200", 0);
    Field(match (from, to, mode) {
        ("full", "full", "permissive" | "strict") => vec![mutual()],
        ("full", "full", "override") => vec![without("503", 0)],
        // P4: one upstream, a pod with a sidecar and one without.
        ("full", "partial", _) => vec![plain, mutual()],
        ("legacy", "full", "strict") => vec![without("000", 56)],
        _ => vec![plain],
    })
}

#[test]
fn seed_003_the_reachability_matrix_of_the_article() {
    let Some(mut pods) = Pods::new() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    place(folder.path(), "003-automatic-mtls");
    pods.start(folder.path());
    let mut wrong = Vec::new();
    row("mode", "client", "server", "code  curl  XFCC URI");
    for (mode, manifests) in MODES {
        for policy in ["003-strict", "003-disabled", "003-override"] {
            remove(folder.path(), policy);
        }
        for policy in manifests {
            place(folder.path(), policy);
        }
        pods.reload();
        for (from, client) in [("full", "sleep.full"), ("legacy", "sleep.legacy")] {
            for to in ["full", "partial", "legacy"] {
                let field = pods.ask(from, to);
                for answer in &field.0 {
                    row(mode, client, &format!("httpbin.{to}"), &answer.to_string());
                }
                let right = expected(mode, from, to);
                if field != right {
                    wrong.push(format!(
                        "{mode}: {client} to httpbin.{to}: {field:?}; {right:?} expected"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), pods.said());
    metrics(&pods);
}

/// A row of the table, which `--nocapture` shows.
fn row(mode: &str, client: &str, server: &str, answer: &str) {
    println!("{mode:<10}  {client:<12}  {server:<15}  {answer}");
}

/// B2, B3: what the server's sidecar reports of who called, and how.
#[track_caller]
fn metrics(pods: &Pods) {
    let counts = |words: &[&str], value: f64| {
        let all = [
            "istio_requests_total{",
            "reporter=\"destination\"",
            "destination_service=\"httpbin.full.svc.cluster.local\"",
            "response_code=\"200\"",
        ];
        let all = [&all[..], words].concat();
        eventually(&format!("{all:?} at {value}"), || {
            (pods.httpbin_full.metric(&all) == value).then_some(())
        });
    };
    let source = format!("source_principal=\"{}\"", spiffe("full", "sleep"));
    let ours = format!("destination_principal=\"{}\"", spiffe("full", "httpbin"));
    let mutual = "connection_security_policy=\"mutual_tls\"";
    let twice = (2 * REQUESTS) as f64;
    // Two modes of mTLS.
    counts(&[mutual, &source, &ours], twice);
    let plain = "connection_security_policy=\"none\"";
    let unknown = "source_principal=\"unknown\"";
    // sleep.legacy in three modes, and sleep.full where the policy says so.
    counts(&[plain, unknown], 2.0 * twice);
}

/// Copies an article's manifests into a folder.
fn place(folder: &Path, name: &str) {
    for entry in std::fs::read_dir(seed(name)).unwrap() {
        let entry = entry.unwrap();
        let file = format!("{name}-{}", entry.file_name().display());
        std::fs::copy(entry.path(), folder.join(file)).unwrap();
    }
}

fn remove(folder: &Path, name: &str) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with(name) {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
}

/// Article 004: a customer with a sidecar, a pod without, and the service that both call.
struct Tutorial {
    customer: Cell,
    curl: Cell,
    preference: Cell,
    folder: tempfile::TempDir,
    _inmates: [Inmate; 3],
    _hub: Hub,
}

const PREFERENCE: &str = "10.4.0.1";

impl Tutorial {
    fn new() -> Option<Tutorial> {
        let hub = Hub::new()?;
        let customer = Cell::on(&hub, &["10.4.0.8"])?;
        let curl = Cell::on(&hub, &["10.4.0.9"])?;
        let preference = Cell::on(&hub, &[PREFERENCE])?;
        let folder = tempfile::tempdir().unwrap();
        place(folder.path(), "004-migration");
        // The article is older than automatic mTLS.
        place(folder.path(), "004-without-automatic-mtls");
        let mesh = Mesh::new();
        mesh.employ(&customer, "tutorial", "customer");
        mesh.employ(&preference, "tutorial", "preference");
        let app = "server { listen 8080; location / { \
                   return 200 'preference: $http_x_forwarded_client_cert'; } }";
        let app = preference.nginx(app, "127.0.0.1:8080");
        preference.receive("8080", 15006);
        customer.redirect(Some("8080"), 15001);
        let log = ["--namespace", "tutorial", "--access-log", "access.log"];
        let inbound = ["--inbound", "0.0.0.0:15006", "--labels", "app=preference"];
        let server = preference.sortie(&[folder.path()], &[&log[..], &inbound].concat());
        let client = customer.sortie(&[folder.path()], &log);
        Some(Tutorial {
            customer,
            curl,
            preference,
            folder,
            _inmates: [app, server, client],
            _hub: hub,
        })
    }

    fn apply(&self, name: &str) {
        place(self.folder.path(), name);
        self.customer.reload();
        self.preference.reload();
    }

    fn delete(&self, name: &str) {
        remove(self.folder.path(), name);
        self.customer.reload();
        self.preference.reload();
    }

    /// Exit code, status and body, from the pod without a sidecar.
    fn curl_pod(&self) -> (i32, String) {
        let there = format!("preference:8080:{PREFERENCE}:8080");
        ask_preference(&self.curl, &["--connect-to", &there])
    }

    fn customer_pod(&self) -> (i32, String) {
        ask_preference(&self.customer, &["--resolve", "preference:8080:10.96.4.1"])
    }

    fn said(&self) -> String {
        format!("{}\n{}", self.customer.said(), self.preference.said())
    }
}

fn ask_preference(cell: &Cell, how: &[&str]) -> (i32, String) {
    cell.curl(
        &[
            how,
            &["--write-out", " %{http_code}", "http://preference:8080"],
        ]
        .concat(),
    )
}

#[test]
fn seed_004_the_migration_step_by_step_under_running_proxies() {
    let Some(tutorial) = Tutorial::new() else {
        return;
    };
    let plain = (0, "preference:  200".to_owned());
    let mutual = format!("URI={}", spiffe("tutorial", "customer"));
    // Before: plaintext from both, for P1's default is PERMISSIVE.
    assert_eq!(tutorial.curl_pod(), plain, "{}", tutorial.said());
    assert_eq!(tutorial.customer_pod(), plain, "{}", tutorial.said());
    // STRICT: the one is reset, the other "does not know yet to use mTLS".
    tutorial.apply("004-strict");
    let (code, text) = tutorial.curl_pod();
    assert_eq!(code, 56, "5.6: {text}");
    assert!(text.starts_with(" 000"), "{text}");
    // What it keeps from before is refused once and closed; a new connection is reset.
    assert!(tutorial.customer_pod().1.ends_with(" 503"));
    let (code, text) = tutorial.customer_pod();
    assert_eq!(code, 0, "{text}");
    assert!(
        text.starts_with("upstream connect error or disconnect/reset before headers")
            && text.ends_with(" 503"),
        "5.6: {text}"
    );
    // The DestinationRule makes it aware.
    tutorial.apply("004-rule");
    let (code, text) = tutorial.customer_pod();
    assert!(
        code == 0 && text.ends_with(" 200"),
        "{text}\n{}",
        tutorial.said()
    );
    assert!(text.contains(&mutual), "{text}");
    assert_eq!(tutorial.curl_pod().0, 56);
    // PERMISSIVE: both are served, each in its own way.
    tutorial.delete("004-strict");
    tutorial.apply("004-permissive");
    assert_eq!(tutorial.curl_pod(), plain);
    let (code, text) = tutorial.customer_pod();
    assert!(code == 0 && text.ends_with(" 200"), "{text}");
    assert!(text.contains(&mutual), "{text}");
    // Cleanup: `oc delete policy preference-mutualtls`, and the DestinationRule.
    tutorial.delete("004-permissive");
    tutorial.delete("004-rule");
    assert_eq!(tutorial.customer_pod(), plain);
    assert_eq!(
        tutorial.preference.saw(6).len(),
        6,
        "what never got in was never served"
    );
}
