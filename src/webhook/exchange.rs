//! One request of the API server, one answer.
//!
//! Owns: paths, methods, content types, and the bounds of a body: its size, its time, how many at
//! once.
//! Never: knows TLS.
//! Called by: server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{ALLOW, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::counts::{Counts, Outcome};
use super::decide::{Asked, Verdict, decide};
use super::review::{Review, Subject};
use crate::inject::Settings;

/// Bytes of a body. The API server takes objects of 3 MiB (`MaxRequestBodyBytes`), and an update's
/// review has two of them.
pub(super) const MOST_BYTES: usize = 8 << 20;
/// Bytes of a body that is too large and read to its end all the same.
const BEARABLE: usize = 4 * MOST_BYTES;
/// Bytes of a body that anybody may send; of larger ones a few at a time are taken.
const ORDINARY: usize = 128 << 10;
const LARGE_AT_ONCE: usize = 8;
/// From a request's head to the last byte of its body.
const BODY: Duration = Duration::from_secs(10);

/// An answer.
pub(super) type Answer = Response<Full<Bytes>>;

/// All that an answer depends on.
pub(super) struct Hook {
    settings: Settings,
    pub(super) counts: Arc<Counts>,
    large: Semaphore,
}

impl Hook {
    pub(super) fn new(settings: Settings, counts: Arc<Counts>) -> Hook {
        Hook {
            settings,
            counts,
            large: Semaphore::new(LARGE_AT_ONCE),
        }
    }

    /// Answers one request.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Answer {
        let asked = match request.uri().path() {
            "/mutate" | "/inject" => Asked::Pod,
            "/mutate/namespace" | "/inject/namespace" => Asked::Namespace,
            _ => {
                forget(request).await;
                let words = "there are POST /mutate, for pods that ask, and POST \
                             /mutate/namespace, for pods whose namespace does";
                return text(StatusCode::NOT_FOUND, words);
            }
        };
        match self.reviewed(asked, request).await {
            Ok(answer) => answer,
            Err((status, problem)) => {
                self.counts.review(Outcome::Malformed, Duration::ZERO);
                tracing::warn!(status = status.as_u16(), "a request was refused: {problem}");
                let mut answer = text(status, &problem);
                if status == StatusCode::METHOD_NOT_ALLOWED {
                    let post = http::HeaderValue::from_static("POST");
                    answer.headers_mut().insert(ALLOW, post);
                }
                answer
            }
        }
    }

    async fn reviewed(&self, asked: Asked, request: Request<Incoming>) -> Result<Answer, Problem> {
        if let Err(problem) = is_posted(&request).and_then(|()| json_type(&request)) {
            forget(request).await;
            return Err(problem);
        }
        let body = match timeout(BODY, self.body(request)).await {
            Ok(body) => body?,
            Err(_) => {
                let words = format!("the body did not arrive within {} s", BODY.as_secs());
                return Err((StatusCode::REQUEST_TIMEOUT, words));
            }
        };
        let began = Instant::now();
        let review = Review::read(&body).map_err(|words| (StatusCode::BAD_REQUEST, words))?;
        let verdict = match &review.subject {
            Subject::Pod(new) => decide(&self.settings, asked, new),
            Subject::Other(what) => Verdict::Unchanged {
                why: format!("{what} is no new pod"),
                warnings: Vec::new(),
            },
        };
        tell(&review, &verdict);
        let answer = review.answer(&verdict).to_string();
        let outcome = match verdict {
            Verdict::Patched { .. } => Outcome::Patched,
            Verdict::Unchanged { .. } => Outcome::Unchanged,
            Verdict::Refused(_) => Outcome::Refused,
        };
        self.counts.review(outcome, began.elapsed());
        Ok(reply(StatusCode::OK, "application/json", answer))
    }

    /// The whole body, within its bound. Of one that is larger the rest is read and forgotten, as
    /// far as that is bearable: a client that is still writing would not see the answer.
    async fn body(&self, request: Request<Incoming>) -> Result<Bytes, Problem> {
        let mut body = request.into_body();
        let hint = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        let mut all = BytesMut::with_capacity(hint.min(ORDINARY));
        let mut size = 0;
        let mut turn = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                let words = format!("the body broke off: {error}");
                (StatusCode::BAD_REQUEST, words)
            })?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            size += data.len();
            if hint.max(size) > BEARABLE {
                break;
            }
            if hint.max(size) > MOST_BYTES {
                all.clear();
                continue;
            }
            if turn.is_none() && size > ORDINARY {
                // Nobody closes it.
                turn = self.large.acquire().await.ok();
            }
            all.extend_from_slice(&data);
        }
        drop(turn);
        match hint.max(size) > MOST_BYTES {
            true => {
                let words = format!("the body has more than {MOST_BYTES} bytes");
                Err((StatusCode::PAYLOAD_TOO_LARGE, words))
            }
            false => Ok(all.freeze()),
        }
    }
}

/// What is answered where there is nothing to decide.
type Problem = (StatusCode, String);

fn is_posted(request: &Request<Incoming>) -> Result<(), Problem> {
    match request.method() == Method::POST {
        true => Ok(()),
        false => {
            let words = format!("{} is not allowed here, expected POST", request.method());
            Err((StatusCode::METHOD_NOT_ALLOWED, words))
        }
    }
}

/// Reads a body that nobody wants, as far as that is bearable: a client that is still writing would
/// not see the answer.
async fn forget(request: Request<Incoming>) {
    let mut body = request.into_body();
    let mut size = 0;
    let rest = async {
        while let Some(Ok(frame)) = body.frame().await {
            size += frame.data_ref().map_or(0, Bytes::len);
            if size > BEARABLE {
                break;
            }
        }
    };
    let _ = timeout(BODY, rest).await;
}

fn json_type(request: &Request<Incoming>) -> Result<(), Problem> {
    let given = request.headers().get(CONTENT_TYPE);
    let given = given
        .and_then(|given| given.to_str().ok())
        .unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    match essence.eq_ignore_ascii_case("application/json") {
        true => Ok(()),
        false => {
            let words = format!("Content-Type is \"{given}\", expected application/json");
            Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, words))
        }
    }
}

/// One line for each pod that is changed or refused.
fn tell(review: &Review, verdict: &Verdict) {
    let Subject::Pod(new) = &review.subject else {
        return;
    };
    let (pod, dry_run) = (new.name(), new.dry_run);
    match verdict {
        Verdict::Patched { warnings, .. } => {
            tracing::info!(pod, dry_run, "sidecar injected");
            for warning in warnings {
                tracing::warn!(pod, "{warning}");
            }
        }
        Verdict::Unchanged { why, .. } => tracing::debug!(pod, "left alone: {why}"),
        Verdict::Refused(why) => tracing::warn!(pod, dry_run, "refused: {why}"),
    }
}

/// A line of text.
pub(super) fn text(status: StatusCode, words: &str) -> Answer {
    reply(status, "text/plain; charset=utf-8", format!("{words}\n"))
}

pub(super) fn reply(status: StatusCode, kind: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let kind = http::HeaderValue::from_static(kind);
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}
