//! The groups of a table: their compiled rules, and what is each group's own of rules that several share.
//!
//! Owns: compiled rules, each set once; of every group its place and its budgets.
//! Never: knows a host (that is `hosts`).
//! Called by: `table`.
//!
//! Why so little of each group: a configuration of 100,000 hosts mostly says one thing 100,000 times.

use std::collections::HashMap;
use std::sync::Arc;

use super::retry::RetryBudget;
use super::rule::{Compiler, Route, Rule};
use super::table::{RouteError, RouteProblem};
use crate::model::{HostRoutes, Place, RuleSpec};
use crate::upstream::Upstream;

/// All groups, and what they share.
#[derive(Default)]
pub(super) struct Groups {
    list: Vec<Group>,
    /// Rules, each once for all the groups that say them.
    sets: Vec<Box<[Rule]>>,
    /// Of groups that are not the first to have their rules.
    budgets: Vec<RetryBudget>,
    files: Vec<Arc<str>>,
}

/// The rules of one group of hosts, shared by its patterns. Small, as there may be 100,000.
pub(super) struct Group {
    /// Which rules.
    set: u32,
    /// The budget of the first of them, the others' behind it; beyond the end: the rules' own.
    budgets: u32,
    /// Where the group was written.
    file: u32,
    line: u32,
    /// By how many lines its rules stand below the place that they name.
    below: u32,
}

/// A route, as the group has it that was asked.
#[derive(Clone, Copy)]
pub struct Hit<'a> {
    /// What becomes of the request; other groups may have the same.
    pub route: &'a Route,
    /// How many retries may be under way, of this group's requests.
    pub budget: &'a RetryBudget,
    below: u32,
}

impl Hit<'_> {
    /// Where the rule was written.
    pub fn place(&self) -> Place {
        self.route.place.below(self.below)
    }
}

/// What is needed while a table is built.
pub(super) struct Making<'a> {
    compiler: Compiler<'a>,
    /// The set of rules of each [`crate::model::Rules`].
    sets: HashMap<usize, u32>,
    /// The one of the group before; mostly it is the same.
    last: Option<(usize, u32)>,
    pub(super) errors: Vec<RouteError>,
}

impl<'a> Making<'a> {
    pub(super) fn new(upstreams: &'a HashMap<Arc<str>, Arc<Upstream>>) -> Making<'a> {
        Making {
            compiler: Compiler::new(upstreams),
            sets: HashMap::new(),
            last: None,
            errors: Vec::new(),
        }
    }
}

impl Groups {
    /// With room for `count` groups.
    pub(super) fn with_capacity(count: usize) -> Groups {
        Groups {
            list: Vec::with_capacity(count),
            ..Groups::default()
        }
    }

    /// What was too much room.
    pub(super) fn shrink(&mut self) {
        self.budgets.shrink_to_fit();
    }

    /// The group of that number.
    pub(super) fn get(&self, group: u32) -> Option<&Group> {
        self.list.get(group as usize)
    }

    /// Compiles a group, or shares what was compiled for another; gives its number.
    pub(super) fn add(&mut self, group: &HostRoutes, making: &mut Making<'_>) -> u32 {
        if group.hosts.is_empty() {
            making.errors.push(RouteError {
                place: group.place.clone(),
                problem: RouteProblem::NoHost,
            });
        }
        let id = group.rules.id();
        let last = making.last.filter(|(last, _)| *last == id);
        let known = last.map(|(_, set)| set);
        let known = known.or_else(|| making.sets.get(&id).copied());
        let (set, budgets) = match known {
            Some(set) => {
                let first = number(self.budgets.len());
                let own = group.rules.iter().map(|_| RetryBudget::default());
                self.budgets.extend(own);
                (set, first)
            }
            None => {
                let set = number(self.sets.len());
                self.sets.push(compile(&group.rules, making));
                making.sets.insert(id, set);
                (set, u32::MAX)
            }
        };
        making.last = Some((id, set));
        if self.files.last() != Some(&group.place.file) {
            self.files.push(Arc::clone(&group.place.file));
        }
        self.list.push(Group {
            set,
            budgets,
            file: number(self.files.len() - 1),
            line: group.place.line,
            below: group.rules.below(),
        });
        number(self.list.len() - 1)
    }

    pub(super) fn rules(&self, group: &Group) -> &[Rule] {
        let rules = self.sets.get(group.set as usize);
        rules.map(AsRef::as_ref).unwrap_or_default()
    }

    pub(super) fn hit<'a>(&'a self, group: &Group, index: usize, rule: &'a Rule) -> Hit<'a> {
        let route = rule.route();
        let own = self.budgets.get(group.budgets as usize + index);
        Hit {
            route,
            budget: own.unwrap_or(&route.retry_budget),
            below: group.below,
        }
    }

    pub(super) fn place_of(&self, group: &Group) -> Place {
        let file = self.files.get(group.file as usize).map(Arc::clone);
        Place {
            file: file.unwrap_or_default(),
            line: group.line,
        }
    }

    pub(super) fn place(&self, group: u32) -> Place {
        let group = self.list.get(group as usize);
        group.map_or_else(Place::default, |group| self.place_of(group))
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn compile(specs: &[RuleSpec], making: &mut Making<'_>) -> Box<[Rule]> {
    let mut rules = Vec::with_capacity(specs.len());
    for spec in specs {
        match making.compiler.rule(spec) {
            Ok(rule) => rules.push(rule),
            Err(problem) => making.errors.push(RouteError {
                place: spec.place.clone(),
                problem: problem.into(),
            }),
        }
    }
    rules.into()
}
