//! Connections at an entrance: TLS that ends here, clear text, or bytes passed on.
//!
//! Owns: the order of the steps, the deadline of a handshake, and what is inside TLS.
//! Never: decides who may come in (that is `proxy::admit`), or looks at a request.
//! Called by: `listener::connection`.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::connection::{First, first_bytes};
use super::sniff::{Sniffer, Spoken, could_be_http};
use crate::drain::DrainGuard;
use crate::model::{Carries, Limits};
use crate::proxy::{
    self, Admission, Before, Downstream, Hello, Inside, Opaque, Protocol, ProxyContext, Refusal,
    Said, Socket,
};
use crate::snapshot::{Entrance, EntranceKey};
use crate::tls::{Alpn, Offered, ServerTls};

/// How long a handshake may take, and the silence before it where nothing but TLS is let in
/// (ISTIO.md G12).
const HANDSHAKE: Duration = Duration::from_secs(15);
/// How long the bytes of a client are read away that was not let in.
const LINGER: Duration = Duration::from_secs(1);

/// Serves it to its end.
pub(super) async fn serve(
    mut downstream: Downstream,
    context: Arc<ProxyContext>,
    mut guard: DrainGuard,
) {
    let snapshot = context.cell.load();
    let limits = snapshot.limits.clone();
    let (all_http, only_tls) = match proxy::before(&snapshot, &downstream.arrived()) {
        Before::Read { all_http, only_tls } => (all_http, only_tls),
        Before::Connect(entrance) => {
            downstream.entrance = Some(entrance.key());
            drop(snapshot);
            return proxy::stream(downstream, Opaque::Unread, context, guard).await;
        }
        Before::Refuse(refusal) => return close(&downstream, &refusal, None, &context),
    };
    drop(snapshot);
    let sniffer = Sniffer::new(all_http);
    let silence = match only_tls {
        true => HANDSHAKE.min(limits.idle_timeout),
        false => limits.idle_timeout,
    };
    let stream = &mut downstream.stream;
    let spoken = match first_bytes(sniffer, stream, silence, &limits, &mut guard).await {
        First::Said(spoken, first) => {
            downstream.first = first;
            spoken
        }
        First::Silent if only_tls => {
            return close(&downstream, &Refusal::Silent(silence), None, &context);
        }
        First::Silent | First::Over => return,
    };
    come_in(downstream, spoken, &limits, context, guard).await;
}

/// What is to be done once the table is let go.
enum Next {
    Handshake(Arc<ServerTls>, Carries),
    Http,
    Stream,
}

/// Does what the policy says of a connection that begins so.
async fn come_in(
    mut downstream: Downstream,
    spoken: Spoken,
    limits: &Limits,
    context: Arc<ProxyContext>,
    guard: DrainGuard,
) {
    let said = match &spoken {
        Spoken::Tls(hello) => Said::Tls(hello),
        Spoken::NotTls(why) => Said::NotTls(why),
        // Where all but TLS was taken for HTTP, it may be none.
        Spoken::Http1 if !could_be_http(&downstream.first) => Said::Other,
        Spoken::Http1 | Spoken::Http2 => Said::Http,
        Spoken::Other | Spoken::Nothing => Said::Other,
    };
    let next = {
        let snapshot = context.cell.load();
        let (entrance, next) = match proxy::admit(&snapshot, &downstream.arrived(), said) {
            Admission::Handshake(entrance, server) => {
                let next = Next::Handshake(Arc::clone(server), entrance.carries());
                (entrance, next)
            }
            Admission::Http(entrance) => (entrance, Next::Http),
            Admission::Stream(entrance) => (entrance, Next::Stream),
            Admission::Refuse(entrance, refusal) => {
                downstream.entrance = entrance.map(Entrance::key);
                let hello = match spoken {
                    Spoken::Tls(hello) => Some(hello),
                    _ => None,
                };
                return close(&downstream, &refusal, hello, &context);
            }
        };
        downstream.entrance = Some(entrance.key());
        next
    };
    match (next, spoken) {
        (Next::Handshake(server, carries), Spoken::Tls(hello)) => {
            secure(downstream, (hello, carries, server), limits, context, guard).await;
        }
        (Next::Http, spoken) => {
            let protocol = match spoken {
                Spoken::Http2 => Protocol::Http2,
                _ => Protocol::Http1,
            };
            proxy::serve(downstream, protocol, context, guard).await;
        }
        (_, spoken) => proxy::stream(downstream, opaque(spoken), context, guard).await,
    }
}

fn opaque(spoken: Spoken) -> Opaque {
    match spoken {
        Spoken::Tls(hello) => Opaque::Tls(hello),
        Spoken::NotTls(why) => Opaque::NotTls(why),
        Spoken::Http1 | Spoken::Http2 | Spoken::Other | Spoken::Nothing => Opaque::Other,
    }
}

/// Ends TLS, then serves what is in it.
async fn secure(
    downstream: Downstream,
    (hello, carries, server): (Hello, Carries, Arc<ServerTls>),
    limits: &Limits,
    context: Arc<ProxyContext>,
    mut guard: DrainGuard,
) {
    let (arrived, entrance) = (downstream.arrived(), downstream.entrance.clone());
    let mut downstream = match shake_hands(downstream, &hello, &server, limits).await {
        Ok(downstream) => downstream,
        Err(failed) => {
            let entrance = entrance.as_ref().map(EntranceKey::name);
            proxy::refuse((&arrived, entrance), &failed.refusal, Some(hello), &context);
            return failed.linger().await;
        }
    };
    // An open connection keeps no key alive (ISTIO.md R19).
    drop(server);
    context.metrics.downstream.handshakes.inc();
    let inside = proxy::inside(carries, &hello);
    if inside == Inside::Opaque {
        return proxy::stream(downstream, Opaque::Unread, context, guard).await;
    }
    let agreed = downstream.secured.as_ref().map(|facts| facts.alpn);
    let sniffer = Sniffer::new(inside == Inside::Http);
    let stream = &mut downstream.stream;
    let silence = limits.idle_timeout;
    let spoken = match first_bytes(sniffer, stream, silence, limits, &mut guard).await {
        First::Said(spoken, first) => {
            downstream.first = first;
            spoken
        }
        First::Silent | First::Over => return,
    };
    let protocol = match (inside, agreed, &spoken) {
        (Inside::Http, _, Spoken::Tls(_)) => {
            return close(&downstream, &Refusal::TlsInside, Some(hello), &context);
        }
        (Inside::Http, Some(Alpn::Http2), _) | (_, _, Spoken::Http2) => Protocol::Http2,
        (Inside::Http, _, _) | (_, _, Spoken::Http1) => Protocol::Http1,
        _ => return proxy::stream(downstream, opaque(spoken), context, guard).await,
    };
    proxy::serve(downstream, protocol, context, guard).await;
}

/// The same connection without TLS around it.
async fn shake_hands(
    downstream: Downstream,
    hello: &Hello,
    server: &Arc<ServerTls>,
    limits: &Limits,
) -> Result<Downstream, Failed> {
    let failed = |refusal, stream, held| Failed {
        refusal,
        stream,
        _held: held,
    };
    let Socket::Plain(stream) = downstream.stream else {
        // Not reached: TLS is ended once.
        let refusal = Refusal::TlsOnPlaintext(hello.server_name.clone());
        return Err(failed(refusal, None, downstream.held));
    };
    let offered = Offered {
        server_name: hello.server_name.as_deref(),
        alpn: &hello.alpn,
    };
    let patience = HANDSHAKE.min(limits.idle_timeout);
    let accepting = server.accept(offered, downstream.first, stream);
    match timeout(patience, accepting).await {
        Ok(Ok(accepted)) => Ok(Downstream {
            stream: Socket::Tls(Box::new(accepted.stream)),
            first: Bytes::new(),
            secured: Some(accepted.facts),
            made_with: Some(Arc::downgrade(server)),
            ..downstream
        }),
        Ok(Err(rejected)) => {
            let error = rejected.error;
            let refusal = Refusal::Handshake(error.label, error.to_string().into());
            Err(failed(refusal, Some(rejected.stream), downstream.held))
        }
        Err(_) => {
            let words = format!("it was not done after {patience:?}").into();
            let refusal = Refusal::Handshake("timeout", words);
            Err(failed(refusal, None, downstream.held))
        }
    }
}

/// A handshake that failed, and what is left of the connection.
struct Failed {
    refusal: Refusal,
    stream: Option<TcpStream>,
    /// Its place under the limit.
    _held: Box<dyn Any + Send + Sync>,
}

impl Failed {
    /// A socket closed with unread bytes is reset, and the alert in it lost: what the client still
    /// sends is read away for a while.
    async fn linger(self) {
        let Some(mut stream) = self.stream else {
            return;
        };
        let _ = timeout(LINGER, async {
            let mut waste = [0_u8; 4096];
            stream.shutdown().await?;
            while stream.read(&mut waste).await? > 0 {}
            std::io::Result::Ok(())
        })
        .await;
    }
}

/// Tells why, and closes; where the client waits for TLS, with a reset (ISTIO.md P7).
fn close(
    downstream: &Downstream,
    refusal: &Refusal,
    hello: Option<Hello>,
    context: &Arc<ProxyContext>,
) {
    if refusal.resets() {
        downstream.stream.reset();
    }
    let entrance = downstream.entrance.as_ref().map(EntranceKey::name);
    proxy::refuse((&downstream.arrived(), entrance), refusal, hello, context);
}

#[cfg(test)]
mod tests;
