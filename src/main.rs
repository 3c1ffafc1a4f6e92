//! Command line to command, exit code: 0, 1 failed, 64 bad usage or configuration.

use std::process::ExitCode;

fn main() -> ExitCode {
    sortie::cli::main()
}
