//! Which DestinationRule, and which of its levels, decided how an upstream is spoken to.
//!
//! Owns: the reasons `policy` and `subset` (ISTIO.md D1 to D6), for `explain`.
//! Never: decides (that is `policy` and `traffic`).
//! Called by: clusters.

use super::policy::Merged;
use crate::config::istio::destination_rule::TrafficPolicy;
use crate::model::{Place, Reason};

/// Who says what of `port` and `subset`: a port's own entry stands for its whole level (D5).
pub fn policy(merged: Option<&Merged<'_>>, (port, subset): (u16, &str)) -> Vec<Reason> {
    let Some(merged) = merged else {
        return vec![Reason {
            what: "policy",
            how: "no DestinationRule applies".to_owned(),
            object: "".into(),
            place: None,
        }];
    };
    let (meta, level, place) = match merged.policy {
        Some((policy, rule)) => {
            let (level, place) = of_port(policy, port);
            (&rule.meta, level, place)
        }
        None => (merged.meta, String::new(), &merged.meta.place),
    };
    let mut reasons = vec![Reason {
        what: "policy",
        how: format!("{level}for host {}", merged.host),
        object: meta.object(),
        place: Some(place.clone()),
    }];
    if let Some((subset, rule)) = merged.subset(subset) {
        let own = subset.policy.as_ref().map(|policy| of_port(policy, port));
        let (level, place) = match own {
            Some((level, place)) if !level.is_empty() => (level, place),
            _ => (String::new(), &subset.place),
        };
        reasons.push(Reason {
            what: "subset",
            how: match level.is_empty() {
                true => subset.name.to_string(),
                false => format!("{level}of {}", subset.name),
            },
            object: rule.meta.object(),
            place: Some(place.clone()),
        });
    }
    reasons
}

/// The level that decides for `port`; empty words for the whole rule or subset.
fn of_port(policy: &TrafficPolicy, port: u16) -> (String, &Place) {
    match policy.ports.iter().find(|entry| entry.port == port) {
        Some(entry) => (format!("portLevelSettings[{port}] "), &entry.place),
        None => (String::new(), &policy.place),
    }
}
