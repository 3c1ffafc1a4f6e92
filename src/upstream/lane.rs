//! Warm connections to one endpoint that proved one name.
//!
//! Owns: [`Ends`], and [`Lane`]: idle HTTP/1 connections, shared HTTP/2 ones, and an attempt that is under way.
//! Never: takes a lock; its slot holds one around it.
//! Called by: `pool`.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::error::UpstreamError;
use super::http1::Http1;
use super::http2::Http2;
use crate::model::EndpointAddr;

/// From where to where a lane's connections lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) to: EndpointAddr,
    /// The client's address that they are dialled from: whoever is at `to` takes them for that
    /// client's, so they are never lent to another one. `None`: an address of ours.
    pub(super) from: Option<IpAddr>,
}

/// Connections to one endpoint that proved one name.
#[derive(Default)]
pub(super) struct Lane {
    /// The one used last is at the back.
    pub(super) idle: VecDeque<Idle>,
    pub(super) shared: Vec<Http2>,
    pub(super) connecting: Option<Connecting>,
}

impl Ord for Ends {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.to.0, self.from).cmp(&(other.to.0, other.from))
    }
}

impl PartialOrd for Ends {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// All lanes of a slot: by both ends, then by server name. Most slots have a few, for which
/// comparing costs less than hashing.
pub(super) type Lanes = BTreeMap<Ends, BTreeMap<Arc<str>, Lane>>;

/// The lane between these ends for this name; a new one where there is none.
pub(super) fn of<'a>(lanes: &'a mut Lanes, ends: &Ends, name: &Arc<str>) -> &'a mut Lane {
    let names = lanes.entry(*ends).or_default();
    names.entry(Arc::clone(name)).or_default()
}

/// Takes out the connection that has been idle longest, and its lane where that is empty then.
pub(super) fn take_oldest(lanes: &mut Lanes) -> Option<Idle> {
    let all = lanes.iter().flat_map(|(ends, names)| {
        let since = |lane: &Lane| lane.idle.front().map(|idle| idle.since);
        names
            .iter()
            .filter_map(move |(name, lane)| Some((since(lane)?, *ends, Arc::clone(name))))
    });
    let (_, ends, name) = all.min_by_key(|(since, ..)| *since)?;
    take_of(lanes, ends, &name, |lane| lane.idle.pop_front())
}

/// Takes out the shared connection that nobody has used for longest, likewise.
pub(super) fn take_unused(lanes: &mut Lanes) -> Option<Http2> {
    let all = lanes.iter().flat_map(|(ends, names)| {
        names.iter().flat_map(move |(name, lane)| {
            let at = lane.shared.iter().enumerate();
            at.filter_map(move |(at, http2)| {
                Some((http2.load.idle_since()?, *ends, Arc::clone(name), at))
            })
        })
    });
    let (_, ends, name, at) = all.min_by_key(|(since, ..)| *since)?;
    take_of(lanes, ends, &name, |lane| {
        (at < lane.shared.len()).then(|| lane.shared.swap_remove(at))
    })
}

fn take_of<T>(
    lanes: &mut Lanes,
    ends: Ends,
    name: &str,
    take: impl FnOnce(&mut Lane) -> Option<T>,
) -> Option<T> {
    let names = lanes.get_mut(&ends)?;
    let lane = names.get_mut(name)?;
    let taken = take(lane);
    if lane.is_empty() {
        names.remove(name);
        if names.is_empty() {
            lanes.remove(&ends);
        }
    }
    taken
}

/// A connection that waits for its next request.
pub(super) struct Idle {
    pub(super) http1: Http1,
    pub(super) since: Instant,
}

/// A connection attempt that several requests wait for; `None` until it has ended.
pub(super) type Connecting = watch::Receiver<Option<Result<(), UpstreamError>>>;
/// Its other end.
pub(super) type Connected = watch::Sender<Option<Result<(), UpstreamError>>>;

/// Connections taken out of a pool, to be dropped once its lock is free: their end takes it too.
#[derive(Default)]
pub(super) struct Closed {
    http1: Vec<Http1>,
    http2: Vec<Http2>,
}

impl Lane {
    pub(super) fn is_empty(&self) -> bool {
        self.idle.is_empty() && self.shared.is_empty() && self.connecting.is_none()
    }

    /// A shared connection with room; it is given up after `most` requests, 0 being any number.
    pub(super) fn take_shared(&mut self, most: u64) -> Option<Http2> {
        self.shared.retain_mut(|http2| !http2.is_closed());
        let at = self.shared.iter().position(|http2| http2.load.has_room())?;
        let http2 = self.shared.get(at)?.clone();
        let served = http2.load.enter() + 1;
        if most > 0 && served >= most {
            self.shared.swap_remove(at);
        }
        Some(http2)
    }

    /// The idle connection used last. Those that turn out closed on the way go to `closed`.
    pub(super) fn take_idle(&mut self, closed: &mut Closed) -> Option<Http1> {
        while let Some(Idle { mut http1, .. }) = self.idle.pop_back() {
            if http1.is_still_quiet() {
                return Some(http1);
            }
            closed.http1.push(http1);
        }
        None
    }

    /// Takes out the idle connection of this number, where it is closed or has spoken unasked.
    pub(super) fn take_dead(&mut self, id: u64, closed: &mut Closed) {
        let at = self.idle.iter().position(|i| i.http1.link().id == id);
        if let Some(at) = at
            && let Some(idle) = self.idle.get_mut(at)
            && !idle.http1.is_quiet()
        {
            closed
                .http1
                .extend(self.idle.remove(at).map(|idle| idle.http1));
        }
    }

    /// Takes out what has been idle for `limit`, and says how much longer the next one may be.
    /// `now` is in milliseconds of the upstream's clock.
    pub(super) fn expire(
        &mut self,
        limit: Duration,
        now: u64,
        closed: &mut Closed,
    ) -> Option<Duration> {
        let mut next = None;
        while let Some(oldest) = self.idle.front() {
            let left = limit.saturating_sub(oldest.since.elapsed());
            if !left.is_zero() {
                next = Some(left);
                break;
            }
            closed
                .http1
                .extend(self.idle.pop_front().map(|idle| idle.http1));
        }
        let mut at = 0;
        while let Some(http2) = self.shared.get(at) {
            let idle_for = http2
                .load
                .idle_since()
                .map(|since| now.saturating_sub(since));
            match idle_for.map(|ms| limit.saturating_sub(Duration::from_millis(ms))) {
                Some(Duration::ZERO) => closed.http2.push(self.shared.swap_remove(at)),
                left => {
                    next = next.into_iter().chain(left).min();
                    at += 1;
                }
            }
        }
        next
    }
}
