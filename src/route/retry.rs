//! How many retries of one route may be under way (ISTIO.md V14, X5).
//!
//! Owns: the count of retries under way.
//! Never: decides whether a failure is worth a retry (that is `proxy::forward`).
//! Called by: `proxy::forward`, before each retry and never before a first try.
//!
//! Why no count of first tries: it would be a cache line that every worker writes for every
//! request. The requests in flight are asked of whoever counts them anyway, and only on a retry.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::model::Retries;

/// The retries under way of one route. The first try of a request never touches it.
#[derive(Debug, Default)]
pub struct RetryBudget {
    under_way: AtomicU32,
}

/// Leave for one retry; dropping it gives it back.
#[must_use = "the retry counts only as long as the permit lives"]
#[derive(Debug)]
pub struct RetryPermit<'a> {
    budget: &'a RetryBudget,
}

impl RetryBudget {
    /// Leave for one more retry, or `None` where the budget is used up.
    ///
    /// `in_flight` gives the requests under way, this one included (of the upstream: its gauge).
    /// Allowed are `budget_percent` of them, and never fewer than `budget_min`.
    pub fn begin(
        &self,
        retries: &Retries,
        in_flight: impl FnOnce() -> u64,
    ) -> Option<RetryPermit<'_>> {
        let share = in_flight().saturating_mul(u64::from(retries.budget_percent)) / 100;
        let allowed = share.max(u64::from(retries.budget_min));
        let taken = self
            .under_way
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
                (u64::from(count) < allowed).then(|| count.checked_add(1))?
            });
        taken.ok().map(|_| RetryPermit { budget: self })
    }

    /// Retries under way now.
    pub fn under_way(&self) -> u32 {
        self.under_way.load(Ordering::Relaxed)
    }
}

impl Drop for RetryPermit<'_> {
    fn drop(&mut self) {
        self.budget.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v14_a_retry_is_allowed_up_to_the_share_of_requests_in_flight() {
        let retries = Retries::default();
        let budget = RetryBudget::default();
        let held: Vec<_> = (0..20)
            .map(|_| budget.begin(&retries, || 100).unwrap())
            .collect();
        assert_eq!(budget.under_way(), 20);
        drop(held);
        assert_eq!(budget.under_way(), 0);
    }

    #[test]
    fn v14_a_retry_beyond_the_share_is_not_allowed_until_another_ends() {
        let retries = Retries::default();
        let budget = RetryBudget::default();
        let mut held: Vec<_> = (0..20)
            .map(|_| budget.begin(&retries, || 100).unwrap())
            .collect();
        assert!(budget.begin(&retries, || 100).is_none());
        held.pop();
        assert!(budget.begin(&retries, || 100).is_some());
    }

    #[test]
    fn the_minimum_is_allowed_however_few_requests_there_are() {
        let retries = Retries::default();
        let budget = RetryBudget::default();
        let held: Vec<_> = (0..3).map(|_| budget.begin(&retries, || 1)).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(budget.begin(&retries, || 1).is_none());
    }

    #[test]
    fn a_budget_of_nothing_allows_nothing() {
        let retries = Retries {
            budget_percent: 0,
            budget_min: 0,
            ..Retries::default()
        };
        assert!(
            RetryBudget::default()
                .begin(&retries, || 1_000_000)
                .is_none()
        );
    }
}
