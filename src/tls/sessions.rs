//! TLS sessions of one upstream and one identity, to be resumed.
//!
//! Owns: tickets by server name, bounded, and until when they may be used.
//! Never: outlives the `ClientTls` that it belongs to (ISTIO.md R16).
//! Called by: rustls (through `ClientSessionStore`), `tls::verify` (says until when).
//!
//! Why not rustls' own store: on resumption no certificate is checked again, so there a session
//! would live on past the end of the certificate under which it was made.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

/// Server names remembered; the one that came first makes room for a new one.
const MOST_SERVERS: usize = 256;
/// Tickets kept for each server name; a TLS 1.3 ticket is used once (RFC 8446 appendix C.4).
const MOST_TICKETS: usize = 8;

/// The sessions of one [`ClientTls`](super::ClientTls).
#[derive(Debug, Default)]
pub(super) struct Sessions {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    servers: HashMap<ServerName<'static>, Saved>,
    /// Names in the order in which they came.
    order: VecDeque<ServerName<'static>>,
}

#[derive(Debug, Default)]
struct Saved {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    tls13: VecDeque<Tls13ClientSessionValue>,
    /// End of the earliest certificate that stands behind these sessions.
    until: Option<i64>,
}

impl Sessions {
    /// A certificate for `name` was accepted; its sessions may be used until `not_after`.
    pub(super) fn accepted(&self, name: &ServerName<'_>, not_after: i64) {
        self.edit(&name.to_owned(), |saved| {
            saved.until = match saved.until {
                // Several endpoints may show several certificates under one name.
                Some(until) if until >= now() => Some(until.min(not_after)),
                _ => Some(not_after),
            };
        });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is whole by itself, so the state is good even after a panic elsewhere.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn edit(&self, name: &ServerName<'static>, change: impl FnOnce(&mut Saved)) {
        let mut inner = self.lock();
        if let Some(saved) = inner.servers.get_mut(name) {
            return change(saved);
        }
        if inner.servers.len() >= MOST_SERVERS
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.servers.remove(&oldest);
        }
        inner.order.push_back(name.clone());
        change(inner.servers.entry(name.clone()).or_default());
    }

    /// What is saved for `name`, emptied first where its certificate has ended.
    fn usable<T>(
        &self,
        name: &ServerName<'_>,
        take: impl FnOnce(&mut Saved) -> Option<T>,
    ) -> Option<T> {
        let mut inner = self.lock();
        let saved = inner.servers.get_mut(&name.to_owned())?;
        if saved.until.is_some_and(|until| until < now()) {
            saved.tls12 = None;
            saved.tls13.clear();
        }
        take(saved)
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.edit(&name, |saved| saved.group = Some(group));
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.usable(name, |saved| saved.group)
    }

    fn set_tls12_session(&self, name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.edit(&name, |saved| saved.tls12 = Some(value));
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.usable(name, |saved| saved.tls12.clone())
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.edit(name, |saved| saved.tls12 = None);
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.edit(&name, |saved| {
            if saved.tls13.len() >= MOST_TICKETS {
                saved.tls13.pop_front();
            }
            saved.tls13.push_back(value);
        });
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.usable(name, |saved| saved.tls13.pop_back())
    }
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = i64::try_from(since.unwrap_or_default().as_secs()).unwrap_or(i64::MAX);
    #[cfg(test)]
    let now = now + tests::LATER.get();
    now
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    thread_local! {
        /// Seconds by which this thread's clock is ahead.
        pub(in super::super) static LATER: std::cell::Cell<i64> = const { std::cell::Cell::new(0) };
    }

    fn name(n: usize) -> ServerName<'static> {
        ServerName::try_from(format!("host-{n}.example")).unwrap()
    }

    #[test]
    fn sessions_are_bounded_and_the_oldest_name_goes_first() {
        let sessions = Sessions::default();
        for n in 0..=MOST_SERVERS {
            sessions.set_kx_hint(name(n), NamedGroup::X25519);
        }
        assert_eq!(sessions.kx_hint(&name(0)), None);
        assert_eq!(sessions.kx_hint(&name(1)), Some(NamedGroup::X25519));
        assert_eq!(sessions.lock().servers.len(), MOST_SERVERS);
        assert_eq!(sessions.lock().order.len(), MOST_SERVERS);
    }

    #[test]
    fn the_earliest_end_of_a_live_certificate_counts() {
        let sessions = Sessions::default();
        let until = |n| sessions.lock().servers[&name(n)].until;
        sessions.accepted(&name(1), now() + 100);
        sessions.accepted(&name(1), now() + 200);
        assert!(until(1) <= Some(now() + 100));
        sessions.accepted(&name(2), now() - 1);
        sessions.accepted(&name(2), now() + 200);
        assert!(until(2) > Some(now() + 100));
    }
}
