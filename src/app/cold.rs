//! The one thread of the cold half: reload, DNS refresh, the admin port.
//!
//! Owns: its runtime.
//! Never: serves a request.
//! Called by: `app::start`.

use std::io;
use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::runtime::Handle;
use tokio::sync::watch;

/// The thread, while it runs.
pub(super) struct Cold {
    handle: Handle,
    thread: JoinHandle<()>,
}

impl Cold {
    /// Starts the thread; it ends when `stop` turns true.
    pub(super) fn start(mut stop: watch::Receiver<bool>) -> io::Result<Cold> {
        let (tell, told) = mpsc::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(4)
            .build()?;
        let thread = std::thread::Builder::new()
            .name("cold".to_owned())
            .spawn(move || {
                let _ = tell.send(runtime.handle().clone());
                runtime.block_on(async {
                    // An error means that the sender is gone: the end as well.
                    let _ = stop.wait_for(|stop| *stop).await;
                });
                runtime.shutdown_timeout(std::time::Duration::from_secs(1));
            })?;
        let handle = told
            .recv()
            .map_err(|_| io::Error::other("the cold thread did not start"))?;
        Ok(Cold { handle, thread })
    }

    /// Where cold work is spawned.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// False where the thread has ended.
    pub(super) fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Waits for the end.
    pub(super) fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the cold thread ended in a panic");
        }
    }
}
