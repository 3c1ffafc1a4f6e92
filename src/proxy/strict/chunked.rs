//! A chunked body: sizes, extensions, data, trailers (RFC 9112 section 7.1).
//!
//! Owns: the states within a body of chunks, and the bounds on what is not data.
//! Never: looks at the data.
//! Called by: `machine`.

use super::cursor::{Cursor, misplaced};
use super::field::{Fields, Sink};
use super::machine::Piece;
use super::violation::Violation;
use crate::message::{Known, is_value};

/// Bytes of extensions in one body, as each costs a reader work and carries nothing.
const MAX_EXTENSIONS: usize = 8 * 1024;
/// Bytes of trailers of one body.
const MAX_TRAILERS: usize = 8 * 1024;
/// A 64-bit number has no more digits.
const MAX_DIGITS: u8 = 16;

#[derive(Clone, Copy, Debug)]
enum State {
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailers,
}

/// The machine for one body of chunks.
#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    /// Of the chunk's size line; then what is left of its data.
    size: u64,
    digits: u8,
    extensions: usize,
    trailers: usize,
}

impl Chunked {
    pub(super) const fn new() -> Self {
        Chunked {
            state: State::Size,
            size: 0,
            digits: 0,
            extensions: 0,
            trailers: 0,
        }
    }

    /// Reads bytes of one kind: which, and whether the body is over with them. `fields` must be
    /// ready for a new block.
    pub(super) fn read(
        &mut self,
        cursor: &mut Cursor<'_>,
        fields: &mut Fields,
        max_headers: usize,
    ) -> Result<(Piece, bool), Violation> {
        match self.state {
            State::Data => {
                self.data(cursor);
                Ok((Piece::Data, false))
            }
            State::Trailers => {
                let read = |cursor: &mut Cursor<'_>| {
                    let over = fields.read(cursor, max_headers, &mut Forbidden, &mut ())?;
                    if over {
                        cursor.bump();
                    }
                    Ok(over)
                };
                let large = Violation::TrailersTooLarge;
                let over = cursor.within(&mut self.trailers, MAX_TRAILERS, large, read)?;
                Ok((Piece::Trailers, over))
            }
            _ => self.between(cursor).map(|()| (Piece::Between, false)),
        }
    }

    /// Up to the next data, or to the trailers.
    fn between(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Violation> {
        while let Some(byte) = cursor.peek() {
            match self.state {
                State::Size => self.size(byte)?,
                State::Extension => self.extension(byte)?,
                State::SizeLf if byte == b'\n' => self.size_end(),
                State::Data | State::Trailers => break,
                State::DataCr if byte == b'\r' => self.state = State::DataLf,
                State::DataLf if byte == b'\n' => self.state = State::Size,
                State::SizeLf => return Err(Violation::BareCr),
                State::DataCr | State::DataLf => return Err(Violation::ChunkEnd),
            }
            cursor.bump();
        }
        Ok(())
    }

    fn size(&mut self, byte: u8) -> Result<(), Violation> {
        match char::from(byte).to_digit(16) {
            Some(digit) if self.digits < MAX_DIGITS => {
                self.digits += 1;
                // Sixteen digits of four bits fill it exactly.
                self.size = (self.size << 4) | u64::from(digit);
            }
            None if self.digits > 0 && byte == b';' => self.state = State::Extension,
            None if self.digits > 0 && byte == b'\r' => self.state = State::SizeLf,
            _ => return Err(misplaced(byte, Violation::ChunkSize)),
        }
        Ok(())
    }

    fn extension(&mut self, byte: u8) -> Result<(), Violation> {
        if byte == b'\r' {
            self.state = State::SizeLf;
            return Ok(());
        }
        if !is_value(byte) {
            return Err(misplaced(byte, Violation::ControlByte));
        }
        self.extensions += 1;
        if self.extensions > MAX_EXTENSIONS {
            return Err(Violation::ChunkExtensions);
        }
        Ok(())
    }

    fn size_end(&mut self) {
        self.digits = 0;
        self.state = if self.size == 0 {
            State::Trailers
        } else {
            State::Data
        };
    }

    fn data(&mut self, cursor: &mut Cursor<'_>) {
        let here = cursor.rest().len();
        let take = usize::try_from(self.size).map_or(here, |size| size.min(here));
        cursor.skip(take);
        self.size = self.size.saturating_sub(take as u64);
        if self.size == 0 {
            self.state = State::DataCr;
        }
    }
}

/// Refuses trailers that say how to frame, route, authenticate or read the message
/// (RFC 9110 section 6.5.1): a receiver that merges them into the head would believe them.
struct Forbidden;

impl Sink for Forbidden {
    fn watches(&self, _first: u8) -> bool {
        true
    }

    fn wants(&self, name: &[u8]) -> bool {
        matches!(
            name,
            b"age"
                | b"authorization"
                | b"cache-control"
                | b"connection"
                | b"content-encoding"
                | b"content-length"
                | b"content-range"
                | b"content-type"
                | b"cookie"
                | b"expect"
                | b"forwarded"
                | b"host"
                | b"keep-alive"
                | b"max-forwards"
                | b"pragma"
                | b"proxy-authorization"
                | b"proxy-connection"
                | b"range"
                | b"set-cookie"
                | b"te"
                | b"trailer"
                | b"transfer-encoding"
                | b"upgrade"
                | b"via"
                | b"x-forwarded-client-cert"
                | b"x-forwarded-for"
                | b"x-forwarded-host"
                | b"x-forwarded-proto"
        )
    }

    fn field(&mut self, _name: Known, _value: Option<&[u8]>) -> Result<(), Violation> {
        Err(Violation::TrailerField)
    }
}
