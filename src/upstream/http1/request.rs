//! A request's head in bytes.
//!
//! Owns: target form, `Host`, framing headers (RFC 9112 sections 3.2 and 6).
//! Never: adds or drops anything else (that is `proxy::headers`).
//! Called by: `exchange`.
//!
//! Why the framing headers are always our own: a body that is there is announced, and one that is
//! not there is not, whatever the request says of it (request smuggling).

use http::HeaderValue;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, TE, TRAILER, TRANSFER_ENCODING};
use http_body::Body;

use super::head::{digits, has_token};
use crate::message::{Fields, Known, Request, RequestHead};
use crate::upstream::body::RequestBody;

/// How a request's body is framed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes; 0 where there is no body.
    Length(u64),
    /// In chunks. Trailers of these names may follow, as `Trailer` has announced them.
    Chunked(Vec<HeaderName>),
}

/// What the head says of what follows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) framing: Framing,
    /// The request ends the connection.
    pub(super) close: bool,
}

/// Writes the head of `request` behind what is in `out`. `persist`: the server speaks HTTP/1.0, and
/// keeps its connection open only where it is asked to (RFC 9112 section 9.3).
///
/// # Errors
/// Why it cannot be sent, in words; `out` then holds half a head.
pub(super) fn write(
    request: &Request<RequestBody>,
    persist: bool,
    out: &mut Vec<u8>,
) -> Result<Plan, &'static str> {
    let RequestHead {
        method,
        uri,
        headers,
        ..
    } = &*request.head;
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    if !target.starts_with(['/', '*']) {
        out.push(b'/');
    }
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    match (headers.lines(Known::Host).next(), uri.authority()) {
        (Some(host), _) => host.write(out),
        (None, Some(authority)) => line(out, &HOST, authority.as_str().as_bytes()),
        (None, None) => return Err("it names no host"),
    }
    // RFC 9110 section 10.1.4: who sends TE says so in Connection.
    let says_te = headers.has(Known::Te) && !headers.has(Known::Upgrade);
    let mut options = headers.get_all(Known::Connection);
    let close = options.any(|value| has_token(value.as_bytes(), b"close"));
    let mut lengths = headers.get_all(Known::ContentLength);
    let length = lengths.find_map(|value| digits(value.as_bytes()));
    headers.write(out, |field| match field.known() {
        Known::Host | Known::ContentLength | Known::TransferEncoding => false,
        Known::Connection => !says_te,
        _ => true,
    });
    if says_te {
        line(out, &CONNECTION, b"te");
    } else if persist && !close {
        line(out, &CONNECTION, b"keep-alive");
    }
    let framing = frame(&request.body, headers, length);
    match &framing {
        Framing::Chunked(_) => line(out, &TRANSFER_ENCODING, b"chunked"),
        // A request without a body has no need to say so, and says it where it did.
        Framing::Length(0) if length != Some(0) => {}
        Framing::Length(length) => {
            line(out, &CONTENT_LENGTH, HeaderValue::from(*length).as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(Plan { framing, close })
}

/// One field.
pub(super) fn line(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn frame(body: &RequestBody, headers: &Fields, said: Option<u64>) -> Framing {
    if body.is_end_stream() {
        return Framing::Length(0);
    }
    match said.or_else(|| body.size_hint().exact()) {
        Some(length) if !headers.has(Known::TransferEncoding) => Framing::Length(length),
        _ => Framing::Chunked(announced(headers)),
    }
}

/// The names that `Trailer` announces, but for those that would change the message (RFC 9110
/// section 6.5.1).
fn announced(headers: &Fields) -> Vec<HeaderName> {
    let lines = headers.get_all(Known::Trailer);
    let names = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    names
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| !CHANGES.contains(name))
        .collect()
}

/// Fields that must not come as trailers (RFC 9110 section 6.5.1).
const CHANGES: [HeaderName; 12] = [
    http::header::AUTHORIZATION,
    http::header::CACHE_CONTROL,
    http::header::CONTENT_ENCODING,
    CONTENT_LENGTH,
    http::header::CONTENT_RANGE,
    http::header::CONTENT_TYPE,
    HOST,
    http::header::MAX_FORWARDS,
    http::header::SET_COOKIE,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
];

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    use super::*;
    use crate::upstream::BodyError;

    fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Request<RequestBody> {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(RequestBody::Empty).unwrap().into()
    }

    fn of_length(length: usize) -> RequestBody {
        use http_body_util::BodyExt;
        let full = Full::new(Bytes::from(vec![b'x'; length]));
        RequestBody::Stream(Box::pin(full.map_err(|never| match never {})))
    }

    fn endless() -> RequestBody {
        let nothing = futures_util::stream::pending::<Result<Frame<Bytes>, BodyError>>();
        RequestBody::Stream(Box::pin(StreamBody::new(nothing)))
    }

    fn written(request: &Request<RequestBody>) -> (String, Plan) {
        let mut out = Vec::new();
        let plan = write(request, false, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), plan)
    }

    #[test]
    fn a_request_is_written_in_origin_form_with_its_host_first() {
        let r = request("GET", "http://bank.example:8443/a?b", &[("x-y", "z")]);
        assert_eq!(
            written(&r).0,
            "GET /a?b HTTP/1.1\r\nhost: bank.example:8443\r\nx-y: z\r\n\r\n"
        );
        let r = request(
            "GET",
            "http://bank.example",
            &[("x", ""), ("host", "other")],
        );
        assert_eq!(
            written(&r).0,
            "GET / HTTP/1.1\r\nhost: other\r\nx: \r\n\r\n"
        );
        let r = request("GET", "http://bank.example?q", &[]);
        assert!(written(&r).0.starts_with("GET /?q HTTP/1.1\r\n"));
    }

    #[test]
    fn the_star_target_survives() {
        let r = request("OPTIONS", "*", &[("host", "x")]);
        assert!(written(&r).0.starts_with("OPTIONS * HTTP/1.1\r\n"));
    }

    #[test]
    fn a_request_without_a_host_is_not_written() {
        assert!(write(&request("GET", "/", &[]), false, &mut Vec::new()).is_err());
    }

    #[test]
    fn every_value_of_a_repeated_field_is_written() {
        let r = request("GET", "/", &[("host", "x"), ("a", "1"), ("a", "2")]);
        assert!(written(&r).0.contains("a: 1\r\na: 2\r\n"));
    }

    #[test]
    fn a_length_without_a_body_is_dropped_unless_it_is_nought() {
        let r = request("GET", "/", &[("host", "x"), ("content-length", "5")]);
        let (text, plan) = written(&r);
        assert_eq!(text, "GET / HTTP/1.1\r\nhost: x\r\n\r\n");
        assert_eq!(plan.framing, Framing::Length(0));
        let r = request("POST", "/", &[("host", "x"), ("content-length", "0")]);
        assert!(written(&r).0.ends_with("content-length: 0\r\n\r\n"));
        let coded = ("transfer-encoding", "chunked");
        let r = request("POST", "/", &[("host", "x"), coded]);
        assert_eq!(written(&r).0, "POST / HTTP/1.1\r\nhost: x\r\n\r\n");
    }

    #[test]
    fn a_body_is_announced_by_its_length_or_in_chunks() {
        let post = |headers: &[(&str, &str)], body| {
            let mut all = vec![("host", "x")];
            all.extend_from_slice(headers);
            written(&request("GET", "/", &all).map(|_| body))
        };
        let chunked = "transfer-encoding: chunked\r\n\r\n";
        for (headers, body, words, framing) in [
            (
                &[][..],
                of_length(3),
                "content-length: 3\r\n\r\n",
                Framing::Length(3),
            ),
            (
                &[("content-length", "7")],
                endless(),
                "content-length: 7\r\n\r\n",
                Framing::Length(7),
            ),
            (&[], endless(), chunked, Framing::Chunked(Vec::new())),
            (
                &[("content-length", "x")],
                endless(),
                chunked,
                Framing::Chunked(Vec::new()),
            ),
            (
                &[("transfer-encoding", "chunked"), ("content-length", "3")],
                endless(),
                chunked,
                Framing::Chunked(Vec::new()),
            ),
        ] {
            let (text, plan) = post(headers, body);
            assert!(text.ends_with(&format!("host: x\r\n{words}")), "{text}");
            assert_eq!(plan.framing, framing);
        }
    }

    #[test]
    fn trailers_are_those_that_were_announced_and_may_be_one() {
        let headers = [
            ("host", "x"),
            ("trailer", "Sum, content-length"),
            ("trailer", "b"),
        ];
        let r = request("POST", "/", &headers).map(|_| endless());
        let (_, plan) = written(&r);
        let names = ["sum", "b"].map(HeaderName::from_static);
        assert_eq!(plan.framing, Framing::Chunked(names.to_vec()));
    }

    #[test]
    fn te_is_told_in_connection_unless_there_is_an_upgrade() {
        let r = request("GET", "/", &[("host", "x"), ("te", "trailers")]);
        assert!(written(&r).0.ends_with("connection: te\r\n\r\n"));
        let upgrade = [
            ("host", "x"),
            ("te", "trailers"),
            ("connection", "upgrade"),
            ("upgrade", "y"),
        ];
        let (text, _) = written(&request("GET", "/", &upgrade));
        assert!(text.contains("connection: upgrade\r\n") && !text.contains("connection: te"));
    }

    #[test]
    fn a_request_that_ends_its_connection_is_known() {
        let close = request("GET", "/", &[("host", "x"), ("connection", "a, Close")]);
        assert!(written(&close).1.close);
        assert!(!written(&request("GET", "/", &[("host", "x")])).1.close);
    }

    #[test]
    fn a_server_of_http10_is_asked_to_keep_its_connection() {
        let r = request("GET", "/", &[("host", "x")]);
        let mut out = Vec::new();
        write(&r, true, &mut out).unwrap();
        assert!(out.ends_with(b"connection: keep-alive\r\n\r\n"));
    }
}
