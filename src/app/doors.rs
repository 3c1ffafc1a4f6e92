//! The ports of our own that carry no traffic: the admin port and the status ports.
//!
//! Owns: binding them, and the words where one is taken.
//! Never: answers on one (that is admin).
//! Called by: `app::start`, `app::sockets` (asks whose an address is).

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;

use super::options::RunOptions;
use super::start::Ground;
use crate::admin::{self, StatusState};
use crate::listener::{self, BindError};
use crate::model::{ListenerKind, ListenerSpec, Place};
use crate::probe::{AppProbes, Prober};

/// Why one cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The kernel does not give it.
    #[error("{flag}: {source}")]
    Bind {
        /// The flag that asks for it.
        flag: &'static str,
        /// The address, the kernel's words, and what to do.
        source: BindError,
    },
    /// Two flags ask for one port.
    #[error("{flag}: {}", taken(*address, first))]
    Twice {
        /// The flag that comes second.
        flag: &'static str,
        /// What it asks for.
        address: SocketAddr,
        /// Who has it.
        first: Door,
    },
    /// A socket that is open cannot be used.
    #[error("a port of our own: {0}")]
    Socket(#[from] io::Error),
}

/// Which flag opened which address.
#[derive(Clone, Copy, Debug)]
pub struct Door {
    /// `--admin` or `--status`.
    pub flag: &'static str,
    /// As bound.
    pub address: SocketAddr,
}

impl Door {
    /// True where a listener on `other` would need the same port of the same address.
    pub(super) fn clashes(&self, other: SocketAddr) -> bool {
        let (here, there) = (self.address.ip(), other.ip());
        other.port() != 0
            && other.port() == self.address.port()
            && (here.to_canonical() == there.to_canonical()
                || here.is_unspecified()
                || there.is_unspecified())
    }
}

/// Why `address` cannot be listened on.
pub(super) fn taken(address: SocketAddr, first: &Door) -> String {
    format!(
        "cannot listen on {address}: {} {} has it; give each a port of its own",
        first.flag, first.address
    )
}

/// Bound, and not yet served.
#[derive(Default)]
pub(super) struct Doors {
    admin: Option<(Door, TcpListener)>,
    status: Vec<(Door, TcpListener)>,
    probes: AppProbes,
    pod_ip: Option<IpAddr>,
}

impl Doors {
    /// Opens those that `options` ask for.
    pub(super) fn bind(options: &RunOptions) -> Result<Doors, DoorError> {
        let mut doors = Doors {
            probes: options.app_probes.clone(),
            pod_ip: options.pod_ip,
            ..Doors::default()
        };
        if let Some(address) = options.admin {
            doors.admin = Some(doors.bind_one("--admin", address)?);
        }
        for address in &options.status {
            let door = doors.bind_one("--status", *address)?;
            doors.status.push(door);
        }
        Ok(doors)
    }

    fn bind_one(
        &self,
        flag: &'static str,
        address: SocketAddr,
    ) -> Result<(Door, TcpListener), DoorError> {
        if let Some(first) = self
            .addresses()
            .into_iter()
            .find(|one| one.clashes(address))
        {
            return Err(DoorError::Twice {
                flag,
                address,
                first,
            });
        }
        let spec = ListenerSpec {
            address,
            kind: ListenerKind::Direct,
            place: Place::default(),
        };
        let bound =
            listener::bind(&spec, 1, false).map_err(|source| DoorError::Bind { flag, source })?;
        let address = bound.address.0;
        let socket = bound.sockets.into_iter().next();
        let socket = socket.ok_or_else(|| io::Error::other("it has no socket"))?;
        Ok((Door { flag, address }, socket))
    }

    /// Every one.
    pub(super) fn addresses(&self) -> Vec<Door> {
        let all = self.admin.iter().chain(&self.status);
        all.map(|(door, _)| *door).collect()
    }

    pub(super) fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|(door, _)| door.address)
    }

    pub(super) fn status_addresses(&self) -> Vec<SocketAddr> {
        self.status.iter().map(|(door, _)| door.address).collect()
    }

    /// Serves the status ports on the cold thread, and gives the admin port back, which needs more.
    pub(super) fn open_status(self, ground: &Ground) -> io::Result<Option<TcpListener>> {
        let (metrics, status) = (Arc::clone(&ground.metrics), Arc::clone(&ground.status));
        let own = ground.context.own.clone();
        let prober = Prober::new(self.probes, self.pod_ip, own);
        let state = StatusState::new(metrics, status, ground.drain.clone(), prober);
        let state = Arc::new(state);
        for (door, socket) in self.status {
            let socket = tokio::net::TcpListener::from_std(socket)?;
            tracing::info!(address = %door.address, "status port");
            let served = admin::serve_status(socket, Arc::clone(&state));
            ground.cold.handle().spawn(served);
        }
        Ok(self.admin.map(|(_, socket)| socket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(address: &str) -> Door {
        Door {
            flag: "--admin",
            address: address.parse().unwrap(),
        }
    }

    #[test]
    fn a_port_clashes_with_the_same_one_of_the_same_address_or_of_all() {
        for (one, other, clash) in [
            ("127.0.0.1:15000", "127.0.0.1:15000", true),
            ("127.0.0.1:15000", "[::]:15000", true),
            ("[::]:15020", "127.0.0.1:15020", true),
            ("127.0.0.1:15000", "127.0.0.2:15000", false),
            ("127.0.0.1:15000", "127.0.0.1:15001", false),
        ] {
            let other = other.parse().unwrap();
            assert_eq!(door(one).clashes(other), clash, "{one} {other}");
        }
    }
}
