//! The types in which an upstream is asked and answers.
//!
//! Owns: [`Ask`], [`Answer`], [`SendFailure`], and what an upstream is made of.
//! Never: does anything.
//! Called by: proxy, publish, admin.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::body::{RequestBody, ResponseBody};
use super::error::UpstreamError;
use super::own::OwnAddrs;
use super::resolve::Resolver;
use crate::message::{Request, Response};
use crate::model::{EndpointAddr, OriginalDst};
use crate::telemetry::Metrics;
use crate::tls::{ClientTls, HandshakeFacts};

/// What every upstream is made with.
#[derive(Clone)]
pub struct UpstreamContext {
    /// How many workers there are; each has its own slot of every pool.
    pub workers: usize,
    /// Looks names up.
    pub resolver: Resolver,
    /// Addresses that are never connected to.
    pub own: OwnAddrs,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
}

/// How TLS is spoken.
#[derive(Clone)]
pub enum UpstreamTls {
    /// Not at all: the configuration says so.
    Plain,
    /// With this credential, policy and session store.
    Tls(Arc<ClientTls>),
    /// It was asked for and cannot be had: every request fails, with this reason.
    Unavailable(String),
}

/// What a request needs to know to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The worker's number, below [`UpstreamContext::workers`].
    pub worker: usize,
    /// The request's host after rewriting, in normal form, without port: SNI and expected name.
    pub host: &'a str,
    /// The port that the request asks for. Only used, with `host`, where an upstream of original
    /// destinations is asked without one (ISTIO.md E2).
    pub port: u16,
    /// Where the client meant to connect before redirection.
    pub original_dst: Option<OriginalDst>,
    /// The address to dial the application beside us from: its client's own (TPROXY). Other
    /// upstreams do not look at it.
    pub from: Option<IpAddr>,
    /// Endpoints that just failed this request; used again only where there are no others.
    pub avoid: &'a [EndpointAddr],
    /// True where a warm connection just turned out dead: a new one must be opened, as the others
    /// that are warm may be as dead.
    pub fresh: bool,
}

/// An answer's head, its body to come, and how it was come by.
pub struct Answer {
    /// The answer.
    pub response: Response<ResponseBody>,
    /// Who answered.
    pub endpoint: EndpointAddr,
    /// Our end of the connection.
    pub local: Option<SocketAddr>,
    /// What the TLS handshake agreed on.
    pub facts: Option<Arc<HandshakeFacts>>,
    /// The connection had served before.
    pub reused: bool,
}

/// Bytes both ways, on a connection that has changed its protocol.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// A connection that will have changed its protocol: its bytes as soon as it has.
pub type Switched =
    Pin<Box<dyn Future<Output = Result<Box<dyn Duplex>, Box<dyn Error + Send + Sync>>> + Send>>;

/// The upstream's side of the switch, where the answer is 101; once.
pub fn switched(answer: &mut Response<ResponseBody>) -> Switched {
    let tunnel = answer.body.take_tunnel();
    Box::pin(std::future::ready(match tunnel {
        Some(tunnel) => Ok(Box::new(tunnel) as Box<dyn Duplex>),
        None => Err("the upstream did not switch protocols".into()),
    }))
}

/// Why there is no answer, and the request where it can be sent again.
pub struct SendFailure {
    /// The cause.
    pub error: UpstreamError,
    /// The request, where not one byte of it was sent.
    pub request: Option<Request<RequestBody>>,
    /// Whom it was meant for, where one was picked.
    pub endpoint: Option<EndpointAddr>,
    /// The connection had served before.
    pub reused: bool,
}

/// An endpoint for the admin page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointStatus {
    /// Its address.
    pub address: EndpointAddr,
    /// The name it was resolved from; an address as text where it was not.
    pub name: Arc<str>,
    /// How much longer it is shunned.
    pub ejected_for: Option<Duration>,
    /// Failures in a row.
    pub failures: u32,
    /// Requests under way.
    pub active: u64,
}
