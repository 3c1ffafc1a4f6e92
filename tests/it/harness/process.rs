//! sortie as a process of its own, for what only a process has: signals, exit codes, limits.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::client::get;
use super::eventually::{eventually, within};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_sortie");

/// A running process; it is killed when dropped.
pub struct Process {
    pub child: Child,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    said: Arc<Mutex<String>>,
}

/// An address that nobody has, and that nobody gets by asking for port 0: those ports begin at 32768.
/// Other tests do that all the time, and one of them would take it before it is used.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 1000).unwrap() * 12;
    loop {
        let nth = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        let address = SocketAddr::from(([127, 0, 0, 1], 20_000 + nth));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

impl Process {
    /// `sortie run` with this configuration file and more arguments, once it is ready. `shell` runs
    /// first, in the shell that becomes sortie: for limits.
    #[track_caller]
    pub fn run(config: &Path, shell: &str, more: &[&str]) -> Process {
        let mut process = Process::start(config, shell, more);
        let admin = process.admin;
        eventually("sortie is ready", || {
            if let Some(status) = process.child.try_wait().unwrap() {
                panic!("sortie ended with {status}: {}", process.said());
            }
            let up = std::net::TcpStream::connect(admin).is_ok();
            (up && get(admin, "localhost", "/ready").status == 200).then_some(())
        });
        process
    }

    /// The same, not waited for.
    pub fn run_unready(config: &Path, more: &[&str]) -> Process {
        Process::start(config, "", more)
    }

    fn start(config: &Path, shell: &str, more: &[&str]) -> Process {
        let (address, admin) = (free_address(), free_address());
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(format!("{shell}\nexec \"$@\""))
            .arg("sh")
            .arg(PROGRAM)
            .arg("run");
        command.arg("--config").arg(config);
        command.args([
            "--listen",
            &address.to_string(),
            "--admin",
            &admin.to_string(),
        ]);
        command.args(more).env_remove("RUST_LOG");
        // Tests of missing secrets are about requests; those of readiness say how long.
        if !more.contains(&"--secrets-timeout") {
            command.env("SORTIE_SECRETS_TIMEOUT", "0");
        }
        Process::spawn(command, address, admin)
    }

    fn spawn(mut command: Command, address: SocketAddr, admin: SocketAddr) -> Process {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let said = Arc::new(Mutex::new(String::new()));
        listen(child.stdout.take().unwrap(), Arc::clone(&said));
        listen(child.stderr.take().unwrap(), Arc::clone(&said));
        Process {
            child,
            address,
            admin,
            said,
        }
    }

    /// All that it has written to its standard output and error.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Sends a signal by the name that kill(1) knows.
    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Waits for its end.
    #[track_caller]
    pub fn ends_within(&mut self, bound: Duration) -> ExitStatus {
        within(bound, "sortie ends", || self.child.try_wait().unwrap())
    }

    /// Processor time used so far.
    pub fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // Behind the name, which may hold anything: the 12th and 13th field, in hundredths.
        let behind = stat.rsplit(')').next().unwrap();
        let fields: Vec<&str> = behind.split_whitespace().collect();
        let ticks: u64 = fields[11..13]
            .iter()
            .map(|field| field.parse::<u64>().unwrap())
            .sum();
        Duration::from_millis(ticks * 10)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listen(stream: impl std::io::Read + Send + 'static, said: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut said = said.lock().unwrap();
            said.push_str(&line);
            said.push('\n');
        }
    });
}

/// Runs the program to its end: exit code, standard output, standard error.
#[track_caller]
pub fn program(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(PROGRAM).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap_or(-1),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// Sends it a signal by the name that kill(1) knows.
#[track_caller]
pub fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    let status = Command::new("kill").args(["-s", name, &id]).status();
    assert!(status.unwrap().success());
}
