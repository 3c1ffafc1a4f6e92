//! What lies between the parser's events: white space, comments, quotes.
//!
//! Owns: where a quoted text, a block scalar or a blank stretch ends, and the parser's characters
//! as bytes.
//! Never: knows what a mapping is.
//! Called by: parse.

use saphyr_parser::Marker;

/// Characters between two known places of a text.
const STRIDE: usize = 256;

/// A text, and the bytes of its characters.
pub(super) struct Scan<'a> {
    pub text: &'a str,
    /// The byte of every [`STRIDE`]th character; empty where all characters are bytes.
    known: Vec<usize>,
    base: usize,
}

impl<'a> Scan<'a> {
    /// `base`: the byte of the first character that the parser sees.
    pub fn new(text: &'a str, base: usize) -> Scan<'a> {
        let known = match text.is_ascii() {
            true => Vec::new(),
            false => {
                let bare = text.get(base..).unwrap_or_default();
                bare.char_indices()
                    .step_by(STRIDE)
                    .map(|(at, _)| at + base)
                    .collect()
            }
        };
        Scan { text, known, base }
    }

    /// The byte of a character.
    pub fn byte(&self, marker: &Marker) -> usize {
        let nth = marker.index();
        if self.known.is_empty() {
            return (self.base + nth).min(self.text.len());
        }
        let Some(from) = self.known.get(nth / STRIDE) else {
            return self.text.len();
        };
        let rest = self.text.get(*from..).unwrap_or_default();
        rest.char_indices()
            .nth(nth % STRIDE)
            .map_or(self.text.len(), |(at, _)| from + at)
    }

    /// After the quote that ends what begins at `at`.
    pub fn quoted(&self, at: usize) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let quote = *bytes.get(at)?;
        let mut at = at + 1;
        loop {
            let byte = *bytes.get(at)?;
            let doubled = quote == b'\'' && bytes.get(at + 1) == Some(&quote);
            match byte {
                b'\\' if quote == b'"' => at += 1,
                byte if byte == quote && doubled => at += 1,
                byte if byte == quote => return Some(at + 1),
                _ => {}
            }
            at += 1;
        }
    }

    /// After the last line of a block scalar whose header is at `at`; `limit` is where the parser
    /// went on. What is empty after it belongs to it only with `+`.
    pub fn block_scalar(&self, at: usize, limit: usize) -> Option<usize> {
        let rest = self.text.get(at..)?;
        rest.starts_with(['|', '>']).then_some(())?;
        let line = rest.lines().next()?;
        let header = at + line.len();
        let keep = line
            .split(['#', ' '])
            .next()
            .is_some_and(|head| head.contains('+'));
        let content = self.text.get(header..limit.max(header))?;
        let trimmed = content.trim_end_matches([' ', '\t', '\r', '\n']);
        if !keep {
            return Some(header + trimmed.len());
        }
        let lines = content.trim_end_matches([' ', '\t']);
        let lines = lines.strip_suffix('\n').unwrap_or(lines);
        let lines = lines.strip_suffix('\r').unwrap_or(lines);
        Some(header + lines.len().max(trimmed.len()))
    }

    /// After white space, line breaks and comments from `at` on.
    pub fn blank(&self, at: usize) -> usize {
        let bytes = self.text.as_bytes();
        let mut at = at;
        while let Some(byte) = bytes.get(at) {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => at += 1,
                b'#' => {
                    let rest = bytes.get(at..).unwrap_or_default();
                    let line = rest.iter().position(|b| matches!(b, b'\r' | b'\n'));
                    at += line.unwrap_or(rest.len());
                }
                _ => break,
            }
        }
        at
    }

    /// Bytes between the beginning of the line and `at`.
    pub fn column(&self, at: usize) -> usize {
        let before = self.text.get(..at).unwrap_or_default();
        at - before.rfind('\n').map_or(self.base, |line| line + 1)
    }
}
