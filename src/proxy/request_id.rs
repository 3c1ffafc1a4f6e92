//! A name for a request that has none.
//!
//! Owns: version 4 UUIDs (RFC 9562 section 5.4), and random bytes kept ready for them.
//! Never: shares anything between threads.
//! Called by: `proxy::entering`.

use std::cell::RefCell;

use aws_lc_rs::rand;
use bytes::Bytes;
use http::HeaderValue;

/// Random bytes that are drawn at once: those of 64 names.
const STORE: usize = 1024;

/// Random bytes of one thread, and how many of them are left.
struct Store {
    bytes: [u8; STORE],
    left: usize,
}

thread_local! {
    static RANDOM: RefCell<Store> = const { RefCell::new(Store { bytes: [0; STORE], left: 0 }) };
}

/// A new one; `None` where the system has no random bytes to give.
pub(super) fn make() -> Option<HeaderValue> {
    let random = RANDOM.with_borrow_mut(Store::take)?;
    HeaderValue::from_maybe_shared(Bytes::copy_from_slice(&text(random))).ok()
}

impl Store {
    fn take(&mut self) -> Option<[u8; 16]> {
        if self.left == 0 {
            rand::fill(&mut self.bytes).ok()?;
            self.left = STORE;
        }
        let (rest, taken) = self.bytes.get(..self.left)?.split_last_chunk::<16>()?;
        self.left = rest.len();
        Some(*taken)
    }
}

/// `xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx`
fn text(mut random: [u8; 16]) -> [u8; 36] {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut random;
    *version = *version & 0x0f | 0x40;
    *variant = *variant & 0x3f | 0x80;
    let mut digits = random
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 0x0f])
        .filter_map(|digit| DIGITS.get(usize::from(digit)).copied());
    let mut text = [b'-'; 36];
    for (place, to) in text.iter_mut().enumerate() {
        if !matches!(place, 8 | 13 | 18 | 23) {
            *to = digits.next().unwrap_or(b'0');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn b10_an_id_is_a_version_4_uuid() {
        assert_eq!(&text([0xff; 16]), b"ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(&text([0; 16]), b"00000000-0000-4000-8000-000000000000");
        let sorted = std::array::from_fn(|index| index as u8 * 0x11);
        assert_eq!(&text(sorted), b"00112233-4455-4677-8899-aabbccddeeff");
    }

    #[test]
    fn b10_no_id_comes_twice() {
        let ids: HashSet<_> = (0..1000).map(|_| make().unwrap()).collect();
        assert_eq!(ids.len(), 1000);
    }
}
