//! Which rules a capture needs (ISTIO.md C2, C3).
//!
//! Owns: the chains of the nat table, and their order.
//! Never: writes a rule as text or bytes. The mangle table is `tproxy`'s.
//! Called by: cli (`sortie capture`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::rules::{Action, Chain, Family, Listed, Match, Not, Protocol, Rule, Ruleset, Table};
use super::tproxy;
use crate::model::{CaptureSpec, Chosen, Interception, LOCAL_PORTS, TUNNEL_PORT};

/// The interface to oneself.
pub(super) const LOOPBACK: &str = "lo";

/// The rules of this spec for one family, in the order in which they are looked at.
pub fn rules(spec: &CaptureSpec, family: Family) -> Ruleset {
    let mut chains = Vec::new();
    if spec.interception != Interception::Off {
        if spec.interception == Interception::Tproxy {
            chains.extend(tproxy::chains(spec, family));
        }
        chains.extend(nat(spec, family));
    }
    Ruleset { family, chains }
}

fn nat(spec: &CaptureSpec, family: Family) -> Vec<Listed> {
    let listed = |chain, rules| Listed {
        table: Table::Nat,
        chain,
        rules,
    };
    let redirects = inbound_here(spec);
    let mut chains = vec![
        listed(Chain::Prerouting, prerouting(spec, family, redirects)),
        listed(Chain::Output, output(spec)),
    ];
    if redirects {
        chains.push(listed(Chain::Inbound, inbound(spec)));
    }
    let to = |port| vec![when(tcp(), Action::Redirect(port))];
    chains.push(listed(Chain::InRedirect, to(spec.inbound_port)));
    chains.push(listed(Chain::Redirect, to(spec.outbound_port)));
    chains.push(listed(Chain::OutputChosen, chosen(spec, family)));
    chains
}

/// True where inbound connections are redirected: neither by TPROXY nor not at all.
fn inbound_here(spec: &CaptureSpec) -> bool {
    spec.interception == Interception::Redirect && captures_inbound(spec)
}

/// True where any inbound port is captured.
pub(super) fn captures_inbound(spec: &CaptureSpec) -> bool {
    spec.inbound_ports != Chosen::Only(Vec::new())
}

fn prerouting(spec: &CaptureSpec, family: Family, redirects: bool) -> Vec<Rule> {
    let mut rules = Vec::new();
    for name in &spec.virtual_interfaces {
        let of = |found: Vec<Match>| [vec![Match::In(name.clone())], found].concat();
        let from_guests = excluded(spec, family).chain(included(spec, family));
        rules.extend(from_guests.map(|rule| when(of(rule.matches), rule.action)));
        rules.push(when(of(Vec::new()), Action::Return));
    }
    for name in &spec.exclude_interfaces {
        rules.push(when(vec![Match::In(name.clone())], Action::Return));
    }
    if redirects {
        rules.push(when(tcp(), Action::Jump(Chain::Inbound)));
    }
    rules
}

fn output(spec: &CaptureSpec) -> Vec<Rule> {
    let out = |name: &String| when(vec![Match::Out(name.clone())], Action::Return);
    let mut rules: Vec<Rule> = spec.exclude_interfaces.iter().map(out).collect();
    rules.push(when(Vec::new(), Action::Jump(Chain::OutputChosen)));
    rules
}

fn inbound(spec: &CaptureSpec) -> Vec<Rule> {
    let mut rules: Vec<Rule> = never_inbound(spec)
        .map(|port| when(tcp_to(port), Action::Return))
        .collect();
    rules.extend(inbound_ports(spec).map(|one| when(one, Action::Jump(Chain::InRedirect))));
    rules
}

/// Ports that stay the application's, or the proxy's own.
pub(super) fn never_inbound(spec: &CaptureSpec) -> impl Iterator<Item = u16> {
    let mut ports = vec![TUNNEL_PORT];
    for port in LOCAL_PORTS.iter().chain(&spec.exclude_inbound_ports) {
        if !ports.contains(port) {
            ports.push(*port);
        }
    }
    ports.into_iter()
}

/// What is captured of what comes in, one after another.
pub(super) fn inbound_ports(spec: &CaptureSpec) -> impl Iterator<Item = Vec<Match>> {
    let found: Vec<Vec<Match>> = match &spec.inbound_ports {
        Chosen::All => vec![tcp()],
        Chosen::Only(ports) => ports.iter().map(|port| tcp_to(*port)).collect(),
    };
    found.into_iter()
}

/// ISTIO_OUTPUT, rules 1 to 8 of C2.
fn chosen(spec: &CaptureSpec, family: Family) -> Vec<Rule> {
    let mut rules: Vec<Rule> = excluded_ports(spec).collect();
    rules.push(when(
        vec![
            Match::Out(LOOPBACK.to_owned()),
            Match::From(passthrough(family)),
        ],
        Action::Return,
    ));
    // Who asks for loopback to be captured means the application's calls to itself too.
    let to_itself = !names_loopback(spec);
    let users = spec.uids.iter().map(|id| Owner::User(*id));
    let groups = spec.gids.iter().map(|id| Owner::Group(*id));
    for owner in users.chain(groups) {
        rules.extend(own_traffic(owner, family, to_itself));
    }
    rules.push(when(
        vec![Match::To(localhost(family), Not::Is)],
        Action::Return,
    ));
    rules.extend(excluded_ranges(spec, family));
    rules.extend(included(spec, family));
    rules
}

/// Who a socket may belong to.
#[derive(Clone, Copy)]
pub(super) enum Owner {
    /// This user.
    User(u32),
    /// This group.
    Group(u32),
}

impl Owner {
    pub(super) fn matched(self, not: Not) -> Match {
        match self {
            Owner::User(id) => Match::User(id, not),
            Owner::Group(id) => Match::Group(id, not),
        }
    }
}

/// Rules 3 to 5 of C2: the proxy calling its own pod comes in as another would, the application
/// calling itself is let be, and what else the proxy sends leaves. Without the last, and without
/// 127.0.0.6 before it, a connection would go round for ever.
fn own_traffic(owner: Owner, family: Family, to_itself: bool) -> Vec<Rule> {
    let lo = || Match::Out(LOOPBACK.to_owned());
    let mut rules = vec![when(
        vec![
            lo(),
            Match::To(localhost(family), Not::IsNot),
            Match::Port(Protocol::Tcp, TUNNEL_PORT, Not::IsNot),
            owner.matched(Not::Is),
        ],
        Action::Jump(Chain::InRedirect),
    )];
    if to_itself {
        rules.push(when(vec![lo(), owner.matched(Not::IsNot)], Action::Return));
    }
    rules.push(when(vec![owner.matched(Not::Is)], Action::Return));
    rules
}

/// What is let go, ports and ranges.
fn excluded(spec: &CaptureSpec, family: Family) -> impl Iterator<Item = Rule> {
    excluded_ports(spec).chain(excluded_ranges(spec, family))
}

fn excluded_ports(spec: &CaptureSpec) -> impl Iterator<Item = Rule> {
    let protocols = [Protocol::Tcp, Protocol::Udp];
    spec.exclude_outbound_ports.iter().flat_map(move |port| {
        protocols.map(|protocol| when(vec![Match::Port(protocol, *port, Not::Is)], Action::Return))
    })
}

fn excluded_ranges(spec: &CaptureSpec, family: Family) -> impl Iterator<Item = Rule> {
    of_family(&spec.exclude_outbound_ranges, family)
        .map(|range| when(to_range(range), Action::Return))
}

/// What is captured: ports first, then ranges.
fn included(spec: &CaptureSpec, family: Family) -> impl Iterator<Item = Rule> {
    let mut rules: Vec<Rule> = spec
        .outbound_ports
        .iter()
        .map(|port| when(tcp_to(*port), Action::Jump(Chain::Redirect)))
        .collect();
    match &spec.outbound_ranges {
        Chosen::All => rules.push(when(Vec::new(), Action::Jump(Chain::Redirect))),
        Chosen::Only(ranges) => rules.extend(
            of_family(ranges, family)
                .map(|range| when(to_range(range), Action::Jump(Chain::Redirect))),
        ),
    }
    rules.into_iter()
}

fn of_family(ranges: &[IpNet], family: Family) -> impl Iterator<Item = IpNet> {
    ranges.iter().filter(move |one| family.has(one)).copied()
}

/// A range of all addresses is no condition.
fn to_range(range: IpNet) -> Vec<Match> {
    match range.prefix_len() {
        0 => Vec::new(),
        _ => vec![Match::To(range, Not::Is)],
    }
}

fn names_loopback(spec: &CaptureSpec) -> bool {
    match &spec.outbound_ranges {
        Chosen::All => false,
        Chosen::Only(ranges) => ranges.iter().any(|range| range.addr().is_loopback()),
    }
}

pub(super) fn when(matches: Vec<Match>, action: Action) -> Rule {
    Rule { matches, action }
}

pub(super) fn tcp() -> Vec<Match> {
    vec![Match::Is(Protocol::Tcp)]
}

pub(super) fn tcp_to(port: u16) -> Vec<Match> {
    vec![Match::Port(Protocol::Tcp, port, Not::Is)]
}

/// Where the proxy dials the application from (C2, C3).
pub(super) fn passthrough(family: Family) -> IpNet {
    IpNet::from(match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6)),
    })
}

/// The address of oneself that is never captured.
pub(super) fn localhost(family: Family) -> IpNet {
    IpNet::from(match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Family::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
    })
}
