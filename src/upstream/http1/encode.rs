//! A request on its way up: its head, and its body as it comes.
//!
//! Owns: [`Upload`]: what is to be written next, and that the body is as long as was announced.
//! Never: waits for the body to write the head.
//! Called by: `exchange`.
//!
//! Why small frames are gathered and large ones are not: one write, and in TLS one record, for many
//! small ones; no copy of a large one.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use tokio::io::AsyncWrite;

use super::fault::Fault;
use super::request::{self, Framing};
use crate::message::Request;
use crate::upstream::body::RequestBody;

/// A frame below this many bytes is copied.
const SMALL: usize = 2 * 1024;
/// So many bytes of small frames are gathered for one write: one TLS record.
const GATHERED: usize = 16 * 1024;
/// A gathering buffer that grew larger than this is not kept for the next request.
const KEPT: usize = 2 * GATHERED;

thread_local! {
    /// The gathering buffer of the requests that begin on this thread.
    static GATHER: RefCell<Vec<u8>> = RefCell::default();
}

/// A request that is being sent.
pub(super) struct Upload {
    /// The head, sizes of chunks, and small frames.
    gathered: Vec<u8>,
    /// One large frame, which comes after that.
    data: Bytes,
    /// What comes after the large frame.
    tail: &'static [u8],
    /// Bytes of these three that were written.
    written: usize,
    /// `None` once its end was read.
    body: Option<RequestBody>,
    framing: Framing,
}

/// A request that cannot be sent, and why, in words.
pub(super) type Unsendable = (Box<Request<RequestBody>>, &'static str);

/// What a step has done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Something was sent, and more may follow.
    Sent,
    /// All was sent.
    Done,
}

impl Upload {
    /// Encodes the head of `request`; says as well whether the request ends its connection.
    ///
    /// # Errors
    /// The request and why it cannot be sent, in words.
    pub(super) fn new(
        request: Request<RequestBody>,
        persist: bool,
    ) -> Result<(Upload, bool), Unsendable> {
        let mut gathered = GATHER.take();
        match request::write(&request, persist, &mut gathered) {
            Ok(plan) => {
                let body = Some(request.body);
                let upload = Upload {
                    gathered,
                    data: Bytes::new(),
                    tail: b"",
                    written: 0,
                    body: body.filter(|_| plan.framing != Framing::Length(0)),
                    framing: plan.framing,
                };
                Ok((upload, plan.close))
            }
            Err(problem) => Err((Box::new(request), problem)),
        }
    }

    /// Sends as much as one write takes, and takes from the body what is there for it.
    ///
    /// # Errors
    /// [`Fault::Body`], [`Fault::Io`].
    pub(super) fn poll_step<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Step, Fault>> {
        if self.written == 0 {
            self.fill(cx)?;
        }
        if self.all() == 0 {
            ready!(Pin::new(stream).poll_flush(cx)).map_err(Fault::Io)?;
            return match self.body {
                None => Poll::Ready(Ok(Step::Done)),
                Some(_) => Poll::Pending,
            };
        }
        let mut slices = [IoSlice::new(&[]); 3];
        let count = self.slices(&mut slices);
        let slices = slices.get(..count).unwrap_or_default();
        let wrote = ready!(Pin::new(&mut *stream).poll_write_vectored(cx, slices));
        match wrote.map_err(Fault::Io)? {
            0 => return Poll::Ready(Err(Fault::Io(io::ErrorKind::WriteZero.into()))),
            count => self.written += count,
        }
        if self.written >= self.all() {
            self.reset();
            if self.body.is_none() {
                ready!(Pin::new(stream).poll_flush(cx)).map_err(Fault::Io)?;
                return Poll::Ready(Ok(Step::Done));
            }
        }
        Poll::Ready(Ok(Step::Sent))
    }

    fn give_buffer(&mut self) {
        let mut gathered = std::mem::take(&mut self.gathered);
        if (1..=KEPT).contains(&gathered.capacity()) {
            gathered.clear();
            GATHER.set(gathered);
        }
    }

    fn all(&self) -> usize {
        self.gathered.len() + self.data.len() + self.tail.len()
    }

    fn reset(&mut self) {
        match self.body {
            // Others may use it while this one waits for its answer.
            None => self.give_buffer(),
            Some(_) => self.gathered.clear(),
        }
        self.data = Bytes::new();
        self.tail = b"";
        self.written = 0;
    }

    /// What is still to be written; says how many slices that are.
    fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; 3]) -> usize {
        let mut skip = self.written;
        let mut count = 0;
        for part in [&self.gathered[..], &self.data[..], self.tail] {
            let left = part.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(part.len());
            if !left.is_empty()
                && let Some(slice) = slices.get_mut(count)
            {
                *slice = IoSlice::new(left);
                count += 1;
            }
        }
        count
    }

    /// Takes frames from the body: many small ones, up to one large one, or none.
    fn fill(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        while self.data.is_empty() && self.gathered.len() < GATHERED {
            let Some(body) = &mut self.body else {
                break;
            };
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => self.end()?,
                Poll::Ready(Some(Err(error))) => return Err(Fault::Body(error)),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        let last = body.is_end_stream();
                        self.encode(data)?;
                        if last {
                            self.end()?;
                        }
                    }
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            self.end_with(&trailers)?;
                        }
                    }
                },
            }
        }
        Ok(())
    }

    fn encode(&mut self, data: Bytes) -> Result<(), Fault> {
        let length = data.len() as u64;
        match &mut self.framing {
            _ if data.is_empty() => return Ok(()),
            Framing::Length(left) => {
                *left = left.checked_sub(length).ok_or_else(|| {
                    Fault::of_body("the request's body is longer than its Content-Length")
                })?;
                // Its end need not be asked for.
                if *left == 0 {
                    self.body = None;
                }
                self.put(data, b"");
            }
            Framing::Chunked(_) => {
                hex_line(&mut self.gathered, data.len());
                self.put(data, b"\r\n");
            }
        }
        Ok(())
    }

    fn put(&mut self, data: Bytes, tail: &'static [u8]) {
        if data.len() < SMALL {
            self.gathered.extend_from_slice(&data);
            self.gathered.extend_from_slice(tail);
        } else {
            (self.data, self.tail) = (data, tail);
        }
    }

    /// The body has ended without trailers.
    fn end(&mut self) -> Result<(), Fault> {
        if self.body.take().is_none() {
            return Ok(());
        }
        match self.framing {
            Framing::Length(_) => Err(Fault::of_body(
                "the request's body is shorter than its Content-Length",
            )),
            Framing::Chunked(_) if self.data.is_empty() => {
                self.gathered.extend_from_slice(b"0\r\n\r\n");
                Ok(())
            }
            Framing::Chunked(_) => {
                self.tail = b"\r\n0\r\n\r\n";
                Ok(())
            }
        }
    }

    /// The body has ended with trailers. No large frame waits: none is asked for behind one.
    fn end_with(&mut self, trailers: &HeaderMap) -> Result<(), Fault> {
        let Framing::Chunked(names) = &self.framing else {
            return self.end();
        };
        self.body = None;
        self.gathered.extend_from_slice(b"0\r\n");
        for (name, value) in trailers.iter().filter(|(name, _)| names.contains(name)) {
            request::line(&mut self.gathered, name, value.as_bytes());
        }
        self.gathered.extend_from_slice(b"\r\n");
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.give_buffer();
    }
}

/// A chunk's size and the end of its line.
fn hex_line(out: &mut Vec<u8>, length: usize) {
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4);
    for digit in (0..digits).rev() {
        let nibble = u32::try_from((length >> (4 * digit)) & 0xF).unwrap_or_default();
        let character = char::from_digit(nibble, 16).unwrap_or('0');
        out.push(u8::try_from(character).unwrap_or(b'0'));
    }
    out.extend_from_slice(b"\r\n");
}
