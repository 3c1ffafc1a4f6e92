//! Long runs of lines that differ in their words alone, such as 10,000 hosts: read once, and copied.
//!
//! Owns: finding such runs in a text, and making the items of a list that they stand for.
//! Never: judges YAML. A run counts only where the parser found its first two lines to be two items of
//! one list, each word a plain scalar; else the text is read again as it stands (`yaml`).
//! Called by: yaml.
//!
//! Why it is sound: a line that is an item of a block sequence, whole by its end, leaves the parser where it
//! was at its beginning. The next line of the same indentation and punctuation is then the next item.

use std::ops::Range;

use super::node::{Entry, Mark, Node, Scalar, Value};

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
    /// All but the first two and the last, each with its end.
    middle: Range<usize>,
    /// How many there are.
    count: u32,
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

    /// The items that follow `items`, where its last two are the first two lines of the next run;
    /// empty where they are not.
    pub fn more(&mut self, items: &[Node]) -> Vec<Node> {
        let (Some(run), [.., before, item]) = (self.runs.get(self.done), items) else {
            return Vec::new();
        };
        let indent = run.first.len() - run.first.trim_start_matches(' ').len();
        let column = u32::try_from(indent + 3).unwrap_or(u32::MAX);
        let is = |node: &Node, line, text| {
            node.at == Mark { line, column } && is_of(node, &mut words(text))
        };
        if !is(before, run.number, run.first) || !is(item, run.number + 1, run.second) {
            return Vec::new();
        }
        self.done += 1;
        let middle = self.whole.get(run.middle.clone()).unwrap_or_default();
        let mut more = Vec::with_capacity(run.count as usize);
        for (text, line) in middle.lines().zip(run.number + 2..) {
            more.push(copy(item, text, line, &mut 0, &mut words(text)));
        }
        more
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
    for (line, number) in text.split('\n').zip(1_u32..) {
        if run.count > 0 && are_alike(before.as_bytes(), line.as_bytes()) {
            run.count += 1;
            match run.count {
                2 => run.second = line,
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

fn is_in_word(byte: u8) -> bool {
    begins_word(byte) || matches!(byte, b'.' | b'-')
}

/// Where the word ends that begins at `from`.
fn end_of_word(line: &[u8], from: usize) -> usize {
    let rest = line.get(from..).unwrap_or_default();
    let length = rest.iter().position(|byte| !is_in_word(*byte));
    from + length.unwrap_or(rest.len())
}

/// True where the two differ in words alone, keys not among them, and hold nothing else but what punctuates
/// lists and mappings. Every word ends where a scalar does.
fn are_alike(a: &[u8], b: &[u8]) -> bool {
    let (mut i, mut j) = (0, 0);
    loop {
        match (a.get(i), b.get(j)) {
            (None, None) => return b.len() <= LONGEST,
            (Some(x), Some(y)) if begins_word(*x) && begins_word(*y) => {
                let ends = (end_of_word(a, i), end_of_word(b, j));
                let next = a.get(ends.0);
                let same = a.get(i..ends.0) == b.get(j..ends.1);
                let sound = match next {
                    None | Some(b',' | b'}' | b']') => true,
                    Some(b':') => same && a.get(ends.0 + 1) == Some(&b' '),
                    Some(_) => false,
                };
                if !sound {
                    return false;
                }
                (i, j) = ends;
            }
            // The one dash is the item's own: a word does not begin with one.
            (Some(x), Some(y))
                if x == y && matches!(x, b' ' | b'-' | b',' | b':' | b'{' | b'}' | b'[' | b']') =>
            {
                (i, j) = (i + 1, j + 1);
            }
            _ => return false,
        }
    }
}

/// The words of a line behind its dash, and where they stand.
fn words(line: &str) -> impl Iterator<Item = (Range<usize>, &str)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let rest = line.as_bytes().get(from..)?;
        let start = from + rest.iter().position(|byte| begins_word(*byte))?;
        let end = end_of_word(line.as_bytes(), start);
        from = end;
        Some((start..end, line.get(start..end)?))
    })
}

/// True where the words are all the scalars of `node`, in their order.
fn is_of(node: &Node, words: &mut dyn Iterator<Item = (Range<usize>, &str)>) -> bool {
    fn walk(node: &Node, words: &mut dyn Iterator<Item = (Range<usize>, &str)>) -> bool {
        match &node.value {
            Value::Scalar(scalar) => {
                scalar.plain && words.next().is_some_and(|(_, word)| *word == *scalar.text)
            }
            Value::List(items) => items.iter().all(|item| walk(item, words)),
            Value::Map(entries) => entries.iter().all(|entry| {
                words.next().is_some_and(|(_, word)| *word == *entry.key)
                    && walk(&entry.value, words)
            }),
        }
    }
    walk(node, words) && words.next().is_none()
}

/// The same as `node`, with the words of another line. `place`: how far that line is read, in bytes.
fn copy(
    node: &Node,
    text: &str,
    line: u32,
    place: &mut usize,
    words: &mut dyn Iterator<Item = (Range<usize>, &str)>,
) -> Node {
    let mark = |place: usize| Mark {
        line,
        column: u32::try_from(place + 1).unwrap_or(u32::MAX),
    };
    let mut word = |place: &mut usize| {
        let (range, word) = words.next().unwrap_or_default();
        *place = range.end;
        (mark(range.start), Box::<str>::from(word))
    };
    let opens = |place: usize, what: char| {
        let found = text.get(place..).and_then(|rest| rest.find(what));
        place + found.unwrap_or_default()
    };
    match &node.value {
        Value::Scalar(_) => {
            let (at, text) = word(place);
            let value = Value::Scalar(Scalar { text, plain: true });
            Node { at, value }
        }
        Value::List(items) => {
            let at = opens(*place, '[');
            *place = at + 1;
            let items = items.iter();
            let items = items.map(|item| copy(item, text, line, place, words));
            let value = Value::List(items.collect());
            Node {
                at: mark(at),
                value,
            }
        }
        Value::Map(entries) => {
            // A mapping in block style has no brace: it stands where its first key does.
            let braced = node.at != entries.first().map_or(node.at, |entry| entry.key_at);
            let at = braced.then(|| opens(*place, '{'));
            *place = at.map_or(*place, |at| at + 1);
            let mut found = Vec::with_capacity(entries.len());
            let mut begin = at.map(mark);
            for entry in entries {
                let (range, key) = words.next().unwrap_or_default();
                *place = range.end;
                let key_at = mark(range.start);
                begin = begin.or(Some(key_at));
                found.push(Entry {
                    key: key.into(),
                    key_at,
                    value: copy(&entry.value, text, line, place, words),
                });
            }
            Node {
                at: begin.unwrap_or(node.at),
                value: Value::Map(found),
            }
        }
    }
}
