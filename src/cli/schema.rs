//! `sortie schema`: the JSON Schema of the native configuration, for editors.
//!
//! Owns: its arguments.
//! Never: says what the schema is.
//! Called by: cli.

use std::io::Write;
use std::process::ExitCode;

/// Print the JSON Schema of the configuration, for editors
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Prints the schema on standard output.
pub fn run(_args: Args) -> ExitCode {
    let text = format!("{:#}\n", crate::config::schema());
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
