//! The two bodies of an exchange, streamed and never held whole.
//!
//! Owns: [`RequestBody`], [`ResponseBody`] and the connection that an answer holds until its end.
//! Never: buffers more than the frame that it passes on.
//! Called by: proxy (gives one, reads the other).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::connection::{Under, cut_off};
use super::error::BodyError;
use super::http1::{Answering, Tunnel};
use super::http2::{self, Stream};
use crate::http2::Inflow;
use crate::telemetry::UpstreamStats;

/// What is sent to an upstream.
pub enum RequestBody {
    /// Nothing. Such a request can be sent again.
    Empty,
    /// A stream, read once, as fast as the upstream takes it.
    Stream(Pin<Box<dyn Body<Data = Bytes, Error = BodyError> + Send>>),
}

impl Body for RequestBody {
    type Data = Bytes;
    /// Shared, so that the same error can be told to the server's side and to the caller.
    type Error = Arc<BodyError>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Arc<BodyError>>>> {
        match self.get_mut() {
            RequestBody::Empty => Poll::Ready(None),
            RequestBody::Stream(body) => body.as_mut().poll_frame(cx).map_err(Arc::new),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Empty => true,
            RequestBody::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Empty => SizeHint::with_exact(0),
            RequestBody::Stream(body) => body.size_hint(),
        }
    }
}

/// An answer's body. At its end the connection goes back to its pool; dropped before, an HTTP/1
/// connection is closed and an HTTP/2 stream is reset.
pub struct ResponseBody {
    kind: Kind,
    /// This worker's own, so that asking for the counters touches no count that others touch.
    under: Under,
}

enum Kind {
    /// HTTP/1, and all of it is here: its connection has gone back already.
    Whole(Bytes),
    Http1(Box<Answering>),
    /// The stream is left at the body's end.
    Http2(Inflow, Option<Stream>),
    /// It has no body; the connection speaks another protocol.
    Switched(Option<Tunnel>),
    /// It broke off, and the reader has not been told yet.
    Broken(Option<BodyError>),
}

impl ResponseBody {
    pub(super) fn http1(mut answering: Answering, mut under: Under) -> ResponseBody {
        let kind = match answering.whole() {
            Some(data) => {
                under.slot.give_back(answering.spend());
                if data.is_empty() {
                    under.end();
                }
                Kind::Whole(data)
            }
            None => Kind::Http1(Box::new(answering)),
        };
        ResponseBody { kind, under }
    }

    pub(super) fn http2(incoming: Inflow, stream: Stream, under: Under) -> ResponseBody {
        let mut body = ResponseBody {
            kind: Kind::Http2(incoming, Some(stream)),
            under,
        };
        if body.is_end_stream() {
            body.finish();
        }
        body
    }

    /// `under`: one that counts no more; the tunnel has its own.
    pub(super) fn switched(tunnel: Tunnel, under: Under) -> ResponseBody {
        ResponseBody {
            kind: Kind::Switched(Some(tunnel)),
            under,
        }
    }

    /// The connection after 101, once.
    pub(super) fn take_tunnel(&mut self) -> Option<Tunnel> {
        match &mut self.kind {
            Kind::Switched(tunnel) => tunnel.take(),
            _ => None,
        }
    }

    /// Counters of the upstream whose answer this is.
    pub fn stats(&self) -> &UpstreamStats {
        &self.under.slot.core.stats
    }

    /// The body has ended, or will not.
    fn finish(&mut self) {
        if let Kind::Http2(_, stream) = &mut self.kind {
            drop(stream.take());
        } else if let Kind::Http1(answering) = self.close() {
            self.under.slot.give_back(answering.spend());
        }
        self.under.end();
    }

    /// Takes what was to come.
    fn close(&mut self) -> Kind {
        self.under.end();
        std::mem::replace(&mut self.kind, Kind::Whole(Bytes::new()))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = match &mut this.kind {
            Kind::Whole(data) if data.is_empty() => None,
            Kind::Whole(data) => Some(Ok(Frame::data(std::mem::take(data)))),
            Kind::Switched(_) => None,
            Kind::Broken(error) => error.take().map(Err),
            Kind::Http1(answering) => match ready!(answering.poll_frame(cx)) {
                Some(Err(fault)) => {
                    let words = fault.to_string();
                    let error = cut_off(words, Box::new(fault), answering.connection().link());
                    drop(this.close());
                    this.kind = Kind::Broken(Some(error));
                    // One turn later: an HTTP/2 stream that is reset drops what it has not sent,
                    // and what came before the end was often read together with it.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(Ok(frame)) => Some(Ok(frame)),
                None => None,
            },
            Kind::Http2(incoming, stream) => {
                let polled = ready!(Pin::new(incoming).poll_frame(cx));
                polled.map(|polled| {
                    polled.map_err(|error| match stream {
                        Some(stream) => http2::cut_off(error, &stream.http2.link),
                        None => BodyError::Reset { code: "CANCEL" },
                    })
                })
            }
        };
        match &polled {
            Some(Err(_)) => drop(this.close()),
            // The reader need not come back for the end of what it knows the length of.
            None => this.finish(),
            Some(Ok(_)) if this.is_end_stream() => this.finish(),
            Some(Ok(_)) => {}
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(data) => data.is_empty(),
            Kind::Http1(answering) => answering.is_ended(),
            Kind::Http2(incoming, _) => incoming.is_end_stream(),
            Kind::Switched(_) => true,
            Kind::Broken(error) => error.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let left = match &self.kind {
            Kind::Whole(data) => Some(data.len() as u64),
            Kind::Http1(answering) => answering.left(),
            Kind::Http2(incoming, _) => return incoming.size_hint(),
            Kind::Switched(_) => Some(0),
            Kind::Broken(_) => None,
        };
        left.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}
