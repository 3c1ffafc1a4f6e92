//! Where connections go that carry no plain HTTP: TLS by its server name, TCP by its address.
//!
//! Owns: [`StreamTable`], compiled once: ports, names and networks.
//! Never: reads a byte, or changes after it was built.
//! Called by: publish (`build`), `proxy::arrival` (`wants_bytes`), `proxy::stream` (the finds).
//!
//! Why some ports are never read from before their upstream is connected: where a server speaks
//! first, as MySQL and SMTP do, a client waits for it in silence (ISTIO.md P11).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::rule::RuleProblem;
use super::split::{Choice, Split};
use super::stream_match::{Names, Networks, Rank, Same};
use super::table::{HostsOn, RouteError};
use crate::model::{Place, StreamMatch, StreamRoute, Weighted};
use crate::upstream::Upstream;

/// Which upstream a connection meets. Immutable.
#[derive(Default)]
pub struct StreamTable {
    ports: HashMap<u16, PortStreams>,
    /// Of routes that name no port.
    every: PortStreams,
}

/// What becomes of a connection that met a route.
pub struct StreamTarget {
    /// To one of these.
    split: Split,
    /// `%ROUTE_NAME%`, if the route has one.
    pub name: Option<Arc<str>>,
    /// Where the route was written.
    pub place: Place,
    /// Networks that the client must be in; empty: any.
    sources: Box<[IpNet]>,
}

/// The routes of one port.
#[derive(Default)]
struct PortStreams {
    tls: Names<TlsEntry>,
    /// The networks of TLS routes, for [`StreamTable::wants_bytes`] alone.
    tls_networks: Networks<()>,
    tcp: Networks<Arc<StreamTarget>>,
    sniffed: Networks<Arc<StreamTarget>>,
}

struct TlsEntry {
    destinations: Arc<[IpNet]>,
    target: Arc<StreamTarget>,
}

/// One connection, as far as it is known before its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Met {
    /// The port that it was meant for.
    pub port: u16,
    /// The address that it was meant for; `None` where the client addressed a listener of ours.
    pub destination: Option<IpAddr>,
    /// The client's address.
    pub source: IpAddr,
}

impl StreamTable {
    /// Compiles `routes`. Every mistake is reported, not the first alone.
    ///
    /// # Errors
    /// Every route without a destination that could be chosen.
    pub fn build(
        routes: &[StreamRoute],
        upstreams: &HashMap<Arc<str>, Arc<Upstream>>,
    ) -> Result<StreamTable, Vec<RouteError>> {
        let mut table = StreamTable::default();
        let mut errors = Vec::new();
        for route in routes {
            match split(&route.to, upstreams) {
                Ok(split) => {
                    let target = StreamTarget {
                        split,
                        name: route.name.clone(),
                        place: route.place.clone(),
                        sources: route.sources.clone().into(),
                    };
                    table.insert(route, Arc::new(target));
                }
                Err(problem) => errors.push(RouteError {
                    place: route.place.clone(),
                    problem: problem.into(),
                }),
            }
        }
        for streams in table.ports.values_mut().chain([&mut table.every]) {
            streams.tls_networks.sort();
            streams.tcp.sort();
            streams.sniffed.sort();
        }
        if errors.is_empty() {
            Ok(table)
        } else {
            Err(errors)
        }
    }

    fn insert(&mut self, route: &StreamRoute, target: Arc<StreamTarget>) {
        let streams = match route.port {
            Some(port) => self.ports.entry(port).or_default(),
            None => &mut self.every,
        };
        match &route.on {
            StreamMatch::Tls {
                names,
                destinations,
            } => {
                streams.tls_networks.insert(destinations, ());
                let destinations: Arc<[IpNet]> = destinations.clone().into();
                for name in names {
                    let entry = TlsEntry {
                        destinations: Arc::clone(&destinations),
                        target: Arc::clone(&target),
                    };
                    streams.tls.insert(name, entry);
                }
            }
            StreamMatch::Tcp { destinations } => streams.tcp.insert(destinations, target),
            StreamMatch::Sniffed { destinations } => streams.sniffed.insert(destinations, target),
        }
    }

    /// True where nothing is routed but HTTP.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty() && self.every.is_empty()
    }

    /// What is for this very port, then what is for every port.
    fn layers(&self, port: u16) -> impl Iterator<Item = (bool, &PortStreams)> {
        let own = self.ports.get(&port).map(|streams| (true, streams));
        own.into_iter().chain(std::iter::once((false, &self.every)))
    }

    /// Whether the first bytes must be read to know where a connection goes. They need not where
    /// TCP alone is served there (V18), and where nothing is: no byte would change that.
    ///
    /// The more specific network decides, as the listener of `VIP:port` is asked before the one of
    /// `0.0.0.0:port` (ISTIO.md C7, V20); between equals the bytes are read. `hosts`: what the
    /// table of requests has for this port.
    pub fn wants_bytes(&self, met: Met, hosts: HostsOn) -> bool {
        let http = match hosts {
            HostsOn::This => Some(Rank::whole(true)),
            HostsOn::Any => Some(Rank::whole(false)),
            HostsOn::None => None,
        };
        let to = met.destination;
        let bytes = self
            .layers(met.port)
            .flat_map(|(own, streams)| {
                let sniffed = streams.sniffed.best(to, own, |target| target.takes(&met));
                let tls = streams.tls_networks.best(to, own, |()| true);
                [sniffed.map(|(rank, _)| rank), tls.map(|(rank, _)| rank)]
            })
            .flatten()
            .chain(http)
            .max();
        match (bytes, self.best_tcp(&met)) {
            (Some(bytes), Some((tcp, _))) => bytes >= tcp,
            (bytes, _) => bytes.is_some(),
        }
    }

    /// The route of TLS that asks for `name`; without a name only `*` fits (ISTIO.md V17): the
    /// most specific name first, and for one name a route for the port before one for every port.
    pub fn find_tls(&self, met: Met, name: Option<&str>) -> Option<&StreamTarget> {
        let own = self.ports.get(&met.port);
        let layers = own.into_iter().chain([&self.every]);
        let found = Names::find(layers.map(|streams| &streams.tls), name, |entry| {
            let there = match met.destination {
                Some(to) if !entry.destinations.is_empty() => entry
                    .destinations
                    .iter()
                    .any(|network| network.contains(&to)),
                // A client that addresses us says nothing of networks.
                _ => true,
            };
            there && entry.target.takes(&met)
        });
        found.map(|entry| entry.target.as_ref())
    }

    /// The route of a connection that is neither HTTP nor TLS of a name with a route, or that
    /// nothing was read of: by the longest prefix, then by what is for the whole port (V18).
    ///
    /// Where the client addressed us, a route for the port takes it, if there is but one.
    pub fn find_tcp(&self, met: Met) -> Option<&StreamTarget> {
        let sniffed = self.layers(met.port).filter_map(|(own, streams)| {
            streams
                .sniffed
                .best(met.destination, own, |target| target.takes(&met))
        });
        let sniffed = sniffed.max_by_key(|(rank, _)| *rank);
        match (self.best_tcp(&met), sniffed) {
            (Some((tcp, _)), Some((rank, target))) if rank > tcp => Some(target),
            (Some((_, target)), _) | (None, Some((_, target))) => Some(target),
            (None, None) => None,
        }
    }

    fn best_tcp(&self, met: &Met) -> Option<(Rank, &Arc<StreamTarget>)> {
        let found = self.layers(met.port).filter_map(|(own, streams)| {
            streams
                .tcp
                .best(met.destination, own, |target| target.takes(met))
        });
        found.max_by_key(|(rank, _)| *rank)
    }

    /// The ports on which TLS for `name` is routed, for messages.
    pub fn ports_of(&self, name: &str) -> Vec<u16> {
        let fits = |streams: &PortStreams| {
            Names::find([&streams.tls].into_iter(), Some(name), |_| true).is_some()
        };
        let fit = self.ports.iter().filter(|(_, streams)| fits(streams));
        let mut ports: Vec<u16> = fit.map(|(port, _)| *port).collect();
        ports.sort_unstable();
        ports
    }
}

impl PortStreams {
    fn is_empty(&self) -> bool {
        self.tls.is_empty() && self.tcp.is_empty() && self.sniffed.is_empty()
    }
}

impl StreamTarget {
    /// The upstream for one connection.
    pub fn pick(&self) -> &Arc<Upstream> {
        &self.split.pick().upstream
    }

    /// Every upstream that may be picked, with its share.
    pub fn split(&self) -> &Split {
        &self.split
    }

    /// Every upstream that may be picked.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.split.all().map(|(choice, _)| &choice.upstream)
    }

    /// The client is one that it is for.
    fn takes(&self, met: &Met) -> bool {
        self.sources.is_empty() || self.sources.iter().any(|from| from.contains(&met.source))
    }
}

impl Same for Arc<StreamTarget> {
    fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(self, other)
    }
}

impl Same for () {
    fn same(&self, (): &Self) -> bool {
        true
    }
}

fn split(
    shares: &[Weighted],
    upstreams: &HashMap<Arc<str>, Arc<Upstream>>,
) -> Result<Split, RuleProblem> {
    let mut found = Vec::with_capacity(shares.len());
    for share in shares {
        match upstreams.get(&share.upstream) {
            Some(upstream) => found.push((Choice::of(upstream), share.weight)),
            None => return Err(RuleProblem::UnknownUpstream(Arc::clone(&share.upstream))),
        }
    }
    Split::new(found).ok_or(RuleProblem::NoShare)
}

#[cfg(test)]
mod tests {
    use super::super::tests::upstreams;
    use super::*;
    use crate::model::HostPattern;

    const NAMES: &[&str] = &["a", "b", "c", "d"];

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        let net = |text: &&str| match text.parse() {
            Ok(net) => net,
            Err(_) => IpNet::from(text.parse::<IpAddr>().unwrap()),
        };
        texts.iter().map(net).collect()
    }

    fn route(port: u16, on: StreamMatch, to: &str) -> StreamRoute {
        StreamRoute {
            port: (port > 0).then_some(port),
            on,
            sources: Vec::new(),
            to: vec![Weighted::new(to, 1)],
            name: None,
            object: None,
            place: Place::default(),
        }
    }

    /// Port 0 stands for every port.
    fn tls(port: u16, names: &[&str], to: &str) -> StreamRoute {
        let names = names.iter().map(|n| HostPattern::parse(n).unwrap());
        let on = StreamMatch::Tls {
            names: names.collect(),
            destinations: Vec::new(),
        };
        route(port, on, to)
    }

    fn tls_to(port: u16, names: &[&str], networks: &[&str], to: &str) -> StreamRoute {
        let mut route = tls(port, names, to);
        if let StreamMatch::Tls { destinations, .. } = &mut route.on {
            *destinations = nets(networks);
        }
        route
    }

    fn tcp(port: u16, networks: &[&str], to: &str) -> StreamRoute {
        let destinations = nets(networks);
        route(port, StreamMatch::Tcp { destinations }, to)
    }

    fn sniffed(port: u16, networks: &[&str], to: &str) -> StreamRoute {
        let destinations = nets(networks);
        route(port, StreamMatch::Sniffed { destinations }, to)
    }

    fn table(routes: &[StreamRoute]) -> StreamTable {
        StreamTable::build(routes, &upstreams(NAMES)).unwrap_or_else(|_| panic!("must build"))
    }

    fn met(port: u16, destination: &str) -> Met {
        Met {
            port,
            destination: destination.parse().ok(),
            source: "10.9.9.9".parse().unwrap(),
        }
    }

    fn name(found: Option<&StreamTarget>) -> &str {
        found.map_or("-", |target| &target.pick().spec().name)
    }

    #[test]
    fn v17_an_exact_name_beats_every_wildcard_and_the_longest_wildcard_the_others() {
        let table = table(&[
            tls(443, &["*"], "d"),
            tls(443, &["*.example"], "c"),
            tls(443, &["*.b.example"], "b"),
            tls(443, &["a.b.example"], "a"),
        ]);
        let find = |sni| name(table.find_tls(met(443, "1.2.3.4"), sni)).to_owned();
        assert_eq!(find(Some("a.b.example")), "a");
        assert_eq!(find(Some("x.y.b.example")), "b");
        assert_eq!(find(Some("b.example")), "c");
        assert_eq!(find(Some("other")), "d");
        assert_eq!(find(None), "d");
    }

    #[test]
    fn v17_a_name_is_routed_on_its_own_port_alone_and_no_name_needs_a_star() {
        let table = table(&[tls(443, &["a.example"], "a")]);
        assert_eq!(name(table.find_tls(met(443, ""), Some("a.example"))), "a");
        assert_eq!(name(table.find_tls(met(8443, ""), Some("a.example"))), "-");
        assert_eq!(name(table.find_tls(met(443, ""), Some("b.example"))), "-");
        assert_eq!(name(table.find_tls(met(443, ""), None)), "-");
        assert_eq!(table.ports_of("a.example"), [443]);
    }

    #[test]
    fn v17_destinations_and_sources_are_conditions_and_the_first_that_holds_decides() {
        let mut picky = tls_to(443, &["a.example"], &["10.0.0.0/8"], "a");
        picky.sources = nets(&["192.0.2.0/24"]);
        let table = table(&[
            picky,
            tls_to(443, &["a.example"], &["10.1.0.0/16"], "b"),
            tls(443, &["*.example"], "c"),
        ]);
        let find = |to: &str, source: &str| {
            let source = source.parse().unwrap();
            let met = Met {
                source,
                ..met(443, to)
            };
            name(table.find_tls(met, Some("a.example"))).to_owned()
        };
        assert_eq!(find("10.1.2.3", "192.0.2.7"), "a");
        assert_eq!(find("10.1.2.3", "192.0.3.7"), "b");
        assert_eq!(find("10.2.2.3", "192.0.3.7"), "c");
        // Whoever addresses a listener of ours says nothing of networks.
        assert_eq!(find("", "127.0.0.1"), "b");
    }

    #[test]
    fn v18_the_longest_prefix_wins_and_then_the_whole_port() {
        let table = table(&[
            tcp(3306, &[], "d"),
            tcp(3306, &["10.0.0.0/8"], "c"),
            tcp(3306, &["10.1.0.0/16", "2001:db8::/32"], "b"),
            tcp(3306, &["10.1.1.1"], "a"),
            tcp(3306, &["10.1.1.1"], "b"),
        ]);
        let find = |to| name(table.find_tcp(met(3306, to))).to_owned();
        assert_eq!(find("10.1.1.1"), "a");
        assert_eq!(find("10.1.1.2"), "b");
        assert_eq!(find("10.2.1.1"), "c");
        assert_eq!(find("2001:db8::7"), "b");
        assert_eq!(find("192.0.2.1"), "d");
        assert_eq!(name(table.find_tcp(met(3307, "10.1.1.1"))), "-");
    }

    #[test]
    fn v18_a_source_that_does_not_fit_leaves_the_connection_to_the_next_route() {
        let mut first = tcp(3306, &["10.1.1.1"], "a");
        first.sources = nets(&["192.0.2.0/24"]);
        let table = table(&[first, tcp(3306, &["10.1.1.1"], "b")]);
        assert_eq!(name(table.find_tcp(met(3306, "10.1.1.1"))), "b");
    }

    #[test]
    fn a_client_that_addresses_us_meets_the_only_route_of_the_port_and_no_ambiguous_one() {
        let only = table(&[tcp(3306, &["10.1.1.1", "10.1.1.2"], "a")]);
        assert_eq!(name(only.find_tcp(met(3306, ""))), "a");
        assert!(!only.wants_bytes(met(3306, ""), HostsOn::Any));
        let two = table(&[tcp(3306, &["10.1.1.1"], "a"), tcp(3306, &["10.1.1.2"], "b")]);
        assert_eq!(name(two.find_tcp(met(3306, ""))), "-");
        let whole = table(&[tcp(3306, &["10.1.1.1"], "a"), tcp(3306, &[], "b")]);
        assert_eq!(name(whole.find_tcp(met(3306, ""))), "b");
        let every = table(&[tcp(0, &["10.1.1.1"], "a")]);
        assert_eq!(name(every.find_tcp(met(3306, ""))), "-");
    }

    #[test]
    fn v20_a_port_of_tcp_alone_is_never_read_from_first() {
        let table = table(&[
            tcp(3306, &[], "a"),
            tcp(443, &["10.1.1.1"], "a"),
            tls(443, &["a.example"], "b"),
        ]);
        assert!(!table.wants_bytes(met(3306, "192.0.2.1"), HostsOn::None));
        assert!(!table.wants_bytes(met(3306, "192.0.2.1"), HostsOn::Any));
        // The virtual address of a TCP service is its own, whatever else is on the port.
        assert!(!table.wants_bytes(met(443, "10.1.1.1"), HostsOn::This));
        assert_eq!(name(table.find_tcp(met(443, "10.1.1.1"))), "a");
    }

    #[test]
    fn v20_a_port_with_http_or_tls_is_read_from_and_one_with_nothing_is_not() {
        let routes = table(&[tls(443, &["a.example"], "b"), tcp(80, &[], "a")]);
        assert!(routes.wants_bytes(met(443, "192.0.2.1"), HostsOn::None));
        assert!(routes.wants_bytes(met(80, "192.0.2.1"), HostsOn::This));
        assert!(routes.wants_bytes(met(9, "192.0.2.1"), HostsOn::Any));
        assert!(!routes.wants_bytes(met(9, "192.0.2.1"), HostsOn::None));
        // Both on one virtual address: the name decides first.
        let same = table(&[
            tcp(443, &["10.1.1.1"], "a"),
            tls_to(443, &["a.example"], &["10.1.1.1"], "b"),
        ]);
        assert!(same.wants_bytes(met(443, "10.1.1.1"), HostsOn::None));
    }

    #[test]
    fn e7_a_port_without_a_protocol_is_read_from_and_its_other_bytes_go_by_address() {
        let table = table(&[sniffed(9000, &["10.1.1.1"], "a"), tcp(9000, &[], "b")]);
        assert!(table.wants_bytes(met(9000, "10.1.1.1"), HostsOn::None));
        assert_eq!(name(table.find_tcp(met(9000, "10.1.1.1"))), "a");
        assert!(!table.wants_bytes(met(9000, "10.1.1.2"), HostsOn::None));
        assert_eq!(name(table.find_tcp(met(9000, "10.1.1.2"))), "b");
    }

    #[test]
    fn x1_what_is_for_every_port_comes_behind_what_is_for_the_port_and_no_less_specific_name() {
        let table = table(&[
            tls(0, &["a.example"], "d"),
            tcp(0, &["10.1.1.1"], "d"),
            tls(443, &["*.example"], "a"),
            tls(8443, &["a.example"], "b"),
            tcp(3306, &[], "c"),
        ]);
        assert_eq!(name(table.find_tls(met(8443, ""), Some("a.example"))), "b");
        assert_eq!(name(table.find_tls(met(443, ""), Some("a.example"))), "d");
        assert_eq!(name(table.find_tls(met(9, ""), Some("a.example"))), "d");
        assert!(table.wants_bytes(met(9, "192.0.2.1"), HostsOn::None));
        assert_eq!(name(table.find_tcp(met(3306, "10.1.1.1"))), "d");
        assert_eq!(name(table.find_tcp(met(3306, "10.1.1.2"))), "c");
        assert!(!table.wants_bytes(met(3306, "10.1.1.2"), HostsOn::Any));
    }

    #[test]
    fn v10_weights_are_shares_and_a_route_that_leads_nowhere_is_refused() {
        let mut route = tls(443, &["a.example"], "a");
        route.to = vec![Weighted::new("a", 0), Weighted::new("b", 5)];
        let built = table(&[route.clone()]);
        assert_eq!(name(built.find_tls(met(443, ""), Some("a.example"))), "b");
        route.to = vec![Weighted::new("nobody", 1)];
        let mut empty = tcp(1, &[], "a");
        empty.to.clear();
        let errors = StreamTable::build(&[route, empty], &upstreams(NAMES));
        let errors = errors.err().unwrap();
        let words: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(words.len(), 2, "{words:?}");
        assert!(
            words[0].contains("there is no upstream \"nobody\""),
            "{words:?}"
        );
    }
}
