//! HTTP/2 without TLS, with prior knowledge: so many streams on so many connections, each asking
//! again as soon as it has its answer.
//!
//! Owns: the frames (RFC 9113) of a client that sends GETs and reads statuses.
//! Never: keeps a compression table: it asks the peer for none (RFC 7541, section 4.2).
//! Called by: `peers-load streams`.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::Timespec;

use crate::args::{Args, Spread};
use crate::steady::ROOM;
use crate::tally::Tally;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
/// The connection's window is opened by this much, and again when half of it is used.
const WINDOW: u32 = 1 << 24;

struct Conn {
    stream: TcpStream,
    out: Vec<u8>,
    input: Vec<u8>,
    next_stream: u32,
    open: HashMap<u32, (Instant, u16)>,
    received: u32,
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = (payload.len() as u32).to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// A header block of indexed names and plain values, which leaves the peer's table alone.
fn block(host: &str, path: &str) -> Vec<u8> {
    let mut out = vec![0x82, 0x86];
    let mut literal = |index: u8, value: &str| {
        out.push(index);
        out.push(value.len() as u8);
        out.extend_from_slice(value.as_bytes());
    };
    literal(0x04, path);
    literal(0x01, host);
    // 58 and 19 of the static table: user-agent, accept.
    out.extend_from_slice(&[0x0f, 58 - 15, 10]);
    out.extend_from_slice(b"peers-load");
    out.extend_from_slice(&[0x0f, 19 - 15, 3]);
    out.extend_from_slice(b"*/*");
    out
}

/// The status, which comes first in a block. RFC 7541, sections 6.1 and 6.2.
fn status(mut block: &[u8]) -> u16 {
    while let [first, rest @ ..] = block
        && first & 0xe0 == 0x20
    {
        block = rest;
    }
    match block {
        [0x88, ..] => 200,
        [0x89, ..] => 204,
        [0x8a, ..] => 206,
        [0x08 | 0x18 | 0x48, 3, digits @ ..] => {
            let text = std::str::from_utf8(digits.get(..3).unwrap_or_default());
            text.ok().and_then(|text| text.parse().ok()).unwrap_or(0)
        }
        // "200" in Huffman's code.
        [0x08 | 0x18 | 0x48, 0x82, 0x10, 0x01, ..] => 200,
        _ => 0,
    }
}

impl Conn {
    fn open(target: std::net::SocketAddr) -> io::Result<Conn> {
        let stream = TcpStream::connect(target)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        // HEADER_TABLE_SIZE 0, ENABLE_PUSH 0, INITIAL_WINDOW_SIZE 1 MiB.
        let settings = [0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 4, 0, 0x10, 0, 0];
        frame(&mut out, SETTINGS, 0, 0, &settings);
        frame(&mut out, WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes());
        Ok(Conn {
            stream,
            out,
            input: Vec::new(),
            next_stream: 1,
            open: HashMap::new(),
            received: 0,
        })
    }

    fn ask(&mut self, block: &[u8]) {
        // END_STREAM and END_HEADERS.
        frame(&mut self.out, HEADERS, 0x5, self.next_stream, block);
        self.open.insert(self.next_stream, (Instant::now(), 0));
        self.next_stream += 2;
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(count) => drop(self.out.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what is there; how many answers ended.
    fn read(&mut self, room: &mut [u8], tally: &mut Tally) -> io::Result<usize> {
        let mut ended = 0;
        loop {
            let count = match self.stream.read(room) {
                Ok(0) => return Err(io::Error::other("the connection was closed")),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(ended),
                Err(error) => return Err(error),
            };
            self.input.extend_from_slice(&room[..count]);
            let input = std::mem::take(&mut self.input);
            let mut rest = input.as_slice();
            while let [a, b, c, kind, flags, s0, s1, s2, s3, behind @ ..] = rest {
                let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
                if behind.len() < length {
                    break;
                }
                let stream = u32::from_be_bytes([s0 & 0x7f, *s1, *s2, *s3]);
                let (payload, next) = behind.split_at(length);
                ended += self.frame(*kind, *flags, stream, payload, tally)?;
                rest = next;
            }
            self.input = rest.to_vec();
            if count < room.len() {
                return Ok(ended);
            }
        }
    }

    fn frame(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
        tally: &mut Tally,
    ) -> io::Result<usize> {
        match kind {
            HEADERS => {
                // Padding and priority, where there are any, stand before the block.
                let skip = usize::from(flags & 0x8 != 0) + if flags & 0x20 != 0 { 5 } else { 0 };
                if let Some((_, seen)) = self.open.get_mut(&stream)
                    && *seen == 0
                {
                    *seen = status(payload.get(skip..).unwrap_or_default());
                }
            }
            DATA => {
                tally.bytes_in += payload.len() as u64;
                self.received += payload.len() as u32;
                if self.received > WINDOW / 2 {
                    let window = self.received.to_be_bytes();
                    frame(&mut self.out, WINDOW_UPDATE, 0, 0, &window);
                    self.received = 0;
                }
            }
            SETTINGS if flags & ACK == 0 => frame(&mut self.out, SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => frame(&mut self.out, PING, ACK, 0, payload),
            RST_STREAM => return Err(io::Error::other("a stream was reset")),
            GOAWAY => return Err(io::Error::other("the peer said GOAWAY")),
            _ => {}
        }
        if (kind == DATA || kind == HEADERS) && flags & END_STREAM != 0 {
            let (since, status) = self.open.remove(&stream).unwrap_or((Instant::now(), 0));
            tally.answered(status, since);
            return Ok(1);
        }
        Ok(0)
    }
}

pub fn run(args: &Args) -> Result<String, String> {
    let target = args.target()?;
    let path = args.path()?;
    let blocks: Vec<Vec<u8>> = args
        .hosts()?
        .iter()
        .map(|host| block(host, &path))
        .collect();
    let streams: usize = args.or("streams", 8)?;
    let mut tally = Tally::new(
        args.pids()?,
        args.seconds("warm", 0.5)?,
        args.seconds("seconds", 3.0)?,
    );
    let mut spread = Spread::new();
    let epoll: OwnedFd = epoll::create(CreateFlags::CLOEXEC).map_err(|error| error.to_string())?;
    let mut conns = Vec::new();
    for slot in 0..args.or("connections", 8usize)? {
        conns.push(begin(&epoll, target, slot).map_err(|error| format!("{target}: {error}"))?);
    }
    for conn in &mut conns {
        (0..streams).for_each(|_| conn.ask(&blocks[spread.next(blocks.len())]));
        conn.flush().map_err(|error| error.to_string())?;
    }
    let mut room = vec![0; ROOM];
    let mut events: Vec<Event> = Vec::with_capacity(256);
    loop {
        let now = Instant::now();
        if tally.over(now)? {
            return tally.report(&[]);
        }
        let sleep = tally.next_edge().saturating_duration_since(now);
        let sleep = Timespec::try_from(sleep).map_err(|error| error.to_string())?;
        events.clear();
        match epoll::wait(
            &epoll,
            rustix::buffer::spare_capacity(&mut events),
            Some(&sleep),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.to_string()),
        }
        for event in &events {
            let slot = event.data.u64() as usize;
            let conn = &mut conns[slot];
            let done = conn.read(&mut room, &mut tally).and_then(|ended| {
                (0..ended).for_each(|_| conn.ask(&blocks[spread.next(blocks.len())]));
                conn.flush()
            });
            if let Err(error) = done {
                tally.failed(error);
                let mut conn = begin(&epoll, target, slot).map_err(|error| error.to_string())?;
                (0..streams).for_each(|_| conn.ask(&blocks[spread.next(blocks.len())]));
                conn.flush().map_err(|error| error.to_string())?;
                conns[slot] = conn;
            }
        }
    }
}

fn begin(epoll: &OwnedFd, target: std::net::SocketAddr, slot: usize) -> io::Result<Conn> {
    let conn = Conn::open(target)?;
    let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
    epoll::add(epoll, &conn.stream, EventData::new_u64(slot as u64), flags)?;
    Ok(conn)
}
