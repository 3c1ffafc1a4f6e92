//! Where access log lines end up, and what becomes of them when that fails.
//!
//! Owns: the file, the batch that is being written, and the two messages about a failure.
//! Never: drops a line while it can be kept. What is written is never written twice.
//! Called by: access_log's thread.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::metrics::Metrics;

/// Why an access log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// The folder that the file would be in is not there.
    #[error(
        "the access log {} cannot be opened: there is no folder {}; make it, or write - for \
         standard output", path.display(), folder.display()
    )]
    NoFolder {
        /// As given.
        path: PathBuf,
        /// The part of it that is missing.
        folder: PathBuf,
    },
    /// The file cannot be opened for appending.
    #[error("the access log {} cannot be opened: {source}", path.display())]
    Open {
        /// As given.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The writing thread cannot be started.
    #[error("the thread that writes the access log cannot be started: {0}")]
    Thread(#[source] io::Error),
}

/// An open file, or a standard stream.
#[derive(Debug)]
pub(super) struct Sink {
    file: File,
    /// `None` for a standard stream, which cannot be opened again.
    path: Option<PathBuf>,
}

impl Sink {
    pub(super) fn open(target: &str) -> Result<Sink, AccessLogError> {
        // By descriptor and not by path: /dev/stdout cannot be opened where it is a socket.
        let stream = match target {
            "-" | "/dev/stdout" => Some(io::stdout().as_fd().try_clone_to_owned()),
            "/dev/stderr" => Some(io::stderr().as_fd().try_clone_to_owned()),
            _ => None,
        };
        if let Some(stream) = stream {
            let file = stream
                .map(File::from)
                .map_err(|source| AccessLogError::Open {
                    path: target.into(),
                    source,
                })?;
            return Ok(Sink { file, path: None });
        }
        let path = PathBuf::from(target);
        let file = open_file(&path).map_err(|source| {
            let folder = path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            match folder {
                Some(folder) if !folder.exists() => AccessLogError::NoFolder {
                    folder: folder.to_owned(),
                    path: path.clone(),
                },
                _ => AccessLogError::Open {
                    path: path.clone(),
                    source,
                },
            }
        })?;
        Ok(Sink {
            file,
            path: Some(path),
        })
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o640).open(path)
}

/// A sink, and what is on its way into it.
#[derive(Debug)]
pub(super) struct Outlet {
    sink: Sink,
    batch: Vec<u8>,
    written: usize,
    failures: u64,
}

impl Outlet {
    pub(super) fn new(sink: Sink) -> Outlet {
        Outlet {
            sink,
            batch: Vec::new(),
            written: 0,
            failures: 0,
        }
    }

    /// True while a batch waits for another try: nothing may be added to it.
    pub(super) fn is_stuck(&self) -> bool {
        !self.batch.is_empty()
    }

    /// Where the next lines go; only while nothing is stuck.
    pub(super) fn batch(&mut self) -> &mut Vec<u8> {
        &mut self.batch
    }

    /// Follows the path to the file that is there now; keeps the old one where that fails.
    pub(super) fn reopen(&mut self) {
        let Some(path) = &self.sink.path else {
            return;
        };
        match open_file(path) {
            Ok(file) => {
                self.sink.file = file;
                tracing::info!(path = %path.display(), "access log opened again");
            }
            Err(error) => tracing::warn!(
                path = %path.display(),
                "access log cannot be opened again, so the file that was open is kept: {error}"
            ),
        }
    }

    /// Writes what is left of the batch. A failure is said once, and once more when it is over.
    pub(super) fn write(&mut self, metrics: &Metrics) {
        while let Some(rest) = self
            .batch
            .get(self.written..)
            .filter(|rest| !rest.is_empty())
        {
            match self.sink.file.write(rest) {
                Ok(0) => return self.failed(&io::ErrorKind::WriteZero.into(), metrics),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.failed(&error, metrics),
            }
        }
        if self.failures > 0 && !self.batch.is_empty() {
            tracing::info!(
                failures = self.failures,
                dropped = metrics.access_log.dropped.value(),
                "access log can be written again"
            );
            self.failures = 0;
        }
        self.batch.clear();
        self.batch.shrink_to(1 << 18);
        self.written = 0;
    }

    fn failed(&mut self, error: &io::Error, metrics: &Metrics) {
        metrics.access_log.write_errors.inc();
        self.failures += 1;
        if self.failures == 1 {
            let target = self
                .sink
                .path
                .as_deref()
                .unwrap_or(Path::new("standard output"));
            tracing::warn!(
                path = %target.display(),
                "access log cannot be written: {error}; lines are kept as long as there is room, \
                 then dropped and counted"
            );
        }
    }

    /// Counts what could not be written before the end.
    pub(super) fn give_up(&mut self, metrics: &Metrics) {
        let rest = self.batch.get(self.written..).unwrap_or_default();
        let lines = rest.iter().filter(|byte| **byte == b'\n').count();
        if lines > 0 {
            metrics.access_log.dropped.add(lines as u64);
            tracing::warn!(
                lines,
                "access log lines are lost, as they could not be written"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::testing::logged;

    #[test]
    fn a_disk_that_stays_full_is_mentioned_once_and_its_recovery_once() {
        let metrics = Metrics::new(1);
        let lines = logged(|| {
            let mut outlet = Outlet::new(Sink::open("/dev/full").unwrap());
            outlet.batch().extend_from_slice(b"line\n");
            (0..3).for_each(|_| outlet.write(&metrics));
            assert!(outlet.is_stuck());
            outlet.sink = Sink::open("/dev/null").unwrap();
            outlet.write(&metrics);
            assert!(!outlet.is_stuck());
            outlet.batch().extend_from_slice(b"line\n");
            outlet.write(&metrics);
        });
        assert_eq!(lines.len(), 2, "{lines:#?}");
        assert!(lines[0].contains("No space left"), "{}", lines[0]);
        assert!(lines[1].contains("written again"), "{}", lines[1]);
        assert_eq!(metrics.access_log.write_errors.value(), 3);
    }
}
