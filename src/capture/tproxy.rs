//! The rules of TPROXY, which keeps the client's address (ISTIO.md C4).
//!
//! Owns: the chains of the mangle table, and what the marks mean.
//! Never: the outbound side, which stays redirected.
//! Called by: `derive`.
//!
//! Why two marks: 1337 is a packet on its way to the proxy, or from it to the application in its
//! client's name; 1338 is the proxy calling its own pod, which must come in as another's call would.

use super::derive::{
    LOOPBACK, Owner, captures_inbound, inbound_ports, localhost, never_inbound, passthrough, tcp,
    tcp_to, when,
};
use super::rules::{
    Action, Chain, Family, INBOUND_MARK, Listed, Match, Not, OUTBOUND_MARK, Protocol, Rule, Table,
};
use crate::model::CaptureSpec;

/// The chains of the mangle table; none where no inbound port is captured.
pub fn chains(spec: &CaptureSpec, family: Family) -> Vec<Listed> {
    if !captures_inbound(spec) {
        return Vec::new();
    }
    let listed = |chain, rules| Listed {
        table: Table::Mangle,
        chain,
        rules,
    };
    vec![
        listed(Chain::Prerouting, prerouting(spec)),
        listed(Chain::Output, output(spec, family)),
        listed(Chain::Inbound, inbound(spec, family)),
        listed(
            Chain::Divert,
            vec![
                when(Vec::new(), Action::SetMark(INBOUND_MARK)),
                when(Vec::new(), Action::Accept),
            ],
        ),
        listed(Chain::Tproxy, to_proxy(spec, family)),
    ]
}

fn prerouting(spec: &CaptureSpec) -> Vec<Rule> {
    let within = |name: &String| when(vec![Match::In(name.clone())], Action::Return);
    let mut rules: Vec<Rule> = spec.exclude_interfaces.iter().map(within).collect();
    rules.push(when(tcp(), Action::Jump(Chain::Inbound)));
    rules.push(when(
        and(tcp(), Match::Mark(INBOUND_MARK, Not::Is)),
        Action::SaveMark,
    ));
    rules
}

fn output(spec: &CaptureSpec, family: Family) -> Vec<Rule> {
    let out = |name: &String| when(vec![Match::Out(name.clone())], Action::Return);
    let mut rules: Vec<Rule> = spec.exclude_interfaces.iter().map(out).collect();
    rules.push(when(
        vec![
            Match::Out(LOOPBACK.to_owned()),
            Match::Is(Protocol::Tcp),
            Match::Mark(INBOUND_MARK, Not::Is),
        ],
        Action::Return,
    ));
    let users = spec.uids.iter().map(|id| Owner::User(*id));
    let groups = spec.gids.iter().map(|id| Owner::Group(*id));
    rules.extend(users.chain(groups).map(|owner| {
        let matches = vec![
            Match::Out(LOOPBACK.to_owned()),
            Match::To(localhost(family), Not::IsNot),
            Match::Is(Protocol::Tcp),
            owner.matched(Not::Is),
        ];
        when(matches, Action::SetMark(OUTBOUND_MARK))
    }));
    rules.push(when(
        and(tcp(), Match::ConnectionMark(INBOUND_MARK)),
        Action::RestoreMark,
    ));
    rules
}

fn inbound(spec: &CaptureSpec, family: Family) -> Vec<Rule> {
    let lo = || Match::In(LOOPBACK.to_owned());
    let mut rules = vec![
        when(
            and(tcp(), Match::Mark(INBOUND_MARK, Not::Is)),
            Action::Return,
        ),
        when(
            vec![
                lo(),
                Match::From(passthrough(family)),
                Match::Is(Protocol::Tcp),
            ],
            Action::Return,
        ),
        when(
            vec![
                lo(),
                Match::Is(Protocol::Tcp),
                Match::Mark(OUTBOUND_MARK, Not::IsNot),
            ],
            Action::Return,
        ),
    ];
    rules.extend(never_inbound(spec).map(|port| when(tcp_to(port), Action::Return)));
    for port in inbound_ports(spec) {
        rules.push(when(
            and(port.clone(), Match::Established),
            Action::Jump(Chain::Divert),
        ));
        rules.push(when(port, Action::Jump(Chain::Tproxy)));
    }
    rules
}

/// iptables drops by itself where nobody listens; nftables goes on to the next rule, which without
/// this one would let the connection reach the application past the proxy.
fn to_proxy(spec: &CaptureSpec, family: Family) -> Vec<Rule> {
    let elsewhere = || {
        vec![
            Match::To(localhost(family), Not::IsNot),
            Match::Is(Protocol::Tcp),
        ]
    };
    vec![
        when(elsewhere(), Action::Tproxy(spec.inbound_port)),
        when(elsewhere(), Action::Drop),
    ]
}

fn and(mut matches: Vec<Match>, more: Match) -> Vec<Match> {
    matches.push(more);
    matches
}
