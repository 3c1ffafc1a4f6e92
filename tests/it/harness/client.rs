//! Applications: one that writes exact bytes, one that is curl, and one that speaks HTTP/2.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::{HeaderMap, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};

/// How long the proxy may take for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// After as many bytes as Content-Length says, or because it has no body.
    Length,
    /// With the last chunk.
    Chunks,
    /// By an orderly close, where nothing else says how long it is.
    Close,
    /// Before its end: the connection closed or was reset on the way.
    CutOff,
}

/// An answer as it stood on the wire.
#[derive(Clone)]
pub struct Answer {
    /// `HTTP/1.1`.
    pub version: String,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    pub ended: Ended,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{} {} (ended: {:?})",
            self.version, self.status, self.ended
        )?;
        for (name, value) in self.headers.iter().chain(&self.trailers) {
            writeln!(f, "{name}: {value}")?;
        }
        write!(f, "{}", self.text().chars().take(1000).collect::<String>())
    }
}

impl Answer {
    /// The value of a header; the first where there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Fails unless the answer has this status and came whole.
    #[track_caller]
    pub fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{self:?}");
        assert_ne!(self.ended, Ended::CutOff, "{self:?}");
        self
    }

    /// Fails unless the body has all of these words.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Answer {
        let text = self.text();
        for word in words {
            assert!(text.contains(word), "the body lacks \"{word}\": {text}");
        }
        self
    }
}

/// A TCP connection to a proxy, on which exact bytes are written.
pub struct Wire {
    pub stream: TcpStream,
    got: Vec<u8>,
}

impl Wire {
    pub fn connect(to: SocketAddr) -> Wire {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Wire {
            stream,
            got: Vec::new(),
        }
    }

    /// Writes; a peer that has closed already is not an error here, the answer will tell.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Wire {
        let _ = self.stream.write_all(bytes.as_ref());
        self
    }

    /// A GET of `http://HOST/PATH` on this connection, and its answer.
    #[track_caller]
    pub fn get(&mut self, host: &str, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .answer()
    }

    /// Reads one answer; 1xx are passed over.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        self.answer_to("GET")
    }

    /// Reads the answer to a method, which decides whether there is a body.
    #[track_caller]
    pub fn answer_to(&mut self, method: &str) -> Answer {
        loop {
            let head = self.head();
            if head.status / 100 != 1 || head.status == 101 {
                return self.body(head, method);
            }
        }
    }

    /// Reads the head of an answer, 1xx too.
    #[track_caller]
    pub fn head(&mut self) -> Answer {
        let end = loop {
            if let Some(end) = self.got.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            let so_far = String::from_utf8_lossy(&self.got).into_owned();
            assert!(
                self.more(),
                "closed before an answer's head was there: {so_far:?}"
            );
        };
        let head: Vec<u8> = self.got.drain(..end).collect();
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let mut first = lines.next().unwrap().splitn(3, ' ');
        Answer {
            version: first.next().unwrap().into(),
            status: first.next().unwrap().parse().unwrap(),
            headers: lines.map(header).collect(),
            body: Vec::new(),
            trailers: Vec::new(),
            ended: Ended::Length,
        }
    }

    fn body(&mut self, mut answer: Answer, method: &str) -> Answer {
        let length = answer
            .header("content-length")
            .map(|text| text.parse::<usize>().unwrap());
        let chunked = answer.header("transfer-encoding").is_some();
        assert!(!(chunked && length.is_some()), "two lengths: {answer:?}");
        if method == "HEAD" || matches!(answer.status, 101 | 204 | 304) {
            return answer;
        }
        if chunked {
            answer.ended = match self.chunks(&mut answer) {
                Some(()) => Ended::Chunks,
                None => Ended::CutOff,
            };
        } else if let Some(length) = length {
            while self.got.len() < length && self.more() {}
            let have = self.got.len().min(length);
            answer.body = self.got.drain(..have).collect();
            if have < length {
                answer.ended = Ended::CutOff;
            }
        } else {
            answer.ended = self.rest();
            answer.body = std::mem::take(&mut self.got);
        }
        answer
    }

    fn chunks(&mut self, answer: &mut Answer) -> Option<()> {
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(line.split(';').next().unwrap().trim(), 16).unwrap();
            if size == 0 {
                loop {
                    match self.line()?.as_str() {
                        "" => return Some(()),
                        trailer => answer.trailers.push(header(trailer)),
                    }
                }
            }
            while self.got.len() < size + 2 {
                if !self.more() {
                    answer.body.append(&mut self.got);
                    return None;
                }
            }
            answer.body.extend(self.got.drain(..size));
            assert_eq!(self.got.drain(..2).collect::<Vec<_>>(), b"\r\n");
        }
    }

    /// A line without its end.
    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.got.windows(2).position(|two| two == b"\r\n") {
                let line = self.got.drain(..end + 2).take(end).collect();
                return Some(String::from_utf8(line).unwrap());
            }
            if !self.more() {
                return None;
            }
        }
    }

    /// Reads at least `count` bytes that are no part of an answer, and returns all there are.
    #[track_caller]
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.got.len() < count {
            assert!(
                self.more(),
                "closed after {} of {count} bytes",
                self.got.len()
            );
        }
        std::mem::take(&mut self.got)
    }

    /// True where the proxy closes without another byte. Fails where it neither speaks nor closes.
    #[track_caller]
    pub fn is_closed(&mut self) -> bool {
        self.rest();
        self.got.is_empty()
    }

    /// Reads to the end: orderly or not.
    #[track_caller]
    pub fn rest(&mut self) -> Ended {
        loop {
            match self.read() {
                Ok(0) => return Ended::Close,
                Ok(_) => {}
                Err(error) => {
                    let late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                    assert!(
                        !late,
                        "the proxy neither answered nor closed within {PATIENCE:?}"
                    );
                    return Ended::CutOff;
                }
            }
        }
    }

    /// What arrives within `time`, be it nothing.
    pub fn hears(&mut self, time: Duration) -> Vec<u8> {
        self.stream.set_read_timeout(Some(time)).unwrap();
        while matches!(self.read(), Ok(read) if read > 0) {}
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        std::mem::take(&mut self.got)
    }

    #[track_caller]
    fn more(&mut self) -> bool {
        match self.read() {
            Ok(read) => read > 0,
            Err(error) => {
                let late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                assert!(!late, "nothing for {PATIENCE:?} after {:?}", self.got.len());
                false
            }
        }
    }

    fn read(&mut self) -> std::io::Result<usize> {
        let mut chunk = [0; 16 * 1024];
        let read = self.stream.read(&mut chunk)?;
        self.got.extend_from_slice(&chunk[..read]);
        Ok(read)
    }
}

fn header(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    (name.to_string(), value.trim().to_string())
}

/// A GET of `http://HOST/PATH` on a connection of its own.
#[track_caller]
pub fn get(proxy: SocketAddr, host: &str, path: &str) -> Answer {
    Wire::connect(proxy).get(host, path)
}

/// A body in chunked coding.
pub fn chunked(pieces: &[&str]) -> String {
    let chunk = |piece: &&str| format!("{:x}\r\n{piece}\r\n", piece.len());
    pieces.iter().map(chunk).collect::<String>() + "0\r\n\r\n"
}

/// What curl wrote to its standard output; it must have exited with `code`.
#[track_caller]
pub fn curl(code: i32, arguments: &[&str]) -> String {
    let mut command = Command::new("curl");
    // No configuration and no proxy of the machine may change what is sent.
    command
        .arg("--disable")
        .args(["--silent", "--show-error", "--max-time", "20"]);
    for variable in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command
            .env_remove(variable)
            .env_remove(variable.to_uppercase());
    }
    let output = command.args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(code),
        "curl {arguments:?}: {text}\n{errors}"
    );
    text
}

/// An answer over HTTP/2 with prior knowledge, read to its end.
pub struct H2Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
    /// Why the body broke off.
    pub broken: Option<String>,
}

/// Sends one request with this body and these trailers over HTTP/2 with prior knowledge.
#[track_caller]
pub fn h2(
    proxy: SocketAddr,
    request: http::request::Builder,
    body: Vec<Bytes>,
    trailers: Option<HeaderMap>,
) -> H2Answer {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let exchange = async {
        let stream = tokio::net::TcpStream::connect(proxy).await.unwrap();
        let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        let (mut sender, driving) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(driving);
        let frames = body
            .into_iter()
            .map(Frame::data)
            .chain(trailers.map(Frame::trailers));
        let frames: Vec<Result<Frame<Bytes>, std::convert::Infallible>> = frames.map(Ok).collect();
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let request: Request<_> = request.body(body).unwrap();
        let (parts, mut body) = sender.send_request(request).await.unwrap().into_parts();
        let mut answer = H2Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: Vec::new(),
            trailers: None,
            broken: None,
        };
        while let Some(frame) = body.frame().await {
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) => answer.body.extend_from_slice(&data),
                Ok(Err(frame)) => answer.trailers = frame.into_trailers().ok(),
                Err(error) => {
                    answer.broken = Some(error.to_string());
                    break;
                }
            }
        }
        answer
    };
    let bounded = runtime.block_on(async { tokio::time::timeout(PATIENCE, exchange).await });
    bounded.expect("an answer over HTTP/2 in time")
}
