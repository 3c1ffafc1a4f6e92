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

    /// Steps over the bytes for which `keep` holds.
    pub(super) fn skip_while(&mut self, keep: fn(u8) -> bool) {
        let rest = self.rest();
        let count = rest.iter().position(|byte| !keep(*byte));
        self.skip(count.unwrap_or(rest.len()));
    }

    /// Steps over bytes that a field value is made of.
    pub(super) fn skip_value(&mut self) {
        let rest = self.rest();
        // Sixteen at a time without a branch, which the compiler turns into vector code.
        let (blocks, _) = rest.as_chunks::<16>();
        let plain = |block: &&[u8; 16]| {
            block
                .iter()
                .fold(true, |all, byte| all & (*byte >= b' ') & (*byte != 0x7f))
        };
        self.skip(blocks.iter().take_while(plain).count() * 16);
        self.skip_while(is_value);
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

/// RFC 9110 section 5.6.2: what names and methods are made of.
pub(super) fn is_token(byte: u8) -> bool {
    class(byte) & TOKEN != 0
}

/// RFC 9110 section 5.5: visible characters, space, tab and bytes beyond ASCII.
pub(super) fn is_value(byte: u8) -> bool {
    (byte >= b' ' && byte != 0x7f) || byte == b'\t'
}

/// What a path and query are made of, with the few characters that clients do not escape though
/// RFC 3986 asks for it. No fragment: it is never sent (RFC 9112 section 3.2).
pub(super) fn is_target(byte: u8) -> bool {
    class(byte) & TARGET != 0
}

const TOKEN: u8 = 1;
const TARGET: u8 = 2;

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

    /// What was pushed, unless it was too much.
    pub(super) fn get(&self) -> Option<&[u8]> {
        self.bytes.get(..self.length)
    }
}
