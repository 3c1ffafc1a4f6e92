//! `sortie exec`: an application under the proxy, from its start to its exit code.

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use crate::harness::{Lab, PROGRAM, Process, eventually, free_address, get, needs, signal, within};

const BOUND: Duration = Duration::from_secs(20);

/// `sortie exec` with flags, and then the command.
fn exec(flags: &[&str], command: &[&str]) -> Command {
    let mut exec = Command::new(PROGRAM);
    exec.arg("exec").args(flags).arg("--").args(command);
    for variable in ["http_proxy", "no_proxy"] {
        exec.env_remove(variable)
            .env_remove(variable.to_uppercase());
    }
    exec.stdin(Stdio::null());
    exec
}

struct Shop {
    lab: Lab,
    bank: crate::harness::Origin,
}

impl Shop {
    fn new() -> Shop {
        let lab = Lab::new();
        let bank = lab.bank().start();
        let shop = Shop { lab, bank };
        std::fs::write(shop.file("sortie.yaml"), shop.lab.config(shop.bank.port())).unwrap();
        shop
    }

    fn file(&self, name: &str) -> String {
        self.lab.path().join(name).display().to_string()
    }

    /// The proxy in the same process, with a listener of its own.
    fn own(&self, more: &[&str], command: &[&str]) -> Command {
        let (config, listen) = (self.file("sortie.yaml"), free_address().to_string());
        let flags = [
            "--no-admin",
            "--config",
            &config,
            "--listen",
            &listen,
            "--workers",
            "1",
        ];
        exec(&[&flags, more].concat(), command)
    }
}

fn told(output: Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().unwrap_or(-1);
    (code, text(&output.stdout), text(&output.stderr))
}

fn ends(child: &mut Child) -> ExitStatus {
    within(BOUND, "sortie exec ends", || child.try_wait().unwrap())
}

fn appears(file: &str) {
    eventually(file, || Path::new(file).exists().then_some(()));
}

#[test]
fn a_command_calls_through_the_proxy_that_its_environment_names() {
    let shop = Shop::new();
    let curl = ["curl", "-sS", "--fail", "http://bank.example/"];
    let (code, out, error) = told(shop.own(&["--proxy-env"], &curl).output().unwrap());
    assert_eq!(code, 0, "{error}");
    assert!(!out.is_empty(), "{error}");
    assert_eq!(shop.bank.asked().len(), 1, "{error}");

    let print = ["sh", "-c", "echo $http_proxy,$HTTP_PROXY,$no_proxy"];
    let mut without = shop.own(&[], &print);
    assert_eq!(told(without.output().unwrap()).1, ",,\n");
    let mut with = shop.own(&["--proxy-env"], &print);
    with.env("no_proxy", "db.example");
    let (_, out, _) = told(with.output().unwrap());
    let fields: Vec<&str> = out.trim().split(',').collect();
    assert!(
        fields[0].starts_with("http://127.0.0.1:") && fields[0] == fields[1],
        "{out}"
    );
    assert_eq!(fields[2..], ["localhost", "127.0.0.1", "::1", "db.example"]);
}

#[test]
fn the_exit_code_is_the_commands() {
    let shop = Shop::new();
    let not_executable = shop.file("plain.txt");
    std::fs::write(&not_executable, "text").unwrap();
    for (command, code) in [
        (&["true"][..], 0),
        (&["sh", "-c", "exit 7"], 7),
        (&["sh", "-c", "kill -s KILL $$"], 128 + 9),
        (&["/nowhere/command"], 127),
        (&["no-such-command-anywhere"], 127),
        (&[&not_executable], 126),
    ] {
        let (got, _, error) = told(shop.own(&[], command).output().unwrap());
        assert_eq!(got, code, "{command:?}: {error}");
        if (126..128).contains(&code) {
            assert!(error.contains("sortie: cannot run "), "{error}");
        }
    }
}

#[test]
fn a_command_does_not_run_where_the_proxy_is_not_ready() {
    let shop = Shop::new();
    std::fs::remove_file(shop.file("client.key")).unwrap();
    let marker = shop.file("ran");
    let impatient = ["--ready-timeout", "1", "--secrets-timeout", "600"];
    let (code, _, error) = told(shop.own(&impatient, &["touch", &marker]).output().unwrap());
    assert_eq!(code, 1, "{error}");
    let why = "the command does not run: not ready after 1 s: the proxy says:\n  secrets: upstream";
    assert!(error.contains(why), "{error}");
    assert!(!Path::new(&marker).exists());

    std::fs::write(shop.file("sortie.yaml"), "nonsense: [").unwrap();
    let (code, _, error) = told(shop.own(&[], &["touch", &marker]).output().unwrap());
    assert_eq!(code, 64, "{error}");
    assert!(!Path::new(&marker).exists());
}

#[test]
fn a_command_runs_as_soon_as_a_late_secret_is_there() {
    let shop = Shop::new();
    let (key, hidden) = (shop.file("client.key"), shop.file("hidden"));
    std::fs::rename(&key, &hidden).unwrap();
    let text = std::fs::read_to_string(shop.file("sortie.yaml")).unwrap();
    std::fs::write(
        shop.file("sortie.yaml"),
        "rotation: {poll: 1s}\n".to_owned() + &text,
    )
    .unwrap();
    let curl = [
        "curl",
        "-sS",
        "--fail",
        "-o",
        "/dev/null",
        "http://bank.example/",
    ];
    let mut child = shop
        .own(&["--proxy-env", "--secrets-timeout", "600"], &curl)
        .spawn()
        .unwrap();
    assert!(child.try_wait().unwrap().is_none());
    std::fs::rename(&hidden, &key).unwrap();
    assert_eq!(ends(&mut child).code(), Some(0));
}

#[test]
fn i11_a_signal_reaches_the_command_which_may_still_call_out_and_ends_as_it_likes() {
    let shop = Shop::new();
    let (started, answer) = (shop.file("started"), shop.file("answer"));
    let script = format!(
        "trap 'curl -sS --fail -o {answer} http://bank.example/last; exit 3' TERM; \
         touch {started}; while :; do sleep 0.05; done"
    );
    let mut child = shop
        .own(&["--proxy-env"], &["sh", "-c", &script])
        .spawn()
        .unwrap();
    appears(&started);
    signal(&child, "TERM");
    assert_eq!(ends(&mut child).code(), Some(3));
    assert!(Path::new(&answer).exists());
    assert_eq!(shop.bank.asked().len(), 1);
}

#[test]
fn every_signal_is_passed_on_once() {
    let shop = Shop::new();
    let (started, heard) = (shop.file("started"), shop.file("heard"));
    let script = format!(
        "for s in HUP INT QUIT USR1 USR2 WINCH; do trap \"echo $s >> {heard}\" $s; done; \
         trap 'exit 0' TERM; touch {started}; while :; do sleep 0.05; done"
    );
    let mut child = shop.own(&[], &["sh", "-c", &script]).spawn().unwrap();
    appears(&started);
    let all = ["HUP", "INT", "QUIT", "USR1", "USR2", "WINCH"];
    for (nth, name) in all.iter().enumerate() {
        signal(&child, name);
        eventually(name, || {
            let text = std::fs::read_to_string(&heard).unwrap_or_default();
            (text.lines().count() == nth + 1).then_some(())
        });
    }
    signal(&child, "TERM");
    assert_eq!(ends(&mut child).code(), Some(0));
    let text = std::fs::read_to_string(&heard).unwrap();
    assert_eq!(text.lines().collect::<Vec<_>>(), all);
}

#[test]
fn a_signal_before_the_command_ends_it_all() {
    let shop = Shop::new();
    std::fs::remove_file(shop.file("client.key")).unwrap();
    let (marker, status) = (shop.file("ran"), free_address());
    let at = status.to_string();
    let patient = ["--secrets-timeout", "600", "--status", &at];
    let mut child = shop.own(&patient, &["touch", &marker]).spawn().unwrap();
    eventually("the proxy waits", || {
        let up = std::net::TcpStream::connect(status).is_ok();
        (up && get(status, "a", "/ready").text().contains("secrets: ")).then_some(())
    });
    signal(&child, "TERM");
    assert_eq!(ends(&mut child).code(), Some(128 + 15));
    assert!(!Path::new(&marker).exists());
}

#[test]
fn i13_a_job_beside_a_proxy_ends_it_and_leaves_its_own_exit_code() {
    let shop = Shop::new();
    let config = shop.lab.path().join("sortie.yaml");
    let mut proxy = Process::run(&config, "", &[]);
    let admin = proxy.admin.to_string();
    let script = "curl -sS --fail -o /dev/null http://bank.example/ && exit 5";
    let flags = ["--admin", &admin, "--proxy-env"];
    let (code, _, error) = told(exec(&flags, &["sh", "-c", script]).output().unwrap());
    assert_eq!(code, 5, "{error}");
    assert_eq!(shop.bank.asked().len(), 1);
    assert_eq!(proxy.ends_within(BOUND).code(), Some(0), "{}", proxy.said());
}

#[test]
fn a_job_whose_proxy_is_gone_leaves_its_own_exit_code() {
    let shop = Shop::new();
    let config = shop.lab.path().join("sortie.yaml");
    let mut proxy = Process::run(&config, "", &[]);
    let admin = proxy.admin.to_string();
    let (started, go) = (shop.file("started"), shop.file("go"));
    let script = format!("touch {started}; until [ -e {go} ]; do sleep 0.05; done; exit 6");
    let mut child = exec(&["--admin", &admin], &["sh", "-c", &script])
        .spawn()
        .unwrap();
    appears(&started);
    proxy.signal("TERM");
    proxy.ends_within(BOUND);
    std::fs::write(&go, "").unwrap();
    assert_eq!(ends(&mut child).code(), Some(6));
}

#[test]
fn a_job_without_a_proxy_beside_it_does_not_run() {
    let shop = Shop::new();
    let (admin, marker) = (free_address().to_string(), shop.file("ran"));
    let flags = ["--admin", &admin, "--ready-timeout", "0"];
    let (code, _, error) = told(exec(&flags, &["touch", &marker]).output().unwrap());
    assert_eq!(code, 1, "{error}");
    assert!(
        error.contains("nobody answers:") && error.contains(&admin),
        "{error}"
    );
    assert!(!Path::new(&marker).exists());

    let flags = ["--listen", "127.0.0.1:0"];
    let (code, _, error) = told(exec(&flags, &["touch", &marker]).output().unwrap());
    assert!(
        code == 64 && error.contains("without --config no proxy is started"),
        "{error}"
    );
    assert!(!Path::new(&marker).exists());
}

#[test]
fn process_1_waits_for_orphans() {
    let Some(unshare) = needs("unshare") else {
        return;
    };
    let shop = Shop::new();
    // An orphan that ends at once; then nobody may be left as a zombie.
    let script = "sh -c '(true &)'; n=0; \
                  while grep -qs '^State:.Z' /proc/[0-9]*/status; do \
                  n=$((n+1)); [ $n -lt 100 ] || exit 9; sleep 0.05; done; \
                  [ \"$(cat /proc/1/comm)\" = sortie ] && exit 4";
    let inner = shop.own(&[], &["sh", "-c", script]);
    let mut outer = Command::new(unshare);
    outer
        .args(["--pid", "--fork", "--mount-proc"])
        .arg(inner.get_program());
    outer.args(inner.get_args()).stdin(Stdio::null());
    let (code, _, error) = told(outer.output().unwrap());
    if error.contains("Operation not permitted") {
        return crate::harness::skip("a PID namespace needs root");
    }
    assert_eq!(code, 4, "{error}");
}
