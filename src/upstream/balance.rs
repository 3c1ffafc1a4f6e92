//! One endpoint out of many, and a rest for those that keep failing.
//!
//! Owns: [`Endpoint`] with its health, the set of them, and each worker's view of the set.
//! Never: connects.
//! Called by: `discover` (makes sets), `slot` (picks), `Upstream` (reports failures).
//!
//! Why each worker counts its own requests: a shared count would be written by every core for
//! every request. Two random choices among a worker's own counts spread almost as evenly.
//!
//! Why weights take a way of their own: a set whose endpoints all weigh the same, which nearly
//! every set is, is not walked for each pick.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::{Balance, EndpointAddr, Outlier};

/// How long the family that lost a race is not tried first (RFC 8305 section 4 lets it be
/// remembered).
const FAMILY_MEMORY: Duration = Duration::from_secs(600);

/// The longest ejection, as a multiple of the first one.
const MAX_EJECTIONS: u32 = 10;

/// Moments as milliseconds since one of them, so that an atomic can hold one. 0 is "never".
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn new() -> Clock {
        Clock(Instant::now())
    }

    /// Milliseconds, from 1.
    pub(super) fn now(&self) -> u64 {
        millis(self.0.elapsed()) + 1
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
}

/// Which address family of one name was too slow or refused, by IPv6 and IPv4.
#[derive(Debug, Default)]
pub(super) struct Families {
    shunned_until: [AtomicU64; 2],
}

impl Families {
    fn of(&self, address: EndpointAddr) -> &AtomicU64 {
        let [v6, v4] = &self.shunned_until;
        if address.0.is_ipv6() { v6 } else { v4 }
    }

    /// `loser` was beaten by an address of the other family.
    pub(super) fn lost(&self, loser: EndpointAddr, winner: EndpointAddr, now: u64) {
        self.of(winner).store(0, Relaxed);
        self.of(loser).store(now + millis(FAMILY_MEMORY), Relaxed);
    }
}

/// One address, and how it has been doing. The counters are written only when it fails.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) address: EndpointAddr,
    /// What it was resolved from.
    pub(super) name: Arc<str>,
    /// Shared by all addresses of the name.
    pub(super) families: Arc<Families>,
    /// Its share among the others; at least 1.
    pub(super) weight: u32,
    /// It is spoken to in plaintext although its upstream speaks TLS (ISTIO.md P4).
    pub(super) plaintext: bool,
    failures: AtomicU32,
    ejections: AtomicU32,
    ejected_until: AtomicU64,
}

impl Endpoint {
    /// An endpoint like any other: weight 1, and TLS where its upstream has it.
    pub(super) fn new(address: EndpointAddr, name: Arc<str>, families: Arc<Families>) -> Endpoint {
        Endpoint {
            address,
            name,
            families,
            weight: 1,
            plaintext: false,
            failures: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
        }
    }

    /// The same with the marks of its specification.
    pub(super) fn marked(self, weight: u32, plaintext: bool) -> Endpoint {
        Endpoint {
            weight,
            plaintext,
            ..self
        }
    }

    /// Failures in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures.load(Relaxed)
    }

    /// How much longer it is shunned.
    pub(super) fn ejected_for(&self, now: u64) -> Option<Duration> {
        let left = self.ejected_until.load(Relaxed).saturating_sub(now);
        (left > 0).then(|| Duration::from_millis(left))
    }

    fn is_usable(&self, now: u64) -> bool {
        self.ejected_until.load(Relaxed) <= now
            && self.families.of(self.address).load(Relaxed) <= now
    }

    /// It answered. Writes nothing where nothing was wrong.
    pub(super) fn succeeded(&self) {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
    }
}

/// The endpoints of one upstream at one moment.
#[derive(Debug, Default)]
pub(super) struct EndpointSet {
    pub(super) endpoints: Vec<Arc<Endpoint>>,
    ejecting: Mutex<()>,
}

impl EndpointSet {
    pub(super) fn new(endpoints: Vec<Arc<Endpoint>>) -> EndpointSet {
        EndpointSet {
            endpoints,
            ejecting: Mutex::new(()),
        }
    }

    /// Another address of the same name, of the other family: the second runner of a race.
    pub(super) fn other_family(&self, of: &Endpoint) -> Option<EndpointAddr> {
        let candidates = self.endpoints.iter().filter(|other| {
            other.plaintext == of.plaintext
                && other.address.0.is_ipv6() != of.address.0.is_ipv6()
                && other.address.0.port() == of.address.0.port()
                && Arc::ptr_eq(&other.families, &of.families)
        });
        candidates.map(|other| other.address).next()
    }

    /// `endpoint` failed. Returns for how long it is now shunned, where this was once too often.
    pub(super) fn failed(&self, endpoint: &Endpoint, rule: &Outlier, now: u64) -> Option<Duration> {
        if rule.consecutive_failures == 0 {
            return None;
        }
        let failures = endpoint.failures.fetch_add(1, Relaxed).saturating_add(1);
        if failures < rule.consecutive_failures {
            return None;
        }
        // Two workers must not both take the last place that the percentage leaves.
        let _one_at_a_time = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        let before = endpoint.ejected_until.load(Relaxed);
        if before > now || !self.may_eject(rule, now) {
            return None;
        }
        // In a row: it came back and failed again before it was well as long as it was shunned.
        let last = endpoint.ejections.load(Relaxed);
        let last_for = millis(rule.eject_for.saturating_mul(last));
        let in_a_row = last > 0 && now.saturating_sub(before) < last_for;
        let times = if in_a_row {
            (last + 1).min(MAX_EJECTIONS)
        } else {
            1
        };
        let rest = rule.eject_for.saturating_mul(times);
        endpoint.ejections.store(times, Relaxed);
        endpoint.failures.store(0, Relaxed);
        endpoint.ejected_until.store(now + millis(rest), Relaxed);
        Some(rest)
    }

    fn may_eject(&self, rule: &Outlier, now: u64) -> bool {
        let all = self.endpoints.len();
        let percent = usize::try_from(rule.max_ejected_percent.min(100)).unwrap_or(100);
        let most = (all * percent / 100).min(all.saturating_sub(1));
        let ejected = self
            .endpoints
            .iter()
            .filter(|e| e.ejected_for(now).is_some());
        ejected.count() < most
    }
}

/// An endpoint as one worker sees it.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) endpoint: Arc<Endpoint>,
    /// Requests of this worker that are under way there.
    pub(super) active: AtomicUsize,
    /// How much of its turn it has saved up, where weights differ. Written under the slot's lock.
    credit: AtomicI64,
}

/// The endpoint set as one worker sees it.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) set: Arc<EndpointSet>,
    pub(super) seats: Vec<Arc<Seat>>,
    next: usize,
    /// The endpoints do not all weigh the same.
    weighted: bool,
}

impl View {
    /// Takes over a new set. Seats of endpoints that stay are kept, with their counts.
    pub(super) fn follow(&mut self, set: &Arc<EndpointSet>, random: &mut Random) {
        if Arc::ptr_eq(&self.set, set) {
            return;
        }
        let old = std::mem::take(&mut self.seats);
        self.seats = set
            .endpoints
            .iter()
            .map(|endpoint| {
                let kept = old
                    .iter()
                    .find(|seat| Arc::ptr_eq(&seat.endpoint, endpoint));
                kept.cloned().unwrap_or_else(|| {
                    let weight = usize::try_from(endpoint.weight).unwrap_or(usize::MAX);
                    let credit = i64::try_from(random.below(weight)).unwrap_or(0);
                    Arc::new(Seat {
                        endpoint: Arc::clone(endpoint),
                        active: AtomicUsize::new(0),
                        // Workers must not all begin with the heaviest.
                        credit: AtomicI64::new(credit),
                    })
                })
            })
            .collect();
        let mut weights = set.endpoints.iter().map(|endpoint| endpoint.weight);
        let first = weights.next();
        self.weighted = weights.any(|weight| Some(weight) != first);
        self.set = Arc::clone(set);
        // Workers must not all begin with the same endpoint.
        self.next = random.below(self.seats.len());
    }

    /// Picks one. Prefers those that are well and not in `avoid`; uses what there is otherwise.
    pub(super) fn pick(
        &mut self,
        balance: Balance,
        avoid: &[EndpointAddr],
        now: u64,
        random: &mut Random,
    ) -> Option<Arc<Seat>> {
        if let [only] = self.seats.as_slice() {
            return Some(Arc::clone(only));
        }
        let well = |seat: &Seat| seat.endpoint.is_usable(now);
        let fresh = |seat: &Seat| !avoid.contains(&seat.endpoint.address);
        let index = self
            .choose(balance, random, |seat| well(seat) && fresh(seat))
            .or_else(|| self.choose(balance, random, well))
            // All are shunned: better a doubtful endpoint than none.
            .or_else(|| self.choose(balance, random, fresh))
            .or_else(|| self.choose(balance, random, |_| true))?;
        self.next = index + 1;
        self.seats.get(index).cloned()
    }

    fn choose(
        &self,
        balance: Balance,
        random: &mut Random,
        fits: impl Fn(&Seat) -> bool,
    ) -> Option<usize> {
        match balance {
            Balance::RoundRobin if self.weighted => self.in_turn_by_weight(&fits),
            Balance::RoundRobin => self.from(self.next, &fits),
            Balance::Random => self.any(random, &fits),
            Balance::LeastRequest => {
                let (one, two) = (self.any(random, &fits)?, self.any(random, &fits)?);
                let (a, b) = (self.seats.get(one)?, self.seats.get(two)?);
                // Requests for each unit of weight, without a division.
                let busy = |of: &Seat, other: &Seat| {
                    let active = u128::try_from(of.active.load(Relaxed)).unwrap_or(u128::MAX);
                    active.saturating_mul(other.endpoint.weight.into())
                };
                Some(if busy(b, a) < busy(a, b) { two } else { one })
            }
        }
    }

    /// nginx's smooth round robin: each gains its weight, the richest is picked and pays for all,
    /// so that a heavy endpoint's turns are spread and not bunched.
    fn in_turn_by_weight(&self, fits: &impl Fn(&Seat) -> bool) -> Option<usize> {
        let mut total = 0;
        let mut best: Option<(usize, i64)> = None;
        for (index, seat) in self.seats.iter().enumerate().filter(|(_, seat)| fits(seat)) {
            let weight = i64::from(seat.endpoint.weight);
            let credit = seat.credit.load(Relaxed).saturating_add(weight);
            seat.credit.store(credit, Relaxed);
            total += weight;
            if best.is_none_or(|(_, most)| credit > most) {
                best = Some((index, credit));
            }
        }
        let (index, credit) = best?;
        let seat = self.seats.get(index)?;
        seat.credit.store(credit.saturating_sub(total), Relaxed);
        Some(index)
    }

    /// The first that fits, from `start` on and round.
    fn from(&self, start: usize, fits: &impl Fn(&Seat) -> bool) -> Option<usize> {
        let all = self.seats.len();
        (0..all)
            .map(|step| (start + step) % all)
            .find(|&index| self.seats.get(index).is_some_and(|seat| fits(seat)))
    }

    /// One by chance. A few draws first, so that those behind an unfit one get no double share.
    fn any(&self, random: &mut Random, fits: &impl Fn(&Seat) -> bool) -> Option<usize> {
        if self.weighted {
            return self.any_by_weight(random, fits);
        }
        for _ in 0..4 {
            let index = random.below(self.seats.len());
            if self.seats.get(index).is_some_and(|seat| fits(seat)) {
                return Some(index);
            }
        }
        self.from(random.below(self.seats.len()), fits)
    }
}

impl View {
    /// One by chance, as likely as its weight among those that fit.
    fn any_by_weight(&self, random: &mut Random, fits: &impl Fn(&Seat) -> bool) -> Option<usize> {
        let fit = || self.seats.iter().enumerate().filter(|(_, seat)| fits(seat));
        let weight = |seat: &Seat| u64::from(seat.endpoint.weight);
        let total = fit().map(|(_, seat)| weight(seat)).sum();
        let mut drawn = random.wide(total);
        fit().find_map(|(index, seat)| match drawn.checked_sub(weight(seat)) {
            Some(rest) => {
                drawn = rest;
                None
            }
            None => Some(index),
        })
    }
}

/// Chance, good enough to spread load (xorshift64*).
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    /// Seeded by the standard library's random hash keys.
    pub(super) fn new() -> Random {
        use std::hash::{BuildHasher, RandomState};
        Random(RandomState::new().hash_one(0) | 1)
    }

    /// From 0 to `bound` - 1; 0 where `bound` is 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.draw() >> 33)
            .unwrap_or(0)
            .checked_rem(bound)
            .unwrap_or(0)
    }

    /// The same for a bound of more than 31 bits, as sums of weights may be.
    fn wide(&mut self, bound: u64) -> u64 {
        self.draw().checked_rem(bound).unwrap_or(0)
    }

    fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u8) -> EndpointAddr {
        EndpointAddr(([10, 0, 0, n], 443).into())
    }

    fn view(n: u8) -> (View, Random) {
        let endpoints = (0..n)
            .map(|i| Arc::new(Endpoint::new(address(i), "x".into(), Arc::default())))
            .collect();
        let (mut view, mut random) = (View::default(), Random::new());
        view.follow(&Arc::new(EndpointSet::new(endpoints)), &mut random);
        (view, random)
    }

    fn shares(view: &mut View, random: &mut Random, balance: Balance, n: usize) -> Vec<usize> {
        let mut shares = vec![0; view.seats.len()];
        for _ in 0..n {
            let seat = view.pick(balance, &[], 1, random).unwrap();
            let at = view
                .seats
                .iter()
                .position(|s| Arc::ptr_eq(s, &seat))
                .unwrap();
            shares[at] += 1;
        }
        shares
    }

    #[test]
    fn round_robin_gives_each_its_turn_and_skips_the_shunned_without_doubling_a_share() {
        let (mut view, mut random) = view(4);
        assert_eq!(
            shares(&mut view, &mut random, Balance::RoundRobin, 400),
            [100; 4]
        );
        view.seats[1].endpoint.ejected_until.store(99, Relaxed);
        let got = shares(&mut view, &mut random, Balance::RoundRobin, 300);
        assert_eq!(got, [100, 0, 100, 100]);
    }

    #[test]
    fn random_spreads_and_least_request_prefers_the_idle() {
        let (mut view, mut random) = view(4);
        let got = shares(&mut view, &mut random, Balance::Random, 4000);
        assert!(
            got.iter().all(|share| (700..1300).contains(share)),
            "{got:?}"
        );
        view.seats[2].active.store(50, Relaxed);
        let got = shares(&mut view, &mut random, Balance::LeastRequest, 4000);
        assert!(got[2] < 500, "{got:?}");
    }

    fn weighted(weights: &[u32]) -> (View, Random) {
        let endpoint = |(n, weight): (usize, &u32)| {
            let address = address(u8::try_from(n).unwrap());
            Arc::new(Endpoint {
                weight: *weight,
                ..Endpoint::new(address, "x".into(), Arc::default())
            })
        };
        let endpoints = weights.iter().enumerate().map(endpoint).collect();
        let (mut view, mut random) = (View::default(), Random::new());
        view.follow(&Arc::new(EndpointSet::new(endpoints)), &mut random);
        (view, random)
    }

    #[test]
    fn weights_are_shares_whatever_the_balance() {
        let (mut view, mut random) = weighted(&[5, 1, 2]);
        let got = shares(&mut view, &mut random, Balance::RoundRobin, 800);
        assert_eq!(got, [500, 100, 200]);
        for balance in [Balance::Random, Balance::LeastRequest] {
            let got = shares(&mut view, &mut random, balance, 8000);
            for (got, expected) in got.iter().zip([5000, 1000, 2000_usize]) {
                assert!(got.abs_diff(expected) < 300, "{balance:?} {got} {expected}");
            }
        }
        let (mut view, mut random) = weighted(&[u32::MAX, u32::MAX - 1]);
        let got = shares(&mut view, &mut random, Balance::Random, 4000);
        assert!(got[0].abs_diff(2000) < 300, "{got:?}");
    }

    #[test]
    fn a_heavy_endpoint_that_is_shunned_leaves_its_share_to_the_others_by_weight() {
        let (mut view, mut random) = weighted(&[8, 1, 3]);
        view.seats[0].endpoint.ejected_until.store(99, Relaxed);
        let got = shares(&mut view, &mut random, Balance::RoundRobin, 400);
        assert_eq!(got, [0, 100, 300]);
    }

    #[test]
    fn least_request_counts_requests_by_weight() {
        let (mut view, mut random) = weighted(&[10, 1]);
        view.seats[0].active.store(20, Relaxed);
        view.seats[1].active.store(3, Relaxed);
        // Two of ten against three of one: the heavy one is the less busy.
        let got = shares(&mut view, &mut random, Balance::LeastRequest, 1000);
        assert!(got[1] < 50, "{got:?}");
    }

    #[test]
    fn equal_weights_take_the_short_way() {
        assert!(!weighted(&[7, 7, 7]).0.weighted);
        assert!(weighted(&[7, 7, 8]).0.weighted);
    }

    #[test]
    fn an_endpoint_to_avoid_is_picked_only_where_there_is_no_other() {
        let (mut view, mut random) = view(2);
        for _ in 0..20 {
            let seat = view
                .pick(Balance::Random, &[address(0)], 1, &mut random)
                .unwrap();
            assert_eq!(seat.endpoint.address, address(1));
        }
        let both = [address(0), address(1)];
        assert!(
            view.pick(Balance::RoundRobin, &both, 1, &mut random)
                .is_some()
        );
        assert!(
            View::default()
                .pick(Balance::RoundRobin, &[], 1, &mut random)
                .is_none()
        );
    }

    fn rule(percent: u32) -> Outlier {
        Outlier {
            consecutive_failures: 3,
            eject_for: Duration::from_secs(30),
            max_ejected_percent: percent,
        }
    }

    #[test]
    fn failures_in_a_row_eject_and_a_success_between_them_does_not() {
        let (view, _) = view(4);
        let endpoint = &view.set.endpoints[0];
        for _ in 0..5 {
            assert_eq!(view.set.failed(endpoint, &rule(50), 1), None);
            assert_eq!(view.set.failed(endpoint, &rule(50), 1), None);
            endpoint.succeeded();
        }
        view.set.failed(endpoint, &rule(50), 1);
        view.set.failed(endpoint, &rule(50), 1);
        let rest = view.set.failed(endpoint, &rule(50), 1);
        assert_eq!(rest, Some(Duration::from_secs(30)));
        assert!(!endpoint.is_usable(2) && endpoint.is_usable(30_001));
    }

    #[test]
    fn ejection_grows_while_it_repeats_and_not_after_a_good_while() {
        let (view, _) = view(4);
        let endpoint = &view.set.endpoints[0];
        let eject = |now| (0..3).find_map(|_| view.set.failed(endpoint, &rule(50), now));
        let mut now = 1;
        let mut rests = Vec::new();
        for _ in 0..12 {
            let rest = eject(now).unwrap();
            rests.push(rest.as_secs() / 30);
            now += millis(rest);
        }
        assert_eq!(rests, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10]);
        assert_eq!(eject(now + 300_000), Some(Duration::from_secs(30)));
    }

    #[test]
    fn ejection_never_takes_all_nor_more_than_the_percentage() {
        for (n, percent, most) in [(1, 100, 0), (2, 50, 1), (3, 50, 1), (4, 50, 2), (4, 100, 3)] {
            let (view, _) = view(n);
            for _ in 0..9 {
                for endpoint in &view.set.endpoints {
                    view.set.failed(endpoint, &rule(percent), 1);
                }
            }
            let ejected = view
                .set
                .endpoints
                .iter()
                .filter(|e| !e.is_usable(2))
                .count();
            assert_eq!(ejected, most, "{n} endpoints, {percent} %");
        }
    }

    #[test]
    fn where_all_are_shunned_all_are_used() {
        let (mut view, mut random) = view(2);
        for endpoint in &view.set.endpoints {
            endpoint.ejected_until.store(99, Relaxed);
        }
        assert_eq!(
            shares(&mut view, &mut random, Balance::RoundRobin, 10),
            [5, 5]
        );
    }

    #[test]
    fn a_family_that_lost_a_race_is_not_picked_first_for_a_while() {
        let families = Arc::new(Families::default());
        let v6 = EndpointAddr("[2001:db8::1]:443".parse().unwrap());
        let endpoints =
            [v6, address(1)].map(|a| Arc::new(Endpoint::new(a, "x".into(), Arc::clone(&families))));
        let set = Arc::new(EndpointSet::new(endpoints.to_vec()));
        assert_eq!(set.other_family(&endpoints[0]), Some(address(1)));
        families.lost(v6, address(1), 1);
        assert!(!endpoints[0].is_usable(2) && endpoints[1].is_usable(2));
        assert!(endpoints[0].is_usable(600_002));
    }

    #[test]
    fn a_new_set_keeps_the_counts_of_endpoints_that_stay() {
        let (mut view, mut random) = view(2);
        view.seats[1].active.store(7, Relaxed);
        let stays = Arc::clone(&view.set.endpoints[1]);
        view.follow(&Arc::new(EndpointSet::new(vec![stays])), &mut random);
        assert_eq!(view.seats.len(), 1);
        assert_eq!(view.seats[0].active.load(Relaxed), 7);
    }
}
