//! Sends one request, as often as its rule allows, within its time.
//!
//! Owns: the loop over tries, the timeouts, the retry budget.
//! Never: decides what is worth a retry (that is `retry`).
//! Called by: `proxy::forward`.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::alarm::Alarm;
use super::answer;
use super::body::AnswerBody;
use super::connection::Connection;
use super::error::ProxyError;
use super::received::Received;
use super::record::Record;
use super::retry::{self, Again, Replay};
use crate::message::{Request, RequestHead, Response};
use crate::model::{EndpointAddr, OriginalDst, Retries};
use crate::route::{RetryBudget, RetryPermit};
use crate::telemetry::{Event, Flags, Level};
use crate::upstream::{Answer, Ask, RequestBody, SendFailure, Upstream};

/// Where a request goes, and under which terms.
pub(super) struct Plan<'a> {
    pub(super) upstream: &'a Arc<Upstream>,
    /// After rewriting: what SNI and the name check use (ISTIO.md T6).
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) original_dst: Option<OriginalDst>,
    pub(super) retries: &'a Retries,
    pub(super) budget: &'a RetryBudget,
    pub(super) timeout: Option<Duration>,
}

/// An answer's head, and what must still be told of it.
pub(super) struct Sent {
    pub(super) answer: Answer,
    pub(super) record: Record,
    /// How long the whole answer may take, and since when if the request had no body.
    pub(super) deadline: Option<(Instant, Duration)>,
}

/// Tells the record with its upstream's counters if the client leaves while we wait.
pub(super) struct Waiting<'a> {
    record: &'a mut Record,
    upstream: &'a Upstream,
    over: bool,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(record: &'a mut Record, upstream: &'a Upstream) -> Self {
        Waiting {
            record,
            upstream,
            over: false,
        }
    }

    /// The client is still there.
    pub(super) fn over(mut self) {
        self.over = true;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.record
                .broke(Flags::DC, "downstream_remote_disconnect", String::new());
            self.record.tell(Some(self.upstream.stats()));
        }
    }
}

/// Sends it. `Err` is the answer that sortie gives instead.
pub(super) async fn send(
    connection: &Connection,
    plan: &Plan<'_>,
    parts: Box<RequestHead>,
    body: RequestBody,
    mut record: Record,
) -> Result<Sent, Response<AnswerBody>> {
    let received = record.received.clone();
    let late = Late {
        received: received.as_deref(),
        timeout: plan.timeout,
        idle: connection.stream_idle,
        began: record.began(),
    };
    let waiting = Waiting::new(&mut record, plan.upstream);
    let mut tries = Tries {
        connection,
        plan,
        received: received.as_deref(),
        avoid: Vec::new(),
        retries: 0,
        fresh: false,
        spent: false,
    };
    let mut alarm = connection.control.take_alarm();
    let tried = tokio::select! {
        biased;
        tried = tries.run(parts, body) => tried,
        error = late.passed(&mut alarm) => Err(error),
    };
    connection.control.keep_alarm(alarm);
    waiting.over();
    let spent = tries.spent;
    if spent {
        record.flags |= Flags::URX;
    }
    match tried {
        Ok(answer) => Ok(Sent {
            answer,
            record,
            deadline: late.of_answer(),
        }),
        Err(error) => Err(answer::error(
            &error,
            record,
            Some(plan.upstream.stats()),
            spent,
        )),
    }
}

/// The tries of one request.
struct Tries<'a> {
    connection: &'a Connection,
    plan: &'a Plan<'a>,
    /// How far the request's body is, if it has one.
    received: Option<&'a Received>,
    /// Endpoints that failed this request already.
    avoid: Vec<EndpointAddr>,
    retries: u32,
    /// A warm connection turned out dead: the next try opens a new one.
    fresh: bool,
    /// There were retries, and none is left for what would be tried again (ISTIO.md X5, B8).
    spent: bool,
}

impl<'a> Tries<'a> {
    async fn run(
        &mut self,
        parts: Box<RequestHead>,
        body: RequestBody,
    ) -> Result<Answer, ProxyError> {
        let replay = matches!(body, RequestBody::Empty).then(|| Replay::of(&parts));
        let mut request = Request::from_parts(parts, body);
        // The permit of a retry lives as long as its try.
        let mut permit = None;
        loop {
            let failed = match self.one(request).await {
                Ok(Ok(answer)) if !self.is_unwanted(&answer, replay.is_some()) => {
                    return Ok(answer);
                }
                Ok(Ok(answer)) => Failed::Answer(answer),
                Ok(Err(failure)) => Failed::Failure(failure),
                Err(bound) => Failed::Late(bound),
            };
            drop(permit.take());
            let Some(next) = self.again(&failed, replay.as_ref()) else {
                return failed.give_up();
            };
            permit = next.permit;
            request = match failed.request(replay.as_ref()) {
                Ok(request) => request,
                Err(failed) => return failed.give_up(),
            };
            if !next.pause.is_zero() {
                Box::pin(tokio::time::sleep(next.pause)).await;
            }
        }
    }

    fn is_unwanted(&self, answer: &Answer, replayable: bool) -> bool {
        let response = &answer.response;
        replayable && retry::after_answer(response.status(), response.headers(), self.plan.retries)
    }

    /// Whether there is a next try, and when.
    fn again(&mut self, failed: &Failed, replay: Option<&Replay>) -> Option<Next<'a>> {
        let plan = self.plan;
        let idempotent = replay.is_some_and(Replay::is_idempotent);
        let again = match failed {
            Failed::Answer(_) => Again::Counted,
            Failed::Late(_) if replay.is_some() && retry::after_timeout(plan.retries) => {
                Again::Counted
            }
            Failed::Late(_) => Again::No,
            Failed::Failure(failure) => {
                retry::after_failure(failure, plan.retries, replay.is_some(), idempotent)
            }
        };
        if again == Again::Fresh && !self.fresh {
            // A dead warm connection says nothing against its endpoint.
            self.fresh = true;
            plan.upstream.stats().count(Event::Retry);
            return Some(Next {
                permit: None,
                pause: Duration::ZERO,
            });
        }
        if again == Again::No {
            return None;
        }
        if self.retries >= plan.retries.attempts {
            self.spent = self.retries > 0;
            return None;
        }
        let in_flight = || {
            u64::try_from(plan.upstream.stats().level(Level::ActiveRequests)).unwrap_or_default()
        };
        let permit = plan.budget.begin(plan.retries, in_flight)?;
        self.retries += 1;
        self.avoid.extend(failed.endpoint());
        plan.upstream.stats().count(Event::Retry);
        let pause = retry::pause(plan.retries, self.retries, chance());
        Some(Next {
            permit: Some(permit),
            pause,
        })
    }

    /// One try within its own bound, which begins when the request's body has ended; the outer
    /// error is that bound.
    async fn one(
        &self,
        request: Request<RequestBody>,
    ) -> Result<Result<Answer, SendFailure>, Duration> {
        let ask = Ask {
            worker: self.connection.context.worker,
            host: self.plan.host,
            port: self.plan.port,
            original_dst: self.plan.original_dst,
            from: self.connection.shown,
            avoid: &self.avoid,
            fresh: self.fresh,
        };
        let upstream = self.plan.upstream;
        let Some(bound) = self.plan.retries.per_try_timeout else {
            return Ok(upstream.send(&ask, request).await);
        };
        // Boxed, as rules seldom have such a bound: the futures of all requests would be larger.
        let late = Box::pin(async {
            if let Some(received) = self.received {
                received.ended().await;
            }
            tokio::time::sleep(bound).await;
        });
        tokio::select! {
            biased;
            sent = upstream.send(&ask, request) => Ok(sent),
            () = late => Err(bound),
        }
    }
}

/// Leave for the next try.
struct Next<'a> {
    permit: Option<RetryPermit<'a>>,
    pause: Duration,
}

/// A try that did not bring what is wanted.
enum Failed {
    /// An answer that the rule would rather try again.
    Answer(Answer),
    Failure(SendFailure),
    /// The try's own bound is over.
    Late(Duration),
}

impl Failed {
    fn endpoint(&self) -> Option<EndpointAddr> {
        match self {
            Failed::Answer(answer) => Some(answer.endpoint),
            Failed::Failure(failure) => failure.endpoint,
            Failed::Late(_) => None,
        }
    }

    /// The request once more: as it was given back, or as it was kept.
    fn request(self, replay: Option<&Replay>) -> Result<Request<RequestBody>, Box<Failed>> {
        match (self, replay) {
            (
                Failed::Failure(SendFailure {
                    request: Some(request),
                    ..
                }),
                _,
            ) => Ok(request),
            (_, Some(replay)) => Ok(replay.request()),
            (failed, None) => Err(Box::new(failed)),
        }
    }

    /// What the client gets when there is no further try.
    fn give_up(self) -> Result<Answer, ProxyError> {
        match self {
            Failed::Answer(answer) => Ok(answer),
            Failed::Failure(failure) => Err(ProxyError::Upstream(failure.error)),
            Failed::Late(bound) => Err(ProxyError::Timeout(bound)),
        }
    }
}

/// Jitter needs no good randomness: the clock's low bits will do.
fn chance() -> u32 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    now.subsec_nanos().wrapping_mul(2_654_435_761)
}

/// The time that a request may take, counted from the moment when it has been read whole; until
/// then its body must go on.
struct Late<'a> {
    received: Option<&'a Received>,
    timeout: Option<Duration>,
    idle: Duration,
    began: Instant,
}

impl Late<'_> {
    async fn passed(&self, alarm: &mut Alarm) -> ProxyError {
        let mut from = self.began;
        if let Some(received) = self.received {
            // Boxed: most requests have no body.
            if let Err(error) = Box::pin(self.ended(received)).await {
                return error;
            }
            from = Instant::now();
        }
        let timeout = self.timeout.filter(|timeout| *timeout <= self.idle);
        let due = from + timeout.unwrap_or(self.idle);
        poll_fn(|cx| alarm.poll(due, cx)).await;
        timeout.map_or(ProxyError::StreamIdle(self.idle), ProxyError::Timeout)
    }

    /// Returns when the request's body has ended.
    async fn ended(&self, received: &Received) -> Result<(), ProxyError> {
        // Twice, because a silent client is told by its body's own timer.
        let patience = self.idle.saturating_mul(2);
        loop {
            let before = received.moves();
            let ended = tokio::time::timeout(patience, received.ended()).await;
            if ended.is_ok() {
                return Ok(());
            }
            if received.moves() == before {
                return Err(ProxyError::StreamIdle(patience));
            }
        }
    }

    fn of_answer(&self) -> Option<(Instant, Duration)> {
        self.timeout.map(|timeout| (self.began, timeout))
    }
}
