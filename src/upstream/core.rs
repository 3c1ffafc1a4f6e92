//! What all slots of one upstream share: what never changes, and what changes rarely.
//!
//! Owns: [`Core`].
//! Never: is written for each request.
//! Called by: the rest of this room.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use super::balance::{Clock, Endpoint, EndpointSet};
use super::discover::Endpoints;
use super::own::OwnAddrs;
use super::pool::{Slot, Want};
use super::quota::Quota;
use super::resolve::Resolver;
use super::seam::UpstreamTls;
use super::wire::Explain;
use crate::model::{EndpointAddr, HttpChoice, TlsPolicy, UpstreamSpec};
use crate::telemetry::{Event, Level, UpstreamStats};

/// The shared part of an upstream.
pub(super) struct Core {
    pub(super) spec: UpstreamSpec,
    pub(super) tls: UpstreamTls,
    pub(super) stats: Arc<UpstreamStats>,
    pub(super) own: OwnAddrs,
    pub(super) resolver: Resolver,
    pub(super) endpoints: Endpoints,
    pub(super) clock: Clock,
    pub(super) connections: Quota,
    pub(super) requests: Quota,
    pub(super) explain: Option<Explain>,
    /// What ALPN chose last: a guess at what the next connection will be.
    seen: AtomicU8,
    slots: OnceLock<Box<[Weak<Slot>]>>,
    /// Hashes of the warnings about server names that were logged.
    warned: Mutex<HashSet<u64>>,
}

/// So many different certificates of one upstream are warned of, and no more.
const MAX_WARNINGS: usize = 64;

/// In place of a name, for connections in plaintext of an upstream that has TLS. No host is a star.
const PLAINTEXT: &str = "*";

/// Values of `Core::seen`.
const SEEN_NOTHING: u8 = 0;
const SEEN_HTTP1: u8 = 1;
const SEEN_HTTP2: u8 = 2;

/// What a core is made of.
pub(super) struct Parts {
    pub(super) spec: UpstreamSpec,
    pub(super) tls: UpstreamTls,
    pub(super) stats: Arc<UpstreamStats>,
    pub(super) own: OwnAddrs,
    pub(super) resolver: Resolver,
    pub(super) workers: usize,
    /// What the upstream that it replaces knew.
    pub(super) known: Option<Arc<EndpointSet>>,
}

impl Core {
    pub(super) fn new(parts: Parts) -> Core {
        let known = parts.known.as_deref();
        let endpoints = Endpoints::start(&parts.spec, &parts.resolver, &parts.stats, known);
        let explain: Option<Explain> = match &parts.tls {
            UpstreamTls::Tls(tls) => {
                let tls = Arc::clone(tls);
                Some(Arc::new(move |error| tls.explain_late(error)))
            }
            UpstreamTls::Plain | UpstreamTls::Unavailable(_) => None,
        };
        Core {
            connections: Quota::new(parts.spec.pool.max_connections, parts.workers),
            requests: Quota::new(parts.spec.pool.max_requests, parts.workers),
            spec: parts.spec,
            tls: parts.tls,
            stats: parts.stats,
            own: parts.own,
            resolver: parts.resolver,
            endpoints,
            clock: Clock::new(),
            explain,
            seen: AtomicU8::new(SEEN_NOTHING),
            slots: OnceLock::new(),
            warned: Mutex::default(),
        }
    }

    /// A server's name is wrong and the policy lets it pass: logged once per certificate (T7).
    pub(super) fn warn_of_name(&self, endpoint: EndpointAddr, warning: &str) {
        let mut hasher = DefaultHasher::new();
        warning.hash(&mut hasher);
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.len() < MAX_WARNINGS && warned.insert(hasher.finish()) {
            tracing::warn!(upstream = %self.spec.name, endpoint = %endpoint, "{warning}");
        }
    }

    /// Tells it its slots, once.
    pub(super) fn meet(&self, slots: &[Arc<Slot>]) {
        let _ = self.slots.set(slots.iter().map(Arc::downgrade).collect());
    }

    /// The slots of all workers that still exist.
    pub(super) fn slots(&self) -> impl Iterator<Item = Arc<Slot>> {
        self.slots
            .get()
            .into_iter()
            .flatten()
            .filter_map(Weak::upgrade)
    }

    /// Whether TLS is spoken to this endpoint: never to a marked one, always to any other where the
    /// upstream has TLS (ISTIO.md P4).
    pub(super) fn speaks_tls(&self, endpoint: Option<&Endpoint>) -> bool {
        match self.tls {
            UpstreamTls::Plain => false,
            UpstreamTls::Tls(_) | UpstreamTls::Unavailable(_) => {
                !endpoint.is_some_and(|endpoint| endpoint.plaintext)
            }
        }
    }

    /// Under which name connections for `host` are pooled: what their server had to prove.
    pub(super) fn key_name<'a>(&self, host: &'a str, endpoint: Option<&Endpoint>) -> &'a str {
        match (&self.tls, &self.spec.tls) {
            // An address may come to mean TLS where it meant plaintext before.
            (UpstreamTls::Tls(_), _) if !self.speaks_tls(endpoint) => PLAINTEXT,
            (UpstreamTls::Tls(_), TlsPolicy::Tls(tls)) if tls.server_name.is_none() => host,
            // Every connection of this upstream has the same name, or none.
            _ => "",
        }
    }

    /// ALPN chose HTTP/2, or did not.
    pub(super) fn saw(&self, http2: bool) {
        let seen = if http2 { SEEN_HTTP2 } else { SEEN_HTTP1 };
        if self.seen.load(Relaxed) != seen {
            self.seen.store(seen, Relaxed);
        }
    }

    /// How a request may be served; `http1` where HTTP/2 cannot carry it, `fresh` where only a new
    /// connection will do.
    pub(super) fn want(&self, http1: bool, fresh: bool, endpoint: Option<&Endpoint>) -> Want {
        let tls = self.speaks_tls(endpoint);
        match self.spec.http {
            _ if fresh => Want::Fresh,
            _ if http1 => Want::Http1,
            HttpChoice::Http1 => Want::Any,
            HttpChoice::Http2 => Want::Shareable,
            // Without idle connections an HTTP/1 one could not be handed to those who waited.
            HttpChoice::Auto if self.spec.pool.max_idle == 0 => Want::Any,
            HttpChoice::Auto if tls && self.seen.load(Relaxed) != SEEN_HTTP1 => Want::Shareable,
            HttpChoice::Auto => Want::Any,
        }
    }

    /// `endpoint` failed a request or a connection: shun it where that was once too often.
    pub(super) fn failed(self: &Arc<Self>, endpoint: &Endpoint) {
        let (rule, now) = (&self.spec.outlier, self.clock.now());
        let Some(rest) = self.endpoints.current().failed(endpoint, rule, now) else {
            return;
        };
        tracing::warn!(
            upstream = %self.spec.name, endpoint = %endpoint.address, for_seconds = rest.as_secs(),
            "endpoint shunned after {} failures in a row", rule.consecutive_failures,
        );
        self.stats.count(Event::Ejection);
        self.stats.raise(Level::Ejected);
        let stats = Arc::clone(&self.stats);
        self.resolver.handle().spawn(async move {
            tokio::time::sleep(rest).await;
            stats.lower(Level::Ejected);
        });
    }
}
