//! Exchanges over scripted connections: every answer in every split, and every way to break off.
//!
//! Owns: promises that take more than one file of this folder.
//! Never: opens a socket.
//! Called by: `cargo test`.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method, Request};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::client::Http1;
use super::exchange::{Answering, Begun, Unanswered, ask};
use super::fault::Fault;
use super::tunnel::Tunnel;
use crate::model::EndpointAddr;
use crate::upstream::body::RequestBody;
use crate::upstream::error::BodyError;
use crate::upstream::lane::Ends;
use crate::upstream::transport::Chunks;
use crate::upstream::wire::{Link, Wire};

/// What the server does next, as far as reading sees it.
#[derive(Clone, Debug)]
enum Turn {
    Says(Bytes),
    Ends,
    Breaks,
}

/// What both ends of a script share.
#[derive(Default)]
struct Shared {
    turns: VecDeque<Turn>,
    /// One entry for each write.
    writes: Vec<Vec<u8>>,
    /// How many more bytes are taken.
    room: usize,
    refuses: bool,
    polite: bool,
}

#[derive(Clone, Default)]
struct Script(Arc<Mutex<Shared>>);

impl Script {
    fn with<T>(&self, of: impl FnOnce(&mut Shared) -> T) -> T {
        of(&mut self.0.lock().unwrap())
    }

    fn says(&self, text: impl AsRef<[u8]>) {
        let says = Turn::Says(Bytes::copy_from_slice(text.as_ref()));
        self.with(|shared| shared.turns.push_back(says));
    }

    fn written(&self) -> String {
        let bytes = self.with(|shared| shared.writes.concat());
        String::from_utf8(bytes).unwrap()
    }
}

impl Chunks for Script {
    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        match self.with(|shared| shared.turns.pop_front()) {
            Some(Turn::Says(bytes)) => Poll::Ready(Ok(bytes)),
            Some(Turn::Ends) => Poll::Ready(Ok(Bytes::new())),
            Some(Turn::Breaks) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            None => Poll::Pending,
        }
    }
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_chunk(cx).map_ok(|bytes| buf.put_slice(&bytes))
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.with(|shared| {
            if shared.refuses {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let mut bytes: Vec<u8> = slices.iter().flat_map(|s| s.iter().copied()).collect();
            bytes.truncate(shared.room);
            if bytes.is_empty() {
                return Poll::Pending;
            }
            shared.room -= bytes.len();
            let count = bytes.len();
            shared.writes.push(bytes);
            Poll::Ready(Ok(count))
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|shared| shared.polite = true);
        Poll::Ready(Ok(()))
    }
}

fn connection(script: &Script) -> Http1<Script> {
    let endpoint = EndpointAddr("192.0.2.1:80".parse().unwrap());
    let filed = Ends {
        to: endpoint,
        from: None,
    };
    let link = Link::new(1, endpoint, (filed, "".into()), None, None, Arc::default());
    let wire = Wire::new(script.clone(), Arc::new(link), None, Box::new(|| ()));
    Http1::new(wire)
}

/// A server that takes every byte.
fn open() -> Script {
    let script = Script::default();
    script.with(|shared| shared.room = usize::MAX);
    script
}

fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut cx = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut cx) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

fn request(method: Method) -> Request<RequestBody> {
    let request = Request::builder().method(method).uri("/x");
    let request = request.header("host", "bank.example");
    request.body(RequestBody::Empty).unwrap()
}

fn post(headers: &[(&str, &str)], frames: Vec<Frame<Bytes>>) -> Request<RequestBody> {
    let frames = stream::iter(frames.into_iter().map(Ok::<_, BodyError>));
    let mut request = Request::post("/x").header("host", "bank.example");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = RequestBody::Stream(Box::pin(StreamBody::new(frames)));
    request.body(body).unwrap()
}

fn data(text: &str) -> Frame<Bytes> {
    Frame::data(Bytes::copy_from_slice(text.as_bytes()))
}

fn begun(
    script: &Script,
    request: impl Into<crate::message::Request<RequestBody>>,
) -> Result<Begun<Script>, String> {
    let asked = now(ask(connection(script), request.into(), false)).expect("it waits");
    asked.map_err(|(_, unanswered)| match unanswered {
        Unanswered::Unsendable(_, words) => words.to_owned(),
        Unanswered::Broken(fault) => fault.to_string(),
    })
}

/// All that there is to know of an answer.
#[derive(Clone, Debug, PartialEq)]
struct Whole {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
    keep: bool,
}

fn rest(answering: &mut Answering<Script>) -> Result<(Vec<u8>, Option<HeaderMap>), String> {
    let (mut body, mut trailers) = (Vec::new(), None);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        match answering.poll_frame(&mut cx) {
            Poll::Pending => return Err("it waits".to_owned()),
            Poll::Ready(None) => return Ok((body, trailers)),
            Poll::Ready(Some(Err(fault))) => return Err(fault.to_string()),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    assert!(!data.is_empty());
                    body.extend_from_slice(&data);
                }
                Err(frame) => trailers = frame.into_trailers().ok(),
            },
        }
        if answering.is_ended() {
            return Ok((body, trailers));
        }
    }
}

fn answer_to(method: Method, turns: Vec<Turn>) -> Result<Whole, String> {
    let script = open();
    script.with(|shared| shared.turns = turns.into());
    let mut begun = begun(&script, request(method))?;
    let (body, trailers) = match begun.answering.whole() {
        Some(data) => (data.to_vec(), None),
        None => rest(&mut begun.answering)?,
    };
    Ok(Whole {
        status: begun.response.status.as_u16(),
        headers: begun.response.headers.clone().into(),
        body,
        trailers,
        keep: begun.answering.spend().into_connection().is_some(),
    })
}

fn in_one(text: &str) -> Vec<Turn> {
    vec![Turn::Says(Bytes::copy_from_slice(text.as_bytes()))]
}

fn get(text: &str) -> Result<Whole, String> {
    answer_to(Method::GET, in_one(text))
}

/// Answers that are whole without an end of the connection.
const WHOLE: [&str; 9] = [
    "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\nSet-Cookie: a\r\nset-cookie: b\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;a=\"b\"\r\na\r\n0A \r\n0123456789\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\nsum: 7\r\nB: c\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 404 \r\ncontent-length: 2\r\n\r\nno",
    "\r\nHTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.1 304 Not Modified\r\ncontent-length: 900\r\netag: x\r\n\r\n",
    "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 3\r\n\r\nold",
];

#[test]
fn an_answer_is_the_same_split_at_any_byte_or_at_every_one() {
    for text in WHOLE {
        let whole = get(text).unwrap();
        assert!(whole.keep, "{text:?}");
        let bytes = Bytes::from(text);
        for at in 1..bytes.len() {
            let turns = [bytes.slice(..at), bytes.slice(at..)].map(Turn::Says);
            let got = answer_to(Method::GET, turns.to_vec());
            assert_eq!(got.as_ref(), Ok(&whole), "{text:?} at {at}");
        }
        let each = (0..bytes.len()).map(|at| Turn::Says(bytes.slice(at..=at)));
        assert_eq!(answer_to(Method::GET, each.collect()), Ok(whole));
    }
}

proptest! {
    #[test]
    fn an_answer_is_the_same_in_any_split(
        which in 0..WHOLE.len(),
        mut cuts in proptest::collection::vec(0_usize..200, 0..12),
    ) {
        let bytes = Bytes::from(WHOLE[which]);
        cuts.retain(|cut| *cut > 0 && *cut < bytes.len());
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        cuts.dedup();
        let pieces = cuts.windows(2).map(|cut| Turn::Says(bytes.slice(cut[0]..cut[1])));
        prop_assert_eq!(answer_to(Method::GET, pieces.collect()), get(WHOLE[which]));
    }

    #[test]
    fn nothing_that_a_server_sends_makes_it_fail_otherwise_than_in_words(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        behind_a_head in any::<bool>(),
    ) {
        let mut turns = Vec::new();
        if behind_a_head {
            turns = in_one("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        }
        turns.extend(bytes.chunks(7).map(|piece| Turn::Says(Bytes::copy_from_slice(piece))));
        turns.push(Turn::Ends);
        let _ = answer_to(Method::GET, turns);
    }
}

#[test]
fn fields_and_trailers_come_as_they_were_sent() {
    let whole = get(WHOLE[1]).unwrap();
    assert_eq!((whole.status, &whole.body[..]), (200, &b"hello"[..]));
    let cookies: Vec<_> = whole.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a", "b"]);
    let trailers = get(WHOLE[4]).unwrap().trailers.unwrap();
    assert_eq!(
        (&trailers["sum"], &trailers["b"]),
        (&"7".parse().unwrap(), &"c".parse().unwrap())
    );
    assert_eq!(get(WHOLE[5]).unwrap().status, 404);
}

#[test]
fn a_length_that_is_said_twice_is_said_once() {
    for lines in [
        "content-length: 2\r\ncontent-length: 2",
        "content-length: 2, 2",
    ] {
        let whole = get(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\nok")).unwrap();
        let lengths: Vec<_> = whole.headers.get_all("content-length").iter().collect();
        assert_eq!(lengths, ["2"]);
        assert_eq!(whole.body, b"ok");
    }
}

#[test]
fn an_answer_to_head_has_no_body_whatever_it_says() {
    for text in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
    ] {
        let whole = answer_to(Method::HEAD, in_one(text)).unwrap();
        assert!(whole.keep && whole.body.is_empty(), "{text:?}");
    }
}

#[test]
fn what_comes_behind_an_answer_ends_the_connection_and_is_not_passed_on() {
    for text in WHOLE {
        let whole = get(&format!("{text}HTTP/1.1 200 OK\r\n\r\n")).unwrap();
        assert!(!whole.keep, "{text:?}");
        assert_eq!(whole.body, get(text).unwrap().body);
    }
}

#[test]
fn a_connection_persists_by_the_rules_and_not_otherwise() {
    for (version, field, keep) in [
        ("1.1", "a: b", true),
        ("1.1", "connection: a, Close", false),
        ("1.1", "connection: close\r\nconnection: keep-alive", false),
        ("1.0", "a: b", false),
        ("1.0", "connection: Keep-Alive", true),
    ] {
        let text = format!("HTTP/{version} 200 OK\r\n{field}\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(get(&text).unwrap().keep, keep, "{text:?}");
    }
}

#[test]
fn an_answer_without_length_is_whole_only_where_the_connection_ends_properly() {
    let head = "HTTP/1.1 200 OK\r\n\r\nal";
    for (last, whole) in [(Turn::Ends, true), (Turn::Breaks, false)] {
        let mut turns = in_one(head);
        turns.extend(in_one("l"));
        turns.push(last);
        let got = answer_to(Method::GET, turns);
        assert_eq!(got.is_ok(), whole, "{got:?}");
        if let Ok(got) = got {
            assert!(!got.keep && got.body == b"all");
        }
    }
    assert_eq!(get(head), Err("it waits".to_owned()));
}

#[test]
fn an_answer_that_is_cut_short_is_never_whole() {
    for text in &WHOLE[1..5] {
        let bytes = Bytes::from(*text);
        for at in 0..bytes.len() {
            let turns = vec![Turn::Says(bytes.slice(..at)), Turn::Ends];
            // An empty piece is the end itself.
            let got = answer_to(Method::GET, turns);
            assert!(got.is_err(), "{text:?} at {at}: {got:?}");
        }
    }
}

#[test]
fn what_is_not_http_is_refused_with_its_words() {
    let field = |line: &str| format!("HTTP/1.1 200 OK\r\n{line}\r\n\r\nx");
    for (text, words) in [
        ("220 mail.example ESMTP\r\n\r\n".to_owned(), "version"),
        ("\x15\x03\x01\x00\x02\x02\x46".to_owned(), "version"),
        ("HTTP/2.0 200 OK\r\n\r\n".to_owned(), "version"),
        ("HTTP/1.1 2x0 OK\r\n\r\n".to_owned(), "status"),
        ("HTTP/1.1 099 OK\r\n\r\n".to_owned(), "status"),
        (field("bad header: x"), "header name"),
        (field("bad : x"), "header name"),
        (field("a: b\r\n c"), "header"),
        (field("a: b\0"), "header value"),
        (
            field("content-length: 1\r\ncontent-length: 2"),
            "Content-Length",
        ),
        (field("content-length: 1, 2"), "Content-Length"),
        (field("content-length: +1"), "Content-Length"),
        (field("content-length: "), "Content-Length"),
        (
            field("content-length: 99999999999999999999"),
            "Content-Length",
        ),
        (
            field("content-length: 1\r\ntransfer-encoding: chunked"),
            "both",
        ),
        (field("transfer-encoding: gzip, chunked"), "chunked"),
        (
            field("transfer-encoding: chunked\r\ntransfer-encoding: chunked"),
            "chunked",
        ),
        (field("transfer-encoding: identity"), "chunked"),
        (
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(),
            "Transfer-Encoding",
        ),
        ("HTTP/1.1 101 S\r\nupgrade: x\r\n\r\n".to_owned(), "101"),
    ] {
        let error = get(&text).unwrap_err();
        assert!(error.contains(words), "{text:?}: {error}");
    }
}

#[test]
fn a_head_is_bounded_in_bytes_in_fields_and_in_interim_answers() {
    let large = |length| format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(length));
    assert!(get(&format!("{}\r\ncontent-length: 0\r\n\r\n", large(60_000))).is_ok());
    for endless in [large(70_000), format!("{}\r\n\r\n", large(70_000))] {
        assert!(get(&endless).unwrap_err().contains("too large"));
        let pieces = endless.as_bytes().chunks(1000).map(Bytes::copy_from_slice);
        let error = answer_to(Method::GET, pieces.map(Turn::Says).collect());
        assert!(error.unwrap_err().contains("too large"));
    }
    let fields = |count| format!("HTTP/1.1 204 No\r\n{}\r\n", "a: b\r\n".repeat(count));
    assert!(get(&fields(100)).is_ok());
    assert!(get(&fields(101)).unwrap_err().contains("too many headers"));
    let interim = |count| format!("{}{}", "HTTP/1.1 100 C\r\n\r\n".repeat(count), fields(0));
    assert!(get(&interim(100)).is_ok());
    assert!(get(&interim(101)).unwrap_err().contains("interim"));
}

#[test]
fn the_end_of_the_connection_before_an_answer_is_told_as_that_and_garbage_as_that() {
    let closed = "connection closed before message completed";
    assert_eq!(
        answer_to(Method::GET, vec![Turn::Ends]),
        Err(closed.to_owned())
    );
    let mut turns = in_one("HTTP/1.1 200");
    turns.push(Turn::Ends);
    assert_eq!(answer_to(Method::GET, turns), Err(closed.to_owned()));
    let turns = ["H", "ELO", " 250"].iter().flat_map(|text| in_one(text));
    let error = answer_to(Method::GET, turns.chain([Turn::Ends]).collect());
    assert!(error.unwrap_err().contains("version"));
}

#[test]
fn a_request_and_the_beginning_of_its_body_are_one_write() {
    let script = open();
    script.says(WHOLE[0]);
    let length = [("content-length", "5")];
    let frames = vec![data("he"), data(""), data("llo")];
    assert!(
        begun(&script, post(&length, frames))
            .unwrap()
            .answering
            .spend()
            .is_whole()
    );
    assert_eq!(script.with(|shared| shared.writes.len()), 1);
    assert_eq!(
        script.written(),
        "POST /x HTTP/1.1\r\nhost: bank.example\r\ncontent-length: 5\r\n\r\nhello"
    );
}

#[test]
fn a_body_without_length_goes_in_chunks_with_the_trailers_that_were_announced() {
    let mut trailers = HeaderMap::new();
    trailers.insert("sum", "7".parse().unwrap());
    trailers.insert("other", "8".parse().unwrap());
    let large = "x".repeat(5000);
    for (headers, last) in [
        (&[("trailer", "sum")][..], "0\r\nsum: 7\r\n\r\n"),
        // What nobody announced is dropped, and the body ends all the same.
        (&[], "0\r\n\r\n"),
    ] {
        let script = open();
        let frames = vec![data("0123456789"), data(&large), data("z")];
        let frames = frames
            .into_iter()
            .chain([Frame::trailers(trailers.clone())]);
        let request = post(headers, frames.collect());
        assert!(
            now(ask(connection(&script), request.into(), false)).is_none(),
            "it waits"
        );
        let written = script.written();
        let (_, body) = written.split_once("\r\n\r\n").unwrap();
        assert_eq!(
            body,
            format!("a\r\n0123456789\r\n1388\r\n{large}\r\n1\r\nz\r\n{last}")
        );
    }
}

#[test]
fn a_request_arrives_whole_however_few_bytes_a_write_takes() {
    let text = "x".repeat(3000);
    let script = Script::default();
    let frames = vec![data("small"), data(&text), data(&text)];
    let asking = ask(connection(&script), post(&[], frames).into(), false);
    let mut asking = pin!(asking);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..8000 {
        script.with(|shared| shared.room = 1);
        assert!(asking.as_mut().poll(&mut cx).is_pending());
    }
    let written = script.written();
    let (_, body) = written.split_once("\r\n\r\n").unwrap();
    assert_eq!(
        body,
        format!("5\r\nsmall\r\nbb8\r\n{text}\r\nbb8\r\n{text}\r\n0\r\n\r\n")
    );
}

#[test]
fn an_early_answer_is_read_and_the_rest_of_the_request_still_goes_up() {
    let script = Script::default();
    script.with(|shared| shared.room = 100);
    script.says("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nea");
    let text = "x".repeat(5000);
    let frames = vec![data(&text), data(&text)];
    let mut answering = begun(&script, post(&[], frames)).unwrap().answering;
    assert!(answering.whole().is_none());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(answering.poll_frame(&mut cx).is_ready());
    script.with(|shared| shared.room = 6000);
    assert!(answering.poll_frame(&mut cx).is_pending());
    assert!(script.written().len() > 5000, "it went on");
    script.says("rl");
    assert!(answering.poll_frame(&mut cx).is_ready());
    assert!(answering.is_ended());
    let mut spent = answering.spend();
    assert!(!spent.is_whole());
    {
        let mut outliving = pin!(spent.outlive());
        assert!(outliving.as_mut().poll(&mut cx).is_pending());
        script.with(|shared| shared.room = usize::MAX);
        assert!(outliving.as_mut().poll(&mut cx).is_ready());
    }
    assert!(script.written().ends_with("x\r\n0\r\n\r\n"));
    assert!(spent.into_connection().is_some());
}

#[test]
fn a_request_that_outlives_its_answer_ends_with_the_connection() {
    let script = Script::default();
    script.with(|shared| shared.room = 10);
    script.says(WHOLE[0]);
    let frames = vec![data("x"), data("y")];
    let mut spent = begun(&script, post(&[], frames)).unwrap().answering.spend();
    script.with(|shared| shared.turns.push_back(Turn::Ends));
    assert!(now(spent.outlive()).is_some());
    assert!(spent.into_connection().is_none());
}

#[test]
fn an_endless_upload_does_not_keep_an_answer_from_being_heard() {
    let script = open();
    script.says("HTTP/1.1 413 No\r\ncontent-length: 0\r\n\r\n");
    let chunk = Bytes::from(vec![b'x'; 10_000]);
    let endless = stream::repeat_with(move || Ok::<_, BodyError>(Frame::data(chunk.clone())));
    let body = RequestBody::Stream(Box::pin(StreamBody::new(endless)));
    let request = request(Method::POST).map(|_| body);
    assert_eq!(begun(&script, request).unwrap().response.status, 413);
}

#[test]
fn a_body_of_another_length_than_was_said_fails() {
    for (frames, words) in [
        (vec![data("hell")], "shorter"),
        (vec![data("hello!")], "longer"),
        (vec![data("hel"), data("lo!")], "longer"),
        (vec![Frame::trailers(HeaderMap::new())], "shorter"),
    ] {
        let request = post(&[("content-length", "5")], frames);
        let error = begun(&open(), request).err().unwrap();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_body_that_fails_is_told_as_that() {
    let broken = stream::iter([
        Ok(data("begin")),
        Err(BodyError::Client("the client went away".into())),
    ]);
    let body = RequestBody::Stream(Box::pin(StreamBody::new(broken)));
    let asked = now(ask(
        connection(&open()),
        request(Method::POST).map(|_| body).into(),
        false,
    ));
    let Err((_, Unanswered::Broken(Fault::Body(error)))) = asked.unwrap() else {
        panic!("it went well");
    };
    assert_eq!(error.to_string(), "the client went away");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_came_before_a_write_failed_is_read() {
    let script = open();
    script.with(|shared| shared.refuses = true);
    script.says("HTTP/1.1 413 No\r\ncontent-length: 2\r\n\r\nno");
    script.with(|shared| shared.turns.push_back(Turn::Ends));
    let asked = ask(connection(&script), request(Method::GET).into(), false).await;
    let mut begun = asked.ok().unwrap();
    assert_eq!(begun.response.status, 413);
    assert_eq!(begun.answering.whole().unwrap(), "no");
}

#[tokio::test]
async fn bytes_behind_a_switch_belong_to_the_tunnel() {
    let script = open();
    script.says("HTTP/1.1 101 S\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\nhi");
    let asked = ask(connection(&script), request(Method::GET).into(), true).await;
    let (http1, rest) = asked.ok().unwrap().answering.switch();
    let mut tunnel = Tunnel::new(http1, rest, Box::new(()));
    script.says(" there");
    script.with(|shared| shared.turns.push_back(Turn::Ends));
    let mut first = [0; 1];
    tunnel.read_exact(&mut first).await.unwrap();
    let mut seen = String::new();
    tunnel.read_to_string(&mut seen).await.unwrap();
    assert_eq!((first[0], seen.as_str()), (b'h', "i there"));
    script.with(|shared| shared.writes.clear());
    tunnel.write_all(b"bye").await.unwrap();
    assert_eq!(script.written(), "bye");
}

#[test]
fn an_idle_connection_that_speaks_or_ends_is_no_more_and_a_silent_one_is_kept() {
    for turn in [
        Some(Turn::Says(Bytes::from("HTTP/1.1 408 Slow\r\n\r\n"))),
        Some(Turn::Ends),
        Some(Turn::Breaks),
        None,
    ] {
        let script = open();
        let mut http1 = connection(&script);
        assert!(http1.is_quiet());
        let quiet = turn.is_none();
        script.with(|shared| shared.turns.extend(turn));
        assert!(http1.is_still_quiet(), "nobody told it");
        http1.link().close();
        assert!(!http1.is_still_quiet(), "it was closed");
        assert_eq!(connection(&script).is_quiet(), quiet);
    }
}

#[test]
fn a_connection_that_is_not_needed_ends_properly_and_one_that_is_busy_does_not() {
    let script = open();
    drop(connection(&script));
    assert!(script.with(|shared| shared.polite));
    let script = open();
    assert!(now(ask(connection(&script), request(Method::GET).into(), false)).is_none());
    assert!(
        !script.with(|shared| shared.polite),
        "the answer was not waited for"
    );
    let script = open();
    script.says("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    drop(
        begun(&script, request(Method::GET))
            .unwrap()
            .answering
            .spend(),
    );
    assert!(script.with(|shared| shared.polite));
}

#[test]
fn a_server_of_http10_is_asked_to_keep_the_connection_that_it_kept() {
    let script = open();
    script.says(WHOLE[8]);
    let mut first = begun(&script, request(Method::GET)).unwrap();
    first.answering.whole().unwrap();
    let http1 = first.answering.spend().into_connection().unwrap();
    script.with(|shared| shared.writes.clear());
    assert!(now(ask(http1, request(Method::GET).into(), false)).is_none());
    assert!(script.written().ends_with("connection: keep-alive\r\n\r\n"));
}

#[tokio::test(start_paused = true)]
async fn an_exchange_that_waits_for_both_sides_does_not_spin() {
    let (near, _far) = tokio::io::duplex(64);
    let endless = stream::pending::<Result<Frame<Bytes>, BodyError>>();
    let body = RequestBody::Stream(Box::pin(StreamBody::new(endless)));
    let request = request(Method::POST).map(|_| body);
    let endpoint = EndpointAddr("192.0.2.1:80".parse().unwrap());
    let filed = Ends {
        to: endpoint,
        from: None,
    };
    let link = Link::new(1, endpoint, (filed, "".into()), None, None, Arc::default());
    let http1 = Http1::new(Wire::new(near, Arc::new(link), None, Box::new(|| ())));
    let asking = tokio::spawn(ask(http1, request.into(), false));
    // Time that is paused goes on only where nobody has anything to do.
    tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
    assert!(!asking.is_finished());
}

impl Chunks for tokio::io::DuplexStream {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        crate::scratch::poll_read(self, cx)
    }
}

#[tokio::test]
async fn a_body_is_not_copied_and_keeps_nothing_behind_its_end() {
    let script = open();
    let text = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\n{}",
        "x".repeat(9000)
    );
    let sent = Bytes::from(text);
    script.with(|shared| shared.turns.push_back(Turn::Says(sent.clone())));
    let mut answering = begun(&script, request(Method::GET)).unwrap().answering;
    let body = answering.whole().unwrap();
    assert_eq!(body.as_ptr(), sent[sent.len() - 9000..].as_ptr());
    let collected = http_body_util::Full::new(body).collect().await.unwrap();
    assert_eq!(collected.to_bytes().len(), 9000);
}
