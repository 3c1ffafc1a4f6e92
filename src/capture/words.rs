//! A rule of the kernel's in nftables' words again.
//!
//! Owns: how expressions become words; what no rule of ours has stays an expression.
//! Never: compares.
//! Called by: `check`, to name a rule that is not wanted.

use super::expression::{Connection, Expression, Header, Meta};
use super::rules::{Family, Not};

/// The rule that these steps are.
pub fn words(steps: &[Expression], family: Family) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut rest = steps;
    while !rest.is_empty() {
        let (one, taken) = first(rest, family);
        words.push(one);
        rest = rest.get(taken..).unwrap_or_default();
    }
    words.join(" ")
}

/// The first words, and how many steps they stand for.
fn first(steps: &[Expression], family: Family) -> (String, usize) {
    use Expression::{
        Compare, Connection as Conn, Mask, Meta as Known, Payload, Redirect, SetConnection,
        SetMeta, Tproxy, Value,
    };
    match steps {
        [
            Known(Meta::Protocol),
            Compare(Not::Is, protocol),
            Payload(Header::Transport, 2, 2),
            Compare(not, port),
            ..,
        ] => {
            let port = format!(
                "{} dport {}{}",
                ip(protocol),
                sign(*not),
                number(port, true)
            );
            (port, 4)
        }
        [Known(Meta::Protocol), Compare(not, value), ..] => {
            (format!("meta l4proto {}{}", sign(*not), ip(value)), 2)
        }
        [Known(key @ (Meta::In | Meta::Out)), Compare(not, name), ..] => {
            let any = if name.len() < 16 { "*" } else { "" };
            let name = String::from_utf8_lossy(name);
            let name = name.trim_end_matches('\0');
            (format!("{} {}\"{name}{any}\"", key.word(), sign(*not)), 2)
        }
        [Known(Meta::Mark), Compare(not, mark), ..] => {
            (format!("meta mark {}{}", sign(*not), mark_of(mark)), 2)
        }
        [Known(key), Compare(not, id), ..] => (
            format!("meta {} {}{}", key.word(), sign(*not), number(id, false)),
            2,
        ),
        [Conn(Connection::Mark), Compare(not, mark), ..] => {
            (format!("ct mark {}{}", sign(*not), mark_of(mark)), 2)
        }
        [
            Conn(Connection::State),
            Mask(states),
            Compare(Not::IsNot, _),
            ..,
        ] if number(states, false) == "6" => ("ct state established,related".to_owned(), 3),
        [
            Payload(Header::Network, at, _),
            Mask(mask),
            Compare(not, address),
            ..,
        ] => (range(*at, *not, address, bits(mask), family), 3),
        [Payload(Header::Network, at, _), Compare(not, address), ..] => {
            (range(*at, *not, address, address.len() * 8, family), 2)
        }
        [Value(mark), SetMeta(Meta::Mark), ..] => (format!("meta mark set {}", mark_of(mark)), 2),
        [Known(Meta::Mark), SetConnection(Connection::Mark), ..] => {
            ("ct mark set meta mark".to_owned(), 2)
        }
        [Conn(Connection::Mark), SetMeta(Meta::Mark), ..] => {
            ("meta mark set ct mark".to_owned(), 2)
        }
        [Value(port), Redirect, ..] => (format!("redirect to :{}", number(port, true)), 2),
        [Value(port), Tproxy(_), ..] => (format!("tproxy to :{}", number(port, true)), 2),
        [one, ..] => (one.to_string(), 1),
        [] => (String::new(), 1),
    }
}

fn sign(not: Not) -> &'static str {
    match not {
        Not::Is => "",
        Not::IsNot => "!= ",
    }
}

fn ip(protocol: &[u8]) -> String {
    match protocol {
        [6] => "tcp".to_owned(),
        [17] => "udp".to_owned(),
        other => number(other, true),
    }
}

/// Ports are big-endian, what the kernel made itself is in this machine's order.
fn number(bytes: &[u8], big: bool) -> String {
    let found = match (bytes, big) {
        ([one], _) => u32::from(*one),
        ([a, b], true) => u32::from(u16::from_be_bytes([*a, *b])),
        ([a, b, c, d], false) => u32::from_ne_bytes([*a, *b, *c, *d]),
        _ => return bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    found.to_string()
}

fn mark_of(bytes: &[u8]) -> String {
    match bytes.first_chunk() {
        Some(four) => format!("{:#010x}", u32::from_ne_bytes(*four)),
        None => number(bytes, false),
    }
}

fn bits(mask: &[u8]) -> usize {
    mask.iter().map(|byte| byte.count_ones() as usize).sum()
}

/// The bytes that were compared, filled up to an address.
fn range(at: u32, not: Not, address: &[u8], bits: usize, family: Family) -> String {
    let side = match (family, at) {
        (Family::V4, 12) | (Family::V6, 8) => "saddr",
        (Family::V4, 16) | (Family::V6, 24) => "daddr",
        _ => "header",
    };
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(address) {
        *to = *from;
    }
    let (written, all) = match (family, bytes) {
        (Family::V4, [a, b, c, d, ..]) => (std::net::Ipv4Addr::new(a, b, c, d).to_string(), 32),
        (Family::V6, bytes) => (std::net::Ipv6Addr::from(bytes).to_string(), 128),
    };
    let length = match bits == all {
        true => String::new(),
        false => format!("/{bits}"),
    };
    format!("{} {side} {}{written}{length}", family.word(), sign(not))
}

#[cfg(test)]
mod tests {
    use super::super::{expression::expressions, nftables, rules};
    use super::*;
    use crate::model::{CaptureSpec, Chosen, Interception, list};

    #[test]
    fn c10_every_rule_of_ours_is_read_back_in_the_words_that_it_is_printed_in() {
        let spec = CaptureSpec {
            interception: Interception::Tproxy,
            outbound_ranges: Chosen::Only(list("10.0.0.0/8,10.16.0.0/12,fd00::/10,::6").unwrap()),
            exclude_outbound_ranges: list("192.0.2.1,10.1.0.0/16,fd00:1::/32").unwrap(),
            exclude_outbound_ports: vec![53],
            exclude_interfaces: vec!["eth9".to_owned()],
            virtual_interfaces: vec!["tap0".to_owned(), "vnet+".to_owned()],
            ..CaptureSpec::default()
        };
        for spec in [spec, CaptureSpec::default()] {
            for family in Family::ALL {
                let chains = rules(&spec, family).chains;
                for rule in chains.iter().flat_map(|one| &one.rules) {
                    let steps = expressions(rule, family);
                    assert_eq!(words(&steps, family), nftables::rule(rule, family));
                }
            }
        }
    }

    #[test]
    fn c10_what_no_rule_of_ours_has_is_named_by_its_kind() {
        let steps = [
            Expression::Meta(Meta::User),
            Expression::Compare(Not::Is, 77_u32.to_ne_bytes().to_vec()),
            Expression::Foreign("counter".to_owned()),
            Expression::Verdict(0, None),
        ];
        assert_eq!(words(&steps, Family::V4), "meta skuid 77 counter drop");
    }
}
