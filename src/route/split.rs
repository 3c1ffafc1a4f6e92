//! Weighted choice among upstreams (ISTIO.md V10).
//!
//! Owns: the shares, and one small random generator per thread.
//! Never: looks at an upstream's health (that is `upstream`).
//! Called by: `proxy::forward`, once per request.
//!
//! Why its own generator: a share needs no secrecy, and a seeded xorshift costs a nanosecond
//! without a lock or a system call.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::upstream::Upstream;

/// One or more upstreams with their shares.
pub struct Split {
    /// All but the last, each with the upper end of its slice of `0..total`.
    rest: Box<[(u64, Arc<Upstream>)]>,
    /// Takes what the others leave; alone it is picked without a random number.
    last: Arc<Upstream>,
    total: u64,
}

impl Split {
    /// One destination ignores its weight; among several a weight of 0 is never chosen.
    /// `None` where nothing could ever be chosen.
    pub fn new(mut shares: Vec<(Arc<Upstream>, u32)>) -> Option<Split> {
        if shares.len() > 1 {
            shares.retain(|(_, weight)| *weight > 0);
        }
        let (last, last_weight) = shares.pop()?;
        let mut total = 0_u64;
        let rest = shares
            .into_iter()
            .map(|(upstream, weight)| {
                total += u64::from(weight);
                (total, upstream)
            })
            .collect();
        total += u64::from(last_weight);
        Some(Split { rest, last, total })
    }

    /// The upstream for one request.
    pub fn pick(&self) -> &Arc<Upstream> {
        if self.rest.is_empty() {
            return &self.last;
        }
        self.at(below(self.total))
    }

    /// Every upstream that may be picked, with its weight in the order written.
    pub fn all(&self) -> impl Iterator<Item = (&Arc<Upstream>, u64)> {
        let floors = std::iter::once(0).chain(self.rest.iter().map(|(end, _)| *end));
        let ends = self.rest.iter().map(|(end, upstream)| (*end, upstream));
        let slices = ends.chain(std::iter::once((self.total, &self.last)));
        slices
            .zip(floors)
            .map(|((end, upstream), floor)| (upstream, end - floor))
    }

    /// The upstream whose slice holds `point`.
    fn at(&self, point: u64) -> &Arc<Upstream> {
        let index = self.rest.partition_point(|(end, _)| *end <= point);
        self.rest
            .get(index)
            .map_or(&self.last, |(_, upstream)| upstream)
    }
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
        let name = |(index, weight): (usize, &u32)| (upstream(&format!("u{index}")), *weight);
        Split::new(weights.iter().enumerate().map(name).collect())
    }

    fn name(upstream: &Upstream) -> &str {
        &upstream.spec().name
    }

    #[test]
    fn v10_weights_are_relative() {
        let split = split(&[1, 3, 6]).unwrap();
        let mut counts = [0_u32; 3];
        for point in 0..10 {
            let index: usize = name(split.at(point))[1..].parse().unwrap();
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
        assert_eq!(name(split.at(3 * u64::from(u32::MAX) - 1)), "u2");
        assert_eq!(name(split.at(0)), "u0");
    }
}
