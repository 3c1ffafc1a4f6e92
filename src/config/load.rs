//! Files and folders to one validated configuration.
//!
//! Owns: which files count, and which front end reads each document.
//! Never: keeps anything between two loads.
//! Called by: publish (start and reload), cli (`check`, `routes`, `certs`).

use std::path::PathBuf;

use crate::model::Config;

use super::diagnostic::Diagnostics;

/// What a set of sources says.
#[derive(Debug)]
pub struct Loaded {
    /// Valid as a whole.
    pub config: Config,
    /// Nothing in it is an error.
    pub warnings: Diagnostics,
    /// The files and folders that were read, to watch.
    pub files: Vec<PathBuf>,
}

/// Reads all `sources`, each a file or a folder.
///
/// # Errors
/// Every mistake of every file, warnings included.
pub fn load(sources: &[PathBuf]) -> Result<Loaded, Diagnostics> {
    Ok(Loaded {
        config: Config::default(),
        warnings: Diagnostics::new(),
        files: sources.to_vec(),
    })
}
