//! What the access log may say of one request.
//!
//! Owns: the entry that a request fills as it goes, and the headers kept for it.
//! Never: formats anything (that is `access_format`).
//! Called by: proxy (fills it), access_format (reads it).

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue};

use super::flags::Flags;
use crate::message::Fields;
use crate::model::{EndpointAddr, PeerAddr};

/// What the access log may say of one request. Empty texts and `None` are written as `-`.
#[derive(Clone, Copy, Debug)]
pub struct AccessEntry<'a> {
    /// When the request began.
    pub start: SystemTime,
    /// Empty for a connection without requests.
    pub method: &'a str,
    /// Path and query as the client sent them, in normal form where its entrance wants that; before
    /// any rewrite.
    pub path: &'a str,
    /// `HTTP/1.0`, `HTTP/1.1`, `HTTP/2`; empty for a connection without requests.
    pub protocol: &'a str,
    /// Status sent to the client; 0 where none was.
    pub code: u16,
    /// Why it ended as it did.
    pub flags: Flags,
    /// B9: `via_upstream`, `route_not_found`, ... Spaces are written as `_`.
    pub details: &'a str,
    /// Why the connection was ended; mostly empty.
    pub termination_details: &'a str,
    /// Why the connection to the upstream failed, in words.
    pub upstream_failure: &'a str,
    /// Bytes of the request's body.
    pub bytes_received: u64,
    /// Bytes of the answer's body.
    pub bytes_sent: u64,
    /// From the request's first byte to the answer's last.
    pub duration: Duration,
    /// From the request sent to the head of the answer.
    pub upstream_service_time: Option<Duration>,
    /// `X-Forwarded-For`, with what our entrance appended.
    pub xff: &'a [u8],
    /// `User-Agent`.
    pub user_agent: &'a [u8],
    /// `X-Request-Id`, ours where the client sent none.
    pub request_id: &'a [u8],
    /// The authority as the client sent it.
    pub authority: &'a [u8],
    /// The endpoint that the last try went to.
    pub upstream_host: Option<EndpointAddr>,
    /// The upstream's name.
    pub upstream_cluster: &'a str,
    /// Our side of the connection to the endpoint.
    pub upstream_local: Option<SocketAddr>,
    /// Where the client connected to (the original destination, where there is one).
    pub downstream_local: SocketAddr,
    /// Who the client is.
    pub downstream_remote: PeerAddr,
    /// SNI of the client's own TLS, where it was seen; where TLS is ours alone, the one that we sent.
    pub requested_server_name: &'a str,
    /// What was agreed in TLS of the client's that ended here.
    pub downstream_tls: Option<&'a TlsFacts>,
    /// Why TLS with the client failed, in words.
    pub downstream_failure: &'a str,
    /// The rule's name.
    pub route_name: &'a str,
    /// Headers that a custom format asks for, see [`super::AccessLog::capture_request`].
    pub request_headers: &'a Captured,
    /// The same of the answer, see [`super::AccessLog::capture_response`].
    pub response_headers: &'a Captured,
}

/// What was agreed with a client in TLS that ended here. Empty texts are written as `-`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The IANA name of the cipher suite. (Envoy calls those of TLS 1.2 as OpenSSL does.)
    pub cipher: &'static str,
    /// SNI.
    pub server_name: Box<str>,
    /// The first URI among the names of our certificate.
    pub own_uri: Box<str>,
    /// The subject of our certificate, RFC 4514 text.
    pub own_subject: Box<str>,
    /// The client's certificate, verified; `None` where it showed none.
    pub peer: Option<PeerFacts>,
}

/// What a client's certificate says. Several names are joined by commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerFacts {
    /// URIs among its names.
    pub uris: Box<str>,
    /// DNS names.
    pub dns_names: Box<str>,
    /// Addresses.
    pub ips: Box<str>,
    /// RFC 4514 text.
    pub subject: Box<str>,
    /// RFC 4514 text.
    pub issuer: Box<str>,
    /// Lower-case hexadecimal.
    pub serial: Box<str>,
    /// SHA-256 of its DER form, lower-case hexadecimal.
    pub fingerprint: Box<str>,
    /// From when on it is valid, in seconds since 1970.
    pub not_before: i64,
    /// The last second in which it is valid.
    pub not_after: i64,
}

/// Values of the headers that a format names, in the format's order. Costs nothing where the
/// format names none, as the default does not.
#[derive(Clone, Debug, Default)]
pub struct Captured(Vec<Option<HeaderValue>>);

impl Captured {
    /// Nothing captured.
    pub const NONE: Captured = Captured(Vec::new());

    /// The value of the header that the format names as its `index`th.
    pub(super) fn get(&self, index: usize) -> Option<&HeaderValue> {
        self.0.get(index)?.as_ref()
    }

    /// The values of `names` in `headers`.
    pub(super) fn of(names: &[HeaderName], headers: &Fields) -> Captured {
        Captured(names.iter().map(|name| headers.value(name)).collect())
    }
}

/// An entry in which every field is filled, for tests of this room.
#[cfg(test)]
pub(super) fn sample() -> AccessEntry<'static> {
    static NONE: Captured = Captured::NONE;
    AccessEntry {
        start: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_255_445_123),
        method: "GET",
        path: "/v1/accounts?id=7",
        protocol: "HTTP/1.1",
        code: 200,
        flags: Flags::NONE,
        details: "via_upstream",
        termination_details: "",
        upstream_failure: "",
        bytes_received: 12,
        bytes_sent: 3456,
        duration: Duration::from_micros(7_900),
        upstream_service_time: Some(Duration::from_millis(6)),
        xff: b"",
        user_agent: b"curl/8.5.0",
        request_id: b"2c1d0f6e",
        authority: b"bank.example",
        upstream_host: Some(EndpointAddr(SocketAddr::from(([192, 0, 2, 7], 8443)))),
        upstream_cluster: "bank",
        upstream_local: Some(SocketAddr::from(([10, 0, 0, 5], 40112))),
        downstream_local: SocketAddr::from(([127, 0, 0, 1], 80)),
        downstream_remote: PeerAddr(SocketAddr::from(([127, 0, 0, 1], 51234))),
        requested_server_name: "",
        downstream_tls: None,
        downstream_failure: "",
        route_name: "accounts",
        request_headers: &NONE,
        response_headers: &NONE,
    }
}

/// What TLS with a client agreed on that showed a certificate, for tests of this room.
#[cfg(test)]
pub(super) fn secured() -> TlsFacts {
    TlsFacts {
        version: "TLSv1.3",
        cipher: "TLS_AES_128_GCM_SHA256",
        server_name: "till.example".into(),
        own_uri: "spiffe://td/ns/shop/sa/till".into(),
        own_subject: "CN=till".into(),
        peer: Some(PeerFacts {
            uris: "spiffe://td/ns/web/sa/front,https://b".into(),
            dns_names: "a.example,b.example".into(),
            ips: "192.0.2.1".into(),
            subject: "CN=front,O=A \\\"B\\\"".into(),
            issuer: "CN=root".into(),
            serial: "0aff".into(),
            fingerprint: "abcd".into(),
            not_before: 1_767_225_600,
            not_after: 1_767_312_000,
        }),
    }
}
