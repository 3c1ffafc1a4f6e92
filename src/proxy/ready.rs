//! A request in the form in which it goes on.
//!
//! Owns: its target, its Host, and its body as a stream.
//! Never: knows where it goes.
//! Called by: `proxy::forward`.

use std::sync::Arc;

use http::{HeaderValue, Uri};
use http_body::Body as _;

use super::body::Inbound;
use super::connection::Connection;
use super::error::ProxyError;
use super::headers;
use super::http1::Content;
use super::received::Received;
use super::record::Record;
use crate::message::{Known, RequestHead};
use crate::model::Destination;
use crate::upstream::RequestBody;

/// The request in the form in which it goes on, without what was meant for us alone.
pub(super) fn make_ready(
    parts: &mut RequestHead,
    path: Option<http::uri::PathAndQuery>,
    protocol: Option<HeaderValue>,
) -> Result<(), ProxyError> {
    to_origin_form(parts, path);
    headers::clean_request(&mut parts.headers, parts.version, protocol)
        .map_err(|headers::UnknownExpectation| ProxyError::Expectation)
}

/// Host as the client meant it: the absolute form wins over the header (RFC 9112 section 3.2.2).
pub(super) fn keep_host(parts: &mut RequestHead, destination: &Destination<'_>) {
    if let Some(authority) = parts.uri.authority() {
        if let Ok(value) = HeaderValue::from_str(authority.as_str()) {
            parts.headers.insert(http::header::HOST, value);
        }
    } else if !parts.headers.has(Known::Host) {
        let host = &destination.host;
        let value = match host.contains(':') {
            // An IPv6 address stands in brackets (RFC 3986 section 3.2.2).
            true => HeaderValue::from_str(&format!("[{host}]")),
            false => HeaderValue::from_str(host),
        };
        if let Ok(value) = value {
            parts.headers.insert(http::header::HOST, value);
        }
    }
}

/// The target goes on as a path alone; the authority travels in Host.
fn to_origin_form(parts: &mut RequestHead, path: Option<http::uri::PathAndQuery>) {
    let path = path.or_else(|| parts.uri.path_and_query().cloned());
    if parts.uri.authority().is_none() && path.as_ref() == parts.uri.path_and_query() {
        return;
    }
    let mut uri = http::uri::Parts::default();
    uri.path_and_query = Some(path.unwrap_or_else(|| http::uri::PathAndQuery::from_static("/")));
    // A path alone is always a URI.
    parts.uri = Uri::from_parts(uri).unwrap_or_default();
}

/// The body as a stream that is watched; nothing where there is none.
pub(super) fn take_body(
    connection: &Connection,
    body: Content,
    record: &mut Record,
) -> RequestBody {
    if body.is_end_stream() {
        return RequestBody::Empty;
    }
    let received = Arc::new(Received::default());
    record.received = Some(Arc::clone(&received));
    RequestBody::Stream(Box::pin(Inbound::new(
        body,
        received,
        record.is_grpc(),
        connection,
    )))
}
