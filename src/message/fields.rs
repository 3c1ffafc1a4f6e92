//! The fields of one message, in their order (RFC 9110 section 5).
//!
//! Owns: [`Fields`]: lines that are places in the bytes that came, and lines that were made here.
//! Never: joins, splits or judges a value.
//! Called by: everyone who looks at a message.
//!
//! Why places and not copies: a line that nobody changes leaves as the bytes that it came as. Memory
//! for the lines is used again by the next message of the thread.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::known::{Known, Set};
use super::plain::Plain;
use super::value::Value;

/// Lists of lines that one thread keeps for its next messages, and how long they may be.
const KEPT: usize = 64;
const KEPT_LINES: usize = 128;

thread_local! {
    static SPARE: RefCell<Vec<Store>> = const { RefCell::new(Vec::new()) };
}

/// See the file's head. Names are compared without regard to case.
#[derive(Default)]
pub struct Fields {
    /// What the places point into.
    block: Bytes,
    store: Store,
    /// The known names that are there.
    seen: Set,
}

#[derive(Clone, Default)]
struct Store {
    lines: Vec<Line>,
    /// Lines that were made here.
    made: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Clone, Copy)]
struct Line {
    known: Known,
    kind: Kind,
    name: Span,
    value: Span,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// In the block.
    Came,
    /// In the block, as `name: value` and a line end: it can be copied as it stands.
    Tidy,
    /// The value's start is a place among those that were made.
    Made,
}

#[derive(Clone, Copy, Default)]
struct Span {
    at: u32,
    length: u32,
}

impl Span {
    fn of(range: &Range<usize>) -> Span {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Span {
            at: number(range.start),
            length: number(range.len()),
        }
    }

    fn range(self) -> Range<usize> {
        let at = self.at as usize;
        at..at + self.length as usize
    }
}

/// A name to look for.
#[derive(Clone, Copy)]
pub struct Key<'a> {
    known: Known,
    text: &'a str,
}

impl From<Known> for Key<'_> {
    fn from(known: Known) -> Self {
        let text = known.text();
        Key { known, text }
    }
}

impl<'a> From<&'a HeaderName> for Key<'a> {
    fn from(name: &'a HeaderName) -> Self {
        name.as_str().into()
    }
}

impl<'a> From<&'a str> for Key<'a> {
    fn from(text: &'a str) -> Self {
        let known = Known::of(text.as_bytes());
        Key { known, text }
    }
}

/// One line.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    fields: &'a Fields,
    line: &'a Line,
}

impl<'a> Field<'a> {
    /// Which of the known ones it is.
    pub fn known(self) -> Known {
        self.line.known
    }

    /// Its name, as it was written.
    pub fn name(self) -> &'a [u8] {
        match self.line.kind {
            Kind::Made => self
                .made()
                .map_or(b"", |(name, _)| name.as_str().as_bytes()),
            Kind::Came | Kind::Tidy => self.fields.bytes(self.line.name),
        }
    }

    /// Its value, without the spaces around it.
    pub fn value(self) -> Value<'a> {
        Value(match self.line.kind {
            Kind::Made => self.made().map_or(b"", |(_, value)| value.as_bytes()),
            Kind::Came | Kind::Tidy => self.fields.bytes(self.line.value),
        })
    }

    /// Its name in lower case; `None` where it is none.
    pub fn to_name(self) -> Option<HeaderName> {
        match self.line.kind {
            Kind::Made => self.made().map(|(name, _)| name.clone()),
            Kind::Came | Kind::Tidy => {
                let known = self.line.known.name();
                known.or_else(|| HeaderName::from_bytes(self.name()).ok())
            }
        }
    }

    /// Its value, to be kept; a part of the bytes that came. `None` where it is none.
    pub fn to_value(self) -> Option<HeaderValue> {
        match self.line.kind {
            Kind::Made => self.made().map(|(_, value)| value.clone()),
            Kind::Came | Kind::Tidy => {
                let value = self.fields.bytes(self.line.value);
                HeaderValue::from_maybe_shared(self.fields.block.slice_ref(value)).ok()
            }
        }
    }

    /// Appends `name: value` and a line end.
    pub fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.name());
        out.extend_from_slice(b": ");
        out.extend_from_slice(self.value().as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    fn made(self) -> Option<&'a (HeaderName, HeaderValue)> {
        self.fields.store.made.get(self.line.value.at as usize)
    }

    fn is(self, key: Key<'_>) -> bool {
        self.line.known == key.known
            && (!matches!(key.known, Known::Other | Known::Envoy)
                || self.name().eq_ignore_ascii_case(key.text.as_bytes()))
    }
}

impl Fields {
    /// None.
    pub fn new() -> Fields {
        Fields::default()
    }

    /// None yet, of a message whose head is, or is in, `block`.
    pub fn of(block: Bytes) -> Fields {
        let store = SPARE.try_with(|spare| spare.borrow_mut().pop());
        Fields {
            block,
            store: store.ok().flatten().unwrap_or_default(),
            seen: Set::default(),
        }
    }

    /// Adds a line that has its name and its value in these places of the block. Nothing is checked.
    pub fn came(&mut self, name: Range<usize>, value: Range<usize>) {
        let known = Known::of(self.block.get(name.clone()).unwrap_or_default());
        let between = self.block.get(name.end..value.start);
        let behind = self.block.get(value.end..value.end + 2);
        let tidy = between == Some(b": ".as_slice()) && behind == Some(b"\r\n".as_slice());
        self.seen.add(known);
        self.store.lines.push(Line {
            known,
            kind: if tidy { Kind::Tidy } else { Kind::Came },
            name: Span::of(&name),
            value: Span::of(&value),
        });
    }

    /// Adds a line that was found at this place of the block; `bytes` begin with it.
    pub fn found(&mut self, at: usize, line: &Plain, bytes: &[u8]) {
        self.seen.add(line.known);
        let tidy = line.is_tidy(bytes);
        self.store.lines.push(Line {
            known: line.known,
            kind: if tidy { Kind::Tidy } else { Kind::Came },
            name: Span::of(&(at..at + line.name)),
            value: Span::of(&(at + line.value.start..at + line.value.end)),
        });
    }

    /// Says, once its lines were found, what their places point into.
    pub fn lie_in(&mut self, block: Bytes) {
        self.block = block;
    }

    fn bytes(&self, span: Span) -> &[u8] {
        self.block.get(span.range()).unwrap_or_default()
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.store.lines.len()
    }

    /// True where there is none.
    pub fn is_empty(&self) -> bool {
        self.store.lines.is_empty()
    }

    /// All lines.
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> + Clone {
        let field = |line| Field { fields: self, line };
        self.store.lines.iter().map(field)
    }

    /// The lines of one name.
    pub fn lines<'a>(&'a self, key: impl Into<Key<'a>>) -> impl Iterator<Item = Field<'a>> + Clone {
        let key = key.into();
        let lines: &[Line] = match self.has(key.known) {
            true => &self.store.lines,
            false => &[],
        };
        let field = |line| Field { fields: self, line };
        lines.iter().map(field).filter(move |field| field.is(key))
    }

    /// The values of one name.
    pub fn get_all<'a>(
        &'a self,
        key: impl Into<Key<'a>>,
    ) -> impl Iterator<Item = Value<'a>> + Clone {
        self.lines(key).map(Field::value)
    }

    /// The first value of one name.
    pub fn get<'a>(&'a self, key: impl Into<Key<'a>>) -> Option<Value<'a>> {
        self.get_all(key).next()
    }

    /// The value of a name that is there once.
    pub fn only<'a>(&'a self, key: impl Into<Key<'a>>) -> Option<Value<'a>> {
        let mut values = self.get_all(key);
        values.next().filter(|_| values.next().is_none())
    }

    /// The first value of one name, to be kept.
    pub fn value<'a>(&'a self, key: impl Into<Key<'a>>) -> Option<HeaderValue> {
        self.lines(key).next().and_then(Field::to_value)
    }

    /// True where a line has this name.
    pub fn contains_key<'a>(&'a self, key: impl Into<Key<'a>>) -> bool {
        self.lines(key).next().is_some()
    }

    /// True where one of this kind may be there: of [`Known::Other`] and [`Known::Envoy`], any.
    pub fn has(&self, known: Known) -> bool {
        self.seen.contains(known)
    }

    /// True where one of these may be there.
    pub fn has_any(&self, set: Set) -> bool {
        self.seen.meets(set)
    }

    /// Adds a line.
    pub fn append(&mut self, name: impl Into<HeaderName>, value: HeaderValue) {
        let line = self.make(name.into(), value);
        self.store.lines.push(line);
    }

    /// Gives a name this value alone, in the place of the first that it had.
    pub fn insert(&mut self, name: impl Into<HeaderName>, value: HeaderValue) {
        let name = name.into();
        let key = Key::from(&name);
        let place = match self.has(key.known) {
            true => self.iter().position(|field| field.is(key)),
            false => None,
        };
        let Some(place) = place else {
            return self.append(name, value);
        };
        let line = self.make(name.clone(), value);
        if let Some(first) = self.store.lines.get_mut(place) {
            *first = line;
        }
        let key = Key::from(&name);
        let mut number = 0;
        self.retain(|field| {
            number += 1;
            number - 1 <= place || !field.is(key)
        });
    }

    fn make(&mut self, name: HeaderName, value: HeaderValue) -> Line {
        let known = Known::of(name.as_str().as_bytes());
        let made = self.store.made.len();
        self.store.made.push((name, value));
        self.seen.add(known);
        Line {
            known,
            kind: Kind::Made,
            name: Span::default(),
            value: Span::of(&(made..made)),
        }
    }

    /// Takes every line of one name out; true where there was one.
    pub fn remove<'a>(&mut self, key: impl Into<Key<'a>>) -> bool {
        let key = key.into();
        let before = self.len();
        if self.has(key.known) {
            self.retain(|field| !field.is(key));
        }
        self.len() < before
    }

    /// Keeps the lines for which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(Field<'_>) -> bool) {
        let mut lines = std::mem::take(&mut self.store.lines);
        let fields = &*self;
        lines.retain(|line| keep(Field { fields, line }));
        self.seen = Set::default();
        lines.iter().for_each(|line| self.seen.add(line.known));
        self.store.lines = lines;
    }

    /// Appends the lines for which `keep` holds, each with its line end. Neighbours that came
    /// together leave in one copy.
    pub fn write(&self, out: &mut Vec<u8>, mut keep: impl FnMut(Field<'_>) -> bool) {
        let (mut start, mut end) = (0, 0);
        for field in self.iter().filter(|field| keep(*field)) {
            let tidy = field.line.kind == Kind::Tidy;
            let begins = field.line.name.range().start;
            if !tidy || begins != end {
                out.extend_from_slice(self.block.get(start..end).unwrap_or_default());
                (start, end) = (begins, begins);
            }
            match tidy {
                true => end = field.line.value.range().end + 2,
                false => field.write(out),
            }
        }
        out.extend_from_slice(self.block.get(start..end).unwrap_or_default());
    }

    /// Bytes of all lines, as HTTP/1 writes them.
    pub fn wire_size(&self) -> u64 {
        let size =
            |field: Field<'_>| (field.name().len() + field.value().as_bytes().len() + 4) as u64;
        self.iter().map(size).sum()
    }
}

impl Clone for Fields {
    fn clone(&self) -> Self {
        let mut fields = Fields::of(self.block.clone());
        fields.store.lines.extend_from_slice(&self.store.lines);
        fields.store.made.extend_from_slice(&self.store.made);
        fields.seen = self.seen;
        fields
    }
}

impl Drop for Fields {
    fn drop(&mut self) {
        let mut store = std::mem::take(&mut self.store);
        store.lines.clear();
        store.made.clear();
        let worth = 1..=KEPT_LINES;
        if worth.contains(&store.lines.capacity()) && store.made.capacity() <= KEPT_LINES {
            // At the thread's end there is nobody to keep it for.
            let _ = SPARE.try_with(|spare| {
                let mut spare = spare.borrow_mut();
                if spare.len() < KEPT {
                    spare.push(store);
                }
            });
        }
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for field in self.iter() {
            map.entry(&Value(field.name()), &field.value());
        }
        map.finish()
    }
}

/// For HTTP/2, in which a head never was lines.
impl From<HeaderMap> for Fields {
    fn from(map: HeaderMap) -> Self {
        let mut fields = Fields::of(Bytes::new());
        let mut last = None;
        for (name, value) in map {
            // A name that is missing is the one before.
            last = name.or(last);
            if let Some(name) = &last {
                fields.append(name.clone(), value);
            }
        }
        fields
    }
}

impl From<Fields> for HeaderMap {
    fn from(mut fields: Fields) -> Self {
        let mut map = HeaderMap::with_capacity(fields.len());
        let mut made: Vec<_> = std::mem::take(&mut fields.store.made)
            .into_iter()
            .map(Some)
            .collect();
        for field in fields.iter() {
            let pair = match field.line.kind {
                Kind::Made => made
                    .get_mut(field.line.value.at as usize)
                    .and_then(Option::take),
                Kind::Came | Kind::Tidy => field.to_name().zip(field.to_value()),
            };
            if let Some((name, value)) = pair {
                map.append(name, value);
            }
        }
        map
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Fields {
    /// As they would have come; what is no name or no value is left out.
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(lines: I) -> Self {
        let mut fields = Fields::new();
        for (name, value) in lines {
            let name = HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
                fields.append(name, value);
            }
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = "Host: a\r\nX-One: 1\r\nx-two:2\r\nX-ONE:  3 \r\nAccept: */*\r\n\r\n";

    fn came() -> Fields {
        let mut fields = Fields::of(Bytes::from_static(BLOCK.as_bytes()));
        for line in BLOCK.lines().filter(|line| !line.is_empty()) {
            let at = BLOCK.find(line).unwrap();
            let (name, value) = line.split_once(':').unwrap();
            let start = at + name.len() + 1 + value.len() - value.trim_start().len();
            fields.came(at..at + name.len(), start..start + value.trim().len());
        }
        fields
    }

    fn written(fields: &Fields) -> String {
        let mut out = Vec::new();
        fields.write(&mut out, |_| true);
        let size = out.len() as u64;
        assert_eq!(size, fields.wire_size());
        String::from_utf8(out).unwrap()
    }

    fn value(text: &'static str) -> HeaderValue {
        HeaderValue::from_static(text)
    }

    #[test]
    fn lines_leave_as_they_came_but_for_odd_spaces() {
        let out = "Host: a\r\nX-One: 1\r\nx-two: 2\r\nX-ONE: 3\r\nAccept: */*\r\n";
        assert_eq!(written(&came()), out);
        let mut some = Vec::new();
        came().write(&mut some, |field| field.known() != Known::Host);
        assert_eq!(some, &out.as_bytes()[9..]);
    }

    #[test]
    fn values_are_found_in_their_order_whatever_the_case_and_others_are_not() {
        let fields = came();
        let all: Vec<_> = fields.get_all("x-one").collect();
        assert_eq!(all, ["1", "3"]);
        assert_eq!(fields.get(Known::Host).unwrap(), "a");
        assert!(fields.only("x-one").is_none() && fields.only("x-two").is_some());
        assert!(fields.get(Known::Via).is_none() && fields.get("x-three").is_none());
        assert!(fields.has(Known::Host) && !fields.has(Known::Te));
    }

    #[test]
    fn inserting_replaces_in_place_and_appending_does_not() {
        let mut fields = came();
        fields.append(HeaderName::from_static("x-two"), value("4"));
        fields.insert(HeaderName::from_static("x-one"), value("5"));
        fields.insert(HeaderName::from_static("via"), value("6"));
        let out = "Host: a\r\nx-one: 5\r\nx-two: 2\r\nAccept: */*\r\nx-two: 4\r\nvia: 6\r\n";
        assert_eq!(written(&fields), out);
        assert_eq!(written(&fields.clone()), out);
        assert!(fields.has(Known::Via));
    }

    #[test]
    fn what_is_removed_is_gone_and_not_found_again() {
        let mut fields = came();
        assert!(fields.remove("X-One") && !fields.remove("x-one"));
        assert!(fields.remove(Known::Host) && !fields.has(Known::Host));
        assert_eq!(written(&fields), "x-two: 2\r\nAccept: */*\r\n");
    }

    #[test]
    fn a_map_becomes_fields_and_fields_a_map() {
        let mut fields = came();
        fields.append(HeaderName::from_static("via"), value("7"));
        let map = HeaderMap::from(fields);
        let all: Vec<_> = map.get_all("x-one").iter().collect();
        assert_eq!(
            (all, &map["via"]),
            (vec![&value("1"), &value("3")], &value("7"))
        );
        let again = Fields::from(map);
        assert_eq!(again.get_all("x-one").collect::<Vec<_>>(), ["1", "3"]);
        assert!(again.has(Known::Via) && again.len() == 6);
    }
}
