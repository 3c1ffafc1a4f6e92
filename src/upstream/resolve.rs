//! Names to endpoints: static, by DNS, or where the client meant to go.
//!
//! Owns: [`Resolver`].
//! Never: connects.
//! Called by: `Upstream`.

use tokio::runtime::Handle;

/// Looks names up, on the cold runtime. Clones share one.
#[derive(Clone)]
pub struct Resolver {
    handle: Handle,
}

impl Resolver {
    /// The system's resolver (`/etc/resolv.conf`, `/etc/hosts`), working on `cold`. Never fails:
    /// what is wrong with the configuration is said by the look-ups.
    pub fn system(cold: Handle) -> Resolver {
        Resolver { handle: cold }
    }

    /// The runtime on which look-ups and timers run.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}
