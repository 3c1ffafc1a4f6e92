//! HTTP/2 to an upstream, which hyper speaks: a connection, how busy it is, and its errors.
//!
//! Owns: [`Http2`], [`Load`], and what hyper's and h2's errors mean to us.
//! Never: picks or opens a connection.
//! Called by: `pool` (keeps them), `connect` (makes them), `connection` (sends on them), `body`.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use hyper::client::conn::http2;

use super::body::RequestBody;
use super::connection::{closed, not_http};
use super::error::{BodyError, UpstreamError};
use super::pool::{Permit, Slot};
use super::wire::Link;

/// A connection for many requests. Clones are the same connection.
#[derive(Clone)]
pub(super) struct Http2 {
    pub(super) sender: http2::SendRequest<RequestBody>,
    pub(super) link: Arc<Link>,
    pub(super) load: Arc<Load>,
}

/// How busy an HTTP/2 connection is.
pub(super) struct Load {
    active: AtomicUsize,
    served: AtomicU64,
    /// It has brought an answer: from then on the server may close it as idle.
    pub(super) answered: AtomicBool,
    max_streams: AtomicUsize,
    /// Milliseconds of the upstream's clock.
    idle_since: AtomicU64,
    _permit: Permit,
}

impl Load {
    /// `max_streams`: what is assumed until the server's SETTINGS came.
    pub(super) fn new(max_streams: usize, now: u64, permit: Permit) -> Load {
        Load {
            active: AtomicUsize::new(0),
            served: AtomicU64::new(0),
            answered: AtomicBool::new(false),
            max_streams: AtomicUsize::new(max_streams),
            idle_since: AtomicU64::new(now),
            _permit: permit,
        }
    }

    /// The server allows so many streams at once (RFC 9113 section 6.5.2).
    pub(super) fn allows(&self, max_streams: usize) {
        self.max_streams.store(max_streams, Relaxed);
    }

    pub(super) fn has_room(&self) -> bool {
        self.active.load(Relaxed) < self.max_streams.load(Relaxed)
    }

    /// Since when there has been no stream; `None` while there is one.
    pub(super) fn idle_since(&self) -> Option<u64> {
        (self.active.load(Relaxed) == 0).then(|| self.idle_since.load(Relaxed))
    }

    /// Takes a place and returns how many requests came before.
    pub(super) fn enter(&self) -> u64 {
        self.active.fetch_add(1, Relaxed);
        self.served.fetch_add(1, Relaxed)
    }
}

/// A request's place on a connection, taken by [`Load::enter`] and left when this is dropped.
pub(super) struct Stream {
    pub(super) http2: Http2,
    slot: Arc<Slot>,
}

impl Stream {
    pub(super) fn entered(http2: Http2, slot: &Arc<Slot>) -> Stream {
        let slot = Arc::clone(slot);
        Stream { http2, slot }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let load = &self.http2.load;
        if load.active.fetch_sub(1, Relaxed) == 1 {
            load.idle_since.store(self.slot.core.clock.now(), Relaxed);
            self.slot.sweep();
        }
    }
}

/// The first source of `error`, itself included, that is a `T`.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// `error` and its sources in one line, each thing said once.
fn in_words(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let more = source.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = source.source();
    }
    text
}

pub(super) fn classify(
    error: &hyper::Error,
    link: &Link,
    reused: bool,
    mark: u64,
) -> UpstreamError {
    let endpoint = link.endpoint;
    if let Some(body) = find::<Arc<BodyError>>(error) {
        return UpstreamError::BodyFromClient(Arc::clone(body));
    }
    if let Some(h2) = find::<h2::Error>(error) {
        let code = h2.reason().map(name_of);
        match code {
            Some("REFUSED_STREAM") if h2.is_reset() => {
                let how = "REFUSED_STREAM";
                return UpstreamError::RefusedStream { endpoint, how };
            }
            // Streams above the last one that it names were not processed (RFC 9113 6.8).
            Some("NO_ERROR") if h2.is_go_away() && h2.is_remote() => {
                let how = "GOAWAY";
                return UpstreamError::RefusedStream { endpoint, how };
            }
            Some(code) if h2.is_reset() && h2.is_remote() => {
                return UpstreamError::StreamReset { endpoint, code };
            }
            Some(_) if h2.is_library() => {
                return UpstreamError::Garbage {
                    endpoint,
                    problem: not_http(&in_words(h2), link),
                };
            }
            _ => {}
        }
    }
    closed(&in_words(error), link, reused, mark)
}

/// Names of RFC 9113 section 7.
fn name_of(reason: h2::Reason) -> &'static str {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    let index = usize::try_from(u32::from(reason)).unwrap_or(usize::MAX);
    NAMES.get(index).copied().unwrap_or("unknown error code")
}

/// Why an answer's body stopped.
pub(super) fn cut_off(error: hyper::Error, link: &Link) -> BodyError {
    let reset = find::<h2::Error>(&error).filter(|h2| h2.is_reset() && h2.is_remote());
    if let Some(code) = reset.and_then(h2::Error::reason) {
        return BodyError::Reset {
            code: name_of(code),
        };
    }
    super::connection::cut_off(in_words(&error), Box::new(error), link)
}
