//! A hash for maps whose keys the configuration alone chooses, such as hosts: a look-up for each request.
//!
//! Owns: [`ByName`], and [`NamePlaces`], an index of names that somebody else keeps.
//! Never: hashes what a client may add to a map: it is made for speed, and only its seed is secret.
//! Called by: config (routes), route (the table).
//!
//! Why not the standard library's: SipHash is made for keys that an attacker inserts. It takes a third of
//! the time that 10,000 routes need to load.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

/// Odd, with as many ones as zeroes in no order: the fractional part of pi.
const PI: u64 = 0x243f_6a88_85a3_08d3;
/// The same of e.
const E: u64 = 0xb7e1_5162_8aed_2a6b;

/// A map that [`ByName`] hashes for.
pub type NameMap<K, V> = HashMap<K, V, ByName>;

/// Eight bytes a step: a multiplication to 128 bits, whose halves are put on one another.
#[derive(Clone, Debug)]
pub struct ByName(u64);

impl Default for ByName {
    /// With a seed of its own.
    fn default() -> Self {
        ByName(RandomState::new().hash_one(0_u8))
    }
}

impl BuildHasher for ByName {
    type Hasher = Folding;

    fn build_hasher(&self) -> Folding {
        Folding(self.0)
    }
}

/// One hash under way.
#[derive(Debug)]
pub struct Folding(u64);

fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    let (high, low) = (wide >> 64, wide & u128::from(u64::MAX));
    u64::try_from(high ^ low).unwrap_or(0)
}

impl Hasher for Folding {
    fn write(&mut self, bytes: &[u8]) {
        let mut left = bytes;
        while let Some((word, rest)) = left.split_first_chunk::<8>() {
            self.0 = fold(self.0 ^ u64::from_le_bytes(*word), PI);
            left = rest;
        }
        // Of a longer name the last word says it, with some bytes that were there before.
        let rest = match bytes.last_chunk::<8>() {
            Some(last) => u64::from_le_bytes(*last),
            None => left
                .iter()
                .fold(0, |rest, byte| rest << 8 | u64::from(*byte)),
        };
        // The length tells bytes that are zero from bytes that are not there.
        self.0 = fold(self.0 ^ rest, E ^ bytes.len() as u64);
    }

    fn write_u8(&mut self, byte: u8) {
        self.0 ^= u64::from(byte);
    }

    fn write_u16(&mut self, number: u16) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = fold(self.0 ^ number, PI);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        fold(self.0, PI)
    }
}

/// Where in a list each name stands, for whoever keeps the list: eight bytes for a name, and no second copy of it.
///
/// Open addressing, each name at the first free slot from where its hash says. Names are never taken out.
#[derive(Clone, Debug, Default)]
pub struct NamePlaces {
    by: ByName,
    /// The upper half of a name's hash, above its place and one; 0 is free. A power of two of them, an eighth free.
    slots: Vec<u64>,
    count: usize,
}

/// Slots that hold `count` names.
fn slots_for(count: usize) -> usize {
    match count {
        0 => 0,
        some => (some + some.div_ceil(7)).next_power_of_two().max(8),
    }
}

/// The upper half.
fn tag(hash: u64) -> u64 {
    hash >> 32
}

impl NamePlaces {
    /// With room for `count` names.
    pub fn with_capacity(count: usize) -> NamePlaces {
        NamePlaces {
            slots: vec![0; slots_for(count)],
            ..NamePlaces::default()
        }
    }

    /// The place of `name`; `is` tells whether it stands at a place that may be it.
    pub fn find<N: Hash + ?Sized>(&self, name: &N, is: impl Fn(usize) -> bool) -> Option<usize> {
        let tag = tag(self.by.hash_one(name));
        self.from(tag)
            .map_while(|slot| self.slots.get(slot).copied().filter(|slot| *slot != 0))
            .filter(|slot| slot >> 32 == tag)
            .map(|slot| (slot & 0xffff_ffff) as usize - 1)
            .find(|place| is(*place))
    }

    /// The place of `name` as [`NamePlaces::find`] has it; where it has none, adds it: the owner has it at `place`.
    /// Of places beyond what 32 bits hold none is ever found; a file has no such number of names.
    pub fn find_or_insert<N: Hash + ?Sized>(
        &mut self,
        name: &N,
        place: usize,
        is: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        if self.count >= self.slots.len() - self.slots.len() / 8 {
            self.grow();
        }
        let tag = tag(self.by.hash_one(name));
        for at in self.from(tag) {
            let slot = self.slots.get_mut(at)?;
            if *slot == 0 {
                *slot = tag << 32 | u64::from(u32::try_from(place + 1).ok()?);
                self.count += 1;
                return None;
            }
            let there = (*slot & 0xffff_ffff) as usize - 1;
            if *slot >> 32 == tag && is(there) {
                return Some(there);
            }
        }
        None
    }

    /// Twice the room.
    #[cold]
    fn grow(&mut self) {
        let slots = (self.slots.len() * 2).max(8);
        let old = std::mem::replace(&mut self.slots, vec![0; slots]);
        for slot in old.into_iter().filter(|slot| *slot != 0) {
            self.put(slot);
        }
    }

    fn put(&mut self, name: u64) {
        let free = self
            .from(tag(name))
            .find(|at| self.slots.get(*at) == Some(&0));
        if let Some(slot) = free.and_then(|at| self.slots.get_mut(at)) {
            *slot = name;
        }
    }

    /// Every slot, beginning with the one of this hash.
    fn from(&self, tag: u64) -> impl Iterator<Item = usize> + use<> {
        let (slots, first) = (self.slots.len(), tag as usize);
        (0..slots).map(move |step| (first + step) & (slots - 1))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_that_are_alike_have_hashes_that_are_not() {
        let by = ByName::default();
        let names = (0..100_000).map(|n| format!("host-{n:05}.example.com"));
        let hashes: Vec<u64> = names.map(|name| by.hash_one(name)).collect();
        assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), hashes.len());
        // The map takes its buckets from the low bits, and seven more from the top.
        for bits in [|hash: u64| hash & 0xff, |hash: u64| hash >> 56] {
            let mut counts = [0_u32; 256];
            for hash in &hashes {
                counts[usize::try_from(bits(*hash)).unwrap()] += 1;
            }
            // 390 expected, with a deviation of 20.
            assert!(
                counts.iter().all(|count| (230..560).contains(count)),
                "{counts:?}"
            );
        }
    }

    #[test]
    fn a_longer_name_is_another_one() {
        let by = ByName(7);
        let names = [
            "",
            "\0",
            "a",
            "a\0",
            "\0a",
            "aaaaaaaa",
            "aaaaaaaa\0",
            "aaaaaaaaa",
        ];
        let hashes: HashSet<u64> = names.iter().map(|name| by.hash_one(name)).collect();
        assert_eq!(hashes.len(), names.len());
    }

    #[test]
    fn every_name_is_found_at_its_place_and_no_other_name_is() {
        let names: Vec<String> = (0..10_000).map(|n| format!("host-{n}.example")).collect();
        for mut places in [NamePlaces::default(), NamePlaces::with_capacity(10_000)] {
            for (place, name) in names.iter().enumerate() {
                assert_eq!(places.find(name.as_str(), |at| names[at] == *name), None);
                let is = |at: usize| names[at] == *name;
                assert_eq!(places.find_or_insert(name.as_str(), place, is), None);
            }
            for (place, name) in names.iter().enumerate() {
                let found = places.find(name.as_str(), |at| names[at] == *name);
                assert_eq!(found, Some(place));
                let is = |at: usize| names[at] == *name;
                assert_eq!(places.find_or_insert(name.as_str(), 0, is), Some(place));
            }
            let other = "host-10000.example";
            assert_eq!(places.find(other, |at| names[at] == other), None);
        }
    }

    #[test]
    fn names_whose_hashes_are_the_same_are_told_apart_by_their_owner() {
        /// Hashes like every other.
        struct Same;
        impl Hash for Same {
            fn hash<H: Hasher>(&self, _: &mut H) {}
        }
        let mut places = NamePlaces::default();
        for place in 0..100 {
            assert_eq!(places.find_or_insert(&Same, place, |_| false), None);
        }
        let found: Vec<_> = (0..101).map(|n| places.find(&Same, |at| at == n)).collect();
        assert_eq!(found[..100], (0..100).map(Some).collect::<Vec<_>>());
        assert_eq!(found[100], None);
    }

    #[test]
    fn an_index_of_nothing_finds_nothing() {
        assert_eq!(NamePlaces::default().find("a", |_| true), None);
    }
}
