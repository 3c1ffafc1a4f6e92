//! Connections that this process opened lately: one that comes back to it is known (ISTIO.md O5, C8).
//!
//! Owns: [`Echo`], the ends of the latest connections.
//! Never: keeps a connection, takes a lock, or asks the kernel.
//! Called by: `dial` (through `own`), `proxy::stream` (through `Upstream`).
//!
//! Why: rules let go what a certain user sends. Under another user every connection of ours is
//! captured, and each that is opened for it again, until no descriptor is left. Why both ends: the
//! application beside us has our address too, and may have our port where it calls another server.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use crate::model::DialSource;

/// Connections that are remembered, each until a later one takes its place: 8 KiB.
const PLACES: usize = 1024;
/// Milliseconds after which one is forgotten. What is captured comes back at once, and the same
/// port may belong to another process soon.
const MEMORY: u64 = 2000;
/// The lower bits of a place hold the time; the upper ones tell connections apart.
const TIME: u64 = 0xFF_FFFF;

/// The latest connections, in a table that all workers share and nobody waits for.
#[derive(Debug)]
pub(super) struct Echo {
    places: Box<[AtomicU64]>,
    keys: RandomState,
    began: Instant,
}

impl Default for Echo {
    fn default() -> Self {
        Echo {
            places: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
            keys: RandomState::new(),
            began: Instant::now(),
        }
    }
}

impl Echo {
    /// A connection of ours was opened.
    pub(super) fn opened(&self, from: SocketAddr, to: SocketAddr, source: DialSource) {
        self.opened_at(self.now(), (from, to, source));
    }

    /// True of a connection that was opened so, here, a moment ago.
    pub(super) fn knows(&self, from: SocketAddr, to: SocketAddr, source: DialSource) -> bool {
        self.knows_at(self.now(), (from, to, source))
    }

    /// In milliseconds; it begins late, so that an empty place is never a young one.
    fn now(&self) -> u64 {
        let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        ms.saturating_add(2 * MEMORY)
    }

    fn opened_at(&self, now: u64, ends: (SocketAddr, SocketAddr, DialSource)) {
        let hash = self.hash(ends);
        if let Some(place) = self.place(hash) {
            place.store((hash & !TIME) | (now & TIME), Relaxed);
        }
    }

    fn knows_at(&self, now: u64, ends: (SocketAddr, SocketAddr, DialSource)) -> bool {
        let hash = self.hash(ends);
        let found = self.place(hash).map_or(0, |place| place.load(Relaxed));
        found & !TIME == hash & !TIME && now.wrapping_sub(found) & TIME <= MEMORY
    }

    fn place(&self, hash: u64) -> Option<&AtomicU64> {
        let nth = usize::try_from(hash & TIME).unwrap_or(0) % PLACES;
        self.places.get(nth)
    }

    fn hash(&self, (from, to, source): (SocketAddr, SocketAddr, DialSource)) -> u64 {
        let end = |end: SocketAddr| (end.ip().to_canonical(), end.port());
        self.keys.hash_one((end(from), end(to), source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(from: &str, to: &str) -> (SocketAddr, SocketAddr, DialSource) {
        let parsed = |text: &str| text.parse().unwrap();
        (parsed(from), parsed(to), DialSource::Any)
    }

    #[test]
    fn c6_a_connection_of_ours_is_known_for_a_moment_in_either_spelling() {
        let echo = Echo::default();
        let ours = ends("10.0.0.5:40000", "10.0.0.9:443");
        let now = echo.now();
        assert!(!echo.knows_at(now, ours));
        echo.opened_at(now, ours);
        assert!(echo.knows_at(now, ours) && echo.knows_at(now + MEMORY, ours));
        assert!(echo.knows_at(now, ends("[::ffff:10.0.0.5]:40000", "10.0.0.9:443")));
        assert!(!echo.knows_at(now + MEMORY + 1, ours));
    }

    #[test]
    fn c6_the_applications_connection_from_our_port_to_another_server_is_not_ours() {
        let echo = Echo::default();
        let now = echo.now();
        echo.opened_at(now, ends("10.0.0.5:40000", "10.0.0.9:443"));
        for (from, to) in [
            ("10.0.0.5:40000", "10.0.0.9:80"),
            ("10.0.0.5:40000", "10.0.0.8:443"),
            ("10.0.0.5:40001", "10.0.0.9:443"),
        ] {
            assert!(!echo.knows_at(now, ends(from, to)), "{from} {to}");
        }
        let (from, to, _) = ends("10.0.0.5:40000", "10.0.0.9:443");
        assert!(!echo.knows_at(now, (from, to, DialSource::Inbound)));
    }

    #[test]
    fn c6_of_many_connections_the_latest_are_known() {
        let echo = Echo::default();
        let now = echo.now();
        let nth = |n: u16| ends(&format!("10.0.0.5:{n}"), "10.0.0.9:443");
        (1..=60_000).for_each(|n| echo.opened_at(now, nth(n)));
        assert!(echo.knows_at(now, nth(60_000)));
        let known = (1..=60_000).filter(|n| echo.knows_at(now, nth(*n))).count();
        assert!(known <= PLACES, "{known}");
    }
}
