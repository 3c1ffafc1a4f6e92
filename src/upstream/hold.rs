//! A connection for a request: a warm one, one that several share, or a new one.
//!
//! Owns: what a request does until it has its connection, and who opens one for all who wait.
//! Never: picks the endpoint, or sends a byte of the request.
//! Called by: `Upstream`.

use std::net::IpAddr;
use std::sync::Arc;

use super::connect::{Opened, Target, open};
use super::connection::Held;
use super::error::UpstreamError;
use super::http2::Stream;
use super::lane::{Connected, Connecting, Ends};
use super::pool::{CheckOut, Key, Slot};
use super::seam::Ask;
use super::source;
use super::upstream::{Aim, Upstream};

/// How often a request waits for a connection that several share, before it opens one for itself.
const MAX_ROUNDS: u32 = 3;

impl Upstream {
    /// A warm connection; or what there is to do instead.
    pub(super) fn warm(
        &self,
        slot: &Arc<Slot>,
        ask: &Ask<'_>,
        aim: &Aim,
        (http1, alone): (bool, bool),
    ) -> Result<Held, CheckOut> {
        let key = self.key(ask, aim);
        match slot.check_out(key, self.core.want(http1, alone, aim.endpoint())) {
            CheckOut::Http1(http1) => Ok(Held::Http1(http1)),
            CheckOut::Http2(http2) => Ok(Held::Http2(Stream::entered(http2, slot))),
            other => Err(other),
        }
    }

    fn key<'a>(&'a self, ask: &Ask<'a>, aim: &Aim) -> Key<'a> {
        Key {
            ends: Ends {
                to: aim.endpoint,
                from: self.from(ask, aim),
            },
            name: self.core.key_name(ask.host, aim.endpoint()),
        }
    }

    /// A connection to use, once there is one.
    pub(super) async fn hold(
        &self,
        slot: &Arc<Slot>,
        ask: &Ask<'_>,
        aim: &Aim,
        http1: bool,
        mut next: CheckOut,
    ) -> Result<Held, UpstreamError> {
        let mut rounds = 1;
        loop {
            let mut connecting = match next {
                CheckOut::Http1(http1) => return Ok(Held::Http1(http1)),
                CheckOut::Http2(http2) => return Ok(Held::Http2(Stream::entered(http2, slot))),
                CheckOut::Connect => return self.connect(slot, ask, aim, http1).await,
                CheckOut::Wait(connecting) => connecting,
                CheckOut::Lead(lead) => self.lead(slot, ask, aim, lead),
            };
            let done = match connecting.wait_for(Option::is_some).await {
                Ok(done) => done.clone(),
                // Whoever led is gone; the next round finds another way.
                Err(_) => None,
            };
            let key = self.key(ask, aim);
            match done {
                None | Some(Ok(())) => {}
                Some(Err(error @ UpstreamError::Overflow { .. })) => {
                    let http2 = slot.check_out_crowded(key).ok_or(error)?;
                    return Ok(Held::Http2(Stream::entered(http2, slot)));
                }
                Some(Err(error)) => return Err(error),
            }
            // A server that closes each connection as soon as it is open is told of as one that
            // does, and not asked for ever: after some rounds this request opens its own.
            let alone = rounds >= MAX_ROUNDS;
            rounds += 1;
            next = slot.check_out(key, self.core.want(http1, alone, aim.endpoint()));
        }
    }

    /// The client's address that this connection is dialled from.
    fn from(&self, ask: &Ask<'_>, aim: &Aim) -> Option<IpAddr> {
        source::client(self.core.spec.source, aim.endpoint, ask.from?)
    }

    pub(super) fn target(&self, ask: &Ask<'_>, aim: &Aim, http1: bool) -> Target {
        let endpoint = aim.seat.as_ref().map(|seat| Arc::clone(&seat.endpoint));
        let set = self.core.endpoints.current();
        let other = endpoint
            .as_ref()
            .and_then(|endpoint| set.other_family(endpoint));
        Target {
            address: aim.endpoint,
            other: aim.other.or(other),
            from: self.from(ask, aim),
            endpoint,
            host: ask.host.into(),
            name: self.core.key_name(ask.host, aim.endpoint()).into(),
            http1,
        }
    }

    /// A new connection for this request alone, unless it can be shared.
    async fn connect(
        &self,
        slot: &Arc<Slot>,
        ask: &Ask<'_>,
        aim: &Aim,
        http1: bool,
    ) -> Result<Held, UpstreamError> {
        Ok(match open(slot, &self.target(ask, aim, http1)).await? {
            Opened::Http1(http1) => Held::Http1(http1),
            Opened::Http2(http2) => {
                http2.load.enter();
                slot.share(http2.clone());
                Held::Http2(Stream::entered(http2, slot))
            }
        })
    }

    /// Connects for all who wait, in a task of its own: it must not end with the request that
    /// happened to come first.
    fn lead(&self, slot: &Arc<Slot>, ask: &Ask<'_>, aim: &Aim, lead: Connected) -> Connecting {
        let connecting = lead.subscribe();
        let (slot, target) = (Arc::clone(slot), self.target(ask, aim, false));
        tokio::spawn(async move {
            let opened = open(&slot, &target).await.map(|opened| match opened {
                Opened::Http1(http1) => slot.check_in(http1),
                Opened::Http2(http2) => slot.share(http2),
            });
            slot.connected(Key {
                ends: target.ends(),
                name: &target.name,
            });
            lead.send_replace(Some(opened));
        });
        connecting
    }
}
