//! Several files as they were at one moment.
//!
//! Owns: bounded reading, and the proof that nothing moved meanwhile (ISTIO.md R10).
//! Never: understands what it read.
//! Called by: `certs::pieces`, `certs::secret`.
//!
//! Why everything is read twice: two readings that agree, byte for byte and inode for inode, show
//! one moment at which all files were so. Times alone are too coarse to show that.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Readings that may disagree before we give up for this time.
const READINGS: usize = 8;

/// A file to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// What it is to the user: "certificate", "key", "CA" or "CRL".
    pub role: &'static str,
    /// Where it is.
    pub path: &'a Path,
    /// Bytes.
    pub limit: u64,
}

/// A file as it was. The bytes are wiped when dropped, whatever they are.
#[derive(PartialEq, Eq)]
pub(super) struct Content {
    pub bytes: Zeroizing<Vec<u8>>,
    /// Permission bits.
    pub mode: u32,
    /// What shows that a file is another one, or was written to.
    stamp: Stamp,
}

#[derive(PartialEq, Eq)]
struct Stamp {
    /// With every symbolic link resolved, `..data` included.
    path: PathBuf,
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Why a file was not read. Every text names the file.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// Not there, or a link to nothing.
    #[error("the {role} file {} does not exist{}", .path.display(), .hint)]
    Missing {
        role: &'static str,
        path: PathBuf,
        hint: &'static str,
    },
    /// The system says no.
    #[error("the {role} file {} cannot be read: {source}", .path.display())]
    Unreadable {
        role: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// A folder, a pipe, a device.
    #[error("the {role} file {} is {found}, not a file", .path.display())]
    NotAFile {
        role: &'static str,
        path: PathBuf,
        found: &'static str,
    },
    /// Over the bound.
    #[error("the {role} file {} is larger than {limit} bytes", .path.display())]
    TooLarge {
        role: &'static str,
        path: PathBuf,
        limit: u64,
    },
    /// It grew or was replaced under our hands, every time.
    #[error("the {role} file {} kept changing while it was read", .path.display())]
    Unstable { role: &'static str, path: PathBuf },
}

/// Reads until two readings in a row agree: then there was a moment at which all was so. `known`
/// is asked after the first reading: where it says that this is in use already, it is its own
/// proof and is not read again.
///
/// # Errors
/// The failure that two readings agree on; `None` where they never agreed.
pub(super) fn at_rest<T: PartialEq, E>(
    mut read: impl FnMut() -> Result<T, E>,
    known: impl Fn(&T) -> bool,
    same: impl Fn(&E, &E) -> bool,
) -> Result<T, Option<E>> {
    let mut before = read();
    if let Ok(first) = &before
        && known(first)
    {
        return before.map_err(Some);
    }
    for _ in 1..READINGS {
        let after = read();
        match (before, after) {
            (Ok(before), Ok(after)) if before == after => return Ok(after),
            (Err(before), Err(after)) if same(&before, &after) => return Err(Some(after)),
            (_, after) => before = after,
        }
    }
    match before {
        Ok(_) => Err(None),
        Err(error) => Err(Some(error)),
    }
}

/// The same failure of the same file.
pub(super) fn same(a: &ReadError, b: &ReadError) -> bool {
    use ReadError::{Missing, NotAFile, TooLarge, Unreadable};
    match (a, b) {
        (Missing { path: a, .. }, Missing { path: b, .. })
        | (Unreadable { path: a, .. }, Unreadable { path: b, .. })
        | (NotAFile { path: a, .. }, NotAFile { path: b, .. })
        | (TooLarge { path: a, .. }, TooLarge { path: b, .. }) => a == b,
        _ => false,
    }
}

/// Reads one file, whose bytes are wiped when dropped.
///
/// # Errors
/// It is not there, not a file, too large, or changes while it is read.
pub(super) fn read_one(file: &Wanted<'_>) -> Result<Content, ReadError> {
    let fail = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ReadError::Missing {
            role: file.role,
            path: file.path.into(),
            hint: match fs::symlink_metadata(file.path) {
                Ok(_) => " (it is a link whose target is missing)",
                Err(_) => "",
            },
        },
        _ => ReadError::Unreadable {
            role: file.role,
            path: file.path.into(),
            source,
        },
    };
    // Asked before opening, because opening a pipe would wait for its writer.
    let kind = fs::metadata(file.path).map_err(fail)?.file_type();
    if !kind.is_file() {
        return Err(ReadError::NotAFile {
            role: file.role,
            path: file.path.into(),
            found: match kind.is_dir() {
                true => "a folder",
                false => "a pipe or a device",
            },
        });
    }
    let mut opened = File::open(file.path).map_err(fail)?;
    let metadata = opened.metadata().map_err(fail)?;
    if metadata.len() > file.limit {
        return Err(ReadError::TooLarge {
            role: file.role,
            path: file.path.into(),
            limit: file.limit,
        });
    }
    let bytes = read_exactly(&mut opened, metadata.len()).map_err(fail)?;
    let unstable = || ReadError::Unstable {
        role: file.role,
        path: file.path.into(),
    };
    let bytes = bytes.ok_or_else(unstable)?;
    let path = fs::canonicalize(file.path).map_err(fail)?;
    Ok(Content {
        bytes,
        mode: metadata.mode(),
        stamp: Stamp {
            path,
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        },
    })
}

/// Exactly `len` bytes, or `None` where the file has another length by now.
///
/// The buffer never grows, because growing would leave a copy of a key behind in freed memory.
fn read_exactly(file: &mut File, len: u64) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let Ok(len) = usize::try_from(len) else {
        return Ok(None);
    };
    let mut bytes = Zeroizing::new(vec![0; len.saturating_add(1)]);
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok((filled == len).then_some(bytes))
}

impl ReadError {
    /// The file at fault.
    pub(super) fn path(&self) -> &Path {
        match self {
            ReadError::Missing { path, .. }
            | ReadError::Unreadable { path, .. }
            | ReadError::NotAFile { path, .. }
            | ReadError::TooLarge { path, .. }
            | ReadError::Unstable { path, .. } => path,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::fs::symlink;

    use super::*;

    fn wanted(path: &Path) -> Wanted<'_> {
        Wanted {
            role: "key",
            path,
            limit: 100,
        }
    }

    /// Reads the files through `read` until they rest.
    fn read_with(
        files: &[Wanted<'_>],
        known: impl Fn(&Vec<Content>) -> bool,
        mut read: impl FnMut(&Wanted<'_>) -> Result<Content, ReadError>,
    ) -> Result<Vec<Content>, Option<ReadError>> {
        at_rest(|| files.iter().map(&mut read).collect(), known, same)
    }

    fn said(path: &Path) -> String {
        match read_one(&wanted(path)) {
            Ok(_) => "fine".to_owned(),
            Err(error) => error.to_string().replace(&path.display().to_string(), "F"),
        }
    }

    #[test]
    fn a_failure_says_file_and_reason_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert_eq!(said(&at("none")), "the key file F does not exist");
        symlink("gone", at("link")).unwrap();
        let words = "the key file F does not exist (it is a link whose target is missing)";
        assert_eq!(said(&at("link")), words);
        assert_eq!(
            said(folder.path()),
            "the key file F is a folder, not a file"
        );
        let device = "the key file F is a pipe or a device, not a file";
        assert_eq!(said(Path::new("/dev/null")), device);
        fs::write(at("big"), [0; 101]).unwrap();
        assert_eq!(said(&at("big")), "the key file F is larger than 100 bytes");
        symlink("self", at("self")).unwrap();
        assert!(said(&at("self")).starts_with("the key file F cannot be read: "));
        fs::write(at("fits"), [0; 100]).unwrap();
        assert_eq!(said(&at("fits")), "fine");
    }

    #[test]
    fn r10_a_swap_between_two_files_is_read_again_until_both_are_of_one_moment() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        let write = |generation: &str| {
            fs::write(&a, generation).unwrap();
            fs::write(&b, generation).unwrap();
        };
        write("one");
        let reads = Cell::new(0);
        let contents = read_with(
            &[wanted(&a), wanted(&b)],
            |_| false,
            |file| {
                let content = read_one(file);
                reads.set(reads.get() + 1);
                // Behind the first file's first and second reading.
                if let 1 | 3 = reads.get() {
                    write(["two", "new"][reads.get() / 3]);
                }
                content
            },
        );
        let contents = contents.unwrap();
        let texts: Vec<_> = contents.iter().map(|c| c.bytes.to_vec()).collect();
        assert_eq!(texts, [b"new", b"new"]);
        assert_eq!(reads.get(), 8);
    }

    #[test]
    fn r10_an_equal_rewrite_between_the_readings_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "same").unwrap();
        let reads = Cell::new(0);
        let result = read_with(
            &[wanted(&path)],
            |_| false,
            |file| {
                let content = read_one(file);
                reads.set(reads.get() + 1);
                if reads.get() == 1 {
                    fs::write(folder.path().join("new"), "same").unwrap();
                    fs::rename(folder.path().join("new"), &path).unwrap();
                }
                content
            },
        );
        assert!(result.is_ok());
        assert_eq!(reads.get(), 3);
    }

    #[test]
    fn r10_files_that_never_rest_are_given_up_after_some_readings() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "0").unwrap();
        let reads = Cell::new(0);
        let result = read_with(
            &[wanted(&path)],
            |_| false,
            |file| {
                reads.set(reads.get() + 1);
                fs::write(&path, format!("{}", reads.get())).unwrap();
                read_one(file)
            },
        );
        assert!(matches!(result, Err(None)));
        assert_eq!(reads.get(), READINGS);
    }

    #[test]
    fn bytes_that_are_known_are_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "x").unwrap();
        let reads = Cell::new(0);
        let result = read_with(
            &[wanted(&path)],
            |contents| contents[0].bytes.as_slice() == b"x",
            |file| {
                reads.set(reads.get() + 1);
                read_one(file)
            },
        );
        assert!(result.is_ok());
        assert_eq!(reads.get(), 1);
    }
}
