//! The whole of what a client sends: one message after the other, until it is none of our business.
//!
//! Owns: [`Strict`], which is in one message at a time.
//! Never: keeps what it has seen, or allocates.
//! Called by: `proxy::serve`, with every read from the client.

use super::chunked::Chunked;
use super::cursor::Cursor;
use super::head::{Framing, Head};
use super::violation::Violation;

/// Bounds on a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StrictLimits {
    /// Bytes from the first of the request line, empty lines before it included, to the last.
    pub max_head_bytes: usize,
    /// Header lines, and trailer lines.
    pub max_headers: usize,
}

/// What is to become of the bytes that were inspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All of them may pass.
    Clean,
    /// Only those before `at` may pass; the head, chunk or trailer that the violation is in cannot
    /// be complete with them.
    Refuse {
        /// Index of the first byte that may not pass.
        at: usize,
        /// What is wrong.
        reason: Violation,
    },
}

#[derive(Debug)]
enum State {
    Head,
    /// So many bytes of body are left.
    Length(u64),
    Chunked(Chunked),
    Opaque,
    Refused(Violation),
}

/// Watches one HTTP/1 connection, from the client's first byte on.
///
/// Pure and independent of how the bytes are cut into reads. An HTTP/2 preface is a violation
/// here: it is told apart before. Costs a table look-up for each byte of a head, and nothing for
/// the bytes of a body.
#[derive(Debug)]
pub struct Strict {
    limits: StrictLimits,
    state: State,
    head: Head,
    head_bytes: usize,
    requests: u64,
}

impl Strict {
    /// A machine for a connection on which nothing was sent yet.
    pub const fn new(limits: StrictLimits) -> Strict {
        Strict {
            limits,
            state: State::Head,
            head: Head::new(),
            head_bytes: 0,
            requests: 0,
        }
    }

    /// From now on everything passes: the connection was switched to another protocol (101), or
    /// is a tunnel (2xx to CONNECT).
    pub fn opaque(&mut self) {
        self.state = State::Opaque;
    }

    /// True in the middle of a head: some of it has come, and some is missing.
    pub fn in_head(&self) -> bool {
        matches!(self.state, State::Head) && self.head_bytes > 0
    }

    /// Requests that were read to their end, body included.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Looks at the next bytes. Once it has refused it refuses everything, for the same reason.
    pub fn inspect(&mut self, bytes: &[u8]) -> Verdict {
        let mut cursor = Cursor::new(bytes);
        match self.read(&mut cursor) {
            Ok(()) => Verdict::Clean,
            Err(reason) => {
                self.state = State::Refused(reason);
                Verdict::Refuse {
                    at: cursor.at(),
                    reason,
                }
            }
        }
    }

    fn read(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Violation> {
        let StrictLimits {
            max_head_bytes,
            max_headers,
        } = self.limits;
        while cursor.peek().is_some() {
            match &mut self.state {
                State::Opaque => return Ok(()),
                State::Refused(reason) => return Err(*reason),
                State::Head => {
                    let head = &mut self.head;
                    let read = |cursor: &mut Cursor<'_>| head.read(cursor, max_headers);
                    let large = Violation::HeadTooLarge;
                    if cursor.within(&mut self.head_bytes, max_head_bytes, large, read)? {
                        let framing = self.head.framing();
                        self.head.restart();
                        self.head_bytes = 0;
                        match framing {
                            Framing::Length(0) => self.next(),
                            Framing::Length(length) => self.state = State::Length(length),
                            Framing::Chunked => self.state = State::Chunked(Chunked::new()),
                        }
                    }
                }
                State::Length(left) => {
                    let here = cursor.rest().len();
                    let take = usize::try_from(*left).map_or(here, |left| left.min(here));
                    cursor.skip(take);
                    *left = left.saturating_sub(take as u64);
                    if *left == 0 {
                        self.next();
                    }
                }
                State::Chunked(chunked) => {
                    let fields = self.head.fields();
                    if chunked.read(cursor, fields, max_headers)? {
                        fields.restart();
                        self.next();
                    }
                }
            }
        }
        Ok(())
    }

    /// One request is over.
    fn next(&mut self) {
        self.requests += 1;
        self.state = State::Head;
    }
}
