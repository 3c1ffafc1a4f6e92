//! What a capture may not ask for, and what it had better not (ISTIO.md C8).
//!
//! Owns: contradictions, doubts, and how they are named.
//! Never: makes a rule.
//! Called by: cli (`sortie capture`).

use ipnet::IpNet;

use crate::model::{CaptureSpec, Chosen, Interception, LOCAL_PORTS, TUNNEL_PORT};

/// What a capture asks for that cannot be, or that is not what it seems.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Both listeners on one port.
    #[error("--outbound-port and --inbound-port are both {0}: give each listener its own port")]
    SamePort(u16),
    /// A listener on a port that must stay open, or that is HBONE's.
    #[error(
        "{flag} is {port}, which is never captured (15008, 15020, 15021, 15090): take another port"
    )]
    Reserved {
        /// The flag.
        flag: &'static str,
        /// Its value.
        port: u16,
    },
    /// In both lists.
    #[error("port {port} is in {included} and in {excluded}: take it out of one")]
    BothPorts {
        /// The port.
        port: u16,
        /// The flag that captures it.
        included: &'static str,
        /// The flag that does not.
        excluded: &'static str,
    },
    /// In both lists.
    #[error("{0} is in --outbound-ranges and in --exclude-outbound-ranges: take it out of one")]
    BothRanges(IpNet),
    /// A listener's own port that is to be captured: it would be led to itself.
    #[error("--inbound-ports has {0}, where the proxy listens for what is captured: take it out")]
    OwnPort(u16),
    /// Nothing of the proxy's is let go: every connection would go round.
    #[error(
        "--uid and --gid are both empty: what the proxy itself sends would come back to it for \
         ever; say which user or group it runs as, as --uid=1337"
    )]
    NobodyLeaves,
    /// Excluded and virtual at once.
    #[error("interface {0} is in --exclude-interfaces and in --virtual-interfaces: choose")]
    BothInterfaces(String),
}

/// All contradictions of the spec; none: it can be applied.
pub fn conflicts(spec: &CaptureSpec) -> Vec<Conflict> {
    if spec.interception == Interception::Off {
        return Vec::new();
    }
    let mut found = Vec::new();
    if spec.outbound_port == spec.inbound_port {
        found.push(Conflict::SamePort(spec.inbound_port));
    }
    let listeners = [
        ("--outbound-port", spec.outbound_port),
        ("--inbound-port", spec.inbound_port),
    ];
    for (flag, port) in listeners {
        if LOCAL_PORTS.contains(&port) || port == TUNNEL_PORT {
            found.push(Conflict::Reserved { flag, port });
        }
    }
    if spec.uids.is_empty() && spec.gids.is_empty() {
        found.push(Conflict::NobodyLeaves);
    }
    found.extend(both_ways(spec));
    found
}

fn both_ways(spec: &CaptureSpec) -> Vec<Conflict> {
    let mut found = Vec::new();
    if let Chosen::Only(ports) = &spec.inbound_ports {
        for &port in ports {
            if port == spec.inbound_port || port == spec.outbound_port {
                found.push(Conflict::OwnPort(port));
            } else if spec.exclude_inbound_ports.contains(&port) {
                found.push(Conflict::BothPorts {
                    port,
                    included: "--inbound-ports",
                    excluded: "--exclude-inbound-ports",
                });
            }
        }
    }
    for &port in &spec.outbound_ports {
        if spec.exclude_outbound_ports.contains(&port) {
            found.push(Conflict::BothPorts {
                port,
                included: "--outbound-ports",
                excluded: "--exclude-outbound-ports",
            });
        }
    }
    if let Chosen::Only(ranges) = &spec.outbound_ranges {
        let both = ranges
            .iter()
            .filter(|range| spec.exclude_outbound_ranges.contains(range));
        found.extend(both.map(|range| Conflict::BothRanges(*range)));
    }
    let virtual_too = |name: &&String| spec.virtual_interfaces.contains(name);
    let names = spec.exclude_interfaces.iter().filter(virtual_too);
    found.extend(names.map(|name| Conflict::BothInterfaces(name.clone())));
    found
}

/// What can be applied, and may not do what is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// Root is let go (C8).
    #[error(
        "{0} has 0: whatever runs as root beside the proxy is taken for it and is not captured; \
         give the proxy a user or a group of its own, as --uid=1337 --gid=1337"
    )]
    Root(&'static str),
    /// An included port that never is.
    #[error("--inbound-ports has {0}, which is never captured: the proxy itself answers there")]
    Never(u16),
    /// Nothing is redirected anywhere.
    #[error(
        "nothing is captured: --outbound-ranges, --outbound-ports and --inbound-ports are empty"
    )]
    Nothing,
}

/// All doubts about the spec.
pub fn doubts(spec: &CaptureSpec) -> Vec<Doubt> {
    if spec.interception == Interception::Off {
        return Vec::new();
    }
    let mut found = Vec::new();
    let owners = [("--uid", &spec.uids), ("--gid", &spec.gids)];
    found.extend(
        owners
            .iter()
            .filter(|(_, ids)| ids.contains(&0))
            .map(|(flag, _)| Doubt::Root(flag)),
    );
    if let Chosen::Only(ports) = &spec.inbound_ports {
        let never = |port: &&u16| LOCAL_PORTS.contains(port) || **port == TUNNEL_PORT;
        found.extend(ports.iter().filter(never).map(|port| Doubt::Never(*port)));
    }
    let none = spec.outbound_ranges == Chosen::Only(Vec::new())
        && spec.inbound_ports == Chosen::Only(Vec::new())
        && spec.outbound_ports.is_empty();
    if none {
        found.push(Doubt::Nothing);
    }
    found
}
