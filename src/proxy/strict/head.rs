//! The head of one request: its request line, and what its fields say of the body.
//!
//! Owns: the states of the request line, and the rules for Host, lengths and encodings.
//! Never: looks into the body.
//! Called by: `machine`.
//!
//! Why stricter than RFC 9112 allows us to be lax: each leniency that it permits a receiver is one
//! that another receiver may not share.

use super::cursor::{Cursor, is_target, misplaced};
use super::field::{Fields, Sink};
use super::lines::{Lines, RequestLine};
use super::violation::Violation;
use crate::message::{Known, is_token};
use crate::model::{Destination, Host};

/// Empty lines that are forgiven before a request line; RFC 9112 section 2.2 asks for one at least.
const MAX_EMPTY_LINES: u8 = 4;

/// What follows the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    EmptyLf,
    Method,
    TargetStart,
    /// In a path and query.
    Path,
    /// Behind `*`.
    Asterisk,
    /// In `http://` or `https://`.
    Scheme,
    /// In the authority of an absolute form.
    Authority,
    /// In the authority of a CONNECT.
    ConnectAuthority,
    /// At this byte of `HTTP/1.`, then of its last digit.
    Version(u8),
    VersionEnd,
    LineLf,
    Fields,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Connect,
    Options,
    Other,
}

/// The machine for one head.
#[derive(Debug)]
pub(super) struct Head {
    state: State,
    empty_lines: u8,
    fields: Fields,
    facts: Facts,
}

/// What the head has said so far.
#[derive(Debug)]
struct Facts {
    method: Method,
    /// HTTP/1.1, not 1.0.
    modern: bool,
    host: bool,
    length: Option<u64>,
    chunked: bool,
}

impl Facts {
    const fn new() -> Self {
        Facts {
            method: Method::Other,
            modern: true,
            host: false,
            length: None,
            chunked: false,
        }
    }
}

impl Head {
    pub(super) const fn new() -> Self {
        Head {
            state: State::Start,
            empty_lines: 0,
            fields: Fields::new(),
            facts: Facts::new(),
        }
    }

    /// Ready for the next request.
    pub(super) fn restart(&mut self) {
        self.state = State::Start;
        self.empty_lines = 0;
        self.fields.restart();
        self.facts = Facts::new();
    }

    /// The machine for field lines, lent to the trailers while no head is being read.
    pub(super) fn fields(&mut self) -> &mut Fields {
        &mut self.fields
    }

    /// What the head that was read says of the body.
    pub(super) fn framing(&self) -> Framing {
        if self.facts.chunked {
            Framing::Chunked
        } else {
            Framing::Length(self.facts.length.unwrap_or(0))
        }
    }

    /// Reads; true once the head is over and nothing was wrong with it.
    pub(super) fn read(
        &mut self,
        cursor: &mut Cursor<'_>,
        max_headers: usize,
        lines: &mut impl Lines,
    ) -> Result<bool, Violation> {
        if self.state == State::Start
            && let Some((line, length)) = plain_request(cursor.rest(), cursor.at())
        {
            cursor.skip(length);
            self.facts.modern = line.modern;
            self.state = State::Fields;
            lines.request(line);
        }
        while self.state != State::Fields {
            let Some(byte) = cursor.peek() else {
                return Ok(false);
            };
            if self.state == State::Path && is_target(byte) {
                cursor.take_while(is_target);
                continue;
            }
            self.line(byte)?;
            cursor.bump();
        }
        let facts = &mut self.facts;
        if !self.fields.read(cursor, max_headers, facts, lines)? {
            return Ok(false);
        }
        self.facts.judge()?;
        cursor.bump();
        Ok(true)
    }

    /// One byte of the request line.
    fn line(&mut self, byte: u8) -> Result<(), Violation> {
        self.state = match self.state {
            State::Start => return self.start(byte),
            State::EmptyLf => match byte {
                b'\n' => State::Start,
                _ => return Err(Violation::BareCr),
            },
            State::Method => return self.method(byte),
            State::TargetStart => return self.target_start(byte),
            State::Path | State::Asterisk => after_target(byte)?,
            State::Scheme => return self.scheme(byte),
            State::Authority => return self.authority(byte),
            State::ConnectAuthority => return self.connect_authority(byte),
            State::Version(index) => return self.version(index, byte),
            State::VersionEnd => match byte {
                b'\r' => State::LineLf,
                b' ' | b'\t' => return Err(Violation::RequestLine),
                _ => return Err(misplaced(byte, Violation::Version)),
            },
            State::LineLf => match byte {
                b'\n' => State::Fields,
                _ => return Err(Violation::BareCr),
            },
            State::Fields => State::Fields,
        };
        Ok(())
    }

    fn start(&mut self, byte: u8) -> Result<(), Violation> {
        if byte == b'\r' {
            self.empty_lines += 1;
            if self.empty_lines > MAX_EMPTY_LINES {
                return Err(Violation::EmptyLines);
            }
            self.state = State::EmptyLf;
            return Ok(());
        }
        self.fields.buffers().0.clear();
        self.state = State::Method;
        match byte {
            b' ' | b'\t' => Err(Violation::RequestLine),
            _ => self.method(byte),
        }
    }

    fn method(&mut self, byte: u8) -> Result<(), Violation> {
        let (name, _) = self.fields.buffers();
        match byte {
            b' ' => {
                self.facts.method = match name.get() {
                    Some(b"CONNECT") => Method::Connect,
                    Some(b"OPTIONS") => Method::Options,
                    _ => Method::Other,
                };
                self.state = State::TargetStart;
            }
            _ if is_token(byte) => name.push(byte),
            b'\t' | b'\r' => return Err(Violation::RequestLine),
            _ => return Err(misplaced(byte, Violation::Method)),
        }
        Ok(())
    }

    fn target_start(&mut self, byte: u8) -> Result<(), Violation> {
        let (name, value) = self.fields.buffers();
        name.clear();
        value.clear();
        self.state = match (byte, self.facts.method) {
            (b' ' | b'\t' | b'\r', _) => return Err(Violation::RequestLine),
            (_, Method::Connect) => {
                self.state = State::ConnectAuthority;
                return self.connect_authority(byte);
            }
            (b'/', _) => State::Path,
            (b'*', Method::Options) => State::Asterisk,
            _ => {
                self.state = State::Scheme;
                return self.scheme(byte);
            }
        };
        Ok(())
    }

    fn scheme(&mut self, byte: u8) -> Result<(), Violation> {
        let (name, _) = self.fields.buffers();
        name.push(byte.to_ascii_lowercase());
        let read = name.get().unwrap_or_default();
        if read == b"http://" || read == b"https://" {
            self.state = State::Authority;
            Ok(())
        } else if b"http://".starts_with(read) || b"https://".starts_with(read) {
            Ok(())
        } else {
            Err(misplaced(byte, Violation::Target))
        }
    }

    fn authority(&mut self, byte: u8) -> Result<(), Violation> {
        let (_, value) = self.fields.buffers();
        let next = match byte {
            b'/' | b'?' => State::Path,
            b' ' => State::Version(0),
            _ if is_target(byte) => {
                value.push(byte);
                return Ok(());
            }
            _ => return after_target(byte).map(|_| ()),
        };
        if port_of(value.get()).is_none() {
            return Err(Violation::Target);
        }
        self.state = next;
        Ok(())
    }

    fn connect_authority(&mut self, byte: u8) -> Result<(), Violation> {
        let (_, value) = self.fields.buffers();
        match byte {
            // RFC 9110 section 9.3.6: there is no default port.
            b' ' if port_of(value.get()).is_some_and(|port| port > 0) => {
                self.state = State::Version(0);
                Ok(())
            }
            b' ' => Err(Violation::Target),
            _ if is_target(byte) => {
                value.push(byte);
                Ok(())
            }
            _ => after_target(byte).map(|_| ()),
        }
    }

    fn version(&mut self, index: u8, byte: u8) -> Result<(), Violation> {
        let expected = b"HTTP/1.".get(usize::from(index)).copied();
        self.state = match (expected, byte) {
            (Some(expected), _) if byte == expected => State::Version(index + 1),
            (None, b'0' | b'1') => {
                self.facts.modern = byte == b'1';
                State::VersionEnd
            }
            (_, b' ' | b'\t' | b'\r') => return Err(Violation::RequestLine),
            _ => return Err(misplaced(byte, Violation::Version)),
        };
        Ok(())
    }
}

/// A request line that is whole, with a target in origin form, as nearly every one is; where its parts
/// are from `at` on, and its length. `None`: its bytes have to be looked at one by one.
fn plain_request(bytes: &[u8], at: usize) -> Option<(RequestLine, usize)> {
    let method = bytes.iter().position(|byte| !is_token(*byte))?;
    let (word, rest) = bytes.split_at_checked(method)?;
    // It has a target of its own kind.
    if word.is_empty() || word == b"CONNECT" || !rest.starts_with(b" /") {
        return None;
    }
    let rest = rest.get(1..)?;
    let target = rest.iter().position(|byte| !is_target(*byte))?;
    let modern = match rest.get(target..)? {
        [
            b' ',
            b'H',
            b'T',
            b'T',
            b'P',
            b'/',
            b'1',
            b'.',
            minor @ (b'0' | b'1'),
            b'\r',
            b'\n',
            ..,
        ] => *minor == b'1',
        _ => return None,
    };
    let start = at + method + 1;
    let line = RequestLine {
        method: at..at + method,
        target: start..start + target,
        modern,
    };
    Some((line, method + 1 + target + b" HTTP/1.1\r\n".len()))
}

/// Behind a target: a space, or an error.
fn after_target(byte: u8) -> Result<State, Violation> {
    match byte {
        b' ' => Ok(State::Version(0)),
        // A line that ends here is HTTP/0.9; a tab is a separator to some.
        b'\r' | b'\t' => Err(Violation::RequestLine),
        _ => Err(misplaced(byte, Violation::Target)),
    }
}

/// The port of an authority, 0 where it names none; `None` where it is no authority.
fn port_of(authority: Option<&[u8]>) -> Option<u16> {
    let authority = authority?;
    if Host::is_plain(authority) {
        return Some(0);
    }
    let text = std::str::from_utf8(authority).ok()?;
    Destination::parse(text, 0).ok().map(|read| read.port)
}

impl Facts {
    /// At the last LF: what only the whole head can tell.
    fn judge(&self) -> Result<(), Violation> {
        if self.modern && !self.host {
            return Err(Violation::HostMissing);
        }
        let body = self.chunked || self.length.unwrap_or(0) > 0;
        if self.method == Method::Connect && body {
            return Err(Violation::BodyOfConnect);
        }
        Ok(())
    }

    fn content_length(&mut self, value: Option<&[u8]>) -> Result<(), Violation> {
        if self.chunked {
            return Err(Violation::LengthAndEncoding);
        }
        if self.length.is_some() {
            return Err(Violation::LengthRepeated);
        }
        self.length = Some(decimal(value).ok_or(Violation::LengthInvalid)?);
        Ok(())
    }

    fn transfer_encoding(&mut self, value: Option<&[u8]>) -> Result<(), Violation> {
        if !self.modern {
            return Err(Violation::EncodingInHttp10);
        }
        if self.length.is_some() {
            return Err(Violation::LengthAndEncoding);
        }
        let exact = value.is_some_and(|value| value.eq_ignore_ascii_case(b"chunked"));
        if self.chunked || !exact {
            return Err(Violation::Encoding);
        }
        self.chunked = true;
        Ok(())
    }
}

/// Digits and nothing else. The bound leaves room for sums without overflow.
fn decimal(value: Option<&[u8]>) -> Option<u64> {
    let value = value.filter(|value| !value.is_empty())?;
    let number = value.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })?;
    (number <= u64::MAX / 2).then_some(number)
}

impl Sink for Facts {
    fn watches(&self, first: u8) -> bool {
        matches!(first, b'c' | b't' | b'h')
    }

    fn wants(&self, name: &[u8]) -> bool {
        matches!(name, b"content-length" | b"transfer-encoding" | b"host")
    }

    fn wants_known(&self, known: Known, _name: &[u8]) -> bool {
        matches!(
            known,
            Known::ContentLength | Known::TransferEncoding | Known::Host
        )
    }

    fn field(&mut self, name: Known, value: Option<&[u8]>) -> Result<(), Violation> {
        match name {
            Known::ContentLength => self.content_length(value),
            Known::TransferEncoding => self.transfer_encoding(value),
            _ if self.host => Err(Violation::HostRepeated),
            _ => {
                self.host = true;
                port_of(value).map(|_| ()).ok_or(Violation::HostInvalid)
            }
        }
    }
}
