//! One accepted connection on its way to the proxy: original destination, first bytes, hand-over.
//!
//! Owns: the order of those steps, and the place under the connection limit.
//! Never: looks at a request.
//! Called by: `listener::accept`.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::accept::Learns;
use super::handshake;
use super::original_dst::{self, OriginalDestination};
use super::sniff::{Sniffer, Spoken};
use crate::drain::DrainGuard;
use crate::model::{Limits, ListenerKind, OriginalDst, PeerAddr};
use crate::proxy::{
    self, Alarm, Downstream, FirstStep, Opaque, Protocol, ProxyContext, Resume, Socket,
};

/// What a connection that came with the drain has for its first bytes. They may be here already
/// without the runtime having noticed, and closing would lose the request.
const LAST_CHANCE: Duration = Duration::from_millis(250);

/// What `accept` hands over.
pub(super) struct Arrival {
    pub(super) stream: TcpStream,
    pub(super) peer: PeerAddr,
    pub(super) learns: Learns,
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

/// Counts a connection as open for as long as it lives, and keeps its place under the limit.
struct Open {
    context: Arc<ProxyContext>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Open {
    fn new(context: &Arc<ProxyContext>, place: Option<OwnedSemaphorePermit>) -> Self {
        context.metrics.downstream.connections.inc();
        Open {
            context: Arc::clone(context),
            _place: place,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.context.metrics.downstream.connections.dec();
    }
}

/// Serves the connection to its end.
pub(super) async fn serve(
    mut arrival: Arrival,
    context: Arc<ProxyContext>,
    original_dst: Arc<dyn OriginalDestination>,
    guard: DrainGuard,
) {
    context.metrics.downstream.accepted.inc();
    let open = Open::new(&context, arrival.permit.take());
    let local = arrival.learns.local.map(Ok);
    let Ok(local) = local.unwrap_or_else(|| arrival.stream.local_addr()) else {
        return;
    };
    // As its peer: of IPv4 where the client is, whatever the listener's family.
    let mut local = SocketAddr::new(local.ip().to_canonical(), local.port());
    let Learns {
        kind, transparent, ..
    } = arrival.learns;
    let original_dst = match (kind, transparent) {
        (_, Some(listener)) => {
            let kept = original_dst::kept(listener, local);
            local.set_port(listener.port());
            kept
        }
        (ListenerKind::Capture | ListenerKind::Inbound(None), None) => {
            original_dst.of(&arrival.stream)
        }
        (ListenerKind::Inbound(Some(to)), None) => Some(OriginalDst(to)),
        (ListenerKind::Direct | ListenerKind::Gateway(_), None) => None,
    };
    let shown = transparent.and_then(|_| original_dst::shown(arrival.peer));
    let downstream = Downstream {
        stream: Socket::Plain(arrival.stream),
        first: Bytes::new(),
        peer: arrival.peer,
        local,
        kind,
        original_dst,
        shown,
        entrance: None,
        secured: None,
        made_with: None,
        lively: false,
        held: Box::new(open),
    };
    match proxy::has_entrances(kind) {
        // Boxed, so that connections of the mesh need not have room for it.
        true => Box::pin(handshake::serve(downstream, context, guard)).await,
        false => mesh(downstream, context, guard).await,
    }
}

/// Mesh traffic: plain HTTP, and streams by the tables of the mesh.
async fn mesh(mut downstream: Downstream, context: Arc<ProxyContext>, mut guard: DrainGuard) {
    let snapshot = context.cell.load();
    let first_step = proxy::first_step(&snapshot, &downstream.arrived());
    let limits = snapshot.limits.clone();
    drop(snapshot);
    let spoken = match first_step {
        FirstStep::Connect => None,
        FirstStep::Read | FirstStep::ReadHttp => {
            let sniffer = Sniffer::new(first_step == FirstStep::ReadHttp);
            let parks = proxy::can_park(downstream.kind, &downstream.stream)
                && proxy::PATIENCE < limits.idle_timeout;
            let silence = match parks {
                true => proxy::PATIENCE,
                false => limits.idle_timeout,
            };
            let stream = &mut downstream.stream;
            match first_bytes(sniffer, stream, silence, &limits, &mut guard).await {
                First::Said(spoken, first) => {
                    downstream.first = first;
                    Some(spoken)
                }
                First::Silent if parks => {
                    let until = Instant::now() + (limits.idle_timeout - silence);
                    let back = (until, resume as Resume);
                    return context.lot.park(downstream, &context, guard, back);
                }
                First::Silent | First::Over => return,
            }
        }
    };
    let opaque = match spoken {
        None => Opaque::Unread,
        Some(Spoken::Nothing) => return,
        Some(Spoken::Tls(hello)) => Opaque::Tls(hello),
        Some(Spoken::NotTls(why)) => Opaque::NotTls(why),
        Some(Spoken::Other) => Opaque::Other,
        Some(Spoken::Http1 | Spoken::Http2)
            if !proxy::carries_http(&context.cell.load(), &downstream.arrived()) =>
        {
            Opaque::Other
        }
        Some(Spoken::Http1) => {
            return proxy::serve(downstream, Protocol::Http1, context, guard).await;
        }
        Some(Spoken::Http2) => {
            return proxy::serve(downstream, Protocol::Http2, context, guard).await;
        }
    };
    // Boxed, so that connections of HTTP need not have room for it.
    Box::pin(proxy::stream(downstream, opaque, context, guard)).await;
}

/// A connection that was silent so far goes on.
fn resume(
    downstream: Downstream,
    context: Arc<ProxyContext>,
    guard: DrainGuard,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(mesh(downstream, context, guard))
}

/// The beginning of a connection.
pub(super) enum First {
    /// What it speaks, and all that was read to tell.
    Said(Spoken, Bytes),
    /// Nothing came for as long as it may.
    Silent,
    /// It ended without a byte, or the drain has begun.
    Over,
}

/// Reads once; `None` where nothing comes for so long.
async fn more_within(
    limit: Duration,
    sniffer: &mut Sniffer,
    stream: &mut Socket,
) -> Option<io::Result<Option<Spoken>>> {
    let mut more = pin!(sniffer.more(stream));
    let (mut alarm, mut due) = (Alarm::default(), None);
    poll_fn(|cx| {
        if let Poll::Ready(read) = more.as_mut().poll(cx) {
            return Poll::Ready(Some(read));
        }
        let due = *due.get_or_insert_with(|| Instant::now() + limit);
        alarm.poll(due, cx).map(|()| None)
    })
    .await
}

/// Reads it. `silence`: how long it may say nothing; what has begun has the time of a head.
pub(super) async fn first_bytes(
    mut sniffer: Sniffer,
    stream: &mut Socket,
    silence: Duration,
    limits: &Limits,
    guard: &mut DrainGuard,
) -> First {
    // Not `readable`: that a new socket is, it may say without a byte.
    let begun = if silence <= proxy::PATIENCE && !guard.has_started() {
        // What is over so soon need not look for the drain meanwhile.
        more_within(silence, &mut sniffer, stream).await
    } else {
        tokio::select! {
            biased;
            read = more_within(silence, &mut sniffer, stream) => read,
            () = guard.started() => {
                match more_within(LAST_CHANCE, &mut sniffer, stream).await {
                    None => return First::Over,
                    read => read,
                }
            }
        }
    };
    let Some(begun) = begun else {
        return First::Silent;
    };
    let spoken = match begun {
        Err(_) | Ok(Some(Spoken::Nothing)) => return First::Over,
        Ok(Some(spoken)) => spoken,
        Ok(None) => match tokio::time::timeout(limits.head_timeout, sniffer.read(stream)).await {
            Ok(Ok(spoken)) => spoken,
            Ok(Err(_)) => return First::Over,
            Err(_) => sniffer.guess("its first message took too long"),
        },
    };
    First::Said(spoken, sniffer.into_bytes())
}
