//! Whether the configuration files are still what they were.
//!
//! Owns: one hash over the names and contents of every file that a set of sources means.
//! Never: understands a file.
//! Called by: `publish::reload`, at every poll.
//!
//! Why content and not times: a Kubernetes volume swaps whole folders, and a file that was written
//! again with the same content is no change.

use std::path::PathBuf;

use aws_lc_rs::digest;

use crate::config;

/// Hash of what the sources say now. Files that cannot be read count with their error, so that
/// becoming readable is a change.
pub(super) fn fingerprint(sources: &[PathBuf]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
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
            match std::fs::read(&file) {
                Ok(content) => add(&content),
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
