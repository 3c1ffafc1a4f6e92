//! Applies the rules, takes them back and compares them: all or nothing, and twice is once.
//!
//! Owns: the order of the steps, and what is undone where one fails.
//! Never: prints.
//! Called by: cli (`sortie capture apply`, `remove`, `check`).

use rustix::io::Errno;

use super::check::{Difference, difference};
use super::iptables::Foreign;
use super::programs;
use super::routing::{self, Beside};
use super::rules::{Family, Ruleset};
use super::socket::{Socket, SocketError};
use super::wire::{self, Batch};

/// Who sets the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// This program, by netlink, in tables of its own.
    Nftables,
    /// iptables-restore and ip6tables-restore.
    Iptables,
}

/// Why the rules are not there, or not gone.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// CAP_NET_ADMIN is missing.
    #[error(
        "the capability NET_ADMIN is missing: run as root, or give the container \
         securityContext.capabilities.add: [NET_ADMIN] (docker: --cap-add NET_ADMIN)"
    )]
    NotPermitted,
    /// The kernel refused something.
    #[error("{about}: {source}{hint}")]
    Refused {
        /// What.
        about: String,
        /// Why.
        source: SocketError,
        /// What to do, if that is known.
        hint: &'static str,
    },
    /// Chains of another's capture.
    #[error(transparent)]
    Foreign(Foreign),
    /// Ours, set by the other backend; or istio-iptables'.
    #[error(
        "{0} has the chain {1}: another capture is in place, and two would redirect twice; remove it \
         first, with sortie capture remove, or istio-iptables --cleanup-only if it is Istio's"
    )]
    Other(String, String),
    /// A program that is not installed.
    #[error("{program} is not installed: install iptables, or leave --backend=iptables out")]
    NoProgram {
        /// Which.
        program: &'static str,
    },
    /// A program that failed.
    #[error("{program} failed: {said}")]
    Program {
        /// Which.
        program: &'static str,
        /// In its words.
        said: String,
    },
    /// A failure, and another while undoing what went before.
    #[error("{0}; and what went before could not be taken back: {1}")]
    Left(Box<ApplyError>, String),
}

impl ApplyError {
    fn new(about: impl Into<String>, source: SocketError) -> ApplyError {
        let errno = match source {
            SocketError::Refused { errno, .. } | SocketError::Io(errno) => Some(errno),
            _ => None,
        };
        let hint = match errno {
            Some(Errno::PERM) => return ApplyError::NotPermitted,
            Some(Errno::ACCESS) => {
                ": IPv6 is off on the loopback: sysctl net.ipv6.conf.lo.disable_ipv6=0"
            }
            Some(Errno::NOENT | Errno::OPNOTSUPP | Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT) => {
                ": this kernel lacks a part (nf_tables, nft_redir, nft_nat, nft_ct; nft_tproxy for \
                 TPROXY): load it on the host, or use --backend=iptables"
            }
            Some(Errno::BUSY) => ": another process holds it",
            Some(Errno::NETDOWN) => ": bring the loopback up first: ip link set lo up",
            Some(Errno::MSGSIZE | Errno::NOBUFS) => {
                ": so many rules do not fit one message here: shorten the lists, or raise \
                 net.core.wmem_max on the host"
            }
            _ => "",
        };
        ApplyError::Refused {
            about: about.into(),
            source,
            hint,
        }
    }

    pub(super) fn with_left(self, left: Vec<String>) -> ApplyError {
        match left.is_empty() {
            true => self,
            false => ApplyError::Left(Box::new(self), left.join("; ")),
        }
    }
}

/// Sets these rules in place of what was set before. False where they were there already.
///
/// # Errors
/// What was refused; nothing has changed then.
pub fn apply(rulesets: &[Ruleset], backend: Backend) -> Result<bool, ApplyError> {
    alone(backend)?;
    if check(rulesets, backend).is_ok_and(|difference| difference.is_none()) {
        return Ok(false);
    }
    let route = Socket::route().map_err(|error| ApplyError::new("rtnetlink", error))?;
    let needed = routing::needed(rulesets);
    let mut made = Vec::new();
    // The way of marked packets first: none is marked before there is one.
    let done = add(&needed, &route, &mut made).and_then(|()| set(rulesets, backend));
    if let Err(error) = done {
        let left = made.iter().rev().filter_map(|one| {
            let error = one.remove(&route).err()?;
            Some(format!("{one}: {error}"))
        });
        return Err(error.with_left(left.collect()));
    }
    // Of a TPROXY that is now none. The address harms nobody, and open connections may be from it.
    for one in routing::ALL {
        if one != Beside::Address && !needed.contains(&one) {
            one.remove(&route)
                .map_err(|error| ApplyError::new(one.to_string(), error))?;
        }
    }
    Ok(true)
}

/// Takes away all that was ever applied, by whichever backend. False where there was nothing.
///
/// # Errors
/// What was refused; or rules of another's capture, which stay.
pub fn remove() -> Result<bool, ApplyError> {
    let socket = netfilter()?;
    let mut removed = match programs::set(&[]) {
        // Without the program there is nothing of its making, unless the kernel says so.
        Err(ApplyError::NoProgram { .. }) => {
            alone(Backend::Nftables)?;
            false
        }
        done => done?,
    };
    removed |= !read(&socket)?.iter().all(|(_, ours)| ours.is_empty());
    // Even where there was no chain: there may be a table.
    set(&[], Backend::Nftables)?;
    let route = Socket::route().map_err(|error| ApplyError::new("rtnetlink", error))?;
    for one in routing::ALL.iter().rev() {
        removed |= one
            .remove(&route)
            .map_err(|error| ApplyError::new(one.to_string(), error))?;
    }
    Ok(removed)
}

/// What is between these rules and those that are there.
///
/// # Errors
/// What could not be read.
pub fn check(rulesets: &[Ruleset], backend: Backend) -> Result<Difference, ApplyError> {
    let mut all = match backend {
        Backend::Nftables => of_nftables(rulesets)?,
        Backend::Iptables => {
            let mut all = Difference::default();
            for (family, now, wanted) in programs::saved(rulesets)? {
                all.and(now.difference(&wanted, family));
            }
            all
        }
    };
    let route = Socket::route().map_err(|error| ApplyError::new("rtnetlink", error))?;
    let needed = routing::needed(rulesets);
    for one in routing::ALL {
        let there = one
            .is_there(&route)
            .map_err(|error| ApplyError::new(one.to_string(), error))?;
        match (needed.contains(&one), there) {
            (true, false) => all.missing.push(one.to_string()),
            (false, true) if one != Beside::Address => all.extra.push(one.to_string()),
            _ => {}
        }
    }
    Ok(all)
}

fn of_nftables(rulesets: &[Ruleset]) -> Result<Difference, ApplyError> {
    let mut all = Difference::default();
    for (family, found) in read(&netfilter()?)? {
        let none = Ruleset {
            family,
            chains: Vec::new(),
        };
        let wanted = rulesets.iter().find(|one| one.family == family);
        all.and(difference(wanted.unwrap_or(&none), &found));
    }
    Ok(all)
}

fn netfilter() -> Result<Socket, ApplyError> {
    Socket::netfilter().map_err(|error| ApplyError::new("nf_tables", error))
}

fn read(socket: &Socket) -> Result<Vec<(Family, Vec<wire::Found>)>, ApplyError> {
    let mut found = Vec::new();
    for family in Family::ALL {
        let ours = wire::read(socket, family)
            .map_err(|error| ApplyError::new(format!("{} rules", family.word()), error))?;
        found.push((family, ours));
    }
    Ok(found)
}

/// Refuses where the other backend, or istio-iptables, has redirected already. What cannot be read
/// is not held against us: to apply will say what is wrong.
fn alone(backend: Backend) -> Result<(), ApplyError> {
    let Ok(socket) = Socket::netfilter() else {
        return Ok(());
    };
    for family in Family::ALL {
        let chains = wire::captures(&socket, family).unwrap_or_default();
        let other = match backend {
            Backend::Nftables => chains
                .into_iter()
                .find(|(table, _)| table != super::rules::TABLE),
            Backend::Iptables => chains
                .into_iter()
                .find(|(table, _)| table == super::rules::TABLE),
        };
        if let Some((table, chain)) = other {
            let table = format!("table {} {table}", family.word());
            return Err(ApplyError::Other(table, chain));
        }
    }
    Ok(())
}

fn add(needed: &[Beside], route: &Socket, made: &mut Vec<Beside>) -> Result<(), ApplyError> {
    for one in needed {
        let new = one
            .add(route)
            .map_err(|error| ApplyError::new(one.to_string(), error))?;
        if new {
            made.push(*one);
        }
    }
    Ok(())
}

fn set(rulesets: &[Ruleset], backend: Backend) -> Result<(), ApplyError> {
    if backend == Backend::Iptables {
        return programs::set(rulesets).map(drop);
    }
    let socket = netfilter()?;
    // A family that is neither wanted nor there is not spoken of: the kernel may not have it.
    let mut families = Vec::new();
    for family in Family::ALL {
        let of = |one: &&Ruleset| one.family == family && !one.chains.is_empty();
        let there = wire::has_table(&socket, family)
            .map_err(|error| ApplyError::new(format!("{} tables", family.word()), error))?;
        if there || rulesets.iter().find(of).is_some() {
            families.push(family);
        }
    }
    if families.is_empty() {
        return Ok(());
    }
    Batch::replacing(rulesets, &families)
        .send(&socket)
        .map_err(|(about, error)| ApplyError::new(about, error))
}
