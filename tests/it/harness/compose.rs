//! The compose files on this machine's Docker engine, as a person runs them.
//!
//! The image is built once, by the Dockerfile as it is; base images that no registry gives come from
//! `tests/docker/stand-ins`. Each test has a project of its own, and takes it down with its volumes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use super::eventually::within;
use super::needs::{needs, skip};

/// The image of this version, as the compose files name it.
pub const IMAGE: &str = concat!("sortie:", env!("CARGO_PKG_VERSION"));
/// Containers start slowly on a machine that runs the other tests meanwhile.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    fn of(output: Output) -> Said {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\r', "");
        Said {
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// Its standard output; the test fails with all that was said where it failed.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.err);
        self.out
    }
}

/// `docker ARGUMENTS`.
pub fn docker(arguments: &[&str]) -> Said {
    Said::of(Command::new("docker").args(arguments).output().unwrap())
}

/// The released image, built where it is missing or older than its sources. `None` where this
/// machine has no Docker, and may.
pub fn image() -> Option<&'static str> {
    static BUILT: OnceLock<bool> = OnceLock::new();
    needs("docker")?;
    BUILT
        .get_or_init(|| {
            let info = docker(&["info"]);
            if info.code != 0 {
                skip(&format!("no Docker engine answers: {}", info.err.trim()));
                return false;
            }
            // The base images, from a registry or made here.
            let made = script("stand-ins");
            if made.code != 0 {
                skip(&format!("no base images: {}{}", made.out, made.err));
                return false;
            }
            script("image").good();
            true
        })
        .then_some(IMAGE)
}

/// A script of `tests/docker`.
fn script(name: &str) -> Said {
    let path = root().join("tests/docker").join(name);
    Said::of(Command::new(path).output().unwrap())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// One compose file's containers, networks and volumes; gone when dropped.
pub struct Compose {
    file: PathBuf,
    project: String,
    /// `docker compose`, or `docker-compose` where only that is installed.
    tool: &'static [&'static str],
}

impl Compose {
    /// Nothing runs yet. `None` where this machine has no Docker, and may.
    pub fn new(file: &str) -> Option<Compose> {
        static COUNT: AtomicU8 = AtomicU8::new(0);
        image()?;
        let tool = tool()?;
        let nth = COUNT.fetch_add(1, Ordering::Relaxed);
        Some(Compose {
            file: root().join("docker").join(file),
            project: format!("sortie-test-{}-{nth}", std::process::id()),
            tool,
        })
    }

    /// These services run in the background, with all that they need.
    pub fn up(file: &str, services: &[&str]) -> Option<Compose> {
        let compose = Compose::new(file)?;
        compose.run(&[&["up", "-d"], services].concat()).good();
        Some(compose)
    }

    /// Runs everything up to the service `proof`, which must end with 0, and returns what it said.
    #[track_caller]
    pub fn prove(&self) -> String {
        let up = ["up", "--exit-code-from", "proof", "proof"];
        self.run(&up).good()
    }

    /// `docker compose -f FILE ARGUMENTS`.
    pub fn run(&self, arguments: &[&str]) -> Said {
        let (program, first) = self.tool.split_first().unwrap();
        let output = Command::new(program)
            .args(first)
            .arg("-f")
            .arg(&self.file)
            .args(["-p", &self.project])
            .args(arguments)
            .env("DOCKER_BUILDKIT", "0")
            .env("COMPOSE_DOCKER_CLI_BUILD", "0")
            .output()
            .unwrap();
        Said::of(output)
    }

    /// A command in a service's container.
    pub fn exec(&self, service: &str, command: &[&str]) -> Said {
        docker(&[&["exec", &self.id(service)], command].concat())
    }

    /// `curl` in a service's container.
    pub fn curl(&self, service: &str, arguments: &[&str]) -> Said {
        self.exec(
            service,
            &[&["curl", "-sS", "--max-time", "20"], arguments].concat(),
        )
    }

    /// The container's name for the engine, running or not.
    #[track_caller]
    pub fn id(&self, service: &str) -> String {
        let label = |key: &str, value: &str| format!("label=com.docker.compose.{key}={value}");
        let project = label("project", &self.project);
        let service_is = label("service", service);
        let lasting = label("oneoff", "False");
        let mut arguments = vec!["ps", "-aq"];
        for filter in [&project, &service_is, &lasting] {
            arguments.extend(["--filter", filter]);
        }
        let ids = docker(&arguments).good();
        let id = ids.lines().next().unwrap_or_default();
        assert!(!id.is_empty(), "no container of {service}");
        id.to_owned()
    }

    /// A fact of the container, in the words of `docker inspect --format`.
    pub fn fact(&self, service: &str, format: &str) -> String {
        let id = self.id(service);
        docker(&["inspect", "--format", format, &id])
            .good()
            .trim()
            .to_owned()
    }

    /// What the container has said so far, both streams.
    pub fn log(&self, service: &str) -> String {
        let said = docker(&["logs", &self.id(service)]);
        said.out + &said.err
    }

    /// Waits until the engine calls the container healthy.
    #[track_caller]
    pub fn healthy(&self, service: &str) {
        within(PATIENCE, "the container is healthy", || {
            let health = self.fact(service, "{{.State.Health.Status}}");
            (health == "healthy").then_some(())
        });
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.run(&["logs", "--no-color", "--tail=60"]);
            eprintln!("{}{}", said.out, said.err);
        }
        self.run(&["down", "-v", "--remove-orphans", "-t", "3"]);
    }
}

/// The Compose that is installed: the plugin, or the program before it.
fn tool() -> Option<&'static [&'static str]> {
    if docker(&["compose", "version"]).code == 0 {
        return Some(&["docker", "compose"]);
    }
    needs("docker-compose")?;
    Some(&["docker-compose"])
}
