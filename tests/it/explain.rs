//! `sortie explain`, as a shell sees it: from files and of a running proxy, and that what it says is
//! what the proxy does.

use crate::harness::{Lab, Process, get, program};

fn file(lab: &Lab, config: &str) -> String {
    let path = lab.path().join("sortie.yaml");
    std::fs::write(&path, config).unwrap();
    path.display().to_string()
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn files_and_a_running_proxy_say_the_same_and_the_proxy_does_it() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let path = file(&lab, &lab.config(bank.port()));
    let process = Process::run(path.as_ref(), "", &[]);
    let admin = process.admin.to_string();
    let mut said = Vec::new();
    for source in [["--config", &path], ["--admin", &admin]] {
        let (code, out, err) =
            program(&[&["explain", "http://bank.example/a?b"][..], &source].concat());
        assert_eq!(code, 0, "{source:?}: {out}{err}");
        assert!(
            out.starts_with("http://bank.example/a?b  GET\nlistener "),
            "{out}"
        );
        let mutual = format!("mutual TLS to 127.0.0.1:{}", bank.port());
        assert!(out.lines().last().unwrap().ends_with(&mutual), "{out}");
        assert!(
            out.contains(&format!("{path}:")) && out.contains("client.crt"),
            "{out}"
        );
        assert!(!out.contains("PRIVATE"), "{out}");
        said.push(out);
    }
    assert_eq!(said[0], said[1]);
    get(process.address, "bank.example", "/a?b").expect(200);
}

#[test]
fn what_explain_calls_not_served_the_proxy_refuses_with_that_status() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let config = lab.config_with(bank.port(), "", "match: {path: {prefix: /v1}}");
    let path = file(&lab, &config);
    let process = Process::run(path.as_ref(), "", &[]);
    let admin = process.admin.to_string();
    for (host, uri, status, flag) in [
        ("bank.example", "/v2", 404, serde_json::json!("NR")),
        ("other.example", "/", 502, serde_json::Value::Null),
    ] {
        let url = format!("http://{host}{uri}");
        for source in [["--config", &path], ["--admin", &admin]] {
            let (code, out, err) = program(&[&["explain", &url, "--json"][..], &source].concat());
            assert_eq!(code, 1, "{url} {source:?}: {out}{err}");
            let outcome = &json(&out)["outcome"];
            assert_eq!(
                (&outcome["served"], &outcome["status"], &outcome["flag"]),
                (&false.into(), &status.into(), &flag)
            );
        }
        get(process.address, host, uri).expect(status);
    }
}

#[test]
fn a_credential_that_is_missing_is_the_outcome_of_a_running_proxy_alone() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let path = file(
        &lab,
        &lab.config(bank.port()).replace("client.key", "gone.key"),
    );
    let process = Process::run(path.as_ref(), "", &[]);
    let url = "http://bank.example/";
    let (code, out, err) = program(&["explain", url, "--admin", &process.admin.to_string()]);
    assert!(
        code == 1 && out.contains("503 UH: ") && out.contains("gone.key"),
        "{out}{err}"
    );
    get(process.address, "bank.example", "/").expect(503);
    let (code, out, err) = program(&["explain", url, "--config", &path]);
    assert!(
        code == 0 && out.contains("not from this machine"),
        "{out}{err}"
    );
}

#[test]
fn bad_questions_are_64_and_a_proxy_that_does_not_answer_is_1() {
    let lab = Lab::new();
    let path = file(&lab, &lab.config(8443));
    for arguments in [
        &["explain", "--config", &path][..],
        &["explain", "ftp://a", "--config", &path],
        &["explain", "http://a", "--header", "x", "--config", &path],
        &["explain", "http://a", "--captured", "a", "--config", &path],
        &["explain", "http://a", "--from-labels", "a=b"],
        &[
            "explain",
            "http://a",
            "--from-labels",
            "a",
            "--config",
            &path,
        ],
        &["explain", "http://a", "--config", "/no/such/folder"],
    ] {
        let (code, out, err) = program(arguments);
        assert_eq!(code, 64, "{arguments:?}: {out}{err}");
        assert!(!err.is_empty(), "{arguments:?}");
    }
    let (code, _, err) = program(&["explain", "http://a", "--admin", "127.0.0.1:1"]);
    assert!(code == 1 && err.contains("--config PATH"), "{err}");
}

#[test]
fn lines_that_moved_are_told_although_the_upstream_is_kept() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let config = lab.config(bank.port());
    let path = file(&lab, &config);
    let process = Process::run(path.as_ref(), "", &[]);
    let admin = process.admin.to_string();
    let line = || {
        let (code, out, err) = program(&[
            "explain",
            "http://bank.example/",
            "--admin",
            &admin,
            "--json",
        ]);
        assert_eq!(code, 0, "{out}{err}");
        let steps = json(&out)["destinations"][0]["steps"].clone();
        let tls = steps
            .as_array()
            .unwrap()
            .iter()
            .find(|step| step["what"] == "tls");
        tls.unwrap()["line"].as_u64().unwrap()
    };
    let before = line();
    file(&lab, &format!("# one\n# two\n{config}"));
    crate::harness::eventually("the new lines are told", || {
        (line() == before + 2).then_some(())
    });
}
