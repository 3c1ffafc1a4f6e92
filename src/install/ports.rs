//! The ports of a gateway: read from what it will serve, or said by hand.
//!
//! Owns: [`Port`], which container port stands for which, and conflicts.
//! Never: opens one.
//! Called by: `gateway`.
//!
//! Why ports below 1024 move up by 8000, as Istio's do: whether an ordinary user may bind them in a
//! container is up to the container runtime.

use std::collections::BTreeMap;

use super::words::{Taken, label_name, port};
use crate::model::{Carries, Config, DownstreamTls, EntranceAt, GatewayPort, ListenerKind};

/// Ports that sortie itself has in a pod (ISTIO.md C1).
const OWN: [(u16, &str); 6] = [
    (15000, "the admin port"),
    (15001, "captured connections"),
    (15006, "inbound connections"),
    (15020, "Istio's agent"),
    (15021, "the status port"),
    (15090, "Envoy's metrics"),
];
/// The first port that every user may bind.
const ORDINARY: u16 = 1024;
/// What is added to one below.
const UP: u16 = 8000;

/// A port of the Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Unique in the Service, at most 15 characters.
    pub name: String,
    /// Where clients call.
    pub number: u16,
    /// Where the container listens.
    pub target: u16,
    /// What opens it.
    pub opened: Opened,
}

/// What opens a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// A Gateway document, on its number or where `--gateway-port` says.
    Gateway,
    /// A native document, always.
    Native,
    /// `--listen`.
    Listen,
}

/// `NAME:PORT` or `NAME:PORT:TARGET`.
pub fn said(value: &str) -> Taken<Port> {
    let mut parts = value.split(':');
    let (name, number) = (parts.next(), parts.next());
    let target = parts.next();
    let (Some(name), Some(number), None) = (name, number, parts.next()) else {
        return Err("expected NAME:PORT or NAME:PORT:CONTAINERPORT".to_owned());
    };
    let name = label_name(name)?;
    if name.len() > 15 {
        return Err("a port's name has at most 15 characters".to_owned());
    }
    let number = port(number)?;
    let target = target.map_or(Ok(ordinary(number)), port)?;
    Ok(Port {
        name,
        number,
        target,
        opened: Opened::Gateway,
    })
}

/// A port for plain HTTP.
pub fn listen(value: &str) -> Taken<Port> {
    let number = port(value)?;
    Ok(Port {
        name: format!("http-{number}"),
        number,
        target: ordinary(number),
        opened: Opened::Listen,
    })
}

fn ordinary(number: u16) -> u16 {
    match number < ORDINARY {
        true => number + UP,
        false => number,
    }
}

/// The ports that a configuration opens to others than its own pod, by number.
pub fn of(config: &Config) -> Vec<Port> {
    let mut found = BTreeMap::new();
    for listener in &config.listeners {
        let bound = listener.address;
        if bound.ip().is_loopback() || bound.port() == 0 {
            continue;
        }
        let port = match listener.kind {
            ListenerKind::Gateway(at) => Port {
                name: format!("{}-{}", protocol(config, at), at.number),
                number: at.number,
                target: ordinary(bound.port()),
                opened: Opened::Gateway,
            },
            ListenerKind::Direct => Port {
                name: format!("http-{}", bound.port()),
                number: bound.port(),
                target: bound.port(),
                opened: Opened::Native,
            },
            ListenerKind::Capture | ListenerKind::Inbound(_) => continue,
        };
        found.entry(port.number).or_insert(port);
    }
    found.into_values().collect()
}

/// The protocol as Istio has it in names of ports.
fn protocol(config: &Config, port: GatewayPort) -> &'static str {
    let here = |at: &EntranceAt| matches!(at, EntranceAt::Gateway(other, _) if *other == port);
    let mut entrances = config.entrances.iter().filter(|one| here(&one.at));
    match entrances.next() {
        Some(one) => match (&one.tls, one.carries) {
            (DownstreamTls::Disable, Carries::Http | Carries::Either) => "http",
            (DownstreamTls::Disable, Carries::Opaque) => "tcp",
            (DownstreamTls::PassThrough { .. }, _) | (_, Carries::Opaque) => "tls",
            (DownstreamTls::Strict(_) | DownstreamTls::Permissive(_), _) => "https",
        },
        None => "tcp",
    }
}

/// Names what cannot be together: two ports of one number, name or container port, and those that
/// sortie itself has.
pub fn conflicts(ports: &[Port]) -> Vec<String> {
    let mut problems = Vec::new();
    for (nth, port) in ports.iter().enumerate() {
        let Port {
            name,
            number,
            target,
            ..
        } = port;
        if let Some((_, what)) = OWN.iter().find(|(own, _)| own == target) {
            problems.push(format!(
                "port {number} ({name}): container port {target} is sortie's own, for {what}; give \
                 it another one: --set ports={name}:{number}:CONTAINERPORT"
            ));
        }
        if name == "status" {
            problems.push(format!(
                "port {number}: its name, status, is that of sortie's own port"
            ));
        }
        for other in ports.iter().take(nth) {
            let shared = if other.number == *number {
                format!("have the number {number}")
            } else if other.name == *name {
                format!("have the name {name}")
            } else if other.target == *target {
                format!("are container port {target}")
            } else {
                continue;
            };
            let (one, two) = (other.number, number);
            let one_name = &other.name;
            problems.push(format!(
                "ports {one} ({one_name}) and {two} ({name}) both {shared}"
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_says_its_name_number_and_container_port() {
        let https = said("https:443").unwrap();
        assert_eq!((https.number, https.target), (443, 8443));
        assert_eq!(said("tcp-db:5432").unwrap().target, 5432);
        assert_eq!(said("tls:443:9443").unwrap().target, 9443);
        for bad in [
            "443",
            "https:",
            "https:0",
            "a:1:2:3",
            "https-of-the-bank:443",
            "H:1",
        ] {
            assert!(said(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn conflicting_ports_are_named() {
        let all =
            ["a:80", "b:80:9000", "c:8080", "d:15021", "a:81"].map(|text| said(text).unwrap());
        assert_eq!(
            conflicts(&all),
            [
                "ports 80 (a) and 80 (b) both have the number 80",
                "ports 80 (a) and 8080 (c) both are container port 8080",
                "port 15021 (d): container port 15021 is sortie's own, for the status port; give \
                 it another one: --set ports=d:15021:CONTAINERPORT",
                "ports 80 (a) and 81 (a) both have the name a",
            ]
        );
        let status = conflicts(&[said("status:80").unwrap()]);
        assert!(status[0].contains("sortie's own port"), "{status:?}");
        assert_eq!(
            conflicts(&[said("a:80").unwrap(), said("b:443").unwrap()]),
            [""; 0]
        );
    }
}
