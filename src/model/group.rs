//! Hosts and the rules that are theirs: one entry of the routing table, as it was written.
//!
//! Owns: [`HostRoutes`], and how groups that say the same share their rules.
//! Never: compiles or matches anything (that is `route`).
//! Called by: config (makes it), route (compiles it), whoever shows it to people.
//!
//! Why rules are shared: a configuration of 100,000 hosts mostly says one thing 100,000 times. What is left of each
//! group is its host and its line.

use std::ops::Deref;
use std::sync::Arc;

use super::config::Place;
use super::host::HostPattern;
use super::rule::RuleSpec;

/// Rules for a set of hosts.
#[derive(Clone, Debug)]
pub struct HostRoutes {
    /// At least one.
    pub hosts: Hosts,
    /// The destination port it is for; `None`: any.
    pub port: Option<u16>,
    /// Tried in order, the first match decides (ISTIO.md V7).
    pub rules: Rules,
    /// Kind, namespace and name of the document that says it: `VirtualService ns/name`; `None`: one of
    /// sortie's own.
    pub object: Option<Arc<str>>,
    /// Where it was written.
    pub place: Place,
}

/// The hosts of a group. Mostly there is one, and it needs no list.
#[derive(Clone, Debug)]
pub enum Hosts {
    /// One.
    One(HostPattern),
    /// As many as there are; none where all were taken away.
    Many(Box<[HostPattern]>),
}

impl Hosts {
    /// Leaves those for which `keep` holds.
    pub fn retain(&mut self, keep: impl Fn(&HostPattern) -> bool) {
        if !self.iter().all(&keep) {
            let kept = self.iter().filter(|host| keep(host)).cloned();
            *self = kept.collect::<Vec<_>>().into();
        }
    }
}

impl From<Vec<HostPattern>> for Hosts {
    fn from(mut hosts: Vec<HostPattern>) -> Hosts {
        match (hosts.len(), hosts.pop()) {
            (1, Some(one)) => Hosts::One(one),
            (_, last) => {
                hosts.extend(last);
                Hosts::Many(hosts.into())
            }
        }
    }
}

impl Deref for Hosts {
    type Target = [HostPattern];

    fn deref(&self) -> &[HostPattern] {
        match self {
            Hosts::One(host) => std::slice::from_ref(host),
            Hosts::Many(hosts) => hosts,
        }
    }
}

impl<'a> IntoIterator for &'a Hosts {
    type Item = &'a HostPattern;
    type IntoIter = std::slice::Iter<'a, HostPattern>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The rules of a group: its own, or those of a group above that says the same in the same file.
#[derive(Clone, Debug)]
pub struct Rules {
    list: Arc<Vec<RuleSpec>>,
    /// By how many lines the group stands below the one whose rules these are.
    below: u32,
}

impl Rules {
    /// The same rules for a group that says them `lines` lines further down.
    pub fn further_down(&self, lines: u32) -> Rules {
        Rules {
            list: Arc::clone(&self.list),
            below: self.below.saturating_add(lines),
        }
    }

    /// By how many lines each rule stands below the place that it names.
    pub fn below(&self) -> u32 {
        self.below
    }

    /// Where one of these rules was written for this group.
    pub fn place(&self, rule: &RuleSpec) -> Place {
        rule.place.below(self.below)
    }

    /// The same for all that share them, and for no others.
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.list).addr()
    }
}

impl From<Vec<RuleSpec>> for Rules {
    fn from(rules: Vec<RuleSpec>) -> Rules {
        Rules {
            list: Arc::new(rules),
            below: 0,
        }
    }
}

impl Deref for Rules {
    type Target = [RuleSpec];

    fn deref(&self) -> &[RuleSpec] {
        &self.list
    }
}

impl<'a> IntoIterator for &'a Rules {
    type Item = &'a RuleSpec;
    type IntoIter = std::slice::Iter<'a, RuleSpec>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::super::rule::{Action, Respond};
    use super::*;

    fn patterns(names: &[&str]) -> Vec<HostPattern> {
        let parse = |name: &&str| HostPattern::parse(name).unwrap();
        names.iter().map(parse).collect()
    }

    #[test]
    fn hosts_are_those_that_were_written_be_they_none_one_or_many() {
        for names in [&[][..], &["a"], &["a", "*.b", "*"]] {
            let hosts = Hosts::from(patterns(names));
            assert_eq!(*hosts, *patterns(names));
        }
    }

    #[test]
    fn hosts_that_are_not_kept_are_gone_and_the_others_stay_in_their_order() {
        let mut hosts = Hosts::from(patterns(&["a", "b", "c"]));
        hosts.retain(|_| true);
        assert_eq!(hosts.len(), 3);
        hosts.retain(|host| host.to_string() != "b");
        assert_eq!(*hosts, *patterns(&["a", "c"]));
        hosts.retain(|_| false);
        assert!(hosts.is_empty());
        let mut one = Hosts::from(patterns(&["a"]));
        one.retain(|_| false);
        assert!(one.is_empty());
    }

    #[test]
    fn rules_that_are_shared_stand_where_each_group_wrote_them() {
        let place = Place {
            file: "a.yaml".into(),
            line: 7,
        };
        let body = bytes::Bytes::new();
        let action = Action::Respond(Respond { status: 200, body });
        let first = Rules::from(vec![RuleSpec::new(action, place)]);
        let third = first.further_down(10).further_down(5);
        assert_eq!(third.id(), first.id());
        assert_eq!(first.place(&first[0]).to_string(), "a.yaml:7");
        assert_eq!(third.place(&third[0]).to_string(), "a.yaml:22");
    }

    #[test]
    fn rules_that_say_the_same_and_are_not_shared_are_others() {
        assert_ne!(Rules::from(Vec::new()).id(), Rules::from(Vec::new()).id());
    }
}
