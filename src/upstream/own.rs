//! The addresses that are ours, so that no request comes back to us.
//!
//! Owns: [`OwnAddrs`], the list of bound listeners, shared by every upstream.
//! Never: binds anything.
//! Called by: app and listener (keep the list), `dial` (asks it).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::model::ListenAddr;

/// The bound addresses of this process. Clones share one list.
#[derive(Clone, Debug, Default)]
pub struct OwnAddrs {
    list: Arc<ArcSwap<Vec<ListenAddr>>>,
}

impl OwnAddrs {
    /// An empty list.
    pub fn new() -> OwnAddrs {
        OwnAddrs::default()
    }

    /// Replaces the list. Every listener counts, captured ones and the admin port too.
    pub fn set(&self, addresses: Vec<ListenAddr>) {
        self.list.store(Arc::new(addresses));
    }

    /// True where a connection to `peer` is one to ourselves, as far as can be told before it is
    /// made: the very address, or a loopback address of a listener that is bound to all.
    pub fn is_own(&self, peer: SocketAddr) -> bool {
        self.any(peer, |_| peer.ip().to_canonical().is_loopback())
    }

    /// The same of an open connection, whose own end is `local`: an address that is both ends' is
    /// one of this host.
    pub fn is_own_connection(&self, peer: SocketAddr, local: SocketAddr) -> bool {
        let (here, there) = (local.ip().to_canonical(), peer.ip().to_canonical());
        self.any(peer, |_| here == there || there.is_loopback())
    }

    fn any(&self, peer: SocketAddr, on_wildcard: impl Fn(IpAddr) -> bool) -> bool {
        let there = peer.ip().to_canonical();
        self.list.load().iter().any(|ListenAddr(own)| {
            let bound = own.ip().to_canonical();
            own.port() == peer.port()
                && (bound == there
                    // Connecting to 0.0.0.0 or :: reaches this host.
                    || there.is_unspecified()
                    || (bound.is_unspecified() && on_wildcard(there)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(list: &[&str]) -> OwnAddrs {
        let own = OwnAddrs::new();
        own.set(
            list.iter()
                .map(|a| ListenAddr(a.parse().unwrap()))
                .collect(),
        );
        own
    }

    #[test]
    fn an_address_that_we_listen_on_is_ours() {
        let own = own(&["127.0.0.1:80", "0.0.0.0:15001"]);
        for peer in [
            "127.0.0.1:80",
            "127.0.0.9:15001",
            "0.0.0.0:80",
            "[::ffff:127.0.0.1]:80",
        ] {
            assert!(own.is_own(peer.parse().unwrap()), "{peer}");
        }
        let here = "10.0.0.5:15001".parse().unwrap();
        assert!(own.is_own_connection(here, "10.0.0.5:40000".parse().unwrap()));
    }

    #[test]
    fn another_port_or_another_host_is_not_ours() {
        let own = own(&["127.0.0.1:80", "0.0.0.0:15001"]);
        for peer in [
            "127.0.0.1:81",
            "127.0.0.2:80",
            "10.0.0.5:15001",
            "10.0.0.5:80",
        ] {
            assert!(!own.is_own(peer.parse().unwrap()), "{peer}");
        }
        let there = "10.0.0.6:15001".parse().unwrap();
        assert!(!own.is_own_connection(there, "10.0.0.5:40000".parse().unwrap()));
    }
}
