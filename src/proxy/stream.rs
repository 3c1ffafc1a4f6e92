//! One opaque connection's whole story: find, connect, pass on.
//!
//! Owns: the order of the steps for what is not HTTP: TLS of the client's own, by its server name,
//! and TCP, by its address (ISTIO.md V17, V18, O3 to O5).
//! Never: changes a byte, or wraps TLS in TLS unasked (D8).
//! Called by: `listener::connection`.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use super::arrival::{self, Way};
use super::context::ProxyContext;
use super::destination::looked_up;
use super::downstream::{Arrived, Downstream, Hello, Opaque};
use super::error::ProxyError;
use super::identity::Identity;
use super::record::chain;
use super::refusal::Refusal;
use super::relay::{Ended, Terms, relay};
use super::retire::{Admitted, expulsion};
use super::seldom::may_say;
use super::stream_record::StreamRecord;
use crate::drain::DrainGuard;
use crate::model::{ListenerKind, OriginalDst, PeerAddr};
use crate::snapshot::EntranceKey;
use crate::telemetry::Flags;
use crate::upstream::{Ask, OpenStream, StreamFailure, Upstream};

/// An opaque connection that moves no byte for this long ends (ISTIO.md T15).
const IDLE: Duration = Duration::from_secs(3600);

/// Serves it to its end. The drain waits for it, up to its deadline.
pub async fn stream(
    downstream: Downstream,
    opaque: Opaque,
    context: Arc<ProxyContext>,
    _guard: DrainGuard,
) {
    let arrived = downstream.arrived();
    let mut record = StreamRecord::new(&context, &arrived);
    if let Some(refusal) = echo(&context, &arrived) {
        let entrance = downstream.entrance.as_ref().map(EntranceKey::name);
        return tell(
            &refusal,
            &context,
            (&arrived, entrance),
            record,
            opaque.into_hello(),
        );
    }
    let opened = {
        // Let go before the bytes flow: a long connection must not keep an old table alive.
        let snapshot = context.cell.load();
        let key = downstream.entrance.as_ref();
        let entrance = key.and_then(|key| snapshot.entrances.find(key));
        let secured = downstream.secured.as_deref();
        record.comes_from(Identity::of(&context, entrance, secured));
        let name = match &opaque {
            Opaque::Tls(hello) => hello.server_name.as_deref(),
            Opaque::Unread | Opaque::NotTls(_) | Opaque::Other => None,
        };
        let way = arrival::find(&snapshot, &downstream, &opaque);
        let (upstream, route) = match way {
            Way::Route(target, upstream) => (upstream, target.name.clone()),
            Way::PassThrough => (&context.pass_through.upstream, None),
            Way::Refuse(refusal) => {
                let arrived = downstream.arrived();
                let entrance = downstream.entrance.as_ref().map(EntranceKey::name);
                let hello = opaque.into_hello();
                return tell(&refusal, &context, (&arrived, entrance), record, hello);
            }
        };
        record.counted(upstream.stats_handle(), route);
        let ask = Ask {
            worker: context.worker,
            host: looked_up(downstream.kind, upstream, name.unwrap_or_default()),
            port: downstream.met().port,
            original_dst: downstream.original_dst,
            from: downstream.shown,
            avoid: &[],
            fresh: false,
        };
        let no_tls = matches!(opaque, Opaque::Unread) && arrival::wraps_twice(upstream);
        let opened = upstream.open_stream(&ask).await;
        if let Err(failure) = &opened {
            failed(failure, upstream, &downstream, &mut record);
        }
        opened.ok().map(|opened| (opened, no_tls))
    };
    // It may have come back before the worker that opened it knew that it was open.
    if let Some(refusal) = echo(&context, &arrived) {
        let entrance = downstream.entrance.as_ref().map(EntranceKey::name);
        return tell(
            &refusal,
            &context,
            (&arrived, entrance),
            record,
            opaque.into_hello(),
        );
    }
    let own_tls = matches!(opaque, Opaque::Tls(_));
    if let Opaque::Tls(hello) = opaque {
        record.asks_for(hello.server_name);
    }
    if let Some((opened, no_tls)) = opened {
        let client = (downstream, own_tls);
        pass_on(client, opened, no_tls, &context, &mut record).await;
    }
    record.tell();
}

/// Why it is closed, where it is one of ours: the rules let another user's connections go.
fn echo(context: &ProxyContext, arrived: &Arrived) -> Option<Refusal> {
    let inbound = match arrived.kind {
        ListenerKind::Capture => false,
        ListenerKind::Inbound(None) => true,
        ListenerKind::Direct | ListenerKind::Inbound(Some(_)) | ListenerKind::Gateway(_) => {
            return None;
        }
    };
    let (PeerAddr(from), OriginalDst(to)) = (arrived.peer, arrived.original_dst?);
    let ours = context.pass_through.upstream.came_back(from, to, inbound);
    ours.then(|| {
        // What the kernel shows of this process belongs to whom it runs as.
        let me = std::fs::metadata("/proc/self").ok();
        Refusal::OwnConnection {
            uid: me.as_ref().map_or(0, MetadataExt::uid),
            gid: me.as_ref().map_or(0, MetadataExt::gid),
        }
    })
}

/// Tells of a connection that is closed before a byte of it goes on, and counts it. The client
/// hears nothing, so the log must tell. `entrance`: its name, where one is for the connection.
pub fn refuse(
    (arrived, entrance): (&Arrived, Option<&str>),
    refusal: &Refusal,
    hello: Option<Hello>,
    context: &Arc<ProxyContext>,
) {
    let record = StreamRecord::new(context, arrived);
    tell(refusal, context, (arrived, entrance), record, hello);
}

fn tell(
    refusal: &Refusal,
    context: &ProxyContext,
    (arrived, entrance): (&Arrived, Option<&str>),
    mut record: StreamRecord,
    hello: Option<Hello>,
) {
    let told = refusal.told();
    let counts = &context.metrics.downstream;
    match refusal {
        Refusal::Handshake(label, _) => counts.handshake_failures.inc(label),
        _ => counts.rejected.inc(told.label),
    }
    let to = arrived.original_dst.map(|to| to.0);
    let to = to.unwrap_or(arrived.local);
    let peer = arrived.peer;
    match told.black_hole {
        // What the policy says of strangers is not worth a warning each.
        true => tracing::info!(%peer, %to, "connection closed: {refusal}"),
        false => match may_say((to.port(), told.label)) {
            Some(_) if matches!(refusal, Refusal::OwnConnection { .. }) => {
                tracing::error!(%peer, %to, entrance, "connection closed: {refusal}");
            }
            Some(0) => tracing::warn!(%peer, %to, entrance, "connection closed: {refusal}"),
            Some(more) => {
                tracing::warn!(%peer, %to, entrance, "connection closed: {refusal} (and {more} more)");
            }
            None => tracing::debug!(%peer, %to, entrance, "connection closed: {refusal}"),
        },
    }
    if told.black_hole {
        record.counted(Arc::clone(&context.black_hole), None);
    }
    if let Some(hello) = hello {
        record.asks_for(hello.server_name);
    }
    record.refused(refusal);
    record.tell();
}

/// There is no connection to the upstream.
fn failed(
    failure: &StreamFailure,
    upstream: &Upstream,
    downstream: &Downstream,
    record: &mut StreamRecord,
) {
    let words = chain(&failure.error);
    let peer = downstream.peer;
    let name = &upstream.spec().name;
    match may_say((downstream.met().port, "upstream_connect_failed")) {
        Some(0) => tracing::warn!(%peer, upstream = %name, "connection closed: {words}"),
        Some(left_out) => {
            tracing::warn!(%peer, upstream = %name, left_out, "connection closed: {words}");
        }
        None => tracing::debug!(%peer, upstream = %name, "connection closed: {words}"),
    }
    let verdict = ProxyError::Upstream(failure.error.clone()).verdict();
    let again = match failure.retried {
        true => Flags::URX,
        false => Flags::NONE,
    };
    record.endpoint = failure.error.endpoint().or(failure.endpoint);
    record.ends(verdict.flags | again, "upstream_connect_failed", words);
}

/// Passes bytes on until both sides are done, or the policy lets such clients in no more.
async fn pass_on(
    (downstream, own_tls): (Downstream, bool),
    mut upstream: OpenStream,
    no_tls: bool,
    context: &ProxyContext,
    record: &mut StreamRecord,
) {
    record.endpoint = Some(upstream.endpoint);
    record.upstream_local = upstream.local;
    let mut client = downstream.stream;
    let terms = Terms {
        first: downstream.first,
        idle: IDLE,
        no_tls,
    };
    let admitted = Admitted {
        entrance: downstream.entrance.as_ref(),
        secured: downstream.secured.as_deref(),
        made_with: downstream.made_with.as_ref(),
        own_tls,
    };
    let ended = tokio::select! {
        ended = relay(&mut client, &mut upstream, terms, record) => Ok(ended),
        error = expulsion(context, &admitted) => Err(error),
    };
    let ended = match ended {
        Ok(ended) => ended,
        Err(error) => {
            client.reset();
            upstream.reset();
            tracing::info!(
                peer = %downstream.peer, entrance = admitted.entrance.map(EntranceKey::name),
                "connection closed: {error}",
            );
            let flags = error.verdict().flags;
            return record.ends(flags, "policy_changed", error.to_string());
        }
    };
    match ended {
        Ended::Done => {}
        Ended::Idle => {
            let words = format!("no byte for {IDLE:?}");
            record.ends(Flags::NONE, "idle_timeout", words);
        }
        Ended::Client(error) => {
            // What the upstream has of the client's words must not look complete. No flag, as in
            // Envoy: a client that has its answer often leaves so.
            upstream.reset();
            record.ends(Flags::NONE, "downstream_connection_lost", chain(&error));
        }
        Ended::Upstream(error) => {
            client.reset();
            let words = upstream.explain(&error);
            record.ends(Flags::UC, "upstream_connection_lost", words);
        }
        Ended::TlsInTls => {
            upstream.reset();
            let refusal = Refusal::TlsInTls(Arc::clone(upstream.stats().name()));
            let told = refusal.told();
            context.metrics.downstream.rejected.inc(told.label);
            tracing::warn!(peer = %downstream.peer, "connection closed: {refusal}");
            record.ends(told.flags, told.label, refusal.to_string());
        }
    }
}
