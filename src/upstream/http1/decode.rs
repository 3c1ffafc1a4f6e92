//! An answer's body out of bytes, as they come.
//!
//! Owns: where a body ends (RFC 9112 sections 6 and 7), and the bounds of what chunks may carry
//! beside it.
//! Never: copies a byte of it, or reads.
//! Called by: `exchange`.

use bytes::{Buf, Bytes};
use http::HeaderMap;

use super::fault::Fault;
use super::head::{MAX_FIELDS, MAX_HEAD, trailers};

/// Bytes of chunk extensions, and of blanks before them, in one answer.
const MAX_EXTENSIONS: u32 = 16 * 1024;

/// What the next bytes are.
#[derive(Debug)]
pub(super) enum Decoded {
    /// A piece of the body; never empty.
    Data(Bytes),
    /// The body's end, with trailers.
    Trailers(HeaderMap),
    /// The body's end.
    End,
    /// More has to be read.
    More,
}

/// Finds a body's end.
#[derive(Debug)]
pub(super) enum Decoder {
    /// So many bytes are still to come.
    Length(u64),
    /// See [`Chunks`].
    Chunked(Chunks),
    /// All until the connection is closed.
    UntilClose,
    /// It has ended.
    Ended,
}

impl Decoder {
    pub(super) fn length(length: u64) -> Decoder {
        match length {
            0 => Decoder::Ended,
            length => Decoder::Length(length),
        }
    }

    pub(super) fn chunked() -> Decoder {
        Decoder::Chunked(Chunks::default())
    }

    pub(super) fn until_close() -> Decoder {
        Decoder::UntilClose
    }

    pub(super) fn is_ended(&self) -> bool {
        matches!(self, Decoder::Ended)
    }

    /// How much is still to come, where that is known.
    pub(super) fn left(&self) -> Option<u64> {
        match self {
            Decoder::Length(left) => Some(*left),
            Decoder::Ended => Some(0),
            Decoder::Chunked(_) | Decoder::UntilClose => None,
        }
    }

    /// Takes the next piece out of `bytes`. What it leaves there is not the body's.
    ///
    /// # Errors
    /// [`Fault::Malformed`].
    pub(super) fn decode(&mut self, bytes: &mut Bytes) -> Result<Decoded, Fault> {
        let decoded = match self {
            Decoder::Length(left) if !bytes.is_empty() => {
                let data = at_most(bytes, *left);
                *left -= data.len() as u64;
                if *left == 0 {
                    *self = Decoder::Ended;
                }
                return Ok(Decoded::Data(data));
            }
            Decoder::UntilClose if !bytes.is_empty() => Decoded::Data(std::mem::take(bytes)),
            Decoder::Length(_) | Decoder::UntilClose => Decoded::More,
            Decoder::Chunked(chunks) => chunks.decode(bytes)?,
            Decoder::Ended => Decoded::End,
        };
        if matches!(decoded, Decoded::Trailers(_) | Decoded::End) {
            *self = Decoder::Ended;
        }
        Ok(decoded)
    }

    /// Takes what is no data out of `bytes`, so that an end that is here is known to be.
    ///
    /// # Errors
    /// [`Fault::Malformed`].
    pub(super) fn look_ahead(&mut self, bytes: &mut Bytes) -> Result<(), Fault> {
        if let Decoder::Chunked(chunks) = self
            && chunks.skip(bytes)?
            && chunks.trailers.is_empty()
        {
            *self = Decoder::Ended;
        }
        Ok(())
    }

    /// The connection has been closed, properly.
    ///
    /// # Errors
    /// [`Fault::Ended`] where more was to come.
    pub(super) fn close(&mut self) -> Result<(), Fault> {
        match self {
            Decoder::UntilClose | Decoder::Ended => {
                *self = Decoder::Ended;
                Ok(())
            }
            Decoder::Length(_) | Decoder::Chunked(_) => {
                Err(Fault::Ended("end of file before message length reached"))
            }
        }
    }
}

fn at_most(bytes: &mut Bytes, most: u64) -> Bytes {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    match bytes.len() <= most {
        true => std::mem::take(bytes),
        false => bytes.split_to(most),
    }
}

/// A body in chunks (RFC 9112 section 7.1).
#[derive(Debug, Default)]
pub(super) struct Chunks {
    at: At,
    /// Of this chunk, what is still to come.
    left: u64,
    extensions: u32,
    /// Trailers as they come, with the empty line behind them.
    trailers: Vec<u8>,
    fields: usize,
}

/// What is expected next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// The first digit of a size.
    #[default]
    Size,
    /// Another digit, or what ends them.
    Digit,
    /// Blanks behind a size.
    Blank,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The first byte of a trailer's line, or the CR of the empty one.
    Line,
    Trailer,
    TrailerLf,
    EndLf,
    End,
}

impl Chunks {
    fn decode(&mut self, bytes: &mut Bytes) -> Result<Decoded, Fault> {
        if self.skip(bytes)? {
            return match self.trailers.is_empty() {
                true => Ok(Decoded::End),
                false => trailers(std::mem::take(&mut self.trailers).into()).map(Decoded::Trailers),
            };
        }
        if bytes.is_empty() {
            return Ok(Decoded::More);
        }
        let data = at_most(bytes, self.left);
        self.left -= data.len() as u64;
        if self.left == 0 {
            self.at = At::DataCr;
        }
        Ok(Decoded::Data(data))
    }

    /// Passes what is no data, up to data or to the end of `bytes`. True at the body's end.
    fn skip(&mut self, bytes: &mut Bytes) -> Result<bool, Fault> {
        let mut passed = 0;
        for byte in bytes.iter() {
            if matches!(self.at, At::Data | At::End) {
                break;
            }
            self.at = self.step(*byte)?;
            passed += 1;
        }
        bytes.advance(passed);
        Ok(self.at == At::End)
    }

    fn step(&mut self, byte: u8) -> Result<At, Fault> {
        let wrong = |words| Err(Fault::Malformed(words));
        match (self.at, byte) {
            (At::Size, byte) => match hex(byte) {
                Some(digit) => {
                    self.left = digit;
                    Ok(At::Digit)
                }
                None => wrong("invalid chunk size line: missing size digit"),
            },
            (At::Digit | At::Blank, b' ' | b'\t') => {
                self.extend()?;
                Ok(At::Blank)
            }
            (At::Digit | At::Blank, b';') => Ok(At::Extension),
            (At::Digit | At::Blank | At::Extension, b'\r') => Ok(At::SizeLf),
            (At::Digit, byte) => match (hex(byte), self.left.checked_mul(16)) {
                (Some(digit), Some(size)) => {
                    self.left = size | digit;
                    Ok(At::Digit)
                }
                (Some(_), None) => wrong("invalid chunk size: overflow"),
                (None, _) => wrong("invalid chunk size line: invalid size"),
            },
            (At::Blank, _) => wrong("invalid chunk size line: invalid white space"),
            (At::Extension, b'\n') => wrong("invalid chunk extension: it contains a newline"),
            (At::Extension, _) => {
                self.extend()?;
                Ok(At::Extension)
            }
            (At::SizeLf, b'\n') if self.left == 0 => Ok(At::Line),
            (At::SizeLf, b'\n') => Ok(At::Data),
            (At::SizeLf, _) => wrong("invalid chunk size line: no LF behind its CR"),
            (At::DataCr, b'\r') => Ok(At::DataLf),
            (At::DataLf, b'\n') => Ok(At::Size),
            (At::DataCr | At::DataLf, _) => wrong("invalid chunk: no CRLF behind it"),
            (At::Line, b'\r') if self.trailers.is_empty() => Ok(At::EndLf),
            (At::Line, b'\r') => self.keep(byte, At::EndLf),
            (At::EndLf, b'\n') if self.trailers.is_empty() => Ok(At::End),
            (At::EndLf, b'\n') => self.keep(byte, At::End),
            (At::EndLf, _) => wrong("invalid end of chunks"),
            (At::Trailer, b'\r') => self.keep(byte, At::TrailerLf),
            (At::Line | At::Trailer, _) => self.keep(byte, At::Trailer),
            (At::TrailerLf, b'\n') => {
                self.fields += 1;
                match self.fields > MAX_FIELDS {
                    true => wrong("too many trailers"),
                    false => self.keep(byte, At::Line),
                }
            }
            (At::TrailerLf, _) => wrong("invalid trailer: no LF behind its CR"),
            // Nobody steps there.
            (At::Data | At::End, _) => Ok(self.at),
        }
    }

    fn extend(&mut self) -> Result<(), Fault> {
        self.extensions += 1;
        match self.extensions > MAX_EXTENSIONS {
            true => Err(Fault::Malformed("chunk extensions over limit")),
            false => Ok(()),
        }
    }

    fn keep(&mut self, byte: u8, next: At) -> Result<At, Fault> {
        if self.trailers.len() >= MAX_HEAD {
            return Err(Fault::Malformed("trailers over limit"));
        }
        self.trailers.push(byte);
        Ok(next)
    }
}

fn hex(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that a decoder gives, in one call or by single bytes.
    fn decoded(mut decoder: Decoder, text: &[u8], by_byte: bool) -> Result<Vec<u8>, String> {
        let mut body = Vec::new();
        let size = if by_byte { 1 } else { text.len().max(1) };
        for piece in text.chunks(size) {
            let mut bytes = Bytes::copy_from_slice(piece);
            loop {
                match decoder.decode(&mut bytes).map_err(|e| e.to_string())? {
                    Decoded::Data(data) => body.extend_from_slice(&data),
                    Decoded::More => break,
                    Decoded::End | Decoded::Trailers(_) => return Ok(body),
                }
            }
        }
        decoder.close().map(|()| body).map_err(|e| e.to_string())
    }

    #[test]
    fn malformed_chunks_are_refused_with_their_words() {
        let many = "a".repeat(20_000);
        for (text, words) in [
            ("\r\n", "missing size digit"),
            ("g\r\n", "missing size digit"),
            (" 1\r\n", "missing size digit"),
            ("-1\r\n", "missing size digit"),
            ("+1\r\n", "missing size digit"),
            ("0x1\r\n", "invalid size"),
            ("1\n", "invalid size"),
            ("1 2\r\n", "white space"),
            ("10000000000000000\r\n", "overflow"),
            ("1;a\nb\r\n", "newline"),
            ("1\r\r", "no LF"),
            ("1;a\r\r", "no LF"),
            ("1\r\nab", "no CRLF"),
            ("1\r\na\n", "no CRLF"),
            ("1\r\na\r\r", "no CRLF"),
            ("0\r\n\r\r", "end of chunks"),
            ("0\r\na: b\r\r", "no LF"),
            ("0\r\na b: c\r\n\r\n", "header name"),
            ("0\r\n: c\r\n\r\n", "header name"),
            ("0\r\na: b\0\r\n\r\n", "header value"),
            (&format!("1;{many}\r\n"), "extensions"),
            (&format!("1{}\r\n", " ".repeat(20_000)), "extensions"),
            (
                &format!("0\r\na: {}", many.repeat(4)),
                "trailers over limit",
            ),
            (
                &format!("0\r\n{}\r\n", "a: b\r\n".repeat(101)),
                "too many trailers",
            ),
        ] {
            for by_byte in [false, true] {
                let error = decoded(Decoder::chunked(), text.as_bytes(), by_byte);
                let error = error.unwrap_err();
                let short = &text[..text.len().min(40)];
                assert!(error.contains(words), "{short:?}: {error}");
            }
        }
    }

    #[test]
    fn chunks_within_the_bounds_are_taken() {
        let extension = "a".repeat(16_000);
        for (text, body) in [
            ("0\r\n\r\n", ""),
            ("000\r\n\r\n", ""),
            ("1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", "abc"),
            ("A\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
            ("1 \t;x=y\r\na\r\n0;z\r\n\r\n", "a"),
            (&format!("1;{extension}\r\na\r\n0\r\n\r\n"), "a"),
            (&format!("0\r\n{}\r\n", "a: b\r\n".repeat(100)), ""),
        ] {
            for by_byte in [false, true] {
                let got = decoded(Decoder::chunked(), text.as_bytes(), by_byte);
                assert_eq!(got.as_deref(), Ok(body.as_bytes()));
            }
        }
    }

    #[test]
    fn the_largest_size_is_one_of_64_bits() {
        let mut bytes = Bytes::from("ffffffffffffffff\r\nabc");
        let mut decoder = Decoder::chunked();
        let first = decoder.decode(&mut bytes).unwrap();
        assert!(matches!(first, Decoded::Data(data) if data == "abc"));
        assert!(matches!(decoder.decode(&mut bytes), Ok(Decoded::More)));
    }

    #[test]
    fn an_end_that_is_here_is_known_and_one_that_is_not_is_not() {
        for (text, ended) in [
            ("1\r\na\r\n0\r\n\r\n", true),
            ("1\r\na\r\n0\r\n\r", false),
            ("1\r\na\r\n1\r\nb", false),
            ("1\r\na\r\n0\r\nx: y\r\n\r\n", false),
        ] {
            let mut bytes = Bytes::from(text);
            let mut decoder = Decoder::chunked();
            assert!(matches!(decoder.decode(&mut bytes), Ok(Decoded::Data(_))));
            decoder.look_ahead(&mut bytes).unwrap();
            assert_eq!(decoder.is_ended(), ended, "{text:?}");
        }
    }

    #[test]
    fn a_length_takes_what_is_its_own_and_leaves_the_rest() {
        let mut bytes = Bytes::from("hello!");
        let mut decoder = Decoder::length(5);
        assert_eq!(decoder.left(), Some(5));
        let data = decoder.decode(&mut bytes).unwrap();
        assert!(matches!(data, Decoded::Data(data) if data == "hello"));
        assert!(decoder.is_ended() && bytes == "!");
        assert_eq!(
            decoded(Decoder::length(3), b"ab", true).unwrap_err(),
            "end of file before message length reached"
        );
        assert_eq!(
            decoded(Decoder::until_close(), b"ab", true),
            Ok(b"ab".to_vec())
        );
    }
}
