//! A connection that waits becomes one of its worker's lot, and a server again later.
//!
//! Owns: what of a connection is needed to go on with it.
//! Never: parks one on which anything is under way.
//! Called by: `server`.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::leaving::Leaving;
use super::wire::{Shared, lock};
use crate::proxy::connection::Connection;
use crate::proxy::downstream::{Downstream, Protocol};
use crate::proxy::serve::serve;

/// Leaves the connection to the lot, up to this time. False where it has to stay.
pub(super) fn park(
    connection: &mut Arc<Connection>,
    wire: &Shared,
    leaving: &mut Leaving,
    until: Instant,
) -> bool {
    let Some(connection) = Arc::get_mut(connection) else {
        // Somebody who outlives its requests has it.
        return false;
    };
    let (Some(stream), Some(guard)) = (lock(wire).socket.take(), leaving.take_guard()) else {
        return false;
    };
    let downstream = Downstream {
        stream,
        first: Bytes::new(),
        peer: connection.peer,
        local: connection.local,
        kind: connection.kind,
        original_dst: connection.original_dst,
        shown: connection.shown,
        entrance: None,
        secured: None,
        made_with: None,
        lively: false,
        held: std::mem::replace(&mut connection.held, Box::new(())),
    };
    let context = &connection.context;
    let back = |stream, context, guard| -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(serve(stream, Protocol::Http1, context, guard))
    };
    context.lot.park(downstream, context, guard, (until, back));
    true
}
