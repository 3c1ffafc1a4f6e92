//! What a server's record layer sees of a [`Stream`], and what the stream makes of its records.
//!
//! Owns: the tests of `session`, and of `stream` above it, that need a server of which every byte is
//! in hand.
//! Never: part of the product.
//! Called by: tests.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use bytes::Bytes;
use rustls::version::{TLS12, TLS13};
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ServerConnection, SupportedProtocolVersion,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::tls::alert::alert_in;
use crate::tls::buffers::WRITE;
use crate::tls::stream::Stream;
use crate::tls::testing::*;

const BOTH: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];
/// Content types (RFC 8446 section 5.1).
const APPLICATION_DATA: u8 = 23;
const HANDSHAKE: u8 = 22;

/// What lies between the two.
struct Pipe {
    /// One piece for each read of the client; an empty one is the end.
    to_client: VecDeque<Vec<u8>>,
    from_client: Vec<u8>,
    /// Bytes that the socket still takes.
    takes: usize,
    broken: bool,
    /// The client has closed its half of the socket.
    shut: bool,
    reads: usize,
    writes: usize,
}

/// The client's end.
#[derive(Clone)]
struct Socket(Arc<Mutex<Pipe>>);

impl Socket {
    fn pipe<T>(&self, look: impl FnOnce(&mut Pipe) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.pipe(|pipe| {
            let Some(mut piece) = pipe.to_client.pop_front() else {
                return Poll::Pending;
            };
            pipe.reads += 1;
            let rest = piece.split_off(piece.len().min(buf.remaining()));
            if !rest.is_empty() {
                pipe.to_client.push_front(rest);
            }
            buf.put_slice(&piece);
            Poll::Ready(Ok(()))
        })
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.pipe(|pipe| {
            if pipe.broken {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let taken = buf.len().min(pipe.takes);
            if taken == 0 {
                return Poll::Pending;
            }
            pipe.takes -= taken;
            pipe.writes += 1;
            pipe.from_client.extend_from_slice(&buf[..taken]);
            Poll::Ready(Ok(taken))
        })
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all: Vec<u8> = slices
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        self.poll_write(cx, &all)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pipe(|pipe| pipe.shut = true);
        Poll::Ready(Ok(()))
    }
}

/// An open connection, with every byte of it in hand.
struct Open {
    stream: Stream<Socket>,
    socket: Socket,
    server: ServerConnection,
}

/// Content type and length of each record.
fn records(mut bytes: &[u8]) -> Vec<(u8, usize)> {
    let mut found = Vec::new();
    while let [kind, 3, _, high, low, ..] = *bytes {
        let length = usize::from(u16::from_be_bytes([high, low]));
        found.push((kind, length));
        bytes = &bytes[5 + length..];
    }
    assert!(bytes.is_empty(), "a record is cut off");
    found
}

/// All that the server wants to send.
fn said(server: &mut ServerConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while server.wants_write() {
        server.write_tls(&mut bytes).unwrap();
    }
    bytes
}

fn hear(server: &mut ServerConnection, mut bytes: &[u8]) -> Result<Vec<u8>, rustls::Error> {
    let mut plain = Vec::new();
    while !bytes.is_empty() {
        server.read_tls(&mut bytes).unwrap();
        let state = server.process_new_packets()?;
        let mut more = vec![0; state.plaintext_bytes_to_read()];
        server.reader().read_exact(&mut more).unwrap();
        plain.extend(more);
    }
    Ok(plain)
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

impl Open {
    fn new(version: &'static SupportedProtocolVersion) -> Open {
        Open::with(version, |_| ())
    }

    /// `change` is for the server. The server's flights come as they are.
    fn with(
        version: &'static SupportedProtocolVersion,
        change: impl FnOnce(&mut rustls::ServerConfig),
    ) -> Open {
        Open::through(version, change, |flight| vec![flight])
    }

    /// `cut` cuts each flight of the server into reads.
    fn through(
        version: &'static SupportedProtocolVersion,
        change: impl FnOnce(&mut rustls::ServerConfig),
        cut: impl Fn(Vec<u8>) -> Vec<Vec<u8>>,
    ) -> Open {
        Open::made(version, change, cut, false)
    }

    /// One whose client holds its last flight back until it writes.
    fn held(version: &'static SupportedProtocolVersion) -> Open {
        Open::made(version, |_| (), |flight| vec![flight], true)
    }

    fn made(
        version: &'static SupportedProtocolVersion,
        change: impl FnOnce(&mut rustls::ServerConfig),
        cut: impl Fn(Vec<u8>) -> Vec<Vec<u8>>,
        hold: bool,
    ) -> Open {
        let ca = Ca::new("Bank CA");
        let client = ca.leaf("shop.example");
        let tls = client_tls(&spec(), &credential(Some(&client), &[&ca.der], &[]));
        let mut config = Server::with(&ca.leaf(HOST), &[version], Some(&ca)).config;
        config.enable_secret_extraction = true;
        change(&mut config);
        let mut server = ServerConnection::new(Arc::new(config)).unwrap();
        let socket = Socket(Arc::new(Mutex::new(Pipe {
            to_client: VecDeque::new(),
            from_client: Vec::new(),
            takes: usize::MAX,
            broken: false,
            shut: false,
            reads: 0,
            writes: 0,
        })));
        let through = socket.clone();
        let mut connecting = pin!(async {
            match hold {
                true => tls.connect_to_write(HOST, through, false).await,
                false => tls.connect(HOST, through).await,
            }
        });
        let stream = loop {
            let connected = connecting.as_mut().poll(&mut context());
            let heard = socket.pipe(|pipe| std::mem::take(&mut pipe.from_client));
            hear(&mut server, &heard).unwrap();
            let flight = said(&mut server);
            if !flight.is_empty() {
                socket.pipe(|pipe| pipe.to_client.extend(cut(flight)));
            }
            if let Poll::Ready(connected) = connected {
                break connected.map_err(|error| error.to_string()).unwrap().stream;
            }
        };
        let mut open = Open {
            stream,
            socket,
            server,
        };
        // Tickets come behind the handshake.
        while open.socket.pipe(|pipe| !pipe.to_client.is_empty()) {
            assert!(open.chunk().is_pending());
        }
        open
    }

    /// What the server sends for these bytes.
    fn sealed(&mut self, plain: &[u8]) -> Vec<u8> {
        self.server.writer().write_all(plain).unwrap();
        said(&mut self.server)
    }

    fn arrives(&self, piece: impl Into<Vec<u8>>) {
        self.socket
            .pipe(|pipe| pipe.to_client.push_back(piece.into()));
    }

    fn chunk(&mut self) -> Poll<io::Result<Bytes>> {
        self.stream.poll_chunk(&mut context())
    }

    /// What has come, whole.
    fn read(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while let Poll::Ready(chunk) = self.chunk() {
            all.extend(chunk.unwrap());
        }
        all
    }

    fn ends_with(&mut self) -> io::Error {
        match self.chunk() {
            Poll::Ready(Err(error)) => error,
            other => panic!("it goes on: {other:?}"),
        }
    }

    fn write(&mut self, slices: &[&[u8]]) -> Poll<io::Result<usize>> {
        let slices: Vec<_> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
        Pin::new(&mut self.stream).poll_write_vectored(&mut context(), &slices)
    }

    /// What the server reads of what the client has sent.
    fn heard(&mut self) -> Vec<u8> {
        let sent = self.sent();
        hear(&mut self.server, &sent).unwrap()
    }

    fn writes(&self) -> usize {
        self.socket.pipe(|pipe| pipe.writes)
    }

    /// What the client has sent.
    fn sent(&mut self) -> Vec<u8> {
        self.socket
            .pipe(|pipe| std::mem::take(&mut pipe.from_client))
    }

    /// Nothing that was read or is to be sent is kept.
    fn is_without_buffers(&self) -> bool {
        self.stream.kept() == 0
    }

    /// A server that breaks the rules: its records are made by hand from now on.
    fn forged(self) -> (Stream<Socket>, Socket, Forger) {
        let secrets = self.server.dangerous_extract_secrets().unwrap();
        let (number, ConnectionTrafficSecrets::Aes256Gcm { key, iv }) = secrets.tx else {
            panic!("another cipher");
        };
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).unwrap());
        let iv = iv.as_ref().try_into().unwrap();
        (self.stream, self.socket, Forger { key, iv, number })
    }
}

/// Encrypts as TLS 1.3 does, whatever it is told to (RFC 8446 section 5.2).
struct Forger {
    key: LessSafeKey,
    iv: [u8; 12],
    number: u64,
}

impl Forger {
    fn record(&mut self, kind: u8, plain: &[u8]) -> Vec<u8> {
        let mut nonce = self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(self.number.to_be_bytes()) {
            *byte ^= number;
        }
        self.number += 1;
        let mut inner = [plain, &[kind]].concat();
        let length = u16::try_from(inner.len() + 16).unwrap().to_be_bytes();
        let head = [APPLICATION_DATA, 3, 3, length[0], length[1]];
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = self
            .key
            .seal_in_place_append_tag(nonce, Aad::from(head), &mut inner);
        sealed.unwrap();
        [&head[..], &inner].concat()
    }
}

#[test]
fn records_cut_at_every_byte_are_read_whole() {
    for version in BOTH {
        let mut open = Open::new(version);
        let length = [open.sealed(b"hello, "), open.sealed(b"world")].concat();
        open.arrives(length.clone());
        assert_eq!(open.read(), b"hello, world");
        for at in 1..length.len() {
            let mut bytes = [open.sealed(b"hello, "), open.sealed(b"world")].concat();
            let second = bytes.split_off(at);
            open.arrives(bytes);
            open.arrives(second);
            assert_eq!(open.read(), b"hello, world", "cut at {at}");
            assert!(open.is_without_buffers());
        }
    }
}

#[test]
fn a_handshake_that_comes_byte_by_byte_is_read_whole() {
    for version in BOTH {
        let bytewise = |flight: Vec<u8>| flight.into_iter().map(|byte| vec![byte]).collect();
        let mut open = Open::through(version, |_| (), bytewise);
        let bytes = open.sealed(b"hello");
        open.arrives(bytes);
        assert_eq!(open.read(), b"hello");
    }
}

#[test]
fn each_flight_of_the_handshake_is_one_write() {
    for version in BOTH {
        let open = Open::new(version);
        assert_eq!(open.socket.pipe(|pipe| pipe.writes), 2);
    }
}

#[test]
fn a_flight_that_is_held_back_leaves_with_the_first_write() {
    let mut open = Open::held(&TLS13);
    assert_eq!(open.writes(), 1);
    assert!(open.server.is_handshaking());
    // A look does not send it.
    assert!(open.stream.poll_look(&mut context()).is_pending());
    assert_eq!(open.writes(), 1);
    assert!(matches!(open.write(&[b"GET ", b"/"]), Poll::Ready(Ok(5))));
    assert_eq!(open.writes(), 2);
    assert_eq!(open.heard(), b"GET /");
    assert!(open.is_without_buffers());
    assert!(matches!(open.write(&[b"more"]), Poll::Ready(Ok(4))));
    assert_eq!((open.writes(), open.heard()), (3, b"more".to_vec()));
}

#[test]
fn a_flight_that_is_held_back_leaves_where_nobody_writes() {
    let by_reading = |open: &mut Open| assert!(open.chunk().is_pending());
    let by_flushing = |open: &mut Open| {
        assert!(
            Pin::new(&mut open.stream)
                .poll_flush(&mut context())
                .is_ready()
        );
    };
    let by_closing = |open: &mut Open| {
        assert!(
            Pin::new(&mut open.stream)
                .poll_shutdown(&mut context())
                .is_ready()
        );
    };
    for leave in [by_reading, by_flushing, by_closing] {
        let mut open = Open::held(&TLS13);
        assert!(open.server.is_handshaking());
        leave(&mut open);
        assert_eq!((open.writes(), open.heard()), (2, Vec::new()));
        assert!(!open.server.is_handshaking());
    }
}

#[test]
fn a_flight_that_is_not_held_back_has_left() {
    let open = Open::new(&TLS13);
    assert!(!open.server.is_handshaking());
    // Under TLS 1.2 the server has the last word, and nothing is held back.
    let open = Open::held(&TLS12);
    assert_eq!(open.writes(), 2);
    assert!(!open.server.is_handshaking());
}

#[test]
fn of_a_held_flight_and_a_write_nothing_is_lost_wherever_the_socket_is_full() {
    for room in (0..800).step_by(13) {
        let mut open = Open::held(&TLS13);
        open.socket.pipe(|pipe| pipe.takes = room);
        assert!(matches!(open.write(&[b"hello"]), Poll::Ready(Ok(5))));
        if open.socket.pipe(|pipe| pipe.takes == 0) {
            // What waits is bounded: the next write waits for it.
            assert!(open.write(&[b"world"]).is_pending());
        }
        open.socket.pipe(|pipe| pipe.takes = usize::MAX);
        assert!(
            Pin::new(&mut open.stream)
                .poll_flush(&mut context())
                .is_ready()
        );
        assert_eq!(open.heard(), b"hello", "{room}");
    }
}

#[test]
fn a_look_finds_that_the_server_has_closed_and_sends_nothing() {
    let mut open = Open::held(&TLS13);
    open.arrives([]);
    assert!(matches!(
        open.stream.poll_look(&mut context()),
        Poll::Ready(Err(_))
    ));
    assert_eq!(open.writes(), 1);
}

#[test]
fn a_held_flight_that_cannot_be_sent_is_told_by_the_write() {
    let mut open = Open::held(&TLS13);
    open.socket.pipe(|pipe| pipe.broken = true);
    assert!(open.chunk().is_pending());
    let Poll::Ready(Err(error)) = open.write(&[b"hello"]) else {
        panic!("it was written");
    };
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn several_records_of_one_read_are_one_piece() {
    for version in BOTH {
        let mut open = Open::new(version);
        let plain: Vec<u8> = (0..50_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let bytes = open.sealed(&plain);
        assert_eq!(records(&bytes).len(), 4);
        open.arrives(bytes);
        let Poll::Ready(Ok(piece)) = open.chunk() else {
            panic!("nothing is read");
        };
        assert_eq!(piece, plain);
        assert!(open.chunk().is_pending());
    }
}

#[test]
fn a_reader_of_few_bytes_gets_all_of_them_in_order() {
    let mut open = Open::new(&TLS13);
    let plain: Vec<u8> = (0..40_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let bytes = open.sealed(&plain);
    open.arrives(bytes);
    let mut read = Vec::new();
    let mut memory = [0; 1000];
    loop {
        let mut buf = ReadBuf::new(&mut memory);
        match Pin::new(&mut open.stream).poll_read(&mut context(), &mut buf) {
            Poll::Ready(done) => done.unwrap(),
            Poll::Pending => break,
        }
        read.extend_from_slice(buf.filled());
    }
    assert_eq!(read, plain);
    assert!(open.is_without_buffers());
}

#[test]
fn a_head_and_the_first_of_its_body_leave_in_one_record_and_one_write() {
    for version in BOTH {
        let mut open = Open::new(version);
        let writes = open.socket.pipe(|pipe| pipe.writes);
        let (head, body) = (vec![b'h'; 300], vec![b'b'; 2000]);
        assert!(matches!(
            open.write(&[&head, b"", &body]),
            Poll::Ready(Ok(2300))
        ));
        assert_eq!(open.socket.pipe(|pipe| pipe.writes), writes + 1);
        let sent = open.sent();
        assert_eq!(records(&sent).len(), 1);
        let heard = hear(&mut open.server, &sent).unwrap();
        assert_eq!(heard, [head, body].concat());
    }
}

#[test]
fn slices_fill_records_whatever_their_borders() {
    let mut open = Open::new(&TLS13);
    let slices = [vec![1; 300], vec![2; 20_000], vec![3; 5], vec![4; 30_000]];
    let whole = slices.concat();
    let slices: Vec<&[u8]> = slices.iter().map(Vec::as_slice).collect();
    assert!(matches!(open.write(&slices), Poll::Ready(Ok(50_305))));
    let sent = open.sent();
    let added = 17;
    let lengths: Vec<_> = records(&sent).iter().map(|(_, n)| n - added).collect();
    assert_eq!(lengths, [16_384, 16_384, 16_384, 1153]);
    assert_eq!(hear(&mut open.server, &sent).unwrap(), whole);
}

#[test]
fn one_write_takes_64_kib_at_most_and_the_next_waits_for_the_socket() {
    for version in BOTH {
        let mut open = Open::new(version);
        let plain: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        open.socket.pipe(|pipe| pipe.takes = 10);
        assert!(matches!(open.write(&[&plain]), Poll::Ready(Ok(WRITE))));
        assert!(open.write(&[&plain[WRITE..]]).is_pending());
        assert!((WRITE..WRITE + 1024).contains(&open.stream.kept()));
        open.socket.pipe(|pipe| pipe.takes = usize::MAX);
        let flushed = Pin::new(&mut open.stream).poll_flush(&mut context());
        assert!(flushed.is_ready());
        assert!(open.is_without_buffers());
        assert!(matches!(
            open.write(&[&plain[WRITE..]]),
            Poll::Ready(Ok(WRITE))
        ));
        let sent = open.sent();
        let heard = hear(&mut open.server, &sent).unwrap();
        assert_eq!(heard, plain[..2 * WRITE]);
    }
}

#[test]
fn a_write_of_nothing_sends_nothing() {
    let mut open = Open::new(&TLS13);
    assert!(matches!(open.write(&[b"", b""]), Poll::Ready(Ok(0))));
    assert!(open.sent().is_empty());
}

#[test]
fn an_idle_connection_keeps_no_buffer_and_one_that_waits_keeps_what_came() {
    for version in BOTH {
        let mut open = Open::new(version);
        assert!(open.is_without_buffers());
        let mut bytes = open.sealed(&[7; 1000]);
        let rest = bytes.split_off(600);
        open.arrives(bytes);
        assert!(open.chunk().is_pending());
        assert_eq!(open.stream.kept(), 600);
        open.arrives(rest);
        assert_eq!(open.read(), [7; 1000]);
        assert!(open.is_without_buffers());
    }
}

#[test]
fn new_keys_of_the_server_are_followed_and_answered() {
    let mut open = Open::new(&TLS13);
    for round in 0..40_u8 {
        open.server.refresh_traffic_keys().unwrap();
        let bytes = open.sealed(&[round]);
        open.arrives(bytes);
        assert_eq!(open.read(), [round]);
        assert!(matches!(open.write(&[&[round]]), Poll::Ready(Ok(1))));
        let sent = open.sent();
        // Our own new keys are announced first.
        assert_eq!(records(&sent).len(), 2);
        assert_eq!(hear(&mut open.server, &sent).unwrap(), [round]);
    }
}

#[test]
fn an_end_with_close_notify_is_an_end_and_one_without_is_none() {
    for version in BOTH {
        let mut open = Open::new(version);
        let mut bytes = open.sealed(b"last");
        open.server.send_close_notify();
        bytes.extend(said(&mut open.server));
        // What follows the end is not looked at (RFC 8446 section 6.1).
        bytes.extend(b"garbage");
        open.arrives(bytes);
        assert!(matches!(open.chunk(), Poll::Ready(Ok(piece)) if piece == b"last"[..]));
        for _ in 0..2 {
            assert!(matches!(open.chunk(), Poll::Ready(Ok(piece)) if piece.is_empty()));
        }
        // Our half is still open.
        assert!(matches!(open.write(&[b"more"]), Poll::Ready(Ok(4))));

        let mut open = Open::new(version);
        let mut bytes = open.sealed(b"last");
        let cut = open.sealed(b"lost");
        bytes.extend(&cut[..cut.len() - 1]);
        open.arrives(bytes);
        open.arrives("");
        assert!(matches!(open.chunk(), Poll::Ready(Ok(piece)) if piece == b"last"[..]));
        for _ in 0..2 {
            assert_eq!(open.ends_with().kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}

#[test]
fn our_end_is_told_with_close_notify_once() {
    for version in BOTH {
        let mut open = Open::new(version);
        for _ in 0..2 {
            let shut = Pin::new(&mut open.stream).poll_shutdown(&mut context());
            assert!(shut.is_ready());
        }
        let mut sent = &open.sent()[..];
        assert_eq!(records(sent).len(), 1);
        open.server.read_tls(&mut sent).unwrap();
        let state = open.server.process_new_packets().unwrap();
        assert!(state.peer_has_closed());
        assert!(open.socket.pipe(|pipe| pipe.shut));
    }
}

#[test]
fn a_farewell_is_close_notify_once_and_leaves_the_socket_to_its_owner() {
    for version in BOTH {
        let mut open = Open::new(version);
        for _ in 0..2 {
            assert!(open.stream.poll_farewell(&mut context()).is_ready());
        }
        let mut sent = &open.sent()[..];
        assert_eq!(records(sent).len(), 1);
        open.server.read_tls(&mut sent).unwrap();
        let state = open.server.process_new_packets().unwrap();
        assert!(state.peer_has_closed());
        assert!(!open.socket.pipe(|pipe| pipe.shut));
    }
}

#[test]
fn an_alert_behind_an_answer_is_told_to_the_reader_after_the_answer_and_to_the_writer() {
    let (mut stream, socket, mut forger) = Open::new(&TLS13).forged();
    // Fatal, unknown_ca.
    let bytes = [
        forger.record(APPLICATION_DATA, b"last"),
        forger.record(21, &[2, 48]),
    ]
    .concat();
    socket.pipe(|pipe| pipe.to_client.push_back(bytes));
    let mut cx = context();
    assert!(matches!(stream.poll_chunk(&mut cx), Poll::Ready(Ok(piece)) if piece == b"last"[..]));
    for _ in 0..2 {
        let Poll::Ready(Err(error)) = stream.poll_chunk(&mut cx) else {
            panic!("no alert is told");
        };
        assert_eq!(alert_in(&error), Some(AlertDescription::UnknownCA));
        let Poll::Ready(Err(error)) = Pin::new(&mut stream).poll_write(&mut cx, b"x") else {
            panic!("it is written on");
        };
        assert_eq!(alert_in(&error), Some(AlertDescription::UnknownCA));
    }
    assert!(Pin::new(&mut stream).poll_shutdown(&mut cx).is_ready());
}

#[test]
fn garbage_is_answered_with_an_alert_and_ends_the_connection() {
    for (version, garbage, expected) in [
        (
            &TLS12,
            &b"\x17\x03\x03\x00\x20 this record was never encrypted"[..],
            AlertDescription::BadRecordMac,
        ),
        (
            &TLS13,
            b"\x17\x03\x03\x00\x20 this record was never encrypted",
            AlertDescription::BadRecordMac,
        ),
        (
            &TLS13,
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            AlertDescription::DecodeError,
        ),
    ] {
        let mut open = Open::new(version);
        let mut bytes = open.sealed(b"good");
        bytes.extend(garbage);
        open.arrives(bytes);
        assert!(matches!(open.chunk(), Poll::Ready(Ok(piece)) if piece == b"good"[..]));
        assert_eq!(open.ends_with().kind(), io::ErrorKind::InvalidData);
        let sent = open.sent();
        let error = hear(&mut open.server, &sent).unwrap_err();
        assert_eq!(error, rustls::Error::AlertReceived(expected));
        assert!(matches!(open.write(&[b"more"]), Poll::Ready(Err(_))));
        assert!(open.sent().is_empty());
        assert!(open.is_without_buffers());
    }
}

#[test]
fn empty_records_without_end_are_not_read_without_end() {
    let (mut stream, socket, mut forger) = Open::new(&TLS13).forged();
    let bytes: Vec<u8> = (0..100)
        .flat_map(|_| forger.record(APPLICATION_DATA, b""))
        .collect();
    socket.pipe(|pipe| pipe.to_client.push_back(bytes));
    let Poll::Ready(Err(error)) = stream.poll_chunk(&mut context()) else {
        panic!("they are read");
    };
    assert!(
        error.to_string().contains("TooManyEmptyFragments"),
        "{error}"
    );
    assert_eq!(stream.kept(), 0);
}

#[test]
fn tickets_without_end_neither_hold_the_thread_nor_grow_us() {
    let (mut stream, socket, mut forger) = Open::new(&TLS13).forged();
    // Lifetime and age, a nonce, the ticket, no extensions (RFC 8446 section 4.6.1).
    let body = [&[0, 0, 1, 0, 0, 0, 0, 0, 1, 9, 0, 4][..], b"abcd", &[0, 0]].concat();
    let head = [4, 0, 0, u8::try_from(body.len()).unwrap()];
    let ticket = [&head[..], &body].concat();
    for _ in 0..1000 {
        let piece = forger.record(HANDSHAKE, &ticket);
        socket.pipe(|pipe| pipe.to_client.push_back(piece));
    }
    let before = socket.pipe(|pipe| pipe.reads);
    assert!(stream.poll_chunk(&mut context()).is_pending());
    assert_eq!(socket.pipe(|pipe| pipe.reads) - before, 16);
    while socket.pipe(|pipe| !pipe.to_client.is_empty()) {
        assert!(stream.poll_chunk(&mut context()).is_pending());
        assert_eq!(stream.kept(), 0);
    }
}

#[test]
fn a_message_without_end_is_not_kept_without_end() {
    let (mut stream, socket, mut forger) = Open::new(&TLS13).forged();
    // A ticket of 65,535 bytes, of which each record brings one.
    let mut records = forger.record(HANDSHAKE, &[4, 0, 0xff, 0xff]);
    let mut reads = 0;
    let error = loop {
        socket.pipe(|pipe| pipe.to_client.push_back(std::mem::take(&mut records)));
        match stream.poll_chunk(&mut context()) {
            Poll::Pending => assert!(stream.kept() <= 0xffff),
            Poll::Ready(Err(error)) => break error,
            Poll::Ready(Ok(_)) => panic!("it is taken"),
        }
        records.extend((0..100).flat_map(|_| forger.record(HANDSHAKE, &[0])));
        reads += 1;
        assert!(reads < 100);
    };
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(stream.kept(), 0);
}
