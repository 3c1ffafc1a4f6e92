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
use std::sync::Arc;

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
    /// All but the first two and the last, each with its end.
    middle: Range<usize>,
    /// How many there are.
    count: u32,
}

/// The lines of a run that were left out.
#[derive(Debug)]
pub struct Middle<'t> {
    text: &'t str,
    range: Range<usize>,
    /// Number of the first.
    line: u32,
    /// How many there are.
    pub count: usize,
}

impl Middle<'_> {
    /// The items that they are. `item`: of a line before them.
    pub fn items(&self, item: &Node) -> Vec<Node> {
        let mut items = Vec::with_capacity(self.count);
        each(self.text, self.line, item, |node| items.push(node.clone()));
        items
    }

    /// To be read later. `text` holds what was read, behind `offset` bytes.
    pub fn later(&self, after: usize, text: &Arc<String>, offset: usize) -> Left {
        Left {
            after,
            count: self.count,
            text: Arc::clone(text),
            range: self.range.start + offset..self.range.end + offset,
            line: self.line,
        }
    }
}

/// The list of a document whose lines may be read later: the long one of sortie's own format.
pub const LEFT_OUT_OF: &str = "routes";

/// Lines of a list that are not items yet: a text of 100,000 routes takes a tenth of the room of their tree.
#[derive(Debug)]
pub struct Left {
    /// The position of the item behind which they belong, of those that were read.
    pub after: usize,
    /// How many they are.
    pub count: usize,
    text: Arc<String>,
    range: Range<usize>,
    line: u32,
}

impl Left {
    /// Each line as an item, for the time of one call. `item`: the one behind which they belong.
    pub fn each(&self, item: &Node, see: impl FnMut(&Node)) {
        let text = self.text.get(self.range.clone()).unwrap_or_default();
        each(text, self.line, item, see);
    }
}

/// Each line of `text` as a node like `item`, which is of a line of the same run.
fn each(text: &str, line: u32, item: &Node, mut see: impl FnMut(&Node)) {
    let mut node = item.clone();
    for (text, line) in lines(text).zip(line..) {
        renew(&mut node, text.as_bytes(), line, &mut 0);
        see(&node);
    }
}

/// The lines of a text, what is behind its last end of a line among them where it is not empty.
fn lines(text: &str) -> impl Iterator<Item = &str> {
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

/// True where `line` is alike `before`, which is the last one of the run.
fn goes_on(run: &Run<'_>, before: &[u8], line: &[u8]) -> bool {
    // Those behind the first are sound as that one is.
    (run.count > 1 || is_sound(before)) && are_alike(before, line)
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

/// Makes of `node`, which is of one line of a run, what another one says. All that lines of runs hold is ASCII, so
/// that a column is a place in the line; `moved` is by how much things stand further right than in the line before.
fn renew(node: &mut Node, text: &[u8], line: u32, moved: &mut u32) {
    let to = |at: Mark, moved: u32| Mark {
        line,
        column: at.column.wrapping_add(moved),
    };
    node.at = to(node.at, *moved);
    match &mut node.value {
        Value::Scalar(scalar) => {
            let start = node.at.column as usize - 1;
            let rest = text.get(start..).unwrap_or_default();
            let same = rest.strip_prefix(scalar.text.as_bytes());
            if same.is_some_and(|rest| !rest.first().copied().is_some_and(is_in_word)) {
                return;
            }
            let word = rest.get(..end_of_word(rest, 0)).unwrap_or_default();
            let length = |text: &[u8]| u32::try_from(text.len()).unwrap_or_default();
            let wider = length(word).wrapping_sub(length(scalar.text.as_bytes()));
            *moved = moved.wrapping_add(wider);
            scalar.text = std::str::from_utf8(word).unwrap_or_default().into();
        }
        Value::List(items) => {
            for item in items {
                renew(item, text, line, moved);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                entry.key_at = to(entry.key_at, *moved);
                renew(&mut entry.value, text, line, moved);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cursor::{At, Source};
    use super::super::document::Document;
    use super::super::load::{load_texts, said};
    use super::super::yaml::{self, Parsed};
    use super::*;

    fn lines_of(count: usize, line: impl Fn(usize) -> String) -> String {
        (0..count).map(|n| line(n) + "\n").collect()
    }

    /// The routes of every document, each with its path.
    fn routes(parsed: Parsed) -> Vec<(String, Node)> {
        let mut all = Vec::new();
        for (root, left) in parsed.documents.into_iter().zip(parsed.left) {
            let source = Source {
                file: "a.yaml".into(),
                folder: "".into(),
            };
            let document = Document { source, root, left };
            let root = At::of(&document);
            if let Some(list) = root.key("routes") {
                let before = all.len();
                list.each(|at| all.push((at.field(), at.node().clone())));
                assert_eq!(list.count(), all.len() - before);
            }
        }
        all
    }

    /// True where lines were left for later; the routes are what they would have been.
    fn are_left(text: &str) -> bool {
        let later = yaml::parse_shared(&Arc::new(text.to_owned()));
        let left = later.left.iter().any(|left| !left.is_empty());
        assert_eq!(routes(later), routes(yaml::parse(text)), "{text}");
        left
    }

    #[test]
    fn lines_that_are_left_for_later_become_the_items_that_would_have_been_read() {
        let long = lines_of(50, |n| {
            let port = "8".repeat(n % 4 + 1);
            format!(
                "  - {{host: h{n}.example, port: {port}, hosts: [a{n}, b], deep: {{at: x{n}}}}}"
            )
        });
        let short = lines_of(40, |n| format!("  - host: h{}", n * n));
        for text in [
            format!("routes:\n{long}"),
            format!("upstreams:\n{short}routes:\n{long}"),
            format!("routes:\n{long}# a remark\n{short}  - {{host: last}}\n{long}end: 1\n"),
            format!("routes:\n{long}---\nroutes:\n  - first\n{short}---\n---\nroutes:\n{long}"),
            format!("\u{feff}# ä\nroutes:\n{short}"),
            format!("routes:\n{}", short.trim_end()),
        ] {
            assert!(are_left(&text), "{text}");
        }
    }

    #[test]
    fn lines_of_another_list_and_of_one_that_may_be_repeated_are_read_at_once() {
        let list = lines_of(40, |n| format!("  - host: h{n}"));
        for text in [
            format!("hosts:\n{list}"),
            format!("routes: &x\n{list}more: *x\n"),
            format!("&x\nroutes:\n{list}"),
            format!("a:\n  routes:\n{}", list.replace("  -", "    -")),
            list.replace("  -", "-"),
            format!("routes:\n{list}bad: [\n"),
        ] {
            assert!(!are_left(&text), "{text}");
        }
    }

    #[test]
    fn a_list_of_routes_in_a_document_of_another_kind_is_none_of_ours() {
        let list = lines_of(40, |n| format!("  - host: h{n}"));
        let text = format!("apiVersion: v1\nkind: Else\nroutes:\n{list}");
        let loaded = load_texts(&[("a.yaml", &text)]).unwrap();
        assert!(loaded.config.hosts.is_empty());
    }

    const UPSTREAM: &str = "upstreams: [{name: bank, endpoints: a:1, tls: {mode: disable}}]\n";

    #[test]
    fn a_mistake_in_a_line_that_was_left_for_later_is_reported_where_it_stands() {
        let routes = lines_of(100, |n| match n {
            50 => "  - {host: h7.example, upstream: bank}".to_owned(),
            57 => "  - {host: a..b, upstream: bank}".to_owned(),
            58 => "  - {host: other.example, upstream: bonk}".to_owned(),
            n => format!("  - {{host: h{n}.example, upstream: bank}}"),
        });
        let text = format!("{UPSTREAM}routes:\n{routes}");
        assert!(are_left(&text));
        assert_eq!(
            said(&text),
            [
                "a.yaml:53:12: error[SRT0206] routes[50].host: h7.example, any port, is routed \
                 already at a.yaml:10; keep one of the two, with all the rules of that host",
                "a.yaml:60:12: error[SRT0106] routes[57].host: \"a..b\" is not a host: the label \"\" \
                 must have 1 to 63 characters; write a host name, \"*.suffix\" or \"*\"",
                "a.yaml:61:37: error[SRT0202] routes[58].upstream: there is no upstream \"bonk\" \
                 (IST0101); did you mean \"bank\"?",
            ]
        );
    }

    #[test]
    fn lines_that_hold_no_mistake_are_in_the_model_each_with_its_place() {
        let routes = lines_of(100, |n| {
            format!("  - {{host: h{n}.example, upstream: bank}}")
        });
        let loaded = load_texts(&[("a.yaml", &format!("{UPSTREAM}routes:\n{routes}"))]).unwrap();
        let shown = loaded.config.hosts.iter().map(|one| {
            let rule = one.rules.place(&one.rules[0]);
            format!("{} {} {rule}", one.hosts[0], one.place)
        });
        let expected = (0..100).map(|n| format!("h{n}.example a.yaml:{} a.yaml:{}", n + 3, n + 3));
        assert_eq!(shown.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    }
}
