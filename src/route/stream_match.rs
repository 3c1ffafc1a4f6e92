//! Names and networks, with the more specific one first.
//!
//! Owns: [`Names`] (exact, longest wildcard, `*`) [`Networks`] (longest prefix, whole port),
//! and [`Rank`], by which fits compare.
//! Never: knows what it leads to.
//! Called by: `stream`, `snapshot::entrance`.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::HostPattern;

/// Entries by server name. Those of one name keep the order in which they came.
pub struct Names<T> {
    exact: HashMap<Box<str>, Vec<T>>,
    /// Keyed by what follows `*.`.
    suffix: HashMap<Box<str>, Vec<T>>,
    any: Vec<T>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Names {
            exact: HashMap::new(),
            suffix: HashMap::new(),
            any: Vec::new(),
        }
    }
}

impl<T> Names<T> {
    /// Adds an entry behind those of the same name.
    pub fn insert(&mut self, name: &HostPattern, entry: T) {
        let entries = match name {
            HostPattern::Exact(name) => self.exact.entry(name.as_str().into()).or_default(),
            HostPattern::Suffix(name) => self.suffix.entry(name.as_str().into()).or_default(),
            HostPattern::Any => &mut self.any,
        };
        entries.push(entry);
    }

    /// True where there is no entry.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.suffix.is_empty() && self.any.is_empty()
    }

    /// The first entry that `fits`, of the most specific name that has one; of several layers the
    /// first one first. A name whose entries do not fit is as if it were not there.
    pub fn find<'a>(
        layers: impl Iterator<Item = &'a Names<T>> + Clone,
        name: Option<&str>,
        fits: impl Fn(&T) -> bool,
    ) -> Option<&'a T> {
        if let Some(name) = name {
            let exact = layers.clone().filter_map(|layer| layer.exact.get(name));
            if let Some(found) = exact.flatten().find(|entry| fits(entry)) {
                return Some(found);
            }
            // Labels are stripped from the left, so that the longest suffix comes first.
            let mut rest = name;
            while let Some((_, shorter)) = rest.split_once('.') {
                rest = shorter;
                let suffix = layers.clone().filter_map(|layer| layer.suffix.get(rest));
                if let Some(found) = suffix.flatten().find(|entry| fits(entry)) {
                    return Some(found);
                }
            }
        }
        layers
            .flat_map(|layer| &layer.any)
            .find(|entry| fits(entry))
    }
}

/// How specific a fit is: the length of the prefix, and then whether it is for this port alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// `None`: every address.
    prefix: Option<u8>,
    this_port: bool,
}

impl Rank {
    /// Every address.
    pub(super) fn whole(this_port: bool) -> Rank {
        Rank {
            prefix: None,
            this_port,
        }
    }
}

/// Entries by network. Those of one network keep the order in which they came.
pub(super) struct Networks<T> {
    /// Single addresses, of which there may be thousands.
    hosts: HashMap<IpAddr, Vec<T>>,
    /// The longest prefix first, once sorted.
    networks: Vec<(IpNet, T)>,
    whole: Vec<T>,
}

impl<T> Default for Networks<T> {
    fn default() -> Self {
        Networks {
            hosts: HashMap::new(),
            networks: Vec::new(),
            whole: Vec::new(),
        }
    }
}

/// Whether two entries are one and the same.
pub(super) trait Same {
    fn same(&self, other: &Self) -> bool;
}

impl<T: Clone + Same> Networks<T> {
    /// No network at all means every address.
    pub(super) fn insert(&mut self, networks: &[IpNet], entry: T) {
        if networks.is_empty() {
            return self.whole.push(entry);
        }
        for network in networks {
            if network.prefix_len() == network.max_prefix_len() {
                let host = self.hosts.entry(network.addr()).or_default();
                host.push(entry.clone());
            } else {
                self.networks.push((network.trunc(), entry.clone()));
            }
        }
    }

    /// To be called once, after the last insert.
    pub(super) fn sort(&mut self) {
        // Stable: the order in which equal ones were written decides (V18).
        self.networks
            .sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix_len()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.networks.is_empty() && self.whole.is_empty()
    }

    /// The most specific entry for `address` that `fits`. Where no address is known, one for every
    /// address, or else the only one that there is for this port.
    pub(super) fn best(
        &self,
        address: Option<IpAddr>,
        this_port: bool,
        fits: impl Fn(&T) -> bool,
    ) -> Option<(Rank, &T)> {
        let ranked = |prefix| Rank { prefix, this_port };
        let whole = || Some((ranked(None), self.whole.iter().find(|entry| fits(entry))?));
        let Some(address) = address else {
            let only = || self.only(&fits).filter(|_| this_port);
            return whole().or_else(|| Some((ranked(None), only()?)));
        };
        let host = self.hosts.get(&address);
        if let Some(found) = host.into_iter().flatten().find(|entry| fits(entry)) {
            let most = if address.is_ipv4() { 32 } else { 128 };
            return Some((ranked(Some(most)), found));
        }
        let mut networks = self.networks.iter();
        let found = networks.find(|(network, entry)| network.contains(&address) && fits(entry));
        match found {
            Some((network, entry)) => Some((ranked(Some(network.prefix_len())), entry)),
            None => whole(),
        }
    }

    /// The one entry with networks, if there is but one.
    fn only(&self, fits: &impl Fn(&T) -> bool) -> Option<&T> {
        let hosts = self.hosts.values().flatten();
        let networks = self.networks.iter().map(|(_, entry)| entry);
        let mut fit = hosts.chain(networks).filter(|entry| fits(entry));
        let first = fit.next()?;
        fit.all(|other| other.same(first)).then_some(first)
    }
}
