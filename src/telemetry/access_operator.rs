//! Envoy's format operators: `%RESPONSE_CODE%`, `%REQ(X?Y):Z%` and their kin.
//!
//! Owns: which operators there are, and which part of an entry each one means.
//! Never: escapes (that is `access_format`).
//! Called by: access_format, header_format.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use http::HeaderName;

use super::access_entry::{AccessEntry, Captured, PeerFacts, TlsFacts};
use super::access_format::FormatError;
use super::flags::Flags;

/// The headers that the operators of one format name, to be kept until the line is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Headers {
    pub(super) request: Vec<HeaderName>,
    pub(super) response: Vec<HeaderName>,
}

/// A part of a format string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Literal(String),
    Operator(Operator),
}

/// Reads a format string: `%%` is the sign itself, `%NAME%` an operator. Two literals never follow
/// each other.
pub(super) fn parts(text: &str, headers: &mut Headers) -> Result<Vec<Part>, FormatError> {
    let (mut parts, mut literal) = (Vec::new(), String::new());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        literal.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            literal.push('%');
            rest = after;
            continue;
        }
        let place = text.len() - after.len() - 1;
        let (inner, after) = after.split_once('%').ok_or(FormatError::Unclosed(place))?;
        let operator = Operator::parse(inner, headers)?;
        if !literal.is_empty() {
            parts.push(Part::Literal(std::mem::take(&mut literal)));
        }
        parts.push(Part::Operator(operator));
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    Ok(parts)
}

/// One operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Simple(Simple),
    /// `REQ` and `RESP`: the first of them that is there, cut to so many bytes.
    Header {
        first: Source,
        second: Option<Source>,
        most: usize,
    },
}

/// Where the text of `REQ` and `RESP` comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Method,
    Path,
    Authority,
    Scheme,
    ForwardedFor,
    UserAgent,
    RequestId,
    Status,
    ServiceTime,
    /// A header that only a proxy may set, and this one never does: a client's is not believed.
    Never,
    Request(usize),
    Response(usize),
}

/// What an operator stands for in one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Nothing,
    /// Foreign text that may have spaces.
    Text(&'a [u8]),
    /// Foreign text in which a space would make two columns, even between quotes.
    Word(&'a [u8]),
    /// Words of our own: double quotes in them become single ones, which need no escape.
    Words(&'a [u8]),
    /// Text whose spaces Envoy writes as `_`.
    Joined(&'a [u8]),
    Number(u64),
    /// A number that Envoy takes from a header, hence text in JSON.
    Digits(u64),
    Address(SocketAddr),
    Ip(IpAddr),
    Flags(Flags),
    Time(SystemTime),
}

macro_rules! simple {
    ($($variant:ident = $($name:literal)|+;)*) => {
        /// The operators without an argument.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Simple {
            $($variant,)*
        }

        impl Simple {
            fn parse(name: &str) -> Option<Simple> {
                match name {
                    $($($name)|+ => Some(Simple::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

simple! {
    StartTime = "START_TIME";
    Protocol = "PROTOCOL";
    ResponseCode = "RESPONSE_CODE";
    ResponseFlags = "RESPONSE_FLAGS";
    ResponseCodeDetails = "RESPONSE_CODE_DETAILS";
    ConnectionTerminationDetails = "CONNECTION_TERMINATION_DETAILS";
    UpstreamTransportFailureReason = "UPSTREAM_TRANSPORT_FAILURE_REASON";
    BytesReceived = "BYTES_RECEIVED";
    BytesSent = "BYTES_SENT";
    Duration = "DURATION";
    UpstreamHost = "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS";
    UpstreamHostIp = "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT";
    UpstreamHostPort = "UPSTREAM_REMOTE_PORT";
    UpstreamCluster = "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW";
    UpstreamLocal = "UPSTREAM_LOCAL_ADDRESS";
    UpstreamLocalIp = "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT";
    UpstreamLocalPort = "UPSTREAM_LOCAL_PORT";
    DownstreamLocal = "DOWNSTREAM_LOCAL_ADDRESS";
    DownstreamLocalIp = "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT";
    DownstreamLocalPort = "DOWNSTREAM_LOCAL_PORT";
    DownstreamRemote = "DOWNSTREAM_REMOTE_ADDRESS" | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS";
    DownstreamRemoteIp = "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT"
        | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT";
    DownstreamRemotePort = "DOWNSTREAM_REMOTE_PORT" | "DOWNSTREAM_DIRECT_REMOTE_PORT";
    RequestedServerName = "REQUESTED_SERVER_NAME";
    RouteName = "ROUTE_NAME";
    DownstreamFailure = "DOWNSTREAM_TRANSPORT_FAILURE_REASON";
    TlsVersion = "DOWNSTREAM_TLS_VERSION";
    TlsCipher = "DOWNSTREAM_TLS_CIPHER";
    OwnUri = "DOWNSTREAM_LOCAL_URI_SAN";
    OwnSubject = "DOWNSTREAM_LOCAL_SUBJECT";
    PeerUri = "DOWNSTREAM_PEER_URI_SAN";
    PeerDns = "DOWNSTREAM_PEER_DNS_SAN";
    PeerIp = "DOWNSTREAM_PEER_IP_SAN";
    PeerSubject = "DOWNSTREAM_PEER_SUBJECT";
    PeerIssuer = "DOWNSTREAM_PEER_ISSUER";
    PeerSerial = "DOWNSTREAM_PEER_SERIAL";
    PeerFingerprint = "DOWNSTREAM_PEER_FINGERPRINT_256";
    PeerFrom = "DOWNSTREAM_PEER_CERT_V_START";
    PeerUntil = "DOWNSTREAM_PEER_CERT_V_END";
}

impl Operator {
    /// Reads what stands between two percent signs, and notes the headers that it names.
    pub(super) fn parse(text: &str, headers: &mut Headers) -> Result<Operator, FormatError> {
        let end = text.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
        let (name, rest) = text.split_at(end.unwrap_or(text.len()));
        let wrong = |expected| FormatError::Argument {
            operator: text.to_owned(),
            expected,
        };
        if let Some(simple) = Simple::parse(name) {
            return match rest {
                "" => Ok(Operator::Simple(simple)),
                _ => Err(wrong("this operator takes no argument")),
            };
        }
        let request = match name {
            "REQ" => true,
            "RESP" => false,
            _ => return Err(FormatError::Unknown(text.to_owned())),
        };
        let expected = "write the name of a header, perhaps a second one and a length, as in \
                        %REQ(X-FIRST?X-SECOND):20%";
        let inner = rest.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        let (names, most) = inner.ok_or_else(|| wrong(expected))?;
        let most = match most.strip_prefix(':').map(str::parse) {
            None if most.is_empty() => usize::MAX,
            Some(Ok(most)) => most,
            _ => return Err(wrong(expected)),
        };
        let mut source = |name: &str| {
            let found = match request {
                true => Source::of_request(name, &mut headers.request),
                false => Source::of_response(name, &mut headers.response),
            };
            found.ok_or_else(|| wrong(expected))
        };
        let (first, second) = match names.split_once('?') {
            Some((first, second)) => (source(first)?, Some(source(second)?)),
            None => (source(names)?, None),
        };
        Ok(Operator::Header {
            first,
            second,
            most,
        })
    }

    /// What the operator stands for in `entry`.
    pub(super) fn value<'a>(&self, entry: &AccessEntry<'a>) -> Value<'a> {
        match self {
            Operator::Simple(simple) => simple.value(entry),
            Operator::Header {
                first,
                second,
                most,
            } => {
                let value = match (first.value(entry), second) {
                    (Value::Nothing, Some(second)) => second.value(entry),
                    (value, _) => value,
                };
                let cut = |text: &'a [u8]| text.get(..*most).unwrap_or(text);
                match value {
                    Value::Text(text) => Value::Text(cut(text)),
                    Value::Word(text) => Value::Word(cut(text)),
                    other => other,
                }
            }
        }
    }
}

impl Source {
    fn of_request(name: &str, kept: &mut Vec<HeaderName>) -> Option<Source> {
        Some(match name.to_ascii_lowercase().as_str() {
            ":method" => Source::Method,
            ":path" => Source::Path,
            ":authority" | "host" => Source::Authority,
            ":scheme" => Source::Scheme,
            "x-forwarded-for" => Source::ForwardedFor,
            "user-agent" => Source::UserAgent,
            "x-request-id" => Source::RequestId,
            "x-envoy-original-path" => Source::Never,
            other => Source::Request(keep(other, kept)?),
        })
    }

    fn of_response(name: &str, kept: &mut Vec<HeaderName>) -> Option<Source> {
        Some(match name.to_ascii_lowercase().as_str() {
            ":status" => Source::Status,
            "x-envoy-upstream-service-time" => Source::ServiceTime,
            other => Source::Response(keep(other, kept)?),
        })
    }

    fn value<'a>(self, entry: &AccessEntry<'a>) -> Value<'a> {
        let some = |text: &'a [u8]| match text {
            b"" => Value::Nothing,
            _ => Value::Text(text),
        };
        let header = |captured: &'a Captured, index| match captured.get(index) {
            Some(value) => Value::Text(value.as_bytes()),
            None => Value::Nothing,
        };
        match self {
            Source::Method => Value::Word(entry.method.as_bytes()),
            Source::Path => Value::Word(entry.path.as_bytes()),
            Source::Authority => some(entry.authority),
            Source::Scheme => match entry.downstream_tls {
                Some(_) => Value::Text(b"https"),
                None => Value::Text(b"http"),
            },
            Source::ForwardedFor => some(entry.xff),
            Source::UserAgent => some(entry.user_agent),
            Source::RequestId => some(entry.request_id),
            Source::Status => Value::Digits(u64::from(entry.code)),
            Source::ServiceTime => match entry.upstream_service_time {
                Some(time) => Value::Digits(millis(time)),
                None => Value::Nothing,
            },
            Source::Never => Value::Nothing,
            Source::Request(index) => header(entry.request_headers, index),
            Source::Response(index) => header(entry.response_headers, index),
        }
    }
}

fn keep(name: &str, kept: &mut Vec<HeaderName>) -> Option<usize> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    let known = kept.iter().position(|other| *other == name);
    Some(known.unwrap_or_else(|| {
        kept.push(name);
        kept.len() - 1
    }))
}

impl Simple {
    fn value<'a>(self, entry: &AccessEntry<'a>) -> Value<'a> {
        let address = |address: Option<SocketAddr>| address.map_or(Value::Nothing, Value::Address);
        let ip = |of: Option<SocketAddr>| of.map_or(Value::Nothing, |of| Value::Ip(of.ip()));
        let port = |of: Option<SocketAddr>| {
            of.map_or(Value::Nothing, |of| Value::Number(u64::from(of.port())))
        };
        let upstream = entry.upstream_host.map(|host| host.0);
        let (local, remote) = (
            Some(entry.downstream_local),
            Some(entry.downstream_remote.0),
        );
        match self {
            Simple::StartTime => Value::Time(entry.start),
            Simple::Protocol => Value::Text(entry.protocol.as_bytes()),
            Simple::ResponseCode => Value::Number(u64::from(entry.code)),
            Simple::ResponseFlags => Value::Flags(entry.flags),
            Simple::ResponseCodeDetails => Value::Joined(entry.details.as_bytes()),
            Simple::ConnectionTerminationDetails => {
                Value::Joined(entry.termination_details.as_bytes())
            }
            Simple::UpstreamTransportFailureReason => {
                Value::Words(entry.upstream_failure.as_bytes())
            }
            Simple::BytesReceived => Value::Number(entry.bytes_received),
            Simple::BytesSent => Value::Number(entry.bytes_sent),
            Simple::Duration => Value::Number(millis(entry.duration)),
            Simple::UpstreamHost => address(upstream),
            Simple::UpstreamHostIp => ip(upstream),
            Simple::UpstreamHostPort => port(upstream),
            Simple::UpstreamCluster => Value::Text(entry.upstream_cluster.as_bytes()),
            Simple::UpstreamLocal => address(entry.upstream_local),
            Simple::UpstreamLocalIp => ip(entry.upstream_local),
            Simple::UpstreamLocalPort => port(entry.upstream_local),
            Simple::DownstreamLocal => address(local),
            Simple::DownstreamLocalIp => ip(local),
            Simple::DownstreamLocalPort => port(local),
            Simple::DownstreamRemote => address(remote),
            Simple::DownstreamRemoteIp => ip(remote),
            Simple::DownstreamRemotePort => port(remote),
            Simple::RequestedServerName => Value::Text(entry.requested_server_name.as_bytes()),
            Simple::RouteName => Value::Text(entry.route_name.as_bytes()),
            Simple::DownstreamFailure => Value::Words(entry.downstream_failure.as_bytes()),
            _ => entry
                .downstream_tls
                .map_or(Value::Nothing, |tls| self.of_tls(tls)),
        }
    }

    /// The operators of TLS with the client.
    fn of_tls(self, tls: &TlsFacts) -> Value<'_> {
        let text = |text: &'static str| Value::Text(text.as_bytes());
        match self {
            Simple::TlsVersion => text(tls.version),
            Simple::TlsCipher => text(tls.cipher),
            Simple::OwnUri => Value::Text(tls.own_uri.as_bytes()),
            Simple::OwnSubject => Value::Text(tls.own_subject.as_bytes()),
            _ => tls
                .peer
                .as_ref()
                .map_or(Value::Nothing, |peer| self.of_peer(peer)),
        }
    }

    /// The operators of the client's certificate.
    fn of_peer(self, peer: &PeerFacts) -> Value<'_> {
        let time = |seconds: i64| {
            let since = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
            Value::Time(SystemTime::UNIX_EPOCH + since)
        };
        match self {
            Simple::PeerUri => Value::Text(peer.uris.as_bytes()),
            Simple::PeerDns => Value::Text(peer.dns_names.as_bytes()),
            Simple::PeerIp => Value::Text(peer.ips.as_bytes()),
            Simple::PeerSubject => Value::Text(peer.subject.as_bytes()),
            Simple::PeerIssuer => Value::Text(peer.issuer.as_bytes()),
            Simple::PeerSerial => Value::Text(peer.serial.as_bytes()),
            Simple::PeerFingerprint => Value::Text(peer.fingerprint.as_bytes()),
            Simple::PeerFrom => time(peer.not_before),
            Simple::PeerUntil => time(peer.not_after),
            _ => Value::Nothing,
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
