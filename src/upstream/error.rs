//! Every way in which an upstream can fail, as causes with their facts.
//!
//! Owns: the words for what happened on the way to an answer.
//! Never: chooses a status, a flag or a retry (that is `proxy::error`).
//! Called by: the rest of this room (makes them), `proxy` (translates them).
//!
//! Why sources are shared: requests that waited for one connection attempt all get its failure.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{BrokenKind, EndpointAddr};
use crate::tls::HandshakeError;

/// Why a request to an upstream has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum UpstreamError {
    /// There is nothing behind the name (503 NC or UH; never retried, ISTIO.md V10, X1).
    #[error("{}: {reason}", kind.words(upstream))]
    Broken {
        /// The upstream's name.
        upstream: Arc<str>,
        /// How it fails.
        kind: BrokenKind,
        /// In words, with file and line where there is one.
        reason: Arc<str>,
    },
    /// There is nothing to connect to.
    #[error("upstream \"{upstream}\" has no endpoint: {reason}")]
    NoEndpoint {
        /// The upstream's name.
        upstream: Arc<str>,
        /// Why there is none.
        reason: NoEndpoint,
    },
    /// The name of an endpoint has no address, and never had one.
    #[error("{0}")]
    Dns(DnsFailure),
    /// No TCP connection (503 UF, ISTIO.md X5).
    #[error("cannot connect to {endpoint}: {failure}")]
    Connect {
        /// Where to.
        endpoint: EndpointAddr,
        /// What became of it.
        failure: ConnectFailure,
    },
    /// The connection stood, but TLS did not come about (503 UF; never retried, ISTIO.md X5).
    #[error("TLS handshake with {endpoint} failed: {source}")]
    Handshake {
        /// With whom.
        endpoint: EndpointAddr,
        /// Which check, what was expected, what came.
        source: Arc<HandshakeError>,
    },
    /// TLS was asked for and cannot be had: never plaintext instead (ISTIO.md T17).
    #[error("upstream \"{upstream}\" cannot speak TLS: {reason}")]
    TlsUnavailable {
        /// The upstream's name.
        upstream: Arc<str>,
        /// In words, with the file.
        reason: String,
    },
    /// A limit of ours is reached (503 UO).
    #[error("upstream \"{upstream}\" is at its limit of {limit} {what}")]
    Overflow {
        /// The upstream's name.
        upstream: Arc<str>,
        /// Which limit.
        what: Limit,
        /// Its value.
        limit: usize,
    },
    /// The endpoint is one of our own listeners (508).
    #[error("{endpoint} is one of our own listeners: the request would come back to us")]
    Loop {
        /// Where it would have gone.
        endpoint: EndpointAddr,
    },
    /// The connection ended before the answer's head (503 UC).
    #[error("{endpoint} closed the connection before it answered{}", .0.describe(), endpoint = .0.endpoint)]
    Closed(Box<Closed>),
    /// What came is not HTTP, or not allowed in it (502 UPE).
    #[error("{endpoint} sent an answer that is not valid HTTP: {problem}")]
    Garbage {
        /// Who sent it.
        endpoint: EndpointAddr,
        /// What is wrong with it.
        problem: String,
    },
    /// HTTP/2: the server refused the stream without processing it (RFC 9113 section 8.7).
    #[error("{endpoint} refused the request unprocessed (HTTP/2 {how})")]
    RefusedStream {
        /// By whom.
        endpoint: EndpointAddr,
        /// `REFUSED_STREAM` or `GOAWAY`.
        how: &'static str,
    },
    /// HTTP/2: the server reset the stream (503 UR).
    #[error("{endpoint} reset the request's stream (HTTP/2 {code})")]
    StreamReset {
        /// By whom.
        endpoint: EndpointAddr,
        /// The error code by name (RFC 9113 section 7).
        code: &'static str,
    },
    /// The request cannot be sent over this protocol.
    #[error("the request cannot be sent to {endpoint}: {problem}")]
    Unsendable {
        /// Where to.
        endpoint: EndpointAddr,
        /// Why not.
        problem: &'static str,
    },
    /// The request's body failed while it was sent: not the upstream's fault.
    #[error("the request's body could not be read: {0}")]
    BodyFromClient(Arc<BodyError>),
}

impl UpstreamError {
    /// The endpoint that it happened with, where one was picked.
    pub fn endpoint(&self) -> Option<EndpointAddr> {
        match self {
            UpstreamError::Connect { endpoint, .. }
            | UpstreamError::Handshake { endpoint, .. }
            | UpstreamError::Loop { endpoint }
            | UpstreamError::Garbage { endpoint, .. }
            | UpstreamError::RefusedStream { endpoint, .. }
            | UpstreamError::StreamReset { endpoint, .. }
            | UpstreamError::Unsendable { endpoint, .. } => Some(*endpoint),
            UpstreamError::Closed(closed) => Some(closed.endpoint),
            UpstreamError::Broken { .. }
            | UpstreamError::NoEndpoint { .. }
            | UpstreamError::Dns(_)
            | UpstreamError::TlsUnavailable { .. }
            | UpstreamError::Overflow { .. }
            | UpstreamError::BodyFromClient(_) => None,
        }
    }
}

/// Why there is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoEndpoint {
    /// The specification names none.
    #[error("none is configured")]
    None,
    /// It goes to original destinations, and this connection has none (ISTIO.md E2).
    #[error("the connection was not redirected, so it has no original destination")]
    NoOriginalDst,
    /// It goes to the host that is asked for, and none is.
    #[error("no host was asked for that could be looked up")]
    NoHost,
    /// The names are still being looked up.
    #[error("its names were not resolved within {0:?}")]
    NotResolved(Duration),
}

/// A name that has no address.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the name \"{name}\" of upstream \"{upstream}\" cannot be resolved: {problem}")]
pub struct DnsFailure {
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// What was looked up.
    pub name: Arc<str>,
    /// What the resolver said.
    pub problem: DnsProblem,
}

/// What the resolver said.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DnsProblem {
    /// NXDOMAIN.
    #[error("no such name (NXDOMAIN)")]
    NoSuchName,
    /// The name is there, but has neither A nor AAAA records.
    #[error("the name has no address (neither A nor AAAA)")]
    NoAddress,
    /// No name server answered.
    #[error("no name server answered in time")]
    Timeout,
    /// Another failure of the look-up.
    #[error("{0}")]
    Failed(#[source] Arc<hickory_resolver::net::NetError>),
    /// The system's resolver configuration cannot be used.
    #[error("the resolver configuration cannot be read: {0}")]
    Configuration(#[source] Arc<hickory_resolver::net::NetError>),
    /// The name is not one that DNS could know.
    #[error("it is not a DNS name")]
    NotAName,
    /// The resolver is shutting down.
    #[error("the resolver has stopped")]
    Stopped,
}

/// What became of a TCP connection attempt.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectFailure {
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// The other side, or something between, reset it.
    #[error("connection reset")]
    Reset,
    /// There is no way there.
    #[error("{0}")]
    Unreachable(#[source] Arc<io::Error>),
    /// The connect deadline passed (ISTIO.md T15).
    #[error("no connection within {after:?}; it was still waiting for {stage}")]
    Timeout {
        /// What was missing.
        stage: Stage,
        /// The deadline.
        after: Duration,
    },
    /// This process or host has no file descriptor, port or memory left.
    #[error("out of resources here: {0}")]
    Exhausted(#[source] Arc<io::Error>),
    /// Another error of the socket.
    #[error("{0}")]
    Io(#[source] Arc<io::Error>),
}

/// A stage of connecting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The TCP handshake.
    Tcp,
    /// The TLS handshake.
    Tls,
    /// The HTTP/2 preface.
    Http2,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Tcp => "the TCP connection",
            Stage::Tls => "the TLS handshake",
            Stage::Http2 => "the HTTP/2 preface",
        })
    }
}

/// A limit of [`crate::model::PoolLimits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `max_connections`.
    Connections,
    /// `max_requests`.
    Requests,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Limit::Connections => "connections",
            Limit::Requests => "requests at once",
        })
    }
}

/// How a connection ended under a request.
#[derive(Clone, Debug)]
pub struct Closed {
    /// Whose connection it was.
    pub endpoint: EndpointAddr,
    /// It had served a request before, so that the server may have closed it as idle.
    pub reused: bool,
    /// Some byte of an answer had come.
    pub answer_begun: bool,
    /// A TLS 1.3 alert that explains it, in words (ISTIO.md 5.6).
    pub explained: Option<String>,
    /// The error of the connection, in words.
    pub detail: Option<String>,
}

impl Closed {
    fn describe(&self) -> String {
        let mut text = String::new();
        if self.reused {
            text.push_str(" (a warm connection)");
        }
        if let Some(reason) = self.explained.as_ref().or(self.detail.as_ref()) {
            text.push_str(": ");
            text.push_str(reason);
        }
        text
    }
}

/// Why a body stopped before its end, in either direction.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The client's side: its connection, its framing, or a limit.
    #[error("{0}")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The upstream's connection ended, or broke its framing, before the answer was whole.
    #[error("the answer was cut off: {explained}")]
    CutOff {
        /// In words.
        explained: String,
        /// The error of the connection.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// HTTP/2: the upstream reset the stream.
    #[error("the answer was cut off: the upstream reset the stream (HTTP/2 {code})")]
    Reset {
        /// The error code by name.
        code: &'static str,
    },
}
