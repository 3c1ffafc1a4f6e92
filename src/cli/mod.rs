//! One file per subcommand: its arguments and a few lines that call the rooms below.
//!
//! Owns: the command line, exit codes, and how tables look.
//! Never: does work that a room below could do.
//! Called by: main.

pub mod check;
pub mod completions;
pub mod schema;

use std::process::ExitCode;

/// Runs the command that the command line names.
pub fn main() -> ExitCode {
    ExitCode::from(64)
}
