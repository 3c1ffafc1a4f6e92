//! An answer's head out of bytes, as they come.
//!
//! Owns: what is HTTP and what is refused (RFC 9112 sections 4 to 6), the bounds of a head, how its
//! body is framed, and whether its connection persists (section 9.3).
//! Never: reads, or keeps a byte of the body.
//! Called by: `exchange`.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use hyper::ext::ReasonPhrase;

use super::decode::Decoder;
use super::fault::Fault;
use crate::message::{Fields, Known, Plain, ResponseHead, Set, Value};

/// Bytes of an answer's head; the same for its trailers.
pub(super) const MAX_HEAD: usize = 64 * 1024;
/// Fields of an answer's head; the same for its trailers.
pub(super) const MAX_FIELDS: usize = 100;
/// Interim answers (1xx) before the answer: more are no progress but a way to keep us busy.
const MAX_INTERIM: u32 = 100;

/// What was asked, as far as it changes what an answer means.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) head: bool,
    pub(super) upgrade: bool,
}

impl Asked {
    pub(super) fn new(method: &Method, upgrade: bool) -> Asked {
        Asked {
            head: *method == Method::HEAD,
            upgrade,
        }
    }
}

/// A head that is whole.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) response: Box<ResponseHead>,
    pub(super) decoder: Decoder,
    /// The connection may serve again once the answer has ended.
    pub(super) keep: bool,
}

/// Gathers a head. Costs nothing where it comes in one piece.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    /// What came of the head so far.
    partial: BytesMut,
    interim: u32,
}

impl HeadReader {
    /// Takes the next bytes. What follows the head is left in `bytes`; where the head is not whole,
    /// nothing is.
    ///
    /// # Errors
    /// [`Fault::Malformed`].
    pub(super) fn take(&mut self, bytes: &mut Bytes, asked: Asked) -> Result<Option<Head>, Fault> {
        if !self.partial.is_empty() {
            self.partial.extend_from_slice(bytes);
            // A head cannot end but with a line: without one nothing has changed.
            if !bytes.contains(&b'\n') {
                bytes.clear();
                return self.bounded();
            }
            *bytes = self.partial.split().freeze();
        }
        while !bytes.is_empty() {
            match parse(bytes, asked)? {
                Parsed::Head(head) => return Ok(Some(head)),
                Parsed::Interim => {
                    self.interim += 1;
                    if self.interim > MAX_INTERIM {
                        return Err(Fault::Malformed("too many interim answers (1xx)"));
                    }
                }
                Parsed::Partial => {
                    self.partial = BytesMut::from(&bytes[..]);
                    bytes.clear();
                    return self.bounded();
                }
            }
        }
        Ok(None)
    }

    fn bounded(&self) -> Result<Option<Head>, Fault> {
        match self.partial.len() > MAX_HEAD {
            true => Err(TOO_LARGE),
            false => Ok(None),
        }
    }

    /// The connection has ended: what is wrong with what came.
    pub(super) fn end(&self) -> Fault {
        let wrong = parse(&mut self.partial.clone().freeze(), Asked::NOTHING);
        match wrong {
            Err(fault) => fault,
            Ok(_) => Fault::Ended("connection closed before message completed"),
        }
    }
}

impl Asked {
    const NOTHING: Asked = Asked {
        head: false,
        upgrade: false,
    };
}

const TOO_LARGE: Fault = Fault::Malformed("message head is too large");

enum Parsed {
    Head(Head),
    /// 1xx: another head follows.
    Interim,
    Partial,
}

/// A head as it was read.
struct Read {
    status: StatusCode,
    version: Version,
    /// The words behind the status, where they are not the usual ones.
    reason: Option<ReasonPhrase>,
    headers: Fields,
    length: usize,
}

/// A head of plain lines alone, as nearly every one is. `None`: it is for the parser, which knows all that
/// is HTTP and what is wrong with what is not.
fn plain(bytes: &Bytes) -> Option<Read> {
    let (version, rest) = match bytes.split_first_chunk()? {
        (b"HTTP/1.1 ", rest) => (Version::HTTP_11, rest),
        (b"HTTP/1.0 ", rest) => (Version::HTTP_10, rest),
        _ => return None,
    };
    let (code, rest) = rest.split_first_chunk::<3>()?;
    let status = StatusCode::from_bytes(code).ok()?;
    let words = rest.strip_prefix(b" ")?;
    let usual = status.canonical_reason().unwrap_or_default();
    let rest = words.strip_prefix(usual.as_bytes())?;
    let mut rest = rest.strip_prefix(b"\r\n")?;
    let mut headers = Fields::of(bytes.clone());
    while !rest.starts_with(b"\r\n") {
        let line = Plain::at_front(rest).filter(|_| headers.len() < MAX_FIELDS)?;
        headers.found(bytes.len() - rest.len(), &line, rest);
        rest = rest.get(line.length..)?;
    }
    Some(Read {
        status,
        version,
        reason: None,
        headers,
        length: bytes.len() - rest.len() + 2,
    })
}

fn parse(bytes: &mut Bytes, asked: Asked) -> Result<Parsed, Fault> {
    let read = match plain(bytes) {
        Some(read) => read,
        None => match parsed(bytes)? {
            Some(read) => read,
            None => return Ok(Parsed::Partial),
        },
    };
    let Read {
        status,
        version,
        reason,
        mut headers,
        length,
    } = read;
    if length > MAX_HEAD {
        return Err(TOO_LARGE);
    }
    if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
        bytes.advance(length);
        return Ok(Parsed::Interim);
    }
    let mut facts = Facts::default();
    if headers.has_any(FRAMING) {
        for field in headers.iter() {
            facts.note(field.known(), field.value());
        }
    }
    let decoder = facts.decoder(status, version, asked)?;
    if facts.lengths > 1
        && let Some(length) = facts.first
    {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    bytes.advance(length);
    Ok(Parsed::Head(Head {
        keep: facts.keeps(version) && status != StatusCode::SWITCHING_PROTOCOLS,
        response: Box::new(ResponseHead {
            status,
            version,
            headers,
            reason,
        }),
        decoder,
    }))
}

/// What is read for framing.
const FRAMING: Set = Set::of(&[
    Known::ContentLength,
    Known::TransferEncoding,
    Known::Connection,
]);

/// `None`: more bytes are needed.
fn parsed(bytes: &Bytes) -> Result<Option<Read>, Fault> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut answer = httparse::Response::new(&mut []);
    // All that is lenient is off, which is the default: an answer is HTTP or it is refused.
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut answer,
        bytes,
        &mut fields,
    );
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) if length > MAX_HEAD => return Err(TOO_LARGE),
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(Fault::Malformed(in_words(error))),
    };
    let status = StatusCode::from_u16(answer.code.unwrap_or_default())
        .map_err(|_| Fault::Malformed("invalid HTTP status-code parsed"))?;
    let version = match answer.version {
        Some(1) => Version::HTTP_11,
        _ => Version::HTTP_10,
    };
    let unusual = |reason: &&str| Some(*reason) != status.canonical_reason();
    let reason = answer.reason.filter(unusual);
    let reason = reason.and_then(|reason| ReasonPhrase::try_from(reason.as_bytes()).ok());
    let mut headers = Fields::of(bytes.slice(..length));
    for field in answer.headers.iter() {
        headers.came(
            place(bytes, field.name.as_bytes()),
            place(bytes, field.value),
        );
    }
    Ok(Some(Read {
        status,
        version,
        reason,
        headers,
        length,
    }))
}

/// Where in `bytes` a part of them is.
fn place(bytes: &Bytes, part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr().saturating_sub(bytes.as_ptr().addr());
    start..start + part.len()
}

fn name(name: &str) -> Result<HeaderName, Fault> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| Fault::Malformed(BAD_FIELD))
}

/// The value without a copy: it is a part of `bytes`.
fn shared(bytes: &Bytes, value: &[u8]) -> Result<HeaderValue, Fault> {
    HeaderValue::from_maybe_shared(bytes.slice_ref(value)).map_err(|_| Fault::Malformed(BAD_FIELD))
}

const BAD_FIELD: &str = "invalid HTTP header parsed";

fn in_words(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "invalid HTTP header parsed: invalid header name",
        httparse::Error::HeaderValue => "invalid HTTP header parsed: invalid header value",
        httparse::Error::NewLine => "invalid HTTP header parsed: invalid new line",
        httparse::Error::Token => "invalid HTTP header parsed: invalid token",
        httparse::Error::Status => "invalid HTTP status-code parsed",
        httparse::Error::TooManyHeaders => "message head is too large: too many headers",
        httparse::Error::Version => "invalid HTTP version parsed",
    }
}

/// Trailers, from the bytes between the last chunk and the empty line, that line included.
///
/// # Errors
/// [`Fault::Malformed`].
pub(super) fn trailers(bytes: Bytes) -> Result<HeaderMap, Fault> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let fields = match httparse::parse_headers(&bytes, &mut fields) {
        Ok(httparse::Status::Complete((_, fields))) => fields,
        Ok(httparse::Status::Partial) => return Err(Fault::Malformed(BAD_FIELD)),
        Err(error) => return Err(Fault::Malformed(in_words(error))),
    };
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        trailers.append(name(field.name)?, shared(&bytes, field.value)?);
    }
    Ok(trailers)
}

/// What the fields say of framing and persistence.
#[derive(Default)]
struct Facts {
    /// Values of `Content-Length`, over all lines.
    lengths: u32,
    first: Option<u64>,
    /// They are not all one and the same number.
    differ: bool,
    /// Lines of `Transfer-Encoding`.
    codings: u32,
    chunked: bool,
    close: bool,
    keep_alive: bool,
}

impl Facts {
    fn note(&mut self, name: Known, value: Value<'_>) {
        if name == Known::ContentLength {
            for one in value.as_bytes().split(|byte| *byte == b',') {
                let number = digits(one.trim_ascii());
                self.differ |= number.is_none() || (self.lengths > 0 && number != self.first);
                self.first = self.first.or(number);
                self.lengths += 1;
            }
        } else if name == Known::TransferEncoding {
            let coding = value.as_bytes().trim_ascii();
            self.chunked = coding.eq_ignore_ascii_case(b"chunked");
            self.codings += 1;
        } else if name == Known::Connection {
            self.close |= has_token(value.as_bytes(), b"close");
            self.keep_alive |= has_token(value.as_bytes(), b"keep-alive");
        }
    }

    fn keeps(&self, version: Version) -> bool {
        !self.close && (version == Version::HTTP_11 || self.keep_alive)
    }

    /// RFC 9112 section 6.3.
    fn decoder(
        &self,
        status: StatusCode,
        version: Version,
        asked: Asked,
    ) -> Result<Decoder, Fault> {
        if status == StatusCode::SWITCHING_PROTOCOLS && !asked.upgrade {
            let words = "it switches protocols (101) without having been asked to";
            return Err(Fault::Malformed(words));
        }
        if self.codings > 0 && self.lengths > 0 {
            let words = "it has both Transfer-Encoding and Content-Length";
            return Err(Fault::Malformed(words));
        }
        // We offer no other coding (TE), and the client would be told nothing of it.
        if self.codings > 1 || (self.codings == 1 && !self.chunked) {
            let words = "its Transfer-Encoding is not \"chunked\" alone";
            return Err(Fault::Malformed(words));
        }
        if asked.head || matches!(status.as_u16(), 101 | 204 | 304) {
            return Ok(Decoder::length(0));
        }
        if self.codings > 0 {
            return match version {
                Version::HTTP_10 => Err(Fault::Malformed("unexpected Transfer-Encoding parsed")),
                _ => Ok(Decoder::chunked()),
            };
        }
        match self.first {
            _ if self.differ => Err(Fault::Malformed("invalid Content-Length parsed")),
            Some(length) => Ok(Decoder::length(length)),
            None => Ok(Decoder::until_close()),
        }
    }
}

/// A number of digits alone (RFC 9110 section 8.6).
pub(super) fn digits(text: &[u8]) -> Option<u64> {
    let add = |sum: u64, byte: &u8| {
        let digit = byte.is_ascii_digit().then(|| byte - b'0')?;
        sum.checked_mul(10)?.checked_add(digit.into())
    };
    (!text.is_empty()).then(|| text.iter().try_fold(0, add))?
}

/// `token` is in the list (RFC 9110 section 5.6.1), in any case of letters.
pub(super) fn has_token(list: &[u8], token: &[u8]) -> bool {
    let mut members = list.split(|byte| *byte == b',');
    members.any(|member| member.trim_ascii().eq_ignore_ascii_case(token))
}
