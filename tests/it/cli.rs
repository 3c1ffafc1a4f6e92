//! The commands beside `run`, as a shell sees them: exit codes, standard output, standard error.

use crate::harness::{Lab, Process, free_address, program};

fn file(lab: &Lab, config: &str) -> String {
    let path = lab.path().join("sortie.yaml");
    std::fs::write(&path, config).unwrap();
    path.display().to_string()
}

#[test]
fn check_passes_what_run_takes() {
    let lab = Lab::new();
    let path = file(&lab, &lab.config(8443));
    let (code, out, err) = program(&["check", &path]);
    assert_eq!(code, 0, "{out}{err}");
}

#[test]
fn check_reports_every_mistake_at_once_with_file_line_and_advice() {
    let lab = Lab::new();
    let config = lab
        .config(8443)
        .replace("endpoints:", "endpoint:")
        .replace("mode: mutual", "mode: mutuall")
        .replace("upstream: bank", "upstream: banc");
    let path = file(&lab, &config);
    let (code, out, err) = program(&["check", &path]);
    assert_eq!(code, 1, "{out}{err}");
    let said = out + &err;
    for words in ["endpoint", "did you mean", "mutuall", "banc"] {
        assert!(said.contains(words), "{words} is missing: {said}");
    }
    assert!(
        said.lines()
            .filter(|line| line.contains(&format!("{path}:")))
            .count()
            >= 3,
        "{said}"
    );
}

#[test]
fn what_check_refuses_run_refuses_too() {
    let lab = Lab::new();
    let path = file(&lab, "routes: [{host: a.example, upstream: nobody}]\n");
    let (checked, ..) = program(&["check", &path]);
    let (ran, out, err) = program(&[
        "run",
        "--config",
        &path,
        "--listen",
        &free_address().to_string(),
        "--admin",
        &free_address().to_string(),
    ]);
    assert_eq!((checked, ran), (1, 64), "{out}{err}");
    assert!(err.contains("nobody") && err.contains(&path), "{err}");
}

#[test]
fn bad_usage_is_64() {
    for arguments in [
        &["nonsense"][..],
        &["run"],
        &["run", "--listen", "nowhere"],
        &["check"],
    ] {
        let (code, out, err) = program(arguments);
        assert_eq!(code, 64, "{arguments:?}: {out}{err}");
    }
    let (code, ..) = program(&["check", "/no/such/file.yaml"]);
    assert_eq!(code, 64);
    let (code, out, _) = program(&["--help"]);
    assert!(
        code == 0 && out.contains("demo") && out.contains("run"),
        "{out}"
    );
    let (code, out, _) = program(&["--version"]);
    assert!(code == 0 && out.starts_with("sortie "), "{out}");
}

#[test]
fn a_port_that_is_taken_ends_run_with_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let lab = Lab::new();
    let path = file(&lab, &lab.config(8443));
    let admin = free_address().to_string();
    let (code, out, err) = program(&[
        "run", "--config", &path, "--listen", &address, "--admin", &admin,
    ]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(err.contains(&address), "{err}");
}

#[test]
fn the_schema_is_json_schema() {
    let (code, out, err) = program(&["schema"]);
    assert_eq!(code, 0, "{err}");
    let schema: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(
        schema["$schema"]
            .as_str()
            .unwrap()
            .contains("json-schema.org"),
        "{out}"
    );
    assert!(schema["properties"]["upstreams"].is_object(), "{out}");
}

#[test]
fn routes_and_certs_say_the_same_from_files_and_from_a_running_instance() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let path = file(&lab, &lab.config(bank.port()));
    let process = Process::run(path.as_ref(), "", &[]);
    let admin = process.admin.to_string();
    let serial: String = lab
        .client
        .serial()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    for (command, words) in [
        ("routes", ["bank.example", "bank"]),
        ("certs", ["ACTIVE", serial.as_str()]),
    ] {
        for source in [["--config", &path], ["--admin", &admin]] {
            for more in [&[][..], &["--json"]] {
                let arguments = [&[command][..], &source, more].concat();
                let (code, out, err) = program(&arguments);
                assert_eq!(code, 0, "{arguments:?}: {err}");
                for word in words {
                    let there = out.to_lowercase().contains(&word.to_lowercase());
                    assert!(there, "{arguments:?}: {word} is missing: {out}");
                }
                if !more.is_empty() {
                    serde_json::from_str::<serde_json::Value>(&out).expect("it is JSON");
                }
                assert!(!out.contains("PRIVATE"), "{arguments:?}: {out}");
            }
        }
    }
}

#[test]
fn every_flag_of_run_is_also_a_variable() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let path = file(&lab, &lab.config(bank.port()));
    let (listen, admin) = (free_address(), free_address());
    let log = lab.path().join("access.log");
    let mut child = std::process::Command::new(crate::harness::PROGRAM)
        .arg("run")
        .env("SORTIE_CONFIG", &path)
        .env("SORTIE_LISTEN", listen.to_string())
        .env("SORTIE_ADMIN", admin.to_string())
        .env("SORTIE_WORKERS", "1")
        .env("SORTIE_ACCESS_LOG", &log)
        .env("SORTIE_LOG_LEVEL", "error")
        .spawn()
        .unwrap();
    crate::harness::eventually("it listens", || std::net::TcpStream::connect(listen).ok());
    crate::harness::get(listen, "bank.example", "/logged").expect(200);
    crate::harness::eventually("the line is written", || {
        std::fs::read_to_string(&log)
            .ok()
            .filter(|text| text.contains("/logged"))
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_configuration_in_the_readme_is_one() {
    let readme = include_str!("../../README.md");
    let blocks: Vec<&str> = readme
        .split("```yaml\n")
        .skip(1)
        .map(|rest| rest.split_once("```").unwrap().0)
        .collect();
    assert!(blocks.len() >= 2, "the README shows a small and a full one");
    for block in blocks {
        let lab = Lab::new();
        let (code, out, err) = program(&["check", &file(&lab, block)]);
        assert_eq!(code, 0, "{block}\n{out}{err}");
    }
    let shown = readme
        .split("`certs-dev/sortie.yaml` is the whole configuration:")
        .nth(1)
        .unwrap();
    let shown = shown
        .split("```yaml\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    assert!(include_str!("../../certs-dev/sortie.yaml").ends_with(shown));
}

#[test]
fn the_readme_names_every_command_flag_and_metric() {
    let readme = include_str!("../../README.md");
    let (_, help, _) = program(&["run", "--help"]);
    let flags = help
        .split_whitespace()
        .filter(|word| word.starts_with("--"));
    for flag in flags
        .map(|flag| flag.trim_end_matches([',', '.']))
        .filter(|f| *f != "--help")
    {
        assert!(readme.contains(flag), "{flag} is not in the README");
    }
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    sortie.get("bank.example", "/").expect(200);
    let metrics = sortie.admin_get("/metrics").expect(200).text();
    let names = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    for name in names.filter(|name| name.starts_with("sortie_upstream_")) {
        let short = name.trim_start_matches("sortie_upstream");
        assert!(
            readme.contains(name) || readme.contains(short),
            "{name} is not in the README"
        );
    }
}
