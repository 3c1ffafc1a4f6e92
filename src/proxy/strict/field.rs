//! Header and trailer lines, up to the empty line that ends them.
//!
//! Owns: the states within a field line, and the bytes of the few fields that are looked into.
//! Never: knows what a field means (that is the [`Sink`]).
//! Called by: `head` and `chunked`.

use super::cursor::{Cursor, Small, is_token, is_value, misplaced, plain_length};
use super::violation::Violation;

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

    /// A field whose value is wanted; without the spaces around it, `None` where it is too long.
    fn field(&mut self, name: &[u8], value: Option<&[u8]>) -> Result<(), Violation>;
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
    ) -> Result<bool, Violation> {
        while let Some(byte) = cursor.peek() {
            match self.state {
                State::LineStart => {
                    if self.count < max
                        && let Some(length) = plain_line(cursor.rest(), sink)
                    {
                        self.count += 1;
                        cursor.skip(length);
                        continue;
                    }
                    self.start(byte, max, sink)?;
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
            Some(name) if self.wanted => sink.field(name, self.value.get().map(trim_end)),
            _ => Ok(()),
        }
    }
}

/// The length of a line that begins here, where all of it is here, nothing is wrong with it and nobody
/// wants it. `None`: the machine has to look at its bytes one by one.
///
/// Why beside the machine: nearly every line of nearly every head is such a one.
fn plain_line(bytes: &[u8], sink: &impl Sink) -> Option<usize> {
    let name = bytes.iter().position(|byte| !is_token(*byte))?;
    let (name, rest) = bytes.split_at_checked(name)?;
    let (b':', value) = rest.split_first()? else {
        return None;
    };
    let first = name.first()?.to_ascii_lowercase();
    if sink.watches(first) && is_wanted(name, sink) {
        return None;
    }
    let length = plain_length(value);
    let end = value.get(length..length + 2)?;
    (end == b"\r\n").then_some(name.len() + 1 + length + 2)
}

fn is_wanted(name: &[u8], sink: &impl Sink) -> bool {
    let mut lower = [0; NAME];
    // A longer one is none that is looked for.
    let Some(lower) = lower.get_mut(..name.len()) else {
        return false;
    };
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    sink.wants(lower)
}

/// Only spaces: a tab beside a value that frames or routes is a trick and not a habit.
fn trim_end(value: &[u8]) -> &[u8] {
    let mut value = value;
    while let Some((b' ', shorter)) = value.split_last() {
        value = shorter;
    }
    value
}
