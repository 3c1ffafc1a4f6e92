//! `sortie wait`: 0 when the proxy is ready, 1 and the reason when it is not.

use std::io::Read;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Lab, PROGRAM, Process, Sortie, eventually, free_address, get, within};

/// `sortie wait` with nothing of this machine's environment in its way.
fn wait(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("wait").args(arguments);
    command
        .env_remove("SORTIE_ADMIN")
        .env_remove("SORTIE_STATUS");
    command
}

fn ended(command: &mut Command) -> (i32, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    let said = String::from_utf8_lossy(&stderr).into_owned();
    (status.code().unwrap_or(-1), said)
}

fn with_status(lab: &Lab, port: u16) -> Sortie {
    Sortie::builder(&lab.config(port))
        .with(|options| options.status = vec!["127.0.0.1:0".parse().unwrap()])
        .start()
}

#[test]
fn a_proxy_that_is_ready_is_not_waited_for() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = with_status(&lab, bank.port());
    let (status, admin) = (sortie.status().to_string(), sortie.admin().to_string());
    let url = format!("http://{status}/healthz/ready");
    for arguments in [["--status", &status], ["--admin", &admin], ["--url", &url]] {
        for timeout in ["0", "600"] {
            let got = ended(wait(&arguments).args(["--timeout", timeout]));
            assert_eq!(got, (0, String::new()), "{arguments:?} {timeout}");
        }
    }
    // As a container's environment says it, for its health check.
    let got = ended(wait(&["--timeout", "1"]).env("SORTIE_STATUS", &status));
    assert_eq!(got, (0, String::new()));
}

#[test]
fn a_proxy_that_is_not_there_is_told_with_each_place_that_was_asked() {
    let (status, admin) = (free_address().to_string(), free_address().to_string());
    let asked = ["--status", &status, "--admin", &admin, "--timeout", "0"];
    let (code, said) = ended(&mut wait(&asked));
    assert_eq!(code, 1);
    for part in [
        "sortie: not ready: nobody answers:\n",
        &format!("  {status}: Connection refused"),
        &format!("  {admin}: Connection refused"),
    ] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn one_look_says_why_a_draining_proxy_is_not_ready() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = with_status(&lab, bank.port());
    sortie.drain();
    let status = sortie.status().to_string();
    let (code, said) = ended(&mut wait(&["--status", &status, "--timeout", "0"]));
    assert_eq!(code, 1);
    let expected = format!("sortie: not ready: {status}/healthz/ready says:\n  drain: draining\n");
    assert_eq!(said, expected);
}

#[test]
fn a_url_that_is_none_is_bad_usage() {
    let (code, said) = ended(&mut wait(&["--url", "127.0.0.1:15021"]));
    assert!(
        code == 64 && said.contains("write http://HOST:PORT/PATH"),
        "{code} {said}"
    );
}

#[test]
fn a_server_that_dribbles_does_not_hold_a_look_for_long() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        use std::io::Write;
        let (mut stream, _) = listener.accept().unwrap();
        let mut left = [0; 1024];
        let _ = stream.read(&mut left);
        // A byte now and then, for as long as anybody listens.
        while stream.write_all(b"x").is_ok() {
            let _ = stream.set_read_timeout(Some(Duration::from_millis(100)));
            let _ = stream.read(&mut left);
        }
    });
    let began = Instant::now();
    let (code, _) = ended(&mut wait(&[
        "--status",
        &address,
        "--admin",
        "127.0.0.1:1",
        "--timeout",
        "0",
    ]));
    assert_eq!(code, 1);
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    server.join().unwrap();
}

fn still_waits(child: &mut Child) -> bool {
    child.try_wait().unwrap().is_none()
}

#[test]
fn i14_a_secret_that_comes_late_is_waited_for_and_named() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let key = lab.path().join("client.key");
    let hidden = lab.path().join("hidden");
    std::fs::rename(&key, &hidden).unwrap();
    let config = lab.path().join("sortie.yaml");
    let text = "rotation: {poll: 1s}\n".to_owned() + &lab.config(bank.port());
    std::fs::write(&config, text).unwrap();
    let status = free_address().to_string();
    let patient = ["--status", &status, "--secrets-timeout", "600"];
    let process = Process::run_unready(&config, &patient);
    eventually("the proxy answers", || {
        let (code, said) = ended(&mut wait(&["--status", &status, "--timeout", "0"]));
        let named = said.contains("secrets: upstream bank: ") && said.contains("client.key");
        assert_eq!(code, 1, "{said}");
        named.then_some(())
    });
    // What lacks its secret fails closed, and the rest of the proxy serves already.
    get(process.address, "bank.example", "/").expect(503);

    let mut waiting = wait(&["--status", &status, "--timeout", "60"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(still_waits(&mut waiting));
    std::fs::rename(&hidden, &key).unwrap();
    let bound = Duration::from_secs(20);
    let code = within(bound, "wait ends", || waiting.try_wait().unwrap());
    assert_eq!(code.code(), Some(0));
    get(process.address, "bank.example", "/").expect(200);
}

#[test]
fn i14_a_secret_that_never_comes_is_given_up_and_the_others_are_served() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    std::fs::remove_file(lab.path().join("client.key")).unwrap();
    let config = lab.path().join("sortie.yaml");
    std::fs::write(&config, lab.config(bank.port())).unwrap();
    let process = Process::run_unready(&config, &["--secrets-timeout", "1"]);
    let admin = process.admin.to_string();
    assert_eq!(
        ended(&mut wait(&["--admin", &admin, "--timeout", "20"])),
        (0, String::new())
    );
    let said = process.said();
    assert!(
        said.contains("ready without a secret: upstream bank: "),
        "{said}"
    );
}

#[test]
fn i14_a_secret_that_goes_later_does_not_end_readiness() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = with_status(&lab, bank.port());
    std::fs::remove_file(lab.path().join("client.key")).unwrap();
    sortie.reload();
    let status = sortie.status().to_string();
    let (code, said) = ended(&mut wait(&["--status", &status, "--timeout", "0"]));
    assert_eq!((code, said.as_str()), (0, ""));
    sortie.get("bank.example", "/").expect(200);
}
