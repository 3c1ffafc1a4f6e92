//! Serves one connection, of HTTP/1 or HTTP/2.
//!
//! Owns: what all requests of a connection share.
//! Never: looks at a request (that is `forward`).
//! Called by: `listener::connection`.

use std::sync::Arc;

use super::connection::Connection;
use super::context::ProxyContext;
use super::control::Control;
use super::downstream::{Downstream, Protocol};
use super::entering::Entering;
use super::identity::Identity;
use super::{http1, http2};
use crate::drain::DrainGuard;

/// Serves every request of one connection, until the client leaves, breaks the rules, or the drain
/// has begun and the requests under way are done.
pub async fn serve(
    downstream: Downstream,
    protocol: Protocol,
    context: Arc<ProxyContext>,
    guard: DrainGuard,
) {
    let snapshot = context.cell.load();
    let limits = snapshot.limits.clone();
    let key = downstream.entrance.as_ref();
    let entrance = key.and_then(|key| snapshot.entrances.find(key));
    let (peer, secured) = (downstream.peer, downstream.secured.as_deref());
    let identity = Identity::of(&context, entrance, secured);
    let rules = entrance.map(|entrance| &entrance.spec.headers);
    let entering = rules.map(|rules| Entering::new(rules, peer, secured));
    drop(snapshot);
    let control = Arc::new(Control::new(protocol == Protocol::Http1));
    let connection = Arc::new(Connection {
        context,
        control,
        peer,
        local: downstream.local,
        kind: downstream.kind,
        original_dst: downstream.original_dst,
        shown: downstream.shown,
        entrance: downstream.entrance,
        secured: downstream.secured,
        made_with: downstream.made_with,
        entering,
        identity,
        stream_idle: limits.stream_idle_timeout,
        held: downstream.held,
    });
    let bytes = (downstream.stream, downstream.first);
    match protocol {
        Protocol::Http1 => {
            http1::serve(bytes, connection, &limits, (guard, downstream.lively)).await
        }
        // Boxed, so that connections of HTTP/1 need not have room for it.
        Protocol::Http2 => Box::pin(http2::serve(bytes, connection, &limits, guard)).await,
    }
}
