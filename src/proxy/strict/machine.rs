//! The whole of what a client sends: one message after the other, until it is none of our business.
//!
//! Owns: [`Strict`], which is in one message at a time.
//! Never: keeps what it has seen, or allocates.
//! Called by: `proxy::http1`, with every read from the client.

use super::chunked::Chunked;
use super::cursor::Cursor;
use super::head::{Framing, Head};
use super::lines::Lines;
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

/// What some bytes are, seen from the message that they belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Of a head that is not over.
    Head,
    /// Of a head, to its end; what follows it.
    HeadEnd(Framing),
    /// Of the content.
    Data,
    /// Of what frames chunks.
    Between,
    /// Of the trailers, with the empty line behind them.
    Trailers,
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
        while cursor.peek().is_some() {
            self.step(cursor, &mut ())?;
        }
        Ok(())
    }

    /// Looks at bytes as far as they are of one kind and one message: what they are, and how many.
    ///
    /// # Errors
    /// What is wrong. Once it has refused it refuses everything, for the same reason.
    pub fn next(&mut self, bytes: &[u8]) -> Result<(Piece, usize), Violation> {
        self.next_with(bytes, &mut ())
    }

    /// The same; tells where the lines of a head are. `lines` of a head that came in pieces are told from
    /// where the latest begins.
    ///
    /// # Errors
    /// As those of [`Strict::next`].
    pub fn next_with(
        &mut self,
        bytes: &[u8],
        lines: &mut impl Lines,
    ) -> Result<(Piece, usize), Violation> {
        let mut cursor = Cursor::new(bytes);
        match self.step(&mut cursor, lines) {
            Ok(piece) => Ok((piece, cursor.at())),
            Err(reason) => {
                self.state = State::Refused(reason);
                Err(reason)
            }
        }
    }

    /// True in the middle of a body: its end, or that of its trailers, has not come.
    pub fn in_body(&self) -> bool {
        matches!(self.state, State::Length(_) | State::Chunked(_))
    }

    fn step(
        &mut self,
        cursor: &mut Cursor<'_>,
        lines: &mut impl Lines,
    ) -> Result<Piece, Violation> {
        let StrictLimits {
            max_head_bytes,
            max_headers,
        } = self.limits;
        match &mut self.state {
            State::Opaque => {
                cursor.skip(usize::MAX);
                Ok(Piece::Data)
            }
            State::Refused(reason) => Err(*reason),
            State::Head => {
                let head = &mut self.head;
                let read = |cursor: &mut Cursor<'_>| head.read(cursor, max_headers, lines);
                let large = Violation::HeadTooLarge;
                if !cursor.within(&mut self.head_bytes, max_head_bytes, large, read)? {
                    return Ok(Piece::Head);
                }
                let framing = self.head.framing();
                self.head.restart();
                self.head_bytes = 0;
                match framing {
                    Framing::Length(0) => self.over(),
                    Framing::Length(length) => self.state = State::Length(length),
                    Framing::Chunked => self.state = State::Chunked(Chunked::new()),
                }
                Ok(Piece::HeadEnd(framing))
            }
            State::Length(left) => {
                let here = cursor.rest().len();
                let take = usize::try_from(*left).map_or(here, |left| left.min(here));
                cursor.skip(take);
                *left = left.saturating_sub(take as u64);
                if *left == 0 {
                    self.over();
                }
                Ok(Piece::Data)
            }
            State::Chunked(chunked) => {
                let fields = self.head.fields();
                let (piece, over) = chunked.read(cursor, fields, max_headers)?;
                if over {
                    fields.restart();
                    self.over();
                }
                Ok(piece)
            }
        }
    }

    /// One request is over.
    fn over(&mut self) {
        self.requests += 1;
        self.state = State::Head;
    }
}
