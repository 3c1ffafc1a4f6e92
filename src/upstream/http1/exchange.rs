//! One request on one connection, from its first byte to the answer's last.
//!
//! Owns: the order of things: the request is sent while its answer is waited for, an answer may come
//! before the request is whole, and interim answers (1xx) are passed over.
//! Never: spawns, or keeps a byte once it was passed on.
//! Called by: `connection` (asks), `body` (reads the answer on), `pool` (waits for a request's end).
//!
//! Why reading comes before a failed write is told: an answer that says why (413) is worth more than
//! the reset behind it.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Version;
use http_body::Frame;

use super::client::Http1;
use super::decode::{Decoded, Decoder};
use super::encode::{Step, Upload};
use super::fault::Fault;
use super::head::{Asked, Head, HeadReader};
use crate::message::{Request, ResponseHead};
use crate::upstream::body::RequestBody;
use crate::upstream::transport::{Chunks, Transport};
use crate::upstream::wire::Wire;

/// An answer whose head is here.
pub(in crate::upstream) struct Begun<S: Chunks = Transport> {
    pub(in crate::upstream) response: Box<ResponseHead>,
    pub(in crate::upstream) answering: Answering<S>,
}

/// An answer whose body is on its way. Dropped before its end, the connection is closed.
pub(in crate::upstream) struct Answering<S: Chunks = Transport> {
    http1: Http1<S>,
    /// What of the request is still to be sent.
    upload: Option<Box<Upload>>,
    /// What was read and not passed on.
    rest: Bytes,
    decoder: Decoder,
    /// The connection may serve again.
    keep: bool,
    /// What looking ahead has found.
    fault: Option<Fault>,
}

/// A connection whose answer has ended.
pub(in crate::upstream) struct Spent<S: Chunks = Transport> {
    http1: Http1<S>,
    /// What of the request is still to be sent.
    upload: Option<Box<Upload>>,
    /// The connection may serve again.
    keep: bool,
}

/// Why there is no answer.
pub(in crate::upstream) enum Unanswered {
    /// It cannot be sent so, in words; nothing was.
    Unsendable(Box<Request<RequestBody>>, &'static str),
    /// The exchange broke off.
    Broken(Fault),
}

/// Sends `request` and waits for the head of its answer.
///
/// # Errors
/// [`Unanswered`], with the connection where it is as it was.
pub(in crate::upstream) async fn ask<S: Chunks>(
    mut http1: Http1<S>,
    request: Request<RequestBody>,
    upgrade: bool,
) -> Result<Begun<S>, (Http1<S>, Unanswered)> {
    let asked = Asked::new(&request.head.method, upgrade);
    let (upload, close) = match Upload::new(request, http1.persists()) {
        Ok(begun) => begun,
        Err((request, problem)) => {
            return Err((http1, Unanswered::Unsendable(request, problem)));
        }
    };
    http1.begin();
    let mut sending = Sending::Upload(upload);
    let mut reader = HeadReader::default();
    let answered = poll_fn(|cx| poll_head(http1.wire(), &mut sending, &mut reader, asked, cx));
    let (head, rest) = match answered.await {
        Ok(answered) => answered,
        Err(fault) => return Err((http1, Unanswered::Broken(fault))),
    };
    let persist = head.response.version == Version::HTTP_10;
    http1.set_persist(persist);
    Ok(Begun {
        answering: Answering {
            keep: head.keep && !close && !matches!(sending, Sending::Failed),
            upload: match sending {
                Sending::Upload(upload) => Some(Box::new(upload)),
                Sending::Done | Sending::Failed => None,
            },
            http1,
            rest,
            decoder: head.decoder,
            fault: None,
        },
        response: head.response,
    })
}

/// How far a request has come.
enum Sending {
    Upload(Upload),
    Done,
    Failed,
}

fn poll_head<S: Chunks>(
    wire: &mut Wire<S>,
    sending: &mut Sending,
    reader: &mut HeadReader,
    asked: Asked,
    cx: &mut Context<'_>,
) -> Poll<Result<(Head, Bytes), Fault>> {
    loop {
        let step = match sending {
            Sending::Upload(upload) => upload.poll_step(wire, cx),
            Sending::Done | Sending::Failed => Poll::Pending,
        };
        match &step {
            Poll::Ready(Ok(Step::Done)) => *sending = Sending::Done,
            Poll::Ready(Err(_)) => *sending = Sending::Failed,
            Poll::Ready(Ok(Step::Sent)) | Poll::Pending => {}
        }
        if let Poll::Ready(read) = read_head(wire, reader, asked, cx) {
            return Poll::Ready(read);
        }
        match step {
            Poll::Ready(Ok(Step::Sent)) => {}
            Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
            Poll::Ready(Ok(Step::Done)) | Poll::Pending => return Poll::Pending,
        }
    }
}

fn read_head<S: Chunks>(
    wire: &mut Wire<S>,
    reader: &mut HeadReader,
    asked: Asked,
    cx: &mut Context<'_>,
) -> Poll<Result<(Head, Bytes), Fault>> {
    loop {
        let mut bytes = ready!(wire.poll_chunk(cx)).map_err(Fault::Io)?;
        if bytes.is_empty() {
            return Poll::Ready(Err(reader.end()));
        }
        if let Some(head) = reader.take(&mut bytes, asked)? {
            return Poll::Ready(Ok((head, bytes)));
        }
    }
}

impl<S: Chunks> Answering<S> {
    /// The next piece of the body, or its end.
    ///
    /// # Errors
    /// [`Fault`]; nothing may be asked for after it.
    pub(in crate::upstream) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if let Some(fault) = self.fault.take() {
            return Poll::Ready(Some(Err(fault)));
        }
        loop {
            let step = self.poll_upload(cx);
            match self.next(cx) {
                Poll::Ready(Ok(next)) => return Poll::Ready(next.map(Ok)),
                Poll::Ready(Err(fault)) => return Poll::Ready(Some(Err(fault))),
                Poll::Pending => {}
            }
            match step {
                Poll::Ready(Ok(Step::Sent)) => {}
                Poll::Ready(Err(fault)) => return Poll::Ready(Some(Err(fault))),
                Poll::Ready(Ok(Step::Done)) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, Fault>> {
        let Some(upload) = &mut self.upload else {
            return Poll::Pending;
        };
        let step = ready!(upload.poll_step(self.http1.wire(), cx));
        self.keep &= step.is_ok();
        if !matches!(step, Ok(Step::Sent)) {
            self.upload = None;
        }
        Poll::Ready(step)
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Fault>> {
        loop {
            match self.decoder.decode(&mut self.rest)? {
                Decoded::Data(data) => {
                    self.fault = self.decoder.look_ahead(&mut self.rest).err();
                    return Poll::Ready(Ok(Some(Frame::data(data))));
                }
                Decoded::Trailers(trailers) => {
                    return Poll::Ready(Ok(Some(Frame::trailers(trailers))));
                }
                Decoded::End => return Poll::Ready(Ok(None)),
                Decoded::More => {}
            }
            self.rest = ready!(self.http1.wire().poll_chunk(cx)).map_err(Fault::Io)?;
            if self.rest.is_empty() {
                self.decoder.close()?;
                self.keep = false;
            }
        }
    }

    /// The body, where all of it is here already.
    pub(in crate::upstream) fn whole(&mut self) -> Option<Bytes> {
        let left = usize::try_from(self.decoder.left()?).ok()?;
        if self.rest.len() < left {
            return None;
        }
        self.decoder = Decoder::length(0);
        Some(self.rest.split_to(left))
    }

    /// Nothing more will come.
    pub(in crate::upstream) fn is_ended(&self) -> bool {
        self.decoder.is_ended() && self.fault.is_none()
    }

    /// How many bytes are still to come, where that is known.
    pub(in crate::upstream) fn left(&self) -> Option<u64> {
        self.decoder.left()
    }

    pub(in crate::upstream) fn connection(&self) -> &Http1<S> {
        &self.http1
    }

    /// The answer has ended: what is left of it.
    pub(in crate::upstream) fn spend(mut self) -> Spent<S> {
        if self.upload.is_none() {
            self.http1.end();
        }
        Spent {
            http1: self.http1,
            upload: self.upload,
            // What comes unasked is nobody's answer.
            keep: self.keep && self.rest.is_empty(),
        }
    }

    /// The protocol has changed: the connection, and what came of the new one.
    pub(in crate::upstream) fn switch(self) -> (Http1<S>, Bytes) {
        (self.http1, self.rest)
    }
}

impl<S: Chunks> Spent<S> {
    /// The request has been sent whole as well.
    pub(in crate::upstream) fn is_whole(&self) -> bool {
        self.upload.is_none()
    }

    /// The connection, where it may serve again once its request is whole.
    pub(in crate::upstream) fn into_connection(self) -> Option<Http1<S>> {
        self.keep.then_some(self.http1)
    }

    /// Sends what is left of the request.
    pub(in crate::upstream) async fn outlive(&mut self) {
        let Spent {
            http1,
            upload,
            keep,
        } = self;
        let Some(upload) = upload else {
            return;
        };
        let sent = poll_fn(|cx| {
            loop {
                // The server may close it meanwhile, and nothing else.
                if http1.wire().poll_chunk(cx).is_ready() {
                    return Poll::Ready(false);
                }
                match ready!(upload.poll_step(http1.wire(), cx)) {
                    Ok(Step::Sent) => {}
                    Ok(Step::Done) => return Poll::Ready(true),
                    Err(_) => return Poll::Ready(false),
                }
            }
        });
        match sent.await {
            true => http1.end(),
            false => *keep = false,
        }
    }
}
