//! One client connection: HTTP/1.1, one request at a time.
//!
//! Owns: the bytes of a request on their way out, and the framing of its answer.
//! Never: reads an answer that is neither empty nor has a Content-Length: the upstream sends no other.
//! Called by: `steady`, `idle`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use crate::tally::Tally;

pub struct Conn {
    pub stream: TcpStream,
    request: usize,
    written: usize,
    upload_left: u64,
    head: Vec<u8>,
    status: u16,
    /// Of the answer's body, once its head is read.
    left: Option<u64>,
    body_begins: bool,
    pub since: Instant,
    pub busy: bool,
}

#[derive(PartialEq, Eq)]
pub enum Progress {
    Waits,
    Answered,
    Closed,
}

/// What is asked, over and over.
pub struct Requests {
    pub heads: Vec<Vec<u8>>,
    /// Bytes of a request's body.
    pub upload: u64,
    pub filler: Vec<u8>,
}

impl Requests {
    pub fn new(hosts: &[String], path: &str, upload: u64, close: bool) -> Requests {
        let connection = if close { "Connection: close\r\n" } else { "" };
        let head = |host: &String| {
            let what = match upload {
                0 => format!("GET {path} HTTP/1.1\r\n"),
                length => format!("PUT {path} HTTP/1.1\r\nContent-Length: {length}\r\n"),
            };
            let rest = "User-Agent: peers-load\r\nAccept: */*\r\n";
            format!("{what}Host: {host}\r\n{rest}{connection}\r\n").into_bytes()
        };
        Requests {
            heads: hosts.iter().map(head).collect(),
            upload,
            filler: vec![b'u'; if upload == 0 { 0 } else { 256 * 1024 }],
        }
    }
}

impl Conn {
    pub fn open(target: SocketAddr) -> io::Result<Conn> {
        let stream = TcpStream::connect(target)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Conn {
            stream,
            request: 0,
            written: 0,
            upload_left: 0,
            head: Vec::new(),
            status: 0,
            left: None,
            body_begins: false,
            since: Instant::now(),
            busy: false,
        })
    }

    pub fn start(
        &mut self,
        requests: &Requests,
        which: usize,
        since: Instant,
        tally: &mut Tally,
    ) -> io::Result<()> {
        self.request = which;
        self.written = 0;
        self.upload_left = requests.upload;
        self.head.clear();
        self.left = None;
        self.since = since;
        self.busy = true;
        self.write(requests, tally)
    }

    pub fn write(&mut self, requests: &Requests, tally: &mut Tally) -> io::Result<()> {
        let head = &requests.heads[self.request];
        loop {
            let behind = self.written < head.len();
            let part = if behind {
                &head[self.written..]
            } else {
                let most = self.upload_left.min(requests.filler.len() as u64) as usize;
                &requests.filler[..most]
            };
            if part.is_empty() {
                return Ok(());
            }
            match self.stream.write(part) {
                Ok(count) if behind => self.written += count,
                Ok(count) => {
                    self.upload_left -= count as u64;
                    tally.bytes_out += count as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads what is there. `ended`: the far end is known to have closed, so it is read to the end.
    pub fn read(
        &mut self,
        room: &mut [u8],
        ended: bool,
        tally: &mut Tally,
    ) -> io::Result<Progress> {
        let mut answered = false;
        loop {
            let count = match self.stream.read(room) {
                Ok(0) if answered => return Ok(Progress::Answered),
                Ok(0) => return Ok(Progress::Closed),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            if self.take(&room[..count], tally)? {
                answered = true;
                self.busy = false;
                tally.answered(self.status, self.since);
            }
            if count < room.len() && !ended {
                break;
            }
        }
        Ok(if answered {
            Progress::Answered
        } else {
            Progress::Waits
        })
    }

    /// Whether the answer is complete.
    fn take(&mut self, bytes: &[u8], tally: &mut Tally) -> io::Result<bool> {
        if !self.busy {
            return Err(io::Error::other("bytes that nobody asked for"));
        }
        let mut body = bytes;
        let joined;
        if self.left.is_none() {
            if !self.head.is_empty() {
                self.head.extend_from_slice(bytes);
                joined = std::mem::take(&mut self.head);
                body = &joined;
            }
            let Some(end) = body.windows(4).position(|four| four == b"\r\n\r\n") else {
                self.head = body.to_vec();
                return Ok(false);
            };
            let (status, length) = head(&body[..end])?;
            self.status = status;
            self.left = Some(length);
            self.body_begins = true;
            body = &body[end + 4..];
        }
        if self.body_begins && !body.is_empty() {
            // The upstream's answer begins with r where the session was resumed.
            tally.resumed += u64::from(body[0] == b'r');
            self.body_begins = false;
        }
        tally.bytes_in += body.len() as u64;
        let left = self.left.unwrap_or_default();
        match left.checked_sub(body.len() as u64) {
            None => Err(io::Error::other("an answer longer than its Content-Length")),
            Some(0) => Ok(true),
            Some(rest) => {
                self.left = Some(rest);
                Ok(false)
            }
        }
    }
}

/// Status and length of the body.
fn head(bytes: &[u8]) -> io::Result<(u16, u64)> {
    let bad = || io::Error::other(String::from_utf8_lossy(bytes).into_owned());
    let text = std::str::from_utf8(bytes).map_err(|_| bad())?;
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.get(9..12))
        .ok_or_else(bad)?;
    let status = status.parse().map_err(|_| bad())?;
    let mut length = None;
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(bad)?;
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse().map_err(|_| bad())?);
        }
    }
    match length {
        Some(length) => Ok((status, length)),
        None if status == 204 || status == 304 => Ok((status, 0)),
        None => Err(bad()),
    }
}
