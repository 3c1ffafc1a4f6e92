//! "One of these paths changed": parent folders, symlink swaps, debounce, and a poll behind it.
//!
//! Owns: the inotify watches, which are hints, and the poll, which alone is enough (R9).
//! Never: reads what changed, or says which path it was: whoever is woken looks at everything.
//! Called by: `publish::reload`.
//!
//! Why folders and not files: a file that is renamed over, or reached through Kubernetes' `..data`
//! link, is another inode after every rotation, and a watch of the old one stays silent.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// A writer that pauses for this long is done.
const QUIET: Duration = Duration::from_millis(100);
/// A writer that never pauses is not waited for any longer than this.
const PATIENCE: Duration = Duration::from_secs(1);
/// A poll more often than this would be a busy loop.
const LEAST_POLL: Duration = Duration::from_millis(10);
/// Symbolic links followed for one path, as Linux does (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// Why [`Watch::changed`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The kernel said that something happened to one of the paths, and then nothing for 100 ms.
    Hint,
    /// The poll interval is over.
    Poll,
}

/// Watches paths, and polls whether or not the kernel helps.
pub struct Watch {
    poll: Duration,
    next_poll: Instant,
    paths: Vec<PathBuf>,
    /// Folders that inotify holds.
    watched: BTreeSet<PathBuf>,
    watcher: Option<RecommendedWatcher>,
    signal: Arc<Signal>,
    /// First and last hint that was not reported yet. Here, so that a cancelled `changed` keeps it.
    pending: Option<(Instant, Instant)>,
    /// The trouble was logged and is not over.
    warned: bool,
}

/// Shared with the thread that inotify's events come from.
#[derive(Default)]
struct Signal {
    hint: Notify,
    interest: Mutex<Interest>,
}

/// Which events matter: a log file in the same folder must not wake us with every line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Interest {
    /// Folders to watch, without symbolic links.
    folders: BTreeSet<PathBuf>,
    /// Entries of those folders that matter.
    names: HashSet<PathBuf>,
    /// Folders of which every entry matters.
    whole: HashSet<PathBuf>,
}

impl Watch {
    /// Ticks every `poll` (at least 10 ms). Watches nothing until told to.
    pub fn new(poll: Duration) -> Watch {
        let poll = poll.max(LEAST_POLL);
        Watch {
            poll,
            next_poll: Instant::now() + poll,
            paths: Vec::new(),
            watched: BTreeSet::new(),
            watcher: None,
            signal: Arc::default(),
            pending: None,
            warned: false,
        }
    }

    /// Watches these files and folders from now on, and no others. They need not exist: then
    /// the nearest folder that does is watched. Of a folder every entry counts, but not deeper.
    pub fn set_paths(&mut self, paths: &[PathBuf]) {
        self.paths = paths.to_vec();
        self.renew();
    }

    /// Returns when something changed, or at the next poll. Safe to cancel: nothing is lost.
    pub async fn changed(&mut self) -> Cause {
        loop {
            let settled = self
                .pending
                .map(|(first, last)| (last + QUIET).min(first + PATIENCE));
            tokio::select! {
                // The times first: a writer that never stops must not outshout them.
                biased;
                () = sleep_until(self.next_poll) => {
                    self.next_poll = Instant::now() + self.poll;
                    self.pending = None;
                    self.renew();
                    return Cause::Poll;
                }
                () = sleep_until(settled.unwrap_or(self.next_poll)), if settled.is_some() => {
                    self.pending = None;
                    self.renew();
                    return Cause::Hint;
                }
                () = self.signal.hint.notified() => {
                    let now = Instant::now();
                    let first = self.pending.map_or(now, |(first, _)| first);
                    self.pending = Some((first, now));
                }
            }
        }
    }

    /// Follows the links anew, and watches every folder anew: a watch of a folder that was
    /// removed and made again is lost without a word.
    fn renew(&mut self) {
        let mut trouble = None;
        // A folder may be made between following the way to it and watching its parent; then the
        // way leads further by now. Whoever makes folders faster than that is left to the poll.
        for _ in 0..3 {
            let interest = Interest::of(&self.paths);
            let folders = interest.folders.clone();
            *self.signal.lock() = interest;
            trouble = self.hold(folders);
            if *self.signal.lock() == Interest::of(&self.paths) {
                break;
            }
        }
        self.warn_of(trouble);
    }

    /// Makes inotify hold these folders and no others.
    fn hold(&mut self, folders: BTreeSet<PathBuf>) -> Option<notify::Error> {
        let watcher = match &mut self.watcher {
            Some(watcher) => watcher,
            None if folders.is_empty() => return None,
            slot => match start(&self.signal) {
                Ok(watcher) => slot.insert(watcher),
                Err(error) => return Some(error),
            },
        };
        for gone in self.watched.difference(&folders) {
            // It fails where the folder itself is gone, and then there is nothing to undo.
            let _ = watcher.unwatch(gone);
        }
        self.watched.clear();
        let mut trouble = None;
        for folder in folders {
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(folder);
                }
                // Gone since it was traced; the next round or the poll finds out.
                Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) => {}
                Err(error) => trouble = Some(error),
            }
        }
        trouble
    }

    /// One line when it begins, none while it lasts.
    fn warn_of(&mut self, trouble: Option<notify::Error>) {
        if let (Some(error), false) = (&trouble, self.warned) {
            tracing::warn!(
                "the kernel will not report file changes ({error}; see fs.inotify.max_user_watches \
                 and max_user_instances); files are still looked at every {:?}",
                self.poll
            );
        }
        self.warned = trouble.is_some();
    }
}

fn start(signal: &Arc<Signal>) -> notify::Result<RecommendedWatcher> {
    let signal = Arc::clone(signal);
    notify::recommended_watcher(move |event: notify::Result<Event>| match event {
        Ok(event) => {
            if signal.lock().matters(&event) {
                signal.hint.notify_one();
            }
        }
        // Whatever was lost may have been ours.
        Err(_) => signal.hint.notify_one(),
    })
}

impl Signal {
    fn lock(&self) -> std::sync::MutexGuard<'_, Interest> {
        // The value is replaced whole, so a panic elsewhere cannot have left half of one.
        self.interest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Interest {
    fn of(paths: &[PathBuf]) -> Interest {
        let mut interest = Interest::default();
        for path in paths {
            interest.trace(path);
        }
        interest
    }

    fn matters(&self, event: &Event) -> bool {
        if event.need_rescan() {
            return true;
        }
        match event.kind {
            // Our own reading; else every check would cause the next one.
            EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write) => false,
            _ => event.paths.iter().any(|path| {
                self.names.contains(path)
                    || self.folders.contains(path)
                    || path
                        .parent()
                        .is_some_and(|parent| self.whole.contains(parent))
            }),
        }
    }

    /// Notes every link on the way to `path`, and the folder where the way ends.
    fn trace(&mut self, path: &Path) {
        let Ok(path) = std::path::absolute(path) else {
            return;
        };
        let mut left: VecDeque<OsString> = parts(&path);
        let mut here = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = left.pop_front() {
            if part == ".." {
                here.pop();
                continue;
            }
            let next = here.join(&part);
            let kind = fs::symlink_metadata(&next).map(|metadata| metadata.file_type());
            match kind {
                Ok(kind) if kind.is_symlink() && links < MOST_LINKS => {
                    links += 1;
                    self.note(&here, &next);
                    let Ok(target) = fs::read_link(&next) else {
                        return;
                    };
                    if target.is_absolute() {
                        here = PathBuf::from("/");
                    }
                    for part in parts(&target).into_iter().rev() {
                        left.push_front(part);
                    }
                }
                Ok(kind) if kind.is_dir() => {
                    if left.is_empty() {
                        self.note(&here, &next);
                        self.folders.insert(next.clone());
                        self.whole.insert(next.clone());
                    }
                    here = next;
                }
                // A file, or nothing yet: this is where the way ends.
                Ok(_) | Err(_) => return self.note(&here, &next),
            }
        }
    }

    fn note(&mut self, folder: &Path, name: &Path) {
        self.folders.insert(folder.to_owned());
        self.names.insert(name.to_owned());
    }
}

/// The parts of a path that lead somewhere.
fn parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Long enough that a test which waits for it has failed.
    const NEVER: Duration = Duration::from_secs(3600);

    async fn next(watch: &mut Watch) -> Cause {
        tokio::time::timeout(Duration::from_secs(20), watch.changed())
            .await
            .expect("the kernel says so within seconds")
    }

    /// True where nothing is reported for a while that is long for the kernel.
    async fn is_quiet(watch: &mut Watch) -> bool {
        let silence = QUIET * 4;
        tokio::time::timeout(silence, watch.changed())
            .await
            .is_err()
    }

    fn watch_of(paths: &[&Path]) -> Watch {
        let mut watch = Watch::new(NEVER);
        watch.set_paths(&paths.iter().map(|p| p.to_path_buf()).collect::<Vec<_>>());
        watch
    }

    #[tokio::test(start_paused = true)]
    async fn r9_the_poll_ticks_without_any_help_of_the_kernel() {
        let mut watch = Watch::new(Duration::from_secs(10));
        let start = Instant::now();
        for n in 1..=3 {
            assert_eq!(watch.changed().await, Cause::Poll);
            assert_eq!(start.elapsed(), Duration::from_secs(10 * n));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn hints_in_quick_succession_are_reported_once_when_they_end() {
        let mut watch = Watch::new(NEVER);
        let signal = Arc::clone(&watch.signal);
        let start = Instant::now();
        let writer = tokio::spawn(async move {
            for _ in 0..5 {
                signal.hint.notify_one();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        assert_eq!(watch.changed().await, Cause::Hint);
        assert_eq!(start.elapsed(), Duration::from_millis(4 * 50) + QUIET);
        writer.await.unwrap();
        assert!(is_quiet(&mut watch).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_writer_that_never_stops_does_not_silence_the_watch() {
        let mut watch = Watch::new(NEVER);
        let signal = Arc::clone(&watch.signal);
        let start = Instant::now();
        let writer = tokio::spawn(async move {
            loop {
                signal.hint.notify_one();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        assert_eq!(watch.changed().await, Cause::Hint);
        assert_eq!(start.elapsed(), PATIENCE);
        writer.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_wait_loses_no_hint() {
        let mut watch = Watch::new(NEVER);
        watch.signal.hint.notify_one();
        let cut = tokio::time::timeout(Duration::from_millis(50), watch.changed()).await;
        assert!(cut.is_err());
        assert_eq!(watch.changed().await, Cause::Hint);
    }

    #[tokio::test]
    async fn a_write_to_a_watched_file_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tls.crt");
        fs::write(&file, "a").unwrap();
        let mut watch = watch_of(&[&file]);
        fs::write(&file, "b").unwrap();
        assert_eq!(next(&mut watch).await, Cause::Hint);
    }

    #[tokio::test]
    async fn a_rename_over_a_watched_file_is_reported_every_time() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tls.crt");
        fs::write(&file, "a").unwrap();
        let mut watch = watch_of(&[&file]);
        for _ in 0..3 {
            fs::write(folder.path().join("new"), "b").unwrap();
            fs::rename(folder.path().join("new"), &file).unwrap();
            assert_eq!(next(&mut watch).await, Cause::Hint);
        }
    }

    #[tokio::test]
    async fn reading_a_watched_file_is_not_reported() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tls.crt");
        fs::write(&file, "a").unwrap();
        let mut watch = watch_of(&[&file]);
        fs::read(&file).unwrap();
        assert!(is_quiet(&mut watch).await);
    }

    #[tokio::test]
    async fn a_neighbour_of_a_watched_file_is_not_reported() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tls.crt");
        fs::write(&file, "a").unwrap();
        let mut watch = watch_of(&[&file]);
        fs::write(folder.path().join("access.log"), "line").unwrap();
        assert!(is_quiet(&mut watch).await);
    }

    #[tokio::test]
    async fn r9_every_swap_of_the_kubernetes_data_link_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let swap = |generation: &str| {
            fs::create_dir(at(generation)).unwrap();
            fs::write(at(generation).join("tls.crt"), generation).unwrap();
            symlink(generation, at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
        };
        swap("..2026_1");
        symlink("..data/tls.crt", at("tls.crt")).unwrap();
        let mut watch = watch_of(&[&at("tls.crt")]);
        // Istio missed the third one (istio#59912).
        for (old, new) in [("1", "2"), ("2", "3"), ("3", "4"), ("4", "5")] {
            swap(&format!("..2026_{new}"));
            fs::remove_dir_all(at(&format!("..2026_{old}"))).unwrap();
            assert_eq!(next(&mut watch).await, Cause::Hint);
        }
    }

    #[tokio::test]
    async fn a_file_behind_links_into_other_folders_is_reported() {
        let (a, b, c) = (
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
        );
        fs::write(c.path().join("real"), "a").unwrap();
        symlink(c.path().join("real"), b.path().join("hop")).unwrap();
        symlink(b.path().join("hop"), a.path().join("tls.crt")).unwrap();
        let mut watch = watch_of(&[&a.path().join("tls.crt")]);
        fs::write(c.path().join("real"), "b").unwrap();
        assert_eq!(next(&mut watch).await, Cause::Hint);
        fs::remove_file(b.path().join("hop")).unwrap();
        assert_eq!(next(&mut watch).await, Cause::Hint);
    }

    #[tokio::test]
    async fn a_file_in_a_folder_that_does_not_exist_yet_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b");
        let mut watch = watch_of(&[&deep.join("tls.crt")]);
        fs::create_dir_all(&deep).unwrap();
        assert_eq!(next(&mut watch).await, Cause::Hint);
        fs::write(deep.join("tls.crt"), "a").unwrap();
        assert_eq!(next(&mut watch).await, Cause::Hint);
    }

    #[tokio::test]
    async fn a_folder_that_was_removed_and_made_again_is_watched_again() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("certs");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("tls.crt"), "a").unwrap();
        let mut watch = watch_of(&[&inner.join("tls.crt")]);
        fs::remove_dir_all(&inner).unwrap();
        assert_eq!(next(&mut watch).await, Cause::Hint);
        fs::create_dir(&inner).unwrap();
        assert_eq!(next(&mut watch).await, Cause::Hint);
        fs::write(inner.join("tls.crt"), "b").unwrap();
        assert_eq!(next(&mut watch).await, Cause::Hint);
    }

    #[tokio::test]
    async fn any_entry_of_a_watched_folder_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = watch_of(&[folder.path()]);
        fs::write(folder.path().join("more.yaml"), "a").unwrap();
        assert_eq!(next(&mut watch).await, Cause::Hint);
    }

    #[tokio::test]
    async fn a_path_that_is_no_longer_named_is_not_reported() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tls.crt");
        fs::write(&file, "a").unwrap();
        let mut watch = watch_of(&[&file]);
        watch.set_paths(&[]);
        fs::write(&file, "b").unwrap();
        assert!(is_quiet(&mut watch).await);
    }

    #[test]
    fn a_link_that_leads_to_itself_ends() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().canonicalize().unwrap().join("loop");
        symlink(&at, &at).unwrap();
        let interest = Interest::of(std::slice::from_ref(&at));
        assert!(interest.names.contains(&at));
    }
}
