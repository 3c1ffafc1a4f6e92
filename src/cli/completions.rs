//! `sortie completions SHELL`: what a shell needs to complete the command line.
//!
//! Owns: its arguments.
//! Never: knows the commands (the caller brings them).
//! Called by: cli.

use std::io::Write;
use std::process::ExitCode;

/// Print the completion script of a shell
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which shell
    pub shell: clap_complete::Shell,
}

/// Prints the script for `command`, the whole command line.
pub fn run(args: Args, mut command: clap::Command) -> ExitCode {
    // Written into memory first: the generator panics where standard output is closed.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "sortie", &mut script);
    match std::io::stdout().write_all(&script) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
