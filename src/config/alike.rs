//! Long runs of lines that differ in their words alone, such as 10,000 hosts: read once, and copied.
//!
//! Owns: finding such runs in a text, and the text without them.
//! Never: judges YAML, or makes an item (that is `left`). A run counts only where the parser found its first two
//! lines to be two items of one list, each word a plain scalar; else the text is read again as it stands (`yaml`).
//! Called by: yaml.
//!
//! Why it is sound: a line that is an item of a block sequence, whole by its end, leaves the parser where it
//! was at its beginning. The next line of the same indentation and punctuation is then the next item.

use std::ops::Range;

use super::left::Middle;
use super::node::{Mark, Node, Value};

/// Fewer lines are not worth it.
const LEAST: u32 = 32;
/// Bytes of one line; below the 1024 characters that YAML allows a key (section 7.4.2).
const LONGEST: usize = 512;

/// Lines that are alike.
#[derive(Debug, Default)]
struct Run<'t> {
    /// Number of the first, from 1.
    number: u32,
    first: &'t str,
    second: &'t str,
    /// What these two have in common, where they differ in one word.
    frame: Option<Frame<'t>>,
    /// All but the first two and the last, each with its end.
    middle: Range<usize>,
    /// How many there are.
    count: u32,
}

/// The lines of a text, what is behind its last end of a line among them where it is not empty.
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = memchr::memchr(b'\n', rest.as_bytes());
        let (line, behind) = match end {
            Some(end) => (rest.get(..end)?, rest.get(end + 1..)?),
            None if rest.is_empty() => return None,
            None => (rest, ""),
        };
        rest = behind;
        Some(line)
    })
}

/// A text without most lines of its runs.
#[derive(Debug)]
pub struct Short<'t> {
    /// Each run has its first two lines and its last one.
    pub text: String,
    whole: &'t str,
    runs: Vec<Run<'t>>,
    /// For each run: the number of its second line here, and how many lines are missing up to there.
    missing: Vec<(u32, u32)>,
    /// How many of the runs were put in.
    done: usize,
}

impl<'t> Short<'t> {
    /// `None` where there is nothing to leave out. Linear in the length of `whole`.
    pub fn of(whole: &'t str) -> Option<Short<'t>> {
        let runs = runs(whole);
        if runs.is_empty() {
            return None;
        }
        let (mut text, mut missing) = (String::new(), Vec::new());
        let (mut from, mut gone) = (0, 0);
        for run in &runs {
            text.push_str(whole.get(from..run.middle.start)?);
            from = run.middle.end;
            let second = run.number + 1 - gone;
            gone += run.count - 3;
            missing.push((second, gone));
        }
        text.push_str(whole.get(from..)?);
        Some(Short {
            text,
            whole,
            runs,
            missing,
            done: 0,
        })
    }

    /// Where a line of the short text stands in the whole one.
    pub fn line(&self, short: u32) -> u32 {
        let before = self.missing.partition_point(|(second, _)| *second < short);
        let gone = before.checked_sub(1).and_then(|at| self.missing.get(at));
        short + gone.map_or(0, |(_, gone)| *gone)
    }

    /// The run of which the last two `items` are the first two lines, where there is one: its other lines but the
    /// last belong behind them.
    pub fn next(&mut self, items: &[Node]) -> Option<Middle<'t>> {
        let (run, [.., before, item]) = (self.runs.get(self.done)?, items) else {
            return None;
        };
        let indent = run.first.len() - run.first.trim_start_matches(' ').len();
        let column = u32::try_from(indent + 3).unwrap_or(u32::MAX);
        let is = |node: &Node, line, text| {
            node.at == Mark { line, column } && is_of(node, &mut words(text))
        };
        if !is(before, run.number, run.first) || !is(item, run.number + 1, run.second) {
            return None;
        }
        self.done += 1;
        Some(Middle {
            text: self.whole.get(run.middle.clone())?,
            before: run.middle.start.checked_sub(run.second.len() + 1)?..run.middle.start,
            range: run.middle.clone(),
            line: run.number + 2,
            count: run.count as usize - 3,
        })
    }

    /// True where every run was put in.
    pub fn is_whole(&self) -> bool {
        self.done == self.runs.len()
    }
}

/// Every run of a text.
fn runs(text: &str) -> Vec<Run<'_>> {
    let mut runs = Vec::new();
    let mut run = Run::default();
    let (mut before, mut start) = ("", 0);
    for (line, number) in lines(text).zip(1_u32..) {
        if run.count > 0 && goes_on(&run, before.as_bytes(), line.as_bytes()) {
            run.count += 1;
            match run.count {
                2 => (run.second, run.frame) = (line, Frame::of_both(before, line)),
                3 => run.middle = start..start,
                _ => run.middle.end = start,
            }
        } else {
            keep(&mut runs, std::mem::take(&mut run));
            if is_item(line) {
                (run.number, run.first, run.count) = (number, line, 1);
            }
        }
        before = line;
        start += line.len() + 1;
    }
    keep(&mut runs, run);
    runs
}

fn keep<'t>(runs: &mut Vec<Run<'t>>, run: Run<'t>) {
    if run.count >= LEAST {
        runs.push(run);
    }
}

/// True for a line that may begin a run.
fn is_item(line: &str) -> bool {
    line.len() <= LONGEST && line.trim_start_matches(' ').starts_with("- ")
}

fn begins_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The bytes that words are made of, below 64 and from there to 127.
const IN_WORD: (u64, u64) = (
    0x3ff << b'0' | 1 << b'.' | 1 << b'-',
    0x3ff_ffff << (b'A' - 64) | 0x3ff_ffff << (b'a' - 64) | 1 << (b'_' - 64),
);

pub(super) fn is_in_word(byte: u8) -> bool {
    let half = if byte & 64 == 0 { IN_WORD.0 } else { IN_WORD.1 };
    byte.is_ascii() && half >> (byte & 63) & 1 == 1
}

/// Where the word ends that begins at `from`.
pub(super) fn end_of_word(line: &[u8], from: usize) -> usize {
    let rest = line.get(from..).unwrap_or_default();
    let length = rest.iter().position(|byte| !is_in_word(*byte));
    from + length.unwrap_or(rest.len())
}

/// True where `line` is alike `before`, which is the last one of the run.
fn goes_on(run: &Run<'_>, before: &[u8], line: &[u8]) -> bool {
    if run.frame.is_some_and(|frame| frame.holds_word(line)) {
        return line.len() <= LONGEST;
    }
    // Those behind the first are sound as that one is.
    (run.count > 1 || is_sound(before)) && are_alike(before, line)
}

/// A line without one of its words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'t> {
    ahead: &'t [u8],
    behind: &'t [u8],
}

impl<'t> Frame<'t> {
    /// Of two lines that are alike, where they differ in one word.
    fn of_both(a: &'t str, b: &'t str) -> Option<Frame<'t>> {
        let (a, b) = (a.as_bytes(), b.as_bytes());
        let (ahead, _) = a.split_at_checked(common(a, b))?;
        let begun = ahead.iter().rev().take_while(|byte| is_in_word(**byte));
        let start = ahead.len() - begun.count();
        let frame = Frame {
            ahead: a.get(..start)?,
            behind: a.get(end_of_word(a, start)..)?,
        };
        (frame.holds_word(a) && frame.holds_word(b)).then_some(frame)
    }

    /// Of `line` and its scalar `but`.
    pub(super) fn of(but: &Node, line: &'t str) -> Option<Frame<'t>> {
        let Value::Scalar(scalar) = &but.value else {
            return None;
        };
        let start = (but.at.column as usize).checked_sub(1)?;
        let (ahead, rest) = line.as_bytes().split_at_checked(start)?;
        let behind = rest.strip_prefix(scalar.text.as_bytes())?;
        Some(Frame { ahead, behind })
    }

    /// What another line has in it.
    pub(super) fn held<'l>(&self, line: &'l [u8]) -> Option<&'l [u8]> {
        let end = line.len().checked_sub(self.behind.len())?;
        let held = line.get(self.ahead.len()..end)?;
        let same = is_same(line.get(..self.ahead.len())?, self.ahead)
            && is_same(line.get(end..)?, self.behind);
        same.then_some(held)
    }

    /// True where that is one word.
    fn holds_word(&self, line: &[u8]) -> bool {
        self.held(line).is_some_and(|held| {
            held.first().copied().is_some_and(begins_word) && end_of_word(held, 0) == held.len()
        })
    }
}

fn is_same(a: &[u8], b: &[u8]) -> bool {
    let ((words, rest), (others, other)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    // Eight bytes a step, without a call.
    words.iter().eq(others) && rest.iter().eq(other)
}

/// True where a line holds nothing but words and what punctuates lists and mappings, and every word ends where a
/// scalar does.
fn is_sound(line: &[u8]) -> bool {
    let mut at = 0;
    while let Some(byte) = line.get(at) {
        if begins_word(*byte) {
            at = end_of_word(line, at);
            let sound = match line.get(at) {
                None | Some(b',' | b'}' | b']') => true,
                Some(b':') => line.get(at + 1) == Some(&b' '),
                Some(_) => false,
            };
            if !sound {
                return false;
            }
        } else if matches!(byte, b' ' | b'-' | b',' | b':' | b'{' | b'}' | b'[' | b']') {
            // The one dash is the item's own: a word does not begin with one.
            at += 1;
        } else {
            return false;
        }
    }
    true
}

/// True where `b` differs from `a`, which is sound, in words alone, keys not among them.
fn are_alike(a: &[u8], b: &[u8]) -> bool {
    let (mut i, mut j) = (0, 0);
    loop {
        let (rest, other) = (
            a.get(i..).unwrap_or_default(),
            b.get(j..).unwrap_or_default(),
        );
        let same = common(rest, other);
        if same == rest.len() && same == other.len() {
            return b.len() <= LONGEST;
        }
        // Back to where the word begins in which they part.
        let in_word = |byte: &&u8| is_in_word(**byte);
        let back = rest.get(..same).unwrap_or_default().iter().rev();
        let begun = same - back.take_while(in_word).count();
        let skipped = |rest: &[u8]| {
            let word = rest.get(begun..).unwrap_or_default();
            word.iter().take_while(|byte| **byte == b'-').count()
        };
        let start = begun + skipped(rest);
        let begins = |rest: &[u8]| rest.get(start).copied().is_some_and(begins_word);
        // Where a word ended in one of them before, it is part of what was passed already.
        if start > same || !begins(rest) || !begins(other) || (i > 0 && start == 0) {
            return false;
        }
        (i, j) = (end_of_word(a, i + start), end_of_word(b, j + start));
        // A key is followed by a colon, and is the same in all lines.
        if a.get(i) == Some(&b':') {
            return false;
        }
    }
}

/// How many bytes are the same at the beginning.
fn common(a: &[u8], b: &[u8]) -> usize {
    let (mut left, mut right) = (a, b);
    while let (Some((x, after_x)), Some((y, after_y))) = (
        left.split_first_chunk::<8>(),
        right.split_first_chunk::<8>(),
    ) {
        let differ = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differ != 0 {
            return a.len() - left.len() + differ.trailing_zeros() as usize / 8;
        }
        (left, right) = (after_x, after_y);
    }
    let rest = left.iter().zip(right).take_while(|(x, y)| x == y);
    a.len() - left.len() + rest.count()
}

/// The words of a line behind its dash.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let rest = line.as_bytes().get(from..)?;
        let start = from + rest.iter().position(|byte| begins_word(*byte))?;
        from = end_of_word(line.as_bytes(), start);
        line.get(start..from)
    })
}

/// True where the words are all the scalars of `node`, in their order.
fn is_of(node: &Node, words: &mut dyn Iterator<Item = &str>) -> bool {
    fn walk(node: &Node, words: &mut dyn Iterator<Item = &str>) -> bool {
        match &node.value {
            Value::Scalar(scalar) => {
                scalar.plain && words.next().is_some_and(|word| *word == *scalar.text)
            }
            Value::List(items) => items.iter().all(|item| walk(item, words)),
            Value::Map(entries) => entries.iter().all(|entry| {
                words.next().is_some_and(|word| *word == *entry.key) && walk(&entry.value, words)
            }),
        }
    }
    walk(node, words) && words.next().is_none()
}
