//! What becomes of connections that carry no plain HTTP: TLS by its server name, TCP by address.
//!
//! Owns: [`StreamRoute`] and its conditions, as values.
//! Never: reads a byte of a connection.
//! Called by: config (makes it), route (compiles it).

use std::sync::Arc;

use ipnet::IpNet;

use super::config::Place;
use super::host::HostPattern;
use super::rule::Weighted;

/// Where the connections of one port go that fulfil a condition.
#[derive(Clone, Debug)]
pub struct StreamRoute {
    /// The port that the client meant to connect to; `None`: every port, behind those that name
    /// one and fit (what a refused document governs, ISTIO.md X1).
    pub port: Option<u16>,
    /// Which connections.
    pub on: StreamMatch,
    /// Networks that the client must be in (`sourceSubnet`); empty: any.
    pub sources: Vec<IpNet>,
    /// To one of these, by weight, bytes untouched. At least one.
    pub to: Vec<Weighted>,
    /// A name for logs (`%ROUTE_NAME%`), if any.
    pub name: Option<Arc<str>>,
    /// Kind, namespace and name of the document that says it: `VirtualService ns/name`; `None`: one of
    /// sortie's own.
    pub object: Option<Arc<str>>,
    /// Where it was written.
    pub place: Place,
}

/// Which connections a stream route is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamMatch {
    /// TLS whose ClientHello names one of these, the most specific first (ISTIO.md V17), and which
    /// goes to one of these networks (empty: any).
    Tls {
        /// Names, exact or wildcard. At least one.
        names: Vec<HostPattern>,
        /// `destinationSubnets`.
        destinations: Vec<IpNet>,
    },
    /// Any bytes to one of these networks, by the longest prefix (V18). Nothing is read before the
    /// upstream is connected, so that servers which speak first are heard.
    Tcp {
        /// The service's addresses or `destinationSubnets`; empty: every address of the port (V20).
        destinations: Vec<IpNet>,
    },
    /// Bytes to one of these networks that turned out to be neither HTTP nor TLS that a
    /// [`StreamMatch::Tls`] takes: a port without a declared protocol (E7). By the longest prefix,
    /// behind every other condition; without it they would pass by their upstream's TLS.
    Sniffed {
        /// As in [`StreamMatch::Tcp`].
        destinations: Vec<IpNet>,
    },
}
