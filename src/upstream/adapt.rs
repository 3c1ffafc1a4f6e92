//! A request in the form that HTTP/2 wants, and its answers held to the rules.
//!
//! Owns: target form and authority (RFC 9113 section 8.3), and what only HTTP/1 can carry.
//! Never: adds or drops anything else (that is `proxy::headers`).
//! Called by: `connection`.

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, Version};
use http_body::Body;

use super::body::RequestBody;
use crate::message::{Fields, Known};

/// True where only HTTP/1.1 can carry the request (RFC 9113 section 8.6: no Upgrade in HTTP/2).
pub(super) fn needs_http1(headers: &Fields) -> bool {
    headers.has(Known::Upgrade)
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

/// What hyper lets pass in an HTTP/2 answer and a proxy must not.
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
    use super::*;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Request<RequestBody> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(RequestBody::Empty).unwrap()
    }

    #[test]
    fn http2_gets_the_authority() {
        let mut r = request("/a?b", &[("host", "bank.example:8443")]);
        to_http2(&mut r, Scheme::HTTPS).unwrap();
        assert_eq!(r.uri(), "https://bank.example:8443/a?b");
        assert!(r.headers().get(&HOST).is_none());
    }

    #[test]
    fn the_star_target_survives() {
        let mut r = request("*", &[("host", "x")]);
        *r.method_mut() = http::Method::OPTIONS;
        to_http2(&mut r, Scheme::HTTP).unwrap();
        assert_eq!(r.uri().path(), "*");
    }

    #[test]
    fn a_request_without_a_host_is_not_sent() {
        assert!(to_http2(&mut request("/", &[]), Scheme::HTTPS).is_err());
    }

    #[test]
    fn a_length_without_a_body_is_dropped() {
        let mut r = request("/", &[("host", "x"), ("content-length", "5")]);
        to_http2(&mut r, Scheme::HTTP).unwrap();
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
