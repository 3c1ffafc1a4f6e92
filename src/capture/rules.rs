//! Rules as values: chains, what a rule looks at, and what it does.
//!
//! Owns: the words that every rendering shares.
//! Never: decides which rules there are (that is `derive`), or how one is written.
//! Called by: `derive`, `tproxy`, and the renderings.

use ipnet::IpNet;

use crate::model::PROXY_ID;

/// Marks packets that go to the proxy by TPROXY, and those that it sends as its client (C4).
pub const INBOUND_MARK: u32 = PROXY_ID;
/// Marks what the proxy sends to its own pod (C4).
pub const OUTBOUND_MARK: u32 = 1338;
/// The routing table that leads marked packets to this machine (C4).
pub const ROUTE_TABLE: u32 = 133;
/// The table that holds all of ours in nftables.
pub const TABLE: &str = "sortie";

/// What the names of chains begin with, ours and istio-iptables'.
pub const PREFIX: &str = "ISTIO_";

/// IPv4 or IPv6: each has rules of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// nftables' word.
    pub fn word(self) -> &'static str {
        match self {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        }
    }

    /// True where the range is of this family.
    pub fn has(self, range: &IpNet) -> bool {
        matches!(
            (self, range),
            (Family::V4, IpNet::V4(_)) | (Family::V6, IpNet::V6(_))
        )
    }
}

/// When a packet is looked at, and with what power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Marks, and TPROXY; before `nat`.
    Mangle,
    /// The first packet of a connection decides for all of it.
    Nat,
}

impl Table {
    /// iptables' word.
    pub fn word(self) -> &'static str {
        match self {
            Table::Mangle => "mangle",
            Table::Nat => "nat",
        }
    }
}

/// A chain, under the name that istio-iptables gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Chain {
    /// What comes in. Built in.
    Prerouting,
    /// What this machine sends. Built in.
    Output,
    /// Which of what comes in is the proxy's.
    Inbound,
    /// To the proxy's inbound listener.
    InRedirect,
    /// To the proxy's outbound listener.
    Redirect,
    /// Which of what is sent is the proxy's.
    OutputChosen,
    /// More of a connection that the proxy has (TPROXY).
    Divert,
    /// To the proxy's inbound listener, addresses kept (TPROXY).
    Tproxy,
}

impl Chain {
    /// Its name in iptables.
    pub fn name(self) -> &'static str {
        match self {
            Chain::Prerouting => "PREROUTING",
            Chain::Output => "OUTPUT",
            Chain::Inbound => "ISTIO_INBOUND",
            Chain::InRedirect => "ISTIO_IN_REDIRECT",
            Chain::Redirect => "ISTIO_REDIRECT",
            Chain::OutputChosen => "ISTIO_OUTPUT",
            Chain::Divert => "ISTIO_DIVERT",
            Chain::Tproxy => "ISTIO_TPROXY",
        }
    }

    /// True for those that iptables has by itself.
    pub fn is_base(self) -> bool {
        matches!(self, Chain::Prerouting | Chain::Output)
    }
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP, which the proxy carries.
    Tcp,
    /// UDP, which it does not.
    Udp,
}

impl Protocol {
    /// The word of both texts.
    pub fn word(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }

    /// IANA's number.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        }
    }
}

/// What a rule looks at. `not`: it must be something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// Comes in by this interface.
    In(String),
    /// Leaves by this interface.
    Out(String),
    /// Is sent from this range.
    From(IpNet),
    /// Is sent to this range.
    To(IpNet, Not),
    /// Is of this protocol.
    Is(Protocol),
    /// Goes to this port of this protocol.
    Port(Protocol, u16, Not),
    /// Its socket is this user's.
    User(u32, Not),
    /// Its socket is this group's.
    Group(u32, Not),
    /// Carries this mark.
    Mark(u32, Not),
    /// Its connection carries this mark.
    ConnectionMark(u32),
    /// Belongs or relates to a connection that there is.
    Established,
}

/// Whether a match is turned round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Not {
    /// As it says.
    Is,
    /// The opposite.
    IsNot,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Back to the chain that jumped here; from a built-in one: on its way.
    Return,
    /// On its way.
    Accept,
    /// Thrown away.
    Drop,
    /// Goes on in that chain.
    Jump(Chain),
    /// To that port of this machine.
    Redirect(u16),
    /// To the socket on that port, addresses kept, with [`INBOUND_MARK`].
    Tproxy(u16),
    /// Gives the packet that mark.
    SetMark(u32),
    /// Gives the connection the packet's mark.
    SaveMark,
    /// Gives the packet its connection's mark.
    RestoreMark,
}

/// One rule: all must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it looks at, in nftables' order.
    pub matches: Vec<Match>,
    /// What it does.
    pub action: Action,
}

/// The rules of one chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// In which table.
    pub table: Table,
    /// Which chain.
    pub chain: Chain,
    /// In order.
    pub rules: Vec<Rule>,
}

/// All rules of a family; empty where nothing is captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    /// Which family.
    pub family: Family,
    /// Its chains; those of a table stand together.
    pub chains: Vec<Listed>,
}

impl Ruleset {
    /// The tables that have chains, in order.
    pub fn tables(&self) -> Vec<Table> {
        let mut tables: Vec<Table> = self.chains.iter().map(|listed| listed.table).collect();
        tables.dedup();
        tables
    }

    /// True where packets are led here by a routing rule of their own (C4).
    pub fn needs_routing(&self) -> bool {
        self.chains.iter().any(|one| one.table == Table::Mangle)
    }
}
