//! From which address of ours the application beside us is dialled.
//!
//! Owns: 127.0.0.6 and ::6, whether they are needed, and their ports (ISTIO.md P13, C2, C3).
//! Never: opens a connection.
//! Called by: `dial`.
//!
//! Why an address of its own: rules that capture traffic send what this proxy sends to this pod's
//! own address back to its inbound listener, unless it comes from here.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

/// What the rules exempt.
const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6));

/// The address to dial `endpoint` from; `None`: any will do, for the endpoint is 127.0.0.1 or ::1,
/// which are never captured, or another machine.
pub(super) fn of(endpoint: IpAddr) -> Option<IpAddr> {
    let exempt = [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ];
    if exempt.contains(&endpoint) || !is_ours(endpoint) {
        return None;
    }
    Some(match endpoint {
        IpAddr::V4(_) => V4,
        IpAddr::V6(_) => V6,
    })
}

/// True for an address of this machine: nobody else may bind it. No packet is sent.
fn is_ours(address: IpAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(address, 0)).is_ok()
}

/// Where the search for a free port goes on.
static NEXT: AtomicU16 = AtomicU16::new(0);
/// Ports that clients connect from.
const PORTS: RangeInclusive<u16> = 32768..=60999;
/// So many are tried for one connection.
const TRIES: u16 = 64;

/// Ports to try where the kernel finds none, other ones each time.
pub(super) fn ports() -> impl Iterator<Item = u16> {
    let all = PORTS.end() - PORTS.start() + 1;
    let first = NEXT.fetch_add(TRIES, Relaxed);
    (0..TRIES).map(move |nth| PORTS.start() + first.wrapping_add(nth) % all)
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
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p13_addresses_of_this_machine_need_it_and_others_do_not() {
        let needed = |text: &str| of(text.parse().unwrap());
        assert_eq!(needed("127.0.0.9"), Some(V4));
        for other in ["127.0.0.1", "::1", "192.0.2.1", "2001:db8::1"] {
            assert_eq!(needed(other), None, "{other}");
        }
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
