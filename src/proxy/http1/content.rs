//! A request's body, as whoever sends it on reads it.
//!
//! Owns: [`Content`], of HTTP/1 or HTTP/2; and the client's side of a switch of protocols.
//! Never: reads ahead.
//! Called by: `server` (makes it), `proxy::http2`, `proxy::ready` and `proxy::body`.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

use super::wire::{Shared, lock};
use crate::http2::Inflow;
use crate::proxy::guarded::Guarded;
use crate::proxy::strict::Framing;
use crate::upstream::{Duplex, Switched};

/// A request's body, and the connection that it came on, should it change its protocol.
pub(in crate::proxy) struct Content {
    body: Source,
    switch: Option<oneshot::Receiver<Guarded>>,
}

/// A reset that tells of no error (RFC 9113 section 8.1) is none that a client may send.
const EARLY_END: &str = "the client reset its stream before the end of its body";

enum Source {
    Empty,
    Http1(OnWire),
    Http2(Inflow),
}

/// A body that is read from the client's socket.
struct OnWire {
    wire: Shared,
    /// `None`: it comes in chunks.
    left: Option<u64>,
}

impl Content {
    /// `framing`: of the body that begins on the wire now.
    pub(super) fn new(
        wire: &Shared,
        framing: Framing,
        switch: Option<oneshot::Receiver<Guarded>>,
    ) -> Self {
        let left = match framing {
            Framing::Length(0) => None,
            Framing::Length(length) => Some(Some(length)),
            Framing::Chunked => Some(None),
        };
        let body = left.map_or(Source::Empty, |left| {
            let wire = Shared::clone(wire);
            Source::Http1(OnWire { wire, left })
        });
        Content { body, switch }
    }

    /// The client's bytes once the protocol has changed; `None` where it cannot.
    pub(in crate::proxy) fn switched(&mut self) -> Option<Switched> {
        let switch = self.switch.take()?;
        Some(Box::pin(async {
            let stream = switch.await?;
            Ok(Box::new(stream) as Box<dyn Duplex>)
        }))
    }
}

impl From<Inflow> for Content {
    fn from(body: Inflow) -> Self {
        Content {
            body: Source::Http2(body),
            switch: None,
        }
    }
}

impl Drop for OnWire {
    fn drop(&mut self) {
        lock(&self.wire).let_go();
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut self.get_mut().body {
            Source::Empty => Poll::Ready(None),
            Source::Http1(body) => {
                let frame = ready!(lock(&body.wire).poll_body(cx));
                if let (Some(left), Some(Ok(frame))) = (&mut body.left, &frame) {
                    let count = frame.data_ref().map_or(0, Bytes::len);
                    *left = left.saturating_sub(count as u64);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Source::Http2(body) => {
                Pin::new(body)
                    .poll_frame(cx)
                    .map_err(|error| match error.reason() {
                        Some(h2::Reason::NO_ERROR) => EARLY_END.into(),
                        _ => error.into(),
                    })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Source::Empty => true,
            Source::Http1(body) => body.left == Some(0),
            Source::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Source::Empty => SizeHint::with_exact(0),
            Source::Http1(body) => body
                .left
                .map_or_else(SizeHint::default, SizeHint::with_exact),
            Source::Http2(body) => body.size_hint(),
        }
    }
}
