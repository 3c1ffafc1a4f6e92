//! Memory that the TLS connections of one thread use in turn.
//!
//! Owns: [`Buffer`] for what is read, [`Output`] for what is written, and their sizes.
//! Never: touches a socket or knows a key.
//! Called by: `tls::session` (fills and empties them), `tls::stream` (reads and writes them).
//!
//! Why plain and encrypted bytes share a buffer: rustls lends a record's plain bytes and nobody may
//! keep them, so they are copied once; to the front of the buffer, over records that are done with.
//! What was read stays in cache, and what came in many records leaves as one piece.

use std::cell::RefCell;

use bytes::Bytes;

/// Plain bytes of one record, at most (RFC 8446 section 5.1).
pub(super) const RECORD: usize = 16 * 1024;
/// Encrypted bytes that one read may bring, with what was left of the read before.
const READ: usize = 128 * 1024;
/// A piece shorter than this is copied: nobody then holds more than 18 times what it has.
const COPIED: usize = 8 * 1024;
/// Buffers that a thread keeps for the next who needs one.
const SPARES: usize = 4;
/// Plain bytes that one write takes, at most.
pub(super) const WRITE: usize = 4 * RECORD;
/// What encryption adds to them: 30 bytes for each record (RFC 5246 section 6.2.3.3), and alerts or
/// key updates before them.
const ADDED: usize = 1024;

thread_local! {
    static SPARE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
    static OUTPUT: RefCell<Output> = RefCell::default();
}

/// One read: plain bytes in front, and behind them what is not decrypted yet.
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    /// Plain bytes, from the front.
    plain: usize,
    /// What rustls has not let go, up to `end`. Starts a record's length behind the front, so that
    /// there is always room for the plain bytes of the next record.
    start: usize,
    end: usize,
}

impl Buffer {
    /// One of this thread's buffers, empty.
    pub(super) fn empty() -> Buffer {
        let spare = SPARE.with_borrow_mut(Vec::pop);
        Buffer {
            bytes: spare.unwrap_or_else(|| vec![0; RECORD + READ].into_boxed_slice()),
            plain: 0,
            start: RECORD,
            end: RECORD,
        }
    }

    /// Where a read goes that follows `rest` bytes of an earlier one.
    pub(super) fn behind(&mut self, rest: usize) -> &mut [u8] {
        self.bytes.get_mut(RECORD + rest..).unwrap_or_default()
    }

    /// `came` bytes were read to where [`Buffer::behind`] said; these belong before them.
    pub(super) fn fill(&mut self, rest: &[u8], came: usize) {
        let front = self.bytes.get_mut(RECORD..RECORD + rest.len());
        front.unwrap_or_default().copy_from_slice(rest);
        self.end = (RECORD + rest.len() + came).min(self.bytes.len());
    }

    /// Room for plain bytes, and what is to be decrypted.
    pub(super) fn parts(&mut self) -> (&mut [u8], &mut [u8]) {
        let (front, rest) = self.bytes.split_at_mut(self.start);
        let room = front.get_mut(self.plain..).unwrap_or_default();
        let length = self.end.saturating_sub(self.start);
        (room, rest.get_mut(..length).unwrap_or_default())
    }

    /// `read` encrypted bytes are done with and gave `plain` bytes.
    pub(super) fn advance(&mut self, read: usize, plain: usize) {
        self.start = (self.start + read).min(self.end);
        self.plain += plain;
    }

    /// What is not decrypted yet.
    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Plain bytes.
    pub(super) fn plain(&self) -> &[u8] {
        self.bytes.get(..self.plain).unwrap_or_default()
    }

    /// Its plain bytes but for the first `taken`.
    pub(super) fn into_plain(self, taken: usize) -> Bytes {
        let plain = self.plain().get(taken..).unwrap_or_default();
        if plain.len() < COPIED {
            return Bytes::copy_from_slice(plain);
        }
        let mut bytes = Bytes::from_owner(self);
        bytes.split_off(taken)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.plain()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        // The thread may be ending.
        let _ = SPARE.try_with(|spare| {
            if let Ok(mut spare) = spare.try_borrow_mut()
                && spare.len() < SPARES
            {
                spare.push(bytes);
            }
        });
    }
}

/// Records on their way to a socket.
#[derive(Default)]
pub(super) struct Output {
    /// As long as ever needed; what counts is in front.
    records: Vec<u8>,
    used: usize,
    /// Plain bytes of one record that come from several slices.
    pub(super) gathered: Vec<u8>,
}

impl Output {
    /// This thread's, empty.
    pub(super) fn with<T>(use_it: impl FnOnce(&mut Output) -> T) -> T {
        // Taken out, so that a socket that is a TLS stream itself finds none and makes its own.
        let mut output = OUTPUT.take();
        output.used = 0;
        output.gathered.clear();
        let result = use_it(&mut output);
        OUTPUT.set(output);
        result
    }

    /// The records.
    pub(super) fn records(&self) -> &[u8] {
        self.records.get(..self.used).unwrap_or_default()
    }

    /// Room for `least` bytes of records, and for a whole write.
    pub(super) fn room(&mut self, least: usize) -> &mut [u8] {
        let end = self.used + least;
        if self.records.len() < end {
            self.records.resize(end.max(WRITE + ADDED), 0);
        }
        self.records.get_mut(self.used..).unwrap_or_default()
    }

    /// So many bytes were put where [`Output::room`] said.
    pub(super) fn filled(&mut self, length: usize) {
        self.used = (self.used + length).min(self.records.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A buffer with these plain bytes.
    fn plain(bytes: &[u8]) -> Buffer {
        let mut buffer = Buffer::empty();
        buffer.fill(&[], READ);
        for part in bytes.chunks(RECORD) {
            let (room, _) = buffer.parts();
            room[..part.len()].copy_from_slice(part);
            buffer.advance(part.len(), part.len());
        }
        buffer
    }

    fn spares() -> usize {
        SPARE.with_borrow(Vec::len)
    }

    #[test]
    fn a_short_piece_leaves_the_buffer_and_a_long_one_keeps_it() {
        let short = plain(&[1; COPIED - 1]).into_plain(0);
        assert_eq!(spares(), 1);
        let long = plain(&[2; 3 * RECORD]).into_plain(5);
        assert_eq!(spares(), 0);
        let other = plain(&[3; READ]).into_plain(0);
        assert_eq!(short, vec![1; COPIED - 1]);
        assert_eq!(long, vec![2; 3 * RECORD - 5]);
        assert_eq!(other, vec![3; READ]);
        drop((long, other));
        assert_eq!(spares(), 2);
    }

    #[test]
    fn a_thread_keeps_a_few_buffers_and_no_more() {
        let many: Vec<_> = (0..SPARES + 3).map(|_| Buffer::empty()).collect();
        drop(many);
        assert_eq!(spares(), SPARES);
    }
}
