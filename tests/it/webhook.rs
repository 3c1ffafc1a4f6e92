//! `sortie webhook`: reviews as the API server sends them, over TLS, to the program itself.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    Authority, PROGRAM, curl, eventually, free_address, get, kubernetes_validate, s_client, signal,
    within,
};

/// The name that the API server calls it by.
const NAME: &str = "sortie-injector.sortie-system.svc";

/// A running webhook; it is killed when dropped.
struct Hook {
    child: Child,
    listen: SocketAddr,
    status: SocketAddr,
    folder: TempDir,
    ca: Authority,
}

impl Hook {
    fn start() -> Hook {
        Hook::start_with(&[])
    }

    /// With more arguments, once it is ready.
    fn start_with(more: &[&str]) -> Hook {
        let hook = Hook::unready(more, |hook| hook.certify());
        hook.is_ready();
        hook
    }

    fn unready(more: &[&str], prepare: impl FnOnce(&Hook)) -> Hook {
        let folder = tempfile::tempdir().unwrap();
        let (listen, status) = (free_address(), free_address());
        let ca = Authority::new("webhook CA");
        std::fs::write(folder.path().join("ca.pem"), &ca.pem).unwrap();
        let place = |name: &str| folder.path().join(name);
        let log = std::fs::File::create(place("log")).unwrap();
        // It is not to start before its files are there, so that it cannot be named before either.
        let waiting = Command::new("true").stdin(Stdio::null()).spawn().unwrap();
        let mut hook = Hook {
            child: waiting,
            listen,
            status,
            ca,
            folder,
        };
        hook.child.wait().unwrap();
        prepare(&hook);
        let place = |name: &str| hook.folder.path().join(name);
        hook.child = Command::new(PROGRAM)
            .args(["webhook", "--log-level=debug"])
            .arg(format!("--listen={listen}"))
            .arg(format!("--status={status}"))
            .arg(format!("--cert={}", place("own.crt").display()))
            .arg(format!("--key={}", place("own.key").display()))
            .args(more.iter().map(|one| one.replace("FOLDER", hook.path())))
            .env_remove("RUST_LOG")
            .stderr(log)
            .spawn()
            .unwrap();
        hook
    }

    fn path(&self) -> &str {
        self.folder.path().to_str().unwrap()
    }

    fn certify(&self) {
        self.ca.server(&[NAME]).write(self.folder.path(), "own");
    }

    fn is_ready(&self) {
        eventually("the webhook is ready", || {
            TcpStream::connect(self.status).ok()?;
            (get(self.status, "localhost", "/healthz/ready").status == 200).then_some(())
        });
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn metric(&self, line: &str) -> String {
        let text = get(self.status, "localhost", "/metrics").expect(200).text();
        let found = text.lines().find_map(|one| one.strip_prefix(line));
        found
            .unwrap_or_else(|| panic!("{line}: {text}"))
            .trim()
            .to_owned()
    }

    /// curl's arguments up to the path.
    fn arguments(&self, path: &str) -> Vec<String> {
        let port = self.listen.port();
        [
            "--cacert",
            &format!("{}/ca.pem", self.path()),
            "--resolve",
            &format!("{NAME}:{port}:127.0.0.1"),
            &format!("https://{NAME}:{port}{path}"),
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn curl(&self, code: i32, path: &str, more: &[&str]) -> String {
        let all = self.arguments(path);
        let all: Vec<&str> = all
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .collect();
        curl(code, &all)
    }

    /// Posts bytes; the status and what was answered.
    fn post(&self, path: &str, body: &[u8], more: &[&str]) -> (u16, String) {
        let file = tempfile::NamedTempFile::new_in(self.folder.path()).unwrap();
        std::fs::write(file.path(), body).unwrap();
        let data = format!("@{}", file.path().display());
        let kind = "Content-Type: application/json";
        let base = [
            "--header",
            kind,
            "--data-binary",
            &data,
            "--write-out",
            "\n%{http_code}",
        ];
        let out = self.curl(0, path, &[&base[..], more].concat());
        let (body, status) = out.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    /// The response of a review of this request.
    #[track_caller]
    fn asked(&self, path: &str, request: &Value) -> Value {
        let (status, answer) = self.post(path, &review(request), &[]);
        assert_eq!(status, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["kind"], "AdmissionReview");
        assert_eq!(answer["response"]["uid"], request["uid"]);
        answer["response"].clone()
    }

    fn signal(&self, name: &str) {
        signal(&self.child, name);
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn review(request: &Value) -> Vec<u8> {
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request})
        .to_string()
        .into_bytes()
}

/// A request as kube-apiserver 1.34 sends it for a pod of a Deployment.
fn request(labels: Value, annotations: Value) -> Value {
    json!({
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
        "requestResource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": "shop",
        "operation": "CREATE",
        "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller",
            "groups": ["system:serviceaccounts", "system:authenticated"]},
        "object": {
            "kind": "Pod",
            "apiVersion": "v1",
            "metadata": {
                "generateName": "web-6b7f675878-",
                "creationTimestamp": null,
                "labels": labels,
                "annotations": annotations,
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet",
                    "name": "web-6b7f675878", "uid": "a1", "controller": true,
                    "blockOwnerDeletion": true}],
            },
            "spec": {
                "containers": [{"name": "web", "image": "nginx", "imagePullPolicy": "Always",
                    "ports": [{"containerPort": 8080, "protocol": "TCP"}],
                    "readinessProbe": {"httpGet": {"path": "/ok", "port": 8080, "scheme": "HTTP"}}}],
                "serviceAccountName": "web",
                "restartPolicy": "Always",
            },
            "status": {},
        },
        "oldObject": null,
        "dryRun": false,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    })
}

fn asking() -> Value {
    request(
        json!({"app": "web", "sidecar.istio.io/inject": "true"}),
        json!({}),
    )
}

/// The pod as the API server goes on with it.
#[track_caller]
fn patched(request: &Value, response: &Value) -> Value {
    assert_eq!(response["allowed"], true, "{response}");
    assert_eq!(response["patchType"], "JSONPatch", "{response}");
    let patch = decoded(response["patch"].as_str().unwrap());
    let patch: Vec<Value> = serde_json::from_slice(&patch).unwrap();
    let mut pod = request["object"].clone();
    for one in &patch {
        assert_eq!(one["op"], "add", "a new pod only gets something: {one}");
        let (parent, last) = one["path"].as_str().unwrap().rsplit_once('/').unwrap();
        let last = last.replace("~1", "/").replace("~0", "~");
        let value = one["value"].clone();
        match pod
            .pointer_mut(parent)
            .unwrap_or_else(|| panic!("no parent: {one}"))
        {
            Value::Array(items) => items.insert(last.parse().unwrap(), value),
            Value::Object(entries) => drop(entries.insert(last, value)),
            other => panic!("{one} on {other}"),
        }
    }
    pod
}

/// base64 by another's hand.
fn decoded(text: &str) -> Vec<u8> {
    let mut child = Command::new("base64")
        .arg("-d")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, text) = (child.stdin.take().unwrap(), text.to_owned());
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    output.stdout
}

fn names(pod: &Value, list: &str) -> Vec<String> {
    let list = pod["spec"][list].as_array().cloned().unwrap_or_default();
    list.iter()
        .map(|one| one["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn i1_a_pod_that_asks_gets_a_sidecar_that_kubernetes_takes_and_the_second_review_no_patch() {
    let hook = Hook::start();
    let mut request = asking();
    let pod = patched(&request, &hook.asked("/mutate", &request));
    assert_eq!(names(&pod, "containers"), ["web", "sortie-proxy"]);
    assert_eq!(names(&pod, "initContainers"), ["sortie-init"]);
    let labels = &pod["metadata"]["labels"];
    assert!(
        labels["service.istio.io/canonical-name"].is_string(),
        "{labels}"
    );
    // I2: what has no identity promises no TLS.
    assert_eq!(labels["security.istio.io/tlsMode"], Value::Null);
    let said = hook.said();
    assert!(
        said.contains("sidecar injected") && said.contains("shop/web-6b7f675878-?"),
        "{said}"
    );
    request["object"] = pod.clone();
    let again = hook.asked("/mutate", &request);
    assert_eq!(
        (&again["allowed"], again.get("patch")),
        (&json!(true), None),
        "{again}"
    );
    assert_eq!(
        hook.metric("sortie_webhook_reviews_total{outcome=\"patched\"}"),
        "1"
    );
    assert_eq!(
        hook.metric("sortie_webhook_reviews_total{outcome=\"unchanged\"}"),
        "1"
    );
    kubernetes_validate(&pod.to_string());
}

#[test]
fn i1_a_pod_whose_namespace_asks_gets_one_and_others_do_not() {
    let hook = Hook::start();
    let silent = request(json!({}), json!({}));
    let response = hook.asked("/mutate/namespace", &silent);
    assert_eq!(
        names(&patched(&silent, &response), "containers"),
        ["web", "sortie-proxy"]
    );
    let no = request(json!({"sidecar.istio.io/inject": "false"}), json!({}));
    let mut system = asking();
    system["namespace"] = json!("kube-system");
    let mut host = asking();
    host["object"]["spec"]["hostNetwork"] = json!(true);
    for (path, request) in [
        ("/mutate", silent),
        ("/mutate/namespace", no),
        ("/mutate", system),
        ("/mutate/namespace", host),
    ] {
        let response = hook.asked(path, &request);
        assert_eq!(
            (&response["allowed"], response.get("patch")),
            (&json!(true), None)
        );
    }
}

#[test]
fn i9_a_pod_that_asked_with_a_broken_annotation_is_refused_and_one_that_did_not_is_not() {
    let hook = Hook::start();
    let broken = || json!({"sidecar.istio.io/userVolume": "{\"a\": "});
    let request_of = |label: &str| request(json!({"sidecar.istio.io/inject": label}), broken());
    let refused = hook.asked("/mutate", &request_of("true"));
    assert_eq!(refused["allowed"], false);
    assert_eq!(refused["status"]["code"], 422);
    let message = refused["status"]["message"].as_str().unwrap();
    assert!(message.contains("sidecar.istio.io/userVolume"), "{message}");
    for label in ["false", "", "maybe"] {
        let response = hook.asked("/mutate", &request_of(label));
        assert_eq!(
            (&response["allowed"], response.get("patch")),
            (&json!(true), None),
            "{label}"
        );
    }
    assert_eq!(
        hook.metric("sortie_webhook_reviews_total{outcome=\"refused\"}"),
        "1"
    );
}

#[test]
fn what_is_no_new_pod_is_allowed_untouched_and_a_dry_run_is_answered_like_any_other() {
    let hook = Hook::start();
    for (key, value) in [
        (
            "kind",
            json!({"group": "apps", "version": "v1", "kind": "Deployment"}),
        ),
        ("operation", json!("UPDATE")),
        ("operation", json!("CONNECT")),
        ("subResource", json!("ephemeralcontainers")),
    ] {
        let mut request = asking();
        request[key] = value;
        let response = hook.asked("/mutate", &request);
        assert_eq!(
            (&response["allowed"], response.get("patch")),
            (&json!(true), None),
            "{key}"
        );
    }
    let mut dry = asking();
    dry["dryRun"] = json!(true);
    dry["somethingNew"] = json!({"a": [1]});
    patched(&dry, &hook.asked("/inject", &dry));
    let old = review(&asking());
    let old = String::from_utf8(old)
        .unwrap()
        .replace("k8s.io/v1\"", "k8s.io/v1beta1\"");
    let (status, answer) = hook.post("/mutate", old.as_bytes(), &[]);
    assert!(
        status == 200 && answer.contains("admission.k8s.io/v1beta1"),
        "{answer}"
    );
}

#[test]
fn both_versions_of_http_and_of_tls_are_spoken_and_older_ones_are_not() {
    let hook = Hook::start();
    for more in [
        &["--http1.1"][..],
        &["--http2"],
        &["--tls-max", "1.2", "--http2"],
        &["--no-alpn"],
    ] {
        let (status, _) = hook.post("/mutate", &review(&asking()), more);
        assert_eq!(status, 200, "{more:?}");
    }
    let version = hook.curl(
        0,
        "/",
        &[
            "--http2",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_version}",
        ],
    );
    assert_eq!(version, "2");
    let out = hook.curl(
        35,
        "/",
        &[
            "--tlsv1.0",
            "--tls-max",
            "1.1",
            "--ciphers",
            "DEFAULT:@SECLEVEL=0",
        ],
    );
    assert_eq!(out, "");
}

#[test]
fn what_is_no_review_is_answered_in_words_and_harms_nobody() {
    let hook = Hook::start();
    let large = vec![b' '; 9 << 20];
    for (body, more, expected, words) in [
        (&b"\xff\x00{"[..], &[][..], 400, "not JSON"),
        (b"", &[], 400, "not JSON"),
        (b"{\"kind\": \"Pod\"}", &[], 400, "AdmissionReview"),
        (&b"[".repeat(100_000), &[], 400, "recursion"),
        (
            b"{}",
            &["--header", "Content-Type: text/plain"],
            415,
            "application/json",
        ),
        (&large, &[], 413, "8388608"),
        (
            &large,
            &["--header", "Transfer-Encoding: chunked", "--http1.1"],
            413,
            "8388608",
        ),
    ] {
        let more: Vec<&str> = more.to_vec();
        let kind = more.iter().any(|one| one.starts_with("Content-Type"));
        let (status, answer) = match kind {
            true => {
                let out = hook.curl(
                    0,
                    "/mutate",
                    &[&["--data", "{}", "--write-out", "%{http_code}"][..], &more].concat(),
                );
                (out[out.len() - 3..].parse().unwrap(), out)
            }
            false => hook.post("/mutate", body, &more),
        };
        assert_eq!(status, expected, "{answer}");
        assert!(answer.contains(words), "{words}: {answer}");
    }
    assert_eq!(hook.post("/nothing", b"{}", &[]).0, 404);
    let got = hook.curl(0, "/mutate", &["--include"]);
    assert!(
        got.contains(" 405") && got.to_lowercase().contains("allow: post"),
        "{got}"
    );
    hook.asked("/mutate", &asking());
    assert_eq!(
        hook.metric("sortie_webhook_reviews_total{outcome=\"patched\"}"),
        "1"
    );
}

#[test]
fn a_review_of_three_mebibytes_is_taken() {
    let hook = Hook::start();
    let mut request = asking();
    request["object"]["metadata"]["annotations"]["note"] = json!("x".repeat(3 << 20));
    patched(&request, &hook.asked("/mutate", &request));
}

#[test]
fn slow_bodies_end_in_time_and_keep_nobody_from_an_answer() {
    let hook = Hook::start();
    let began = Instant::now();
    let mut slow: Vec<Child> = (0..20)
        .map(|_| {
            let mut child = Command::new("openssl")
                .args(["s_client", "-quiet", "-connect", &hook.listen.to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let head = "POST /mutate HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
                        Content-Length: 1000\r\n\r\n{";
            child
                .stdin
                .as_mut()
                .unwrap()
                .write_all(head.as_bytes())
                .unwrap();
            child
        })
        .collect();
    eventually("they are connected", || {
        let open: usize = hook.metric("sortie_webhook_connections").parse().unwrap();
        (open >= 20).then_some(())
    });
    hook.asked("/mutate", &asking());
    for child in &mut slow {
        let mut answer = [0; 64];
        let read = child.stdout.as_mut().unwrap().read(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    assert!(began.elapsed() < Duration::from_secs(30));
    for mut child in slow {
        let _ = child.kill();
        let _ = child.wait();
    }
}

#[test]
fn clients_that_say_nothing_make_room_for_the_api_server() {
    let hook = Hook::start();
    let silent: Vec<TcpStream> = (0..400)
        .map(|_| TcpStream::connect(hook.listen).unwrap())
        .collect();
    hook.asked("/mutate", &asking());
    let open: usize = hook.metric("sortie_webhook_connections").parse().unwrap();
    assert!(open <= 256, "{open}");
    drop(silent);
}

#[test]
fn many_reviews_at_once_are_all_answered() {
    let hook = Hook::start();
    std::thread::scope(|scope| {
        for nth in 0..12 {
            let hook = &hook;
            scope.spawn(move || {
                let mut request = asking();
                request["uid"] = json!(format!("uid-{nth}"));
                patched(&request, &hook.asked("/mutate", &request));
            });
        }
    });
    assert_eq!(
        hook.metric("sortie_webhook_reviews_total{outcome=\"patched\"}"),
        "12"
    );
}

/// Tells the load to end, however its scope is left.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn r10_the_certificate_rotates_without_a_lost_review_and_a_broken_one_changes_nothing() {
    let hook = Hook::start();
    let stop = Arc::new(AtomicBool::new(false));
    let serial = || {
        let name = ["-servername", NAME];
        // The answer closes the connection, which openssl waits for.
        let told = s_client(
            hook.listen,
            &name,
            "GET / HTTP/1.1\r\nHost: hook\r\nConnection: close\r\n\r\n",
        )?;
        Some(told.subject().map(str::to_owned))
    };
    let Some(before) = serial() else {
        return;
    };
    assert!(before.is_some());
    std::thread::scope(|scope| {
        let (hook, stopped) = (&hook, Arc::clone(&stop));
        let load = scope.spawn(move || {
            let mut asked = 0;
            while !stopped.load(Ordering::Relaxed) || asked == 0 {
                patched(&asking(), &hook.asked("/mutate", &asking()));
                asked += 1;
            }
            asked
        });
        // Where a step fails the load must end too, or the scope would wait for it.
        let _ends = Ends(&stop);
        let ends = hook.metric("sortie_cert_expiry_timestamp_seconds{usage=\"server\"}");
        // A key that does not fit, and then the rest of it.
        let new = hook
            .ca
            .ending_in("renewed", &[NAME], Duration::from_secs(5 * 3600));
        std::fs::write(hook.folder.path().join("own.key"), &new.key).unwrap();
        eventually("the misfit is told", || {
            hook.said().contains("stays in use").then_some(())
        });
        hook.asked("/mutate", &asking());
        new.write(hook.folder.path(), "own");
        eventually("the new one is shown", || {
            serial()
                .flatten()
                .filter(|subject| subject.contains("renewed"))
        });
        eventually("the metric says when the new one ends", || {
            let now = hook.metric("sortie_cert_expiry_timestamp_seconds{usage=\"server\"}");
            (now != ends).then_some(())
        });
        stop.store(true, Ordering::Relaxed);
        assert!(load.join().unwrap() > 0);
    });
}

#[test]
fn i14_without_a_certificate_it_is_not_ready_says_why_and_takes_it_when_it_comes() {
    let hook = Hook::unready(&[], |_| {});
    let why = eventually("it answers", || {
        TcpStream::connect(hook.status).ok()?;
        let answer = get(hook.status, "localhost", "/healthz/ready");
        (answer.status == 503).then(|| answer.text())
    });
    assert!(why.contains("own.crt"), "{why}");
    assert_eq!(get(hook.status, "localhost", "/livez").status, 200);
    hook.curl(35, "/mutate", &[]);
    hook.certify();
    hook.is_ready();
    hook.asked("/mutate", &asking());
}

#[test]
fn with_a_client_ca_only_its_clients_are_let_in() {
    let hook = Hook::unready(&["--client-ca=FOLDER/clients.pem"], |hook| {
        let clients = Authority::new("API server CA");
        hook.certify();
        std::fs::write(hook.folder.path().join("clients.pem"), &clients.pem).unwrap();
        clients
            .client("kube-apiserver")
            .write(hook.folder.path(), "api");
    });
    hook.is_ready();
    let place = |name: &str| format!("{}/{name}", hook.path());
    let (certificate, key) = (place("api.crt"), place("api.key"));
    let (status, _) = hook.post(
        "/mutate",
        &review(&asking()),
        &["--cert", &certificate, "--key", &key],
    );
    assert_eq!(status, 200);
    hook.curl(56, "/mutate", &["--tls-max", "1.3"]);
    eventually("it is counted", || {
        (hook.metric("sortie_webhook_handshake_failures_total") == "1").then_some(())
    });
}

#[test]
fn i11_it_drains_at_sigterm_and_exits_with_0() {
    let mut hook = Hook::start();
    hook.signal("TERM");
    let status = within(Duration::from_secs(20), "it ends", || {
        hook.child.try_wait().unwrap()
    });
    assert_eq!(status.code(), Some(0), "{}", hook.said());
    assert!(hook.said().contains("draining"));
}

#[test]
fn an_address_that_is_taken_is_named_and_exits_with_1() {
    let hook = Hook::start();
    let taken = hook.listen.to_string();
    let (code, _, err) = crate::harness::program(&[
        "webhook",
        "--listen",
        &taken,
        "--status",
        &free_address().to_string(),
        "--cert=own.crt",
        "--key=own.key",
    ]);
    assert!(code == 1 && err.contains(&taken), "{code} {err}");
    let (code, _, err) = crate::harness::program(&["webhook", "--key=own.key"]);
    assert!(code == 64 && err.contains("--cert"), "{err}");
}
