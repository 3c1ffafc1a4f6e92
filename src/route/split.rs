//! Weighted choice among upstreams (ISTIO.md V10), and chances of a share (V16).
//!
//! Owns: the shares, what a share changes for itself alone, and one small random generator per
//! thread.
//! Never: looks at an upstream's health (that is `upstream`).
//! Called by: `proxy::forward`, once per request.
//!
//! Why its own generator: a share needs no secrecy, and a seeded xorshift costs a nanosecond
//! without a lock or a system call.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::changes::HeaderChanges;
use super::rewrite::NewAuthority;
use crate::model::Share;
use crate::upstream::Upstream;

/// One or more upstreams with their shares.
pub struct Split {
    /// Takes what the others leave; alone it is picked without a random number.
    last: Choice,
    /// Where there are others. Boxed: most rules name one upstream.
    others: Option<Box<Others>>,
}

/// All upstreams of a split but the last.
struct Others {
    /// Each with the upper end of its slice of `0..total`.
    slices: Box<[(u64, Choice)]>,
    total: u64,
}

/// One upstream of a split.
pub struct Choice {
    /// Where the request goes.
    pub upstream: Arc<Upstream>,
    /// What changes for this one alone; mostly nothing.
    pub own: Option<Box<OwnChanges>>,
}

impl Choice {
    /// An upstream without changes of its own.
    pub fn of(upstream: &Arc<Upstream>) -> Choice {
        Choice {
            upstream: Arc::clone(upstream),
            own: None,
        }
    }
}

/// What one upstream of a split changes for itself alone.
#[derive(Debug, Default)]
pub struct OwnChanges {
    /// The authority; it beats the rule's (ISTIO.md V11).
    pub authority: Option<NewAuthority>,
    /// Changes to the request's headers, before the rule's (ISTIO.md V12).
    pub request_headers: HeaderChanges,
    /// Changes to the answer's headers, before the rule's.
    pub response_headers: HeaderChanges,
}

impl Split {
    /// One destination ignores its weight; among several a weight of 0 is never chosen.
    /// `None` where nothing could ever be chosen.
    pub fn new(mut shares: Vec<(Choice, u32)>) -> Option<Split> {
        if shares.len() > 1 {
            shares.retain(|(_, weight)| *weight > 0);
        }
        let (last, last_weight) = shares.pop()?;
        if shares.is_empty() {
            return Some(Split { last, others: None });
        }
        let mut total = 0_u64;
        let slices = shares
            .into_iter()
            .map(|(choice, weight)| {
                total += u64::from(weight);
                (total, choice)
            })
            .collect();
        total += u64::from(last_weight);
        let others = Some(Box::new(Others { slices, total }));
        Some(Split { last, others })
    }

    /// The upstream for one request, and its own changes.
    pub fn pick(&self) -> &Choice {
        match &self.others {
            None => &self.last,
            Some(others) => self.at(others, below(others.total)),
        }
    }

    /// Every upstream that may be picked, with its share, in the order written.
    pub fn all(&self) -> impl Iterator<Item = (&Choice, u64)> {
        let (slices, total) = match &self.others {
            None => (&[][..], 1),
            Some(others) => (&others.slices[..], others.total),
        };
        let floors = std::iter::once(0).chain(slices.iter().map(|(end, _)| *end));
        let ends = slices.iter().map(|(end, choice)| (*end, choice));
        ends.chain(std::iter::once((total, &self.last)))
            .zip(floors)
            .map(|((end, choice), floor)| (choice, end - floor))
    }

    /// The choice whose slice holds `point`.
    fn at<'s>(&'s self, others: &'s Others, point: u64) -> &'s Choice {
        let index = others.slices.partition_point(|(end, _)| *end <= point);
        others
            .slices
            .get(index)
            .map_or(&self.last, |(_, choice)| choice)
    }
}

/// True for that share of all calls, by chance (ISTIO.md V16).
pub fn happens(share: Share) -> bool {
    share > Share(0) && (share >= Share::ALL || below(u64::from(Share::ALL.0)) < u64::from(share.0))
}

/// A number from 0 to `bound` - 1, even to within 2^-32 for the bounds that weights can make.
fn below(bound: u64) -> u64 {
    // The high half of a product spreads 64 random bits evenly without a division.
    let wide = u128::from(next()) * u128::from(bound);
    u64::try_from(wide >> 64).unwrap_or(0)
}

/// The next 64 bits of this thread's xorshift64* generator.
fn next() -> u64 {
    thread_local! {
        // Zero is the one state that xorshift never leaves.
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0_u8) | 1);
    }
    STATE.with(|state| {
        let mut x = state.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        state.set(x);
        x.wrapping_mul(0x2545_f491_4f6c_dd1d)
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::upstream;
    use super::*;

    fn split(weights: &[u32]) -> Option<Split> {
        let name = |(index, weight): (usize, &u32)| {
            let upstream = upstream(&format!("u{index}"));
            (
                Choice {
                    upstream,
                    own: None,
                },
                *weight,
            )
        };
        Split::new(weights.iter().enumerate().map(name).collect())
    }

    fn name(choice: &Choice) -> &str {
        &choice.upstream.spec().name
    }

    #[test]
    fn v16_a_share_of_nothing_never_happens_and_all_always() {
        assert!(!(0..1000).any(|_| happens(Share(0))));
        assert!((0..1000).all(|_| happens(Share::ALL)));
        assert!((0..1000).all(|_| happens(Share(u32::MAX))));
    }

    #[test]
    fn v16_a_share_happens_about_as_often_as_it_says() {
        let count = (0..20_000).filter(|_| happens(Share(250_000))).count();
        // 5,000 expected, with a deviation of 61: eight of them either way.
        assert!((4_510..5_490).contains(&count), "{count}");
    }

    #[test]
    fn v10_weights_are_relative() {
        let split = split(&[1, 3, 6]).unwrap();
        let mut counts = [0_u32; 3];
        let others = split.others.as_ref().unwrap();
        for point in 0..10 {
            let index: usize = name(split.at(others, point))[1..].parse().unwrap();
            counts[index] += 1;
        }
        assert_eq!(counts, [1, 3, 6]);
        let all: Vec<_> = split
            .all()
            .map(|(one, weight)| (name(one), weight))
            .collect();
        assert_eq!(all, [("u0", 1), ("u1", 3), ("u2", 6)]);
    }

    #[test]
    fn v10_a_weight_of_zero_is_never_chosen_among_several() {
        let split = split(&[0, 5, 0]).unwrap();
        for _ in 0..100 {
            assert_eq!(name(split.pick()), "u1");
        }
    }

    #[test]
    fn v10_one_destination_ignores_its_weight() {
        assert_eq!(name(split(&[0]).unwrap().pick()), "u0");
    }

    #[test]
    fn v10_nothing_to_choose_from_is_no_split() {
        assert!(split(&[]).is_none());
        assert!(split(&[0, 0]).is_none());
    }

    #[test]
    fn picks_come_near_the_weights() {
        let split = split(&[1, 9]).unwrap();
        let first = (0..20_000).filter(|_| name(split.pick()) == "u0").count();
        // 2,000 expected, with a deviation of 42: eight of them either way.
        assert!((1_660..2_340).contains(&first), "{first}");
    }

    #[test]
    fn weights_as_large_as_can_be_do_not_overflow() {
        let split = split(&[u32::MAX, u32::MAX, u32::MAX]).unwrap();
        let others = split.others.as_ref().unwrap();
        assert_eq!(name(split.at(others, 3 * u64::from(u32::MAX) - 1)), "u2");
        assert_eq!(name(split.at(others, 0)), "u0");
    }
}
