//! One request in the form that each protocol wants, and answers held to the rules of theirs.
//!
//! Owns: target form, authority, framing headers (RFC 9112 sections 3.2 and 6, RFC 9113 8.3).
//! Never: adds or drops anything else (that is `proxy::headers`).
//! Called by: `connection`.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version};
use http_body::Body;

use super::body::RequestBody;

/// True where only HTTP/1.1 can carry the request (RFC 9113 section 8.6: no Upgrade in HTTP/2).
pub(super) fn needs_http1(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
}

/// Origin form, `Host`, and a framing that hyper does not have to guess.
pub(super) fn to_http1(request: &mut Request<RequestBody>) -> Result<(), &'static str> {
    if let Some(authority) = request.uri().authority() {
        if !request.headers().contains_key(HOST) {
            let host = HeaderValue::from_str(authority.as_str()).map_err(|_| "its authority")?;
            request.headers_mut().insert(HOST, host);
        }
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    }
    if !request.headers().contains_key(HOST) {
        return Err("it names no host");
    }
    if request.headers().contains_key(TE) && !request.headers().contains_key(UPGRADE) {
        // RFC 9110 section 10.1.4: who sends TE says so in Connection.
        request
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("te"));
    }
    *request.version_mut() = Version::HTTP_11;
    frame(request);
    Ok(())
}

/// A body that is there is announced, and one that is not there is not (request smuggling).
fn frame(request: &mut Request<RequestBody>) {
    let (empty, exact) = (
        request.body().is_end_stream(),
        request.body().size_hint().exact(),
    );
    // hyper leaves a body of unknown length out of these methods unless it is told (RFC 9110
    // section 9.3.1 allows one).
    let guesses_none = matches!(*request.method(), Method::GET | Method::HEAD);
    let headers = request.headers_mut();
    if empty {
        headers.remove(TRANSFER_ENCODING);
        if headers
            .get(CONTENT_LENGTH)
            .is_some_and(|length| length != "0")
        {
            headers.remove(CONTENT_LENGTH);
        }
    } else if guesses_none && exact.is_none() && !headers.contains_key(CONTENT_LENGTH) {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Absolute form instead of `Host`; hyper drops what HTTP/2 has no place for.
pub(super) fn to_http2(
    request: &mut Request<RequestBody>,
    scheme: Scheme,
) -> Result<(), &'static str> {
    let host = request.headers_mut().remove(HOST);
    let authority = match host {
        Some(host) => Authority::try_from(host.as_bytes()).map_err(|_| "its Host is malformed")?,
        None => request
            .uri()
            .authority()
            .cloned()
            .ok_or("it names no host")?,
    };
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Some(authority);
    let path = request.uri().path_and_query().cloned();
    parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| "its target is malformed")?;
    *request.version_mut() = Version::HTTP_2;
    if request.body().is_end_stream() {
        let headers = request.headers_mut();
        if headers
            .get(CONTENT_LENGTH)
            .is_some_and(|length| length != "0")
        {
            headers.remove(CONTENT_LENGTH);
        }
    }
    Ok(())
}

/// What hyper lets pass in an answer and a proxy must not (RFC 9112 section 6.3).
///
/// # Errors
/// What is wrong, in words.
pub(super) fn check_answer(
    status: StatusCode,
    headers: &mut HeaderMap,
    asked_upgrade: bool,
) -> Result<(), &'static str> {
    if status == StatusCode::SWITCHING_PROTOCOLS && !asked_upgrade {
        return Err("it switches protocols (101) without having been asked to");
    }
    if let Some(encoding) = headers.get(TRANSFER_ENCODING) {
        if headers.contains_key(CONTENT_LENGTH) {
            return Err("it has both Transfer-Encoding and Content-Length");
        }
        // We offer no other coding (TE), and the client would be told nothing of it.
        let several = headers.get_all(TRANSFER_ENCODING).iter().nth(1).is_some();
        if several
            || !encoding
                .as_bytes()
                .trim_ascii()
                .eq_ignore_ascii_case(b"chunked")
        {
            return Err("its Transfer-Encoding is not \"chunked\" alone");
        }
    }
    one_length(headers);
    Ok(())
}

/// hyper has made sure that all lengths are one number; say it once.
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
    use bytes::Bytes;
    use http_body_util::BodyExt;

    use super::*;
    use crate::upstream::BodyError;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Request<RequestBody> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(RequestBody::Empty).unwrap()
    }

    #[test]
    fn http1_gets_origin_form_and_host_and_http2_the_authority() {
        let mut r = request("/a?b", &[("host", "bank.example:8443")]);
        to_http2(&mut r, Scheme::HTTPS).unwrap();
        assert_eq!(r.uri(), "https://bank.example:8443/a?b");
        assert!(r.headers().get(HOST).is_none());
        to_http1(&mut r).unwrap();
        assert_eq!(
            (r.uri(), r.version()),
            (&Uri::from_static("/a?b"), Version::HTTP_11)
        );
        assert_eq!(r.headers()[HOST], "bank.example:8443");
    }

    #[test]
    fn the_star_target_survives_both_ways() {
        let mut r = request("*", &[("host", "x")]);
        *r.method_mut() = Method::OPTIONS;
        to_http2(&mut r, Scheme::HTTP).unwrap();
        assert_eq!(r.uri().path(), "*");
        to_http1(&mut r).unwrap();
        assert_eq!(r.uri(), "*");
    }

    #[test]
    fn a_request_without_a_host_is_not_sent() {
        assert!(to_http1(&mut request("/", &[])).is_err());
        assert!(to_http2(&mut request("/", &[]), Scheme::HTTPS).is_err());
    }

    #[test]
    fn a_length_without_a_body_is_dropped_and_a_body_without_a_length_is_chunked() {
        let mut r = request("/", &[("host", "x"), ("content-length", "5")]);
        to_http1(&mut r).unwrap();
        assert!(r.headers().get(CONTENT_LENGTH).is_none());

        let stream = http_body_util::StreamBody::new(futures_util::stream::empty::<
            Result<http_body::Frame<Bytes>, BodyError>,
        >());
        let mut r = request("/", &[("host", "x")]).map(|_| RequestBody::Stream(Box::pin(stream)));
        to_http1(&mut r).unwrap();
        assert_eq!(r.headers()[TRANSFER_ENCODING], "chunked");
        assert!(
            BodyExt::boxed_unsync(r.into_body())
                .size_hint()
                .exact()
                .is_none()
        );
    }

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn answers_with_two_framings_or_unasked_upgrades_are_refused() {
        for list in [
            &[("transfer-encoding", "chunked"), ("content-length", "3")][..],
            &[("transfer-encoding", "gzip, chunked")],
            &[
                ("transfer-encoding", "chunked"),
                ("transfer-encoding", "chunked"),
            ],
        ] {
            assert!(
                check_answer(StatusCode::OK, &mut headers(list), false).is_err(),
                "{list:?}"
            );
        }
        let switched = StatusCode::SWITCHING_PROTOCOLS;
        assert!(check_answer(switched, &mut headers(&[]), false).is_err());
        assert!(check_answer(switched, &mut headers(&[]), true).is_ok());
    }

    #[test]
    fn a_repeated_length_is_said_once() {
        for list in [
            &[("content-length", "3"), ("content-length", "3")][..],
            &[("content-length", "3, 3")],
            &[("content-length", "3")],
        ] {
            let mut headers = headers(list);
            check_answer(StatusCode::OK, &mut headers, false).unwrap();
            let all: Vec<_> = headers.get_all(CONTENT_LENGTH).iter().collect();
            assert_eq!(all, ["3"]);
        }
    }
}
