//! `sortie demo`, the first thing that anyone runs.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{PROGRAM, curl, eventually, program};

/// The folder that the output names.
fn folder(said: &str) -> std::path::PathBuf {
    let from = said.find("/ca.pem").expect("the CA's file is named");
    let line = &said[..from];
    line[line.rfind(' ').unwrap() + 1..].into()
}

#[test]
fn once_shows_every_leg_and_leaves_nothing_behind() {
    let began = Instant::now();
    let (code, out, err) = program(&["demo", "--once"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    for words in [
        "application > sortie    plain HTTP/1.1",
        "TLS 1.3, TLS_",
        "X25519MLKEM768",
        "(SNI)       bank.example",
        "CN=bank.example, issued by CN=sortie demo CA",
        "CN=shop.example, serial ",
        "200 in ",
    ] {
        assert!(out.contains(words), "{words} is missing: {out}");
    }
    assert!(!out.contains('\x1b'), "colour without a terminal: {out}");
    assert!(!folder(&out).exists());
    // Well under a second where the machine has nothing else to do; tests share it.
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_flag_that_does_not_exist_is_64() {
    assert_eq!(program(&["demo", "--twice"]).0, 64);
}

#[test]
fn it_goes_on_serving_and_shows_a_rotation() {
    let folder_of_output = tempfile::tempdir().unwrap();
    let path = folder_of_output.path().join("out");
    let mut child = Command::new(PROGRAM)
        .arg("demo")
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&path).unwrap())
        .spawn()
        .unwrap();
    let said = || std::fs::read_to_string(&path).unwrap();
    let signal = |name: &str| {
        let id = child.id().to_string();
        assert!(
            Command::new("kill")
                .args([name, &id])
                .status()
                .unwrap()
                .success()
        );
    };
    eventually("it invites", || said().contains("the end").then_some(()));
    let text = said();
    let line = text.lines().find(|line| line.contains("curl -x ")).unwrap();
    let proxy = line
        .split_whitespace()
        .find(|word| word.starts_with("http://"))
        .unwrap();
    let answer = curl(0, &["-x", proxy, "http://bank.example/hello"]);
    assert!(answer.contains("hello over mutual TLS"), "{answer}");
    signal("-HUP");
    eventually("the new serial is live", || {
        said().contains("no restart").then_some(())
    });
    let text = said();
    let serial = |left: &str| {
        let line = text.lines().find(|line| line.contains(left)).unwrap();
        line.trim_start()
            .trim_start_matches(left)
            .trim()
            .split(',')
            .next()
            .unwrap()
            .to_owned()
    };
    assert_ne!(serial("serial before"), serial("serial now"));
    signal("-TERM");
    assert!(child.wait().unwrap().success());
    assert!(!folder(&text).exists());
}
