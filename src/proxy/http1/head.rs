//! A request's head, read.
//!
//! Owns: the way from bytes to a [`RequestHead`], and what the connection itself must know.
//! Never: judges them: they have passed `strict`, and what is refused here was not to be expected.
//! Called by: `server`; `wire`, for trailers.

use std::ops::Range;

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method, Uri, Version};
use httparse::Header;
use memchr::{memchr, memrchr};

use crate::message::{Fields, Known, Plain, RequestHead, Value};
use crate::proxy::control::Fault;
use crate::proxy::strict::{Lines, RequestLine, Violation};

/// A target is not longer than `http::Uri` can hold, whatever the bound on heads.
const MAX_TARGET: usize = u16::MAX as usize - 1;

/// What the connection must know of a request while it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Facts {
    /// HTTP/1.1, not 1.0.
    pub(super) modern: bool,
    /// The client wants to go on after the answer.
    pub(super) keep_alive: bool,
    /// HEAD: the answer has no body whatever its head says.
    pub(super) head: bool,
    /// CONNECT.
    pub(super) connect: bool,
    /// The client takes trailers.
    pub(super) trailers: bool,
    /// It waits for `100 Continue` before it sends its body.
    pub(super) expects: bool,
    /// It would change the protocol.
    pub(super) upgrades: bool,
}

/// Where the lines of a head are, as `strict` has found them.
#[derive(Default)]
pub(super) struct Found {
    request: Option<RequestLine>,
    fields: Fields,
    /// Of some line it is not known.
    missed: bool,
}

impl Lines for Found {
    fn request(&mut self, line: RequestLine) {
        self.request = Some(line);
    }

    fn found(&mut self, at: usize, line: &Plain, bytes: &[u8]) {
        self.fields.found(at, line, bytes);
    }

    fn missed(&mut self) {
        self.missed = true;
    }
}

impl Found {
    /// Nothing yet.
    pub(super) fn new() -> Found {
        Found {
            fields: Fields::of(Bytes::new()),
            ..Found::default()
        }
    }

    /// A whole head that came in one piece.
    ///
    /// # Errors
    /// What the client is told.
    pub(super) fn read(self, block: Bytes) -> Result<(Box<RequestHead>, Facts), Fault> {
        let Some(line) = self.request.filter(|_| !self.missed) else {
            return read(block);
        };
        let mut fields = self.fields;
        fields.lie_in(block.clone());
        made(&block, &line, || Some(fields))
    }
}

/// Reads a whole head.
///
/// # Errors
/// What the client is told.
pub(super) fn read(block: Bytes) -> Result<(Box<RequestHead>, Facts), Fault> {
    // Empty lines before the request line are forgiven (RFC 9112 section 2.2).
    let empty = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let start = block.iter().take_while(|byte| empty(byte)).count();
    let wrong = Fault::Violation(Violation::RequestLine);
    let (line, end) = request_line(&block, start).ok_or(wrong)?;
    let lines = block.clone();
    made(&block, &line, || fields(lines, end))
}

/// A head of its parts.
fn made(
    block: &Bytes,
    line: &RequestLine,
    fields: impl FnOnce() -> Option<Fields>,
) -> Result<(Box<RequestHead>, Facts), Fault> {
    let RequestLine {
        method,
        target,
        modern,
    } = line;
    if target.len() > MAX_TARGET {
        return Err(Fault::TargetTooLong);
    }
    let part = |range: &Range<usize>| block.get(range.clone()).unwrap_or_default();
    let method =
        Method::from_bytes(part(method)).map_err(|_| Fault::Violation(Violation::Method))?;
    let uri = Uri::from_maybe_shared(block.slice_ref(part(target)))
        .map_err(|_| Fault::Violation(Violation::Target))?;
    let headers = fields().ok_or(Fault::Violation(Violation::FieldName))?;
    let facts = Facts::of(&method, *modern, &headers);
    let version = match modern {
        true => Version::HTTP_11,
        false => Version::HTTP_10,
    };
    let head = RequestHead {
        method,
        uri,
        version,
        headers,
    };
    Ok((Box::new(head), facts))
}

/// The line that begins here, and where the next one does.
fn request_line(block: &[u8], start: usize) -> Option<(RequestLine, usize)> {
    let end = start + memchr(b'\n', block.get(start..)?)?;
    let line = block.get(start..end)?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let method = memchr(b' ', line)?;
    let version = memrchr(b' ', line).filter(|version| *version > method)?;
    let modern = match line.get(version + 1..)? {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        _ => return None,
    };
    let line = RequestLine {
        method: start..start + method,
        target: start + method + 1..start + version,
        modern,
    };
    Some((line, end + 1))
}

/// The lines of a block, up to the empty one.
fn fields(block: Bytes, mut at: usize) -> Option<Fields> {
    let mut fields = Fields::of(block.clone());
    loop {
        let rest = block.get(at..)?;
        let next = memchr(b'\n', rest)?;
        let line = rest.get(..next)?;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return Some(fields);
        }
        let colon = memchr(b':', line)?;
        let value = line.get(colon + 1..)?;
        let space = |byte: &&u8| matches!(byte, b' ' | b'\t');
        let before = value.iter().take_while(space).count();
        let behind = value.iter().skip(before).rev().take_while(space).count();
        let start = at + colon + 1;
        fields.came(at..at + colon, start + before..start + value.len() - behind);
        at += next + 1;
    }
}

impl Facts {
    fn of(method: &Method, modern: bool, headers: &Fields) -> Facts {
        let says = |name: Known, member: &str| {
            let mut values = headers.get_all(name);
            values.any(|value| lists(value, member))
        };
        // Once a line asks to close, no other undoes that.
        let keep_alive = modern || says(Known::Connection, "keep-alive");
        let expected = headers.get_all(Known::Expect).last();
        let expects = expected.is_some_and(|value| value.is("100-continue"));
        Facts {
            modern,
            keep_alive: keep_alive && !says(Known::Connection, "close"),
            head: *method == Method::HEAD,
            connect: *method == Method::CONNECT,
            trailers: says(Known::Te, "trailers"),
            expects: modern && expects,
            upgrades: modern && headers.has(Known::Upgrade),
        }
    }
}

/// Trailers; none where there are none.
///
/// # Errors
/// What the client is told.
pub(super) fn read_trailers(bytes: &Bytes) -> Result<Option<HeaderMap>, Fault> {
    let wrong = Fault::Violation(Violation::FieldName);
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
    let mut room = vec![httparse::EMPTY_HEADER; lines];
    let Ok(httparse::Status::Complete((_, lines))) = httparse::parse_headers(bytes, &mut room)
    else {
        return Err(wrong);
    };
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = field(bytes, line).ok_or(wrong.clone())?;
        headers.append(name, value);
    }
    Ok((!headers.is_empty()).then_some(headers))
}

fn field(bytes: &Bytes, line: &Header<'_>) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(line.name.as_bytes()).ok()?;
    let value = HeaderValue::from_maybe_shared(bytes.slice_ref(line.value)).ok()?;
    Some((name, value))
}

/// True where a comma-separated value has this member, whatever its case.
pub(super) fn lists(value: Value<'_>, member: &str) -> bool {
    let text = value.to_str().unwrap_or_default();
    text.split(',')
        .any(|listed| listed.trim().eq_ignore_ascii_case(member))
}
