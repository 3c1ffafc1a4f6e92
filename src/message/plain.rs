//! A line of a field as nearly every line is: all of it here, its bytes plain, CR LF at its end.
//!
//! Owns: [`Plain`], such a line and where its parts are; what names and values are made of.
//! Never: says what is wrong with another line: whoever reads the message has a parser for those.
//! Called by: `proxy::strict` for requests, `upstream::http1` for answers, `fields`.
//!
//! Why beside those parsers: one look at such a line does for all who come after.

use std::ops::Range;

use super::known::Known;

/// A name, a colon, a value (RFC 9112 section 5). Places count from the line's first byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plain {
    /// Which of the known names it has.
    pub known: Known,
    /// Bytes of the name; the colon is next.
    pub name: usize,
    /// The value, without the spaces and tabs around it.
    pub value: Range<usize>,
    /// Bytes of the line, its end included.
    pub length: usize,
}

impl Plain {
    /// The line that `bytes` begin with. `None`: it is not whole, or not of this kind.
    #[inline]
    pub fn at_front(bytes: &[u8]) -> Option<Plain> {
        let name = bytes.iter().position(|byte| !is_token(*byte))?;
        let (word, rest) = bytes.split_at_checked(name)?;
        let (b':', behind) = rest.split_first()? else {
            return None;
        };
        if word.is_empty() {
            return None;
        }
        let written = plain_length(behind);
        let (value, rest) = behind.split_at_checked(written)?;
        if !rest.starts_with(b"\r\n") {
            return None;
        }
        let (before, after) = match value {
            [b' ', first, .., last] if !is_space(*first) && !is_space(*last) => (1, 0),
            _ => around(value),
        };
        Some(Plain {
            known: Known::of(word),
            name,
            value: name + 1 + before..name + 1 + written - after,
            length: name + 1 + written + 2,
        })
    }

    /// One space before its value and none behind: it can be sent on as it stands.
    pub(super) fn is_tidy(&self, bytes: &[u8]) -> bool {
        self.value.start == self.name + 2
            && self.value.end + 2 == self.length
            && bytes.get(self.name + 1) == Some(&b' ')
    }

    /// All that stands between the colon and the line's end.
    pub fn written(&self) -> Range<usize> {
        self.name + 1..self.length.saturating_sub(2)
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// How many bytes of space a value has before and behind it.
fn around(value: &[u8]) -> (usize, usize) {
    let space = |byte: &&u8| is_space(**byte);
    let before = value.iter().take_while(space).count();
    let after = value.iter().skip(before).rev().take_while(space).count();
    (before, after)
}

/// How many bytes from the first on a value may be made of.
#[inline]
fn plain_length(bytes: &[u8]) -> usize {
    let (words, _) = bytes.as_chunks::<8>();
    let mut count = 0;
    for word in words {
        let plain = plain_bytes(u64::from_le_bytes(*word));
        count += plain;
        if plain < 8 {
            break;
        }
    }
    // A tab, or the last few bytes.
    let rest = bytes.get(count..).unwrap_or_default();
    match rest.first() {
        Some(byte) if is_value(*byte) => {
            count + rest.iter().take_while(|byte| is_value(**byte)).count()
        }
        _ => count,
    }
}

/// How many bytes of a little-endian word, from the first on, are no control characters. Eight at
/// once, without a branch for each: the borrow of a subtraction marks the bytes that are too small.
#[inline]
pub fn plain_bytes(word: u64) -> usize {
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
pub fn is_token(byte: u8) -> bool {
    TOKEN.get(usize::from(byte)).copied().unwrap_or(false)
}

/// RFC 9110 section 5.5: visible characters, space, tab and bytes beyond ASCII.
#[inline]
pub fn is_value(byte: u8) -> bool {
    (byte >= b' ' && byte != 0x7f) || byte == b'\t'
}

static TOKEN: [bool; 256] = tokens();

#[expect(
    clippy::indexing_slicing,
    reason = "runs when compiled, where an index out of bounds is an error"
)]
const fn tokens() -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        table[byte as usize] = byte.is_ascii_alphanumeric()
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
            );
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_is_found_with_its_parts_and_nothing_behind_it() {
        for (line, name, value, tidy) in [
            ("Host: bank.example\r\n", "Host", "bank.example", true),
            ("a:b\r\n", "a", "b", false),
            ("a: \t b c\t \r\n", "a", "b c", false),
            ("a: b \r\n", "a", "b", false),
            ("a:\tb\r\n", "a", "b", false),
            ("a:\r\n", "a", "", false),
            ("a: \r\n", "a", "", true),
            ("x-\u{e4}: y\r\n", "", "", false),
            ("a: \u{e4}\t\u{e4}\r\n", "a", "\u{e4}\t\u{e4}", true),
        ] {
            let bytes = format!("{line}Next: line\r\n");
            let Some(plain) = Plain::at_front(bytes.as_bytes()) else {
                assert_eq!(name, "", "{line:?}");
                continue;
            };
            assert_eq!(&line[..plain.name], name, "{line:?}");
            assert_eq!(&line[plain.value.clone()], value, "{line:?}");
            assert_eq!(plain.length, line.len(), "{line:?}");
            assert_eq!(plain.is_tidy(bytes.as_bytes()), tidy, "{line:?}");
            assert_eq!(plain.known, Known::of(name.as_bytes()));
        }
    }

    #[test]
    fn what_is_not_whole_or_not_plain_is_none() {
        let whole = "Host: bank.example\r\n";
        for length in 0..whole.len() {
            assert_eq!(Plain::at_front(&whole.as_bytes()[..length]), None);
        }
        for odd in [
            "\r\n",
            " a: b\r\n",
            ": b\r\n",
            "a : b\r\n",
            "a\r\n",
            "a: b\n",
            "a: b\rc\r\n",
            "a: b\0\r\n",
            "a: \x7f\r\n",
            "a(: b\r\n",
        ] {
            assert_eq!(Plain::at_front(odd.as_bytes()), None, "{odd:?}");
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
}
