//! The hosts of a table, and which group each of them and its ports lead to.
//!
//! Owns: exact names by hash, the groups of one host by port, the lengths of suffixes.
//! Never: knows what a group does: it is a number here.
//! Called by: `table`.
//!
//! Why a list beside its index, and not a map: 32 bytes a host and no empty room between, of which a map would have
//! as much again.

use crate::model::{Host, NamePlaces};

/// The hosts that are named in full.
#[derive(Default)]
pub(super) struct Exact {
    places: NamePlaces,
    hosts: Vec<(Host, Ports)>,
}

/// The groups of one host pattern, by destination port: numbers of `groups::Groups`.
#[derive(Default)]
pub(super) enum Ports {
    #[default]
    None,
    /// Mostly there is one.
    One(Option<u16>, u32),
    /// Sorted by port, any port first.
    Many(Box<[(Option<u16>, u32)]>),
}

/// A set of lengths from 0 to 255: a host has at most 253 bytes.
#[derive(Default)]
pub(super) struct Lengths([u64; 4]);

impl Exact {
    /// With room for `count` hosts.
    pub(super) fn with_capacity(count: usize) -> Exact {
        Exact {
            places: NamePlaces::with_capacity(count),
            hosts: Vec::with_capacity(count),
        }
    }

    /// What was too much room: one host may have stood for several ports.
    pub(super) fn shrink(&mut self) {
        self.hosts.shrink_to_fit();
    }

    /// Every host, in the order in which they came.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Host, &Ports)> {
        self.hosts.iter().map(|(host, ports)| (host, ports))
    }

    pub(super) fn get(&self, host: &str) -> Option<&Ports> {
        let is = |place: usize| is_at(&self.hosts, place, host);
        let (_, ports) = self.hosts.get(self.places.find(host, is)?)?;
        Some(ports)
    }

    pub(super) fn insert(&mut self, host: &Host, port: Option<u16>, group: u32) -> Option<u32> {
        let (name, hosts) = (host.as_str(), &self.hosts);
        let is = |place: usize| is_at(hosts, place, name);
        match self.places.find_or_insert(name, hosts.len(), is) {
            Some(place) => self.hosts.get_mut(place)?.1.insert(port, group),
            None => {
                self.hosts.push((host.clone(), Ports::One(port, group)));
                None
            }
        }
    }
}

fn is_at(hosts: &[(Host, Ports)], place: usize, host: &str) -> bool {
    let there = hosts.get(place);
    there.is_some_and(|(there, _)| there.as_str() == host)
}

impl Ports {
    /// Adds a group; gives the one that was there already.
    pub(super) fn insert(&mut self, port: Option<u16>, group: u32) -> Option<u32> {
        let mut all: Vec<_> = match self {
            Ports::None => Vec::new(),
            Ports::One(port, group) => vec![(*port, *group)],
            Ports::Many(all) => all.to_vec(),
        };
        match all.binary_search_by_key(&port, |(port, _)| *port) {
            Ok(index) => all.get(index).map(|(_, first)| *first),
            Err(index) => {
                all.insert(index, (port, group));
                *self = match all.as_slice() {
                    [(port, group)] => Ports::One(*port, *group),
                    _ => Ports::Many(all.into()),
                };
                None
            }
        }
    }

    /// An entry with the port beats one without.
    pub(super) fn find(&self, port: u16) -> Option<u32> {
        match self {
            Ports::None => None,
            Ports::One(only, group) => only.is_none_or(|only| only == port).then_some(*group),
            Ports::Many(all) => {
                let exact = all.binary_search_by_key(&Some(port), |(port, _)| *port);
                let any = || all.first().filter(|(port, _)| port.is_none());
                let found = exact.ok().and_then(|index| all.get(index));
                found.or_else(any).map(|(_, group)| *group)
            }
        }
    }

    pub(super) fn has(&self, port: u16) -> bool {
        self.all().iter().any(|(own, _)| *own == Some(port))
    }

    pub(super) fn all(&self) -> Vec<(Option<u16>, u32)> {
        match self {
            Ports::None => Vec::new(),
            Ports::One(port, group) => vec![(*port, *group)],
            Ports::Many(all) => all.to_vec(),
        }
    }
}

impl Lengths {
    pub(super) fn insert(&mut self, length: usize) {
        if let Some(word) = self.0.get_mut(length / 64) {
            *word |= 1 << (length % 64);
        }
    }

    pub(super) fn contains(&self, length: usize) -> bool {
        self.0
            .get(length / 64)
            .is_some_and(|word| word & (1 << (length % 64)) != 0)
    }
}
