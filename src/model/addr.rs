//! Socket addresses that cannot be mistaken for one another.
//!
//! Owns: one newtype for each role that a socket address plays.
//! Never: resolves a name.
//! Called by: every room that sees a socket.
//!
//! Why newtypes: all four are a `SocketAddr`, and mixing two of them up is a loop or a leak.

use std::fmt;
use std::net::SocketAddr;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub SocketAddr);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

address!(
    /// The far end of an accepted socket: the application.
    PeerAddr
);
address!(
    /// An address that one of our listeners is bound to.
    ListenAddr
);
address!(
    /// Where the client meant to connect before the kernel redirected it (ISTIO.md C6).
    OriginalDst
);
address!(
    /// One address of an upstream.
    EndpointAddr
);
