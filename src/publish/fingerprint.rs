//! Whether the configuration files are still what they were.
//!
//! Owns: one hash over the names and contents of every file that a set of sources means.
//! Never: understands a file.
//! Called by: `publish::reload`, at every poll.
//!
//! Why content and not times: a Kubernetes volume swaps whole folders, and a file that was written
//! again with the same content is no change.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{self, Digest};

use crate::config;

/// Bytes that are read at a time: the room for a file of 100,000 routes would be as much again as all that they need.
const PIECE: usize = 64 * 1024;

/// Hash of what the sources say now. Files that cannot be read count with their error, so that
/// becoming readable is a change.
pub(super) fn fingerprint(sources: &[PathBuf]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut piece = vec![0; PIECE];
    let mut add = |bytes: &[u8]| {
        context.update(&(bytes.len() as u64).to_be_bytes());
        context.update(bytes);
    };
    for source in sources {
        let files = match config::files(source) {
            Ok(files) => files,
            Err(error) => {
                add(error.to_string().as_bytes());
                continue;
            }
        };
        for file in files {
            add(file.as_os_str().as_encoded_bytes());
            match content(&file, &mut piece) {
                Ok(content) => add(content.as_ref()),
                Err(error) => add(error.to_string().as_bytes()),
            }
        }
    }
    let mut hash = [0; 32];
    for (to, from) in hash.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    hash
}

/// Hash of one file, read through `piece`.
fn content(file: &Path, piece: &mut [u8]) -> io::Result<Digest> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut file = File::open(file)?;
    loop {
        match file.read(piece) {
            Ok(0) => return Ok(context.finish()),
            Ok(count) => context.update(piece.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
