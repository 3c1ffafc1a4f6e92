//! Command line to command, exit code: 0, 1 failed, 64 bad usage or configuration.

use std::process::ExitCode;

/// musl's own allocator has one lock for all threads, and the workers would queue at it.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sortie::cli::main()
}
