//! A place in the bytes at hand, and what bytes are for.
//!
//! Owns: [`Cursor`], character classes, and a small buffer that forgets what does not fit.
//! Never: knows a state of the machine.
//! Called by: its neighbours in this folder.

use super::violation::Violation;

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

/// How many bytes from the first on a field value may be made of.
#[inline]
pub(super) fn plain_length(bytes: &[u8]) -> usize {
    let (chunks, _) = bytes.as_chunks::<16>();
    let odd = |chunk: &[u8; 16]| {
        let odd = |any: bool, byte: &u8| any | (*byte < b' ') | (*byte == 0x7f);
        chunk.iter().fold(false, odd)
    };
    // Sixteen at once, without a branch for each.
    let even = 16 * chunks.iter().take_while(|chunk| !odd(chunk)).count();
    let rest = bytes.get(even..).unwrap_or_default();
    even + rest.iter().take_while(|byte| is_value(**byte)).count()
}

/// How many bytes of a little-endian word, from the first on, are no control characters. Eight at
/// once, without a branch for each: the borrow of a subtraction marks the bytes that are too small.
#[inline]
fn plain_bytes(word: u64) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    let small = word.wrapping_sub(0x20 * ONES) & !word;
    let flipped = word ^ (0x7f * ONES);
    let delete = flipped.wrapping_sub(ONES) & !flipped;
    // A borrow may mark bytes behind the first marked one, never the first itself.
    (((small | delete) & HIGH).trailing_zeros() / 8) as usize
}

/// RFC 9110 section 5.6.2: what names and methods are made of.
#[inline]
pub(super) fn is_token(byte: u8) -> bool {
    class(byte) & TOKEN != 0
}

/// RFC 9110 section 5.5: visible characters, space, tab and bytes beyond ASCII.
#[inline]
pub(super) fn is_value(byte: u8) -> bool {
    (byte >= b' ' && byte != 0x7f) || byte == b'\t'
}

/// What a path and query are made of, with the few characters that clients do not escape though
/// RFC 3986 asks for it. No fragment: it is never sent (RFC 9112 section 3.2).
#[inline]
pub(super) fn is_target(byte: u8) -> bool {
    class(byte) & TARGET != 0
}

const TOKEN: u8 = 1;
const TARGET: u8 = 2;

#[inline]
fn class(byte: u8) -> u8 {
    CLASS.get(usize::from(byte)).copied().unwrap_or(0)
}

static CLASS: [u8; 256] = classes();

#[expect(
    clippy::indexing_slicing,
    reason = "runs when compiled, where an index out of bounds is an error"
)]
const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        let mut class = 0;
        if byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            )
        {
            class |= TOKEN;
        }
        if byte.is_ascii_graphic() && !matches!(byte, b'#' | b'\\' | b'<' | b'>') {
            class |= TARGET;
        }
        table[byte as usize] = class;
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
    fn plain_bytes_are_counted_up_to_the_first_control_character() {
        for odd in (0..=0xff).filter(|byte| *byte < b' ' || *byte == 0x7f) {
            for at in 0..8 {
                for filler in [b' ', b'!', b'a', b'~', 0x80, 0xa0, 0xff] {
                    let mut word = [filler; 8];
                    word[at] = odd;
                    assert_eq!(plain_bytes(u64::from_le_bytes(word)), at, "{odd} {filler}");
                    word[at..].fill(odd);
                    assert_eq!(plain_bytes(u64::from_le_bytes(word)), at, "{odd} {filler}");
                }
            }
        }
    }

    #[test]
    fn plain_bytes_do_not_end_before_a_control_character() {
        for byte in (0..=0xff_u8).filter(|byte| *byte >= b' ' && *byte != 0x7f) {
            assert_eq!(plain_bytes(u64::from_le_bytes([byte; 8])), 8, "{byte}");
        }
    }

    #[test]
    fn the_plain_bytes_of_a_value_end_at_its_first_control_character_which_is_no_tab() {
        for length in 0..70 {
            for byte in 0..=0xff_u8 {
                let mut value = vec![b'a'; 70];
                value[length] = byte;
                let ends = byte != b'\t' && (byte < b' ' || byte == 0x7f);
                let expected = if ends { length } else { 70 };
                assert_eq!(plain_length(&value), expected, "{byte} at {length}");
            }
        }
    }

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
