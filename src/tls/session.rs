//! The TLS of one connection to a server, without its socket.
//!
//! Owns: [`Session`]: records in, plain bytes out, and the other way round.
//! Never: waits, or touches a socket.
//! Called by: `tls::stream` (moves its bytes), `tls::connect` (asks what was agreed).
//!
//! Why rustls' unbuffered half: its other one reads 4 KiB at a time, copies what it decrypts twice
//! and keeps its buffers while nothing happens. Here an idle connection owns no buffer at all.
//!
//! Why what was not let go is always shown to rustls again, and nothing after a failure: its
//! deframer remembers places in the bytes that it was shown.

use std::io::{self, IoSlice};
use std::sync::Arc;

use rustls::client::{ClientConfig, ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{CommonState, Error};

use super::buffers::{Buffer, Output, RECORD, WRITE};

/// Bytes that may wait for the end of a handshake message; as many as rustls' other half allows.
const MOST_WAITING: usize = 0xffff;

/// One connection's keys and state.
pub(super) struct Session {
    tls: UnbufferedClientConnection,
    /// What came and was not let go: an incomplete record, or an incomplete handshake message.
    rest: Vec<u8>,
    /// Records for the server that wait for the socket; from `sent` on.
    waiting: Vec<u8>,
    sent: usize,
    /// The server has said that it will send no more.
    ended: bool,
    failed: Option<Error>,
}

impl Session {
    /// With the first message waiting to be sent.
    pub(super) fn new(
        config: &Arc<ClientConfig>,
        name: ServerName<'static>,
        alpn: Vec<Vec<u8>>,
    ) -> Result<Session, Error> {
        let tls = UnbufferedClientConnection::new_with_alpn(Arc::clone(config), name, alpn)?;
        let mut session = Session {
            tls,
            rest: Vec::new(),
            waiting: Vec::new(),
            sent: 0,
            ended: false,
            failed: None,
        };
        session.collect();
        Ok(session)
    }

    /// What was agreed so far.
    pub(super) fn state(&self) -> &CommonState {
        &self.tls
    }

    /// Bytes kept of earlier reads.
    pub(super) fn rest(&self) -> usize {
        self.rest.len()
    }

    /// Memory that it owns for bytes of either direction.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.rest.capacity() + self.waiting.capacity()
    }

    /// Why nothing more can be read or written.
    pub(super) fn failure(&self) -> Option<io::Error> {
        self.failed.clone().map(invalid)
    }

    /// True once the server has said that it will send no more (RFC 8446 section 6.1).
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Records that wait for the socket.
    pub(super) fn waiting(&self) -> &[u8] {
        self.waiting.get(self.sent..).unwrap_or_default()
    }

    /// The socket took so many bytes of them.
    pub(super) fn sent(&mut self, length: usize) {
        self.sent += length;
        if self.sent >= self.waiting.len() {
            self.waiting = Vec::new();
            self.sent = 0;
        }
    }

    /// The socket takes no more; what waits for it is in vain.
    pub(super) fn give_up(&mut self) {
        self.sent(self.waiting.len());
    }

    /// These wait for the socket from now on, behind what waits already.
    pub(super) fn wait(&mut self, records: &[u8]) {
        self.waiting.extend_from_slice(records);
    }

    /// `came` bytes were read into `buffer`, behind [`Session::rest`] bytes of room. Decrypts all that
    /// is complete. A failure waits in [`Session::failure`], after the bytes that came before it.
    pub(super) fn open(&mut self, buffer: &mut Buffer, came: usize) {
        buffer.fill(&std::mem::take(&mut self.rest), came);
        while self.failed.is_none() && !self.ended {
            match self.step(buffer) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => self.failed = Some(error),
            }
        }
        self.collect();
        let rest = buffer.rest();
        if self.failed.is_some() || self.ended || rest.is_empty() {
            return;
        }
        if rest.len() > MOST_WAITING {
            self.failed = Some(Error::General("message buffer full".into()));
        } else {
            self.rest = rest.to_vec();
        }
    }

    /// One step of rustls; false where it needs more bytes.
    fn step(&mut self, buffer: &mut Buffer) -> Result<bool, Error> {
        let (mut room, encrypted) = buffer.parts();
        let UnbufferedStatus { mut discard, state } = self.tls.process_tls_records(encrypted);
        let mut plain = 0;
        let mut goes_on = true;
        match state? {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    let (to, left) = std::mem::take(&mut room)
                        .split_at_mut_checked(record.payload.len())
                        .ok_or(Error::PeerSentOversizedRecord)?;
                    to.copy_from_slice(record.payload);
                    plain += record.payload.len();
                    room = left;
                }
            }
            ConnectionState::EncodeTlsData(data) => encode(data, &mut self.waiting),
            ConnectionState::TransmitTlsData(data) => data.done(),
            ConnectionState::PeerClosed => self.ended = true,
            _ => goes_on = false,
        }
        buffer.advance(discard, plain);
        Ok(goes_on)
    }

    /// Lets what rustls wants to send wait for the socket.
    pub(super) fn collect(&mut self) {
        // While there is something, rustls gives it before it looks at the bytes it is shown.
        while self.tls.wants_write() {
            match self.tls.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.waiting),
                _ => break,
            }
        }
    }

    /// Encrypts of `slices` what one write takes, in as few records as they fit in, and says how many
    /// bytes that was.
    ///
    /// # Errors
    /// Where the connection has failed or was closed.
    pub(super) fn seal(
        &mut self,
        slices: &[IoSlice<'_>],
        output: &mut Output,
    ) -> io::Result<usize> {
        self.traffic(|traffic| seal(traffic, slices, output))?
            .map_err(|error| io::Error::new(io::ErrorKind::ConnectionAborted, error))
    }

    /// Lets the word wait for the socket that nothing more will be sent. Says nothing where an alert
    /// has ended the connection already (RFC 8446 section 6.2).
    pub(super) fn close(&mut self) {
        // There is no room, so that it is queued.
        let _ = self.traffic(|traffic| traffic.queue_close_notify(&mut []).is_ok());
        self.collect();
    }

    /// The state in which rustls encrypts.
    fn traffic<T>(
        &mut self,
        encrypt: impl FnOnce(&mut WriteTraffic<'_, ClientConnectionData>) -> T,
    ) -> io::Result<T> {
        loop {
            if let Some(error) = self.failure() {
                return Err(error);
            }
            match self.tls.process_tls_records(&mut self.rest).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => return Ok(encrypt(&mut traffic)),
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.waiting),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                // `open` has gone through all that was complete.
                Ok(ConnectionState::PeerClosed) => self.ended = true,
                Ok(_) => return Err(io::ErrorKind::BrokenPipe.into()),
                Err(error) => self.failed = Some(error),
            }
        }
    }
}

/// What TLS has to say, as tokio-rustls wraps it.
fn invalid(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Puts a queued record behind the others.
fn encode(mut data: EncodeTlsData<'_, ClientConnectionData>, to: &mut Vec<u8>) {
    let before = to.len();
    // The first try has no room and tells the size.
    while let Err(EncodeError::InsufficientSize(size)) =
        data.encode(to.get_mut(before..).unwrap_or_default())
    {
        to.resize(before + size.required_size, 0);
    }
}

/// Goes through `slices` record by record. Only what comes from several slices is copied first.
fn seal(
    traffic: &mut WriteTraffic<'_, ClientConnectionData>,
    slices: &[IoSlice<'_>],
    output: &mut Output,
) -> Result<usize, EncryptError> {
    let mut gathered = std::mem::take(&mut output.gathered);
    let mut left = WRITE;
    let mut slices = slices.iter().filter(|slice| !slice.is_empty()).peekable();
    while let Some(slice) = slices.next() {
        let mut slice = slice.get(..slice.len().min(left)).unwrap_or(slice);
        left -= slice.len();
        let is_last = left == 0 || slices.peek().is_none();
        while !slice.is_empty() {
            let whole = match gathered.is_empty() {
                true if is_last => slice.len(),
                true => slice.len() / RECORD * RECORD,
                false => 0,
            };
            if whole > 0 {
                let (now, later) = slice.split_at(whole);
                encrypt(traffic, now, output)?;
                slice = later;
                continue;
            }
            let (now, later) = slice.split_at(slice.len().min(RECORD - gathered.len()));
            gathered.extend_from_slice(now);
            slice = later;
            if gathered.len() == RECORD {
                encrypt(traffic, &gathered, output)?;
                gathered.clear();
            }
        }
        if left == 0 {
            break;
        }
    }
    if !gathered.is_empty() {
        encrypt(traffic, &gathered, output)?;
    }
    output.gathered = gathered;
    Ok(WRITE - left)
}

fn encrypt(
    traffic: &mut WriteTraffic<'_, ClientConnectionData>,
    plain: &[u8],
    output: &mut Output,
) -> Result<(), EncryptError> {
    let mut least = plain.len();
    loop {
        match traffic.encrypt(plain, output.room(least)) {
            Ok(length) => {
                output.filled(length);
                return Ok(());
            }
            Err(EncryptError::InsufficientSize(size)) if size.required_size > least => {
                least = size.required_size;
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
