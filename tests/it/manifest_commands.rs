//! `check`, `explain`, `routes` and `certs` on folders of Istio's manifests, as a shell sees them.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Lab, program};

const SERVICE_ENTRY: &str = "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bank}
spec:
  hosts: [bank.example]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports:
  - {number: 443, name: https, protocol: HTTPS}
  endpoints: [{address: 127.0.0.1}]
";

const VIRTUAL_SERVICE: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bank}
spec:
  hosts: [bank.example]
  http:
  - match: [{port: 80, uri: {prefix: /v1}}]
    route: [{destination: {host: bank.example, port: {number: 443}}}]
";

/// A folder with the two above, and this `tls` block in a DestinationRule.
struct Manifests {
    lab: Lab,
}

impl Manifests {
    fn new(tls: &str) -> Manifests {
        let manifests = Manifests { lab: Lab::new() };
        let rule = format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: bank}}\n\
             spec:\n  host: bank.example\n  trafficPolicy:\n    portLevelSettings:\n    - port: \
             {{number: 443}}\n      tls: {tls}\n"
        );
        manifests.write("1-se.yaml", SERVICE_ENTRY);
        manifests.write("2-vs.yaml", VIRTUAL_SERVICE);
        manifests.write("3-dr.yaml", &rule);
        manifests
    }

    /// With the lab's certificates.
    fn mutual() -> Manifests {
        let manifests = Manifests::new("");
        let at = manifests.lab.path().display().to_string();
        let tls = format!(
            "{{mode: MUTUAL, clientCertificate: {at}/client.crt, privateKey: {at}/client.key, \
             caCertificates: {at}/ca.crt}}"
        );
        let rule = std::fs::read_to_string(manifests.path().join("3-dr.yaml")).unwrap();
        manifests.write("3-dr.yaml", &rule.replace("tls: ", &format!("tls: {tls}")));
        manifests
    }

    fn path(&self) -> &Path {
        self.lab.path()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    /// Exit code and output, the folder's name left out.
    fn run(&self, before: &[&str], after: &[&str]) -> (i32, String) {
        let at = self.path().display().to_string();
        let (code, out, err) = program(&[before, &[at.as_str()], after].concat());
        (code, (out + &err).replace(&format!("{at}/"), ""))
    }

    fn check(&self, more: &[&str]) -> (i32, String) {
        self.run(&["check"], more)
    }

    fn explain(&self, url: &str, more: &[&str]) -> (i32, String) {
        self.run(&["explain", url, "--config"], more)
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The lines that begin with this word, their gaps made one.
fn lines(text: &str, word: &str) -> Vec<String> {
    let plain = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let found = text.lines().filter(|line| line.starts_with(word));
    found.map(plain).collect()
}

#[test]
fn x11_sound_manifests_are_counted_by_kind() {
    let (code, out) = Manifests::mutual().check(&[]);
    assert_eq!(code, 0, "{out}");
    let last = out.lines().last().unwrap();
    assert!(last.starts_with("ok: 1 host, "), "{out}");
    assert!(
        last.contains(" 1 credential from ServiceEntry 1, VirtualService 1, DestinationRule 1; "),
        "{out}"
    );
}

#[test]
fn explain_names_the_object_and_the_line_behind_every_step() {
    let manifests = Manifests::mutual();
    let (code, out) = manifests.explain("http://bank.example/v1/a", &[]);
    assert_eq!(code, 0, "{out}");
    for (what, words) in [
        (
            "virtual host",
            "bank.example, port 80 VirtualService default/bank 2-vs.yaml:1",
        ),
        (
            "rule",
            "1 of 1: /v1* VirtualService default/bank 2-vs.yaml:7",
        ),
        (
            "destination",
            "bank.example port 443 outbound|443||bank.example 1-se.yaml:1",
        ),
        (
            "policy",
            "portLevelSettings[443] for host bank.example DestinationRule default/bank 3-dr.yaml:8",
        ),
        (
            "endpoints",
            "127.0.0.1:443 (STATIC) ServiceEntry default/bank 1-se.yaml:1",
        ),
        (
            "tls",
            "MUTUAL: a client certificate is shown DestinationRule default/bank 3-dr.yaml:9",
        ),
        ("sni", "bank.example, the request's host"),
        (
            "names",
            "the certificate must name bank.example (the request's host)",
        ),
        ("outcome", "mutual TLS to 127.0.0.1:443"),
    ] {
        assert_eq!(lines(&out, what), [format!("{what} {words}")], "{out}");
    }
    let (code, out) = manifests.explain("http://bank.example/v1/a", &["--json"]);
    let explained = json(&out);
    let steps = explained["destinations"][0]["steps"].as_array().unwrap();
    let tls = steps.iter().find(|step| step["what"] == "tls").unwrap();
    assert_eq!(
        (code, &tls["object"], &tls["file"], &tls["line"]),
        (
            0,
            &"DestinationRule default/bank".into(),
            &"3-dr.yaml".into(),
            &9.into()
        )
    );
}

#[test]
fn v7_a_request_that_no_rule_takes_is_404_and_each_rule_says_why() {
    let (code, out) = Manifests::mutual().explain("http://bank.example/v2", &[]);
    assert_eq!(code, 1, "{out}");
    assert_eq!(
        lines(&out, "passed over"),
        [
            "passed over rule 1: the path is /v2, wanted /v1* VirtualService default/bank 2-vs.yaml:7"
        ]
    );
    assert!(out.contains("outcome") && out.contains("404 NR: "), "{out}");
}

#[test]
fn t7_a_name_that_istio_would_not_check_is_told_in_both() {
    let manifests = Manifests::new("{mode: SIMPLE, sni: inner.example}");
    let (code, out) = manifests.check(&[]);
    assert_eq!(code, 0, "{out}");
    assert!(
        out.contains("3-dr.yaml:9: warning[SRT0501] DestinationRule default/bank: "),
        "{out}"
    );
    assert!(
        out.contains("unchecked by Istio: the server's name for 1 upstream"),
        "{out}"
    );
    let (_, out) = manifests.explain("http://bank.example/v1", &[]);
    assert!(
        lines(&out, "names")[0].contains("Istio checks no name where sni is set"),
        "{out}"
    );
    let enforced = manifests
        .explain("http://bank.example/v1", &["--name-check", "enforce"])
        .1;
    let words = "names the certificate must name inner.example (sni)";
    assert!(
        lines(&enforced, "names")[0].starts_with(words),
        "{enforced}"
    );
    let (code, out) = manifests.check(&["--name-check", "enforce"]);
    assert!(code == 0 && !out.contains("unchecked by Istio"), "{out}");
}

#[test]
fn x1_a_refused_object_is_named_with_what_becomes_of_the_rest() {
    let manifests = Manifests::new("{mode: MUTUAL}");
    let (code, out) = manifests.check(&[]);
    assert_eq!(code, 1, "{out}");
    assert!(
        out.contains("; refused: DestinationRule default/bank (3-dr.yaml:"),
        "{out}"
    );
    let (code, out) = manifests.explain("http://bank.example/v1", &[]);
    assert_eq!(code, 1, "{out}");
    assert!(
        out.contains("1 object is refused") && out.contains("503 UH: 3-dr.yaml:"),
        "{out}"
    );
    let (_, out) = manifests.run(&["routes", "--config"], &[]);
    assert!(
        lines(&out, "refused: DestinationRule default/bank (3-dr.yaml:").len() == 1,
        "{out}"
    );
}

#[test]
fn ist0101_a_dangling_subset_is_an_error_and_503_nc() {
    let manifests = Manifests::mutual();
    let dangling = VIRTUAL_SERVICE.replace("bank.example, port", "bank.example, subset: v2, port");
    manifests.write("2-vs.yaml", &dangling);
    let (code, out) = manifests.check(&[]);
    assert!(
        code == 1 && out.contains("error[IST0101] VirtualService default/bank: "),
        "{out}"
    );
    assert!(out.contains("3-dr.yaml:"), "both places are named: {out}");
    let (code, out) = manifests.explain("http://bank.example/v1", &[]);
    assert!(code == 1 && out.contains("503 NC: "), "{out}");
}

#[test]
fn x11_a_certificate_that_is_missing_is_a_warning_and_with_strict_an_error() {
    let manifests = Manifests::mutual();
    std::fs::remove_file(manifests.path().join("client.key")).unwrap();
    let (code, out) = manifests.check(&[]);
    assert_eq!(code, 0, "{out}");
    assert!(
        out.contains(
            "3-dr.yaml:9: warning[SRT0401] DestinationRule default/bank: tls.privateKey: there is no \
             file client.key"
        ),
        "{out}"
    );
    let (code, out) = manifests.check(&["--strict"]);
    assert!(
        code == 1 && out.contains("3-dr.yaml:9: error[SRT0401]"),
        "{out}"
    );
}

#[test]
fn json_and_sarif_carry_the_object_and_codes_of_both_families() {
    let manifests = Manifests::new("{mode: SIMPLE, sni: inner.example}");
    manifests.write(
        "2-vs.yaml",
        &VIRTUAL_SERVICE.replace("number: 443", "number: 444"),
    );
    let (code, out) = manifests.check(&["--json"]);
    assert_eq!(code, 1, "{out}");
    let log = json(&out);
    let all = log["diagnostics"].as_array().unwrap();
    let of = |code: &str| {
        all.iter()
            .find(|d| d["code"] == code)
            .cloned()
            .unwrap_or_default()
    };
    assert_eq!(
        of("IST0101")["object"],
        "VirtualService default/bank",
        "{out}"
    );
    let (code, out) = manifests.check(&["--sarif", "-"]);
    assert_eq!(code, 1, "{out}");
    let log = json(&out);
    let results = log["runs"][0]["results"].as_array().unwrap();
    let found = results
        .iter()
        .find(|r| r["ruleId"] == "IST0101")
        .expect(&out);
    assert_eq!(found["level"], "error");
    let place = &found["locations"][0]["physicalLocation"];
    assert!(
        place["region"]["startLine"].as_u64().unwrap() >= 7,
        "{found}"
    );
    let uri = place["artifactLocation"]["uri"].as_str().unwrap();
    assert_eq!(uri, "file://2-vs.yaml", "the whole path, less the folder");
}

#[test]
fn v8_rules_for_other_pods_are_seen_with_their_labels() {
    let manifests = Manifests::mutual();
    let only = VIRTUAL_SERVICE.replace("prefix: /v1}", "prefix: /v1}, sourceLabels: {app: shop}");
    manifests.write("2-vs.yaml", &only);
    let url = "http://bank.example/v1";
    assert_eq!(manifests.explain(url, &["--from-labels", "app=shop"]).0, 0);
    let (code, out) = manifests.explain(url, &["--from-labels", "app=other"]);
    assert_eq!(code, 1, "{out}");
}

#[test]
fn b12_certs_names_the_secret_and_shows_no_key() {
    let manifests = Manifests::new("{mode: MUTUAL, credentialName: bank}");
    let read = |name: &str| std::fs::read_to_string(manifests.path().join(name)).unwrap();
    let indented = |text: &str| {
        text.lines()
            .map(|line| format!("    {line}\n"))
            .collect::<String>()
    };
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: bank}}\nstringData:\n  tls.crt: |\n{}  \
         tls.key: |\n{}  ca.crt: |\n{}",
        indented(&read("client.crt")),
        indented(&read("client.key")),
        indented(&read("ca.crt"))
    );
    manifests.write("4-secret.yaml", &secret);
    let (code, out) = manifests.run(&["certs", "--config"], &[]);
    assert_eq!(code, 0, "{out}");
    let row = &lines(&out, "kubernetes://bank ")[0];
    assert!(
        row.starts_with("kubernetes://bank Cert Chain ACTIVE true "),
        "{out}"
    );
    let ca = &lines(&out, "kubernetes://bank-cacert ")[0];
    assert!(
        ca.starts_with("kubernetes://bank-cacert CA ACTIVE true "),
        "{out}"
    );
    let (code, out) = manifests.explain("http://bank.example/v1", &[]);
    assert_eq!(code, 0, "{out}");
    assert!(
        lines(&out, "credential")[0]
            .contains("Secret default/bank (kubernetes://bank, a document)"),
        "{out}"
    );
    let (_, checked) = manifests.check(&["--json"]);
    for text in [out, checked] {
        assert!(
            !text.contains("PRIVATE") && !text.contains("BEGIN"),
            "{text}"
        );
    }
}
