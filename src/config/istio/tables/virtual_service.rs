//! VirtualService.
//!
//! Owns: its messages.
//! Never: reads a document.
//! Called by: read, reading.

use super::common::{PORT_NUMBER, document};
use crate::config::istio::shape::{
    COUNT, Kind, LABELS, TEXTS, Table, Words, refused, silent, warned, yes,
};

/// `redirect.derivePort` (V15).
pub const DERIVE_PORT: Words = &[("FROM_PROTOCOL_DEFAULT", 0), ("FROM_REQUEST_PORT", 1)];

/// One way to compare a text.
pub static STRING_MATCH: Table = Table::new(&[
    yes("exact", Kind::Text),
    yes("prefix", Kind::Text),
    yes("regex", Kind::Text),
])
.exclusive(&[&["exact", "prefix", "regex"]]);

/// `destination`.
pub static DESTINATION: Table = Table::new(&[
    yes("host", Kind::Text),
    yes("subset", Kind::Text),
    yes("port", Kind::Object(&PORT_NUMBER)),
]);

static HEADER_OPERATIONS: Table =
    Table::new(&[yes("set", LABELS), yes("add", LABELS), yes("remove", TEXTS)]);

static HEADERS: Table = Table::new(&[
    yes("request", Kind::Object(&HEADER_OPERATIONS)),
    yes("response", Kind::Object(&HEADER_OPERATIONS)),
]);

static HTTP_DESTINATION: Table = Table::new(&[
    yes("destination", Kind::Object(&DESTINATION)),
    yes("weight", COUNT),
    yes("headers", Kind::Object(&HEADERS)),
]);

static STREAM_DESTINATION: Table = Table::new(&[
    yes("destination", Kind::Object(&DESTINATION)),
    yes("weight", COUNT),
]);

const STRING_MATCHES: Kind = Kind::Map(&Kind::Object(&STRING_MATCH));

static HTTP_MATCH: Table = Table::new(&[
    yes("name", Kind::Text),
    yes("uri", Kind::Object(&STRING_MATCH)),
    yes("scheme", Kind::Object(&STRING_MATCH)),
    yes("method", Kind::Object(&STRING_MATCH)),
    yes("authority", Kind::Object(&STRING_MATCH)),
    yes("headers", STRING_MATCHES),
    yes("port", Kind::Port),
    yes("sourceLabels", LABELS),
    yes("gateways", TEXTS),
    yes("queryParams", STRING_MATCHES),
    yes("ignoreUriCase", Kind::Bool),
    yes("withoutHeaders", STRING_MATCHES),
    yes("sourceNamespace", Kind::Text),
    warned(
        "statPrefix",
        Kind::Text,
        "metrics have the labels of the destination; leave it out",
    ),
]);

static REDIRECT: Table = Table::new(&[
    yes("uri", Kind::Text),
    yes("prefixRewrite", Kind::Text),
    yes("authority", Kind::Text),
    yes("port", Kind::Port),
    yes("derivePort", Kind::Enum(DERIVE_PORT)),
    yes("scheme", Kind::Text),
    yes("redirectCode", Kind::Whole(0, 999)),
])
.exclusive(&[&["port", "derivePort"], &["uri", "prefixRewrite"]]);

static BODY: Table = Table::new(&[yes("string", Kind::Text), yes("bytes", Kind::Text)])
    .exclusive(&[&["string", "bytes"]]);

static DIRECT_RESPONSE: Table = Table::new(&[
    yes("status", Kind::Whole(0, 999)),
    yes("body", Kind::Object(&BODY)),
]);

static DELEGATE: Table = Table::new(&[yes("name", Kind::Text), yes("namespace", Kind::Text)]);

static REGEX_REWRITE: Table = Table::new(&[yes("match", Kind::Text), yes("rewrite", Kind::Text)]);

static REWRITE: Table = Table::new(&[
    yes("uri", Kind::Text),
    yes("authority", Kind::Text),
    yes("uriRegexRewrite", Kind::Object(&REGEX_REWRITE)),
]);

static RETRIES: Table = Table::new(&[
    yes("attempts", COUNT),
    yes("perTryTimeout", Kind::Duration),
    yes("retryOn", Kind::Text),
    warned(
        "retryRemoteLocalities",
        Kind::Bool,
        "endpoints of every locality are tried anyway; leave it out",
    ),
    silent("retryIgnorePreviousHosts", Kind::Bool),
    yes("backoff", Kind::Duration),
]);

/// `{value: 12.5}`.
static PERCENTAGE: Table = Table::new(&[yes("value", Kind::Percent)]);

static DELAY: Table = Table::new(&[
    yes("percent", Kind::Whole(0, 100)),
    yes("fixedDelay", Kind::Duration),
    refused(
        "exponentialDelay",
        Kind::Duration,
        "write fixedDelay; Istio never built this one",
    ),
    yes("percentage", Kind::Object(&PERCENTAGE)),
])
.exclusive(&[&["fixedDelay", "exponentialDelay"]]);

static ABORT: Table = Table::new(&[
    yes("httpStatus", Kind::Whole(0, 999)),
    yes("grpcStatus", Kind::Text),
    refused(
        "http2Error",
        Kind::Text,
        "write httpStatus or grpcStatus; Istio never built this one",
    ),
    yes("percentage", Kind::Object(&PERCENTAGE)),
])
.exclusive(&[&["httpStatus", "grpcStatus", "http2Error"]]);

static FAULT: Table = Table::new(&[
    yes("delay", Kind::Object(&DELAY)),
    yes("abort", Kind::Object(&ABORT)),
]);

static MIRROR: Table = Table::new(&[
    yes("destination", Kind::Object(&DESTINATION)),
    yes("percentage", Kind::Object(&PERCENTAGE)),
]);

static CORS: Table = Table::new(&[
    silent("allowOrigin", TEXTS),
    silent("allowOrigins", Kind::List(&Kind::Object(&STRING_MATCH))),
    silent("allowMethods", TEXTS),
    silent("allowHeaders", TEXTS),
    silent("exposeHeaders", TEXTS),
    silent("maxAge", Kind::DurationOrZero),
    silent("allowCredentials", Kind::Bool),
    silent("unmatchedPreflights", Kind::Text),
]);

static HTTP_ROUTE: Table = Table::new(&[
    yes("name", Kind::Text),
    yes("match", Kind::List(&Kind::Object(&HTTP_MATCH))),
    yes("route", Kind::List(&Kind::Object(&HTTP_DESTINATION))),
    yes("redirect", Kind::Object(&REDIRECT)),
    yes("directResponse", Kind::Object(&DIRECT_RESPONSE)),
    refused(
        "delegate",
        Kind::Object(&DELEGATE),
        "write the routes of the delegate into this VirtualService",
    ),
    yes("rewrite", Kind::Object(&REWRITE)),
    yes("timeout", Kind::DurationOrZero),
    yes("retries", Kind::Object(&RETRIES)),
    yes("fault", Kind::Object(&FAULT)),
    yes("mirror", Kind::Object(&DESTINATION)),
    yes("mirrors", Kind::List(&Kind::Object(&MIRROR))),
    yes("mirrorPercent", Kind::Whole(0, 100)),
    yes("mirrorPercentage", Kind::Object(&PERCENTAGE)),
    warned(
        "corsPolicy",
        Kind::Object(&CORS),
        "sortie adds no CORS headers; let the upstream answer preflight requests",
    ),
    yes("headers", Kind::Object(&HEADERS)),
])
.exclusive(&[&["mirrorPercent", "mirrorPercentage"]]);

static TLS_MATCH: Table = Table::new(&[
    yes("sniHosts", TEXTS),
    yes("destinationSubnets", TEXTS),
    yes("port", Kind::Port),
    yes("sourceSubnet", Kind::Text),
    yes("sourceLabels", LABELS),
    yes("gateways", TEXTS),
    yes("sourceNamespace", Kind::Text),
]);

static TLS_ROUTE: Table = Table::new(&[
    yes("match", Kind::List(&Kind::Object(&TLS_MATCH))),
    yes("route", Kind::List(&Kind::Object(&STREAM_DESTINATION))),
]);

static TCP_MATCH: Table = Table::new(&[
    yes("destinationSubnets", TEXTS),
    yes("port", Kind::Port),
    yes("sourceSubnet", Kind::Text),
    yes("sourceLabels", LABELS),
    yes("gateways", TEXTS),
    yes("sourceNamespace", Kind::Text),
]);

static TCP_ROUTE: Table = Table::new(&[
    yes("match", Kind::List(&Kind::Object(&TCP_MATCH))),
    yes("route", Kind::List(&Kind::Object(&STREAM_DESTINATION))),
]);

static SPEC: Table = Table::new(&[
    yes("hosts", TEXTS),
    yes("gateways", TEXTS),
    yes("http", Kind::List(&Kind::Object(&HTTP_ROUTE))),
    yes("tls", Kind::List(&Kind::Object(&TLS_ROUTE))),
    yes("tcp", Kind::List(&Kind::Object(&TCP_ROUTE))),
    yes("exportTo", TEXTS),
]);

document!(
    /// VirtualService.
    VIRTUAL_SERVICE = SPEC
);
