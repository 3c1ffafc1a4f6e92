//! Bodies of HTTP/2 messages, over the streams of h2.
//!
//! Owns: [`Inflow`], which reads one; [`Outflow`], which sends one; and which fields HTTP/2 has a place for.
//! Never: opens a stream, or holds more than the frame in hand.
//! Called by: proxy (towards clients), upstream (towards servers).
//!
//! Why not hyper's: there each request passes two channels and two more tasks on its way to a stream, and
//! each frame asks the clock for its time.

use std::error::Error;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};

use crate::message::{Field, Fields, Known};

/// A body that comes on a stream.
pub struct Inflow {
    stream: RecvStream,
    /// What is still to come, where the head said so. h2 sees to it that it is true.
    left: Option<u64>,
    /// Only trailers may follow.
    data_done: bool,
}

impl Inflow {
    /// `headers`: of its message.
    pub fn new(stream: RecvStream, headers: &HeaderMap) -> Inflow {
        Inflow {
            stream,
            left: length(headers),
            data_done: false,
        }
    }
}

/// What a head says of its body's length: one number, however often.
fn length(headers: &HeaderMap) -> Option<u64> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let first = number(lengths.next()?)?;
    lengths
        .all(|other| number(other) == Some(first))
        .then_some(first)
}

fn number(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?;
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

impl Body for Inflow {
    type Data = Bytes;
    /// A reset with `NO_ERROR` is one too: it is not the body's end.
    type Error = h2::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = self.get_mut();
        if !this.data_done {
            match ready!(this.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // What was taken may come again. It fails only where the stream has ended.
                    let _ = this.stream.flow_control().release_capacity(data.len());
                    if let Some(left) = &mut this.left {
                        *left = left.saturating_sub(data.len() as u64);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => this.data_done = true,
            }
        }
        let trailers = ready!(this.stream.poll_trailers(cx))?;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Why a body was not sent whole.
#[derive(Debug)]
pub enum Stopped<E> {
    /// It could not be read; its stream was reset.
    Body(E),
    /// The peer, or the connection, takes no more of it.
    Stream(h2::Error),
}

/// A body that is sent on a stream, frame by frame as the peer takes it.
pub struct Outflow<B> {
    stream: SendStream<Bytes>,
    body: B,
    /// Read and not sent: the peer takes nothing now. And whether it is the last.
    held: Option<(Bytes, bool)>,
}

impl<B> Outflow<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Reset,
{
    /// Nothing is sent until it is polled.
    pub fn new(stream: SendStream<Bytes>, body: B) -> Outflow<B> {
        Outflow {
            stream,
            body,
            held: None,
        }
    }

    /// Sends all of it.
    ///
    /// # Errors
    /// See [`Stopped`].
    pub async fn send(mut self) -> Result<(), Stopped<B::Error>> {
        poll_fn(|cx| self.poll_send(cx)).await
    }

    /// The same.
    ///
    /// # Errors
    /// See [`Stopped`].
    pub fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped<B::Error>>> {
        // Told of a reset while it waits for anything else.
        if let Poll::Ready(reason) = self.stream.poll_reset(cx).map_err(Stopped::Stream)? {
            return Poll::Ready(Err(Stopped::Stream(reason.into())));
        }
        loop {
            if let Some((data, last)) = self.held.take() {
                if !data.is_empty() && self.stream.capacity() == 0 {
                    match self.stream.poll_capacity(cx) {
                        Poll::Pending => {
                            self.held = Some((data, last));
                            return Poll::Pending;
                        }
                        Poll::Ready(Some(Ok(capacity))) => {
                            if capacity == 0 {
                                self.held = Some((data, last));
                                continue;
                            }
                        }
                        Poll::Ready(Some(Err(error))) => {
                            return Poll::Ready(Err(Stopped::Stream(error)));
                        }
                        Poll::Ready(None) => {
                            let closed = h2::Error::from(Reason::STREAM_CLOSED);
                            return Poll::Ready(Err(Stopped::Stream(closed)));
                        }
                    }
                }
                let sent = self.stream.send_data(data, last);
                sent.map_err(Stopped::Stream)?;
                if last {
                    return Poll::Ready(Ok(()));
                }
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    self.stream.send_reset(error.reason());
                    return Poll::Ready(Err(Stopped::Body(error)));
                }
                None => {
                    let ended = self.stream.send_data(Bytes::new(), true);
                    return Poll::Ready(ended.map_err(Stopped::Stream));
                }
            };
            match frame.into_data() {
                Ok(data) => {
                    if !data.is_empty() {
                        // One byte: a body that waits must not keep the connection's window from
                        // others. h2 asks for as much as it is given.
                        self.stream.reserve_capacity(1);
                    }
                    self.held = Some((data, self.body.is_end_stream()));
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.stream.reserve_capacity(0);
                        let ended = self.stream.send_trailers(trailers);
                        return Poll::Ready(ended.map_err(Stopped::Stream));
                    }
                }
            }
        }
    }
}

/// An error of a body, as the stream that it was sent on is reset for it.
pub trait Reset {
    /// The code of RFC 9113 section 7.
    fn reason(&self) -> Reason;
}

/// That of an HTTP/2 stream behind `error`, where there is one.
pub fn reason(error: &(dyn Error + 'static)) -> Reason {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(reason) = error.downcast_ref().and_then(h2::Error::reason) {
            return reason;
        }
        next = error.source();
    }
    Reason::INTERNAL_ERROR
}

/// The fields of a message as HTTP/2 sends them: without those of one HTTP/1 connection (RFC 9113 section
/// 8.2.2), and those for which `keep` does not hold.
///
/// Why it takes them: a value that is copied is one more allocation, and a message has many.
pub fn to_map(mut fields: Fields, keep: impl Fn(Field<'_>) -> bool) -> HeaderMap {
    let mut named: Vec<HeaderName> = Vec::new();
    for value in fields.get_all(Known::Connection) {
        let names = value.as_bytes().split(|byte| *byte == b',');
        named.extend(names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()));
    }
    fields.retain(|field| {
        let fits = match field.known() {
            Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::TransferEncoding
            | Known::Upgrade => false,
            Known::Te => field.value() == "trailers",
            _ => true,
        };
        let is_named = || field.to_name().is_some_and(|name| named.contains(&name));
        fits && keep(field) && (named.is_empty() || !is_named())
    });
    fields.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_one_connection_stay_behind() {
        let fields: Fields = [
            ("connection", "close, X-Mine"),
            ("keep-alive", "5"),
            ("x-mine", "1"),
            ("te", "gzip"),
            ("te", "Trailers"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("proxy-connection", "close"),
            ("upgrade", "h2c"),
            ("x-yours", "2"),
            ("host", "a"),
        ]
        .into_iter()
        .collect();
        let map = to_map(fields, |field| field.known() != Known::Host);
        let left: Vec<_> = map.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(left, ["te", "x-yours"]);
        assert_eq!(map["te"], "trailers");
    }

    #[test]
    fn a_length_is_one_number() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_LENGTH, HeaderValue::from_static(value));
            }
            length(&headers)
        };
        assert_eq!(of(&["12"]), Some(12));
        assert_eq!(of(&["12", "12"]), Some(12));
        for none in [&[][..], &["12", "13"], &["+1"], &[""], &["1, 1"]] {
            assert_eq!(of(none), None, "{none:?}");
        }
    }
}
