//! The rules as text for iptables-restore and ip6tables-restore, and as iptables-save tells them.
//!
//! Owns: iptables' words for a rule, in the order in which iptables-save writes them, and what is ours
//! among others' rules.
//! Never: runs a program.
//! Called by: cli (`sortie capture print`), `programs`.
//!
//! Why a comment in the built-in chains: they are everybody's, and what to remove must be known later.
//! Our own chains are known by their names.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::check::{Difference, compared};
use super::rules::{
    Action, Chain, Family, INBOUND_MARK, Match, Not, PREFIX, Rule, Ruleset, TABLE, Table,
};

/// What is ours in the tables of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ours {
    tables: BTreeMap<Table, InTable>,
}

/// What is ours in one table: lines begin with `-A CHAIN`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct InTable {
    /// Of the built-in chains.
    base: Vec<String>,
    /// Others' rules that stand before ours there, and may let go what we should see.
    before: Vec<String>,
    /// Others' rules seen so far, while they are read.
    others: Vec<String>,
    /// Of each of our chains. Their order is iptables' own.
    chains: BTreeMap<String, Vec<String>>,
}

impl Ours {
    /// These rules.
    pub fn wanted(ruleset: &Ruleset) -> Ours {
        let mut ours = Ours::default();
        for listed in &ruleset.chains {
            let lines = listed
                .rules
                .iter()
                .map(|one| rule(listed.chain, one, ruleset.family));
            let table = ours.tables.entry(listed.table).or_default();
            match listed.chain.is_base() {
                true => table.base.extend(lines),
                false => {
                    let name = listed.chain.name().to_owned();
                    table.chains.insert(name, lines.collect());
                }
            }
        }
        ours
    }

    /// What iptables-save told. What is not ours is passed over.
    ///
    /// # Errors
    /// Chains of our names that we did not hang up: another's capture.
    pub fn saved(text: &str) -> Result<Ours, Foreign> {
        let mut ours = Ours::default();
        let mut table = None;
        for line in text.lines().map(str::trim_end) {
            if let Some(name) = line.strip_prefix('*') {
                let known = [Table::Mangle, Table::Nat];
                table = known.into_iter().find(|one| one.word() == name);
            } else if let Some(table) = table {
                ours.tables.entry(table).or_default().take(table, line)?;
            }
        }
        for table in ours.tables.values_mut() {
            table.others.clear();
        }
        ours.tables.retain(|_, table| *table != InTable::default());
        Ok(ours)
    }

    /// True where nothing is ours.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// What `iptables-restore --noflush` needs to make these of those.
    pub fn to(&self, wanted: &Ours) -> String {
        let (mut out, none) = (String::new(), InTable::default());
        for table in [Table::Mangle, Table::Nat] {
            let now = self.tables.get(&table).unwrap_or(&none);
            let then = wanted.tables.get(&table).unwrap_or(&none);
            if *now == none && *then == none {
                continue;
            }
            let _ = writeln!(out, "*{}", table.word());
            out.push_str(&now.to(then));
            out.push_str("COMMIT\n");
        }
        out
    }

    /// Compares them with what is wanted.
    pub fn difference(&self, wanted: &Ours, family: Family) -> Difference {
        let mut difference = Difference::default();
        let said = |ours: &Ours, table: Table| {
            let lines = ours.tables.get(&table).map(InTable::lines);
            let named = |line: String| (line.clone(), format!("{}: {line}", place(family, table)));
            lines.unwrap_or_default().into_iter().map(named).collect()
        };
        for table in [Table::Mangle, Table::Nat] {
            let at = place(family, table);
            difference.and(compared(said(wanted, table), said(self, table), &at));
            let before = self.tables.get(&table).map(|table| table.before.iter());
            let first = |line| format!("{at}: {line}: it stands before ours");
            difference
                .extra
                .extend(before.into_iter().flatten().map(first));
        }
        difference
    }
}

/// A chain of another's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "table {0} has \"{1}\", which is not ours: another capture is in place (istio-iptables?); remove \
     it first"
)]
pub struct Foreign(&'static str, String);

impl InTable {
    fn take(&mut self, table: Table, line: &str) -> Result<(), Foreign> {
        if let Some(rest) = line.strip_prefix(':') {
            let name = rest.split_whitespace().next().unwrap_or_default();
            if name.starts_with(PREFIX) {
                self.chains.insert(name.to_owned(), Vec::new());
            }
            return Ok(());
        }
        let mut words = line.split_whitespace();
        let (Some("-A"), Some(chain)) = (words.next(), words.next()) else {
            return Ok(());
        };
        match self.chains.get_mut(chain) {
            Some(lines) => lines.push(line.to_owned()),
            None if line.contains(&format!("--comment {TABLE} ")) => {
                let of = |other: &String| other.split_whitespace().nth(1) == Some(chain);
                self.before
                    .extend(self.others.extract_if(.., |other| of(other)));
                self.base.push(line.to_owned());
            }
            None if line.contains(&format!("-j {PREFIX}")) => {
                return Err(Foreign(table.word(), line.to_owned()));
            }
            None => self.others.push(line.to_owned()),
        }
        Ok(())
    }

    fn lines(&self) -> Vec<String> {
        let chains = self.chains.iter();
        let of = |(name, lines): (&String, &Vec<String>)| {
            [vec![format!(":{name}")], lines.clone()].concat()
        };
        [self.base.clone(), chains.flat_map(of).collect()].concat()
    }

    fn to(&self, then: &InTable) -> String {
        let mut out = String::new();
        // Naming a chain makes it, or empties it.
        let gone = || {
            self.chains
                .keys()
                .filter(|name| !then.chains.contains_key(*name))
        };
        for name in gone().chain(then.chains.keys()) {
            let _ = writeln!(out, ":{name} - [0:0]");
        }
        for line in &self.base {
            let _ = writeln!(out, "{}", line.replacen("-A", "-D", 1));
        }
        // Before what others have there: it may let go what we should see.
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        for line in &then.base {
            let (chain, rest) = chain_of(line);
            let place = places.entry(chain).or_default();
            *place += 1;
            let _ = writeln!(out, "-I {chain} {place} {rest}");
        }
        for line in then.chains.values().flatten() {
            let _ = writeln!(out, "{line}");
        }
        for name in gone() {
            let _ = writeln!(out, "-X {name}");
        }
        out
    }
}

/// The chain of a line `-A CHAIN REST`, and the rest.
fn chain_of(line: &str) -> (&str, &str) {
    let line = line.strip_prefix("-A ").unwrap_or(line);
    line.split_once(' ').unwrap_or((line, ""))
}

fn place(family: Family, table: Table) -> String {
    let program = match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    };
    format!("{program} {}", table.word())
}

/// A file for `iptables-restore --noflush`, where nothing of ours is yet.
pub fn text(ruleset: &Ruleset) -> String {
    Ours::default().to(&Ours::wanted(ruleset))
}

/// One rule, as iptables-save writes it: addresses, interfaces, protocol, the rest, the target.
fn rule(chain: Chain, rule: &Rule, family: Family) -> String {
    let mut parts: Vec<(u8, String)> = rule.matches.iter().flat_map(matched).collect();
    if chain.is_base() {
        parts.push((5, format!("-m comment --comment {TABLE}")));
    }
    // Stable: what is of one rank keeps its order.
    parts.sort_by_key(|(rank, _)| *rank);
    let words: Vec<String> = parts.into_iter().map(|(_, words)| words).collect();
    let target = action(rule.action, family);
    let all = [vec![format!("-A {}", chain.name())], words, vec![target]].concat();
    all.join(" ")
}

/// The words, and their place in the line.
fn matched(one: &Match) -> Vec<(u8, String)> {
    let owner =
        |not: Not, what: &str, id: u32| vec![(4, format!("-m owner {}{what} {id}", sign(not)))];
    match one {
        Match::From(range) => vec![(0, format!("-s {range}"))],
        Match::To(range, not) => vec![(0, format!("{}-d {range}", sign(*not)))],
        Match::In(name) => vec![(1, format!("-i {name}"))],
        Match::Out(name) => vec![(2, format!("-o {name}"))],
        Match::Is(protocol) => vec![(3, format!("-p {}", protocol.word()))],
        Match::Port(protocol, port, not) => {
            let word = protocol.word();
            let there = format!("-m {word} {}--dport {port}", sign(*not));
            vec![(3, format!("-p {word}")), (4, there)]
        }
        Match::User(id, not) => owner(*not, "--uid-owner", *id),
        Match::Group(id, not) => owner(*not, "--gid-owner", *id),
        Match::Mark(mark, not) => vec![(4, format!("-m mark {}--mark {mark:#x}", sign(*not)))],
        Match::ConnectionMark(mark) => vec![(4, format!("-m connmark --mark {mark:#x}"))],
        Match::Established => {
            vec![(4, "-m conntrack --ctstate RELATED,ESTABLISHED".to_owned())]
        }
    }
}

fn sign(not: Not) -> &'static str {
    match not {
        Not::Is => "",
        Not::IsNot => "! ",
    }
}

fn action(action: Action, family: Family) -> String {
    let all = "0xffffffff";
    match action {
        Action::Return => "-j RETURN".to_owned(),
        Action::Accept => "-j ACCEPT".to_owned(),
        Action::Drop => "-j DROP".to_owned(),
        Action::Jump(chain) => format!("-j {}", chain.name()),
        Action::Redirect(port) => format!("-j REDIRECT --to-ports {port}"),
        Action::Tproxy(port) => {
            let any = match family {
                Family::V4 => "0.0.0.0",
                Family::V6 => "::",
            };
            format!(
                "-j TPROXY --on-port {port} --on-ip {any} --tproxy-mark {INBOUND_MARK:#x}/{all}"
            )
        }
        Action::SetMark(mark) => format!("-j MARK --set-xmark {mark:#x}/{all}"),
        Action::SaveMark => format!("-j CONNMARK --save-mark --nfmask {all} --ctmask {all}"),
        Action::RestoreMark => format!("-j CONNMARK --restore-mark --nfmask {all} --ctmask {all}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::rules;
    use super::*;
    use crate::model::{CaptureSpec, Chosen, Interception, list};

    fn lines(spec: &CaptureSpec, family: Family) -> Vec<String> {
        let text = text(&rules(spec, family));
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn c2_the_default_rules_are_istios_in_istios_order() {
        let expected = "\
*nat
:ISTIO_INBOUND - [0:0]
:ISTIO_IN_REDIRECT - [0:0]
:ISTIO_OUTPUT - [0:0]
:ISTIO_REDIRECT - [0:0]
-I PREROUTING 1 -p tcp -m comment --comment sortie -j ISTIO_INBOUND
-I OUTPUT 1 -m comment --comment sortie -j ISTIO_OUTPUT
-A ISTIO_INBOUND -p tcp -m tcp --dport 15008 -j RETURN
-A ISTIO_INBOUND -p tcp -m tcp --dport 15090 -j RETURN
-A ISTIO_INBOUND -p tcp -m tcp --dport 15021 -j RETURN
-A ISTIO_INBOUND -p tcp -m tcp --dport 15020 -j RETURN
-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
-A ISTIO_OUTPUT -s 127.0.0.6/32 -o lo -j RETURN
-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 15008 -m owner --gid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --gid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN
-A ISTIO_OUTPUT -j ISTIO_REDIRECT
-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
COMMIT
";
        assert_eq!(text(&rules(&CaptureSpec::default(), Family::V4)), expected);
        let six = expected
            .replace("127.0.0.6/32", "::6/128")
            .replace("127.0.0.1/32", "::1/128");
        assert_eq!(text(&rules(&CaptureSpec::default(), Family::V6)), six);
    }

    #[test]
    fn c2_exclusions_stand_before_inclusions_and_each_in_its_family() {
        let spec = CaptureSpec {
            exclude_outbound_ports: vec![3306],
            exclude_outbound_ranges: list("10.1.0.0/16,fd00:1::/32").unwrap(),
            outbound_ranges: Chosen::Only(list("10.0.0.0/8,fd00::/8").unwrap()),
            outbound_ports: vec![443],
            ..CaptureSpec::default()
        };
        for (family, excluded, included) in [
            (Family::V4, "10.1.0.0/16", "10.0.0.0/8"),
            (Family::V6, "fd00:1::/32", "fd00::/8"),
        ] {
            let lines = lines(&spec, family);
            let of = |line: &&String| line.starts_with("-A ISTIO_OUTPUT ");
            let chain: Vec<&String> = lines.iter().filter(of).collect();
            let (first, last) = (&chain[..2], &chain[chain.len() - 3..]);
            assert_eq!(
                first[0],
                "-A ISTIO_OUTPUT -p tcp -m tcp --dport 3306 -j RETURN"
            );
            assert_eq!(
                first[1],
                "-A ISTIO_OUTPUT -p udp -m udp --dport 3306 -j RETURN"
            );
            assert_eq!(last[0], &format!("-A ISTIO_OUTPUT -d {excluded} -j RETURN"));
            assert_eq!(
                last[1],
                "-A ISTIO_OUTPUT -p tcp -m tcp --dport 443 -j ISTIO_REDIRECT"
            );
            assert_eq!(
                last[2],
                &format!("-A ISTIO_OUTPUT -d {included} -j ISTIO_REDIRECT")
            );
        }
    }

    #[test]
    fn c2_who_names_loopback_has_the_calls_to_oneself_captured_too() {
        let spec = CaptureSpec {
            outbound_ranges: Chosen::Only(list("127.1.2.3/32").unwrap()),
            ..CaptureSpec::default()
        };
        let alone = |spec: &CaptureSpec| {
            let lines = lines(spec, Family::V4);
            lines.iter().any(|line| line.contains("! --uid-owner"))
        };
        assert!(!alone(&spec));
        assert!(alone(&CaptureSpec::default()));
    }

    #[test]
    fn c2_no_inbound_port_means_no_inbound_chain() {
        for interception in [Interception::Redirect, Interception::Tproxy] {
            let spec = CaptureSpec {
                inbound_ports: Chosen::Only(vec![]),
                interception,
                ..CaptureSpec::default()
            };
            let lines = lines(&spec, Family::V4);
            assert!(
                !lines.iter().any(|line| line.contains("ISTIO_INBOUND")),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn c4_the_rules_of_tproxy_are_istios_in_istios_order() {
        let spec = CaptureSpec {
            interception: Interception::Tproxy,
            ..CaptureSpec::default()
        };
        let text = text(&rules(&spec, Family::V4));
        let (mangle, nat) = text.split_once("COMMIT\n").unwrap();
        let expected = "\
*mangle
:ISTIO_DIVERT - [0:0]
:ISTIO_INBOUND - [0:0]
:ISTIO_TPROXY - [0:0]
-I PREROUTING 1 -p tcp -m comment --comment sortie -j ISTIO_INBOUND
-I PREROUTING 2 -p tcp -m mark --mark 0x539 -m comment --comment sortie -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff
-I OUTPUT 1 -o lo -p tcp -m mark --mark 0x539 -m comment --comment sortie -j RETURN
-I OUTPUT 2 ! -d 127.0.0.1/32 -o lo -p tcp -m owner --uid-owner 1337 -m comment --comment sortie -j MARK --set-xmark 0x53a/0xffffffff
-I OUTPUT 3 ! -d 127.0.0.1/32 -o lo -p tcp -m owner --gid-owner 1337 -m comment --comment sortie -j MARK --set-xmark 0x53a/0xffffffff
-I OUTPUT 4 -p tcp -m connmark --mark 0x539 -m comment --comment sortie -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff
-A ISTIO_DIVERT -j MARK --set-xmark 0x539/0xffffffff
-A ISTIO_DIVERT -j ACCEPT
-A ISTIO_INBOUND -p tcp -m mark --mark 0x539 -j RETURN
-A ISTIO_INBOUND -s 127.0.0.6/32 -i lo -p tcp -j RETURN
-A ISTIO_INBOUND -i lo -p tcp -m mark ! --mark 0x53a -j RETURN
-A ISTIO_INBOUND -p tcp -m tcp --dport 15008 -j RETURN
-A ISTIO_INBOUND -p tcp -m tcp --dport 15090 -j RETURN
-A ISTIO_INBOUND -p tcp -m tcp --dport 15021 -j RETURN
-A ISTIO_INBOUND -p tcp -m tcp --dport 15020 -j RETURN
-A ISTIO_INBOUND -p tcp -m conntrack --ctstate RELATED,ESTABLISHED -j ISTIO_DIVERT
-A ISTIO_INBOUND -p tcp -j ISTIO_TPROXY
-A ISTIO_TPROXY ! -d 127.0.0.1/32 -p tcp -j TPROXY --on-port 15006 --on-ip 0.0.0.0 --tproxy-mark 0x539/0xffffffff
-A ISTIO_TPROXY ! -d 127.0.0.1/32 -p tcp -j DROP
";
        assert_eq!(mangle, expected);
        assert!(
            !nat.contains("PREROUTING"),
            "inbound is mangle's alone: {nat}"
        );
        assert!(nat.contains("-A ISTIO_OUTPUT -j ISTIO_REDIRECT"), "{nat}");
    }

    #[test]
    fn c10_what_is_saved_is_read_back_as_ours_and_nothing_else_is() {
        let ruleset = rules(&CaptureSpec::default(), Family::V4);
        let others = "*filter\n-A INPUT -j DROP\nCOMMIT\n*nat\n:OTHER - [0:0]\n\
                      -A OUTPUT -j OTHER\nCOMMIT\n";
        let told = text(&ruleset)
            .replace("-I PREROUTING 1", "-A PREROUTING")
            .replace("-I OUTPUT 1", "-A OUTPUT");
        let saved = format!("# a comment\n*filter\n-A INPUT -j DROP\nCOMMIT\n{told}");
        let ours = Ours::saved(&saved).unwrap();
        assert_eq!(ours, Ours::wanted(&ruleset));
        assert!(ours.difference(&ours, Family::V4).is_none());
        assert!(Ours::saved(others).unwrap().is_empty());
        // To remove is to name what is there, and nothing of others.
        let gone = ours.to(&Ours::default());
        assert!(
            gone.contains("-D OUTPUT -m comment --comment sortie -j ISTIO_OUTPUT"),
            "{gone}"
        );
        assert!(
            gone.contains("-X ISTIO_OUTPUT") && !gone.contains("OTHER"),
            "{gone}"
        );
    }

    #[test]
    fn c10_a_rule_of_anothers_that_stands_before_ours_is_named_and_one_behind_is_not() {
        let ruleset = rules(&CaptureSpec::default(), Family::V4);
        let wanted = Ours::wanted(&ruleset);
        let ours = "-A OUTPUT -m comment --comment sortie -j ISTIO_OUTPUT";
        let theirs = "-A OUTPUT -p tcp -m tcp --dport 80 -j ACCEPT";
        let told = text(&ruleset)
            .replace("-I PREROUTING 1", "-A PREROUTING")
            .replace("-I OUTPUT 1", "-A OUTPUT");
        let before = Ours::saved(&told.replace(ours, &format!("{theirs}\n{ours}"))).unwrap();
        let difference = before.difference(&wanted, Family::V4);
        let named = format!("iptables nat: {theirs}: it stands before ours");
        assert_eq!(
            (difference.missing, difference.extra),
            (vec![], vec![named])
        );
        assert!(
            before.to(&wanted).contains("-I OUTPUT 1 "),
            "ours goes first"
        );
        let behind = Ours::saved(&told.replace(ours, &format!("{ours}\n{theirs}"))).unwrap();
        assert!(behind.difference(&wanted, Family::V4).is_none());
    }

    #[test]
    fn c10_a_capture_of_anothers_is_not_taken_for_ours() {
        let theirs = "*nat\n:ISTIO_OUTPUT - [0:0]\n-A OUTPUT -j ISTIO_OUTPUT\nCOMMIT\n";
        let error = Ours::saved(theirs).unwrap_err().to_string();
        assert!(
            error.starts_with("table nat has \"-A OUTPUT -j ISTIO_OUTPUT\""),
            "{error}"
        );
    }
}
