//! DialFrom which address of ours the application beside us is dialled.
//!
//! Owns: 127.0.0.6 and ::6, whether they are needed, and their ports (ISTIO.md P13, C2, C3); how to
//! appear as a client (C4).
//! Never: opens a connection.
//! Called by: `dial`.
//!
//! Why an address of its own: rules that capture traffic send what this proxy sends to this pod's
//! own address back to its inbound listener, unless it comes from here.
//!
//! Why ports are looked for here: no crate without unsafe code in ours sets IP_BIND_ADDRESS_NO_PORT,
//! and without it the kernel gives no port away that any connection of that address has.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

use socket2::SockRef;

use super::own::OwnAddrs;
use crate::model::{DialSource, EndpointAddr};

/// What the rules exempt.
const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6));

/// What the rules for TPROXY know our connections to the application by, and lead its answers to a
/// client's address back to us with (ISTIO.md C4).
const MARK: u32 = 1337;

/// What decides from where a connection is dialled.
#[derive(Clone, Copy)]
pub(super) struct Source {
    pub(super) kind: DialSource,
    /// The client whose address it is to come from.
    pub(super) client: Option<IpAddr>,
}

impl From<DialSource> for Source {
    fn from(kind: DialSource) -> Self {
        Source { kind, client: None }
    }
}

/// An address to dial from.
#[derive(Clone, Copy)]
pub(super) struct DialFrom {
    pub(super) address: IpAddr,
    /// It is not one of this machine's.
    pub(super) is_clients: bool,
}

impl DialFrom {
    pub(super) fn ours(address: IpAddr) -> DialFrom {
        DialFrom {
            address,
            is_clients: false,
        }
    }

    pub(super) fn client(address: IpAddr) -> DialFrom {
        DialFrom {
            address,
            is_clients: true,
        }
    }
}

/// The client's address, where an upstream of this kind is to be dialled from it. Never to loopback
/// addresses: the kernel sends no answer from there to another machine.
pub(super) fn client(kind: DialSource, to: EndpointAddr, client: IpAddr) -> Option<IpAddr> {
    let there = to.0.ip();
    let may =
        kind == DialSource::Inbound && !there.is_loopback() && client.is_ipv4() == there.is_ipv4();
    may.then_some(client)
}

/// Lets `socket` have another machine's address, and marks what it sends to `address`.
///
/// # Errors
/// The kernel's: without CAP_NET_ADMIN neither is allowed.
pub(super) fn be_a_client(socket: &SockRef<'_>, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true),
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true),
    }?;
    socket.set_mark(MARK)
}

/// The address to dial `endpoint` from; `None`: any will do, for the endpoint is 127.0.0.1 or ::1,
/// which are never captured, or another machine.
pub(super) fn of(endpoint: IpAddr, own: &OwnAddrs) -> Option<IpAddr> {
    let exempt = [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ];
    if exempt.contains(&endpoint) || !own.is_of_this_host(endpoint) {
        return None;
    }
    Some(match endpoint {
        IpAddr::V4(_) => V4,
        IpAddr::V6(_) => V6,
    })
}

/// Where the search for a free port goes on.
static NEXT: AtomicU16 = AtomicU16::new(0);
/// Ports that clients connect from.
const PORTS: RangeInclusive<u16> = 32768..=60999;
/// Ports that clients do not connect from by themselves: two connections of one client's address and
/// port to the application, its own to us and ours in its name, would be one to the kernel.
const UNUSUAL: RangeInclusive<u16> = 10240..=32767;
/// So many are tried for one connection.
const TRIES: u16 = 64;

/// Ports to try where the kernel finds none, other ones each time.
pub(super) fn ports() -> impl Iterator<Item = u16> {
    some_of(PORTS)
}

/// Ports to try for a connection from a client's address, other ones each time.
pub(super) fn client_ports() -> impl Iterator<Item = u16> {
    some_of(UNUSUAL)
}

fn some_of(ports: RangeInclusive<u16>) -> impl Iterator<Item = u16> {
    let all = ports.end() - ports.start() + 1;
    let first = NEXT.fetch_add(TRIES, Relaxed);
    (0..TRIES).map(move |nth| ports.start() + first.wrapping_add(nth) % all)
}

/// True where another port may do.
pub(super) fn is_taken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable
    )
}

/// Why no connection can be made from `from`, and what to do.
pub(super) fn explain(from: IpAddr, error: io::Error) -> io::Error {
    match (from, error.kind()) {
        (IpAddr::V6(_), io::ErrorKind::AddrNotAvailable) => io::Error::other(format!(
            "the source address {from} cannot be bound: {error}: run \"ip -6 addr add ::6/128 dev \
             lo\", for from another address the connection could be captured and come back"
        )),
        // Every port of it is taken: we are short of something, the application is not at fault.
        (_, io::ErrorKind::AddrInUse) => io::Error::new(
            io::ErrorKind::AddrNotAvailable,
            format!("no port of the source address {from} is free"),
        ),
        (_, io::ErrorKind::PermissionDenied) => io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("the source address {from} cannot be had: {error}: it takes CAP_NET_ADMIN"),
        ),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p13_addresses_of_this_machine_need_it_and_others_do_not() {
        let own = OwnAddrs::new();
        let needed = |text: &str| of(text.parse().unwrap(), &own);
        assert_eq!(needed("127.0.0.9"), Some(V4));
        for other in ["127.0.0.1", "::1", "192.0.2.1", "2001:db8::1"] {
            assert_eq!(needed(other), None, "{other}");
        }
    }

    #[test]
    fn c4_only_the_application_is_dialled_from_its_clients_address() {
        let to = |text: &str| EndpointAddr(text.parse().unwrap());
        let from = |kind, there, client: &str| client_of(kind, to(there), client);
        let ip = "10.0.0.9";
        assert_eq!(
            from(DialSource::Inbound, "10.0.0.5:80", ip),
            Some(ip.into())
        );
        assert_eq!(from(DialSource::Any, "10.0.0.5:80", ip), None);
        assert_eq!(from(DialSource::Inbound, "127.0.0.1:80", ip), None);
        assert_eq!(from(DialSource::Inbound, "[fd00::5]:80", ip), None);
    }

    fn client_of(kind: DialSource, to: EndpointAddr, ip: &str) -> Option<String> {
        client(kind, to, ip.parse().unwrap()).map(|ip| ip.to_string())
    }

    #[test]
    fn c4_ports_in_a_clients_name_are_none_that_it_takes_itself() {
        assert!(client_ports().all(|port| UNUSUAL.contains(&port) && !PORTS.contains(&port)));
    }

    #[test]
    fn p13_a_source_that_is_not_there_is_told_with_the_remedy() {
        let missing = || io::Error::from(io::ErrorKind::AddrNotAvailable);
        let said = explain(V6, missing()).to_string();
        assert!(said.contains("ip -6 addr add ::6/128 dev lo"), "{said}");
        let said = explain(V4, missing()).to_string();
        assert!(!said.contains("ip -6"), "{said}");
        let refused = explain(V4, io::Error::from(io::ErrorKind::ConnectionRefused));
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn p13_each_search_for_a_port_looks_at_others() {
        let (one, two): (Vec<u16>, Vec<u16>) = (ports().collect(), ports().collect());
        assert_eq!(one.len(), usize::from(TRIES));
        assert!(
            one.iter()
                .all(|port| PORTS.contains(port) && !two.contains(port))
        );
    }
}
