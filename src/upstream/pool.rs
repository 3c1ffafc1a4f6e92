//! Warm connections of one upstream, lent to requests one at a time (HTTP/1) or many (HTTP/2).
//!
//! Owns: each worker's [`Slot`]: idle and shared connections by endpoint and server name.
//! Never: opens a connection (that is `connect`).
//! Called by: `Upstream` (check out), `connection` (check in).
//!
//! Why the pool belongs to the upstream and not to the process: identity is then a matter of
//! ownership. No key, however wrong, can lend a connection made with another certificate.

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use super::balance::{Random, Seat, View};
use super::core::Core;
use super::destination::Answers;
use super::http1::{Http1, Spent};
use super::http2::Http2;
use super::lane::{self, Closed, Connected, Connecting, Ends, Idle, Lane, Lanes};
use super::wire::{Link, Stir};
use crate::model::EndpointAddr;
use crate::telemetry::Level;

/// One worker's part of an upstream. Its lock is taken by that worker alone, but for rare work.
pub(super) struct Slot {
    pub(super) index: usize,
    pub(super) core: Arc<Core>,
    state: Mutex<State>,
    /// Hosts that this worker's requests asked for, where those are looked up.
    pub(super) answers: Mutex<Answers>,
    retired: AtomicBool,
    sweeping: AtomicBool,
    stir: Arc<Stir>,
}

struct State {
    view: View,
    random: Random,
    lanes: Lanes,
    idle: usize,
    /// Every connection that is open, for the day when they must close.
    open: HashMap<u64, Arc<Link>>,
    next_id: u64,
}

/// From where to where, and to whom.
#[derive(Clone, Copy)]
pub(super) struct Key<'a> {
    pub(super) ends: Ends,
    pub(super) name: &'a str,
}

/// How a request may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// By HTTP/1 or HTTP/2; a new connection is for this request alone.
    Any,
    /// The same, and a new connection may turn out to be shared: others wait for it.
    Shareable,
    /// By HTTP/1 alone.
    Http1,
    /// On a new connection.
    Fresh,
}

/// What the pool has.
pub(super) enum CheckOut {
    Http1(Http1),
    Http2(Http2),
    /// Somebody is connecting already.
    Wait(Connecting),
    /// Connect, and let others wait for it.
    Lead(Connected),
    /// Connect.
    Connect,
}

/// One place under `max_connections`, given back when dropped.
pub(super) struct Permit {
    core: Arc<Core>,
    worker: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.core.connections.give(self.worker);
    }
}

impl Slot {
    pub(super) fn new(index: usize, core: Arc<Core>) -> Slot {
        Slot {
            index,
            core,
            state: Mutex::new(State {
                view: View::default(),
                random: Random::new(),
                lanes: Lanes::new(),
                idle: 0,
                open: HashMap::new(),
                next_id: 0,
            }),
            answers: Mutex::default(),
            retired: AtomicBool::new(false),
            sweeping: AtomicBool::new(false),
            stir: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Picks an endpoint from the current set; `None` where there is none.
    pub(super) fn pick(&self, avoid: &[EndpointAddr]) -> Option<Arc<Seat>> {
        let set = self.core.endpoints.current();
        let mut state = self.lock();
        let State { view, random, .. } = &mut *state;
        view.follow(&set, random);
        // One alone is picked whatever its record, and no clock is asked.
        let now = match view.seats.len() {
            ..=1 => 0,
            _ => self.core.clock.now(),
        };
        view.pick(self.core.spec.balance, avoid, now, random)
    }

    /// This worker's requests under way by endpoint.
    pub(super) fn active(&self) -> Vec<(EndpointAddr, usize)> {
        let state = self.lock();
        let seats = state.view.seats.iter();
        seats
            .map(|seat| (seat.endpoint.address, seat.active.load(Relaxed)))
            .collect()
    }

    /// A warm connection, or what to do instead.
    pub(super) fn check_out(&self, key: Key<'_>, want: Want) -> CheckOut {
        if want == Want::Fresh || self.retired.load(Relaxed) {
            return CheckOut::Connect;
        }
        // Closed ones are dropped after the lock: their end takes it too.
        let mut closed = Closed::default();
        let mut state = self.lock();
        let State { lanes, idle, .. } = &mut *state;
        if let Some(lane) = lanes.get_mut(&key.ends).and_then(|l| l.get_mut(key.name)) {
            if want != Want::Http1
                && let Some(http2) =
                    lane.take_shared(self.core.spec.pool.max_requests_per_connection)
            {
                return CheckOut::Http2(http2);
            }
            let before = lane.idle.len();
            let found = lane.take_idle(&mut closed);
            let gone = before - lane.idle.len();
            *idle -= gone;
            (0..gone).for_each(|_| self.core.stats.lower(Level::Idle));
            if let Some(http1) = found {
                return CheckOut::Http1(http1);
            }
            if want == Want::Shareable
                && let Some(connecting) =
                    lane.connecting.as_ref().filter(|c| c.has_changed().is_ok())
            {
                return CheckOut::Wait(connecting.clone());
            }
        }
        if want != Want::Shareable {
            return CheckOut::Connect;
        }
        let (lead, connecting) = watch::channel(None);
        let names = lanes.entry(key.ends).or_default();
        names.entry(key.name.into()).or_default().connecting = Some(connecting);
        CheckOut::Lead(lead)
    }

    /// Any live HTTP/2 connection, full or not: where no further one may be opened.
    pub(super) fn check_out_crowded(&self, key: Key<'_>) -> Option<Http2> {
        let mut state = self.lock();
        let lane = state.lanes.get_mut(&key.ends)?.get_mut(key.name)?;
        let mut shared = lane.shared.iter_mut();
        let http2 = shared.find_map(|http2| (!http2.is_closed()).then(|| http2.clone()))?;
        http2.load.enter();
        Some(http2)
    }

    /// The attempt that others waited for has ended.
    pub(super) fn connected(&self, key: Key<'_>) {
        self.change_lane(key, |lane| lane.connecting = None);
    }

    fn change_lane(&self, key: Key<'_>, change: impl FnOnce(&mut Lane)) {
        let mut state = self.lock();
        if let Some(names) = state.lanes.get_mut(&key.ends)
            && let Some(lane) = names.get_mut(key.name)
        {
            change(lane);
            if lane.is_empty() {
                names.remove(key.name);
                if names.is_empty() {
                    state.lanes.remove(&key.ends);
                }
            }
        }
    }

    /// A place for a new connection. Where none is left, an idle connection of ours or of another
    /// worker is closed for it.
    pub(super) fn permit(self: &Arc<Self>) -> Option<Permit> {
        let quota = &self.core.connections;
        let took = quota.take(self.index)
            || (self.evict() || self.core.slots().any(|slot| slot.evict()))
                && quota.take(self.index);
        took.then(|| Permit {
            core: Arc::clone(&self.core),
            worker: self.index,
        })
    }

    /// Closes the connection that has been idle longest.
    fn evict(&self) -> bool {
        let mut state = self.lock();
        let State { lanes, idle, .. } = &mut *state;
        if let Some(evicted) = lane::take_oldest(lanes) {
            *idle -= 1;
            self.core.stats.lower(Level::Idle);
            drop(state);
            drop(evicted);
            return true;
        }
        let unused = lane::take_unused(lanes);
        drop(state);
        unused.is_some()
    }

    /// Registers a connection that was opened.
    pub(super) fn opened(&self, link: impl FnOnce(u64, Arc<Stir>) -> Link) -> Arc<Link> {
        self.core.stats.raise(Level::Connections);
        let mut state = self.lock();
        let id = state.next_id;
        state.next_id += 1;
        let link = Arc::new(link(id, Arc::clone(&self.stir)));
        state.open.insert(id, Arc::clone(&link));
        link
    }

    /// Its socket is closed. Whoever dropped an HTTP/1 connection had taken it out before.
    pub(super) fn ended(&self, link: &Link) {
        self.core.stats.lower(Level::Connections);
        let mut gone = None;
        let mut state = self.lock();
        state.open.remove(&link.id);
        let (ends, name) = &link.filed;
        if let Some(names) = state.lanes.get_mut(ends)
            && let Some(lane) = names.get_mut(name)
        {
            let mut shared = lane.shared.iter();
            if let Some(at) = shared.position(|http2| http2.link.id == link.id) {
                gone = Some(lane.shared.remove(at));
            }
            if lane.is_empty() {
                names.remove(name);
                if names.is_empty() {
                    state.lanes.remove(ends);
                }
            }
        }
        drop(state);
        drop(gone);
    }

    /// An answer has ended: its connection is pooled as soon as its request has been sent whole.
    pub(super) fn give_back(self: &Arc<Self>, mut spent: Spent) {
        if spent.is_whole() {
            if let Some(http1) = spent.into_connection() {
                self.check_in(http1);
            }
        } else if let Ok(runtime) = Handle::try_current() {
            let slot = Arc::clone(self);
            runtime.spawn(async move {
                spent.outlive().await;
                if let Some(http1) = spent.into_connection() {
                    slot.check_in(http1);
                }
            });
        }
    }

    /// Pools an idle connection, unless it has served enough or there are enough.
    pub(super) fn check_in(self: &Arc<Self>, mut http1: Http1) {
        let limits = &self.core.spec.pool;
        let most = limits.max_requests_per_connection;
        let worn = most > 0 && http1.served() >= most;
        if worn || limits.max_idle == 0 {
            return;
        }
        let mut surplus = None;
        let mut state = self.lock();
        // Both under the lock, so that nothing is pooled behind the back of `retire`, and nothing
        // that happens to it is looked for in vain.
        if self.retired.load(Relaxed) || !http1.is_quiet() {
            drop(state);
            return;
        }
        let State { lanes, idle, .. } = &mut *state;
        let (ends, name) = &http1.link().filed;
        if *idle >= limits.max_idle && ends.from.is_some() {
            // Clients come and go: those who are here do not wait for those who were.
            surplus = lane::take_oldest(lanes);
        }
        let lane = lane::of(lanes, ends, name);
        if *idle >= limits.max_idle {
            // The one that was idle longest makes room; where this lane has none, nobody does.
            surplus = surplus.or_else(|| lane.idle.pop_front());
            if surplus.is_none() {
                drop(state);
                return;
            }
        } else {
            *idle += 1;
            self.core.stats.raise(Level::Idle);
        }
        let since = Instant::now();
        lane.idle.push_back(Idle { http1, since });
        drop(state);
        drop(surplus);
        self.sweep();
    }

    /// Pools a connection that many requests share.
    pub(super) fn share(self: &Arc<Self>, mut http2: Http2) {
        let mut unused = None;
        let mut state = self.lock();
        if !self.retired.load(Relaxed) && !http2.is_closed() {
            let (ends, name) = &http2.link.filed;
            if ends.from.is_some() && state.lanes.len() >= self.core.spec.pool.max_idle {
                unused = lane::take_unused(&mut state.lanes);
            }
            let names = state.lanes.entry(*ends).or_default();
            names
                .entry(Arc::clone(name))
                .or_default()
                .shared
                .push(http2);
        }
        drop(state);
        drop(unused);
        self.sweep();
    }

    /// Sees to it that idle connections are closed in time. Costs nothing while it is seen to, and
    /// while nothing is idle.
    pub(super) fn sweep(self: &Arc<Self>) {
        if self.sweeping.swap(true, Relaxed) {
            return;
        }
        match Handle::try_current() {
            Ok(runtime) => {
                let stir = Arc::clone(&self.stir);
                drop(runtime.spawn(sweep(Arc::downgrade(self), stir)));
            }
            Err(_) => self.sweeping.store(false, Relaxed),
        }
    }

    /// Closes what has been idle too long, and says when to look again.
    fn expire(&self) -> Option<Duration> {
        let limit = self.core.spec.pool.idle_timeout;
        let now = self.core.clock.now();
        let mut closed = Closed::default();
        let mut next: Option<Duration> = None;
        let mut state = self.lock();
        let State { lanes, idle, .. } = &mut *state;
        for lane in lanes.values_mut().flat_map(BTreeMap::values_mut) {
            let before = lane.idle.len();
            let left = lane.expire(limit, now, &mut closed);
            next = next.into_iter().chain(left).min();
            *idle -= before - lane.idle.len();
            (lane.idle.len()..before).for_each(|_| self.core.stats.lower(Level::Idle));
        }
        lanes.retain(|_, names| {
            names.retain(|_, lane| !lane.is_empty());
            !names.is_empty()
        });
        if next.is_none() {
            self.sweeping.store(false, Relaxed);
        }
        drop(state);
        next
    }

    /// Looks at the idle connections on which something happened, and drops those that ended.
    fn look(&self, stirred: &[Arc<Link>]) {
        let mut closed = Closed::default();
        let mut state = self.lock();
        let State { lanes, idle, .. } = &mut *state;
        for link in stirred {
            let (ends, name) = &link.filed;
            if let Some(names) = lanes.get_mut(ends)
                && let Some(lane) = names.get_mut(name)
            {
                let before = lane.idle.len();
                lane.take_dead(link.id, &mut closed);
                let gone = before - lane.idle.len();
                *idle -= gone;
                (0..gone).for_each(|_| self.core.stats.lower(Level::Idle));
                if lane.is_empty() {
                    names.remove(name);
                    if names.is_empty() {
                        lanes.remove(ends);
                    }
                }
            }
        }
        drop(state);
        drop(closed);
    }

    /// Nothing is pooled any more, and what is idle is closed.
    pub(super) fn retire(&self) {
        let mut state = self.lock();
        self.retired.store(true, Relaxed);
        let lanes = std::mem::take(&mut state.lanes);
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        (0..idle).for_each(|_| self.core.stats.lower(Level::Idle));
        drop(lanes);
    }

    /// Closes every connection, whatever is under way on it.
    pub(super) fn close_all(&self) {
        let open: Vec<_> = self.lock().open.values().cloned().collect();
        for link in open {
            link.close();
        }
    }
}

async fn sweep(slot: Weak<Slot>, stir: Arc<Stir>) {
    loop {
        let Some(left) = slot.upgrade().and_then(|slot| slot.expire()) else {
            return;
        };
        // A little late, so that connections which fell idle together are closed together.
        let late = tokio::time::sleep(left + left / 16 + Duration::from_millis(1));
        let mut late = pin!(late);
        loop {
            tokio::select! {
                () = &mut late => break,
                () = stir.told.notified() => {
                    let stirred = stir.take();
                    match slot.upgrade() {
                        Some(slot) => slot.look(&stirred),
                        None => return,
                    }
                }
            }
        }
    }
}
