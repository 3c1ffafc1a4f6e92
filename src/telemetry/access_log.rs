//! The access log: formatted on the worker, written by a thread of its own.
//!
//! Owns: the queues between the two, one a worker, bounded in bytes.
//! Never: makes a request wait: a line that finds its queue full is dropped and counted.
//! Called by: proxy (`write`), app (`open`, `reopen`, `flush`).
//!
//! Why a buffer a worker and not a channel: a channel's ends are cache lines that all workers
//! write, and each line in it an allocation. Here a line is appended where the last one ended.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::access_entry::{AccessEntry, Captured};
use super::access_format::AccessFormat;
use super::access_sink::{AccessLogError, Outlet, Sink};
use super::metrics::Metrics;
use super::shard::{Shards, lock};
use crate::message::Fields;

/// Bytes that one worker may have queued: some 4000 lines.
const CAPACITY: usize = 1 << 20;
/// Lines that come within this time are written together.
const GATHER: Duration = Duration::from_millis(20);
/// After a failed write the next try comes this much later.
const RETRY: Duration = Duration::from_secs(1);
/// What an idle queue may keep of its memory.
const KEEP: usize = 64 * 1024;
/// How long dropping the log waits for what is queued.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// An open access log. Dropping it writes what is queued.
#[derive(Debug)]
pub struct AccessLog(Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    format: AccessFormat,
    queues: Shards<Mutex<Vec<u8>>>,
    capacity: usize,
    control: Mutex<Control>,
    wake: Condvar,
    done: Condvar,
    pub(super) metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Control {
    pending: bool,
    reopen: bool,
    stop: bool,
    stopped: bool,
    asked: u64,
    flushed: u64,
}

impl Control {
    fn urgent(&self) -> bool {
        self.reopen || self.stop || self.asked > self.flushed
    }
}

/// What the writing thread has to do now.
#[derive(Clone, Copy, Debug)]
struct Order {
    reopen: bool,
    stop: bool,
    asked: u64,
}

impl AccessLog {
    /// Opens `target` and starts the thread that writes to it. A path is appended to and, where it
    /// is new, made with mode 0640; `-` and `/dev/stdout` are standard output.
    pub fn open(
        target: &str,
        format: AccessFormat,
        metrics: &Arc<Metrics>,
    ) -> Result<AccessLog, AccessLogError> {
        let sink = Sink::open(target)?;
        let shared = Shared::new(format, CAPACITY, metrics);
        let writer = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("sortie-access".to_owned())
            .spawn(move || writer.run(Outlet::new(sink)))
            .map_err(AccessLogError::Thread)?;
        Ok(AccessLog(shared))
    }

    /// Keeps what the format needs of a request's head until the line is written. Costs nothing
    /// with the formats `text` and `json`.
    pub fn capture_request(&self, headers: &Fields) -> Captured {
        self.0.format.capture_request(headers)
    }

    /// Keeps what the format needs of an answer's head until the line is written.
    pub fn capture_response(&self, headers: &Fields) -> Captured {
        self.0.format.capture_response(headers)
    }

    /// Queues one line. Never waits: where the queue is full the line is dropped and counted.
    pub fn write(&self, entry: &AccessEntry<'_>) {
        self.0.push(entry);
    }

    /// Opens the path again, after logrotate has moved the file away. Returns at once.
    pub fn reopen(&self) {
        self.0.order(|control| control.reopen = true);
    }

    /// Waits until everything queued so far is written, but no longer than `within`. True where it
    /// is. Blocks the thread: for shutdown only.
    pub fn flush(&self, within: Duration) -> bool {
        let mut mine = 0;
        self.0.order(|control| {
            control.asked += 1;
            mine = control.asked;
        });
        self.0.wait(within, |control| control.flushed >= mine)
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.0.order(|control| control.stop = true);
        // Not a join: a reader that has stopped reading our output must not keep us from ending.
        self.0.wait(LAST_WAIT, |control| control.stopped);
    }
}

impl Shared {
    fn new(format: AccessFormat, capacity: usize, metrics: &Arc<Metrics>) -> Arc<Shared> {
        Arc::new(Shared {
            format,
            queues: Shards::new(metrics.workers()),
            capacity,
            control: Mutex::default(),
            wake: Condvar::new(),
            done: Condvar::new(),
            metrics: Arc::clone(metrics),
        })
    }

    fn push(&self, entry: &AccessEntry<'_>) {
        let mut queue = lock(self.queues.mine());
        let before = queue.len();
        if before < self.capacity {
            self.format.write(&mut queue, entry);
        }
        let fits = before < self.capacity && queue.len() <= self.capacity;
        if !fits {
            queue.truncate(before);
        }
        drop(queue);
        if !fits {
            self.metrics.access_log.dropped.inc();
        } else if before == 0 {
            // Only the first line of a batch takes the lock that workers share.
            self.order(|control| control.pending = true);
        }
    }

    fn order(&self, change: impl FnOnce(&mut Control)) {
        change(&mut lock(&self.control));
        self.wake.notify_one();
    }

    fn wait(&self, within: Duration, until: impl Fn(&Control) -> bool) -> bool {
        let deadline = Instant::now() + within;
        let mut control = lock(&self.control);
        while !until(&control) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || control.stopped {
                return until(&control);
            }
            let woken = self.done.wait_timeout(control, left);
            control = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// The writing thread's life.
    fn run(&self, mut outlet: Outlet) {
        let mut spare = Vec::new();
        loop {
            let order = self.next_order(outlet.is_stuck());
            if order.reopen {
                outlet.reopen();
            }
            outlet.write(&self.metrics);
            if !outlet.is_stuck() {
                self.take(&mut spare, outlet.batch());
                outlet.write(&self.metrics);
            }
            if outlet.is_stuck() && !order.stop {
                continue;
            }
            if order.stop {
                if outlet.is_stuck() {
                    // What is still queued is lost with what is stuck, and counted with it.
                    self.take(&mut spare, outlet.batch());
                }
                outlet.give_up(&self.metrics);
            }
            let mut control = lock(&self.control);
            control.flushed = control.flushed.max(order.asked);
            control.stopped = order.stop;
            drop(control);
            self.done.notify_all();
            if order.stop {
                return;
            }
        }
    }

    /// Sleeps until there is something to do; `stuck`: a batch waits for its next try.
    fn next_order(&self, stuck: bool) -> Order {
        let control = lock(&self.control);
        let mut control = if stuck {
            let idle = |control: &mut Control| !(control.reopen || control.stop);
            let woken = self.wake.wait_timeout_while(control, RETRY, idle);
            woken.unwrap_or_else(PoisonError::into_inner).0
        } else {
            let idle = |control: &mut Control| !(control.pending || control.urgent());
            let woken = self.wake.wait_while(control, idle);
            let control = woken.unwrap_or_else(PoisonError::into_inner);
            let gather = |control: &mut Control| !control.urgent();
            let woken = self.wake.wait_timeout_while(control, GATHER, gather);
            woken.unwrap_or_else(PoisonError::into_inner).0
        };
        // Lines of a queue that was not empty do not wake, so only taking them clears the mark.
        control.pending &= stuck;
        Order {
            reopen: std::mem::take(&mut control.reopen),
            stop: control.stop,
            asked: control.asked,
        }
    }

    /// Moves every queue's lines into `batch`. A worker waits for a swap of pointers at most.
    fn take(&self, spare: &mut Vec<u8>, batch: &mut Vec<u8>) {
        for queue in self.queues.all() {
            std::mem::swap(&mut *lock(queue), spare);
            batch.extend_from_slice(spare);
            let burst = spare.len() < spare.capacity() / 4;
            spare.clear();
            if burst {
                spare.shrink_to(KEEP);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::access_entry::sample;
    use std::path::{Path, PathBuf};

    /// Long enough for the slowest machine; every wait here ends as soon as it can.
    const PATIENCE: Duration = Duration::from_secs(30);

    fn path_only() -> AccessFormat {
        AccessFormat::parse("%REQ(:PATH)%").unwrap()
    }

    fn open(path: &Path, metrics: &Arc<Metrics>) -> AccessLog {
        AccessLog::open(path.to_str().unwrap(), path_only(), metrics).unwrap()
    }

    fn write(log: &AccessLog, path: &str) {
        log.write(&AccessEntry { path, ..sample() });
    }

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        (folder, path)
    }

    #[test]
    fn lines_of_all_threads_arrive_whole() {
        let (_folder, path) = folder();
        let metrics = Metrics::new(2);
        let log = open(&path, &metrics);
        std::thread::scope(|scope| {
            for index in 0..4 {
                let log = &log;
                scope.spawn(move || {
                    crate::telemetry::set_shard(index);
                    (0..500).for_each(|line| write(log, &format!("/{index}/{line}")));
                });
            }
        });
        assert!(log.flush(PATIENCE));
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        let mut expected: Vec<String> = (0..4)
            .flat_map(|i| (0..500).map(move |line| format!("/{i}/{line}")))
            .collect();
        expected.sort_unstable();
        assert_eq!(lines, expected);
        assert_eq!(metrics.access_log.dropped.value(), 0);
    }

    #[test]
    fn dropping_the_log_writes_what_is_queued() {
        let (_folder, path) = folder();
        let log = open(&path, &Metrics::new(1));
        write(&log, "/last");
        drop(log);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "/last\n");
    }

    #[test]
    fn a_full_queue_drops_the_line_and_counts_it() {
        let metrics = Metrics::new(1);
        // Nobody writes, as if the disk stood still.
        let shared = Shared::new(path_only(), 12, &metrics);
        for path in ["/1234", "/1234", "/much-too-long", "/"] {
            shared.push(&AccessEntry { path, ..sample() });
        }
        assert_eq!(metrics.access_log.dropped.value(), 2);
        let (mut spare, mut batch) = (Vec::new(), Vec::new());
        shared.take(&mut spare, &mut batch);
        assert_eq!(
            String::from_utf8(batch).unwrap(),
            "/1234\n/1234\n".to_owned()
        );
    }

    #[test]
    fn a_full_disk_is_counted_and_nothing_is_lost_once_there_is_room() {
        let (folder, path) = folder();
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let metrics = Metrics::new(1);
        let log = open(&path, &metrics);
        write(&log, "/first");
        while metrics.access_log.write_errors.value() == 0 {
            std::thread::yield_now();
        }
        write(&log, "/second");
        let real = folder.path().join("real.log");
        std::fs::write(&real, "").unwrap();
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&real, &path).unwrap();
        log.reopen();
        assert!(log.flush(PATIENCE));
        assert_eq!(std::fs::read_to_string(&real).unwrap(), "/first\n/second\n");
        assert_eq!(metrics.access_log.dropped.value(), 0);
    }

    #[test]
    fn lines_that_no_disk_ever_took_are_counted_as_dropped_at_the_end() {
        let metrics = Metrics::new(1);
        let log = open(Path::new("/dev/full"), &metrics);
        write(&log, "/lost");
        drop(log);
        assert_eq!(metrics.access_log.dropped.value(), 1);
    }

    #[test]
    fn after_logrotate_a_reopened_log_writes_to_the_new_file() {
        let (folder, path) = folder();
        let log = open(&path, &Metrics::new(1));
        write(&log, "/old");
        assert!(log.flush(PATIENCE));
        let old = folder.path().join("access.log.1");
        std::fs::rename(&path, &old).unwrap();
        log.reopen();
        write(&log, "/new");
        assert!(log.flush(PATIENCE));
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "/old\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "/new\n");
    }

    #[test]
    fn a_new_file_is_not_for_everybody_to_read() {
        use std::os::unix::fs::PermissionsExt;
        let (_folder, path) = folder();
        let _log = open(&path, &Metrics::new(1));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o137, 0, "{mode:o}");
    }

    #[test]
    fn a_folder_that_is_missing_is_an_error_at_start_that_names_it() {
        let (folder, _) = folder();
        let path = folder.path().join("none/access.log");
        let result = AccessLog::open(path.to_str().unwrap(), path_only(), &Metrics::new(1));
        let text = result.unwrap_err().to_string();
        assert!(
            text.contains("there is no folder") && text.contains("/none;"),
            "{text}"
        );
    }
}
