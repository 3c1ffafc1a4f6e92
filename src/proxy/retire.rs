//! When an open connection of an entrance has to end, politely: HTTP/1 by `Connection: close`,
//! HTTP/2 by GOAWAY; what is not HTTP has no such word.
//!
//! Owns: the bounds of its age: a certificate that was replaced, a client's that has expired, a
//! policy or a CA that would not let it in today (ISTIO.md R16).
//! Never: ends a request.
//! Called by: `proxy::serve`, `proxy::stream`, `proxy::tunnel`.
//!
//! Why it looks now and then, and is not told: there may be as many connections as memory holds,
//! and nobody has to keep a list of them that way.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::admission::still_admits;
use super::connection::Connection;
use super::context::ProxyContext;
use super::error::ProxyError;
use crate::snapshot::{EntranceKey, ServerSide, Snapshot};
use crate::tls::{AcceptFacts, ServerTls};

/// How often a connection looks whether its entrance has changed.
const LOOK: Duration = Duration::from_secs(30);
/// It looks no oftener than this.
const LEAST: Duration = Duration::from_millis(20);

/// Returns when the connection has to end; never for mesh traffic.
pub(super) async fn retirement(connection: &Connection) {
    let Some(key) = &connection.entrance else {
        return std::future::pending().await;
    };
    // Boxed, so that connections of the mesh need not have room for it.
    let outlived = Box::pin(outlived(connection, key));
    let why = tokio::select! {
        () = connection.control.retired() => "a request was not let in",
        why = outlived => why,
    };
    tracing::debug!(peer = %connection.peer, entrance = key.name(), "connection ends: {why}");
}

/// Looks now and then; says why it has to end.
async fn outlived(connection: &Connection, key: &EntranceKey) -> &'static str {
    let mut replaced: Option<Instant> = None;
    loop {
        let age = connection.context.cell.load().max_connection_age;
        let left = client_left(connection).unwrap_or(LOOK);
        tokio::time::sleep(LOOK.min(age).min(left).max(LEAST)).await;
        if client_left(connection) == Some(Duration::ZERO) {
            return "the client's certificate has expired";
        }
        let snapshot = connection.context.cell.load();
        let entrance = snapshot.entrances.find(key);
        if still_admits(entrance, connection.secured.as_deref(), false).is_err() {
            return "its like is let in no more";
        }
        let Some(server) = replacement(connection.made_with.as_ref(), &snapshot, key) else {
            replaced = None;
            continue;
        };
        let facts = connection.secured.as_deref();
        if facts.is_some_and(|facts| !server.would_admit(facts)) {
            return "its client is let in no more";
        }
        let since = replaced.get_or_insert_with(Instant::now);
        if since.elapsed() >= snapshot.max_connection_age {
            return "what it was secured by has been replaced";
        }
    }
}

/// As what a connection came in that is not HTTP.
pub(super) struct Admitted<'a> {
    /// `None`: mesh traffic.
    pub(super) entrance: Option<&'a EntranceKey>,
    pub(super) secured: Option<&'a AcceptFacts>,
    pub(super) made_with: Option<&'a Weak<ServerTls>>,
    /// It is TLS of the client's that is passed on.
    pub(super) own_tls: bool,
}

/// The same for what is not HTTP, which nothing but a policy ends: returns why connections like this
/// one are let in no more.
pub(super) async fn expulsion(context: &ProxyContext, admitted: &Admitted<'_>) -> ProxyError {
    let Some(key) = admitted.entrance else {
        return std::future::pending().await;
    };
    let secured = admitted.secured;
    loop {
        let age = context.cell.load().max_connection_age;
        tokio::time::sleep(LOOK.min(age).max(LEAST)).await;
        let snapshot = context.cell.load();
        let entrance = snapshot.entrances.find(key);
        if let Err(error) = still_admits(entrance, secured, admitted.own_tls) {
            return error;
        }
        let server = replacement(admitted.made_with, &snapshot, key);
        let refused = |(server, facts): (&ServerTls, _)| !server.would_admit(facts);
        if server.zip(secured).is_some_and(refused) {
            return ProxyError::NotAdmitted;
        }
    }
}

/// By what new connections are made, where that is another configuration than this one was made by.
/// Where none can be made at all, an open one is of more use.
fn replacement<'a>(
    made_with: Option<&Weak<ServerTls>>,
    snapshot: &'a Snapshot,
    key: &EntranceKey,
) -> Option<&'a ServerTls> {
    let Some(ServerSide::Ready(server)) = snapshot.entrances.find(key)?.tls.server() else {
        return None;
    };
    (!std::ptr::eq(Arc::as_ptr(server), made_with?.as_ptr())).then_some(server)
}

/// How long the client's certificate is still valid; `None`: there is none.
fn client_left(connection: &Connection) -> Option<Duration> {
    let client = connection.secured.as_ref()?.client.as_ref()?;
    let until = u64::try_from(client.facts.not_after).unwrap_or_default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(Duration::from_secs(until.saturating_add(1)).saturating_sub(now))
}
