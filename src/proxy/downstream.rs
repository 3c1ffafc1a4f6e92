//! What the proxy is given: one connection, and all that is known of it.
//!
//! Owns: plain data.
//! Never: reads from the stream.
//! Called by: `listener::connection` (makes it), `proxy::serve` (uses it).

use std::any::Any;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::socket::Socket;
use crate::model::{ListenerKind, OriginalDst, PeerAddr};
use crate::route::Met;
use crate::snapshot::EntranceKey;
use crate::tls::{AcceptFacts, ServerTls};

/// One accepted connection.
pub struct Downstream {
    /// The socket.
    pub stream: Socket,
    /// Bytes that were read to tell the protocol; they come before what the socket holds.
    pub first: Bytes,
    /// The application's address.
    pub peer: PeerAddr,
    /// Our address of it.
    pub local: SocketAddr,
    /// How the destination is learnt.
    pub kind: ListenerKind,
    /// Where the kernel says that it was going.
    pub original_dst: Option<OriginalDst>,
    /// The client's address, where the application is to see that and not ours (TPROXY).
    pub shown: Option<IpAddr>,
    /// The entrance that it came in by; `None`: the mesh's plain side.
    pub entrance: Option<EntranceKey>,
    /// What was agreed with the client in TLS that ends here.
    pub secured: Option<Arc<AcceptFacts>>,
    /// What it was agreed by: when that is replaced, the connection has had its time.
    pub made_with: Option<Weak<ServerTls>>,
    /// It asked again soon after it had been parked.
    pub lively: bool,
    /// What is let go when the connection has ended, whatever it has become by then.
    pub held: Box<dyn Any + Send + Sync>,
}

/// From where to where a connection came.
#[derive(Clone, Copy, Debug)]
pub struct Arrived {
    /// How the destination is learnt.
    pub kind: ListenerKind,
    /// Where the kernel says that it was going.
    pub original_dst: Option<OriginalDst>,
    /// Our address of it.
    pub local: SocketAddr,
    /// The application's address.
    pub peer: PeerAddr,
}

impl Arrived {
    /// What decides where it goes, before a byte of it is known.
    pub(super) fn met(&self) -> Met {
        let mut met = met(self.original_dst, self.local, self.peer);
        if let ListenerKind::Gateway(port) = self.kind {
            met.port = port.number;
        }
        met
    }
}

impl Downstream {
    /// From where to where it came.
    pub fn arrived(&self) -> Arrived {
        Arrived {
            kind: self.kind,
            original_dst: self.original_dst,
            local: self.local,
            peer: self.peer,
        }
    }

    /// What decides where it goes, before a byte of it is known.
    pub(super) fn met(&self) -> Met {
        self.arrived().met()
    }
}

/// The port and address that a connection was meant for: the original destination's, or on a
/// listener that clients address the listener's own port (ISTIO.md 2.0).
pub(super) fn met(original_dst: Option<OriginalDst>, local: SocketAddr, peer: PeerAddr) -> Met {
    let to = original_dst.map(|OriginalDst(to)| to);
    Met {
        port: to.unwrap_or(local).port(),
        destination: to.map(|to| to.ip().to_canonical()),
        source: peer.0.ip().to_canonical(),
    }
}

/// What a connection carries that is not plain HTTP.
#[derive(Debug, PartialEq, Eq)]
pub enum Opaque {
    /// Nothing was read of it.
    Unread,
    /// TLS of the client's own.
    Tls(Hello),
    /// It begins like TLS and is none; why not, in words that follow "the client".
    NotTls(&'static str),
    /// Neither HTTP nor TLS.
    Other,
}

impl Opaque {
    /// The hello of the client's own TLS.
    pub(super) fn into_hello(self) -> Option<Hello> {
        match self {
            Opaque::Tls(hello) => Some(hello),
            Opaque::Unread | Opaque::NotTls(_) | Opaque::Other => None,
        }
    }
}

/// What a TLS client says of itself first, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// SNI, in normal form. `None` where there is none, or where it is an address.
    pub server_name: Option<Box<str>>,
    /// The protocols that it offers by ALPN, each behind its length (RFC 7301 section 3.1).
    pub alpn: Box<[u8]>,
}

/// What the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}
