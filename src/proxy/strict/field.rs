//! Header and trailer lines, up to the empty line that ends them.
//!
//! Owns: the states within a field line, and the bytes of the few fields that are looked into.
//! Never: knows what a field means (that is the [`Sink`]).
//! Called by: `head` and `chunked`.

use super::cursor::{Cursor, Small, misplaced};
use super::lines::Lines;
use super::violation::Violation;
use crate::message::{Known, Plain, is_token, is_value};

/// Longer than every name that is looked at.
const NAME: usize = 32;
/// As long as a host (253) and a port with its colon (6) can be, and a little white space.
const VALUE: usize = 272;

/// Who is told of the fields that matter to him.
pub(super) trait Sink {
    /// True where a name that begins with this byte, in lower case, may be one that matters.
    fn watches(&self, first: u8) -> bool;

    /// True where the value of this name, in lower case, is wanted.
    fn wants(&self, name: &[u8]) -> bool;

    /// The same of a name that was told already.
    fn wants_known(&self, _known: Known, name: &[u8]) -> bool {
        let first = name.first().map(u8::to_ascii_lowercase);
        first.is_some_and(|first| self.watches(first)) && is_wanted(name, self)
    }

    /// A field whose value is wanted; without the spaces around it, `None` where it is too long.
    fn field(&mut self, name: Known, value: Option<&[u8]>) -> Result<(), Violation>;
}

#[derive(Clone, Copy, Debug)]
enum State {
    LineStart,
    /// In a name that nobody watches.
    Name,
    /// In one that somebody may want.
    WatchedName,
    Value,
    /// Before the first byte of a wanted value, spaces aside.
    WantedStart,
    Wanted,
    LineLf,
    /// After the CR of the empty line.
    EndLf,
}

/// The machine for one block of field lines.
#[derive(Debug)]
pub(super) struct Fields {
    state: State,
    wanted: bool,
    count: usize,
    name: Small<NAME>,
    value: Small<VALUE>,
}

impl Fields {
    pub(super) const fn new() -> Self {
        Fields {
            state: State::LineStart,
            wanted: false,
            count: 0,
            name: Small::new(),
            value: Small::new(),
        }
    }

    /// Ready for the next block.
    pub(super) fn restart(&mut self) {
        self.state = State::LineStart;
        self.count = 0;
    }

    /// The buffers, lent to the request line, which is over before they are needed here.
    pub(super) fn buffers(&mut self) -> (&mut Small<NAME>, &mut Small<VALUE>) {
        (&mut self.name, &mut self.value)
    }

    /// Reads lines; true at the LF that ends the block, which is left for the caller to take once
    /// he has found nothing wrong with the whole.
    pub(super) fn read(
        &mut self,
        cursor: &mut Cursor<'_>,
        max: usize,
        sink: &mut impl Sink,
        lines: &mut impl Lines,
    ) -> Result<bool, Violation> {
        while let Some(byte) = cursor.peek() {
            match self.state {
                State::LineStart => {
                    if self.count < max && self.plain(cursor, sink, lines)? {
                        continue;
                    }
                    self.start(byte, max, sink)?;
                    if byte != b'\r' {
                        lines.missed();
                    }
                }
                State::Name => {
                    cursor.take_while(is_token);
                    let Some(byte) = cursor.peek() else { break };
                    self.after_name(byte)?;
                }
                State::WatchedName => {
                    self.name.extend(cursor.take_while(is_token));
                    let Some(byte) = cursor.peek() else { break };
                    self.name.make_lower_case();
                    self.wanted = self.name.get().is_some_and(|name| sink.wants(name));
                    self.after_name(byte)?;
                }
                State::Value if byte == b'\t' => {}
                State::Value => {
                    cursor.skip_plain();
                    match cursor.peek() {
                        None => break,
                        Some(b'\t') => {}
                        Some(byte) => self.after_value(byte)?,
                    }
                }
                State::WantedStart if byte == b' ' => {}
                State::WantedStart | State::Wanted => {
                    self.state = State::Wanted;
                    self.value.extend(cursor.take_while(is_value));
                    let Some(byte) = cursor.peek() else { break };
                    self.after_value(byte)?;
                }
                State::LineLf if byte == b'\n' => self.finish(sink)?,
                State::EndLf if byte == b'\n' => return Ok(true),
                State::LineLf | State::EndLf => return Err(Violation::BareCr),
            }
            cursor.bump();
        }
        Ok(false)
    }

    /// Reads a line that is whole and plain, as nearly every line is, at once. False: its bytes have
    /// to be looked at one by one.
    fn plain(
        &mut self,
        cursor: &mut Cursor<'_>,
        sink: &mut impl Sink,
        lines: &mut impl Lines,
    ) -> Result<bool, Violation> {
        let bytes = cursor.rest();
        let Some(line) = Plain::at_front(bytes) else {
            return Ok(false);
        };
        self.count += 1;
        lines.found(cursor.at(), &line, bytes);
        cursor.skip(line.length - 1);
        let name = bytes.get(..line.name).unwrap_or_default();
        if sink.wants_known(line.known, name) {
            let value = bytes.get(line.written()).unwrap_or_default();
            let value = trim_start(value);
            let value = (value.len() <= VALUE).then(|| trim_end(value));
            sink.field(line.known, value)?;
        }
        cursor.bump();
        Ok(true)
    }

    fn start(&mut self, byte: u8, max: usize, sink: &impl Sink) -> Result<(), Violation> {
        match byte {
            b'\r' => {
                self.state = State::EndLf;
                return Ok(());
            }
            b' ' | b'\t' => return Err(Violation::Folding),
            _ if !is_token(byte) => return Err(misplaced(byte, Violation::FieldName)),
            _ => {}
        }
        self.count += 1;
        if self.count > max {
            return Err(Violation::TooManyHeaders);
        }
        let first = byte.to_ascii_lowercase();
        self.wanted = false;
        if sink.watches(first) {
            self.name.clear();
            self.name.push(first);
            self.state = State::WatchedName;
        } else {
            self.state = State::Name;
        }
        Ok(())
    }

    fn after_name(&mut self, byte: u8) -> Result<(), Violation> {
        match byte {
            b':' if self.wanted => {
                self.value.clear();
                self.state = State::WantedStart;
            }
            b':' => self.state = State::Value,
            b' ' | b'\t' => return Err(Violation::SpaceBeforeColon),
            _ => return Err(misplaced(byte, Violation::FieldName)),
        }
        Ok(())
    }

    fn after_value(&mut self, byte: u8) -> Result<(), Violation> {
        if byte != b'\r' {
            return Err(misplaced(byte, Violation::ControlByte));
        }
        self.state = State::LineLf;
        Ok(())
    }

    /// At the LF of a line: a wanted field is judged before its line can count.
    fn finish(&mut self, sink: &mut impl Sink) -> Result<(), Violation> {
        self.state = State::LineStart;
        match self.name.get() {
            Some(name) if self.wanted => {
                sink.field(Known::of(name), self.value.get().map(trim_end))
            }
            _ => Ok(()),
        }
    }
}

fn is_wanted(name: &[u8], sink: &(impl Sink + ?Sized)) -> bool {
    let mut lower = [0; NAME];
    // A longer one is none that is looked for.
    let Some(lower) = lower.get_mut(..name.len()) else {
        return false;
    };
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    sink.wants(lower)
}

/// As [`trim_end`].
fn trim_start(value: &[u8]) -> &[u8] {
    let mut value = value;
    while let Some((b' ', shorter)) = value.split_first() {
        value = shorter;
    }
    value
}

/// Only spaces: a tab beside a value that frames or routes is a trick and not a habit.
fn trim_end(value: &[u8]) -> &[u8] {
    let mut value = value;
    while let Some((b' ', shorter)) = value.split_last() {
        value = shorter;
    }
    value
}
