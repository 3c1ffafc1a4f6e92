//! Where the kernel says that a redirected connection was going.
//!
//! Owns: SO_ORIGINAL_DST, IPv4 and IPv6, and what TPROXY leaves in its place (ISTIO.md C6).
//! Never: guesses; a connection that was not redirected has no original destination.
//! Called by: `listener::connection`.
//!
//! Why a trait: tests say the destination instead of the kernel.

use std::net::{IpAddr, SocketAddr};

use socket2::SockRef;
use tokio::net::TcpStream;

use crate::model::{OriginalDst, PeerAddr};

/// Says where a connection was going before it was redirected.
pub trait OriginalDestination: Send + Sync {
    /// `None` where the connection was not redirected.
    fn of(&self, stream: &TcpStream) -> Option<OriginalDst>;
}

/// Asks the kernel.
pub struct KernelOriginalDst;

impl OriginalDestination for KernelOriginalDst {
    fn of(&self, stream: &TcpStream) -> Option<OriginalDst> {
        let local = stream.local_addr().ok()?;
        let socket = SockRef::from(stream);
        let is_v6 = matches!(local, SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_none());
        let found = if is_v6 {
            socket.original_dst_v6()
        } else {
            socket.original_dst_v4()
        }
        .ok()?;
        let found = found.as_socket()?;
        // Without a redirection the kernel answers with the address that we listen on (C6, O5).
        (found != canonical(local)).then_some(OriginalDst(found))
    }
}

/// Where a connection that TPROXY led here was going: it has kept that address as its own, `socket`.
/// `None` where that is `listener`, to which it was addressed then.
pub(super) fn kept(listener: SocketAddr, socket: SocketAddr) -> Option<OriginalDst> {
    let (listener, socket) = (canonical(listener), canonical(socket));
    let everywhere = listener.ip().is_unspecified();
    let addressed =
        listener.port() == socket.port() && (everywhere || listener.ip() == socket.ip());
    (!addressed).then_some(OriginalDst(socket))
}

/// The client's address, where another socket can have it too: none that means something else to
/// each host, or is of no use without the name of an interface.
pub(super) fn shown(PeerAddr(peer): PeerAddr) -> Option<IpAddr> {
    let ip = peer.ip();
    let is_local = match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    (!ip.is_loopback() && !is_local).then_some(ip)
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn c6_a_connection_that_was_not_redirected_has_no_original_destination() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        assert_eq!(KernelOriginalDst.of(&accepted.unwrap().0), None);
        drop(client);
    }

    #[test]
    fn c6_by_tproxy_the_sockets_own_address_is_the_original_destination() {
        let kept = |listener: &str, socket: &str| {
            let kept = kept(listener.parse().unwrap(), socket.parse().unwrap());
            kept.map(|OriginalDst(to)| to.to_string())
        };
        let to = |text: &str| Some(text.to_owned());
        assert_eq!(kept("[::]:15006", "10.0.0.5:80"), to("10.0.0.5:80"));
        assert_eq!(
            kept("[::]:15006", "[::ffff:10.0.0.5]:80"),
            to("10.0.0.5:80")
        );
        assert_eq!(
            kept("0.0.0.0:15006", "10.0.0.5:15001"),
            to("10.0.0.5:15001")
        );
        assert_eq!(kept("10.0.0.5:80", "10.0.0.6:80"), to("10.0.0.6:80"));
    }

    #[test]
    fn c4_a_clients_address_is_shown_where_it_means_the_same_to_every_socket() {
        let shown = |text: &str| shown(PeerAddr(text.parse().unwrap())).is_some();
        assert!(shown("10.0.0.9:1") && shown("169.254.7.1:1") && shown("[fd00::9]:1"));
        assert!(!shown("127.0.0.1:1") && !shown("[::1]:1") && !shown("[fe80::9]:1"));
    }

    #[test]
    fn c6_by_tproxy_what_was_addressed_to_the_listener_was_not_captured() {
        for (listener, socket) in [
            ("[::]:15006", "10.0.0.5:15006"),
            ("[::]:15006", "[fd00::5]:15006"),
            ("0.0.0.0:15006", "10.0.0.5:15006"),
            ("10.0.0.5:15006", "[::ffff:10.0.0.5]:15006"),
        ] {
            let kept = kept(listener.parse().unwrap(), socket.parse().unwrap());
            assert_eq!(kept, None, "{listener} {socket}");
        }
    }
}
