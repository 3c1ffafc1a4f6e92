//! `grpc.health.v1.Health/Check` in clear text.
//!
//! Owns: that one call, its message written and read by hand, bounded in size.
//! Never: reads another message.
//! Called by: `call`.
//!
//! Why by hand: it is one field each way, and a code generator and its runtime are not worth that.

use std::net::SocketAddr;

use ::http::header::{CONTENT_TYPE, HeaderValue, TE, USER_AGENT};
use ::http::{HeaderMap, Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::call::{Driver, Verdict};

/// Bytes of an answer.
const MAX_ANSWER: usize = 10 * 1024;
/// `HealthCheckResponse.ServingStatus` by number.
const STATES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
const SERVING: u64 = 1;

/// Asks how `service` is.
pub(super) async fn check(
    stream: TcpStream,
    address: SocketAddr,
    service: &str,
    agent: Option<&HeaderValue>,
) -> Result<Verdict, Verdict> {
    let shown = format!("grpc://{address}/{service}");
    let bad = |error: String| Verdict::garbage(format!("{shown}: {error}"));
    let request = request(address, service, agent).map_err(|error| bad(error.to_string()))?;
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|error| bad(error.to_string()))?;
    let _driver = Driver(tokio::spawn(connection));
    let answer = sender.send_request(request).await;
    let answer = answer.map_err(|error| bad(error.to_string()))?;
    let state = state_of(answer).await.map_err(bad)?;
    let name = usize::try_from(state).ok().and_then(|at| STATES.get(at));
    let words = format!("{shown} is {}", name.unwrap_or(&"in no known state"));
    Ok(Verdict::new(
        match state {
            SERVING => StatusCode::OK,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        },
        words,
    ))
}

fn request(
    address: SocketAddr,
    service: &str,
    agent: Option<&HeaderValue>,
) -> Result<Request<Full<Bytes>>, ::http::Error> {
    let url = format!("http://{address}/grpc.health.v1.Health/Check");
    let mut request = Request::post(url).body(Full::new(question(service)))?;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    if let Some(agent) = agent {
        headers.insert(USER_AGENT, agent.clone());
    }
    Ok(request)
}

/// `HealthCheckRequest { string service = 1; }` behind the five bytes of gRPC's framing.
fn question(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(low_bits(length) | 0x80);
            length >>= 7;
        }
        message.push(low_bits(length));
        message.extend(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut framed = vec![0];
    framed.extend(length.to_be_bytes());
    framed.extend(message);
    framed.into()
}

fn low_bits(number: usize) -> u8 {
    u8::try_from(number & 0x7f).unwrap_or_default()
}

async fn state_of(answer: Response<Incoming>) -> Result<u64, String> {
    if answer.status() != StatusCode::OK {
        return Err(format!("HTTP status {}", answer.status().as_u16()));
    }
    // An answer without a message has it among its headers.
    refused(answer.headers())?;
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    let body: Collected<Bytes> = body.map_err(|error| error.to_string())?;
    if let Some(trailers) = body.trailers() {
        refused(trailers)?;
    }
    let bytes = body.to_bytes();
    let message = bytes.get(5..).filter(|_| bytes.first() == Some(&0));
    let state = message.and_then(state);
    state.ok_or_else(|| "the answer is no HealthCheckResponse".to_owned())
}

/// What gRPC calls an error: any status but 0.
fn refused(headers: &HeaderMap) -> Result<(), String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        None | Some("0") => Ok(()),
        Some(code) => {
            let message: String = text("grpc-message")
                .unwrap_or("no message")
                .chars()
                .take(200)
                .collect();
            Err(format!("gRPC status {code}: {message}"))
        }
    }
}

/// `HealthCheckResponse { ServingStatus status = 1; }`; 0 where it is not said. `None`: it is none.
fn state(mut message: &[u8]) -> Option<u64> {
    let mut state = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => state = varint(&mut message)?,
            (_, 0) => drop(varint(&mut message)?),
            (_, 1) => message = message.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            (_, 5) => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(state)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_written_as_protobuf_has_it() {
        assert_eq!(question("").as_ref(), [0, 0, 0, 0, 0]);
        assert_eq!(question("ab").as_ref(), b"\0\0\0\0\x04\x0a\x02ab");
        let long = question(&"x".repeat(300));
        assert_eq!(long.get(..8), Some(&b"\0\0\0\x01\x2f\x0a\xac\x02"[..]));
    }

    #[test]
    fn an_answer_is_read_with_fields_that_are_not_known_and_what_is_none_is_refused() {
        assert_eq!(state(b"\x08\x01"), Some(1));
        assert_eq!(state(b""), Some(0));
        assert_eq!(
            state(b"\x12\x02hi\x15aaaa\x19bbbbbbbb\x20\x80\x01\x08\x02"),
            Some(2)
        );
        for broken in [
            &b"\x08"[..],
            b"\x12\x05hi",
            b"\x0b",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            assert_eq!(state(broken), None, "{broken:?}");
        }
    }
}
