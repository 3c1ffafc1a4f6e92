//! Lines of a list that are read as the list is gone through, one at a time.
//!
//! Owns: making an item of a line that is like the item before it.
//! Never: finds such lines, or judges what they say.
//! Called by: alike (finds them), yaml (leaves them), cursor (reads them).
//!
//! Why: a text of 100,000 routes takes a tenth of the room of their tree, and most of its lines say the same but for
//! one word: no tree is made of those at all.

use std::ops::Range;
use std::sync::Arc;

use super::alike::{Frame, end_of_word, is_in_word, lines};
use super::node::{Mark, Node, Value};

/// The list of a document whose lines may be read later: the long one of sortie's own format.
pub const LEFT_OUT_OF: &str = "routes";

/// The lines of a run that were left out.
#[derive(Debug)]
pub struct Middle<'t> {
    pub(super) text: &'t str,
    /// The line before them, whole with its end.
    pub(super) before: Range<usize>,
    pub(super) range: Range<usize>,
    /// Number of the first.
    pub(super) line: u32,
    /// How many there are.
    pub count: usize,
}

impl Middle<'_> {
    /// The items that they are. `item`: of the line before them.
    pub fn items(&self, item: &Node) -> Vec<Node> {
        let mut items = Vec::with_capacity(self.count);
        let mut node = item.clone();
        for (text, line) in lines(self.text).zip(self.line..) {
            renew(&mut node, text.as_bytes(), line, &mut 0);
            items.push(node.clone());
        }
        items
    }

    /// To be read later. `text` holds what was read, behind `offset` bytes.
    pub fn later(&self, after: usize, text: &Arc<String>, offset: usize) -> Left {
        let moved = |range: &Range<usize>| range.start + offset..range.end + offset;
        Left {
            after,
            count: self.count,
            text: Arc::clone(text),
            before: moved(&self.before),
            range: moved(&self.range),
            line: self.line,
        }
    }
}

/// Lines of a list that are not items yet.
#[derive(Debug)]
pub struct Left {
    /// The position of the item behind which they belong, of those that were read.
    pub after: usize,
    /// How many they are.
    pub count: usize,
    text: Arc<String>,
    before: Range<usize>,
    range: Range<usize>,
    line: u32,
}

/// One of them.
pub enum Line<'l> {
    /// The word that it has in the place of one that the item before all of them has, and its number: in all else it
    /// says the same.
    Word(&'l str, u32),
    /// All that it says.
    Item(&'l Node),
}

impl Left {
    /// Each line, for the time of one call. `item`: the one behind which they belong. `but`: the scalar of it that lines
    /// may be told by; where `see` does not take the word, which it says by false, it sees the line as an item.
    pub fn each(&self, item: &Node, but: Option<&Node>, mut see: impl FnMut(Line<'_>) -> bool) {
        let text = |range: &Range<usize>| self.text.get(range.clone()).unwrap_or_default();
        let before = lines(text(&self.before)).next().unwrap_or_default();
        let frame = but.and_then(|but| Frame::of(but, before));
        let mut node = None;
        for (line, number) in lines(text(&self.range)).zip(self.line..) {
            // Lines of a run have the same punctuation: what one holds in the frame of another is one word.
            let held = frame.and_then(|frame| frame.held(line.as_bytes()));
            let word = held.and_then(|held| std::str::from_utf8(held).ok());
            if word.is_some_and(|word| see(Line::Word(word, number))) {
                continue;
            }
            let node = node.get_or_insert_with(|| item.clone());
            renew(node, line.as_bytes(), number, &mut 0);
            see(Line::Item(node));
        }
    }
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
    use super::super::cursor::{At, Item, Source};
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
                list.each("", |item| {
                    match item {
                        Item::Read(at, _) | Item::Late(at) => {
                            all.push((at.field(), at.node().clone()))
                        }
                        Item::Model(at) => assert_eq!(at.field(), all[all.len() - 1].0),
                        Item::Word(..) => panic!("no scalar is named"),
                    }
                    true
                });
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

    /// The words that lines of the one document are told by, each with its line; those whose numbers divide by `not`
    /// are not taken, and seen as items.
    fn words(text: &str, but: &str, not: u32) -> (Vec<(String, u32)>, Vec<u32>) {
        let parsed = yaml::parse_shared(&Arc::new(text.to_owned()));
        let (root, left) = (parsed.documents[0].clone(), parsed.left);
        let source = Source {
            file: "a.yaml".into(),
            folder: "".into(),
        };
        let left = left.into_iter().next().unwrap_or_default();
        let document = Document { source, root, left };
        let (mut words, mut late, root) = (Vec::new(), Vec::new(), At::of(&document));
        root.key("routes").unwrap().each(but, |item| {
            match item {
                Item::Word(_, line) if line.is_multiple_of(not) => return false,
                Item::Word(word, line) => words.push((word.to_owned(), line)),
                Item::Late(at) => late.push(at.node().at.line),
                Item::Read(..) | Item::Model(_) => {}
            }
            true
        });
        (words, late)
    }

    #[test]
    fn a_line_that_differs_in_the_word_asked_for_is_told_by_it_and_another_is_an_item() {
        let text = lines_of(50, |n| match n {
            20 => "  - {port: 81, host: h.example, to: a}".to_owned(),
            30 => "  - {port: 80, host: h30.example, to: b}".to_owned(),
            n => format!("  - {{port: 80, host: h{n}.example, to: a}}"),
        });
        let text = format!(
            "routes:
{text}"
        );
        let (told, late) = words(&text, "host", 10);
        let plain = |n: &u32| ![20, 30].contains(n) && !(n + 2).is_multiple_of(10);
        let expected = (2..49).filter(plain);
        let expected: Vec<_> = expected.map(|n| (format!("h{n}.example"), n + 2)).collect();
        assert_eq!(told, expected);
        assert_eq!(late, [10, 20, 22, 30, 32, 40, 50]);
        // The model says another port than all but one line.
        let (told, late) = words(&text, "port", 99);
        assert_eq!((told, late.len()), (Vec::new(), 47));
    }

    #[test]
    fn a_word_is_told_where_it_ends_the_line_and_where_it_is_the_same_as_others() {
        let text = format!(
            "routes:\n{}",
            lines_of(40, |n| format!("- host: h{}", n % 3))
        );
        let (told, late) = words(&text, "host", 99);
        let expected: Vec<_> = (2..39).map(|n| (format!("h{}", n % 3), n + 2)).collect();
        assert_eq!((told, late), (expected, Vec::new()));
    }

    #[test]
    fn no_line_is_told_by_what_is_no_scalar_or_is_not_there() {
        let text = lines_of(40, |n| format!("  - {{hosts: [h{n}], to: a}}"));
        for but in ["hosts", "host"] {
            let (told, late) = words(&format!("routes:\n{text}"), but, 99);
            assert_eq!((told, late.len()), (Vec::new(), 37), "{but}");
        }
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
