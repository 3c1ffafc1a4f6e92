//! Programs of the machine that a test needs, and what happens where one is missing.

use std::io::Write;
use std::path::PathBuf;

/// The program's path. Where it is missing: under `CI=true` the test fails, elsewhere the reason is
/// written past the test runner's capture, and the caller returns.
pub fn needs(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let found = std::env::split_paths(&path)
        .chain(sbin)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file());
    if found.is_none() {
        skip(&format!(
            "{program} is not installed (tests/run installs it)"
        ));
    }
    found
}

/// Says that the test that runs now cannot run here.
pub fn skip(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "CI=true allows no skipped test: {reason}"
    );
    // Not eprintln!, which the runner would swallow: a skipped test must not look like a passed one.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
}
