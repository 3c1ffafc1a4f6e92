//! The two bodies of an exchange, streamed and never held whole.
//!
//! Owns: [`RequestBody`], [`ResponseBody`] and the lease that an answer holds until its end.
//! Never: buffers more than the frame that it passes on.
//! Called by: proxy (gives one, reads the other).

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::error::BodyError;

/// What is sent to an upstream.
pub enum RequestBody {
    /// Nothing. Such a request can be sent again.
    Empty,
    /// A stream, read once, as fast as the upstream takes it.
    Stream(Pin<Box<dyn Body<Data = Bytes, Error = BodyError> + Send>>),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            RequestBody::Empty => Poll::Ready(None),
            RequestBody::Stream(body) => body.as_mut().poll_frame(cx),
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
    stats: std::sync::Arc<crate::telemetry::UpstreamStats>,
}

impl ResponseBody {
    /// Counters of the upstream whose answer this is.
    pub fn stats(&self) -> &crate::telemetry::UpstreamStats {
        &self.stats
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.inner)
            .poll_frame(cx)
            .map_err(|source| BodyError::CutOff {
                explained: source.to_string(),
                source,
            })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
