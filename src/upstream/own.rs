//! The addresses that are ours, so that no request comes back to us.
//!
//! Owns: [`OwnAddrs`], the list of bound listeners, shared by every upstream, and which addresses
//! were found to be this host's.
//! Never: listens, or sends a packet.
//! Called by: app and listener (keep the list), `dial` (asks it).

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::echo::Echo;
use crate::model::ListenAddr;

/// For so long an address is believed to be still this host's. One that went is found out by the
/// kernel, which lets nothing out to it from a loopback address.
const BELIEVED: Duration = Duration::from_secs(10);
/// So many such addresses are remembered; a pod has two.
const MOST: usize = 32;

/// The bound addresses of this process. Clones share one list.
#[derive(Clone, Debug, Default)]
pub struct OwnAddrs {
    list: Arc<ArcSwap<Vec<ListenAddr>>>,
    /// Addresses of this host, and until when that is believed.
    here: Arc<ArcSwap<Vec<(IpAddr, Instant)>>>,
    /// Connections that were opened to others.
    pub(super) echo: Arc<Echo>,
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

    /// True for an address of this host: nobody else may bind it. That it is one is remembered for
    /// a while; that it is none is asked each time, for what comes to be ours could be captured and
    /// come back to us without end.
    pub(super) fn is_of_this_host(&self, address: IpAddr) -> bool {
        self.is_here(address, Instant::now(), can_be_bound)
    }

    fn is_here(&self, address: IpAddr, now: Instant, ask: impl FnOnce(IpAddr) -> bool) -> bool {
        let believed = |until: Instant| now < until;
        let known = self.here.load();
        if (known.iter()).any(|(one, until)| *one == address && believed(*until)) {
            return true;
        }
        let found = ask(address);
        if found {
            self.here.rcu(|known| {
                let others = known.iter().copied();
                let others = others.filter(|(one, until)| *one != address && believed(*until));
                let mut all = vec![(address, now + BELIEVED)];
                all.extend(others.take(MOST - 1));
                all
            });
        }
        found
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

/// Where the kernel cannot be asked, the answer is yes: the connection fails for the same reason.
fn can_be_bound(address: IpAddr) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    match UdpSocket::bind(SocketAddr::new(address, 0)) {
        Ok(_) => true,
        Err(error) => {
            error.kind() != io::ErrorKind::AddrNotAvailable
                && error.raw_os_error() != Some(EAFNOSUPPORT)
        }
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
    fn p13_that_an_address_is_this_hosts_is_asked_once_in_a_while() {
        let own = OwnAddrs::new();
        let (ip, begin) = ("10.0.0.5".parse().unwrap(), Instant::now());
        let asked = std::cell::Cell::new(0);
        let at = |after: Duration, found: bool| {
            own.is_here(ip, begin + after, |_| {
                asked.set(asked.get() + 1);
                found
            })
        };
        assert!(at(Duration::ZERO, true) && at(Duration::from_secs(9), false));
        assert_eq!(asked.get(), 1);
        assert!(!at(BELIEVED, false));
        assert_eq!(asked.get(), 2);
    }

    #[test]
    fn p13_that_an_address_is_not_this_hosts_is_asked_each_time() {
        let own = OwnAddrs::new();
        let ip = "10.0.0.5".parse().unwrap();
        assert!(!own.is_here(ip, Instant::now(), |_| false));
        assert!(own.is_here(ip, Instant::now(), |_| true));
        for nth in 0..200 {
            let other = IpAddr::from([10, 0, 1, nth]);
            assert!(own.is_here(other, Instant::now(), |_| true));
        }
        assert_eq!(own.here.load().len(), MOST);
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
