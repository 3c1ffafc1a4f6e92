//! Copies of requests to other upstreams, whose answers nobody waits for (ISTIO.md V16).
//!
//! Owns: the tasks that send them, and their bounds: how many, how long, how much.
//! Never: makes a request wait or fail. A copy is sent once, or given up.
//! Called by: `proxy::forward`, only for rules that have mirrors.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::Instant;

use super::connection::Connection;
use super::destination::looked_up;
use super::error::ProxyError;
use super::received::Received;
use super::record::{Record, chain, grpc_status, grpc_status_in, request_head};
use super::retry::Replay;
use super::send::Plan;
use super::tee::{Copied, Fate, Queue, Teed};
use crate::drain::{DrainGuard, Side};
use crate::message::{Request, RequestHead};
use crate::model::{OriginalDst, Share};
use crate::route::happens;
use crate::telemetry::{Event, Flags, RequestProtocol, RequestRecord};
use crate::upstream::{Ask, RequestBody, Upstream, UpstreamError};

/// Copies that one worker has under way at most.
const AT_ONCE: usize = 1024;
/// Bytes that wait for all mirrors of one worker at most.
const WAITING: usize = 16 << 20;
/// A copy whose answer is not whole so long after its request's end is given up; as soon as a drain
/// has begun, after one step.
const PATIENCE: (Duration, u32) = (Duration::from_secs(1), 15);
/// Of an answer so much is read, so that its connection can be used again; a longer one is cut.
const ANSWER: usize = 1 << 20;

/// The copies of one worker that are under way.
#[derive(Default)]
pub struct Mirrors {
    under_way: AtomicUsize,
    waiting: Arc<AtomicUsize>,
}

impl Mirrors {
    fn place(self: &Arc<Self>) -> Option<Place> {
        // Only this worker counts here.
        if self.under_way.load(Ordering::Relaxed) >= AT_ONCE {
            return None;
        }
        self.under_way.fetch_add(1, Ordering::Relaxed);
        Some(Place(Arc::clone(self)))
    }
}

/// One of the places; dropping it gives it back.
struct Place(Arc<Mirrors>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One copy.
struct Copy {
    upstream: Arc<Upstream>,
    worker: usize,
    host: Box<str>,
    port: u16,
    original_dst: Option<OriginalDst>,
    request: Request<RequestBody>,
    /// Bytes of its head.
    head: u64,
    is_grpc: bool,
    received: Option<Arc<Received>>,
    queue: Option<Arc<Queue>>,
    guard: DrainGuard,
    _place: Place,
}

/// Sends copies of a request to those `mirrors` whose share it falls in, and gives back the body
/// that goes to the upstream itself.
pub(super) fn copy(
    connection: &Connection,
    mirrors: &[(Arc<Upstream>, Share)],
    plan: &Plan<'_>,
    (parts, body): (&RequestHead, RequestBody),
    record: &Record,
) -> RequestBody {
    let context = &connection.context;
    let mut queues = Vec::new();
    for (upstream, _) in mirrors.iter().filter(|(_, share)| happens(*share)) {
        let Some(place) = context.mirrors.place() else {
            upstream.stats().count(Event::Overflow);
            continue;
        };
        let mut request = Replay::of(parts).request();
        let mut copied = None;
        if let RequestBody::Stream(body) = &body {
            let queue = Queue::new(&context.mirrors.waiting, WAITING);
            let copy = Copied::new(&queue, body.size_hint().exact());
            request.body = RequestBody::Stream(Box::pin(copy));
            copied = Some(Arc::clone(&queue));
            queues.push(queue);
        }
        let copy = Copy {
            upstream: Arc::clone(upstream),
            worker: context.worker,
            host: looked_up(connection.kind, upstream, plan.host).into(),
            port: plan.port,
            original_dst: plan.original_dst,
            request,
            head: request_head(parts),
            is_grpc: record.is_grpc(),
            received: record.received.clone(),
            queue: copied,
            guard: context.drain.guard(Side::Outbound),
            _place: place,
        };
        tokio::spawn(copy.run());
    }
    match body {
        RequestBody::Stream(body) if !queues.is_empty() => {
            RequestBody::Stream(Box::pin(Teed::new(body, queues)))
        }
        body => body,
    }
}

impl Copy {
    async fn run(mut self) {
        let began = Instant::now();
        let request = std::mem::replace(&mut self.request, Request::new(RequestBody::Empty));
        let received = self.received.as_deref();
        let mut told = RequestRecord {
            code: 504,
            flags: Flags::UT,
            protocol: match self.is_grpc {
                true => RequestProtocol::Grpc(None),
                false => RequestProtocol::Http,
            },
            duration: Duration::ZERO,
            request_bytes: self.head,
            response_bytes: 0,
            messages: (0, 0),
        };
        let ask = Ask {
            worker: self.worker,
            host: &self.host,
            port: self.port,
            original_dst: self.original_dst,
            from: None,
            avoid: &[],
            fresh: false,
        };
        let lost = async {
            match &self.queue {
                Some(queue) => queue.given_up().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            result = exchange(&self.upstream, &ask, request, &mut told) => {
                if let Err(error) = result {
                    tracing::debug!(mirror = %self.name(), "a mirror failed: {}", chain(&error));
                    (told.code, told.flags) = self.outcome(error);
                }
            }
            fate = lost => (told.code, told.flags) = given_up(fate),
            () = late(received, &self.guard) => {
                tracing::debug!(mirror = %self.name(), "a mirror did not answer in time");
            }
        }
        if let Some(received) = received {
            told.request_bytes += received.bytes.load(Ordering::Relaxed);
            told.messages.0 = received.messages.load(Ordering::Relaxed);
        }
        told.duration = began.elapsed();
        self.upstream.stats().record(&told);
    }

    fn name(&self) -> &str {
        &self.upstream.spec().name
    }

    /// Code and flags of a copy that failed.
    fn outcome(&self, error: UpstreamError) -> (u16, Flags) {
        match (&error, &self.queue) {
            (UpstreamError::BodyFromClient(_), Some(queue)) => given_up(queue.fate()),
            _ => {
                let verdict = ProxyError::Upstream(error).verdict();
                (verdict.status, verdict.flags)
            }
        }
    }
}

/// Returns when the request has ended and its mirror has had its time.
async fn late(received: Option<&Received>, guard: &DrainGuard) {
    if let Some(received) = received {
        received.ended().await;
    }
    let (step, steps) = PATIENCE;
    for _ in 0..steps {
        tokio::time::sleep(step).await;
        if guard.has_started() {
            return;
        }
    }
}

/// Sends the copy and reads its answer away.
async fn exchange(
    upstream: &Arc<Upstream>,
    ask: &Ask<'_>,
    request: Request<RequestBody>,
    told: &mut RequestRecord,
) -> Result<(), UpstreamError> {
    let answer = upstream
        .send(ask, request)
        .await
        .map_err(|failure| failure.error)?;
    let (parts, mut body) = answer.response.into_parts();
    if let RequestProtocol::Grpc(status) = &mut told.protocol {
        *status = grpc_status(&parts.headers);
    }
    let mut read = 0;
    while read <= ANSWER {
        match body.frame().await {
            Some(Ok(frame)) => {
                read += frame.data_ref().map_or(0, bytes::Bytes::len);
                if let (RequestProtocol::Grpc(status), Some(trailers)) =
                    (&mut told.protocol, frame.trailers_ref())
                {
                    *status = grpc_status_in(trailers);
                }
            }
            Some(Err(_)) | None => break,
        }
    }
    told.response_bytes = read as u64;
    (told.code, told.flags) = (parts.status.as_u16(), Flags::NONE);
    Ok(())
}

/// Code and flags of a copy whose body was lost: because we hold no more of it for a mirror that
/// does not take it, or because its request broke off.
fn given_up(fate: Fate) -> (u16, Flags) {
    match fate {
        Fate::Behind => (503, Flags::UO),
        Fate::Open | Fate::Whole | Fate::Lost => (0, Flags::DC),
    }
}
