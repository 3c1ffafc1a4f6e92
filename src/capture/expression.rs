//! A rule as the expressions that nf_tables runs (linux/netfilter/nf_tables.h).
//!
//! Owns: what a match and an action become, the same as `nft` makes of our text, and how an
//! expression is written and read.
//! Never: sends one.
//! Called by: `wire`, `check`.
//!
//! Why as nft: rules loaded by `nft -f` and rules set by us are then the same to the kernel, to
//! `nft list`, and to `sortie capture check`.

use ipnet::IpNet;

use super::attr::{Attributes, attributes, number, string, value};
use super::rules::{Action, Family, INBOUND_MARK, Match, Not, Protocol, Rule};

/// Where a value is kept between two expressions (NFT_REG_1), and where a verdict is (NFT_REG_VERDICT).
const REGISTER: u32 = 1;
const VERDICT: u32 = 0;
/// Interfaces' names are compared whole (IFNAMSIZ).
const INTERFACE: usize = 16;
/// "This connection has been" and "belongs to one" (NF_CT_STATE_BIT).
const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
/// A port was given (NF_NAT_RANGE_PROTO_SPECIFIED).
const PORT_GIVEN: u32 = 2;

/// What is known of a packet beside its bytes (NFT_META_*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meta {
    Mark,
    In,
    Out,
    User,
    Group,
    Protocol,
}

impl Meta {
    /// nftables' word.
    pub fn word(self) -> &'static str {
        word(&METAS, self)
    }
}

const METAS: [(Meta, u32, &str); 6] = [
    (Meta::Mark, 3, "mark"),
    (Meta::In, 6, "iifname"),
    (Meta::Out, 7, "oifname"),
    (Meta::User, 10, "skuid"),
    (Meta::Group, 11, "skgid"),
    (Meta::Protocol, 16, "l4proto"),
];

/// What is known of its connection (NFT_CT_*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    State,
    Mark,
}

const CONNECTIONS: [(Connection, u32, &str); 2] = [
    (Connection::State, 0, "state"),
    (Connection::Mark, 3, "mark"),
];

/// Which header a byte is counted from (NFT_PAYLOAD_*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    Network,
    Transport,
}

const HEADERS: [(Header, u32, &str); 2] = [
    (Header::Network, 1, "network"),
    (Header::Transport, 2, "transport"),
];

/// One step of a rule. All work on one register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    Meta(Meta),
    SetMeta(Meta),
    Connection(Connection),
    SetConnection(Connection),
    Payload(Header, u32, u32),
    Mask(Vec<u8>),
    Compare(Not, Vec<u8>),
    Value(Vec<u8>),
    /// NF_ACCEPT and the like, and the chain of a jump.
    Verdict(i32, Option<String>),
    Redirect,
    Tproxy(Family),
    /// One that no rule of ours has.
    Foreign(String),
}

/// NF_DROP, NF_ACCEPT, NFT_JUMP, NFT_RETURN.
const DROP: i32 = 0;
const ACCEPT: i32 = 1;
const JUMP: i32 = -3;
const RETURN: i32 = -5;

/// The steps of a rule.
pub fn expressions(rule: &Rule, family: Family) -> Vec<Expression> {
    let mut found = Vec::new();
    for one in &rule.matches {
        found.extend(matched(one, family));
    }
    found.extend(done(rule.action, family));
    found
}

fn matched(one: &Match, family: Family) -> Vec<Expression> {
    let own = |value: u32| value.to_ne_bytes().to_vec();
    match one {
        Match::In(name) => vec![Expression::Meta(Meta::In), is(interface(name))],
        Match::Out(name) => vec![Expression::Meta(Meta::Out), is(interface(name))],
        Match::From(range) => address(range, source_at(family), Not::Is),
        Match::To(range, not) => address(range, destination_at(family), *not),
        Match::Is(protocol) => of(*protocol).to_vec(),
        Match::Port(protocol, port, not) => {
            let mut found = of(*protocol).to_vec();
            found.push(Expression::Payload(Header::Transport, 2, 2));
            found.push(Expression::Compare(*not, port.to_be_bytes().to_vec()));
            found
        }
        Match::User(id, not) => meta(Meta::User, *not, own(*id)),
        Match::Group(id, not) => meta(Meta::Group, *not, own(*id)),
        Match::Mark(mark, not) => meta(Meta::Mark, *not, own(*mark)),
        Match::ConnectionMark(mark) => {
            vec![Expression::Connection(Connection::Mark), is(own(*mark))]
        }
        Match::Established => vec![
            Expression::Connection(Connection::State),
            Expression::Mask(own(ESTABLISHED_OR_RELATED)),
            Expression::Compare(Not::IsNot, own(0)),
        ],
    }
}

fn is(value: Vec<u8>) -> Expression {
    Expression::Compare(Not::Is, value)
}

fn meta(key: Meta, not: Not, value: Vec<u8>) -> Vec<Expression> {
    vec![Expression::Meta(key), Expression::Compare(not, value)]
}

fn of(protocol: Protocol) -> [Expression; 2] {
    [
        Expression::Meta(Meta::Protocol),
        is(vec![protocol.number()]),
    ]
}

/// A name that ends with `+` begins so: only that much is compared.
fn interface(name: &str) -> Vec<u8> {
    if let Some(beginning) = name.strip_suffix('+') {
        return beginning.as_bytes().to_vec();
    }
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(INTERFACE, 0);
    bytes
}

/// Where the addresses stand in the header (RFC 791, RFC 8200).
fn source_at(family: Family) -> u32 {
    match family {
        Family::V4 => 12,
        Family::V6 => 8,
    }
}

fn destination_at(family: Family) -> u32 {
    match family {
        Family::V4 => 16,
        Family::V6 => 24,
    }
}

/// As nft: whole bytes are compared alone, and only what ends within one is masked.
fn address(range: &IpNet, at: u32, not: Not) -> Vec<Expression> {
    let (address, mask) = match range {
        IpNet::V4(range) => (
            range.network().octets().to_vec(),
            range.netmask().octets().to_vec(),
        ),
        IpNet::V6(range) => (
            range.network().octets().to_vec(),
            range.netmask().octets().to_vec(),
        ),
    };
    let bits = range.prefix_len();
    if !bits.is_multiple_of(8) {
        let length = if bits == 0 {
            0
        } else {
            u32::from(range.max_prefix_len() / 8)
        };
        return vec![
            Expression::Payload(Header::Network, at, length),
            Expression::Mask(mask),
            Expression::Compare(not, address),
        ];
    }
    let whole = usize::from(bits / 8);
    vec![
        Expression::Payload(Header::Network, at, u32::from(bits / 8)),
        Expression::Compare(not, address.into_iter().take(whole).collect()),
    ]
}

fn done(action: Action, family: Family) -> Vec<Expression> {
    let verdict = |code| vec![Expression::Verdict(code, None)];
    let set_mark = |mark: u32| {
        [
            Expression::Value(mark.to_ne_bytes().to_vec()),
            Expression::SetMeta(Meta::Mark),
        ]
    };
    match action {
        Action::Return => verdict(RETURN),
        Action::Accept => verdict(ACCEPT),
        Action::Drop => verdict(DROP),
        Action::Jump(chain) => vec![Expression::Verdict(JUMP, Some(chain.name().to_owned()))],
        Action::Redirect(port) => vec![
            Expression::Value(port.to_be_bytes().to_vec()),
            Expression::Redirect,
        ],
        Action::Tproxy(port) => {
            let mut found = vec![
                Expression::Value(port.to_be_bytes().to_vec()),
                Expression::Tproxy(family),
            ];
            found.extend(set_mark(INBOUND_MARK));
            found.extend(verdict(ACCEPT));
            found
        }
        Action::SetMark(mark) => set_mark(mark).to_vec(),
        Action::SaveMark => vec![
            Expression::Meta(Meta::Mark),
            Expression::SetConnection(Connection::Mark),
        ],
        Action::RestoreMark => vec![
            Expression::Connection(Connection::Mark),
            Expression::SetMeta(Meta::Mark),
        ],
    }
}

/// The kernel's number of a key, or 0, which no caller of ours can meet.
fn code<T: Copy + PartialEq>(table: &[(T, u32, &str)], key: T) -> u32 {
    let found = table.iter().find(|(one, ..)| *one == key);
    found.map_or(0, |(_, code, _)| *code)
}

fn word<T: Copy + PartialEq>(table: &[(T, u32, &'static str)], key: T) -> &'static str {
    let found = table.iter().find(|(one, ..)| *one == key);
    found.map_or("?", |(.., word)| *word)
}

fn key<T: Copy>(table: &[(T, u32, &str)], code: Option<u32>) -> Option<T> {
    let found = table.iter().find(|(_, one, _)| Some(*one) == code);
    found.map(|(key, ..)| *key)
}

impl Expression {
    /// The kernel's name for its kind, and its attributes.
    pub fn written(&self) -> (&str, Attributes) {
        let none = Attributes::new;
        let data = |value: &[u8]| none().with(1, value);
        match self {
            Expression::Meta(key) => (
                "meta",
                none().number(2, code(&METAS, *key)).number(1, REGISTER),
            ),
            Expression::SetMeta(key) => (
                "meta",
                none().number(2, code(&METAS, *key)).number(3, REGISTER),
            ),
            Expression::Connection(key) => (
                "ct",
                none()
                    .number(2, code(&CONNECTIONS, *key))
                    .number(1, REGISTER),
            ),
            Expression::SetConnection(key) => (
                "ct",
                none()
                    .number(2, code(&CONNECTIONS, *key))
                    .number(4, REGISTER),
            ),
            Expression::Payload(header, offset, length) => (
                "payload",
                none()
                    .number(1, REGISTER)
                    .number(2, code(&HEADERS, *header))
                    .number(3, *offset)
                    .number(4, *length),
            ),
            Expression::Mask(mask) => (
                "bitwise",
                none()
                    .number(1, REGISTER)
                    .number(2, REGISTER)
                    .number(3, u32::try_from(mask.len()).unwrap_or(u32::MAX))
                    .nested(4, data(mask))
                    .nested(5, data(&vec![0; mask.len()])),
            ),
            Expression::Compare(not, value) => (
                "cmp",
                none()
                    .number(1, REGISTER)
                    .number(2, u32::from(*not == Not::IsNot))
                    .nested(3, data(value)),
            ),
            Expression::Value(value) => (
                "immediate",
                none().number(1, REGISTER).nested(2, data(value)),
            ),
            Expression::Verdict(code, chain) => {
                let mut verdict = none().with(1, &code.to_be_bytes());
                if let Some(chain) = chain {
                    verdict = verdict.text(2, chain);
                }
                let data = none().nested(2, verdict);
                ("immediate", none().number(1, VERDICT).nested(2, data))
            }
            Expression::Redirect => ("redir", none().number(1, REGISTER).number(3, PORT_GIVEN)),
            Expression::Tproxy(family) => {
                let family = u32::from(super::wire::number(*family));
                ("tproxy", none().number(1, family).number(3, REGISTER))
            }
            Expression::Foreign(name) => (name, none()),
        }
    }

    /// What the kernel says it has. What no rule of ours has is foreign, never an error.
    pub fn read(name: &str, data: &[u8]) -> Expression {
        let known = attributes(data, 0)
            .ok()
            .and_then(|found| known(name, &found));
        known.unwrap_or_else(|| Expression::Foreign(name.to_owned()))
    }
}

fn known(name: &str, found: &[(u16, &[u8])]) -> Option<Expression> {
    let register = |kind| number(found, kind) == Some(REGISTER);
    match name {
        "meta" if register(1) => key(&METAS, number(found, 2)).map(Expression::Meta),
        "meta" if register(3) => key(&METAS, number(found, 2)).map(Expression::SetMeta),
        "ct" if value(found, 3).is_some() => None,
        "ct" if register(1) => key(&CONNECTIONS, number(found, 2)).map(Expression::Connection),
        "ct" if register(4) => key(&CONNECTIONS, number(found, 2)).map(Expression::SetConnection),
        "payload" if register(1) => Some(Expression::Payload(
            key(&HEADERS, number(found, 2))?,
            number(found, 3)?,
            number(found, 4)?,
        )),
        "bitwise" if register(1) && register(2) => {
            let nothing = inner(found, 5)?.iter().all(|byte| *byte == 0);
            let plain = number(found, 6).unwrap_or(0) == 0;
            (nothing && plain).then(|| inner(found, 4).map(Expression::Mask))?
        }
        "cmp" if register(1) => {
            let not = match number(found, 2)? {
                0 => Not::Is,
                1 => Not::IsNot,
                _ => return None,
            };
            inner(found, 3).map(|value| Expression::Compare(not, value))
        }
        "immediate" if register(1) => inner(found, 2).map(Expression::Value),
        "immediate" => verdict(found),
        "redir" if register(1) && number(found, 3) == Some(PORT_GIVEN) => {
            Some(Expression::Redirect)
        }
        "tproxy" if register(3) && value(found, 2).is_none() => {
            let family = number(found, 1);
            let of = |one: &Family| Some(u32::from(super::wire::number(*one))) == family;
            Family::ALL.into_iter().find(of).map(Expression::Tproxy)
        }
        _ => None,
    }
}

fn inner(found: &[(u16, &[u8])], kind: u16) -> Option<Vec<u8>> {
    let data = attributes(value(found, kind)?, 0).ok()?;
    value(&data, 1).map(<[u8]>::to_vec)
}

fn verdict(found: &[(u16, &[u8])]) -> Option<Expression> {
    let data = attributes(value(found, 2)?, 0).ok()?;
    let verdict = attributes(value(&data, 2)?, 0).ok()?;
    let code = i32::from_be_bytes(value(&verdict, 1)?.try_into().ok()?);
    Some(Expression::Verdict(code, string(&verdict, 2)))
}

impl std::fmt::Display for Expression {
    /// In the words of `nft --debug=netlink`, shortened: for a rule that nobody of ours wrote.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Expression::Meta(key) => write!(f, "meta {}", word(&METAS, *key)),
            Expression::SetMeta(key) => write!(f, "set meta {}", word(&METAS, *key)),
            Expression::Connection(key) => write!(f, "ct {}", word(&CONNECTIONS, *key)),
            Expression::SetConnection(key) => write!(f, "set ct {}", word(&CONNECTIONS, *key)),
            Expression::Payload(header, at, length) => {
                write!(f, "{} header +{at} {length}b", word(&HEADERS, *header))
            }
            Expression::Mask(mask) => write!(f, "& 0x{}", hex(mask)),
            Expression::Compare(Not::Is, value) => write!(f, "== 0x{}", hex(value)),
            Expression::Compare(Not::IsNot, value) => write!(f, "!= 0x{}", hex(value)),
            Expression::Value(value) => write!(f, "0x{}", hex(value)),
            Expression::Verdict(DROP, _) => f.write_str("drop"),
            Expression::Verdict(ACCEPT, _) => f.write_str("accept"),
            Expression::Verdict(RETURN, _) => f.write_str("return"),
            Expression::Verdict(JUMP, Some(chain)) => write!(f, "jump {chain}"),
            Expression::Verdict(code, _) => write!(f, "verdict {code}"),
            Expression::Redirect => f.write_str("redirect"),
            Expression::Tproxy(family) => write!(f, "tproxy {}", family.word()),
            Expression::Foreign(name) => f.write_str(name),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::rules;
    use super::*;
    use crate::model::{CaptureSpec, Interception};

    #[test]
    fn c10_what_is_written_is_read_back() {
        let spec = CaptureSpec {
            interception: Interception::Tproxy,
            exclude_outbound_ranges: crate::model::list("10.16.0.0/12,10.0.0.0/8").unwrap(),
            ..CaptureSpec::default()
        };
        for listed in rules(&spec, Family::V4).chains {
            for one in listed
                .rules
                .iter()
                .flat_map(|rule| expressions(rule, Family::V4))
            {
                let (name, data) = one.written();
                assert_eq!(Expression::read(name, data.bytes()), one);
            }
        }
    }

    #[test]
    fn c10_a_range_is_compared_as_nft_compares_it() {
        let steps = |range: &str| address(&range.parse().unwrap(), 16, Not::Is);
        let whole = |length| Expression::Payload(Header::Network, 16, length);
        assert_eq!(steps("10.0.0.0/8"), [whole(1), is(vec![10])]);
        let part = [
            whole(4),
            Expression::Mask(vec![255, 240, 0, 0]),
            is(vec![10, 16, 0, 0]),
        ];
        assert_eq!(steps("10.16.0.0/12"), part);
        assert_eq!(steps("192.0.2.1/32"), [whole(4), is(vec![192, 0, 2, 1])]);
        let six = [whole(16), Expression::Mask(vec![255; 16]), is(vec![0; 16])];
        let mut masked = steps("fd00::/7");
        assert_eq!(masked.len(), six.len());
        assert_eq!(masked.remove(0), six[0]);
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_reader_panic(
            name in "meta|ct|payload|bitwise|cmp|immediate|redir|tproxy|counter",
            data: Vec<u8>,
        ) {
            let _ = Expression::read(&name, &data);
        }
    }
}
