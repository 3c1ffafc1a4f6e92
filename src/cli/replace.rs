//! Files that get new content, all of them or none.
//!
//! Owns: temporary files beside their targets, permissions and owners kept, renames.
//! Never: leaves a half-written file, or a temporary one.
//! Called by: `cli::inject`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file that could not be replaced, and those that were by then.
#[derive(Debug)]
pub(super) struct NotReplaced {
    pub path: PathBuf,
    pub source: io::Error,
    /// Replaced before.
    pub done: Vec<PathBuf>,
}

/// Writes each text to its file; a link stays a link. Nothing is replaced before all texts are on
/// the disk.
///
/// # Errors
/// A text cannot be written, and no file was changed; or, which is rare, a file cannot be renamed.
pub(super) fn replace(files: &[(&Path, &str)]) -> Result<(), NotReplaced> {
    let mut waiting: Vec<Waiting> = Vec::new();
    for (nth, (path, text)) in files.iter().enumerate() {
        let written = Waiting::write(path, text, nth);
        waiting.push(written.map_err(|source| NotReplaced {
            path: path.to_path_buf(),
            source,
            done: Vec::new(),
        })?);
    }
    let mut done = Vec::new();
    for (one, (path, _)) in waiting.iter_mut().zip(files) {
        if let Err(source) = one.rename() {
            return Err(NotReplaced {
                path: path.to_path_buf(),
                source,
                done,
            });
        }
        done.push(path.to_path_buf());
    }
    Ok(())
}

/// A text on the disk that is not in its place; it goes away if it never comes there.
struct Waiting {
    temporary: PathBuf,
    target: PathBuf,
    renamed: bool,
}

impl Waiting {
    fn write(path: &Path, text: &str, nth: usize) -> io::Result<Waiting> {
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let there = fs::metadata(&target).ok();
        let name = target
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let temporary = format!(".{name}.sortie-{}-{nth}", std::process::id());
        let temporary = target.with_file_name(temporary);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&temporary)?;
        let waiting = Waiting {
            temporary,
            target,
            renamed: false,
        };
        file.write_all(text.as_bytes())?;
        if let Some(meta) = there {
            keep_owner(&waiting.temporary, &meta);
            fs::set_permissions(&waiting.temporary, meta.permissions())?;
        }
        file.sync_all()?;
        Ok(waiting)
    }

    fn rename(&mut self) -> io::Result<()> {
        fs::rename(&self.temporary, &self.target)?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.renamed {
            // It may never have been there.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Only root may give files away; for anybody else the owner is the same already.
fn keep_owner(path: &Path, meta: &fs::Metadata) {
    use std::os::unix::fs::{MetadataExt, chown};
    let _ = chown(path, Some(meta.uid()), Some(meta.gid()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_file_keeps_its_permissions_and_a_link_stays_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("a"), dir.path().join("l"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("a", &link).unwrap();
        replace(&[(&link, "new")]).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o640
        );
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn where_one_cannot_be_written_none_is() {
        let dir = tempfile::tempdir().unwrap();
        let (file, gone) = (dir.path().join("a"), dir.path().join("no/b"));
        fs::write(&file, "old").unwrap();
        let error = replace(&[(&file, "new"), (&gone, "new")]).unwrap_err();
        assert_eq!((error.path, error.done.len()), (gone, 0));
        assert_eq!(fs::read_to_string(&file).unwrap(), "old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
