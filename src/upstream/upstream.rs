//! One named destination: its specification, its TLS, its pools, made and dropped together.
//!
//! Owns: [`Upstream`]: which slot and which endpoint a request gets; which connection is in `hold`.
//! Never: reads a route, or speaks plaintext where TLS was asked for.
//! Called by: proxy (`send`), publish (makes and retires upstreams), admin (`endpoints`).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::StatusCode;
use http::uri::Scheme;

use super::adapt::needs_http1;
use super::balance::{Endpoint, EndpointSet, Seat};
use super::body::RequestBody;
use super::connection::{Failed, Lease, Under};
use super::core::{Core, Parts};
use super::destination;
use super::error::{Limit, NoEndpoint, UpstreamError};
use super::pool::Slot;
use super::seam::{Answer, Ask, EndpointStatus, SendFailure, UpstreamContext, UpstreamTls};
use super::wire::Link;
use crate::message::Request;
use crate::model::{DialSource, EndpointAddr, UpstreamSpec};
use crate::telemetry::{Event, UpstreamStats};

/// One named destination.
pub struct Upstream {
    pub(super) core: Arc<Core>,
    slots: Box<[Arc<Slot>]>,
}

/// Where one try goes.
pub(super) struct Aim {
    pub(super) endpoint: EndpointAddr,
    /// `None` for an original destination: those are not balanced.
    pub(super) seat: Option<Arc<Seat>>,
    pub(super) other: Option<EndpointAddr>,
}

impl Aim {
    pub(super) fn endpoint(&self) -> Option<&Endpoint> {
        self.seat.as_ref().map(|seat| &*seat.endpoint)
    }
}

/// The scheme of HTTP/2 requests on this connection.
fn scheme(link: &Link) -> Scheme {
    match link.facts {
        Some(_) => Scheme::HTTPS,
        None => Scheme::HTTP,
    }
}

impl Upstream {
    /// Makes it and starts to look its names up. Opens no connection.
    pub fn new(spec: UpstreamSpec, tls: UpstreamTls, context: &UpstreamContext) -> Arc<Upstream> {
        Upstream::make(spec, tls, context, None)
    }

    /// The same in place of `old`: it begins with the addresses that `old` knows, so that requests
    /// wait for no look-up. Nothing else is taken over.
    pub fn replace(
        old: &Upstream,
        spec: UpstreamSpec,
        tls: UpstreamTls,
        context: &UpstreamContext,
    ) -> Arc<Upstream> {
        let known = Arc::clone(&old.core.endpoints.current());
        Upstream::make(spec, tls, context, Some(known))
    }

    fn make(
        spec: UpstreamSpec,
        tls: UpstreamTls,
        context: &UpstreamContext,
        known: Option<Arc<EndpointSet>>,
    ) -> Arc<Upstream> {
        let workers = context.workers.max(1);
        let core = Arc::new(Core::new(Parts {
            stats: context
                .metrics
                .upstream_of(&spec.name, spec.service.as_ref()),
            spec,
            tls,
            own: context.own.clone(),
            resolver: context.resolver.clone(),
            workers,
            known,
        }));
        let slots: Box<[Arc<Slot>]> = (0..workers)
            .map(|index| Arc::new(Slot::new(index, Arc::clone(&core))))
            .collect();
        core.meet(&slots);
        Arc::new(Upstream { core, slots })
    }

    /// What it was made from.
    pub fn spec(&self) -> &UpstreamSpec {
        &self.core.spec
    }

    /// How TLS is spoken.
    pub fn tls(&self) -> &UpstreamTls {
        &self.core.tls
    }

    /// True of a captured connection, from `from` and on its way to `to`, that this process itself
    /// has just opened. Only to the application, where `inbound`: what a proxy opens to its own pod
    /// comes in like any other (ISTIO.md C2).
    pub fn came_back(&self, from: SocketAddr, to: SocketAddr, inbound: bool) -> bool {
        let knows = |source| self.core.own.echo.knows(from, to, source);
        knows(DialSource::Inbound) || (!inbound && knows(DialSource::Any))
    }

    /// Its counters.
    pub fn stats(&self) -> &UpstreamStats {
        &self.core.stats
    }

    /// The same, to be kept for longer than the upstream may live.
    pub fn stats_handle(&self) -> Arc<UpstreamStats> {
        Arc::clone(&self.core.stats)
    }

    /// One try: picks an endpoint, takes a warm connection or makes one, sends, and waits for the
    /// answer's head. Dropping the future gives the try up. A warm connection that was dead before
    /// anything was sent on it is replaced within the try.
    ///
    /// The request's target may be in origin or absolute form; its authority is the `Host` header
    /// or the target's. Both are brought into the form of the protocol that is spoken.
    ///
    /// # Errors
    /// [`SendFailure`]; a request of which nothing was sent is given back.
    pub async fn send(
        self: &Arc<Self>,
        ask: &Ask<'_>,
        request: Request<RequestBody>,
    ) -> Result<Answer, SendFailure> {
        let unsent = |error, request, endpoint| SendFailure {
            error,
            request: Some(request),
            endpoint,
            reused: false,
        };
        let (slot, mut under) = match self.admit(ask.worker) {
            Ok(admitted) => admitted,
            Err(error) => return Err(unsent(error, request, None)),
        };
        let aim = match self.aim_at_once(slot, ask) {
            Some(aim) => aim,
            // Boxed, as what follows here is: a request that has to wait is rare and its future large.
            None => match Box::pin(self.aim(slot, ask)).await {
                Ok(aim) => aim,
                Err(error) => return Err(unsent(error, request, None)),
            },
        };
        if let Some(seat) = &aim.seat {
            under.sit(Arc::clone(seat));
        }
        let http1 = needs_http1(request.headers());
        let (mut request, mut fresh) = (request, ask.fresh);
        loop {
            let held = match self.warm(slot, ask, &aim, (http1, fresh)) {
                Ok(held) => held,
                Err(other) => match Box::pin(self.hold(slot, ask, &aim, http1, other)).await {
                    Ok(held) => held,
                    Err(error) => return Err(unsent(error, request, Some(aim.endpoint))),
                },
            };
            let lease = Lease::new(held, under);
            if lease.is_reused() {
                self.core.stats.count(Event::Reuse);
            }
            let (link, reused) = (lease.link(), lease.is_reused());
            let (endpoint, local, facts) = (link.endpoint, link.local, link.facts.clone());
            let scheme = scheme(link);
            let failed = match lease.exchange(request, scheme, http1).await {
                Ok(response) => {
                    self.judge(&aim, response.status());
                    return Ok(Answer {
                        response,
                        endpoint,
                        local,
                        facts,
                        reused,
                    });
                }
                Err(failed) => *failed,
            };
            match failed {
                Failed {
                    request: Some(unsent),
                    under: Some(counted),
                    error: UpstreamError::Closed(_) | UpstreamError::RefusedStream { .. },
                } if reused => (request, under, fresh) = (unsent, counted, true),
                Failed { error, request, .. } => {
                    self.blame(&aim, &error);
                    return Err(SendFailure {
                        error,
                        request,
                        endpoint: Some(endpoint),
                        reused,
                    });
                }
            }
        }
    }

    /// Counts the request, or refuses it.
    pub(super) fn admit(&self, worker: usize) -> Result<(&Arc<Slot>, Under), UpstreamError> {
        let (core, slot) = (&self.core, self.slot(worker)?);
        if core.requests.take(slot.index) {
            return Ok((slot, Under::way(Arc::clone(slot))));
        }
        core.stats.count(Event::Overflow);
        Err(UpstreamError::Overflow {
            upstream: Arc::clone(&core.spec.name),
            what: Limit::Requests,
            limit: core.requests.limit(),
        })
    }

    /// This worker's slot, where the upstream can be used at all.
    pub(super) fn slot(&self, worker: usize) -> Result<&Arc<Slot>, UpstreamError> {
        let core = &self.core;
        let name = || Arc::clone(&core.spec.name);
        if let Some(broken) = &core.spec.broken {
            return Err(UpstreamError::Broken {
                upstream: name(),
                kind: broken.kind,
                reason: Arc::clone(&broken.reason),
            });
        }
        if let UpstreamTls::Unavailable(reason) = &core.tls {
            return Err(UpstreamError::TlsUnavailable {
                upstream: name(),
                reason: reason.clone(),
            });
        }
        // There is at least one slot, and a worker beyond the last shares the first.
        let slot = self.slots.get(worker).or(self.slots.first());
        slot.ok_or_else(|| UpstreamError::NoEndpoint {
            upstream: name(),
            reason: NoEndpoint::None,
        })
    }

    /// An endpoint, where one can be picked without waiting.
    fn aim_at_once(&self, slot: &Slot, ask: &Ask<'_>) -> Option<Aim> {
        if !destination::is_balanced(slot) {
            return None;
        }
        let seat = slot.pick(ask.avoid)?;
        Some(Aim {
            endpoint: seat.endpoint.address,
            seat: Some(seat),
            other: None,
        })
    }

    pub(super) async fn aim(&self, slot: &Slot, ask: &Ask<'_>) -> Result<Aim, UpstreamError> {
        let core = &self.core;
        if let Some((endpoint, other)) = destination::find(slot, ask).await? {
            return Ok(Aim {
                endpoint,
                seat: None,
                other,
            });
        }
        let mut seat = slot.pick(ask.avoid);
        if seat.is_none() {
            core.endpoints
                .wait(&core.spec.name, core.spec.connect_timeout)
                .await?;
            seat = slot.pick(ask.avoid);
        }
        let seat = seat.ok_or_else(|| UpstreamError::NoEndpoint {
            upstream: Arc::clone(&core.spec.name),
            reason: NoEndpoint::None,
        })?;
        Ok(Aim {
            endpoint: seat.endpoint.address,
            seat: Some(seat),
            other: None,
        })
    }

    /// Holds an answer against its endpoint, or for it.
    fn judge(&self, aim: &Aim, status: StatusCode) {
        if let Some(seat) = &aim.seat {
            match status.as_u16() {
                502..=504 => self.core.failed(&seat.endpoint),
                _ => seat.endpoint.succeeded(),
            }
        }
    }

    /// Holds a failure on an open connection against its endpoint, where it is its fault.
    fn blame(&self, aim: &Aim, error: &UpstreamError) {
        let guilty = match error {
            UpstreamError::Closed(closed) => !closed.reused,
            UpstreamError::Garbage { .. } | UpstreamError::StreamReset { .. } => true,
            // Failures to connect were counted by whoever connected.
            UpstreamError::Broken { .. }
            | UpstreamError::NoEndpoint { .. }
            | UpstreamError::Dns(_)
            | UpstreamError::Connect { .. }
            | UpstreamError::Handshake { .. }
            | UpstreamError::TlsUnavailable { .. }
            | UpstreamError::Overflow { .. }
            | UpstreamError::Loop { .. }
            | UpstreamError::RefusedStream { .. }
            | UpstreamError::Unsendable { .. }
            | UpstreamError::BodyFromClient(_) => false,
        };
        if let Some(seat) = aim.seat.as_ref().filter(|_| guilty) {
            self.core.failed(&seat.endpoint);
        }
    }

    /// Takes it out of service: idle connections are closed at once, busy ones are never pooled
    /// again and are closed at `max_age` (ISTIO.md R15, R16). Requests that still come from an
    /// older snapshot are served, each on a connection of its own.
    pub fn retire(&self, max_age: Duration) {
        self.close_idle();
        let slots: Vec<Weak<Slot>> = self.slots.iter().map(Arc::downgrade).collect();
        self.core.resolver.handle().spawn(async move {
            tokio::time::sleep(max_age).await;
            for slot in slots.iter().filter_map(Weak::upgrade) {
                slot.close_all();
            }
        });
    }

    fn close_idle(&self) {
        for slot in &self.slots {
            slot.retire();
        }
    }

    /// Its endpoints, as this moment knows them. For the admin page: takes every slot's lock once.
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        let now = self.core.clock.now();
        let mut active: HashMap<EndpointAddr, usize> = HashMap::new();
        for (address, requests) in self.slots.iter().flat_map(|slot| slot.active()) {
            *active.entry(address).or_default() += requests;
        }
        let set = self.core.endpoints.current();
        let status = |endpoint: &Arc<Endpoint>| EndpointStatus {
            address: endpoint.address,
            name: Arc::clone(&endpoint.name),
            ejected_for: endpoint.ejected_for(now),
            failures: endpoint.failures(),
            active: active.get(&endpoint.address).map_or(0, |n| *n as u64),
        };
        set.endpoints.iter().map(status).collect()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // Idle connections are held by the slots and hold them: this ends the circle.
        self.close_idle();
        self.core.endpoints.stop();
    }
}
