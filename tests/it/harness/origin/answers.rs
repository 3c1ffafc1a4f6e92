//! What the origin answers, by path.
//!
//! | path | answer |
//! |---|---|
//! | `/echo` | the request's body, as it comes, and its trailers |
//! | `/count` | the number of bytes of the body, once it has ended |
//! | `/bytes/N` | N bytes, with Content-Length; `/stream/N` the same in chunks |
//! | `/slow/MS` | `late`, after so many milliseconds |
//! | `/drip/N/MS` | N lines, so many milliseconds apart |
//! | `/trailers` | a body with the trailer `x-sum`; `/grpc` the same with `grpc-status` |
//! | `/status/N` | that status |
//! | `/ignore` | 200 at once, and the body is never read |
//! | `/refuse` | 417 without reading the body |
//! | `/upgrade` | 101, then every byte comes back |
//! | `/hang` | nothing, ever |
//! | else | `hello from NAME` |

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::{HeaderMap, Request, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::State;

/// Why a body broke off.
type Failure = hyper::Error;
pub(super) type AnswerBody = UnsyncBoxBody<Bytes, Failure>;

/// What one frame of a long answer holds.
const PIECE: usize = 16 * 1024;

pub(super) async fn answer(
    request: Request<Incoming>,
    connection: usize,
    state: Arc<State>,
) -> Result<Response<AnswerBody>, hyper::Error> {
    let path = request.uri().path().to_string();
    let mut words = path.trim_start_matches('/').split('/');
    let first = words.next().unwrap_or_default();
    let mut number = || {
        words
            .next()
            .and_then(|word| word.parse::<u64>().ok())
            .unwrap_or(0)
    };
    let mut response = match first {
        "echo" => Response::new(echo(request, &state)),
        "count" => Response::new(text(&count(request, &state).await?.to_string())),
        "bytes" => bytes_answer(number(), &state),
        "stream" => Response::new(pieces(number(), &state)),
        "slow" => {
            tokio::time::sleep(Duration::from_millis(number())).await;
            Response::new(text("late"))
        }
        "drip" => Response::new(drip(number(), Duration::from_millis(number()))),
        "trailers" => with_trailers("x-sum", "42"),
        "grpc" => with_trailers("grpc-status", "0"),
        "status" => {
            let mut response = Response::new(text("as you wish"));
            let status = u16::try_from(number()).unwrap();
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response
        }
        "ignore" => ignore(request),
        "refuse" => {
            let mut response = Response::new(text("no"));
            *response.status_mut() = StatusCode::EXPECTATION_FAILED;
            response
        }
        "upgrade" => upgrade(request),
        "hang" => std::future::pending().await,
        _ => Response::new(text(&format!("hello from {}", state.name))),
    };
    let headers = response.headers_mut();
    headers.insert("x-origin", state.name.parse().unwrap());
    headers.insert("x-connection", connection.into());
    Ok(response)
}

fn text(words: &str) -> AnswerBody {
    Full::new(Bytes::from(words.to_string()))
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn counted(
    body: Incoming,
    state: &Arc<State>,
) -> impl Body<Data = Bytes, Error = hyper::Error> + Send + use<> {
    let state = Arc::clone(state);
    body.map_frame(move |frame| {
        let length = frame.data_ref().map_or(0, Bytes::len);
        state.taken.fetch_add(length, Ordering::Relaxed);
        frame
    })
}

fn echo(request: Request<Incoming>, state: &Arc<State>) -> AnswerBody {
    counted(request.into_body(), state).boxed_unsync()
}

async fn count(request: Request<Incoming>, state: &Arc<State>) -> Result<usize, hyper::Error> {
    let mut body = std::pin::pin!(counted(request.into_body(), state));
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        total += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(total)
}

fn bytes_answer(length: u64, state: &State) -> Response<AnswerBody> {
    let mut response = Response::new(pieces(length, state));
    response
        .headers_mut()
        .insert("content-length", length.into());
    response
}

fn pieces(length: u64, state: &State) -> AnswerBody {
    let given = Arc::clone(&state.given);
    let piece = Bytes::from(vec![b'x'; PIECE]);
    let frames = stream::unfold(length, move |left| {
        let size = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let frame = Ok(Frame::data(piece.slice(..size)));
        given.fetch_add(size, Ordering::Relaxed);
        async move { (left > 0).then_some((frame, left - size as u64)) }
    });
    StreamBody::new(frames).boxed_unsync()
}

fn drip(lines: u64, pause: Duration) -> AnswerBody {
    let frames = stream::unfold(0, move |nth| async move {
        if nth == lines {
            return None;
        }
        if nth > 0 {
            tokio::time::sleep(pause).await;
        }
        Some((
            Ok(Frame::data(Bytes::from(format!("line {nth}\n")))),
            nth + 1,
        ))
    });
    StreamBody::new(frames).boxed_unsync()
}

fn with_trailers(name: &'static str, value: &'static str) -> Response<AnswerBody> {
    let mut trailers = HeaderMap::new();
    trailers.insert(name, value.parse().unwrap());
    let frames = [
        Frame::data(Bytes::from_static(b"body\n")),
        Frame::trailers(trailers),
    ];
    let body = StreamBody::new(stream::iter(frames.map(Ok::<_, Failure>))).boxed_unsync();
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert("trailer", name.parse().unwrap());
    response
        .headers_mut()
        .insert("content-type", "application/grpc".parse().unwrap());
    response
}

/// Answers, and keeps the request's body unread for as long as the answer lasts.
fn ignore(request: Request<Incoming>) -> Response<AnswerBody> {
    let frames = stream::unfold((0, request.into_body()), |(nth, unread)| async move {
        match nth {
            0 => Some((
                Ok(Frame::data(Bytes::from_static(b"started\n"))),
                (1, unread),
            )),
            _ => std::future::pending().await,
        }
    });
    Response::new(StreamBody::new(frames).boxed_unsync())
}

fn upgrade(request: Request<Incoming>) -> Response<AnswerBody> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response
        .headers_mut()
        .insert("connection", "upgrade".parse().unwrap());
    response
        .headers_mut()
        .insert("upgrade", "websocket".parse().unwrap());
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else {
            return;
        };
        let mut stream = hyper_util::rt::TokioIo::new(upgraded);
        let mut chunk = vec![0; PIECE];
        while let Ok(read) = stream.read(&mut chunk).await {
            if read == 0 || stream.write_all(&chunk[..read]).await.is_err() {
                break;
            }
            let _ = stream.flush().await;
        }
        let _ = stream.shutdown().await;
    });
    response
}
