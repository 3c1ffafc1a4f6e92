//! The ways in: which downstream TLS policy and which tables a connection meets that came by an
//! inbound or a gateway listener.
//!
//! Owns: [`Entrance`], and how one is found: by port, then by server name (ISTIO.md G8, P13).
//! Never: shakes hands, or reads a byte.
//! Called by: listener and proxy (find theirs), publish (makes them), admin (shows them).

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{Carries, EntranceAt, EntranceSpec, GatewayPort, HostPattern};
use crate::route::{Names, RouteTable, StreamTable};
use crate::tls::ServerTls;

/// One way in.
pub struct Entrance {
    /// What it was made from; without documents of Secrets, hosts and streams.
    pub spec: EntranceSpec,
    /// Whether and how TLS is spoken with clients.
    pub tls: EntranceTls,
    /// Where requests go.
    pub table: RouteTable,
    /// Where the rest goes.
    pub streams: StreamTable,
    /// Its place among all.
    index: usize,
}

/// Whether and how TLS is spoken with clients, with all that it takes.
#[derive(Clone)]
pub enum EntranceTls {
    /// Clear text.
    Disable,
    /// TLS alone.
    Strict(ServerSide),
    /// TLS of sidecars, and clear text.
    Permissive(ServerSide),
    /// TLS that is not ours to end.
    PassThrough {
        /// Only the TLS of sidecars.
        mesh_only: bool,
    },
}

/// Our side of a handshake with a client.
#[derive(Clone)]
pub enum ServerSide {
    /// It can be done.
    Ready(Arc<ServerTls>),
    /// It cannot, and this is why: every handshake fails (ISTIO.md T17).
    Unavailable(Arc<str>),
}

impl EntranceTls {
    /// Our side of a handshake, where there is one.
    pub fn server(&self) -> Option<&ServerSide> {
        match self {
            EntranceTls::Strict(side) | EntranceTls::Permissive(side) => Some(side),
            EntranceTls::Disable | EntranceTls::PassThrough { .. } => None,
        }
    }
}

/// All ways in. Immutable.
#[derive(Default)]
pub struct Entrances {
    list: Vec<Entrance>,
    by_name: HashMap<Arc<str>, usize>,
    inbound: HashMap<u16, usize>,
    inbound_other: Option<usize>,
    gateways: HashMap<GatewayPort, Servers>,
}

/// The entrances of one gateway port.
#[derive(Default)]
struct Servers {
    clear: Option<usize>,
    named: Names<usize>,
}

impl Entrances {
    /// Orders them. Of two that are for the same connections the first one stays.
    pub fn new(mut list: Vec<Entrance>) -> Entrances {
        let mut entrances = Entrances::default();
        for (index, one) in list.iter_mut().enumerate() {
            one.index = index;
            let name = Arc::clone(&one.spec.name);
            entrances.by_name.entry(name).or_insert(index);
            match &one.spec.at {
                EntranceAt::Inbound(Some(port)) => {
                    entrances.inbound.entry(*port).or_insert(index);
                }
                EntranceAt::Inbound(None) => {
                    entrances.inbound_other.get_or_insert(index);
                }
                EntranceAt::Gateway(port, names) => {
                    let servers = entrances.gateways.entry(*port).or_default();
                    servers.insert(names, index);
                }
            }
        }
        entrances.list = list;
        entrances
    }

    /// Every one of them, in the configuration's order.
    pub fn all(&self) -> &[Entrance] {
        &self.list
    }

    /// The one of this name.
    pub fn named(&self, name: &str) -> Option<&Entrance> {
        self.list.get(*self.by_name.get(name)?)
    }

    /// The one that a connection came in by; `None` where it is gone. Costs a comparison, unless
    /// the configuration has changed since.
    pub fn find(&self, key: &EntranceKey) -> Option<&Entrance> {
        match self.list.get(key.index) {
            Some(one) if one.spec.name == key.name => Some(one),
            _ => self.named(&key.name),
        }
    }

    /// That of connections to a port of the application beside us.
    pub fn inbound(&self, port: u16) -> Option<&Entrance> {
        let index = self.inbound.get(&port).copied().or(self.inbound_other)?;
        self.list.get(index)
    }

    /// That of clear text on a gateway port.
    pub fn clear(&self, port: GatewayPort) -> Option<&Entrance> {
        self.list.get(self.gateways.get(&port)?.clear?)
    }

    /// That of TLS on a gateway port which asks for `name` (in normal form), the most specific
    /// first; without a name only `*` fits (ISTIO.md G8).
    pub fn secure(&self, port: GatewayPort, name: Option<&str>) -> Option<&Entrance> {
        let servers = self.gateways.get(&port)?;
        let index = Names::find(std::iter::once(&servers.named), name, |_| true)?;
        self.list.get(*index)
    }

    /// True where TLS is known on this gateway port at all.
    pub fn has_secure(&self, port: GatewayPort) -> bool {
        let servers = self.gateways.get(&port);
        servers.is_some_and(|servers| !servers.named.is_empty())
    }
}

/// The entrance that a connection came in by, in whatever snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntranceKey {
    name: Arc<str>,
    /// Where it stood in the snapshot that the connection met.
    index: usize,
}

impl EntranceKey {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Servers {
    fn insert(&mut self, names: &[HostPattern], index: usize) {
        match names {
            [] => drop(self.clear.get_or_insert(index)),
            names => names.iter().for_each(|name| self.named.insert(name, index)),
        }
    }
}

impl Entrance {
    /// One that has no place yet.
    pub fn new(
        spec: EntranceSpec,
        tls: EntranceTls,
        table: RouteTable,
        streams: StreamTable,
    ) -> Entrance {
        Entrance {
            spec,
            tls,
            table,
            streams,
            index: 0,
        }
    }

    /// What finds it again in a later snapshot.
    pub fn key(&self) -> EntranceKey {
        EntranceKey {
            name: Arc::clone(&self.spec.name),
            index: self.index,
        }
    }

    /// What is inside, once TLS is off.
    pub fn carries(&self) -> Carries {
        self.spec.carries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DownstreamTls, EntranceHeaders, Place};

    const PORT: GatewayPort = GatewayPort {
        bind: None,
        number: 443,
    };

    fn entrance(name: &str, at: EntranceAt) -> Entrance {
        let spec = EntranceSpec {
            name: name.into(),
            at,
            tls: DownstreamTls::Disable,
            carries: Carries::Http,
            hosts: Vec::new(),
            streams: Vec::new(),
            headers: EntranceHeaders::gateway(),
            service: None,
            broken: None,
            object: None,
            reasons: Default::default(),
            place: Place::default(),
        };
        let streams = StreamTable::default();
        Entrance::new(spec, EntranceTls::Disable, RouteTable::default(), streams)
    }

    fn server(name: &str, hosts: &[&str]) -> Entrance {
        let hosts = hosts.iter().map(|host| HostPattern::parse(host).unwrap());
        entrance(name, EntranceAt::Gateway(PORT, hosts.collect()))
    }

    fn name(found: Option<&Entrance>) -> &str {
        found.map_or("", |entrance| &entrance.spec.name)
    }

    #[test]
    fn p13_a_port_has_its_own_entrance_or_that_of_every_other() {
        let all = Entrances::new(vec![
            entrance("others", EntranceAt::Inbound(None)),
            entrance("80", EntranceAt::Inbound(Some(80))),
            entrance("80 again", EntranceAt::Inbound(Some(80))),
        ]);
        assert_eq!(name(all.inbound(80)), "80");
        assert_eq!(name(all.inbound(81)), "others");
        assert!(Entrances::new(Vec::new()).inbound(80).is_none());
    }

    #[test]
    fn g8_the_most_specific_name_wins_and_only_a_star_is_for_no_name() {
        let all = Entrances::new(vec![
            server("star", &["*"]),
            server("wild", &["*.example", "other.test"]),
            server("exact", &["a.example"]),
            server("late", &["a.example"]),
            server("clear", &[]),
        ]);
        let secure = |host| name(all.secure(PORT, host));
        assert_eq!(secure(Some("a.example")), "exact");
        assert_eq!(secure(Some("b.example")), "wild");
        assert_eq!(secure(Some("other.test")), "wild");
        assert_eq!(secure(Some("example")), "star");
        assert_eq!(secure(None), "star");
        assert_eq!(name(all.clear(PORT)), "clear");
        let named = Entrances::new(vec![server("wild", &["*.example"])]);
        assert!(named.secure(PORT, None).is_none() && named.clear(PORT).is_none());
        let other = GatewayPort { number: 80, ..PORT };
        assert!(named.has_secure(PORT) && !named.has_secure(other));
    }

    #[test]
    fn a_connection_finds_its_entrance_wherever_it_stands_now() {
        let before = Entrances::new(vec![server("a", &["a"]), server("b", &["b"])]);
        let key = before.named("b").unwrap().key();
        assert_eq!((key.name(), name(before.find(&key))), ("b", "b"));
        let after = Entrances::new(vec![server("b", &["b"]), server("a", &["a"])]);
        assert_eq!(name(after.find(&key)), "b");
        assert!(
            Entrances::new(vec![server("a", &["a"])])
                .find(&key)
                .is_none()
        );
    }
}
