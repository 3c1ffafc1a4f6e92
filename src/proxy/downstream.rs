//! What the proxy is given: one connection, and all that is known of it.
//!
//! Owns: plain data.
//! Never: reads from the stream.
//! Called by: `listener::connection` (makes it), `proxy::serve` (uses it).

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::net::TcpStream;

use crate::model::{ListenerKind, OriginalDst, PeerAddr};

/// One accepted connection.
pub struct Downstream {
    /// The socket.
    pub stream: TcpStream,
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
}

/// What the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}
