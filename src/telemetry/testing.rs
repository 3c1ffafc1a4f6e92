//! What a test makes the log say.
//!
//! Owns: one subscriber that lives as long as the test process, and one for each look at the log.
//! Never: is part of the program.
//! Called by: tests of `certs` and `telemetry`.
//!
//! Why one lives on: where no subscriber is alive, a place that logs for the first time on another
//! thread is remembered as never heard, and a look that begins just then would miss its line.

use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use tracing::Dispatch;

/// Bytes that a subscriber wrote.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl io::Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines that `run` makes this thread log, without colour and time.
pub(crate) fn logged(run: impl FnOnce()) -> Vec<String> {
    static ALIVE: OnceLock<Dispatch> = OnceLock::new();
    ALIVE.get_or_init(|| Dispatch::new(tracing_subscriber::fmt().finish()));
    let said = Said::default();
    let writer = said.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .without_time()
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        tracing::callsite::rebuild_interest_cache();
        run();
    });
    let text = String::from_utf8(said.0.lock().unwrap().clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}
