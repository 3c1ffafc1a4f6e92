//! Where connections arrive, and how their destination is learnt.
//!
//! Owns: [`ListenerSpec`], [`ListenerKind`].
//! Never: binds anything.
//! Called by: config (makes it), app and listener (open it), proxy (asks the kind).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::config::Place;

/// One address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenerSpec {
    /// Address and port; port 0 lets the kernel choose.
    pub address: SocketAddr,
    /// How the destination of a connection is learnt.
    pub kind: ListenerKind,
    /// Where it was written.
    pub place: Place,
}

/// How a listener learns the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListenerKind {
    /// The authority of each request.
    Direct,
    /// The kernel redirected the connection: SO_ORIGINAL_DST (ISTIO.md C6).
    Capture,
    /// It is for the application beside us (ISTIO.md X14): redirected on its way there, or, with an
    /// address, addressed to us in its place.
    Inbound(Option<SocketAddr>),
    /// A port of Gateway documents (ISTIO.md X13): SNI and authority.
    Gateway(GatewayPort),
}

impl fmt::Display for ListenerKind {
    /// As people say it: `direct`, `captured`, `inbound`, `inbound for 127.0.0.1:8080`, `gateway`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenerKind::Direct => f.write_str("direct"),
            ListenerKind::Capture => f.write_str("captured"),
            ListenerKind::Inbound(None) => f.write_str("inbound"),
            ListenerKind::Inbound(Some(app)) => write!(f, "inbound for {app}"),
            ListenerKind::Gateway(port) => write!(f, "gateway port {}", port.number),
        }
    }
}

/// A port as Gateway documents name it, wherever it is bound (ISTIO.md G11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GatewayPort {
    /// `bind`; `None`: where gateways listen by default.
    pub bind: Option<IpAddr>,
    /// `port.number`.
    pub number: u16,
}
