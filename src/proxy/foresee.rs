//! What would become of a connection, without one: for `explain`.
//!
//! Owns: putting the steps of `listener::connection` in a row.
//! Never: decides; `arrival` does, for connections and for questions alike.
//! Called by: explain.

use std::sync::Arc;

use super::admission::{Admission, Before, Inside, Said, admit, before, inside};
use super::arrival::{FirstStep, Leads, carries_http, first_step, leads, within, wraps_twice};
use super::downstream::{Arrived, Hello, Opaque};
use super::forward;
use super::refusal::Refusal;
use crate::model::{Destination, ListenerKind};
use crate::route::StreamTarget;
use crate::snapshot::{Entrance, Snapshot};
use crate::upstream::Upstream;

/// What the client would speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken<'a> {
    /// Plain HTTP.
    Http,
    /// TLS of its own, with this server name in normal form.
    Tls(Option<&'a str>),
    /// Anything else.
    Other,
}

/// What would become of it.
pub enum Foreseen<'a> {
    /// Its requests are looked at one by one.
    Http,
    /// Its bytes go along this route. The flag is true where none is read before.
    Route(&'a StreamTarget, bool),
    /// Its bytes go to its original destination, which no route knows (ISTIO.md O4).
    PassThrough,
    /// It is closed: flag, and why.
    Refuse(String, String),
}

/// Asks what a listener and the proxy ask of such a connection.
pub fn foresee<'a>(snapshot: &'a Snapshot, arrived: &Arrived, spoken: Spoken<'_>) -> Foreseen<'a> {
    let first = first_step(snapshot, arrived);
    let opaque = match (first, spoken) {
        (FirstStep::Connect, _) => Opaque::Unread,
        (_, Spoken::Http) if carries_http(snapshot, arrived) => return Foreseen::Http,
        // What is neither TLS nor a stream's is answered as HTTP is: with 400.
        (FirstStep::ReadHttp, Spoken::Other) => return Foreseen::Http,
        (_, Spoken::Http | Spoken::Other) => Opaque::Other,
        (_, Spoken::Tls(name)) => Opaque::Tls(Hello {
            server_name: name.map(Into::into),
            ..Hello::default()
        }),
    };
    match leads(snapshot, arrived, &opaque) {
        Leads::Route(target) => Foreseen::Route(target, opaque == Opaque::Unread),
        Leads::PassThrough => Foreseen::PassThrough,
        Leads::Refuse(refusal) => {
            let (flag, words) = told(&refusal);
            Foreseen::Refuse(flag, words)
        }
    }
}

/// What would become of a connection to an inbound or gateway listener.
pub enum Entered<'a> {
    /// Its requests are looked at one by one.
    Http(&'a Entrance),
    /// Its bytes go along this route.
    Stream(&'a Entrance, &'a StreamTarget),
    /// It is closed: by which entrance, flag, and why.
    Refuse(Option<&'a Entrance>, String, String),
}

/// Asks what a listener and the proxy ask of such a connection. TLS is that of a sidecar, whose
/// requests could be any.
pub fn enter<'a>(snapshot: &'a Snapshot, arrived: &Arrived, spoken: Spoken<'_>) -> Entered<'a> {
    let refuse = |refusal: &Refusal| {
        let (flag, words) = told(refusal);
        Entered::Refuse(entrance_of(snapshot, arrived, spoken), flag, words)
    };
    let hello = match spoken {
        Spoken::Tls(name) => Hello {
            server_name: name.map(Into::into),
            alpn: SIDECAR.into(),
        },
        Spoken::Http | Spoken::Other => Hello::default(),
    };
    let admitted = match before(snapshot, arrived) {
        Before::Connect(entrance) => Admission::Stream(entrance),
        Before::Refuse(refusal) => return refuse(&refusal),
        Before::Read { .. } => {
            let said = match spoken {
                Spoken::Http => Said::Http,
                Spoken::Tls(_) => Said::Tls(&hello),
                Spoken::Other => Said::Other,
            };
            admit(snapshot, arrived, said)
        }
    };
    let (entrance, opaque) = match admitted {
        Admission::Http(entrance) => return Entered::Http(entrance),
        Admission::Refuse(_, refusal) => return refuse(&refusal),
        Admission::Handshake(entrance, _) => match inside(entrance.carries(), &hello) {
            Inside::Http | Inside::Unknown => return Entered::Http(entrance),
            Inside::Opaque => (entrance, Opaque::Other),
        },
        Admission::Stream(entrance) => match spoken {
            Spoken::Tls(_) => (entrance, Opaque::Tls(hello)),
            Spoken::Http | Spoken::Other => (entrance, Opaque::Other),
        },
    };
    match within(entrance, arrived, &opaque) {
        Leads::Route(target) => Entered::Stream(entrance, target),
        // An entrance passes nothing on that its table does not know.
        Leads::PassThrough => Entered::Refuse(Some(entrance), String::new(), String::new()),
        Leads::Refuse(refusal) => refuse(&refusal),
    }
}

/// The protocols that a sidecar offers by ALPN (ISTIO.md T11), each behind its length.
const SIDECAR: &[u8] = b"\x0eistio-http/1.1\x05istio\x08http/1.1\x02h2";

/// The entrance that such a connection is for, let in or not.
fn entrance_of<'a>(
    snapshot: &'a Snapshot,
    arrived: &Arrived,
    spoken: Spoken<'_>,
) -> Option<&'a Entrance> {
    match (arrived.kind, spoken) {
        (ListenerKind::Gateway(port), Spoken::Tls(name)) => snapshot.entrances.secure(port, name),
        (ListenerKind::Gateway(port), _) => snapshot.entrances.clear(port),
        _ => snapshot.entrances.inbound(arrived.met().port),
    }
}

/// Status and words for a host that the entrance does not know; `server_name`: what TLS asked for.
pub fn not_here(
    snapshot: &Snapshot,
    (kind, server_name): (ListenerKind, Option<&str>),
    entrance: &Entrance,
    destination: &Destination<'_>,
) -> (u16, String) {
    let error = forward::not_here(snapshot, (kind, server_name), entrance, destination);
    (error.verdict().status, error.to_string())
}

/// Why TLS of the client's may not go to this upstream: flag, and words (ISTIO.md D8).
pub fn tls_in_tls(upstream: &Upstream) -> Option<(String, String)> {
    let refusal = || Refusal::TlsInTls(Arc::clone(&upstream.spec().name));
    wraps_twice(upstream).then(|| told(&refusal()))
}

fn told(refusal: &Refusal) -> (String, String) {
    (refusal.told().flags.to_string(), refusal.to_string())
}
