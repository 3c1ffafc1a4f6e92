//! One connection, from its first request to its end.
//!
//! Owns: what comes after what: a request's head, the request, its answer, the next head; the
//! deadlines of heads and of silence; refusals; how it ends.
//! Never: looks at what a request asks for.
//! Called by: `proxy::serve`.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use super::batch::Batch;
use super::content::Content;
use super::encode;
use super::exchange::{Answering, Cut, Out, Switch, length_of};
use super::head::{self, Facts, Found};
use super::leaving::Leaving;
use super::parking;
use super::wire::{Shared, Wire, lock};
use crate::drain::DrainGuard;
use crate::message::{Request, RequestHead, Response};
use crate::model::Limits;
use crate::proxy::answer;
use crate::proxy::body::AnswerBody;
use crate::proxy::connection::Connection;
use crate::proxy::control::Fault;
use crate::proxy::crowd::Member;
use crate::proxy::guarded::Guarded;
use crate::proxy::lot::{PATIENCE, can_park};
use crate::proxy::record;
use crate::proxy::socket::Socket;
use crate::proxy::strict::{Framing, Piece, Strict, StrictLimits};
use crate::proxy::work::Work;

/// After a refusal the client may still be sending; what it sends is read away for this long, as a
/// socket closed with unread bytes is reset and the refusal lost (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(1);

/// Serves the requests that come on a socket, one after the other. `first`: bytes that were read
/// from it before.
pub(in crate::proxy) async fn serve(
    (stream, first): (Socket, Bytes),
    connection: Arc<Connection>,
    limits: &Limits,
    (guard, lively): (DrainGuard, bool),
) {
    let mut server = Server::new((stream, first), connection, limits, guard);
    server.lively = lively;
    poll_fn(|cx| server.poll(cx)).await;
}

struct Server {
    connection: Arc<Connection>,
    wire: Shared,
    /// The body's reader wakes this task.
    lent: bool,
    leaving: Leaving,
    state: State,
    began: Instant,
    head_timeout: Duration,
    idle_timeout: Duration,
    /// It may be parked where it waits.
    parks: bool,
    /// It has asked again soon after an answer.
    lively: bool,
    /// Waits for whether it does.
    member: Option<Member>,
    /// What has come of a head that did not come at once.
    head: BytesMut,
    head_began: Option<Instant>,
    idle_since: Option<Instant>,
    out: Out,
}

enum State {
    /// A head is waited for, or for the rest of it.
    Reading,
    Asking(Work, Facts, Switch),
    Answering(Answering),
    /// The answer has left; the request's body may not have come to its end.
    Settling {
        last: bool,
        switch: Switch,
    },
    /// What is left to send is the last.
    Ending {
        lingers: bool,
    },
    Lingering(Pin<Box<Sleep>>),
    Over,
}

impl Server {
    fn new(
        (stream, first): (Socket, Bytes),
        connection: Arc<Connection>,
        limits: &Limits,
        guard: DrainGuard,
    ) -> Self {
        let strict = Strict::new(StrictLimits {
            max_head_bytes: limits.max_head_bytes,
            max_headers: limits.max_headers,
        });
        let parks = can_park(connection.kind, &stream);
        let wire = Wire::new(stream, first, strict, Arc::clone(&connection.control));
        Server {
            connection,
            wire: Shared::new(wire.into()),
            lent: false,
            leaving: Leaving::new(guard),
            state: State::Reading,
            began: Instant::now(),
            head_timeout: limits.head_timeout,
            idle_timeout: limits.idle_timeout,
            parks,
            lively: false,
            member: None,
            head: BytesMut::new(),
            head_began: None,
            idle_since: None,
            out: Out::new(limits.stream_idle_timeout),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::take(&mut self.lent) {
            lock(&self.wire).tell(None);
        }
        if self.connection.entrance.is_some() {
            // Its time may be over while a request is under way.
            let _ = self.leaving.poll(&self.connection, cx);
        }
        loop {
            self.state = match &mut self.state {
                State::Reading => ready!(self.poll_reading(cx)),
                State::Asking(work, ..) => match work.poll(cx) {
                    Poll::Ready(answer) => ready!(self.answer(answer, cx)),
                    Poll::Pending => ready!(self.poll_left_alone(cx)),
                },
                State::Answering(_) => ready!(self.poll_answering(Batch::take(), cx)),
                State::Settling { .. } => ready!(self.poll_settling(cx)),
                State::Ending { lingers } => {
                    let lingers = *lingers;
                    ready!(self.poll_ending(lingers, cx))
                }
                State::Lingering(until) => {
                    if until.as_mut().poll(cx).is_pending() {
                        ready!(self.poll_discarded(cx));
                    }
                    State::Over
                }
                State::Over => return Poll::Ready(()),
            };
        }
    }

    /// Reads a head.
    fn poll_reading(&mut self, cx: &mut Context<'_>) -> Poll<State> {
        let shared = Shared::clone(&self.wire);
        let mut guard = lock(&shared);
        let wire = &mut *guard;
        loop {
            if wire.rest.is_empty() {
                match wire.poll_fill(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(true)) => {}
                    // Within a head there is nothing to say to who left.
                    Poll::Ready(Ok(false)) if self.head.is_empty() => {
                        return Poll::Ready(State::Ending { lingers: false });
                    }
                    Poll::Ready(Ok(false) | Err(_)) => return Poll::Ready(State::Over),
                }
            }
            let mut found = Found::new();
            match wire.strict.next_with(&wire.rest, &mut found) {
                Ok((Piece::HeadEnd(framing), count)) => {
                    let bytes = wire.rest.split_to(count);
                    let request = match self.head.is_empty() {
                        true => found.read(bytes),
                        false => {
                            self.head.extend_from_slice(&bytes);
                            head::read(std::mem::take(&mut self.head).freeze())
                        }
                    };
                    (self.head_began, self.idle_since) = (None, None);
                    self.lively |= self.member.take().is_some();
                    if let Ok((_, facts)) = &request
                        && wire.strict.in_body()
                    {
                        wire.begin(facts.expects);
                    }
                    drop(guard);
                    return Poll::Ready(match request {
                        Ok((parts, facts)) => self.ask(parts, facts, framing),
                        Err(fault) => self.refuse(fault),
                    });
                }
                // Nothing but a head begins here.
                Ok((_, count)) => {
                    self.head.extend_from_slice(&wire.rest.split_to(count));
                    self.head_began.get_or_insert_with(Instant::now);
                }
                Err(violation) => {
                    drop(guard);
                    return Poll::Ready(self.refuse(Fault::Violation(violation)));
                }
            }
        }
        drop(guard);
        self.poll_waiting(cx)
    }

    /// Nothing came: is that for too long, or is the connection to end?
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<State> {
        if let Some(began) = self.head_began {
            ready!(self.poll_alarm(began + self.head_timeout, cx));
            return Poll::Ready(self.refuse(Fault::HeadTimeout(self.head_timeout)));
        }
        let since = *self.idle_since.get_or_insert_with(Instant::now);
        let end = since + self.idle_timeout;
        if self.parks && PATIENCE < self.idle_timeout {
            if !self.lively && self.member.is_none() {
                self.member = self.connection.context.lot.crowd.join();
            }
            let crowded = !self.lively && self.member.is_none();
            if crowded || self.poll_alarm(since + PATIENCE, cx).is_ready() {
                if parking::park(&mut self.connection, &self.wire, &mut self.leaving, end) {
                    return Poll::Ready(State::Over);
                }
                self.parks = false;
                return self.poll_waiting(cx);
            }
        } else if self.poll_alarm(end, cx).is_ready() {
            return Poll::Ready(State::Ending { lingers: false });
        }
        ready!(self.leaving.poll(&self.connection, cx));
        Poll::Ready(State::Ending { lingers: false })
    }

    fn poll_alarm(&self, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let control = &self.connection.control;
        let mut alarm = control.take_alarm();
        let late = alarm.poll(due, cx);
        control.keep_alarm(alarm);
        late
    }

    fn ask(&mut self, head: Box<RequestHead>, facts: Facts, framing: Framing) -> State {
        let (sender, receiver) = match facts.upgrades {
            true => Some(oneshot::channel()).unzip(),
            false => (None, None),
        };
        let content = Content::new(&self.wire, framing, receiver);
        let request = Request::from_parts(head, content);
        let work = Work::new(Arc::clone(&self.connection), request);
        State::Asking(work, facts, sender)
    }

    /// The client is told what is wrong, and the connection ends.
    fn refuse(&mut self, fault: Fault) -> State {
        self.out
            .push(answer::refusal(&fault, self.connection.context.terse));
        self.connection.control.set_fault(fault);
        self.ending(true)
    }

    /// Goes over to the end; tells of what the client did wrong, unless a request did.
    fn ending(&mut self, lingers: bool) -> State {
        let control = &self.connection.control;
        let fault = control.fault();
        if let Some(fault) = fault.as_ref().filter(|_| !control.was_told()) {
            let received = lock(&self.wire).received;
            record::refused(&self.connection, fault, self.began, received);
        }
        State::Ending {
            lingers: lingers || fault.is_some(),
        }
    }

    /// While an answer is waited for, or its client: has the client left?
    fn poll_left_alone(&mut self, cx: &mut Context<'_>) -> Poll<State> {
        let mut wire = lock(&self.wire);
        if wire.is_lent() {
            wire.tell(Some(cx.waker()));
            self.lent = true;
            return Poll::Pending;
        }
        // What came early waits, and nothing more is read.
        if wire.rest.is_empty()
            && !wire.broken
            && !wire.strict.in_body()
            && !matches!(ready!(wire.poll_fill(cx)), Ok(true))
        {
            self.connection.control.set_reset();
            return Poll::Ready(State::Over);
        }
        Poll::Pending
    }

    fn answer(&mut self, answer: Response<AnswerBody>, cx: &mut Context<'_>) -> Poll<State> {
        let state = std::mem::replace(&mut self.state, State::Over);
        let State::Asking(_, facts, switch) = state else {
            return Poll::Ready(State::Over);
        };
        let control = &self.connection.control;
        let (parts, body) = answer.into_parts();
        let mut wire = lock(&self.wire);
        let interim = wire.answers();
        if !interim.is_empty() {
            self.out.push(Bytes::from_static(interim));
        }
        if wire.broken && parts.status.is_client_error() && control.was_told() {
            let broken = control.fault();
            drop(wire);
            if let Some(fault) = broken {
                return Poll::Ready(self.refuse(fault));
            }
            wire = lock(&self.wire);
        }
        let whole = wire.is_lent() || wire.poll_drained(cx);
        drop(wire);
        let goes_on = facts.keep_alive && whole && !self.leaving.is_due(&self.connection, cx);
        let mut batch = Batch::take();
        let said = encode::head(&mut batch, &parts, length_of(&body), facts, goes_on);
        let switch = switch.filter(|_| parts.status == StatusCode::SWITCHING_PROTOCOLS);
        let answering = Answering::new((body, said.coder), facts.trailers, said.last, switch);
        self.state = State::Answering(answering);
        self.poll_answering(batch, cx)
    }

    fn poll_answering(&mut self, mut batch: Batch, cx: &mut Context<'_>) -> Poll<State> {
        let State::Answering(answering) = &mut self.state else {
            return Poll::Ready(State::Over);
        };
        let mut sent = Poll::Ready(Ok(()));
        if !self.out.is_empty() {
            // Its body is not asked before.
            sent = self.out.poll_send(&mut batch, &self.wire, cx);
        }
        if let Poll::Ready(Ok(())) = sent {
            sent = answering.poll(&mut batch, (&mut self.out, &self.wire), cx);
        }
        batch.keep();
        match sent {
            Poll::Pending => self.poll_left_alone(cx),
            Poll::Ready(Ok(())) => {
                let (last, switch) = (answering.last, answering.switch.take());
                Poll::Ready(State::Settling { last, switch })
            }
            Poll::Ready(Err(Cut)) => {
                self.connection.control.set_reset();
                Poll::Ready(self.ending(false))
            }
        }
    }

    /// Between an answer and the next request.
    fn poll_settling(&mut self, cx: &mut Context<'_>) -> Poll<State> {
        let State::Settling { last, switch } = &mut self.state else {
            return Poll::Ready(State::Over);
        };
        let mut wire = lock(&self.wire);
        if wire.is_lent() {
            wire.tell(Some(cx.waker()));
            self.lent = true;
            return Poll::Pending;
        }
        let whole = wire.poll_drained(cx);
        if let Some(switch) = switch.take().filter(|_| whole) {
            if let Some(socket) = wire.socket.take() {
                let first = std::mem::take(&mut wire.rest);
                let bounds = (self.idle_timeout, self.out.stall());
                let control = Arc::clone(&self.connection.control);
                let _ = switch.send(Guarded::new(socket, first, bounds, control));
            }
            return Poll::Ready(State::Over);
        }
        if whole && !*last {
            return Poll::Ready(State::Reading);
        }
        let unread = !whole || !wire.rest.is_empty();
        drop(wire);
        Poll::Ready(self.ending(unread))
    }

    /// Sends what is left, and says that nothing follows.
    fn poll_ending(&mut self, lingers: bool, cx: &mut Context<'_>) -> Poll<State> {
        // A clean end of file would make a cut-off answer look complete (RFC 9112 section 8).
        if self.connection.control.is_reset() {
            return Poll::Ready(State::Over);
        }
        let mut batch = Batch::take();
        let sent = self.out.poll_send(&mut batch, &self.wire, cx);
        batch.keep();
        let ended = match ready!(sent) {
            // Closing alone says that nothing follows.
            Ok(()) if !lingers && !self.secured() => Ok(()),
            Ok(()) => ready!(self.out.poll_end(&self.wire, cx)),
            Err(Cut) => Err(Cut),
        };
        Poll::Ready(match (ended, lingers) {
            (Ok(()), true) => State::Lingering(Box::pin(tokio::time::sleep(LINGER))),
            (Ok(()), false) => State::Over,
            (Err(Cut), _) => {
                self.connection.control.set_reset();
                State::Over
            }
        })
    }

    /// TLS ends here.
    fn secured(&self) -> bool {
        self.connection.secured.is_some()
    }

    /// Reads away what the client still sends, up to its end.
    fn poll_discarded(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut wire = lock(&self.wire);
        while matches!(ready!(wire.poll_fill(cx)), Ok(true)) {}
        Poll::Ready(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whoever drops it in the middle of an answer, as the end of a drain does, cuts that off.
        let control = &self.connection.control;
        let cut_off = matches!(self.state, State::Asking(..) | State::Answering(_))
            || !self.out.is_empty()
            || control.in_flight.load(Ordering::Relaxed) > 0;
        // Where the request's body outlives it, it must not keep the socket.
        let socket = lock(&self.wire).socket.take();
        if let Some(socket) = socket.filter(|_| cut_off || control.is_reset()) {
            // Closing with a linger of zero sends RST instead of FIN.
            socket.reset();
        }
    }
}
