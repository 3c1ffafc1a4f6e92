//! A connection for one request at a time.
//!
//! Owns: [`Http1`], and what is seen of it while it is idle.
//! Never: moves a byte of a request (that is `exchange`).
//! Called by: `connect` (makes it), `pool` and `lane` (keep it), `connection` (asks on it).
//!
//! Why it is watched by a waker and not by a task: an idle connection is then one entry of a list.
//! Who wakes is its link, which tells the slot's sweeper; the sweeper looks what it was.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::task::unconstrained;

use crate::upstream::transport::{Chunks, Transport};
use crate::upstream::wire::{Link, Wire};

/// A connection for one request at a time.
pub(in crate::upstream) struct Http1<S: Chunks = Transport>(Box<Inner<S>>);

struct Inner<S: Chunks> {
    wire: Wire<S>,
    /// Its link, as a waker.
    watch: Waker,
    served: u64,
    /// The server answered in HTTP/1.0 and kept the connection nevertheless.
    persist: bool,
    /// An exchange is under way: its end is the only proper end.
    busy: bool,
}

impl<S: Chunks> Http1<S> {
    /// A connection that has served nobody yet.
    pub(in crate::upstream) fn new(wire: Wire<S>) -> Http1<S> {
        Http1(Box::new(Inner {
            watch: Waker::from(Arc::clone(wire.link())),
            wire,
            served: 0,
            persist: false,
            busy: false,
        }))
    }

    pub(in crate::upstream) fn link(&self) -> &Arc<Link> {
        self.0.wire.link()
    }

    pub(in crate::upstream) fn wire(&mut self) -> &mut Wire<S> {
        &mut self.0.wire
    }

    /// Requests sent on it.
    pub(in crate::upstream) fn served(&self) -> u64 {
        self.0.served
    }

    /// A request is about to be sent.
    pub(in crate::upstream) fn serve(&mut self) {
        self.0.served += 1;
    }

    pub(super) fn persists(&self) -> bool {
        self.0.persist
    }

    pub(super) fn begin(&mut self) {
        self.0.busy = true;
    }

    /// The answer has ended, and the request has been sent whole.
    pub(super) fn end(&mut self) {
        self.0.busy = false;
    }

    /// See [`super::request::write`].
    pub(super) fn set_persist(&mut self, persist: bool) {
        self.0.persist = persist;
    }

    /// Looks whether the server has closed it or said anything, neither of which it may while it is
    /// idle. From then on its link is told where something happens.
    pub(in crate::upstream) fn is_quiet(&mut self) -> bool {
        self.looks_quiet(Wire::poll_idle)
    }

    /// The same of a connection that nobody has used, just before its first request is written.
    pub(in crate::upstream) fn is_quiet_at_first(&mut self) -> bool {
        self.looks_quiet(Wire::poll_look)
    }

    fn looks_quiet(
        &mut self,
        look: impl Fn(&mut Wire<S>, &mut Context<'_>) -> Poll<io::Result<Bytes>>,
    ) -> bool {
        let Inner { wire, watch, .. } = &mut *self.0;
        // A budget that is used up would look like silence.
        let looked = pin!(unconstrained(poll_fn(|cx| look(wire, cx))));
        looked.poll(&mut Context::from_waker(watch)).is_pending()
    }

    /// The same where its link was told of something; else nothing has happened.
    pub(in crate::upstream) fn is_still_quiet(&mut self) -> bool {
        !self.link().is_stirred() || self.is_quiet()
    }
}

impl<S: Chunks> Drop for Http1<S> {
    fn drop(&mut self) {
        if !self.0.busy {
            // A proper end in TLS, as far as it can be had without waiting.
            let mut cx = Context::from_waker(Waker::noop());
            let _ = self.0.wire.poll_farewell(&mut cx);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_holds_no_buffer() {
        assert!(size_of::<Http1>() == size_of::<usize>());
        let all = size_of::<Inner<Transport>>();
        assert!(
            all <= 160,
            "{all} bytes, and none of them for what is read or written"
        );
    }
}
