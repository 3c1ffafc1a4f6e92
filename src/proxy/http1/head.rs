//! A request's head, read.
//!
//! Owns: the way from bytes to `http::request::Parts`, and what the connection itself must know.
//! Never: judges them: they have passed `strict`, and what is refused here was not to be expected.
//! Called by: `server`; `wire`, for trailers.

use std::cell::Cell;
use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, HeaderName, TE, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use httparse::Header;

use crate::proxy::control::Fault;
use crate::proxy::strict::Violation;

/// Header lines for which there is room without asking for memory; as many as the limit is by
/// default, and a few more.
const USUAL: usize = 128;

/// A target is not longer than `http::Uri` can hold, whatever the bound on heads.
const MAX_TARGET: usize = u16::MAX as usize - 1;

thread_local! {
    /// A map that an answer needed no more: the next request's need not be asked for.
    static SPARE: Cell<Option<HeaderMap>> = const { Cell::new(None) };
}

/// A map that is no longer needed.
pub(super) fn spare(mut headers: HeaderMap) {
    headers.clear();
    SPARE.set(Some(headers));
}

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

/// Reads a whole head.
///
/// # Errors
/// What the client is told.
pub(super) fn read(bytes: &Bytes, max_headers: usize) -> Result<(Parts, Facts), Fault> {
    if max_headers <= USUAL {
        let mut room = [const { MaybeUninit::uninit() }; USUAL];
        read_into(bytes, &mut room)
    } else {
        read_into(bytes, &mut vec![MaybeUninit::uninit(); max_headers])
    }
}

fn read_into<'a>(
    bytes: &'a Bytes,
    room: &mut [MaybeUninit<Header<'a>>],
) -> Result<(Parts, Facts), Fault> {
    let mut head = httparse::Request::new(&mut []);
    let read = head.parse_with_uninit_headers(bytes, room);
    let (Ok(httparse::Status::Complete(_)), Some(method), Some(target)) =
        (read, head.method, head.path)
    else {
        return Err(Fault::Violation(Violation::RequestLine));
    };
    if target.len() > MAX_TARGET {
        return Err(Fault::TargetTooLong);
    }
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method =
        Method::from_bytes(method.as_bytes()).map_err(|_| Fault::Violation(Violation::Method))?;
    parts.uri = Uri::from_maybe_shared(bytes.slice_ref(target.as_bytes()))
        .map_err(|_| Fault::Violation(Violation::Target))?;
    let modern = head.version == Some(1);
    parts.version = match modern {
        true => Version::HTTP_11,
        false => Version::HTTP_10,
    };
    let mut facts = Facts {
        modern,
        keep_alive: modern,
        head: parts.method == Method::HEAD,
        connect: parts.method == Method::CONNECT,
        trailers: false,
        expects: false,
        upgrades: false,
    };
    parts.headers = SPARE.take().unwrap_or_default();
    fields(bytes, head.headers, &mut parts.headers, &mut facts)?;
    Ok((parts, facts))
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

fn fields(
    bytes: &Bytes,
    lines: &[Header<'_>],
    headers: &mut HeaderMap,
    facts: &mut Facts,
) -> Result<(), Fault> {
    headers.reserve(lines.len());
    let mut closes = false;
    for line in lines {
        let (name, value) = field(bytes, line).ok_or(Fault::Violation(Violation::FieldName))?;
        match name {
            // Once a line asks to close, no other undoes that.
            CONNECTION if lists(&value, "close") => closes = true,
            CONNECTION if !facts.modern => facts.keep_alive |= lists(&value, "keep-alive"),
            EXPECT => facts.expects = value.as_bytes().eq_ignore_ascii_case(b"100-continue"),
            UPGRADE => facts.upgrades = facts.modern,
            TE => facts.trailers |= lists(&value, "trailers"),
            _ => {}
        }
        headers.append(name, value);
    }
    facts.keep_alive &= !closes;
    facts.expects &= facts.modern;
    Ok(())
}

/// True where a comma-separated value has this member, whatever its case.
pub(super) fn lists(value: &HeaderValue, member: &str) -> bool {
    let text = value.to_str().unwrap_or_default();
    text.split(',')
        .any(|listed| listed.trim().eq_ignore_ascii_case(member))
}
