//! What a field says.
//!
//! Owns: [`Value`], bytes that came or were made here.
//! Never: keeps them.
//! Called by: `fields`, and whoever asks for a field.

use std::fmt;

/// A value's bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Value<'a>(pub(super) &'a [u8]);

impl<'a> Value<'a> {
    /// All of it.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// As text, where it is visible ASCII, spaces and tabs.
    pub fn to_str(self) -> Option<&'a str> {
        let text = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t');
        // Without a branch for each byte.
        match self.0.iter().fold(true, |all, byte| all & text(byte)) {
            true => std::str::from_utf8(self.0).ok(),
            false => None,
        }
    }

    /// True where it is this text, in any case of letters.
    pub fn is(self, text: &str) -> bool {
        self.0.eq_ignore_ascii_case(text.as_bytes())
    }

    /// True where it has no byte.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(self.0), f)
    }
}

impl PartialEq<str> for Value<'_> {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Value<'_> {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_visible_is_text() {
        assert_eq!(Value(b"a\tb ~").to_str(), Some("a\tb ~"));
        for odd in [b"\xc3\xa4".as_slice(), b"\x7f", b"\x01"] {
            assert_eq!(Value(odd).to_str(), None);
        }
    }
}
