//! Who comes in by an entrance, and as what: the downstream TLS policy, decided.
//!
//! Owns: the table of policy and first bytes (ISTIO.md P7 to P11, G8), and what a request of an
//! open connection still may.
//! Never: reads a byte or shakes hands (that is listener).
//! Called by: listener (for connections), `proxy::forward` (for requests), `proxy::foresee`.
//!
//! Why here and not in listener: `explain` asks the same questions without a connection, and each
//! request asks again whether its connection would still be let in.

use std::sync::Arc;

use super::downstream::{Arrived, Hello};
use super::error::ProxyError;
use super::refusal::Refusal;
use crate::model::{Carries, ClientCertificates, ListenerKind, OriginalDst};
use crate::snapshot::{Entrance, EntranceTls, ServerSide, Snapshot};
use crate::tls::{AcceptFacts, ServerTls};

/// What is to be done with a connection at an entrance, before a byte of it.
pub enum Before<'a> {
    /// No byte would change anything: servers may speak first (ISTIO.md P11).
    Connect(&'a Entrance),
    /// Its first bytes decide.
    Read {
        /// Whatever is not TLS is HTTP, or is not let in.
        all_http: bool,
        /// Whatever is not TLS is not let in: a client has little time to begin (ISTIO.md G12).
        only_tls: bool,
    },
    /// It is closed.
    Refuse(Refusal),
}

/// What a connection begins with.
#[derive(Clone, Copy, Debug)]
pub enum Said<'a> {
    /// A whole ClientHello.
    Tls(&'a Hello),
    /// It begins like TLS and is none.
    NotTls(&'static str),
    /// HTTP in clear text.
    Http,
    /// Anything else.
    Other,
}

/// What becomes of it.
pub enum Admission<'a> {
    /// TLS ends here; then [`inside`] says what is in it.
    Handshake(&'a Entrance, &'a Arc<ServerTls>),
    /// Its requests are looked at one by one.
    Http(&'a Entrance),
    /// Its bytes go along a stream of the entrance.
    Stream(&'a Entrance),
    /// It is closed; at which entrance, where one is for it.
    Refuse(Option<&'a Entrance>, Refusal),
}

/// What is inside TLS that has ended here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inside {
    /// Requests.
    Http,
    /// Bytes that are not read.
    Opaque,
    /// It must be read to tell.
    Unknown,
}

/// True where the listener leads to entrances.
pub fn has_entrances(kind: ListenerKind) -> bool {
    match kind {
        ListenerKind::Inbound(_) | ListenerKind::Gateway(_) => true,
        ListenerKind::Direct | ListenerKind::Capture => false,
    }
}

/// Decides whether the first bytes matter.
pub fn before<'a>(snapshot: &'a Snapshot, arrived: &Arrived) -> Before<'a> {
    let entrances = &snapshot.entrances;
    if let ListenerKind::Gateway(port) = arrived.kind {
        let only_tls = entrances.has_secure(port);
        return match entrances.clear(port) {
            Some(entrance) if !only_tls => alone(entrance),
            Some(entrance) => Before::Read {
                all_http: entrance.carries() == Carries::Http,
                only_tls: false,
            },
            None if only_tls => Before::Read {
                all_http: true,
                only_tls,
            },
            None => Before::Refuse(Refusal::NoEntrance),
        };
    }
    match of_port(snapshot, arrived) {
        Ok(entrance) => alone(entrance),
        Err(refusal) => Before::Refuse(refusal),
    }
}

/// The same where one entrance is for all that come.
fn alone(entrance: &Entrance) -> Before<'_> {
    let carries = entrance.carries();
    let all_http = carries == Carries::Http;
    match (&entrance.tls, &entrance.spec.broken) {
        (EntranceTls::Disable, None) if carries == Carries::Opaque => Before::Connect(entrance),
        (EntranceTls::Strict(_), None) => Before::Read {
            all_http: true,
            only_tls: true,
        },
        _ => Before::Read {
            all_http,
            only_tls: false,
        },
    }
}

/// The entrance of connections to a port of the application.
fn of_port<'a>(snapshot: &'a Snapshot, arrived: &Arrived) -> Result<&'a Entrance, Refusal> {
    let Some(OriginalDst(to)) = arrived.original_dst else {
        return Err(Refusal::NotRedirected);
    };
    // Redirected on its way to the very port that takes redirected ones (ISTIO.md O5).
    if arrived.kind == ListenerKind::Inbound(None) && to.port() == arrived.local.port() {
        return Err(Refusal::OwnListener);
    }
    let entrance = snapshot.entrances.inbound(to.port());
    entrance.ok_or(Refusal::NoEntrance)
}

/// Decides what becomes of a connection that begins so.
pub fn admit<'a>(snapshot: &'a Snapshot, arrived: &Arrived, said: Said<'_>) -> Admission<'a> {
    let found = match (arrived.kind, said) {
        (ListenerKind::Gateway(port), Said::Tls(hello)) => {
            let name = hello.server_name.as_deref();
            let entrances = &snapshot.entrances;
            match entrances.secure(port, name) {
                Some(entrance) => Ok(entrance),
                None if entrances.has_secure(port) => {
                    Err(Refusal::NoFilterChain(hello.server_name.clone()))
                }
                None => entrances.clear(port).ok_or(Refusal::NoEntrance),
            }
        }
        (ListenerKind::Gateway(port), Said::NotTls(why)) => {
            let entrance = snapshot.entrances.clear(port);
            entrance.ok_or(Refusal::NotTls(why))
        }
        (ListenerKind::Gateway(port), Said::Http | Said::Other) => {
            let entrance = snapshot.entrances.clear(port);
            entrance.ok_or_else(|| plaintext(said))
        }
        _ => of_port(snapshot, arrived),
    };
    match found {
        Ok(entrance) => by_policy(entrance, said),
        Err(refusal) => Admission::Refuse(None, refusal),
    }
}

fn by_policy<'a>(entrance: &'a Entrance, said: Said<'_>) -> Admission<'a> {
    let refuse = |refusal| Admission::Refuse(Some(entrance), refusal);
    if let Some(reason) = &entrance.spec.broken {
        return match said {
            // A request can be told (ISTIO.md X1).
            Said::Http => Admission::Http(entrance),
            _ => refuse(Refusal::Broken(Arc::clone(reason))),
        };
    }
    match (&entrance.tls, said) {
        (EntranceTls::Strict(side), Said::Tls(_)) => handshake(entrance, side),
        (EntranceTls::Strict(_), Said::NotTls(why)) => refuse(Refusal::NotTls(why)),
        (EntranceTls::Strict(_), said) => refuse(plaintext(said)),
        (EntranceTls::Permissive(side), Said::Tls(hello)) if of_mesh(hello) => {
            handshake(entrance, side)
        }
        (EntranceTls::Permissive(_), Said::Tls(_)) => match entrance.carries() {
            Carries::Http => refuse(Refusal::ForeignTls),
            Carries::Opaque | Carries::Either => Admission::Stream(entrance),
        },
        (EntranceTls::PassThrough { mesh_only }, Said::Tls(hello)) => {
            match *mesh_only && !of_mesh(hello) {
                true => refuse(Refusal::ForeignTls),
                false => Admission::Stream(entrance),
            }
        }
        (EntranceTls::PassThrough { .. }, Said::NotTls(why)) => refuse(Refusal::NotTls(why)),
        (EntranceTls::PassThrough { .. }, said) => refuse(plaintext(said)),
        (EntranceTls::Disable, Said::Tls(hello)) if entrance.carries() == Carries::Http => {
            refuse(Refusal::TlsOnPlaintext(hello.server_name.clone()))
        }
        (EntranceTls::Disable | EntranceTls::Permissive(_), Said::NotTls(why))
            if entrance.carries() == Carries::Http =>
        {
            refuse(Refusal::NotTls(why))
        }
        (EntranceTls::Disable | EntranceTls::Permissive(_), Said::Http)
            if entrance.carries() != Carries::Opaque =>
        {
            Admission::Http(entrance)
        }
        (EntranceTls::Disable | EntranceTls::Permissive(_), Said::Other)
            if entrance.carries() == Carries::Http =>
        {
            // Is answered as HTTP is: with 400.
            Admission::Http(entrance)
        }
        (EntranceTls::Disable | EntranceTls::Permissive(_), _) => Admission::Stream(entrance),
    }
}

fn plaintext(said: Said<'_>) -> Refusal {
    Refusal::PlaintextOnTls {
        http: matches!(said, Said::Http),
    }
}

fn handshake<'a>(entrance: &'a Entrance, side: &'a ServerSide) -> Admission<'a> {
    match side {
        ServerSide::Ready(server) => Admission::Handshake(entrance, server),
        ServerSide::Unavailable(reason) => {
            let refusal = Refusal::NoCertificate(Arc::clone(reason));
            Admission::Refuse(Some(entrance), refusal)
        }
    }
}

/// What TLS carries that has ended at an entrance: what it says itself, else what the client
/// offered by ALPN (ISTIO.md P7). A sidecar that offers no kind of HTTP brings none, and its server
/// may be the one to speak first.
pub fn inside(carries: Carries, hello: &Hello) -> Inside {
    match carries {
        Carries::Http => Inside::Http,
        Carries::Opaque => Inside::Opaque,
        Carries::Either => {
            let any = |wanted: &[&[u8]]| offers(hello).any(|one| wanted.contains(&one));
            match (any(MESH_HTTP), any(MESH_TCP), any(HTTP)) {
                (true, _, _) => Inside::Http,
                (false, true, false) => Inside::Opaque,
                (false, _, _) => Inside::Unknown,
            }
        }
    }
}

/// What sidecars offer by ALPN (ISTIO.md P11): for HTTP, and for anything.
const MESH_HTTP: &[&[u8]] = &[b"istio-http/1.0", b"istio-http/1.1", b"istio-h2"];
const MESH_TCP: &[&[u8]] = &[b"istio", b"istio-peer-exchange"];
/// What others offer for HTTP.
const HTTP: &[&[u8]] = &[b"h2", b"http/1.1", b"http/1.0"];

/// True where a sidecar says hello (ISTIO.md P11).
fn of_mesh(hello: &Hello) -> bool {
    offers(hello).any(|one| MESH_HTTP.contains(&one) || MESH_TCP.contains(&one))
}

/// The names of the client's offer.
fn offers(hello: &Hello) -> impl Iterator<Item = &[u8]> {
    let mut rest: &[u8] = &hello.alpn;
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first()?;
        let (name, after) = after.split_at_checked(usize::from(*length))?;
        rest = after;
        Some(name)
    })
}

/// The server of a gateway port that `host` belongs to, where it is another than the connection's and
/// demands more of its clients: who comes in by `*.example` has not shown what `bank.example` asks
/// for, though the routes of both may name it (ISTIO.md G9). `None` where the host may be served.
///
/// Why not every other server's host: a client that showed all that is asked for loses nothing by
/// using its connection for both, and Istio serves it.
pub(super) fn guarded_by<'a>(
    snapshot: &'a Snapshot,
    kind: ListenerKind,
    entrance: &Entrance,
    host: &str,
) -> Option<&'a Entrance> {
    let ListenerKind::Gateway(port) = kind else {
        return None;
    };
    // In clear text nobody shows anything, nor does a server in clear text ask.
    let shown = entrance.spec.tls.spec()?;
    let other = snapshot.entrances.secure(port, Some(host))?;
    if other.spec.name == entrance.spec.name {
        return None;
    }
    let demanded = other.spec.tls.spec();
    let more = demanded.is_some_and(|demanded| !demanded.demands_no_more_than(shown));
    (more || other.spec.broken.is_some()).then_some(other)
}

/// Whether what a connection brings that came in before may still come in by `entrance`; `own_tls`:
/// it is TLS of the client's that is passed on.
///
/// # Errors
/// The policy has changed since, and would not let the connection in today.
pub(super) fn still_admits<'a>(
    entrance: Option<&'a Entrance>,
    secured: Option<&AcceptFacts>,
    own_tls: bool,
) -> Result<&'a Entrance, ProxyError> {
    let entrance = entrance.ok_or(ProxyError::EntranceGone)?;
    if let Some(reason) = &entrance.spec.broken {
        return Err(ProxyError::EntranceBroken(Arc::clone(reason)));
    }
    let fits = match (&entrance.tls, secured) {
        (EntranceTls::Disable | EntranceTls::Permissive(_), None) => true,
        (EntranceTls::Strict(_) | EntranceTls::Permissive(_), Some(facts)) => {
            let spec = entrance.spec.tls.spec();
            let must = spec.map(|spec| spec.clients) == Some(ClientCertificates::Required);
            facts.client.is_some() || !must
        }
        (EntranceTls::PassThrough { .. }, None) => own_tls,
        (EntranceTls::Strict(_), None)
        | (EntranceTls::Disable | EntranceTls::PassThrough { .. }, Some(_)) => false,
    };
    fits.then_some(entrance).ok_or(ProxyError::NotAdmitted)
}
