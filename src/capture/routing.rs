//! What stands beside the rules: the address ::6, and the way of marked packets (rtnetlink).
//!
//! Owns: those three things, how each is made, taken away and looked for.
//! Never: decides which are wanted; that follows from the rules.
//! Called by: `apply`, `check`.
//!
//! Why ::6: all of 127.0.0.0/8 is an IPv4 host's own, of IPv6 only ::1; what the proxy dials the
//! application from must be made (ISTIO.md C3).

use std::net::Ipv6Addr;

use rustix::io::Errno;

use super::attr::{Attributes, Message, attributes, value};
use super::rules::{Family, INBOUND_MARK, ROUTE_TABLE, Ruleset};
use super::socket::{ACKNOWLEDGE, CREATE, DUMP, EXCLUSIVE, REQUEST, Socket, SocketError};

/// RTM_*.
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;
const NEW_RULE: u16 = 32;
const DELETE_RULE: u16 = 33;
const GET_RULE: u16 = 34;
/// The loopback is the first interface of every namespace (LOOPBACK_IFINDEX).
const LOOPBACK: u32 = 1;
/// IFA_ADDRESS, IFA_LOCAL; and IFA_F_NODAD: nobody else can have it.
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const NO_DETECTION: u8 = 2;
/// Our rule's place before those of the main table: by it ours is known from another's.
const PRIORITY: u32 = 1337;
/// FRA_PRIORITY, FRA_FWMARK, FRA_TABLE; and FR_ACT_TO_TBL.
const PREFERENCE: u16 = 6;
const MARK: u16 = 10;
const TABLE: u16 = 15;
const TO_TABLE: u8 = 1;
/// RTA_OIF, RTA_TABLE; RTN_LOCAL, RT_SCOPE_HOST, and RTPROT_BOOT, as ip(8) says of its own.
const OUT: u16 = 4;
const ROUTE_OF: u16 = 15;
const KIND_LOCAL: u8 = 2;
const SCOPE_HOST: u8 = 254;
const BY_HAND: u8 = 3;
/// struct ifaddrmsg; struct rtmsg, and struct fib_rule_hdr, which is like it.
const ADDRESS_FIXED: usize = 8;
const ROUTE_FIXED: usize = 12;

/// The address of the proxy towards the application.
const SIX: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);

/// One thing beside the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// `ip -6 addr add ::6/128 dev lo`.
    Address,
    /// `ip route add local default dev lo table 133`.
    Route(Family),
    /// `ip rule add fwmark 1337 lookup 133`.
    Rule(Family),
}

impl std::fmt::Display for Beside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Beside::Address => write!(f, "address {SIX}/128 on lo"),
            Beside::Route(family) => {
                write!(
                    f,
                    "{} route local default dev lo table {ROUTE_TABLE}",
                    family.word()
                )
            }
            Beside::Rule(family) => {
                write!(
                    f,
                    "{} rule fwmark {INBOUND_MARK} lookup {ROUTE_TABLE}",
                    family.word()
                )
            }
        }
    }
}

/// Everything that there can be.
pub const ALL: [Beside; 5] = [
    Beside::Address,
    Beside::Route(Family::V4),
    Beside::Rule(Family::V4),
    Beside::Route(Family::V6),
    Beside::Rule(Family::V6),
];

/// What these rules need and this machine can have: without IPv6 on the loopback, none of it. What
/// comes in by IPv6 is then refused, and what goes out is captured.
pub fn needed(rulesets: &[Ruleset]) -> Vec<Beside> {
    let six = super::host::loopback_has_ipv6();
    let can = |one: &Beside| six || !one.is_of_ipv6();
    wanted(rulesets).into_iter().filter(can).collect()
}

/// The commands of ip(8) that make what these rules need.
pub fn commands(rulesets: &[Ruleset]) -> Vec<String> {
    wanted(rulesets).into_iter().map(Beside::command).collect()
}

fn wanted(rulesets: &[Ruleset]) -> Vec<Beside> {
    let of = |family: Family| {
        let mut found = rulesets.iter().filter(move |one| one.family == family);
        move |wanted: fn(&Ruleset) -> bool| found.any(wanted)
    };
    let needs = |one: &Beside| match one {
        Beside::Address => of(Family::V6)(|rules| !rules.chains.is_empty()),
        Beside::Route(family) | Beside::Rule(family) => of(*family)(Ruleset::needs_routing),
    };
    ALL.into_iter().filter(needs).collect()
}

impl Beside {
    fn is_of_ipv6(self) -> bool {
        !matches!(self, Beside::Route(Family::V4) | Beside::Rule(Family::V4))
    }

    /// The command of ip(8) that makes it.
    fn command(self) -> String {
        let of = |family| match family {
            Family::V4 => "ip",
            Family::V6 => "ip -6",
        };
        match self {
            Beside::Address => format!("ip -6 addr add {SIX}/128 dev lo"),
            Beside::Route(family) => {
                format!(
                    "{} route add local default dev lo table {ROUTE_TABLE}",
                    of(family)
                )
            }
            Beside::Rule(family) => format!(
                "{} rule add pref {PRIORITY} fwmark {INBOUND_MARK} lookup {ROUTE_TABLE}",
                of(family)
            ),
        }
    }

    /// Makes it. True where it was not there before.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn add(self, socket: &Socket) -> Result<bool, SocketError> {
        let flags = REQUEST | ACKNOWLEDGE | CREATE | EXCLUSIVE;
        match socket.acknowledged(&self.message(true, flags), 1) {
            Ok(()) => Ok(true),
            Err(SocketError::Refused { errno, .. }) if errno == Errno::EXIST => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes it away. True where it was there.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn remove(self, socket: &Socket) -> Result<bool, SocketError> {
        match socket.acknowledged(&self.message(false, REQUEST | ACKNOWLEDGE), 1) {
            Ok(()) => Ok(true),
            Err(SocketError::Refused { errno, .. }) if is_absent(errno) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// True where it is there.
    ///
    /// # Errors
    /// The kernel's refusal, or an answer that makes no sense.
    pub fn is_there(self, socket: &Socket) -> Result<bool, SocketError> {
        let (kind, family, fixed) = match self {
            Beside::Address => (GET_ADDRESS, Family::V6, ADDRESS_FIXED),
            Beside::Route(family) => (GET_ROUTE, family, ROUTE_FIXED),
            Beside::Rule(family) => (GET_RULE, family, ROUTE_FIXED),
        };
        let mut front = vec![super::wire::number(family)];
        front.resize(fixed, 0);
        let message = Message::new(kind, REQUEST | DUMP, 1, &front).finish();
        let mut there = false;
        let listed = socket.list(&message, |one| {
            let found = attributes(one.body, fixed)?;
            there |= self.is(one.body, &found);
            Ok(())
        });
        match listed {
            Err(SocketError::Refused { errno, .. }) if is_absent(errno) => Ok(false),
            listed => listed.map(|()| there),
        }
    }

    /// True where the kernel's entry is this.
    fn is(self, body: &[u8], found: &[(u16, &[u8])]) -> bool {
        let own = |kind, wanted: u32| value(found, kind) == Some(&wanted.to_ne_bytes()[..]);
        match (self, body) {
            (Beside::Address, [_, 128, _, _, index @ ..]) => {
                index.starts_with(&LOOPBACK.to_ne_bytes())
                    && value(found, ADDRESS) == Some(&SIX.octets()[..])
            }
            (Beside::Route(_), [_, 0, _, _, _, _, _, KIND_LOCAL, ..]) => {
                own(ROUTE_OF, ROUTE_TABLE) && own(OUT, LOOPBACK)
            }
            (Beside::Rule(_), [_, 0, 0, 0, _, _, _, TO_TABLE, ..]) => {
                own(MARK, INBOUND_MARK) && own(TABLE, ROUTE_TABLE) && own(PREFERENCE, PRIORITY)
            }
            _ => false,
        }
    }

    fn message(self, add: bool, flags: u16) -> Vec<u8> {
        let kind = |new, delete| if add { new } else { delete };
        let own = u32::to_ne_bytes;
        let (kind, front, inside) = match self {
            Beside::Address => {
                let [a, b, c, d] = own(LOOPBACK);
                let front = vec![number_of(Family::V6), 128, NO_DETECTION, 0, a, b, c, d];
                let inside = Attributes::new()
                    .with(LOCAL, &SIX.octets())
                    .with(ADDRESS, &SIX.octets());
                (kind(NEW_ADDRESS, DELETE_ADDRESS), front, inside)
            }
            Beside::Route(family) => {
                let front = vec![number_of(family), 0, 0, 0, table(), BY_HAND, SCOPE_HOST];
                let front = [front, vec![KIND_LOCAL, 0, 0, 0, 0]].concat();
                let inside = Attributes::new()
                    .with(ROUTE_OF, &own(ROUTE_TABLE))
                    .with(OUT, &own(LOOPBACK));
                (kind(NEW_ROUTE, DELETE_ROUTE), front, inside)
            }
            Beside::Rule(family) => {
                let front = vec![number_of(family), 0, 0, 0, table(), 0, 0, TO_TABLE];
                let front = [front, vec![0; 4]].concat();
                let inside = Attributes::new()
                    .with(PREFERENCE, &own(PRIORITY))
                    .with(MARK, &own(INBOUND_MARK))
                    .with(TABLE, &own(ROUTE_TABLE));
                (kind(NEW_RULE, DELETE_RULE), front, inside)
            }
        };
        Message::new(kind, flags, 1, &front)
            .raw(inside.bytes())
            .finish()
    }
}

/// AF_INET and AF_INET6, which are netfilter's numbers too.
fn number_of(family: Family) -> u8 {
    super::wire::number(family)
}

/// A table below 256 stands in the fixed part too.
fn table() -> u8 {
    u8::try_from(ROUTE_TABLE).unwrap_or(0)
}

/// No such rule, route, address; or no such family here at all.
fn is_absent(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::NOENT
            | Errno::SRCH
            | Errno::ADDRNOTAVAIL
            | Errno::AFNOSUPPORT
            | Errno::OPNOTSUPP
            | Errno::NODEV
    )
}
