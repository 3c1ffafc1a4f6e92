//! A request in the form that HTTP/2 wants, and its answers held to the rules.
//!
//! Owns: target form and authority (RFC 9113 section 8.3), the length of its content, and what only HTTP/1
//! can carry.
//! Never: adds or drops anything else (that is `proxy::headers`).
//! Called by: `connection`.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version};
use http_body::Body;

use super::body::RequestBody;
use crate::http2::to_map;
use crate::message::{Fields, Known, RequestHead};

/// True where only HTTP/1.1 can carry the request (RFC 9113 section 8.6: no Upgrade in HTTP/2).
pub(super) fn needs_http1(headers: &Fields) -> bool {
    headers.has(Known::Upgrade)
}

/// Absolute form instead of `Host`, and none of what HTTP/2 has no place for.
///
/// # Errors
/// Why it cannot be sent, with the head as it was.
pub(super) fn to_http2(
    head: Box<RequestHead>,
    body: &RequestBody,
    scheme: Scheme,
) -> Result<Request<()>, (Box<RequestHead>, &'static str)> {
    let uri = match target(&head, scheme) {
        Ok(uri) => uri,
        Err(problem) => return Err((head, problem)),
    };
    let empty = body.is_end_stream();
    let mut headers = to_map(head.headers, |field| match field.known() {
        Known::Host => false,
        Known::ContentLength => !empty || field.value() == "0",
        _ => true,
    });
    if let Some(length) = body.size_hint().exact()
        && (length > 0 || HAVE_CONTENT.contains(&head.method))
        && !headers.contains_key(CONTENT_LENGTH)
    {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    let mut request = Request::new(());
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = headers;
    *request.method_mut() = head.method;
    Ok(request)
}

/// The target in absolute form.
fn target(head: &RequestHead, scheme: Scheme) -> Result<Uri, &'static str> {
    let authority = match head.headers.get(Known::Host) {
        Some(host) => Authority::try_from(host.as_bytes()).map_err(|_| "its Host is malformed")?,
        None => head.uri.authority().cloned().ok_or("it names no host")?,
    };
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Some(authority);
    let path = head.uri.path_and_query().cloned();
    parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    Uri::from_parts(parts).map_err(|_| "its target is malformed")
}

/// Methods of which a server expects content, so that its lack is worth saying (RFC 9110 section 8.6).
const HAVE_CONTENT: [Method; 3] = [Method::POST, Method::PUT, Method::PATCH];

/// What h2 lets pass in an HTTP/2 answer and a proxy must not.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn check_answer(
    status: StatusCode,
    headers: &mut HeaderMap,
) -> Result<(), &'static str> {
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err("it switches protocols (101) without having been asked to");
    }
    // RFC 9113 section 8.2.2.
    if headers.contains_key(TRANSFER_ENCODING) {
        return Err("it has a Transfer-Encoding, which HTTP/2 has not");
    }
    one_length(headers);
    Ok(())
}

/// h2 has held the body to the first of the lengths; say that one alone, once.
fn one_length(headers: &mut HeaderMap) {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else {
        return;
    };
    let list = first.as_bytes().contains(&b',');
    if !list && lengths.next().is_none() {
        return;
    }
    let number = first
        .as_bytes()
        .split(|b| *b == b',')
        .next()
        .unwrap_or_default();
    if let Ok(value) = HeaderValue::from_bytes(number.trim_ascii()) {
        headers.insert(CONTENT_LENGTH, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As it would be sent, without content.
    fn sent(
        uri: &str,
        headers: &[(&str, &str)],
        scheme: Scheme,
    ) -> Result<Request<()>, &'static str> {
        sent_by(Method::GET, uri, headers, scheme)
    }

    fn sent_by(
        method: Method,
        uri: &str,
        headers: &[(&str, &str)],
        scheme: Scheme,
    ) -> Result<Request<()>, &'static str> {
        let head = RequestHead {
            method,
            uri: uri.parse().unwrap(),
            headers: headers.iter().copied().collect(),
            ..RequestHead::default()
        };
        to_http2(Box::new(head), &RequestBody::Empty, scheme).map_err(|(_, problem)| problem)
    }

    #[test]
    fn http2_gets_the_authority() {
        let host = [("host", "bank.example:8443")];
        let r = sent("/a?b", &host, Scheme::HTTPS).unwrap();
        assert_eq!(r.uri(), "https://bank.example:8443/a?b");
        assert!(r.headers().is_empty());
    }

    #[test]
    fn the_star_target_survives() {
        let r = sent_by(Method::OPTIONS, "*", &[("host", "x")], Scheme::HTTP).unwrap();
        assert_eq!(r.uri().path(), "*");
    }

    #[test]
    fn a_request_without_a_host_is_not_sent() {
        assert!(sent("/", &[], Scheme::HTTPS).is_err());
        assert!(sent("/", &[("host", "a b")], Scheme::HTTPS).is_err());
    }

    #[test]
    fn a_length_without_a_body_is_dropped() {
        let r = sent("/", &[("host", "x"), ("content-length", "5")], Scheme::HTTP).unwrap();
        assert!(r.headers().get(CONTENT_LENGTH).is_none());
    }

    #[test]
    fn that_there_is_no_body_is_said_where_one_is_expected() {
        let host = [("host", "x")];
        let r = sent_by(Method::POST, "/", &host, Scheme::HTTP).unwrap();
        assert_eq!(r.headers()[CONTENT_LENGTH], "0");
        let r = sent_by(Method::GET, "/", &host, Scheme::HTTP).unwrap();
        assert!(r.headers().get(CONTENT_LENGTH).is_none());
    }

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn answers_with_a_framing_of_http1_or_a_switch_are_refused() {
        let coded = &[("transfer-encoding", "chunked")];
        assert!(check_answer(StatusCode::OK, &mut headers(coded)).is_err());
        let switched = StatusCode::SWITCHING_PROTOCOLS;
        assert!(check_answer(switched, &mut headers(&[])).is_err());
        assert!(check_answer(StatusCode::OK, &mut headers(&[])).is_ok());
    }

    #[test]
    fn a_repeated_length_is_said_once() {
        for list in [
            &[("content-length", "3"), ("content-length", "3")][..],
            &[("content-length", "3, 3")],
            &[("content-length", "3")],
        ] {
            let mut headers = headers(list);
            check_answer(StatusCode::OK, &mut headers).unwrap();
            let all: Vec<_> = headers.get_all(CONTENT_LENGTH).iter().collect();
            assert_eq!(all, ["3"]);
        }
    }
}
