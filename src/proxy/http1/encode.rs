//! An answer's head and body as bytes.
//!
//! Owns: the status line, which fields say how long the body is and whether the connection goes on;
//! chunks and trailers (RFC 9112 sections 6 and 7).
//! Never: writes to a socket, or changes a field that is not about framing.
//! Called by: `exchange`.

use bytes::{Buf, Bytes};
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    HOST, HeaderName, MAX_FORWARDS, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING,
};
use http::{HeaderMap, StatusCode};

use super::batch::Batch;
use super::head::{Facts, lists};
use crate::message::{Known, ResponseHead, Value};

/// How long a body says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// There is none.
    None,
    Known(u64),
    Unknown,
}

/// How the body's end is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Coder {
    /// So many bytes are left.
    Length(u64),
    /// The last chunk tells it; these trailers may follow.
    Chunked(Vec<HeaderName>),
    /// The connection's end tells it (HTTP/1.0).
    UntilClose,
}

/// What was said in a head.
pub(super) struct Said {
    pub(super) coder: Coder,
    /// The connection ends after this answer.
    pub(super) last: bool,
}

/// Appends the head. `goes_on`: the connection would take another request.
pub(super) fn head(
    batch: &mut Batch,
    answer: &ResponseHead,
    length: Length,
    facts: Facts,
    goes_on: bool,
) -> Said {
    let out = batch.text();
    status_line(out, answer, facts);
    let silent = answer.status.is_informational()
        || (facts.connect && answer.status.is_success())
        || matches!(
            answer.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
    let may_chunk = facts.modern && !silent && !facts.head;
    let switches = answer.status == StatusCode::SWITCHING_PROTOCOLS;
    let headers = &answer.headers;
    let coder = content_length(headers.get(Known::ContentLength), length, facts.head);
    // The body knows better than a line that differs.
    let mut says_length = coder.is_none();
    let options = headers.get_all(Known::Connection);
    let closes = options.clone().any(|value| lists(value, "close"));
    let keeps = options.clone().any(|value| lists(value, "keep-alive"));
    let trailers = match may_chunk {
        true => headers.get_all(Known::Trailer).flat_map(names).collect(),
        false => Vec::new(),
    };
    headers.write(out, |field| match field.known() {
        Known::ContentLength => !std::mem::replace(&mut says_length, true),
        // What frames is said below.
        Known::TransferEncoding => false,
        Known::Trailer => may_chunk,
        _ => true,
    });
    let mut coder = coder.unwrap_or_else(|| match length {
        Length::Unknown if may_chunk => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            Coder::Chunked(trailers)
        }
        Length::Unknown => Coder::UntilClose,
        Length::None | Length::Known(0) => {
            if !silent && !facts.head {
                out.extend_from_slice(b"content-length: 0\r\n");
            }
            Coder::Length(0)
        }
        Length::Known(length) => {
            if !silent {
                number_line(out, length);
            }
            Coder::Length(length)
        }
    });
    if silent || facts.head {
        coder = Coder::Length(0);
    }
    let last = !goes_on || closes || switches || coder == Coder::UntilClose;
    match facts.modern {
        true if !goes_on && !closes && !switches => {
            out.extend_from_slice(b"connection: close\r\n");
        }
        false if !last && !keeps => out.extend_from_slice(b"connection: keep-alive\r\n"),
        _ => {}
    }
    out.extend_from_slice(b"\r\n");
    Said { coder, last }
}

fn status_line(out: &mut Vec<u8>, answer: &ResponseHead, facts: Facts) {
    let own_words = answer.reason.as_ref();
    if facts.modern && answer.status == StatusCode::OK && own_words.is_none() {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(match facts.modern {
        true => b"HTTP/1.1 ",
        false => b"HTTP/1.0 ",
    });
    out.extend_from_slice(answer.status.as_str().as_bytes());
    out.push(b' ');
    let words = match own_words {
        Some(words) => words.as_bytes(),
        // Many parsers expect one.
        None => answer
            .status
            .canonical_reason()
            .unwrap_or("<none>")
            .as_bytes(),
    };
    out.extend_from_slice(words);
    out.extend_from_slice(b"\r\n");
}

fn line(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// A length that the head has of itself. `None`: its line is not sent on.
fn content_length(value: Option<Value<'_>>, length: Length, to_head: bool) -> Option<Coder> {
    let value = value?;
    let said = value.to_str().and_then(|text| text.parse().ok());
    match (length, said) {
        (Length::Known(length), Some(said)) if length == said => Some(Coder::Length(length)),
        (Length::Unknown, Some(said)) => Some(Coder::Length(said)),
        (Length::None, _) if to_head => Some(Coder::Length(0)),
        _ => None,
    }
}

fn number_line(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(b"content-length: ");
    out.extend_from_slice(number.to_string().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The members of `Trailer`.
fn names(value: Value<'_>) -> impl Iterator<Item = HeaderName> {
    let text = value.to_str().unwrap_or_default();
    text.split(',')
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
}

impl Coder {
    /// True where nothing of the body is to follow, whatever it has.
    pub(super) fn is_over(&self) -> bool {
        *self == Coder::Length(0)
    }

    /// Appends a piece of the body. What is longer than it was said to be is cut.
    pub(super) fn data(&mut self, batch: &mut Batch, mut data: Bytes) {
        if data.is_empty() {
            return;
        }
        match self {
            Coder::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX);
                data.truncate(here);
                *left = left.saturating_sub(data.len() as u64);
                batch.frame(data);
            }
            Coder::Chunked(_) => {
                chunk_size(batch.text(), data.remaining());
                batch.frame(data);
                batch.text().extend_from_slice(b"\r\n");
            }
            Coder::UntilClose => batch.frame(data),
        }
    }

    /// Appends the end. `trailers`: where the client takes them. False where the body was shorter
    /// than it was said to be.
    pub(super) fn end(&self, batch: &mut Batch, trailers: Option<&HeaderMap>) -> bool {
        match self {
            Coder::Length(left) => *left == 0,
            Coder::UntilClose => true,
            Coder::Chunked(announced) => {
                let out = batch.text();
                out.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flatten() {
                    if announced.contains(name) && may_trail(name) {
                        line(out, name, value.as_bytes());
                    }
                }
                out.extend_from_slice(b"\r\n");
                true
            }
        }
    }
}

/// RFC 9112 section 7.1: hexadecimal.
fn chunk_size(out: &mut Vec<u8>, size: usize) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        let digit = DIGITS.get((size >> (4 * place)) & 0xf);
        out.extend(digit);
    }
    out.extend_from_slice(b"\r\n");
}

/// RFC 9110 section 6.5.1: not what frames, routes, authenticates or describes the content.
fn may_trail(name: &HeaderName) -> bool {
    !matches!(
        *name,
        AUTHORIZATION
            | CACHE_CONTROL
            | CONTENT_ENCODING
            | CONTENT_LENGTH
            | CONTENT_RANGE
            | CONTENT_TYPE
            | HOST
            | MAX_FORWARDS
            | SET_COOKIE
            | TE
            | TRAILER
            | TRANSFER_ENCODING
    )
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Context;

    use http::{HeaderValue, Response};

    use super::*;

    const GET: Facts = Facts {
        modern: true,
        keep_alive: true,
        head: false,
        connect: false,
        trailers: false,
        expects: false,
        upgrades: false,
    };

    fn bytes(mut batch: Batch) -> String {
        let mut out = Vec::new();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        batch
            .write(&mut out, &mut cx, &mut VecDeque::new())
            .unwrap();
        String::from_utf8(out).unwrap()
    }

    /// The head's lines behind the status, how the end is told, and whether the connection ends.
    fn said(answer: Response<()>, length: Length, facts: Facts) -> (String, Coder, bool) {
        let mut batch = Batch::default();
        let said = head(
            &mut batch,
            &crate::message::Response::from(answer).head,
            length,
            facts,
            facts.keep_alive,
        );
        let head = bytes(batch);
        let lines = head.split_once("\r\n").unwrap().1;
        let lines = lines.strip_suffix("\r\n\r\n").unwrap_or_default();
        (lines.replace("\r\n", "; "), said.coder, said.last)
    }

    fn answer(status: u16, headers: &[(&str, &str)]) -> Response<()> {
        let mut answer = Response::builder().status(status);
        for (name, value) in headers {
            answer = answer.header(*name, *value);
        }
        answer.body(()).unwrap()
    }

    #[test]
    fn the_length_is_told_as_the_client_can_read_it() {
        let old = Facts {
            modern: false,
            ..GET
        };
        let head = Facts { head: true, ..GET };
        let length = [("content-length", "5")];
        let chunked = || Coder::Chunked(Vec::new());
        #[rustfmt::skip]
        let rows = [
            (answer(200, &length), Length::Known(5), GET, "content-length: 5", Coder::Length(5), false),
            (answer(200, &[]), Length::Known(5), GET, "content-length: 5", Coder::Length(5), false),
            (answer(200, &length), Length::Unknown, GET, "content-length: 5", Coder::Length(5), false),
            (answer(200, &length), Length::Known(7), GET, "content-length: 7", Coder::Length(7), false),
            (answer(200, &length), Length::None, GET, "content-length: 0", Coder::Length(0), false),
            (answer(200, &[]), Length::None, GET, "content-length: 0", Coder::Length(0), false),
            (answer(200, &[]), Length::Unknown, GET, "transfer-encoding: chunked", chunked(), false),
            (answer(200, &[]), Length::Unknown, old, "", Coder::UntilClose, true),
            (answer(200, &[]), Length::Known(5), old, "content-length: 5; connection: keep-alive", Coder::Length(5), false),
            (answer(200, &length), Length::None, head, "content-length: 5", Coder::Length(0), false),
            (answer(200, &[]), Length::None, head, "", Coder::Length(0), false),
            (answer(200, &length), Length::Known(5), head, "content-length: 5", Coder::Length(0), false),
            (answer(204, &[]), Length::None, GET, "", Coder::Length(0), false),
            (answer(304, &length), Length::None, GET, "", Coder::Length(0), false),
            (answer(101, &[("connection", "upgrade")]), Length::None, GET, "connection: upgrade", Coder::Length(0), true),
        ];
        for (answer, length, facts, lines, coder, last) in rows {
            let words = format!("{answer:?} {length:?} {facts:?}");
            assert_eq!(
                said(answer, length, facts),
                (lines.into(), coder, last),
                "{words}"
            );
        }
    }

    #[test]
    fn the_end_of_the_connection_is_said_once() {
        let done = Facts {
            keep_alive: false,
            ..GET
        };
        let close = [("connection", "close")];
        let lines = "connection: close; content-length: 0";
        assert_eq!(said(answer(400, &close), Length::None, GET).0, lines);
        assert_eq!(said(answer(400, &close), Length::None, done).0, lines);
        let (lines, _, last) = said(answer(200, &[]), Length::None, done);
        assert_eq!(
            (lines.as_str(), last),
            ("content-length: 0; connection: close", true)
        );
    }

    #[test]
    fn chunks_have_their_size_before_them_and_only_announced_trailers_behind() {
        for size in [1, 9, 15, 16, 255, 256, 65_536] {
            let mut batch = Batch::default();
            let mut coder = Coder::Chunked(vec![HeaderName::from_static("x-sum")]);
            coder.data(&mut batch, Bytes::from("z".repeat(size)));
            coder.data(&mut batch, Bytes::new());
            let mut trailers = HeaderMap::new();
            for name in ["x-sum", "x-other"] {
                trailers.insert(name, HeaderValue::from_static("1"));
            }
            assert!(coder.end(&mut batch, Some(&trailers)));
            let data = "z".repeat(size);
            let expected = format!("{size:X}\r\n{data}\r\n0\r\nx-sum: 1\r\n\r\n");
            assert_eq!(bytes(batch), expected);
        }
    }

    #[test]
    fn a_body_is_never_longer_than_it_was_said_to_be_and_a_short_one_is_not_whole() {
        let mut batch = Batch::default();
        let mut coder = Coder::Length(3);
        coder.data(&mut batch, Bytes::from_static(b"ab"));
        assert!(!coder.end(&mut batch, None));
        coder.data(&mut batch, Bytes::from_static(b"cd"));
        assert!(coder.end(&mut batch, None));
        assert_eq!(bytes(batch), "abc");
    }
}
