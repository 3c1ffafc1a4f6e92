//! A new connection: dial, handshake, HTTP, all within one deadline (ISTIO.md T15).
//!
//! Owns: the order of the steps, and the settings of HTTP/2 towards servers.
//! Never: speaks plaintext where TLS was asked for.
//! Called by: `Upstream`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use h2::client;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::balance::Endpoint;
use super::core::Core;
use super::dial::{self, DialError, DialProblem};
use super::error::{ConnectFailure, Limit, Stage, UpstreamError};
use super::http1::Http1;
use super::http2::{self, Http2, Load};
use super::lane::Ends;
use super::life::Life;
use super::pool::{Permit, Slot};
use super::seam::UpstreamTls;
use super::source::Source;
use super::transport::Transport;
use super::wire::{Link, Wire};
use crate::model::{EndpointAddr, HttpChoice, NameCheck, TlsPolicy, TlsSpec, TlsVersion};
use crate::telemetry::{Event, Handshake};
use crate::tls::{Alpn, ClientTls, HandshakeFacts, Stream};

/// Bytes of an HTTP/2 answer's head, with its trailers.
const MAX_HEAD: u32 = 64 * 1024;
/// Bytes of one HTTP/2 frame, and what a stream may have waiting for the socket.
const MAX_FRAME: u32 = 16 * 1024;
const MAX_SEND_BUFFER: usize = 1 << 20;
/// What one HTTP/2 stream may have on its way to us: enough for 80 Mbit/s at 100 ms.
const STREAM_WINDOW: u32 = 1 << 20;
/// The same for all streams of a connection.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// HTTP/2 streams assumed to be allowed until the server's SETTINGS came.
const INITIAL_STREAMS: usize = 100;
/// Where to connect, and as whom.
#[derive(Clone)]
pub(super) struct Target {
    /// The address that was picked; the pool files the connection under it.
    pub(super) address: EndpointAddr,
    /// An address of the other family for the same name.
    pub(super) other: Option<EndpointAddr>,
    /// The client's address that it is dialled from.
    pub(super) from: Option<IpAddr>,
    /// Whom failures are held against.
    pub(super) endpoint: Option<Arc<Endpoint>>,
    /// The request's host, for SNI and the name check.
    pub(super) host: Arc<str>,
    /// What the pool files it under.
    pub(super) name: Arc<str>,
    /// Only HTTP/1 will do.
    pub(super) http1: bool,
}

impl Target {
    /// What the pool files its connections under.
    pub(super) fn ends(&self) -> Ends {
        Ends {
            to: self.address,
            from: self.from,
        }
    }
}

/// What will be spoken on a connection, for ALPN.
#[derive(Clone, Copy)]
enum Speaks {
    /// HTTP of a version that the policy allows.
    Http,
    Http1,
    /// Something that is not ours to know.
    Opaque,
}

/// A connection that has just been opened.
pub(super) enum Opened {
    Http1(Http1),
    Http2(Http2),
}

/// A connection before anything is spoken on it.
pub(super) struct Reached {
    pub(super) transport: Transport,
    /// Who answered.
    pub(super) endpoint: EndpointAddr,
    pub(super) local: Option<SocketAddr>,
    /// `None` in plaintext.
    pub(super) facts: Option<Arc<HandshakeFacts>>,
}

/// Opens a connection on this worker; HTTP/2 is driven by a task of its own.
pub(super) async fn open(slot: &Arc<Slot>, target: &Target) -> Result<Opened, UpstreamError> {
    blame(slot, target, try_open(slot, target).await)
}

/// The same for bytes that nobody here looks at: no HTTP is offered or spoken.
pub(super) async fn open_transport(
    slot: &Arc<Slot>,
    target: &Target,
) -> Result<(Reached, Permit), UpstreamError> {
    let opened = match permit(slot) {
        Ok(permit) => {
            let deadline = Instant::now() + slot.core.spec.connect_timeout;
            let reached = reach(&slot.core, target, deadline, Speaks::Opaque).await;
            reached.map(|reached| (reached, permit))
        }
        Err(error) => Err(error),
    };
    blame(slot, target, opened)
}

/// Holds a failure against the endpoint, where it is its fault.
fn blame<T>(
    slot: &Slot,
    target: &Target,
    opened: Result<T, UpstreamError>,
) -> Result<T, UpstreamError> {
    if let (Err(error), Some(endpoint)) = (&opened, &target.endpoint) {
        // Our own limits and shortages say nothing of the endpoint.
        let guilty = match error {
            UpstreamError::Connect { failure, .. } => {
                !matches!(failure, ConnectFailure::Exhausted(_))
            }
            UpstreamError::Handshake { .. } | UpstreamError::Closed(_) => true,
            UpstreamError::Garbage { .. } => true,
            _ => false,
        };
        if guilty {
            slot.core.failed(endpoint);
        }
    }
    opened
}

/// A place under the upstream's limit of connections.
fn permit(slot: &Arc<Slot>) -> Result<Permit, UpstreamError> {
    let core = &slot.core;
    slot.permit().ok_or_else(|| {
        core.stats.count(Event::Overflow);
        UpstreamError::Overflow {
            upstream: Arc::clone(&core.spec.name),
            what: Limit::Connections,
            limit: core.connections.limit(),
        }
    })
}

/// Dials and shakes hands.
async fn reach(
    core: &Core,
    target: &Target,
    deadline: Instant,
    speaks: Speaks,
) -> Result<Reached, UpstreamError> {
    let (tcp, endpoint) = dial(core, target, deadline).await?;
    let local = tcp.local_addr().ok();
    let (transport, facts) = match &core.tls {
        UpstreamTls::Plain => (Transport::Plain(tcp), None),
        UpstreamTls::Tls(_) if !core.speaks_tls(target.endpoint.as_deref()) => {
            (Transport::Plain(tcp), None)
        }
        UpstreamTls::Tls(tls) => {
            let shaken = shake_hands(core, tls, target, endpoint, tcp, speaks);
            let (stream, facts) = timeout_at(deadline, shaken)
                .await
                .unwrap_or_else(|_| Err(late(core, endpoint, Stage::Tls)))?;
            (Transport::Tls(Box::new(stream)), Some(facts))
        }
        UpstreamTls::Unavailable(reason) => {
            return Err(UpstreamError::TlsUnavailable {
                upstream: Arc::clone(&core.spec.name),
                reason: reason.clone(),
            });
        }
    };
    Ok(Reached {
        transport,
        endpoint,
        local,
        facts,
    })
}

async fn try_open(slot: &Arc<Slot>, target: &Target) -> Result<Opened, UpstreamError> {
    let core = &slot.core;
    let permit = permit(slot)?;
    let deadline = Instant::now() + core.spec.connect_timeout;
    let speaks = match target.http1 {
        true => Speaks::Http1,
        false => Speaks::Http,
    };
    let Reached {
        transport,
        endpoint,
        local,
        facts,
    } = reach(core, target, deadline, speaks).await?;
    let http2 = speaks_http2(core.spec.http, facts.as_deref());
    if facts.is_some() && !target.http1 {
        core.saw(http2);
    }
    if http2 && target.http1 {
        return Err(UpstreamError::Unsendable {
            endpoint,
            problem: "the server chose HTTP/2, which cannot carry an upgrade",
        });
    }
    let link = slot.opened(|id, stir| {
        let filed = (target.ends(), Arc::clone(&target.name));
        Link::new(id, endpoint, filed, local, facts, stir)
    });
    // An HTTP/1 connection has its place until its socket is closed.
    let (place, shared) = match http2 {
        true => (None, Some(permit)),
        false => (Some(permit), None),
    };
    let at_end = {
        let (slot, link) = (Arc::clone(slot), Arc::clone(&link));
        Box::new(move || {
            slot.ended(&link);
            drop(place);
        })
    };
    let wire = Wire::new(transport, Arc::clone(&link), core.explain.clone(), at_end);
    let Some(permit) = shared else {
        return Ok(Opened::Http1(Http1::new(wire)));
    };
    timeout_at(deadline, start_http2(core, wire, link, permit))
        .await
        .unwrap_or_else(|_| Err(late(core, endpoint, Stage::Http2)))
}

/// HTTP/2 where ALPN chose it, or where the configuration knows it.
fn speaks_http2(choice: HttpChoice, facts: Option<&HandshakeFacts>) -> bool {
    match (choice, facts.map(|facts| facts.alpn)) {
        (_, Some(Alpn::Http2)) | (HttpChoice::Http2, Some(Alpn::None) | None) => true,
        (_, Some(Alpn::Http1)) | (HttpChoice::Auto | HttpChoice::Http1, _) => false,
    }
}

fn late(core: &Core, endpoint: EndpointAddr, stage: Stage) -> UpstreamError {
    match stage {
        Stage::Tcp | Stage::Http2 => core.stats.connect_failed("timeout"),
        Stage::Tls => core.stats.handshake_failed("timeout"),
    }
    UpstreamError::Connect {
        endpoint,
        failure: ConnectFailure::Timeout {
            stage,
            after: core.spec.connect_timeout,
        },
    }
}

async fn dial(
    core: &Core,
    target: &Target,
    deadline: Instant,
) -> Result<(TcpStream, EndpointAddr), UpstreamError> {
    let source = Source {
        kind: core.spec.source,
        client: target.from,
    };
    let dialing = dial::dial(target.address, target.other, source, &core.own);
    let dialed = match timeout_at(deadline, dialing).await {
        Err(_) => return Err(late(core, target.address, Stage::Tcp)),
        Ok(Ok(dialed)) => dialed,
        Ok(Err(DialError { endpoint, problem })) => {
            return Err(match problem {
                DialProblem::Loop => {
                    core.stats.connect_failed("loop");
                    UpstreamError::Loop { endpoint }
                }
                DialProblem::Failed(failure) => {
                    core.stats.connect_failed(label(&failure));
                    UpstreamError::Connect { endpoint, failure }
                }
            });
        }
    };
    core.stats.count(Event::Connect);
    if let (Some(beaten), Some(picked)) = (dialed.beaten, &target.endpoint) {
        picked
            .families
            .lost(beaten, dialed.endpoint, core.clock.now());
    }
    Ok((dialed.stream, dialed.endpoint))
}

fn label(failure: &ConnectFailure) -> &'static str {
    match failure {
        ConnectFailure::Refused => "refused",
        ConnectFailure::Reset => "reset",
        ConnectFailure::Unreachable(_) => "unreachable",
        ConnectFailure::Timeout { .. } => "timeout",
        ConnectFailure::Exhausted(_) => "resources",
        ConnectFailure::Io(_) => "io",
    }
}

async fn shake_hands(
    core: &Core,
    tls: &ClientTls,
    target: &Target,
    endpoint: EndpointAddr,
    tcp: TcpStream,
    speaks: Speaks,
) -> Result<(Stream<TcpStream>, Arc<HandshakeFacts>), UpstreamError> {
    let shaken = match speaks {
        Speaks::Http => tls.connect_to_write(&target.host, tcp, false).await,
        Speaks::Http1 => tls.connect_to_write(&target.host, tcp, true).await,
        Speaks::Opaque => tls.connect_opaque(&target.host, tcp).await,
    };
    match shaken {
        Ok(connected) => {
            core.stats
                .handshake(count(core, tls, target, &connected.facts));
            if let Some(warning) = &connected.facts.name_warning {
                core.stats.count(Event::NameUnchecked);
                core.warn_of_name(endpoint, warning);
            }
            Ok((connected.stream, connected.facts))
        }
        Err(error) => {
            core.stats.handshake_failed(error.reason.label());
            Err(UpstreamError::Handshake {
                endpoint,
                source: Arc::new(error),
            })
        }
    }
}

fn count(core: &Core, tls: &ClientTls, target: &Target, facts: &HandshakeFacts) -> Handshake {
    let is_nameless = |spec: &TlsSpec| {
        target.host.is_empty()
            && spec.server_name.is_none()
            && spec.expected_name.is_none()
            && spec.subject_alt_names.is_empty()
    };
    let verified = match &core.spec.tls {
        TlsPolicy::Tls(spec) if !spec.verify_chain => "none",
        TlsPolicy::Tls(spec) if spec.name_check != NameCheck::Enforce || is_nameless(spec) => {
            "chain"
        }
        TlsPolicy::Tls(_) | TlsPolicy::Disable => "name",
    };
    Handshake {
        resumed: facts.resumed,
        mode: match tls.credential().identity {
            Some(_) => "mutual",
            None => "simple",
        },
        version: match facts.version {
            TlsVersion::Tls12 => "TLSv1.2",
            TlsVersion::Tls13 => "TLSv1.3",
        },
        verified,
    }
}

/// Speaks HTTP/2 on `wire`, driven by a task of its own.
async fn start_http2(
    core: &Core,
    wire: Wire<Transport>,
    link: Arc<Link>,
    permit: Permit,
) -> Result<Opened, UpstreamError> {
    let started = http2_settings().handshake(wire).await;
    let (sender, connection) = started.map_err(|error| http2::classify(&error, &link, false, 0))?;
    let load = Arc::new(Load::new(INITIAL_STREAMS, core.clock.now(), permit));
    let life = Life::new(Arc::clone(&link), Arc::clone(&load));
    tokio::spawn(life.drive(connection));
    Ok(Opened::Http2(Http2::new(sender, link, load)))
}

fn http2_settings() -> client::Builder {
    let mut settings = client::Builder::new();
    settings
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(INITIAL_STREAMS)
        .max_header_list_size(MAX_HEAD)
        .max_frame_size(MAX_FRAME)
        .max_send_buffer_size(MAX_SEND_BUFFER)
        .enable_push(false);
    settings
}
