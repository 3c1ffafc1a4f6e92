//! One request's whole story on one screen: find, prepare, send, answer.
//!
//! Owns: the order of the steps, and that one request sees one snapshot.
//! Never: opens a connection, compiles a route, or falls back to plaintext.
//! Called by: `proxy::work`, once per request.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use super::admission::{guarded_by, still_admits};
use super::answer;
use super::body::AnswerBody;
use super::changes::Changes;
use super::connection::Connection;
use super::destination::{as_written, learn, looked_up};
use super::entering::{self, enter};
use super::error::ProxyError;
use super::fault;
use super::headers;
use super::http1::Content;
use super::mirror;
use super::ready::{keep_host, make_ready, take_body};
use super::record::Record;
use super::send::{Plan, Sent, send};
use super::tunnel;
use crate::message::{Known, Request, RequestHead, Response};
use crate::model::{AlpnOffer, Destination, ListenerKind, TlsPolicy, UnknownHosts};
use crate::route::{self, Choice, Found, Hit, Matched, RouteAction, RouteTable, Scheme};
use crate::snapshot::{Entrance, Snapshot};
use crate::upstream::{self, Switched, Upstream};

/// Istio's names of the routes of unknown hosts (ISTIO.md O2, O4).
const BLOCK_ALL: &str = "block_all";
const ALLOW_ANY: &str = "allow_any";

/// Answers one request.
pub(super) async fn forward(
    connection: Arc<Connection>,
    request: Request<Content>,
) -> Response<AnswerBody> {
    let snapshot = connection.context.cell.load();
    let asked = headers::upgrade_asked(request.headers(), request.head.version);
    let (mut parts, mut body) = request.into_parts();
    let upgrade = asked.zip(body.switched());
    let ground = ground(&snapshot, &connection);
    let entrance = ground.as_ref().ok().and_then(|ground| ground.entrance);
    let entered = enter(&connection, entrance, &mut parts);
    let mut record = Record::new(Arc::clone(&connection), &parts);
    record.signed(entered.server);
    let ground = match entered.fit.map_err(ProxyError::Path).and(ground) {
        Ok(ground) => ground,
        Err(error) => return answer::error(&error, record, None, false),
    };
    let destination = match learn(&parts, connection.kind, connection.original_dst) {
        Ok(destination) => destination.into_owned(),
        Err(error) => return answer::error(&error, record, None, false),
    };
    if let Some(error) = guarded(&snapshot, &connection, ground.entrance, &destination) {
        return answer::error(&error, record, None, false);
    }
    let scheme = scheme(&connection, ground.entrance, &parts);
    match ground.table.find(&destination, &parts, scheme) {
        Found::Route(hit, matched) => {
            record.routed(hit.route.name.as_deref());
            let asked = Asked {
                parts,
                body,
                upgrade,
                destination,
                scheme,
            };
            follow(&connection, hit, matched, asked, record).await
        }
        Found::NoRule => answer::error(
            &ProxyError::NoRule(destination.to_string()),
            record,
            None,
            false,
        ),
        Found::UnknownHost => {
            if let Some(entrance) = ground.entrance {
                let error = not_here(&snapshot, came(&connection), entrance, &destination);
                return answer::error(&error, record, None, false);
            }
            let asked = Asked {
                parts,
                body,
                upgrade,
                destination,
                scheme,
            };
            unknown(&connection, &snapshot, asked, record).await
        }
    }
}

/// What a request is looked up in.
struct Ground<'a> {
    table: &'a RouteTable,
    entrance: Option<&'a Entrance>,
}

/// Finds it: the table of its connection's entrance, which must still let such connections in.
fn ground<'a>(snapshot: &'a Snapshot, connection: &Connection) -> Result<Ground<'a>, ProxyError> {
    let Some(key) = &connection.entrance else {
        return Ok(Ground {
            table: &snapshot.table,
            entrance: None,
        });
    };
    let entrance = snapshot.entrances.find(key);
    let entrance = still_admits(entrance, connection.secured.as_deref(), false)?;
    Ok(Ground {
        table: &entrance.table,
        entrance: Some(entrance),
    })
}

/// In what the request came, to us or to a proxy before us that is believed (ISTIO.md G10).
fn scheme(connection: &Connection, entrance: Option<&Entrance>, parts: &RequestHead) -> Scheme {
    let believed = || entrance.is_some_and(|entrance| entrance.spec.headers.trusted_hops > 0);
    let told = || parts.headers.get(Known::ForwardedProto);
    match connection.secured {
        Some(_) => Scheme::Https,
        None if believed() && told().is_some_and(|proto| proto == "https") => Scheme::Https,
        None => Scheme::Http,
    }
}

/// By which listener a request came, and by which server name.
fn came(connection: &Connection) -> (ListenerKind, Option<&str>) {
    let facts = connection.secured.as_ref();
    let name = facts.and_then(|facts| facts.server_name.as_deref());
    (connection.kind, name)
}

/// Why a host is not served that another server of the port guards better (G9).
fn guarded(
    snapshot: &Snapshot,
    connection: &Connection,
    entrance: Option<&Entrance>,
    destination: &Destination<'_>,
) -> Option<ProxyError> {
    let entrance = entrance?;
    guarded_by(snapshot, connection.kind, entrance, &destination.host)?;
    Some(not_here(snapshot, came(connection), entrance, destination))
}

/// Why a host that the entrance does not know is not served: it may be another one's (G9).
pub(super) fn not_here(
    snapshot: &Snapshot,
    (kind, asked): (ListenerKind, Option<&str>),
    entrance: &Entrance,
    destination: &Destination<'_>,
) -> ProxyError {
    let host = destination.host.as_ref();
    let other = match kind {
        ListenerKind::Gateway(port) => snapshot.entrances.secure(port, Some(host)),
        ListenerKind::Direct | ListenerKind::Capture | ListenerKind::Inbound(_) => None,
    };
    match (asked, other) {
        (Some(server_name), Some(other)) if other.spec.name != entrance.spec.name => {
            ProxyError::Misdirected {
                host: host.to_owned(),
                other: (*other.spec.name).into(),
                server_name: server_name.into(),
            }
        }
        _ => ProxyError::NoHost {
            entrance: (*entrance.spec.name).into(),
            host: host.to_owned(),
        },
    }
}

/// The protocol that the client wants to switch to, and its side of the switch.
type Upgrade = (HeaderValue, Switched);

/// A request, taken apart.
struct Asked {
    parts: Box<RequestHead>,
    body: Content,
    upgrade: Option<Upgrade>,
    destination: Destination<'static>,
    scheme: Scheme,
}

/// Does what a route says.
async fn follow(
    connection: &Arc<Connection>,
    hit: Hit<'_>,
    matched: Matched,
    asked: Asked,
    mut record: Record,
) -> Response<AnswerBody> {
    let route = hit.route;
    match &route.action {
        RouteAction::Respond(respond) => {
            let status = StatusCode::from_u16(respond.status).unwrap_or(StatusCode::OK);
            let changes = Changes::new(None, route, &asked.parts, &mut record);
            answer::direct(status, respond.body.clone(), &changes, None, record)
        }
        RouteAction::Redirect(redirect) => {
            let uri = &asked.parts.uri;
            let destination = match connection.entrance {
                None => &asked.destination,
                Some(_) => &as_written(&asked.parts, asked.scheme, &asked.destination),
            };
            match route::location(redirect, asked.scheme, destination, matched, uri) {
                Ok(location) => {
                    let changes = Changes::new(None, route, &asked.parts, &mut record);
                    let location = Some(location);
                    answer::direct(redirect.status, Bytes::new(), &changes, location, record)
                }
                Err(source) => {
                    let error = ProxyError::Rewrite {
                        place: hit.place().to_string(),
                        source,
                    };
                    answer::error(&error, record, None, false)
                }
            }
        }
        RouteAction::Forward(split) => {
            let choice = split.pick();
            if let Some(extras) = &route.extras {
                // Boxed: the futures of all requests would have to have room for it.
                let inflicted = fault::inflict(&extras.fault, &choice.upstream, record);
                record = match Box::pin(inflicted).await {
                    Ok(record) => record,
                    Err(aborted) => return aborted,
                };
            }
            to_upstream(connection, (hit, choice), matched, asked, record).await
        }
    }
}

/// Rewrites and sends.
async fn to_upstream(
    connection: &Arc<Connection>,
    (hit, choice): (Hit<'_>, &Choice),
    matched: Matched,
    asked: Asked,
    mut record: Record,
) -> Response<AnswerBody> {
    let Asked {
        mut parts,
        body,
        upgrade,
        destination,
        scheme: _,
    } = asked;
    let (route, upstream, own) = (hit.route, &choice.upstream, choice.own.as_deref());
    let rewrite = match route::apply(&route.rewrite, matched, &parts.uri) {
        Ok(rewrite) => rewrite,
        Err(source) => {
            let error = ProxyError::Rewrite {
                place: hit.place().to_string(),
                source,
            };
            return answer::error(&error, record, Some(upstream.stats()), false);
        }
    };
    let changes = Changes::new(own, route, &parts, &mut record);
    let authority = own.and_then(|own| own.authority.as_ref());
    let host = match authority.or(rewrite.authority) {
        Some(new) => {
            parts.headers.insert(http::header::HOST, new.header.clone());
            Cow::Borrowed(new.host.as_str())
        }
        None => {
            keep_host(&mut parts, &destination);
            destination.host
        }
    };
    let (protocol, client) = upgrade.unzip();
    if let Err(error) = make_ready(&mut parts, rewrite.path, protocol.clone()) {
        return answer::error(&error, record, Some(upstream.stats()), false);
    }
    if connection.entrance.is_none() && is_of_mesh(upstream) {
        entering::say_scheme(&mut parts.headers);
    }
    changes.to_request(&mut parts.headers, &record, &upstream.spec().name);
    let body = take_body(connection, body, &mut record);
    let plan = Plan {
        upstream,
        host: looked_up(connection.kind, upstream, &host),
        port: destination.port,
        original_dst: connection.original_dst,
        retries: &route.retries,
        budget: hit.budget,
        timeout: route.timeout,
    };
    let body = match &route.extras {
        // What switches protocols is a conversation, of which a copy would be half.
        Some(extras) if !extras.mirrors.is_empty() && protocol.is_none() => {
            mirror::copy(connection, &extras.mirrors, &plan, (&parts, body), &record)
        }
        _ => body,
    };
    let sent = send(connection, &plan, parts, body, record).await;
    finish(connection, sent, protocol.zip(client), &changes)
}

/// There is a sidecar or a gateway before it, which would take mutual TLS for what the application
/// spoke.
fn is_of_mesh(upstream: &Upstream) -> bool {
    match &upstream.spec().tls {
        TlsPolicy::Tls(tls) => tls.alpn == AlpnOffer::Istio,
        TlsPolicy::Disable => false,
    }
}

/// A host that the table does not know (ISTIO.md O2, O4, O6).
async fn unknown(
    connection: &Arc<Connection>,
    snapshot: &Snapshot,
    asked: Asked,
    mut record: Record,
) -> Response<AnswerBody> {
    let context = &connection.context;
    if snapshot.unknown(connection.kind) == UnknownHosts::Refuse {
        record.routed(Some(BLOCK_ALL));
        let error = ProxyError::UnknownHost(asked.destination.to_string());
        return answer::error(&error, record, Some(&context.black_hole), false);
    }
    let upstream = &context.pass_through.upstream;
    let Asked {
        mut parts,
        body,
        upgrade,
        destination,
        scheme: _,
    } = asked;
    record.routed(Some(ALLOW_ANY));
    if headers::has_own_via(&parts.headers, &context.pseudonym) {
        return answer::error(&ProxyError::Loop, record, Some(upstream.stats()), false);
    }
    keep_host(&mut parts, &destination);
    let (protocol, client) = upgrade.unzip();
    if let Err(error) = make_ready(&mut parts, None, protocol.clone()) {
        return answer::error(&error, record, Some(upstream.stats()), false);
    }
    headers::add_via(&mut parts.headers, parts.version, &context.pseudonym);
    let body = take_body(connection, body, &mut record);
    let plan = Plan {
        upstream,
        host: &destination.host,
        port: destination.port,
        original_dst: connection.original_dst,
        retries: &context.pass_through.retries,
        budget: &context.pass_through.budget,
        timeout: None,
    };
    let sent = send(connection, &plan, parts, body, record).await;
    finish(connection, sent, protocol.zip(client), &Changes::NONE)
}

/// The upstream's answer becomes the client's.
fn finish(
    connection: &Arc<Connection>,
    sent: Result<Sent, Response<AnswerBody>>,
    upgrade: Option<Upgrade>,
    changes: &Changes<'_>,
) -> Response<AnswerBody> {
    let Sent {
        answer,
        mut record,
        deadline,
    } = match sent {
        Ok(sent) => sent,
        Err(answer) => return answer,
    };
    let mut response = answer.response;
    let server_name = answer
        .facts
        .as_ref()
        .and_then(|facts| facts.server_name.as_deref());
    record.answered(&response, answer.endpoint, answer.local, server_name);
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        if let Some(fault) = connection.control.fault() {
            // The body before the switch was refused: nobody knows where the tunnel begins.
            connection.control.set_told();
            let error = ProxyError::BadRequest(fault.words());
            return answer::error(&error, record, Some(response.body().stats()), false);
        }
        return match upgrade {
            Some((protocol, client))
                if headers::has_switched(
                    response.status(),
                    response.headers(),
                    Some(&protocol),
                ) =>
            {
                let upstream = upstream::switched(&mut response);
                tunnel::upgraded(connection, response, protocol, (client, upstream), record)
            }
            _ => {
                let stats = response.body().stats();
                answer::error(&ProxyError::UnaskedUpgrade, record, Some(stats), false)
            }
        };
    }
    let (mut parts, body) = response.into_parts();
    parts.version = http::Version::HTTP_11;
    headers::remove_hop_by_hop(&mut parts.headers);
    changes.to_answer(&mut parts.headers, &record, body.stats().name());
    record.answers(parts.status, &mut parts.headers);
    Response::from_parts(parts, AnswerBody::relay(body, record, deadline))
}
