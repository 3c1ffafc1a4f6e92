//! The rules as text for `nft -f`, exactly as `nft list` shows them once they are loaded.
//!
//! Owns: nftables' words for a rule, the names of our chains there, and their hooks.
//! Never: talks to the kernel.
//! Called by: cli (`sortie capture print`), `check` (names a rule in words).
//!
//! Why tables of our own: nothing that others set is touched, and to remove is to drop two tables.

use std::fmt::Write as _;

use super::rules::{Action, Chain, Family, Listed, Match, Not, Rule, Ruleset, TABLE, Table};

/// Where a chain hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// `nat`, `filter` or `route`.
    pub kind: &'static str,
    /// Its name in text.
    pub name: &'static str,
    /// The kernel's number (NF_INET_*).
    pub number: u32,
    /// Lower comes first.
    pub priority: i32,
    /// The priority's name in text.
    pub priority_name: &'static str,
}

/// The hook of a chain that iptables has by itself; `None` for one that is jumped to.
pub fn hook(table: Table, chain: Chain) -> Option<Hook> {
    let (name, number) = match chain {
        Chain::Prerouting => ("prerouting", 0),
        Chain::Output => ("output", 3),
        _ => return None,
    };
    let (kind, priority, priority_name) = match (table, chain) {
        (Table::Nat, Chain::Prerouting) => ("nat", -100, "dstnat"),
        (Table::Nat, _) => ("nat", -100, "-100"),
        // Who changes a mark here has the packet routed again.
        (Table::Mangle, Chain::Output) => ("route", -150, "mangle"),
        (Table::Mangle, _) => ("filter", -150, "mangle"),
    };
    Some(Hook {
        kind,
        name,
        number,
        priority,
        priority_name,
    })
}

/// Its name in our table, which has what iptables keeps in two.
pub fn name(table: Table, chain: Chain) -> &'static str {
    match (table, chain) {
        (Table::Mangle, Chain::Prerouting) => "MANGLE_PREROUTING",
        (Table::Mangle, Chain::Output) => "MANGLE_OUTPUT",
        _ => chain.name(),
    }
}

/// A file for `nft -f`: to load it twice is to load it once.
pub fn text(rulesets: &[Ruleset]) -> String {
    let mut out = String::new();
    for family in Family::ALL.map(Family::word) {
        // A table must be there to be deleted. Both, whichever come back.
        let _ = writeln!(
            out,
            "add table {family} {TABLE}\ndelete table {family} {TABLE}"
        );
    }
    for ruleset in rulesets.iter().filter(|one| !one.chains.is_empty()) {
        let family = ruleset.family.word();
        let _ = writeln!(out, "table {family} {TABLE} {{");
        let chains = ruleset.chains.iter().map(|one| chain(one, ruleset.family));
        out.push_str(&chains.collect::<Vec<_>>().join("\n"));
        out.push_str("}\n");
    }
    out
}

fn chain(listed: &Listed, family: Family) -> String {
    let mut out = format!("\tchain {} {{\n", name(listed.table, listed.chain));
    if let Some(hook) = hook(listed.table, listed.chain) {
        let _ = writeln!(
            out,
            "\t\ttype {} hook {} priority {}; policy accept;",
            hook.kind, hook.name, hook.priority_name
        );
    }
    for one in &listed.rules {
        let _ = writeln!(out, "\t\t{}", rule(one, family));
    }
    out.push_str("\t}\n");
    out
}

/// One rule.
pub fn rule(rule: &Rule, family: Family) -> String {
    let mut words: Vec<String> = rule
        .matches
        .iter()
        .map(|one| matched(one, family))
        .collect();
    words.push(action(rule.action));
    words.join(" ")
}

fn matched(one: &Match, family: Family) -> String {
    let ip = family.word();
    match one {
        Match::In(name) => format!("iifname \"{}\"", pattern(name)),
        Match::Out(name) => format!("oifname \"{}\"", pattern(name)),
        Match::From(range) => format!("{ip} saddr {}", written(range)),
        Match::To(range, not) => format!("{ip} daddr {}{}", sign(*not), written(range)),
        Match::Is(protocol) => format!("meta l4proto {}", protocol.word()),
        Match::Port(protocol, port, not) => {
            format!("{} dport {}{port}", protocol.word(), sign(*not))
        }
        Match::User(id, not) => format!("meta skuid {}{id}", sign(*not)),
        Match::Group(id, not) => format!("meta skgid {}{id}", sign(*not)),
        Match::Mark(mark, not) => format!("meta mark {}{mark:#010x}", sign(*not)),
        Match::ConnectionMark(mark) => format!("ct mark {mark:#010x}"),
        Match::Established => "ct state established,related".to_owned(),
    }
}

/// What iptables writes `eth+` is `eth*` here.
fn pattern(name: &str) -> String {
    match name.strip_suffix('+') {
        Some(beginning) => format!("{beginning}*"),
        None => name.to_owned(),
    }
}

fn sign(not: Not) -> &'static str {
    match not {
        Not::Is => "",
        Not::IsNot => "!= ",
    }
}

/// An address alone is written without its length.
fn written(range: &ipnet::IpNet) -> String {
    match range.prefix_len() == range.max_prefix_len() {
        true => range.addr().to_string(),
        false => range.to_string(),
    }
}

fn action(action: Action) -> String {
    match action {
        Action::Return => "return".to_owned(),
        Action::Accept => "accept".to_owned(),
        Action::Drop => "drop".to_owned(),
        Action::Jump(chain) => format!("jump {}", chain.name()),
        Action::Redirect(port) => format!("redirect to :{port}"),
        Action::Tproxy(port) => format!(
            "tproxy to :{port} meta mark set {:#010x} accept",
            super::rules::INBOUND_MARK
        ),
        Action::SetMark(mark) => format!("meta mark set {mark:#010x}"),
        Action::SaveMark => "ct mark set meta mark".to_owned(),
        Action::RestoreMark => "meta mark set ct mark".to_owned(),
    }
}
