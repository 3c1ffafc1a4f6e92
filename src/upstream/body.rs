//! The two bodies of an exchange, streamed and never held whole.
//!
//! Owns: [`RequestBody`], [`ResponseBody`] and the lease that an answer holds until its end.
//! Never: buffers more than the frame that it passes on.
//! Called by: proxy (gives one, reads the other).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::connection::{Lease, cut_off};
use super::error::BodyError;
use super::pool::Slot;
use super::wire::Link;
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
    inner: Incoming,
    link: Arc<Link>,
    /// This worker's own, so that asking for the counters touches no count that others touch.
    slot: Arc<Slot>,
    lease: Option<Lease>,
}

impl ResponseBody {
    pub(super) fn new(
        inner: Incoming,
        link: Arc<Link>,
        slot: Arc<Slot>,
        lease: Option<Lease>,
    ) -> ResponseBody {
        let mut body = ResponseBody {
            inner,
            link,
            slot,
            lease,
        };
        if body.inner.is_end_stream() {
            body.finish();
        }
        body
    }

    /// Counters of the upstream whose answer this is.
    pub fn stats(&self) -> &UpstreamStats {
        &self.slot.core.stats
    }

    fn finish(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.finish();
        }
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
        match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
            Some(Ok(frame)) => {
                // The reader need not come back for the end of what it knows the length of.
                if this.inner.is_end_stream() {
                    this.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                this.lease = None;
                Poll::Ready(Some(Err(cut_off(error, &this.link))))
            }
            // hyper takes a reset with NO_ERROR for the end of the answer, which it is not.
            None if this.lease.as_ref().is_some_and(Lease::is_http2)
                && !this.inner.is_end_stream() =>
            {
                this.lease = None;
                let code = "NO_ERROR";
                Poll::Ready(Some(Err(BodyError::Reset { code })))
            }
            None => {
                this.finish();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
