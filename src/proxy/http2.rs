//! Serves one connection of HTTP/2, whose frames h2 reads and writes; each request is a task.
//!
//! Owns: the settings of HTTP/2 towards clients, its drain, and signs of life.
//! Never: looks at a request (that is `forward`).
//! Called by: `proxy::serve`.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream};
use http::Version;
use http::header::CONTENT_LENGTH;
use http_body::Body;
use tokio::time::Instant;

use super::alarm::Alarm;
use super::connection::Connection;
use super::control::Control;
use super::guarded::Guarded;
use super::http1::Content;
use super::record;
use super::retire::retirement;
use super::socket::Socket;
use super::work::Work;
use crate::drain::DrainGuard;
use crate::http2::{Inflow, Outflow, to_map};
use crate::message::Known;
use crate::model::Limits;

/// Bytes that a client may send ahead of us, per stream and per connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of one frame, and what a stream may have waiting for the socket.
const MAX_FRAME: u32 = 16 * 1024;
const MAX_SEND_BUFFER: usize = 400 * 1024;
/// A silent peer is asked for a sign of life this often, and given this long.
const PING: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));
/// A connection on which no body moves is let go after so many times the idle bound of one stream,
/// which ends what waits for its upstream before.
const STALLS: u32 = 3;

pub(super) async fn serve(
    (stream, first): (Socket, Bytes),
    connection: Arc<Connection>,
    limits: &Limits,
    mut guard: DrainGuard,
) {
    let bounds = (limits.idle_timeout, limits.stream_idle_timeout);
    let io = Guarded::new(stream, first, bounds, Arc::clone(&connection.control));
    let life = Life::new(io.opened());
    let mut serving = Serving {
        state: State::Shaking(settings(limits).handshake(io)),
        connection: Arc::clone(&connection),
        life,
        leaves: false,
    };
    // Where no stream has window left no body is polled, and no timer of a body runs.
    let patience = connection.stream_idle.saturating_mul(STALLS);
    let leaving = async {
        tokio::select! {
            () = guard.started() => {}
            () = retirement(&connection) => {}
        }
    };
    let mut leaving = pin!(leaving);
    let mut stalled = pin!(connection.control.stalled(patience));
    let ended = loop {
        tokio::select! {
            biased;
            ended = poll_fn(|cx| serving.poll(cx)) => break ended,
            () = leaving.as_mut(), if !serving.leaves => serving.leave(),
            // Also of one that is to end: it may never.
            () = stalled.as_mut() => {
                tracing::info!(
                    peer = %connection.peer,
                    "an HTTP/2 client took no byte of its answers for {patience:?}; it is let go",
                );
                return;
            }
        }
    };
    if let Err(error) = ended {
        let open = connection.control.in_flight.load(Ordering::Relaxed);
        tracing::debug!(peer = %connection.peer, open, "connection ended: {}", record::chain(&error));
    }
}

fn settings(limits: &Limits) -> server::Builder {
    let mut settings = server::Builder::new();
    settings
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_send_buffer_size(MAX_SEND_BUFFER)
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(u32::try_from(limits.max_head_bytes).unwrap_or(u32::MAX));
    settings
}

/// A connection before and after its preface.
enum State {
    Shaking(server::Handshake<Guarded, Bytes>),
    Open(server::Connection<Guarded, Bytes>),
}

struct Serving {
    state: State,
    connection: Arc<Connection>,
    life: Life,
    /// The client is told that no new request is taken.
    leaves: bool,
}

impl Serving {
    /// Takes no new request, and ends once those under way are done.
    fn leave(&mut self) {
        self.leaves = true;
        if let State::Open(frames) = &mut self.state {
            frames.graceful_shutdown();
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        if let State::Shaking(shaking) = &mut self.state {
            let mut frames = ready!(Pin::new(shaking).poll(cx))?;
            self.life.pings = frames.ping_pong();
            if self.leaves {
                frames.graceful_shutdown();
            }
            self.state = State::Open(frames);
        }
        let State::Open(frames) = &mut self.state else {
            return Poll::Pending;
        };
        if self.life.poll(&self.connection.control, cx).is_ready() {
            frames.abrupt_shutdown(Reason::NO_ERROR);
        }
        while let Some(request) = ready!(frames.poll_accept(cx)) {
            let (request, respond) = request?;
            // Boxed first: a task's future is copied several times on its way.
            let answer = answer(Arc::clone(&self.connection), request, respond);
            tokio::spawn(Box::pin(answer));
        }
        Poll::Ready(Ok(()))
    }
}

/// Answers one request. It is dropped where the client wants no answer any more.
async fn answer(
    connection: Arc<Connection>,
    request: http::Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let (head, stream) = request.into_parts();
    let body = Inflow::new(stream, &head.headers);
    let request = http::Request::from_parts(head, Content::from(body));
    let response = {
        let mut work = Work::new(connection, request.into());
        let answered = poll_fn(|cx| match work.poll(cx) {
            Poll::Ready(response) => Poll::Ready(Some(response)),
            Poll::Pending => respond.poll_reset(cx).map(|_| None),
        });
        match answered.await {
            Some(response) => response,
            None => return,
        }
    };
    let (head, body) = response.into_parts();
    let mut headers = to_map(head.headers, |field| field.known() != Known::Te);
    let is_whole = body.is_end_stream();
    if !is_whole
        && let Some(length) = body.size_hint().exact()
        && !headers.contains_key(CONTENT_LENGTH)
    {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    let mut message = http::Response::new(());
    *message.status_mut() = head.status;
    *message.version_mut() = Version::HTTP_2;
    *message.headers_mut() = headers;
    match respond.send_response(message, is_whole) {
        Ok(_) if is_whole => {}
        // Who else must know of a failure has been told by the body.
        Ok(stream) => drop(Outflow::new(stream, body).send().await),
        Err(_) => respond.send_reset(Reason::INTERNAL_ERROR),
    }
}

/// Asks a client that says nothing whether it is there.
struct Life {
    /// `None` before the preface, and once it has given none.
    pings: Option<PingPong>,
    opened: Instant,
    look: Alarm,
    /// When it was asked.
    asked: Option<Instant>,
}

impl Life {
    fn new(opened: Instant) -> Life {
        Life {
            pings: None,
            opened,
            look: Alarm::default(),
            asked: None,
        }
    }

    /// Ready where it gave no sign of life.
    fn poll(&mut self, control: &Control, cx: &mut Context<'_>) -> Poll<()> {
        let Some(pings) = &mut self.pings else {
            return Poll::Pending;
        };
        loop {
            let heard = self.opened + control.heard();
            // A sign that came is taken, so that it can be asked again.
            if let Some(asked) = self.asked
                && (pings.poll_pong(cx).is_ready() || heard > asked)
            {
                self.asked = None;
            }
            let due = match self.asked {
                Some(asked) => asked + PING.1,
                None => heard + PING.0,
            };
            ready!(self.look.poll(due, cx));
            if self.asked.is_some() {
                self.pings = None;
                return Poll::Ready(());
            }
            let _ = pings.send_ping(Ping::opaque());
            self.asked = Some(Instant::now());
        }
    }
}
