//! sortie itself, in this process, on ports of the kernel's choice.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ::sortie::app::{RunOptions, Running, start};
use ::sortie::model::ListenerKind;
use tempfile::TempDir;

use super::client::{Answer, Wire, get};
use super::eventually::eventually;

/// A running sortie; it is drained and joined when dropped.
pub struct Sortie {
    running: Option<Running>,
    folder: TempDir,
    config: PathBuf,
    log: PathBuf,
}

/// How it is to run.
pub struct SortieBuilder {
    options: RunOptions,
    folder: TempDir,
}

impl SortieBuilder {
    /// Changes any option.
    pub fn with(mut self, change: impl FnOnce(&mut RunOptions)) -> Self {
        change(&mut self.options);
        self
    }

    #[track_caller]
    pub fn start(self) -> Sortie {
        match self.try_start() {
            Ok(sortie) => sortie,
            Err(error) => panic!("sortie does not start: {error}"),
        }
    }

    /// The words of the failure where it does not start.
    pub fn try_start(self) -> Result<Sortie, String> {
        let config = self.options.config.first().cloned().unwrap_or_default();
        let log = self.options.access_log.clone().unwrap_or_default();
        let running = start(self.options).map_err(|error| error.to_string())?;
        Ok(Sortie {
            running: Some(running),
            folder: self.folder,
            config,
            log,
        })
    }
}

impl Sortie {
    /// With one direct listener, an admin port, two workers, and an access log in a file.
    pub fn builder(config: &str) -> SortieBuilder {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sortie.yaml");
        std::fs::write(&file, config).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let options = RunOptions {
            config: vec![file],
            listen: vec![any],
            admin: Some(any),
            workers: Some(2),
            access_log: Some(folder.path().join("access.log")),
            drain_timeout: Duration::from_secs(5),
            ..RunOptions::default()
        };
        SortieBuilder { options, folder }
    }

    #[track_caller]
    pub fn start(config: &str) -> Sortie {
        Sortie::builder(config).start()
    }

    fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// The first direct listener.
    pub fn address(&self) -> SocketAddr {
        let listeners = &self.running().bound().listeners;
        let direct = listeners
            .iter()
            .find(|(kind, _)| *kind == ListenerKind::Direct);
        direct.unwrap().1.0
    }

    /// Every listener.
    pub fn listeners(&self) -> Vec<(ListenerKind, SocketAddr)> {
        self.running()
            .bound()
            .listeners
            .iter()
            .map(|(kind, at)| (*kind, at.0))
            .collect()
    }

    pub fn admin(&self) -> SocketAddr {
        self.running().bound().admin.unwrap()
    }

    /// The first status port.
    pub fn status(&self) -> SocketAddr {
        self.running().bound().status[0]
    }

    /// Replaces the configuration by renaming over it.
    pub fn configure(&self, config: &str) {
        let new = self.folder.path().join(".next");
        std::fs::write(&new, config).unwrap();
        std::fs::rename(new, &self.config).unwrap();
    }

    pub fn reload(&self) {
        self.running().reload();
    }

    /// Begins to drain; the process goes on until it is done.
    pub fn drain(&self) {
        self.running().drain();
    }

    /// Drains, and returns when every thread has ended.
    pub fn stop(mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
    }

    pub fn wire(&self) -> Wire {
        Wire::connect(self.address())
    }

    #[track_caller]
    pub fn get(&self, host: &str, path: &str) -> Answer {
        get(self.address(), host, path)
    }

    /// GET on the admin port.
    #[track_caller]
    pub fn admin_get(&self, path: &str) -> Answer {
        get(self.admin(), "localhost", path)
    }

    /// POST on the admin port.
    #[track_caller]
    pub fn admin_post(&self, path: &str) -> Answer {
        let mut wire = Wire::connect(self.admin());
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
        wire.send(head).answer()
    }

    /// The value of a metric whose line has all of these words; 0 where there is none. Lines that
    /// match are added up.
    #[track_caller]
    pub fn metric(&self, words: &[&str]) -> f64 {
        let text = self.admin_get("/metrics").expect(200).text();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let matching = lines.filter(|line| words.iter().all(|word| line.contains(word)));
        matching
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// The lines of the access log so far.
    pub fn access_log(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().map(str::to_string).collect()
    }

    /// The first line of the access log that has all of these words, once it is there.
    #[track_caller]
    pub fn logged(&self, words: &[&str]) -> String {
        let mut last = Vec::new();
        eventually(&format!("a line of the access log with {words:?}"), || {
            last = self.access_log();
            last.iter()
                .find(|line| words.iter().all(|word| line.contains(word)))
                .cloned()
        })
    }
}

impl Drop for Sortie {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
    }
}
