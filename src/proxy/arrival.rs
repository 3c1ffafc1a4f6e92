//! What a new connection is: for the hosts of HTTP, for a stream route, or for nobody.
//!
//! Owns: the order in which the tables are asked (ISTIO.md 2.0, V20, O3 to O5).
//! Never: reads a byte; it says whether one must be read.
//! Called by: `listener::connection` (`first_step`, `carries_http`), `proxy::stream` (`find`), `proxy::foresee` (`leads`).

use std::net::SocketAddr;
use std::sync::Arc;

use super::admission::still_admits;
use super::downstream::{Arrived, Downstream, Opaque};
use super::refusal::Refusal;
use crate::model::{ListenerKind, OriginalDst, TlsPolicy, UnknownHosts};
use crate::route::{HostsOn, RouteAction, Rule, StreamTarget};
use crate::snapshot::{Entrance, Snapshot};
use crate::upstream::Upstream;

/// What is to be done with a connection first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstStep {
    /// No byte would change where it goes: nothing is read before its upstream is connected.
    Connect,
    /// Read until it is known for HTTP, TLS or something else.
    Read,
    /// The same, where all but TLS is HTTP: what is not is answered so.
    ReadHttp,
}

/// Decides whether the first bytes matter.
pub fn first_step(snapshot: &Snapshot, arrived: &Arrived) -> FirstStep {
    let met = arrived.met();
    let hosts = snapshot.table.hosts_on(met.port);
    match (arrived.kind, arrived.original_dst) {
        // Entrances have tables of their own, and ask `admission`.
        (ListenerKind::Inbound(_) | ListenerKind::Gateway(_), _) => FirstStep::ReadHttp,
        // Was not redirected: HTTP is told so, the rest is closed.
        (ListenerKind::Capture, None) => FirstStep::ReadHttp,
        (ListenerKind::Capture, Some(to)) => {
            let reads = snapshot.streams.wants_bytes(met, hosts);
            match reads && !is_own_port(to, arrived.local) {
                true => FirstStep::Read,
                false => FirstStep::Connect,
            }
        }
        (ListenerKind::Direct, _) if snapshot.streams.find_tcp(met).is_none() => {
            FirstStep::ReadHttp
        }
        (ListenerKind::Direct, _) => match snapshot.streams.wants_bytes(met, hosts) {
            true => FirstStep::Read,
            false => FirstStep::Connect,
        },
    }
}

/// True where bytes that look like HTTP are HTTP: on a captured connection, where the port has
/// hosts at all; what else comes there is opaque (ISTIO.md V20).
pub fn carries_http(snapshot: &Snapshot, arrived: &Arrived) -> bool {
    match (arrived.kind, arrived.original_dst) {
        (ListenerKind::Capture, Some(OriginalDst(to))) => {
            snapshot.table.hosts_on(to.port()) != HostsOn::None
        }
        (ListenerKind::Direct | ListenerKind::Inbound(_) | ListenerKind::Gateway(_), _)
        | (ListenerKind::Capture, None) => true,
    }
}

/// Somebody captured a connection to the capture port itself (ISTIO.md O5).
fn is_own_port(OriginalDst(to): OriginalDst, local: SocketAddr) -> bool {
    to.port() == local.port()
}

/// Where an opaque connection goes.
pub(super) enum Way<'a> {
    /// To an upstream of this route.
    Route(&'a StreamTarget, &'a Arc<Upstream>),
    /// To its original destination, which no route knows (ISTIO.md O4).
    PassThrough,
    /// Nowhere.
    Refuse(Refusal),
}

/// Finds it.
pub(super) fn find<'a>(
    snapshot: &'a Snapshot,
    downstream: &Downstream,
    opaque: &Opaque,
) -> Way<'a> {
    let arrived = &downstream.arrived();
    let is_tls = matches!(opaque, Opaque::Tls(_));
    let leads = match &downstream.entrance {
        None => leads(snapshot, arrived, opaque),
        Some(key) => {
            let entrance = snapshot.entrances.find(key);
            match still_admits(entrance, downstream.secured.as_deref(), is_tls) {
                Ok(entrance) => within(entrance, arrived, opaque),
                Err(error) => Leads::Refuse(Refusal::NotAdmitted(error.to_string().into())),
            }
        }
    };
    let target = match leads {
        Leads::Route(target) => target,
        Leads::PassThrough => return Way::PassThrough,
        Leads::Refuse(refusal) => return Way::Refuse(refusal),
    };
    let upstream = target.pick();
    match is_tls && wraps_twice(upstream) {
        true => Way::Refuse(Refusal::TlsInTls(Arc::clone(&upstream.spec().name))),
        false => Way::Route(target, upstream),
    }
}

/// Where an opaque connection leads, before one of several upstreams is picked.
pub(super) enum Leads<'a> {
    /// Along this route.
    Route(&'a StreamTarget),
    /// To its original destination, which no route knows (ISTIO.md O4).
    PassThrough,
    /// Nowhere.
    Refuse(Refusal),
}

/// Asks the tables.
pub(super) fn leads<'a>(snapshot: &'a Snapshot, arrived: &Arrived, opaque: &Opaque) -> Leads<'a> {
    let original_dst = match (arrived.kind, arrived.original_dst) {
        (ListenerKind::Capture, None) => return Leads::Refuse(Refusal::NotRedirected),
        (_, original_dst) => original_dst,
    };
    if original_dst.is_some_and(|to| is_own_port(to, arrived.local)) {
        return Leads::Refuse(Refusal::OwnListener);
    }
    let met = arrived.met();
    let by_name = match opaque {
        Opaque::Tls(hello) => {
            let name = hello.server_name.as_deref();
            snapshot.streams.find_tls(met, name)
        }
        Opaque::Unread | Opaque::NotTls(_) | Opaque::Other => None,
    };
    if let Some(target) = by_name.or_else(|| snapshot.streams.find_tcp(met)) {
        return Leads::Route(target);
    }
    match (opaque, original_dst) {
        (Opaque::Tls(hello), _) => unknown_tls(snapshot, arrived, hello.server_name.as_deref()),
        (Opaque::NotTls(why), None) => Leads::Refuse(Refusal::NotTls(why)),
        (_, None) => Leads::Refuse(Refusal::Unaddressed),
        (_, Some(_)) => match (snapshot.unknown(arrived.kind), opaque) {
            (UnknownHosts::PassThrough, _) => Leads::PassThrough,
            (UnknownHosts::Refuse, Opaque::NotTls(why)) => Leads::Refuse(Refusal::NotTls(why)),
            (UnknownHosts::Refuse, _) => Leads::Refuse(Refusal::UnknownAddress),
        },
    }
}

/// Asks the table of an entrance alone: what it does not know is nobody's (ISTIO.md G9, O6).
pub(super) fn within<'a>(entrance: &'a Entrance, arrived: &Arrived, opaque: &Opaque) -> Leads<'a> {
    let met = arrived.met();
    let by_name = match opaque {
        Opaque::Tls(hello) => {
            let name = hello.server_name.as_deref();
            entrance.streams.find_tls(met, name)
        }
        Opaque::Unread | Opaque::NotTls(_) | Opaque::Other => None,
    };
    match by_name.or_else(|| entrance.streams.find_tcp(met)) {
        Some(target) => Leads::Route(target),
        None => Leads::Refuse(Refusal::NoStream(Arc::clone(&entrance.spec.name))),
    }
}

/// TLS that no stream route takes.
fn unknown_tls<'a>(snapshot: &Snapshot, arrived: &Arrived, name: Option<&str>) -> Leads<'a> {
    let captured = arrived.original_dst.is_some();
    let port = arrived.met().port;
    let rules = name.and_then(|name| snapshot.table.rules_of(name, port));
    if captured && rules.is_some_and(originates_tls) {
        return Leads::Refuse(Refusal::TlsForHttp(name.unwrap_or_default().into()));
    }
    match (captured, snapshot.unknown(arrived.kind)) {
        (true, UnknownHosts::PassThrough) => Leads::PassThrough,
        (true, UnknownHosts::Refuse) => Leads::Refuse(Refusal::UnknownName(name.map(Into::into))),
        (false, _) => Leads::Refuse(Refusal::TlsOnPlainListener {
            name: name.map(Into::into),
            ports: name.map_or_else(Vec::new, |name| snapshot.streams.ports_of(name)),
        }),
    }
}

/// Some rule of a host leads to an upstream to which sortie adds TLS.
fn originates_tls(rules: &[Rule]) -> bool {
    let mut actions = rules.iter().map(|rule| &rule.route().action);
    actions.any(|action| match action {
        RouteAction::Forward(split) => split.all().any(|(choice, _)| has_tls(&choice.upstream)),
        RouteAction::Redirect(_) | RouteAction::Respond(_) => false,
    })
}

fn has_tls(upstream: &Upstream) -> bool {
    matches!(upstream.spec().tls, TlsPolicy::Tls(_))
}

/// TLS of the client's would be wrapped in TLS of ours, which nobody asked for (ISTIO.md D8).
pub(super) fn wraps_twice(upstream: &Upstream) -> bool {
    match &upstream.spec().tls {
        TlsPolicy::Tls(tls) => !tls.allow_tls_in_tls && upstream.spec().broken.is_none(),
        TlsPolicy::Disable => false,
    }
}
