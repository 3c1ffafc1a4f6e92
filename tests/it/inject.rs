//! `sortie inject`: the sidecar comes in, and everything else of a manifest stays as it was.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{kubernetes_validate, program, yaml_documents};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sortie");

fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/manifests")
}

fn text(name: &str) -> String {
    fs::read_to_string(manifests().join(name)).unwrap()
}

/// Exit code, standard output, standard error, of manifests on standard input.
#[track_caller]
fn piped(arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut child = Command::new(PROGRAM)
        .arg("inject")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // Who refuses its arguments does not read.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// The injected text.
#[track_caller]
fn injected(input: &str) -> String {
    let (code, out, err) = piped(&[], input);
    assert_eq!(code, 0, "{err}");
    out
}

/// The lines of `before` that are not, in their order, in `after`.
fn lost<'a>(before: &'a str, after: &str) -> Vec<&'a str> {
    let mut rest = after.split('\n');
    let mut lost = Vec::new();
    for line in before.split('\n') {
        let mut ahead = rest.clone();
        match ahead.any(|other| other == line) {
            true => rest = ahead,
            false => lost.push(line.trim()),
        }
    }
    lost
}

/// Each manifest, and the lines of it that injection changes.
const KEPT: &[(&str, &[&str])] = &[
    ("inject/user-volume.yaml", &[]),
    ("inject/old-version.yaml", &[]),
    ("inject/httpbin.yaml", &[]),
    ("seeds/001-cluster-a/sleep.yaml", &[]),
    ("seeds/002-openshift/server.yaml", &[]),
    ("seeds/002-openshift/sleep.yaml", &[]),
    // The probe, and metadata without anything.
    ("inject/helm.yaml", &["path: /livez", "port: 8080"]),
    // An alias in the way, and one-line mappings that get another key.
    (
        "inject/anchors.yaml",
        &[
            "labels: *labels",
            "metadata: {name: one, labels: {app: one}}",
            "spec: {containers: [{name: one, image: \"one:1\"}]}",
            "labels: {app: l}",
        ],
    ),
    ("inject/foreign.yaml", &["labels: {}"]),
];

#[test]
fn no_line_is_lost_or_moved_but_those_that_say_something_else_now() {
    for (name, changed) in KEPT {
        let before = text(name);
        let after = injected(&before);
        assert!(after.contains("sortie-proxy"), "{name}");
        assert_eq!(lost(&before, &after), *changed, "{name}\n{after}");
    }
}

#[test]
fn windows_line_ends_and_a_missing_last_one_are_kept() {
    for (name, changed) in KEPT {
        let before = text(name).replace('\n', "\r\n");
        let after = injected(&before);
        assert_eq!(
            after.matches('\n').count(),
            after.matches("\r\n").count(),
            "{name}"
        );
        assert_eq!(after.replace("\r\n", "\n"), injected(&text(name)), "{name}");
        assert_eq!(lost(&before, &after), *changed, "{name}");
    }
    let before = text("inject/user-volume.yaml");
    assert_eq!(injected(before.trim_end()), injected(&before).trim_end());
}

#[test]
fn twice_is_once_byte_for_byte() {
    for name in KEPT
        .iter()
        .map(|(name, _)| *name)
        .chain(["inject/list.json"])
    {
        let once = injected(&text(name));
        let (code, twice, err) = piped(&[], &once);
        assert_eq!((code, twice == once), (0, true), "{name}\n{err}");
        assert!(err.contains("injected 0 of "), "{name}\n{err}");
    }
}

#[test]
fn a_file_standard_input_and_an_output_file_give_the_same() {
    let path = manifests().join("inject/helm.yaml");
    let path = path.to_str().unwrap();
    let (code, out, _) = program(&["inject", "-f", path]);
    assert_eq!(
        (code, out.as_str()),
        (0, injected(&text("inject/helm.yaml")).as_str())
    );
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("out.yaml");
    let (code, nothing, _) = program(&["inject", "-f", path, "-o", to.to_str().unwrap()]);
    assert_eq!((code, nothing.as_str()), (0, ""));
    assert_eq!(fs::read_to_string(to).unwrap(), out);
}

#[test]
fn what_is_written_is_what_kubernetes_takes() {
    for name in [
        "inject/user-volume.yaml",
        "inject/httpbin.yaml",
        "inject/helm.yaml",
        "seeds/001-cluster-a/sleep.yaml",
    ] {
        if !kubernetes_validate(&injected(&text(name))) {
            return;
        }
    }
}

#[test]
fn a_reader_of_yaml_1_1_reads_from_the_text_what_the_json_form_says() {
    for (name, _) in KEPT {
        let before = text(name);
        let Some(documents) = yaml_documents(&before) else {
            return;
        };
        let Some(after) = yaml_documents(&injected(&before)) else {
            return;
        };
        let list = json!({"apiVersion": "v1", "kind": "List", "items": documents});
        let as_json: Value = serde_json::from_str(&injected(&format!("{list:#}"))).unwrap();
        assert_eq!(Value::Array(after), as_json["items"], "{name}");
    }
}

#[test]
fn json_stays_json_in_its_indentation() {
    let before = text("inject/list.json");
    let after = injected(&before);
    let value: Value = serde_json::from_str(&after).unwrap();
    let template = &value["items"][1]["spec"]["template"];
    let names: Vec<_> = template["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names, ["web", "sortie-proxy"]);
    let opening = |line: &str| line.trim_end_matches(',').to_owned();
    let (before, after): (Vec<_>, Vec<_>) = (
        before.lines().map(opening).collect(),
        after.lines().map(opening).collect(),
    );
    assert_eq!(
        lost(&before.join("\n"), &after.join("\n")),
        Vec::<&str>::new()
    );
    assert!(
        after.contains(&"                                \"name\": \"sortie-proxy\"".to_owned())
    );
}

#[test]
fn every_object_is_told_with_its_file_and_line() {
    let path = manifests().join("inject/helm.yaml");
    let path = path.to_str().unwrap();
    let (_, _, err) = program(&["inject", "-f", path]);
    let line = |start: &str| {
        err.lines()
            .find(|line| line.starts_with(start))
            .unwrap_or_default()
    };
    assert!(
        line("StatefulSet default/release-db ").ends_with("injected"),
        "{err}"
    );
    assert!(
        line("Job default/release-migrate-* ").contains("helm.yaml:68"),
        "{err}"
    );
    assert!(line("DaemonSet monitoring/release-agent").contains("left alone: it has hostNetwork"));
    assert!(
        err.ends_with("\ninjected 3 of 5 objects; 1 left alone, 1 without a pod\n"),
        "{err}"
    );

    let (code, out, _) = program(&["inject", "-f", path, "--dry-run", "--json"]);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, report["objects"].as_array().unwrap().len()), (0, 5));
    assert_eq!(report["objects"][4]["result"], "left-alone");
    assert_eq!(report["objects"][4]["namespace"], "monitoring");
    assert!(
        report["objects"][4]["reason"]
            .as_str()
            .unwrap()
            .contains("hostNetwork")
    );
}

/// What is wrong, and how the first line on standard error begins and what it has.
const REFUSED: &[(&str, &str, &str)] = &[
    ("a: [1\n", "-:", "error[SRT0004]"),
    ("a: 1\na: 2\n", "-:2:1: error[SRT0005] a: ", "stands twice"),
    ("a:\n\tb: 1\n", "-:2:1: error[SRT0004]", "a tab indents"),
    ("# c\na: 1\n", "-:2:1: error[SRT0102]", "there is no kind"),
    (
        "apiVersion: v1\nkind: List\nitems:\n- kind: Pod\n",
        "-:4:3: error[SRT0102] items[0].apiVersion",
        "",
    ),
    (
        "- 1\n",
        "-:1:1: error[SRT0103]",
        "a list stands here, and an object is expected",
    ),
    (
        "apiVersion: apps/v1\nkind: Deployment\nspec:\n  replicas: 1\n",
        "-:3:1: error[SRT0102] spec.template: ",
        "the Deployment has no pod template here",
    ),
    (
        "apiVersion: batch/v1\nkind: Job\nspec:\n  template: none\n",
        "-:4:3: error[SRT0103] spec.template: ",
        "text stands here, and a pod template is expected",
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata:\n  annotations:\n    sidecar.istio.io/userVolume: '{'\n\
         spec: {containers: [{name: a, image: a}]}\n",
        "-:5:5: error[SRT0601] Pod default/: ",
        "sidecar.istio.io/userVolume",
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - name: a\n    \
         image: a\n    ports:\n    - containerPort: 15006\n",
        "-:9:",
        "15006",
    ),
];

#[test]
fn what_is_wrong_is_named_with_file_line_and_path_and_nothing_is_written() {
    let sound = text("inject/user-volume.yaml");
    for (wrong, start, part) in REFUSED {
        let (code, out, err) = piped(&[], wrong);
        assert_eq!((code, out.as_str()), (1, ""), "{wrong}\n{err}");
        assert!(
            err.starts_with(start) && err.contains(part),
            "{wrong}\n{err}"
        );
        assert!(err.ends_with("; nothing was written\n"), "{err}");

        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.yaml"), &sound).unwrap();
        fs::write(dir.path().join("b.yaml"), wrong).unwrap();
        let folder = dir.path().to_str().unwrap();
        assert_eq!(program(&["inject", "-f", folder, "--in-place"]).0, 1);
        assert_eq!(
            fs::read_to_string(dir.path().join("a.yaml")).unwrap(),
            sound
        );
        let to = dir.path().join("out");
        let (code, _, err) = program(&["inject", "-f", folder, "-o", to.to_str().unwrap()]);
        assert_eq!((code, to.exists()), (1, false));
        assert!(err.contains("b.yaml:"), "{err}");
    }
}

#[test]
fn in_place_changes_what_has_a_pod_and_keeps_permissions() {
    let dir = tempfile::tempdir().unwrap();
    let (app, other) = (dir.path().join("app.yaml"), dir.path().join("other.yml"));
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n";
    fs::write(&app, text("inject/user-volume.yaml")).unwrap();
    fs::write(&other, service).unwrap();
    fs::set_permissions(&app, fs::Permissions::from_mode(0o600)).unwrap();
    let untouched = fs::metadata(&other).unwrap().modified().unwrap();
    let folder = dir.path().to_str().unwrap();
    let (code, out, err) = program(&["inject", "-f", folder, "--in-place"]);
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    assert_eq!(
        fs::read_to_string(&app).unwrap(),
        injected(&text("inject/user-volume.yaml"))
    );
    assert_eq!(
        fs::metadata(&app).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(fs::metadata(&other).unwrap().modified().unwrap(), untouched);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn a_folder_comes_out_as_one_stream_of_documents() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.yaml"), text("inject/user-volume.yaml")).unwrap();
    fs::write(dir.path().join("b.yaml"), text("inject/helm.yaml")).unwrap();
    let (code, out, _) = program(&["inject", "-f", dir.path().to_str().unwrap()]);
    assert_eq!(code, 0);
    let parts = [
        injected(&text("inject/user-volume.yaml")),
        injected(&text("inject/helm.yaml")),
    ];
    assert_eq!(out, parts.concat(), "the second begins with its own ---");
}

#[test]
fn usage_that_makes_no_sense_is_64() {
    for arguments in [
        &["--in-place"][..],
        &["--json"],
        &["-f", "/no/such/file"],
        &["--dry-run", "--in-place"],
        &["-f", "-", "-f", "-"],
        &["--policy", "some"],
    ] {
        let (code, out, err) = piped(arguments, "");
        assert_eq!((code, out.as_str()), (64, ""), "{arguments:?} {err}");
        assert!(!err.is_empty());
    }
    assert_eq!(piped(&[], "# nothing\n").1, "# nothing\n");
}

const ASKS: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: shop
  annotations:
    traffic.sidecar.istio.io/excludeOutboundPorts: \"9090\"
spec:
  template:
    metadata:
      labels:
        sidecar.istio.io/inject: \"true\"
    spec:
      hostNetwork: true
      containers:
      - {name: shop, image: shop:1}
";

#[test]
fn i1_a_pod_that_asks_for_a_sidecar_and_gets_none_is_told_why() {
    let (code, out, err) = piped(&[], ASKS);
    assert_eq!((code, out.as_str()), (0, ASKS), "{err}");
    let says = "-:11:9: warning[SRT0602] Deployment default/shop: \
                spec.template.metadata.labels[\"sidecar.istio.io/inject\"]: the pod asks for a \
                sidecar and gets none: it has hostNetwork";
    assert!(err.contains(says), "{err}");
    // One that does not ask is left alone without a warning.
    let quiet = ASKS.replace("sidecar.istio.io/inject: \"true\"", "app: shop");
    let (_, _, err) = piped(&[], &quiet);
    assert!(!err.contains("asks for a sidecar"), "{err}");
}

#[test]
fn i9_an_annotation_of_the_pod_on_its_deployment_is_told_to_be_in_the_wrong_place() {
    let (_, _, err) = piped(&[], ASKS);
    assert!(
        err.contains("-:6:5: warning[IST0107] Deployment default/shop"),
        "{err}"
    );
    let moved = ASKS.replace(
        "  annotations:\n    traffic.sidecar.istio.io/excludeOutboundPorts: \"9090\"\n",
        "",
    );
    let (_, _, err) = piped(&[], &moved);
    assert!(!err.contains("IST0107"), "{err}");
}
