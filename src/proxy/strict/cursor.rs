//! A place in the bytes at hand, and what bytes are for.
//!
//! Owns: [`Cursor`], character classes, and a small buffer that forgets what does not fit.
//! Never: knows a state of the machine.
//! Called by: its neighbours in this folder.

use super::violation::Violation;
use crate::message::plain_bytes;

/// A reader of the bytes at hand. After an error it stands at the byte that is wrong.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Not beyond this, for now.
    end: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Cursor {
            bytes,
            at: 0,
            end: bytes.len(),
        }
    }

    /// Bytes read so far.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The next byte, which stays.
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest().first().copied()
    }

    /// All that is left.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..self.end).unwrap_or_default()
    }

    /// Steps over one byte that was peeked.
    pub(super) fn bump(&mut self) {
        self.skip(1);
    }

    /// Steps over `count` bytes, or over all that is left.
    pub(super) fn skip(&mut self, count: usize) {
        self.at = self.end.min(self.at.saturating_add(count));
    }

    /// Takes the bytes for which `keep` holds.
    #[inline]
    pub(super) fn take_while(&mut self, keep: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = self.rest();
        let count = rest.iter().position(|byte| !keep(*byte));
        let taken = rest.get(..count.unwrap_or(rest.len())).unwrap_or_default();
        self.skip(taken.len());
        taken
    }

    /// Steps over bytes that a field value is made of, tabs aside.
    #[inline]
    pub(super) fn skip_plain(&mut self) {
        let (words, _) = self.rest().as_chunks::<8>();
        let mut count = 0;
        for word in words {
            let plain = plain_bytes(u64::from_le_bytes(*word));
            count += plain;
            if plain < 8 {
                self.skip(count);
                return;
            }
        }
        self.skip(count);
        self.take_while(|byte| byte >= b' ' && byte != 0x7f);
    }

    /// Runs `read` with no more than `max` bytes since `used` began to count. Where it wants more
    /// and more is there, that is `too_large`, at the first byte too many.
    pub(super) fn within(
        &mut self,
        used: &mut usize,
        max: usize,
        too_large: Violation,
        read: impl FnOnce(&mut Self) -> Result<bool, Violation>,
    ) -> Result<bool, Violation> {
        let (start, end) = (self.at, self.end);
        self.end = end.min(start.saturating_add(max.saturating_sub(*used)));
        let done = read(self)?;
        *used += self.at - start;
        let cut = self.end < end;
        self.end = end;
        if cut && !done {
            return Err(too_large);
        }
        Ok(done)
    }
}

/// What a path and query are made of, with the few characters that clients do not escape though
/// RFC 3986 asks for it. No fragment: it is never sent (RFC 9112 section 3.2).
#[inline]
pub(super) fn is_target(byte: u8) -> bool {
    TARGET.get(usize::from(byte)).copied().unwrap_or(false)
}

static TARGET: [bool; 256] = targets();

#[expect(
    clippy::indexing_slicing,
    reason = "runs when compiled, where an index out of bounds is an error"
)]
const fn targets() -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        table[byte as usize] =
            byte.is_ascii_graphic() && !matches!(byte, b'#' | b'\\' | b'<' | b'>');
        byte += 1;
    }
    table
}

/// What is wrong with a byte that cannot stand where it does; `otherwise` where the byte itself
/// is an ordinary one.
pub(super) fn misplaced(byte: u8, otherwise: Violation) -> Violation {
    match byte {
        b'\n' => Violation::BareLf,
        b'\r' | b'\t' => otherwise,
        0..b' ' | 0x7f => Violation::ControlByte,
        _ => otherwise,
    }
}

/// Up to `N` bytes; more than that are counted and not kept.
#[derive(Clone, Debug)]
pub(super) struct Small<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Small<N> {
    pub(super) const fn new() -> Self {
        Small {
            bytes: [0; N],
            length: 0,
        }
    }

    pub(super) fn clear(&mut self) {
        self.length = 0;
    }

    pub(super) fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.length) {
            *slot = byte;
        }
        self.length = self.length.saturating_add(1);
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        let end = self.length.saturating_add(bytes.len());
        if let Some(slots) = self.bytes.get_mut(self.length..end) {
            slots.copy_from_slice(bytes);
        }
        self.length = end;
    }

    /// What was pushed, in lower case.
    pub(super) fn make_lower_case(&mut self) {
        if let Some(bytes) = self.bytes.get_mut(..self.length) {
            bytes.make_ascii_lowercase();
        }
    }

    /// What was pushed, unless it was too much.
    pub(super) fn get(&self) -> Option<&[u8]> {
        self.bytes.get(..self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_buffer_forgets_what_is_too_much_and_knows_it() {
        let mut small = Small::<4>::new();
        small.extend(b"AB");
        small.push(b'C');
        small.make_lower_case();
        assert_eq!(small.get(), Some(b"abc".as_slice()));
        small.extend(b"de");
        assert_eq!(small.get(), None);
        small.push(b'f');
        assert_eq!(small.get(), None);
        small.clear();
        assert_eq!(small.get(), Some(b"".as_slice()));
    }
}
